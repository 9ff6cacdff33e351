"""What the tests of Gaussian fields share: formula (2.3) without GSTools, and bounds for sample covariances.

Statistical bound: for N independent centred Gaussian vectors with covariance C, an entry of the sample
covariance has standard deviation √((C_ii C_jj + C_ij²)/N) and is a mean of N independent products, for the N
taken here close to normal. All P entries compared must lie within z of these standard deviations, where z is
the normal quantile for a false-alarm probability of 1e-6 over all P entries together (Bonferroni). Seeds are
fixed, so a pass stays a pass.
"""

from __future__ import annotations

import numpy as np
import scipy.special
import scipy.stats

FALSE_ALARM = 1e-6


def formula(distance: np.ndarray, variance: float, rho: float, nu: float) -> np.ndarray:
    """(2.3), written with SciPy's Bessel function."""
    scaled = np.sqrt(2 * nu) * np.where(distance == 0, 1.0, distance) / rho
    values = variance * 2 ** (1 - nu) / scipy.special.gamma(nu) * scaled**nu * scipy.special.kv(nu, scaled)
    return np.where(distance == 0, variance, values)


def distances(dim: int, cells: int) -> np.ndarray:
    """Distances between all cell midpoints of D, shape ``(cells**dim, cells**dim)``."""
    axis = (np.arange(cells) + 0.5) / cells
    points = np.stack([a.ravel() for a in np.meshgrid(*(axis,) * dim, indexing="ij")], axis=1)
    return np.linalg.norm(points[:, None] - points[None], axis=2)


def assert_covariance(samples: np.ndarray, expected: np.ndarray) -> None:
    """Hold the sample covariance and mean of ``samples``, shape ``(N, points)``, against a covariance and zero."""
    n = len(samples)
    deviation = np.sqrt((np.outer(np.diag(expected), np.diag(expected)) + expected**2) / n)
    z = scipy.stats.norm.isf(FALSE_ALARM / expected.size / 2)
    assert (np.abs(samples.T @ samples / n - expected) <= z * deviation).all()
    mean_bound = scipy.stats.norm.isf(FALSE_ALARM / len(expected) / 2) * np.sqrt(np.diag(expected) / n)
    assert (np.abs(samples.mean(axis=0)) <= mean_bound).all()
