"""A model serves every grid of its window; and what its loads are for."""

from __future__ import annotations

import numpy as np
import pytest
from test_marks import model_of

from nnlod_fenics import NNLOD, Grid, InputError, local_matrices, solve
from nnlod_fenics.fields import make_field
from nnlod_fenics.network import matrix_errors
from nnlod_fenics.problem import Problem
from nnlod_fenics.training import TrainingData, TrainingSettings, train
from nnlod_fenics.window import Window

FORMS = ("petrov-galerkin", "galerkin")


def served(coarse: tuple[int, int]) -> Grid:
    """A box of elements of the size of those of the models of the package."""
    return Grid(2, coarse, [8 * n for n in coarse], 2, [4 * n for n in coarse], [n / 16 for n in coarse])


def test_a_shipped_model_is_as_accurate_on_other_boxes():
    """Mean errors over 256 to 4,096 patches of fields of one law; measured, they differ by a few per cent."""
    model, errors = NNLOD.load("lognormal-1.0"), {}
    for coarse in ((16, 16), (32, 32), (48, 24), (64, 64)):
        grid = served(coarse)
        A = make_field(model.law, 2, grid.coefficient, grid.lengths).sample(5, 0).A
        some = np.random.default_rng(0).permutation(grid.num_elements)[:400]
        exact = local_matrices(grid, A, elements=some)
        errors[coarse] = matrix_errors(model.local_matrices(grid, A)[some], exact).mean()
    assert max(errors.values()) < 1.25 * errors[16, 16] < 0.02, errors


def test_other_windows_are_refused_with_the_numbers_of_both():
    model = NNLOD.load("lognormal-1.0")
    told = r"d = 2, H/h = 8, H/ε = 4, ℓ = 2, Petrov.*, got d = 2, H/h = {}, H/ε = {}, ℓ = {}, Petrov"
    for ratio, cells, ell in ((4, 4, 2), (8, 8, 2), (8, 4, 1)):
        grid = Grid(2, 16, 16 * ratio, ell, 16 * cells)
        with pytest.raises(InputError, match=told.format(ratio, cells, ell)):
            model.solve(grid, np.ones(grid.coefficient_shape))
    with pytest.raises(InputError, match=r"got .*elements with sides in the ratio \[0\.5, 2\.0\]"):
        model.check_grid(Grid(2, 16, 128, 2, 64, (1.0, 4.0)))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dim", [1, 3])
def test_sizes_of_elements(dim, form, tmp_path, rng):
    """Trained on one H, as accurate on another: matrices scale as H^(d-2), loads as H^d, those of the data too."""
    grids = [Grid(dim, 3, 6, 1, coefficient=6, lengths=length) for length in (2.0, 7.0)]
    Z = 0.3 * rng.standard_normal((6, *grids[0].coefficient_shape))
    arrays = [(part, matrices(grids[0], part, form)) for part in (Z[:4], Z[4:5], Z[5:])]
    settings = TrainingSettings(epochs=2, batch_size=16)
    data = TrainingData(grids[0], *arrays, {"field": {}}, form)
    model = NNLOD.load(train(data, tmp_path / "m", "structured", {"channels": 2, "means": 2}, settings))
    columns, errors = model.window.matrix_shape[1], []
    for grid in grids:
        exact, found = matrices(grid, Z[5:], form)[0], model.predict(grid, np.exp(Z[5:])).numpy()[0]
        errors.append(
            [matrix_errors(found[..., part], exact[..., part]) for part in (slice(columns), slice(columns, None))]
        )
    np.testing.assert_allclose(errors[1], errors[0], rtol=1e-6)
    assert np.mean(errors[0][0]) < 0.5


def matrices(grid: Grid, Z: np.ndarray, form: str) -> np.ndarray:
    """Exact local matrices with loads."""
    S, b = local_matrices(grid, np.exp(Z), form=form, source=Problem())
    return np.concatenate([S, b[..., None]], axis=-1)


HOLE = np.ones((6, 8), dtype=bool)
HOLE[2:4, 3:5] = False
DOMAINS = {
    "box": Grid(2, 6, 24, 1, coefficient=12),
    "hole": Grid(2, (8, 6), (32, 24), 1, (16, 12), (8 / 6, 1.0), ("xmin", "ymax"), HOLE),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("domain", DOMAINS)
def test_loads_are_source_correctors(domain, form, rng):
    """With exact matrices and loads: the exact solution, for any g.

    For f = 1 in both forms, and in the Petrov–Galerkin form for any f that is constant on each element. In the Galerkin
    form neighbours with another f are off by the error of truncation (3e-4 here). Where f varies within elements, the
    rest is small beside what the plain load leaves.
    """
    grid = DOMAINS[domain]
    A = np.exp(1.5 * rng.standard_normal(grid.coefficient_shape))
    model = model_of(grid, form)
    model.local_system = lambda *_: local_matrices(grid, A, form=form, source=Problem())
    steps = np.kron(rng.standard_normal(grid.element_shape), np.ones((4, 4)))
    g = {"xmin": lambda x: 1 + x[1]}
    smooth = lambda x: np.exp(x[0]) * np.sin(3 * x[1])  # noqa: E731
    for f, bound in ((1.0, 1e-10), (steps, 1e-10 if form == FORMS[0] else 0.5), (smooth, 0.5)):
        exact = solve(grid, A, "lod", f, g=g, form=form, source_correctors=True).u
        plain, corrected = (model.solve(grid, A, Problem(f, g=g), source_correctors=c) for c in (False, True))
        errors = [np.linalg.norm((u - exact)[grid.active_nodes]) for u in (plain, corrected)]
        assert errors[1] < bound * errors[0]
    with pytest.raises(InputError, match="source_correctors needs a model that predicts loads"):
        model_of(grid, form, loads=False).solve(grid, A, source_correctors=True)


def test_galerkin_with_loads_learns(tmp_path):
    """In seconds, clearly below the loss of the mean matrix, from which it starts; matrices and loads."""
    grid = Grid(2, 4, 8, 1, coefficient=8)
    Z = np.random.default_rng(0).standard_normal((26, 8, 8))
    S = matrices(grid, Z, "galerkin")
    parts = [(Z[part], S[part]) for part in (slice(20), slice(20, 23), slice(23, 26))]
    data = TrainingData(grid, *parts, {"field": {}}, "galerkin")
    settings = TrainingSettings(epochs=12, batch_size=32)
    model = NNLOD.load(train(data, tmp_path / "m", "structured", {"channels": 4, "means": 8}, settings))
    assert model.window == Window.of(grid, "galerkin") and model.predicts_loads
    found, columns = model.predict(grid, np.exp(Z[23:])).numpy(), 16
    for part in (slice(columns), slice(columns, None)):
        mean = np.broadcast_to(S[:20, :, :, part].mean(axis=(0, 1)), S[23:, :, :, part].shape)
        learned, constant = (
            (matrix_errors(guess, S[23:, :, :, part]) ** 2).mean() for guess in (found[..., part], mean)
        )
        assert learned < 0.3 * constant, (learned, constant)
    _check_trust(model, grid, np.exp(Z[25]), found[-1])


def _check_trust(model, grid, A, predicted):
    """Doubtful elements have exact matrices and loads, the others predicted ones."""
    estimates = model.error_estimates(grid, A)
    trust = float(np.median(estimates))
    K, loads = model.local_system(grid, A, trust)
    exact, exact_loads = local_matrices(grid, A, form="galerkin", source=Problem())
    doubtful = estimates > trust
    assert 0 < doubtful.sum() < len(doubtful)
    np.testing.assert_allclose(K[doubtful], exact[doubtful], rtol=0, atol=1e-12 * np.abs(exact).max())
    np.testing.assert_allclose(loads[doubtful], exact_loads[doubtful], rtol=0, atol=1e-12)
    np.testing.assert_allclose(K[~doubtful], predicted[~doubtful, :, :-1], rtol=1e-4, atol=1e-6)
    assert np.abs(K - exact)[~doubtful].max() > 1e-4
