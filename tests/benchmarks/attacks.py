"""Compare the attacks with other packages' in time, success and memory; prints Markdown tables.

    python tests/benchmarks/attacks.py [--quick]

Times are medians over calls made in turn (A, B, C, A, B, C, …), after one call of each that is not
counted. Only ratios within one run mean something on another machine. `--quick` tries the script.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from advlib import attacks, classifier, data, metrics

# From images (n, 28, 28, 1) and classes (n,) to the attacked images.
Attack = Callable[[np.ndarray, np.ndarray], np.ndarray]
# Name, module, distribution.
PEERS = (
    ("CleverHans", "cleverhans", "cleverhans"),
    ("Foolbox", "foolbox", "foolbox"),
    ("ART", "art", "adversarial-robustness-toolbox"),
    ("torchattacks", "torchattacks", "torchattacks"),
)
GAMMA = 0.145

# --- the other packages, driven in one way ---------------------------------------------------------
# The basic iterative method without random start. The model may be a Keras model, or one compiled by
# tf.function, which makes Foolbox and ART faster and changes no result.


def cleverhans_bim(
    model: Any, *, epsilon: float, step_size: float, steps: int, targeted: bool
) -> Attack:
    module = import_module("cleverhans.tf2.attacks.projected_gradient_descent")

    def attack(images: np.ndarray, classes: np.ndarray) -> np.ndarray:
        return module.projected_gradient_descent(
            model,
            tf.constant(images),
            epsilon,
            step_size,
            steps,
            np.inf,
            clip_min=0.0,
            clip_max=1.0,
            y=tf.constant(classes),
            targeted=targeted,
            rand_init=False,
            sanity_checks=False,
        ).numpy()

    return attack


def foolbox_bim(model: Any, *, epsilon: float, step_size: float, steps: int, targeted: bool) -> Attack:
    foolbox = import_module("foolbox")
    # Not its search for a device, which calls a deprecated function; the model runs where it is.
    bounded = foolbox.TensorFlowModel(model, (0, 1), device="/CPU:0")
    method = foolbox.attacks.LinfBasicIterativeAttack(
        rel_stepsize=None, abs_stepsize=step_size, steps=steps, random_start=False
    )
    criteria = foolbox.criteria
    criterion = criteria.TargetedMisclassification if targeted else criteria.Misclassification

    def attack(images: np.ndarray, classes: np.ndarray) -> np.ndarray:
        aim = criterion(tf.constant(classes))
        return method.run(bounded, tf.constant(images), aim, epsilon=epsilon).numpy()

    return attack


def art_classifier(model: Any) -> Any:
    return import_module("art.estimators.classification").TensorFlowV2Classifier(
        model=model,
        nb_classes=10,
        input_shape=(28, 28, 1),
        clip_values=(0, 1),
        loss_object=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )


def art_bim(model: Any, *, epsilon: float, step_size: float, steps: int, targeted: bool) -> Attack:
    estimator = art_classifier(model)
    method = import_module("art.attacks.evasion").BasicIterativeMethod

    def attack(images: np.ndarray, classes: np.ndarray) -> np.ndarray:
        return method(
            estimator,
            eps=epsilon,
            eps_step=step_size,
            max_iter=steps,
            targeted=targeted,
            batch_size=len(images),
            verbose=False,
        ).generate(images, classes)

    return attack


def art_jsma(model: Any) -> Attack:
    estimator = art_classifier(model)
    method = import_module("art.attacks.evasion").SaliencyMapMethod

    def attack(images: np.ndarray, targets: np.ndarray) -> np.ndarray:
        saliency = method(estimator, theta=1.0, gamma=GAMMA, batch_size=len(images), verbose=False)
        return saliency.generate(images, targets)

    return attack


def in_torch(model: keras.Model) -> Any:
    """The network again, in PyTorch: channels first."""
    torch = import_module("torch")
    nn = torch.nn
    copy = nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, stride=2), nn.ReLU()),
        *(nn.Conv2d(32, 64, 3, stride=2), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(2304, 10)),
    )
    *convolutions, kernel, bias = model.get_weights()
    arrays = [v.transpose(3, 2, 0, 1) if v.ndim == 4 else v for v in convolutions]
    arrays += [kernel.reshape(6, 6, 64, 10).transpose(3, 2, 0, 1).reshape(10, -1), bias]
    with torch.no_grad():
        for parameter, values in zip(copy.parameters(), arrays, strict=True):
            parameter.copy_(torch.tensor(values))
        probe = np.random.default_rng(0).random((20, 28, 28, 1), np.float32)
        logits = copy(torch.tensor(probe.transpose(0, 3, 1, 2))).numpy()
    np.testing.assert_allclose(logits, model(probe).numpy(), atol=1e-3)
    return copy.eval()


def torchattacks(method: Any, *, targeted: bool) -> Attack:
    torch = import_module("torch")
    if targeted:
        method.set_mode_targeted_by_label(quiet=True)

    def attack(images: np.ndarray, classes: np.ndarray) -> np.ndarray:
        attacked = method(torch.tensor(images.transpose(0, 3, 1, 2)), torch.tensor(classes))
        return attacked.detach().numpy().transpose(0, 2, 3, 1)

    return attack


# --- measuring -------------------------------------------------------------------------------------


def in_turn(runs: dict[str, Callable[[], Any]], repeats: int) -> dict[str, tuple[float, Any]]:
    """Median seconds and the result of each."""
    results = {name: run() for name, run in runs.items()}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return {name: (statistics.median(seconds[name]), results[name]) for name in runs}


def table(title: str, head: str, rows: Iterable[Iterable[str]]) -> None:
    columns = head.split(" | ")
    print(f"\n## {title}\n\n| {head} |\n|{' --- |' + ' ---: |' * (len(columns) - 1)}")
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)


def predicted(model: keras.Model, images: np.ndarray) -> np.ndarray:
    return classifier.predict_logits(model, images.astype(np.float32)).argmax(axis=1)


def random_targets(labels: np.ndarray) -> np.ndarray:
    return (labels + 1 + np.random.default_rng(0).integers(0, 9, len(labels))) % 10


def centred(model: keras.Model) -> keras.Model:
    """The network less the mean of its logits: the same probabilities."""
    copy = keras.models.clone_model(model)
    *others, kernel, bias = model.get_weights()
    copy.set_weights([*others, kernel - kernel.mean(axis=1, keepdims=True), bias - bias.mean()])
    return copy


def processor() -> str:
    if sys.platform == "darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    named = (line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor())


# --- the comparisons -------------------------------------------------------------------------------


def bare_passes(model: keras.Model, images: np.ndarray, repeats: int) -> None:
    x = tf.constant(images)
    forward = tf.function(lambda: model(x, training=False))

    @tf.function  # type: ignore[untyped-decorator]
    def both() -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(x)
            logits = model(x, training=False)
        return tape.gradient(logits, x)

    runs = {"forward": lambda: forward().numpy(), "forward and backward": lambda: both().numpy()}
    times = {name: seconds for name, (seconds, _) in in_turn(runs, repeats).items()}
    table(
        "The bare network",
        "pass | ms per 1,000 digits | ratio",
        ([name, f"{1e6 * s / len(x):.1f}", f"{s / times['forward']:.2f}"] for name, s in times.items()),
    )


def bare_gradients(model: keras.Model, images: np.ndarray, labels: np.ndarray, steps: int) -> Any:
    """A call that takes the gradient `steps` times."""

    @tf.function  # type: ignore[untyped-decorator]
    def repeat(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        x = images
        for _ in tf.range(steps):
            with tf.GradientTape() as tape:
                tape.watch(x)
                logits = model(x, training=False)
                loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            # Each pass needs the one before, or TensorFlow could compute them all at once.
            x += 1e-9 * tape.gradient(loss, x)
        return x

    x, y = tf.constant(images), tf.constant(labels)
    return lambda: repeat(x, y).numpy()


def iterated(
    title: str,
    model: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    repeats: int,
    *,
    targeted: bool,
    **settings: Any,
) -> None:
    """Iterated FGSM, everyone's."""
    classes = random_targets(labels) if targeted else labels
    steps = settings["steps"]
    arguments = settings | {"targeted": targeted}
    bare, ours = "bare gradients", "advlib"

    def attack_by_advlib(early_stop: bool) -> np.ndarray:
        return attacks.iterative_fgsm(model, images, classes, early_stop=early_stop, **arguments).images

    stopping = {f"{ours}, early stop": True} if targeted else {}
    runs: dict[str, Callable[[], np.ndarray]] = {bare: bare_gradients(model, images, labels, steps)}
    for name, early in {**stopping, ours: False}.items():
        runs[name] = partial(attack_by_advlib, early_stop=early)
    compiled = tf.function(model)
    drivers = {"CleverHans": cleverhans_bim, "Foolbox": foolbox_bim, "ART": art_bim}
    for name, module, _ in PEERS:
        if find_spec(module):
            if name == "torchattacks":
                bim = import_module(module).BIM(
                    in_torch(model),
                    eps=settings["epsilon"],
                    alpha=settings["step_size"],
                    steps=steps,
                )
                attack = torchattacks(bim, targeted=targeted)
            else:
                attack = drivers[name](compiled, **arguments)
                if not targeted:  # as their documentation hands them a Keras model
                    plain = drivers[name](model, **arguments)
                    runs[f"{name}, model not compiled"] = partial(plain, images, classes)
            runs[name] = partial(attack, images, classes)
    measured = in_turn(runs, repeats)
    iterations = dict.fromkeys(runs, f"{steps}")
    for name in stopping:
        early_result = attacks.iterative_fgsm(model, images, classes, early_stop=True, **arguments)
        iterations[name] = f"{early_result.iterations.mean():.1f}"
    rows = []
    for name, (seconds, attacked) in measured.items():
        success = ""
        if name != bare:
            hit = (predicted(model, attacked) == classes) == targeted
            success = f"{hit.mean():.1%}"
        rows.append(
            [
                name,
                f"{1000 * seconds / len(images):.2f}",
                f"{seconds / measured[bare][0]:.2f}",
                f"{seconds / measured[ours][0]:.2f}",
                iterations[name],
                success,
            ]
        )
    head = (
        "attack | ms per digit | ratio to bare gradients | ratio to advlib | mean iterations | success"
    )
    table(title, head, rows)


def saliency(
    title: str, model: keras.Model, images: np.ndarray, labels: np.ndarray, few: int, repeats: int
) -> None:
    """JSMA, everyone's; torchattacks, which takes one image at a time, on `few` digits."""
    targets = random_targets(labels)

    def attack_by_advlib(options: dict[str, Any]) -> np.ndarray:
        return attacks.jsma(model, images, targets, max_fraction=GAMMA, **options).images

    variants: dict[str, dict[str, Any]] = {
        "advlib, pairs": {},
        "advlib, single pixels": {"search": "single"},
        "advlib, pairs, aware of clipping": {"clip_aware": True},
    }
    runs: dict[str, Callable[[], np.ndarray]] = {}
    for name, options in variants.items():
        runs[name] = partial(attack_by_advlib, options)
    if find_spec("art"):
        art = art_jsma(tf.function(model))
        runs["ART"] = lambda: art(images, targets)
    if find_spec("torchattacks"):
        jsma = import_module("torchattacks").JSMA(in_torch(model), theta=1.0, gamma=GAMMA)
        one_by_one = torchattacks(jsma, targeted=True)
        runs[f"torchattacks, {few} digits"] = lambda: one_by_one(images[:few], targets[:few])
    measured = in_turn(runs, repeats)
    first, first_attacked = measured["advlib, pairs"]
    rows = []
    for name, (seconds, attacked) in measured.items():
        count = len(attacked)
        hit = predicted(model, attacked) == targets[:count]
        changed = np.mean(attacked != images[:count], axis=(1, 2, 3))
        rows.append(
            [
                name,
                f"{1000 * seconds / count:.2f}",
                f"{seconds / count / (first / len(first_attacked)):.2f}",
                f"{hit.mean():.1%}",
                f"{changed[hit].mean():.2%}" if hit.any() else "",
            ]
        )
    head = "attack | ms per digit | ratio to advlib, pairs | success | mean L0 of the successes"
    table(title, head, rows)


def every_target(model: keras.Model, images: np.ndarray, labels: np.ndarray) -> None:
    """JSMA from every digit to each of its wrong classes, as the paper counts it."""
    starts = np.repeat(images, 9, axis=0)
    targets = (labels[:, None] + np.arange(1, 10)).ravel() % 10
    rows = []
    for name, network, options in (
        ("pairs", model, {}),
        ("pairs, aware of clipping", model, {"clip_aware": True}),
        ("pairs, centred logits", centred(model), {}),
        ("pairs, both", centred(model), {"clip_aware": True}),
        ("single pixels", model, {"search": "single"}),
    ):
        result = attacks.jsma(network, starts, targets, max_fraction=GAMMA, **options)
        pixels = metrics.norms(starts, result.images).l0[result.success]
        share = metrics.mean(100 * pixels / starts[0].size)
        rows.append([name, str(metrics.proportion(result.success)), str(share)])
    title = f"JSMA, {len(images):,} digits × 9 targets"
    table(title, "search | success | mean L0 of the successes, %", rows)


# --- scaling, each measurement in a process of its own ----------------------------------------------


def megabytes() -> float:
    """The most memory that this process has held so far."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**20 if sys.platform == "darwin" else 2**10)  # bytes there, kB elsewhere


def one_size(attack: str, count: int) -> None:
    """Print seconds, and memory before and after, of one attack on `count` digits."""
    model = classifier.pretrained("mnist")
    digits = data.load("mnist")
    images, labels = digits.test_images[:count], digits.test_labels[:count]

    def run(n: int) -> Any:
        if attack == "jsma":
            return attacks.jsma(model, images[:n], random_targets(labels[:n]))
        return attacks.iterative_fgsm(
            model, images[:n], labels[:n], epsilon=0.2, step_size=0.01, steps=20
        )

    run(min(count, 1000))  # the first call of all traces, and of a size prepares
    before = megabytes()
    start = time.perf_counter()
    run(count)
    print(json.dumps([time.perf_counter() - start, before, megabytes()]))


def scaling(counts: Iterable[int]) -> None:
    rows = []
    for attack in ("iterative_fgsm", "jsma"):
        first = 0.0
        for count in counts:
            command = [sys.executable, __file__, "--one-size", attack, str(count)]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            seconds, before, after = json.loads(output.splitlines()[-1])
            each = 1000 * seconds / count
            first = first or each
            sizes = [f"{before:,.0f}", f"{after:,.0f}"]
            rows.append([attack, f"{count:,}", f"{each:.2f}", f"{each / first:.2f}", *sizes])
    head = "attack | images | ms per image | ratio | peak memory before it, MB | peak memory, MB"
    table("Scaling of advlib: iterative_fgsm with 20 steps, jsma with pairs", head, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare the attacks with other packages'.")
    parser.add_argument("--quick", action="store_true", help="a few digits and steps")
    parser.add_argument("--one-size", nargs=2, metavar=("ATTACK", "COUNT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    tf.get_logger().setLevel("ERROR")
    if options.one_size:
        one_size(options.one_size[0], int(options.one_size[1]))
        return

    print("# Attacks compared\n")
    print(f"{processor()}, {os.cpu_count()} cores. Python {platform.python_version()}", end="")
    for package in ("tensorflow", "keras", "numpy", *(("torch",) if find_spec("torch") else ())):
        print(f", {package} {metadata.version(package)}", end="")
    print(".")
    for name, module, distribution in PEERS:
        version = f"version {metadata.version(distribution)}" if find_spec(module) else "not installed"
        print(f"{name}: {version}{'' if find_spec(module) else ', left out'}.")
    print("All attack the shipped MNIST network, all digits of a comparison in one batch.", flush=True)

    quick = options.quick
    # First: a new process's peak memory begins at that of the one that starts it.
    scaling((10, 20, 40) if quick else (100, 1000, 10_000))
    count, repeats = (20, 1) if quick else (500, 3)
    model = classifier.pretrained("mnist")
    digits = data.load("mnist")
    right = predicted(model, digits.test_images[:1100]) == digits.test_labels[:1100]
    images, labels = digits.test_images[:1100][right], digits.test_labels[:1100][right]
    bare_passes(model, images[: 2 * count], 10)
    iterated(
        "Iterated FGSM, untargeted, equal steps",
        model,
        images[:count],
        labels[:count],
        repeats,
        targeted=False,
        epsilon=0.2,
        step_size=0.001,
        steps=5 if quick else 200,
    )
    iterated(
        "Iterated FGSM, targeted, early stopping",
        model,
        images[:count],
        labels[:count],
        repeats,
        targeted=True,
        epsilon=0.3,
        step_size=0.01,
        steps=5 if quick else 100,
    )
    few, some = (2, 4) if quick else (20, 100)
    for title, network in (
        ("JSMA", model),
        ("JSMA on the network with centred logits", centred(model)),
    ):
        saliency(title, network, images[:some], labels[:some], few, repeats)
    every_target(model, images[: 2 * count], labels[: 2 * count])


if __name__ == "__main__":
    main()
