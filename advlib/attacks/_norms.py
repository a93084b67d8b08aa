"""Balls in L∞ and L2."""

import numpy as np
import tensorflow as tf

NORMS = ("linf", "l2")


def inside(
    x: np.ndarray, images: np.ndarray, lower: np.ndarray, upper: np.ndarray, l2: np.ndarray | None
) -> np.ndarray:
    """The nearest images that keep the bounds to the last bit."""
    x = np.clip(x, lower, upper)
    if l2 is None:
        return x
    for attempt in range(30):  # rounding to float32 may make it longer again
        change = x.astype(np.float64) - images
        length = np.sqrt((change**2).sum(axis=(1, 2, 3)))
        over = length > l2
        if not over.any():
            break
        scale = (l2[over] / length[over] * (1 - 2.0 ** (attempt - 24)))[:, None, None, None]
        x[over] = np.clip(images[over] + np.maximum(scale, 0) * change[over], 0, 1)
    return x


def scaled(change: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    """Changes (m, height, width, channels) brought to a Euclidean length (m,); 0 stays 0."""
    # Divided by the largest first: squares of tiny numbers are 0 in float32.
    largest = tf.reduce_max(tf.abs(change), axis=(1, 2, 3), keepdims=True)
    change = tf.math.divide_no_nan(change, largest)
    norm = tf.sqrt(tf.reduce_sum(tf.square(change), axis=(1, 2, 3), keepdims=True))
    return tf.math.divide_no_nan(change, norm) * length[:, None, None, None]
