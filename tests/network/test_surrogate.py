"""The surrogate: loss, network, training that can be interrupted, and model files that can be trusted."""

from __future__ import annotations

import json
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from waiting import PATIENCE

import nnlod_fenics
from nnlod_fenics import NNLOD, Grid, InputError, coarse_matrix, local_matrices, solve_coarse
from nnlod_fenics.config import load_config
from nnlod_fenics.dataset import Dataset
from nnlod_fenics.dataset.generate import generate
from nnlod_fenics.network import build_network, relative_loss
from nnlod_fenics.solvers import solve
from nnlod_fenics.training import TrainingSettings, train
from nnlod_fenics.window import Window

GRID = Grid(2, 4, 16, 1, coefficient=8)
OPTIONS = {"widths": [60, 60]}
SETTINGS = TrainingSettings(epochs=6, batch_size=32, drops=((4, 1e-4),), checkpoint_minutes=0)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Dataset:
    settings = ["grid.coarse=4", "grid.fine=16", "grid.coefficient=8", "grid.ell=1", "dataset.realizations=20"]
    folder = tmp_path_factory.mktemp("data") / "d"
    generate(load_config(None, [*settings, "field.correlation_length=0.2"]), folder)
    return Dataset(folder)


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory) -> Path:
    return train(data, tmp_path_factory.mktemp("model") / "m", "paper", OPTIONS, SETTINGS)


@pytest.fixture
def copy(trained, tmp_path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "m"))


def test_loss_is_the_mean_relative_square_error():
    rng = np.random.default_rng(0)
    S, predicted = rng.standard_normal((2, 5, 16, 4))
    expected = np.mean([np.linalg.norm(p - s) ** 2 / np.linalg.norm(s) ** 2 for p, s in zip(predicted, S, strict=True)])
    loss = relative_loss(torch.from_numpy(predicted), torch.from_numpy(S))
    assert float(loss) == pytest.approx(expected, rel=1e-12)


def test_paper_network_has_the_papers_layers_and_order():
    grid = Grid(2, 32, 512, 2, coefficient=256)
    network = build_network("paper", Window.of(grid), seed=0)
    linear = [layer for layer in network.modules() if isinstance(layer, torch.nn.Linear)]
    assert len(linear) == 8
    assert [layer.in_features for layer in linear] == [1600, 1000, 1000, 800, 800, 600, 400, 300]
    assert linear[-1].out_features == 144
    with torch.no_grad():  # the output is vec(S), column by column
        linear[-1].weight.zero_()
        linear[-1].bias.copy_(torch.arange(144.0))
        S = network(torch.zeros(1, 40, 40), torch.ones(1, 5, 5))[0]
    assert S.shape == (36, 4) and S[1, 0] == 1 and S[0, 1] == 36


def test_training_lowers_the_loss_and_keeps_the_best(trained):
    history = json.loads((trained / "loss.json").read_text())
    losses = json.loads((trained / "model.json").read_text())["losses"]
    assert len(history) == 6 and history[-1]["train"] < 0.5 * history[0]["train"]
    assert losses["validation"] == pytest.approx(min(entry["validation"] for entry in history))
    assert np.isfinite(losses["test"])


def test_same_seed_same_network(data, trained, tmp_path):
    again = train(data, tmp_path / "m", "paper", OPTIONS, SETTINGS)
    first, second = load_file(trained / "weights.safetensors"), load_file(again / "weights.safetensors")
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_interrupted_and_resumed_is_the_same_loss_curve(data, trained, tmp_path):
    class Stop(Exception):
        pass

    def stop(epoch: int, *_: float) -> None:
        if epoch == 3:
            raise Stop

    with pytest.raises(Stop):
        train(data, tmp_path / "m", "paper", OPTIONS, SETTINGS, on_epoch=stop)
    train(data, tmp_path / "m", "paper", OPTIONS, SETTINGS, resume=True)
    whole, resumed = (json.loads((f / "loss.json").read_text()) for f in (trained, tmp_path / "m"))
    assert [entry["train"] for entry in whole] == [entry["train"] for entry in resumed]


def test_mpirun_has_the_losses_of_one_process(data, trained, tmp_path):
    """Of nnlod train too; batches of 32 patches, shared by two."""
    command = ["mpirun", "-n", "2", "--bind-to", "none", sys.executable, "-m", "nnlod_fenics", "train", str(data.path)]
    settings = SETTINGS.as_dict() | {"checkpoint_minutes": 5.0}
    given = [f"-s training.{name}={json.dumps(value)}" for name, value in settings.items()]
    options = ["-s network.name=paper", f"-s network.options.widths={OPTIONS['widths']}", *given]
    end = ["-o", str(tmp_path / "m")]
    command += [part for option in options for part in option.split(" ", 1)] + end
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("loss (4.1), test") == 1
    two, one = (json.loads((folder / "loss.json").read_text()) for folder in (tmp_path / "m", trained))
    for name in ("train", "validation"):
        np.testing.assert_allclose([e[name] for e in two], [e[name] for e in one], rtol=1e-4)


def test_nn_lod(trained):
    model = NNLOD.load(trained)
    Z = load_config().make_field().sample(0, 0).Z[:8, :8]
    S = model.local_matrices(model.grid, np.exp(Z))
    assert S.shape == (16, 16, 4) and S.dtype == np.float64
    assert not S[GRID.patch_nodes < 0].any()
    np.testing.assert_allclose(
        model.solve(model.grid, np.exp(Z)), solve_coarse(GRID, coarse_matrix(GRID, S)), rtol=1e-12
    )
    assert (
        model.out_of_range(model.grid, np.exp(0 * Z)) == 0 and model.out_of_range(model.grid, np.exp(0 * Z + 100)) > 1
    )
    exact = local_matrices(GRID, np.exp(Z))
    error = np.linalg.norm(S - exact) / np.linalg.norm(exact)
    assert error < 1  # better than predicting nothing


def test_transfer_starts_from_the_weights_of_another_model(data, trained, tmp_path):
    settings = TrainingSettings(epochs=1, batch_size=32, drops=(), init_from=str(trained))
    train(data, tmp_path / "m", "paper", OPTIONS, settings)
    scratch = json.loads((trained / "loss.json").read_text())[0]["train"]
    assert json.loads((tmp_path / "m" / "loss.json").read_text())[0]["train"] < 0.7 * scratch


def test_transfer_from_a_model_that_comes_with_the_package(data, tmp_path):
    with pytest.raises(
        InputError, match=r"'lognormal-0.5' is a 'structured' network for the window d = 2, H/h = 8, .*'paper' for d"
    ):
        train(data, tmp_path / "m", "paper", OPTIONS, TrainingSettings(epochs=1, init_from="lognormal-0.5"))


def test_bad_models(copy, trained, tmp_path):
    with pytest.raises(InputError, match=r"must be of the window .*, got d = 2, H/h = 2, H/ε = 2, ℓ = 1"):
        NNLOD.load(trained, grid=Grid(2, 8, 16, 1))
    with pytest.raises(InputError, match="does not exist"):
        NNLOD.load(tmp_path / "none")
    weights = copy / "weights.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100])
    with pytest.raises(InputError, match="damaged"):
        NNLOD.load(copy)
    weights.write_bytes(whole)
    description = json.loads((copy / "model.json").read_text())
    other = Grid(2, 4, 16, 2, coefficient=8)
    (copy / "model.json").write_text(json.dumps(description | {"grid": other.as_dict()}))
    with pytest.raises(InputError, match="its window is not that of its grid"):
        NNLOD.load(copy)
    changed = {"grid": other.as_dict(), "window": Window.of(other).as_dict()}
    (copy / "model.json").write_text(json.dumps(description | changed))
    with pytest.raises(InputError, match="do not fit the network"):
        NNLOD.load(copy)
    (copy / "model.json").write_text("{")
    with pytest.raises(InputError, match="damaged"):
        NNLOD.load(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_version": 99}, "has version 99, this nnlod-fenics reads versions up to 3"),
        ({"model_version": 0}, "has version 0"),
        ({"model_version": "1"}, "has version '1'"),
        ({"grid": {"dim": 2}}, r"damaged: grid in model\.json has no 'coarse'"),
        ({"grid": GRID.as_dict() | {"coarse": 3}}, "damaged: its grid is none"),
        ({"grid": GRID.as_dict() | {"corse": 3}}, "damaged: its grid is none"),
        ({"network": None}, r"damaged: network in model\.json must be a table, got None"),
        ({"network": {"name": "paper"}}, r"damaged: network in model\.json has no 'options'"),
        ({"losses": [1]}, r"damaged: losses in model\.json must be a table"),
        ({"training_set": {}}, r"damaged: training_set in model\.json has no 'range_of_Z'"),
        ({"checksums": []}, "damaged: checksums"),
        ({"checksums": {"weights.safetensors": 3}}, "damaged: checksums"),
        ({"network": {"name": 3, "options": {}}}, "damaged"),
        ({"network": {"name": ["paper"], "options": {}}}, "damaged"),
        ({"network": {"name": "paper", "options": []}}, "damaged"),
        ({"network": {"name": "paper", "options": {"widths": "a"}}}, "widths"),
        ({"network": {"name": "paper", "options": {"widths": [-1]}}}, "widths"),
        ({"losses": {"test": "a"}}, "damaged"),
        ({"training_set": {"range_of_Z": None}}, "damaged"),
        ({"training_set": {"range_of_Z": "ab"}}, "damaged"),
        ({"training_set": {"range_of_Z": [1.0]}}, "damaged"),
        ({"training_set": {"range_of_Z": [0.0, 1.0], "field": 3}}, "damaged"),
        ({"training_set": {"range_of_Z": [0.0, 1.0], "range_of_deviations": "x"}}, "damaged"),
        ({"grid": GRID.as_dict() | {"dim": "2"}}, "damaged: its grid is none"),
        ({"grid": GRID.as_dict() | {"coarse": 4.5}}, "damaged: its grid is none"),
        ({"grid": GRID.as_dict() | {"coarse": None}}, "damaged: its grid is none"),
        ({"model_version": []}, "has version"),
        ({"window": 3}, "damaged: window in model"),
        ({"window": {"dim": 2}}, "damaged: its window is not that of its grid"),
        ({"window": {"form": "other"}}, "form must be one of"),
    ],
)
def test_bad_descriptions(copy, change, message):
    path = copy / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=message) as caught:
        NNLOD.load(copy)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["[]", "null", "3", "{}", '"model"'])
def test_descriptions_that_are_none(copy, content):
    (copy / "model.json").write_text(content)
    with pytest.raises(InputError, match="damaged"):
        NNLOD.load(copy)


def forget_checksums(folder: Path) -> None:
    """Make a model folder one of version 0.1, which has none."""
    description = json.loads((folder / "model.json").read_text())
    del description["checksums"]
    (folder / "model.json").write_text(json.dumps(description))


def test_single_bits_and_foreign_files_are_told(copy, rng):
    """Each flip of one bit in either file of tensors, and errors that are not numbers."""
    for name in ("weights.safetensors", "errors.safetensors"):
        whole = (copy / name).read_bytes()
        for place in rng.integers(len(whole), size=20):
            flipped = bytearray(whole)
            flipped[place] ^= 1 << int(rng.integers(8))
            (copy / name).write_bytes(flipped)
            with pytest.raises(InputError, match="damaged"):
                NNLOD.load(copy)
        (copy / name).write_bytes(whole)
    forget_checksums(copy)
    NNLOD.load(copy)
    errors = load_file(copy / "errors.safetensors")
    save_file(errors | {"factor": errors["factor"] * torch.nan}, copy / "errors.safetensors")
    with pytest.raises(InputError, match="damaged: it has NaN"):
        NNLOD.load(copy)


def test_bad_weights(copy):
    path = copy / "weights.safetensors"
    tensors, described = load_file(path), (copy / "model.json").read_text()
    first = min(tensors)
    for damaged, message in (
        ({key: t for key, t in tensors.items() if key != first}, f"{first!r} should be shape .* and is none"),
        (tensors | {"extra": torch.zeros(2)}, "'extra' should be none and is shape"),
        (tensors | {first: tensors[first][:-1].contiguous()}, f"{first!r} should be shape .* and is shape"),
        (tensors | {first: tensors[first] * torch.nan}, f"{first!r} has NaN or infinite values"),
    ):
        save_file(damaged, path)
        with pytest.raises(InputError, match="its checksum is not the one"):
            NNLOD.load(copy)
        forget_checksums(copy)
        with pytest.raises(InputError, match=message):
            NNLOD.load(copy)
        (copy / "model.json").write_text(described)


def test_files_cannot_run_code(copy):
    """A pickle in the place of the weights is refused unread; nothing that loads models reads one."""

    class Evil:
        def __reduce__(self):
            return (Path(copy / "ran").touch, ())

    for name in ("weights.safetensors", "errors.safetensors"):
        whole = (copy / name).read_bytes()
        (copy / name).write_bytes(pickle.dumps(Evil()))
        with pytest.raises(InputError, match="damaged"):
            NNLOD.load(copy)
        (copy / name).write_bytes(whole)
    assert not (copy / "ran").exists()
    package = Path(nnlod_fenics.__file__).parent
    sources = [
        path for room in ("network", "training", "dataset", "montecarlo") for path in (package / room).rglob("*.py")
    ]
    reads = re.compile(r"(?<!safetensors\.)torch\.load\b|import pickle|pickle\.load")
    assert sources and not [path for path in sources if reads.search(path.read_text())]


def test_the_model_file_tells_where_it_comes_from(trained, data):
    told = json.loads((trained / "model.json").read_text())
    assert told["grid"] == GRID.as_dict() and told["network"]["name"] == "paper"
    assert told["training"]["beta2"] == SETTINGS.beta2
    given = data.fields(data.split().train)
    assert told["training_set"]["range_of_Z"] == [given.min(), given.max()]
    assert told["training_set"]["realizations"] == 16 and told["training_set"]["field"] == data.field_settings
    assert {"train", "validation", "test", "epoch"} <= told["losses"].keys()
    assert {"nnlod-fenics", "torch", "numpy"} <= told["versions"].keys()


def test_bad_training(data, copy, tmp_path):
    with pytest.raises(InputError, match="already holds a training"):
        train(data, copy, "paper", OPTIONS, SETTINGS)
    with pytest.raises(InputError, match=r"network\.name must be one of"):
        train(data, tmp_path / "a", "magic", {}, SETTINGS)
    with pytest.raises(InputError, match="is no option of 'paper'"):
        train(data, tmp_path / "a", "paper", {"width": 3}, SETTINGS)
    with pytest.raises(InputError, match=r"training\.device must be"):
        train(data, tmp_path / "a", "paper", OPTIONS, TrainingSettings(device="abacus"))
    for given in ({"epochs": 0}, {"learning_rate": -1.0}, {"drops": ((3, -1.0),)}, {"seed": -1}):
        with pytest.raises(InputError, match=r"training\."):
            TrainingSettings(**given)
    assert not (tmp_path / "a" / "model.json").exists()


def test_bad_fields(trained):
    model = NNLOD.load(trained)
    for A, message in (
        (np.ones((16, 16)), "A must have shape"),
        (np.ones((1, 8, 8)), "A must have shape"),
        (np.ones((8, 8, 2, 2)) + np.eye(2), "A must be scalar here"),
        (np.full((8, 8), np.nan), "A must be finite"),
        (np.full((8, 8), -1.0), "A must be positive"),
        (np.full((8, 8), "a"), "A must be an array of real numbers"),
    ):
        for call in (model.local_matrices, model.solve, model.error_estimates, model.out_of_range):
            with pytest.raises(InputError, match=message):
                call(model.grid, A)
    for A in (torch.ones(8, 8), torch.ones(2, 8, 9), torch.ones(1, 8, 8, dtype=torch.complex64), np.ones((1, 9, 8))):
        with pytest.raises(InputError, match=r"A must be real of shape \(n, 8, 8\), got"):
            model.predict(model.grid, A)
    for value, message in ((torch.inf, "A must be finite"), (0.0, "A must be positive")):
        with pytest.raises(InputError, match=message):
            model.predict(model.grid, torch.full((1, 8, 8), value))
    other = Grid(2, 4, 32, 1, coefficient=8)
    for call in (model.local_matrices, model.solve, model.error_estimates, model.out_of_range):
        with pytest.raises(InputError, match="grid for this model must be of the window"):
            call(other, np.ones((8, 8)))
    with pytest.raises(InputError, match="grid for this model must be of the window"):
        solve(other, np.ones((8, 8)), "nn", model=model)
    with pytest.raises(InputError, match="model does not apply to method 'lod'"):
        solve(model.grid, np.ones((8, 8)), "lod", model=model)


def test_fields_of_any_layout(trained, rng):
    """Views that run backwards, transposed, read-only, of single precision or integers are taken as they are."""
    model = NNLOD.load(trained)
    A = np.exp(rng.standard_normal((8, 8)))
    frozen = A.copy()
    frozen.flags.writeable = False
    for view in (A[::-1, ::-1], A.T, frozen, np.repeat(A, 2, axis=1)[:, ::2]):
        expected = model.local_matrices(GRID, np.ascontiguousarray(view).copy())
        assert np.array_equal(model.local_matrices(GRID, view), expected)
        assert np.array_equal(model.error_estimates(GRID, view), model.error_estimates(GRID, view.copy()))
    for other, plain in (
        (A.astype(np.float32), A.astype(np.float32).astype(np.float64)),
        (1 + np.eye(8, dtype=int), 1 + np.eye(8)),
    ):
        assert np.array_equal(model.local_matrices(GRID, other), model.local_matrices(GRID, plain))
    batch = torch.from_numpy(A)[None]
    assert np.array_equal(model.predict(GRID, batch.mT), model.predict(GRID, batch.mT.contiguous()))
    assert np.array_equal(model.predict(GRID, A[None]), model.predict(GRID, batch))


def test_memory_of_many_fields_is_bounded(trained, monkeypatch):
    """The network sees some at a time; none at all is no error."""
    model, seen = NNLOD.load(trained), []
    Z = torch.from_numpy(np.random.default_rng(3).standard_normal((11, 8, 8)))
    whole = model.predict(model.grid, Z.exp())
    monkeypatch.setattr("nnlod_fenics.network.model._ELEMENTS", 4 * GRID.num_elements)
    model.network.register_forward_hook(lambda network, given, output: seen.append(len(given[0])))
    torch.testing.assert_close(model.predict(model.grid, Z.exp()), whole, rtol=0, atol=1e-6 * float(whole.abs().max()))
    assert seen == [64, 64, 48]
    assert model.predict(model.grid, Z[:0].exp()).shape == (0, *whole.shape[1:])
