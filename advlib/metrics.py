"""Numbers with their uncertainty, from arrays alone."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import norm, t

from advlib._checks import check_images, check_integer, check_number, check_same_shape


class _Claim:
    """A number with an interval: in a table it sorts, and turns into a plain number, by its value."""

    value: Any  # float

    def __float__(self) -> float:
        return float(self.value)

    def __lt__(self, other: Any) -> bool:
        return bool(self.value < other.value) if isinstance(other, _Claim) else NotImplemented


@dataclass(frozen=True)
class Proportion(_Claim):
    """A share of cases, with its 95% interval (Wilson 1927).

    Prints as `98.91% [98.69%, 99.10%] of 10,000`: share, interval, number of cases. The tests
    compare two runs of a notebook by these intervals.

    Attributes
    ----------
    successes : int
        Cases that count, from 0 to `total`.
    total : int
        All cases, at least 1.
    effective : float, optional
        How many independent cases they are worth, from 1 to `total`; all of them, if it is not given.

    Raises
    ------
    ValueError
        If one of them is not a number in its range.
    """

    successes: int
    total: int
    effective: float | None = None

    def __post_init__(self) -> None:
        check_integer(self.total, "total")
        check_integer(self.successes, "successes", low=0, high=self.total)
        if self.effective is not None:
            check_number(self.effective, "effective", low=1, high=self.total)

    @property
    def value(self) -> float:
        """The share, from 0 to 1."""
        return self.successes / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper end of the Wilson interval, from 0 to 1."""
        return _wilson(self.value, self.effective or self.total)

    def __str__(self) -> str:
        return f"{self:.2%} of {self.total:,}"

    def __format__(self, spec: str) -> str:
        """Share and interval in a format of floats, `f"{share:.1%}"`; without one as `str` has it."""
        return _with_interval(self, spec) if spec else str(self)


def _wilson(share: float, cases: float) -> tuple[float, float]:
    """95% interval of a share that so many independent cases gave."""
    # By hand: SciPy has it for whole numbers of cases only.
    square = float(norm.ppf(0.975)) ** 2 / cases
    centre = share + square / 2
    radius = math.sqrt(square * (share * (1 - share) + square / 4))
    # Rounding errors may leave [0, share] and [share, 1] by a last digit.
    low, high = ((centre + side * radius) / (1 + square) for side in (-1, 1))
    return max(0.0, min(low, share)), min(1.0, max(high, share))


def wilson(cases: Any) -> tuple[float, float]:
    """95% interval of a share of independent cases (Wilson 1927), in the form of seaborn's `errorbar`.

    Parameters
    ----------
    cases : array or Series, bool, or numbers that are 0 or 1, (n,) with at least one element

    Returns
    -------
    (low, high)
        From 0 to 1.

    Raises
    ------
    ValueError
        If there is no case, or a value is neither 0 nor 1.
    """
    cases = np.asarray(cases)
    if not np.isin(cases, (0, 1)).all():
        raise ValueError("cases must be true or false, or 1 or 0")
    return proportion(cases.astype(bool)).interval


def proportion(cases: np.ndarray, groups: np.ndarray | None = None) -> Proportion:
    r"""Count how many cases are true.

    With groups, cases of one group may depend on one another, such as several attacks on the same
    digit. The interval is then Wilson's for the number of independent cases that would give a share
    the variance that the groups show, as in `mean`, lessened for few groups as Korn and Graubard
    propose (as for surveys: Franco et al. 2019, https://doi.org/10.1093/jssam/smy019). That number is
    at most n, and at least what the cases are worth if those of a group are copies of one another,
    :math:`n^2 / \sum_g n_g^2`. As that of `mean`, it needs many groups of similar size.

    Parameters
    ----------
    cases : array, bool, any shape with at least one element
    groups : array, integer, (n,), optional
        Equal for cases of the same group; cases must then have the shape (n,), too.

    Returns
    -------
    Proportion

    Raises
    ------
    ValueError
        If the dtype is not bool, there is no case, or groups are not of that form.
    """
    cases = np.asarray(cases)
    if cases.dtype != np.bool_:
        raise ValueError(f"cases must be bool, got dtype {cases.dtype}")
    if cases.size == 0:
        raise ValueError(f"cases must hold at least one case, got shape {cases.shape}")
    if groups is None:
        return Proportion(int(cases.sum()), cases.size)
    _, number = np.unique(_check_groups(groups, cases.shape), return_inverse=True)
    sizes, hits = np.bincount(number), np.bincount(number, cases).astype(np.int64)
    total, successes, count = cases.size, int(cases.sum()), len(sizes)
    least = effective = total**2 / float(sizes @ sizes)
    # In whole numbers, n times the groups' deviations: exactly 0 where the groups are balanced.
    deviations = hits * total - sizes * successes
    if count > 1 and 0 < successes < total:
        square = float((deviations / total) @ (deviations / total))
        few = (t.ppf(0.975, total - 1) / t.ppf(0.975, count - 1)) ** 2
        independent = successes / total * (total - successes) * (count - 1) / count
        effective = few * independent * total / square if square > 0 else total
    return Proportion(successes, total, float(np.clip(effective, least, total)))


@dataclass(frozen=True)
class Mean(_Claim):
    """A mean with its 95% interval (Student 1908).

    Prints as `25.9 [25.3, 26.5]`, with as many decimals as the interval warrants; without an interval
    where there is only one value.

    Attributes
    ----------
    value : float
    interval : tuple of float
        Lower and upper end; NaN where there is only one value, or group.
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
        return _with_interval(self, f",.{decimals}f")

    def __format__(self, spec: str) -> str:
        """Mean and interval in a format of floats, `f"{mean:.1f}"`; without one as `str` has it."""
        return _with_interval(self, spec) if spec else str(self)


def _with_interval(record: Proportion | Mean, spec: str) -> str:
    value, (low, high) = format(record.value, spec), record.interval
    return value if math.isnan(low) else f"{value} [{low:{spec}}, {high:{spec}}]"


def mean(values: np.ndarray, groups: np.ndarray | None = None) -> Mean:
    r"""Mean of some numbers, with the 95% interval of Student's t.

    With groups, numbers of one group may depend on one another, such as those of several attacks on
    the same digit; only groups are taken to be independent (Liang and Zeger 1986,
    https://doi.org/10.1093/biomet/73.1.13). With G groups the variance of the mean m is
    :math:`\frac{G}{G - 1} \sum_g \bigl(\sum_{i \in g} (v_i - m)\bigr)^2 / n^2`, and t has G - 1
    degrees of freedom; if every number is its own group, this is the usual interval. It needs many
    groups of similar size.

    Parameters
    ----------
    values : array, integer or float, (n,) with at least one element
    groups : array, integer, (n,), optional
        Equal for numbers of the same group.

    Returns
    -------
    Mean

    Raises
    ------
    ValueError
        If there is no value, one is not finite, or values or groups are not of that form.
    """
    values = np.asarray(values)
    if values.dtype.kind not in "iuf" or values.ndim != 1 or values.size == 0:
        raise ValueError(
            f"values must be a vector of at least one number, got {values.dtype} of shape {values.shape}"
        )
    if not np.isfinite(values).all():
        raise ValueError("values must be finite")
    groups = np.arange(values.size) if groups is None else _check_groups(groups, values.shape)
    centre, error, count = _clustered(values, groups)
    if count == 1:
        return Mean(centre, (math.nan, math.nan), values.size)
    radius = float(t.ppf(0.975, count - 1)) * error
    return Mean(centre, (centre - radius, centre + radius), values.size)


def roc_auc(negatives: np.ndarray, positives: np.ndarray) -> Mean:
    r"""Area under the ROC curve: the share of pairs in which the positive has the higher score.

    A tie counts as half. The 95% interval is Wilson's for the number of independent cases whose share
    would have the variance of DeLong et al. 1988 (https://doi.org/10.2307/2531595). Near 1 that variance
    is too small, and 0 where the scores do not overlap: the number is at most three times the smaller
    of the two numbers of cases (what it is for an area of one half and many negatives), and that smaller
    number where the variance is 0.

    Parameters
    ----------
    negatives, positives : array, integer or float, (n,) and (m,), each with at least one element
        Scores; higher should mean positive.

    Returns
    -------
    Mean
        Over the positives: of the share of negatives below.

    Raises
    ------
    ValueError
        If an array is not of that form, or a number in it is NaN.
    """
    arrays = {"negatives": np.asarray(negatives), "positives": np.asarray(positives)}
    for name, array in arrays.items():
        if array.dtype.kind not in "iuf" or array.ndim != 1 or array.size == 0:
            raise ValueError(
                f"{name} must be a vector of at least one number, "
                f"got {array.dtype} of shape {array.shape}"
            )
        if np.isnan(array).any():
            raise ValueError(f"{name} must not be NaN")
    low, high = arrays["negatives"], arrays["positives"]
    above, below = _placements(low, high), 1 - _placements(high, low)
    area = float(above.mean())
    variance = sum(float(each.var(ddof=1)) / each.size for each in (above, below) if each.size > 1)
    cases = float(min(low.size, high.size))
    if variance > 0:
        cases = min(3 * cases, max(1.0, area * (1 - area) / variance))
    return Mean(area, _wilson(area, cases), high.size)


def _placements(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """For each number of `high` the share of those of `low` that lie below, a tie as half: (m,)."""
    ordered = np.sort(low)
    sides = [np.searchsorted(ordered, high, side=side) for side in ("left", "right")]
    return (sides[0] + sides[1]) / (2 * low.size)


def _check_groups(groups: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Return groups as integers (n,), one per value."""
    array = np.asarray(groups)
    if array.dtype.kind not in "iu" or array.shape != shape or len(shape) != 1:
        raise ValueError(
            f"groups must be integers, one per value, of shape {shape}, "
            f"got {array.dtype} of shape {array.shape}"
        )
    return array


def _clustered(values: np.ndarray, groups: np.ndarray) -> tuple[float, float, int]:
    """Mean, its standard error where only groups are independent, and their number."""
    centre = float(np.mean(values, dtype=np.float64))
    which, number = np.unique(groups, return_inverse=True)
    sums = np.bincount(number, values - centre)
    count = len(which)
    error = math.sqrt(count / max(count - 1, 1) * float(sums @ sums)) / values.size
    return centre, error, count


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
    images: np.ndarray,
    results: Mapping[str, Any],
    confidences: Mapping[str, np.ndarray],
    *,
    over: np.ndarray | None = None,
    groups: np.ndarray | None = None,
) -> pd.DataFrame:
    """One row for each attack on the same images: how often it succeeds, how far it goes, its cost.

    Parameters
    ----------
    images : array, float32, (n, height, width, channels)
        Before the attacks, on the pixel scale [0, 1].
    results : mapping from a name to a record with `images`, `success` and `evaluations`
        As `advlib.attacks` returns it.
    confidences : mapping from the same names to array, float, (n,)
        Probability that the model gives to the class it predicts for the attacked image.
    over : array, bool, (n,), optional
        The images over which norms and confidence are averaged, in every row, so that rows can be
        compared; without it, each row averages over its own successes.
    groups : array, integer, (n,), optional
        Equal for attacks on the same image, as in `proportion`.

    Returns
    -------
    DataFrame of Proportion and Mean
        Success; the means of the three norms and of the confidence (NaN where there is nothing to
        average); and the mean number of evaluations, over all images.

    Raises
    ------
    ValueError
        If the names differ, or arrays are not of that form.
    """
    if set(results) != set(confidences):
        raise ValueError(
            f"confidences must be given for {', '.join(results)}, got {', '.join(confidences)}"
        )
    count = len(images)
    clusters = np.arange(count) if groups is None else _check_groups(groups, (count,))
    if over is not None and (np.shape(over) != (count,) or np.asarray(over).dtype != np.bool_):
        kind = np.asarray(over).dtype
        raise ValueError(f"over must be bool, of shape ({count},), got {kind} {np.shape(over)}")
    rows = {}
    for name, result in results.items():
        columns = dict(zip(("L0", "L2", "L∞"), norms(images, result.images), strict=True))
        columns["confidence"] = np.asarray(confidences[name])
        success, evaluations = np.asarray(result.success), np.asarray(result.evaluations)
        named = {"success": success, "evaluations": evaluations, "confidences": columns["confidence"]}
        for argument, values in named.items():
            if values.shape != (count,):
                raise ValueError(f"{argument} of {name} must have shape ({count},), got {values.shape}")
        some = success if over is None else np.asarray(over)
        rows[name] = {
            "success": proportion(success, groups),
            **{
                key: mean(values[some], clusters[some]) if some.any() else math.nan
                for key, values in columns.items()
            },
            "evaluations": mean(evaluations, clusters),
        }
    return pd.DataFrame.from_dict(rows, orient="index")
