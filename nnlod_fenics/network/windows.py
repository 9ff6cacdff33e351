"""Windows of fields on lattices, and what of them belongs to D."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from nnlod_fenics.window import INSIDE, Window

__all__ = [
    "active_cells",
    "crop",
    "level_of",
    "levels_at_nodes",
    "nodes_of_patches",
    "pad_cells",
    "pad_marks",
    "rows_in_domain",
    "windows",
]


def windows(values: Tensor, dim: int, size: int | Sequence[int], step: int | Sequence[int] = 1) -> Tensor:
    """All windows of lattice values, as a view.

    Args:
        values: Lattice values on the last ``dim`` axes.
        dim: Space dimension d.
        size: Points of a window along each axis: one number, or d in the order of the axes.
        step: Points from one window to the next, likewise.

    Returns:
        The leading axes, the positions of the windows (d axes), the points of a window (d axes).
    """
    first = values.ndim - dim
    sizes, steps = ((given,) * dim if isinstance(given, int) else given for given in (size, step))
    for axis in range(dim):
        values = values.unfold(first + axis, sizes[axis], steps[axis])
    return values


def crop(x: Tensor, layers: int, dim: int) -> Tensor:
    """Lattice values on the last ``dim`` axes without some layers at the border."""
    return x[(..., *(slice(layers, -layers),) * dim)] if layers else x


def nodes_of_patches(inside: Tensor, window: Window) -> Tensor:
    """Which nodes of patches exist: those of elements of D within ℓ layers, for elements of D.

    Args:
        inside: Whether elements lie in D, as 0 and 1, with ``window.layers`` layers around those that are asked for,
            shape ``(n, 1/H + 2L, …)``.
        window: What local matrices depend on.

    Returns:
        As 0 and 1, shape ``(n·num_elements, (2ℓ+2)^d)``.
    """
    d, size = window.dim, 2 * window.ell + 1
    patches = windows(crop(inside, window.layers - window.ell, d), d, size)
    own = crop(inside, window.layers, d).reshape(-1, 1)
    patches = functional.pad(patches.reshape(-1, 1, *(size,) * d), (1, 1) * d)
    pool = (functional.max_pool1d, functional.max_pool2d, functional.max_pool3d)[d - 1]
    touched: Tensor = pool(patches, 2, 1)
    return touched.flatten(1) * own


def levels_at_nodes(level: Tensor, inside: Tensor, window: Window) -> Tensor:
    """Means of the levels of the elements of D around each node of patches, relative to that of the patch's element.

    Args:
        level: Means of log A over elements, with ``window.layers`` layers around those asked for, shape
            ``(n, 1/H + 2L, …)``.
        inside: Whether elements lie in D, as 0 and 1, same shape.
        window: What local matrices depend on.

    Returns:
        Shape ``(n·num_elements, (2ℓ+2)^d)``; 0 for nodes of no element of D within ℓ layers.
    """
    d, size = window.dim, 2 * window.ell + 1
    own = crop(level, window.layers, d).reshape(-1, *(1,) * d)
    levels, masks = (
        windows(crop(values, window.layers - window.ell, d), d, size).reshape(-1, *(size,) * d)
        for values in (level, inside)
    )
    sums, counts = (_sums_at_nodes(values, d) for values in ((levels - own) * masks, masks))
    return sums / counts.clamp(min=1)


def _sums_at_nodes(values: Tensor, dim: int) -> Tensor:
    """Sums over the 2^d elements around each node of patches, shape ``(n, (2ℓ+2)^d)``."""
    pool = (functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d)[dim - 1]
    means: Tensor = pool(functional.pad(values[:, None], (1, 1) * dim), 2, 1)
    return 2**dim * means.flatten(1)


def rows_in_domain(marks: npt.NDArray[np.int8], window: Window) -> npt.NDArray[np.bool_]:
    """Which rows of local matrices are not zero.

    Args:
        marks: What elements are, with one layer around the box, see :func:`nnlod_fenics.window.domain_marks`.
        window: What local matrices depend on.

    Returns:
        Shape ``(num_elements, (2ℓ+2)^d)``.
    """
    inside = (pad_marks(torch.from_numpy(marks)[None], window) == INSIDE).float()
    return np.asarray(nodes_of_patches(inside, window).bool().numpy())


def pad_marks(marks: Tensor, window: Window) -> Tensor:
    """Marks with as many layers around the box as the window has.

    Args:
        marks: With one layer, shape ``(n, 1/H + 2, …)``.
        window: What local matrices depend on.

    Returns:
        Float32, shape ``(n, 1/H + 2L, …)``: beyond a face is what lies next to it.
    """
    if window.layers == 0:
        return crop(marks, 1, window.dim).float()
    more = (window.layers - 1,) * (2 * window.dim)
    return functional.pad(marks[:, None].float(), more, mode="replicate")[:, 0]


def pad_cells(Z: Tensor, window: Window) -> Tensor:
    """Fields on cells with the layers of elements of a window around them, where they are zero."""
    return functional.pad(Z, (window.layers * window.cells,) * (2 * window.dim))


def active_cells(marks: Tensor, window: Window) -> Tensor:
    """Which cells lie in D, bool, shape ``(n, 1/ε, …)``, from marks with one layer around the box."""
    inside = crop(marks, 1, window.dim) == INSIDE
    for axis in range(1, 1 + window.dim):
        inside = inside.repeat_interleave(window.cells, dim=axis)
    return inside


def level_of(Z: Tensor, active: Tensor) -> Tensor:
    """Means of fields over D.

    Args:
        Z: log A on T_ε, shape ``(n, 1/ε, …)``.
        active: Which cells lie in D, shape ``(n, 1/ε, …)`` or ``(1, 1/ε, …)``.

    Returns:
        Shape ``(n, 1, …)``.
    """
    axes = tuple(range(1, Z.ndim))
    if bool(active.all()):
        return Z.mean(dim=axes, keepdim=True)
    total = Z.masked_fill(~active, 0).sum(dim=axes, keepdim=True)
    return total / active.sum(dim=axes, keepdim=True)
