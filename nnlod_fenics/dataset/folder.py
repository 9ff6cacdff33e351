"""The folder that a run writes to: held by one job, checked before anything in it changes."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import h5py

from nnlod_fenics.dataset.layout import INDEX, Header, block_path, create_index, read_header
from nnlod_fenics.errors import InputError
from nnlod_fenics.progress import tell

__all__ = ["LOCK", "held", "is_whole", "locked", "prepare"]

LOCK = ".lock"
_TEMPORARY = re.compile(r"\.(dataset|\d{6,})-.*\.h5")
_BLOCK = re.compile(r"\d{6,}\.h5")
_COMPARED = ("grid", "field", "dataset")  # sections that a resumed run must agree in


def _is_ours(entry: Path) -> bool:
    """Whether an entry of the folder is part of a dataset, or left behind by a killed job."""
    if entry.name == "blocks" and entry.is_dir():
        return all(_BLOCK.fullmatch(e.name) or _TEMPORARY.fullmatch(e.name) for e in entry.iterdir())
    return entry.name in (INDEX, LOCK) or _TEMPORARY.fullmatch(entry.name) is not None


def _check(folder: Path, resume: bool, overwrite: bool) -> None:
    """Refuse a folder that must not be written to."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InputError(f"output {str(folder)!r} cannot be written: it is not a folder.")
    try:
        foreign = [entry.name for entry in folder.iterdir() if not _is_ours(entry)]
    except OSError as error:
        raise InputError(f"output {str(folder)!r} cannot be read: {error.strerror}.") from None
    if foreign:
        raise InputError(f"output {str(folder)!r} is a folder with other files in it ({foreign[0]}); choose a new one.")
    if (folder / INDEX).exists() and not (resume or overwrite):
        raise InputError(
            f"output {str(folder)!r} already holds a dataset; go on with --resume or replace it with --overwrite."
        )


@contextmanager
def held(folder: Path, resume: bool, overwrite: bool) -> Iterator[None]:
    """Hold the output folder for this job.

    The lock belongs to the process: it is gone when the process is, however it ended.

    Args:
        folder: The folder; made if it is missing.
        resume: Whether it may hold a dataset that is gone on with.
        overwrite: Whether it may hold a dataset that is replaced.

    Raises:
        InputError: If it cannot be written to, holds something else, or is held by another job.
    """
    _check(folder, resume, overwrite)
    with locked(folder):
        _check(folder, resume, overwrite)  # again: another job may have just finished
        yield


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other jobs from a folder, which is made if it is missing.

    Raises:
        InputError: If it cannot be written to or is held by another job.
    """
    handle = _lock(folder)
    try:
        yield
    finally:
        with suppress(OSError):
            (folder / LOCK).unlink()
        os.close(handle)
        with suppress(OSError):  # nothing was made: leave nothing, unless there is something
            folder.rmdir()


def _lock(folder: Path) -> int:
    path = folder / LOCK
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise InputError(f"output {str(folder)!r} cannot be written: {error.strerror}.") from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                os.close(handle)
                raise InputError(f"output {str(folder)!r} is in use by another job.") from None
            tell(f"output {str(folder)!r} lies on a file system without locks; run only one job on it at a time.")
            return handle
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), path.stat()):
                return handle
        os.close(handle)  # the job before removed this file while we waited for it


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
    try:
        if resume and (folder / INDEX).exists():
            _check_same(folder, header)
            _remove_temporary(folder)
            return [block for block in range(header.num_blocks) if not _keep(folder, header, block)]
        (folder / INDEX).unlink(missing_ok=True)  # first, so that blocks without an index are known as leftovers
        if (folder / "blocks").exists():
            shutil.rmtree(folder / "blocks")
        _remove_temporary(folder)
        (folder / "blocks").mkdir()
        create_index(folder, header)
    except OSError as error:
        raise InputError(f"output {str(folder)!r} cannot be written: {error.strerror or error}.") from None
    return list(range(header.num_blocks))


def _check_same(folder: Path, header: Header) -> None:
    found = read_header(folder)
    if found.made_by != "generate":
        raise InputError(f"output {str(folder)!r} was made by {found.made_by!r}; it cannot be resumed.")
    for section in _COMPARED:
        given: dict[str, Any] = header.config[section]
        there: dict[str, Any] = found.config[section]
        for key in sorted(set(given) | set(there)):
            if given.get(key) != there.get(key):
                raise InputError(
                    f"output {str(folder)!r} holds a run with another {section}.{key} ({there.get(key)!r}, now "
                    f"{given.get(key)!r}); it cannot be resumed."
                )
    changed = [name for name in sorted(header.versions) if header.versions[name] != found.versions.get(name)]
    if changed:
        tell(f"{str(folder)!r} was begun with another version of {changed[0]}: the bits of the rest may differ.")


def _remove_temporary(folder: Path) -> None:
    """Remove what a killed job was writing."""
    for place in (folder, folder / "blocks"):
        for entry in place.glob(".*.h5"):
            if _TEMPORARY.fullmatch(entry.name):
                entry.unlink()


def is_whole(path: Path, header: Header, block: int) -> bool:
    """Whether the file of a block can be read and holds all its realizations; its numbers are not checked."""
    count = len(header.members(block))
    try:
        with h5py.File(path, "r") as file:
            return all(file[name].shape == (count, *column[0]) for name, column in header.columns().items())
    except (OSError, KeyError, RuntimeError):
        return False


def _keep(folder: Path, header: Header, block: int) -> bool:
    path = block_path(folder, block)
    if not path.exists():
        return False
    if is_whole(path, header, block):
        return True
    tell(f"{path.name} is damaged and will be computed again.")
    path.unlink()
    return False
