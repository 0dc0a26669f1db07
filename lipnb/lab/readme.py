"""The claims table of README.md: ``python -m lipnb.lab.readme --write`` makes it, ``--check`` compares it.

The table stands between ``<!-- claims -->`` and ``<!-- /claims -->`` and follows from ``book/claims.yaml`` and
the recorded verdicts in ``book/results/verdicts.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lipnb.lab import paths
from lipnb.lab.claims import Claim, load_claims

__all__ = ["main", "readme_table", "with_table"]

BLOCK = re.compile(r"(<!-- claims -->\n).*?(<!-- /claims -->)", re.S)


def readme_table(claims: Sequence[Claim], verdicts: Mapping[str, Mapping[str, Any]]) -> str:
    """One row a claim: id, title, verdict ("open" where ``verdicts`` has none), chapter."""
    head = ["| | claim | verdict | chapter |", "|---|---|---|---|"]
    return "\n".join([*head, *(_row(claim, verdicts.get(claim.id, {})) for claim in claims)]) + "\n"


def with_table(text: str, table: str) -> str:
    """README ``text`` with ``table`` in the place of the one it has.

    Raises ValueError where the text does not hold exactly one block for it.
    """
    if len(found := BLOCK.findall(text)) != 1:
        raise ValueError(
            f"README must hold one <!-- claims --> … <!-- /claims --> block. Received: {len(found)}"
        )
    return BLOCK.sub(lambda match: match[1] + table + match[2], text)


def _row(claim: Claim, record: Mapping[str, Any]) -> str:
    chapter = f"[{claim.notebook}](notebooks/{claim.notebook}.md)" if claim.notebook else ""
    return f"| {claim.id} | {claim.title} | {record.get('verdict', 'open')} | {chapter} |"


def main(arguments: list[str] | None = None, readme: Path = paths.ROOT / "README.md") -> int:
    """Command line; exit status 1 where ``--check`` finds another table than the data give."""
    parser = argparse.ArgumentParser(description="Write or check README.md's table of claims.")
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", action="store_true", help="put the table into README.md")
    action.add_argument("--check", action="store_true", help="fail where README.md has another one")
    options = parser.parse_args(arguments)
    recorded = paths.RECORDED / "verdicts.json"
    verdicts = json.loads(recorded.read_text()) if recorded.exists() else {}
    before = readme.read_text()
    after = with_table(before, readme_table(load_claims(), verdicts))
    if options.write and after != before:
        beside = readme.with_suffix(".partial")
        beside.write_text(after)
        os.replace(beside, readme)
    if options.check and after != before:
        print(
            "README.md's claims table is not that of the data: run python -m lipnb.lab.readme --write",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
