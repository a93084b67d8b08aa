"""JSMA: both searches against naive ones, the budget, the pixels that leave."""

from itertools import combinations
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from advlib import attacks, data, networks
from advlib.attacks import saliency
from tests.models import convolutional, linear, without_gradient_at_0

RANDOM = np.random.default_rng(11)


@tf.function  # type: ignore[untyped-decorator]
def jacobian(model: keras.Model, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Logits (1, classes) of one image, and all their derivatives by its pixels."""
    with tf.GradientTape() as tape:
        tape.watch(images)
        logits = model(images)
    return logits, tape.jacobian(logits, images)


def naive_jsma(
    model: keras.Model,
    image: np.ndarray,
    target: int,
    *,
    theta: float,
    budget: int,
    search: str,
    clip_aware: bool,
    confidence: float,
) -> tuple[np.ndarray, bool]:
    """Papernot et al.'s algorithm as it is written, for one image, with a loop over all pairs."""
    x = image.ravel().copy()
    increase = theta > 0
    for _ in range(budget):
        logits, derivatives = jacobian(model, tf.constant(x.reshape((1, *image.shape))))
        logits = logits.numpy()[0]
        derivatives = derivatives.numpy().reshape(len(logits), -1)
        rival = np.argmax(np.where(np.arange(len(logits)) == target, -np.inf, logits))
        if logits[target] - confidence > logits[rival]:
            return x, True
        if clip_aware:
            derivatives = derivatives * np.abs(np.clip(x + theta, 0, 1) - x)
        others = derivatives.sum(axis=0) - derivatives[target]
        lead = derivatives[rival] - derivatives[target]
        domain = np.flatnonzero(x < 1 if increase else x > 0)
        best: tuple[float, Any] = (0.0, None)
        if search == "pair":
            for i, k in combinations(domain, 2):
                alpha = derivatives[target][i] + derivatives[target][k]
                beta = others[i] + others[k]
                if not increase:
                    alpha, beta = -alpha, -beta
                if alpha > 0 and beta < 0 and -alpha * beta > best[0]:
                    best = -alpha * beta, [i, k]
        else:
            for i in domain:
                gain, rival = derivatives[target][i], lead[i]
                if not increase:
                    gain, rival = -gain, -rival
                if search == "lead" and -rival > best[0]:
                    best = -rival, [i]
                if search == "single" and gain >= 0 and rival <= 0 and gain * abs(rival) > best[0]:
                    best = gain * abs(rival), [i]
        if best[1] is None:
            break
        x[best[1]] = np.clip(x[best[1]] + theta, 0, 1)
    return x, model(x.reshape((1, *image.shape))).numpy()[0].argmax() == target


@pytest.fixture(scope="module")
def small() -> keras.Model:
    """A small network of four classes for colour images of 5 × 4."""
    return convolutional((5, 4, 3), filters=8, classes=4, seed=3)


@pytest.mark.parametrize("search", ["pair", "single", "lead"])
@pytest.mark.parametrize("clip_aware", [False, True])
@pytest.mark.parametrize(
    ("theta", "confidence"), [(1.0, 0.0), (0.4, 0.0), (-1.0, 0.0), (-0.3, 0.0), (1.0, 0.5), (-0.3, 0.2)]
)
def test_agrees_with_the_paper_step_by_step(
    small: keras.Model, theta: float, confidence: float, clip_aware: bool, search: Any
) -> None:
    images = RANDOM.random((8, 5, 4, 3), np.float32)
    images[:, 0] = images[:, 0].round()  # some pixels are saturated
    targets = RANDOM.integers(0, 4, 8)
    settings_: dict[str, Any] = {
        "theta": theta,
        "search": search,
        "clip_aware": clip_aware,
        "confidence": confidence,
    }
    result = attacks.jsma(small, images, targets, max_fraction=0.3, **settings_)
    budget = 18 // (2 if search == "pair" else 1)  # of 60 values
    for image, target, found, success in zip(
        images, targets, result.images, result.success, strict=True
    ):
        expected, hit = naive_jsma(small, image, target, budget=budget, **settings_)
        np.testing.assert_allclose(found.ravel(), expected, atol=1e-6)
        assert success == hit
    assert (result.iterations > 1).any()
    if confidence:
        at_once = attacks.jsma(
            small, images, targets, max_fraction=0.3, **settings_ | {"confidence": 0.0}
        )
        assert (result.iterations > at_once.iterations)[at_once.success].any()


def brute_force(gain: np.ndarray, drop: np.ndarray) -> np.ndarray:
    """The highest score of all pairs, in float32: (m,)."""
    first, second = np.triu_indices(gain.shape[1], 1)
    alpha, beta = gain[:, first] + gain[:, second], drop[:, first] + drop[:, second]
    return np.where((alpha > 0) & (beta > 0), alpha * beta, 0).max(axis=1)


def family(name: str, count: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Gradients g and d of three images, of different kinds."""
    gain: np.ndarray = random.normal(size=(3, count)).astype(np.float32)
    drop: np.ndarray
    if name == "independent":
        drop = random.normal(size=(3, count))
    elif name == "aligned":
        drop = gain + 0.1 * random.normal(size=(3, count))
    elif name == "opposed":  # no pixel dominates another
        drop = 0.5 - gain
    elif name == "nearly opposed":
        drop = 0.3 - gain + 0.05 * random.normal(size=(3, count))
    elif name == "equal":
        gain, drop = gain * 0 + 1, gain * 0 + 2
    elif name == "few values":
        gain, drop = gain.round(), random.normal(size=(3, count)).round()
    elif name == "hopeless":
        drop = -1 - np.abs(gain)
    else:  # one pixel is far above the rest
        drop = random.normal(size=(3, count))
        gain[:, 0] = drop[:, 1] = 1e3
    return gain, drop.astype(np.float32)


FAMILIES = (
    *("independent", "aligned", "opposed", "nearly opposed"),
    *("equal", "few values", "hopeless", "outlier"),
)


@settings(deadline=None, max_examples=200)
@given(
    st.sampled_from(FAMILIES),
    st.integers(2, 150),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.0, 0.3, 0.9]),
)
def test_the_pair_is_the_best_of_all(kind: str, count: int, seed: int, locked: float) -> None:
    random = np.random.default_rng(seed)
    gain, drop = family(kind, count, random)
    out = random.random((3, count)) < locked
    gain[out] = drop[out] = -np.inf
    pair, score = (values.numpy() for values in saliency.best_pair(tf.constant(gain), tf.constant(drop)))
    np.testing.assert_array_equal(score, brute_force(gain, drop))
    for i in np.flatnonzero(score > 0):
        first, second = pair[i]
        assert first != second
        alpha, beta = gain[i, first] + gain[i, second], drop[i, first] + drop[i, second]
        assert alpha * beta == score[i]


def test_the_search_among_all_pixels_is_needed_and_right(monkeypatch: pytest.MonkeyPatch) -> None:
    gain, drop = family("opposed", 400, np.random.default_rng(0))
    before = saliency.best_pair(tf.constant(gain), tf.constant(drop))[1].numpy()
    np.testing.assert_array_equal(before, brute_force(gain, drop))
    monkeypatch.setattr(saliency, "BLOCK_SCORES", 1)  # one pixel of each image at a time
    after = saliency.best_pair(tf.constant(gain), tf.constant(drop))[1].numpy()
    np.testing.assert_array_equal(after, before)
    monkeypatch.setattr(saliency, "_search_all", lambda gain, drop, merit, pair, score: (pair, score))
    without = saliency.best_pair(tf.constant(gain), tf.constant(drop))[1].numpy()
    assert (without < before).any()


@pytest.mark.parametrize(("search", "pixels"), [("pair", 28), ("single", 29), ("lead", 29)])
def test_the_budget_is_spent_and_not_exceeded(search: Any, pixels: int) -> None:
    # Every pixel helps, but the bias is out of reach.
    weights = np.stack([-np.arange(1, 101), np.arange(1, 101)], axis=1).astype(np.float32)
    model = linear(weights, np.array([1e6, 0], np.float32), (10, 10, 1))
    images = np.zeros((3, 10, 10, 1), np.float32)
    images[0, 9, 9] = 1  # the most helpful pixel is full already
    images[1, 9, 9] = 0.75
    ones = np.ones(3, int)
    result = attacks.jsma(model, images, ones, max_fraction=0.29, search=search)
    assert not result.success.any()
    changed = (result.images != images).reshape(3, -1)
    np.testing.assert_array_equal(changed.sum(axis=1), pixels)
    # The highest first, without the one that is full.
    np.testing.assert_array_equal(np.flatnonzero(changed[0]), np.arange(99 - pixels, 99))
    np.testing.assert_array_equal(np.flatnonzero(changed[1]), np.arange(100 - pixels, 100))
    assert result.images.max() == 1
    steps = 14 if search == "pair" else 29
    np.testing.assert_array_equal(result.iterations, steps)
    passes = 2 if search == "lead" else 3
    np.testing.assert_array_equal(result.evaluations, passes * steps + 1)
    none = attacks.jsma(model, images, ones, max_fraction=0.009, search=search)
    np.testing.assert_array_equal(none.images, images)
    np.testing.assert_array_equal(none.evaluations, 1)
    # What a pixel can still gain decides: three quarters full, it is worth a quarter.
    aware = attacks.jsma(model, images, ones, max_fraction=0.29, search=search, clip_aware=True)
    changed = (aware.images != images).reshape(3, -1)
    np.testing.assert_array_equal(np.flatnonzero(changed[1]), np.arange(99 - pixels, 99))


def test_who_has_reached_the_target_leaves_at_once(digits: data.Dataset, model: keras.Model) -> None:
    images = digits.test_images[:5]
    predictions = networks.predict_logits(model, images).argmax(axis=1)
    result = attacks.jsma(model, images, predictions)
    np.testing.assert_array_equal(result.images, images)
    assert result.success.all()
    np.testing.assert_array_equal(result.iterations, 0)
    np.testing.assert_array_equal(result.evaluations, 3)


@pytest.mark.parametrize("search", ["pair", "single", "lead"])
def test_images_without_a_pixel_that_qualifies_are_given_up(search: Any) -> None:
    weights = np.stack([np.ones(6), -np.ones(6)], axis=1).astype(np.float32)
    model = linear(weights, np.array([10, 0], np.float32), (2, 3, 1))
    images = np.full((2, 2, 3, 1), 0.5, np.float32)
    hopeless = attacks.jsma(model, images, np.ones(2, int), max_fraction=1, search=search)
    np.testing.assert_array_equal(hopeless.images, images)
    assert not hopeless.success.any()
    np.testing.assert_array_equal(hopeless.iterations, 0)
    # Without ink to remove it goes as far as it can.
    removed = attacks.jsma(model, images, np.ones(2, int), theta=-1, max_fraction=1, search=search)
    np.testing.assert_array_equal(removed.images, 0 * images)
    assert not removed.success.any()


@pytest.mark.parametrize("search", ["pair", "single", "lead"])
def test_pixels_whose_gradient_is_not_finite_are_never_chosen(search: Any) -> None:
    inputs = keras.Input((2, 4, 1))
    flat = keras.layers.Flatten()(keras.layers.Lambda(without_gradient_at_0)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(2)(flat))
    weights = np.stack([-np.arange(1, 9), np.arange(1, 9)], axis=1).astype(np.float32)
    model.set_weights([weights, np.array([40, 0], np.float32)])
    images = np.full((1, 2, 4, 1), 0.25, np.float32)
    images[0, 1, 3] = 0
    result = attacks.jsma(model, images, np.ones(1, int), max_fraction=1, search=search)
    assert result.success.all()
    changed = np.flatnonzero(result.images != images)
    assert 7 not in changed
    assert 6 in changed


def test_photographs_are_not_too_large() -> None:
    model = keras.Sequential(
        [
            keras.Input((224, 224, 3)),
            keras.layers.Conv2D(4, 7, strides=7, kernel_initializer=keras.initializers.GlorotUniform(1)),
            keras.layers.Flatten(),
            keras.layers.Dense(6, kernel_initializer=keras.initializers.GlorotUniform(2)),
        ]
    )
    images = RANDOM.random((3, 224, 224, 3), np.float32)
    predictions = networks.predict_logits(model, images).argmax(axis=1)
    result = attacks.jsma(model, images, (predictions + 1) % 6, max_fraction=1e-4)
    changed = (result.images != images).sum(axis=(1, 2, 3))
    np.testing.assert_array_equal(changed, 2 * result.iterations)
    assert changed.max() <= 15
    x = tf.constant(images[:1])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        logits = model(x)
        target = logits[:, (predictions[0] + 1) % 6]
        others = tf.reduce_sum(logits, axis=1) - target
    gain, drop = (
        tf.reshape(tape.gradient(z, x), (1, -1)) * sign for z, sign in ((target, 1), (others, -1))
    )
    pair, score = saliency.best_pair(gain, drop)
    # A random sample of pairs, and all pairs with either of the two, score no higher.
    gain, drop, pair = gain.numpy()[0], drop.numpy()[0], pair.numpy()[0]
    for one in (*pair, *RANDOM.integers(0, gain.size, 200)):
        scores = np.maximum(gain + gain[one], 0) * np.maximum(drop + drop[one], 0)
        scores[one] = 0
        assert scores.max() <= score.numpy()[0]


@pytest.mark.parametrize("search", ["pair", "single", "lead"])
@pytest.mark.parametrize("scale", [1e-22, 1e22])
def test_the_size_of_the_gradients_does_not_matter(search: Any, scale: float) -> None:
    weights = RANDOM.normal(size=(60, 3)).astype(np.float32)
    bias = np.array([30, 0, 0], np.float32)
    images = RANDOM.random((4, 5, 4, 3), np.float32)
    plain, scaled = (
        attacks.jsma(
            linear(factor * weights, factor * bias, (5, 4, 3)),
            images,
            np.array([1, 2, 1, 2]),
            max_fraction=1,
            search=search,
        )
        for factor in (np.float32(1), np.float32(scale))
    )
    assert plain.iterations.min() > 1
    np.testing.assert_array_equal(scaled.iterations, plain.iterations)
    np.testing.assert_array_equal(scaled.images, plain.images)


def test_pixels_that_are_not_chosen_keep_every_bit() -> None:
    weights = np.stack([-np.arange(1, 101), np.arange(1, 101)], axis=1).astype(np.float32)
    model = linear(weights, np.array([1e6, 0], np.float32), (10, 10, 1))
    images = np.full((1, 10, 10, 1), 1e-40, np.float32)  # to TensorFlow's sums this is 0
    result = attacks.jsma(model, images, np.ones(1, int), max_fraction=0.29)
    assert (result.images != images).sum() == 28
