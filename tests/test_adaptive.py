"""The attack on classifier and detector at once: by hand, against the optimum, and its bounds."""

import gc
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import linprog
from scipy.special import expit, softmax

from advlib import _traces, attacks, data, detection, networks
from advlib.attacks import adaptive, adaptive_pgd
from tests.models import convolutional, linear, without_gradient_at_0

RANDOM = np.random.default_rng(5)
WEIGHTS = RANDOM.normal(size=(6, 3)).astype(np.float32)
BIAS = RANDOM.normal(size=3).astype(np.float32)
LINEAR = linear(WEIGHTS, BIAS, (2, 3, 1))
TWO = linear(WEIGHTS[:, :2], BIAS[:2], (2, 3, 1))
SLOPE = RANDOM.normal(size=6).astype(np.float32)
IMAGES = RANDOM.random((60, 2, 3, 1), np.float32)

# No score is below the one, every score is below the other.
UNREACHABLE, HARMLESS = -1e30, 1e30


def slope(images: tf.Tensor) -> tf.Tensor:
    """A score that rises along one direction."""
    return tf.linalg.matvec(tf.reshape(images, (-1, 6)), SLOPE)


def nearness(images: tf.Tensor) -> tf.Tensor:
    """A score that falls with the distance from grey."""
    return -tf.reduce_sum(tf.square(images - 0.5), axis=(1, 2, 3))


def flat(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1).astype(np.float64)


def predicted(model: keras.Model, images: np.ndarray) -> np.ndarray:
    return networks.predict_logits(model, images).argmax(axis=1)


class Look(NamedTuple):
    """Where the images are before a step, whether they fool, and their scores."""

    images: np.ndarray
    fooled: np.ndarray
    scores: np.ndarray


def path_by_hand(
    images: np.ndarray, classes: np.ndarray, epsilon: float, size: float, steps: int, targeted: bool
) -> list[Look]:
    """The formulas of the docstring for the linear model and score, as long as nothing stops."""
    start = x = flat(images)
    own = np.eye(3, dtype=bool)[classes]
    balance, velocity, path = np.zeros(len(x)), np.zeros_like(x), []
    for step in range(steps + 1):
        logits = x @ WEIGHTS + BIAS
        fooled = (logits.argmax(axis=1) == classes) == targeted
        path.append(Look(x.reshape(images.shape), fooled, x @ SLOPE))
        balance += np.where(fooled, 1, -1) * adaptive.RATE
        weight = expit(balance)[:, None]
        g = (softmax(np.where(own, -np.inf, logits), axis=1) - own) @ WEIGHTS.T * (-1 if targeted else 1)
        g /= np.abs(g).sum(axis=1, keepdims=True)
        h = SLOPE / np.abs(SLOPE).sum()
        velocity = (1 - weight) * g - weight * h + adaptive.MOMENTUM * velocity
        decayed = size * (1 + np.cos(np.pi * step / steps)) / 2
        x = x + decayed * velocity / np.abs(velocity).max(axis=1, keepdims=True)
        x = np.clip(np.clip(x, start - epsilon, start + epsilon), 0, 1)
    return path


@pytest.mark.parametrize("targeted", [False, True])
def test_steps_by_hand_and_the_best_of_them(targeted: bool) -> None:
    classes = RANDOM.integers(0, 3, len(IMAGES))
    for epsilon, size, steps in ((1.0, 0.05, 1), (1.0, 0.1, 6), (0.15, 0.1, 9)):
        result = adaptive_pgd(
            LINEAR,
            IMAGES,
            classes,
            score=slope,
            threshold=UNREACHABLE,
            epsilon=epsilon,
            step_size=size,
            steps=steps,
            targeted=targeted,
            seed=0,
        )
        path = path_by_hand(IMAGES, classes, epsilon, size, steps, targeted)
        scores = np.array([np.where(look.fooled, look.scores, np.inf) for look in path])
        best, ever = scores.argmin(axis=0), np.isfinite(scores.min(axis=0))
        assert 0 < ever.mean() < 1
        expected = np.stack([path[look].images[i] for i, look in enumerate(best)])
        np.testing.assert_allclose(result.images[ever], expected[ever], atol=1e-5)
        np.testing.assert_array_equal(result.images[~ever], IMAGES[~ever])
        assert not result.success.any()
        np.testing.assert_array_equal(result.iterations, np.full(60, steps))
        np.testing.assert_array_equal(result.evaluations, np.full(60, 4 * (steps + 1)))
    assert len(np.unique(best[ever])) > 2  # neither always the first nor always the last


@pytest.mark.parametrize("targeted", [False, True])
def test_an_image_stops_at_its_first_success(targeted: bool) -> None:
    classes = RANDOM.integers(0, 3, len(IMAGES))
    threshold = float(np.median(slope(IMAGES)))
    result = adaptive_pgd(
        LINEAR,
        IMAGES,
        classes,
        score=slope,
        threshold=threshold,
        epsilon=0.3,
        step_size=0.1,
        steps=12,
        targeted=targeted,
        seed=0,
    )
    path = path_by_hand(IMAGES, classes, 0.3, 0.1, 12, targeted)
    hits = np.array([look.fooled & (look.scores < threshold) for look in path])
    success = hits.any(axis=0)
    first = np.where(success, hits.argmax(axis=0), 12)
    assert len(np.unique(first)) > 3
    assert 0 < success.mean() < 1
    np.testing.assert_array_equal(result.success, success)
    np.testing.assert_array_equal(result.iterations, first)
    np.testing.assert_array_equal(result.evaluations, 4 * (first + 1))
    expected = np.stack([path[look].images[i] for i, look in enumerate(first)])
    np.testing.assert_allclose(result.images[success], expected[success], atol=1e-5)
    # What fools and passes at the start is left alone.
    np.testing.assert_array_equal(result.images[first == 0], IMAGES[first == 0])
    assert (result.evaluations[hits[0]] == 4).all()


def optimum(image: np.ndarray, label: int, epsilon: float) -> float:
    """The lowest score within epsilon among images of the other class; infinite if there is none."""
    difference = (WEIGHTS[:, label] - WEIGHTS[:, 1 - label]).astype(np.float64)
    found = linprog(
        SLOPE,
        A_ub=difference[None],
        b_ub=[float(BIAS[1 - label]) - float(BIAS[label])],
        bounds=np.clip(flat(image[None])[0][:, None] + [-epsilon, epsilon], 0, 1),
    )
    return float(found.fun) if found.success else np.inf


def test_what_exists_is_found_and_nothing_else() -> None:
    # Two linear classes and a linear score: what can be reached is a linear program's answer.
    labels = predicted(TWO, IMAGES)
    best = np.array([optimum(*pair, 0.25) for pair in zip(IMAGES, labels, strict=True)])
    exists = np.isfinite(best)
    assert 0.2 < exists.mean() < 0.95
    arguments: dict[str, Any] = {"score": slope, "epsilon": 0.25, "step_size": 0.1, "steps": 200}

    lowest = adaptive_pgd(TWO, IMAGES, labels, threshold=UNREACHABLE, seed=0, **arguments)
    fooled = predicted(TWO, lowest.images) != labels
    np.testing.assert_array_equal(fooled, exists)
    np.testing.assert_array_equal(lowest.images[~exists], IMAGES[~exists])
    beyond = flat(lowest.images)[exists] @ SLOPE - best[exists]
    assert beyond.min() > -1e-5
    assert beyond.max() < 0.05
    # The score has to be bought: a mere error of the classifier scores higher.
    plain = attacks.pgd(TWO, IMAGES, labels, epsilon=0.25, step_size=0.1, steps=200, seed=0)
    assert np.median((flat(plain.images) @ SLOPE)[exists] - best[exists]) > 0.3

    for threshold in np.quantile(best[exists], [0.25, 0.5, 0.75]):
        result = adaptive_pgd(TWO, IMAGES, labels, threshold=float(threshold), seed=0, **arguments)
        clear = np.abs(best - threshold) > 0.05
        assert clear.mean() > 0.8
        np.testing.assert_array_equal(result.success[clear], (best < threshold)[clear])
        assert not result.success[best > threshold + 1e-5].any()


def test_with_a_score_that_never_tells_it_fools_only() -> None:
    # Whether two linear classes can be fooled within epsilon, FGSM knows.
    labels = predicted(TWO, IMAGES)
    for epsilon in (0.1, 0.25):
        possible = attacks.fgsm(TWO, IMAGES, labels, epsilon=epsilon).success
        assert 0.1 < possible.mean() < 0.95
        result = adaptive_pgd(
            TWO,
            IMAGES,
            labels,
            score=slope,
            threshold=HARMLESS,
            epsilon=epsilon,
            step_size=0.1,
            steps=300,
            seed=0,
        )
        np.testing.assert_array_equal(result.success, possible)
        np.testing.assert_array_equal(predicted(TWO, result.images) != labels, possible)


def test_without_a_pull_of_the_classifier_it_evades_only() -> None:
    # A classifier that is always wrong, and has no gradient.
    wrong = linear(0 * WEIGHTS, np.array([0, 9, 0], np.float32), (2, 3, 1))
    images = np.full((1, 2, 3, 1), 0.5, np.float32)
    images[0, 0, 1] = 0
    signs = np.array([1, 1, -1, 1, -1, -1], np.float32)

    def score(images: tf.Tensor) -> tf.Tensor:
        pixels = without_gradient_at_0(tf.reshape(images, (-1, 6)))
        return tf.linalg.matvec(pixels, signs)

    result = adaptive_pgd(
        wrong,
        images,
        np.zeros(1, int),
        score=score,
        threshold=UNREACHABLE,
        epsilon=0.2,
        step_size=0.1,
        steps=9,
        seed=0,
    )
    expected = images - 0.2 * signs.reshape(1, 2, 3, 1)
    expected[0, 0, 1] = 0  # no gradient there, and none is made up
    np.testing.assert_allclose(result.images, expected, atol=1e-6)


def test_without_a_pull_of_the_score_it_fools_only() -> None:
    def score(images: tf.Tensor) -> tf.Tensor:
        return 0 * slope(images)

    labels = predicted(TWO, IMAGES)
    arguments: dict[str, Any] = {"epsilon": 0.25, "step_size": 0.25}
    result = adaptive_pgd(TWO, IMAGES, labels, score=score, threshold=0.5, steps=30, seed=0, **arguments)
    possible = attacks.fgsm(TWO, IMAGES, labels, epsilon=0.25).success
    np.testing.assert_array_equal(result.success, possible)


pixels = st.floats(0, 1, width=32)  # subnormal numbers, too, which TensorFlow takes for 0
sizes = arrays(np.float64, 3, elements=st.floats(0, 1))
tiny = arrays(np.float32, (3, 2, 3, 1), elements=pixels)
thresholds = st.sampled_from([UNREACHABLE, 0.0, HARMLESS])


@settings(deadline=None)
@given(tiny, sizes, pixels, st.booleans(), thresholds)
def test_bounds_hold_to_the_last_bit(
    images: np.ndarray, epsilon: np.ndarray, step_size: float, targeted: bool, threshold: float
) -> None:
    before = images.copy()
    result = adaptive_pgd(
        LINEAR,
        images,
        np.arange(3),
        score=slope,
        threshold=threshold,
        epsilon=epsilon,
        step_size=step_size,
        steps=3,
        targeted=targeted,
        restarts=2,
        seed=1,
    )
    np.testing.assert_array_equal(images, before)
    change = np.abs(result.images.astype(np.float64) - images)
    assert (change <= epsilon[:, None, None, None]).all()
    assert result.images.min() >= 0
    assert result.images.max() <= 1


@settings(deadline=None)
@given(tiny)
def test_epsilon_0_is_the_identity(images: np.ndarray) -> None:
    labels = np.arange(3)
    result = adaptive_pgd(
        LINEAR,
        images,
        labels,
        score=slope,
        threshold=0.0,
        epsilon=0,
        step_size=0.1,
        steps=2,
        restarts=2,
        seed=0,
    )
    np.testing.assert_array_equal(result.images, images)
    assert not result.iterations.any()  # nor is it looked at again and again


def test_a_bound_that_tensorflow_takes_for_0_holds() -> None:
    images = np.full((1, 2, 3, 1), 2e-38, np.float32)
    wrong = linear(0 * WEIGHTS, np.array([0, 9, 0], np.float32), (2, 3, 1))

    def score(images: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(1e30 * images, axis=(1, 2, 3))

    result = adaptive_pgd(
        wrong,
        images,
        np.zeros(1, int),
        score=score,
        threshold=UNREACHABLE,
        epsilon=1.5e-38,  # up to 5e-39, which is subnormal
        step_size=0.1,
        steps=2,
        seed=0,
    )
    assert (result.images < images).all()
    assert (images.astype(np.float64) - result.images <= 1.5e-38).all()


def test_images_stay_where_no_way_fools() -> None:
    sure = linear(0 * WEIGHTS, np.array([9, 0, 0], np.float32), (2, 3, 1))
    result = adaptive_pgd(
        sure,
        IMAGES,
        np.zeros(60, int),
        score=slope,
        threshold=HARMLESS,
        epsilon=0.2,
        step_size=0.1,
        steps=3,
        restarts=3,
        seed=0,
    )
    np.testing.assert_array_equal(result.images, IMAGES)
    assert not result.success.any()


# One model and one score for all calls, or each of them would be traced anew.
ALWAYS_WRONG = linear(0 * WEIGHTS, np.array([0, 9, 0], np.float32), (2, 3, 1))


def nearness_below(images: tf.Tensor) -> tf.Tensor:
    """That of all rows but the first: grey itself has the highest."""
    return nearness(images[:, 1:])


def starts(**more: Any) -> np.ndarray:
    """The second starts of grey images: the classifier is wrong everywhere, the step is 0."""
    images = np.full((1000, 2, 3, 1), 0.5, np.float32)
    images[:, 0, 0] = 0.1
    arguments: dict[str, Any] = {"epsilon": 0.3, "restarts": 2, "seed": 8} | more
    return adaptive_pgd(
        ALWAYS_WRONG,
        images,
        np.zeros(1000, int),
        score=nearness_below,
        threshold=UNREACHABLE,
        step_size=0,
        steps=1,
        **arguments,
    ).images


def test_the_first_start_is_the_image_and_others_are_uniform_in_the_ball() -> None:
    grey, first = starts(restarts=1), starts()
    np.testing.assert_array_equal(np.unique(grey), np.array([0.1, 0.5], np.float32))
    inner = (first - 0.5)[:, 1]  # nothing is cut off here
    assert np.abs(inner).max() <= 0.3
    assert np.abs(np.mean(inner)) < 0.01
    np.testing.assert_allclose(np.var(inner), 0.3**2 / 3, rtol=0.05)  # of a uniform distribution
    corner = first[:, 0, 0, 0]
    assert corner.min() == 0
    np.testing.assert_allclose(np.mean(corner == 0), 1 / 3, atol=0.04)
    assert not np.array_equal(first, starts(seed=9))
    # Neither the batches nor what is drawn later change a start.
    np.testing.assert_array_equal(first, starts(batch_size=333))
    third = starts(restarts=3)
    same = (third == first).all(axis=(1, 2, 3))
    assert 0.4 < same.mean() < 0.6  # of two starts the better one
    assert (nearness(third[:, 1:]) <= nearness(first[:, 1:])).numpy().all()


def test_batches_of_later_starts_are_as_large_as_those_of_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes: list[int] = []

    def noted(model: keras.Model, function: Any, *arguments: Any) -> Any:
        sizes.extend(len(state.x) for state in arguments if hasattr(state, "x"))
        return function

    monkeypatch.setattr(_traces, "compiled", noted)
    adaptive_pgd(
        LINEAR,
        IMAGES[:20],
        predicted(LINEAR, IMAGES[:20]),
        score=slope,
        threshold=UNREACHABLE,
        epsilon=0.1,
        step_size=0.05,
        steps=12,
        restarts=3,
        batch_size=8,
        seed=0,
    )
    assert sizes == 3 * [8, 8, 4]


def test_one_epsilon_and_one_step_size_per_image() -> None:
    labels = predicted(LINEAR, IMAGES[:4])
    epsilons, step_sizes = np.array([0.0, 0.1, 0.3, 0.6]), np.array([0.2, 0.1, 0.05, 0.0])
    arguments: dict[str, Any] = {"score": slope, "threshold": UNREACHABLE, "steps": 9, "seed": 0}
    wrong = (labels + 1) % 3
    together = adaptive_pgd(
        LINEAR, IMAGES[:4], wrong, epsilon=epsilons, step_size=step_sizes, batch_size=3, **arguments
    )
    for i, (epsilon, step_size) in enumerate(zip(epsilons, step_sizes, strict=True)):
        alone = adaptive_pgd(
            LINEAR, IMAGES[[i]], wrong[[i]], epsilon=epsilon, step_size=step_size, **arguments
        )
        np.testing.assert_allclose(alone.images[0], together.images[i], atol=1e-5)
    change = np.abs(together.images - IMAGES[:4]).max(axis=(1, 2, 3))
    np.testing.assert_array_equal(change > 0, [False, True, True, False])


def test_same_call_same_bytes_and_one_trace() -> None:
    model = linear(WEIGHTS, BIAS, (2, 3, 1))
    labels = predicted(model, IMAGES)
    arguments: dict[str, Any] = {"score": slope, "epsilon": 0.2, "step_size": 0.05, "restarts": 2}
    first, second = (
        adaptive_pgd(model, IMAGES, labels, threshold=0.0, steps=9, seed=4, **arguments)
        for _ in range(2)
    )
    for field in ("images", "success", "iterations", "evaluations"):
        np.testing.assert_array_equal(getattr(first, field), getattr(second, field))
    adaptive_pgd(
        model, IMAGES[:7], labels[:7], threshold=1.0, steps=3, seed=4, targeted=True, **arguments
    )
    compiled = [each for traces in _traces._COMPILED[model].values() for each in traces.values()]
    # The search, the score, and the model's logits.
    assert [each.experimental_get_tracing_count() for each in compiled] == [1, 1, 1]


class Guarded(NamedTuple):
    """Some digits, and the score and the threshold of a detector calibrated on others."""

    images: np.ndarray
    labels: np.ndarray
    score: Callable[[tf.Tensor], tf.Tensor]
    threshold: float


@pytest.fixture(scope="module")
def guarded(digits: data.Dataset, model: keras.Model) -> Guarded:
    """The detector of the book, for the embedded digits."""
    detector = detection.Detector(model, networks.pretrained("vae", "digits", latent=16))
    detector.calibrate(digits.test_images[:300], false_positive_rate=0.05)
    some = slice(300, 340)
    return Guarded(digits.test_images[some], digits.test_labels[some], detector, detector.threshold)


def attack(model: keras.Model, guarded: Guarded, **more: Any) -> attacks.AttackResult:
    arguments: dict[str, Any] = {
        "labels": guarded.labels,
        "score": guarded.score,
        "threshold": guarded.threshold,
        "epsilon": 0.2,
        "step_size": 0.04,
        "steps": 20,
        "seed": 3,
    }
    return adaptive_pgd(model, guarded.images, **arguments | more)


@pytest.mark.parametrize("targeted", [False, True])
def test_success_means_to_fool_and_to_pass(targeted: bool, model: keras.Model, guarded: Guarded) -> None:
    images, classes = guarded.images.copy(), (guarded.labels + 3 * targeted) % 10
    result = attack(
        model, guarded, labels=classes, targeted=targeted, epsilon=0.3 if targeted else 0.2, steps=30
    )
    np.testing.assert_array_equal(guarded.images, images)
    assert result.images.dtype == np.float32
    assert result.success.dtype == np.bool_
    assert result.iterations.dtype == result.evaluations.dtype == np.int64
    fooled = (predicted(model, result.images) == classes) == targeted
    scores = guarded.score(tf.constant(result.images)).numpy()
    clear = np.abs(scores - guarded.threshold) > 1e-3
    assert clear.mean() > 0.9
    both = fooled & (scores < guarded.threshold)
    np.testing.assert_array_equal(result.success[clear], both[clear])
    assert 5 < result.success.sum() < 40
    assert (fooled & ~result.success).any()  # to fool is not enough
    # What does not know of the detector gets no image past it.
    pgd = attacks.pgd(
        model,
        guarded.images,
        classes,
        epsilon=0.3 if targeted else 0.2,
        step_size=0.04,
        steps=30,
        targeted=targeted,
        early_stop=True,
        seed=3,
    )
    passes = guarded.score(tf.constant(pgd.images)).numpy() < guarded.threshold
    assert np.sum(pgd.success & passes) < 0.5 * result.success.sum()


def test_a_threshold_out_of_reach_leaves_the_lowest_score(model: keras.Model, guarded: Guarded) -> None:
    never = attack(model, guarded, threshold=UNREACHABLE)
    assert not never.success.any()
    np.testing.assert_array_equal(never.iterations, np.full(40, 20))
    pgd = attacks.pgd(
        model, guarded.images, guarded.labels, epsilon=0.2, step_size=0.04, steps=20, seed=3
    )
    fooled = predicted(model, never.images) != guarded.labels
    assert fooled.mean() > 0.6
    lowest, plain = (
        guarded.score(tf.constant(result.images)).numpy()[fooled] for result in (never, pgd)
    )
    assert (lowest < plain).mean() > 0.95
    # More steps of the same search found it than those up to the first success.
    found = attack(model, guarded)
    np.testing.assert_array_equal(found.success, np.where(fooled, found.success, False))
    some = found.success & fooled
    both = (guarded.score(tf.constant(result.images)).numpy()[some] for result in (never, found))
    assert np.less_equal(*both).all()


def test_a_threshold_that_all_reach_leaves_the_first_that_fools(
    model: keras.Model, guarded: Guarded
) -> None:
    result = attack(model, guarded, threshold=HARMLESS)
    np.testing.assert_array_equal(result.success, predicted(model, result.images) != guarded.labels)
    assert result.success.mean() > 0.5
    wrong = (predicted(model, guarded.images) + 1) % 10
    alone = attack(model, guarded, threshold=HARMLESS, labels=wrong)
    np.testing.assert_array_equal(alone.images, guarded.images)
    np.testing.assert_array_equal(alone.iterations, np.zeros(40))
    np.testing.assert_array_equal(alone.evaluations, np.full(40, 4))
    assert alone.success.all()


def test_restarts_only_help(model: keras.Model, guarded: Guarded) -> None:
    once, thrice = (attack(model, guarded, epsilon=0.15, restarts=restarts) for restarts in (1, 3))
    done = once.success
    assert 0.1 < done.mean() < 0.9
    assert thrice.success[done].all()
    np.testing.assert_array_equal(thrice.images[done], once.images[done])
    np.testing.assert_array_equal(thrice.evaluations[done], once.evaluations[done])
    np.testing.assert_array_equal(once.evaluations, 4 * (once.iterations + 1))
    never = ~thrice.success
    np.testing.assert_array_equal(thrice.iterations[never], 3 * 20)
    np.testing.assert_array_equal(thrice.evaluations[never], 3 * 4 * 21)
    # Of several failures, the one with the lowest score.
    fools = predicted(model, once.images) != guarded.labels
    before, after = (
        guarded.score(tf.constant(result.images)).numpy()[never & fools] for result in (once, thrice)
    )
    assert (after <= before + 1e-3).all()


def test_restarts_find_other_ways() -> None:
    # Of three classes, the way to one may be better than that to the other.
    labels = predicted(LINEAR, IMAGES)
    arguments: dict[str, Any] = {"score": slope, "epsilon": 0.3, "step_size": 0.1, "steps": 30}
    found = [
        adaptive_pgd(
            LINEAR, IMAGES, labels, threshold=UNREACHABLE, restarts=restarts, seed=0, **arguments
        ).images
        for restarts in (1, 8)
    ]
    once, often = (
        np.where(predicted(LINEAR, images) != labels, flat(images) @ SLOPE, np.inf) for images in found
    )
    assert (often <= once + 1e-5).all()
    assert (often < once - 0.02).sum() > 3
    threshold = float(np.quantile(once, 0.3))
    few, more = (
        adaptive_pgd(
            LINEAR, IMAGES, labels, threshold=threshold, restarts=restarts, seed=0, **arguments
        ).success
        for restarts in (1, 8)
    )
    assert more[few].all()
    assert more.sum() > few.sum()


@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_batches_change_nothing(batch_size: int, model: keras.Model, guarded: Guarded) -> None:
    few = guarded._replace(images=guarded.images[:10], labels=guarded.labels[:10])
    arguments: dict[str, Any] = {"steps": 6, "restarts": 2, "threshold": UNREACHABLE}
    whole, parts = (attack(model, few, batch_size=size, **arguments) for size in (None, batch_size))
    np.testing.assert_allclose(parts.images, whole.images, atol=1e-3)
    np.testing.assert_array_equal(parts.evaluations, whole.evaluations)
    assert (whole.images != few.images).any(axis=(1, 2, 3)).sum() > 2


def test_colour_images_and_any_number_of_classes() -> None:
    colour = convolutional((9, 7, 3), filters=6, classes=5, seed=1)
    images = np.random.default_rng(0).random((20, 9, 7, 3), np.float32)
    labels = predicted(colour, images)

    def score(images: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean(images, axis=(1, 2, 3))

    threshold = float(np.mean(images))
    result = adaptive_pgd(
        colour,
        images,
        labels,
        score=score,
        threshold=threshold,
        epsilon=0.2,
        step_size=0.05,
        steps=30,
        seed=0,
    )
    assert result.success.mean() > 0.8
    assert (predicted(colour, result.images) != labels)[result.success].all()
    assert (result.images.mean(axis=(1, 2, 3)) < threshold + 1e-6)[result.success].all()


def test_a_score_at_the_threshold_does_not_pass() -> None:
    def score(images: tf.Tensor) -> tf.Tensor:
        return 1 + 0 * slope(images)

    labels = predicted(TWO, IMAGES)
    arguments: dict[str, Any] = {"epsilon": 0.5, "step_size": 0.5, "steps": 9, "seed": 0}
    above = float(np.nextafter(np.float32(1), np.float32(2)))
    passing = adaptive_pgd(TWO, IMAGES, labels, score=score, threshold=above, **arguments)
    assert passing.success.mean() > 0.5
    result = adaptive_pgd(TWO, IMAGES, labels, score=score, threshold=1, **arguments)
    assert not result.success.any()
    np.testing.assert_array_equal(result.iterations, np.full(60, 9))  # nor does it stop there


@pytest.mark.parametrize("broken", [np.nan, -np.inf])
def test_scores_that_are_not_finite_are_no_success(broken: float) -> None:
    # Finite where the images begin, and nowhere else.
    images = np.full((9, 2, 3, 1), 0.5, np.float32)

    def score(images: tf.Tensor) -> tf.Tensor:
        moved = tf.reduce_any(images != 0.5, axis=(1, 2, 3))
        return tf.where(moved, broken, 1 + slope(images))

    labels = predicted(TWO, images)
    arguments: dict[str, Any] = {"epsilon": 0.5, "step_size": 0.5, "steps": 9, "seed": 0}
    assert attacks.pgd(TWO, images, labels, **arguments).success.all()
    result = adaptive_pgd(TWO, images, labels, score=score, threshold=HARMLESS, **arguments)
    assert not result.success.any()
    np.testing.assert_array_equal(result.images, images)
    np.testing.assert_array_equal(result.iterations, np.full(9, 9))


def test_logits_that_are_not_finite_are_no_success() -> None:
    # Of the first images they are finite, or the model would be refused.
    inputs = keras.Input((2, 3, 1))
    dark = keras.ops.sqrt(0.9 - keras.ops.max(inputs, axis=(1, 2, 3)))[:, None]
    model = keras.Model(inputs, LINEAR(inputs) * dark)
    images = np.repeat([[0.5], [0.95]], [10, 50], axis=0).astype(np.float32)[:, None, None, :]
    images = np.broadcast_to(images, (60, 2, 3, 1))
    result = adaptive_pgd(
        model,
        images,
        np.zeros(60, int),
        score=slope,
        threshold=HARMLESS,
        epsilon=0.02,
        step_size=0.1,
        steps=2,
        seed=0,
    )
    assert not result.success[10:].any()
    np.testing.assert_array_equal(result.images[10:], images[10:])


BAD: list[tuple[dict[str, Any], str]] = [
    *(
        ({"score": score}, message)
        for score, message in (
            (tf.reduce_sum, r"score must return a tensor of shape \(m,\), one per image, got \(\)"),
            (lambda images: slope(images)[:, None], r"score must .* got \(8, 1\)"),
            (lambda images: slope(images)[:1], r"score must .* got \(1,\)"),
            (lambda images: slope(images).numpy(), "score must return a tensor"),
            (lambda images: None, "score must return a tensor"),
            (lambda images: np.nan * slope(images), "score must return finite float32"),
            (lambda images: np.inf + slope(images), "score must return finite float32"),
            (lambda images: tf.cast(slope(images), tf.float64), "score must .* float32, got float64"),
            (lambda images: tf.argmax(LINEAR(images), axis=1), "score must .* float32, got int64"),
            (lambda images: tf.stop_gradient(slope(images)), "score must .* to be differentiated"),
            (lambda images: tf.zeros(len(images)), "score must .* to be differentiated"),
            (lambda images: tf.constant(slope(images).numpy()), "score must .* to be differentiated"),
        )
    ),
    *(
        ({"threshold": bad}, "threshold must be a number")
        for bad in (np.nan, np.inf, -np.inf, "a", None, True, np.full(60, 0.5), 1e300)
    ),
    *(({"score": bad}, "score must be callable and hashable") for bad in (None, 5)),
    *(
        ({name: bad}, message)
        for name in ("epsilon", "step_size")
        for bad, message in (
            (-0.1, f"{name} must lie between 0 and 1, got -0.1"),
            (25, f"{name} must lie between 0 and 1, got 25"),
            (np.nan, f"{name} must lie between 0 and 1"),
            ("0.1", f"{name} must be a number, or 60 numbers, one per image"),
            (True, f"{name} must be a number"),
            (np.full(3, 0.1), f"{name} must be a number, or 60 numbers"),
        )
    ),
    *(
        ({name: bad}, f"{name} must be a whole number of at least {low}")
        for name, low, some in (
            ("steps", 1, (0, 1.5, True, None)),
            ("restarts", 1, (0, -1, 2.5)),
            ("seed", 0, (-1, 1.5, None)),
            ("batch_size", 1, (0, 1.5)),
        )
        for bad in some
    ),
    *(({"targeted": bad}, "targeted must be True or False") for bad in (1, None, "no")),
    ({"labels": np.full(60, 3)}, "labels must lie between 0 and 2, got 3 to 3"),
    ({"labels": np.zeros(59, int)}, r"labels must have shape \(60,\)"),
    ({"images": IMAGES * 3}, r"images must be finite and lie in \[0, 1\]"),
    ({"images": IMAGES.astype(np.float64)}, "images must be float32"),
    ({"images": IMAGES[:, :1]}, r"images must have shape \(n, 2, 3, 1\)"),
    ({"model": lambda images: images}, "model must be a Keras model, got function"),
    (
        {"model": keras.Sequential([keras.Input((2, 3, 1)), LINEAR, keras.layers.Softmax()])},
        "model must return logits, got probabilities",
    ),
]


@pytest.mark.parametrize(("bad", "message"), BAD)
def test_bad_arguments(bad: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {
        "model": LINEAR,
        "images": IMAGES,
        "labels": np.zeros(60, int),
        "score": slope,
        "threshold": 0.0,
        "epsilon": 0.1,
        "step_size": 0.1,
        "steps": 1,
        "seed": 0,
    }
    with pytest.raises(ValueError, match=message):
        adaptive_pgd(**good | bad)


def test_traces_go_with_the_score() -> None:
    model = linear(np.eye(4, 3, dtype=np.float32), np.zeros(3, np.float32), (2, 2, 1))

    class Ink:
        def __call__(self, images: tf.Tensor) -> tf.Tensor:
            return tf.reduce_sum(images, axis=(1, 2, 3))

    images, score = np.full((2, 2, 2, 1), 0.5, np.float32), Ink()
    adaptive_pgd(
        model,
        images,
        np.zeros(2, int),
        score=score,
        threshold=1,
        epsilon=0.1,
        step_size=0.1,
        steps=2,
        seed=0,
    )
    assert score in _traces._COMPILED[model]
    kept = len(_traces._COMPILED[model])
    del score
    gc.collect()
    assert len(_traces._COMPILED[model]) == kept - 1
