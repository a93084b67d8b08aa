"""What several test modules share."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import pytest
from playwright.sync_api import Browser, sync_playwright

from advlib import data, networks
from tests.nbval_rules import mark_missing

STARTS: dict[Any, Any] = {}


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Let every test draw the same numbers, whichever ran before it in its process."""
    keras.utils.set_random_seed(1)  # of layers that a test builds without a seed
    module = getattr(item, "module", None)
    random = getattr(module, "RANDOM", None)
    if random is not None:
        random.bit_generator.state = STARTS.setdefault(module, random.bit_generator.state)


@pytest.fixture(scope="session")
def root() -> Path:
    """The folder that holds the book."""
    return Path(__file__).resolve().parents[1]


NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MACOS = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium; the tests that need it are skipped where there is none."""
    found = [path for path in (*map(shutil.which, NAMES), shutil.which(MACOS)) if path]
    if not found:
        pytest.skip("no Chromium: install it (Debian: apt install chromium) to test pages in a browser")
    with sync_playwright() as playwright:
        # --no-sandbox: Chromium refuses to start as root otherwise, as in containers.
        chromium = playwright.chromium.launch(
            executable_path=found[0], args=["--no-sandbox", "--disable-gpu", "--disable-quic"]
        )
        yield chromium
        chromium.close()


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
def fashion_mnist() -> data.Dataset:
    """Fashion-MNIST; the tests that need it are skipped where it cannot be had."""
    try:
        return data.load("fashion_mnist")
    except (data.DataUnavailableError, ValueError) as error:
        if isinstance(error, ValueError) and "there is no file" not in str(error):
            raise  # it is there, and is not what it should be
        pytest.skip(f"Fashion-MNIST cannot be had: {error}")


@pytest.fixture(scope="session")
def model() -> keras.Model:
    """The network with the weights shipped for the embedded digits."""
    return networks.pretrained("classifier", "digits")
