"""The playground in a browser: its numbers against those of Python, and that it can be used."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import keras
import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from advlib import attacks, metrics, networks
from tests.site import PLAYGROUND, SITE, Visit

both_modes = pytest.mark.parametrize("mode", ["light", "dark"])
PLAYGROUND_HEAVIEST = 500_000  # bytes, all files together


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    """What was exported for the playground."""
    text = PLAYGROUND.with_name("data.js").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text.split(" = ", 1)[1].rstrip().rstrip(";"))
    return found


@pytest.fixture(scope="module")
def network(content: dict[str, Any]) -> keras.Model:
    return networks.pretrained("classifier", content["dataset"])


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


BOXES = """all => all.filter(each => each.checkVisibility({ visibilityProperty: true })).map(each => {
  const { left, right, width } = each.getBoundingClientRect();
  return [left, right, width];
})"""


@pytest.mark.parametrize("attack", ["fgsm", "jsma", "pixel"])
def test_nothing_overlaps_or_overflows(attack: str, play: Page) -> None:
    # The names take more room in other fonts.
    play.evaluate("document.getElementById('attack').options[0].text += ', in a wide font'")
    play.get_by_label("draw", exact=True).check(force=True)
    play.get_by_label("Attack", exact=True).select_option(attack)
    for width in (320, 400, 740, 768, 800, 1400):
        play.set_viewport_size({"width": width, "height": 900})
        assert play.evaluate("document.documentElement.scrollWidth") <= width
        choices, outcome = (
            np.array(
                play.locator(
                    f"{section} :is(canvas, p, select, input, output, button, table)"
                ).evaluate_all(BOXES)
            )
            for section in (".choices", ".outcome")
        )
        assert len(choices) > 15
        assert len(outcome) > 5
        left, right, _ = np.concatenate([choices, outcome]).T
        assert left.min() >= 0, width
        assert right.max() <= width
        if width > 736:  # two columns
            assert choices[:, 1].max() <= outcome[outcome[:, 2] > 1, 0].min(), width


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
