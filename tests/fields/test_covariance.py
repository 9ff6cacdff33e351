"""Covariance models: formula (2.3), GSTools by name, bad parameters."""

from __future__ import annotations

import gstools
import numpy as np
import pytest
from sample_covariance import formula

from nnlod_fenics import InputError
from nnlod_fenics.fields import covariance_model, matern


@pytest.mark.parametrize("nu", [0.2, 0.5, 1.0, 1.3, 1.5, 5.0, 20.0])
@pytest.mark.parametrize("dim", [1, 2, 3])
def test_matern_is_formula(dim, nu):
    r = np.concatenate([[0.0], np.geomspace(1e-4, 1.0, 200)])
    assert np.abs(matern(dim, 2.5, 0.13, nu).covariance(r) - formula(r, 2.5, 0.13, nu)).max() < 1e-12


def test_paper_convention_of_the_correlation_length():
    """√(2ν), not GSTools' √ν: the correlation at ρ/2 for ν = 1.3 is 0.77, not 0.86."""
    assert matern(2, 1.0, 0.4, 1.3).correlation(0.2) == pytest.approx(0.768, abs=1e-3)
    assert gstools.Matern(2, len_scale=0.4, nu=1.3).correlation(0.2) == pytest.approx(0.86, abs=5e-3)
    assert matern(2, 2.0, 0.1, 0.5).covariance(0.1) == pytest.approx(2 * np.exp(-1), rel=1e-12)


@pytest.mark.parametrize(
    ("name", "correlation"),
    [
        ("Exponential", lambda r: np.exp(-r)),
        ("Gaussian", lambda r: np.exp(-np.pi / 4 * r**2)),
        ("Spherical", lambda r: np.where(r < 1, 1 - 1.5 * r + 0.5 * r**3, 0)),
    ],
)
def test_models_by_name(name, correlation):
    """GSTools' conventions: distances in units of the correlation length."""
    r = np.linspace(0, 2, 50)
    assert np.allclose(covariance_model(name, 2, 0.7, 0.2).covariance(0.2 * r), 0.7 * correlation(r), atol=1e-14)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("Nonsense", 2), "covariance must be the name of a GSTools covariance model such as 'Matern', got 'Nonsense'"),
        (("SRF", 2), "covariance must be the name"),
        (("CovModel", 2), "covariance must be the name"),
        ((3, 2), "covariance must be the name .* got 3"),
        (("Matern", 4), "dim must be 1, 2 or 3, got 4"),
        (("Matern", 2, 0), "variance must be a positive number, got 0"),
        (("Matern", 2, True), "variance must be a positive number, got True"),
        (("Matern", 2, 1.0, float("inf")), "correlation_length must be a positive number, got inf"),
        (("Matern", 2, 1.0, "0.1"), "correlation_length must be a positive number, got '0.1'"),
        (("Matern", 2, 1.0, 0.1, -0.5), "smoothness must be a positive number, got -0.5"),
        (("Matern", 2, 1.0, 0.1, 0.1), "GSTools' Matern model does not take"),
        (("Matern", 2, 1.0, 0.1, 20.5), "smoothness must be at most 20, got 20.5"),
        (
            ("Gaussian", 2, 1.0, 0.1, 0.5),
            "smoothness belongs to the Matern model only, got it for covariance 'Gaussian'",
        ),
    ],
)
def test_bad_parameters(arguments, message):
    with pytest.raises(InputError, match=message):
        covariance_model(*arguments)
