"""A model as Keras runs it: which layer it calls, on what, in which order.

A layer may be used by several models, more than once in one of them, and at other sizes than the first:
`layer.output` is what came of its first use, anywhere. What a layer answers in *this* model stands in
the model's own graph of operations, from which everything here is read.
"""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import keras

from advlib._checks import check_model


class Use(NamedTuple):
    """One call of a layer, or of another operation, in a model.

    Attributes
    ----------
    operation : keras.Operation
        What is called: a layer, a model inside of the model, or a function of `keras.ops`.
    node : Keras's node
        What it is called on, and what it answers: symbolic tensors.
    """

    operation: Any
    node: Any

    @property
    def outputs(self) -> list[keras.KerasTensor]:
        """Symbolic tensors for what it answers."""
        return self.node.output_tensors

    def __call__(self, values: dict[int, Any]) -> list[Any]:
        """Call it as this model does, on values by the `id` of their symbolic tensors."""
        arguments, options = self.node.arguments.fill_in(values)
        if "training" in inspect.signature(self.operation.call).parameters:
            options = {**options, "training": False}
        return keras.tree.flatten(self.operation(*arguments, **options))


class Graph(NamedTuple):
    """The graph of a model.

    Attributes
    ----------
    inputs, outputs : list of keras.KerasTensor
        Symbolic tensors.
    uses : list of Use
        In an order in which they can be computed.
    """

    inputs: list[keras.KerasTensor]
    outputs: list[keras.KerasTensor]
    uses: list[Use]


def read(model: Any, name: str = "model") -> Graph:
    """Read the graph of a model that Keras runs through.

    Raises
    ------
    ValueError
        If what the model computes does not stand in a graph; the message says why.
    """
    check_model(model, name)
    refused = f"{name} must be functional, or sequential and built, got {type(model).__name__}: "
    function = model
    if isinstance(model, keras.Sequential):
        function = model._functional
        if function is None and not model.built:
            raise ValueError(refused + "it is not built; call it on images once")
    if not isinstance(function, keras.Function):
        raise ValueError(refused + "only then are its layers known")
    if _computes_by_itself(model):
        raise ValueError(refused + "what it computes is written in a `call` of its own")
    depths = function._nodes_by_depth
    uses = [
        Use(node.operation, node)
        for depth in sorted(depths, reverse=True)
        for node in depths[depth]
        if not node.is_input
    ]
    return Graph(list(function.inputs), list(function.outputs), uses)


def _computes_by_itself(model: keras.Model) -> bool:
    """Whether a model computes otherwise than Keras does along its graph."""
    ways = [getattr(type(model), way).__module__ for way in ("call", "__call__")]
    return "call" in vars(model) or not all(way.split(".")[0] == "keras" for way in ways)


def named(model: Any) -> dict[str, Any]:
    """What each layer of a model answers in this model, by the layers' names, in the model's order.

    Symbolic tensors, or a list of them where a layer answers with several. A layer that is used again
    appears again, as "name:2", "name:3", …

    Raises
    ------
    ValueError
        If the model's graph cannot be read, or two uses would have the same name.
    """
    graph = read(model)
    order = {id(layer): place for place, layer in enumerate(model.layers)}
    layers = [use for use in graph.uses if id(use.operation) in order]
    counts: dict[int, int] = {}
    found: dict[str, keras.KerasTensor] = {}
    for use in sorted(layers, key=lambda use: order[id(use.operation)]):
        number = counts[id(use.operation)] = counts.get(id(use.operation), 0) + 1
        name = use.operation.name + (f":{number}" if number > 1 else "")
        if name in found:
            raise ValueError(f"layers must have names of their own, which two called {name} have not")
        found[name] = use.outputs[0] if len(use.outputs) == 1 else use.outputs
    return found


def between(
    graph: Graph, source: keras.KerasTensor, target: keras.KerasTensor
) -> Callable[[Any], Any] | None:
    """Function from values of one symbolic tensor to those of another, training off.

    None where the target depends on the images in a way that does not lead through the source.
    """
    needed, uses = {id(target)} - {id(source)}, []
    for use in reversed(graph.uses):
        if needed & {id(output) for output in use.outputs}:
            uses.append(use)
            needed -= {id(output) for output in use.outputs}
            needed |= {id(tensor) for tensor in use.node.input_tensors} - {id(source)}
    if needed or not uses:
        return None
    uses.reverse()

    def compute(values: Any) -> Any:
        known = {id(source): values}
        for use in uses:
            answers = use(known)
            known |= {id(output): each for output, each in zip(use.outputs, answers, strict=True)}
        return known[id(target)]

    return compute


class Link(NamedTuple):
    """One of the layers of a stack, and how the stack calls it: a function of its input alone."""

    layer: Any
    use: Use

    def __call__(self, values: Any) -> Any:
        """What the layer answers in the stack."""
        return self.use({id(self.use.node.input_tensors[0]): values})[0]


def stack(model: Any) -> list[Link]:
    """The layers of a model that calls one after the other; none where it does otherwise.

    Models inside of the model are taken apart as well, where they are stacks.
    """
    try:
        graph = read(model)
    except ValueError:
        return []
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        return []
    links: list[Link] = []
    values = graph.inputs[0]
    for use in graph.uses:
        if len(use.outputs) != 1 or [id(each) for each in use.node.input_tensors] != [id(values)]:
            return []
        values = use.outputs[0]
        inner = stack(use.operation) if isinstance(use.operation, keras.Model) else []
        links += inner or [Link(use.operation, use)]
    return links
