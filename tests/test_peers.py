"""The attacks against other packages', skipped where these are missing (`make bench` installs them)."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from advlib import attacks, data, networks
from tests.benchmarks import attacks as peers

Digits = tuple[np.ndarray, np.ndarray]

basic_iterative_method = pytest.mark.parametrize(
    ("package", "driver"),
    [
        ("foolbox", peers.foolbox_bim),
        ("cleverhans", peers.cleverhans_bim),
        ("art", peers.art_bim),
    ],
)


@pytest.fixture(scope="module")
def network() -> keras.Model:
    return networks.pretrained("classifier", "mnist")


@pytest.fixture(scope="module")
def unsaturated(network: keras.Model) -> keras.Model:
    """The network with a tenth of its logits: the same predictions, none of them near certainty."""
    model = keras.models.clone_model(network)
    *others, kernel, bias = network.get_weights()
    model.set_weights([*others, kernel / 10, bias / 10])
    return model


@pytest.fixture(scope="module")
def right(network: keras.Model, mnist: data.Dataset) -> Digits:
    """1,000 correctly classified test digits."""
    images, labels = mnist.test_images[:1100], mnist.test_labels[:1100]
    chosen = np.flatnonzero(networks.predict_logits(network, images).argmax(axis=1) == labels)[:1000]
    assert len(chosen) == 1000
    return images[chosen], labels[chosen]


def same(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Pixels that agree: bool (n, 784)."""
    return (np.abs(first - second) <= 1e-5).reshape(len(first), -1)


@basic_iterative_method
# Untargeted attacks start where the true class is almost certain: see the next test for these.
@pytest.mark.parametrize(
    ("model", "targeted"), [("network", True), ("unsaturated", True), ("unsaturated", False)]
)
def test_basic_iterative_method(
    package: str,
    driver: Callable[..., peers.Attack],
    model: str,
    targeted: bool,
    right: Digits,
    request: pytest.FixtureRequest,
) -> None:
    pytest.importorskip(package)
    # Some gradients are next to 0, and rounding decides on their signs; every step starts from the
    # last one's. Four steps are enough to leave the ball, and so few that an image differs rarely.
    settings: dict[str, Any] = {"epsilon": 0.05, "step_size": 0.02, "steps": 4, "targeted": targeted}
    victim = request.getfixturevalue(model)
    images, labels = right
    classes = peers.random_targets(labels) if targeted else labels
    ours = attacks.iterative_fgsm(victim, images, classes, **settings).images
    theirs = driver(victim, **settings)(images, classes)
    assert same(ours, theirs).all(axis=1).mean() >= 0.999
    np.testing.assert_allclose(np.abs(ours - images).max(axis=(1, 2, 3)), 0.05, atol=1e-6)


def exact_gradient(
    model: keras.Model, images: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The plain gradient of the cross-entropy, and 1 - p_y of each image, in float64."""
    *convolutions, kernel, bias = (tf.constant(v.astype(np.float64)) for v in model.get_weights())
    x = tf.constant(images.astype(np.float64))
    with tf.GradientTape() as tape:
        tape.watch(x)
        h = x
        for i, (stride, padding) in enumerate([(1, "SAME"), (2, "VALID"), (2, "VALID")]):
            h = tf.nn.relu(
                tf.nn.conv2d(h, convolutions[2 * i], stride, padding) + convolutions[2 * i + 1]
            )
        logits = tf.reshape(h, (len(images), -1)) @ kernel + bias
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    return tape.gradient(loss, x).numpy(), -np.expm1(-loss.numpy())


@basic_iterative_method
def test_where_softmax_saturates_the_exact_gradient_decides_for_us(
    package: str, driver: Callable[..., peers.Attack], network: keras.Model, right: Digits
) -> None:
    # In float32, p_y - 1 is a multiple of 6e-8: its rounding error decides on many signs of the plain
    # gradient, which the other packages take, where p_y is that near to 1.
    pytest.importorskip(package)
    images, labels = right
    gradient, doubt = exact_gradient(network, images, labels)
    exact = np.clip(images + 0.1 * np.sign(gradient), 0, 1)
    settings: dict[str, Any] = {"epsilon": 0.1, "step_size": 0.1, "steps": 1, "targeted": False}
    ours = attacks.iterative_fgsm(network, images, labels, **settings).images
    theirs = driver(network, **settings)(images, labels)
    assert same(ours, exact).all(axis=1).mean() >= 0.999
    unsure = doubt > 1e-3
    assert same(ours, theirs)[unsure].all(axis=1).mean() >= 0.99
    differs = ~same(ours, theirs)
    assert differs[doubt < 1e-7].any(axis=1).all()
    assert same(ours, exact)[differs].mean() >= 0.999


def test_pairs_of_the_saliency_map(network: keras.Model, right: Digits) -> None:
    # With centred logits the derivatives of all other classes sum to minus the target's: the score is
    # the square of the target's, and the best pair that ART's, the two pixels of highest derivative.
    pytest.importorskip("art")
    model = peers.centred(network)
    images, targets = right[0][:50], peers.random_targets(right[1][:50])
    ours = attacks.jsma(model, images, targets, max_fraction=peers.GAMMA)
    theirs = peers.art_jsma(model)(images, targets)
    # At the end of the budget ART takes one pair more.
    done = ours.success & (networks.predict_logits(model, theirs).argmax(axis=1) == targets)
    assert done.sum() >= 45
    assert same(ours.images, theirs)[done].all(axis=1).mean() >= 0.95
