"""The built site (`make book` first): links, weight, descriptions; in Chromium where there is one."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from bs4 import BeautifulSoup, Tag
from playwright.sync_api import Browser, Page, sync_playwright

from tools import repository

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "_build" / "html"
AXE = ROOT / "_build" / "npm" / "node_modules" / "axe-core" / "axe.min.js"
PAGES = sorted(path for path in SITE.rglob("*.html") if "_static" not in path.parts)
CHAPTERS = [page for page in PAGES if page.parent.name == "notebooks"]
HEAVIEST = 1_500_000  # bytes of a page with everything that it loads

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(SITE)))
every_chapter = pytest.mark.parametrize("page", CHAPTERS, ids=lambda path: path.stem)
both_modes = pytest.mark.parametrize("mode", ["light", "dark"])


def soup(page: Path) -> BeautifulSoup:
    return BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")


def addresses(tag: Tag) -> list[str]:
    """Every address that a tag holds."""
    found = [str(tag[name]) for name in ("href", "src", "poster", "data") if tag.has_attr(name)]
    return found + [part.split()[0] for part in str(tag.get("srcset", "")).split(",") if part.strip()]


def test_the_site_is_there() -> None:
    names = {str(page.relative_to(SITE)) for page in PAGES}
    assert {"index.html", "book/index.html", "book/threat_models.html", "book/notation.html"} <= names
    assert {f"notebooks/{path.stem}.html" for path in ROOT.glob("notebooks/*.ipynb")} <= names


@every_page
def test_every_internal_link_and_anchor_resolves(page: Path) -> None:
    for tag in soup(page).find_all(["a", "link", "script", "img", "source", "iframe"]):
        for address in addresses(tag):
            parts = urlsplit(address)
            if parts.scheme in {"http", "https", "mailto", "data"}:
                continue
            assert not parts.scheme, address
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            assert target.is_file(), f"{address} on {page.name}"
            anchor = unquote(parts.fragment)
            if anchor and target.suffix == ".html":
                assert soup(target).find(id=anchor), f"{address} on {page.name}"


@every_page
def test_nothing_is_loaded_from_a_third_party(page: Path) -> None:
    loaders = soup(page).find_all(
        ["script", "img", "source", "iframe", "video", "audio", "object", "embed"]
    )
    loaders += [link for link in soup(page).find_all("link") if "canonical" not in link["rel"]]
    for tag in loaders:
        for address in addresses(tag):
            assert not address.startswith(("http:", "https:", "//")), address


def test_no_style_sheet_loads_from_a_third_party() -> None:
    for sheet in SITE.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        assert not re.search(r"(url\(|@import)\s*['\"]?\s*(https?:)?//", text), sheet


@every_page
def test_every_image_has_a_description(page: Path) -> None:
    html = soup(page)
    for image in html.find_all("img"):
        assert str(image.get("alt", "")).strip(), image
    for drawing in html.find_all("svg", class_="threat-models"):
        assert drawing["role"] == "img"
        assert all(html.find(id=name) for name in str(drawing["aria-labelledby"]).split())


@every_chapter
def test_chapter_shows_its_run_time_figures_and_outputs(page: Path) -> None:
    html = soup(page)
    assert "Run time:" in html.get_text()
    figures = html.select("div.cell_output figure, figure")
    assert len(figures) >= 1
    for figure in figures:
        assert figure.find("figcaption"), figure
    for image in html.select("div.cell_output img"):
        assert len(str(image["alt"])) > 60


def test_no_buttons_lead_astray_without_an_address() -> None:
    if not repository.stored_address():
        for page in CHAPTERS:
            assert "colab.research.google.com" not in page.read_text(encoding="utf-8")
            assert "github.com" not in str(soup(page).select(".article-header-buttons"))


def test_with_an_address_buttons_and_links_follow(tmp_path: Path) -> None:
    names = ["_config.yml", "_toc.yml", "README.md", "book", "notebooks"]
    for name in names:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name)
        else:
            shutil.copy(source, tmp_path)
    (tmp_path / "_build").mkdir()
    (tmp_path / "_build" / "assets").symlink_to(ROOT / "_build" / "assets")
    url = "https://github.com/some-owner/some-book"
    repository.set_address(url, tmp_path)
    build = subprocess.run(
        ["jupyter-book", "build", ".", "--all", "--warningiserror", "--nitpick", "--quiet"],
        cwd=tmp_path,
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert build.returncode == 0, build.stderr
    for chapter in CHAPTERS:
        html = soup(tmp_path / "_build" / "html" / chapter.relative_to(SITE))
        links = [str(link["href"]) for link in html.find_all("a", href=True)]
        colab = "https://colab.research.google.com/github/some-owner/some-book/blob/main/notebooks/"
        assert f"{colab}{chapter.stem}.ipynb" in links
        assert url in links
        assert f'REPOSITORY = "{url}"' in html.get_text()
    assert f"git clone {url}" in soup(tmp_path / "_build" / "html" / "book" / "index.html").get_text()


# --- in a browser ---------------------------------------------------------------------------------

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MACOS = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = [path for path in (*map(shutil.which, NAMES), shutil.which(MACOS)) if path]
    if not found:
        pytest.skip("no Chromium: install it (Debian: apt install chromium) to test pages in a browser")
    with sync_playwright() as playwright:
        # --no-sandbox: Chromium refuses to start as root otherwise, as in containers.
        chromium = playwright.chromium.launch(
            executable_path=found[0], args=["--no-sandbox", "--disable-gpu", "--disable-quic"]
        )
        yield chromium
        chromium.close()


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
        self.page.goto(path.as_uri(), wait_until="networkidle")

    def __enter__(self) -> "Visit":
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()


@both_modes
@every_page
def test_page_in_chromium(browser: Browser, page: Path, mode: str) -> None:
    with Visit(browser, page, mode) as visit:
        assert visit.errors == []
        assert visit.page.evaluate("document.documentElement.dataset.theme") == mode
        outside = {url for url in visit.requested if not url.startswith(("file:", "data:"))}
        assert outside == set()
        files = {Path(unquote(urlsplit(url).path)) for url in visit.requested if url.startswith("file:")}
        assert sum(file.stat().st_size for file in files) <= HEAVIEST
        assert visit.page.locator(".katex-error").count() == 0
        visit.page.add_script_tag(path=AXE)
        found = visit.page.evaluate("axe.run().then(found => found.violations)")
        serious = [
            (violation["id"], [node["html"] for node in violation["nodes"]])
            for violation in found
            if violation["impact"] in ("serious", "critical")
        ]
        assert serious == []


@every_page
def test_page_fits_a_narrow_screen(browser: Browser, page: Path) -> None:
    with Visit(browser, page, width=400) as visit:
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= 400


@every_chapter
def test_maths_is_rendered_and_code_can_be_copied(browser: Browser, page: Path) -> None:
    with Visit(browser, page) as visit:
        formulas = visit.page.locator(".katex")
        assert formulas.count() > 5
        assert formulas.first.bounding_box() is not None
        fonts = visit.page.evaluate(
            "[...document.fonts].filter(font => font.status === 'loaded').map(font => font.family)"
        )
        assert "KaTeX_Main" in fonts
        text = visit.page.locator("article").inner_text()
        assert "$" not in re.sub(r"\\\$", "", text)
        cells = visit.page.locator("div.cell_input div.highlight")
        assert cells.count() == visit.page.locator("div.cell_input button.copybtn").count() > 5
        cell = visit.page.locator("div.cell_input:visible").first
        cell.hover()
        cell.locator("button.copybtn").click()
        # What was copied, as a reader would see it: pasted.
        visit.page.evaluate("document.body.prepend(document.createElement('textarea'))")
        pasted = visit.page.locator("textarea").first
        pasted.focus()
        visit.page.keyboard.press("ControlOrMeta+V")
        assert pasted.input_value().strip() == cell.locator("pre").inner_text().strip()


def test_search_works_without_a_server(browser: Browser) -> None:
    with Visit(browser, SITE / "search.html") as visit:
        visit.page.goto((SITE / "search.html").as_uri() + "?q=confusion")
        link = visit.page.locator("#search-results a", has_text="Train the classifier").first
        link.wait_for(timeout=10_000)
        assert visit.errors == []
