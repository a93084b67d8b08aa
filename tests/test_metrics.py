"""Shares and means with their intervals, sizes of changes, the table of attacks."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, norm, ttest_1samp

from advlib import metrics

counts = st.integers(1, 10**6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(counts)
def test_interval_is_wilsons(count: tuple[int, int]) -> None:
    k, n = count
    share, z = k / n, 1.959963984540054
    centre = share + z**2 / (2 * n)
    radius = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    expected = (centre - radius) / (1 + z**2 / n), (centre + radius) / (1 + z**2 / n)
    found = metrics.Proportion(k, n).interval
    assert found == pytest.approx(expected, abs=1e-12)
    assert found == pytest.approx(tuple(binomtest(k, n).proportion_ci(method="wilson")), abs=1e-12)
    assert found == metrics.Proportion(k, n, n).interval


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


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=30))
def test_interval_of_a_mean_is_students(values: list[float]) -> None:
    array = np.array(values)
    found = metrics.mean(array)
    assert found.value == pytest.approx(array.mean())
    assert found.total == len(values)
    if np.ptp(array) > 1e-3:
        expected = ttest_1samp(array, 0).confidence_interval(0.95)
        assert found.interval == pytest.approx(tuple(expected), rel=1e-9, abs=1e-9)


def test_printing_of_means() -> None:
    assert str(metrics.mean(np.array([1, 2, 3, 4]))) == "2.5 [0.4, 4.6]"
    assert str(metrics.mean(np.arange(1000.0) % 7)) == "3.00 [2.87, 3.12]"
    assert str(metrics.mean(np.arange(1000) * 100)) == "49,950 [48,158, 51,742]"
    assert str(metrics.mean(np.array([41, 41, 41]))) == "41 [41, 41]"
    assert str(metrics.mean(np.full(9, 0.2, np.float32))) == "0.20 [0.20, 0.20]"
    assert str(metrics.mean(np.array([0, 0]))) == "0 [0, 0]"
    assert str(metrics.mean(np.array([466.25]))) == "466"  # one value has no interval
    assert str(metrics.mean(np.array([12_345]))) == "12,345"
    assert str(metrics.mean(np.array([0.0001, 0.0002, 0.00015]))) == "0.00015 [0.00003, 0.00027]"
    assert str(metrics.mean(np.array([0.99999, 1, 1]))) == "1.000 [1.000, 1.000]"


def test_norms_by_hand() -> None:
    images = np.full((2, 2, 2, 1), 0.5, np.float32)
    changed = images.copy()
    changed[1, 0, 0], changed[1, 1, 1] = 0.8, 0.1
    l0, l2, linf = metrics.norms(images, changed)
    np.testing.assert_array_equal(l0, [0, 2])
    np.testing.assert_allclose(l2, [0, 0.5], atol=1e-7)
    np.testing.assert_allclose(linf, [0, 0.4], atol=1e-7)


def test_attack_table() -> None:
    images = np.zeros((4, 2, 2, 1), np.float32)
    changed = images.copy()
    changed[:2, 0, 0], changed[1, 1], changed[3] = 0.5, 0.5, 1
    results = {
        "some": SimpleNamespace(
            images=changed,
            success=np.array([True, True, False, False]),
            evaluations=np.array([1, 3, 5, 7]),
        ),
        "none": SimpleNamespace(images=images, success=np.zeros(4, bool), evaluations=np.ones(4, int)),
    }
    confidences = dict.fromkeys(results, np.array([0.5, 0.7, 1, 1]))
    table = metrics.attack_table(images, results, confidences)
    assert list(table.columns) == ["success", "L0", "L2", "L∞", "confidence", "evaluations"]
    assert table.loc["some", "success"] == metrics.Proportion(2, 4)
    assert table.loc["some", "L0"] == metrics.mean(np.array([1, 3]))
    assert table.loc["some", "L2"] == metrics.mean(np.array([0.5, np.sqrt(0.75)]))
    assert str(table.loc["some", "L∞"]) == "0.50 [0.50, 0.50]"
    assert table.loc["some", "confidence"] == metrics.mean(np.array([0.5, 0.7]))
    assert table.loc["some", "evaluations"] == metrics.mean(np.array([1, 3, 5, 7]))
    assert str(table.loc["none", "success"]) == "0.00% [0.00%, 48.99%] of 4"
    assert table.loc["none", ["L0", "L2", "L∞", "confidence"]].isna().all()
    # Over the same images in every row, and with two attacks on each of two digits.
    over, groups = np.array([False, True, True, False]), np.array([5, 5, 6, 6])
    table = metrics.attack_table(images, results, confidences, over=over, groups=groups)
    assert table.loc["some", "L0"] == metrics.mean(np.array([3, 0]))
    assert table.loc["none", "L0"] == metrics.mean(np.array([0, 0]))
    assert table.loc["some", "success"] == metrics.proportion(results["some"].success, groups)
    assert table.loc["some", "evaluations"] == metrics.mean(np.array([1, 3, 5, 7]), groups)


def test_tables_of_claims_sort_and_turn_into_numbers() -> None:
    shares = pd.Series([metrics.Proportion(k, 10) for k in (5, 1, 9)], index=list("abc"))
    assert list(shares.sort_values().index) == ["b", "a", "c"]
    np.testing.assert_array_equal(shares.astype(float), [0.5, 0.1, 0.9])
    means = pd.Series([metrics.mean(np.array([k, k + 1])) for k in (3, 1)])
    assert list(means.sort_values().index) == [1, 0]
    assert float(means[0]) == 3.5
    with pytest.raises(TypeError):
        _ = shares["a"] < "b"


def test_the_interval_that_seaborn_draws() -> None:
    cases = np.arange(10) < 3
    expected = metrics.Proportion(3, 10).interval
    for form in (cases, cases.astype(float), pd.Series(cases), pd.Series(cases.astype(int))):
        assert metrics.wilson(form) == expected


def test_groups_of_one_change_nothing() -> None:
    values = np.random.default_rng(0).normal(size=40)
    assert metrics.mean(values, np.arange(40)).interval == pytest.approx(metrics.mean(values).interval)
    cases = values > 0
    assert metrics.proportion(cases, np.arange(40)).interval == metrics.proportion(cases).interval


def test_groups_that_repeat_their_numbers_count_once() -> None:
    values = np.random.default_rng(1).normal(size=30)
    thrice, groups = np.repeat(values, 3), np.repeat(np.arange(30), 3)
    assert metrics.mean(thrice, groups).interval == pytest.approx(metrics.mean(values).interval)
    assert metrics.mean(thrice, groups).total == 90
    cases = values > 0.3
    found = metrics.proportion(np.repeat(cases, 3), groups)
    assert (found.successes, found.total) == (3 * int(cases.sum()), 90)
    assert found.interval == pytest.approx(metrics.proportion(cases).interval)
    # All alike: nothing is known of how groups differ, so each counts as one case.
    none = metrics.proportion(np.zeros(90, bool), groups)
    assert none.interval == pytest.approx(metrics.Proportion(0, 30).interval)
    one = metrics.proportion(np.arange(100) < 33, np.zeros(100, int))
    assert one.interval == pytest.approx(metrics.Proportion(33, 100, 1).interval)
    # 16 and four groups of 1: copies of one another would be worth 400 / 260 cases.
    uneven = metrics.proportion(np.zeros(20, bool), np.repeat(np.arange(5), [16, 1, 1, 1, 1]))
    assert uneven.effective == pytest.approx(400 / 260)


def test_balanced_groups_count_every_case_and_no_more() -> None:
    for size in (2, 3, 7):  # one success in each group of so many: no deviation at all
        cases, groups = np.tile(np.arange(size) == 0, 20), np.repeat(np.arange(20), size)
        found = metrics.proportion(cases, groups)
        assert found.interval == metrics.proportion(cases).interval
    # One case off: a variance far below that of independent cases.
    cases[1] = True
    assert metrics.proportion(cases, groups).effective == len(cases)


def test_effective_number_by_hand() -> None:
    # Of 4 groups of 5 with 5, 4, 4 and 3 hits: share 0.8, deviations 1, 0, 0 and -1.
    cases = np.concatenate([np.arange(5) < hits for hits in (5, 4, 4, 3)])
    found = metrics.proportion(cases, np.repeat([7, 1, 3, 5], 5))
    variance = 4 / 3 * (1 + 1) / 20**2
    few = (2.0930240544 / 3.1824463053) ** 2  # Student's t with 19 and with 3 degrees of freedom
    assert found.effective == pytest.approx(0.16 / variance * few)


def test_groups_by_hand() -> None:
    # Mean 2; sums of the deviations of the groups -1 and 1 (in the first, -3 and 2): variance
    # 2 / 1 · (1 + 1) / 16.
    found = metrics.mean(np.array([-1, 4, 2, 3]), np.array([5, 5, 9, 9]))
    radius = 12.706204736 * 0.5
    assert found.value == 2
    assert found.interval == pytest.approx((2 - radius, 2 + radius))
    assert np.isnan(metrics.mean(np.array([1, 2]), np.array([3, 3])).interval).all()


def test_intervals_by_groups_cover() -> None:
    random = np.random.default_rng(2)
    hits = {"grouped": 0, "ungrouped": 0, "share": 0}
    for _ in range(400):
        own = random.normal(size=40)  # what all three numbers of a group share
        values = np.repeat(own, 3) + 0.3 * random.normal(size=120)
        groups = np.repeat(np.arange(40), 3)
        hits["grouped"] += bool(np.prod(metrics.mean(values, groups).interval) < 0)
        hits["ungrouped"] += bool(np.prod(metrics.mean(values).interval) < 0)
        low, high = metrics.proportion(values > 0, groups).interval
        hits["share"] += low < 0.5 < high
    assert 0.92 < hits["grouped"] / 400 < 0.98
    assert hits["ungrouped"] / 400 < 0.85
    assert 0.93 < hits["share"] / 400 < 0.985


scores = st.lists(st.integers(-5, 5), min_size=1, max_size=20)


@given(scores, scores)
def test_area_counts_pairs(low: list[int], high: list[int]) -> None:
    negatives, positives = np.array(low), np.array(high)
    pairs = positives[:, None] - negatives
    expected = (pairs > 0).mean() + (pairs == 0).mean() / 2
    found = metrics.roc_auc(negatives, positives)
    assert found.value == pytest.approx(expected, abs=1e-12)
    assert 0 <= found.interval[0] <= found.value <= found.interval[1] <= 1
    mirrored = metrics.roc_auc(positives, negatives)
    assert mirrored.interval == pytest.approx(tuple(1 - end for end in found.interval[::-1]), abs=1e-12)
    assert (found.total, mirrored.total) == (len(high), len(low))


@pytest.mark.parametrize("distance", [0.0, 1.0, 2.0, 3.0])
def test_interval_of_an_area_covers_the_true_one(distance: float) -> None:
    random = np.random.default_rng(0)
    true = norm.cdf(distance / np.sqrt(2))
    covered = 0
    for _ in range(400):
        found = metrics.roc_auc(random.standard_normal(300), distance + random.standard_normal(50))
        covered += found.interval[0] <= true <= found.interval[1]
    assert covered >= 0.93 * 400


def test_area_of_scores_that_do_not_overlap_keeps_an_interval() -> None:
    found = metrics.roc_auc(np.zeros(1000), np.ones(50))
    assert found.value == 1
    assert found.interval == pytest.approx(metrics.Proportion(50, 50).interval)


def test_interval_of_an_area_is_narrower_with_more_cases() -> None:
    random = np.random.default_rng(0)
    widths = [
        np.ptp(metrics.roc_auc(random.standard_normal(n), 1 + random.standard_normal(n)).interval)
        for n in (100, 1600)
    ]
    assert 3 < widths[0] / widths[1] < 5.5
