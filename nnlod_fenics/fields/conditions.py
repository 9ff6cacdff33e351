"""Measured values of log A: reading them, and the cells that they belong to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nnlod_fenics.coefficient_files import read_array
from nnlod_fenics.errors import InputError
from nnlod_fenics.fields.arguments import as_list, is_number
from nnlod_fenics.fields.box import Box

__all__ = ["Conditions", "Observed", "parse_conditions"]

_MOST = 5000  # measurements: their covariance matrix has 200 MB


class Observed(NamedTuple):
    """Measured values by cell.

    Attributes:
        cells: Numbers of the cells that they belong to along each axis, in the order of arrays; shape ``(d, n)``.
        values: Of log A, shape ``(n,)``.
    """

    cells: npt.NDArray[np.intp]
    values: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Conditions:
    """Measured values of log A at points.

    Attributes:
        rows: The coordinates of a point, x first, and the value measured there.
    """

    rows: tuple[tuple[float, ...], ...]

    def settings(self) -> list[list[float]]:
        """The measurements as they stand in a configuration file."""
        return [list(row) for row in self.rows]

    def on(self, box: Box) -> Observed:
        """The cells that hold the points.

        A field is constant on each cell, so a measurement is one of the cell that its point lies in; a point between
        cells belongs to the one with the larger coordinates. What is measured twice in a cell counts once.

        Raises:
            InputError: If a point is outside of the box, or two values of a cell differ.
        """
        by_cell: dict[tuple[int, ...], tuple[float, ...]] = {}
        for row in self.rows:
            *point, value = row
            if not all(0 <= x <= length for x, length in zip(point, box.lengths, strict=True)):
                sides = " × ".join(f"[0, {length:g}]" for length in box.lengths)
                raise InputError(f"field.conditions must have points in {sides}, got {list(row)!r}.")
            places = zip(point, box.cells, box.lengths, strict=True)
            cell = tuple(min(int(x * cells / length), cells - 1) for x, cells, length in places)
            other = by_cell.setdefault(cell, row)
            if other[-1] != value:
                raise InputError(
                    f"field.conditions must not have two values in one cell of the field, got {list(other)!r} and "
                    f"{list(row)!r} in cell {cell}, x first."
                )
        cells = np.array(list(by_cell), dtype=np.intp).T[::-1]
        return Observed(cells, np.array([row[-1] for row in by_cell.values()]))


def parse_conditions(dim: int, given: Any) -> Conditions | None:
    """Read the setting ``conditions``.

    Args:
        dim: Space dimension d.
        given: Rows of d coordinates, x first, and the measured value of log A; or the name of a file with such rows,
            ``.csv`` or ``.npy``; None for no measurements.

    Returns:
        The measurements, if any.

    Raises:
        InputError: If it is none of these.
    """
    if given is None:
        return None
    rows, source = given, ""
    if isinstance(given, str | Path):
        rows, source = read_array(given), f" in file {str(given)!r}"
        rows = rows[None] if rows.ndim == 1 else rows  # a text file of one row has one axis
    listed = rows.tolist() if isinstance(rows, np.ndarray) else as_list(rows)
    what = f"field.conditions must be rows of {dim + 1} numbers for d = {dim}: {'x, y, z'[: 3 * dim - 2]}, log A"
    if not isinstance(listed, list) or not listed:
        raise InputError(f"{what}, or the name of a file with them, got {given!r}.")
    if len(listed) > _MOST:
        raise InputError(f"field.conditions must be at most {_MOST} rows, got {len(listed)}{source}.")
    for number, row in enumerate(listed):
        entries = as_list(row)
        if entries is None or len(entries) != dim + 1 or not all(map(is_number, entries)):
            raise InputError(f"{what}, got {row!r} as row {number}{source}.")
    return Conditions(tuple(tuple(map(float, row)) for row in listed))
