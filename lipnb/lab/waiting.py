"""The picture in the place of one whose runs are not there yet."""

from __future__ import annotations

from matplotlib.figure import Figure

from lipnb.lab import figures

__all__ = ["figure"]


def figure() -> Figure:
    """A line of text that says how to get the runs."""
    drawn, axis = figures.new(width=7.2, height=0.8)
    axis.text(0.5, 0.5, "No runs of this profile yet: make reproduce FULL=2", ha="center", va="center")
    axis.set_axis_off()
    return drawn
