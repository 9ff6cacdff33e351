"""A run under mpirun, of all models that are named; rank 0 writes its numbers."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from mpi4py import MPI
from problem import GRID, LevelLaw, wrong_model

from nnlod_fenics.montecarlo import MonteCarloSettings, PointValue, monte_carlo

SETTINGS = MonteCarloSettings(samples=60, pilot=8, cost_ratio=20.0, seed=5)
FUNCTIONALS = {"middle": PointValue((0.5,))}

if __name__ == "__main__":
    models = sys.argv[2:]
    settings = SETTINGS.changed(samples=40, models=models, cost_ratio=[5.0, 10.0, 8.0]) if models else SETTINGS
    estimate = monte_carlo(GRID, LevelLaw(), settings, wrong_model(), functionals=FUNCTIONALS)
    if MPI.COMM_WORLD.rank == 0:
        fields = {name: getattr(estimate, name) for name in ("mean", "variance", "standard_error")}
        np.savez(Path(sys.argv[1]), middle=estimate.functionals["middle"].mean, **fields)
