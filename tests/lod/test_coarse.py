"""The coarse operator and solve: against an independent code, exact integrals, and the theory of the method."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
from waiting import PATIENCE

from nnlod_fenics import (
    Grid,
    InputError,
    NumericalError,
    coarse_matrix,
    coarse_operator,
    local_matrices,
    solve_coarse,
    solve_fine,
)
from nnlod_fenics.lod.coarse import coarse_mass_matrix, load_vector
from nnlod_fenics.norms import l2_norm, prolong


def dense(matrix) -> np.ndarray:
    n = matrix.getSize()[0]
    return matrix.getValues(range(n), range(n))


def compress(grid: Grid, A: np.ndarray) -> np.ndarray:
    return solve_coarse(grid, coarse_matrix(grid, local_matrices(grid, A)))


@pytest.mark.parametrize("method", ["condensed", "dolfinx"])
def test_reference(reference, method):
    grid = reference.grid
    K = coarse_matrix(grid, local_matrices(grid, reference.A, method=method))
    assert np.abs(dense(K) - reference.K).max() < 1e-10 * np.abs(reference.K).max()
    u = solve_coarse(grid, K, 1.0)
    assert u.shape == grid.node_shape
    assert np.abs(u - reference.u).max() < 1e-10 * np.abs(reference.u).max()
    K.destroy()


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_load_vector_is_exact(dim, rng):
    grid = Grid(dim, 3, 6, 1)
    total = load_vector(grid, 2.5).sum()
    assert total == pytest.approx(2.5, rel=1e-13)
    cells = rng.standard_normal((6,) * dim)
    assert load_vector(grid, cells).sum() == pytest.approx(cells.mean(), abs=1e-13)
    x_moment = load_vector(grid, lambda x: x[0]) * np.linspace(0, 1, 4)  # Σ x_i ∫ x Λ_i = ∫ x²
    assert x_moment.sum() == pytest.approx(1 / 3, rel=1e-13)


def test_axes_of_the_source():
    grid = Grid(2, 4, 8, 1)
    by_function = load_vector(grid, lambda x: (x[0] < 0.5) * 1.0)
    cells = np.zeros((8, 8))
    cells[:, :4] = 1
    np.testing.assert_allclose(load_vector(grid, cells), by_function, atol=1e-15)
    assert by_function[:, 0].sum() > 0 and by_function[:, -1].sum() == 0


@pytest.mark.parametrize("dim", [1, 2])
def test_affine_functions_are_exact_for_constant_coefficient(dim):
    """For A constant and patches that cover D, the correctors of an affine function sum to zero."""
    grid = Grid(dim, 4, 16, 4)
    S = local_matrices(grid, np.ones(grid.coefficient_shape))
    node = np.stack(np.meshgrid(*(np.linspace(0, 1, 5),) * dim, indexing="ij")[::-1])
    affine = 1 + node[0].ravel() + 2 * node[-1].ravel()
    flux = np.zeros(grid.num_nodes + 1)
    np.add.at(flux, grid.patch_nodes, np.einsum("tij,tj->ti", S, affine[grid.element_nodes]))
    interior = np.flatnonzero(grid.free_numbers >= 0)
    assert np.abs(flux[interior]).max() < 1e-12


def test_first_order_convergence_for_rough_coefficient():
    """‖u_h − u_H‖ = O(H) for a fixed rough A of contrast about 1e4, although H never resolves it."""
    rng = np.random.default_rng(7)
    fine, errors, sizes = 128, [], [2, 4, 8, 16]
    A = np.exp(1.2 * rng.standard_normal((64, 64)))
    reference = solve_fine(Grid(2, 4, fine, 1, coefficient=64), A).values()
    for coarse in sizes:
        grid = Grid(2, coarse, fine, min(coarse, 3), coefficient=64)
        errors.append(l2_norm(prolong(grid, compress(grid, A)) - reference) / l2_norm(reference))
    rate = -np.polyfit(np.log(sizes), np.log(errors), 1)[0]
    assert rate > 0.9, errors
    assert max(e * n for e, n in zip(errors, sizes, strict=True)) == errors[0] * sizes[0], errors  # e ≤ C H


def test_exponential_decay_in_the_number_of_layers():
    grid = Grid(2, 8, 32, 8)
    A = np.exp(np.random.default_rng(3).standard_normal((32, 32)))
    exact = compress(grid, A)
    errors = [l2_norm(compress(Grid(2, 8, 32, ell), A) - exact) for ell in (1, 2, 3, 4)]
    ratios = np.array(errors[1:]) / np.array(errors[:-1])
    assert (ratios < 0.5).all(), errors


@pytest.mark.parametrize("scale", [1e-290, 1e-14, 1.0, 1e150])
def test_systems_of_any_scale_and_sign(scale, rng):
    """Also those that need row exchanges: zeros on the diagonal, no symmetry."""
    grid = Grid(2, 6, 6, 1)
    n = grid.num_free_nodes
    dense = rng.standard_normal((n, n)) * (rng.random((n, n)) < 0.4) + np.roll(3 * np.eye(n), 1, axis=0)
    np.fill_diagonal(dense, 0.0)
    b = load_vector(grid, lambda x: x[0] - x[1] ** 2)
    u = solve_coarse(grid, scipy.sparse.csr_array(scale * dense), lambda x: x[0] - x[1] ** 2)
    expected = np.linalg.solve(dense, b[1:-1, 1:-1].ravel()) / scale
    np.testing.assert_allclose(u[1:-1, 1:-1].ravel(), expected, rtol=1e-8, atol=1e-10 * np.abs(expected).max())
    assert not u[0].any() and not u[:, -1].any()


def test_singular_systems_are_told():
    grid = Grid(2, 4, 8, 1)
    K = coarse_operator(grid, local_matrices(grid, np.ones((8, 8)))).tolil()
    K[3] = 0
    for singular in (K, 0 * K):
        with pytest.raises(NumericalError, match="coarse matrix is"):
            solve_coarse(grid, scipy.sparse.csr_array(singular))


def test_bad_input():
    grid = Grid(2, 4, 8, 1)
    S = local_matrices(grid, np.ones((8, 8)))
    with pytest.raises(InputError, match="S must have shape"):
        coarse_matrix(grid, S[:-1])
    with pytest.raises(InputError, match="S must be finite"):
        coarse_matrix(grid, S * np.nan)
    with pytest.raises(InputError, match="coarse=1"):
        coarse_matrix(Grid(2, 1, 8, 1), np.ones((1, 16, 4)))
    K = coarse_matrix(grid, S)
    with pytest.raises(InputError, match="K must have 49 rows"):
        solve_coarse(Grid(2, 8, 8, 1), K)
    for f in (np.ones((4, 4)), np.nan, "one", lambda x: np.ones((2, 2))):
        with pytest.raises(InputError, match="f must"):
            solve_coarse(grid, K, f)


def test_parallel_assembly_and_solve_equal_serial():
    script = Path(__file__).parents[1] / "mpi" / "coarse_matrix.py"
    command = ["mpirun", "-n", "2", "--bind-to", "none", sys.executable, str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("equal to serial") == 2


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_mass_matrix(dim, rng):
    grid = Grid(dim, 5, 10, 1)
    whole, inner = coarse_mass_matrix(grid, boundary=True), coarse_mass_matrix(grid)
    u = rng.standard_normal((6,) * dim)
    assert u.ravel() @ whole @ u.ravel() == pytest.approx(l2_norm(u) ** 2, rel=1e-12)
    assert whole.sum() == pytest.approx(1, rel=1e-12)  # the area of D: hats add up to 1
    np.testing.assert_allclose(whole.sum(axis=1), load_vector(grid, 1.0).ravel(), rtol=1e-12)
    kept = np.flatnonzero(grid.free_numbers >= 0)
    np.testing.assert_array_equal(inner.toarray(), whole.toarray()[np.ix_(kept, kept)])
    # entry by entry as a Kronecker product of h/6 tridiag(1, 4, 1)
    axis = (np.diag(np.full(4, 4.0)) + np.diag(np.ones(3), 1) + np.diag(np.ones(3), -1)) / 30
    expected = axis
    for _ in range(dim - 1):
        expected = np.kron(expected, axis)
    np.testing.assert_allclose(inner.toarray(), expected, rtol=1e-14)
    with pytest.raises(InputError, match="grid must have coarse nodes at which u is unknown"):
        coarse_mass_matrix(Grid(dim, 1, 4, 1))
