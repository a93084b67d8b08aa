"""Carlini and Wagner's attack: by hand, against the least change that exists, bad input."""

from typing import Any

import numpy as np
import pytest

from advlib.attacks import carlini_wagner
from advlib.attacks.carlini import _narrow
from tests.models import linear

RANDOM = np.random.default_rng(10)
WEIGHTS = RANDOM.normal(size=(12, 4)).astype(np.float32)
BIAS = 0.1 * RANDOM.normal(size=4).astype(np.float32)
LINEAR = linear(WEIGHTS, BIAS, (3, 4, 1))
TWO = linear(WEIGHTS[:, :2], BIAS[:2], (3, 4, 1))
IMAGES = (0.4 + 0.2 * RANDOM.random((20, 3, 4, 1))).astype(np.float32)
LABELS = (IMAGES.reshape(20, -1) @ WEIGHTS + BIAS).argmax(axis=1)
SETTINGS: dict[str, Any] = {"steps": 300, "constant": 0.1}


def flat(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1).astype(np.float64)


def lengths(changed: np.ndarray) -> np.ndarray:
    return np.linalg.norm(flat(changed) - flat(IMAGES), axis=1)


def to_border(first: np.ndarray, second: np.ndarray, *, lead: float = 0.0) -> np.ndarray:
    """How far it is to where the second class leads the first by so much, in a linear model."""
    logits, rows = flat(IMAGES) @ WEIGHTS + BIAS, np.arange(20)
    apart = np.linalg.norm((WEIGHTS[:, second] - WEIGHTS[:, first]).astype(np.float64), axis=0)
    return (logits[rows, first] - logits[rows, second] + lead) / apart


@pytest.mark.parametrize("confidence", [0.0, 1.0])
def test_it_finds_the_least_change_of_two_classes(confidence: float) -> None:
    labels = (flat(IMAGES) @ WEIGHTS + BIAS)[:, :2].argmax(axis=1)
    result = carlini_wagner(TWO, IMAGES, labels, confidence=confidence, **SETTINGS)
    assert result.success.all()
    least = to_border(labels, 1 - labels, lead=confidence)
    assert (lengths(result.images) >= least - 1e-5).all()
    np.testing.assert_allclose(lengths(result.images), least, rtol=0.025, atol=1e-3)


def test_targeted() -> None:
    logits = flat(IMAGES) @ WEIGHTS + BIAS
    second = logits.argsort(axis=1)[:, -2]
    result = carlini_wagner(LINEAR, IMAGES, second, targeted=True, **SETTINGS)
    assert result.success.all()
    assert ((flat(result.images) @ WEIGHTS + BIAS).argmax(axis=1) == second).all()
    assert (lengths(result.images) >= to_border(LABELS, second) - 1e-5).all()
    assert np.median(lengths(result.images) / to_border(LABELS, second)) < 1.02


def path_by_hand(i: int, constant: float, rate: float, steps: int) -> np.ndarray | None:
    """The nearest success of a run of Adam on one image, in float64; None if there is none."""
    weights, label = WEIGHTS.astype(np.float64), LABELS[i]
    start = flat(IMAGES[[i]])[0]
    w = np.arctanh(0.999999 * (2 * start - 1))
    mean, square = np.zeros_like(w), np.zeros_like(w)
    best: tuple[float, np.ndarray | None] = (np.inf, None)
    for step in range(1, steps + 1):
        x = (np.tanh(w) + 1) / 2
        logits = x @ weights + BIAS
        wrong = np.where(np.arange(4) == label, -np.inf, logits).argmax()
        lead = logits[label] - logits[wrong]
        distance = ((x - start) ** 2).sum()
        if lead < 0 and distance < best[0]:
            best = distance, x
        by_x = 2 * (x - start) + constant * (lead > 0) * (weights[:, label] - weights[:, wrong])
        gradient = by_x * (1 - np.tanh(w) ** 2) / 2
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        unbiased = mean / (1 - 0.9**step), square / (1 - 0.999**step)
        w = w - rate * unbiased[0] / (np.sqrt(unbiased[1]) + 1e-8)
    return best[1]


def test_a_run_is_adam_on_the_published_loss() -> None:
    result = carlini_wagner(LINEAR, IMAGES, LABELS, steps=9, searches=1, constant=3.0, learning_rate=0.1)
    by_hand = [path_by_hand(i, 3.0, 0.1, 9) for i in range(20)]
    np.testing.assert_array_equal(result.success, [each is not None for each in by_hand])
    assert result.success.sum() > 5
    for i in np.flatnonzero(result.success):
        expected = by_hand[i]
        assert expected is not None
        np.testing.assert_allclose(flat(result.images[[i]])[0], expected, atol=1e-4)


def test_constants_are_searched_for() -> None:
    # With the first constant nothing is gained; after two runs it is a hundred times as large.
    few = carlini_wagner(LINEAR, IMAGES, LABELS, steps=60, searches=1, constant=1e-3)
    more = carlini_wagner(LINEAR, IMAGES, LABELS, steps=60, searches=5, constant=1e-3)
    assert few.success.sum() < more.success.sum()
    np.testing.assert_array_equal(few.images[~few.success], IMAGES[~few.success])
    one = carlini_wagner(LINEAR, IMAGES, LABELS, searches=1, steps=300, constant=100.0)
    best = carlini_wagner(LINEAR, IMAGES, LABELS, searches=9, steps=300, constant=100.0)
    assert (lengths(best.images) <= lengths(one.images) + 1e-6).all()


def test_constants_grow_until_one_works_and_are_then_halved_between() -> None:
    constants, low, high = (np.full(2, each, np.float32) for each in (1, 0, np.inf))
    tried = []
    for _ in range(6):
        tried.append(constants.tolist())
        constants, low, high = _narrow(constants, low, high, constants >= [30, 1e30])
    assert [each[0] for each in tried] == [1, 10, 100, 55, 32.5, 21.25]
    assert [each[1] for each in tried] == [1, 10, 100, 1e3, 1e4, 1e5]
    np.testing.assert_allclose([low[0], high[0], constants[0]], [21.25, 32.5, 26.875])


def test_a_run_ends_early_where_nothing_is_gained() -> None:
    result = carlini_wagner(LINEAR, IMAGES, LABELS, steps=1000, searches=1, constant=1.0)
    assert (result.iterations < 1000).all()
    assert len(np.unique(result.iterations)) > 1  # each image by itself
    np.testing.assert_array_equal(result.evaluations, 2 * result.iterations)


def test_an_image_does_not_depend_on_the_others() -> None:
    settings: dict[str, Any] = {"steps": 40, "searches": 3, "constant": 1.0}
    whole = carlini_wagner(LINEAR, IMAGES, LABELS, **settings)
    some = carlini_wagner(LINEAR, IMAGES[[7, 2]], LABELS[[7, 2]], **settings)
    np.testing.assert_allclose(some.images, whole.images[[7, 2]], atol=1e-4)
    np.testing.assert_array_equal(some.iterations, whole.iterations[[7, 2]])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"steps": 0}, "steps must"),
        ({"searches": 0}, "searches must"),
        ({"constant": 0}, "constant must"),
        ({"learning_rate": 0}, "learning_rate must"),
        ({"confidence": -1}, "confidence must"),
        ({"targeted": 1}, "targeted must"),
        ({"batch_size": 0}, "batch_size must"),
    ],
)
def test_bad_input_is_named(more: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        carlini_wagner(LINEAR, IMAGES, LABELS, **more)
