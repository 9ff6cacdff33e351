"""Random coefficients as files: arrays, pictures, and files for ParaView."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from nnlod_fenics.config import Config
from nnlod_fenics.errors import InputError
from nnlod_fenics.fields import FieldSample
from nnlod_fenics.output.figures import plot_coefficient
from nnlod_fenics.output.paraview import write_coefficient
from nnlod_fenics.runtime.files import write_npy

__all__ = ["write_samples"]

_MOST = 100_000  # realizations at a time: as many files


def write_samples(config: Config, folder: str | Path, count: int = 1) -> Iterator[tuple[Path, FieldSample]]:
    """Draw the first realizations of the dataset that a configuration describes, and write each of them.

    Args:
        config: The settings: grid, field and ``dataset.seed``.
        folder: Where ``A0.npy``, ``A0.png``, ``A0.vtkhdf``, … go; files of these names are replaced.
        count: Number of realizations.

    Yields:
        The ``.npy`` file of each realization, and the realization.

    Raises:
        InputError: If the count does not fit or the folder cannot be written to.
    """
    if not 1 <= count <= _MOST:
        raise InputError(f"count must be between 1 and {_MOST}, got {count}.")
    grid, law, place = config.make_grid(), config.make_field(), Path(folder)
    for k in range(count):
        drawn = law.sample(config.dataset.seed, k)
        write_npy(place / f"A{k}.npy", drawn.A)
        plot_coefficient(place / f"A{k}.png", drawn.A, grid=grid)
        write_coefficient(place / f"A{k}.vtkhdf", grid, drawn.A)
        yield place / f"A{k}.npy", drawn
