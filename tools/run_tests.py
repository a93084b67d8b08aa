"""Run parts of the tests, two at a time, and remember which passed.

    python tools/run_tests.py FOLDER PART...

Parts are "unit", "site", and chapters by the names of their files. For each that passed an empty file of
its name is made in FOLDER, unless something went untested for want of MNIST.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SITE = [f"tests/test_site{kind}.py" for kind in ("", "_address", "_playground")]
WITHOUT = ROOT / "_build" / "without-mnist"  # left by the tests where they had to do without it
# Two processes on two cores: threads that wait for each other make some cells six times as slow.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
OPTIONS = [
    *("-p", "no:cacheprovider", "-p", "tests.nbval_rules"),
    *("--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=600"),
    *("--numprocesses", "2", "--dist", "loadfile", "--no-loadscope-reorder"),
]


def files(parts: list[str]) -> list[str]:
    """What pytest is given for these parts."""
    chapters = [f"notebooks/{part}.ipynb" for part in parts if part not in ("unit", "site")]
    if "unit" not in parts:
        return chapters + (SITE if "site" in parts else [])
    return [*chapters, "tests", *([] if "site" in parts else [f"--ignore={file}" for file in SITE])]


def main(folder: Path, parts: list[str]) -> int:
    """Run them; the exit status of the tests."""
    known = [*sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb")), "unit", "site"]
    if not parts or not {*parts} <= {*known}:
        unknown = ", ".join(sorted({*parts} - {*known})) or "nothing"
        sys.exit(f"Which parts? {unknown} is none of {', '.join(known)}")
    start = time.time()
    WITHOUT.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as name:
        passed = Path(name) / "passed"
        command = [sys.executable, "-m", "pytest", *OPTIONS, "--passed", str(passed), *files(parts)]
        status = subprocess.run(command, cwd=ROOT, env=ONE_THREAD | os.environ, check=False).returncode
        if passed.exists():
            folder.mkdir(parents=True, exist_ok=True)
            for part in passed.read_text(encoding="utf-8").split():
                if part == "site" or not WITHOUT.exists():
                    (folder / part).touch()
                    os.utime(folder / part, (start, start))  # what was edited meanwhile is newer
    return status


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
