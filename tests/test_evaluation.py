"""The suite: exact on linear models, the union of its attacks, its flags, its file, bad input."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import keras
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from advlib import _flags, attacks, data, evaluation, networks
from advlib.evaluation import suite
from tests.models import linear

QUICK: dict[str, Any] = {"steps": 10, "aims": 2, "queries": 60, "seed": 1}
EPSILON = 0.08


class Masked(keras.Model):
    """A network behind a step, which need not be differentiable."""

    def __init__(self, network: keras.Model, step: Callable[[tf.Tensor], tf.Tensor]) -> None:
        super().__init__()
        self.network, self.step = network, step

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        return self.network(self.step(images), training=training)


@tf.custom_gradient  # type: ignore[untyped-decorator]
def downhill(x: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    """The image itself, with a gradient that points the other way."""
    return tf.identity(x), lambda upstream: -upstream


@tf.custom_gradient  # type: ignore[untyped-decorator]
def right_on_levels(x: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    """The gradient is right on whole levels of 100, and points the other way between them."""
    on_level = tf.abs(x * 100 - tf.round(x * 100)) < 1e-3
    return tf.identity(x), lambda upstream: tf.where(on_level, upstream, -upstream)


def on_levels(dataset: data.Dataset, count: int) -> tuple[np.ndarray, np.ndarray]:
    images = (np.round(dataset.test_images[:count] * 100) / 100).astype(np.float32)
    return images, dataset.test_labels[:count]


@pytest.fixture(scope="module")
def sample(digits: data.Dataset) -> tuple[np.ndarray, np.ndarray]:
    return on_levels(digits, 40)


@pytest.fixture(scope="module")
def plain(sample: tuple[np.ndarray, np.ndarray], model: keras.Model) -> evaluation.Evaluation:
    """The network without a mask."""
    return suite(model, *sample, epsilon=EPSILON, surrogate=model, **QUICK)


def raised(result: evaluation.Evaluation) -> set[str]:
    return {flag.name for flag in result.flags}


# --- exact -----------------------------------------------------------------------------------------

RANDOM = np.random.default_rng(4)
WEIGHTS = RANDOM.normal(size=(12, 5)).astype(np.float32)
BIAS = RANDOM.normal(size=5).astype(np.float32)
LINEAR = linear(WEIGHTS, BIAS, (3, 4, 1))
POINTS = RANDOM.uniform(0.3, 0.7, size=(60, 3, 4, 1)).astype(np.float32)
CLASSES = (POINTS.reshape(60, -1) @ WEIGHTS + BIAS).argmax(axis=1)


@pytest.mark.parametrize(("norm", "epsilon", "dual"), [("linf", 0.02, 1), ("l2", 0.08, 2)])
def test_on_a_linear_model_the_worst_case_is_exact(norm: Any, epsilon: float, dual: int) -> None:
    logits = (POINTS.reshape(60, -1) @ WEIGHTS + BIAS).astype(np.float64)
    lead = logits - logits[np.arange(60), CLASSES, None]
    reach = np.stack(
        [epsilon * np.linalg.norm(WEIGHTS - WEIGHTS[:, [label]], ord=dual, axis=0) for label in CLASSES]
    )
    worst = np.where(np.arange(5) == CLASSES[:, None], -np.inf, lead + reach).max(axis=1)
    result = suite(
        LINEAR, POINTS, CLASSES, epsilon=epsilon, norm=norm, steps=40, aims=4, queries=9, seed=0
    )
    clear = np.abs(worst) > 0.02
    assert 0.2 < np.mean(worst > 0) < 0.8
    assert clear.mean() > 0.8
    np.testing.assert_array_equal(result.robust[clear], worst[clear] < 0)
    assert not result.flags
    assert result.accuracy.successes == result.robust.sum()


# --- the union -------------------------------------------------------------------------------------


def test_the_suite_is_the_union_of_its_attacks(
    sample: tuple[np.ndarray, np.ndarray], model: keras.Model
) -> None:
    images, labels = sample
    result = suite(model, images, labels, epsilon=EPSILON, diagnosed=3, **QUICK)
    auto = partial(attacks.auto_pgd, model, epsilon=EPSILON, steps=10, seed=1, early_stop=True)
    one = attacks.fgsm(model, images, labels, epsilon=EPSILON)
    each = {
        "one step": one,
        "auto_pgd, log-odds": auto(images, labels),
        "auto_pgd, aimed": auto(images, labels, loss="dlr", aims=2),
        "square": attacks.square(model, images, labels, epsilon=EPSILON, queries=60, seed=1),
    }
    right = networks.predict_logits(model, images).argmax(axis=1) == labels
    broken = np.any([attack.success for attack in each.values()], axis=0)
    np.testing.assert_array_equal(result.robust, right & ~broken)
    assert 0 < result.robust.sum() < 40
    # The first attack that succeeds leaves its image.
    order = list(each.values())
    for place in np.flatnonzero(right & broken):
        first = next(attack for attack in order if attack.success[place])
        np.testing.assert_allclose(result.images[place], first.images[place], atol=1e-6)
    predictions = networks.predict_logits(model, result.images).argmax(axis=1)
    np.testing.assert_array_equal(predictions == labels, result.robust)
    assert np.abs(result.images - images).max() <= EPSILON + 1e-7
    # Of those that stand, the attempt that came nearest: none is nearer.
    standing = np.flatnonzero(result.robust)

    def odds(x: np.ndarray) -> np.ndarray:
        logits = networks.predict_logits(model, x[standing]).astype(np.float64)
        own = np.arange(10) == labels[standing][:, None]
        return np.log(np.exp(np.where(own, -np.inf, logits)).sum(axis=1)) - logits[own]

    nearest = np.max([odds(attack.images) for attack in order], axis=0)
    np.testing.assert_allclose(odds(result.images), nearest, atol=1e-2)

    table = result.table.set_index("attack")
    assert list(table.index) == ["none", *each]
    assert table.loc["none", "found"] == (~right).sum()
    assert table.loc["one step", "found"] == (right & one.success).sum()
    assert table["found"].sum() == (~result.robust).sum()
    np.testing.assert_allclose(table["robust"], 1 - table["found"].cumsum() / 40)
    assert table["robust"].iloc[-1] == result.accuracy.value
    assert (table["low"] <= table["robust"]).all()
    assert (table["robust"] <= table["high"]).all()
    assert (table["seconds"] >= 0).all()
    assert table.loc["one step", "evaluations"] == 3
    # By itself, on the three diagnosed: the first that are read correctly.
    some = np.flatnonzero(right)[:3]
    hits = np.array([attack.success[some] for attack in order])
    np.testing.assert_allclose(table["success"].iloc[1:], hits.mean(axis=1))
    np.testing.assert_array_equal(table["only"].iloc[1:], (hits & (hits.sum(axis=0) == 1)).sum(axis=1))
    assert str(result).count("\n") >= 6


def test_split_and_order_change_no_verdict(
    sample: tuple[np.ndarray, np.ndarray], model: keras.Model
) -> None:
    images, labels = sample
    whole = suite(model, images, labels, epsilon=EPSILON, **QUICK)
    order = np.random.default_rng(0).permutation(40)
    parts = [
        suite(model, images[some], labels[some], epsilon=EPSILON, diagnosed=5, **QUICK)
        for some in np.split(order, [15])
    ]
    np.testing.assert_array_equal(np.concatenate([part.robust for part in parts]), whole.robust[order])
    found = np.concatenate([part.images for part in parts])
    assert np.mean(np.abs(found - whole.images[order]) > 1e-6) < 1e-2
    small = suite(model, images, labels, epsilon=EPSILON, batch_size=7, **QUICK)
    np.testing.assert_array_equal(small.robust, whole.robust)


def test_misread_images_stay_as_they_are(
    sample: tuple[np.ndarray, np.ndarray], model: keras.Model
) -> None:
    """And where nothing is left, no attack has anything to do."""
    images, _ = sample
    wrong = (networks.predict_logits(model, images).argmax(axis=1) + 1) % 10
    result = suite(model, images, wrong, epsilon=EPSILON, surrogate=model, **QUICK)
    assert not result.robust.any()
    assert result.accuracy.value == 0
    np.testing.assert_array_equal(result.images, images)
    assert result.table["tried"].tolist() == [40, 0, 0, 0, 0, 0]
    assert not result.flags
    assert result.table["success"].isna().all()


def test_epsilon_0_breaks_nothing(sample: tuple[np.ndarray, np.ndarray], model: keras.Model) -> None:
    images, labels = sample
    result = suite(model, images, labels, epsilon=0.0, **QUICK)
    right = networks.predict_logits(model, images).argmax(axis=1) == labels
    np.testing.assert_array_equal(result.robust, right)
    np.testing.assert_array_equal(result.images, images)
    assert not result.flags


def test_the_table_is_plain_numbers_to_plot_and_to_save(
    plain: evaluation.Evaluation, tmp_path: Path
) -> None:
    assert all(dtype.kind in "if" for dtype in plain.table.drop(columns="attack").dtypes)
    axes = plain.table.plot.bar(x="attack", y="robust")
    drawn = [bar.get_height() for bar in axes.patches]  # type: ignore[attr-defined]
    np.testing.assert_allclose(drawn, plain.table["robust"])
    plt.close("all")
    plain.table.to_csv(tmp_path / "robustness.csv", index=False)
    again = pd.read_csv(tmp_path / "robustness.csv")
    pd.testing.assert_frame_equal(again, plain.table)


def test_summary(plain: evaluation.Evaluation, sample: tuple[np.ndarray, np.ndarray]) -> None:
    table = evaluation.summary({"plain": plain, "again": plain})
    assert list(table.index) == ["plain", "again"]
    row = table.loc["plain"]
    assert (row["bound"], row["flags"]) == ("L∞ ≤ 0.08", 0)
    assert row["worst case"] == plain.accuracy
    shares = plain.table.set_index("attack")["robust"]
    assert row["no attack"].value == shares["none"]
    assert row["one step"].value == shares["one step"]
    assert row["no attack"].total == 40
    with pytest.raises(ValueError, match="evaluations must hold at least one"):
        evaluation.summary({})


# --- flags -----------------------------------------------------------------------------------------


def test_no_flag_on_the_plain_network(
    plain: evaluation.Evaluation, sample: tuple[np.ndarray, np.ndarray], model: keras.Model
) -> None:
    in_l2 = suite(model, *sample, epsilon=1.0, norm="l2", surrogate=model, **QUICK)
    for result in (plain, in_l2):
        assert not result.flags
        assert 0 < result.accuracy.value < 0.9
        assert "no flags" in str(result)


def scaled(model: keras.Model, factor: float) -> keras.Model:
    return keras.Model(model.input, keras.layers.Rescaling(factor)(model.output))


def softened(model: keras.Model) -> keras.Model:
    return keras.Model(model.input, keras.layers.Softmax()(scaled(model, 10).output))


MASKS: dict[str, tuple[Callable[[keras.Model], keras.Model], set[str]]] = {
    "logits × 1,000": (partial(scaled, factor=1000.0), {"saturated loss"}),
    "softmax": (softened, {"probabilities", "saturated loss"}),
    "levels": (
        lambda model: Masked(model, lambda x: tf.round(7 * x) / 7),
        {
            *("zero gradients", "loss not raised"),
            *("black box beats white box", "transfer beats white box"),
        },
    ),
    "noise": (
        lambda model: Masked(model, lambda x: x + tf.random.normal(tf.shape(x), stddev=0.1)),
        {"randomness"},
    ),
    "downhill": (
        lambda model: Masked(model, downhill),
        {"loss not raised", "transfer beats white box"},
    ),
    "right on levels": (
        lambda model: Masked(model, right_on_levels),
        {"one step beats many"},
    ),
}


@pytest.mark.parametrize("mask", MASKS)
def test_each_mask_raises_its_flags(
    mask: str,
    sample: tuple[np.ndarray, np.ndarray],
    model: keras.Model,
    plain: evaluation.Evaluation,
) -> None:
    build, expected = MASKS[mask]
    settings = QUICK | {"queries": 200} if "black box beats white box" in expected else QUICK
    result = suite(build(model), *sample, epsilon=EPSILON, surrogate=model, **settings)
    assert expected <= raised(result), [str(flag) for flag in result.flags]
    # A gradient is 0 for one reason or for the other.
    assert not {"saturated loss", "zero gradients"} <= raised(result)
    for flag in result.flags:
        assert flag.remedy
        assert any(sign.isdigit() for sign in flag.number)
    # The mask hides the way; it does not help: what the plain network loses, it loses.
    if mask != "noise":
        assert result.accuracy.value <= plain.accuracy.value + 0.1


@pytest.mark.parametrize(
    ("epsilon", "name"), [(0.1, "success falls with ε"), (0.15, "success falls with steps")]
)
def test_success_may_fall(epsilon: float, name: str) -> None:
    """One pixel near 0.5 that is read wrongly between 0.59 and 0.61, past which the gradient is 0.

    Steps of an eighth of 0.1 stay at 0.6, where the ball ends; those of twice the size leave by the
    sixth step. Those of an eighth of 0.15 are there after five steps, and leave with the sixth.
    """

    def ring(x: tf.Tensor) -> tf.Tensor:
        return tf.where(x < 0.61, x, 0.5)

    base = linear(np.array([[0, 1]], np.float32), np.array([0, -0.59], np.float32), (1, 1, 1))
    start = 0.5 + np.linspace(0.001, 0.002, 20, dtype=np.float32)
    result = suite(
        Masked(base, ring), start[:, None, None, None], np.zeros(20, int), epsilon=epsilon, **QUICK
    )
    assert name in raised(result), [str(flag) for flag in result.flags]


def test_what_beats_what() -> None:
    many, few = np.arange(20) < 10, np.arange(20) < 2
    assert _flags.beats(("a", few), ("b", many)) == ""
    assert _flags.beats(("a", many), ("b", many)) == ""
    # Eight against none: p = 1/256 that it is no better. Of 12 that are left at most one in twenty: 5
    # are too many, with p = 0.0002; 2 are not, with p = 0.12.
    found = _flags.beats(("a", np.arange(200) < 8), ("b", np.arange(200) < 0))
    assert found == "a breaks 8 of 200 images, b 0, and of the 200 that b leaves, a breaks 8 (p = 0.004)"
    assert _flags.beats(("a", np.arange(200) < 6), ("b", np.arange(200) < 0)) == ""
    found = _flags.beats(("a", np.arange(20) >= 15), ("b", np.arange(20) < 8))
    assert found == "a breaks 5 of 20 images, b 8, and of the 12 that b leaves, a breaks 5 (p = 0.0002)"
    assert _flags.beats(("a", np.arange(20) >= 18), ("b", np.arange(20) < 8)) == ""


# --- models of other kinds -------------------------------------------------------------------------


def test_a_model_of_probabilities_is_attacked_through_its_logits(
    sample: tuple[np.ndarray, np.ndarray], model: keras.Model, plain: evaluation.Evaluation
) -> None:
    *_, last = model.layers
    dense = keras.layers.Dense(10, activation="softmax")
    with_activation = keras.Model(model.input, dense(last.input))
    dense.set_weights(last.get_weights())
    kinds = {
        "layer": keras.Model(model.input, keras.layers.Softmax()(model.output)),
        "activation": keras.Model(model.input, keras.layers.Activation("softmax")(model.output)),
        "operation": keras.Model(model.input, keras.ops.softmax(model.output)),
        "of the last layer": with_activation,
        "sequential": keras.Sequential([keras.Input((28, 28, 1)), model, keras.layers.Softmax()]),
        "nested": keras.Sequential([keras.Input((28, 28, 1)), with_activation]),
    }
    images = sample[0]
    for name, kind in kinds.items():
        logits = networks.without_softmax(kind)
        difference = np.asarray(logits(images)) - np.asarray(model(images))
        assert np.abs(difference).max() < 1e-4, name
    result = suite(kinds["of the last layer"], *sample, epsilon=EPSILON, **QUICK)
    assert raised(result) == {"probabilities"}
    np.testing.assert_array_equal(result.robust, plain.robust)


def test_probabilities_of_a_model_that_cannot_be_read(
    sample: tuple[np.ndarray, np.ndarray], model: keras.Model, plain: evaluation.Evaluation
) -> None:
    class Opaque(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def call(self, images: tf.Tensor) -> tf.Tensor:
            return tf.nn.softmax(self.inner(images))

    with pytest.raises(ValueError, match="model must be functional, or sequential and built"):
        networks.without_softmax(Opaque())
    result = suite(Opaque(), *sample, epsilon=EPSILON, **QUICK)
    assert "probabilities" in raised(result)
    assert abs(result.accuracy.value - plain.accuracy.value) < 0.05
    with pytest.raises(ValueError, match="model must end in a softmax"):
        networks.without_softmax(model)


def test_a_model_that_draws_is_judged_by_many_answers(
    sample: tuple[np.ndarray, np.ndarray], model: keras.Model, plain: evaluation.Evaluation
) -> None:
    """So weak a noise hardly matters, and a prediction that is wrong now and then is right."""
    noisy = Masked(model, lambda x: x + tf.random.normal(tf.shape(x), stddev=0.001))
    result = suite(noisy, *sample, epsilon=EPSILON, **QUICK)
    assert np.mean(result.robust != plain.robust) < 0.1

    class Flickers(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def call(self, images: tf.Tensor) -> tf.Tensor:
            logits = self.inner(images)
            lucky = tf.random.uniform((tf.shape(logits)[0], 1)) < 0.8
            return tf.where(lucky, logits, tf.roll(logits, 1, axis=1))

    right = networks.predict_logits(model, sample[0]).argmax(axis=1) == sample[1]
    settings = QUICK | {"steps": 1, "queries": 2, "aims": 0}
    judged = suite(Flickers(), *sample, epsilon=0.0, **settings).robust
    assert np.mean(judged == right) > 0.9


# --- a detector ------------------------------------------------------------------------------------


def ink(images: tf.Tensor) -> tf.Tensor:
    """Mean grey level."""
    return tf.reduce_mean(images, axis=(1, 2, 3))


def test_with_a_detector_success_is_to_fool_and_to_pass(
    sample: tuple[np.ndarray, np.ndarray], model: keras.Model, plain: evaluation.Evaluation
) -> None:
    images, labels = sample
    settings = QUICK | {"epsilon": EPSILON}
    all_pass = suite(model, images, labels, score=ink, threshold=2.0, **settings)
    assert all_pass.table["attack"].iloc[-1] == "adaptive_pgd"
    assert (all_pass.robust <= plain.robust).all()
    settings["aims"] = 0
    none_passes = suite(model, images, labels, score=ink, threshold=-1.0, **settings)
    assert none_passes.robust.all()
    middle = float(np.median(ink(images)))
    some = suite(model, images, labels, score=ink, threshold=middle, **settings)
    fools = networks.predict_logits(model, some.images).argmax(axis=1) != labels
    passes = np.asarray(ink(some.images)) < np.float32(middle)
    np.testing.assert_array_equal(~some.robust, fools & passes)
    assert plain.accuracy.value < some.accuracy.value < 1


def test_a_success_is_kept_even_where_an_attempt_that_failed_came_farther(
    sample: tuple[np.ndarray, np.ndarray], model: keras.Model
) -> None:
    """Only an image with all the ink that the bound allows passes this detector."""
    images, labels = sample
    lit = np.clip(images + np.float32(0.3), 0, 1)

    def missing_ink(x: tf.Tensor) -> tf.Tensor:
        return -ink(x)

    least = float(missing_ink(tf.constant(lit)).numpy().max()) + 1e-6
    settings = QUICK | {"aims": 0, "epsilon": 0.3, "score": missing_ink, "threshold": least}

    def brightest(_: keras.Model, x: np.ndarray, y: np.ndarray) -> attacks.AttackResult:
        count = np.ones(len(x), np.int64)
        return attacks.AttackResult(
            np.clip(x + np.float32(0.3), 0, 1), np.zeros(len(x), bool), count, count
        )

    result = suite(model, images, labels, more={"brightest": brightest}, **settings)
    fools = networks.predict_logits(model, lit).argmax(axis=1) != labels
    assert fools.any()
    assert not result.robust[fools].any()
    assert result.table["attack"].iloc[-1] == "brightest"
    assert result.table["found"].iloc[-1] > 0
    passes = missing_ink(tf.constant(result.images)).numpy() < least
    assert passes[~result.robust].all()


# --- further attacks, and the file -----------------------------------------------------------------


def brighten(model: keras.Model, images: np.ndarray, labels: np.ndarray) -> attacks.AttackResult:
    lit = np.clip(images + np.float32(EPSILON), 0, 1)
    success = networks.predict_logits(model, lit).argmax(axis=1) != labels
    count = np.ones(len(images), np.int64)
    return attacks.AttackResult(lit, success, count, count)


def test_further_attacks(sample: tuple[np.ndarray, np.ndarray], model: keras.Model) -> None:
    images, labels = sample
    settings = QUICK | {"aims": 0, "queries": 2}
    result = suite(model, images, labels, epsilon=EPSILON, more={"brighter": brighten}, **settings)
    assert result.table["attack"].iloc[-1] == "brighter"
    standing = result.table["tried"].iloc[-1]
    assert standing == 40 - (networks.predict_logits(model, images).argmax(axis=1) != labels).sum()
    with pytest.raises(
        ValueError, match=r"more\['brighter'\]: images must stay within epsilon = 0.05 in"
    ):
        suite(model, images, labels, epsilon=0.05, more={"brighter": brighten}, **settings)
    with pytest.raises(ValueError, match="more must have other names than none, one step, auto_pgd"):
        suite(model, images, labels, epsilon=0.1, more={"square": brighten}, **settings)


def test_an_evaluation_goes_on_where_it_was_stopped(
    sample: tuple[np.ndarray, np.ndarray], model: keras.Model, tmp_path: Path
) -> None:
    images, labels = sample
    calls: list[str] = []

    def stops(_: keras.Model, images: np.ndarray, labels: np.ndarray) -> attacks.AttackResult:
        calls.append("stops")
        if len(calls) == 1:
            raise KeyboardInterrupt
        return brighten(model, images, labels)

    def before(_: keras.Model, images: np.ndarray, labels: np.ndarray) -> attacks.AttackResult:
        calls.append("before")
        return brighten(model, images, labels)

    store = tmp_path / "suite.npz"
    settings = QUICK | {
        "aims": 0,
        "queries": 9,
        "epsilon": EPSILON,
        "more": {"before": before, "stops": stops},
    }
    first = settings | {"more": {"before": brighten, "stops": stops}}
    with pytest.raises(KeyboardInterrupt):
        suite(model, images, labels, store=store, **first)
    assert store.exists()
    again = suite(model, images, labels, store=store, **settings)
    assert "before" not in calls  # its result was read
    whole = suite(model, images, labels, **settings)
    np.testing.assert_array_equal(again.robust, whole.robust)
    np.testing.assert_array_equal(again.images, whole.images)
    columns = ["attack", "tried", "found", "success", "only", "robust", "low", "high", "evaluations"]
    assert again.table[columns].equals(whole.table[columns])
    assert again.table.dtypes.equals(whole.table.dtypes)
    assert not list(tmp_path.glob("*.part*"))
    # Finished: nothing is attacked again.
    finished = suite(model, images, labels, store=store, **settings)
    np.testing.assert_array_equal(finished.robust, whole.robust)
    other: list[dict[str, Any]] = [{"epsilon": 0.1}, {"seed": 2}, {"steps": 9}]
    for change in other:
        with pytest.raises(ValueError, match="store must be a new file, or one of the same model"):
            suite(model, images, labels, store=store, **settings | change)
    with pytest.raises(ValueError, match="store must be a new file, or one of the same model"):
        suite(scaled(model, 2.0), images, labels, store=store, **settings)
    with pytest.raises(ValueError, match=r"store must be a file ending in \.npz, got 'here'"):
        suite(model, images, labels, store="here", **settings)


# --- bad input -------------------------------------------------------------------------------------

BAD: list[tuple[dict[str, Any], str]] = [
    ({"norm": "l1"}, "norm must be one of linf, l2, got 'l1'"),
    ({"epsilon": -0.1}, "epsilon must be a number from 0 to 1, got -0.1"),
    ({"epsilon": 1.5}, "epsilon must be a number from 0 to 1, got 1.5"),
    ({"queries": 0}, "queries must be a whole number of at least 2, got 0"),
    ({"steps": 0}, "steps must be a whole number of at least 1, got 0"),
    ({"aims": -1}, "aims must be a whole number of at least 0, got -1"),
    ({"diagnosed": 1.5}, "diagnosed must be a whole number of at least 0, got 1.5"),
    ({"restarts": 0}, "restarts must be a whole number of at least 1, got 0"),
    ({"draws": 0}, "draws must be a whole number of at least 1, got 0"),
    ({"seed": -1}, "seed must be a whole number of at least 0, got -1"),
    ({"batch_size": 0}, "batch_size must be a whole number of at least 1, got 0"),
    ({"score": ink}, "score and threshold must be given together"),
    ({"threshold": 0.5}, "score and threshold must be given together"),
    ({"surrogate": 3}, "surrogate must be a Keras model, got int"),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_bad_arguments(
    change: dict[str, Any], message: str, sample: tuple[np.ndarray, np.ndarray], model: keras.Model
) -> None:
    with pytest.raises(ValueError, match=message):
        suite(model, *sample, **{"epsilon": 0.1, **QUICK, **change})


def test_bad_models_images_and_labels(sample: tuple[np.ndarray, np.ndarray], model: keras.Model) -> None:
    images, labels = sample
    settings = {"epsilon": 0.1, **QUICK}
    with pytest.raises(ValueError, match="labels must lie between 0 and 9, got 0 to 10"):
        suite(model, images, np.where(labels == 1, 10, labels), **settings)
    with pytest.raises(ValueError, match="images must be float32"):
        suite(model, images.astype(np.float64), labels, **settings)
    with pytest.raises(ValueError, match="images must hold at least one image"):
        suite(model, images[:0], labels[:0], **settings)
    with pytest.raises(ValueError, match="model must be a Keras model, got function"):
        suite(lambda x: x, images, labels, **settings)
    sigmoid = keras.Model(model.input, keras.activations.sigmoid(model.output))
    with pytest.raises(
        ValueError, match="model must return logits, got probabilities: take its sigmoid"
    ):
        suite(sigmoid, images, labels, **settings)

    class Breaks(keras.Model):
        """NaN for the images with the least ink, of which there may be two."""

        def call(self, images: tf.Tensor) -> tf.Tensor:
            return tf.where(ink(images)[:, None] < darkest, np.nan, model(images))

    order = np.argsort(-ink(images).numpy())  # the first ones are asked beforehand
    darkest = float(np.mean(ink(images[order[-2:]]))) + 1e-4
    with pytest.raises(ValueError, match="model must return finite logits, but does not for 2 images"):
        suite(Breaks(), images[order], labels[order], **settings)
