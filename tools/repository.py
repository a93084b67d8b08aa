"""Set the public address of the repository, or clear it, wherever it is needed.

    python tools/repository.py https://github.com/owner/name
    python tools/repository.py ""

`_config.yml` holds the address (`repository.url`); the buttons of the site, the setup cell of each
notebook and the marked lines of the README and the landing page follow from it.
"""

import re
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
ADDRESS = re.compile(r"https://github\.com/[A-Za-z0-9-]+/[A-Za-z0-9._-]+")
COLAB = "https://colab.research.google.com"

MARKED = re.compile(r"(<!-- repository -->\n).*?(\n<!-- end of repository -->)", re.DOTALL)
# In the setup cell; in the .ipynb, which is JSON, the quotes are escaped.
SETUP = re.compile(r'(REPOSITORY = \\?")[^"\\]*')


def stored_address(root: Path = ROOT) -> str:
    """The address that `_config.yml` holds; empty where none is known."""
    config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
    return str(config["repository"]["url"])


def how_to_get(url: str) -> str:
    """The marked lines: how to get the book, and how to open it in Colab."""
    if not url:
        return (
            "The public address of the repository is not set yet (`make repository URL=…` sets it):\n"
            "work in the copy that you have."
        )
    colab = f"{COLAB}/github/{url.removeprefix('https://github.com/')}"
    return (
        f"Get it with `git clone {url}`, or\n[open the notebooks in Colab]({colab}) and install nothing."
    )


def set_address(url: str, root: Path = ROOT) -> None:
    """Write the address, or its absence, into every file that needs it."""
    if url and not ADDRESS.fullmatch(url):
        raise ValueError(f"URL must look like https://github.com/owner/name or be empty, got {url!r}")
    known = str(bool(url)).lower()
    rewrite(
        root / "_config.yml",
        (r"^(  url: ).*$", f'"{url}"'),
        (r"^(  colab_url: ).*$", f'"{COLAB if url else ""}"'),
        (r"^(  use_repository_button: ).*$", known),
        (r"^(  use_issues_button: ).*$", known),
    )
    for notebook in sorted((root / "notebooks").glob("*.ipynb")):
        rewrite(notebook, (SETUP, url))
        rewrite(notebook.with_suffix(".md"), (SETUP, url))
    for page in (root / "README.md", root / "book" / "index.md"):
        rewrite(page, (MARKED, how_to_get(url)))


def rewrite(path: Path, *changes: tuple[str | re.Pattern[str], str]) -> None:
    """Put each text behind its pattern's first group and before its second."""
    text = path.read_text(encoding="utf-8")
    for pattern, new in changes:
        compiled = re.compile(pattern, re.MULTILINE)
        ends = r"\g<2>" if compiled.groups == 2 else ""
        text, count = compiled.subn(rf"\g<1>{new}{ends}", text)
        if count != 1:
            raise ValueError(f"{path.name}: expected one place for {compiled.pattern!r}, found {count}")
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        set_address(sys.argv[1])
    except ValueError as error:
        sys.exit(str(error))
