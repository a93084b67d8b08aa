"""What attacks share: checks, and for gradients the loop: look, leave if done, else step."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from advlib import _models, _pace
from advlib._checks import check_flag, check_images, check_integer, check_labels
from advlib._models import logits_of
from advlib._traces import compiled
from advlib.attacks._result import AttackResult, trace_of

# Values in a batch, unless told otherwise: 1,337 digits, or 6 colour images of 224 × 224.
BATCH_VALUES = 2**20

# Logits. An infinite handicap times 0 would be no number.
MOST_CONFIDENT = 1e6

# A step of an attack: model, images (m, h, w, c), classes (m,) and what else it needs, (m, …) each,
# to the logits (m, k), the images after the step, and where there is a step to take, bool (m,).
Step = Callable[..., tuple[tf.Tensor, tf.Tensor, tf.Tensor]]


def gradients(
    model: keras.Model,
    images: tf.Tensor,
    directions: Callable[[tf.Tensor], Sequence[tf.Tensor]],
) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """Logits, and for each direction v (m, k) that they give the gradient of v·Z(x), (m, h, w, c).

    One forward pass, and one backward pass a direction.
    """
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(images)
        logits = logits_of(model, images)
    zero = tf.UnconnectedGradients.ZERO  # where no path to the images can be differentiated
    return logits, [
        tape.gradient(logits, images, output_gradients=v, unconnected_gradients=zero)
        for v in directions(logits)
    ]


def fooled(
    logits: tf.Tensor, classes: tf.Tensor, targeted: tf.Tensor, confidence: tf.Tensor | float = 0.0
) -> tf.Tensor:
    """Whether the prediction is the target, or else not the true class: bool (m,).

    And whether it would be so if its logit stood lower, or else that of the true class higher, by the
    confidence.
    """
    handicap = tf.where(targeted, -confidence, confidence) * tf.one_hot(classes, tf.shape(logits)[1])
    hit = tf.argmax(logits + handicap, axis=1, output_type=classes.dtype) == classes
    return tf.reduce_all(tf.math.is_finite(logits), axis=1) & (hit == targeted)


def lead(logits: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
    """How far the strongest other class is ahead of the class, (m,).

    Minus infinity where logits are not finite.
    """
    own = tf.one_hot(classes, tf.shape(logits)[1], on_value=True, off_value=False)
    others = tf.reduce_max(tf.where(own, logits.dtype.min, logits), axis=1)
    ahead = others - tf.gather(logits, classes, batch_dims=1)
    return tf.where(tf.reduce_all(tf.math.is_finite(logits), axis=1), ahead, -np.inf)


def log_odds(logits: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
    """Against the class, (m,): log((1 - p) / p) with its probability p, which need not be computed."""
    own = tf.one_hot(classes, tf.shape(logits)[1], on_value=True, off_value=False)
    others = tf.reduce_logsumexp(tf.where(own, logits.dtype.min, logits), axis=1)
    return others - tf.gather(logits, classes, batch_dims=1)


def those(condition: tf.Tensor, values: Any) -> Any:
    """Of tensors (m, …), nested, the rows where the condition, bool (m,), holds."""
    # Mostly it holds for all, and masking would copy them.
    return tf.cond(
        tf.reduce_all(condition),
        lambda: values,
        lambda: tf.nest.map_structure(lambda part: tf.boolean_mask(part, condition), values),
    )


def put(into: tf.Tensor, rows: tf.Tensor, condition: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """The first tensor with values (m, …), where the condition, bool (m,), holds, in the rows (m,)."""

    def replaced() -> tf.Tensor:
        places = tf.boolean_mask(rows, condition)[:, None]
        return tf.tensor_scatter_nd_update(into, places, tf.boolean_mask(values, condition))

    return tf.cond(tf.reduce_any(condition), replaced, lambda: into)


def no_notes(count: int, looks: int, *, asked: bool) -> tf.Tensor:
    """Where a trace is noted, (count, looks, 2), NaN; without looks where none is asked for."""
    return tf.fill((count, looks if asked else 0, 2), np.float32(np.nan))


def note(
    notes: tf.Tensor, rows: tf.Tensor, look: tf.Tensor, odds: tf.Tensor, success: tf.Tensor
) -> tf.Tensor:
    """The notes with those of one look at some of the images: all (m,)."""
    if not notes.shape[1]:
        return notes
    places = tf.stack([rows, look], axis=1)
    seen = tf.stack([odds, tf.cast(success, tf.float32)], axis=1)
    return tf.tensor_scatter_nd_update(notes, places, seen)


class State(NamedTuple):
    """Where an attack stands, for m images, of which only the `active` still move, int32 (…,)."""

    x: tf.Tensor
    active: tf.Tensor
    logits: tf.Tensor  # (m, k) of the images that have left
    taken: tf.Tensor  # steps, (m,)
    computed: tf.Tensor  # steps, (m,)
    notes: tf.Tensor  # (m, looks, 2)


def _advance(
    model: keras.Model,
    step: Step,
    state: State,
    classes: tf.Tensor,
    extras: tuple[tf.Tensor, ...],
    steps: tf.Tensor,
    targeted: tf.Tensor,
    early_stop: tf.Tensor,
    confidence: tf.Tensor,
) -> tuple[tf.Tensor, ...]:
    """Some steps further."""
    x, active, logits, taken, computed, notes = state
    for _ in tf.range(steps):
        tf.autograph.experimental.set_loop_options(shape_invariants=[(active, tf.TensorShape([None]))])
        if tf.size(active) == 0:
            break
        if early_stop:
            here = [tf.gather(values, active) for values in (x, classes, *extras)]
            current, moved, can_move = step(model, *here)
            hit = fooled(current, here[1], targeted, confidence)
            if notes.shape[1]:
                odds, seen = log_odds(current, here[1]), fooled(current, here[1], targeted)
                notes = note(notes, active, tf.gather(computed, active), odds, seen)
            logits = tf.tensor_scatter_nd_update(logits, active[:, None], current)
            computed = tf.tensor_scatter_nd_add(computed, active[:, None], tf.ones_like(active))
            go_on = can_move & ~hit
            active = tf.boolean_mask(active, go_on)
            x = tf.tensor_scatter_nd_update(x, active[:, None], tf.boolean_mask(moved, go_on))
            taken = tf.tensor_scatter_nd_add(taken, active[:, None], tf.ones_like(active))
        else:
            current, x, _ = step(model, x, classes, *extras)
            if notes.shape[1]:
                odds, seen = log_odds(current, classes), fooled(current, classes, targeted)
                notes = note(notes, tf.range(tf.size(classes)), computed, odds, seen)
            taken += 1
            computed += 1
    return x, active, logits, taken, computed, notes


def fitting_batch(images: Any) -> int:
    """How many of the images make a batch."""
    return max(1, BATCH_VALUES // math.prod(images.shape[1:]))


def run(
    model: keras.Model,
    step: Step,
    prepare: Callable[[slice], tuple[np.ndarray, ...]],
    classes: np.ndarray,
    *,
    steps: int,
    passes: int,
    targeted: bool,
    early_stop: bool,
    randomized: bool,
    batch_size: int,
    bar: tqdm,
    confidence: float = 0.0,
    settle: Callable[..., np.ndarray] = lambda images, *_: images,
    trace: bool = False,
) -> tuple[AttackResult, np.ndarray]:
    """Attack batch by batch, some steps at a time.

    `prepare` gives, for a slice, the images to start from and what else the step needs of each;
    `settle` what becomes of the attacked images, given the same. `passes` is how many passes through the
    model a step makes; an early stop waits for the confidence. Returns the logits of the attacked
    images, (n, k), as well, as traces gave them: `confirmed` compares them with the model.
    """
    parts = [slice(start, start + batch_size) for start in range(0, len(classes), batch_size)]
    bar.total += steps * len(parts)
    batches = []
    for part in parts:
        start, *extras = prepare(part)
        x, labels = tf.constant(start), tf.constant(classes[part], tf.int32)
        last_look = compiled(model, logits_of, x)
        rows, nothing = tf.range(len(labels)), tf.zeros_like(labels)
        # Where a trace cannot tell how many classes there are, a look does.
        width = last_look.structured_outputs.shape[1] or last_look(model, x[:1]).shape[1]
        notes = no_notes(len(labels), steps + 1, asked=trace)
        state = State(x, rows, tf.zeros((len(labels), width)), nothing, nothing, notes)
        of_step = tuple(tf.constant(values) for values in extras)
        options = [tf.constant(value) for value in (targeted, early_stop, confidence)]
        before = bar.n
        if steps:
            arguments = (state, labels, of_step, tf.constant(0), *options)
            advance = compiled(model, _advance, step, *arguments)
        for size in _pace.pieces(steps, bar):
            arguments = (state, labels, of_step, tf.constant(size), *options)
            state = State(*advance(model, step, *arguments))
            if not state.active.shape[0]:
                break
        bar.update(before + steps - bar.n)  # those that nobody needed
        attacked, logits = settle(state.x.numpy(), *extras), state.logits.numpy()
        # Those that left have been looked at already.
        rest, notes = state.active.numpy(), state.notes.numpy()
        if rest.size:  # not every layer takes an empty batch
            logits[rest] = last_look(model, tf.constant(attacked[rest])).numpy()
        if trace:
            last = tf.constant(logits[rest]), labels.numpy()[rest]
            notes[rest, state.computed.numpy()[rest]] = np.column_stack(
                [log_odds(*last), fooled(*last, tf.constant(targeted))]
            )
        batches.append((attacked, logits, state.taken.numpy(), state.computed.numpy(), notes))
    attacked, logits, taken, computed, notes = (
        np.concatenate(column) for column in zip(*batches, strict=True)
    )
    # Those that ran out of steps were looked at once more, after the last.
    evaluations = passes * computed.astype(np.int64) + (taken == computed)
    success = succeeded(logits, classes, targeted=targeted)
    iterations = taken.astype(np.int64)
    result = AttackResult(
        *(attacked, success, iterations, evaluations),
        randomized=bool(randomized),
        trace=trace_of(notes),
    )
    return result, logits


def succeeded(logits: np.ndarray, classes: np.ndarray, *, targeted: bool) -> np.ndarray:
    """Whether logits (n, k) are a success, bool (n,)."""
    return fooled(tf.constant(logits), tf.constant(classes, tf.int32), tf.constant(targeted)).numpy()


def confirmed(
    model: keras.Model,
    result: AttackResult,
    logits: np.ndarray,
    classes: np.ndarray,
    *,
    targeted: bool,
    batch_size: int | None,
) -> AttackResult:
    """The result with the success that the model itself confirms."""
    logits = _models.confirm(
        model,
        result.images,
        logits,
        randomized=result.randomized,
        batch_size=batch_size or fitting_batch(result.images),
    )
    return replace(result, success=succeeded(logits, classes, targeted=targeted))


def look(
    model: keras.Model,
    images: np.ndarray,
    classes: np.ndarray,
    *,
    targeted: bool,
    randomized: bool,
    batch_size: int,
) -> np.ndarray:
    """Whether attacked images are a success, bool (n,), as the model itself confirms."""
    logits = _models.look(model, images, randomized=randomized, batch_size=batch_size)
    return succeeded(logits, classes, targeted=targeted)


def check_arguments(
    model: keras.Model,
    images: Any,
    classes: Any,
    batch_size: Any,
    *,
    randomized: bool,
    name: str = "labels",
) -> tuple[np.ndarray, np.ndarray]:
    """Return images and classes, checked against the model.

    Raises
    ------
    ValueError
        If the model does not return logits (n, classes), the same ones when it is asked again unless it
        is `randomized`, images or classes are not of the form that it needs, or `batch_size` is neither
        None nor a whole number of at least 1.
    """
    images = check_images(images)
    randomized = check_flag(randomized, "randomized")
    count = _models.check_logits(model, images, randomized=randomized, traced=True)
    classes = check_labels(classes, len(images), count, name)
    if batch_size is not None:
        check_integer(batch_size, "batch_size")
    return images, classes
