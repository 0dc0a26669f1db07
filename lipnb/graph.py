"""Reading the graph of a Sequential or functional model: the only file that touches Keras's node objects."""

from __future__ import annotations

import dataclasses
import inspect
from collections import Counter
from collections.abc import Container, Iterator, Sequence
from typing import Any

import keras

from lipnb.rules import REASONS
from lipnb.rules_linear import channel_axis, is_linear
from lipnb.sites import Shape, layer_key

__all__ = ["Call", "calls", "fits", "functional_graph", "is_graph", "operations"]


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


def operations(model: Any) -> Iterator[Any]:
    """Every layer of the model, those inside of others too, and every other operation of its graphs."""
    for layer in model._flatten_layers():
        yield layer
        if is_graph(layer):
            found = functional_graph(layer).operations
            yield from (operation for operation in found if not isinstance(operation, keras.Layer))


# Calls ---------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of a layer or operation in a graph.

    ``fold`` is the batch normalization that the layer takes in, or the layer itself where it is taken in;
    ``reason`` says why the call, whatever the layer, has no rule.
    """

    node: Any
    fold: Any
    reason: str


def calls(graph: Any, ruled: Container[type] = ()) -> Iterator[Call]:
    """The calls in the order of computation; ``ruled`` are the classes whose constants the user gives."""
    depths = sorted(graph._nodes_by_depth, reverse=True)
    nodes = [node for depth in depths for node in graph._nodes_by_depth[depth] if not node.is_input]
    folds, integers = _foldable(graph, nodes, ruled), _integer_tensors(graph, nodes)
    for node in nodes:
        rounding = "" if type(node.operation) in ruled else _rounding(node, integers)
        yield Call(node, folds.get(id(node)), _refusal(node) or rounding)


def _foldable(graph: Any, nodes: Sequence[Any], ruled: Container[type]) -> dict[int, Any]:
    """For a linear layer's node and that of the batch normalization which alone reads it: the latter's layer.

    Layers of the classes ``ruled`` are left as they are.
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
        if axis == layer.axis % len(tensor.shape) and not (_refusal(source) or _refusal(node)):
            folds[id(source)] = folds[id(node)] = layer
    return folds


def _unwrapped(operation: Any) -> Iterator[Any]:
    """The layer, and the one inside where it is a wrapper."""
    yield operation
    if hasattr(operation, "layer"):
        yield from _unwrapped(operation.layer)


# Refusals ------------------------------------------------------------------------------------------------


def _refusal(node: Any) -> str:
    """Why the call itself, whatever the layer, has no rule."""
    operation, arguments, (inputs, options) = node.operation, node.arguments, _inputs(node)
    for name, value in [*options.items(), *_constants(operation, arguments.args)]:
        given = any(leaf is not None for leaf in keras.tree.flatten(value))  # a list of no masks is no mask
        if given and name != "training" and layer_key(operation) not in REASONS:
            return f"called with the argument {name}"
    if is_graph(operation):
        return _mismatch(functional_graph(operation), inputs)
    return "returns several tensors" if len(node.outputs) > 1 else ""


def _inputs(node: Any) -> tuple[tuple, dict[str, Any]]:
    """What a call is given by position, or its first argument where that is given by name, and the other named ones."""
    arguments, options = node.arguments.args, dict(node.arguments.kwargs)
    first = next(iter(inspect.signature(node.operation.call).parameters), None)
    if not arguments and first in options:
        return (options.pop(first),), options
    return arguments, options


def _constants(operation: Any, arguments: tuple) -> Iterator[tuple[str, Any]]:
    """What a layer is given by position after its inputs, but for tensors of the graph, under its name."""
    if not isinstance(operation, keras.Layer):
        return
    names = list(inspect.signature(operation.call).parameters)
    for position, value in enumerate(arguments[1:], 1):
        leaves = [leaf for leaf in keras.tree.flatten(value) if not isinstance(leaf, keras.KerasTensor)]
        yield names[position] if position < len(names) else f"number {position + 1}", leaves


def _mismatch(graph: Any, arguments: tuple) -> str:
    """A nested model must be given its inputs in their order, and of their shapes: its layers are bounded at those."""
    given = keras.tree.flatten(arguments)
    if len(given) != len(graph.inputs) or (len(given) > 1 and _paths(arguments[0]) != _paths(graph.input)):
        return "called with inputs arranged otherwise than its own"
    for tensor, own in zip(given, graph.inputs, strict=True):
        if not fits(tuple(tensor.shape)[1:], tuple(own.shape)[1:]):
            return f"called with an input of shape {tuple(tensor.shape)} in place of {tuple(own.shape)}"
    return ""


def _paths(structure: Any) -> list[tuple]:
    return [path for path, _ in keras.tree.flatten_with_path(structure)]


def fits(given: Shape, own: Shape) -> bool:
    """Whether an input of the shape ``given`` is one of the model's, but for a last axis of 1, as Keras has it."""
    if abs(len(given) - len(own)) == 1 and max(given, own, key=len)[-1] == 1:
        given, own = (shape[: min(len(given), len(own))] for shape in (given, own))
    return len(given) == len(own) and all(n in (None, m) for m, n in zip(given, own, strict=True))


# Integers ------------------------------------------------------------------------------------------------


def _integer_tensors(graph: Any, nodes: Sequence[Any]) -> set[int]:
    """Ids of the tensors that may hold integers when the model runs, whatever dtype they are said to have."""
    found = {id(t) for t in graph.inputs if "float" not in t.dtype}
    for node in nodes:
        if any(id(t) in found for t in node.input_tensors) and not _gives_floats(node.operation):
            found.update(map(id, node.outputs))
    return found


def _gives_floats(operation: Any) -> bool:
    if layer_key(operation) in ("Normalization", "Rescaling"):
        return True
    return bool(getattr(operation, "weights", ())) and not (is_graph(operation) or _casts_back(operation))


def _casts_back(operation: Any) -> bool:
    return any(layer_key(part) == "SpectralNormalization" for part in _unwrapped(operation))


def _rounding(node: Any, integers: set[int]) -> str:
    for part in _unwrapped(node.operation):
        dtype = getattr(part, "compute_dtype", None) or "float32"
        if "float" not in dtype:
            return f"computes in {dtype}: rounding to it jumps"
    if _casts_back(node.operation) and any(id(t) in integers for t in node.input_tensors):
        return "keras.layers.SpectralNormalization casts its output to its input's dtype, integers: a jump"
    return ""
