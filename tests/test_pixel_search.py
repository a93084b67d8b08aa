"""Few pixels: painting, windows against forward passes, evolution against SciPy's, the whole truth."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import differential_evolution
from scipy.stats import chisquare, mannwhitneyu
from tqdm import tqdm

from advlib import _traces, attacks, data, networks
from advlib.attacks import _candidates, _loop, _seeds, pixel_search
from tests.models import convolutional, linear

RANDOM = np.random.default_rng(5)
GREY, COLOUR = (9, 7, 1), (9, 7, 3)


@pytest.fixture(autouse=True)
def the_same_random_numbers_for_every_test() -> None:
    RANDOM.bit_generator.state = np.random.default_rng(5).bit_generator.state


def paint_one_by_one(
    images: np.ndarray, image: np.ndarray, place: np.ndarray, values: np.ndarray
) -> np.ndarray:
    """Painting as it is said: pixel after pixel."""
    painted = images[image].copy()
    for candidate, places, colours in zip(painted, place, values, strict=True):
        for where, colour in zip(places, colours, strict=True):
            candidate.reshape(-1, images.shape[3])[where] = colour
    return painted


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 12), st.sampled_from([1, 3]), st.integers(2, 12), st.integers(0, 2**32 - 1))
def test_painting_where_a_place_comes_twice(pixels: int, channels: int, places: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    images = random.random((3, 3, 4, channels), np.float32)
    image = random.integers(0, 3, 20).astype(np.int32)
    place = random.integers(0, places, (20, pixels)).astype(np.int32)
    values = random.random((20, pixels, channels), np.float32)
    painted = _candidates.paint(*(tf.constant(array) for array in (images, image, place, values)))
    np.testing.assert_array_equal(painted, paint_one_by_one(images, image, place, values))


# --- windows ---------------------------------------------------------------------------------------


def stack(shape: tuple[int, int, int], *layers: dict[str, Any], classes: int = 4) -> keras.Model:
    """Convolutions, then a dense layer, with fixed random weights and biases."""
    inputs = x = keras.Input(shape)
    for number, options in enumerate(layers):
        start = {
            f"{part}_initializer": keras.initializers.RandomNormal(0, 0.5, seed=2 * number + place)
            for place, part in enumerate(("kernel", "bias"))
        }
        x = keras.layers.Conv2D(**{"filters": 5, "activation": "relu", **start, **options})(x)
    start = keras.initializers.GlorotUniform(seed=99)
    logits = keras.layers.Dense(classes, kernel_initializer=start)(keras.layers.Flatten()(x))
    return keras.Model(inputs, logits)


STACKS: dict[str, Callable[[], keras.Model]] = {
    "one": lambda: stack(GREY, {"kernel_size": 3}),
    "same": lambda: stack(GREY, {"kernel_size": 3, "padding": "same"}),
    "even kernel, same": lambda: stack(COLOUR, {"kernel_size": (2, 4), "padding": "same"}),
    "strides": lambda: stack(COLOUR, {"kernel_size": 3, "strides": 2}, {"kernel_size": 2, "strides": 2}),
    "strides, same": lambda: stack(
        (16, 15, 1),
        {"kernel_size": 3, "strides": (2, 3), "padding": "same"},
        {"kernel_size": (3, 2), "strides": (2, 1), "padding": "same", "activation": "tanh"},
    ),
    "stride above kernel": lambda: stack((16, 16, 1), {"kernel_size": 2, "strides": 3}),
    "as the book's": lambda: stack(
        (16, 14, 1),
        {"kernel_size": 3, "padding": "same"},
        {"kernel_size": 3, "strides": 2},
        {"kernel_size": 3, "strides": 2, "use_bias": False},
    ),
    "kernel 1": lambda: stack(COLOUR, {"kernel_size": 1}, {"kernel_size": 1, "activation": None}),
}


def sequential(*, added: bool = False, with_input: bool = True) -> keras.Model:
    layers = [
        *([keras.Input(GREY)] if with_input else []),
        keras.layers.Conv2D(4, 3, strides=2, activation="relu"),
        keras.layers.Flatten(),
        keras.layers.Dropout(0.9),
        keras.layers.Dense(4),
    ]
    if not added:
        model = keras.Sequential(layers)
    else:
        model = keras.Sequential()
        for layer in layers:
            model.add(layer)
    model(np.zeros((1, *GREY), np.float32))
    return model


def used_elsewhere_first() -> keras.Model:
    """Layers of another model, at another size."""
    layers = [
        keras.layers.Conv2D(4, 3, strides=2, activation="relu"),
        keras.layers.Conv2D(3, 3, activation="relu"),
    ]
    x: Any = keras.Input((28, 30, 1))
    for layer in layers:
        x = layer(x)
    inputs = x = keras.Input((16, 15, 1))
    for layer in layers:
        x = layer(x)
    return keras.Model(inputs, keras.layers.Dense(4)(keras.layers.Flatten()(x)))


def twice() -> keras.Model:
    """The same convolution again behind itself."""
    inputs = keras.Input((16, 15, 1))
    layer = keras.layers.Conv2D(1, 3, padding="same", activation="tanh")
    return keras.Model(inputs, keras.layers.Dense(4)(keras.layers.Flatten()(layer(layer(inputs)))))


def around_a_base() -> keras.Model:
    """A head on a model of any size, which stands in a model that stands in a model."""
    base = keras.Sequential(
        [keras.Input((None, None, 1)), keras.layers.Conv2D(4, 3, strides=2, activation="relu")]
    )
    inputs = keras.Input((12, 13, 1))
    body = keras.Model(inputs, keras.layers.Conv2D(3, 3, activation="relu")(base(inputs)))
    return keras.Sequential([body, keras.layers.Flatten(), keras.layers.Dense(4)])


def of_any_size() -> keras.Model:
    start = keras.initializers.RandomNormal(0, 0.5, seed=1)
    return keras.Sequential(
        [
            keras.Input((None, None, 1)),
            keras.layers.Conv2D(4, 3, kernel_initializer=start),
            keras.layers.GlobalMaxPooling2D(),
        ]
    )


STACKS |= {
    "sequential": sequential,
    "sequential, layers added": partial(sequential, added=True),
    "sequential, without input": partial(sequential, with_input=False),
    "used elsewhere first": used_elsewhere_first,
    "a layer twice": twice,
    "around a base": around_a_base,
    "any size": of_any_size,
}


def every_candidate(model: keras.Model, images: np.ndarray) -> list[np.ndarray]:
    """Every pixel of the images with one value each: image, place, values."""
    _, height, width, channels = images.shape
    image, place = np.divmod(np.arange(len(images) * height * width), height * width)
    values = RANDOM.random((len(place), 1, channels), np.float32)
    return [image.astype(np.int32), place[:, None].astype(np.int32), values]


def assert_windows_agree(model: keras.Model, images: np.ndarray) -> None:
    assert _candidates.take_apart(model, images.shape[1:]).convolutions
    arguments = [tf.constant(array) for array in every_candidate(model, images)]
    plain, windowed = (
        tf.function(way)(model, tf.constant(images), *arguments).numpy()
        for way in (_candidates._painted_logits, _candidates._windowed_logits)
    )
    unchanged = model.predict(images, verbose=0)[arguments[0]]
    assert np.abs(plain - unchanged).max() > 0.01
    # A tenth of what counts as in doubt.
    np.testing.assert_allclose(
        windowed, plain, rtol=0, atol=_candidates.DOUBT / 10 * np.abs(plain).max()
    )


@pytest.mark.parametrize("kind", STACKS)
def test_windows_give_the_logits_of_forward_passes(kind: str) -> None:
    model = STACKS[kind]()
    shape = GREY if kind == "any size" else model.input_shape[1:]
    assert_windows_agree(model, RANDOM.random((3, *shape), np.float32))


def test_windows_on_the_book_s_network(digits: data.Dataset, model: keras.Model) -> None:
    assert len(_candidates.take_apart(model, (28, 28, 1)).convolutions) == 3
    assert_windows_agree(model, digits.test_images[:4])


# Should another seed fail: for some shapes TensorFlow's own convolution, by oneDNN, is wrong in batches.
@pytest.mark.parametrize("seed", range(6))
def test_windows_of_any_convolutions(seed: int) -> None:
    random = np.random.default_rng(seed)

    def layer() -> dict[str, Any]:
        return {
            "kernel_size": tuple(random.integers(1, 5, 2).tolist()),
            "strides": tuple(random.integers(1, 4, 2).tolist()),
            "padding": random.choice(["same", "valid"]),
            "activation": random.choice(["relu", "tanh", "softplus"]),
            "filters": int(random.integers(1, 4)),
        }

    model = stack((19, 17, int(random.integers(1, 3))), layer(), layer())
    assert_windows_agree(model, random.random((1, *model.input_shape[1:]), np.float32))


class Doubled(keras.Model):
    """Made of layers like any other, but its `call` is its own."""

    def call(self, inputs: Any, training: bool = False) -> Any:
        return 2 * super().call(inputs, training=training)


def doubled() -> keras.Model:
    inside = convolutional(GREY, filters=3, classes=4, seed=0)
    return Doubled(inside.input, inside.output)


def branching() -> keras.Model:
    inputs = keras.Input(GREY)
    x = keras.layers.Conv2D(3, 3, activation="relu")(inputs)
    flat = [keras.layers.Flatten()(branch) for branch in (x, inputs)]
    return keras.Model(inputs, keras.layers.Dense(4)(keras.layers.Concatenate()(flat)))


def seemingly_a_convolution() -> keras.Model:
    """Looks like a convolution with ReLU to whoever reads its attributes."""
    model = convolutional(GREY, filters=3, classes=4, seed=0)
    layer = model.layers[1]
    call = layer.call
    layer.call = lambda inputs: 1 - call(inputs)
    return model


WITHOUT_WINDOWS: dict[str, Callable[[], keras.Model]] = {
    "dense": lambda: linear(RANDOM.random((63, 4), np.float32), np.zeros(4, np.float32), GREY),
    "pooling first": lambda: keras.Sequential(
        [keras.Input(GREY), keras.layers.MaxPooling2D(), keras.layers.Flatten(), keras.layers.Dense(4)]
    ),
    "dilated": lambda: stack(GREY, {"kernel_size": 2, "dilation_rate": 2}),
    "groups": lambda: stack(COLOUR, {"kernel_size": 2, "groups": 3, "filters": 6}),
    "whole image": lambda: stack(GREY, {"kernel_size": (9, 7)}),
    "softmax": lambda: stack(GREY, {"kernel_size": 2, "activation": "softmax"}),
    "float64": lambda: stack(GREY, {"kernel_size": 2, "dtype": "float64"}),
    "many strides": lambda: stack((20, 20, 1), {"kernel_size": 9, "strides": 9}),
    "its own call": doubled,
    "branching": branching,
}


@pytest.mark.parametrize("kind", [*WITHOUT_WINDOWS, "seemingly", "dropout after"])
def test_models_of_all_kinds_are_searched_rightly(kind: str) -> None:
    if kind == "seemingly":
        model = seemingly_a_convolution()
        assert _candidates.take_apart(model, GREY).convolutions
    elif kind == "dropout after":
        inside = convolutional(GREY, filters=3, classes=4, seed=0)
        dropped = keras.layers.Dropout(0.9)(inside.layers[1].output)
        outputs = keras.layers.Dense(4)(keras.layers.Flatten()(dropped))
        model = keras.Model(inside.input, outputs)
        assert _candidates.take_apart(model, GREY).convolutions
    else:
        model = WITHOUT_WINDOWS[kind]()
        assert not _candidates.take_apart(model, model.input_shape[1:]).convolutions
    shape = model.input_shape[1:]
    assert_search_is_right(model, RANDOM.random((2, *shape), np.float32), levels=3)


# --- trying everything -----------------------------------------------------------------------------


def brute_force(
    model: keras.Model, image: np.ndarray, label: int, *, levels: int, targeted: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Odds and success of every pixel (rows) and value (columns), by float64 sums and plain loops."""
    height, width, channels = image.shape
    grid = np.stack(np.meshgrid(*[np.arange(levels)] * channels, indexing="ij"), -1).reshape(
        -1, channels
    )
    painted = np.repeat(image[None], height * width * len(grid), axis=0)
    flat = painted.reshape(height * width, len(grid), -1, channels)
    for pixel in range(height * width):
        flat[pixel, :, pixel] = np.float32(1) * grid / (levels - 1)
    logits = np.concatenate([model(part, training=False) for part in np.array_split(painted, 4)])
    probability = np.exp(logits - logits.max(axis=1, keepdims=True), dtype=np.float64)
    own, rest = probability[:, label], np.delete(probability, label, axis=1).sum(axis=1)
    odds = np.log(own / rest) if targeted else np.log(rest / own)
    hit = (logits.argmax(axis=1) == label) == targeted
    return odds.reshape(height * width, -1), hit.reshape(height * width, -1)


def assert_search_is_right(
    model: keras.Model, images: np.ndarray, *, levels: int, targeted: bool = False
) -> attacks.PixelSearchResult:
    logits = model(images, training=False).numpy()
    labels = logits.argsort(axis=1)[:, -2 if targeted else -1]
    result = attacks.one_pixel_search(model, images, labels, levels=levels, targeted=targeted)
    again = model(result.images, training=False).numpy().argmax(axis=1)
    np.testing.assert_array_equal(result.success, (again == labels) == targeted)
    for i, label in enumerate(labels):
        odds, hit = brute_force(model, images[i], label, levels=levels, targeted=targeted)
        np.testing.assert_allclose(result.odds[i].ravel(), odds.max(axis=1), atol=2e-3)
        np.testing.assert_array_equal(result.hits[i].ravel(), hit.sum(axis=1))
        assert result.success[i] == hit.any()
        assert result.evaluations[i] == odds.size
        assert result.iterations[i] == 1
        # The best of those that count.
        best = np.where(hit, odds, -np.inf).max() if hit.any() else odds.max()
        changed = np.any(result.images[i] != images[i], axis=-1)
        assert changed.sum() <= 1
        found, _ = _odds_of(model, result.images[i], label, targeted=targeted)
        assert found == pytest.approx(best, abs=2e-3)
    return result


def _odds_of(model: keras.Model, image: np.ndarray, label: int, *, targeted: bool) -> tuple[float, bool]:
    logits = tf.constant(model(np.stack([image] * 2), training=False))
    classes = tf.constant([label] * 2)
    odds = _candidates._odds(logits, classes, tf.constant(targeted))
    return float(odds[0]), bool(_loop.fooled(logits, classes, tf.constant(targeted))[0])


@pytest.mark.parametrize("targeted", [False, True])
def test_every_pixel_and_level_of_a_digit(
    digits: data.Dataset, model: keras.Model, targeted: bool
) -> None:
    results = assert_search_is_right(model, digits.test_images[:3], levels=4, targeted=targeted)
    assert results.odds.std() > 0.01


@pytest.mark.parametrize("targeted", [False, True])
def test_every_pixel_and_colour(targeted: bool) -> None:
    model = convolutional(COLOUR, filters=6, classes=5, seed=1)
    images = RANDOM.random((12, *COLOUR), np.float32)
    result = assert_search_is_right(model, images, levels=3, targeted=targeted)
    assert 0 < result.success.sum() < 12


def test_blocks_of_any_size_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    model = convolutional(COLOUR, filters=6, classes=5, seed=1)
    images = RANDOM.random((3, *COLOUR), np.float32)
    labels = model(images).numpy().argmax(axis=1)
    whole = attacks.one_pixel_search(model, images, labels, levels=4)
    for values in (100 * 7 * 5 * 6, 1000 * 7 * 5 * 6):  # part of a pixel's 64 values, and 15 pixels
        monkeypatch.setattr(_candidates, "WINDOW_VALUES", values)
        parts = attacks.one_pixel_search(model, images, labels, levels=4)
        np.testing.assert_allclose(parts.odds, whole.odds, atol=1e-4)
        np.testing.assert_array_equal(parts.hits, whole.hits)
        np.testing.assert_array_equal(parts.images, whole.images)


def test_a_search_can_be_made_in_parts(digits: data.Dataset, model: keras.Model) -> None:
    images, labels = digits.test_images[:5], digits.test_labels[:5]
    search = partial(attacks.one_pixel_search, model, levels=3)
    whole = search(images, labels)
    parts = [search(images[part], labels[part]) for part in (slice(2), slice(2, 3), slice(3, 5))]
    together = attacks.concatenate(parts)
    assert type(together) is attacks.PixelSearchResult
    for field in ("images", "success", "iterations", "evaluations", "odds", "hits"):
        np.testing.assert_array_equal(getattr(together, field), getattr(whole, field))


@pytest.mark.parametrize("seed", range(3))
def test_rounding_errors_of_windows_do_not_decide(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two logits z and -z, and a candidate at the border: all that matters is the last bit."""
    random = np.random.default_rng(seed)
    model = stack(GREY, {"kernel_size": 3}, {"kernel_size": 2}, classes=2)
    images = random.random((3, *GREY), np.float32)
    kernel, _ = model.layers[-1].get_weights()
    kernel[:, 1] = -kernel[:, 0]
    model.layers[-1].set_weights([kernel, np.zeros(2, np.float32)])
    levels = 16
    place, level = np.divmod(random.permutation(63 * levels), levels)
    painted = np.repeat(images[:1], len(place), axis=0)
    painted.reshape(len(place), -1)[np.arange(len(place)), place] = level / (levels - 1)
    border = np.median(model(painted).numpy()[:, 0])
    model.layers[-1].set_weights([kernel, np.array([-border, border], np.float32)])

    labels = model(images).numpy().argmax(axis=1)
    arguments = model, images, labels
    assert _candidates.take_apart(model, GREY).convolutions
    found = attacks.one_pixel_search(*arguments, levels=levels)
    assert 0 < found.hits[0].sum() < 63 * levels

    def off(*all_of_them: Any) -> tf.Tensor:
        """Windows whose logits are off by half of what counts as in doubt."""
        logits = windowed(*all_of_them)
        sign = tf.where(tf.range(tf.shape(logits)[0]) % 2 == 0, 1.0, -1.0)[:, None]
        return logits + sign * [[0.005, 0.0]] * tf.reduce_max(tf.abs(logits))

    windowed = _candidates._windowed_logits
    monkeypatch.setattr(_candidates.Judge, "_windows_agree", lambda self: True)
    monkeypatch.setattr(_candidates, "_windowed_logits", off)
    for doubt, same in ((0.01, True), (0.0, False)):
        monkeypatch.setattr(_candidates, "DOUBT", doubt)
        _traces._COMPILED.clear()
        again = attacks.one_pixel_search(*arguments, levels=levels)
        assert np.array_equal(again.hits, found.hits) == same
    _traces._COMPILED.clear()
    # Nor do they, if windows are not used at all.
    monkeypatch.setattr(_candidates.Judge, "_windows_agree", lambda self: False)
    again = attacks.one_pixel_search(*arguments, levels=levels)
    np.testing.assert_array_equal(again.hits, found.hits)
    np.testing.assert_array_equal(again.success, found.success)


def test_ties_are_settled_as_a_forward_pass_settles_them() -> None:
    """All logits equal: the first class is predicted, whatever rounding errors windows have."""
    model = convolutional(GREY, filters=3, classes=4, seed=0)
    kernel, _ = model.layers[-1].get_weights()
    model.layers[-1].set_weights([np.repeat(kernel[:, :1], 4, axis=1), np.zeros(4, np.float32)])
    images = RANDOM.random((2, *GREY), np.float32)
    found = attacks.one_pixel_search(model, images, np.array([0, 1]), levels=3)
    np.testing.assert_array_equal(found.success, [False, True])
    np.testing.assert_array_equal(found.hits.sum(axis=(1, 2)), [0, 3 * 63])


# --- evolution -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def colour_model() -> keras.Model:
    """A small network of five classes for colour images of 9 × 7."""
    return convolutional(COLOUR, filters=6, classes=5, seed=1)


@pytest.mark.parametrize("strategy", ["rand1", "best1", "random"])
@pytest.mark.parametrize("pixels", [1, 4])
def test_no_more_pixels_and_only_their_levels(
    colour_model: keras.Model, strategy: Any, pixels: int
) -> None:
    images = RANDOM.random((8, *COLOUR), np.float32)
    images[:, 0] = 1e-40  # to TensorFlow's sums this is 0
    labels = colour_model(images).numpy().argmax(axis=1)
    result = attacks.one_pixel(
        colour_model,
        images,
        labels,
        pixels=pixels,
        population=10,
        generations=3,
        levels=5,
        strategy=strategy,
        seed=0,
    )
    changed = np.any(result.images != images, axis=-1)
    assert changed.sum(axis=(1, 2)).max() == pixels
    assert np.isin(result.images[changed] * 4, range(5)).all()


def test_what_happens_to_an_image_depends_on_no_other(digits: data.Dataset, model: keras.Model) -> None:
    images, labels = digits.test_images[:12], digits.test_labels[:12]
    for pixels in (1, 3):
        attack = partial(attacks.one_pixel, model, pixels=pixels, population=15, generations=6, seed=3)
        whole = attack(images, labels)
        order = RANDOM.permutation(12)
        parts = np.array_split(order, 4)
        split = attacks.concatenate([attack(images[part], labels[part]) for part in parts])
        for batch_size in (1, 5, 100):
            batched = attack(images, labels, batch_size=batch_size)
            for field in ("images", "success", "iterations", "evaluations"):
                np.testing.assert_array_equal(getattr(batched, field), getattr(whole, field))
        for field in ("images", "success", "iterations", "evaluations"):
            np.testing.assert_array_equal(getattr(split, field), getattr(whole, field)[order])


def test_the_seed_decides(colour_model: keras.Model) -> None:
    images = RANDOM.random((6, *COLOUR), np.float32)
    labels = colour_model(images).numpy().argmax(axis=1)
    attack = partial(attacks.one_pixel, colour_model, images, labels, population=5, generations=1)
    first, second, other = (attack(seed=seed).images for seed in (4, 4, 2**70))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)


def test_keys_differ_by_pixel_class_and_seed() -> None:
    images = RANDOM.random((2, *GREY), np.float32)
    images[1] = images[0]
    images[1, 4, 4] += 1e-7
    keys = [
        *_seeds.keys(images, np.array([1, 1]), 0),
        *_seeds.keys(images[:1], np.array([2]), 0),
        *_seeds.keys(images[:1], np.array([1]), 1),
    ]
    assert len({tuple(key) for key in keys}) == 4
    np.testing.assert_array_equal(keys[0], _seeds.keys(images, np.array([1, 1]), 0)[0])


def hopeless(shape: tuple[int, ...], bias: float = 3e3) -> keras.Model:
    """Prefers class 0 whatever the pixels are, though ink speaks for class 1: the more the later."""
    weights = np.stack([0 * np.arange(np.prod(shape)), np.arange(np.prod(shape))], axis=1)
    return linear(weights.astype(np.float32), np.array([bias, 0], np.float32), shape)


def test_evaluations_and_who_leaves_when(colour_model: keras.Model) -> None:
    images = RANDOM.random((30, *COLOUR), np.float32)
    labels = colour_model(images).numpy().argmax(axis=1)
    labels[:3] = (labels[:3] + 1) % 5  # misread as they are
    attack = partial(attacks.one_pixel, colour_model, pixels=3, population=8, seed=1)
    result = attack(images, labels, generations=8)
    np.testing.assert_array_equal(result.images[:3], images[:3])
    assert result.success[:3].all()
    np.testing.assert_array_equal(result.evaluations[:3], 1)
    np.testing.assert_array_equal(result.iterations[:3], 0)
    np.testing.assert_array_equal(result.evaluations[3:], 1 + 8 * (1 + result.iterations[3:]))
    assert (result.iterations[~result.success] == 8).all()
    # With no more generations than it took, the same success; with one fewer, none.
    late = np.flatnonzero(result.success & (result.iterations > 1))
    assert late.size
    one = late[:1]
    took = int(result.iterations[one[0]])
    again = attack(images[one], labels[one], generations=took)
    np.testing.assert_array_equal(again.images, result.images[one])
    assert not attack(images[one], labels[one], generations=took - 1).success.any()


def test_the_first_population_alone() -> None:
    images = np.zeros((2, *GREY), np.float32)
    model = hopeless(GREY)
    result = attacks.one_pixel(model, images, np.zeros(2, int), population=7, generations=0, seed=0)
    np.testing.assert_array_equal(result.evaluations, 8)
    np.testing.assert_array_equal(result.iterations, 0)
    assert not result.success.any()


def test_targeted_success_is_the_target_not_any_error(colour_model: keras.Model) -> None:
    images = RANDOM.random((40, *COLOUR), np.float32)
    logits = colour_model(images).numpy()
    targets = logits.argsort(axis=1)[:, -3]
    result = attacks.one_pixel(
        colour_model, images, targets, targeted=True, pixels=3, population=30, generations=10, seed=1
    )
    predictions = colour_model(result.images).numpy().argmax(axis=1)
    np.testing.assert_array_equal(result.success, predictions == targets)
    assert result.success.any()
    # Some are misread, but not as the target: that is no success.
    assert (~result.success & (predictions != logits.argmax(axis=1))).any()


@pytest.mark.parametrize("strategy", ["rand1", "best1"])
def test_evolution_finds_the_one_best_pixel(strategy: Literal["rand1", "best1", "random"]) -> None:
    """The last pixel at full ink is the best, and the logits see nothing else."""
    images = np.full((5, *GREY), 0.5, np.float32)
    images[:, 0, 0, 0] = np.arange(5) / 5
    arguments = hopeless(GREY), images, np.zeros(5, int)
    attack = partial(attacks.one_pixel, *arguments, strategy=strategy, seed=2, population=60)
    result = attack(generations=80)
    best = images.copy()
    best[:, -1, -1] = 1
    np.testing.assert_array_equal(result.images, best)
    assert not np.array_equal(attack(generations=1).images, best)


def test_random_numbers_of_an_image() -> None:
    keys = tf.constant(RANDOM.integers(0, 2**31, (4, 2)), tf.int32)
    draws = [_seeds.uniform(keys, tf.constant(g), (200, 5)).numpy() for g in (1, 1, 2)]
    np.testing.assert_array_equal(draws[0], draws[1])
    for first, second in ((draws[0][0], draws[0][1]), (draws[0][0], draws[2][0])):
        assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.15
    alone = _seeds.uniform(keys[2:3], tf.constant(1), (200, 5)).numpy()
    np.testing.assert_array_equal(alone[0], draws[0][2])


def test_latin_hypercube() -> None:
    keys = tf.constant(RANDOM.integers(0, 2**31, (3, 2)), tf.int32)
    first = pixel_search._first(keys, 40, 6).numpy()
    assert first.shape == (3, 40, 6)
    slices = np.sort((first * 40).astype(int), axis=1)
    np.testing.assert_array_equal(slices, np.broadcast_to(np.arange(40)[:, None], slices.shape))
    assert abs(np.corrcoef(first[0].T)[np.triu_indices(6, 1)]).max() < 0.6  # genes are shuffled apart


def test_others_are_three_different_ones_and_equally_likely() -> None:
    draws = tf.constant(RANDOM.random((4000, 5, 3), np.float32))
    others = np.stack([other.numpy() for other in pixel_search._others(draws, tf.constant(5))], axis=-1)
    own = np.broadcast_to(np.arange(5)[:, None], (*others.shape[:2], 1))
    together = np.sort(np.concatenate([others, own], axis=-1), axis=-1)
    assert (np.diff(together, axis=-1) > 0).all()
    assert others.min() == 0
    assert others.max() == 4
    # Candidate 2 has 24 ordered triples of others.
    _, counts = np.unique(others[:, 2], axis=0, return_counts=True)
    assert len(counts) == 24
    assert chisquare(counts).pvalue > 1e-3
    edges = tf.constant(np.array([[[1 - 2**-24] * 3] * 2000], np.float32))
    assert max(other.numpy().max() for other in pixel_search._others(edges, tf.constant(2000))) == 1999


@pytest.mark.parametrize("strategy", ["rand1", "best1"])
@pytest.mark.parametrize("recombination", [0.0, 0.5, 1.0])
def test_trials_are_storn_and_price_s(strategy: str, recombination: float) -> None:
    count, population, genes = 3, 30, 6
    keys = tf.constant(RANDOM.integers(0, 2**31, (count, 2)), tf.int32)
    genomes = RANDOM.uniform(0.3, 0.7, (count, population, genes)).astype(np.float32)
    odds = RANDOM.random((count, population), np.float32)
    settings = strategy == "best1", 0.2, 0.4, recombination
    rivals = pixel_search._trials(genomes, odds, keys, 5, *settings).numpy()
    draws = _seeds.uniform(keys, tf.constant(5), (population, 2 * genes + 5))
    a, b, c = pixel_search._others(draws[..., 2 * genes : 2 * genes + 3], tf.constant(population))
    for i in range(count):
        factor = 0.2 + 0.2 * draws[i, 0, 2 * genes + 3]
        assert 0.2 <= factor <= 0.4
        base = genomes[i][odds[i].argmax()] if strategy == "best1" else genomes[i][c[i]]
        mutants = base + factor * (genomes[i][a[i]] - genomes[i][b[i]])  # all within [0, 1]
        taken = np.isclose(rivals[i], mutants, atol=1e-6)
        kept = rivals[i] == genomes[i]
        assert (taken | kept).all()
        assert (taken.sum(axis=1) >= 1).all()
        if recombination == 0:
            assert (taken & ~kept).sum(axis=1).max() == 1
        if recombination == 1:
            assert taken.all()
    if recombination == 0.5:
        share = np.mean(rivals != genomes)
        assert 0.5 < share < 0.67  # 7 / 12: a half, and one of six for sure


def test_components_that_leave_their_range_are_drawn_anew() -> None:
    keys = tf.constant(RANDOM.integers(0, 2**31, (2, 2)), tf.int32)
    genomes = tf.constant(RANDOM.integers(0, 2, (2, 200, 4)).astype(np.float32))
    rivals = pixel_search._trials(genomes, tf.zeros((2, 200)), keys, 1, False, 2.0, 2.0, 1.0).numpy()
    assert rivals.min() >= 0
    assert rivals.max() <= 1
    inside = rivals[(rivals > 0) & (rivals < 1)]
    assert len(inside) > 500
    assert 0.45 < inside.mean() < 0.55  # neither clipped nor reflected


def test_as_good_a_minimum_as_scipy_s(digits: data.Dataset, model: keras.Model) -> None:
    """Equal population, generations and settings on one objective, in 25 runs."""
    image = digits.test_images[7]
    label = int(networks.predict_logits(model, image[None])[0].argmax())
    # A class out of reach, so that no run ends early.
    kernel, bias = model.get_layer("logits").get_weights()
    certain = keras.models.clone_model(model)
    certain.set_weights(model.get_weights())
    certain.get_layer("logits").set_weights([kernel, bias + 100 * (np.arange(10) == label)])
    population, generations, pixels = 30, 25, 2

    def objective(genomes: np.ndarray) -> np.ndarray:
        genes = genomes.T.reshape(-1, pixels, 3)
        place = np.minimum(genes[..., :2] * 28, 27).astype(np.int32) @ [28, 1]
        levels = np.minimum(genes[..., 2:] * 256, 255).astype(int).astype(np.float32)
        painted = np.repeat(image[None], len(genes), axis=0)
        for pixel in range(pixels):  # of two at the same place the later
            flat = painted.reshape(len(genes), -1)
            flat[np.arange(len(genes)), place[:, pixel]] = levels[:, pixel, 0] / 255
        odds = _candidates._odds(certain(painted), tf.fill(len(genes), label), tf.constant(False))
        return -odds.numpy()

    # Draws depend on the image: a pixel that differs by next to nothing gives each copy its own draws.
    copies = np.repeat(image[None], 25, axis=0)
    copies[:, 0, 0, 0] = 1e-7 * np.arange(25)

    def reached(strategy: Literal["rand1", "best1", "random"]) -> np.ndarray:
        result = attacks.one_pixel(
            certain,
            copies,
            np.full(25, label),
            pixels=pixels,
            population=population,
            generations=generations,
            strategy=strategy,
            mutation=(0.5, 1),
            recombination=0.7,
            seed=0,
        )
        assert set(result.evaluations) == {1 + population * (generations + 1)}
        odds = _candidates._odds(certain(result.images), tf.fill(25, label), tf.constant(False))
        return -odds.numpy()

    scipys = []
    for seed in range(25):
        start = np.random.default_rng(seed).random((population, 3 * pixels))
        solution = differential_evolution(
            objective,
            [(0, 1)] * 3 * pixels,
            strategy="best1bin",
            maxiter=generations,
            init=start,
            mutation=(0.5, 1),
            recombination=0.7,
            tol=0,
            polish=False,
            vectorized=True,
            updating="deferred",
            rng=seed,
        )
        assert solution.nfev == generations + 1  # calls of the vectorised objective
        scipys.append(solution.fun)
    # Neither is smaller than the other.
    ours = reached("best1")
    assert len(set(ours)) > 5
    assert mannwhitneyu(ours, scipys, alternative="two-sided").pvalue > 0.02
    # The test would notice that evolution is another, or none.
    for other in (reached("rand1"), reached("random")):
        assert mannwhitneyu(other, scipys, alternative="greater").pvalue < 1e-3


def test_evolution_is_better_than_chance_at_equal_cost() -> None:
    images = np.zeros((30, *COLOUR), np.float32)
    images[:, 0, 0, 0] = np.arange(30) / 30
    model = hopeless(COLOUR)
    reached = {
        strategy: model(
            attacks.one_pixel(
                model,
                images,
                np.zeros(30, int),
                strategy=strategy,
                population=20,
                generations=20,
                seed=1,
            ).images
        ).numpy()[:, 1]
        for strategy in ("rand1", "best1", "random")
    }
    assert reached["rand1"].mean() > reached["random"].mean()
    assert reached["best1"].mean() > reached["random"].mean()


def test_an_interrupt_returns_nothing_half_done(
    colour_model: keras.Model, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pixel_search, "tqdm", partial(tqdm, disable=False))
    images = RANDOM.random((3, *COLOUR), np.float32)
    labels = colour_model(images).numpy().argmax(axis=1)
    before, calls = images.copy(), []
    judge = _candidates.Judge.__call__

    def interrupted(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return judge(*arguments)

    monkeypatch.setattr(_candidates.Judge, "__call__", interrupted)
    for attack in (
        partial(attacks.one_pixel, population=5, seed=0),
        partial(attacks.one_pixel_search, levels=2),
    ):
        calls.clear()
        with pytest.raises(KeyboardInterrupt):
            attack(colour_model, images, labels)
        np.testing.assert_array_equal(images, before)
    bars = capsys.readouterr().err
    assert "evolving" in bars
    assert "2/101" in bars
    assert "searching" in bars


def test_population_larger_than_a_block(
    colour_model: keras.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = RANDOM.random((3, *COLOUR), np.float32)
    labels = colour_model(images).numpy().argmax(axis=1)
    attack = partial(attacks.one_pixel, colour_model, images, labels, pixels=2, seed=0, generations=2)
    whole = attack(population=50)
    monkeypatch.setattr(_loop, "BATCH_VALUES", 20 * images[0].size)
    np.testing.assert_array_equal(attack(population=50).images, whole.images)
    monkeypatch.setattr(pixel_search, "GENES_AT_A_TIME", 1)  # one image after the other
    again = attack(population=50)
    np.testing.assert_array_equal(again.images, whole.images)
    np.testing.assert_array_equal(again.evaluations, whole.evaluations)


def test_concatenate_takes_records_of_one_kind() -> None:
    image = np.zeros((1, 2, 2, 1), np.float32)
    columns = image, np.ones(1, bool), np.ones(1, int), np.ones(1, int)
    plain = attacks.AttackResult(*columns)
    searched = attacks.PixelSearchResult(*columns, image[..., 0], image[..., 0].astype(int))
    assert attacks.concatenate([plain, plain]).success.shape == (2,)
    with pytest.raises(ValueError, match="results must be records of one kind, got AttackResult, Pixel"):
        attacks.concatenate([plain, searched])
    with pytest.raises(ValueError, match="results must be records of one kind, got none"):
        attacks.concatenate([])
