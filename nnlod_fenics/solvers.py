"""The table of solution methods: a discretisation and a problem in, a solver of many coefficients out.

``fem``, ``lod`` and ``nn`` are here; :func:`register_method` adds others. Evaluation, Monte Carlo and the command line
know methods by this table only.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import scipy.sparse

from nnlod_fenics.averaged import AveragedFem, cell_means
from nnlod_fenics.coefficient import check_coefficient
from nnlod_fenics.errors import InputError, MissingDependencyError, NumericalError
from nnlod_fenics.functionals import face_outflow, face_weights, given_outflow, parse_face
from nnlod_fenics.grid import Grid
from nnlod_fenics.loads import element_loads, fine_load, load_vector
from nnlod_fenics.lod.coarse import (
    CoarseSolver,
    apply_local,
    coarse_operator,
    coarse_residual,
    is_galerkin,
    sum_local,
)
from nnlod_fenics.lod.finescale import fine_solution
from nnlod_fenics.lod.galerkin import galerkin_system
from nnlod_fenics.lod.local import local_matrices
from nnlod_fenics.lod.reliability import Reliability, assess, assess_galerkin
from nnlod_fenics.lod.symmetric import LinearSolve
from nnlod_fenics.problem import Boundary, Problem, Source, boundary_values, check_problem
from nnlod_fenics.runtime.optional import needed_for
from nnlod_fenics.window import FORMS, GALERKIN

__all__ = ["AUTO_LAYERS", "NAMES", "Solution", "Solver", "make_solver", "methods", "register_method", "solve"]

Array = npt.NDArray[np.float64]

_LOG = logging.getLogger(__name__)

AUTO_LAYERS = {1: 4, 2: 3, 3: 2}
"""Up to how many layers ``ell="auto"`` goes, by dimension: with more one field costs more by LOD than by FEM."""

NAMES = {
    "fem": "FEM",
    "averaged": "FEM, averaged A",
    "lod": "PG-LOD",
    "nn": "NN-LOD",
}  # as figures and reports call them
"""Names of the methods as figures and reports call them."""


@dataclass
class Solution:
    """A solution and how it came about.

    Attributes:
        grid: The discretisation.
        method: The method.
        A: The coefficient on T_ε.
        u: Nodal values, NaN at nodes of no active element: ``grid.fine_node_shape`` for ``fem``, ``mesh.node_shape``
            for ``averaged``, ``grid.node_shape`` otherwise.
        S: Local matrices, for ``lod`` and ``nn`` in the Petrov–Galerkin form.
        seconds: Time of each step.
        u_fine: Nodal values on T_h, ``grid.fine_node_shape``: u itself for ``fem``, the reconstruction
            (1 − C) u_H + Σ R_T where it was asked for.
        form: ``"galerkin"`` for a coarse solution in that form, else ``"petrov-galerkin"``.
        operator: K at all nodes of the box, of T_H for the Galerkin form, of ``mesh`` for ``averaged``.
        problem: What was solved.
        steps: What was tried, a sentence each, for ``ell="auto"``.
        mesh: The mesh of ``averaged`` as a grid of its own.
        solver: How the coarse system was solved, for the Galerkin form: method, iterations and residual.
    """

    grid: Grid
    method: str
    A: Array
    u: Array
    S: Array | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    u_fine: Array | None = None
    form: str = "petrov-galerkin"
    operator: scipy.sparse.csr_array | None = None
    problem: Problem = field(default_factory=Problem)
    steps: list[str] = field(default_factory=list)
    mesh: Grid | None = None
    solver: LinearSolve | None = None
    make_load: Callable[[], Array] = field(default=lambda: np.zeros(0), repr=False, compare=False)

    @property
    def coarse(self) -> Array:
        """Values at the nodes of T_H, shape ``grid.node_shape``."""
        step = (self.u.shape[0] - 1) // self.grid.element_shape[0]
        return self.u[(slice(None, None, step),) * self.grid.dim]

    @property
    def K(self) -> scipy.sparse.csr_array:
        """The coarse operator (3.5) on the free nodes, sparse.

        Raises:
            InputError: If the method has none.
        """
        if self.operator is not None:
            free = np.flatnonzero((self.mesh or self.grid).free_nodes)
            return self.operator[free][:, free]
        if self.S is None:
            raise InputError(f"a solution by method {self.method!r} has no coarse operator.")
        return coarse_operator(self.grid, self.S)

    @cached_property
    def load(self) -> Array:
        """The load F(Λ_i), with source correctors F(Λ_i) − a(Σ_T R_T, Λ_i), for the hats of the mesh of ``u``."""
        return self.make_load()

    @cached_property
    def reliability(self) -> Reliability:
        """Whether there are signs that a coarse solution in the Petrov–Galerkin form is wrong.

        A solution in the Galerkin form has them too where ``ell="auto"`` found it.

        Raises:
            InputError: If the solution is by another method, or was computed in the Galerkin form alone.
        """
        if self.S is None:
            raise InputError(
                "reliability is that of solutions in the Petrov–Galerkin form by local matrices, got one by method "
                f"{self.method!r}{' in the Galerkin form' if self.operator is not None else ''}."
            )
        return assess(self.grid, self.S, self.u, self.load, self._nonnegative)

    @property
    def _nonnegative(self) -> bool:
        """Whether no data are negative."""
        data = [load_vector(self.grid, self.problem), boundary_values(self.grid, self.problem.g)]
        return all(bool(values.min() >= 0) for values in data)

    def outflow(self, face: str) -> float:
        """−∫_Γ A ∂u/∂n ds through a face, see :class:`nnlod_fenics.functionals.Outflow`.

        Args:
            face: ``"xmin"``, ``"xmax"``, ``"ymin"``, … (also ``"x=0"``, ``"x=1"``, …)

        Returns:
            The consistent flux, positive where it leaves D.
        """
        name = parse_face(self.grid, face)
        if name not in self.grid.dirichlet:
            return given_outflow(self.grid, self.problem, name)
        if self.S is None and self.operator is None:
            return face_outflow(name, self.grid, self.u, self.A, self.load)
        return float(self._residual.ravel() @ face_weights(name, self.mesh or self.grid))

    @cached_property
    def _residual(self) -> Array:
        if self.operator is not None:
            u = np.where((self.mesh or self.grid).active_nodes, self.u, 0.0)
            return np.asarray(self.load - (self.operator @ u.ravel()).reshape(u.shape))
        assert self.S is not None
        return coarse_residual(self.grid, self.S, self.u, self.load)


class Solver(Protocol):
    """A method for one discretisation and problem, and many coefficients.

    Attributes:
        together: Coefficients that it likes to be given at a time; the bits of its results may depend on it.
    """

    together: int

    def solve_many(self, A: Sequence[Array] | Array) -> list[Solution]:
        """Solve for some coefficients, checked arrays on T_ε."""

    def destroy(self) -> None:
        """Free what it keeps."""


Factory = Callable[..., Solver]


@contextmanager
def _timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[step] = seconds.get(step, 0.0) + time.perf_counter() - start


class _Fem:
    """Q1 finite elements on T_h."""

    together = 1

    def __init__(self, grid: Grid, problem: Problem) -> None:
        with needed_for("method 'fem'"):
            from nnlod_fenics.compat import MPI

            from nnlod_fenics.fem import FineSolver
        self._grid, self._problem = grid, problem
        self._solver = FineSolver(grid, MPI.COMM_SELF)

    def solve_many(self, A: Sequence[Array] | Array) -> list[Solution]:
        return [self._solve(a) for a in A]

    def _solve(self, A: Array) -> Solution:
        seconds: dict[str, float] = {}
        with _timed(seconds, "solve"):
            u = self._solver.solve(A, self._problem).values()
        return Solution(self._grid, "fem", A, u, None, seconds, u, problem=self._problem, make_load=lambda: self._load)

    @cached_property
    def _load(self) -> Array:
        return fine_load(self._grid, self._problem)

    def destroy(self) -> None:
        self._solver.destroy()


class _Averaged:
    """Q1 finite elements on a coarser mesh, with means of the coefficient."""

    together = 64

    def __init__(self, grid: Grid, problem: Problem, refine: int = 1, mean: str | float = "geometric") -> None:
        self._grid, self._problem, self._fem = grid, problem, AveragedFem(grid, problem, refine, mean)

    def solve_many(self, A: Sequence[Array] | Array) -> list[Solution]:
        start = time.perf_counter()
        means = cell_means(self._grid, np.stack(list(A)), self._fem.refine, self._fem.mean)
        each = (time.perf_counter() - start) / len(A)
        return [self._solve(a, own, each) for a, own in zip(A, means, strict=True)]

    def _solve(self, A: Array, means: Array, seconds_before: float) -> Solution:
        seconds, fem = {"means": seconds_before}, self._fem
        with _timed(seconds, "solve"):
            u, K = fem.solve(means)
        return Solution(
            self._grid,
            "averaged",
            A,
            u,
            seconds=seconds,
            operator=K,
            problem=self._problem,
            mesh=fem.mesh,
            make_load=lambda: fem.load,
        )

    def destroy(self) -> None:
        pass


class _Coarse:
    """Local matrices from somewhere, the coarse operator of them, and its solution."""

    method: str
    together: int

    def __init__(self, grid: Grid, problem: Problem, reconstruct: bool = False) -> None:
        self._grid, self._coarse, self._reconstruct = grid, CoarseSolver(grid, problem), reconstruct
        self._local = "condensed"

    @cached_property
    def _loads(self) -> Array:
        return element_loads(self._grid, self._coarse.problem)

    def _local_matrices(self, A: Sequence[Array] | Array) -> Sequence[tuple[Array, Array | None]]:
        """For each coefficient the local matrices, and the load at all nodes where that is corrected."""
        raise NotImplementedError

    def solve_many(self, A: Sequence[Array] | Array) -> list[Solution]:
        start = time.perf_counter()
        found = self._local_matrices(A)
        each = (time.perf_counter() - start) / len(A)
        return [self._solve(a, S, load, each) for a, (S, load) in zip(A, found, strict=True)]

    def _solve(self, A: Array, S: Array, corrected: Array | None, seconds_before: float) -> Solution:
        grid, coarse, seconds = self._grid, self._coarse, {"local matrices": seconds_before}
        load = coarse.load if corrected is None else corrected
        if is_galerkin(grid, S):
            with _timed(seconds, "assembly"):
                operator = coarse_operator(grid, S, boundary=True)
            return self._solve_galerkin(A, operator, load, seconds)
        with _timed(seconds, "assembly"):
            K = coarse_operator(grid, S)
            lift = apply_local(grid, S, coarse.boundary) if coarse.lifted else None
        with _timed(seconds, "solve"):
            u = coarse.solve(K, load, lift)
        solution = Solution(grid, self.method, A, u, S, seconds, problem=coarse.problem, make_load=lambda: load)
        return self._finish(solution)

    def _solve_galerkin(
        self, A: Array, operator: scipy.sparse.csr_array, load: Array, seconds: dict[str, float]
    ) -> Solution:
        """Solve with the operator of the Galerkin form on all coarse nodes."""
        grid, coarse, free = self._grid, self._coarse, np.flatnonzero(self._grid.free_nodes)
        with _timed(seconds, "solve"):
            lift = (operator @ coarse.boundary.ravel()).reshape(grid.node_shape)
            u, solver = coarse.solve_symmetric(operator[free][:, free], load, lift)
        solution = Solution(
            grid,
            self.method,
            A,
            u,
            None,
            seconds,
            None,
            GALERKIN,
            operator,
            coarse.problem,
            solver=solver,
            make_load=lambda: load,
        )
        return self._finish(solution)

    def _finish(self, solution: Solution) -> Solution:
        """Add the fine-scale solution where it is wanted."""
        if self._reconstruct:
            with _timed(solution.seconds, "reconstruction"):
                solution.u_fine = fine_solution(self._grid, solution.A, solution.u, self._loads, self._local)
        return solution

    def destroy(self) -> None:
        pass


class _Lod(_Coarse):
    """PG-LOD: exact local matrices."""

    method, together = "lod", 1

    def __init__(
        self,
        grid: Grid,
        problem: Problem,
        local: str = "condensed",
        source_correctors: bool = False,
        reconstruct: bool = False,
        form: str = "petrov-galerkin",
    ) -> None:
        super().__init__(grid, problem, reconstruct)
        if local not in ("condensed", "dolfinx"):
            raise InputError(f"local must be 'condensed' or 'dolfinx', got {local!r}.")
        if form not in FORMS:
            raise InputError(f"form must be one of {FORMS}, got {form!r}.")
        self._local, self._source, self._form = local, problem if source_correctors else None, form

    def solve_many(self, A: Sequence[Array] | Array) -> list[Solution]:
        if self._form == "petrov-galerkin":
            return super().solve_many(A)
        return [self._from_energies(a) for a in A]

    def _from_energies(self, A: Array) -> Solution:
        seconds: dict[str, float] = {}
        with _timed(seconds, "local matrices"):
            system = galerkin_system(self._grid, A, self._loads, self._local)
        return self._solve_galerkin(A, *system, seconds)

    def _local_matrices(self, A: Sequence[Array] | Array) -> Sequence[tuple[Array, Array | None]]:
        if self._source is None:
            return [(local_matrices(self._grid, a, self._local), None) for a in A]
        found = (local_matrices(self._grid, a, self._local, source=self._source) for a in A)
        return [(S, sum_local(self._grid, loads)) for S, loads in found]


class _Auto:
    """The first of PG-LOD with ever more layers, its Galerkin form and FEM with no sign of an error of 2 %."""

    together = 1

    def __init__(self, grid: Grid, problem: Problem, local: str = "condensed", reconstruct: bool = False) -> None:
        self._problem, self._local, self._reconstruct = problem, local, reconstruct
        covering = max(max(grid.coarse) - 1, 1)  # with so many layers every patch is D
        tables = [{**grid.as_dict(), "ell": ell} for ell in range(1, min(AUTO_LAYERS[grid.dim], covering) + 1)]
        self._grids = [Grid.from_dict(table) for table in tables]

    def solve_many(self, A: Sequence[Array] | Array) -> list[Solution]:
        return [self._solve(a) for a in A]

    def _solve(self, A: Array) -> Solution:
        start, steps = time.perf_counter(), list[str]()
        best: Solution | None = None
        for found in self._candidates(A, steps):
            best = found
            if found.method == "fem" or found.reliability.accurate:
                break
        else:
            _say(steps, "none of these solutions is known to be within 2 % of FEM; the last one is returned")
        if best is None:
            raise NumericalError(f"no method gave a solution: {'; '.join(steps)}.")
        best.steps = steps
        best.seconds["all that was tried"] = time.perf_counter() - start
        if self._reconstruct and best.u_fine is None:
            loads = element_loads(best.grid, self._problem)
            best.u_fine = fine_solution(best.grid, A, best.u, loads, self._local)
        return best

    def _candidates(self, A: Array, steps: list[str]) -> Iterator[Solution]:
        """Solutions of growing cost; those that cannot be had are passed over, with a word."""
        last: Solution | None = None
        for grid in self._grids:
            with _reported(steps, f"PG-LOD with ℓ = {grid.ell}"):
                last = _Lod(grid, self._problem, self._local, source_correctors=True).solve_many([A])[0]
                _say(steps, f"PG-LOD with ℓ = {grid.ell}: {last.reliability}")
                yield last
        if last is not None:
            with _reported(steps, f"the Galerkin form with ℓ = {last.grid.ell}"):
                yield self._galerkin(last, steps)
        with _reported(steps, "FEM"):
            solver = _Fem(self._grids[0], self._problem)
            try:
                solution = solver.solve_many([A])[0]
            finally:
                solver.destroy()
            _say(steps, "FEM on T_h: by definition what the others are compared with")
            yield solution

    def _galerkin(self, before: Solution, steps: list[str]) -> Solution:
        """The Galerkin form, assessed by the Petrov–Galerkin form of as many layers."""
        solution = _Lod(before.grid, self._problem, self._local, form="galerkin").solve_many([before.A])[0]
        assert before.S is not None and solution.operator is not None
        solution.reliability = assess_galerkin(
            before.grid, before.S, solution.u, before.load, solution.operator, solution._nonnegative
        )
        _say(steps, f"the Galerkin form with ℓ = {before.grid.ell}: {solution.reliability}")
        return solution

    def destroy(self) -> None:
        pass


def _say(steps: list[str], sentence: str) -> None:
    steps.append(sentence)
    _LOG.info(sentence)


@contextmanager
def _reported(steps: list[str], name: str) -> Iterator[None]:
    """Say that something is left out because it does not fit into memory, fails, or needs what is not installed."""
    try:
        yield
    except (InputError, NumericalError, MissingDependencyError, MemoryError) as error:
        _say(steps, f"{name} is left out: {error}")


def _make_lod(grid: Grid, problem: Problem, ell: str | None = None, **options: Any) -> Solver:
    if ell is None:
        return _Lod(grid, problem, **options)
    if ell != "auto":
        raise InputError(f"ell must be 'auto' where it is not the grid's, got {ell!r}; Grid(..., ell={ell!r}) sets it.")
    if "form" in options:
        raise InputError(f"form does not apply to ell='auto', which chooses it, got {options['form']!r}.")
    options.pop("source_correctors", None)  # always
    return _Auto(grid, problem, **options)


class _NnLod(_Coarse):
    """NN-LOD: local matrices by a network."""

    method, together = "nn", 8

    def __init__(
        self,
        grid: Grid,
        problem: Problem,
        model: Any = None,
        trust: float | None = None,
        device: str | None = None,
        source_correctors: bool = False,
        reconstruct: bool = False,
    ) -> None:
        from nnlod_fenics.network import NNLOD

        if model is None:
            raise InputError("method 'nn' needs a model, got none.")
        if isinstance(model, (str, Path)):
            model = NNLOD.load(model, device="cpu" if device is None else device)
        elif device is not None:
            raise InputError("device applies to a model that is loaded by name; a loaded one is where it is.")
        if not isinstance(model, NNLOD):
            raise InputError(f"model must be an NNLOD, a model folder or a name, got {type(model).__name__}.")
        model.check_grid(grid)
        super().__init__(grid, problem, reconstruct)
        if source_correctors and not model.predicts_loads:
            raise InputError("source_correctors needs a model that predicts loads, got one that does not.")
        self.model, self._trust, self._corrected = model, trust, source_correctors

    def _local_matrices(self, A: Sequence[Array] | Array) -> Sequence[tuple[Array, Array | None]]:
        if self._trust is not None:
            return [self._with_load(*self.model.local_system(self._grid, a, self._trust)) for a in A]
        columns = self.model.window.matrix_shape[1]
        found = self.model.predict(self._grid, np.stack(list(A))).cpu().numpy()
        return [self._with_load(each[..., :columns], each[..., -1]) for each in found]

    def _with_load(self, S: Array, loads: Array | None) -> tuple[Array, Array | None]:
        if not self._corrected:
            return S, None
        return S, self.model.corrected_load(self._grid, self._coarse.problem, loads)


_FACTORIES: dict[str, Factory] = {"fem": _Fem, "averaged": _Averaged, "lod": _make_lod, "nn": _NnLod}
_SWITCHES = ("source_correctors", "reconstruct")
_OPTIONS: dict[str, tuple[str, ...]] = {
    "fem": (),
    "averaged": ("refine", "mean"),
    "lod": ("local", "source_correctors", "reconstruct", "form", "ell"),
    "nn": ("model", "trust", "device", "source_correctors", "reconstruct"),
}


def methods() -> tuple[str, ...]:
    """Names of the solution methods."""
    return tuple(_FACTORIES)


def register_method(name: str, factory: Factory, options: Sequence[str] = ()) -> None:
    """Add a solution method.

    Args:
        name: Its name.
        factory: Called as ``factory(grid, problem, **options)``; gives a :class:`Solver`.
        options: Names of the options it takes.

    Raises:
        InputError: If the name is taken by another one.
    """
    if _FACTORIES.get(name, factory) is not factory:
        raise InputError(f"name must be a new one, got {name!r}, which is registered already.")
    _FACTORIES[name], _OPTIONS[name] = factory, tuple(options)
    NAMES.setdefault(name, name)


def make_solver(method: str, grid: Grid, problem: Problem | None = None, **options: Any) -> Solver:
    """Make a solver by name.

    Args:
        method: One of :func:`methods`.
        grid: The discretisation.
        problem: What is to be solved; f = 1 if None.
        **options: For ``averaged`` ``refine``, elements for each element of T_H along an axis, and ``mean``:
            ``"geometric"``, ``"harmonic"``, ``"arithmetic"``, the exponent of a power mean, or ``"effective"`` for
            tensors from periodic cell problems. For ``lod`` ``local``
            (``"condensed"`` or ``"dolfinx"``), ``source_correctors`` and ``form`` (``"petrov-galerkin"``, or
            ``"galerkin"``, always with source correctors), or ``ell="auto"`` in their place. For ``nn`` ``model``,
            ``trust``, ``device`` and, where the model predicts loads, ``source_correctors``. For ``lod`` and ``nn``
            ``reconstruct``. Those that are None or False count as not given.

    Returns:
        The solver.

    Raises:
        InputError: If there is no such method, or an option does not apply to it.
        MissingDependencyError: If the method needs something that is not installed.
    """
    if method not in _FACTORIES:
        raise InputError(f"method must be one of {methods()}, got {method!r}.")
    given = {name: value for name, value in options.items() if value is not None and value is not False}
    for name in given:
        if name not in _OPTIONS[method]:
            raise InputError(
                f"{name} does not apply to method {method!r}, whose options are {list(_OPTIONS[method])}; got {name}="
                f"{given[name]!r}."
            )
        if name in _SWITCHES and given[name] is not True:
            raise InputError(f"{name} must be True or False, got {given[name]!r}.")
    problem = Problem() if problem is None else problem
    check_problem(grid, problem)
    return _FACTORIES[method](grid, problem, **given)


def solve(
    grid: Grid,
    A: npt.ArrayLike,
    method: str = "lod",
    f: Source = 1.0,
    *,
    wells: Sequence[tuple[Sequence[float], float]] = (),
    g: Boundary = 0.0,
    flux: Boundary = 0.0,
    **options: Any,
) -> Solution:
    """Solve −∇·(A∇u) = f in D, u = g on Γ_D, A ∂u/∂n = q elsewhere on ∂D, for one coefficient.

    Args:
        grid: The discretisation; it says what D and Γ_D are.
        A: Coefficient on T_ε, shape ``grid.coefficient_shape``, or ``grid.coefficient_shape + (d, d)`` for symmetric
            matrices. Cells of inactive elements do not count.
        method: ``"fem"`` on T_h; ``"averaged"``, FEM on T_H or a refinement of it with means of A; ``"lod"`` (PG-LOD)
            or ``"nn"`` (NN-LOD) on T_H; or a registered one.
        f: Source: a number, a function of points, or cell values on T_h.
        wells: Points and rates, positive where a well injects.
        g: u on Γ_D: a number, a function of points, or one of them a face, ``{"xmin": 1.0}``.
        flux: q, what flows into D through the other faces of the box, likewise.
        **options: See :func:`make_solver`: ``source_correctors=True`` makes the coarse solution of ``lod`` that of the
            right-hand side's fine scales too; ``reconstruct=True`` gives ``solution.u_fine``; ``model`` for ``nn``.
            ``ell="auto"`` for ``lod`` tries ℓ = 1, 2, … up to :data:`AUTO_LAYERS` instead of the grid's, then the
            Galerkin form, then FEM, all with source correctors, and returns the first that shows no sign of an L² error
            of 2 % or more against FEM. ``solution.steps`` says what was tried, as the log does.

    Returns:
        The solution.

    Raises:
        InputError: If an argument does not fit.

    Note:
        For patches that cover D, u_H of ``lod`` with source correctors is I_H u_h, whatever the coefficient. What the
        patches of ℓ layers add to this falls exponentially with ℓ, but the slower the higher the contrast; conductive
        channels or floating parts of D can make it arbitrarily large in the Petrov–Galerkin form, which
        ``solution.reliability`` detects. Without source correctors the fine scales of the right-hand side are missing.

        Each process solves for itself. Under ``mpirun``, ``"fem"`` on some processes only waits for the others for ever
        unless all have imported :mod:`nnlod_fenics.fem` before: that starts PETSc, which is collective.

    Example:
        >>> grid = Grid(dim=2, coarse=8, fine=32, ell=1)
        >>> solution = solve(grid, np.ones((32, 32)), method="lod")
        >>> solution.u.shape
        (9, 9)
        >>> aquifer = Grid(2, coarse=(8, 4), fine=(32, 16), ell=2, lengths=(2, 1), dirichlet=("xmin", "xmax"))
        >>> head = solve(aquifer, np.ones((16, 32)), f=0, g={"xmin": 10, "xmax": 8}, reconstruct=True).u_fine
        >>> head[5, ::8].round(6).tolist()
        [10.0, 9.5, 9.0, 8.5, 8.0]
    """
    solver = make_solver(method, grid, Problem(f, wells, g, flux), **options)
    try:
        return solver.solve_many([check_coefficient(grid, A)])[0]
    finally:
        solver.destroy()
