"""Square attack: by hand on a linear model, its schedule, its bounds, its queries, bad input."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from advlib.attacks import _seeds, square
from advlib.attacks.squares import CHUNK, _chunks, _pattern, _sides
from tests.models import linear

RANDOM = np.random.default_rng(9)
SHAPE = (9, 8, 2)
WEIGHTS = RANDOM.normal(size=(144, 4)).astype(np.float32)
BIAS = RANDOM.normal(size=4).astype(np.float32)
LINEAR = linear(WEIGHTS, BIAS, SHAPE)
IMAGES = RANDOM.random((12, *SHAPE), np.float32)
LABELS = (IMAGES.reshape(12, -1) @ WEIGHTS + BIAS).argmax(axis=1)
RADII = np.linspace(0.02, 0.3, 12)


def lead(image: np.ndarray, label: int) -> float:
    """Of the strongest wrong class over the true one."""
    logits = image.ravel().astype(np.float64) @ WEIGHTS + BIAS
    return float(np.delete(logits, label).max() - logits[label])


def window(lots: np.ndarray, side: int) -> list[tuple[slice, slice]]:
    """The two squares that random numbers stand for."""
    places = []
    for row, column in (lots[0:2], lots[2:4]):
        top = min(int(np.float32(row) * np.float32(SHAPE[0] - side + 1)), SHAPE[0] - side)
        left = min(int(np.float32(column) * np.float32(SHAPE[1] - side + 1)), SHAPE[1] - side)
        places.append((slice(top, top + side), slice(left, left + side)))
    return places


def to_length(change: np.ndarray, length: float) -> np.ndarray:
    return change / np.linalg.norm(change) * length


def path_by_hand(
    image: np.ndarray, label: int, key: np.ndarray, *, norm: str, **kind: Any
) -> np.ndarray:
    """Where the search ends, or its first success: as the paper has it, one image at a time."""
    epsilon, queries = kind["epsilon"], kind["queries"]
    keys, image = tf.constant(key[None]), image.astype(np.float64)
    lower, upper = np.clip(image - epsilon, 0, 1), np.clip(image + epsilon, 0, 1)
    if norm == "linf":
        stripes = _seeds.uniform(keys, tf.constant(0), (1, *SHAPE[1:])).numpy()[0]
        x = np.where(stripes < 0.5, lower, upper)
    else:
        draws = _seeds.uniform(keys, tf.constant(0), (5, 5, 3)).numpy()[0]
        change = np.zeros(SHAPE)
        side = min(SHAPE[:2]) // 5
        free = [(size - 5 * side) // 2 for size in SHAPE[:2]]
        for i in range(5):
            for j in range(5):
                pattern = _pattern(side).T if draws[i, j, 0] < 0.5 else _pattern(side)
                top, left = free[0] + i * side, free[1] + j * side
                for channel in range(2):
                    sign = -1 if draws[i, j, 1 + channel] < 0.5 else 1
                    change[top : top + side, left : left + side, channel] = sign * pattern
        x = np.clip(image + to_length(change, epsilon), 0, 1)
    best = lead(x, label)
    sides = _sides(queries - 2, 0.8, *SHAPE[:2], least=1 if norm == "linf" else 3)
    for number, (first, last) in enumerate(_chunks(sides)):
        lots = _seeds.uniform(keys, tf.constant(1 + number), (last - first, 7)).numpy()[0]
        for step in range(first, last):
            if best > 0:
                return x
            lot, side = lots[step - first], int(sides[step])
            one, two = window(lot, side)
            proposed = x.copy()
            if norm == "linf":
                for channel in range(2):
                    ends = lower if lot[5 + channel] < 0.5 else upper
                    proposed[(*one, channel)] = ends[(*one, channel)]
            else:
                change = x - image
                mask = np.zeros(SHAPE[:2], bool)
                mask[one] = mask[two] = True
                pattern = _pattern(side).T if lot[4] < 0.5 else _pattern(side)
                spare = max(epsilon**2 - (change**2).sum(), 0) / 2
                fresh = []
                for channel in range(2):
                    old = change[(*one, channel)]
                    sign = -1 if lot[5 + channel] < 0.5 else 1
                    new = sign * pattern + old / (1e-12 + np.linalg.norm(old))
                    inside = (change[..., channel][mask] ** 2).sum()
                    fresh.append(new / (1e-12 + np.linalg.norm(new)) * np.sqrt(spare + inside))
                change[two] = 0
                change[one] = np.stack(fresh, axis=-1)
                proposed = np.clip(image + to_length(change, epsilon), 0, 1)
            if lead(proposed, label) > best:
                x, best = proposed, lead(proposed, label)
    return x


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.02), ("l2", 0.3)])
def test_a_search_is_the_paper_s(norm: Any, epsilon: float) -> None:
    kind: dict[str, Any] = {"norm": norm, "epsilon": epsilon, "queries": 400}
    result = square(LINEAR, IMAGES, LABELS, seed=2, **kind)
    keys = _seeds.keys(IMAGES, LABELS, 2)
    by_hand = [path_by_hand(*each, **kind) for each in zip(IMAGES, LABELS, keys, strict=True)]
    apart = np.abs(result.images - np.stack(by_hand)).max(axis=(1, 2, 3))
    # A step that changes next to nothing may be kept or not.
    assert np.mean(apart < 1e-4) > 0.8, apart
    assert 0 < result.success.mean() < 1


def test_squares_shrink_as_the_paper_says() -> None:
    sides = _sides(10_000, 0.8, 28, 28, least=1)
    shares = {
        0: 1,
        10: 1,
        11: 2,
        50: 2,
        51: 4,
        201: 8,
        501: 16,
        1001: 32,
        2001: 64,
        4001: 128,
        8001: 512,
    }
    for step, part in shares.items():
        assert sides[step] == max(round(np.sqrt(0.8 / part * 784)), 1), step
    odd = _sides(100, 0.8, 28, 27, least=3)
    assert (odd % 2 == 1).all()
    assert odd.min() == 3
    assert odd.max() <= 27


def test_chunks_are_of_one_size_of_square_and_not_too_long() -> None:
    sides = np.array([5] * (CHUNK + 3) + [4, 3, 3])
    stretches = list(_chunks(sides))
    assert stretches == [(0, CHUNK), (CHUNK, CHUNK + 3), (CHUNK + 3, CHUNK + 4), (CHUNK + 4, CHUNK + 6)]
    assert list(_chunks(sides[:0])) == []


def test_a_pattern_has_two_halves_of_opposite_sign() -> None:
    for side in (1, 2, 3, 5, 9):
        pattern = _pattern(side)
        assert pattern.shape == (side, side)
        np.testing.assert_allclose(np.linalg.norm(pattern), 1)
        assert (pattern[: side // 2] > 0).all()
        if side > 1:
            assert (pattern[side // 2 :] < 0).all()


def test_queries_are_counted() -> None:
    labels = LABELS.copy()
    labels[0] = (labels[0] + 1) % 4  # misclassified as it is
    result = square(LINEAR, IMAGES, labels, epsilon=0.02, queries=100, seed=0)
    np.testing.assert_array_equal(result.images[0], IMAGES[0])
    assert (result.evaluations[0], result.iterations[0]) == (1, 0)
    assert (result.evaluations[1:] == result.iterations[1:] + 2).all()
    assert (result.evaluations[~result.success] == 100).all()
    assert result.evaluations.max() == 100
    least = square(LINEAR, IMAGES, labels, epsilon=0.02, queries=2, seed=0)
    assert least.evaluations.max() == 2


def test_more_queries_find_more() -> None:
    shares = [
        square(LINEAR, IMAGES, LABELS, epsilon=0.03, queries=queries, seed=0).success.mean()
        for queries in (2, 300, 1500)
    ]
    assert shares[0] < shares[1] <= shares[2]


def test_an_image_does_not_depend_on_the_others() -> None:
    for norm, epsilon in (("linf", 0.02), ("l2", 0.3)):
        kind: dict[str, Any] = {"norm": norm, "epsilon": epsilon, "queries": 60, "seed": 1}
        whole = square(LINEAR, IMAGES, LABELS, **kind)
        some = square(LINEAR, IMAGES[[7, 2]], LABELS[[7, 2]], **kind)
        np.testing.assert_allclose(some.images, whole.images[[7, 2]], atol=1e-5)
        np.testing.assert_array_equal(some.evaluations, whole.evaluations[[7, 2]])


@settings(max_examples=20, deadline=None)
@given(
    epsilon=st.floats(0, 1, allow_subnormal=False),
    norm=st.sampled_from(["linf", "l2"]),
    targeted=st.booleans(),
    seed=st.integers(0, 99),
)
def test_bounds_hold_to_the_last_bit(epsilon: float, norm: Any, targeted: bool, seed: int) -> None:
    result = square(
        LINEAR, IMAGES, LABELS, epsilon=epsilon, norm=norm, targeted=targeted, queries=8, seed=seed
    )
    change = result.images.reshape(12, -1).astype(np.float64) - IMAGES.reshape(12, -1)
    size = np.abs(change).max(axis=1) if norm == "linf" else np.sqrt((change**2).sum(axis=1))
    assert (size <= epsilon).all()
    assert result.images.min() >= 0
    assert result.images.max() <= 1


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"norm": "l0"}, "norm must be one of linf, l2, got 'l0'"),
        ({"epsilon": -1}, "epsilon must"),
        ({"epsilon": 1.1}, "epsilon must"),
        ({"queries": 1}, "queries must"),
        ({"covered": 0}, "covered must"),
        ({"covered": 1.5}, "covered must"),
        ({"targeted": 1}, "targeted must"),
        ({"seed": -1}, "seed must"),
        ({"batch_size": 0}, "batch_size must"),
    ],
)
def test_bad_input_is_named(more: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        square(LINEAR, IMAGES, LABELS, **{"epsilon": 0.1, "seed": 0, **more})


def test_another_run_takes_what_is_left() -> None:
    """The first run is the same whatever follows it; later ones draw other numbers."""
    settings: dict[str, Any] = {"epsilon": RADII, "queries": 12, "seed": 2, "trace": True}
    one, three = (square(LINEAR, IMAGES, LABELS, restarts=restarts, **settings) for restarts in (1, 3))
    assert 0 < one.success.sum() < three.success.sum() < len(IMAGES)
    np.testing.assert_array_equal(three.images[one.success], one.images[one.success])
    np.testing.assert_array_equal(three.evaluations[one.success], one.evaluations[one.success])
    stands = ~three.success
    np.testing.assert_array_equal(three.evaluations[stands], 1 + 3 * 11)
    assert one.trace is not None
    assert three.trace is not None
    assert three.trace.success.shape[1] == 3 * 12
    np.testing.assert_array_equal(three.trace.log_odds[:, :12], one.trace.log_odds)
    np.testing.assert_array_equal(three.trace.success[:, -1], three.success)
    # Not the same path again.
    again = three.trace.log_odds[stands][:, [1, 13]]
    assert (again[:, 0] != again[:, 1]).any()
