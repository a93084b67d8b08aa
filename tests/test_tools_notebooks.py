"""The tool that executes notebooks: what it refuses before it does, and text taken over without it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests.test_notebooks import in_pair
from tools import notebooks

CHAPTER = """---
jupytext:
  cell_metadata_filter: tags,mystnb
  formats: ipynb,md:myst
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

# A chapter

```{code-cell} ipython3
---
mystnb:
  figure:
    caption: A number.
---
number = 6 * 7
number
```

And then:

```{code-cell} ipython3
:tags: [nbval-check-output]

print(number + 1)
```
"""


@pytest.fixture(scope="module")
def executed(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small book of one chapter, executed."""
    book = tmp_path_factory.mktemp("book")
    folder = book / "notebooks"
    folder.mkdir()
    shutil.copy(root / "pyproject.toml", book)
    shutil.copy(root / "notebooks" / "ruff.toml", folder)
    (folder / "03_tiny.md").write_text(CHAPTER, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(notebooks, "FOLDER", folder)
        assert notebooks.execute(folder / "03_tiny.md")
    return book


@pytest.fixture
def source(executed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The chapter of a copy of that book, in which from now on nothing may be executed."""
    folder = shutil.copytree(executed, tmp_path / "book") / "notebooks"
    monkeypatch.setattr(notebooks, "FOLDER", folder)
    monkeypatch.setattr(notebooks, "execute", lambda source: pytest.fail(f"{source} was executed"))
    return folder / "03_tiny.md"


def edit(source: Path, *changes: tuple[str, str]) -> None:
    text = source.read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    source.write_text(text, encoding="utf-8")


def stored(source: Path) -> Any:
    return nbformat.read(source.with_suffix(".ipynb"), as_version=4)


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize(("name", "fault"), [("", "NAME is missing"), ("3", "begins with '3'")])
def test_a_name_that_is_none_is_answered_with_those_there_are(
    source: Path, name: str, fault: str, text: bool
) -> None:
    with pytest.raises(SystemExit, match=rf"(?s){fault}\. .* make notebooks .*\n  03_tiny$"):
        notebooks.main(name, text=text)


def test_nothing_precedes_a_usage_error(root: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TF_")}
    result = subprocess.run(
        [sys.executable, root / "tools" / "notebooks.py", "no such name"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert not result.stdout
    assert result.stderr.startswith("no notebook's name begins with 'no such name'")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("number = 6*7", "+number = 6 * 7"),
        ("import os\n\nnumber = 6 * 7", "03_tiny.md:cell 2:1:8: F401 [*] `os` imported but unused"),
        (f"number = 6 * 7  # {'o' * 68}", "03_tiny.md:cell 2:1:86: E501 Line too long (86 > 85)"),
    ],
)
def test_code_that_ruff_refuses_is_not_executed(source: Path, code: str, message: str) -> None:
    edit(source, ("number = 6 * 7", code))
    with pytest.raises(SystemExit) as refusal:
        notebooks.main("03")
    assert message in str(refusal.value)
    assert "ipynb" not in str(refusal.value)
    assert "cell 4" not in str(refusal.value)  # where there is nothing to say


def test_text_is_taken_over_and_outputs_stay(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = stored(source)
    notebooks.main("03", text=True)
    assert stored(source) == before
    edit(
        source,
        ("# A chapter", "# The chapter\n\n+++\n\nOne more cell."),
        ("A number.", "Forty-two."),
        (":tags: [nbval-check-output]\n", ""),
    )
    notebooks.main("03", text=True)
    after = stored(source)
    assert in_pair(source) == in_pair(source.with_suffix(".ipynb"))
    assert after.cells[2].metadata.mystnb.figure.caption == "Forty-two."
    assert "tags" not in after.cells[-1].metadata
    code, code_before = (
        [cell for cell in each.cells if cell.cell_type == "code"] for each in (after, before)
    )
    for cell, cell_before in zip(code, code_before, strict=True):
        assert cell.outputs
        for field in ("id", "source", "outputs", "execution_count"):
            assert cell[field] == cell_before[field]
    assert after.metadata == before.metadata
    assert capsys.readouterr().out == "03_tiny: unchanged\n03_tiny: changed\n"


@pytest.mark.parametrize(
    "changes",
    [
        [("6 * 7", "6 * 8")],
        [("6 * 7", "6  *  7")],
        [("And then:", "```{code-cell} ipython3\nnumber\n```")],
        [("print(number + 1)", "number"), ("number = 6 * 7\nnumber", "print(number + 1)")],
    ],
)
def test_text_is_refused_where_code_changed(source: Path, changes: list[tuple[str, str]]) -> None:
    before = stored(source)
    edit(source, *changes, ("# A chapter", "# The chapter"))
    with pytest.raises(SystemExit, match=r"03_tiny.md: code changed: make notebook NAME=03"):
        notebooks.main("03", text=True)
    assert stored(source) == before
