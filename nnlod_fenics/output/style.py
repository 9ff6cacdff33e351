"""The look of all figures, in one place: sizes, colours safe for colour-blind readers, line styles."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatterSciNotation

from nnlod_fenics.runtime.files import replacing

__all__ = ["DIVERGING", "FIELD", "SOLUTION", "Line", "colorbar", "figure", "line_styles", "save"]

SOLUTION = "viridis"  # values of one sign
"""Colour map of values of one sign."""
FIELD = "cividis"  # coefficients
"""Colour map of coefficients."""
DIVERGING = "RdBu_r"  # values around zero
"""Colour map of values around zero."""

_RC = {
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.labelsize": 11,
    "figure.titlesize": 11,
    "legend.fontsize": 10,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "font.family": "STIXGeneral",  # comes with Matplotlib, and so do its formulas
    "mathtext.fontset": "stix",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "image.origin": "lower",
    "image.interpolation": "none",
    "savefig.dpi": 200,
    "svg.hashsalt": "nnlod",  # the same file for the same data
}


class Line(NamedTuple):
    """How a curve is drawn."""

    color: str
    dashes: Any
    width: float


# Okabe and Ito's palette. A later curve is drawn over an earlier one, hence ever shorter dashes.
_LINES = (
    Line("#000000", "-", 1.2),
    Line("#0072B2", "-", 2.0),
    Line("#D55E00", (0, (4, 2)), 1.8),
    Line("#009E73", (0, (1, 1.5)), 2.0),
    Line("#CC79A7", (0, (5, 1, 1, 1)), 1.6),
    Line("#56B4E9", "-", 1.2),
)


def line_styles(count: int) -> list[Line]:
    """Styles for the curves of one plot, repeating after six."""
    return [_LINES[k % len(_LINES)] for k in range(count)]


@contextmanager
def figure(width: float, height: float) -> Iterator[Figure]:
    """A figure in the package's style, of the given size in inches; no window, no global state."""
    with mpl.rc_context({**mpl.rcParamsDefault, **_RC}):
        yield Figure(figsize=(width, height), layout="compressed")


def colorbar(fig: Figure, image: Any, axes: Any, label: str, ticks: list[float] | None = None) -> None:
    """A colour bar beside axes, with decades written as powers; at ``ticks`` numbers as they are."""
    bar: Any = fig.colorbar(image, ax=axes, shrink=0.9, aspect=25, pad=0.02)
    bar.set_label(label)
    if ticks is not None:
        bar.set_ticks(ticks, labels=[f"{tick:g}".replace("-", "\N{MINUS SIGN}") for tick in ticks])
        bar.minorticks_off()
    bar.outline.set_visible(False)
    if isinstance(image.norm, LogNorm):
        bar.formatter = LogFormatterSciNotation(minor_thresholds=(2, 0.5))


def save(fig: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure (PNG, PDF or SVG by the suffix) whole or not at all."""
    with replacing(path) as temporary:
        fig.savefig(temporary, bbox_inches="tight", pad_inches=0.05)
