"""Proportions and their intervals."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from advlib import metrics

counts = st.integers(1, 10**6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(counts)
def test_interval_is_wilsons(count: tuple[int, int]) -> None:
    k, n = count
    share, z = k / n, 1.959963984540054
    centre = share + z**2 / (2 * n)
    radius = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    expected = (centre - radius) / (1 + z**2 / n), (centre + radius) / (1 + z**2 / n)
    assert metrics.Proportion(k, n).interval == pytest.approx(expected, abs=1e-12)


@given(counts)
def test_interval_holds_the_share_and_mirrors(count: tuple[int, int]) -> None:
    k, n = count
    low, high = metrics.Proportion(k, n).interval
    assert 0 <= low <= k / n <= high <= 1
    assert metrics.Proportion(n - k, n).interval == pytest.approx((1 - high, 1 - low), abs=1e-12)


def test_counting_and_printing() -> None:
    cases = np.arange(10_000) < 9_891
    assert metrics.proportion(cases) == metrics.Proportion(9_891, 10_000)
    assert str(metrics.proportion(cases)) == "98.91% [98.69%, 99.10%] of 10,000"
    assert metrics.proportion(cases.reshape(100, 100)).value == 0.9891
