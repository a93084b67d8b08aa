"""Clusters, regions, distances, depths and leads: by hand, and against plain loops."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from advlib import representation as typed

representation: Any = typed  # lists are taken for arrays here

# Two classes on a cross: centres (0, 0) and (10, 0), spreads 1 and 2.
POINTS = np.array([[1, 0], [-1, 0], [0, 1], [0, -1], [12, 0], [8, 0], [10, 2], [10, -2]], np.float32)
LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 1])


@pytest.fixture(scope="module")
def cross() -> typed.Clusters:
    return representation.clusters(POINTS, LABELS, classes=2)


def test_centres_and_spreads_by_hand(cross: typed.Clusters) -> None:
    np.testing.assert_allclose(cross.centres, [[0, 0], [10, 0]])
    np.testing.assert_allclose(cross.spreads, [1, 2])
    np.testing.assert_allclose(cross.radii, [1, 1, 1, 1, 2, 2, 2, 2])
    assert cross.points.dtype == cross.centres.dtype == cross.spreads.dtype == np.float64
    # The spread is the root of the mean square, not the mean: of 1, 1 and 4 from the centre.
    line = representation.clusters(np.array([[-1], [-1], [2], [5], [7]]), [0, 0, 0, 1, 1], classes=2)
    np.testing.assert_allclose(line.spreads, [np.sqrt(2), 1])


def test_distances_are_in_units_of_each_spread(cross: typed.Clusters) -> None:
    found = representation.centre_distances(cross, [[0, 0], [10, 0], [4, 3]])
    np.testing.assert_allclose(found, [[0, 5], [10, 0], [5, np.sqrt(45) / 2]])


def test_the_nearest_neighbours_vote(cross: typed.Clusters) -> None:
    points = np.array([[0, 0], [10, 0], [4.4, 0], [4.6, 0]])
    np.testing.assert_array_equal(
        representation.nearest_class(cross, points, neighbours=1), [0, 1, 0, 1]
    )
    # Seven leave out the farthest member: of the nearest cluster's four, or of the other's.
    np.testing.assert_array_equal(
        representation.nearest_class(cross, points, neighbours=7), [0, 1, 0, 0]
    )
    np.testing.assert_array_equal(
        representation.nearest_class(cross, points, neighbours=8), [0, 0, 0, 0]
    )


def test_depth_is_the_share_of_members_farther_out() -> None:
    # Members of class 0 at 1, 2, 3 and 4 from their centre, on both sides; class 1 far away.
    members = np.array([-4, -3, -2, -1, 1, 2, 3, 4])
    space = representation.clusters(
        np.concatenate([members, [100, 102]])[:, None], [0] * 8 + [1] * 2, classes=2
    )
    points = np.array([[0], [1.5], [-2.5], [4], [9], [101]])
    np.testing.assert_allclose(representation.depths(space, points[:5], [0] * 5), [1, 0.75, 0.5, 0, 0])
    np.testing.assert_allclose(representation.depths(space, points, [0, 0, 0, 0, 0, 1])[5], 1)
    # Of the members themselves the mean is one half, less the half of a rank that they are.
    own = representation.depths(space, members[:, None], [0] * 8)
    assert own.mean() == pytest.approx(0.375)


def test_leads_by_hand() -> None:
    logits = np.array([[3, 1, 2], [3, 1, 2], [-5, 0, 0]], np.float32)
    np.testing.assert_allclose(representation.leads(logits, [0, 2, 0]), [1, -1, -5])
    np.testing.assert_allclose(representation.leads(logits, [1, 0, 2]), [-2, 1, 0])


values = st.lists(st.tuples(st.integers(0, 2), st.integers(-3, 3)), min_size=1, max_size=20)


@given(values, values)
def test_shares_above_agree_with_counting(
    members: list[tuple[int, int]], cases: list[tuple[int, int]]
) -> None:
    labels, reference = np.array([(0, 0), (1, 1), (2, 2), *members]).T
    classes, numbers = np.array(cases).T
    found = representation.shares_above(reference, labels, numbers, classes)
    expected = [np.mean(reference[labels == k] > v) for v, k in zip(numbers, classes, strict=True)]
    np.testing.assert_allclose(found, expected)


def test_bad_input(cross: typed.Clusters) -> None:
    for points, labels, message in (
        (POINTS[0], LABELS, r"points must be numbers of shape \(n, d\), got float32 of shape \(2,\)"),
        (POINTS.astype(str), LABELS, "points must be numbers"),
        (POINTS[:0], LABELS[:0], "points must hold at least one point"),
        (np.where(POINTS == 12, np.nan, POINTS), LABELS, "points must be finite"),
        (POINTS, LABELS[:3], r"labels must have shape \(8,\)"),
        (POINTS, LABELS + 1, "labels must lie between 0 and 1"),
        (POINTS, LABELS * 0, "points must hold two different ones of each class, but not of 1"),
        (POINTS[[0, 0, 4, 5]], [0, 0, 1, 1], r"points must hold two different .* not of 0"),
        (POINTS.astype(float) * 1e-200, LABELS, "points must hold two different"),
    ):
        with pytest.raises(ValueError, match=message):
            representation.clusters(points, labels, classes=2)
    with pytest.raises(ValueError, match="classes must be a whole number of at least 2"):
        representation.clusters(POINTS, LABELS * 0, classes=1)
    three = np.zeros((2, 3))
    for call in (
        lambda: representation.nearest_class(cross, three),
        lambda: representation.centre_distances(cross, three),
        lambda: representation.depths(cross, three, [0, 0]),
    ):
        with pytest.raises(ValueError, match=r"points must be numbers of shape \(n, 2\)"):
            call()
    with pytest.raises(ValueError, match="neighbours must be a whole number from 1 to 8, got 9"):
        representation.nearest_class(cross, POINTS, neighbours=9)
    with pytest.raises(ValueError, match="classes must lie between 0 and 1, got 2"):
        representation.depths(cross, POINTS[:1], [2])
    with pytest.raises(ValueError, match="logits must have at least two classes"):
        representation.leads(np.zeros((2, 1)), [0, 0])
    with pytest.raises(ValueError, match=r"classes must have shape \(2,\)"):
        representation.leads(np.zeros((2, 3)), [0])
    one = np.ones(2)
    with pytest.raises(ValueError, match="labels must hold every one of the classes, but hold no 1"):
        representation.shares_above(one, [0, 2], one, [0, 1])
    with pytest.raises(ValueError, match="labels must hold every one of the classes, but hold no 2"):
        representation.shares_above(one, [0, 1], one, [0, 2])
    for bad in (["a", "b"], [np.nan, 0], None, [np.inf, 0.0]):
        with pytest.raises(ValueError, match="labels must be integers"):
            representation.shares_above(one, bad, one, [0, 1])
    with pytest.raises(ValueError, match=r"reference must be a vector of numbers, got float64 of shape"):
        representation.shares_above(np.ones((2, 3)), [0, 1], one, [0, 1])
    with pytest.raises(ValueError, match="values must be finite"):
        representation.shares_above(one, [0, 1], one * np.nan, [0, 1])
    with pytest.raises(ValueError, match="labels must lie between 0"):
        representation.shares_above(one, [0, -1], one, [0, 0])
