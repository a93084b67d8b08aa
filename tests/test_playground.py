"""The playground's network and attacks, in Node: the same numbers as Keras and advlib."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from advlib import attacks, data, networks
from tools import exports

NODE = Path(sys.executable).parent / "node"
NETWORK = Path(__file__).resolve().parents[1] / "book" / "site" / "playground" / "network.js"

# Reads a model, images and a list of calls; answers each call for each image.
DRIVER = """
const { model: exported, images, calls } = JSON.parse(require("fs").readFileSync(0, "utf8"));
const model = new Network.Classifier(exported);
const last = (found, image) => { for (image of found); return image; };
const answers = {
  logits: (image) => model.run(image).logits,
  jacobian: (image) => {
    const state = model.run(image);
    return [...state.logits.keys()].map((k) =>
      Array.from(model.gradient(state, Array.from(state.logits, (_, j) => Number(j === k)))));
  },
  activations: (image) =>
    Object.values(model.run(image).activations).map((values) => Array.from(values)),
  softmax: (image) => Network.softmax(model.run(image).logits),
  iterativeFgsm: (image, settings) => last(Network.iterativeFgsm(model, image, settings), image),
  jsma: (image, settings) => last(Network.jsma(model, image, settings), image),
  randomNoise: (image, settings) => last(Network.randomNoise(image, settings), image),
};
console.log(JSON.stringify(calls.map(({ name, settings }) =>
  images.map((pixels, i) => {
    const found = answers[name](Float32Array.from(pixels), settings && settings[i]);
    return Array.isArray(found) ? found : Array.from(found);
  }))));
"""


def in_node(model: keras.Model, images: np.ndarray, *calls: dict[str, Any], folder: Path) -> list[Any]:
    """What the playground computes: for each call, a list with one answer per image."""
    script = folder / "driver.js"
    script.write_text(NETWORK.read_text(encoding="utf-8") + DRIVER, encoding="utf-8")
    pixels = images.reshape(len(images), -1).astype(np.float64).tolist()
    question = {"model": exports.exported(model), "images": pixels, "calls": calls}
    done = subprocess.run(
        [NODE, script], input=json.dumps(question), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    answers: list[Any] = json.loads(done.stdout)
    return answers


@pytest.fixture(scope="module")
def images(digits: data.Dataset) -> np.ndarray:
    """Digits, one blank and one of noise."""
    noise = np.random.default_rng(1).random((1, 28, 28, 1), np.float32)
    return np.concatenate([digits.test_images[:10], np.zeros_like(noise), noise])


def test_forward_and_backward_pass(model: keras.Model, images: np.ndarray, tmp_path: Path) -> None:
    names = ("logits", "softmax", "jacobian", "activations")
    logits, probabilities, jacobian, activations = in_node(
        model, images, *({"name": name} for name in names), folder=tmp_path
    )
    x = tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(x)
        expected = model(x)
    gradients = tape.batch_jacobian(expected, x).numpy().reshape(len(images), 10, -1)
    assert np.abs(gradients).max() > 1
    np.testing.assert_allclose(logits, expected, atol=2e-5)
    np.testing.assert_allclose(probabilities, tf.nn.softmax(expected), atol=1e-6)
    np.testing.assert_allclose(jacobian, gradients, atol=1e-5)
    inside = networks.activations(model, images)
    for layer, name in enumerate(("conv1", "conv2", "conv3")):
        found = np.array([answer[layer] for answer in activations])
        np.testing.assert_allclose(found, inside[name].reshape(len(images), -1), atol=1e-5)


@pytest.mark.parametrize("target", [None, 6])
@pytest.mark.parametrize("steps", [1, 15])
def test_fgsm_and_its_iterations(
    target: int | None, steps: int, model: keras.Model, digits: data.Dataset, tmp_path: Path
) -> None:
    chosen, labels = digits.test_images[:20], digits.test_labels[:20]
    size = 0.2 if steps == 1 else 0.02
    settings = [
        {"label": int(label), "target": target, "epsilon": 0.2, "stepSize": size, "steps": steps}
        for label in labels
    ]
    (found,) = in_node(model, chosen, {"name": "iterativeFgsm", "settings": settings}, folder=tmp_path)
    classes = labels if target is None else np.full(20, target)
    result = attacks.iterative_fgsm(
        model, chosen, classes, epsilon=0.2, step_size=size, steps=steps, targeted=target is not None
    )
    found = np.array(found).reshape(chosen.shape)
    # A gradient of next to nothing may have either sign, and what follows from it is another way.
    same = np.isclose(found, result.images, atol=1e-6).mean(axis=(1, 2, 3))
    assert np.median(same) == 1
    assert same.min() > 0.95
    assert np.abs(found - chosen).max() <= 0.2 + 1e-6
    np.testing.assert_array_equal(
        networks.predict_logits(model, found.astype(np.float32)).argmax(axis=1),
        networks.predict_logits(model, result.images).argmax(axis=1),
    )


def test_jsma(model: keras.Model, digits: data.Dataset, tmp_path: Path) -> None:
    chosen, targets = digits.test_images[:20], (digits.test_labels[:20] + 3) % 10
    settings = [{"target": int(target), "pixels": 30} for target in targets]
    (found,) = in_node(model, chosen, {"name": "jsma", "settings": settings}, folder=tmp_path)
    result = attacks.jsma(model, chosen, targets, max_fraction=30 / 784)
    assert 0 < result.success.mean() < 1
    found = np.array(found).reshape(chosen.shape)
    same = (found == result.images).all(axis=(1, 2, 3))
    assert same.mean() >= 0.9  # two pairs may score alike but for the last digit


def test_noise_is_a_coin_and_stays_within_bounds(
    model: keras.Model, images: np.ndarray, tmp_path: Path
) -> None:
    signs = np.tile([1, -1], 392)
    settings = [{"epsilon": 0.3, "signs": signs.tolist()}] * len(images)
    (found,) = in_node(model, images, {"name": "randomNoise", "settings": settings}, folder=tmp_path)
    expected = np.clip(images.reshape(len(images), -1) + 0.3 * signs, 0, 1)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_what_is_exported(tmp_path: Path, digits: data.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADVLIB_DATASET", "digits")
    exports.main(tmp_path / "one")
    text = (tmp_path / "one" / "playground" / "data.js").read_text(encoding="utf-8")
    content = json.loads(text.split(" = ", 1)[1].rstrip().rstrip(";"))
    assert content["dataset"] == "digits"
    assert len(content["digits"]) == 10
    assert (tmp_path / "one" / "playground" / "figure.png").stat().st_size > 5000
    with PIL.Image.open(tmp_path / "one" / "preview.png") as preview:
        assert preview.size == (1200, 630)
    with PIL.Image.open(tmp_path / "one" / "first.png") as first:
        assert first.size == (1200, 420)
    exports.main(tmp_path / "again")
    written = [path for path in (tmp_path / "one").rglob("*.*") if path.is_file()]
    assert len(written) == 4
    for path in written:
        same = tmp_path / "again" / path.relative_to(tmp_path / "one")
        assert same.read_bytes() == path.read_bytes()


def test_without_mnist_there_are_digits_all_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    load = data.load

    def unavailable(name: str | None = None) -> data.Dataset:
        if name is None:
            raise data.DataUnavailableError("no source could be reached")
        return load(name)

    monkeypatch.delenv("ADVLIB_DATASET", raising=False)
    monkeypatch.setattr(data, "load", unavailable)
    assert exports.load().name == "digits"
    assert "scikit-learn's digits. no source could be reached" in capsys.readouterr().out
    # Whoever asks for MNIST gets nothing else.
    monkeypatch.setenv("ADVLIB_DATASET", "mnist")
    with pytest.raises(data.DataUnavailableError):
        exports.load()
