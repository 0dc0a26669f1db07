"""Bounds of SimpleRNN, LSTM and GRU over T time steps, from the whole input sequence.

Each cell gives nonnegative matrices with δ_t ≤ M_t δ_{t−1} + N_t ‖Δx_t‖, where δ_t holds the norms of the
differences of its states. Unrolled, (‖Δh_1‖, …, ‖Δh_T‖) ≤ L (‖Δx_1‖, …, ‖Δx_T‖) entrywise with a nonnegative lower
triangular L, so ‖L‖₂ bounds the sequence of outputs and the norm of L's last row bounds the last output.

The gated cells need gates in [0, 1] and an activation in [−1, 1], and start from zero states: then |h_t| ≤ 1
and |c_t| ≤ t entrywise, which bounds every product of a state and a gate's difference. Below, W_g and U_g are
a gate's input and recurrent kernels and λ, α the constants of the recurrent activation and the activation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from lipnb.activations import activation_constant
from lipnb.norms import spectral_norm
from lipnb.sites import Constant, Rule, Site, layer_key, none, weight_array

__all__ = ["RECURRENT_RULES"]

_LARGEST_SVD = 512
_GATES = ("hard_sigmoid", "sigmoid", "sparse_sigmoid")
_SQUASHING = ("hard_tanh", "softsign", "tanh", *_GATES)

Step = Callable[[int], tuple[np.ndarray, np.ndarray]]


def recurrent(site: Site) -> Constant:
    """√ or norm of the triangular matrix L of the module's docstring; an upper bound."""
    layer, steps = site.layer, site.shape[0]
    cell = getattr(layer, "cell", None)
    reason = _refusal(layer, cell, steps)
    if reason or steps is None:
        return none(reason)
    step = _CELLS[layer_key(cell)](cell)
    with np.errstate(over="ignore", invalid="ignore"):
        value = _sequence_norm(step, steps) if layer.return_sequences else _last_norm(step, steps)
    if not math.isfinite(value):
        return none(f"the bound over {steps} time steps overflows float64")
    return Constant(value, "upper bound", f"{steps} time steps")


def _refusal(layer: Any, cell: Any, steps: int | None) -> str:
    if cell is None or layer_key(cell) not in _CELLS:
        return f"no rule for the cell {type(cell).__name__}"
    if layer.stateful:
        return "stateful: the output depends on earlier batches"
    if steps is None:
        return "needs a fixed number of time steps"
    if not math.isfinite(activation_constant(cell.activation, cell.units).value):
        return activation_constant(cell.activation, cell.units).note
    if layer_key(cell) == "SimpleRNNCell":
        return ""
    if _name(cell.activation) not in _SQUASHING or _name(cell.recurrent_activation) not in _GATES:
        return (
            "products of gates and states: unbounded unless the gates are in [0, 1] and the states in [-1, 1]"
        )
    return ""


def _name(activation: Any) -> str:
    return getattr(activation, "__name__", "")


def _simple_rnn(cell: Any) -> Step:
    """‖Δh_t‖ ≤ α(‖U‖‖Δh_{t−1}‖ + ‖W‖‖Δx_t‖)."""
    alpha = activation_constant(cell.activation, cell.units).value
    ((w, u),) = _gate_norms(cell, 1)
    return lambda t: (np.array([[alpha * u]]), np.array([alpha * w]))


def _lstm(cell: Any) -> Step:
    """c_t = f c_{t−1} + i g and h_t = o φ(c_t), with |c_{t−1}| ≤ t − 1.

    ‖Δc_t‖ ≤ ‖Δc_{t−1}‖ + (t − 1)‖Δf‖ + ‖Δi‖ + ‖Δg‖ and ‖Δh_t‖ ≤ α‖Δc_t‖ + ‖Δo‖, where
    ‖Δf‖ ≤ λ(‖W_f‖‖Δx_t‖ + ‖U_f‖‖Δh_{t−1}‖), likewise i, o, and g with α.
    """
    lam, alpha = _slopes(cell)
    i, f, g, o = (np.array(pair) for pair in _gate_norms(cell, 4))

    def step(t: int) -> tuple[np.ndarray, np.ndarray]:
        w, u = lam * ((t - 1) * f + i) + alpha * g
        carry = np.array([1.0, u])
        return np.stack([carry, alpha * carry + [0.0, lam * o[1]]]), np.array([w, alpha * w + lam * o[0]])

    return step


def _gru(cell: Any) -> Step:
    """h_t = z h_{t−1} + (1 − z) g, so ‖Δh_t‖ ≤ ‖Δh_{t−1}‖ + ‖Δg‖ + 2‖Δz‖, as |h_{t−1} − g| ≤ 2.

    g = φ(W_g x + r (U_g h + b)): ‖Δg‖ ≤ α(‖W_g‖‖Δx‖ + ‖U_g‖‖Δh‖ + B‖Δr‖), B = max_j(Σ_i|U_g,ij| + |b_j|). With the
    reset before the product, g = φ(W_g x + U_g(r h)), B = ‖U_g‖.
    """
    lam, alpha = _slopes(cell)
    z, r, g = (np.array(pair) for pair in _gate_norms(cell, 3))
    w, u = alpha * g + (2 * lam) * z + (alpha * _reset_range(cell, g[1]) * lam) * r
    return lambda t: (np.array([[1.0 + u]]), np.array([w]))


def _reset_range(cell: Any, norm: float) -> float:
    if not cell.reset_after:
        return norm
    columns = np.abs(weight_array(cell, "recurrent_kernel")[:, -cell.units :]).sum(axis=0)
    if cell.use_bias:
        columns += np.abs(weight_array(cell, "bias")[1, -cell.units :])
    return float(columns.max())


def _slopes(cell: Any) -> tuple[float, float]:
    return activation_constant(cell.recurrent_activation).value, activation_constant(cell.activation).value


def _gate_norms(cell: Any, gates: int) -> list[tuple[float, float]]:
    kernels = np.split(weight_array(cell, "kernel"), gates, axis=1)
    recurrents = np.split(weight_array(cell, "recurrent_kernel"), gates, axis=1)
    return [(spectral_norm(w), spectral_norm(u)) for w, u in zip(kernels, recurrents, strict=True)]


def _last_norm(step: Step, steps: int) -> float:
    """Norm of the last row of L, from the products M_T ⋯ M_{t+1} N_t."""
    total, back = 0.0, None
    for t in range(steps, 0, -1):
        m, n = step(t)
        back = np.eye(len(n))[-1] if back is None else back
        total, back = math.hypot(total, back @ n), back @ m
    return total


def _sequence_norm(step: Step, steps: int) -> float:
    """‖L‖₂ by SVD up to 512 steps, beyond √(‖L‖₁‖L‖_∞)."""
    state = np.zeros((len(step(1)[1]), steps))
    columns, largest, rows = np.zeros(steps), 0.0, []
    for t in range(1, steps + 1):
        m, n = step(t)
        state = m @ state
        state[:, t - 1] = n
        columns, largest = columns + state[-1], max(largest, float(state[-1].sum()))
        if steps <= _LARGEST_SVD:
            rows.append(state[-1])
    if not rows or not np.isfinite(columns).all():
        return math.sqrt(columns.max()) * math.sqrt(largest)
    return spectral_norm(np.stack(rows))


def bidirectional(site: Site) -> Constant:
    """Forward and backward bounds a, b joined by the merge mode: √(a² + b²), a + b or (a + b)/2."""
    layer = site.layer
    forward, backward = site.at(layer.forward_layer), site.at(layer.backward_layer)
    for part in (forward, backward):
        if math.isinf(part.value):
            return part
    a, b = forward.value, backward.value
    merged = {"concat": math.hypot(a, b), "sum": a + b, "ave": (a + b) / 2}
    if layer.merge_mode not in merged:
        return none(f"merge_mode={layer.merge_mode!r} of the two directions has no rule")
    return Constant(merged[layer.merge_mode], "upper bound", forward.note)


def time_distributed(site: Site) -> Constant:
    """The inner layer's constant: it acts on each time step alone."""
    return site.at(site.layer.layer, site.shape[1:])


_CELLS: dict[str, Callable[[Any], Step]] = {"SimpleRNNCell": _simple_rnn, "LSTMCell": _lstm, "GRUCell": _gru}

RECURRENT_RULES: dict[str, Rule] = {
    **dict.fromkeys(("RNN", "SimpleRNN", "LSTM", "GRU"), recurrent),
    "Bidirectional": bidirectional,
    "TimeDistributed": time_distributed,
}
