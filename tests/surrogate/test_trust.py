"""Error estimates of predicted local matrices, and patches that are computed exactly for them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nnlod_fenics import NNLOD, Grid, InputError, local_matrices
from nnlod_fenics.surrogate import build_network
from nnlod_fenics.surrogate.equivariant import group_order, turned_lattice
from nnlod_fenics.surrogate.patch_features import count_features, patch_features
from nnlod_fenics.surrogate.trust import fit_error_estimator, load_estimator, save_estimator

GRID = Grid(2, 8, 32, 1, coefficient=16)


def fields(count: int, seed: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((count, *GRID.coefficient_shape)))


def difficulty(Z: torch.Tensor) -> np.ndarray:
    """Errors that depend on the patch: larger where T varies more, with independent factors e^ξ, ξ normal."""
    spread = patch_features(GRID, Z)[:, 0].numpy()
    noise = np.random.default_rng(len(Z)).standard_normal(spread.shape)
    return (0.01 * np.exp(2 * spread + 0.3 * noise)).reshape(len(Z), -1)


@pytest.fixture(scope="module")
def estimator():
    Z = fields(40, 1)
    return fit_error_estimator(GRID, fields(40, 0), Z, difficulty(Z))


@pytest.fixture
def model(estimator):
    description = {"training_set": {"range_of_Z": [-4, 4], "field": {}}, "losses": {}}
    return NNLOD(GRID, build_network("structured", GRID, seed=0, channels=4, means=4), description, estimator)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_features_do_not_depend_on_level_and_orientation(dim):
    grid = Grid(dim, 4, 16, 1, coefficient=8)
    Z = torch.from_numpy(np.random.default_rng(dim).standard_normal((1, *grid.coefficient_shape)))
    features = patch_features(grid, Z)
    assert features.shape == (grid.num_elements, count_features()) and bool(torch.isfinite(features).all())
    torch.testing.assert_close(patch_features(grid, Z + 3.0), features)
    for g in range(group_order(dim)):
        turned = Z.flatten(1)[:, turned_lattice(dim, 8)[g]].reshape(Z.shape)
        torch.testing.assert_close(patch_features(grid, turned), features[turned_lattice(dim, 4)[g]])


def test_estimates_are_quantiles(estimator):
    # 512 held-out and 6,400 new patches, independent: the share has a standard deviation of 0.010, so that the
    # bounds at four of them raise a false alarm with probability 6e-5.
    Z = fields(100, 2)
    with torch.inference_mode():
        estimates = estimator(Z).numpy()
    errors = difficulty(Z)
    inside = np.isfinite(estimates)
    assert inside.mean() > 0.98
    assert abs((errors <= estimates)[inside].mean() - 0.95) < 0.04
    # they tell patches apart: a constant with the same coverage has to be larger where errors are small
    assert np.corrcoef(np.log(errors[inside]), np.log(estimates[inside]))[0, 1] > 0.6


def test_one_field_is_enough():
    Z = fields(1, 8)
    estimator = fit_error_estimator(GRID, Z, Z, difficulty(Z))
    with torch.inference_mode():
        assert bool(torch.isfinite(estimator(Z)).any())


def test_unlike_fields_are_told(estimator):
    channel = fields(1, 3)
    channel[:, 4:6] += np.log(1e4)
    with torch.inference_mode():
        assert bool(torch.isinf(estimator(torch.zeros(1, 16, 16))).all())
        assert bool(torch.isinf(estimator(channel).reshape(8, 8)[2]).all())  # the elements that the channel crosses


def test_doubtful_patches_are_computed_exactly(model):
    Z = fields(1, 4)[0].numpy()
    exact, predicted, estimates = local_matrices(GRID, np.exp(Z)), model.local_matrices(Z), model.error_estimates(Z)
    assert estimates.shape == (GRID.num_elements,)
    tolerance = float(np.median(estimates))
    mended = model.local_matrices(Z, trust=tolerance)
    doubtful = estimates > tolerance
    assert 0 < doubtful.sum() < GRID.num_elements
    np.testing.assert_allclose(mended[doubtful], exact[doubtful], atol=1e-13)
    np.testing.assert_array_equal(mended[~doubtful], predicted[~doubtful])
    np.testing.assert_allclose(model.local_matrices(Z, trust=1e-9), exact, atol=1e-13)


def test_estimates_do_not_depend_on_the_level_of_the_field(model):
    Z = fields(1, 5)[0].numpy()
    np.testing.assert_allclose(model.error_estimates(Z + 200.0), model.error_estimates(Z), rtol=1e-4)


def test_files(model, estimator, tmp_path):
    save_estimator(tmp_path, estimator)
    loaded = load_estimator(tmp_path, GRID)
    with torch.inference_mode():
        assert torch.equal(loaded(fields(2, 6)), estimator(fields(2, 6)))
    (tmp_path / "errors.safetensors").write_bytes(b"x")
    with pytest.raises(InputError, match=r"errors\.safetensors' is damaged"):
        load_estimator(tmp_path, GRID)


def test_bad_arguments(model):
    Z = fields(1, 7)[0].numpy()
    for trust in (0.0, -1.0, float("nan"), True):
        with pytest.raises(InputError, match="trust must be a positive tolerance"):
            model.local_matrices(Z, trust=trust)
    model.estimator = None
    with pytest.raises(InputError, match="no error estimates"):
        model.local_matrices(Z, trust=0.1)
    with pytest.raises(InputError, match="errors must have shape"):
        fit_error_estimator(GRID, fields(2, 0), fields(2, 1), np.ones((1, 3)))
