"""The record that every attack returns."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import TypeVar

import numpy as np


@dataclass(frozen=True, eq=False)
class AttackResult:
    """What an attack made of n images, and what it cost.

    Attributes
    ----------
    images : array, float32, (n, height, width, channels)
        The attacked images, on the pixel scale [0, 1]; where the attack failed, its last attempt
        (of `pgd`, the nearest). Success and the bound of the attack are those of these images. Saved as
        8-bit files (`np.round(255 * images)`), they change by up to half a grey level: some are then no
        success any more, above all where the attack stopped at the first, and some leave the bound by
        as much. What is left is what the model says of the image that is read back.
    success : array, bool, (n,)
        Whether the model's prediction is the target, or, in an untargeted attack, not the true
        class, as the model predicts it after the attack, to within rounding errors. An image whose
        logits are not finite is no success.
    iterations : array, int64, (n,)
        Steps taken, all restarts together.
    evaluations : array, int64, (n,)
        Passes through the model that the attack needs, counted for each image: one for each forward and
        one for each backward pass. A success that it has seen is not counted when it is looked at again.
    randomized : bool
        Whether the model was taken for one that answers at random: success is then that of one more
        draw, and another draw may say otherwise.
    """

    images: np.ndarray
    success: np.ndarray
    iterations: np.ndarray
    evaluations: np.ndarray
    randomized: bool = field(default=False, kw_only=True)


Result = TypeVar("Result", bound=AttackResult)


def concatenate(results: Sequence[Result]) -> Result:
    """One record of several, in their order: of an attack that was made in parts.

    Parameters
    ----------
    results : sequence of AttackResult
        All of one kind, on images of one shape.

    Returns
    -------
    AttackResult
        Of the same kind; `randomized` if one of them is.

    Raises
    ------
    ValueError
        If there is none, or they are not of one kind.
    """
    kinds = {type(result) for result in results}
    if len(kinds) != 1:
        names = ", ".join(sorted(kind.__name__ for kind in kinds)) or "none"
        raise ValueError(f"results must be records of one kind, got {names}")
    columns = {
        each.name: np.concatenate([getattr(result, each.name) for result in results])
        for each in fields(results[0])
        if each.name != "randomized"
    }
    return kinds.pop()(**columns, randomized=any(result.randomized for result in results))
