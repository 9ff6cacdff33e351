"""The coarse operator: local matrices assembled by (3.7), and the coarse solve (3.4).

Unknowns are the free nodes: those of active elements that do not lie on Γ_D. The rows and columns of nodes on Γ_D serve
boundary values and fluxes: K_FF u_F = b_F − K_FD g.

On one process SciPy's SuperLU solves: with a minimum degree ordering of the symmetric pattern it took 22 ms for
1/H = 32 and 0.9 s for 1/H = 96 where PETSc's own LU took 56 ms and 3.5 s (d = 2, ℓ = 2, one run). The symmetric
matrix of the Galerkin form is solved by :mod:`nnlod_fenics.lod.symmetric`. A matrix that is
distributed is PETSc's, see :mod:`nnlod_fenics.lod.distributed`.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse
import scipy.sparse.linalg

from nnlod_fenics.arrays import as_floats
from nnlod_fenics.errors import InputError, NumericalError
from nnlod_fenics.grid import Grid
from nnlod_fenics.loads import load_vector
from nnlod_fenics.lod.symmetric import LinearSolve, solve_symmetric
from nnlod_fenics.problem import Problem, Source, boundary_values

__all__ = [
    "CoarseSolver",
    "apply_local",
    "coarse_mass_matrix",
    "coarse_operator",
    "coarse_residual",
    "column_nodes",
    "is_galerkin",
    "solve_coarse",
    "solve_sparse",
    "sum_local",
]

Array = npt.NDArray[np.float64]

_RESIDUAL = 1e-11  # backward error above which a factorisation with few row exchanges is not taken


class Pattern(NamedTuple):
    """Where the entries of all local matrices go in the compressed rows of the coarse matrix."""

    indptr: npt.NDArray[np.int32]
    indices: npt.NDArray[np.int32]
    kept: npt.NDArray[np.int64]  # flat places in S of the entries between the nodes kept
    slot: npt.NDArray[np.int64]  # their places among the nonzeros of the matrix


@lru_cache(maxsize=16)
def _pattern(grid: Grid, boundary: bool, galerkin: bool) -> Pattern:
    numbers = np.arange(grid.num_nodes) if boundary else grid.free_numbers
    numbers = np.append(numbers, -1)  # patch nodes outside the box have number -1
    nodes = np.where(grid.active.reshape(-1, 1), column_nodes(grid, galerkin), -1)
    shape = (grid.num_elements, grid.num_patch_nodes, nodes.shape[1])
    rows = np.broadcast_to(numbers[grid.patch_nodes][:, :, None], shape).ravel()
    columns = np.broadcast_to(numbers[nodes][:, None, :], shape).ravel()
    kept = np.flatnonzero((rows >= 0) & (columns >= 0))
    n = grid.num_nodes if boundary else grid.num_free_nodes
    entries, slot = np.unique(rows[kept] * n + columns[kept], return_inverse=True)
    indptr = np.searchsorted(entries, np.arange(n + 1) * n)
    return Pattern(indptr.astype(np.int32), (entries % n).astype(np.int32), kept, slot)


def _check_free(grid: Grid) -> int:
    if grid.num_free_nodes == 0:
        raise InputError(f"grid must have coarse nodes at which u is unknown, got none of {grid!r}.")
    return grid.num_free_nodes


def coarse_operator(grid: Grid, S: npt.ArrayLike, boundary: bool = False) -> scipy.sparse.csr_array:
    """Assemble the global matrix (3.5), (3.7), restricted to free coarse nodes.

    Args:
        grid: The discretisation.
        S: Local matrices, shape ``(num_elements, (2ℓ+2)^d, 2^d)``, or of the Galerkin form, shape
            ``(num_elements, (2ℓ+2)^d, (2ℓ+2)^d)``.
        boundary: Whether all nodes of the box are rows and columns; those of nodes of no active element are empty.

    Returns:
        Sparse matrix, symmetric in the Galerkin form only, of ``num_free_nodes`` rows, or ``num_nodes`` with the
        boundary; x fastest.

    Raises:
        InputError: If the shape does not fit or a value is not finite.

    Example:
        >>> from nnlod_fenics import local_matrices
        >>> grid = Grid(dim=2, coarse=4, fine=16, ell=1)
        >>> coarse_operator(grid, local_matrices(grid, np.ones((16, 16)))).shape
        (9, 9)
    """
    values = np.ascontiguousarray(_check_local(grid, S))
    n = grid.num_nodes if boundary else _check_free(grid)
    pattern = _pattern(grid, boundary, is_galerkin(grid, values))
    data = np.bincount(pattern.slot, weights=values.ravel()[pattern.kept], minlength=len(pattern.indices))
    return scipy.sparse.csr_array((data, pattern.indices, pattern.indptr), shape=(n, n))


def _check_local(grid: Grid, S: npt.ArrayLike) -> Array:
    values, rows = as_floats("S", S), grid.num_patch_nodes
    expected = [(grid.num_elements, rows, columns) for columns in (2**grid.dim, rows)]
    if values.shape not in expected:
        raise InputError(f"S must have shape {expected[0]}, or {expected[1]} (Galerkin form), got {values.shape}.")
    return values


def is_galerkin(grid: Grid, S: Array) -> bool:
    """Whether local matrices are of the Galerkin form, by their shape; without layers both forms are the same."""
    return bool(S.shape[-1] == S.shape[-2] and grid.ell > 0)


def column_nodes(grid: Grid, galerkin: bool) -> npt.NDArray[np.int64]:
    """Nodes of the columns of local matrices, -1 outside the box, shape ``(num_elements, columns)``."""
    return grid.patch_nodes if galerkin else grid.element_nodes


def coarse_mass_matrix(grid: Grid, boundary: bool = False) -> scipy.sparse.csr_array:
    """The mass matrix M_ij = ∫ Λ_i Λ_j of the coarse Q1 functions, exact.

    With it u·M u is the square of the L²(D) norm of a coarse function, and M with :func:`coarse_operator` makes
    eigenvalue problems and time steps.

    Args:
        grid: The discretisation.
        boundary: Whether all nodes of the box are among the rows and columns; by default the free ones are, as in
            :func:`coarse_operator`.

    Returns:
        Symmetric sparse matrix of ``num_free_nodes`` rows, or ``num_nodes`` with the boundary; x fastest.

    Raises:
        InputError: If there is no free node.

    Example:
        >>> coarse_mass_matrix(Grid(1, 3, 3, 0)).toarray() * 18
        array([[4., 1.],
               [1., 4.]])
    """
    n = grid.num_nodes
    local: Array = np.ones((1, 1))
    for width in grid.widths:
        local = np.asarray(np.kron(width / 6 * np.array([[2.0, 1.0], [1.0, 2.0]]), local), dtype=np.float64)
    nodes = grid.element_nodes[grid.active_elements]
    rows, columns = (np.broadcast_to(part, (len(nodes), *local.shape)) for part in (nodes[:, :, None], nodes[:, None]))
    entries = np.broadcast_to(local, rows.shape)
    whole = scipy.sparse.coo_array((entries.ravel(), (rows.ravel(), columns.ravel())), shape=(n, n)).tocsr()
    if boundary:
        return whole
    _check_free(grid)
    free = np.flatnonzero(grid.free_nodes)
    return whole[free][:, free]


def _as_problem(f: Source | Problem) -> Problem:
    return f if isinstance(f, Problem) else Problem(f)


def solve_coarse(grid: Grid, K: Any, f: Source | Problem = 1.0) -> Array:
    """Solve the coarse system S u_H = b of (3.4).

    Args:
        grid: The discretisation.
        K: Matrix from :func:`nnlod_fenics.coarse_matrix` (PETSc) or :func:`coarse_operator` (SciPy); with
            ``boundary=True`` where u is given and not zero.
        f: Source: a number, a function of points ``(d, n)``, or an array on the cells of T_h; or a :class:`Problem`.

    Returns:
        Coarse nodal values, shape ``grid.node_shape``, NaN at nodes of no active element; the same on every rank of K.

    Raises:
        InputError: If f or the size of K does not fit.
        NumericalError: If K is singular.

    Example:
        >>> from nnlod_fenics import local_matrices
        >>> grid = Grid(dim=2, coarse=4, fine=16, ell=1)
        >>> K = coarse_operator(grid, local_matrices(grid, np.ones((16, 16))))
        >>> solve_coarse(grid, K, f=lambda x: x[0] * x[1]).shape
        (5, 5)
    """
    n, petsc = _check_free(grid), hasattr(K, "getValuesCSR")
    size = tuple(K.getSize() if petsc else K.shape)
    whole = size == (grid.num_nodes,) * 2 and not petsc
    if size != (n, n) and not whole:
        raise InputError(f"K must have {n} rows and columns (free coarse nodes of the grid), got {size}.")
    solver = CoarseSolver(grid, _as_problem(f))
    if solver.lifted and not whole:
        raise InputError(f"K must have all {grid.num_nodes} coarse nodes (boundary=True) where g is not 0, got {size}.")
    if petsc and K.getComm().getSize() > 1:
        from nnlod_fenics.lod.petsc import solve_distributed

        return solver.complete(solve_distributed(K, solver.right_side()))
    matrix = scipy.sparse.csr_array(K.getValuesCSR()[::-1], shape=size) if petsc else scipy.sparse.csr_array(K)
    if not whole:
        return solver.solve(matrix)
    free = np.flatnonzero(grid.free_nodes)
    lift = (matrix @ solver.boundary.ravel()).reshape(grid.node_shape)
    return solver.solve(matrix[free][:, free], lift=lift)


def solve_sparse(matrix: scipy.sparse.csr_array, b: Array) -> Array:
    """Solve a sparse system: with few row exchanges if that is accurate, which is much faster, else with all.

    Raises:
        NumericalError: If the matrix is singular to working accuracy.
    """
    largest = float(abs(matrix.data).max(initial=0.0))
    if not 0 < largest < math.inf:
        raise NumericalError("the coarse matrix is zero or not finite.")
    scale = math.ldexp(1.0, -math.frexp(largest)[1])  # a power of two: permeabilities may be 1e-150
    transposed = (matrix * scale).T.tocsc()  # the rows of a matrix are the columns of its transpose: no copy
    for few_exchanges in (True, False):
        options = (
            {"permc_spec": "MMD_AT_PLUS_A", "diag_pivot_thresh": 1e-3, "options": {"SymmetricMode": True}}
            if few_exchanges
            else {}
        )
        try:
            x = scipy.sparse.linalg.splu(transposed, **options).solve(b, trans="T")
        except RuntimeError:  # SuperLU: exactly singular
            continue
        residual = abs(transposed.T @ x - b).max()
        if residual <= _RESIDUAL * (abs(x).max() * abs(transposed).sum(axis=0).max() + abs(b).max()):
            return np.asarray(x * scale)
    raise NumericalError("the coarse matrix is singular to working accuracy: its factorisation failed.")


class CoarseSolver:
    """Solver for many realizations of the coarse problem (3.4) with the same data, on one process.

    Args:
        grid: The discretisation.
        problem: Source, wells, fluxes and boundary values.

    Attributes:
        load: b_i = ∫ f Λ_i + … at all nodes, shape ``grid.node_shape``.
        boundary: g at the nodes on Γ_D, zero at the others, same shape.

    Raises:
        InputError: If the problem does not fit.
    """

    def __init__(self, grid: Grid, problem: Problem | None = None) -> None:
        self.grid, self.problem = grid, problem or Problem()
        self.load, self.boundary = load_vector(grid, self.problem), boundary_values(grid, self.problem.g)

    @property
    def lifted(self) -> bool:
        """Whether u is not zero somewhere on Γ_D."""
        return bool(self.boundary.any())

    def right_side(self, load: Array | None = None, lift: Array | None = None) -> Array:
        """b_F − K_FD g, see :meth:`solve`."""
        b = self.load if load is None else load
        return np.asarray((b if lift is None else b - lift)[self.grid.free_nodes])

    def complete(self, x: Array) -> Array:
        """All nodal values from those at the free nodes."""
        solution = np.where(self.grid.active_nodes, self.boundary, np.nan)
        solution[self.grid.free_nodes] = x
        return solution

    def solve(self, K: scipy.sparse.csr_array, load: Array | None = None, lift: Array | None = None) -> Array:
        """Solve for one realization.

        Args:
            K: Its coarse operator, on the free nodes.
            load: Load in the place of that of the problem, for source correctors.
            lift: K g at all nodes, from :func:`apply_local` with the values on Γ_D; zero if None.

        Returns:
            Coarse nodal values, shape ``grid.node_shape``, NaN at nodes of no active element.

        Raises:
            NumericalError: If K is singular.
        """
        return self.complete(solve_sparse(K, self.right_side(load, lift)))

    def solve_symmetric(
        self, K: scipy.sparse.csr_array, load: Array | None = None, lift: Array | None = None
    ) -> tuple[Array, LinearSolve]:
        """Solve for one realization in the Galerkin form.

        Args:
            K: Its coarse operator, on the free nodes: symmetric and positive definite.
            load: See :meth:`solve`.
            lift: See :meth:`solve`.

        Returns:
            Coarse nodal values, as :meth:`solve` gives them, and how they were found.

        Raises:
            NumericalError: If K is not positive definite.
        """
        x, how = solve_symmetric(self.grid, K, self.right_side(load, lift))
        return self.complete(x), how


def apply_local(grid: Grid, S: Array, u: Array) -> Array:
    """The coarse operator applied to nodal values without assembling it: Σ_T S_T u|_T at all nodes.

    Args:
        grid: The discretisation.
        S: Local matrices.
        u: Nodal values, shape ``grid.node_shape``; those at nodes of no active element do not count.

    Returns:
        a(Σ_j u_j (Λ_j − φ_j), Λ_i), shape ``grid.node_shape``.
    """
    values = np.append(np.where(grid.active_nodes, u, 0.0).ravel(), 0.0)  # the last one for nodes outside the box
    local = np.einsum("eij,ej->ei", S, values[column_nodes(grid, is_galerkin(grid, S))])
    return sum_local(grid, local)


def sum_local(grid: Grid, local: Array) -> Array:
    """Add up vectors on the nodes of patches, shape ``(num_elements, (2ℓ+2)^d)``, to one on the nodes of the box."""
    inside = grid.patch_nodes >= 0
    total = np.bincount(grid.patch_nodes[inside], local[inside], minlength=grid.num_nodes)
    return np.asarray(total.reshape(grid.node_shape))


def coarse_residual(grid: Grid, S: Array, u: Array, load: Array) -> Array:
    """Residual b − S u at all nodes, boundary included: zero inside D, outflow on Γ_D.

    Args:
        grid: The discretisation.
        S: Local matrices.
        u: Their solution, shape ``grid.node_shape``.
        load: b_i, same shape.

    Returns:
        F(Λ_i) − a(u_ms, Λ_i), same shape, where u_ms = Σ_j u_j (Λ_j − φ_j).
    """
    return np.asarray(load - apply_local(grid, S, u))
