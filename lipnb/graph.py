"""Reading the graph of a Sequential or functional model: the only file that touches Keras's node objects."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Container, Iterator, Sequence
from typing import Any

import keras

from lipnb.rules import REASONS
from lipnb.rules_linear import channel_axis, is_linear
from lipnb.sites import layer_key

__all__ = ["foldable", "functional_graph", "graph_nodes", "is_graph", "refusal"]


def functional_graph(model: Any) -> Any:
    """The functional graph of a Sequential or functional model."""
    if not isinstance(model, keras.Model):
        raise TypeError(f"model must be a keras.Model. Received: {type(model).__name__}")
    sequential = isinstance(model, keras.Sequential)
    if _overrides_call(model) or not (sequential or hasattr(model, "_nodes_by_depth")):
        raise ValueError(
            f"model must be Sequential or functional, not subclassed with its own call. Received: {type(model).__name__}"
        )
    if not sequential:
        return model
    if not model.built or getattr(model, "_functional", None) is None:
        raise ValueError(f"model must be built: give it an Input first. Received: {model.name!r}, not built")
    return model._functional


def _overrides_call(model: Any) -> bool:
    # On PyTorch, Keras's layers are its modules too, with a __call__ of their own.
    own = [vars(c) for c in type(model).__mro__ if not c.__module__.startswith(("keras.", "torch."))]
    return any("call" in names or "__call__" in names for names in own)


def is_graph(operation: Any) -> bool:
    has_graph = hasattr(operation, "_nodes_by_depth") or getattr(operation, "_functional", None) is not None
    return isinstance(operation, keras.Model) and has_graph and not _overrides_call(operation)


def graph_nodes(graph: Any) -> Iterator[Any]:
    for depth in sorted(graph._nodes_by_depth, reverse=True):
        yield from (node for node in graph._nodes_by_depth[depth] if not node.is_input)


def foldable(graph: Any, nodes: Sequence[Any], ruled: Container[type] = ()) -> dict[int, Any]:
    """For a linear layer's node and that of the batch normalization which alone reads it: the latter's layer.

    Layers of the classes ``ruled``, whose constants the user gives, are left as they are.
    """
    uses = Counter(id(t) for t in [*graph.outputs, *(t for node in nodes for t in node.input_tensors)])
    producers = {id(t): node for node in nodes for t in node.outputs}
    folds: dict[int, Any] = {}
    for node in nodes:
        tensor, layer = node.input_tensors[0], node.operation
        source = producers.get(id(tensor))
        if layer_key(layer) != "BatchNormalization" or source is None or uses[id(tensor)] > 1:
            continue
        if any(type(part) in ruled for part in [*_unwrapped(layer), *_unwrapped(source.operation)]):
            continue
        axis = channel_axis(source.operation, tensor) if is_linear(source.operation) else None
        if axis == layer.axis % len(tensor.shape) and not (refusal(source) or refusal(node)):
            folds[id(source)] = folds[id(node)] = layer
    return folds


def _unwrapped(operation: Any) -> Iterator[Any]:
    """The layer, and the one inside where it is a wrapper."""
    yield operation
    if hasattr(operation, "layer"):
        yield from _unwrapped(operation.layer)


def refusal(node: Any) -> str:
    """Why the call itself, whatever the layer, has no rule."""
    operation, arguments = node.operation, node.arguments
    for name, value in [*arguments.kwargs.items(), *_constants(operation, arguments.args)]:
        given = any(leaf is not None for leaf in keras.tree.flatten(value))  # a list of no masks is no mask
        if given and name != "training" and layer_key(operation) not in REASONS:
            return f"called with the argument {name}"
    if is_graph(operation):
        return _mismatch(operation, arguments.args)
    return "returns several tensors" if len(node.outputs) > 1 else ""


def _constants(operation: Any, arguments: tuple) -> Iterator[tuple[str, Any]]:
    """What a layer is given by position after its inputs, but for tensors of the graph, under its name."""
    if not isinstance(operation, keras.Layer):
        return
    names = list(inspect.signature(operation.call).parameters)
    for position, value in enumerate(arguments[1:], 1):
        leaves = [leaf for leaf in keras.tree.flatten(value) if not isinstance(leaf, keras.KerasTensor)]
        yield names[position] if position < len(names) else f"number {position + 1}", leaves


def _mismatch(model: Any, arguments: tuple) -> str:
    """A nested model must be given its inputs in their order."""
    given, graph = keras.tree.flatten(arguments), functional_graph(model)
    same_kind = isinstance(arguments[0], dict) == isinstance(graph.input, dict)
    return (
        ""
        if len(given) == len(graph.inputs) and same_kind
        else "called with inputs arranged otherwise than its own"
    )
