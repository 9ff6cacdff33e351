"""Coefficients in files of every kind that read_array takes, and in files that are damaged."""

from __future__ import annotations

import os
import pickle
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import scipy.sparse

from nnlod_fenics import InputError, MissingDependencyError
from nnlod_fenics.coefficient_files import read_array

# Unlike in y and x, so that a transposed, reversed or reordered array is another one.
A = np.random.default_rng(20260301).uniform(1, 9, (3, 4)).round(3)


def refused(path: Path, message: str, dataset: str | None = None, no_data: float | None = None) -> str:
    """The one sentence of an error, which names the file."""
    with pytest.raises(InputError, match=message) as caught:
        read_array(path, dataset, no_data)
    text = str(caught.value)
    assert path.name in text and "\n" not in text and text.endswith(".")
    assert "allow_pickle" not in text
    return text


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def hdf5(path: Path, fill: Callable[[h5py.File], object], userblock: int = 0) -> Path:
    with h5py.File(path, "w", userblock_size=userblock) as file:
        fill(file)
    return path


# -- NumPy ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f8", ">f4", "<i2"])
@pytest.mark.parametrize("suffix", [".npy", ".NPY", ".npz"])
def test_numpy(tmp_path: Path, suffix: str, dtype: str, order: str) -> None:
    values = np.asarray(A, dtype=dtype, order=order)
    path = tmp_path / f"A{suffix}"
    with open(path, "wb") as stream:
        np.savez_compressed(stream, A=values) if suffix == ".npz" else np.save(stream, values)
    result = read_array(path)
    np.testing.assert_array_equal(result, values)
    assert result.dtype.isnative and result.dtype.kind == values.dtype.kind


def test_one_of_several_arrays(tmp_path: Path) -> None:
    path = tmp_path / "two.npz"
    np.savez(path, A=A, B=2 * A)
    np.testing.assert_array_equal(read_array(path, "B"), 2 * A)
    refused(path, r"dataset must be one of 'A', 'B' in '.*two.npz', got None")
    refused(path, "dataset must be one of 'A', 'B' .*, got 'C'", dataset="C")


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5", ".mat", ".csv", ".nc", ".tif"])
def test_empty_files(tmp_path: Path, suffix: str) -> None:
    refused(written(tmp_path / f"A{suffix}", b""), "is empty")


def npy(header: str, data: bytes = b"") -> bytes:
    length = len(header).to_bytes(4, "little")
    return b"\x93NUMPY\x02\x00" + length + header.encode() + data


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1 2\n3 4\n", "does not begin like one"),
        (pickle.dumps([1.0]), "does not begin like one"),
        (b"\x93NUM", "does not begin like one"),
        (b"\x93NUMPY\x01\x00\xff", "has a header that is damaged"),
        (b"\x93NUMPY\x09\x00" + bytes(100), r"version \(9, 0\)"),
        (npy("(" * 9000), "has a header that is damaged"),
        (npy("{'descr': '<f8', 'fortran_order': False, 'shape': (3, 4), }" + " " * 20000), "longer than the 10,000"),
        (
            npy("{'descr': '<f8', 'fortran_order': False, 'shape': (3, 4), }", bytes(90)),
            r"is cut off: of 96 bytes for an array of shape \(3, 4\), 6 are missing",
        ),
        (
            npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 10000000), }", bytes(90)),
            r"declares an array of shape \(1000000, 10000000\), 7.451e\+04 GiB, which does not fit",
        ),
        (npy("{'descr': '<f8', 'fortran_order': False, 'shape': (0, 4), }"), r"holds an empty array of shape \(0, 4\)"),
        (npy("{'descr': '|O', 'fortran_order': False, 'shape': (3, 4), }"), "real numbers, got objects"),
        (npy("{'descr': '<c16', 'fortran_order': False, 'shape': (0, 4), }"), "real numbers, got complex numbers"),
        (npy("{'descr': '<U9', 'fortran_order': False, 'shape': (0, 4), }"), "real numbers, got strings"),
        (npy("{'descr': '|b1', 'fortran_order': False, 'shape': (0, 4), }"), "real numbers, got booleans"),
    ],
)
def test_damaged_numpy_files(tmp_path: Path, content: str | bytes, message: str) -> None:
    refused(written(tmp_path / "A.npy", content), message)
    with zipfile.ZipFile(tmp_path / "A.npz", "w") as archive:
        archive.writestr("B.npy", content)
    assert "'B'" in refused(tmp_path / "A.npz", message)


def test_damaged_archives(tmp_path: Path) -> None:
    refused(written(tmp_path / "A.npz", "1 2"), "cannot be read as .npz: File is not a zip file")
    path = tmp_path / "cut.npz"
    np.savez(path, A=A)
    whole = path.read_bytes()
    refused(written(path, whole[:-40]), "cannot be read as .npz")
    start = whole.index(A.tobytes())
    refused(written(path, whole[: start + 8] + bytes(8) + whole[start + 16 :]), "cannot be read as .npz: Bad CRC")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "none")
    refused(path, "holds no array")


def test_nothing_in_a_file_is_executed(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(tmp_path / "executed"),)

    np.save(tmp_path / "A.npy", np.array([Bomb()], dtype=object))
    np.savez(tmp_path / "A.npz", A=np.array([Bomb()], dtype=object))
    refused(tmp_path / "A.npy", "got objects")
    refused(tmp_path / "A.npz", "got objects")
    refused(written(tmp_path / "B.npy", pickle.dumps(Bomb())), "does not begin like one")
    assert not (tmp_path / "executed").exists()


# -- text ----------------------------------------------------------------------------------------------


def table(delimiter: str, decimal: str = ".") -> str:
    return "\n".join(delimiter.join(str(x).replace(".", decimal) for x in row) for row in A) + "\n"


@pytest.mark.parametrize(
    "text",
    [
        table(","),
        table(", "),
        table(";"),
        table("\t"),
        table(" "),
        "  " + table("   "),
        table(";", decimal=","),
        table("\t", decimal=","),
        table(",").replace("\n", "\r\n"),
        table(",").replace("\n", "\n\n").rstrip(),
        "\ufeff" + table(","),
        "x0,x1,x2,x3\n" + table(","),
        '"x, in m";"x";"x";"x"\n' + table(";", decimal=","),
        "# made by\n# a colleague\nx0 x1 x2 x3\n" + table(" "),
        table(",").replace("\n", " # row\n"),
        "\n".join(",".join(f'"{x}"' for x in row) for row in A),
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".txt", ".tsv"])
def test_tables(tmp_path: Path, text: str, suffix: str) -> None:
    np.testing.assert_array_equal(read_array(written(tmp_path / f"A{suffix}", text)), A)


def test_tables_as_numpy_writes_them(tmp_path: Path) -> None:
    np.savetxt(tmp_path / "A.txt", A, header="a coefficient")
    np.testing.assert_array_equal(read_array(tmp_path / "A.txt"), A)


@pytest.mark.parametrize("text", ["1\n2\n3\n", "1,2,3", "1 2 3\n", "A\n1\n2\n3\n"])
def test_tables_of_one_row_or_column(tmp_path: Path, text: str) -> None:
    np.testing.assert_array_equal(read_array(written(tmp_path / "A.csv", text)), [1, 2, 3])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2\n3,4,5\n", "has 3 fields in line 2, 2 in those above"),
        ("x,y\n\n1,2\n3,four\n", "must hold numbers, got 'four' in line 4, field 2"),
        ("1,5 2,5\n3,5 4,5\n", "must hold numbers, got '5 4' in line 2, field 2"),
        ("x,y\n", "holds a line of names, but no numbers"),
        ("# nothing\n\n", "holds no numbers"),
        ("1,,3\n4,5,NA\nnan,8,9\n", "holds 3 cells without data .value nan. of 9; fill them first"),
        (b"\xff\xfe1\x00,\x002\x00", "is no text in UTF-8"),
        ("<html>\n<body>\n", "must hold numbers, got '<body>' in line 2, field 1"),
    ],
)
def test_what_is_no_table(tmp_path: Path, text: str | bytes, message: str) -> None:
    refused(written(tmp_path / "A.csv", text), message)


# -- HDF5 ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".h5", ".hdf5", ".he5"])
def test_hdf5(tmp_path: Path, suffix: str) -> None:
    path = hdf5(tmp_path / f"A{suffix}", lambda file: file.update({"A": A, "name": "a text", "h": 0.5}))
    np.testing.assert_array_equal(read_array(path), A)  # the only array of numbers
    assert read_array(path, "/A").shape == (3, 4)
    assert read_array(path, "h") == 0.5


def test_datasets_in_groups(tmp_path: Path) -> None:
    one = hdf5(tmp_path / "one.h5", lambda file: file.update({"a/b/A": A}))
    np.testing.assert_array_equal(read_array(one), A)
    two = hdf5(tmp_path / "two.h5", lambda file: file.update({"a/b/A": A, "a/B": 2 * A}))
    np.testing.assert_array_equal(read_array(two, "a/B"), 2 * A)
    for dataset in (None, "A", "a", "a/b", "/", ""):
        refused(two, "dataset must be one of 'a/B', 'a/b/A' in", dataset)
    many = hdf5(tmp_path / "many.h5", lambda file: file.update({f"g/{k:03}": A for k in range(100)}))
    assert len(refused(many, "'g/018', 'g/019' and 80 more in")) < 500 + len(str(many))
    empty = hdf5(tmp_path / "empty.h5", lambda file: file.create_group("a/b"))
    refused(empty, "holds no array")


def test_links(tmp_path: Path) -> None:
    hdf5(tmp_path / "other.h5", lambda file: file.update({"X": A}))
    links = {
        "soft": h5py.SoftLink("/nowhere"),
        "lost": h5py.ExternalLink("lost.h5", "/X"),
        "gone": h5py.ExternalLink("other.h5", "/Y"),
    }
    for name, link in links.items():
        path = hdf5(tmp_path / f"{name}.h5", lambda file, name=name, link=link: file.update({name: link}))
        for dataset in (name, None):
            refused(path, f"dataset '{name}' in .* is a link to '{link.path}'.*, which is not there", dataset)
    assert "of 'lost.h5'" in refused(tmp_path / "lost.h5", "link")
    good = hdf5(tmp_path / "good.h5", lambda file: file.update({"A": h5py.ExternalLink("other.h5", "/X")}))
    np.testing.assert_array_equal(read_array(good), A)

    def alias_and_cycle(file: h5py.File) -> None:
        file.update({"g/A": A, "B": h5py.SoftLink("/g/A"), "dangling": h5py.SoftLink("/nowhere")})
        file["g/up"] = file["/"]

    path = hdf5(tmp_path / "cycle.h5", alias_and_cycle)
    for dataset in (None, "B", "g/A", "g/up/g/A"):
        np.testing.assert_array_equal(read_array(path, dataset), A)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (h5py.Empty("f8"), "holds no values: its dataspace is empty"),
        (np.zeros((0, 4)), r"holds an empty array of shape \(0, 4\)"),
        (A + 1j, "real numbers, got complex numbers"),
        (np.zeros((3, 4), dtype=[("Kx", "f8"), ("Ky", "f8")]), "real numbers, got records"),
        (np.array(["a", "b"], dtype="S1"), "real numbers, got strings"),
        ("a text", "real numbers, got objects"),
        (A > 2, "real numbers, got booleans"),
    ],
)
def test_datasets_of_other_things(tmp_path: Path, value: object, message: str) -> None:
    path = hdf5(tmp_path / "A.h5", lambda file: file.create_dataset("g/K", data=value))
    for dataset in ("g/K", None):
        assert "dataset 'g/K' in" in refused(path, message, dataset)


def test_damaged_hdf5_files(tmp_path: Path) -> None:
    refused(written(tmp_path / "text.h5", "1 2 3"), "is no readable HDF5 file: .*file signature not found")
    path = hdf5(tmp_path / "A.h5", lambda file: file.create_dataset("A", data=A, chunks=(3, 4), compression="gzip"))
    whole = path.read_bytes()
    refused(written(path, whole[:-10]), "is no readable HDF5 file: .*truncated file")
    with h5py.File(written(path, whole)) as file:
        chunk = file["A"].id.get_chunk_info(0)
    start, size = chunk.byte_offset, chunk.size
    refused(
        written(path, whole[:start] + bytes(size) + whole[start + size :]), "cannot be read as .h5: .*(filter|inflate)"
    )


@pytest.mark.parametrize("suffix", [".h5", ".nc"])
def test_declared_sizes_beyond_memory(tmp_path: Path, suffix: str) -> None:
    huge = hdf5(
        tmp_path / f"A{suffix}", lambda file: file.create_dataset("A", (10**6, 10**7), dtype="f8", chunks=(64, 64))
    )
    refused(huge, r"declares an array of shape \(1000000, 10000000\), 7.451e\+04 GiB, which does not fit")


def test_no_memory_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "A.npy", A)

    def fail(*_: object, **__: object) -> None:
        raise MemoryError("Unable to allocate 5.00 GiB")

    monkeypatch.setattr(np.lib.format, "read_array", fail)
    refused(tmp_path / "A.npy", "holds an array that does not fit into memory: Unable to allocate 5.00 GiB")


# -- cells without data --------------------------------------------------------------------------------


def with_holes(marker: float, dtype: str = "f8") -> np.ndarray:
    values = A.astype(dtype)
    values[[0, 1, 2], [1, 3, 0]] = marker
    return values


@pytest.mark.parametrize("attribute", ["_FillValue", "missing_value"])
@pytest.mark.parametrize(
    ("dtype", "marker", "given"),
    [
        ("f8", -9999.0, -9999.0),
        ("f4", 1e20, 1e20),  # 1e20 is no float32
        ("i4", -9999, np.int32(-9999)),
        ("u1", 255, 255.0),
        ("f8", np.nan, np.nan),
        (">f8", -1.5, np.array([-1.5])),
    ],
)
def test_markers_of_a_file(tmp_path: Path, attribute: str, dtype: str, marker: float, given: object) -> None:
    def fill(file: h5py.File) -> None:
        file["A"] = with_holes(marker, dtype)
        file["A"].attrs[attribute] = given

    value = f"{marker:g}".replace("+", r"\+")
    refused(hdf5(tmp_path / "A.h5", fill), rf"holds 3 cells without data \(value {value}\) of 12; fill them first")


@pytest.mark.parametrize("dtype", ["f8", "u1", "i4"])
@pytest.mark.parametrize("marker", [-9999, 0.5, 1e300, -np.inf, np.nan])
def test_markers_that_occur_nowhere(tmp_path: Path, dtype: str, marker: float) -> None:
    def fill(file: h5py.File) -> None:
        file["A"] = A.astype(dtype)
        file["A"].attrs["_FillValue"] = marker
        file["A"].attrs["missing_value"] = "none"

    path = hdf5(tmp_path / "A.h5", fill)
    np.testing.assert_array_equal(read_array(path, no_data=marker), A.astype(dtype))


def test_several_markers(tmp_path: Path) -> None:
    def fill(file: h5py.File) -> None:
        values = with_holes(-1)
        values[1, 3] = -2
        values[2, 2] = -3
        file["A"] = values
        file["A"].attrs["_FillValue"] = -1.0
        file["A"].attrs["missing_value"] = np.array([-2.0, -9.0])

    path = hdf5(tmp_path / "A.h5", fill)
    refused(path, r"holds 3 cells without data \(value -1, -2\) of 12")
    refused(path, r"holds 4 cells without data \(value -1, -2, -3\) of 12", no_data=-3)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".csv", ".h5"])
def test_a_marker_given_by_the_user(tmp_path: Path, suffix: str) -> None:
    path, values = tmp_path / f"A{suffix}", with_holes(-9999)
    {
        ".npy": np.save,
        ".npz": lambda path, values: np.savez(path, A=values),
        ".csv": lambda path, values: np.savetxt(path, values, delimiter=","),
        ".h5": lambda path, values: hdf5(path, lambda file: file.update({"A": values})),
    }[suffix](path, values)
    np.testing.assert_allclose(read_array(path), values)
    refused(path, r"holds 3 cells without data \(value -9999\) of 12; fill them first", no_data=-9999)
    for wrong in ("-9999", True, 1j):
        with pytest.raises(InputError, match="no_data must be a number, got"):
            read_array(path, no_data=wrong)


# -- MATLAB --------------------------------------------------------------------------------------------


def matlab73(path: Path, variables: dict[str, tuple[str, object]]) -> Path:
    """A file as MATLAB's save -v7.3 writes it: a block of text before, the class an attribute, axes in reverse."""

    def fill(file: h5py.File) -> None:
        for name, (kind, values) in variables.items():
            file[name] = np.asarray(values).T
            file[name].attrs["MATLAB_class"] = np.bytes_(kind)

    hdf5(path, fill, userblock=512)
    with open(path, "r+b") as stream:
        stream.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(116) + bytes(8) + b"\x00\x02IM")
    return path


def matlab(path: Path, version: str, values: object) -> Path:
    if version == "7.3":
        return matlab73(path, {"A": ("double", np.atleast_2d(values))})
    scipy.io.savemat(path, {"A": values}, format=version, do_compression=version == "5")
    return path


@pytest.mark.parametrize("version", ["4", "5", "7.3"])
def test_matlab(tmp_path: Path, version: str) -> None:
    path = tmp_path / "A.mat"
    np.testing.assert_array_equal(read_array(matlab(path, version, A)), A)
    np.testing.assert_array_equal(read_array(path, "A"), A)
    for vector in (A[:1], A[:, :1]):
        np.testing.assert_array_equal(read_array(matlab(path, version, vector)), vector.ravel())
    assert read_array(matlab(path, version, [[5.0]])).shape == (1, 1)
    refused(path, "dataset must be one of 'A' .*, got 'B'", dataset="B")


@pytest.mark.parametrize("version", ["5", "7.3"])
def test_matlab_in_three_dimensions(tmp_path: Path, version: str) -> None:
    values = np.random.default_rng(3).uniform(1, 2, (2, 3, 4))
    np.testing.assert_array_equal(read_array(matlab(tmp_path / "A.mat", version, values)), values)


def test_variables_of_matlab_that_are_no_numbers(tmp_path: Path) -> None:
    new = matlab73(
        tmp_path / "new.mat",
        {"text": ("char", np.full((1, 4), 65, dtype="u2")), "flag": ("logical", np.ones((2, 2), dtype="u1"))},
    )
    refused(new, "dataset 'text' .* must be a full matrix of real numbers, got one of MATLAB's class 'char'", "text")
    refused(new, "dataset 'flag' .* class 'logical'", "flag")
    with h5py.File(new, "r+") as file:
        file["S/data"], file["S/ir"], file["S/jc"] = np.ones(2), np.arange(2), np.arange(3)
        file["S"].attrs["MATLAB_sparse"] = np.uint64(2)
        file["#refs#/a"] = A
        file["none"] = np.array([0, 4], dtype="u8")
        file["none"].attrs["MATLAB_class"] = np.bytes_("double")
        file["none"].attrs["MATLAB_empty"] = 1
    refused(new, "dataset 'S' .* class 'sparse'", "S")
    refused(new, r"dataset 'none' .* empty array of shape \(0, 4\)", "none")
    assert "#refs#" not in refused(new, "dataset must be one of")
    scipy.io.savemat(
        tmp_path / "old.mat",
        {"A": A, "S": scipy.sparse.eye(3).tocsc(), "c": {"x": 1}, "t": "text", "C": A + 1j, "E": np.zeros((0, 4))},
    )
    for name, kind in (("S", "sparse"), ("c", "struct"), ("t", "char")):
        refused(tmp_path / "old.mat", f"dataset '{name}' .* class '{kind}'", name)
    refused(tmp_path / "old.mat", "dataset 'C' .* real numbers, got complex numbers", "C")
    refused(tmp_path / "old.mat", "dataset 'E' .* empty array", "E")
    refused(tmp_path / "old.mat", "dataset must be one of 'A', 'C', 'E'")


def test_damaged_matlab_files(tmp_path: Path) -> None:
    refused(written(tmp_path / "text.mat", "no matrix here" * 20), "cannot be read as .mat")
    for version in ("4", "5"):
        path = matlab(tmp_path / "A.mat", version, A)
        refused(written(path, path.read_bytes()[:-20]), "cannot be read as .mat")
    path = matlab(tmp_path / "A.mat", "7.3", A)
    refused(written(path, path.read_bytes()[:-20]), "no readable HDF5 file: .*truncated")


# -- NetCDF --------------------------------------------------------------------------------------------


def netcdf(path: Path, version: int, values: np.ndarray, y: object = None, x: object = None, **attributes: object):
    """A variable A(y, x), with coordinates if they are given, of NetCDF 3 (by SciPy) or 4 (as netCDF4 lays it out)."""
    coordinates = {"y": y, "x": x}
    if version == 3:
        with scipy.io.netcdf_file(path, "w") as file:
            for name, length in zip("yx", values.shape, strict=True):
                file.createDimension(name, length)
            for name, points in coordinates.items():
                if points is not None:
                    file.createVariable(name, "f8", (name,))[:] = points
            variable = file.createVariable("A", values.dtype, ("y", "x"))
            variable[:] = values
            for name, value in attributes.items():
                setattr(variable, name, value)
        return path
    with h5py.File(path, "w") as file:
        file["A"] = values
        file["A"].attrs.update(attributes)
        for axis, (name, points) in enumerate(coordinates.items()):
            file[name] = np.zeros(values.shape[axis], dtype=">f4") if points is None else np.asarray(points, dtype="f8")
            no_variable = f"This is a netCDF dimension but not a netCDF variable.{values.shape[axis]:10}"
            file[name].make_scale(name if points is not None else no_variable)
            file["A"].dims[axis].attach_scale(file[name])
    return path


@pytest.mark.parametrize("version", [3, 4])
def test_netcdf(tmp_path: Path, version: int) -> None:
    path = tmp_path / "A.nc"
    result = read_array(netcdf(path, version, A))
    np.testing.assert_array_equal(result, A)
    assert result.dtype == np.float64 and result.dtype.isnative
    np.testing.assert_array_equal(read_array(netcdf(path, version, A, [1, 2, 3], [5, 6, 7, 9])), A)
    np.testing.assert_array_equal(read_array(path, "x"), [5, 6, 7, 9])
    np.testing.assert_array_equal(read_array(netcdf(path, version, A, [3, 2, 1], [5, 6, 7, 9])), A[::-1])
    np.testing.assert_array_equal(read_array(netcdf(path, version, A, [1, 2, 3], [9, 7, 6, 5])), A[:, ::-1])
    np.testing.assert_array_equal(read_array(netcdf(path, version, A, [3, 1, 2], [9, 7, 7, 5])), A)
    refused(path, "dataset must be one of .*got 'B'", dataset="B")


@pytest.mark.parametrize("version", [3, 4])
def test_packed_netcdf(tmp_path: Path, version: int) -> None:
    packed = np.arange(12, dtype="i2").reshape(3, 4)
    packing = {"scale_factor": 0.5, "add_offset": 10.0, "_FillValue": np.int16(-1)}
    path = netcdf(tmp_path / "A.nc", version, packed, **packing)
    np.testing.assert_array_equal(read_array(path), 10 + 0.5 * packed)
    # The marker is compared with what is stored: 3, which stands for 11.5.
    refused(path, r"holds 1 cells without data \(value 3\) of 12", no_data=3)
    packed[2, 1:] = -1
    refused(netcdf(path, version, packed, **packing), r"dataset 'A' .* holds 3 cells without data \(value -1\) of 12")


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize(("dtype", "fill"), [("f8", 9.969209968386869e36), ("f4", 9.96921e36), ("i2", -32767)])
def test_cells_of_netcdf_that_were_never_written(tmp_path: Path, version: int, dtype: str, fill: float) -> None:
    path = netcdf(tmp_path / "A.nc", version, with_holes(fill, dtype))
    refused(path, "holds 3 cells without data .* of 12")
    own = netcdf(path, version, with_holes(fill, dtype), _FillValue=np.array(-5, dtype=dtype))
    np.testing.assert_array_equal(read_array(own), with_holes(fill, dtype))  # a marker of its own replaces it


def test_netcdf_as_its_own_library_writes_it(tmp_path: Path) -> None:
    netcdf4 = pytest.importorskip("netCDF4")
    for kind in ("NETCDF3_CLASSIC", "NETCDF3_64BIT_OFFSET", "NETCDF4", "NETCDF4_CLASSIC"):
        path = tmp_path / f"{kind}.nc"
        with netcdf4.Dataset(path, "w", format=kind) as file:
            for name, points in {"lat": [3.0, 2.0, 1.0], "lon": [5.0, 6.0, 7.0, 8.0]}.items():
                file.createDimension(name, len(points))
                file.createVariable(name, "f8", (name,))[:] = points
            file.createVariable("crs", "i4")
            file.createVariable("A", "f4", ("lat", "lon"))[:] = A
        np.testing.assert_array_equal(read_array(path), A.astype("f4")[::-1])


def test_damaged_netcdf_files(tmp_path: Path) -> None:
    refused(written(tmp_path / "text.nc", "CDX"), "cannot be read as .nc: .*not a valid NetCDF 3 file")
    path = netcdf(tmp_path / "A.nc", 3, A)
    refused(written(path, path.read_bytes()[:-20]), "cannot be read as .nc")
    path = netcdf(tmp_path / "A.nc", 4, A)
    refused(written(path, path.read_bytes()[:-20]), "no readable HDF5 file: .*truncated")
    with scipy.io.netcdf_file(tmp_path / "text.nc", "w") as file:
        file.createDimension("n", 3)
        file.createVariable("name", "S1", ("n",))[:] = [b"a", b"b", b"c"]
    refused(tmp_path / "text.nc", "dataset 'name' .* real numbers, got strings")


# -- GeoTIFF -------------------------------------------------------------------------------------------


def geotiff(path: Path, *bands: np.ndarray, step: tuple[float, ...] = (10, 0, 5e5, 0, -10, 4e6), **options: object):
    rasterio = pytest.importorskip("rasterio", reason="GeoTIFF files need rasterio, which is not installed")
    height, width = bands[0].shape
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=height,
        width=width,
        count=len(bands),
        dtype=bands[0].dtype,
        transform=rasterio.Affine(*step),
        **options,
    ) as file:
        for number, values in enumerate(bands, start=1):
            file.write(values, number)
    return path


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("suffix", [".tif", ".tiff", ".TIF"])
def test_geotiff(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"A{suffix}"
    np.testing.assert_array_equal(read_array(geotiff(path, A)), A[::-1])  # north up: the last row is at y = 0
    np.testing.assert_array_equal(read_array(geotiff(path, A, step=(10, 0, 0, 0, 10, 0))), A)
    np.testing.assert_array_equal(read_array(geotiff(path, A, step=(-10, 0, 0, 0, -10, 0))), A[::-1, ::-1])
    refused(geotiff(path, A, step=(10, 1, 0, 1, -10, 0)), "is rotated against the axes")
    two = geotiff(path, A, 2 * A)
    np.testing.assert_array_equal(read_array(two, "2"), 2 * A[::-1])
    refused(two, "dataset must be one of '1', '2'")


def test_geotiff_without_georeference(tmp_path: Path) -> None:
    rasterio = pytest.importorskip("rasterio", reason="GeoTIFF files need rasterio, which is not installed")
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        geotiff(tmp_path / "A.tif", A, step=(1, 0, 0, 0, 1, 0))
    np.testing.assert_array_equal(read_array(tmp_path / "A.tif"), A)


@pytest.mark.parametrize("dtype, marker", [("f8", -9999.0), ("f4", np.nan), ("i2", -1), ("f4", -3.4028234663852886e38)])
def test_geotiff_without_data(tmp_path: Path, dtype: str, marker: float) -> None:
    path = geotiff(tmp_path / "A.tif", with_holes(marker, dtype), nodata=marker)
    refused(path, r"holds 3 cells without data \(value .*\) of 12; fill them first")
    np.testing.assert_array_equal(read_array(geotiff(path, A.astype(dtype), nodata=marker)), A.astype(dtype)[::-1])


def test_geotiff_with_a_mask_and_a_scale(tmp_path: Path) -> None:
    path = geotiff(tmp_path / "A.tif", np.arange(12, dtype="i2").reshape(3, 4))
    import rasterio

    with rasterio.open(path, "r+") as file:
        file.scales, file.offsets = (0.5,), (10.0,)
    np.testing.assert_array_equal(read_array(path), (10 + 0.5 * np.arange(12).reshape(3, 4))[::-1])
    with rasterio.open(path, "r+") as file:
        file.write_mask(A > A.flat[A.argsort(axis=None)[4]])
    refused(path, "holds 5 cells without data of 12")


def test_damaged_geotiff(tmp_path: Path) -> None:
    path = geotiff(tmp_path / "A.tif", A)
    whole = path.read_bytes()
    refused(written(path, whole[: len(whole) // 2]), "cannot be read as .tif")
    refused(written(path, "no picture"), "cannot be read as .tif")
    refused(geotiff(path, A.astype("c8")), "real numbers, got complex numbers")


def test_geotiff_without_rasterio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rasterio", None)
    with pytest.raises(MissingDependencyError, match=r"GeoTIFF files need rasterio.*pip install rasterio.*extra geo"):
        read_array(written(tmp_path / "A.tif", "II*"))


# -- names ---------------------------------------------------------------------------------------------


def test_names_of_files(tmp_path: Path) -> None:
    refused(tmp_path / "none.npy", "does not exist")
    refused(tmp_path / "none.npy" / "A.npy", "does not exist")
    refused(written(tmp_path / "A.xlsx", "PK"), r"must end in one of \.npy, \.npz, .*, \.tiff\.")
    refused(tmp_path / ("a" * 256 + ".npy"), "cannot be read: File name too long")
    refused(written(tmp_path / "file", "x") / "A.npy", "cannot be read: Not a directory")
    (tmp_path / "folder.npy").mkdir()
    refused(tmp_path / "folder.npy", "path must be that of a file, got a folder")
    os.mkfifo(tmp_path / "pipe.npy")
    refused(tmp_path / "pipe.npy", "path must be that of a file, got a device, pipe or socket")
    (tmp_path / "loop.npy").symlink_to(tmp_path / "loop.npy")
    refused(tmp_path / "loop.npy", "cannot be read: Too many levels of symbolic links")
    with pytest.raises(InputError, match=r"cannot be read: .*embedded null"):
        read_array("A\0.npy")
    with pytest.raises(InputError, match="path must be the name of a file, got None"):
        read_array(None)


def test_a_name_for_the_only_array(tmp_path: Path) -> None:
    np.save(tmp_path / "A.npy", A)
    refused(tmp_path / "A.npy", "dataset must be left out for .*, which holds one array, got 'A'", dataset="A")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_files_of_others(tmp_path: Path) -> None:
    np.save(tmp_path / "A.npy", A)
    (tmp_path / "A.npy").chmod(0)
    refused(tmp_path / "A.npy", "cannot be read: Permission denied")
