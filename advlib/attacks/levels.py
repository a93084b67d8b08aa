"""Images on whole levels of grey, as a file keeps them."""

from dataclasses import replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from advlib import data
from advlib._checks import check_flag, check_integer
from advlib.attacks import _loop
from advlib.attacks._result import Result


def quantized(
    model: keras.Model,
    result: Result,
    labels: np.ndarray,
    *,
    levels: int = 256,
    targeted: bool = False,
    randomized: bool = False,
    batch_size: int | None = None,
) -> Result:
    """What is left of an attack when its images are rounded to whole levels, as a file keeps them.

    Rounding moves a pixel by up to half a level: the bound of the attack may be exceeded by as much.

    Parameters
    ----------
    model, randomized, batch_size
        As in `fgsm`.
    result : AttackResult
    labels : array, integer, (n,)
        The true classes, or, if `targeted`, the classes aimed at.
    levels : int
        How many values a pixel may take, evenly spaced from 0 to 1; from 2 to 65,536.
    targeted : bool
        Whether `labels` are targets.

    Returns
    -------
    AttackResult
        The same record with the rounded images, and the success that the model sees in these.

    Raises
    ------
    ValueError
        If an argument is not of that form; the message names it.
    """
    images, labels = _loop.check_arguments(
        model, result.images, labels, batch_size, randomized=randomized
    )
    levels = check_integer(levels, "levels", low=2, high=2**16)
    images = data.quantize(images, levels=levels)
    success = _loop.look(
        *(model, images, labels),
        targeted=check_flag(targeted, "targeted"),
        randomized=randomized,
        batch_size=batch_size or _loop.fitting_batch(images),
    )
    return replace(result, images=images, success=success)


def check_levels(levels: Any, images: np.ndarray) -> int:
    """How many steps there are from 0 to 1; 0 where `levels` is None.

    Raises
    ------
    ValueError
        If it is neither None nor a whole number from 2 to 65,536, or the images lie between levels.
    """
    if levels is None:
        return 0
    top = check_integer(levels, "levels", low=2, high=2**16) - 1
    if np.abs(images - data.quantize(images, levels=top + 1)).max() > 1e-6:
        raise ValueError(
            f"images must lie on the {top + 1} levels that the attack is to stay on: round them, "
            f"np.round(images * {top}) / np.float32({top})"
        )
    return top


def snapped(images: tf.Tensor, top: tf.Tensor) -> tf.Tensor:
    """`data.quantize` for tensors; where `top`, which must broadcast, is 0, the images themselves."""
    return tf.where(top > 0, tf.round(images * top) / top, images)


def level_bounds(images: np.ndarray, radius: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and highest levels within `radius` (n, 1, 1, 1) of images on levels, and in [0, 1].

    Levels are counted: 8/255 is eight levels, whatever the rounding errors.
    """
    level, reach = np.round(images * np.float64(top)), np.floor(radius * top + 1e-6)
    sides = [np.clip(level + side, 0, top).astype(np.float32) for side in (-reach, reach)]
    return sides[0] / np.float32(top), sides[1] / np.float32(top)
