"""Attacks that move every pixel a little, along the sign of the loss's gradient."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from advlib import _pace, data
from advlib._checks import check_flag, check_integer, check_number, check_per_image
from advlib.attacks import _loop
from advlib.attacks._result import AttackResult, trace_of
from advlib.attacks.levels import check_levels, level_bounds, snapped


def fgsm(
    model: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    epsilon: float | np.ndarray,
    targeted: bool = False,
    levels: int | None = None,
    trace: bool = False,
    randomized: bool = False,
    batch_size: int | None = None,
) -> AttackResult:
    r"""Fast gradient sign method (Goodfellow et al. 2014, https://arxiv.org/abs/1412.6572).

    Untargeted :math:`x' = \mathrm{clip}(x + \varepsilon\,\mathrm{sign}\,\nabla_x L(x, y))`, targeted
    :math:`x' = \mathrm{clip}(x - \varepsilon\,\mathrm{sign}\,\nabla_x L(x, t))`: `iterative_fgsm` with
    one step of size `epsilon`.

    Parameters
    ----------
    model : keras.Model
        Maps float32 (n, height, width, channels) in [0, 1] to logits (n, classes).
    images : array, float32, (n, height, width, channels)
        Pixel scale [0, 1]. Never modified.
    labels : array, integer, (n,)
        The true classes, or, if `targeted`, the classes aimed at.
    epsilon : float, or array of floats, (n,)
        Largest change of a pixel, from 0 to 1; one for all images, or one per image.
    targeted : bool
        Whether `labels` are targets.
    levels : int, optional
        Stay on so many grey levels, evenly spaced from 0 to 1, on which the images must lie: 256 are
        those of a file. The model is then asked about images on levels only, the gradient is taken
        there, and `epsilon` is rounded down to whole levels.
    trace : bool
        Whether to keep what the model says on the way: `AttackResult.trace`.
    randomized : bool
        Whether the model may answer at random, as some defences do; else such a model is refused.
    batch_size : int, optional
        Images at a time; by default as many as hold about a million values.

    Returns
    -------
    AttackResult
        Three evaluations per image: forward, backward, and forward again for the success.

    Raises
    ------
    ValueError
        If an argument is not of that form; the message names it.
    """
    return iterative_fgsm(
        model,
        images,
        labels,
        epsilon=epsilon,
        step_size=epsilon,
        steps=1,
        targeted=targeted,
        levels=levels,
        trace=trace,
        randomized=randomized,
        batch_size=batch_size,
    )


def iterative_fgsm(
    model: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    epsilon: float | np.ndarray,
    step_size: float | np.ndarray,
    steps: int,
    targeted: bool = False,
    early_stop: bool = False,
    confidence: float = 0.0,
    levels: int | None = None,
    trace: bool = False,
    randomized: bool = False,
    batch_size: int | None = None,
) -> AttackResult:
    r"""Repeat signed-gradient steps, staying within `epsilon` of the start.

    The basic iterative method, BIM (Kurakin et al. 2016, https://arxiv.org/abs/1607.02533):
    :math:`x_{s+1} = \Pi(x_s \pm \alpha\,\mathrm{sign}\,\nabla_x L(x_s, \cdot))` with step size
    :math:`\alpha`, where :math:`\Pi` projects on the ball :math:`|x' - x| \le \varepsilon` and on
    [0, 1]; + and the true class, or − and the target. Both bounds hold to the last bit.

    The sign is that of the exact gradient of the cross-entropy even where float32 softmax saturates:
    see `uphill`. Pixels whose gradient is 0 or NaN stay where they are.

    Parameters
    ----------
    model, images, labels, epsilon, targeted, levels, trace, randomized, batch_size
        As in `fgsm`.
    step_size : float, or array of floats, (n,)
        Change of a pixel in a step, from 0 to 1.
    steps : int
        Steps at most.
    early_stop : bool
        Let an image go as soon as the attack has succeeded, before the first step if it has already;
        the cost then follows the steps needed. Without it every image takes all steps, and may pass
        through success and out of it again.
    confidence : float
        With `early_stop`, how many logits ahead makes an image go: the target ahead of all others, or
        one of the others ahead of the true class. Not negative. (The term and the idea are those of
        Carlini and Wagner 2016, https://arxiv.org/abs/1608.04644; success still means the prediction
        alone.)

    Returns
    -------
    AttackResult
        Two evaluations for each step, and one for the success at the end; an image that stops early
        has paid for the backward pass of the step that it did not take.

    Raises
    ------
    ValueError
        If an argument is not of that form; the message names it.
    """
    images, labels = _loop.check_arguments(model, images, labels, batch_size, randomized=randomized)
    with _pace.bar("attacking") as bar:
        result, logits = attack(
            model,
            images,
            labels,
            None,
            epsilon=check_per_image(epsilon, len(images), "epsilon"),
            step_size=check_per_image(step_size, len(images), "step_size"),
            steps=check_integer(steps, "steps"),
            targeted=targeted,
            early_stop=early_stop,
            randomized=randomized,
            confidence=confidence,
            top=check_levels(levels, images),
            trace=check_flag(trace, "trace"),
            batch_size=batch_size,
            bar=bar,
        )
    return _loop.confirmed(model, result, logits, labels, targeted=targeted, batch_size=batch_size)


def pgd(
    model: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    epsilon: float | np.ndarray,
    step_size: float | np.ndarray,
    steps: int,
    targeted: bool = False,
    early_stop: bool = False,
    confidence: float = 0.0,
    restarts: int = 1,
    seed: int,
    levels: int | None = None,
    trace: bool = False,
    randomized: bool = False,
    batch_size: int | None = None,
) -> AttackResult:
    """Projected gradient descent: `iterative_fgsm` from random starts in the ball.

    Madry et al. 2017, https://arxiv.org/abs/1706.06083. Every start is uniform in the ball of radius
    `epsilon` around the image, cut off at [0, 1].

    Parameters
    ----------
    model, images, labels, epsilon, step_size, steps, targeted, early_stop, confidence
        As in `iterative_fgsm`.
    restarts : int
        Random starts at most. An image takes the next one only if it has not succeeded yet.
    seed : int
        Of the starts; they do not depend on `batch_size`.
    levels, trace, randomized, batch_size
        As in `fgsm`.

    Returns
    -------
    AttackResult
        The first success of each image, or else the attempt that came nearest, by the difference of
        logits between the class and its strongest rival.

    Raises
    ------
    ValueError
        If an argument is not of that form; the message names it.
    """
    images, labels = _loop.check_arguments(model, images, labels, batch_size, randomized=randomized)
    epsilon = check_per_image(epsilon, len(images), "epsilon")
    step_size = check_per_image(step_size, len(images), "step_size")
    steps = check_integer(steps, "steps")
    restarts = check_integer(restarts, "restarts")
    random = np.random.default_rng(check_integer(seed, "seed", low=0))
    top, trace = check_levels(levels, images), check_flag(trace, "trace")
    notes = np.full((len(images), restarts, steps + 1 if trace else 0, 2), np.nan, np.float32)

    attacked = images.copy()
    success = np.zeros(len(images), bool)
    nearest = np.full(len(images), -np.inf, np.float32)
    of_attacked = np.empty((len(images), 0), np.float32)  # logits
    iterations, evaluations = np.zeros((2, len(images)), np.int64)
    with _pace.bar("attacking") as bar:
        for restart in range(restarts):
            rest = np.flatnonzero(~success)
            if rest.size == 0:
                break
            noise = 2 * random.random(images.shape, np.float32) - 1  # [-1, 1)
            result, logits = attack(
                model,
                images[rest],
                labels[rest],
                noise[rest],
                epsilon=epsilon[rest],
                step_size=step_size[rest],
                steps=steps,
                targeted=targeted,
                early_stop=early_stop,
                randomized=randomized,
                confidence=confidence,
                top=top,
                trace=trace,
                batch_size=batch_size,
                bar=bar,
            )
            if result.trace:
                notes[rest, restart] = np.stack([result.trace.log_odds, result.trace.success], axis=2)
            iterations[rest] += result.iterations
            evaluations[rest] += result.evaluations
            success[rest] = result.success
            margin = _loop.lead(tf.constant(logits), tf.constant(labels[rest], tf.int32)).numpy()
            if targeted:
                margin = np.where(np.isfinite(margin), -margin, margin)
            better = result.success | (margin >= nearest[rest])
            nearest[rest[better]] = margin[better]
            attacked[rest[better]] = result.images[better]
            if not of_attacked.size:
                of_attacked = np.zeros_like(logits)
            of_attacked[rest[better]] = logits[better]
    result = AttackResult(
        *(attacked, success, iterations, evaluations),
        randomized=bool(randomized),
        trace=trace_of(notes.reshape(len(images), -1, 2)),
    )
    return _loop.confirmed(model, result, of_attacked, labels, targeted=targeted, batch_size=batch_size)


def attack(
    model: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    noise: np.ndarray | None,
    *,
    epsilon: np.ndarray,
    step_size: np.ndarray,
    steps: int,
    targeted: bool,
    early_stop: bool,
    randomized: bool,
    batch_size: int | None,
    bar: tqdm,
    confidence: float = 0.0,
    top: int = 0,
    trace: bool = False,
) -> tuple[AttackResult, np.ndarray]:
    """Attack checked images, starting `epsilon` times the noise away; give their logits, too."""
    targeted = check_flag(targeted, "targeted")
    early_stop = check_flag(early_stop, "early_stop")
    confidence = check_number(confidence, "confidence", low=0, high=_loop.MOST_CONFIDENT)
    if confidence and not early_stop:
        raise ValueError("confidence must be 0 without early_stop: nothing would wait for it")
    batch_size = batch_size or _loop.fitting_batch(images)
    radius = epsilon[:, None, None, None]

    def prepare(part: slice) -> tuple[np.ndarray, ...]:
        if top:
            lower, upper = level_bounds(images[part], radius[part], top)
        else:
            lower, upper = bounds(images[part], radius[part])
        starts = images[part]
        if noise is not None:
            starts = np.clip(starts + radius[part].astype(np.float32) * noise[part], lower, upper)
        sizes = step_size[part, None, None, None].astype(np.float32)
        tops = np.full_like(sizes, top)
        return starts, lower, upper, -sizes if targeted else sizes, tops

    def settle(attacked: np.ndarray, lower: np.ndarray, upper: np.ndarray, *_: Any) -> np.ndarray:
        # TensorFlow turns subnormal numbers into 0, which may lie outside.
        attacked = np.clip(attacked, lower, upper)
        return data.quantize(attacked, levels=top + 1) if top else attacked

    return _loop.run(
        model,
        _step,
        prepare,
        labels,
        steps=steps,
        passes=2,
        targeted=targeted,
        early_stop=early_stop,
        randomized=randomized,
        confidence=confidence,
        trace=trace,
        batch_size=batch_size,
        bar=bar,
        settle=settle,
    )


def bounds(images: np.ndarray, radius: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pixels that lie within `radius` (n, 1, 1, 1) of the images and within [0, 1].

    The nearest float32 to x - radius or x + radius may lie outside by a rounding error; then the next
    one inside is taken.
    """
    exact = images.astype(np.float64)
    room = np.empty_like(exact)  # one array for what comes between: twice as fast
    sides = []
    for side in (-radius, radius):
        np.clip(np.add(exact, side, out=room), 0, 1, out=room)
        bound = room.astype(np.float32)
        outside = np.abs(np.subtract(bound, exact, out=room), out=room) > radius
        sides.append(np.nextafter(bound, images, out=bound, where=outside))
    return sides[0], sides[1]


def uphill(model: keras.Model, images: tf.Tensor, classes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    r"""Logits (m, k), and a positive multiple of the cross-entropy's gradient, (m, h, w, c).

    The gradient of the cross-entropy L by the logits is p - e, where e is 1 for the class and 0
    elsewhere. It is :math:`(1 - p_y)(q - e)` with q the softmax over the other classes alone. The
    positive factor does not change the direction, and leaving it out is exact where :math:`p_y` rounds
    to 1 and the plain difference would be 0.
    """

    def direction(logits: tf.Tensor) -> list[tf.Tensor]:
        own = tf.one_hot(classes, tf.shape(logits)[1])
        others = tf.nn.softmax(tf.where(own > 0, logits.dtype.min, logits))
        return [others - own]

    logits, (gradient,) = _loop.gradients(model, images, direction)
    return logits, gradient


def _step(
    model: keras.Model,
    images: tf.Tensor,
    classes: tf.Tensor,
    lower: tf.Tensor,
    upper: tf.Tensor,
    sizes: tf.Tensor,
    tops: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """One signed step up the loss, or down where `sizes` (m, 1, 1, 1) are negative; projected."""
    logits, gradient = uphill(model, snapped(images, tops), classes)
    sign = tf.where(tf.math.is_nan(gradient), 0.0, tf.sign(gradient))
    moved = tf.clip_by_value(images + sizes * sign, lower, upper)
    return logits, moved, tf.ones_like(classes, tf.bool)
