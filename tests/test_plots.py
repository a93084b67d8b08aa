"""Figures show what they are given, and pyplot does not keep them."""

from collections.abc import Iterator
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from advlib import metrics, plots


@pytest.fixture(autouse=True)
def pyplot_is_left_as_it_was() -> Iterator[None]:
    before = dict(plt.rcParams)
    yield
    assert plt.get_fignums() == []
    assert dict(plt.rcParams) == before


def images_of(figure: Figure) -> list[Any]:
    """What is drawn, in rows; the scales below have no place in the grid."""
    return [spot.images[0] for spot in figure.axes if spot.images and spot.get_subplotspec()]


def test_rows_begin_again_below_where_they_are_too_long() -> None:
    random = np.random.default_rng(0)
    images, maps = random.random((3, 6, 6, 1), np.float32), random.random((3, 2, 4))
    titles = ["a", "b", "c"]
    figure = plots.pictures(
        plots.Row(images, titles, label="digit"), plots.Row(maps, kind="heat"), columns=2
    )
    assert len(figure.axes) == 8  # two blocks of two rows of two, of which one column is empty
    shown = [spot for spot in figure.axes if spot.images]
    expected = [*images[:2, ..., 0], *maps[:2], images[2, ..., 0], maps[2]]
    for spot, each in zip(shown, expected, strict=True):
        np.testing.assert_array_equal(spot.images[0].get_array(), each)
        assert list(spot.get_xticks()) == []
    assert [spot.get_title() for spot in shown] == ["a", "b", "", "", "c", ""]
    assert [spot.get_ylabel() for spot in shown] == ["digit", "", "", "", "digit", ""]
    assert len(plots.pictures(plots.Row(images)).axes) == 3  # no wider than it must be


def test_the_same_grey_means_the_same_ink_everywhere() -> None:
    images = np.zeros((2, 6, 6, 1), np.float32)
    for image in images_of(plots.pictures(plots.Row(images), plots.Row(images + 0.5))):
        assert (image.get_clim(), image.get_cmap().name) == ((0, 1), "gray_r")


def test_where_colours_end() -> None:
    changes = np.array([[[-0.5, 0.1]], [[0.2, 0.0]]])

    def ends(*rows: plots.Row) -> list[tuple[float, float]]:
        return [image.get_clim() for image in images_of(plots.pictures(*rows))]

    small, large = (plots.Row(changes * factor, kind="change") for factor in (1, 4))
    assert ends(small) == [(-0.5, 0.5)] * 2  # white is no change
    assert ends(small, large) == [(-2, 2)] * 4
    assert ends(plots.Row(changes, kind="change", limit=3)) == [(-3, 3)] * 2
    assert ends(plots.Row(changes, kind="change", limit="each")) == [(-0.5, 0.5), (-0.2, 0.2)]
    assert ends(plots.Row(abs(changes), kind="heat"), small) == [(0, 0.5)] * 2 + [(-0.5, 0.5)] * 2
    for limit in (None, "each"):  # of nothing: white
        assert ends(plots.Row(0 * changes, kind="heat", limit=limit)) == [(0, 1)] * 2


def test_arrays_and_lists_will_do() -> None:
    maps = np.arange(18).reshape(2, 3, 3)
    row = plots.Row(maps.tolist(), np.array(["a", "b"]), kind="heat", marks=np.zeros((2, 1, 2), int))
    first, _ = plots.pictures(row).axes
    np.testing.assert_array_equal(first.images[0].get_array(), maps[0])
    assert first.get_title() == "a"
    assert row != plots.Row(maps, kind="heat")


def test_a_scale_says_what_the_colours_are() -> None:
    maps = np.ones((2, 3, 3))
    figure = plots.pictures(
        plots.Row(maps, kind="heat", scale="odds"), plots.Row(maps, kind="heat", limit=50)
    )
    np.testing.assert_allclose(figure.axes[-1].get_xlim(), [0, 1])  # of the row that it belongs to
    figure = plots.pictures(plots.Row(maps, kind="heat", scale="log-odds"))
    assert figure.axes[-1].get_xlabel() == "log-odds"
    assert len(figure.axes) == 3
    assert len(plots.pictures(plots.Row(maps, kind="heat")).axes) == 2


def test_frames_and_marks() -> None:
    images = np.zeros((2, 6, 6, 1), np.float32)
    marks = [np.array([[1, 4], [2, 3]]), np.zeros((0, 2), int)]
    first, second = plots.pictures(plots.Row(images, frames=["black", ""], marks=marks)).axes
    assert to_hex(first.spines["left"].get_edgecolor()) == "#000000"
    assert first.spines["left"].get_linewidth() > second.spines["left"].get_linewidth()
    np.testing.assert_array_equal(first.lines[0].get_xydata(), [[4, 1], [3, 2]])  # column, row
    assert second.lines[0].get_xydata().size == 0


def test_strokes_are_outlined_at_half_ink() -> None:
    strokes = np.zeros((2, 6, 6, 1), np.float32)
    strokes[0, 2:4, 2:4], strokes[1, 4, 4] = 1, 1
    row = plots.Row(np.zeros((2, 6, 6)), kind="heat", strokes=strokes)
    first, second = (spot.collections[0].get_paths()[0].vertices for spot in plots.pictures(row).axes)
    np.testing.assert_allclose([first.min(axis=0), first.max(axis=0)], [[1.5, 1.5], [3.5, 3.5]])
    np.testing.assert_allclose([second.min(axis=0), second.max(axis=0)], [[3.5, 3.5], [4.5, 4.5]])


def test_colours_tell_clean_attacks_and_noise_apart() -> None:
    colours = plots.palette(["a", "real", "b", "coin", "a"], clean=["real"], noise=["coin"])
    assert list(colours) == ["a", "real", "b", "coin"]
    assert (colours["real"], colours["coin"], colours["a"]) == (
        *(plots.CLEAN, plots.NOISE),
        plots.ADVERSARIAL,
    )
    assert len(set(colours.values())) == 4


def test_the_theme_is_the_book_s_whatever_was_set() -> None:
    with plt.rc_context():
        plots.theme()
        expected = dict(plt.rcParams)
        plt.rcParams.update({"font.size": 30, "axes.facecolor": "black"})
        plots.theme()
        assert dict(plt.rcParams) == expected
        assert plt.rcParams["figure.figsize"][0] == plots.WIDTH


def test_grey_levels_are_255_times_epsilon() -> None:
    figure = Figure()
    axes = figure.subplots()
    plots.grey_level_axis(axes)
    (top,) = axes.child_axes
    np.testing.assert_allclose(top._functions[0](0.1), 25.5)
    np.testing.assert_allclose(top._functions[1](25.5), 0.1)


def test_perturbations_stand_between_before_and_after() -> None:
    images, changed = np.random.default_rng(0).random((2, 3, 6, 6, 1), np.float32)
    figure = plots.perturbations(images, changed, ["a", "b", "c"], columns=2)
    shown = [axes.images[0] for axes in figure.axes if axes.images and axes.get_subplotspec()]
    assert len(shown) == 9  # two blocks of three rows, the last with one image
    order = [0, 1, 2]
    for index, place in zip(order, ((0, 2, 4), (1, 3, 5), (6, 7, 8)), strict=True):
        before, change, after = (shown[k].get_array() for k in place)
        np.testing.assert_array_equal(before, images[index, ..., 0])
        np.testing.assert_array_equal(change, (changed - images)[index, ..., 0])
        np.testing.assert_array_equal(after, changed[index, ..., 0])
        low, high = shown[place[1]].get_clim()
        assert -low == high == np.abs(changed - images).max()  # white is no change
    titles = [axes.get_title() for axes in figure.axes]
    assert [title for title in titles if title] == ["a", "b", "c"]


def test_images_that_did_not_change_can_be_drawn() -> None:
    images = np.zeros((1, 6, 6, 1), np.float32)
    assert plots.perturbations(images, images).axes


def test_histograms_count_shares_and_name_the_median() -> None:
    values = {"a": np.array([0.1, 0.1, 0.9, np.inf]), "coin": np.array([0.5, 1.0])}
    edges = np.arange(11) / 10 - 0.05
    figure = plots.histograms(values, edges, label="size", of="coins", noise=["coin"])
    first, second = figure.axes
    heights = [patch.get_height() for patch in first.patches]
    np.testing.assert_allclose(heights, [0, 0.5, 0, 0, 0, 0, 0, 0, 0, 0.25], atol=1e-12)
    assert figure.get_supylabel() == "share of the coins"
    assert first.get_title(loc="left") == "a: median 0.5 (dashed); beyond the scale 25%"
    np.testing.assert_allclose(second.lines[0].get_xdata(), 0.75)
    assert second.get_title(loc="left").endswith("beyond the scale 50%")
    assert first.get_xlim() == second.get_xlim() == (edges[0], edges[-1])
    never = plots.histograms({"never": np.array([np.inf, np.inf])}, edges, label="size")
    assert never.axes[0].get_title(loc="left") == "never: beyond the scale 100%"


def test_histograms_mark_a_threshold_and_count_what_reaches_it() -> None:
    values = {
        "clean": np.array([0.1, 0.2, 0.3, 0.4]),
        "attack": np.array([0.6, 0.9]),
        "noise": np.ones(1),
    }
    edges = np.arange(12) / 10
    figure = plots.histograms(
        values, edges, label="score", clean=["clean"], noise=["noise"], threshold=0.3
    )
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles[0] == "clean: median 0.25 (dashed); 50% from 0.3 on"
    assert titles[1].endswith("100% from 0.3 on")
    colours = [to_hex(axes.patches[0].get_facecolor()).upper() for axes in figure.axes]
    assert colours == [plots.CLEAN, plots.ADVERSARIAL, plots.NOISE]
    np.testing.assert_allclose(figure.axes[0].lines[1].get_xdata(), 0.3)


def test_decoded_plane_has_its_tiles_in_place_and_arrows_from_before_to_after() -> None:
    tiles = np.zeros((2, 3, 4, 4), np.float32)
    tiles[0, 2] = 1  # the first row is at the top, its last tile at the right
    moves = {"attack": (np.array([[0.5, 0.5], [1.0, 1.0]]), np.array([[2.5, 1.5], [1.0, 0.0]]))}
    figure = plots.decoded_plane(tiles, (0, 3, 0, 2), moves)
    (axes,) = figure.axes
    mosaic = axes.images[0].get_array()
    assert mosaic.shape == (8, 12)
    np.testing.assert_array_equal(mosaic[:4, 8:], 1)
    assert mosaic.sum() == 16
    assert tuple(axes.images[0].get_extent()) == (0, 3, 0, 2)
    assert axes.images[0].origin == "upper"
    for arrow, start, end in zip(axes.texts, *moves["attack"], strict=True):
        assert (tuple(arrow.xyann), tuple(arrow.xy)) == (tuple(start), tuple(end))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["attack"]


def test_roc_curves_are_steps_on_a_logarithmic_axis() -> None:
    rates = np.array([0.0, 0.01, 1.0]), np.array([0.2, 0.9, 1.0])
    panels = {"one": {"rule": rates, "doubt": rates}, "two": {"rule": rates, "doubt": rates}}
    figure = plots.roc_curves(panels, smallest=1e-3)
    first, second = figure.axes
    assert (first.get_title(), second.get_title()) == ("one", "two")
    assert first.get_xscale() == "log"
    assert first.get_xlim() == (1e-3, 1)
    np.testing.assert_allclose(first.lines[0].get_xdata(), [1e-4, 0.01, 1])  # 0 is left of the axis
    np.testing.assert_allclose(first.lines[0].get_ydata(), rates[1])
    assert first.lines[0].get_drawstyle() == "steps-post"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["rule", "doubt"]
    assert (first.get_xlabel(), figure.get_supylabel()) == (
        "clean digits flagged",
        "adversarial digits flagged",
    )


def test_class_maps_draw_moves_from_black_to_blue() -> None:
    random = np.random.default_rng(0)
    labels = np.repeat([0, 3], 20)
    points = {"a": random.normal(size=(40, 2)), "b": random.normal(size=(40, 2))}
    moves = {"a": (np.array([[0.0, 1]]), np.array([[2.0, 3]])), "b": (np.zeros((0, 2)),) * 2}
    figure = plots.class_maps(points, labels, moves, mark="7", axes_label="component")
    for axes, (title, each) in zip(figure.axes, points.items(), strict=True):
        assert axes.get_title() == title
        for label, some in zip((0, 3), axes.collections, strict=True):
            np.testing.assert_array_equal(some.get_offsets(), each[labels == label])
            assert to_hex(some.get_facecolors()[0]) == plots.CLASSES[label].lower()
        named = {text.get_text(): text.get_position() for text in axes.texts if text.get_bbox_patch()}
        for label in (0, 3):
            np.testing.assert_allclose(named[str(label)], np.median(each[labels == label], axis=0))
        assert axes.get_xlabel() == "component 1"
    marks = [text for text in figure.axes[0].texts if text.get_text() == "7"]
    assert [(to_hex(mark.get_color()), mark.get_position()) for mark in marks] == [
        ("#000000", (0, 1)),
        (plots.MOVED.lower(), (2, 3)),
    ]
    (arrow,) = (text for text in figure.axes[0].texts if getattr(text, "arrow_patch", None))
    assert (tuple(arrow.xyann), tuple(arrow.xy)) == ((0, 1), (2, 3))  # from, to
    assert not [text for text in figure.axes[1].texts if text.get_text() == "7"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["original", "changed"]
    bare = plots.class_maps({"a": points["a"]}, labels, {"a": moves["a"]}, mark="7")
    assert len(bare.axes) == 1
    assert list(bare.axes[0].get_xticks()) == []


def test_distance_planes_share_a_scale_and_colours() -> None:
    real = {"own": np.array([[1.0, 3]]), "other": np.array([[3.0, 1]])}
    panels = {
        "real": real,
        "attack": {"adversarial": np.array([[2.0, 2]]), "noise": np.array([[1.0, 2]])},
    }
    figure = plots.distance_planes(
        panels, x_label="x", y_label="y", clean=["own", "other"], noise=["noise"]
    )
    first, second = figure.axes
    assert first.get_xlim() == second.get_xlim() == first.get_ylim()
    assert first.get_xlim()[1] > 3
    found = [[to_hex(c.get_facecolors()[0][:3]) for c in axes.collections] for axes in figure.axes]
    colours = [plots.CLEAN, plots.CLEAN, plots.ADVERSARIAL, plots.NOISE]
    assert [c.upper() for row in found for c in row] == colours
    np.testing.assert_array_equal(second.collections[0].get_offsets(), [[2, 2]])
    assert (first.get_xlabel(), first.get_ylabel(), second.get_ylabel()) == ("x", "y", "")
    for axes in figure.axes:  # equally far from both
        np.testing.assert_array_equal(*np.transpose(axes.lines[0].get_xydata()))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        *("own", "other", "adversarial", "noise")
    ]


def test_mean_curves_show_means_with_their_intervals() -> None:
    def means(*values: float) -> list[metrics.Mean]:
        return [metrics.Mean(value, (value - 1, value + 2), 9) for value in values]

    panels = {
        "left": {"one": means(1, 2), "coin": means(3, 4), "real": means(5, 6)},
        "right": {"one": means(7, 8), "two": means(9, 30)},
    }
    figure = plots.mean_curves(
        ["input", "conv1"], panels, label="layer", height="change", clean=["real"], noise=["coin"]
    )
    left, right = figure.axes
    assert left.get_ylim() == right.get_ylim()
    assert left.get_ylim()[0] == 0
    assert left.get_ylim()[1] > 30
    one, coin, real = left.lines
    np.testing.assert_array_equal(real.get_ydata(), [5, 6])
    assert [line.get_color() for line in (one, coin, real)] == [
        *(plots.ADVERSARIAL, plots.NOISE),
        plots.CLEAN,
    ]
    assert right.lines[0].get_linestyle() == one.get_linestyle() != right.lines[1].get_linestyle()
    band = left.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (0, 4)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["one", "coin", "real", "two"]
    below = {"a": {"b": [metrics.Mean(-3.0, (-4, -2), 9), metrics.Mean(2.0, (1, 3), 9)]}}
    assert plots.mean_curves([1, 2], below, label="", height="").axes[0].get_ylim()[0] < -3
    own = plots.mean_curves([1, 2], panels, label="κ", height=["a", "b"])
    assert [axes.get_ylabel() for axes in own.axes] == ["a", "b"]
    assert own.axes[0].get_ylim() != own.axes[1].get_ylim()


def test_threshold_is_drawn_and_marks_its_point() -> None:
    clean, attacked = np.array([1.0, 2.0, 3.0, 4.0]), np.array([3.0, 5.0])
    edges = np.array([1.0, 2.5, 3.5, 4.5])
    figure = plots.threshold(clean, attacked, 3.0, edges=edges, label="error", smallest=0.01)
    left, right = figure.axes
    bars = [bar.get_height() for bar in left.patches]
    np.testing.assert_allclose(bars[:6], [0.5, 0.25, 0.25, 0, 0.5, 0.5])  # 5 lies in the last bin
    assert left.lines[0].get_xdata()[0] == 3.0
    curve, point = right.lines
    assert (point.get_xdata()[0], point.get_ydata()[0]) == (0.5, 1.0)  # what equals it is flagged
    places = set(zip(curve.get_xdata(), curve.get_ydata(), strict=True))
    assert {(0.001, 0.5), (0.25, 0.5), (0.5, 1.0), (1.0, 1.0)} <= places
    assert (left.get_title(), right.get_title()) == ("threshold 3", "clean 50.0%, adversarial 100.0%")


@pytest.mark.parametrize(
    ("clean", "edges", "message"),
    [
        ([1.0, np.nan], [1.0, 2.0], "clean must be a vector of numbers"),
        ([], [1.0, 2.0], "clean must be a vector of numbers"),
        ([[1.0]], [1.0, 2.0], "clean must be a vector of numbers"),
        ([1.0], [0.0, 2.0], "edges must be at least two numbers that rise from above 0"),
        ([1.0], [2.0, 1.0], "edges must be at least two numbers that rise from above 0"),
    ],
)
def test_bad_scores_are_named(clean: Any, edges: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plots.threshold(np.array(clean), np.ones(2), 1.0, edges=edges, label="error", smallest=0.01)
