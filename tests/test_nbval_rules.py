"""The rules by which notebooks are compared: what must fail, and what must not."""

import os
import re
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import nbformat
import nbval.plugin
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nbclient import NotebookClient

from advlib import data
from advlib.metrics import Proportion
from tests import nbval_rules

shares = st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(shares, st.integers(0, 5000))
def test_a_claim_agrees_exactly_while_each_lies_in_the_others_interval(
    share: tuple[int, int], other: int
) -> None:
    old, new = Proportion(*share), Proportion(min(other, share[1]), share[1])
    settled = nbval_rules.settle(f"success: {new}", f"success: {old}")
    (v, low, high), (w, bottom, top) = (
        [float(f"{share:.2%}"[:-1]) for share in (p.value, *p.interval)] for p in (old, new)
    )
    inside = low <= w <= high and bottom <= v <= top
    alike = high - low <= 2 * (top - bottom) and top - bottom <= 2 * (high - low)
    assert (settled == f"success: {old}") == ((inside and alike) or old == new)


@pytest.mark.parametrize(
    ("found", "stored"),
    [
        ("97.00% [96.00%, 98.00%] of 500", "98.00% [97.50%, 98.50%] of 500"),  # stored has moved on
        ("98.00% [97.00%, 98.50%] of 500", "98.10% [97.00%, 98.50%] of 501"),  # another denominator
        ("mean 0.5", "mean 0.6"),  # no interval: every digit counts
        ("50 [40, 60] px", "50% [40%, 60%] px"),  # a factor of 100
        ("98.91% [0.00%, 100.00%] of 500", "98.91% [98.69%, 99.10%] of 500"),  # another interval
        ("1.0% [0.5%, 2.0%]", "1.0% [0.5%, 2.0%] and 3.0% [2.0%, 4.0%]"),
    ],
)
def test_what_has_moved_stays_different(found: str, stored: str) -> None:
    assert nbval_rules.settle(found, stored) != stored


def test_numbers_without_per_cent_and_several_in_a_line() -> None:
    found = "pixels 25.9 [25.1, 26.7], cost 1,203 [1,100, 1,310], change -0.2 [-0.3, -0.1]"
    stored = "pixels 26.0 [25.2, 26.8], cost 1,199 [1,096, 1,306], change -0.2 [-0.3, -0.1]"
    assert nbval_rules.settle(found, stored) == stored


TABLE = "import pandas as pd; pd.DataFrame({'success': ['%s', '100.00%% [99.00%%, 100.00%%]']})"
FIGURE = "import matplotlib.pyplot as plt; plt.plot([0, 1]); plt.show()"
DATA = "MNIST: 60,000 training and 10,000 test digits of 28 × 28 pixels"
OTHER = "UCI digits: 1,297 training and 500 test digits of 28 × 28 pixels"
SHARE = "99.06% [98.85%, 99.23%] of 10,000"

# Source that is executed, source whose output is stored, and whether nbval may accept it.
CASES = {
    "same": (f"print('{SHARE}')", f"print('{SHARE}')", True),
    "last_digits": ("print('98.97% [98.75%, 99.15%] of 10,000')", f"print('{SHARE}')", True),
    "moved": ("print('98.60% [98.35%, 98.81%] of 10,000')", f"print('{SHARE}')", False),
    "words": ("print('wrong 99.06% [98.85%, 99.23%] of 10,000')", f"print('{SHARE}')", False),
    "table_last_digits": (TABLE % "9.97% [9.80%, 10.10%]", TABLE % "10.01% [9.83%, 10.20%]", True),
    "table_moved": (TABLE % "9.97% [9.80%, 10.10%]", TABLE % "12.01% [11.83%, 12.20%]", False),
    "figure_drawn_otherwise": (FIGURE.replace("1]", "2]"), FIGURE, True),
    "figure_missing": ("pass", FIGURE, False),
    "stderr": (f"import sys; print('{SHARE}'); print('!', file=sys.stderr)", f"print('{SHARE}')", False),
    "error": ("1 / 0", "1 / 1", False),
    "data": (f"print('{DATA}')", f"print('{DATA}')", True),
    "other_data": (f"print('{OTHER}')", f"print('{DATA}')", False),
}


@pytest.fixture(scope="module")
def chapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A notebook in which each case is a cell, whose stored output comes from another source."""
    new = nbformat.v4
    notebook = new.new_notebook(cells=[new.new_code_cell(stored) for _, stored, _ in CASES.values()])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    NotebookClient(notebook).execute()
    for cell, (source, _, _) in zip(notebook.cells, CASES.values(), strict=True):
        cell.source = source
        cell.metadata["tags"] = ["nbval-check-output"]
    path = tmp_path_factory.mktemp("rules") / "cases.ipynb"
    nbformat.write(notebook, path)
    return path


def outcomes(root: Path, notebook: Path, **environment: str) -> tuple[dict[str, str], str]:
    """What nbval says, with the rules, of each case; and its whole report."""
    options = ["-p", "no:cacheprovider", "-p", "tests.nbval_rules", "--nbval-lax", "--nbval-current-env"]
    options += ["-rA", f"--rootdir={root}", f"--config-file={root / 'pyproject.toml'}"]
    report = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(notebook.parent)],
        cwd=root,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    found = {
        list(CASES)[int(number)]: outcome
        for outcome, number in re.findall(r"^(\w+) \S*cases\.ipynb::Cell (\d+)", report, re.MULTILINE)
    }
    return found, report


def test_nbval_fails_on_what_moved_and_on_nothing_else(
    root: Path, chapter: Path, mnist: data.Dataset
) -> None:
    found, report = outcomes(root, chapter, ADVLIB_DATASET="mnist")
    assert found == {
        name: "PASSED" if accepted else "FAILED" for name, (_, _, accepted) in CASES.items()
    }, report
    assert "Notebooks ran on MNIST; their checked outputs were compared." in report


def test_on_the_embedded_digits_nothing_is_compared_and_that_is_said(root: Path, chapter: Path) -> None:
    found, report = outcomes(root, chapter, ADVLIB_DATASET="digits")
    # An error is an error on any data, and so is a chapter that runs on other data than it should.
    assert {name for name, outcome in found.items() if outcome == "FAILED"} == {"error", "data"}
    assert "NOT COMPARED: run on the embedded UCI digits" in report


def test_without_mnist_the_embedded_digits_are_chosen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def unavailable() -> None:
        raise data.DataUnavailableError("every source failed")

    monkeypatch.setenv("ADVLIB_DATASET", "mnist")
    monkeypatch.setattr(data, "load", unavailable)
    monkeypatch.setattr(nbval.plugin.IPyNbCell, "compare_outputs", None)
    monkeypatch.setattr(nbval_rules, "CHOSEN", {})
    monkeypatch.setattr(nbval_rules, "MISSING", tmp_path / "_build" / "without-mnist")
    config: Any = types.SimpleNamespace(stash={})
    nbval_rules.pytest_configure(config)
    assert nbval_rules.CHOSEN == {"ADVLIB_DATASET": "digits"}
    assert nbval_rules.on_digits()
    assert os.environ["ADVLIB_DATASET"] == "mnist"  # that other tests in this process are not misled
    assert config.stash[nbval_rules.REASON] == "every source failed"
    assert nbval_rules.MISSING.exists()
