"""Compute again whatever the package ships, and say what it reaches.

    python tools/weights.py [NAME]

Trains the networks (some fifteen minutes on two cores), then attacks the classifiers (about half an
hour). With a name it only trains those whose file of weights begins so. The attacks are made part by
part: after an interruption, those that are in _build/attacks are not made again.
"""

import hashlib
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from advlib import attacks, data, metrics, networks, results

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "advlib" / "weights"
PARTS = ROOT / "_build" / "attacks"
PART = 50  # digits

Arrays = dict[str, Any]  # of arrays


def store(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file where a byte of it changed, and say whether."""
    with tempfile.TemporaryDirectory() as folder:
        new = Path(folder) / path.name
        write(new)
        changed = not path.exists() or new.read_bytes() != path.read_bytes()
        if changed:
            path.write_bytes(new.read_bytes())
    print(f"   {path.name} {'changed' if changed else 'unchanged'}", flush=True)


def as_text(arrays: Arrays) -> str:
    """JSON with a line for each array, so that a change of it can be read."""
    lines = [f'"{key}": {json.dumps(values.tolist())}' for key, values in arrays.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def train(entry: networks.Shipped) -> None:
    """Train one network again, store its weights, and say what it reaches and costs."""
    dataset = data.load(entry.dataset)
    start = time.perf_counter()
    model, history = entry.train(dataset)
    reached = f"loss {history['loss'][-1]:.2f}"
    if entry.network == "classifier":
        logits = networks.predict_logits(model, dataset.test_images)
        reached = f"test accuracy {metrics.proportion(logits.argmax(axis=1) == dataset.test_labels)}"
    print(f"== {entry}: {reached}, {time.perf_counter() - start:.0f} s", flush=True)
    store(FOLDER / entry.file, model.save_weights)


def list_hashes(trained: list[networks.Shipped]) -> None:
    """Write down what `networks.pretrained` demands of the files of weights, anew for those trained."""
    path = FOLDER / "SHA256SUMS"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    hashes = {name: sha256 for sha256, name in (line.split("  ") for line in lines)}
    for entry in trained:
        hashes[entry.file] = hashlib.sha256((FOLDER / entry.file).read_bytes()).hexdigest()
    names = sorted({entry.file for entry in networks.SHIPPED} & {*hashes})
    text = "".join(f"{hashes[name]}  {name}\n" for name in names)
    store(path, lambda new: new.write_text(text, encoding="utf-8"))


def search(model: keras.Model, images: np.ndarray, labels: np.ndarray) -> Arrays:
    """Every pixel and level; where the best candidate differs from the image, and how."""
    found = attacks.one_pixel_search(model, images, labels)
    change = np.abs(found.images - images).reshape(len(images), -1)
    places = change.argmax(axis=1)
    values = np.take_along_axis(found.images.reshape(len(images), -1), places[:, None], axis=1)[:, 0]
    return {
        "success": found.success,
        "odds": found.odds.max(axis=(1, 2)).astype(float).round(6),
        "hits": found.hits.sum(axis=(1, 2)),
        "places": places,
        "levels": np.rint(255 * values).astype(int),
    }


def evolve(model: keras.Model, images: np.ndarray, labels: np.ndarray) -> Arrays:
    """Differential evolution of the paper's length, for several numbers of pixels."""
    evolved = [
        attacks.one_pixel(model, images, labels, pixels=pixels, strategy=strategy, seed=results.SEED)
        for strategy in results.STRATEGIES
        for pixels in results.PIXELS
    ]
    shape = len(results.STRATEGIES), len(results.PIXELS), len(images)
    return {
        field: np.stack([getattr(result, field) for result in evolved]).reshape(shape)
        for field in ("success", "evaluations")
    }


def attack(
    kind: str,
    function: Callable[[keras.Model, np.ndarray, np.ndarray], Arrays],
    dataset: data.Dataset,
    count: int,
) -> None:
    """Attack the first test digits that are read correctly, part by part, and store what came of it."""
    weights = (FOLDER / f"classifier_{dataset.name}.weights.h5").read_bytes()
    folder = PARTS / f"{kind}_{dataset.name}_{hashlib.sha256(weights).hexdigest()[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    model = networks.pretrained("classifier", dataset.name)
    right = networks.predict_logits(model, dataset.test_images).argmax(axis=1) == dataset.test_labels
    indices = np.flatnonzero(right)[:count]
    parts = []
    for start in range(0, count, PART):
        path = folder / f"{start}.npz"
        if not path.exists():
            some = indices[start : start + PART]
            found = function(model, dataset.test_images[some], dataset.test_labels[some])
            unfinished = path.with_suffix(".unfinished.npz")
            np.savez_compressed(unfinished, **found)
            unfinished.rename(path)
        with np.load(path) as stored:
            parts.append(dict(stored))
    whole = {key: np.concatenate([part[key] for part in parts], axis=-1) for key in parts[0]}
    for success in whole["success"].reshape(-1, count):
        print(f"   {kind}: {metrics.proportion(success)}")
    arrays: Arrays = {"indices": indices, **whole}
    store(FOLDER / f"{kind}_{dataset.name}.json", lambda path: path.write_text(as_text(arrays)))
    shutil.rmtree(folder)


def main(name: str) -> None:
    """Train the networks whose file begins with `name`; without one all, and attack them."""
    chosen = [entry for entry in networks.SHIPPED if entry.file.startswith(name)]
    if not chosen:
        files = "".join(f"\n  {entry.file}" for entry in networks.SHIPPED)
        sys.exit(f"no file of weights begins with {name!r}. There are:{files}")
    for entry in chosen:
        train(entry)
    list_hashes(chosen)
    if name:
        return
    for dataset in map(data.load, data.DIGITS):
        print(f"== {dataset}", flush=True)
        attack("one_pixel_search", search, dataset, results.SEARCHED[dataset.name])
        attack("one_pixel", evolve, dataset, results.EVOLVED[dataset.name])


if __name__ == "__main__":
    main(*(sys.argv[1:2] or [""]))
