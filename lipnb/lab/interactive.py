"""Figures with sliders that work in a static page: inline SVG and a little script, no server, no request."""

from __future__ import annotations

import re

from IPython.display import display

from lipnb.lab import paths
from lipnb.lab.figures import COLORS

__all__ = ["power_iteration_html", "show_power_iteration"]


def power_iteration_html(identifier: str) -> str:
    """HTML of power iteration in the plane: sliders for σ₂/σ₁, start angle and rounds; the theorem's bounds beside it.

    Parameters
    ----------
    identifier
        The element's id: lower-case letters, digits and hyphens, once on a page.

    Raises
    ------
    ValueError
        Where identifier is not of that form.
    """
    if not re.fullmatch(r"[a-z][a-z0-9-]*", identifier):
        raise ValueError(
            f"identifier must be lower-case letters, digits and hyphens. Received: {identifier!r}"
        )
    page = (paths.ASSETS / "power_iteration.html").read_text(encoding="utf-8")
    colors = {"U": COLORS["estimate"], "AXIS": COLORS["spectral_norm"], "VALUE": COLORS["exact"]}
    for name, text in {"ID": identifier, **colors}.items():
        page = page.replace(f"__{name}__", text)
    return page


def show_power_iteration(identifier: str, alt: str) -> None:
    """Display the figure; where no HTML is shown, ``alt`` says what it holds and which still figure stands in."""
    display({"text/html": power_iteration_html(identifier), "text/plain": alt}, raw=True)
