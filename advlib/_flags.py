"""Signs that attacks were too weak for a model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from scipy.stats import binomtest

from advlib import _models, attacks
from advlib._models import logits_of
from advlib.attacks import _loop
from advlib.metrics import proportion

# Attacks of the suite, by their names in its table.
ONE_STEP, LOG_ODDS, AIMED = "one step", "auto_pgd, log-odds", "auto_pgd, aimed"
LAST, TRANSFER, BLACK_BOX = "iterated fgsm", "transfer", "square"
WHITE_BOX = (ONE_STEP, LOG_ODDS, AIMED, LAST)
# A share of the images above this, or a p-value below that.
SHARE, LEVEL = 0.05, 0.01
# Gradient steps, of an eighth of epsilon each; and after how many success is compared.
STEPS, EARLY = 20, 5

REMEDIES = {
    "probabilities": "attack the logits: take the softmax away",
    "randomness": "attack the mean of many answers, as was done here; try more",
    "saturated loss": "raise the log-odds, or the difference of logits ratio, not the cross-entropy",
    "zero gradients": (
        "on the way back, put in the place of the step without a gradient one that has a useful one "
        "(BPDA), or attack without gradients"
    ),
    "loss not raised": (
        "the gradient misleads: find the step that spoils it and replace it on the way back (BPDA), or "
        "attack without gradients"
    ),
    "success falls with steps": "shorten the steps, keep the best point, attack without gradients",
    "success falls with ε": "search in the smaller balls, too; attack without gradients",
    "one step beats many": "shorten the steps, start from the image itself, attack a surrogate",
    "black box beats white box": (
        "the gradient is masked: believe the black box, give it more queries, and look for the mask"
    ),
    "transfer beats white box": (
        "the gradient is masked: believe the transfer, try more surrogates, and look for the mask"
    ),
}


@dataclass(frozen=True)
class Flag:
    """A sign that attacks were too weak.

    Attributes
    ----------
    name : str
        Such as "zero gradients": see `suite`.
    number : str
        What was measured, in words.
    remedy : str
        What to do.
    """

    name: str
    number: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.name}: {self.number}. Remedy: {self.remedy}."


def _flag(name: str, number: str) -> Flag:
    return Flag(name, number, REMEDIES[name])


def of_model(model: keras.Model, images: np.ndarray, *, soft: bool, randomized: bool) -> list[Flag]:
    """What the model's answers tell: whether they were probabilities, and drawn at random."""
    flags = []
    some = images[:256]
    if soft:
        logits = _models.predict(model, some, batch_size=len(some))
        certain = tf.reduce_max(tf.nn.softmax(logits), axis=1).numpy() == 1
        share = proportion(certain)
        number = f"the model gives probabilities; the largest rounds to 1 for {share:.1%} of the images"
        flags.append(_flag("probabilities", number))
    if randomized:
        first, second = (_models.predict(model, some, batch_size=len(some)) for _ in range(2))
        share = proportion(first.argmax(axis=1) != second.argmax(axis=1))
        apart = np.median(np.abs(first - second).max(axis=1))
        number = (
            f"two answers to the same image differ by {apart:.2g} logits (median); the predicted class "
            f"by {share:.1%}"
        )
        flags.append(_flag("randomness", number))
    return flags


def of_gradients(
    model: keras.Model, images: np.ndarray, labels: np.ndarray, batch_size: int
) -> list[Flag]:
    """What the gradients tell at the images: those of the cross-entropy, and of the log-odds."""
    vanished: dict[str, list[np.ndarray]] = {"saturated loss": [], "zero gradients": []}
    for start in range(0, len(images), batch_size):
        x = tf.constant(images[start : start + batch_size])
        y = tf.constant(labels[start : start + batch_size], tf.int32)
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            logits = logits_of(model, x)
            losses = {
                "saturated loss": tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits),
                "zero gradients": _loop.log_odds(logits, y),
            }
        for name, loss in losses.items():
            gradient = tape.gradient(loss, x, unconnected_gradients=tf.UnconnectedGradients.ZERO)
            # NaN leads nowhere either.
            nothing = tf.reduce_all((gradient == 0) | tf.math.is_nan(gradient), axis=(1, 2, 3))
            vanished[name].append(nothing.numpy())
    none = {name: np.concatenate(parts) for name, parts in vanished.items()}
    none["saturated loss"] &= ~none["zero gradients"]
    losses_of = {"saturated loss": "cross-entropy", "zero gradients": "log-odds"}
    return [
        _flag(name, f"the gradient of the {losses_of[name]} is exactly 0 for {share:.1%} of the images")
        for name, hits in none.items()
        if (share := proportion(hits)).value > SHARE
    ]


def of_steps(
    model: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    norm: str,
    epsilon: float,
    seed: int,
    options: Mapping[str, Any],
) -> list[Flag]:
    """What plain gradient steps tell, in the ball and in one of twice the radius."""
    if not epsilon:
        return []
    wider = min(2 * epsilon, 1) if norm == "linf" else 2 * epsilon

    def descend(radius: float) -> attacks.Trace:
        if norm == "linf":
            result = attacks.iterative_fgsm(
                *(model, images, labels),
                epsilon=radius,
                step_size=radius / 8,
                steps=STEPS,
                trace=True,
                **options,
            )
        else:
            result = attacks.auto_pgd(
                *(model, images, labels),
                epsilon=radius,
                norm="l2",
                steps=STEPS,
                seed=seed,
                trace=True,
                **options,
            )
        if result.trace is None:
            raise AssertionError
        return result.trace

    near, far = descend(epsilon), descend(wider)
    flags = []
    still = proportion(near.log_odds[:, -1] <= near.log_odds[:, 0])
    if still.value > SHARE:
        number = f"{STEPS} gradient steps leave it no higher than it was for {still:.1%} of the images"
        flags.append(_flag("loss not raised", number))
    pairs = {
        "success falls with steps": (
            (f"{EARLY} steps", near.success[:, EARLY]),
            (f"{STEPS} steps", near.success[:, -1]),
        ),
        "success falls with ε": (
            (f"ε = {epsilon:.3g}", near.success[:, -1]),
            (f"ε = {wider:.3g}", far.success[:, -1]),
        ),
    }
    return flags + [
        _flag(name, number)
        for name, (weaker, stronger) in pairs.items()
        if (number := beats(weaker, stronger))
    ]


def of_attacks(hits: Mapping[str, np.ndarray]) -> list[Flag]:
    """What attacks tell that were run on the same images: of each whether it fools, bool (n,)."""
    white = np.any([hits[name] for name in WHITE_BOX if name in hits], axis=0)
    pairs = {
        "one step beats many": (
            ("one step", hits[ONE_STEP]),
            ("the many steps", hits[LOG_ODDS]),
        ),
        "black box beats white box": (("the black box", hits[BLACK_BOX]), ("the white box", white)),
    }
    if TRANSFER in hits:
        pairs["transfer beats white box"] = (
            ("the transfer", hits[TRANSFER]),
            ("the white box", white),
        )
    return [
        _flag(name, number)
        for name, (weaker, stronger) in pairs.items()
        if (number := beats(weaker, stronger))
    ]


def beats(weaker: tuple[str, np.ndarray], stronger: tuple[str, np.ndarray]) -> str:
    """What was found where an attack that should be weaker breaks more images; or nothing, "".

    Of each its name and what it breaks, bool (n,).
    """
    (name, hits), (other, more) = weaker, stronger
    won, lost, left = (int(each.sum()) for each in (hits & ~more, more & ~hits, ~more))
    if not won:
        return ""
    # That it wins more than it loses; or that it breaks more of what is left than it should.
    p = min(
        binomtest(won, won + lost, alternative="greater").pvalue,
        binomtest(won, left, SHARE, alternative="greater").pvalue,
    )
    if p >= LEVEL:
        return ""
    return (
        f"{name} breaks {hits.sum()} of {len(hits)} images, {other} {more.sum()}, and of the {left} "
        f"that {other} leaves, {name} breaks {won} (p = {p:.1g})"
    )
