"""Patch problems with DOLFINx on all domains: known answers, and the equations that define correctors."""

from __future__ import annotations

import numpy as np
import pytest
from domain_cases import GRIDS, Patches, coefficient_on, problem_on
from domains import NAMES, load_domain
from residuals import corrector_residuals

from nnlod_fenics import Grid, InputError
from nnlod_fenics.loads import load_vector
from nnlod_fenics.lod import correctors
from nnlod_fenics.lod.coarse import CoarseSolver, apply_local, coarse_operator, sum_local
from nnlod_fenics.lod.correctors import solve_patches


@pytest.mark.parametrize("name", NAMES)
def test_known_answers(name):
    grid, A, problem, reference = load_domain(name)
    found = Patches(grid, np.where(grid.active_cells, A, np.nan), problem)
    np.testing.assert_allclose(found.S, reference["S"], rtol=0, atol=1e-12 * np.abs(reference["S"]).max())
    load = sum_local(grid, found.load)
    free = grid.free_nodes
    np.testing.assert_allclose(load[free], reference["b_corrected"][free], atol=1e-13)
    solver = CoarseSolver(grid, problem)
    u = solver.solve(coarse_operator(grid, found.S), load, apply_local(grid, found.S, solver.boundary))
    np.testing.assert_allclose(u, reference["u_corrected"], atol=1e-10)


@pytest.mark.parametrize("tensor", [False, True])
@pytest.mark.parametrize("name", GRIDS)
def test_correctors_fulfil_their_equations(name, tensor):
    grid = GRIDS[name]
    A = coefficient_on(grid, tensor)
    found = Patches(grid, A, problem_on(grid))
    residuals = corrector_residuals(grid, A, found.correctors)
    assert residuals.constraint.max() < 1e-12 and residuals.equation.max() < 1e-12 and residuals.support.max() == 0
    scale = np.abs(found.S).max()
    assert np.abs(found.S.sum(axis=1)).max() < 1e-11 * scale and np.abs(found.S.sum(axis=2)).max() < 1e-11 * scale
    assert not found.S[~grid.active.ravel()].any() and not found.correctors[~grid.active.ravel()].any()


def test_without_fine_scales_there_are_no_correctors():
    grid = Grid(2, 3, 3, 1, dirichlet=["xmin"], lengths=(1.0, 2.0))
    problem = problem_on(grid)
    found = Patches(grid, coefficient_on(grid), problem)
    assert not found.correctors.any() and not found.source.any()
    np.testing.assert_allclose(sum_local(grid, found.load), load_vector(grid, problem), atol=1e-14)


def test_few_factorisations_are_kept(monkeypatch):
    """Those of 20 patterns give the same matrices as one at a time."""
    grid = GRIDS["one face, holes"]
    A = coefficient_on(grid)
    many = [found.matrix for found in solve_patches(grid, A, np.arange(grid.num_elements))]
    monkeypatch.setattr(correctors, "_KEPT", 1)
    for matrix, found in zip(many, solve_patches(grid, A, np.arange(grid.num_elements)), strict=True):
        np.testing.assert_allclose(found.matrix, matrix, atol=1e-13)
        assert found.load is None and found.source is None


def test_loads_of_the_wrong_shape():
    grid = GRIDS["square"]
    with pytest.raises(InputError, match=r"loads must have shape \(2, 25\), got \(2, 16\)"):
        next(solve_patches(grid, coefficient_on(grid), np.arange(2), np.zeros((2, 16))))
