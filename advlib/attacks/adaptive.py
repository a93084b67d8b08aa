"""An attack on a classifier and a detector at once."""

import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from advlib import _models, _pace, _traces
from advlib._checks import check_flag, check_integer, check_number, check_per_image
from advlib.attacks import _loop
from advlib.attacks._result import AttackResult, trace_of
from advlib.attacks.gradient_sign import bounds, uphill

# Images (m, height, width, channels) to how suspicious they look, (m,).
Score = Callable[[tf.Tensor], tf.Tensor]

# How far the log-odds of the weight of evading move in each step.
RATE = 0.05
# How much of the last direction is kept (Dong et al. 2018, https://arxiv.org/abs/1710.06081).
MOMENTUM = 0.75


def adaptive_pgd(
    model: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    score: Score,
    threshold: float,
    epsilon: float | np.ndarray,
    step_size: float | np.ndarray,
    steps: int,
    targeted: bool = False,
    restarts: int = 1,
    seed: int,
    trace: bool = False,
    randomized: bool = False,
    batch_size: int | None = None,
) -> AttackResult:
    r"""Fool a classifier and stay below a detector's threshold, within `epsilon` of the image.

    Carlini and Wagner 2017 (https://arxiv.org/abs/1705.07263) attack a detector through its gradient,
    as one more thing to fool. Here each step goes in the direction

    .. math:: d = (1 - \lambda) \frac{g}{\lVert g \rVert_1} - \lambda \frac{h}{\lVert h \rVert_1}

    with g the gradient towards an error of the classifier, as in `iterative_fgsm`, h that of the score,
    and :math:`\lambda` the weight of evading. It is searched for each image by itself while the image
    moves: it grows whenever the image fools the classifier, and shrinks whenever it does not (a gentle
    form of following one gradient at a time, Bryniarski et al. 2021, https://arxiv.org/abs/2106.15023).
    The step is :math:`\alpha_s v_s / \lVert v_s \rVert_\infty` with momentum,
    :math:`v_s = d + 0.75 v_{s-1}`, and with :math:`\alpha_s` falling from `step_size` to 0 along half a
    cosine. Signs of a constant size would move every pixel by as much to the end, also where the image
    must stay as it is, such as on a paper's background.

    Parameters
    ----------
    model, images, labels, epsilon, targeted, trace, randomized, batch_size
        As in `fgsm`; the trace is that of the classifier; `randomized` speaks of the score as well.
    score : callable
        From images, a float32 tensor (m, height, width, channels), to float32 (m,); larger is more
        suspicious. TensorFlow must be able to differentiate it. It is compiled once for each object, a
        detector or a function that has a name, and again where that has changed.
    threshold : float
        The image passes the detector if its score is below.
    step_size : float, or array of floats, (n,)
        The largest change of any pixel in the first step, from 0 to 1.
    steps : int
        Steps at most, from each start; an image stops as soon as it fools and passes, and where
        `epsilon` is 0.
    restarts : int
        Starts at most. The first is the image itself, the others are uniform in the ball of radius
        `epsilon`; an image takes the next one only if it has not succeeded yet.
    seed : int
        Of the starts; they do not depend on `batch_size`.

    Returns
    -------
    AttackResult
        Success means both: to fool the classifier and to pass, as both say after the attack. Where it
        failed, of all images on the way that fooled the classifier, the one with the lowest score; where
        none did, the image itself. For each look at an image four evaluations: the classifier and the
        score, forward and backward; however many networks the score may run, it counts as one.

    Raises
    ------
    ValueError
        If an argument is not of that form, or the score of one of the first images is not finite,
        cannot be differentiated, or differs when it is asked again (unless `randomized`); the message
        names the argument. On the way an image whose score is not
        finite does not pass.
    """
    images, labels = _loop.check_arguments(model, images, labels, batch_size, randomized=randomized)
    epsilon = check_per_image(epsilon, len(images), "epsilon")
    step_size = check_per_image(step_size, len(images), "step_size")
    steps = check_integer(steps, "steps")
    targeted = check_flag(targeted, "targeted")
    restarts = check_integer(restarts, "restarts")
    random = np.random.default_rng(check_integer(seed, "seed", low=0))
    largest = float(np.finfo(np.float32).max)
    # As TensorFlow compares it.
    threshold = float(np.float32(check_number(threshold, "threshold", low=-largest, high=largest)))
    trace = check_flag(trace, "trace")
    notes = np.full((len(images), restarts, steps + 1 if trace else 0, 2), np.nan, np.float32)
    _check_score(score, model, images[:8], randomized=randomized)
    size = batch_size or _loop.fitting_batch(images)

    attacked = images.copy()
    lowest = np.full(len(images), np.inf, np.float32)  # score of those that fool
    iterations, evaluations = np.zeros((2, len(images)), np.int64)
    with _pace.bar("attacking") as bar:
        for restart in range(restarts):
            rest = np.flatnonzero(lowest >= threshold)
            if rest.size == 0:
                break
            noise = 2 * random.random(images.shape, np.float32) - 1 if restart else np.zeros_like(images)
            parts = [rest[first : first + size] for first in range(0, len(rest), size)]
            bar.total += (steps + 1) * len(parts)
            for part in parts:
                radius = epsilon[part, None, None, None]
                lower, upper = bounds(images[part], radius)
                start = np.clip(images[part] + radius.astype(np.float32) * noise[part], lower, upper)
                of_images = (
                    *(tf.constant(values) for values in (lower, upper)),
                    tf.constant(labels[part], tf.int32),
                    tf.constant(step_size[part], tf.float32),
                    *(tf.constant(value) for value in (steps, targeted, np.float32(threshold))),
                )
                blank = _loop.no_notes(len(part), steps + 1, asked=trace)
                state = _State.of(start, blank)
                arguments = (state, tf.constant(0), *of_images)
                search, before = _traces.compiled(model, _search, score, *arguments), bar.n
                # The last step but looks.
                for piece in _pace.pieces(steps + 1, bar):
                    state = _State(*search(model, score, state, tf.constant(piece), *of_images))
                    if not state.active.shape[0]:
                        break
                bar.update(before + steps + 1 - bar.n)
                # TensorFlow turns subnormal numbers into 0, which may lie outside.
                found, scores = np.clip(state.best.numpy(), lower, upper), state.lowest.numpy()
                better = scores < lowest[part]
                lowest[part[better]] = scores[better]
                attacked[part[better]] = found[better]
                notes[part, restart] = state.notes.numpy()
                taken = state.taken.numpy()
                iterations[part] += taken
                evaluations[part] += 4 * (taken + 1)
    success = _loop.look(
        model, attacked, labels, targeted=targeted, randomized=randomized, batch_size=size
    )
    success &= _passes(score, attacked, lowest, threshold, randomized=randomized, batch_size=size)
    return AttackResult(
        *(attacked, success, iterations, evaluations),
        randomized=bool(randomized),
        trace=trace_of(notes.reshape(len(images), -1, 2)),
    )


def _passes(
    score: Score,
    images: np.ndarray,
    scores: np.ndarray,
    threshold: float,
    *,
    randomized: bool,
    batch_size: int,
) -> np.ndarray:
    """Whether the score itself lets attacked images pass, bool (n,).

    What traces gave as `scores`, infinite where none was looked at, stands where the score, asked about
    some of the images, agrees; it is asked about those near the threshold in any case.
    """
    scores, rounding = scores.copy(), 1e-4

    def differs(which: np.ndarray) -> bool:
        """Ask it, take its answers, and tell whether they are others."""
        before = scores[which]
        for start in range(0, len(which), batch_size):
            part = which[start : start + batch_size]
            scores[part] = score(tf.constant(images[part]))
        return _differ(scores[which], before, rounding)

    known = np.flatnonzero(np.isfinite(scores))
    some = known[np.linspace(0, len(known) - 1, min(len(known), _models.CONFIRMED)).astype(int)]
    near = known[np.abs(scores[known] - threshold) <= 2 * rounding * abs(threshold)]
    if known.size and (differs(np.union1d(some, near)) or randomized):
        differs(known)
    return scores < threshold


class _State(NamedTuple):
    """Where a search stands, for m images, of which only the `active` still move, int32 (…,)."""

    x: tf.Tensor
    best: tf.Tensor  # of those that fool, the one of the lowest score; or else the start
    lowest: tf.Tensor  # that score; infinite where none fools
    balance: tf.Tensor  # log-odds of the weight of evading
    velocity: tf.Tensor
    taken: tf.Tensor  # steps
    step: tf.Tensor  # of all images together
    active: tf.Tensor
    notes: tf.Tensor

    @classmethod
    def of(cls, start: np.ndarray, notes: tf.Tensor) -> "_State":
        """Where it begins."""
        images = tf.constant(start)
        rows = tf.range(len(start))
        lowest = tf.fill(tf.shape(rows), np.float32(np.inf))
        zeros, still = tf.zeros_like(lowest), tf.zeros_like(rows)
        velocity, step = tf.zeros_like(images), tf.constant(0)
        return cls(images, images, lowest, zeros, velocity, still, step, rows, notes)


def _check_score(score: Score, model: keras.Model, images: np.ndarray, *, randomized: bool) -> None:
    """Check on some images that a score is what the attack needs, and its traces what it is."""
    kind = type(score).__name__
    try:
        weakref.ref(score), hash(score)
    except TypeError:  # traces are kept by it, and go with it
        score = None  # type: ignore[assignment]
    if not callable(score):
        raise ValueError(f"score must be callable and hashable, and allow weak references, got {kind}")
    some = tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(some)
        scores = score(some)
    if not tf.is_tensor(scores) or scores.shape != (len(images),):
        shape = tuple(getattr(scores, "shape", ()))
        raise ValueError(f"score must return a tensor of shape (m,), one per image, got {shape}")
    if scores.dtype != tf.float32 or not np.isfinite(scores.numpy()).all():
        raise ValueError(f"score must return finite float32, got {scores.dtype.name} {scores.numpy()}")
    if tape.gradient(scores, some) is None:
        raise ValueError("score must be computed from the images by TensorFlow, to be differentiated")
    _traces.refresh(score)
    if randomized:
        return

    def of_trace() -> tf.Tensor:
        return _traces.compiled(model, _scores, score, some)(model, score, some)

    if _differ(of_trace(), scores):
        if _differ(score(some), scores):
            raise ValueError(
                "score must give the same images the same scores again: it draws at random, or keeps a "
                "state. Where that is meant, say randomized=True"
            )
        _traces.forget(score)


def _differ(scores: Any, others: Any, by: float = 1e-3) -> bool:
    """Whether scores differ by more than this share of them, or a tenth of it of the others."""
    others = np.asarray(others)
    return not np.allclose(scores, others, rtol=by, atol=0.1 * by * np.median(np.abs(others)))


def _scores(_: keras.Model, score: Score, images: tf.Tensor) -> tf.Tensor:
    """What is compiled to see whether it answers as the score does."""
    return score(images)


def _search(
    model: keras.Model,
    score: Score,
    state: _State,
    pieces: tf.Tensor,
    lower: tf.Tensor,
    upper: tf.Tensor,
    classes: tf.Tensor,
    step_size: tf.Tensor,
    steps: tf.Tensor,
    targeted: tf.Tensor,
    threshold: tf.Tensor,
) -> tuple[tf.Tensor, ...]:
    """So many steps further."""
    x, best, lowest, balance, velocity, taken, step, active, notes = state
    can_move = tf.reduce_any(upper > lower, axis=(1, 2, 3))
    for _ in tf.range(pieces):
        tf.autograph.experimental.set_loop_options(shape_invariants=[(active, tf.TensorShape([None]))])
        if tf.size(active) == 0:
            break
        here, y = tf.gather(x, active), tf.gather(classes, active)
        logits, fooling = uphill(model, here, y)
        fooled = _loop.fooled(logits, y, targeted)
        if notes.shape[1]:
            look = tf.fill(tf.shape(active), step)
            notes = _loop.note(notes, active, look, _loop.log_odds(logits, y), fooled)
        with tf.GradientTape() as tape:
            tape.watch(here)
            scores = score(here)
        evading = tape.gradient(scores, here)

        value = tf.where(fooled & tf.math.is_finite(scores), scores, np.inf)
        old = tf.gather(lowest, active)
        rows = tf.boolean_mask(active, value < old)[:, None]
        best = tf.tensor_scatter_nd_update(best, rows, tf.boolean_mask(here, value < old))
        lowest = tf.tensor_scatter_nd_min(lowest, active[:, None], value)
        go_on = (value >= threshold) & (step < steps) & tf.gather(can_move, active)
        active = tf.boolean_mask(active, go_on)
        rows = active[:, None]

        change = tf.where(tf.boolean_mask(fooled, go_on), RATE, -RATE)
        balance = tf.tensor_scatter_nd_add(balance, rows, change)
        weight = tf.sigmoid(tf.gather(balance, active))[:, None, None, None]
        towards = _unit(tf.boolean_mask(fooling, go_on))
        towards = tf.where(targeted, -towards, towards)
        away = _unit(tf.boolean_mask(evading, go_on))
        move = (1 - weight) * towards - weight * away + MOMENTUM * tf.gather(velocity, active)
        velocity = tf.tensor_scatter_nd_update(velocity, rows, move)
        largest = tf.reduce_max(tf.abs(move), axis=(1, 2, 3), keepdims=True)
        decay = (1 + tf.cos(np.pi * tf.cast(step, tf.float32) / tf.cast(steps, tf.float32))) / 2
        size = decay * tf.gather(step_size, active)[:, None, None, None]
        moved = tf.boolean_mask(here, go_on) + size * tf.math.divide_no_nan(move, largest)
        moved = tf.clip_by_value(moved, tf.gather(lower, active), tf.gather(upper, active))
        x = tf.tensor_scatter_nd_update(x, rows, moved)
        taken = tf.tensor_scatter_nd_add(taken, rows, tf.ones_like(active))
        step += 1
    return x, best, lowest, balance, velocity, taken, step, active, notes


def _unit(gradient: tf.Tensor) -> tf.Tensor:
    """Gradients (m, height, width, channels) divided by the sum of their absolute values; NaN is 0."""
    finite = tf.where(tf.math.is_finite(gradient), gradient, 0.0)
    return tf.math.divide_no_nan(finite, tf.reduce_sum(tf.abs(finite), axis=(1, 2, 3), keepdims=True))
