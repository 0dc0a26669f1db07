"""Tables of results, as notebooks and pages show them."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Table"]


@dataclass(frozen=True)
class Table:
    """Rows under a header; the first column names the row, numbers are aligned to the right.

    ``folded`` puts the table behind its caption, to be opened by the reader.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""
    folded: bool = False

    def _repr_html_(self) -> str:
        head = _row(f'<th scope="col">{html.escape(str(cell))}</th>' for cell in self.header)
        body = "".join(_row(_cells(row)) for row in self.rows)
        caption = html.escape(self.caption)
        inner = f'<table class="table lipnb-table"><thead>{head}</thead><tbody>{body}</tbody></table>'
        if self.folded:
            return f'<details class="lipnb-details"><summary>{caption}</summary><div class="lipnb-scroll">{inner}</div></details>'
        titled = inner.replace("<thead>", f"<caption>{caption}</caption><thead>", 1) if caption else inner
        return f'<div class="lipnb-scroll">{titled}</div>'

    def __repr__(self) -> str:
        lines = [self.header, *self.rows]
        widths = [max(len(str(line[i])) for line in lines) for i in range(len(self.header))]
        rows = (
            "  ".join(str(cell).ljust(width) for cell, width in zip(line, widths, strict=True))
            for line in lines
        )
        return "\n".join([self.caption, *rows] if self.caption else rows)


def _row(cells: Iterable[str]) -> str:
    return f"<tr>{''.join(cells)}</tr>"


def _cells(row: Sequence[Any]) -> Iterable[str]:
    yield f'<th scope="row">{html.escape(str(row[0]))}</th>'
    for cell in row[1:]:
        yield f"<td>{html.escape(str(cell))}</td>"
