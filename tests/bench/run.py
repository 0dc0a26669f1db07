"""What ``make bench`` prints: the library's speed as ratios within one run, beside the peers that are installed.

Nothing here is a test: a ratio wants a machine of its own. Every variant runs once a round in a fresh random
order, so that whatever else the machine does falls on all of them alike; a ratio is the median over rounds with
its 95 % interval.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable

import keras
import numpy as np
from steps import PEERS, Steps, keras_steps

import lipnb
from lipnb.lab import figures, paths
from lipnb.lab.statistics import median_ratio

BATCH = 64
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


def show(title: str, times: dict[str, list[float]], pairs: list[tuple[str, str]]) -> None:
    """The ratios a/b of the pairs that were timed."""
    print(f"\n{title}")
    for a, b in pairs:
        if a in times and b in times:
            print(f"  {a} / {b}: {median_ratio(times[a], times[b]).text(3)}")


def steps_of_critics(width: int, rounds: int) -> None:
    """A critic's step against the one without a constraint, here and in the peers' own frameworks."""
    pairs = [("lipnb", "plain"), ("lipnb", "keras"), ("lipnb, operator", "plain"), ("keras", "plain")]
    for size in (28, 64):
        shape = f"DCGAN critic of width {width} at {size}×{size}, batch {BATCH}"
        times = timed(keras_steps(size, width, BATCH), rounds)
        show(f"{shape}, Keras on {keras.backend.backend()}", times, pairs)
        for name, make in PEERS.items():
            if importlib.util.find_spec(name):
                show(f"{shape}, {name}", timed(make(size, width, BATCH), rounds), [(name, "plain")])
            else:
                print(f"\n{name}: not installed")


def norms(rounds: int) -> None:
    """``conv_norm`` against the SVD of the dense matrix, 3×3, 64 → 64, where the matrix fits; and alone at 32×32."""
    kernel = np.random.default_rng(0).standard_normal((3, 3, 64, 64))
    shape = (8, 8, 64)
    matrix = lipnb.conv_matrix(kernel, shape, padding="same").toarray()
    dense = seconds(lambda: lipnb.spectral_norm(matrix))
    fast = np.median([seconds(lambda: lipnb.conv_norm(kernel, shape, padding="same")) for _ in range(rounds)])
    apart = abs(lipnb.conv_norm(kernel, shape, padding="same") / lipnb.spectral_norm(matrix) - 1)
    print(f"\nconv_norm, 3×3, 64 → 64: at 8×8 {dense / fast:.0f} times as fast as the SVD, {apart:.1e} apart")
    large = np.median(
        [seconds(lambda: lipnb.conv_norm(kernel, (32, 32, 64), padding="same")) for _ in range(rounds)]
    )
    # 65,536 columns: 34 GB, and 16³ times the work of the SVD above.
    print(
        f"  at 32×32 {large:.2f} s; the SVD would take {dense * 16**3 / 3600:.0f} h, {dense * 16**3 / large:.0f} times that"
    )


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30, help="timed rounds of each comparison")
    parser.add_argument(
        "--width", type=int, default=64, help="feature maps of the critic's first convolution"
    )
    arguments = parser.parse_args()
    steps_of_critics(arguments.width, arguments.rounds)
    norms(max(3, arguments.rounds // 10))
    print("\nCost against size")
    slopes(16, arguments.rounds)


if __name__ == "__main__":
    main()
