"""Random noise: what an attack is compared with."""

import keras
import numpy as np

from advlib import _pace
from advlib._checks import check_integer, check_per_image
from advlib.attacks import _loop, gradient_sign
from advlib.attacks._result import AttackResult


def random_noise(
    model: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    epsilon: float | np.ndarray,
    targeted: bool = False,
    seed: int,
    randomized: bool = False,
    batch_size: int | None = None,
) -> AttackResult:
    """Add or subtract `epsilon` at every pixel by the toss of a coin, then clip to [0, 1].

    No attack, but the control of one: what noise does as well, an attack of the same size has not
    done. Before it is cut off at [0, 1] it changes every pixel as much as `fgsm` does.

    Parameters
    ----------
    model, images, labels, epsilon, targeted, randomized, batch_size
        As in `fgsm`.
    seed : int
        Of the signs; they do not depend on `batch_size`.

    Returns
    -------
    AttackResult
        No iterations, and one evaluation per image: for the success.

    Raises
    ------
    ValueError
        If an argument is not of that form; the message names it.
    """
    images, labels = _loop.check_arguments(model, images, labels, batch_size, randomized=randomized)
    random = np.random.default_rng(check_integer(seed, "seed", low=0))
    signs = 2 * random.integers(0, 2, images.shape, np.int8) - 1
    with _pace.bar("looking") as bar:
        result, logits = gradient_sign.attack(
            model,
            images,
            labels,
            signs,
            epsilon=check_per_image(epsilon, len(images), "epsilon"),
            step_size=np.zeros(len(images)),
            steps=0,
            targeted=targeted,
            early_stop=False,
            randomized=randomized,
            batch_size=batch_size,
            bar=bar,
        )
    return _loop.confirmed(model, result, logits, labels, targeted=targeted, batch_size=batch_size)


def gaussian_noise(
    model: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    l2: float | np.ndarray,
    targeted: bool = False,
    seed: int,
    randomized: bool = False,
    batch_size: int | None = None,
) -> AttackResult:
    """Add Gaussian noise that is cut off at [0, 1] and then has the given Euclidean length.

    No attack, but the control of one: with the length of an attack's perturbation it goes as far, in
    no direction in particular. Pixels that reach 0 or 1 stay there; the others make up for what was
    cut off.

    Parameters
    ----------
    model, images, labels, targeted, randomized, batch_size
        As in `fgsm`.
    l2 : float, or array of floats, (n,)
        Euclidean length of the noise, not negative; one for all images, or one per image.
    seed : int
        Of the noise; it does not depend on `batch_size`.

    Returns
    -------
    AttackResult
        No iterations, and one evaluation per image: for the success. The length is `l2` to within
        float32's rounding errors.

    Raises
    ------
    ValueError
        If an argument is not of that form, or no noise of that length, in the direction that was
        drawn, fits between 0 and 1.
    """
    images, labels = _loop.check_arguments(model, images, labels, batch_size, randomized=randomized)
    l2 = check_per_image(l2, len(images), "l2", high=np.inf)
    random = np.random.default_rng(check_integer(seed, "seed", low=0))

    size = batch_size or _loop.fitting_batch(images)
    noisy = np.empty_like(images)
    for start in range(0, len(images), size):  # bounds the memory
        part = slice(start, start + size)
        noise = random.standard_normal(images[part].shape)
        noisy[part] = _add(images[part], noise, l2[part], start)
    with _pace.bar("looking") as bar:
        result, logits = gradient_sign.attack(
            model,
            noisy,
            labels,
            None,
            epsilon=np.zeros(len(images)),
            step_size=np.zeros(len(images)),
            steps=0,
            targeted=targeted,
            early_stop=False,
            randomized=randomized,
            batch_size=batch_size,
            bar=bar,
        )
    return _loop.confirmed(model, result, logits, labels, targeted=targeted, batch_size=batch_size)


def _add(images: np.ndarray, noise: np.ndarray, l2: np.ndarray, number: int) -> np.ndarray:
    r"""Add the multiple s of the noise that has length `l2` (m,) after it is cut off at [0, 1].

    With r the room that a pixel has in the noise's direction it moves by :math:`\min(s|g|, r)`. The
    square of the length is a sum over the pixels that have reached their ends, those of the smallest
    r / |g|, plus :math:`s^2` times a sum over the others: exact once it is known how many have.
    `number` is that of the first image, for the message.
    """
    # float64 (m, values).
    start = images.reshape(len(images), -1).astype(np.float64)
    noise = noise.reshape(start.shape)
    room = np.where(noise > 0, 1 - start, start)
    reach = room / np.maximum(np.abs(noise), 1e-150)  # the s that ends the room; at most 1e150
    order = np.argsort(reach, axis=1)
    reach, ended, moving = (
        np.take_along_axis(values, order, axis=1) for values in (reach, room**2, noise**2)
    )
    ended = np.cumsum(ended, axis=1)
    moving = np.cumsum(moving[:, ::-1], axis=1)[:, ::-1]
    longest = np.sqrt(ended[:, -1])
    too_long = l2 > longest * (1 + 1e-12)  # but not by rounding errors alone
    if too_long.any():
        first = int(np.argmax(too_long))
        raise ValueError(
            f"l2 must be at most {longest[first]:.4g} for this noise to fit between 0 and 1, "
            f"got {l2[first]:.4g} for image {number + first}"
        )
    # Before the j-th pixel reaches its end, j - 1 have: s² = (l2² - ended before) / moving from j on.
    before = np.pad(ended, ((0, 0), (1, 0)))[:, :-1]
    square = (l2[:, None] ** 2 - before) / moving
    fits = square <= reach**2
    fits[:, -1] = True  # what rounding errors deny
    at = np.argmax(fits, axis=1)[:, None]
    scale = np.sqrt(np.maximum(np.take_along_axis(square, at, axis=1), 0))
    changed = np.clip(start + scale * noise, 0, 1)
    return changed.astype(np.float32).reshape(images.shape)
