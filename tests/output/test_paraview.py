"""Files for ParaView, read back with VTK's own readers."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from nnlod_fenics import Grid, InputError
from nnlod_fenics.output.paraview import write_arrays, write_coefficient, write_results


def read(path: Path):
    """Read a file with the reader that ParaView uses."""
    module = "IOHDF" if path.suffix == ".vtkhdf" else "IOXML"
    vtk = pytest.importorskip(f"vtkmodules.vtk{module}")
    reader = vtk.vtkHDFReader() if module == "IOHDF" else vtk.vtkXMLImageDataReader()
    assert reader.CanReadFile(str(path))
    reader.SetFileName(str(path))
    reader.Update()
    return reader.GetOutput()


def array(data, name: str) -> np.ndarray:
    from vtkmodules.util.numpy_support import vtk_to_numpy

    return vtk_to_numpy(data.GetArray(name))


@pytest.mark.parametrize("suffix", [".vtkhdf", ".vti"])
@pytest.mark.parametrize("dim", [1, 2, 3])
def test_values_and_places(tmp_path: Path, dim: int, suffix: str) -> None:
    n = 4
    rng = np.random.default_rng(dim)
    points, cells = rng.standard_normal((n + 1,) * dim), rng.standard_normal((n,) * dim)
    matrices = rng.standard_normal((n,) * dim + (dim, dim))
    path = write_arrays(
        tmp_path / f"data{suffix}", dim, {"u": points, "<&>": 2 * points}, {"A": cells, "matrix": matrices}
    )
    image = read(path)
    assert image.GetNumberOfCells() == n**dim
    np.testing.assert_array_equal(array(image.GetPointData(), "u"), points.ravel())
    np.testing.assert_array_equal(array(image.GetPointData(), "<&>"), 2 * points.ravel())
    np.testing.assert_array_equal(array(image.GetCellData(), "A"), cells.ravel())
    tensors = array(image.GetCellData(), "matrix").reshape(-1, 3, 3)
    np.testing.assert_array_equal(tensors[:, :dim, :dim], matrices.reshape(-1, dim, dim))
    assert np.count_nonzero(tensors) == matrices.size
    # Node (i, j, k) lies at (i, j, k)/n and holds u[k, j, i].
    for number in (0, 3, (n + 1) ** dim - 1):
        place = np.array(image.GetPoint(number))
        index = tuple(np.rint(place[:dim] * n).astype(int)[::-1])
        assert array(image.GetPointData(), "u")[number] == points[index]
        np.testing.assert_allclose(place[:dim] * n, index[::-1], atol=1e-12)
        assert not place[dim:].any()


def test_results_one_file_for_each_mesh(tmp_path: Path) -> None:
    grid = Grid(2, 2, 8, 1, 4)
    rng = np.random.default_rng(0)
    A = np.exp(rng.standard_normal((4, 4)))
    fine, coarse = rng.standard_normal((9, 9)), rng.standard_normal((3, 3))
    paths = write_results(tmp_path / "new", grid, A, {"FEM": fine, "PG-LOD": coarse, "NN-LOD": 2 * coarse})
    assert [p.name for p in paths] == ["coefficient.vtkhdf", "fine_solution.vtkhdf", "coarse_solution.vtkhdf"]
    np.testing.assert_array_equal(array(read(paths[0]).GetCellData(), "A"), A.ravel())
    np.testing.assert_array_equal(array(read(paths[0]).GetCellData(), "log A"), np.log(A).ravel())
    np.testing.assert_array_equal(array(read(paths[1]).GetPointData(), "FEM"), fine.ravel())
    np.testing.assert_array_equal(array(read(paths[2]).GetPointData(), "NN-LOD"), 2 * coarse.ravel())


def test_layout_of_the_specification(tmp_path: Path) -> None:
    path = write_arrays(tmp_path / "u.vtkhdf", 2, {"u": np.zeros((3, 3))})
    with h5py.File(path) as file:
        attributes = dict(file["VTKHDF"].attrs)
        assert attributes["Type"] == b"ImageData"
        assert attributes["Version"].tolist() == [1, 0]
        assert attributes["WholeExtent"].tolist() == [0, 2, 0, 2, 0, 0]
        assert attributes["Spacing"].tolist() == [0.5, 0.5, 1]
        assert file["VTKHDF/PointData/u"].shape == (3, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda folder: write_arrays(folder / "a.vtk", 2, {"u": np.ones((3, 3))}), "must end in"),
        (lambda folder: write_arrays(folder / "a.vti", 2, {"u": np.ones((3, 4))}), "'u' must have shape"),
        (lambda folder: write_arrays(folder / "a.vti", 2, {"u": np.ones((3, 3))}, {"A": np.ones((3, 3))}), "one grid"),
        (lambda folder: write_arrays(folder / "a.vti", 2), "one grid"),
        (lambda folder: write_arrays(folder / "a.vti", 2, {"a/b": np.ones((3, 3))}), "without '/'"),
        (lambda folder: write_coefficient(folder / "a.vti", Grid(2, 2, 4, 1), np.zeros((4, 4))), "A must be positive"),
        (lambda folder: write_results(folder, Grid(2, 2, 4, 1), None, {"u": np.ones((4, 4))}), "solution 'u'"),
        (lambda folder: write_arrays(Path("/dev/null/a.vti"), 2, {"u": np.ones((3, 3))}), "cannot be written"),
    ],
)
def test_bad_input_leaves_nothing_behind(tmp_path: Path, call, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call(tmp_path)
    assert not list(tmp_path.iterdir())


def test_failure_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_arrays(tmp_path / "u.vti", 1, {"u": np.arange(3)})
    before = path.read_bytes()

    def full(*args: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("nnlod_fenics.output.paraview._write_vti", full)
    with pytest.raises(InputError, match=r"u\.vti' cannot be written: no space"):
        write_arrays(path, 1, {"u": np.ones(3)})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["u.vti"]
