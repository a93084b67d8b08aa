"""Checks of arguments, shared by every module: nothing is silently clipped or cast."""

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np


def check_model(model: Any, name: str = "model") -> None:
    """Check that a model is one of Keras 3.

    Raises
    ------
    ValueError
        If it is not; the message names an older Keras's as such.
    """
    import keras  # here: images are checked where TensorFlow is not needed

    if isinstance(model, keras.Model):
        return
    roots = {base.__module__.split(".")[0] for base in type(model).__mro__ if base.__name__ == "Model"}
    if roots & {"tf_keras", "tensorflow", "keras"}:
        raise ValueError(
            f"{name} must be a Keras 3 model, got one of an older Keras "
            f"({type(model).__module__.split('.')[0]}): build it with `keras` and load its weights"
        )
    raise ValueError(f"{name} must be a Keras model, got {type(model).__name__}")


def check_images(images: Any, name: str = "images") -> np.ndarray:
    """Return `images` when it is a float32 batch (n, height, width, channels) in [0, 1].

    Raises
    ------
    ValueError
        If the dtype or the number of axes differs, the batch is empty, or a pixel is not finite or
        lies outside [0, 1]. The message names the argument.
    """
    array = np.asarray(images)
    if array.dtype != np.float32:
        raise ValueError(f"{name} must be float32 on the pixel scale [0, 1], got dtype {array.dtype}")
    if array.ndim != 4:
        raise ValueError(
            f"{name} must have shape (n, height, width, channels), got {array.shape}"
            + (" (a single image? add an axis: images[None])" if array.ndim == 3 else "")
        )
    if array.size == 0:
        raise ValueError(f"{name} must hold at least one image, got shape {array.shape}")
    low, high = array.min(), array.max()
    # NaN fails both comparisons.
    if not (low >= 0 and high <= 1):
        raise ValueError(f"{name} must be finite and lie in [0, 1], got values from {low} to {high}")
    return array


def check_labels(labels: Any, count: int, classes: int, name: str = "labels") -> np.ndarray:
    """Return `labels` when it is an integer vector of `count` classes below `classes`.

    Raises
    ------
    ValueError
        If the dtype is not an integer's, the shape is not (count,), or a label lies outside
        [0, classes). The message names the argument.
    """
    array = np.asarray(labels)
    if not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"{name} must be integers from 0 to {classes - 1}, got dtype {array.dtype}")
    if array.shape != (count,):
        raise ValueError(f"{name} must have shape ({count},), one per image, got {array.shape}")
    if array.size and not (array.min() >= 0 and array.max() < classes):
        raise ValueError(
            f"{name} must lie between 0 and {classes - 1}, got {array.min()} to {array.max()}"
        )
    return array


def check_integer(value: Any, name: str, *, low: int = 1, high: int | None = None) -> int:
    """Return `value` as int when it is a whole number from `low` to `high`.

    Raises
    ------
    ValueError
        If it is not. The message names the argument.
    """
    value = _scalar(value)
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or value < low or (high is not None and value > high):
        allowed = f"of at least {low}" if high is None else f"from {low} to {high}"
        raise ValueError(f"{name} must be a whole number {allowed}, got {value!r}")
    return int(value)


def check_flag(value: Any, name: str) -> bool:
    """Return `value` as bool when it is True or False.

    Raises
    ------
    ValueError
        If it is not. The message names the argument.
    """
    value = _scalar(value)
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def check_choice(value: Any, allowed: Sequence[str], name: str) -> Any:
    """Return `value` when it is one of the words that are allowed.

    Raises
    ------
    ValueError
        If it is another; the message names the argument.
    """
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
    return value


def check_number(value: Any, name: str, *, low: float, high: float) -> float:
    """Return `value` as float when it is a real number from `low` to `high`.

    Raises
    ------
    ValueError
        If it is not. The message names the argument.
    """
    value = _scalar(value)
    number = isinstance(value, Real) and not isinstance(value, bool)
    if not number or not low <= value <= high:
        raise ValueError(f"{name} must be a number from {low:g} to {high:g}, got {value!r}")
    return float(value)


def _scalar(value: Any) -> Any:
    """What an array without axes holds: NumPy gives such ones for numbers, too."""
    return value[()] if isinstance(value, np.ndarray) and value.ndim == 0 else value


def check_per_image(values: Any, count: int, name: str, *, high: float = 1.0) -> np.ndarray:
    """Return numbers from 0 to `high`, one per image, as float64 (count,).

    Raises
    ------
    ValueError
        If `values` is neither one such number nor a vector of `count` of them, or one is not finite.
        The message names the argument.
    """
    array = np.asarray(values)
    if array.dtype.kind not in "iuf" or array.shape not in ((), (count,)):
        raise ValueError(
            f"{name} must be a number, or {count} numbers, one per image, "
            f"got {array.dtype} of shape {array.shape}"
        )
    # NaN fails every comparison.
    if not (array.min() >= 0 and array.max() <= high and array.max() < np.inf):
        allowed = "be finite and not negative" if high == np.inf else f"lie between 0 and {high:g}"
        raise ValueError(f"{name} must {allowed}, got {array.min()} to {array.max()}")
    return np.broadcast_to(array, (count,)).astype(np.float64)


def check_input_shape(model: Any, images: np.ndarray, name: str = "images") -> None:
    """Check that `model` takes images of this height, width and number of channels, if it says so.

    Raises
    ------
    ValueError
        If it does not; the message gives both shapes.
    """
    shape = getattr(model, "input_shape", None)
    if shape is None:  # a subclassed model, or one that has not been built
        return
    expected = tuple(shape[1:])
    given = images.shape[1:]
    if len(expected) != len(given) or any(
        size not in (None, got) for size, got in zip(expected, given, strict=True)
    ):
        raise ValueError(
            f"{name} must have shape (n, {', '.join(map(str, expected))}) for this model, "
            f"got {images.shape}"
        )


def check_same_shape(images: np.ndarray, others: np.ndarray, name: str) -> None:
    """Check that others have the shape of the images.

    Raises
    ------
    ValueError
        If they do not; the message names them and gives both shapes.
    """
    if others.shape != images.shape:
        raise ValueError(f"{name} must have the shape of images, {images.shape}, got {others.shape}")
