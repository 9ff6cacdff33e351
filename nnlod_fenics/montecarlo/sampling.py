"""One block of samples: fields drawn, solved by each model, reduced to moments of all quantities."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from nnlod_fenics.errors import NumericalError
from nnlod_fenics.fields import FieldLaw
from nnlod_fenics.grid import Grid
from nnlod_fenics.lod.coarse import CoarseSolver, load_vector
from nnlod_fenics.lod.local import local_matrices
from nnlod_fenics.montecarlo.estimators import Moments
from nnlod_fenics.montecarlo.functionals import Functional, Outflow, fine_outflow
from nnlod_fenics.source import Source
from nnlod_fenics.surrogate import NNLOD

__all__ = ["BATCH", "STAGES", "BlockResult", "Sampler"]

Array = npt.NDArray[np.float64]

# Streams of the fields, apart from training data (0), evaluation (1) and fresh training data (2).
STAGES = {"samples": 3, "pilot": 4, "low": 5}
BATCH = 8  # fields that a network treats at a time; always the same, since the bits can depend on it
_TOGETHER = {"fem": 1, "lod": 1, "nn": BATCH}  # fields treated at a time


@dataclass(frozen=True)
class BlockResult:
    """What a block of samples comes to.

    Attributes:
        moments: Of all quantities, for each model.
        seconds: Time of each model, that of drawing the fields included in the last one's.
    """

    moments: Moments
    seconds: Array


class Sampler:
    """Draws samples of fields and computes quantities: coarse nodal values, then functionals.

    Args:
        grid: The discretisation.
        law: Law of the fields.
        f: Source.
        functionals: Functionals by name.
        model: The surrogate, for ``"nn"``.

    Note:
        Solvers are made when they are first used and kept; call :meth:`destroy` in the end.
    """

    def __init__(
        self, grid: Grid, law: FieldLaw, f: Source, functionals: Mapping[str, Functional], model: NNLOD | None
    ) -> None:
        self.grid, self.law, self.f, self.model = grid, law, f, model
        self.names, self._functionals = list(functionals), list(functionals.values())
        self._warm: set[str] = set()
        self._coarse: CoarseSolver | None = None
        self._fine: Callable[[Array], Array] | None = None
        self._destroy: list[Callable[[], None]] = []

    @property
    def quantities(self) -> int:
        """Number of quantities of a sample."""
        return self.grid.num_nodes + len(self.names)

    def block(
        self, kind: str, methods: tuple[str, ...], seed: int, members: range, check: Callable[[], None]
    ) -> BlockResult:
        """Compute some samples.

        Before a method is used for the first time it computes one sample that is thrown away, so that times do not
        hold what is done once: the assembly of solvers, a network's first call.

        Args:
            kind: Which stream, a key of :data:`STAGES`.
            methods: Methods to apply to each field.
            seed: Seed of the run.
            members: Numbers of the samples: sample k depends on the seed, the stream and k only.
            check: Called again and again in between; may raise to break off.

        Returns:
            Moments and times.

        Raises:
            NumericalError: If a sample is not finite; the message names it.
        """
        if new := [method for method in methods if method not in self._warm]:
            Z = self._draw(kind, seed, members[:1])
            for method in new:
                self._apply(method, np.repeat(Z, _TOGETHER[method], axis=0), check)
            self._warm.update(new)
        start = time.perf_counter()
        Z = self._draw(kind, seed, members)
        drawing = time.perf_counter() - start
        values, seconds = [], []
        for method in methods:
            start = time.perf_counter()
            values.append(self._apply(method, Z, check))
            seconds.append(time.perf_counter() - start)
        check()
        stacked = np.stack(values, axis=1)
        bad = np.flatnonzero(~np.isfinite(stacked).all(axis=(1, 2)))
        if bad.size:
            raise NumericalError(f"sample {members[int(bad[0])]} of stream {kind!r} (seed {seed}) is not finite.")
        seconds[-1] += drawing
        return BlockResult(Moments.of(stacked), np.array(seconds))

    def destroy(self) -> None:
        """Free the solvers."""
        while self._destroy:
            self._destroy.pop()()
        self._coarse = self._fine = None

    def _draw(self, kind: str, seed: int, members: range) -> Array:
        return np.stack([self.law.sample(seed, k, stage=STAGES[kind]).Z for k in members])

    def _apply(self, method: str, Z: Array, check: Callable[[], None]) -> Array:
        """Quantities of some fields by a method, shape ``(n, q)``."""
        model, size = getattr(self, f"_{method}"), _TOGETHER[method]
        quantities: list[Array] = []
        for k in range(0, len(Z), size):
            check()
            quantities += model(Z[k : k + size])
        return np.stack(quantities)

    # -- the models: some fields -> the quantities of each -----------------------------------------------

    def _lod(self, Z: Array) -> list[Array]:
        return [self._on_coarse(local_matrices(self.grid, np.exp(field))) for field in Z]

    def _nn(self, Z: Array) -> list[Array]:
        assert self.model is not None
        return [self._on_coarse(S) for S in self.model.predict(torch.from_numpy(Z)).cpu().numpy()]

    def _fem(self, Z: Array) -> list[Array]:
        solve = self._fine or self._fine_solver()
        return [self._on_fine(np.exp(field), solve(np.exp(field))) for field in Z]

    def _on_coarse(self, S: Array) -> Array:
        if self._coarse is None:
            self._coarse = CoarseSolver(self.grid, self.f)
            self._destroy.append(self._coarse.destroy)
            self._weights = self._all_weights(self.grid.coarse)
        u = self._coarse.solve(S)
        flux = self._coarse.flux(S, u).ravel() if self._has_outflow else u.ravel()
        return np.concatenate([u.ravel(), [self._pick(f, flux, u) @ w for f, w in self._weights]])

    def _on_fine(self, A: Array, u: Array) -> Array:
        coefficient = self.grid.refine(A)
        values = [
            fine_outflow(f, u, coefficient, self._fine_load) if isinstance(f, Outflow) else float(u.ravel() @ w)
            for f, w in self._fine_weights
        ]
        restricted = u[(slice(None, None, self.grid.ratio),) * self.grid.dim]
        return np.concatenate([restricted.ravel(), values])

    def _fine_solver(self) -> Callable[[Array], Array]:
        from mpi4py import MPI

        from nnlod_fenics.fem import FineSolver

        solver = FineSolver(self.grid, MPI.COMM_SELF)
        self._destroy.append(solver.destroy)
        self._fine = lambda A: solver.solve(A, self.f).values()
        self._fine_weights = self._all_weights(self.grid.fine)
        if self._has_outflow:
            self._fine_load = load_vector(Grid(self.grid.dim, self.grid.fine, self.grid.fine, 0), self.f)
        return self._fine

    def _all_weights(self, cells: int) -> list[tuple[Functional, Array]]:
        return [(f, f.weights(self.grid.dim, cells)) for f in self._functionals]

    @property
    def _has_outflow(self) -> bool:
        return any(isinstance(f, Outflow) for f in self._functionals)

    @staticmethod
    def _pick(functional: Functional, flux: Array, u: Array) -> Array:
        return flux if isinstance(functional, Outflow) else u.ravel()
