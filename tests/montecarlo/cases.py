"""Covariances and costs of models, for allocations: monomials, tuned models, and random ones."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["CASES"]

Array = npt.NDArray[np.float64]


def _monomials(orders: list[int]) -> Array:
    """Covariances of x^k, x uniform in (0, 1)."""
    k = np.array(orders, dtype=float)
    return np.asarray(1 / (k[:, None] + k + 1) - 1 / np.outer(k + 1, k + 1))


def _chain(rho: list[float], scale: list[float]) -> Array:
    """Each model is the next finer one with noise: correlations multiply along the chain."""
    steps = np.cumsum([0.0, *np.log(rho)])
    correlation = np.exp(-np.abs(steps[:, None] - steps))
    return np.asarray(correlation * np.outer(scale, scale))


def _random(seed: int, models: int) -> Array:
    """What all have in common, and what each has alone."""
    rng = np.random.default_rng(seed)
    A = np.ones((models, 1)) + 0.4 * rng.standard_normal((models, models))
    return A @ A.T


# the networks and averaged models of the demo: most of what the crude model misses the network knows
_LOD = np.array([[1, 0.99999, 0.990], [0.99999, 1, 0.9901], [0.990, 0.9901, 1]])

CASES: dict[str, tuple[Array, list[float]]] = {
    "two models": (np.array([[1.0, 1.8], [1.8, 4.0]]), [50.0, 1.0]),
    "two models, hardly alike": (np.array([[2.0, 0.9], [0.9, 1.0]]), [10.0, 1.0]),
    "network and averaged": (_LOD, [225.0, 24.0, 1.0]),
    "three monomials": (_monomials([5, 4, 3]), [1.0, 0.1, 0.01]),
    "chain of three": (_chain([0.99, 0.9], [1.0, 1.1, 0.7]), [100.0, 10.0, 1.0]),
    "three random": (_random(1, 3), [20.0, 2.0, 0.5]),
    "four monomials": (_monomials([5, 4, 3, 2]), [1.0, 0.1, 0.01, 0.001]),
    "chain of four": (_chain([0.999, 0.98, 0.9], [1.0, 1.0, 1.2, 0.8]), [1000.0, 100.0, 10.0, 1.0]),
    "four random": (_random(2, 4), [100.0, 5.0, 2.0, 0.1]),
    "four random, one costly": (_random(3, 4), [10.0, 8.0, 1.0, 0.2]),
}
"""By name: covariances of the models, the reference first, and costs of a sample of each."""
