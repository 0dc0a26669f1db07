"""Constants of the layers that multiply with a weight: dense, einsum, convolutions, embedding.

The bias plays no part. A batch normalization that alone reads the output scales the output channels
(``site.scale``): ‖diag(s)W‖ ≤ max s · ‖W‖, so folding is never worse.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import keras
import numpy as np

from lipnb.activations import activation_constant
from lipnb.conv_matrices import OutputPaddingError
from lipnb.conv_norms import svd_norm
from lipnb.convolutions import conv_norm, conv_norm_bound
from lipnb.norms import spectral_norm
from lipnb.sites import Constant, Rule, Site, known, layer_key, none, weight_array

__all__ = ["LINEAR_RULES", "channel_axis", "is_linear"]


def dense(site: Site) -> Constant:
    """‖W‖₂ times the activation's constant; exact where the activation is linear."""
    kernel = weight_array(site.layer, "kernel")
    return _activated(site, Constant(spectral_norm(kernel * _scale(site))))


def einsum_dense(site: Site) -> Constant:
    """Largest ‖W_b‖₂ over the blocks b of axes that input, kernel and output share."""
    inputs, kernel_axes, outputs = site.layer.equation.replace("...", "").replace("->", ",").split(",")
    if set(inputs) - set(kernel_axes) - set(outputs) or set(kernel_axes) - set(inputs) - set(outputs):
        return none(f"no rule for the equation {site.layer.equation}: it sums over an axis of one operand")
    if any(len(set(axes)) < len(axes) for axes in (inputs, kernel_axes, outputs)):
        return none(f"no rule for the equation {site.layer.equation}: it repeats an axis")
    shared, summed = set(inputs) & set(outputs), set(inputs) - set(outputs)
    order = sorted(kernel_axes, key=lambda a: (a not in shared, a not in summed))
    kernel = weight_array(site.layer, "kernel")
    size = dict(zip(kernel_axes, kernel.shape, strict=True))
    rows = math.prod(size[a] for a in kernel_axes if a in summed)
    columns = math.prod(size[a] for a in kernel_axes if a not in shared | summed)
    blocks = np.einsum(f"{kernel_axes}->{''.join(order)}", kernel).reshape(-1, rows, columns)
    return _activated(site, Constant(max(map(spectral_norm, blocks))))


def convolution(site: Site) -> Constant:
    """Operator norm of the convolution at its input size."""
    kernel = weight_array(site.layer, "kernel")
    if layer_key(site.layer).startswith("Depthwise"):
        kernel, kind = kernel * _scale(site, kernel.shape[-2:]), "depthwise"
    elif layer_key(site.layer).endswith("Transpose"):
        kernel, kind = kernel * _scale(site, (-1, 1)), "transpose"
    else:
        kernel, kind = kernel * _scale(site), "conv"
    try:
        return _activated(site, _conv_constant(site, kernel, kind))
    except OutputPaddingError:
        return none("no rule for its output_padding, at which it is no transpose of a convolution")


def separable_convolution(site: Site) -> Constant:
    """The depthwise norm times the norm of the pointwise matrix."""
    depthwise = weight_array(site.layer, "depthwise_kernel")
    pointwise = weight_array(site.layer, "pointwise_kernel")
    matrix = pointwise.reshape(-1, pointwise.shape[-1]) * _scale(site)
    return _activated(site, _conv_constant(site, depthwise, "depthwise") * Constant(spectral_norm(matrix)))


def embedding(site: Site) -> Constant:
    """‖E‖₂, with respect to one-hot vectors: a position reads one row of the matrix E."""
    if site.layer.mask_zero:
        return none("mask_zero makes later layers skip time steps: a jump")
    embeddings = weight_array(site.layer, "embeddings")
    return Constant(spectral_norm(embeddings), note="with respect to one-hot inputs")


def normalized(site: Site) -> Constant:
    """The wrapped layer's constant with the weights that lipnb's wrapper gives it at inference."""
    wrapper = site.layer
    weights = zip(wrapper.kernels, wrapper.normalized_weights(), strict=True)
    with keras.StatelessScope(state_mapping=list(weights)):
        return site.inner(dataclasses.replace(site, layer=wrapper.layer))


def wrapped(site: Site) -> Constant:
    """The wrapped layer's constant: at inference keras.layers.SpectralNormalization leaves its weights alone."""
    return site.inner(dataclasses.replace(site, layer=site.layer.layer))


def is_linear(layer: Any) -> bool:
    """Whether a batch normalization can be folded into the layer."""
    layer = _bare(layer)
    return layer_key(layer) in _FOLDABLE and _is_identity(layer.activation)


def channel_axis(layer: Any, output: Any) -> int:
    """Axis of the layer's output channels."""
    layer = _bare(layer)
    first = getattr(layer, "data_format", "channels_last") == "channels_first"
    return 1 if first else len(output.shape) - 1


def _bare(layer: Any) -> Any:
    return _bare(layer.layer) if layer_key(layer) in _WRAPPERS else layer


def _conv_constant(site: Site, kernel: np.ndarray, kind: str) -> Constant:
    layer, shape = site.layer, site.shape
    if layer.data_format == "channels_first":
        shape = (*shape[1:], shape[0])
    extra = {"output_padding": layer.output_padding} if kind == "transpose" else {}
    options = (layer.strides, layer.padding, layer.dilation_rate, getattr(layer, "groups", 1))
    if None in shape:
        bound = conv_norm_bound(kernel, None, *options, kind=kind, **extra)
        return Constant(bound, "upper bound", "for every input size")
    arguments = (kernel, known(shape), *options)
    norm = None if site.exact is False else svd_norm(*arguments, kind=kind, **extra)
    if norm is not None:
        return Constant(norm)
    if site.exact is True:  # conv_norm answers from below
        norm = conv_norm(*arguments, site.rtol, kind=kind, **extra)
        return Constant(norm * (1 + site.rtol), "exact", f"to {site.rtol:g}")
    return Constant(conv_norm_bound(*arguments, kind=kind, **extra), "upper bound")


def _scale(site: Site, shape: tuple[int, ...] = (-1,)) -> np.ndarray | float:
    return 1.0 if site.scale is None else site.scale.reshape(shape)


def _is_identity(activation: Any) -> bool:
    return activation is None or activation is keras.activations.linear


def _activated(site: Site, constant: Constant) -> Constant:
    """``constant`` times that of the layer's activation."""
    activation = site.layer.activation
    if _is_identity(activation):
        return constant
    if isinstance(activation, keras.Layer):
        return constant * site.at(activation, _output_shape(site))
    return constant * activation_constant(activation, _output_shape(site)[-1])


def _output_shape(site: Site) -> tuple[int | None, ...]:
    return tuple(site.layer.compute_output_shape((None, *site.shape)))[1:]


_FOLDABLE = (
    "Dense",
    *(f"{name}{d}D" for d in (1, 2, 3) for name in ("Conv", "DepthwiseConv", "SeparableConv")),
)
_FOLDABLE += tuple(f"Conv{d}DTranspose" for d in (1, 2, 3))

_WRAPPERS: dict[str, Rule] = {
    "SpectralNormalization": wrapped,
    "lipnb.reparam.SpectralNormalization": normalized,
    "lipnb.reparam.FrobeniusNormalization": normalized,
}

LINEAR_RULES: dict[str, Rule] = {
    "Dense": dense,
    "EinsumDense": einsum_dense,
    "Embedding": embedding,
    **_WRAPPERS,
    **dict.fromkeys((n for n in _FOLDABLE if "Conv" in n and "Separable" not in n), convolution),
    **{f"SeparableConv{d}D": separable_convolution for d in (1, 2)},
}
