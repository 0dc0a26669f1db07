"""The article's claims, read from ``book/claims.yaml``: the one place where they are stated."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from lipnb.lab import paths

__all__ = ["Claim", "load_claims"]


@dataclass(frozen=True)
class Claim:
    """A claim's id, its statement (Markdown with formulas), its kind and the chapter that settles it."""

    id: str
    title: str
    statement: str
    kind: str
    notebook: str | None


@cache
def load_claims(path: Path = paths.CLAIMS) -> tuple[Claim, ...]:
    """All claims, in the article's order."""
    return tuple(Claim(id=key, **entry) for key, entry in yaml.safe_load(path.read_text()).items())
