"""Long computations go in pieces: they can be stopped, show how far they are, and come to the same."""

import signal
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from tqdm import tqdm

from advlib import _pace, activations, attacks, data
from advlib.attacks import pixel_search
from tests.models import convolutional
from tests.registry import EVERY, takes

SHAPE = (9, 7, 3)
IMAGES = np.random.default_rng(0).random((20, *SHAPE), np.float32)
MODEL = convolutional(SHAPE, filters=6, classes=5, seed=1)
LABELS = np.asarray(MODEL(IMAGES)).argmax(axis=1)
IN_STEPS = [name for name in EVERY if takes(name, "steps") or name.startswith("jsma")]


class Clock:
    """Stands for the module `time`: each piece takes as long as its steps cost."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


@given(st.integers(0, 3000), st.floats(1e-6, 3), st.floats(0.2, 1))
def test_pieces_add_up_and_are_short(steps: int, cost: float, growth: float) -> None:
    clock, bar = Clock(), tqdm(total=steps, disable=True)
    durations, done = [], 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_pace, "time", clock)
        for size in _pace.pieces(steps, bar):
            assert size >= 1
            durations.append(size * cost)
            clock.now += durations[-1]
            done += size
            cost *= growth  # steps become quicker, as images leave
    assert done == steps
    # One step, where that takes longer; else no more than a piece may take.
    assert all(each <= max(_pace.PIECE, first) + 1e-9 for first, each in pairwise([0, *durations][1:]))
    # And not many more pieces than need be: each but the first ones is as long as can be.
    assert len(durations) <= 6 + sum(durations) / (0.05 * _pace.PIECE) or cost > 0.01


def cut(sizes: Callable[[int], list[int]]) -> Callable[..., Iterator[int]]:
    def pieces(steps: int, bar: tqdm) -> Iterator[int]:
        for size in sizes(steps):
            yield size
            bar.update(size)

    return pieces


CUTS: dict[str, Callable[[int], list[int]]] = {
    "one by one": lambda steps: [1] * steps,
    "two pieces": lambda steps: [steps // 2, steps - steps // 2] if steps > 1 else [steps] * (steps > 0),
}


def records(name: str) -> attacks.AttackResult:
    labels = (LABELS + 1) % 5 if takes(name, "targets") else LABELS
    return EVERY[name](MODEL, IMAGES, labels)


@pytest.mark.parametrize("name", IN_STEPS)
@pytest.mark.parametrize("way", CUTS)
def test_it_comes_to_the_same_however_it_is_cut(
    name: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_pace, "pieces", cut(lambda steps: [steps] * (steps > 0)))
    whole = records(name)
    monkeypatch.setattr(_pace, "pieces", cut(CUTS[way]))
    parts = records(name)
    for field in ("images", "success", "iterations", "evaluations"):
        np.testing.assert_array_equal(getattr(parts, field), getattr(whole, field))


def score(images: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(images, axis=(1, 2, 3))


@pytest.mark.parametrize("way", CUTS)
def test_the_adaptive_attack_and_the_stretch_come_to_the_same(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def both() -> list[np.ndarray]:
        result = attacks.adaptive_pgd(
            MODEL,
            IMAGES,
            LABELS,
            score=score,
            threshold=0.45,
            epsilon=0.3,
            step_size=0.2,
            steps=12,
            restarts=2,
            seed=0,
        )
        stretch = activations.largest_stretch(MODEL, IMAGES, iterations=7)
        return [result.images, result.success, result.iterations, *stretch.values()]

    monkeypatch.setattr(_pace, "pieces", cut(lambda steps: [steps]))
    whole = both()
    monkeypatch.setattr(_pace, "pieces", cut(CUTS[way]))
    for part, expected in zip(both(), whole, strict=True):
        np.testing.assert_array_equal(part, expected)


def slow() -> keras.Model:
    """A network on which some hundred steps take minutes."""
    layers = [
        keras.layers.Conv2D(16, 3, padding="same", activation="relu", name=f"conv{number}")
        for number in range(3)
    ]
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            *layers,
            keras.layers.Flatten(),
            keras.layers.Dense(10, name="logits"),
        ]
    )


LONG: dict[str, Callable[..., Any]] = {
    "iterative_fgsm": partial(attacks.iterative_fgsm, epsilon=0.3, step_size=0.001, steps=5000),
    "iterative_fgsm, early": partial(
        attacks.iterative_fgsm, epsilon=0.01, step_size=1e-6, steps=5000, early_stop=True
    ),
    "pgd": partial(attacks.pgd, epsilon=0.3, step_size=0.001, steps=500, restarts=10, seed=0),
    "jsma": lambda model, images, labels, **more: attacks.jsma(
        model, images, (labels + 1) % 10, **{"theta": 1e-5, "max_fraction": 1.0} | more
    ),
    "adaptive_pgd": partial(
        attacks.adaptive_pgd,
        score=score,
        threshold=-1.0,
        epsilon=0.3,
        step_size=0.1,
        steps=5000,
        seed=0,
    ),
    "auto_pgd": partial(attacks.auto_pgd, epsilon=0.1, steps=5000, seed=0),
    "square": partial(attacks.square, epsilon=0.001, queries=50_000, seed=0),
    "carlini_wagner": partial(attacks.carlini_wagner, steps=5000),
    "one_pixel": partial(attacks.one_pixel, generations=5000, seed=0),
    "one_pixel_search": partial(attacks.one_pixel_search, levels=8),
    "largest_stretch": lambda model, images, _: activations.largest_stretch(
        model, images, iterations=10**5
    ),
}


class Stopped(tqdm):
    """A bar that the reader stops at the third piece."""

    def update(self, n: float | None = 1) -> bool | None:
        """Be told that a piece is done."""
        self.pieces = getattr(self, "pieces", 0) + 1
        if self.pieces == 3:
            signal.raise_signal(signal.SIGINT)
        assert self.pieces <= 3
        return super().update(n)


@pytest.mark.parametrize("name", LONG)
def test_ctrl_c_is_heard_between_two_pieces(
    name: str, digits: data.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    # All steps would take minutes.
    monkeypatch.setattr(_pace, "tqdm", Stopped)
    monkeypatch.setattr(pixel_search, "tqdm", Stopped)
    model, images = slow(), digits.test_images[:100]
    # What a shell starts in the background is deaf to Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            LONG[name](model, images, np.asarray(model(images)).argmax(axis=1))
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("name", ["iterative_fgsm", "pgd", "jsma", "adaptive_pgd", "largest_stretch"])
def test_a_bar_shows_how_far_it_is(
    name: str, digits: data.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Bar(tqdm):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options | {"disable": False, "delay": 0})
            bars.append(self)

    bars: list[Bar] = []
    monkeypatch.setattr(_pace, "tqdm", Bar)
    images, labels = digits.test_images[:4], digits.test_labels[:4]
    few = {
        "iterative_fgsm": {"steps": 30},
        "pgd": {"steps": 9, "restarts": 2},
        "adaptive_pgd": {"steps": 9},
    }
    if name == "largest_stretch":
        activations.largest_stretch(slow(), images, layers=["conv0", "logits"], iterations=9)
    elif name == "jsma":
        LONG[name](slow(), images, labels, max_fraction=0.02)
    else:
        LONG[name](slow(), images, labels, **few[name])
    (bar,) = bars
    assert 0 < bar.n <= bar.total
    expected = {"iterative_fgsm": 30, "pgd": 18, "jsma": 7, "adaptive_pgd": 10, "largest_stretch": 18}
    assert bar.total == expected[name] or (name == "pgd" and bar.total == 9)


def test_no_bar_for_what_takes_less_than_a_second(capsys: pytest.CaptureFixture[str]) -> None:
    attacks.iterative_fgsm(MODEL, IMAGES, LABELS, epsilon=0.1, step_size=0.01, steps=3)
    assert capsys.readouterr().err == ""
