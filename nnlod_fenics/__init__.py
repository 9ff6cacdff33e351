"""NN-LOD on FEniCSx: numerical homogenization of diffusion problems with random coefficients.

The method's steps in the order in which data flows: random field → patches → local matrices → dataset →
network → coarse operator → solution → statistics. Importing this package needs neither DOLFINx nor MPI;
the names below are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from nnlod_fenics.about import __version__
from nnlod_fenics.errors import InputError, MissingDependencyError, NumericalError
from nnlod_fenics.grid import Grid

if TYPE_CHECKING:
    from nnlod_fenics.config import Config, MonteCarloSettings, TrainingSettings, load_config
    from nnlod_fenics.dataset import Dataset
    from nnlod_fenics.dataset.generate import generate
    from nnlod_fenics.fem import solve_fine
    from nnlod_fenics.fields import FieldSample, make_field, register_field
    from nnlod_fenics.lod.coarse import coarse_mass_matrix, coarse_operator, solve_coarse
    from nnlod_fenics.lod.distributed import coarse_matrix
    from nnlod_fenics.lod.local import local_matrices
    from nnlod_fenics.lod.reconstruction import reconstruct
    from nnlod_fenics.montecarlo import monte_carlo
    from nnlod_fenics.network import NNLOD, export_network, register_network
    from nnlod_fenics.norms import energy_norm, l2_norm, prolong, relative_l2
    from nnlod_fenics.solvers import Solution, make_solver, register_method, solve
    from nnlod_fenics.training import TrainingData, refit_error_estimates, train
    from nnlod_fenics.workflows.evaluate import evaluate

__all__ = [
    "NNLOD",
    "Config",
    "Dataset",
    "FieldSample",
    "Grid",
    "InputError",
    "MissingDependencyError",
    "MonteCarloSettings",
    "NumericalError",
    "Solution",
    "TrainingData",
    "TrainingSettings",
    "__version__",
    "coarse_mass_matrix",
    "coarse_matrix",
    "coarse_operator",
    "energy_norm",
    "evaluate",
    "export_network",
    "generate",
    "l2_norm",
    "load_config",
    "local_matrices",
    "make_field",
    "make_solver",
    "monte_carlo",
    "prolong",
    "reconstruct",
    "refit_error_estimates",
    "register_field",
    "register_method",
    "register_network",
    "relative_l2",
    "solve",
    "solve_coarse",
    "solve_fine",
    "train",
]

_MODULES = {
    "config": ("Config", "MonteCarloSettings", "TrainingSettings", "load_config"),
    "dataset": ("Dataset",),
    "dataset.generate": ("generate",),
    "fem": ("solve_fine",),
    "fields": ("FieldSample", "make_field", "register_field"),
    "lod.coarse": ("coarse_mass_matrix", "coarse_operator", "solve_coarse"),
    "lod.distributed": ("coarse_matrix",),
    "lod.local": ("local_matrices",),
    "lod.reconstruction": ("reconstruct",),
    "montecarlo": ("monte_carlo",),
    "network": ("NNLOD", "export_network", "register_network"),
    "norms": ("energy_norm", "l2_norm", "prolong", "relative_l2"),
    "solvers": ("Solution", "make_solver", "register_method", "solve"),
    "training": ("TrainingData", "refit_error_estimates", "train"),
    "workflows.evaluate": ("evaluate",),
}
_LAZY = {name: f"nnlod_fenics.{module}" for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from nnlod_fenics.runtime.optional import needed_for

    with needed_for(name):
        return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
