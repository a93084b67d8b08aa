"""Models are read through their own graphs, whatever else uses their layers."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from advlib import _graph, activations, networks
from advlib.attacks import _candidates

SHAPE = (8, 8, 1)
IMAGES = np.random.default_rng(0).random((4, *SHAPE), np.float32)


def shared() -> dict[str, Any]:
    """Layers that models may share, for maps of any size."""
    layers = keras.layers
    start = keras.initializers.GlorotUniform(3)
    return {
        "conv": layers.Conv2D(2, 3, padding="same", activation="relu", kernel_initializer=start),
        "flat": layers.Flatten(),
        "logits": layers.Dense(5, kernel_initializer=start),
    }


def front(kind: str) -> keras.layers.Layer:
    return {
        "rounded": keras.layers.Lambda(tf.round, name="front"),
        "doubled": keras.layers.Rescaling(2.0, name="front"),
        "inverted": keras.layers.Rescaling(-1.0, 1.0, name="front"),
    }[kind]


def assert_read(model: keras.Model, images: np.ndarray) -> None:
    """What is read of the last layer is what the model answers, and of each layer what it was given."""
    found = networks.activations(model, images)
    last = list(found)[-1]
    np.testing.assert_allclose(found[last], model(images, training=False), atol=1e-6)
    values = images
    for link in _graph.stack(model):
        values = link(tf.constant(values))
        if link.layer.name in found:
            np.testing.assert_allclose(found[link.layer.name], values, atol=1e-6)
    np.testing.assert_allclose(values, model(images, training=False), atol=1e-6)


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.sampled_from(["plain", "rounded", "doubled", "inverted"]), min_size=2, max_size=4),
    st.sampled_from(["functional", "sequential", "added"]),
    st.booleans(),
)
def test_models_that_share_layers(fronts: list[str], way: str, other_size: bool) -> None:
    parts = shared()
    if other_size:  # the convolution is first used on other maps
        parts["conv"](keras.Input((12, 12, 1)))
    models = []
    for kind in fronts:
        layers = [*([] if kind == "plain" else [front(kind)]), *parts.values()]
        if way == "functional":
            inputs = x = keras.Input(SHAPE)
            for layer in layers:
                x = layer(x)
            models.append(keras.Model(inputs, x))
        elif way == "sequential":
            models.append(keras.Sequential([keras.Input(SHAPE), *layers]))
        else:
            models.append(keras.Sequential())
            for layer in (keras.Input(SHAPE), *layers):
                models[-1].add(layer)
    for model in models:
        assert_read(model, IMAGES)
        changed = np.clip(IMAGES + np.float32(0.3), 0, 1)
        found = activations.layer_changes(model, IMAGES, changed)
        before, after = (networks.activations(model, some) for some in (IMAGES, changed))
        for name, values in before.items():
            difference = (after[name] - values).reshape(4, -1)
            np.testing.assert_allclose(
                found[name].change, np.linalg.norm(difference, axis=1), rtol=1e-4, atol=1e-6
            )


def test_layers_before_and_behind_a_model_inside() -> None:
    base = keras.Sequential(
        [keras.Input((None, None, 1)), keras.layers.Conv2D(3, 3, strides=2, name="conv")], name="base"
    )
    model = keras.Sequential(
        [
            keras.Input(SHAPE),
            keras.layers.Rescaling(0.5, name="scaled"),
            base,
            keras.layers.Flatten(name="flat"),
            keras.layers.Dense(2, name="logits"),
        ]
    )
    assert_read(model, IMAGES)
    found = networks.activations(model, IMAGES)
    assert list(found) == ["scaled", "base", "flat", "logits"]
    np.testing.assert_allclose(found["base"], base(0.5 * IMAGES), atol=1e-6)
    stretch = activations.largest_stretch(model, IMAGES, iterations=30)
    assert list(stretch) == list(found)
    np.testing.assert_allclose(stretch["scaled"], 0.5, rtol=1e-5)
    with pytest.raises(
        ValueError, match=r"layers must be among scaled, base, .*\('conv' is inside base"
    ):
        networks.extractor(model, ["conv"])


def test_a_layer_that_is_used_again_has_a_name_for_each_use() -> None:
    inputs = keras.Input(SHAPE)
    layer = keras.layers.Conv2D(1, 3, padding="same", name="conv")
    model = keras.Model(inputs, layer(layer(layer(inputs))))
    found = networks.activations(model, IMAGES)
    assert list(found) == ["conv", "conv:2", "conv:3"]
    np.testing.assert_allclose(found["conv:2"], layer(layer(IMAGES)), atol=1e-6)
    np.testing.assert_allclose(found["conv:3"], model(IMAGES), atol=1e-6)
    again = networks.activations(model, IMAGES, layers=["conv:3", "conv"])
    assert list(again) == ["conv:3", "conv"]
    assert list(activations.largest_stretch(model, IMAGES, iterations=2)) == list(found)


def test_looking_into_a_model_leaves_no_trace_in_it() -> None:
    model = networks.classifier.build(seed=1)
    images = np.ones((2, 28, 28, 1), np.float32)
    uses = {layer.name: len(layer._inbound_nodes) for layer in model.layers}
    for _ in range(2):
        networks.activations(model, images)
        activations.largest_stretch(model, images, iterations=1)
        _candidates.take_apart(model, (28, 28, 1))
    assert {layer.name: len(layer._inbound_nodes) for layer in model.layers} == uses


@settings(deadline=None, max_examples=20)
@given(st.data())
def test_branches_come_in_the_model_s_order(draw: st.DataObject) -> None:
    inputs = keras.Input((4,))
    values = [inputs]
    for number in range(8):
        first, second = (values[draw.draw(st.integers(0, len(values) - 1))] for _ in range(2))
        if draw.draw(st.booleans()):
            values.append(keras.layers.Dense(4, name=f"dense{number}")(first))
        else:
            values.append(keras.layers.Add(name=f"sum{number}")([first, second]))
    model = keras.Model(inputs, keras.layers.Concatenate(name="all")([values[-1], *values[2:6]]))
    names = [layer.name for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    assert list(_graph.named(model)) == names


def test_what_is_on_in_training_alone_is_off() -> None:
    # A model that is called with training=False says so to all its layers, whatever they were told.
    inputs = keras.Input(SHAPE)
    dropped = keras.layers.Dropout(0.9, name="drop")(inputs, training=True)
    model = keras.Model(inputs, keras.layers.Conv2D(2, 3, name="conv")(dropped))
    assert_read(model, IMAGES)
    np.testing.assert_array_equal(networks.activations(model, IMAGES)["drop"], IMAGES)
    stretch = activations.largest_stretch(model, IMAGES, iterations=3)
    np.testing.assert_allclose(stretch["drop"], 1, rtol=1e-5)


class Halved(keras.Model):
    """A functional model whose `call` is its own."""

    def call(self, inputs: Any, training: bool = False) -> Any:
        return super().call(inputs, training=training) / 2


class Written(keras.Model):
    """A model that is no graph at all."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(3)])

    def call(self, inputs: Any, training: bool = False) -> Any:
        return self.inner(inputs)


def halved() -> keras.Model:
    inputs = keras.Input(SHAPE)
    return Halved(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(inputs)))


def patched() -> keras.Model:
    model = keras.Sequential([keras.Input(SHAPE), keras.layers.Flatten(), keras.layers.Dense(3)])
    model.call = lambda inputs, training=False: -keras.layers.Flatten()(inputs)
    return model


def written() -> keras.Model:
    model = Written()
    model(IMAGES)
    return model


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (halved, "got Halved: what it computes is written in a `call` of its own"),
        (patched, "got Sequential: what it computes is written in a `call` of its own"),
        (written, "got Written: only then are its layers known"),
        (lambda: keras.Sequential([keras.layers.Flatten()]), "got Sequential: it is not built"),
    ],
)
def test_what_stands_in_no_graph_is_refused_with_the_reason(
    make: Callable[[], keras.Model], reason: str
) -> None:
    model = make()
    for call in (
        lambda: networks.activations(model, IMAGES),
        lambda: activations.layer_changes(model, IMAGES, IMAGES),
        lambda: activations.largest_stretch(model, IMAGES),
    ):
        with pytest.raises(ValueError, match=f"model must be functional, .*{reason}"):
            call()
    assert not _graph.stack(model)
    assert not _candidates.take_apart(model, SHAPE).convolutions


def test_a_model_inside_that_is_no_graph_is_one_layer() -> None:
    inner = Written()
    inputs = keras.Input(SHAPE)
    model = keras.Model(inputs, inner(keras.layers.Conv2D(2, 3, name="conv")(inputs)))
    assert_read(model, IMAGES)
    assert [link.layer.name for link in _graph.stack(model)] == ["conv", inner.name]


def test_recurrent_layers_are_looked_into() -> None:
    model = keras.Sequential(
        [
            keras.Input(SHAPE),
            keras.layers.Reshape((8, 8), name="rows"),
            keras.layers.LSTM(4, name="memory"),
            keras.layers.Dense(3, name="logits"),
        ]
    )
    assert_read(model, IMAGES)
    found = activations.largest_stretch(model, IMAGES, layers=["memory"], iterations=100)["memory"]
    x = tf.constant(IMAGES)
    with tf.GradientTape() as tape:
        tape.watch(x)
        values = model.get_layer("memory")(tf.reshape(x, (4, 8, 8)))
    jacobian = tape.batch_jacobian(values, x).numpy().reshape(4, 4, -1)
    np.testing.assert_allclose(found, np.linalg.svd(jacobian, compute_uv=False)[:, 0], rtol=1e-3)
