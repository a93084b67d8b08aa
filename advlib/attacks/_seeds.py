"""Random numbers of each image, which depend on the image, its class and the seed, and on nothing else.

So it does not matter which other images are attacked, in which order, or in which batches.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf


def keys(images: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    """Seeds of each image's random numbers, int32 (n, 2), from its pixels, its class and the seed."""
    fingerprints = tf.bitcast(tf.fingerprint(images), tf.int64).numpy()
    state = np.random.SeedSequence(seed).generate_state(1, np.uint64).astype(np.int64)
    words = np.column_stack([fingerprints, labels.astype(np.int64), np.repeat(state, len(images))])
    return tf.bitcast(tf.reshape(tf.fingerprint(words), (-1, 2, 4)), tf.int32).numpy()


def uniform(keys: tf.Tensor, generation: tf.Tensor, shape: Sequence[Any]) -> tf.Tensor:
    """Random numbers in [0, 1) for each image, (m, *shape)."""
    # Where nothing is compiled, `map_fn` takes a millisecond for each image.
    draw = _compiled if tf.executing_eagerly() else _uniform
    return draw(keys + tf.stack([0, generation]), tf.stack(shape))


def _uniform(keys: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
    def of_image(key: tf.Tensor) -> tf.Tensor:
        return tf.random.stateless_uniform(shape, key, alg="philox")

    return tf.map_fn(of_image, keys, fn_output_signature=tf.float32)


_compiled = tf.function(
    _uniform, input_signature=[tf.TensorSpec((None, 2), tf.int32), tf.TensorSpec((None,), tf.int32)]
)
