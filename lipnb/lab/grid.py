"""The runs of a profile, expanded from ``notebooks/grid.yaml``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from lipnb.lab import paths

__all__ = [
    "DATASETS",
    "IMAGE_CHAPTERS",
    "IMAGE_EXPERIMENTS",
    "TIERS",
    "Run",
    "dataset_from",
    "profiles",
    "runs",
    "seeds_from",
    "tier_from",
    "workspace",
]

DATASETS = ("cifar10", "images")  # that the image experiments can run on in place of the grid's own
IMAGE_EXPERIMENTS = ("headline", "tuning", "confounders", "all_methods")
IMAGE_CHAPTERS = ("headline", "confounders")  # what shows their runs
TIERS = ("core", "full", "more")  # what FULL=0, 1 and 2 run: each with those before it
OWN = (*TIERS, "seeds")  # a profile may have cells and seeds of its own: `smoke` has no time for all


@dataclass(frozen=True)
class Run:
    """One execution of a run notebook: ``parameters`` are plain literals, ``name`` is unique in its experiment.

    ``backend`` is the one that Keras runs on, where the experiment names one; ``tier`` is a place in ``TIERS``.
    """

    experiment: str
    name: str
    notebook: str
    parameters: dict[str, Any]
    whole_machine: bool
    tier: int
    backend: str | None = None

    def flags(self) -> list[str]:
        """The run's parameters and backend as the command line of :mod:`lipnb.lab.execute` takes them."""
        named = self.parameters | {"experiment": self.experiment, "name": self.name}
        flags = [part for key, value in named.items() for part in ("-p", key, str(value))]
        return flags + (["--backend", self.backend] if self.backend else [])


def profiles(grid: Path = paths.GRID) -> list[str]:
    """The profiles' names."""
    return list(yaml.safe_load(grid.read_text())["seeds"])


def seeds_from(environment: Mapping[str, str]) -> list[int] | None:
    """The seeds that SEEDS names, such as "0 1 2"; None where it is not set: the profile's own.

    Raises ValueError for anything but whole numbers from 0.
    """
    if not (asked := environment.get("SEEDS", "").split()):
        return None
    if not all(seed.isdecimal() for seed in asked):
        raise ValueError(f'SEEDS must be whole numbers, such as "0 1 2". Received: {environment["SEEDS"]!r}')
    return [int(seed) for seed in asked]


def tier_from(environment: Mapping[str, str]) -> int:
    """The last tier that FULL asks for, a place in ``TIERS``: 0 where it is not set.

    Raises ValueError for anything but 0, 1 and 2.
    """
    asked = environment.get("FULL") or "0"
    if asked not in ("0", "1", "2"):
        raise ValueError(f"FULL must be 0, 1 or 2. Received: {asked!r}")
    return int(asked)


def dataset_from(environment: Mapping[str, str]) -> str | None:
    """The data set that DATASET names; None where it is not set: the grid's own.

    Raises ValueError for a name that is not among ``DATASETS``.
    """
    name = environment.get("DATASET") or None
    if name not in (None, *DATASETS):
        raise ValueError(f"DATASET must be one of {', '.join(DATASETS)}. Received: {name!r}")
    return name


def workspace(profile: str, dataset: str | None) -> str:
    """The folder below ``build`` for fresh results of ``profile``: those on another data set are kept apart."""
    return f"{profile}-{dataset}" if dataset else profile


def runs(
    profile: str,
    *,
    tier: int = len(TIERS) - 1,
    seeds: Sequence[int] | None = None,
    dataset: str | None = None,
    grid: Path = paths.GRID,
) -> list[Run]:
    """Every run of ``profile`` up to ``tier``, in order; ``seeds`` replaces the profile's own.

    With ``dataset``, the image experiments alone, on that data set.

    Raises ValueError for an unknown profile, for a key that the grid does not know and for two runs of one name.
    """
    content = yaml.safe_load(grid.read_text())
    if profile not in content["seeds"]:
        raise ValueError(f"PROFILE must be one of {', '.join(content['seeds'])}. Received: {profile!r}")
    usual = content["seeds"][profile]
    found = [
        run
        for name, e in content["experiments"].items()
        for run in _expand(name, e, profile, list(seeds or e["profiles"][profile].get("seeds", usual)))
    ]
    names = [(run.experiment, run.name) for run in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"every run's name must be unique. Received twice: {twice}")
    if dataset:
        played = [run for run in found if run.experiment in IMAGE_EXPERIMENTS]
        found = [replace(run, parameters=run.parameters | {"dataset": dataset}) for run in played]
    return [run for run in found if run.tier <= tier]


def _expand(name: str, experiment: dict[str, Any], profile: str, seeds: list[int]) -> Iterator[Run]:
    known = {"notebook", "set", "profiles", *TIERS, "threads", "backend"}
    if unknown := set(experiment) - known:
        raise ValueError(
            f"an experiment's keys must be among {sorted(known)}. Received in {name}: {sorted(unknown)}"
        )
    cells = {kind: experiment.get(kind, []) for kind in TIERS} | experiment["profiles"][profile]
    common = experiment["set"] | {key: value for key, value in cells.items() if key not in OWN}
    for tier, kind in enumerate(TIERS):
        for cell in cells[kind]:
            varied = cell if "seed" in common else cell | {"seed": seeds}
            for point in _points(varied):
                yield Run(
                    name,
                    _name(point) or name,
                    experiment["notebook"],
                    common | point,
                    experiment.get("threads") == "all",
                    tier,
                    experiment.get("backend"),
                )


def _points(cell: dict[str, Any]) -> Iterator[dict[str, Any]]:
    lists = [value if isinstance(value, list) else [value] for value in cell.values()]
    return (dict(zip(cell, values, strict=True)) for values in product(*lists))


def _name(point: dict[str, Any]) -> str:
    return "-".join(value if isinstance(value, str) else f"{key}{value}" for key, value in point.items())
