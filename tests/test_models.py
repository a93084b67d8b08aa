"""What is asked of every model, by whatever takes one."""

import types
from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from advlib import _models, attacks, data, detection, networks
from tests.models import linear
from tests.registry import ATTACKS, takes

SHAPE = (5, 4, 1)
IMAGES = np.random.default_rng(0).random((12, *SHAPE), np.float32)
AUTOENCODER = keras.Sequential([keras.Input(SHAPE), keras.layers.Identity()])


def logits_layer(**options: Any) -> keras.layers.Layer:
    return keras.layers.Dense(3, kernel_initializer=keras.initializers.GlorotUniform(1), **options)


def model_of(make: Callable[[Any], Any]) -> keras.Model:
    """Of a function of flattened images."""
    inputs = keras.Input(SHAPE)
    return keras.Model(inputs, make(keras.layers.Flatten()(inputs)))


LABELS = np.asarray(model_of(logits_layer())(IMAGES)).argmax(axis=1)


def score(images: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(images, axis=(1, 2, 3))


def attack(name: str, model: Any) -> Any:
    return ATTACKS[name](model, IMAGES, LABELS)


# Everything that takes a model that gives logits; and the name that it is called by.
ENTRIES: dict[str, tuple[Callable[[Any], Any], str]] = {
    **{name: (partial(attack, name), "model") for name in ATTACKS},
    "adaptive_pgd": (
        lambda model: attacks.adaptive_pgd(
            model, IMAGES, LABELS, score=score, threshold=9, epsilon=0.1, step_size=0.1, steps=1, seed=0
        ),
        "model",
    ),
    "predict_logits": (lambda model: networks.predict_logits(model, IMAGES), "model"),
    "correctly_classified": (
        lambda model: networks.correctly_classified(
            model, IMAGES, LABELS, digit=int(LABELS[0]), count=1
        ),
        "model",
    ),
    "measure": (lambda model: detection.measure(model, AUTOENCODER, IMAGES), "classifier"),
    "calibrate": (
        lambda model: detection.Detector(model, AUTOENCODER).calibrate(IMAGES, false_positive_rate=0.2),
        "classifier",
    ),
}
every_entry = pytest.mark.parametrize("entry", ENTRIES)


class Called(keras.Model):
    """A model whose `call` is a function of the images."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__()
        self.function = function
        self.inner = model_of(logits_layer())

    def call(self, inputs: Any, training: bool = False) -> Any:
        return self.function(self.inner(inputs))


class Noise(keras.layers.Layer):
    """Adds noise that is drawn anew at each call."""

    def __init__(self, size: float) -> None:
        super().__init__()
        self.size = size
        self.seeds = keras.random.SeedGenerator(1)

    def call(self, inputs: Any) -> Any:
        return inputs + self.size * keras.random.normal(keras.ops.shape(inputs), seed=self.seeds)


class Counting(keras.Model):
    """Answers otherwise each time, and draws nothing: it keeps a state."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = model_of(logits_layer())
        self.count = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, inputs: Any, training: bool = False) -> Any:
        self.count.assign_add(1.0)
        return self.inner(inputs) * self.count


def softmax(dtype: str) -> keras.Model:
    return model_of(lambda x: keras.layers.Softmax(dtype=dtype)(logits_layer(dtype=dtype)(x)))


def of_old_keras() -> Any:
    """What `tf_keras.Model` looks like from here."""
    old = types.new_class("Model")
    old.__module__ = "tf_keras.src.engine.training"
    functional = types.new_class("Functional", (old,))
    functional.__module__ = "tf_keras.src.engine.functional"
    return functional()


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "a function": (lambda: lambda images: images, "must be a Keras model, got function"),
    "an old Keras's": (of_old_keras, r"must be a Keras 3 model, got one of an older Keras \(tf_keras\)"),
    "an image's": (
        lambda: keras.Sequential([keras.Input(SHAPE), keras.layers.Identity()]),
        r"must return logits of shape \(n, classes\), with two classes at least, got \(n, 5, 4, 1\)",
    ),
    "one class": (lambda: model_of(keras.layers.Dense(1)), r"two classes at least, got \(n, 1\)"),
    "two outputs": (
        lambda: model_of(lambda x: [logits_layer()(x), logits_layer()(x)]),
        r"must return logits \(n, classes\) in one tensor, got a list of 2",
    ),
    "a dict": (lambda: Called(lambda x: {"logits": x}), "in one tensor, got a dict of logits"),
    "a tuple of one": (lambda: Called(lambda x: (x,)), "in one tensor, got a tuple of 1"),
    "classes": (
        lambda: Called(lambda x: tf.cast(x > 0, tf.int32)),
        "must return logits .* floating-point, .* got int32",
    ),
    "half of the rows": (lambda: Called(lambda x: x[::2]), "one row an image, got float32 of shape"),
    "other images": (
        lambda: Called(lambda x: tf.reshape(x, (7, 7))),
        r"must take images of shape \(n, 5, 4, 1\), but calling it on some failed: .*[Rr]eshape",
    ),
    "no numbers": (lambda: Called(lambda x: x / 0.0 - x / 0.0), "must return finite logits, got nan"),
    "infinite": (lambda: Called(lambda x: tf.exp(1e5 + x)), "must return finite logits, got inf"),
    **{
        f"softmax in {dtype}": (
            partial(softmax, dtype),
            "got probabilities: .* its softmax away",
        )
        for dtype in ("float32", "float64", "float16", "bfloat16", "mixed_float16", "mixed_bfloat16")
    },
    "softmax in bfloat16, then float32": (
        lambda: keras.Sequential(
            [softmax("bfloat16"), keras.layers.Activation("linear", dtype="float32")]
        ),
        "got probabilities",
    ),
    "softmax of two digits": (
        lambda: Called(lambda x: tf.round(100 * tf.nn.softmax(x)) / 100),
        "got probabilities",
    ),
    "percentages": (lambda: Called(lambda x: 100 * tf.nn.softmax(x)), "got probabilities"),
    **{
        f"a sigmoid, {way}": (partial(model_of, make), "got probabilities.*sigmoid")
        for way, make in {
            "in a layer": logits_layer(activation="sigmoid"),
            "a layer": lambda x: keras.layers.Activation("sigmoid")(logits_layer()(x)),
            "a function": lambda x: keras.ops.sigmoid(logits_layer()(x)),
            "hard": lambda x: keras.layers.Activation("hard_sigmoid")(logits_layer()(x)),
            "tensorflow's": lambda x: keras.layers.Activation(tf.sigmoid)(logits_layer()(x)),
            "in a lambda": lambda x: keras.layers.Lambda(tf.sigmoid)(logits_layer()(x)),
            "then float32": lambda x: keras.layers.Activation("linear", dtype="float32")(
                logits_layer(activation="sigmoid")(x)
            ),
            "behind a branch": lambda x: logits_layer(activation="sigmoid")(
                keras.layers.Add()([x, keras.layers.Dense(20)(x)])
            ),
            "in a model inside": lambda x: keras.Sequential(
                [keras.Input((20,)), logits_layer(activation="sigmoid"), keras.layers.Dropout(0.5)]
            )(x),
        }.items()
    },
    "noise": (
        lambda: keras.Sequential([keras.Input(SHAPE), Noise(0.3), *model_of(logits_layer()).layers[1:]]),
        "must answer the same images the same way again, got answers that differ by",
    ),
    "noise of half a grey level": (
        lambda: keras.Sequential(
            [keras.Input(SHAPE), Noise(0.002), *model_of(logits_layer()).layers[1:]]
        ),
        "must answer the same images the same way again",
    ),
    "noise in bfloat16": (
        lambda: keras.Sequential(
            [
                keras.Input(SHAPE),
                Noise(0.3),
                keras.layers.Flatten(),
                logits_layer(dtype="mixed_bfloat16"),
            ]
        ),
        "must answer the same images the same way again",
    ),
    "noise beside a masked class": (
        lambda: Called(
            lambda x: tf.concat([x[:, :2] + tf.random.normal(tf.shape(x[:, :2])), 0 * x[:, :1] - 1e9], 1)
        ),
        "must answer the same images the same way again",
    ),
    "noise on a common offset": (
        lambda: Called(lambda x: 1e5 + x + tf.random.normal(tf.shape(x))),
        "must answer the same images the same way again",
    ),
    "a state": (Counting, "must answer the same images the same way again"),
    "numpy's noise": (
        lambda: Called(lambda x: x + np.random.default_rng().normal()),
        "must answer the same images the same way again",
    ),
}


@every_entry
@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_model_of_logits_is_refused(entry: str, kind: str) -> None:
    make, message = REFUSED[kind]
    call, name = ENTRIES[entry]
    with pytest.raises(ValueError, match=f"^{name} .*{message}"):
        call(make())


GOOD: dict[str, Callable[[Any], Any]] = {
    "a constant": lambda x: 0 * x + [1.0, 2.0, 3.0],
    "positive": lambda x: tf.nn.softplus(x),
    "with zeros": lambda x: tf.nn.relu(x),
    "of a constant sum": lambda x: 3 - tf.reduce_mean(x, axis=1, keepdims=True) + x,
    "tiny": lambda x: 1e-20 * x,
    "huge": lambda x: 1e20 * x,
    "a masked class": lambda x: tf.concat([x[:, :2], 0 * x[:, :1] - 1e9], 1),
    "an offset": lambda x: 1e4 + x,
    "of log-probabilities": lambda x: tf.nn.log_softmax(x),
    "bounded": lambda x: tf.tanh(x),
}


@pytest.mark.parametrize("kind", GOOD)
def test_logits_of_all_kinds_are_taken(kind: str) -> None:
    model = Called(GOOD[kind])
    assert _models.check_logits(model, IMAGES, traced=True) == 3
    result = attacks.iterative_fgsm(model, IMAGES, LABELS, epsilon=0.3, step_size=0.1, steps=5)
    found = np.asarray(model(result.images)).argmax(axis=1)
    np.testing.assert_array_equal(result.success, found != LABELS)


def test_a_change_beside_a_masked_class_is_seen(tmp_path: Any) -> None:
    sign = tmp_path / "sign"  # a file: nothing that the model is made of changes

    def masked(x: Any) -> Any:
        return tf.concat([float(sign.read_text()) * x[:, :2], 0 * x[:, :1] - 1e9], 1)

    sign.write_text("1")
    model = Called(masked)
    for value in ("1", "-1"):
        sign.write_text(value)
        labels = np.asarray(model(IMAGES)).argmax(axis=1)
        result = attacks.iterative_fgsm(model, IMAGES, labels, epsilon=0.9, step_size=0.2, steps=9)
        found = np.asarray(model(result.images)).argmax(axis=1)
        np.testing.assert_array_equal(result.success, found != labels)
        assert result.success.mean() > 0.5


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
def test_success_in_half_precision_is_the_model_s(
    dtype: str, digits: data.Dataset, model: keras.Model
) -> None:
    half = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            *(keras.layers.Conv2D(n, 3, strides=2, activation="relu", dtype=dtype) for n in (8, 8)),
            keras.layers.Flatten(dtype=dtype),
            keras.layers.Dense(10, dtype=dtype),
        ]
    )
    images = digits.test_images[:200]
    labels = np.asarray(half(images)).argmax(axis=1)
    result = attacks.iterative_fgsm(
        half, images, labels, epsilon=0.3, step_size=0.001, steps=60, early_stop=True
    )
    found = networks.predict_logits(half, result.images).argmax(axis=1)
    np.testing.assert_array_equal(result.success, found != labels)


def test_a_model_that_cannot_be_compiled_is_refused_by_attacks_alone() -> None:
    for function in (lambda x: x + x.numpy().mean(), lambda x: x if tf.reduce_mean(x) > 0 else 2 * x):
        model = Called(function)
        networks.predict_logits(model, IMAGES)
        with pytest.raises(
            ValueError, match=r"model must work also when it is compiled by tf\.function"
        ):
            attacks.fgsm(model, IMAGES, LABELS, epsilon=0.1)


def test_a_model_of_which_a_trace_cannot_tell_the_classes() -> None:
    model = Called(lambda x: tf.numpy_function(lambda values: values, [x], tf.float32))
    result = attacks.random_noise(model, IMAGES, LABELS, epsilon=0.5, seed=0)
    found = np.asarray(model(result.images)).argmax(axis=1)
    np.testing.assert_array_equal(result.success, found != LABELS)


@every_entry
@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16", "mixed_bfloat16"])
def test_models_of_any_precision_are_taken(entry: str, dtype: str) -> None:
    call, _ = ENTRIES[entry]
    model = model_of(logits_layer(dtype=dtype))
    model.set_weights(model_of(logits_layer()).get_weights())
    call(model)


@settings(deadline=None, max_examples=40)
@given(
    st.integers(2, 300),
    st.floats(0.01, 100),
    st.sampled_from(["float32", "float16", "bfloat16"]),
    st.integers(0, 2**32 - 1),
)
def test_probabilities_of_any_number_of_classes(
    classes: int, scale: float, dtype: str, seed: int
) -> None:
    random = np.random.default_rng(seed)
    weights = (scale * random.normal(size=(20, classes))).astype(np.float32)
    plain = linear(weights, np.zeros(classes, np.float32), SHAPE)
    assert _models.check_logits(plain, IMAGES) == classes
    softened = keras.Sequential([plain, keras.layers.Softmax(dtype=dtype)])
    with pytest.raises(ValueError, match="model must return logits, got probabilities"):
        _models.check_logits(softened, IMAGES)


@pytest.mark.parametrize("dtype", ["float64", "float16", "mixed_bfloat16"])
def test_logits_come_in_float32(dtype: str) -> None:
    assert networks.predict_logits(model_of(logits_layer(dtype=dtype)), IMAGES).dtype == np.float32


def drawing() -> keras.Model:
    """Noise that decides on many of the predictions."""
    layers = [keras.Input(SHAPE), Noise(0.3), *model_of(logits_layer()).layers[1:]]
    return keras.Sequential(layers)


@pytest.mark.parametrize("name", ATTACKS)
def test_a_model_that_draws_is_attacked_where_the_caller_says_so(name: str) -> None:
    model = drawing()
    images = np.random.default_rng(1).random((400, *SHAPE), np.float32)
    labels = np.mean([networks.predict_logits(model, images, randomized=True) for _ in range(30)], 0)
    labels = labels.argmax(axis=1)
    if targeted := takes(name, "targets"):
        labels = (labels + 1) % 3
    result = ATTACKS[name](model, images, labels, randomized=True)
    assert result.randomized is True
    assert ATTACKS[name](linear(np.eye(20, 3), np.zeros(3), SHAPE), images, labels).randomized is False
    # What is claimed of one more draw is true of others.
    again = [
        (networks.predict_logits(model, result.images, randomized=True).argmax(axis=1) == labels)
        == targeted
        for _ in range(20)
    ]
    spread = np.sqrt(0.25 / 400)
    assert abs(result.success.mean() - np.mean(again)) < 5 * spread
    both = attacks.concatenate([result, result])
    assert both.randomized is True
    with pytest.raises(ValueError, match="randomized must be True or False, got 'yes'"):
        ATTACKS[name](model, images, labels, randomized="yes")


# --- autoencoders ----------------------------------------------------------------------------------


def image_model(make: Callable[[Any], Any]) -> keras.Model:
    inputs = keras.Input(SHAPE)
    return keras.Model(inputs, make(inputs))


class Sampling(keras.Model):
    """Decodes drawn latents, as many autoencoders do."""

    def __init__(self) -> None:
        super().__init__()
        self.noise = Noise(0.1)

    def call(self, inputs: Any, training: bool = False) -> Any:
        return keras.ops.sigmoid(self.noise(inputs))


BAD_AUTOENCODERS: dict[str, tuple[Callable[[], Any], str]] = {
    "a function": (lambda: lambda images: images, "must be a Keras model, got function"),
    "an old Keras's": (of_old_keras, "must be a Keras 3 model"),
    "several": (
        lambda: image_model(lambda x: [x, keras.layers.Flatten()(x)]),
        r"must return images of shape \(5, 4, 1\) in one tensor, got a list of 2",
    ),
    "a dict": (
        lambda: image_model(lambda x: {"image": x}),
        r"must return images of shape \(5, 4, 1\) in one tensor, got a dict of image",
    ),
    "another shape": (
        lambda: image_model(keras.layers.Flatten()),
        r"must return images of shape \(5, 4, 1\), got \(20,\)",
    ),
    "without a sigmoid": (
        lambda: image_model(keras.layers.Rescaling(1.4, -0.2)),
        r"must return images in \[0, 1\], got values from -0.*: end it in a sigmoid",
    ),
    "a little below 0": (
        lambda: image_model(keras.layers.Rescaling(0.9, -0.01)),
        r"must return images in \[0, 1\]",
    ),
    "0 to 255": (lambda: image_model(keras.layers.Rescaling(255.0)), r"must return images in \[0, 1\]"),
    "no numbers": (
        lambda: image_model(keras.layers.Lambda(lambda x: x + np.nan)),
        "must return finite images, got nan",
    ),
    "a sample": (Sampling, "must answer the same images the same way again"),
}


@pytest.mark.parametrize("kind", BAD_AUTOENCODERS)
def test_what_makes_no_images_of_images_is_refused(kind: str) -> None:
    make, message = BAD_AUTOENCODERS[kind]
    model = model_of(logits_layer())
    for call in (
        lambda: detection.measure(model, make(), IMAGES),
        lambda: detection.Detector(model, make()).calibrate(IMAGES, false_positive_rate=0.2),
    ):
        with pytest.raises(ValueError, match=f"^autoencoder {message}") as caught:
            call()
        assert len(str(caught.value)) < 200


def test_the_shipped_networks_pass(digits: data.Dataset, model: keras.Model) -> None:
    assert _models.check_logits(model, digits.test_images, traced=True) == 10
    for latent in networks.latents("digits"):
        _models.check_autoencoder(
            networks.pretrained("vae", "digits", latent=latent), digits.test_images
        )
