"""Several attacks in turn, the worst case of each image, and signs that the attacks were too weak.

In four lines, with a model and arrays of your own:

    result = evaluation.suite(model, images, labels, epsilon=8 / 255, seed=0)
    print(result)
    result.table.plot.bar(x="attack", y="robust")
    result.table.to_csv("robustness.csv")
"""

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from tqdm import tqdm

from advlib import _flags, _models, attacks, metrics, networks
from advlib._checks import (
    check_choice,
    check_images,
    check_input_shape,
    check_integer,
    check_labels,
    check_model,
    check_number,
)
from advlib._flags import Flag
from advlib.attacks._norms import NORMS
from advlib.metrics import Proportion

# From a model, images (n, height, width, channels) and true classes (n,) to attacked images.
Attack = Callable[[keras.Model, np.ndarray, np.ndarray], attacks.AttackResult]

NAMES = {"linf": "L∞", "l2": "L2"}
# How often a model that draws at random is asked for its verdict.
VOTES = 50
# Rounding errors that a bound may be missed by: that of attacks which are not this package's.
SLACK = 1e-6

__all__ = ["Attack", "Evaluation", "Flag", "suite", "summary"]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What is left of a model's accuracy when each image meets the worst of several attacks.

    Attributes
    ----------
    images : array, float32, (n, height, width, channels)
        Of each image the success of the first attack that found one; where none did, of all attempts
        the one with the highest log-odds against the true class.
    robust : array, bool, (n,)
        Whether the image is read correctly, without an attack and under every one. With a detector,
        whether no attempt fools the model and passes.
    accuracy : Proportion
        The share of these: an upper bound of what is left under the best of all attacks.
    table : DataFrame
        One row for each attack in turn, "none" being the first: `tried`, on how many images; `found`,
        how many it broke that had stood till then; `success`, the share of the diagnosed images that
        it breaks by itself, and `only`, how many of these no other attack breaks; `robust`, the share
        of all images that still stand, with its interval from `low` to `high`; `evaluations`, passes
        through the model for each image that it tried; `seconds`.
    flags : list of Flag
        Signs that the accuracy is too high because the attacks were too weak.
    norm : "linf" or "l2"
    epsilon : float
        The ball within which the attacks looked.
    """

    images: np.ndarray
    robust: np.ndarray
    accuracy: Proportion
    table: pd.DataFrame
    flags: list[Flag]
    norm: str
    epsilon: float

    def __str__(self) -> str:
        flags = [f"- {flag}" for flag in self.flags] or ["no flags"]
        numbers = self.table.to_string(index=False, float_format="{:.3f}".format)
        return "\n".join([f"robust accuracy {self.accuracy}", numbers, *flags])


def suite(
    model: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    epsilon: float,
    norm: Literal["linf", "l2"] = "linf",
    steps: int = 100,
    aims: int = 9,
    queries: int = 5000,
    restarts: int = 1,
    surrogate: keras.Model | None = None,
    score: Callable[[tf.Tensor], tf.Tensor] | None = None,
    threshold: float | None = None,
    more: Mapping[str, Attack] | None = None,
    draws: int = 10,
    diagnosed: int = 200,
    seed: int,
    store: str | os.PathLike[str] | None = None,
    batch_size: int | None = None,
) -> Evaluation:
    r"""Attack a model in earnest: the share of images that withstand every attack.

    The attacks come in turn, each on what still stands (as in Croce and Hein 2020,
    https://arxiv.org/abs/2003.01690):

    1. one step of full length along the gradient: `fgsm`, or in L2 `auto_pgd`;
    2. `auto_pgd` on the log-odds;
    3. `auto_pgd` on the difference of logits ratio, aimed at one wrong class after the other;
    4. for a model that draws at random, in L∞, `iterative_fgsm`, of which the last image counts, and not
       the best, which was perhaps lucky;
    5. with a surrogate, the images that `auto_pgd` makes for that one;
    6. `square`, which needs no gradient;
    7. with a detector in L∞, `adaptive_pgd`, which knows it;
    8. the attacks in `more`.

    On the first images that the model reads correctly, the diagnosed ones, every attack is run, whatever
    the others found. Flags are raised on what it does there, and on a few further tests:

    - "probabilities": the model gives these in place of logits (which are then taken from before its
      softmax, or are their logarithms);
    - "randomness": it answers differently when it is asked again. Then the attacks are made on the mean
      of some answers (expectation over transformation, Athalye et al. 2017,
      https://arxiv.org/abs/1707.07397), and success is that of the majority of 50 others;
    - "saturated loss": the gradient of the cross-entropy is exactly 0, but that of the log-odds is not;
    - "zero gradients": that of the log-odds is, too;
    - "loss not raised": twenty gradient steps leave the loss no higher than it was;
    - "success falls with steps", "success falls with ε": of the same steps;
    - "one step beats many", "black box beats white box", "transfer beats white box".

    The four about gradients and loss are raised where more than one in twenty images shows it. Where
    two attacks are compared, the one that should be weaker breaks more images (one-sided sign test on
    those that only one of the two breaks) or more than one in twenty of those that the other leaves
    (binomial test), with p < 0.01. No flag is no proof that the attacks were strong enough (Carlini
    et al. 2019, https://arxiv.org/abs/1902.06705).

    Parameters
    ----------
    model : keras.Model
        Maps float32 (n, height, width, channels) in [0, 1] to logits (n, classes), or to probabilities;
        it may draw at random.
    images : array, float32, (n, height, width, channels)
        Pixel scale [0, 1]. Never modified.
    labels : array, integer, (n,)
        The true classes.
    epsilon : float
        Radius of the ball: the largest change of a pixel, at most 1, or in "l2" the Euclidean length of
        the change.
    norm : {"linf", "l2"}
    steps : int
        Of each run of `auto_pgd`.
    aims : int
        How many wrong classes are aimed at, at most; none where there are fewer than four classes.
    queries : int
        Of a run of `square`, at least 2.
    restarts : int
        Runs of `auto_pgd` and `square` at most, each from a random start.
    surrogate : keras.Model, optional
        A model of the same images and classes whose attacked images may fool this one.
    score, threshold : callable and float, optional
        A detector: an image passes if its score is below the threshold (see `adaptive_pgd`). One that
        lets nothing pass cannot be fooled: report beside it how many unchanged images it flags.
    more : mapping from a name to a function, optional
        Further attacks: from the model, images and true classes to an `AttackResult` within the bound.
    draws : int
        Of a model that draws at random: how many answers make the mean that is attacked.
    diagnosed : int
        How many images are diagnosed, at most. With 0 no flags are raised but the first two.
    seed : int
        What is found for an image depends on it, the image and its class.
    store : path, optional
        A file, ending in .npz, in which the state is kept after each attack, and from which an
        evaluation of the same model, images and settings goes on.
    batch_size : int, optional
        Images at a time; by default as many as hold about a million values.

    Returns
    -------
    Evaluation

    Raises
    ------
    ValueError
        If an argument is not of that form, logits of an image are not finite, the file keeps another
        evaluation, or a further attack gives images outside of the ball; the message names it.
    """
    images, norm = check_images(images), check_choice(norm, NORMS, "norm")
    check_model(model)
    check_input_shape(model, images)
    epsilon = check_number(epsilon, "epsilon", low=0, high=1 if norm == "linf" else np.inf)
    steps, aims = check_integer(steps, "steps"), check_integer(aims, "aims", low=0)
    queries = check_integer(queries, "queries", low=2)
    restarts = check_integer(restarts, "restarts")
    diagnosed = check_integer(diagnosed, "diagnosed", low=0)
    draws = check_integer(draws, "draws")
    seed = check_integer(seed, "seed", low=0)
    if (score is None) != (threshold is None):
        raise ValueError("score and threshold must be given together")
    if batch_size is not None:
        check_integer(batch_size, "batch_size")
    size = batch_size or max(1, 2**20 // images[0].size)
    model, soft = _of_logits(model, images)
    randomized = _models.draws_at_random(model, images)
    classes = _models.check_logits(model, images, randomized=randomized, traced=True)
    labels = check_labels(labels, len(images), classes)
    verdict = _Verdict(model, size, VOTES if randomized else 1, score, threshold)
    turns = _turns(
        *(classes, norm, epsilon),
        steps=steps,
        aims=min(aims, classes - 1) if classes > 3 else 0,
        queries=queries,
        restarts=restarts,
        surrogate=surrogate,
        score=score,
        threshold=threshold,
        seed=seed,
        options={"randomized": randomized, "batch_size": batch_size},
    )
    more = dict(more or {})
    if set(more) & {"none", *turns}:
        raise ValueError(f"more must have other names than {', '.join(['none', *turns])}")
    turns |= more

    attacked = _Mean(model, draws) if randomized else model
    settings: list[Any] = [norm, epsilon, steps, aims, queries, restarts, diagnosed, draws, seed]
    settings += [threshold, list(turns)]
    state = _State.begin(verdict, images, labels, diagnosed)
    path = None if store is None else Path(store)
    if path:
        state.resume(path, _fingerprint(verdict, images, labels, settings))
    with tqdm(total=len(turns), desc="evaluating", unit="attack", delay=1, leave=False) as bar:
        for name, attack in turns.items():
            bar.set_postfix_str(name)
            if name not in state.names:
                with _named(name, more):
                    state.take(name, attack, attacked, verdict, images, labels, norm, epsilon)
                if path:
                    state.keep(path, _fingerprint(verdict, images, labels, settings))
            bar.update()
    flags = _flags.of_model(model, images, soft=soft, randomized=randomized)
    if state.diagnosed.any():
        some = images[state.diagnosed], labels[state.diagnosed]
        options = {"randomized": randomized, "batch_size": batch_size}
        flags += _flags.of_gradients(attacked, *some, size)
        flags += _flags.of_steps(attacked, *some, norm, epsilon, seed, options)
        by_itself = {name: hits[state.diagnosed] for name, hits in state.hits.items()}
        flags += _flags.of_attacks(by_itself)
    return Evaluation(
        images=state.images,
        robust=state.standing,
        accuracy=metrics.proportion(state.standing),
        table=state.table(),
        flags=flags,
        norm=norm,
        epsilon=epsilon,
    )


def summary(evaluations: Mapping[str, Evaluation]) -> pd.DataFrame:
    """One row for each model: what a table of robustness must show at least.

    Parameters
    ----------
    evaluations : mapping from a name to an Evaluation

    Returns
    -------
    DataFrame
        The bound; the share of images that is read correctly without an attack, after one step along
        the gradient, and under the worst of all attacks, each a `Proportion`, whose print shows interval
        and number of images; how many flags were raised.

    Raises
    ------
    ValueError
        If there is no evaluation.
    """
    if not evaluations:
        raise ValueError("evaluations must hold at least one")
    rows = {}
    for name, each in evaluations.items():
        total = len(each.robust)
        left = total - each.table["found"].cumsum()
        rows[name] = {
            "bound": f"{NAMES[each.norm]} ≤ {each.epsilon:g}",
            "no attack": Proportion(int(left[0]), total),
            "one step": Proportion(int(left[1]), total),
            "worst case": each.accuracy,
            "flags": len(each.flags),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


class _Logarithms(keras.Model):
    """The logarithms of a model's probabilities, which are logits that give the same probabilities."""

    def __init__(self, model: keras.Model) -> None:
        super().__init__(name="logarithms")
        self._model = model

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Logits, float32 (m, classes)."""
        probabilities = tf.cast(self._model(images, training=training), tf.float32)
        return tf.math.log(tf.maximum(probabilities, probabilities.dtype.as_numpy_dtype(1.2e-38)))


class _Mean(keras.Model):
    """Logits of the mean of the probabilities that a model gives when it is asked several times."""

    def __init__(self, model: keras.Model, draws: int) -> None:
        super().__init__(name="mean")
        self._model, self._draws = model, draws

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """Logits, float32 (m, classes), but for a constant."""
        logits = _models.logits_of(self._model, tf.repeat(images, self._draws, axis=0))
        shape = tf.shape(images)[0], self._draws, logits.shape[1] or tf.shape(logits)[1]
        return tf.reduce_logsumexp(tf.reshape(tf.nn.log_softmax(logits), shape), axis=1)


def _of_logits(model: keras.Model, images: np.ndarray) -> tuple[keras.Model, bool]:
    """The model itself, or one of the logits where it gives probabilities; and whether it does."""
    if not _models.gives_probabilities(model, images):
        return model, False
    try:
        return networks.without_softmax(model), True
    except ValueError:
        return _Logarithms(model), True


def _turns(
    classes: int,
    norm: str,
    epsilon: float,
    *,
    steps: int,
    aims: int,
    queries: int,
    restarts: int,
    surrogate: keras.Model | None,
    score: Any,
    threshold: float | None,
    seed: int,
    options: dict[str, Any],
) -> dict[str, Attack]:
    """The attacks in the order in which they come."""
    ball: dict[str, Any] = {"epsilon": epsilon, "norm": norm, "seed": seed} | options
    # Of a model that draws at random, the first success and the best point are often lucky ones.
    lucky = options["randomized"]
    run = partial(attacks.auto_pgd, steps=steps, restarts=restarts, early_stop=not lucky, **ball)
    turns: dict[str, Attack] = {}
    if norm == "linf":
        turns[_flags.ONE_STEP] = partial(attacks.fgsm, epsilon=epsilon, **options)
    else:
        turns[_flags.ONE_STEP] = partial(attacks.auto_pgd, steps=1, **ball)
    turns[_flags.LOG_ODDS] = run
    if aims:
        turns[_flags.AIMED] = partial(run, loss="dlr", aims=aims)
    if lucky and norm == "linf":
        turns[_flags.LAST] = partial(
            attacks.iterative_fgsm, epsilon=epsilon, step_size=epsilon / 8, steps=steps, **options
        )
    if surrogate is not None:
        check_model(surrogate, "surrogate")

        def transfer(_: keras.Model, images: np.ndarray, labels: np.ndarray) -> attacks.AttackResult:
            return attacks.auto_pgd(
                surrogate, images, labels, steps=steps, **ball | {"randomized": False}
            )

        turns[_flags.TRANSFER] = transfer
    turns[_flags.BLACK_BOX] = partial(attacks.square, queries=queries, restarts=restarts, **ball)
    if score is not None and threshold is not None and norm == "linf":
        turns["adaptive_pgd"] = partial(
            attacks.adaptive_pgd,
            score=score,
            threshold=threshold,
            epsilon=epsilon,
            step_size=epsilon / 4,
            steps=steps,
            seed=seed,
            **options,
        )
    return turns


@contextmanager
def _named(name: str, more: Mapping[str, Attack]) -> Iterator[None]:
    """Say which of the further attacks it was that went wrong."""
    try:
        yield
    except ValueError as error:
        if name in more:
            raise ValueError(f"more[{name!r}]: {error}") from error
        raise


class _Verdict:
    """What model and detector say of images in the end."""

    def __init__(
        self,
        model: keras.Model,
        size: int,
        votes: int,
        score: Callable[[tf.Tensor], tf.Tensor] | None,
        threshold: float | None,
    ) -> None:
        self.model, self.size, self.votes = model, size, votes
        self.score, self.threshold = score, threshold

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Of each image, float32 (votes, n, classes)."""
        draws = [_models.predict(self.model, images, batch_size=self.size) for _ in range(self.votes)]
        return np.stack(draws)

    def __call__(self, images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Whether images fool, and pass, bool (n,); and log-odds against the true class, (n,)."""
        logits = self.logits(images)
        own = np.arange(logits.shape[2]) == labels[:, None]
        votes = (logits.argmax(axis=2)[..., None] == np.arange(logits.shape[2])).sum(axis=0)
        finite = np.isfinite(logits).all(axis=(0, 2))
        logits[:, ~finite] = 0
        fools = (votes.argmax(axis=1) != labels) & finite
        others = np.logaddexp.reduce(np.where(own, -np.inf, logits), axis=2)
        odds = np.where(finite, (others - logits[:, own]).mean(axis=0), -np.inf)
        if self.score is not None and self.threshold is not None:
            parts = range(0, len(images), self.size)
            scores = [np.asarray(self.score(tf.constant(images[i : i + self.size]))) for i in parts]
            fools &= np.concatenate(scores) < np.float32(self.threshold)
        return fools, odds


@dataclass
class _State:
    """Where an evaluation stands: what each attack found so far."""

    images: np.ndarray  # (n, …)
    standing: np.ndarray  # bool (n,)
    odds: np.ndarray  # of the images kept, (n,)
    diagnosed: np.ndarray  # bool (n,)
    hits: dict[str, np.ndarray]  # of each attack, bool (n,)
    rows: list[dict[str, Any]]  # of the table

    @classmethod
    def begin(
        cls, verdict: _Verdict, images: np.ndarray, labels: np.ndarray, diagnosed: int
    ) -> "_State":
        """Before the first attack.

        Raises
        ------
        ValueError
            If logits of an image are not finite.
        """
        begin = time.perf_counter()
        fools, odds = verdict(images, labels)
        if not np.isfinite(odds).all():
            raise ValueError(
                f"model must return finite logits, but does not for {np.sum(~np.isfinite(odds))} images"
            )
        some = np.zeros(len(images), bool)
        some[np.flatnonzero(~fools)[:diagnosed]] = True
        state = cls(images.copy(), ~fools, odds, some, {}, [])
        state._note("none", len(images), int(fools.sum()), 1.0, time.perf_counter() - begin)
        return state

    @property
    def names(self) -> list[str]:
        """Of the attacks that have been run."""
        return list(self.hits)

    def take(
        self,
        name: str,
        attack: Attack,
        model: keras.Model,
        verdict: _Verdict,
        images: np.ndarray,
        labels: np.ndarray,
        norm: str,
        epsilon: float,
    ) -> None:
        """Run an attack on what stands, and on the diagnosed images.

        Raises
        ------
        ValueError
            If it leaves the ball.
        """
        begin = time.perf_counter()
        tried = np.flatnonzero(self.standing | self.diagnosed)
        hits, found, evaluations = np.zeros(len(images), bool), 0, np.nan
        if tried.size:
            result = attack(model, images[tried], labels[tried])
            _check_ball(images[tried], result.images, norm, epsilon)
            fools, odds = verdict(result.images, labels[tried])
            hits[tried] = fools
            better = self.standing[tried] & (fools | (odds > self.odds[tried]))
            kept = tried[better]
            self.images[kept], self.odds[kept] = result.images[better], odds[better]
            found = int((self.standing & hits).sum())
            self.standing &= ~hits
            evaluations = float(np.mean(result.evaluations))
        self.hits[name] = hits
        self._note(name, tried.size, found, evaluations, time.perf_counter() - begin)

    def _note(self, name: str, tried: int, found: int, evaluations: float, seconds: float) -> None:
        share = metrics.proportion(self.standing)
        low, high = share.interval
        self.rows.append(
            {
                "attack": name,
                "tried": tried,
                "found": found,
                "robust": share.value,
                "low": low,
                "high": high,
                "evaluations": evaluations,
                "seconds": seconds,
            }
        )

    def table(self) -> pd.DataFrame:
        """The rows, and how each attack does by itself on the diagnosed images."""
        table = pd.DataFrame(self.rows)
        hits = np.array([np.zeros_like(self.standing), *self.hits.values()])[:, self.diagnosed]
        share = hits.mean(axis=1) if hits.shape[1] else np.full(len(hits), np.nan)
        table.insert(3, "success", share)
        table.insert(4, "only", (hits & (hits.sum(axis=0) == 1)).sum(axis=1))
        return table

    def keep(self, path: Path, fingerprint: str) -> None:
        """Write the state to a file, in one piece."""
        part = path.with_name(path.name + ".part.npz")
        np.savez_compressed(
            part,
            fingerprint=fingerprint,
            images=self.images,
            standing=self.standing,
            odds=self.odds,
            names=np.array(self.names),
            hits=np.array(list(self.hits.values())),
            numbers=np.array([list(row.values())[1:] for row in self.rows], np.float64),
        )
        part.replace(path)

    def resume(self, path: Path, fingerprint: str) -> None:
        """Go on from a file, if there is one.

        Raises
        ------
        ValueError
            If it is of another evaluation.
        """
        if path.suffix != ".npz":
            raise ValueError(f"store must be a file ending in .npz, got {str(path)!r}")
        if not path.exists():
            return
        with np.load(path) as kept:
            if str(kept["fingerprint"]) != fingerprint:
                raise ValueError(
                    f"store must be a new file, or one of the same model, images and settings: {path} "
                    "keeps another evaluation"
                )
            self.images, self.standing, self.odds = (
                kept[name] for name in ("images", "standing", "odds")
            )
            self.hits = dict(zip(kept["names"].tolist(), kept["hits"], strict=True))
            columns, names = list(self.rows[0])[1:], ["none", *self.hits]
            self.rows = [
                {"attack": name, **dict(zip(columns, numbers, strict=True))}
                for name, numbers in zip(names, kept["numbers"].tolist(), strict=True)
            ]
            for row in self.rows:
                row["tried"], row["found"] = int(row["tried"]), int(row["found"])


def _check_ball(images: np.ndarray, changed: np.ndarray, norm: str, epsilon: float) -> None:
    """Check that attacked images are images, within the bound.

    Raises
    ------
    ValueError
        If they are not.
    """
    sizes = metrics.norms(images, changed)
    largest = float((sizes.linf if norm == "linf" else sizes.l2).max())
    if largest > epsilon * (1 + SLACK) + SLACK:
        raise ValueError(f"images must stay within epsilon = {epsilon:g} in {norm}, got {largest:.6g}")


def _fingerprint(verdict: _Verdict, images: np.ndarray, labels: np.ndarray, settings: list[Any]) -> str:
    """Of all that decides on an evaluation: images, labels, settings, weights, first answers."""
    digest = hashlib.sha256(repr(settings).encode())
    arrays = [images, labels, *verdict.model.get_weights()]
    if verdict.votes == 1:
        arrays.append(np.round(verdict.logits(images[:8]), 2))
    if verdict.score is not None:
        arrays.append(np.round(verdict.score(tf.constant(images[:8])), 3))
    for array in arrays:
        digest.update(repr((array.shape, array.dtype)).encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
