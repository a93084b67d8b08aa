"""The book's figures: one visual language, from arrays to Figures.

Every function returns a `matplotlib.figure.Figure` that pyplot no longer holds: as the last line of
a cell it is shown once. Colours are from the palette of Okabe and Ito (2008), told apart with any
colour vision; ink is dark on light, as on paper, whatever matplotlib is set to.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, PercentFormatter
from sklearn.metrics import ConfusionMatrixDisplay, roc_curve

from advlib._checks import check_images, check_integer, check_labels, check_same_shape

# One colour for each kind of input, in all chapters.
CLEAN = "#0072B2"
ADVERSARIAL = "#D55E00"
NOISE = "#009E73"

INK = "gray_r"  # 0 is paper, 1 is ink
CHANGE = "RdBu_r"  # ink taken away is blue, ink added red; nothing is white
SHARE = "Oranges"

# Light ones for classes, which are also named in the figure; what moves between them is drawn above,
# from black to the blue of the arrowhead.
CLASSES = (
    *("#E69F00", "#7FCDEE", "#66C2A5", "#D9C800", "#E5A3C8"),
    *("#E8936A", "#A6A6A6", "#B58A4C", "#9BC46B", "#B79BD6"),
)
MOVED = "#0057FF"

# Attacks share a colour; these tell them apart, in this order.
LINES = (("-", "o"), ("--", "s"), (":", "^"), ("-.", "D"))

# On matplotlib's defaults, not on what a reader has set.
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


class _Page(Figure):
    """A figure in the book's style also when it is drawn: matplotlib makes the ticks only then."""

    def draw(self, renderer: Any) -> None:
        """Draw it."""
        with plt.style.context(["default", STYLE]):
            super().draw(renderer)

    def savefig(self, *arguments: Any, **options: Any) -> None:
        """Save it."""
        with plt.style.context(["default", STYLE]):
            super().savefig(*arguments, **options)


@contextmanager
def _figure(rows: int = 1, columns: int = 1, *, height: float) -> Iterator[tuple[Figure, np.ndarray]]:
    """A figure in the book's style, height in inches; axes of shape (rows, columns)."""
    with plt.style.context(["default", STYLE]):
        figure, axes = plt.subplots(
            rows, columns, figsize=(WIDTH, height), squeeze=False, FigureClass=_Page
        )
        plt.close(figure)  # pyplot lets go: a notebook shows the returned figure, and only once
        yield figure, axes


@contextmanager
def _panels(count: int, *, margin: float, gap: float = 0.0) -> Iterator[tuple[Figure, np.ndarray]]:
    """A figure of square panels, two in a row, with so many inches around all and above each."""
    columns = min(2, count)
    rows = -(-count // columns)
    with _figure(rows, columns, height=margin + rows * (WIDTH / columns + gap)) as (figure, axes):
        for spot in axes.flat[count:]:
            spot.set_axis_off()
        yield figure, axes


def _show_digit(axes: Axes, image: np.ndarray, title: str = "") -> None:
    """Draw one image (height, width), 0 white and 1 black."""
    axes.imshow(image, cmap=INK, vmin=0, vmax=1, interpolation="nearest")
    _frame(axes)
    axes.set_title(title, fontsize=9, linespacing=1.1)


def _frame(axes: Axes) -> None:
    """A thin frame in place of scales."""
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    axes.spines[:].set(visible=True, color="0.8")


def _show_change(axes: Axes, change: np.ndarray, limit: float) -> None:
    """Draw a change (height, width) on a scale from -limit to limit."""
    axes.imshow(change, cmap=CHANGE, vmin=-limit, vmax=limit, interpolation="nearest")
    _frame(axes)


def _change_bar(figure: Figure, axes: np.ndarray) -> None:
    """The scale of the changes, below all axes."""
    shown = next(image for spot in axes.flat for image in spot.images if image.cmap.name == CHANGE)
    _scale(figure, axes, shown, "change of a pixel, on the scale from 0 to 1")


def _scale(figure: Figure, axes: np.ndarray, shown: AxesImage, label: str) -> None:
    """The scale of the colours of one image, below all axes."""
    bar = figure.colorbar(shown, ax=axes, location="bottom", fraction=0.03, pad=0.02, aspect=30)
    bar.set_label(label, fontsize=8)
    bar.ax.tick_params(labelsize=8)


def _grey(images: np.ndarray, name: str) -> np.ndarray:
    """Check that images are grey, (n, height, width, 1)."""
    images = check_images(images, name)
    if images.shape[-1] != 1:
        raise ValueError(f"{name} must be grey, of shape (n, height, width, 1), got {images.shape}")
    return images


def _titles(titles: Sequence[str] | None, count: int) -> Sequence[str]:
    """One title per image; empty ones where none are given."""
    if titles is None:
        return [""] * count
    if len(titles) != count:
        raise ValueError(f"titles must be {count}, one per image, got {len(titles)}")
    return titles


def _planar(array: Any, name: str) -> np.ndarray:
    """Check that an array is finite numbers (n, 2)."""
    array = np.asarray(array)
    if array.dtype.kind not in "iuf" or array.ndim != 2 or array.shape[1] != 2:
        raise ValueError(f"{name} must be arrays of shape (n, 2), got {array.dtype} {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite")
    return array


def _colours(names: Sequence[str], clean: Sequence[str], noise: Sequence[str]) -> dict[str, str]:
    """The colour of each name: of clean inputs, of controls, or else of attacks."""
    for argument, some in (("clean", clean), ("noise", noise)):
        if isinstance(some, str) or not set(some) <= set(names):
            raise ValueError(f"{argument} must be a list of some of {', '.join(names)}, got {some!r}")
    if set(clean) & set(noise):
        raise ValueError(f"clean and noise must not share names, got {clean!r} and {noise!r}")
    return {name: CLEAN if name in clean else NOISE if name in noise else ADVERSARIAL for name in names}


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
    images = _grey(images, "images")
    height_of_titles = 0.0 if titles is None else 0.38
    titles = _titles(titles, len(images))
    rows = -(-len(images) // check_integer(columns, "columns"))
    height = rows * (WIDTH / columns + height_of_titles)
    with _figure(rows, columns, height=height) as (figure, axes):
        for index, spot in enumerate(axes.flat):
            if index < len(images):
                _show_digit(spot, images[index, ..., 0], titles[index])
            else:
                spot.set_axis_off()
        return figure


def learning_curves(history: Mapping[str, Sequence[float]]) -> Figure:
    """Error and loss by epoch, on training and on held-out digits.

    Parameters
    ----------
    history : mapping with `loss`, `accuracy`, `val_loss`, `val_accuracy`, one value per epoch
        As Keras's `fit` or `training.train` gives it with validation digits.

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


def perturbations(
    images: np.ndarray,
    changed: np.ndarray,
    titles: Sequence[str] | None = None,
    *,
    columns: int = 5,
) -> Figure:
    """Original, change and changed image, one below the other, for several images side by side.

    Parameters
    ----------
    images, changed : array, float32, (n, height, width, 1)
        Before and after, on the pixel scale [0, 1].
    titles : sequence of str, optional
        One above each changed image.
    columns : int
        Images side by side; more go into further rows of three.

    Returns
    -------
    Figure
        Red is ink added, blue is ink taken away; one scale for the whole figure, from minus to plus
        the largest change.

    Raises
    ------
    ValueError
        If the images are not of that form, their shapes differ, there is not one title per image, or
        `columns` is below 1.
    """
    images, changed = _grey(images, "images"), _grey(changed, "changed")
    check_same_shape(images, changed, "changed")
    titles = _titles(titles, len(images))
    columns = check_integer(columns, "columns")
    change = changed - images
    limit = float(np.abs(change).max()) or 1.0
    blocks = -(-len(images) // columns)
    height = blocks * (3 * (WIDTH - 0.3) / columns + 0.35) + 0.5
    with _figure(3 * blocks, columns, height=height) as (figure, axes):
        for spot in axes.flat:
            spot.set_axis_off()
        for index in range(len(images)):
            block, column = divmod(index, columns)
            before, middle, after = axes[3 * block : 3 * block + 3, column]
            for spot in (before, middle, after):
                spot.set_axis_on()
            _show_digit(before, images[index, ..., 0])
            _show_change(middle, change[index, ..., 0], limit)
            _show_digit(after, changed[index, ..., 0], titles[index])
            if column == 0:
                for spot, name in ((before, "original"), (middle, "change"), (after, "changed")):
                    spot.set_ylabel(name, fontsize=8)
        _change_bar(figure, axes)
        return figure


def success_curves(
    sizes: Sequence[float],
    curves: Mapping[str, Sequence[Any]],
    *,
    label: str,
    height: str = "success",
    noise: Sequence[str] = (),
    grey_levels: bool = False,
    logarithmic: bool = False,
) -> Figure:
    """Share of successes against the size of the attack, with its interval as a band.

    Parameters
    ----------
    sizes : sequence of float, (n,)
        Rising.
    curves : mapping from a name to n of `metrics.Proportion`
    label : str
        Of the sizes.
    height : str
        What the shares are of.
    noise : sequence of str
        The names that are controls: drawn in the colour of noise.
    grey_levels : bool
        Show the sizes, on the pixel scale, as grey levels of 255, too.
    logarithmic : bool
        Draw the sizes, all above 0, on a logarithmic scale; if they are few, each with its number.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If there is no size, a curve has not as many points as there are sizes, or there are more than
        four attacks.
    """
    colours = _colours(list(curves), (), noise)
    attacked = [name for name in curves if name not in noise]
    if len(sizes) == 0:
        raise ValueError("sizes must hold at least one size, got none")
    if len(attacked) > len(LINES):
        raise ValueError(f"curves must be at most {len(LINES)} besides noise, got {len(attacked)}")
    with _figure(height=3.3) as (figure, axes):
        spot = axes[0, 0]
        for name, shares in curves.items():
            if len(shares) != len(sizes):
                raise ValueError(f"curves must have {len(sizes)} points each, {name} has {len(shares)}")
            colour = colours[name]
            line, marker = ("-", "x") if name in noise else LINES[attacked.index(name)]
            marker = marker if len(sizes) <= 25 else ""
            values = [share.value for share in shares]
            low, high = zip(*(share.interval for share in shares), strict=True)
            spot.fill_between(sizes, low, high, color=colour, alpha=0.2, linewidth=0)
            spot.plot(sizes, values, line, marker=marker, color=colour, label=name, markersize=5)
        spot.set(xlabel=label, ylabel=height, ylim=(-0.03, 1.03))
        spot.yaxis.set_major_formatter(PercentFormatter(1))
        if logarithmic:
            spot.set_xscale("log")
            spot.xaxis.set_major_formatter(lambda size, _: f"{size:,.0f}" if size >= 1 else f"{size:g}")
            if len(sizes) <= 6:
                spot.set_xticks(sizes, minor=False)
                spot.minorticks_off()
        if grey_levels:
            top = spot.secondary_xaxis("top", functions=(lambda x: 255 * x, lambda x: x / 255))
            top.set_xlabel("grey levels of 255")
        # Below: on top it would meet the second scale.
        figure.legend(
            loc="outside lower center",
            ncols=4 if len(curves) <= 4 else 3,
            frameon=False,
            columnspacing=1.2,
        )
        return figure


def histograms(
    values: Mapping[str, np.ndarray],
    edges: np.ndarray,
    *,
    label: str,
    of: str = "digits",
    clean: Sequence[str] = (),
    noise: Sequence[str] = (),
    threshold: float | None = None,
) -> Figure:
    """Distributions one below the other, on one scale, each with its median.

    Parameters
    ----------
    values : mapping from a name to array, float, (n,)
        Values beyond the edges are counted in the panel's title, not drawn.
    edges : array, float, (bins + 1,)
        Of the bins, rising.
    label : str
        Of the values.
    of : str
        What the values belong to.
    clean, noise : sequence of str
        The names that are clean inputs or controls: drawn in their colours.
    threshold : float, optional
        Drawn as a line; the titles say how much lies at or above it.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If there is no value, a value is NaN, the edges do not rise, or a name is unknown.
    """
    colours = _colours(list(values), clean, noise)
    edges = np.asarray(edges, np.float64)
    if edges.ndim != 1 or edges.size < 2 or not (np.diff(edges) > 0).all():
        raise ValueError("edges must be at least two numbers that rise")
    arrays = {name: np.asarray(array, np.float64) for name, array in values.items()}
    if not arrays or any(array.size == 0 or np.isnan(array).any() for array in arrays.values()):
        raise ValueError("values must be at least one vector of numbers")
    with _figure(len(arrays), 1, height=0.5 + 1.15 * len(arrays)) as (figure, axes):
        for spot, (name, array) in zip(axes[:, 0], arrays.items(), strict=True):
            drawn = array[(array >= edges[0]) & (array <= edges[-1])]
            weights = np.full(drawn.size, 1 / array.size)
            spot.hist(drawn, edges, weights=weights, color=colours[name], alpha=0.7)
            title = f"{name}: "
            median = np.median(array)
            if np.isfinite(median):
                spot.axvline(median, color="black", linestyle="--")
                title += f"median {median:.3g} (dashed)"
            if threshold is not None:
                spot.axvline(threshold, color="black")
                title += f"; {np.mean(array >= threshold):.0%} from {threshold:.3g} on"
            if drawn.size < array.size:
                title += f"; beyond the scale {1 - drawn.size / array.size:.0%}"
            spot.set_title(title.replace(": ;", ":"), fontsize=9, loc="left")
            spot.set(xlim=(edges[0], edges[-1]))
            spot.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.3g}%")
            spot.yaxis.set_major_locator(MaxNLocator(3))
            spot.tick_params(labelbottom=spot is axes[-1, 0])
        axes[-1, 0].set_xlabel(label)
        figure.supylabel(f"share of the {of}", fontsize=9)
        return figure


def share_matrix(shares: np.ndarray, *, rows: str, columns: str) -> Figure:
    """Shares in per cent as numbers on colour; a cell that is NaN stays empty.

    Parameters
    ----------
    shares : array, float, (k, k)
        From 0 to 1, or NaN.
    rows, columns : str
        What the classes stand for.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If the array is not square or a share lies outside [0, 1].
    """
    shares = np.asarray(shares, np.float64)
    if shares.ndim != 2 or shares.shape[0] != shares.shape[1]:
        raise ValueError(f"shares must have shape (k, k), got {shares.shape}")
    if not (np.isnan(shares) | ((shares >= 0) & (shares <= 1))).all():
        raise ValueError("shares must lie between 0 and 1, or be NaN")
    with _figure(height=4.4) as (figure, axes):
        spot = axes[0, 0]
        spot.imshow(shares, cmap=SHARE, vmin=0, vmax=1)
        for (row, column), share in np.ndenumerate(shares):
            if not np.isnan(share):
                colour = "white" if share > 0.6 else "black"
                spot.text(
                    column, row, f"{100 * share:.0f}", ha="center", va="center", color=colour, size=8
                )
        classes = range(len(shares))
        spot.set(xlabel=columns, ylabel=rows, xticks=classes, yticks=classes)
        spot.grid(False)
        return figure


def digit_matrix(images: np.ndarray, failed: np.ndarray, *, rows: str, columns: str) -> Figure:
    """A square of images: the diagonal framed in the colour of clean images, failures in black.

    Parameters
    ----------
    images : array, float32, (k, k, height, width)
        Pixel scale [0, 1]; those on the diagonal are unchanged.
    failed : array, bool, (k, k)
        Where the attack failed.
    rows, columns : str
        What the classes stand for.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If images or failures are not of that form.
    """
    if np.ndim(images) != 4 or np.shape(images)[0] != np.shape(images)[1]:
        raise ValueError(f"images must have shape (k, k, height, width), got {np.shape(images)}")
    check_images(images)
    if np.shape(failed) != np.shape(images)[:2]:
        raise ValueError(f"failed must have shape {np.shape(images)[:2]}, got {np.shape(failed)}")
    count = len(images)
    with _figure(count, count, height=WIDTH) as (figure, axes):
        for (row, column), spot in np.ndenumerate(axes):
            _show_digit(spot, images[row, column])
            if row == column or failed[row, column]:
                spot.spines[:].set(color=CLEAN if row == column else "black", linewidth=2)
            if column == 0:
                spot.set_ylabel(row, fontsize=9, rotation=0, labelpad=8, va="center")
            if row == count - 1:
                spot.set_xlabel(column, fontsize=9)
        figure.set_layout_engine("constrained", w_pad=0.01, h_pad=0.01, wspace=0.02, hspace=0.02)
        figure.supxlabel(columns, fontsize=10)
        figure.supylabel(rows, fontsize=10)
        return figure


def saliency_path(
    images: np.ndarray, scores: np.ndarray, chosen: Sequence[np.ndarray], titles: Sequence[str]
) -> Figure:
    """An image as an attack changes it: above the image, below the saliency map that comes next.

    Parameters
    ----------
    images : array, float32, (n, height, width, 1)
        At n moments, on the pixel scale [0, 1].
    scores : array, float, (n, height, width)
        Saliency of each pixel at that moment, not negative; drawn on a scale of its own each.
    chosen : sequence of n arrays, integer, (pixels, 2)
        Rows and columns of the pixels that are changed next, marked in both images.
    titles : sequence of str
        One per moment.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If the arrays are not of that form, or their lengths differ.
    """
    images = _grey(images, "images")
    if np.shape(scores) != images.shape[:3]:
        raise ValueError(f"scores must have shape {images.shape[:3]}, got {np.shape(scores)}")
    if not (np.asarray(scores) >= 0).all():
        raise ValueError("scores must be numbers that are not negative")
    titles = _titles(titles, len(images))
    if len(chosen) != len(images):
        raise ValueError(f"chosen must be {len(images)}, one array per image, got {len(chosen)}")
    if any(np.ndim(pixels) != 2 or np.shape(pixels)[1] != 2 for pixels in chosen):
        raise ValueError("chosen must be arrays of shape (pixels, 2), of rows and columns")
    count = len(images)
    with _figure(2, count, height=2 * WIDTH / count + 0.45) as (figure, axes):
        for index in range(count):
            above, below = axes[:, index]
            _show_digit(above, images[index, ..., 0], titles[index])
            below.imshow(scores[index], cmap="Purples", vmin=0, vmax=scores[index].max() or 1.0)
            _frame(below)
            for spot in (above, below):
                spot.plot(
                    chosen[index][:, 1],
                    chosen[index][:, 0],
                    "o",
                    color="none",
                    markeredgecolor=ADVERSARIAL,
                    markersize=6,
                )
        axes[0, 0].set_ylabel("image", fontsize=8)
        axes[1, 0].set_ylabel("saliency", fontsize=8)
        return figure


def populations(
    heights: np.ndarray, points: Sequence[np.ndarray], titles: Sequence[str], *, label: str
) -> Figure:
    """Points on a landscape over the unit square, a panel for each population.

    Parameters
    ----------
    heights : array, float, (rows, columns)
        At points evenly spaced from 0 to 1; rows are y, columns x. Drawn darker where higher.
    points : sequence of arrays, float, (n, 2)
        x and y, from 0 to 1.
    titles : sequence of str
        One per population.
    label : str
        Of the heights.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If the arrays are not of that form, or the lengths differ.
    """
    if np.ndim(heights) != 2 or min(np.shape(heights)) < 2:
        raise ValueError(f"heights must have shape (rows, columns), 2 at least, got {np.shape(heights)}")
    if not np.isfinite(heights).all():
        raise ValueError("heights must be finite")
    if len(points) == 0:
        raise ValueError("points must hold at least one population, got none")
    if any(np.ndim(each) != 2 or np.shape(each)[1] != 2 for each in points):
        raise ValueError("points must be arrays of shape (n, 2), of x and y")
    if not all(((np.asarray(each) >= 0) & (np.asarray(each) <= 1)).all() for each in points):
        raise ValueError("points must lie between 0 and 1")
    # A cell's middle is where its height was taken.
    half = [0.5 / (size - 1) for size in np.shape(heights)]
    extent = (-half[1], 1 + half[1], -half[0], 1 + half[0])
    titles = _titles(titles, len(points))
    with _panels(len(points), margin=0.6) as (figure, axes):
        for spot, each, title in zip(axes.flat, points, titles, strict=False):
            shown = spot.imshow(heights, cmap="Greys", origin="lower", extent=extent)
            spot.plot(
                np.asarray(each)[:, 0],
                np.asarray(each)[:, 1],
                "o",
                color=ADVERSARIAL,
                markeredgecolor="white",
                markersize=5,
            )
            spot.set(xlim=(0, 1), ylim=(0, 1), xticks=(0, 1), yticks=(0, 1))
            spot.grid(False)
            spot.set_title(title, fontsize=9)
        _scale(figure, axes, shown, label)
        return figure


def pixel_maps(
    images: np.ndarray,
    maps: np.ndarray,
    titles: Sequence[str] | None = None,
    *,
    label: str,
    columns: int = 5,
) -> Figure:
    """Images, and below each a number for each of its pixels; one scale for the whole figure, from 0.

    Parameters
    ----------
    images : array, float32, (n, height, width, 1)
        Pixel scale [0, 1].
    maps : array, float, (n, height, width)
        Not negative; the darker the larger.
    titles : sequence of str, optional
        One above each image.
    label : str
        Of the numbers.
    columns : int
        Images side by side, each above its map; more go below them.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If the arrays are not of that form, the lengths differ, or `columns` is below 1.
    """
    images = _grey(images, "images")
    if np.shape(maps) != images.shape[:3]:
        raise ValueError(f"maps must have shape {images.shape[:3]}, got {np.shape(maps)}")
    if not (np.min(maps) >= 0 and np.max(maps) < np.inf):
        raise ValueError("maps must be finite and not negative")
    titles = _titles(titles, len(images))
    columns = check_integer(columns, "columns")
    blocks = -(-len(images) // columns)
    height = blocks * (2 * (WIDTH - 0.3) / columns + 0.38) + 0.5
    with _figure(2 * blocks, columns, height=height) as (figure, axes):
        for spot in axes.flat:
            spot.set_axis_off()
        limit = float(np.max(maps)) or 1.0
        for index in range(len(images)):
            block, column = divmod(index, columns)
            above, below = axes[2 * block : 2 * block + 2, column]
            for spot in (above, below):
                spot.set_axis_on()
            _show_digit(above, images[index, ..., 0], titles[index])
            shown = below.imshow(maps[index], cmap="Purples", vmin=0, vmax=limit)
            _frame(below)
        _scale(figure, axes, shown, label)
        return figure


def class_maps(
    points: Mapping[str, np.ndarray],
    labels: np.ndarray,
    moves: Mapping[str, tuple[np.ndarray, np.ndarray]],
    *,
    mark: str,
    axes_label: str = "",
) -> Figure:
    """Maps of labelled points, a panel each, and what moves among them.

    Parameters
    ----------
    points : mapping from a title to array, float, (n, 2)
        One map a panel.
    labels : array, integer, (n,)
        Classes of the points, the same in every panel, from 0 to 9: each point is drawn as its number,
        coloured, and the number stands once more, larger, at the median of its class.
    moves : mapping from the same titles to a pair of arrays, float, (m, 2)
        Where something begins, drawn as a black mark, and where it ends, as a blue one, with an arrow
        between; m may differ from panel to panel.
    mark : str
        A letter or digit, such as the class that all of them come from.
    axes_label : str
        Of both axes, followed by 1 and 2; without it the axes have no scales, as they mean nothing.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If the titles differ, or the arrays are not of that form.
    """
    if not points:
        raise ValueError("points must hold at least one map, got none")
    if set(points) != set(moves):
        raise ValueError(f"moves must be given for {', '.join(points)}, got {', '.join(moves)}")
    if len(mark) != 1 or not mark.isalnum():
        raise ValueError(f"mark must be one letter or digit, got {mark!r}")
    points = {title: _planar(each, "points") for title, each in points.items()}
    places = {title: [_planar(place, "moves") for place in each] for title, each in moves.items()}
    if any(len(pair) != 2 or pair[0].shape != pair[1].shape for pair in places.values()):
        raise ValueError("moves must be pairs of arrays of the same shape")
    for each in points.values():
        labels = check_labels(labels, len(each), len(CLASSES))
    outline = [withStroke(linewidth=2, foreground="white")]
    with _panels(len(points), margin=0.4, gap=0.1) as (figure, axes):
        for spot, (title, each) in zip(axes.flat, points.items(), strict=False):
            for label in np.unique(labels):  # each point as its class: not by colour alone
                some = each[labels == label]
                spot.scatter(*some.T, s=7, c=CLASSES[label], marker=f"${label}$", linewidths=0)
            for start, end in zip(*places[title], strict=True):
                arrow = {
                    "arrowstyle": "->",
                    "color": "0.25",
                    "linewidth": 0.6,
                    "shrinkA": 3,
                    "shrinkB": 3,
                }
                spot.annotate("", end, start, arrowprops=arrow)
            for place, colour in zip(places[title], ("black", MOVED), strict=True):
                for x, y in place:
                    spot.text(
                        *(x, y, mark),
                        color=colour,
                        fontsize=7,
                        fontweight="bold",
                        ha="center",
                        va="center",
                        path_effects=outline,
                    )
            for label in sorted(np.unique(labels), key=lambda label: str(label) == mark):
                spot.text(  # last, on top, the class that moves
                    *np.median(each[labels == label], axis=0),
                    str(label),
                    fontsize=8,
                    ha="center",
                    va="center",
                    bbox={"boxstyle": "circle,pad=0.12", "fc": CLASSES[label], "ec": "white"},
                )
            spot.set_title(title, fontsize=9)
            spot.set_aspect("equal", adjustable="datalim")
            if axes_label:
                spot.set_xlabel(f"{axes_label} 1", fontsize=8)
                spot.set_ylabel(f"{axes_label} 2", fontsize=8)
                spot.tick_params(labelsize=7)
            else:
                _frame(spot)
        names = (("black", "original"), (MOVED, "changed"))
        handles = [
            Line2D([], [], linestyle="", marker=f"${mark}$", color=colour, markersize=7, label=name)
            for colour, name in names
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
        return figure


def distance_planes(
    panels: Mapping[str, Mapping[str, np.ndarray]],
    *,
    x_label: str,
    y_label: str,
    clean: Sequence[str] = (),
    noise: Sequence[str] = (),
) -> Figure:
    """Clouds of points by two distances, a panel for each comparison, all on one scale.

    Parameters
    ----------
    panels : mapping from a title to a mapping from a name to array, float, (n, 2)
        The same name is drawn alike in all panels.
    x_label, y_label : str
        Of the two distances.
    clean, noise : sequence of str
        The names of clean inputs and of controls: drawn in their colours.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If there is no point, there are more than four names, `clean` or `noise` are not among them, or
        an array is not of that form.
    """
    drawn = {
        title: {name: _planar(array, "panels") for name, array in clouds.items()}
        for title, clouds in panels.items()
    }
    arrays = [array for clouds in drawn.values() for array in clouds.values() if len(array)]
    if not arrays or min(array.min() for array in arrays) < 0:
        raise ValueError("panels must hold at least one point, and no distance below 0")
    limit = 1.02 * max(array.max() for array in arrays)
    colours = _colours(list({name: 0 for clouds in drawn.values() for name in clouds}), clean, noise)
    markers = dict(zip(colours, "os^x", strict=False))
    if len(colours) > len(markers):
        raise ValueError(f"panels must hold at most {len(markers)} names, got {', '.join(colours)}")
    with _panels(len(panels), margin=0.7, gap=0.3) as (figure, axes):
        handles = {}
        for spot, (title, clouds) in zip(axes.flat, drawn.items(), strict=False):
            for name, array in clouds.items():
                style: Any = {"marker": markers[name], "color": colours[name]}
                spot.scatter(*array.T, s=6, linewidths=0.5, alpha=0.35, **style)
                handles[name] = Line2D([], [], linestyle="", label=name, **style)
            spot.plot((0, limit), (0, limit), ":", color="black", linewidth=1)
            spot.set(xlim=(0, limit), ylim=(0, limit), aspect="equal")
            spot.set_title(title, fontsize=9)
        for spot in axes[-1]:
            spot.set_xlabel(x_label, fontsize=9)
        for spot in axes[:, 0]:
            spot.set_ylabel(y_label, fontsize=9)
        figure.legend(
            handles=handles.values(), loc="outside lower center", ncols=2, frameon=False, fontsize=9
        )
        return figure


def mean_curves(
    places: Sequence[Any],
    panels: Mapping[str, Mapping[str, Sequence[Any]]],
    *,
    label: str,
    height: str | Sequence[str],
    clean: Sequence[str] = (),
    noise: Sequence[str] = (),
) -> Figure:
    """Means, with their intervals, along layers or sizes; a panel for each comparison, on one scale.

    Parameters
    ----------
    places : sequence of str or float, (n,)
        Names, or rising numbers.
    panels : mapping from a title to a mapping from a name to n of `metrics.Mean`
        The same name is drawn alike in all panels; at most four names of a kind.
    label : str
        Of the places.
    height : str, or sequence of str
        What the means are of: once for all panels, on one scale, or panel by panel, each on its own.
    clean, noise : sequence of str
        The names of clean inputs and of controls: drawn in their colours.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If there is no panel or place, a curve has not as many points as there are places, there are
        more than four names of a kind, `clean` or `noise` are not among them, or there are not as many
        heights as panels.
    """
    names = list(dict.fromkeys(name for curves in panels.values() for name in curves))
    if not names or len(places) == 0:
        raise ValueError("panels and places must hold at least one curve and one place")
    colours = _colours(names, clean, noise)
    kinds = {colour: [name for name in names if colours[name] == colour] for colour in colours.values()}
    if max(map(len, kinds.values())) > len(LINES):
        raise ValueError(f"panels must hold at most {len(LINES)} names of a kind, got {names}")
    heights = [height, *[""] * (len(panels) - 1)] if isinstance(height, str) else height
    if len(heights) != len(panels):
        raise ValueError(f"height must be one, or one for each of {len(panels)} panels, got {height!r}")
    styles = {
        name: {"color": colour, "linestyle": line, "marker": "osx^Dv*P"[names.index(name) % 8]}
        for colour, some in kinds.items()
        for name, (line, _) in zip(some, LINES, strict=False)
    }
    with _figure(1, len(panels), height=3.3) as (figure, axes):
        handles = {}
        for spot, (title, curves) in zip(axes[0], panels.items(), strict=True):
            if isinstance(height, str) and spot is not axes[0, 0]:
                spot.sharey(axes[0, 0])
                spot.tick_params(labelleft=False)
            for name, means in curves.items():
                if len(means) != len(places):
                    raise ValueError(
                        f"panels must have {len(places)} points a curve, {name} has {len(means)}"
                    )
                values = np.array([each.value for each in means])
                ends = np.array([each.interval for each in means]).T
                spot.fill_between(places, *ends, color=styles[name]["color"], alpha=0.2, linewidth=0)
                (handles[name],) = spot.plot(
                    places, values, **styles[name], markersize=4, label=name, markerfacecolor="white"
                )
            spot.set_title(title, fontsize=9)
            spot.set_xlabel(label)
            if isinstance(places[0], str):
                spot.tick_params(axis="x", rotation=90, labelsize=8)
        for spot, text in zip(axes[0], heights, strict=True):
            if np.nanmin([line.get_ydata() for line in spot.lines]) >= 0:
                spot.set_ylim(bottom=0)
            spot.set_ylabel(text)
        figure.legend(
            handles=handles.values(),
            loc="outside lower center",
            ncols=3 if len(handles) == 3 else 2,
            frameon=False,
            fontsize=9,
        )
        return figure


def change_maps(
    images: np.ndarray,
    maps: Mapping[str, np.ndarray],
    titles: Sequence[str] | None = None,
    *,
    scales: Mapping[str, float] | None = None,
) -> Figure:
    """Images side by side, and below each, layer by layer, where the activations have changed.

    Parameters
    ----------
    images : array, float32, (n, height, width, 1)
        Pixel scale [0, 1].
    maps : mapping from the name of a layer to array, float, (n, height, width)
        A row each, of any size; red above 0, blue below.
    titles : sequence of str, optional
        One above each image.
    scales : mapping from the name of a layer to float, optional
        Where the scale of its row ends, above 0; without it at the largest value of the row.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If there is no layer, or the arrays or scales are not of that form.
    """
    images = _grey(images, "images")
    titles = _titles(titles, len(images))
    if not maps:
        raise ValueError("maps must hold at least one layer, got none")
    if scales is not None and (
        set(scales) != set(maps) or not all(0 < scale < np.inf for scale in scales.values())
    ):
        raise ValueError(f"scales must be above 0, for {', '.join(maps)}, got {dict(scales)}")
    for name, values in maps.items():
        shaped = np.ndim(values) == 3 and np.size(values) and len(values) == len(images)
        if not shaped or not np.isfinite(values).all():
            raise ValueError(
                f"maps must be finite, of shape ({len(images)}, height, width), "
                f"got {np.shape(values)} for {name}"
            )
    rows, columns = 1 + len(maps), len(images)
    height = rows * (WIDTH - 0.5) / columns + 0.45
    with _figure(rows, columns, height=height) as (figure, axes):
        for index, spot in enumerate(axes[0]):
            _show_digit(spot, images[index, ..., 0], titles[index])
            spot.title.set_fontsize(8)
        for row, (name, values) in zip(axes[1:], maps.items(), strict=True):
            limit = (scales or {}).get(name) or float(np.abs(values).max()) or 1.0
            for index, spot in enumerate(row):
                _show_change(spot, values[index], limit)
            row[0].set_ylabel(f"{name}\nto {limit:.2g}", fontsize=7)
        figure.set_layout_engine("constrained", w_pad=0.01, h_pad=0.01, wspace=0.02, hspace=0.02)
        return figure


def decoded_plane(
    tiles: np.ndarray,
    corners: tuple[float, float, float, float],
    moves: Mapping[str, tuple[np.ndarray, np.ndarray]],
) -> Figure:
    """What each place of a plane of latents is decoded to, and where images lie on it.

    Parameters
    ----------
    tiles : array, float32, (rows, columns, height, width)
        Pixel scale [0, 1]: decoded images, the first row at the top.
    corners : (left, right, bottom, top)
        Of the plane, in the units of the latents; each tile has its share of it.
    moves : mapping from a name to (before, after), arrays (n, 2) each
        Points on the plane, drawn as arrows; at most two names.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If the tiles are not a grid of images, the corners do not rise, or points are not of that form.
    """
    tiles = np.asarray(tiles)
    if tiles.ndim != 4:
        raise ValueError(f"tiles must have shape (rows, columns, height, width), got {tiles.shape}")
    check_images(tiles, "tiles")  # the same dtype and range
    left, right, bottom, top = corners
    if not (left < right and bottom < top):
        raise ValueError(f"corners must be left < right and bottom < top, got {corners}")
    if len(moves) > 2:
        raise ValueError(f"moves must be at most 2, got {len(moves)}")
    rows, columns, height, width = tiles.shape
    mosaic = tiles.transpose(0, 2, 1, 3).reshape(rows * height, columns * width)
    with _figure(height=WIDTH + 0.4) as (figure, axes):
        spot = axes[0, 0]
        # Pale, so that the arrows stand out; in 32 greys: no eye sees it, and the file is smaller.
        spot.imshow(
            np.round(31 * mosaic) / 31,
            cmap=INK,
            vmin=0,
            vmax=2,
            extent=corners,
            aspect="auto",
            interpolation="nearest",
        )
        for (name, (before, after)), colour in zip(moves.items(), (ADVERSARIAL, NOISE), strict=False):
            before, after = _planar(before, name), _planar(after, name)
            if before.shape != after.shape:
                raise ValueError(f"{name} must have as many points before as after, got {len(before)}")
            for start, end in zip(before, after, strict=True):
                arrow = {"arrowstyle": "-|>", "color": colour, "linewidth": 1.6, "mutation_scale": 11}
                spot.annotate("", end, start, arrowprops=arrow)
            spot.plot(*before.T, "o", color=CLEAN, markersize=5)
            spot.plot([], [], color=colour, label=name)
        spot.set(xlim=(left, right), ylim=(bottom, top), xlabel="latent 1", ylabel="latent 2")
        spot.grid(False)
        if moves:
            figure.legend(loc="outside lower center", ncols=2, frameon=False)
        return figure


def roc_curves(
    panels: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]], *, smallest: float
) -> Figure:
    """True against false positives, a panel for each comparison, the rate of the latter logarithmic.

    Parameters
    ----------
    panels : mapping from a title to a mapping from a name to (false, true), arrays (points,) each
        Rates of positives, as `sklearn.metrics.roc_curve` gives them; the same names in every panel.
    smallest : float
        Where the axis of false positives begins, above 0.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If there is no panel, names differ, there are more than six of them, or rates are not of that
        form.
    """
    names = list(next(iter(panels.values()), {}))
    if not 1 <= len(names) <= 6 or any(list(curves) != names for curves in panels.values()):
        raise ValueError("panels must have the same names, from one to six")
    if not 0 < smallest < 1:
        raise ValueError(f"smallest must lie between 0 and 1, got {smallest}")
    # Not the colours of inputs: these are scores.
    styles = ["-", "--", ":", "-.", (0, (6, 1, 1, 1, 1, 1)), (0, (1, 3))]
    colours = ["black", "#7F3C8D", "#56B4E9", "#CC79A7", "#E69F00", "#999999"]
    with _panels(len(panels), margin=0.9, gap=0.2) as (figure, axes):
        for spot, (title, curves) in zip(axes.flat, panels.items(), strict=False):
            for name, colour, style in zip(names, colours, styles, strict=False):
                false, true = (np.asarray(rates, np.float64) for rates in curves[name])
                if false.shape != true.shape or false.ndim != 1 or not np.isfinite(false + true).all():
                    raise ValueError(f"{name} must be two vectors of rates, got {false.shape}")
                spot.step(
                    np.maximum(false, smallest / 10),
                    true,
                    where="post",
                    color=colour,
                    linestyle=style,
                    label=name,
                )
            spot.set(xscale="log", xlim=(smallest, 1), ylim=(-0.03, 1.03))
            spot.set_title(title, fontsize=9)
            spot.xaxis.set_major_locator(LogLocator(numticks=10))
            spot.xaxis.set_major_formatter(lambda rate, _: f"{100 * rate:g}%")
            spot.yaxis.set_major_formatter(PercentFormatter(1))
            if spot in axes[-1]:
                spot.set_xlabel("clean digits flagged", fontsize=9)
        figure.supylabel("adversarial digits flagged", fontsize=9)
        handles, labels = axes.flat[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
        return figure


def readings(rows: Mapping[str, tuple[np.ndarray, np.ndarray]], *, noise: Sequence[str] = ()) -> Figure:
    """Images, one below the other, each beside the probability that a network gives to each class.

    Parameters
    ----------
    rows : mapping from a name to (image, probabilities)
        float32 (height, width, 1) on the pixel scale [0, 1], and float (classes,).
    noise : sequence of str
        The names that are controls: drawn in the colour of noise, all others in that of attacks.

    Returns
    -------
    Figure
        The largest probability of each row has its number.

    Raises
    ------
    ValueError
        If there is no row, an image is not of that form, probabilities do not lie in [0, 1], or a
        name is unknown.
    """
    colours = _colours(list(rows), (), noise)
    if not rows:
        raise ValueError("rows must hold at least one image, got none")
    height = 0.35 + 1.45 * len(rows)
    with _figure(len(rows), 2, height=height) as (figure, axes):
        axes[0, 0].get_gridspec().set_width_ratios([1, 2.6])
        for (left, right), (name, (image, probabilities)) in zip(axes, rows.items(), strict=True):
            probabilities = np.asarray(probabilities, np.float64)
            if probabilities.ndim != 1 or not ((probabilities >= 0) & (probabilities <= 1)).all():
                raise ValueError(f"rows must hold vectors of probabilities, {name} does not")
            _show_digit(left, _grey(np.asarray(image)[None], "rows")[0, ..., 0], name)
            bars = right.bar(np.arange(probabilities.size), probabilities, color=colours[name])
            best = int(probabilities.argmax())
            right.annotate(
                f"{probabilities[best]:.0%}",
                (best, probabilities[best]),
                xytext=(0, 2),
                textcoords="offset points",
                ha="center",
                fontsize=9,
            )
            bars[best].set(edgecolor="black", linewidth=1.2)
            right.set(ylim=(0, 1.15), yticks=(0, 0.5, 1), xticks=range(probabilities.size))
            right.yaxis.set_major_formatter(PercentFormatter(1))
            right.set_ylabel("probability", fontsize=9)
            right.grid(axis="x", visible=False)
        axes[-1, 1].set_xlabel("class")
        return figure


def threshold(
    clean: np.ndarray,
    attacked: np.ndarray,
    at: float,
    *,
    edges: np.ndarray,
    label: str,
    smallest: float,
) -> Figure:
    """Two distributions of a score, a threshold, and the point to which it leads on the ROC curve.

    Parameters
    ----------
    clean, attacked : array, float, (n,) and (m,)
        Scores of clean images and of adversarial ones.
    at : float
        The threshold: what reaches it is flagged.
    edges : array, float, (bins + 1,)
        Of the bins, rising from above 0, drawn on a logarithmic scale. Scores beyond them are counted
        in the outermost bins.
    label : str
        Of the score.
    smallest : float
        Where the ROC curve's logarithmic axis begins, above 0.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If scores are not vectors of numbers, or the edges do not rise from above 0.
    """
    edges = np.asarray(edges, np.float64)
    if edges.ndim != 1 or edges.size < 2 or not (np.diff(edges, prepend=0) > 0).all():
        raise ValueError("edges must be at least two numbers that rise from above 0")
    kinds = {"clean": np.asarray(clean, np.float64), "attacked": np.asarray(attacked, np.float64)}
    for name, scores in kinds.items():
        if scores.ndim != 1 or scores.size == 0 or np.isnan(scores).any():
            raise ValueError(f"{name} must be a vector of numbers, got shape {scores.shape}")
    colours = {"clean": CLEAN, "attacked": ADVERSARIAL}
    names = {"clean": "clean", "attacked": "adversarial"}
    shares = {name: float(np.mean(scores >= at)) for name, scores in kinds.items()}
    false, true, _ = roc_curve(
        np.repeat([False, True], [kinds["clean"].size, kinds["attacked"].size]),
        np.concatenate(list(kinds.values())),
        drop_intermediate=False,
    )
    with _figure(1, 2, height=3.1) as (figure, axes):
        left, right = axes[0]
        for name, scores in kinds.items():
            inside = np.clip(scores, edges[0], edges[-1])
            weights = np.full(inside.size, 1 / inside.size)
            left.hist(inside, edges, weights=weights, color=colours[name], alpha=0.6, label=names[name])
        left.axvline(at, color="black", label="threshold")
        left.set(xscale="log", xlim=(edges[0], edges[-1]), xlabel=label, ylabel="share of the digits")
        left.xaxis.set_major_formatter("{x:g}")
        left.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        figure.legend(loc="outside lower center", ncols=3, frameon=False)
        right.step(np.maximum(false, smallest / 10), true, where="post", color="0.35")
        right.plot(max(shares["clean"], smallest), shares["attacked"], "o", color="black", clip_on=False)
        right.set(xscale="log", xlim=(smallest, 1), ylim=(-0.03, 1.03))
        right.set(xlabel="clean digits flagged", ylabel="adversarial digits flagged")
        right.xaxis.set_major_formatter(lambda rate, _: f"{100 * rate:g}%")
        right.yaxis.set_major_formatter(PercentFormatter(1))
        left.set_title(f"threshold {at:.3g}", fontsize=9)
        right.set_title(f"clean {shares['clean']:.1%}, adversarial {shares['attacked']:.1%}", fontsize=9)
        return figure
