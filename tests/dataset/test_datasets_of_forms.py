"""Datasets of the Galerkin form and with loads: what they hold, checked by the other method; made, damaged, joined."""

from __future__ import annotations

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
from nnlod_fenics.problem import Problem

FORMS = ["petrov-galerkin", "galerkin"]
BOTH = ["dataset.form=galerkin", "dataset.loads=true"]
GRID = Grid(2, 3, 12, 1, coefficient=6)
GRIDS = {
    "interval": Grid(1, 5, 20, 1, coefficient=10),
    "square": GRID,
    "hole": Grid(2, (5, 3), (20, 12), 1, (10, 6), (2.5, 1.5), ("xmin",), np.arange(15).reshape(3, 5) != 7),
}


def make(folder: Path, *settings: str, grid: Grid = GRID, realizations: int = 4, **options) -> Path:
    given = ["field.correlation_length=0.4", f"dataset.realizations={realizations}", "dataset.seed=3", *settings]
    return generate(load_config(None, given), folder, grid=grid, **options)


def change(folder: Path, k: int, name: str, at: tuple[int, ...], by: float, mend: bool = True) -> None:
    """Change a number of a block of two; mend: as someone does who knows of the checksum."""
    with h5py.File(folder / "blocks" / f"{k // 2:06d}.h5", "r+") as file:
        file[name][(k % 2, *at)] += by
        if mend:
            names = [own for own in ("Z", "S", "K", "b") if own in file]
            file["checksum"][k % 2] = checksum(*(file[own][k % 2] for own in names))


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return make(tmp_path_factory.mktemp("data") / "d", *BOTH)


@pytest.fixture
def copy(data, tmp_path) -> Path:
    return Path(shutil.copytree(data, tmp_path / "copy"))


@pytest.mark.parametrize("loads", [False, True], ids=["", "loads"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", GRIDS)
def test_content(tmp_path, name, form, loads):
    """By the other method; loads are those of f = 1 with source correctors."""
    grid = GRIDS[name]
    settings = [f"dataset.form={form}", f"dataset.loads={str(loads).lower()}"]
    folder = make(tmp_path / "d", *settings, grid=grid, realizations=2)
    dataset, letter = Dataset(folder), "K" if form == "galerkin" else "S"
    assert dataset.form == form and dataset.has_loads == loads and dataset.grid == grid
    exact, load = local_matrices(grid, dataset.A(1), "dolfinx", form=form, source=Problem(1.0))
    np.testing.assert_allclose(getattr(dataset, letter)(1), exact, rtol=0, atol=1e-12 * np.abs(exact).max())
    found = verify_dataset(dataset, sample=20)
    assert found.problems == [] and found.recomputed > 8 and 0 < found.largest_difference < 1e-11
    Z, matrices = dataset.arrays(range(2))
    assert Z.shape == (2, *grid.coefficient_shape) and matrices.shape == (2, *exact.shape[:2], exact.shape[2] + loads)
    if loads:
        np.testing.assert_allclose(dataset.b(1), load, rtol=0, atol=1e-12 * np.abs(load).max())
        assert np.array_equal(matrices[1, :, :, -1], dataset.b(1))
    with h5py.File(folder / INDEX) as file:  # plain h5py, no code of ours
        assert file[letter].shape == (2, *exact.shape) and ("b" in file) == loads
        expected = 3 if loads or letter == "K" else 1 if grid.unit_cube else 2
        assert file.attrs["layout_version"] == expected
        for column in file:
            assert len(file[column].attrs["axes"].split(", ")) == file[column].ndim


def test_what_former_versions_know_is_stated_as_they_do(tmp_path):
    """So that they read, resume and merge it: neither form nor loads."""
    former = ["form", "loads"]
    config = Dataset(make(tmp_path / "d", realizations=1)).config["dataset"]
    assert not set(former) & set(config)
    assert set(former) <= set(Dataset(make(tmp_path / "k", *BOTH, realizations=1)).config["dataset"])


def test_what_is_not_there(data, tmp_path):
    with pytest.raises(InputError, match=r"has no S: its form is 'galerkin'\."):
        Dataset(data).S(0)
    plain = Dataset(make(tmp_path / "d", realizations=1))
    with pytest.raises(InputError, match=r"has no K: its form is 'petrov-galerkin'\."):
        plain.K(0)
    with pytest.raises(InputError, match=r"has no loads: it was generated without dataset\.loads\."):
        plain.b(0)


def test_single_precision(data, tmp_path):
    dataset = Dataset(make(tmp_path / "d", *BOTH, "dataset.dtype=float32"))
    assert dataset.K(0).dtype == dataset.b(0).dtype == np.float32
    np.testing.assert_allclose(dataset.K(0), Dataset(data).K(0), rtol=0, atol=1e-5)
    assert verify_dataset(dataset, sample=8).problems == []


def test_described(data):
    told = dict(describe(data))
    assert told["form"] == "galerkin, with loads"
    assert told["samples"].startswith("36 of 36 inputs, 272 outputs")
    assert told["bytes a realization"] == "19872 (field 288, element energy matrices 18432, loads 1152)"


# -- damaged --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["K", "b"])
def test_a_flipped_bit_is_told(copy, name):
    """By HDF5 where the file was hit; by the checksum where somebody wrote into it."""
    path, dataset = copy / "blocks" / "000000.h5", Dataset(copy)
    stored = dataset.column(name, [1])[0].tobytes()
    content = bytearray(path.read_bytes())
    content[content.index(stored) + 100] ^= 1
    whole = path.read_bytes()
    path.write_bytes(content)
    assert [p[:30] for p in verify_dataset(dataset, 0).problems] == ["realization 1 cannot be read: "]
    with pytest.raises(InputError, match="block 0 cannot be read"):
        dataset.arrays([1])
    path.write_bytes(whole)
    change(copy, 1, name, (4, 5, 5)[: 2 + (name == "K")], 1e-15, mend=False)
    assert verify_dataset(dataset, 0).problems == ["realization 1 has another checksum than when it was stored."]
    with pytest.raises(InputError, match="realization 1 has another checksum"):
        dataset.arrays([0, 1])


def test_wrong_matrices_are_told(copy):
    """Each breaks one thing only: a sum; symmetry at right sums; a sign; the loads."""
    change(copy, 0, "K", (4, 5, 5), 1e-3)
    cycle = {(5, 6): 1.0, (6, 9): 1.0, (9, 5): 1.0, (6, 5): -1.0, (9, 6): -1.0, (5, 9): -1.0}
    for at, by in cycle.items():
        change(copy, 1, "K", (4, *at), 1e-3 * by)
    size = float(Dataset(copy).K(2)[4].max())
    for at, by in {(0, 0): -1.0, (15, 15): -1.0, (0, 15): 1.0, (15, 0): 1.0}.items():
        change(copy, 2, "K", (4, *at), size * by)
    change(copy, 3, "b", (4, 5), 1e-3)
    problems = verify_dataset(Dataset(copy), sample=0).problems
    words = ("row or column sums of", "not symmetric", "not positive semidefinite: an", "loads whose sum")
    assert len(problems) == 4
    for k, (problem, expected) in enumerate(zip(problems, words, strict=True)):
        assert problem.startswith(f"realization {k} has ") and expected in problem


def test_what_only_the_other_method_sees(copy):
    """A factor; and loads of the right sum."""
    with h5py.File(copy / "blocks" / "000000.h5", "r+") as file:
        file["K"][0] = file["K"][0] * (1 + 1e-6)
        file["checksum"][0] = checksum(file["Z"][0], file["K"][0], file["b"][0])
    for at, by in ((5, 1e-3), (6, -1e-3)):
        change(copy, 1, "b", (4, at), by)
    problems = verify_dataset(Dataset(copy), sample=100).problems
    assert problems[0].startswith("realization 0, element ") and problems[0].endswith("K differs by 1.0e-06.")
    assert problems[-1].startswith("realization 1, element 4: recomputed, b differs by ")


# -- resumed, joined, divided -----------------------------------------------------------------------------------


def test_resumed_is_the_same(data, copy):
    (copy / "blocks" / "000001.h5").unlink()
    make(copy, *BOTH, resume=True)
    for own, whole in zip(Dataset(copy).arrays(range(4)), Dataset(data).arrays(range(4)), strict=True):
        assert np.array_equal(own, whole)
    for settings, words in (
        (["dataset.loads=true"], r"dataset\.form \('galerkin', now 'petrov-galerkin'\)"),
        (["dataset.form=galerkin"], r"dataset\.loads \(True, now False\)"),
    ):
        with pytest.raises(InputError, match=f"another {words}"):
            make(copy, *settings, resume=True)


def test_joined_and_split(data, tmp_path):
    whole, other = Dataset(data), make(tmp_path / "other", *BOTH, "dataset.seed=4")
    merged = Dataset(merge_datasets([data, other], tmp_path / "merged"))
    assert np.array_equal(merged.K(6), Dataset(other).K(2)) and np.array_equal(merged.b(1), whole.b(1))
    assert verify_dataset(merged, sample=2).problems == []
    parts = split_dataset(data, tmp_path / "parts")
    assert np.array_equal(Dataset(parts["test"]).b(0), whole.b(3))
    for settings, word in ((["dataset.loads=true"], "form"), (["dataset.form=galerkin"], "loads")):
        with pytest.raises(InputError, match=f"must have the same {word}, but"):
            merge_datasets([data, make(tmp_path / word, *settings, "dataset.seed=5")], tmp_path / "no")
