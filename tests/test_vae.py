"""The autoencoder: its architecture, its loss by hand, its training, the shipped weights."""

import copy
import pickle
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import expit
from tqdm import tqdm

from advlib import data, networks, training
from advlib.networks import vae
from advlib.training import _Loop

every_shipped = pytest.mark.parametrize(
    ("name", "latent"),
    [(name, latent) for name in ("mnist", "digits") for latent in networks.latents(name)],
)


PARTS = ["loss", "reconstruction", "divergence"]


def error(model: vae.VAE, images: np.ndarray) -> float:
    """Mean squared error of the reconstructions."""
    return float(np.mean((model.predict(images, verbose=0) - images) ** 2))


@pytest.mark.parametrize("latent", [1, 2, 16])
def test_architecture_is_the_one_described(latent: int) -> None:
    model = vae.build(latent=latent)
    # Convolutions and the decoder's dense bias; per latent, three kernels and two biases.
    convolutions = (16 + 1) * 16 + (16 * 16 + 1) * 32 + (16 * 32 + 1) * 16 + (16 * 16 + 1)
    assert model.count_params() == convolutions + 1568 + latent * (3 * 1568 + 2)
    assert model.latent == latent
    assert model.input_shape == model.encoder.input_shape == (None, 28, 28, 1)
    assert [output.shape for output in model.encoder.outputs] == [(None, latent)] * 2
    assert model.decoder.input_shape == (None, latent)
    assert model.decoder.output_shape == (None, 28, 28, 1)
    assert [model.encoder.get_layer(name).output.shape[1:] for name in ("conv1", "conv2")] == [
        (14, 14, 16),
        (7, 7, 32),
    ]
    assert model.decoder.get_layer("deconv1").output.shape[1:] == (14, 14, 16)


def convolved(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """A 4 × 4 convolution with stride 2 that halves the size, and ReLU."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (4, 4), axis=(1, 2))[:, ::2, ::2]
    return np.maximum(np.einsum("nhwcij,ijcf->nhwf", windows, kernel) + bias, 0)


def spread(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """The transpose of such a convolution: every pixel adds a 4 × 4 patch at twice its place."""
    n, height, width, _ = x.shape
    padded = np.zeros((n, 2 * height + 2, 2 * width + 2, len(bias)))
    for i, j in np.ndindex(height, width):
        padded[:, 2 * i : 2 * i + 4, 2 * j : 2 * j + 4] += np.einsum("nc,abfc->nabf", x[:, i, j], kernel)
    return padded[:, 1:-1, 1:-1] + bias


def test_forward_pass_agrees_with_numpy(digits: data.Dataset) -> None:
    model = networks.pretrained("vae", "digits", latent=4)
    images = digits.test_images[:3]
    weights = [values.astype(np.float64) for values in model.get_weights()]
    kernels, biases = weights[::2], weights[1::2]
    x = convolved(convolved(images, kernels[0], biases[0]), kernels[1], biases[1]).reshape(3, -1)
    means, log_variances = (x @ kernels[i] + biases[i] for i in (2, 3))
    for found, by_hand in zip(model.encoder(images), (means, log_variances), strict=True):
        np.testing.assert_allclose(found, by_hand, atol=1e-4)
    x = np.maximum(means @ kernels[4] + biases[4], 0).reshape(3, 7, 7, 32)
    x = np.maximum(spread(x, kernels[5], biases[5]), 0)
    np.testing.assert_allclose(model(images), expit(spread(x, kernels[6], biases[6])), atol=1e-5)


def test_a_call_decodes_the_means_and_draws_nothing(digits: data.Dataset) -> None:
    model = networks.pretrained("vae", "digits", latent=2)
    images = digits.test_images[:20]
    means, log_variances = model.encoder(images)
    assert np.mean(np.exp(log_variances)) > 1e-4  # noise would be seen
    first = model(images).numpy()
    np.testing.assert_array_equal(first, model(images))
    np.testing.assert_array_equal(first, model(images, training=True))
    np.testing.assert_array_equal(first, model.decoder(means))


def test_images_stay_on_their_scale() -> None:
    latents = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    decoder = vae.build(latent=3).decoder
    for scale in (1, 1e4):
        decoded = decoder(scale * latents).numpy()
        assert decoded.min() >= 0
        assert decoded.max() <= 1
    assert np.ptp(decoded) > 0.9


def test_seed_decides_the_initial_weights() -> None:
    first, same, other, neighbour = (
        vae.build(latent=2, seed=seed).get_weights() for seed in (1, 1, 2, 0)
    )
    assert all(np.array_equal(a, b) for a, b in zip(first, same, strict=True))
    # Not one layer of one seed starts as any layer of another.
    kernels = [*first[::2], *other[::2], *neighbour[::2]]
    beginnings = {tuple(kernel.ravel()[:32] / np.abs(kernel).max()) for kernel in kernels}
    assert len(beginnings) == 3 * 7


def test_layers_of_one_shape_start_differently() -> None:
    model = vae.build(latent=2, seed=0)
    parts = {layer.name: layer.get_weights() for layer in (*model.encoder.layers, *model.decoder.layers)}
    for one, another in (("means", "log_variances"), ("conv2", "deconv1")):
        assert parts[one][0].shape == parts[another][0].shape
        assert not np.array_equal(parts[one][0], parts[another][0])


def test_training_learns_and_keeps_a_history(
    digits: data.Dataset, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(training, "tqdm", partial(tqdm, disable=False))  # whatever TQDM_DISABLE says
    recipe = training.Recipe(epochs=3, batch_size=32)
    model = vae.build(latent=3, seed=recipe.seed)
    history = training.train(model, digits.train_images, loss=vae.loss, recipe=recipe)
    assert set(history) == {"loss", "reconstruction", "divergence", "learning_rate"}
    assert all(len(values) == recipe.epochs for values in history.values())
    assert model.latent == 3
    assert (np.diff(history["loss"]) < 0).all()
    parts = np.array(history["reconstruction"]) + vae.BETA * np.array(history["divergence"])
    np.testing.assert_allclose(history["loss"], parts, rtol=1e-4)
    assert history["learning_rate"][-1] == pytest.approx(0, abs=1e-8)
    fresh = vae.build(latent=3, seed=recipe.seed)
    assert error(model, digits.test_images) < 0.3 * error(fresh, digits.test_images)
    assert "training" in capsys.readouterr().err  # the progress bar


def cross_entropy(images: np.ndarray, decoded: np.ndarray) -> np.ndarray:
    """Of each image, in nats, summed over its pixels."""
    x, y = images.astype(np.float64), decoded.astype(np.float64)
    return -(x * np.log(y) + (1 - x) * np.log(1 - y)).sum(axis=(1, 2, 3))


def history_of_a_look(model: vae.VAE, images: np.ndarray, rate: float = 0.0) -> dict[str, float]:
    """What one step of plain gradient descent on all images writes down; with rate 0, a mere look."""
    loop = _Loop(model, vae.loss, PARTS, seed=3)
    loop.compile(optimizer=keras.optimizers.SGD(rate))
    history = loop.fit(images, batch_size=len(images), epochs=1, verbose=0).history
    return {name: value for name, (value,) in history.items()}


def set_log_variances(model: vae.VAE, value: float) -> None:
    """Make them this, whatever the image."""
    layer = model.encoder.get_layer("log_variances")
    kernel, bias = layer.get_weights()
    layer.set_weights([np.zeros_like(kernel), np.full_like(bias, value)])


def test_loss_without_noise_by_hand(digits: data.Dataset) -> None:
    # Variances of e⁻⁶⁰: what the decoder gets is the means.
    model = vae.build(latent=3, seed=5)
    set_log_variances(model, -60)
    images = digits.test_images[:40]
    found = history_of_a_look(model, images)
    means, _ = model.encoder(images)
    reconstruction = cross_entropy(images, model(images).numpy()).mean()
    divergence = (np.square(means) + np.exp(-60) - 1 + 60).sum(axis=1).mean() / 2
    assert found["reconstruction"] == pytest.approx(reconstruction, rel=1e-5)
    assert found["divergence"] == pytest.approx(divergence, rel=1e-5)
    assert found["loss"] == pytest.approx(reconstruction + vae.BETA * divergence, rel=1e-5)


def test_divergence_by_hand(digits: data.Dataset) -> None:
    model = networks.pretrained("vae", "digits", latent=4)
    images = digits.test_images[:40]
    means, log_variances = (values.numpy().astype(np.float64) for values in model.encoder(images))
    assert np.ptp(log_variances) > 0.1
    terms = means**2 + np.exp(log_variances) - 1 - log_variances
    found = history_of_a_look(model, images)["divergence"]
    assert found == pytest.approx(terms.sum(axis=1).mean() / 2, rel=1e-5)


def test_history_begins_anew_in_each_epoch(digits: data.Dataset) -> None:
    loop = _Loop(networks.pretrained("vae", "digits", latent=4), vae.loss, PARTS, seed=3)
    loop.compile(optimizer=keras.optimizers.SGD(0.0))
    found = [
        loop.fit(images, batch_size=len(images), verbose=0).history["divergence"][0]
        for images in (digits.test_images[:20], np.zeros((20, 28, 28, 1), np.float32))
    ]
    blank = history_of_a_look(
        networks.pretrained("vae", "digits", latent=4), np.zeros((20, 28, 28, 1), np.float32)
    )
    assert found[1] == pytest.approx(blank["divergence"], rel=1e-5)
    assert found[0] != pytest.approx(found[1], rel=0.05)


def test_latents_are_drawn_from_the_gaussian(digits: data.Dataset) -> None:
    # One image many times, so that the mean over the noise is known to a fraction of a per cent.
    model = networks.pretrained("vae", "digits", latent=2)
    set_log_variances(model, np.log(0.3**2))
    image = digits.test_images[:1]
    mean = model.encoder(image)[0].numpy()
    drawn = mean + 0.3 * np.random.default_rng(2).standard_normal((4000, 2))
    decoded = model.decoder(drawn.astype(np.float32)).numpy()
    costs = cross_entropy(np.repeat(image, 4000, axis=0), np.clip(decoded, 1e-7, 1 - 1e-7))
    within = 5 * np.std(costs) * np.sqrt(2 / 4000)
    assert costs.mean() > cross_entropy(image, model(image).numpy())[0] + 2 * within  # noise matters
    found = history_of_a_look(model, np.repeat(image, 4000, axis=0))["reconstruction"]
    assert found == pytest.approx(costs.mean(), abs=within)


def test_every_step_draws_noise_of_its_own(digits: data.Dataset) -> None:
    loop = _Loop(networks.pretrained("vae", "digits", latent=2), vae.loss, PARTS, seed=3)
    loop.compile(optimizer=keras.optimizers.SGD(0.0))
    image = tf.constant(digits.test_images[:1])
    looks = {float(loop.train_step(image)["reconstruction"]) for _ in range(3)}
    assert len(looks) == 3


def test_both_parts_of_the_loss_move_the_weights(digits: data.Dataset) -> None:
    model = vae.build(latent=2, seed=5)
    set_log_variances(model, -60)
    images = digits.test_images[:40]
    before = model.decoder.get_weights()
    decoded = model(images).numpy()
    history_of_a_look(model, images, rate=1e-3)
    # Without noise, log-variances matter to the divergence alone: its gradient is (e⁻⁶⁰ - 1) / 2.
    bias = model.encoder.get_layer("log_variances").get_weights()[1]
    np.testing.assert_allclose(bias + 60, 1e-3 * vae.BETA / 2, atol=8e-6)
    # The decoder's last bias matters to the cross-entropy alone: its gradient is that of the sigmoid.
    moved = model.decoder.get_weights()[-1] - before[-1]
    expected = 1e-3 * (images - decoded).sum(axis=(1, 2, 3)).mean()
    np.testing.assert_allclose(moved, expected, rtol=1e-3)


@every_shipped
def test_shipped_weights_can_be_loaded(name: str, latent: int, digits: data.Dataset) -> None:
    model = networks.pretrained("vae", name, latent=latent)
    assert model.latent == latent
    # Those for MNIST have not seen these digits, which yet are digits.
    assert error(model, digits.test_images) < 0.5 * np.mean(digits.test_images**2)


def test_more_latents_reconstruct_the_digits_better(digits: data.Dataset) -> None:
    models = [
        networks.pretrained("vae", "digits", latent=latent) for latent in networks.latents("digits")
    ]
    errors = [error(model, digits.test_images) for model in models]
    assert (np.diff(errors) < 0).all()
    mean = digits.train_images.mean(axis=0)
    nothing_learned = np.mean((digits.test_images - mean) ** 2)
    assert errors[0] < 0.5 * nothing_learned
    assert errors[-1] < 0.1 * nothing_learned


def test_more_latents_reconstruct_mnist_better(mnist: data.Dataset) -> None:
    images = mnist.test_images[:500]
    errors = [
        error(networks.pretrained("vae", "mnist", latent=latent), images)
        for latent in networks.latents("mnist")
    ]
    assert (np.diff(errors) < 0).all()
    nothing_learned = np.mean((images - mnist.train_images[:5000].mean(axis=0)) ** 2)
    assert errors[0] < 0.8 * nothing_learned
    assert errors[-1] < 0.1 * nothing_learned


# Keras's own way to read its variables.
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
def test_weights_saved_and_loaded_give_the_same_images(tmp_path: Path, digits: data.Dataset) -> None:
    model, other = vae.build(latent=3, seed=1), vae.build(latent=3, seed=2)
    images = digits.test_images[:5]
    expected = model(images).numpy()
    assert not np.array_equal(other(images), expected)
    model.save_weights(tmp_path / "some.weights.h5")
    other.load_weights(tmp_path / "some.weights.h5")
    np.testing.assert_array_equal(other(images), expected)


GOOD = np.full((2, 28, 28, 1), 0.5, np.float32)
ONE = training.Recipe(epochs=1)
build: Any = vae.build
BAD: list[tuple[Any, str]] = [
    *(
        (partial(build, latent=bad), f"latent must be a whole number of at least 1, got {bad!r}")
        for bad in (0, -1, 2.5, 2.0, True, "2", None)
    ),
    *(
        (partial(build, latent=2, seed=bad), "seed must be a whole number of at least 0")
        for bad in (-1, 1.5, None)
    ),
    *(
        (partial(training.train, vae.build(latent=2), images, loss=vae.loss, recipe=ONE), message)
        for images, message in (
            (GOOD.astype(np.float64), "images must be float32"),
            (GOOD[0], "images must have shape .*add an axis"),
            (GOOD[:0], "images must hold at least one image"),
            (GOOD * 3, r"images must be finite and lie in \[0, 1\]"),
            (GOOD * np.float32(np.nan), "images must be finite"),
            (GOOD[:, :27], r"images must have shape \(n, 28, 28, 1\)"),
            (np.repeat(GOOD, 3, axis=3), r"images must have shape \(n, 28, 28, 1\)"),
        )
    ),
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_bad_arguments(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_history_is_the_mean_over_the_epoch() -> None:
    # Nothing moves at this rate, so that the noise alone tells the batches apart; the last is smaller.
    images = np.random.default_rng(0).random((11, 28, 28, 1), np.float32)
    recipe = training.Recipe(epochs=1, batch_size=4, learning_rate=1e-30, seed=3)
    model = vae.build(latent=2)
    history = training.train(model, images, loss=vae.loss, recipe=recipe)
    means, log_variances = model.encoder.predict(images, verbose=0)
    terms = np.square(means) + np.exp(log_variances) - 1 - log_variances
    expected = terms.sum(axis=1).mean() / 2
    assert history["divergence"] == [pytest.approx(expected, rel=1e-4)]


# Keras's own, while it writes weights.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("way", ["save", "pickle", "deepcopy", "another process"])
def test_an_autoencoder_that_was_kept_is_the_same(
    way: str, digits: data.Dataset, tmp_path: Path
) -> None:
    model, images = networks.pretrained("vae", "digits", latent=4), digits.test_images[:9]
    expected = model(images).numpy()
    path = tmp_path / "vae.keras"
    if way == "another process":
        model.save(path)
        (tmp_path / "vae.pickle").write_bytes(pickle.dumps(model))
        np.save(tmp_path / "images.npy", images)
        code = (
            "import pickle, sys, keras, numpy; "
            "pickled = pickle.load(open(sys.argv[2], 'rb')); "  # imports what it needs
            "import advlib.networks; "
            "saved = keras.models.load_model(sys.argv[1]); "
            "images = numpy.load(sys.argv[3]); "
            "numpy.save(sys.argv[4], [saved(images), pickled(images)])"
        )
        names = ("vae.keras", "vae.pickle", "images.npy", "found.npy")
        files = [str(tmp_path / name) for name in names]
        subprocess.run([sys.executable, "-c", code, *files], check=True, capture_output=True)
        np.testing.assert_array_equal(np.load(tmp_path / "found.npy"), [expected, expected])
        return
    if way == "save":
        model.save(path)
        kept = keras.models.load_model(path)
    else:
        kept = pickle.loads(pickle.dumps(model)) if way == "pickle" else copy.deepcopy(model)
    assert type(kept) is vae.VAE
    assert (kept.latent, kept.input_shape, kept.name) == (4, (None, 28, 28, 1), "vae")
    np.testing.assert_array_equal(kept(images), expected)
    # It is a model of its own.
    kept.set_weights([0 * values for values in kept.get_weights()])
    np.testing.assert_array_equal(model(images), expected)


def test_a_clone_has_the_architecture_and_weights_of_its_own(digits: data.Dataset) -> None:
    model = networks.pretrained("vae", "digits", latent=4)
    clone = keras.models.clone_model(model)
    assert [each.shape for each in clone.weights] == [each.shape for each in model.weights]
    assert not np.array_equal(clone(digits.test_images[:2]), model(digits.test_images[:2]))
    clone.set_weights(model.get_weights())
    np.testing.assert_array_equal(clone(digits.test_images[:2]), model(digits.test_images[:2]))
