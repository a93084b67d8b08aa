"""Detection: the scores by hand, their gradients, and how often a calibrated detector is wrong."""

import copy
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike
from scipy.special import log_softmax, softmax
from scipy.stats import betabinom, binom
from sklearn.exceptions import NotFittedError

from advlib import attacks, data, detection, networks
from advlib.detection import SCORES, Detector, Evidence
from tests.models import convolutional, linear

DEFAULT = ("output_kl", "mean_error", "largest_error", "doubt")
every_score = pytest.mark.parametrize("name", SCORES)


def random_evidence(count: int = 2, classes: int = 3) -> Evidence:
    """Of images of 2 × 2 pixels; some of them are black or white."""
    random = np.random.default_rng(3)
    images, decoded = random.random((2, count, 2, 2, 1), np.float32)
    images[0, 0], decoded[-1, :, 0] = [[0], [1]], [[1], [0]]
    logits = random.normal(scale=2, size=(2, count, classes)).astype(np.float32)
    return Evidence(*(tf.constant(values) for values in (images, decoded, *logits)))


def by_hand(name: str, evidence: Evidence) -> np.ndarray:
    """The formulas, in float64."""
    images, decoded, logits, decoded_logits = (values.numpy().astype(np.float64) for values in evidence)
    # From half a grey level above black to half a grey level below white.
    x, y = ((508 * values.reshape(len(values), -1) + 1) / 510 for values in (images, decoded))
    if name == "image_kl":
        p, q = (values / values.sum(axis=1, keepdims=True) for values in (x, y))
        return (p * np.log(p / q)).sum(axis=1)
    if name == "output_kl":
        p = softmax(logits, axis=1)
        return (p * (log_softmax(logits, axis=1) - log_softmax(decoded_logits, axis=1))).sum(axis=1)
    if name == "doubt":
        p = softmax(logits, axis=1).max(axis=1)
        return np.log((1 - p) / p)
    errors = x * np.log(x / y) + (1 - x) * np.log((1 - x) / (1 - y))
    return errors.mean(axis=1) if name == "mean_error" else errors.max(axis=1)


@every_score
def test_score_by_hand(name: str) -> None:
    for evidence in (random_evidence(), random_evidence(count=40, classes=7)):
        found = SCORES[name](evidence)
        assert found.dtype == tf.float32
        np.testing.assert_allclose(found, by_hand(name, evidence), rtol=2e-5, atol=1e-6)


def test_scores_in_numbers() -> None:
    # One image, of a black, a white and two grey pixels, decoded to grey; 1/510 is half a grey level.
    grey = np.full((1, 2, 2, 1), 0.5, np.float32)
    image = np.array([[[[0], [1]], [[0.5], [0.5]]]], np.float32)
    logits, decoded = np.log([[0.7, 0.2, 0.1]]), np.log([[0.1, 0.2, 0.7]])
    found = Evidence(*(tf.constant(v, tf.float32) for v in (image, grey, logits, decoded)))
    black_or_white = 1 / 510 * np.log(2 / 510) + 509 / 510 * np.log(2 * 509 / 510)
    expected = {
        "image_kl": np.log(2)
        + (1 / 1020) * np.log(1 / 510)
        + (509 / 1020) * np.log(509 / 510)
        # Half of the ink lies in two of four pixels, a quarter each.
        - np.log(2) / 2,
        "output_kl": 0.6 * np.log(7),
        "mean_error": black_or_white / 2,
        "largest_error": black_or_white,
        "doubt": np.log(3 / 7),
    }
    assert set(SCORES) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(SCORES[name](found), [value], rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("name", ["image_kl", "output_kl", "mean_error", "largest_error"])
def test_only_what_is_decoded_otherwise_scores(name: str) -> None:
    some = random_evidence(count=20)
    same = Evidence(some.images, some.images, some.logits, some.logits)
    np.testing.assert_allclose(SCORES[name](same), 0, atol=1e-6)
    assert np.min(SCORES[name](some)) > 1e-3


@pytest.mark.parametrize("name", ["image_kl", "output_kl", "mean_error", "largest_error"])
def test_the_farther_off_the_reconstruction_the_larger_the_score(name: str) -> None:
    some = random_evidence(count=20)
    scores = [
        SCORES[name](
            Evidence(
                some.images,
                some.images + share * (some.decoded - some.images),
                some.logits,
                some.logits + share * (some.decoded_logits - some.logits),
            )
        )
        for share in (0, 0.25, 0.5, 0.75, 1)
    ]
    assert (np.diff(scores, axis=0) > 0).all()


def test_image_kl_does_not_see_a_common_factor() -> None:
    # What is compared is 508 x + 1, in 510th: here twice, and a third of it.
    random = np.random.default_rng(1)
    x = random.uniform(30, 250, (20, 2, 2, 1))
    logits = tf.zeros((20, 2))
    for factor in (2, 1 / 3):
        images, decoded = (tf.constant((v - 1) / 508, tf.float32) for v in (x, factor * x))
        found = Evidence(images, decoded, logits, logits)
        np.testing.assert_allclose(detection.image_kl(found), 0, atol=1e-6)
        assert np.min(detection.mean_error(found)) > 1e-2


def test_doubt_of_a_saturated_softmax() -> None:
    logits = tf.constant([[60.0, 0, -9], [0, 1000, -1000], [5, 5, -90], [0, 0, 0]])
    nothing = tf.zeros((4, 2, 2, 1))
    found = detection.doubt(Evidence(nothing, nothing, logits, logits))
    np.testing.assert_allclose(found, [-60 + np.log1p(np.exp(-9)), -1000, 0, np.log(2)], atol=1e-5)


def smooth(shape: tuple[int, int, int], classes: int) -> tuple[keras.Model, keras.Model]:
    """A classifier and an autoencoder without kinks."""
    random = np.random.default_rng(7)
    size = int(np.prod(shape))
    weights = random.normal(size=(size, classes)).astype(np.float32)
    layers = keras.layers
    autoencoder = keras.Sequential(
        [
            keras.Input(shape),
            layers.Flatten(),
            layers.Dense(8, activation="tanh", kernel_initializer=keras.initializers.GlorotUniform(1)),
            layers.Dense(
                size, activation="sigmoid", kernel_initializer=keras.initializers.GlorotUniform(2)
            ),
            layers.Reshape(shape),
        ]
    )
    return linear(weights, np.zeros(classes, np.float32), shape), autoencoder


SHAPE = (3, 4, 2)
CLASSIFIER, AUTOENCODER = smooth(SHAPE, classes=4)
PIXELS = np.random.default_rng(9).uniform(0.1, 0.9, (60, *SHAPE)).astype(np.float32)
SOFTMAX = keras.Sequential([CLASSIFIER, keras.layers.Softmax()])


def assert_gradient(function: Callable[[tf.Tensor], tf.Tensor], images: np.ndarray) -> None:
    """Check the gradient along random lines, of the images that have no kink there."""
    direction = np.random.default_rng(2).normal(size=images.shape).astype(np.float32)
    direction /= np.sqrt(np.square(direction).sum(axis=(1, 2, 3), keepdims=True))
    x = tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(x)
        values = function(x)
    along = (tape.gradient(values, x) * direction).numpy().sum(axis=(1, 2, 3))
    step = 2e-3
    above, below = (function(x + side * step * direction).numpy() for side in (1, -1))
    forward, backward = (above - values) / step, (values - below) / step
    size = np.abs(along).max()
    straight = np.abs(forward - backward) < 0.02 * size
    assert straight.mean() > 0.6
    np.testing.assert_allclose(
        along[straight], (above - below)[straight] / (2 * step), atol=0.015 * size
    )
    assert np.median(np.abs(along)) > 0.1 * size


@every_score
def test_gradient_of_a_score(name: str) -> None:
    def score(images: tf.Tensor) -> tf.Tensor:
        return SCORES[name](detection.evidence(CLASSIFIER, AUTOENCODER, images))

    assert_gradient(score, PIXELS)


@pytest.mark.parametrize("scores", [("image_kl",), DEFAULT])
def test_gradient_of_the_rule(scores: tuple[str, ...]) -> None:
    detector = Detector(CLASSIFIER, AUTOENCODER, scores=scores)
    clean = np.random.default_rng(4).uniform(0.1, 0.9, (300, *SHAPE)).astype(np.float32)
    detector.calibrate(clean, false_positive_rate=0.1)
    assert_gradient(detector, PIXELS)
    # Also beyond what any clean image scores.
    far = np.where(PIXELS > 0.5, np.float32(0.95), np.float32(0.05))
    assert np.mean(detector.measure(far) > detector.measure(clean).max()) > 0.5
    assert_gradient(detector, far)


def test_evidence_is_what_the_networks_say() -> None:
    found = detection.evidence(CLASSIFIER, AUTOENCODER, tf.constant(PIXELS))
    decoded = AUTOENCODER(PIXELS)
    np.testing.assert_array_equal(found.images, PIXELS)
    np.testing.assert_array_equal(found.decoded, decoded)
    np.testing.assert_array_equal(found.logits, CLASSIFIER(PIXELS))
    np.testing.assert_array_equal(found.decoded_logits, CLASSIFIER(decoded))
    assert found.logits.shape == (60, 4)


def test_measure_gives_every_score() -> None:
    classifier = convolutional((6, 5, 3), filters=4, classes=7, seed=1)
    autoencoder = smooth((6, 5, 3), classes=2)[1]
    images = np.random.default_rng(0).random((23, 6, 5, 3), np.float32)
    found = detection.measure(classifier, autoencoder, images)
    assert list(found) == ["image_kl", "output_kl", "mean_error", "largest_error", "doubt"]
    evidence = detection.evidence(classifier, autoencoder, tf.constant(images))
    for name, values in found.items():
        assert values.shape == (23,)
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, by_hand(name, evidence), rtol=1e-4, atol=1e-5)
    for batch_size in (1, 7, 23):
        parts = detection.measure(classifier, autoencoder, images, batch_size=batch_size)
        for name, values in found.items():
            np.testing.assert_allclose(parts[name], values, rtol=1e-4, atol=1e-5)


def test_the_rule_is_the_sum_of_the_rarities() -> None:
    names = ("doubt", "image_kl", "mean_error")
    detector = Detector(CLASSIFIER, AUTOENCODER, scores=names)
    detector.calibrate(PIXELS, false_positive_rate=0.1)
    rarities = detector.rarities(tf.constant(PIXELS)).numpy()
    assert rarities.shape == (60, 3)
    for i, name in enumerate(names):
        alone = Detector(CLASSIFIER, AUTOENCODER, scores=[name])
        alone.calibrate(PIXELS, false_positive_rate=0.1)
        np.testing.assert_allclose(alone.measure(PIXELS), rarities[:, i], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(detector(tf.constant(PIXELS)), rarities.sum(axis=1), rtol=1e-5)
    np.testing.assert_allclose(detector.measure(PIXELS), rarities.sum(axis=1), rtol=1e-4)


def test_scores_that_judge_unless_others_are_named() -> None:
    default, named = Detector(CLASSIFIER, AUTOENCODER), Detector(CLASSIFIER, AUTOENCODER, scores=DEFAULT)
    for detector in (default, named):
        assert detector.calibrate(PIXELS, false_positive_rate=0.1) is detector
    np.testing.assert_array_equal(default.measure(PIXELS), named.measure(PIXELS))


def test_judgement_is_the_measure_against_the_threshold() -> None:
    detector = Detector(CLASSIFIER, AUTOENCODER).calibrate(PIXELS, false_positive_rate=0.1)
    others = np.random.default_rng(5).random((60, *SHAPE), np.float32)
    measured, judged = detector.measure(others), detector.judge(others)
    assert judged.dtype == np.bool_
    np.testing.assert_array_equal(judged, measured >= detector.threshold)
    assert 0 < judged.mean() < 1
    clear = np.abs(measured - detector.threshold) > 1e-3
    for batch_size in (1, 7, 59):
        np.testing.assert_allclose(detector.measure(others, batch_size=batch_size), measured, rtol=1e-4)
        parts = detector.judge(others, batch_size=batch_size)
        np.testing.assert_array_equal(parts[clear], judged[clear])


# Images of one pixel, of which the doubt is a known function: 20 (x - 1).
ONE = linear(np.array([[0, 20]], np.float32), np.array([0, -20], np.float32), (1, 1, 1))
SAME = keras.Sequential([keras.Input((1, 1, 1)), keras.layers.Identity()])


def doubtful(pixels: np.ndarray, rate: float = 0.1) -> Detector:
    """A detector that goes by the doubt about images of one pixel each."""
    return Detector(ONE, SAME, scores=["doubt"]).calibrate(as_images(pixels), false_positive_rate=rate)


def as_images(pixels: ArrayLike) -> np.ndarray:
    return np.asarray(pixels, np.float32).reshape(-1, 1, 1, 1)


@pytest.mark.parametrize(
    ("count", "rate", "flagged"),
    [
        (100, 0.05, 5),
        (100, 0.1, 10),
        (98, 0.1, 9),
        (99, 0.1, 10),
        (19, 0.05, 1),
        (9, 0.1, 1),
        (1000, 0.001, 1),
        (99, 0.29, 29),  # 0.29 × 100 is less than 29 in floating point
        (3, 0.25, 1),
        (4, 0.99, 4),
    ],
)
def test_threshold_is_the_kth_largest(count: int, rate: float, flagged: int) -> None:
    pixels = np.random.default_rng(count).random(count)
    detector = doubtful(pixels, rate)
    measured = detector.measure(as_images(pixels))
    assert detector.threshold == np.sort(measured)[-flagged]
    np.testing.assert_array_equal(detector.judge(as_images(pixels)), pixels >= np.sort(pixels)[-flagged])


@every_score
def test_flagged_among_the_calibration_images(name: str) -> None:
    for scores in ([name], list(SCORES)):
        detector = Detector(CLASSIFIER, AUTOENCODER, scores=scores)
        detector.calibrate(PIXELS, false_positive_rate=0.2)
        assert detector.judge(PIXELS).sum() == 12  # to the last bit: the threshold is one of theirs
        values = detection.measure(CLASSIFIER, AUTOENCODER, PIXELS)[name]
        if len(scores) == 1:  # the most suspicious, and not the least
            assert values[detector.judge(PIXELS)].min() > values[~detector.judge(PIXELS)].max()


def test_false_alarms_are_as_frequent_as_stated() -> None:
    # Of n clean images and m others alike, how many of the m reach the k-th largest of the n is
    # beta-binomial, whatever the score.
    random = np.random.default_rng(11)
    n, m, k, draws = 29, 100, 6, 60
    false = 0
    for _ in range(draws):
        pixels = random.beta(0.5, 3, n + m)
        false += doubtful(pixels[:n], rate=0.2).judge(as_images(pixels[n:])).sum()
    law = betabinom(m, k, n + 1 - k)
    assert law.mean() / m == pytest.approx(0.2)
    assert abs(false - draws * law.mean()) < 3.5 * np.sqrt(draws * law.var())


def test_one_further_image_is_a_fair_coin() -> None:
    random = np.random.default_rng(12)
    flagged = [
        doubtful(random.random(1), rate=0.5).judge(as_images(random.random(1))).item()
        for _ in range(100)
    ]
    low, high = binom(100, 0.5).interval(0.999)
    assert low <= sum(flagged) <= high


def test_false_alarms_on_digits_and_alarms(digits: data.Dataset, model: keras.Model) -> None:
    autoencoder = networks.pretrained("vae", "digits", latent=16)
    order = np.random.default_rng(0).permutation(len(digits.test_images))
    clean, others = order[:250], digits.test_images[order[250:]]
    detector = Detector(model, autoencoder)
    detector.calibrate(digits.test_images[clean], false_positive_rate=0.1)
    low, high = betabinom(250, 25, 226).interval(0.999)
    assert low <= detector.judge(others).sum() <= high
    labels = digits.test_labels[order[250:]]
    noisy = attacks.random_noise(model, others, labels, epsilon=0.3, seed=1).images
    fooling = attacks.pgd(model, others, labels, epsilon=0.3, step_size=0.05, steps=5, seed=1).images
    assert detector.judge(noisy).mean() > 0.95
    assert detector.judge(fooling).mean() > 0.95


def test_rarity_is_the_law_of_the_tail() -> None:
    # Exponential doubt: -log P(s ≥ v) is a straight line, also where no clean image has been.
    pixels = np.random.default_rng(6).exponential(0.05, 4000)
    detector = doubtful(pixels, rate=0.05)
    grid = np.linspace(0, 1, 201)
    rarities = detector.rarities(as_images(grid)).numpy()[:, 0]
    assert (np.diff(rarities) > 0).all()
    np.testing.assert_allclose(rarities, grid / 0.05, rtol=0.1, atol=0.05)
    assert pixels.max() < 0.8
    # The rule is this one rarity, and a twentieth exceeds the threshold.
    assert detector.threshold == pytest.approx(np.log(20), abs=0.05)


def test_rarity_follows_the_empirical_shares() -> None:
    random = np.random.default_rng(8)
    pixels = np.concatenate([random.beta(2, 30, 3000), random.beta(30, 20, 1000)])
    detector = doubtful(pixels, rate=0.05)
    shares = np.array([0.9, 0.7, 0.5, 0.3, 0.2, 0.1, 0.06])
    quantiles = np.quantile(pixels, 1 - shares)
    found = detector.rarities(as_images(quantiles)).numpy()[:, 0]
    np.testing.assert_allclose(found, -np.log(shares), atol=0.05)


def test_rarity_falls_on_below_all_clean_images() -> None:
    detector = doubtful(np.random.default_rng(8).uniform(0.4, 0.6, 500))
    below = detector.rarities(as_images(np.linspace(0, 0.4, 9))).numpy()[:, 0]
    assert (np.diff(below) > 0).all()
    # Hardly: an unusually small score earns no credit that would make up for another.
    np.testing.assert_allclose(below, 0, atol=0.1)


def test_scores_that_are_all_alike() -> None:
    detector = doubtful(np.full(50, 0.25))
    below, same, above, far = detector.measure(as_images([0.2, 0.25, 0.3, 1]))
    assert below < same == 0 < detector.threshold < above < far < np.inf
    assert above > 20
    # What all share is not flagged: the threshold stands above it.
    np.testing.assert_array_equal(
        detector.judge(as_images([0.2, 0.25, 0.3])), np.array([False, False, True])
    )


def test_scores_that_are_partly_alike() -> None:
    # Half of the images score 5, and half of the others 10: nothing lies between or beyond.
    pixels = np.repeat([0.1, 0.5, 0.75], [25, 50, 25])
    rarities = doubtful(pixels).rarities(as_images([0.1, 0.5, 0.75, 0.8])).numpy()[:, 0]
    assert np.isfinite(rarities).all()
    assert (np.diff(rarities) > 0).all()
    # Of a value that many share, the share that lies above or is it.
    np.testing.assert_allclose(rarities[:3], -np.log([1, 0.75, 0.25]), atol=0.14)


def test_rounding_errors_of_scores_make_no_cliff() -> None:
    random = np.random.default_rng(4)
    alike = 0.25 + np.r_[random.uniform(0, 1e-6, 300), random.exponential(0.05, 200)]
    detector = doubtful(alike)
    images = tf.constant(as_images(np.linspace(0.25, 0.25 + 1e-6, 33)))
    with tf.GradientTape() as tape:
        tape.watch(images)
        rarities = detector(images)
    assert np.abs(tape.gradient(rarities, images)).max() < 1e4


def test_what_has_no_score_is_flagged() -> None:
    inputs = keras.Input(SHAPE)
    autoencoder = keras.Model(inputs, keras.ops.sqrt(inputs - 0.05))
    detector = Detector(CLASSIFIER, autoencoder).calibrate(PIXELS, false_positive_rate=0.1)
    images = PIXELS[~detector.judge(PIXELS)][:3].copy()
    images[1, 0, 0, 0] = 0  # the root of a negative number
    assert np.isnan(detector.measure(images)).tolist() == [False, True, False]
    assert detector.judge(images).tolist() == [False, True, False]
    with pytest.raises(ValueError, match="autoencoder must return finite images, got nan"):
        Detector(CLASSIFIER, autoencoder).calibrate(images, false_positive_rate=0.5)
    later = np.concatenate([PIXELS[:20], images])  # not among those that the autoencoder is asked about
    with pytest.raises(ValueError, match="images must have finite scores, which output_kl is not"):
        Detector(CLASSIFIER, autoencoder).calibrate(later, false_positive_rate=0.5)


def test_threshold_is_of_the_calibration_images() -> None:
    random = np.random.default_rng(13)
    clean, others = random.uniform(0.3, 0.6, 99), random.uniform(0.5, 0.9, 99)
    detector = doubtful(clean)
    before = detector.threshold
    expected = detector.measure(as_images(clean))
    detector.judge(as_images(others))
    detector.measure(as_images(others))
    detector.rarities(as_images(others))
    assert detector.threshold == before
    np.testing.assert_array_equal(detector.measure(as_images(clean)), expected)
    assert detector.judge(as_images(clean)).mean() == pytest.approx(10 / 99)
    # What it says of others depends on the clean images, and not on the others.
    assert detector.judge(as_images(others)).mean() > 0.5
    assert doubtful(others).judge(as_images(others)).mean() == pytest.approx(10 / 99)
    assert not doubtful(others).judge(as_images(clean)).any()


def test_calibration_neither_keeps_nor_changes_the_images() -> None:
    images = PIXELS.copy()
    detector = Detector(CLASSIFIER, AUTOENCODER).calibrate(images, false_positive_rate=0.1)
    np.testing.assert_array_equal(images, PIXELS)
    expected = detector.threshold
    images[:] = 0
    assert detector.threshold == expected
    assert detector.judge(PIXELS).sum() == 6


def test_a_detector_is_calibrated_once() -> None:
    detector = Detector(CLASSIFIER, AUTOENCODER).calibrate(PIXELS, false_positive_rate=0.1)
    threshold, measured = detector.threshold, detector.measure(PIXELS)
    for images, rate in ((PIXELS, 0.2), (PIXELS[:20], 0.1), (PIXELS, 0.1)):
        with pytest.raises(ValueError, match="a detector is calibrated once"):
            detector.calibrate(images, false_positive_rate=rate)
    assert detector.threshold == threshold
    np.testing.assert_array_equal(detector.measure(PIXELS), measured)
    with pytest.raises(AttributeError):
        detector.threshold = 0.0  # type: ignore[misc]


USES: dict[str, Callable[[Detector], Any]] = {
    "judge": lambda detector: detector.judge(PIXELS),
    "measure": lambda detector: detector.measure(PIXELS),
    "score": lambda detector: detector(tf.constant(PIXELS)),
    "rarities": lambda detector: detector.rarities(tf.constant(PIXELS)),
    "threshold": lambda detector: detector.threshold,
}


@pytest.mark.parametrize("use", USES)
def test_before_calibration_there_is_no_judgement(use: str) -> None:
    detector = Detector(CLASSIFIER, AUTOENCODER)
    with pytest.raises(NotFittedError, match="calibrate"):
        USES[use](detector)
    with pytest.raises(ValueError, match="false_positive_rate"):
        detector.calibrate(PIXELS, false_positive_rate=2)
    with pytest.raises(ValueError, match="a detector must be calibrated before"):
        USES[use](detector)  # a calibration that was refused has left nothing


@pytest.mark.parametrize("rate", [0.5, 0.3, 0.25, 0.1, 0.05, 0.01, 1 / 3, 1 / 7, 0.07])
def test_too_few_images_for_the_rate(rate: float) -> None:
    fewest = int(np.ceil(1 / rate - 1e-9)) - 1
    pixels = np.random.default_rng(0).random(fewest)
    detector = doubtful(pixels, rate)
    assert detector.judge(as_images(pixels)).sum() == 1
    if fewest > 1:
        expected = f"images must be at least {fewest} for a false_positive_rate of .*, got {fewest - 1}"
        with pytest.raises(ValueError, match=expected):
            doubtful(pixels[1:], rate)


def calibrate(images: Any, rate: Any = 0.1) -> Any:
    return Detector(CLASSIFIER, AUTOENCODER).calibrate(images, false_positive_rate=rate)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "calibrate": calibrate,
    "measure all": partial(detection.measure, CLASSIFIER, AUTOENCODER),
    "measure": lambda images, **more: calibrate(PIXELS).measure(images, **more),
    "judge": lambda images, **more: calibrate(PIXELS).judge(images, **more),
}
BAD: list[tuple[Any, str]] = [
    *(
        (partial(calibrate, PIXELS, bad), "false_positive_rate must")
        for bad in (0, 1, 0.0, 1.0, -0.1, 1.5, np.nan, np.inf, "a", "0.1", True, None)
    ),
    *(
        (partial(Detector, CLASSIFIER, AUTOENCODER, scores=bad), message)  # type: ignore[arg-type]
        for bad, message in (
            ((), "scores must be a list of different names"),
            ([], "scores must be a list of different names"),
            (5, "scores must be a list of different names"),
            (["image_kl", 3], "scores must be a list of different names"),
            ([["doubt"]], "scores must be a list of different names"),
            ("doubt", "scores must be a list of different names among image_kl, .*doubt, got 'doubt'"),
            (("doubt", "doubt"), "scores must be a list of different names"),
            (("doubt", "size"), "scores must be a list of different names"),
        )
    ),
    *(
        (partial(Detector, *models), message)
        for models, message in (
            ((lambda images: images, AUTOENCODER), "classifier must be a Keras model, got function"),
            ((None, AUTOENCODER), "classifier must be a Keras model, got NoneType"),
            ((CLASSIFIER, lambda images: images), "autoencoder must be a Keras model, got function"),
            ((CLASSIFIER, "vae"), "autoencoder must be a Keras model, got str"),
        )
    ),
    *(
        (function, r"autoencoder must return images of shape \(3, 4, 2\), got \(4,\)")
        for function in (
            partial(detection.measure, CLASSIFIER, CLASSIFIER, PIXELS),
            partial(Detector(CLASSIFIER, CLASSIFIER).calibrate, PIXELS, false_positive_rate=0.1),
            partial(detection.evidence, CLASSIFIER, CLASSIFIER, tf.constant(PIXELS)),
        )
    ),
    *(
        (partial(function, images), message)
        for function in FUNCTIONS.values()
        for images, message in (
            (PIXELS * 3, r"images must be finite and lie in \[0, 1\]"),
            (PIXELS - 1, r"images must be finite and lie in \[0, 1\]"),
            (PIXELS * np.float32(np.nan), "images must be finite"),
            (PIXELS.astype(np.float64), "images must be float32"),
            (PIXELS[0], "images must have shape .*add an axis"),
            (PIXELS[:0], "images must hold at least one image"),
            (PIXELS[:, :2], r"images must have shape \(n, 3, 4, 2\)"),
        )
    ),
    *(
        (function, "classifier must return logits, got probabilities")
        for function in (
            partial(detection.measure, SOFTMAX, AUTOENCODER, PIXELS),
            partial(Detector(SOFTMAX, AUTOENCODER).calibrate, PIXELS, false_positive_rate=0.1),
        )
    ),
    *(
        (
            partial(FUNCTIONS[name], PIXELS, batch_size=bad),
            "batch_size must be a whole number of at least 1",
        )
        for name in ("measure all", "measure", "judge")
        for bad in (0, 1.5, None)
    ),
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_bad_arguments(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


# --- ties ------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(0, 6), min_size=20, max_size=80), st.sampled_from([0.05, 0.1, 0.25, 0.5]))
def test_no_more_than_the_stated_share_is_flagged_whatever_ties(levels: list[int], rate: float) -> None:
    images = as_images(np.array(levels) / 6)
    detector = doubtful(np.array(levels) / 6, rate)
    flagged = detector.judge(images)
    # As many as ties allow: of whole levels, from the highest on.
    counts = [int(np.sum(np.array(levels) >= level)) for level in range(8)]
    assert flagged.sum() == max(count for count in counts if count <= rate * (len(levels) + 1) + 1e-9)
    # A copy is judged as the image is, also in other company.
    np.testing.assert_array_equal(detector.judge(images, batch_size=7), flagged)


TIES: dict[str, Callable[[data.Dataset, keras.Model], tuple[keras.Model, np.ndarray, Any]]] = {
    "half blank pages": lambda digits, model: (
        model,
        np.concatenate([np.zeros((100, 28, 28, 1), np.float32), digits.test_images[:100]]),
        None,
    ),
    "copies of one digit": lambda digits, model: (
        model,
        np.repeat(digits.test_images[:1], 100, 0),
        None,
    ),
    "a saturated classifier": lambda digits, model: (
        keras.Sequential([model, keras.layers.Rescaling(1e4)]),
        digits.test_images[:250],
        ["output_kl"],
    ),
    "a few digits many times": lambda digits, model: (
        model,
        np.repeat(digits.test_images[:7], 30, 0),
        ["doubt", "mean_error"],
    ),
}


@pytest.mark.parametrize("kind", TIES)
@pytest.mark.parametrize("rate", [0.05, 0.2])
def test_ties_among_digits(kind: str, rate: float, digits: data.Dataset, model: keras.Model) -> None:
    classifier, images, scores = TIES[kind](digits, model)
    more = {} if scores is None else {"scores": scores}
    detector = Detector(classifier, networks.pretrained("vae", "digits", latent=16), **more)
    detector.calibrate(images, false_positive_rate=rate)
    for batch_size in (1000, 33):
        assert detector.judge(images, batch_size=batch_size).mean() <= rate
    for image in images[:: len(images) // 3]:
        # A further copy of what many share.
        if np.sum((images == image).all(axis=(1, 2, 3))) > rate * len(images):
            assert not detector.judge(image[None]).any()


# --- keeping a detector ----------------------------------------------------------------------------


def calibrated() -> Detector:
    return Detector(CLASSIFIER, AUTOENCODER).calibrate(PIXELS, false_positive_rate=0.1)


def saved_and_loaded(detector: Detector, path: Path) -> Detector:
    detector.save(path)
    return Detector.load(path, CLASSIFIER, AUTOENCODER)


KEPT: dict[str, Callable[[Detector, Path], Detector]] = {
    "pickle": lambda detector, _: pickle.loads(pickle.dumps(detector)),
    "deepcopy": lambda detector, _: copy.deepcopy(detector),
    "save and load": saved_and_loaded,
}


# Keras's own, while it writes weights.
keras_writes = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@keras_writes
@pytest.mark.parametrize("way", KEPT)
def test_a_detector_that_was_kept_judges_as_before(way: str, tmp_path: Path) -> None:
    detector = calibrated()
    kept = KEPT[way](detector, tmp_path / "detector.json")
    assert kept.threshold == detector.threshold
    others = np.random.default_rng(5).random((60, *SHAPE), np.float32)
    np.testing.assert_array_equal(kept.measure(others), detector.measure(others))
    np.testing.assert_array_equal(kept.judge(others), detector.judge(others))
    with pytest.raises(ValueError, match="a detector is calibrated once"):
        kept.calibrate(PIXELS, false_positive_rate=0.1)


@keras_writes
def test_the_shipped_networks_in_a_detector_that_was_kept(
    digits: data.Dataset, model: keras.Model, tmp_path: Path
) -> None:
    detector = Detector(
        model, networks.pretrained("vae", "digits", latent=4), scores=["mean_error", "doubt"]
    )
    detector.calibrate(digits.test_images[:100], false_positive_rate=0.05)
    detector.save(tmp_path / "detector.json")
    for kept in (
        pickle.loads(pickle.dumps(detector)),
        Detector.load(tmp_path / "detector.json", model, networks.pretrained("vae", "digits", latent=4)),
    ):
        np.testing.assert_array_equal(
            kept.measure(digits.test_images[100:150]), detector.measure(digits.test_images[100:150])
        )


def test_a_file_that_is_none_and_networks_that_are_others(tmp_path: Path) -> None:
    path = tmp_path / "detector.json"
    with pytest.raises(NotFittedError, match="must be calibrated before"):
        Detector(CLASSIFIER, AUTOENCODER).save(path)
    assert not path.exists()
    calibrated().save(path)
    content = path.read_text()
    other = smooth(SHAPE, classes=4)[1]
    other.set_weights([2 * values for values in AUTOENCODER.get_weights()])
    with pytest.raises(ValueError, match="autoencoder must have the weights that the detector"):
        Detector.load(path, CLASSIFIER, other)
    with pytest.raises(ValueError, match="classifier must have the weights that the detector"):
        Detector.load(path, linear(np.eye(24, 4), np.zeros(4), SHAPE), AUTOENCODER)
    for bad in ("", "[]", "{}", content[:-30], content.replace("starts", "begins")):
        path.write_text(bad)
        with pytest.raises(ValueError, match="path must be a file that save has written"):
            Detector.load(path, CLASSIFIER, AUTOENCODER)
