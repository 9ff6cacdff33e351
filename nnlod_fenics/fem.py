"""The fine-scale reference: Q1 finite elements on T_h with DOLFINx.

Solves a(u, v) = F(v) for all v in V_h and u = g on Γ_D, where a(u, v) = ∫_D A ∇u·∇v dx, A is piecewise constant on T_ε
and F holds source, fluxes and wells, by conjugate gradients with algebraic multigrid.
The mesh has the active cells only: what DOLFINx integrates over it is integrated over D.
DOLFINx numbers cells and nodes as it likes; every map between its numbers and arrays ``[y, x]`` is built from
coordinates here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

from nnlod_fenics.compat import MPI

import basix
import basix.ufl
import dolfinx.fem.petsc
import numpy as np
import numpy.typing as npt
import ufl
from dolfinx import fem, la, mesh
from petsc4py import PETSc

from nnlod_fenics.coefficient import check_coefficient
from nnlod_fenics.domain import face_axis
from nnlod_fenics.errors import InputError, NumericalError
from nnlod_fenics.grid import Grid
from nnlod_fenics.norms import nodal_values
from nnlod_fenics.problem import (
    Function,
    Problem,
    Source,
    Well,
    boundary_values,
    check_source,
    evaluate_source,
    fluxes,
    place_wells,
)
from nnlod_fenics.scaling import center_exponent, check_range, exponent_of

__all__ = ["FineSolution", "FineSolver", "nodal_function", "solve_fine"]

Array = npt.NDArray[np.float64]

IntArray = npt.NDArray[np.int64]

_T = TypeVar("_T")
_PREFIX = "nnlod_fine_"
_POLISHED, _POLISH_ITERATIONS = 1e-13, 10
_HYPRE: bool = PETSc.Sys.hasExternalPackage("hypre")


class FineSolution:
    """Q1 solution on T_h.

    Attributes:
        function: The solution as a DOLFINx function on the mesh of D, which has no inactive cells. It belongs to the
            solver: its next solve overwrites it.
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
            Shape ``grid.fine_node_shape``, NaN at nodes of no active element; the same on every rank.

        Note:
            Collective over the solver's communicator.
        """
        return self._nodes.gather(self._owned)


class _Data(NamedTuple):
    """Checked data of one solve."""

    coefficient: Array  # on T_ε
    source: Array | Function  # f: (), or on T_h
    wells: list[Well]
    boundary: Array  # g − level at the fine nodes on Γ_D, zero elsewhere
    level: float  # a constant that is not solved for, so that accuracy does not depend on what u is counted from
    flux: dict[str, float | Function]  # q by face


class FineSolver:
    """Solver for many coefficients and problems on the same T_h.

    Mesh, function spaces, compiled forms and PETSc objects are made once; a solve changes their values
    only, so that a Monte Carlo run does not grow.

    Args:
        grid: The discretisation; ``ell`` does not matter here, ``coarse`` as the scale of ``active`` only.
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
        self.mesh = _mesh_of(grid.at_fine_scale, comm)
        space = fem.functionspace(self.mesh, ("Lagrange", 1))
        self.function = fem.Function(space, name="u")
        self.nodes = _NodeMap(space, grid)
        self._cells = _CellMap(self.mesh, grid)
        self._rhs = fem.Function(space)
        self._test = ufl.TestFunction(space)
        self._trial = ufl.TrialFunction(space)
        self._given = fem.Function(space)  # g, scaled
        fixed = np.flatnonzero(grid.at_fine_scale.fixed_nodes.ravel()[self.nodes.numbers])
        self._fixed = fixed.astype(np.int32)
        self._boundary = fem.dirichletbc(self._given, self._fixed)
        self._faces: dict[str, _FaceLoad] = {}
        self._matrix: Any = dolfinx.fem.petsc.create_matrix(self._stiffness(())[1])
        self._x, self._b = self._matrix.createVecs()
        self._ksp = _multigrid_cg(self._matrix, comm, grid)

    def solve(self, A: npt.ArrayLike, f: Source | Problem = 1.0) -> FineSolution:
        """Solve for one coefficient.

        Args:
            A: Values on T_ε, shape ``coefficient_shape`` or, for matrices, ``coefficient_shape + (d, d)``;
                the same on every rank. Those of inactive elements do not count.
            f: A :class:`Problem`; or a source alone: a number, a callable of points of shape (dim, n) that returns (n,)
                values (integrated with two Gauss points per axis of a cell), or an array of shape ``grid.fine_shape``.

        Returns:
            The solution.

        Raises:
            InputError: If A or f does not fit or the solution leaves the range of float64, on every rank.
            NumericalError: If the iteration does not converge to a relative residual of 1e-10.
        """
        if self._ksp is None:
            raise InputError("this FineSolver was destroyed; make a new one.")
        data = _agree(self.comm, lambda: self._check(A, f if isinstance(f, Problem) else Problem(f)))
        tensor = data.coefficient.ndim > self.grid.dim
        exponent = center_exponent(data.coefficient[self.grid.active_cells], tensor)
        stiffness = self._set_coefficient(np.ldexp(data.coefficient, -exponent))
        self._assemble_matrix(stiffness)
        shift = self._set_right_side(data, stiffness, exponent)
        self._ksp.solve(self._b, self._x)
        iterations, reason = self._ksp.getIterationNumber(), self._ksp.getConvergedReason()
        if reason < 0:
            cells = " × ".join(map(str, self.grid.fine))
            raise NumericalError(
                f"the fine-scale solve on {cells} cells did not converge (PETSc reason {reason} after {iterations} "
                "iterations)."
            )
        if not self.grid.unit_cube or data.wells or data.level or data.boundary.any():
            self._polish()
        self._check_range(data.level, shift, exponent)
        self.function.x.array[: self.nodes.num_owned] = np.ldexp(self._x.array_r, shift)
        self.function.x.array[self._fixed] = data.boundary.ravel()[self.nodes.numbers[self._fixed]]
        self.function.x.array[:] += data.level
        self.function.x.scatter_forward()
        return FineSolution(self, iterations)

    def _polish(self) -> None:
        """Iterate on to a relative residual of 1e-13, so that what flows in flows out to all digits that are shown.

        Where rounding errors forbid that, the solution stays what it is. With a source alone on the unit cube, where
        outflows are as exact without, nothing is done: a Monte Carlo run of an earlier version resumes with its bits.
        """
        rtol, most = self._ksp.rtol, self._ksp.max_it
        self._ksp.setTolerances(rtol=min(rtol, _POLISHED), max_it=_POLISH_ITERATIONS)
        self._ksp.setInitialGuessNonzero(True)
        self._ksp.solve(self._b, self._x)
        self._ksp.setInitialGuessNonzero(False)
        self._ksp.setTolerances(rtol=rtol, max_it=most)

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

    def _check(self, A: npt.ArrayLike, problem: Problem) -> _Data:
        grid, fixed = self.grid, self.grid.at_fine_scale.fixed_nodes
        boundary = boundary_values(grid.at_fine_scale, problem.g)
        level = float(boundary[fixed].max() / 2 + boundary[fixed].min() / 2)
        boundary[fixed] -= level
        return _Data(
            check_coefficient(grid, A),
            check_source(grid, problem.f),
            place_wells(grid, problem.wells),
            boundary,
            level,
            fluxes(grid, problem.flux),
        )

    def _check_range(self, level: float, shift: int, exponent: int) -> None:
        largest = self._largest(self._x.array_r)
        hidden = level != 0 and largest < math.inf and exponent_of(largest) + shift < exponent_of(abs(level))
        if (largest or self._largest(self._b.array_r)) and not hidden:
            check_range(largest, shift, exponent, "solution")

    # -- stiffness -----------------------------------------------------------------------------------

    def _set_coefficient(self, values: Array) -> Any:
        """Put A into the coefficient function of its kind; returns the compiled bilinear form."""
        shape = values.shape[self.grid.dim :]
        coefficient, form = self._stiffness(shape)
        self._cells.fill(coefficient, values.reshape((-1,) + shape)[self._cells.epsilon])
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

    def _assemble_matrix(self, stiffness: Any) -> None:
        self._matrix.zeroEntries()
        dolfinx.fem.petsc.assemble_matrix(self._matrix, stiffness, [self._boundary])
        self._matrix.assemble()

    # -- right-hand side -----------------------------------------------------------------------------

    def _set_right_side(self, data: _Data, stiffness: Any, exponent: int) -> int:
        """Put load and lift into the right-hand side, divided by 2^e near its largest entry; returns e.

        The stiffness is that of A / 2^exponent, so u solves K u = F / 2^exponent − K g. Both parts are made at scales
        of their own, and brought to a common one that neither overflows nor, unless the other hides it, underflows.
        """
        load = self._assemble_load(data)
        level = exponent_of(float(np.abs(data.boundary).max()))
        lift = self._lift(stiffness, np.ldexp(data.boundary, -level)) if data.boundary.any() else np.zeros_like(load)
        parts = [(load, -exponent), (lift, level)]
        largest = [(self._largest(values), power) for values, power in parts]
        shift = max((exponent_of(size) + power for size, power in largest if size), default=0)
        self._b.array_w[:] = sum(np.ldexp(values, power - shift) for values, power in parts)
        return shift

    def _assemble_load(self, data: _Data) -> Array:
        """F(Λ_i) at the owned nodes, zero on Γ_D."""
        forms = [self._source_form(data.source), *(self._flux_form(face, q) for face, q in data.flux.items())]
        load = self._sum_over_ranks(lambda b: [fem.assemble_vector(b, form) for form in forms])
        for well in data.wells:
            load[self.nodes.owned_number(well.node)] += well.rate
        return load

    def _lift(self, stiffness: Any, boundary: Array) -> Array:
        """−K g at the owned nodes, zero on Γ_D."""
        self._given.x.array[self._fixed] = boundary.ravel()[self.nodes.numbers[self._fixed]]
        return self._sum_over_ranks(lambda b: fem.apply_lifting(b, [stiffness], [[self._boundary]]))

    def _sum_over_ranks(self, add: Callable[[Array], object]) -> Array:
        """What all ranks add to a vector, at the owned nodes; zero on Γ_D."""
        b = self._rhs.x
        b.array[:] = 0.0
        add(b.array)
        b.scatter_reverse(la.InsertMode.add)
        b.array[self._fixed] = 0.0
        return b.array[: self.nodes.num_owned].copy()

    def _source_form(self, f: Array | Function) -> Any:
        """Put f into the load function of its kind; returns the compiled linear form."""
        if callable(f):
            density, form = self._load_at_points
            _agree(self.comm, lambda: density.interpolate(lambda x: evaluate_source(f, x[: self.grid.dim])))
        else:
            density, form = self._load_in_cells
            self._cells.fill(density, f.ravel()[self._cells.fine] if f.ndim else f)
        return form

    @cached_property
    def _load_in_cells(self) -> tuple[Any, Any]:
        f = fem.Function(fem.functionspace(self.mesh, ("DG", 0)))
        return f, fem.form(ufl.inner(f, self._test) * ufl.dx(metadata={"quadrature_degree": 1}))

    @cached_property
    def _load_at_points(self) -> tuple[Any, Any]:
        f = fem.Function(self._gauss_space)
        return f, fem.form(ufl.inner(f, self._test) * ufl.dx(metadata={"quadrature_degree": 3}))

    @cached_property
    def _gauss_space(self) -> Any:
        """Discontinuous Q1 functions by their values at two Gauss points per axis of a cell.

        Integrals of the interpolant with hat functions are exact by two Gauss points, that is, by values at the nodes.
        """
        cell, variant = self.mesh.basix_cell(), basix.LagrangeVariant.gl_warped
        element = basix.ufl.element("Lagrange", cell, 1, lagrange_variant=variant, discontinuous=True)
        return fem.functionspace(self.mesh, element)

    def _flux_form(self, face: str, q: float | Function) -> Any:
        """Put q into the load of a face; returns the compiled linear form."""
        if face not in self._faces:
            self._faces[face] = _FaceLoad(face, self.grid, self._gauss_space, self._test)
        load = self._faces[face]
        _agree(self.comm, lambda: load.set(q))
        return load.form

    def _largest(self, owned: Array) -> float:
        """Largest absolute value of a distributed vector, the same on every rank."""
        return float(self.comm.allreduce(float(np.abs(owned).max(initial=0.0)), MPI.MAX))


class _FaceLoad:
    """∫ q Λ_i over the part of a face of the box that belongs to D.

    Attributes:
        form: Its compiled linear form.
    """

    def __init__(self, face: str, grid: Grid, space: Any, test: Any) -> None:
        domain, dim = space.mesh, grid.dim
        self._axis, upper = face_axis(face)
        self._place = grid.lengths[self._axis] if upper else 0.0
        near = 0.25 * grid.fine_widths[self._axis]
        domain.topology.create_connectivity(dim - 1, dim)
        facets = mesh.locate_entities_boundary(domain, dim - 1, lambda x: abs(x[self._axis] - self._place) < near)
        cells = domain.topology.connectivity(dim - 1, dim)
        self._cells = cells.array[cells.offsets[facets]]  # a facet of the boundary has one cell
        self._q = fem.Function(space)
        tags = mesh.meshtags(domain, dim - 1, np.sort(facets), np.ones(len(facets), dtype=np.int32))
        ds = ufl.Measure("ds", domain=domain, subdomain_data=tags, metadata={"quadrature_degree": 3})
        self.form = fem.form(ufl.inner(self._q, test) * ds(1))

    def set(self, q: float | Function) -> None:
        """Set q, a number or a function of points, which is evaluated at points of the face."""
        if len(self._cells):
            self._q.interpolate(lambda x: self._at_face(q, x), self._cells)

    def _at_face(self, q: float | Function, x: Array) -> Array:
        if not callable(q):
            return np.full(x.shape[1], q)
        points = x[: self._q.function_space.mesh.geometry.dim].copy()
        points[self._axis] = self._place  # constant across the cell: the value at the face is that at Gauss points
        return evaluate_source(q, points, "flux")


def solve_fine(
    grid: Grid, A: npt.ArrayLike, f: Source | Problem = 1.0, comm: MPI.Comm = MPI.COMM_WORLD
) -> FineSolution:
    """Solve the diffusion problem with Q1 finite elements on T_h.

    Args:
        grid: The discretisation; ``ell`` does not matter here, ``coarse`` as the scale of ``active`` only.
        A: Values on T_ε, shape ``coefficient_shape`` or ``coefficient_shape + (d, d)``; the same on every
            rank.
        f: A :class:`Problem`; or a source alone: a number, a callable of points (dim, n) -> (n,), or an array of shape
            ``grid.fine_shape``.
        comm: Communicator over which T_h is distributed. Collective.

    Returns:
        The solution, distributed; its ``values()`` are the nodal values on every rank.

    Raises:
        InputError: If A or f does not fit.
        NumericalError: If the iteration does not converge to a relative residual of 1e-10.
    """
    with FineSolver(grid, comm) as solver:
        return solver.solve(A, f)


def nodal_function(u: npt.ArrayLike, name: str = "u", comm: MPI.Comm = MPI.COMM_SELF, grid: Grid | None = None) -> Any:
    """A DOLFINx function from nodal values, for further use in FEniCSx or to write in its formats.

    Args:
        u: Nodal values, indexed ``[y, x]``, the same on every rank; for example ``solution.u``.
        name: Name of the function.
        comm: Communicator over which its mesh is distributed. Collective.
        grid: The discretisation, of which u has a value per node of T_H or T_h, as its shape shows. If None, u belongs
            to the unit cube with n cells per axis, shape ``(n+1,)*d``.

    Returns:
        The Q1 function. Its mesh consists of the active cells, so that values at other nodes (NaN) have no place in it.

    Raises:
        InputError: If u is no such array.
    """
    level, values = nodal_values("u", u, grid)
    space = fem.functionspace(_mesh_of(level, comm), ("Lagrange", 1))
    function = fem.Function(space, name=name)
    function.x.array[:] = values.ravel()[_NodeMap(space, level).numbers]
    return function


# -- mesh and numbering ------------------------------------------------------------------------------


def _mesh_of(grid: Grid, comm: MPI.Comm) -> Any:
    """The mesh of a grid's active elements."""
    counts, ghosts = grid.coarse, mesh.GhostMode.none
    corners = [(0.0,) * grid.dim, grid.lengths]
    if grid.dim == 1:
        box = mesh.create_interval(comm, *counts, [0.0, *grid.lengths], ghost_mode=ghosts)
    elif grid.dim == 2:
        box = mesh.create_rectangle(comm, corners, counts, mesh.CellType.quadrilateral, ghost_mode=ghosts)
    else:
        box = mesh.create_box(comm, corners, counts, mesh.CellType.hexahedron, ghost_mode=ghosts)
    if not grid.inactive:
        return box
    cells = np.flatnonzero(grid.active.ravel()[_cells_at(box, counts, grid.lengths)])
    return mesh.create_submesh(box, grid.dim, cells.astype(np.int32))[0]


def _lexicographic(index: npt.NDArray[Any], counts: tuple[int, ...]) -> IntArray:
    """Numbers, x fastest, of multi-indices (m, dim) with so many values along each axis."""
    return index.astype(np.int64) @ np.cumprod([1, *counts[:-1]])


def _cells_at(domain: Any, counts: tuple[int, ...], lengths: tuple[float, ...]) -> IntArray:
    """Numbers of the cells, of so many along each axis of the box, in which the cells of this rank's mesh lie."""
    midpoints = domain.geometry.x[domain.geometry.dofmap][..., : len(counts)].mean(axis=1)
    return _lexicographic(np.floor(midpoints / lengths * counts), counts)


class _NodeMap:
    """Numbers in T_h of the nodes of every rank, to gather nodal values.

    Attributes:
        numbers: Of this rank's nodes, owned ones first.
        num_owned: How many it owns.
    """

    def __init__(self, space: Any, grid: Grid) -> None:
        dim = grid.dim
        self.num_owned: int = space.dofmap.index_map.size_local
        at = space.tabulate_dof_coordinates()[:, :dim] / grid.lengths * grid.fine
        self._counts = tuple(n + 1 for n in grid.fine)
        self.numbers = _lexicographic(np.rint(at), self._counts)
        self._comm = space.mesh.comm
        self._sizes = self._comm.allgather(self.num_owned)
        self._order = np.empty(sum(self._sizes), dtype=np.int64)
        self._comm.Allgatherv(self.numbers[: self.num_owned].copy(), (self._order, self._sizes))

    def owned_number(self, node: tuple[int, ...]) -> npt.NDArray[np.intp]:
        """Where a node, x first, is among the owned ones: nowhere on all ranks but one."""
        number = _lexicographic(np.array([node]), self._counts)
        return np.flatnonzero(self.numbers[: self.num_owned] == number)

    def gather(self, owned: Array) -> Array:
        received = np.empty(len(self._order))
        self._comm.Allgatherv(owned, (received, self._sizes))
        values = np.full(np.prod(self._counts), np.nan)
        values[self._order] = received
        return values.reshape(self._counts[::-1])


class _CellMap:
    """Numbers in T_ε and T_h of this rank's mesh cells."""

    def __init__(self, domain: Any, grid: Grid) -> None:
        self.epsilon = _cells_at(domain, grid.coefficient, grid.lengths)
        self.fine = _cells_at(domain, grid.fine, grid.lengths)

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
    ksp.getPC().setType("hypre" if _HYPRE else "gamg" if grid.at_fine_scale.num_free_nodes > 1 else "jacobi")
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
