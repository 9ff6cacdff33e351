"""Fields on boxes: shapes, covariances per axis and turned, exactly and by statistics; the unit cube as it was."""

from __future__ import annotations

import math
import warnings

import gstools
import numpy as np
import pytest
import scipy.fft
from sample_covariance import assert_covariance, lags, law_of, turned_formula

from nnlod_fenics import InputError
from nnlod_fenics.fields import CirculantEmbedding, LognormalField, covariance_model, make_field, matern, registry
from nnlod_fenics.fields.box import Box
from nnlod_fenics.fields.spectrum import EvenSpectrum, HalfSpectrum, spectrum_of
from nnlod_fenics.runtime.streams import generator

BOXES = [  # cells, lengths, correlation lengths, angles
    ((5,), (3.0,), (0.6,), ()),
    ((6, 4), (3.0, 1.0), (0.4, 0.4), ()),
    ((8, 3), (0.8, 0.3), (0.2, 0.2), ()),
    ((5, 6), (1.0, 2.0), (0.5, 0.1), ()),
    ((5, 4), (1.0, 0.5), (0.4, 0.1), (0.6,)),
    ((4, 6), (2.0, 0.7), (0.1, 0.4), (-0.6,)),
    ((1, 5), (2.0, 0.7), (0.1, 0.4), (1.0,)),
    ((5, 1), (2.0, 0.7), (0.1, 0.4), (1.0,)),
    ((4, 3, 2), (1.0, 2.0, 0.5), (0.3, 0.2, 0.1), ()),
    ((4, 2, 3), (1.0, 2.0, 0.5), (0.3, 0.2, 0.1), (0.3, -0.5, 0.8)),
]


@pytest.mark.parametrize("nu", [0.5, 1.0])
@pytest.mark.parametrize(("cells", "lengths", "rho", "angles"), BOXES)
def test_covariance_is_exact(cells, lengths, rho, angles, nu):
    model = matern(len(cells), 1.7, rho, nu, angles or None)
    embedding = CirculantEmbedding(model, cells, lengths=lengths)
    assert embedding.clipped_mass == embedding.covariance_error == 0
    expected = turned_formula(lags(cells, lengths), 1.7, rho, angles, nu)
    assert np.abs(law_of(embedding) - expected).max() < 1e-12


@pytest.mark.parametrize("angles", [(), (0.6,)])
def test_fields_of_a_law_have_the_covariance(angles):
    """Bound and false-alarm probability (1e-6): see sample_covariance.py."""
    cells, lengths, rho = (5, 4), (1.0, 0.5), (0.4, 0.1)
    settings = {"variance": 0.8, "correlation_length": list(rho)} | ({"angles": angles[0]} if angles else {})
    law = make_field(settings, 2, cells, lengths)
    samples = np.stack([law.sample(3, k).Z for k in range(6000)])
    assert samples.shape == (6000, 4, 5)
    assert_covariance(samples.reshape(6000, -1), turned_formula(lags(cells, lengths), 0.8, rho, angles, 0.5))


def test_the_covariance_of_the_colouring_is_that_of_the_model():
    """On a grid as it is used, by an inverse transform: all lags of the box, both signs."""
    cells, lengths, angle = (40, 24), (2.0, 1.0), 0.4
    model = covariance_model("Exponential", 2, 1.0, [0.2, 0.05], angles=angle)
    box = Box.of(2, cells, lengths)
    spectrum = spectrum_of(model, box)
    size = CirculantEmbedding(model, cells, lengths=lengths).size[::-1]
    eigenvalues = spectrum.eigenvalues(spectrum.covariance(size))
    assert isinstance(spectrum, HalfSpectrum) and eigenvalues.min() > 0
    own = scipy.fft.irfftn(eigenvalues, size)
    y, x = np.mgrid[-23:24, -39:40]
    wanted = model.cov_spatial(np.stack([x.ravel() / 20, y.ravel() / 24])).reshape(x.shape)
    assert np.abs(own[y, x] - wanted).max() < 1e-12


@pytest.mark.parametrize(
    ("rho", "angles", "kind"),
    [
        ([0.1, 0.1], 0.7, EvenSpectrum),
        ([0.1, 0.3], 0.0, EvenSpectrum),
        ([0.1, 0.3], math.pi / 2, EvenSpectrum),
        ([0.1, 0.1 + 1e-9], 0.0, EvenSpectrum),
        ([0.1, 0.3], 0.01, HalfSpectrum),
        ([0.1, 0.1 + 1e-9], 0.7, HalfSpectrum),
    ],
)
def test_which_symmetry(rho, angles, kind):
    model = matern(2, 1.0, rho, 0.5, angles)
    assert isinstance(spectrum_of(model, Box.of(2, 8)), kind)
    expected = turned_formula(lags((8, 8), (1.0, 1.0)), 1.0, rho, (angles,), 0.5)
    assert np.abs(law_of(CirculantEmbedding(model, 8)) - expected).max() < 1e-12


def test_both_symmetries_agree():
    """What needs no rotation may take the way of the rotated ones."""
    model, box = matern(3, 1.0, [0.9, 0.7, 0.5], 1.5), Box.of(3, (4, 6, 2), (1.0, 2.0, 1.0))
    size = (8, 16, 12)
    whole = []
    for spectrum in (EvenSpectrum(model, box), HalfSpectrum(model, box)):
        eigenvalues = spectrum.eigenvalues(spectrum.covariance(size))
        np.testing.assert_allclose(spectrum.back(eigenvalues), spectrum.covariance(size), atol=1e-14)
        whole.append((spectrum.of_frequencies(eigenvalues), spectrum.negative_share(eigenvalues)))
    np.testing.assert_allclose(whole[0][0], whole[1][0], atol=1e-12)
    assert whole[0][1] == pytest.approx(whole[1][1], rel=1e-9) and whole[0][1] > 0


def test_a_nugget_is_white_noise_when_turned():
    model = gstools.Exponential(2, var=1.0, len_scale=[0.2, 0.4], angles=0.5, nugget=0.3)
    expected = turned_formula(lags((4, 3), (1.0, 1.0)), 1.0, (0.2, 0.4), (0.5,), 0.5) + 0.3 * np.eye(12)
    assert np.abs(law_of(CirculantEmbedding(model, (4, 3))) - expected).max() < 1e-12


@pytest.mark.parametrize("sampler", ["circulant", "randmeth", "fourier"])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_sign_of_the_angle(sampler, sign):
    """Turned from x to y: in [y, x] arrays neighbours at (+1, +1) are alike for π/4; GSTools' own fields are [x, y]."""
    settings = {"correlation_length": [0.4, 0.05], "angles": sign * math.pi / 4, "sampler": sampler}
    law = LognormalField(2, (24, 16), lengths=(1.5, 1.0), **settings)
    Z = np.stack([law.sample(0, k).Z for k in range(4)])
    assert Z.shape == (4, 16, 24)
    alike = np.mean((Z[:, 1:, 1:] - Z[:, :-1, :-1]) ** 2)
    unlike = np.mean((Z[:, 1:, :-1] - Z[:, :-1, 1:]) ** 2)
    assert (alike < 0.5 * unlike) if sign > 0 else (unlike < 0.5 * alike)
    own = gstools.SRF(law.model, seed=1).structured([np.arange(24) / 16, np.arange(16) / 16])
    differences = np.mean((own[1:, 1:] - own[:-1, :-1]) ** 2), np.mean((own[1:, :-1] - own[:-1, 1:]) ** 2)
    assert (differences[0] < differences[1]) == (sign > 0)


@pytest.mark.parametrize("sampler", ["circulant", "randmeth", "fourier"])
def test_lengths_are_in_the_units_of_the_box(sampler):
    """Neighbours a tenth of a correlation length apart along x, a half along y: variograms apart by a factor of 23."""
    settings = {"covariance": "Gaussian", "correlation_length": [10.0, 2.0], "sampler": sampler}
    law = make_field(settings, 2, (64, 8), (64.0, 8.0))
    Z = np.stack([law.sample(0, k).Z for k in range(8)])
    for axis, step in ((2, 0.1), (1, 0.5)):
        variogram = np.mean(np.diff(Z, axis=axis) ** 2) / 2
        assert variogram == pytest.approx(1 - math.exp(-math.pi / 4 * step**2), rel=0.5)


def test_only_axes_that_need_it_grow():
    """A flat box: its short side needs many times its length, its long side next to nothing."""
    embedding = CirculantEmbedding(matern(2, 1.0, 0.3, 1.5), (64, 4), lengths=(4.0, 0.25))
    assert embedding.tried[0] == (128, 6) and embedding.clipped_mass == 0
    assert embedding.size[0] < 3 * 128 and embedding.size[1] > 4 * 6


def test_sizes_turn_with_the_covariance():
    """What grows is decided by how far the covariance reaches along the axes of the box, not along its own."""
    plain = CirculantEmbedding(matern(2, 1.0, (0.8, 0.2), 1.5), (32, 32))
    turned = CirculantEmbedding(matern(2, 1.0, (0.2, 0.8), 1.5, math.pi / 2), (32, 32))
    assert plain.size == turned.size and plain.size[0] > 2 * plain.size[1]
    half = CirculantEmbedding(matern(2, 1.0, (0.8, 0.2), 1.5, 0.4), (32, 32))
    assert half.size[0] > half.size[1] and half.clipped_mass == 0


@pytest.mark.parametrize("angles", [None, 0.5])
def test_an_embedding_that_fails_reports_its_error(angles):
    cells, lengths, rho = (6, 4), (1.0, 0.5), (2.0, 0.5)
    with pytest.warns(
        UserWarning, match=r"with correlation lengths 2, 0\.5 still has negative .* × .* points"
    ) as caught:
        embedding = CirculantEmbedding(matern(2, 2.0, rho, 1.5, angles), cells, max_factor=2, lengths=lengths)
    assert len(caught) == 1
    law, lag = law_of(embedding), lags(cells, lengths)
    wanted = turned_formula(lag, 2.0, rho, (angles or 0.0,), 1.5)
    error = np.abs(law - wanted).max() / 2.0
    assert error > 1e-4 and embedding.covariance_error == pytest.approx(error, rel=1e-9)
    apart = ~np.eye(24, dtype=bool)
    of_variogram = np.abs((law[0, 0] - law)[apart] / (2.0 - wanted)[apart] - 1).max()
    assert embedding.variogram_error == pytest.approx(of_variogram, rel=1e-6)


def drawn_as_in_0_2(model, cells, rng):
    """One field by the sampler of version 0.2: the unit cube, cubes as cells, isotropic; no enlarging."""
    dim, size = model.dim, 2 * scipy.fft.next_fast_len(max(cells - 1, 1), real=True)
    squares = np.arange(size // 2 + 1) ** 2
    total = sum(np.meshgrid(*(squares,) * dim, indexing="ij", sparse=True))
    covariance = np.asarray(model.covariance(np.sqrt(total) / cells))
    colour = np.sqrt(np.maximum(scipy.fft.dctn(covariance, type=1), 0.0) / size**dim)
    colour[..., 1:-1] *= math.sqrt(0.5)
    for axis in range(dim - 1):
        colour = np.take(colour, np.minimum(np.arange(size), size - np.arange(size)), axis=axis)
    noise = rng.standard_normal((*colour.shape, 2)).view(np.complex128)[..., 0] * colour
    for axis in range(dim - 1):
        noise = scipy.fft.fft(noise, axis=axis)[(slice(None),) * axis + (slice(0, cells),)]
    return scipy.fft.irfft(noise, size, axis=-1, norm="forward")[..., :cells]


@pytest.mark.parametrize(("dim", "cells"), [(1, 1), (1, 37), (2, 1), (2, 37), (2, 64), (3, 5), (3, 8)])
def test_fields_on_the_unit_cube_are_those_of_0_2(dim, cells):
    law = make_field({"variance": 0.7, "correlation_length": 0.07}, dim, cells)
    assert len(law._embedding.tried) == 1
    for k in range(2):
        assert law.sample(5, k).Z.tobytes() == drawn_as_in_0_2(law.model, cells, generator(5, 0, k)).tobytes()
    uniform = generator(5, 0, 1).uniform(1.0, 5.0, (cells,) * dim)
    assert make_field({"kind": "uniform"}, dim, cells).sample(5, 1).Z.tobytes() == np.log(uniform).tobytes()


@pytest.mark.parametrize("kind", ["lognormal", "hierarchical", "uniform"])
def test_ways_to_give_the_same_box(kind):
    laws = [make_field({"kind": kind}, 2, *box) for box in [(6,), ((6, 6),), (np.array([6, 6]), 1), ([6, 6], [1, 1.0])]]
    assert len({law.sample(1, 2).Z.tobytes() for law in laws}) == 1
    law = make_field({"kind": kind}, 3, (2, 3, 4), 2.0)
    assert law.sample(1, 2).Z.shape == (4, 3, 2) and law.box.lengths == (2.0, 2.0, 2.0)


@pytest.mark.parametrize("settings", [{}, {"kind": "hierarchical"}, {"sampler": "randmeth"}])
def test_the_mean_is_added(settings):
    centred, law = make_field(settings, 2, 6), make_field(settings | {"mean": -1.5}, 2, 6)
    assert np.array_equal(law.sample(1, 2).Z, centred.sample(1, 2).Z - 1.5)


def test_hierarchical_fields_per_axis():
    laws = [{"choice": [0.2, 0.4]}, 0.1]
    settings = {"kind": "hierarchical", "variance": 2.0, "correlation_length": laws, "angles": 0.6}
    field = make_field(settings, 2, (4, 3), (1.0, 0.5))
    assert field.settings() == settings | {"smoothness": 0.5}
    samples = [field.sample(2, k) for k in range(6000)]
    for rho in (0.2, 0.4):
        Z = np.stack([s.Z.ravel() for s in samples if s.parameters["correlation_length_x"] == rho])
        assert samples[0].parameters["correlation_length_y"] == 0.1 and len(Z) > 2500
        assert_covariance(Z, turned_formula(lags((4, 3), (1.0, 0.5)), 2.0, (rho, 0.1), (0.6,), 0.5))


@pytest.mark.parametrize(
    ("dim", "settings"),
    [
        (1, {"correlation_length": [0.1]}),
        (2, {"correlation_length": [0.1, 0.2]}),
        (2, {"correlation_length": [0.1, 0.2], "angles": 0.3, "mean": -1.5}),
        (3, {"correlation_length": [0.1, 0.2, 0.3], "angles": [0.1, 0.0, 0.3]}),
        (3, {"kind": "hierarchical", "correlation_length": [0.1, {"uniform": [0.2, 0.3]}, 0.3], "angles": [0.1, 0, 3]}),
    ],
)
def test_settings_give_the_law_back(dim, settings):
    law = make_field(settings, dim, 4)
    again = make_field(law.settings(), dim, 4)
    assert law.settings().items() >= settings.items() and again.settings() == law.settings()
    assert np.array_equal(again.sample(1, 2).Z, law.sample(1, 2).Z)
    assert "mean" in settings or "mean" not in law.settings()
    assert "angles" not in make_field({"angles": [0.0] * {1: 0, 2: 1, 3: 3}[dim]}, dim, 4).settings()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"correlation_length": [0.1]}, r"field\.correlation_length must be .* a list of 2 for d = 2.* got \[0\.1\]"),
        ({"correlation_length": []}, r"field\.correlation_length must be .* got \[\]"),
        ({"correlation_length": [0.1, 0]}, r"field\.correlation_length\[1\] must be .* got 0"),
        ({"correlation_length": [0.1, float("nan")]}, r"field\.correlation_length\[1\] must be .* got nan"),
        ({"correlation_length": [0.1, {"choice": [1]}]}, r"field\.correlation_length is random, which needs"),
        ({"angles": [0.1, 0.2]}, r"angles must be one number for d = 2, got \[0\.1, 0\.2\]"),
        ({"angles": "north"}, "angles must be a finite number, got 'north'"),
        ({"angles": float("nan")}, "angles must be a finite number, got nan"),
        ({"mean": "low"}, "field.mean must be a finite number, got 'low'"),
        ({"mean": float("inf")}, "field.mean must be a finite number, got inf"),
        ({"kind": "hierarchical", "mean": {"uniform": [1, 2]}}, "field.mean must be a finite number"),
        ({"angles": True}, "angles must be a finite number, got True"),
        ({"kind": "hierarchical", "angles": []}, r"angles must be one number or law for d = 2, got \[\]"),
        ({"kind": "hierarchical", "correlation_length": [0.1] * 3}, r"field\.correlation_length must be"),
        ({"lengths": [1, 2]}, "field.lengths is no setting of a lognormal field"),
    ],
)
def test_bad_settings_of_axes(settings, message):
    with pytest.raises(InputError, match=message):
        make_field(settings, 2, 8)


def test_bad_angles_elsewhere():
    with pytest.raises(InputError, match=r"angles must be left out for d = 1, got 0\.1"):
        make_field({"angles": 0.1}, 1, 8)
    with pytest.raises(InputError, match=r"angles must be a list of three: yaw, pitch and roll for d = 3, got 0\.1"):
        make_field({"angles": 0.1}, 3, 4)
    with pytest.raises(InputError, match=r"correlation_length must be a positive number or 2 of them .* got \[0\.1\]"):
        matern(2, 1.0, [0.1])
    with pytest.raises(InputError, match=r"correlation_length\[0\] must be a positive number, got -1"):
        matern(2, 1.0, [-1, 1])


@pytest.mark.parametrize("kind", ["lognormal", "hierarchical", "uniform"])
@pytest.mark.parametrize(
    ("cells", "lengths", "message"),
    [
        ((8,), None, r"cells must be a positive integer or 2 of them for d = 2, x first, got \(8,\)"),
        ((8, 1.5), None, r"cells must be a positive integer or 2 of them .* got \(8, 1\.5\)"),
        ("8", None, "cells must be a positive integer, got '8'"),
        (8, (1.0, 2.0, 3.0), r"lengths must be a positive number or 2 of them for d = 2, x first, got \(1\.0, 2\.0, 3"),
        (8, (1.0, float("inf")), r"lengths\[1\] must be a positive number, got inf"),
        (8, 10**400, "lengths must be a positive number, got 1000"),
        (8, -1, "lengths must be a positive number, got -1"),
        (8, "long", "lengths must be a positive number, got 'long'"),
    ],
)
def test_bad_boxes(kind, cells, lengths, message):
    with pytest.raises(InputError, match=message):
        make_field({"kind": kind}, 2, cells, lengths)


class Registered:
    """A law that says what it was called with."""

    def __init__(self, dim, cells, **given):
        self.called = (dim, cells, given)


def test_how_registered_factories_are_called(monkeypatch):
    """As ever on the unit cube; with lengths elsewhere if they have such an argument, and not at all if not."""

    def knows(dim, cells, a=0, lengths=(1.0, 1.0)):
        return Registered(dim, cells, a=a, lengths=lengths)

    monkeypatch.setattr(registry, "_FACTORIES", registry._FACTORIES | {"old": Registered, "new": knows})
    assert make_field({"kind": "old", "a": 1}, 2, (8, 8), (1, 1)).called == (2, 8, {"a": 1})
    assert make_field({"kind": "old"}, 2, (8, 4)).called == (2, (8, 4), {})
    with pytest.raises(InputError, match=r"field\.kind 'old' knows the unit cube only, got lengths \(2\.0, 1\.0\)"):
        make_field({"kind": "old"}, 2, 8, (2, 1))
    assert make_field({"kind": "new"}, 2, 8, 3).called == (2, 8, {"a": 0, "lengths": (3.0, 3.0)})
    assert make_field({"kind": "new"}, 2, 8).called == (2, 8, {"a": 0, "lengths": (1.0, 1.0)})
    assert [key.name for key in registry.describe_fields()["new"]] == ["a"]


def test_large_correlation_lengths_on_a_large_box_are_no_reason_to_warn():
    """What counts is their ratio."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        law = make_field({"correlation_length": 100.0}, 2, 16, 2000.0)
        small = make_field({"correlation_length": 0.05}, 2, 16)
    np.testing.assert_allclose(law.sample(0, 0).Z, small.sample(0, 0).Z, atol=1e-9)
