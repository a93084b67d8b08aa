"""The Makefile on stand-ins: what counts as passed, what pip is told, where the site is served."""

import os
import shutil
import socket
import subprocess
import threading
import urllib.request
from pathlib import Path

import pytest

from tools import serve

# In the place of .venv/bin/python: takes a moment for each chapter, another one each, and leaves the
# mark that the tests leave where they had to do without MNIST.
STUB = """#!/bin/sh
case "$*" in
  *"-m pip install"*) echo "$PIP_USER" >> pip.log ;;
  *tools/book.py*) mkdir -p _build/html ;;
  *"pytest"*" tests/test_site.py") case "$*" in *--ignore*) unit=yes ;; esac ;;
esac
case "$unit$*" in
  yes*|*notebooks/*)
    echo "$*" >> runs.log
    mkdir -p _build
    sleep 0.$(( $(echo "$*" | wc -c) % 3 ))
    case "$WITHOUT_MNIST" in ?*) touch _build/without-mnist ;; esac
    sleep 0.$(( $(echo "$*" | wc -c) % 5 ))
    ;;
esac
"""
CHAPTERS = ["01_one", "02_two_two", "03_three"]


@pytest.fixture
def checkout(root: Path, tmp_path: Path) -> Path:
    """The Makefile with an environment that stands in for the real one."""
    shutil.copy(root / "Makefile", tmp_path)
    folders = {"notebooks", "advlib", "book", "tests", "tools", ".venv/bin", "_build/assets/katex"}
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
    files = [
        "requirements.lock",
        "pyproject.toml",
        "_config.yml",
        "_toc.yml",
        "CONTRIBUTING.md",
        "README.md",
    ]
    files += ["tools/exports.py", "tools/book.py", "tests/nbval_rules.py", "tests/test_site.py"]
    files += ["tools/repository.py", "tests/conftest.py", "book/package.json", "book/package-lock.json"]
    files += [f"notebooks/{chapter}.ipynb" for chapter in CHAPTERS]
    for file in files:
        (tmp_path / file).touch()
    stub = tmp_path / ".venv" / "bin" / "python"
    stub.write_text(STUB)
    stub.chmod(0o755)
    for made in (".venv/installed", "_build/assets/katex/katex.min.css"):
        (tmp_path / made).touch()
    return tmp_path


def make(checkout: Path, *arguments: str, **environment: str) -> str:
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))
    }
    command = ["make", *arguments]
    found = subprocess.run(
        command, cwd=checkout, env=clean | environment, capture_output=True, text=True, check=True
    )
    return found.stdout


def passed(checkout: Path) -> set[str]:
    return {path.name for path in checkout.glob("_build/passed/*/*")} - {"exports"}


@pytest.mark.parametrize("jobs", ["-j1", "-j2", "-j4"])
def test_without_mnist_nothing_that_was_not_compared_counts_as_passed(checkout: Path, jobs: str) -> None:
    said = make(checkout, jobs, "test", WITHOUT_MNIST="yes")
    assert passed(checkout) == {"site"}
    assert "the numbers of the notebooks were not compared" in said
    # With MNIST, all of it runs.
    (checkout / "runs.log").unlink()
    said = make(checkout, jobs, "test")
    assert passed(checkout) == {"site", "unit", *CHAPTERS}
    assert len((checkout / "runs.log").read_text().splitlines()) == 1 + len(CHAPTERS)
    assert "All tests passed" in said
    # And does not run again.
    (checkout / "runs.log").unlink()
    make(checkout, jobs, "test")
    assert not (checkout / "runs.log").exists()


def test_pip_installs_into_the_environment_whatever_its_settings_are(checkout: Path) -> None:
    (checkout / ".venv" / "installed").unlink()
    # Behind the two installations the recipe asks the real Python for its packages.
    subprocess.run(
        ["make", ".venv/installed"], cwd=checkout, env=os.environ | {"PIP_USER": "1"}, check=False
    )
    assert set((checkout / "pip.log").read_text().split()) == {"0"}


def test_a_port_that_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "index.html").write_text("the site")
    monkeypatch.setattr(serve, "SITE", tmp_path)
    with socket.create_server(("localhost", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SystemExit) as caught:
            serve.main(str(port))
        message = str(caught.value)
        assert message.startswith(f"Port {port} cannot be had (")
        assert message.endswith("name another: make serve PORT=8080")
        assert "\n" not in message
        with serve.listen([port, 0]) as server:  # 0: any that is free
            assert server.server_port != port
            threading.Thread(target=server.handle_request).start()
            address = f"http://localhost:{server.server_port}/index.html"
            assert urllib.request.urlopen(address).read() == b"the site"
    with pytest.raises(SystemExit, match="PORT must be a number below 65536, got '8000a'"):
        serve.main("8000a")
