"""Known answers of an independent code on boxes, with inactive elements, boundary conditions and wells.

Keys beside those of the grid: ``A`` on T_ε, ``f``, ``wells`` (rows: point, rate), ``g`` at coarse nodes; ``S``;
``K`` of all coarse nodes, ``b``, ``u``, and with source correctors ``b_corrected``, ``u_corrected``; ``u_fem`` at fine
nodes, its quasi-interpolant ``I_u_fem``; ``K_galerkin``, ``load_galerkin``. NaN at nodes of no active element.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from nnlod_fenics import Grid
from nnlod_fenics.problem import Problem

FOLDER = Path(__file__).parent / "data" / "domain"
NAMES = sorted(path.stem for path in FOLDER.glob("*.npz"))


def load_domain(name: str) -> tuple[Grid, np.ndarray, Problem, dict[str, Any]]:
    """Grid, coefficient, problem and all the data of a file; g is linear in x, so its coarse values tell all."""
    data = dict(np.load(FOLDER / f"{name}.npz"))
    coarse = [int(n) for n in data["coarse"]]
    ratio, cells = (int(data[key]) for key in ("ratio", "cells"))
    grid = Grid(
        len(coarse),
        coarse,
        [n * ratio for n in coarse],
        int(data["ell"]),
        [n * cells for n in coarse],
        data["lengths"],
        [str(face) for face in data["dirichlet"]],
        data["active"].astype(bool),
    )
    wells = [(tuple(row[:-1]), row[-1]) for row in np.reshape(data["wells"], (-1, grid.dim + 1))]
    return grid, data["A"], Problem(float(data["f"]), wells, linear_boundary(grid, data["g"])), data


def linear_boundary(grid: Grid, g: np.ndarray) -> Any:
    """The linear function with values g at the coarse nodes on Γ_D."""
    at = grid.fixed_nodes
    points = np.argwhere(at)[:, ::-1] * np.asarray(grid.widths)
    basis = np.column_stack([np.ones(len(points)), points])
    slope = np.linalg.lstsq(basis, g.reshape(grid.node_shape)[at], rcond=None)[0]
    return lambda x: slope[0] + slope[1:] @ x
