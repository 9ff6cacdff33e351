"""Exact sampling of stationary Gaussian fields by circulant embedding (Dietrich & Newsam 1997).

The covariance on the grid of D is embedded into a periodic one on a larger grid, which the FFT diagonalises.
Colouring complex white noise with the square roots of the eigenvalues gives a complex field whose real and
imaginary parts are two independent samples with exactly the wanted covariance on D, provided that no
eigenvalue is negative. If some are, the periodic grid is enlarged; if that is not enough, they are set to
zero and the covariance error that this causes is computed and told.
"""

from __future__ import annotations

import math
import warnings

import gstools
import numpy as np
import numpy.typing as npt
import scipy.fft

from nnlod_fenics.errors import InputError

__all__ = ["CirculantEmbedding"]

Array = npt.NDArray[np.float64]

_GROWTH = 1.5
_ROUNDING = 1e-12  # negative eigenvalues below this share of the largest one are rounding errors
_MOST_POINTS = 2**26  # of the periodic grid: half a gigabyte


class CirculantEmbedding:
    """Sampler of a Gaussian field at the cell midpoints of D = (0,1)^d.

    Args:
        model: GSTools covariance model; its dimension is d.
        cells: Cells per axis, 1/ε.
        max_factor: Largest periodic grid to try, in multiples of D.

    Attributes:
        size: Points of the periodic grid per axis.
        tried: Sizes that were tried.
        clipped_mass: Share of the eigenvalues' absolute sum that was negative and set to zero; 0 if exact.
        covariance_error: Largest error of the covariance on D caused by that, relative to the variance.

    Raises:
        InputError: If an argument does not fit.
    """

    def __init__(self, model: gstools.CovModel, cells: int, max_factor: float = 16.0) -> None:
        if isinstance(cells, bool) or not isinstance(cells, (int, np.integer)) or cells < 1:
            raise InputError(f"cells must be a positive integer, got {cells!r}.")
        if not max_factor >= 2:
            raise InputError(f"max_factor must be at least 2, got {max_factor!r}.")
        self.model, self.cells, self.dim = model, int(cells), int(model.dim)
        self.tried: list[int] = []
        size = scipy.fft.next_fast_len(max(2 * self.cells - 2, 1))
        while True:
            self.tried.append(size)
            covariance = self._periodic_covariance(size)
            eigenvalues = scipy.fft.fftn(covariance).real
            negative = -eigenvalues[eigenvalues < 0].sum()
            exact = eigenvalues.min() >= -_ROUNDING * eigenvalues.max()
            larger = scipy.fft.next_fast_len(math.ceil(_GROWTH * size))
            if exact or larger > max_factor * self.cells or larger**self.dim > _MOST_POINTS:
                break
            size = larger
        self.size = size
        self.clipped_mass = 0.0 if exact else float(negative / np.abs(eigenvalues).sum())
        positive = np.maximum(eigenvalues, 0.0)
        self.covariance_error = 0.0 if exact else self._error(positive, covariance)
        self._root = np.sqrt(positive / size**self.dim)
        if not exact:
            warnings.warn(
                f"The circulant embedding of {model.name} with correlation length {model.len_scale:g} still has "
                f"negative eigenvalues on {size} points per axis; they are set to zero, which changes the "
                f"covariance by up to {self.covariance_error:.1e} of the variance.",
                stacklevel=2,
            )

    def _periodic_covariance(self, size: int) -> Array:
        """Covariance as a function of the periodic distance, shape ``(size,)*d``."""
        lag = np.arange(size)
        half = size // 2 + 1
        squares = (np.arange(half) / self.cells) ** 2
        distance = np.sqrt(sum(np.meshgrid(*(squares,) * self.dim, indexing="ij", sparse=True)))
        quadrant: Array = np.asarray(self.model.covariance(distance.ravel())).reshape(distance.shape)
        return quadrant[np.ix_(*(np.minimum(lag, size - lag),) * self.dim)]

    def _error(self, eigenvalues: Array, covariance: Array) -> float:
        on_domain = (slice(0, self.cells),) * self.dim
        actual = scipy.fft.ifftn(eigenvalues).real[on_domain]
        return float(np.abs(actual - covariance[on_domain]).max() / self.model.var)

    def sample(self, rng: np.random.Generator) -> Array:
        """Draw two independent fields.

        Args:
            rng: Source of randomness.

        Returns:
            Shape ``(2, cells, …, cells)``.
        """
        noise = rng.standard_normal(self._root.shape + (2,)).view(np.complex128)[..., 0]
        noise *= self._root
        for axis in range(self.dim):  # axis by axis, so that only what lies in D goes on
            noise = scipy.fft.fft(noise, axis=axis, overwrite_x=True)
            noise = noise[(slice(None),) * axis + (slice(0, self.cells),)]
        return np.stack([noise.real, noise.imag])
