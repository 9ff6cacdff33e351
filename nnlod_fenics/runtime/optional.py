"""Parts of the software stack that may be missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from nnlod_fenics.errors import MissingDependencyError

__all__ = ["needed_for"]

_INSTALL = {
    "dolfinx": "FEniCSx 0.9 or newer (conda-forge: fenics-dolfinx, Debian: python3-dolfinx, pip: dolfinx-solver-real)",
    "petsc4py": "petsc4py (conda-forge: petsc4py, Debian: python3-petsc4py, pip: dolfinx-solver-real)",
    "mpi4py": "mpi4py (conda-forge: mpi4py, Debian: python3-mpi4py, pip: mpi4py)",
    "pyvista": "PyVista (pip: pyvista)",
}
_INSTALL |= {name: _INSTALL["dolfinx"] for name in ("basix", "ufl", "ffcx")}


@contextmanager
def needed_for(purpose: str) -> Iterator[None]:
    """While something is imported that may be missing.

    Args:
        purpose: What needs it, as the subject of a sentence.

    Raises:
        MissingDependencyError: If it is missing; says what to install.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        root = (error.name or "").partition(".")[0]
        if root not in _INSTALL:
            raise
        message = f"{purpose} needs {root}, which is not installed; install {_INSTALL[root]}."
        raise MissingDependencyError(message) from error
