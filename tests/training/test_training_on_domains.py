"""Training on boxes and parts of them: what is drawn, what counts in the loss, and models that come out of it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from windows import cut, samples

from nnlod_fenics import NNLOD, Grid, InputError, local_matrices
from nnlod_fenics.config import TrainingSettings
from nnlod_fenics.dataset.domains import draw_domain
from nnlod_fenics.fields import make_field
from nnlod_fenics.network import build_network, matrix_errors
from nnlod_fenics.solvers import solve
from nnlod_fenics.training import Blocks, TrainingData, train
from nnlod_fenics.training.augment import symmetries_of, turned
from nnlod_fenics.training.fit import evaluate_loss
from nnlod_fenics.training.online import OnlineDataset
from nnlod_fenics.window import Window, domain_marks
from nnlod_fenics.workflows.evaluate import evaluate

ACTIVE = np.ones((4, 6), dtype=bool)
ACTIVE[:2, 4:] = ACTIVE[3, 1] = False  # a corner of the size of a block, and a hole at the rim
GRID = Grid(2, (6, 4), (24, 16), 1, (12, 8), (3.0, 2.0), ("xmin", "ymax"), ACTIVE)
WINDOW = Window.of(GRID)
OPTIONS = {"structured": {"channels": 4, "means": 4}, "paper": {"widths": [16]}}


def fields(grid: Grid, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    law = make_field({"correlation_length": 0.5}, grid.dim, grid.coefficient, grid.lengths)
    Z = np.stack([law.sample(seed, k).Z for k in range(count)])
    return Z, local_matrices(grid, np.exp(Z))


def data_on(grid: Grid) -> TrainingData:
    train, validation, test = (fields(grid, count, seed) for count, seed in ((12, 0), (3, 1), (3, 2)))
    return TrainingData(grid, train, validation, test, {"field": {"correlation_length": 0.5}, "seed": 0})


@pytest.fixture(scope="module")
def data() -> TrainingData:
    return data_on(GRID)


@pytest.mark.parametrize(("block", "count"), [(1, 19), (2, 5), ((6, 4), 1), ((3, 2), 4), ((2, 4), 3)])
def test_blocks_hold_what_is_cut_from_the_fields(data, block, count):
    """Every active element once; blocks without any are left out."""
    Z, S = data.train
    numbers = np.arange(len(Z) * GRID.num_elements).reshape(len(Z), -1)
    marked = np.broadcast_to(numbers[..., None, None], S.shape) * GRID.active.reshape(-1, 1, 1)
    blocks = Blocks(WINDOW, samples(GRID, Z, marked), block, dtype=torch.float64)
    assert len(blocks) == count * len(Z) and blocks.count_active(torch.arange(len(blocks))) == 19 * len(Z)
    sizes, step = blocks.block, GRID.cells_per_element
    seen, windows = [], [cut(GRID, field) for field in Z]
    for batch in blocks.batches(24, np.random.default_rng(0).permutation(len(blocks))):
        found = batch.S[:, 0, 0].numpy().astype(int)
        seen += found[found > 0].tolist()
        for number, position in zip(found, np.ndindex(len(batch.Z), *sizes[::-1]), strict=True):
            if number:
                realization, element = divmod(int(number), GRID.num_elements)
                for values, expected, width in zip(batch[:2], windows[realization], (step, 1), strict=True):
                    place = (position[0], *(slice(p * width, (p + 3) * width) for p in position[1:]))
                    np.testing.assert_array_equal(values[place].float(), expected[element])
    active = numbers[:, GRID.active_elements].ravel()
    assert sorted(seen) == sorted(active[active > 0].tolist())


@pytest.mark.parametrize("block", [0, 3, 4, (2, 3), (2,), (6, 4, 1)])
def test_blocks_divide_every_count(data, block):
    with pytest.raises(InputError, match=r"block must divide coarse=\[6, 4\], got"):
        Blocks(WINDOW, samples(GRID, *data.test), block)
    if isinstance(block, int) and block:
        settings = TrainingSettings(epochs=1, block=block)
        with pytest.raises(InputError, match=rf"training\.block must divide coarse=\[6, 4\], got {block}"):
            train(data, "never", "structured", OPTIONS["structured"], settings)


@pytest.mark.parametrize("name", ["structured", "paper"])
def test_trained_evaluated_and_used(data, tmp_path, name):
    settings = TrainingSettings(epochs=8, batch_size=16, learning_rate=5e-3, augment=True)
    model = NNLOD.load(train(data, tmp_path / "m", name, OPTIONS[name], settings), grid=GRID)
    history = json.loads((tmp_path / "m" / "loss.json").read_text())
    assert history[-1]["train"] < 0.9 * history[0]["train"] and np.isfinite(history[-1]["validation"])
    Z, S = data.test
    errors = matrix_errors(model.predict(GRID, np.exp(Z)).numpy(), S)[:, GRID.active_elements]
    if name == "structured":  # the rows of other networks outside D count in the loss only
        for block in (1, GRID.coarse):
            loss = evaluate_loss(model.network, Blocks(WINDOW, samples(GRID, Z, S), block))
            assert loss == pytest.approx(np.mean(errors**2), rel=1e-4)
        assert model.test_loss == pytest.approx(np.mean(errors**2), rel=1e-4)
    assert model.test_loss > 0.99 * np.mean(errors**2)
    estimates = model.error_estimates(GRID, np.exp(Z[0]))
    assert (estimates > 0).ravel().tolist() == GRID.active.ravel().tolist()
    solution = solve(GRID, np.exp(Z[0]), "nn", 1.0, g={"xmin": 1.0}, model=model)
    assert np.array_equal(np.isnan(solution.u), ~GRID.active_nodes)
    low, high = model.description["training_set"]["range_of_Z"]
    assert low == data.train[0][:, GRID.active_cells].min() and high == data.train[0][:, GRID.active_cells].max()


def test_evaluation_of_a_model_of_a_domain(data, tmp_path):
    """By all methods, with figures and files, on a box with holes and no-flow faces."""
    model = NNLOD.load(train(data, tmp_path / "m", "structured", OPTIONS["structured"], TrainingSettings(epochs=1)))
    found = evaluate(model, tmp_path / "evaluation", seed=1)
    assert found["grid"] == GRID.as_dict()
    assert all(np.isfinite(value) for value in found["errors"].values())
    written = {path.name for path in (tmp_path / "evaluation").iterdir()}
    assert written >= {"coefficient.png", "solutions.png", "differences.png", "evaluation.json", "paraview"}


def test_inactive_cells_do_not_matter(data, tmp_path):
    """Other values there, the same losses and weights."""
    settings = TrainingSettings(epochs=2, batch_size=16)
    other = [(np.where(GRID.active_cells, Z, 50.0), S) for Z, S in (data.train, data.validation, data.test)]
    changed = replace(data, train=other[0], validation=other[1], test=other[2])
    losses = []
    for name, given in (("m", data), ("n", changed)):
        train(given, tmp_path / name, "structured", OPTIONS["structured"], settings)
        losses.append([e["validation"] for e in json.loads((tmp_path / name / "loss.json").read_text())])
        losses.append(NNLOD.load(tmp_path / name).test_loss)
    assert losses[:2] == losses[2:]


def test_training_starts_from_the_mean_matrix(data):
    network = build_network("structured", WINDOW, seed=0, **OPTIONS["structured"])
    before = evaluate_loss(network, Blocks(WINDOW, samples(GRID, *data.test)))
    network.start_from(*Blocks(WINDOW, samples(GRID, *data.train), GRID.coarse)[torch.arange(8)][:3])
    assert evaluate_loss(network, Blocks(WINDOW, samples(GRID, *data.test))) < 0.5 * before


def test_fields_with_domains_of_their_own(tmp_path):
    """Trained, tested and refitted with the marks of each field: the losses are those of models of each domain."""
    box = Grid(2, 4, 8, 1, coefficient=8)
    grids = [draw_domain(box, 0.7, 0, k) for k in range(14)]
    assert len(set(grids)) > 7
    Z = np.random.default_rng(0).standard_normal((14, 8, 8))
    S = np.stack([local_matrices(grid, np.exp(field)) for grid, field in zip(grids, Z, strict=True)])
    marks = np.stack([domain_marks(grid) for grid in grids])
    arrays = [(Z[part], S[part], marks[part]) for part in (slice(8), slice(8, 11), slice(11, 14))]
    data = TrainingData(box, *arrays, {"field": {}})
    settings = TrainingSettings(epochs=4, batch_size=16, augment=True)
    model = NNLOD.load(train(data, tmp_path / "m", "structured", OPTIONS["structured"], settings))
    squares, active = [], []
    for k in range(11, 14):
        squares.append(matrix_errors(model.local_matrices(grids[k], np.exp(Z[k])), S[k]) ** 2)
        active.append(grids[k].active.ravel())
        estimates = model.error_estimates(grids[k], np.exp(Z[k]))
        assert np.array_equal(estimates > 0, active[-1])
    assert model.test_loss == pytest.approx(np.concatenate(squares)[np.concatenate(active)].mean(), rel=1e-4)
    history = json.loads((tmp_path / "m" / "loss.json").read_text())
    assert history[-1]["train"] < history[0]["train"]
    swapped = data.samples((Z[11:], S[11:], np.roll(marks[11:], 1, axis=0)))
    assert evaluate_loss(model.network, Blocks(data.window, swapped)) != pytest.approx(model.test_loss, rel=1e-2)


def test_fresh_realizations():
    law = make_field({"correlation_length": 0.5}, 2, GRID.coefficient, GRID.lengths)
    Z, S = OnlineDataset(GRID, law, seed=3, realizations=2).arrays(range(2))
    exact = local_matrices(GRID, np.exp(Z.numpy()))
    np.testing.assert_allclose(S, exact, atol=1e-12 * np.abs(exact).max())
    assert not S[:, ~GRID.active.ravel()].any()


def test_samples_of_elements_that_are_no_cubes_are_turned_by_their_own_symmetries(rng):
    """Exact local matrices of turned fields are turned ones, on a box of four by four elements."""
    grid = Grid(2, 4, 8, 1, 8, (1.0, 3.0))
    window = Window.of(grid)
    assert symmetries_of(Window.of(Grid(2, 4, 8, 1))).tolist() == list(range(8)) and len(symmetries_of(window)) == 4
    assert len(symmetries_of(Window.of(Grid(3, 2, 4, 1, lengths=(1, 2, 1))))) == 16
    Z = rng.standard_normal(grid.coefficient_shape)
    S = local_matrices(grid, np.exp(Z))
    seen = set()
    for g in symmetries_of(window):
        batch = Blocks(window, samples(grid, Z[None], S[None]), 4, dtype=torch.float64)[torch.arange(1)]
        moved = turned(window, batch, 4, torch.tensor([g]))
        turned_Z = moved.Z[0, 2:-2, 2:-2].numpy()
        seen.add(turned_Z.tobytes())
        np.testing.assert_allclose(moved.S.numpy(), local_matrices(grid, np.exp(turned_Z)), atol=1e-10)
    assert len(seen) == 4


def test_elements_that_are_no_cubes(tmp_path):
    grid = Grid(2, 4, 8, 1, 8, (1.0, 3.0))
    with pytest.raises(
        InputError, match=r"needs coarse elements that are cubes, got sides in the ratio \(0\.577.*, 1\.732"
    ):
        build_network("structured", Window.of(grid))
    model = NNLOD.load(train(data_on(grid), tmp_path / "m", "paper", OPTIONS["paper"], TrainingSettings(epochs=1)))
    assert model.grid == grid
