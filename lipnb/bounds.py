"""A proven upper bound of a model's Lipschitz constant: the walk over its graph.

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
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import keras
import numpy as np

from lipnb.bound_table import LayerBound, LipschitzBound
from lipnb.conv_norms import check_tolerance
from lipnb.graph import foldable, functional_graph, graph_nodes, is_graph, refusal
from lipnb.norms import spectral_norm
from lipnb.rules import MERGES, OPERATORS, REASONS, RULES, batch_normalization_scale, operator_constant
from lipnb.sites import Constant, Site, layer_key, none

__all__ = ["lipschitz_bound"]

_MIXED = "feeds Embedding layers as indices and other layers as numbers"
_OVERFLOW = "the product of the constants overflows float64"
_OVERFLOW_JOIN = "the joint constant overflows float64, or a branch of unknown shape is repeated"

UserRules = Mapping[type, Callable[[Any, tuple], float]]


def lipschitz_bound(
    model: keras.Model,
    *,
    exact: bool | Literal["auto"] = "auto",
    rtol: float = 1e-6,
    rules: UserRules | None = None,
) -> LipschitzBound:
    """Proven upper bound of sup ‖f(x) − f(y)‖ / ‖x − y‖ over all x ≠ y, with a row for each layer.

    Parameters
    ----------
    model
        Built Sequential or functional model, seen at inference, ``model(x, training=False)``; several inputs or
        outputs count as one vector. An integer input that feeds only Embedding layers counts as one-hot vectors.
    exact
        Convolutions: ``"auto"`` takes an SVD of the small and pointwise ones and ``conv_norm_bound`` of the others,
        False always the latter. True takes ``conv_norm`` enlarged by ``rtol``: tighter and slower, and certain
        but for the improbable start that its guarantee names.
    rtol
        Relative tolerance of ``exact=True``, from 1e-9 to below 1.
    rules
        For your own layer class, a function of the layer and its input shape (without the batch) that
        returns a proven constant: ``{MyLayer: lambda layer, shape: 2.0}``. It goes before lipnb's rule.

    Returns
    -------
    LipschitzBound
        ``float(result)`` is the bound; infinite where a layer has no global constant or is unknown, and then
        ``result.reasons`` names the layer and the reason. See :class:`lipnb.LipschitzBound`.

    Guarantee
    ---------
    Upper bound for the model in exact arithmetic; rounding (of the model itself, and of float64 here, about
    1e-13 for each layer) is not included.

    Raises
    ------
    TypeError, ValueError
        Where the model is not a Keras model, is subclassed or not built, or has weights that are not finite; for
        exact, rtol or rules that are not as above.

    Source
    ------
    Szegedy et al. 2014 (arXiv 1312.6199), section 4.3, for chains of layers; Gouk et al. 2021 (arXiv 1804.04368)
    for pooling, residuals and batch normalization; this book, chapter "The Lipschitz constraint, from one layer to
    a network".

    Example
    -------
    >>> stack = [keras.layers.Dense(n, kernel_initializer="ones") for n in (3, 1)]
    >>> model = keras.Sequential([keras.Input((2,)), *stack])
    >>> bound = lipnb.lipschitz_bound(model)
    >>> [round(row.constant, 4) for row in bound.rows], round(float(bound), 4)
    ([2.4495, 1.7321], 4.2426)
    """
    graph = functional_graph(model)
    if not (isinstance(exact, bool) or (isinstance(exact, str) and exact == "auto")):
        raise ValueError(f'exact must be True, False or "auto". Received: {exact!r}')
    walk = _Walk(_checked_rules(rules), exact, check_tolerance(rtol))
    value = _run(walk, graph)
    return LipschitzBound(value, model.name, tuple(walk.rows))


def _checked_rules(rules: Any) -> dict[type, Callable[[Any, tuple], float]]:
    given = {} if rules is None else rules
    if not isinstance(given, Mapping) or not all(
        isinstance(k, type) and callable(f) for k, f in given.items()
    ):
        raise TypeError(
            f"rules must map layer classes to functions of a layer and its input shape. Received: {rules!r}"
        )
    return dict(given)


@dataclasses.dataclass(frozen=True)
class _Walk:
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


def _run(walk: _Walk, graph: Any) -> float:
    """The bound of the graph; an input's constants are a unit vector, recognised by its identity."""
    inputs = list(np.eye(len(graph.inputs)))
    walk.inputs.update((id(vector), i) for i, vector in enumerate(inputs))
    outputs = _walk(walk, graph, inputs, "")
    walk.numbers.update(walk.inputs[id(vector)] for vector in outputs if id(vector) in walk.inputs)
    for i in walk.tokens & walk.numbers:
        walk.rows.append(
            LayerBound(graph.inputs[i].name, "Input", "no constant", math.inf, math.inf, 0.0, _MIXED)
        )
    return math.inf if walk.tokens & walk.numbers else _joint_norm(np.array(outputs))


def _walk(walk: _Walk, graph: Any, inputs: Sequence[np.ndarray], prefix: str) -> list[np.ndarray]:
    """The constants of the graph's outputs, given those of its inputs; rows are appended on the way."""
    nodes = list(graph_nodes(graph))
    folds = foldable(graph, nodes, walk.rules)
    constants = dict(zip(map(id, graph.inputs), inputs, strict=True))
    for node in nodes:
        branches = [constants[id(t)] for t in node.input_tensors]
        results = _visit(walk, node, branches, prefix, folds.get(id(node)))
        constants.update(zip(map(id, node.outputs), results, strict=True))
    return [constants[id(t)] for t in graph.outputs]


# One node ------------------------------------------------------------------------------------------------


def _visit(walk: _Walk, node: Any, branches: list[np.ndarray], prefix: str, fold: Any) -> list[np.ndarray]:
    """The constants of the node's outputs; appends its row, or those of a nested model."""
    operation, start = node.operation, time.perf_counter()
    if is_graph(operation) and not refusal(node):
        return _walk(walk, functional_graph(operation), branches, f"{prefix}{operation.name}/")
    constant, result = _constant(walk, node, branches, fold)
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
    return [result] * len(node.outputs)


def _constant(walk: _Walk, node: Any, branches: list[np.ndarray], fold: Any) -> tuple[Constant, np.ndarray]:
    """The node's constant and the resulting constants of its output."""
    operation, key = node.operation, layer_key(node.operation)
    matrix = np.array(branches)
    reason = refusal(node) or _misread(walk, operation, branches)
    if reason:
        return none(reason), np.full(matrix.shape[1], np.inf)
    if key in MERGES and len(branches) > 1 and type(operation) not in walk.rules:
        with np.errstate(over="ignore"):
            result = MERGES[key](operation, node.input_tensors, matrix)
        joined = Constant(1.0, "upper bound", f"joins {len(branches)} branches")
        overflow = np.isfinite(matrix).all() and not np.isfinite(result).all()
        return none(_OVERFLOW_JOIN) if overflow else joined, result
    constant = _unary(walk, node, fold)
    return _times(constant, np.hypot.reduce(matrix, axis=0))


def _unary(walk: _Walk, node: Any, fold: Any) -> Constant:
    """The constant with respect to the node's input, or to all of its inputs together; remembered."""
    operation, shapes = node.operation, [tuple(t.shape)[1:] for t in node.input_tensors]
    if fold is operation:
        return Constant(1.0, note="folded into the layer before")
    key = (id(operation), *shapes, id(fold))
    if key not in walk.known:
        walk.known[key] = _compute(walk, node, shapes, fold)
    return walk.known[key]


def _compute(walk: _Walk, node: Any, shapes: list[tuple], fold: Any) -> Constant:
    operation, key = node.operation, layer_key(node.operation)
    if type(operation) in walk.rules:
        return _user_constant(walk, operation, shapes[0] if len(shapes) == 1 else shapes)
    if key in OPERATORS and len(shapes) == 1:
        copies = _size_ratio(shapes[0], tuple(node.outputs[0].shape)[1:])
        return operator_constant(operation, node.arguments.args, copies)
    if len(shapes) > 1:
        return none(REASONS.get(key, f"no rule for {key} called with {len(shapes)} tensors"))
    scale = None if fold is None else batch_normalization_scale(fold)
    site = Site(operation, shapes[0], functools.partial(_layer_constant, walk), scale, walk.exact, walk.rtol)
    constant = _layer_constant(walk, site)
    return (
        constant
        if fold is None
        else dataclasses.replace(constant, note=_join(constant.note, f"times {fold.name}"))
    )


def _layer_constant(walk: _Walk, site: Site) -> Constant:
    """The constant of a layer of one input, found in the user's rules, then in lipnb's."""
    layer, key = site.layer, layer_key(site.layer)
    if type(layer) in walk.rules:
        return _user_constant(walk, layer, site.shape)
    if is_graph(layer):
        return _model_constant(walk, layer)
    if getattr(layer, "quantization_mode", None) is not None:
        return none(f"quantized ({layer.quantization_mode}): rounding jumps")
    if key not in RULES:
        unknown = f"no rule for {key}: give one, rules={{{type(layer).__name__}: lambda layer, shape: ...}}"
        return none(REASONS.get(key, unknown))
    return RULES[key](site)


def _model_constant(walk: _Walk, model: Any) -> Constant:
    """The bound of a model of one input inside a wrapper such as TimeDistributed."""
    graph, inner = functional_graph(model), _Walk(walk.rules, walk.exact, walk.rtol)
    bound = _run(inner, graph)
    if len(graph.inputs) > 1 or inner.tokens:
        return none("a wrapped model must have one input of numbers")
    if math.isinf(bound):
        return none(next((row.note for row in inner.rows if row.kind == "no constant"), _OVERFLOW))
    return Constant(bound, "upper bound", f"model of {len(inner.rows)} layers")


def _user_constant(walk: _Walk, layer: Any, shape: Any) -> Constant:
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


def _misread(walk: _Walk, operation: Any, branches: list[np.ndarray]) -> str:
    """Notes which inputs are read as indices and which as numbers; an index must be an input itself."""
    inputs = {walk.inputs[id(b)] for b in branches if id(b) in walk.inputs}
    while hasattr(operation, "layer"):
        operation = operation.layer
    if layer_key(operation) != "Embedding":
        walk.numbers.update(inputs)
        return ""
    walk.tokens.update(inputs)
    return "" if inputs else "its indices are computed, and rounding to an index jumps"


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


def _size_ratio(before: tuple, after: tuple) -> float:
    if None in before or None in after:
        return 1.0 if before == after else math.inf
    return math.prod(after) / math.prod(before)


def _join(*notes: str) -> str:
    return ", ".join(filter(None, notes))
