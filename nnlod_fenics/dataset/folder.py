"""The folder of a dataset: what belongs to it, and which of its blocks are still to be computed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from nnlod_fenics.config.base import shown
from nnlod_fenics.dataset.layout import INDEX, UNSTATED, Header, block_path, create_index, read_header
from nnlod_fenics.errors import InputError
from nnlod_fenics.runtime.folder import Contents
from nnlod_fenics.runtime.progress import tell

__all__ = ["CONTENTS", "fault_of", "prepare"]

_BLOCKS = r"blocks/\d{6,}\.h5"
CONTENTS = Contents("a dataset", INDEX, (INDEX, _BLOCKS), parts=_BLOCKS)
"""What the folder of a dataset holds."""
_COMPARED = ("grid", "field", "dataset")  # sections that a resumed run must agree in


def prepare(folder: Path, header: Header, resume: bool) -> list[int]:
    """Make the index, or check that it belongs to these settings.

    Args:
        folder: The folder, held.
        header: What the dataset will be.
        resume: Keep the blocks that are there.

    Returns:
        Numbers of the blocks that are to be computed.

    Raises:
        InputError: If the folder holds a run of other settings, or cannot be written to.
    """
    if resume and (folder / INDEX).exists():
        found = _check_same(folder, header)
        header = replace(header, identity=found.identity)  # blocks of version 0.1 bear none
        return [block for block in range(header.num_blocks) if not _keep(folder, header, block)]
    create_index(folder, header)
    return list(range(header.num_blocks))


def _check_same(folder: Path, header: Header) -> Header:
    """What the folder holds, if that is the run of these settings."""
    found = read_header(folder)
    if found.made_by != "generate":
        raise InputError(f"output {str(folder)!r} was made by {found.made_by!r}; it cannot be resumed.")
    for section in _COMPARED:
        unstated: dict[str, Any] = UNSTATED if section == "dataset" else {}
        given: dict[str, Any] = unstated | header.config[section]
        there: dict[str, Any] = unstated | found.config[section]
        for key in sorted(set(given) | set(there)):
            if given.get(key) != there.get(key):
                raise InputError(
                    f"output {str(folder)!r} holds a run with another {section}.{key} ({shown(there.get(key))}, now "
                    f"{shown(given.get(key))}); it cannot be resumed."
                )
    changed = [name for name in sorted(header.versions) if header.versions[name] != found.versions.get(name)]
    if changed:
        tell(f"{str(folder)!r} was begun with another version of {changed[0]}: the bits of the rest may differ.")
    return found


def fault_of(path: Path, header: Header, block: int) -> str | None:
    """What is wrong with the file of a block: ``"is truncated"`` or ``"belongs elsewhere"``; None if nothing is.

    Its numbers are checked when they are read.
    """
    members = header.members(block)
    try:
        with h5py.File(path, "r") as file:
            if any(file[name].shape != (len(members), *column[0]) for name, column in header.columns().items()):
                return "is truncated"
            if header.identity and str(file.attrs.get("identity", "")) != header.identity:
                return "belongs to another dataset"
            if int(file.attrs["first"]) != members.start:
                return "belongs to another place of the dataset"
            if header.made_by == "generate":
                seed = int(header.config["dataset"]["seed"])
                if not np.array_equal(file["origin"][:], [[seed, k] for k in members]):
                    return "belongs to another dataset"
    except (OSError, KeyError, RuntimeError):
        return "is truncated"
    return None


def _keep(folder: Path, header: Header, block: int) -> bool:
    path = block_path(folder, block)
    if not path.exists():
        return False
    fault = fault_of(path, header, block)
    if fault is None:
        return True
    tell(f"{path.name} is damaged or foreign ({fault}) and will be computed again.")
    path.unlink()
    return False
