"""MPI, from whichever package has it; modules that need DOLFINx or PETSc import this first.

DOLFINx from wheels (``dolfinx-solver-real``) is linked against an MPI library that its loader finds only once mpi4py
has loaded it, and does not go with another petsc4py; its own ``dolfinx_solver`` sees to both. A script that imports
``mpi4py.MPI`` before anything else is fine as well; one that begins with ``import dolfinx`` fails there. Without mpi4py
it raises an error that does not name the missing module, so that one is looked for before.
"""

from __future__ import annotations

from contextlib import suppress

import mpi4py  # noqa: F401

with suppress(ModuleNotFoundError):
    import dolfinx_solver  # noqa: F401

from mpi4py import MPI

__all__ = ["MPI"]
