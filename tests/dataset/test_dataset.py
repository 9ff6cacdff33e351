"""Datasets: the same bits whatever the ranks, blocks and interruptions, and bad files told in one sentence."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import psutil
import pytest
import torch

from nnlod_fenics import Grid, InputError, local_matrices
from nnlod_fenics.config import load_config
from nnlod_fenics.dataset import Dataset
from nnlod_fenics.dataset.generate import EXIT_RESUMABLE, generate
from nnlod_fenics.dataset.layout import INDEX, create_index, read_header
from nnlod_fenics.dataset.patches import Patches
from nnlod_fenics.fields import make_field

SETTINGS = [
    "grid.coarse=4",
    "grid.fine=16",
    "grid.coefficient=8",
    "grid.ell=1",
    "field.correlation_length=0.2",
    "dataset.realizations=10",
    "dataset.seed=7",
]


def config(*extra: str):
    return load_config(None, [*SETTINGS, *extra])


def command(output: Path, *extra: str, ranks: int = 1, arguments: tuple[str, ...] = ()) -> list[str]:
    overrides = [item for setting in (*SETTINGS, *extra) for item in ("-s", setting)]
    launcher = ["mpirun", "-n", str(ranks), "--bind-to", "none"] if ranks > 1 else []
    return [*launcher, sys.executable, "-m", "nnlod_fenics", "generate", "-o", str(output), *overrides, *arguments]


def run(*args, **kwargs) -> subprocess.CompletedProcess:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command(*args, **kwargs), capture_output=True, text=True, env=environment, timeout=300)


def content(folder: Path) -> dict[str, bytes]:
    with h5py.File(folder / INDEX, "r") as file:
        return {name: file[name][...].tobytes() for name in ("Z", "S", "parameters", "checksum", "done")}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return generate(config(), tmp_path_factory.mktemp("data") / "d")


@pytest.fixture
def copy(data, tmp_path) -> Path:
    return Path(shutil.copytree(data, tmp_path / "copy"))


def test_content_is_what_the_settings_say(data):
    dataset = Dataset(data)
    assert dataset.grid == Grid(2, 4, 16, 1, coefficient=8) and len(dataset) == 10 and dataset.seed == 7
    law = make_field(dataset.field_settings, 2, 8)
    for k in (0, 3, 9):
        sample = law.sample(7, k)
        assert np.array_equal(dataset.Z(k), sample.Z)
        assert dataset.parameters(k) == sample.parameters
        np.testing.assert_allclose(
            dataset.S(k), local_matrices(dataset.grid, np.exp(sample.Z), method="dolfinx"), atol=1e-12
        )
    with h5py.File(data / INDEX, "r") as file:  # plain h5py, no code of ours
        assert file["Z"].shape == (10, 8, 8) and file["S"].shape == (10, 16, 16, 4)
        assert file["done"][...].all() and file.attrs["layout_version"] == 1


@pytest.mark.parametrize(("ranks", "block"), [(2, 2), (3, 2), (2, 3), (1, 1)])
def test_same_bits_for_every_number_of_ranks_and_block_size(data, tmp_path, ranks, block):
    done = run(tmp_path / "d", f"dataset.block={block}", ranks=ranks)
    assert done.returncode == 0, done.stderr
    assert content(tmp_path / "d") == content(data)


def test_more_ranks_than_blocks(tmp_path):
    done = run(tmp_path / "d", "dataset.realizations=2", "dataset.block=1", ranks=4)
    assert done.returncode == 0, done.stderr
    assert "2 of 4 ranks stay idle" in done.stderr
    assert len(Dataset(tmp_path / "d")) == 2


def test_methods_agree(data, tmp_path):
    generate(config("dataset.method=dolfinx", "dataset.realizations=1"), tmp_path / "d")
    np.testing.assert_allclose(Dataset(tmp_path / "d").S(0), Dataset(data).S(0), atol=1e-12)


def test_single_precision_storage(data, tmp_path):
    generate(config("dataset.dtype=float32", "dataset.realizations=1"), tmp_path / "d")
    assert np.array_equal(Dataset(tmp_path / "d").Z(0), Dataset(data).Z(0).astype(np.float32))


@pytest.mark.parametrize(("ranks", "number"), [(1, signal.SIGKILL), (2, signal.SIGKILL), (1, signal.SIGTERM)])
def test_killed_and_resumed_is_bit_identical(data, tmp_path, ranks, number):
    """The job is killed as soon as it has finished a block; resumed, it computes only what is missing."""
    output = tmp_path / "d"
    slow = ("dataset.method=dolfinx",)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command(output, *slow, ranks=ranks), env=environment)
    deadline = time.monotonic() + 120
    while not (finished := list(output.glob("blocks/0*.h5"))) and time.monotonic() < deadline:
        time.sleep(0.005)
    if number == signal.SIGKILL:  # mpirun and its ranks: orphans would rightly keep the folder locked
        for victim in [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]:
            victim.kill()
    else:
        process.send_signal(number)
    code = process.wait(timeout=60)
    if number == signal.SIGTERM:
        assert code in (EXIT_RESUMABLE, 0)
    before = {path: path.stat().st_mtime_ns for path in finished}
    done = run(output, *slow, ranks=ranks, arguments=("--resume",))
    assert done.returncode == 0, done.stderr
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in before.items())
    whole = tmp_path / "whole"
    generate(config(*slow), whole)
    assert content(output) == content(whole)


def test_an_error_on_one_rank_ends_the_job(tmp_path):
    script = tmp_path / "fails.py"
    script.write_text(
        "import sys, nnlod_fenics.dataset.generate as g\n"
        "from mpi4py import MPI\n"
        "def broken(*args, **kwargs):\n"
        "    if MPI.COMM_WORLD.rank == 1: raise RuntimeError('rank one breaks')\n"
        "    import time; time.sleep(60)\n"
        "g.local_matrices = broken\n"
        "from nnlod_fenics.config import load_config\n"
        f"g.generate(load_config(None, {SETTINGS!r}), {str(tmp_path / 'd')!r})\n"
    )
    start = time.monotonic()
    done = subprocess.run(
        ["mpirun", "-n", "2", "--bind-to", "none", sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode != 0 and "rank one breaks" in done.stderr
    assert time.monotonic() - start < 30


def test_output_that_holds_something(copy, tmp_path):
    with pytest.raises(InputError, match="already holds a dataset"):
        generate(config(), copy)
    with pytest.raises(InputError, match=r"another dataset\.seed"):
        generate(config("dataset.seed=8"), copy, resume=True)
    before = content(copy)
    generate(config(), copy, resume=True)
    assert content(copy) == before
    generate(config("dataset.seed=8"), copy, overwrite=True)
    assert content(copy) != before
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("")
    for options in ({}, {"overwrite": True}):
        with pytest.raises(InputError, match="other files"):
            generate(config(), other, **options)
    assert [entry.name for entry in other.iterdir() if entry.name != ".lock"] == ["thesis.tex"]


def test_output_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        generate(config(), tmp_path / "file" / "d")


def test_two_jobs_on_one_output(tmp_path):
    output = tmp_path / "d"
    first = subprocess.Popen(command(output, "dataset.realizations=400", "dataset.method=dolfinx"))
    try:
        while not (output / INDEX).exists():
            time.sleep(0.01)
        second = run(output, arguments=("--overwrite",))
        assert second.returncode == 2 and "in use by another job" in second.stderr
        assert "Traceback" not in second.stderr
    finally:
        first.kill()
        first.wait()


def test_damaged_datasets(copy):
    victim = copy / "blocks" / "000001.h5"
    whole = victim.read_bytes()
    victim.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"000001\.h5 is truncated"):
        Dataset(copy)
    victim.unlink()
    with pytest.raises(InputError, match="is not finished: realization 2 is missing"):
        Dataset(copy)
    victim.write_bytes(whole)
    with h5py.File(victim, "r+") as file:
        file["S"][0, 0, 0, 0] = np.nan
    with pytest.raises(InputError, match="S of realization 2 has NaN"):
        Dataset(copy).S(2)
    index = copy / INDEX
    index.write_bytes(index.read_bytes()[:100])
    with pytest.raises(InputError, match="damaged or truncated"):
        Dataset(copy)
    with pytest.raises(InputError, match="does not exist"):
        Dataset(copy / "nowhere")


def test_other_grid_and_newer_layout(copy, monkeypatch):
    with pytest.raises(InputError, match=r"was made for .* not for"):
        Dataset(copy, grid=Grid(2, 8, 16, 1))
    monkeypatch.setattr("nnlod_fenics.dataset.layout.LAYOUT_VERSION", 99)
    create_index(copy, read_header(copy))
    monkeypatch.undo()
    with pytest.raises(InputError, match="layout version 99"):
        Dataset(copy)


def test_split_by_realization(data, tmp_path):
    split = Dataset(data).split()
    assert (split.train, split.validation, split.test) == (range(8), range(8, 9), range(9, 10))
    generate(config("dataset.realizations=2"), tmp_path / "d")
    with pytest.raises(InputError, match="has 2 realizations; a split 80 : 10 : 10 needs at least 3"):
        Dataset(tmp_path / "d").split()


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_patches_are_those_of_the_grid(dim, rng):
    grid = Grid(dim, 3, 6, 1)
    Z = rng.standard_normal((2, *grid.coefficient_shape))
    S = rng.standard_normal((2, grid.num_elements, *grid.local_matrix_shape))
    patches = Patches(grid, Z, S, dtype=torch.float64)
    assert len(patches) == 2 * grid.num_elements
    everything = patches[torch.arange(len(patches))]
    np.testing.assert_array_equal(everything.Z, np.concatenate([grid.cut_patches(z) for z in Z]))
    np.testing.assert_array_equal(everything.inside, np.tile(grid.cut_patches(0 * Z[0] + 1), (2,) + (1,) * dim))
    np.testing.assert_array_equal(everything.S, S.reshape(-1, *grid.local_matrix_shape))
    shuffled = list(patches.batches(4, torch.Generator().manual_seed(0)))
    first = np.concatenate([batch.S[:, 0, 0] for batch in shuffled])
    assert sorted(first) == sorted(S[:, :, 0, 0].ravel()) and not np.array_equal(first, S[:, :, 0, 0].ravel())
