"""Tables of results, as notebooks and pages show them."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["MISSING", "Table", "each_run"]

MISSING = "runs are missing, make reproduce FULL=2 makes them"


@dataclass(frozen=True)
class Table:
    """Rows under a header; the first column names the row, numbers are aligned to the right.

    ``folded`` puts the table behind its caption, to be opened by the reader. Without rows it is a line that says so.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""
    folded: bool = False

    def _repr_html_(self) -> str:
        if not self.rows:
            return f"<p>{html.escape(self._absent)}</p>"
        head = _row(f'<th scope="col">{html.escape(str(cell))}</th>' for cell in self.header)
        body = "".join(_row(_cells(row)) for row in self.rows)
        caption = html.escape(self.caption)
        inner = f'<table class="table lipnb-table"><thead>{head}</thead><tbody>{body}</tbody></table>'
        if self.folded:
            return f'<details class="lipnb-details"><summary>{caption}</summary><div class="lipnb-scroll">{inner}</div></details>'
        titled = inner.replace("<thead>", f"<caption>{caption}</caption><thead>", 1) if caption else inner
        return f'<div class="lipnb-scroll">{titled}</div>'

    @property
    def _absent(self) -> str:
        return f"{self.caption}: {MISSING}." if self.caption else f"Here {MISSING}."

    def __repr__(self) -> str:
        if not self.rows:
            return self._absent
        lines = [self.header, *self.rows]
        widths = [max(len(str(line[i])) for line in lines) for i in range(len(self.header))]
        rows = (
            "  ".join(str(cell).ljust(width) for cell, width in zip(line, widths, strict=True))
            for line in lines
        )
        return "\n".join([self.caption, *rows] if self.caption else rows)


def each_run(
    records: Iterable[Mapping[str, Any]],
    columns: Mapping[str, str | Callable[[Mapping[str, Any]], Any]],
    caption: str = "Every run, at its end",
) -> Table:
    """A folded table with a row for each of ``records``, in the order of their names.

    ``columns`` maps a heading to what stands below it: a function of the record, or a key, looked up in the last
    measurement of its ``history`` first, then in the record itself, then among its parameters. Numbers are shown with
    four digits; "–" stands for what a run does not have, as after a divergence.
    """
    ordered = sorted(records, key=lambda record: record["run"])
    rows = [[_entry(record, column) for column in columns.values()] for record in ordered]
    return Table(list(columns), rows, caption, folded=True)


def _entry(record: Mapping[str, Any], column: str | Callable[[Mapping[str, Any]], Any]) -> str:
    if callable(column):
        value = column(record)
    else:
        last = (record.get("history") or [{}])[-1]
        places = (last, record, record.get("parameters", {}))
        value = next((place[column] for place in places if column in place), None)
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _row(cells: Iterable[str]) -> str:
    return f"<tr>{''.join(cells)}</tr>"


def _cells(row: Sequence[Any]) -> Iterable[str]:
    yield f'<th scope="row">{html.escape(str(row[0]))}</th>'
    for cell in row[1:]:
        yield f"<td>{html.escape(str(cell))}</td>"
