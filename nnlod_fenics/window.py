"""What a local matrix depends on: not the grid, only the window of the coefficient around an element.

Networks belong to windows. Models, training data and inference of any box, mask and boundary condition meet here.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from nnlod_fenics.domain import face_axis
from nnlod_fenics.errors import InputError
from nnlod_fenics.grid import Grid

__all__ = [
    "FORMS",
    "GALERKIN",
    "GIVEN",
    "INSIDE",
    "NATURAL",
    "PETROV_GALERKIN",
    "Window",
    "domain_marks",
    "element_size",
]

PETROV_GALERKIN = "petrov-galerkin"
"""The paper's form, with local matrices S_T of (3.6)."""
GALERKIN = "galerkin"
"""The symmetric form, with element energy matrices K_E."""
FORMS = (PETROV_GALERKIN, GALERKIN)
"""Forms of local matrices and of the coarse problem."""

INSIDE = 1
"""Mark of elements of D."""
NATURAL = 0
"""Mark of elements outside D, beyond a face where A ∂u/∂n is given, or inactive."""
GIVEN = -1
"""Mark of elements outside D, beyond a face where u is given."""

_KEYS = ("dim", "ratio", "cells", "ell", "form")


@dataclass(frozen=True)
class Window:
    """The part of a discretisation that a local matrix sees.

    Attributes:
        dim: Space dimension d.
        ratio: H/h, fine cells of an element along an axis.
        cells: H/ε, coefficient cells of an element along an axis.
        ell: Layers ℓ of a patch.
        form: ``"petrov-galerkin"`` for S_T of (3.6), which depends on the elements within ℓ layers of T; or
            ``"galerkin"`` for K_E, which depends on those within 2ℓ layers of E.
        sides: Sides of an element divided by their geometric mean, x first; empty for cubes.

    Example:
        >>> window = Window.of(Grid(dim=2, coarse=8, fine=64, ell=2, coefficient=32))
        >>> window.as_dict()
        {'dim': 2, 'ratio': 8, 'cells': 4, 'ell': 2, 'form': 'petrov-galerkin'}
        >>> window.width, window.matrix_shape
        (5, (36, 4))
        >>> Window(2, 8, 4, 1, "galerkin").width, Window(2, 8, 4, 1, "galerkin").matrix_shape
        (5, (16, 16))
    """

    dim: int
    ratio: int
    cells: int
    ell: int
    form: str = PETROV_GALERKIN
    sides: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise InputError(f"form must be one of {FORMS}, got {self.form!r}.")

    @classmethod
    def of(cls, grid: Grid, form: str = PETROV_GALERKIN) -> Window:
        """The window of a discretisation, for a form of the local matrices."""
        sides = () if grid.cubes else tuple(round(width / element_size(grid), 12) for width in grid.widths)
        return cls(grid.dim, grid.ratio, grid.cells_per_element, grid.ell, form, sides)

    @classmethod
    def from_dict(cls, table: dict[str, Any]) -> Window:
        """The window that :meth:`as_dict` describes.

        Raises:
            InputError: If the table describes none.
        """
        known = {*_KEYS, "sides"}
        if not isinstance(table, dict) or not set(_KEYS) <= set(table) <= known:
            raise InputError(f"window must be a table with {_KEYS}, got {table!r}.")
        numbers = [table[key] for key in _KEYS[:4]]
        sides = table.get("sides", [])
        if not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in numbers):
            raise InputError(f"window must have integers as dim, ratio, cells and ell, got {table!r}.")
        if not isinstance(sides, (list, tuple)) or not all(isinstance(s, (int, float)) for s in sides):
            raise InputError(f"window must have numbers as sides, got {sides!r}.")
        return cls(numbers[0], numbers[1], numbers[2], numbers[3], table["form"], tuple(map(float, sides)))

    def as_dict(self) -> dict[str, Any]:
        """What defines the window, for files; sides only where elements are not cubes."""
        table: dict[str, Any] = {key: getattr(self, key) for key in _KEYS}
        return table | ({"sides": list(self.sides)} if self.sides else {})

    def __str__(self) -> str:
        form = "Petrov–Galerkin" if self.form == PETROV_GALERKIN else "Galerkin"
        sides = f", elements with sides in the ratio {list(self.sides)}" if self.sides else ""
        return f"d = {self.dim}, H/h = {self.ratio}, H/ε = {self.cells}, ℓ = {self.ell}, {form} form{sides}"

    @property
    def layers(self) -> int:
        """Layers of elements around an element that its local matrix depends on."""
        return self.ell if self.form == PETROV_GALERKIN else 2 * self.ell

    @property
    def width(self) -> int:
        """Elements of the window along an axis."""
        return 2 * self.layers + 1

    @property
    def num_cells(self) -> int:
        """Coefficient cells of the window: the inputs of a network."""
        return (self.width * self.cells) ** self.dim

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """Shape of a padded local matrix: ((2ℓ+2)^d, 2^d), or ((2ℓ+2)^d, (2ℓ+2)^d) in the Galerkin form."""
        rows = (2 * self.ell + 2) ** self.dim
        return rows, 2**self.dim if self.form == PETROV_GALERKIN else rows

    @property
    def cubes(self) -> bool:
        """Whether elements are cubes."""
        return not self.sides

    def check(self, other: Window, what: str) -> None:
        """Check that something is of this window.

        Args:
            other: Its window.
            what: What it is called in an error.

        Raises:
            InputError: If it is not; tells both windows.
        """
        if other != self:
            raise InputError(f"{what} must be of the window {self}, got {other}.")


def element_size(grid: Grid) -> float:
    """The geometric mean H of the sides of an element: matrices scale as H^(d-2), loads as H^d."""
    return float(prod(grid.widths) ** (1 / grid.dim))


def domain_marks(grid: Grid, layers: int = 1) -> npt.NDArray[np.int8]:
    """What elements are, those of D, and those around the box.

    Args:
        grid: The discretisation.
        layers: Layers of elements around the box, at least 1 for the boundary conditions to be told.

    Returns:
        :data:`INSIDE`, :data:`NATURAL` or :data:`GIVEN`, int8, shape ``(1/H + 2 layers, …)``, indexed ``[y, x]``.
        Beyond an edge or a corner of the box u counts as given where it is on one of the faces that meet there.
    """
    marks = np.full(grid.active.shape, NATURAL, dtype=np.int8)
    marks[grid.active] = INSIDE
    marks = np.pad(marks, layers, constant_values=NATURAL)
    for face in grid.dirichlet:
        axis, upper = face_axis(face)
        index: list[slice] = [slice(None)] * grid.dim
        index[grid.dim - 1 - axis] = slice(marks.shape[grid.dim - 1 - axis] - layers, None) if upper else slice(layers)
        marks[tuple(index)] = GIVEN
    return marks
