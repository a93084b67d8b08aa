"""The record that every attack returns."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import TypeVar

import numpy as np


@dataclass(frozen=True, eq=False)
class Trace:
    r"""What the model said of n images while they were attacked, look by look.

    An attack looks once before each step, and once after the last; `one_pixel` in each generation at
    the best candidate so far. Where there are several runs, such as restarts, they follow one another.
    Of an image that has been let go, the last look is repeated.

    Attributes
    ----------
    log_odds : array, float32, (n, looks)
        :math:`\log((1 - p) / p)`, with p the probability of the class that the attack was given: an
        attack raises it for the true class, and lowers it for a target.
    success : array, bool, (n, looks)
        Whether this look saw a success.
    """

    log_odds: np.ndarray
    success: np.ndarray

    @property
    def loss(self) -> np.ndarray:
        r"""Cross-entropy :math:`-\log p`, float32 (n, looks)."""
        return np.logaddexp(np.float32(0), self.log_odds)


def trace_of(history: np.ndarray) -> Trace | None:
    """The trace of what was noted: log-odds and success (n, looks, 2), NaN where there was no look.

    None where nothing was to be noted.
    """
    if not history.shape[1]:
        return None
    seen = ~np.isnan(history[..., 1])
    last = np.maximum.accumulate(np.where(seen, np.arange(history.shape[1]), 0), axis=1)
    filled = np.take_along_axis(history, last[..., None], axis=1)
    return Trace(filled[..., 0], filled[..., 1] > 0)


@dataclass(frozen=True, eq=False)
class AttackResult:
    """What an attack made of n images, and what it cost.

    Attributes
    ----------
    images : array, float32, (n, height, width, channels)
        The attacked images, on the pixel scale [0, 1]; where the attack failed, its last attempt
        (of `pgd`, the nearest). Success and the bound of the attack are those of these images. Saved as
        8-bit files they change by up to half a grey level: some are then no success any more, above all
        where the attack stopped at the first, and some leave the bound by as much. `quantized` tells
        what is left.
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
    trace : Trace, optional
        What the model said on the way, if the attack was asked for it.
    """

    images: np.ndarray
    success: np.ndarray
    iterations: np.ndarray
    evaluations: np.ndarray
    randomized: bool = field(default=False, kw_only=True)
    trace: Trace | None = field(default=None, kw_only=True)


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
        If there is none, they are not of one kind, or their traces are not of one length.
    """
    kinds = {type(result) for result in results}
    if len(kinds) != 1:
        names = ", ".join(sorted(kind.__name__ for kind in kinds)) or "none"
        raise ValueError(f"results must be records of one kind, got {names}")
    columns = {
        each.name: np.concatenate([getattr(result, each.name) for result in results])
        for each in fields(results[0])
        if each.name not in {"randomized", "trace"}
    }
    traces = [result.trace for result in results if result.trace]
    looks = {result.trace.log_odds.shape[1] if result.trace else 0 for result in results}
    if len(looks) != 1:
        raise ValueError(f"results must have traces of one length, got {sorted(looks)} looks")
    trace = None
    if traces:
        trace = Trace(
            np.concatenate([each.log_odds for each in traces]),
            np.concatenate([each.success for each in traces]),
        )
    randomized = any(result.randomized for result in results)
    return kinds.pop()(**columns, randomized=randomized, trace=trace)
