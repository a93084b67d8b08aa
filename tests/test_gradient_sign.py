"""FGSM, its iteration, random starts, and their control."""

from itertools import product
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import log_softmax

from advlib import attacks, data, networks
from tests.models import linear, without_gradient_at_0

RANDOM = np.random.default_rng(5)
WEIGHTS = RANDOM.normal(size=(6, 3)).astype(np.float32)
BIAS = RANDOM.normal(size=3).astype(np.float32)
LINEAR = linear(WEIGHTS, BIAS, (2, 3, 1))


def loss(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Cross-entropy of the linear model."""
    logits = images.reshape(len(images), -1).astype(np.float64) @ WEIGHTS + BIAS
    return -log_softmax(logits, axis=1)[np.arange(len(images)), labels]


def step_by_hand(
    x: np.ndarray, start: np.ndarray, labels: np.ndarray, epsilon: float, step: float
) -> np.ndarray:
    """One step of the basic iterative method on the linear model: the textbook's formulas."""
    logits = x.reshape(len(x), -1) @ WEIGHTS + BIAS
    errors = np.exp(log_softmax(logits, axis=1)) - np.eye(3)[labels]
    gradient = (errors @ WEIGHTS.T).reshape(x.shape)
    moved = x + step * np.sign(gradient)
    return np.clip(np.clip(moved, start - epsilon, start + epsilon), 0, 1)


@pytest.mark.parametrize("targeted", [False, True])
def test_steps_of_a_linear_model_by_hand(targeted: bool) -> None:
    images = RANDOM.random((50, 2, 3, 1), np.float32)
    labels = RANDOM.integers(0, 3, 50)
    sign = -1 if targeted else 1
    once = attacks.fgsm(LINEAR, images, labels, epsilon=0.1, targeted=targeted)
    expected = step_by_hand(images, images, labels, 0.1, sign * 0.1)
    np.testing.assert_allclose(once.images, expected, atol=1e-6)
    often = attacks.iterative_fgsm(
        LINEAR, images, labels, epsilon=0.1, step_size=0.03, steps=7, targeted=targeted
    )
    x = images.astype(np.float64)
    for _ in range(7):
        x = step_by_hand(x, images, labels, 0.1, sign * 0.03)
    np.testing.assert_allclose(often.images, x, atol=1e-6)


def test_no_change_of_two_linear_classes_is_worse_than_fgsm() -> None:
    # With two classes the loss is monotone in one linear function: its maximum over the box lies at
    # a corner, and FGSM finds it.
    model = linear(WEIGHTS[:, :2], BIAS[:2], (2, 3, 1))
    images = RANDOM.random((20, 2, 3, 1), np.float32)
    labels = RANDOM.integers(0, 2, 20)
    result = attacks.fgsm(model, images, labels, epsilon=0.15)
    margin = (WEIGHTS[:, 0] - WEIGHTS[:, 1]) * np.where(labels == 0, 1, -1)[:, None]  # (n, 6)

    def height(x: np.ndarray) -> np.ndarray:
        return -(x.reshape(20, -1) * margin).sum(axis=1)

    corners = [
        np.clip(images + 0.15 * np.reshape(signs, (2, 3, 1)), 0, 1)
        for signs in product((-1, 1), repeat=6)
    ]
    best = np.max([height(corner) for corner in corners], axis=0)
    np.testing.assert_allclose(height(result.images), best, atol=1e-6)


def test_the_direction_is_that_of_the_cross_entropy(digits: data.Dataset, model: keras.Model) -> None:
    # At images far from saturation, where the plain gradient in float32 can be trusted.
    images, labels = digits.test_images[:200], (digits.test_labels[:200] + 1) % 10
    x = tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(x)
        logits = model(x)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    gradient = tape.gradient(losses, x).numpy()
    moved = attacks.fgsm(model, images * 0 + 0.5, labels, epsilon=0.1)  # the bounds cut nothing off
    assert np.abs(moved.images - 0.5).max() == pytest.approx(0.1)
    result = attacks.fgsm(model, images, labels, epsilon=0.1).images
    free = (images > 0.1) & (images < 0.9) & (np.abs(gradient) > 1e-4 * np.abs(gradient).max())
    np.testing.assert_array_equal(np.sign(result - images)[free], np.sign(gradient)[free])
    assert free.sum() > 1000


pixels = st.floats(0, 1, width=32)  # subnormal numbers, too, which TensorFlow takes for 0
sizes = arrays(np.float64, 3, elements=st.floats(0, 1))
tiny = arrays(np.float32, (3, 2, 3, 1), elements=pixels)


@settings(deadline=None)
@given(tiny, sizes, pixels, st.booleans())
def test_bounds_hold_to_the_last_bit(
    images: np.ndarray, epsilon: np.ndarray, step_size: float, targeted: bool
) -> None:
    labels = np.arange(3)
    for result in (
        attacks.iterative_fgsm(
            LINEAR, images, labels, epsilon=epsilon, step_size=step_size, steps=3, targeted=targeted
        ),
        attacks.pgd(LINEAR, images, labels, epsilon=epsilon, step_size=step_size, steps=1, seed=1),
        attacks.random_noise(LINEAR, images, labels, epsilon=epsilon, seed=1),
    ):
        change = np.abs(result.images.astype(np.float64) - images)
        assert (change <= epsilon[:, None, None, None]).all()
        assert result.images.min() >= 0
        assert result.images.max() <= 1


@settings(deadline=None)
@given(tiny)
def test_epsilon_0_is_the_identity(images: np.ndarray) -> None:
    labels = np.arange(3)
    same = [
        attacks.fgsm(LINEAR, images, labels, epsilon=0),
        attacks.iterative_fgsm(LINEAR, images, labels, epsilon=0, step_size=0.1, steps=2),
        attacks.pgd(LINEAR, images, labels, epsilon=0, step_size=0.1, steps=2, seed=0),
        attacks.random_noise(LINEAR, images, labels, epsilon=0, seed=0),
    ]
    for result in same:
        np.testing.assert_array_equal(result.images, images)


def test_the_ball_is_reached(digits: data.Dataset, model: keras.Model) -> None:
    images, labels = digits.test_images[:20], digits.test_labels[:20]
    for epsilon in (0.1, 0.25):
        result = attacks.iterative_fgsm(model, images, labels, epsilon=epsilon, step_size=0.04, steps=20)
        change = np.abs(result.images - images).max(axis=(1, 2, 3))
        np.testing.assert_allclose(change, epsilon, atol=1e-6)


def test_one_epsilon_per_image(digits: data.Dataset, model: keras.Model) -> None:
    images, labels = digits.test_images[:4], digits.test_labels[:4]
    epsilons = np.array([0.0, 0.1, 0.2, 0.3])
    together = attacks.iterative_fgsm(
        model, images, labels, epsilon=epsilons, step_size=epsilons / 4, steps=6, batch_size=3
    )
    for i, epsilon in enumerate(epsilons):
        alone = attacks.iterative_fgsm(
            model, images[[i]], labels[[i]], epsilon=epsilon, step_size=epsilon / 4, steps=6
        )
        assert np.mean(np.abs(alone.images[0] - together.images[i]) > 1e-6) < 0.01


def test_fgsm_is_one_step(digits: data.Dataset, model: keras.Model) -> None:
    images, labels = digits.test_images[:20], digits.test_labels[:20]
    fast = attacks.fgsm(model, images, labels, epsilon=0.1)
    slow = attacks.iterative_fgsm(model, images, labels, epsilon=0.1, step_size=0.1, steps=1)
    np.testing.assert_array_equal(fast.images, slow.images)
    np.testing.assert_array_equal(fast.iterations, np.ones(20))
    np.testing.assert_array_equal(fast.evaluations, np.full(20, 3))  # forward, backward, forward


def test_early_stop_is_the_first_success(digits: data.Dataset, model: keras.Model) -> None:
    images, targets = digits.test_images[:30], (digits.test_labels[:30] + 1) % 10
    settings_: dict[str, Any] = {"epsilon": 0.3, "step_size": 0.02, "targeted": True, "batch_size": 30}
    early = attacks.iterative_fgsm(model, images, targets, steps=6, early_stop=True, **settings_)
    hits = [networks.predict_logits(model, images).argmax(axis=1) == targets]
    path = [images]
    for steps in range(1, 7):
        result = attacks.iterative_fgsm(model, images, targets, steps=steps, **settings_)
        path.append(result.images)
        hits.append(result.success)
    first = np.where(np.any(hits, axis=0), np.argmax(hits, axis=0), 6)
    assert first.min() > 0
    assert early.success.any()
    assert not early.success.all()
    np.testing.assert_array_equal(early.iterations, first)
    np.testing.assert_array_equal(early.success, np.any(hits, axis=0))
    expected = np.stack([path[steps][i] for i, steps in enumerate(first)])
    assert np.mean(np.abs(early.images - expected) > 1e-6) < 1e-3
    # A forward and a backward pass for each step looked at, also the one not taken; or, where the
    # steps ran out, a last look.
    looked = np.where(np.any(hits[:-1], axis=0), 2 * (first + 1), 2 * 6 + 1)
    np.testing.assert_array_equal(early.evaluations, looked)


@pytest.mark.parametrize("targeted", [False, True])
def test_pgd_waits_for_the_confidence(targeted: bool, digits: data.Dataset, model: keras.Model) -> None:
    images, classes = digits.test_images[:20], (digits.test_labels[:20] + targeted) % 10
    settings_: dict[str, Any] = {"epsilon": 0.4, "step_size": 0.02, "steps": 40, "seed": 1}
    settings_ |= {"targeted": targeted, "early_stop": True}
    first, later = (
        attacks.pgd(model, images, classes, confidence=wait, **settings_) for wait in (0.0, 10.0)
    )
    logits = networks.predict_logits(model, later.images)
    own = np.eye(10, dtype=bool)[classes]
    lead = np.where(own, -np.inf, logits).max(axis=1) - logits[own]
    lead = -lead if targeted else lead
    assert (later.iterations > first.iterations).mean() > 0.5
    assert (lead[later.iterations < 40] >= 10 - 1e-4).all()


@pytest.mark.parametrize("targeted", [False, True])
def test_confidence_waits_for_the_lead(targeted: bool) -> None:
    # One pixel x and the logits (0, 10 x - 2): each step of 0.1 adds 1 to the lead of class 1.
    model = linear(np.array([[0, 10]], np.float32), np.array([0, -2], np.float32), (1, 1, 1))
    image, label = np.full((1, 1, 1, 1), 0.05, np.float32), np.array([int(targeted)])
    # Leads after 0, 1, 2, ... steps: -1.5, -0.5, 0.5, 1.5, ... and 7.5 after 9, the most that ε allows.
    for confidence, steps in ((0.0, 2), (0.4, 2), (0.6, 3), (3.0, 5), (3.6, 6), (100.0, 9)):
        result = attacks.iterative_fgsm(
            model,
            image,
            label,
            epsilon=1.0,
            step_size=0.1,
            steps=9,
            targeted=targeted,
            early_stop=True,
            confidence=confidence,
        )
        assert result.iterations == steps
        assert result.success  # the prediction alone, whatever the confidence
        # A forward and a backward pass for each look; or, where the steps ran out, a last look.
        assert result.evaluations == (2 * steps + 1 if confidence == 100 else 2 * (steps + 1))


def test_images_that_are_wrong_already_are_left_alone(digits: data.Dataset, model: keras.Model) -> None:
    images = digits.test_images[:10]
    wrong = (networks.predict_logits(model, images).argmax(axis=1) + 1) % 10
    result = attacks.iterative_fgsm(
        model, images, wrong, epsilon=0.3, step_size=0.1, steps=5, early_stop=True
    )
    np.testing.assert_array_equal(result.images, images)
    np.testing.assert_array_equal(result.iterations, np.zeros(10))
    assert result.success.all()


def test_saturated_softmax_does_not_stall() -> None:
    weights, bias = WEIGHTS[:, :2], BIAS[:2]
    mild, harsh = (linear(scale * weights, scale * bias, (2, 3, 1)) for scale in (1, 1e5))
    images = RANDOM.random((20, 2, 3, 1), np.float32)
    labels = networks.predict_logits(mild, images).argmax(axis=1)
    x = tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(x)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, harsh(x))
    assert np.mean(tape.gradient(losses, x) == 0) > 0.8  # the plain gradient is gone
    for steps in (1, 10):
        settings_: dict[str, Any] = {"epsilon": 0.5, "step_size": 0.1, "steps": steps}
        found = attacks.iterative_fgsm(harsh, images, labels, **settings_)
        np.testing.assert_array_equal(
            found.images, attacks.iterative_fgsm(mild, images, labels, **settings_).images
        )
    assert found.success.any()


def test_a_pixel_without_a_gradient_stays_and_the_others_go_on() -> None:
    inputs = keras.Input((2, 3, 1))
    flat = keras.layers.Flatten()(keras.layers.Lambda(without_gradient_at_0)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(3)(flat))
    model.set_weights([WEIGHTS, BIAS])
    images = np.full((1, 2, 3, 1), 0.5, np.float32)
    images[0, 0, 1] = 0
    for label in range(3):  # with one of them the pixel would rise
        result = attacks.fgsm(model, images, np.array([label]), epsilon=0.2)
        expected = attacks.fgsm(LINEAR, images, np.array([label]), epsilon=0.2).images
        expected[0, 0, 1] = 0
        np.testing.assert_array_equal(result.images, expected)


def test_random_starts_are_uniform_in_the_ball() -> None:
    images = np.full((4, 2, 3, 1), 0.5, np.float32)
    images = np.repeat(images, 500, axis=0)
    images[:, 0, 0] = 0.1
    labels = np.zeros(2000, int)
    starts = attacks.pgd(LINEAR, images, labels, epsilon=0.3, step_size=0, steps=1, seed=8).images
    inner = (starts - images)[:, 1]  # nothing is cut off here
    assert np.abs(inner).max() <= 0.3
    assert np.abs(np.mean(inner)) < 0.01
    np.testing.assert_allclose(np.var(inner), 0.3**2 / 3, rtol=0.05)  # of a uniform distribution
    corner = starts[:, 0, 0, 0]
    assert corner.min() == 0
    np.testing.assert_allclose(np.mean(corner == 0), 1 / 3, atol=0.04)
    other = attacks.pgd(LINEAR, images, labels, epsilon=0.3, step_size=0, steps=1, seed=9).images
    assert not np.array_equal(starts, other)


@pytest.mark.parametrize("targeted", [False, True])
def test_restarts_keep_what_came_nearest(
    targeted: bool, digits: data.Dataset, model: keras.Model
) -> None:
    images, classes = digits.test_images[:60], digits.test_labels[:60]
    classes = (classes + 1) % 10 if targeted else classes
    settings_: dict[str, Any] = {"epsilon": 0.12, "step_size": 0.02, "steps": 4, "seed": 1}
    results = [
        attacks.pgd(model, images, classes, restarts=n, targeted=targeted, **settings_)
        for n in (1, 2, 6)
    ]
    margins = []
    for result in results:
        logits = networks.predict_logits(model, result.images)
        own = np.eye(10, dtype=bool)[classes]
        lead = np.where(own, -np.inf, logits).max(axis=1) - logits[own]
        margins.append(-lead if targeted else lead)
        np.testing.assert_array_equal(result.success, margins[-1] > 0)
    failed = ~results[0].success
    assert (margins[1] >= margins[0] - 1e-4)[failed].all()
    assert (margins[2] >= margins[1] - 1e-4)[~results[1].success].all()
    assert margins[2][failed].sum() > margins[0][failed].sum() + 1
    # Who has succeeded takes no further start.
    done = results[0].success
    assert done.any()
    assert failed.any()
    np.testing.assert_array_equal(results[2].images[done], results[0].images[done])
    np.testing.assert_array_equal(results[2].evaluations[done], 9)
    still = ~results[2].success
    np.testing.assert_array_equal(results[2].evaluations[still], 6 * 9)
    np.testing.assert_array_equal(results[2].iterations[still], 6 * 4)


def test_restarts_forget_attempts_without_a_margin() -> None:
    # Where any pixel exceeds 0.5, the logits are NaN: such an attempt is never the nearest.
    inputs = keras.Input((2, 3, 1))
    flat = keras.layers.Flatten()(inputs)
    logits = keras.layers.Dense(3)(flat)
    high = keras.ops.max(flat, axis=1, keepdims=True) > 0.5
    model = keras.Model(inputs, keras.ops.where(high, np.nan, logits))
    model.set_weights([0 * WEIGHTS, np.array([9, 0, 0], np.float32)])
    images = np.full((50, 2, 3, 1), 0.45, np.float32)
    settings_: dict[str, Any] = {"epsilon": 0.06, "step_size": 0, "steps": 1, "seed": 0}
    lost = []
    for restarts in (1, 20):
        result = attacks.pgd(model, images, np.zeros(50, int), restarts=restarts, **settings_)
        assert not result.success.any()
        lost.append(np.sum(result.images.max(axis=(1, 2, 3)) > 0.5))
    assert lost[0] > 5
    assert lost[1] == 0
