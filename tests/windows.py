"""What networks see of fields, cut element by element: an independent way to it."""

from __future__ import annotations

import numpy as np
import torch

from nnlod_fenics import Grid
from nnlod_fenics.training import Samples
from nnlod_fenics.window import PETROV_GALERKIN, Window, domain_marks


def padded(grid: Grid, Z: np.ndarray, form: str = PETROV_GALERKIN) -> tuple[torch.Tensor, torch.Tensor]:
    """Fields, shape ``(n, 1/ε, …)``, with the layers around them, and their marks."""
    window = Window.of(grid, form)
    width = window.layers * window.cells
    cells = np.pad(np.where(grid.active_cells, Z, 0.0), [(0, 0)] + [(width, width)] * grid.dim)
    marks = np.broadcast_to(
        domain_marks(grid, window.layers), (len(Z), *(n + 2 * window.layers for n in grid.element_shape))
    )
    return torch.tensor(cells, dtype=torch.float32), torch.tensor(marks, dtype=torch.float32)


def cut(grid: Grid, Z: np.ndarray, form: str = PETROV_GALERKIN) -> tuple[torch.Tensor, torch.Tensor]:
    """The windows of all elements of one field and their marks, x fastest."""
    window, parts = Window.of(grid, form), padded(grid, Z[None], form)
    found = []
    for values, step in zip(parts, (window.cells, 1), strict=True):
        places = [tuple(slice(p * step, (p + window.width) * step) for p in T[::-1]) for T in grid.elements]
        found.append(torch.stack([values[0][place] for place in places]))
    return found[0], found[1]


def samples(grid: Grid, Z: np.ndarray, S: np.ndarray) -> Samples:
    """Fields and matrices with the marks of their grid."""
    return Samples(Z, S, domain_marks(grid)[None])
