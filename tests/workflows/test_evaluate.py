"""Errors that an evaluation reports, for solutions and matrices that are off by known factors."""

from __future__ import annotations

import numpy as np
import pytest

from nnlod_fenics import Grid, local_matrices, solve
from nnlod_fenics.norms import prolong
from nnlod_fenics.solvers import Solution
from nnlod_fenics.workflows.evaluate import compare

GRID = Grid(2, 4, 16, 1, coefficient=8)


FORMS = {"petrov-galerkin": ("PG-LOD", "S"), "galerkin": ("Galerkin LOD", "K")}


@pytest.fixture(scope="module", params=FORMS)
def lod(request) -> Solution:
    A = np.exp(np.random.default_rng(0).standard_normal(GRID.coefficient_shape))
    return solve(GRID, A, "lod", form=request.param)


def scaled(lod: Solution, factor: float) -> Solution:
    """What a network gives whose local matrices are too large by a factor."""
    if lod.S is None:
        return Solution(GRID, "nn", lod.A, lod.u / factor, form=lod.form, operator=factor * lod.operator)
    return Solution(GRID, "nn", lod.A, lod.u / factor, factor * lod.S)


@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_errors_of_a_network_that_is_off_by_a_factor(lod, factor):
    exact, M = FORMS[lod.form]
    matrices = local_matrices(GRID, lod.A, form=lod.form)
    fem = Solution(GRID, "fem", lod.A, 0.5 * prolong(GRID, lod.u))
    solutions = {"fem": fem, "lod": lod, "nn": scaled(lod, factor)}
    errors = compare(GRID, solutions, (matrices, factor * matrices))
    small = 1 / factor - 1  # matrices too large: solution too small
    assert errors["amplitude error, mean of u_NN - u_LOD over mean of u_LOD"] == pytest.approx(small)
    assert errors[f"relative L2 error, NN-LOD against {exact}"] == pytest.approx(abs(small))
    assert errors[f"relative L2 error, {exact} against FEM"] == pytest.approx(1)
    assert errors["relative L2 error, NN-LOD against FEM"] == pytest.approx(abs(2 / factor - 1))
    assert errors[f"relative spectral error |{M} - {M}_NN| / |{M}|"] == pytest.approx(abs(factor - 1))
    assert errors[f"spectral error |{M} - {M}_NN|"] == pytest.approx(
        abs(factor - 1) * np.linalg.norm(lod.K.toarray(), 2), rel=1e-6
    )
    assert errors["mean relative error of a local matrix"] == pytest.approx(abs(factor - 1))
    assert errors["largest relative error of a local matrix"] == pytest.approx(abs(factor - 1))
