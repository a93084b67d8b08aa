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

from advlib._checks import check_images, check_integer, check_labels

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
def _figure(rows: int = 1, columns: int = 1, *, height: float) -> Iterator[tuple[Figure, np.ndarray]]:
    """A figure in the book's style, height in inches; axes of shape (rows, columns)."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(rows, columns, figsize=(WIDTH, height), squeeze=False)
        plt.close(figure)  # pyplot lets go: a notebook shows the returned figure, and only once
        yield figure, axes


def _show_digit(axes: Axes, image: np.ndarray, title: str = "") -> None:
    """Draw one image (height, width), 0 white and 1 black."""
    axes.imshow(image, cmap=INK, vmin=0, vmax=1, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    axes.spines[:].set(visible=True, color="0.8")
    axes.set_title(title, fontsize=9, linespacing=1.1)


def digits(images: np.ndarray, titles: Sequence[str] | None = None, *, columns: int = 5) -> Figure:
    """Images in rows, each under its title.

    Parameters
    ----------
    images : array, float32, (n, height, width, 1)
        Pixel scale [0, 1]; 0 is drawn white, 1 black.
    titles : sequence of str, optional
        One per image.
    columns : int
        Images in a row.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If the images are not of that form, their number and the titles' differ, or `columns` is
        below 1.
    """
    images = check_images(images)
    if images.shape[-1] != 1:
        raise ValueError(f"images must be grey, of shape (n, height, width, 1), got {images.shape}")
    if titles is not None and len(titles) != len(images):
        raise ValueError(f"titles must be {len(images)}, one per image, got {len(titles)}")
    rows = -(-len(images) // check_integer(columns, "columns"))
    height = rows * (WIDTH / columns + (0.0 if titles is None else 0.38))
    with _figure(rows, columns, height=height) as (figure, axes):
        for index, spot in enumerate(axes.flat):
            if index < len(images):
                _show_digit(spot, images[index, ..., 0], "" if titles is None else titles[index])
            else:
                spot.set_axis_off()
        return figure


def learning_curves(history: Mapping[str, Sequence[float]]) -> Figure:
    """Error and loss by epoch, on training and on held-out digits.

    Parameters
    ----------
    history : mapping with `loss`, `accuracy`, `val_loss`, `val_accuracy`, one value per epoch
        As `classifier.train` returns it when it is given validation digits.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If one of the four is missing.
    """
    missing = {"loss", "accuracy", "val_loss", "val_accuracy"} - set(history)
    if missing:
        raise ValueError(f"history must hold {', '.join(sorted(missing))}: train with validation digits")
    epochs = np.arange(1, len(history["loss"]) + 1)
    panels = {
        "error (log scale)": [1 - np.asarray(history[key]) for key in ("accuracy", "val_accuracy")],
        "loss (log scale)": [np.asarray(history[key]) for key in ("loss", "val_loss")],
    }
    with _figure(1, 2, height=2.8) as (figure, axes):
        for spot, (label, (training, held_out)) in zip(axes[0], panels.items(), strict=True):
            spot.plot(epochs, training, "--", marker="o", color="0.35", label="training digits")
            spot.plot(epochs, held_out, "-", marker="s", color=CLEAN, label="test digits")
            spot.set(yscale="log", xlabel="epoch", ylabel=label)
            spot.xaxis.set_major_locator(MaxNLocator(integer=True))
            spot.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            spot.yaxis.set_major_formatter("{x:g}")
            spot.yaxis.set_minor_formatter(NullFormatter())
        axes[0, 0].yaxis.set_major_formatter(PercentFormatter(1, decimals=1))
        lines = axes[0, 0].get_lines()
        figure.legend(handles=lines, loc="outside upper center", ncols=2, frameon=False)
        return figure


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray, *, classes: int = 10) -> Figure:
    """Counts of true class (rows) against predicted class (columns).

    The colour shows errors alone: correct cases stand as numbers on a white diagonal, or they would
    drown the rest.

    Parameters
    ----------
    labels, predictions : array, integer, (n,)
        From 0 to `classes` - 1.
    classes : int
        Rows and columns.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If labels or predictions are not of that form, or their numbers differ.
    """
    classes = check_integer(classes, "classes", low=2)
    labels = check_labels(labels, len(labels), classes)
    predictions = check_labels(predictions, len(labels), classes, "predictions")
    with _figure(height=4.6) as (figure, axes):
        spot = axes[0, 0]
        display = ConfusionMatrixDisplay.from_predictions(
            labels, predictions, labels=range(classes), ax=spot, cmap="Purples", colorbar=False
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
    activations : mapping from layer name to array, float, (height, width, filters)
        Of one image, not negative, as after ReLU. White is 0, black the largest of the layer.
    count : int
        Maps shown per layer, the first ones.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If there is no layer, or one has another number of axes, fewer than `count` filters, or
        values that are negative or not finite.
    """
    count = check_integer(count, "count")
    if not activations:
        raise ValueError("activations must hold at least one layer, got none")
    for name, maps in activations.items():
        if np.ndim(maps) != 3 or np.shape(maps)[-1] < count:
            raise ValueError(
                f"activations must have shape (height, width, at least {count} filters), "
                f"got {np.shape(maps)} for {name}"
            )
        if not (np.min(maps) >= 0 and np.max(maps) < np.inf):
            raise ValueError(f"activations must be finite and not negative, which {name} is not")
    height = WIDTH / count * len(activations) + 0.3
    with _figure(len(activations), count, height=height) as (figure, axes):
        for row, (name, maps) in zip(axes, activations.items(), strict=True):
            largest = maps.max() or 1.0  # a layer that is silent is drawn white
            for index, spot in enumerate(row):
                _show_digit(spot, maps[..., index] / largest)
            row[0].set_ylabel(f"{name}\n{maps.shape[0]} × {maps.shape[1]}", fontsize=8)
        return figure
