"""Projections of a weight after each optimizer step, for ``kernel_constraint=`` and its like.

A constraint bounds the weight that the optimizer leaves behind. It is no reparametrisation: the gradient
knows nothing of the projection.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from lipnb.checks import check_positive, float_tensor

__all__ = ["FrobeniusClip", "SpectralClip", "WeightClip"]

Tensor = Any


class _Clip(keras.constraints.Constraint):
    """A projection with one bound c > 0; it raises TypeError for a w that is not floating point."""

    def __init__(self, c: float) -> None:
        self.c = check_positive(c, "c")

    def get_config(self) -> dict[str, Any]:
        """The bound, as ``{"c": c}``."""
        return {"c": self.c}


@keras.saving.register_keras_serializable(package="lipnb")
class WeightClip(_Clip):
    """Clip every entry: w_ij ← min(max(w_ij, −c), c).

    The nearest weight with |w_ij| ≤ c. Guarantee: |w_ij| ≤ c, with c rounded to w's dtype and no rounding besides,
    hence ‖W‖₂ ≤ ‖W‖_F ≤ c·√(m·n) for an m×n matrix.

    Raises ValueError where c is not a finite number above 0.

    Source: Arjovsky et al. 2017 (arXiv 1701.07875), Algorithm 1.
    """

    def __call__(self, w: Any) -> Tensor:
        """The clipped tensor, of w's shape and dtype."""
        return ops.clip(float_tensor(w, "w"), -self.c, self.c)


@keras.saving.register_keras_serializable(package="lipnb")
class FrobeniusClip(_Clip):
    """Shrink to Frobenius norm c where it is larger: W ← W·min(1, c/‖W‖_F).

    The nearest weight with ‖W‖_F ≤ c. Guarantee: ‖W‖₂ ≤ ‖W‖_F ≤ c up to rounding; a W inside the ball, zero
    included, is unchanged. Half precision is computed in float32.

    Raises ValueError where c is not a finite number above 0.
    """

    def __call__(self, w: Any) -> Tensor:
        """The shrunk tensor, of w's shape and dtype."""
        w = float_tensor(w, "w")
        wide = _at_least_float32(w)
        largest = ops.max(ops.abs(wide))
        scale = ops.where(largest > 0, largest, 1.0)  # squares of tiny or huge entries would leave the range
        norm = scale * ops.sqrt(ops.sum((wide / scale) ** 2))
        return ops.where(norm > self.c, ops.cast(wide * (self.c / norm), w.dtype), w)


@keras.saving.register_keras_serializable(package="lipnb")
class SpectralClip(_Clip):
    """Clip the singular values of the kernel as a matrix (−1, shape[-1]): U·diag(σᵢ)·Vᵀ ← U·diag(min(σᵢ, c))·Vᵀ.

    The nearest matrix (in Frobenius norm) with ‖W‖₂ ≤ c: directions with σᵢ ≤ c are kept, unlike scaling by
    c/σ₁, which shrinks all. Guarantee: ‖W‖₂ ≤ c up to rounding of the SVD; a W with ‖W‖₂ ≤ c is unchanged.
    Half precision is computed in float32. For a convolution this is the reshaped kernel, not its operator.

    Cost: a full SVD, O(m·n·min(m, n)) per step; for large kernels SpectralNormalization is far cheaper.

    Raises ValueError where c is not a finite number above 0.

    Source: Parikh & Boyd 2014, Proximal Algorithms, section 6.7 (functions of singular values).
    """

    def __call__(self, w: Any) -> Tensor:
        """The projected tensor, of w's shape and dtype."""
        w = float_tensor(w, "w", rank=1)
        matrix = ops.reshape(_at_least_float32(w), (-1, w.shape[-1]))
        u, s, vt = ops.svd(matrix, full_matrices=False)
        clipped = ops.matmul(u * ops.minimum(s, self.c), vt)
        return ops.where(s[0] > self.c, ops.cast(ops.reshape(clipped, w.shape), w.dtype), w)


def _at_least_float32(w: Tensor) -> Tensor:
    return w if keras.backend.standardize_dtype(w.dtype) == "float64" else ops.cast(w, "float32")
