"""The nested meshes T_H ⊃ T_ε ⊃ T_h of a box, element patches, and all index arithmetic on them.

Numbering, everywhere in the package: elements, nodes and cells are numbered lexicographically with x
fastest; arrays of cell or node values are indexed ``[y, x]`` (``[z, y, x]``), so that ``ravel()`` yields
that numbering. Positions and sizes given as tuples have x first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import gcd, isclose, prod
from typing import Any

import numpy as np
import numpy.typing as npt

from nnlod_fenics.arrays import as_numbers
from nnlod_fenics.domain import (
    active_from_runs,
    check_domain,
    face_axis,
    nodes_of,
    on_face,
    parse_active,
    parse_dirichlet,
    parse_lengths,
    runs_of,
)
from nnlod_fenics.errors import InputError

__all__ = ["Grid", "lattice", "told_apart"]

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
Sizes = int | Sequence[int]

_FIELDS = ("dim", "coarse", "fine", "ell", "coefficient", "lengths", "dirichlet", "inactive")
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


def _cells_of(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Cells per axis, x first, of a coefficient of some shape."""
    tensor = len(shape) in (4, 5) or (len(shape) == 3 and shape[1:] == (1, 1) != shape[:2])
    dim = len(shape) - 2 if tensor else len(shape)
    cells = shape[:dim]
    if dim not in (1, 2, 3) or shape[dim:] not in ((), (dim, dim)) or min(cells) < 2:
        raise InputError(
            "A must have d = 1, 2 or 3 axes of at least 2 cells, and two more of length d where it is matrix-valued, "
            f"for a grid to follow from it, got shape {shape}."
        )
    return cells[::-1]


def _coarse_for(cells: tuple[int, ...]) -> tuple[int, ...]:
    """Elements per axis for cells of T_ε: each of 4 to 8 cells if possible, else about as many as it has cells."""
    common = gcd(*cells)
    fitting = [m for m in range(1, common + 1) if common % m == 0 and (2 * m <= min(cells) or m == 1)]
    usual = [m for m in fitting if 4 <= m <= 8]
    width = min(usual) if usual else min(fitting, key=lambda m: (max(cells) // m + m, m))
    return tuple(n // width for n in cells)


def _positive_int(name: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise InputError(f"{name} must be an integer of at least {least}, got {value!r}.")
    return int(value)


def _sizes(name: str, dim: int, value: Any) -> tuple[int, ...]:
    """Numbers per axis, x first, from one for all axes or d of them."""
    if isinstance(value, (list, tuple, np.ndarray)):
        if len(value) != dim:
            raise InputError(f"{name} must be an integer or {dim} integers (x first) for dim={dim}, got {value!r}.")
        return tuple(_positive_int(f"each of {name}", v, 1) for v in value)
    return (_positive_int(name, value, 1),) * dim


def _compact(values: tuple[Any, ...]) -> Any:
    """One number where all are equal, else a list."""
    return values[0] if len(set(values)) == 1 else list(values)


def _one_ratio(names: str, upper: tuple[int, ...], lower: tuple[int, ...]) -> None:
    """Check that counts are the same multiple of others along every axis."""
    small, large = names.split()
    given = f"{small}={_compact(lower)} and {large}={_compact(upper)}"
    if any(u % n for u, n in zip(upper, lower, strict=True)):
        raise InputError(f"{small} must divide {large}, got {given}.")
    if len({u // n for u, n in zip(upper, lower, strict=True)}) > 1:
        raise InputError(f"{large}/{small} must be the same along every axis, got {given}.")


@dataclass(frozen=True, init=False, repr=False)
class Grid:
    """A PG-LOD discretisation of a box D, or of a part of it.

    Args:
        dim: Space dimension d, 1, 2 or 3.
        coarse: Coarse elements per axis, x first; one number where all are equal, as 1/H on the unit cube.
        fine: Fine cells per axis, 1/h; H/h, a multiple of H/ε, is the same along every axis.
        ell: Layers ℓ of coarse elements around an element in its patch N^ℓ(T).
        coefficient: Coefficient cells per axis, 1/ε (default ``fine``); H/ε is the same along every axis.
        lengths: Side lengths of the box, x first; 1 each by default. Elements need not be cubes.
        dirichlet: Faces of the box with u given: ``"xmin"``, ``"xmax"``, ``"ymin"``, …; all by default. On the others,
            and on faces towards inactive elements, A ∂u/∂n is given: no flow, unless a problem says otherwise.
        active: Which coarse elements belong to D, bool, indexed ``[y, x]``; all by default.

    Raises:
        InputError: If an argument does not fit the others, or the problem would be singular.

    Example:
        >>> grid = Grid(dim=2, coarse=8, fine=64, ell=2, coefficient=32)
        >>> grid.num_elements, grid.coefficient_shape, grid.local_matrix_shape
        (64, (32, 32), (36, 4))
        >>> grid.patch_box(0)  # the patch of the element at the origin: where it starts, how many elements it has
        ((0, 0), (3, 3))
        >>> box = Grid(dim=2, coarse=(11, 6), fine=(55, 30), ell=2, lengths=(2.2, 1.2), dirichlet=("ymin", "xmax"))
        >>> box.node_shape, box.num_free_nodes, box.dirichlet
        ((7, 12), 66, ('xmax', 'ymin'))
    """

    dim: int
    coarse: tuple[int, ...]
    fine: tuple[int, ...]
    ell: int
    coefficient: tuple[int, ...]
    lengths: tuple[float, ...]
    dirichlet: tuple[str, ...]
    inactive: tuple[tuple[int, int], ...]

    def __init__(
        self,
        dim: int,
        coarse: Sizes,
        fine: Sizes,
        ell: int,
        coefficient: Sizes | None = None,
        lengths: float | Sequence[float] | None = None,
        dirichlet: Sequence[str] | None = None,
        active: npt.ArrayLike | None = None,
    ) -> None:
        if isinstance(dim, bool) or dim not in (1, 2, 3):
            raise InputError(f"dim must be 1, 2 or 3, got {dim!r}.")
        dim = int(dim)
        elements, cells = _sizes("coarse", dim, coarse), _sizes("fine", dim, fine)
        values = cells if coefficient is None else _sizes("coefficient", dim, coefficient)
        _one_ratio("coarse coefficient", values, elements)
        _one_ratio("coefficient fine", cells, values)
        layers = _positive_int("ell", ell, 0)
        if layers > max(elements):
            most = f"coarse={_compact(elements)} (patches of {max(elements) - 1} layers already cover D)"
            raise InputError(f"ell must be at most {most}, got {ell}.")
        faces, holes = parse_dirichlet(dim, dirichlet), parse_active(elements[::-1], active)
        if layers == 0 and cells[0] == 2 * elements[0] and (holes or len(faces) < 2 * dim):
            raise InputError("fine must be 3 times coarse or more for ell=0 where not all of ∂D has u given, got 2.")
        self._set(dim, elements, cells, layers, values, parse_lengths(dim, lengths), faces, holes)
        if holes or len(faces) < 2 * dim:
            check_domain(self.active, faces)

    def _set(self, *values: Any) -> None:
        for name, value in zip(_FIELDS, values, strict=True):
            object.__setattr__(self, name, value)

    @classmethod
    def from_dict(cls, table: dict[str, Any]) -> Grid:
        """The grid that :meth:`as_dict` describes.

        Args:
            table: The arguments of a grid, with ``inactive`` in the place of ``active`` if any element is.

        Returns:
            The grid.

        Raises:
            InputError: If the table describes none.
        """
        given = dict(table)
        runs = given.pop("inactive", None)
        unknown = sorted(set(given) - set(_FIELDS))
        if unknown:
            raise InputError(f"grid has no {unknown[0]!r}, expected {_FIELDS}.")
        missing = [name for name in _FIELDS[:4] if name not in given]
        if missing:
            raise InputError(f"grid lacks {missing[0]!r}.")
        if runs is None:
            return cls(**given)
        dim = given["dim"]
        shape = _sizes("coarse", dim if dim in (1, 2, 3) else 1, given["coarse"])[::-1]
        try:
            mask = active_from_runs(shape, tuple((int(start), int(stop)) for start, stop in runs))
            fits = runs_of(~mask) == tuple(tuple(run) for run in runs)
        except (TypeError, ValueError):
            fits = False
        if not fits:
            expected = f"increasing runs [start, stop] of element numbers, of which there are {prod(shape)}"
            raise InputError(f"inactive must hold {expected}, got {runs!r}.")
        return cls(**given, active=mask)

    @classmethod
    def for_coefficient(
        cls,
        A: npt.ArrayLike,
        ell: int = 2,
        coarse: Sizes | None = None,
        fine: Sizes | None = None,
        lengths: float | Sequence[float] | None = None,
        dirichlet: Sequence[str] | None = None,
        active: npt.ArrayLike | None = None,
    ) -> Grid:
        """A grid for a coefficient that is given: T_ε has its cells, the rest follows unless it is given too.

        Args:
            A: The coefficient, of which the shape counts only: cells ``[y, x]``, and ``(d, d)`` if it has matrices.
            ell: Layers ℓ of a patch.
            coarse: Coarse elements per axis. By default as many as possible with 4 to 8 cells of T_ε per element and
                axis; where no such number divides the cells, the one that is nearest to their square root.
            fine: Fine cells per axis. By default twice the cells as long as T_h has no more than 128² of them, else
                the cells; and at least four per element and axis, without which there would be no fine scales.
            lengths: Side lengths, see :class:`Grid`.
            dirichlet: Faces with u given, see :class:`Grid`.
            active: Active elements, see :class:`Grid`.

        Returns:
            The grid.

        Raises:
            InputError: If A has another shape or a number does not fit.

        Example:
            >>> Grid.for_coefficient(np.ones((60, 60)))
            Grid(dim=2, coarse=15, fine=120, ell=2, coefficient=60)
        """
        cells = _cells_of(as_numbers("A", A).shape)
        chosen = _coarse_for(cells) if coarse is None else _sizes("coarse", len(cells), coarse)
        multiple = max(2 if 2 ** len(cells) * prod(cells) <= _FINE_CELLS else 1, -(-4 * chosen[0] // cells[0]))
        finest = tuple(multiple * n for n in cells) if fine is None else fine
        return cls(len(cells), chosen, finest, ell, cells, lengths, dirichlet, active)

    @cached_property
    def at_fine_scale(self) -> Grid:
        """T_h alone: its cells as elements, no layers around them. For what concerns fine nodes."""
        grid = Grid.__new__(Grid)
        holes = runs_of(~self._spread(self.active, self.ratio)) if self.inactive else ()
        grid._set(self.dim, self.fine, self.fine, 0, self.fine, self.lengths, self.dirichlet, holes)
        return grid

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self.as_dict().items() if name != "inactive")
        holes = self.num_elements - int(self.active.sum())
        return f"Grid({given}{f', {holes} inactive elements' if holes else ''})"

    def as_dict(self) -> dict[str, Any]:
        """What defines the grid, for files and messages: see :meth:`from_dict`.

        Returns:
            Numbers that are the same for all axes once, lists of others; what is at its default is left out, and
            inactive elements are given as runs ``[start, stop]`` of their numbers.
        """
        table: dict[str, Any] = {
            "dim": self.dim,
            "coarse": _compact(self.coarse),
            "fine": _compact(self.fine),
            "ell": self.ell,
            "coefficient": _compact(self.coefficient),
        }
        if self.lengths != (1.0,) * self.dim:
            table["lengths"] = list(self.lengths)
        if len(self.dirichlet) < 2 * self.dim:
            table["dirichlet"] = list(self.dirichlet)
        if self.inactive:
            table["inactive"] = [list(run) for run in self.inactive]
        return table

    # -- numbers -------------------------------------------------------------------------------------

    @property
    def ratio(self) -> int:
        """H/h, fine cells per coarse element along an axis."""
        return self.fine[0] // self.coarse[0]

    @property
    def cells_per_element(self) -> int:
        """H/ε, coefficient cells per coarse element along an axis."""
        return self.coefficient[0] // self.coarse[0]

    @property
    def cells_per_coefficient(self) -> int:
        """ε/h, fine cells per coefficient cell along an axis."""
        return self.fine[0] // self.coefficient[0]

    @property
    def patch_width(self) -> int:
        """Coarse elements of a full patch along an axis, 2ℓ+1."""
        return 2 * self.ell + 1

    @property
    def num_elements(self) -> int:
        """Coarse elements of the box, inactive ones included."""
        return prod(self.coarse)

    @property
    def num_nodes(self) -> int:
        """Coarse nodes of the box."""
        return prod(self.node_shape)

    @property
    def num_free_nodes(self) -> int:
        """Coarse nodes at which u is unknown: the size of the coarse system."""
        return int(np.count_nonzero(self.free_nodes))

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
    def element_shape(self) -> tuple[int, ...]:
        """Shape of an array with one value per coarse element."""
        return self.coarse[::-1]

    @property
    def node_shape(self) -> tuple[int, ...]:
        """Shape of an array with one value per coarse node."""
        return tuple(n + 1 for n in self.coarse[::-1])

    @property
    def coefficient_shape(self) -> tuple[int, ...]:
        """Shape of an array of coefficient values, one per cell of T_ε."""
        return self.coefficient[::-1]

    @property
    def fine_shape(self) -> tuple[int, ...]:
        """Shape of an array with one value per cell of T_h."""
        return self.fine[::-1]

    @property
    def fine_node_shape(self) -> tuple[int, ...]:
        """Shape of an array with one value per node of T_h."""
        return tuple(n + 1 for n in self.fine[::-1])

    @property
    def widths(self) -> tuple[float, ...]:
        """Sides of a coarse element, H along each axis, x first."""
        return tuple(length / n for length, n in zip(self.lengths, self.coarse, strict=True))

    @property
    def fine_widths(self) -> tuple[float, ...]:
        """Sides of a fine cell, h along each axis, x first."""
        return tuple(length / n for length, n in zip(self.lengths, self.fine, strict=True))

    @property
    def cubes(self) -> bool:
        """Whether the elements are cubes (squares, intervals)."""
        return all(isclose(w, self.widths[0], rel_tol=1e-12) for w in self.widths)

    @property
    def unit_cube(self) -> bool:
        """Whether D is the unit cube with u given on all of ∂D and as many elements along every axis."""
        return not set(self.as_dict()) & {"lengths", "dirichlet", "inactive"} and len(set(self.coarse)) == 1

    # -- elements, nodes, patches --------------------------------------------------------------------

    @cached_property
    def active(self) -> BoolArray:
        """Which coarse elements belong to D, shape ``element_shape``."""
        mask = active_from_runs(self.element_shape, self.inactive)
        mask.flags.writeable = False
        return mask

    @cached_property
    def active_cells(self) -> BoolArray:
        """Which cells of T_ε belong to D, shape ``coefficient_shape``."""
        return self._spread(self.active, self.cells_per_element)

    @cached_property
    def active_elements(self) -> IntArray:
        """Numbers of the active elements, x fastest."""
        return np.flatnonzero(self.active)

    @cached_property
    def active_nodes(self) -> BoolArray:
        """Which coarse nodes belong to an active element, shape ``node_shape``."""
        return nodes_of(self.active)

    @cached_property
    def fixed_nodes(self) -> BoolArray:
        """Which coarse nodes of active elements lie on Γ_D, where u is given; shape ``node_shape``."""
        given = np.zeros(self.node_shape, dtype=bool)
        for face in self.dirichlet:
            given[on_face(given.shape, face)] = True
        return given & self.active_nodes

    @cached_property
    def free_nodes(self) -> BoolArray:
        """Which coarse nodes carry an unknown, shape ``node_shape``."""
        return self.active_nodes & ~self.fixed_nodes

    @cached_property
    def free_numbers(self) -> IntArray:
        """Number of each coarse node among the free ones (x fastest), −1 at others; shape ``(num_nodes,)``."""
        free = self.free_nodes.ravel()
        return np.where(free, np.cumsum(free) - 1, -1)

    @cached_property
    def elements(self) -> IntArray:
        """Positions of the coarse elements, shape ``(num_elements, dim)``, x first."""
        return lattice(*self.coarse)

    def element_numbers(self, position: IntArray) -> IntArray:
        """Numbers of the elements at some positions in the box, x first along the last axis."""
        return position @ np.cumprod([1, *self.coarse[:-1]])

    def patch_box(self, element: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The patch N^ℓ(T) cut to the box.

        Args:
            element: Number of T.

        Returns:
            Origin and extent in coarse elements, x first.
        """
        position = self.elements[element]
        low = np.maximum(position - self.ell, 0)
        high = np.minimum(position + self.ell + 1, self.coarse)
        return tuple(int(v) for v in low), tuple(int(v) for v in high - low)

    def elements_around(self, elements: IntArray) -> IntArray:
        """Numbers of the active elements that lie in the patch of one of some elements, ascending."""
        near = self.elements[np.unique(elements)][:, None, :] - self.ell + lattice(*(self.patch_width,) * self.dim)
        inside = ((near >= 0) & (near < np.asarray(self.coarse))).all(axis=2)
        numbers = np.unique(self.element_numbers(near[inside]))
        return numbers[self.active.ravel()[numbers]]

    @cached_property
    def element_nodes(self) -> IntArray:
        """Global numbers of the nodes of each element, shape ``(num_elements, 2^d)``."""
        return self._node_numbers(self.elements[:, None, :] + lattice(*(2,) * self.dim)[None])

    @cached_property
    def patch_nodes(self) -> IntArray:
        """Global numbers of the nodes of each padded patch, −1 outside the box.

        Shape ``(num_elements, (2ℓ+2)^d)``: the local-to-global map of the rows of S_T in (3.7).
        """
        return self._node_numbers(self.elements[:, None, :] - self.ell + lattice(*(2 * self.ell + 2,) * self.dim)[None])

    def _node_numbers(self, position: IntArray) -> IntArray:
        strides = np.cumprod([1, *(n + 1 for n in self.coarse[:-1])])
        inside = np.all((position >= 0) & (position <= np.asarray(self.coarse)), axis=-1)
        return np.where(inside, position @ strides, -1)

    def patch_node_slots(self, element: int) -> IntArray:
        """Rows of the padded local matrix that belong to the nodes of the patch cut to the box, x fastest."""
        return np.flatnonzero(self.patch_nodes[element] >= 0)

    def free_patch_nodes(self, element: int) -> BoolArray:
        """Which fine nodes of the padded patch are free in W(N^ℓ(T)).

        These are the nodes of active elements of the patch that neither lie on Γ_D nor touch an active element outside
        the patch: where a patch ends on a face without given u, its end nodes are free.

        Args:
            element: Number of T.

        Returns:
            Shape ``((2ℓ+1) r + 1,)*d``, indexed ``[y, x]``.
        """
        r, width = self.ratio, self.patch_width
        position = self.elements[element]
        window = tuple(slice(p, p + width + 2) for p in position[::-1])  # one layer around the patch, see the padding
        around = np.pad(self.active, self.ell + 1)[window]
        inside = np.pad(np.ones((width,) * self.dim, dtype=bool), 1)
        nodes = (slice(r, (width + 1) * r + 1),) * self.dim
        touched, bound = (nodes_of(self._spread(cells, r))[nodes] for cells in (around & inside, around & ~inside))
        for face in self.dirichlet:
            axis, upper = face_axis(face)
            plane = ((self.coarse[axis] if upper else 0) - (int(position[axis]) - self.ell)) * r
            if 0 <= plane < touched.shape[0]:
                touched[(slice(None),) * (self.dim - 1 - axis) + (plane,)] = False
        return touched & ~bound

    # -- arrays of cell values -----------------------------------------------------------------------

    def pad(self, values: npt.NDArray[Any], fill: float = 0.0) -> npt.NDArray[Any]:
        """Extend an array on T_ε by ℓ layers of coarse elements outside the box.

        Args:
            values: Array whose last ``dim`` axes are the coefficient cells.
            fill: Value outside the box (the paper sets Z = 0 there).

        Returns:
            Array whose last ``dim`` axes have ``2 ell H/ε`` more cells.
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
            Shape ``(len(elements), m, ..., m)`` with ``m = (2ℓ+1) H/ε``; zero outside the box.
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
        return self._spread(values, self.cells_per_coefficient, cell_axes)

    def _spread(self, values: npt.NDArray[Any], times: int, cell_axes: int | None = None) -> npt.NDArray[Any]:
        for axis in range(self.dim if cell_axes is None else cell_axes):
            values = np.repeat(values, times, axis=axis)
        return values


def told_apart(one: Grid, other: Grid) -> tuple[str, str]:
    """Two grids for a message on how they differ: in a line each, whatever their inactive elements.

    Args:
        one: A grid.
        other: Another one.

    Returns:
        Their representations; where these are the same, with an element that is active in one of them only, if any is.
    """
    texts = repr(one), repr(other)
    if texts[0] != texts[1] or one == other:
        return texts
    element = int(np.flatnonzero(one.active != other.active)[0])
    states = ("active" if grid.active.flat[element] else "inactive" for grid in (one, other))
    first, second = (f"{text[:-1]}, element {element} {state})" for text, state in zip(texts, states, strict=True))
    return first, second
