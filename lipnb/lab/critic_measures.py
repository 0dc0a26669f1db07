"""What a trained critic is, beside the exact potential: its value, its gradients everywhere, its constant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops
from scipy.spatial import cKDTree

from lipnb.bounds import lipschitz_bound
from lipnb.estimates import lipschitz_estimate
from lipnb.lab.critic_training import Bench
from lipnb.lab.distributions import Pair, Sample, draw
from lipnb.norms import frobenius_norm, spectral_norm

__all__ = ["Probe", "along", "final", "make_probe", "plane", "weights"]

Array = np.ndarray
NEAR = 0.25  # a point within this distance of a probed point on a segment counts as on the segments
CLOSE_TO_ONE = 0.1
SEARCHES, SEARCH_STEPS = 8, 20
CELLS = 48  # of the map, along each side


@dataclass(frozen=True)
class Probe:
    """Held-out points of a pair, ``n`` of each kind.

    ``sample`` is coupled by T; ``segments`` lie between independent real and fake points, where a penalty looks;
    ``rays`` between coupled ones; ``box`` anywhere in the pair's box, and ``off`` says which of those are farther
    than NEAR from all ``segments``. ``moved`` says which points of the sample T moves.
    """

    sample: Sample
    segments: Array
    rays: Array
    box: Array
    off: Array
    moved: Array


def make_probe(pair: Pair, n: int, seed: int) -> Probe:
    """``n`` points of each kind, from ``seed`` alone."""
    sample, others = draw(pair, n, seed), draw(pair, n, seed + 1)
    rng = np.random.default_rng([seed, 2])
    share = rng.uniform(size=(2, n, 1))
    segments = share[0] * sample.real + (1 - share[0]) * others.fake
    rays = share[1] * sample.real + (1 - share[1]) * sample.fake
    box = rng.uniform(-pair.extent, pair.extent, size=(n, pair.dimension))
    off = cKDTree(segments).query(box, distance_upper_bound=NEAR)[0] > NEAR
    moved = sample.costs > 0
    return Probe(sample, segments, rays[moved], box, off, moved)


def along(bench: Bench, probe: Probe, n: int = 512) -> dict[str, float]:
    """While training, on ``n`` points of each kind: the gap, what it could be at most for constant 1, and norms.

    ``gap`` is mean f(real) − mean f(fake), ``w1`` the exact distance of these points, ``largest`` the largest
    gradient norm found, ``segments`` the mean one on segments.
    """
    kinds = (probe.sample.real, probe.sample.fake, probe.segments, probe.box)
    values, norms = _values_and_norms(bench, np.concatenate([points[:n] for points in kinds]))
    real, fake, *_ = np.split(values, 4)
    return {
        "gap": float(real.mean() - fake.mean()),
        "w1": float(probe.sample.costs[:n].mean()),
        "largest": float(norms.max()),
        "segments": float(np.split(norms, 4)[2].mean()),
    }


def final(bench: Bench, pair: Pair, probe: Probe, *, search: bool = True) -> dict[str, Any]:
    """After training: gap and potential beside the exact ones, gradients by place, the constant from both sides.

    ``largest`` is the largest gradient norm found anywhere, a lower bound of the critic's constant; with ``search``
    also uphill from the best points, and ``uphill`` says how far from the segments that led. ``bound`` is proven from
    above. ``rms``, ``rms_scaled`` (of f/largest) and ``correlation`` compare f with the exact potential at the points
    that move, real and fake, each less its mean; the first two are in units of ``w1``.
    """
    sample = probe.sample
    places = {"segments": probe.segments, "rays": probe.rays, "real": sample.real, "fake": sample.fake}
    places |= {"box": probe.box, "off": probe.box[probe.off]}
    found = {name: bench.evaluate(points) for name, points in places.items()}
    norms = {name: np.linalg.norm(gradients, axis=1) for name, (_, gradients) in found.items()}
    uphill = _searched(bench, places, norms) if search else None
    largest = max(float(n.max()) for n in norms.values() if n.size)
    largest = max(largest, uphill["norm"]) if uphill else largest
    directions = (sample.real - sample.fake)[probe.moved] / sample.costs[probe.moved, None]
    gap = found["real"][0].mean(dtype=np.float64) - found["fake"][0].mean(dtype=np.float64)
    return {
        "w1": sample.w1,
        "gap": float(gap),
        "largest": largest,
        "uphill": uphill,
        "bound": float(lipschitz_bound(bench.critic)),
        **_against_potential(found, pair, probe, largest),
        "cosine": _cosine(found["fake"][1][probe.moved], directions),
        "norms": {name: _summary(n) for name, n in norms.items() if n.size},
    }


def weights(bench: Bench) -> dict[str, Any]:
    """Both norms of each kernel (of a normalised layer: before it is divided), and the share at the clipping bound."""
    kernels = [ops.convert_to_numpy(v) for v in bench.kernels]
    bound = bench.settings.strength * (1 - 1e-6)
    clipped = bench.settings.method == "weight_clip"
    entries = np.concatenate([kernel.ravel() for kernel in kernels])
    return {
        "frobenius": [float(frobenius_norm(kernel)) for kernel in kernels],
        "spectral": [float(spectral_norm(kernel)) for kernel in kernels],
        "at_bound": float(np.mean(np.abs(entries) >= bound)) if clipped else None,
    }


def plane(bench: Bench, pair: Pair) -> Array:
    """For a map: f and ‖∇f‖ on a regular grid of the pair's box, float32 (2, points), for dimensions 1 and 2."""
    side = np.linspace(-pair.extent, pair.extent, CELLS**2 // 8 + 1 if pair.dimension == 1 else CELLS)
    grid = np.stack(np.meshgrid(*[side] * pair.dimension, indexing="xy"), axis=-1).reshape(-1, pair.dimension)
    return np.stack(_values_and_norms(bench, grid)).astype(np.float32)


def _values_and_norms(bench: Bench, points: Array) -> tuple[Array, Array]:
    values, gradients = bench.evaluate(points)
    return values, np.linalg.norm(gradients, axis=1)


def _searched(bench: Bench, places: dict[str, Array], norms: dict[str, Array]) -> dict[str, float]:
    points, sizes = np.concatenate(list(places.values())), np.concatenate(list(norms.values()))
    starts = points[np.argsort(sizes)[-SEARCHES:]]
    found = lipschitz_estimate(bench.critic, starts, n_steps=SEARCH_STEPS, compiled=False)
    return {"norm": float(found), "distance": float(cKDTree(places["segments"]).query(found.point[0])[0])}


def _against_potential(found: dict[str, tuple], pair: Pair, probe: Probe, largest: float) -> dict[str, float]:
    ends = {"real": probe.sample.real, "fake": probe.sample.fake}
    ours = np.concatenate([found[name][0][probe.moved] for name in ends]).astype(np.float64)
    exact = np.concatenate([pair.potential(points[probe.moved]) for points in ends.values()])
    ours, exact = ours - ours.mean(), exact - exact.mean()
    lengths, w1 = np.linalg.norm(ours) * np.linalg.norm(exact), probe.sample.w1
    return {
        "rms": float(np.sqrt(np.mean((ours - exact) ** 2)) / w1),
        "rms_scaled": float(np.sqrt(np.mean((ours / (largest or 1.0) - exact) ** 2)) / w1),
        "correlation": float(ours @ exact / lengths) if lengths > 0 else 0.0,
    }


def _cosine(gradients: Array, directions: Array) -> float:
    """Mean cosine between ∇f at generated points and the way that optimal transport takes from there."""
    lengths = np.linalg.norm(gradients, axis=1)
    return float(
        np.mean(
            np.sum(gradients * directions, axis=1) / np.where(lengths > 0, lengths, 1.0), dtype=np.float64
        )
    )


def _summary(norms: Array) -> dict[str, float]:
    low, high = np.quantile(norms, [0.01, 0.99])
    near = np.mean(np.abs(norms - 1) <= CLOSE_TO_ONE)
    numbers = {"mean": norms.mean(), "std": norms.std(), "p01": low, "p99": high, "max": norms.max()}
    return {name: float(number) for name, number in numbers.items()} | {
        "near_one": float(near),
        "n": len(norms),
    }
