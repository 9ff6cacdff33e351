"""Patches served to training: those of the grid, each once, from memory, from files, and fresh."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from nnlod_fenics import Grid, InputError, local_matrices
from nnlod_fenics.config import load_config
from nnlod_fenics.dataset import Dataset
from nnlod_fenics.dataset.generate import generate
from nnlod_fenics.dataset.online import OnlineDataset
from nnlod_fenics.dataset.patches import Patches, PatchStream, load_patches, patch_bytes
from nnlod_fenics.fields import make_field

SETTINGS = [
    "grid.coarse=4",
    "grid.fine=8",
    "grid.coefficient=8",
    "grid.ell=1",
    "field.correlation_length=0.2",
    "dataset.realizations=7",
]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Dataset:
    return Dataset(generate(load_config(None, SETTINGS), tmp_path_factory.mktemp("data") / "d"))


def random_arrays(grid: Grid, count: int, rng: np.random.Generator):
    Z = rng.standard_normal((count, *grid.coefficient_shape))
    return Z, rng.standard_normal((count, grid.num_elements, *grid.local_matrix_shape))


def labels(batches) -> np.ndarray:
    """One number of each patch's matrix, which tells the patches apart."""
    return np.concatenate([batch.S[:, 3, 1] for batch in batches])


@pytest.mark.parametrize(
    "grid", [Grid(1, 5, 10, 2), Grid(2, 3, 12, 1, 6), Grid(2, 4, 4, 2), Grid(2, 3, 6, 0), Grid(3, 3, 6, 1)], ids=str
)
def test_patches_are_those_of_the_grid(grid, rng):
    Z, S = random_arrays(grid, 3, rng)
    patches = Patches(grid, Z, S, dtype=torch.float64)
    assert len(patches) == 3 * grid.num_elements
    order = rng.permutation(len(patches))
    batch = patches[order]
    inside = np.tile(grid.cut_patches(np.ones(grid.coefficient_shape)), (3,) + (1,) * grid.dim)
    np.testing.assert_array_equal(batch.Z, np.concatenate([grid.cut_patches(z) for z in Z])[order])
    np.testing.assert_array_equal(batch.inside, inside[order])
    np.testing.assert_array_equal(batch.S, S.reshape(-1, *grid.local_matrix_shape)[order])


def test_batches_shuffle_across_realizations(rng):
    grid = Grid(2, 4, 8, 1)
    Z, S = random_arrays(grid, 10, rng)
    patches = Patches(grid, Z, S, dtype=torch.float64)
    stored, expected = labels(patches.batches(33)), S[:, :, 3, 1].ravel()
    np.testing.assert_array_equal(stored, expected)
    first, second = (list(patches.batches(40, torch.Generator().manual_seed(seed))) for seed in (0, 1))
    assert [len(batch.S) for batch in first] == [40, 40, 40, 40]
    for shuffled in (first, second):
        np.testing.assert_array_equal(np.sort(labels(shuffled)), np.sort(expected))
    assert not np.array_equal(labels(first), labels(second))
    of_first_batch = np.isin(S[:, :, 3, 1], labels(first[:1])).any(axis=1)
    assert of_first_batch.sum() > 7  # 40 of 160 patches miss a given realization with probability below 1 %
    np.testing.assert_array_equal(
        labels(patches.batches(40, torch.Generator().manual_seed(0), start=2)), labels(first[2:])
    )


def test_torch_data_interface(dataset):
    patches = Patches.of(dataset, range(7))
    single = patches[20]
    assert single.Z.shape == (6, 6) and torch.equal(single.S, patches[[20]].S[0])
    loaded = list(DataLoader(patches, batch_size=16, collate_fn=lambda batch: batch))
    assert torch.equal(torch.cat([batch.Z for batch in loaded]), torch.cat([b.Z for b in patches.batches(50)]))
    again = pickle.loads(pickle.dumps(dataset))  # what a worker process gets
    np.testing.assert_array_equal(again.S(3), dataset.S(3))


def test_stream_of_a_dataset_larger_than_memory(dataset):
    each = patch_bytes(dataset.grid) + sum(dataset.realization_bytes.values())
    stream = load_patches(dataset, range(7), memory=3 * each)
    resident = load_patches(dataset, range(7), memory=7 * each)
    assert isinstance(stream, PatchStream) and stream.group == 3 and isinstance(resident, Patches)
    assert len(stream) == len(resident) == 7 * 16
    np.testing.assert_array_equal(labels(stream.batches(10)), labels(resident.batches(10)))
    shuffled = labels(stream.batches(10, torch.Generator().manual_seed(0)))
    np.testing.assert_array_equal(np.sort(shuffled), np.sort(labels(resident.batches(10))))
    first_group = np.isin(dataset.matrices(range(7)).astype(np.float32)[:, :, 3, 1], shuffled[:48]).all(axis=1)
    assert first_group.sum() == 3 and not first_group[:3].all()  # three realizations, drawn at random (seeded)


def test_shapes_are_checked(rng):
    grid = Grid(2, 4, 8, 1)
    Z, S = random_arrays(grid, 2, rng)
    with pytest.raises(InputError, match=r"S must have shape \(2, 16, 16, 4\)"):
        Patches(grid, Z, S[:1])
    with pytest.raises(InputError, match=r"Z must have shape \(2, 8, 8\), got \(2, 8, 7\)"):
        Patches(grid, Z[..., :7], S)


@pytest.mark.parametrize("kind", ["lognormal", "hierarchical", "uniform"])
def test_online_realizations_are_fresh_and_right(kind):
    pytest.importorskip("dolfinx")
    grid = Grid(2, 4, 8, 1)
    law = make_field({"kind": kind}, 2, 8)
    online = OnlineDataset(grid, law, seed=3, realizations=4, pool=3)
    Z, S = online(0)
    for field, matrices in zip(Z, S, strict=True):
        np.testing.assert_allclose(matrices, local_matrices(grid, np.exp(field), method="dolfinx"), atol=1e-12)
    epochs = [list(online.epoch(number, 10, torch.Generator().manual_seed(0))) for number in (0, 1, 0)]
    drawn = [labels(epoch) for epoch in epochs]
    assert len(online) == len(drawn[0]) == 64
    np.testing.assert_array_equal(np.sort(drawn[0]), np.sort(S[:, :, 3, 1].astype(np.float32).ravel()))
    np.testing.assert_array_equal(drawn[0], drawn[2])
    assert not np.isin(drawn[0][drawn[0] != 0], drawn[1]).any()
    stored = [law.sample(3, k).Z for k in range(4)]  # what a dataset of the same seed holds
    assert not any(np.array_equal(a, b) for a in Z for b in stored)
    with pytest.raises(InputError, match="realizations must be at least 1"):
        OnlineDataset(grid, law, seed=3, realizations=0)
