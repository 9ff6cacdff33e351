"""I_H of fine functions, against element-wise least squares at Gauss points."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.interpolate import RegularGridInterpolator

from nnlod_fenics import Grid, InputError, solve
from nnlod_fenics.lod.interpolation import quasi_interpolation
from nnlod_fenics.norms import l2_norm, prolong


def averaged_projections(grid, u):
    """The definition: on each element the multilinear polynomial next to u in L², then means at the nodes."""
    points, weights = np.polynomial.legendre.leggauss(2)  # exact for the products of linear functions on a fine cell
    x = ((np.arange(grid.ratio)[:, None] + (points + 1) / 2) / grid.ratio).ravel()
    local = np.stack(np.meshgrid(*[x] * grid.dim, indexing="ij"), -1).reshape(-1, grid.dim)
    root = np.sqrt(np.tile(weights, grid.ratio))
    root = np.prod(np.stack(np.meshgrid(*[root] * grid.dim, indexing="ij"), -1).reshape(-1, grid.dim), axis=1)
    powers = list(product((0, 1), repeat=grid.dim))

    def monomials(at):
        return np.stack([np.prod(at ** np.array(p), axis=1) for p in powers], axis=1)

    function = RegularGridInterpolator([np.linspace(0, 1, grid.fine + 1)] * grid.dim, u)
    total, corners = np.zeros((grid.coarse + 1,) * grid.dim), np.array(powers, dtype=float)
    for element in np.ndindex(*(grid.coarse,) * grid.dim):
        given = function((local + np.array(element)) / grid.coarse)
        fitted = np.linalg.lstsq(root[:, None] * monomials(local), root * given, rcond=None)[0]
        for corner, value in zip(powers, monomials(corners) @ fitted, strict=True):
            total[tuple(np.add(element, corner))] += value / 2**grid.dim
    inner = np.zeros_like(total)
    inside = (slice(1, -1),) * grid.dim
    inner[inside] = total[inside]
    return inner


@pytest.mark.parametrize(("dim", "coarse", "fine"), [(1, 4, 20), (2, 3, 12), (2, 4, 4), (3, 2, 6)])
def test_quasi_interpolation_is_the_mean_of_projections(rng, dim, coarse, fine):
    grid = Grid(dim, coarse, fine, 1)
    u = rng.standard_normal((fine + 1,) * dim)
    np.testing.assert_allclose(quasi_interpolation(grid, u), averaged_projections(grid, u), atol=1e-12)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_quasi_interpolation_keeps_coarse_functions(rng, dim):
    grid = Grid(dim, 4, 12, 1)
    u = np.zeros((5,) * dim)
    u[(slice(1, -1),) * dim] = rng.standard_normal((3,) * dim)
    np.testing.assert_allclose(quasi_interpolation(grid, prolong(grid, u)), u, atol=1e-13)


def test_the_coarse_solution_is_near_the_interpolated_fine_one(rng):
    """Here 0.3 % from it, where the nodal values are 3 % off."""
    grid = Grid(2, 8, 64, 2, coefficient=32)
    A = np.exp(rng.standard_normal(grid.coefficient_shape))
    lod, fem = (solve(grid, A, method) for method in ("lod", "fem"))
    interpolated, nodal = quasi_interpolation(grid, fem.u), np.asarray(fem.u)[::8, ::8]
    size = l2_norm(interpolated)
    assert l2_norm(lod.u - interpolated) < 0.01 * size < 0.02 * size < l2_norm(lod.u - nodal)


def test_quasi_interpolation_of_the_wrong_shape():
    with pytest.raises(InputError, match=r"u must hold nodal values of shape \(9, 9\), got \(8, 8\)"):
        quasi_interpolation(Grid(2, 4, 8, 1), np.zeros((8, 8)))
