"""The Galerkin form as local matrices: energies of the functions (1 − C)Λ_i on one element E at a time.

With the (2ℓ+2)^d coarse nodes i around E (the rows of S_E; all others have (1 − C)Λ_i = 0 on E),

    K_E[i, j] = ∫_E A ∇(1 − C)Λ_i · ∇(1 − C)Λ_j,        Σ_E (local-to-global)(K_E) = Bᵀ K_h B,   B = (1 − C)P,

is symmetric positive semidefinite with the constants in its kernel. The correctors may come from either way to compute
them, element by element: what is known of (1 − C)Λ_i on E is kept until all elements within ℓ layers of E have come,
that is, for about 2ℓ+1 rows (planes) of elements at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse

from nnlod_fenics.coefficient import check_coefficient
from nnlod_fenics.errors import InputError
from nnlod_fenics.grid import Grid, lattice
from nnlod_fenics.lod.interpolation import element_hats
from nnlod_fenics.lod.leaves import cell_forms

__all__ = ["ElementEnergies", "ElementEnergy", "element_energies", "order_of_energies", "stream_energies"]

Array = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Correctors = Iterable[tuple[int, Array, Array | None]]
"""Number of T, φ_{T,j} on its padded patch, shape (2^d, (2ℓ+1) r + 1, …), and R_T, without the first axis, or None."""


class ElementEnergy(NamedTuple):
    """The energies on one element E, with R = Σ_T R_T and the load F_E of E; n = (2ℓ+2)^d.

    Attributes:
        element: Number of E.
        matrix: K_E, shape ``(n, n)``; rows and columns of nodes of no active element are zero, those on Γ_D are not.
        load: F_E((1 − C)Λ_i), shape ``(n,)``; zero without loads.
        coupling: ∫_E A ∇R·∇(1 − C)Λ_i, shape ``(n,)``; with source correctors u_H solves K u_H = load − coupling.
        source_energy: ∫_E A ∇R·∇R.
        source_work: F_E(R).
    """

    element: int
    matrix: Array
    load: Array
    coupling: Array
    source_energy: float
    source_work: float


class ElementEnergies(NamedTuple):
    """The same for all elements of the box, by number; zero for inactive ones."""

    matrices: Array
    loads: Array
    couplings: Array
    source_energies: Array
    source_works: Array


class _Pattern(NamedTuple):
    """Compressed rows of the stiffness matrix of an element, and where the entries of its cells' matrices go."""

    indptr: IntArray
    indices: IntArray
    slot: IntArray


@lru_cache(maxsize=8)
def _pattern(dim: int, ratio: int) -> _Pattern:
    nodes = (lattice(*(ratio,) * dim)[:, None] + lattice(*(2,) * dim)) @ (ratio + 1) ** np.arange(dim)
    n = (ratio + 1) ** dim
    entries, slot = np.unique(nodes[:, :, None] * n + nodes[:, None, :], return_inverse=True)
    return _Pattern(np.searchsorted(entries, np.arange(n + 1) * n), entries % n, slot.ravel())


class _Elements:
    """Stiffness matrices of the elements of a grid, from a checked coefficient."""

    def __init__(self, grid: Grid, A: Array) -> None:
        widths = np.asarray(grid.widths)
        forms = cell_forms(grid.dim, grid.ratio)[0] * (np.prod(widths) / np.outer(widths, widths))[:, :, None, None]
        self.grid, self.A, self.pattern = grid, A, _pattern(grid.dim, grid.ratio)
        self.forms = forms if A.ndim > grid.dim else np.einsum("aapq->pq", forms)

    def stiffness(self, element: int) -> scipy.sparse.csr_array:
        """∫_E A ∇φ_p·∇φ_q for the fine nodes of an element, x fastest."""
        grid, step = self.grid, self.grid.cells_per_element
        own = self.A[tuple(slice(p * step, (p + 1) * step) for p in grid.elements[element][::-1])]
        cells = grid.refine(own).reshape(grid.ratio**grid.dim, *self.A.shape[grid.dim :])
        values = np.tensordot(cells, self.forms, axes=self.A.ndim - grid.dim)
        data = np.bincount(self.pattern.slot, weights=values.ravel())
        return scipy.sparse.csr_array((data, self.pattern.indices, self.pattern.indptr))


class _Basis:
    """The functions (1 − C)Λ_i and R on the wanted elements that some correctors are still missing for."""

    def __init__(self, grid: Grid, wanted: IntArray) -> None:
        d, width = grid.dim, grid.patch_width
        self.grid = grid
        self.hats = element_hats(d, grid.ratio).T
        self.offsets = lattice(*(width,) * d) - grid.ell
        # The nodes of the elements around an element, numbered from its window; the middle one is its own.
        self.nodes = (self.offsets[:, None] + grid.ell + lattice(*(2,) * d)) @ (2 * grid.ell + 2) ** np.arange(d)
        self.wanted = np.zeros(grid.num_elements, dtype=bool)
        self.wanted[wanted] = True
        self.functions: dict[int, Array] = {}

    def add(self, element: int, phi: Array, source: Array | None) -> None:
        """Subtract the correctors of an element, and add its source corrector, on all wanted elements of its patch."""
        grid = self.grid
        near = grid.elements[element] + self.offsets
        inside = ((near >= 0) & (near < np.asarray(grid.coarse))).all(axis=1)
        numbers = grid.element_numbers(near)
        parts = self._by_element(phi)
        sources = None if source is None else self._by_element(source[None])[:, 0]
        for k in np.flatnonzero(inside):
            if self.wanted[numbers[k]]:
                functions = self._of(int(numbers[k]))
                functions[self.nodes[-1 - k]] -= parts[k]  # T lies in the opposite direction from there
                if sources is not None:
                    functions[-1] += sources[k]

    def _of(self, element: int) -> Array:
        """The functions on an element, shape ``((2ℓ+2)^d + 1, (r+1)^d)``, R last; Λ_i where nothing has been added."""
        if element not in self.functions:
            functions = np.zeros((self.grid.num_patch_nodes + 1, self.hats.shape[1]))
            functions[self.nodes[len(self.nodes) // 2]] = self.hats
            self.functions[element] = functions
        return self.functions[element]

    def _by_element(self, values: Array) -> Array:
        """Functions on a padded patch, ``(n, (2ℓ+1) r + 1, …)``, on each of its elements: ``(elements, n, nodes)``."""
        d, r = self.grid.dim, self.grid.ratio
        windows = np.lib.stride_tricks.sliding_window_view(values, (1, *(r + 1,) * d))
        parts = windows[(slice(None), *(slice(None, None, r),) * d)]
        return np.moveaxis(parts.reshape(len(values), len(self.offsets), -1), 0, 1)


def stream_energies(
    grid: Grid,
    A: npt.ArrayLike,
    correctors: Correctors,
    loads: Array | None = None,
    wanted: IntArray | None = None,
) -> Iterator[ElementEnergy]:
    """Compute K_E and the loads of the Galerkin form while the correctors come.

    Args:
        grid: The discretisation.
        A: Coefficient on T_ε, shape ``coefficient_shape`` (plus ``(d, d)``).
        correctors: Those of all active elements within ℓ layers of the wanted ones in the order of their numbers; those
            of inactive ones are passed over.
        loads: F_E at the fine nodes of all elements, from :func:`nnlod_fenics.loads.element_loads`; zero if None.
        wanted: Numbers of the active elements E; all of them if None.

    Yields:
        The energies on each of these elements, as soon as they are known.

    Raises:
        InputError: If a shape does not fit, or correctors are missing or in another order.
    """
    order, last = order_of_energies(grid, wanted)
    elements, basis = _Elements(grid, check_coefficient(grid, A)), _Basis(grid, order)
    forces = np.zeros((grid.num_elements, (grid.ratio + 1) ** grid.dim)) if loads is None else loads
    if forces.shape != (grid.num_elements, (grid.ratio + 1) ** grid.dim):
        expected = (grid.num_elements, (grid.ratio + 1) ** grid.dim)
        raise InputError(f"loads must have shape {expected}, got {forces.shape}.")
    done = 0
    for element, phi, source in _checked(grid, correctors, grid.elements_around(order)):
        basis.add(element, phi, source)
        while done < len(order) and last[order[done]] <= element:
            yield _energy(int(order[done]), basis, elements, forces)
            done += 1
    for number in order[done:]:  # whose last element is inactive
        yield _energy(int(number), basis, elements, forces)


def order_of_energies(grid: Grid, wanted: IntArray | None = None) -> tuple[IntArray, IntArray]:
    """The order in which energies become known while correctors come in the order of their elements.

    Args:
        grid: The discretisation.
        wanted: Numbers of the active elements E; all of them if None.

    Returns:
        The wanted numbers in that order; and for all elements that of the last one within ℓ layers.
    """
    chosen = grid.active_elements if wanted is None else np.unique(wanted)
    last = grid.element_numbers(np.minimum(grid.elements + grid.ell, np.asarray(grid.coarse) - 1))
    return chosen[np.argsort(last[chosen], kind="stable")], last


def element_energies(
    grid: Grid, A: npt.ArrayLike, correctors: Correctors, loads: Array | None = None
) -> ElementEnergies:
    """Compute K_E and the loads of the Galerkin form for all elements.

    Args:
        grid: The discretisation.
        A: Coefficient on T_ε, see :func:`stream_energies`.
        correctors: Those of all active elements in the order of their numbers.
        loads: F_E at the fine nodes of all elements; zero if None.

    Returns:
        Arrays over all elements of the box, rows and columns of the nodes ``grid.patch_nodes``.

    Raises:
        InputError: If a shape does not fit, or correctors are missing or in another order.
    """
    count, n = grid.num_elements, grid.num_patch_nodes
    result = ElementEnergies(*(np.zeros((count, *shape)) for shape in ((n, n), (n,), (n,), (), ())))
    for energy in stream_energies(grid, A, correctors, loads):
        for array, value in zip(result, energy[1:], strict=True):
            array[energy.element] = np.asarray(value)
    return result


def _energy(element: int, basis: _Basis, elements: _Elements, loads: Array) -> ElementEnergy:
    """The energies on an element whose functions are complete, and are dropped."""
    functions = basis.functions.pop(element)
    energies = functions @ (elements.stiffness(element) @ functions.T)
    energies = 0.5 * (energies + energies.T)
    work = functions @ loads[element]
    return ElementEnergy(
        element, energies[:-1, :-1], work[:-1], energies[:-1, -1], float(energies[-1, -1]), float(work[-1])
    )


def _checked(grid: Grid, correctors: Correctors, needed: IntArray) -> Iterator[tuple[int, Array, Array | None]]:
    """The correctors of the needed elements, of which none must be missing."""
    patch = (grid.patch_width * grid.ratio + 1,) * grid.dim
    expected = map(int, needed)
    for element, phi, source in correctors:
        if not 0 <= element < grid.num_elements:
            raise InputError(f"correctors must be those of elements 0 to {grid.num_elements - 1}, got {element}.")
        if not grid.active.flat[element]:
            continue
        due = next(expected, None)
        if element != due:
            raise InputError(
                f"correctors must come in the order of the numbers of active elements, got those of element {element} "
                f"where {'none' if due is None else f'those of element {due}'} were due."
            )
        if phi.shape != (2**grid.dim, *patch) or (source is not None and source.shape != patch):
            given = phi.shape if source is None else (phi.shape, source.shape)
            raise InputError(
                f"correctors must have shape {(2**grid.dim, *patch)} and source correctors {patch}, got {given}."
            )
        yield element, phi, source
    due = next(expected, None)
    if due is not None:
        raise InputError(f"correctors must be those of all active elements, got none of element {due}.")
