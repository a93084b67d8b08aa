"""What is asked of a model before it is believed, and how its logits are read.

Every function of the package that takes a model for its logits, or for its images, asks here first:
whether it is a Keras 3 model, whether it answers with these, and with the same ones when asked again.
"""

import re
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
# Layers that compute nothing: a sigmoid before them is the last thing that is computed.
SHAPING = (
    *(keras.layers.Dropout, keras.layers.Identity, keras.layers.Flatten, keras.layers.Reshape),
    *(keras.layers.GlobalAveragePooling2D, keras.layers.Permute),
)
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
    # In half precision a trace rounds otherwise, by enough to decide on many an image.
    if not randomized and not _precision(model):
        some = np.unique(np.linspace(0, len(images) - 1, CONFIRMED).astype(int))
        itself = predict(model, images[some], batch_size=batch_size)
        if not _differ(logits[some], itself, 1e-5):
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
        logits (n, classes), finite for the first images, returns probabilities, or, unless `randomized`,
        answers the same images differently when it is asked again.
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


def gives_probabilities(model: Any, images: np.ndarray) -> bool:
    """Whether what a model answers adds up to 1, as probabilities do and logits do not.

    Raises
    ------
    ValueError
        If it does not answer with one tensor, one row an image.
    """
    answers = _ask(model, _some(images), "model", "logits (n, classes)")
    return answers.ndim == 2 and answers.shape[1] > 1 and _add_up(answers, (1,))


def draws_at_random(model: Any, images: np.ndarray) -> bool:
    """Whether a model answers the same images differently when it is asked again."""
    batch = _some(images)
    answers, again = (_ask(model, batch, "model", "logits (n, classes)") for _ in range(2))
    return _differ(answers, again, 1e-5 + _precision(model))


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
    # Of noise some may be out of its reach; what is finite must be on the scale, to rounding errors.
    low, high = np.nanmin(answers), np.nanmax(answers)
    if not (low >= -1e-6 and high <= 1 + 1e-6):
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
            + f", but calling it on some failed: {_reason(error)}"
        ) from error
    check_one_tensor(outputs, name, what)
    if not outputs.dtype.is_floating or outputs.shape[:1] != (len(batch),):
        raise ValueError(
            f"{name} must return {what}, floating-point, one row an image, "
            f"got {outputs.dtype.name} of shape {tuple(outputs.shape)} for {len(batch)} images"
        )
    return np.asarray(tf.cast(outputs, tf.float32))


def _reason(error: Exception) -> str:
    """The line of an error's text that says what happened: not the one that Keras puts in front."""
    lines = [re.sub(r"\x1b\[\d*m", "", line).strip() for line in str(error).splitlines()]
    told = [line for line in lines if line and not line.startswith("Exception encountered when calling")]
    return f"{type(error).__name__}: {told[0][:300]}" if told else type(error).__name__


def _check_no_probabilities(model: keras.Model, answers: np.ndarray, name: str) -> None:
    """Probabilities would be taken for logits without a word, and what is made of them would be weak."""
    likely = _add_up(answers, (1, 100))
    if likely or _ends_in_a_sigmoid(model):
        raise ValueError(
            f"{name} must return logits, got probabilities: take its "
            f"{'softmax' if likely else 'sigmoid'} away"
        )


def _add_up(answers: np.ndarray, totals: tuple[int, ...]) -> bool:
    """Whether answers (n, k), where they are finite, are shares of 1, or percentages of 100."""
    rows = answers[np.isfinite(answers).all(axis=1)].astype(np.float64)
    sums = rows.sum(axis=1)
    return (
        len(rows) > 0
        and bool((rows >= 0).all())
        and any(bool((np.abs(sums / total - 1) < ROUNDING).all()) for total in totals)
    )


def _ends_in_a_sigmoid(model: keras.Model) -> bool:
    """Whether the last thing that a model computes, as far as that can be read, is a sigmoid.

    Its outputs do not add up to 1.
    """
    try:
        graph = _graph.read(model)
    except ValueError:
        return False
    values = graph.outputs[0]
    for use in reversed(graph.uses):
        if all(output is not values for output in use.outputs):
            continue
        operation = use.operation
        if isinstance(operation, keras.Model):
            return _ends_in_a_sigmoid(operation)
        function = getattr(operation, "activation", getattr(operation, "function", operation))
        called = getattr(function, "__name__", type(function).__name__).lower()
        if called.replace("_", "") in {"sigmoid", "hardsigmoid"}:
            return True
        if not isinstance(operation, SHAPING) and called != "linear":
            return False
        values = use.node.input_tensors[0]
    return False


def _differ(answers: np.ndarray, others: np.ndarray, by: float) -> bool:
    """Whether logits (n, k) differ by more than this share of their size.

    The size is how far the logits of a class lie apart, and a tenth of the logit itself: a class that is
    masked by a huge logit, or an offset of all, makes the others no larger.
    """
    finite = np.isfinite(answers) & np.isfinite(others)
    if not np.array_equal(answers[~finite], others[~finite], equal_nan=True):
        return True
    answers, others = (np.where(finite, values, 0).astype(np.float64) for values in (answers, others))
    allowed = by * (np.ptp(answers, axis=0) + 0.1 * np.abs(answers))
    return bool((np.abs(answers - others) > allowed).any())


def _check_same_again(
    model: keras.Model, batch: np.ndarray, answers: np.ndarray, name: str, *, traced: bool
) -> None:
    """Ask again: a trace, if there will be traces; and where that differs, the model itself."""

    def of_trace() -> np.ndarray:
        images = tf.constant(batch)
        try:
            return _traces.compiled(model, logits_of, images)(model, images).numpy()
        except Exception as error:
            raise ValueError(
                f"{name} must work also when it is compiled by tf.function, for any number of images, "
                f"but that failed: {_reason(error)}"
            ) from error

    if traced and not _differ(answers, of_trace(), 1e-6):
        return
    # The same computation once more: what differs by more than a rounding error was drawn.
    precision = _precision(model)
    again = _ask(model, batch, name, "the same")
    flat, flat_again = (values.reshape(len(batch), -1) for values in (answers, again))
    if _differ(flat, flat_again, 1e-5 + precision):
        with np.errstate(invalid="ignore"):
            largest = np.nanmax(np.abs(again - answers))
        raise ValueError(
            f"{name} must answer the same images the same way again, got answers that differ by "
            f"{largest:.3g}: it draws at random, or keeps a state. Where that is meant and the function "
            "takes it, say randomized=True"
        )
    # A trace adds up in another order; more than that is another model.
    if traced and _differ(answers, of_trace(), 1e-3 + 64 * precision):
        _traces.forget(model)
        if _differ(answers, of_trace(), 0.1 + 64 * precision):
            raise ValueError(f"{name} must answer as it does also when compiled by tf.function")


def _precision(model: keras.Model) -> float:
    """The coarsest spacing of numbers near 1 that a layer of the model computes in, beyond float32's."""
    spacings = {"float16": 2.0**-10, "bfloat16": 2.0**-7}
    layers = [each for each in model._flatten_layers() if not isinstance(each, keras.layers.InputLayer)]
    return max((spacings.get(layer.compute_dtype, 0.0) for layer in layers), default=0.0)


def _strange(values: np.ndarray) -> str:
    """The first value that is not finite."""
    return str(values[~np.isfinite(values)][0])
