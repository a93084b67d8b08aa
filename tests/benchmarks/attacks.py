"""Compare the attacks with other packages' in time, success and memory; prints Markdown tables.

    python tests/benchmarks/attacks.py [--quick] [--only PART]

Times are medians over calls made in turn (A, B, C, A, B, C, …), after one call of each that is not
counted; from auto-pgd on they are of one call, after one with two digits. Only ratios within one run
mean something on another machine. `--quick` tries the script, `--only` runs one part of it: scaling,
bare, iterated, saliency, every-target, one-pixel, truth, auto-pgd, square, carlini-wagner or suite.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, partial, partialmethod
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from scipy.optimize import OptimizeResult, differential_evolution
from scipy.stats import qmc
from tqdm import tqdm

from advlib import attacks, data, evaluation, losses, metrics, networks, training

# From images (n, 28, 28, 1) and classes (n,) to the attacked images.
Attack = Callable[[np.ndarray, np.ndarray], np.ndarray]
# The same, and how many forward passes it took, or candidates that stand for them.
CountedAttack = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, int]]
# Name, module, distribution.
PEERS = (
    ("CleverHans", "cleverhans", "cleverhans"),
    ("Foolbox", "foolbox", "foolbox"),
    ("ART", "art", "adversarial-robustness-toolbox"),
    ("torchattacks", "torchattacks", "torchattacks"),
)
GAMMA = 0.145
POPULATION = 400
SCIPY_SETTINGS: dict[str, Any] = {"strategy": "best1", "mutation": (0.5, 1), "recombination": 0.7}
# Where another process takes a core, PyTorch's threads wait for each other; not by keeping theirs busy.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Digits at a time, of which PyTorch makes a pass in half the time that it needs for 200 at once.
FEW = 50
# Where digits still stand when all attacks have been tried: of the shipped network, of the robust one.
BOUNDS = {"shipped": 0.1, "robust": 0.3}
PARTS = (
    *("scaling", "bare", "iterated", "saliency", "every-target", "one-pixel", "truth"),
    *("auto-pgd", "square", "carlini-wagner", "suite"),
)

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


def choose_threads(network: Any) -> None:
    """Let PyTorch use all cores, or one where that is faster: on a busy machine, all wait for each."""
    torch = import_module("torch")
    probe = torch.zeros(128, 1, 28, 28)

    def seconds(threads: int) -> float:
        torch.set_num_threads(threads)
        with torch.no_grad():
            network(probe)
            start = time.perf_counter()
            for _ in range(20):
                network(probe)
        return time.perf_counter() - start

    torch.set_num_threads(min((os.cpu_count() or 1, 1), key=seconds))


def torchattacks(method: Any, *, targeted: bool) -> Attack:
    torch = import_module("torch")
    if targeted:
        method.set_mode_targeted_by_label(quiet=True)

    def attack(images: np.ndarray, classes: np.ndarray) -> np.ndarray:
        attacked = method(torch.tensor(images.transpose(0, 3, 1, 2)), torch.tensor(classes))
        return attacked.detach().numpy().transpose(0, 2, 3, 1)

    return attack


def in_batches(attack: Attack, size: int) -> Attack:
    def attack_all(images: np.ndarray, classes: np.ndarray) -> np.ndarray:
        parts = [slice(first, first + size) for first in range(0, len(images), size)]
        return np.concatenate([attack(images[part], classes[part]) for part in parts])

    return attack_all


def counted(network: Any, attack: Attack) -> CountedAttack:
    """The attack, and how many images have gone through the network, which is one of PyTorch."""
    judged: list[int] = []
    # Of the first layer: ART calls the layers, not the network.
    network[0].register_forward_hook(lambda _, inputs, __: judged.append(len(inputs[0])))

    def attack_and_count(images: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, int]:
        choose_threads(network)
        judged.clear()
        return attack(images, classes), sum(judged)

    return attack_and_count


class Counting:
    """A compiled network, and how many images have gone through it."""

    def __init__(self, model: keras.Model) -> None:
        self._compiled = tf.function(partial(model, training=False))
        # A variable: ART compiles the network once more.
        self._judged = tf.Variable(0, dtype=tf.int64)

    def __call__(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        self._judged.assign_add(tf.shape(images, tf.int64)[0])
        return self._compiled(images)

    def counted(self, attack: Attack) -> CountedAttack:
        def attack_and_count(images: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, int]:
            self._judged.assign(0)
            return attack(images, classes), int(self._judged)

        return attack_and_count


def counted_by_advlib(attack: Callable[..., attacks.AttackResult], passes: int) -> CountedAttack:
    """The attack, and its evaluations, of which so many are one pass or one pass and its gradient."""

    def attack_and_count(images: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, int]:
        result = attack(images, classes)
        return result.images, int(result.evaluations.sum()) // passes

    return attack_and_count


def art_in_torch(network: Any, method: str, **settings: Any) -> Attack:
    """ART's on PyTorch: its Auto-PGD does not run with Keras 3."""
    estimator = import_module("art.estimators.classification").PyTorchClassifier(
        model=network,
        loss=import_module("torch").nn.CrossEntropyLoss(),
        input_shape=(1, 28, 28),
        nb_classes=10,
        clip_values=(0, 1),
        device_type="cpu",
    )
    make = getattr(import_module("art.attacks.evasion"), method)

    def attack(images: np.ndarray, classes: np.ndarray) -> np.ndarray:
        method = make(estimator, batch_size=len(images), verbose=False, **settings)
        return method.generate(images.transpose(0, 3, 1, 2), classes).transpose(0, 2, 3, 1)

    return attack


def art_in_tensorflow(model: Any, method: str, **settings: Any) -> Attack:
    estimator = art_classifier(model)
    make = getattr(import_module("art.attacks.evasion"), method)

    def attack(images: np.ndarray, classes: np.ndarray) -> np.ndarray:
        return make(estimator, batch_size=len(images), verbose=False, **settings).generate(
            images, classes
        )

    return attack


def auto_pgd_ways(
    model: keras.Model, *, epsilon: float, loss: str, aims: int, steps: int
) -> dict[str, CountedAttack]:
    """With all steps, but for the one that says so; with aims each takes the digits that still stand."""
    options: dict[str, Any] = {"epsilon": epsilon, "loss": loss, "aims": aims, "steps": steps}
    ways = {
        name: counted_by_advlib(
            partial(attacks.auto_pgd, model, early_stop=early_stop, seed=0, **options), passes=2
        )
        for name, early_stop in (("advlib", False), ("advlib, early stop", True))
    }
    if find_spec("torchattacks"):
        package, network = import_module("torchattacks"), in_torch(model)
        if aims:
            method = package.APGDT(network, eps=epsilon, steps=steps)
        else:
            method = package.APGD(network, eps=epsilon, steps=steps, loss=loss)
        attack = in_batches(torchattacks(method, targeted=False), FEW)
        ways["torchattacks"] = counted(network, attack)
    if find_spec("art") and find_spec("torch") and not aims:
        network = in_torch(model)
        attack = art_in_torch(
            network,
            "AutoProjectedGradientDescent",
            eps=epsilon,
            eps_step=2 * epsilon,
            max_iter=steps,
            nb_random_init=1,
            loss_type={"ce": "cross_entropy", "dlr": "difference_logits_ratio"}[loss],
        )
        ways["ART in PyTorch"] = counted(network, in_batches(attack, FEW))
    return ways


def square_ways(
    model: keras.Model, *, epsilon: float, norm: str, queries: int
) -> dict[str, CountedAttack]:
    """Each stops at success. ART asks in each step twice for what it knows; in L2 it divides 0 by 0."""
    options: dict[str, Any] = {"epsilon": epsilon, "norm": norm, "queries": queries, "seed": 0}
    ways = {"advlib": counted_by_advlib(partial(attacks.square, model, **options), passes=1)}
    if find_spec("torchattacks"):
        network = in_torch(model)
        settings = {"norm": {"linf": "Linf", "l2": "L2"}[norm], "eps": epsilon}
        method = import_module("torchattacks").Square(network, n_queries=queries - 2, **settings)
        ways["torchattacks"] = counted(network, torchattacks(method, targeted=False))
    if find_spec("art") and norm == "linf":
        counting = Counting(model)
        attack = art_in_tensorflow(counting, "SquareAttack", eps=epsilon, max_iter=queries - 2)
        ways["ART"] = counting.counted(attack)
    return ways


def carlini_wagner_ways(
    model: keras.Model, *, steps: int, searches: int, constant: float, learning_rate: float
) -> dict[str, CountedAttack]:
    """Those of advlib and Foolbox end a search where the loss has not fallen for a tenth of the steps.

    ART looks for the length of each step by itself, torchattacks for no constant: it has one search with
    a constant of 1.
    """
    ours = partial(
        attacks.carlini_wagner,
        model,
        steps=steps,
        searches=searches,
        constant=constant,
        learning_rate=learning_rate,
    )
    ways = {"advlib": counted_by_advlib(ours, passes=2)}
    settings: dict[str, Any] = {"binary_search_steps": searches, "initial_const": constant}
    if find_spec("foolbox"):
        counting = Counting(model)
        ways["Foolbox"] = counting.counted(
            foolbox_carlini_wagner(counting, steps=steps, stepsize=learning_rate, **settings)
        )
    if find_spec("art"):
        counting = Counting(model)
        art = art_in_tensorflow(
            counting, "CarliniL2Method", max_iter=steps, learning_rate=learning_rate, **settings
        )
        ways["ART"] = counting.counted(art)
    if find_spec("torchattacks"):
        network = in_torch(model)
        method = import_module("torchattacks").CW(network, c=1, steps=steps, lr=learning_rate)
        attack = in_batches(torchattacks(method, targeted=False), FEW)
        ways["torchattacks, one search"] = counted(network, attack)
    return ways


def foolbox_carlini_wagner(model: Any, **settings: Any) -> Attack:
    foolbox = import_module("foolbox")
    # NumPy 2 has dropped it, and Foolbox's eagerpy calls it.
    vars(np)["find_common_type"] = lambda arrays, _: np.result_type(*arrays)
    bounded = foolbox.TensorFlowModel(model, (0, 1), device="/CPU:0")
    method = foolbox.attacks.L2CarliniWagnerAttack(**settings)

    def attack(images: np.ndarray, classes: np.ndarray) -> np.ndarray:
        aim = foolbox.criteria.Misclassification(tf.constant(classes))
        attacked = method.run(bounded, tf.constant(images), aim).numpy()
        # Where it has found nothing it returns black images.
        return np.where(attacked.any(axis=(1, 2, 3), keepdims=True), attacked, images)

    return attack


# --- the one-pixel attack, everyone's, for a population of 400 -------------------------------------


def advlib_one_pixel(
    model: keras.Model, *, pixels: int, generations: int, **options: Any
) -> CountedAttack:
    def attack(images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, int]:
        result = attacks.one_pixel(
            model,
            images,
            labels,
            pixels=pixels,
            population=POPULATION,
            generations=generations,
            seed=0,
            **options,
        )
        return result.images, int(result.evaluations.sum())

    return attack


def scipy_one_pixel(model: keras.Model, *, pixels: int, generations: int) -> CountedAttack:
    """With SciPy's settings, digit by digit: NumPy paints, a compiled network judges all candidates."""
    upper = np.tile([28.0, 28.0, 1.0], pixels)

    @tf.function(  # type: ignore[untyped-decorator]
        input_signature=[tf.TensorSpec((None, 28, 28, 1)), tf.TensorSpec((), tf.int32)]
    )
    def margins(painted: tf.Tensor, label: tf.Tensor) -> tf.Tensor:
        """How far the logit of the true class is above the others: negative where it is misread."""
        logits = model(painted, training=False)
        others = tf.where(tf.range(10) == label, -np.inf, logits)
        return tf.gather(logits, label, axis=1) - tf.reduce_max(others, axis=1)

    def paint(image: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        genes = vectors.reshape(-1, pixels, 3)
        rows, columns = np.minimum(genes[..., :2].astype(int), 27).transpose(2, 0, 1)
        painted = np.repeat(image[None], len(genes), axis=0)
        painted[np.arange(len(genes))[:, None], rows, columns, 0] = genes[..., 2]
        return painted

    def one(image: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, int]:
        random, true_class = np.random.default_rng(0), tf.constant(label, tf.int32)
        judged: list[int] = []

        def objective(vectors: np.ndarray) -> np.ndarray:
            judged.append(vectors.shape[1])
            return margins(tf.constant(paint(image, vectors.T)), true_class).numpy()

        def misread(intermediate_result: OptimizeResult) -> bool:
            return intermediate_result.fun < 0

        result = differential_evolution(
            objective,
            list(zip(np.zeros_like(upper), upper, strict=True)),
            strategy="best1bin",
            init=upper * qmc.LatinHypercube(len(upper), rng=random).random(POPULATION),
            maxiter=generations,
            tol=0,
            atol=-1,  # never because all are alike
            polish=False,
            vectorized=True,
            updating="deferred",
            callback=misread,
            rng=random,
        )
        return paint(image, result.x)[0], sum(judged)

    def attack(images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, int]:
        attacked, evaluations = zip(*map(one, images, labels), strict=True)
        return np.stack(attacked), sum(evaluations)

    return attack


def torchattacks_one_pixel(model: keras.Model, *, pixels: int, generations: int) -> CountedAttack:
    """Digit by digit; by its rule 133 · 3 = 399 or 26 · 15 = 390 candidates.

    In batches of 128, its default, which PyTorch does faster here than all candidates at once.
    """
    network = in_torch(model)
    method = import_module("torchattacks").OnePixel(
        network, pixels=pixels, steps=generations, popsize=POPULATION
    )
    one_by_one = torchattacks(method, targeted=False)

    def attack(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        np.random.seed(0)  # noqa: NPY002 (it draws from the global generator)
        return one_by_one(images, labels)

    return counted(network, attack)


# --- measuring -------------------------------------------------------------------------------------


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds and the result."""
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, result


def in_turn(runs: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, tuple[float, Any]]:
    """Median seconds and the result of each."""
    results = {name: run() for name, run in runs.items()}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            seconds[name].append(timed(run)[0])
    return {name: (statistics.median(seconds[name]), results[name]) for name in runs}


def table(title: str, head: str, rows: Iterable[Iterable[str]]) -> None:
    columns = head.split(" | ")
    print(f"\n## {title}\n\n| {head} |\n|{' --- |' + ' ---: |' * (len(columns) - 1)}")
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)


def predicted(model: keras.Model, images: np.ndarray) -> np.ndarray:
    return networks.predict_logits(model, images.astype(np.float32)).argmax(axis=1)


def random_targets(labels: np.ndarray) -> np.ndarray:
    return (labels + 1 + np.random.default_rng(0).integers(0, 9, len(labels))) % 10


def centred(model: keras.Model) -> keras.Model:
    """The network less the mean of its logits: the same probabilities."""
    copy = keras.models.clone_model(model)
    *others, kernel, bias = model.get_weights()
    copy.set_weights([*others, kernel - kernel.mean(axis=1, keepdims=True), bias - bias.mean()])
    return copy


def certain(model: keras.Model, label: int) -> keras.Model:
    """The network with so large a bias for one class that no attack comes near another."""
    copy = keras.models.clone_model(model)
    *others, bias = model.get_weights()
    copy.set_weights([*others, bias + 100 * (np.arange(10) == label)])
    return copy


class Masked(keras.Model):
    """The network behind a mask, which hides its gradient: of rounding it is 0 everywhere."""

    def __init__(self, network: keras.Model, *, scale: float = 1, levels: int = 0) -> None:
        super().__init__()
        self.network, self.scale, self.levels = network, scale, levels

    def call(self, images: tf.Tensor) -> tf.Tensor:
        if self.levels:
            images = tf.round((self.levels - 1) * images) / (self.levels - 1)
        return self.scale * self.network(images, training=False)


def masked_in_torch(model: Masked) -> Any:
    torch = import_module("torch")
    network, scale, steps = in_torch(model.network), model.scale, model.levels - 1

    class Mask(torch.nn.Module):  # type: ignore[name-defined]
        def forward(self, images: Any) -> Any:
            return torch.round(steps * images) / steps if steps > 0 else images

    class Scale(torch.nn.Module):  # type: ignore[name-defined]
        def forward(self, logits: Any) -> Any:
            return scale * logits

    return torch.nn.Sequential(Mask(), *network, Scale()).eval()


def against_pgd(
    model: keras.Model, batch: losses.Batch, *, epsilon: float, steps: int = 7
) -> dict[str, tf.Tensor]:
    """Cross-entropy where PGD from a random start has got to (Madry et al. 2017)."""
    shift = keras.random.uniform(tf.shape(batch.images), -epsilon, epsilon, seed=batch.seeds)
    lower, upper = tf.maximum(batch.images - epsilon, 0), tf.minimum(batch.images + epsilon, 1)
    x = tf.clip_by_value(batch.images + shift, lower, upper)
    for _ in range(steps):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = losses.cross_entropy(model, batch._replace(images=x, training=False))["loss"]
        x = tf.clip_by_value(x + epsilon / 4 * tf.sign(tape.gradient(loss, x)), lower, upper)
    return losses.cross_entropy(model, batch._replace(images=tf.stop_gradient(x)))


def train_robust(path: str, *, quick: bool) -> None:
    """Train the book's classifier against PGD, and store its weights."""
    model, digits = networks.classifier.build(), data.load("mnist")
    # At once against all of 0.3 it would call every digit a 1.
    for epsilon, count in ((0.1, 10_000), (0.2, 10_000), (0.3, 40_000)):
        some = slice(0, 256 if quick else count)
        training.train(
            model,
            digits.train_images[some],
            digits.train_labels[some],
            loss=partial(against_pgd, epsilon=epsilon),
            recipe=training.Recipe(epochs=1, batch_size=128, learning_rate=3e-3),
        )
    model.save_weights(path)


@cache
def robust(*, quick: bool) -> keras.Model:
    """A network trained against PGD, in a process of its own: training changes settings for good."""
    model = networks.classifier.build()
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "robust.weights.h5")
        command = [sys.executable, __file__, "--train-robust", path, *(["--quick"] if quick else [])]
        subprocess.run(command, check=True)
        model.load_weights(path)
    return model


class Opaque(keras.Model):
    """The network, whose layers advlib does not see: it judges candidates by forward passes alone."""

    def __init__(self, network: keras.Model) -> None:
        super().__init__()
        self.network = network

    def call(self, images: tf.Tensor) -> tf.Tensor:
        return self.network(images, training=False)


def forward_passes(forward: Callable[[Any], Any], batch: Any, each: int) -> CountedAttack:
    """Instead of an attack: so many forward passes for each digit, of that batch again and again."""

    def attack(images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, int]:
        whole, rest = divmod(each * len(images), len(batch))
        for _ in range(whole):
            forward(batch)
        forward(batch[:rest])
        return images, each * len(images)

    return attack


def bare(model: keras.Model, images: np.ndarray, each: int) -> CountedAttack:
    """In batches as large as advlib's."""
    batch = tf.constant(np.resize(images, (1337, 28, 28, 1)))
    return forward_passes(tf.function(partial(model, training=False)), batch, each)


def bare_in_torch(model: keras.Model, images: np.ndarray, each: int) -> CountedAttack:
    """In batches as large as torchattacks'."""
    torch, network = import_module("torch"), in_torch(model)
    choose_threads(network)
    batch = torch.tensor(np.resize(images, (128, 1, 28, 28)))
    return forward_passes(torch.no_grad()(network.forward), batch, each)


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


def one_pixel_ways(model: keras.Model, **settings: Any) -> dict[str, CountedAttack]:
    """advlib's, then those that take one digit at a time."""
    ways = {
        "advlib": advlib_one_pixel(model, **settings),
        "advlib, SciPy's settings": advlib_one_pixel(model, **settings, **SCIPY_SETTINGS),
        "SciPy": scipy_one_pixel(model, **settings),
    }
    if find_spec("torchattacks"):
        ways["torchattacks"] = torchattacks_one_pixel(model, **settings)
    return ways


def one_pixel_budget(
    model: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    few: int,
    repeats: int,
    *,
    pixels: int,
    generations: int,
) -> None:
    """The one-pixel attack, everyone's, where none can stop early; advlib's alone on all digits."""
    network = certain(model, labels[0])
    first, ours = "bare forward passes", "advlib"
    budget = 1 + POPULATION * (generations + 1)
    ways = {first: bare(network, images, budget)}
    if find_spec("torchattacks"):
        ways[f"{first} in PyTorch"] = bare_in_torch(network, images, budget)
    ways |= one_pixel_ways(network, pixels=pixels, generations=generations)
    counts = {name: len(images) if name.startswith(ours) else few for name in ways}
    measured = in_turn(
        {
            name: partial(way, images[: counts[name]], labels[: counts[name]])
            for name, way in ways.items()
        },
        repeats,
    )
    each = {name: seconds / counts[name] for name, (seconds, _) in measured.items()}
    rates = {name: evaluations / measured[name][0] for name, (_, (_, evaluations)) in measured.items()}
    rows = []
    for name, (_, (attacked, evaluations)) in measured.items():
        if (predicted(network, attacked) != labels[: counts[name]]).any():
            raise RuntimeError(f"{name} found what was made impossible: budgets are not equal")
        rows.append(
            [
                name,
                f"{counts[name]}",
                f"{1000 * each[name]:,.1f}",
                f"{evaluations / counts[name]:,.0f}",
                f"{rates[name]:,.0f}",
                f"{rates[name] / rates[first]:.2f}",
                f"{each[name] / each[ours]:.2f}",
            ]
        )
    head = (
        "attack | digits | ms per digit | evaluations per digit | evaluations per second | "
        "ratio of these to bare forward passes | ratio of time to advlib"
    )
    table(f"One-pixel attack, equal budget, pixels = {pixels}", head, rows)


def one_pixel_success(
    model: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    few: int,
    *,
    pixels: int,
    generations: int,
) -> None:
    """The one-pixel attack, everyone's, each stopping at success; then advlib's once on all digits."""
    settings = {"pixels": pixels, "generations": generations}
    ways = {"advlib, at random": advlib_one_pixel(model, **settings, strategy="random")}
    ways |= one_pixel_ways(model, **settings)
    rows = []
    for count in (few, len(images)):
        runs = {
            name: partial(way, images[:count], labels[:count])
            for name, way in ways.items()
            if count == few or name.startswith("advlib")
        }
        measured = in_turn(runs, 1) if count == few else {name: timed(run) for name, run in runs.items()}
        for name, (seconds, (attacked, evaluations)) in measured.items():
            rows.append(
                [
                    name,
                    str(metrics.proportion(predicted(model, attacked) != labels[:count])),
                    f"{1000 * seconds / count:,.1f}",
                    f"{evaluations / count:,.0f}",
                ]
            )
    head = "attack | success | ms per digit | mean evaluations"
    table(f"One-pixel attack, success at equal budget, pixels = {pixels}", head, rows)


def exhaustive(
    model: keras.Model, images: np.ndarray, labels: np.ndarray, levels: int, few: int, repeats: int
) -> None:
    """Every pixel and value of some digits; by forward passes alone on `few` of them."""

    def search(network: keras.Model, images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, int]:
        result = attacks.one_pixel_search(network, images, labels, levels=levels)
        return result.images, int(result.evaluations.sum())

    candidates = images[0].size * levels
    first = "bare forward passes"
    ways: dict[str, tuple[CountedAttack, int]] = {
        first: (bare(model, images, candidates), few),
        "advlib": (partial(search, model), len(images)),
        "advlib, by forward passes alone": (partial(search, Opaque(model)), few),
    }
    runs = {name: partial(way, images[:n], labels[:n]) for name, (way, n) in ways.items()}
    measured = in_turn(runs, repeats)
    rates = {name: evaluations / seconds for name, (seconds, (_, evaluations)) in measured.items()}
    rows = []
    for name, (seconds, _) in measured.items():
        count = ways[name][1]
        ratio = f"{rates[name] / rates[first]:.2f}"
        rows.append([name, f"{count}", f"{seconds / count:.2f}", f"{rates[name]:,.0f}", ratio])
    head = "way | digits | seconds per digit | candidates per second | ratio to bare forward passes"
    table(f"The exhaustive truth, {candidates:,} candidates for each digit", head, rows)


def bare_steps(model: keras.Model, images: np.ndarray, labels: np.ndarray, steps: int) -> CountedAttack:
    """Instead of an attack: so many gradients of all digits at once."""
    run = bare_gradients(model, images, labels, steps)
    return lambda images, labels: (run(), steps * len(images))


def bare_together(model: keras.Model, images: np.ndarray, each: int) -> CountedAttack:
    """Instead of an attack: so many forward passes of all digits at once."""
    forward, batch = tf.function(partial(model, training=False)), tf.constant(images)

    def attack(images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, int]:
        for _ in range(each):
            forward(batch)
        return images, each * len(images)

    return attack


def compare(
    title: str,
    model: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    ways: Mapping[str, CountedAttack],
    *,
    lengths: bool = False,
) -> None:
    """All ways, of which the first are bare passes; `lengths` are those of the changes."""
    for way in ways.values():
        way(images[:2], labels[:2])
    measured = {name: timed(partial(way, images, labels)) for name, way in ways.items()}
    bare, *others = measured
    each = {name: seconds / passes for name, (seconds, (_, passes)) in measured.items()}
    hits = {name: predicted(model, measured[name][1][0]) != labels for name in others}
    everywhere = np.logical_and.reduce(list(hits.values()))
    rows = []
    for name, (seconds, (attacked, passes)) in measured.items():
        row = [
            name,
            f"{1000 * seconds / len(images):.2f}",
            f"{passes / len(images):,.0f}",
            f"{each[name] / each[bare]:.2f}",
            f"{seconds / measured['advlib'][0]:.2f}",
            f"{hits[name].mean():.1%}" if name != bare else "",
        ]
        if lengths:
            length = np.sqrt(np.square(attacked - images).sum(axis=(1, 2, 3)))
            row.append(f"{length[everywhere].mean():.3f}" if name != bare and everywhere.any() else "")
        rows.append(row)
    head = (
        "attack | ms per digit | passes per digit | ratio to as many bare passes | ratio to advlib | "
        "success"
    )
    if lengths:
        head += f" | mean L2 of the {everywhere.sum()} digits on which all succeed"
    table(title, head, rows)


def standing_by_advlib(
    model: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    epsilon: float,
    restarts: int,
    few: bool,
) -> np.ndarray:
    """Whether each digit stands in the end."""
    steps, queries = (5, 20) if few else (100, 5000)
    return evaluation.suite(
        model,
        images,
        labels,
        epsilon=epsilon,
        steps=steps,
        queries=queries,
        restarts=restarts,
        diagnosed=0,
        seed=0,
    ).robust


def auto_attack(network: Any, epsilon: float, steps: int, *, few: bool) -> Attack:
    """AutoAttack's four; torchattacks gives those that use gradients 10 steps, the authors 100."""
    package = import_module("torchattacks")
    if few:
        settings = {"eps": epsilon, "steps": steps}
        return torchattacks(
            package.MultiAttack([package.APGD(network, **settings), package.APGDT(network, **settings)]),
            targeted=False,
        )
    method = package.AutoAttack(network, eps=epsilon, seed=0)
    for attack in method._autoattack.attacks:
        if hasattr(attack, "steps"):
            attack.steps = steps
    return torchattacks(method, targeted=False)


def standing_in_torch(
    network: Any, attack: Attack, images: np.ndarray, labels: np.ndarray, *, epsilon: float
) -> np.ndarray:
    """Whether each digit stands, as the attacked network itself reads it."""
    torch = import_module("torch")
    attacked = attack(images, labels)
    if np.abs(attacked - images).max() > epsilon + 1e-6:
        raise RuntimeError("torchattacks left the ball")
    with torch.no_grad():
        logits = network(torch.tensor(attacked.transpose(0, 3, 1, 2)))
    return logits.numpy().argmax(axis=1) == labels


def suite(
    title: str,
    model: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    epsilon: float,
    quick: bool,
) -> None:
    """Robust accuracy by all attacks together, theirs and AutoAttack's; each once, as it takes long."""
    ours_by = partial(standing_by_advlib, model, epsilon=epsilon, few=quick)
    ways = {
        "advlib": partial(ours_by, restarts=1),
        "advlib, two starts": partial(ours_by, restarts=2),
    }
    if find_spec("torchattacks"):
        network = masked_in_torch(model) if isinstance(model, Masked) else in_torch(model)
        choose_threads(network)
        for steps in (2,) if quick else (100,) if isinstance(model, Masked) else (10, 100):
            attack = auto_attack(network, epsilon, steps, few=quick)
            name = f"torchattacks' AutoAttack, {steps} steps"
            ways[name] = partial(standing_in_torch, network, attack, epsilon=epsilon)
    standing_by_advlib(model, images[:2], labels[:2], epsilon=epsilon, restarts=1, few=True)  # traces
    measured = {name: timed(partial(way, images, labels)) for name, way in ways.items()}
    ours = measured["advlib"]
    rows = []
    for name, (seconds, standing) in measured.items():
        more, fewer = (standing & ~ours[1]).sum(), (~standing & ours[1]).sum()
        rows.append(
            [
                name,
                f"{standing.mean():.1%}",
                f"{seconds:.1f}",
                f"{seconds / ours[0]:.2f}",
                f"{more}, {fewer}" if name != "advlib" else "",
            ]
        )
    head = "attacks | robust accuracy | seconds | ratio to advlib | stand here alone, fall here alone"
    table(title, head, rows)


# --- scaling, each measurement in a process of its own ----------------------------------------------


def megabytes() -> float:
    """The most memory that this process has held so far."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**20 if sys.platform == "darwin" else 2**10)  # bytes there, kB elsewhere


# Attacks on a network, images and classes.
SCALED: dict[str, Callable[[keras.Model, np.ndarray, np.ndarray], Any]] = {
    "iterative_fgsm": partial(attacks.iterative_fgsm, epsilon=0.2, step_size=0.01, steps=20),
    "jsma": lambda model, images, labels: attacks.jsma(model, images, random_targets(labels)),
    "one_pixel, 1": partial(attacks.one_pixel, pixels=1, generations=5, seed=0),
    "one_pixel, 5": partial(attacks.one_pixel, pixels=5, generations=5, seed=0),
    "auto_pgd": partial(attacks.auto_pgd, epsilon=0.2, steps=10, seed=0),
    "square": partial(attacks.square, epsilon=0.1, queries=30, seed=0),
    "square, L2": partial(attacks.square, epsilon=1.5, norm="l2", queries=30, seed=0),
    "carlini_wagner": partial(attacks.carlini_wagner, steps=10, searches=2),
}
# Those that are tried on large colour images, too.
ANY_IMAGES = ("iterative_fgsm", "auto_pgd", "square", "square, L2", "carlini_wagner")


def colour(count: int) -> tuple[keras.Model, np.ndarray, np.ndarray]:
    """A small network with random weights, noise of 224 × 224 × 3, and the classes it sees there."""
    layers = keras.layers
    start = [keras.initializers.GlorotUniform(seed=seed) for seed in range(3)]
    model = keras.Sequential(
        [
            keras.Input((224, 224, 3)),
            layers.Conv2D(16, 3, strides=2, activation="relu", kernel_initializer=start[0]),
            layers.Conv2D(32, 3, strides=2, activation="relu", kernel_initializer=start[1]),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10, kernel_initializer=start[2]),
        ]
    )
    images = np.random.default_rng(0).random((count, 224, 224, 3), np.float32)
    return model, images, predicted(model, images)


def one_size(attack: str, kind: str, count: int) -> tuple[float, float, float]:
    """Seconds, and memory before and after, of one attack on `count` images."""
    if kind == "colour":
        model, images, labels = colour(count)
    else:
        model, digits = networks.pretrained("classifier", "mnist"), data.load("mnist")
        images, labels = digits.test_images[:count], digits.test_labels[:count]

    def run(n: int) -> Any:
        return SCALED[attack](model, images[:n], labels[:n])

    # The first call of all traces, and of a size prepares.
    run(min(count, 50 if attack.startswith("one_pixel") else 1000))
    before = megabytes()
    start = time.perf_counter()
    run(count)
    return time.perf_counter() - start, before, megabytes()


def one_size_apart(attack: str, kind: str, count: int) -> tuple[float, float, float]:
    """The same in a process of its own."""
    command = [sys.executable, __file__, "--one-size", attack, kind, str(count)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    seconds, before, after = json.loads(output.splitlines()[-1])
    return seconds, before, after


def scaling(
    title: str, kind: str, counts: Mapping[str, Iterable[int]], measure: Any = one_size_apart
) -> None:
    """Of each attack the numbers of images to try."""
    rows = []
    for attack, sizes in counts.items():
        first = 0.0
        for count in sizes:
            seconds, before, after = measure(attack, kind, count)
            each = 1000 * seconds / count
            first = first or each
            memory = [f"{before:,.0f}", f"{after:,.0f}"]
            rows.append([attack, f"{count:,}", f"{each:.2f}", f"{each / first:.2f}", *memory])
    head = "attack | images | ms per image | ratio | peak memory before it, MB | peak memory, MB"
    table(f"Scaling of advlib: {title}", head, rows)


def scale(*, quick: bool) -> None:
    """Time and memory of advlib's attacks for more and more images."""
    digits, noise = "a few steps on digits", "the same on images of 224 × 224 × 3"
    if quick:
        scaling(noise, "colour", {"auto_pgd": (2,)})
        scaling(digits, "digits", dict.fromkeys(SCALED, (10,)), one_size)
        return
    few, many = (50, 200, 1000), (100, 1000, 10_000)
    counts = {name: few if name.startswith("one_pixel") else many for name in SCALED}
    scaling(digits, "digits", counts)
    scaling(noise, "colour", dict.fromkeys(ANY_IMAGES, (6, 24)))


def measure_stronger(
    parts: Sequence[str],
    model: keras.Model,
    digits: data.Dataset,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    quick: bool,
) -> None:
    """The attacks that choose their step sizes, need no gradients, or look for the least change."""
    count, steps = (4, 5) if quick else (200, 100)
    images, labels = images[:count], labels[:count]
    if "auto-pgd" in parts:
        some = slice(0, count // 2)
        for name, loss, aims in (
            *(("shipped", "ce", 0), ("shipped", "dlr", 0)),
            *(("robust", "ce", 0), ("robust", "dlr", 0), ("robust", "dlr", 9)),
        ):
            network, epsilon = model if name == "shipped" else robust(quick=quick), BOUNDS[name]
            victims = images[some], labels[some]
            ways = {"bare gradients": bare_steps(network, *victims, steps + 1)}
            ways |= auto_pgd_ways(network, epsilon=epsilon, loss=loss, aims=aims, steps=steps)
            aimed = f", {aims} aims" if aims else ""
            title = f"Auto-PGD, {loss}{aimed}, {name} network, ε = {epsilon}, {steps} steps"
            compare(title, network, *victims, ways)
    if "square" in parts:
        queries = 20 if quick else 1000
        for norm, epsilon in (("linf", 0.1), ("l2", 1.5)):
            ways = {"bare forward passes": bare_together(model, images, queries)}
            ways |= square_ways(model, epsilon=epsilon, norm=norm, queries=queries)
            title = f"Square, {norm}, ε = {epsilon}, {queries:,} queries"
            compare(title, model, images, labels, ways)
    if "carlini-wagner" in parts:
        some, searches = slice(0, max(count // 5, 2)), 2 if quick else 5
        ways = {"bare gradients": bare_steps(model, images[some], labels[some], steps)}
        ways |= carlini_wagner_ways(
            model, steps=steps, searches=searches, constant=0.1, learning_rate=0.02
        )
        title = f"Carlini and Wagner, {searches} searches of {steps} steps"
        compare(title, model, images[some], labels[some], ways, lengths=True)
    if "suite" in parts:
        images, labels = digits.test_images[:count], digits.test_labels[:count]
        for name, network, epsilon in (
            ("shipped network", model, BOUNDS["shipped"]),
            ("robust network", robust(quick=quick), BOUNDS["robust"]),
            ("logits × 1,000", Masked(model, scale=1000), BOUNDS["shipped"]),
            ("inputs of 8 levels", Masked(model, levels=8), BOUNDS["shipped"]),
        ):
            title = f"All attacks, {name}, ε = {epsilon}, {len(images)} digits"
            suite(title, network, images, labels, epsilon=epsilon, quick=quick)


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare the attacks with other packages'.")
    parser.add_argument("--quick", action="store_true", help="a few digits and steps")
    parser.add_argument("--only", choices=PARTS, help="one part")
    parser.add_argument("--one-size", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--train-robust", metavar="PATH", help=argparse.SUPPRESS)
    options = parser.parse_args()
    tf.get_logger().setLevel("ERROR")
    tqdm.__init__ = partialmethod(tqdm.__init__, disable=True)  # no bars between the tables
    if options.one_size:
        attack, kind, number = options.one_size
        print(json.dumps(one_size(attack, kind, int(number))))
        return
    if options.train_robust:
        train_robust(options.train_robust, quick=options.quick)
        return

    print("# Attacks compared\n")
    print(f"{processor()}, {os.cpu_count()} cores. Python {platform.python_version()}", end="")
    packages = ["tensorflow", "keras", "numpy", "scipy", *(["torch"] if find_spec("torch") else [])]
    for package in packages:
        print(f", {package} {metadata.version(package)}", end="")
    print(".")
    for name, module, distribution in PEERS:
        version = f"version {metadata.version(distribution)}" if find_spec(module) else "not installed"
        print(f"{name}: {version}{'' if find_spec(module) else ', left out'}.")
    print(
        "All attack the shipped MNIST network, where no other is named, all digits of a comparison",
        end=" ",
    )
    print(
        "in one batch, but torchattacks' JSMA and OnePixel and SciPy one by one, and torchattacks'",
        end=" ",
    )
    print(f"Auto-PGD and CW and ART's Auto-PGD {FEW} at a time.", flush=True)

    quick = options.quick
    parts = (options.only,) if options.only else PARTS
    # First: a new process's peak memory begins at that of the one that starts it.
    if "scaling" in parts:
        scale(quick=quick)
    count, repeats = (20, 1) if quick else (500, 3)
    model = networks.pretrained("classifier", "mnist")
    digits = data.load("mnist")
    right = predicted(model, digits.test_images[:1100]) == digits.test_labels[:1100]
    images, labels = digits.test_images[:1100][right], digits.test_labels[:1100][right]
    if "bare" in parts:
        bare_passes(model, images[: 2 * count], 10)
    if "iterated" in parts:
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
    if "saliency" in parts:
        few, some = (2, 4) if quick else (20, 100)
        for title, network in (
            ("JSMA", model),
            ("JSMA on the network with centred logits", centred(model)),
        ):
            saliency(title, network, images[:some], labels[:some], few, repeats)
    if "every-target" in parts:
        every_target(model, images[: 2 * count], labels[: 2 * count])
    if "one-pixel" in parts:
        alike = labels == labels[0]
        generations = 2 if quick else 75
        for pixels in (1, 5):
            settings = {"pixels": pixels, "generations": generations}
            some, few = (4, 1) if quick else (20, 3)
            one_pixel_budget(model, images[alike][:some], labels[alike][:some], few, repeats, **settings)
        for pixels in (1, 5):
            settings = {"pixels": pixels, "generations": generations}
            some, few = (4, 2) if quick else (100, 20)
            one_pixel_success(model, images[:some], labels[:some], few, **settings)
    if "truth" in parts:
        some, levels = (1, 4) if quick else (5, 256)
        exhaustive(model, images[:some], labels[:some], levels, 1, repeats)
    measure_stronger(parts, model, digits, images, labels, quick=quick)


if __name__ == "__main__":
    main()
