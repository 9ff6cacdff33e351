"""How a domain is drawn: planes and lines through the middle of its box, axes in its units, blank inactive elements."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import Normalize

from nnlod_fenics.domain import nodes_of
from nnlod_fenics.grid import Grid

__all__ = [
    "Plane",
    "box_axes",
    "cell_planes",
    "centre_line",
    "cover",
    "middle_plane",
    "panel_size",
    "shade",
    "tell_middle",
]

Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

_AXES = ("x_1", "x_2", "x_3")


class Plane(NamedTuple):
    """What is drawn as one picture.

    Attributes:
        values: Nodal or cell values ``[y, x]``; those outside of D do not count.
        active: Which cells belong to D.
        lengths: Side lengths, horizontal first.
        labels: Of the axes, horizontal first.
        title: Where the plane lies, for one of several.
    """

    values: Array
    active: BoolArray
    lengths: tuple[float, float]
    labels: tuple[str, str] = ("$x_1$", "$x_2$")
    title: str = ""

    @property
    def inside(self) -> Array:
        """The values that count, in one row."""
        cells = self.values.shape == self.active.shape
        return self.values[self.active if cells else nodes_of(self.active)]


def middle_plane(level: Grid, values: Array) -> Plane:
    """Nodal values in the plane: all of them for d = 2, in the middle across x₃ for d = 3.

    Args:
        level: A grid whose elements are the cells of the mesh.
        values: Nodal values, shape ``level.node_shape``.

    Returns:
        The plane.
    """
    active = level.active
    if level.dim == 3:
        values, active = _middle(values, 0), _touching_middle(active, 0)
    return Plane(values, active, (level.lengths[0], level.lengths[1]))


def cell_planes(values: Array, active: BoolArray, lengths: tuple[float, ...]) -> list[Plane]:
    """Pictures of cell values: one for d = 2, the three planes through the centre for d = 3.

    Args:
        values: Cell values, ``[y, x]`` or ``[z, y, x]``.
        active: Which cells belong to D.
        lengths: Side lengths of the box, x first.

    Returns:
        The planes.
    """
    if values.ndim == 2:
        return [Plane(values, active, (lengths[0], lengths[1]))]
    planes = []
    for normal in range(3):
        first, second = (k for k in range(3) if k != normal)
        axis = 2 - normal
        at = (slice(None),) * axis + (values.shape[axis] // 2,)  # cells have no middle: the one above it
        where = f"${_AXES[normal]} = {lengths[normal] / 2:.4g}$"
        labels, sides = (f"${_AXES[first]}$", f"${_AXES[second]}$"), (lengths[first], lengths[second])
        planes.append(Plane(values[at], active[at], sides, labels, where))
    return planes


def centre_line(level: Grid, values: Array, along: int) -> tuple[Array, Array]:
    """Nodal values on the line through the centre of the box along x (0), y (1) or z (2).

    Args:
        level: A grid whose elements are the cells of the mesh.
        values: Nodal values, shape ``level.node_shape``.
        along: The axis.

    Returns:
        Positions and values, with NaN between parts of the line that lie in D.
    """
    active, keep = level.active, level.dim - 1 - along
    for axis in range(level.dim - 1, -1, -1):
        if axis != keep:
            values, active = _middle(values, axis), _touching_middle(active, axis)
    at = np.linspace(0, level.lengths[along], len(values), dtype=np.float64)
    values = np.where(nodes_of(active), values, np.nan)
    gaps = np.flatnonzero(~active) + 1
    return np.insert(at, gaps, np.nan), np.insert(values, gaps, np.nan)


def tell_middle(lengths: tuple[float, ...], along: int) -> str:
    """Where the line through the centre along an axis lies: ``$x_2 = 0.5$``."""
    places: dict[str, list[str]] = {}
    for k, length in enumerate(lengths):
        if k != along:
            places.setdefault(f"{length / 2:.4g}", []).append(_AXES[k])
    return ", ".join(f"${' = '.join([*names, half])}$" for half, names in places.items())


def panel_size(lengths: tuple[float, ...]) -> tuple[float, float]:
    """Width and height of a picture of a box, (1, 1) for a square."""
    ratio = lengths[1] / lengths[0]
    width = min(max(ratio**-0.5, 0.6), 1.8)
    return width, min(max(width * ratio, 0.35), 1.8)


def shade(ax: Axes, plane: Plane, norm: Normalize, cmap: str, title: str) -> Any:
    """Draw nodal values, interpolated between the nodes."""
    nodes = [np.linspace(0, side, n) for side, n in zip(plane.lengths, plane.values.shape[::-1], strict=True)]
    image = ax.pcolormesh(*nodes, plane.values, norm=norm, cmap=cmap, shading="gouraud", rasterized=True)
    cover(ax, plane.active, plane.lengths)
    box_axes(ax, plane.lengths, plane.labels, title)
    return image


def cover(ax: Axes, active: BoolArray, lengths: tuple[float, float]) -> None:
    """Blank the cells that do not belong to D; the limits of the axes are the caller's to set."""
    if not active.all():
        white = np.ones((*active.shape, 4))
        white[..., 3] = ~active
        ax.imshow(white, extent=(0, lengths[0], 0, lengths[1]), zorder=1.5, rasterized=True)


def box_axes(ax: Axes, lengths: tuple[float, float], labels: tuple[str, str], title: str) -> None:
    """Axes of a box in its units."""
    (width, height), (horizontal, vertical) = lengths, labels
    ax.set(xlabel=horizontal, ylabel=vertical, title=title, aspect="equal", xlim=(0, width), ylim=(0, height))
    for set_ticks, side in ((ax.set_xticks, width), (ax.set_yticks, height)):
        set_ticks([0, side / 2, side], [f"{tick:.4g}" for tick in (0, side / 2, side)])


def _middle(values: Array, axis: int) -> Array:
    """Nodal values at the centre of an array axis, between two nodes if their number is even."""
    n = values.shape[axis]
    return values.take([(n - 1) // 2, n // 2], axis).mean(axis=axis)


def _touching_middle(active: BoolArray, axis: int) -> BoolArray:
    """Which cells whose closure has the centre of an array axis belong to D, one of two being enough."""
    n = active.shape[axis]
    return np.asarray(active.take([(n - 1) // 2, n // 2], axis).any(axis=axis))
