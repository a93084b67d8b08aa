r"""What training lowers.

A loss is a function of a model and a `Batch`. It returns a dict of scalar tensors, each a mean over the
batch, of which "loss" is lowered and the others are kept in the history. So one's own is a few lines:

    def squared_error(model, batch):
        error = model(batch.images, training=batch.training) - batch.targets
        return {"loss": tf.reduce_mean(tf.square(error))}

It is compiled; whatever it draws, it draws with `batch.seeds`, so that two runs draw the same.
"""

from collections.abc import Callable
from typing import NamedTuple

import keras
import tensorflow as tf

__all__ = ["Batch", "Loss", "cross_entropy", "soft_labels"]


class Batch(NamedTuple):
    """What a loss gets to see.

    Attributes
    ----------
    images : tf.Tensor, float32, (n, height, width, channels)
        Pixel scale [0, 1].
    targets : tf.Tensor (n, ...), or None
        As they were handed to `training.train`.
    training : bool
        False where the loss is only measured.
    seeds : keras.random.SeedGenerator
        For random numbers: `keras.random.normal(shape, seed=batch.seeds)`.
    """

    images: tf.Tensor
    targets: tf.Tensor | None
    training: bool
    seeds: keras.random.SeedGenerator


Loss = Callable[[keras.Model, Batch], dict[str, tf.Tensor]]


def cross_entropy(model: keras.Model, batch: Batch) -> dict[str, tf.Tensor]:
    r"""Cross-entropy of the labels, :math:`-\log p_y(x)`, and the accuracy.

    Parameters
    ----------
    model : keras.Model
        Maps images to logits (n, classes).
    batch : Batch
        Targets: labels, integer, (n,).

    Returns
    -------
    dict of scalars
        `loss`, in nats, and `accuracy`, from 0 to 1.

    Raises
    ------
    ValueError
        If targets are not integers (n,).
    """
    labels = batch.targets
    if labels is None or not labels.dtype.is_integer or labels.shape.rank != 1:
        raise ValueError(f"targets must be labels, integers (n,), for this loss, got {_form(labels)}")
    logits = model(batch.images, training=batch.training)
    right = tf.equal(tf.argmax(logits, axis=1), tf.cast(labels, tf.int64))
    return {
        "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True)(labels, logits),
        "accuracy": tf.reduce_mean(tf.cast(right, tf.float32)),
    }


def soft_labels(model: keras.Model, batch: Batch) -> dict[str, tf.Tensor]:
    r"""Cross-entropy of probabilities q, :math:`-\sum_k q_k \log p_k(x)`.

    For labels that are smoothed, or another network's answers (Hinton et al. 2015,
    https://arxiv.org/abs/1503.02531).

    Parameters
    ----------
    model : keras.Model
        Maps images to logits (n, classes).
    batch : Batch
        Targets: probabilities, float, (n, classes), each row of sum 1.

    Returns
    -------
    dict of scalars
        `loss`, in nats, and `accuracy`: how often the likeliest class is the targets' likeliest.

    Raises
    ------
    ValueError
        If targets are not of that form.
    """
    shares = batch.targets
    if shares is None or not shares.dtype.is_floating or shares.shape.rank != 2:
        raise ValueError(
            f"targets must be probabilities, floats (n, classes), for this loss, got {_form(shares)}"
        )
    logits = model(batch.images, training=batch.training)
    right = tf.equal(tf.argmax(logits, axis=1), tf.argmax(shares, axis=1))
    return {
        "loss": keras.losses.CategoricalCrossentropy(from_logits=True)(shares, logits),
        "accuracy": tf.reduce_mean(tf.cast(right, tf.float32)),
    }


def _form(targets: tf.Tensor | None) -> str:
    return "none" if targets is None else f"{targets.dtype.name} of shape {tuple(targets.shape)}"
