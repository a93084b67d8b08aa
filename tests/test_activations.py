"""Changes of activations: by hand on small networks, and against NumPy on the book's."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from advlib import activations, attacks, data, networks
from tests.models import convolutional

LAYERS = ["conv1", "conv2", "conv3", "flatten", "logits"]


def by_hand(kind: str) -> keras.Model:
    """On 2 × 2 pixels: two filters, x and 1 - x after ReLU, and two logits: their sums, doubled."""
    layers = [
        keras.layers.Conv2D(2, 1, activation="relu", name="pair"),
        keras.layers.Flatten(name="flat"),
        keras.layers.Dense(2, name="sums"),
    ]
    if kind == "sequential":
        model = keras.Sequential([keras.Input((2, 2, 1)), *layers])
    else:
        inputs = keras.Input((2, 2, 1))
        outputs = inputs
        for layer in layers:
            outputs = layer(outputs)
        model = keras.Model(inputs, outputs)
    model.set_weights(
        [np.array([[[[1, -1]]]]), np.array([0, 1]), 2 * np.tile(np.eye(2), (4, 1)), np.zeros(2)]
    )
    return model


every_kind = pytest.mark.parametrize("kind", ["functional", "sequential"])
BEFORE = np.array([[[0.0, 0.4], [0.0, 0.0]]], np.float32)[..., None]
AFTER = np.array([[[0.3, 0.0], [0.0, 0.0]]], np.float32)[..., None]


@every_kind
def test_changes_by_hand(kind: str) -> None:
    found = activations.layer_changes(by_hand(kind), BEFORE, AFTER)
    assert list(found) == ["input", "pair", "flat", "sums"]
    np.testing.assert_allclose(found["input"], [[0.4], [0.5]], rtol=1e-6)
    # Filter x: (0, 0.4, 0, 0), change (0.3, -0.4, 0, 0); filter 1 - x: (1, 0.6, 1, 1), the opposite.
    before = np.sqrt(0.4**2 + 3 + 0.6**2)
    for name in ("pair", "flat"):
        np.testing.assert_allclose(np.ravel(found[name]), [before, np.sqrt(0.5)], rtol=1e-6)
    # Logits: 2 × 0.4 and 2 × 3.6, then 2 × 0.3 and 2 × 3.7.
    np.testing.assert_allclose(found["sums"].before, [np.hypot(0.8, 7.2)], rtol=1e-6)
    np.testing.assert_allclose(found["sums"].change, [np.hypot(0.2, 0.2)], rtol=1e-5)


@every_kind
def test_filters_and_maps_by_hand(kind: str) -> None:
    model = by_hand(kind)
    found = activations.filter_changes(model, BEFORE, AFTER)
    assert list(found) == ["pair"]  # the others have no filters
    np.testing.assert_allclose(found["pair"].before, np.array([[0.4, np.sqrt(3.36)]]), rtol=1e-6)
    np.testing.assert_allclose(found["pair"].change, np.array([[0.5, 0.5]]), rtol=1e-6)
    maps = activations.change_maps(model, BEFORE, AFTER)
    assert list(maps) == ["pair"]
    # The larger of the change and its opposite, at each pixel.
    np.testing.assert_allclose(maps["pair"], np.array([[[0.3, 0.4], [0, 0]]]), atol=1e-6)
    # With one filter alone the map keeps the sign.
    model.get_layer("pair").set_weights([np.array([[[[1, 0]]]]), np.array([0, -9])])
    maps = activations.change_maps(model, BEFORE, AFTER, layers=["pair"])
    np.testing.assert_allclose(maps["pair"], np.array([[[0.3, 0], [0, 0]]]), atol=1e-6)
    model.get_layer("pair").set_weights([np.array([[[[1, 1]]]]), np.zeros(2)])
    maps = activations.change_maps(model, BEFORE, AFTER, layers=["pair"])
    np.testing.assert_allclose(maps["pair"], np.array([[[0.3, -0.4], [0, 0]]]), atol=1e-6)


@every_kind
def test_largest_stretch_by_hand(kind: str) -> None:
    images = np.full((2, 2, 2, 1), 0.5, np.float32)
    found = activations.largest_stretch(by_hand(kind), images, iterations=5)
    assert list(found) == ["pair", "flat", "sums"]
    # Each pixel goes into x and -x: √2. The sums of four, doubled: 2 · √4.
    for name, value in {"pair": np.sqrt(2), "flat": 1, "sums": 4}.items():
        np.testing.assert_allclose(found[name], [value, value], rtol=1e-5)
    whole = activations.largest_stretch(by_hand(kind), images, layers=["sums"], iterations=5)
    np.testing.assert_allclose(whole["sums"], 4 * np.sqrt(2), rtol=1e-5)


def test_largest_stretch_is_the_largest_singular_value(digits: data.Dataset, model: keras.Model) -> None:
    small = convolutional((6, 5, 2), filters=3, classes=4, seed=2)
    images = np.random.default_rng(0).random((3, 6, 5, 2), np.float32)
    last = small.layers[-1].name
    found = activations.largest_stretch(small, images, layers=[last], iterations=200, batch_size=2)
    x = tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(x)
        logits = small(x)
    jacobian = tape.batch_jacobian(logits, x).numpy().reshape(3, 4, -1)
    expected = np.linalg.svd(jacobian, compute_uv=False)[:, 0]
    np.testing.assert_allclose(found[last], expected, rtol=1e-4)
    # No small change is stretched more, and power iteration gets there from below.
    clean = digits.test_images[:20]
    bound = activations.largest_stretch(model, clean, layers=["logits"], iterations=100)["logits"]
    coarse = activations.largest_stretch(model, clean, layers=["logits"], iterations=2)["logits"]
    assert (coarse <= bound * (1 + 1e-5)).all()
    nudged = attacks.gaussian_noise(model, clean, np.zeros(20, int), l2=1e-3, seed=0).images
    change = activations.layer_changes(model, clean, nudged, layers=["logits"])
    assert (change["logits"].change / change["input"].change < bound).all()


def test_no_change_is_zero_everywhere(digits: data.Dataset, model: keras.Model) -> None:
    images = digits.test_images[:7]
    same = attacks.gaussian_noise(model, images, np.zeros(7, int), l2=0.0, seed=0).images
    for each in activations.layer_changes(model, images, same).values():
        np.testing.assert_array_equal(each.change, np.zeros(7))
        assert (each.before > 0).all()
    for each in activations.filter_changes(model, images, same).values():
        assert not each.change.any()
    for maps in activations.change_maps(model, images, same).values():
        assert not maps.any()


@pytest.mark.parametrize("batch_size", [3, 100])
def test_agrees_with_numpy(batch_size: int, digits: data.Dataset, model: keras.Model) -> None:
    images, labels = digits.test_images[:8], digits.test_labels[:8]
    changed = attacks.fgsm(model, images, labels, epsilon=0.2).images
    before, after = (networks.activations(model, some) for some in (images, changed))
    found = activations.layer_changes(model, images, changed, batch_size=batch_size)
    assert list(found) == ["input", *LAYERS]
    for name in LAYERS:
        flat, flat_after = (values[name].reshape(8, -1) for values in (before, after))
        np.testing.assert_allclose(found[name].before, np.linalg.norm(flat, axis=1), rtol=1e-4)
        np.testing.assert_allclose(
            found[name].change, np.linalg.norm(flat_after - flat, axis=1), rtol=1e-3
        )
    by_filter = activations.filter_changes(model, images, changed, batch_size=batch_size)
    maps = activations.change_maps(model, images, changed, batch_size=batch_size)
    assert list(by_filter) == list(maps) == LAYERS[:3]
    for name in LAYERS[:3]:
        for part, whole in zip(by_filter[name], found[name], strict=True):
            np.testing.assert_allclose(np.sqrt((part**2).sum(axis=1)), whole, rtol=1e-6)
        difference = after[name] - before[name]
        np.testing.assert_allclose(
            by_filter[name].change, np.sqrt((difference**2).sum(axis=(1, 2))), rtol=1e-3, atol=1e-5
        )
        np.testing.assert_allclose(maps[name], difference.max(axis=3), atol=1e-4)


def test_largest_stretch_follows_its_seed_and_not_its_batches(
    digits: data.Dataset, model: keras.Model
) -> None:
    images = digits.test_images[:7]
    first, same, other = (
        activations.largest_stretch(model, images, iterations=1, seed=seed, batch_size=size)
        for seed, size in ((1, 7), (1, 3), (2, 7))
    )
    assert list(first) == LAYERS
    for name in LAYERS:
        np.testing.assert_allclose(first[name], same[name], rtol=1e-4)
        assert name == "flatten" or not np.allclose(first[name], other[name], rtol=1e-4)


def test_layers_that_act_otherwise_in_training_do_not_here() -> None:
    inputs = keras.Input((4, 4, 1))
    x = keras.layers.Dropout(0.9, seed=0, name="drop")(inputs)
    model = keras.Model(inputs, keras.layers.BatchNormalization(name="norm")(x))
    images, changed = np.random.default_rng(0).random((2, 3, 4, 4, 1), np.float32)
    found = activations.layer_changes(model, images, changed)
    np.testing.assert_allclose(found["drop"], found["input"], rtol=1e-6)
    stretch = activations.largest_stretch(model, images, iterations=2)
    np.testing.assert_allclose(stretch["drop"], 1, rtol=1e-6)
    np.testing.assert_array_equal(networks.activations(model, images)["drop"], images)


@pytest.mark.parametrize("dtype", ["mixed_float16", "float64"])
def test_other_precisions(dtype: str) -> None:
    inputs = keras.Input((4, 4, 1))
    start = keras.initializers.GlorotUniform(1)
    conv = keras.layers.Conv2D(3, 2, kernel_initializer=start, dtype=dtype, name="conv")(inputs)
    model = keras.Model(inputs, keras.layers.Flatten(name="flat", dtype=dtype)(conv))
    images, changed = np.random.default_rng(0).random((2, 3, 4, 4, 1), np.float32)
    found = activations.layer_changes(model, images, changed)
    assert all(each.change.dtype == np.float64 for each in found.values())
    assert activations.change_maps(model, images, changed)["conv"].dtype == np.float32
    stretch = activations.largest_stretch(model, images, iterations=20)
    assert (found["conv"].change / found["input"].change < stretch["conv"] * 1.01).all()
    np.testing.assert_allclose(stretch["flat"], 1, rtol=1e-2)


def test_a_layer_without_a_derivative_stretches_nothing() -> None:
    inputs = keras.Input((4, 4, 1))
    x = keras.layers.Lambda(lambda x: keras.ops.round(x), name="round")(inputs)
    found = activations.largest_stretch(keras.Model(inputs, x), np.ones((2, 4, 4, 1), np.float32))
    np.testing.assert_array_equal(found["round"], [0, 0])


def test_models_without_a_chain_of_layers() -> None:
    inputs = keras.Input((4, 4, 1))
    first = keras.layers.Conv2D(2, 1, name="first")(inputs)
    second = keras.layers.Conv2D(2, 1, name="second")(first)
    model = keras.Model(inputs, keras.layers.Add(name="sum")([first, second]))
    images = np.ones((2, 4, 4, 1), np.float32)
    with pytest.raises(ValueError, match="sum does not lie behind second alone"):
        activations.largest_stretch(model, images)
    with pytest.raises(ValueError, match="first does not lie behind second alone"):
        activations.largest_stretch(model, images, layers=["second", "first"])
    assert list(activations.largest_stretch(model, images, layers=["first", "sum"])) == ["first", "sum"]
    assert list(activations.layer_changes(model, images, images))[1:] == ["first", "second", "sum"]


def test_models_that_cannot_be_looked_into(model: keras.Model) -> None:
    images = np.ones((2, 28, 28, 1), np.float32)
    unbuilt = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(2)])
    bad: Any
    with pytest.raises(
        ValueError, match=r"model must be functional, .* got Sequential: it is not built"
    ):
        networks.extractor(unbuilt)
    for bad, kind in ((None, "NoneType"), (lambda x: x, "function")):
        with pytest.raises(ValueError, match=f"model must be a Keras model, got {kind}"):
            networks.extractor(bad)
    inputs = keras.Input((28, 28, 1))
    two = keras.layers.Lambda(lambda x: [x, 2 * x], name="two")(inputs)
    model_of_two = keras.Model(inputs, keras.layers.Add(name="both")(two))
    with pytest.raises(ValueError, match="layers must have one output each, which two have not"):
        activations.layer_changes(model_of_two, images, images)
    named = keras.Model(inputs, keras.layers.Rescaling(3.0, name="input")(inputs))
    with pytest.raises(ValueError, match='layers must not be called "input"'):
        activations.layer_changes(named, images, images)
    with pytest.raises(ValueError, match='layers must not be called "input"'):
        activations.largest_stretch(named, images)
    flat = keras.Sequential([inputs, keras.layers.Flatten(name="flat")])
    with pytest.raises(ValueError, match="model must have layers with outputs"):
        activations.change_maps(flat, images, images)


FUNCTIONS: dict[str, Any] = {
    "layer_changes": lambda model, x, **more: activations.layer_changes(model, x, x, **more),
    "filter_changes": lambda model, x, **more: activations.filter_changes(model, x, x, **more),
    "change_maps": lambda model, x, **more: activations.change_maps(model, x, x, **more),
    "largest_stretch": activations.largest_stretch,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_layers_are_found_by_name(name: str, digits: data.Dataset, model: keras.Model) -> None:
    images = digits.test_images[:2]
    found = FUNCTIONS[name](model, images, layers=["conv1", "conv3"])
    assert [layer for layer in found if layer != "input"] == ["conv1", "conv3"]
    listed = "layers must be among conv1, conv2, conv3, flatten, logits, got"
    for bad in (["conv4"], ["conv1", "images"], [], ["conv1", "relu"]):
        with pytest.raises(ValueError, match=listed):
            FUNCTIONS[name](model, images, layers=bad)
    with pytest.raises(ValueError, match="batch_size must be a whole number"):
        FUNCTIONS[name](model, images, batch_size=0)
    with pytest.raises(ValueError, match="images must be float32"):
        FUNCTIONS[name](model, images.astype(float))
    with pytest.raises(ValueError, match=r"images must have shape \(n, 28, 28, 1\)"):
        FUNCTIONS[name](model, images[:, :9])


def test_other_bad_input(digits: data.Dataset, model: keras.Model) -> None:
    images = digits.test_images[:2]
    for function in (
        *(activations.layer_changes, activations.filter_changes),
        activations.change_maps,
    ):
        with pytest.raises(ValueError, match="changed must have the shape of images"):
            function(model, images, images[:1])
        with pytest.raises(ValueError, match="changed must be finite"):
            function(model, images, images + 1)
    for function in (activations.filter_changes, activations.change_maps):
        with pytest.raises(
            ValueError, match=r"layers must have outputs .* which flatten, logits have not"
        ):
            function(model, images, images, layers=["conv1", "flatten", "logits"])
    with pytest.raises(ValueError, match="iterations must be a whole number of at least 1"):
        activations.largest_stretch(model, images, iterations=0)
    with pytest.raises(ValueError, match="seed must be a whole number of at least 0"):
        activations.largest_stretch(model, images, seed=-1)
