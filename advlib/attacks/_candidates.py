"""Judge candidates: images of which a few pixels were changed.

A candidate is the index of an image, the places of k pixels in it (row × width + column) and their new
values. Its logits come from a forward pass of the painted image. Where one pixel changes and the model
begins with convolutions, only the activations in small windows change; then these alone are computed.
"""

import math
from itertools import pairwise
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from advlib import _graph, _traces
from advlib._models import logits_of
from advlib.attacks import _loop

# Activations at a time where windows are computed: 64 MB a copy.
WINDOW_VALUES = 2**24
# Residues of a pixel's place modulo the strides: as many windows, each with a graph of its own.
MOST_RESIDUES = 64
# Where the two largest logits differ by less than this share of the largest in the block, windows do not
# decide: their logits differ from a forward pass's by rounding errors, ten times less than this.
DOUBT = 1e-4
NAMES = "linear relu leaky_relu elu selu gelu silu softplus sigmoid tanh"
ELEMENTWISE = tuple(keras.activations.get(name) for name in NAMES.split())


def paint(images: tf.Tensor, image: tf.Tensor, place: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Paint k pixels of each candidate; of two at the same place, the later.

    Parameters
    ----------
    images : tensor, float32, (n, height, width, channels)
    image : tensor, int32, (m,)
        Which of the images.
    place : tensor, int32, (m, k)
    values : tensor, float32, (m, k, channels)

    Returns
    -------
    tensor, float32, (m, height, width, channels)
    """
    shape = tf.shape(images)
    count, size = tf.shape(image)[0], shape[1] * shape[2]
    flat = tf.gather(tf.reshape(images, (shape[0], size, shape[3])), image)
    candidate = tf.broadcast_to(tf.range(count)[:, None], tf.shape(place))
    index = tf.stack([candidate, place], axis=2)
    if place.shape[1] != 1:
        # All that share a place get the value of the last: then their order does not matter.
        ranks = tf.broadcast_to(tf.range(tf.shape(place)[1]), tf.shape(place))
        last = tf.tensor_scatter_nd_max(tf.zeros((count, size), tf.int32), index, ranks)
        values = tf.gather(values, tf.gather_nd(last, index), batch_dims=1)
    painted = tf.tensor_scatter_nd_update(flat, index, values)
    return tf.reshape(painted, (count, shape[1], shape[2], shape[3]))


def _painted_logits(
    model: keras.Model, images: tf.Tensor, image: tf.Tensor, place: tf.Tensor, values: tf.Tensor
) -> tf.Tensor:
    """Logits (m, classes) by a forward pass."""
    # One candidate more: one alone is multiplied by another routine, which rounds otherwise.
    image, place, values = (tf.concat([array, array[:1]], 0) for array in (image, place, values))
    return logits_of(model, paint(images, image, place, values))[:-1]


# --- one pixel, through windows --------------------------------------------------------------------


class Parts(NamedTuple):
    """A model taken apart: convolutions that windows pass through, and the layers that follow."""

    convolutions: list[keras.layers.Conv2D]
    others: list[_graph.Link]


def take_apart(model: keras.Model, shape: tuple[int, ...]) -> Parts:
    """Find the convolutions that a model begins with, as far as windows save work.

    A convolution is passed through by windows while that takes fewer multiplications than all of it, on
    images of this shape (height, width, channels). There are none where the model begins otherwise or is
    no plain stack of layers.
    """
    links = _graph.stack(model)
    convolutions: list[keras.layers.Conv2D] = []
    size, window, residues = shape[:2], (1, 1), 1
    for link in links:
        layer = link.layer
        if (
            type(layer) is not keras.layers.Conv2D
            or layer.compute_dtype != "float32"
            or layer.data_format != "channels_last"
            or layer.groups != 1
            or layer.dilation_rate != (1, 1)
            or layer.activation not in ELEMENTWISE
        ):
            break
        kernel, strides = layer.kernel.shape, layer.strides
        size = _outputs(layer, size)
        reached = [(window[i] + kernel[i] - 2) // strides[i] + 1 for i in (0, 1)]
        some = math.prod((*window, *reached))
        residues *= math.prod(strides)
        if some >= math.prod((*kernel[:2], *size)) or residues > MOST_RESIDUES:
            break
        convolutions.append(layer)
        window = reached[0], reached[1]
    return Parts(convolutions, links[len(convolutions) :])


def _outputs(layer: keras.layers.Conv2D, size: tuple[int, ...]) -> tuple[int, int]:
    """Height and width of what a convolution makes of a map of this height and width."""
    room = (0, 0) if layer.padding == "same" else [kernel - 1 for kernel in layer.kernel.shape[:2]]
    rows, columns = (-(-(size[i] - room[i]) // layer.strides[i]) for i in (0, 1))
    return rows, columns


class _Reach(NamedTuple):
    """Along one axis: the outputs of a convolution that a window of its inputs reaches.

    Attributes
    ----------
    first : int
        The first of them, for a window that begins at its residue.
    taps : array, integer, (inputs, outputs)
        Where in the kernel an input meets an output; the kernel's size where it does not.
    """

    first: int
    taps: np.ndarray


def _reach(begin: int, length: int, kernel: int, stride: int) -> _Reach:
    """`begin` counts from the first input of output 0, which may be padding."""
    first = -((kernel - 1 - begin) // stride)
    outputs = np.arange(first, (begin + length - 1) // stride + 1)
    taps = begin + np.arange(length)[:, None] - stride * outputs
    return _Reach(first, np.where((taps >= 0) & (taps < kernel), taps, kernel))


def _windowed_logits(
    model: keras.Model, images: tf.Tensor, image: tf.Tensor, place: tf.Tensor, values: tf.Tensor
) -> tf.Tensor:
    """Logits (m, classes) where one pixel changes, k = 1."""
    height, width, channels = images.shape[1:]
    convolutions, others = take_apart(model, (height, width, channels))
    place = place[:, 0]
    old = tf.gather(tf.reshape(images, (-1, channels)), image * (height * width) + place)
    change = values[:, 0] - old  # (m, channels)

    before = []  # of the activation, for the images as they were
    x = images
    for layer in convolutions:
        z = tf.nn.conv2d(x, layer.kernel, layer.strides, layer.padding.upper())
        z = z + layer.bias if layer.use_bias else z
        before.append((x.shape[1:3], z))
        x = layer.activation(z)

    # Candidates whose pixels have the same residues modulo all strides together meet the same parts of
    # the kernels: for these, each convolution of a window is one product of matrices.
    strides = [math.prod(layer.strides[axis] for layer in convolutions) for axis in (0, 1)]
    residue = (place // width % strides[0]) * strides[1] + place % width % strides[1]
    members = tf.dynamic_partition(tf.range(tf.size(place)), residue, math.prod(strides))
    spots, differences = [], []
    for number, chosen in enumerate(members):
        spot, difference = _last_window(
            convolutions,
            before,
            divmod(number, strides[1]),
            tf.gather(image, chosen),
            tf.gather(place, chosen),
            tf.gather(change, chosen),
            width,
        )
        size = math.prod(x.shape[1:3])
        spots.append(tf.reshape(spot + chosen[:, None] * size, (-1, 1)))
        differences.append(tf.reshape(difference, (-1, x.shape[3])))
    maps = tf.gather(x, image)  # (m, height, width, filters) of the last convolution
    flat = tf.reshape(maps, (-1, x.shape[3]))
    flat = tf.tensor_scatter_nd_add(flat, tf.concat(spots, 0), tf.concat(differences, 0))
    values = tf.reshape(flat, tf.shape(maps))
    for link in others:
        values = link(values)
    return tf.cast(values, tf.float32)


def _last_window(
    convolutions: list[keras.layers.Conv2D],
    before: list[tuple[tuple[int, int], tf.Tensor]],
    residues: tuple[int, int],
    image: tf.Tensor,
    place: tf.Tensor,
    change: tf.Tensor,
    width: int,
) -> tuple[tf.Tensor, tf.Tensor]:
    """What the change of a pixel (m, channels) comes to after the last of the convolutions.

    `before` are, for each of them, height and width of its input, and its output before the activation,
    for the images as they were. Returns places (m, window) in the map of the last, row × width + column,
    and the change of the activations there, (m, window, filters): 0 for those that stand for places
    outside the map.
    """
    count = tf.shape(place)[0]
    starts = [place // width, place % width]
    modulus = [math.prod(layer.strides[axis] for layer in convolutions) for axis in (0, 1)]
    offsets = list(residues)  # of the starts, modulo the strides still to come
    window = [1, 1]
    for layer, (size, z) in zip(convolutions, before, strict=True):
        reaches = []
        for axis in (0, 1):
            inputs, outputs = size[axis], z.shape[1 + axis]
            kernel, stride = layer.kernel.shape[axis], layer.strides[axis]
            padding = max((outputs - 1) * stride + kernel - inputs, 0) // 2
            begin = offsets[axis] + (padding if layer.padding == "same" else 0)
            reach = _reach(begin, window[axis], kernel, stride)
            starts[axis] = (starts[axis] - offsets[axis]) // stride + reach.first
            modulus[axis] //= stride
            offsets[axis] = reach.first % modulus[axis]
            reaches.append(reach)
        # The convolution as a matrix from the window before to the window after it; its entries are the
        # kernel's, and 0 (the row and column that are added) where an input does not meet an output.
        kernel = tf.pad(layer.kernel, [[0, 1], [0, 1], [0, 0], [0, 0]])
        matrix = tf.gather(tf.gather(kernel, reaches[0].taps, axis=0), reaches[1].taps, axis=2)
        matrix = tf.transpose(matrix, (0, 2, 4, 1, 3, 5))
        inputs = math.prod(matrix.shape[:3])
        window = [reach.taps.shape[1] for reach in reaches]
        filters = matrix.shape[-1]
        matrix = tf.reshape(matrix, (inputs, math.prod(window) * filters))
        # A window may be empty: no output has to meet a pixel where strides exceed kernels.
        difference = tf.matmul(tf.reshape(change, (count, inputs)), matrix)
        difference = tf.reshape(difference, (count, *window, filters))
        rows, columns = (starts[axis][:, None] + tf.range(window[axis]) for axis in (0, 1))
        inside = ((rows >= 0) & (rows < z.shape[1]))[:, :, None] & (
            (columns >= 0) & (columns < z.shape[2])
        )[:, None, :]
        rows = tf.clip_by_value(rows, 0, z.shape[1] - 1)
        columns = tf.clip_by_value(columns, 0, z.shape[2] - 1)
        spot = rows[:, :, None] * z.shape[2] + columns[:, None, :]
        places = math.prod(z.shape[1:3])
        old = tf.gather(tf.reshape(z, (-1, filters)), image[:, None, None] * places + spot)
        difference = layer.activation(old + difference) - layer.activation(old)
        change = tf.where(inside[..., None], difference, 0.0)
    places = math.prod(window)
    return tf.reshape(spot, (count, places)), tf.reshape(change, (count, places, filters))


# --- judging ---------------------------------------------------------------------------------------


def _odds(logits: tf.Tensor, classes: tf.Tensor, targeted: tf.Tensor) -> tf.Tensor:
    """Logarithm of p / (1 - p) (m,), where p is the probability of the target, or of an error.

    From the logits: a probability that rounds to 1 would hide how far the others are.
    """
    own = tf.one_hot(classes, tf.shape(logits)[1], on_value=True, off_value=False)
    rest = tf.reduce_logsumexp(tf.where(own, -np.inf, logits), axis=1)
    odds = tf.gather(logits, classes, batch_dims=1) - rest
    odds = tf.where(targeted, odds, -odds)
    return tf.where(tf.reduce_all(tf.math.is_finite(logits), axis=1), odds, -np.inf)


def _judge_painted(
    model: keras.Model,
    images: tf.Tensor,
    classes: tf.Tensor,
    targeted: tf.Tensor,
    image: tf.Tensor,
    place: tf.Tensor,
    values: tf.Tensor,
) -> tuple[tf.Tensor, ...]:
    """Odds (m,), success (m,) and logits (m, classes) by a forward pass."""
    logits = _painted_logits(model, images, image, place, values)
    classes = tf.gather(classes, image)
    return _odds(logits, classes, targeted), _loop.fooled(logits, classes, targeted), logits


def _judge_windows(
    model: keras.Model,
    images: tf.Tensor,
    classes: tf.Tensor,
    targeted: tf.Tensor,
    image: tf.Tensor,
    place: tf.Tensor,
    values: tf.Tensor,
) -> tuple[tf.Tensor, ...]:
    """The same through windows; and whether rounding errors may decide on success, bool (m,)."""
    logits = _windowed_logits(model, images, image, place, values)
    classes = tf.gather(classes, image)
    largest = tf.math.top_k(logits, 2).values
    doubt = largest[:, 0] - largest[:, 1] <= DOUBT * tf.reduce_max(tf.abs(logits))
    return _odds(logits, classes, targeted), _loop.fooled(logits, classes, targeted), logits, doubt


class Judge:
    """Odds and success of candidates, block by block.

    Parameters
    ----------
    model : keras.Model
    images : array, float32, (n, height, width, channels)
    classes : array, integer, (n,)
        True classes, or targets.
    targeted : bool
    pixels : int
        k, the same for all candidates.
    """

    def __init__(
        self, model: keras.Model, images: np.ndarray, classes: np.ndarray, *, targeted: bool, pixels: int
    ) -> None:
        self._model = model
        self._images = tf.constant(images)
        self._classes = tf.constant(classes, tf.int32)
        self._targeted = tf.constant(targeted)
        self._compiled: dict[Any, Any] = {}
        self._painted_block = _loop.fitting_batch(images)
        self.block = self._painted_block  # candidates at a time
        self._windowed = False
        parts = take_apart(model, images.shape[1:])
        if pixels == 1 and parts.convolutions and self._windows_agree():
            self._windowed = True
            self.block = max(1, WINDOW_VALUES // _largest(parts, images[:1]))

    def unchanged(self) -> tuple[np.ndarray, np.ndarray]:
        """Odds, float32 (n,), and success, bool (n,), of each image as it is."""
        image = np.arange(len(self._images))
        place = tf.zeros((len(image), 1), tf.int32)
        return self._painted(image, place, self._images[:, :1, 0])

    def __call__(
        self, image: np.ndarray, place: tf.Tensor, values: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Odds, float32 (m,), and success, bool (m,), of candidates.

        Parameters
        ----------
        image : array, integer, (m,)
        place, values : tensors
            As `paint` takes them.
        """
        blocks = [
            self._of_block(image[part], place[part], values[part])
            for part in _parts(len(image), self.block)
        ]
        odds, success = zip(*blocks, strict=True)
        return tf.concat(odds, 0), tf.concat(success, 0)

    def _of_block(
        self, image: np.ndarray, place: tf.Tensor, values: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        if not self._windowed:
            return self._judged(_judge_painted, image, place, values)[:2]
        odds, success, _, doubt = self._judged(_judge_windows, image, place, values)
        some = np.flatnonzero(doubt)
        if some.size:
            # Their odds stay: those of an image must not depend on what else is in the block.
            _, again = self._painted(image[some], tf.gather(place, some), tf.gather(values, some))
            success = tf.tensor_scatter_nd_update(success, some[:, None], again)
        return odds, success

    def _painted(
        self, image: np.ndarray, place: tf.Tensor, values: tf.Tensor
    ) -> tuple[np.ndarray, np.ndarray]:
        """Odds, float32 (m,), and success, bool (m,), by forward passes."""
        blocks = [
            self._judged(_judge_painted, image[part], place[part], values[part])[:2]
            for part in _parts(len(image), self._painted_block)
        ]
        odds, success = (np.concatenate(column) for column in zip(*blocks, strict=True))
        return odds, success

    def _judged(
        self, way: Any, image: np.ndarray, place: tf.Tensor, values: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        used, which = np.unique(image, return_inverse=True)
        images, classes = tf.gather(self._images, used), tf.gather(self._classes, used)
        which = tf.constant(which.reshape(-1), tf.int32)
        arguments = images, classes, self._targeted, which, place, values
        form = way, place.shape[1]
        if form not in self._compiled:
            self._compiled[form] = _traces.compiled(self._model, way, *arguments)
        return self._compiled[form](self._model, *arguments)

    def _windows_agree(self) -> bool:
        """Whether windows give the logits of forward passes, to a tenth of what counts as in doubt.

        Tried for a few candidates: a layer may not be what it seems, and rounding errors may be large
        where logits nearly cancel.
        """
        random = np.random.default_rng(0)
        count, height, width, channels = self._images.shape
        image = random.integers(0, min(count, 8), 32)
        place = tf.constant(random.integers(0, height * width, (32, 1)), tf.int32)
        values = tf.constant(random.random((32, 1, channels), np.float32))
        plain, windowed = (
            self._judged(way, image, place, values)[2] for way in (_judge_painted, _judge_windows)
        )
        error = tf.reduce_max(tf.abs(windowed - plain))
        return bool(error <= DOUBT / 10 * tf.reduce_max(tf.abs(plain)))


def _largest(parts: Parts, image: np.ndarray) -> int:
    """Values of the largest array of a candidate on its way through windows and later layers."""
    values = tf.constant(image)
    for layer in parts.convolutions:
        values = layer(values)
    sizes = [math.prod(values.shape[1:])]
    for link in parts.others:
        values = link(values)
        sizes.append(math.prod(values.shape[1:]))
    window = [1, 1]
    for layer in parts.convolutions:
        for axis in (0, 1):
            window[axis] = (window[axis] + layer.kernel.shape[axis] - 2) // layer.strides[axis] + 1
        sizes.append(math.prod(window) * layer.filters)
    return max(sizes)


def _parts(count: int, size: int) -> list[slice]:
    """Parts of about equal length, `size` at most."""
    edges = np.linspace(0, count, -(-count // size) + 1).astype(int)
    return [slice(first, last) for first, last in pairwise(edges)]
