"""What the site takes from the package.

    python tools/exports.py FOLDER

Writes playground/data.js, with the network's weights and ten digits; playground/figure.png, which stands
in for the playground without JavaScript; first.png, with which the book opens; and preview.png, the
picture of a link to the book. The digits are those of the chapters: the first ten 2s of the test digits
that the network reads correctly; where MNIST cannot be had, scikit-learn's digits, with the network that
was trained on them.
"""

import base64
import json
import os
import sys
from pathlib import Path
from typing import Any

import keras
import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from scipy.special import softmax

from advlib import attacks, data, networks, plots

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
    """The data set that was chosen; without a choice MNIST, or scikit-learn's digits without that."""
    try:
        return data.load()
    except data.DataUnavailableError as error:
        if os.environ.get("ADVLIB_DATASET"):
            raise
        print(f"The playground shows scikit-learn's digits. {error}")
        return data.load("digits")


def sum_of_images(before: np.ndarray, after: np.ndarray, reads: list[str], *, headline: bool) -> Figure:
    """A digit, a change, and their sum; 1200 pixels wide, and 630 high where a headline stands above."""
    height = 6.3 if headline else 4.2
    figure = Figure(figsize=(12, height), dpi=100, facecolor="white")
    if headline:
        figure.text(0.06, 0.86, "Adversarial Examples, Computed", fontsize=38, weight="bold")
        figure.text(
            0.06, 0.78, "A network that reads digits: fooled, defended, and fooled again.", fontsize=21
        )
    change = after - before
    most = float(np.abs(change).max())
    ink, colours = plots.KINDS["ink"][0], plots.KINDS["change"][0]
    shown = [(before, ink, 0, 1), (change, colours, -most, most), (after, ink, 0, 1)]
    titles = [f"predicted: {reads[0]}", "a computed change", f"predicted: {reads[1]}"]
    side = 0.26 if headline else 0.28  # of the width
    for place, ((image, cmap, low, high), title) in enumerate(zip(shown, titles, strict=True)):
        left = 0.06 + 0.31 * place
        axes = figure.add_axes((left, 0.38 / height, side, side * 12 / height))
        axes.imshow(image[..., 0], cmap=cmap, vmin=low, vmax=high, interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        axes.set_title(title, fontsize=22)
        sign = ["+", "=", ""][place]
        figure.text(
            left + (side + 0.31) / 2,
            0.38 / height + side * 6 / height,
            sign,
            fontsize=26,
            ha="center",
            va="center",
        )
    return figure


def main(folder: Path) -> None:
    dataset = load()
    model = networks.pretrained("classifier", dataset.name)
    chosen = networks.correctly_classified(
        model, dataset.test_images, dataset.test_labels, digit=DIGIT, count=COUNT
    )
    digits = dataset.test_images[chosen]
    content = {
        "dataset": dataset.name,
        "model": exported(model),
        "label": DIGIT,
        "digits": [encoded(np.round(255 * digit).astype(np.uint8)) for digit in digits],
    }
    playground = folder / "playground"
    playground.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
    script = f'"use strict";\nconst PLAYGROUND = {text};\n'
    (playground / "data.js").write_text(script, encoding="utf-8")

    some = digits[:5]
    result = attacks.iterative_fgsm(
        model,
        some,
        np.full(len(some), TARGET),
        epsilon=EPSILON,
        step_size=EPSILON / STEPS * 2,
        steps=STEPS,
        targeted=True,
    )
    shares = softmax(networks.predict_logits(model, np.concatenate([some, result.images])), axis=1)
    reads = [f"{share.argmax()}: {share.max():.0%}" for share in shares]
    mpl.use("agg")
    without = {"Software": None}  # no version in the file: the same input gives the same bytes
    titles = [f"read as {read.partition(':')[0]}" for read in reads[len(some) :]]
    figure = plots.perturbations(some, result.images, titles)
    figure.savefig(playground / "figure.png", dpi=110, metadata=without)
    fooled = int(result.success.argmax())
    pair = [reads[index].replace(":", ",") for index in (fooled, len(some) + fooled)]
    for name, headline in (("first.png", False), ("preview.png", True)):
        figure = sum_of_images(some[fooled], result.images[fooled], pair, headline=headline)
        figure.savefig(folder / name, metadata=without)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
