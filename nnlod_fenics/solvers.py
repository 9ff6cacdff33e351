"""The table of solution methods: a discretisation and a problem in, a solver of many coefficients out.

``fem``, ``lod`` and ``nn`` are here; :func:`register_method` adds others. Evaluation, Monte Carlo and the command line
know methods by this table only.
"""

from __future__ import annotations

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

from nnlod_fenics.coefficient import check_coefficient
from nnlod_fenics.errors import InputError
from nnlod_fenics.functionals import face_outflow, face_weights
from nnlod_fenics.grid import Grid
from nnlod_fenics.lod.coarse import CoarseSolver, coarse_operator, coarse_residual, load_vector
from nnlod_fenics.lod.local import local_matrices
from nnlod_fenics.problem import Problem, Source
from nnlod_fenics.runtime.optional import needed_for

__all__ = ["NAMES", "Solution", "Solver", "make_solver", "methods", "register_method", "solve"]

Array = npt.NDArray[np.float64]

NAMES = {"fem": "FEM", "lod": "PG-LOD", "nn": "NN-LOD"}  # as figures and reports call them
"""Names of the methods as figures and reports call them."""


@dataclass
class Solution:
    """A solution and how it came about.

    Attributes:
        grid: The discretisation.
        method: The method.
        A: The coefficient on T_ε.
        u: Nodal values, ``(1/h + 1,)*d`` for ``fem``, ``(1/H + 1,)*d`` otherwise.
        S: Local matrices, for ``lod`` and ``nn``.
        seconds: Time of each step.
    """

    grid: Grid
    method: str
    A: Array
    u: Array
    S: Array | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    make_load: Callable[[], Array] = field(default=lambda: np.zeros(0), repr=False, compare=False)

    @property
    def coarse(self) -> Array:
        """Values at the nodes of T_H, shape ``(1/H + 1,)*d``."""
        step = (self.u.shape[0] - 1) // self.grid.coarse
        return self.u[(slice(None, None, step),) * self.grid.dim]

    @property
    def K(self) -> scipy.sparse.csr_array:
        """The coarse operator (3.5), sparse.

        Raises:
            InputError: If the method has none.
        """
        if self.S is None:
            raise InputError(f"a solution by method {self.method!r} has no coarse operator.")
        return coarse_operator(self.grid, self.S)

    @cached_property
    def load(self) -> Array:
        """(f, Λ_i) for the hat functions of the mesh of ``u``, shape as ``u``."""
        return self.make_load()

    def outflow(self, face: str) -> float:
        """−∫_Γ A ∂u/∂n ds through a face, see :class:`nnlod_fenics.functionals.Outflow`.

        Args:
            face: ``"x=0"``, ``"x=1"``, ``"y=0"``, …

        Returns:
            The consistent flux, positive where it leaves D.
        """
        if self.S is None:
            if self.A.ndim > self.grid.dim:
                raise InputError(f"outflow by method {self.method!r} takes scalar coefficients, got matrices.")
            return face_outflow(face, self.u, self.grid.refine(self.A), self.load)
        return float(self._residual.ravel() @ face_weights(face, self.grid.dim, self.grid.coarse))

    @cached_property
    def _residual(self) -> Array:
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
            u = self._solver.solve(A, self._problem.f).values()
        return Solution(self._grid, "fem", A, u, seconds=seconds, make_load=lambda: self._load)

    @cached_property
    def _load(self) -> Array:
        grid = self._grid
        return load_vector(Grid(grid.dim, grid.fine, grid.fine, 0), self._problem.f)

    def destroy(self) -> None:
        self._solver.destroy()


class _Coarse:
    """Local matrices from somewhere, the coarse operator of them, and its solution."""

    method: str
    together: int

    def __init__(self, grid: Grid, problem: Problem) -> None:
        self._grid, self._coarse = grid, CoarseSolver(grid, problem.f)

    def _local_matrices(self, A: Sequence[Array] | Array) -> Sequence[Array] | Array:
        raise NotImplementedError

    def solve_many(self, A: Sequence[Array] | Array) -> list[Solution]:
        start = time.perf_counter()
        matrices = self._local_matrices(A)
        each = (time.perf_counter() - start) / len(A)
        return [self._solve(a, S, each) for a, S in zip(A, matrices, strict=True)]

    def _solve(self, A: Array, S: Array, seconds_before: float) -> Solution:
        seconds = {"local matrices": seconds_before}
        with _timed(seconds, "assembly"):
            K = coarse_operator(self._grid, S)
        with _timed(seconds, "solve"):
            u = self._coarse.solve(K)
        return Solution(self._grid, self.method, A, u, S, seconds, lambda: self._coarse.load)

    def destroy(self) -> None:
        pass


class _Lod(_Coarse):
    """PG-LOD: exact local matrices."""

    method, together = "lod", 1

    def __init__(self, grid: Grid, problem: Problem, local: str = "condensed") -> None:
        super().__init__(grid, problem)
        self._local = local

    def _local_matrices(self, A: Sequence[Array] | Array) -> Sequence[Array] | Array:
        return [local_matrices(self._grid, a, self._local) for a in A]


class _NnLod(_Coarse):
    """NN-LOD: local matrices by a network."""

    method, together = "nn", 8

    def __init__(
        self, grid: Grid, problem: Problem, model: Any = None, trust: float | None = None, device: str | None = None
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
        super().__init__(grid, problem)
        self.model, self._trust = model, trust

    def _local_matrices(self, A: Sequence[Array] | Array) -> Sequence[Array] | Array:
        if self._trust is not None:
            return [self.model.local_matrices(self._grid, a, self._trust) for a in A]
        return self.model.predict(self._grid, np.stack(list(A))).cpu().numpy()


_FACTORIES: dict[str, Factory] = {"fem": _Fem, "lod": _Lod, "nn": _NnLod}
_OPTIONS = {"fem": (), "lod": ("local",), "nn": ("model", "trust", "device")}


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
        **options: ``local`` for ``lod`` (``"condensed"`` or ``"dolfinx"``); ``model``, ``trust`` and ``device`` for
            ``nn``. Those that are None count as not given.

    Returns:
        The solver.

    Raises:
        InputError: If there is no such method, or an option does not apply to it.
        MissingDependencyError: If the method needs something that is not installed.
    """
    if method not in _FACTORIES:
        raise InputError(f"method must be one of {methods()}, got {method!r}.")
    given = {name: value for name, value in options.items() if value is not None}
    for name in given:
        if name not in _OPTIONS[method]:
            raise InputError(
                f"{name} does not apply to method {method!r}, whose options are {list(_OPTIONS[method])}; got {name}="
                f"{given[name]!r}."
            )
    return _FACTORIES[method](grid, problem or Problem(), **given)


def solve(grid: Grid, A: npt.ArrayLike, method: str = "lod", f: Source = 1.0, **options: Any) -> Solution:
    """Solve −∇·(A∇u) = f, u = 0 on ∂D, for one coefficient.

    Args:
        grid: The discretisation.
        A: Coefficient on T_ε, shape ``grid.coefficient_shape``, or ``grid.coefficient_shape + (d, d)`` for symmetric
            matrices.
        method: ``"fem"`` on T_h, ``"lod"`` (PG-LOD) or ``"nn"`` (NN-LOD) on T_H, or a registered one.
        f: Source: a number, a function of points, or cell values on T_h.
        **options: See :func:`make_solver`; ``model`` for ``"nn"``.

    Returns:
        The solution.

    Raises:
        InputError: If an argument does not fit.

    Note:
        Each process solves for itself. Under ``mpirun``, ``"fem"`` on some processes only waits for the others for ever
        unless all have imported :mod:`nnlod_fenics.fem` before: that starts PETSc, which is collective.

    Example:
        >>> grid = Grid(dim=2, coarse=8, fine=32, ell=1)
        >>> solution = solve(grid, np.ones((32, 32)), method="lod")
        >>> solution.u.shape
        (9, 9)
    """
    solver = make_solver(method, grid, Problem(f), **options)
    try:
        return solver.solve_many([check_coefficient(grid, A)])[0]
    finally:
        solver.destroy()
