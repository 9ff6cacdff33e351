"""May I write here? One rule for every folder that a run writes to, and the lock that keeps other jobs out.

A kind of run says which files are its own (:class:`Contents`). Then, everywhere:

* a folder with other files in it is refused, unless the kind of run lets others be;
* a finished or interrupted run is resumed or replaced only if the caller says so;
* replacing removes the run's own files and no others;
* what a killed job was writing is removed;
* one job at a time.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from nnlod_fenics.errors import InputError
from nnlod_fenics.runtime.progress import tell

__all__ = ["LOCK", "Contents", "clear", "locked", "output_folder"]

LOCK = ".lock"
"""Name of the file by which a run holds its folder."""


@dataclass(frozen=True)
class Contents:
    """The files of a kind of run.

    Attributes:
        what: What the folder holds, as in "already holds …": ``"a dataset"``.
        mark: File that a folder with a run has.
        files: Regular expressions of the paths of its files, with ``/`` between folders.
        parts: Those of them that are the work of hours: without the mark they are not thrown away unasked.
        exclusive: Whether other files in the folder are refused.
        resumable: Whether a run can be resumed.
    """

    what: str
    mark: str
    files: tuple[str, ...]
    parts: str = ""
    exclusive: bool = True
    resumable: bool = True

    def is_own(self, path: str) -> bool:
        """Whether a file is one of a run, or was being written by one that was killed."""
        folder, _, name = path.rpartition("/")
        if path == LOCK or any(re.fullmatch(pattern, path) for pattern in self.files):
            return True
        return self.is_temporary(path) and any(self._stands_for(folder, name, pattern) for pattern in self.files)

    @staticmethod
    def is_temporary(path: str) -> bool:
        """Whether a name is one that :func:`nnlod_fenics.runtime.files.replacing` writes to."""
        return re.fullmatch(r"\..+-[a-z0-9_]+(\.\w+)?", path.rpartition("/")[2]) is not None

    @staticmethod
    def _stands_for(folder: str, name: str, pattern: str) -> bool:
        stem, suffix = re.fullmatch(r"\.(.+)-[a-z0-9_]+(\.\w+)?", name).groups()  # type: ignore[union-attr]
        final = f"{stem}{suffix or ''}"
        return re.fullmatch(pattern, f"{folder}/{final}" if folder else final) is not None


@contextmanager
def output_folder(
    folder: str | Path, contents: Contents, resume: bool = False, overwrite: bool = False
) -> Iterator[Path]:
    """Hold an output folder for this job, ready to be written to.

    Args:
        folder: The folder; made if it is missing.
        contents: What the run keeps in it.
        resume: Whether it may hold a run that is resumed; its files are kept then.
        overwrite: Whether it may hold a run that is replaced; its files are removed then.

    Yields:
        The folder.

    Raises:
        InputError: If it cannot be written to, holds something else, or is held by another job; says what to do.
    """
    path = Path(folder)
    _check(path, contents, resume, overwrite)
    with locked(path):
        _check(path, contents, resume, overwrite)  # again: another job may have just finished
        try:
            clear(path, contents, only_temporary=resume and (path / contents.mark).exists())
        except OSError as error:
            raise InputError(f"output {str(path)!r} cannot be written: {error.strerror or error}.") from None
        yield path


def _entries(folder: Path) -> list[str]:
    """Paths of all files in a folder and below, relative to it; of empty folders, too."""
    found = []
    for root, folders, files in os.walk(folder):
        place = Path(root)
        empty = [name for name in folders if not any((place / name).iterdir())]
        found += [(place / name).relative_to(folder).as_posix() for name in files + empty]
    return sorted(found)


def _check(folder: Path, contents: Contents, resume: bool, overwrite: bool) -> None:
    named = f"output {str(folder)!r}"
    try:
        missing = not folder.exists() and not folder.is_symlink()
    except OSError as error:  # a name that is too long, say
        raise InputError(f"{named} cannot be written: {error.strerror}.") from None
    if missing:
        return
    if not folder.is_dir():
        raise InputError(f"{named} cannot be written: it is not a folder.")
    try:
        entries = _entries(folder)
    except OSError as error:
        raise InputError(f"{named} cannot be read: {error.strerror}.") from None
    own = [entry for entry in entries if contents.is_own(entry)]
    if contents.exclusive:
        folders = {pattern.partition("/")[0] for pattern in contents.files if "/" in pattern}
        foreign = [entry for entry in entries if entry not in own and entry not in folders]
        if foreign:
            raise InputError(f"{named} is a folder with other files in it ({foreign[0]}); choose a new one.")
    if overwrite or resume:
        if resume and contents.mark not in own and not overwrite and _parts(own, contents):
            raise InputError(
                f"{named} holds finished parts of {contents.what} ({_parts(own, contents)[0]}) but no {contents.mark}, "
                "without which they cannot be resumed; restore that file, or replace all with --overwrite."
            )
        return
    if contents.mark in own:
        remedy = "resume with --resume or replace it" if contents.resumable else "replace it"
        raise InputError(f"{named} already holds {contents.what}; {remedy} with --overwrite.")
    if parts := _parts(own, contents):
        remedy = "restore that file and resume, or replace" if contents.resumable else "replace"
        raise InputError(
            f"{named} holds finished parts of {contents.what} ({parts[0]}) but no {contents.mark}; {remedy} all with "
            "--overwrite."
        )


def _parts(own: list[str], contents: Contents) -> list[str]:
    return [entry for entry in own if contents.parts and re.fullmatch(contents.parts, entry)]


def clear(folder: Path, contents: Contents, only_temporary: bool = False) -> None:
    """Remove a run's own files, the mark first, and folders that are empty then.

    Args:
        folder: The folder.
        contents: What the run keeps in it.
        only_temporary: Only those that a killed job was writing.
    """
    entries = [entry for entry in _entries(folder) if entry != LOCK and contents.is_own(entry)]
    if only_temporary:
        entries = [entry for entry in entries if contents.is_temporary(entry)]
    for entry in sorted(entries, key=lambda e: e != contents.mark):
        (folder / entry).unlink()
        parent = (folder / entry).parent
        if parent != folder and not any(parent.iterdir()):
            parent.rmdir()


@contextmanager
def locked(folder: str | Path) -> Iterator[None]:
    """Keep other jobs from a folder, which is made if it is missing.

    The lock belongs to the process: it is gone when the process is, however it ended.

    Raises:
        InputError: If it cannot be written to or is held by another job.
    """
    path = Path(folder)
    handle = _lock(path)
    try:
        yield
    finally:
        with suppress(OSError):
            (path / LOCK).unlink()
        os.close(handle)
        with suppress(OSError):  # nothing was made: leave nothing, unless there is something
            path.rmdir()


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
