"""How a critic is held to its Lipschitz constraint: every method that the book trains, in one table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from lipnb.checks import check_count
from lipnb.constraints import FrobeniusClip, WeightClip
from lipnb.lab.models import Wrap, unwrapped
from lipnb.norms import spectral_norm_estimate
from lipnb.regularizers import FrobeniusPenalty
from lipnb.reparam import SpectralNormalization
from lipnb.wrapper import KernelNormalization, Target

__all__ = [
    "METHODS",
    "PENALTIES",
    "ArticleConstraint",
    "ArticleNormalization",
    "Hold",
    "hold",
    "seed_vectors",
]

Tensor = Any
ARTICLE_STEPS = 5  # power iterations of the article's spectral_norm, from all ones

PENALTIES: Mapping[str, Mapping[str, str]] = {
    "gradient_penalty": {"kind": "two_sided", "at": "between"},
    "one_sided": {"kind": "one_sided", "at": "between"},
    "one_sided_linear": {"kind": "one_sided_linear", "at": "between"},
    "penalty_at_real": {"kind": "two_sided", "at": "real"},
}
"""Methods that add a term to the loss, with the arguments of :func:`lipnb.gradient_penalty`."""

SPECTRAL = ("spectral_norm", "operator_norm", "spectral_constraint", "keras_spectral_norm")
METHODS = ("none", "weight_clip", "frobenius_clip", "frobenius_penalty", *PENALTIES, *SPECTRAL)


@dataclass(frozen=True)
class Hold:
    """What a method does to a critic: the arguments of its model and what it adds to its loss.

    ``wrap`` is applied to every layer with a kernel, the constraints to every kernel and every γ after each
    optimizer step, ``regularizer`` to every kernel in the loss; ``penalty`` names a gradient penalty.
    """

    wrap: Wrap = unwrapped
    kernel_constraint: keras.constraints.Constraint | None = None
    gamma_constraint: keras.constraints.Constraint | None = None
    regularizer: keras.regularizers.Regularizer | None = None
    penalty: Mapping[str, str] | None = None


def hold(method: str, *, seed: int, clip: float, radius: float, strength: float, restart: int) -> Hold:
    """How ``method``, one of METHODS, holds a critic.

    Parameters
    ----------
    seed
        Of the wrappers' start vectors.
    clip
        Bound of every weight (``weight_clip``).
    radius
        Frobenius norm up to which kernels are free (``frobenius_clip``, ``frobenius_penalty``).
    strength
        Factor of the penalty on Frobenius norms; gradient penalties get theirs where they are added.
    restart
        For ``spectral_norm``: 0 for one warm-started power iteration a step, n for n of them from all ones at
        each call with their gradient, as in the article.
    """
    if method in PENALTIES:
        return Hold(penalty=PENALTIES[method])
    if method == "weight_clip":
        return Hold(kernel_constraint=WeightClip(clip))
    if method == "frobenius_clip":
        return Hold(kernel_constraint=FrobeniusClip(radius))
    if method == "frobenius_penalty":
        return Hold(regularizer=FrobeniusPenalty(strength, radius))
    if method == "spectral_constraint":
        return Hold(kernel_constraint=ArticleConstraint(), gamma_constraint=ArticleConstraint())
    if method in SPECTRAL:
        return Hold(wrap=_wrap(method, seed, restart), gamma_constraint=ArticleConstraint())
    return Hold()


def _wrap(method: str, seed: int, restart: int) -> Wrap:
    if method == "keras_spectral_norm":
        return keras.layers.SpectralNormalization
    if restart:
        return lambda layer: ArticleNormalization(layer, restart)
    return lambda layer: SpectralNormalization(layer, operator=method == "operator_norm", seed=seed)


def seed_vectors(critic: keras.Model, seed: int) -> None:
    """Start the vectors of Keras's own wrappers from ``seed``: they have none."""
    for i, layer in enumerate(critic.layers):
        if isinstance(layer, keras.layers.SpectralNormalization):
            start = np.random.default_rng([seed, i]).normal(size=layer.vector_u.shape)
            layer.vector_u.assign(start.astype(np.float32))


class ArticleNormalization(KernelNormalization):
    """The article's normalization: W/σ, where σ comes from ``n_iter`` power iterations from all ones at each call.

    The gradient flows through the iterations and nothing is stored. σ is a lower bound of the norm of the
    reshaped kernel; where it is 0, W stays as it is, while the article's code divides by it.
    """

    def __init__(self, layer: keras.Layer, n_iter: int = ARTICLE_STEPS, **kwargs: Any) -> None:
        super().__init__(layer, norm=1.0, shrink_only=False, weight_names=None, **kwargs)
        self.n_iter = check_count(n_iter, "n_iter")

    def _size(self, target: Target, kernel: Tensor, update: bool) -> Tensor:
        return spectral_norm_estimate(kernel, self.n_iter)


class ArticleConstraint(keras.constraints.Constraint):
    """The article's ``kernel_constraint``: W ← W/σ after each optimizer step, σ from 5 power iterations from all ones.

    The gradient knows nothing of it. A vector, such as a batch normalization's γ, counts as a matrix of one row:
    it is divided by its Euclidean norm. Where σ is 0, W stays as it is.
    """

    def __call__(self, w: Any) -> Tensor:
        """The projected tensor, of w's shape and dtype."""
        w = ops.convert_to_tensor(w)
        sigma = ops.cast(spectral_norm_estimate(w, ARTICLE_STEPS), w.dtype)
        return w / ops.where(sigma > 0, sigma, ops.ones_like(sigma))
