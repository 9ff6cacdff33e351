"""DOLFINx functions written and read back."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import h5py
import numpy as np
import pytest

from nnlod_fenics import Grid, InputError, MissingDependencyError

pytest.importorskip("dolfinx")

import dolfinx

from nnlod_fenics.fem import solve_fine
from nnlod_fenics.output import functions

GRIDS = [Grid(1, 2, 8, 1), Grid(2, 2, 8, 1), Grid(3, 2, 4, 1)]


def solution(grid: Grid):
    return solve_fine(grid, np.exp(np.random.default_rng(1).standard_normal(grid.coefficient_shape)))


def at_nodes(grid: Grid, places: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Values at scattered nodes as an array [y, x]."""
    index = np.rint(places[:, : grid.dim] * grid.fine).astype(int)
    result = np.full(grid.fine_node_shape, np.nan)
    result[tuple(index[:, ::-1].T)] = values.ravel()
    return result


@pytest.mark.parametrize("grid", GRIDS, ids=lambda g: f"{g.dim}d")
def test_xdmf(tmp_path: Path, grid: Grid) -> None:
    u = solution(grid)
    for _ in range(2):  # the second overwrites the first
        path = functions.write_function(tmp_path / "u.xdmf", u.function)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["u.h5", "u.xdmf"]
    texts = [item.text.strip() for item in ElementTree.parse(path).iter("DataItem") if item.text and ":" in item.text]
    assert texts and all(text.startswith("u.h5:") for text in texts)  # the files may be moved together
    with h5py.File(tmp_path / "u.h5") as file:
        places = file[next(text for text in texts if text.endswith("geometry")).split(":")[1]][:]
        values = file[next(text for text in texts if "Function" in text).split(":")[1]][:]
    np.testing.assert_array_equal(at_nodes(grid, places, values), u.values())


@pytest.mark.skipif(not dolfinx.has_adios2, reason="DOLFINx without ADIOS2")
@pytest.mark.parametrize("grid", GRIDS, ids=lambda g: f"{g.dim}d")
def test_vtx(tmp_path: Path, grid: Grid) -> None:
    u = solution(grid)
    for _ in range(2):
        path = functions.write_function(tmp_path / "u.bp", u.function)
    assert [p.name for p in tmp_path.iterdir()] == ["u.bp"]
    assert path.is_dir()
    # ADIOS2's Python layer is rarely installed; BP4 keeps plain blocks of numbers.
    data = (path / "data.0").read_bytes()
    assert u.function.x.array.tobytes() in data
    assert np.ascontiguousarray(u.function.function_space.tabulate_dof_coordinates()).tobytes() in data


def test_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    u = solution(GRIDS[0]).function
    with pytest.raises(InputError, match=r"must end in \.bp or \.xdmf"):
        functions.write_function(tmp_path / "u.vtu", u)
    with pytest.raises(InputError, match="cannot be written"):
        functions.write_function("/dev/null/u.xdmf", u)
    monkeypatch.setattr(functions, "has_adios2", False)
    with pytest.raises(MissingDependencyError, match="ADIOS2"):
        functions.write_function(tmp_path / "u.bp", u)
    assert not list(tmp_path.iterdir())
