"""The walk over a model's graph that bounds its Lipschitz constant.

Every tensor t carries one number c_i for each input x_i of the model, such that
‖t(x) − t(x')‖ ≤ Σ_i c_i ‖x_i − x'_i‖ for all x, x'. A layer of one input multiplies the numbers by its constant; a
sum of branches adds them, a concatenation joins them in quadrature (``rules.py``). With C the matrix of the
outputs' numbers (outputs × inputs) the whole model's constant is at most ‖C‖₂, inputs and outputs flattened.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import numbers
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import keras
import numpy as np

from lipnb.bound_table import LayerBound
from lipnb.graph import Call, calls, fits, functional_graph, is_graph
from lipnb.norms import spectral_norm
from lipnb.rules import MERGES, OPERATORS, REASONS, RULES, batch_normalization_scale, operator_constant
from lipnb.sites import Constant, Site, layer_key, none

__all__ = ["Walk", "run"]

_MIXED = "feeds Embedding layers as indices and other layers as numbers"
_OVERFLOW = "the product of the constants overflows float64"
_OVERFLOW_JOIN = (
    "the joint constant overflows float64, a branch of unknown shape is repeated or the batch is joined"
)


@dataclasses.dataclass(frozen=True)
class Walk:
    """Settings and findings of one walk; ``tokens`` and ``numbers`` are inputs read as indices, as numbers."""

    rules: dict[type, Callable[[Any, tuple], float]]
    exact: bool | Literal["auto"]
    rtol: float
    rows: list[LayerBound] = dataclasses.field(default_factory=list)
    known: dict[Any, Constant] = dataclasses.field(default_factory=dict)
    inputs: dict[int, int] = dataclasses.field(default_factory=dict)
    tokens: set[int] = dataclasses.field(default_factory=set)
    numbers: set[int] = dataclasses.field(default_factory=set)


# The walk ------------------------------------------------------------------------------------------------


def run(walk: Walk, graph: Any) -> float:
    """The bound of the graph; an input's constants are a unit vector, recognised by its identity."""
    inputs = list(np.eye(len(graph.inputs)))
    walk.inputs.update((id(vector), i) for i, vector in enumerate(inputs))
    outputs = _walk(walk, graph, inputs, "")
    walk.numbers.update(walk.inputs[id(vector)] for vector in outputs if id(vector) in walk.inputs)
    for i in walk.tokens & walk.numbers:
        walk.rows.append(
            LayerBound(graph.inputs[i].name, "Input", "no constant", math.inf, math.inf, 0.0, _MIXED)
        )
    bound = math.inf if walk.tokens & walk.numbers else _joint_norm(np.array(outputs))
    if math.isinf(bound) and not any(row.kind == "no constant" for row in walk.rows):
        walk.rows.append(LayerBound(graph.name, "Functional", "no constant", bound, bound, 0.0, _OVERFLOW))
    return bound


def _walk(walk: Walk, graph: Any, inputs: Sequence[np.ndarray], prefix: str) -> list[np.ndarray]:
    """The constants of the graph's outputs, given those of its inputs; rows are appended on the way."""
    constants = dict(zip(map(id, graph.inputs), inputs, strict=True))
    for call in calls(graph, walk.rules):
        branches = [constants[id(t)] for t in call.node.input_tensors]
        results = _visit(walk, call, branches, prefix)
        constants.update(zip(map(id, call.node.outputs), results, strict=True))
    return [constants[id(t)] for t in graph.outputs]


# One call ------------------------------------------------------------------------------------------------


def _visit(walk: Walk, call: Call, branches: list[np.ndarray], prefix: str) -> list[np.ndarray]:
    """The constants of the call's outputs; appends its row, or those of a nested model."""
    operation, start = call.node.operation, time.perf_counter()
    if is_graph(operation) and not call.reason:
        return _walk(walk, functional_graph(operation), branches, f"{prefix}{operation.name}/")
    constant, result = _constant(walk, call, branches)
    row = LayerBound(
        f"{prefix}{operation.name}",
        type(operation).__name__,
        constant.kind,
        None if len(branches) > 1 and math.isfinite(constant.value) else constant.value,
        _joint_norm(result[None]),
        time.perf_counter() - start,
        constant.note,
    )
    walk.rows.append(row)
    return [result] * len(call.node.outputs)


def _constant(walk: Walk, call: Call, branches: list[np.ndarray]) -> tuple[Constant, np.ndarray]:
    """The call's constant and the resulting constants of its output."""
    operation, key = call.node.operation, layer_key(call.node.operation)
    matrix = np.array(branches)
    reason = call.reason or _misread(walk, operation, branches)
    if reason:
        return none(reason), np.full(matrix.shape[1], np.inf)
    if key in MERGES and len(branches) > 1 and type(operation) not in walk.rules:
        with np.errstate(over="ignore"):
            result = MERGES[key](operation, call.node.input_tensors, matrix)
        joined = Constant(1.0, "upper bound", f"joins {len(branches)} branches")
        overflow = np.isfinite(matrix).all() and not np.isfinite(result).all()
        return none(_OVERFLOW_JOIN) if overflow else joined, result
    return _times(_unary(walk, call), np.hypot.reduce(matrix, axis=0))


def _unary(walk: Walk, call: Call) -> Constant:
    """The constant with respect to the call's input, or to all of its inputs together; remembered."""
    operation, shapes = call.node.operation, [tuple(t.shape)[1:] for t in call.node.input_tensors]
    if call.fold is operation:
        return Constant(1.0, note="folded into the layer before")
    key = (id(operation), *shapes, id(call.fold))
    if key not in walk.known:
        walk.known[key] = _compute(walk, call, shapes)
    return walk.known[key]


def _compute(walk: Walk, call: Call, shapes: list[tuple]) -> Constant:
    node, operation, fold, key = call.node, call.node.operation, call.fold, layer_key(call.node.operation)
    if type(operation) in walk.rules:
        return _user_constant(walk, operation, shapes[0] if len(shapes) == 1 else shapes)
    if key in OPERATORS and len(shapes) == 1:
        return operator_constant(operation, node.arguments.args, shapes[0], tuple(node.outputs[0].shape)[1:])
    if len(shapes) > 1:
        reason = REASONS.get(layer_key(_innermost(operation)))
        return none(reason or f"no rule for {key} called with {len(shapes)} tensors")
    scale = None if fold is None else batch_normalization_scale(fold)
    site = Site(operation, shapes[0], functools.partial(_layer_constant, walk), scale, walk.exact, walk.rtol)
    constant = _layer_constant(walk, site)
    return (
        constant
        if fold is None
        else dataclasses.replace(constant, note=_join(constant.note, f"times {fold.name}"))
    )


def _layer_constant(walk: Walk, site: Site) -> Constant:
    """The constant of a layer of one input, found in the user's rules, then in lipnb's."""
    layer, key = site.layer, layer_key(site.layer)
    if type(layer) in walk.rules:
        return _user_constant(walk, layer, site.shape)
    if is_graph(layer):
        return _model_constant(walk, layer, site.shape)
    if getattr(layer, "quantization_mode", None) is not None:
        return none(f"quantized ({layer.quantization_mode}): rounding jumps")
    if key not in RULES:
        name = type(layer).__name__ if isinstance(layer, keras.Layer) else key
        unknown = f"no rule for {key}: give one, rules={{{name}: lambda layer, shape: ...}}"
        return none(REASONS.get(key, unknown))
    return RULES[key](site)


def _model_constant(walk: Walk, model: Any, shape: tuple) -> Constant:
    """The bound of a model of one input inside a wrapper such as TimeDistributed."""
    graph, inner = functional_graph(model), Walk(walk.rules, walk.exact, walk.rtol)
    bound = run(inner, graph)
    if len(graph.inputs) > 1 or inner.tokens or not fits(shape, tuple(graph.inputs[0].shape)[1:]):
        return none(f"a wrapped model must have one input of numbers, of shape {shape}")
    if math.isinf(bound):
        return none(next((row.note for row in inner.rows if row.kind == "no constant"), _OVERFLOW))
    return Constant(bound, "upper bound", f"model of {len(inner.rows)} layers")


def _user_constant(walk: Walk, layer: Any, shape: Any) -> Constant:
    value = walk.rules[type(layer)](layer, shape)
    if not isinstance(value, numbers.Real) or math.isnan(value) or value < 0:
        raise ValueError(
            f"The rule for {type(layer).__name__} must return a number >= 0. Received: {value!r}"
        )
    return (
        none("the given rule says so")
        if math.isinf(value)
        else Constant(float(value), "upper bound", "given rule")
    )


def _misread(walk: Walk, operation: Any, branches: list[np.ndarray]) -> str:
    """Notes which inputs are read as indices and which as numbers; an index must be an input itself."""
    inputs = {walk.inputs[id(b)] for b in branches if id(b) in walk.inputs}
    if layer_key(_innermost(operation)) != "Embedding":
        walk.numbers.update(inputs)
        return ""
    walk.tokens.update(inputs)
    return "" if inputs else "its indices are computed, and rounding to an index jumps"


def _innermost(operation: Any) -> Any:
    """The layer inside of all wrappers."""
    return _innermost(operation.layer) if hasattr(operation, "layer") else operation


# Numbers -------------------------------------------------------------------------------------------------


def _times(constant: Constant, vector: np.ndarray) -> tuple[Constant, np.ndarray]:
    """constant · vector with 0 · ∞ = 0: a constant function of anything is constant."""
    with np.errstate(over="ignore", invalid="ignore"):
        result = np.where((vector == 0) | (constant.value == 0), 0.0, constant.value * vector)
    overflow = math.isfinite(constant.value) and np.isfinite(vector).all() and not np.isfinite(result).all()
    return none(_OVERFLOW) if overflow else constant, result


def _joint_norm(constants: np.ndarray) -> float:
    """‖C‖₂ of outputs × inputs."""
    return spectral_norm(constants) if np.isfinite(constants).all() else math.inf


def _join(*notes: str) -> str:
    return ", ".join(filter(None, notes))
