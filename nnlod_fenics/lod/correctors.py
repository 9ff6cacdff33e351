"""Element correctors with DOLFINx and PETSc: the reference way to compute local matrices.

For each patch size one mesh, one space and one compiled form are kept, for each set of free nodes and constraints one
symbolic factorisation; from patch to patch only coefficient values change. A corrector is the stiffness solution
corrected by multipliers for the constraints I_H w = 0: with the stiffness matrix K of the patch on the free nodes of
W(N^ℓ(T)), the constraints C, and the right-hand side F of (3.1),

    φ = K⁻¹(F − Cᵀ λ),    (C K⁻¹ Cᵀ) λ = C K⁻¹ F,

so that one sparse Cholesky factorisation and one small dense one do. The source corrector R_T has the load of T in the
place of F. The meshes have the lengths of the box: nothing is scaled here.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

from nnlod_fenics.compat import MPI

import basix.ufl
import numpy as np
import numpy.typing as npt
import scipy.linalg
import scipy.sparse
import ufl
from dolfinx import fem, mesh
from dolfinx.fem import petsc as fem_petsc
from petsc4py import PETSc

from nnlod_fenics.domain import nodes_of
from nnlod_fenics.errors import InputError, NumericalError
from nnlod_fenics.grid import Grid, lattice

__all__ = ["PatchProblem", "PatchSolution", "PatchSolver", "solve_patches"]

Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]
Box = tuple[int, ...]

_KEPT = 64  # factorisations; the unit cube has (2ℓ+1)^d patterns, a domain with holes may have one an element


class PatchSolution(NamedTuple):
    """What belongs to one element T on its patch cut to the box; nodes x fastest, zero where T is inactive.

    Attributes:
        element: Number of T.
        matrix: S_T of (3.6), shape ``(nodes, 2^d)``.
        correctors: φ_{T,j} at the fine nodes, shape ``(fine nodes, 2^d)``.
        load: F_T(Λ_i) − a(R_T, Λ_i), shape ``(nodes,)``; None without loads.
        source: R_T at the fine nodes, shape ``(fine nodes,)``; None without loads.
    """

    element: int
    matrix: Array
    correctors: Array
    load: Array | None = None
    source: Array | None = None

    @property
    def columns(self) -> Array:
        """The matrix, and with loads the load as a last column."""
        return self.matrix if self.load is None else np.column_stack([self.matrix, self.load])

    @property
    def functions(self) -> Array:
        """The correctors, and with loads the source corrector as a last column."""
        return self.correctors if self.source is None else np.column_stack([self.correctors, self.source])


class _Pattern(NamedTuple):
    """Which unknowns and constraints a patch has: patches of equal patterns share a factorisation's structure.

    Attributes:
        size: Extent in coarse elements, x first.
        free: Free fine nodes, as bytes of bool.
        active: Active elements, as bytes of bool.
        constrained: Coarse nodes with a constraint, as bytes of bool.
    """

    size: Box
    free: bytes
    active: bytes
    constrained: bytes

    @classmethod
    def of(cls, grid: Grid, element: int) -> _Pattern:
        start, size = grid.patch_box(element)
        offset = np.asarray(start) - grid.elements[element] + grid.ell
        fine = tuple(slice(o * grid.ratio, (o + n) * grid.ratio + 1) for o, n in _reversed(offset, size))
        active = grid.active[tuple(slice(s, s + n) for s, n in _reversed(start, size))]
        fixed = grid.fixed_nodes[tuple(slice(s, s + n + 1) for s, n in _reversed(start, size))]
        free = grid.free_patch_nodes(element)[fine]
        return cls(size, free.tobytes(), active.tobytes(), (nodes_of(active) & ~fixed).tobytes())


def _reversed(*values: Box | IntArray) -> list[tuple[int, ...]]:
    """Tuples of the entries of several things given x first, in the order of the axes of arrays."""
    return [tuple(int(v) for v in entries) for entries in zip(*values, strict=True)][::-1]


def _mask(buffer: bytes) -> BoolArray:
    return np.frombuffer(buffer, dtype=bool)


def _create_mesh(lengths: list[float], cells: list[int]) -> mesh.Mesh:
    corners = [np.zeros(len(cells)), np.asarray(lengths)]
    if len(cells) == 1:
        return mesh.create_interval(MPI.COMM_SELF, cells[0], [0.0, lengths[0]])
    if len(cells) == 2:
        return mesh.create_rectangle(MPI.COMM_SELF, corners, cells, cell_type=mesh.CellType.quadrilateral)
    return mesh.create_box(MPI.COMM_SELF, corners, cells, cell_type=mesh.CellType.hexahedron)


def _lattice_numbers(points: Array, spacing: Array, sizes: list[int]) -> IntArray:
    """Number of each point on the lattice of ``sizes`` points with the given spacings, x fastest."""
    position = np.rint(points[:, : len(sizes)] / spacing).astype(np.int64)
    return position @ np.cumprod([1, *sizes[:-1]])


class PatchProblem:
    """Stiffness matrices on a box of coarse elements, assembled by DOLFINx.

    Args:
        grid: The discretisation.
        size: Extent of the box in coarse elements, x first.
        tensor: Whether the coefficient is matrix-valued.

    Attributes:
        nodes: Number of each of DOLFINx's nodes among the fine nodes of the box, x fastest.
        dofs: The inverse: DOLFINx's number of each fine node.

    Note:
        Lives on COMM_SELF. Call :meth:`destroy` when done with it.
    """

    def __init__(self, grid: Grid, size: Box, tensor: bool = False) -> None:
        d, h = grid.dim, np.asarray(grid.fine_widths)
        self.grid, self.size = grid, size
        self.cells = [s * grid.ratio for s in size]
        domain = _create_mesh((np.asarray(self.cells) * h).tolist(), self.cells)
        space = fem.functionspace(domain, ("Lagrange", 1))
        element = basix.ufl.element("DG", domain.basix_cell(), 0, shape=(d, d) if tensor else ())
        piecewise = fem.functionspace(domain, element)
        self.nodes = _lattice_numbers(space.tabulate_dof_coordinates(), h, [c + 1 for c in self.cells])
        self.dofs = np.argsort(self.nodes)
        middles = piecewise.tabulate_dof_coordinates()[:, :d]
        self.cell_numbers = _lattice_numbers(middles - 0.5 * h, h, self.cells)
        self.coefficient = fem.Function(piecewise)
        u, v = ufl.TrialFunction(space), ufl.TestFunction(space)
        flux = ufl.dot(self.coefficient, ufl.grad(u)) if tensor else self.coefficient * ufl.grad(u)
        self.form = fem.form(ufl.inner(flux, ufl.grad(v)) * ufl.dx)
        self.mass_form = fem.form(ufl.inner(u, v) * ufl.dx)
        self.matrix = fem_petsc.create_matrix(self.form)
        self.matrix.setOption(PETSc.Mat.Option.SYMMETRIC, True)

    def assemble(self, A: Array) -> scipy.sparse.csr_matrix:
        """Assemble the stiffness matrix without boundary conditions.

        Args:
            A: Coefficient on the fine cells of the box, shape ``cells`` reversed (plus ``(d, d)``).

        Returns:
            The matrix over all fine nodes of the box, in DOLFINx's numbering (see :attr:`nodes`).
        """
        self.coefficient.x.array[:] = A.reshape(int(np.prod(self.cells)), -1)[self.cell_numbers].ravel()
        return self._assembled(self.matrix, self.form)

    def mass(self) -> scipy.sparse.csr_matrix:
        """The mass matrix over all fine nodes of the box, numbered as in :meth:`assemble`."""
        matrix = fem_petsc.create_matrix(self.mass_form)
        result = self._assembled(matrix, self.mass_form)
        matrix.destroy()
        return result

    @staticmethod
    def _assembled(matrix: PETSc.Mat, form: fem.Form) -> scipy.sparse.csr_matrix:
        matrix.zeroEntries()
        fem_petsc.assemble_matrix(matrix, form)
        matrix.assemble()
        indptr, indices, data = matrix.getValuesCSR()
        return scipy.sparse.csr_matrix((data, indices, indptr), shape=matrix.getSize())

    @cached_property
    def hats(self) -> scipy.sparse.csr_matrix:
        """Values of the coarse hats of the box at its fine nodes; columns x fastest."""
        axes = []
        for size, cells in zip(self.size, self.cells, strict=True):
            t = np.abs(np.arange(cells + 1)[:, None] / self.grid.ratio - np.arange(size + 1)[None, :])
            axes.append(scipy.sparse.csr_matrix(np.clip(1 - t, 0, None)))
        product = axes[0]
        for axis in axes[1:]:
            product = scipy.sparse.kron(axis, product, format="csr")
        return product[self.nodes]

    def coarse_nodes(self, elements: IntArray) -> IntArray:
        """Numbers of the corners of elements among the coarse nodes of the box.

        Args:
            elements: Positions in the box, shape ``(n, d)``, x first.

        Returns:
            Shape ``(n, 2^d)``.
        """
        corners = elements[:, None] + lattice(*(2,) * self.grid.dim)
        return corners @ np.cumprod([1, *(s + 1 for s in self.size[:-1])])

    def fine_dofs(self, elements: IntArray) -> IntArray:
        """DOLFINx's numbers of the fine nodes of elements.

        Args:
            elements: Positions in the box, shape ``(n, d)``, x first.

        Returns:
            Shape ``(n, (r+1)^d)``, x fastest.
        """
        r = self.grid.ratio
        nodes = elements[:, None] * r + lattice(*(r + 1,) * self.grid.dim)
        return self.dofs[nodes @ np.cumprod([1, *(c + 1 for c in self.cells[:-1])])]

    def destroy(self) -> None:
        """Free the PETSc objects."""
        self.matrix.destroy()


class PatchSolver:
    """Corrector problems (3.1) on patches of one pattern.

    Args:
        problem: Stiffness matrices of patches of this size; the one assembled last counts.
        pattern: Free nodes and constraints.
        projection: Element-wise L² projection, shape ``(2^d, (r+1)^d)``.
        loads: Number of right-hand sides.
    """

    def __init__(self, problem: PatchProblem, pattern: _Pattern, projection: Array, loads: int) -> None:
        self.problem = problem
        self.free = np.flatnonzero(_mask(pattern.free)[problem.nodes]).astype(np.int32)
        if not len(self.free):
            return
        self.constraints = self._constraints(pattern, projection)[:, self.free]
        self._create_solver(self.constraints.shape[0] + loads)

    def _constraints(self, pattern: _Pattern, projection: Array) -> scipy.sparse.csr_matrix:
        """Rows of I_H on the patch, one for each node that has a constraint."""
        elements = lattice(*pattern.size)[_mask(pattern.active)]
        shape = (len(elements), *projection.shape)
        rows = np.broadcast_to(self.problem.coarse_nodes(elements)[:, :, None], shape).ravel()
        columns = np.broadcast_to(self.problem.fine_dofs(elements)[:, None, :], shape).ravel()
        entries = (np.broadcast_to(projection, shape).ravel(), (rows, columns))
        constrained = _mask(pattern.constrained)
        matrix = scipy.sparse.csr_matrix(entries, shape=(len(constrained), len(self.problem.nodes)))
        return matrix[np.flatnonzero(constrained)]

    def _create_solver(self, columns: int) -> None:
        n = len(self.free)
        self._index = PETSc.IS().createGeneral(self.free, comm=PETSc.COMM_SELF)
        self._stiffness = self.problem.matrix.createSubMatrix(self._index, self._index)
        self._solver = PETSc.KSP().create(PETSc.COMM_SELF)
        self._solver.setType(PETSc.KSP.Type.PREONLY)
        preconditioner = self._solver.getPC()
        preconditioner.setType(PETSc.PC.Type.CHOLESKY)
        preconditioner.setFactorSolverType(_cholesky_package())
        self._rhs = PETSc.Mat().createDense((n, columns), comm=PETSc.COMM_SELF)
        self._solution = PETSc.Mat().createDense((n, columns), comm=PETSc.COMM_SELF)
        for matrix in (self._rhs, self._solution):
            matrix.setUp()
            matrix.assemble()

    def _solve(self, rhs: Array) -> Array:
        """Solve K x = rhs for all columns; the stiffness matrix is the one assembled last."""
        self.problem.matrix.createSubMatrix(self._index, self._index, self._stiffness)
        self._stiffness.setOption(PETSc.Mat.Option.SPD, True)
        self._solver.setOperators(self._stiffness)
        self._solver.setUp()
        dense = self._rhs.getDenseArray()
        dense[:] = rhs
        self._rhs.assemble()
        self._solver.getPC().getFactorMatrix().matSolve(self._rhs, self._solution)
        return np.array(self._solution.getDenseArray())

    def solve(self, loads: Array) -> Array:
        """Solve a(w, v) = F(v) for all v in W(N^ℓ(T)) and several loads F.

        Args:
            loads: F at all nodes of the patch, numbered as DOLFINx does, shape ``(nodes, loads)``.

        Returns:
            The solutions w, same shape.

        Raises:
            NumericalError: If a factorisation fails.
        """
        solutions = np.zeros_like(loads)
        if not len(self.free):
            return solutions
        count = self.constraints.shape[0]
        solved = self._solve(np.concatenate([self.constraints.toarray().T, loads[self.free]], axis=1))
        solutions[self.free] = solved[:, count:]
        if count:
            gram = self.constraints @ solved
            try:
                factor = scipy.linalg.cho_factor(0.5 * (gram[:, :count] + gram[:, :count].T))
            except (scipy.linalg.LinAlgError, ValueError) as error:  # ValueError: infinite values, or NaN
                raise NumericalError("the constraints of the corrector problem are linearly dependent") from error
            solutions[self.free] -= solved[:, :count] @ scipy.linalg.cho_solve(factor, gram[:, count:])
        return solutions

    def destroy(self) -> None:
        """Free the PETSc objects."""
        if len(self.free):
            for thing in (self._solver, self._stiffness, self._rhs, self._solution, self._index):
                thing.destroy()


def _cholesky_package() -> str:
    """CHOLMOD where PETSc has it (measured twice as fast as MUMPS on patches), else MUMPS, at last PETSc's own."""
    return next((name for name in ("cholmod", "mumps") if PETSc.Sys.hasExternalPackage(name)), "petsc")


class _Solvers:
    """The problems of all patch sizes of a grid, made when first needed, and the solvers of the patterns used last."""

    def __init__(self, grid: Grid, tensor: bool, loads: int) -> None:
        self.grid, self.tensor, self.loads = grid, tensor, loads
        self.element = PatchProblem(grid, (1,) * grid.dim, tensor)
        self.hats = self.element.hats.toarray()[self.element.dofs]
        mass = self.element.mass().toarray()[np.ix_(self.element.dofs, self.element.dofs)]
        self.projection = np.linalg.solve(self.hats.T @ mass @ self.hats, self.hats.T @ mass)
        self._problems: dict[Box, PatchProblem] = {}
        self._patterns: dict[_Pattern, PatchSolver] = {}

    def sources(self, A: Array) -> Array:
        """K_T Λ_j, the right-hand sides of (3.1) at the fine nodes of T, for A on its fine cells."""
        return np.asarray(self.element.assemble(A).toarray()[np.ix_(self.element.dofs, self.element.dofs)] @ self.hats)

    def problem(self, size: Box) -> PatchProblem:
        if size not in self._problems:
            self._problems[size] = PatchProblem(self.grid, size, self.tensor)
        return self._problems[size]

    def solver(self, element: int) -> PatchSolver:
        """The solver for the patch of an element, whose stiffness matrix has been assembled."""
        pattern = _Pattern.of(self.grid, element)
        solver = self._patterns.pop(pattern, None)
        if solver is None:
            if len(self._patterns) == _KEPT:
                self._patterns.pop(next(iter(self._patterns))).destroy()
            solver = PatchSolver(self.problem(pattern.size), pattern, self.projection, self.loads)
        self._patterns[pattern] = solver  # at the end: the first is the one that was not used for the longest time
        return solver

    def destroy(self) -> None:
        for solver in self._patterns.values():
            solver.destroy()
        for problem in (self.element, *self._problems.values()):
            problem.destroy()


def solve_patches(grid: Grid, A: Array, elements: IntArray, loads: Array | None = None) -> Iterator[PatchSolution]:
    """Compute local matrices and correctors of elements one after another.

    Args:
        grid: The discretisation.
        A: Coefficient on T_ε, shape ``coefficient_shape`` (plus ``(d, d)``); in inactive elements anything.
        elements: Numbers of the elements.
        loads: F_T at the fine nodes of each of the elements, from :func:`nnlod_fenics.loads.element_loads`, shape
            ``(len(elements), (r+1)^d)``: source correctors are wanted too.

    Yields:
        Matrix and correctors of each element, see :class:`PatchSolution`.

    Raises:
        InputError: If the shape of the loads does not fit.
        NumericalError: If a patch cannot be solved; the message names it.
    """
    count, expected = 2**grid.dim, (len(elements), (grid.ratio + 1) ** grid.dim)
    if loads is not None and loads.shape != expected:
        raise InputError(f"loads must have shape {expected}, got {loads.shape}.")
    cells = grid.active_cells.reshape(grid.coefficient_shape + (1,) * (A.ndim - grid.dim))
    fine = grid.refine(np.where(cells, A, 0.0))
    solvers = _Solvers(grid, A.ndim > grid.dim, count if loads is None else count + 1)
    try:
        for k, element in enumerate(int(number) for number in elements):
            given = None if loads is None else loads[k]
            matrix, functions = _solve_patch(solvers, fine, element, given)
            solution = PatchSolution(element, matrix[:, :count], functions[:, :count])
            if given is not None:
                solution = solution._replace(load=matrix[:, count], source=functions[:, count])
            yield solution
    finally:
        solvers.destroy()


def _solve_patch(solvers: _Solvers, fine: Array, element: int, load: Array | None) -> tuple[Array, Array]:
    """The columns of S_T and the load on the coarse nodes of a patch, and φ_{T,j} and R_T at its fine nodes."""
    grid = solvers.grid
    start, size = grid.patch_box(element)
    columns = solvers.loads
    matrix = np.zeros((int(np.prod(np.asarray(size) + 1)), columns))
    functions = np.zeros((int(np.prod(np.asarray(size) * grid.ratio + 1)), columns))
    if not grid.active.flat[element]:
        return matrix, functions
    problem, center = solvers.problem(size), grid.elements[element] - np.asarray(start)
    sources = solvers.sources(fine[_cells(grid, tuple(grid.elements[element].tolist()), (1,) * grid.dim)])
    if load is not None:
        sources = np.concatenate([sources, load[:, None]], axis=1)
    matrix[problem.coarse_nodes(center[None])[0]] = solvers.hats.T @ sources
    if grid.trivial_fine_scale:
        return matrix, functions
    stiffness = problem.assemble(fine[_cells(grid, start, size)])
    loads = np.zeros_like(functions)
    loads[problem.fine_dofs(center[None])[0]] = sources
    try:
        solved = solvers.solver(element).solve(loads)
    except (NumericalError, PETSc.Error) as error:
        position = tuple(grid.elements[element].tolist())
        raise NumericalError(f"the corrector problem of element {element} at {position} failed: {error}") from error
    matrix -= problem.hats.T @ (stiffness @ solved)
    functions[problem.nodes] = solved
    return matrix, functions


def _cells(grid: Grid, start: Box, size: Box) -> tuple[slice, ...]:
    """Index of the fine cells of a box of elements in an array."""
    return tuple(slice(s * grid.ratio, (s + n) * grid.ratio) for s, n in _reversed(start, size))
