"""The book's classifier: a small convolutional network."""

from functools import partial

import keras

from advlib._checks import check_integer
from advlib.networks._float32 import DTYPE, MAPS, network

__all__ = ["CLASSES", "build"]

CLASSES = 10


def build(*, seed: int = 42) -> keras.Model:
    """Build the network with fresh weights.

    Three 3 × 3 convolutions with ReLU (16 filters; 32 and 64 filters with stride 2) and one dense
    layer: 46,346 parameters. Its output is the logits, without softmax.

    Parameters
    ----------
    seed : int
        Of the initial weights (Glorot uniform; Glorot and Bengio 2010). The random state of the
        process is neither read nor changed.

    Returns
    -------
    keras.Model
        Maps float32 (n, 28, 28, 1) in [0, 1] to logits (n, 10).

    Raises
    ------
    ValueError
        If the seed is not a whole number of at least 0.
    """
    seed = check_integer(seed, "seed", low=0)
    # A seed of its own for every layer, or layers of one shape would start alike.
    start = [keras.initializers.GlorotUniform(seed=4 * seed + layer) for layer in range(4)]
    convolution = partial(keras.layers.Conv2D, kernel_size=3, activation="relu", **MAPS)
    images = keras.Input((28, 28, 1), name="images", dtype=DTYPE)
    x = convolution(16, padding="same", kernel_initializer=start[0], name="conv1")(images)
    x = convolution(32, strides=2, kernel_initializer=start[1], name="conv2")(x)
    x = convolution(64, strides=2, kernel_initializer=start[2], name="conv3")(x)
    x = keras.layers.Flatten(name="flatten", **MAPS)(x)
    logits = keras.layers.Dense(CLASSES, kernel_initializer=start[3], name="logits", dtype=DTYPE)(x)
    return network(images, logits, "classifier")
