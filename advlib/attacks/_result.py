"""The record that every attack returns."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np


@dataclass(frozen=True, eq=False)
class AttackResult:
    """What an attack made of n images, and what it cost.

    Attributes
    ----------
    images : array, float32, (n, height, width, channels)
        The attacked images, on the pixel scale [0, 1]; where the attack failed, its last attempt
        (of `pgd`, the nearest).
    success : array, bool, (n,)
        Whether the model's prediction is the target, or, in an untargeted attack, not the true
        class. An image whose logits are not finite is no success.
    iterations : array, int64, (n,)
        Steps taken, all restarts together.
    evaluations : array, int64, (n,)
        Passes through the model, counted for each image: one for each forward and one for each
        backward pass.
    """

    images: np.ndarray
    success: np.ndarray
    iterations: np.ndarray
    evaluations: np.ndarray


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
        Of the same kind.

    Raises
    ------
    ValueError
        If there is none, or they are not of one kind.
    """
    kinds = {type(result) for result in results}
    if len(kinds) != 1:
        names = ", ".join(sorted(kind.__name__ for kind in kinds)) or "none"
        raise ValueError(f"results must be records of one kind, got {names}")
    columns = (
        np.concatenate([getattr(result, field.name) for result in results])
        for field in fields(results[0])
    )
    return kinds.pop()(*columns)
