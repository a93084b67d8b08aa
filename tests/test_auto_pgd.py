"""Auto-PGD: by hand on a linear model, against the optimum, its losses, its checkpoints, bad input."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp, softmax

from advlib import attacks, networks
from advlib.attacks import _seeds, auto, auto_pgd
from tests.models import linear, without_gradient_at_0

RANDOM = np.random.default_rng(8)
WEIGHTS = RANDOM.normal(size=(12, 5)).astype(np.float32)
BIAS = RANDOM.normal(size=5).astype(np.float32)
LINEAR = linear(WEIGHTS, BIAS, (3, 4, 1))
TWO = linear(WEIGHTS[:, :2], BIAS[:2], (3, 4, 1))
IMAGES = RANDOM.random((40, 3, 4, 1), np.float32)


def wavy() -> keras.Model:
    """Logits sin(2 x)·W + b: within the ball the loss rises and falls."""
    inputs = keras.Input((3, 4, 1))
    layer = keras.layers.Dense(5)
    waves = keras.layers.Lambda(lambda x: keras.ops.sin(2 * x))(keras.layers.Flatten()(inputs))
    model = keras.Model(inputs, layer(waves))
    layer.set_weights([WEIGHTS, BIAS])
    return model


WAVY = wavy()
LABELS = (IMAGES.reshape(40, -1) @ WEIGHTS + BIAS).argmax(axis=1)


def flat(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1).astype(np.float64)


def loss_by_hand(
    logits: np.ndarray, label: int, aim: int, *, loss: str, aimed: bool
) -> tuple[float, np.ndarray]:
    """The formulas of the docstring for one image, and their derivatives by the logits."""
    others = np.delete(np.arange(len(logits)), label)
    order = np.argsort(-logits)
    slope = np.zeros(len(logits))
    if loss == "ce":
        slope[others], slope[label] = softmax(logits[others]), -1
        return logsumexp(logits[others]) - logits[label], slope
    up = aim if aimed else others[logits[others].argmax()]
    scale = np.zeros(len(logits))
    scale[order[0]] = 1
    scale[order[[2, 3]] if aimed else order[2]] -= 0.5 if aimed else 1
    top, bottom = logits[up] - logits[label], scale @ logits
    slope[up] += 1
    slope[label] -= 1
    return top / bottom, slope / bottom - top / bottom**2 * scale


def path_by_hand(
    image: np.ndarray,
    label: int,
    start: np.ndarray,
    *,
    aim: int,
    epsilon: float,
    steps: int,
    **kind: Any,
) -> np.ndarray:
    """The point of the highest loss of a run on one image, in float64: the paper's algorithm."""
    norm = kind.pop("norm")
    weights, bias = WEIGHTS.astype(np.float64), BIAS.astype(np.float64)

    def project(x: np.ndarray) -> np.ndarray:
        change = x - image
        if norm == "l2":
            change *= epsilon / max(float(np.linalg.norm(change)), epsilon)
        else:
            change = np.clip(change, -epsilon, epsilon)
        return np.clip(image + change, 0, 1)

    def look(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = loss_by_hand(np.sin(2 * x) @ weights + bias, label, aim, **kind)
        return value, 2 * np.cos(2 * x) * (weights @ slope)

    at = list(np.flatnonzero(auto.checkpoints(steps)))
    x = previous = start
    size, best, losses, best_losses, halved = 2 * epsilon, start, [], [], [True]
    reference, last = -np.inf, 0
    for step in range(steps + 1):
        value, gradient = look(x)
        losses.append(value)
        if value > max(losses[:-1], default=-np.inf):
            best = x
        best_losses.append(max(losses))
        if step in at:
            rises = sum(losses[k] > losses[k - 1] for k in range(last + 1, step + 1))
            halve = rises <= 0.75 * (step - last) or (not halved[-1] and max(losses) <= reference)
            halved.append(bool(halve))
            reference, last = max(losses), step
            if halve:
                size /= 2
                x, (_, gradient) = best, look(best)
        direction = np.sign(gradient)
        if norm == "l2":
            direction = gradient / max(float(np.linalg.norm(gradient)), 1e-30)
        change = project(x + size * direction) - x
        weight = 1 if step == 0 else 0.75
        x, previous = project(x + weight * change + (1 - weight) * (x - previous)), x
    return best


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize(("loss", "aimed"), [("ce", False), ("dlr", False), ("dlr", True)])
def test_a_run_is_the_paper_s(norm: str, loss: str, aimed: bool) -> None:
    epsilon, steps = (0.2, 12) if norm == "linf" else (0.4, 12)
    kind: dict[str, Any] = {"norm": norm, "loss": loss, "aims": int(aimed)}
    labels = networks.predict_logits(WAVY, IMAGES).argmax(axis=1)
    result = auto_pgd(WAVY, IMAGES, labels, epsilon=epsilon, steps=steps, seed=4, **kind)
    # The point of the highest loss, be it a success or not: of the successes it is the one that is kept.
    apart = []
    noise = 2 * _seeds.uniform(_seeds.keys(IMAGES, labels, 4), tf.constant(0), (3, 4, 1)).numpy() - 1
    for i in range(40):
        image, shift = flat(IMAGES[[i]])[0], flat(noise[[i]])[0]
        if norm == "l2":
            shift = tf.math.erfinv(0.999999 * shift).numpy()
            shift /= np.linalg.norm(shift)
        logits = np.sin(2 * image) @ WEIGHTS + BIAS
        best = path_by_hand(
            image,
            labels[i],
            np.clip(image + epsilon * shift, 0, 1),
            aim=int(np.argsort(-np.where(np.arange(5) == labels[i], -np.inf, logits))[0]),
            epsilon=epsilon,
            steps=steps,
            norm=norm,
            loss=loss,
            aimed=aimed,
        )
        apart.append(np.abs(flat(result.images[[i]])[0] - best).max())
    # Where a gradient is close to 0, or the ratio has a kink, rounding errors decide what follows.
    assert np.mean(np.array(apart) < 3e-4) > 0.7, apart
    assert np.median(apart) < (1e-4 if norm == "l2" else 1e-6)


def test_in_l_inf_it_finds_the_exact_optimum_of_two_classes() -> None:
    labels = networks.predict_logits(TWO, IMAGES).argmax(axis=1)
    result = auto_pgd(TWO, IMAGES, labels, epsilon=0.1, steps=20, seed=0)
    slope = (WEIGHTS[:, 1] - WEIGHTS[:, 0]).reshape(3, 4, 1) * np.where(labels == 0, 1, -1)[
        :, None, None, None
    ]
    best = np.clip(IMAGES.astype(np.float64) + 0.1 * np.sign(slope), 0, 1)
    np.testing.assert_allclose(result.images, best, atol=1e-7)


def test_in_l2_it_finds_the_exact_optimum_of_two_classes() -> None:
    grey = np.full((4, 3, 4, 1), 0.5, np.float32)
    labels = np.array([0, 1, 0, 1])
    result = auto_pgd(TWO, grey, labels, epsilon=0.2, norm="l2", steps=60, seed=0)
    slope = (WEIGHTS[:, 1] - WEIGHTS[:, 0]).reshape(3, 4, 1) * np.where(labels == 0, 1, -1)[
        :, None, None, None
    ]
    best = 0.5 + 0.2 * slope / np.linalg.norm(slope.reshape(4, -1), axis=1)[:, None, None, None]
    np.testing.assert_allclose(result.images, best, atol=1e-4)


def test_checkpoints_are_the_paper_s() -> None:
    at = np.flatnonzero(auto.checkpoints(100))
    np.testing.assert_array_equal(at, [22, 41, 57, 70, 80, 87, 93, 99])
    assert auto.checkpoints(100)[41] == 19
    for steps in (1, 2, 5, 10):
        lengths = auto.checkpoints(steps)
        assert lengths.shape == (steps + 1,)
        assert lengths.sum() <= steps


@pytest.mark.parametrize("loss", ["ce", "dlr"])
def test_the_scale_of_the_logits_hides_nothing(loss: Any) -> None:
    # The plain cross-entropy has the gradient 0 here, because the probability of the class rounds to 1.
    loud = linear(1e4 * WEIGHTS, 1e4 * BIAS, (3, 4, 1))
    both = [
        auto_pgd(model, IMAGES, LABELS, epsilon=0.1, loss=loss, steps=20, seed=1)
        for model in (LINEAR, loud)
    ]
    assert 0.2 < both[0].success.mean() < 1
    assert (both[0].success == both[1].success).mean() > 0.95


def test_an_early_stop_gives_the_same_success_for_less() -> None:
    settings: dict[str, Any] = {"epsilon": 0.1, "steps": 20, "seed": 1}
    whole, early = (
        auto_pgd(LINEAR, IMAGES, LABELS, early_stop=each, **settings) for each in (False, True)
    )
    np.testing.assert_array_equal(whole.success, early.success)
    assert (whole.evaluations == 42).all()
    assert (early.iterations[~early.success] == 20).all()
    assert early.iterations[early.success].mean() < 10
    np.testing.assert_array_equal(early.evaluations, 2 * (early.iterations + 1))


def test_without_an_early_stop_the_success_of_the_highest_loss_is_kept() -> None:
    result = auto_pgd(LINEAR, IMAGES, LABELS, epsilon=0.3, steps=30, seed=1)
    early = auto_pgd(LINEAR, IMAGES, LABELS, epsilon=0.3, steps=30, seed=1, early_stop=True)

    def odds(images: np.ndarray) -> np.ndarray:
        logits = flat(images) @ WEIGHTS + BIAS
        own = np.arange(5) == LABELS[:, None]
        return logsumexp(np.where(own, -np.inf, logits), axis=1) - logits[own]

    both = result.success & early.success
    assert both.sum() > 20
    assert (odds(result.images)[both] >= odds(early.images)[both] - 1e-5).all()
    assert np.mean(odds(result.images)[both] - odds(early.images)[both]) > 0.3


def test_restarts_and_aims_go_to_those_that_still_stand() -> None:
    one, more = (
        auto_pgd(LINEAR, IMAGES, LABELS, epsilon=0.1, steps=5, loss="dlr", seed=1, aims=aims)
        for aims in (1, 4)
    )
    assert more.success[one.success].all()
    np.testing.assert_array_equal(more.images[one.success], one.images[one.success])
    assert (one.evaluations == 13).all()
    assert (more.evaluations[~more.success] == 1 + 4 * 12).all()
    again = auto_pgd(LINEAR, IMAGES, LABELS, epsilon=0.1, steps=5, restarts=3, seed=1)
    assert (again.evaluations[~again.success] == 3 * 12).all()
    assert (again.evaluations[again.success] % 12 == 0).all()


def test_an_image_does_not_depend_on_the_others() -> None:
    order = RANDOM.permutation(40)[:25]
    settings: dict[str, Any] = {"epsilon": 0.1, "steps": 10, "seed": 1, "restarts": 2}
    whole = auto_pgd(LINEAR, IMAGES, LABELS, **settings)
    some = auto_pgd(LINEAR, IMAGES[order], LABELS[order], **settings)
    np.testing.assert_allclose(some.images, whole.images[order], atol=1e-6)
    np.testing.assert_array_equal(some.evaluations, whole.evaluations[order])


@settings(max_examples=25, deadline=None)
@given(
    epsilon=st.floats(0, 1, allow_subnormal=False),
    norm=st.sampled_from(["linf", "l2"]),
    targeted=st.booleans(),
    seed=st.integers(0, 99),
)
def test_bounds_hold_to_the_last_bit(epsilon: float, norm: str, targeted: bool, seed: int) -> None:
    kind: dict[str, Any] = {"norm": norm, "targeted": targeted}
    result = auto_pgd(LINEAR, IMAGES, LABELS, epsilon=epsilon, steps=4, seed=seed, **kind)
    change = flat(result.images) - flat(IMAGES)
    size = np.abs(change).max(axis=1) if norm == "linf" else np.sqrt((change**2).sum(axis=1))
    assert (size <= epsilon).all()
    assert result.images.min() >= 0
    assert result.images.max() <= 1
    if epsilon == 0:
        np.testing.assert_array_equal(result.images, IMAGES)


def test_a_gradient_that_is_no_number_is_none() -> None:
    inputs = keras.Input((3, 4, 1))
    flat = keras.layers.Flatten()(keras.layers.Lambda(without_gradient_at_0)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(5, kernel_initializer="glorot_uniform")(flat))
    images = IMAGES.copy()
    images[:, 0] = 0
    for norm in ("linf", "l2"):
        result = auto_pgd(model, images, LABELS, epsilon=0.1, norm=norm, steps=5, seed=0)
        assert np.isfinite(result.images).all()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"norm": "l1"}, "norm must be one of linf, l2, got 'l1'"),
        ({"loss": "margin"}, "loss must be one of ce, dlr, got 'margin'"),
        ({"epsilon": -0.1}, "epsilon must"),
        ({"epsilon": 1.5}, "epsilon must"),
        ({"steps": 0}, "steps must"),
        ({"restarts": 0}, "restarts must"),
        ({"seed": -1}, "seed must"),
        ({"early_stop": 1.0}, "early_stop must"),
        ({"aims": 2}, "aims must be 0 unless the loss"),
        ({"aims": 2, "loss": "dlr", "targeted": True}, "aims must be 0 unless the loss"),
        ({"aims": 5, "loss": "dlr"}, "aims must be at most 4"),
        ({"aims": -1}, "aims must"),
    ],
)
def test_bad_input_is_named(more: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        auto_pgd(LINEAR, IMAGES, LABELS, **{"epsilon": 0.1, "seed": 0, **more})


def test_the_ratio_needs_enough_classes() -> None:
    labels = np.zeros(40, int)
    with pytest.raises(ValueError, match='loss must be "ce" for 2 classes'):
        auto_pgd(TWO, IMAGES, labels, epsilon=0.1, loss="dlr", seed=0)
    three = linear(WEIGHTS[:, :3], BIAS[:3], (3, 4, 1))
    auto_pgd(three, IMAGES, labels, epsilon=0.1, loss="dlr", steps=2, seed=0)
    with pytest.raises(ValueError, match='loss must be "ce" for 3 classes: "dlr" compares 4'):
        auto_pgd(three, IMAGES, labels, epsilon=0.1, loss="dlr", aims=1, seed=0)


def test_it_is_stronger_than_pgd(digits: Any, model: keras.Model) -> None:
    images, labels = digits.test_images[:200], digits.test_labels[:200]
    walk: dict[str, Any] = {"epsilon": 0.1, "steps": 20, "seed": 0}
    plain = attacks.pgd(model, images, labels, step_size=0.0125, **walk).success
    auto = auto_pgd(model, images, labels, **walk).success
    assert auto.sum() >= plain.sum()


def test_the_point_that_is_given_is_the_best_of_the_trace() -> None:
    labels = LABELS.copy()
    result = auto_pgd(WAVY, IMAGES, labels, epsilon=0.05, steps=30, seed=0, trace=True)
    assert result.trace is not None
    logits = networks.predict_logits(WAVY, result.images).astype(np.float64)
    own = np.arange(5) == labels[:, None]
    odds = logsumexp(logits, axis=1, b=~own) - logits[own]
    seen = np.where(result.success[:, None] & ~result.trace.success, -np.inf, result.trace.log_odds)
    assert 0 < result.success.sum() < 40
    np.testing.assert_allclose(odds, seen.max(axis=1), atol=1e-4)
    assert (odds > result.trace.log_odds[:, 0] - 1e-4).all()
