"""The built site (`make book` first): links, weight, descriptions; in Chromium where there is one."""

import io
import itertools
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import PIL.Image
import pytest
from fontTools.ttLib import TTFont
from playwright.sync_api import Browser, expect

from tests.site import CHAPTERS, PAGES, PICTURE, ROOT, SITE, Visit, addresses, said, soup
from tools import repository

AXE = ROOT / "_build" / "npm" / "node_modules" / "axe-core" / "axe.min.js"
HEAVIEST = 1_500_000  # bytes of a page with everything that it loads

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(SITE)))
# The first page leads to another at once.
every_page_that_stays = pytest.mark.parametrize(
    "page", [page for page in PAGES if page != SITE / "index.html"], ids=lambda path: path.stem
)
every_chapter = pytest.mark.parametrize("page", CHAPTERS, ids=lambda path: path.stem)


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


def test_the_font_has_the_icons_that_pages_name() -> None:
    sheet = (SITE / "_static" / "styles" / "pydata-sphinx-theme.css").read_text(encoding="utf-8")
    (address,) = re.findall(r"url\((\S*fa-solid\S*?)\) format\(.woff", sheet)
    with TTFont(SITE / "_static" / "styles" / address) as font:
        drawn = font.getBestCmap()
    classes = {
        name for page in PAGES for tag in soup(page).find_all(class_="fa-solid") for name in tag["class"]
    }
    icons = {name for name in classes if name.startswith("fa-")} - {"fa-solid", "fa-fw", "fa-lg"}
    assert len(icons) > 5
    for name in icons:
        point = re.search(rf'\.{name}:before[^{{}}]*{{content:"\\([0-9a-f]+)"}}', sheet)
        assert point, name
        assert int(point[1], 16) in drawn, name


def test_no_style_sheet_loads_from_a_third_party() -> None:
    for sheet in SITE.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        assert not re.search(r"(url\(|@import)\s*['\"]?\s*(https?:)?//", text), sheet


def test_icons_that_pages_show_are_in_the_style_sheet() -> None:
    sheet = (SITE / "_static" / "styles" / "pydata-sphinx-theme.css").read_text(encoding="utf-8")
    shown = {
        name
        for page in PAGES
        for icon in soup(page).select("[class*=fa-]")
        for name in icon["class"]
        if name.startswith("fa-")
    }
    # Others are sizes and styles.
    icons = {"fa-magnifying-glass", "fa-bars", "fa-arrow-up", "fa-angle-right", "fa-angle-left"} & shown
    assert len(icons) >= 3
    for name in icons:
        assert f".{name}:before" in sheet
    assert ".fa-fill-drip:before" not in sheet


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


@every_page
def test_head_of_the_page(page: Path) -> None:
    assert said(page, "html", "lang") == "en"
    assert soup(page).select("title")[0].get_text().strip()
    assert (page.parent / said(page, "link[rel=icon]", "href")).is_file()
    if page.name not in {"search.html", "genindex.html"}:
        assert 50 < len(said(page, "meta[name=description]", "content")) < 250
        assert said(page, "meta[property='og:title']", "content")


def test_titles_and_descriptions_tell_pages_apart() -> None:
    pages = [page for page in PAGES if page.parent.name in {"book", "notebooks"}]
    titles = {soup(page).select("title")[0].get_text() for page in pages}
    descriptions = {said(page, "meta[name=description]", "content") for page in pages}
    assert len(titles) == len(descriptions) == len(pages)


def test_no_buttons_lead_astray_without_an_address() -> None:
    if not repository.stored_address():
        for page in CHAPTERS:
            assert "colab.research.google.com" not in page.read_text(encoding="utf-8")
            assert "github.com" not in str(soup(page).select(".article-header-buttons"))
        assert not (SITE / "sitemap.xml").exists()
        assert not any(said(page, PICTURE, "content") for page in PAGES)


# --- in a browser ---------------------------------------------------------------------------------


@every_page_that_stays
def test_page_in_chromium(browser: Browser, page: Path) -> None:
    """One visit: what is loaded, light and dark; then on a phone."""
    with Visit(browser, page) as visit:
        visit.page.add_script_tag(path=AXE)
        for mode in ("light", "dark"):
            visit.page.emulate_media(color_scheme=mode)
            # In the dark only colours are others.
            assert_colours(visit, mode, [] if mode == "light" else ["color-contrast"])
        assert_fits(visit, 400)
        assert visit.page.locator(".katex-error").count() == 0
        visit.page.wait_for_load_state("networkidle")
        assert visit.errors == []
        assert {url for url in visit.requested if not url.startswith(("file:", "data:"))} == set()
        files = {Path(unquote(urlsplit(url).path)) for url in visit.requested if url.startswith("file:")}
        assert sum(file.stat().st_size for file in files - {AXE}) <= HEAVIEST


def assert_colours(visit: Visit, mode: str, rules: list[str]) -> None:
    """The paper is light or dark, and everybody can read what is on it, by axe's `rules` or by all."""
    # The theme follows the reader's system a moment later, and some colours glide.
    visit.page.wait_for_function(
        "mode => [undefined, mode].includes(document.documentElement.dataset.theme)"
        " && document.getAnimations().length === 0",
        arg=mode,
    )
    paper = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
    shades = [int(shade) for shade in re.findall(r"\d+", paper)]
    assert len(shades) == 3  # not transparent
    assert (max(shades) < 80) if mode == "dark" else (min(shades) > 200)
    found = visit.page.evaluate(
        """rules => axe.run({
          ...(rules.length ? { runOnly: rules } : {}), resultTypes: ["violations"], preload: false,
        }).then((found) => found.violations)""",
        rules,
    )
    serious = [
        (violation["id"], [node["html"] for node in violation["nodes"]])
        for violation in found
        if violation["impact"] in ("serious", "critical")
    ]
    assert serious == []


def assert_fits(visit: Visit, width: int) -> None:
    """Nothing is wider than the screen; formulas least of all, as no sign shows that one goes on."""
    visit.page.set_viewport_size({"width": width, "height": 900})
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
    cut = visit.page.evaluate(
        "[...document.querySelectorAll('div.math, div.math .katex-html')]"
        ".filter((formula) => formula.scrollWidth > formula.clientWidth + 1)"
        ".map((formula) => formula.textContent.slice(0, 40))"
    )
    assert cut == []


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


def test_the_first_page_leads_to_the_book(browser: Browser) -> None:
    with Visit(browser, SITE / "index.html") as visit:
        visit.page.wait_for_url("**/book/index.html")
        assert visit.errors == []


SLIDERS = [page for page in CHAPTERS if 'class="slider"' in page.read_text(encoding="utf-8")]


@pytest.mark.parametrize("page", SLIDERS, ids=lambda path: path.stem)
def test_a_slider_leafs_through_its_figures(browser: Browser, page: Path) -> None:
    with Visit(browser, page) as visit:
        box = visit.page.locator(".slider")
        slider, picture, shown = box.get_by_role("slider"), box.locator("img"), box.locator("output")
        seen, views = [], []
        slider.focus()
        visit.page.keyboard.press("Home")
        while True:
            expect(picture).to_have_attribute("data-frame", slider.input_value())
            seen.append((picture.get_attribute("src"), picture.get_attribute("alt"), shown.inner_text()))
            assert slider.get_attribute("aria-valuetext") == shown.inner_text()
            assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 400
            # As it is seen: a figure on white, and not only what it changes.
            view = np.asarray(PIL.Image.open(io.BytesIO(picture.screenshot())).convert("L"))
            assert (view > 240).mean() > 0.5
            views.append(view)
            if slider.input_value() == slider.get_attribute("max"):
                break
            visit.page.keyboard.press("ArrowRight")
        assert len(seen) > 5
        for each in zip(*seen, strict=True):
            assert len(set(each)) == len(seen)  # every step shows something else
        for one, other in itertools.pairwise(views):
            assert 0 < (one != other).mean() < 0.5
        assert visit.errors == []


@pytest.mark.parametrize("page", SLIDERS, ids=lambda path: path.stem)
def test_a_slider_is_a_figure_without_javascript(browser: Browser, page: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    opened = context.new_page()
    opened.goto(page.as_uri())
    assert opened.locator(".slider img").is_visible()
    assert opened.locator(".slider input").count() == 0
    context.close()


def test_chapters_with_sliders() -> None:
    assert {page.name[:2] for page in SLIDERS} == {"02", "07"}


def test_print_is_light_and_unfolded(browser: Browser) -> None:
    with Visit(browser, CHAPTERS[0], "dark") as visit:
        state = (
            "[getComputedStyle(document.body).backgroundColor,"
            " document.querySelectorAll('.bd-article details:not([open])').length]"
        )
        before = visit.page.evaluate(state)
        assert before[1] > 2
        visit.page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert visit.page.evaluate(state) == ["rgb(255, 255, 255)", 0]
        visit.page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert visit.page.evaluate(state) == before
        assert before[0] != "rgb(255, 255, 255)"


def test_an_interval_stands_on_one_line(browser: Browser) -> None:
    with Visit(browser, CHAPTERS[1], width=400) as visit:
        lines = visit.page.evaluate(
            "[...document.querySelectorAll('table.dataframe .whole')]"
            ".map((text) => text.getClientRects().length)"
        )
        assert len(lines) > 10
        assert set(lines) == {1}
