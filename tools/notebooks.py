"""Execute notebooks, in order, and store their outputs: all of them, or those whose name begins so.

    python tools/notebooks.py [--text] [NAME]

Cells come from the `.md` of the pair, which is the file to edit; the `.ipynb` is made from it, and
written only when a byte of it changed. Numbers in prose are written anew, in both files and in the pages
of book/ that show them: tools/prose.py says how they are marked. With --text nothing is executed:
text, captions, descriptions and tags are taken over, and the outputs stay.
"""

import argparse
import base64
import io
import json
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

if __name__ == "__main__":  # called by its path
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools import prose
from tools.prose import Number, NumbersError

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
    return dress(combine_inputs_with_outputs(jupytext.read(source), stored)), before


def dress(notebook: Any) -> Any:
    """Fold solutions away: on the site under their title, in JupyterLab and in Colab.

    All of this follows from the tag, so that the `.md` need not say it. Colab shows the title of a cell
    that is a form, and JupyterLab the first line of one whose source is hidden.
    """
    for cell in notebook.cells:
        if "solution" in cell.metadata.get("tags", []):
            title = cell.source.splitlines()[0].removeprefix("# @title ")
            cell.metadata.setdefault("mystnb", {}).update(
                {"code_prompt_show": title, "code_prompt_hide": title}
            )
            cell.metadata["jupyter"] = {"source_hidden": True, "outputs_hidden": True}
            cell.metadata["cellView"] = "form"
    return notebook


def write(notebook: Any, source: Path, before: str) -> bool:
    """Store the notebook and say whether its file changed."""
    after = nbformat.writes(notebook) + "\n"
    if after != before:
        source.with_suffix(".ipynb").write_text(after, encoding="utf-8")
    return after != before


def half_written(source: Path) -> list[str]:
    """What is not closed in a `.md`, or stands where it cannot: each with its line."""
    text = source.read_text(encoding="utf-8")
    header = re.match(r"---\n(?:(?!#|`).*\n)*?---\n", text)
    faults = [] if header else ["1: the header is missing, or not closed"]
    opened: dict[str, int] = {}
    pairs = {"<details>": "</details>", "$$": "$$"}
    fence = ""
    for number, line in enumerate(text.splitlines(), start=1):
        begins = re.match(r"(`{3,})(.*)", line)
        if begins and fence:
            if begins[1] == fence and not begins[2].strip():
                fence = ""
                del opened["```"]
            elif begins[2].startswith("{"):
                faults.append(f"{number}: a cell begins in another, which is not closed")
            continue
        if begins:
            fence, opened["```"] = begins[1], number
        if fence:
            continue
        if line.count("<!--") != line.count("-->"):
            faults.append(f"{number}: a comment that is not closed in its line")
        for begin, end in pairs.items():
            if line.strip() == end and begin in opened:
                del opened[begin]
            elif line.strip() == begin:
                if begin in opened:
                    faults.append(f"{number}: {begin} in another, which is not closed")
                opened[begin] = number
            elif line.strip() == end:
                faults.append(f"{number}: {end} closes nothing")
    faults += [f"{number}: {begin} is not closed" for begin, number in opened.items()]
    return [f"{FOLDER.name}/{source.name}:{fault}" for fault in faults]


def check_text(source: Path) -> None:
    """Leave where a `.md` is half written, or the numbers in its prose are not what they should be."""
    faults = half_written(source)
    try:
        cells = [] if faults else jupytext.read(source).cells
    except Exception as error:  # of the header, or of a cell's: whatever YAML and jupytext say of it
        cells, faults = [], [f"{FOLDER.name}/{source.name}: {' '.join(str(error).split())}"]
    for cell in cells:
        tags = cell.metadata.get("tags", [])
        if prose.COMMENT.search(json.dumps(cell.metadata) + cell.source * (cell.cell_type == "code")):
            fault = "numbers are marked in prose, not in code or captions"
        elif "solution" in tags and not cell.source.startswith("# @title Solution to exercise "):
            fault = "a solution begins with the line # @title Solution to exercise …"
        else:
            continue
        faults.append(f"{FOLDER.name}/{source.name}: {fault}:\n{cell.source}")
    try:
        find(source)
        update_pages(check=True)
    except NumbersError as error:
        faults += str(error).splitlines()
    if faults:
        sys.exit("\n".join(faults) + "\nNothing was executed.")


def check(source: Path) -> None:
    """Leave where `check_text` would, or where ruff would have the code otherwise."""
    check_text(source)
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


def find(source: Path) -> list[Number]:
    """The numbers in a chapter's prose."""
    return prose.find(source, source.read_text(encoding="utf-8"), source.name[:2])


def update_pages(*, check: bool = False) -> None:
    """Let the pages in book/ show what the chapters do; or only leave where one cannot."""
    chapters = {source.name[:2]: find(source) for source in sorted(FOLDER.glob("*.md"))}
    for page in sorted((FOLDER.parent / "book").glob("*.md")):
        text = page.read_text(encoding="utf-8")
        after = prose.rewrite(text, prose.on_page(page, text, chapters))
        if after != text and not check:
            page.write_text(after, encoding="utf-8")


def execute(source: Path) -> bool:
    """Execute one notebook, write its numbers anew, and say whether its file changed."""
    notebook, before = read(source)
    client = NotebookClient(
        notebook,
        timeout=600,
        record_timing=False,  # times would differ from run to run
        coalesce_streams=True,  # and so would the pieces in which a text arrives
        resources={"metadata": {"path": FOLDER}},
    )
    text = source.read_text(encoding="utf-8")
    wanted = find(source)
    asked = nbformat.v4.new_code_cell(prose.question(wanted))
    notebook.cells.append(asked)  # in the same kernel, when all has run
    client.execute(stderr=subprocess.DEVNULL)  # TensorFlow's chatter; errors come as messages
    notebook.cells.pop()
    printed = "".join(output.get("text", "") for output in asked.outputs)
    texts = [answer.text for answer in prose.answers(wanted, printed)]
    if source.read_text(encoding="utf-8") != text:
        sys.exit(
            f"{source.name} was edited while it was executed. Nothing was written: execute it again."
        )
    in_cells = iter(texts)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = prose.rewrite(cell.source, in_cells)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            shrink(output.get("data", {}))
    notebook.metadata.language_info.pop("version", None)
    after = prose.rewrite(text, texts)
    if after != text:
        source.write_text(after, encoding="utf-8")
    changed = write(notebook, source, before)
    update_pages()
    return changed


def take_text(source: Path) -> bool:
    """Take over everything but code, keep the outputs, and say whether the file changed."""
    check_text(source)
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
        try:
            update_pages()
        except NumbersError as error:
            sys.exit(str(error))
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
        except (CellExecutionError, NumbersError) as error:
            said = error.traceback if isinstance(error, CellExecutionError) else error
            sys.exit(f"{said}\n{source.stem} failed; its stored outputs are as they were.")
        seconds = time.perf_counter() - start
        print(f"   {'changed' if changed else 'unchanged'}, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("name", nargs="?")
    parser.add_argument("--text", action="store_true")
    main(**vars(parser.parse_args()))
