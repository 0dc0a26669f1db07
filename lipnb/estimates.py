"""Lower bounds of a model's Lipschitz constant by search, and the radius that an upper bound certifies.

At any point x where f is differentiable and for any unit vectors u, v, ‖J(x)ᵀu‖ ≤ ‖J(x)‖₂ ≤ L and ‖J(x)v‖ ≤ L. The
search looks at two points x ± r v at once: with g± = J(x ± r v)ᵀu, one gradient of ⟨u, f⟩ at each,

- v ← (g₊ + g₋)/‖·‖ and u ← (f(x + rv) − f(x − rv))/‖·‖ is power iteration on J(x), smoothed over a length r;
- (g₊ − g₋)/2r is the gradient of ⟨u, J(x)v⟩ with respect to x, smoothed likewise. It moves x uphill, also where
  f is piecewise linear and the derivative of J vanishes almost everywhere.

r shrinks as the search goes on. Every ‖g±‖ seen is a lower bound; the largest is kept.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from lipnb.bound_table import LipschitzBound
from lipnb.checks import check_count, check_flag, check_positive, float_array
from lipnb.finite import check_weights
from lipnb.graph import functional_graph, is_graph
from lipnb.rows import Shapes, evaluation, rounding_unit, split

__all__ = ["LipschitzEstimate", "certified_radius", "lipschitz_estimate"]


@dataclasses.dataclass(frozen=True)
class LipschitzEstimate:
    """A lower bound of a Lipschitz constant and where it was found.

    ``value`` ≤ ‖J(point) direction‖, to rounding; ``point`` and ``direction`` are lists with one float64 array
    for each input of the model, shaped like it without the batch; all of ``direction`` together has norm 1.
    ``float()`` of it is the value.
    """

    value: float
    point: list[np.ndarray]
    direction: list[np.ndarray]

    def __float__(self) -> float:
        return self.value

    def __repr__(self) -> str:
        return f"LipschitzEstimate({self.value:.6g})"


def lipschitz_estimate(
    model: keras.Model,
    x: Any = None,
    *,
    n_steps: int = 100,
    n_starts: int = 8,
    seed: int = 0,
    compiled: bool = True,
) -> LipschitzEstimate:
    """Largest ‖J(x)ᵀu‖₂, ‖u‖ = 1, that a gradient search finds: a lower bound of the Lipschitz constant.

    Parameters
    ----------
    model
        Built model, seen at inference, with floating-point inputs; several inputs, or outputs, count as one vector.
    x
        Points to start from, (batch, …), or a list of such for several inputs; Gaussian where not given.
    n_steps
        Steps, each of two gradients for every start.
    n_starts
        Number of Gaussian starts, where x is not given.
    seed
        Of the Gaussian starts and directions, an integer of at least 0.
    compiled
        Whether to compile the step, which pays from a few dozen steps on.

    Returns
    -------
    LipschitzEstimate
        ``float(result)`` is the estimate; ``point`` and ``direction`` say where it was found, an array for each input.

    Guarantee
    ---------
    Lower bound, to the rounding of the model's own dtype, at points where the model is differentiable (almost
    all). It can be far below the constant: the search is local, and finding the maximum is NP-hard. Gradients are the
    backend's; one that the model's values nearby contradict by a factor of 10 does not count.

    Raises
    ------
    TypeError, ValueError
        Where the model is not built, has an integer input, an open shape and no x, or weights that are not
        finite, where x does not fit it, and for bad settings.
    RuntimeError
        Where every gradient found contradicts the values of the model. Known: on TensorFlow 2.21, that of
        AdaptiveMaxPooling to size 1 on an axis is memory that was never written.

    Source
    ------
    Virmaux & Scaman 2018 (arXiv 1805.10965) for the hardness; power iteration on J as in Yoshida & Miyato 2017
    (arXiv 1705.10941), by finite differences.

    Example
    -------
    >>> dense = keras.layers.Dense(1, "tanh", kernel_initializer="ones")
    >>> model = keras.Sequential([keras.Input((2,)), dense])
    >>> round(float(lipnb.lipschitz_estimate(model, n_steps=50)), 2)  # sqrt(2)
    1.41
    """
    declared = _input_shapes(model)
    steps, starts = check_count(n_steps, "n_steps"), check_count(n_starts, "n_starts")
    compiled = check_flag(compiled, "compiled")
    generator = np.random.default_rng(check_count(seed, "seed", minimum=0))
    points = _random_points(declared, starts, generator) if x is None else _given_points(x, declared)
    check_weights(model)
    shapes = [array.shape[1:] for array in points]
    flat = np.concatenate([array.reshape(len(array), -1) for array in points], axis=1)
    evaluate, unit = evaluation(model, shapes, compiled), rounding_unit(model)
    value, point, direction = _search(evaluate, flat, steps, generator, unit)
    return LipschitzEstimate(value, split(point[None], shapes), split(direction[None], shapes))


def certified_radius(logits: Any, bound: Any) -> np.ndarray:
    """Radius within which no perturbation changes the class: (top logit − second logit)/(√2 · bound).

    A perturbation δ moves the difference of two logits, ⟨e_i − e_j, f⟩, by at most √2 · bound · ‖δ‖₂.

    Parameters
    ----------
    logits
        Floating-point array (batch, classes) of at least two classes: what the bounded model puts out.
    bound
        Upper bound of the model's Euclidean Lipschitz constant: the result of :func:`lipnb.lipschitz_bound`, or a
        number of at least 0. Infinity certifies radius 0; 0, of a constant model, every radius where there is a
        margin.

    Returns
    -------
    array
        float64, (batch,), in the units of the model's input; 0 where two logits share the top.

    Raises
    ------
    TypeError, ValueError
        Where logits are not a finite floating-point matrix of two columns or more, bound is not a number of at least 0,
        or it is an estimate, which is a lower bound and certifies nothing.

    Source
    ------
    Tsuzuku, Sato & Sugiyama 2018 (arXiv 1802.04034), proposition 1; this book, chapter "A small constant and a
    quiet network".

    Example
    -------
    >>> lipnb.certified_radius([[2.0, 0.0, 1.0]], bound=2.0).round(4)
    array([0.3536])
    """
    array = float_array(logits, "logits", ndim=2)
    if array.shape[1] < 2:
        raise ValueError(f"logits must have at least 2 classes. Received: shape {array.shape}")
    value = _upper_bound(bound)
    second, first = np.partition(array, -2, axis=1)[:, -2:].T
    if value == 0:
        return np.where(first > second, math.inf, 0.0)
    with np.errstate(over="ignore"):
        return (first - second) / (math.sqrt(2) * value)


def _upper_bound(bound: Any) -> float:
    if isinstance(bound, LipschitzEstimate):
        raise TypeError(
            f"bound must be an upper bound, as of lipschitz_bound. Received: {bound!r}, a lower bound"
        )
    value = float(bound) if isinstance(bound, LipschitzBound) else bound
    infinite = isinstance(value, numbers.Real) and value == math.inf
    return math.inf if infinite else check_positive(value, "bound", allow_zero=True)


# The search ----------------------------------------------------------------------------------------------

EXPLORING = 0.7  # share of the steps that move x; the others iterate on J at the best point of each start
FINAL = 3e-4  # the last r, relative to ‖x‖


def _search(
    evaluate: Callable, x: np.ndarray, n_steps: int, generator: np.random.Generator, unit: float
) -> tuple[float, np.ndarray, np.ndarray]:
    """The largest ‖J(point)ᵀu‖ seen, its point and its direction, from the starts ``x`` (starts, inputs)."""
    scale = np.linalg.norm(x, axis=1).mean() or 1.0
    v = _unit(generator.standard_normal(x.shape))
    outputs, _ = evaluate(x, None)
    u = _unit(generator.standard_normal(outputs.shape))
    best, best_x, best_v = np.zeros(len(x)), x, v
    for step in range(n_steps):
        progress = step / (EXPLORING * n_steps)
        if progress >= 1:
            x, v = best_x, best_v
        r = scale * (10 ** (-2 * progress) if progress < 1 else FINAL)
        ends = np.concatenate([x + r * v, x - r * v])
        outputs, gradients = evaluate(ends, np.concatenate([u, u]))
        best, best_x, best_v = _keep_best((best, best_x, best_v), ends, gradients)
        ahead, behind = np.split(gradients, 2)
        v = _unit(ahead + behind, v)
        u = _unit(np.subtract(*np.split(outputs, 2)), u)
        x = x + 0.5 * r * _unit(ahead - behind)
    confirmed = best <= 10 * _quotients(evaluate, best_x, best_v, scale, unit)
    if not confirmed.any():
        raise RuntimeError(
            f"lipschitz_estimate needs right gradients, and {keras.backend.backend()}'s contradict the values of the "
            f"model nearby. Received: norms {best}"
        )
    top = int(np.argmax(np.where(confirmed, best, -1.0)))
    return float(best[top]), best_x[top], best_v[top]


def _quotients(evaluate: Callable, x: np.ndarray, v: np.ndarray, scale: float, unit: float) -> np.ndarray:
    """Largest ‖f(x + hv) − f(x)‖/|h| over some small h, of each row, and what rounding may hide in it."""
    steps = [sign * h * scale for h in (FINAL, FINAL / 30) for sign in (1, -1)]
    outputs, _ = evaluate(np.concatenate([x, *(x + h * v for h in steps)]), None)
    start, *ends = np.split(outputs, 1 + len(steps))
    quotients = [_norms(end - start)[:, 0] / abs(h) for end, h in zip(ends, steps, strict=True)]
    rounding = unit * np.abs(start).max(axis=1) / min(map(abs, steps))
    return np.max(quotients, axis=0) + rounding


def _keep_best(best: tuple, ends: np.ndarray, gradients: np.ndarray) -> tuple:
    """Value, point and direction of each start, replaced where one of its two ends has a larger gradient."""
    for points, g in zip(np.split(ends, 2), np.split(gradients, 2), strict=True):
        norms = _norms(g)[:, 0]
        better = norms > best[0]
        candidates = (norms, points, _unit(g))
        best = tuple(
            np.where(better.reshape(-1, *[1] * (b.ndim - 1)), c, b)
            for c, b in zip(candidates, best, strict=True)
        )
    return best


def _unit(rows: np.ndarray, fallback: np.ndarray | None = None) -> np.ndarray:
    """Each row divided by its norm; where that is 0, the row of ``fallback``, or zeros."""
    scaled = rows / _largest(rows)
    norms = np.linalg.norm(scaled, axis=1, keepdims=True)
    return np.where(
        norms > 0, scaled / np.where(norms > 0, norms, 1.0), 0.0 if fallback is None else fallback
    )


def _norms(rows: np.ndarray) -> np.ndarray:
    """Norm of each row, (rows, 1), without squares that leave the range."""
    largest = _largest(rows)
    return largest * np.linalg.norm(rows / largest, axis=1, keepdims=True)


def _largest(rows: np.ndarray) -> np.ndarray:
    largest = np.abs(rows).max(axis=1, keepdims=True)
    return np.where(largest > 0, largest, 1.0)


# Points -------------------------------------------------------------------------------------------------


def _input_shapes(model: Any) -> list[tuple[int | None, ...]] | None:
    """Shapes without the batch; None for a subclassed model, which does not tell."""
    if not isinstance(model, keras.Model):
        raise TypeError(f"model must be a keras.Model. Received: {type(model).__name__}")
    if not model.built:
        raise ValueError(f"model must be built. Received: {model.name!r}, not built")
    tensors = functional_graph(model).inputs if is_graph(model) else None
    for tensor in tensors or ():
        if "float" not in tensor.dtype:
            raise ValueError(
                f"model must have floating-point inputs. Received: {tensor.name!r}, {tensor.dtype}"
            )
    return tensors and [tuple(tensor.shape)[1:] for tensor in tensors]


def _random_points(shapes: Shapes | None, n_starts: int, generator: np.random.Generator) -> list[np.ndarray]:
    if shapes is None or any(None in shape for shape in shapes):
        raise ValueError(f"x must be given where the model leaves its input shape open. Received: {shapes}")
    return [generator.standard_normal((n_starts, *shape)) for shape in shapes]


def _given_points(x: Any, shapes: Shapes | None) -> list[np.ndarray]:
    arrays = [float_array(array, "x") for array in (x if isinstance(x, list | tuple) else [x])]
    given = [array.shape[1:] for array in arrays]
    if len({len(array) for array in arrays}) > 1 or not _fit(given, given if shapes is None else shapes):
        raise ValueError(
            f"x must hold points of shape (batch, ...) {shapes}. Received: {[a.shape for a in arrays]}"
        )
    return arrays


def _fit(given: Shapes, wanted: Shapes) -> bool:
    if [len(shape) for shape in given] != [len(shape) for shape in wanted]:
        return False
    pairs = ((n, m) for a, b in zip(given, wanted, strict=True) for n, m in zip(a, b, strict=True))
    return all(m in (None, n) for n, m in pairs)
