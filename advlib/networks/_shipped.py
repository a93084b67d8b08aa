"""What the package ships: which network, trained on what, and how."""

import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import keras

from advlib._checks import check_integer
from advlib.data import Dataset
from advlib.losses import Loss, cross_entropy
from advlib.networks import classifier, vae
from advlib.training import Recipe, train

# How a network is built with fresh weights; the autoencoder once its latent dimension is named.
NETWORKS: dict[str, Callable[..., keras.Model]] = {"classifier": classifier.build, "vae": vae.build}
WEIGHTS = files("advlib") / "weights"
# Written by tools/weights.py, in the format of sha256sum.
HASHES = "SHA256SUMS"


@dataclass(frozen=True)
class Shipped:
    """A network whose weights come with the package.

    Attributes
    ----------
    network : {"classifier", "vae"}
    dataset : str
        The data set that it was trained on: `Dataset.name`.
    training : str
        How: "plain" for the network's usual loss on the images as they are.
    latent : int or None
        The dimension of the autoencoder's latents.
    recipe : Recipe
        The hyperparameters of the training.
    loss : callable
        What was lowered.
    """

    network: str
    dataset: str
    recipe: Recipe
    loss: Loss
    training: str = "plain"
    latent: int | None = None

    @property
    def file(self) -> str:
        """Name of the file of weights."""
        parts = (self.network, self.dataset, self.training, self.latent)
        return "_".join(str(part) for part in parts if part not in ("plain", None)) + ".weights.h5"

    def build(self) -> keras.Model:
        """The network with fresh weights, as the training began."""
        sizes = {} if self.latent is None else {"latent": self.latent}
        return NETWORKS[self.network](seed=self.recipe.seed, **sizes)

    def train(self, dataset: Dataset) -> tuple[keras.Model, dict[str, list[float]]]:
        """Train it again, on the training images of a data set; the model and its history."""
        model = self.build()
        labels = dataset.train_labels if self.network == "classifier" else None
        history = train(model, dataset.train_images, labels, loss=self.loss, recipe=self.recipe)
        return model, history

    def load(self) -> keras.Model:
        """The network with the weights that are shipped.

        Raises
        ------
        OSError
            If the file of weights is missing, or is not the one that the package was made with.
        """
        model = self.build()
        # Weights alone, into a model built in code: a whole saved model loads only in its own Keras.
        # Read once, so that what is loaded is what was verified.
        content = _verified(self.file)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / self.file
            path.write_bytes(content)
            model.load_weights(path)
        return model

    def __str__(self) -> str:
        latent = "" if self.latent is None else f", latent={self.latent}"
        return f"{self.network}, {self.dataset}, training={self.training}{latent}"


def _verified(name: str) -> bytes:
    """What a file of weights holds."""
    path, remedy = WEIGHTS / name, "install advlib again"
    try:
        lines = (WEIGHTS / HASHES).read_text(encoding="utf-8").splitlines()
        expected = {file: sha256 for sha256, file in (line.split("  ") for line in lines)}
    except (OSError, ValueError) as error:
        raise OSError(f"{WEIGHTS / HASHES} is missing or damaged ({error}): {remedy}") from error
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file {path}: {remedy}") from None
    found = hashlib.sha256(content).hexdigest()
    if found != expected.get(name):
        raise OSError(
            f"{path} is damaged: its SHA-256 is {found}, and should be {expected.get(name)}; {remedy}"
        )
    return content


_CLASSIFIER = {
    "mnist": Recipe(epochs=4),
    "fashion_mnist": Recipe(epochs=12),
    "digits": Recipe(epochs=40),
}
_VAE = {
    "mnist": (Recipe(epochs=12, batch_size=128), (2, 4, 16, 48)),
    "digits": (Recipe(epochs=120, batch_size=32), (2, 4, 16)),
}
SHIPPED: tuple[Shipped, ...] = (
    *(Shipped("classifier", dataset, recipe, cross_entropy) for dataset, recipe in _CLASSIFIER.items()),
    *(
        Shipped("vae", dataset, recipe, vae.loss, latent=latent)
        for dataset, (recipe, latents) in _VAE.items()
        for latent in latents
    ),
)


def shipped(
    network: str = "classifier",
    dataset: str = "mnist",
    *,
    training: str = "plain",
    latent: int | None = None,
) -> Shipped:
    """Look up a network that comes with the package.

    Parameters
    ----------
    network : {"classifier", "vae"}
        Which network.
    dataset : str
        The data set that it was trained on: `Dataset.name`.
    training : str
        How it was trained: "plain" for the network's usual loss on the images as they are.
    latent : int, optional
        The dimension of the autoencoder's latents; only and always for "vae".

    Returns
    -------
    Shipped
        Its recipe and loss; `load` gives the network, `train` trains it again.

    Raises
    ------
    ValueError
        If there is none such; the message lists those there are.
    """
    found = _only(network, dataset, training)
    latent = None if latent is None else check_integer(latent, "latent")
    some = [entry for entry in found if entry.latent == latent]
    if not some:
        raise _unknown("latent", latent, found)
    return some[0]


def _only(network: str, dataset: str, training: str) -> list[Shipped]:
    """What is shipped under these names."""
    found = list(SHIPPED)
    for name, value in {"network": network, "dataset": dataset, "training": training}.items():
        some = [entry for entry in found if getattr(entry, name) == value]
        if not some:
            raise _unknown(name, value, found)
        found = some
    return found


def _unknown(name: str, value: object, candidates: list[Shipped]) -> ValueError:
    known = dict.fromkeys(repr(getattr(entry, name)) for entry in candidates)
    every = "".join(f"\n  {entry}" for entry in SHIPPED)
    return ValueError(
        f"{name} must be one of {', '.join(known)} here, got {value!r}. Shipped are:{every}"
    )


def latents(dataset: str = "mnist", *, training: str = "plain") -> tuple[int, ...]:
    """Latent dimensions of the autoencoders that are shipped for a data set, rising.

    Raises
    ------
    ValueError
        If there is none; the message lists what is shipped.
    """
    one = _only("vae", dataset, training)
    return tuple(sorted(entry.latent for entry in one if entry.latent is not None))


def pretrained(
    network: str = "classifier",
    dataset: str = "mnist",
    *,
    training: str = "plain",
    latent: int | None = None,
) -> keras.Model:
    """Build a network with the weights that the package ships.

    Parameters
    ----------
    network, dataset, training, latent
        As for `shipped`.

    Returns
    -------
    keras.Model
        The classifier maps float32 (n, 28, 28, 1) in [0, 1] to logits (n, 10); the autoencoder is a
        `vae.VAE`.

    Raises
    ------
    ValueError
        If there is none such; the message lists those there are.
    OSError
        If the file of weights is missing or damaged.
    """
    return shipped(network, dataset, training=training, latent=latent).load()
