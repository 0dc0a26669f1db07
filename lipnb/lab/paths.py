"""Every path of the project, in one place.

``book/results/<profile>`` holds the recorded runs (committed); ``build/<profile>`` everything that a
machine makes for itself (ignored by git). A chapter reads the first unless it is told ``fresh``.
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["ASSETS", "CLAIMS", "GRID", "LOCK", "RECORDED", "ROOT", "build", "cache", "runs", "verdicts"]

ROOT = Path(__file__).resolve().parents[2]
ASSETS = Path(__file__).resolve().parent / "assets"
CLAIMS = ROOT / "book" / "claims.yaml"
GRID = ROOT / "notebooks" / "grid.yaml"
LOCK = ROOT / "requirements.lock"
RECORDED = ROOT / "book" / "results"


def build(workspace: str) -> Path:
    """``build/<workspace>``: a profile's own folder, or ``book`` for pages from recorded results."""
    return ROOT / "build" / workspace


def runs(profile: str, *, fresh: bool = False) -> Path:
    """Folder of a profile's run records: the committed ones, or this machine's fresh ones."""
    return build(profile) / "runs" if fresh else RECORDED / profile


def verdicts(profile: str, *, fresh: bool = False) -> Path:
    """Folder to which the chapters write one verdict a claim."""
    return build(profile if fresh else "book") / "verdicts"


def cache() -> Path:
    """Folder for downloaded data: ``LIPNB_DATA`` (from the repository's root) where it is set, else the user's cache."""
    if folder := os.environ.get("LIPNB_DATA"):
        return ROOT / Path(folder).expanduser()  # notebooks run in a folder of their own
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "lipnb"
