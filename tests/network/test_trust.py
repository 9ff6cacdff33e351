"""Error estimates of predicted local matrices, and patches that are computed exactly for them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from nnlod_fenics import NNLOD, Grid, InputError, local_matrices
from nnlod_fenics.fields import make_field
from nnlod_fenics.network import build_network, matrix_errors, shipped_models
from nnlod_fenics.network.equivariant import group_order, turned_lattice
from nnlod_fenics.network.patch_features import count_features, patch_features
from nnlod_fenics.network.storage import load_tensors, save_tensors
from nnlod_fenics.network.trust import ErrorEstimator, fit_error_estimator, load_estimator
from nnlod_fenics.training import TrainingData, refit_error_estimates
from nnlod_fenics.window import Window, domain_marks

GRID = Grid(2, 8, 32, 1, coefficient=16)
WINDOW = Window.of(GRID)


def marks(grid: Grid = GRID) -> torch.Tensor:
    """What elements of the grid are."""
    return torch.from_numpy(domain_marks(grid)[None])


def features_of(grid: Grid, Z: torch.Tensor) -> torch.Tensor:
    return patch_features(Window.of(grid), Z, marks(grid))


def fields(count: int, seed: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((count, *GRID.coefficient_shape)))


def difficulty(Z: torch.Tensor) -> np.ndarray:
    """Errors that depend on the patch: larger where T varies more, with independent factors e^ξ, ξ normal."""
    spread = features_of(GRID, Z)[:, 0].numpy()
    noise = np.random.default_rng(len(Z)).standard_normal(spread.shape)
    return (0.01 * np.exp(2 * spread + 0.3 * noise)).reshape(len(Z), -1)


@pytest.fixture(scope="module")
def estimator():
    Z = fields(40, 1)
    return fit_error_estimator(WINDOW, (fields(40, 0), marks()), (Z, marks()), difficulty(Z))


@pytest.fixture
def model(estimator):
    options = {"channels": 4, "means": 4}
    description = {
        "grid": GRID.as_dict(),
        "network": {"name": "structured", "options": options},
        "training_set": {"range_of_Z": [-4, 4], "field": {}},
        "losses": {},
    }
    return NNLOD(GRID, build_network("structured", WINDOW, seed=0, **options), description, estimator)


@pytest.mark.parametrize("ell", [0, 1, 2])
@pytest.mark.parametrize("dim,cells", [(1, 8), (2, 12), (2, 4), (3, 8)])  # 2, 3 and 1 cells of an element along an axis
def test_features_do_not_depend_on_level_and_orientation(dim, cells, ell):
    grid = Grid(dim, 4, 2 * cells, ell, coefficient=cells)
    Z = torch.from_numpy(np.random.default_rng(dim).standard_normal((1, *grid.coefficient_shape)))
    features = features_of(grid, Z)
    assert features.shape == (grid.num_elements, count_features()) and bool(torch.isfinite(features).all())
    torch.testing.assert_close(features_of(grid, Z + 3.0), features)
    for g in range(group_order(dim)):
        turned = Z.flatten(1)[:, turned_lattice(dim, cells)[g]].reshape(Z.shape)
        torch.testing.assert_close(features_of(grid, turned), features[turned_lattice(dim, 4)[g]])


def test_anisotropy_is_what_the_axes_differ_by():
    """Features of the only element, along the axes one by one, and of levels that rise along x by a step an element."""
    grid = Grid(2, 1, 2, 0, coefficient=2)
    Z = np.array([[0.3, -1.0], [0.5, 2.0]])
    A = np.exp(Z - Z.mean())
    jumps = [np.sqrt(np.mean(np.diff(Z, axis=axis) ** 2)) for axis in (0, 1)]
    layered = [np.log(1 / np.mean(1 / A.mean(axis=1 - axis))) for axis in (0, 1)]
    parallel = [np.log(np.mean(1 / np.mean(1 / A, axis=axis))) for axis in (0, 1)]
    expected = [abs(np.subtract(*values)) for values in (jumps, layered, parallel)]
    features = features_of(grid, torch.from_numpy(Z[None]))[0].numpy()
    np.testing.assert_allclose(features[21:30], 3 * expected, rtol=1e-12)
    diagonals = abs(abs(Z[1, 1] - Z[0, 0]) - abs(Z[1, 0] - Z[0, 1]))
    np.testing.assert_allclose(features[30:33], 3 * [diagonals], rtol=1e-12)
    rising = torch.from_numpy(np.broadcast_to(np.repeat(np.arange(4.0), 2), (1, 8, 8)).copy())
    spread = features_of(Grid(2, 4, 8, 1, coefficient=8), rising)[:, -1]
    torch.testing.assert_close(spread, torch.ones_like(spread))


def autoregressive(grid: Grid, decay: list[float], count: int, seed: int) -> torch.Tensor:
    """Gaussian fields of variance 1 whose correlation from cell to cell along an axis is its entry of ``decay``."""
    Z = np.random.default_rng(seed).standard_normal((count, *grid.coefficient_shape))
    for axis, a in enumerate(decay, start=1):
        lines = np.moveaxis(Z, axis, 0)  # a view
        for k in range(1, len(lines)):
            lines[k] = a * lines[k - 1] + np.sqrt(1 - a**2) * lines[k]
    return torch.from_numpy(Z)


@pytest.mark.parametrize(
    "grid", [Grid(2, 8, 64, 2, coefficient=32), Grid(3, 4, 16, 1, coefficient=16)], ids=["2d", "3d"]
)
def test_anisotropic_fields_are_told(grid):
    """With the variance of isotropic training fields and their mean jump, 2 (1 − mean of the decays)."""
    estimator = ErrorEstimator(Window.of(grid))
    estimator.set_range(features_of(grid, autoregressive(grid, [0.6] * grid.dim, 150, 0).float()))
    rough = 0.6 - 0.3 * (grid.dim - 1)
    unlike = autoregressive(grid, [0.9] * (grid.dim - 1) + [rough], 10, 1)
    like = autoregressive(grid, [0.6] * grid.dim, 10, 2)
    jumps = [float(sum(v.diff(dim=k + 1).square().mean() for k in range(grid.dim))) for v in (like, unlike)]
    assert jumps[1] == pytest.approx(jumps[0], rel=0.1)
    with torch.inference_mode():
        told = [float(torch.isinf(estimator(v, marks(grid))).float().mean()) for v in (like, unlike)]
    assert told[0] < 0.1 and told[1] > 0.9, told


@pytest.mark.parametrize("dim", [2, 3])
def test_layers_across_a_diagonal_are_told(dim):
    """Along the axes they are all the same."""
    grid = Grid(dim, 4, 16, 1, coefficient=16)
    estimator = ErrorEstimator(Window.of(grid))
    estimator.set_range(features_of(grid, autoregressive(grid, [0.6] * dim, 150, 0).float()))
    profile = autoregressive(Grid(1, 1, 31, 0), [0.6], 5, 1)
    position = torch.arange(16)
    layers = profile[:, 15 + position[:, None] - position]
    fields = (
        layers if dim == 2 else layers[..., None].expand(-1, -1, -1, 16) + 0.5 * autoregressive(grid, [0.6] * 3, 5, 2)
    )
    with torch.inference_mode():
        assert float(torch.isinf(estimator(fields, marks(grid))).float().mean()) > 0.9


def test_estimates_are_quantiles(estimator):
    # 512 held-out and 6,400 new patches, independent: the share has a standard deviation of 0.010, so that the
    # bounds at four of them raise a false alarm with probability 6e-5.
    Z = fields(100, 2)
    with torch.inference_mode():
        estimates = estimator(Z, marks()).numpy()
    errors = difficulty(Z)
    inside = np.isfinite(estimates)
    assert inside.mean() > 0.98
    assert abs((errors <= estimates)[inside].mean() - 0.95) < 0.04
    # they tell patches apart: a constant with the same coverage has to be larger where errors are small
    assert np.corrcoef(np.log(errors[inside]), np.log(estimates[inside]))[0, 1] > 0.6


def test_one_field_is_enough():
    Z = fields(1, 8)
    estimator = fit_error_estimator(WINDOW, (Z, marks()), (Z, marks()), difficulty(Z))
    with torch.inference_mode():
        assert bool(torch.isfinite(estimator(Z, marks())).any())


def test_unlike_fields_are_told(estimator):
    channel = fields(1, 3)
    channel[:, 4:6] += np.log(1e4)
    with torch.inference_mode():
        assert bool(torch.isinf(estimator(torch.zeros(1, 16, 16), marks())).all())
        assert bool(
            torch.isinf(estimator(channel, marks()).reshape(8, 8)[2]).all()
        )  # the elements that the channel crosses


def test_doubtful_patches_are_computed_exactly(model):
    Z = fields(1, 4)[0].numpy()
    exact, predicted, estimates = (
        local_matrices(GRID, np.exp(Z)),
        model.local_matrices(model.grid, np.exp(Z)),
        model.error_estimates(model.grid, np.exp(Z)),
    )
    assert estimates.shape == (GRID.num_elements,)
    tolerance = float(np.median(estimates))
    mended = model.local_matrices(model.grid, np.exp(Z), trust=tolerance)
    doubtful = estimates > tolerance
    assert 0 < doubtful.sum() < GRID.num_elements
    np.testing.assert_allclose(mended[doubtful], exact[doubtful], atol=1e-13)
    np.testing.assert_array_equal(mended[~doubtful], predicted[~doubtful])
    np.testing.assert_allclose(model.local_matrices(model.grid, np.exp(Z), trust=1e-9), exact, atol=1e-13)


def test_estimates_do_not_depend_on_the_level_of_the_field(model):
    Z = fields(1, 5)[0].numpy()
    np.testing.assert_allclose(
        model.error_estimates(model.grid, np.exp(Z + 200.0)), model.error_estimates(model.grid, np.exp(Z)), rtol=1e-4
    )


def test_files(model, estimator, tmp_path):
    save_tensors(tmp_path / "errors.safetensors", estimator.state_dict())
    loaded = load_estimator(tmp_path, WINDOW)
    with torch.inference_mode():
        assert torch.equal(loaded(fields(2, 6), marks()), estimator(fields(2, 6), marks()))
    (tmp_path / "errors.safetensors").write_bytes(b"x")
    with pytest.raises(InputError, match=r"errors\.safetensors' is damaged"):
        load_estimator(tmp_path, WINDOW)


def test_an_estimator_of_another_version_counts_as_none(model, tmp_path):
    """The model stays usable; who asks for estimates is told how to get them."""
    Z = fields(1, 4)[0].numpy()
    model.save(tmp_path)
    path = tmp_path / "errors.safetensors"
    description = json.loads((tmp_path / "model.json").read_text())
    del description["checksums"]  # as in version 0.1
    (tmp_path / "model.json").write_text(json.dumps(description))
    tensors = load_tensors(path)
    for old in (tensors | {"version": torch.tensor(1)}, {key: v for key, v in tensors.items() if key != "version"}):
        save_tensors(path, old)
        loaded = NNLOD.load(tmp_path)
        np.testing.assert_array_equal(
            loaded.local_matrices(loaded.grid, np.exp(Z)), model.local_matrices(model.grid, np.exp(Z))
        )
        with pytest.raises(InputError, match=r"no error estimates of this version.*refit_error_estimates make them"):
            loaded.local_matrices(loaded.grid, np.exp(Z), trust=0.02)
    save_tensors(path, {key: v for key, v in tensors.items() if key != "mean"})
    with pytest.raises(InputError, match=r"errors\.safetensors' is damaged"):
        NNLOD.load(tmp_path)
    model.estimator = None
    model.save(tmp_path)
    assert not path.exists()  # those of other weights


def test_refit(model):
    """As training does it: the range from the training fields, the errors of the model from the validation set."""
    Z = fields(12, 11).numpy()
    S = local_matrices(GRID, np.exp(Z))
    data = TrainingData(GRID, (Z[:6], S[:6]), (Z[6:], S[6:]), (Z[:1], S[:1]), {"field": {}})
    refit_error_estimates(model, data, seed=3)
    predicted = model.predict(model.grid, (torch.from_numpy(Z[6:])).exp()).numpy()
    training, held_out = ((torch.from_numpy(part), marks()) for part in (Z[:6], Z[6:]))
    expected = fit_error_estimator(WINDOW, training, held_out, matrix_errors(predicted, S[6:]), 3)
    with torch.inference_mode():  # predicted one by one and together: the last bits differ
        estimate = expected(torch.from_numpy(Z[7:8]), marks())[0].numpy()
    np.testing.assert_allclose(model.error_estimates(model.grid, np.exp(Z[7])), estimate, rtol=1e-5)
    with pytest.raises(InputError, match="data for this model must be of the window"):
        other = Grid(2, 4, 32, 1, coefficient=16)
        refit_error_estimates(model, TrainingData(other, (Z, S), (Z, S), (Z, S), {}))
    with pytest.raises(InputError, match="data must be of the model's field"):
        refit_error_estimates(model, TrainingData(GRID, (Z, S), (Z, S), (Z, S), {"field": {"kind": "uniform"}}))


def test_bad_arguments(model):
    Z = fields(1, 7)[0].numpy()
    for trust in (0.0, -1.0, float("nan"), True):
        with pytest.raises(InputError, match="trust must be a positive tolerance"):
            model.local_matrices(model.grid, np.exp(Z), trust=trust)
    model.estimator = None
    with pytest.raises(InputError, match="no error estimates"):
        model.local_matrices(model.grid, np.exp(Z), trust=0.1)
    with pytest.raises(InputError, match="errors must have shape"):
        fit_error_estimator(WINDOW, (fields(2, 0), marks()), (fields(2, 1), marks()), np.ones((1, 3)))


@pytest.mark.parametrize("name", sorted(shipped_models()))
def test_models_of_the_package_keep_a_tolerance(name):
    # 4 fresh fields of a fixed seed: at least 99 % of the patches within 2 %, at most 10 % of them computed exactly
    model = NNLOD.load(name)
    law = make_field(model.law, model.grid.dim, model.grid.coefficient)
    within, recomputed = [], []
    for index in range(4):
        Z = law.sample(seed=1, index=index, stage=1).Z
        exact, mended = local_matrices(model.grid, np.exp(Z)), model.local_matrices(model.grid, np.exp(Z), trust=0.02)
        within.append(np.mean(matrix_errors(mended, exact) <= 0.02))
        recomputed.append(np.mean(model.error_estimates(model.grid, np.exp(Z)) > 0.02))
    assert np.mean(within) > 0.99 and np.mean(recomputed) < 0.1
