"""What ``make bench`` prints: the library's speed as ratios within one run, beside the peers that are installed.

Nothing here is a test: a ratio wants a machine of its own. Every variant runs once a round in a fresh random
order, so that whatever else the machine does falls on all of them alike. How a process lays out its memory moves a
ratio by one or two percent, whatever the number of rounds: so a critic's step is measured in several processes, one
after another, and a ratio is the median over processes of the median over rounds, with the range over processes.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any
from unittest import mock

import numpy as np
import scipy.sparse.linalg
from steps import PEERS, Steps, keras_steps

import lipnb
from lipnb.lab import figures, machine, paths

BACKENDS = ("tensorflow", "jax", "torch")
BATCH = 64
LONGEST_SVD = 60.0  # seconds
SWEEPS = {"width": (16, 32, 64), "size": (28, 56, 112), "kernel": (3, 5, 7), "batch": (16, 64, 256)}


def timed(steps: Steps, rounds: int) -> dict[str, list[float]]:
    """Seconds of each step in each round, after three steps that compile."""
    generator = np.random.default_rng(0)
    for step in steps.values():
        for _ in range(3):
            step()
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name in generator.permutation(list(steps)).tolist():
            times[name].append(seconds(steps[name]))
    return times


def seconds(function: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def steps_of_critics(width: int, rounds: int, processes: int) -> list[dict[str, Any]]:
    """A critic's step against the one without a constraint, on each backend and in the peers' own frameworks.

    A peer's ratio is fairly met by ours on the peer's own framework: so each installed backend is measured.

    The constraint's own work is the same for every batch: beside a batch of 2, where it is most of what differs, what
    else a compiler does otherwise with a kernel that is computed (it can make the step faster) weighs little.

    What is printed is returned too: one entry for each critic and framework.
    """
    ours = [("lipnb", "plain"), ("lipnb", "keras"), ("lipnb, operator", "plain"), ("keras", "plain")]
    measured = [(None, backend, ours) for backend in BACKENDS if installed(backend)]
    measured += [(peer, None, [(peer, "plain")]) for peer in PEERS if installed(peer)]
    rows: list[dict[str, Any]] = []
    for size, batch in itertools.product((28, 64), (2, BATCH)):
        print(f"\nDCGAN critic of width {width} at {size}×{size}, batch {batch}, {processes} processes")
        timings = rounds * (1 if batch == BATCH else 10)
        for peer, backend, pairs in measured:
            times = [in_own_process(peer, backend, size, width, batch, timings) for _ in range(processes)]
            plain = 1e3 * float(np.median([np.median(t["plain"]) for t in times]))
            where = peer or f"Keras on {backend}"
            print(f"  {where}: plain {plain:.1f} ms")
            rows.append({"size": size, "batch": batch, "where": where, "plain_ms": plain, "ratios": {}})
            for a, b in pairs:
                if a in times[0] and b in times[0]:
                    ratios = [float(np.median(np.divide(t[a], t[b]))) for t in times]
                    median, low, high = float(np.median(ratios)), min(ratios), max(ratios)
                    rows[-1]["ratios"][f"{a} / {b}"] = [median, low, high]
                    print(f"    {a} / {b}: {median:.3f} ({low:.3f} to {high:.3f})", flush=True)
    missing = [name for name in dict.fromkeys((*BACKENDS, *PEERS)) if not installed(name)]
    if missing:
        print(f"\nNOT COMPARED, as they are not installed: {', '.join(missing)}; see book/contributing.md")
    return rows


def in_own_process(
    peer: str | None, backend: str | None, size: int, width: int, batch: int, rounds: int
) -> dict[str, list[float]]:
    """Seconds of a step by variant, a peer's or Keras's on a backend, in a process of their own."""
    environment = {"KERAS_BACKEND": backend} if backend else {}
    with mock.patch.dict(os.environ, environment), ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(step_seconds, peer, size, width, batch, rounds).result()


def step_seconds(peer: str | None, size: int, width: int, batch: int, rounds: int) -> dict[str, list[float]]:
    make = keras_steps if peer is None else PEERS[peer]
    return timed(make(size, width, batch), rounds)


def installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def norms(rounds: int) -> None:
    """``conv_norm``, 3×3, 64 → 64: beside the SVD of the dense matrix where that fits, and a sparse one at 32×32."""
    kernel = np.random.default_rng(0).standard_normal((3, 3, 64, 64))
    print("\nconv_norm, 3×3, 64 → 64")
    dense: dict[int, float] = {}
    for size in (8, 12):  # 12×12: 9,216 columns, the matrix 0.7 GB, its SVD three times that
        if dense and dense[8] * (size / 8) ** 6 > LONGEST_SVD:
            print(f"  {size}×{size}: not measured, the SVD would take more than {LONGEST_SVD:.0f} s")
        else:
            dense[size] = beside(kernel, size, rounds, "the dense SVD", dense_norm)
    beside(kernel, 32, rounds, "SciPy's svds of the sparse matrix", sparse_norm)
    size, fast = max(dense), norm_seconds(kernel, 32, rounds)
    slow = dense[size] * (32 / size) ** 6  # an SVD's work grows with the cube of the 32²·64 columns
    print(
        f"  32×32, extrapolated from {size}×{size}: the dense SVD, of 34 GB, would take {slow / 3600:.1f} h, "
        f"{slow / fast:.0f} times conv_norm's {fast:.2f} s"
    )


def beside(kernel: np.ndarray, size: int, rounds: int, name: str, oracle: Callable) -> float:
    """Seconds of the oracle, called once; prints them, those of ``conv_norm``, and how far apart the two are."""
    matrix = lipnb.conv_matrix(kernel, (size, size, 64), padding="same")
    start = time.perf_counter()
    truth = oracle(matrix)
    slow, fast = time.perf_counter() - start, norm_seconds(kernel, size, rounds)
    apart = lipnb.conv_norm(kernel, (size, size, 64), padding="same") / truth - 1
    print(
        f"  {size}×{size}, measured: {fast:.3f} s, {name} {slow:.2f} s, {slow / fast:.0f} times that; "
        f"relative difference {apart:.1e}"
    )
    return slow


def norm_seconds(kernel: np.ndarray, size: int, rounds: int) -> float:
    """Median seconds of ``conv_norm``."""
    shape = (size, size, 64)
    return float(
        np.median([seconds(lambda: lipnb.conv_norm(kernel, shape, padding="same")) for _ in range(rounds)])
    )


def dense_norm(matrix: scipy.sparse.csr_array) -> float:
    return lipnb.spectral_norm(matrix.toarray())


def sparse_norm(matrix: scipy.sparse.csr_array) -> float:
    start = np.random.default_rng(1).standard_normal(min(matrix.shape))
    # Many singular values lie close below the largest: few restarts of a large subspace converge, many of a small one do not.
    options = {"k": 1, "ncv": 200, "tol": 1e-8, "v0": start, "return_singular_vectors": False}
    return float(scipy.sparse.linalg.svds(matrix, **options)[0])


def slopes(width: int, rounds: int) -> None:
    """Seconds of a step against one size at a time, with the slopes of the logarithms, in build/bench/cost.png."""
    figure, axes = figures.new(columns=len(SWEEPS), width=12, height=3)
    for axis, (name, values) in zip(axes, SWEEPS.items(), strict=True):
        base = {"width": width, "size": 28, "kernel": None, "batch": BATCH}
        series = [timed(keras_steps(**{**base, name: value}), rounds) for value in values]
        for variant in ("plain", "lipnb", "lipnb, operator"):
            medians = [float(np.median(times[variant])) for times in series]
            slope = np.polyfit(np.log(values), np.log(medians), 1)[0]
            axis.loglog(values, medians, marker="o", label=f"{variant}: slope {slope:.2f}")
            print(
                f"  {name} {values}: {variant} {[round(1e3 * m, 2) for m in medians]} ms, slope {slope:.2f}"
            )
        axis.set(xlabel=name, ylabel="seconds a step")
        axis.legend()
    path = paths.build("bench") / "cost.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    print(f"  drawn in {path.relative_to(paths.ROOT)}")


def keep(steps: list[dict[str, Any]], arguments: argparse.Namespace) -> None:
    """Write the critics' ratios to build/bench, and among the recorded results where that is asked for."""
    told = machine.provenance("cost.md")
    report = {key: told[key] for key in ("made", "device", "threads", "versions", "git_commit", "git_dirty")}
    report |= {"width": arguments.width, "rounds": arguments.rounds, "processes": arguments.processes}
    folders = [paths.build("bench"), *([paths.RECORDED] if arguments.record else [])]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        beside = folder / ".bench.json.partial"
        beside.write_text(json.dumps(report | {"steps": steps}, indent=1) + "\n")
        os.replace(beside, folder / "bench.json")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15, help="timed rounds of each comparison")
    parser.add_argument("--processes", type=int, default=5, help="processes that each time the rounds")
    parser.add_argument(
        "--width", type=int, default=64, help="feature maps of the critic's first convolution"
    )
    parser.add_argument("--record", action="store_true", help="keep the critics' ratios for the book's pages")
    arguments = parser.parse_args()
    steps = steps_of_critics(arguments.width, arguments.rounds, arguments.processes)
    keep(steps, arguments)
    norms(max(3, arguments.rounds // 10))
    print("\nCost against size")
    slopes(16, arguments.rounds)


if __name__ == "__main__":
    main()
