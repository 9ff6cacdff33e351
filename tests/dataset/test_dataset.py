"""Datasets: what they hold, and bad files told in one sentence."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from nnlod_fenics import Grid, InputError, local_matrices
from nnlod_fenics.config import load_config
from nnlod_fenics.dataset import Dataset
from nnlod_fenics.dataset.describe import describe
from nnlod_fenics.dataset.generate import generate
from nnlod_fenics.dataset.layout import INDEX
from nnlod_fenics.dataset.verify import verify_dataset
from nnlod_fenics.fields import FieldSample, make_field, register_field

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


def content(folder: Path) -> dict[str, bytes]:
    with h5py.File(folder / INDEX, "r") as file:
        return {name: file[name][...].tobytes() for name in ("Z", "S", "parameters", "origin", "checksum", "done")}


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
        assert dataset.column("origin", [k]).tolist() == [[7, k]]
        assert dataset.parameters(k) == sample.parameters
        np.testing.assert_allclose(
            dataset.S(k), local_matrices(dataset.grid, np.exp(sample.Z), method="dolfinx"), atol=1e-12
        )
    with h5py.File(data / INDEX, "r") as file:  # plain h5py, no code of ours
        assert file["Z"].shape == (10, 8, 8) and file["S"].shape == (10, 16, 16, 4)
        assert file["done"][...].all() and file.attrs["layout_version"] == 1


def test_measurements_from_a_file_are_kept_with_the_data(tmp_path, monkeypatch):
    """A turned field that takes them: reproducible from the dataset alone, and finished by rows that say the same."""
    monkeypatch.chdir(tmp_path)
    rows = [[0.2, 0.3, 1.0], [0.7, 0.6, -1.0], [0.9, 0.1, 0.0], [0.5, 0.1, 0.3]]
    np.save("wells.npy", rows)
    turned = ["field.correlation_length=[0.4, 0.1]", "field.angles=0.5", "field.mean=0.2", "dataset.realizations=4"]
    folder = generate(config(*turned, "field.conditions=wells.npy"), tmp_path / "d")
    Path("wells.npy").unlink()
    dataset = Dataset(folder)
    assert dataset.field_settings["conditions"] == rows and dataset.Z(3)[2, 1] == 1.0
    assert dataset.parameters(0) == {
        "variance": 0.5,
        "correlation_length_x": 0.4,
        "correlation_length_y": 0.1,
        "smoothness": 0.5,
    }
    assert verify_dataset(dataset, 2).problems == []
    assert "mean 0.2, conditions in 4 rows" in dict(describe(folder))["field"]
    generate(config(*turned, f"field.conditions={rows}"), folder, resume=True)
    with pytest.raises(InputError, match="cannot be resumed"):
        generate(config(*turned), folder, resume=True)


class Tilted:
    """A law of a user's own, with a parameter that those of the package do not have.

    Args:
        dim: Space dimension.
        cells: Cells per axis.
        largest: Largest tilt.
    """

    def __init__(self, dim: int, cells: int, largest: float = 1.0) -> None:
        self.shape, self.largest = (cells,) * dim, largest

    def sample(self, seed: int, index: int, stage: int = 0) -> FieldSample:
        tilt = np.random.default_rng([seed, stage, index]).uniform(0, self.largest)
        return FieldSample(tilt * np.indices(self.shape).sum(axis=0) / self.shape[0], {"tilt": tilt})

    def settings(self) -> dict:
        return {"kind": "tilted-for-datasets", "largest": self.largest}


def test_a_registered_law_keeps_its_parameters(tmp_path):
    register_field("tilted-for-datasets", Tilted)
    settings = ["grid.coarse=2", "grid.fine=8", "grid.coefficient=4", "grid.ell=1", "dataset.realizations=3"]
    tilted = load_config(None, [*settings, "field.kind=tilted-for-datasets", "field.largest=2.0"])
    given = Tilted(2, 4, largest=2.0)
    for folder, law in (("registered", None), ("given", given)):
        dataset = Dataset(generate(tilted, tmp_path / folder, law=law))
        assert dataset.field_settings == given.settings()
        for k in range(3):
            assert dataset.parameters(k) == given.sample(0, k).parameters
            assert np.array_equal(dataset.Z(k), given.sample(0, k).Z)


@pytest.mark.parametrize("block", [1, 3, 20])
def test_blocks_do_not_change_the_bits(data, tmp_path, block):
    generate(config(f"dataset.block={block}"), tmp_path / "d")
    assert content(tmp_path / "d") == content(data)


def test_methods_agree(data, tmp_path):
    generate(config("dataset.method=dolfinx", "dataset.realizations=1"), tmp_path / "d")
    np.testing.assert_allclose(Dataset(tmp_path / "d").S(0), Dataset(data).S(0), atol=1e-12)


def test_single_precision_storage(data, tmp_path):
    generate(config("dataset.dtype=float32", "dataset.realizations=1"), tmp_path / "d")
    assert np.array_equal(Dataset(tmp_path / "d").Z(0), Dataset(data).Z(0).astype(np.float32))


def test_output_that_holds_a_dataset(copy):
    with pytest.raises(InputError, match="already holds a dataset"):
        generate(config(), copy)
    with pytest.raises(InputError, match=r"another dataset\.seed"):
        generate(config("dataset.seed=8"), copy, resume=True)
    before = content(copy)
    generate(config(), copy, resume=True)
    assert content(copy) == before
    generate(config("dataset.seed=8"), copy, overwrite=True)
    assert content(copy) != before


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


def test_other_grid_and_newer_layout(copy):
    with pytest.raises(InputError, match=r"was made for .* not for"):
        Dataset(copy, grid=Grid(2, 8, 16, 1))
    with h5py.File(copy / INDEX, "r+") as file:
        file.attrs["layout_version"] = 99
    with pytest.raises(InputError, match="layout version 99"):
        Dataset(copy)


def test_reading_in_any_order(data):
    dataset = Dataset(data)
    whole = dataset.matrices(range(10))
    for chosen in ([9, 0, 1, 2, 3, 7], range(3, 9), range(9, -1, -2), []):
        assert np.array_equal(dataset.matrices(chosen), whole[list(chosen)])
    for k in (-1, 10):
        with pytest.raises(InputError, match=f"between 0 and 9, got {k}"):
            dataset.Z(k)


def test_plain_h5py_from_another_folder(data, tmp_path, monkeypatch):
    """The index finds the blocks beside it, wherever the reader stands and the folder was moved to."""
    moved = Path(shutil.copytree(data, tmp_path / "moved here"))
    monkeypatch.chdir(tmp_path)
    with h5py.File(moved / INDEX, "r") as file:
        np.testing.assert_array_equal(file["S"][4], Dataset(data).S(4))
        assert file["Z"].is_virtual and file["parameters"].attrs["names"][0] == "variance"
        assert file.attrs["seed"] == 7 and '"correlation_length": 0.2' in file.attrs["config"]


def test_split_by_realization(data, tmp_path):
    split = Dataset(data).split()
    assert (split.train, split.validation, split.test) == (range(8), range(8, 9), range(9, 10))
    generate(config("dataset.realizations=2"), tmp_path / "d")
    with pytest.raises(InputError, match="has 2 realizations; a split 80 : 10 : 10 needs at least 3"):
        Dataset(tmp_path / "d").split()


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_datasets_say_what_they_hold(tmp_path, dim):
    config = load_config(
        None,
        [
            f"grid.dim={dim}",
            "grid.coarse=2",
            "grid.fine=4",
            "grid.coefficient=4",
            "grid.ell=1",
            "dataset.realizations=1",
        ],
    )
    folder = generate(config, tmp_path / "d")
    for path in (folder / "dataset.h5", folder / "blocks" / "000000.h5"):
        with h5py.File(path) as file:
            for name in file:
                attributes = dict(file[name].attrs)
                assert len(attributes["axes"].split(", ")) == file[name].ndim, name
                assert attributes["description"] and attributes["units"]
            axes = file["Z"].attrs["axes"].split(", ")
            assert axes == ["realization", *(f"cell {axis}" for axis in "zyx"[3 - dim :])]


def test_a_dataset_without_descriptions_is_read_and_resumed(tmp_path):
    """Those of version 0.1 have none."""
    config = load_config(None, [*SETTINGS, "dataset.realizations=4"])
    folder = generate(config, tmp_path / "d")
    whole = Dataset(folder).matrices(range(4))
    for path in (folder / "dataset.h5", folder / "blocks" / "000000.h5"):
        with h5py.File(path, "r+") as file:
            for name in file:
                for key in ("description", "units", "axes"):
                    del file[name].attrs[key]
    (folder / "blocks" / "000001.h5").unlink()
    before = (folder / "blocks" / "000000.h5").stat().st_mtime_ns
    generate(config, folder, resume=True)
    np.testing.assert_array_equal(Dataset(folder).matrices(range(4)), whole)
    assert (folder / "blocks" / "000000.h5").stat().st_mtime_ns == before
