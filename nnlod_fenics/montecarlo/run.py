"""Monte Carlo runs: what they may be given, the folder that they are kept in, and their result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from nnlod_fenics.config import Config, MonteCarloSettings
from nnlod_fenics.config.montecarlo import read_model
from nnlod_fenics.errors import InputError
from nnlod_fenics.fields import FieldLaw, check_law, make_field
from nnlod_fenics.functionals import Functional, check_functional, parse_functionals
from nnlod_fenics.grid import Grid
from nnlod_fenics.montecarlo.candidates import load_networks, make_makers
from nnlod_fenics.montecarlo.choice import LEAST_PAIRS
from nnlod_fenics.montecarlo.estimate import Estimate, make_estimate
from nnlod_fenics.montecarlo.identity import identity_of
from nnlod_fenics.montecarlo.job import Job, check_blocks
from nnlod_fenics.montecarlo.sampling import Sampler
from nnlod_fenics.montecarlo.store import Store
from nnlod_fenics.network import NNLOD
from nnlod_fenics.network.shipped import find_shipped
from nnlod_fenics.problem import Boundary, Problem, Source, check_problem
from nnlod_fenics.runtime.job import on_first, world

__all__ = ["find_problem", "monte_carlo", "run_from_config"]


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
    *,
    wells: Sequence[tuple[Sequence[float], float]] = (),
    g: Boundary = 0.0,
    flux: Boundary = 0.0,
) -> Estimate:
    """Expectations of the solution over random coefficients; collective.

    Estimates mean and variance of the solution at the coarse nodes, and of functionals. ``"fem"``, ``"lod"``
    and ``"nn"`` average that method's own solution; ``"nn"`` inherits the bias of the network.
    ``"multifidelity"`` averages few solutions of the reference method and corrects them by many of cheaper models,
    ``settings.models`` (:func:`nnlod_fenics.montecarlo.weights.weights`). A pilot run with all of them says which pay,
    which are applied to the same fields, and how many samples of each are best
    (:func:`nnlod_fenics.montecarlo.choice.choose`); ``estimate.plan`` has the answer. The pilot samples are used for
    this and for the weights only, so that the estimator is exactly unbiased for the reference method's expectation,
    whatever the other models do; a bad model costs its part of the pilot run, and one that does not pay is not used.

    Sample numbers that depend on the samples themselves (``tolerance``, see
    :class:`nnlod_fenics.montecarlo.goal.Goal`) or on the clock (``seconds``) bias any Monte Carlo mean by O(1/n);
    with ``samples`` alone nothing does.

    Sample k depends on (seed, k) only and blocks are merged in the order of their numbers: the result has the
    same bits for every number of ranks and after any number of interruptions, where the clock does not decide
    (``seconds``, or ``"multifidelity"`` without ``cost_ratio``: there a resumed run keeps the times of its
    pilot run).

    Args:
        grid: The discretisation.
        law: Law of the fields on the grid's T_ε.
        settings: Method, sample numbers, when to stop.
        model: The surrogate, where a model is ``"nn"``; ``"nn:NAME"`` has its own.
        f: Source: a number, a function of points, or cell values on T_h.
        functionals: Functionals by name: those of :mod:`nnlod_fenics.functionals`, or functions of a
            :class:`nnlod_fenics.solvers.Solution` that return a number.
        output: Folder for blocks and results; nothing is written if None.
        comm: MPI communicator; COMM_WORLD (or none, without mpi4py) if None.
        resume: Resume an interrupted run, or one that is to get more samples. ``samples``, ``tolerance``,
            ``seconds``, ``target`` and ``level`` may be others than before, all else must agree.
        overwrite: Replace a run that is there.
        wells: Points and rates, see :class:`nnlod_fenics.problem.Problem`.
        g: u on Γ_D.
        flux: What flows into D through the other faces of the box.

    Returns:
        The estimate, on every rank.

    Raises:
        InputError: If an argument or the folder does not fit, on every rank.
        Interrupted: If the run was stopped by a signal; finished blocks are kept in ``output``.

    Example:
        >>> from nnlod_fenics.functionals import PointValue
        >>> grid = Grid(dim=2, coarse=4, fine=16, ell=1)
        >>> law = make_field({"kind": "lognormal", "variance": 0.5, "correlation_length": 0.2}, dim=2, cells=16)
        >>> functionals = {"centre": PointValue((0.5, 0.5)), "largest": lambda solution: float(solution.u.max())}
        >>> settings = MonteCarloSettings(method="lod", samples=32)
        >>> estimate = monte_carlo(grid, law, settings, functionals=functionals)
        >>> low, high = estimate.functionals["centre"].interval  # of the expectation, with probability 95 %
        >>> low < estimate.functionals["centre"].mean < high < estimate.functionals["largest"].interval[1]
        True
        >>> estimate.mean.shape, estimate.samples
        ((5, 5), {'samples': 32})
    """
    comm = world() if comm is None else comm
    named = dict(functionals or {})
    check_law(law)
    problem = Problem(f, wells, g, flux)
    check_problem(grid, problem)
    networks = load_networks(grid, settings, model)
    makers = make_makers(grid, settings, networks, problem)
    _check(grid, settings, named)
    store = None if output is None else Store(output, identity_of(grid, law, settings, networks, problem, named))
    with ExitStack() as stack:
        if store is not None:
            on_first(comm, lambda: stack.enter_context(store.held(resume, overwrite)))
        sampler = Sampler(grid, law, problem, named, makers)
        stack.callback(sampler.destroy)
        job = Job(grid, settings, sampler, store, comm)
        stopped = job.run()

        def conclude() -> Estimate:
            estimate = make_estimate(job.progress(), grid, settings, named, stopped)
            if store is not None:
                from nnlod_fenics.montecarlo.report import write_report

                with store.written():
                    write_report(store.folder, estimate)
            return estimate

        return on_first(comm, conclude)


def run_from_config(
    config: Config,
    source: float | None = None,
    output: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> Estimate:
    """:func:`monte_carlo` as a configuration says, its sections ``[montecarlo]`` and ``[problem]`` included.

    Without a model, a method that needs one takes that of the package for this grid and field.

    Args:
        config: The settings.
        source: Constant source, in the place of that of the settings.
        output: See :func:`monte_carlo`.
        resume: See :func:`monte_carlo`.
        overwrite: See :func:`monte_carlo`.

    Returns:
        The estimate.
    """
    settings, named = config.montecarlo.make(config.dataset.seed), parse_functionals(config.montecarlo.functionals)
    model: str | Path | None = config.montecarlo.model
    if model is None and "nn" in settings.solved:
        stated = config.resolved()
        model = find_shipped(config.make_grid(), stated["field"])
    surrogate = None if model is None else NNLOD.load(model)
    known = surrogate
    if surrogate is None and settings.networks:
        known = NNLOD.load(read_model(settings.networks[0])[1]["model"])
    grid, law = find_problem(config, known)
    problem = config.problem.make(grid, source)
    return monte_carlo(
        grid,
        law,
        settings,
        surrogate,
        problem.f,
        named,
        output,
        None,
        resume,
        overwrite,
        wells=problem.wells,
        g=problem.g,
        flux=problem.flux,
    )


def find_problem(config: Config, model: NNLOD | None) -> tuple[Grid, FieldLaw]:
    """The grid and the law of the fields, from a configuration and a model.

    What the configuration does not state is taken from the model. A field that it states is kept: the estimate by
    ``"multifidelity"`` holds for fields that the network was not trained for, too.

    Args:
        config: The configuration.
        model: The surrogate, if there is one.

    Returns:
        Both.
    """
    grid = config.make_grid(None if model is None else model.grid)
    field = config.field if model is None or config.states_field else model.law
    return grid, make_field(field, grid.dim, grid.coefficient, grid.lengths, grid.widths)


def _check(grid: Grid, settings: MonteCarloSettings, functionals: dict[str, Functional]) -> None:
    settings.check_stops()
    if settings.samples is not None:
        check_blocks(settings, {"samples": settings.samples})
    for name, functional in functionals.items():
        check_functional(name, functional, grid)
    least = settings.pilot * 2 + LEAST_PAIRS  # a pilot run may cost more than twice its reference samples: see Goal
    if settings.method == "multifidelity" and settings.samples is not None and settings.samples < least:
        raise InputError(
            f"samples must be at least {least} with a pilot run of {settings.pilot}, got {settings.samples}."
        )
    if settings.target is not None and settings.target not in list(functionals):
        raise InputError(
            f"target must be the name of one of the functionals {list(functionals)}, got {settings.target!r}."
        )
