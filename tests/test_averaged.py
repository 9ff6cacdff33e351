"""FEM on a coarser mesh with averaged coefficients, against DOLFINx, exact means and homogenisation."""

import numpy as np
import pytest

from nnlod_fenics import Grid, make_solver, solve
from nnlod_fenics.averaged import averaged_mesh, cell_means
from nnlod_fenics.errors import InputError
from nnlod_fenics.problem import Problem
from nnlod_fenics.upscaled import effective_tensors

MASK = np.ones((4, 6), dtype=bool)
MASK[1:3, 2] = False


def grids():
    box = {"coarse": (6, 4), "fine": (24, 16), "coefficient": (24, 16), "lengths": (3.0, 1.5)}
    return [
        Grid(1, 4, 16, 1, 16),
        Grid(2, **box, ell=1, dirichlet=("xmin", "ymax"), active=MASK),
        Grid(3, 2, 8, 1, 8, dirichlet=("xmin", "zmax")),
    ]


@pytest.mark.parametrize("grid", grids(), ids=lambda grid: f"d={grid.dim}")
def test_with_a_mesh_of_the_cells_it_is_fem(grid):
    """Where no cells are averaged it must be what DOLFINx gives, data of all kinds and fluxes included."""
    A = np.exp(np.random.default_rng(0).standard_normal(grid.coefficient_shape))
    problem = Problem(
        f=lambda x: 1 + x[0] ** 2, g=lambda x: x.sum(axis=0), flux={"xmax": 2.0} if grid.dim == 2 else 0.0
    )
    ours = make_solver("averaged", grid, problem, refine=grid.cells_per_element).solve_many([A])[0]
    fem = make_solver("fem", grid, problem).solve_many([A])[0]
    np.testing.assert_allclose(ours.u, fem.u, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(ours.coarse, fem.coarse, rtol=1e-9, atol=1e-9)
    for face in ("xmin", "xmax"):
        assert ours.outflow(face) == pytest.approx(fem.outflow(face), rel=1e-8, abs=1e-8)


@pytest.mark.parametrize("refine", [1, 2])
def test_of_a_coefficient_that_varies_between_its_cells_only(refine):
    """Any mean of equal values is their value: again FEM on that mesh, of f given on the cells of T_h too."""
    grid = Grid(2, (6, 4), (48, 32), 1, (24, 16), lengths=(3.0, 1.5), dirichlet=("xmin",), active=MASK)
    mesh = averaged_mesh(grid, refine)
    values = np.exp(np.random.default_rng(1).standard_normal(mesh.coefficient_shape))
    A = np.kron(values, np.ones((4 // refine, 4 // refine)))
    coarser = Grid(2, (6, 4), mesh.fine, 1, mesh.coefficient, (3.0, 1.5), ("xmin",), MASK)
    wells = (((1.0, 0.375), 3.0),)
    expected = solve(coarser, values, "fem", wells=wells, f=2.0)
    for mean in ("geometric", "harmonic", "arithmetic", 0.3):
        found = solve(grid, A, "averaged", wells=wells, f=2.0, refine=refine, mean=mean)
        np.testing.assert_allclose(found.u, expected.u, rtol=1e-9, atol=1e-10)


def test_means():
    grid = Grid(2, (2, 3), (8, 12), 1, (4, 6))
    A = np.exp(3 * np.random.default_rng(2).standard_normal((2, 6, 4)))
    block = A[1, 2:4, 0:2]  # the element (0, 1), x first
    expected = {
        "arithmetic": block.mean(),
        "harmonic": 4 / (1 / block).sum(),
        "geometric": block.prod() ** 0.25,
        0.5: (np.sqrt(block).sum() / 4) ** 2,
        -300.0: block.min() * 4 ** (1 / 300),
    }
    for mean, value in expected.items():
        assert cell_means(grid, A, 1, mean).shape == (2, 3, 2)
        assert cell_means(grid, A, 1, mean)[1, 1, 0] == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(cell_means(grid, A, 2), A, rtol=1e-13)


def test_layers_need_the_right_mean():
    """Across layers the harmonic mean is exact, along them the arithmetic one."""
    layers = np.tile([1.0, 100.0], 8)
    for A, mean in ((np.tile(layers, (16, 1)), "harmonic"), (np.tile(layers[:, None], (1, 16)), "arithmetic")):
        grid = Grid(2, 4, 32, 1, 16, dirichlet=("xmin", "xmax"))
        found = solve(grid, A, "averaged", f=0, g={"xmin": 1.0}, mean=mean)
        effective = 2 / (1 + 1 / 100) if mean == "harmonic" else 50.5
        assert found.outflow("xmax") == pytest.approx(effective, rel=1e-10)


def rotated(d: int, axis: int) -> np.ndarray:
    """Layers across an axis (0 is x), one fine cell thick."""
    return np.tile(np.tile([1.0, 100.0], 4), (8,) * (d - 1) + (1,)).swapaxes(d - 1, d - 1 - axis)


@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize("refine", [1, 2])
def test_effective_tensors_of_layers(d, refine):
    """Exact: the harmonic mean across layers, the arithmetic one along them, in boxes of any sides."""
    grid = Grid(d, 2, 8, 0, 8, lengths=(1.0, 2.0, 0.7)[:d])
    for axis in range(d):
        found = effective_tensors(grid, rotated(d, axis)[None], refine)
        expected = np.diag([200 / 101 if k == axis else 50.5 for k in range(d)])
        np.testing.assert_allclose(found, np.broadcast_to(expected, found.shape), rtol=1e-11, atol=1e-9)


def test_effective_tensors_of_checkerboards_and_matrices():
    """Squares of two values: nearly their geometric mean (Keller 1964). A constant tensor: itself."""
    grid = Grid(2, 1, 64, 0, 2)
    board = np.array([[1.0, 9.0], [9.0, 1.0]])
    tensor = effective_tensors(grid, board[None], 1)[0, 0, 0]
    np.testing.assert_allclose(tensor, 3 * np.eye(2), atol=0.08)
    assert tensor[0, 0] > 3  # Q1 elements are too stiff
    constant = np.array([[2.0, 0.5], [0.5, 1.0]])
    found = effective_tensors(Grid(2, 2, 8, 0, 4), np.tile(constant, (1, 4, 4, 1, 1)), 1)
    np.testing.assert_allclose(found, np.broadcast_to(constant, found.shape), rtol=1e-12)


def test_effective_tensors_turn_with_the_field():
    grid = Grid(2, 1, 8, 0, 8)
    A = np.exp(np.random.default_rng(3).standard_normal((8, 8)))
    tensor = effective_tensors(grid, A[None], 1)[0, 0, 0]
    mirrored = effective_tensors(grid, A[None, :, ::-1].copy(), 1)[0, 0, 0]  # x to -x
    swapped = effective_tensors(grid, A.T[None].copy(), 1)[0, 0, 0]
    assert abs(tensor[0, 1]) > 1e-3
    np.testing.assert_allclose(mirrored, tensor * [[1, -1], [-1, 1]], rtol=1e-10)
    np.testing.assert_allclose(swapped, tensor[::-1, ::-1], rtol=1e-10)


def test_fem_with_effective_tensors():
    """Layers at once: FEM with the exact effective tensor, against DOLFINx with that matrix."""
    grid = Grid(2, 4, 32, 1, 32, dirichlet=("xmin", "ymax"))
    A = np.tile(np.tile([1.0, 100.0], 16), (32, 1))
    found = solve(grid, A, "averaged", mean="effective")
    matrices = np.tile(np.diag([200 / 101, 50.5]), (4, 4, 1, 1))
    expected = solve(Grid(2, 4, 4, 0, 4, dirichlet=("xmin", "ymax")), matrices, "fem")
    np.testing.assert_allclose(found.u, expected.u, rtol=1e-9, atol=1e-11)


def test_mistakes():
    grid = Grid(2, 4, 16, 1, 8)
    A = np.ones((8, 8))
    for options, sentence in (
        ({"refine": 3}, r"refine must divide H/ε = 2, got 3\."),
        ({"refine": 1.0}, r"refine must divide H/ε = 2, got 1\.0\."),
        ({"mean": "median"}, r"mean must be one of .* or the exponent of a power mean, got 'median'\."),
        ({"mean": np.nan}, r"mean must be one of .*, got nan\."),
        ({"trust": 0.1}, "trust does not apply to method 'averaged'"),
    ):
        with pytest.raises(InputError, match=sentence):
            solve(grid, A, "averaged", **options)
    with pytest.raises(InputError, match="A must be scalar for mean='geometric', got matrices; mean='effective' takes"):
        solve(grid, np.tile(np.eye(2), (8, 8, 1, 1)), "averaged")
