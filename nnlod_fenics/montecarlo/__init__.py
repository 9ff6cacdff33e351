"""Monte Carlo: expectations of solutions over random coefficients, with errors that can be trusted.

Modules: ``settings``, ``functionals``, ``estimators`` (moments, plain and control variate estimators),
``allocation`` (sample numbers from a pilot run), ``goal`` (when there are enough), ``sampling`` (a block of samples),
``job`` (rounds of blocks under MPI), ``run`` (from arguments to result, with resume), ``store`` (files of a run),
``estimate`` (the result), ``report`` (its files).
"""

from nnlod_fenics.montecarlo.estimate import Estimate, FunctionalEstimate
from nnlod_fenics.montecarlo.functionals import BoxAverage, Functional, Outflow, PointValue, parse_functionals
from nnlod_fenics.montecarlo.run import monte_carlo
from nnlod_fenics.montecarlo.settings import MonteCarloSettings

__all__ = [
    "BoxAverage",
    "Estimate",
    "Functional",
    "FunctionalEstimate",
    "MonteCarloSettings",
    "Outflow",
    "PointValue",
    "monte_carlo",
    "parse_functionals",
]
