"""Carlini and Wagner's attack: the smallest change in L2."""

from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from advlib import _pace, _traces, data
from advlib._checks import check_flag, check_integer, check_number
from advlib._models import logits_of
from advlib.attacks import _loop
from advlib.attacks._result import AttackResult, trace_of
from advlib.attacks.levels import check_levels, snapped

# The edges of [0, 1] are at infinity: pixels stay so near to them.
EDGE = 0.999999
# Adam's, as published; and how often, and by which share, a loss must have fallen.
MEAN, SQUARE, TINY = 0.9, 0.999, 1e-8
LOOKS, FALLEN = 10, 0.9999
LARGEST = 1e10


def carlini_wagner(
    model: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    steps: int = 1000,
    searches: int = 9,
    constant: float = 1e-3,
    learning_rate: float = 0.01,
    confidence: float = 0.0,
    targeted: bool = False,
    levels: int | None = None,
    trace: bool = False,
    randomized: bool = False,
    batch_size: int | None = None,
) -> AttackResult:
    r"""Carlini and Wagner's attack (2016, https://arxiv.org/abs/1608.04644): the least change in L2.

    With :math:`x' = (\tanh w + 1) / 2`, which is an image whatever w is, Adam minimises

    .. math:: \lVert x' - x \rVert_2^2 + c \max\bigl(Z_y(x') - \max_{j \ne y} Z_j(x') + \kappa,\ 0\bigr),

    or with `targeted` :math:`\max_{j \ne t} Z_j(x') - Z_t(x') + \kappa`. The constant c of each image is
    found by a search: ten times as large until the attack succeeds, then by halving. A run of Adam ends
    early, for each image by itself, where the loss has not fallen any more in a tenth of the steps.

    Parameters
    ----------
    model, images, labels, targeted, levels, trace, randomized, batch_size
        As in `fgsm`; on levels, the distance is measured there, too.
    steps : int
        Steps of a run at most.
    searches : int
        Runs, each with another constant.
    constant : float
        The first one, above 0.
    learning_rate : float
        Adam's, above 0.
    confidence : float
        κ: how many logits the wrong class, or the target, is to lead by. Not negative.

    Returns
    -------
    AttackResult
        Of each image the success of the smallest L2; where there was none, the unchanged image. Two
        evaluations for each step, all runs together.

    Raises
    ------
    ValueError
        If an argument is not of that form; the message names it.
    """
    images, labels = _loop.check_arguments(model, images, labels, batch_size, randomized=randomized)
    steps, searches = check_integer(steps, "steps"), check_integer(searches, "searches")
    least = np.nextafter(0, 1)
    constant = check_number(constant, "constant", low=least, high=LARGEST)
    learning_rate = check_number(learning_rate, "learning_rate", low=least, high=np.inf)
    confidence = check_number(confidence, "confidence", low=0, high=_loop.MOST_CONFIDENT)
    targeted = check_flag(targeted, "targeted")
    batch_size = batch_size or _loop.fitting_batch(images)
    top, trace = check_levels(levels, images), check_flag(trace, "trace")
    notes = np.full((len(images), searches, steps if trace else 0, 2), np.nan, np.float32)

    attacked, iterations = images.copy(), np.zeros(len(images), np.int64)
    options = tuple(tf.constant(value) for value in (targeted, confidence, learning_rate, float(top)))
    with _pace.bar("attacking") as bar:
        parts = [slice(first, first + batch_size) for first in range(0, len(images), batch_size)]
        bar.total += searches * steps * len(parts)
        for part in parts:
            count = len(images[part])
            start, classes = tf.constant(images[part]), tf.constant(labels[part], tf.int32)
            best = start, tf.fill(count, np.float32(np.inf))
            constants = np.full(count, constant, np.float32)
            low, high = np.zeros(count, np.float32), np.full(count, np.inf, np.float32)
            for number in range(searches):
                state = _State.of(start, classes, tf.constant(constants))
                hit, step = tf.zeros(count, tf.bool), tf.constant(0)
                taken, before = tf.zeros(count, tf.int32), bar.n
                noted = _loop.no_notes(count, steps, asked=trace)
                for piece in _pace.pieces(steps, bar):
                    found = best, hit, taken, noted, step
                    numbers = tf.constant(piece), tf.constant(max(1, steps // LOOKS))
                    arguments = (state, *found, *numbers, *options)
                    search = _traces.compiled(model, _search, *arguments)
                    state, best, hit, taken, noted, step = search(model, *arguments)
                    state = _State(*state)
                    if not state.row.shape[0]:
                        break
                bar.update(before + steps - bar.n)
                iterations[part] += taken.numpy()
                notes[part, number] = noted.numpy()
                constants, low, high = _narrow(constants, low, high, hit.numpy())
            found = np.clip(best[0].numpy(), 0, 1)
            attacked[part] = data.quantize(found, levels=top + 1) if top else found
    success = _loop.look(
        model, attacked, labels, targeted=targeted, randomized=randomized, batch_size=batch_size
    )
    return AttackResult(
        *(attacked, success, iterations, 2 * iterations),
        randomized=bool(randomized),
        trace=trace_of(notes.reshape(len(images), -1, 2)),
    )


def _narrow(
    constants: np.ndarray, low: np.ndarray, high: np.ndarray, worked: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The next constants to try, and between which ones the least that works is known to lie.

    `high` is infinite as long as none has worked. All float32 (m,); `worked`, bool, is of the last ones.
    """
    high = np.where(worked, np.minimum(high, constants), high)
    low = np.where(worked, low, np.maximum(low, constants))
    known = np.isfinite(high)
    between = (low + np.where(known, high, 0)) / 2
    following = np.where(known, between, np.minimum(10 * constants, np.float32(LARGEST)))
    return following.astype(np.float32), low, high


class _State(NamedTuple):
    """Where a run stands, for the m images that are still in it, (m, …)."""

    w: tf.Tensor
    mean: tf.Tensor
    square: tf.Tensor
    loss: tf.Tensor  # when it was last compared
    # What does not change.
    start: tf.Tensor
    classes: tf.Tensor
    constant: tf.Tensor
    row: tf.Tensor  # of the image in the batch

    @classmethod
    def of(cls, images: tf.Tensor, classes: tf.Tensor, constant: tf.Tensor) -> "_State":
        """Where it begins: at the images."""
        w, zero = tf.math.atanh(EDGE * (2 * images - 1)), tf.zeros_like(images)
        infinite = tf.fill(tf.shape(classes), np.float32(np.inf))
        return cls(w, zero, zero, infinite, images, classes, constant, tf.range(tf.size(classes)))


def _search(
    model: keras.Model,
    state: _State,
    best: tuple[tf.Tensor, tf.Tensor],
    hit: tf.Tensor,
    taken: tf.Tensor,
    notes: tf.Tensor,
    step: tf.Tensor,
    pieces: tf.Tensor,
    every: tf.Tensor,
    targeted: tf.Tensor,
    confidence: tf.Tensor,
    learning_rate: tf.Tensor,
    top: tf.Tensor,
) -> tuple[Any, ...]:
    """So many steps further."""

    def go_on(state: _State, *others: Any) -> tf.Tensor:
        return (others[-1] < pieces) & (tf.size(state.row) > 0)

    def body(
        state: _State, best: Any, hit: Any, taken: Any, notes: Any, step: tf.Tensor, done: tf.Tensor
    ) -> tuple[Any, ...]:
        with tf.GradientTape() as tape:
            tape.watch(state.w)
            x = (tf.tanh(state.w) + 1) / 2
            # As if rounding to levels were the identity.
            x += tf.stop_gradient(snapped(x, top) - x)
            logits = logits_of(model, x)
            distance = tf.reduce_sum(tf.square(x - state.start), axis=(1, 2, 3))
            loss = distance + state.constant * _shortfall(logits, state.classes, targeted, confidence)
        zero = tf.UnconnectedGradients.ZERO
        gradient = tape.gradient(loss, state.w, unconnected_gradients=zero)
        gradient = tf.where(tf.math.is_finite(gradient), gradient, 0.0)

        fooled = _loop.fooled(logits, state.classes, targeted, confidence)
        better = fooled & (distance < tf.gather(best[1], state.row))
        best = (
            _loop.put(best[0], state.row, better, x),
            _loop.put(best[1], state.row, better, distance),
        )
        hit |= tf.scatter_nd(state.row[:, None], tf.cast(fooled, tf.int32), tf.shape(hit)) > 0
        taken = tf.tensor_scatter_nd_add(taken, state.row[:, None], tf.ones_like(state.row))
        if notes.shape[1]:
            odds, look = _loop.log_odds(logits, state.classes), tf.fill(tf.shape(state.row), step)
            seen = _loop.fooled(logits, state.classes, targeted)
            notes = _loop.note(notes, state.row, look, odds, seen)

        time = tf.cast(step + 1, tf.float32)
        mean = MEAN * state.mean + (1 - MEAN) * gradient
        square = SQUARE * state.square + (1 - SQUARE) * tf.square(gradient)
        size = learning_rate * tf.sqrt(1 - SQUARE**time) / (1 - MEAN**time)
        w = state.w - size * mean / (tf.sqrt(square) + TINY)
        compare = (step + 1) % every == 0
        falls = ~compare | (loss <= FALLEN * state.loss)
        loss = tf.where(compare, loss, state.loss)
        state = state._replace(w=w, mean=mean, square=square, loss=loss)
        state = _loop.those(falls, state)
        return state, best, hit, taken, notes, step + 1, done + 1

    loop = (state, best, hit, taken, notes, step, tf.constant(0))
    free = tf.nest.map_structure(lambda part: tf.TensorShape([None, *part.shape[1:]]), state)
    fixed = tf.nest.map_structure(lambda part: part.shape, loop[1:])
    return tf.while_loop(go_on, body, loop, shape_invariants=(free, *fixed))[:-1]


def _shortfall(
    logits: tf.Tensor, classes: tf.Tensor, targeted: tf.Tensor, confidence: tf.Tensor
) -> tf.Tensor:
    """How many logits are missing to a success, (m,); 0 where none is."""
    lead = _loop.lead(logits, classes)
    return tf.maximum(tf.where(targeted, lead, -lead) + confidence, 0.0)
