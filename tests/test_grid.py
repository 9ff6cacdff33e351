"""Numbering of elements, nodes and patches; boxes, faces with u given, and elements that are left out."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import product

import numpy as np
import pytest

from nnlod_fenics import Grid, InputError
from nnlod_fenics.domain import face_axis, faces_of
from nnlod_fenics.grid import told_apart

HOLE = np.array([[True] * 4, [True, False, True, True], [True] * 4])
GRIDS = {
    "interval": Grid(1, 5, 15, 1, 5, 2.5, ["xmax"]),
    "box": Grid(2, (4, 3), (12, 9), 1, None, (2.0, 0.5), ["ymin", "xmax"]),
    "hole": Grid(2, (4, 3), (16, 12), 1, (8, 6), None, ["xmin"], HOLE),
    "3d": Grid(
        3, (3, 4, 2), (9, 12, 6), 1, (3, 4, 2), (1.0, 2.0, 3.0), ["xmin", "zmax"], np.indices((2, 4, 3)).sum(0) > 0
    ),
}


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
    assert Grid(2, 4, 8, 1).coefficient == (8, 8) and Grid(2, 4, 8, 1).unit_cube
    assert Grid(2, 4, 8, 1) == Grid(2, 4, 8, 1) and hash(Grid(2, 4, 8, 1)) == hash(Grid(2, 4, 8, 1))


ISLAND = np.zeros((4, 4), dtype=bool)
ISLAND[1, 1] = ISLAND[:, 3] = True


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
        ({"ell": 5}, r"ell must be at most coarse=4 \(patches of 3 layers already cover D\), got 5"),
        ({"coarse": (4, 2), "fine": (16, 8), "ell": 5}, r"ell must be at most coarse=\[4, 2\] .*of 3 layers"),
        ({"dim": True}, "dim must be 1, 2 or 3, got True"),
        ({"coarse": (4, 4, 4)}, r"coarse must be an integer or 2 integers \(x first\) for dim=2, got \(4, 4, 4\)"),
        ({"coarse": (4, 0)}, "each of coarse must be an integer of at least 1, got 0"),
        ({"fine": (16, True)}, "each of fine must be an integer of at least 1, got True"),
        ({"fine": (16, 32)}, r"fine/coefficient|coefficient/coarse must be the same along every axis"),
        (
            {"coarse": (4, 2)},
            r"coefficient/coarse must be the same along every axis, got coarse=\[4, 2\] and coeffi.*=16",
        ),
        ({"coarse": (4, 3)}, r"coarse must divide coefficient, got coarse=\[4, 3\] and coefficient=16"),
        ({"coefficient": 4, "fine": (8, 16)}, r"fine/coefficient must be the same along every axis"),
        ({"lengths": (1.0,)}, r"lengths must be 2 positive numbers \(x first\), or one for all axes, got \(1\.0,\)"),
        ({"lengths": (1.0, -1.0)}, "lengths must be 2 positive numbers"),
        ({"lengths": float("nan")}, "lengths must be 2 positive numbers"),
        ({"lengths": (1.0, "2")}, "lengths must be 2 positive numbers"),
        ({"lengths": True}, "lengths must be 2 positive numbers"),
        ({"lengths": {}}, "lengths must be 2 positive numbers"),
        ({"dirichlet": "xmin"}, "dirichlet must be a list of faces out of .*'ymax'.*, got 'xmin'"),
        ({"dirichlet": ["zmin"]}, r"dirichlet must name faces out of .* for d = 2, got 'zmin'"),
        ({"dirichlet": [3]}, "dirichlet must name faces out of .*, got 3"),
        ({"dirichlet": []}, "dirichlet must name at least one face.*singular"),
        (
            {"active": np.ones((4, 4))},
            r"active must be an array of bool of shape \(4, 4\).*got float64 of shape \(4, 4\)",
        ),
        ({"active": np.ones((4, 3), bool)}, r"active must be an array of bool .*got bool of shape \(4, 3\)"),
        ({"active": np.ma.ones((4, 4), bool)}, r"got a masked array of shape \(4, 4\)"),
        ({"active": np.zeros((4, 4), bool)}, "active must hold at least one element"),
        ({"active": np.eye(4, dtype=bool)}, r"touch in a corner or an edge only, .*coarse node \(1, 1\)"),
        ({"active": ISLAND}, r"every connected part .*the part around element \(1, 1\) \(x first\) has none"),
        ({"ell": 0, "fine": 8, "dirichlet": ["xmin"]}, "fine must be 3 times coarse or more for ell=0"),
    ],
)
def test_bad_grids(arguments, message):
    with pytest.raises(InputError, match=message) as caught:
        Grid(**{"dim": 2, "coarse": 4, "fine": 16, "ell": 1} | arguments)
    assert str(caught.value).endswith(".")


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
        ((60, 80), Grid(2, (20, 15), (80, 60), 2, (80, 60))),
        ((60, 80, 2, 2), Grid(2, (20, 15), (80, 60), 2, (80, 60))),
        ((85, 220, 60), Grid(3, (12, 44, 17), (60, 220, 85), 2, (60, 220, 85))),  # SPE10
        ((7, 12), Grid(2, (12, 7), (48, 28), 2, (12, 7))),
    ],
)
def test_grid_for_a_coefficient(shape, expected):
    assert Grid.for_coefficient(np.ones(shape)) == expected


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("n", [*range(2, 40), 60, 128, 210])
def test_grids_for_coefficients_are_as_promised(dim, n):
    grid = Grid.for_coefficient(np.broadcast_to(1.0, (n,) * dim))
    assert (grid.dim, grid.coefficient, grid.ell) == (dim, (n,) * dim, 2) and grid.unit_cube
    assert grid.num_free_nodes > 0 and grid.ratio >= 4
    possible = [n // k for k in range(4, 9) if n % k == 0 and n // k >= 2]
    if possible:
        assert grid.coarse == (max(possible),) * dim
    assert grid.fine[0] == n or grid.fine[0] ** dim <= 128**2 or grid.ratio - grid.cells_per_element < 4


def test_a_grid_for_a_coefficient_keeps_what_is_given():
    domain = {"lengths": (2.0, 1.0), "dirichlet": ["xmin"], "active": HOLE}
    expected = Grid(2, (4, 3), (16, 12), 1, (8, 6), **domain)
    assert Grid.for_coefficient(np.ones((6, 8)), 1, (4, 3), (16, 12), **domain) == expected
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
        ((60, 60, 3, 3), r"A must have d = 1, 2 or 3 axes of at least 2 cells.*got shape \(60, 60, 3, 3\)"),
        ((1, 1), r"got shape \(1, 1\)"),
        ((60, 1), r"got shape \(60, 1\)"),
        ((), r"got shape \(\)"),
        ((0, 0), r"got shape \(0, 0\)"),
        ((4,) * 6, "A must have d = 1, 2 or 3 axes"),
    ],
)
def test_no_grid_for_a_coefficient(shape, message):
    with pytest.raises(InputError, match=message):
        Grid.for_coefficient(np.empty(shape))


# -- boxes, faces, masks -----------------------------------------------------------------------------------


@pytest.fixture(params=GRIDS)
def grid(request) -> Grid:
    return GRIDS[request.param]


def test_written_and_read_back(grid):
    table = json.loads(json.dumps(grid.as_dict()))
    again = Grid.from_dict(table)
    assert again == grid and hash(again) == hash(grid) and again.as_dict() == grid.as_dict()
    assert np.array_equal(again.active, grid.active) and not grid.unit_cube


def test_what_is_at_its_default_is_left_out():
    given = {"dim": 2, "coarse": 4, "fine": 16, "ell": 1, "coefficient": 8}
    whole = Grid(2, [4, 4], np.array([16, 16]), 1, (8, 8), 1, ["ymax", "xmin", "ymin", "xmax"], np.ones((4, 4), bool))
    assert whole == Grid(**given) == Grid.from_dict(given) and whole.as_dict() == given and whole.unit_cube
    assert Grid.from_dict({key: given[key] for key in ("dim", "coarse", "fine", "ell")}) == Grid(2, 4, 16, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"holes": 1}, "grid has no 'holes', expected"),
        ({"coarse": 3}, "coarse must divide coefficient"),
        ({"inactive": 5}, "inactive must hold increasing runs .*of which there are 12, got 5"),
        ({"inactive": [[1, 2, 3]]}, "inactive must hold increasing runs"),
        ({"inactive": [[5, 13]]}, "inactive must hold increasing runs"),
        ({"inactive": [[-2, 1]]}, "inactive must hold increasing runs"),
        ({"inactive": [[8, 9], [5, 6]]}, "inactive must hold increasing runs"),
        ({"inactive": [["a", "b"]]}, "inactive must hold increasing runs"),
        ({"inactive": [[0, 12]]}, "active must hold at least one element"),
    ],
)
def test_bad_tables(change, message):
    with pytest.raises(InputError, match=message):
        Grid.from_dict(GRIDS["hole"].as_dict() | change)


@pytest.mark.parametrize("name", ["dim", "coarse", "fine", "ell"])
def test_tables_that_lack_something(name):
    table = GRIDS["hole"].as_dict()
    del table[name]
    with pytest.raises(InputError, match=f"grid lacks '{name}'"):
        Grid.from_dict(table)


def test_grids_told_apart():
    hole, other = GRIDS["hole"], Grid.from_dict(GRIDS["hole"].as_dict() | {"inactive": [[6, 7]]})
    assert told_apart(hole, GRIDS["box"]) == (repr(hole), repr(GRIDS["box"]))
    assert repr(hole) == repr(other) and repr(hole).endswith("dirichlet=['xmin'], 1 inactive elements)")
    first, second = told_apart(hole, other)
    assert first == f"{repr(hole)[:-1]}, element 5 inactive)" and second == f"{repr(hole)[:-1]}, element 5 active)"


def test_shapes_and_widths(grid):
    counts = grid.coarse[::-1]
    assert grid.element_shape == counts and grid.node_shape == tuple(n + 1 for n in counts)
    assert grid.fine_node_shape == tuple(n * grid.ratio + 1 for n in counts)
    assert grid.coefficient_shape == tuple(n * grid.cells_per_element for n in counts)
    for axis, width in enumerate(grid.widths):
        assert width == pytest.approx(grid.lengths[axis] / grid.coarse[axis])
    assert grid.num_elements == np.prod(counts) and grid.num_nodes == np.prod(grid.node_shape)
    numbers = grid.element_numbers(grid.elements)
    assert np.array_equal(numbers, np.arange(grid.num_elements))
    index = tuple(grid.elements[:, ::-1].T)
    assert np.array_equal(np.ravel_multi_index(index, counts), numbers)


def touching(grid: Grid, node: tuple[int, ...]) -> list[int]:
    """Active elements that a coarse node, x first, belongs to."""
    return [
        e for e in grid.active_elements if all(0 <= n - p <= 1 for n, p in zip(node, grid.elements[e], strict=True))
    ]


def given(grid: Grid, node: tuple[int, ...], counts: tuple[int, ...]) -> bool:
    """Whether a node of a lattice, x first, lies on a face with u given."""
    ends = ((face_axis(face)) for face in grid.dirichlet)
    return any(node[axis] == (counts[axis] if upper else 0) for axis, upper in ends)


def test_coarse_nodes_by_brute_force(grid):
    numbers = []
    for index in np.ndindex(*grid.node_shape):
        node = index[::-1]
        active, fixed = bool(touching(grid, node)), given(grid, node, grid.coarse)
        assert grid.active_nodes[index] == active and grid.fixed_nodes[index] == (active and fixed)
        assert grid.free_nodes[index] == (active and not fixed)
        numbers.append(active and not fixed)
    assert grid.num_free_nodes == sum(numbers)
    assert np.array_equal(np.flatnonzero(grid.free_numbers >= 0), np.flatnonzero(numbers))


def brute_free(grid: Grid, element: int) -> np.ndarray:
    """Fine nodes of a padded patch that belong to an active element of it, none beyond, and no face with u given."""
    r, width, corner = grid.ratio, grid.patch_width, grid.elements[element] - grid.ell
    free = np.zeros((width * r + 1,) * grid.dim, dtype=bool)
    counts = tuple(n * r for n in grid.coarse)
    for index in np.ndindex(*free.shape):
        node = [corner[axis] * r + index[::-1][axis] for axis in range(grid.dim)]
        inside = outside = False
        for e in grid.active_elements:
            position = grid.elements[e]
            if all(0 <= n - p * r <= r for n, p in zip(node, position, strict=True)):
                own = all(0 <= p - c < width for p, c in zip(position, corner, strict=True))
                inside, outside = inside or own, outside or not own
        free[index] = inside and not outside and not given(grid, tuple(node), counts)
    return free


def random_grid(dim: int, seed: int) -> Grid:
    rng = np.random.default_rng(seed)
    while True:
        counts = tuple(int(n) for n in rng.integers(2, 5 if dim < 3 else 4, dim))
        ell, ratio = int(rng.integers(0, 3 if dim < 3 else 2)), int(rng.integers(2, 4))
        faces = [face for face in faces_of(dim) if rng.random() < 0.5]
        active = rng.random(counts[::-1]) < 0.75
        try:
            return Grid(dim, counts, [ratio * n for n in counts], ell, counts, None, faces, active)
        except InputError:
            continue


@pytest.mark.parametrize(("dim", "seed"), [*product((1, 2), range(8)), *product((3,), range(2))])
def test_free_nodes_of_patches_by_brute_force(dim, seed):
    grid = random_grid(dim, seed)
    for element in grid.active_elements[:: 1 if dim < 3 else 5]:
        assert np.array_equal(grid.free_patch_nodes(element), brute_free(grid, element)), (grid, element)


def test_patches_of_a_box_are_cut_where_it_ends(grid):
    Z = np.arange(1.0, np.prod(grid.coefficient_shape) + 1).reshape(grid.coefficient_shape)
    patches, m = grid.cut_patches(Z), grid.cells_per_element
    for element, position in enumerate(grid.elements):
        for index in np.ndindex(*patches.shape[1:]):
            cell = [(p - grid.ell) * m + i for p, i in zip(position[::-1], index, strict=True)]
            inside = all(0 <= c < n for c, n in zip(cell, Z.shape, strict=True))
            assert patches[(element, *index)] == (Z[tuple(cell)] if inside else 0)
        low, extent = grid.patch_box(element)
        assert low == tuple(max(p - grid.ell, 0) for p in position)
        assert all(
            a + e == min(p + grid.ell + 1, n) for a, e, p, n in zip(low, extent, position, grid.coarse, strict=True)
        )


def test_the_mesh_of_fine_cells(grid):
    fine = grid.at_fine_scale
    assert fine.coarse == grid.fine and fine.node_shape == grid.fine_node_shape and fine.lengths == grid.lengths
    assert np.array_equal(fine.active, np.kron(grid.active, np.ones((grid.ratio,) * grid.dim, dtype=bool)))
    assert np.array_equal(grid.active_cells, np.kron(grid.active, np.ones((grid.cells_per_element,) * grid.dim, bool)))
