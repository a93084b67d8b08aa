"""Train again whatever the package ships, and say what it reaches.

python tools/weights.py
"""

import tempfile
from pathlib import Path

from advlib import classifier, data, metrics

FOLDER = Path(__file__).resolve().parents[1] / "advlib" / "weights"


def main() -> None:
    for name, recipe in classifier.RECIPES.items():
        dataset = data.load(name)
        print(f"== {dataset}", flush=True)
        model, _ = classifier.train(dataset.train_images, dataset.train_labels, recipe=recipe)
        logits = classifier.predict_logits(model, dataset.test_images)
        right = metrics.proportion(logits.argmax(axis=1) == dataset.test_labels)
        path = FOLDER / f"classifier_{name}.weights.h5"
        with tempfile.TemporaryDirectory() as folder:
            new = Path(folder) / path.name
            model.save_weights(new)
            changed = not path.exists() or new.read_bytes() != path.read_bytes()
            if changed:
                path.write_bytes(new.read_bytes())
        print(f"   test accuracy {right}; {path.name} {'changed' if changed else 'unchanged'}")


if __name__ == "__main__":
    main()
