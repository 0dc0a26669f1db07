"""The article's claims, from ``book/claims.yaml``, and the chapters that settle them, from ``book/_toc.yml``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from lipnb.lab import paths

__all__ = ["Claim", "load_chapters", "load_claims"]


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


def load_chapters(book: Path = paths.CLAIMS.parent) -> list[str]:
    """Names of the chapters in the table of contents, in its order.

    A notebook that is not in it is a draft: a chapter whose runs have not been recorded yet.
    """
    toc = yaml.safe_load((book / "_toc.yml").read_text())
    files = [Path(entry["file"]) for part in toc["parts"] for entry in part["chapters"]]
    return [file.name for file in files if file.parent.name == "notebooks"]
