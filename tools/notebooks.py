"""Execute notebooks, in order, and store their outputs: all of them, or those whose name begins so.

    python tools/notebooks.py [--text] [NAME]

Cells come from the `.md` of the pair, which is the file to edit; the `.ipynb` is made from it, and
written only when a byte of it changed. With --text nothing is executed: text, captions, descriptions
and tags are taken over, and the outputs stay.
"""

import argparse
import base64
import io
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import numpy as np
import PIL.Image
from jupytext.combine import combine_inputs_with_outputs
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
PNG = re.compile(r"iVBORw0KGgo[A-Za-z0-9+/]+=*")  # every PNG begins so in base64


def smaller(png: str) -> str:
    """Store a figure (base64) with a palette of 256 colours: half the bytes, and no eye sees it."""
    image = PIL.Image.open(io.BytesIO(base64.b64decode(png)))
    clear = np.asarray(image.convert("RGBA"))[..., 3] == 0  # the others are opaque
    small = image.convert("RGB").quantize(255 if clear.any() else 256, dither=PIL.Image.Dither.NONE)
    options = {}
    if clear.any():
        # What is clear gets the last entry; a shorter palette would be stored without it.
        small.putpalette(((small.getpalette() or []) + 768 * [0])[:768])
        small.paste(255, mask=PIL.Image.fromarray(clear))
        options["transparency"] = 255
    file = io.BytesIO()
    small.save(file, "PNG", optimize=True, **options)
    return base64.b64encode(file.getvalue()).decode()


def shrink(data: dict[str, str]) -> None:
    """Store every figure of an output with fewer bytes: by itself, or under a slider."""
    if "image/png" in data:
        data["image/png"] = smaller(data["image/png"]) + "\n"
    if "text/html" in data:
        data["text/html"] = PNG.sub(lambda png: smaller(png.group()), data["text/html"])


def read(source: Path) -> tuple[Any, str]:
    """The notebook with the outputs that are stored, and the file that holds these, as it is."""
    path = source.with_suffix(".ipynb")
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    stored = nbformat.reads(before, as_version=4) if before else nbformat.v4.new_notebook()
    # Cells keep their identifiers.
    return combine_inputs_with_outputs(jupytext.read(source), stored), before


def write(notebook: Any, source: Path, before: str) -> bool:
    """Store the notebook and say whether its file changed."""
    after = nbformat.writes(notebook) + "\n"
    if after != before:
        source.with_suffix(".ipynb").write_text(after, encoding="utf-8")
    return after != before


def check(source: Path) -> None:
    """Leave with ruff's message where it would have the code otherwise; a `.md` it does not read."""
    cells = nbformat.writes(jupytext.read(source))
    name = f"{FOLDER.name}/{source.stem}.ipynb"
    message = ""
    for command in (["format", "--diff"], ["check", "--output-format", "concise"]):
        ruff = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--quiet", "--stdin-filename", name, "-"],
            cwd=FOLDER.parent,
            input=cells,
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        if ruff.returncode:  # a diff has a heading for every cell
            message += re.sub(r"^--- .*\n\+\+\+ .*\n(?!@@)", "", ruff.stdout, flags=re.MULTILINE)
            message += ruff.stderr
    if message:
        sys.exit(message.replace(name, f"{FOLDER.name}/{source.name}") + "Nothing was executed.")


def execute(source: Path) -> bool:
    """Execute one notebook and say whether its file changed."""
    notebook, before = read(source)
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
    return write(notebook, source, before)


def take_text(source: Path) -> bool:
    """Take over everything but code, keep the outputs, and say whether the file changed."""
    notebook, before = read(source)
    stored = nbformat.reads(before, as_version=4).cells if before else []
    code, code_before = (
        [cell.source for cell in cells if cell.cell_type == "code"] for cells in (notebook.cells, stored)
    )
    if code != code_before:
        sys.exit(f"{source.name}: code changed: make notebook NAME={source.stem.split('_')[0]}")
    return write(notebook, source, before)


def chosen(name: str | None) -> list[Path]:
    """The notebooks whose name begins so; all, if there is no name."""
    sources = sorted(FOLDER.glob("*.md"))
    some = [path for path in sources if name is None or (name and path.name.startswith(name))]
    if not some:
        names = "".join(f"\n  {path.stem}" for path in sources)
        fault = f"no notebook's name begins with {name!r}" if name else "NAME is missing"
        sys.exit(f"{fault}. Say how one begins, NAME=01; make notebooks executes all:{names}")
    return some


def main(name: str | None = None, *, text: bool = False) -> None:
    """Execute the notebooks whose name begins with `name`, or take over their text."""
    sources = chosen(name)
    if text:
        for source in sources:
            print(f"{source.stem}: {'changed' if take_text(source) else 'unchanged'}")
        return
    if os.environ.get("ADVLIB_DATASET", "mnist") != "mnist":
        sys.exit("The stored outputs are MNIST's: unset ADVLIB_DATASET.")
    for source in sources:
        check(source)
    os.environ |= {"TQDM_DISABLE": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    from advlib import data  # TensorFlow takes seconds, which an error above need not wait for

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
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("name", nargs="?")
    parser.add_argument("--text", action="store_true")
    main(**vars(parser.parse_args()))
