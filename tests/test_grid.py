"""Numbering of elements, nodes and patches."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from nnlod_fenics import Grid, InputError


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_patches_by_coordinates(dim, rng):
    """Patches, cut by explicit loops over coordinates, and the nodes that belong to them."""
    grid = Grid(dim, 3, 12, 1, coefficient=6)
    Z = rng.standard_normal(grid.coefficient_shape)
    patches = grid.cut_patches(Z)
    assert patches.shape == (27 if dim == 3 else 3**dim,) + (6,) * dim
    for element in range(grid.num_elements):
        position = [(element // 3**axis) % 3 for axis in range(dim)]  # x first
        for index in np.ndindex(*(6,) * dim):
            cell = [2 * (position[dim - 1 - k] - 1) + index[k] for k in range(dim)]
            inside = all(0 <= c < 6 for c in cell)
            assert patches[element][index] == (Z[tuple(cell)] if inside else 0.0)
        for slot in range(4**dim):
            node = [position[axis] - 1 + (slot // 4**axis) % 4 for axis in range(dim)]
            inside = all(0 <= c <= 3 for c in node)
            expected = sum(c * 4**axis for axis, c in enumerate(node)) if inside else -1
            assert grid.patch_nodes[element, slot] == expected
        start, size = grid.patch_box(element)
        assert start == tuple(max(p - 1, 0) for p in position)
        assert tuple(s + n for s, n in zip(start, size, strict=True)) == tuple(min(p + 2, 3) for p in position)


def test_numbers():
    grid = Grid(dim=2, coarse=32, fine=512, ell=2, coefficient=256)
    assert (grid.ratio, grid.cells_per_element, grid.num_elements) == (16, 8, 1024)
    assert grid.local_matrix_shape == (36, 4)
    assert grid.num_patch_cells == 1600
    assert grid.num_free_nodes == 961
    assert Grid(2, 4, 8, 1).coefficient == 8
    assert Grid(2, 4, 8, 1) == Grid(2, 4, 8, 1) and hash(Grid(2, 4, 8, 1)) == hash(Grid(2, 4, 8, 1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dim": 4}, "dim must be 1, 2 or 3, got 4"),
        ({"coarse": 0}, "coarse must be an integer of at least 1, got 0"),
        ({"coarse": 2.5}, "coarse must be an integer"),
        ({"fine": 30}, "coefficient must divide fine|coarse must divide"),
        ({"coefficient": 6}, "coarse must divide coefficient"),
        ({"coefficient": 24}, "coefficient must divide fine"),
        ({"ell": -1}, "ell must be an integer of at least 0, got -1"),
        ({"ell": 5}, "ell must be at most coarse=4"),
    ],
)
def test_bad_grids(arguments, message):
    with pytest.raises(InputError, match=message):
        Grid(**{"dim": 2, "coarse": 4, "fine": 16, "ell": 1} | arguments)


def test_import_needs_no_heavy_dependency():
    """The package, fields, networks and condensation load without DOLFINx, PETSc and MPI."""
    code = """
import sys
for name in ("dolfinx", "petsc4py", "mpi4py", "pyvista"):
    sys.modules[name] = None
import numpy as np
import nnlod_fenics, nnlod_fenics.fields, nnlod_fenics.network, nnlod_fenics.training
from nnlod_fenics import Grid, local_matrices
grid = Grid(2, 4, 8, 1)
assert local_matrices(grid, np.ones((8, 8))).shape == (16, 16, 4)
try:
    nnlod_fenics.coarse_matrix
except nnlod_fenics.MissingDependencyError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "install" in done.stdout


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((64, 64), Grid(2, 16, 128, 2, 64)),
        ((64, 64, 2, 2), Grid(2, 16, 128, 2, 64)),
        ((256, 256), Grid(2, 64, 256, 2, 256)),
        ((40,), Grid(1, 10, 80, 2, 40)),
        ((40, 1, 1), Grid(1, 10, 80, 2, 40)),
        ((32, 32, 32), Grid(3, 8, 32, 2, 32)),
        ((8, 8, 8, 3, 3), Grid(3, 2, 16, 2, 8)),
        ((121, 121), Grid(2, 11, 121, 2, 121)),
        ((93, 93), Grid(2, 31, 186, 2, 93)),  # 3 * 31: H/ε = 3
        ((97, 97), Grid(2, 97, 388, 2, 97)),  # a prime: elements are cells
    ],
)
def test_grid_for_a_coefficient(shape, expected):
    assert Grid.for_coefficient(np.ones(shape)) == expected


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("n", [*range(2, 40), 60, 128, 210])
def test_grids_for_coefficients_are_as_promised(dim, n):
    grid = Grid.for_coefficient(np.broadcast_to(1.0, (n,) * dim))
    assert (grid.dim, grid.coefficient, grid.ell) == (dim, n, 2)
    assert grid.num_free_nodes > 0 and grid.ratio >= 4
    possible = [n // k for k in range(4, 9) if n % k == 0 and n // k >= 2]
    if possible:
        assert grid.coarse == max(possible)
    assert grid.fine == n or grid.fine**dim <= 128**2 or grid.ratio - grid.cells_per_element < 4


def test_a_grid_for_a_coefficient_keeps_what_is_given():
    A = np.ones((60, 60))
    assert Grid.for_coefficient(A, coarse=6) == Grid(2, 6, 120, 2, 60)
    assert Grid.for_coefficient(A, ell=1, fine=240) == Grid(2, 15, 240, 1, 60)
    with pytest.raises(InputError, match="coarse must divide coefficient, got coarse=7 and coefficient=60"):
        Grid.for_coefficient(A, coarse=7)
    with pytest.raises(InputError, match="coefficient must divide fine, got coefficient=60 and fine=128"):
        Grid.for_coefficient(A, fine=128)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((60, 80), r"A must have as many cells along each axis .*got shape \(60, 80\)"),
        ((60, 80, 2, 2), "as many cells along each axis"),
        ((60, 60, 2), "as many cells along each axis"),
        ((60, 60, 3, 3), r"got \(60, 60, 3, 3\)"),
        ((1, 1), r"n of at least 2 .*got \(1, 1\)"),
        ((), r"got \(\)"),
        ((0, 0), r"got \(0, 0\)"),
        ((4,) * 6, "A must have shape"),
    ],
)
def test_no_grid_for_a_coefficient(shape, message):
    with pytest.raises(InputError, match=message):
        Grid.for_coefficient(np.empty(shape))
