"""Fields that take measured values: their law against dense kriging, exactly and by statistics; bad input."""

from __future__ import annotations

import numpy as np
import pytest
from sample_covariance import UnitNoise, assert_covariance, lags, law_of, turned_formula

from nnlod_fenics import InputError, load_config
from nnlod_fenics.fields import lognormal, make_field, parametric
from nnlod_fenics.fields.box import Box
from nnlod_fenics.fields.conditions import parse_conditions

POINTS = {  # and measured values; the second point of d = 2 lies on an edge between cells
    1: [[0.4, 1.0], [2.9, -2.0]],
    2: [[0.3, 0.4, 1.0], [0.4, 0.25, -2.0], [0.99, 0.01, 0.5]],
    3: [[0.1, 1.9, 0.3, 1.0], [0.9, 0.1, 0.1, -2.0]],
}
CASES = [  # cells, lengths, correlation lengths, angles
    ((7,), (3.0,), (0.6,), ()),
    ((5, 4), (1.0, 0.5), (0.4, 0.3), ()),
    ((5, 4), (1.0, 0.5), (0.5, 0.2), (0.6,)),
    ((4, 2, 3), (1.0, 2.0, 0.5), (0.6, 0.4, 0.3), (0.3, -0.5, 0.8)),
]


def settings_of(cells, rho, angles, **others):
    turned = {"angles": angles[0] if len(angles) == 1 else list(angles)} if angles else {}
    return {"correlation_length": list(rho), "conditions": POINTS[len(cells)]} | turned | others


def observed_by(cells, lengths, dim):
    """Numbers of the observed cells in flat [z, y, x] arrays, by their midpoints."""
    axes = [(np.arange(count) + 0.5) * length / count for count, length in zip(cells, lengths, strict=True)]
    near = []
    for *point, _ in POINTS[dim]:
        place = [int(np.flatnonzero(abs(m - x) <= m[0] * (1 + 1e-12))[-1]) for m, x in zip(axes, point, strict=True)]
        near.append(int(np.ravel_multi_index(place[::-1], cells[::-1])))
    return near


def dense_kriging(covariance, observed, values, mean):
    """Mean and covariance of a Gaussian vector given some of its entries."""
    weights = covariance[:, observed] @ np.linalg.inv(covariance[np.ix_(observed, observed)])
    return mean + weights @ (values - mean), covariance - weights @ covariance[observed]


class NoNoise:
    def standard_normal(self, shape):
        return np.zeros(shape)


def mean_and_covariance(law, module, monkeypatch):
    """Of the fields of a law, without statistics: they are affine in their noise."""
    monkeypatch.setattr(
        module, "generator", lambda seed, stage, index: NoNoise() if index == 0 else UnitNoise(index - 1)
    )
    mean = law.sample(0, 0).Z.ravel()
    embedding = law._embedding if module is lognormal else next(iter(law.family._samplers.values())).embedding
    noises = 2 * embedding.nbytes // 8
    columns = np.stack([law.sample(0, 1 + k).Z.ravel() - mean for k in range(noises)])
    return mean, columns.T @ columns


@pytest.mark.parametrize("nu", [0.5, 1.0])
@pytest.mark.parametrize(("cells", "lengths", "rho", "angles"), CASES)
def test_law_is_that_of_dense_kriging(cells, lengths, rho, angles, nu, monkeypatch):
    law = make_field(settings_of(cells, rho, angles, variance=1.7, smoothness=nu, mean=0.3), len(cells), cells, lengths)
    observed, values = observed_by(cells, lengths, len(cells)), np.array([row[-1] for row in POINTS[len(cells)]])
    wanted = dense_kriging(turned_formula(lags(cells, lengths), 1.7, rho, angles, nu), observed, values, 0.3)
    own = mean_and_covariance(law, lognormal, monkeypatch)
    assert np.abs(own[0] - wanted[0]).max() < 1e-11 and np.abs(own[1] - wanted[1]).max() < 1e-11
    assert np.array_equal(own[0][observed], values) and np.abs(own[1][observed]).max() == 0


@pytest.mark.parametrize("angles", [(), (0.6,)])
def test_fields_have_that_law(angles):
    """Bound and false-alarm probability (1e-6): see sample_covariance.py."""
    cells, lengths, rho = (5, 4), (1.0, 0.5), (0.5, 0.2)
    law = make_field(settings_of(cells, rho, angles, mean=0.3), 2, cells, lengths)
    samples = np.stack([law.sample(3, k).Z.ravel() for k in range(6000)])
    observed, values = observed_by(cells, lengths, 2), np.array([row[-1] for row in POINTS[2]])
    mean, covariance = dense_kriging(turned_formula(lags(cells, lengths), 1.0, rho, angles, 0.5), observed, values, 0.3)
    assert (samples[:, observed] == values).all()
    free = np.setdiff1d(np.arange(20), observed)
    assert_covariance(samples[:, free] - mean[free], covariance[np.ix_(free, free)])


def test_hierarchical_fields_are_conditioned_given_their_parameters(monkeypatch):
    cells, lengths = (5, 4), (1.0, 0.5)
    parameters = {"kind": "hierarchical", "variance": 2.0, "smoothness": 0.5, "mean": -0.2}
    for rho in (0.3, 0.6):
        law = make_field(parameters | {"correlation_length": rho, "conditions": POINTS[2]}, 2, cells, lengths)
        own = mean_and_covariance(law, parametric, monkeypatch)
        covariance = turned_formula(lags(cells, lengths), 2.0, (rho, rho), (), 0.5)
        values = np.array([row[-1] for row in POINTS[2]])
        wanted = dense_kriging(covariance, observed_by(cells, lengths, 2), values, -0.2)
        assert np.abs(own[0] - wanted[0]).max() < 1e-11 and np.abs(own[1] - wanted[1]).max() < 1e-11
        monkeypatch.undo()
    law = make_field(parameters | {"correlation_length": {"uniform": [0.2, 0.6]}, "conditions": POINTS[2]}, 2, cells)
    assert [law.sample(1, k).Z[1, 1] for k in range(3)] == [1.0] * 3
    assert law.settings()["conditions"] == POINTS[2]


def test_the_law_of_a_clipped_embedding_is_conditioned(monkeypatch):
    """Whatever covariance the embedding has, its fields are corrected by that one."""
    settings = {"correlation_length": [1.0, 0.5], "angles": 0.4, "smoothness": 1.5, "conditions": POINTS[2]}
    monkeypatch.setattr("nnlod_fenics.fields.embedding._MOST_POINTS", 100)
    with pytest.warns(UserWarning, match="negative eigenvalues"):
        law = make_field(settings, 2, (5, 4), (1.0, 0.5))
    covariance = law_of(law._embedding)
    values = np.array([row[-1] for row in POINTS[2]])
    wanted = dense_kriging(covariance, observed_by((5, 4), (1.0, 0.5), 2), values, 0.0)
    own = mean_and_covariance(law, lognormal, monkeypatch)
    assert np.abs(own[0] - wanted[0]).max() < 1e-9 and np.abs(own[1] - wanted[1]).max() < 1e-9


def test_many_measurements():
    """As many as a site survey has: a field drawn elsewhere is taken at 300 points."""
    truth = make_field({"correlation_length": [0.3, 0.1], "angles": 0.3}, 2, (128, 64), (2.0, 1.0)).sample(1, 0).Z
    rng = np.random.default_rng(0)
    cells = rng.choice(128 * 64, 300, replace=False)
    y, x = np.unravel_index(cells, (64, 128))
    rows = np.column_stack([(x + rng.uniform(0.01, 0.99, 300)) / 64, (y + 0.5) / 64, truth[y, x]])
    settings = {"correlation_length": [0.3, 0.1], "angles": 0.3, "conditions": rows}
    law = make_field(settings, 2, (128, 64), (2.0, 1.0))
    for k in range(3):
        Z = law.sample(2, k).Z
        np.testing.assert_allclose(Z[y, x], truth[y, x], atol=1e-10)
        assert np.mean((Z - truth) ** 2) < 0.8 * 2 * truth.var()


@pytest.mark.parametrize("kind", ["lognormal", "hierarchical"])
def test_settings_hold_the_measurements_and_not_the_name_of_their_file(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("wells.npy", np.array(POINTS[2]))
    lines = ["x, y, logA", *(", ".join(map(str, row)) for row in POINTS[2])]
    (tmp_path / "wells.csv").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "well.csv").write_text(lines[1], encoding="utf-8")
    plain = make_field({"kind": kind}, 2, 8)
    law = make_field({"kind": kind, "conditions": POINTS[2]}, 2, 8)
    assert law.settings() == plain.settings() | {"conditions": POINTS[2]}
    for name in ("wells.npy", "wells.csv"):
        again = make_field({"kind": kind, "conditions": name}, 2, 8)
        assert again.settings() == law.settings()
        assert np.array_equal(again.sample(0, 0).Z, law.sample(0, 0).Z)
    assert make_field({"kind": kind, "conditions": "well.csv"}, 2, 8).settings()["conditions"] == POINTS[2][:1]
    none = make_field({"kind": kind, "conditions": None}, 2, 8)
    assert none.sample(0, 0).Z.tobytes() == plain.sample(0, 0).Z.tobytes() and none.settings() == plain.settings()
    config = load_config(None, [f"field.kind={kind}", "field.conditions=wells.csv", "grid.fine=128"])
    assert config.field["conditions"] == config.resolved()["field"]["conditions"] == POINTS[2]


def test_which_cell_a_point_belongs_to():
    """The one around it; of two, the one with the larger coordinates; at the far sides the last one."""
    box = Box.of(2, (10, 4), (1.0, 8.0))
    rows = [[0.0, 0.0, 1], [0.3, 2.0, 2], [0.7, 5.9, 3], [1.0, 8.0, 4], [0.31, 2.1, 2]]
    observed = parse_conditions(2, rows).on(box)
    assert observed.cells.T.tolist() == [[0, 0], [1, 3], [2, 7], [3, 9]]  # y, x
    assert observed.values.tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("dim", "conditions", "message"),
    [
        (2, [], r"must be rows of 3 numbers for d = 2: x, y, log A, or the name of a file with them, got \[\]"),
        (2, 3.0, r"must be rows of 3 numbers .* got 3\.0"),
        (2, np.zeros((0, 3)), "must be rows of 3 numbers"),
        (2, [0.1, 0.2, 1.0], r"must be rows of 3 numbers for d = 2: x, y, log A, got 0\.1 as row 0"),
        (2, [[0.1, 0.2, 1.0], [0.1, 0.2]], r"must be rows of 3 numbers .* got \[0\.1, 0\.2\] as row 1"),
        (1, [[0.1, 0.2, 1.0]], r"must be rows of 2 numbers for d = 1: x, log A, got \[0\.1, 0\.2, 1\.0\] as row 0"),
        (3, [[0.1, 0.2, 1.0]], r"must be rows of 4 numbers for d = 3: x, y, z, log A"),
        (2, [[0.1, 0.2, float("nan")]], r"must be rows of 3 numbers .* got \[0\.1, 0\.2, nan\]"),
        (2, [[0.1, float("inf"), 1]], "must be rows of 3 numbers"),
        (2, [["x", "y", "A"]], "must be rows of 3 numbers"),
        (2, [[0.1, 0.2, True]], "must be rows of 3 numbers"),
        (2, [[0.1, 0.2, 1.0]] * 5001, "must be at most 5000 rows, got 5001"),
        (2, [[1.1, 0.2, 1.0]], r"must have points in \[0, 1\] × \[0, 1\], got \[1\.1, 0\.2, 1\.0\]"),
        (2, [[0.1, -0.2, 1.0]], "must have points in"),
        (
            2,
            [[0.1, 0.2, 1], [0.11, 0.21, 2]],
            r"two values in one cell .* got \[0\.1, 0\.2, 1.0\] and .* cell \(0, 1\)",
        ),
        (2, "nothing.csv", r"file 'nothing\.csv' does not exist"),
        (2, "conditions.odt", r"file 'conditions\.odt' does not exist"),
    ],
)
def test_measurements_that_do_not_fit(dim, conditions, message):
    for kind in ("lognormal", "hierarchical"):
        with pytest.raises(InputError, match=message):
            make_field({"kind": kind, "conditions": conditions}, dim, 8)


def test_files_that_do_not_fit(tmp_path):
    for name, values in (("four", np.zeros((2, 4))), ("cube", np.zeros((2, 3, 3)))):
        np.save(tmp_path / f"{name}.npy", values)
        with pytest.raises(InputError, match=rf"rows of 3 numbers .* as row 0 in file .*{name}\.npy"):
            make_field({"conditions": str(tmp_path / f"{name}.npy")}, 2, 8)
    with pytest.raises(InputError, match=r"rows of 3 numbers .* got \[0\.5\] as row 0"):
        load_config(None, ["field.conditions=[[0.5]]"])


def test_laws_that_take_no_measurements():
    with pytest.raises(InputError, match=r"field\.conditions need field\.sampler = 'circulant', got 'randmeth'"):
        make_field({"conditions": POINTS[2], "sampler": "randmeth"}, 2, 8)
    with pytest.raises(InputError, match=r"field\.conditions is no setting of a uniform field"):
        make_field({"kind": "uniform", "conditions": POINTS[2]}, 2, 8)


def test_measurements_that_say_the_same():
    """Neighbouring cells of a smooth field: their covariance matrix is singular to working precision."""
    rows = [[(k + 0.5) / 64, 0.5, 0.0] for k in range(20)]
    with pytest.raises(InputError, match=r"observed cells, 20 in number, has condition number \d.*, more than 1e\+12"):
        make_field({"covariance": "Gaussian", "correlation_length": 0.3, "conditions": rows}, 2, 64)
    law = make_field({"kind": "hierarchical", "smoothness": 15, "correlation_length": 0.3, "conditions": rows}, 2, 64)
    with pytest.raises(InputError, match="has condition number"):
        law.sample(0, 0)
    assert (make_field({"correlation_length": 0.3, "conditions": rows}, 2, 64).sample(0, 0).Z[32, :20] == 0).all()
