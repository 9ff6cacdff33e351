"""One problem from a file: which grid it is solved on, what is told, what is written."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from nnlod_fenics import Grid, InputError, load_config, local_matrices, solve
from nnlod_fenics.lod.reconstruction import extend_correctors
from nnlod_fenics.workflows.solve import solve_problem

A = np.exp(np.random.default_rng(1).standard_normal((12, 12)))


@pytest.fixture
def files(tmp_path: Path) -> Path:
    np.save(tmp_path / "A.npy", A)
    np.save(tmp_path / "box.npy", np.ones((12, 8)))
    return tmp_path


def settings(*stated: str):
    return load_config(None, stated, whole_grid=False)


@pytest.mark.parametrize(
    ("stated", "grid"),
    [
        ((), Grid(2, 3, 24, 2, 12)),
        (("grid.coarse=2",), Grid(2, 2, 24, 2, 12)),
        (("grid.coarse=4", "grid.fine=12", "grid.dim=2"), Grid(2, 4, 12, 2, 12)),
    ],
)
def test_the_grid_follows_from_the_coefficient(files, capsys, stated, grid):
    solution = solve_problem(settings(*stated), files / "s", coefficient=files / "A.npy")
    assert solution.grid == grid
    np.testing.assert_array_equal(np.load(files / "s" / "u_lod.npy"), solve(grid, A, "lod").u)
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert f"coarse = {grid.coarse[0]}, coefficient = 12, fine = {grid.fine[0]}, ell = 2;" in told


@pytest.mark.parametrize(
    ("name", "stated", "message"),
    [
        ("box", ("grid.coarse=[4, 4]",), r"coefficient/coarse|coarse must divide|same along every axis"),
        ("A", ("grid.dim=3",), r"A must have 3 axes of cells for grid\.dim = 3, got shape \(12, 12\)"),
        ("A", ("grid.coarse=5",), "coarse must divide coefficient, got coarse=5 and coefficient=12"),
        ("A", ("grid.coefficient=64",), r"A must have shape \(64, 64\)"),
    ],
)
def test_a_grid_that_does_not_fit_the_coefficient(files, name, stated, message):
    with pytest.raises(InputError, match=message):
        solve_problem(settings(*stated), files / "s", coefficient=files / f"{name}.npy")
    assert not (files / "s").exists()


def test_a_solution_on_a_mesh_in_between_is_written(files):
    """Method averaged on half the elements' width: u is on neither T_H nor T_h."""
    grid = Grid(2, 3, 24, 1, 12)
    stated = settings("grid.ell=1")
    solution = solve_problem(
        stated, files / "s", "averaged", files / "A.npy", refine=2, mean="effective", formats=("vtkhdf", "xdmf")
    )
    np.testing.assert_array_equal(solution.u, solve(grid, A, "averaged", refine=2, mean="effective").u)
    assert np.load(files / "s" / "u_averaged.npy").shape == (7, 7)
    with h5py.File(files / "s" / "coarse_solution.vtkhdf") as file:
        np.testing.assert_array_equal(file["VTKHDF/PointData/u_averaged"][:].ravel(), solution.u.ravel())
    assert (files / "s" / "u_averaged.xdmf").exists() and (files / "s" / "solution.png").stat().st_size > 3000


def test_correctors_are_written(files):
    solve_problem(settings("grid.ell=1"), files / "s", coefficient=files / "A.npy", correctors=[0, 4])
    grid = Grid(2, 3, 24, 1, 12)
    expected = local_matrices(grid, A, method="dolfinx", elements=[0, 4], correctors=True)[1]
    for element, phi in zip((0, 4), expected, strict=True):
        stored = np.load(files / "s" / f"corrector{element}.npz")
        np.testing.assert_allclose(stored["phi"], phi, atol=1e-10 * np.abs(phi).max())
        assert stored["element"] == element and stored["coarse"] == 3
        assert (files / "s" / f"corrector{element}.png").stat().st_size > 3000
        with h5py.File(files / "s" / f"corrector{element}.vtkhdf") as file:
            found = file["VTKHDF/PointData/phi_2"][:].reshape(25, 25)
        np.testing.assert_allclose(found, extend_correctors(grid, element, phi)[1], atol=1e-10 * np.abs(phi).max())


@pytest.mark.parametrize(
    ("method", "elements", "message"),
    [
        ("fem", [0], "correctors apply to method 'lod', got method 'fem'"),
        ("lod", [9], "elements must lie between 0 and 8"),
    ],
)
def test_correctors_that_cannot_be_written(files, method, elements, message):
    with pytest.raises(InputError, match=message):
        solve_problem(settings(), files / "s", method, files / "A.npy", correctors=elements)
    assert not (files / "s").exists()
