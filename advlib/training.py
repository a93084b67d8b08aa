"""Training, the same for every network: what differs is the loss that is handed in."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Real
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from advlib._checks import check_images, check_input_shape, check_integer, check_labels, check_model
from advlib.losses import Batch, Loss

__all__ = ["Progress", "Recipe", "train"]


@dataclass(frozen=True)
class Recipe:
    """Hyperparameters of training.

    Attributes
    ----------
    epochs : int
        Passes over the training images.
    batch_size : int
        Images per step.
    learning_rate : float
        Adam's rate at the start; it falls to 0 along half a cosine, step by step.
    seed : int
        Of the initial weights, of the order of the images, and of whatever else is drawn.

    Raises
    ------
    ValueError
        If one of them is out of range; the message names it.
    """

    epochs: int
    batch_size: int = 64
    learning_rate: float = 2e-3
    seed: int = 42

    def __post_init__(self) -> None:
        for name, low, high in (("epochs", 1, None), ("batch_size", 1, None), ("seed", 0, 2**32 - 1)):
            value = check_integer(getattr(self, name), f"recipe.{name}", low=low, high=high)
            object.__setattr__(self, name, value)  # as int, whatever kind of whole number it was
        rate: Any = self.learning_rate
        if isinstance(rate, bool) or not isinstance(rate, Real) or not 0 < float(rate) < math.inf:
            raise ValueError(f"recipe.learning_rate must be above 0 and finite, got {rate!r}")
        object.__setattr__(self, "learning_rate", float(rate))


def train(
    model: keras.Model,
    images: np.ndarray,
    targets: np.ndarray | None = None,
    *,
    loss: Loss,
    recipe: Recipe,
    validation: tuple[np.ndarray, ...] | None = None,
) -> dict[str, list[float]]:
    """Train a model in place, showing a progress bar.

    Adam (Kingma and Ba 2014, https://arxiv.org/abs/1412.6980) and a learning rate that falls along half
    a cosine (Loshchilov and Hutter 2016, https://arxiv.org/abs/1608.03983). The loop is Keras's `fit`:
    with `losses.cross_entropy` it gives the weights, to the bit, that `compile` and `fit` give. Losses
    that layers add themselves, such as regularisers, are not looked at. Two runs on one machine give
    bit-equal weights: the random state of the process is reset and TensorFlow's deterministic operations
    are switched on, both for good.

    Parameters
    ----------
    model : keras.Model
        Its weights are changed. It needs not be compiled, and is left as it is in that.
    images : array, float32, (n, height, width, channels)
        Pixel scale [0, 1].
    targets : array, (n,) or (n, ...), optional
        What the loss asks for: integers are labels, from 0 to the model's last class; or floats, such
        as probabilities (n, classes), of which float32 is made; or none.
    loss : callable
        Takes the model and a `losses.Batch`, and returns a dict of scalar tensors, each a mean over the
        batch. "loss" is lowered; the others are only kept in the history. `advlib.losses` has some, and
        says how to write one.
    recipe : Recipe
        The hyperparameters.
    validation : (images,) or (images, targets), optional
        The same loss of these after each epoch; never trained on.

    Returns
    -------
    history : dict of lists, one value per epoch
        Whatever the loss returns, as a mean over the epoch while the weights were changing;
        `learning_rate`, at its end; and with `validation` the loss's values there, as `val_…`.

    Raises
    ------
    ValueError
        If images or targets are not of that form, or the loss returns anything else.
    FloatingPointError
        If the loss is no longer finite after an epoch. The model then holds weights of no use.
    """
    check_model(model)
    if not callable(loss):
        raise ValueError(f"loss must be callable, got {type(loss).__name__}")
    if not isinstance(recipe, Recipe):
        raise ValueError(f"recipe must be a training.Recipe, got {type(recipe).__name__}")
    images = check_images(images)
    check_input_shape(model, images)
    sets = [_together(model, images, targets, "")]
    if validation is not None:
        if not isinstance(validation, tuple) or len(validation) != 1 + (targets is not None):
            wanted = "(images,)" if targets is None else "(images, targets)"
            raise ValueError(f"validation must be a tuple {wanted}, as what is trained on")
        held_out = check_images(validation[0], "validation images")
        check_input_shape(model, held_out, "validation images")
        sets.append(_together(model, held_out, (*validation, None)[1], "validation "))

    with _settings():
        # Asked beforehand, so that what the loss refuses is refused before anything is trained.
        values, *_ = [_asked(loss, model, *arrays) for arrays in sets]
        keras.utils.set_random_seed(recipe.seed)  # of the order of the images
        tf.config.experimental.enable_op_determinism()
        steps = recipe.epochs * -(-len(images) // recipe.batch_size)
        schedule = keras.optimizers.schedules.CosineDecay(recipe.learning_rate, decay_steps=steps)
        loop = _Loop(model, loss, list(values), recipe.seed)
        loop.compile(optimizer=keras.optimizers.Adam(schedule))
        x, y = sets[0]
        history: dict[str, list[float]] = loop.fit(
            x,
            y,
            batch_size=recipe.batch_size,
            epochs=recipe.epochs,
            validation_data=sets[1] if len(sets) > 1 else None,
            verbose=0,
            callbacks=[Progress(), _Finite()],
        ).history
    return history


def _together(
    model: keras.Model, images: np.ndarray, targets: np.ndarray | None, name: str
) -> tuple[np.ndarray, np.ndarray | None]:
    """Images and their targets, one for each."""
    if targets is None:
        return images, None
    targets = np.asarray(targets)
    if targets.dtype.kind in "iu":
        classes = _classes(model, images)
        return images, check_labels(targets, len(images), classes, f"{name}targets")
    if targets.dtype.kind != "f" or targets.ndim == 0 or len(targets) != len(images):
        raise ValueError(
            f"{name}targets must be labels, or floats with one row for each of {len(images)} images, "
            f"got {targets.dtype} of shape {targets.shape}"
        )
    if not np.isfinite(targets).all():
        raise ValueError(f"{name}targets must be finite")
    return images, targets.astype(np.float32)


def _classes(model: keras.Model, images: np.ndarray) -> int:
    """How many the model tells apart, whatever kind of Keras model it is."""
    return int(model(tf.constant(images[:1]), training=False).shape[-1])


def _asked(
    loss: Loss, model: keras.Model, images: np.ndarray, targets: np.ndarray | None
) -> dict[str, tf.Tensor]:
    """What the loss says of one image."""
    one = tf.constant(images[:1]), None if targets is None else tf.constant(targets[:1])
    values = loss(model, Batch(*one, training=False, seeds=keras.random.SeedGenerator(0)))
    if not isinstance(values, dict) or "loss" not in values:
        raise ValueError(f'loss must return a dict with the key "loss", got {values!r}')
    shapes = {name: tuple(tf.shape(value).numpy()) for name, value in values.items()}
    if any(shapes.values()):
        raise ValueError(f"loss must return scalars, means over the batch, got shapes {shapes}")
    return values


@contextmanager
def _settings() -> Iterator[None]:
    """Keras's own settings as training needs them, and afterwards as they were.

    What is trained on is cast to `floatx`, and losses and metrics are computed in it; `epsilon` is how
    near to 0 they let a probability come. They are those of the process: other threads see them, too.
    """
    before = keras.config.floatx(), keras.config.epsilon()
    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    try:
        yield
    finally:
        keras.config.set_floatx(before[0])
        keras.config.set_epsilon(before[1])


class _Loop(keras.Model):
    """A model with its loss, as `fit` needs it."""

    def __init__(self, model: keras.Model, loss: Loss, names: list[str], seed: int) -> None:
        super().__init__(dtype="float32")
        self._model = model
        self._lowered = loss
        # Of their own, or measuring would change what training draws.
        self._seeds, self._other_seeds = (keras.random.SeedGenerator(seed) for _ in range(2))
        self._means = [keras.metrics.Mean(name) for name in names]

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """What Keras resets after each epoch."""
        return self._means

    def train_step(self, arrays: Any) -> dict[str, tf.Tensor]:
        """One step on a batch; the means over the epoch so far of whatever the loss returns."""
        batch = self._batch(arrays, training=True)
        with tf.GradientTape() as tape:
            values = self._lowered(self._model, batch)
        weights = self._model.trainable_variables
        gradients = tape.gradient(values["loss"], weights)
        self.optimizer.apply_gradients(zip(gradients, weights, strict=True))
        return self._record(values, batch)

    def test_step(self, arrays: Any) -> dict[str, tf.Tensor]:
        """The same without a step."""
        batch = self._batch(arrays, training=False)
        return self._record(self._lowered(self._model, batch), batch)

    def _batch(self, arrays: Any, *, training: bool) -> Batch:
        images, targets, _ = keras.utils.unpack_x_y_sample_weight(arrays)
        seeds = self._seeds if training else self._other_seeds
        return Batch(images, targets, training=training, seeds=seeds)

    def _record(self, values: dict[str, tf.Tensor], batch: Batch) -> dict[str, tf.Tensor]:
        for mean in self._means:
            mean.update_state(values[mean.name], sample_weight=tf.shape(batch.images)[0])
        return {mean.name: mean.result() for mean in self._means}


class Progress(keras.callbacks.Callback):
    """A progress bar over all steps of `fit`; adds the learning rate to its history.

    Silent under TQDM_DISABLE=1.
    """

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Open the bar."""
        steps = self.params["epochs"] * (self.params["steps"] or 0)
        self._bar = tqdm(total=steps or None, desc="training", unit="step")

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """One step on."""
        self._bar.update()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Say what was reached, and keep the rate."""
        assert logs is not None
        logs["learning_rate"] = float(self.model.optimizer.learning_rate)
        measured = "accuracy" if "accuracy" in logs else "loss"
        self._bar.set_postfix({measured: f"{logs[measured]:.4f}"})

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Close the bar."""
        self._bar.close()


class _Finite(keras.callbacks.Callback):
    """Stops where there is nothing left to train."""

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        assert logs is not None
        if not math.isfinite(logs["loss"]):
            raise FloatingPointError(
                f"loss is {logs['loss']} after epoch {epoch + 1}: training has diverged; "
                "a lower recipe.learning_rate may help"
            )
