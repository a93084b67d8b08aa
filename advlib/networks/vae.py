"""The book's variational autoencoder: a second network, which learns what digits look like."""

from typing import Any

import keras
import tensorflow as tf

from advlib._checks import check_integer
from advlib.losses import Batch
from advlib.networks._float32 import DTYPE, MAPS, network

__all__ = ["BETA", "VAE", "build", "loss"]

# Weight of the divergence in the loss (Higgins et al. 2017, https://openreview.net/forum?id=Sy2fzU9gl).
# Below 1 an image is kept more closely, and the latents are farther from a standard Gaussian.
BETA = 0.1


@keras.saving.register_keras_serializable(package="advlib")
class VAE(keras.Model):
    r"""Variational autoencoder (Kingma and Welling 2013, https://arxiv.org/abs/1312.6114).

    The encoder gives, for an image x, a Gaussian of the latents, with mean :math:`\mu(x)` and diagonal
    covariance :math:`\sigma^2(x)`; the decoder turns latents into an image. Called on images, the model
    decodes their means: the same image gives the same answer each time. It can be saved, loaded, copied
    and pickled like any Keras model of one's own: `keras.models.load_model` finds it once
    `advlib.networks` is imported. A file opens in the version of Keras that wrote it, weights alone
    (`save_weights`, `build`, `load_weights`) in others, too.

    Attributes
    ----------
    encoder : keras.Model
        Maps float32 (n, 28, 28, 1) in [0, 1] to the means and the logarithms of the variances of the
        latents, (n, latent) each.
    decoder : keras.Model
        Maps latents (n, latent) to images (n, 28, 28, 1) in [0, 1].
    latent : int
        The dimension of the latents.
    """

    def __init__(self, encoder: keras.Model, decoder: keras.Model, name: str = "vae") -> None:
        super().__init__(name=name, dtype=DTYPE)
        self.encoder = encoder
        self.decoder = decoder
        self.latent: int = decoder.input_shape[-1]
        self(tf.zeros((1, *self.input_shape[1:])))  # with this it is built, and can load weights

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """Shape of the images, None for their number."""
        return self.encoder.input_shape

    def get_config(self) -> dict[str, Any]:
        """What Keras saves of it beside the weights."""
        parts = {"encoder": self.encoder, "decoder": self.decoder}
        return {"name": self.name} | {
            key: keras.saving.serialize_keras_object(part) for key, part in parts.items()
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "VAE":
        """Build it again."""
        encoder, decoder = (
            keras.saving.deserialize_keras_object(config[part]) for part in ("encoder", "decoder")
        )
        return cls(encoder, decoder, name=config["name"])

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Decode the means of the images' latents."""
        means, _ = self.encoder(images, training=training)
        return self.decoder(means, training=training)


def build(*, latent: int, seed: int = 42) -> VAE:
    """Build the autoencoder with fresh weights.

    The encoder has two 4 × 4 convolutions with stride 2 and ReLU (16 and 32 filters) and a dense layer
    each for means and log-variances; the decoder mirrors it, and ends in a sigmoid.

    Parameters
    ----------
    latent : int
        The dimension of the latents.
    seed : int
        Of the initial weights (Glorot uniform; Glorot and Bengio 2010). The random state of the
        process is neither read nor changed.

    Returns
    -------
    VAE

    Raises
    ------
    ValueError
        If an argument is not a whole number in its range.
    """
    latent = check_integer(latent, "latent")
    seed = check_integer(seed, "seed", low=0)
    # A seed of its own for every layer, or layers of one shape would start alike.
    seeds = iter(range(8 * seed, 8 * seed + 8))

    def settings(name: str, activation: str | None = "relu") -> dict[str, Any]:
        start = keras.initializers.GlorotUniform(seed=next(seeds))
        return {
            "name": name,
            "activation": activation,
            "kernel_initializer": start,
            "dtype": DTYPE,
        }

    layers = keras.layers
    halved: dict[str, Any] = {
        "kernel_size": 4,
        "strides": 2,
        "padding": "same",
        "data_format": MAPS["data_format"],
    }
    images = keras.Input((28, 28, 1), name="images", dtype=DTYPE)
    x = layers.Conv2D(16, **halved, **settings("conv1"))(images)
    x = layers.Conv2D(32, **halved, **settings("conv2"))(x)
    x = layers.Flatten(name="flatten", **MAPS)(x)
    means = layers.Dense(latent, **settings("means", None))(x)
    log_variances = layers.Dense(latent, **settings("log_variances", None))(x)
    encoder = network(images, [means, log_variances], "encoder")

    latents = keras.Input((latent,), name="latents", dtype=DTYPE)
    x = layers.Dense(7 * 7 * 32, **settings("dense"))(latents)
    x = layers.Reshape((7, 7, 32), name="reshape", dtype=DTYPE)(x)
    x = layers.Conv2DTranspose(16, **halved, **settings("deconv1"))(x)
    x = layers.Conv2DTranspose(1, **halved, **settings("deconv2", "sigmoid"))(x)
    return VAE(encoder, network(latents, x, "decoder"))


def loss(model: VAE, batch: Batch) -> dict[str, tf.Tensor]:
    r"""Reconstruction and divergence, the two parts of the autoencoder's loss.

    The cross-entropy of each pixel x under the decoder's :math:`\hat x`,
    :math:`-x \log \hat x - (1 - x) \log (1 - \hat x)`, summed over the pixels, for latents drawn from
    the encoder's Gaussian; and `BETA` times that Gaussian's Kullback-Leibler divergence from the
    standard one, :math:`\frac{1}{2} \sum_i (\mu_i^2 + \sigma_i^2 - 1 - \log \sigma_i^2)`.

    Parameters
    ----------
    model : VAE
    batch : advlib.losses.Batch
        Targets are not looked at.

    Returns
    -------
    dict of scalars, in nats per image
        `loss`, and its parts before weighting, `reconstruction` and `divergence`.
    """
    means, log_variances = model.encoder(batch.images, training=batch.training)
    noise = keras.random.normal(tf.shape(means), seed=batch.seeds)
    decoded = model.decoder(means + tf.exp(log_variances / 2) * noise, training=batch.training)
    # The mean over the last axis, of one channel, is the pixel itself.
    pixels = keras.losses.binary_crossentropy(batch.images, decoded)
    reconstruction = tf.reduce_mean(tf.reduce_sum(pixels, axis=(1, 2)))
    latents = tf.square(means) + tf.exp(log_variances) - 1 - log_variances
    divergence = tf.reduce_mean(tf.reduce_sum(latents, axis=1)) / 2
    return {
        "loss": reconstruction + BETA * divergence,
        "reconstruction": reconstruction,
        "divergence": divergence,
    }
