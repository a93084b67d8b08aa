"""What holds for every attack: its record, its bounds, its batches, the models it takes."""

import gc
import inspect
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import logsumexp

from advlib import _models, _traces, attacks, data, networks
from tests.models import convolutional
from tests.registry import ATTACKS, EVERY, EXEMPT, takes

TARGETED_ONLY = {name for name in EVERY if takes(name, "targets")}
WITHOUT_GRADIENT = {"one_pixel", "one_pixel, many", "one_pixel_search", "square", "square, l2"}
# Those that may be too weak to fool anything here.
WEAK = {"random_noise", "gaussian_noise", *WITHOUT_GRADIENT}

AT_RANDOM = {name for name in EVERY if name.startswith("auto_pgd")}  # where they begin

every_attack = pytest.mark.parametrize("name", EVERY)


@pytest.fixture(scope="module")
def colour_model() -> keras.Model:
    """A small network of five classes for colour images of 9 × 7."""
    return convolutional((9, 7, 3), filters=6, classes=5, seed=1)


def attack(
    name: str, model: keras.Model, images: np.ndarray, labels: np.ndarray, **more: Any
) -> attacks.AttackResult:
    """The attack on true classes, or on the next class where it needs targets."""
    if name in TARGETED_ONLY:
        labels = (labels + 1) % model(images[:1]).shape[-1]
    return EVERY[name](model, images, labels, **more)


def test_every_public_attack_is_registered() -> None:
    functions = {
        name: each for name in attacks.__all__ if inspect.isfunction(each := getattr(attacks, name))
    }
    returned = {
        name: inspect.get_annotations(each, eval_str=True)["return"] for name, each in functions.items()
    }
    public = {
        name
        for name, kind in returned.items()
        if inspect.isclass(kind) and issubclass(kind, attacks.AttackResult)
    }
    missing = ", ".join(sorted(public - ATTACKS.keys() - EXEMPT.keys()))
    assert not missing, f"tests/registry.py: put {missing} into ATTACKS, or into EXEMPT with the reason"
    assert public == ATTACKS.keys() | EXEMPT.keys()
    assert all(ATTACKS[name].func is functions[name] for name in ATTACKS)


@every_attack
def test_record(name: str, digits: data.Dataset, model: keras.Model) -> None:
    images, labels = digits.test_images[:40], digits.test_labels[:40]
    before = images.copy()
    result = attack(name, model, images, labels)
    np.testing.assert_array_equal(images, before)
    assert result.images.shape == images.shape
    assert result.images.dtype == np.float32
    assert result.images.min() >= 0
    assert result.images.max() <= 1
    assert result.success.dtype == np.bool_
    assert result.iterations.dtype == result.evaluations.dtype == np.int64
    assert result.success.shape == result.iterations.shape == result.evaluations.shape == (40,)
    predictions = networks.predict_logits(model, result.images).argmax(axis=1)
    if name in TARGETED_ONLY:
        np.testing.assert_array_equal(result.success, predictions == (labels + 1) % 10)
    else:
        np.testing.assert_array_equal(result.success, predictions != labels)
    assert result.success.any() or name in WEAK


@pytest.mark.parametrize("name", [name for name in EVERY if name not in TARGETED_ONLY])
def test_targeted_success_means_the_target(name: str, digits: data.Dataset, model: keras.Model) -> None:
    images, targets = digits.test_images[:40], (digits.test_labels[:40] + 3) % 10
    result = EVERY[name](model, images, targets, targeted=True)
    predictions = networks.predict_logits(model, result.images).argmax(axis=1)
    np.testing.assert_array_equal(result.success, predictions == targets)
    if name not in {"fgsm", *WEAK, *WITHOUT_GRADIENT}:
        assert result.success.sum() > 5


@every_attack
def test_same_call_same_bytes(name: str, digits: data.Dataset, model: keras.Model) -> None:
    images, labels = digits.test_images[:10], digits.test_labels[:10]
    first, second = (attack(name, model, images, labels) for _ in range(2))
    for field in ("images", "success", "iterations", "evaluations"):
        np.testing.assert_array_equal(getattr(first, field), getattr(second, field))


# The search takes one image at a time anyway.
@pytest.mark.parametrize("name", [name for name in EVERY if name != "one_pixel_search"])
def test_batches_change_nothing(name: str, digits: data.Dataset, model: keras.Model) -> None:
    images, labels = digits.test_images[:30], digits.test_labels[:30]
    whole = attack(name, model, images, labels)
    for batch_size in (1, 7, 100):
        parts = attack(name, model, images, labels, batch_size=batch_size)
        # Another batch size rounds otherwise, and a gradient close to 0 may change its sign. Where the
        # gradient itself is followed, small differences grow from step to step.
        small = 2e-4 if EVERY[name].keywords.get("norm") == "l2" else 1e-6
        assert np.mean(np.abs(parts.images - whole.images) > small) < 1e-3, batch_size
        np.testing.assert_array_equal(parts.success, whole.success)
        np.testing.assert_array_equal(parts.evaluations, whole.evaluations)


@every_attack
def test_colour_images_and_any_number_of_classes(name: str, colour_model: keras.Model) -> None:
    random = np.random.default_rng(0)
    images = random.random((20, 9, 7, 3), np.float32)
    labels = networks.predict_logits(colour_model, images).argmax(axis=1)
    result = attack(name, colour_model, images, labels)
    assert result.images.shape == images.shape
    assert result.success.any() or name in WEAK
    assert not np.array_equal(result.images, images)


@every_attack
def test_no_change_exceeds_its_bound(name: str, colour_model: keras.Model) -> None:
    images = np.random.default_rng(0).random((20, 9, 7, 3), np.float32)
    labels = networks.predict_logits(colour_model, images).argmax(axis=1)
    epsilons = np.linspace(0, 0.2, 20)
    more = {"epsilon": epsilons} if takes(name, "epsilon") else {}
    changed = attack(name, colour_model, images, labels, **more).images
    change = (changed.astype(np.float64) - images).reshape(20, -1, 3)  # (images, pixels, channels)
    settings = EVERY[name].keywords
    if settings.get("norm") == "l2":
        assert (np.sqrt((change**2).sum(axis=(1, 2))) <= epsilons).all()
    elif more:
        assert (np.abs(change).max(axis=(1, 2)) <= epsilons).all()
    elif "l2" in settings:
        np.testing.assert_allclose(np.sqrt((change**2).sum(axis=(1, 2))), settings["l2"], rtol=1e-6)
    elif "max_fraction" in settings:
        assert ((change != 0).mean(axis=(1, 2)) <= settings["max_fraction"]).all()
    elif name.startswith("one_pixel"):
        assert ((change != 0).any(axis=2).sum(axis=1) <= settings.get("pixels", 1)).all()
    elif name != "carlini_wagner":  # that has no bound
        pytest.fail(f"say here how much {name} may change")


def counting(passes: list[int]) -> keras.Model:
    """A model that notes of each pass, forward or backward, how many images it holds."""

    def note(values: np.ndarray) -> np.ndarray:
        # A batch may be filled up with a copy of its first, which nobody asked for.
        passes.append(len(values) - (len(values) > 1 and np.array_equal(values[0], values[-1])))
        return values

    def through(values: tf.Tensor) -> tf.Tensor:
        # What has no state is computed only where it is used.
        noted = tf.numpy_function(note, [values], values.dtype, stateful=False)
        return tf.ensure_shape(noted, values.shape)

    inputs = keras.Input((9, 7, 3))
    both_ways = tf.custom_gradient(lambda values: (through(values), through))
    flat = keras.layers.Flatten()(keras.layers.Lambda(both_ways)(inputs))
    start = keras.initializers.GlorotUniform(5)
    return keras.Model(inputs, keras.layers.Dense(5, kernel_initializer=start)(flat))


@every_attack
def test_evaluations_are_the_passes_through_the_model(name: str) -> None:
    passes: list[int] = []
    model = counting(passes)
    images = np.random.default_rng(0).random((6, 9, 7, 3), np.float32)
    images[5] = (model.layers[-1].kernel.numpy()[:, 0] > 0).reshape(9, 7, 3)  # hard to turn
    labels = np.argmax(model(images), axis=1)
    labels[:2] = (labels[:2] - 1) % 5  # a success as they are
    if name in TARGETED_ONLY:
        labels = (labels + 1) % 5
    for i in range(6):
        # The first call of an attack traces the model, and asks it once more.
        EVERY[name](model, images[[i]], labels[[i]])
        passes.clear()
        _models.check_logits(model, images[[i]], traced=True)
        _models.confirm(model, images[[i]], np.zeros((1, 5), np.float32), randomized=True, batch_size=1)
        checks = sum(passes)
        passes.clear()
        result = EVERY[name](model, images[[i]], labels[[i]])
        # What has been judged as a candidate, or on the way, is looked at again.
        again = name in WITHOUT_GRADIENT | AT_RANDOM | {"carlini_wagner"}
        assert result.evaluations == sum(passes) - checks - again


@every_attack
def test_logits_that_are_not_finite_are_no_success(name: str) -> None:
    # Of the first images they are finite, or the model would be refused; the last are brighter.
    inputs = keras.Input((3, 3, 1))
    dark = keras.ops.sqrt(0.9 - keras.ops.max(inputs, axis=(1, 2, 3)))[:, None]
    flat = keras.layers.Flatten()(inputs)
    start = keras.initializers.GlorotUniform(1)
    logits = keras.layers.Dense(4, kernel_initializer=start)(flat) * dark
    images = np.full((12, 3, 3, 1), 0.5, np.float32)
    images[10:] = 0.95
    more = {"l2": 0.1} if takes(name, "l2") else {}
    if EVERY[name].keywords.get("norm") == "l2":
        more = {"epsilon": 0.1}
    result = attack(name, keras.Model(inputs, logits), images, np.arange(12) % 4, **more)
    finite = np.isfinite(networks.predict_logits(keras.Model(inputs, logits), result.images))
    assert not finite[10:].all()
    assert not result.success[~finite.all(axis=1)].any()
    assert np.isfinite(result.images).all()


def with_dropout() -> keras.Model:
    """Dropout and batch normalisation act otherwise in training: outputs would be random."""
    inputs = keras.Input((9, 7, 3))
    x = keras.layers.BatchNormalization()(keras.layers.Flatten()(inputs))
    logits = keras.layers.Dense(5, kernel_initializer=keras.initializers.GlorotUniform(3))(
        keras.layers.Dropout(0.9, seed=0)(x)
    )
    return keras.Model(inputs, logits)


def of_any_size(dtype: str = "float32") -> keras.Model:
    """A network for images of any size."""
    inputs = keras.Input((None, None, 3))
    start = keras.initializers.GlorotUniform(4)
    x = keras.layers.Conv2D(5, 3, kernel_initializer=start, dtype=dtype)(inputs)
    return keras.Model(inputs, keras.layers.GlobalMaxPooling2D(dtype=dtype)(x))


class Subclassed(keras.Model):
    """A model without shapes of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = with_dropout()

    def call(self, inputs: Any, training: bool = False) -> Any:
        return self.inner(inputs, training=training)


def rounding() -> keras.Model:
    """A model that no gradient passes."""
    inputs = keras.Input((9, 7, 3))
    flat = keras.layers.Flatten()(keras.layers.Lambda(lambda x: keras.ops.round(x))(inputs))
    return keras.Model(inputs, keras.layers.Dense(5)(flat))


MODELS: dict[str, Callable[[], keras.Model]] = {
    "dropout": with_dropout,
    "any size": of_any_size,
    "float64": lambda: of_any_size("float64"),
    "float16": lambda: of_any_size("mixed_float16"),
    "subclassed": Subclassed,
    "not built": lambda: keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(5)]),
    "rounding": rounding,
}


@every_attack
@pytest.mark.parametrize("kind", MODELS)
def test_any_keras_model(name: str, kind: str) -> None:
    model = MODELS[kind]()
    images = np.random.default_rng(0).random((5, 9, 7, 3), np.float32)
    labels = np.argmax(model(images, training=False), axis=1)
    first, second = (attack(name, model, images, labels) for _ in range(2))
    np.testing.assert_array_equal(first.images, second.images)
    assert (first.images != images).any() == (kind != "rounding" or name in {"pgd", *WEAK, *AT_RANDOM})
    found = np.argmax(model(first.images, training=False), axis=1)
    wanted = found == (labels + 1) % 5 if name in TARGETED_ONLY else found != labels
    np.testing.assert_array_equal(first.success, wanted)


def test_arguments_in_other_forms(digits: data.Dataset, model: keras.Model) -> None:
    images, labels = digits.test_images[:4], digits.test_labels[:4]
    plain = attacks.pgd(model, images, labels, epsilon=1.0, step_size=0.25, steps=2, seed=1)
    numpy: dict[str, Any] = {
        "epsilon": np.array(1),
        "step_size": np.full(4, 0.25, np.float32),
        "steps": np.int64(2),
        "targeted": np.False_,
        "seed": np.int64(1),
        "batch_size": np.int64(4),
    }
    for forms in (labels.astype(np.uint8), labels.tolist()):
        other = attacks.pgd(model, images, forms, **numpy)
        np.testing.assert_array_equal(plain.images, other.images)


def traces(model: keras.Model) -> list[Any]:
    """Everything that was compiled of a model."""
    return [each for functions in _traces._COMPILED[model].values() for each in functions.values()]


def test_a_model_is_traced_once_and_not_kept(digits: data.Dataset) -> None:
    images, labels = digits.test_images[:6], digits.test_labels[:6]
    first, second = networks.classifier.build(seed=1), networks.classifier.build(seed=2)
    results = [attacks.fgsm(m, images, labels, epsilon=0.1).images for m in (first, second, first)]
    assert not np.array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])
    # Weights are read at each call: a network that goes on training may be attacked at any time.
    first.set_weights(second.get_weights())
    again = attacks.fgsm(first, images, labels, epsilon=0.1).images
    np.testing.assert_array_equal(again, results[1])
    # Another kind of the same attack, another size of the batch: no further trace.
    before = traces(first)
    EVERY["iterative_fgsm, early"](first, images, labels, targeted=True)
    for name in ("pgd", "random_noise", "gaussian_noise"):
        ATTACKS[name](first, images, labels)
    assert traces(first) == before
    for name in ATTACKS:
        attack(name, first, images[:1], labels[:1])
    before = traces(first)
    for name in ATTACKS:
        attack(name, first, images[:4], labels[:4])
    assert traces(first) == before
    assert all(function.experimental_get_tracing_count() == 1 for function in before)
    # Neither the model nor what was compiled of it, which holds the weights, outlives it.
    gone = [weakref.ref(first), *(weakref.ref(each) for each in before)]
    del first, before
    gc.collect()
    assert not any(reference() for reference in gone)


TRACED = [name for name in EVERY if takes(name, "trace")]
# They look at the image itself first, and at the result last.
FROM_THE_IMAGE = {
    *("fgsm", "iterative_fgsm", "iterative_fgsm, early", "jsma", "jsma, single", "jsma, lead"),
    *("one_pixel", "one_pixel, many", "square", "square, l2"),
}


def test_every_attack_in_steps_can_be_traced() -> None:
    assert set(EVERY) - set(TRACED) == {"random_noise", "gaussian_noise", "one_pixel_search"}


@pytest.mark.parametrize("name", TRACED)
def test_trace(name: str, digits: data.Dataset, model: keras.Model) -> None:
    images, labels = digits.test_images[:30], digits.test_labels[:30]
    classes = (labels + 1) % 10 if name in TARGETED_ONLY else labels
    plain = attack(name, model, images, labels)
    assert plain.trace is None
    result = attack(name, model, images, labels, trace=True)
    trace = result.trace
    assert trace is not None
    # To ask for it changes nothing.
    np.testing.assert_array_equal(result.images, plain.images)
    np.testing.assert_array_equal(result.evaluations, plain.evaluations)
    assert trace.log_odds.dtype == trace.loss.dtype == np.float32
    assert trace.log_odds.shape == trace.success.shape == trace.loss.shape
    assert np.isfinite(trace.log_odds).all()
    # Success, where one was found, was seen on the way; where none was found, none was.
    if name != "iterative_fgsm":  # it may pass through success, and out of it
        np.testing.assert_array_equal(trace.success.any(axis=1), result.success)
    np.testing.assert_allclose(trace.loss, np.logaddexp(0, trace.log_odds), rtol=1e-6)

    def log_odds(x: np.ndarray) -> np.ndarray:
        logits = networks.predict_logits(model, x).astype(np.float64)
        own = np.arange(10) == classes[:, None]
        return logsumexp(logits, axis=1, b=~own) - logits[own]

    if name in FROM_THE_IMAGE:
        np.testing.assert_allclose(trace.log_odds[:, 0], log_odds(images), rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(trace.log_odds[:, -1], log_odds(result.images), rtol=1e-3, atol=1e-3)
        np.testing.assert_array_equal(trace.success[:, -1], result.success)
    # An image that leaves early keeps its last look.
    looks = trace.log_odds.shape[1]
    parts = attack(name, model, images, labels, trace=True, batch_size=7).trace
    assert parts is not None
    assert parts.log_odds.shape == (30, looks)
    assert np.mean(np.abs(parts.log_odds - trace.log_odds) > 1e-2) < 0.02


def test_length_of_a_trace(digits: data.Dataset, model: keras.Model) -> None:
    images, labels = digits.test_images[:5], digits.test_labels[:5]

    def looks(result: attacks.AttackResult) -> int:
        assert result.trace is not None
        return result.trace.log_odds.shape[1]

    more: dict[str, Any] = {"trace": True, "epsilon": 0.05}
    assert looks(attacks.fgsm(model, images, labels, **more)) == 2
    pgd = attacks.pgd(model, images, labels, step_size=0.01, steps=4, restarts=3, seed=0, **more)
    assert looks(pgd) == 3 * 5
    auto = attacks.auto_pgd(model, images, labels, steps=4, restarts=3, seed=0, **more)
    assert looks(auto) == 3 * 5
    assert looks(attacks.square(model, images, labels, queries=9, seed=0, **more)) == 9
    found = attacks.carlini_wagner(model, images, labels, steps=4, searches=3, trace=True)
    assert looks(found) == 12
    assert looks(attacks.jsma(model, images, (labels + 1) % 10, max_fraction=8 / 784, trace=True)) == 5


def test_a_trace_of_no_gradient_stays_where_it_is(digits: data.Dataset, model: keras.Model) -> None:
    """And one of a targeted attack falls."""
    images, labels = digits.test_images[:20], digits.test_labels[:20]
    still = attacks.pgd(
        model, images, labels, epsilon=0.0, step_size=0.1, steps=5, seed=0, trace=True
    ).trace
    assert still is not None
    np.testing.assert_allclose(still.log_odds, still.log_odds[:, :1] * np.ones(6), rtol=1e-4)
    settings: dict[str, Any] = {"epsilon": 0.1, "step_size": 0.02, "steps": 10, "trace": True}
    rising = attacks.iterative_fgsm(model, images, labels, **settings).trace
    falling = attacks.iterative_fgsm(model, images, (labels + 1) % 10, targeted=True, **settings).trace
    assert rising is not None
    assert falling is not None
    assert (rising.log_odds[:, -1] > rising.log_odds[:, 0]).all()
    assert (falling.log_odds[:, -1] < falling.log_odds[:, 0]).all()


def test_records_with_traces_are_joined(digits: data.Dataset, model: keras.Model) -> None:
    images, labels = digits.test_images[:6], digits.test_labels[:6]
    fgsm = partial(attacks.fgsm, model, epsilon=0.1)
    whole = fgsm(images, labels, trace=True)
    joined = attacks.concatenate(
        [fgsm(images[part], labels[part], trace=True) for part in (slice(2), slice(2, 6))]
    )
    assert joined.trace is not None
    assert whole.trace is not None
    np.testing.assert_allclose(joined.trace.log_odds, whole.trace.log_odds, rtol=1e-4)
    np.testing.assert_array_equal(joined.trace.success, whole.trace.success)
    with pytest.raises(ValueError, match="traces of one length, got \\[0, 2\\] looks"):
        attacks.concatenate([whole, fgsm(images, labels)])


def test_bad_trace(digits: data.Dataset, model: keras.Model) -> None:
    for name in TRACED:
        with pytest.raises(ValueError, match="trace must be True or False, got 1"):
            attack(name, model, digits.test_images[:2], digits.test_labels[:2], trace=1)
