"""The book's figures: one visual language, from arrays to Figures.

What is statistical, chapters draw themselves, with seaborn: `theme` sets the style for that, `palette`
the colours. The other functions return a `matplotlib.figure.Figure` that pyplot no longer holds: as the
last line of a cell it is shown once. Blue, orange-red and green are those of Okabe and Ito (2008), told
apart with any colour vision; ink is dark on light, as on paper, whatever matplotlib is set to.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogLocator, MaxNLocator, PercentFormatter
from sklearn.metrics import roc_curve

from advlib._checks import check_images, check_integer, check_labels, check_number, check_same_shape

# One colour for each kind of input, in all chapters.
CLEAN = "#0072B2"
ADVERSARIAL = "#D55E00"
NOISE = "#009E73"

# How images are drawn: their colours, and where these begin, in units of where they end.
KINDS = {
    "ink": ("gray_r", 0),  # 0 is paper, 1 is ink
    "change": ("RdBu_r", -1),  # ink taken away is blue, ink added red; nothing is white
    "heat": ("Purples", 0),
}

# Attacks in one figure, beside CLEAN and NOISE.
ATTACKS = (ADVERSARIAL, "#E69F00", "#CC79A7", "#5B3A8E", "#7A5230")

# Light ones for classes, which are also named in the figure; what moves between them is drawn above,
# from black to the blue of the arrowhead.
CLASSES = (
    *("#E69F00", "#7FCDEE", "#66C2A5", "#D9C800", "#E5A3C8"),
    *("#E8936A", "#A6A6A6", "#B58A4C", "#9BC46B", "#B79BD6"),
)
MOVED = "#0057FF"

# Attacks share a colour; these tell them apart, in this order.
LINES = ("-", "--", ":", "-.")

# On matplotlib's defaults, not on what a reader has set.
STYLE: Any = {
    "axes.axisbelow": True,
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


def _grey(images: np.ndarray, name: str) -> np.ndarray:
    """Check that images are grey, (n, height, width, 1)."""
    images = check_images(images, name)
    if images.shape[-1] != 1:
        raise ValueError(f"{name} must be grey, of shape (n, height, width, 1), got {images.shape}")
    return images


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


def theme() -> None:
    """Set the book's style for whatever a notebook draws by itself, with seaborn or matplotlib.

    It replaces what matplotlib was set to, for the rest of the process.
    """
    plt.style.use(["default", STYLE, {"figure.figsize": (WIDTH, 3.1), "legend.frameon": False}])


def palette(
    names: Iterable[str], *, clean: Sequence[str] = (), noise: Sequence[str] = ()
) -> dict[str, str]:
    """One colour for each name, as `hue` takes them in seaborn.

    Parameters
    ----------
    names : iterable of str
        In the order of the legend; a name that comes again counts once.
    clean, noise : sequence of str
        The names that are clean inputs, or controls: blue, or green. All others are attacks.

    Returns
    -------
    dict from name to colour

    Raises
    ------
    ValueError
        If `clean` or `noise` are not among the names, or there are more attacks than colours.
    """
    colours = _colours(list(dict.fromkeys(names)), clean, noise)
    attacks = [name for name, colour in colours.items() if colour == ADVERSARIAL]
    if len(attacks) > len(ATTACKS):
        raise ValueError(f"names must hold at most {len(ATTACKS)} attacks, got {', '.join(attacks)}")
    return colours | dict(zip(attacks, ATTACKS, strict=False))


def grey_level_axis(axes: Axes) -> None:
    """Show an axis of ε, from 0 to 1, in grey levels of 255 as well, at the top.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        With ε as its horizontal axis.
    """
    functions: Any = (lambda epsilon: 255 * epsilon, lambda level: level / 255)
    top = axes.secondary_xaxis("top", functions=functions)
    top.set_xlabel("grey levels of 255")


@dataclass(frozen=True, eq=False)
class Row:
    """Small images of one kind, side by side, for `pictures`.

    Attributes
    ----------
    images : array, (n, height, width) or (n, height, width, 1)
        Of ink: float32 on the pixel scale [0, 1], with its channel. Of changes and heat: finite numbers,
        of heat not negative.
    titles : sequence of str, optional
        One above each image.
    label : str
        At the left of the row.
    kind : "ink", "change" or "heat"
        Ink is drawn from white, 0, to black, 1; a change red where it adds ink, blue where it takes ink
        away, white where it is 0; heat from white, 0, to dark.
    limit : float or "each", optional
        Where the colours of changes or heat end: at this value, or at the largest of each image; without
        it at the largest of all rows of the kind.
    scale : str
        What the numbers are, where rows share their colours: a bar below says so.
    frames : sequence of str, optional
        A colour for the frame of each image; empty for the usual, thin and grey.
    marks : sequence of arrays, integer, (pixels, 2), optional
        Rows and columns of the pixels that are circled in each image.
    strokes : array, float32, (n, height, width, 1), optional
        Images whose ink is outlined in each of these, at half ink.

    Raises
    ------
    ValueError
        If the images are not of that form, titles, frames, marks or strokes are not one per image, the
        kind is unknown, the limit is not above 0, ink has a limit, or a row with a limit has a scale.
    """

    images: np.ndarray
    titles: Sequence[str] | None = None
    label: str = ""
    kind: Literal["ink", "change", "heat"] = "ink"
    limit: float | Literal["each"] | None = None
    scale: str = ""
    frames: Sequence[str] | None = None
    marks: Sequence[np.ndarray] | None = None
    strokes: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {self.kind!r}")
        images = _grey(self.images, "images") if self.kind == "ink" else np.asarray(self.images)
        if images.dtype.kind not in "iuf" or images.ndim not in (3, 4) or images.size == 0:
            raise ValueError(
                f"images must be numbers (n, height, width), got {images.dtype} {images.shape}"
            )
        if images.ndim == 4 and images.shape[-1] != 1:
            raise ValueError(f"images must be grey, got {images.shape}")
        if not np.isfinite(images).all() or (self.kind == "heat" and images.min() < 0):
            raise ValueError("images must be finite" + " and not negative" * (self.kind == "heat"))
        object.__setattr__(self, "images", images)  # as it was checked
        if self.limit is not None and self.limit != "each":
            check_number(self.limit, "limit", low=np.nextafter(0, 1), high=np.inf)
        if self.limit is not None and (self.kind == "ink" or self.scale):
            raise ValueError("limit is for changes and heat, and those without a scale")
        if self.strokes is not None:
            _grey(self.strokes, "strokes")
        for name in ("titles", "frames", "marks", "strokes"):
            given = getattr(self, name)
            if given is not None and len(given) != len(images):
                raise ValueError(f"{name} must be {len(images)}, one per image, got {len(given)}")
        for pixels in [] if self.marks is None else self.marks:
            marks = np.asarray(pixels)
            if marks.ndim != 2 or marks.shape[1] != 2 or marks.dtype.kind not in "iu":
                raise ValueError("marks must be integers (pixels, 2), rows and columns")
            if marks.size and not ((marks >= 0) & (marks < images.shape[1:3])).all():
                raise ValueError(f"marks must lie within {images.shape[1:3]}")

    def largest(self) -> float:
        """The largest absolute value of all images, or 1 where all are 0."""
        return float(np.abs(self.images).max()) or 1.0

    def draw(self, axes: Axes, index: int, largest: float) -> AxesImage:
        """Draw one of the images; the colours end at `largest`, if the row has no limit of its own."""
        image = np.asarray(self.images[index]).reshape(self.images.shape[1:3])
        end = largest if self.limit is None else self.limit
        end = (float(np.abs(image).max()) or 1.0) if end == "each" else end
        colours, start = KINDS[self.kind]
        shown = axes.imshow(image, cmap=colours, vmin=start * end, vmax=end, interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        axes.grid(False)
        axes.spines[:].set(visible=True, color="0.8", linewidth=0.8)
        if self.frames is not None and self.frames[index]:
            axes.spines[:].set(color=self.frames[index], linewidth=2)
        if self.titles is not None:
            axes.set_title(self.titles[index], fontsize=9, linespacing=1.1, pad=3)
        if self.marks is not None:
            row, column = np.transpose(self.marks[index])
            axes.plot(column, row, "o", color="none", markeredgecolor=ADVERSARIAL, markersize=6)
        if self.strokes is not None:
            axes.contour(self.strokes[index, ..., 0], [0.5], colors="black", linewidths=0.6)
        return shown


def pictures(*rows: Row, columns: int = 5) -> Figure:
    """Rows of small images, one below the other, that belong together column by column.

    Parameters
    ----------
    *rows : Row
        Each of as many images.
    columns : int
        Images side by side. If there are more, all rows begin again below.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If there is no row, their numbers of images differ, two rows of a kind have different scales, or
        `columns` is below 1.
    """
    counts = sorted({len(row.images) for row in rows})
    if len(counts) != 1:
        raise ValueError(f"rows must hold equally many images, and be one at least, got {counts}")
    count, columns = counts[0], min(check_integer(columns, "columns"), counts[0])
    blocks = -(-count // columns)
    largest = {
        kind: max((row.largest() for row in rows if row.kind == kind), default=1) for kind in KINDS
    }
    largest["ink"] = 1
    bars = {row.kind: row.scale for row in rows if row.scale}
    if any(row.scale not in ("", bars.get(row.kind, "")) for row in rows):
        raise ValueError(f"rows of one kind must have one scale, got {[row.scale for row in rows]}")
    side = (WIDTH - 0.3 * any(row.label for row in rows)) / columns
    height = 0.5 * len(bars)
    for row in rows:
        lines = 0 if row.titles is None else max(title.count("\n") + 1 for title in row.titles)
        height += blocks * (side * row.images.shape[1] / row.images.shape[2] + 0.17 * lines)
    with _figure(blocks * len(rows), columns, height=height) as (figure, axes):
        figure.set_layout_engine("constrained", w_pad=0.015, h_pad=0.015, wspace=0.02, hspace=0.02)
        shown = {}
        for (place, row), index in itertools.product(enumerate(rows), range(blocks * columns)):
            block, column = divmod(index, columns)
            spot = axes[block * len(rows) + place, column]
            if index >= count:
                spot.set_axis_off()
                continue
            drawn = row.draw(spot, index, largest[row.kind])
            if row.limit is None:
                shown[row.kind] = drawn
            if column == 0:
                spot.set_ylabel(row.label, fontsize=8)
        for kind, text in bars.items():
            bar = figure.colorbar(
                shown[kind], ax=axes, location="bottom", fraction=0.03, pad=0.02, aspect=30
            )
            bar.set_label(text, fontsize=8)
            bar.ax.tick_params(labelsize=8)
        return figure


def perturbations(
    images: np.ndarray, changed: np.ndarray, titles: Sequence[str] | None = None, *, columns: int = 5
) -> Figure:
    """Original, change and changed image, one below the other, for several images side by side.

    Parameters
    ----------
    images, changed : array, float32, (n, height, width, 1)
        Before and after, on the pixel scale [0, 1].
    titles : sequence of str, optional
        One above each changed image.
    columns : int
        Images side by side; more go below.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If the images are not of that form, their shapes differ, there is not one title per image, or
        `columns` is below 1.
    """
    images, changed = _grey(images, "images"), _grey(changed, "changed")
    check_same_shape(images, changed, "changed")
    scale = "change of a pixel, on the scale from 0 to 1"
    return pictures(
        Row(images, label="original"),
        Row(changed - images, label="change", kind="change", scale=scale),
        Row(changed, titles, label="changed"),
        columns=columns,
    )


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
                spot.set(xticks=[], yticks=[])
                spot.grid(False)
                spot.spines[:].set(visible=True, color="0.8")
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
    """Means or shares, with their intervals, along layers or sizes; a panel for each comparison.

    Parameters
    ----------
    places : sequence of str or float, (n,)
        Names, or rising numbers.
    panels : mapping from a title to a mapping from a name to n of `metrics.Mean` or `metrics.Proportion`
        The same name is drawn alike in all panels; at most four names of a kind.
    label : str
        Of the places.
    height : str, or sequence of str
        What the values are of: once for all panels, on one scale, or panel by panel, each on its own.
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
        for name, line in zip(some, LINES, strict=False)
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
            cmap=KINDS["ink"][0],
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
