"""The rounds of a Monte Carlo run: blocks handed out to all ranks, until the estimate is good enough."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np

from nnlod_fenics.dataset.job import STOPPED, Interrupted, StopSignal, is_first, run_blocks
from nnlod_fenics.dataset.schedule import Schedule
from nnlod_fenics.errors import InputError
from nnlod_fenics.grid import Grid
from nnlod_fenics.montecarlo.allocation import LEAST_PAIRS, Plan, make_plan
from nnlod_fenics.montecarlo.estimate import Progress, make_estimate
from nnlod_fenics.montecarlo.estimators import Moments
from nnlod_fenics.montecarlo.sampling import BATCH, BlockResult, Sampler
from nnlod_fenics.montecarlo.settings import MonteCarloSettings
from nnlod_fenics.montecarlo.store import Store
from nnlod_fenics.progress import show_progress

__all__ = ["Job", "shared"]

_TIME = "time"  # reason to halt
_FIRST = 32  # plain samples before the error is looked at

Key = tuple[str, int]


def shared(comm: Any, value: Any) -> Any:
    """The value of rank 0, on every rank."""
    return value if comm is None else comm.bcast(value)


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
        slow = settings.models != ("nn",)
        self._size = {"samples": 4 if slow else 4 * BATCH, "pilot": BATCH, "low": 4 * BATCH}

    def run(self) -> str:
        """Do rounds until it is enough; why it was."""
        if self._settings.method == "multifidelity":
            self._compute("pilot", {"pilot": self._settings.pilot}, timed=False)
            self._plan = shared(self._comm, self._make_plan() if is_first(self._comm) else None)
        done = 0
        while True:
            target = shared(self._comm, self._next_target(done) if is_first(self._comm) else None)
            if isinstance(target, str):
                return target
            counts = {"samples": target}
            if self._plan is not None and self._plan.multifidelity:
                counts["low"] = self._low_samples(self._plan, target)
            if self._compute("samples", counts, timed=done > 0) == _TIME:
                return _TIME
            done = target

    def progress(self) -> Progress:
        """The results so far, merged in the order of their numbers."""
        merged = {
            kind: Moments.merged(self._results[key].moments for key in sorted(self._results) if key[0] == kind)
            for kind in {key[0] for key in self._results}
        }
        seconds = {
            kind: sum((r.seconds for key, r in sorted(self._results.items()) if key[0] == kind), np.zeros(1))
            for kind in merged
        }
        return Progress(merged, seconds, self._plan)

    # -- decisions of rank 0 -----------------------------------------------------------------------------

    def _make_plan(self) -> Plan:
        plan = None if self._store is None else self._store.load_plan()
        if plan is not None:
            return plan
        blocks = [r for key, r in sorted(self._results.items()) if key[0] == "pilot"]
        ratio = self._settings.cost_ratio
        costs = np.median([block.seconds / block.moments.count for block in blocks], axis=0)
        high, low = (float(c) for c in costs) if ratio is None else (ratio, 1.0)
        plan = make_plan(self.progress().moments["pilot"], self._grid.num_nodes, high, low, self._budget(high, low))
        if self._store is not None:
            self._store.save_plan(plan)
        return plan

    def _most(self) -> float:
        """Largest number of samples (or pairs) that the settings allow."""
        given, plan = self._settings.samples, self._plan
        if given is None:
            return math.inf
        if plan is None:
            return given
        return plan.pairs_for(self._budget(plan.cost_high, plan.cost_low))

    def _budget(self, high: float, low: float) -> float:
        """What is left after the pilot run, in samples of the reference method."""
        given = self._settings.samples
        return math.inf if given is None else given - self._settings.pilot * (1 + low / high)

    def _low_samples(self, plan: Plan, pairs: int) -> int:
        """Samples of the network alone; whole blocks where another round may follow."""
        count, size = plan.low_samples(pairs), self._size["low"]
        alone = self._settings.tolerance is None and self._settings.seconds is None
        return count if alone else -(-count // size) * size

    def _next_target(self, done: int) -> int | str:
        """How many samples there are to be after the next round; or why there is none."""
        settings, most, first = self._settings, self._most(), LEAST_PAIRS if self._plan is not None else _FIRST
        if done >= most:
            return "samples"
        if settings.tolerance is None and settings.seconds is None:
            return int(most)
        if done == 0:
            return int(min(first, most))
        wanted: float = 2 * done
        if settings.tolerance is not None:
            width = make_estimate(self.progress(), self._grid, settings, self._sampler.names, "").width
            if width <= settings.tolerance:
                return "tolerance"
            wanted = min(1.1 * done * (width / settings.tolerance) ** 2, 4 * done)
        size = self._size["samples"]
        return int(min(max(math.ceil(wanted / size) * size, done + size), most))

    # -- work ----------------------------------------------------------------------------------------------

    def _members(self, key: Key, counts: dict[str, int]) -> range:
        kind, number = key
        return range(number * self._size[kind], min((number + 1) * self._size[kind], counts[kind]))

    def _missing(self, counts: dict[str, int]) -> list[Key]:
        """Blocks to compute, all kinds in step, so that any part of them makes a sensible estimate."""
        todo: list[tuple[float, Key]] = []
        for kind, count in counts.items():
            blocks = -(-count // self._size[kind])
            for number in range(blocks):
                key = (kind, number)
                length = len(self._members(key, counts))
                there = self._results.get(key)
                if there is None or there.moments.count != length:
                    loaded = None if self._store is None else self._store.load_block(kind, number, length)
                    if loaded is None:
                        todo.append(((number + 0.5) / blocks, key))
                    else:
                        self._receive((key, loaded))
        return [key for _, key in sorted(todo)]

    def _receive(self, item: tuple[Key, BlockResult]) -> None:
        key, result = item
        self._results[key] = result
        kind = key[0]
        there = self._arrived.get(kind)
        self._arrived[kind] = result.moments if there is None else there.merge(result.moments)

    def _compute(self, title: str, counts: dict[str, int], timed: bool) -> str | None:
        """Compute blocks together; whether time was up."""
        keys: list[Key] = shared(self._comm, self._missing(counts) if is_first(self._comm) else None)
        total = sum(len(self._members(key, counts)) for key in keys)
        if not keys:
            return None

        def work(schedule: Schedule, stop: StopSignal) -> None:
            self._take(schedule, stop, keys, counts, timed)

        with show_progress(title, total, is_first(self._comm)) as show:
            reason = run_blocks(
                self._comm, range(len(keys)), work, lambda done: show(done, self._note()), self._receive
            )
        if reason == STOPPED:
            raise Interrupted("stopped before the end; run again with --resume to go on.")
        if reason not in (None, _TIME):
            raise InputError(reason)
        return reason

    def _take(self, schedule: Schedule, stop: StopSignal, keys: list[Key], counts: dict[str, int], timed: bool) -> None:
        settings = self._settings
        for index in schedule:
            kind, number = keys[index]
            if timed and settings.seconds is not None and time.monotonic() - self._start > settings.seconds:
                return schedule.halt(_TIME)
            members = self._members(keys[index], counts)
            try:
                stop.check()
                result = self._sampler.block(kind, ("nn",) if kind == "low" else self._methods, settings.seed, members)
                stop.check()
            except Interrupted:
                return schedule.halt(STOPPED)
            if self._store is not None:
                try:
                    self._store.save_block(kind, number, result)
                except (OSError, InputError) as error:
                    detail = error.strerror if isinstance(error, OSError) else str(error).rstrip(".")
                    return schedule.halt(
                        f"output {str(self._store.folder)!r} could not be written ({detail}); what is finished is "
                        f"kept, make room and run again with --resume."
                    )
            schedule.finished(len(members), (keys[index], result))

    @property
    def _methods(self) -> tuple[str, ...]:
        """Models of the reference samples; the network is left out where it does not pay."""
        models = self._settings.models
        return models[:1] if self._plan is not None and not self._plan.multifidelity else models

    def _note(self) -> str:
        """The current width, for the progress."""
        progress = Progress(self._arrived, {}, self._plan)
        if not progress.complete:
            return ""
        estimate = make_estimate(progress, self._grid, self._settings, self._sampler.names, "")
        return f"± {estimate.width:.2e}"
