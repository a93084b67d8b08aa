"""Square attack: random search, which needs the logits only."""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from advlib import _pace, _traces
from advlib._checks import check_choice, check_flag, check_integer, check_number, check_per_image
from advlib._models import logits_of, predict
from advlib.attacks import _loop, _seeds
from advlib.attacks._norms import NORMS, inside, scaled
from advlib.attacks._result import AttackResult, trace_of
from advlib.attacks.gradient_sign import bounds
from advlib.attacks.levels import check_levels, level_bounds

# After so many of 10,000 queries the squares cover half as much: the paper's schedule.
HALVED = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
# Steps whose random numbers are drawn together.
CHUNK = 250
# In L2 the image is at first covered by so many patterns in each direction.
PATTERNS = 5


def square(
    model: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    epsilon: float | np.ndarray,
    norm: Literal["linf", "l2"] = "linf",
    queries: int = 5000,
    restarts: int = 1,
    covered: float = 0.8,
    targeted: bool = False,
    levels: int | None = None,
    seed: int,
    trace: bool = False,
    randomized: bool = False,
    batch_size: int | None = None,
) -> AttackResult:
    r"""Square attack (Andriushchenko et al. 2019, https://arxiv.org/abs/1912.00049): no gradient.

    The search walks along the surface of the ball around the image. Each step proposes a change of one
    square, at a random place, and keeps it if the lead of the strongest wrong class over the true one,
    :math:`\max_{j \ne y} Z_j - Z_y`, grows (with `targeted` that of the target over all others). The
    squares shrink as the search goes on.

    In L∞ every pixel is changed by :math:`\pm\varepsilon`, at first in vertical stripes; a square gets
    new signs, one for each channel. In L2 the change is at first a grid of patterns that fall off from
    their centre; a step takes the length of the change in a second square away, and gives it to the
    first, with the same pattern added.

    Parameters
    ----------
    model, images, labels, targeted, levels, trace, randomized, batch_size
        As in `fgsm`; levels are for L∞. The trace is of the points that are kept.
    epsilon : float, or array of floats, (n,)
        Radius of the ball, not negative: the largest change of a pixel, at most 1, or in "l2" the
        Euclidean length of the change.
    norm : {"linf", "l2"}
    queries : int
        Queries at most for each image in a run, the one of the unchanged image included; at least 2.
    restarts : int
        Runs at most, each with other random numbers. An image takes the next one only if none has
        succeeded.
    covered : float
        Share of the pixels that the first squares cover, above 0, at most 1.
    seed : int
        What happens to an image depends on it, the image and its class, and not on the other images.

    Returns
    -------
    AttackResult
        The first success of each image, or else the last point of the last run. `evaluations` are
        queries: one for the unchanged image, which stays as it is if it is a success already; in each
        run one for the first change, and one for each step. `iterations` are steps.

    Raises
    ------
    ValueError
        If an argument is not of that form; the message names it.
    """
    images, labels = _loop.check_arguments(model, images, labels, batch_size, randomized=randomized)
    norm = check_choice(norm, NORMS, "norm")
    epsilon = check_per_image(epsilon, len(images), "epsilon", high=1 if norm == "linf" else np.inf)
    queries = check_integer(queries, "queries", low=2)
    restarts = check_integer(restarts, "restarts")
    targeted = check_flag(targeted, "targeted")
    covered = check_number(covered, "covered", low=np.nextafter(0, 1), high=1)
    seed = check_integer(seed, "seed", low=0)
    top, trace = check_levels(levels, images), check_flag(trace, "trace")
    if top and norm != "linf":
        raise ValueError(f'levels must be None for norm "{norm}": rounding changes the length')
    height, width, _ = images.shape[1:]
    batch_size = batch_size or _loop.fitting_batch(images)

    attacked = images.copy()
    unchanged = predict(model, images, batch_size=batch_size)
    success = _loop.succeeded(unchanged, labels, targeted=targeted)
    iterations, evaluations = np.zeros(len(images), np.int64), np.ones(len(images), np.int64)
    notes = np.full((len(images), restarts, queries if trace else 0, 2), np.nan, np.float32)
    if trace:
        odds = _loop.log_odds(tf.constant(unchanged), tf.constant(labels, tf.int32))
        notes[:, 0, 0] = np.column_stack([odds, success])
    sides = _sides(queries - 2, covered, height, width, least=1 if norm == "linf" else 3)
    with _pace.bar("asking") as bar:
        for run in range(restarts):
            # Seeds of later runs lie beyond those that anybody would give.
            keys = _seeds.keys(images, labels, seed + (run << 64))
            rest = np.flatnonzero(~success)
            parts = [rest[first : first + batch_size] for first in range(0, len(rest), batch_size)]
            bar.total += (queries - 1) * len(parts)
            for part in parts:
                of_part = images[part], labels[part], epsilon[part], keys[part], notes[part, run]
                attacked[part], success[part], taken, notes[part, run] = _run(
                    model, *of_part, norm, sides, targeted, top, bar
                )
                iterations[part] += taken
                evaluations[part] += 1 + taken
    success = _loop.look(
        model, attacked, labels, targeted=targeted, randomized=randomized, batch_size=batch_size
    )
    return AttackResult(
        *(attacked, success, iterations, evaluations),
        randomized=bool(randomized),
        trace=trace_of(notes.reshape(len(images), -1, 2)),
    )


def _sides(steps: int, covered: float, height: int, width: int, *, least: int) -> np.ndarray:
    """The side of the square of each step, integer (steps,); odd where a pattern needs it."""
    at = np.arange(steps) * 10_000 // max(steps, 1)
    shares = covered / 2.0 ** np.searchsorted(HALVED, at, side="left")
    sides = np.maximum(np.round(np.sqrt(shares * height * width)).astype(int), least)
    if least > 1:
        sides += 1 - sides % 2
    longest = min(height, width)
    return np.minimum(sides, longest - (least > 1) * (1 - longest % 2))


class _State(NamedTuple):
    """Where a search stands, for the m images that are still in it, (m, …)."""

    x: tf.Tensor
    lead: tf.Tensor
    odds: tf.Tensor  # log-odds
    # What does not change.
    start: tf.Tensor
    lower: tf.Tensor
    upper: tf.Tensor
    radius: tf.Tensor  # (m,)
    classes: tf.Tensor
    row: tf.Tensor  # of the image in the batch
    order: tf.Tensor  # among the random numbers that were drawn last


def _run(
    model: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    epsilon: np.ndarray,
    keys: np.ndarray,
    notes: np.ndarray,
    norm: str,
    sides: np.ndarray,
    targeted: bool,
    top: int,
    bar: tqdm,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Attack one batch of images: what became of them, success, steps taken, and notes."""
    linf = norm == "linf"
    radius = epsilon[:, None, None, None] if linf else np.ones((len(images), 1, 1, 1))
    lower, upper = level_bounds(images, radius, top) if top else bounds(images, radius)
    count, keys = len(images), tf.constant(keys)
    if linf:
        signs = _seeds.uniform(keys, tf.constant(0), (1, *images.shape[2:]))
        x = tf.where(signs < 0.5, lower, upper)
    else:
        change = scaled(_grid(keys, images.shape[1:]), tf.constant(epsilon, tf.float32))
        x = tf.clip_by_value(images + change, 0.0, 1.0)
    rows = tf.range(count)
    state = _State(
        *(x, tf.fill(count, np.float32(-np.inf)), tf.zeros(count), tf.constant(images)),
        *(tf.constant(lower), tf.constant(upper), tf.constant(epsilon, tf.float32)),
        *(tf.constant(labels, tf.int32), rows, rows),
    )
    found, taken, goal = (x, tf.constant(notes)), tf.zeros(count, tf.int32), tf.constant(targeted)
    begin = _traces.compiled(model, _begin, state, found, goal)
    state, found = begin(model, state, found, goal)
    bar.update(1)
    for number, (first, last) in enumerate(_chunks(sides)):
        state = _State(*state)._replace(order=tf.range(tf.shape(state[0])[0]))
        if not state.x.shape[0]:
            bar.update(len(sides) - first)
            break
        # For each image and step: two places, which way a pattern lies, a sign for each channel.
        wanted = last - first, 5 + images.shape[-1]
        draws = _seeds.uniform(tf.gather(keys, state.row), tf.constant(1 + number), wanted)
        # Flat: of whatever size, there is one trace.
        side = int(sides[first])
        chance = tf.reshape(draws, [-1]), tf.constant(last - first)
        pattern = tf.constant(_pattern(side).ravel(), tf.float32), tf.constant(side)
        done, before = 0, bar.n
        for piece in _pace.pieces(last - first, bar):
            # The unchanged image and the first change have been looked at before.
            numbers = tf.constant(done), tf.constant(piece), tf.constant(2 + first)
            arguments = (state, found, taken, goal, chance, pattern, numbers, linf)
            state, found, taken = _traces.compiled(model, _search, *arguments)(model, *arguments)
            state, done = _State(*state), done + piece
            if not state.x.shape[0]:
                break
        bar.update(before + last - first - bar.n)
    final, notes = (part.numpy() for part in found)
    row = _State(*state).row.numpy()
    final[row] = _State(*state).x.numpy()
    success = np.ones(count, bool)
    success[row] = False
    final = inside(final, images, lower, upper, None if linf else epsilon)
    return final, success, taken.numpy(), notes


def _chunks(sides: np.ndarray) -> Iterator[tuple[int, int]]:
    """First and last steps of stretches with squares of one side, of at most `CHUNK` steps."""
    begin = 0
    while begin < len(sides):
        same = int(np.argmin(np.append(sides[begin:] == sides[begin], False)))
        end = begin + min(same, CHUNK)
        yield begin, end
        begin = end


def _pattern(side: int) -> np.ndarray:
    """What a square adds in L2, (side, side): two halves that fall off from their centres, + and −."""
    if side == 1:
        return np.ones((1, 1))
    halves = []
    for height in (side // 2, side - side // 2):
        half = np.zeros((height, side))
        row, column = height // 2, side // 2
        for ring in range(max(row, column) + 1):
            rows = slice(max(row - ring, 0), row + ring + 1)
            half[rows, max(column - ring, 0) : column + ring + 1] += 1 / (ring + 1) ** 2
        halves.append(half / np.linalg.norm(half))
    pattern = np.concatenate([halves[0], -halves[1]])
    return pattern / np.linalg.norm(pattern)


def _grid(keys: tf.Tensor, shape: tuple[int, ...]) -> tf.Tensor:
    """Patterns side by side, each of a random sign in each channel and turned or not: (m, *shape)."""
    height, width, channels = shape
    count = min(PATTERNS, height, width)
    side = min(height, width) // count
    draws = _seeds.uniform(keys, tf.constant(0), (count, count, 1 + channels))
    pattern = tf.constant(_pattern(side), tf.float32)
    turned = draws[..., 0, None, None] < 0.5
    tiles = tf.where(turned, tf.transpose(pattern), pattern)  # (m, 5, 5, side, side)
    signs = tf.where(draws[..., 1:] < 0.5, -1.0, 1.0)
    tiles = tiles[..., None] * signs[:, :, :, None, None]
    tiles = tf.transpose(tiles, (0, 1, 3, 2, 4, 5))
    grid = tf.reshape(tiles, (-1, count * side, count * side, channels))
    free = height - count * side, width - count * side
    return tf.pad(grid, [[0, 0], *([part // 2, part - part // 2] for part in free), [0, 0]])


def _look(
    model: keras.Model, x: tf.Tensor, classes: tf.Tensor, goal: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The lead that is to grow, (m,), minus infinity where it is no number; log-odds; success."""
    logits = logits_of(model, x)
    lead = _loop.lead(logits, classes)
    lead = tf.where(goal & tf.math.is_finite(lead), -lead, lead)
    return lead, _loop.log_odds(logits, classes), _loop.fooled(logits, classes, goal)


def _begin(
    model: keras.Model, state: _State, found: tuple[tf.Tensor, tf.Tensor], goal: tf.Tensor
) -> tuple[_State, tuple[tf.Tensor, tf.Tensor]]:
    """Look at the first changes."""
    lead, odds, fooled = _look(model, state.x, state.classes, goal)
    return _leave(state._replace(lead=lead, odds=odds), found, fooled, tf.constant(1))


def _leave(
    state: _State, found: tuple[tf.Tensor, tf.Tensor], fooled: tf.Tensor, query: tf.Tensor
) -> tuple[_State, tuple[tf.Tensor, tf.Tensor]]:
    """Note how far each has come, and let go those that have succeeded."""
    images, notes = found
    images = _loop.put(images, state.row, fooled, state.x)
    notes = _loop.note(notes, state.row, tf.fill(tf.shape(state.row), query), state.odds, fooled)
    return _loop.those(~fooled, state), (images, notes)


def _search(
    model: keras.Model,
    state: _State,
    found: tuple[tf.Tensor, tf.Tensor],
    taken: tf.Tensor,
    goal: tf.Tensor,
    chance: tuple[tf.Tensor, tf.Tensor],
    pattern: tuple[tf.Tensor, tf.Tensor],
    numbers: tuple[tf.Tensor, tf.Tensor, tf.Tensor],
    linf: bool,
) -> tuple[Any, Any, tf.Tensor]:
    """So many steps further."""
    channels = state.x.shape[-1]
    draws = tf.reshape(chance[0], (-1, chance[1], 5 + channels))
    side = pattern[1]
    begin, steps, first = numbers

    def go_on(state: _State, _: Any, __: Any, done: tf.Tensor) -> tf.Tensor:
        return (done < begin + steps) & (tf.size(state.row) > 0)

    def body(state: _State, found: Any, taken: Any, done: tf.Tensor) -> tuple[Any, ...]:
        lots = tf.gather(draws[:, done], state.order)
        if linf:
            proposed = _square(state, lots, side)
        else:
            proposed = _squares(state, lots, side, tf.reshape(pattern[0], (side, side)))
        lead, odds, fooled = _look(model, proposed, state.classes, goal)
        better = (lead > state.lead) | fooled
        x = tf.where(better[:, None, None, None], proposed, state.x)
        taken = tf.tensor_scatter_nd_add(taken, state.row[:, None], tf.ones_like(state.row))
        kept = (tf.where(better, new, old) for new, old in ((lead, state.lead), (odds, state.odds)))
        state = state._replace(x=x, **dict(zip(("lead", "odds"), kept, strict=True)))
        return *_leave(state, found, fooled, first + done), taken, done + 1

    loop = (state, found, taken, begin)
    free = tf.nest.map_structure(lambda part: tf.TensorShape([None, *part.shape[1:]]), state)
    fixed = tf.nest.map_structure(lambda part: part.shape, loop[1:])
    state, found, taken, _ = tf.while_loop(go_on, body, loop, shape_invariants=(free, *fixed))
    return state, found, taken


def _window(lots: tf.Tensor, side: tf.Tensor, size: int) -> tf.Tensor:
    """From random numbers in [0, 1), (m,), where a window of so many pixels begins, int32 (m,)."""
    room = tf.cast(size - side + 1, tf.float32)
    return tf.minimum(tf.cast(lots * room, tf.int32), size - side)


def _square(state: _State, lots: tf.Tensor, side: tf.Tensor) -> tf.Tensor:
    """X with a square at one end of the ball, (m, height, width, channels)."""
    height, width = state.x.shape[1:3]
    row, column = _window(lots[:, 0], side, height), _window(lots[:, 1], side, width)
    rows = tf.range(height)[None] - row[:, None]
    columns = tf.range(width)[None] - column[:, None]
    within = ((rows >= 0) & (rows < side))[:, :, None] & ((columns >= 0) & (columns < side))[:, None]
    ends = tf.where((lots[:, 5:] < 0.5)[:, None, None], state.lower, state.upper)
    return tf.where(within[..., None], ends, state.x)


def _squares(state: _State, lots: tf.Tensor, side: tf.Tensor, pattern: tf.Tensor) -> tf.Tensor:
    """X with the change of a second square moved to a first, (m, height, width, channels)."""
    height, width, channels = state.x.shape[1:]
    places = []
    for number in range(2):
        row = _window(lots[:, 2 * number], side, height)
        column = _window(lots[:, 2 * number + 1], side, width)
        # (m, side, height) and (m, side, width): which pixel each of the square's is.
        places.append(
            (
                tf.one_hot(tf.range(side)[None] + row[:, None], height),
                tf.one_hot(tf.range(side)[None] + column[:, None], width),
            )
        )
    masks = [tf.einsum("msh,mtw->mhw", rows, columns)[..., None] > 0 for rows, columns in places]
    change = state.x - state.start

    def length(values: tf.Tensor, axes: tuple[int, ...]) -> tf.Tensor:
        return tf.sqrt(tf.reduce_sum(tf.square(values), axis=axes, keepdims=True))

    turned = (lots[:, 4] < 0.5)[:, None, None]
    patterns = tf.where(turned, tf.transpose(pattern), pattern)
    placed = tf.einsum("msh,mst,mtw->mhw", places[0][0], patterns, places[0][1])[..., None]
    signs = tf.where(lots[:, 5:] < 0.5, -1.0, 1.0)[:, None, None]
    here = tf.where(masks[0], change, 0.0)
    fresh = placed * signs + here / (1e-12 + length(here, (1, 2)))
    either = tf.where(masks[0] | masks[1], change, 0.0)
    spare = tf.square(state.radius)[:, None, None, None] - tf.square(length(change, (1, 2, 3)))
    budget = tf.sqrt(tf.maximum(spare, 0.0) / channels + tf.square(length(either, (1, 2))))
    fresh = fresh / (1e-12 + length(fresh, (1, 2))) * budget
    change = tf.where(masks[0], fresh, tf.where(masks[1], 0.0, change))
    return tf.clip_by_value(state.start + scaled(change, state.radius), state.lower, state.upper)
