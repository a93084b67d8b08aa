"""In which order the tests run in several processes, and which parts passed: `-p tests.schedule`.

The parts are the chapters, by the names of their files, "site", and "unit" for all others. A file, be it
a chapter, which has one kernel, or one of tests, runs in one process (`--dist loadfile`). Chapters go
first, the longest at the head, then the slow files: what is short fills up the end.

At the end, the name of every part of which all tests passed stands in the file that `--passed` names.
"""

import re
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

WORDS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
# Files of tests that take more than ten seconds, the slowest first.
SLOW = [
    *("test_site", "test_pixel_search", "test_settings", "test_tools_notebooks", "test_traces"),
    *("test_attacks", "test_adaptive", "test_training", "test_networks", "test_saliency", "test_vae"),
    *("test_results", "test_pace", "test_nbval_rules", "test_site_playground", "test_detection"),
    *("test_makefile", "test_models", "test_site_address"),
]
RUN_TIME = re.compile(r"\*\*Run time:\*\* about (\w+) minute")


def part_of(path: Path) -> str:
    """Which part a test's file belongs to."""
    if path.suffix == ".ipynb":
        return path.stem
    return "site" if path.name.startswith("test_site") else "unit"


@cache
def minutes(path: Path) -> int:
    """What a chapter says of its run time; 0 for all other files."""
    source = path.with_suffix(".md")
    if path.suffix != ".ipynb" or not source.exists():
        return 0
    stated = RUN_TIME.search(source.read_text(encoding="utf-8"))
    return WORDS.index(stated[1]) if stated and stated[1] in WORDS else 1


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--passed", type=Path, help="file for the names of the parts that passed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(SLOW)}
    items.sort(key=lambda item: (-minutes(item.path), places.get(item.path.stem, len(SLOW))))  # stable


class Parts:
    """Which parts ran, and which of them failed."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.failed: dict[str, bool] = defaultdict(bool)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        part = part_of(Path(report.nodeid.partition("::")[0]))
        self.failed[part] |= report.failed

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        if exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            passed = sorted(part for part, failed in self.failed.items() if not failed)
            self.config.option.passed.write_text("".join(f"{part}\n" for part in passed))


def pytest_configure(config: pytest.Config) -> None:
    if config.option.passed and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Parts(config))
