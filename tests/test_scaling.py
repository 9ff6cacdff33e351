"""The problem is linear in A over the whole range of float64; where a result leaves that range, a sentence says so."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from petsc4py import PETSc

from nnlod_fenics import NNLOD, Grid, InputError, local_matrices, solve, solve_fine
from nnlod_fenics.scaling import center_exponent

GRIDS = [Grid(1, 4, 24, 1), Grid(2, 3, 12, 1), Grid(3, 2, 6, 1)]
FACTORS = [1e-150, 1e-14, 1e150]
FOURS = 2.0**500  # also a power of four: no digit may change


def rough(grid: Grid, kind: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    if kind == "scalar":
        return np.exp(rng.standard_normal(grid.coefficient_shape))
    root = rng.standard_normal((*grid.coefficient_shape, grid.dim, grid.dim))
    return root @ np.swapaxes(root, -1, -2) + 0.5 * np.eye(grid.dim)


def relative(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max() / np.abs(b).max())


@pytest.mark.parametrize("kind", ["scalar", "matrices"])
@pytest.mark.parametrize("method", ["condensed", "dolfinx"])
@pytest.mark.parametrize("grid", GRIDS, ids=lambda g: f"{g.dim}d")
def test_local_matrices_are_linear_in_the_coefficient(grid, method, kind):
    A = rough(grid, kind)
    S, phi = local_matrices(grid, A, method=method, correctors=True)
    for factor in FACTORS:
        scaled, same = local_matrices(grid, factor * A, method=method, correctors=True)
        assert relative(scaled / factor, S) < 1e-12
        assert relative(same, phi) < 1e-12
    alone = local_matrices(grid, A, method=method)
    for factor in (FOURS, 1 / FOURS):
        assert np.array_equal(local_matrices(grid, factor * A, method=method), factor * alone)


@pytest.fixture
def solved_to_the_end() -> Iterator[None]:
    """Fine solutions without the error that remains at the tolerance, which no multigrid method leaves linear in A."""
    options = PETSc.Options("nnlod_fine_")
    options.setValue("ksp_rtol", 1e-14)
    yield
    options.delValue("ksp_rtol")


@pytest.mark.parametrize("kind", ["scalar", "matrices"])
@pytest.mark.parametrize("grid", GRIDS, ids=lambda g: f"{g.dim}d")
def test_fem_to_its_tolerance_is_linear_in_coefficient_and_source(grid, kind):
    A = rough(grid, kind)
    f = np.random.default_rng(1).standard_normal(grid.fine_shape)
    u = solve_fine(grid, A, f).values()
    for factor in FACTORS:
        assert relative(solve_fine(grid, factor * A, f).values() * factor, u) < 1e-9
        assert relative(solve_fine(grid, A, factor * f).values() / factor, u) < 1e-12
    for factor in (FOURS, 1 / FOURS):
        assert np.array_equal(solve_fine(grid, factor * A, f).values() * factor, u)
        assert np.array_equal(solve_fine(grid, A, factor * f).values() / factor, u)


@pytest.mark.usefixtures("solved_to_the_end")
@pytest.mark.parametrize("kind", ["scalar", "matrices"])
@pytest.mark.parametrize("grid", GRIDS, ids=lambda g: f"{g.dim}d")
def test_fem_is_linear_in_coefficient_and_source(grid, kind):
    A = rough(grid, kind)
    f = np.random.default_rng(1).standard_normal(grid.fine_shape)
    u = solve_fine(grid, A, f).values()
    for factor in FACTORS:
        assert relative(solve_fine(grid, factor * A, f).values() * factor, u) < 1e-12
        assert relative(solve_fine(grid, A, factor * f).values() / factor, u) < 1e-12
    for factor in (1e-250, 1e250):
        assert relative(solve_fine(grid, factor * A, factor * f).values(), u) < 1e-12


def test_realizations_are_scaled_one_by_one():
    grid = GRIDS[1]
    factors = np.array([1e-200, 1.0, 1e200])
    A = rough(grid, "scalar")
    together = local_matrices(grid, factors[:, None, None] * A)
    for factor, S in zip(factors, together, strict=True):
        assert relative(S / factor, local_matrices(grid, A)) < 1e-12


def test_single_precision_within_its_range():
    grid = GRIDS[1]
    A = rough(grid, "scalar")
    S = local_matrices(grid, A)
    for factor in (1e-30, 1e30):
        assert relative(local_matrices(grid, factor * A, dtype=np.float32).astype(float) / factor, S) < 1e-4
    with pytest.raises(InputError, match=r"A must .* float32 .* about 1e\+50"):
        local_matrices(grid, 1e50 * A, dtype=np.float32)


@pytest.mark.parametrize("method", ["condensed", "dolfinx"])
@pytest.mark.parametrize("size", [1e-310, 1.7e308])
def test_local_matrices_that_overflow_or_underflow(method, size):
    grid = GRIDS[0]  # S_T is of the size of A / H
    with pytest.raises(InputError, match=r"A must .* float64 can hold the local matrices, got values of about 1e.3"):
        local_matrices(grid, np.full(grid.coefficient_shape, size), method=method)


@pytest.mark.parametrize(("size", "f"), [(1e-300, 1e20), (1e300, 1e-20)])
def test_fem_solutions_that_overflow_or_underflow(size, f):
    grid = GRIDS[1]
    with pytest.raises(InputError, match=r"A must .* can hold the solution, got values of about 1e.300"):
        solve_fine(grid, np.full(grid.coefficient_shape, size), f)
    assert not solve_fine(grid, np.full(grid.coefficient_shape, size), 0.0).values().any()


@pytest.mark.parametrize("values", [[1e-300, 1e-300, 1e-300, 1e300], [1e300, 1e300, 1e300, 1e-300], [5e-324, 1.7e308]])
def test_scaling_neither_overflows_nor_loses_the_contrast(values):
    A = np.array(values)
    exponent = center_exponent(A, tensor=False)
    assert exponent % 2 == 0
    scaled = np.ldexp(A, -exponent)
    assert np.isfinite(scaled).all()
    assert np.array_equal(np.ldexp(scaled, exponent)[A > 1e-307], A[A > 1e-307])


@pytest.mark.usefixtures("solved_to_the_end")
@pytest.mark.parametrize("method", ["lod", "fem", "nn"])
def test_solutions_scale_with_the_coefficient(method):
    """u(sA) = u(A)/s, as permeabilities in square metres need it."""
    model = NNLOD.load("lognormal-0.5")
    grid = model.grid if method == "nn" else Grid(2, 4, 16, 1, coefficient=8)
    A = np.exp(np.random.default_rng(0).standard_normal(grid.coefficient_shape) / 2)
    options = {"model": model} if method == "nn" else {}
    u = solve(grid, A, method, **options).u
    for exponent in (-150, -100, -14, -7, 7, 14, 100, 150):
        factor = 10.0**exponent
        accuracy = 1e-4 if method == "nn" else 1e-12  # the network computes in float32
        assert relative(solve(grid, factor * A, method, **options).u * factor, u) < accuracy, exponent
