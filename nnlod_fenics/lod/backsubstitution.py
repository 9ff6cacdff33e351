"""Element correctors from the condensation: back substitution through all of its levels."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nnlod_fenics.grid import Grid
from nnlod_fenics.lod.budget import element_numbers, patch_numbers
from nnlod_fenics.lod.condensation import Condensation
from nnlod_fenics.lod.dense import Factors
from nnlod_fenics.lod.elimination import HAT, Labels, Merge, make_plan

__all__ = ["default_rows", "solve_correctors", "solve_traces"]

IntArray = npt.NDArray[np.int64]

_ROWS = 8  # rows of patches at a time: more gain little


def solve_correctors(
    condensation: Condensation, positions: IntArray, weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Local matrices and correctors of some elements.

    Args:
        condensation: The condensation of the coefficients.
        positions: Realization and position of T (x first), shape ``(k, 1 + d)``.
        weights: Combinations of the correctors that are wanted in their place, shape ``(k, columns, combinations)``.

    Returns:
        Local matrices, shape ``(k, (2ℓ+2)^d, 2^d)``, and correctors at the fine nodes of the padded patches,
        shape ``(k, 2^d, (2ℓ+1)r + 1, …)``, zero outside D; with loads one more column of each.
    """
    grid = condensation.grid
    nodes = grid.patch_width * grid.ratio + 1
    columns = condensation.sources if weights is None else weights.shape[2]
    shape = (len(positions), columns, *(nodes,) * grid.dim)
    result = torch.zeros(shape, dtype=condensation.dtype, device=condensation.device)
    if grid.trivial_fine_scale:
        return condensation.patches(positions), result
    matrices = result.new_empty((len(positions), grid.num_patch_nodes, condensation.sources))
    for places, recording in _recorded(condensation, positions):
        own = torch.from_numpy(places).to(condensation.device)
        matrices[own] = recording.matrices
        part = result.new_zeros((len(places), *shape[1:]))
        recording.fill(part, None if weights is None else weights[own])
        result[own] = part
    return matrices, result


def solve_traces(condensation: Condensation, positions: IntArray) -> Iterator[tuple[IntArray, IntArray, Tensor]]:
    """What the correctors of some elements are on the boundaries of all elements of their patches.

    Args:
        condensation: The condensation of the coefficients, which keeps its elements.
        positions: Realization and position of T (x first), shape ``(k, 1 + d)``.

    Yields:
        For each element of a patch, and patches with the same open sides: its offset from T in elements, the places of
        the patches in ``positions``, and the values of φ_{T,j}, and of R_T with loads, in the rows of the element's
        block without its sources: at its fine boundary nodes; at its hats, −1 for its own on T; its multipliers; and
        with loads −1 for that of R_T on T. Shape ``(patches, m, columns)``.
    """
    for places, recording in _recorded(condensation, positions):
        for offset, values in recording.traces():
            yield offset, places, values


def _recorded(condensation: Condensation, positions: IntArray) -> Iterator[tuple[IntArray, _BackSubstitution]]:
    """Eliminate patches and keep the factors; those with the same open sides at a time."""
    recording = copy.copy(condensation)  # other threads go on with the original
    for places in condensation.ends.alike(condensation.grid.element_numbers(positions[:, 1:])):
        recording.record = {}
        matrices = recording.patches(positions[places])
        yield places, _BackSubstitution(recording, recording.record, matrices)


def default_rows(grid: Grid, itemsize: int, free: int) -> int:
    """Patches whose correctors to compute at a time.

    Rows of patches along x share the elements of the rows around them, whose factors are kept meanwhile.

    Args:
        grid: The discretisation.
        itemsize: Bytes of a number.
        free: Bytes that are free.

    Returns:
        A multiple of the patches of a row where memory allows, else less.
    """
    plan = make_plan(grid.dim, grid.ratio, grid.ell)
    around = prod(min(grid.patch_width, n) for n in grid.coarse[1:])  # rows of elements that a row of patches needs
    row = grid.coarse[0] * itemsize * (patch_numbers(grid, plan) // grid.patch_width + element_numbers(plan))
    rows = free // 4 // (row * around)
    if rows < 1:
        return max(grid.coarse[0] * free // 4 // (row * around), 1)
    return grid.coarse[0] * min(rows, _ROWS)


def _eliminated(factors: Factors, which: Any, known: Tensor) -> Tensor:
    """Values of what was eliminated, from those of what was not."""
    return -(factors.inverse[which].mT @ (factors.coupling[which] @ known))


def _child(values: Tensor, merge: Merge, child: int, size: int) -> Tensor:
    """Values of a child's rows from those of the sum."""
    result = values.new_zeros((len(values), size, values.shape[2]))
    for row, target, length in merge.runs[child]:
        result[:, row : row + length] = values[:, target : target + length]
    return result


class _BackSubstitution:
    def __init__(self, condensation: Condensation, record: dict[tuple[int | str, ...], Any], matrices: Tensor) -> None:
        self.matrices = matrices
        self.grid, self.plan, self.record = condensation.grid, record["plan",], record
        self.device = condensation.device
        self.condensation = condensation

    def fill(self, result: Tensor, weights: Tensor | None = None) -> None:
        """Write the correctors of all patches, or combinations of them, shape ``(k, columns, nodes, …)``."""
        for which, values, offset in self._strips(weights):
            for element, known, at in self._open(self.grid.dim - 1, which, values, offset):
                self._element(element, known, at, result)

    def traces(self) -> Iterator[tuple[IntArray, Tensor]]:
        """For all elements of the patches the offset from T, and the values on their boundaries in all patches."""
        for which, values, offset in self._strips(None):
            for _, known, at in self._open(self.grid.dim - 1, which, values, offset):
                yield at - self.grid.ell, self._own(known)

    def _strips(self, weights: Tensor | None) -> Iterator[tuple[IntArray, Tensor, IntArray]]:
        """Which strip, its values, and its position in the patch in elements, strip by strip."""
        ell, column = self.grid.ell, self.condensation.column
        carried = self._carried() if weights is None else self._carried() @ weights
        faces = self._faces(carried)
        strips = self.record["strips",]
        for k in range(2 * ell + 1):
            own = carried[:, k * column : (k + 2) * column]
            source = carried[:, (2 * ell + 2) * column :] * (1.0 if k == ell else 0.0)
            values = torch.cat([faces[k], faces[k + 1], own, source], dim=1)
            offset = np.zeros(self.grid.dim, dtype=np.int64)
            offset[0] = k
            yield strips[:, k], values, offset

    def _carried(self) -> Tensor:
        """Values of the carried rows: hats 0, multipliers λ, sources −1 for their own column."""
        multipliers = self.record["multipliers",]
        _, rows = self.condensation.carried_rows()
        columns = self.condensation.sources
        size = (2 * self.grid.ell + 2) * self.condensation.column
        carried = multipliers.new_zeros((len(multipliers), size + columns, columns))
        carried[:, rows] = -multipliers
        carried[:, size:] = -torch.eye(columns, dtype=carried.dtype, device=self.device)
        return carried

    def _faces(self, carried: Tensor) -> list[Tensor]:
        """Values on the faces between strips, from T outwards; zero at ends of the patch that are not open."""
        ell, face = self.grid.ell, self.plan.face
        zero = carried.new_zeros((len(carried), face, carried.shape[2]))
        faces = [zero] * (2 * ell + 2)
        if ("face", ell) not in self.record:
            return faces
        everything = slice(None)
        faces[ell + 1] = _eliminated(self.record["face", ell + 1], everything, carried)
        faces[ell] = _eliminated(self.record["face", ell], everything, torch.cat([faces[ell + 1], carried], dim=1))
        columns = carried[:, : -self.condensation.sources]
        for k in range(ell - 1, -1, -1):
            for number, neighbour, low in ((k, k + 1, True), (2 * ell + 1 - k, 2 * ell - k, False)):
                if ("face", number) not in self.record:  # an end that is not open
                    continue
                factors: Factors = self.record["face", number]
                reach = factors.coupling.shape[2] - face
                near = columns[:, :reach] if low else columns[:, columns.shape[1] - reach :]
                faces[number] = _eliminated(factors, everything, torch.cat([faces[neighbour], near], dim=1))
        return faces

    def _open(
        self, level: int, which: IntArray, values: Tensor, offset: IntArray
    ) -> Iterator[tuple[IntArray, Tensor, IntArray]]:
        """Go from blocks of a level down to elements.

        Args:
            level: Number of window merges behind the blocks.
            which: Block of each patch, shape ``(k,)``.
            values: Values of its rows, shape ``(k, m, columns)``.
            offset: Position of the block in the patch, in elements.

        Yields:
            The same of elements.
        """
        if level == 0:
            yield which, values, offset
            return
        merge = self.plan.windows[level - 1]
        if merge.eliminated:
            gone = _eliminated(self.record["window", level], torch.from_numpy(which).to(self.device), values)
            values = torch.cat([gone, values], dim=1)
        children = self.record["children", level][which]
        size = len(self.plan.windows[level - 2].labels) if level > 1 else len(self.plan.element)
        for child in range(len(merge.offsets)):
            position = offset + merge.offsets[child] - merge.offsets[0]
            yield from self._open(level - 1, children[:, child], _child(values, merge, child, size), position)

    def _element(self, which: IntArray, values: Tensor, offset: IntArray, result: Tensor) -> None:
        slots = self.record["elements",][which]
        inside = np.flatnonzero(slots >= 0)
        if not len(inside):
            return
        rows = torch.from_numpy(inside).to(self.device)
        chosen, values = torch.from_numpy(slots[inside]).to(self.device), values[rows]
        own = self._own(values)
        parts = [own]
        for level in range(len(self.plan.inside) - 1, -1, -1):
            below = self._labels_inside(level - 1)
            finer: list[Tensor] = [own] * len(below)
            for number, part in enumerate(self.plan.inside[level]):
                gone = _eliminated(self.record["inside", level, number], chosen, parts[number])
                full = torch.cat([gone, parts[number]], dim=1)
                for child, at in enumerate(part.children):
                    finer[at] = _child(full, part.merge, child, len(below[at]))
            parts = finer
        self._leaves(parts, chosen, rows, offset, result)

    def _own(self, values: Tensor) -> Tensor:
        """Values of an element's rows without the sources, which are added to its hats."""
        labels, count = self.plan.element, 2**self.grid.dim
        rest = len(labels) - self.condensation.sources
        own = torch.cat([values[:, :rest], values[:, rest + count :]], dim=1)
        own[:, torch.from_numpy(labels.at(HAT)).to(self.device)] += values[:, rest : rest + count]
        return own

    def _labels_inside(self, level: int) -> list[Labels]:
        """Labels of the parts of an element after a step of merging; of the leaves for −1."""
        if level < 0:
            return [leaf.labels for leaf in self.plan.leaves.boxes]
        return [part.merge.labels for part in self.plan.inside[level]]

    def _leaves(self, parts: list[Tensor], chosen: Tensor, rows: Tensor, offset: IntArray, result: Tensor) -> None:
        """Write the values at the nodes of all leaves of an element."""
        leaves = self.plan.leaves
        strides = result.shape[-1] ** np.arange(self.grid.dim)
        flat = result.reshape(*result.shape[:2], -1)
        for number, (part, leaf, corner) in enumerate(zip(parts, leaves.boxes, leaves.corners, strict=True)):
            nodes = leaf.labels.nodes
            position = [leaf.labels.position[nodes]]
            values = [part[:, torch.from_numpy(nodes).to(self.device)]]
            if leaf.eliminated:
                position.insert(0, leaf.inner)
                values.insert(0, _eliminated(self.record["leaf", number], chosen, part))
            origin = offset * self.grid.ratio + corner
            at = torch.from_numpy((np.concatenate(position) + origin) @ strides).to(self.device)
            flat[rows[:, None], :, at[None, :]] = torch.cat(values, dim=1)
