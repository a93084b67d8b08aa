"""Execute notebooks, in order, and store their outputs: all of them, or those whose name begins so.

    python tools/notebooks.py [NAME]

The pairs are brought in step first, the newer file leading. A notebook is written only when a byte
of it changed.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"


def execute(path: Path) -> bool:
    """Execute one notebook and say whether its file changed."""
    subprocess.run([sys.executable, "-m", "jupytext", "--quiet", "--sync", path], check=True)
    notebook = nbformat.read(path, as_version=4)
    # Times would differ from run to run, and the version from machine to machine.
    NotebookClient(
        notebook,
        timeout=600,
        record_timing=False,
        resources={"metadata": {"path": path.parent}},
    ).execute(stderr=subprocess.DEVNULL)  # where TensorFlow talks to itself; errors arrive as messages
    notebook.metadata.language_info.pop("version", None)
    text = nbformat.writes(notebook) + "\n"
    if text == path.read_text(encoding="utf-8"):
        return False
    path.write_text(text, encoding="utf-8")
    return True


def main(name: str = "") -> None:
    if os.environ.get("ADVLIB_DATASET", "mnist") != "mnist":
        sys.exit("The stored outputs are MNIST's: unset ADVLIB_DATASET.")
    paths = [path for path in sorted(FOLDER.glob("*.ipynb")) if path.name.startswith(name)]
    if not paths:
        sys.exit(f"NAME must begin a notebook's name in {FOLDER.name}/, got {name!r}.")
    os.environ["TQDM_DISABLE"] = "1"
    for path in paths:
        print(f"== {path.name}", flush=True)
        start = time.perf_counter()
        try:
            changed = execute(path)
        except CellExecutionError as error:
            sys.exit(f"{error.traceback}\n{path.name} failed and is left as it was.")
        seconds = time.perf_counter() - start
        print(f"   {'changed' if changed else 'unchanged'}, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
