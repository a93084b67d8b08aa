"""Compiled functions of a model, kept as long as the model is what it was when they were traced.

A trace reads the values of weights at each call. Everything else that decides on what a model computes
is in it for good: its layers and activations, which variables they hold, and whatever Python read on the
way, such as a flag. So before traces are used again, `refresh` compares what the model is made of with
what it was made of.
"""

import functools
import sys
import types
import weakref
import zlib
from collections.abc import Callable, Iterator, Mapping, Set
from typing import Any

import keras
import numpy as np
import tensorflow as tf

# Compiled functions of each model, and of whatever else decides on a trace: traces hold the weights of
# both, and must go when one goes.
_Traces = weakref.WeakKeyDictionary[Any, dict[Callable[..., Any], Any]]
_COMPILED: weakref.WeakKeyDictionary[keras.Model, _Traces] = weakref.WeakKeyDictionary()
# What each model, score or other object was made of when it was first traced.
_STATES: weakref.WeakKeyDictionary[Any, list[Any]] = weakref.WeakKeyDictionary()


def compiled(model: keras.Model, function: Callable[..., Any], *arguments: Any) -> Any:
    """Return `function` compiled for the model and for arguments of this form.

    It is traced once for tensors of any number of rows. Its first argument is the model; arguments
    that are not tensors are constants of the trace. If the first of them is callable, such as a step
    or a score, the trace lives no longer than it does.
    """
    anchor = arguments[0] if arguments and callable(arguments[0]) else function
    of_anchor = _COMPILED.setdefault(model, weakref.WeakKeyDictionary()).setdefault(anchor, {})
    if function not in of_anchor:
        of_anchor[function] = tf.function(function)
    return of_anchor[function].get_concrete_function(
        model, *tf.nest.map_structure(_any_number, arguments)
    )


def refresh(thing: Any) -> None:
    """Forget the traces of a model, or of a score, that is no longer what it was when it was traced."""
    now = list(_made_of(thing, {}))
    if thing in _STATES and _STATES[thing] != now:
        forget(thing)
    _STATES[thing] = now


def forget(thing: Any) -> None:
    """Forget the traces of a model, or of a score."""
    _COMPILED.pop(thing, None)
    for of_model in list(_COMPILED.values()):
        of_model.pop(thing, None)


def _any_number(values: Any) -> Any:
    """The form of a tensor, whatever its first dimension; anything else as it is."""
    if not tf.is_tensor(values):
        return values
    shape = (None, *values.shape[1:]) if values.shape.rank else ()
    return tf.TensorSpec(shape, values.dtype)


# --- what an object is made of ---------------------------------------------------------------------

# Packages whose functions and classes are taken as they are, and, but for advlib, their objects.
WHOLE = {
    *("advlib", "builtins", "keras", "matplotlib", "numpy", "pandas", "scipy", "sklearn"),
    *("tensorflow", "tqdm"),
}
# Values that are what they look like.
PLAIN = (type(None), bool, int, float, complex, str, bytes)
# Bytes of an array that are read; of a larger one, so many all over it.
READ = 2**22
# How a reader trains a model, not what it computes; beside what every new model has (`_bookkeeping`).
TRAINING = {
    *("_compile_config", "_compiled_trainable_state", "_eval_epoch_iterator", "_optimizer"),
    *("history", "optimizer", "stop_evaluating", "stop_predicting", "stop_training"),
}
# Of these a new model has some, too, but they decide on what it computes.
DECIDING = {"_dtype_policy", "autocast", "_layers"}
# Of a functional model, what follows from the others, or grows when its layers are used elsewhere.
DERIVED = {"_nodes", "_nodes_by_depth", "_operations_by_depth", "_inputs_struct", "_outputs_struct"}

# Of the objects that were met so far, the number of each; it keeps them alive, or another could take the
# `id` of one.
_Seen = dict[int, tuple[int, Any]]


class _Same:
    """Equal to what stands for the same living object; does not keep it alive."""

    def __init__(self, thing: Any) -> None:
        self._thing = weakref.ref(thing)

    def __eq__(self, other: object) -> bool:
        thing = self._thing()
        return isinstance(other, _Same) and thing is not None and thing is other._thing()

    __hash__ = None  # type: ignore[assignment]


def _made_of(thing: Any, seen: _Seen) -> Iterator[Any]:
    """What decides on what a model, a function or any object computes, piece by piece.

    Two lists of such pieces are equal as long as nothing of it has changed. Values of variables are no
    part of it, as a trace reads them at each call.
    """
    if isinstance(thing, PLAIN):
        yield type(thing), repr(thing)  # NaN is to equal NaN
        return
    if id(thing) in seen:
        yield seen[id(thing)][0]
        return
    seen[id(thing)] = len(seen), thing
    if isinstance(thing, np.ndarray | np.generic):
        yield _digest(np.asarray(thing))
        if isinstance(thing, np.ma.MaskedArray):
            yield _digest(np.ma.getmaskarray(thing))
    elif isinstance(thing, types.ModuleType) and not _whole(thing):
        # Of all that a module holds, what a setting is likely to be.
        plain = {name: each for name, each in vars(thing).items() if isinstance(each, PLAIN)}
        yield from _of_attributes(plain, seen)
    elif isinstance(thing, list | tuple | set | frozenset):
        yield type(thing), len(thing)
        for each in thing:
            yield from _made_of(each, seen)
    elif isinstance(thing, dict):
        yield dict, len(thing)
        for pair in list(thing.items()):  # a list: another thread may change it meanwhile
            for each in pair:
                yield from _made_of(each, seen)
    elif isinstance(thing, keras.Variable):
        yield from _made_of(thing.value, seen)
    elif isinstance(thing, types.FunctionType) and not _whole(thing):
        yield from _of_function(thing, seen)
    elif isinstance(thing, type):
        yield _Same(thing)
        if not _whole(thing):
            for base in thing.__mro__[1:]:
                yield from _made_of(base, seen)
            yield from _of_attributes(
                {
                    name: value
                    for name, value in list(vars(thing).items())
                    # Python adds some of its own, such as __annotations__, when they are asked for.
                    if not name.startswith("__") or isinstance(value, types.FunctionType)
                },
                seen,
            )
    elif isinstance(thing, keras.Operation):
        yield from _made_of(type(thing), seen)
        yield from _of_attributes(vars(thing), seen, hidden=_bookkeeping())
    elif (parts := _parts(thing)) is not None:
        yield from _made_of(type(thing), seen)
        yield from _of_attributes(parts, seen)
    elif type(thing).__module__.split(".")[0] in sys.stdlib_module_names:
        yield type(thing), repr(thing)  # of Python's own, such as a deque
    else:
        try:
            yield _Same(thing)
        except TypeError:  # no weak reference to it
            yield type(thing), id(thing)


def _parts(thing: Any) -> dict[str, Any] | None:
    """Attributes of an object; None where it has none, of a module, and of the packages' own objects."""
    names = {
        types.MethodType: ("__func__", "__self__"),
        functools.partial: ("func", "args", "keywords"),
        property: ("fget",),
        staticmethod: ("__func__",),
        classmethod: ("__func__",),
    }.get(type(thing))
    if names is None:
        root = type(thing).__module__.split(".")[0]
        if isinstance(thing, types.ModuleType) or root in WHOLE - {"advlib"}:
            return None
        slots = [name for base in type(thing).__mro__ for name in getattr(base, "__slots__", ())]
        if not slots and not hasattr(thing, "__dict__"):
            return None
        names = (*getattr(thing, "__dict__", ()), *slots)
    return {name: getattr(thing, name) for name in names if hasattr(thing, name)}


def _of_attributes(
    attributes: Mapping[str, Any], seen: _Seen, *, hidden: Set[str] = frozenset()
) -> Iterator[Any]:
    for name, value in list(attributes.items()):
        if name not in hidden and not name.startswith("_self_"):
            yield name
            yield from _made_of(value, seen)


def _of_function(function: types.FunctionType, seen: _Seen) -> Iterator[Any]:
    """Its code, its defaults, and the values of the names that it takes from elsewhere."""
    yield function.__code__
    for each in (function.__defaults__, function.__kwdefaults__, vars(function)):
        yield from _made_of(each, seen)
    for cell in function.__closure__ or ():
        try:
            yield from _made_of(cell.cell_contents, seen)
        except ValueError:  # not filled yet
            yield None
    names = _names(function.__code__)
    for name in names:
        # A name that is imported inside of the function stands for a module.
        value = function.__globals__.get(name, sys.modules.get(name))
        yield name
        yield from _made_of(value, seen)
        if isinstance(value, types.ModuleType) and not _whole(value):
            inside = vars(value)
            of_module = {each: inside[each] for each in names if each in inside}
            yield from _of_attributes(of_module, seen)


@functools.lru_cache(maxsize=1000)
def _names(code: types.CodeType) -> tuple[str, ...]:
    """Every name that code, or a function written in it, looks up."""
    inner = [_names(each) for each in code.co_consts if isinstance(each, types.CodeType)]
    return tuple(sorted(set(code.co_names).union(*inner)))


def _whole(thing: Any) -> bool:
    """Whether a function, class or module is Python's own, or of a package that is taken as it is."""
    module = thing.__name__ if isinstance(thing, types.ModuleType) else thing.__module__
    root = (module or "builtins").split(".")[0]
    return root in WHOLE or root in sys.stdlib_module_names


@functools.cache
def _bookkeeping() -> frozenset[str]:
    """Attributes of a layer or a model that decide on nothing that it computes."""
    new = vars(keras.Model(name="new"))  # named: a model without a name would use one up
    return frozenset({*new, *TRAINING, *DERIVED} - DECIDING)


def _digest(array: np.ndarray) -> Any:
    """Form and bytes of an array."""
    if array.dtype.hasobject:
        return array.shape, array.tolist()
    some = array if array.nbytes <= READ else array.reshape(-1)[:: -(-array.nbytes // READ)]
    return array.shape, array.dtype.str, zlib.crc32(np.ascontiguousarray(some).tobytes())
