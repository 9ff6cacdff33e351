"""Monte Carlo runs: rounds of blocks, handed out to all ranks, until the estimate is good enough."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from nnlod_fenics.config import Config
from nnlod_fenics.dataset.job import STOPPED, Interrupted, StopSignal, is_first, run_blocks, world
from nnlod_fenics.dataset.schedule import Schedule
from nnlod_fenics.errors import InputError
from nnlod_fenics.fields import FieldLaw, make_field
from nnlod_fenics.grid import Grid
from nnlod_fenics.lod.coarse import load_vector
from nnlod_fenics.montecarlo.allocation import LEAST_PAIRS, Plan, make_plan
from nnlod_fenics.montecarlo.estimate import Estimate, Progress, make_estimate
from nnlod_fenics.montecarlo.estimators import Moments
from nnlod_fenics.montecarlo.functionals import Functional
from nnlod_fenics.montecarlo.sampling import BATCH, BlockResult, Sampler
from nnlod_fenics.montecarlo.settings import MonteCarloSettings
from nnlod_fenics.montecarlo.store import Store
from nnlod_fenics.progress import show_progress
from nnlod_fenics.source import Source
from nnlod_fenics.surrogate import NNLOD
from nnlod_fenics.surrogate.shipped import find_shipped

__all__ = ["monte_carlo", "run_from_config"]

_TIME = "time"  # reason to halt
_FIRST = 32  # plain samples before the error is looked at

Key = tuple[str, int]


def monte_carlo(
    grid: Grid,
    law: FieldLaw,
    settings: MonteCarloSettings,
    model: NNLOD | None = None,
    f: Source = 1.0,
    functionals: Mapping[str, Functional] | None = None,
    output: str | Path | None = None,
    comm: Any = None,
    resume: bool = False,
    overwrite: bool = False,
) -> Estimate:
    """Expectations of the solution over random coefficients; collective.

    Estimates mean and variance of the solution at the coarse nodes, and of functionals. ``"fem"``, ``"lod"``
    and ``"nn"`` average that method's own solution; ``"nn"`` inherits the bias of the network.
    ``"multifidelity"`` averages few solutions of the reference method and corrects them by many of the
    network (:func:`nnlod_fenics.montecarlo.estimators.control_variate`), with sample numbers from a pilot run
    (:func:`nnlod_fenics.montecarlo.allocation.make_plan`). The pilot samples are used for sample numbers and
    coefficients only, so that the estimator is exactly unbiased for the reference method's expectation,
    whatever the network does; a bad network costs time, and one that does not pay is not used.

    Sample numbers that depend on the samples themselves (``tolerance``) or on the clock (``seconds``) bias any
    Monte Carlo mean by O(1/n); with ``samples`` alone nothing does.

    Sample k depends on (seed, k) only and blocks are merged in the order of their numbers: the result has the
    same bits for every number of ranks and after any number of interruptions, where the clock does not decide
    (``seconds``, or ``"multifidelity"`` without ``cost_ratio``: there a resumed run goes on with its plan).

    Args:
        grid: The discretisation.
        law: Law of the fields on the grid's T_ε.
        settings: Method, sample numbers, when to stop.
        model: The surrogate, for ``"nn"`` and ``"multifidelity"``.
        f: Source: a number, a function of points, or cell values on T_h.
        functionals: Functionals by name.
        output: Folder for blocks and results; nothing is written if None.
        comm: MPI communicator; COMM_WORLD (or none, without mpi4py) if None.
        resume: Go on with an interrupted run, or with one that is to get more samples.
        overwrite: Replace a run that is there.

    Returns:
        The estimate, on every rank.

    Raises:
        InputError: If an argument or the folder does not fit, on every rank.
        Interrupted: If the run was told to stop by a signal; finished blocks are kept in ``output``.
    """
    comm = world() if comm is None else comm
    named = dict(functionals or {})
    _check(grid, settings, model, named)
    store = None if output is None else Store(output)
    with ExitStack() as stack:
        if store is not None:
            identity = _identity(grid, law, settings, model, f, named)
            stack.enter_context(_held(store, comm, identity, resume, overwrite))
        sampler = Sampler(grid, law, f, named, model)
        stack.callback(sampler.destroy)
        job = _Job(grid, settings, sampler, store, comm)
        stopped = job.run()
        estimate: Estimate | None = None
        if is_first(comm):
            estimate = make_estimate(job.progress(), grid, settings, named, stopped)
            if store is not None:
                from nnlod_fenics.montecarlo.report import write_report

                write_report(store.folder, estimate)
        result: Estimate = _shared(comm, estimate)
    return result


def run_from_config(
    config: Config,
    settings: MonteCarloSettings,
    model: Path | None,
    f: float,
    functionals: Mapping[str, Functional],
    output: Path,
    resume: bool,
    overwrite: bool,
) -> Estimate:
    """:func:`monte_carlo` for the grid and field of a configuration, or of a model folder if one is given.

    Without one, a method that needs a network takes the model that comes with the package for this grid and field.

    A field that the configuration states, other than the default one, is kept: the estimate by
    ``"multifidelity"`` holds for fields that the network was not trained for, too.
    """
    if model is None and "nn" in settings.models:
        stated = config.resolved()
        model = find_shipped(stated["grid"], stated["field"])
    surrogate = None if model is None else NNLOD.load(model)
    grid = config.make_grid() if surrogate is None else surrogate.grid
    given = config.field
    if surrogate is not None and given == Config().field:
        given = surrogate.description["training_set"]["field"]
    law = make_field(given, grid.dim, grid.coefficient)
    return monte_carlo(grid, law, settings, surrogate, f, functionals, output, None, resume, overwrite)


def _shared(comm: Any, value: Any) -> Any:
    return value if comm is None else comm.bcast(value)


def _check(grid: Grid, settings: MonteCarloSettings, model: NNLOD | None, functionals: dict[str, Functional]) -> None:
    if "nn" in settings.models:
        if model is None:
            raise InputError(f"method {settings.method!r} needs a model, got none.")
        if model.grid != grid:
            raise InputError(f"model is of grid {model.grid.as_dict()}, the run of {grid.as_dict()}.")
    for functional in functionals.values():
        functional.check(grid.dim)
    least = settings.pilot * 2 + LEAST_PAIRS
    if settings.method == "multifidelity" and settings.samples is not None and settings.samples < least:
        raise InputError(
            f"samples must be at least {least} with a pilot run of {settings.pilot}, got {settings.samples}."
        )
    if settings.target is not None and settings.target not in functionals:
        raise InputError(
            f"target must be the name of a functional, one of {list(functionals)}, got {settings.target!r}."
        )


def _identity(
    grid: Grid,
    law: FieldLaw,
    settings: MonteCarloSettings,
    model: NNLOD | None,
    f: Source,
    functionals: dict[str, Functional],
) -> dict[str, Any]:
    """What a resumed run must agree in."""
    identity = settings.identity() | {
        "grid": grid.as_dict(),
        "field": law.settings(),
        "functionals": {name: str(functional) for name, functional in functionals.items()},
        "source": hashlib.sha256(load_vector(grid, f).tobytes()).hexdigest()[:16],
    }
    if model is not None and "nn" in settings.models:
        digest = hashlib.sha256()
        for name, tensor in model.network.state_dict().items():
            digest.update(name.encode() + tensor.detach().cpu().numpy().tobytes())
        identity["model"] = digest.hexdigest()[:16]
    plain: dict[str, Any] = json.loads(json.dumps(identity))
    return plain


@contextmanager
def _held(store: Store, comm: Any, identity: dict[str, Any], resume: bool, overwrite: bool) -> Iterator[None]:
    """Hold the folder on rank 0; a refusal is one on all ranks."""
    with ExitStack() as stack:
        problem = None
        if is_first(comm):
            try:
                stack.enter_context(store.held(identity, resume, overwrite))
            except (InputError, OSError) as error:
                problem = str(error)
        problem = _shared(comm, problem)
        if problem is not None:
            raise InputError(problem)
        yield


class _Job:
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
            self._plan = _shared(self._comm, self._make_plan() if is_first(self._comm) else None)
        done = 0
        while True:
            target = _shared(self._comm, self._next_target(done) if is_first(self._comm) else None)
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
        keys: list[Key] = _shared(self._comm, self._missing(counts) if is_first(self._comm) else None)
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
