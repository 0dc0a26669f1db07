"""Blocks on rows in closed form: the layer relu(Wx + b), x + relu(Wx + b), and variants of constant 1 or below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lipnb.checks import check_choice

__all__ = ["KINDS", "Block", "gains", "random_blocks"]

Array = np.ndarray
KINDS = ("chain", "plain", "average", "gradient")


@dataclass(frozen=True)
class Block:
    """One block with ReLU; ``w`` (n, n), for "gradient" (k, n), ``b`` (n,) or (k,), K = ‖w‖₂.

    | kind | B(x) | constant at most |
    |---|---|---|
    | chain | g(x) = relu(Wx + b) | K |
    | plain | x + g(x) | 1 + K |
    | average | (x + g(x))/2 | (1 + K)/2 |
    | gradient | x − 2Wᵀg(x)/K² | 1 |

    Source for "gradient": Meunier et al. 2022 (arXiv 2110.12690), the convex potential layer.
    """

    w: Array
    b: Array
    kind: str

    def __post_init__(self) -> None:
        check_choice(self.kind, "kind", KINDS)
        if self.w.ndim != 2 or self.b.shape != self.w.shape[:1]:
            raise ValueError(
                f"b must have one entry for each row of w. Received: {self.b.shape} and {self.w.shape}"
            )
        if self.kind != "gradient" and self.w.shape[0] != self.w.shape[1]:
            raise ValueError(f"w must be square for kind {self.kind!r}. Received: shape {self.w.shape}")

    @property
    def norm(self) -> float:
        """K = ‖w‖₂."""
        return float(np.linalg.norm(self.w, 2))

    @property
    def bound(self) -> float:
        """The proven constant of the table."""
        k = self.norm
        return {"chain": k, "plain": 1 + k, "average": (1 + k) / 2, "gradient": 1.0}[self.kind]

    def __call__(self, x: Array) -> Array:
        """B at rows ``x`` (k, n)."""
        g = np.maximum(x @ self.w.T + self.b, 0)
        if self.kind == "gradient":
            return x - 2 / self.norm**2 * g @ self.w
        return {"chain": g, "plain": x + g, "average": (x + g) / 2}[self.kind]

    def jacobians(self, x: Array) -> Array:
        """J at rows ``x``, (k, n, n): exact where no entry of Wx + b is 0."""
        active = (x @ self.w.T + self.b > 0)[:, :, None]
        identity = np.eye(x.shape[1])
        if self.kind == "gradient":
            return identity - 2 / self.norm**2 * self.w.T @ (active * self.w)
        if self.kind == "chain":
            return active * self.w
        return (identity + active * self.w) / (1 if self.kind == "plain" else 2)


def random_blocks(kind: str, depth: int, size: int, norm: float, seed: int) -> list[Block]:
    """``depth`` blocks with Gaussian w (size, size) scaled to ‖w‖₂ = norm, and Gaussian biases of variance 1/4."""
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal((depth, size, size))
    return [Block(norm * w / np.linalg.norm(w, 2), rng.standard_normal(size) / 2, kind) for w in weights]


def gains(blocks: Sequence[Block], x: Array, directions: Array) -> tuple[Array, Array]:
    """After each block, of the composition so far: the largest ‖J‖₂ over rows ``x`` and the median of ‖Jd‖.

    Parameters
    ----------
    x, directions
        Rows (k, n), one unit direction d for each point.

    Returns
    -------
    Two arrays (blocks,). The first is a lower bound of the composition's Lipschitz constant, if no point sits on a kink.
    """
    total, largest, median = np.eye(x.shape[1]), [], []
    for block in blocks:
        total, x = block.jacobians(x) @ total, block(x)
        largest.append(np.linalg.norm(total, 2, axis=(1, 2)).max())
        median.append(np.median(np.linalg.norm(np.einsum("kij,kj->ki", total, directions), axis=1)))
    return np.array(largest), np.array(median)
