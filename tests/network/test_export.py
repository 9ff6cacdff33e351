"""Exported networks: what a file computes without this package is what the network computes."""

from __future__ import annotations

import doctest
import sys

import numpy as np
import pytest
import torch
from windows import cut, padded

from nnlod_fenics import Grid, InputError
from nnlod_fenics.errors import MissingDependencyError
from nnlod_fenics.network import build_network
from nnlod_fenics.network import export as module
from nnlod_fenics.network.export import export_network
from nnlod_fenics.window import INSIDE, Window

GRIDS = [
    Grid(1, 8, 32, 2, coefficient=32),
    Grid(2, 6, 18, 1, coefficient=18),
    Grid(2, 5, 10, 2, coefficient=10),
    Grid(3, 4, 8, 1, coefficient=8),
    Grid(3, 4, 12, 0, coefficient=12),
]
IDS = [f"{grid.dim}d-ell{grid.ell}" for grid in GRIDS]
FEW = [0, 1, 3]  # one of each dimension: ONNX takes its time
OPTIONS = {"structured": {"channels": 2, "means": 2}, "paper": {"widths": (30, 20)}}


def network_of(name: str, grid: Grid) -> torch.nn.Module:
    """A network in which no weight is zero by initialisation."""
    network = build_network(name, Window.of(grid), seed=1, **OPTIONS[name])
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in network.parameters():
            noise = 0.3 * torch.randn(parameter.shape, generator=generator)
            parameter.copy_(parameter * (1 + noise) if parameter.any() else noise)
    return network


def all_windows(grid: Grid, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The windows of all elements, those at corners and faces of D among them."""
    return tuple(values.numpy() for values in cut(grid, 2 * rng.standard_normal(grid.coefficient_shape)))


def assert_same(run, network: torch.nn.Module, Z: np.ndarray, domain: np.ndarray) -> None:
    """For batches of several sizes, one among them, that of the export not."""
    with torch.no_grad():
        expected = network.eval()(torch.from_numpy(Z), torch.from_numpy(domain)).numpy()
    for part in (slice(None), slice(0, 1), slice(1, 4)):
        given = run(Z[part], domain[part])
        assert given.shape == expected[part].shape and given.dtype == expected.dtype
        scale = np.linalg.norm(expected[part], axis=(1, 2))
        assert (np.linalg.norm(given - expected[part], axis=(1, 2)) < 1e-6 * scale).all()


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("grid", GRIDS, ids=IDS)
def test_program(name, grid, rng, tmp_path):
    network = network_of(name, grid)
    program = torch.export.load(export_network(network, Window.of(grid), tmp_path / "n.pt2")).module()
    assert network.training and all(p.requires_grad for p in network.parameters())
    assert [path.name for path in tmp_path.iterdir()] == ["n.pt2"]
    Z, domain = all_windows(grid, rng)
    assert grid.ell == 0 or (domain != INSIDE).any()

    def run(*given: np.ndarray) -> np.ndarray:
        return program(*map(torch.from_numpy, given)).numpy()

    assert_same(run, network, Z, domain)


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("grid", [GRIDS[k] for k in FEW], ids=[IDS[k] for k in FEW])
def test_onnx(name, grid, rng, tmp_path):
    pytest.importorskip("onnxscript", reason="export to ONNX needs onnxscript")
    runtime = pytest.importorskip("onnxruntime", reason="the exported file is run by ONNX Runtime")
    network = network_of(name, grid)
    path = export_network(network, Window.of(grid), tmp_path / "n.onnx")
    assert list(tmp_path.iterdir()) == [path]  # no weights beside it
    session = runtime.InferenceSession(path)
    shapes = {value.name: value.shape for value in (*session.get_inputs(), *session.get_outputs())}
    cells, elements = (["n", *(n,) * grid.dim] for n in (grid.patch_width * grid.cells_per_element, grid.patch_width))
    assert shapes == {"Z": cells, "domain": elements, "S": ["n", *grid.local_matrix_shape]}

    def run(Z: np.ndarray, domain: np.ndarray) -> np.ndarray:
        return session.run(["S"], {"Z": Z, "domain": domain})[0]

    assert_same(run, network, *all_windows(grid, rng))


def test_arguments_of_other_names(rng, tmp_path):
    """A network may call them what it likes, and have more with defaults."""
    grid = GRIDS[1]

    class Other(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network_of("paper", grid)

        def forward(self, logarithm: torch.Tensor, mask: torch.Tensor, factor: float = 2.0) -> torch.Tensor:
            return factor * self.inner(logarithm, mask)

    network = Other()
    program = torch.export.load(export_network(network, Window.of(grid), tmp_path / "n.pt2")).module()

    def run(Z: np.ndarray, domain: np.ndarray) -> np.ndarray:
        return program(torch.from_numpy(Z), torch.from_numpy(domain)).numpy()

    assert_same(run, network, *all_windows(grid, rng))


def test_example(tmp_path, monkeypatch):
    """The example of the docstring runs, and gives the matrices of the model."""
    monkeypatch.chdir(tmp_path)
    found = doctest.DocTestFinder(recurse=False).find(export_network, "export_network")
    names = {"np": np, "torch": torch, "export_network": export_network}
    runner = doctest.DocTestRunner()
    for test in found:
        test.globs.update(names)
        assert runner.run(test, out=sys.stderr.write, clear_globs=False).failed == 0
        S, model, field = (test.globs[name] for name in ("S", "model", "field"))
        with torch.no_grad():
            expected = model.network.forward_field(*padded(model.grid, field[None] - field.mean()))[0].numpy() * np.exp(
                field.mean()
            )
        assert np.linalg.norm(S - expected) < 1e-6 * np.linalg.norm(expected)
    assert found and found[0].examples


def test_bad_arguments(tmp_path, monkeypatch):
    grid = GRIDS[1]
    network = network_of("paper", grid)
    with pytest.raises(InputError, match=r"path must end in one of \['.pt2', '.onnx'\], got '.*n.pt'"):
        export_network(network, Window.of(grid), tmp_path / "n.pt")
    with pytest.raises(InputError, match=r"network must be a torch.nn.Module, got 'paper'"):
        export_network("paper", grid, tmp_path / "n.pt2")
    monkeypatch.setattr(module, "_LARGEST_ONNX", 1000)
    monkeypatch.setattr(module, "_need_onnx", lambda: None)
    with pytest.raises(InputError, match=r"path must end in .pt2 for a network of 0.0 GiB \(ONNX: 2 GiB\), got .onnx"):
        export_network(network, Window.of(grid), tmp_path / "n.onnx")
    assert not list(tmp_path.iterdir())


def test_networks_that_pytorch_cannot_export(tmp_path):
    class Branching(torch.nn.Linear):
        def forward(self, Z: torch.Tensor, domain: torch.Tensor) -> torch.Tensor:
            return super().forward(Z) if Z.sum() > 0 else Z

    with pytest.raises(InputError, match="network Branching must consist of operations that") as told:
        export_network(Branching(9, 9), Window.of(GRIDS[1]), tmp_path / "n.pt2")
    assert "\n" not in str(told.value) and not list(tmp_path.iterdir())


def test_missing_onnx(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(MissingDependencyError, match=r"export to ONNX needs onnx and onnxscript .*; pip install"):
        export_network(network_of("paper", GRIDS[1]), Window.of(GRIDS[1]), tmp_path / "n.onnx")
