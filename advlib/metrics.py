"""Numbers with their uncertainty, from arrays alone."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

from advlib._checks import check_integer


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
