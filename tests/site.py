"""What the tests of the built site share: its pages, as files and in a browser."""

from functools import cache
from pathlib import Path
from typing import Any

from bs4 import BeautifulSoup, Tag
from playwright.sync_api import Browser, Page

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "_build" / "html"
PAGES = sorted(path for path in SITE.rglob("*.html") if "_static" not in path.parts)
CHAPTERS = [page for page in PAGES if page.parent.name == "notebooks"]
PICTURE = "meta[property='og:image']"
PLAYGROUND = SITE / "playground" / "index.html"


@cache
def soup(page: Path) -> BeautifulSoup:
    """A page, parsed once: nobody changes it."""
    return BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")


def addresses(tag: Tag) -> list[str]:
    """Every address that a tag holds."""
    found = [str(tag[name]) for name in ("href", "src", "poster", "data") if tag.has_attr(name)]
    return found + [part.split()[0] for part in str(tag.get("srcset", "")).split(",") if part.strip()]


def said(page: Path, selector: str, attribute: str) -> str:
    """An attribute of the one tag of a page that a selector finds; empty where there is none."""
    found = soup(page).select(selector)
    assert len(found) <= 1, selector
    return str(found[0][attribute]) if found else ""


class Visit:
    """A page opened from its file, with what it requested and what it said to the console."""

    def __init__(self, browser: Browser, path: Path, mode: Any = "light", width: int = 1400) -> None:
        self.context = browser.new_context(
            color_scheme=mode, viewport={"width": width, "height": 900}, permissions=["clipboard-read"]
        )
        self.page: Page = self.context.new_page()
        self.requested: set[str] = set()
        self.errors: list[str] = []
        self.page.on("request", lambda request: self.requested.add(request.url))
        self.page.on(
            "console", lambda said: self.errors.append(said.text) if said.type == "error" else None
        )
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(path.as_uri())

    def __enter__(self) -> "Visit":
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()
