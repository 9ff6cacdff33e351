"""The loss in energy: by its definition, for turned and cut samples, and in a training."""

from __future__ import annotations

import json

import numpy as np
import pytest
import scipy.linalg
import torch
from windows import samples

from nnlod_fenics import NNLOD, Grid, InputError, local_matrices
from nnlod_fenics.config import TrainingSettings
from nnlod_fenics.fields import make_field
from nnlod_fenics.lod.neighbourhood import energy_deviations, neighbourhood_energies
from nnlod_fenics.network.loss import energy_loss, relative_loss, training_loss
from nnlod_fenics.problem import Problem
from nnlod_fenics.training import Blocks, TrainingData, evaluate_loss, train
from nnlod_fenics.training.augment import symmetries_of, turned
from nnlod_fenics.training.data import energy_whitening, of_unit_size, without_level
from nnlod_fenics.window import Window, domain_marks

ACTIVE = np.ones((4, 4), dtype=bool)
ACTIVE[1, 2] = ACTIVE[3, 0] = False
GRID = Grid(2, 4, 16, 1, 8, 2.0, ["xmin"], ACTIVE)
WINDOW = Window.of(GRID, "galerkin")
OPTIONS = {"channels": 4, "means": 4}


def fields(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    law = make_field({"correlation_length": 0.5}, 2, GRID.coefficient, GRID.lengths)
    Z = np.stack([law.sample(seed, k).Z for k in range(count)])
    return Z, local_matrices(GRID, np.exp(Z), form="galerkin")


@pytest.fixture(scope="module")
def data() -> TrainingData:
    train, validation, test = (fields(count, seed) for count, seed in ((20, 0), (4, 1), (4, 2)))
    identity = {"field": {"correlation_length": 0.5}, "seed": 0}
    return TrainingData(GRID, train, validation, test, identity, "galerkin")


def relative_values(D: np.ndarray, M: np.ndarray) -> np.ndarray:
    """Eigenvalues of D relative to M on the complement of their common kernel, by SciPy."""
    basis = scipy.linalg.orth(M, 1e-9)
    return scipy.linalg.eigh(basis.T @ D @ basis, basis.T @ M @ basis, eigvals_only=True)


def test_loss_by_relative_eigenvalues(data):
    Z, K = data.test
    predicted = K * np.random.default_rng(0).uniform(0.5, 1.5, (*K.shape[:2], 1, 1)) + 0.1 * np.roll(K, 1, axis=0)
    M = neighbourhood_energies(torch.from_numpy(K), torch.tensor(GRID.active)[None], GRID.ell).numpy()
    expected = []
    for k in range(len(K)):
        for e in GRID.active_elements:
            x, own = (relative_values(D, 9 * M[k, e]) for D in (predicted[k, e] - K[k, e], K[k, e]))
            expected.append(2 * (x - np.log1p(x)).sum() / np.square(own).sum())
    W = energy_whitening(WINDOW, samples(GRID, Z, K))
    given = [torch.from_numpy(values).flatten(0, 1) for values in (predicted, K)]
    found = energy_loss(*given, W.flatten(0, 1))
    assert float(found) == pytest.approx(np.mean(expected), rel=0.02)  # regularised a little
    assert float(training_loss(*given, 16, W.flatten(0, 1))) == float(found)
    assert float(training_loss(*given, 16)) == float(relative_loss(*given))
    assert abs(float(energy_loss(given[1], given[1], W.flatten(0, 1)))) < 1e-12


@pytest.mark.parametrize("size", [0.0, 1e-3, 1e3, 1e8])
def test_predictions_however_wrong_have_a_loss_in_single_precision(data, size):
    Z, K = data.test
    exact = torch.from_numpy(K).flatten(0, 1).float()
    predicted = (size * exact.roll(3, 0)).requires_grad_()
    loss = energy_loss(predicted, exact, energy_whitening(WINDOW, samples(GRID, Z, K)).flatten(0, 1))
    loss.backward()
    assert 0 < float(loss.detach()) < 100 * max(size, 1.0) and predicted.grad.isfinite().all()


def test_loads_count_as_in_the_other_loss():
    Z, K = fields(2, 3)
    loads = local_matrices(GRID, np.exp(Z), form="galerkin", source=Problem())[1]
    exact = torch.from_numpy(np.concatenate([K, loads[..., None]], axis=-1)).flatten(0, 1)
    W = energy_whitening(WINDOW, samples(GRID, Z, K)).flatten(0, 1)
    off = exact.clone()
    off[..., -1] *= 1.1
    assert float(training_loss(off, exact, 16, W)) == pytest.approx(0.01)
    energy = energy_loss(1.1 * exact[..., :16], exact[..., :16], W)
    assert float(training_loss(1.1 * exact, exact, 16, W)) == pytest.approx(0.01 + float(energy))


@pytest.mark.parametrize("block", [1, 2, 4])
def test_whitening_goes_with_its_elements(data, block):
    Z, K = data.test
    own = samples(GRID, Z, K)
    W = energy_whitening(WINDOW, own)
    number = torch.arange(4 * 16).reshape(4, 16, 1, 1)
    marked = own._replace(S=number.expand(4, 16, 16, 16))
    batch = Blocks(WINDOW, marked, block, whitening=W)[torch.tensor([2, 0, 3])]
    np.testing.assert_array_equal(batch.whitening, W.flatten(0, 1)[batch.S[:, 0, 0].long()])


def test_turned_samples_have_the_same_loss(data):
    Z, K = data.test
    own = samples(GRID, Z, K)
    blocks = Blocks(WINDOW, own, 2, dtype=torch.float64, whitening=energy_whitening(WINDOW, own))
    index, other = torch.arange(8), torch.arange(8, 16)
    batch, noise = blocks[index], blocks[other].S
    expected = training_loss(batch.S + 0.1 * noise, batch.S, 16, batch.whitening)
    for symmetry in symmetries_of(WINDOW)[1:4]:
        turns = torch.full((8,), int(symmetry))
        moved, more = (turned(WINDOW, part, 2, turns) for part in (batch, batch._replace(S=noise)))
        assert not torch.equal(moved.S, batch.S)
        found = training_loss(moved.S + 0.1 * more.S, moved.S, 16, moved.whitening)
        assert float(found) == pytest.approx(float(expected), rel=1e-10)


def test_fields_with_domains_of_their_own():
    Z, K = fields(1, 4)
    plain = Grid(2, 4, 16, 1, 8, 2.0, ["xmin"])
    whole = local_matrices(plain, np.exp(Z), form="galerkin")
    each = np.concatenate([K, whole])
    marks = np.stack([domain_marks(GRID), domain_marks(plain)])
    both = samples(GRID, np.concatenate([Z, Z]), each)._replace(marks=marks)
    found = energy_whitening(WINDOW, both)
    np.testing.assert_array_equal(found[0], energy_whitening(WINDOW, samples(GRID, Z, K))[0])
    np.testing.assert_array_equal(found[1], energy_whitening(WINDOW, samples(plain, Z, whole))[0])


@pytest.mark.parametrize("loss", ["frobenius", "energy"])
def test_losses_of_a_training(data, tmp_path, loss):
    """Those of validation and test are of the kind that is minimised; the bound holds for what is predicted."""
    settings = TrainingSettings(epochs=6, batch_size=16, loss=loss, augment=True)
    model = NNLOD.load(train(data, tmp_path / "m", "structured", OPTIONS, settings), grid=GRID)
    assert model.description["training"]["loss"] == loss
    history = json.loads((tmp_path / "m" / "loss.json").read_text())
    assert history[-1]["validation"] < 0.8 * history[0]["validation"]
    Z, K = data.test
    own = without_level(WINDOW, of_unit_size(GRID, WINDOW, samples(GRID, Z, K)))
    whitening = energy_whitening(WINDOW, own) if loss == "energy" else None
    assert model.test_loss == pytest.approx(
        evaluate_loss(model.network, Blocks(WINDOW, own, 4, whitening=whitening)), rel=1e-4
    )
    predicted = model.predict(GRID, np.exp(Z))
    M = neighbourhood_energies(torch.from_numpy(K), torch.tensor(GRID.active)[None], GRID.ell)
    for k in range(len(K)):
        delta = energy_deviations(predicted[k], torch.from_numpy(K[k]), M[k]).max()
        free = np.flatnonzero(GRID.free_nodes)
        exact, found = (assembled(values)[np.ix_(free, free)] for values in (K[k], predicted[k].numpy()))
        values = scipy.linalg.eigh(found, exact, eigvals_only=True)
        assert 1 - delta <= values.min() <= values.max() <= 1 + delta


def assembled(K: np.ndarray) -> np.ndarray:
    total = np.zeros((GRID.num_nodes + 1,) * 2)
    np.add.at(total, (GRID.patch_nodes[:, :, None], GRID.patch_nodes[:, None, :]), K)  # -1: nodes outside the box
    return total[:-1, :-1]


def test_energy_is_for_the_galerkin_form(data, tmp_path):
    Z = data.test[0]
    pair = (Z, local_matrices(GRID, np.exp(Z)))
    other = TrainingData(GRID, pair, pair, pair, {"field": {"correlation_length": 0.5}, "seed": 0})
    expected = r"training\.loss = 'energy' is for .* Galerkin form, got form 'petrov-galerkin'\."
    with pytest.raises(InputError, match=expected):
        train(other, tmp_path / "m", "structured", OPTIONS, TrainingSettings(epochs=1, loss="energy"))
    assert not (tmp_path / "m").exists()
    model = NNLOD.load(train(other, tmp_path / "m", "structured", OPTIONS, TrainingSettings(epochs=1)), grid=GRID)
    assert model.description["training"]["loss"] == "frobenius"
