"""How a change of the input changes what the layers of a model answer."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from advlib._checks import check_images, check_input_shape, check_integer, check_same_shape
from advlib.classifier import activations, extractor

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
        If a layer is unknown (the message lists the names), or the images are not of that form.
    """

    def lengths(values: np.ndarray) -> np.ndarray:
        return np.linalg.norm(values.reshape(len(values), -1), axis=1)

    return _measure(model, images, changed, layers, batch_size, lengths, with_input=True)


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
        If a layer is unknown (the message lists the names) or has no filters, or the images are not
        of that form.
    """

    def lengths(values: np.ndarray) -> np.ndarray:
        return np.linalg.norm(values, axis=(1, 2))

    return _measure(model, images, changed, _with_filters(model, layers), batch_size, lengths)


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
        If a layer is unknown (the message lists the names) or has no filters, or the images are not
        of that form.
    """
    layers = _with_filters(model, layers)
    parts: dict[str, list[np.ndarray]] = {}
    for before, after in _batches(model, images, changed, layers, batch_size):
        for name, values in before.items():
            parts.setdefault(name, []).append((after[name] - values).max(axis=-1))
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
        If a layer is unknown (the message lists the names), or the images are not of that form.
    """
    images = check_images(images)
    iterations = check_integer(iterations, "iterations")
    batch_size = check_integer(batch_size, "batch_size")
    random = np.random.default_rng(check_integer(seed, "seed", low=0))
    values = {INPUT: images, **activations(model, images, layers=layers, batch_size=batch_size)}
    names = list(values)
    found = {}
    for first, second in pairwise(names):
        source = model.inputs[0] if first == INPUT else model.get_layer(first).output
        between = keras.Model(source, model.get_layer(second).output)
        stretch = _power_iteration(between, iterations)
        start = random.standard_normal(values[first].shape).astype(np.float32)
        parts = [
            stretch(tf.constant(values[first][part]), tf.constant(start[part])).numpy()
            for part in _slices(len(images), batch_size)
        ]
        found[second] = np.concatenate(parts).astype(np.float64)
    return found


def _power_iteration(between: keras.Model, iterations: int) -> Callable[..., tf.Tensor]:
    """Function from points (m, …) and directions (m, …) to the largest singular values, (m,)."""

    def lengths(values: tf.Tensor) -> tf.Tensor:
        return tf.norm(tf.reshape(values, (tf.shape(values)[0], -1)), axis=1)

    def along(lengths: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
        return tf.reshape(lengths, (-1, *(1 for _ in values.shape[1:])))

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def stretch(points: tf.Tensor, directions: tf.Tensor) -> tf.Tensor:
        sizes = tf.zeros(tf.shape(points)[0])
        for _ in tf.range(iterations):
            directions = tf.math.divide_no_nan(directions, along(lengths(directions), directions))
            with tf.GradientTape() as tape:
                tape.watch(points)
                with tf.autodiff.ForwardAccumulator(points, directions) as accumulator:
                    outputs = between(points, training=False)
                pushed = accumulator.jvp(outputs)
            sizes = lengths(pushed)
            directions = tape.gradient(outputs, points, output_gradients=pushed)
        return sizes

    return stretch


def _measure(
    model: keras.Model,
    images: np.ndarray,
    changed: np.ndarray,
    layers: Sequence[str] | None,
    batch_size: int,
    lengths: Callable[[np.ndarray], np.ndarray],
    *,
    with_input: bool = False,
) -> dict[str, Change]:
    """Lengths before, and of the change, of every layer."""
    parts: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for before, after in _batches(model, images, changed, layers, batch_size, with_input=with_input):
        for name, values in before.items():
            # float32 would lose what is left of two numbers that nearly agree.
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
    *,
    with_input: bool = False,
) -> Iterator[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]:
    """Activations of the originals and of the changed images, batch by batch."""
    images, changed = check_images(images), check_images(changed, "changed")
    check_same_shape(images, changed, "changed")
    check_input_shape(model, images)
    inside = extractor(model, layers)
    for part in _slices(len(images), check_integer(batch_size, "batch_size")):
        pair = []
        for some in (images[part], changed[part]):
            outputs = inside(tf.constant(some), training=False)
            found = {INPUT: some} if with_input else {}
            pair.append(found | {name: values.numpy() for name, values in outputs.items()})
        yield pair[0], pair[1]


def _slices(count: int, size: int) -> list[slice]:
    return [slice(start, start + size) for start in range(0, count, size)]


def _with_filters(model: keras.Model, layers: Sequence[str] | None) -> Sequence[str]:
    """The layers, checked to have filters; or all that have."""
    ranks = {
        layer.name: len(layer.output.shape)
        for layer in model.layers
        if not isinstance(layer, keras.layers.InputLayer)
    }
    if layers is None:
        return [name for name, rank in ranks.items() if rank == 4]
    without = [name for name in layers if ranks.get(name, 4) != 4]
    if without:
        raise ValueError(
            f"layers must have outputs (n, height, width, filters), which {', '.join(without)} have not"
        )
    return layers
