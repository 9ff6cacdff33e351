"""Ends of patches that are free: where a patch ends on a face without given u, its end nodes are unknowns.

A function of W(N^ℓ(T)) vanishes at the fine nodes that touch an active element outside the patch. On most sides of most
patches that is every node. Where no element or an inactive one lies beyond, nodes stay free; the elimination then keeps
the nodes of the whole side (a side is *open*), and those of them that touch an active element beyond are *pinned*.
"""

from __future__ import annotations

from functools import cached_property
from itertools import product

import numpy as np
import numpy.typing as npt

from nnlod_fenics.domain import faces_of
from nnlod_fenics.grid import Grid
from nnlod_fenics.lod.elimination import Labels, Sides

__all__ = ["PatchEnds"]

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]


class PatchEnds:
    """Open sides of patches, and the nodes pinned there.

    Args:
        grid: The discretisation.
    """

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self._margin = grid.ell + 2
        self._padded = np.pad(grid.active, self._margin)

    @cached_property
    def opened(self) -> BoolArray:
        """Which sides of the patches are open, shape ``(num_elements, d, 2)``, x first, the low side first.

        For y and z a side counts as open if it is so for any element of the row along x: they share strips.
        """
        grid = self.grid
        result = np.zeros((*grid.element_shape, grid.dim, 2), dtype=bool)
        if grid.inactive or len(grid.dirichlet) < 2 * grid.dim:
            for axis, upper in product(range(grid.dim), (0, 1)):
                found = self._open_side(axis, bool(upper))
                result[..., axis, upper] = found if axis == 0 else found.any(axis=-1, keepdims=True)
        return result.reshape(-1, grid.dim, 2)

    def _open_side(self, axis: int, upper: bool) -> BoolArray:
        """Whether the end of each patch has a face with an active element inside and none beyond, off Γ_D."""
        grid, ell = self.grid, self.grid.ell
        array_axis, n = grid.dim - 1 - axis, grid.coarse[axis]
        active = np.moveaxis(grid.active, array_axis, 0)
        beyond = np.zeros_like(active)
        if upper:
            beyond[:-1] = active[1:]
        else:
            beyond[1:] = active[:-1]
        free = active & ~beyond
        if faces_of(grid.dim)[2 * axis + upper] in grid.dirichlet:
            free[-1 if upper else 0] = False
        for other in range(1, grid.dim):  # any face of the patch's end
            padded = np.pad(free, [(ell, ell) if k == other else (0, 0) for k in range(grid.dim)])
            free = np.asarray(np.lib.stride_tricks.sliding_window_view(padded, 2 * ell + 1, axis=other).any(axis=-1))
        result = np.zeros_like(free)
        if upper:
            result[: max(n - ell, 0)] = free[ell:]
        else:
            result[ell:] = free[: max(n - ell, 0)]
        return np.moveaxis(result, 0, array_axis)

    def variants(self, elements: IntArray) -> list[tuple[tuple[Sides, ...], IntArray]]:
        """Sort patches by their open sides.

        Args:
            elements: Numbers of the elements.

        Returns:
            Pairs of the open sides, those along x not told apart, and the places in ``elements`` of the patches.
        """
        flags = self.opened[elements].copy()
        flags[:, 0] = False
        return _sorted(flags)

    def ends(self, elements: IntArray) -> list[tuple[Sides, IntArray]]:
        """Sort patches by their open sides along x, as :meth:`variants` does by the others."""
        return [(sides[0], places) for sides, places in _sorted(self.opened[elements][:, :1])]

    def alike(self, elements: IntArray) -> list[IntArray]:
        """The places in ``elements`` of patches that have the same open sides, each kind apart."""
        return [places for _, places in _sorted(self.opened[elements])]

    def pinned(self, labels: Labels, axis: int, upper: bool, positions: IntArray) -> BoolArray:
        """Which nodes at an end of patches touch an active element beyond it.

        Args:
            labels: Labels of a block of whole patches along this axis and those after it, of single elements along the
                axes before it.
            axis: The axis across the end, 0 for x.
            upper: Whether it is the upper end.
            positions: Positions of T, of the element for axes before, shape ``(k, d)``.

        Returns:
            Shape ``(k, len(labels))``.
        """
        grid, r = self.grid, self.grid.ratio
        end = grid.patch_width * r if upper else 0
        rows = np.flatnonzero(labels.nodes & (labels.position[:, axis] == end))
        result = np.zeros((len(positions), len(labels)), dtype=bool)
        origin = positions - np.where(np.arange(grid.dim) >= axis, grid.ell, 0) + self._margin
        others = [k for k in range(grid.dim) if k != axis]
        for lower in product((0, 1), repeat=len(others)):  # the elements beyond that have the node
            offset = np.empty((len(rows), grid.dim), dtype=np.int64)
            offset[:, axis] = grid.patch_width if upper else -1
            for k, below in zip(others, lower, strict=True):
                at = labels.position[rows, k]
                offset[:, k] = at // r - below * (at % r == 0)
            at = origin[:, None, :] + offset[None]
            result[:, rows] |= self._padded[tuple(at[..., k] for k in reversed(range(grid.dim)))]
        return result


def _sorted(flags: BoolArray) -> list[tuple[tuple[Sides, ...], IntArray]]:
    kinds, which = np.unique(flags.reshape(len(flags), -1), axis=0, return_inverse=True)
    which = which.ravel()
    return [
        (tuple((bool(low), bool(high)) for low, high in kind.reshape(-1, 2)), np.flatnonzero(which == number))
        for number, kind in enumerate(kinds)
    ]
