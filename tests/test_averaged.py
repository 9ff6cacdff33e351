"""FEM on a coarser mesh with averaged coefficients, against DOLFINx, exact means and homogenisation."""

import numpy as np
import pytest

from nnlod_fenics import Grid, make_solver, solve
from nnlod_fenics.averaged import averaged_mesh, cell_means
from nnlod_fenics.errors import InputError
from nnlod_fenics.problem import Problem

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
    with pytest.raises(InputError, match="A must be scalar for method 'averaged', got matrices"):
        solve(grid, np.tile(np.eye(2), (8, 8, 1, 1)), "averaged")
