"""What a reader has set in Keras or matplotlib decides on nothing that the book ships or draws."""

import base64
import hashlib
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from advlib import activations, attacks, data, losses, metrics, networks, plots, training
from advlib.slider import Slider

# --- Keras -----------------------------------------------------------------------------------------

Setting = tuple[Callable[[], Any], Callable[[Any], None], Any]
CHANNELS_FIRST: Setting = (
    keras.config.image_data_format,
    keras.config.set_image_data_format,
    "channels_first",
)
EPSILON: Setting = (keras.config.epsilon, keras.config.set_epsilon, 1e-2)


def floatx(kind: str) -> Setting:
    return keras.config.floatx, keras.config.set_floatx, kind


def policy(kind: str) -> Setting:
    return keras.config.dtype_policy, keras.config.set_dtype_policy, kind


# Some at a time: each run computes everything, and none of them undoes another.
KERAS: dict[str, tuple[Setting, ...]] = {
    "channels first, float64, epsilon": (CHANNELS_FIRST, floatx("float64"), EPSILON),
    "float16, mixed_bfloat16": (floatx("float16"), policy("mixed_bfloat16")),
    "mixed_float16": (policy("mixed_float16"),),
}


@contextmanager
def keras_set_to(kind: str) -> Iterator[None]:
    before = [(put, get()) for get, put, _ in KERAS[kind]]
    for _, put, value in KERAS[kind]:
        put(value)
    try:
        yield
    finally:
        for put, value in before:
            put(value)


def weights(model: keras.Model) -> str:
    return hashlib.sha256(b"".join(values.tobytes() for values in model.get_weights())).hexdigest()


def everything(digits: data.Dataset) -> dict[str, Any]:
    """What the shipped and the trained networks say."""
    images, labels = digits.test_images[:8], digits.test_labels[:8]
    model, autoencoder = (
        networks.pretrained("classifier", "digits"),
        networks.pretrained("vae", "digits", latent=4),
    )
    short = training.Recipe(epochs=1, batch_size=32)
    trained = networks.classifier.build()
    history = training.train(
        trained,
        digits.train_images[:96],
        digits.train_labels[:96],
        loss=losses.cross_entropy,
        recipe=short,
        validation=(images, labels),
    )
    trained_vae = networks.vae.build(latent=2)
    vae_history = training.train(
        trained_vae, digits.train_images[:96], loss=networks.vae.loss, recipe=short
    )
    return {
        "precision": [each.compute_dtype for each in (model, autoencoder, *model.layers[1:])],
        "logits": networks.predict_logits(model, images),
        "activations": networks.activations(model, images)["conv2"],
        "decoded": autoencoder(images).numpy(),
        "stretch": activations.largest_stretch(model, images, iterations=2)["logits"],
        "jsma": attacks.jsma(model, images, (labels + 1) % 10, max_fraction=0.05).images,
        "pgd": attacks.pgd(model, images, labels, epsilon=0.1, step_size=0.05, steps=3, seed=1).images,
        "search": attacks.one_pixel_search(model, images[:2], labels[:2], levels=3).odds,
        "trained": weights(trained),
        "history": history,
        "trained autoencoder": weights(trained_vae),
        "its history": vae_history,
    }


@pytest.fixture(scope="module")
def as_shipped(digits: data.Dataset) -> dict[str, Any]:
    return everything(digits)


@pytest.mark.parametrize("kind", KERAS)
def test_networks_are_what_they_are_whatever_keras_is_set_to(
    kind: str, digits: data.Dataset, as_shipped: dict[str, Any]
) -> None:
    with keras_set_to(kind):
        found = everything(digits)
    assert set(found["precision"]) == {"float32"}
    for name, values in as_shipped.items():
        if isinstance(values, np.ndarray):
            assert found[name].dtype == values.dtype, name
            np.testing.assert_array_equal(found[name], values, err_msg=name)
        else:
            assert found[name] == values, name


# --- matplotlib ------------------------------------------------------------------------------------


def everything_dark() -> None:
    plt.style.use("dark_background")
    mpl.rcParams.update({"text.usetex": True, "xtick.color": "red", "ytick.labelcolor": "red"})


def another_style() -> None:
    plt.style.use("ggplot")
    mpl.rcParams.update({"font.size": 30, "xtick.labelsize": 30, "figure.dpi": 40, "savefig.dpi": 30})


def saved_otherwise() -> None:
    mpl.rcParams.update(
        {"savefig.facecolor": "black", "savefig.transparent": True, "savefig.bbox": "tight"}
    )


# Some at a time, as above.
MATPLOTLIB: dict[str, Callable[[], Any]] = {
    function.__name__: function for function in (everything_dark, another_style, saved_otherwise)
}


def rates(*successes: int) -> list[metrics.Proportion]:
    return [metrics.Proportion(each, 20) for each in successes]


FIGURES: dict[str, Callable[[np.ndarray], Figure]] = {
    "pictures": lambda images: plots.pictures(
        plots.Row(images[:3], ["a", "b", "c"], frames=["", "", "black"]),
        plots.Row(images[:3], kind="heat", scale="ink"),
    ),
    "mean_curves": lambda _: plots.mean_curves(
        [0.1, 0.2, 0.3],
        {"": {"attack": rates(1, 9, 20), "noise": rates(0, 1, 2)}},
        label="ε",
        height="success",
        noise=["noise"],
    ),
    "perturbations": lambda images: plots.perturbations(images[:2], images[2:4]),
}


def picture(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


EXPECTED: dict[str, bytes] = {}  # drawn once, as matplotlib comes


@pytest.mark.parametrize("kind", MATPLOTLIB)
@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_the_same_whatever_matplotlib_is_set_to(
    name: str, kind: str, digits: data.Dataset
) -> None:
    images = digits.test_images
    if name not in EXPECTED:
        EXPECTED[name] = picture(FIGURES[name](images))
    expected = EXPECTED[name]
    mine = FIGURES[name](images)
    with mpl.rc_context():
        MATPLOTLIB[kind]()
        before = dict(mpl.rcParams)
        assert picture(FIGURES[name](images)) == expected
        assert picture(mine) == expected  # drawn before, saved now
        assert dict(mpl.rcParams) == before  # what the reader has set is left alone


@pytest.mark.parametrize("kind", MATPLOTLIB)
def test_sliders_are_the_same_whatever_matplotlib_is_set_to(kind: str, digits: data.Dataset) -> None:
    def slider() -> Slider:
        some = (
            plots.pictures(plots.Row(digits.test_images[i : i + 3], ["a", "b", "c"])) for i in (0, 3)
        )
        return Slider([(str(i), figure, "three digits") for i, figure in enumerate(some)], label="k")

    expected = slider()
    with mpl.rc_context():
        MATPLOTLIB[kind]()
        assert slider().frames == expected.frames


def test_a_reader_s_own_dark_figure_stays_dark_under_a_slider() -> None:
    def dark(title: str) -> Figure:
        with plt.style.context("dark_background"):
            figure, axes = plt.subplots(figsize=(2, 1))
            axes.set_title(title)
            plt.close(figure)
        return figure

    frames = Slider([("1", dark("a"), "one"), ("2", dark("b"), "two")], label="k").frames
    pixels = imread(io.BytesIO(base64.b64decode(frames[0]["png"])))
    assert np.allclose(pixels[0, 0], [0, 0, 0, 1])  # its own ground, under white titles
