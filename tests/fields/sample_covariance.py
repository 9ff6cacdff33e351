"""What the tests of Gaussian fields share: formula (2.3) without GSTools, exact laws, bounds for sample covariances.

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
from scipy.spatial.transform import Rotation

from nnlod_fenics.fields import CirculantEmbedding

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


def lags(cells: tuple[int, ...], lengths: tuple[float, ...]) -> np.ndarray:
    """Vectors, x first, between all cell midpoints of a box, in the order of its arrays; shape ``(n, n, d)``."""
    axes = [(np.arange(count) + 0.5) * length / count for count, length in zip(cells, lengths, strict=True)]
    points = np.stack([a.ravel() for a in np.meshgrid(*axes[::-1], indexing="ij")][::-1], axis=1)
    return points[:, None] - points[None]


def turned_formula(lag: np.ndarray, variance: float, rho: tuple[float, ...], angles: tuple[float, ...], nu: float):
    """(2.3) with a correlation length per axis, the axes turned: by one angle from x to y, or by yaw, pitch, roll."""
    if lag.shape[-1] == 2 and angles:
        c, s = np.cos(angles[0]), np.sin(angles[0])
        lag = np.stack([c * lag[..., 0] + s * lag[..., 1], c * lag[..., 1] - s * lag[..., 0]], axis=-1)
    if lag.shape[-1] == 3 and angles:
        lag = lag @ Rotation.from_euler("zyx", angles).as_matrix()  # the inverse, for rows
    return formula(np.linalg.norm(lag / np.array(rho), axis=-1), variance, 1.0, nu)


class UnitNoise:
    """Stands in for a random generator: its noise is the unit vector ``number``."""

    def __init__(self, number: int) -> None:
        self.number = number

    def standard_normal(self, shape: tuple[int, ...]) -> np.ndarray:
        self.count = int(np.prod(shape))
        noise = np.zeros(self.count)
        noise[self.number] = 1
        return noise.reshape(shape)


def law_of(embedding: CirculantEmbedding) -> np.ndarray:
    """The covariance matrix of a drawn field, without statistics.

    A field is a linear map of white noise. Its matrix L, column by column, gives the covariance L Lᵀ.
    """
    first = UnitNoise(0)
    columns = [embedding.draw(first).ravel()]  # type: ignore[arg-type]
    columns += [embedding.draw(UnitNoise(k)).ravel() for k in range(1, first.count)]  # type: ignore[arg-type]
    return sum(np.outer(column, column) for column in columns)
