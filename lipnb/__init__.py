"""Measure and constrain the Lipschitz constant of Keras 3 models, on TensorFlow, JAX and PyTorch.

``*_norm`` is exact to rounding, ``*_bound`` proven from above, ``*_estimate`` found from below. Norms are
Euclidean. ``lipnb.lab``, which the book's experiments are built on, is not imported from here.
"""

from lipnb.bound_table import LayerBound, LipschitzBound
from lipnb.bounds import lipschitz_bound
from lipnb.constraints import FrobeniusClip, SpectralClip, WeightClip
from lipnb.convolutions import conv_matrix, conv_norm, conv_norm_bound
from lipnb.estimates import certified_radius, lipschitz_estimate
from lipnb.norms import frobenius_norm, power_iteration, spectral_norm, spectral_norm_estimate
from lipnb.penalties import gradient_penalty, input_gradient_norm
from lipnb.regularizers import FrobeniusPenalty, SpectralNormPenalty
from lipnb.reparam import FrobeniusNormalization, SpectralNormalization

__version__ = "0.1.0"

__all__ = [
    "FrobeniusClip",
    "FrobeniusNormalization",
    "FrobeniusPenalty",
    "LayerBound",
    "LipschitzBound",
    "SpectralClip",
    "SpectralNormPenalty",
    "SpectralNormalization",
    "WeightClip",
    "certified_radius",
    "conv_matrix",
    "conv_norm",
    "conv_norm_bound",
    "frobenius_norm",
    "gradient_penalty",
    "input_gradient_norm",
    "lipschitz_bound",
    "lipschitz_estimate",
    "power_iteration",
    "spectral_norm",
    "spectral_norm_estimate",
]
