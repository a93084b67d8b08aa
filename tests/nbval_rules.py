"""How nbval compares the notebooks: a pytest plugin, `-p tests.nbval_rules`.

On MNIST, the outputs of the cells tagged `nbval-check-output` must be those that are stored, with
one freedom. Another processor changes the last digits, so a number that is shown with its interval,
`98.91% [98.69%, 99.10%]`, has not moved while the stored number lies in the new interval, the new one
in the stored, and neither interval is more than twice as wide as the other. Every other character is
compared. When the cells have run, the numbers in the prose are computed, too (tools/prose.py), and
compared by the same rule.

Where MNIST cannot be had, or ADVLIB_DATASET=digits is set, the notebooks run on the embedded digits
and nothing is compared but the line that says so; the report says it, too.
"""

import os
import re
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import nbval.kernel
import nbval.plugin
import pytest
from jupyter_client.manager import KernelManager

from advlib import data
from tools import notebooks, prose
from tools.prose import CLAIM, agree

MISSING = Path(__file__).resolve().parents[1] / "_build" / "without-mnist"
# What a chapter says of its data: what is stored, and what it must say on the embedded digits.
DATA = re.compile(r"[\w -]+: [\d,]+ training and [\d,]+ test digits of 28 × 28 pixels$")
DATA_SETS = (
    "MNIST: 60,000 training and 10,000 test digits",
    "UCI digits: 1,297 training and 500 test digits",
)
REMEDY = """
Stored: left of ==, + in a difference, or first. Computed now: right, -, or second.
A number that is shown with its interval may differ within that; nothing else may.
If what was computed is as it should be, `make notebook NAME={name}` stores it."""

# What kernels get besides the environment; other tests in this process are none of it.
CHOSEN: dict[str, str] = {}

compare_exactly = nbval.plugin.IPyNbCell.compare_outputs
collect_cells = nbval.plugin.IPyNbFile.collect


def settle(found: str, stored: str) -> str:
    """Put the stored claims in the place of those found that agree with them."""
    pairs = list(zip(CLAIM.finditer(found), CLAIM.finditer(stored), strict=False))
    for new, old in reversed(pairs):
        if agree(new, old):
            found = found[: new.start()] + old.group() + found[new.end() :]
    return found


def texts(outputs: list[Any]) -> list[tuple[Any, str]]:
    """Every place in the outputs that holds text: its container and its key."""
    places = [(output, "text") for output in outputs if "text" in output]
    for output in outputs:
        places += [(output["data"], key) for key in sorted(output.get("data", {})) if "text/" in key]
    return places


def on_digits() -> bool:
    """Whether chapters run on the embedded digits."""
    return (os.environ | CHOSEN).get("ADVLIB_DATASET") == "digits"


def said_of(outputs: list[Any]) -> str:
    """The line that says on which data a chapter runs; empty in all other cells."""
    lines = "".join(container[key] for container, key in texts(outputs)).splitlines()
    return next((line for line in lines if DATA.match(line)), "")


def compare_outputs(cell: Any, found: Any, stored: Any, skip_compare: Any = None) -> bool:
    """nbval's comparison, after numbers that agree were made equal."""
    if on_digits():
        return said_of(found) == said_of(stored).replace(*DATA_SETS)
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


class LocalKernel(KernelManager):
    """A kernel that shows no bars, and is spoken to through files.

    Two processes that ask for ports at the same time may be given the same.
    """

    def __init__(self, **settings: Any) -> None:
        file = Path(tempfile.mkdtemp(prefix="kernel-")) / "kernel.json"
        super().__init__(transport="ipc", connection_file=str(file), **settings)

    def start_kernel(self, **settings: Any) -> None:
        super().start_kernel(env=os.environ | CHOSEN | {"TQDM_DISABLE": "1"}, **settings)

    def cleanup_resources(self, restart: bool = False) -> None:
        super().cleanup_resources(restart)
        if not restart:
            shutil.rmtree(Path(self.connection_file).parent, ignore_errors=True)


class Numbers(nbval.plugin.IPyNbCell):
    """The numbers in a chapter's prose, computed by its cells."""

    def runtest(self) -> None:
        wanted = notebooks.find(Path(self.path).with_suffix(".md"))
        self.cell.source = prose.question(wanted)
        super().runtest()
        printed = "".join(output.get("text", "") for output in self.test_outputs)
        computed = prose.answers(wanted, printed)
        if on_digits():
            return
        faults = [
            f"{number.place}: {number.written} is written, {answer.text} was computed "
            f"({number.expression})"
            for number, answer in zip(wanted, computed, strict=True)
            if prose.moved(number, answer)
        ]
        if faults:
            raise prose.NumbersError("\n".join(faults))

    def repr_failure(self, excinfo: Any) -> str:
        if isinstance(excinfo.value, prose.NumbersError):
            name = Path(self.path).name.split("_")[0]
            return f"{excinfo.value}\n`make notebook NAME={name}` writes numbers anew."
        return str(super().repr_failure(excinfo))

    def reportinfo(self) -> tuple[Any, int, str]:
        return self.path, 0, f"{self.path.name}::numbers in the prose"


def collect(file: Any) -> Iterator[Any]:
    """nbval's cells, and behind them the numbers."""
    cells = list(collect_cells(file))
    yield from cells
    if not file.path.with_suffix(".md").exists():
        return
    cell = nbformat.v4.new_code_cell()
    yield Numbers.from_parent(
        file, name="numbers in the prose", cell_num=len(cells), cell=cell, options=defaultdict(bool)
    )


def pytest_configure(config: pytest.Config) -> None:
    nbval.plugin.IPyNbCell.compare_outputs = compare_outputs
    nbval.plugin.IPyNbFile.collect = collect
    nbval.kernel.KernelManager = LocalKernel
    try:
        data.load()
    except data.DataUnavailableError as error:
        CHOSEN["ADVLIB_DATASET"] = "digits"
        config.stash[REASON] = str(error)
        mark_missing()


def mark_missing() -> None:
    """Tell the Makefile that something went untested for want of MNIST."""
    MISSING.parent.mkdir(exist_ok=True)
    MISSING.touch()


REASON = pytest.StashKey[str]()


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if on_digits():
        terminalreporter.section("NOT COMPARED: run on the embedded UCI digits", sep="!", red=True)
        terminalreporter.write_line(config.stash.get(REASON, "ADVLIB_DATASET=digits was chosen."))
        terminalreporter.write_line("The notebooks ran to their end; their numbers were not checked.")
    else:
        terminalreporter.write_line("Notebooks ran on MNIST; their checked outputs were compared.")
