"""What the playground needs from the package: the network's weights, ten digits, and a figure.

    python tools/playground.py FOLDER

Writes data.js and figure.png. The digits are those of the chapters: the first ten 2s of the test digits
that the network reads correctly; where MNIST cannot be had, scikit-learn's digits, with the network
that was trained on them.
"""

import base64
import json
import sys
from pathlib import Path
from typing import Any

import keras
import matplotlib as mpl
import numpy as np

from advlib import attacks, classifier, data, plots

COUNT = 10
DIGIT, TARGET = 2, 6
EPSILON, STEPS = 0.2, 20


def encoded(values: np.ndarray) -> str:
    """The bytes of an array in base64, little-endian."""
    return base64.b64encode(values.astype(values.dtype.newbyteorder("<")).tobytes()).decode()


def exported(model: keras.Model) -> dict[str, Any]:
    """Shapes and weights of the book's classifier, as network.js takes them."""
    *convolutions, dense = [layer for layer in model.layers if layer.weights]
    kernel, bias = dense.get_weights()
    return {
        "size": model.input_shape[1],
        "convolutions": [
            {
                "name": layer.name,
                "width": layer.kernel_size[0],
                "stride": layer.strides[0],
                "same": layer.padding == "same",
                "filters": layer.filters,
                "kernel": encoded(layer.get_weights()[0]),
                "bias": encoded(layer.get_weights()[1]),
            }
            for layer in convolutions
        ],
        "dense": {"kernel": encoded(kernel), "bias": encoded(bias)},
    }


def load() -> data.Dataset:
    """The data set that was chosen, or the embedded one where it cannot be had."""
    try:
        return data.load()
    except data.DataUnavailableError as error:
        print(f"The playground shows scikit-learn's digits. {error}")
        return data.load("digits")


def main(folder: Path) -> None:
    dataset = load()
    model = classifier.pretrained(dataset.name)
    chosen = classifier.correctly_classified(
        model, dataset.test_images, dataset.test_labels, digit=DIGIT, count=COUNT
    )
    digits = dataset.test_images[chosen]
    content = {
        "dataset": dataset.name,
        "model": exported(model),
        "label": DIGIT,
        "digits": [encoded(np.round(255 * digit).astype(np.uint8)) for digit in digits],
    }
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
    (folder / "data.js").write_text(f'"use strict";\nconst PLAYGROUND = {text};\n', encoding="utf-8")

    some = digits[:5]
    result = attacks.iterative_fgsm(
        model,
        some,
        np.full(len(some), TARGET),
        epsilon=EPSILON,
        step_size=EPSILON / STEPS,
        steps=STEPS,
        targeted=True,
    )
    reads = classifier.predict_logits(model, result.images).argmax(axis=1)
    mpl.use("agg")
    figure = plots.perturbations(some, result.images, [f"read as {read}" for read in reads])
    figure.savefig(folder / "figure.png", dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
