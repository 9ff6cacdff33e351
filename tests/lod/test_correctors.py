"""Correctors: both methods, their equations, high contrast, and the fine-scale reconstruction."""

from __future__ import annotations

import numpy as np
import pytest
from residuals import corrector_residuals

from nnlod_fenics import Grid, InputError, NumericalError, coarse_matrix, local_matrices, solve_coarse, solve_fine
from nnlod_fenics.lod.reconstruction import extend_correctors, reconstruct
from nnlod_fenics.norms import energy_norm, prolong

GRIDS = [
    Grid(1, 6, 24, 2),
    Grid(2, 4, 16, 1),
    Grid(2, 6, 24, 3, coefficient=12),
    Grid(2, 3, 48, 1),
    Grid(2, 3, 12, 0),
    Grid(2, 3, 3, 1),
    Grid(3, 3, 12, 1),
]


def rough(grid: Grid, sigma: float = 1.0) -> np.ndarray:
    return np.exp(sigma * np.random.default_rng(0).standard_normal(grid.coefficient_shape))


def of_contrast(grid: Grid, contrast: float) -> np.ndarray:
    exponent = np.random.default_rng(1).random(grid.coefficient_shape)
    return contrast ** ((exponent - exponent.min()) / np.ptp(exponent))


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_methods_agree(grid):
    A = rough(grid)
    S, phi = local_matrices(grid, A, correctors=True)
    S_dolfinx, phi_dolfinx = local_matrices(grid, A, method="dolfinx", correctors=True)
    assert phi.shape == (grid.num_elements, 2**grid.dim) + (grid.patch_width * grid.ratio + 1,) * grid.dim
    np.testing.assert_allclose(S, S_dolfinx, rtol=0, atol=1e-11 * np.abs(S).max())
    np.testing.assert_allclose(phi, phi_dolfinx, rtol=0, atol=1e-12)


@pytest.mark.parametrize("grid", GRIDS[:5], ids=str)
@pytest.mark.parametrize("method", ["condensed", "dolfinx"])
def test_residuals(grid, method):
    A = rough(grid)
    _, phi = local_matrices(grid, A, method=method, correctors=True)
    residuals = corrector_residuals(grid, A, phi)
    assert residuals.constraint.max() < 1e-12 and residuals.equation.max() < 1e-12
    phi[0] += 1e-3 * np.random.default_rng(0).standard_normal(phi[0].shape)
    spoilt = corrector_residuals(grid, A, phi)
    assert spoilt.constraint[0] > 1e-6 and spoilt.equation[0] > 1e-6


def test_very_high_contrast():
    """At contrast 1e10 both residuals stay below 1e-6, the matrices finite with zero row and column sums."""
    grid = Grid(2, 6, 48, 2)
    A = of_contrast(grid, 1e10)
    S, phi = local_matrices(grid, A, correctors=True)
    assert np.isfinite(S).all()
    residuals = corrector_residuals(grid, A, phi)
    assert residuals.constraint.max() < 1e-6 and residuals.equation.max() < 1e-6
    scale = np.abs(S).max(axis=(1, 2))
    assert (np.abs(S.sum(axis=1)).max(axis=1) < 1e-6 * scale).all()


def test_failed_factorisation_names_the_patch():
    grid = Grid(2, 4, 16, 1)
    A = np.ones(grid.coefficient_shape)
    A[8:12, 8:12] = np.array([[1e-200, 1e200], [1e200, 1e-200]]).repeat(2, 0).repeat(2, 1)
    with pytest.raises(NumericalError, match=r"patch of element \d+ at \(\d, \d\) of realization 0"):
        local_matrices(grid, A, dtype=np.float32)


def test_energy_error_of_the_reconstruction_is_first_order_and_below_the_coarse_one():
    rng = np.random.default_rng(7)
    A, fine, sizes = np.exp(rng.standard_normal((64, 64))), 64, [2, 4, 8, 16]
    reference = solve_fine(Grid(2, 2, fine, 1), A).values()
    errors = []
    for coarse in sizes:
        grid = Grid(2, coarse, fine, min(coarse, 3))
        S, phi = local_matrices(grid, A, correctors=True)
        u = solve_coarse(grid, coarse_matrix(grid, S))
        error = energy_norm(grid, reconstruct(grid, u, phi) - reference, A)
        assert error < 0.7 * energy_norm(grid, prolong(grid, u) - reference, A)
        errors.append(error)
    rate = -np.polyfit(np.log(sizes), np.log(errors), 1)[0]
    assert rate > 0.9, errors


def test_bad_input():
    grid = Grid(2, 4, 8, 1)
    _, phi = local_matrices(grid, rough(grid), correctors=True)
    with pytest.raises(InputError, match="correctors must have shape"):
        reconstruct(grid, np.zeros((5, 5)), phi[:-1])
    with pytest.raises(InputError, match="correctors must have shape"):
        corrector_residuals(grid, rough(grid), phi[:, :3])


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_extended_correctors_add_up_to_the_reconstruction(dim, rng):
    grid = Grid(dim, 3, 6, 1)
    A = rng.uniform(1, 10, grid.coefficient_shape)
    phi = local_matrices(grid, A, correctors=True)[1]
    u = rng.standard_normal((4,) * dim)
    total = prolong(grid, u)
    for element, nodes in enumerate(grid.element_nodes):
        extended = extend_correctors(grid, element, phi[element])
        total = total - np.tensordot(u.ravel()[nodes], extended, axes=1)
    np.testing.assert_allclose(total, reconstruct(grid, u, phi), atol=1e-12 * np.abs(total).max())
    with pytest.raises(InputError, match="element must lie between"):
        extend_correctors(grid, grid.num_elements, phi[0])
    with pytest.raises(InputError, match="phi must have shape"):
        extend_correctors(grid, 0, phi)
