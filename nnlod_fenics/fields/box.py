"""The box that a field lives on, and its cells."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnlod_fenics.errors import InputError
from nnlod_fenics.fields.arguments import as_list, check_dim, check_positive

__all__ = ["Box"]


@dataclass(frozen=True)
class Box:
    """The box D = (0, L_x) × (0, L_y) × …, cut into equal cells. Arrays on it are indexed ``[y, x]``.

    Attributes:
        cells: Cells per axis, x first.
        lengths: Side lengths, x first.
    """

    cells: tuple[int, ...]
    lengths: tuple[float, ...]

    @classmethod
    def of(cls, dim: Any, cells: Any, lengths: Any = None) -> Box:
        """The box that a user's arguments describe.

        Args:
            dim: Space dimension d.
            cells: Cells per axis, x first: d integers, or one for all axes.
            lengths: Side lengths, x first: d numbers, or one for all axes; 1 if None.

        Raises:
            InputError: If they do not fit.
        """
        check_dim(dim)
        return cls(_check_cells(int(dim), cells), _check_lengths(int(dim), lengths))

    @property
    def dim(self) -> int:
        """Space dimension d."""
        return len(self.cells)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an array on the cells: z, y, x."""
        return self.cells[::-1]

    @property
    def is_unit(self) -> bool:
        """Whether it is the unit cube."""
        return all(length == 1 for length in self.lengths)

    @property
    def short_cells(self) -> int | tuple[int, ...]:
        """Cells per axis: one number where all axes have the same, x first elsewhere."""
        return self.cells[0] if len(set(self.cells)) == 1 else self.cells

    @property
    def cubic(self) -> bool:
        """Whether its cells are cubes, up to rounding."""
        widths = [length / cells for length, cells in zip(self.lengths, self.cells, strict=True)]
        return all(math.isclose(width, widths[0], rel_tol=1e-15) for width in widths)

    def midpoints(self, axis: int) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Coordinates of the cells' midpoints along an axis, x being axis 0."""
        return (np.arange(self.cells[axis]) + 0.5) * self.lengths[axis] / self.cells[axis]


def _is_count(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and int(value) >= 1


def _check_cells(dim: int, cells: Any) -> tuple[int, ...]:
    given = as_list(cells)
    if given is None:
        if not _is_count(cells):
            raise InputError(f"cells must be a positive integer, got {cells!r}.")
        return (int(cells),) * dim
    if len(given) != dim or not all(map(_is_count, given)):
        raise InputError(f"cells must be a positive integer or {dim} of them for d = {dim}, x first, got {cells!r}.")
    return tuple(int(count) for count in given)


def _check_lengths(dim: int, lengths: Any) -> tuple[float, ...]:
    if lengths is None:
        return (1.0,) * dim
    given = as_list(lengths)
    if given is None:
        check_positive("lengths", lengths)
        return (float(lengths),) * dim
    if len(given) != dim:
        raise InputError(f"lengths must be a positive number or {dim} of them for d = {dim}, x first, got {lengths!r}.")
    for number, length in enumerate(given):
        check_positive(f"lengths[{number}]", length)
    return tuple(map(float, given))
