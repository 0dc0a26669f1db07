"""Figures with sliders that work in a static page: inline SVG and a little script, no server, no request."""

from __future__ import annotations

import re
from collections.abc import Mapping

from IPython.display import display

from lipnb.lab import paths
from lipnb.lab.figures import COLORS

__all__ = [
    "conv_norm_html",
    "critic_html",
    "power_iteration_html",
    "show_conv_norm",
    "show_critic",
    "show_power_iteration",
]


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
    colors = {"U": COLORS["estimate"], "AXIS": COLORS["spectral_norm"], "VALUE": COLORS["exact"]}
    return _page("power_iteration.html", identifier, colors)


def conv_norm_html(identifier: str) -> str:
    """HTML of the norm of a convolution with one filter on 16×16: sliders from smooth to random, size and stride.

    Parameters and errors as for :func:`power_iteration_html`. The page shows the kernel divided by its reshaped
    norm, the convolution's norm between 1 and ⌈k/s⌉, and the input that attains it.
    """
    colors = {"PLUS": COLORS["spectral_norm"], "MINUS": COLORS["estimate"], "BAR": COLORS["operator_norm"]}
    return _page("conv_norm.html", identifier, colors)


def critic_html(identifier: str) -> str:
    """HTML of a critic of two samples on a line: a slider for its slope on each piece, its value beside W1.

    Parameters and errors as for :func:`power_iteration_html`. The page shows value, constant and their quotient,
    which no choice brings above W1, and a best critic (pale).
    """
    colors = {"OWN": COLORS["estimate"], "BEST": COLORS["exact"], "REAL": "#c98600", "FAKE": "#5b6fc4"}
    return _page("critic.html", identifier, colors)


def show_power_iteration(identifier: str, alt: str) -> None:
    """Display the figure; where no HTML is shown, ``alt`` says what it holds and which still figure stands in."""
    display({"text/html": power_iteration_html(identifier), "text/plain": alt}, raw=True)


def show_conv_norm(identifier: str, alt: str) -> None:
    """Display the figure, with ``alt`` as for :func:`show_power_iteration`."""
    display({"text/html": conv_norm_html(identifier), "text/plain": alt}, raw=True)


def show_critic(identifier: str, alt: str) -> None:
    """Display the figure, with ``alt`` as for :func:`show_power_iteration`."""
    display({"text/html": critic_html(identifier), "text/plain": alt}, raw=True)


def _page(asset: str, identifier: str, colors: Mapping[str, str]) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9-]*", identifier):
        raise ValueError(
            f"identifier must be lower-case letters, digits and hyphens. Received: {identifier!r}"
        )
    shared = {"STYLE": _asset("interactive.css"), "START": _asset("interactive.js")}
    page = _asset(asset)
    for name, text in {**shared, **colors, "ID": identifier}.items():
        page = page.replace(f"__{name}__", text)
    return page


def _asset(name: str) -> str:
    return (paths.ASSETS / name).read_text(encoding="utf-8").rstrip("\n")
