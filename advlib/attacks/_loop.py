"""What attacks share: checks, compiling, and for gradients the loop: look, leave if done, else step."""

import math
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from advlib._checks import check_images, check_integer, check_labels, check_logits
from advlib.attacks._result import AttackResult

# Values in a batch, unless told otherwise: 1,337 digits, or 6 colour images of 224 × 224.
BATCH_VALUES = 2**20

# Logits. An infinite handicap times 0 would be no number.
MOST_CONFIDENT = 1e6

# A step of an attack: model, images (m, h, w, c), classes (m,) and what else it needs, (m, …) each,
# to the logits (m, k), the images after the step, and where there is a step to take, bool (m,).
Step = Callable[..., tuple[tf.Tensor, tf.Tensor, tf.Tensor]]


def logits_of(model: keras.Model, images: tf.Tensor) -> tf.Tensor:
    """Logits (m, k) in float32, whatever the model computes in."""
    return tf.cast(model(images, training=False), tf.float32)


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


def _advance(
    model: keras.Model,
    step: Step,
    images: tf.Tensor,
    classes: tf.Tensor,
    extras: tuple[tf.Tensor, ...],
    steps: tf.Tensor,
    targeted: tf.Tensor,
    early_stop: tf.Tensor,
    confidence: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Images after the attack, their logits, the steps taken and the steps computed, (m,) each."""
    x = images
    active = tf.range(tf.shape(images)[0])  # the images that still move
    width = logits_of(model, images[:1]).shape[-1]  # while it is traced; never computed
    logits = tf.zeros((tf.shape(images)[0], width))
    taken = tf.zeros_like(active)
    computed = tf.zeros_like(active)
    for _ in tf.range(steps):
        tf.autograph.experimental.set_loop_options(shape_invariants=[(active, tf.TensorShape([None]))])
        if tf.size(active) == 0:
            break
        if early_stop:
            here = [tf.gather(values, active) for values in (x, classes, *extras)]
            current, moved, can_move = step(model, *here)
            logits = tf.tensor_scatter_nd_update(logits, active[:, None], current)
            computed = tf.tensor_scatter_nd_add(computed, active[:, None], tf.ones_like(active))
            go_on = can_move & ~fooled(current, here[1], targeted, confidence)
            active = tf.boolean_mask(active, go_on)
            x = tf.tensor_scatter_nd_update(x, active[:, None], tf.boolean_mask(moved, go_on))
            taken = tf.tensor_scatter_nd_add(taken, active[:, None], tf.ones_like(active))
        else:
            _, x, _ = step(model, x, classes, *extras)
            taken += 1
            computed += 1
    if tf.size(active) > 0:  # not every layer takes an empty batch
        # Those that left have been looked at already.
        last = logits_of(model, tf.gather(x, active))
        logits = tf.tensor_scatter_nd_update(logits, active[:, None], last)
    return x, logits, taken, computed


# Compiled functions of each model, and of whatever else decides on a trace: traces hold the weights of
# both, and must go when one goes.
_Traces = weakref.WeakKeyDictionary[Any, dict[Callable[..., Any], Any]]
_COMPILED: weakref.WeakKeyDictionary[keras.Model, _Traces] = weakref.WeakKeyDictionary()


def compiled(model: keras.Model, function: Callable[..., Any], *arguments: Any) -> Any:
    """Return `function` compiled for the model and for arguments of this form.

    It is traced once for tensors of any number of rows. Its first argument is the model; arguments
    that are not tensors are constants of the trace. If the first of them is callable, such as a step
    or a score, the trace lives no longer than it does.
    """
    anchor = arguments[0] if arguments and callable(arguments[0]) else function
    of_anchor = _COMPILED.setdefault(model, weakref.WeakKeyDictionary()).setdefault(anchor, {})
    traced = of_anchor.setdefault(function, tf.function(function))
    return traced.get_concrete_function(model, *tf.nest.map_structure(_any_number, arguments))


def fitting_batch(images: Any) -> int:
    """How many of the images make a batch."""
    return max(1, BATCH_VALUES // math.prod(images.shape[1:]))


def _any_number(values: Any) -> Any:
    """The form of a tensor, whatever its first dimension; anything else as it is."""
    if not tf.is_tensor(values):
        return values
    shape = (None, *values.shape[1:]) if values.shape.rank else ()
    return tf.TensorSpec(shape, values.dtype)


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
    batch_size: int,
    confidence: float = 0.0,
) -> tuple[AttackResult, np.ndarray]:
    """Attack batch by batch.

    `prepare` gives, for a slice, the images to start from and what else the step needs of each;
    `passes` is how many passes through the model a step makes; an early stop waits for the
    confidence. Returns the logits of the attacked images, (n, k), as well.
    """
    batches = []
    for start in range(0, len(classes), batch_size):
        part = slice(start, start + batch_size)
        images, *extras = (tf.constant(values) for values in prepare(part))
        arguments = (
            images,
            tf.constant(classes[part], tf.int32),
            tuple(extras),
            *(tf.constant(value) for value in (steps, targeted, early_stop, confidence)),
        )
        batch = compiled(model, _advance, step, *arguments)(model, step, *arguments)
        batches.append([values.numpy() for values in batch])
    attacked, logits, taken, computed = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    success = fooled(logits, tf.constant(classes, tf.int32), tf.constant(targeted)).numpy()
    # Those that ran out of steps were looked at once more, after the last.
    evaluations = passes * computed.astype(np.int64) + (taken == computed)
    return AttackResult(attacked, success, taken.astype(np.int64), evaluations), logits


def check_arguments(
    model: keras.Model, images: Any, classes: Any, batch_size: Any, *, name: str = "labels"
) -> tuple[np.ndarray, np.ndarray]:
    """Return images and classes, checked against the model.

    Raises
    ------
    ValueError
        If the model does not return logits (n, classes), images or classes are not of the form that
        it needs, or `batch_size` is neither None nor a whole number of at least 1.
    """
    images = check_images(images)
    if not isinstance(model, keras.Model):
        raise ValueError(f"model must be a Keras model, got {type(model).__name__}")
    classes = check_labels(classes, len(images), check_logits(model, images), name)
    if batch_size is not None:
        check_integer(batch_size, "batch_size")
    return images, classes
