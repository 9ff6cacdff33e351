"""Monte Carlo: expectations of solutions over random coefficients, with errors that can be trusted.

Modules: ``estimators`` (moments, plain and combined estimators), ``weights`` (those of least variance), ``choice``
(models and sample numbers of least variance), ``allocation`` (the plan of a run, from its pilot run), ``candidates``
(the models of a run), ``goal`` (when there are enough), ``sampling`` (a block of samples), ``job`` (rounds of blocks
under MPI), ``run`` (from arguments to result, with resume), ``store`` (files of a run), ``estimate`` (the result),
``report`` (its files). Its settings are in :mod:`nnlod_fenics.config`, functionals in :mod:`nnlod_fenics.functionals`.
"""

from nnlod_fenics.config.montecarlo import MonteCarloSettings
from nnlod_fenics.functionals import BoxAverage, Outflow, PointValue, parse_functionals
from nnlod_fenics.montecarlo.estimate import Estimate, FunctionalEstimate
from nnlod_fenics.montecarlo.run import monte_carlo

__all__ = [
    "BoxAverage",
    "Estimate",
    "FunctionalEstimate",
    "MonteCarloSettings",
    "Outflow",
    "PointValue",
    "monte_carlo",
    "parse_functionals",
]
