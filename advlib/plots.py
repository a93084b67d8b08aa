"""The book's figures: one visual language, from arrays to Figures.

Every function returns a `matplotlib.figure.Figure` that pyplot no longer holds: as the last line of
a cell it is shown once. Colours are from the palette of Okabe and Ito (2008), told apart with any
colour vision; ink is dark on light, as on paper.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, PercentFormatter
from sklearn.metrics import ConfusionMatrixDisplay

# One colour for each kind of input, in all chapters.
CLEAN = "#0072B2"
ADVERSARIAL = "#D55E00"
NOISE = "#009E73"

INK = "gray_r"  # 0 is paper, 1 is ink

STYLE: Any = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "figure.dpi": 150,
    "font.size": 10,
    "grid.alpha": 0.3,
}


# Inches. Narrow, with large type: on a phone a figure is shown at half this size.
WIDTH = 5.0


@contextmanager
def _figure(
    rows: int = 1, columns: int = 1, *, width: float = WIDTH, height: float = 2.5
) -> Iterator[tuple[Figure, np.ndarray]]:
    """A figure in the book's style, width and height in inches; axes of shape (rows, columns)."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(rows, columns, figsize=(width, height), squeeze=False)
        plt.close(figure)  # pyplot lets go: a notebook shows the returned figure, and only once
        yield figure, axes


def _show_digit(axes: Axes, image: np.ndarray, title: str = "", size: float = 9) -> None:
    axes.imshow(np.squeeze(image), cmap=INK, vmin=0, vmax=1, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    axes.spines[:].set(visible=True, color="0.8")
    axes.set_title(title, fontsize=size, linespacing=1.1)


def digits(images: np.ndarray, titles: Sequence[str] = (), *, columns: int = 5) -> Figure:
    """Images in rows, each under its title.

    Parameters
    ----------
    images : array, (n, height, width) or (n, height, width, 1)
        Pixel scale [0, 1]; 1 is drawn black.
    titles : sequence of str, optional
        One per image.
    columns : int
        Images in a row.
    """
    if titles and len(titles) != len(images):
        raise ValueError(f"titles must be {len(images)}, one per image, got {len(titles)}")
    rows = -(-len(images) // columns)
    height = rows * (WIDTH / columns + (0.38 if titles else 0.0))
    with _figure(rows, columns, height=height) as (figure, axes):
        for spot in axes.flat[len(images) :]:
            spot.set_axis_off()
        for spot, image, title in zip(axes.flat, images, titles or [""] * len(images), strict=False):
            _show_digit(spot, image, title)
        return figure


def learning_curves(history: Mapping[str, Sequence[float]]) -> Figure:
    """Error and loss after each epoch, on training and on held-out digits.

    Parameters
    ----------
    history : mapping with `loss`, `accuracy`, `val_loss`, `val_accuracy`, one value per epoch
        As `classifier.train` returns it.
    """
    epochs = np.arange(1, len(history["loss"]) + 1)
    with _figure(1, 2, height=2.5) as (figure, axes):
        for spot, values, label in (
            (axes[0, 0], lambda key: 1 - np.asarray(history[key + "accuracy"]), "error (log scale)"),
            (axes[0, 1], lambda key: np.asarray(history[key + "loss"]), "loss (log scale)"),
        ):
            spot.plot(epochs, values(""), "--", marker="o", color="0.35", label="training digits")
            spot.plot(epochs, values("val_"), "-", marker="s", color=CLEAN, label="test digits")
            spot.set(yscale="log", xlabel="epoch", ylabel=label)
            spot.xaxis.set_major_locator(MaxNLocator(integer=True))
            spot.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            spot.yaxis.set_major_formatter("{x:g}")
            spot.yaxis.set_minor_formatter(NullFormatter())
        axes[0, 0].yaxis.set_major_formatter(PercentFormatter(1, decimals=1))
        axes[0, 0].legend(frameon=False)
        return figure


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray) -> Figure:
    """Counts of true class (rows) against predicted class (columns).

    The colour shows errors alone: correct cases stand as numbers on a white diagonal, or they would
    drown the rest.

    Parameters
    ----------
    labels, predictions : array, integer, (n,)
    """
    with _figure(height=4.6) as (figure, axes):
        spot = axes[0, 0]
        display = ConfusionMatrixDisplay.from_predictions(
            labels, predictions, ax=spot, cmap="Purples", colorbar=False
        )
        counts = display.confusion_matrix
        errors = counts - np.diag(np.diag(counts))
        display.im_.set(data=errors, clim=(0, max(errors.max(), 1)))
        for text, error in zip(display.text_.flat, errors.flat, strict=True):
            text.set(
                color="white" if error > 0.6 * errors.max() else "black",
                fontsize=8,
                visible=text.get_text() != "0",
            )
        spot.grid(False)
        spot.set(xlabel="predicted class", ylabel="true class")
        return figure


def feature_maps(activations: Mapping[str, np.ndarray], *, count: int = 8) -> Figure:
    """The first feature maps of each layer for one image, a row per layer.

    Parameters
    ----------
    activations : mapping from layer name to array, (height, width, filters)
        Of one image. Each row is scaled by its own largest activation.
    count : int
        Maps shown per layer, the first ones.
    """
    with _figure(len(activations), count, height=WIDTH / count * len(activations) + 0.3) as (
        figure,
        axes,
    ):
        for row, (name, maps) in zip(axes, activations.items(), strict=True):
            for index, spot in enumerate(row):
                _show_digit(spot, maps[..., index] / maps.max())
            row[0].set_ylabel(f"{name}\n{maps.shape[0]} × {maps.shape[1]}", fontsize=8)
        return figure
