"""What Lipschitz constant a trained critic has: of each layer, and of the whole from both sides."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from lipnb.bounds import lipschitz_bound
from lipnb.convolutions import conv_norm
from lipnb.estimates import lipschitz_estimate
from lipnb.norms import spectral_norm
from lipnb.penalties import input_gradient_norm
from lipnb.wrapper import KernelNormalization

__all__ = ["as_plain", "layer_norms", "lipschitz_interval"]


def as_plain(critic: keras.Model) -> keras.Model:
    """The function of ``critic`` at inference as layers of Keras's own: wrapped layers hold the kernels they use."""
    if not isinstance(critic, keras.Sequential):
        return keras.models.clone_model(critic, clone_function=_plain_layer)
    plain = keras.Sequential([keras.Input(critic.input_shape[1:])])
    for layer in critic.layers:
        plain.add(_plain_layer(layer))
    return plain


def _plain_layer(layer: keras.Layer) -> keras.Layer:
    if isinstance(layer, KernelNormalization):
        return layer.to_plain()
    if isinstance(layer, keras.layers.SpectralNormalization):
        return layer.layer  # at inference it leaves its weights alone
    return layer


def layer_norms(critic: keras.Sequential, *, rtol: float = 1e-4) -> list[dict[str, Any]]:
    """For each layer with a kernel: its type, the norm of the reshaped kernel and that of the operator it is.

    Both belong to the kernel that inference computes with. They differ for convolutions only (I5). The first is
    exact to rounding, the second to ``rtol``.
    """
    found = []
    for layer in as_plain(critic).layers:
        if isinstance(layer, keras.layers.Conv2D | keras.layers.Dense):
            kernel = np.asarray(keras.ops.convert_to_numpy(layer.kernel), np.float64)
            reshaped = spectral_norm(kernel.reshape(-1, kernel.shape[-1]))
            operator = reshaped if kernel.ndim == 2 else _operator_norm(layer, kernel, rtol)
            found.append(
                {"type": type(layer).__name__, "reshaped": float(reshaped), "operator": float(operator)}
            )
    return found


def _operator_norm(layer: keras.layers.Conv2D, kernel: np.ndarray, rtol: float) -> float:
    shape = tuple(layer.input.shape[1:])
    return conv_norm(kernel, shape, layer.strides, layer.padding, layer.dilation_rate, layer.groups, rtol)


def lipschitz_interval(
    critic: keras.Model, points: np.ndarray, *, n_steps: int = 50, n_starts: int = 8
) -> dict[str, float]:
    """The critic's Lipschitz constant at inference, from below and from above.

    Parameters
    ----------
    points
        Batch of inputs: the largest gradient norm among them is ``at_points``; the search for ``lower`` starts
        from the ``n_starts`` of largest gradient and takes ``n_steps`` steps.

    Returns
    -------
    ``at_points`` ≤ ``lower`` ≤ L ≤ ``upper``. The upper bound is proven, batch normalization folded in with its
    moving statistics; convolutions count with their operator norms, to 1e-4 (``exact=True`` of ``lipschitz_bound``).
    """
    plain = as_plain(critic)
    norms = np.asarray(keras.ops.convert_to_numpy(input_gradient_norm(plain, points)))
    starts = points[np.argsort(-norms)[:n_starts]]
    lower = lipschitz_estimate(plain, starts, n_steps=n_steps).value
    upper = float(lipschitz_bound(plain, exact=True, rtol=1e-4))
    return {"at_points": float(norms.max()), "lower": max(lower, float(norms.max())), "upper": upper}
