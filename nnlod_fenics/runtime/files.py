"""Files that appear whole or not at all: any format, bytes, JSON, HDF5."""

from __future__ import annotations

import io
import json
import math
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from nnlod_fenics.errors import InputError

__all__ = [
    "hdf5_image",
    "is_file",
    "read_json",
    "replacing",
    "write_bytes",
    "write_hdf5",
    "write_json",
    "write_npy",
    "write_npz",
    "write_text",
]

PathLike = str | os.PathLike[str]


def is_file(path: PathLike) -> bool:
    """Whether there is a file.

    Raises:
        InputError: If the system cannot say: the name is too long, or a folder above may not be entered.
    """
    try:  # not Path.is_file, which from Python 3.14 on takes every error of the system for a missing file
        return stat.S_ISREG(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    except OSError as error:
        raise InputError(f"path {str(path)!r} cannot be read: {error.strerror}.") from None


@contextmanager
def replacing(path: PathLike) -> Iterator[Path]:
    """Write to a temporary name beside ``path``, which replaces it if the block ends without an error.

    Args:
        path: The file; its folder is made if it is missing.

    Yields:
        The name to write to, of the same suffix.

    Raises:
        InputError: If the folder cannot be made, or the file cannot be written (a full disk, say).
    """
    target = Path(path)
    temporary: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.stem}-", suffix=target.suffix, dir=target.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)  # mkstemp keeps others out
        temporary.replace(target)
    except OSError as error:
        raise InputError(f"path {str(target)!r} cannot be written: {error.strerror or error}.") from error
    finally:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink()


def write_bytes(path: PathLike, content: bytes, durable: bool = False) -> None:
    """Write bytes, whole or not at all.

    Args:
        path: The file.
        content: The bytes.
        durable: Whether the file must be whole even after a power cut.

    Raises:
        InputError: If it cannot be written.
    """
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(content)
        if durable:
            file.flush()
            os.fsync(file.fileno())


def write_text(path: PathLike, content: str) -> None:
    """Write text in UTF-8, whole or not at all."""
    write_bytes(path, content.encode("utf-8"))


def write_npy(path: PathLike, array: npt.ArrayLike) -> None:
    """Write an array in NumPy's format, whole or not at all.

    Made in memory: NumPy leaves the last part of a file to the C library, and does not see it fail on a full disk.
    """
    with io.BytesIO() as image:
        np.save(image, np.asarray(array))
        write_bytes(path, image.getvalue())


def write_npz(path: PathLike, **arrays: npt.ArrayLike) -> None:
    """Write arrays in NumPy's format for several, whole or not at all; see :func:`write_npy`."""
    with io.BytesIO() as image:
        np.savez(image, **{name: np.asarray(array) for name, array in arrays.items()})  # type: ignore[arg-type]
        write_bytes(path, image.getvalue())


def hdf5_image(fill: Callable[[h5py.File], None]) -> bytes:
    """The bytes of an HDF5 file.

    It is made in memory, so that a full disk is a plain OSError on writing and not a broken state of the HDF5
    library, and with the library's default format, which has no time stamps: equal content is equal bytes.

    Args:
        fill: Fills the open file.

    Returns:
        What to write.
    """
    with h5py.File("in memory", "w", driver="core", backing_store=False) as file:
        fill(file)
        file.flush()
        return bytes(file.id.get_file_image())


def write_hdf5(path: PathLike, fill: Callable[[h5py.File], None], durable: bool = False) -> None:
    """Write an HDF5 file, whole or not at all; see :func:`hdf5_image` and :func:`write_bytes`."""
    write_bytes(path, hdf5_image(fill), durable)


def write_json(path: PathLike, content: Any) -> None:
    """Write JSON, whole or not at all; numbers that JSON has no form for (NaN, infinity) become null."""
    write_text(path, json.dumps(_plain(content), indent=1, allow_nan=False) + "\n")


def read_json(path: PathLike) -> Any:
    """Read JSON.

    Raises:
        InputError: If the file is missing or damaged; names it.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"file {str(path)!r} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError):
        raise InputError(f"file {str(path)!r} is damaged: it is not JSON.") from None


def _plain(content: Any) -> Any:
    """The same with null for numbers that are not finite."""
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, dict):
        return {key: _plain(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_plain(value) for value in content]
    return content
