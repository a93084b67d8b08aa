"""The built site (`make book` first): links, weight, descriptions; in Chromium where there is one."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import keras
import numpy as np
import pytest
from bs4 import BeautifulSoup, Tag
from playwright.sync_api import Browser, Page, expect, sync_playwright

from advlib import attacks, classifier, metrics
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
    for name in ("assets", "site"):
        (tmp_path / "_build" / name).symlink_to(ROOT / "_build" / name)
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
    assert verdict.startswith("Fooled") == (shares[0].argmax() != shares[1].argmax())
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
    play.get_by_role("button", name="Reset").click()
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


def test_noise_is_a_control(play: Page, network: keras.Model) -> None:
    play.get_by_label("Attack", exact=True).select_option("noise")
    play.get_by_role("button", name="Attack").click()
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
    play.get_by_role("button", name="Attack").click()
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
    # The attack outlasts the pad's losing the focus.
    play.get_by_role("button", name="Attack").click()
    play.locator("#pad").focus()
    play.locator("#pad").blur()
    assert not np.array_equal(*images_shown(play))
    assert_shows(play, network)


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
