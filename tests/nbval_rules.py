"""How nbval compares the notebooks: a pytest plugin, `-p tests.nbval_rules`.

On MNIST, the outputs of the cells tagged `nbval-check-output` must be those that are stored, with
one freedom. Another processor changes the last digits, so a number that is shown with its interval,
`98.91% [98.69%, 99.10%]`, has not moved while the stored number lies in the new interval, the new one
in the stored, and neither interval is more than twice as wide as the other. Every other character is
compared.

Where MNIST cannot be had, or ADVLIB_DATASET=digits is set, the notebooks run on the embedded digits
and nothing is compared; the report says so.
"""

import os
import re
from pathlib import Path
from typing import Any

import nbval.plugin
import pytest

from advlib import data

NUMBER = r"-?\d[\d,]*(?:\.\d+)?"
CLAIM = re.compile(rf"({NUMBER})(%?) \[({NUMBER})\2, ({NUMBER})\2\]")
MISSING = Path(__file__).resolve().parents[1] / "_build" / "without-mnist"
REMEDY = """
Stored: left of ==, + in a difference, or first. Computed now: right, -, or second.
A number that is shown with its interval may differ within that; nothing else may.
If what was computed is as it should be, `make notebook NAME={name}` stores it."""

compare_exactly = nbval.plugin.IPyNbCell.compare_outputs


def settle(found: str, stored: str) -> str:
    """Put the stored claims in the place of those found that agree with them."""
    pairs = list(zip(CLAIM.finditer(found), CLAIM.finditer(stored), strict=False))
    for new, old in reversed(pairs):
        if agree(new, old):
            found = found[: new.start()] + old.group() + found[new.end() :]
    return found


def agree(first: re.Match[str], second: re.Match[str]) -> bool:
    """Whether each number lies within the other's interval, and the intervals are of a kind."""
    (value, low, high), (other, other_low, other_high) = (
        [float(match[group].replace(",", "")) for group in (1, 3, 4)] for match in (first, second)
    )
    width, other_width = high - low, other_high - other_low
    return (
        first[2] == second[2]
        and low <= other <= high
        and other_low <= value <= other_high
        and width <= 2 * other_width
        and other_width <= 2 * width
    )


def texts(outputs: list[Any]) -> list[tuple[Any, str]]:
    """Every place in the outputs that holds text: its container and its key."""
    places = [(output, "text") for output in outputs if "text" in output]
    for output in outputs:
        places += [(output["data"], key) for key in sorted(output.get("data", {})) if "text/" in key]
    return places


def compare_outputs(cell: Any, found: Any, stored: Any, skip_compare: Any = None) -> bool:
    """nbval's comparison, after numbers that agree were made equal."""
    if os.environ.get("ADVLIB_DATASET") == "digits":
        return True
    for (new, new_key), (old, old_key) in zip(texts(found), texts(stored), strict=False):
        if new_key == old_key:
            # Columns of a table are padded to their longest number: width is no news.
            old[old_key] = re.sub(" +", " ", old[old_key])
            new[new_key] = settle(re.sub(" +", " ", new[new_key]), old[old_key])
    same = bool(compare_exactly(cell, found, stored, skip_compare))
    if not same:
        name = Path(cell.path).name.split("_")[0]
        cell.comparison_traceback.append(REMEDY.format(name=name))
    return same


def pytest_configure(config: pytest.Config) -> None:
    nbval.plugin.IPyNbCell.compare_outputs = compare_outputs
    try:
        data.load()
    except data.DataUnavailableError as error:
        os.environ["ADVLIB_DATASET"] = "digits"
        config.stash[REASON] = str(error)
        mark_missing()


def mark_missing() -> None:
    """Tell the Makefile that something went untested for want of MNIST."""
    MISSING.parent.mkdir(exist_ok=True)
    MISSING.touch()


REASON = pytest.StashKey[str]()


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if os.environ.get("ADVLIB_DATASET") == "digits":
        terminalreporter.section("NOT COMPARED: run on the embedded UCI digits", sep="!", red=True)
        terminalreporter.write_line(config.stash.get(REASON, "ADVLIB_DATASET=digits was chosen."))
        terminalreporter.write_line("The notebooks ran to their end; their numbers were not checked.")
    else:
        terminalreporter.write_line("Notebooks ran on MNIST; their checked outputs were compared.")
