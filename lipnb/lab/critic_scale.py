"""What a constant K other than 1 changes: for the Wasserstein objective nothing but a factor, for others the critic."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linprog

from lipnb.checks import check_choice, check_positive

__all__ = ["LOSSES", "best_clipped_chain", "best_critic", "optimum_on_two_points"]

Array = np.ndarray
LOSSES = ("wasserstein", "hinge")


def best_critic(grid: Array, real: Array, fake: Array, constant: float, loss: str) -> tuple[Array, float]:
    """A critic on the line of least loss among those of Lipschitz constant K, by linear programming.

    Wasserstein: Σ fake·f − Σ real·f. Hinge: Σ real·max(0, 1 − f) + Σ fake·max(0, 1 + f).

    Parameters
    ----------
    grid
        Increasing points (n,); the constraint is |f(tₖ₊₁) − f(tₖ)| ≤ K(tₖ₊₁ − tₖ), which is all of it on a line.
    real, fake
        Weights (n,) ≥ 0 of sum 1.
    constant
        K > 0.

    Returns
    -------
    Values f (n,) and the least loss, to the solver's 1e-7. The critic need not be unique; for Wasserstein f has mean 0.

    Raises
    ------
    ValueError
        For an unknown loss or a constant that is not positive.
    RuntimeError
        Where the solver fails.
    """
    check_choice(loss, "loss", LOSSES)
    n, steps = len(grid), check_positive(constant, "constant") * np.diff(grid)
    slopes = np.diff(np.eye(n), axis=0)
    if loss == "wasserstein":
        found = linprog(
            fake - real, np.vstack([slopes, -slopes]), np.tile(steps, 2), np.ones((1, n)), [0], (None, None)
        )
    else:  # variables f, then s ≥ 1 − f and t ≥ 1 + f, both ≥ 0
        zero, one = np.zeros((n, n)), np.eye(n)
        rows = np.block(
            [
                [slopes, zero[1:], zero[1:]],
                [-slopes, zero[1:], zero[1:]],
                [-one, -one, zero],
                [one, zero, -one],
            ]
        )
        bounds = [(None, None)] * n + [(0, None)] * 2 * n
        limits = np.concatenate([steps, steps, -np.ones(2 * n)])
        found = linprog(np.concatenate([np.zeros(n), real, fake]), rows, limits, bounds=bounds)
    if not found.success:
        raise RuntimeError(f"the linear program must have a solution. Received: {found.message}")
    return found.x[:n], float(found.fun)


def optimum_on_two_points(reach: Array) -> dict[str, Array]:
    """Least losses for one real and one generated point, over reach = K·distance (any shape), in closed form.

    Wasserstein −reach; hinge max(0, 2 − reach); log 2·log(1 + exp(−reach/2)), of softplus(−f(real)) + softplus(f(fake)).
    """
    reach = np.asarray(reach)
    return {
        "wasserstein": -reach,
        "hinge": np.maximum(0, 2 - reach),
        "log": 2 * np.log1p(np.exp(-reach / 2)),
    }


def best_clipped_chain(clip: float, *, biases: bool, resolution: int = 41) -> float:
    """Largest f(2)/2 + f(4.5)/2 − f(3) of a clipped chain f(x) = w₃ relu(w₂ relu(w₁x + b₁) + b₂), in units of clip³.

    All weights, and the biases unless left out, are in [−clip, clip]; the search runs over a grid of ``resolution``
    values each, ends and (for an odd number) 0 included: a lower bound of the supremum, exact where a best one has such values.
    """
    grid = np.linspace(-clip, clip, resolution)
    none = np.zeros(1)
    w1, b1, w2, b2 = np.meshgrid(
        grid, grid if biases else none, grid, grid if biases else none, indexing="ij"
    )

    def scores(x: float) -> Array:
        return np.maximum(w2 * np.maximum(w1 * x + b1, 0) + b2, 0)

    value = scores(2.0) / 2 + scores(4.5) / 2 - scores(3.0)
    return float(np.abs(value).max() * clip / clip**3)  # w₃ = ±clip
