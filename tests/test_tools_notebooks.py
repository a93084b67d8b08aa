"""The tool that executes notebooks: what it refuses before it does, and text taken over without it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

from advlib import data
from tests.test_notebooks import in_pair
from tools import notebooks

EXECUTE = notebooks.execute

CHAPTER = """---
jupytext:
  cell_metadata_filter: tags,mystnb
  formats: ipynb,md:myst
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

# A chapter

Twice it is 0<!-- = 2 * number -->, and in **0.0%**<!-- = share.value:.1% --> of the cases more.

```{code-cell} ipython3
---
mystnb:
  figure:
    caption: A number.
---
import numpy as np

from advlib import metrics

number = 6 * 7
number
```

And then:

```{code-cell} ipython3
:tags: [nbval-check-output]

print(number + 1)
share = metrics.proportion(np.arange(20) < 9)
```

```{code-cell} ipython3
:tags: [hide-cell, solution]

# @title Solution to exercise 1
number
```
"""
PAGE = "See **0.0%**<!-- 03 = share.value:.1% --> of the cases.\n"


@pytest.fixture(scope="module")
def executed(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small book of one chapter, executed."""
    book = tmp_path_factory.mktemp("book")
    folder = book / "notebooks"
    folder.mkdir()
    (book / "book").mkdir()
    (book / "book" / "index.md").write_text(PAGE, encoding="utf-8")
    shutil.copy(root / "pyproject.toml", book)
    shutil.copy(root / "notebooks" / "ruff.toml", folder)
    (folder / "03_tiny.md").write_text(CHAPTER, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(notebooks, "FOLDER", folder)
        assert notebooks.execute(folder / "03_tiny.md")
    return book


@pytest.fixture
def source(executed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The chapter of a copy of that book, in which from now on nothing may be executed."""
    folder = shutil.copytree(executed, tmp_path / "book") / "notebooks"
    monkeypatch.setattr(notebooks, "FOLDER", folder)
    monkeypatch.delenv("ADVLIB_DATASET", raising=False)
    monkeypatch.setattr(notebooks, "execute", lambda source: pytest.fail(f"{source} was executed"))
    return folder / "03_tiny.md"


def edit(source: Path, *changes: tuple[str, str]) -> None:
    text = source.read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    source.write_text(text, encoding="utf-8")


def stored(source: Path) -> Any:
    return nbformat.read(source.with_suffix(".ipynb"), as_version=4)


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize(("name", "fault"), [("", "NAME is missing"), ("3", "begins with '3'")])
def test_a_name_that_is_none_is_answered_with_those_there_are(
    source: Path, name: str, fault: str, text: bool
) -> None:
    with pytest.raises(SystemExit, match=rf"(?s){fault}\. .* make notebooks .*\n  03_tiny$"):
        notebooks.main(name, text=text)


def test_nothing_precedes_a_usage_error(root: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TF_")}
    result = subprocess.run(
        [sys.executable, root / "tools" / "notebooks.py", "no such name"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert not result.stdout
    assert result.stderr.startswith("no notebook's name begins with 'no such name'")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("number = 6*7", "+number = 6 * 7"),
        ("import os\n\nnumber = 6 * 7", "03_tiny.md:cell 2:5:8: F401 [*] `os` imported but unused"),
        (f"number = 6 * 7  # {'o' * 68}", "03_tiny.md:cell 2:5:86: E501 Line too long (86 > 85)"),
    ],
)
def test_code_that_ruff_refuses_is_not_executed(source: Path, code: str, message: str) -> None:
    edit(source, ("number = 6 * 7", code))
    with pytest.raises(SystemExit) as refusal:
        notebooks.main("03")
    assert message in str(refusal.value)
    assert "ipynb" not in str(refusal.value)
    assert "cell 4" not in str(refusal.value)  # where there is nothing to say


def test_numbers_are_written_in_both_files_and_on_pages(source: Path) -> None:
    text = "Twice it is 84<!-- = 2 * number -->, and in **45.0%**<!-- = share.value:.1% --> of"
    assert text in source.read_text(encoding="utf-8")
    assert text in stored(source).cells[0].source
    page = source.parents[1] / "book" / "index.md"
    assert page.read_text(encoding="utf-8") == PAGE.replace("0.0%", "45.0%")
    cells = [cell for cell in stored(source).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == [1, 2, 3]  # what asks leaves no trace
    assert "_evaluate" not in source.with_suffix(".ipynb").read_text(encoding="utf-8")


def test_a_solution_is_folded_away_everywhere(source: Path) -> None:
    solution = stored(source).cells[-1]
    assert solution.metadata.jupyter == {"source_hidden": True, "outputs_hidden": True}
    assert solution.metadata.cellView == "form"
    assert solution.metadata.mystnb.code_prompt_show == "Solution to exercise 1"
    # And the `.md` says nothing of it but the tag.
    assert "cellView" not in source.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("2 * number", "2 * numbre", "03_tiny.md:16: 2 * numbre could not be evaluated (NameError"),
        ("share.value:.1%", "share", "index.md:1: chapter 03 shows no number = share.value:.1%"),
    ],
)
def test_an_expression_that_fails_is_named_and_nothing_is_lost(
    source: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, message: str
) -> None:
    edit(source, (old, new))
    before = stored(source), source.read_text(encoding="utf-8")
    monkeypatch.setattr(notebooks, "execute", EXECUTE)
    monkeypatch.setenv("ADVLIB_DATASET", "mnist")
    monkeypatch.setattr(data, "load", lambda name: None)
    with pytest.raises(SystemExit) as refusal:
        notebooks.main("03")
    assert message in str(refusal.value)
    assert (stored(source), source.read_text(encoding="utf-8")) == before


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("print(number + 1)\n", "print(number + 1)\n```\n\n```{code-cell} ipython3\nnumber +", "F821"),
        ("number\n```\n\nAnd", "number\n\nAnd", "33: a cell begins in another, which is not closed"),
        ("number\n```\n", "number\n", "41: ``` is not closed"),
        ("And then:", "And <!-- then:", "32: a comment that is not closed in its line"),
        ("And then:", "<details>\n\nAnd then:", "32: <details> is not closed"),
        ("And then:", "And then:\n\n</details>", "34: </details> closes nothing"),
        ("And then:", "$$\nx", "32: $$ is not closed"),
        ("84<!-- = 2", "84 <!-- = 2", "16: <!-- = 2 * number --> must stand right behind a number"),
        ("2 * number", "2 *", "16: 2 * is no expression"),
        ("---\njupytext:", "jupytext:", "1: the header is missing, or not closed"),
        ("  name: python3\n---\n", "  name: python3\n", "1: the header is missing, or not closed"),
        ("    caption: A number.", "    caption: A number: [", "03_tiny.md: "),
        ("caption: A number.", "caption: A 1<!-- = number -->.", "not in code or captions"),
        ("# @title Solution to exercise 1\n", "", "a solution begins with the line # @title"),
    ],
)
@pytest.mark.parametrize("text", [False, True])
def test_a_half_written_chapter_is_refused_before_anything_is_executed(
    source: Path, text: bool, old: str, new: str, message: str
) -> None:
    if "F821" in message:
        message, new = ("code changed", new) if text else ("invalid-syntax", new)
    content = source.read_text(encoding="utf-8")
    place = content.rindex(old)
    source.write_text(content[:place] + new + content[place + len(old) :], encoding="utf-8")
    before = stored(source)
    with pytest.raises(SystemExit) as refusal:
        notebooks.main("03", text=text)
    assert message in str(refusal.value)
    assert "03_tiny.md" in str(refusal.value)
    assert stored(source) == before


def broken(source: Path, name: str, *changes: tuple[str, str]) -> None:
    """A copy of the chapter in which something was changed in both files."""
    for end in (".md", ".ipynb"):
        text = source.with_suffix(end).read_text(encoding="utf-8")
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        source.with_name(f"{name}{end}").write_text(text, encoding="utf-8")


def test_numbers_that_moved_fail_and_nothing_else_does(source: Path, root: Path) -> None:
    twice = "84<!-- = 2 * number -->"
    more = "85<!-- = 2 * number -->, 50.0%<!-- = share.value:.1% -->, 95.0%<!-- = share.value:.1% -->"
    broken(source, "04_edited", (twice, f"{twice}, {more}"))
    broken(source, "05_renamed", (twice, "84<!-- = 2 * numbers -->"))
    for end in (".md", ".ipynb"):
        source.with_suffix(end).unlink()
    options = ["-p", "no:cacheprovider", "-p", "tests.nbval_rules", "--nbval-lax", "--nbval-current-env"]
    options += ["-rA", f"--rootdir={root}", f"--config-file={root / 'pyproject.toml'}"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(source.parent)],
        cwd=root,
        env=os.environ | {"ADVLIB_DATASET": "mnist"},
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.findall(r"^(\w+) \S*(\d\d)_\w+\.ipynb::numbers", done.stdout, re.MULTILINE)
    expected = {"04": "FAILED", "05": "FAILED"}
    assert {number: outcome for outcome, number in found} == expected
    for message in (
        "04_edited.md:16: 85 is written, 84 was computed (2 * number)",
        "05_renamed.md:16: 2 * numbers could not be evaluated (NameError: name 'numbers' is not",
        "04_edited.md:16: 95.0% is written, 45.0% was computed (share.value)",
        "`make notebook NAME=04` writes numbers anew.",
    ):
        assert message in done.stdout
    for kept in ("84", "45.0%", "50.0%"):  # right, or within the interval of the share
        assert f"04_edited.md:16: {kept} is" not in done.stdout


def test_text_is_taken_over_and_outputs_stay(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = stored(source)
    notebooks.main("03", text=True)
    assert stored(source) == before
    edit(
        source,
        ("# A chapter", "# The chapter\n\n+++\n\nOne more cell."),
        ("A number.", "Forty-two."),
        (":tags: [nbval-check-output]\n", ""),
    )
    notebooks.main("03", text=True)
    after = stored(source)
    assert in_pair(source) == in_pair(source.with_suffix(".ipynb"))
    assert after.cells[2].metadata.mystnb.figure.caption == "Forty-two."
    assert "tags" not in after.cells[-2].metadata
    code, code_before = (
        [cell for cell in each.cells if cell.cell_type == "code"] for each in (after, before)
    )
    for cell, cell_before in zip(code, code_before, strict=True):
        assert cell.outputs
        for field in ("id", "source", "outputs", "execution_count"):
            assert cell[field] == cell_before[field]
    assert after.metadata == before.metadata
    assert capsys.readouterr().out == "03_tiny: unchanged\n03_tiny: changed\n"


@pytest.mark.parametrize(
    "changes",
    [
        [("6 * 7", "6 * 8")],
        [("6 * 7", "6  *  7")],
        [("And then:", "```{code-cell} ipython3\nnumber\n```")],
        [("print(number + 1)", "number"), ("number = 6 * 7\nnumber", "print(number + 1)")],
    ],
)
def test_text_is_refused_where_code_changed(source: Path, changes: list[tuple[str, str]]) -> None:
    before = stored(source)
    edit(source, *changes, ("# A chapter", "# The chapter"))
    with pytest.raises(SystemExit, match=r"03_tiny.md: code changed: make notebook NAME=03"):
        notebooks.main("03", text=True)
    assert stored(source) == before
