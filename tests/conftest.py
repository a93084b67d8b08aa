"""What several test modules share."""

from pathlib import Path
from typing import Any

import keras
import pytest

from advlib import classifier, data
from tests.nbval_rules import mark_missing


@pytest.hookimpl(tryfirst=True)  # xdist reads the marks next
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep a file's tests together when they run in several processes, but part the chapters.

    Chapters take most of the time, and have nothing in common.
    """
    for item in items:
        chapter = getattr(item, "callspec", None) if "run_chapter" in item.keywords else None
        item.add_marker(pytest.mark.xdist_group(chapter.id if chapter else item.path.name))


STARTS: dict[Any, Any] = {}


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Let every test draw the same numbers, whichever ran before it in its process."""
    module = getattr(item, "module", None)
    random = getattr(module, "RANDOM", None)
    if random is not None:
        random.bit_generator.state = STARTS.setdefault(module, random.bit_generator.state)


@pytest.fixture(scope="session")
def root() -> Path:
    """The folder that holds the book."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def digits() -> data.Dataset:
    """The embedded data set."""
    return data.load("digits")


@pytest.fixture(scope="session")
def mnist() -> data.Dataset:
    """MNIST; the tests that need it are skipped where it cannot be had."""
    try:
        return data.load("mnist")
    except data.DataUnavailableError as error:
        mark_missing()
        pytest.skip(f"MNIST cannot be had: {error}")


@pytest.fixture(scope="session")
def model() -> keras.Model:
    """The network with the weights shipped for the embedded digits."""
    return classifier.pretrained("digits")
