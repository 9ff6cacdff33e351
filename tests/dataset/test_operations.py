"""Verify, merge, split and describe: what they find, keep and refuse."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from nnlod_fenics import InputError
from nnlod_fenics.config import load_config
from nnlod_fenics.dataset import Dataset
from nnlod_fenics.dataset.combine import merge_datasets, split_dataset
from nnlod_fenics.dataset.describe import describe
from nnlod_fenics.dataset.generate import generate
from nnlod_fenics.dataset.layout import INDEX, checksum
from nnlod_fenics.dataset.verify import verify_dataset

SETTINGS = [
    "grid.coarse=4",
    "grid.fine=16",
    "grid.coefficient=8",
    "grid.ell=1",
    "field.correlation_length=0.2",
    "dataset.realizations=10",
    "dataset.block=3",
]


def make(folder: Path, *extra: str) -> Path:
    return generate(load_config(None, [*SETTINGS, *extra]), folder)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return make(tmp_path_factory.mktemp("data") / "d")


@pytest.fixture
def copy(data, tmp_path) -> Path:
    return Path(shutil.copytree(data, tmp_path / "copy"))


def content(dataset: Dataset, realizations: range) -> list[bytes]:
    return [dataset.column(name, realizations).tobytes() for name in ("Z", "S", "parameters", "origin", "checksum")]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_good_dataset_passes(tmp_path, dtype):
    pytest.importorskip("dolfinx")
    result = verify_dataset(Dataset(make(tmp_path / "d", f"dataset.dtype={dtype}")), sample=12)
    assert result.problems == [] and result.realizations == 10 and 8 <= result.recomputed <= 12
    rounding = np.finfo(dtype).eps
    assert 0 < result.largest_sum < 500 * rounding and 0 < result.largest_difference < 5000 * rounding


def test_changed_numbers_are_found(copy):
    with h5py.File(copy / "blocks" / "000001.h5", "r+") as file:  # realizations 3, 4, 5
        file["S"][0, 5, 3, 1] += 1e-13
        file["Z"][1, 2, 2] = np.nan
        file["S"][2, 7, 4, 1] += 1e-3
        for k in (1, 2):  # someone who also mends the checksum
            file["checksum"][k] = checksum(file["Z"][k], file["S"][k])
    problems = verify_dataset(Dataset(copy), sample=0).problems
    assert [p.split(" has ")[0] for p in problems] == ["realization 3", "realization 4", "realization 5"]
    for problem, words in zip(problems, ("another checksum", "NaN", "column sums of"), strict=True):
        assert words in problem


def test_wrong_matrices_with_right_sums_are_found_by_the_other_method(copy):
    pytest.importorskip("dolfinx")
    with h5py.File(copy / "blocks" / "000000.h5", "r+") as file:
        file["S"][...] *= 1 + 1e-6
        for k in range(3):
            file["checksum"][k] = checksum(file["Z"][k], file["S"][k])
    result = verify_dataset(Dataset(copy), sample=40)
    assert result.problems and all("recomputed, S differs by 1.0e-06" in p for p in result.problems)
    assert {int(p.split()[1].rstrip(",")) for p in result.problems} <= {0, 1, 2}


def test_split_and_merge_again(data, tmp_path):
    parts = split_dataset(data, tmp_path / "parts")
    whole = Dataset(data)
    for name, realizations in whole.split()._asdict().items():
        part = Dataset(parts[name])
        assert content(part, range(len(part))) == content(whole, realizations)
    merged = Dataset(merge_datasets(list(parts.values()), tmp_path / "merged"))
    assert content(merged, range(10)) == content(whole, range(10))
    assert verify_dataset(merged, sample=0).problems == []
    with h5py.File(merged.path / INDEX) as file:
        assert file["done"][...].all() and file.attrs["made_by"] == "merge"
        np.testing.assert_array_equal(file["S"][...], whole.matrices(range(10)))
    with pytest.raises(InputError, match="was made by 'merge'; it cannot be resumed"):
        generate(load_config(None, SETTINGS), merged.path, resume=True)


def test_merge_of_seeds(data, tmp_path):
    other = make(tmp_path / "other", "dataset.seed=1", "dataset.realizations=4")
    merged = Dataset(merge_datasets([data, other], tmp_path / "merged"))
    assert len(merged) == 14
    assert content(merged, range(10, 14)) == content(Dataset(other), range(4))
    assert merged.column("origin", range(9, 12)).tolist() == [[0, 9], [1, 0], [1, 1]]
    assert ("seeds", "0, 1") in describe(merged.path)


def test_refusals(data, copy, tmp_path):
    with pytest.raises(InputError, match="realization 0 of seed 0 is in two"):
        merge_datasets([data, copy], tmp_path / "m")
    with pytest.raises(InputError, match="at least two datasets, got 1"):
        merge_datasets([data], tmp_path / "m")
    for setting, name in (("grid.ell=2", "grid"), ("field.variance=1.0", "field"), ("dataset.dtype=float32", "dtype")):
        other = make(tmp_path / name, "dataset.seed=1", "dataset.realizations=1", setting)
        with pytest.raises(InputError, match=f"must have the same {name}"):
            merge_datasets([data, other], tmp_path / "m")
    second = make(tmp_path / "second", "dataset.seed=2")
    with pytest.raises(InputError, match="already holds a dataset"):
        merge_datasets([data, second], tmp_path / "grid")
    with pytest.raises(InputError, match="is one of the sources"):
        merge_datasets([data, second], data, overwrite=True)
    with h5py.File(copy / "blocks" / "000003.h5", "r+") as file:
        file["S"][0, 0, 0, 0] += 1.0
    with pytest.raises(InputError, match="realization 9 has another checksum"):
        merge_datasets([copy, second], tmp_path / "m")
    assert not (tmp_path / "m").exists(), "half a dataset was left behind"


def test_description_of_an_unfinished_dataset(copy):
    (copy / "blocks" / "000001.h5").unlink()
    rows = dict(describe(copy))
    assert rows["realizations"] == "7 of 10 finished"
    assert rows["bytes a realization"] == "8704 (field 512, local matrices 8192)"
