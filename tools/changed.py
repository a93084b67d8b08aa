"""What a change touches.

    python tools/changed.py chapters    say which chapters, by their numbers
    python tools/changed.py check       run the static tests of notebooks and the unit tests of it

The change is what differs from the commit that BASE names. Without BASE it is, for `check`, what is not
committed, or else the last commit; for `chapters`, what the branch adds to origin/main, or else
everything.
"""

import ast
import os
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import jupytext

if __name__ == "__main__":  # called by its path
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.prose import parsed
from tools.run_tests import ONE_THREAD

ROOT = Path(__file__).resolve().parents[1]
# Quick, and about all files at once.
ALWAYS = {"test_layers", "test_notebooks", "test_prose", "test_repository"}
# What the name of a file does not say.
ALSO = {
    "Makefile": {"test_makefile"},
    "_candidates": {"test_pixel_search"},
    "_flags": {"test_evaluation"},
    "_float32": {"test_classifier"},
    "_loop": {"test_attacks", "test_gradient_sign"},
    "_norms": {"test_auto_pgd", "test_square"},
    "_reading": {"test_networks"},
    "_result": {"test_attacks"},
    "_seeds": {"test_auto_pgd", "test_pixel_search", "test_square"},
    "_shipped": {"test_networks"},
    "auto": {"test_auto_pgd"},
    "exports": {"test_playground"},
    "losses": {"test_training"},
    "network": {"test_playground"},
    "networks": {"test_networks"},
    "notebooks": {"test_tools_notebooks"},
    "prose": {"test_tools_notebooks"},
    "registry": {"test_attacks"},
    "schedule": {"test_makefile"},
    "serve": {"test_makefile"},
    "squares": {"test_square"},
    "weights": {"test_networks", "test_results"},
    "run_tests": {"test_makefile"},
}
# Everything that a chapter runs on besides advlib.
GROUND = {
    *("requirements.lock", "pyproject.toml"),
    *("tests/nbval_rules.py", "tools/notebooks.py", "tools/prose.py"),
}


def git(*arguments: str) -> list[str]:
    """Lines of what git says; none where it fails."""
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.splitlines() if done.returncode == 0 else []


def since(base: str) -> set[str]:
    """Files that differ from a commit, and those that git does not know yet."""
    new = git("ls-files", "--others", "--exclude-standard")
    return {*git("diff", "--name-only", base), *new}


def imported(tree: ast.Module) -> set[str]:
    """Files of advlib that some code imports."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    stems = [name.replace(".", "/") for name in names if name.partition(".")[0] == "advlib"]
    files = {f"{stem}{end}" for stem in stems for end in (".py", "/__init__.py")}
    return {file for file in files if (ROOT / file).exists()}


@cache
def needed(chapter: Path) -> set[str]:
    """Files that a chapter depends on."""
    cells = [cell.source for cell in jupytext.read(chapter).cells if cell.cell_type == "code"]
    left = set().union(*(imported(parsed(cell)) for cell in cells))
    known = {f"notebooks/{chapter.name}", f"notebooks/{chapter.stem}.ipynb", *GROUND}
    while left:
        file = left.pop()
        known.add(file)
        left |= imported(ast.parse((ROOT / file).read_text(encoding="utf-8"))) - known
    return known


def commit(name: str) -> str:
    """The commit of a name; empty where there is none."""
    return next(iter(git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")), "")


def base() -> str:
    """What BASE names; empty where it is not set."""
    name = os.environ.get("BASE", "")
    if name and not commit(name):
        sys.exit(f"BASE must be a commit, got {name!r}")
    return name


def chapters() -> list[str]:
    """The numbers of the chapters that the change touches."""
    before = base() or next(iter(git("merge-base", "HEAD", "origin/main")), "")
    unknown = not before or commit(before) == commit("HEAD")
    files = set() if unknown else since(before)
    weights = any(file.startswith("advlib/weights/") for file in files)
    everyone = sorted((ROOT / "notebooks").glob("*.md"))
    return [path.name[:2] for path in everyone if unknown or weights or files & needed(path)]


def tests(files: Iterable[str]) -> list[str]:
    """The files of unit tests that go with changed files, by their names; those of the site excepted."""
    found = set(ALWAYS)
    for file in map(Path, files):
        inside = file.stem == "__init__" or file.parent.name == "weights"
        stem = file.parent.name if inside else file.stem
        found |= {stem, f"test_{stem}", f"test_{stem.lstrip('_')}", f"test_tools_{stem}"}
        found |= ALSO.get(stem, set())
    paths = (ROOT / "tests" / f"{name}.py" for name in sorted(found) if name.startswith("test_"))
    return [str(path) for path in paths if path.exists() and not path.name.startswith("test_site")]


def check() -> int:
    """Run what goes with the change."""
    files = since(base() or "HEAD")
    if not files and commit("HEAD~1"):
        files = since("HEAD~1")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--quiet"]
    command += ["--numprocesses", "2", "--dist", "loadfile", *tests(files)]
    return subprocess.run(command, cwd=ROOT, env=ONE_THREAD | os.environ, check=False).returncode


if __name__ == "__main__":
    if sys.argv[1:] == ["chapters"]:
        print(*chapters())
    elif sys.argv[1:] == ["check"]:
        sys.exit(check())
    else:
        sys.exit(__doc__)
