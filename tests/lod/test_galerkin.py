"""The Galerkin form from streamed correctors: its stability at any contrast, and the memory that it takes."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from kinds import KINDS, coarse_truth, fine_truth, make_coefficient, stiffness

from nnlod_fenics import Grid, solve
from nnlod_fenics.loads import element_loads
from nnlod_fenics.lod.energy import stream_energies
from nnlod_fenics.lod.finescale import fine_solution
from nnlod_fenics.norms import relative_l2
from nnlod_fenics.problem import Problem


@pytest.mark.parametrize("ell", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_never_worse_in_energy_than_no_coarse_solution(kind, ell):
    """(1 − C) u_H + R against R alone: a best approximation, hence true for every field."""
    grid, problem = Grid(2, 5, 20, ell), Problem(1.0)
    A = make_coefficient(kind, 3, grid)
    fine, K, loads = fine_truth(grid, A, problem), stiffness(grid, A), element_loads(grid, problem)
    u = solve(grid, A, form="galerkin").u
    errors = [(fine_solution(grid, A, v, loads) - fine).ravel() for v in (u, np.zeros_like(u))]
    energies = [error @ (K @ error) for error in errors]
    assert energies[0] <= energies[1] * (1 + 1e-8)


@pytest.mark.parametrize("kind", ["channels", "conductive inclusions", "poor inclusions"])
def test_symmetric_positive_definite_at_a_contrast_of_a_million(kind):
    grid = Grid(2, 6, 24, 1)
    K = solve(grid, make_coefficient(kind, 0, grid, 1e-6 if "poor" in kind else 1e6), form="galerkin").K.toarray()
    scale = 1 / np.sqrt(np.diag(K))
    assert np.abs(K - K.T).max() <= 1e-14 * np.abs(K).max()
    assert np.linalg.eigvalsh(scale[:, None] * K * scale).min() > 1e-8


@pytest.mark.parametrize(
    ("kind", "level", "most"),
    [
        ("lognormal", 1.0, 1e-3),
        ("lognormal", 4.0, 3e-3),
        ("conductive inclusions", 1e3, 0.02),
        ("poor inclusions", 1e-3, 0.05),
        ("channels", 1e4, 0.5),
    ],
)
def test_errors_at_high_contrast(kind, level, most):
    """Orders of magnitude of the table in the method's notes; tests/benchmarks/bench_galerkin.py prints all of it."""
    grid = Grid(2, 12, 48, 2)
    A = make_coefficient(kind, 0, grid, level)
    assert relative_l2(solve(grid, A, form="galerkin").u, coarse_truth(grid, A, Problem(1.0)), grid) < most


def test_memory_does_not_grow_with_the_number_of_rows():
    """Functions on elements are kept for 2ℓ+1 rows of elements only."""
    peaks = [_peak_of_stream(Grid(2, (6, rows), (48, 8 * rows), 1)) for rows in (8, 32)]
    assert peaks[1] < 1.2 * peaks[0]


def _peak_of_stream(grid: Grid) -> int:
    """Bytes that the energies take while correctors come; what the grid itself keeps is there before."""
    A, phi = np.ones(grid.coefficient_shape), np.zeros((4, 25, 25))
    for _ in stream_energies(grid, A, ((element, phi, phi[0]) for element in range(grid.num_elements))):
        pass
    loads = np.zeros((grid.num_elements, 81))
    tracemalloc.start()
    for _ in stream_energies(grid, A, ((element, phi, phi[0]) for element in range(grid.num_elements)), loads):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak
