"""The notebooks as files: paired, executed in order, complete, described, their numbers computed."""

import ast
import base64
import io
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import numpy as np
import PIL.Image
import pytest
import yaml

from tools import notebooks, prose, repository

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LARGEST = 1_000_000  # bytes
COUNTS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def code(path: Path) -> list[Any]:
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def markdown(path: Path) -> str:
    return "\n\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")


def in_pair(path: Path) -> list[Any]:
    """What the two files of a pair share of every cell; of the `.md` with what follows from its tags."""
    kept = ("tags", "mystnb", "jupyter", "cellView")
    notebook = jupytext.read(path)
    if path.suffix == ".md":
        notebooks.dress(notebook)
    return [
        (cell.cell_type, cell.source, {key: cell.metadata[key] for key in kept if key in cell.metadata})
        for cell in notebook.cells
    ]


@every_notebook
def test_pair_is_in_step(path: Path) -> None:
    name = path.name[:2]
    assert in_pair(path) == in_pair(path.with_suffix(".md")), (
        f"make notebook NAME={name}, or, if only text changed, make text NAME={name}"
    )


def test_no_pair_is_missing() -> None:
    assert [path.stem for path in NOTEBOOKS] == sorted(path.stem for path in ROOT.glob("notebooks/*.md"))


def test_table_of_contents_lists_every_notebook_in_order() -> None:
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    files = [chapter["file"] for part in contents["parts"] for chapter in part["chapters"]]
    listed = [file for file in files if file.startswith("notebooks/")]
    assert listed == [f"notebooks/{path.stem}" for path in NOTEBOOKS]


@every_notebook
def test_executed_in_order_without_errors(path: Path) -> None:
    cells = code(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        assert all(output.output_type != "error" for output in cell.outputs), cell.source
        assert all(output.get("name") != "stderr" for output in cell.outputs), cell.source
        if "nbval-check-output" in cell.metadata.get("tags", []):
            assert cell.outputs, f"nothing to check: {cell.source}"
    checked = sum("nbval-check-output" in cell.metadata.get("tags", []) for cell in cells)
    assert checked >= 2, "tag at least two cells nbval-check-output: their outputs will be compared"


@every_notebook
def test_stored_outputs_are_of_mnist(path: Path) -> None:
    texts = [output.get("text", "") for cell in code(path) for output in cell.outputs]
    assert any("MNIST: 60,000 training and 10,000 test digits" in text for text in texts)


@every_notebook
def test_size(path: Path) -> None:
    assert path.stat().st_size < LARGEST


@every_notebook
def test_every_figure_has_a_caption_and_a_description(path: Path) -> None:
    figures = 0
    for cell in code(path):
        shown = [output.get("data", {}) for output in cell.outputs]
        images = sum("image/png" in data for data in shown)
        sliders = [data["text/html"] for data in shown if 'class="slider"' in data.get("text/html", "")]
        settings = cell.metadata.get("mystnb", {})
        assert images + len(sliders) == ("figure" in settings), f"one figure a cell: {cell.source}"
        # A slider brings a description for each of its figures.
        assert images == ("image" in settings), f"a figure is described in its cell: {cell.source}"
        if "figure" in settings:
            figures += 1
            assert len(settings["figure"]["caption"]) > 20
            name = settings["figure"]["name"]
            assert re.fullmatch(r"fig-[a-z-]+", name), f"{name}: fig-, then small letters and hyphens"
        descriptions = [settings["image"]["alt"]] if images else []
        for html in sliders:
            descriptions += re.findall(r'"description": "(.*?)"', html)
        assert all(len(description) > 60 for description in descriptions)
        assert len(set(descriptions)) == len(descriptions)
    assert figures > 0


def test_no_two_figures_of_the_book_share_a_name() -> None:
    figures = [
        cell.metadata.get("mystnb", {}).get("figure") for path in NOTEBOOKS for cell in code(path)
    ]
    names = Counter(figure["name"] for figure in figures if figure)
    shared = [name for name, count in names.items() if count > 1]
    assert not shared, f"rename in one of the chapters: {shared}"


@every_notebook
def test_landing_page_lists_the_chapter_as_it_calls_itself(path: Path) -> None:
    text = markdown(path)
    title = text.splitlines()[0].removeprefix("# ")
    minutes = re.search(r"\*\*Run time:\*\* about (\w+) minute", text)
    assert minutes, "say **Run time:** about … minutes"
    count = COUNTS.index(minutes[1])
    first = f"| [{title}](../notebooks/{path.name}) |"
    last = f"| about {count} minute{'s' if count > 1 else ''} |"
    rows = (ROOT / "book" / "index.md").read_text(encoding="utf-8").splitlines()
    assert any(row.startswith(first) and row.endswith(last) for row in rows), (
        f"book/index.md: the table needs a row {first} … {last}"
    )


@pytest.mark.parametrize("colours", [3, 400])
def test_what_is_clear_in_a_stored_figure_stays_clear(colours: int) -> None:
    random = np.random.default_rng(0)
    palette = np.concatenate([random.integers(0, 256, (colours, 3)), np.full((colours, 1), 255)], axis=1)
    pixels = palette[random.integers(0, colours, (60, 60))].astype(np.uint8)
    pixels[10:50, 20:40] = 0
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, "PNG")
    small = notebooks.smaller(base64.b64encode(file.getvalue()).decode())
    found = np.asarray(PIL.Image.open(io.BytesIO(base64.b64decode(small))).convert("RGBA"))
    np.testing.assert_array_equal(found[..., 3], pixels[..., 3])
    error = np.abs(found.astype(int) - pixels)[pixels[..., 3] > 0]
    assert error.max() <= (0 if colours == 3 else 64)


@pytest.mark.parametrize("form", ["image/png", "text/html"])
def test_stored_figures_are_made_smaller_and_look_the_same(form: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 4, (60, 60, 3), np.uint8) * 80
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, "PNG")
    png = base64.b64encode(file.getvalue()).decode()
    around = ("", "\n") if form == "image/png" else ('<img src="data:image/png;base64,', '"> and more')
    data = {form: around[0] + png + around[1], "text/plain": png}
    notebooks.shrink(data)
    assert data["text/plain"] == png
    assert data[form].startswith(around[0])
    assert data[form].endswith(around[1])
    smaller = data[form].removeprefix(around[0]).removesuffix(around[1])
    assert len(smaller) < len(png)
    image = PIL.Image.open(io.BytesIO(base64.b64decode(smaller, validate=True)))
    np.testing.assert_array_equal(np.asarray(image.convert("RGB")), pixels)


@every_notebook
def test_cells_are_short_and_markdown_is_plain(path: Path) -> None:
    for cell in code(path):
        # The first line of a solution is its title; it is folded away, and one cell.
        longest = 18 if "solution" in cell.metadata.get("tags", []) else 16
        assert len(cell.source.splitlines()) <= longest, cell.source
    text = markdown(path)
    special = re.findall(r"^(?:```|:::+)\{.*|\{[a-z:]+\}`[^`]*`?", text, re.MULTILINE)
    assert not special, f"Colab knows neither directives nor roles; link instead of {special}"


@every_notebook
def test_chapter_has_the_parts_of_the_pattern(path: Path) -> None:
    text = markdown(path)
    number = int(path.name[:2])
    assert text.startswith(f"# {number} · ")
    parts = [
        *("**What you will do**", "**What you will learn**", "**What you need:**", "**Run time:**"),
        *("## Setup", "## Exercises", "<details>", "## In this chapter we", "**What comes next.**"),
    ]
    places = [text.find(part) for part in parts]
    missing = [part for part, place in zip(parts, places, strict=True) if place == -1]
    assert not missing, f"parts that every chapter has: {missing}"
    assert places == sorted(places), f"the parts come in this order: {parts}"


@every_notebook
def test_setup_cell_is_the_same_everywhere(path: Path) -> None:
    setup, *others = code(path)
    assert setup.metadata["tags"] == ["setup", "hide-input"]
    assert setup.source == code(NOTEBOOKS[0])[0].source
    assert f'REPOSITORY = "{repository.stored_address()}"' in setup.source
    assert not setup.outputs
    assert not any("setup" in cell.metadata.get("tags", []) for cell in others)


@every_notebook
def test_solutions_are_cells_that_are_folded_away_and_explained(path: Path) -> None:
    cells = read(path).cells
    places = [i for i, cell in enumerate(cells) if "solution" in cell.metadata.get("tags", [])]
    assert len(places) >= 2
    for number, place in enumerate(places, start=1):
        title = f"Solution to exercise {number}"
        cell, question, explained = cells[place], cells[place - 1], cells[place + 1]
        assert f"**{number}. " in question.source
        assert cell.source.splitlines()[0] == f"# @title {title}"
        assert cell.outputs, f"its output is stored: make notebook NAME={path.name[:2]}"
        # On the site, in JupyterLab, and in Colab.
        assert "hide-cell" in cell.metadata["tags"]
        assert cell.metadata["mystnb"]["code_prompt_show"] == title
        assert cell.metadata["jupyter"] == {"source_hidden": True, "outputs_hidden": True}
        assert cell.metadata["cellView"] == "form"
        assert explained.source.startswith(
            f"<details>\n<summary>What exercise {number} shows</summary>\n\n"
        )
    first = cells[places[0] - 1].source
    assert "## Exercises" in first


# --- numbers in prose ------------------------------------------------------------------------------


@every_notebook
def test_every_measured_number_in_prose_says_how_it_is_computed(path: Path) -> None:
    source = path.with_suffix(".md")
    assert notebooks.half_written(source) == []
    bare = prose.unmarked(source, jupytext.read(source).cells)
    assert not bare, "mark them, 38.5%<!-- = misread.value:.1% -->, or cite:\n" + "\n".join(bare)


@every_notebook
def test_what_a_number_is_computed_from_means_one_thing(path: Path) -> None:
    # It is computed when all cells have run, and the sentence speaks of the cells before it.
    wanted = {
        name.id
        for number in notebooks.find(path.with_suffix(".md"))
        for name in ast.walk(ast.parse(number.expression))
        if isinstance(name, ast.Name)
    }
    cells = [prose.parsed(cell.source) for cell in code(path)]
    bound = Counter(name for cell in cells for name in {*assigned(cell)} & wanted)
    several = [name for name, count in bound.items() if count > 1]
    assert not several, f"numbers in prose use names that several cells assign: {several}"


def assigned(tree: ast.Module) -> Iterator[str]:
    """The names that a cell assigns at its outermost level, in loops, too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
    scopes = ast.FunctionDef | ast.Lambda | ast.GeneratorExp | ast.ListComp | ast.DictComp
    inside = {name for node in ast.walk(tree) if isinstance(node, scopes) for name in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node not in inside:
            yield node.id


def test_pages_show_what_the_chapters_show() -> None:
    chapters = {path.name[:2]: notebooks.find(path.with_suffix(".md")) for path in NOTEBOOKS}
    shown = 0
    for page in sorted((ROOT / "book").glob("*.md")):
        text = page.read_text(encoding="utf-8")
        expected = prose.on_page(page, text, chapters)
        shown += len(expected)
        assert prose.rewrite(text, expected) == text, f"make text NAME=01 mends {page.name}"
    assert shown > 0
