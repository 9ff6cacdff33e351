"""Local matrices by static condensation with batched dense linear algebra: the fast way.

Four levels, each shared by all patches that need its result:

1. leaves: squares (cubes) of fine cells inside an element; their inner nodes are eliminated;
2. elements: leaves merged by nested dissection until only the element's boundary remains;
3. strips: 2ℓ+1 elements across x (for d = 3 first along z, then along y); a strip belongs to all patches
   shifted along x;
4. patches: 2ℓ+1 strips, a block-tridiagonal system over the faces between them, eliminated from both ends
   towards T.

Coarse hats, multipliers of I_H and the right-hand sides of (3.1) are carried through as extra rows, so the
correctors inside need never be formed; the load of T likewise, for source correctors. Elements outside D have
zero blocks, and rows of nodes on Γ_D are zero: all patches have one shape, but for the nodes of open ends (see
:mod:`nnlod_fenics.lod.ends`). A pivot that nothing contributes to is set to one.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nnlod_fenics.errors import NumericalError
from nnlod_fenics.grid import Grid, lattice
from nnlod_fenics.lod.budget import element_numbers, patch_numbers
from nnlod_fenics.lod.dense import BlockSum, Factors, fill_empty_pivots, forward, inverse_factor, pick, product, square
from nnlod_fenics.lod.elimination import HAT, MULTIPLIER, NODE, Labels, Merge, Plan, Sides, make_plan
from nnlod_fenics.lod.ends import PatchEnds
from nnlod_fenics.lod.interpolation import element_hats
from nnlod_fenics.lod.leaves import leaf_templates
from nnlod_fenics.lod.threads import spread_over_threads
from nnlod_fenics.runtime.memory import free_bytes

__all__ = ["Condensation", "default_chunk", "free_memory"]

IntArray = npt.NDArray[np.int64]


_ALIGNED = 16  # elements: BLAS treats what is over at the end of a product apart, with other rounding errors
_ROWS = 4  # rows of patches, d = 3: each but the outer two merges along z are shared by three of them


class Condensation:
    """Static condensation of one batch of coefficients.

    Args:
        grid: The discretisation.
        A: Coefficients on T_ε, shape ``(n, 1/ε, …)`` or ``(n, 1/ε, …, d, d)``, checked.
        device: ``"cpu"`` or a CUDA device.
        dtype: Floating-point type of the computation.
        elements: Numbers of the elements for which :meth:`patches` will be called; all if None. Only blocks of
            elements in their patches are computed and kept.
        loads: F_T at the fine nodes of all elements of the box, shape ``(num_elements, (r+1)^d)``, for source
            correctors; none if None.
    """

    def __init__(
        self,
        grid: Grid,
        A: npt.NDArray[np.float64],
        device: str | torch.device,
        dtype: torch.dtype,
        elements: IntArray | None = None,
        loads: npt.NDArray[np.float64] | None = None,
    ) -> None:
        self.grid, self.ends = grid, PatchEnds(grid)
        self.record: dict[tuple[int | str, ...], Any] | None = None
        self._memory: dict[tuple[int | str, ...], Tensor] = {}
        self.loads, self.sources = loads is not None, 2**grid.dim + (loads is not None)
        self.plan = make_plan(grid.dim, grid.ratio, grid.ell, self.loads)
        self.device, self.dtype = torch.device(device), dtype
        spread = grid.cells_per_coefficient
        tensor = A.ndim > grid.dim + 1
        if not self.plan.leaves.cut_evenly(spread):
            A, spread = np.stack([grid.refine(a, grid.dim) for a in A]), 1
        side = grid.widths[0] if grid.cubes else math.prod(grid.widths) ** (1 / grid.dim)
        stretch = tuple(1.0 if grid.cubes else side / width for width in grid.widths)
        templates = leaf_templates(grid.ratio, self.plan.leaves, spread, tensor, stretch)
        self._per_cell, self._constant = ([torch.from_numpy(t).to(self.device, dtype) for t in ts] for ts in templates)
        values = torch.from_numpy(np.ascontiguousarray(A)).to(self.device, dtype)
        self._leaf_values = self._split(values, spread, side ** (grid.dim - 2))
        self._leaf_loads = [] if loads is None else self._split_loads(loads)
        self._kept_elements: Tensor | None = None
        needed = grid.active_elements if elements is None else grid.elements_around(elements)
        numbers = (np.arange(len(A))[:, None] * grid.num_elements + needed).ravel()
        bytes_needed = (len(numbers) + 1) * len(self.plan.element) ** 2 * values.element_size()
        if len(numbers) and not grid.trivial_fine_scale and bytes_needed <= free_memory(self.device) // 4:
            self._kept_slots = np.full(len(A) * grid.num_elements + 1, len(numbers) + 1)  # no block: an index error
            self._kept_slots[np.append(numbers, -1)] = np.arange(len(numbers) + 1)
            self._kept_elements = self._compute_elements(np.append(numbers, -1))  # the last one is zero

    def _split(self, A: Tensor, spread: int, scale: float) -> list[Tensor]:
        """Sort cell values, times a factor, by leaf and element: for each leaf, shape ``(n·elements, cells)``."""
        grid, leaves = self.grid, self.plan.leaves
        d = grid.dim
        shape = [n for elements in grid.element_shape for n in (elements, grid.ratio // spread)]
        values = A.reshape(len(A), *shape, -1)
        order = [1 + 2 * axis + which for which in (0, 1) for axis in range(d)]
        values = values.permute(0, *order, 1 + 2 * d).flatten(0, d)  # axes: element, a cell dimension each, components
        result = []
        for leaf, corner in zip(leaves.boxes, leaves.corners, strict=True):
            sides = zip(corner[::-1].tolist(), leaf.size[::-1], strict=True)
            box = tuple(slice(start // spread, (start + width) // spread) for start, width in sides)
            result.append(scale * values[(slice(None), *box)].reshape(len(values), -1))
        return result

    def _split_loads(self, loads: npt.NDArray[np.float64]) -> list[Tensor]:
        """Rows of the loads in the matrices of leaves: for each leaf, shape ``(elements, m)``.

        A node that several leaves share has its load in one of them.
        """
        grid, hats = self.grid, element_hats(self.grid.dim, self.grid.ratio)
        strides, free = (grid.ratio + 1) ** np.arange(grid.dim), np.ones(len(hats), dtype=bool)
        result = []
        for leaf, corner in zip(self.plan.leaves.boxes, self.plan.leaves.corners, strict=True):
            labels = Labels.join([Labels.of(NODE, leaf.inner), leaf.labels])
            at = (labels.position[labels.nodes] + corner) @ strides
            own, rows = loads[:, at] * free[at], np.zeros((len(loads), len(labels)))
            free[at] = False
            rows[:, labels.nodes], rows[:, labels.at(HAT)] = own, own @ hats[at]
            result.append(torch.from_numpy(rows).to(self.device, self.dtype))
        return result

    # -- levels 1 and 2 ----------------------------------------------------------------------------------

    def kept_blocks(self, which: IntArray) -> Tensor:
        """Blocks of active elements without the sources: those that are kept, or computed anew.

        Args:
            which: Numbers ``realization * num_elements + element``.

        Returns:
            Shape ``(len(which), m, m)``: nodes, hats, multipliers, and with loads the load.
        """
        if self._kept_elements is None:
            blocks = self._compute_elements(which)
        else:
            blocks = self._kept_elements[torch.from_numpy(self._kept_slots[which]).to(self.device)]
        rest, count = len(self.plan.element) - self.sources, 2**self.grid.dim
        rows = torch.cat([torch.arange(rest), torch.arange(rest + count, len(self.plan.element))]).to(self.device)
        return blocks[:, rows][:, :, rows]

    def element_blocks(self, which: IntArray) -> Tensor:
        """Blocks of elements.

        Args:
            which: Numbers ``realization * num_elements + element``.

        Returns:
            Shape ``(len(which), m, m)``, rows as in ``plan.element``, zero for nodes on Γ_D.
        """
        filled = np.pad(which, (0, -len(which) % _ALIGNED), mode="edge")  # so that no bit depends on the batch
        chosen = torch.from_numpy(filled).to(self.device)
        blocks = []
        parts = zip(self._leaf_values, self._per_cell, self._constant, strict=True)
        for leaf, (values, per_cell, constant) in enumerate(parts):
            m = len(constant)
            matrix = torch.addmm(constant.reshape(1, -1), values[chosen], per_cell.reshape(-1, m * m))
            matrix = matrix[: len(which)].reshape(-1, m, m)
            if self.loads:
                own = self._leaf_loads[leaf][chosen[: len(which)] % self.grid.num_elements]
                matrix[:, -1], matrix[:, :, -1] = own, own
            blocks.append(self._eliminate_leaf(matrix, leaf))
        for level, merged in enumerate(self.plan.inside):
            blocks = [
                self._merge([blocks[child] for child in part.children], part.merge, None, "inside", level, number)
                for number, part in enumerate(merged)
            ]
        block = self._with_sources(blocks[0])
        self._clear_boundary(block, which % self.grid.num_elements)
        return block

    def _with_sources(self, block: Tensor) -> Tensor:
        """Append the rows of the hats once more, before that of the load: as right-hand sides of (3.1)."""
        size = len(self.plan.element)
        rest, hats = size - self.sources, torch.from_numpy(self.plan.element.at(HAT)).to(self.device)
        own = slice(rest, rest + 2**self.grid.dim)
        result = block.new_empty((len(block), size, size))
        result[:, :rest, :rest] = block[:, :rest, :rest]
        result[:, own, :rest] = block[:, hats, :rest]
        if self.loads:
            result[:, -1, :rest] = block[:, -1, :rest]
            result[:, :, -1] = result[:, -1, :].clone()
            result[:, own, -1] = block[:, hats, -1]
            result[:, -1, own] = block[:, hats, -1]
            result[:, -1, -1] = block[:, -1, -1]
        result[:, :rest, own] = result[:, :rest, hats]
        result[:, own, own] = result[:, own, hats]
        return result

    def _clear_boundary(self, block: Tensor, elements: IntArray) -> None:
        """Clear rows and columns of fine nodes and multipliers on Γ_D."""
        grid, labels = self.grid, self.plan.element
        position, last = grid.elements[elements], np.asarray(grid.coarse) - 1
        low, high = (
            np.array([f"{axis}{side}" in grid.dirichlet for axis in "xyz"[: grid.dim]]) for side in ("min", "max")
        )
        sides = ((position == 0) & low).astype(int) + 2 * ((position == last) & high)
        step = np.where(labels.nodes, grid.ratio, 1)[:, None]
        for side in np.unique(sides, axis=0):
            touching = np.flatnonzero((sides == side).all(axis=1))
            given = ((labels.position == 0) & (side % 2 == 1)) | ((labels.position == step) & (side > 1))
            bound = (labels.nodes | (labels.kind == MULTIPLIER)) & given.any(axis=1)
            rows = torch.from_numpy(touching).to(self.device)[:, None]
            columns = torch.from_numpy(np.flatnonzero(bound)).to(self.device)[None]
            block[rows, columns] = 0
            block.mT[rows, columns] = 0

    # -- level 3 -----------------------------------------------------------------------------------------

    def blocks(self, plan: Plan, level: int, positions: IntArray) -> Tensor:
        """Blocks after the first ``level`` window merges.

        Args:
            plan: The plan for the open sides of the patches.
            level: 0 for elements, ``d − 1`` for strips.
            positions: Realization and position (x first) of each block: the element's for axes not yet
                merged, the center's for merged ones; shape ``(k, 1 + d)``.

        Returns:
            Shape ``(k, m, m)``.
        """
        if level == 0:
            return self._padded_elements(positions)
        available, index = self._below(plan, level, positions)
        return self._join(plan, level, available, index, positions)

    def _below(self, plan: Plan, level: int, positions: IntArray) -> tuple[Tensor, IntArray]:
        """The children of blocks: all that occur, and which of them each block has, shape ``(k, children)``."""
        merge = plan.windows[level - 1]
        children = positions[:, None, :] + np.pad(merge.offsets, ((0, 0), (1, 0)))[None]
        unique, inverse = np.unique(children.reshape(-1, positions.shape[1]), axis=0, return_inverse=True)
        return self.blocks(plan, level - 1, unique), inverse.reshape(len(positions), -1)

    def _join(self, plan: Plan, level: int, available: Tensor, index: IntArray, positions: IntArray) -> Tensor:
        self._note(index, "children", level)
        children = [pick(available, index[:, k]) for k in range(index.shape[1])]
        return self._merge(children, plan.windows[level - 1], self._pins(plan, level, positions), "window", level)

    def _pins(self, plan: Plan, level: int, positions: IntArray) -> Tensor | None:
        """Zeros for the rows of the sum that are pinned, ones for the others; None if there are none."""
        merge, axis = plan.windows[level - 1], self.grid.dim - level
        labels = Labels.join([merge.inner, merge.labels])
        pinned = np.zeros((len(positions), len(labels)), dtype=bool)
        for upper in np.flatnonzero(merge.opened):
            pinned |= self.ends.pinned(labels, axis, bool(upper), positions[:, 1:])
        return self._kept(pinned)

    def _kept(self, pinned: npt.NDArray[np.bool_]) -> Tensor | None:
        return torch.from_numpy(~pinned).to(self.device, self.dtype) if pinned.any() else None

    def _padded_elements(self, positions: IntArray) -> Tensor:
        """Blocks of elements, zero outside D; all are computed once and kept where memory allows."""
        grid, at = self.grid, positions[:, 1:]
        inside = np.asarray(((at >= 0) & (at < np.asarray(grid.coarse))).all(axis=1))
        own = grid.element_numbers(np.where(inside[:, None], at, 0))
        inside &= grid.active.ravel()[own]
        numbers = np.where(inside, positions[:, 0] * grid.num_elements + own, -1)
        if self.record is not None and self._kept_elements is None:  # the factors inside elements are wanted too
            self._note(np.where(inside, np.cumsum(inside) - 1, -1), "elements")
            m = len(self.plan.element)
            result = torch.zeros((len(numbers), m, m), device=self.device, dtype=self.dtype)
            result[torch.from_numpy(inside).to(self.device)] = self.element_blocks(numbers[inside])
            return result
        if self._kept_elements is not None:
            return self._kept_elements[torch.from_numpy(self._kept_slots[numbers]).to(self.device)]
        return self._compute_elements(numbers)

    def _compute_elements(self, numbers: IntArray) -> Tensor:
        m = len(self.plan.element)
        result = torch.zeros((len(numbers), m, m), device=self.device, dtype=self.dtype)
        inside = np.flatnonzero(numbers >= 0)
        batch = self._batch()

        def compute(part: IntArray) -> None:
            result[torch.from_numpy(part).to(self.device)] = self.element_blocks(numbers[part])

        spread_over_threads(compute, np.split(inside, range(batch, len(inside), batch)), self.device)
        return result

    def _batch(self) -> int:
        """Elements to eliminate at a time: as many as keep BLAS busy, fewer where memory is short."""
        cpu = self.device.type == "cpu"
        threads = torch.get_num_threads() if cpu else 1
        bytes_needed = element_numbers(self.plan) * self._constant[0].element_size() * threads
        return max(min(free_memory(self.device) // 4 // bytes_needed, 64 if cpu else 4096), 1)

    # -- level 4 -----------------------------------------------------------------------------------------

    def patches(self, positions: IntArray) -> Tensor:
        """Local matrices of the patches around elements, and with loads the corrected load of T as a last column.

        Args:
            positions: Realization and position of T (x first), shape ``(k, 1 + d)``.

        Returns:
            Shape ``(k, (2ℓ+2)^d, 2^d)``, or ``(k, (2ℓ+2)^d, 2^d + 1)``.

        Raises:
            NumericalError: If a factorisation fails; the message names the patch.
        """
        elements = self.grid.element_numbers(positions[:, 1:])
        if self.grid.trivial_fine_scale:
            return self.trivial(positions[:, 0] * self.grid.num_elements + elements)
        shape = (len(positions), self.grid.num_patch_nodes, self.sources)
        result = torch.empty(shape, dtype=self.dtype, device=self.device)
        for sides, places in self.ends.variants(elements):
            for found, part in self._patches(self.variant(sides), positions[places]):
                result[torch.from_numpy(places[part]).to(self.device)] = found
        return result

    def variant(self, sides: tuple[Sides, ...]) -> Plan:
        """The plan for patches with some open sides."""
        if not any(any(side) for side in sides):
            return self.plan
        return make_plan(self.grid.dim, self.grid.ratio, self.grid.ell, self.loads, sides)

    def _patches(self, plan: Plan, positions: IntArray) -> Iterator[tuple[Tensor, IntArray]]:
        """Local matrices of patches with the same open sides but for x; and which ones they are."""
        ell, top = self.grid.ell, self.grid.dim - 1
        steps = np.zeros((2 * ell + 1, positions.shape[1]), dtype=np.int64)
        steps[:, 1] = np.arange(-ell, ell + 1)
        children = (positions[:, None, :] + steps[None]).reshape(-1, positions.shape[1])
        unique, inverse = np.unique(children, axis=0, return_inverse=True)
        index = inverse.reshape(len(positions), -1)
        self._note(index, "strips")
        self._note(plan, "plan")
        available, below = self._below(plan, top, unique) if top else (self.blocks(plan, 0, unique), index)
        for row in self._rows(positions):
            used, own = np.unique(index[row], return_inverse=True)
            strips = self._join(plan, top, available, below[used], unique[used]) if top else available
            own = own.reshape(len(row), -1) if top else index[row]
            for sides, part in self.ends.ends(self.grid.element_numbers(positions[row, 1:])):
                chosen = [pick(strips, own[part, k]) for k in range(own.shape[1])]
                carried = self._close(plan, chosen, sides, positions[row[part]])
                yield self._local_matrices(carried, positions[row[part]]), row[part]

    def _rows(self, positions: IntArray) -> list[IntArray]:
        """Cut patches into rows along x, d = 3: strips are large there, and of a row they need no copies."""
        numbers = np.arange(len(positions))
        if self.grid.dim < 3 or self.record is not None:
            return [numbers]
        return np.split(numbers, np.flatnonzero(np.diff(positions[:, [0, 2, 3]], axis=0).any(axis=1)) + 1)

    def _close(self, plan: Plan, strips: list[Tensor], opened: Sides, positions: IntArray) -> Tensor:
        """Eliminate the faces between strips, and at open ends the outermost ones.

        Returns:
            Matrices on hats and multipliers (column by column along x) and sources.
        """
        ell, face, column, sources = self.grid.ell, plan.face, self.column, self.sources
        size = (2 * ell + 2) * column
        total = self._scratch(("total",), len(strips[0]), size + sources, size + sources).zero_()
        for k, strip in enumerate(strips):
            at = slice(k * column, (k + 2) * column)
            total[:, at, at] += strip[:, 2 * face : -sources, 2 * face : -sources]
        center = strips[ell]
        own = slice(ell * column, (ell + 2) * column)
        total[:, own, size:] = center[:, 2 * face : -sources, -sources:]
        if ell == 0 and not any(opened):  # both faces lie on the patch boundary
            return total
        pins = [self._end_pins(plan, upper, opened[upper], positions) for upper in (0, 1)]
        sides = [self._sweep(plan, strips, total, upper, opened[upper], pins[upper]) for upper in (0, 1)]
        width = size + sources
        pivot = center[:, :face, :face] + sides[0][0]
        right = self._scratch(("right center",), len(center), face, face + width).zero_()
        right[:, :, :face] = center[:, :face, face : 2 * face]
        right[:, :, face:][:, :, own] = center[:, :face, 2 * face : -sources]
        right[:, :, face + size :] = center[:, :face, -sources:]
        right[:, :, face : face + sides[0][1].shape[2]] += sides[0][1]
        if ell == 0:
            _pin(pivot, right, pins[0], pins[1])
        product = self._square(self._half_solve(pivot, right, "face", ell), "center")
        pivot = center[:, face : 2 * face, face : 2 * face] + sides[1][0] - product[:, :face, :face]
        right = -product[:, :face, face:]
        right[:, :, own] += center[:, face : 2 * face, 2 * face : -sources]
        right[:, :, size:] += center[:, face : 2 * face, -sources:]
        right[:, :, size - sides[1][1].shape[2] : size] += sides[1][1]
        if ell == 0:
            _pin(pivot, right, pins[1])
        total -= product[:, face:, face:]
        total -= self._square(self._half_solve(pivot, right, "face", ell + 1), "last")
        return total

    def _end_pins(self, plan: Plan, upper: int, opened: bool, positions: IntArray) -> Tensor | None:
        """Zeros for the nodes that are pinned on the outermost face at an end along x, ones for the others."""
        if not opened:  # without layers the faces of the center are looked at in any case
            return self._kept(np.full((len(positions), plan.face), self.grid.ell == 0))
        labels = plan.strip[np.arange(plan.face) + upper * plan.face]
        shift = np.eye(1, self.grid.dim, dtype=np.int64) * (upper * 2 * self.grid.ell * self.grid.ratio)
        at_end = Labels(labels.kind, labels.position + shift)
        return self._kept(self.ends.pinned(at_end, 0, bool(upper), positions[:, 1:]))

    def _sweep(
        self, plan: Plan, strips: list[Tensor], total: Tensor, upper: int, opened: bool, pins: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Eliminate the faces on one side of the center strip, from the patch boundary inwards.

        Returns:
            What remains on the last face: its diagonal block, and its coupling to the carried columns
            reached so far (the first ones from the low side, the last ones from the high side).
        """
        ell, face, column, sources = self.grid.ell, plan.face, self.column, self.sources
        order = list(range(2 * ell, ell, -1)) if upper else list(range(ell))
        first, second = slice(0, face), slice(face, 2 * face)
        outer, inner = (second, first) if upper else (first, second)

        def between(strip: Tensor) -> Tensor:
            block = strip[:, first, second]  # the blocks below the diagonal are not kept up
            return block.mT if upper else block

        own = slice(2 * face, 2 * face + 2 * column)
        start = strips[order[0] if order else ell]
        if order and not opened:
            diagonal, carried = start[:, inner, inner], start[:, inner, own]
        else:
            diagonal, carried = start.new_zeros((1, face, face)), start.new_zeros((1, face, column))
        for step, k in list(enumerate(order))[0 if opened else 1 :]:
            strip, width = strips[k], (step + 2) * column
            new = slice(0, 2 * column) if upper else slice(width - 2 * column, width)
            old = slice(column, width) if upper else slice(0, width - column)
            right = self._scratch(("right face", step), len(strip), face, face + width).zero_()
            right[:, :, :face] = between(strip)
            right[:, :, face:][:, :, old] = carried
            right[:, :, face:][:, :, new] += strip[:, outer, own]
            pivot = diagonal + strip[:, outer, outer]
            if step == 0:
                _pin(pivot, right, pins)
            place = ("face", k + 1 if upper else k)
            product = self._square(self._half_solve(pivot, right, *place), *place)
            diagonal = strip[:, inner, inner] - product[:, :face, :face]
            carried = -product[:, :face, face:]
            carried[:, :, new] += strip[:, inner, own]
            reached = slice(total.shape[1] - sources - width, -sources) if upper else slice(0, width)
            total[:, reached, reached] -= product[:, face:, face:]
        return diagonal, carried

    def _eliminate_leaf(self, matrix: Tensor, leaf: int) -> Tensor:
        """Eliminate the inner nodes of leaves: the first rows of matrices of shape ``(batch, m, m)``."""
        count = self.plan.leaves.boxes[leaf].eliminated
        if count == 0:
            return matrix
        factors = self._half_solve(matrix[:, :count, :count], matrix[:, :count, count:], "leaf", leaf)
        return matrix[:, count:, count:] - self._square(factors, "leaf")

    def _merge(self, children: list[Tensor], merge: Merge, pins: Tensor | None, *place: int | str) -> Tensor:
        """Add the blocks of the children, clear what is pinned, and eliminate what has become inner."""
        batch, count, rest = len(children[0]), merge.eliminated, len(merge.labels)
        total = BlockSum(
            self._scratch(("pivot", *place), batch, count, count).zero_(),
            self._scratch(("right", *place), batch, count, rest).zero_(),
            self._scratch(("rest", *place), batch, rest, rest).zero_(),
        )
        for child, runs, carried in zip(children, merge.runs, merge.carried, strict=True):
            total.add(child, runs, carried)
        if pins is not None:
            _pin(total.pivot, total.coupling, pins[:, :count], pins[:, count:])
            _pin(total.rest, total.rest, pins[:, count:])
        if count == 0:
            return total.rest
        total.rest.sub_(self._square(self._half_solve(total.pivot, total.coupling, *place), *place))
        return total.rest

    def _half_solve(self, pivot: Tensor, right: Tensor, *place: int | str) -> Tensor:
        """L⁻¹ B for pivot blocks P = L Lᵀ; fills empty pivots with ones."""
        fill_empty_pivots(pivot)
        coupling = self._scratch(("coupling", *place), *right.shape)
        if self.record is None:
            forward(pivot, right, coupling)
        else:
            inverse = inverse_factor(pivot)
            self.record[place] = Factors(inverse, product(inverse, right, coupling))
        return coupling

    def _square(self, x: Tensor, *place: int | str) -> Tensor:
        return square(x, self._scratch(("square", *place), len(x), x.shape[2], x.shape[2]))

    def _scratch(self, place: tuple[int | str, ...], *shape: int) -> Tensor:
        """Memory of a thread for a temporary, the same at every call: fresh memory costs a fault every 4 KiB."""
        size = math.prod(shape)
        if self.record is not None or self.device.type != "cpu":
            return torch.empty(shape, dtype=self.dtype, device=self.device)
        key = (threading.get_ident(), *place)
        if key not in self._memory or len(self._memory[key]) < size:
            self._memory[key] = torch.empty(size, dtype=self.dtype)
        return self._memory[key][:size].view(shape)

    def _note(self, what: Any, *place: int | str) -> None:
        """Keep what back substitution needs, if it will be done."""
        if self.record is not None:
            self.record[place] = what

    @property
    def column(self) -> int:
        """Carried rows of one layer of coarse nodes across x: a hat and a multiplier a node."""
        return 2 * (2 * self.grid.ell + 2) ** (self.grid.dim - 1)

    def carried_rows(self) -> tuple[Tensor, Tensor]:
        """Rows of the hats and of the multipliers of the patch nodes, x fastest, after the last elimination."""
        width, dim = 2 * self.grid.ell + 2, self.grid.dim
        node = lattice(*(width,) * dim)
        hats = torch.from_numpy(node[:, 0] * self.column + node[:, 1:] @ width ** np.arange(dim - 1)).to(self.device)
        return hats, hats + self.column // 2

    def _local_matrices(self, carried: Tensor, positions: IntArray) -> Tensor:
        """Eliminate the multipliers: (3.6)."""
        hat, multiplier = self.carried_rows()
        sources = slice(-self.sources, None)
        gram = -carried[:, multiplier][:, :, multiplier]
        right = carried[:, multiplier]
        fill_empty_pivots(gram)
        inverse = inverse_factor(gram)
        solved = inverse.mT @ (inverse @ right[:, :, sources])
        self._note(solved, "multipliers")
        result = carried[:, hat][:, :, sources] + carried[:, hat][:, :, multiplier] @ solved
        self._check(result, positions)
        return result

    def _check(self, matrices: Tensor, positions: IntArray) -> None:
        bad = torch.nonzero(~torch.isfinite(matrices).flatten(1).all(dim=1))
        if len(bad):
            realization, *at = positions[int(bad[0, 0])].tolist()
            raise NumericalError(
                f"the factorisation for the patch of element {self.grid.element_numbers(np.array(at))} "
                f"at {tuple(at)} of realization {realization} failed: its matrix is not positive definite in "
                f"{str(self.dtype).removeprefix('torch.')}."
            )

    def trivial(self, which: IntArray) -> Tensor:
        """Local matrices where all correctors vanish: the stiffness matrices of the elements."""
        grid = self.grid
        leaf = self.plan.leaves.boxes[0]  # the only one: with a fine scale this coarse, an element is a leaf
        rows = torch.from_numpy(leaf.labels.at(HAT) + leaf.eliminated).to(self.device)
        values = self._leaf_values[0][torch.from_numpy(which).to(self.device)]
        energy = torch.einsum("ec,cij->eij", values, self._per_cell[0][:, rows][:, :, rows])
        slots = (grid.ell + lattice(*(2,) * grid.dim)) @ (2 * grid.ell + 2) ** np.arange(grid.dim)
        result = energy.new_zeros((len(energy), grid.num_patch_nodes, self.sources))
        slot = torch.from_numpy(slots).to(self.device)
        result[:, slot, : 2**grid.dim] = energy
        if self.loads:
            own = torch.from_numpy(which % grid.num_elements).to(self.device)
            result[:, slot, -1] = self._leaf_loads[0][own][:, rows]
        return result


def _pin(block: Tensor, right: Tensor, kept: Tensor | None, columns: Tensor | None = None) -> None:
    """Clear the rows and columns of pinned nodes in a diagonal block, and their rows in what stands right of it.

    Args:
        block: Square, changed in place.
        right: As many rows, changed in place.
        kept: 0 for pinned rows, 1 for others; all are kept if None.
        columns: The same for the first columns of ``right``.
    """
    if kept is not None:
        block *= kept[:, :, None] * kept[:, None, :]
        if right is not block:
            right *= kept[:, :, None]
    if columns is not None:
        right[:, :, : columns.shape[1]] *= columns[:, None, :]


def free_memory(device: torch.device) -> int:
    """Bytes that may still be taken there."""
    if device.type == "cpu":
        return free_bytes()
    return int(torch.cuda.mem_get_info(device)[0])


def default_chunk(grid: Grid, device: str, itemsize: int) -> int:
    """Number of patches to treat at a time.

    Args:
        grid: The discretisation.
        device: Where.
        itemsize: Bytes of a number.

    Returns:
        On a CPU one row of patches along x, which share strips; larger batches only leave the caches. For d = 3
        some rows, as memory allows: neighbours along y share what was merged along z. Less than a row, down to
        one patch, where memory is short. Elsewhere as many rows as a quarter of the free memory holds.
    """
    cpu = device == "cpu"
    free = free_memory(torch.device(device))
    plan = make_plan(grid.dim, grid.ratio, grid.ell)
    if cpu:
        alone = free // 4 // (itemsize * patch_numbers(grid, plan))
        if grid.dim < 3 or alone < 1:
            return max(min(alone, grid.coarse[0]), 1)
    width = 2 * grid.ell + 1
    widest = max([width * len(plan.element) ** 2, *(2 * merge.size**2 for merge in plan.windows)])
    patch = width * len(plan.strip) ** 2 + 12 * plan.face**2
    rows = free // (8 if cpu else 4) // (itemsize * (widest + patch) * grid.coarse[0])
    return grid.coarse[0] * max(min(rows, _ROWS) if cpu else rows, 1)
