"""The attack that moves few pixels, far: those that a saliency map ranks first."""

from typing import Literal

import keras
import numpy as np
import tensorflow as tf

from advlib import _pace
from advlib._checks import check_flag, check_number
from advlib.attacks import _loop
from advlib.attacks._result import AttackResult

# Pixels among which a pair is looked for first. For the book's network the best pair is proved to be
# among so many in more than 95 steps of 100; the rest cost more.
CANDIDATES = 32
# Scores computed at a time where that is not so: 32 MB.
BLOCK_SCORES = 2**23


def jsma(
    model: keras.Model,
    images: np.ndarray,
    targets: np.ndarray,
    *,
    theta: float = 1.0,
    max_fraction: float = 0.145,
    search: Literal["pair", "single", "lead"] = "pair",
    clip_aware: bool = False,
    confidence: float = 0.0,
    trace: bool = False,
    randomized: bool = False,
    batch_size: int | None = None,
) -> AttackResult:
    r"""Jacobian-based saliency map attack (Papernot et al. 2016, https://arxiv.org/abs/1511.07528).

    In each iteration the pixels that help the target most and its rivals least are changed by
    `theta`, until the model predicts the target or the budget is spent. A pixel here is one value of
    the image: in a colour image, one channel of it. A pixel that can go no further (at 1, or at 0
    for a negative `theta`) is left alone.

    ``search="pair"`` is the paper's: with :math:`\alpha = \sum \partial Z_t / \partial x` and
    :math:`\beta = \sum \sum_{j \ne t} \partial Z_j / \partial x` over the two pixels, the pair with
    :math:`\alpha > 0`, :math:`\beta < 0` and the largest :math:`-\alpha\beta`. It is the exact maximum
    over all pairs, in float32.

    ``search="single"`` takes one pixel, where :math:`\partial Z_t / \partial x \ge 0` and
    :math:`\partial (Z_r - Z_t) / \partial x \le 0` for the target's strongest rival r (the predicted
    class, as long as that is not the target), with the largest product of the two.

    ``search="lead"`` takes one pixel with the largest :math:`\partial (Z_t - Z_r) / \partial x`, if that
    is positive: with `clip_aware`, the one that raises the target's lead over r most, to first order.

    For a negative `theta`, which removes ink, all derivatives change their sign.

    The paper's score depends on more than the predictions: a function added to all logits alike
    changes :math:`\beta` and no probability.

    Parameters
    ----------
    model : keras.Model
        Maps float32 (n, height, width, channels) in [0, 1] to logits (n, classes).
    images : array, float32, (n, height, width, channels)
        Pixel scale [0, 1]. Never modified.
    targets : array, integer, (n,)
        The classes aimed at.
    theta : float
        Change of a pixel in an iteration, from -1 to 1, not 0; pixels are then clipped to [0, 1].
    max_fraction : float
        Share of the pixels that may be changed, from 0 to 1. Half as many iterations are made with
        pairs; with a `theta` below 1 a pixel may be chosen, and counts, more than once.
    search : {"pair", "single", "lead"}
        How pixels are chosen.
    clip_aware : bool
        Multiply each derivative by the change that the pixel would really make, which clipping may
        cut short. The paper does not: to it a pixel at 254 grey levels of 255 is as good as any.
    confidence : float
        Go on until the target's logit leads all others by this much, not negative. (The term and the
        idea are those of Carlini and Wagner 2016, https://arxiv.org/abs/1608.04644; success still
        means that the target is predicted.)
    trace : bool
        Whether to keep what the model says on the way: `AttackResult.trace`.
    randomized : bool
        Whether the model may answer at random, as some defences do; else such a model is refused.
    batch_size : int, optional
        Images at a time; by default as many as hold about a million values.

    Returns
    -------
    AttackResult
        Three evaluations for each iteration, one forward and two backward passes, of which "lead" needs
        but one. An image that leaves, because it succeeded or no pixel qualifies, has paid for those of
        the step that it did not take, one that spent its budget for one more forward pass.

    Raises
    ------
    ValueError
        If an argument is not of that form; the message names it.
    """
    images, targets = _loop.check_arguments(
        model, images, targets, batch_size, randomized=randomized, name="targets"
    )
    theta = check_number(theta, "theta", low=-1, high=1)
    if np.float32(theta) == 0:
        raise ValueError("theta must not be 0: no pixel would change")
    max_fraction = check_number(max_fraction, "max_fraction", low=0, high=1)
    if not isinstance(search, str) or search not in STEPS:
        raise ValueError(f"search must be one of {', '.join(STEPS)}, got {search!r}")
    clip_aware = check_flag(clip_aware, "clip_aware")
    confidence = check_number(confidence, "confidence", low=0, high=_loop.MOST_CONFIDENT)
    pixels = 2 if search == "pair" else 1
    # 0.29 of 100 pixels are 29, though 0.29 * 100 is just below.
    budget = int(max_fraction * images[0].size * (1 + 1e-12)) // pixels

    def prepare(part: slice) -> tuple[np.ndarray, ...]:
        count = len(images[part])
        return images[part], np.full(count, theta, np.float32), np.full(count, clip_aware)

    with _pace.bar("attacking") as bar:
        result, logits = _loop.run(
            model,
            STEPS[search],
            prepare,
            targets,
            steps=budget,
            passes=2 if search == "lead" else 3,
            targeted=True,
            early_stop=True,
            randomized=randomized,
            confidence=confidence,
            trace=check_flag(trace, "trace"),
            batch_size=batch_size or _loop.fitting_batch(images),
            bar=bar,
        )
    return _loop.confirmed(model, result, logits, targets, targeted=True, batch_size=batch_size)


def _lead_direction(logits: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Of each image's logits (m, classes) the target's less the strongest rival's."""
    target = tf.one_hot(targets, tf.shape(logits)[1])
    # The predicted class; once that is the target, the runner-up.
    rival = tf.argmax(tf.where(target > 0, logits.dtype.min, logits), axis=1)
    return target - tf.one_hot(rival, tf.shape(logits)[1])


def _single_step(
    model: keras.Model,
    images: tf.Tensor,
    targets: tf.Tensor,
    theta: tf.Tensor,
    clip_aware: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Change the one pixel with the largest product."""

    def directions(logits: tf.Tensor) -> list[tf.Tensor]:
        return [tf.one_hot(targets, tf.shape(logits)[1]), _lead_direction(logits, targets)]

    logits, gradients = _loop.gradients(model, images, directions)
    (gain, lead), free = _oriented(images, gradients, theta, clip_aware)
    # Of Z_t, and of Z_t - Z_r: the one and the other at least 0, and one pixel that gains something.
    return logits, *_best_one(images, tf.nn.relu(gain) * tf.nn.relu(lead), free, theta)


def _lead_step(
    model: keras.Model,
    images: tf.Tensor,
    targets: tf.Tensor,
    theta: tf.Tensor,
    clip_aware: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Change the one pixel that raises the lead most."""

    def directions(logits: tf.Tensor) -> list[tf.Tensor]:
        return [_lead_direction(logits, targets)]

    logits, gradients = _loop.gradients(model, images, directions)
    (lead,), free = _oriented(images, gradients, theta, clip_aware)
    return logits, *_best_one(images, lead, free, theta)


def _best_one(
    images: tf.Tensor, scores: tf.Tensor, free: tf.Tensor, theta: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Images (m, ...) with the pixel of the highest score changed, and whether that is above 0."""
    scores = tf.where(free, scores, 0.0)
    best = tf.argmax(scores, axis=1, output_type=tf.int32)[:, None]
    return _change(images, best, theta), tf.reduce_max(scores, axis=1) > 0


def _pair_step(
    model: keras.Model,
    images: tf.Tensor,
    targets: tf.Tensor,
    theta: tf.Tensor,
    clip_aware: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Change the two pixels that score highest together."""

    def directions(logits: tf.Tensor) -> list[tf.Tensor]:
        target = tf.one_hot(targets, tf.shape(logits)[1])
        return [target, target - 1]

    logits, gradients = _loop.gradients(model, images, directions)
    (gain, drop), free = _oriented(images, gradients, theta, clip_aware)
    pair, score = best_pair(tf.where(free, gain, -np.inf), tf.where(free, drop, -np.inf))
    return logits, _change(images, pair, theta), score > 0


def _oriented(
    images: tf.Tensor, gradients: list[tf.Tensor], theta: tf.Tensor, clip_aware: tf.Tensor
) -> tuple[list[tf.Tensor], tf.Tensor]:
    """Gradients along the change, and which pixels are free to change: (m, pixels) each."""
    rows = tf.shape(images)[0], -1
    theta = theta[:, None]
    pixels = tf.reshape(images, rows)
    room = tf.where(theta > 0, 1 - pixels, pixels)
    along = tf.where(clip_aware[:, None], tf.minimum(room, tf.abs(theta)), 1.0) * tf.sign(theta)
    found = [tf.reshape(gradient, rows) * along for gradient in gradients]
    free = room > 0
    for each in found:
        free &= tf.math.is_finite(each)
    return [_scaled(each, free) for each in found], free


def _scaled(gradient: tf.Tensor, free: tf.Tensor) -> tf.Tensor:
    """The gradient over its largest magnitude, so that no product of two overflows or vanishes.

    A positive factor changes no score's rank.
    """
    largest = tf.reduce_max(tf.where(free, tf.abs(gradient), 0.0), axis=1, keepdims=True)
    return gradient / tf.where(largest > 0, largest, 1.0)


def _change(images: tf.Tensor, pixels: tf.Tensor, theta: tf.Tensor) -> tf.Tensor:
    """Add theta (m,) to the pixels (m, j), different ones, of each image, and clip to [0, 1]."""
    flat = tf.reshape(images, (tf.shape(images)[0], -1))
    chosen = tf.reduce_sum(tf.one_hot(pixels, tf.shape(flat)[1]), axis=1)
    changed = tf.clip_by_value(flat + theta[:, None], 0.0, 1.0)
    return tf.reshape(tf.where(chosen > 0, changed, flat), tf.shape(images))


def best_pair(gain: tf.Tensor, drop: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    r"""Find the two pixels i ≠ k with the largest (g_i + g_k)(d_i + d_k), both factors positive.

    With g the target's gradient and d the negative one of its rivals, this is :math:`-\alpha\beta`.

    Only few of the n² pairs are looked at. Give each pixel one number, :math:`s = \lambda g + d /
    \lambda` with any positive :math:`\lambda`. By the inequality of the means a pair's score is at
    most :math:`((s_i + s_k) / 2)^2`. So a pixel for which s plus the largest s is less than
    :math:`2 \sqrt{b}`, where b is the best score so far, belongs to no better pair.

    Parameters
    ----------
    gain, drop : tensor, float32, (m, n)
        g and d, of magnitude 1 at most; -inf for a pixel that may not be chosen.

    Returns
    -------
    pair : tensor, int32, (m, 2)
        Meaningless where the score is 0.
    score : tensor, float32, (m,)
        0 where no pair has two positive factors.
    """
    highest_gain = tf.reduce_max(gain, axis=1, keepdims=True)
    highest_drop = tf.reduce_max(drop, axis=1, keepdims=True)
    # Any positive number is right; this one makes the two terms alike, so that few pixels remain.
    ratio = tf.sqrt(highest_drop / highest_gain)
    ratio = tf.where(tf.math.is_finite(ratio) & (ratio > 0), ratio, 1.0)
    merit = gain * ratio + drop / ratio
    # Among the pixels of the highest merit, all pairs.
    count = tf.minimum(CANDIDATES, tf.shape(gain)[1])
    leading, pixels = tf.math.top_k(merit, count)  # falling
    some_gain, some_drop = (tf.gather(values, pixels, batch_dims=1) for values in (gain, drop))
    scores = _scores(some_gain, some_drop, some_gain, some_drop)
    scores = tf.linalg.set_diag(scores, tf.zeros_like(some_gain))
    scores = tf.reshape(scores, (-1, count * count))
    score = tf.reduce_max(scores, axis=1)
    place = tf.argmax(scores, axis=1, output_type=tf.int32)
    pair = tf.stack([place // count, place % count], axis=1)
    pair = tf.gather(pixels, pair, batch_dims=1)

    # A pixel of a better pair has at least this merit (rounding errors of the sums are allowed for),
    # and with the best imaginable partner a higher score (to the bit: rounding keeps the order of sums
    # and products). The second ends the search among equal pixels.
    free = tf.math.is_finite(merit)
    size = tf.where(free, tf.abs(gain * ratio) + tf.abs(drop / ratio), 0.0)
    least = 2 * tf.sqrt(score) - leading[:, 0] - 1e-5 * tf.reduce_max(size, axis=1)
    chance = tf.nn.relu(gain + highest_gain) * tf.nn.relu(drop + highest_drop)
    contends = free & (merit >= least[:, None]) & (chance > score[:, None])
    here = tf.reduce_sum(tf.cast(tf.gather(contends, pixels, batch_dims=1), tf.int32), axis=1)
    unproved = here < tf.reduce_sum(tf.cast(contends, tf.int32), axis=1)
    if tf.reduce_any(unproved):
        places = tf.where(unproved)
        rest = [
            tf.boolean_mask(values, unproved)
            for values in (gain, drop, tf.where(contends, merit, -np.inf), pair, score)
        ]
        pair_of_rest, score_of_rest = _search_all(*rest)
        pair = tf.tensor_scatter_nd_update(pair, places, pair_of_rest)
        score = tf.tensor_scatter_nd_update(score, places, score_of_rest)
    return pair, score


def _search_all(
    gain: tf.Tensor, drop: tf.Tensor, merit: tf.Tensor, pair: tf.Tensor, score: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Try every pixel whose merit is finite with all others, the highest merit first."""
    images, pixels = tf.shape(gain)[0], tf.shape(gain)[1]
    rows = tf.clip_by_value(BLOCK_SCORES // (images * pixels), 1, CANDIDATES)
    merit, order = tf.math.top_k(merit, pixels)
    start = tf.zeros((), tf.int32)
    while start < pixels and tf.reduce_any(tf.math.is_finite(merit[:, start])):
        block = order[:, start : start + rows]
        some_gain, some_drop = (tf.gather(values, block, batch_dims=1) for values in (gain, drop))
        scores = _scores(some_gain, some_drop, gain, drop)  # (m, rows, n)
        scores = tf.where(tf.one_hot(block, pixels, on_value=True, off_value=False), 0.0, scores)
        scores = tf.reshape(scores, (images, -1))
        highest = tf.reduce_max(scores, axis=1)
        place = tf.argmax(scores, axis=1, output_type=tf.int32)
        first = tf.gather(block, place // pixels, batch_dims=1)
        better = highest > score
        pair = tf.where(better[:, None], tf.stack([first, place % pixels], axis=1), pair)
        score = tf.maximum(score, highest)
        start += rows
    return pair, score


def _scores(gain: tf.Tensor, drop: tf.Tensor, gains: tf.Tensor, drops: tf.Tensor) -> tf.Tensor:
    """Scores of pixels (m, r) with others (m, c): (m, r, c), 0 where a factor is not positive."""
    return tf.nn.relu(gain[:, :, None] + gains[:, None]) * tf.nn.relu(drop[:, :, None] + drops[:, None])


STEPS = {"pair": _pair_step, "single": _single_step, "lead": _lead_step}
