"""What is asked of a model before it is believed, and how its logits are read.

Every function of the package that takes a model asks here first: whether it is a Keras 3 model, whether
it answers with logits, and whether it answers the same images the same way again.
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from advlib import _graph, _traces
from advlib._checks import check_input_shape, check_model

# How many of the images a model is asked about, and how many images of noise beside them: of a few
# images, logits may add up to 1 by chance, and an autoencoder may be on its scale.
ASKED = 8
# Of the attacked images, how many a model is called on to see that its traces answer as it does.
CONFIRMED = 16
# Probabilities add up to 1 within this, whatever precision they were rounded to.
ROUNDING = 0.02


def logits_of(model: keras.Model, images: tf.Tensor) -> tf.Tensor:
    """Logits (m, k) in float32, whatever the model computes in."""
    return tf.cast(model(images, training=False), tf.float32)


def predict(model: keras.Model, images: np.ndarray, *, batch_size: int) -> np.ndarray:
    """Logits of many images, float32 (n, k), batch by batch, by the model as it is now.

    The model is called, not compiled: no trace of it can be out of date.
    """
    batches = (images[start : start + batch_size] for start in range(0, len(images), batch_size))
    return np.concatenate([logits_of(model, tf.constant(batch)).numpy() for batch in batches])


def look(model: keras.Model, images: np.ndarray, *, randomized: bool, batch_size: int) -> np.ndarray:
    """Logits of attacked images, float32 (n, k): a trace's, which are compared with the model's own."""
    parts = []
    for start in range(0, len(images), batch_size):
        batch = tf.constant(images[start : start + batch_size])
        parts.append(_traces.compiled(model, logits_of, batch)(model, batch).numpy())
    logits = np.concatenate(parts)
    return confirm(model, images, logits, randomized=randomized, batch_size=batch_size)


def confirm(
    model: keras.Model,
    images: np.ndarray,
    logits: np.ndarray,
    *,
    randomized: bool,
    batch_size: int,
) -> np.ndarray:
    """Logits of attacked images by which success is told: the model's own, float32 (n, k).

    Those that a trace has given stand if the model itself, called on some of the images, agrees with
    them. Where it does not, and where it is `randomized`, it is called on all.
    """
    if not randomized:
        some = np.unique(np.linspace(0, len(images) - 1, CONFIRMED).astype(int))
        itself = predict(model, images[some], batch_size=batch_size)
        scale = np.abs(itself[np.isfinite(itself)]).max(initial=1e-6)
        rounding = (1e-5 + 16 * _precision(model)) * scale
        if np.allclose(logits[some], itself, rtol=0, atol=rounding, equal_nan=True):
            return logits
    return predict(model, images, batch_size=batch_size)


def check_logits(
    model: Any,
    images: np.ndarray,
    name: str = "model",
    *,
    randomized: bool = False,
    traced: bool = False,
) -> int:
    """Check that a model makes logits of images; return the number of classes.

    Parameters
    ----------
    model : keras.Model
    images : array, float32, (n, height, width, channels)
        Checked already.
    randomized : bool
        Whether the caller knows that it answers at random.
    traced : bool
        Whether traces of the model will be used: then those that no longer answer as the model does
        are forgotten.

    Raises
    ------
    ValueError
        If it is no Keras 3 model, does not take images of this shape, does not return one tensor of
        finite logits (n, classes), returns probabilities, or, unless `randomized`, answers the same
        images differently when it is asked again.
    """
    check_model(model, name)
    check_input_shape(model, images)
    batch = _some(images)
    answers = _ask(model, batch, name, "logits (n, classes)")
    if answers.ndim != 2 or answers.shape[1] < 2:
        raise ValueError(
            f"{name} must return logits of shape (n, classes), with two classes at least, "
            f"got {('n', *answers.shape[1:])}".replace("'", "")
        )
    known = len(batch) // 2
    if not np.isfinite(answers[:known]).all():
        raise ValueError(f"{name} must return finite logits, got {_strange(answers[:known])}")
    _check_no_probabilities(model, answers, name)
    if traced:
        _traces.refresh(model)
    if not randomized:
        _check_same_again(model, batch, answers, name, traced=traced)
    return answers.shape[1]


def check_autoencoder(model: Any, images: np.ndarray, name: str = "autoencoder") -> None:
    """Check that a model makes images of images: of their shape, in [0, 1], the same ones each time.

    Parameters
    ----------
    model : keras.Model
    images : array, float32, (n, height, width, channels)
        Checked already.

    Raises
    ------
    ValueError
        If it does not; the message names it.
    """
    check_model(model, name)
    batch = _some(images)
    answers = _ask(model, batch, name, f"images of shape {images.shape[1:]}")
    check_reconstruction(answers.shape, images.shape, name)
    known = answers[: len(batch) // 2]
    if not np.isfinite(known).all():
        raise ValueError(f"{name} must return finite images, got {_strange(known)}")
    # Of noise some may be out of its reach; what is finite must be on the scale.
    low, high = np.nanmin(answers), np.nanmax(answers)
    if not (low >= 0 and high <= 1):
        raise ValueError(
            f"{name} must return images in [0, 1], got values from {low:.4g} to {high:.4g}: "
            "end it in a sigmoid, or scale what it returns"
        )
    _check_same_again(model, batch, answers, name, traced=False)


def check_reconstruction(found: Any, wanted: Any, name: str = "autoencoder") -> None:
    """Check that reconstructions (n, …) have the shape of the images (n, …), but for n.

    Raises
    ------
    ValueError
        If they have not; the message gives both shapes.
    """
    if tuple(found[1:]) != tuple(wanted[1:]):
        raise ValueError(
            f"{name} must return images of shape {tuple(wanted[1:])}, got {tuple(found[1:])}"
        )


def check_one_tensor(outputs: Any, name: str, what: str) -> None:
    """Check that a model has returned a tensor, and not several.

    Raises
    ------
    ValueError
        If it has not.
    """
    if isinstance(outputs, tf.Tensor):
        return
    kind = type(outputs).__name__
    if isinstance(outputs, dict):
        kind = f"a dict of {', '.join(map(str, outputs))}"
    elif isinstance(outputs, list | tuple):
        kind = f"a {kind} of {len(outputs)}"
    raise ValueError(f"{name} must return {what} in one tensor, got {kind}")


def _some(images: np.ndarray) -> np.ndarray:
    """The first of the images, and as many of noise."""
    first = images[:ASKED]
    return np.concatenate([first, np.random.default_rng(0).random(first.shape, np.float32)])


def _ask(model: keras.Model, batch: np.ndarray, name: str, what: str) -> np.ndarray:
    """What the model answers, as float32."""
    try:
        outputs = model(batch, training=False)
    except Exception as error:
        shape = ("n", *batch.shape[1:])
        raise ValueError(
            f"{name} must take images of shape {shape}".replace("'", "")
            + f", but calling it on some failed: {str(error).strip().splitlines()[0][:300]}"
        ) from error
    check_one_tensor(outputs, name, what)
    if not outputs.dtype.is_floating or outputs.shape[:1] != (len(batch),):
        raise ValueError(
            f"{name} must return {what}, floating-point, one row an image, "
            f"got {outputs.dtype.name} of shape {tuple(outputs.shape)} for {len(batch)} images"
        )
    return np.asarray(tf.cast(outputs, tf.float32))


def _check_no_probabilities(model: keras.Model, answers: np.ndarray, name: str) -> None:
    """Probabilities would be taken for logits without a word, and what is made of them would be weak."""
    rows = answers[np.isfinite(answers).all(axis=1)]
    likely = (rows >= 0).all() and (np.abs(rows.sum(axis=1, dtype=np.float64) - 1) < ROUNDING).all()
    if likely or _ends_in_a_sigmoid(model):
        raise ValueError(
            f"{name} must return logits, got probabilities: take its "
            f"{'softmax' if likely else 'sigmoid'} away"
        )


def _ends_in_a_sigmoid(model: keras.Model) -> bool:
    """Whether the last thing that a model computes, as far as that can be read, is a sigmoid.

    Its outputs do not add up to 1.
    """
    links = _graph.stack(model)
    last = links[-1].layer if links else None
    return getattr(last, "activation", None) is keras.activations.sigmoid


def _check_same_again(
    model: keras.Model, batch: np.ndarray, answers: np.ndarray, name: str, *, traced: bool
) -> None:
    """Ask again: a trace, if there will be traces; and where that differs, the model itself."""
    scale = float(np.abs(answers[np.isfinite(answers)]).max(initial=1e-6))

    def differ(others: np.ndarray, by: float) -> bool:
        both = np.isfinite(answers) & np.isfinite(others)
        strange = np.isfinite(answers) != np.isfinite(others)
        return bool(strange.any() or np.abs(np.where(both, answers - others, 0)).max() > by * scale)

    def of_trace() -> np.ndarray:
        images = tf.constant(batch)
        return _traces.compiled(model, logits_of, images)(model, images).numpy()

    if traced and not differ(of_trace(), 1e-6):
        return
    # The same computation once more: what differs by more than a rounding error was drawn.
    precision = _precision(model)
    again = _ask(model, batch, name, "the same")
    if differ(again, 1e-5 + precision):
        largest = np.nanmax(np.abs(again - answers))
        raise ValueError(
            f"{name} must answer the same images the same way again, got answers that differ by "
            f"{largest:.3g}: it draws at random, or keeps a state. Where that is meant and the function "
            "takes it, say randomized=True"
        )
    # A trace adds up in another order; more than that is another model.
    if traced and differ(of_trace(), 1e-3 + 64 * precision):
        _traces.forget(model)
        if differ(of_trace(), 0.1 + 64 * precision):
            raise ValueError(f"{name} must answer as it does also when compiled by tf.function")


def _precision(model: keras.Model) -> float:
    """The coarsest spacing of numbers near 1 that a layer of the model computes in, beyond float32's."""
    spacings = {"float16": 2.0**-10, "bfloat16": 2.0**-7}
    layers = [each for each in model._flatten_layers() if not isinstance(each, keras.layers.InputLayer)]
    return max((spacings.get(layer.compute_dtype, 0.0) for layer in layers), default=0.0)


def _strange(values: np.ndarray) -> str:
    """The first value that is not finite."""
    return str(values[~np.isfinite(values)][0])
