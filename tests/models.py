"""Small models of which the answer is known."""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf


def linear(weights: np.ndarray, bias: np.ndarray, shape: tuple[int, ...]) -> keras.Model:
    """Logits x·W + b of images of this shape."""
    inputs = keras.Input(shape)
    layer = keras.layers.Dense(weights.shape[1])
    model = keras.Model(inputs, layer(keras.layers.Flatten()(inputs)))
    layer.set_weights([weights, bias])
    return model


def convolutional(shape: tuple[int, int, int], filters: int, classes: int, seed: int) -> keras.Model:
    """One convolution with ReLU and a dense layer, with fixed random weights."""
    start = [keras.initializers.GlorotUniform(seed=seed + layer) for layer in range(2)]
    inputs = keras.Input(shape)
    x = keras.layers.Conv2D(filters, 3, activation="relu", kernel_initializer=start[0])(inputs)
    logits = keras.layers.Dense(classes, kernel_initializer=start[1])(keras.layers.Flatten()(x))
    return keras.Model(inputs, logits)


@tf.custom_gradient  # type: ignore[untyped-decorator]
def without_gradient_at_0(x: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    """x itself; the gradient is NaN where it is 0."""
    return x, lambda upstream: tf.where(x == 0, np.nan, upstream)
