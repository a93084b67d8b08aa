"""The public address: one place holds it, everything else follows, and it can be cleared again."""

import importlib.util
import re
import shutil
import tomllib
import types
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml
from IPython.core.inputtransformer2 import TransformerManager

from tools import repository

URL = "https://github.com/some-owner/some.book"


@pytest.fixture
def copy(root: Path, tmp_path: Path) -> Path:
    """The files that hold the address, elsewhere."""
    for file in tracked(root):
        target = tmp_path / file.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    return tmp_path


def tracked(root: Path) -> list[Path]:
    notebooks = [*root.glob("notebooks/*.ipynb"), *root.glob("notebooks/*.md")]
    heads = [root / "book" / "site" / "index.html", root / "book" / "site" / "playground" / "index.html"]
    pages = [root / "README.md", root / "book" / "index.md", *heads]
    return [root / "_config.yml", root / "CITATION.cff", *pages, *notebooks]


def contents(root: Path) -> dict[str, str]:
    return {str(file.relative_to(root)): file.read_text(encoding="utf-8") for file in tracked(root)}


def test_everything_follows_from_the_stored_address(copy: Path) -> None:
    before = contents(copy)
    repository.set_address(repository.stored_address(copy), copy)
    assert contents(copy) == before


def test_setting_and_clearing(copy: Path) -> None:
    repository.set_address("", copy)
    without = contents(copy)
    assert not any("github.com" in without[file] for file in ("README.md", "book/index.md"))
    assert 'colab_url: ""' in without["_config.yml"]
    assert "use_repository_button: false" in without["_config.yml"]

    repository.set_address(URL, copy)
    assert repository.stored_address(copy) == URL
    with_address = contents(copy)
    assert 'colab_url: "https://colab.research.google.com"' in with_address["_config.yml"]
    assert "use_repository_button: true" in with_address["_config.yml"]
    site = "https://some-owner.github.io/some.book/"
    for line in (f'baseurl: "{site}"', f'ogp_site_url: "{site}"', f'ogp_image: "{site}preview.png"'):
        assert line in with_address["_config.yml"]
    for file in ("book/site/index.html", "book/site/playground/index.html"):
        assert f'content="{site}preview.png"' in with_address[file]
        assert "preview.png" not in without[file]
    cited = yaml.safe_load(with_address["CITATION.cff"])
    assert (cited["repository-code"], cited["url"]) == (URL, site)
    assert not {"repository-code", "url"} & set(yaml.safe_load(without["CITATION.cff"]))
    for file in ("README.md", "book/index.md"):
        assert f"git clone {URL}" in with_address[file]
        assert "https://colab.research.google.com/github/some-owner/some.book" in with_address[file]
    for file, text in with_address.items():
        if file.startswith("notebooks"):
            quote = '\\"' if file.endswith(".ipynb") else '"'
            assert f"REPOSITORY = {quote}{URL}{quote}" in text

    repository.set_address("", copy)
    assert contents(copy) == without


@pytest.mark.parametrize(
    ("url", "site"),
    [
        ("", ""),
        ("https://github.com/Owner/Name", "https://owner.github.io/Name/"),
        ("https://github.com/owner/owner.github.io", "https://owner.github.io/"),
    ],
)
def test_address_of_the_site(url: str, site: str) -> None:
    assert repository.site_address(url) == site


@pytest.mark.parametrize(
    "url",
    ["github.com/owner/name", "http://github.com/owner/name", f"{URL}/", f"{URL}.git", f'{URL}" #', "x"],
)
def test_bad_address_changes_nothing(copy: Path, url: str) -> None:
    before = contents(copy)
    with pytest.raises(ValueError, match="URL must look like"):
        repository.set_address(url, copy)
    assert contents(copy) == before


def test_a_file_without_its_place_is_an_error_and_changes_nothing(copy: Path) -> None:
    (copy / "README.md").write_text("no marks", encoding="utf-8")
    before = contents(copy)
    with pytest.raises(ValueError, match=r"README.md: expected one place"):
        repository.set_address(URL, copy)
    assert contents(copy) == before


def run_setup(root: Path, installed: bool, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Run the setup cell of the first notebook and return the magic lines that it called."""
    lines: list[str] = []
    namespace: dict[str, Any] = {
        "get_ipython": lambda: types.SimpleNamespace(
            # As IPython does, put variables into the line.
            run_line_magic=lambda name, line: lines.append(f"%{name} {line}".format(**namespace))
        )
    }
    notebook = nbformat.read(min(root.glob("notebooks/*.ipynb")), as_version=4)
    setup = next(cell for cell in notebook.cells if "setup" in cell.metadata.get("tags", []))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: installed or None)
    for name in ("TF_CPP_MIN_LOG_LEVEL", "TF_ENABLE_ONEDNN_OPTS"):
        monkeypatch.setenv(name, "1")  # the cell leaves them as they are
    exec(TransformerManager().transform_cell(setup.source), namespace)
    return lines


@pytest.mark.parametrize("url", ["", URL])
def test_setup_cell_does_nothing_where_advlib_is_installed(
    copy: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    repository.set_address(url, copy)
    assert run_setup(copy, True, monkeypatch) == []


def test_setup_cell_says_what_to_do_without_an_address(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.set_address("", copy)
    with pytest.raises(ModuleNotFoundError, match=r"run `pip install \.` in a copy of its repository"):
        run_setup(copy, False, monkeypatch)


def test_setup_cell_installs_advlib_alone_from_the_address(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.set_address(URL, copy)
    assert run_setup(copy, False, monkeypatch) == [
        f"%pip install --quiet --no-deps {URL}/archive/HEAD.zip"
    ]


def read(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def test_version_is_the_same_wherever_it_is_cited(root: Path) -> None:
    version = tomllib.loads(read(root / "pyproject.toml"))["project"]["version"]
    cited = yaml.safe_load(read(root / "CITATION.cff"))
    assert str(cited["version"]) == version
    assert cited["title"] == yaml.safe_load(read(root / "_config.yml"))["title"]
    assert f"version {version}" in read(root / "book" / "index.md")


def test_commands_that_the_pages_name_exist(root: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", read(root / "Makefile"), re.MULTILINE))
    for page in ("README.md", "CONTRIBUTING.md", "book/troubleshooting.md", "book/index.md"):
        named = re.findall(r"(?:^|`)make((?: [a-z]+)+)", read(root / page), re.MULTILINE)
        assert {name for names in named for name in names.split()} <= targets, page


def test_files_that_the_guide_names_exist(root: Path) -> None:
    for page in ("README.md", "CONTRIBUTING.md"):
        for name in re.findall(
            r"`((?:[a-z_.]+/)+[A-Za-z0-9_.-]*|[a-z_]+\.(?:yml|toml))`", read(root / page)
        ):
            if "09_" not in name:
                assert (root / name).exists(), f"{page}: {name}"


def test_messages_that_the_help_page_quotes_are_given_somewhere(root: Path) -> None:
    sources = [
        *root.glob("advlib/**/*.py"),
        *root.glob("book/site/**/*.*"),
        root / "Makefile",
        root / "tools" / "serve.py",
    ]
    said = "".join(read(file) for file in [*sources, *root.glob("notebooks/01*.md")])
    # What stands in braces is filled in; what stands in two pieces is one.
    said = re.sub(r'"\s*\n\s*f?"', "", said)
    quoted = re.findall(r"```text\n(.*?)\n```", read(root / "book" / "troubleshooting.md"))
    assert len(quoted) > 5
    for message in quoted:
        pieces = [piece.strip() for piece in message.split("…") if piece.strip()]
        pattern = r".{0,40}".join(map(re.escape, pieces))
        pattern = pattern.replace("mnist\\.npz", r"\{path\.name\}")
        pattern = pattern.replace("MNIST", r"(?:MNIST|\{[a-z.]*title\})")
        assert re.search(pattern, said), message
