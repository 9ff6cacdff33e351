"""``ell="auto"``: the cheapest solution without a sign of an error of 2 %, and what is said about it."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from kinds import KINDS, coarse_truth, fine_truth, make_coefficient

from nnlod_fenics import Grid, InputError, solve, solvers
from nnlod_fenics.errors import MissingDependencyError
from nnlod_fenics.norms import relative_l2
from nnlod_fenics.problem import Problem

GRID = Grid(2, 8, 32, 2)


class NoFem:
    """Where DOLFINx is not installed."""

    def __init__(self, *_: object) -> None:
        raise MissingDependencyError("method 'fem' needs DOLFINx.")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_within_two_per_cent_or_it_says_so(kind, monkeypatch):
    """Fixed fields of contrasts up to 10⁴, so no chance is involved. Without FEM, which is never wrong."""
    monkeypatch.setattr(solvers, "_Fem", NoFem)
    for seed in range(4):
        level = KINDS[kind][1][seed % len(KINDS[kind][1])]
        A = make_coefficient(kind, seed, GRID, min(max(level, 1e-4), 1e4))
        solution = solve(GRID, A, ell="auto")
        error = relative_l2(solution.u, coarse_truth(GRID, A, Problem(1.0)), GRID)
        assert error < 0.02 or not solution.reliability.accurate
        assert solution.reliability.accurate == ("none of these" not in solution.steps[-1])


def test_a_calm_field_takes_few_layers(caplog):
    A = make_coefficient("lognormal", 0, GRID)
    with caplog.at_level(logging.INFO, "nnlod_fenics"):
        solution = solve(GRID, A, ell="auto", reconstruct=True)
    assert solution.grid.ell <= 2 and solution.form == "petrov-galerkin" and solution.reliability.accurate
    assert [f"PG-LOD with ℓ = {k + 1}: " in step for k, step in enumerate(solution.steps)] == [True] * solution.grid.ell
    assert solution.steps == [record.message for record in caplog.records]
    assert relative_l2(solution.u_fine, fine_truth(GRID, A, Problem(1.0))) < 0.01
    same = solve(solution.grid, A, source_correctors=True)
    np.testing.assert_array_equal(solution.u, same.u)


def test_at_last_fem():
    pytest.importorskip("dolfinx")
    A = make_coefficient("channels", 0, GRID, 1e4)
    solution = solve(GRID, A, ell="auto", reconstruct=True)
    assert solution.method == "fem" and len(solution.steps) == 5
    assert ["do not trust" in step for step in solution.steps] == [True] * 4 + [False]
    assert relative_l2(solution.u, fine_truth(GRID, A, Problem(1.0))) < 1e-6
    assert solution.u_fine is solution.u


def test_without_fem_it_says_that_nothing_is_good(monkeypatch):
    monkeypatch.setattr(solvers, "_Fem", NoFem)
    A = make_coefficient("channels", 0, GRID, 1e4)
    solution = solve(GRID, A, ell="auto")
    assert solution.form == "galerkin" and not solution.reliability.accurate
    assert solution.steps[-2] == "FEM is left out: method 'fem' needs DOLFINx."
    assert solution.steps[-1].startswith("none of these solutions is known to be within 2 % of FEM")


def test_what_does_not_fit_into_memory_is_left_out(monkeypatch):
    compute = solvers.local_matrices

    def limited(grid, *args, **options):
        if grid.ell > 1:
            raise InputError("too large.")
        return compute(grid, *args, **options)

    monkeypatch.setattr(solvers, "local_matrices", limited)
    monkeypatch.setattr(solvers, "_Fem", NoFem)
    solution = solve(GRID, make_coefficient("lognormal", 0, GRID), ell="auto")
    assert solution.grid.ell == 1
    assert solution.steps[1:3] == [
        "PG-LOD with ℓ = 2 is left out: too large.",
        "PG-LOD with ℓ = 3 is left out: too large.",
    ]


@pytest.mark.parametrize("dim", [1, 3])
def test_other_dimensions(dim):
    grid = Grid(dim, 3, 12, 1)
    solution = solve(grid, make_coefficient("noise", 0, grid), ell="auto")
    assert solution.method == "lod" and solution.grid.ell <= 2


def test_bad_options():
    A = np.ones((32, 32))
    with pytest.raises(InputError, match="ell must be 'auto' where it is not the grid's, got 2"):
        solve(GRID, A, ell=2)
    with pytest.raises(InputError, match="form does not apply to ell='auto'"):
        solve(GRID, A, ell="auto", form="galerkin")
    with pytest.raises(InputError, match="ell does not apply to method 'fem'"):
        solve(GRID, A, "fem", ell="auto")
