"""Solutions of the model problem by finite elements, PG-LOD or NN-LOD, with the time that each step took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from nnlod_fenics.coefficient import check_field
from nnlod_fenics.errors import InputError
from nnlod_fenics.grid import Grid
from nnlod_fenics.lod.coarse import coarse_matrix, solve_coarse
from nnlod_fenics.lod.local import local_matrices
from nnlod_fenics.source import Source
from nnlod_fenics.surrogate import NNLOD

__all__ = ["METHODS", "Solution", "solve"]

METHODS = ("fem", "lod", "nn")

Array = npt.NDArray[np.float64]


@dataclass
class Solution:
    """A solution and how it came about.

    Attributes:
        u: Nodal values, ``(1/h + 1,)*d`` for ``fem``, ``(1/H + 1,)*d`` otherwise.
        S: Local matrices, for ``lod`` and ``nn``.
        K: Coarse operator as a dense array, for ``lod`` and ``nn``.
        seconds: Time of each step.
    """

    u: Array
    S: Array | None = None
    K: Array | None = None
    seconds: dict[str, float] = field(default_factory=dict)


@contextmanager
def _timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[step] = time.perf_counter() - start


def solve(
    grid: Grid,
    Z: npt.ArrayLike,
    method: str = "lod",
    f: Source = 1.0,
    model: NNLOD | None = None,
    trust: float | None = None,
) -> Solution:
    """Solve −∇·(e^Z ∇u) = f, u = 0 on ∂D.

    Args:
        grid: The discretisation.
        Z: log A on T_ε, shape ``grid.coefficient_shape``.
        method: ``"fem"`` on T_h, ``"lod"`` (PG-LOD) or ``"nn"`` (NN-LOD) on T_H.
        f: Source: a number, a function of points, or cell values on T_h.
        model: The surrogate, for ``"nn"``.
        trust: Tolerance of the errors of predicted local matrices, see :meth:`NNLOD.local_matrices`.

    Returns:
        The solution.

    Raises:
        InputError: If an argument does not fit.
    """
    if method not in METHODS:
        raise InputError(f"method must be one of {METHODS}, got {method!r}.")
    values = check_field(grid, Z)
    seconds: dict[str, float] = {}
    if method == "fem":
        from nnlod_fenics.fem import solve_fine

        with _timed(seconds, "solve"):
            u = solve_fine(grid, np.exp(values), f).values()
        return Solution(u, seconds=seconds)
    with _timed(seconds, "local matrices"):
        if method == "lod":
            S = local_matrices(grid, np.exp(values))
        elif model is None:
            raise InputError("method 'nn' needs a model, got none.")
        elif model.grid != grid:
            raise InputError(f"model must be of grid {grid.as_dict()}, got one of {model.grid.as_dict()}.")
        else:
            S = model.local_matrices(values, trust)
    with _timed(seconds, "assembly"):
        matrix = coarse_matrix(grid, S)
    with _timed(seconds, "solve"):
        u = solve_coarse(grid, matrix, f)
    rows = range(grid.num_interior_nodes)
    K: Any = matrix.getValues(rows, rows)
    matrix.destroy()
    return Solution(u, S, K, seconds)
