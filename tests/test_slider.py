"""Figures under a slider: complete without scripts, and nothing but the figures with them."""

import base64
import io
import json
import re

import matplotlib.image
import pytest
from bs4 import BeautifulSoup
from matplotlib.figure import Figure

from advlib.slider import Slider

Frame = tuple[str, Figure, str]


def frames(count: int = 3, inches: float = 1.0) -> list[Frame]:
    """Figures of one grey each, all different, so that they can be told apart."""
    return [
        (f"{k}%", Figure((inches, 1.0), dpi=50, facecolor="white"), f'Frame {k} </script> of "all"')
        for k in range(count)
    ]


def filled(count: int) -> list[Frame]:
    """The left half is of one grey, the right half of another in each."""
    some = frames(count)
    for k, (_, figure, _) in enumerate(some):
        axes = figure.add_axes((0, 0, 1, 1))
        axes.imshow([[0.5, k / 10]], vmin=0, vmax=1, cmap="gray", aspect="auto", interpolation="nearest")
    return some


def halves(png: str) -> list[tuple[float, float]]:
    """Grey and opacity of the left and of the right half."""
    image = matplotlib.image.imread(io.BytesIO(base64.b64decode(png, validate=True)))
    assert image.shape == (50, 50, 4)
    return [(round(float(image[25, x, 0]), 1), float(image[25, x, 3])) for x in (10, 40)]


def test_without_scripts_one_figure_with_its_description() -> None:
    (image,) = BeautifulSoup(
        Slider(filled(3), label="ε", start=2)._repr_html_(), "html.parser"
    ).find_all(["img", "input", "button"])
    assert image["alt"] == 'Frame 2 </script> of "all"'
    png = str(image["src"]).removeprefix("data:image/png;base64,")
    assert halves(png) == [(0.5, 1.0), (0.2, 1.0)]


def test_the_script_holds_what_the_others_change() -> None:
    page = BeautifulSoup(Slider(filled(4), label="ε", start=1)._repr_html_(), "html.parser")
    (script,) = page.find_all("script")  # nothing in a description ends it early
    found = re.search(r"const \{ label, start, frames \} = (.*);\n", str(script.string))
    assert found
    content = json.loads(found[1])
    assert (content["label"], content["start"]) == ("ε", 1)
    assert [frame["value"] for frame in content["frames"]] == ["0%", "1%", "2%", "3%"]
    assert all(frame["description"].startswith("Frame") for frame in content["frames"])
    pictures = [frame["png"] for frame in content["frames"]]
    assert pictures[1] == ""
    shown = [halves(png) for png in pictures if png]
    assert shown == [[(0.0, 0.0), (grey, 1.0)] for grey in (0.0, 0.2, 0.3)]


def test_the_same_figures_give_the_same_bytes() -> None:
    one, other = (Slider(filled(2), label="ε") for _ in range(2))
    assert one._repr_html_() == other._repr_html_()
    assert repr(one) == repr(other) == "Slider(ε: 0% to 1%)"


@pytest.mark.parametrize(
    ("some", "start", "message"),
    [
        (frames(1), 0, "frames must be at least two, got 1"),
        (frames(2) + frames(1, inches=2.0), 0, "frames must be figures of one size"),
        ([*frames(2), ("3%", frames(1)[0][1], " ")], 0, "frames must each have a description"),
        (frames(2), 2, "start must"),
        (frames(2), -1, "start must"),
    ],
)
def test_bad_input_is_named(some: list[Frame], start: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Slider(some, label="ε", start=start)
