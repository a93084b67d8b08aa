"""Bad input: refused with an error that names the argument (of data, see test_data.py)."""

import tracemalloc
from functools import partial
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from advlib import _checks, attacks, data, losses, metrics, networks, plots, training
from tests.models import linear
from tests.registry import ATTACKS, takes

GOOD = np.full((2, 28, 28, 1), 0.5, np.float32)
LABELS = np.array([1, 2])
PLANE = np.zeros((2, 2))
MEAN = metrics.Mean(1.0, (0.5, 1.5), 9)

EDGES = np.arange(3.0)
CORNERS = (0.0, 1.0, 0.0, 1.0)
RATES = (np.array([0.0, 1.0]), np.array([0.5, 1.0]))
BAD_IMAGES = {
    "dtype": (GOOD.astype(np.float64), "images must be float32"),
    "uint8": ((GOOD * 255).astype(np.uint8), "images must be float32"),
    "one image": (GOOD[0], r"images must have shape .*add an axis"),
    "five axes": (GOOD[None], "images must have shape"),
    "empty": (GOOD[:0], "images must hold at least one image"),
    "below": (GOOD - 1, r"images must be finite and lie in \[0, 1\], got values from -0.5"),
    "above": (GOOD * 3, r"images must be finite and lie in \[0, 1\]"),
    "nan": (np.where(np.eye(28)[None, :, :, None] > 0, np.nan, GOOD).astype(np.float32), "finite"),
    "infinite": (np.full_like(GOOD, np.inf), "finite"),
    "size": (np.zeros((2, 27, 28, 1), np.float32), r"images must have shape \(n, 28, 28, 1\)"),
    "colour": (np.zeros((2, 28, 28, 3), np.float32), r"images must have shape \(n, 28, 28, 1\)"),
}
BAD_LABELS = {
    "float": (LABELS.astype(float), "labels must be integers"),
    "short": (LABELS[:1], r"labels must have shape \(2,\)"),
    "one-hot": (np.eye(10, dtype=int)[LABELS], r"labels must have shape \(2,\)"),
    "negative": (np.array([-1, 2]), "labels must lie between 0 and 9, got -1 to 2"),
    "ten": (np.array([1, 10]), "labels must lie between 0 and 9, got 1 to 10"),
}


train = partial(
    training.train,
    networks.classifier.build(),
    loss=losses.cross_entropy,
    recipe=training.Recipe(epochs=1),
)


@pytest.mark.parametrize("case", BAD_IMAGES)
@pytest.mark.parametrize("function", ["predict_logits", "activations", "train", "correctly_classified"])
def test_bad_images(model: keras.Model, function: str, case: str) -> None:
    images, message = BAD_IMAGES[case]
    calls: dict[str, Any] = {
        "predict_logits": lambda: networks.predict_logits(model, images),
        "activations": lambda: networks.activations(model, images),
        "train": lambda: train(images, np.zeros(len(images), int)),
        "correctly_classified": lambda: networks.correctly_classified(
            model, images, np.zeros(len(images), int), digit=0, count=1
        ),
    }
    with pytest.raises(ValueError, match=message):
        calls[function]()


def of_targets(message: str) -> str:
    """What training says: floats may be what another loss than that of labels asks for."""
    return message.replace("labels must be integers", "targets must be").replace("labels", "targets")


@pytest.mark.parametrize("case", BAD_LABELS)
def test_bad_labels(model: keras.Model, case: str) -> None:
    labels, message = BAD_LABELS[case]
    validation = "" if case == "float" else "validation "  # floats are the loss's to refuse
    with pytest.raises(ValueError, match=of_targets(message)):
        train(GOOD, labels)
    with pytest.raises(ValueError, match=message):
        networks.correctly_classified(model, GOOD, labels, digit=1, count=1)
    with pytest.raises(ValueError, match=validation + of_targets(message)):
        train(GOOD, LABELS, validation=(GOOD, labels))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "recipe.epochs must be a whole number of at least 1, got 0"),
        ({"epochs": 2.5}, "recipe.epochs must be"),
        ({"batch_size": -1}, "recipe.batch_size must be"),
        ({"learning_rate": 0.0}, "recipe.learning_rate must be above 0"),
        ({"learning_rate": float("nan")}, "recipe.learning_rate must be above"),
        ({"learning_rate": float("inf")}, "recipe.learning_rate must be above"),
        ({"learning_rate": "a"}, "recipe.learning_rate must be above"),
        ({"seed": -1}, "recipe.seed must be a whole number from 0 to"),
        ({"seed": 2**32}, "recipe.seed must be a whole number from 0 to"),
    ],
)
def test_bad_recipe(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        training.Recipe(**{"epochs": 1} | settings)


def test_numbers_of_a_recipe_are_pythons_own() -> None:
    assert type(training.Recipe(epochs=np.int64(2)).epochs) is int  # type: ignore[arg-type]


def test_bad_names_and_counts(model: keras.Model) -> None:
    with pytest.raises(ValueError, match=r"layers must be among conv1, .*logits, got \['conv4'\]"):
        networks.activations(model, GOOD, layers=["conv4"])
    with pytest.raises(ValueError, match="layers must be among"):
        networks.activations(model, GOOD, layers=[])
    with pytest.raises(ValueError, match="batch_size must be a whole number of at least 1, got 0"):
        networks.predict_logits(model, GOOD, batch_size=0)
    with pytest.raises(ValueError, match="count must be a whole number"):
        networks.correctly_classified(model, GOOD, LABELS, digit=1, count=0)
    for digit in (-1, 10, 2.0, True, "2"):
        with pytest.raises(ValueError, match="digit must be a whole number from 0 to 9"):
            networks.correctly_classified(model, GOOD, LABELS, digit=digit, count=1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="seed must be a whole number of at least 0"):
        networks.classifier.build(seed=1.5)  # type: ignore[arg-type]
    small = np.zeros((2, 20, 20, 1), np.float32)
    with pytest.raises(ValueError, match="validation images must have shape"):
        train(GOOD, LABELS, validation=(small, LABELS))


@pytest.mark.parametrize(
    ("successes", "total", "message"),
    [
        (-1, 3, "successes must be a whole number from 0 to 3, got -1"),
        (4, 3, "successes must be a whole number from 0 to 3, got 4"),
        (1.5, 3, "successes must be a whole number"),
        (0, 0, "total must be a whole number of at least 1"),
    ],
)
def test_bad_proportions(successes: int, total: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        metrics.Proportion(successes, total)


BAD_FIGURES: dict[str, tuple[Any, str]] = {
    "byte images": (lambda: plots.Row((GOOD * 255).astype(np.uint8)), "images must be float32"),
    "dark images": (lambda: plots.Row(GOOD * 3), r"images must be finite and lie in \[0, 1\]"),
    "one image": (lambda: plots.Row(GOOD[0]), "add an axis"),
    "colour images": (lambda: plots.Row(np.repeat(GOOD, 3, axis=-1)), "images must be grey"),
    "colour maps": (lambda: plots.Row(np.repeat(GOOD, 3, -1), kind="heat"), "images must be grey"),
    "one title": (lambda: plots.Row(GOOD, ["one"]), "titles must be 2, one per image, got 1"),
    "no titles": (lambda: plots.Row(GOOD, []), "titles must be 2, one per image, got 0"),
    "one frame": (lambda: plots.Row(GOOD, frames=["red"]), "frames must be 2, one per image, got 1"),
    "one mark": (lambda: plots.Row(GOOD, marks=[PLANE]), "marks must be 2, one per image, got 1"),
    "marks": (lambda: plots.Row(GOOD, marks=[LABELS] * 2), "marks must be integers"),
    "another kind": (lambda: plots.Row(GOOD, kind="paint"), "kind must be one of ink, change, heat"),  # type: ignore[arg-type]
    "flat maps": (lambda: plots.Row(PLANE, kind="heat"), r"images must be numbers \(n, height, width\)"),
    "empty maps": (lambda: plots.Row(GOOD[:0], kind="heat"), "images must be numbers"),
    "words": (lambda: plots.Row(np.full((1, 1, 1), "a"), kind="heat"), "images must be numbers"),
    "cold": (lambda: plots.Row(-GOOD, kind="heat"), "images must be finite and not negative"),
    "endless": (lambda: plots.Row(GOOD * np.inf, kind="change"), "images must be finite"),
    "no limit": (lambda: plots.Row(GOOD, kind="heat", limit=0), "limit must be a number"),
    "limit": (lambda: plots.Row(GOOD, kind="heat", limit="row"), "limit must be a number"),  # type: ignore[arg-type]
    "limit of ink": (lambda: plots.Row(GOOD, limit=4), "limit is for changes and heat"),
    "limit and scale": (
        lambda: plots.Row(GOOD, kind="heat", limit=4, scale="a"),
        "limit is for changes and heat, and those without a scale",
    ),
    "scales": (
        lambda: plots.pictures(*(plots.Row(GOOD, kind="heat", scale=text) for text in "ab")),
        "rows of one kind must have one scale",
    ),
    "far marks": (
        lambda: plots.Row(GOOD, marks=[np.full((1, 2), 28)] * 2),
        r"marks must lie within \(28, 28\)",
    ),
    "one stroke": (lambda: plots.Row(GOOD, strokes=GOOD[:1]), "strokes must be 2, one per image, got 1"),
    "strokes": (lambda: plots.Row(GOOD, strokes=GOOD - 1), "strokes must be finite and lie in"),
    "marks of floats": (lambda: plots.Row(GOOD, marks=[PLANE] * 2), "marks must be integers"),
    "no row": (lambda: plots.pictures(), "rows must hold equally many images, and be one at least"),
    "uneven rows": (
        lambda: plots.pictures(plots.Row(GOOD), plots.Row(GOOD[:1])),
        r"rows must hold equally many images, and be one at least, got \[1, 2\]",
    ),
    "no columns": (lambda: plots.pictures(plots.Row(GOOD), columns=0), "columns must be a whole number"),
    "no such noise": (lambda: plots.palette(["a"], noise=["b"]), "noise must be a list of some of a"),
    "too colourful": (lambda: plots.palette("abcdef"), "names must hold at most 5 attacks, got a, b"),
    "half true": (lambda: metrics.wilson(np.array([0.5])), "cases must be true or false, or 1 or 0"),
    "no case": (lambda: metrics.wilson(np.array([])), "cases must hold at least one case"),
    "byte image": (lambda: data.quantize((GOOD * 255).astype(np.uint8)), "images must be float32"),
    "one level": (lambda: data.quantize(GOOD, levels=1), "levels must be a whole number of at least 2"),
    "changed": (lambda: plots.perturbations(GOOD, GOOD[:1]), "changed must have the shape of images"),
    "changed colour": (
        lambda: plots.perturbations(GOOD, np.repeat(GOOD, 3, -1)),
        "changed must be grey",
    ),
    "changed title": (lambda: plots.perturbations(GOOD, GOOD, ["one"]), "titles must be 2"),
    "changed columns": (lambda: plots.perturbations(GOOD, GOOD, columns=0), "columns must be"),
    "no values": (lambda: plots.histograms({}, LABELS, label="ε"), "values must be"),
    "empty": (lambda: plots.histograms({"a": LABELS[:0]}, LABELS, label="ε"), "values must be"),
    "nan values": (
        lambda: plots.histograms({"a": np.full(2, np.nan)}, LABELS, label="ε"),
        "values must be",
    ),
    "unknown clean": (
        lambda: plots.histograms({"a": LABELS}, EDGES, label="ε", clean=["b"]),
        "clean must be a list of some of a",
    ),
    "no grid": (lambda: plots.decoded_plane(GOOD[0], CORNERS, {}), "tiles must have shape"),
    "dark tiles": (lambda: plots.decoded_plane(3 * GOOD, CORNERS, {}), "tiles must be finite"),
    "corners": (lambda: plots.decoded_plane(GOOD, (0, 1, 1, 1), {}), "corners must be left < right"),
    "lost point": (
        lambda: plots.decoded_plane(GOOD, CORNERS, {"a": (np.ones((2, 2)), np.ones((1, 2)))}),
        "a must have as many points",
    ),
    "flat points": (
        lambda: plots.decoded_plane(GOOD, CORNERS, {"a": (np.ones(2), np.ones(2))}),
        r"a must be arrays of shape \(n, 2\)",
    ),
    "no panel": (lambda: plots.roc_curves({}, smallest=0.1), "panels must have the same names"),
    "other curves": (
        lambda: plots.roc_curves({"1": {"a": RATES}, "2": {"b": RATES}}, smallest=0.1),
        "panels must have the same names",
    ),
    "nothing small": (lambda: plots.roc_curves({"1": {"a": RATES}}, smallest=0), "smallest must lie"),
    "uneven rates": (
        lambda: plots.roc_curves({"1": {"a": (LABELS, LABELS[:1])}}, smallest=0.1),
        "a must be two vectors of rates",
    ),
    "no scores": (lambda: metrics.roc_auc(LABELS, LABELS[:0]), "positives must be a vector"),
    "score names": (lambda: metrics.roc_auc(np.array(["a"]), LABELS), "negatives must be a vector"),
    "no number": (lambda: metrics.roc_auc(np.full(2, np.nan), LABELS), "negatives must not be NaN"),
    "one edge": (lambda: plots.histograms({"a": LABELS}, LABELS[:1], label="ε"), "edges must be"),
    "falling": (lambda: plots.histograms({"a": LABELS}, -LABELS, label="ε"), "edges must be"),
    "moves' titles": (
        lambda: plots.class_maps({"a": PLANE}, LABELS, {"b": (PLANE, PLANE)}, mark="2"),
        "moves must be given for a, got b",
    ),
    "moves in space": (
        lambda: plots.class_maps({"a": PLANE}, LABELS, {"a": (np.ones((2, 3)),) * 2}, mark="2"),
        r"moves must be arrays of shape \(n, 2\)",
    ),
    "half a move": (
        lambda: plots.class_maps({"a": PLANE}, LABELS, {"a": (PLANE, PLANE[:1])}, mark="2"),
        "moves must be pairs of arrays of the same shape",
    ),
    "map in space": (
        lambda: plots.class_maps({"a": GOOD}, LABELS, {"a": (PLANE, PLANE)}, mark="2"),
        r"points must be arrays of shape \(n, 2\)",
    ),
    "map's labels": (
        lambda: plots.class_maps({"a": PLANE}, LABELS[:1], {"a": (PLANE, PLANE)}, mark="2"),
        r"labels must have shape \(2,\)",
    ),
    "no plane": (
        lambda: plots.distance_planes({}, x_label="", y_label=""),
        "panels must hold at least one point, and no distance below 0",
    ),
    "plane below 0": (
        lambda: plots.distance_planes({"a": {"b": PLANE - 1}}, x_label="", y_label=""),
        "panels must hold at least one point, and no distance below 0",
    ),
    "too many clouds": (
        lambda: plots.distance_planes({"a": dict.fromkeys("bcdef", PLANE)}, x_label="", y_label=""),
        "panels must hold at most 4 names, got b, c, d, e, f",
    ),
    "plane in space": (
        lambda: plots.distance_planes({"a": {"b": np.ones((2, 3))}}, x_label="", y_label=""),
        r"panels must be arrays of shape \(n, 2\)",
    ),
    "no curve": (
        lambda: plots.mean_curves([1], {}, label="", height=""),
        "panels and places must hold at least one",
    ),
    "curve too short": (
        lambda: plots.mean_curves([1, 2], {"a": {"b": [MEAN]}}, label="", height=""),
        "panels must have 2 points a curve, b has 1",
    ),
    "too many curves": (
        lambda: plots.mean_curves([1], {"a": {c: [MEAN] for c in "abcde"}}, label="", height=""),
        "panels must hold at most 4 names of a kind",
    ),
    "heights": (
        lambda: plots.mean_curves([1], {"a": {"b": [MEAN]}}, label="", height=["", ""]),
        "height must be one, or one for each of 1 panels",
    ),
    "mark": (
        lambda: plots.class_maps({"a": PLANE}, LABELS, {"a": (PLANE, PLANE)}, mark="$"),
        "mark must be one letter or digit, got",
    ),
    "no map": (lambda: plots.class_maps({}, LABELS, {}, mark="2"), "points must hold at least one map"),
    "map not finite": (
        lambda: plots.class_maps({"a": PLANE * np.nan}, LABELS, {"a": (PLANE, PLANE)}, mark="2"),
        "points must be finite",
    ),
    "noise as text": (
        lambda: plots.mean_curves([1], {"a": {"b": [MEAN]}}, label="", height="", noise="b"),
        "noise must be a list of some of b, got 'b'",
    ),
    "noise elsewhere": (
        lambda: plots.mean_curves([1], {"a": {"b": [MEAN]}}, label="", height="", noise=["B"]),
        "noise must be a list of some of b",
    ),
    "clean noise": (
        lambda: plots.mean_curves(
            [1], {"a": {"b": [MEAN]}}, label="", height="", clean=["b"], noise=["b"]
        ),
        "clean and noise must not share names",
    ),
}


@pytest.mark.parametrize("case", BAD_FIGURES)
def test_bad_figures(case: str) -> None:
    call, message = BAD_FIGURES[case]
    with pytest.raises(ValueError, match=message):
        call()


def test_bad_cases() -> None:
    with pytest.raises(ValueError, match="cases must be bool, got dtype int64"):
        metrics.proportion(np.array([0, 1], dtype=np.int64))
    with pytest.raises(ValueError, match="cases must hold at least one case"):
        metrics.proportion(np.array([], dtype=bool))


def test_bad_values_and_changes() -> None:
    for values in (np.array([]), np.ones((2, 2)), np.array(["a"]), np.array([True])):
        with pytest.raises(ValueError, match="values must be a vector of at least one number"):
            metrics.mean(values)
    with pytest.raises(ValueError, match="values must be finite"):
        metrics.mean(np.array([1, np.nan]))
    for groups in (LABELS[:1], np.array([0.0, 1.0]), np.zeros((2, 1), int)):
        with pytest.raises(ValueError, match=r"groups must be integers, one per value, of shape \(2,\)"):
            metrics.mean(np.ones(2), groups)
        with pytest.raises(ValueError, match="groups must be integers"):
            metrics.proportion(np.ones(2, bool), groups)
    with pytest.raises(ValueError, match="groups must be integers"):
        metrics.proportion(np.ones((2, 2), bool), np.zeros((2, 2), int))
    bad: Any
    for bad in (0.5, 5.5, np.nan, "5", True):
        with pytest.raises(ValueError, match="effective must be a number from 1 to 5, got"):
            metrics.Proportion(1, 5, bad)
    with pytest.raises(ValueError, match="changed must have the shape of images"):
        metrics.norms(GOOD, GOOD[:1])
    with pytest.raises(ValueError, match="changed must be finite"):
        metrics.norms(GOOD, GOOD + 1)
    result = attacks.AttackResult(GOOD, np.ones(2, bool), LABELS, LABELS)
    with pytest.raises(ValueError, match="confidences must be given for fgsm, got bim"):
        metrics.attack_table(GOOD, {"fgsm": result}, {"bim": np.ones(2)})
    sure = {"fgsm": np.ones(2)}
    for over in (np.ones(3, bool), np.ones(2), [True]):
        with pytest.raises(ValueError, match=r"over must be bool, of shape \(2,\)"):
            metrics.attack_table(GOOD, {"fgsm": result}, sure, over=over)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="groups must be integers, one per value"):
        metrics.attack_table(GOOD, {"fgsm": result}, sure, groups=np.ones(3, int))
    for argument, bad, confidences in (
        ("confidences", result, np.ones(3)),
        ("success", attacks.AttackResult(GOOD, np.ones(3, bool), LABELS, LABELS), np.ones(2)),
        ("evaluations", attacks.AttackResult(GOOD, np.ones(2, bool), LABELS, np.ones(3)), np.ones(2)),
    ):
        with pytest.raises(ValueError, match=rf"{argument} of fgsm must have shape \(2,\), got \(3,\)"):
            metrics.attack_table(GOOD, {"fgsm": bad}, {"fgsm": confidences})


def taking(*arguments: str) -> list[str]:
    """Names of the attacks that take these arguments."""
    return [name for name in ATTACKS if all(takes(name, argument) for argument in arguments)]


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("case", BAD_IMAGES)
def test_bad_images_for_attacks(model: keras.Model, attack: str, case: str) -> None:
    images, message = BAD_IMAGES[case]
    with pytest.raises(ValueError, match=message):
        ATTACKS[attack](model, images, np.zeros(len(images), int))


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("case", BAD_LABELS)
def test_bad_labels_for_attacks(model: keras.Model, attack: str, case: str) -> None:
    labels, message = BAD_LABELS[case]
    message = message.replace("labels", "targets") if takes(attack, "targets") else message
    with pytest.raises(ValueError, match=message):
        ATTACKS[attack](model, GOOD, labels)


BAD_SETTINGS: list[tuple[str, dict[str, Any], str]] = [
    *(
        (attack, {"epsilon": bad}, message)
        for attack in taking("epsilon")
        for bad, message in (
            (-0.1, "epsilon must lie between 0 and 1, got -0.1"),
            (25, "epsilon must lie between 0 and 1, got 25"),
            (np.nan, "epsilon must lie between 0 and 1"),
            ("0.1", "epsilon must be a number, or 2 numbers, one per image"),
            (True, "epsilon must be a number"),
            (np.full(3, 0.1), r"epsilon must be a number, or 2 numbers, .* got float64 of shape \(3,\)"),
            (np.full((2, 1), 0.1), "epsilon must be a number"),
            (np.array([0.1, 1.1]), "epsilon must lie between 0 and 1"),
        )
    ),
    *(
        (attack, settings, message)
        for attack in taking("step_size", "steps")
        for settings, message in (
            ({"step_size": -1}, "step_size must lie between 0 and 1"),
            ({"step_size": np.full(3, 0.1)}, "step_size must be a number, or 2 numbers"),
            ({"steps": 0}, "steps must be a whole number of at least 1, got 0"),
            ({"steps": 1.5}, "steps must be a whole number"),
        )
    ),
    *(
        (attack, {"batch_size": 0}, "batch_size must be a whole number of at least 1")
        for attack in taking("batch_size")
    ),
    *((attack, {"seed": -1}, "seed must be a whole number") for attack in taking("seed")),
    *(
        (attack, {"targeted": bad}, "targeted must be True or False")
        for attack in taking("targeted")
        for bad in ("no", 1, None, np.ones(2, bool))
    ),
    *((attack, {"early_stop": 1}, "early_stop must be") for attack in taking("early_stop")),
    *(
        (attack, {"confidence": bad, "early_stop": True}, "confidence must be a number from 0 to 1e")
        for attack in taking("early_stop", "confidence")
        for bad in (-1.0, np.nan, np.inf, "1")
    ),
    *(
        (attack, {"confidence": 1.0}, "confidence must be 0 without early_stop")
        for attack in taking("early_stop", "confidence")
    ),
    ("jsma", {"confidence": -1.0}, "confidence must be a number"),
    *(
        ("gaussian_noise", {"l2": bad}, message)
        for bad, message in (
            (-0.1, "l2 must be finite and not negative, got -0.1"),
            (np.nan, "l2 must be finite"),
            (np.inf, "l2 must be finite"),
            (np.ones(3), "l2 must be a number, or 2 numbers"),
            (100, "l2 must be at most 14 for this noise to fit between 0 and 1, got 100 for image 0"),
        )
    ),
    ("jsma", {"clip_aware": 1}, "clip_aware must be True or False, got 1"),
    ("jsma", {"theta": 1e-50}, "theta must not be 0"),
    ("pgd", {"restarts": 0}, "restarts must be a whole number of at least 1"),
    ("jsma", {"theta": 0}, "theta must not be 0"),
    ("jsma", {"theta": 1.5}, "theta must be a number from -1 to 1, got 1.5"),
    ("jsma", {"theta": np.nan}, "theta must be a number"),
    ("jsma", {"theta": "1"}, "theta must be a number"),
    ("jsma", {"max_fraction": -0.1}, "max_fraction must be a number from 0 to 1"),
    ("jsma", {"max_fraction": 14.5}, "max_fraction must be a number from 0 to 1, got 14.5"),
    *(
        ("one_pixel", settings, message)
        for settings, message in (
            ({"pixels": 0}, "pixels must be a whole number from 1 to 784, got 0"),
            ({"pixels": 785}, "pixels must be a whole number from 1 to 784, got 785"),
            ({"pixels": 1.0}, "pixels must be a whole number"),
            ({"population": 4}, "population must be a whole number of at least 5, got 4"),
            ({"generations": -1}, "generations must be a whole number of at least 0, got -1"),
            ({"strategy": "best2"}, "strategy must be one of rand1, best1, random, got 'best2'"),
            ({"mutation": 2.5}, "mutation must be a number from 0 to 2, or two of them .*, got 2.5"),
            ({"mutation": -0.1}, "mutation must be .*, got -0.1"),
            ({"mutation": np.nan}, "mutation must be a number"),
            ({"mutation": (0.5, 3)}, r"mutation must be .*, or two .*, got \(0.5, 3\)"),
            ({"mutation": (1, 0.5)}, r"mutation must be .*, or two .* not fall, got \(1, 0.5\)"),
            ({"mutation": (0.5, 1, 2)}, "mutation must be a number from 0 to 2, or two"),
            ({"mutation": "0.5"}, "mutation must be a number"),
            ({"recombination": 1.5}, "recombination must be a number from 0 to 1, got 1.5"),
            ({"recombination": np.nan}, "recombination must be a number"),
        )
    ),
    *(
        (attack, {"levels": bad}, "levels must be a whole number from 2 to 65536")
        for attack in taking("levels")
        for bad in (1, 2**17, 2.5, True, "256")
    ),
    ("jsma", {"search": "triple"}, "search must be one of pair, single, lead, got 'triple'"),
]


@pytest.mark.parametrize(("attack", "settings", "message"), BAD_SETTINGS)
def test_bad_settings_of_attacks(
    model: keras.Model, attack: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ATTACKS[attack](model, GOOD, LABELS, **settings)


@pytest.mark.parametrize("attack", ATTACKS)
def test_models_that_do_not_return_logits(attack: str) -> None:
    inputs = keras.Input((28, 28, 1))
    flat = keras.layers.Flatten()(inputs)
    softmax = keras.Model(inputs, keras.layers.Dense(10, activation="softmax")(flat))
    with pytest.raises(ValueError, match="model must return logits, got probabilities"):
        ATTACKS[attack](softmax, GOOD, LABELS)
    for bad in (keras.Model(inputs, inputs), keras.Model(inputs, keras.layers.Dense(1)(flat))):
        with pytest.raises(ValueError, match=r"model must return logits of shape \(n, classes\)"):
            ATTACKS[attack](bad, GOOD, np.zeros(2, int))
    several = keras.Model(inputs, [keras.layers.Dense(10)(flat), keras.layers.Dense(10)(flat)])
    with pytest.raises(ValueError, match="model must return logits"):
        ATTACKS[attack](several, GOOD, LABELS)
    with pytest.raises(ValueError, match="model must be a Keras model, got function"):
        ATTACKS[attack](lambda images: images, GOOD, LABELS)


def test_logits_that_add_up_to_1_by_chance_are_no_probabilities() -> None:
    model = linear(np.ones((6, 2), np.float32), np.array([1, 0], np.float32), (2, 3, 1))
    blank = np.zeros((2, 2, 3, 1), np.float32)
    assert attacks.fgsm(model, blank, np.zeros(2, int), epsilon=0.1).images.shape == blank.shape


batches = array_shapes(min_dims=4, max_dims=4, max_side=4)


@given(arrays(np.float32, batches, elements=st.floats(0, 1, width=32)))
def test_good_images_pass_unchanged(images: np.ndarray) -> None:
    before = images.copy()
    assert _checks.check_images(images) is images
    assert np.array_equal(images, before)


@given(
    arrays(np.float32, batches, elements=st.floats(0, 1, width=32)),
    st.floats(width=32).filter(lambda value: not 0 <= value <= 1),
    st.data(),
)
def test_one_bad_pixel_is_enough(images: np.ndarray, value: float, draw: st.DataObject) -> None:
    images.flat[draw.draw(st.integers(0, images.size - 1))] = value
    with pytest.raises(ValueError, match="images must be finite and lie in"):
        _checks.check_images(images)


@given(st.lists(st.integers(-3, 13), min_size=1), st.integers(1, 12))
def test_labels_pass_exactly_when_each_is_a_class(labels: list[int], classes: int) -> None:
    array = np.array(labels)
    if all(0 <= label < classes for label in labels):
        assert _checks.check_labels(array, len(labels), classes) is array
    else:
        with pytest.raises(ValueError, match="labels must lie between"):
            _checks.check_labels(array, len(labels), classes)


NUMBERS = [np.float32, np.float64, np.float16, np.array]
WHOLE = [np.int8, np.int64, np.uint16, np.array]


@pytest.mark.parametrize("kind", NUMBERS)
def test_numpy_s_scalars_are_numbers(kind: Any) -> None:
    half = kind(0.5)
    assert _checks.check_number(half, "value", low=0, high=1) == 0.5
    assert type(_checks.check_number(half, "value", low=0, high=1)) is float
    recipe = training.Recipe(epochs=1, learning_rate=np.float32(0.5))  # type: ignore[arg-type]
    assert type(recipe.learning_rate) is float
    np.testing.assert_array_equal(_checks.check_per_image(half, 3, "values"), [0.5] * 3)
    for bad in (kind(np.nan), kind(2)):
        with pytest.raises(ValueError, match="value must be a number from 0 to 1"):
            _checks.check_number(bad, "value", low=0, high=1)


@pytest.mark.parametrize("kind", WHOLE)
def test_numpy_s_scalars_are_whole_numbers(kind: Any) -> None:
    assert type(_checks.check_integer(kind(3), "value", low=0)) is int
    with pytest.raises(ValueError, match="value must be a whole number"):
        _checks.check_integer(kind(3), "value", low=4)
    for bad in (np.float64(3), np.bool_(True), np.array([3]), np.array(3.0), np.array(True)):
        with pytest.raises(ValueError, match="value must be a whole number"):
            _checks.check_integer(bad, "value", low=0)
    assert _checks.check_flag(np.array(True), "value") is True


def test_no_memory_goes_with_the_square_of_the_number_of_classes() -> None:
    classes = 20_000
    model = linear(np.ones((4, classes), np.float32), np.arange(classes, dtype=np.float32), (2, 2, 1))
    images, labels = np.full((3, 2, 2, 1), 0.5, np.float32), np.array([1, 2, 3])
    tracemalloc.start()
    try:
        attacks.pgd(model, images, labels, epsilon=0.1, step_size=0.1, steps=1, restarts=2, seed=0)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 500 * 4 * classes  # a row of logits is 80 KB; a square of bits would be 400 MB
