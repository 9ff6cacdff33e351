"""Networks on boxes and parts of them: what is exactly zero, what does not matter, and files of the former version."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from windows import cut, padded, samples

from nnlod_fenics import NNLOD, Grid, InputError, local_matrices
from nnlod_fenics.dataset import Dataset
from nnlod_fenics.network import build_network, export_network, matrix_errors, relative_loss
from nnlod_fenics.network.check import check_network, trial_windows
from nnlod_fenics.network.patch_features import count_features, patch_features
from nnlod_fenics.network.registry import forward_of_field
from nnlod_fenics.network.trust import fit_error_estimator
from nnlod_fenics.network.windows import rows_in_domain
from nnlod_fenics.problem import Problem
from nnlod_fenics.training import Blocks
from nnlod_fenics.window import GIVEN, INSIDE, NATURAL, Window, domain_marks

FORMER = Path(__file__).parents[1] / "data" / "version1"


def masked(shape: tuple[int, ...], *holes: tuple) -> np.ndarray:
    active = np.ones(shape, dtype=bool)
    for hole in holes:
        active[hole] = False
    return active


GRIDS = {
    "1d": Grid(1, 7, 28, 2, 14, 3.5, ["xmin"]),
    "2d-box": Grid(2, (6, 4), (24, 16), 2, (12, 8), (3.0, 2.0), ("xmin", "ymax")),
    "2d-hole": Grid(2, (6, 5), (24, 20), 1, (12, 10), (6, 5), ("xmin",), masked((5, 6), np.s_[1:3, 2:4])),
    # a wall of two elements, and a dead end: windows with elements of D on both sides, nodes seen from beyond only
    "2d-wall": Grid(2, (7, 6), (28, 24), 2, (14, 12), (7, 6), ("ymin",), masked((6, 7), np.s_[2:4, :5], np.s_[5, 0])),
    "3d": Grid(
        3, (3, 4, 2), (6, 8, 4), 1, (6, 8, 4), (3, 4, 2), ("zmax",), masked((2, 4, 3), np.s_[0, 1, 1], np.s_[0, 3])
    ),
}


@pytest.fixture(params=GRIDS)
def grid(request) -> Grid:
    return GRIDS[request.param]


def make(grid: Grid, name: str = "structured") -> torch.nn.Module:
    options = {"channels": 4, "means": 4} if name == "structured" else {"widths": [8]}
    network = build_network(name, Window.of(grid), seed=1, **options)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return network.eval()


def model_of(grid: Grid, name: str = "structured") -> NNLOD:
    ranges = {"range_of_Z": [-3.0, 3.0], "range_of_deviations": [-3.0, 3.0]}
    return NNLOD(grid, make(grid, name), {"grid": grid.as_dict(), "training_set": ranges, "losses": {}})


def brute_rows(grid: Grid) -> np.ndarray:
    """Nodes of each padded patch that belong to an active element in it, element by element."""
    rows = np.zeros((grid.num_elements, *(2 * grid.ell + 2,) * grid.dim), dtype=bool)
    for T in grid.active_elements:
        for E in grid.active_elements:
            offset = grid.elements[E] - grid.elements[T] + grid.ell
            if (offset >= 0).all() and (offset <= 2 * grid.ell).all():
                rows[(T, *(slice(p, p + 2) for p in offset[::-1]))] = True
    return rows.reshape(grid.num_elements, -1)


def test_rows_are_those_of_the_exact_matrices(grid, rng):
    rows = rows_in_domain(domain_marks(grid), Window.of(grid))
    assert np.array_equal(rows, brute_rows(grid))
    S = local_matrices(grid, np.exp(rng.standard_normal(grid.coefficient_shape)))
    assert np.array_equal(S.any(axis=2), rows)


@pytest.mark.parametrize("name", ["structured", "paper"])
def test_zero_outside_the_domain(grid, name, rng):
    model = model_of(grid, name)
    A = np.exp(rng.standard_normal((3, *grid.coefficient_shape)))
    S = model.predict(grid, A).numpy()
    assert np.isfinite(S).all() and np.array_equal(S.any(axis=3), np.broadcast_to(brute_rows(grid), S.shape[:3]))
    np.testing.assert_array_equal(model.local_matrices(grid, A[1]), model.predict(grid, A[1:2]).numpy()[0])
    if name == "structured":
        norm = np.linalg.norm(S, axis=(2, 3)).max()
        assert max(np.abs(S.sum(axis=axis)).max() for axis in (2, 3)) < 1e-13 * norm


def test_inactive_cells_do_not_matter(grid, rng):
    """Not even NaN, in arrays and tensors; nor for the range and the errors."""
    model = model_of(grid)
    A = np.exp(rng.standard_normal((2, *grid.coefficient_shape)))
    other = np.where(grid.active_cells, A, np.nan)
    expected = model.predict(grid, A).numpy()
    for given in (other, torch.from_numpy(other), list(other)):
        np.testing.assert_array_equal(model.predict(grid, given).numpy(), expected)
    large = np.where(grid.active_cells, A[0], 1e9)
    np.testing.assert_array_equal(model.local_matrices(grid, large), model.local_matrices(grid, A[0]))
    assert model.out_of_range(grid, large) == model.out_of_range(grid, A[0])
    bad = A.copy()
    bad[(0, *np.argwhere(grid.active_cells)[0])] = -1.0
    for given in (bad, torch.from_numpy(bad)):
        with pytest.raises(InputError, match="A must be positive"):
            model.predict(grid, given)


def test_fields_at_once_blocks_and_single_windows(grid, rng):
    """Three ways to the same matrices, of active elements and others."""
    network, Z = make(grid), rng.standard_normal(grid.coefficient_shape)
    window = Window.of(grid)
    with torch.no_grad():
        whole, single = forward_of_field(network, window, *padded(grid, Z[None]))[0], network(*cut(grid, Z))
    assert torch.isfinite(single).all() and not single[~grid.active.ravel()].any()
    np.testing.assert_allclose(whole, single, atol=1e-5 * float(single.abs().max()))
    for block in (1, grid.coarse):
        blocks = Blocks(window, samples(grid, Z[None], np.asarray(single)[None]), block)
        for batch in blocks.batches(grid.num_elements):
            with torch.no_grad():
                assert float(relative_loss(network(batch.Z, batch.domain), batch.S)) < 1e-9


@pytest.mark.parametrize("name", ["structured", "paper"])
def test_the_contract_is_checked_on_the_grid(grid, name):
    window = Window.of(grid)
    check_network(make(grid, name), window)
    Z, domain = trial_windows(window)
    assert Z.shape == (2, *(window.width * window.cells,) * grid.dim)
    assert domain.shape == (2, *(window.width,) * grid.dim) and (domain[1] == INSIDE).all()
    assert domain[0][(window.layers,) * grid.dim] == INSIDE  # the element itself lies in D
    assert {GIVEN, NATURAL, INSIDE} == set(domain[0].unique().tolist())
    spread = np.kron(domain.numpy() == INSIDE, np.ones((1, *(window.cells,) * grid.dim)))
    assert np.array_equal(Z.numpy() != 0, spread == 1)


def test_features_are_those_of_the_domain(grid, rng):
    Z = torch.from_numpy(rng.standard_normal((2, *grid.coefficient_shape)))
    window, marks = Window.of(grid), torch.from_numpy(domain_marks(grid)[None])
    features = patch_features(window, Z, marks)
    assert features.shape == (2 * len(grid.active_elements), count_features()) and torch.isfinite(features).all()
    changed = torch.where(torch.from_numpy(grid.active_cells), Z, torch.inf)
    assert torch.equal(patch_features(window, changed, marks), features)


def test_errors_are_estimated_for_active_elements(grid, rng):
    fields = torch.from_numpy(rng.standard_normal((12, *grid.coefficient_shape)))
    errors = np.where(grid.active.ravel(), 0.01 + 0.01 * rng.random((12, grid.num_elements)), np.nan)
    model = model_of(grid)
    marks = torch.from_numpy(domain_marks(grid)[None])
    model.estimator = fit_error_estimator(Window.of(grid), (fields, marks), (fields[:4], marks), errors[:4])
    A = np.exp(fields[0].numpy())
    estimate = model.error_estimates(grid, A)
    active = grid.active.ravel()
    assert not estimate[~active].any() and (estimate[active] > 0).all() and np.isfinite(estimate[active]).any()
    computed = model.local_matrices(grid, A, trust=1e-9)
    np.testing.assert_allclose(computed, local_matrices(grid, A), atol=1e-10)


def test_the_loss_is_that_of_the_domain(grid, rng):
    exact = local_matrices(grid, np.exp(rng.standard_normal(grid.coefficient_shape)))
    predicted = exact + 0.1 * rng.standard_normal(exact.shape)
    active = grid.active.ravel()
    errors = matrix_errors(predicted, exact)
    assert np.array_equal(np.isnan(errors), ~active)
    loss = relative_loss(torch.from_numpy(predicted), torch.from_numpy(exact))
    assert float(loss) == pytest.approx(np.mean(errors[active] ** 2), rel=1e-12)
    assert float(relative_loss(torch.ones(2, 3, 3), torch.zeros(2, 3, 3))) == 0


def test_solutions_know_the_boundary(grid, rng):
    """Predicted operators solve problems with given values, NaN outside the domain."""
    model = model_of(grid)
    S = local_matrices(grid, A := np.exp(rng.standard_normal(grid.coefficient_shape)))
    model.local_system = lambda *_: (S, None)  # that of another network is of no interest here
    u = model.solve(grid, A, Problem(0.0, g=1.0))
    assert u.shape == grid.node_shape and np.array_equal(np.isnan(u), ~grid.active_nodes)
    np.testing.assert_allclose(u[grid.active_nodes], 1.0, rtol=1e-9)


def test_saved_and_loaded(grid, tmp_path, rng):
    model = model_of(grid)
    model.description |= {"network": {"name": "structured", "options": {"channels": 4, "means": 4}}}
    model.save(tmp_path / "m")
    loaded = NNLOD.load(tmp_path / "m", grid=grid)
    assert loaded.grid == grid and loaded.description["model_version"] == 3
    A = np.exp(rng.standard_normal(grid.coefficient_shape))
    np.testing.assert_array_equal(loaded.local_matrices(grid, A), model.local_matrices(grid, A))
    cube = Grid(2, 4, 16, 1)
    with pytest.raises(InputError, match=r"must be of the window d = .*, got d = 2, H/h = 4, H/ε = 4, ℓ = 1, Petrov"):
        NNLOD.load(tmp_path / "m", grid=cube)
    with pytest.raises(
        InputError, match=r"grid for this model must be of the window d = .*, got d = 2, H/h = 4, H/ε = 4, ℓ = 1"
    ):
        loaded.solve(cube, np.ones((16, 16)))


def test_exported(tmp_path, rng):
    grid = GRIDS["2d-wall"]
    network = make(grid)
    program = torch.export.load(export_network(network, Window.of(grid), tmp_path / "n.pt2")).module()
    windows = cut(grid, rng.random(grid.coefficient_shape))
    with torch.no_grad():
        expected = network(*windows)
        np.testing.assert_allclose(program(*windows), expected, atol=1e-5 * float(expected.abs().max()))


def test_a_model_of_version_1():
    """The same grid, predictions and error estimates as before."""
    model, dataset = NNLOD.load(FORMER / "model"), Dataset(FORMER / "dataset")
    assert model.grid == dataset.grid and model.description["model_version"] == 1 and model.estimator is not None
    S = np.load(FORMER / "prediction.npy")
    np.testing.assert_allclose(model.local_matrices(model.grid, dataset.A(0)), S, atol=1e-5 * np.abs(S).max())
