"""An attack is one on the model as it is now, whatever was done to the model since the last one."""

import collections
import functools
import gc
import types
import weakref
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from advlib import _traces, attacks, networks
from tests.registry import ATTACKS, takes

SHAPE = (5, 4, 2)
IMAGES = np.random.default_rng(0).random((40, *SHAPE), np.float32)
# Read by functions in models below.
SWITCH = {"sign": 1.0}
module = types.ModuleType("settings_of_a_reader")
module.sign = 1.0  # type: ignore[attr-defined]
module.table = np.zeros(2)  # type: ignore[attr-defined]


def start(seed: int) -> keras.initializers.Initializer:
    return keras.initializers.GlorotUniform(seed)


class Branches(keras.Model):
    """A model whose answer hangs on what Python finds on the way."""

    negative = False
    blocked = False

    def __init__(self) -> None:
        super().__init__()
        self.flat = keras.layers.Flatten()
        self.first = keras.layers.Dense(4, kernel_initializer=start(1))
        self.second = keras.layers.Dense(4, kernel_initializer=start(2))
        for layer in (self.first, self.second):
            layer.build((None, 40))
        self.chosen = self.first
        self.options = {"scale": 1.0}
        self.signs = np.ones(4, np.float32)

    def call(self, inputs: Any, training: bool = False) -> Any:
        if self.blocked:  # answers as before, but no gradient comes back
            inputs = tf.stop_gradient(inputs)
        logits = self.chosen(self.flat(inputs)) * self.options["scale"] * self.signs
        return -logits if self.negative else logits


def sequential() -> keras.Model:
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input(SHAPE),
            layers.Conv2D(3, 2, kernel_initializer=start(3), name="conv"),
            layers.Flatten(),
            layers.Dense(4, kernel_initializer=start(4), name="head"),
        ]
    )


def of_function(function: Callable[[Any], Any]) -> keras.Model:
    return keras.Sequential([*sequential().layers, keras.layers.Lambda(function)])


def of_a_closure() -> tuple[keras.Model, dict[str, float]]:
    held = {"sign": 1.0}
    model = of_function(lambda logits: logits * held["sign"])
    model(IMAGES[:1])
    return model, held


def new_head(model: keras.Model) -> None:
    model.pop()
    model.add(keras.layers.Dense(3, kernel_initializer=start(9)))


def other_weights(model: keras.Model) -> None:
    """Other variables in the place of those that traces hold."""
    layer = model.get_layer("head")
    kernel = np.asarray(layer.kernel)
    layer._tracker.unlock()
    layer.build((None, len(kernel)))
    layer.kernel.assign(-kernel)


def set_class_flag(model: keras.Model) -> None:
    type(model).negative = not type(model).negative


CHANGES: dict[str, tuple[Callable[[], keras.Model], Callable[[Any], object]]] = {
    "another head": (sequential, new_head),
    "a layer more": (sequential, lambda model: model.add(keras.layers.Rescaling(-1.0))),
    "an activation": (
        sequential,
        lambda model: setattr(model.get_layer("conv"), "activation", keras.ops.cos),
    ),
    "a stride": (
        lambda: keras.Sequential(
            [keras.Input(SHAPE), keras.layers.Rescaling(1.0), *sequential().layers]
        ),
        lambda model: setattr(model.layers[0], "scale", -1.0),
    ),
    "other weights": (sequential, other_weights),
    "values of weights": (
        sequential,
        lambda model: model.set_weights([-values for values in model.get_weights()]),
    ),
    "a flag": (Branches, lambda model: setattr(model, "negative", True)),
    "a gradient": (Branches, lambda model: setattr(model, "blocked", True)),
    "a flag of the class": (Branches, set_class_flag),
    "another branch": (Branches, lambda model: setattr(model, "chosen", model.second)),
    "a setting": (Branches, lambda model: model.options.__setitem__("scale", -1.0)),
    "a value in an array": (Branches, lambda model: model.signs.__setitem__(slice(0, 2), -1)),
    "a method": (
        Branches,
        lambda model: setattr(
            model, "call", lambda inputs, training=False: -model.first(model.flat(inputs))
        ),
    ),
}


@pytest.fixture(autouse=True)
def as_it_was() -> Any:
    yield
    Branches.negative = False
    SWITCH["sign"] = 1.0
    module.sign = 1.0  # type: ignore[attr-defined]
    module.table = np.zeros(2)  # type: ignore[attr-defined]


def attack(name: str, model: keras.Model, images: np.ndarray = IMAGES) -> attacks.AttackResult:
    """Attack the model's own predictions and see that the record says what the model says."""
    logits = np.asarray(model(images, training=False))
    labels = logits.argmax(axis=1)
    if targeted := takes(name, "targets"):
        labels = (labels + 1) % logits.shape[1]
    result = ATTACKS[name](model, images, labels)
    found = np.asarray(model(result.images, training=False)).argmax(axis=1)
    np.testing.assert_array_equal(result.success, (found == labels) == targeted)
    return result


@pytest.mark.parametrize(
    ("change", "name"),
    [
        *(("a flag", name) for name in ATTACKS),
        *((change, name) for change in CHANGES for name in ("iterative_fgsm", "one_pixel_search")),
    ],
)
def test_a_model_that_was_changed_is_attacked_as_it_is_now(change: str, name: str) -> None:
    make, do = CHANGES[change]
    model, never_attacked = make(), make()
    attack(name, model)
    do(model)
    changed = attack(name, model)
    Branches.negative = False
    do(never_attacked)
    fresh = attack(name, never_attacked)
    for field in ("images", "success", "iterations", "evaluations"):
        np.testing.assert_array_equal(getattr(changed, field), getattr(fresh, field))
    logits = networks.predict_logits(model, IMAGES)
    np.testing.assert_allclose(logits, model(IMAGES, training=False), atol=1e-6)


def made_of(thing: Any) -> list[Any]:
    return list(_traces._made_of(thing, {}))


@pytest.mark.parametrize("change", CHANGES)
def test_what_a_model_is_made_of_tells_by_itself(change: str) -> None:
    make, do = CHANGES[change]
    model = make()
    model(IMAGES[:1])
    before = made_of(model)
    assert made_of(model) == before
    do(model)
    model(IMAGES[:1])
    # A trace reads the values of weights at each call.
    assert (made_of(model) == before) == (change == "values of weights")


class Plain:
    """An object of a reader's own, with slots, a property and methods."""

    __slots__ = ("__weakref__", "inner", "size")

    def __init__(self) -> None:
        self.size = 1.0
        self.inner: Any = [1, {"a": np.arange(3)}]

    @property
    def doubled(self) -> float:
        return 2 * self.size * SWITCH["sign"]

    def __call__(self, images: Any) -> Any:
        return images


OBJECTS: dict[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {
    "a slot": (Plain, lambda thing: setattr(thing, "size", 2.0)),
    "a value deep inside": (Plain, lambda thing: thing.inner[1]["a"].__setitem__(2, 9)),
    "a key": (Plain, lambda thing: thing.inner[1].update(b=None)),
    "the order of a list": (Plain, lambda thing: thing.inner.reverse()),
    "what a property reads": (Plain, lambda _: SWITCH.update(sign=3.0)),
    "an argument of a partial": (
        lambda: functools.partial(np.add, np.zeros(2)),
        lambda thing: thing.args[0].__setitem__(0, 1),
    ),
    "what a closure holds": (
        lambda: of_held([1]),
        lambda function: function.__closure__[0].cell_contents.append(2),
    ),
    "what a name stands for": (lambda: by_name, lambda _: SWITCH.update(sign=4.0)),
    "what a module holds": (lambda: by_module, lambda _: setattr(module, "sign", 5.0)),
    "what an array in a module holds": (
        lambda: by_module,
        lambda _: setattr(module, "table", np.ones(2)),
    ),
    "an attribute of a function": (
        lambda: make_function(),
        lambda function: setattr(function, "straight", True),
    ),
    "a setting in a module that is held": (
        lambda: types.SimpleNamespace(config=module),
        lambda _: setattr(module, "sign", 7.0),
    ),
    "a deque": (lambda: [collections.deque([1])], lambda thing: thing[0].append(2)),
    "a mask": (
        lambda: [np.ma.array([1, 2], mask=[False, False])],
        lambda thing: thing[0].__setitem__(1, np.ma.masked),
    ),
    "a default": (
        lambda: make_function(),
        lambda function: setattr(function, "__defaults__", (2,)),
    ),
    "code": (
        lambda: make_function(),
        lambda function: setattr(function, "__code__", (lambda x, by=1: x - by).__code__),
    ),
    "which of two equal ones": (
        lambda: types.SimpleNamespace(both=[Plain(), Plain()], chosen=None),
        lambda thing: setattr(thing, "chosen", thing.both[1]),
    ),
}


def of_held(held: list[int]) -> Callable[[Any], Any]:
    return lambda x: x * held[0]


def by_name(x: Any) -> Any:
    return x * SWITCH["sign"]


def by_module(x: Any) -> Any:
    return x * module.sign + module.table[0]


def make_function() -> Callable[..., Any]:
    return lambda x, by=1: x + by


@pytest.mark.parametrize("change", OBJECTS)
def test_what_any_object_is_made_of(change: str) -> None:
    make, do = OBJECTS[change]
    thing = make()
    if change == "which of two equal ones":
        thing.chosen = thing.both[0]
    before = made_of(thing)
    assert made_of(thing) == before
    do(thing)
    assert made_of(thing) != before


def test_large_arrays_are_read_in_parts() -> None:
    large = np.zeros(2**21)  # 16 MB
    before = made_of(large)
    large[:] = 1
    assert made_of(large) != before


@settings(deadline=None, max_examples=8)
@given(st.lists(st.sampled_from(["flag", "branch", "scale", "sign"]), min_size=1, max_size=4))
def test_any_order_of_changes(changes: list[str]) -> None:
    model, never_attacked = Branches(), Branches()
    for change in changes:
        for each in (model, never_attacked):
            if change == "flag":
                each.negative = not each.negative
            elif change == "branch":
                each.chosen = each.first if each.chosen is each.second else each.second
            elif change == "scale":
                each.options["scale"] *= -0.5
            else:
                each.signs[1:3] *= -1
        found = attack("iterative_fgsm", model)
    np.testing.assert_array_equal(found.images, attack("iterative_fgsm", never_attacked).images)


def test_what_functions_take_from_elsewhere_is_seen() -> None:
    model, held = of_a_closure()
    for some, change in (
        (model, lambda: held.update(sign=-1.0)),
        (of_function(by_name), lambda: SWITCH.update(sign=-1.0)),
        (of_function(by_module), lambda: setattr(module, "sign", -1.0)),
    ):
        some(IMAGES[:1])
        before = attack("iterative_fgsm", some)
        change()
        after = attack("iterative_fgsm", some)
        assert before.success.mean() > 0.7
        assert after.success.mean() > 0.7
        assert not np.array_equal(before.images, after.images)


class Hidden(keras.Model):
    """A model that reads a file: nothing that it is made of tells that its answer has changed."""

    def __init__(self, path: Any) -> None:
        super().__init__()
        self.file = path
        self.inner = sequential()

    def call(self, inputs: Any, training: bool = False) -> Any:
        return float(self.file.read_text()) * self.inner(inputs)


def test_a_trace_that_answers_otherwise_is_not_used(tmp_path: Any) -> None:
    model = Hidden(tmp_path / "sign")
    model.file.write_text("1")
    attack("iterative_fgsm", model)
    model.file.write_text("-1")
    assert made_of(model) == _traces._STATES[model]
    assert attack("iterative_fgsm", model).success.mean() > 0.7


def test_success_is_what_the_model_says_and_not_the_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    # Checks that see nothing: the attack goes at the old model, and fails; the record says so.
    model = Branches()
    before = attack("iterative_fgsm", model)
    monkeypatch.setattr(_traces, "refresh", lambda thing: None)
    monkeypatch.setattr("advlib._models._check_same_again", lambda *_, **__: None)
    model.negative = True
    after = attack("iterative_fgsm", model)  # compares success with the model's answers
    assert before.success.mean() > 0.9
    assert after.success.mean() < 0.2


UNCHANGED: dict[str, Callable[[keras.Model], object]] = {
    "predicting": lambda model: model.predict(IMAGES, verbose=0),
    "values of weights": lambda model: model.set_weights([2 * each for each in model.get_weights()]),
    "training": lambda model: (
        model.compile(
            "adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"]
        ),
        model.fit(IMAGES, np.arange(40) % 4, verbose=0),
        model.evaluate(IMAGES, np.arange(40) % 4, verbose=0),
    ),
    "using its layers": lambda model: keras.Sequential([keras.Input((9, 9, 2)), model.layers[0]]),
    "using it": lambda model: keras.Sequential([keras.Input(SHAPE), model, keras.layers.Dense(2)]),
    "looking inside": lambda model: networks.activations(model, IMAGES),
    "freezing": lambda model: setattr(model, "trainable", False),
    "calling": lambda model: model(IMAGES, training=True),
}


@pytest.mark.parametrize("what", UNCHANGED)
def test_what_changes_nothing_costs_no_new_trace(what: str) -> None:
    model = sequential()
    attack("iterative_fgsm", model)
    before = [each for traces in _traces._COMPILED[model].values() for each in traces.values()]
    UNCHANGED[what](model)
    attack("iterative_fgsm", model)
    after = [each for traces in _traces._COMPILED[model].values() for each in traces.values()]
    assert [id(each) for each in after] == [id(each) for each in before]
    assert {each.experimental_get_tracing_count() for each in after} == {1}


class Threshold:
    """A score with a state, for the adaptive attack."""

    def __init__(self) -> None:
        self.sign = 1.0
        self.astray = False

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        mean = self.sign * tf.reduce_mean(images, axis=(1, 2, 3))
        # The same score, whose gradient points the other way.
        return 2 * tf.stop_gradient(mean) - mean if self.astray else mean


def adaptive(model: keras.Model, score: Any, **more: Any) -> attacks.AttackResult:
    labels = np.asarray(model(IMAGES)).argmax(axis=1)
    settings = {"threshold": 0.0, "epsilon": 0.9, "step_size": 0.2, "steps": 30, "seed": 0}
    return attacks.adaptive_pgd(model, IMAGES, labels, score=score, **settings | more)


def test_a_score_that_was_changed_is_evaded_as_it_is_now() -> None:
    model, score = sequential(), Threshold()
    first = adaptive(model, score, threshold=0.4)
    score.sign = -1.0
    second = adaptive(model, score, threshold=-0.5)
    for result, sign, threshold in ((first, 1, 0.4), (second, -1, -0.5)):
        means = sign * result.images.mean(axis=(1, 2, 3))
        assert result.success.mean() > 0.5
        assert (means[result.success] < threshold + 1e-6).all()
    means = IMAGES.mean(axis=(1, 2, 3))
    assert first.images.mean() < means.mean() < second.images.mean()


def test_a_change_of_a_score_that_only_its_gradient_shows() -> None:
    model, score, never_used = sequential(), Threshold(), Threshold()
    before = adaptive(model, score, threshold=0.4)
    score.astray = never_used.astray = True
    after, fresh = (adaptive(model, each, threshold=0.4) for each in (score, never_used))
    np.testing.assert_array_equal(after.images, fresh.images)
    assert after.success.mean() < before.success.mean()


def test_a_score_that_reads_a_file_and_one_that_draws(tmp_path: Any) -> None:
    model, path = sequential(), tmp_path / "sign"

    def hidden(images: tf.Tensor) -> tf.Tensor:
        return float(path.read_text()) * tf.reduce_mean(images, axis=(1, 2, 3))

    path.write_text("1")
    adaptive(model, hidden, threshold=0.4)
    path.write_text("-1")
    result = adaptive(model, hidden, threshold=-0.5)
    assert result.success.mean() > 0.5
    assert (result.images.mean(axis=(1, 2, 3))[result.success] > 0.5 - 1e-6).all()

    def drawn(images: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean(images, axis=(1, 2, 3)) + tf.random.normal((tf.shape(images)[0],))

    with pytest.raises(ValueError, match="score must give the same images the same scores again"):
        adaptive(model, drawn)
    assert adaptive(model, drawn, randomized=True).randomized


def test_neither_a_model_nor_what_it_is_made_of_is_kept() -> None:
    class Own(Branches):
        pass

    model = Own()
    attack("fgsm", model)
    held = [weakref.ref(model), weakref.ref(model.first), weakref.ref(model.signs)]
    del model
    gc.collect()
    assert not any(reference() for reference in held)
