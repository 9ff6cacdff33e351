"""What identifies a run: it is resumed only where all of it agrees."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Iterator, Mapping
from types import CodeType
from typing import Any

import numpy as np

from nnlod_fenics.config import MonteCarloSettings
from nnlod_fenics.fields import FieldLaw, settings_of_law
from nnlod_fenics.functionals import Functional
from nnlod_fenics.grid import Grid
from nnlod_fenics.loads import load_vector
from nnlod_fenics.network import NNLOD
from nnlod_fenics.problem import Problem, Source, boundary_values, check_source, evaluate_source, fluxes

__all__ = ["identity_of"]


def identity_of(
    grid: Grid,
    law: FieldLaw,
    settings: MonteCarloSettings,
    networks: Mapping[str, NNLOD],
    problem: Problem,
    functionals: Mapping[str, Functional],
) -> dict[str, Any]:
    """What a resumed run must agree in, ready for JSON.

    Args:
        grid: The discretisation.
        law: Law of the fields.
        settings: How to sample.
        networks: The surrogates, by the name of the model.
        problem: What is solved, checked.
        functionals: Functionals by name.

    Returns:
        The table; of the problem only what differs from f alone, as runs of earlier versions have it.
    """
    identity = settings.identity() | {
        "grid": grid.as_dict(),
        "field": settings_of_law(law),
        # a list: blocks keep their order
        "functionals": [[name, _text(functional)] for name, functional in functionals.items()],
        "source": _source(grid, problem.f),
    }
    identity |= _beside_source(grid, problem)
    for name, network in networks.items():  # "model", as runs of earlier versions have it
        identity[name.replace("nn", "model", 1)] = _fingerprint(network)
    plain: dict[str, Any] = json.loads(json.dumps(identity))
    return plain


def _source(grid: Grid, f: Source) -> str:
    """A digest of ∫ f against the hats of T_h on the box.

    By this formula and in this order, whatever else computes loads: its bits are in the files of all runs.
    """
    offset = 0.5 + np.array([-0.5, 0.5]) / np.sqrt(3)
    points = [((np.arange(n)[:, None] + offset) / n).ravel() for n in grid.fine_shape]
    source = check_source(grid, f)
    if callable(source):
        sides = [at * side for at, side in zip(points, reversed(grid.lengths), strict=True)]
        mesh = np.meshgrid(*sides, indexing="ij")
        values = evaluate_source(source, np.stack([axis.ravel() for axis in reversed(mesh)]))
        values = values.reshape([len(at) for at in points])
    else:
        values = np.broadcast_to(source, grid.fine_shape)
        for axis in range(grid.dim):
            values = np.repeat(values, 2, axis=axis)
    for axis, (at, n) in enumerate(zip(points, grid.fine_shape, strict=True)):
        weights = np.clip(1 - np.abs(at[None, :] * n - np.arange(n + 1)[:, None]), 0, None) / (2 * n)
        values = np.moveaxis(np.tensordot(weights, values, axes=(1, axis)).astype(np.float64), 0, axis)
    return _digest(values.tobytes())


def _beside_source(grid: Grid, problem: Problem) -> dict[str, Any]:
    """Wells, boundary values and fluxes, as far as there are any."""
    found: dict[str, Any] = {}
    if len(problem.wells):
        found["wells"] = [[*map(float, point), float(rate)] for point, rate in problem.wells]
    given = boundary_values(grid.at_fine_scale, problem.g)
    if given.any():
        found["g"] = _digest(given.tobytes())
    if fluxes(grid, problem.flux):
        found["flux"] = _digest(load_vector(grid, Problem(f=0.0, flux=problem.flux)).tobytes())
    return found


def _text(functional: Functional) -> str:
    """What identifies a functional: a description, or the source of a function."""
    if not inspect.isfunction(functional):
        return str(functional)
    return f"function {functional.__qualname__} {_digest(*_bytes_of(functional.__code__))}"


def _bytes_of(code: CodeType) -> Iterator[bytes]:
    """What a function computes, without where it stands."""
    yield code.co_code
    yield repr(code.co_names).encode()
    for constant in code.co_consts:
        yield from _bytes_of(constant) if isinstance(constant, CodeType) else (repr(constant).encode(),)


def _fingerprint(model: NNLOD) -> str:
    """What identifies a model, whatever folder it lies in: the kind of network and its weights."""
    kind = [type(model.network).__name__, model.description.get("network")]
    weights = ((k, v.detach().cpu().numpy()) for k, v in model.network.state_dict().items())
    return _digest(json.dumps(kind, sort_keys=True).encode(), *(k.encode() + v.tobytes() for k, v in weights))


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]
