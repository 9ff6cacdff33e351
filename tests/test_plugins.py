"""Laws, networks, functionals and methods of a user's own, from data to Monte Carlo, without editing the package."""

from __future__ import annotations

import shutil
import sys

import numpy as np
import pytest
import torch
from torch import nn

import nnlod_fenics as nnlod
from nnlod_fenics import NNLOD, FieldSample, Grid, InputError, load_config
from nnlod_fenics.config import MonteCarloSettings
from nnlod_fenics.dataset import Dataset
from nnlod_fenics.dataset.combine import split_dataset
from nnlod_fenics.dataset.verify import verify_dataset
from nnlod_fenics.fields import make_field, registry
from nnlod_fenics.lod.interpolation import quasi_interpolation
from nnlod_fenics.solvers import Solution
from nnlod_fenics.window import Window

GRID = Grid(2, 4, 8, 1, coefficient=8)
WINDOW = Window.of(GRID)
CONFIG = nnlod.load_config(
    None,
    [
        "grid.coarse=4",
        "grid.fine=8",
        "grid.ell=1",
        "grid.coefficient=8",
        "dataset.realizations=12",
        "training.epochs=2",
        "network.options={channels=4, means=4}",
    ],
)


class Layers:
    """A = 1 or e^jump in layers; the share of the layers is a parameter that no law of the package has."""

    def __init__(self, dim: int, cells: int, jump: float = 1.0) -> None:
        self.dim, self.cells, self.jump = dim, cells, jump

    def sample(self, seed: int, index: int, stage: int = 0) -> FieldSample:
        rng = np.random.default_rng([seed, stage, index])
        share = float(rng.uniform(0.3, 0.7))
        layers = np.where(rng.random(self.cells) < share, 0.0, self.jump)
        return FieldSample(np.broadcast_to(layers[:, None], (self.cells,) * self.dim).copy(), {"share": share})

    def settings(self) -> dict[str, object]:
        return {"kind": "layers", "jump": self.jump}


class Plain(nn.Module):
    """The least that a network must be."""

    def __init__(self, window: Window) -> None:
        super().__init__()
        self.shape = window.matrix_shape
        self.layer = nn.Linear(window.num_cells, self.shape[0] * self.shape[1])

    def forward(self, Z: torch.Tensor, domain: torch.Tensor) -> torch.Tensor:
        return self.layer(Z.flatten(1)).reshape(-1, *self.shape)


@pytest.fixture
def registered():
    """The law by name, for one test."""
    nnlod.register_field("layers", Layers)
    yield
    del registry._FACTORIES["layers"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return Dataset(nnlod.generate(CONFIG, tmp_path_factory.mktemp("own") / "data", law=Layers(2, 8)))


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("own") / "model"
    return nnlod.train(data, folder, options=CONFIG.network.options, settings=CONFIG.training)


def test_an_own_law_keeps_all_its_parameters(data):
    for k in (0, 7, 11):
        drawn = Layers(2, 8).sample(0, k)
        assert data.parameters(k) == drawn.parameters
        np.testing.assert_array_equal(data.Z(k), drawn.Z)
        np.testing.assert_array_equal(data.A(k), drawn.A)
    assert data.field_settings == {"kind": "layers", "jump": 1.0}


def test_merged_and_split_datasets_keep_them_too(data, tmp_path):
    parts = split_dataset(data.path, tmp_path / "parts")
    assert Dataset(parts["test"]).parameters(0) == Layers(2, 8).sample(0, 11).parameters


def test_a_law_by_name(registered, data):
    law = make_field({"kind": "layers", "jump": 2.0}, 2, 8)
    assert law.sample(0, 0).A.max() == pytest.approx(np.exp(2.0))
    config = nnlod.load_config(None, ["field.kind=layers", "field.jump=0.5"])
    assert config.resolved()["field"] == {"kind": "layers", "jump": 0.5}
    with pytest.raises(InputError, match=r"field\.jmp is no setting of a layers field, expected \['jump'\]"):
        make_field({"kind": "layers", "jmp": 2.0}, 2, 8)
    with pytest.raises(InputError, match="'layers', which is registered already"):
        nnlod.register_field("layers", Plain)
    assert verify_dataset(data, 2).problems == []


def test_a_law_that_nobody_registered(trained, tmp_path):
    model = NNLOD.load(trained)
    with pytest.raises(InputError, match=r"'layers'; a law of your own must be registered first"):
        nnlod.evaluate(model, tmp_path / "e")
    assert nnlod.solve(GRID, Layers(2, 8).sample(5, 0).A, "nn", model=model).u.shape == (5, 5)


OWN_LAW = """
import numpy as np
from nnlod_fenics import FieldSample

print("this module runs")

class Constant:
    def __init__(self, dim, cells, value=1.0):
        self.shape, self.value = (cells,) * dim, value

    def sample(self, seed, index, stage=0):
        return FieldSample(np.full(self.shape, self.value + index), {"value": self.value})

    def settings(self):
        return {"kind": "law_of_mine:Constant", "value": self.value}
"""


def test_laws_named_in_settings_are_imported_only_if_the_caller_allows_it(nnlod, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(registry, "_FACTORIES", dict(registry._FACTORIES))
    (tmp_path / "law_of_mine.py").write_text(OWN_LAW)
    plain = ["field.kind=law_of_mine:Constant", "grid.coarse=4", "grid.fine=8", "grid.coefficient=8", "grid.ell=1"]
    with pytest.raises(InputError, match=r"'law_of_mine:Constant'; .* \(--allow-import\)"):
        load_config(None, plain)
    assert "law_of_mine" not in sys.modules
    options = [text for override in plain for text in ("-s", override)]
    refused = nnlod("sample", *options, "-o", "fields", cwd=tmp_path)
    assert refused.returncode == 2 and "--allow-import" in refused.stderr and "runs" not in refused.stdout
    done = nnlod("sample", *options, "-o", "fields", "--count", "2", "--allow-import", cwd=tmp_path)
    assert done.returncode == 0 and "this module runs" in done.stdout, done.stderr
    assert np.load(tmp_path / "fields" / "A1.npy")[0, 0] == pytest.approx(np.exp(2))
    inner = "field.laws=[{kind='law_of_mine:Constant', value=2.0}]"
    config = load_config(None, ["field.kind=mixture", inner], allow_import=True)
    assert config.make_field().sample(0, 0).Z[0, 0] == 2.0
    for kind, reason in (("law_of_mine:Missing", "Missing"), ("no_such_module:Law", "no_such_module"), (":", "")):
        with pytest.raises(InputError, match=f"field.kind must name a module and a class .* got '{kind}'.*{reason}"):
            load_config(None, [f"field.kind='{kind}'"], allow_import=True)


def test_a_model_folder_imports_nothing(nnlod, trained, tmp_path):
    """Whatever law it names, and whatever lies in the folder."""
    folder = shutil.copytree(trained, tmp_path / "model")
    (folder / "law_of_theirs.py").write_text(OWN_LAW)
    text = (folder / "model.json").read_text().replace('"layers"', '"law_of_theirs:Constant"')
    (folder / "model.json").write_text(text)
    options = ["--method", "nn", "--model", ".", "--seed", "1", "-o", "solution", "--allow-import"]
    done = nnlod("solve", *options, cwd=folder)
    assert done.returncode == 2 and "'law_of_theirs:Constant'; a law of your own" in done.stderr, done
    assert "runs" not in done.stdout


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        (lambda: np.zeros((8, 8)), r"must return a FieldSample with real Z of shape \(8, 8\), got ndarray"),
        (lambda: FieldSample(np.zeros((8, 9))), r"got Z of shape \(8, 9\)"),
        (lambda: FieldSample(np.full((8, 8), np.nan)), "64 NaN or infinite values"),
    ],
)
def test_wrong_laws(sample, message, tmp_path):
    class Wrong:
        def sample(self, seed, index, stage=0):
            return sample()

    with pytest.raises(InputError, match=message):
        nnlod.generate(CONFIG, tmp_path / "d", law=Wrong())
    assert not list(tmp_path.rglob("*.h5"))


def test_a_module_of_ones_own(data, tmp_path):
    """Trained, stored, loaded into a new module, used with trust and in Monte Carlo."""
    torch.manual_seed(0)
    nnlod.train(data, tmp_path / "m", network=Plain(WINDOW), settings=CONFIG.training)
    model = NNLOD.load(tmp_path / "m", network=Plain(WINDOW))
    A = Layers(2, 8).sample(9, 0).A
    assert np.isfinite(model.local_matrices(GRID, A)).all()
    exact = nnlod.local_matrices(GRID, A)
    np.testing.assert_allclose(model.local_matrices(GRID, A, trust=1e-12), exact, atol=1e-12)
    settings = nnlod.MonteCarloSettings(method="nn", samples=3)
    assert nnlod.monte_carlo(GRID, Layers(2, 8), settings, model).mean.shape == (5, 5)
    with pytest.raises(InputError, match=r"network\.name must be one of .*'Plain'"):
        NNLOD.load(tmp_path / "m")
    with pytest.raises(InputError, match="options apply to a network given by name"):
        nnlod.train(data, tmp_path / "n", network=Plain(WINDOW), options={"channels": 3})


def test_data_of_no_law_at_all(data, tmp_path):
    """Arrays of a user's own: the model solves and is evaluated on its data; what needs a law says so."""
    arrays = [(Z[None], S[None]) for Z, S in zip(*data.arrays(range(3)), strict=True)]
    content = nnlod.TrainingData(GRID, *arrays, {})
    folder = nnlod.train(content, tmp_path / "m", options=CONFIG.network.options, settings=CONFIG.training)
    model = NNLOD.load(folder)
    A = data.A(0)
    assert nnlod.solve(GRID, A, "nn", model=model).u.shape == (5, 5)
    assert nnlod.evaluate(model, tmp_path / "e", data)["errors"]
    with pytest.raises(InputError, match="trained on data of no known law"):
        nnlod.evaluate(model, tmp_path / "f")
    law = make_field({"kind": "uniform"}, 2, 8)
    settings = nnlod.MonteCarloSettings(method="nn", samples=3)
    assert nnlod.monte_carlo(GRID, law, settings, model).samples == {"samples": 3}


def test_functions_as_functionals(tmp_path):
    law = make_field({"kind": "uniform"}, 2, 8)
    settings = nnlod.MonteCarloSettings(method="lod", samples=3, seed=2)
    named = {"largest": lambda solution: solution.u.max(), "flux": lambda solution: solution.outflow("x=0")}
    found = nnlod.monte_carlo(GRID, law, settings, functionals=named, output=tmp_path / "m")
    each = [nnlod.solve(GRID, law.sample(2, k, stage=3).A, "lod") for k in range(3)]
    assert found.functionals["largest"].mean == pytest.approx(np.mean([solution.u.max() for solution in each]))
    assert found.functionals["flux"].mean == pytest.approx(np.mean([solution.outflow("x=0") for solution in each]))
    other = named | {"largest": lambda solution: solution.u.min()}
    with pytest.raises(InputError, match="cannot be resumed: functionals"):
        nnlod.monte_carlo(GRID, law, settings, functionals=other, output=tmp_path / "m", resume=True)
    with pytest.raises(InputError, match=r"functional 'u' must return a number, got array"):
        nnlod.monte_carlo(GRID, law, settings, functionals={"u": lambda solution: solution.u})


def test_a_method_of_ones_own():
    class Halved:
        together = 2

        def __init__(self, grid, problem, share=0.5):
            self.inner, self.share = nnlod.make_solver("lod", grid, problem), share

        def solve_many(self, A):
            found = self.inner.solve_many(A)
            return [Solution(s.grid, "halved", s.A, self.share * s.u) for s in found]

        def destroy(self):
            self.inner.destroy()

    nnlod.register_method("halved", Halved, ["share"])
    A = Layers(2, 8).sample(1, 0).A
    u = nnlod.solve(GRID, A, "halved", share=0.25).u
    np.testing.assert_allclose(u, 0.25 * nnlod.solve(GRID, A, "lod").u)
    with pytest.raises(InputError, match=r"shar does not apply to method 'halved', whose options are \['share'\]"):
        nnlod.solve(GRID, A, "halved", shar=0.25)
    with pytest.raises(InputError, match="'lod', which is registered already"):
        nnlod.register_method("lod", Halved)


def test_options_that_do_not_apply(trained):
    A = np.ones((8, 8))
    for method, options in (
        ("fem", {"model": "x"}),
        ("lod", {"trust": 0.1}),
        ("lod", {"model": str(trained)}),
        ("nn", {"local": "dolfinx"}),
    ):
        name = next(iter(options))
        with pytest.raises(InputError, match=f"{name} does not apply to method '{method}'"):
            nnlod.solve(GRID, A, method, **options)
    with pytest.raises(InputError, match="needs a model, got none"):
        nnlod.solve(GRID, A, "nn")
    with pytest.raises(InputError, match="model must be an NNLOD"):
        nnlod.solve(GRID, A, "nn", model=3)


def test_arguments_of_another_kind(tmp_path):
    new = tmp_path / "new"
    for call, message in (
        (lambda: nnlod.generate(CONFIG, new, law=3), "law must have a method sample.*got int"),
        (lambda: nnlod.monte_carlo(GRID, "x", MonteCarloSettings(samples=8), output=new), "law must have a method"),
        (lambda: nnlod.train(3, new), "data must be a Dataset, its folder or TrainingData, got int"),
        (lambda: nnlod.train(tmp_path / "none", new), "none"),
        (lambda: nnlod.Grid.for_coefficient([[1, 2], [3]]), "A must be an array of real numbers, got list"),
        (lambda: quasi_interpolation(GRID, np.full(GRID.fine_node_shape, np.nan)), "u must be finite"),
    ):
        with pytest.raises(InputError, match=message):
            call()
        assert not new.exists()
