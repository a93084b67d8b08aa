"""The Makefile on stand-ins: what counts as passed, what pip is told, where the site is served."""

import os
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest

from tests import schedule
from tools import book, run_tests, serve

ROOT = Path(__file__).resolve().parents[1]

# In the place of .venv/bin/python: notes which parts were to be tested, and lets all pass that can pass.
STUB = """#!/bin/sh
case "$*" in
  *"-m pip install"*) echo "$PIP_USER" >> pip.log ;;
  *tools/book.py*) mkdir -p _build/html ;;
  *tools/run_tests.py*)
    shift; folder=$1; shift
    echo "$*" >> runs.log
    mkdir -p "$folder"
    case "$WITHOUT_MNIST" in ?*) touch _build/without-mnist ;; esac
    for part in "$@"; do
      case "$WITHOUT_MNIST$part" in *site|"$part") touch "$folder/$part" ;; esac
    done
    case " $* " in *" $FAILS "*) rm "$folder/$FAILS"; exit 1 ;; esac
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
    files += [
        "tests/site.py",
        "tools/notebooks.py",
        "tools/prose.py",
        "tools/repository.py",
        "tools/run_tests.py",
    ]
    files += ["tests/conftest.py", "book/package.json", "book/package-lock.json"]
    files += [f"notebooks/{chapter}{end}" for chapter in CHAPTERS for end in (".ipynb", ".md")]
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
        command, cwd=checkout, env=clean | environment, capture_output=True, text=True, check=False
    )
    assert (found.returncode != 0) == ("FAILS" in environment), found.stderr
    return found.stdout


def passed(checkout: Path) -> set[str]:
    return {path.name for path in checkout.glob("_build/passed/*/*")} - {"exports"}


def ran(checkout: Path) -> list[list[str]]:
    """The parts that were tested since the last question, run by run."""
    log = checkout / "runs.log"
    lines = log.read_text().splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    return [sorted(line.split()) for line in lines]


ALL = sorted([*CHAPTERS, "unit", "site"])


@pytest.mark.parametrize("jobs", ["-j1", "-j2", "-j4"])
def test_without_mnist_nothing_that_was_not_compared_counts_as_passed(checkout: Path, jobs: str) -> None:
    said = make(checkout, jobs, "test", WITHOUT_MNIST="yes")
    assert passed(checkout) == {"site"}
    assert ran(checkout) == [ALL]
    assert "the numbers of the notebooks were not compared" in said
    # With MNIST, all of it runs.
    said = make(checkout, jobs, "test")
    assert passed(checkout) == set(ALL)
    assert ran(checkout) == [[part for part in ALL if part != "site"]]
    assert "All tests passed" in said
    # And does not run again.
    make(checkout, jobs, "test")
    assert ran(checkout) == []


def test_what_failed_is_run_again_and_what_passed_is_not(checkout: Path) -> None:
    said = make(checkout, "test", FAILS="02_two_two")
    assert "passed" not in said
    assert passed(checkout) == {*ALL} - {"02_two_two"}
    assert ran(checkout) == [ALL]
    make(checkout, "test")
    assert ran(checkout) == [["02_two_two"]]


@pytest.mark.parametrize(
    ("file", "parts"),
    [
        ("notebooks/01_one.ipynb", {"01_one", "unit", "site"}),
        ("notebooks/03_three.md", {"03_three", "unit"}),
        ("book/page.md", {"unit", "site"}),
        ("tests/test_some.py", {"unit"}),
        ("tests/test_site_some.py", {"unit", "site"}),
        ("advlib/networks/some.py", {*ALL}),
        ("tools/prose.py", {"unit", *CHAPTERS}),
    ],
)
def test_a_change_runs_what_depends_on_it(checkout: Path, file: str, parts: set[str]) -> None:
    make(checkout, "test")
    assert ran(checkout) == [ALL]
    (checkout / file).parent.mkdir(exist_ok=True)
    time.sleep(0.02)
    (checkout / file).touch()
    make(checkout, "test")
    assert ran(checkout) == [sorted(parts)]


@pytest.mark.parametrize(("name", "parts"), [("", "123"), ("02", "2"), ("03 01", "13")])
def test_chapters_on_the_digits(checkout: Path, name: str, parts: str) -> None:
    make(checkout, "digits", *([f"NAME={name}"] if name else []))
    assert ran(checkout) == [[CHAPTERS[int(part) - 1] for part in parts]]


# --- the run itself --------------------------------------------------------------------------------

TESTS = {
    "tests/test_one.py": "def test_good():\n    pass\n",
    "tests/test_site.py": "def test_bad():\n    assert False\n",
    "notebooks/01_long.md": "**Run time:** about three minutes\n",
    "notebooks/02_short.md": "**Run time:** about one minute\n",
}


def test_parts_that_passed_are_remembered(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in TESTS.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    for stem in ("01_long", "02_short"):
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1")])
        nbformat.write(notebook, tmp_path / "notebooks" / f"{stem}.ipynb")
    options = ["-p", "tests.schedule", f"--rootdir={tmp_path}", "--config-file=/dev/null"]
    monkeypatch.setattr(run_tests, "ROOT", tmp_path)
    monkeypatch.setattr(run_tests, "SITE", ["tests/test_site.py"])
    monkeypatch.setattr(run_tests, "OPTIONS", [*run_tests.OPTIONS, *options])
    monkeypatch.setenv("PYTHONPATH", str(root))
    monkeypatch.setenv("ADVLIB_DATASET", "digits")  # nothing to wait for
    folder = tmp_path / "passed"
    assert run_tests.main(folder, ["unit", "site", "01_long", "02_short"]) == 1
    assert {path.name for path in folder.iterdir()} == {"unit", "01_long", "02_short"}


def test_what_ran_without_mnist_is_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        time.sleep(0.02)
        (tmp_path / "without").touch()
        Path(command[command.index("--passed") + 1]).write_text("01_one\nsite\nunit\n")
        return subprocess.CompletedProcess(command, 0)

    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "01_one.ipynb").touch()
    monkeypatch.setattr(run_tests, "ROOT", tmp_path)
    monkeypatch.setattr(run_tests, "WITHOUT", tmp_path / "without")
    monkeypatch.setattr(subprocess, "run", run)
    before = time.time()
    assert run_tests.main(tmp_path / "passed", ["unit", "site", "01_one"]) == 0
    (site,) = (tmp_path / "passed").iterdir()
    assert site.name == "site"
    # It counts from the beginning of the run: what is edited meanwhile is tested again.
    assert before <= site.stat().st_mtime < (tmp_path / "without").stat().st_mtime


@pytest.mark.parametrize("parts", [[], ["unit", "99_none"]])
def test_parts_that_are_none_are_answered_with_those_there_are(parts: list[str], tmp_path: Path) -> None:
    with pytest.raises(
        SystemExit, match=r"Which parts\? (nothing|99_none) is none of 01_train.*unit, site"
    ):
        run_tests.main(tmp_path, parts)


def test_files_of_parts() -> None:
    assert run_tests.files(["unit", "site"]) == ["tests"]
    assert run_tests.files(["01_one", "site"]) == ["notebooks/01_one.ipynb", *run_tests.SITE]
    assert run_tests.files(["unit"]) == ["tests", *(f"--ignore={file}" for file in run_tests.SITE)]
    site = {str(path.relative_to(ROOT)) for path in ROOT.glob("tests/test_site*.py")}
    assert set(run_tests.SITE) == site


def test_run_times_of_chapters_are_read() -> None:
    stated = [schedule.minutes(path) for path in sorted(ROOT.glob("notebooks/*.ipynb"))]
    assert min(stated) >= 1
    assert max(stated) > min(stated)
    assert schedule.minutes(ROOT / "tests" / "test_makefile.py") == 0


def test_pip_installs_into_the_environment_whatever_its_settings_are(checkout: Path) -> None:
    (checkout / ".venv" / "installed").unlink()
    # Behind the two installations the recipe asks the real Python for its packages.
    subprocess.run(
        ["make", ".venv/installed"], cwd=checkout, env=os.environ | {"PIP_USER": "1"}, check=False
    )
    assert set((checkout / "pip.log").read_text().split()) == {"0"}


def test_a_build_that_fails_is_not_waited_for_because_of_what_it_leaves_behind(tmp_path: Path) -> None:
    # As the server of the extension for formulas does, with stdout in its hands.
    code = "import subprocess, sys; subprocess.Popen(['sleep', '600']); sys.exit('no connection')"
    assert book.run(["python", "-c", code], tmp_path) == (1, "no connection\n")
    assert book.run(["python", "-c", "print('done')"], tmp_path) == (0, "done\n")
    with pytest.raises(subprocess.TimeoutExpired):
        book.run(["sleep", "600"], tmp_path, timeout=0.1)


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
