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


def domain(dim: int) -> Grid:
    """Boxes of unequal sides, the first and the last of 3 × 2 (× 2) elements inactive, or the middle of an interval."""
    active = np.ones((2,) * (dim - 1) + (3,), dtype=bool)
    active.reshape(-1)[[1] if dim == 1 else [0, -1]] = False
    coarse = (3, 2, 2)[:dim]
    fine = [4 * n for n in coarse]
    return Grid(dim, coarse, fine, 1, lengths=(6.0, 2.0, 1.0)[:dim], dirichlet=("xmin", "xmax"), active=active)


@pytest.mark.parametrize("suffix", [".vtkhdf", ".vti"])
@pytest.mark.parametrize("dim", [1, 2, 3])
def test_inactive_cells_are_hidden(tmp_path: Path, dim: int, suffix: str) -> None:
    """By VTK's readers and filters: a threshold keeps D and nothing else, which has no NaN."""
    core = pytest.importorskip("vtkmodules.vtkFiltersCore")
    grid = domain(dim)
    level = grid.at_fine_scale
    u = np.where(level.active_nodes, np.random.default_rng(0).uniform(1, 2, grid.fine_node_shape), np.nan)
    coarse = np.where(grid.active_nodes, 1.0, np.nan)
    A = np.where(grid.active_cells, 2.0, np.nan)
    paths = write_results(tmp_path, grid, A, {"u": u, "u_H": coarse}, suffix)
    for path, mesh in zip(paths, (level, level, grid), strict=True):
        image = read(path)
        assert image.HasAnyBlankCells()
        assert image.GetBounds()[: 2 * dim] == pytest.approx([b for side in grid.lengths for b in (0, side)])
        hidden = [not image.IsCellVisible(k) for k in range(image.GetNumberOfCells())]
        np.testing.assert_array_equal(hidden, ~mesh.active.ravel())
        threshold = core.vtkThreshold()
        threshold.SetInputData(image)
        name = {"coefficient": "A", "fine_solution": "u", "coarse_solution": "u_H"}[path.stem]
        threshold.SetInputArrayToProcess(0, 0, 0, 1 if name == "A" else 0, name)
        threshold.SetThresholdFunction(threshold.THRESHOLD_UPPER)
        threshold.SetUpperThreshold(-1e300)
        threshold.Update()
        kept = threshold.GetOutput()
        assert kept.GetNumberOfCells() == mesh.active.sum() and kept.GetNumberOfPoints() == mesh.active_nodes.sum()
        data = kept.GetCellData() if name == "A" else kept.GetPointData()
        assert np.isfinite(array(data, name)).all()
        surface = surface_of(image)
        assert surface.GetNumberOfPoints() <= mesh.active_nodes.sum() and surface.GetNumberOfCells() > 0
        if dim < 3:
            assert surface.GetNumberOfCells() == mesh.active.sum()
    points = array(read(paths[1]).GetPointData(), "u")
    np.testing.assert_array_equal(points, u.ravel())


def surface_of(image):
    geometry = pytest.importorskip("vtkmodules.vtkFiltersGeometry")
    surface = geometry.vtkGeometryFilter()  # that ParaView draws with
    surface.SetInputData(image)
    surface.Update()
    return surface.GetOutput()


def test_boxes_without_holes_have_no_ghosts(tmp_path: Path) -> None:
    grid = Grid(2, (3, 2), (6, 4), 1, lengths=(6.0, 2.0))
    cells = np.random.default_rng(0).standard_normal((4, 6, 2, 2))
    image = read(write_arrays(tmp_path / "a.vti", 2, {"u": np.arange(35.0).reshape(5, 7)}, {"A": cells}, grid))
    assert image.GetSpacing()[:2] == (1.0, 0.5) and image.GetDimensions() == (7, 5, 1)
    assert not image.HasAnyBlankCells() and not image.GetCellData().HasArray("vtkGhostType")
    assert array(image.GetPointData(), "u")[8] == 8 and image.GetPoint(8) == (1.0, 0.5, 0.0)
    np.testing.assert_array_equal(array(image.GetCellData(), "A")[:, [0, 1, 3, 4]], cells.reshape(24, 4))


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
        (lambda folder: write_arrays(folder / "a.vti", 2, {"u": np.ones((4, 4))}, None, domain(2)), "on one mesh of D"),
        (lambda folder: write_arrays(folder / "a.vti", 1, {"u": np.ones(4)}, None, domain(2)), "on one grid of dim"),
        (lambda folder: write_results(folder, domain(2), None, {"u": np.ones((4, 3))}), r"shape \(9, 13\) or \(3, 4\)"),
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
