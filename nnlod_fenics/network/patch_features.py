"""Numbers that describe the coefficient on a patch: what its local matrix is hard to predict from."""

from __future__ import annotations

from itertools import combinations
from math import log, prod

import torch
from torch import Tensor
from torch.nn import functional

from nnlod_fenics.network.windows import active_cells, crop, windows
from nnlod_fenics.window import INSIDE, Window

__all__ = ["count_features", "patch_features"]

_OF_ELEMENTS, _OF_DIRECTIONS, _OF_LEVELS = 7, 4, 5


def count_features() -> int:
    """How many numbers describe a patch."""
    return 3 * (_OF_ELEMENTS + _OF_DIRECTIONS) + _OF_LEVELS


def patch_features(window: Window, Z: Tensor, marks: Tensor) -> Tensor:
    """Describe the patches of all active elements; the same for Z + c, and for turned and reflected fields.

    Of each element: standard deviation, largest and smallest value, logarithms of the arithmetic and the harmonic mean
    of A, root mean square and maximum of the jumps between neighbouring cells, all relative to the mean of Z over the
    element. Of each patch: these for T, and their mean and maximum over the elements of D in it; how the means of Z
    of the elements spread and lie around that of T; the share of the patch that lies in D.

    These are averages over directions, the same for a field that is rough along one axis and smooth along the others
    as for one that is equally rough along all. How far directions differ is therefore a feature too (the largest
    minus the smallest value): for the root mean square of the jumps along an axis, and for the logarithms of the
    harmonic mean along an axis of arithmetic means across it and of their reverse, the bounds of the homogenised
    coefficient along that axis; of T, of the averages over the patch, and the maximum over its elements. Likewise for
    the jumps along the diagonals of squares of cells, and for those of the means of Z between neighbouring elements of
    the patch.

    Args:
        window: What local matrices depend on; its elements are the patch.
        Z: log A on T_ε, shape ``(n, 1/ε, …)``; what stands in cells of inactive elements does not matter.
        marks: What elements are, with one layer around the box, shape ``(n, 1/H + 2, …)`` or ``(1, …)``.

    Returns:
        Of the active elements of each field, x fastest, field by field, shape ``(…, features)``.
    """
    d, layers = window.dim, window.layers
    active = (crop(marks, 1, d) == INSIDE)[:, None].to(Z.device)
    if not bool(active.all()):
        Z = Z.masked_fill(~active_cells(marks.to(Z.device), window), 0)
    elements, directions, levels = _element_features(window, Z)

    def around(values: Tensor, outside: float) -> Tensor:
        mask = active.reshape(len(active), *(1,) * (values.ndim - 1 - d), *active.shape[2:])
        padded = functional.pad(values.masked_fill(~mask, outside), (layers,) * (2 * d), value=outside)
        return windows(padded, d, 2 * layers + 1).flatten(-d)

    mask = around(torch.ones_like(levels), 0.0)
    count = mask.sum(dim=-1).clamp(min=1)
    means = around(elements, 0.0).sum(dim=-1) / count
    largest = around(elements, -torch.inf).amax(dim=-1)
    differences = (around(levels, 0.0) - levels[..., None]) * mask
    deviation = (differences.square().sum(dim=-1) / count).sqrt()
    features = [elements, means, largest]
    for values in directions:
        average = around(values.flatten(1, 2), 0.0).sum(dim=-1) / count
        anisotropy = _spread(values)
        features += [anisotropy, _spread(average.reshape(values.shape)), around(anisotropy, -torch.inf).amax(dim=-1)]
    features += [
        *(deviation, differences.amax(dim=-1), -differences.amin(dim=-1), 1 - mask.mean(dim=-1)),
        _spread(_level_jumps(window, levels, active)),
    ]
    result = torch.cat(features, dim=1)
    return result.movedim(1, -1)[active[:, 0].expand(len(Z), *active.shape[2:])]


def _spread(directions: Tensor) -> Tensor:
    """How far values of directions, shape ``(n, k, directions, …)``, differ, shape ``(n, k, …)``."""
    return directions.amax(dim=2) - directions.amin(dim=2)


def _level_jumps(window: Window, levels: Tensor, active: Tensor) -> Tensor:
    """Root mean squares of the jumps of levels along each axis in the patches, shape ``(n, 1, d, 1/H, …)``."""
    d, ell = window.dim, window.layers
    result = []
    for axis in range(-d, 0):
        jumps, count = levels.diff(dim=axis).square(), active.shape[axis] - 1
        both = active.narrow(axis, 0, count) & active.narrow(axis, 1, count)
        sums = []
        for values in (jumps * both, both.to(jumps).expand_as(jumps)):
            values = functional.pad(values, (ell,) * (2 * d))
            for other in range(d):  # 2ℓ jumps along the axis, on 2ℓ + 1 lines across it
                values = values.unfold(2 + other, 2 * ell + (other != d + axis), 1)
            sums.append(values.flatten(2 + d).sum(dim=-1))
        result.append((sums[0] / sums[1].clamp(min=1)).sqrt())
    return torch.stack(result, dim=2)


def _element_features(window: Window, Z: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor], Tensor]:
    """Features of elements ``(n, 7, 1/H, …)``, of axes and diagonals ``(n, k, directions, 1/H, …)``, and means of Z."""
    d, m = window.dim, window.cells
    cells = windows(Z, d, m, m)
    axes = tuple(range(-d, 0))
    level = cells.mean(dim=axes)
    deviation = cells - level[(..., *(None,) * d)]
    flat = deviation.flatten(-d)
    jumps = [deviation.diff(dim=axis).flatten(-d) if m > 1 else torch.zeros_like(flat) for axis in axes]
    jump = torch.cat(jumps, dim=-1)
    parts = [
        _root_mean_square(flat),
        flat.amax(dim=-1),
        -flat.amin(dim=-1),
        _log_mean(deviation, axes).reshape(level.shape),
        _log_mean(-deviation, axes).reshape(level.shape),
        _root_mean_square(jump),
        jump.abs().amax(dim=-1),
    ]
    along = []
    for axis, steps in zip(axes, jumps, strict=True):
        across = tuple(other for other in axes if other != axis)
        layered = -_log_mean(-_log_mean(deviation, across), (axis,))
        parallel = _log_mean(-_log_mean(-deviation, (axis,)), across)
        along.append(
            torch.stack([_root_mean_square(steps), *(x.reshape(level.shape) for x in (layered, parallel))], dim=1)
        )
    diagonals = [_root_mean_square(steps) for steps in _diagonal_jumps(deviation, d)] or [torch.zeros_like(level)]
    directions = torch.stack(along, dim=2), torch.stack(diagonals, dim=1)[:, None]
    return torch.stack(parts, dim=1), directions, level[:, None]


def _diagonal_jumps(cells: Tensor, dim: int) -> list[Tensor]:
    """Jumps along both diagonals of the squares of cells in each plane of axes, if there are any."""
    result = []
    for first, second in combinations(range(-dim, 0), 2):
        if cells.shape[first] > 1:
            lower, upper = (cells.narrow(first, k, cells.shape[first] - 1) for k in (0, 1))
            left, right = ([v.narrow(second, k, v.shape[second] - 1) for v in (lower, upper)] for k in (0, 1))
            result += [(right[1] - left[0]).flatten(-dim), (left[1] - right[0]).flatten(-dim)]
    return result


def _root_mean_square(values: Tensor) -> Tensor:
    return values.square().mean(dim=-1).sqrt()


def _log_mean(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Logarithm of the mean of e^x over some axes, which are kept."""
    count = prod(x.shape[axis] for axis in axes)
    return x.logsumexp(dim=axes, keepdim=True) - log(count) if axes else x
