"""Set the public address of the repository, or clear it, wherever it is needed.

    python tools/repository.py https://github.com/owner/name
    python tools/repository.py ""

`_config.yml` holds the address (`repository.url`); the buttons of the site, its own address on GitHub
Pages, the setup cell of each notebook, the citation file and the marked lines of the README and the
landing page follow from it.
"""

import re
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
ADDRESS = re.compile(r"https://github\.com/[A-Za-z0-9-]+/[A-Za-z0-9._-]+")
COLAB = "https://colab.research.google.com"

MARKED = r"(<!-- repository -->\n).*?(?=\n<!-- end of repository -->)"
# In the setup cell; in the .ipynb, which is JSON, the quotes are escaped.
SETUP = r'(REPOSITORY = \\?")[^"\\]*'


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


def picture(preview: str) -> str:
    """The marked line of a page's head: the picture of a link to it."""
    return f'<meta property="og:image" content="{preview}">' if preview else ""


def cited(url: str, site: str) -> str:
    """The marked lines of the citation file."""
    return f'repository-code: "{url}"\nurl: "{site}"\n' if url else ""


def site_address(url: str) -> str:
    """Where GitHub Pages publishes the site of a repository; empty where none is known."""
    if not url:
        return ""
    owner, name = url.removeprefix("https://github.com/").split("/")
    host = f"{owner.lower()}.github.io"
    return f"https://{host}/" if name.lower() == host else f"https://{host}/{name}/"


def set_address(url: str, root: Path = ROOT) -> None:
    """Write the address, or its absence, into every file that needs it."""
    if url and (not ADDRESS.fullmatch(url) or url.endswith(".git")):
        raise ValueError(f"URL must look like https://github.com/owner/name or be empty, got {url!r}")
    known = str(bool(url)).lower()
    site = site_address(url)
    preview = f"{site}preview.png" if site else ""
    changes = {
        root / "_config.yml": {
            r"^(  baseurl: )[^\n]*": f'"{site}"',
            r"^(    ogp_site_url: )[^\n]*": f'"{site}"',
            r"^(    ogp_image: )[^\n]*": f'"{preview}"',
            r"^(  url: )[^\n]*": f'"{url}"',
            r"^(  colab_url: )[^\n]*": f'"{COLAB if url else ""}"',
            r"^(  use_repository_button: )[^\n]*": known,
            r"^(  use_issues_button: )[^\n]*": known,
        },
        root / "CITATION.cff": {r"(# repository\n).*?(?=# end of repository)": cited(url, site)},
        root / "book" / "site" / "index.html": {MARKED: picture(preview)},
        root / "book" / "site" / "playground" / "index.html": {MARKED: picture(preview)},
    }
    for notebook in sorted((root / "notebooks").glob("*.ipynb")):
        changes[notebook] = changes[notebook.with_suffix(".md")] = {SETUP: url}
    for page in (root / "README.md", root / "book" / "index.md"):
        changes[page] = {MARKED: how_to_get(url)}
    # All or nothing: the first file is written when the last is known to be fine.
    for path, text in [(path, rewritten(path, places)) for path, places in changes.items()]:
        path.write_text(text, encoding="utf-8")


def rewritten(path: Path, places: dict[str, str]) -> str:
    """The file's text with each new text behind the group of its pattern, which must match once."""
    text = path.read_text(encoding="utf-8")
    for pattern, new in places.items():
        text, count = re.subn(pattern, rf"\g<1>{new}", text, flags=re.MULTILINE | re.DOTALL)
        if count != 1:
            raise ValueError(f"{path.name}: expected one place for {pattern!r}, found {count}")
    return text


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        set_address(sys.argv[1])
    except ValueError as error:
        sys.exit(str(error))
