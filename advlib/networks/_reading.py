"""What any model says about images, and what its layers do."""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from advlib import _graph, _models
from advlib._checks import check_flag, check_images, check_input_shape, check_integer, check_labels


def predict_logits(
    model: keras.Model, images: np.ndarray, *, randomized: bool = False, batch_size: int = 1000
) -> np.ndarray:
    """Logits of many images, batch by batch.

    Parameters
    ----------
    model : keras.Model
        Maps float32 (n, height, width, channels) in [0, 1] to logits (n, classes).
    images : array, float32, (n, height, width, channels)
        Pixel scale [0, 1].
    randomized : bool
        Whether the model may answer at random; else such a model is refused.
    batch_size : int
        Images per forward pass; bounds the memory. Changes the logits by rounding errors only.

    Returns
    -------
    array, float32, (n, classes)
        Whatever the model computes in. The predicted class of each image is `.argmax(axis=1)`.

    Raises
    ------
    ValueError
        If an argument is not of that form, the model does not return logits, or it answers the same
        images differently when it is asked again and is not `randomized`.
    """
    images = check_images(images)
    batch_size = check_integer(batch_size, "batch_size")
    _models.check_logits(model, images, randomized=check_flag(randomized, "randomized"))
    return _models.predict(model, images, batch_size=batch_size)


def activations(
    model: keras.Model,
    images: np.ndarray,
    *,
    layers: Sequence[str] | None = None,
    batch_size: int = 1000,
) -> dict[str, np.ndarray]:
    """Outputs of the model's layers.

    Parameters
    ----------
    model : keras.Model
        Functional or sequential.
    images : array, float32, (n, height, width, channels)
        Pixel scale [0, 1].
    layers : sequence of str, optional
        Names of layers, as `extractor` takes them; without it every layer but the input, in the model's
        order.
    batch_size : int
        Images per forward pass.

    Returns
    -------
    dict from name to array, (n, *output shape of the layer)
        In the order of `layers`, in what each layer computes in: float32 in the book's networks. All of
        it is in memory at once: the first convolution alone takes 50 kB per digit.

    Raises
    ------
    ValueError
        If a layer is unknown (the message lists the names) or the images are not of that form.
    """
    images = check_images(images)
    check_input_shape(model, images)
    inside = extractor(model, layers)
    batch_size = check_integer(batch_size, "batch_size")
    # Called, not `predict`: that would compile each new model, and warn of it.
    batches = [
        inside(tf.constant(images[start : start + batch_size]), training=False)
        for start in range(0, len(images), batch_size)
    ]
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def without_softmax(model: keras.Model) -> keras.Model:
    """A model with the same inputs that returns the logits of which this one returns the softmax.

    Parameters
    ----------
    model : keras.Model
        Functional or sequential. The last that it computes is a softmax: a layer, an activation, or
        `keras.ops.softmax`.

    Returns
    -------
    keras.Model
        It shares the layers of the other; but where the softmax is the activation of the last layer, it
        has a copy of that one as it is now.

    Raises
    ------
    ValueError
        If the model is not of that form.
    """
    graph = _graph.read(model)
    if len(graph.outputs) == 1:
        output = graph.outputs[0]
        inputs = graph.inputs if len(graph.inputs) > 1 else graph.inputs[0]
        use = next(use for use in graph.uses if any(each is output for each in use.outputs))
        operation, values = use.operation, use.node.input_tensors[0]
        activation = getattr(operation, "activation", None)
        if isinstance(operation, keras.Model):
            return keras.Model(inputs, without_softmax(operation)(values))
        if isinstance(operation, keras.layers.Activation) and activation is keras.activations.softmax:
            return keras.Model(inputs, values)
        if type(operation).__name__ == "Softmax":  # a layer, or the function of keras.ops
            return keras.Model(inputs, values)
        if activation is keras.activations.softmax:
            linear = type(operation).from_config(operation.get_config() | {"activation": "linear"})
            logits = linear(values)
            linear.set_weights(operation.get_weights())
            return keras.Model(inputs, logits)
    raise ValueError("model must end in a softmax")


def extractor(model: keras.Model, layers: Sequence[str] | None = None) -> keras.Model:
    """A model with the same inputs and weights that returns the outputs of layers.

    Parameters
    ----------
    model : keras.Model
        Functional or sequential.
    layers : sequence of str, optional
        Names of layers; without it every layer but the input, in the model's order. A model inside of
        the model counts as one layer. Further uses of a layer that is used more than once have names of
        their own: "conv", "conv:2", …

    Returns
    -------
    keras.Model
        Its output is a dict from the names, in the order of `layers`: what the layers answer in this
        model, whatever others use them.

    Raises
    ------
    ValueError
        If the model is not of that form, a layer is unknown or none is named (the message lists the
        names), or a layer has several outputs or is not on the way from the inputs.
    """
    known = _graph.named(model)
    chosen = list(known) if layers is None else list(layers)
    if not chosen or not set(chosen) <= set(known):
        inside = [
            f"{name!r} is inside {model_inside.name}: take it from that model"
            for model_inside in model.layers
            if isinstance(model_inside, keras.Model)
            for name in {layer.name for layer in model_inside.layers} & set(chosen)
        ]
        raise ValueError(
            f"layers must be among {', '.join(known)}, got {chosen}"
            + (f" ({'; '.join(inside)})" if inside else "")
        )
    outputs = {name: known[name] for name in chosen}
    several = [name for name, output in outputs.items() if not isinstance(output, keras.KerasTensor)]
    if several:
        raise ValueError(f"layers must have one output each, which {', '.join(several)} have not")
    return keras.Model(model.inputs, outputs)


def correctly_classified(
    model: keras.Model, images: np.ndarray, labels: np.ndarray, *, digit: int, count: int
) -> np.ndarray:
    """Indices of the first images of one class that the model classifies correctly.

    The book's running examples are the first ten 2s of the test digits that pass.

    Parameters
    ----------
    model : keras.Model
    images : array, float32, (n, height, width, channels)
        Pixel scale [0, 1].
    labels : array, integer, (n,)
        True classes.
    digit : int
        The class.
    count : int
        How many.

    Returns
    -------
    array, int64, (count,)
        Rising indices into `images`.

    Raises
    ------
    ValueError
        If there are fewer than `count`, `digit` is no class of the model, images or labels are not of
        that form, or the model does not return logits, the same ones when it is asked again.
    """
    images = check_images(images)
    classes = _models.check_logits(model, images)
    labels = check_labels(labels, len(images), classes)
    digit = check_integer(digit, "digit", low=0, high=classes - 1)
    count = check_integer(count, "count")
    predictions = _models.predict(model, images, batch_size=1000).argmax(axis=1)
    indices = np.flatnonzero((labels == digit) & (predictions == digit))
    if len(indices) < count:
        raise ValueError(
            f"count must be at most {len(indices)}, the correctly classified images of class "
            f"{digit}, got {count}"
        )
    return indices[:count]
