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

    The nearest weight whose entries are at most c in magnitude.

    Parameters
    ----------
    c
        The bound, above 0.

    Guarantee
    ---------
    −c ≤ w_ij ≤ c, with c rounded to w's dtype and no rounding besides, hence ‖W‖₂ ≤ ‖W‖_F ≤ c·√(m·n) for an m×n
    matrix.

    Raises
    ------
    ValueError
        Where c is not a finite number above 0.

    Source
    ------
    Arjovsky et al. 2017 (arXiv 1701.07875), Algorithm 1; this book, chapter "Clipping and penalising the weights".

    Example
    -------
    >>> clipped = lipnb.WeightClip(2.0)(np.float32([[3, 0], [-4, 1]]))
    >>> keras.ops.convert_to_numpy(clipped).tolist()
    [[2.0, 0.0], [-2.0, 1.0]]
    """

    def __call__(self, w: Any) -> Tensor:
        """The clipped tensor, of w's shape and dtype."""
        return ops.clip(float_tensor(w, "w"), -self.c, self.c)


@keras.saving.register_keras_serializable(package="lipnb")
class FrobeniusClip(_Clip):
    """Shrink to Frobenius norm c where it is larger: W ← W·min(1, c/‖W‖_F).

    The nearest weight with ‖W‖_F ≤ c. Half precision is computed in float32.

    Parameters
    ----------
    c
        The bound, above 0.

    Guarantee
    ---------
    ‖W‖₂ ≤ ‖W‖_F ≤ c up to rounding; a W inside the ball, zero included, is unchanged.

    Raises
    ------
    ValueError
        Where c is not a finite number above 0.

    Source
    ------
    Su 2018 (https://kexue.fm/archives/6051); this book, chapter "Clipping and penalising the weights".

    Example
    -------
    >>> w = np.float32([[3, 0], [4, 5]])  # of Frobenius norm 7.0711
    >>> clip = lipnb.FrobeniusClip(2.0)
    >>> [round(lipnb.frobenius_norm(clip(x)), 4) for x in (w, w / 10)]
    [2.0, 0.7071]
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
    c/σ₁, which shrinks all. Half precision is computed in float32. For a convolution this is the reshaped kernel,
    not its operator. It costs a full SVD, O(m·n·min(m, n)), per step; for large kernels
    :class:`lipnb.SpectralNormalization` is far cheaper.

    Parameters
    ----------
    c
        The bound, above 0.

    Guarantee
    ---------
    ‖W‖₂ ≤ c up to rounding of the SVD; a W with ‖W‖₂ ≤ c is unchanged.

    Raises
    ------
    ValueError
        Where c is not a finite number above 0.

    Source
    ------
    Parikh & Boyd 2014, Proximal Algorithms, section 6.7 (functions of singular values).

    Example
    -------
    >>> w = np.float32([[3, 0], [4, 5]])  # singular values 6.7082, 2.2361
    >>> clipped = keras.ops.convert_to_numpy(lipnb.SpectralClip(3.0)(w))
    >>> np.linalg.svd(clipped.astype(float), compute_uv=False).round(4).tolist()
    [3.0, 2.2361]
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
