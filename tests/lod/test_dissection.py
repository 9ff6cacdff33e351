"""Nested dissection inside an element: for any r, also a prime, small leaves, and blocks that are bounded by r."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
from operations import count_operations

from nnlod_fenics import Grid, local_matrices
from nnlod_fenics.grid import lattice
from nnlod_fenics.lod.elimination import make_plan

MOST = {1: 16, 2: 8, 3: 4}
RATIOS = [(1, 17), (1, 97), (2, 7), (2, 9), (2, 11), (2, 13), (2, 23), (2, 31), (2, 32), (3, 5), (3, 7), (3, 9)]


@pytest.mark.parametrize(
    "grid",
    [
        *(pytest.param(Grid(2, 2, 2 * r, 1), id=f"2d-r{r}") for r in (7, 9, 11, 13, 31)),
        *(pytest.param(Grid(3, 2, 2 * r, 1), id=f"3d-r{r}") for r in (5, 7)),
        pytest.param(Grid(1, 3, 51, 1), id="1d-r17"),
        pytest.param(Grid(2, 3, 66, 1, coefficient=33), id="2d-r22-eps2-across-leaves"),
        pytest.param(Grid(2, 3, 54, 0, coefficient=27), id="2d-r18-eps2-ell0"),
        pytest.param(Grid(2, 2, 40, 1, coefficient=20), id="2d-r20-eps2-across-leaves"),
    ],
)
def test_methods_agree(grid):
    A = np.exp(np.random.default_rng(0).standard_normal(grid.coefficient_shape))
    S, expected = local_matrices(grid, A), local_matrices(grid, A, method="dolfinx")
    assert np.abs(S - expected).max() < 1e-10 * np.abs(expected).max()


@pytest.mark.parametrize("grid", [Grid(1, 4, 76, 1), Grid(2, 3, 33, 1), Grid(3, 2, 10, 1)], ids=lambda g: f"{g.dim}d")
def test_correctors_and_matrix_valued_coefficients_agree(grid):
    root = np.random.default_rng(1).standard_normal((*grid.coefficient_shape, grid.dim, grid.dim))
    A = root @ np.swapaxes(root, -1, -2) + 0.5 * np.eye(grid.dim)
    found = local_matrices(grid, A, correctors=True)
    for value, expected in zip(found, local_matrices(grid, A, method="dolfinx", correctors=True), strict=True):
        assert np.abs(value - expected).max() < 1e-10 * np.abs(expected).max()


@pytest.mark.parametrize(("dim", "ratio"), RATIOS)
def test_leaves_tile_the_element(dim, ratio):
    leaves = make_plan(dim, ratio, 1).leaves
    covered = np.zeros((ratio,) * dim, dtype=int)
    for leaf, corner in zip(leaves.boxes, leaves.corners, strict=True):
        covered[tuple((lattice(*leaf.size) + corner).T)] += 1
    assert (covered == 1).all()
    widths = np.diff(leaves.cuts)
    assert widths.max() - widths.min() <= 1


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_blocks_are_bounded_for_every_ratio(dim):
    """No block has more rows than a leaf of the largest size, or than three faces across and all around an element."""
    for ratio in range(1, {1: 300, 2: 64, 3: 12}[dim]):
        plan = make_plan(dim, ratio, 0)
        carried = 2 * 2**dim
        leaf_rows = max(leaf.eliminated + len(leaf.labels) for leaf in plan.leaves.boxes)
        assert leaf_rows <= (MOST[dim] + 1) ** dim + carried, ratio
        rows = max((part.merge.size for part in chain(*plan.inside)), default=0)
        assert rows <= 3 * dim * (ratio + 1) ** (dim - 1) + carried, ratio


def test_operations_grow_smoothly():
    """A prime r costs no more than the next larger power of two, and no step from r to r + 1 doubles the cost."""
    elements = {}
    for ratio in range(8, 66):
        counts = count_operations(Grid(2, 4, 4 * ratio, 1))
        elements[ratio] = counts["leaves"] + counts["elements"]
    assert all(elements[r] < 2 * elements[r - 1] for r in range(9, 66)), elements
    assert elements[31] < elements[32] and elements[61] < elements[64]
