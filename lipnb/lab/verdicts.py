"""From results to a verdict: the rules, and the record that pages and README read.

A verdict is never typed. A derivation's follows from the checks that ran, an experiment's from its stated
rule; where a check fails, the claim stays "open" and the failed checks are named.
"""

from __future__ import annotations

import html
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lipnb.lab import paths
from lipnb.lab.claims import load_claims

__all__ = ["VERDICTS", "Verdict", "answer", "derivation", "experiment", "merge"]

VERDICTS = ("proved", "corrected", "supported", "not supported", "answered", "open")


@dataclass(frozen=True)
class Verdict:
    """One claim's verdict, the rule that gave it and the numbers behind it."""

    claim: str
    verdict: str
    rule: str
    summary: str
    numbers: Mapping[str, Any] = field(default_factory=dict)
    scale: str = ""
    profile: str = ""
    runs: Sequence[str] = ()

    def write(self, folder: Path) -> Verdict:
        """Write the record as ``folder/<claim>.json``, beside its place and then renamed; returns itself."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.claim}.json"
        beside = path.with_suffix(".partial")
        beside.write_text(json.dumps(_plain(asdict(self)), indent=1, allow_nan=False) + "\n")
        os.replace(beside, path)
        return self

    def _repr_html_(self) -> str:
        parts = [html.escape(text) for text in (self.summary, self.rule, self.scale)]
        kind = self.verdict.replace(" ", "-")
        badge = f'<span class="verdict verdict-{kind}">{self.verdict}</span>'
        lines = [
            f"<p><strong>{self.claim}</strong> {badge} {parts[0]}</p>",
            f"<p><em>Rule.</em> {parts[1]}</p>",
        ]
        if parts[2]:
            profile = f"; profile {html.escape(self.profile)}" if self.profile else ""
            lines.append(f"<p><em>Scale.</em> {parts[2]}{profile}</p>")
        return f'<div class="verdict-box">{"".join(lines)}</div>'

    def __repr__(self) -> str:
        return f"{self.claim}: {self.verdict}. {self.summary} [{self.rule}]"


def derivation(
    claim: str,
    checks: Mapping[str, bool],
    *,
    summary: str,
    counterexamples: Mapping[str, bool] | None = None,
    numbers: Mapping[str, Any] | None = None,
) -> Verdict:
    """Verdict of a proof from the checks that ran.

    "open" where any check or counterexample fails; else "corrected" where there are counterexamples to the
    article's wording; else "proved". ``checks`` and ``counterexamples`` map what was checked to whether it held.
    """
    slips = dict(counterexamples or {})
    failed = [name for name, held in [*checks.items(), *slips.items()] if not held]
    verdict = "open" if failed or not checks else "corrected" if slips else "proved"
    rule = f"{len(checks)} checks of the proof's steps hold: {'; '.join(checks)}"
    if slips:
        rule += f". Counterexamples to the article's wording hold too: {'; '.join(slips)}"
    if failed:
        rule = f"failed: {'; '.join(failed)}"
    return _verdict(claim, verdict, rule, summary, numbers, "float64, fresh random inputs", "", ())


def experiment(
    claim: str,
    supported: bool | None,
    *,
    rule: str,
    summary: str,
    scale: str,
    profile: str,
    runs: Sequence[str],
    numbers: Mapping[str, Any] | None = None,
) -> Verdict:
    """Verdict of an experiment by its stated ``rule``; None where the runs that it needs are missing ("open")."""
    verdict = "open" if supported is None or not runs else "supported" if supported else "not supported"
    return _verdict(claim, verdict, rule, summary, numbers, scale, profile, runs)


def answer(
    claim: str, *, rule: str, summary: str, scale: str, profile: str, runs: Sequence[str], numbers=None
) -> Verdict:
    """The answer to an open question: "answered" where there are runs behind it, else "open"."""
    return _verdict(claim, "answered" if runs else "open", rule, summary, numbers, scale, profile, runs)


def merge(folder: Path, target: Path) -> dict[str, Any]:
    """One record for all claims, in the article's order: those written to ``folder``, the others "open"."""
    merged = {}
    for claim in load_claims():
        path = folder / f"{claim.id}.json"
        merged[claim.id] = (
            json.loads(path.read_text()) if path.exists() else {"claim": claim.id, "verdict": "open"}
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_suffix(".partial")
    beside.write_text(json.dumps(merged, indent=1) + "\n")
    os.replace(beside, target)
    return merged


def _verdict(claim, verdict, rule, summary, numbers, scale, profile, runs) -> Verdict:
    known = {c.id for c in load_claims()}
    if claim not in known:
        raise ValueError(f"claim must be an id of {paths.CLAIMS.name}. Received: {claim!r}")
    return Verdict(claim, verdict, rule, summary, dict(numbers or {}), scale, profile, tuple(runs))


def _plain(value: Any) -> Any:
    """NumPy numbers and arrays as Python's own."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return _plain(value.tolist())
    return value


if __name__ == "__main__":  # python -m lipnb.lab.verdicts FOLDER TARGET
    merge(Path(sys.argv[1]), Path(sys.argv[2]))
