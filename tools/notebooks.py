"""Execute notebooks, in order, and store their outputs: all of them, or those whose name begins so.

    python tools/notebooks.py [NAME]

Cells come from the `.md` of the pair, which is the file to edit; the `.ipynb` is made from it, and
written only when a byte of it changed.
"""

import base64
import io
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import jupytext
import nbformat
import PIL.Image
from jupytext.combine import combine_inputs_with_outputs
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from advlib import data

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
PNG = re.compile(r"iVBORw0KGgo[A-Za-z0-9+/]+=*")  # every PNG begins so in base64


def smaller(png: str) -> str:
    """Store a figure (base64) with a palette of 256 colours: half the bytes, and no eye sees it."""
    image = PIL.Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    file = io.BytesIO()
    image.quantize(256, dither=PIL.Image.Dither.NONE).save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def shrink(data: dict[str, str]) -> None:
    """Store every figure of an output with fewer bytes: by itself, or under a slider."""
    if "image/png" in data:
        data["image/png"] = smaller(data["image/png"]) + "\n"
    if "text/html" in data:
        data["text/html"] = PNG.sub(lambda png: smaller(png.group()), data["text/html"])


def execute(source: Path) -> bool:
    """Execute one notebook and say whether its file changed."""
    path = source.with_suffix(".ipynb")
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    notebook = jupytext.read(source)
    if before:  # cells keep their identifiers
        notebook = combine_inputs_with_outputs(notebook, nbformat.reads(before, as_version=4))
    client = NotebookClient(
        notebook,
        timeout=600,
        record_timing=False,  # times would differ from run to run
        coalesce_streams=True,  # and so would the pieces in which a text arrives
        resources={"metadata": {"path": FOLDER}},
    )
    client.execute(stderr=subprocess.DEVNULL)  # TensorFlow's chatter; errors come as messages
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            shrink(output.get("data", {}))
    notebook.metadata.language_info.pop("version", None)
    after = nbformat.writes(notebook) + "\n"
    if after != before:
        path.write_text(after, encoding="utf-8")
    return after != before


def main(name: str = "") -> None:
    """Execute the notebooks whose name begins with `name`."""
    if os.environ.get("ADVLIB_DATASET", "mnist") != "mnist":
        sys.exit("The stored outputs are MNIST's: unset ADVLIB_DATASET.")
    sources = [path for path in sorted(FOLDER.glob("*.md")) if path.name.startswith(name)]
    if not sources:
        sys.exit(f"NAME must begin a notebook's name in {FOLDER.name}/, got {name!r}.")
    os.environ["TQDM_DISABLE"] = "1"
    try:
        data.load("mnist")  # downloads, where it must, here: or its progress would be a stored output
    except (ValueError, data.DataUnavailableError) as error:
        sys.exit(str(error))
    for source in sources:
        print(f"== {source.stem}", flush=True)
        start = time.perf_counter()
        try:
            changed = execute(source)
        except CellExecutionError as error:
            sys.exit(f"{error.traceback}\n{source.stem} failed; its stored outputs are as they were.")
        seconds = time.perf_counter() - start
        print(f"   {'changed' if changed else 'unchanged'}, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
