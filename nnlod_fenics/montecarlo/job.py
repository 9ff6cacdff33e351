"""The rounds of a Monte Carlo run: blocks handed out to all ranks, until the estimate is good enough."""

from __future__ import annotations

import math
import time
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from nnlod_fenics.config.montecarlo import MonteCarloSettings, read_model
from nnlod_fenics.errors import InputError
from nnlod_fenics.grid import Grid
from nnlod_fenics.montecarlo.allocation import LEAST_PAIRS, Costs, Plan, kind_of, make_plan, models_of
from nnlod_fenics.montecarlo.estimate import Progress, make_estimate, on_nodes
from nnlod_fenics.montecarlo.estimators import Moments
from nnlod_fenics.montecarlo.goal import Goal
from nnlod_fenics.montecarlo.sampling import BATCH, BlockResult, Sampler
from nnlod_fenics.montecarlo.store import Store
from nnlod_fenics.norms import l2_norm
from nnlod_fenics.runtime.job import STOPPED, Interrupted, StopSignal, is_first, on_first, run_blocks
from nnlod_fenics.runtime.progress import show_progress
from nnlod_fenics.runtime.schedule import Schedule
from nnlod_fenics.statistics import half_width

__all__ = ["Job", "check_blocks"]

_TIME = "time"  # reason to halt
_MOST_BLOCKS = 1_000_000
_PILOT = 0.5  # share of the time that a pilot run may take

Key = tuple[str, int]


def check_blocks(settings: MonteCarloSettings, counts: dict[str, int]) -> None:
    """Check that the results of so many samples of each kind can be kept.

    Raises:
        InputError: If not.
    """
    sizes = _sizes(settings)
    if sum(-(-count // sizes[kind]) for kind, count in counts.items()) > _MOST_BLOCKS:
        each = ", ".join(f"{count} of {kind!r}" for kind, count in counts.items())
        raise InputError(f"samples must fit in {_MOST_BLOCKS} blocks, whose results are kept in memory, got {each}.")


def _sizes(settings: MonteCarloSettings) -> dict[str, int]:
    """Samples of a block of each kind: about a second's work, so that files and messages do not count."""
    names = settings.solved
    cheap = [read_model(name)[0] == "averaged" for name in names]
    sizes = {"samples": 4 if names != ("nn",) else 4 * BATCH, "pilot": BATCH}
    for count in range(1, len(names)):
        for group in combinations(range(1, len(names)), count):
            sizes[kind_of(group)] = (32 if all(cheap[i] for i in group) else 4) * BATCH
    return sizes


def _count_warnings(blocks: list[BlockResult]) -> tuple[int, int] | None:
    """Samples that are not to be trusted, and of how many that is known."""
    known = [block for block in blocks if block.warned is not None]
    if not known:
        return None
    return sum(block.warned or 0 for block in known), sum(block.moments.count for block in known)


class Job:
    """A run on one rank; rank 0 has the results and decides."""

    def __init__(
        self, grid: Grid, settings: MonteCarloSettings, sampler: Sampler, store: Store | None, comm: Any
    ) -> None:
        self._grid, self._settings, self._sampler, self._store, self._comm = grid, settings, sampler, store, comm
        self._results: dict[Key, BlockResult] = {}
        self._arrived: dict[str, Moments] = {}  # merged as they come, for the progress only
        self._plan: Plan | None = None
        self._start = time.monotonic()
        self._sizes = _sizes(settings)

    def run(self) -> str:
        """Do rounds until it is enough; why it was."""
        settings, seconds = self._settings, self._settings.seconds
        if settings.method == "multifidelity":
            self._compute("pilot", {"pilot": settings.pilot}, None if seconds is None else _PILOT * seconds)
            self._plan = on_first(self._comm, self._make_plan)
        goal = Goal(settings, self._plan, self._sizes)
        while True:
            following = on_first(self._comm, lambda: goal.next(self._width))
            if isinstance(following, str):
                return following
            if self._compute("samples", following, seconds) == _TIME:
                return _TIME

    def progress(self) -> Progress:
        """The results so far, merged in the order of their numbers."""
        by_kind: dict[str, list[BlockResult]] = {}
        for (kind, _), result in sorted(self._results.items()):
            by_kind.setdefault(kind, []).append(result)
        return Progress(
            {kind: Moments.merged(r.moments for r in results) for kind, results in by_kind.items()},
            {kind: np.sum([r.seconds for r in results], axis=0) for kind, results in by_kind.items()},
            self._plan,
            _count_warnings(by_kind.get("samples", [])),
        )

    # -- rank 0 --------------------------------------------------------------------------------------------

    def _make_plan(self) -> Plan:
        """The allocation: always made anew, since it follows from the blocks of the pilot run and the settings."""
        settings, names = self._settings, self._sampler.names
        pilot = self.progress().moments["pilot"]
        costs = self._costs()
        spent = pilot.count * costs.of(range(len(settings.solved))) / costs.of((0,))
        nodes = slice(0, self._sampler.quantities - len(names))
        at = None if settings.target is None else nodes.stop + names.index(settings.target)
        aim = nodes if at is None else slice(at, at + 1)
        budget = math.inf if settings.samples is None else settings.samples - spent
        return make_plan(pilot, aim, costs, budget, self._tolerated(pilot.covariance[0, 0][aim]))

    def _tolerated(self, variance: npt.NDArray[np.float64]) -> float:
        """Sum of the squared errors of what is aimed at for which the width is the tolerance, by the pilot's variances.

        In the L²(D) norm as if the errors of all nodes fell alike; in an interval with the quantile of
        :data:`LEAST_PAIRS` samples, the fewest there are.
        """
        tolerance, target = self._settings.tolerance, self._settings.target
        if tolerance is None or not variance.any():
            return 0.0
        if target is not None:
            error = tolerance / float(half_width(1.0, LEAST_PAIRS - 1, self._settings.level))
            return error * error  # infinite where a power would overflow
        share = tolerance / l2_norm(on_nodes(self._grid, np.sqrt(variance)), self._grid)
        return float(variance.sum()) * share * share

    def _costs(self) -> Costs:
        """Costs of a sample of each model; where they are given, in samples of the reference."""
        ratio = self._settings.cost_ratio
        if ratio is not None:
            return Costs((1.0, *(1 / each for each in (ratio if isinstance(ratio, list) else [ratio]))))
        blocks = [result for (kind, _), result in sorted(self._results.items()) if kind == "pilot"]
        *models, drawing = np.median([block.seconds / block.moments.count for block in blocks], axis=0).tolist()
        return Costs(tuple(models), drawing)

    def _width(self) -> float:
        return make_estimate(self.progress(), self._grid, self._settings, self._sampler.names, "").width

    def _missing(self, counts: dict[str, int]) -> list[Key]:
        """Blocks to compute: the first of each kind, then all kinds in step, so that any part of them is balanced."""
        todo: list[tuple[float, Key]] = []
        check_blocks(self._settings, counts)
        for kind, count in counts.items():
            blocks = -(-count // self._sizes[kind])
            for number in range(blocks):
                key = (kind, number)
                if not self._has(key, len(self._members(key, counts))):
                    todo.append(((number + 0.5) / blocks if number else 0.0, key))
        return [key for _, key in sorted(todo)]

    def _has(self, key: Key, count: int) -> bool:
        """Whether a block of some samples is there, in memory or in the folder."""
        there = self._results.get(key)
        if there is not None and there.moments.count == count:
            return True
        loaded = None
        if self._store is not None:
            loaded = self._store.load_block(*key, count, self._models(key[0]), self._sampler.quantities)
        if loaded is not None:
            self._receive((key, loaded))
        return loaded is not None

    def _receive(self, item: tuple[Key, BlockResult]) -> None:
        key, result = item
        self._results[key] = result
        kind = key[0]
        there = self._arrived.get(kind)
        self._arrived[kind] = result.moments if there is None else there.merge(result.moments)

    def _note(self) -> str:
        """The current width, for the progress."""
        progress = Progress(self._arrived, {}, self._plan)
        if not progress.complete:
            return ""
        estimate = make_estimate(progress, self._grid, self._settings, self._sampler.names, "")
        return f"± {estimate.width:.2e}"

    # -- every rank ----------------------------------------------------------------------------------------

    def _members(self, key: Key, counts: dict[str, int]) -> range:
        kind, number = key
        return range(number * self._sizes[kind], min((number + 1) * self._sizes[kind], counts[kind]))

    def _models(self, kind: str) -> tuple[int, ...]:
        """Numbers of the models of a stream: all in the pilot run, then those that the plan has chosen."""
        if kind.startswith("low"):
            return models_of(kind)
        all_models = tuple(range(len(self._settings.solved)))
        return all_models if self._plan is None or kind == "pilot" else self._plan.groups[0]

    def _compute(self, title: str, counts: dict[str, int], seconds: float | None) -> str | None:
        """Compute blocks together; whether time was up."""
        keys: list[Key] = on_first(self._comm, lambda: self._missing(counts))
        if not keys:
            return None
        total = sum(len(self._members(key, counts)) for key in keys)

        def work(schedule: Schedule, stop: StopSignal) -> None:
            self._take(schedule, stop, keys, counts, seconds)

        with show_progress(title, total, is_first(self._comm)) as show:
            reason = run_blocks(
                self._comm, range(len(keys)), work, lambda done: show(done, self._note()), self._receive
            )
        if reason == STOPPED:
            raise Interrupted("stopped before the end; run again with --resume to go on.")
        if reason not in (None, _TIME):
            raise InputError(reason)
        return reason

    def _take(
        self, schedule: Schedule, stop: StopSignal, keys: list[Key], counts: dict[str, int], seconds: float | None
    ) -> None:
        deadline = math.inf if seconds is None else self._start + seconds
        for index in schedule:
            key = kind, number = keys[index]
            if number and time.monotonic() > deadline:  # without the first blocks there would be no estimate
                return schedule.halt(_TIME)
            members = self._members(key, counts)
            try:
                names = [self._settings.solved[model] for model in self._models(kind)]
                result = self._sampler.block(kind, names, self._settings.seed, members, stop.check)
            except Interrupted:
                return schedule.halt(STOPPED)
            if self._store is not None:
                try:
                    self._store.save_block(kind, number, result, self._models(kind))
                except InputError as error:
                    return schedule.halt(str(error))
            schedule.finished(len(members), (key, result))
