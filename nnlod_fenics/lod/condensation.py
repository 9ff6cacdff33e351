"""Local matrices by static condensation with batched dense linear algebra: the fast way.

Four levels, each shared by all patches that need its result:

1. leaves: squares (cubes) of fine cells inside an element; their inner nodes are eliminated;
2. elements: leaves merged by nested dissection until only the element's boundary remains;
3. strips: 2ℓ+1 elements across x (for d = 3 first along z, then along y); a strip belongs to all patches
   shifted along x;
4. patches: 2ℓ+1 strips, a block-tridiagonal system over the faces between them, eliminated from both ends
   towards T.

Coarse hats, multipliers of I_H and the right-hand sides of (3.1) are carried through as extra rows, so the
correctors inside need never be formed. Elements outside D have zero blocks, and rows of nodes on ∂D are
zero: all patches have one shape. A pivot that nothing contributes to is set to one.
"""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nnlod_fenics.errors import NumericalError
from nnlod_fenics.grid import Grid, lattice
from nnlod_fenics.lod.budget import element_numbers, patch_numbers
from nnlod_fenics.lod.dense import BlockSum, Factors, fill_empty_pivots, forward, inverse_factor, pick, product, square
from nnlod_fenics.lod.elimination import HAT, MULTIPLIER, Merge, make_plan
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
    """

    def __init__(
        self,
        grid: Grid,
        A: npt.NDArray[np.float64],
        device: str | torch.device,
        dtype: torch.dtype,
        elements: IntArray | None = None,
    ) -> None:
        self.grid = grid
        self.record: dict[tuple[int | str, ...], Any] | None = None
        self._memory: dict[tuple[int | str, ...], Tensor] = {}
        self.plan = make_plan(grid.dim, grid.ratio, grid.ell)
        self.device, self.dtype = torch.device(device), dtype
        spread = grid.fine // grid.coefficient
        tensor = A.ndim > grid.dim + 1
        if not self.plan.leaves.cut_evenly(spread):
            A, spread = np.stack([grid.refine(a, grid.dim) for a in A]), 1
        templates = leaf_templates(grid.ratio, self.plan.leaves, spread, tensor)
        self._per_cell, self._constant = ([torch.from_numpy(t).to(self.device, dtype) for t in ts] for ts in templates)
        values = torch.from_numpy(np.ascontiguousarray(A)).to(self.device, dtype)
        self._leaf_values = self._split(values, spread)
        self._kept_elements: Tensor | None = None
        needed = np.arange(grid.num_elements) if elements is None else _elements_of_patches(grid, elements)
        numbers = (np.arange(len(A))[:, None] * grid.num_elements + needed).ravel()
        bytes_needed = (len(numbers) + 1) * len(self.plan.element) ** 2 * values.element_size()
        if len(numbers) and not grid.trivial_fine_scale and bytes_needed <= free_memory(self.device) // 4:
            self._kept_slots = np.full(len(A) * grid.num_elements + 1, len(numbers) + 1)  # no block: an index error
            self._kept_slots[np.append(numbers, -1)] = np.arange(len(numbers) + 1)
            self._kept_elements = self._compute_elements(np.append(numbers, -1))  # the last one is zero

    def _split(self, A: Tensor, spread: int) -> list[Tensor]:
        """Sort cell values by leaf and element: for each leaf, shape ``(n·elements, cells)``."""
        grid, leaves = self.grid, self.plan.leaves
        d = grid.dim
        values = A.reshape(len(A), *(grid.coarse, grid.ratio // spread) * d, -1)
        order = [1 + 2 * axis + which for which in (0, 1) for axis in range(d)]
        values = values.permute(0, *order, 1 + 2 * d).flatten(0, d)  # axes: element, a cell dimension each, components
        scale = float(grid.coarse) ** (2 - d)  # a cell's form on an element of width H
        result = []
        for leaf, corner in zip(leaves.boxes, leaves.corners, strict=True):
            sides = zip(corner[::-1].tolist(), leaf.size[::-1], strict=True)
            box = tuple(slice(start // spread, (start + width) // spread) for start, width in sides)
            result.append(scale * values[(slice(None), *box)].reshape(len(values), -1))
        return result

    # -- levels 1 and 2 ----------------------------------------------------------------------------------

    def element_blocks(self, which: IntArray) -> Tensor:
        """Blocks of elements.

        Args:
            which: Numbers ``realization * num_elements + element``.

        Returns:
            Shape ``(len(which), m, m)``, rows as in ``plan.element``, zero for nodes on ∂D.
        """
        filled = np.pad(which, (0, -len(which) % _ALIGNED), mode="edge")  # so that no bit depends on the batch
        chosen = torch.from_numpy(filled).to(self.device)
        blocks = []
        parts = zip(self._leaf_values, self._per_cell, self._constant, strict=True)
        for leaf, (values, per_cell, constant) in enumerate(parts):
            m = len(constant)
            matrix = torch.addmm(constant.reshape(1, -1), values[chosen], per_cell.reshape(-1, m * m))
            blocks.append(self._eliminate_leaf(matrix[: len(which)].reshape(-1, m, m), leaf))
        for level, merged in enumerate(self.plan.inside):
            blocks = [
                self._merge([blocks[child] for child in part.children], part.merge, "inside", level, number)
                for number, part in enumerate(merged)
            ]
        block = self._with_sources(blocks[0])
        self._clear_boundary(block, which % self.grid.num_elements)
        return block

    def _with_sources(self, block: Tensor) -> Tensor:
        """Append the rows of the hats once more: as right-hand sides of (3.1)."""
        size = len(self.plan.element)
        rest, hats = size - 2**self.grid.dim, torch.from_numpy(self.plan.element.at(HAT)).to(self.device)
        result = block.new_empty((len(block), size, size))
        result[:, :rest, :rest] = block
        result[:, rest:, :rest] = block[:, hats]
        result[:, :, rest:] = result[:, :, hats]
        return result

    def _clear_boundary(self, block: Tensor, elements: IntArray) -> None:
        """Clear rows and columns of fine nodes and multipliers on ∂D."""
        grid, labels = self.grid, self.plan.element
        position = grid.elements[elements]
        sides = (position == grid.coarse - 1).astype(int) - (position == 0) + 3 * (grid.coarse == 1)
        for side in np.unique(sides, axis=0):
            touching = np.flatnonzero((sides == side).all(axis=1))
            at = position[touching[0]] * np.where(labels.nodes, grid.ratio, 1)[:, None] + labels.position
            end = np.where(labels.nodes, grid.fine, grid.coarse)[:, None]
            bound = (labels.nodes | (labels.kind == MULTIPLIER)) & ((at == 0) | (at == end)).any(axis=1)
            rows = torch.from_numpy(touching).to(self.device)[:, None]
            columns = torch.from_numpy(np.flatnonzero(bound)).to(self.device)[None]
            block[rows, columns] = 0
            block.mT[rows, columns] = 0

    # -- level 3 -----------------------------------------------------------------------------------------

    def blocks(self, level: int, positions: IntArray) -> Tensor:
        """Blocks after the first ``level`` window merges.

        Args:
            level: 0 for elements, ``d − 1`` for strips.
            positions: Realization and position (x first) of each block: the element's for axes not yet
                merged, the center's for merged ones; shape ``(k, 1 + d)``.

        Returns:
            Shape ``(k, m, m)``.
        """
        if level == 0:
            return self._padded_elements(positions)
        available, index = self._below(level, positions)
        return self._join(level, available, index)

    def _below(self, level: int, positions: IntArray) -> tuple[Tensor, IntArray]:
        """The children of blocks: all that occur, and which of them each block has, shape ``(k, children)``."""
        merge = self.plan.windows[level - 1]
        children = positions[:, None, :] + np.pad(merge.offsets, ((0, 0), (1, 0)))[None]
        unique, inverse = np.unique(children.reshape(-1, positions.shape[1]), axis=0, return_inverse=True)
        return self.blocks(level - 1, unique), inverse.reshape(len(positions), -1)

    def _join(self, level: int, available: Tensor, index: IntArray) -> Tensor:
        self._note(index, "children", level)
        children = [pick(available, index[:, k]) for k in range(index.shape[1])]
        return self._merge(children, self.plan.windows[level - 1], "window", level)

    def _numbers(self, positions: IntArray) -> IntArray:
        return positions @ self.grid.coarse ** np.arange(self.grid.dim)

    def _padded_elements(self, positions: IntArray) -> Tensor:
        """Blocks of elements, zero outside D; all are computed once and kept where memory allows."""
        grid, at = self.grid, positions[:, 1:]
        inside = ((at >= 0) & (at < grid.coarse)).all(axis=1)
        numbers = np.where(inside, positions[:, 0] * grid.num_elements + self._numbers(at), -1)
        if self.record is not None:
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
        """Local matrices of the patches around elements.

        Args:
            positions: Realization and position of T (x first), shape ``(k, 1 + d)``.

        Returns:
            Shape ``(k, (2ℓ+2)^d, 2^d)``.

        Raises:
            NumericalError: If a factorisation fails; the message names the patch.
        """
        if self.grid.trivial_fine_scale:
            numbers = positions[:, 0] * self.grid.num_elements + self._numbers(positions[:, 1:])
            return self.trivial(numbers)
        ell = self.grid.ell
        steps = np.zeros((2 * ell + 1, positions.shape[1]), dtype=np.int64)
        steps[:, 1] = np.arange(-ell, ell + 1)
        children = (positions[:, None, :] + steps[None]).reshape(-1, positions.shape[1])
        unique, inverse = np.unique(children, axis=0, return_inverse=True)
        index = inverse.reshape(len(positions), -1)
        self._note(index, "strips")
        top = self.grid.dim - 1
        available, below = self._below(top, unique) if top else (self.blocks(0, unique), index)
        result = []
        for row in self._rows(positions):
            used, own = np.unique(index[row], return_inverse=True)
            strips = self._join(top, available, below[used]) if top else available
            own = own.reshape(len(row), -1)
            carried = self._close([pick(strips, own[:, k]) for k in range(own.shape[1])])
            result.append(self._local_matrices(carried, positions[row]))
        return torch.cat(result)

    def _rows(self, positions: IntArray) -> list[IntArray]:
        """Cut patches into rows along x, d = 3: strips are large there, and of a row they need no copies."""
        numbers = np.arange(len(positions))
        if self.grid.dim < 3 or self.record is not None:
            return [numbers]
        return np.split(numbers, np.flatnonzero(np.diff(positions[:, [0, 2, 3]], axis=0).any(axis=1)) + 1)

    def _close(self, strips: list[Tensor]) -> Tensor:
        """Eliminate the faces between strips.

        Returns:
            Matrices on hats and multipliers (column by column along x) and sources.
        """
        ell, face, column = self.grid.ell, self.plan.face, self.column
        sources = 2**self.grid.dim
        size = (2 * ell + 2) * column
        total = self._scratch(("total",), len(strips[0]), size + sources, size + sources).zero_()
        for k, strip in enumerate(strips):
            at = slice(k * column, (k + 2) * column)
            total[:, at, at] += strip[:, 2 * face : -sources, 2 * face : -sources]
        center = strips[ell]
        own = slice(ell * column, (ell + 2) * column)
        total[:, own, size:] = center[:, 2 * face : -sources, -sources:]
        if ell == 0:  # both faces lie on the patch boundary
            return total
        sides = [self._sweep(strips, total, low) for low in (True, False)]
        width = size + sources
        pivot = center[:, :face, :face] + sides[0][0]
        right = self._scratch(("right center",), len(center), face, face + width).zero_()
        right[:, :, :face] = center[:, :face, face : 2 * face]
        right[:, :, face:][:, :, own] = center[:, :face, 2 * face : -sources]
        right[:, :, face + size :] = center[:, :face, -sources:]
        right[:, :, face : face + sides[0][1].shape[2]] += sides[0][1]
        product = self._square(self._half_solve(pivot, right, "face", ell), "center")
        pivot = center[:, face : 2 * face, face : 2 * face] + sides[1][0] - product[:, :face, :face]
        right = -product[:, :face, face:]
        right[:, :, own] += center[:, face : 2 * face, 2 * face : -sources]
        right[:, :, size:] += center[:, face : 2 * face, -sources:]
        right[:, :, size - sides[1][1].shape[2] : size] += sides[1][1]
        total -= product[:, face:, face:]
        total -= self._square(self._half_solve(pivot, right, "face", ell + 1), "last")
        return total

    def _sweep(self, strips: list[Tensor], total: Tensor, low: bool) -> tuple[Tensor, Tensor]:
        """Eliminate the faces on one side of the center strip, from the patch boundary inwards.

        Returns:
            What remains on the last face: its diagonal block, and its coupling to the carried columns
            reached so far (the first ones from the low side, the last ones from the high side).
        """
        ell, face, column = self.grid.ell, self.plan.face, self.column
        order = list(range(ell)) if low else list(range(2 * ell, ell, -1))
        first, second = slice(0, face), slice(face, 2 * face)
        outer, inner = (first, second) if low else (second, first)

        def between(strip: Tensor) -> Tensor:
            block = strip[:, first, second]  # the blocks below the diagonal are not kept up
            return block if low else block.mT

        own = slice(2 * face, 2 * face + 2 * column)
        start = strips[order[0]]
        diagonal, carried = start[:, inner, inner], start[:, inner, own]
        for step, k in enumerate(order[1:], start=1):
            strip, width = strips[k], (step + 2) * column
            new = slice(width - 2 * column, width) if low else slice(0, 2 * column)
            old = slice(0, width - column) if low else slice(column, width)
            right = self._scratch(("right face", step), len(strip), face, face + width).zero_()
            right[:, :, :face] = between(strip)
            right[:, :, face:][:, :, old] = carried
            right[:, :, face:][:, :, new] += strip[:, outer, own]
            place = ("face", k if low else k + 1)
            product = self._square(self._half_solve(diagonal + strip[:, outer, outer], right, *place), *place)
            diagonal = strip[:, inner, inner] - product[:, :face, :face]
            carried = -product[:, :face, face:]
            carried[:, :, new] += strip[:, inner, own]
            reached = slice(0, width) if low else slice(total.shape[1] - 2**self.grid.dim - width, -(2**self.grid.dim))
            total[:, reached, reached] -= product[:, face:, face:]
        return diagonal, carried

    def _eliminate_leaf(self, matrix: Tensor, leaf: int) -> Tensor:
        """Eliminate the inner nodes of leaves: the first rows of matrices of shape ``(batch, m, m)``."""
        count = self.plan.leaves.boxes[leaf].eliminated
        if count == 0:
            return matrix
        factors = self._half_solve(matrix[:, :count, :count], matrix[:, :count, count:], "leaf", leaf)
        return matrix[:, count:, count:] - self._square(factors, "leaf")

    def _merge(self, children: list[Tensor], merge: Merge, *place: int | str) -> Tensor:
        """Add the blocks of the children, and eliminate what has become inner."""
        batch, count, rest = len(children[0]), merge.eliminated, len(merge.labels)
        total = BlockSum(
            self._scratch(("pivot", *place), batch, count, count).zero_(),
            self._scratch(("right", *place), batch, count, rest).zero_(),
            self._scratch(("rest", *place), batch, rest, rest).zero_(),
        )
        for child, runs, carried in zip(children, merge.runs, merge.carried, strict=True):
            total.add(child, runs, carried)
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
        sources = slice(-(2**self.grid.dim), None)
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
                f"the factorisation for the patch of element {self._numbers(np.array(at))} "
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
        result = energy.new_zeros((len(energy), *grid.local_matrix_shape))
        result[:, torch.from_numpy(slots).to(self.device)] = energy
        return result


def _elements_of_patches(grid: Grid, elements: IntArray) -> IntArray:
    """Numbers of the elements of D that lie in the patch of one of some elements."""
    near = grid.elements[np.unique(elements)][:, None, :] - grid.ell + lattice(*(grid.patch_width,) * grid.dim)
    inside = ((near >= 0) & (near < grid.coarse)).all(axis=2)
    return np.unique(near[inside] @ grid.coarse ** np.arange(grid.dim))


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
            return max(min(alone, grid.coarse), 1)
    width = 2 * grid.ell + 1
    widest = max([width * len(plan.element) ** 2, *(2 * merge.size**2 for merge in plan.windows)])
    patch = width * len(plan.strip) ** 2 + 12 * plan.face**2
    rows = free // (8 if cpu else 4) // (itemsize * (widest + patch) * grid.coarse)
    return grid.coarse * max(min(rows, _ROWS) if cpu else rows, 1)
