"""Figures show what they are given, and pyplot does not keep them."""

from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pytest

from advlib import plots


@pytest.fixture(autouse=True)
def pyplot_is_left_as_it_was() -> Iterator[None]:
    before = dict(plt.rcParams)
    yield
    assert plt.get_fignums() == []
    assert dict(plt.rcParams) == before


def test_digits_in_rows_under_their_titles() -> None:
    images = np.random.default_rng(0).random((7, 28, 28, 1), np.float32)
    figure = plots.digits(images, [f"title {k}" for k in range(7)], columns=3)
    shown = [axes for axes in figure.axes if axes.images]
    assert len(figure.axes) == 9
    assert [axes.get_title() for axes in shown] == [f"title {k}" for k in range(7)]
    for axes, image in zip(shown, images, strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), image[..., 0])
        assert axes.images[0].get_clim() == (0, 1)  # the same grey means the same ink everywhere
    assert len(plots.digits(images, columns=7).axes) == 7


def test_learning_curves_show_errors_and_losses() -> None:
    history = {
        "accuracy": [0.9, 0.99],
        "val_accuracy": [0.95, 0.98],
        "loss": [0.3, 0.1],
        "val_loss": [0.2, 0.15],
    }
    figure = plots.learning_curves(history)
    error, loss = figure.axes
    curves = [[line.get_ydata() for line in axes.lines] for axes in (error, loss)]
    np.testing.assert_allclose(curves[0], [[0.1, 0.01], [0.05, 0.02]])
    np.testing.assert_allclose(curves[1], [[0.3, 0.1], [0.2, 0.15]])
    np.testing.assert_array_equal(error.lines[0].get_xdata(), [1, 2])
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["training digits", "test digits"]


def test_confusion_matrix_counts_with_true_classes_in_rows() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2])
    predictions = np.array([0, 2, 2, 1, 0, 2])
    (axes,) = plots.confusion_matrix(labels, predictions, classes=3).axes
    shown = {text.get_position(): text.get_text() for text in axes.texts if text.get_visible()}
    assert shown == {(0, 0): "1", (2, 0): "2", (1, 1): "1", (0, 1): "1", (2, 2): "1"}  # (column, row)
    np.testing.assert_array_equal(axes.images[0].get_array(), [[0, 0, 2], [1, 0, 0], [0, 0, 0]])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")


def test_a_perfect_confusion_matrix_can_be_drawn() -> None:
    (axes,) = plots.confusion_matrix(np.arange(3), np.arange(3)).axes
    assert axes.images[0].get_clim() == (0, 1)
    assert axes.images[0].get_array().shape == (10, 10)  # classes that do not occur, too


def test_feature_maps_share_one_scale_in_a_row() -> None:
    maps = {"conv1": np.ones((4, 4, 3)), "conv2": np.arange(12.0).reshape(2, 2, 3)}
    figure = plots.feature_maps(maps, count=2)
    shown = [axes.images[0].get_array() for axes in figure.axes]
    assert len(shown) == 4
    np.testing.assert_allclose(shown[2], maps["conv2"][..., 0] / 11)
    np.testing.assert_allclose(shown[3], maps["conv2"][..., 1] / 11)
    assert figure.axes[2].get_ylabel() == "conv2\n2 × 2"


def test_a_silent_layer_is_drawn_white() -> None:
    (axes,) = plots.feature_maps({"conv1": np.zeros((4, 4, 1))}, count=1).axes
    np.testing.assert_array_equal(axes.images[0].get_array(), np.zeros((4, 4)))
