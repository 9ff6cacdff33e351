"""Circulant embedding: the covariance it samples, exactly and by statistics; enlarging and clipping."""

from __future__ import annotations

import warnings

import gstools
import numpy as np
import pytest
from sample_covariance import assert_covariance, distances, formula, law_of

from nnlod_fenics import InputError
from nnlod_fenics.fields import CirculantEmbedding, covariance_model, matern

DIMENSIONS = [(1, 24), (2, 6), (3, 4)]


@pytest.mark.parametrize("nu", [0.5, 1.0, 1.5])
@pytest.mark.parametrize(("dim", "cells"), DIMENSIONS + [(1, 1), (1, 2), (2, 1), (2, 3), (3, 2)])
def test_covariance_is_exact(dim, cells, nu):
    embedding = CirculantEmbedding(matern(dim, 1.7, 0.2, nu), cells)
    assert embedding.clipped_mass == embedding.covariance_error == embedding.variogram_error == 0
    expected = formula(distances(dim, cells), 1.7, 0.2, nu)
    assert np.abs(law_of(embedding) - expected).max() < 1e-12


@pytest.mark.parametrize("nu", [0.5, 1.0, 1.5])
@pytest.mark.parametrize(("dim", "cells"), DIMENSIONS)
def test_both_fields_of_a_pair_have_the_covariance_and_are_independent(dim, cells, nu):
    """Bound and false-alarm probability (1e-6): see sample_covariance.py."""
    variance, rho, draws = 1.7, 0.3, 4000
    embedding = CirculantEmbedding(matern(dim, variance, rho, nu), cells)
    assert embedding.clipped_mass == 0
    rng = np.random.default_rng(1)
    pairs = np.stack([[embedding.draw(rng).ravel() for _ in range(2)] for _ in range(draws)])
    expected = formula(distances(dim, cells), variance, rho, nu)
    both = np.block([[expected, np.zeros_like(expected)], [np.zeros_like(expected), expected]])
    assert_covariance(pairs.reshape(draws, -1), both)


def test_embedding_that_fails_is_enlarged_until_exact():
    embedding = CirculantEmbedding(matern(2, 1.0, 0.3, 1.5), 64)
    assert embedding.tried[0] == (128, 128) and len(embedding.tried) > 1 and embedding.size == embedding.tried[-1]
    # the first size does have negative eigenvalues: those of the matrix itself, from formula (2.3)
    lag = np.minimum(np.arange(128), 128 - np.arange(128)) / 64
    eigenvalues = np.fft.fft2(formula(np.hypot(lag[:, None], lag[None]), 1.0, 0.3, 1.5)).real
    assert -eigenvalues.min() > 1e-6 * eigenvalues.max()
    assert embedding.clipped_mass == 0 and embedding.covariance_error == 0 and embedding.account == ""
    small = CirculantEmbedding(matern(2, 1.0, 0.5, 1.5), 5)
    assert len(small.tried) > 1
    assert np.abs(law_of(small) - formula(distances(2, 5), 1.0, 0.5, 1.5)).max() < 1e-12


@pytest.mark.parametrize(("dim", "cells", "nu"), [(1, 16, 4.0), (2, 8, 1.5), (3, 4, 1.5)])
def test_embedding_that_cannot_be_enlarged_reports_its_error(dim, cells, nu):
    model = matern(dim, 2.0, 0.6, nu)
    with pytest.warns(UserWarning, match="negative eigenvalues") as caught:
        embedding = CirculantEmbedding(model, cells, max_factor=2)
    assert len(caught) == 1 and f"{embedding.covariance_error:.1e}" in embedding.account
    error = np.abs(law_of(embedding) - formula(distances(dim, cells), 2.0, 0.6, nu)).max() / 2.0
    assert error > 1e-4
    assert embedding.covariance_error == pytest.approx(error, rel=1e-9)
    # clipping adds to each eigenvalue, so the error is largest in the variance: trace(clipped) - trace
    assert embedding.covariance_error <= embedding.clipped_mass / (1 - 2 * embedding.clipped_mass) * (1 + 1e-9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert CirculantEmbedding(model, cells, max_factor=2, warn=False).clipped_mass == embedding.clipped_mass


@pytest.mark.parametrize(
    ("model", "cells", "larger"),
    [(covariance_model("Gaussian", 2, 2.0, 10.0), 6, 10), (matern(2, 2.0, 1000.0, 0.5), 6, 10)],
)
def test_error_of_the_variogram(model, cells, larger):
    """Of Z(x) − Z(y), by the law of the field; a variance that is too large is no part of it."""
    with pytest.warns(UserWarning, match=r"the variogram inside D, which is what homogenization sees, by up to"):
        embedding = CirculantEmbedding(model, cells, max_factor=4)
    law, r = law_of(embedding), distances(2, cells)
    own = (np.diag(law)[:, None] + np.diag(law)[None]) / 2 - law
    wanted = np.asarray(model.sill - model.covariance(r.ravel())).reshape(r.shape)
    apart = r > 0
    error = np.abs(own[apart] / wanted[apart] - 1).max()
    assert embedding.variogram_error == pytest.approx(error, rel=1e-6)
    assert embedding.variogram_error > larger * embedding.covariance_error > 0
    assert f"{embedding.variogram_error:.1e} of itself" in embedding.account


@pytest.mark.parametrize("name", ["Gaussian", "Exponential", "Spherical", "Stable", "Rational"])
@pytest.mark.parametrize("dim", [1, 2, 3])
def test_other_models_of_gstools(name, dim):
    cells = {1: 12, 2: 5, 3: 3}[dim]
    model = covariance_model(name, dim, 0.5, 0.2)
    expected = np.reshape(model.covariance(distances(dim, cells).ravel()), (cells**dim,) * 2)
    embedding = CirculantEmbedding(model, cells, max_factor=64)
    assert embedding.covariance_error < 1e-7  # Rational decays too slowly to be exact
    assert np.abs(law_of(embedding) - expected).max() < 1e-12 + 1.01 * 0.5 * embedding.covariance_error


def test_nugget_is_white_noise():
    model = gstools.Exponential(2, var=1.0, len_scale=0.2, nugget=0.3)
    expected = np.exp(-distances(2, 4) / 0.2) + 0.3 * np.eye(16)
    assert np.abs(law_of(CirculantEmbedding(model, 4)) - expected).max() < 1e-12


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        (matern(2), (0,), "cells must be a positive integer, got 0"),
        (matern(2), (8.0,), "cells must be a positive integer, got 8.0"),
        (matern(2), (8, 1), "max_factor must be a number of at least 2, got 1"),
        (matern(2), (8, "big"), "max_factor must be a number of at least 2, got 'big'"),
        (matern(2), ((8, 8, 8),), r"cells must be a positive integer or 2 of them for d = 2, x first, got \(8, 8, 8\)"),
        (matern(2), ((8, 0),), r"cells must be a positive integer or 2 of them for d = 2, x first, got \(8, 0\)"),
        (matern(2), (8, 16.0, True, (1.0,)), r"lengths must be a positive number or 2 of them .*got \(1.0,\)"),
        (matern(2), (8, 16.0, True, (1.0, 0.0)), r"lengths\[1\] must be a positive number, got 0.0"),
        (matern(2), (8, 16.0, True, float("nan")), "lengths must be a positive number, got nan"),
    ],
)
def test_bad_arguments(model, arguments, message):
    with pytest.raises(InputError, match=message):
        CirculantEmbedding(model, *arguments)
