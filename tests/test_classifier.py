"""The classifier: its architecture, its training, the shipped weights, its insides."""

import logging
from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf
from tqdm import tqdm

from advlib import _training, activations, attacks, classifier, data

SHORT = classifier.Recipe(epochs=2, batch_size=32)


def test_architecture_is_the_one_described() -> None:
    model = classifier.build()
    assert model.count_params() == 46_346
    assert [weights.shape for weights in model.weights] == [
        *[(3, 3, 1, 16), (16,)],
        *[(3, 3, 16, 32), (32,)],
        *[(3, 3, 32, 64), (64,)],
        *[(6 * 6 * 64, 10), (10,)],
    ]
    shapes = [model.get_layer(name).output.shape for name in ("conv1", "conv2", "conv3", "logits")]
    assert shapes == [(None, 28, 28, 16), (None, 13, 13, 32), (None, 6, 6, 64), (None, 10)]


def test_forward_pass_agrees_with_numpy(digits: data.Dataset, model: keras.Model) -> None:
    x = digits.test_images[:3]
    *convolutions, kernel, bias = model.get_weights()
    x = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))  # "same" for a 3 x 3 filter with stride 1
    for index, stride in enumerate((1, 2, 2)):
        windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))
        windows = windows[:, ::stride, ::stride]  # (n, height, width, channels, 3, 3)
        filters, biases = convolutions[2 * index : 2 * index + 2]
        x = np.maximum(np.einsum("nhwcij,ijcf->nhwf", windows, filters) + biases, 0)
    by_hand = x.reshape(len(x), -1) @ kernel + bias
    np.testing.assert_allclose(
        classifier.predict_logits(model, digits.test_images[:3]), by_hand, atol=1e-4
    )


def test_seed_decides_the_initial_weights() -> None:
    first, same, other = (classifier.build(seed=seed).get_weights() for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, same, strict=True))
    assert not np.array_equal(first[0], other[0])


def test_training_learns_and_keeps_a_history(
    digits: data.Dataset, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_training, "tqdm", partial(tqdm, disable=False))  # whatever TQDM_DISABLE says
    held_out = digits.test_images, digits.test_labels
    model, history = classifier.train(
        digits.train_images, digits.train_labels, recipe=SHORT, validation=held_out
    )
    names = {"loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"}
    assert set(history) == names
    assert all(len(values) == SHORT.epochs for values in history.values())
    # Half a cosine: half of the rate after half of the steps, nothing after the last.
    np.testing.assert_allclose(history["learning_rate"], [SHORT.learning_rate / 2, 0], atol=1e-8)
    found = classifier.predict_logits(model, held_out[0]).argmax(axis=1)
    assert np.mean(found == held_out[1]) == pytest.approx(history["val_accuracy"][-1])
    assert history["val_accuracy"][-1] > 0.5
    assert "training" in capsys.readouterr().err  # the progress bar


def test_shipped_weights_for_mnist(mnist: data.Dataset) -> None:
    logits = classifier.predict_logits(classifier.pretrained("mnist"), mnist.test_images)
    assert np.mean(logits.argmax(axis=1) == mnist.test_labels) >= 0.988


def test_shipped_weights_for_digits(digits: data.Dataset, model: keras.Model) -> None:
    logits = classifier.predict_logits(model, digits.test_images)
    assert np.mean(logits.argmax(axis=1) == digits.test_labels) >= 0.96


def test_shipped_recipe_reaches_what_is_shipped(digits: data.Dataset) -> None:
    trained, _ = classifier.train(
        digits.train_images, digits.train_labels, recipe=classifier.RECIPES["digits"]
    )
    logits = classifier.predict_logits(trained, digits.test_images)
    assert np.mean(logits.argmax(axis=1) == digits.test_labels) >= 0.96


def test_logits_do_not_depend_on_the_batches(digits: data.Dataset, model: keras.Model) -> None:
    images = digits.test_images[:50]
    whole = classifier.predict_logits(model, images)
    assert whole.shape == (50, 10)
    assert whole.dtype == np.float32
    for batch_size in (1, 7, 50, 1000):
        parts = classifier.predict_logits(model, images, batch_size=batch_size)
        np.testing.assert_allclose(parts, whole, atol=1e-4)


def test_activations_are_those_of_the_layers(digits: data.Dataset, model: keras.Model) -> None:
    images = digits.test_images[:5]
    found = classifier.activations(model, images)
    assert list(found) == ["conv1", "conv2", "conv3", "flatten", "logits"]
    np.testing.assert_allclose(found["logits"], classifier.predict_logits(model, images), atol=1e-4)
    np.testing.assert_array_equal(found["flatten"], found["conv3"].reshape(5, -1))
    assert all(found[name].min() == 0 for name in ("conv1", "conv2", "conv3"))
    some = classifier.activations(model, images, layers=["conv3", "conv1"], batch_size=2)
    assert list(some) == ["conv3", "conv1"]
    np.testing.assert_allclose(some["conv1"], found["conv1"], atol=1e-5)
    one = classifier.activations(model, images, layers=["logits"])
    np.testing.assert_array_equal(one["logits"], found["logits"])


def test_activations_of_a_sequential_model_by_hand() -> None:
    model = keras.Sequential(
        [keras.Input((2, 2, 1)), keras.layers.Flatten(name="flat"), keras.layers.Dense(1, name="sum")]
    )
    model.set_weights([np.ones((4, 1)), np.zeros(1)])
    images = np.array([[[0.1], [0.2]], [[0.3], [0.4]]], np.float32)[None]
    found = classifier.activations(model, images)
    np.testing.assert_allclose(found["flat"], [[0.1, 0.2, 0.3, 0.4]])
    np.testing.assert_allclose(found["sum"], [[1.0]])


def test_correctly_classified(digits: data.Dataset, model: keras.Model) -> None:
    images, labels = digits.test_images, digits.test_labels.copy()
    right = np.flatnonzero(
        (labels == 2) & (classifier.predict_logits(model, images).argmax(axis=1) == 2)
    )
    labels[right[0]] = 3  # now a mistake, and not a 2
    found = classifier.correctly_classified(model, images, labels, digit=2, count=5)
    np.testing.assert_array_equal(found, right[1:6])
    with pytest.raises(ValueError, match=f"count must be at most {len(right) - 1}"):
        classifier.correctly_classified(model, images, labels, digit=2, count=len(right))


def test_many_networks_and_sizes_cause_no_warning_of_tensorflow_s(digits: data.Dataset) -> None:
    messages = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    handler = Handler()
    tf.get_logger().addHandler(handler)
    try:
        for seed in range(7):
            network = classifier.build(seed=seed)
            for count in (3, 8, 20):
                images, labels = digits.test_images[:count], digits.test_labels[:count]
                classifier.predict_logits(network, images)
                classifier.activations(network, images)
                attacks.fgsm(network, images, labels, epsilon=0.1)
        activations.largest_stretch(network, images, layers=["conv1", "logits"], iterations=1)
    finally:
        tf.get_logger().removeHandler(handler)
    assert not messages
