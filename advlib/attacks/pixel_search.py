"""Attacks that see outputs only and change a few pixels: by evolution, by chance, or trying them all."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from advlib._checks import check_flag, check_integer, check_number
from advlib.attacks import _loop, _seeds
from advlib.attacks._candidates import Judge, paint
from advlib.attacks._result import AttackResult, trace_of

STRATEGIES = ("rand1", "best1", "random")
# Genes of the candidates that evolve at a time: 32 MB a copy.
GENES_AT_A_TIME = 2**23


def one_pixel(
    model: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    pixels: int = 1,
    targeted: bool = False,
    population: int = 400,
    generations: int = 100,
    strategy: Literal["rand1", "best1", "random"] = "rand1",
    mutation: float | tuple[float, float] = 0.5,
    recombination: float = 1.0,
    levels: int = 256,
    seed: int,
    trace: bool = False,
    randomized: bool = False,
    batch_size: int | None = None,
) -> AttackResult:
    r"""One-pixel attack by differential evolution (Su et al. 2017, https://arxiv.org/abs/1710.08864).

    A candidate is a vector of k pixels, each a row, a column and a value per channel. The first
    population is drawn at random (a Latin hypercube). In each generation every candidate :math:`v_i`
    gets a trial: the mutant :math:`v_a + F (v_b - v_c)` of three others, chosen at random, of which
    each component is taken with probability `recombination` (one at least) and the rest from
    :math:`v_i` (Storn and Price 1997, https://doi.org/10.1023/A:1008202821328). The trial takes the
    candidate's place if its odds of success are no lower. Population, generations, strategy, F and
    recombination are by default Su et al.'s; what they do not say is done as by
    `scipy.optimize.differential_evolution`: components that leave their range are drawn anew. They
    draw the first values from a normal distribution, and stop at a probability instead.

    The attack needs the model's outputs only. An image leaves as soon as one of its candidates
    succeeds, that is, changes the predicted class. What happens to an image depends on the seed, the
    image and its class, and on no other image: not on how images are batched (up to the rounding
    errors of the model's outputs).

    Parameters
    ----------
    model : keras.Model
        Maps float32 (n, height, width, channels) in [0, 1] to logits (n, classes).
    images : array, float32, (n, height, width, channels)
        Pixel scale [0, 1]. Never modified.
    labels : array, integer, (n,)
        The true classes, or, if `targeted`, the classes aimed at.
    pixels : int
        k, how many pixels a candidate may change, all channels of each; where it names a pixel twice,
        the later one counts.
    targeted : bool
        Whether `labels` are targets.
    population : int
        Candidates of each image, at least 5.
    generations : int
        Generations after the first population, at most; 0 leaves it at that.
    strategy : {"rand1", "best1", "random"}
        How a mutant is made: :math:`v_a` is any candidate (Su et al.), or the best so far (SciPy's
        default), or, as a control, no evolution: every trial is drawn at random.
    mutation : float, or tuple of two floats
        F, from 0 to 2; of a range, each generation draws its own (SciPy's default: 0.5 to 1).
    recombination : float
        Probability from 0 to 1 (SciPy's default: 0.7).
    levels : int
        How many values a channel may take, evenly spaced from 0 to 1; from 2 to 65,536.
    seed : int
        Not negative.
    trace : bool
        Whether to keep how far the best candidate of each generation comes: `AttackResult.trace`.
    randomized : bool
        Whether the model may answer at random, as some defences do; else such a model is refused.
    batch_size : int, optional
        Images that evolve at a time; by default as many as hold some eight million genes. Whatever
        it is, candidates are judged in blocks that memory can hold.

    Returns
    -------
    AttackResult
        The most successful candidate of each image, painted. `iterations` are generations. One
        evaluation for the image itself, which may be misread as it is, then one for each candidate.

    Raises
    ------
    ValueError
        If an argument is not of that form; the message names it.
    """
    images, labels = _loop.check_arguments(model, images, labels, batch_size, randomized=randomized)
    targeted = check_flag(targeted, "targeted")
    height, width, channels = images.shape[1:]
    pixels = check_integer(pixels, "pixels", high=height * width)
    population = check_integer(population, "population", low=5)
    generations = check_integer(generations, "generations", low=0)
    if strategy not in STRATEGIES:
        raise ValueError(f"strategy must be one of {', '.join(STRATEGIES)}, got {strategy!r}")
    dither = _check_mutation(mutation)
    recombination = check_number(recombination, "recombination", low=0, high=1)
    levels = check_integer(levels, "levels", low=2, high=2**16)
    seed = check_integer(seed, "seed", low=0)
    looks = generations + 2 if check_flag(trace, "trace") else 0
    notes = np.full((len(images), looks, 2), np.nan, np.float32)

    judge = Judge(model, images, labels, targeted=targeted, pixels=pixels)
    odds, success = judge.unchanged()
    if looks:
        notes[:, 0] = np.column_stack([odds, success])
    rest = np.flatnonzero(~success)
    iterations, evaluations = np.zeros(len(images), np.int64), np.ones(len(images), np.int64)
    attacked = images.copy()
    keys = _seeds.keys(images, labels, seed)
    genes = pixels * (2 + channels)
    size = batch_size or max(1, GENES_AT_A_TIME // (population * genes))

    def breed(
        keys: tf.Tensor, generation: int, genomes: tf.Tensor | None, odds: tf.Tensor | None
    ) -> tf.Tensor:
        if genomes is None:
            return _first(keys, population, genes)
        if strategy == "random":
            return _strangers(keys, generation, population, genes)
        return _trials(genomes, odds, keys, generation, strategy == "best1", *dither, recombination)

    def express(genomes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Places (m, k) and values (m, k, channels) of genomes (…, genes) in [0, 1]."""
        sizes = [height, width, *[levels] * channels]
        steps = tf.cast(tf.reshape(genomes, (-1, pixels, 2 + channels)) * sizes, tf.int32)
        steps = tf.minimum(steps, tf.constant(sizes) - 1)
        values = tf.cast(steps[..., 2:], tf.float32) / tf.cast(levels - 1, tf.float32)
        return steps[..., 0] * width + steps[..., 1], values

    groups = [rest[start : start + size] for start in range(0, len(rest), size)]
    with tqdm(total=len(groups) * (generations + 1), desc="evolving", unit="generation") as bar:
        for group in groups:
            best, success[group], iterations[group], notes[group, 1:] = _evolve(
                judge,
                group,
                tf.constant(keys[group]),
                breed,
                express,
                generations,
                bar,
                notes[group, 1:],
            )
            painted = paint(tf.constant(images[group]), tf.range(len(group)), *express(best))
            attacked[group] = painted.numpy()
            evaluations[group] += population * (1 + iterations[group])
    success = _loop.look(
        model,
        attacked,
        labels,
        targeted=targeted,
        randomized=randomized,
        batch_size=_loop.fitting_batch(images),
    )
    if targeted:
        notes[..., 0] *= -1
    return AttackResult(
        *(attacked, success, iterations, evaluations),
        randomized=bool(randomized),
        trace=trace_of(notes),
    )


def _evolve(
    judge: Judge,
    group: np.ndarray,
    keys: tf.Tensor,
    breed: Callable[[tf.Tensor, int, tf.Tensor | None, tf.Tensor | None], tf.Tensor],
    express: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]],
    generations: int,
    bar: tqdm,
    notes: np.ndarray,
) -> tuple[tf.Tensor, np.ndarray, np.ndarray, np.ndarray]:
    """Evolve the candidates of some images, rising indices (n,), till each succeeds or time is up.

    Returns the best genomes (n, genes), success, bool (n,), the last generation of each, (n,), and the
    notes (n, generations + 1, 2) of the best of each generation.
    """
    success, last = np.zeros(len(group), bool), np.zeros(len(group), np.int64)
    active = np.arange(len(group))
    genomes = odds = None
    for generation in range(generations + 1):
        trials = breed(tf.gather(keys, active), generation, genomes, odds)
        population = trials.shape[1]
        judged = judge(np.repeat(group[active], population), *express(trials))
        odds_of_trials, hit = (tf.reshape(values, (-1, population)) for values in judged)
        if genomes is None:
            genomes, odds = trials, odds_of_trials
            final = np.zeros((len(group), trials.shape[2]), np.float32)
        else:
            better = odds_of_trials >= odds
            genomes = tf.where(better[..., None], trials, genomes)
            odds = tf.where(better, odds_of_trials, odds)

        # Of the trials that succeed the best, or else the best of the population.
        done = tf.reduce_any(hit, axis=1)
        merit = tf.where(done[:, None], tf.where(hit, odds_of_trials, -np.inf), odds)
        source = tf.where(done[:, None, None], trials, genomes)
        final[active] = tf.gather(source, tf.argmax(merit, axis=1), batch_dims=1).numpy()
        success[active] = done.numpy()
        last[active] = generation
        if notes.shape[1]:
            notes[active, generation] = np.column_stack([tf.reduce_max(merit, axis=1), done])
        active = active[~done.numpy()]
        genomes, odds = tf.boolean_mask(genomes, ~done), tf.boolean_mask(odds, ~done)
        bar.update()
        bar.set_postfix(images=active.size)
        if not active.size:
            break
    bar.update(generations - generation)
    return tf.constant(final), success, last, notes


def _check_mutation(mutation: Any) -> tuple[float, float]:
    """The range of F; two equal ends for a number."""
    ends = mutation if isinstance(mutation, tuple | list) else (mutation, mutation)
    try:
        low, high = (check_number(end, "mutation", low=0, high=2) for end in ends)
    except ValueError:
        low, high = 1, 0
    if low > high:
        raise ValueError(
            f"mutation must be a number from 0 to 2, or two of them that do not fall, got {mutation!r}"
        )
    return low, high


_KEYS = tf.TensorSpec((None, 2), tf.int32)
_COUNT = tf.TensorSpec((), tf.int32)
_NUMBER = tf.TensorSpec((), tf.float32)


@tf.function(input_signature=[_KEYS, _COUNT, _COUNT])  # type: ignore[untyped-decorator]
def _first(keys: tf.Tensor, population: tf.Tensor, genes: tf.Tensor) -> tf.Tensor:
    """A Latin hypercube for each image: one candidate in each of `population` slices of every gene."""
    draws = _seeds.uniform(keys, tf.constant(0), (2, population, genes))
    slices = tf.cast(tf.argsort(draws[:, 0], axis=1), tf.float32)
    return (slices + draws[:, 1]) / tf.cast(population, tf.float32)


@tf.function(input_signature=[_KEYS, _COUNT, _COUNT, _COUNT])  # type: ignore[untyped-decorator]
def _strangers(
    keys: tf.Tensor, generation: tf.Tensor, population: tf.Tensor, genes: tf.Tensor
) -> tf.Tensor:
    """Candidates drawn anew, (m, population, genes) in [0, 1)."""
    return _seeds.uniform(keys, generation, (population, genes))


@tf.function(  # type: ignore[untyped-decorator]
    input_signature=[
        tf.TensorSpec((None, None, None), tf.float32),
        tf.TensorSpec((None, None), tf.float32),
        _KEYS,
        _COUNT,
        tf.TensorSpec((), tf.bool),
        *(_NUMBER, _NUMBER, _NUMBER),
    ]
)
def _trials(
    genomes: tf.Tensor,
    odds: tf.Tensor,
    keys: tf.Tensor,
    generation: tf.Tensor,
    of_best: tf.Tensor,
    lowest: tf.Tensor,
    highest: tf.Tensor,
    recombination: tf.Tensor,
) -> tf.Tensor:
    """One trial for each candidate, (m, population, genes) in [0, 1]: of the best, or of any."""
    population, genes = tf.shape(genomes)[1], tf.shape(genomes)[2]
    draws = _seeds.uniform(keys, generation, (population, 2 * genes + 5))
    drawn, crossing, others = tf.split(draws, [genes, genes, 5], axis=2)
    first, second, base = (
        tf.gather(genomes, donor, batch_dims=1) for donor in _others(others[..., :3], population)
    )
    best = tf.gather(genomes, tf.argmax(odds, axis=1), batch_dims=1)
    base = tf.where(of_best, best[:, None], base)
    factor = lowest + (highest - lowest) * others[:, :1, 3:4]  # one for each image
    mutants = base + factor * (first - second)
    mutants = tf.where((mutants >= 0) & (mutants <= 1), mutants, drawn)
    sure = tf.cast(others[..., 4:] * tf.cast(genes, tf.float32), tf.int32) == tf.range(genes)
    return tf.where(sure | (crossing < recombination), mutants, genomes)


def _others(draws: tf.Tensor, population: tf.Tensor) -> list[tf.Tensor]:
    """Three different candidates, none of them itself, for every candidate: int32 (m, population) each.

    `draws`, (m, population, 3), are uniform in [0, 1).
    """
    taken = [tf.broadcast_to(tf.range(population), tf.shape(draws)[:2])]
    for number in range(3):
        free = population - 1 - number
        other = tf.cast(draws[..., number] * tf.cast(free, tf.float32), tf.int32)
        # The other-th of those that are not taken.
        for before in tf.unstack(tf.sort(tf.stack(taken), axis=0), num=len(taken)):
            other += tf.cast(other >= before, tf.int32)
        taken.append(other)
    return taken[1:]


@dataclass(frozen=True, eq=False)
class PixelSearchResult(AttackResult):
    """What trying every pixel found, for n images.

    Attributes
    ----------
    odds : array, float32, (n, height, width)
        How far each pixel alone can push the decision: the largest value, over its levels, of
        log(p / (1 - p)), where p is the probability of a class other than the true one, or that of
        the target.
    hits : array, int64, (n, height, width)
        How many of the pixel's levels succeed.
    """

    odds: np.ndarray
    hits: np.ndarray


def one_pixel_search(
    model: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    targeted: bool = False,
    levels: int = 256,
    randomized: bool = False,
) -> PixelSearchResult:
    """Try every pixel and every value of it: whether a one-pixel adversarial example exists.

    The answer is the model's own, for every candidate: where the model begins with convolutions, their
    logits are computed from the activations that change, and those that are too near to a tie for
    rounding errors not to matter are computed again by a forward pass.

    Each image is searched by itself: a long search may be made in parts, `images[:1000]`,
    `images[1000:2000]`, …, and put together by `concatenate`.

    Parameters
    ----------
    model : keras.Model
        Maps float32 (n, height, width, channels) in [0, 1] to logits (n, classes).
    images : array, float32, (n, height, width, channels)
        Pixel scale [0, 1]. Never modified.
    labels : array, integer, (n,)
        The true classes, or, if `targeted`, the classes aimed at.
    targeted : bool
        Whether `labels` are targets.
    levels : int
        How many values a channel may take, evenly spaced from 0 to 1; from 2 to 65,536. There are
        levels^channels for each pixel: 256 for a grey one, 16.8 million for a colour one, of which a
        few levels each are all that one can wait for.
    randomized : bool
        Whether the model may answer at random, as some defences do; else such a model is refused.
        What is found of it was found by one draw for each candidate.

    Returns
    -------
    PixelSearchResult
        With the candidate of the highest odds among those that succeed, or, where none does, among
        all. One iteration; an evaluation for each candidate.

    Raises
    ------
    ValueError
        If an argument is not of that form; the message names it.
    """
    images, labels = _loop.check_arguments(model, images, labels, None, randomized=randomized)
    targeted = check_flag(targeted, "targeted")
    levels = check_integer(levels, "levels", low=2, high=2**16)
    count, height, width, channels = images.shape
    values = levels**channels
    judge = Judge(model, images, labels, targeted=targeted, pixels=1)

    attacked = images.copy()
    odds = np.full((count, height * width), -np.inf, np.float32)
    hits = np.zeros((count, height * width), np.int64)
    for index in tqdm(range(count), desc="searching", unit="image"):
        best: tuple[bool, float] = (False, -np.inf)
        for pixels, numbers in _grid(height * width, values, judge.block):
            place = np.repeat(pixels, len(numbers)).astype(np.int32)
            digits = numbers[:, None] // levels ** np.arange(channels)[::-1] % levels
            colours = (digits / (levels - 1)).astype(np.float32)  # (numbers, channels)
            painted = np.tile(colours, (len(pixels), 1))
            judged = judge(
                np.full(len(place), index), tf.constant(place[:, None]), tf.constant(painted[:, None])
            )
            found, hit = (part.numpy() for part in judged)
            np.maximum.at(odds[index], pixels, found.reshape(len(pixels), -1).max(axis=1))
            hits[index, pixels] += hit.reshape(len(pixels), -1).sum(axis=1)
            chosen = np.where(hit, found, -np.inf).argmax() if hit.any() else found.argmax()
            rank = bool(hit[chosen]), float(found[chosen])
            if rank > best:
                best = rank
                attacked[index] = images[index]
                attacked[index].reshape(-1, channels)[place[chosen]] = painted[chosen]
    shape = count, height, width
    return PixelSearchResult(
        attacked,
        _loop.look(
            model,
            attacked,
            labels,
            targeted=targeted,
            randomized=randomized,
            batch_size=_loop.fitting_batch(images),
        ),
        np.ones(count, np.int64),
        np.full(count, height * width * values, np.int64),
        odds.reshape(shape),
        hits.reshape(shape),
        randomized=bool(randomized),
    )


def _grid(pixels: int, values: int, block: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pixels and numbers of values, of which all pairs make a block; together all there are."""
    some_values = min(values, block)
    some_pixels = max(1, block // values)
    for first in range(0, pixels, some_pixels):
        for start in range(0, values, some_values):
            yield (
                np.arange(first, min(first + some_pixels, pixels)),
                np.arange(start, min(start + some_values, values)),
            )
