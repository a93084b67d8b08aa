"""Numbers with their uncertainty, from arrays alone."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import binomtest, t

from advlib._checks import check_images, check_integer, check_same_shape


@dataclass(frozen=True)
class Proportion:
    """A share of cases, with its 95% interval (Wilson 1927).

    Prints as `98.91% [98.69%, 99.10%] of 10,000`: share, interval, number of cases. The tests
    compare two runs of a notebook by these intervals.

    Attributes
    ----------
    successes : int
        Cases that count, from 0 to `total`.
    total : int
        All cases, at least 1.

    Raises
    ------
    ValueError
        If either is not a whole number in its range.
    """

    successes: int
    total: int

    def __post_init__(self) -> None:
        check_integer(self.total, "total")
        check_integer(self.successes, "successes", low=0, high=self.total)

    @property
    def value(self) -> float:
        """The share, from 0 to 1."""
        return self.successes / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper end of the Wilson interval, from 0 to 1."""
        low, high = binomtest(self.successes, self.total).proportion_ci(method="wilson")
        return float(low), float(high)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.value:.2%} [{low:.2%}, {high:.2%}] of {self.total:,}"


def proportion(cases: np.ndarray) -> Proportion:
    """Count how many cases are true.

    Parameters
    ----------
    cases : array, bool, any shape with at least one element

    Returns
    -------
    Proportion

    Raises
    ------
    ValueError
        If the dtype is not bool or there is no case.
    """
    cases = np.asarray(cases)
    if cases.dtype != np.bool_:
        raise ValueError(f"cases must be bool, got dtype {cases.dtype}")
    if cases.size == 0:
        raise ValueError(f"cases must hold at least one case, got shape {cases.shape}")
    return Proportion(int(cases.sum()), cases.size)


@dataclass(frozen=True)
class Mean:
    """A mean with its 95% interval (Student 1908).

    Prints as `25.9 [25.3, 26.5]`, with as many decimals as the interval warrants; without an interval
    where there is only one value.

    Attributes
    ----------
    value : float
    interval : tuple of float
        Lower and upper end; NaN where there is only one value.
    total : int
        How many values, at least 1.
    """

    value: float
    interval: tuple[float, float]
    total: int

    def __str__(self) -> str:
        low, high = self.interval
        # Two figures of the interval's width; of the value, where there is no width to speak of.
        figures = 2 - math.floor(math.log10(abs(self.value) or 10))
        decimals = figures - 1
        if high - low > 1e-6 * abs(self.value):
            decimals = min(1 - math.floor(math.log10(high - low)), max(3, figures))
        decimals = max(0, decimals)
        text = f"{self.value:,.{decimals}f}"
        return text if math.isnan(low) else f"{text} [{low:,.{decimals}f}, {high:,.{decimals}f}]"


def mean(values: np.ndarray) -> Mean:
    """Mean of some numbers, with the 95% interval of Student's t.

    Parameters
    ----------
    values : array, integer or float, (n,) with at least one element

    Returns
    -------
    Mean

    Raises
    ------
    ValueError
        If there is no value, one is not finite, or they are not a vector of numbers.
    """
    values = np.asarray(values)
    if values.dtype.kind not in "iuf" or values.ndim != 1 or values.size == 0:
        raise ValueError(
            f"values must be a vector of at least one number, got {values.dtype} of shape {values.shape}"
        )
    if not np.isfinite(values).all():
        raise ValueError("values must be finite")
    centre, count = float(np.mean(values, dtype=np.float64)), values.size
    if count == 1:
        return Mean(centre, (math.nan, math.nan), 1)
    radius = t.ppf(0.975, count - 1) * np.std(values, ddof=1, dtype=np.float64) / math.sqrt(count)
    return Mean(centre, (float(centre - radius), float(centre + radius)), count)


class Norms(NamedTuple):
    """Sizes of n perturbations: arrays (n,).

    Attributes
    ----------
    l0 : integer
        How many values of the image changed; in a grey image, pixels.
    l2 : float64
        Euclidean length of the change.
    linf : float64
        The largest change of any value.
    """

    l0: np.ndarray
    l2: np.ndarray
    linf: np.ndarray


def norms(images: np.ndarray, changed: np.ndarray) -> Norms:
    """Measure how far images were changed.

    Parameters
    ----------
    images, changed : array, float32, (n, height, width, channels)
        Before and after, on the pixel scale [0, 1].

    Returns
    -------
    Norms

    Raises
    ------
    ValueError
        If the images are not of that form, or their shapes differ.
    """
    images, changed = check_images(images), check_images(changed, "changed")
    check_same_shape(images, changed, "changed")
    change = changed.reshape(len(images), -1) - images.reshape(len(images), -1).astype(np.float64)
    return Norms((change != 0).sum(axis=1), np.linalg.norm(change, axis=1), np.abs(change).max(axis=1))


def attack_table(
    images: np.ndarray, results: Mapping[str, Any], confidences: Mapping[str, np.ndarray]
) -> pd.DataFrame:
    """One row for each attack on the same images: how often it succeeds, how far it goes, its price.

    Parameters
    ----------
    images : array, float32, (n, height, width, channels)
        Before the attacks, on the pixel scale [0, 1].
    results : mapping from a name to a record with `images`, `success` and `evaluations`
        As `advlib.attacks` returns it.
    confidences : mapping from the same names to array, float, (n,)
        Probability that the model gives to the class it predicts for the attacked image.

    Returns
    -------
    DataFrame of str
        Success with its interval and the number of images; then, over the successes, the means of
        the three norms and of the confidence, with intervals (– where there is no success); then the
        mean number of evaluations over all images.

    Raises
    ------
    ValueError
        If the names differ, or arrays are not of that form.
    """
    if set(results) != set(confidences):
        raise ValueError(
            f"confidences must be given for {', '.join(results)}, got {', '.join(confidences)}"
        )
    rows = {}
    for name, result in results.items():
        columns = dict(zip(("L0", "L2", "L∞"), norms(images, result.images), strict=True))
        columns["confidence"] = np.asarray(confidences[name])
        success, evaluations = np.asarray(result.success), np.asarray(result.evaluations)
        named = {"success": success, "evaluations": evaluations, "confidences": columns["confidence"]}
        for argument, values in named.items():
            if values.shape != (len(images),):
                raise ValueError(
                    f"{argument} of {name} must have shape ({len(images)},), got {values.shape}"
                )
        rows[name] = {
            "success": str(proportion(success)),
            **{
                key: str(mean(values[success])) if success.any() else "–"
                for key, values in columns.items()
            },
            "evaluations": str(mean(evaluations)),
        }
    return pd.DataFrame.from_dict(rows, orient="index")
