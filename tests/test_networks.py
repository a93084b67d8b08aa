"""What is shipped, by one registry; what any network says, and its insides."""

import hashlib
import logging
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from advlib import activations, attacks, data, networks
from advlib.networks import SHIPPED, Shipped, _shipped

every_shipped = pytest.mark.parametrize("entry", SHIPPED, ids=lambda entry: entry.file)

# --- the registry ----------------------------------------------------------------------------------


def test_every_file_of_weights_belongs_to_one_entry() -> None:
    names = Counter(entry.file for entry in SHIPPED)
    assert set(names.values()) == {1}
    files = {path.name: path for path in _shipped.WEIGHTS.iterdir() if path.name.endswith(".h5")}
    assert set(files) == set(names)
    sizes = [len(path.read_bytes()) for path in files.values()]
    assert max(sizes) < 1_100_000
    assert sum(sizes) < 12_000_000  # of the whole book


def test_hashes_are_in_the_format_of_sha256sum() -> None:
    lines = (_shipped.WEIGHTS / _shipped.HASHES).read_text(encoding="utf-8").splitlines()
    assert lines == sorted(lines, key=lambda line: line.split("  ")[1])
    for line in lines:
        sha256, name = line.split("  ")
        assert hashlib.sha256((_shipped.WEIGHTS / name).read_bytes()).hexdigest() == sha256
    assert [line.split("  ")[1] for line in lines] == sorted(entry.file for entry in SHIPPED)


@every_shipped
def test_every_entry_is_found_and_loads(entry: Shipped) -> None:
    key: dict[str, Any] = {"training": entry.training, "latent": entry.latent}
    assert networks.shipped(entry.network, entry.dataset, **key) is entry
    model = networks.pretrained(entry.network, entry.dataset, **key)
    fresh = entry.build()
    assert [w.shape for w in model.get_weights()] == [w.shape for w in fresh.get_weights()]
    # Not a layer is as it was before the training.
    for loaded, start in zip(model.get_weights(), fresh.get_weights(), strict=True):
        assert not np.array_equal(loaded, start)


def test_latents() -> None:
    assert networks.latents() == networks.latents("mnist") == (2, 4, 16, 48)
    assert networks.latents("digits") == (2, 4, 16)
    with pytest.raises(ValueError, match="dataset must be one of 'mnist', 'digits' here, got 'cifar10'"):
        networks.latents("cifar10")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"network": "clasifier"}, "network must be one of 'classifier', 'vae' here, got 'clasifier'"),
        ({"network": None}, "network must be one of 'classifier', 'vae' here, got None"),
        (
            {"dataset": "cifar10"},
            "dataset must be one of 'mnist', 'fashion_mnist', 'digits' here, got 'cifar10'",
        ),
        (
            {"network": "vae", "dataset": "fashion_mnist", "latent": 2},
            "dataset must be one of 'mnist', 'digits' here, got 'fashion_mnist'",
        ),
        ({"training": "pgd"}, "training must be one of 'plain' here, got 'pgd'"),
        ({"latent": 2}, "latent must be one of None here, got 2"),
        ({"network": "vae"}, "latent must be one of 2, 4, 16, 48 here, got None"),
        (
            {"network": "vae", "dataset": "digits", "latent": 48},
            "latent must be one of 2, 4, 16 here, got 48",
        ),
    ],
)
def test_an_unknown_name_is_answered_with_those_there_are(names: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        networks.pretrained(**names)
    lines = str(caught.value).splitlines()
    assert lines[0].endswith("Shipped are:")
    assert lines[1:] == [f"  {entry}" for entry in SHIPPED]
    assert "  vae, mnist, training=plain, latent=48" in lines


@pytest.mark.parametrize("latent", [0, -1, 2.5, 2.0, True, "2"])
def test_a_latent_dimension_that_is_none(latent: Any) -> None:
    with pytest.raises(ValueError, match="latent must be a whole number of at least 1, got"):
        networks.pretrained("vae", "digits", latent=latent)
    assert networks.shipped("vae", "digits", latent=np.int64(4)).latent == 4  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what is shipped."""
    copy = Path(shutil.copytree(str(_shipped.WEIGHTS), tmp_path / "weights"))
    monkeypatch.setattr(_shipped, "WEIGHTS", copy)
    return copy


FAULTS = {
    "cut off": "is damaged: its SHA-256 is",
    "one bit": "is damaged: its SHA-256 is",
    "empty": "is damaged: its SHA-256 is",
    "another's": "is damaged: its SHA-256 is",
    "missing": "there is no file",
    "not listed": "and should be None",
    "list cut off": "SHA256SUMS is missing or damaged",
    "list missing": "SHA256SUMS is missing or damaged",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_damaged_weights_are_refused_before_they_are_read(folder: Path, fault: str) -> None:
    path, hashes = folder / "classifier_digits.weights.h5", folder / "SHA256SUMS"
    content, lines = path.read_bytes(), hashes.read_text(encoding="utf-8")
    changes: dict[str, Callable[[], object]] = {
        "cut off": lambda: path.write_bytes(content[: len(content) // 2]),
        "one bit": lambda: path.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]),
        "empty": lambda: path.write_bytes(b""),
        "another's": lambda: shutil.copy(folder / "classifier_mnist.weights.h5", path),
        "missing": path.unlink,
        "not listed": lambda: hashes.write_text("", encoding="utf-8"),
        "list cut off": lambda: hashes.write_text(lines[:40], encoding="utf-8"),
        "list missing": hashes.unlink,
    }
    changes[fault]()
    with pytest.raises(OSError, match=FAULTS[fault]) as caught:
        networks.pretrained("classifier", "digits")
    assert str(folder) in str(caught.value)
    assert str(caught.value).endswith("install advlib again")
    if "list" not in fault:
        networks.pretrained("classifier", "mnist")  # the others are as they were


@pytest.mark.parametrize(
    ("name", "reached"), [("mnist", 0.988), ("fashion_mnist", 0.91), ("digits", 0.96)]
)
def test_accuracy_of_the_shipped_classifier(
    name: str, reached: float, request: pytest.FixtureRequest
) -> None:
    dataset: data.Dataset = request.getfixturevalue(name)
    logits = networks.predict_logits(networks.pretrained("classifier", name), dataset.test_images)
    assert np.mean(logits.argmax(axis=1) == dataset.test_labels) >= reached


def test_shipped_recipe_reaches_what_is_shipped(digits: data.Dataset) -> None:
    trained, history = networks.shipped("classifier", "digits").train(digits)
    logits = networks.predict_logits(trained, digits.test_images)
    assert np.mean(logits.argmax(axis=1) == digits.test_labels) >= 0.96
    assert len(history["loss"]) == 40


# --- what networks say -----------------------------------------------------------------------------


def test_logits_do_not_depend_on_the_batches(digits: data.Dataset, model: keras.Model) -> None:
    images = digits.test_images[:50]
    whole = networks.predict_logits(model, images)
    assert whole.shape == (50, 10)
    assert whole.dtype == np.float32
    for batch_size in (1, 7, 50, 1000):
        parts = networks.predict_logits(model, images, batch_size=batch_size)
        np.testing.assert_allclose(parts, whole, atol=1e-4)


def test_activations_are_those_of_the_layers(digits: data.Dataset, model: keras.Model) -> None:
    images = digits.test_images[:5]
    found = networks.activations(model, images)
    assert list(found) == ["conv1", "conv2", "conv3", "flatten", "logits"]
    np.testing.assert_allclose(found["logits"], networks.predict_logits(model, images), atol=1e-4)
    np.testing.assert_array_equal(found["flatten"], found["conv3"].reshape(5, -1))
    assert all(found[name].min() == 0 for name in ("conv1", "conv2", "conv3"))
    some = networks.activations(model, images, layers=["conv3", "conv1"], batch_size=2)
    assert list(some) == ["conv3", "conv1"]
    np.testing.assert_allclose(some["conv1"], found["conv1"], atol=1e-5)
    one = networks.activations(model, images, layers=["logits"])
    np.testing.assert_array_equal(one["logits"], found["logits"])


def test_activations_of_a_sequential_model_by_hand() -> None:
    model = keras.Sequential(
        [keras.Input((2, 2, 1)), keras.layers.Flatten(name="flat"), keras.layers.Dense(1, name="sum")]
    )
    model.set_weights([np.ones((4, 1)), np.zeros(1)])
    images = np.array([[[0.1], [0.2]], [[0.3], [0.4]]], np.float32)[None]
    found = networks.activations(model, images)
    np.testing.assert_allclose(found["flat"], [[0.1, 0.2, 0.3, 0.4]])
    np.testing.assert_allclose(found["sum"], [[1.0]])


def test_correctly_classified(digits: data.Dataset, model: keras.Model) -> None:
    images, labels = digits.test_images, digits.test_labels.copy()
    right = np.flatnonzero((labels == 2) & (networks.predict_logits(model, images).argmax(axis=1) == 2))
    labels[right[0]] = 3  # now a mistake, and not a 2
    found = networks.correctly_classified(model, images, labels, digit=2, count=5)
    np.testing.assert_array_equal(found, right[1:6])
    with pytest.raises(ValueError, match=f"count must be at most {len(right) - 1}"):
        networks.correctly_classified(model, images, labels, digit=2, count=len(right))


def test_many_networks_and_sizes_cause_no_warning_of_tensorflow_s(digits: data.Dataset) -> None:
    messages = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    handler = Handler()
    tf.get_logger().addHandler(handler)
    try:
        for seed in range(7):
            network = networks.classifier.build(seed=seed)
            for count in (3, 8, 20):
                images, labels = digits.test_images[:count], digits.test_labels[:count]
                networks.predict_logits(network, images)
                networks.activations(network, images)
                attacks.fgsm(network, images, labels, epsilon=0.1)
        activations.largest_stretch(network, images, layers=["conv1", "logits"], iterations=1)
    finally:
        tf.get_logger().removeHandler(handler)
    assert not messages
