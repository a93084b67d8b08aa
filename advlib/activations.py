"""How a change of the input changes what the layers of a model answer."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from advlib import _graph, _pace
from advlib._checks import check_images, check_input_shape, check_integer, check_same_shape
from advlib.networks import extractor

# The name of the images themselves among the layers.
INPUT = "input"


class Change(NamedTuple):
    """Euclidean lengths at one layer: arrays, float64, (n,), or (n, filters).

    Attributes
    ----------
    before : array
        Of the activations of the original images.
    change : array
        Of the difference between the activations of the changed and of the original images.
    """

    before: np.ndarray
    change: np.ndarray


def layer_changes(
    model: keras.Model,
    images: np.ndarray,
    changed: np.ndarray,
    *,
    layers: Sequence[str] | None = None,
    batch_size: int = 500,
) -> dict[str, Change]:
    """Lengths of the activations of each layer, and of their change.

    `change / before` is the relative change of a layer. The change of a layer divided by that of the
    one before it is the local Lipschitz ratio: by how much the layer stretches this change.

    Parameters
    ----------
    model : keras.Model
        Functional or sequential, with inputs (n, height, width, channels) in [0, 1].
    images, changed : array, float32, (n, height, width, channels)
        Before and after, on the pixel scale [0, 1].
    layers : sequence of str, optional
        Names of layers; without it every layer, in the model's order.
    batch_size : int
        Images at a time; bounds the memory.

    Returns
    -------
    dict from name to Change with arrays (n,)
        "input", the images themselves, and then the layers.

    Raises
    ------
    ValueError
        If a layer is unknown (the message lists the names) or called "input", or the model or the images
        are not of that form.
    """

    def lengths(values: np.ndarray) -> np.ndarray:
        return np.linalg.norm(values.reshape(len(values), -1), axis=1)

    return _measure(model, images, changed, layers, batch_size, lengths)


def filter_changes(
    model: keras.Model,
    images: np.ndarray,
    changed: np.ndarray,
    *,
    layers: Sequence[str] | None = None,
    batch_size: int = 500,
) -> dict[str, Change]:
    """Lengths of the activations of each filter, and of their change.

    Parameters
    ----------
    model, images, changed, batch_size
        As in `layer_changes`.
    layers : sequence of str, optional
        Names of layers with outputs (n, height, width, filters); without it all of these.

    Returns
    -------
    dict from name to Change with arrays (n, filters)
        Their squares add up to those of `layer_changes`.

    Raises
    ------
    ValueError
        If a layer is unknown (the message lists the names), has no filters or is called "input", or the
        model or the images are not of that form.
    """

    def lengths(values: np.ndarray) -> np.ndarray:
        return np.linalg.norm(values, axis=(1, 2))

    layers = _with_filters(model, layers)
    found = _measure(model, images, changed, layers, batch_size, lengths)
    return {name: found[name] for name in layers}


def change_maps(
    model: keras.Model,
    images: np.ndarray,
    changed: np.ndarray,
    *,
    layers: Sequence[str] | None = None,
    batch_size: int = 500,
) -> dict[str, np.ndarray]:
    """Where the activations change: at each place the largest change of any filter.

    A filter's answer to the changed image less that to the original; the maximum over the filters. It
    is negative where all filters answer less than before.

    Parameters
    ----------
    model, images, changed, batch_size
        As in `layer_changes`.
    layers : sequence of str, optional
        Names of layers with outputs (n, height, width, filters); without it all of these.

    Returns
    -------
    dict from name to array, float32, (n, height, width)

    Raises
    ------
    ValueError
        If a layer is unknown (the message lists the names), has no filters or is called "input", or the
        model or the images are not of that form.
    """
    layers = _with_filters(model, layers)
    parts: dict[str, list[np.ndarray]] = {}
    for before, after in _batches(model, images, changed, layers, batch_size):
        for name in layers:
            change = after[name].astype(np.float32) - before[name].astype(np.float32)
            parts.setdefault(name, []).append(change.max(axis=-1))
    return {name: np.concatenate(maps) for name, maps in parts.items()}


def largest_stretch(
    model: keras.Model,
    images: np.ndarray,
    *,
    layers: Sequence[str] | None = None,
    iterations: int = 100,
    seed: int = 0,
    batch_size: int = 500,
) -> dict[str, np.ndarray]:
    """By how much each layer stretches the small change of its input that it stretches most.

    The largest singular value of the derivative of a layer's output by that of the one before it in
    `layers`, or by the images, at these images: the local Lipschitz constant. No small change, of
    whatever direction, can have a larger ratio of lengths. Computed by power iteration on the
    derivative times its transpose, which approaches it from below.

    Parameters
    ----------
    model, images, batch_size
        As in `layer_changes`.
    layers : sequence of str, optional
        Names of layers, each behind the one before it on the way of the images through the model;
        without it every layer, in the model's order.
    iterations : int
        Of the power iteration; a hundred come within about a thousandth for the book's network.
    seed : int
        Of the directions to start from.

    Returns
    -------
    dict from name to array, float64, (n,)

    Raises
    ------
    ValueError
        If a layer is unknown (the message lists the names), called "input" or not behind the one before
        it, or the model or the images are not of that form.
    """
    images = check_images(images)
    check_input_shape(model, images)
    iterations = check_integer(iterations, "iterations")
    batch_size = check_integer(batch_size, "batch_size")
    inside = _extractor(model, layers)
    names = [INPUT, *inside.output]
    # A generator for each layer: what it draws does not depend on the batches.
    random = {
        name: np.random.default_rng([check_integer(seed, "seed", low=0), k])
        for k, name in enumerate(names)
    }
    stretch = {second: _power_iteration(model, first, second) for first, second in pairwise(names)}
    parts: dict[str, list[np.ndarray]] = {name: [] for name in stretch}
    slices = _slices(len(images), batch_size)
    with _pace.bar("stretching") as bar:
        bar.total += iterations * len(slices) * len(stretch)
        for part in slices:
            batch = tf.constant(images[part])
            values = {INPUT: tf.cast(batch, model.inputs[0].dtype), **inside(batch, training=False)}
            for first, second in pairwise(names):
                start = random[first].standard_normal(values[first].shape)
                directions = tf.cast(start, values[first].dtype)
                for size in _pace.pieces(iterations, bar):
                    sizes, directions = stretch[second](values[first], directions, tf.constant(size))
                parts[second].append(sizes.numpy())
    return {name: np.concatenate(each).astype(np.float64) for name, each in parts.items()}


def _power_iteration(model: keras.Model, first: str, second: str) -> Callable[..., tf.Tensor]:
    """Some iterations for the part of a model from one layer's output, or the images, to another's.

    Function from points (m, …), directions (m, …) and how many to the largest singular values, (m,), and
    the directions after it.
    """
    graph, answers = _graph.read(model), _graph.named(model)
    source = graph.inputs[0] if first == INPUT else answers[first]
    if not tf.as_dtype(source.dtype).is_floating:
        raise ValueError(
            f"model must compute in floating-point numbers to have a derivative, got {source.dtype} for "
            f"{first}"
        )
    between = _graph.between(graph, source, answers[second])
    if between is None:
        raise ValueError(
            "layers must each lie behind the one before, on every way of the images through the model: "
            f"{second} does not lie behind {first} alone"
        )
    zero = tf.UnconnectedGradients.ZERO  # of layers without a derivative

    def lengths(values: tf.Tensor) -> tf.Tensor:
        return tf.norm(tf.reshape(values, (tf.shape(values)[0], -1)), axis=1)

    def stretch(
        points: tf.Tensor, directions: tf.Tensor, iterations: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        along = (-1, *(1 for _ in points.shape[1:]))
        sizes = tf.zeros(tf.shape(points)[0], points.dtype)
        for _ in tf.range(iterations):
            size = tf.reshape(lengths(directions), along)
            directions = tf.math.divide_no_nan(directions, size)
            # The transposed derivative times u is linear in u: its own derivative, transposed, is the
            # derivative of the layer. TensorFlow's forward mode does not know recurrent layers.
            with tf.GradientTape() as of_u:
                with tf.GradientTape(persistent=True) as tape:
                    tape.watch(points)
                    outputs = tf.cast(between(points), points.dtype)
                u = tf.zeros_like(outputs)
                of_u.watch(u)
                pulled = tape.gradient(outputs, points, u, unconnected_gradients=zero)
            pushed = of_u.gradient(pulled, u, directions, unconnected_gradients=zero)
            sizes = lengths(pushed)
            directions = tape.gradient(outputs, points, pushed, unconnected_gradients=zero)
        return sizes, directions

    # Traced once, for any number of points.
    spec = tf.TensorSpec((None, *source.shape[1:]), source.dtype)
    return tf.function(stretch).get_concrete_function(spec, spec, tf.TensorSpec((), tf.int32))


def _measure(
    model: keras.Model,
    images: np.ndarray,
    changed: np.ndarray,
    layers: Sequence[str] | None,
    batch_size: int,
    lengths: Callable[[np.ndarray], np.ndarray],
) -> dict[str, Change]:
    """Lengths before, and of the change, of the images and of every layer."""
    parts: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for before, after in _batches(model, images, changed, layers, batch_size):
        for name, values in before.items():
            # Squares in float64 neither overflow nor vanish, whatever the layer computes in.
            exact = values.astype(np.float64)
            parts.setdefault(name, []).append((lengths(exact), lengths(after[name] - exact)))
    return {
        name: Change(*(np.concatenate(column) for column in zip(*rows, strict=True)))
        for name, rows in parts.items()
    }


def _batches(
    model: keras.Model,
    images: np.ndarray,
    changed: np.ndarray,
    layers: Sequence[str] | None,
    batch_size: int,
) -> Iterator[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]:
    """The originals and their activations, the changed images and theirs, batch by batch."""
    images, changed = check_images(images), check_images(changed, "changed")
    check_same_shape(images, changed, "changed")
    check_input_shape(model, images)
    inside = _extractor(model, layers)
    for part in _slices(len(images), check_integer(batch_size, "batch_size")):
        before, after = (
            {INPUT: some}
            | {
                name: values.numpy()
                for name, values in inside(tf.constant(some), training=False).items()
            }
            for some in (images[part], changed[part])
        )
        yield before, after


def _extractor(model: keras.Model, layers: Sequence[str] | None) -> keras.Model:
    """The model's extractor, unless the name of a layer is that of the images."""
    inside = extractor(model, layers)
    if INPUT in inside.output:
        raise ValueError(f'layers must not be called "{INPUT}", the name of the images themselves here')
    return inside


def _slices(count: int, size: int) -> list[slice]:
    return [slice(start, start + size) for start in range(0, count, size)]


def _with_filters(model: keras.Model, layers: Sequence[str] | None) -> Sequence[str]:
    """The layers, checked to have filters; or all that have."""
    ranks = {name: len(output.shape) for name, output in extractor(model, layers).output.items()}
    if layers is None:
        layers = [name for name, rank in ranks.items() if rank == 4]
        if not layers:
            raise ValueError("model must have layers with outputs (n, height, width, filters), got none")
    without = [name for name in layers if ranks[name] != 4]
    if without:
        raise ValueError(
            f"layers must have outputs (n, height, width, filters), which {', '.join(without)} have not"
        )
    return layers
