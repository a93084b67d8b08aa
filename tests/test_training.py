"""What the book's networks share in training: random numbers stay where they belong."""

import hashlib
import random
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import keras
import numpy as np
import pytest

from advlib import classifier, data, vae

NETWORKS: dict[str, tuple[Callable[[], object], ...]] = {
    "classifier": (partial(classifier.build, seed=1), partial(classifier.pretrained, "digits")),
    "vae": (partial(vae.build, latent=2, seed=1), partial(vae.pretrained, "digits", latent=2)),
}


def trained(network: str) -> str:
    """Hash of the weights after a short training on the embedded digits."""
    digits = data.load("digits")
    recipe = classifier.Recipe(epochs=2, batch_size=32)
    model: keras.Model
    if network == "vae":
        model, _ = vae.train(digits.train_images, latent=2, recipe=recipe)
    else:
        model, _ = classifier.train(digits.train_images, digits.train_labels, recipe=recipe)
    return hashlib.sha256(b"".join(weights.tobytes() for weights in model.get_weights())).hexdigest()


@pytest.mark.parametrize("network", NETWORKS)
def test_building_and_loading_leave_the_random_state_alone(network: str) -> None:
    def draws() -> tuple[float, ...]:
        return (random.random(), np.random.random(), float(keras.random.uniform(())))  # noqa: NPY002

    keras.utils.set_random_seed(7)
    expected = draws()
    keras.utils.set_random_seed(7)
    for make in NETWORKS[network]:
        make()
    assert draws() == expected


@pytest.mark.parametrize("network", NETWORKS)
def test_training_is_deterministic_to_the_bit(network: str, root: Path) -> None:
    # Two processes, so that nothing that one leaves behind can help the other; and this one, in
    # which much has run already.
    code = f"from tests.test_training import trained; print(trained({network!r}))"
    hashes = {
        subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=root
        ).stdout.strip()
        for _ in range(2)
    }
    assert hashes == {trained(network)}
