"""Element correctors with DOLFINx and PETSc: the reference way to compute local matrices.

For each patch shape one mesh, one space, one compiled form and one symbolic factorisation are kept; from
patch to patch only coefficient values change. A corrector is the stiffness solution corrected by
multipliers for the constraints I_H w = 0: with the stiffness matrix K of the patch (zero on its boundary),
the constraints C, and the right-hand side F of (3.1),

    φ = K⁻¹(F − Cᵀ λ),    (C K⁻¹ Cᵀ) λ = C K⁻¹ F,

so that one sparse Cholesky factorisation and one small dense one do.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

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

from nnlod_fenics.errors import NumericalError
from nnlod_fenics.grid import Grid, lattice

__all__ = ["PatchProblem", "PatchSolver"]

Array = npt.NDArray[np.float64]
Box = tuple[int, ...]


def _create_mesh(lengths: list[float], cells: list[int]) -> mesh.Mesh:
    corners = [np.zeros(len(cells)), np.asarray(lengths)]
    if len(cells) == 1:
        return mesh.create_interval(MPI.COMM_SELF, cells[0], [0.0, lengths[0]])
    if len(cells) == 2:
        return mesh.create_rectangle(MPI.COMM_SELF, corners, cells, cell_type=mesh.CellType.quadrilateral)
    return mesh.create_box(MPI.COMM_SELF, corners, cells, cell_type=mesh.CellType.hexahedron)


def _lattice_numbers(points: Array, spacing: float, sizes: list[int]) -> npt.NDArray[np.int64]:
    """Number of each point on the lattice of ``sizes`` points with the given spacing, x fastest."""
    position = np.rint(points[:, : len(sizes)] / spacing).astype(np.int64)
    return position @ np.cumprod([1, *sizes[:-1]])


class PatchProblem:
    """Stiffness matrices on a box of coarse elements, assembled by DOLFINx.

    Args:
        grid: The discretisation.
        size: Extent of the box in coarse elements, x first.
        tensor: Whether the coefficient is matrix-valued.

    Note:
        Lives on COMM_SELF. Call :meth:`destroy` when done with it.
    """

    def __init__(self, grid: Grid, size: Box, tensor: bool = False) -> None:
        d, h = grid.dim, 1.0 / grid.fine
        self.grid, self.size = grid, size
        self.cells = [s * grid.ratio for s in size]
        domain = _create_mesh([c * h for c in self.cells], self.cells)
        space = fem.functionspace(domain, ("Lagrange", 1))
        element = basix.ufl.element("DG", domain.basix_cell(), 0, shape=(d, d) if tensor else ())
        piecewise = fem.functionspace(domain, element)
        self.nodes = _lattice_numbers(space.tabulate_dof_coordinates(), h, [c + 1 for c in self.cells])
        self.cell_numbers = _lattice_numbers(piecewise.tabulate_dof_coordinates() - 0.5 * h, h, self.cells)
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

    def destroy(self) -> None:
        """Free the PETSc objects."""
        self.matrix.destroy()


class PatchSolver(PatchProblem):
    """Corrector problems (3.1) on patches of one shape.

    Args:
        grid: The discretisation.
        size: Extent of the patch, cut to D, in coarse elements, x first.
        center: Position of T in the patch, x first.
        on_boundary: For each axis, whether the low and the high side of the patch lie on ∂D.
        projection: Element-wise L² projection, shape ``(2^d, (r+1)^d)``.
        tensor: Whether the coefficient is matrix-valued.
    """

    def __init__(
        self,
        grid: Grid,
        size: Box,
        center: Box,
        on_boundary: tuple[tuple[bool, bool], ...],
        projection: Array,
        tensor: bool = False,
    ) -> None:
        super().__init__(grid, size, tensor)
        self.center = np.asarray(center)
        dof_of_node = np.argsort(self.nodes)
        position = lattice(*(c + 1 for c in self.cells))[self.nodes]
        inside = np.all((position > 0) & (position < np.asarray(self.cells)), axis=1)
        self.interior = np.flatnonzero(inside).astype(np.int32)
        self.center_dofs = dof_of_node[self._element_nodes(self.center)]
        self.constraints = self._constraints(projection, dof_of_node, on_boundary)[:, self.interior]
        self._columns = self.constraints.shape[0] + 2**grid.dim
        self._create_solver()

    def _element_nodes(self, element: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        r, d = self.grid.ratio, self.grid.dim
        position = element * r + lattice(*(r + 1,) * d)
        return position @ np.cumprod([1, *(c + 1 for c in self.cells[:-1])])

    def _constraints(
        self, projection: Array, dof_of_node: npt.NDArray[np.int64], on_boundary: tuple[tuple[bool, bool], ...]
    ) -> scipy.sparse.csr_matrix:
        """Rows of I_H on the patch, one for each patch node that is not on ∂D."""
        d, sizes = self.grid.dim, np.asarray(self.size)
        strides = np.cumprod([1, *(s + 1 for s in self.size[:-1])])
        corner = lattice(*(2,) * d)
        shape = (int(np.prod(sizes + 1)), len(self.nodes))
        rows = scipy.sparse.csr_matrix(shape)
        for element in lattice(*self.size):
            coarse = (element + corner) @ strides
            fine = dof_of_node[self._element_nodes(element)]
            i, j = np.meshgrid(coarse, fine, indexing="ij")
            rows = rows + scipy.sparse.csr_matrix((projection.ravel(), (i.ravel(), j.ravel())), shape=shape)
        node = lattice(*(sizes + 1))
        outer = np.array(on_boundary)
        on_edge = ((node == 0) & outer[:, 0]) | ((node == sizes) & outer[:, 1])
        return rows[np.flatnonzero(~on_edge.any(axis=1))].tocsr()

    def _create_solver(self) -> None:
        n = len(self.interior)
        self.assemble(np.ones(self.coefficient.x.array.size))
        self._index = PETSc.IS().createGeneral(self.interior, comm=PETSc.COMM_SELF)
        self._stiffness = self.matrix.createSubMatrix(self._index, self._index)
        self._solver = PETSc.KSP().create(PETSc.COMM_SELF)
        self._solver.setType(PETSc.KSP.Type.PREONLY)
        preconditioner = self._solver.getPC()
        preconditioner.setType(PETSc.PC.Type.CHOLESKY)
        preconditioner.setFactorSolverType(_cholesky_package())
        self._rhs = PETSc.Mat().createDense((n, self._columns), comm=PETSc.COMM_SELF)
        self._solution = PETSc.Mat().createDense((n, self._columns), comm=PETSc.COMM_SELF)
        for matrix in (self._rhs, self._solution):
            matrix.setUp()
            matrix.assemble()

    def _solve(self, rhs: Array) -> Array:
        """Solve K x = rhs for all columns; the stiffness matrix is the one assembled last."""
        self.matrix.createSubMatrix(self._index, self._index, self._stiffness)
        self._stiffness.setOption(PETSc.Mat.Option.SPD, True)
        self._solver.setOperators(self._stiffness)
        self._solver.setUp()
        dense = self._rhs.getDenseArray()
        dense[:] = rhs
        self._rhs.assemble()
        self._solver.getPC().getFactorMatrix().matSolve(self._rhs, self._solution)
        return np.array(self._solution.getDenseArray())

    def solve(self, A: Array, source: Array) -> tuple[Array, Array]:
        """Solve the 2^d corrector problems of T.

        Args:
            A: Coefficient on the fine cells of the patch.
            source: K_T Λ_j, the right-hand sides of (3.1) on the fine nodes of T, shape ``((r+1)^d, 2^d)``.

        Returns:
            ∫ A ∇φ_j·∇Λ_i for the coarse nodes i of the patch, shape ``(nodes, 2^d)``, and the correctors
            at the fine nodes of the patch, shape ``(fine nodes, 2^d)``, both x fastest.

        Raises:
            NumericalError: If a factorisation fails.
        """
        stiffness = self.assemble(A)
        load = np.zeros((len(self.nodes), source.shape[1]))
        load[self.center_dofs] = source
        count = self.constraints.shape[0]
        columns = np.concatenate([self.constraints.toarray().T, load[self.interior]], axis=1)
        solved = self._solve(columns)
        gram = self.constraints @ solved
        try:
            factor = scipy.linalg.cho_factor(0.5 * (gram[:, :count] + gram[:, :count].T))
        except (scipy.linalg.LinAlgError, ValueError) as error:  # ValueError: infinite values, or NaN
            raise NumericalError("the constraints of the corrector problem are linearly dependent") from error
        multipliers = scipy.linalg.cho_solve(factor, gram[:, count:])
        corrector = np.zeros_like(load)
        corrector[self.interior] = solved[:, count:] - solved[:, :count] @ multipliers
        by_node = np.empty_like(corrector)
        by_node[self.nodes] = corrector
        return self.hats.T @ (stiffness @ corrector), by_node

    def destroy(self) -> None:
        """Free the PETSc objects."""
        for thing in (self._solver, self._stiffness, self._rhs, self._solution, self._index):
            thing.destroy()
        super().destroy()


def _cholesky_package() -> str:
    """CHOLMOD where PETSc has it (measured twice as fast as MUMPS on patches), else MUMPS, at last PETSc's own."""
    return next((name for name in ("cholmod", "mumps") if PETSc.Sys.hasExternalPackage(name)), "petsc")


class _Solvers:
    """The solvers of all patch shapes of a grid, made when first needed."""

    def __init__(self, grid: Grid, tensor: bool) -> None:
        self.grid, self.tensor = grid, tensor
        self.element = PatchProblem(grid, (1,) * grid.dim, tensor)
        self.element_order = np.argsort(self.element.nodes)
        self.hats = self.element.hats.toarray()[self.element_order]
        mass = self.element.mass().toarray()[np.ix_(self.element_order, self.element_order)]
        self.projection = np.linalg.solve(self.hats.T @ mass @ self.hats, self.hats.T @ mass)
        self._patches: dict[Any, PatchSolver] = {}

    def patch(self, element: int) -> PatchSolver:
        start, size = self.grid.patch_box(element)
        center = tuple(int(p) - s for p, s in zip(self.grid.elements[element], start, strict=True))
        edges = tuple((s == 0, s + n == self.grid.coarse) for s, n in zip(start, size, strict=True))
        key = (size, center, edges)
        if key not in self._patches:
            self._patches[key] = PatchSolver(self.grid, size, center, edges, self.projection, self.tensor)
        return self._patches[key]

    def destroy(self) -> None:
        self.element.destroy()
        for patch in self._patches.values():
            patch.destroy()


def solve_patches(grid: Grid, A: Array, elements: npt.NDArray[np.int64]) -> Iterator[tuple[int, Array, Array]]:
    """Compute local matrices and correctors of elements one after another.

    Args:
        grid: The discretisation.
        A: Coefficient on T_ε, shape ``coefficient_shape`` (plus ``(d, d)``).
        elements: Numbers of the elements.

    Yields:
        The element, its local matrix on the patch cut to D, shape ``(nodes, 2^d)``, and its correctors at
        the fine nodes of that patch, shape ``(fine nodes, 2^d)``.

    Raises:
        NumericalError: If a patch cannot be solved; the message names it.
    """
    d, r = grid.dim, grid.ratio
    fine = grid.refine(A)
    solvers = _Solvers(grid, tensor=A.ndim > d)
    trivial = grid.trivial_fine_scale
    try:
        for element in elements:
            start, size = grid.patch_box(int(element))
            box = tuple(slice(s * r, (s + n) * r) for s, n in zip(reversed(start), reversed(size), strict=True))
            position = grid.elements[element]
            own = tuple(slice(p * r, (p + 1) * r) for p in reversed(position.tolist()))
            stiffness = solvers.element.assemble(fine[own]).toarray()
            source = stiffness[np.ix_(solvers.element_order, solvers.element_order)] @ solvers.hats
            patch = solvers.patch(int(element)) if not trivial else None
            matrix = np.zeros((int(np.prod(np.asarray(size) + 1)), 2**d))
            strides = np.cumprod([1, *(n + 1 for n in size[:-1])])
            own_nodes = (position - start + lattice(*(2,) * d)) @ strides
            matrix[own_nodes] = solvers.hats.T @ source
            corrector = np.zeros((int(np.prod(np.asarray(size) * r + 1)), 2**d))
            if patch is not None:
                try:
                    flux, corrector = patch.solve(fine[box], source)
                except (NumericalError, PETSc.Error) as error:
                    raise NumericalError(
                        f"the corrector problem of element {element} at {tuple(position.tolist())} failed: {error}"
                    ) from error
                matrix -= flux
            yield int(element), matrix, corrector
    finally:
        solvers.destroy()
