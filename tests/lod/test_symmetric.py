"""Symmetric positive definite coarse systems: Cholesky and conjugate gradients against dense algebra."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse
from kinds import make_coefficient

from nnlod_fenics import Grid, NumericalError, solve
from nnlod_fenics.lod import symmetric
from nnlod_fenics.lod.coarse import solve_sparse
from nnlod_fenics.lod.symmetric import solve_symmetric

WAYS = ("cholesky", "cg")


def choose(monkeypatch, way: str) -> None:
    monkeypatch.setattr(symmetric, "LARGEST_WORK", {"cholesky": np.inf, "cg": 0.0}[way])


def holes() -> Grid:
    """No multiple of anything, two holes, conditions on two faces."""
    active = np.ones((9, 13), dtype=bool)
    active[2:5, 3:6] = active[6, 8:] = False
    return Grid(2, (13, 9), (26, 18), 1, lengths=(2.0, 1.0), dirichlet=("xmin", "ymax"), active=active)


GRIDS = {
    "d = 1": Grid(1, 40, 80, 1),
    "d = 2": Grid(2, 12, 24, 1),
    "d = 3": Grid(3, 6, 12, 1),
    "long": Grid(2, (30, 4), (60, 8), 1, lengths=(15.0, 2.0)),
    "high": Grid(2, (4, 30), (8, 60), 2, lengths=(2.0, 15.0)),
    "holes": holes(),
}


def system(grid: Grid, kind: str = "lognormal", level: float = 4.0) -> scipy.sparse.csr_array:
    return solve(grid, make_coefficient(kind, 1, grid, level), form="galerkin").K


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", GRIDS)
def test_against_dense_cholesky(name, way, rng, monkeypatch):
    choose(monkeypatch, way)
    grid = GRIDS[name]
    K, b = system(grid), rng.standard_normal(grid.num_free_nodes)
    x, how = solve_symmetric(grid, K, b)
    expected = scipy.linalg.cho_solve(scipy.linalg.cho_factor(K.toarray(), lower=True), b)
    assert np.abs(x - expected).max() < 1e-10 * np.abs(expected).max()
    assert how.method == way and (how.iterations > 0) == (way == "cg")
    assert how.residual == pytest.approx(np.linalg.norm(b - K @ x) / np.linalg.norm(b), rel=1e-6)
    assert how.residual < 2e-12


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("kind", "level"), [("channels", 1e4), ("conductive inclusions", 1e6), ("poor inclusions", 1e-6)]
)
def test_high_contrast(kind, level, way, monkeypatch):
    """Against LU with row exchanges, within what the condition number allows."""
    choose(monkeypatch, way)
    grid = Grid(2, 14, 56, 1)
    K, b = system(grid, kind, level), np.ones(13 * 13)
    x, how = solve_symmetric(grid, K, b)
    scale = 1 / np.sqrt(K.diagonal())
    condition = np.linalg.cond(scale[:, None] * K.toarray() * scale)
    expected = np.linalg.solve(K.toarray(), b)
    assert how.method == way
    assert np.abs(x - expected).max() < max(1e-10, 1e-14 * condition) * np.abs(expected).max()
    assert np.abs(x - solve_sparse(K, b)).max() < max(1e-10, 1e-14 * condition) * np.abs(expected).max()


def test_one_triangle_is_read():
    for grid in (GRIDS["d = 2"], GRIDS["long"]):
        K = system(grid)
        band = symmetric._factorise(K, symmetric._places(grid))
        spoilt = scipy.sparse.csr_array(scipy.sparse.tril(K) + 7 * scipy.sparse.triu(K, k=1))
        np.testing.assert_array_equal(symmetric._factorise(spoilt, symmetric._places(grid)), band)


def test_the_shortest_axis_goes_fastest():
    """The band of 30 by 4 elements is that of 4 by 30: 3 rows of 3 free nodes and 3 neighbours."""
    for name in ("long", "high"):
        grid = GRIDS[name]
        reach = 2 * grid.ell + 1
        assert len(symmetric._factorise(system(grid), symmetric._places(grid))) == reach * 3 + 2 + 1


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("scale", [1e-290, 1e-150, 1e150])
def test_systems_of_any_scale(scale, way, rng, monkeypatch):
    choose(monkeypatch, way)
    grid = GRIDS["d = 2"]
    K, b = system(grid), rng.standard_normal(grid.num_free_nodes)
    x, how = solve_symmetric(grid, K, b)
    for factor in (1.0, scale):
        scaled, other = solve_symmetric(grid, scipy.sparse.csr_array(K * scale), b * factor)
        np.testing.assert_allclose(scaled * (scale / factor), x, rtol=1e-10, atol=1e-10 * np.abs(x).max())
        assert other.method == how.method and other.residual < 2e-12


@pytest.mark.parametrize("way", WAYS)
def test_what_is_not_positive_definite_is_refused(way, rng, monkeypatch):
    choose(monkeypatch, way)
    grid = GRIDS["d = 2"]
    K, b = system(grid), rng.standard_normal(grid.num_free_nodes)
    lowest = np.linalg.eigvalsh(K.toarray())[:2]
    indefinite = K - (0.99 * lowest[0] + 0.01 * lowest[1]) * scipy.sparse.eye_array(len(b))
    for matrix in (indefinite, -K, K - 2 * scipy.sparse.diags_array(K.diagonal())):
        with pytest.raises(NumericalError, match="not positive definite"):
            solve_symmetric(grid, scipy.sparse.csr_array(matrix), b)
    for matrix in (0 * K, np.nan * K):
        with pytest.raises(NumericalError, match="zero or not finite"):
            solve_symmetric(grid, scipy.sparse.csr_array(matrix), b)


def test_a_singular_matrix_is_refused(rng):
    """Pure no-flow data: the energies of constants vanish but for rounding, whatever its sign."""
    grid = Grid(2, 10, 20, 1)
    for seed in range(10):
        operator = solve(grid, make_coefficient("lognormal", seed, grid, 1.0), form="galerkin").operator
        everywhere = Grid(2, 12, 24, 1)  # as many free nodes as the first has nodes
        assert everywhere.num_free_nodes == operator.shape[0]
        with pytest.raises(NumericalError, match="singular to working accuracy"):
            solve_symmetric(everywhere, operator, rng.standard_normal(operator.shape[0]))


@pytest.mark.parametrize("way", WAYS)
def test_a_right_side_of_zeros(way, monkeypatch):
    choose(monkeypatch, way)
    grid = GRIDS["d = 2"]
    x, how = solve_symmetric(grid, system(grid), np.zeros(grid.num_free_nodes))
    assert not x.any() and how == (way, 0, 0.0)


def test_what_does_not_converge_is_factorised(monkeypatch):
    grid, b = GRIDS["d = 2"], np.ones(GRIDS["d = 2"].num_free_nodes)
    K = system(grid)
    expected = solve_symmetric(grid, K, b)[0]
    choose(monkeypatch, "cg")
    monkeypatch.setattr(symmetric, "_MOST_ITERATIONS", 3)
    x, how = solve_symmetric(grid, K, b)
    assert how.method == "cholesky" and how.iterations == 3 and how.residual < 1e-12
    np.testing.assert_array_equal(x, expected)
    monkeypatch.setattr(symmetric, "free_bytes", lambda: 1000)
    with pytest.raises(NumericalError, match="did not converge in 3 iterations, and Cholesky's factor"):
        solve_symmetric(grid, K, b)


def test_iterations_do_not_grow_with_the_number_of_elements(monkeypatch):
    """Two levels: with the diagonal alone they double from grid to grid."""
    choose(monkeypatch, "cg")
    found = []
    for n in (16, 32):
        grid = Grid(2, n, 2 * n, 1)
        K = system(grid, level=1.0)
        found.append(solve_symmetric(grid, K, np.ones(grid.num_free_nodes))[1].iterations)
    assert found[1] < 1.3 * found[0] and found[1] < 60


@pytest.mark.parametrize("way", WAYS)
def test_through_solve_with_holes_and_boundary_values(way, monkeypatch):
    """K u = load at free nodes, u = g on Γ_D, by dense algebra on all nodes."""
    grid = holes()
    choose(monkeypatch, way)
    A = make_coefficient("lognormal", 2, grid, 2.0)
    solution = solve(grid, A, f=1.0, g={"xmin": 2.0, "ymax": lambda x: 2 + x[0]}, flux={"xmax": 0.5}, form="galerkin")
    free, fixed = grid.free_nodes.ravel(), (grid.fixed_nodes & grid.active_nodes).ravel()
    whole, u = solution.operator.toarray(), solution.u.ravel()
    right = solution.load.ravel()[free] - whole[np.ix_(free, fixed)] @ u[fixed]
    expected = np.linalg.solve(whole[np.ix_(free, free)], right)
    assert np.abs(u[free] - expected).max() < 1e-11 * np.abs(expected).max()
    np.testing.assert_allclose(solution.u[:, 0], 2.0)
    np.testing.assert_allclose(solution.u[-1], 2 + np.linspace(0, 2, 14))
    assert np.isnan(solution.u[~grid.active_nodes]).all()
    assert solution.solver.method == way and solution.solver.residual < 1e-11


def test_constants_are_solutions_where_boundary_values_are():
    """An independent answer: u = 3 for f = 0, g = 3, whatever A."""
    grid = holes()
    u = solve(grid, make_coefficient("channels", 0, grid, 1e4), f=0.0, g=3.0, form="galerkin").u
    np.testing.assert_allclose(u[grid.active_nodes], 3.0, rtol=1e-9)


def test_petrov_galerkin_solutions_say_nothing():
    grid = Grid(2, 4, 8, 1)
    assert solve(grid, np.ones((8, 8))).solver is None
