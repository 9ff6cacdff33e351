"""The nested meshes T_H ⊃ T_ε ⊃ T_h of the unit cube, element patches, and all index arithmetic on them.

Numbering, everywhere in the package: elements, nodes and cells are numbered lexicographically with x
fastest; arrays of cell or node values are indexed ``[y, x]`` (``[z, y, x]``), so that ``ravel()`` yields
that numbering. Positions and sizes given as tuples have x first.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from nnlod_fenics.arrays import as_numbers
from nnlod_fenics.errors import InputError

__all__ = ["Grid", "lattice"]

IntArray = npt.NDArray[np.int64]

_FINE_CELLS = 128**2  # of T_h, up to which a grid that follows from a coefficient has two of them per cell and axis


def lattice(*sizes: int) -> IntArray:
    """List the points of an integer lattice, x fastest.

    Args:
        *sizes: Number of points along x, y, z.

    Returns:
        Multi-indices, shape ``(prod(sizes), len(sizes))``, x first.
    """
    axes = np.meshgrid(*(np.arange(s, dtype=np.int64) for s in reversed(sizes)), indexing="ij")
    return np.stack([axis.ravel() for axis in reversed(axes)], axis=1)


def _cells_of(shape: tuple[int, ...]) -> tuple[int, int]:
    """Dimension and cells per axis of a coefficient of some shape."""
    tensor = len(shape) in (4, 5) or (len(shape) == 3 and shape[1:] == (1, 1) != shape[:2])
    dim = len(shape) - 2 if tensor else len(shape)
    cells = shape[:dim]
    if dim not in (1, 2, 3) or shape[dim:] not in ((), (dim, dim)) or min(cells) < 2:
        raise InputError(
            "A must have shape (n,)*d or (n,)*d + (d, d) with n of at least 2 and d = 1, 2 or 3 for a grid to follow "
            f"from it, got {shape}."
        )
    if len(set(cells)) != 1:
        raise InputError(f"A must have as many cells along each axis (D is the unit cube), got shape {shape}.")
    return dim, cells[0]


def _coarse_for(n: int) -> int:
    """Elements per axis for n cells of T_ε: each of 4 to 8 cells if possible, else the divisor nearest to √n."""
    divisors = [c for c in range(2, n + 1) if n % c == 0]
    usual = [c for c in divisors if 4 <= n // c <= 8]
    return max(usual) if usual else min(divisors, key=lambda c: (c + n // c, -c))


def _positive_int(name: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise InputError(f"{name} must be an integer of at least {least}, got {value!r}.")
    return int(value)


@dataclass(frozen=True, init=False)
class Grid:
    """A PG-LOD discretisation of D = (0,1)^d.

    Args:
        dim: Space dimension d, 1, 2 or 3.
        coarse: 1/H, coarse elements per axis.
        fine: 1/h, fine cells per axis; a multiple of ``coefficient``.
        ell: Layers ℓ of coarse elements around an element in its patch N^ℓ(T); at most ``coarse``.
        coefficient: 1/ε, coefficient cells per axis (default ``fine``); a multiple of ``coarse``.

    Raises:
        InputError: If a number does not fit the others.

    Example:
        >>> grid = Grid(dim=2, coarse=8, fine=64, ell=2, coefficient=32)
        >>> grid.num_elements, grid.coefficient_shape, grid.local_matrix_shape
        (64, (32, 32), (36, 4))
        >>> grid.patch_box(0)  # the patch of the element at the origin: where it starts, how many elements it has
        ((0, 0), (3, 3))
    """

    dim: int
    coarse: int
    fine: int
    ell: int
    coefficient: int

    def __init__(self, dim: int, coarse: int, fine: int, ell: int, coefficient: int | None = None) -> None:
        if dim not in (1, 2, 3):
            raise InputError(f"dim must be 1, 2 or 3, got {dim!r}.")
        values = {
            "dim": int(dim),
            "coarse": _positive_int("coarse", coarse, 1),
            "fine": _positive_int("fine", fine, 1),
            "ell": _positive_int("ell", ell, 0),
            "coefficient": _positive_int("coefficient", fine if coefficient is None else coefficient, 1),
        }
        if values["coefficient"] % values["coarse"]:
            given = f"coarse={coarse} and coefficient={values['coefficient']}"
            raise InputError(f"coarse must divide coefficient, got {given}.")
        if values["fine"] % values["coefficient"]:
            given = f"coefficient={values['coefficient']} and fine={fine}"
            raise InputError(f"coefficient must divide fine, got {given}.")
        if values["ell"] > values["coarse"]:
            raise InputError(
                f"ell must be at most coarse={coarse} (patches of {coarse - 1} layers already cover D), got {ell}."
            )
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @classmethod
    def for_coefficient(
        cls, A: npt.ArrayLike, ell: int = 2, coarse: int | None = None, fine: int | None = None
    ) -> Grid:
        """A grid for a coefficient that is given: T_ε has its cells, the rest follows unless it is given too.

        Args:
            A: The coefficient, of which the shape counts only: ``(n,)*d`` or ``(n,)*d + (d, d)``.
            ell: Layers ℓ of a patch.
            coarse: 1/H. By default as large as possible with 4 to 8 cells of T_ε per element and axis; where no such
                number divides n, the divisor that is nearest to √n.
            fine: 1/h. By default 2n as long as T_h has no more than 128² cells, else n; and at least four cells per
                element and axis, without which there would be no fine scales.

        Returns:
            The grid.

        Raises:
            InputError: If A has another shape or a number does not fit.

        Example:
            >>> Grid.for_coefficient(np.ones((60, 60)))
            Grid(dim=2, coarse=15, fine=120, ell=2, coefficient=60)
        """
        dim, n = _cells_of(as_numbers("A", A).shape)
        chosen = _coarse_for(n) if coarse is None else _positive_int("coarse", coarse, 1)
        multiple = max(2 if (2 * n) ** dim <= _FINE_CELLS else 1, -(-4 * chosen // n))
        return cls(dim, chosen, multiple * n if fine is None else fine, ell, n)

    # -- numbers -------------------------------------------------------------------------------------

    @property
    def ratio(self) -> int:
        """H/h, fine cells per coarse element along an axis."""
        return self.fine // self.coarse

    @property
    def cells_per_element(self) -> int:
        """H/ε, coefficient cells per coarse element along an axis."""
        return self.coefficient // self.coarse

    @property
    def patch_width(self) -> int:
        """Coarse elements of a full patch along an axis, 2ℓ+1."""
        return 2 * self.ell + 1

    @property
    def num_elements(self) -> int:
        """Coarse elements in D."""
        return self.coarse**self.dim

    @property
    def num_nodes(self) -> int:
        """Coarse nodes in D, boundary included."""
        return (self.coarse + 1) ** self.dim

    @property
    def num_interior_nodes(self) -> int:
        """Coarse nodes inside D: the size of the coarse system."""
        return (self.coarse - 1) ** self.dim

    @property
    def num_patch_nodes(self) -> int:
        """Coarse nodes of a full patch, (2ℓ+2)^d: the rows of a local matrix."""
        return (2 * self.ell + 2) ** self.dim

    @property
    def num_patch_cells(self) -> int:
        """Coefficient cells of a full patch: the inputs of a network."""
        return (self.patch_width * self.cells_per_element) ** self.dim

    @property
    def local_matrix_shape(self) -> tuple[int, int]:
        """Shape of a padded local matrix S_T, (3.6)."""
        return self.num_patch_nodes, 2**self.dim

    @property
    def trivial_fine_scale(self) -> bool:
        """Whether V_h is too coarse for fine-scale functions: W(N^ℓ(T)) = {0}, all correctors vanish."""
        return self.ratio == 1 or (self.ratio == 2 and self.ell == 0)

    @property
    def coefficient_shape(self) -> tuple[int, ...]:
        """Shape of an array of coefficient values, one per cell of T_ε."""
        return (self.coefficient,) * self.dim

    def as_dict(self) -> dict[str, int]:
        """The five numbers that define the grid, for files and messages."""
        return {name: getattr(self, name) for name in ("dim", "coarse", "fine", "ell", "coefficient")}

    # -- elements, nodes, patches --------------------------------------------------------------------

    @cached_property
    def elements(self) -> IntArray:
        """Positions of the coarse elements, shape ``(num_elements, dim)``, x first."""
        return lattice(*(self.coarse,) * self.dim)

    def patch_box(self, element: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The patch N^ℓ(T) cut to D.

        Args:
            element: Number of T.

        Returns:
            Origin and extent in coarse elements, x first.
        """
        position = self.elements[element]
        low = np.maximum(position - self.ell, 0)
        high = np.minimum(position + self.ell + 1, self.coarse)
        return tuple(int(v) for v in low), tuple(int(v) for v in high - low)

    @cached_property
    def element_nodes(self) -> IntArray:
        """Global numbers of the nodes of each element, shape ``(num_elements, 2^d)``."""
        return self._node_numbers(self.elements[:, None, :] + lattice(*(2,) * self.dim)[None])

    @cached_property
    def patch_nodes(self) -> IntArray:
        """Global numbers of the nodes of each padded patch, −1 outside the closure of D.

        Shape ``(num_elements, (2ℓ+2)^d)``: the local-to-global map of the rows of S_T in (3.7).
        """
        return self._node_numbers(self.elements[:, None, :] - self.ell + lattice(*(2 * self.ell + 2,) * self.dim)[None])

    @cached_property
    def interior_numbers(self) -> IntArray:
        """Number of each node among the interior nodes (x fastest), −1 on ∂D; shape ``(num_nodes,)``."""
        numbers = np.full((self.coarse + 1,) * self.dim, -1, dtype=np.int64)
        numbers[(slice(1, -1),) * self.dim] = np.arange(self.num_interior_nodes).reshape((self.coarse - 1,) * self.dim)
        return numbers.ravel()

    def _node_numbers(self, position: IntArray) -> IntArray:
        strides = (self.coarse + 1) ** np.arange(self.dim)
        inside = np.all((position >= 0) & (position <= self.coarse), axis=-1)
        return np.where(inside, position @ strides, -1)

    def patch_node_slots(self, element: int) -> IntArray:
        """Rows of the padded local matrix that belong to the nodes of the patch cut to D, x fastest."""
        return np.flatnonzero(self.patch_nodes[element] >= 0)

    # -- arrays of cell values -----------------------------------------------------------------------

    def pad(self, values: npt.NDArray[Any], fill: float = 0.0) -> npt.NDArray[Any]:
        """Extend an array on T_ε by ℓ layers of coarse elements outside D.

        Args:
            values: Array whose last ``dim`` axes are the coefficient cells.
            fill: Value outside D (the paper sets Z = 0 there).

        Returns:
            Array whose last ``dim`` axes have ``coefficient + 2 ell H/ε`` cells.
        """
        width = self.ell * self.cells_per_element
        lead = values.ndim - self.dim
        return np.pad(values, [(0, 0)] * lead + [(width, width)] * self.dim, constant_values=fill)

    def cut_patches(
        self, values: npt.NDArray[Any], elements: npt.NDArray[np.integer] | None = None
    ) -> npt.NDArray[Any]:
        """Cut the padded patches of elements from an array on T_ε: the operators R_T of section 4.

        Args:
            values: One field, shape ``coefficient_shape``.
            elements: Numbers of the elements; all if None.

        Returns:
            Shape ``(len(elements), m, ..., m)`` with ``m = (2ℓ+1) H/ε``; zero outside D.
        """
        step = self.cells_per_element
        size = self.patch_width * step
        windows = np.lib.stride_tricks.sliding_window_view(self.pad(values), (size,) * self.dim)
        corners = windows[(slice(None, None, step),) * self.dim]
        flat = corners.reshape((self.num_elements,) + (size,) * self.dim)
        return flat if elements is None else flat[np.asarray(elements)]

    def refine(self, values: npt.NDArray[Any], cell_axes: int | None = None) -> npt.NDArray[Any]:
        """Spread values on T_ε to the cells of T_h inside them.

        Args:
            values: Array on T_ε; leading cell axes, then any others (matrix-valued coefficients).
            cell_axes: Number of leading cell axes; ``dim`` if None.

        Returns:
            The same values on T_h.
        """
        for axis in range(self.dim if cell_axes is None else cell_axes):
            values = np.repeat(values, self.fine // self.coefficient, axis=axis)
        return values
