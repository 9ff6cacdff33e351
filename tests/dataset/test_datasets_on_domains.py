"""Datasets on boxes and parts of them: made, resumed, checked, joined and read; and files of the former layout."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from nnlod_fenics import Grid, InputError, local_matrices
from nnlod_fenics.config import load_config
from nnlod_fenics.dataset import Dataset
from nnlod_fenics.dataset.combine import merge_datasets, split_dataset
from nnlod_fenics.dataset.describe import describe
from nnlod_fenics.dataset.generate import generate
from nnlod_fenics.dataset.layout import INDEX, checksum
from nnlod_fenics.dataset.verify import verify_dataset
from nnlod_fenics.fields import make_field

FORMER = Path(__file__).parents[1] / "data" / "version1"
SETTINGS = ["field.correlation_length=[0.5, 0.3]", "dataset.realizations=5", "dataset.seed=3"]


def with_hole() -> Grid:
    """A box of 6 x 4 elements with a hole of two, and no flow through its lower and right side."""
    active = np.ones((4, 6), dtype=bool)
    active[1:3, 2] = False
    return Grid(2, (6, 4), (24, 16), 1, (12, 8), (3.0, 2.0), ("xmin", "ymax"), active)


GRID = with_hole()


def make(folder: Path, *settings: str, grid: Grid = GRID, **options) -> Path:
    return generate(load_config(None, [*SETTINGS, *settings]), folder, grid=grid, **options)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return make(tmp_path_factory.mktemp("data") / "d")


@pytest.fixture
def copy(data, tmp_path) -> Path:
    return Path(shutil.copytree(data, tmp_path / "copy"))


def test_content(data):
    dataset = Dataset(data, grid=GRID)
    assert dataset.grid == GRID and dataset.grid.inactive == GRID.inactive
    law = make_field(dataset.field_settings, 2, (12, 8), (3.0, 2.0))
    for k in range(5):
        Z = law.sample(3, k).Z
        assert Z.shape == (8, 12) and np.array_equal(dataset.Z(k), Z)  # in the hole, too
        exact = local_matrices(GRID, np.exp(Z), method="dolfinx")
        np.testing.assert_allclose(dataset.S(k), exact, atol=1e-11 * np.abs(exact).max())
        assert not dataset.S(k)[~GRID.active.ravel()].any()
    Z, S = dataset.arrays(range(5))
    assert Z.shape == (5, 8, 12) and S.shape == (5, 24, 16, 4)


def test_resumed_is_the_same(data, copy):
    whole = Dataset(data).matrices(range(5))
    (copy / "blocks" / "000001.h5").unlink()
    make(copy, resume=True)
    assert np.array_equal(Dataset(copy).matrices(range(5)), whole)
    other = Grid.from_dict(GRID.as_dict() | {"inactive": [[9, 10]]})
    with pytest.raises(InputError, match=r"another grid\.inactive \(\[\[8, 9\], \[14, 15\]\], now \[\[9, 10\]\]\)"):
        make(copy, grid=other, resume=True)
    with pytest.raises(InputError, match=r"2 inactive elements\), not for Grid.* 1 inactive elements\)"):
        Dataset(copy, grid=other)
    moved = Grid.from_dict(GRID.as_dict() | {"inactive": [[9, 10], [14, 15]]})
    with pytest.raises(InputError, match=r"elements, element 8 inactive\), not for .*elements, element 8 active\)"):
        Dataset(copy, grid=moved)


def test_verified(data, copy):
    found = verify_dataset(Dataset(data), sample=40)
    assert found.problems == [] and found.recomputed > 20 and found.largest_sum < 1e-12
    with h5py.File(copy / "blocks" / "000000.h5", "r+") as file:
        S = file["S"][...]
        S[0, 8, 0, 0] = 1.0
        file["S"][...] = S
        file["checksum"][0] = checksum(file["Z"][0], S[0])
    problems = verify_dataset(Dataset(copy), sample=0).problems
    assert problems == ["realization 0 has a local matrix of an inactive element that is not 0."]


def test_described(data):
    told = dict(describe(data))
    expected = "dim 2, coarse [6, 4], fine [24, 16], ell 1, coefficient [12, 8], lengths [3.0, 2.0], "
    assert told["grid"] == expected + "dirichlet ['xmin', 'ymax'], inactive 2 elements"
    assert told["samples"].startswith("110 of 36 inputs")


def test_joined_and_split(data, tmp_path):
    other = make(tmp_path / "other", "dataset.seed=4")
    merged = Dataset(merge_datasets([data, other], tmp_path / "merged"))
    assert merged.grid == GRID and np.array_equal(merged.S(7), Dataset(other).S(2))
    parts = split_dataset(tmp_path / "merged", tmp_path / "parts")
    assert all(Dataset(part).grid == GRID for part in parts.values())
    whole = Grid.from_dict({key: value for key, value in GRID.as_dict().items() if key != "inactive"})
    box = make(tmp_path / "box", "dataset.realizations=2", grid=whole)
    with pytest.raises(InputError, match=r"must have the same grid, but .*2 inactive elements\) and .*'ymax'\]\)\."):
        merge_datasets([data, box], tmp_path / "no")


@pytest.mark.parametrize("dim", [1, 3])
def test_other_dimensions(tmp_path, dim):
    counts = (5, 3, 4)[:dim]
    active = np.ones(counts[::-1], dtype=bool)
    active.flat[active.size - 1] = False
    grid = Grid(dim, counts, [2 * n for n in counts], 1, lengths=counts, dirichlet=["xmin"], active=active)
    folder = make(tmp_path / "d", "field.correlation_length=0.3", "dataset.realizations=1", grid=grid)
    assert Dataset(folder).grid == grid and verify_dataset(Dataset(folder), sample=2).problems == []


def test_masks_larger_than_an_attribute(tmp_path):
    """HDF5 refuses attributes of 64 KiB and more."""
    active = np.ones((128, 128), dtype=bool)
    active[1::2, 1::2] = False
    grid = Grid(2, 128, 384, 0, 128, dirichlet=["xmin"], active=active)
    folder = make(tmp_path / "d", "field.correlation_length=0.3", "dataset.realizations=1", grid=grid)
    assert Dataset(folder).grid == grid
    with h5py.File(folder / INDEX) as file:
        assert json.loads(file["config"][()])["grid"] == grid.as_dict() and file.attrs["layout_version"] == 2
    make(folder, "field.correlation_length=0.3", "dataset.realizations=1", grid=grid, resume=True)


# -- what is stored ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"coarse": [6, 5]}, "coarse must divide coefficient"),
        ({"coarse": [6]}, "coarse must be an integer or 2 integers"),
        ({"coarse": None}, "coarse must be an integer"),
        ({"lengths": "long"}, "lengths must be 2 positive numbers"),
        ({"dirichlet": ["top"]}, "dirichlet must name faces"),
        ({"dirichlet": 7}, "dirichlet must be a list of faces"),
        ({"inactive": [[8, 9], [14, 99]]}, "inactive must hold increasing runs"),
        ({"inactive": 3}, "inactive must hold increasing runs"),
        ({"inactive": [[0, 24]]}, "active must hold at least one element"),
        ({"holes": []}, "grid has no 'holes'"),
        (None, "damaged"),
        ([1], "damaged"),
    ],
)
def test_bad_grids(copy, change, message):
    with h5py.File(copy / INDEX, "r+") as file:
        config = json.loads(file.attrs["config"])
        config["grid"] = config["grid"] | change if isinstance(change, dict) else change
        file.attrs["config"] = json.dumps(config)
    with pytest.raises(InputError, match=message) as caught:
        Dataset(copy)
    assert str(caught.value).startswith(f"dataset {str(copy)!r} is damaged: its grid is none")
    assert str(caught.value).count(". ") == 0 and str(caught.value).endswith(").")


def test_datasets_of_the_unit_cube_keep_their_layout(tmp_path):
    grid = Grid(2, 2, 8, 1, coefficient=4)
    folder = make(tmp_path / "d", "field.correlation_length=0.3", "dataset.realizations=1", grid=grid)
    for path, version in ((folder, 1), (tmp_path / "box", 2)):
        if version == 2:
            make(path, grid=Grid(2, (2, 1), (8, 4), 1, coefficient=(4, 2)))
        with h5py.File(path / INDEX) as file:
            assert file.attrs["layout_version"] == version


def test_a_dataset_of_version_1(tmp_path):
    """Read, verified and finished."""
    folder = Path(shutil.copytree(FORMER / "dataset", tmp_path / "d"))
    dataset = Dataset(folder)
    assert dataset.grid == Grid(2, 2, 8, 1, coefficient=4) and dataset.grid.unit_cube and len(dataset) == 3
    assert verify_dataset(dataset, sample=4).problems == []
    Z, S = dataset.arrays(range(3))
    np.testing.assert_allclose(local_matrices(dataset.grid, np.exp(Z)), S, rtol=0, atol=1e-13 * np.abs(S).max())
    (folder / "blocks" / "000001.h5").unlink()
    settings = load_config(
        None,
        [
            "grid.coarse=2",
            "grid.fine=8",
            "grid.coefficient=4",
            "grid.ell=1",
            "dataset.realizations=3",
            "field.correlation_length=0.3",
        ],
    )
    generate(settings, folder, resume=True)
    again = Dataset(folder).matrices(range(3))
    assert np.array_equal(again[:2], S[:2])
    np.testing.assert_allclose(again[2], S[2], rtol=0, atol=1e-13 * np.abs(S).max())
