"""Coefficients in files of the user's own: NumPy, HDF5, MATLAB, text, NetCDF, GeoTIFF.

Arrays are indexed ``[y, x]`` (``[z, y, x]``), row 0 at y = 0. :func:`read_array` says what that means for each kind
of file. Nothing that a file holds is executed: pickles are refused.
"""

from __future__ import annotations

import csv
import math
import os
import stat
import warnings
import zipfile
from collections.abc import Callable, Iterable, Sequence
from numbers import Real
from pathlib import Path
from typing import IO, Any, NamedTuple

import h5py
import numpy as np
import numpy.typing as npt
import scipy.io

from nnlod_fenics.arrays import check_kind
from nnlod_fenics.errors import InputError, MissingDependencyError

__all__ = ["read_array"]

Array = npt.NDArray[Any]

# What NetCDF's library fills cells with that were never written, for variables without a _FillValue of their own.
_NETCDF_FILL = {
    "i2": -32767,
    "i4": -2147483647,
    "i8": -9223372036854775806,
    "f4": 9.969209968386869e36,
    "f8": 9.969209968386869e36,
}
_MATLAB_NUMBERS = {"double", "single", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"}


class _Stored(NamedTuple):
    """An array as a file has it; values equal to a marker stand for cells without data."""

    what: str
    values: Array
    markers: tuple[float, ...] = ()
    scale: float = 1.0
    offset: float = 0.0


def read_array(path: str | Path, dataset: str | None = None, no_data: float | None = None) -> Array:
    """Read an array from a file, chosen by its suffix.

    Arrays are indexed ``[y, x]`` (``[z, y, x]``), row 0 at y = 0. That is how these files are read:

    - ``.npy``, ``.npz``: as they are.
    - ``.h5``, ``.hdf5``, ``.he5`` (HDF5): as they are.
    - ``.mat`` (MATLAB, all versions): as MATLAB shows it, so ``A(i,j)`` is ``[i-1, j-1]``, the row i that of y; in 3D
      MATLAB's ``A(k,i,j)`` with z first. A matrix of one row or column is an array of one axis.
    - ``.csv``, ``.tsv``, ``.txt``: numbers between commas, semicolons, tabs or spaces, the first line at y = 0, with or
      without a line of names above; ``#`` begins a comment. Between semicolons or tabs, 1,5 is a number with a decimal
      comma. One row or column is an array of one axis.
    - ``.nc`` (NetCDF 3 and 4): the axes as they are; one whose coordinate decreases, such as a latitude from north to
      south, is reversed.
    - ``.tif``, ``.tiff`` (GeoTIFF, with rasterio): images have their first row at the top; the rows of a north-up
      image are reversed, so that row 0 is the southernmost, at y = 0. An image that is not georeferenced is read as it
      is.

    Scale factors and offsets of NetCDF, HDF5 and GeoTIFF are applied, their values for missing data looked for.

    Args:
        path: The file.
        dataset: Name of the array in a file that may hold several: of the dataset or variable, for a GeoTIFF the
            number of the band. May be omitted if there is only one array of numbers, NetCDF's coordinates not counted.
        no_data: Value, as it is stored, of cells without data, beside those that the file itself names.

    Returns:
        The array: real numbers.

    Raises:
        InputError: If the file cannot be read, holds no such array, or one with cells that have no data.
        MissingDependencyError: If the file is a GeoTIFF and rasterio is not installed.
    """
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"path must be the name of a file, got {path!r}.")
    file = Path(path)
    if no_data is not None and (not isinstance(no_data, Real) or isinstance(no_data, bool)):
        raise InputError(f"no_data must be a number, got {no_data!r}.")
    _check_readable(file)
    reader = _READERS.get(file.suffix.lower())
    if reader is None:
        raise InputError(f"{_name(file)} must end in one of {', '.join(_READERS)}.")
    try:
        return _complete(reader(file, dataset), no_data)
    except (InputError, MissingDependencyError):
        raise
    except MemoryError as error:
        raise InputError(f"{_name(file)} holds an array that does not fit into memory: {_line(error)}.") from error
    except Exception as error:  # what the libraries raise on a damaged file is of any kind
        raise InputError(f"{_name(file)} cannot be read as {file.suffix.lower()}: {_line(error)}.") from error


# -- checks ------------------------------------------------------------------------------------------


def _name(file: Path) -> str:
    return f"file {str(file)!r}"


def _line(error: BaseException) -> str:
    """What an error says, as a part of a sentence."""
    return str(error).partition("\n")[0].strip().rstrip(".") or type(error).__name__


def _check_readable(file: Path) -> None:
    """Check that there is a file, not empty, that this user may read."""
    try:
        status = os.stat(file)
        if stat.S_ISREG(status.st_mode):
            open(file, "rb").close()
    except FileNotFoundError:
        raise InputError(f"{_name(file)} does not exist.") from None
    except OSError as error:
        raise InputError(f"{_name(file)} cannot be read: {error.strerror}.") from None
    except ValueError as error:  # a name that holds a zero character
        raise InputError(f"{_name(file)} cannot be read: {error}.") from None
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a device, pipe or socket"
        raise InputError(f"path must be that of a file, got {kind}: {str(file)!r}.")
    if status.st_size == 0:
        raise InputError(f"{_name(file)} is empty.")


def _check_declared(what: str, shape: Sequence[int], dtype: np.dtype[Any]) -> int:
    """Check, before anything is read, that a declared array holds numbers and fits into memory; its bytes."""
    check_kind(what, dtype)
    size = math.prod(shape) * dtype.itemsize
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if size > memory:
        raise InputError(
            f"{what} declares an array of shape {tuple(shape)}, {size / 2**30:.4g} GiB, "
            f"which does not fit into the {memory / 2**30:.3g} GiB of memory here."
        )
    return size


def _choose(file: Path, names: Iterable[str], dataset: str | None) -> str:
    found = sorted(names)
    if dataset is None and len(found) == 1:
        return found[0]
    if dataset in found:
        return str(dataset)
    if not found:
        raise InputError(f"{_name(file)} holds no array.")
    listed = ", ".join(map(repr, found[:20])) + (f" and {len(found) - 20} more" if len(found) > 20 else "")
    raise InputError(f"dataset must be one of {listed} in {str(file)!r}, got {dataset!r}.")


def _expect_no_name(file: Path, dataset: str | None) -> None:
    if dataset is not None:
        raise InputError(f"dataset must be left out for {str(file)!r}, which holds one array, got {dataset!r}.")


def _complete(stored: _Stored, no_data: float | None) -> Array:
    """The numbers of an array that has one in every cell."""
    what, values = stored.what, stored.values
    check_kind(what, values.dtype)
    if values.size == 0:
        raise InputError(f"{what} holds an empty array of shape {values.shape}.")
    markers = stored.markers + (() if no_data is None else (no_data,))
    raw = np.asarray(values)
    marked = {f"{marker:g}": _equal(raw, marker) for marker in markers}
    absent = np.logical_or.reduce([np.ma.getmaskarray(values), *marked.values()])
    count = int(np.count_nonzero(absent))
    if count:
        found = ", ".join(marker for marker, cells in marked.items() if cells.any())
        value = f" (value {found})" if found else ""
        raise InputError(f"{what} holds {count} cells without data{value} of {raw.size}; fill them first.")
    numbers = raw.astype(raw.dtype.newbyteorder("="), copy=False)
    if (stored.scale, stored.offset) == (1.0, 0.0):
        return numbers
    return np.asarray(numbers * stored.scale + stored.offset)


def _equal(values: Array, marker: float) -> npt.NDArray[np.bool_]:
    """Cells that hold a marker, rounded to their type; none if the type cannot hold it."""
    if np.isnan(marker):
        return np.isnan(values)
    if values.dtype.kind == "f":
        with np.errstate(over="ignore"):
            return np.asarray(values == values.dtype.type(marker))
    limits = np.iinfo(values.dtype)
    if np.isinf(marker) or marker != int(marker) or not limits.min <= marker <= limits.max:
        return np.zeros(values.shape, dtype=bool)
    return np.asarray(values == int(marker))


def _vector(values: Array) -> Array:
    """A matrix of one row or column as an array of one axis: MATLAB and tables have no such arrays."""
    return values.ravel() if values.ndim == 2 and 1 in values.shape and values.size > 1 else values


def _upward(values: Array, coordinates: Sequence[Any]) -> Array:
    """Reverse the axes whose coordinate (None where there is none) decreases."""
    for axis, coordinate in enumerate(coordinates):
        numeric = coordinate is not None and coordinate.dtype.kind in "fiu" and coordinate.ndim == 1
        if numeric and len(coordinate) > 1 and (np.diff(coordinate.astype(np.float64)) < 0).all():
            values = np.flip(values, axis)
    return values


# -- NumPy -------------------------------------------------------------------------------------------


def _read_npy(file: Path, dataset: str | None) -> _Stored:
    _expect_no_name(file, dataset)
    with open(file, "rb") as stream:
        return _Stored(_name(file), _from_npy(stream, _name(file), file.stat().st_size))


def _read_npz(file: Path, dataset: str | None) -> _Stored:
    with zipfile.ZipFile(file) as archive:
        members = {name.removesuffix(".npy"): name for name in archive.namelist() if name.endswith(".npy")}
        chosen = _choose(file, members, dataset)
        what = f"array {chosen!r} in {str(file)!r}"
        with archive.open(members[chosen]) as stream:
            return _Stored(what, _from_npy(stream, what, archive.getinfo(members[chosen]).file_size))


def _from_npy(stream: IO[bytes], what: str, length: int) -> Array:
    """Read an array in NumPy's format once its header is known to declare one that is there."""
    try:
        version = np.lib.format.read_magic(stream)
    except ValueError:
        raise InputError(f"{what} is no array of numbers in NumPy's format: it does not begin like one.") from None
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read_header is None:
        raise InputError(f"{what} is no array of numbers in NumPy's format: version {version} is for records only.")
    try:
        shape, _, dtype = read_header(stream)
    except Exception as error:  # the header is an expression of Python, and fails to parse in many ways
        raise InputError(
            f"{what} has a header that is damaged or longer than the 10,000 characters that NumPy trusts."
        ) from error
    size = _check_declared(what, shape, dtype)
    missing = size - (length - stream.tell())
    if missing > 0:
        raise InputError(f"{what} is cut off: of {size} bytes for an array of shape {shape}, {missing} are missing.")
    stream.seek(0)
    return np.asarray(np.lib.format.read_array(stream, allow_pickle=False))


# -- text --------------------------------------------------------------------------------------------


def _read_text(file: Path, dataset: str | None) -> _Stored:
    _expect_no_name(file, dataset)
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{_name(file)} is no text in UTF-8.") from None
    lines = [line.partition("#")[0].rstrip() for line in text.split("\n")]
    numbered = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not numbered:
        raise InputError(f"{_name(file)} holds no numbers.")
    split = _splitter([line for _, line in numbered])
    rows = [(number, split(line)) for number, line in numbered]
    if any(_number(field) is None for field in rows[0][1]):
        del rows[0]
    if not rows:
        raise InputError(f"{_name(file)} holds a line of names, but no numbers.")
    return _Stored(_name(file), _vector(np.stack(_parsed(file, rows))), markers=(math.nan,))


def _splitter(lines: list[str]) -> Callable[[str], list[str]]:
    """How to split the lines of a table into fields, by its last line: the first one may hold names."""
    delimiter = next((character for character in ";\t," if character in lines[-1]), None)
    if delimiter is None:
        return lambda line: [field.strip('"') for field in line.split()]

    def split(line: str) -> list[str]:
        fields = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True))
        return fields if delimiter == "," else [field.replace(",", ".") for field in fields]

    return split


def _number(field: str) -> float | None:
    """The number in a field, NaN for an empty one; None if there is none."""
    try:
        return float(field)
    except ValueError:
        return math.nan if field.strip().upper() in ("", "NA") else None


def _parsed(file: Path, rows: list[tuple[int, list[str]]]) -> list[npt.NDArray[np.float64]]:
    width, result = len(rows[0][1]), []
    for number, fields in rows:
        if len(fields) != width:
            raise InputError(f"{_name(file)} has {len(fields)} fields in line {number}, {width} in those above.")
        values = [_number(field) for field in fields]
        if None in values:
            column = values.index(None)
            raise InputError(
                f"{_name(file)} must hold numbers, got {fields[column]!r} in line {number}, field {column + 1}."
            )
        result.append(np.array(values, dtype=np.float64))
    return result


# -- HDF5, NetCDF and MATLAB -------------------------------------------------------------------------


def _read_hdf5(file: Path, dataset: str | None) -> _Stored:
    with _open_hdf5(file) as content:
        item, what = _find(content, file, dataset)
        return _stored(item, what)


def _read_netcdf(file: Path, dataset: str | None) -> _Stored:
    if not h5py.is_hdf5(file):
        return _read_classic_netcdf(file, dataset)
    with _open_hdf5(file) as content:
        item, what = _find(content, file, dataset)
        stored = _stored(item, what, _NETCDF_FILL.get(item.dtype.str[1:]))
        coordinates = [dimension[0][()] if len(dimension) else None for dimension in item.dims]
        return stored._replace(values=_upward(stored.values, coordinates))


def _read_classic_netcdf(file: Path, dataset: str | None) -> _Stored:
    with scipy.io.netcdf_file(file, "r", mmap=False) as content:
        variables = content.variables
        arrays = [name for name, variable in variables.items() if name not in content.dimensions and variable.shape]
        chosen = _choose(file, variables if dataset in variables else arrays or variables, dataset)
        variable, what = variables[chosen], f"dataset {chosen!r} in {str(file)!r}"
        values = np.asarray(variable.data)
        attributes = {name: getattr(variable, name, None) for name in _ATTRIBUTES}
        axes = [variables[name].data if name in variables else None for name in variable.dimensions]
        stored = _with_attributes(what, values, attributes, _NETCDF_FILL.get(values.dtype.str[1:]))
        return stored._replace(values=_upward(values, axes))


def _read_matlab(file: Path, dataset: str | None) -> _Stored:
    if h5py.is_hdf5(file):  # version 7.3
        with _open_hdf5(file) as content:
            item, what = _find(content, file, dataset)
            _check_matlab_class(what, _matlab_class(item))
            if item.attrs.get("MATLAB_empty", 0):
                raise InputError(f"{what} holds an empty array of shape {tuple(item[()].tolist())}.")
            # MATLAB stores the first index fastest, HDF5 the last: its axes arrive in reverse.
            return _Stored(what, _vector(_stored(item, what).values.T))
    kinds = {name: kind for name, _, kind in scipy.io.whosmat(file)}
    numeric = [name for name, kind in kinds.items() if kind in _MATLAB_NUMBERS]
    chosen = _choose(file, kinds if dataset in kinds else numeric or kinds, dataset)
    what = f"dataset {chosen!r} in {str(file)!r}"
    _check_matlab_class(what, kinds[chosen])
    return _Stored(what, _vector(np.asarray(scipy.io.loadmat(file, variable_names=[chosen])[chosen])))


def _check_matlab_class(what: str, kind: str) -> None:
    if kind not in _MATLAB_NUMBERS:
        raise InputError(f"{what} must be a full matrix of real numbers, got one of MATLAB's class {kind!r}.")


def _open_hdf5(file: Path) -> Any:
    try:
        return h5py.File(file, "r")
    except OSError as error:
        raise InputError(f"{_name(file)} is no readable HDF5 file: {_line(error)}.") from None


def _find(content: Any, file: Path, dataset: str | None) -> tuple[Any, str]:
    """The dataset of a name, or the only array of numbers of an HDF5 file; and what to call it in an error."""
    found = _datasets(content)
    if dataset is None:
        for name in content if not found else ():
            _explain_absence(content, file, name)
        chosen = _choose(file, [name for name, item in found.items() if _is_array(item)] or found, None)
    else:
        chosen = dataset.strip("/")
        if chosen not in found and not isinstance(chosen and content.get(chosen), h5py.Dataset):
            _explain_absence(content, file, chosen)
            _choose(file, found, dataset)
    return found.get(chosen, content[chosen]), f"dataset {chosen!r} in {str(file)!r}"


def _datasets(content: Any) -> dict[str, Any]:
    """All datasets by name, also those in groups and behind links to them; each once."""
    found: dict[Any, str] = {}

    def visit(name: str, _: Any) -> None:
        item = content.get(name)  # None behind a link that leads nowhere
        if isinstance(item, h5py.Dataset) and not name.startswith("#"):  # what MATLAB keeps for itself
            found.setdefault(item, name)

    content.visititems_links(visit)
    return {name: item for item, name in found.items()}


def _is_array(item: Any) -> bool:
    """Whether a dataset is an array of numbers, and no coordinate of NetCDF, no text of MATLAB."""
    numbers = bool(item.shape) and item.dtype.kind in "fiu" and not item.is_scale
    return numbers and _matlab_class(item) in _MATLAB_NUMBERS


def _matlab_class(item: Any) -> str:
    kind = item.attrs.get("MATLAB_class", "double")
    return kind.decode() if isinstance(kind, bytes) else str(kind)


def _explain_absence(content: Any, file: Path, name: str) -> None:
    """Raise an error if a name is that of a link that leads nowhere, or of MATLAB's group for a sparse matrix."""
    item, link = (content.get(name), content.get(name, getlink=True)) if name else (None, None)
    if item is None and isinstance(link, h5py.SoftLink | h5py.ExternalLink):
        place = f" of {link.filename!r}" if isinstance(link, h5py.ExternalLink) else ""
        raise InputError(f"dataset {name!r} in {str(file)!r} is a link to {link.path!r}{place}, which is not there.")
    if item is not None and "MATLAB_sparse" in item.attrs:
        _check_matlab_class(f"dataset {name!r} in {str(file)!r}", "sparse")


def _stored(item: Any, what: str, default_fill: float | None = None) -> _Stored:
    """Read a dataset of an HDF5 file."""
    if item.shape is None:
        raise InputError(f"{what} holds no values: its dataspace is empty.")
    _check_declared(what, item.shape, item.dtype)
    attributes = {name: item.attrs.get(name) for name in _ATTRIBUTES}
    return _with_attributes(what, np.asarray(item[()]), attributes, default_fill)


_ATTRIBUTES = ("_FillValue", "missing_value", "scale_factor", "add_offset")


def _with_attributes(what: str, values: Array, attributes: dict[str, Any], default_fill: float | None) -> _Stored:
    """Interpret the attributes by which NetCDF packs numbers and marks cells without data."""
    fill, missing, scale, offset = (_numbers(attributes[name]) for name in _ATTRIBUTES)
    markers = (fill or ([] if default_fill is None else [default_fill])) + missing
    return _Stored(what, values, tuple(markers), *(scale or [1.0])[:1], *(offset or [0.0])[:1])


def _numbers(attribute: Any) -> list[float]:
    """Values of an attribute, none if it is absent or no number."""
    values = np.atleast_1d(np.asarray([] if attribute is None else attribute)).ravel()
    return values.tolist() if values.dtype.kind in "fiu" else []


# -- GeoTIFF -----------------------------------------------------------------------------------------


def _read_geotiff(file: Path, dataset: str | None) -> _Stored:
    try:
        import rasterio
    except ImportError:
        raise MissingDependencyError(
            "GeoTIFF files need rasterio, which is not installed; install it (pip install rasterio) or "
            "nnlod-fenics with the extra geo."
        ) from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        image = rasterio.open(file)
    with image:
        band = int(_choose(file, map(str, image.indexes), dataset))
        what = f"band {band} of {str(file)!r}" if image.count > 1 else _name(file)
        _check_declared(what, image.shape, np.dtype(image.dtypes[band - 1]))
        step = image.transform
        if step.b or step.d:
            raise InputError(f"{what} is rotated against the axes; warp it first.")
        values = image.read(band, masked=True)[:: -1 if step.e < 0 else 1, :: -1 if step.a < 0 else 1]
        markers = () if image.nodatavals[band - 1] is None else (image.nodatavals[band - 1],)
        return _Stored(what, values, markers, image.scales[band - 1], image.offsets[band - 1])


_READERS: dict[str, Callable[[Path, str | None], _Stored]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".h5": _read_hdf5,
    ".hdf5": _read_hdf5,
    ".he5": _read_hdf5,
    ".mat": _read_matlab,
    ".csv": _read_text,
    ".tsv": _read_text,
    ".txt": _read_text,
    ".nc": _read_netcdf,
    ".tif": _read_geotiff,
    ".tiff": _read_geotiff,
}
