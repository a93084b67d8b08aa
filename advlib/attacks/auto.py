"""Projected gradient descent that chooses its own step sizes."""

from typing import Any, Literal, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from advlib import _pace, _traces, data
from advlib._checks import check_choice, check_flag, check_integer, check_per_image
from advlib._models import logits_of, predict
from advlib.attacks import _loop, _seeds
from advlib.attacks._norms import NORMS, inside, scaled
from advlib.attacks._result import AttackResult, trace_of
from advlib.attacks.gradient_sign import bounds
from advlib.attacks.levels import check_levels, level_bounds, snapped

LOSSES = ("ce", "dlr")
# Of the way to the new point, and of the last step again (Croce and Hein 2020).
MOMENTUM = 0.75
# A size is halved if the loss has risen in no larger share of the steps since the last checkpoint.
RISING = 0.75


def auto_pgd(
    model: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    epsilon: float | np.ndarray,
    norm: Literal["linf", "l2"] = "linf",
    loss: Literal["ce", "dlr"] = "ce",
    steps: int = 100,
    restarts: int = 1,
    aims: int = 0,
    targeted: bool = False,
    early_stop: bool = False,
    levels: int | None = None,
    seed: int,
    trace: bool = False,
    randomized: bool = False,
    batch_size: int | None = None,
) -> AttackResult:
    r"""Auto-PGD (Croce and Hein 2020, https://arxiv.org/abs/2003.01690): no step size to choose.

    From a random start in the ball, with step size :math:`\eta`, at first :math:`2\varepsilon`,

    .. math:: z = \Pi\bigl(x_k + \eta\,g_k\bigr), \quad
              x_{k+1} = \Pi\bigl(x_k + 0.75\,(z - x_k) + 0.25\,(x_k - x_{k-1})\bigr),

    where :math:`g_k` is the sign of the loss's gradient (or, in L2, the gradient divided by its length)
    and :math:`\Pi` projects on the ball around the image and on [0, 1]. At checkpoints, which follow one
    another ever faster, :math:`\eta` is halved and the search goes on from its best point, if the loss
    has risen in at most three quarters of the steps since the last checkpoint, or if at that one
    :math:`\eta` was not halved and the best loss has not risen since.

    The losses, of which no float32 rounding takes the gradient away where the network is certain:

    - "ce": the log-odds against the class, :math:`\log \sum_{j \ne y} e^{Z_j} - Z_y`, which rise with
      the cross-entropy;
    - "dlr": the difference of logits ratio,
      :math:`(\max_{j \ne y} Z_j - Z_y) / (Z_{\pi_1} - Z_{\pi_3})`, with the logits in falling order
      :math:`Z_{\pi_1}, Z_{\pi_2}, \dots`: it does not change with the scale of the logits;
    - "dlr" with aims: :math:`(Z_t - Z_y) / (Z_{\pi_1} - (Z_{\pi_3} + Z_{\pi_4}) / 2)`.

    With `targeted`, the negative of the first or second, for the target in the place of y.

    Parameters
    ----------
    model, images, labels, targeted, levels, trace, randomized, batch_size
        As in `fgsm`; levels are for L∞.
    epsilon : float, or array of floats, (n,)
        Radius of the ball, not negative: the largest change of a pixel, at most 1, or in "l2" the
        Euclidean length of the change.
    norm : {"linf", "l2"}
    loss : {"ce", "dlr"}
        "dlr" needs three classes, with aims four.
    steps : int
        Steps of a run.
    restarts : int
        Runs at most, each from a random start. An image takes the next one only if none has succeeded.
    aims : int
        With "dlr", and not `targeted`: so many wrong classes are aimed at one after the other, those of
        the highest logits of the unchanged image first, a run each; any wrong class is a success.
    early_stop : bool
        Let an image go at its first success. Without it every run takes all steps, and gives the success
        of the highest loss.
    seed : int
        Of the starts. What happens to an image depends on it, the image and its class, and not on the
        other images.

    Returns
    -------
    AttackResult
        A success of each image, or else the point of the highest loss of the last run. Two evaluations
        for each step and two for the start, the backward pass of the last point included; with `aims`
        one for the unchanged image.

    Raises
    ------
    ValueError
        If an argument is not of that form; the message names it.
    """
    images, labels = _loop.check_arguments(model, images, labels, batch_size, randomized=randomized)
    norm, loss = check_choice(norm, NORMS, "norm"), check_choice(loss, LOSSES, "loss")
    epsilon = check_per_image(epsilon, len(images), "epsilon", high=1 if norm == "linf" else np.inf)
    steps = check_integer(steps, "steps")
    restarts = check_integer(restarts, "restarts")
    targeted, early_stop = check_flag(targeted, "targeted"), check_flag(early_stop, "early_stop")
    seed = check_integer(seed, "seed", low=0)
    top, trace = check_levels(levels, images), check_flag(trace, "trace")
    if top and norm != "linf":
        raise ValueError(f'levels must be None for norm "{norm}": rounding changes the length')
    batch_size = batch_size or _loop.fitting_batch(images)
    plan = _plan(model, images, labels, loss, check_integer(aims, "aims", low=0), restarts, targeted)

    keys = _seeds.keys(images, labels, seed)
    attacked, success = images.copy(), np.zeros(len(images), bool)
    iterations = np.zeros(len(images), np.int64)
    evaluations = np.full(len(images), int(aims > 0), np.int64)
    settings = _Settings(norm, loss, targeted, early_stop, aims > 0, top)
    notes = np.full((len(images), len(plan), steps + 1 if trace else 0, 2), np.nan, np.float32)
    with _pace.bar("attacking") as bar:
        for run, aimed in enumerate(plan):
            rest = np.flatnonzero(~success)
            parts = [rest[first : first + batch_size] for first in range(0, len(rest), batch_size)]
            bar.total += (steps + 1) * len(parts)
            for part in parts:
                found, success[part], taken, notes[part, run] = _run(
                    *(model, images[part], labels[part], aimed[part], epsilon[part], keys[part], run),
                    steps=steps,
                    settings=settings,
                    trace=trace,
                    bar=bar,
                )
                attacked[part] = found
                iterations[part] += taken
                evaluations[part] += 2 * (taken + 1)
    success = _loop.look(
        *(model, attacked, labels),
        targeted=targeted,
        randomized=randomized,
        batch_size=batch_size,
    )
    return AttackResult(
        *(attacked, success, iterations, evaluations),
        randomized=bool(randomized),
        trace=trace_of(notes.reshape(len(images), -1, 2)),
    )


class _Settings(NamedTuple):
    """What a trace is made for."""

    norm: str
    loss: str
    targeted: bool
    early_stop: bool
    aimed: bool
    top: int


def _plan(
    model: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    loss: str,
    aims: int,
    restarts: int,
    targeted: bool,
) -> list[np.ndarray]:
    """For each run the classes that it aims at, (n,): the labels themselves where it aims at none."""
    if not aims and loss == "ce":
        return [labels] * restarts
    first = tf.constant(images[:1])
    look = _traces.compiled(model, logits_of, first)
    classes = look.structured_outputs.shape[1] or look(model, first).shape[1]
    if classes < 3 + (aims > 0):
        raise ValueError(f'loss must be "ce" for {classes} classes: "dlr" compares {3 + (aims > 0)}')
    if not aims:
        return [labels] * restarts
    if loss != "dlr" or targeted:
        raise ValueError('aims must be 0 unless the loss is "dlr" and the attack is not targeted')
    if aims >= classes:
        raise ValueError(f"aims must be at most {classes - 1}, the number of wrong classes, got {aims}")
    logits = predict(model, images, batch_size=_loop.fitting_batch(images))
    own = np.arange(classes) == labels[:, None]
    order = np.argsort(np.where(own, np.inf, -logits), axis=1, kind="stable")
    return [order[:, aim] for _ in range(restarts) for aim in range(aims)]


def checkpoints(steps: int) -> np.ndarray:
    """How many steps lie between a checkpoint and the last one, int32 (steps + 1,); 0 elsewhere.

    As in the authors' program: after 22% of all steps, then each time 3% less, but at least 6%.
    """
    lengths = np.zeros(steps + 1, np.int32)
    length, at = max(int(0.22 * steps), 1), 0
    while at + length <= steps:
        at += length
        lengths[at] = length
        length = max(length - max(int(0.03 * steps), 1), max(int(0.06 * steps), 1))
    return lengths


class _State(NamedTuple):
    """Where a run stands: of the m images that are still in it, (m, …); `found` of all of the batch."""

    x: tf.Tensor
    previous: tf.Tensor
    best: tf.Tensor  # where the loss was highest
    gradient: tf.Tensor  # there
    highest: tf.Tensor  # that loss
    last: tf.Tensor  # the loss at `previous`
    size: tf.Tensor  # of a step, in units of epsilon
    rises: tf.Tensor  # steps since the last checkpoint in which the loss rose, int32
    reference: tf.Tensor  # the highest loss at the last checkpoint
    halved: tf.Tensor  # there, bool
    # What does not change.
    start: tf.Tensor
    lower: tf.Tensor
    upper: tf.Tensor
    radius: tf.Tensor  # (m,)
    classes: tf.Tensor
    aimed: tf.Tensor
    row: tf.Tensor  # of the image in the batch


def _run(
    model: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    aimed: np.ndarray,
    epsilon: np.ndarray,
    keys: np.ndarray,
    run: int,
    *,
    steps: int,
    settings: _Settings,
    trace: bool,
    bar: Any,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """One run of one batch: the images found, success as the trace saw it, steps taken, and notes."""
    radius = epsilon[:, None, None, None]
    linf = settings.norm == "linf"
    if settings.top:
        lower, upper = level_bounds(images, radius, settings.top)
    else:
        lower, upper = bounds(images, radius if linf else np.ones_like(radius))
    shape = images.shape[1:]
    x = tf.constant(images)
    noise = 2 * _seeds.uniform(tf.constant(keys), tf.constant(run), shape) - 1
    if linf:
        moved = x + tf.constant(radius, tf.float32) * noise
    else:
        normal = tf.math.erfinv(0.999999 * noise)  # Gaussian: no direction is preferred
        moved = x + scaled(normal, tf.constant(epsilon, tf.float32))
    x = tf.clip_by_value(moved, lower, upper)
    zero, nothing = tf.zeros(len(images)), tf.zeros(len(images), tf.int32)
    low = tf.fill(len(images), np.float32(-np.inf))
    state = _State(
        # The first look is no rise.
        *(x, x, x, tf.zeros_like(x), low, -low, zero + 2, nothing, low, tf.ones_like(low, tf.bool)),
        *(tf.constant(images), tf.constant(lower), tf.constant(upper)),
        *(tf.constant(epsilon, tf.float32), tf.constant(labels, tf.int32), tf.constant(aimed, tf.int32)),
        tf.range(len(images)),
    )
    # Image, loss of its success or -inf, steps taken, notes.
    found = x, low, nothing, _loop.no_notes(len(images), steps + 1, asked=trace)
    step, lengths = tf.constant(0), tf.constant(checkpoints(steps))
    arguments = (state, found, step, tf.constant(0), lengths)
    search = _traces.compiled(model, _search, *arguments, settings)
    before = bar.n
    for piece in _pace.pieces(steps + 1, bar):
        state, found, step = search(model, state, found, step, tf.constant(piece), lengths, settings)
        state = _State(*state)
        if not state.x.shape[0]:
            break
    bar.update(before + steps + 1 - bar.n)
    x, value, taken, notes = (part.numpy() for part in found)
    success = value > -np.inf
    left = state.row.numpy()
    # Those without success: where the loss was highest.
    rest = left[~success[left]]
    x[rest] = state.best.numpy()[~success[left]]
    if settings.top:
        x = data.quantize(x, levels=settings.top + 1)
    return inside(x, images, lower, upper, epsilon if not linf else None), success, taken, notes


def _search(
    model: keras.Model,
    state: _State,
    found: tuple[tf.Tensor, ...],
    step: tf.Tensor,
    pieces: tf.Tensor,
    lengths: tf.Tensor,
    settings: _Settings,
) -> tuple[Any, Any, tf.Tensor]:
    """So many steps further: a look at the point that was reached, and the step from there."""

    def go_on(state: _State, _: Any, __: tf.Tensor, done: tf.Tensor) -> tf.Tensor:
        return (done < pieces) & (tf.size(state.row) > 0)

    def body(state: _State, found: Any, step: tf.Tensor, done: tf.Tensor) -> tuple[Any, ...]:
        logits, value, gradient = _look(model, state, settings)
        fooled = _loop.fooled(logits, state.classes, tf.constant(settings.targeted))
        found = _keep(found, state, value, fooled, step, logits)
        if settings.early_stop:
            state, value, gradient = _loop.those(~fooled, (state, value, gradient))
        return (
            _step(state, value, gradient, lengths[step], step == 0, settings),
            found,
            step + 1,
            done + 1,
        )

    loop = (state, found, step, tf.constant(0))
    free = tf.nest.map_structure(lambda part: tf.TensorShape([None, *part.shape[1:]]), state)
    fixed = tf.nest.map_structure(lambda part: part.shape, loop[1:])
    state, found, step, _ = tf.while_loop(go_on, body, loop, shape_invariants=(free, *fixed))
    return state, found, step


def _look(
    model: keras.Model, state: _State, settings: _Settings
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Logits (m, k), loss (m,) and its gradient at x; minus infinity and 0 where they are no numbers."""
    seen = snapped(state.x, tf.constant(float(settings.top))) if settings.top else state.x
    with tf.GradientTape() as tape:
        tape.watch(seen)
        logits = logits_of(model, seen)
        value = _loss(logits, state.classes, state.aimed, settings)
    zero = tf.UnconnectedGradients.ZERO
    gradient = tape.gradient(value, seen, unconnected_gradients=zero)
    value = tf.where(tf.math.is_finite(value), value, -np.inf)
    return logits, value, tf.where(tf.math.is_finite(gradient), gradient, 0.0)


def _loss(logits: tf.Tensor, classes: tf.Tensor, aimed: tf.Tensor, settings: _Settings) -> tf.Tensor:
    """The loss to be raised, (m,): see `auto_pgd`."""
    own = tf.one_hot(classes, tf.shape(logits)[1], on_value=True, off_value=False)
    others = tf.where(own, logits.dtype.min, logits)
    of_class = tf.gather(logits, classes, batch_dims=1)
    if settings.loss == "ce":
        value = tf.reduce_logsumexp(others, axis=1) - of_class
    elif settings.aimed:
        top = tf.math.top_k(logits, 4).values
        scale = top[:, 0] - (top[:, 2] + top[:, 3]) / 2
        value = (tf.gather(logits, aimed, batch_dims=1) - of_class) / (scale + 1e-12)
    else:
        top = tf.math.top_k(logits, 3).values
        value = (tf.reduce_max(others, axis=1) - of_class) / (top[:, 0] - top[:, 2] + 1e-12)
    return -value if settings.targeted else value


def _keep(
    found: tuple[tf.Tensor, ...],
    state: _State,
    value: tf.Tensor,
    fooled: tf.Tensor,
    step: tf.Tensor,
    logits: tf.Tensor,
) -> tuple[tf.Tensor, ...]:
    """Of each image the success of the highest loss, the steps taken so far, and notes."""
    images, values, taken, notes = found
    # A loss that is no number is lower than any other, but its success is one.
    worth = tf.maximum(value, value.dtype.min)
    better = fooled & (worth > tf.gather(values, state.row))
    images = _loop.put(images, state.row, better, state.x)
    values = _loop.put(values, state.row, better, worth)
    now = tf.fill(tf.shape(state.row), step)
    taken = tf.tensor_scatter_nd_update(taken, state.row[:, None], now)
    if notes.shape[1]:
        odds = _loop.log_odds(logits, state.classes)
        notes = _loop.note(notes, state.row, now, odds, fooled)
    return images, values, taken, notes


def _step(
    state: _State,
    value: tf.Tensor,
    gradient: tf.Tensor,
    length: tf.Tensor,
    first: tf.Tensor,
    settings: _Settings,
) -> _State:
    """The next point, the size halved before if this is a checkpoint that asks for it.

    `length` is how many steps lie between this checkpoint and the last one; 0 where this is none.
    """

    def choose(condition: tf.Tensor, one: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
        return tf.where(condition[:, None, None, None], one, other)

    rises = state.rises + tf.cast(value > state.last, tf.int32)
    better = value > state.highest
    best, of_best = choose(better, state.x, state.best), choose(better, gradient, state.gradient)
    highest = tf.maximum(value, state.highest)

    checkpoint = length > 0
    slow = tf.cast(rises, tf.float32) <= RISING * tf.cast(length, tf.float32)
    stuck = ~state.halved & (highest <= state.reference)
    halve = checkpoint & (slow | stuck)
    size = tf.where(halve, state.size / 2, state.size)
    here, gradient = tf.cond(
        checkpoint,
        lambda: (choose(halve, best, state.x), choose(halve, of_best, gradient)),
        lambda: (state.x, gradient),
    )

    reach = size * state.radius
    if settings.norm == "linf":
        aim = here + reach[:, None, None, None] * tf.sign(gradient)
    else:
        aim = here + scaled(gradient, reach)
    change = _project(aim, state, settings) - here
    momentum = tf.where(first, 1.0, MOMENTUM)
    moved = here + momentum * change + (1 - momentum) * (here - state.previous)
    return state._replace(
        x=_project(moved, state, settings),
        previous=here,
        last=value,
        size=size,
        best=best,
        gradient=of_best,
        highest=highest,
        rises=tf.where(checkpoint, 0, rises),
        reference=tf.where(checkpoint, highest, state.reference),
        halved=tf.where(checkpoint, halve, state.halved),
    )


def _project(x: tf.Tensor, state: _State, settings: _Settings) -> tf.Tensor:
    """The point of the ball and of [0, 1] that is taken for x; in L∞ the nearest one."""
    if settings.norm == "l2":
        change = x - state.start
        length = tf.norm(tf.reshape(change, (tf.shape(x)[0], -1)), axis=1)
        x = tf.where(
            (length > state.radius)[:, None, None, None], state.start + scaled(change, state.radius), x
        )
    return tf.clip_by_value(x, state.lower, state.upper)
