"""Which runs a chapter reads: this machine's own or, where it has not made them, the recorded ones, said aloud.

`make reproduce` makes the core runs. A chapter about other experiments then shows their recorded runs and says so, and
its verdict names them too, so that nobody takes them for this machine's.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from IPython.display import HTML, display

from lipnb.lab import grid, paths

__all__ = ["Source", "choose", "stands_in"]

RECORDED = " (recorded)"  # what follows the profile in a verdict that rests on recorded runs in a fresh build


@dataclass(frozen=True)
class Source:
    """Where the records are, and the ``profile`` that a verdict from them names; ``note`` says what stands in."""

    folder: Path
    profile: str
    note: str = ""

    def say(self) -> None:
        """Display the note, where there is one."""
        if self.note:
            title = '<p class="admonition-title">Recorded runs</p>'
            display(HTML(f'<div class="admonition note">{title}<p>{html.escape(self.note)}</p></div>'))


def choose(profile: str, *experiments: str, fresh: bool) -> Source:
    """The source for a chapter that needs runs of all ``experiments``.

    In a ``fresh`` build these are this machine's runs of ``profile``; where one of the experiments has none, the recorded
    runs of that profile, else of ``cpu``, stand in if they have all. On a data set of one's own nothing stands in.
    """
    own = Source(paths.runs(profile, fresh=fresh), profile)
    if not fresh or profile not in grid.profiles() or _has_all(own.folder, experiments):
        return own
    for other in dict.fromkeys((profile, "cpu")):
        if _has_all(paths.runs(other), experiments):
            note = (
                f"The runs of this chapter are not among those of this build, which FULL=2 would add. Shown are the "
                f"recorded ones of the {other} profile, and what is concluded rests on them."
            )
            return Source(paths.runs(other), other + RECORDED, note)
    return own


def stands_in(record: Mapping[str, Any]) -> bool:
    """Whether a verdict's record rests on recorded runs in a fresh build."""
    return str(record.get("profile", "")).endswith(RECORDED)


def _has_all(folder: Path, experiments: tuple[str, ...]) -> bool:
    return all(any((folder / name).glob("*.json")) for name in experiments)
