"""One block of samples: fields drawn, solved by each model, reduced to moments of all quantities."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nnlod_fenics.errors import InputError, NumericalError
from nnlod_fenics.fields import FieldLaw
from nnlod_fenics.functionals import Functional
from nnlod_fenics.grid import Grid
from nnlod_fenics.montecarlo.estimators import Moments
from nnlod_fenics.problem import Problem
from nnlod_fenics.runtime.streams import Stream
from nnlod_fenics.solvers import Solution, Solver

__all__ = ["BATCH", "STAGES", "BlockResult", "Sampler"]

Array = npt.NDArray[np.float64]

STAGES = {"samples": Stream.SAMPLES, "pilot": Stream.PILOT, "low": Stream.LOW}
"""The random streams of the kinds of samples; all ``low…`` share one, far from each other."""
_APART = 40  # bits of the number of a sample
BATCH = 8  # samples of a block of the pilot run
"""Samples of a block of the pilot run."""


@dataclass(frozen=True)
class BlockResult:
    """What a block of samples comes to.

    Attributes:
        moments: Of all quantities, for each model.
        seconds: Time of each model, then that of drawing the fields.
        warned: Samples of the first model that are not to be trusted by their
            :class:`~nnlod_fenics.lod.reliability.Reliability`; None where that is not known.
    """

    moments: Moments
    seconds: Array
    warned: int | None = None

    def select(self, models: Sequence[int]) -> BlockResult:
        """What the block would be with some of its models alone."""
        seconds = np.append(self.seconds[list(models)], self.seconds[-1])
        return BlockResult(self.moments.select(models), seconds, self.warned if 0 in models else None)


class Sampler:
    """Draws samples of fields and computes quantities: values at the coarse nodes of D, then functionals.

    Args:
        grid: The discretisation.
        law: Law of the fields.
        problem: What is solved for each of them.
        functionals: Functionals by name.
        makers: What makes the solver of each model.

    Note:
        Solvers are made when they are first used and kept; call :meth:`destroy` in the end.
    """

    def __init__(
        self,
        grid: Grid,
        law: FieldLaw,
        problem: Problem,
        functionals: Mapping[str, Functional],
        makers: Mapping[str, Callable[[], Solver]],
    ) -> None:
        self.grid, self.law, self.problem = grid, law, problem
        self.names, self._functionals, self._makers = list(functionals), list(functionals.values()), makers
        self._solvers: dict[str, Solver] = {}

    @property
    def quantities(self) -> int:
        """Number of quantities of a sample."""
        return int(np.count_nonzero(self.grid.active_nodes)) + len(self.names)

    def block(
        self, kind: str, models: Sequence[str], seed: int, members: range, check: Callable[[], None]
    ) -> BlockResult:
        """Compute some samples.

        Before a model is used for the first time it computes one sample that is thrown away, so that times do not
        hold what is done once: the assembly of solvers, a network's first call.

        Args:
            kind: Which stream, a key of :data:`STAGES`.
            models: Models to apply to each field.
            seed: Seed of the run.
            members: Numbers of the samples: sample k depends on the seed, the stream and k only.
            check: Called again and again in between; may raise to break off.

        Returns:
            Moments and times.

        Raises:
            NumericalError: If a sample is not finite; the message names it.
        """
        for model in models:
            if model not in self._solvers:
                solver = self._solvers[model] = self._makers[model]()
                A = self._draw(kind, seed, members[:1])
                self._apply(model, np.repeat(A, solver.together, axis=0), check)
        start = time.perf_counter()
        A = self._draw(kind, seed, members)
        drawing = time.perf_counter() - start
        values, seconds = [], []
        doubts: list[bool] | None = [] if kind == "samples" else None  # what is averaged counts, not what corrects it
        for model in models:
            start = time.perf_counter()
            values.append(self._apply(model, A, check, doubts if model == models[0] else None))
            seconds.append(time.perf_counter() - start)
        check()
        stacked = np.stack(values, axis=1)
        bad = np.flatnonzero(~np.isfinite(stacked).all(axis=(1, 2)))
        if bad.size:
            raise NumericalError(f"sample {members[int(bad[0])]} of stream {kind!r} (seed {seed}) is not finite.")
        return BlockResult(Moments.of(stacked), np.array([*seconds, drawing]), sum(doubts) if doubts else None)

    def destroy(self) -> None:
        """Free the solvers."""
        while self._solvers:
            self._solvers.popitem()[1].destroy()

    def _draw(self, kind: str, seed: int, members: range) -> Array:
        stage, offset = STAGES["low" if kind.startswith("low") else kind], 0
        if stage == Stream.LOW:
            offset = (int(kind.removeprefix("low") or 1) - 1) << _APART
        drawn = [self.law.sample(seed, offset + k, stage=stage).A for k in members]
        for k, A in zip(members, drawn, strict=True):
            if not np.isfinite(A).all():
                raise NumericalError(f"the field of sample {k} of stream {kind!r} (seed {seed}) is not finite.")
        return np.stack(drawn)

    def _apply(self, model: str, A: Array, check: Callable[[], None], doubts: list[bool] | None = None) -> Array:
        """Quantities of some coefficients by a model, shape ``(n, q)``; notes which samples are not to be trusted."""
        solver, quantities = self._solvers[model], []
        for k in range(0, len(A), solver.together):
            check()
            for solution in solver.solve_many(A[k : k + solver.together]):
                quantities.append(self._quantities(solution))
                if doubts is not None and solution.S is not None:
                    doubts.append(not solution.reliability.trusted)
        return np.stack(quantities)

    def _quantities(self, solution: Solution) -> Array:
        values = []
        for name, functional in zip(self.names, self._functionals, strict=True):
            value = functional(solution)
            if np.ndim(value) != 0 or np.asarray(value).dtype.kind not in "fiu":
                raise InputError(f"functional {name!r} must return a number, got {value!r:.60}.")
            values.append(float(value))
        return np.concatenate([solution.coarse[self.grid.active_nodes], values])
