"""Errors that an evaluation reports, for solutions and matrices that are off by known factors."""

from __future__ import annotations

import numpy as np
import pytest

from nnlod_fenics import Grid, InputError, local_matrices, solve
from nnlod_fenics.config import load_config
from nnlod_fenics.config.training import TrainingSettings
from nnlod_fenics.dataset import Dataset
from nnlod_fenics.dataset.generate import generate
from nnlod_fenics.network import NNLOD
from nnlod_fenics.norms import prolong
from nnlod_fenics.solvers import Solution
from nnlod_fenics.training import train
from nnlod_fenics.workflows.evaluate import compare, evaluate

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


def test_evaluation_of_a_model_of_the_galerkin_form(tmp_path):
    """Data with loads make a network that predicts them; its test loss is that of training, loads included."""
    sizes = ["grid.coarse=3", "grid.fine=12", "grid.coefficient=6", "grid.ell=1", "field.correlation_length=0.3"]
    form, loads = "dataset.form=galerkin", "dataset.loads=true"
    data = {
        name: Dataset(generate(load_config(None, [*sizes, "dataset.realizations=5", *own]), tmp_path / name))
        for name, own in {"both": [form, loads], "plain": [], "no loads": [form]}.items()
    }
    settings = TrainingSettings(epochs=1)
    model = NNLOD.load(train(data["both"], tmp_path / "m", "structured", {"channels": 4, "means": 4}, settings))
    assert model.predicts_loads and model.window.form == "galerkin"
    found = evaluate(model, tmp_path / "e", data["both"])
    assert found["test loss"] == pytest.approx(model.test_loss, rel=1e-3)
    assert 0 < found["errors"]["relative L2 error, NN-LOD against Galerkin LOD"] < 1
    assert {"spectral error |K - K_NN|", "relative L2 error, Galerkin LOD against FEM"} <= set(found["errors"])
    assert (tmp_path / "e" / "local_matrix.png").exists()
    with pytest.raises(InputError, match=r"dataset is of the form 'petrov-galerkin', the model of 'galerkin'\."):
        evaluate(model, tmp_path / "f", data["plain"])
    with pytest.raises(InputError, match=r"dataset must have loads for a model that predicts them"):
        evaluate(model, tmp_path / "f", data["no loads"])
