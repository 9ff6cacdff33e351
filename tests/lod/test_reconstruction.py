"""Reconstructions on all domains: with ideal patches and source correctors they are the fine solution itself."""

from __future__ import annotations

import numpy as np
import pytest
from domain_cases import GRIDS, Patches, coefficient_on, fine_solution, problem_on

from nnlod_fenics import Grid, InputError
from nnlod_fenics.lod.coarse import CoarseSolver, apply_local, coarse_operator, sum_local
from nnlod_fenics.lod.interpolation import quasi_interpolation
from nnlod_fenics.lod.reconstruction import extend_correctors, reconstruct
from nnlod_fenics.problem import Problem


def with_layers(grid: Grid, ell: int) -> Grid:
    return Grid.from_dict({**grid.as_dict(), "ell": ell})


def coarse_solution(grid: Grid, found: Patches, problem: Problem) -> np.ndarray:
    """u_H of PG-LOD with source correctors."""
    solver = CoarseSolver(grid, problem)
    lift = apply_local(grid, found.S, solver.boundary)
    return solver.solve(coarse_operator(grid, found.S), sum_local(grid, found.load), lift)


@pytest.mark.parametrize("tensor", [False, True])
@pytest.mark.parametrize("name", GRIDS)
def test_ideal_patches_reproduce_the_fine_solution(name, tensor):
    grid = with_layers(GRIDS[name], max(GRIDS[name].coarse) - 1)
    A, problem = coefficient_on(grid, tensor), problem_on(grid)
    found = Patches(grid, A, problem)
    u, fine = coarse_solution(grid, found, problem), fine_solution(grid, A, problem)
    size = np.nanmax(np.abs(fine))
    boundary = CoarseSolver(grid, problem).boundary
    np.testing.assert_allclose(u, quasi_interpolation(grid, fine, boundary), atol=1e-10 * size)
    np.testing.assert_allclose(reconstruct(grid, u, found.correctors, found.source), fine, atol=1e-10 * size)


@pytest.mark.parametrize("name", ["flow", "one face, holes"])
def test_errors_decay_with_the_layers(name):
    A, problem = coefficient_on(GRIDS[name]), problem_on(GRIDS[name])
    fine = fine_solution(GRIDS[name], A, problem)
    errors = []
    for ell in range(4):
        grid = with_layers(GRIDS[name], ell)
        found = Patches(grid, A, problem)
        u = coarse_solution(grid, found, problem)
        expected = quasi_interpolation(grid, fine, CoarseSolver(grid, problem).boundary)
        coarse = np.nanmax(np.abs(u - expected))
        errors.append((coarse, np.nanmax(np.abs(reconstruct(grid, u, found.correctors, found.source) - fine))))
    ratios = np.array(errors[1:]) / np.array(errors[:-1])
    assert (ratios < 0.5).all(), errors


@pytest.mark.parametrize("name", GRIDS)
def test_extended_correctors_add_up_to_the_reconstruction(name, rng):
    grid = GRIDS[name]
    found = Patches(grid, coefficient_on(grid), problem_on(grid))
    u = np.where(grid.active_nodes, rng.standard_normal(grid.node_shape), np.nan)
    total = reconstruct(grid, u, np.zeros_like(found.correctors))
    assert (np.isnan(total) == ~grid.at_fine_scale.active_nodes).all()
    for element in grid.active_elements:
        extended = extend_correctors(grid, int(element), found.correctors[element])
        total = total - np.tensordot(u.ravel()[grid.element_nodes[element]], extended, axes=1)
    np.testing.assert_allclose(total, reconstruct(grid, u, found.correctors), atol=1e-12 * np.nanmax(np.abs(total)))


def test_bad_input():
    grid = GRIDS["flow"]
    phi = np.zeros((24, 4, 21, 21))
    with pytest.raises(InputError, match=r"source must have shape \(24, 21, 21\), got \(21, 21\)"):
        reconstruct(grid, np.zeros((5, 7)), phi, np.zeros((21, 21)))
    with pytest.raises(InputError, match=r"u must have shape \(5, 7\) .*, got \(7, 5\)"):
        reconstruct(grid, np.zeros((7, 5)), phi)
