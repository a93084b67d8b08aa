"""The built site (`make book` first): links, weight, descriptions; in Chromium where there is one."""

import io
import itertools
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import keras
import numpy as np
import PIL.Image
import pytest
from bs4 import BeautifulSoup, Tag
from playwright.sync_api import Browser, Page, expect, sync_playwright

from advlib import attacks, classifier, metrics
from tools import book, repository

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


def said(page: Path, selector: str, attribute: str) -> str:
    """An attribute of the one tag of a page that a selector finds; empty where there is none."""
    found = soup(page).select(selector)
    assert len(found) <= 1, selector
    return str(found[0][attribute]) if found else ""


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


PICTURE = "meta[property='og:image']"


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


def test_with_an_address_buttons_and_links_follow(tmp_path: Path) -> None:
    names = [
        "_config.yml",
        "_toc.yml",
        "README.md",
        "CITATION.cff",
        "CONTRIBUTING.md",
        "book",
        "notebooks",
    ]
    for name in names:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name)
        else:
            shutil.copy(source, tmp_path)
    (tmp_path / "_build").mkdir()
    for name in ("assets", "site"):
        (tmp_path / "_build" / name).symlink_to(ROOT / "_build" / name)
    url = "https://github.com/some-owner/some-book"
    repository.set_address(url, tmp_path)
    assert book.build(tmp_path) == ""
    for chapter in CHAPTERS:
        html = soup(tmp_path / "_build" / "html" / chapter.relative_to(SITE))
        links = [str(link["href"]) for link in html.find_all("a", href=True)]
        colab = "https://colab.research.google.com/github/some-owner/some-book/blob/main/notebooks/"
        assert f"{colab}{chapter.stem}.ipynb" in links
        assert url in links
        assert f'REPOSITORY = "{url}"' in html.get_text()
    site = tmp_path / "_build" / "html"
    assert f"git clone {url}" in soup(site / "book" / "index.html").get_text()
    # What search engines and previews of links need: absolute addresses.
    home = "https://some-owner.github.io/some-book/"
    listed = re.findall(r"<loc>(.*?)</loc>", (site / "sitemap.xml").read_text(encoding="utf-8"))
    read = {str(page.relative_to(SITE)) for page in PAGES if page.parent.name in {"book", "notebooks"}}
    assert sorted(listed) == sorted(home + page for page in read)
    for page in read:
        assert said(site / page, "link[rel=canonical]", "href") == home + page
        assert said(site / page, "meta[property='og:url']", "content") == home + page
    for page in (*read, "index.html", "playground/index.html"):
        assert said(site / page, PICTURE, "content") == f"{home}preview.png"
    assert (site / "preview.png").is_file()


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
        paper = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
        shades = [int(shade) for shade in re.findall(r"\d+", paper)]
        assert len(shades) == 3  # not transparent
        assert (max(shades) < 80) if mode == "dark" else (min(shades) > 200)
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


def test_formulas_fit_a_phone(browser: Browser) -> None:
    """Or can at least be scrolled with the keyboard; the text shows no sign that one goes on."""
    cut = {}
    for page in PAGES:
        with Visit(browser, page, width=400) as visit:
            cut[page.name] = visit.page.evaluate(
                "[...document.querySelectorAll('div.math, div.math .katex-html')]"
                ".filter((formula) => formula.scrollWidth > formula.clientWidth + 1)"
                ".map((formula) => formula.textContent.slice(0, 40))"
            )
    assert {name: formulas for name, formulas in cut.items() if formulas} == {}


def test_an_interval_stands_on_one_line(browser: Browser) -> None:
    with Visit(browser, CHAPTERS[1], width=400) as visit:
        lines = visit.page.evaluate(
            "[...document.querySelectorAll('table.dataframe .whole')]"
            ".map((text) => text.getClientRects().length)"
        )
        assert len(lines) > 10
        assert set(lines) == {1}


# --- the playground -------------------------------------------------------------------------------

PLAYGROUND = SITE / "playground" / "index.html"
PLAYGROUND_HEAVIEST = 500_000  # bytes, all files together


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    """What was exported for the playground."""
    text = PLAYGROUND.with_name("data.js").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text.split(" = ", 1)[1].rstrip().rstrip(";"))
    return found


@pytest.fixture(scope="module")
def network(content: dict[str, Any]) -> keras.Model:
    return classifier.pretrained(content["dataset"])


@pytest.fixture
def play(browser: Browser) -> Iterator[Page]:
    with Visit(browser, PLAYGROUND) as visit:
        yield visit.page
        assert visit.errors == []


def images_shown(page: Page) -> tuple[np.ndarray, np.ndarray]:
    """The original and the changed image."""
    values = page.evaluate(
        "[Playground.state.original, Playground.state.changed].map((image) => Array.from(image))"
    )
    original, changed = np.array(values, np.float32).reshape(2, 1, 28, 28, 1)
    return original, changed


def assert_shows(page: Page, network: keras.Model) -> np.ndarray:
    """Check class, probabilities and sizes on the page against Python's; return the changed image."""
    original, changed = images_shown(page)
    shares = [
        keras.ops.convert_to_numpy(keras.ops.softmax(network(images)))[0]
        for images in (original, changed)
    ]
    for row, digit in zip(page.locator("#probabilities tbody tr").all(), range(10), strict=True):
        before, after = (
            float(text.rstrip("%")) / 100 for text in row.locator("td").all_inner_texts()[:2]
        )
        assert [before, after] == pytest.approx([share[digit] for share in shares], abs=6e-4)
    assert page.locator("tr.read th").inner_text() == str(shares[1].argmax())
    verdict = page.locator("#verdict").inner_text()
    assert f"ead as {shares[1].argmax()} ({100 * shares[1].max():.1f}%)" in verdict
    other = shares[0].argmax() != shares[1].argmax()
    drawn = page.get_by_label("draw", exact=True).is_checked()
    assert verdict.startswith("Fooled") == (other and not drawn)
    assert verdict.startswith("Changed") == (other and drawn)
    sizes = page.locator("#sizes").inner_text()
    if np.array_equal(original, changed):
        assert sizes == "Nothing is changed."
    else:
        norms = metrics.norms(original, changed)
        assert f"Pixels changed: {norms.l0[0]} of 784" in sizes
        assert f"(L2): {norms.l2[0]:.2f}." in sizes
    return changed


def test_playground_is_light(browser: Browser) -> None:
    with Visit(browser, PLAYGROUND) as visit:
        files = {Path(unquote(urlsplit(url).path)) for url in visit.requested}
        assert sum(file.stat().st_size for file in files) <= PLAYGROUND_HEAVIEST


@pytest.mark.parametrize("attack", ["fgsm", "iterated", "jsma"])
def test_an_attack_in_the_page_is_that_of_advlib(attack: str, play: Page, network: keras.Model) -> None:
    play.get_by_label("2, number 4").check(force=True)
    play.get_by_label("Attack", exact=True).select_option(attack)
    play.get_by_label("Target").select_option("3")
    slider = play.locator("#size")
    slider.fill("60" if attack == "jsma" else "0.15")
    play.get_by_role("button", name="Attack").click()
    expect(play.locator("#verdict")).to_contain_text(re.compile("Fooled|Still"))
    changed = assert_shows(play, network)
    original, _ = images_shown(play)
    target = np.array([3])
    if attack == "jsma":
        result = attacks.jsma(network, original, target, max_fraction=60 / 784)
    else:
        size, steps = (0.15, 1) if attack == "fgsm" else (0.015, 20)
        result = attacks.iterative_fgsm(
            network, original, target, epsilon=0.15, step_size=size, steps=steps, targeted=True
        )
    assert np.isclose(changed, result.images, atol=1e-6).mean() > 0.99
    assert network(changed).numpy().argmax() == network(result.images).numpy().argmax()


def test_before_any_attack(play: Page, network: keras.Model) -> None:
    np.testing.assert_array_equal(*images_shown(play))
    assert_shows(play, network)
    inside = play.locator(".activations")
    assert "Nothing is changed yet" in inside.inner_text()
    assert "Each small square" not in inside.inner_text()
    # A choice of attack is an attack.
    play.get_by_label("Attack", exact=True).select_option("iterated")
    expect(play.locator("#verdict")).to_contain_text(re.compile("Fooled|Still"))
    assert_shows(play, network)
    assert "Nothing is changed yet" not in inside.inner_text()
    assert "Each small square" in inside.inner_text()


@pytest.mark.parametrize("choice", [("Attack", "fgsm"), ("Target", "3")])
def test_every_choice_acts_at_once(choice: tuple[str, str], play: Page) -> None:
    play.get_by_label("Attack", exact=True).select_option("jsma")
    expect(play.locator("#verdict")).to_contain_text(re.compile("Fooled|Still"))
    play.get_by_role("button", name="Show the original").click()
    np.testing.assert_array_equal(*images_shown(play))
    play.get_by_label(choice[0], exact=True).select_option(choice[1])
    expect(play.locator("#verdict")).to_contain_text(re.compile("Fooled|Still"))
    assert not np.array_equal(*images_shown(play))


def test_the_class_that_is_aimed_at_is_named(play: Page, network: keras.Model) -> None:
    play.locator("#size").fill("0")
    play.get_by_label("Attack", exact=True).select_option("jsma")
    play.locator("#size").fill("2")
    expect(play.locator("#verdict")).to_contain_text("Still")
    original, _ = images_shown(play)
    second = network(original).numpy()[0].argsort()[-2]
    assert play.locator("#verdict").inner_text().endswith(f"not fooled; the target was {second}.")
    play.get_by_label("Attack", exact=True).select_option("fgsm")
    assert "target" not in play.locator("#verdict").inner_text()


def test_dragging_the_slider_attacks(play: Page, network: keras.Model) -> None:
    slider = play.locator("#size")
    box = slider.bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    play.mouse.move(box["x"] + 0.4 * box["width"], middle)
    play.mouse.down()
    play.mouse.move(box["x"] + 0.8 * box["width"], middle, steps=5)
    play.mouse.up()
    epsilon = float(slider.input_value())
    assert epsilon > 0.35
    expect(play.locator("#limit")).to_have_text(f"{epsilon:.2f}")
    original, changed = images_shown(play)
    assert np.abs(changed - original).max() == pytest.approx(epsilon, abs=1e-6)
    assert_shows(play, network)
    # Another attack, target or digit is shown at once; the digit that is read is no target.
    play.get_by_label("Attack", exact=True).select_option("iterated")
    play.get_by_label("Target").select_option("7")
    expect(play.locator("#verdict")).to_contain_text("7")
    assert_shows(play, network)
    assert play.locator("#target option[value='2']").is_disabled()
    # A slider at 0 changes nothing, and is no dead end.
    play.get_by_label("Attack", exact=True).select_option("jsma")
    for value in ("0", "112"):
        slider.fill(value)
        expect(play.locator("#verdict")).not_to_contain_text("…")
        changed = assert_shows(play, network)
    assert not np.array_equal(changed, images_shown(play)[0])
    play.get_by_role("button", name="Show the original").click()
    np.testing.assert_array_equal(*images_shown(play))
    assert_shows(play, network)


def test_a_pixel_by_hand(play: Page, network: keras.Model) -> None:
    play.get_by_label("Attack", exact=True).select_option("pixel")
    box = play.locator("#result").bounding_box()
    assert box is not None
    x, y = box["x"] + 20.5 / 28 * box["width"], box["y"] + 5.5 / 28 * box["height"]
    play.mouse.move(x, y)
    play.mouse.down()
    play.mouse.move(x, y + 40)
    play.mouse.up()
    original, changed = images_shown(play)
    moved = np.argwhere(original[0, :, :, 0] != changed[0, :, :, 0])
    assert moved.tolist() == [[5, 20]]
    assert original[0, 5, 20, 0] < 0.5
    assert changed[0, 5, 20, 0] == pytest.approx(0.6, abs=0.02)
    assert_shows(play, network)


def test_a_tap_flips_a_pixel_and_the_picture_stays_under_the_finger(play: Page) -> None:
    play.set_viewport_size({"width": 320, "height": 700})
    play.get_by_label("Attack", exact=True).select_option("pixel")
    picture = play.locator("#result")
    # So far that what the network reads would be off the screen.
    picture.evaluate("element => scrollBy(0, element.getBoundingClientRect().top - 200)")
    before = picture.bounding_box()
    assert before is not None
    for column, row in ((20, 12), (12, 14)):
        play.mouse.click(
            before["x"] + (column + 0.5) / 28 * before["width"],
            before["y"] + (row + 0.5) / 28 * before["height"],
        )
        original, changed = images_shown(play)
        assert changed[0, row, column, 0] == (original[0, row, column, 0] < 0.5)
        assert picture.bounding_box() == before
        assert_probabilities_are_in_sight(play)


def test_noise_is_a_control(play: Page, network: keras.Model) -> None:
    play.get_by_label("Attack", exact=True).select_option("noise")
    expect(play.locator("#verdict")).to_contain_text(re.compile("Fooled|Still"))
    changed = assert_shows(play, network)
    original, _ = images_shown(play)
    size = np.abs(changed - original)
    assert size.max() == pytest.approx(0.2, abs=1e-6)
    inside = (original > 0.2) & (original < 0.8)
    np.testing.assert_allclose(size[inside], 0.2, atol=1e-6)
    # The slider scales this noise; the button makes another.
    play.locator("#size").fill("0.3")
    expect(play.locator("#limit")).to_have_text("0.30")
    _, larger = images_shown(play)
    assert (np.sign(larger - original) == np.sign(changed - original)).all()
    play.get_by_role("button", name="New noise").click()
    _, other = images_shown(play)
    assert (np.sign(other - original) != np.sign(changed - original)).mean() > 0.2


def test_a_digit_of_ones_own(play: Page, network: keras.Model) -> None:
    play.get_by_label("draw", exact=True).check(force=True)
    box = play.locator("#pad").bounding_box()
    assert box is not None
    play.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.2 * box["height"])
    play.mouse.down()
    play.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.8 * box["height"], steps=10)
    play.mouse.up()
    original, _ = images_shown(play)
    assert original.sum() > 20
    # A stroke drawn left of the middle is moved into the middle.
    columns = original.sum(axis=(0, 1, 3))
    assert columns @ np.arange(28) / columns.sum() == pytest.approx(14, abs=0.6)
    assert_shows(play, network)
    assert network(original).numpy().argmax() == 1
    # Nobody knows what it is, so that nothing can be fooled about it.
    play.locator("#size").fill("0.5")
    assert play.locator("#verdict").inner_text().startswith("Changed: what was read as 1 is read as")
    assert_shows(play, network)
    # The attack outlasts the pad's losing the focus.
    play.get_by_role("button", name="Attack").click()
    play.locator("#pad").focus()
    play.locator("#pad").blur()
    assert not np.array_equal(*images_shown(play))
    assert_shows(play, network)


def test_blank_paper(play: Page, network: keras.Model) -> None:
    play.get_by_label("draw", exact=True).check(force=True)
    assert play.locator("#verdict").inner_text().startswith("Nothing is drawn yet.")
    original, _ = images_shown(play)
    assert not original.any()
    assert_shows(play, network)
    play.locator("#size").fill("0.5")
    assert "ooled" not in play.locator("#verdict").inner_text()
    assert_shows(play, network)


def test_a_stroke_that_leaves_the_paper_makes_no_ink_on_its_edge(play: Page) -> None:
    play.get_by_label("draw", exact=True).check(force=True)
    box = play.locator("#pad").bounding_box()
    assert box is not None

    def move(x: float, y: float) -> None:
        play.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=5)

    move(0.5, 0.3)
    play.mouse.down()
    for point in ((1.3, 0.3), (1.3, 0.7), (0.5, 0.7)):
        move(*point)
    play.mouse.up()
    ink = play.evaluate(
        "[...document.getElementById('pad').getContext('2d').getImageData(0, 0, 28, 28).data]"
    )
    rows = np.array(ink).reshape(28, 28, 4)[:, 27, 0] < 255
    assert rows[[8, 19]].all()  # up to the edge, and on from it
    assert not rows[11:17].any()


@pytest.mark.parametrize("width", [320, 400, 740, 768, 800, 1400])
@pytest.mark.parametrize("attack", ["fgsm", "jsma", "pixel"])
def test_nothing_overlaps_or_overflows(attack: str, width: int, play: Page) -> None:
    play.set_viewport_size({"width": width, "height": 900})
    # The names take more room in other fonts.
    play.evaluate("document.getElementById('attack').options[0].text += ', in a wide font'")
    play.get_by_label("draw", exact=True).check(force=True)
    play.get_by_label("Attack", exact=True).select_option(attack)
    assert play.evaluate("document.documentElement.scrollWidth") <= width
    columns = [
        play.locator(f"{section} :is(canvas, p, select, input, output, button, table):visible").all()
        for section in (".choices", ".outcome")
    ]
    choices, outcome = ([found.bounding_box() for found in column] for column in columns)
    assert len(choices) > 15
    assert len(outcome) > 5
    for box in choices + outcome:
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
    if width > 736:  # two columns
        assert max(box["x"] + box["width"] for box in choices if box) <= min(
            box["x"] for box in outcome if box and box["width"] > 1
        )


def assert_probabilities_are_in_sight(page: Page) -> None:
    """Within the screen, and under nothing."""
    for place in ("#verdict", *(f"#probabilities tbody tr:nth-child({n})" for n in range(1, 11))):
        assert page.locator(place).evaluate(
            """element => {
              const { left, right, top, bottom } = element.getBoundingClientRect();
              const seen = (x, y) => element.contains(document.elementFromPoint(x, y));
              return seen(left + 1, top + 1) && seen(right - 1, bottom - 1);
            }"""
        ), place


@pytest.mark.parametrize("block", ["start", "center", "end"])
@pytest.mark.parametrize("size", [(400, 800), (1400, 900)])
def test_probabilities_are_in_sight_while_the_slider_moves(
    size: tuple[int, int], block: str, play: Page
) -> None:
    play.set_viewport_size({"width": size[0], "height": size[1]})
    play.get_by_label("draw", exact=True).check(force=True)
    slider = play.locator("#size")
    slider.evaluate("(element, block) => element.scrollIntoView({ block })", block)
    box = slider.bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    play.mouse.move(box["x"] + 0.4 * box["width"], middle)
    play.mouse.down()
    for share in (0.6, 0.9):
        play.mouse.move(box["x"] + share * box["width"], middle)
        assert not np.array_equal(*images_shown(play))
        assert_probabilities_are_in_sight(play)
    play.mouse.up()


def test_probabilities_are_in_sight_while_one_draws_on_a_phone(play: Page) -> None:
    play.set_viewport_size({"width": 400, "height": 800})
    play.get_by_label("draw", exact=True).check(force=True)
    box = play.locator("#pad").bounding_box()
    assert box is not None
    play.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.2 * box["height"])
    play.mouse.down()
    for share in (0.5, 0.8):
        play.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + share * box["height"])
        assert_probabilities_are_in_sight(play)
    play.mouse.up()
    assert images_shown(play)[0].sum() > 20


def test_coming_back_finds_choices_and_outcome_in_agreement(play: Page, network: keras.Model) -> None:
    play.get_by_label("draw", exact=True).check(force=True)
    play.get_by_label("Attack", exact=True).select_option("jsma")
    play.get_by_label("Target").select_option("7")
    play.locator("#size").fill("60")
    play.get_by_role("link", name="Things to try").click()
    play.wait_for_url("**/book/playground.html")
    play.go_back()
    play.wait_for_function("document.readyState === 'complete' && Playground.state.original")
    drawing = play.get_by_label("draw", exact=True).is_checked()
    assert play.locator("#drawing").is_visible() == drawing
    assert images_shown(play)[0].any() != drawing
    value = float(play.locator("#size").input_value())
    assert float(play.locator("#size-value").inner_text()) == value
    name = play.locator("#size-name").inner_text()
    attack = play.get_by_label("Attack", exact=True).input_value()
    assert ("pixels that may change" in name) == (attack == "jsma")
    assert_shows(play, network)


def test_playground_has_the_paper_of_the_book(browser: Browser) -> None:
    shades = set()
    for path in (PLAYGROUND, SITE / "book" / "index.html"):
        with Visit(browser, path, "dark") as visit:
            shades.add(visit.page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(shades) == 1


@both_modes
def test_playground_in_forced_colours(mode: Any, play: Page) -> None:
    play.emulate_media(forced_colors="active", color_scheme=mode)
    play.get_by_label("draw", exact=True).check(force=True)
    play.get_by_label("Attack", exact=True).select_option("pixel")
    for place in ("#pad", "#original", "#result", "#result + .mark", "fieldset input:checked + *"):
        edge = play.locator(place).evaluate(
            "element => [getComputedStyle(element).outlineStyle, getComputedStyle(element).outlineColor]"
        )
        assert edge[0] == "solid", place
        assert edge[1] != play.evaluate("getComputedStyle(document.body).backgroundColor"), place


def test_playground_by_keyboard_alone(play: Page, network: keras.Model) -> None:
    def reach(name: str) -> None:
        for _ in range(20):
            play.keyboard.press("Tab")
            if play.evaluate("document.activeElement.id || document.activeElement.value") == name:
                return
        raise AssertionError(f"{name} is not reached")

    reach("2, number 1")
    play.keyboard.press("ArrowRight")
    assert play.locator("input:checked").get_attribute("value") == "2, number 2"
    reach("size")
    for _ in range(5):
        play.keyboard.press("ArrowRight")
    assert play.locator("#size-value").inner_text() == "0.25"
    reach("run")
    play.keyboard.press("Enter")
    expect(play.locator("#limit")).to_have_text("0.25")
    assert_shows(play, network)

    # A drawing, and a pixel.
    play.get_by_label("draw", exact=True).focus()
    play.keyboard.press("Space")
    reach("pad")
    for _ in range(8):
        play.keyboard.press("Space")
        play.keyboard.press("ArrowDown")
    original, _ = images_shown(play)
    assert original.sum() > 10
    for key in ("Delete", "ArrowUp", "Delete"):
        play.keyboard.press(key)
    rubbed, _ = images_shown(play)
    assert rubbed.sum() < original.sum()
    play.get_by_label("Attack", exact=True).select_option("pixel")
    play.locator("#attack").focus()
    reach("result")
    for key in ("ArrowLeft", "ArrowUp", "+", "+", "Control+-"):
        play.keyboard.press(key)
    original, changed = images_shown(play)
    assert original[0, 13, 13, 0] < 0.8
    assert changed[0, 13, 13, 0] == pytest.approx(original[0, 13, 13, 0] + 0.2, abs=1e-6)
    assert_shows(play, network)
    expect(play.locator("#live")).to_contain_text("row 14, column 14, ink")


def test_playground_without_javascript(browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(PLAYGROUND.as_uri())
    assert "needs JavaScript" in page.locator("body").inner_text()
    assert page.locator("noscript img, img").first.is_visible()
    assert not page.locator("main").is_visible()
    context.close()
