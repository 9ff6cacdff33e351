"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nnlod_fenics.errors import InputError

__all__ = ["replacing"]


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Write to a temporary name beside ``path``, which replaces it if the block ends without an error.

    Args:
        path: The file; its folder is made if it is missing.

    Yields:
        The name to write to, of the same suffix.

    Raises:
        InputError: If the folder cannot be made or written to.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.stem}-", suffix=target.suffix, dir=target.parent)
        os.close(handle)
    except OSError as error:
        raise InputError(f"path {str(target)!r} cannot be written: {error.strerror}.") from error
    temporary = Path(name)
    try:
        yield temporary
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)  # mkstemp keeps others out
        temporary.replace(target)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()
