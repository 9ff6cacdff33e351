"""PETSc objects are freed: many patches do not grow the process."""

from __future__ import annotations

import numpy as np
import psutil
import pytest

from nnlod_fenics import Grid, local_matrices


@pytest.mark.parametrize("patches", [10_000])
def test_many_corrector_problems_do_not_grow_the_process(patches):
    grid = Grid(2, 10, 30, 1)
    A = np.exp(np.random.default_rng(0).standard_normal(grid.coefficient_shape))
    process = psutil.Process()
    local_matrices(grid, A, method="dolfinx")
    before = process.memory_info().rss
    for _ in range(patches // grid.num_elements):
        local_matrices(grid, A, method="dolfinx")
    assert process.memory_info().rss - before < 50e6
