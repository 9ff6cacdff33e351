"""Merging datasets of several runs, and splitting one into training, validation and test set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from nnlod_fenics.dataset.folder import CONTENTS as GENERATED
from nnlod_fenics.dataset.folder import prepare
from nnlod_fenics.dataset.layout import UNSTATED, Block, Header, identity_of, write_block
from nnlod_fenics.dataset.reading import Dataset
from nnlod_fenics.errors import InputError
from nnlod_fenics.grid import told_apart
from nnlod_fenics.runtime.folder import clear, output_folder
from nnlod_fenics.runtime.progress import show_progress

__all__ = ["merge_datasets", "split_dataset"]

CONTENTS = replace(GENERATED, resumable=False)  # copied anew, not resumed

_Source = tuple[Dataset, int]  # a realization of a dataset


def merge_datasets(sources: Sequence[str | Path], output: str | Path, overwrite: bool = False) -> Path:
    """Join runs of the same configuration with different seeds, one after the other.

    Args:
        sources: Folders of two or more datasets.
        output: Folder to write; the data is copied.
        overwrite: Replace a dataset that is there.

    Returns:
        The folder.

    Raises:
        InputError: If the sources do not fit together or one is damaged, or the folder cannot be written to.
    """
    if len(sources) < 2:
        raise InputError(f"sources must be at least two datasets, got {len(sources)}.")
    datasets = [Dataset(path) for path in sources]
    for first, second in pairwise(datasets):
        _check_fit(first, second)
    origins = np.concatenate([dataset.column("origin", range(len(dataset))) for dataset in datasets])
    unique, count = np.unique(origins, axis=0, return_counts=True)
    if (count > 1).any():
        seed, number = unique[count > 1][0]
        raise InputError(f"sources must not share realizations, but realization {number} of seed {seed} is in two.")
    chosen = [(dataset, k) for dataset in datasets for k in range(len(dataset))]
    return _write(chosen, Path(output), "merge", overwrite)


def split_dataset(source: str | Path, output: str | Path, overwrite: bool = False) -> dict[str, Path]:
    """Write training, validation and test set, 80 : 10 : 10 by realization, as datasets of their own.

    Args:
        source: Folder of the dataset.
        output: Folder in which the folders ``train``, ``validation`` and ``test`` are written.
        overwrite: Replace datasets that are there.

    Returns:
        The three folders by name.

    Raises:
        InputError: If there are too few realizations or one is damaged, or the folder cannot be written to.
    """
    dataset, written = Dataset(source), {}
    for name, realizations in dataset.split()._asdict().items():
        chosen = [(dataset, k) for k in realizations]
        written[name] = _write(chosen, Path(output) / name, "split", overwrite)
    return written


def _check_fit(first: Dataset, second: Dataset) -> None:
    names = ("method", "dtype", "form", "loads")
    settings = [(a.config, UNSTATED | a.config["dataset"]) for a in (first, second)]
    parts = [(a["grid"], a["field"], *(own[name] for name in names)) for a, own in settings]
    for name, one, other in zip(("grid", "field", *names), *parts, strict=True):
        if one != other:
            if name == "grid":
                one, other = told_apart(first.grid, second.grid)
            raise InputError(
                f"sources must have the same {name}, but {str(first.path)!r} has {one} and {str(second.path)!r} "
                f"has {other}."
            )


def _write(chosen: Sequence[_Source], folder: Path, made_by: str, overwrite: bool) -> Path:
    """Copy realizations into a new dataset, block by block, checked on the way."""
    model = chosen[0][0]
    config = model.config | {"dataset": model.config["dataset"] | {"realizations": len(chosen)}}
    origins = np.concatenate([dataset.column("origin", [k]) for dataset, k in chosen])
    header = Header(
        model.grid,
        config,
        len(chosen),
        model.header.block,
        model.versions,
        made_by,
        model.header.parameters,
        identity_of(config, origins),
    )
    if any(folder.resolve() == dataset.path.resolve() for dataset, _ in chosen):
        raise InputError(f"output {str(folder)!r} is one of the sources; choose another folder.")
    with output_folder(folder, CONTENTS, overwrite=overwrite), show_progress(made_by, len(chosen)) as report:
        try:
            for block in prepare(folder, header, resume=False):
                members = header.members(block)
                write_block(folder, header, block, _gather([chosen[k] for k in members]))
                report(members.stop)
        except BaseException:  # leave no half of a dataset
            clear(folder, CONTENTS)
            raise
    return folder


def _gather(chosen: Sequence[_Source]) -> Block:
    """Some realizations, checked."""
    parts = [dataset.arrays([k]) for dataset, k in chosen]
    Z, S, *marks = (np.concatenate(values) for values in zip(*parts, strict=True))
    parameters, origin = (
        np.concatenate([dataset.column(name, [k]) for dataset, k in chosen]) for name in ("parameters", "origin")
    )
    return Block(Z, S, parameters, origin, *marks)
