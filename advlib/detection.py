"""Detection: scores that compare an image with its reconstruction, and a rule that judges by them.

Every score is a function of tensors that can be differentiated, so that an attacker can, too. A larger
score is more suspicious. Attacks come in as arrays: this module knows none.
"""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from sklearn.exceptions import NotFittedError

from advlib import _models
from advlib._checks import (
    check_images,
    check_input_shape,
    check_integer,
    check_model,
    check_number,
)

# How far scores of clean images reach beyond their quantile of 95%, on average, is taken to be at least
# this share of that quantile, or of 1: less is as much as rounding errors.
ALIKE = 1e-4
# Before a logarithm is taken, pixels are mapped from [0, 1] to [FLOOR, 1 - FLOOR]: half a grey level.
FLOOR = 1 / 510


class Evidence(NamedTuple):
    """What scores are computed from, for m images.

    Attributes
    ----------
    images : tensor, float32, (m, height, width, channels)
        Pixel scale [0, 1].
    decoded : tensor, float32, (m, height, width, channels)
        What the autoencoder makes of them.
    logits, decoded_logits : tensor, float32, (m, classes)
        What the classifier makes of either.
    """

    images: tf.Tensor
    decoded: tf.Tensor
    logits: tf.Tensor
    decoded_logits: tf.Tensor


def evidence(classifier: keras.Model, autoencoder: keras.Model, images: tf.Tensor) -> Evidence:
    """Run both networks; can be differentiated.

    Parameters
    ----------
    classifier : keras.Model
        Maps float32 (m, height, width, channels) in [0, 1] to logits (m, classes).
    autoencoder : keras.Model
        Maps such images to reconstructions of the same shape, in [0, 1].
    images : tensor, float32, (m, height, width, channels)
        Pixel scale [0, 1]. Values are not checked.

    Returns
    -------
    Evidence

    Raises
    ------
    ValueError
        If the reconstructions are not one tensor of the images' shape.
    """
    decoded = autoencoder(images, training=False)
    _models.check_one_tensor(decoded, "autoencoder", f"images of shape {tuple(images.shape[1:])}")
    _models.check_reconstruction(decoded.shape, images.shape)
    decoded = tf.cast(decoded, tf.float32)
    logits, decoded_logits = (_models.logits_of(classifier, some) for some in (images, decoded))
    return Evidence(images, decoded, logits, decoded_logits)


def image_kl(evidence: Evidence) -> tf.Tensor:
    r"""Kullback-Leibler divergence of the image from what it is decoded to.

    Both are made distributions over the pixels, :math:`P_i = x_i / \sum_j x_j`; then
    :math:`\sum_i P_i \log (P_i / \hat P_i)`.

    Parameters
    ----------
    evidence : Evidence

    Returns
    -------
    tensor, float32, (m,)
        In nats; 0 where the two agree.
    """
    image, decoded = (
        values / tf.reduce_sum(values, axis=1, keepdims=True)
        for values in (_pixels(evidence.images), _pixels(evidence.decoded))
    )
    return tf.reduce_sum(image * tf.math.log(image / decoded), axis=1)


def output_kl(evidence: Evidence) -> tf.Tensor:
    r"""Kullback-Leibler divergence between the classifier's answers to the image and to the decoded one.

    :math:`\sum_k p_k(x) \log (p_k(x) / p_k(\hat x))`: whether the two are read as the same digit.

    Parameters
    ----------
    evidence : Evidence

    Returns
    -------
    tensor, float32, (m,)
        In nats.
    """
    image = tf.nn.log_softmax(evidence.logits)
    decoded = tf.nn.log_softmax(evidence.decoded_logits)
    return tf.reduce_sum(tf.exp(image) * (image - decoded), axis=1)


def mean_error(evidence: Evidence) -> tf.Tensor:
    r"""Reconstruction error of a pixel, on average.

    The error of one pixel is what the autoencoder's loss charges for it, above what a perfect
    reconstruction would cost: the divergence
    :math:`x \log \frac{x}{\hat x} + (1 - x) \log \frac{1 - x}{1 - \hat x}`. A grey that the decoder was
    sure of not seeing counts more than one that it was undecided about.

    Parameters
    ----------
    evidence : Evidence

    Returns
    -------
    tensor, float32, (m,)
        In nats; 0 where the two agree.
    """
    return tf.reduce_mean(_errors(evidence), axis=1)


def largest_error(evidence: Evidence) -> tf.Tensor:
    """Reconstruction error, as in `mean_error`, of the worst pixel.

    Parameters
    ----------
    evidence : Evidence

    Returns
    -------
    tensor, float32, (m,)
        In nats; 0 where the two agree.
    """
    return tf.reduce_max(_errors(evidence), axis=1)


def doubt(evidence: Evidence) -> tf.Tensor:
    r"""The classifier's own doubt: log-odds that another class is right than the one it predicts.

    The negative log-odds of the maximum softmax probability.

    :math:`\log \frac{1 - p}{p}` with p the largest probability, as in Hendrycks and Gimpel 2016
    (https://arxiv.org/abs/1610.02136). The reconstruction has no part in it.

    Parameters
    ----------
    evidence : Evidence

    Returns
    -------
    tensor, float32, (m,)
        0 where another class is as likely as not.
    """
    logits = evidence.logits
    first = tf.one_hot(tf.argmax(logits, axis=1), tf.shape(logits)[1]) > 0
    others = tf.reduce_logsumexp(tf.where(first, logits.dtype.min, logits), axis=1)
    return others - tf.reduce_max(logits, axis=1)


SCORES: dict[str, Callable[[Evidence], tf.Tensor]] = {
    score.__name__: score for score in (image_kl, output_kl, mean_error, largest_error, doubt)
}


def measure(
    classifier: keras.Model, autoencoder: keras.Model, images: np.ndarray, *, batch_size: int = 1000
) -> dict[str, np.ndarray]:
    """All scores of many images, batch by batch.

    Parameters
    ----------
    classifier, autoencoder : keras.Model
        As in `evidence`.
    images : array, float32, (n, height, width, channels)
        Pixel scale [0, 1].
    batch_size : int
        Images per pass; bounds the memory.

    Returns
    -------
    dict from name to array, float32, (n,)
        One for each of `SCORES`.

    Raises
    ------
    ValueError
        If an argument is not of that form, or a model answers the same images differently when it is
        asked again; the message names it.
    """
    images = check_images(images)
    _models.check_logits(classifier, images, "classifier")
    _models.check_autoencoder(autoencoder, images)

    def every_score(batch: tf.Tensor) -> tf.Tensor:
        found = evidence(classifier, autoencoder, batch)
        return tf.stack([score(found) for score in SCORES.values()], axis=1)

    columns = _in_batches(every_score, images, batch_size).T
    return dict(zip(SCORES, columns, strict=True))


def _in_batches(
    function: Callable[[tf.Tensor], tf.Tensor], images: np.ndarray, batch_size: int
) -> np.ndarray:
    """What a function of tensors makes of images, batch by batch."""
    batch_size = check_integer(batch_size, "batch_size")
    batches = (images[start : start + batch_size] for start in range(0, len(images), batch_size))
    return np.concatenate([function(tf.constant(batch)).numpy() for batch in batches])


def _pixels(images: tf.Tensor) -> tf.Tensor:
    """Pixels (m, values), between FLOOR and 1 - FLOOR."""
    flat = tf.reshape(images, (tf.shape(images)[0], -1))
    return FLOOR + (1 - 2 * FLOOR) * flat


def _errors(evidence: Evidence) -> tf.Tensor:
    """Reconstruction error of every pixel in nats, (m, values)."""
    image, decoded = _pixels(evidence.images), _pixels(evidence.decoded)
    ink = image * tf.math.log(image / decoded)
    return ink + (1 - image) * tf.math.log((1 - image) / (1 - decoded))


class _Tail(NamedTuple):
    r"""How rare a score is among clean images: a rising, piecewise linear :math:`-\log P(s \ge v)`.

    Attributes
    ----------
    starts, heights, slopes : array, float32, (knots,)
        Where each piece begins, its height there and its slope; the last goes on forever.
    """

    starts: np.ndarray
    heights: np.ndarray
    slopes: np.ndarray

    @classmethod
    def fit(cls, values: np.ndarray) -> "_Tail":
        """From the scores of clean images, (n,).

        Quantiles up to the one that a twentieth exceeds; beyond it, an exponential distribution of
        the same mean, or of that which `ALIKE` allows. Quantiles that differ by less than a thousandth
        of that mean are taken for one: there the scores are rounding errors.
        """
        depths = np.arange(0, np.log(20) + 1e-9, np.log(20) / 24)
        quantiles = np.quantile(values.astype(np.float64), 1 - np.exp(-depths))
        beyond = values[values >= quantiles[-1]] - quantiles[-1]
        # Scores that are all alike leave no tail; what is above them by more than a rounding error is
        # then rare.
        scale = max(float(beyond.mean()), ALIKE * max(1.0, abs(quantiles[-1])))
        knots = [0]
        for knot, quantile in enumerate(quantiles):
            if quantile - quantiles[knots[-1]] > 1e-3 * scale:
                knots.append(knot)
        starts, heights = quantiles[knots], depths[knots]
        slopes = np.append(np.diff(heights) / np.diff(starts), 1 / scale)
        return cls(*(column.astype(np.float32) for column in (starts, heights, slopes)))

    def __call__(self, scores: tf.Tensor) -> tf.Tensor:
        """Rarity of scores (m,), in nats.

        Below the first piece it hardly falls: an unusually small score must not make up for others.
        """
        piece = tf.maximum(tf.searchsorted(self.starts, scores, side="right") - 1, 0)
        start, height, slope = (tf.gather(column, piece) for column in self)
        slope = tf.where(scores < start, 1e-3 * self.slopes[-1], slope)
        return height + slope * (scores - start)


class Detector:
    r"""Flags images that look attacked, at a stated rate of false alarms.

    With several scores, one rule: each score :math:`s_j` is turned into its rarity among clean images,
    :math:`r_j = -\log P(s_j \ge v)`, and the rarities are added up (Fisher 1925; were the scores of
    clean images independent of one another, twice the sum would follow a :math:`\chi^2` distribution.
    They need not be: the threshold is taken from clean images all the same). A detector is calibrated
    once, and then does not change. `save` and `load` keep its calibration.

    Parameters
    ----------
    classifier : keras.Model
        Maps float32 (n, height, width, channels) in [0, 1] to logits (n, classes).
    autoencoder : keras.Model
        Maps such images to reconstructions of the same shape, in [0, 1].
    scores : sequence of str
        Names among `SCORES`.

    Raises
    ------
    ValueError
        If an argument is not of that form; the message names it.
    """

    def __init__(
        self,
        classifier: keras.Model,
        autoencoder: keras.Model,
        *,
        scores: Sequence[str] = ("output_kl", "mean_error", "largest_error", "doubt"),
    ) -> None:
        check_model(classifier, "classifier")
        check_model(autoencoder, "autoencoder")
        names = list(scores) if isinstance(scores, list | tuple) else []
        if not names or any(name not in list(SCORES) or names.count(name) > 1 for name in names):
            raise ValueError(
                f"scores must be a list of different names among {', '.join(SCORES)}, got {scores!r}"
            )
        self._classifier = classifier
        self._autoencoder = autoencoder
        self._scores = names
        self._tails: dict[str, _Tail] = {}
        self._threshold: float | None = None

    @property
    def threshold(self) -> float:
        """What the rule must reach for an image to be flagged, in nats.

        Raises
        ------
        NotFittedError
            If the detector is not calibrated; a ValueError.
        """
        if self._threshold is None:
            raise NotFittedError(
                "a detector must be calibrated before it has a threshold: call calibrate"
            )
        return self._threshold

    def rarities(self, images: tf.Tensor) -> tf.Tensor:
        """How rare each score is among clean images; can be differentiated.

        Parameters
        ----------
        images : tensor, float32, (m, height, width, channels)
            Pixel scale [0, 1]. They are not checked.

        Returns
        -------
        tensor, float32, (m, scores)
            In nats: log(1,000) where one clean image in a thousand scores as high.

        Raises
        ------
        NotFittedError
            If the detector is not calibrated.
        """
        if not self._tails:
            raise NotFittedError("a detector must be calibrated before it can judge: call calibrate")
        found = evidence(self._classifier, self._autoencoder, images)
        return self._rarities({name: SCORES[name](found) for name in self._scores})

    def _rarities(self, scores: dict[str, tf.Tensor]) -> tf.Tensor:
        """From scores (m,) each to rarities (m, scores)."""
        return tf.stack([self._tails[name](scores[name]) for name in self._scores], axis=1)

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        """The rule: the sum of the rarities; can be differentiated.

        Parameters
        ----------
        images : tensor, float32, (m, height, width, channels)
            Pixel scale [0, 1]. They are not checked.

        Returns
        -------
        tensor, float32, (m,)

        Raises
        ------
        NotFittedError
            If the detector is not calibrated.
        """
        return tf.reduce_sum(self.rarities(images), axis=1)

    def calibrate(self, images: np.ndarray, *, false_positive_rate: float) -> "Detector":
        """Learn what is rare among clean images, and from where on to flag.

        Parameters
        ----------
        images : array, float32, (n, height, width, channels)
            Clean images that neither network was trained on, and on which nothing is measured later.
        false_positive_rate : float
            Between 0 and 1, not included: the share of clean images that may be flagged. Of n
            images, the threshold is the k-th largest score with k = rate × (n + 1), rounded down: by a
            single score a further one reaches it with a probability of k / (n + 1). By a rule over
            several it does so more often, because their rarities come from the same images: four
            scores and 100 images may well double the rate, a thousand are enough to forget it. Where
            more images share the k-th largest score, to within rounding errors, such as blank pages do,
            the threshold stands above that score: fewer are flagged than may be, and none of those.

        Returns
        -------
        Detector
            Itself, for good: it cannot be calibrated again.

        Raises
        ------
        ValueError
            If it has been calibrated, images are not of that form or too few for the rate, or the
            rate is not of that form.
        """
        if self._threshold is not None:
            raise ValueError("a detector is calibrated once: make another one for another threshold")
        images = check_images(images)
        rate = check_number(false_positive_rate, "false_positive_rate", low=0, high=1)
        if rate in (0, 1):
            raise ValueError(f"false_positive_rate must lie between 0 and 1, got {rate:g}")
        # 0.01 × 100 must be 1, whatever the last digit.
        above = min(int(rate * (len(images) + 1) * (1 + 1e-12)), len(images))
        if above < 1:
            raise ValueError(
                f"images must be at least {np.ceil(1 / rate - 1e-9) - 1:.0f} for a false_positive_rate "
                f"of {rate:g}, got {len(images)}"
            )
        values = measure(self._classifier, self._autoencoder, images)
        for name in self._scores:
            if not np.isfinite(values[name]).all():
                raise ValueError(f"images must have finite scores, which {name} is not for all of them")
        self._tails = {name: _Tail.fit(values[name]) for name in self._scores}
        rule = self._rarities({name: tf.constant(scores) for name, scores in values.items()})
        rule = tf.reduce_sum(rule, axis=1).numpy()
        try:
            self._threshold = self._above_ties(images, rule, above)
        finally:
            if self._threshold is None:  # stopped on the way: what is not calibrated judges nothing
                self._tails = {}
        return self

    def _above_ties(self, images: np.ndarray, rule: np.ndarray, above: int) -> float:
        """The largest value that at most `above` images reach; with a tie there, a value above the tie.

        Two scores are tied that differ by no more than rounding errors. How large these are is seen
        where the images nearest to the threshold are measured again, each by itself: another batch
        rounds otherwise.
        """
        falling = np.sort(rule)[::-1].astype(np.float64)
        candidate = falling[above - 1]
        near = np.argsort(np.abs(rule - candidate))[:5]
        again = _in_batches(self, images[near], 1)
        rounding = 1e-6 * max(1.0, abs(candidate)) + 2 * float(np.abs(again - rule[near]).max())
        if above == len(rule) or candidate - falling[above] > rounding:
            return float(candidate)
        # Up to the first gap that rounding errors do not bridge, and into the middle of it.
        gaps = np.flatnonzero(falling[: above - 1] - falling[1:above] > 2 * rounding)
        if not gaps.size:
            return float(falling[0] + 10 * rounding)
        return float((falling[gaps[-1]] + falling[gaps[-1] + 1]) / 2)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the calibration to a file, for `load`: what is shipped beside both networks' weights.

        Text of a few kilobytes that opens with every version of Keras. `pickle` and `copy.deepcopy` keep
        the detector together with its networks.

        Parameters
        ----------
        path : path
            A JSON file; it is overwritten.

        Raises
        ------
        NotFittedError
            If the detector is not calibrated.
        """
        content = {
            "threshold": self.threshold,
            "tails": {
                name: {key: values.tolist() for key, values in self._tails[name]._asdict().items()}
                for name in self._scores
            },
            "networks": self._fingerprints(),
        }
        Path(path).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], classifier: keras.Model, autoencoder: keras.Model
    ) -> "Detector":
        """A calibrated detector from what `save` has written and the networks that it was made of.

        Parameters
        ----------
        path : path
            The file.
        classifier, autoencoder : keras.Model
            With the same weights as then, to the bit: a threshold holds for these alone.

        Returns
        -------
        Detector

        Raises
        ------
        OSError
            If there is no such file, or it cannot be read.
        ValueError
            If the file is none that `save` has written, or a network has other weights.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            threshold = check_number(content["threshold"], "threshold", low=-np.inf, high=np.inf)
            tails = {
                name: _Tail(**{key: np.array(values, np.float32) for key, values in tail.items()})
                for name, tail in content["tails"].items()
            }
            if any(
                len({column.shape for column in tail}) != 1 or not tail[0].size
                for tail in tails.values()
            ):
                raise ValueError("a tail must have as many starts as heights and slopes")
            networks = dict(content["networks"])
            detector = cls(classifier, autoencoder, scores=list(tails))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            message = f"path must be a file that save has written, got {path}: {error}"
            raise ValueError(message) from error
        for name, fingerprint in detector._fingerprints().items():
            if networks.get(name) != fingerprint:
                raise ValueError(f"{name} must have the weights that the detector was calibrated with")
        detector._tails, detector._threshold = tails, threshold
        return detector

    def _fingerprints(self) -> dict[str, str]:
        """SHA-256 of the weights of both networks, and of their shapes."""
        networks = {"classifier": self._classifier, "autoencoder": self._autoencoder}
        return {
            name: hashlib.sha256(
                b"".join(values.tobytes() for values in model.get_weights())
            ).hexdigest()
            for name, model in networks.items()
        }

    def measure(self, images: np.ndarray, *, batch_size: int = 1000) -> np.ndarray:
        """The rule's score of many images, batch by batch.

        Parameters
        ----------
        images : array, float32, (n, height, width, channels)
            Pixel scale [0, 1].
        batch_size : int
            Images per pass; bounds the memory.

        Returns
        -------
        array, float32, (n,)

        Raises
        ------
        ValueError
            If the images are not of that form, or (a NotFittedError) the detector is not calibrated.
        """
        images = check_images(images)
        check_input_shape(self._classifier, images)
        return _in_batches(self, images, batch_size)

    def judge(self, images: np.ndarray, *, batch_size: int = 1000) -> np.ndarray:
        """Whether images are flagged.

        Parameters
        ----------
        images, batch_size
            As in `measure`.

        Returns
        -------
        array, bool, (n,)

        Raises
        ------
        ValueError
            As in `measure`.
        """
        # What is not a number is flagged, too.
        return ~(self.measure(images, batch_size=batch_size) < self.threshold)
