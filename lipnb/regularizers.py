"""Penalties on the norms of a weight, for ``kernel_regularizer=`` and its like."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from lipnb.checks import check_choice, check_count, check_positive, float_tensor
from lipnb.norms import power_iteration

__all__ = ["FrobeniusPenalty", "SpectralNormPenalty"]

Tensor = Any


@keras.saving.register_keras_serializable(package="lipnb")
class SpectralNormPenalty(keras.regularizers.Regularizer):
    """strength·σ², with σ the spectral norm of the kernel as a matrix (−1, shape[-1]) by power iteration.

    Gradient: 2·strength·σ·u₁v₁ᵀ, with u and v held fixed, so only the top direction shrinks. The paper writes
    (λ/2)·Σσ²: strength = λ/2.

    Parameters
    ----------
    strength
        Factor, at least 0.
    n_iter
        Power iterations at every call. A regularizer keeps no state, so each call starts anew.
    start
        ``random`` (Gaussian, the same for a seed on every backend) or ``ones``.
    seed
        Seed of the random start.

    Guarantee
    ---------
    σ is a lower bound of ‖W‖₂ (up to rounding), so the penalty is at most strength·‖W‖₂²; the gap shrinks
    as (σ₂/σ₁)^(2·n_iter) and counts for little while other directions are as large.

    Raises
    ------
    ValueError
        For a negative strength, n_iter < 1, an unknown start or a negative seed.

    Source
    ------
    Yoshida & Miyato 2017 (arXiv 1705.10941); Su 2018 (https://kexue.fm/archives/6051) for ``ones``; this book,
    chapter "Weight decay and spectral norm regularization".

    Example
    -------
    >>> w = np.float32([[3, 0], [4, 5]])  # of norm sqrt(45)
    >>> round(float(lipnb.SpectralNormPenalty(0.1)(w)), 4)
    4.5
    """

    def __init__(
        self, strength: float = 0.01, n_iter: int = 10, start: str = "random", seed: int = 0
    ) -> None:
        self.strength = check_positive(strength, "strength", allow_zero=True)
        self.n_iter = check_count(n_iter, "n_iter")
        self.start = check_choice(start, "start", ("random", "ones"))
        self.seed = check_count(seed, "seed", minimum=0)

    def __call__(self, x: Any) -> Tensor:
        """The penalty, a scalar of x's dtype (float32 inside for half precision)."""
        x = float_tensor(x, "x", rank=1)
        shape = (1, int(np.prod(x.shape[:-1])))
        u = (
            np.ones(shape)
            if self.start == "ones"
            else np.random.default_rng(self.seed).standard_normal(shape)
        )
        sigma, _, _ = power_iteration(x, ops.convert_to_tensor(u, "float32"), self.n_iter)
        return self.strength * sigma**2

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"strength": self.strength, "n_iter": self.n_iter, "start": self.start, "seed": self.seed}


@keras.saving.register_keras_serializable(package="lipnb")
class FrobeniusPenalty(keras.regularizers.Regularizer):
    """strength·relu(‖W‖_F − threshold)²; with threshold 0 this is ``keras.regularizers.L2(strength)``.

    Gradient: 2·strength·relu(‖W‖_F − threshold)·W/‖W‖_F, which is 0 below the threshold and 2·strength·W for
    threshold 0; finite for W = 0.

    Parameters
    ----------
    strength
        Factor, at least 0.
    threshold
        Frobenius norm up to which nothing is paid, at least 0.

    Guarantee
    ---------
    Exact to rounding; ‖W‖₂ ≤ ‖W‖_F, so a zero penalty proves ‖W‖₂ ≤ threshold.

    Raises
    ------
    ValueError
        For a negative strength or threshold.

    Source
    ------
    Su 2018 (https://kexue.fm/archives/6051); this book, chapters "The Frobenius norm and l2 regularization" for
    threshold 0 and "Clipping and penalising the weights" for others.

    Example
    -------
    >>> w = np.float32([[3, 4], [0, 0]])  # of norm 5
    >>> [float(lipnb.FrobeniusPenalty(0.5, threshold=t)(w)) for t in (3.0, 5.0)]
    [2.0, 0.0]
    """

    def __init__(self, strength: float = 0.01, threshold: float = 0.0) -> None:
        self.strength = check_positive(strength, "strength", allow_zero=True)
        self.threshold = check_positive(threshold, "threshold", allow_zero=True)

    def __call__(self, x: Any) -> Tensor:
        """The penalty, a scalar."""
        x = float_tensor(x, "x")
        if keras.backend.standardize_dtype(x.dtype) != "float64":
            x = ops.cast(x, "float32")
        square = ops.sum(ops.square(x))
        if self.threshold == 0:
            return self.strength * square  # no root: the identity with L2 holds to the last bit
        zero = square == 0  # and not `square > 0`: NaN must stay NaN
        norm = ops.where(zero, 0.0, ops.sqrt(ops.where(zero, 1.0, square)))  # no infinite slope at 0
        return self.strength * ops.square(ops.relu(norm - self.threshold))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"strength": self.strength, "threshold": self.threshold}
