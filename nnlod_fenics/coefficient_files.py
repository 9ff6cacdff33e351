"""Coefficients in files of the user's own: NumPy's .npy, or a dataset of an HDF5 file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from nnlod_fenics.errors import InputError

__all__ = ["read_array"]

_HDF5 = (".h5", ".hdf5", ".he5")


def read_array(path: str | Path, dataset: str | None = None) -> npt.NDArray[Any]:
    """Read an array.

    Args:
        path: ``.npy`` file, or HDF5 file (``.h5``, ``.hdf5``).
        dataset: Name of the dataset in the HDF5 file; may be omitted if there is only one.

    Returns:
        The array.

    Raises:
        InputError: If the file cannot be read or holds no such array.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(f"file {str(path)!r} does not exist.")
    if file.suffix == ".npy":
        try:
            return np.asarray(np.load(file, allow_pickle=False))
        except (OSError, ValueError) as error:
            raise InputError(f"file {str(path)!r} is no array of numbers in NumPy's format: {error}.") from None
    if file.suffix not in _HDF5:
        raise InputError(f"file {str(path)!r} must end in .npy or one of {_HDF5}.")
    try:
        with h5py.File(file, "r") as content:
            names = [name for name, item in content.items() if isinstance(item, h5py.Dataset)]
            name = dataset or (names[0] if len(names) == 1 else "")
            if name not in content or not isinstance(content[name], h5py.Dataset):
                raise InputError(f"dataset must be one of {names} in {str(path)!r}, got {dataset!r}.")
            return np.asarray(content[name])
    except OSError as error:
        raise InputError(f"file {str(path)!r} is no readable HDF5 file: {error}.") from None
