"""Index plans for static condensation: which unknowns of a block meet where, and in which order they go.

A *block* is a box of coarse elements (or a part of one element) whose inner unknowns have been eliminated.
Its dense symmetric matrix acts on

* the fine nodes that other blocks still need,
* the coarse hats Λ and the multipliers μ of I_H at the coarse nodes of the box, a second copy of the hats of
  one element T, restricted to T: the right-hand sides of (3.1); and, for source correctors, the load of T.

The last three are *carried*: they are never eliminated, so that after all fine nodes are gone the matrix
holds the products from which S_T follows. A :class:`Merge` says how the matrices of several blocks add up
to that of a larger one, a :class:`Plan` lists the merges from leaves inside an element to strips of elements.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from nnlod_fenics.grid import lattice

__all__ = ["Labels", "Leaf", "Leaves", "Merge", "Part", "Plan", "Sides", "as_tuples", "make_plan"]

IntArray = npt.NDArray[np.int64]
Test = Callable[["Labels"], npt.NDArray[np.bool_]]
Sides = tuple[bool, bool]
"""Something of the low and of the high side along an axis."""

NODE, HAT, MULTIPLIER, SOURCE, IGNORED = range(5)

_LEAF = {1: 16, 2: 8, 3: 4}  # most fine cells per axis of a leaf: enough for BLAS, few enough for the cube


def as_tuples(rows: IntArray) -> list[tuple[int, ...]]:
    """The rows of an integer array in a form that can be looked up."""
    return [tuple(int(value) for value in row) for row in rows]


@dataclass(frozen=True, eq=False)
class Labels:
    """What the rows of a block stand for.

    Attributes:
        kind: One of node, hat, multiplier, source (or ignored), shape ``(m,)``.
        position: Relative to the origin of the block, x first, shape ``(m, d)``: in fine cells for nodes,
            in coarse elements for hats and multipliers; for sources, the corner of T, or (2, …) for its load.
    """

    kind: npt.NDArray[np.int64]
    position: IntArray

    def __len__(self) -> int:
        return len(self.kind)

    def __getitem__(self, rows: npt.NDArray[np.bool_] | IntArray) -> Labels:
        return Labels(self.kind[rows], self.position[rows])

    @property
    def nodes(self) -> npt.NDArray[np.bool_]:
        """Which rows are fine nodes."""
        return self.kind == NODE

    def at(self, kind: int) -> IntArray:
        """The rows of one kind, ordered by position, x fastest."""
        rows = np.flatnonzero(self.kind == kind)
        return rows[np.lexsort(self.position[rows].T)]

    def shifted(self, fine: IntArray, elements: IntArray, center: bool) -> Labels:
        """The labels of the block moved within a larger one; its sources count only if it holds T."""
        moved = self.position + np.where(self.nodes[:, None], fine, elements)
        position = np.where((self.kind == SOURCE)[:, None], self.position, moved)
        kind = self.kind if center else np.where(self.kind == SOURCE, IGNORED, self.kind)
        return Labels(kind, position)

    @staticmethod
    def of(kind: int, position: IntArray) -> Labels:
        """Labels of one kind."""
        return Labels(np.full(len(position), kind), position)

    @staticmethod
    def join(parts: Sequence[Labels]) -> Labels:
        """Concatenate labels."""
        return Labels(np.concatenate([p.kind for p in parts]), np.concatenate([p.position for p in parts]))

    def keys(self) -> list[tuple[int, ...]]:
        """The rows in a form that can be looked up."""
        return as_tuples(np.column_stack([self.kind, self.position]))

    def sorted(self, axis: int = 0, joints: npt.NDArray[np.bool_] | None = None) -> Labels:
        """Order the rows so that what neighbours along an axis share are long runs of rows.

        Among nodes the last axis counts fastest: blocks grow along it first, so that what a block contributes
        to a larger one is a line of it, then a face.

        Args:
            axis: Axis along which the blocks will be merged next.
            joints: Nodes that will then be inner (all nodes if None): they come first, layer by layer
                along the axis; the other nodes follow; then the carried rows, column by column along x,
                and the sources.

        Returns:
            The same labels in another order.
        """
        position = self.position
        keys = np.where(self.nodes[:, None], position[:, ::-1], position).T
        joint = self.nodes if joints is None else joints
        rank = np.select([joint, self.nodes, self.kind != SOURCE], [0, 1, 2], 3)
        layer = np.select([joint, rank == 2], [position[:, axis], position[:, 0]], 0)
        return self[np.lexsort((*keys, np.where(rank == 2, self.kind, 0), layer, rank))]


@dataclass(frozen=True, eq=False)
class Merge:
    """How blocks combine into one.

    Attributes:
        offsets: Where the children lie, in units of children, x first, shape ``(children, d)``.
        runs: For each child, the runs of rows that enter the sum: first row of the child, first row of the
            sum, length.
        carried: The first carried row of each child.
        inner: What the first rows of the sum stand for: the inner nodes of the new block, which are eliminated.
        labels: What the remaining rows stand for.
        opened: Whether nodes on the low and on the high end are among the rows, for merges to a whole patch.
    """

    offsets: IntArray
    runs: tuple[tuple[tuple[int, int, int], ...], ...]
    carried: tuple[int, ...]
    inner: Labels
    labels: Labels
    opened: Sides = (False, False)

    @property
    def eliminated(self) -> int:
        """Number of the inner nodes."""
        return len(self.inner)

    @property
    def size(self) -> int:
        """Rows of the sum before the elimination."""
        return self.eliminated + len(self.labels)


def _runs(rows: IntArray, targets: IntArray, eliminated: int) -> tuple[tuple[int, int, int], ...]:
    """Cut a map of rows into runs along which both sides count up by one; none crosses into the rest."""
    breaks = np.flatnonzero((np.diff(rows) != 1) | (np.diff(targets) != 1) | (targets[1:] == eliminated)) + 1
    pieces = zip(np.split(rows, breaks), np.split(targets, breaks), strict=True)
    return tuple((int(r[0]), int(t[0]), len(r)) for r, t in pieces)


def _merge(
    offsets: IntArray,
    children: Sequence[Labels],
    dropped: Test,
    inner: Test,
    order: Callable[[Labels], Labels],
    opened: Sides = (False, False),
) -> Merge:
    everything = Labels.join(children)
    first: dict[tuple[int, ...], int] = {}
    for row, key in enumerate(everything.keys()):
        first.setdefault(key, row)
    labels = everything[np.fromiter(first.values(), dtype=np.int64)]
    labels = labels[~dropped(labels) & (labels.kind != IGNORED)]
    is_inner = inner(labels)
    along = int(np.argmax(np.abs(offsets).max(axis=0)))
    gone, kept = labels[is_inner].sorted(along), order(labels[~is_inner])
    place = {key: row for row, key in enumerate(gone.keys() + kept.keys())}
    runs = []
    for child in children:
        found = np.array([place.get(key, -1) for key in child.keys()])
        runs.append(_runs(np.flatnonzero(found >= 0), found[found >= 0], len(gone)))
    carried = tuple(int(np.count_nonzero(child.nodes)) for child in children)
    return Merge(offsets, tuple(runs), carried, gone, kept, opened)


@dataclass(frozen=True, eq=False)
class Leaf:
    """A box of fine cells inside an element.

    Attributes:
        size: Its fine cells along each axis, x first.
        labels: Rows of a leaf that remain after its inner nodes are eliminated.
        inner: Positions of its inner nodes, which are eliminated first.
    """

    size: tuple[int, ...]
    labels: Labels
    inner: IntArray

    @property
    def eliminated(self) -> int:
        """Number of inner nodes."""
        return len(self.inner)


@dataclass(frozen=True, eq=False)
class Leaves:
    """The parts of an element from which the elimination starts.

    Attributes:
        cuts: Where leaves begin and end along an axis, in fine cells, from 0 to r.
        boxes: The leaves, x fastest; those of one size are one object.
    """

    cuts: tuple[int, ...]
    boxes: tuple[Leaf, ...]

    @property
    def per_axis(self) -> int:
        """Leaves of an element along an axis."""
        return len(self.cuts) - 1

    @property
    def corners(self) -> IntArray:
        """Lower corners of the leaves in fine cells, x fastest, shape ``(leaves, d)``."""
        return np.asarray(self.cuts)[lattice(*(self.per_axis,) * len(self.boxes[0].size))]

    def cut_evenly(self, spread: int) -> bool:
        """Whether no leaf cuts a cell of T_ε, of ``spread`` fine cells along an axis."""
        return not any(cut % spread for cut in self.cuts)


@dataclass(frozen=True, eq=False)
class Part:
    """A part of an element that is put together from 2^d smaller ones.

    Attributes:
        merge: How; parts whose children have the same sizes share it.
        children: Numbers of the children, in the order of the merge.
    """

    merge: Merge
    children: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Plan:
    """All merges for the patches of a grid.

    Attributes:
        leaves: The parts that an element is divided into.
        inside: Merges of leaves to an element: the parts after each step, x fastest.
        element: Labels of an element's block, sources included.
        windows: Merges of 2ℓ+1 blocks along the last axis, the one before, …, and y: to strips of
            elements that lie across x.
        face: Nodes of a strip on one of its two sides.
    """

    leaves: Leaves
    inside: tuple[tuple[Part, ...], ...]
    element: Labels
    windows: tuple[Merge, ...]

    @property
    def strip(self) -> Labels:
        """Labels of a strip's block."""
        return self.windows[-1].labels if self.windows else self.element

    @property
    def face(self) -> int:
        """Nodes of a strip on one of its two sides."""
        return int(np.count_nonzero(self.strip.nodes)) // 2


def _dissection(ratio: int, most: int) -> list[list[int]]:
    """Halve an element along an axis until no part has more than ``most`` cells; an odd part gives unequal halves.

    Returns:
        Widths of the parts, from the leaves up to the whole element. Those of one step differ by one at most.
    """
    widths = [[ratio]]
    while max(widths[-1]) > most:
        widths.append([half for width in widths[-1] for half in (width - width // 2, width // 2)])
    return widths[::-1]


def _on_faces(labels: Labels, extent: Sequence[int]) -> npt.NDArray[np.bool_]:
    """Which labels are nodes on the low or high side along the first ``len(extent)`` axes."""
    position = labels.position[:, : len(extent)]
    return labels.nodes & ((position == 0) | (position == np.asarray(extent))).any(axis=1)


def _load(dim: int) -> Labels:
    """The label of the load of an element."""
    return Labels.of(SOURCE, np.full((1, dim), 2))


def _leaf(size: tuple[int, ...], loads: bool) -> Leaf:
    dim = len(size)
    nodes = lattice(*(width + 1 for width in size))
    boundary = ((nodes == 0) | (nodes == np.asarray(size))).any(axis=1)
    corners = lattice(*(2,) * dim)
    parts = [Labels.of(NODE, nodes[boundary]), Labels.of(HAT, corners), Labels.of(MULTIPLIER, corners)]
    labels = Labels.join(parts + [_load(dim)] * loads)
    inner = 1 + lattice(*(width - 1 for width in size))
    return Leaf(size, labels.sorted(dim - 1, _joints(labels, dim - 1, size)), inner)


def _leaves(dim: int, widths: Sequence[int], loads: bool) -> Leaves:
    sizes = as_tuples(np.asarray(widths)[lattice(*(len(widths),) * dim)])
    kinds = {size: _leaf(size, loads) for size in set(sizes)}
    return Leaves((0, *accumulate(widths)), tuple(kinds[size] for size in sizes))


def _joints(labels: Labels, axis: int, size: Sequence[int]) -> npt.NDArray[np.bool_]:
    """Which nodes a merge along an axis makes inner: those on its faces, away from the faces along axes before it."""
    return labels.nodes & ~_on_faces(labels, size[:axis])


def _merge_boxes(children: Sequence[Labels], sizes: IntArray) -> Merge:
    """Merge two by two (by two) boxes of an element: labels x fastest, and fine cells along each axis ``(2^d, d)``."""
    dim = sizes.shape[1]
    offsets, zero = lattice(*(2,) * dim), np.zeros(dim, dtype=np.int64)
    corners = offsets * sizes[0]
    size = [int(width) for width in sizes[0] + sizes[-1]]
    return _merge(
        offsets,
        [labels.shifted(corner, zero, center=True) for labels, corner in zip(children, corners, strict=True)],
        dropped=lambda ls: np.zeros(len(ls), dtype=bool),
        inner=lambda ls: ls.nodes & ~_on_faces(ls, size),
        order=lambda ls: ls.sorted(dim - 1, _joints(ls, dim - 1, size)),
    )


def _merges_inside(leaves: Leaves, widths: Sequence[Sequence[int]]) -> tuple[tuple[Part, ...], ...]:
    dim = len(leaves.boxes[0].size)
    labels = [leaf.labels for leaf in leaves.boxes]
    steps = []
    for below in widths[:-1]:
        sizes, strides = np.asarray(below)[lattice(*(len(below),) * dim)], len(below) ** np.arange(dim)
        merges: dict[bytes, Merge] = {}
        parts = []
        for corner in 2 * lattice(*(len(below) // 2,) * dim):
            children = (corner + lattice(*(2,) * dim)) @ strides
            key = sizes[children].tobytes()
            if key not in merges:
                merges[key] = _merge_boxes([labels[child] for child in children], sizes[children])
            parts.append(Part(merges[key], tuple(children.tolist())))
        steps.append(tuple(parts))
        labels = [part.merge.labels for part in parts]
    return tuple(steps)


def _merge_window(labels: Labels, axis: int, dim: int, ratio: int, ell: int, opened: Sides) -> Merge:
    unit = np.eye(dim, dtype=np.int64)[axis]
    steps = range(2 * ell + 1)
    offsets = np.stack([(k - ell) * unit for k in steps])
    children = [labels.shifted(k * ratio * unit, k * unit, center=k == ell) for k in steps]
    ends = [end for end, free in zip((0, (2 * ell + 1) * ratio), opened, strict=True) if not free]
    return _merge(
        offsets,
        children,
        dropped=lambda ls: ls.nodes & np.isin(ls.position[:, axis], ends),
        inner=lambda ls: ls.nodes & ~_on_faces(ls, (ratio,) * axis),
        order=lambda ls: ls.sorted(axis - 1, _joints(ls, axis - 1, (ratio,) * dim)),
        opened=opened,
    )


def _with_sources(labels: Labels, dim: int) -> Labels:
    """The labels of an element's block: those of its parts, and before the load the sources."""
    load = labels.kind == SOURCE
    return Labels.join([labels[~load], Labels.of(SOURCE, lattice(*(2,) * dim)), labels[load]])


@lru_cache(maxsize=8)
def _plan_element(dim: int, ratio: int, loads: bool) -> tuple[Leaves, tuple[tuple[Part, ...], ...], Labels]:
    widths = _dissection(ratio, _LEAF[dim])
    leaves = _leaves(dim, widths[0], loads)
    inside = _merges_inside(leaves, widths)
    element = inside[-1][0].merge.labels if inside else leaves.boxes[0].labels
    return leaves, inside, _with_sources(element, dim)


@lru_cache(maxsize=64)
def make_plan(dim: int, ratio: int, ell: int, loads: bool = False, opened: tuple[Sides, ...] | None = None) -> Plan:
    """Plan the elimination for all patches of a grid whose ends are free on the same sides.

    Args:
        dim: Space dimension.
        ratio: Fine cells per element along an axis, r.
        ell: Layers of the patch.
        loads: Whether the load of T is carried too.
        opened: For each axis, x first, whether nodes on the low and on the high end of the patch can be free; none if
            None. Those along x are eliminated last, and no part of the plan.

    Returns:
        The plan; it does not depend on the coefficient or on the number of elements.
    """
    leaves, inside, element = _plan_element(dim, ratio, loads)
    windows: list[Merge] = []
    for axis in range(dim - 1, 0, -1):
        sides = (False, False) if opened is None else opened[axis]
        windows.append(_merge_window(windows[-1].labels if windows else element, axis, dim, ratio, ell, sides))
    return Plan(leaves, inside, element, tuple(windows))
