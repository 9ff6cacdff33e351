"""Pictures with PyVista: they show something, and a missing library is an error instead of a crash."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from nnlod_fenics import Grid, InputError, MissingDependencyError
from nnlod_fenics.output import surfaces
from nnlod_fenics.output.surfaces import render_coefficient, render_solution


@pytest.fixture
def drawing() -> None:
    try:
        surfaces._pyvista()
    except MissingDependencyError as error:
        pytest.skip(str(error))


def bump(dim: int, n: int) -> np.ndarray:
    wave = np.sin(np.pi * np.linspace(0, 1, n + 1))
    return wave if dim == 1 else np.multiply.outer(bump(dim - 1, n), wave)


def hues(path: Path) -> int:
    """How many clearly coloured kinds of pixels a picture has."""
    pixels = (imread(path)[..., :3] * 15).astype(int).reshape(-1, 3)
    coloured = pixels[np.ptp(pixels, axis=1) > 2]
    assert len(coloured) > 0.1 * len(pixels)
    return len(np.unique(coloured, axis=0))


@pytest.mark.usefixtures("drawing")
@pytest.mark.parametrize("dim", [2, 3])
def test_solution(tmp_path: Path, dim: int) -> None:
    path = render_solution(tmp_path / "u.png", bump(dim, 16))
    assert [p.name for p in tmp_path.iterdir()] == ["u.png"]
    assert hues(path) > 50
    render_solution(tmp_path / "u.png", np.zeros((5,) * dim))


@pytest.mark.usefixtures("drawing")
def test_coefficient(tmp_path: Path) -> None:
    A = np.exp(np.random.default_rng(0).standard_normal((8, 8, 8)))
    assert hues(render_coefficient(tmp_path / "A.png", A)) > 50


@pytest.mark.usefixtures("drawing")
@pytest.mark.parametrize("dim", [2, 3])
def test_domains(tmp_path: Path, dim: int) -> None:
    """Heads of 8 to 10 on a box with a hole: all colours are in the picture, and NaN does not matter."""
    active = np.ones((2,) * (dim - 1) + (4,), dtype=bool)
    active.reshape(-1)[1] = False
    coarse = (4, 2, 2)[:dim]
    grid = Grid(dim, coarse, [4 * n for n in coarse], 1, lengths=(40.0, 10.0, 10.0)[:dim], active=active)
    u = np.broadcast_to(np.linspace(8, 10, 17), grid.fine_node_shape)
    u = np.where(grid.at_fine_scale.active_nodes, u, np.nan)
    assert hues(render_solution(tmp_path / "u.png", u, grid=grid)) > 30
    if dim == 3:
        A = np.where(grid.active_cells, np.exp(np.random.default_rng(0).standard_normal((8, 8, 16))), np.nan)
        assert hues(render_coefficient(tmp_path / "A.png", A, grid=grid)) > 50


def test_missing_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyvista", None)
    monkeypatch.setenv("DISPLAY", ":0")
    with pytest.raises(MissingDependencyError, match="install pyvista"):
        render_solution(tmp_path / "u.png", bump(2, 4))
    if sys.platform == "linux":
        monkeypatch.delenv("DISPLAY")
        monkeypatch.setattr(surfaces, "_loads", lambda library: False)
        with pytest.raises(MissingDependencyError, match="libEGL or OSMesa"):
            render_solution(tmp_path / "u.png", bump(2, 4))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "call",
    [
        lambda path: render_solution(path, np.ones(5)),
        lambda path: render_solution(path, np.full((3, 3), np.inf)),
        lambda path: render_coefficient(path, np.ones((4, 4))),
        lambda path: render_coefficient(path, np.zeros((4, 4, 4))),
    ],
)
def test_bad_input(tmp_path: Path, call) -> None:
    with pytest.raises(InputError):
        call(tmp_path / "picture.png")
