"""What ``lipschitz_bound`` answers: the bound and a row for each layer, as text, HTML and JSON."""

from __future__ import annotations

import dataclasses
import html
import json
import math
from collections.abc import Sequence
from typing import Any

__all__ = ["LayerBound", "LipschitzBound"]


@dataclasses.dataclass(frozen=True)
class LayerBound:
    """One row of the table that :func:`lipnb.lipschitz_bound` returns: one call of one layer.

    Attributes
    ----------
    layer
        The layer's name; inside of a nested model the model's name, a slash, and the layer's.
    type
        Name of the layer's class.
    kind
        ``exact``, ``upper bound``, or ``no constant``: of what kind ``constant`` is.
    constant
        The layer's own constant, None where it joins branches, infinite where it has none.
    bound
        Proven constant from the model's inputs to the layer's output.
    seconds
        What the row cost.
    note
        A remark, or the reason why there is no constant.

    Example
    -------
    >>> half = keras.layers.Rescaling(0.5, name="half")
    >>> model = keras.Sequential([keras.Input((2,)), half])
    >>> row = lipnb.lipschitz_bound(model).rows[0]
    >>> row.layer, row.type, row.kind, row.constant
    ('half', 'Rescaling', 'exact', 0.5)
    """

    layer: str
    type: str
    kind: str
    constant: float | None
    bound: float
    seconds: float
    note: str = ""


@dataclasses.dataclass(frozen=True, repr=False)
class LipschitzBound:
    """What :func:`lipnb.lipschitz_bound` found: ``float()`` of it is the bound, ``str()`` the table.

    In a notebook it shows itself as an HTML table.

    Attributes
    ----------
    value
        The bound; infinite where some layer has no constant.
    model
        The model's name.
    rows : tuple of LayerBound
        One :class:`lipnb.LayerBound` for each call of a layer, in the order of computation.

    Example
    -------
    >>> growth = keras.layers.Activation("exponential", name="growth")
    >>> model = keras.Sequential([keras.Input((2,)), growth])
    >>> bound = lipnb.lipschitz_bound(model)
    >>> float(bound), bound.reasons
    (inf, ('growth (Activation): exp has an unbounded derivative',))
    """

    value: float
    model: str
    rows: tuple[LayerBound, ...]

    @property
    def reasons(self) -> tuple[str, ...]:
        """Each layer without a constant, with its reason; empty where the bound is finite."""
        return tuple(f"{r.layer} ({r.type}): {r.note}" for r in self.rows if r.kind == "no constant")

    def __float__(self) -> float:
        return self.value

    def __repr__(self) -> str:
        return f"LipschitzBound({self.value:.6g}, model={self.model!r}, {len(self.rows)} layers)"

    def __str__(self) -> str:
        lines = [_HEADER, *map(_cells, self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        table = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines]
        return "\n".join([table[0], "-" * max(map(len, table)), *table[1:], self._summary()])

    def _repr_html_(self) -> str:
        body = "".join(_html_row("td", _cells(row)) for row in self.rows)
        summary = html.escape(self._summary())
        return (
            f"<table><thead>{_html_row('th', _HEADER)}</thead><tbody>{body}</tbody></table><p>{summary}</p>"
        )

    def _summary(self) -> str:
        return f"Lipschitz constant of {self.model} at inference (Euclidean norms): at most {self.value:.6g}"

    def to_json(self) -> str:
        """Strict JSON: model, bound and layers; an infinite number is the string "Infinity"."""
        fields = {
            "model": self.model,
            "bound": self.value,
            "layers": list(map(dataclasses.asdict, self.rows)),
        }
        return json.dumps(_finite(fields), allow_nan=False, indent=2)


_HEADER = ("layer", "type", "constant", "bound so far", "kind", "seconds", "note")


def _cells(row: LayerBound) -> tuple[str, ...]:
    constant = "" if row.constant is None else f"{row.constant:.6g}"
    return row.layer, row.type, constant, f"{row.bound:.6g}", row.kind, f"{row.seconds:.2f}", row.note


def _html_row(tag: str, cells: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(v) for key, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return "Infinity" if isinstance(value, float) and math.isinf(value) else value
