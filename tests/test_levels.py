"""Attacks on whole grey levels: to stay on them, and what rounding to them leaves."""

from functools import partial
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from advlib import attacks, data, networks
from advlib.attacks import levels as module
from tests.models import linear

ON_LEVELS: dict[str, partial[Any]] = {
    "fgsm": partial(attacks.fgsm, epsilon=0.1),
    "iterative_fgsm": partial(attacks.iterative_fgsm, epsilon=0.1, step_size=0.03, steps=8),
    "early stop": partial(
        attacks.iterative_fgsm, epsilon=0.2, step_size=0.002, steps=100, early_stop=True
    ),
    "pgd": partial(attacks.pgd, epsilon=0.1, step_size=0.03, steps=8, seed=0),
    "auto_pgd": partial(attacks.auto_pgd, epsilon=0.1, steps=10, seed=0),
    "square": partial(attacks.square, epsilon=0.2, queries=100, seed=0),
    "carlini_wagner": partial(
        attacks.carlini_wagner, steps=40, searches=3, constant=1.0, learning_rate=0.05
    ),
}


@pytest.mark.parametrize("name", ON_LEVELS)
@pytest.mark.parametrize("levels", [256, 17])
def test_attacks_stay_on_levels(
    name: str, levels: int, digits: data.Dataset, model: keras.Model
) -> None:
    top = levels - 1
    images = data.quantize(digits.test_images[:40], levels=levels)
    labels = digits.test_labels[:40]
    attack = ON_LEVELS[name]
    result = attack(model, images, labels, levels=levels)
    grid = np.arange(levels, dtype=np.float32) / np.float32(top)
    assert np.isin(result.images, grid).all()
    np.testing.assert_array_equal(
        result.success, networks.predict_logits(model, result.images).argmax(axis=1) != labels
    )
    # So rounding has nothing left to undo.
    rounded = attacks.quantized(model, result, labels, levels=levels)
    np.testing.assert_array_equal(rounded.images, result.images)
    np.testing.assert_array_equal(rounded.success, result.success)
    assert result.success.any() or levels == 17
    if "epsilon" in attack.keywords:
        change = np.round(np.abs(result.images - images) * top).max()
        # Down to whole levels: 0.1 is 25.5 of 255.
        assert change <= np.floor(attack.keywords["epsilon"] * top)
        assert change > 0


def test_an_attack_that_stops_early_loses_less_on_levels(
    digits: data.Dataset, model: keras.Model
) -> None:
    images, labels = data.quantize(digits.test_images[:100]), digits.test_labels[:100]
    free = ON_LEVELS["early stop"](model, images, labels)
    bound = ON_LEVELS["early stop"](model, images, labels, levels=256)
    assert attacks.quantized(model, free, labels).success.sum() < free.success.sum()
    assert attacks.quantized(model, bound, labels).success.sum() == bound.success.sum()


def test_rounding_by_hand() -> None:
    """The model says 1 where the pixel is above 100.5 levels."""
    model = linear(np.array([[0, 1]], np.float32), np.array([0, -100.5 / 255], np.float32), (1, 1, 1))
    pixels = np.array([100.4, 100.6, 101.0, 101.4, 99.0], np.float32)[:, None, None, None] / 255
    labels, count = np.zeros(5, int), np.arange(5)
    trace = attacks.Trace(np.zeros((5, 1), np.float32), np.zeros((5, 1), bool))
    before = attacks.AttackResult(pixels, np.ones(5, bool), count, 2 * count, trace=trace)
    after = attacks.quantized(model, before, labels)
    np.testing.assert_array_equal(
        after.images.ravel(), np.array([100, 101, 101, 101, 99], np.float32) / np.float32(255)
    )
    np.testing.assert_array_equal(after.success, [False, True, True, True, False])
    np.testing.assert_array_equal(
        attacks.quantized(model, before, labels + 1, targeted=True).success, after.success
    )
    np.testing.assert_array_equal(after.evaluations, before.evaluations)
    assert after.trace is trace
    np.testing.assert_array_equal(before.images, pixels)
    # With two levels the pixel becomes 0.
    assert not attacks.quantized(model, before, labels, levels=2).images.any()


@given(
    st.integers(0, 255), st.one_of(st.floats(0, 1), st.integers(0, 255).map(lambda level: level / 255))
)
def test_bounds_are_whole_levels(level: int, radius: float) -> None:
    image = np.full((1, 1, 1, 1), np.float32(level) / np.float32(255))
    lower, upper = module.level_bounds(image, np.full((1, 1, 1, 1), radius), 255)
    reach = int(radius * 255 + 1e-6)
    assert lower.item() == np.float32(max(level - reach, 0)) / np.float32(255)
    assert upper.item() == np.float32(min(level + reach, 255)) / np.float32(255)


def test_bad_input(digits: data.Dataset, model: keras.Model) -> None:
    images, labels = data.quantize(digits.test_images[:3]), digits.test_labels[:3]
    between = np.clip(images + 0.5 / 255, 0, 1).astype(np.float32)
    with pytest.raises(ValueError, match="images must lie on the 256 levels"):
        attacks.fgsm(model, between, labels, epsilon=0.1, levels=256)
    wrong: Any
    for wrong in (1, 2**17, 2.5, "256"):
        with pytest.raises(ValueError, match="levels must be a whole number from 2 to 65536"):
            attacks.fgsm(model, images, labels, epsilon=0.1, levels=wrong)
        result = attacks.AttackResult(images, labels > 0, labels, labels)
        with pytest.raises(ValueError, match="levels must be a whole number from 2 to 65536"):
            attacks.quantized(model, result, labels, levels=wrong)
    for attack in (attacks.auto_pgd, attacks.square):
        with pytest.raises(ValueError, match='levels must be None for norm "l2"'):
            attack(model, images, labels, epsilon=1.0, norm="l2", levels=256, seed=0)
    with pytest.raises(ValueError, match="labels must have shape"):
        attacks.quantized(model, result, labels[:2])
