"""A small network on paper: f(x) = Wₖ φ(… φ(W₁x + b₁) …) + bₖ with leaky ReLU φ, its gap and gradient, in float64."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

__all__ = ["forward", "gap", "gap_gradients", "random_network", "scaled"]

Array = np.ndarray
Network = tuple[list[Array], list[Array]]


def random_network(sizes: Sequence[int], seed: int, *, biases: bool) -> Network:
    """Gaussian kernels (sizes[l], sizes[l + 1]) and biases (zero without ``biases``)."""
    rng = np.random.default_rng(seed)
    kernels = [rng.standard_normal(shape) for shape in pairwise(sizes)]
    return kernels, [float(biases) * np.asarray(rng.standard_normal(kernel.shape[1])) for kernel in kernels]


def scaled(network: Network, c: float, bias_power: int) -> Network:
    """Every kernel times c; the bias of layer l (from 1) times c^l for ``bias_power`` 0, else times c^bias_power."""
    kernels, biases = network
    powers = range(1, len(biases) + 1) if bias_power == 0 else [bias_power] * len(biases)
    return [c * w for w in kernels], [c**p * b for p, b in zip(powers, biases, strict=True)]


def forward(network: Network, x: Array, slope: float = 0.2) -> Array:
    """f at rows ``x`` (n, d), shape (n,): the last size is 1."""
    return _layers(network, x, slope)[0][-1][:, 0]


def gap(network: Network, real: Array, fake: Array, slope: float = 0.2) -> float:
    """mean f(real) − mean f(fake)."""
    return float(forward(network, real, slope).mean() - forward(network, fake, slope).mean())


def gap_gradients(network: Network, real: Array, fake: Array, slope: float = 0.2) -> list[Array]:
    """Gradient of the gap with respect to each kernel, by back-propagation."""
    x = np.concatenate([real, fake])
    weight = np.concatenate([np.full(len(real), 1 / len(real)), np.full(len(fake), -1 / len(fake))])
    outputs, slopes = _layers(network, x, slope)
    gradients: list[Array] = []
    back = weight[:, None]
    for layer in range(len(network[0]) - 1, -1, -1):
        back = back * slopes[layer]
        gradients.insert(0, outputs[layer].T @ back)
        back = back @ network[0][layer].T
    return gradients


def _layers(network: Network, x: Array, slope: float) -> tuple[list[Array], list[Array]]:
    """Inputs of every layer and the output, and φ′ at every layer's sum (1 at the last, which has no φ)."""
    outputs, slopes = [x], []
    for number, (kernel, bias) in enumerate(zip(*network, strict=True), start=1):
        sums = outputs[-1] @ kernel + bias
        last = number == len(network[0])
        slopes.append(np.where((sums > 0) | last, 1.0, slope))
        outputs.append(sums * slopes[-1])
    return outputs, slopes
