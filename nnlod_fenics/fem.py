"""The fine-scale reference: Q1 finite elements on T_h with DOLFINx.

Solves a(u, v) = (f, v) for all v in V_h, where a(u, v) = ∫_D A ∇u·∇v dx and A is piecewise constant on T_ε,
by conjugate gradients with algebraic multigrid.
DOLFINx numbers cells and nodes as it likes; every map between its numbers and arrays ``[y, x]`` is built from
coordinates here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from types import TracebackType
from typing import Any, TypeVar

from nnlod_fenics.compat import MPI

import basix.ufl
import dolfinx.fem.petsc
import numpy as np
import numpy.typing as npt
import ufl
from dolfinx import fem, la, mesh
from petsc4py import PETSc

from nnlod_fenics.arrays import as_floats
from nnlod_fenics.coefficient import check_coefficient
from nnlod_fenics.errors import InputError, NumericalError
from nnlod_fenics.grid import Grid
from nnlod_fenics.problem import Source, check_source, evaluate_source
from nnlod_fenics.scaling import center_exponent, check_range, exponent_of

__all__ = ["FineSolution", "FineSolver", "nodal_function", "solve_fine"]

Array = npt.NDArray[np.float64]

_T = TypeVar("_T")
_PREFIX = "nnlod_fine_"
_HYPRE: bool = PETSc.Sys.hasExternalPackage("hypre")


class FineSolution:
    """Q1 solution on T_h.

    Attributes:
        function: The solution as a DOLFINx function. It belongs to the solver: its next solve overwrites it.
        iterations: Conjugate gradient iterations taken.
    """

    def __init__(self, solver: FineSolver, iterations: int) -> None:
        self.function = solver.function
        self.iterations = iterations
        self._nodes = solver.nodes
        self._owned = solver.function.x.array[: solver.nodes.num_owned].copy()

    def values(self) -> Array:
        """Nodal values, indexed ``[y, x]``; also after the solver was used again or destroyed.

        Returns:
            Shape ``(fine+1,)*d``, the same on every rank.

        Note:
            Collective over the solver's communicator.
        """
        return self._nodes.gather(self._owned)


class FineSolver:
    """Solver for many coefficients on the same T_h.

    Mesh, function spaces, compiled forms and PETSc objects are made once; a solve changes their values
    only, so that a Monte Carlo run does not grow.

    Args:
        grid: The discretisation; ``coarse`` and ``ell`` do not matter here.
        comm: Communicator over which T_h is distributed.

    Note:
        Construction, :meth:`solve` and :meth:`destroy` are collective. PETSc options with the prefix
        ``nnlod_fine_`` override the choice of solver.

    Example:
        >>> samples = np.exp(np.random.default_rng(0).standard_normal((3, 8, 8)))
        >>> with FineSolver(Grid(dim=2, coarse=8, fine=8, ell=0)) as solver:
        ...     mean = sum(solver.solve(A).values() for A in samples) / len(samples)
        >>> mean.shape
        (9, 9)
    """

    def __init__(self, grid: Grid, comm: MPI.Comm = MPI.COMM_WORLD) -> None:
        if np.issubdtype(PETSc.ScalarType, np.complexfloating):
            raise InputError("nnlod_fenics needs PETSc with real scalars, got a complex build.")
        self.grid = grid
        self.comm = comm
        self.mesh = _unit_cube_mesh(grid, comm)
        space = fem.functionspace(self.mesh, ("Lagrange", 1))
        self.function = fem.Function(space, name="u")
        self.nodes = _NodeMap(space, grid.fine)
        self._cells = _CellMap(self.mesh, grid)
        self._rhs = fem.Function(space)
        self._test = ufl.TestFunction(space)
        self._trial = ufl.TrialFunction(space)
        self._boundary = fem.dirichletbc(0.0, fem.locate_dofs_geometrical(space, lambda x: self._on_boundary(x)), space)
        self._matrix: Any = dolfinx.fem.petsc.create_matrix(self._stiffness(())[1])
        self._x, self._b = self._matrix.createVecs()
        self._ksp = _multigrid_cg(self._matrix, comm, grid)

    def solve(self, A: npt.ArrayLike, f: Source = 1.0) -> FineSolution:
        """Solve for one coefficient.

        Args:
            A: Values on T_ε, shape ``coefficient_shape`` or, for matrices, ``coefficient_shape + (d, d)``;
                the same on every rank.
            f: Right-hand side: a number, a callable of points of shape (dim, n) that returns (n,) values
                (integrated with two Gauss points per axis of a cell), or an array of shape ``(fine,)*d``.

        Returns:
            The solution.

        Raises:
            InputError: If A or f does not fit or the solution leaves the range of float64, on every rank.
            NumericalError: If the iteration does not converge to a relative residual of 1e-10.
        """
        if self._ksp is None:
            raise InputError("this FineSolver was destroyed; make a new one.")
        coefficient, density = _agree(self.comm, lambda: self._check(A, f))
        exponent = center_exponent(coefficient, tensor=coefficient.ndim > self.grid.dim)
        self._assemble(self._set_coefficient(np.ldexp(coefficient, -exponent)), self._set_load(density))
        shift = self._scale_load() - exponent
        self._ksp.solve(self._b, self._x)
        iterations, reason = self._ksp.getIterationNumber(), self._ksp.getConvergedReason()
        if reason < 0:
            raise NumericalError(
                f"the fine-scale solve on {self.grid.fine}^{self.grid.dim} cells did not converge "
                f"(PETSc reason {reason} after {iterations} iterations)."
            )
        if (largest := self._largest(self._x)) or self._largest(self._b):
            check_range(largest, shift, exponent, "solution")
        self.function.x.array[: self.nodes.num_owned] = np.ldexp(self._x.array_r, shift)
        self.function.x.array[self._boundary.dof_indices()[0]] = 0.0  # GAMG leaves rounding errors there
        self.function.x.scatter_forward()
        return FineSolution(self, iterations)

    def destroy(self) -> None:
        """Free the PETSc objects; solutions stay valid. Calling it twice is harmless."""
        if self._ksp is not None:
            for item in (self._ksp, self._x, self._b, self._matrix):
                item.destroy()
            self._ksp = None

    def __enter__(self) -> FineSolver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.destroy()

    # -- coefficient and load ------------------------------------------------------------------------

    def _check(self, A: npt.ArrayLike, f: Source) -> tuple[Array, Array | Callable[[Array], npt.ArrayLike]]:
        return check_coefficient(self.grid, A), check_source(self.grid, f)

    def _set_coefficient(self, values: Array) -> Any:
        """Put A into the coefficient function of its kind; returns the compiled bilinear form."""
        shape = values.shape[self.grid.dim :]
        coefficient, form = self._stiffness(shape)
        self._cells.fill(coefficient, values.reshape((-1,) + shape)[self._cells.epsilon])
        return form

    def _set_load(self, f: Array | Callable[[Array], npt.ArrayLike]) -> Any:
        """Put f into the load function of its kind; returns the compiled linear form."""
        if callable(f):
            density, form = self._load_at_points
            _agree(self.comm, lambda: density.interpolate(lambda x: evaluate_source(f, x[: self.grid.dim])))
        else:
            density, form = self._load_in_cells
            self._cells.fill(density, f.ravel()[self._cells.fine] if f.ndim else f)
        return form

    def _stiffness(self, shape: tuple[int, ...]) -> tuple[Any, Any]:
        """Coefficient function and bilinear form, for a scalar () or a matrix-valued (d, d) coefficient."""
        return self._scalar_stiffness if shape == () else self._matrix_stiffness

    @cached_property
    def _scalar_stiffness(self) -> tuple[Any, Any]:
        return self._compile_stiffness(())

    @cached_property
    def _matrix_stiffness(self) -> tuple[Any, Any]:
        return self._compile_stiffness((self.grid.dim,) * 2)

    def _compile_stiffness(self, shape: tuple[int, ...]) -> tuple[Any, Any]:
        A = fem.Function(fem.functionspace(self.mesh, ("DG", 0, shape)))
        # Two Gauss points per axis are exact: the mesh is affine, which UFL cannot know.
        dx = ufl.dx(metadata={"quadrature_degree": 2})
        return A, fem.form(ufl.inner(A * ufl.grad(self._trial), ufl.grad(self._test)) * dx)

    @cached_property
    def _load_in_cells(self) -> tuple[Any, Any]:
        f = fem.Function(fem.functionspace(self.mesh, ("DG", 0)))
        return f, fem.form(ufl.inner(f, self._test) * ufl.dx(metadata={"quadrature_degree": 1}))

    @cached_property
    def _load_at_points(self) -> tuple[Any, Any]:
        element = basix.ufl.quadrature_element(self.mesh.basix_cell(), scheme="default", degree=3)
        f = fem.Function(fem.functionspace(self.mesh, element))
        return f, fem.form(ufl.inner(f, self._test) * ufl.dx(metadata={"quadrature_degree": 3}))

    def _assemble(self, stiffness: Any, load: Any) -> None:
        self._matrix.zeroEntries()
        dolfinx.fem.petsc.assemble_matrix(self._matrix, stiffness, [self._boundary])
        self._matrix.assemble()
        b = self._rhs.x
        b.array[:] = 0.0
        fem.assemble_vector(b.array, load)
        b.scatter_reverse(la.InsertMode.add)
        b.array[self._boundary.dof_indices()[0]] = 0.0
        self._b.array_w[:] = b.array[: self.nodes.num_owned]

    def _scale_load(self) -> int:
        """Divide the load by 2^e near its largest entry, so that squares of it do not overflow; returns e."""
        exponent = exponent_of(self._largest(self._b))
        self._b.array_w[:] = np.ldexp(self._b.array_r, -exponent)
        return exponent

    @staticmethod
    def _largest(vector: Any) -> float:
        """Largest absolute value of a distributed vector, the same on every rank."""
        return float(vector.norm(PETSc.NormType.NORM_INFINITY))

    def _on_boundary(self, x: Array) -> npt.NDArray[np.bool_]:
        near = 0.25 / self.grid.fine
        inside = (x[: self.grid.dim] > near) & (x[: self.grid.dim] < 1 - near)
        return np.logical_not(inside.all(axis=0))


def solve_fine(grid: Grid, A: npt.ArrayLike, f: Source = 1.0, comm: MPI.Comm = MPI.COMM_WORLD) -> FineSolution:
    """Solve the diffusion problem with Q1 finite elements on T_h, u = 0 on ∂D.

    Args:
        grid: The discretisation; ``coarse`` and ``ell`` do not matter here.
        A: Values on T_ε, shape ``coefficient_shape`` or ``coefficient_shape + (d, d)``; the same on every
            rank.
        f: Number, callable of points (dim, n) -> (n,), or array of shape ``(fine,)*d``.
        comm: Communicator over which T_h is distributed. Collective.

    Returns:
        The solution, distributed; its ``values()`` are the nodal values on every rank.

    Raises:
        InputError: If A or f does not fit.
        NumericalError: If the iteration does not converge to a relative residual of 1e-10.
    """
    with FineSolver(grid, comm) as solver:
        return solver.solve(A, f)


def nodal_function(u: npt.ArrayLike, name: str = "u", comm: MPI.Comm = MPI.COMM_SELF) -> Any:
    """A DOLFINx function from nodal values, to go on with in FEniCSx or to write in its formats.

    Args:
        u: Nodal values on a mesh of n cells per axis, shape ``(n+1,)*d``, indexed ``[y, x]``, the same on every rank;
            for example ``solution.u``.
        name: Name of the function.
        comm: Communicator over which its mesh is distributed. Collective.

    Returns:
        The Q1 function.

    Raises:
        InputError: If u is no such array.
    """
    values = as_floats("u", u)
    if values.ndim not in (1, 2, 3) or len(set(values.shape)) != 1 or len(values) < 2:
        raise InputError(f"u must be nodal values of shape (n+1,)*d, got shape {values.shape}.")
    dim, n = values.ndim, len(values) - 1
    space = fem.functionspace(_unit_cube_mesh(Grid(dim, n, n, 0), comm), ("Lagrange", 1))
    function = fem.Function(space, name=name)
    nodes = _lexicographic(np.rint(space.tabulate_dof_coordinates()[:, :dim] * n), n + 1)
    function.x.array[:] = values.ravel()[nodes]
    return function


# -- mesh and numbering ------------------------------------------------------------------------------


def _unit_cube_mesh(grid: Grid, comm: MPI.Comm) -> Any:
    n, ghosts = grid.fine, mesh.GhostMode.none
    if grid.dim == 1:
        return mesh.create_interval(comm, n, [0.0, 1.0], ghost_mode=ghosts)
    create, cell = {
        2: (mesh.create_rectangle, mesh.CellType.quadrilateral),
        3: (mesh.create_box, mesh.CellType.hexahedron),
    }[grid.dim]
    return create(comm, [(0.0,) * grid.dim, (1.0,) * grid.dim], (n,) * grid.dim, cell, ghost_mode=ghosts)


def _lexicographic(index: npt.NDArray[Any], n: int) -> npt.NDArray[np.int64]:
    """Numbers, x fastest, of multi-indices (m, dim) with n values per axis."""
    return index.astype(np.int64) @ n ** np.arange(index.shape[1])


class _NodeMap:
    """Numbers of the owned nodes of every rank, to gather nodal values."""

    def __init__(self, space: Any, fine: int) -> None:
        dim = space.mesh.geometry.dim
        self.num_owned: int = space.dofmap.index_map.size_local
        points = space.tabulate_dof_coordinates()[: self.num_owned, :dim]
        owned = _lexicographic(np.rint(points * fine), fine + 1)
        self._comm = space.mesh.comm
        self._shape = (fine + 1,) * dim
        self._counts = self._comm.allgather(self.num_owned)
        self._order = np.empty(sum(self._counts), dtype=np.int64)
        self._comm.Allgatherv(owned, (self._order, self._counts))

    def gather(self, owned: Array) -> Array:
        received = np.empty(len(self._order))
        self._comm.Allgatherv(owned, (received, self._counts))
        values = np.empty(len(self._order))
        values[self._order] = received
        return values.reshape(self._shape)


class _CellMap:
    """Numbers in T_ε and T_h of this rank's mesh cells."""

    def __init__(self, domain: Any, grid: Grid) -> None:
        corners = domain.geometry.x[domain.geometry.dofmap][..., : grid.dim]
        midpoints = corners.mean(axis=1)
        self.epsilon = _lexicographic(np.floor(midpoints * grid.coefficient), grid.coefficient)
        self.fine = _lexicographic(np.floor(midpoints * grid.fine), grid.fine)

    @staticmethod
    def fill(function: Any, values: npt.NDArray[Any]) -> None:
        """Set a piecewise constant function to one value (or matrix) per mesh cell of this rank."""
        dofs = function.function_space.dofmap.list[:, 0]
        size = function.function_space.dofmap.index_map_bs
        blocks = function.x.array.reshape(-1, size)
        blocks[dofs] = np.broadcast_to(values, (len(dofs),) + values.shape[1:]).reshape(-1, size)


# -- solver ------------------------------------------------------------------------------------------


def _agree(comm: MPI.Comm, step: Callable[[], _T]) -> _T:
    """Run a local step; an error on one rank is one on all, so that nobody waits in the next collective."""
    try:
        result, error = step(), None
    except Exception as caught:  # whatever it is, the other ranks must hear of it
        error = caught
    messages = comm.allgather(None if error is None else f"{type(error).__name__}: {error}")
    if error is not None:
        raise error
    failed = next((f"rank {rank}: {text}" for rank, text in enumerate(messages) if text is not None), None)
    if failed is not None:
        raise InputError(f"input refused on {failed}")
    return result


def _multigrid_cg(matrix: Any, comm: MPI.Comm, grid: Grid) -> Any:
    ksp = PETSc.KSP().create(comm)
    ksp.setOptionsPrefix(_PREFIX)
    ksp.setOperators(matrix)
    ksp.setType("cg")
    # The norm of the preconditioned residual estimates the error of u itself, whatever the contrast.
    ksp.setNormType(PETSc.KSP.NormType.PRECONDITIONED)
    ksp.setTolerances(rtol=1e-10, atol=0.0, max_it=500)
    # With a single unknown GAMG's estimate of eigenvalues breaks down.
    ksp.getPC().setType("hypre" if _HYPRE else "gamg" if grid.fine > 2 else "jacobi")
    options = PETSc.Options(_PREFIX)
    ours = _multigrid_options(grid.dim)
    ours = {name: ours[name] for name in ours if not options.hasName(name)}
    for name, value in ours.items():
        options.setValue(name, value)
    ksp.setFromOptions()
    for name in ours:
        options.delValue(name)
    return ksp


def _multigrid_options(dim: int) -> dict[str, Any]:
    if not _HYPRE:
        # GAMG would keep the prolongation of the first coefficient, and later results would depend on it.
        return {"pc_gamg_reuse_interpolation": False}
    if dim < 3:
        return {"pc_hypre_type": "boomeramg"}
    # The 27-point stencil fills the coarse levels: coarsening this fast halves the time of a solve.
    return {
        "pc_hypre_type": "boomeramg",
        "pc_hypre_boomeramg_strong_threshold": 0.5,
        "pc_hypre_boomeramg_P_max": 4,
        "pc_hypre_boomeramg_agg_nl": 1,
    }
