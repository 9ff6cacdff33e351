"""DOLFINx functions as files for ParaView: VTX (ADIOS2) or XDMF (HDF5)."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from nnlod_fenics.compat import MPI  # noqa: F401  # first, see there

from dolfinx import has_adios2, io

from nnlod_fenics.errors import InputError, MissingDependencyError

__all__ = ["write_function"]


def write_function(path: str | os.PathLike[str], function: Any) -> Path:
    """Write a Q1 (or, as XDMF, also piecewise constant) DOLFINx function, in parallel.

    Args:
        path: A name that ends in ``.bp`` (VTX, a folder; needs a DOLFINx with ADIOS2) or ``.xdmf`` (with
            the numbers in an ``.h5`` beside it; works everywhere). Overwritten.
        function: The function, for instance ``FineSolution.function``.

    Returns:
        The path.

    Raises:
        InputError: If the suffix is neither or the folder cannot be written.
        MissingDependencyError: If DOLFINx has no ADIOS2 and the suffix is ``.bp``.

    Note:
        Collective over the function's communicator.
    """
    target = Path(path)
    if target.suffix not in (".bp", ".xdmf"):
        raise InputError(f"path must end in .bp or .xdmf, got {str(target)!r}.")
    if target.suffix == ".bp" and not has_adios2:
        raise MissingDependencyError(
            "VTX files (.bp) need a DOLFINx built with ADIOS2, which this one is not; write .xdmf instead."
        )
    comm = function.function_space.mesh.comm
    work, problem = comm.bcast(_make_folder(target.parent) if comm.rank == 0 else None)
    if problem:
        raise InputError(f"path {str(target)!r} cannot be written: {problem}.")
    temporary = Path(work, target.name)
    if target.suffix == ".bp":
        with io.VTXWriter(comm, temporary, [function], engine="BP4") as vtx:
            vtx.write(0.0)
    else:
        with io.XDMFFile(comm, temporary, "w") as xdmf:
            xdmf.write_mesh(function.function_space.mesh)
            xdmf.write_function(function)
    comm.Barrier()
    if comm.rank == 0:
        for item in Path(work).iterdir():
            _replace(item, target.parent / item.name)
        os.rmdir(work)
    comm.Barrier()
    return target


def _make_folder(parent: Path) -> tuple[str, str | None]:
    """A folder beside the result, so that moving it there is one step; or what went wrong."""
    try:
        parent.mkdir(parents=True, exist_ok=True)
        return tempfile.mkdtemp(prefix=".writing-", dir=parent), None
    except OSError as error:
        return "", error.strerror


def _replace(source: Path, target: Path) -> None:
    if target.is_dir():
        shutil.rmtree(target)
    os.replace(source, target)
