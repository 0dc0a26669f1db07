"""What is made from data for the pages: claims with their verdicts, measured times, the first page's figure, a notice.

Everything here is a pure function from data to MyST Markdown or HTML; ``lipnb.lab.site`` writes the files.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from lipnb.lab import sources
from lipnb.lab.claims import Claim
from lipnb.lab.verdicts import VERDICTS

__all__ = ["bench_section", "built_from", "claims_page", "figure_of", "timings_section"]

SECTIONS: Mapping[str, str] = {
    "A": "Sensitivity and the Lipschitz constraint",
    "B": "Neural networks",
    "C": "Matrix norms",
    "D": "l2 regularization",
    "E": "Spectral norm and power iteration",
    "F": "Spectral norm regularization",
    "G": "WGAN and the gradient penalty",
    "H": "Constructions",
    "I": "Keras",
}
LONGEST_LIST = 8

INTRODUCTION = """\
# Claims and verdicts

What the article says, claim by claim {cite:p}`su2018`, and what this book found. Every verdict is computed by a
chapter, from its checks or its runs, and none is typed; all of them
{download}`as data <verdicts.json>`."""

MEANINGS: Mapping[str, str] = {
    "proved": "a derivation holds as stated, and the numbers agree",
    "corrected": "true only after the change that the chapter states",
    "supported": "an experiment agrees, by the rule and at the scale given with it",
    "not supported": (
        "an experiment does not bear the claim out, by the rule and at the scale given with it: it disagrees, or it cannot tell"
    ),
    "answered": "a question that the article left open now has an answer, at the scale given with it",
    "open": "not settled by a chapter",
}


ENDS = {1: "normalization", 0: "cannot be told", -1: "the penalty"}


def claims_page(claims: Sequence[Claim], verdicts: Mapping[str, Mapping[str, Any]]) -> str:
    """The claims page: an overview of all verdicts, then one table a section, every claim with an anchor.

    ``verdicts`` maps a claim's id to the record that ``lipnb.lab.verdicts`` wrote; a missing one is "open".
    """
    records = {claim.id: verdicts.get(claim.id, {"verdict": "open"}) for claim in claims}
    legend = "\n".join(f"- {_badge(verdict)} {meaning}" for verdict, meaning in MEANINGS.items())
    parts = [
        INTRODUCTION,
        f"{{.verdict-legend}}\n{legend}",
        _overview(claims, records),
        _scale(records),
        _headline(records),
    ]
    for letter in sorted({claim.id[0] for claim in claims}):
        rows = [_row(claim, records[claim.id]) for claim in claims if claim.id[0] == letter]
        table = ["::::::{list-table}", ":class: claims", ":header-rows: 1", ":widths: 55 45", ""]
        table += ["* - Claim", "  - Verdict", *rows, "::::::"]
        parts.append("\n".join([f"## {letter}. {SECTIONS[letter]}", "", *table]))
    return "\n\n".join(parts) + "\n"


def timings_section(timings: Mapping[str, Any]) -> str:
    """Section on measured times; empty where there are none.

    ``timings`` is ``{"machine": text, "commands": {command: {"seconds": number, "budget_minutes": number}}}``.
    """
    rows = [
        f"| `{name}` | {_duration(entry['seconds'])} | {entry['budget_minutes']:g} min |"
        for name, entry in timings.get("commands", {}).items()
    ]
    if not rows:
        return ""
    head = ["| Command | Measured | Budget |", "|---|---:|---:|"]
    introduction = f"From a fresh clone, installation included, on {escape(timings['machine'])}:"
    return "\n".join(["## Time", "", introduction, "", *head, *rows, ""])


BENCH = {  # heading → the ratio to a step without a constraint, by what a framework calls it
    "lipnb": ("lipnb / plain",),
    "lipnb, operator": ("lipnb, operator / plain",),
    "its own": ("keras / plain", "torch / plain", "flax / plain", "equinox / plain"),
}


def bench_section(bench: Mapping[str, Any]) -> str:
    """Section on what a normalised critic's step costs, from the record of ``make bench``; empty without one."""
    rows = []
    for row in bench.get("steps", ()):
        cells = [
            f"{row['size']}×{row['size']}, batch {row['batch']}",
            row["where"],
            f"{row['plain_ms']:.1f} ms",
        ]
        for heading, names in BENCH.items():  # named in each cell: on a phone they stand below one another
            found = [row["ratios"][name] for name in names if name in row["ratios"]]
            cells.append("{}: {:.3f} ({:.3f} to {:.3f})".format(heading, *found[0]) if found else "")
        rows.append(f"| {' | '.join(cells)} |")
    if not rows:
        return ""
    head = f"| critic | framework | step without | {' | '.join(BENCH)} |"
    introduction = (
        f"Time of a critic's training step as a multiple of the step without a constraint: a DCGAN critic of width "
        f"{bench['width']}, on {escape(bench['device'])}, {bench['threads']} threads. Medians of {bench['rounds']} or more "
        f"rounds, then over {bench['processes']} processes, with the range over processes. *Its own* is Keras's wrapper, "
        "PyTorch's parametrization, Flax's or Equinox's layer. The constraint's own work is the same for every batch, so a "
        "batch of 2 shows it and one of 64 what a user pays. Below 1, the compiled step is faster with the constraint than "
        "without. `make bench` measures it again."
    )
    return "\n".join(
        ["## What it costs", "", introduction, "", "{.stack}", head, "|---|---|---|---|---|---|", *rows, ""]
    )


def built_from(parameters: Iterable[Mapping[str, Any]]) -> str:
    """What every page says where its captions may not fit, as HTML; empty for the recorded ``cpu`` runs.

    ``parameters`` are those that the chapters were executed with: ``profile``, and ``fresh`` for a machine's own runs.
    """
    kinds = sorted({(bool(p.get("fresh")), p["profile"]) for p in parameters if "profile" in p})
    if all(kind == (False, "cpu") for kind in kinds):
        return ""
    names = " and ".join(
        f"{'this machine’s' if fresh else 'the recorded'} <strong>{html.escape(profile)}</strong> runs"
        for fresh, profile in kinds
    )
    return (
        f"This book was built from {names}: numbers, figures and verdicts are theirs unless a chapter says otherwise. "
        "Captions describe the recorded <strong>cpu</strong> runs."
    )


def figure_of(notebook: Mapping[str, Any], name: str) -> str:
    """The figure ``name`` of an executed chapter, with its caption, for another page.

    Raises ValueError where the chapter shows no figure of that name.
    """
    for cell in notebook["cells"]:
        figure = cell["metadata"].get("mystnb", {}).get("figure", {})
        drawn = [
            output["data"]["text/html"]
            for output in cell.get("outputs", [])
            if "text/html" in output.get("data", {})
        ]
        if figure.get("name") == name and drawn:
            return "\n".join(
                [
                    "```{raw} html",
                    drawn[0].strip(),
                    "```",
                    "",
                    "{.front-caption}",
                    figure["caption"].strip(),
                    "",
                ]
            )
    raise ValueError(f"the chapter must show the figure {name}. Received: no such figure")


def escape(text: str) -> str:
    """Plain text as Markdown that shows it unchanged."""
    return re.sub(r"([\\`*_{}\[\]<>#|$~^@&])", r"\\\1", " ".join(text.split()))


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


def _badge(verdict: str) -> str:
    return f"[{verdict}]{{.verdict .verdict-{verdict.replace(' ', '-')}}}"


def _overview(claims: Sequence[Claim], records: Mapping[str, Mapping[str, Any]]) -> str:
    """How many claims have which verdict, and each claim as a link in its verdict's colour."""
    counts = Counter(record["verdict"] for record in records.values())
    totals = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict])
    chips = [_chip(claim, records[claim.id]["verdict"]) for claim in claims]
    return f"Of {len(claims)} claims: {totals}.\n\n{{.claim-chips}}\n" + "\n".join(chips)


def _chip(claim: Claim, verdict: str) -> str:
    return f"[{claim.id}](#claim-{claim.id.lower()}){{.verdict .verdict-{verdict.replace(' ', '-')}}}"


def _scale(records: Mapping[str, Mapping[str, Any]]) -> str:
    """Which profiles the experiments on this page ran with, and which of them this build has not run itself."""
    profiles = sorted({record["profile"] for record in records.values() if record.get("profile")})
    if not profiles:
        return ""
    names = " and ".join(f"`{profile}`" for profile in profiles)
    told = f"All experiments on this page ran with the {names} profile{'s' * (len(profiles) > 1)} only."
    if kept := [name for name, record in records.items() if sources.stands_in(record)]:
        told += f" This build did not make the runs behind {', '.join(kept)}: recorded ones stand in."
    return told


def _headline(records: Mapping[str, Mapping[str, Any]]) -> str:
    """The comparison that the article closes with, H6 and H7, in one paragraph; empty before both are settled."""
    quality, speed = (records.get(name, {"verdict": "open"}) for name in ("H6", "H7"))
    if "open" in (quality["verdict"], speed["verdict"]):
        return ""
    answer = (
        f"**The article's headline**, spectral normalization beside the gradient penalty: that it converges in fewer "
        f"epochs and ends better is {_badge(quality['verdict'])}, that each epoch is faster {_badge(speed['verdict'])}. "
        f"{escape(speed['summary'])} So far the answer, and it is one for these conditions: "
        f"{escape(quality['scale'])}. Another data set or budget may turn it; "
        f"[the chapter](notebooks/headline.ipynb) has every run."
    )
    rows = [
        f"| {name} | {mean:.1f} [{low:.1f}, {high:.1f}] | {ENDS[int(low > 0) - int(high < 0)]} |"
        for name, (mean, low, high) in quality.get("numbers", {}).get("differences", {}).items()
    ]
    if not rows:
        return f"{answer} {escape(quality['summary'])}"
    header = (
        "| networks, critic steps, normalization's loss | final FID, penalty − normalization | ends better |"
    )
    caption = "Mean over seeds, paired, and 95% t-interval; H6 counts the DCGAN rows with the Wasserstein loss alone."
    return "\n".join([answer, "", "{.stack}", header, "|---|---|---|", *rows, "", caption])


def _row(claim: Claim, record: Mapping[str, Any]) -> str:
    """One row of a section's table; continuation lines are indented as list items demand."""
    anchor = f'<span id="claim-{claim.id}"></span>'
    left = [
        f"(claim-{claim.id.lower()})=",
        f"{anchor}**{claim.id}. {claim.title}** [{claim.kind}]{{.kind}}",
        "",
    ]
    left += [claim.statement]
    right = [_badge(record["verdict"]) + " " + escape(record.get("summary", ""))]
    if claim.notebook:
        right += ["", f"[](notebooks/{claim.notebook}.ipynb)"]
    if record.get("rule"):
        right += ["", *_details(record)]
    return f"* - {_indented(left)}\n  - {_indented(right)}"


def _indented(lines: list[str]) -> str:
    return "\n".join(line and " " * 4 * bool(i) + line for i, line in enumerate(lines))


def _details(record: Mapping[str, Any]) -> Iterator[str]:
    """A folded box with all that stands behind a verdict."""
    yield ":::{dropdown} Rule, numbers and runs"
    for name in ("rule", "scale", "profile"):
        if record.get(name):
            yield from (f"**{name.capitalize()}.** {escape(record[name])}", "")
    numbers = [
        f"- {escape(name.replace('_', ' '))}: {value}" for name, value in _flat(record.get("numbers", {}))
    ]
    if numbers:
        yield from ("**Numbers.**", "", *numbers, "")
    if record.get("runs"):
        yield from (f"**Runs.** {', '.join(f'`{run}`' for run in record['runs'])}", "")
    yield ":::"


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Nested numbers as (path, text) pairs; long lists by their length and range."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flat(item, f"{name}, {key}" if name else str(key))
    elif (
        isinstance(value, list)
        and len(value) > LONGEST_LIST
        and all(isinstance(v, (int, float)) for v in value)
    ):
        yield name, f"{len(value)} values from {_text(min(value))} to {_text(max(value))}"
    elif isinstance(value, list):
        yield name, ", ".join(_text(item) for item in value)
    else:
        yield name, _text(value)


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else escape(str(value))
