"""Numbers that describe the coefficient on a patch: what its local matrix is hard to predict from."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from nnlod_fenics.grid import Grid
from nnlod_fenics.surrogate.windows import windows

__all__ = ["count_features", "patch_features"]

_OF_ELEMENTS = 7


def count_features() -> int:
    """How many numbers describe a patch."""
    return 3 * _OF_ELEMENTS + 4


def patch_features(grid: Grid, Z: Tensor) -> Tensor:
    """Describe the patches of all elements; the same for Z + c, and for turned and reflected fields.

    Of each element: standard deviation, largest and smallest value, logarithms of the arithmetic and the harmonic mean
    of A, root mean square and maximum of the jumps between neighbouring cells, all relative to the mean of Z over the
    element. Of each patch: these for T, and their mean and maximum over the elements of the patch; how the means of Z
    of the elements spread and lie around that of T; the share of the patch that lies in D.

    Args:
        grid: The discretisation.
        Z: log A on T_ε, shape ``(n, 1/ε, …)``.

    Returns:
        Shape ``(n·num_elements, features)``, elements x fastest.
    """
    d, ell = grid.dim, grid.ell
    elements, levels = _element_features(grid, Z)
    inside = functional.pad(torch.ones_like(levels), (ell,) * (2 * d))

    def around(values: Tensor, outside: float) -> Tensor:
        padded = functional.pad(values, (ell,) * (2 * d), value=outside)
        return windows(padded, d, 2 * ell + 1).flatten(-d)

    mask = windows(inside, d, 2 * ell + 1).flatten(-d)
    share = mask.mean(dim=-1)
    means = around(elements, 0.0).sum(dim=-1) / mask.sum(dim=-1)
    largest = around(elements, -torch.inf).amax(dim=-1)
    differences = (around(levels, 0.0) - levels[..., None]) * mask
    spread = (differences.square().sum(dim=-1) / mask.sum(dim=-1)).sqrt()
    level_features = torch.cat([spread, differences.amax(dim=-1), -differences.amin(dim=-1), 1 - share], dim=1)
    features = torch.cat([elements, means, largest, level_features], dim=1)
    return features.movedim(1, -1).reshape(-1, features.shape[1])


def _element_features(grid: Grid, Z: Tensor) -> tuple[Tensor, Tensor]:
    """Features of elements, shape ``(n, 7, 1/H, …)``, and means of Z, shape ``(n, 1, 1/H, …)``."""
    d, m = grid.dim, grid.cells_per_element
    cells = windows(Z, d, m, m)
    axes = tuple(range(-d, 0))
    level = cells.mean(dim=axes)
    deviation = cells - level[(..., *(None,) * d)]
    flat = deviation.flatten(-d)
    count = torch.tensor(float(flat.shape[-1]), dtype=Z.dtype, device=Z.device).log()
    jumps = [deviation.diff(dim=axis).flatten(-d) for axis in axes] if m > 1 else [torch.zeros_like(flat)]
    jump = torch.cat(jumps, dim=-1)
    parts = [
        flat.square().mean(dim=-1).sqrt(),
        flat.amax(dim=-1),
        -flat.amin(dim=-1),
        flat.logsumexp(dim=-1) - count,
        (-flat).logsumexp(dim=-1) - count,
        jump.square().mean(dim=-1).sqrt(),
        jump.abs().amax(dim=-1),
    ]
    return torch.stack(parts, dim=1), level[:, None]
