"""The models of a run: from their names to solvers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from nnlod_fenics.config.montecarlo import MonteCarloSettings, read_model
from nnlod_fenics.errors import InputError
from nnlod_fenics.grid import Grid
from nnlod_fenics.network import NNLOD
from nnlod_fenics.problem import Problem
from nnlod_fenics.solvers import Solver, make_solver, methods

__all__ = ["load_networks", "make_makers"]


def load_networks(grid: Grid, settings: MonteCarloSettings, model: NNLOD | None) -> dict[str, NNLOD]:
    """The surrogates among the models of a run, by name.

    Args:
        grid: The discretisation.
        settings: How to sample.
        model: What ``"nn"`` is.

    Returns:
        The surrogates.

    Raises:
        InputError: If one is missing, or does not fit the grid.
    """
    found: dict[str, NNLOD] = {}
    for name in settings.networks:
        named = read_model(name)[1].get("model")
        if named is None and model is None:
            raise InputError(f"model must be given for method {settings.method!r}, got none.")
        network = model if named is None else NNLOD.load(named)
        assert network is not None
        network.check_grid(grid)
        found[name] = network
    return found


def make_makers(
    grid: Grid, settings: MonteCarloSettings, networks: Mapping[str, NNLOD], problem: Problem
) -> dict[str, Callable[[], Solver]]:
    """What makes the solver of each model of a run.

    Args:
        grid: The discretisation.
        settings: How to sample.
        networks: The surrogates, by name.
        problem: What is solved.

    Returns:
        A function for each name in ``settings.solved``.

    Raises:
        InputError: If a model is by no known method.
    """
    makers: dict[str, Callable[[], Solver]] = {}
    for number, name in enumerate(settings.solved):
        method, options = read_model(name)
        if method not in methods():
            raise InputError(f"models must be by one of the methods {methods()}, got {name!r}.")
        if method == "nn":
            options = {"model": networks[name]}
        elif method == "lod" and number == 0:
            options = settings.lod_options
        makers[name] = partial(_make, name, method, grid, problem, options)
        if number and method not in ("fem", "nn"):  # options that do not fit are told before anything is written
            makers[name]().destroy()
    return makers


def _make(name: str, method: str, grid: Grid, problem: Problem, options: dict[str, Any]) -> Solver:
    given = dict(options)
    try:
        if method == "lod" and isinstance(given.get("ell"), int):
            grid = Grid.from_dict({**grid.as_dict(), "ell": given.pop("ell")})
        return make_solver(method, grid, problem, **given)
    except InputError as error:
        raise InputError(f"models must fit the problem, got {name!r}: {error}") from error
