"""The record that every attack returns."""

from dataclasses import dataclass

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
