"""Training: the loop with its losses, and that random numbers stay where they belong."""

import hashlib
import random
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from tqdm import tqdm

from advlib import data, losses, networks, training
from advlib.networks import classifier, vae
from advlib.training import Recipe

SHORT = Recipe(epochs=2, batch_size=32)
BUILD: dict[str, Callable[[], keras.Model]] = {
    "classifier": partial(classifier.build, seed=1),
    "vae": partial(vae.build, latent=2, seed=1),
}
LOAD: dict[str, Callable[[], keras.Model]] = {
    "classifier": partial(networks.pretrained, "classifier", "digits"),
    "vae": partial(networks.pretrained, "vae", "digits", latent=2),
}


def fingerprint(model: keras.Model) -> str:
    return hashlib.sha256(b"".join(weights.tobytes() for weights in model.get_weights())).hexdigest()


def trained(network: str) -> str:
    """Hash of the weights after a short training on the embedded digits."""
    digits = data.load("digits")
    model = BUILD[network]()
    labels = digits.train_labels if network == "classifier" else None
    loss = losses.cross_entropy if network == "classifier" else vae.loss
    training.train(model, digits.train_images, labels, loss=loss, recipe=SHORT)
    return fingerprint(model)


# --- the loop --------------------------------------------------------------------------------------


def test_training_learns_and_keeps_a_history(
    digits: data.Dataset, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(training, "tqdm", partial(tqdm, disable=False))  # whatever TQDM_DISABLE says
    held_out = digits.test_images, digits.test_labels
    model = classifier.build()
    history = training.train(
        model,
        digits.train_images,
        digits.train_labels,
        loss=losses.cross_entropy,
        recipe=SHORT,
        validation=held_out,
    )
    assert set(history) == {"loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"}
    assert all(len(values) == SHORT.epochs for values in history.values())
    # Half a cosine: half of the rate after half of the steps, nothing after the last.
    np.testing.assert_allclose(history["learning_rate"], [SHORT.learning_rate / 2, 0], atol=1e-8)
    logits = networks.predict_logits(model, held_out[0])
    assert np.mean(logits.argmax(axis=1) == held_out[1]) == pytest.approx(history["val_accuracy"][-1])
    by_hand = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(held_out[1], logits)
    assert history["val_loss"][-1] == pytest.approx(float(by_hand), rel=1e-5)
    assert history["val_accuracy"][-1] > 0.5
    assert not model.compiled  # as it came
    assert "training: 100%" in capsys.readouterr().err


def test_the_loop_is_that_of_compile_and_fit_to_the_bit(digits: data.Dataset) -> None:
    images, labels = digits.train_images[:300], digits.train_labels[:300]
    mine, keras_s = classifier.build(), classifier.build()
    found = training.train(mine, images, labels, loss=losses.cross_entropy, recipe=SHORT)
    keras.utils.set_random_seed(SHORT.seed)
    keras_s.compile(
        optimizer=keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(SHORT.learning_rate, decay_steps=2 * 10)
        ),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    history = keras_s.fit(images, labels, batch_size=32, epochs=2, verbose=0).history
    assert fingerprint(mine) == fingerprint(keras_s)
    for name in ("loss", "accuracy"):
        np.testing.assert_allclose(found[name], history[name], rtol=1e-6)


@pytest.mark.parametrize("network", BUILD)
def test_validation_is_never_trained_on(digits: data.Dataset, network: str) -> None:
    images, labels = digits.train_images[:64], digits.train_labels[:64]
    # The autoencoder's draws.
    loss, arrays = (vae.loss, [images]) if network == "vae" else (losses.cross_entropy, [images, labels])
    models = [BUILD[network]() for _ in range(2)]
    for model, validation in zip(models, (None, tuple(arrays)), strict=True):
        training.train(model, *arrays, loss=loss, recipe=SHORT, validation=validation)
    assert fingerprint(models[0]) == fingerprint(models[1])


def test_labels_of_any_kind_of_integer(digits: data.Dataset) -> None:
    images, labels = digits.train_images[:64], digits.train_labels[:64]
    one = Recipe(epochs=1, batch_size=32)
    histories = [
        training.train(classifier.build(), images, each, loss=losses.cross_entropy, recipe=one)
        for each in (labels, *(labels.astype(kind) for kind in ("u1", "i1", "u8")))
    ]
    assert all(history == histories[0] for history in histories)


def test_a_subclassed_model(digits: data.Dataset) -> None:
    class Subclassed(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.inner = classifier.build()

        def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
            return self.inner(inputs, training=training)

    images, labels = digits.train_images[:64], digits.train_labels[:64]
    plain, model, one = classifier.build(), Subclassed(), Recipe(epochs=1, batch_size=32)
    for each in (plain, model):
        training.train(each, images, labels, loss=losses.cross_entropy, recipe=one)
    assert fingerprint(plain) == fingerprint(model.inner)
    with pytest.raises(ValueError, match="targets must lie between 0 and 9"):
        training.train(model, images, labels + 1, loss=losses.cross_entropy, recipe=one)


def test_floats_of_any_kind(digits: data.Dataset) -> None:
    def squared_error(model: keras.Model, batch: losses.Batch) -> dict[str, tf.Tensor]:
        error = model(batch.images, training=batch.training) - batch.targets
        return {"loss": tf.reduce_mean(tf.square(error))}

    images, targets = digits.train_images[:32], np.zeros((32, 10))
    one = Recipe(epochs=1, batch_size=32)
    assert training.train(classifier.build(), images, targets, loss=squared_error, recipe=one)["loss"]


def test_a_loss_of_ones_own_with_parts_and_noise(digits: data.Dataset) -> None:
    def towards_noise(model: keras.Model, batch: losses.Batch) -> dict[str, tf.Tensor]:
        assert batch.targets is not None
        noise = keras.random.normal((), seed=batch.seeds)
        error = tf.reduce_mean(tf.square(model(batch.images, training=batch.training) - batch.targets))
        return {"loss": error, "noise": noise, "training": tf.cast(batch.training, tf.float32)}

    images = digits.train_images[:40]
    targets = np.zeros((40, 10), np.float32)
    found = [
        training.train(
            classifier.build(),
            images,
            targets,
            loss=towards_noise,
            recipe=Recipe(epochs=3, batch_size=20, seed=seed),
            validation=(images, targets),
        )
        for seed in (1, 1, 2)
    ]
    assert found[0] == found[1]
    assert found[0]["loss"][-1] < found[0]["loss"][0]
    assert len(set(found[0]["noise"])) == 3  # every step draws its own
    assert set(found[0]["noise"]).isdisjoint(found[2]["noise"])
    assert (found[0]["training"], found[0]["val_training"]) == ([1, 1, 1], [0, 0, 0])


def test_soft_labels_by_hand(digits: data.Dataset) -> None:
    model = networks.pretrained("classifier", "digits")
    images = digits.test_images[:30]
    shares = np.random.default_rng(1).dirichlet(np.ones(10), 30).astype(np.float32)
    batch = losses.Batch(tf.constant(images), tf.constant(shares), False, keras.random.SeedGenerator(0))
    found = losses.soft_labels(model, batch)
    logits = networks.predict_logits(model, images).astype(np.float64)
    log_shares = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    assert float(found["loss"]) == pytest.approx(-(shares * log_shares).sum(axis=1).mean(), rel=1e-5)
    agreement = (shares.argmax(axis=1) == logits.argmax(axis=1)).mean()
    assert float(found["accuracy"]) == pytest.approx(agreement)


def test_soft_labels_that_are_hard_are_labels(digits: data.Dataset) -> None:
    images, labels = digits.train_images[:96], digits.train_labels[:96]
    models = [classifier.build() for _ in range(2)]
    histories = [
        training.train(models[0], images, labels, loss=losses.cross_entropy, recipe=SHORT),
        training.train(
            models[1],
            images,
            np.eye(10, dtype=np.float32)[labels],
            loss=losses.soft_labels,
            recipe=SHORT,
        ),
    ]
    for name in ("loss", "accuracy"):
        np.testing.assert_allclose(histories[0][name], histories[1][name], rtol=1e-3)


# --- refusals --------------------------------------------------------------------------------------

GOOD = np.full((2, 28, 28, 1), 0.5, np.float32)
SHARES = np.full((2, 10), 0.1, np.float32)


@pytest.mark.parametrize(
    ("targets", "more", "message"),
    [
        (np.array([1, 10]), {}, "targets must lie between 0 and 9, got 1 to 10"),
        (np.array([1]), {}, r"targets must have shape \(2,\)"),
        (
            np.array(["1", "2"]),
            {},
            "targets must be labels, or floats with one row for each of 2 images",
        ),
        (SHARES[:1], {}, "targets must be labels, or floats with one row for each of 2"),
        (SHARES * np.nan, {}, "targets must be finite"),
        (None, {}, r"targets must be labels, integers \(n,\), for this loss, got none"),
        (SHARES, {}, r"targets must be labels.*for this loss, got float32 of shape \(1, 10\)"),
        (np.array([1, 2]), {"loss": losses.soft_labels}, "targets must be probabilities, floats"),
        (np.array([1, 2]), {"validation": (GOOD,)}, r"validation must be a tuple \(images, targets\)"),
        (np.array([1, 2]), {"validation": GOOD}, "validation must be a tuple"),
        (
            None,
            {"loss": vae.loss, "validation": (GOOD, GOOD)},
            r"validation must be a tuple \(images,\)",
        ),
        (np.array([1, 2]), {"loss": "mse"}, "loss must be callable, got str"),
        (np.array([1, 2]), {"recipe": {"epochs": 1}}, "recipe must be a training.Recipe, got dict"),
        (np.array([1, 2]), {"loss": lambda *_: 1.0}, 'loss must return a dict with the key "loss"'),
        (np.array([1, 2]), {"loss": lambda *_: {"los": tf.ones(())}}, 'with the key "loss"'),
        (np.array([1, 2]), {"loss": lambda *_: {"loss": tf.ones(3)}}, "loss must return scalars"),
    ],
)
def test_bad_arguments(targets: Any, more: dict[str, Any], message: str) -> None:
    model = classifier.build()
    before = fingerprint(model)
    settings: dict[str, Any] = {"loss": losses.cross_entropy, "recipe": Recipe(epochs=1)}
    with pytest.raises(ValueError, match=message):
        training.train(model, GOOD, targets, **settings | more)
    assert fingerprint(model) == before


def test_training_that_diverges_is_ended() -> None:
    def diverging(model: keras.Model, batch: losses.Batch) -> dict[str, tf.Tensor]:
        return {"loss": tf.reduce_sum(tf.exp(1e3 * tf.abs(model(batch.images)) + 1e3))}

    with pytest.raises(FloatingPointError, match=r"loss is \w+ after epoch 1: .*recipe.learning_rate"):
        training.train(classifier.build(), GOOD, loss=diverging, recipe=Recipe(epochs=2))


# --- random numbers --------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [*BUILD.values(), *LOAD.values()])
def test_building_and_loading_leave_the_random_state_alone(make: Callable[[], keras.Model]) -> None:
    def draws() -> tuple[float, ...]:
        return (random.random(), np.random.random(), float(keras.random.uniform(())))  # noqa: NPY002

    keras.utils.set_random_seed(7)
    expected = draws()
    keras.utils.set_random_seed(7)
    make()
    assert draws() == expected


def test_training_is_deterministic_to_the_bit(root: Path) -> None:
    # In a process of its own, so that nothing that is left behind there can help this one, in which much
    # has run already.
    code = "from tests.test_training import BUILD, trained; print(*map(trained, BUILD))"
    elsewhere = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=root
    ).stdout.split()
    assert elsewhere == [trained(network) for network in BUILD]
