"""What training the book's networks has in common: hyperparameters, optimizer, progress."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Real
from typing import Any

import keras
import tensorflow as tf
from tqdm import tqdm

from advlib._checks import check_integer

# What Keras's own settings would decide on where a layer does not say it.
DTYPE = "float32"
MAPS = {"dtype": DTYPE, "data_format": "channels_last"}


@dataclass(frozen=True)
class Recipe:
    """Hyperparameters of training.

    Attributes
    ----------
    epochs : int
        Passes over the training digits.
    batch_size : int
        Digits per step.
    learning_rate : float
        Adam's rate at the start; it falls to 0 along half a cosine, step by step.
    seed : int
        Of the initial weights, of the order of the digits, and of whatever else is drawn.

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


def network(inputs: keras.KerasTensor, outputs: object, name: str) -> keras.Model:
    """A functional model that computes in float32, whatever Keras's settings are."""
    model = keras.Model(inputs, outputs, name=name)
    model.dtype_policy = DTYPE
    return model


@contextmanager
def keras_settings() -> Iterator[None]:
    """Keras's own settings as training needs them, and afterwards as they were.

    What is trained on is cast to `floatx`, and losses and metrics are computed in it; `epsilon` is how
    near to 0 they let a probability come. They are those of the process: other threads see them, too.
    """
    before = keras.config.floatx(), keras.config.epsilon()
    keras.config.set_floatx(DTYPE)
    keras.config.set_epsilon(1e-7)
    try:
        yield
    finally:
        keras.config.set_floatx(before[0])
        keras.config.set_epsilon(before[1])


def prepare(recipe: Recipe, count: int) -> tuple[keras.optimizers.Optimizer, "Progress"]:
    """Make training on `count` images deterministic; give its optimizer and its progress bar.

    Adam (Kingma and Ba 2014) with a cosine-decayed learning rate (Loshchilov and Hutter 2016). The
    random state of the process is reset and TensorFlow's deterministic operations are switched on, both
    for good.
    """
    keras.utils.set_random_seed(recipe.seed)  # of the order of the digits
    tf.config.experimental.enable_op_determinism()
    steps = recipe.epochs * -(-count // recipe.batch_size)
    schedule = keras.optimizers.schedules.CosineDecay(recipe.learning_rate, decay_steps=steps)
    return keras.optimizers.Adam(schedule), Progress(steps)


class Progress(keras.callbacks.Callback):
    """A progress bar over all steps (silent under TQDM_DISABLE=1); adds the rate to the history."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self._bar = tqdm(total=steps, desc="training", unit="step")

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self._bar.update()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        assert logs is not None
        logs["learning_rate"] = float(self.model.optimizer.learning_rate)
        measured = "accuracy" if "accuracy" in logs else "loss"
        self._bar.set_postfix({measured: f"{logs[measured]:.4f}"})

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        self._bar.close()
