"""Training: what a batch holds, step sizes, several processes, kills, averages, fresh data."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import train_job
from waiting import PATIENCE
from windows import cut, samples

from nnlod_fenics import NNLOD, Grid, InputError, NumericalError, local_matrices
from nnlod_fenics.config.training import FINE_TUNING_RATE
from nnlod_fenics.fields import make_field
from nnlod_fenics.network import matrix_errors
from nnlod_fenics.network.equivariant import group_order
from nnlod_fenics.network.storage import load_tensors
from nnlod_fenics.runtime.devices import sharing_cores
from nnlod_fenics.training import PAPER, Blocks, TrainingData, TrainingSettings, evaluate_loss, train
from nnlod_fenics.training.augment import turned
from nnlod_fenics.training.online import OnlineDataset
from nnlod_fenics.training.processes import adopt_launcher
from nnlod_fenics.window import Window

OPTIONS = {"channels": 4, "means": 4}
SCRIPT = str(Path(train_job.__file__))
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "USE_LIBUV": "0"}


@pytest.fixture(scope="module")
def data() -> TrainingData:
    return train_job.data()


def losses(folder: Path) -> list[tuple[float, float]]:
    return [(entry["train"], entry["validation"]) for entry in json.loads((folder / "loss.json").read_text())]


# -- batches ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dim,block", [(1, 2), (2, 1), (2, 2), (2, 4), (3, 2)])
def test_blocks_hold_the_patches_of_their_elements(rng, dim, block):
    grid = Grid(dim, 4, 8, 1, coefficient=8)
    Z = rng.standard_normal((3, *grid.coefficient_shape))
    S = np.arange(3 * grid.num_elements)[:, None, None] + np.zeros(grid.local_matrix_shape)
    S = S.reshape(3, grid.num_elements, *grid.local_matrix_shape)
    blocks = Blocks(Window.of(grid), samples(grid, Z, S), block, dtype=torch.float64)
    steps, windows = (grid.cells_per_element, 1), [cut(grid, field) for field in Z]
    seen = []
    for batch in blocks.batches(7 * block**dim, rng.permutation(len(blocks))):
        numbers = batch.S[:, 0, 0].numpy().astype(int)
        seen += numbers.tolist()
        for number, position in zip(numbers, np.ndindex(len(batch.Z), *(block,) * dim), strict=True):
            realization, element = divmod(int(number), grid.num_elements)
            for values, expected, step in zip(batch[:2], windows[realization], steps, strict=True):
                place = (position[0], *(slice(p * step, (p + grid.patch_width) * step) for p in position[1:]))
                np.testing.assert_array_equal(values[place].float(), expected[element])
    assert sorted(seen) == list(range(3 * grid.num_elements))


def test_no_blocks_make_no_batch(data):
    assert not list(Blocks(data.window, data.samples(data.test)).batches(64, np.arange(0)))


def test_turned_samples_are_samples_of_turned_fields(rng):
    """The exact local matrices of g·Z are those of Z, turned."""
    grid = Grid(2, 4, 8, 1, coefficient=8)
    Z = rng.standard_normal(grid.coefficient_shape)
    S = local_matrices(grid, np.exp(Z))
    window, matrices = Window.of(grid), {}
    for g in range(group_order(2)):
        blocks = Blocks(window, samples(grid, Z[None], S[None]), grid.coarse, dtype=torch.float64)
        batch = blocks[torch.arange(1)]
        moved = turned(window, batch, 4, torch.tensor([g]))
        turned_Z = moved.Z[0, 2:-2, 2:-2].numpy()
        matrices[turned_Z.tobytes()] = turned_Z
        np.testing.assert_allclose(moved.S.numpy(), local_matrices(grid, np.exp(turned_Z)), atol=1e-11)
        assert torch.equal(moved.domain, batch.domain)
    assert len(matrices) == 8  # all symmetries of the square, each once


# -- step sizes ------------------------------------------------------------------------------------------


def test_step_drops_and_warm_up():
    settings = TrainingSettings.from_dict(PAPER | {"warmup": 2.0})
    assert settings.rate(0) == 0 and settings.rate(1) == pytest.approx(5e-4) and settings.rate(29.99) == 1e-3
    assert settings.rate(30) == 1e-4 and settings.rate(45) == 1e-5


def test_default_warm_up_is_a_twelfth():
    settings = TrainingSettings(epochs=24)
    assert settings.rate(1) == pytest.approx(0.5 * settings.learning_rate)
    assert settings.rate(2) == pytest.approx(settings.learning_rate)
    assert TrainingSettings.from_dict(settings.as_dict()) == settings


def test_cosine_goes_from_the_learning_rate_to_zero():
    settings = TrainingSettings(epochs=12, schedule="cosine", warmup=2.0, learning_rate=0.4)
    assert settings.rate(2) == pytest.approx(0.4) and settings.rate(7) == pytest.approx(0.2)
    assert settings.rate(12) == pytest.approx(0, abs=1e-15)
    rates = [settings.rate(x) for x in np.linspace(2, 12, 50)]
    assert rates == sorted(rates, reverse=True)


@pytest.mark.parametrize(
    "given",
    [{"schedule": "linear"}, {"ema": 1.0}, {"amp": True}, {"patience": -1}, {"tensorboard": 1}, {"clip": float("nan")}],
)
def test_bad_settings(given):
    with pytest.raises(InputError, match=rf"training\.{next(iter(given))} must be"):
        TrainingSettings(**given)


def test_unknown_setting():
    with pytest.raises(InputError, match=r"training\.epoch is no setting"):
        TrainingSettings.from_dict({"epoch": 3})


# -- runs ------------------------------------------------------------------------------------------------

ALL = {
    "epochs": 3,
    "batch_size": 48,  # 8 blocks of 16: batches of 3, 3 and 2 blocks, which two processes share unevenly
    "optimizer": "adamw",
    "weight_decay": 0.01,
    "schedule": "cosine",
    "warmup": 0.5,
    "clip": 1.0,
    "ema": 0.9,
    "beta2": 0.95,
    "augment": True,
    "block": 4,
    "learning_rate": 3e-3,
}


def start_two(folder: Path, **options: Any) -> list[subprocess.Popen[Any]]:
    """Two processes of one training. Started as torchrun does, which Debian's PyTorch (no libuv) cannot run."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, SCRIPT, str(folder), json.dumps(ALL)]
    common = ENVIRONMENT | {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    ranks = [common | {"MASTER_PORT": str(port), "RANK": rank, "LOCAL_RANK": rank} for rank in "01"]
    return [subprocess.Popen(command, env=environment, **options) for environment in ranks]


def test_two_processes_have_the_losses_of_one(tmp_path):
    """Up to the order of sums in float32."""
    train_job.job(str(tmp_path / "one"), ALL, resume=False)
    started = start_two(tmp_path / "two")
    assert [process.wait(timeout=PATIENCE) for process in started] == [0, 0]
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert len(one) == 3
    np.testing.assert_allclose(two, one, rtol=1e-4)


def test_what_fails_on_one_process_ends_all(tmp_path):
    """The first process finds the output occupied; the second neither goes on nor waits, and says which failed."""
    (tmp_path / "training.json").touch()
    ranks = start_two(tmp_path, stderr=subprocess.PIPE, text=True)
    ends = [process.communicate(timeout=PATIENCE)[1] for process in ranks]
    assert [process.returncode for process in ranks] == [1, 1]
    assert "already holds a training" in ends[0] and "process 0 of this training failed: output" in ends[1]


@pytest.mark.parametrize(
    "names",
    [
        ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
        ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"),
        ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"),
    ],
)
def test_variables_of_launchers(monkeypatch, names):
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29511"}
    kept = {"PATH": "/bin", "SLURM_NTASKS": "4"}  # of a batch script, which is one process
    given = dict(zip(names, "351", strict=True))
    for variables, expected in (
        (kept | address | given, {"RANK": "3", "WORLD_SIZE": "5", "LOCAL_RANK": "1", "USE_LIBUV": "0"}),
        (kept | address | given | {"WORLD_SIZE": "2", "RANK": "0"}, {}),  # torchrun's own come first
        (kept | address | given | {names[1]: "1"}, {}),
        (kept, {}),
    ):
        environment = dict(variables)
        monkeypatch.setattr(os, "environ", environment)
        adopt_launcher()
        assert environment == variables | expected
    monkeypatch.undo()


@pytest.mark.parametrize(
    ("variables", "threads"),
    [
        ({}, 8),
        ({"LOCAL_WORLD_SIZE": "2"}, 4),
        ({"OMPI_COMM_WORLD_LOCAL_SIZE": "3"}, 2),
        ({"MPI_LOCALNRANKS": "100"}, 1),
        ({"SLURM_STEP_TASKS_PER_NODE": "4(x2),3"}, 2),
        ({"SLURM_NTASKS_PER_NODE": "4"}, 8),  # a batch script: one process
        ({"OMP_NUM_THREADS": "3", "LOCAL_WORLD_SIZE": "2"}, None),  # the user's own choice
    ],
)
def test_processes_of_a_node_share_its_cores(monkeypatch, variables, threads):
    chosen = []
    with monkeypatch.context() as patch:
        patch.setattr(os, "environ", variables)
        patch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
        patch.setattr(torch, "get_num_threads", lambda: 8)
        patch.setattr(torch, "set_num_threads", chosen.append)
        with sharing_cores():
            during = list(chosen)
    assert during == ([] if threads is None else [threads]) and chosen[-1] == 8


def test_killed_and_resumed_is_the_same_loss_curve(tmp_path):
    """SIGKILL in the middle of epochs; moments, averages and the place in the epoch come back."""
    settings = ALL | {"epochs": 30, "checkpoint_minutes": 0}
    train_job.job(str(tmp_path / "whole"), settings, resume=False)
    folder, state = tmp_path / "killed", tmp_path / "killed" / "training.json"
    job = [sys.executable, SCRIPT, str(folder), json.dumps(settings), "resume"]
    kills = 0
    for epochs in (4, 13):
        with subprocess.Popen(job, env=ENVIRONMENT) as process:
            while process.poll() is None and not (state.exists() and _epochs(state) >= epochs):
                time.sleep(0.002)
            process.send_signal(signal.SIGKILL)
            kills += process.wait() == -signal.SIGKILL
    assert kills == 2
    assert subprocess.run(job, env=ENVIRONMENT).returncode == 0
    assert losses(folder) == losses(tmp_path / "whole")
    weights = [load_tensors(f / "weights.safetensors") for f in (folder, tmp_path / "whole")]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[1])


def _epochs(state: Path) -> int:
    return len(json.loads(state.read_text())["history"])


def test_resuming_another_training_is_refused(data, tmp_path):
    settings = TrainingSettings(epochs=1, batch_size=64)
    train(data, tmp_path, "structured", OPTIONS, settings)
    for name, value in (("learning_rate", 0.1), ("beta2", 0.9), ("ema", 0.5), ("epochs", 2)):
        with pytest.raises(InputError, match=f"another {name} "):
            train(data, tmp_path, "structured", OPTIONS, settings.changed(**{name: value}), resume=True)
    with pytest.raises(InputError, match="another network"):
        train(data, tmp_path, "structured", {"channels": 2, "means": 2}, settings, resume=True)
    Z, S = data.train
    for change in (
        {"train": (Z[1:], S[1:])},
        {"validation": data.test},
        {"identity": data.identity | {"seed": 1}},
    ):
        with pytest.raises(InputError, match="another training_set"):
            train(replace(data, **change), tmp_path, "structured", OPTIONS, settings, resume=True)
    (tmp_path / "training.json").unlink()
    with pytest.raises(InputError, match=r"holds finished parts of a training \(model\.json\) but no training\.json"):
        train(data, tmp_path, "structured", OPTIONS, settings, resume=True)


def test_single_bits_of_checkpoints_are_told(data, tmp_path, rng):
    """Each flip of one bit in either file of a checkpoint; in the end the training is resumed."""
    settings = TrainingSettings(epochs=1, batch_size=64)
    train(data, tmp_path, "structured", OPTIONS, settings)
    (tensors,) = tmp_path.glob("*-training.safetensors")
    for path in (tensors, tmp_path / "training.json"):
        whole = path.read_bytes()
        for place in rng.integers(len(whole), size=25):
            flipped = bytearray(whole)
            flipped[place] ^= 1 << int(rng.integers(8))
            path.write_bytes(flipped)
            if path.suffix == ".json" and _same_json(whole, flipped):
                continue
            with pytest.raises(InputError, match=r"damaged|another|cannot be read"):
                train(data, tmp_path, "structured", OPTIONS, settings, resume=True)
        path.write_bytes(whole)
    train(data, tmp_path, "structured", OPTIONS, settings, resume=True)


ODD = [[], None, 3, {}, {"history": None}, {"history": [1]}, {"tensors": None}, {"step": "a"}, {"seed": []}]


@pytest.mark.parametrize("change", ODD, ids=str)
def test_odd_checkpoints(data, tmp_path, change):
    """Valid JSON of other types, with and without the checksum that tells of them."""
    settings = TrainingSettings(epochs=1, batch_size=64)
    train(data, tmp_path, "structured", OPTIONS, settings)
    path = tmp_path / "training.json"
    good = json.loads(path.read_text())
    old = {key: value for key, value in good.items() if key not in ("digest", "checksum")}  # as version 0.1 wrote it
    for content in (good, old):
        path.write_text(json.dumps(content | change if change and isinstance(change, dict) else change))
        with pytest.raises(InputError, match=r"training\.json' is damaged|another .* be resumed|of version 0\.1"):
            train(data, tmp_path, "structured", OPTIONS, settings, resume=True)


def _same_json(one: bytes, other: bytes) -> bool:
    """Whether only blanks differ."""
    try:
        return bool(json.loads(one) == json.loads(other))
    except ValueError:
        return False


def test_the_average_of_the_weights_is_kept(data, tmp_path):
    """Exponential moving average from the first step on, one step an epoch here."""
    for name, epochs, ema in (("1", 1, 0.0), ("2", 2, 0.0), ("3", 3, 0.0), ("averaged", 3, 0.9)):
        settings = TrainingSettings(
            epochs=epochs,
            batch_size=10_000,
            ema=ema,
            schedule="steps",
            warmup=0.0,
            learning_rate=1e-3,
            checkpoint_minutes=0,
        )
        train(data, tmp_path / name, "structured", OPTIONS, settings)
    last = [_last_checkpoint(tmp_path / name)["network.matrix.head.weight"] for name in "123"]
    expected = 0.9 * (0.9 * last[0] + 0.1 * last[1]) + 0.1 * last[2]
    average = _last_checkpoint(tmp_path / "averaged")["average.module.matrix.head.weight"]
    torch.testing.assert_close(average, expected)
    kept = load_tensors(tmp_path / "averaged" / "weights.safetensors")["matrix.head.weight"]
    assert torch.equal(kept, average) and not torch.allclose(kept, last[2], rtol=1e-4, atol=0)


def _last_checkpoint(folder: Path) -> dict[str, torch.Tensor]:
    (path,) = folder.glob("*-training.safetensors")
    return load_tensors(path)


def test_stops_early(data, tmp_path):
    settings = TrainingSettings(epochs=50, batch_size=128, patience=2, learning_rate=1e-12, drops=())
    train(data, tmp_path, "structured", OPTIONS, settings)
    assert len(losses(tmp_path)) < 50


def test_structured_learns(data, tmp_path):
    settings = TrainingSettings(epochs=40, batch_size=32, schedule="cosine", learning_rate=5e-3)
    train(data, tmp_path, "structured", OPTIONS, settings)
    model = NNLOD.load(tmp_path)
    zero = evaluate_loss(model.network, Blocks(data.window, data.samples(data.test)))
    assert model.test_loss == pytest.approx(zero, rel=1e-4)
    mean_matrix = losses(tmp_path)[0][0]  # about what the start from the mean matrix has
    assert model.test_loss < 0.3 * mean_matrix


def test_fresh_data_every_epoch(data, tmp_path):
    grid = data.grid
    law = make_field({"kind": "lognormal", "correlation_length": 0.3}, grid.dim, grid.coefficient)
    online = OnlineDataset(grid, law, seed=3, realizations=2)
    seen = []

    def epoch(number: int):
        seen.append(number)
        return online.arrays(range(2 * number, 2 * number + 2))

    fresh = TrainingData(grid, epoch, data.validation, data.test, {"field": law.settings(), "seed": 3})
    train(fresh, tmp_path, "structured", OPTIONS, TrainingSettings(epochs=3, batch_size=16))
    assert seen == [0, 1, 2] and len(losses(tmp_path)) == 3


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_data_that_nothing_can_be_learned_from(data, tmp_path, part):
    Z, S = (values.copy() for values in getattr(data, part))
    S[0, 0, 0, 0] = np.nan
    name = "training" if part == "train" else part
    for given in ((Z, S), (Z[:0], S[:0])):
        broken = replace(data, **{part: given})
        with pytest.raises(InputError, match=f"{name} data must be finite and not empty"):
            train(broken, tmp_path / "m", "structured", OPTIONS, TrainingSettings(epochs=1))
    assert not (tmp_path / "m").exists()


def test_divergence_ends_the_training_and_keeps_the_best_weights(data, tmp_path):
    settings = TrainingSettings(
        epochs=4, batch_size=32, learning_rate=1e-3, schedule="steps", drops=((2, 1e30),), warmup=0.0, clip=0.0
    )
    with pytest.raises(NumericalError, match=r"loss is (nan|inf) in epoch 3; the best weights, of epoch [12], are"):
        train(data, tmp_path, "paper", {"widths": [20]}, settings)
    model = NNLOD.load(tmp_path)
    history = losses(tmp_path)
    assert len(history) == 2 and evaluate_loss(
        model.network, Blocks(data.window, data.samples(data.validation))
    ) == pytest.approx(min(validation for _, validation in history), rel=1e-4)


@pytest.mark.parametrize("level", [200.0, -200.0])
def test_the_level_of_the_fields_does_not_matter(data, tmp_path, level):
    """Local matrices of size e^±200 are far from what float32 holds."""
    shifted = replace(
        data,
        **{
            part: (Z + level, S * np.exp(level))
            for part in ("train", "validation", "test")
            for Z, S in [getattr(data, part)]
        },
    )
    settings = TrainingSettings(epochs=2, batch_size=32)
    for name, given in (("plain", data), ("shifted", shifted)):
        train(given, tmp_path / name, "structured", OPTIONS, settings)
    np.testing.assert_allclose(losses(tmp_path / "shifted"), losses(tmp_path / "plain"), rtol=1e-3)
    plain, model = (NNLOD.load(tmp_path / name) for name in ("plain", "shifted"))
    assert model.test_loss == pytest.approx(plain.test_loss, rel=1e-3)
    errors = matrix_errors(
        model.predict(model.grid, (torch.from_numpy(shifted.test[0])).exp()).numpy(), shifted.test[1]
    )
    assert np.mean(errors**2) == pytest.approx(model.test_loss, rel=1e-3)
    with pytest.raises(InputError, match=r"local matrices must have sizes of 1e-15 to 1e\+15 here"):
        train(shifted, tmp_path / "paper", "paper", {"widths": [20]}, settings)


@pytest.mark.parametrize("network,options", [("structured", {"channels": 2, "means": 2}), ("paper", {"widths": [20]})])
@pytest.mark.parametrize("dim,dtype", [(1, np.float32), (2, np.float64), (3, np.float32)])
def test_every_dimension_and_few_data(tmp_path, dim, network, options, dtype):
    """One realization, smaller than the batch; and batches of which the last is not full."""
    grid = Grid(dim, 2, 4, 1, coefficient=4)
    Z = np.random.default_rng(dim).standard_normal((1, *grid.coefficient_shape))
    arrays = (Z.astype(dtype), local_matrices(grid, np.exp(Z)).astype(dtype))
    data = TrainingData(grid, arrays, arrays, arrays, {"field": {}})
    for batch_size in (1000, 3) if dim == 2 else (3,):
        settings = TrainingSettings(epochs=1, batch_size=batch_size, block=1)
        train(data, tmp_path / str(batch_size), network, options, settings)
        assert np.isfinite(losses(tmp_path / str(batch_size))).all()


# -- fine-tuning -----------------------------------------------------------------------------------------


def test_fine_tuning_has_a_smaller_step_size_unless_one_is_given():
    assert TrainingSettings(init_from="m").learning_rate == FINE_TUNING_RATE < TrainingSettings().learning_rate
    assert TrainingSettings(epochs=3).changed(init_from="m").learning_rate == FINE_TUNING_RATE
    assert TrainingSettings(init_from="m", learning_rate=0.5).learning_rate == 0.5
    assert TrainingSettings(learning_rate=1.2e-2).changed(init_from="m").learning_rate == 1.2e-2
    stored = TrainingSettings(epochs=3).as_dict()  # a full table, as reproduce has it, states its own
    assert TrainingSettings.from_dict(stored | {"init_from": "m"}).learning_rate == 1.2e-2
    assert TrainingSettings(epochs=3).changed(epochs=24).warmup == 2.0


@pytest.fixture(scope="module")
def base(data, tmp_path_factory) -> Path:
    """A network with which nothing is wrong but that it can be worse."""
    folder = tmp_path_factory.mktemp("base") / "m"
    return train(data, folder, "structured", OPTIONS, TrainingSettings(epochs=10, batch_size=32))


@pytest.mark.parametrize("settings", [{"learning_rate": 100.0, "clip": 0.0}, {"ema": 0.5, "learning_rate": 1.0}, {}])
def test_fine_tuning_is_never_worse_than_its_start(data, base, tmp_path, settings):
    given = {"epochs": 2, "batch_size": 32, "warmup": 0.0, "init_from": str(base)} | settings
    try:
        train(data, tmp_path / "m", "structured", OPTIONS, TrainingSettings(**given))
    except NumericalError as error:
        assert "the weights of the start are kept" in str(error)
    validation = Blocks(data.window, data.samples(data.validation))
    start, kept = (evaluate_loss(NNLOD.load(folder).network, validation) for folder in (base, tmp_path / "m"))
    told = json.loads((tmp_path / "m" / "model.json").read_text())["losses"]
    assert told["start"] == pytest.approx(start, rel=1e-4) and told["validation"] == pytest.approx(kept, rel=1e-4)
    assert kept <= start * (1 + 1e-6)
    tried = [validation for _, validation in losses(tmp_path / "m")] if (tmp_path / "m" / "loss.json").exists() else []
    worse = all(loss > told["start"] for loss in tried)
    assert told["epoch"] == (0 if worse else 1 + int(np.argmin(tried)))
    if settings:  # these steps are so large that no epoch can be better
        weights = [load_tensors(folder / "weights.safetensors") for folder in (base, tmp_path / "m")]
        assert told["epoch"] == 0 and all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_patience_counts_from_the_start(data, base, tmp_path):
    settings = TrainingSettings(epochs=9, batch_size=32, patience=2, warmup=0.0, learning_rate=1.0, init_from=str(base))
    train(data, tmp_path, "structured", OPTIONS, settings)
    assert len(losses(tmp_path)) == 2


def test_a_resumed_fine_tuning_keeps_its_start(data, base, tmp_path, monkeypatch):
    settings = TrainingSettings(epochs=4, batch_size=32, warmup=0.0, learning_rate=1.0, init_from=str(base))

    def stop(epoch, *_):
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(data, tmp_path, "structured", OPTIONS, settings.changed(checkpoint_minutes=0), on_epoch=stop)
    state = json.loads((tmp_path / "training.json").read_text())
    assert len(state["history"]) == 2 and state["start"] < min(entry["validation"] for entry in state["history"])
    train(data, tmp_path, "structured", OPTIONS, settings, resume=True)
    told = json.loads((tmp_path / "model.json").read_text())["losses"]
    assert told["epoch"] == 0 and told["start"] == state["start"] and len(losses(tmp_path)) == 4


def test_a_fine_tuning_of_version_0_1_is_resumed(data, base, tmp_path):
    """Its checkpoints have no start, and their weights are not those of the start any more."""
    settings = TrainingSettings(epochs=2, batch_size=32, init_from=str(base), checkpoint_minutes=0)

    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(data, tmp_path, "structured", OPTIONS, settings, on_epoch=stop)
    state = json.loads((tmp_path / "training.json").read_text())
    for key in ("start", "digest", "checksum"):
        del state[key]
    (tmp_path / "training.json").write_text(json.dumps(state))
    train(data, tmp_path, "structured", OPTIONS, settings, resume=True)
    told = json.loads((tmp_path / "model.json").read_text())["losses"]
    assert told["epoch"] in (1, 2) and "start" not in told


# -- models ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name,options", [("structured", OPTIONS), ("paper", {"widths": [20]})])
def test_fields_in_matrices_out(data, tmp_path, name, options):
    """Many fields at once, one at a time, and patch by patch are the same; a saved copy too."""
    grid = data.grid
    train(data, tmp_path / "m", name, options, TrainingSettings(epochs=1, batch_size=32))
    model = NNLOD.load(tmp_path / "m")
    Z = np.asarray(data.test[0])
    together = model.predict(model.grid, (torch.from_numpy(Z)).exp()).numpy()
    assert together.shape == (2, grid.num_elements, *grid.local_matrix_shape) and together.dtype == np.float64
    for field, predicted in zip(Z, together, strict=True):
        np.testing.assert_allclose(
            model.local_matrices(model.grid, np.exp(field)), predicted, atol=1e-6 * np.abs(predicted).max()
        )
        with torch.no_grad():
            alone = model.network(*cut(grid, field)).double().numpy()
        inside = grid.patch_nodes >= 0
        np.testing.assert_allclose(alone[inside], predicted[inside], atol=2e-6 * np.abs(predicted).max())
    copy = NNLOD.load(model.save(tmp_path / "copy"), grid)
    assert np.array_equal(copy.local_matrices(copy.grid, np.exp(Z[0])), model.local_matrices(model.grid, np.exp(Z[0])))
    assert copy.test_loss == model.test_loss and model.description["training_set"]["range_of_Z"]


def test_matrix_errors(rng):
    S, predicted = rng.standard_normal((2, 5, 3, 16, 4))
    errors = matrix_errors(predicted, S)
    assert errors.shape == (5, 3)
    assert errors[2, 1] == pytest.approx(np.linalg.norm(S[2, 1] - predicted[2, 1]) / np.linalg.norm(S[2, 1]))
