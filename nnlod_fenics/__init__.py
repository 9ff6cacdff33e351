"""NN-LOD on FEniCSx: numerical homogenization of diffusion problems with random coefficients.

The method's steps in the order in which data flows: random field → patches → local matrices → dataset →
network → coarse operator → solution → statistics. Importing this package needs neither DOLFINx nor MPI;
the names below are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from nnlod_fenics.errors import InputError, MissingDependencyError, NumericalError
from nnlod_fenics.grid import Grid

if TYPE_CHECKING:
    from nnlod_fenics.fem import solve_fine
    from nnlod_fenics.fields import make_field
    from nnlod_fenics.lod.coarse import coarse_matrix, solve_coarse
    from nnlod_fenics.lod.local import local_matrices
    from nnlod_fenics.montecarlo import MonteCarloSettings, monte_carlo
    from nnlod_fenics.surrogate import NNLOD

__version__ = "0.2.0"

__all__ = [
    "NNLOD",
    "Grid",
    "InputError",
    "MissingDependencyError",
    "MonteCarloSettings",
    "NumericalError",
    "coarse_matrix",
    "local_matrices",
    "make_field",
    "monte_carlo",
    "solve_coarse",
    "solve_fine",
]

_LAZY = {
    "MonteCarloSettings": "nnlod_fenics.montecarlo",
    "NNLOD": "nnlod_fenics.surrogate",
    "coarse_matrix": "nnlod_fenics.lod.coarse",
    "local_matrices": "nnlod_fenics.lod.local",
    "make_field": "nnlod_fenics.fields",
    "monte_carlo": "nnlod_fenics.montecarlo",
    "solve_coarse": "nnlod_fenics.lod.coarse",
    "solve_fine": "nnlod_fenics.fem",
}

_INSTALL = {
    "dolfinx": "FEniCSx 0.9 or newer (conda-forge: fenics-dolfinx, Debian: python3-dolfinx, pip: dolfinx-solver-real)",
    "petsc4py": "petsc4py (conda-forge: petsc4py, Debian: python3-petsc4py)",
    "mpi4py": "mpi4py (conda-forge: mpi4py, Debian: python3-mpi4py)",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(_LAZY[name])
    except ModuleNotFoundError as error:
        root = (error.name or "").partition(".")[0]
        if root not in _INSTALL:
            raise
        message = f"{name} needs {root}, which is not installed; install {_INSTALL[root]}."
        raise MissingDependencyError(message) from error
    return getattr(module, name)
