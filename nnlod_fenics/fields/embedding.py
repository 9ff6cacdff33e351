"""Exact sampling of stationary Gaussian fields by circulant embedding (Dietrich & Newsam 1997).

The covariance on the grid of D is embedded into a periodic one on a larger grid, whose eigenvalues are its
Fourier transform. White noise in Fourier space, coloured with their square roots and transformed back, has
exactly the wanted covariance on D, provided that no eigenvalue is negative. If some are, the periodic grid is
enlarged; if that is not enough, they are set to zero and the covariance error that this causes is computed
and told.

The classical form transforms complex noise and takes real and imaginary part as two independent fields. Here
each field comes from its own real transform, which needs half the noise and half the arithmetic: a pair costs
the same, and a single field, all that is wanted where the next one has other parameters, half of it.
"""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import scipy.fft

from nnlod_fenics.errors import InputError
from nnlod_fenics.fields.arguments import check_cells

if TYPE_CHECKING:
    import gstools

__all__ = ["CirculantEmbedding"]

Array = npt.NDArray[np.float64]

_GROWTH = 1.5
_ROUNDING = 1e-13  # a clipped mass below it is rounding (measured: up to 1e-14)
_MOST_POINTS = 2**26  # of a periodic grid to try: half a gigabyte


class CirculantEmbedding:
    """Sampler of a Gaussian field at the cell midpoints of D = (0,1)^d.

    The smallest periodic grid, twice D, is tried first, then grids larger by half each.

    Args:
        model: GSTools covariance model, isotropic; its dimension is d.
        cells: Cells per axis, 1/ε.
        max_factor: Largest periodic grid to try, in multiples of D.
        warn: Whether a covariance error is warned of; the attributes tell it in any case.

    Attributes:
        size: Points of the periodic grid per axis.
        tried: Sizes that were tried.
        clipped_mass: Share of the eigenvalues' absolute sum that was negative and set to zero; 0 if exact.
        covariance_error: Largest error of the covariance on D caused by that, relative to the variance; 0 if exact.
        variogram_error: Largest relative error of the variogram c(0) − c(r) over the lags in D, 0 if exact: what
            homogenization sees, since a constant added to Z only scales the solution. Correlation lengths far beyond D
            make it much larger than ``covariance_error``.

    Raises:
        InputError: If an argument does not fit.
    """

    def __init__(self, model: gstools.CovModel, cells: int, max_factor: float = 16.0, warn: bool = True) -> None:
        check_cells(cells)
        if not isinstance(max_factor, (int, float)) or not max_factor >= 2:
            raise InputError(f"max_factor must be a number of at least 2, got {max_factor!r}.")
        if model.dim > 1 and not model.is_isotropic:
            raise InputError(f"model must be isotropic for the circulant embedding, got {model!r}.")
        self.model, self.cells, self.dim = model, int(cells), int(model.dim)
        self.tried: list[int] = []
        size = _even_fast_size(2 * self.cells - 2)
        while True:
            self.tried.append(size)
            covariance = self._covariance(size // 2 + 1)
            eigenvalues = scipy.fft.dctn(covariance, type=1)
            mass = _negative_share(eigenvalues)
            larger = _even_fast_size(math.ceil(_GROWTH * size))
            if mass <= _ROUNDING or larger > max_factor * self.cells or larger**self.dim > _MOST_POINTS:
                break
            size = larger
        self.size = size
        np.maximum(eigenvalues, 0.0, out=eigenvalues)
        self.clipped_mass, self.covariance_error, self.variogram_error = 0.0, 0.0, 0.0
        if mass > _ROUNDING:
            self.clipped_mass = mass
            self.covariance_error, self.variogram_error = self._errors(eigenvalues, covariance)
            if warn:
                warnings.warn(self.account, stacklevel=2)
        self._colour = self._half_spectrum(eigenvalues)

    @property
    def nbytes(self) -> int:
        """Memory that the sampler keeps."""
        return int(self._colour.nbytes)

    def _covariance(self, lags: int) -> Array:
        """Covariance at the lags 0, …, lags−1 of each axis: one orthant of the periodic covariance, which is even."""
        squares = np.arange(lags) ** 2
        if self.dim == 1:
            values = np.asarray(self.model.covariance(np.arange(lags) / self.cells), dtype=np.float64)
        else:  # many lags are equally long, and Bessel functions cost more than all else here
            total = sum(np.meshgrid(*(squares,) * self.dim, indexing="ij", sparse=True))
            occurs = np.zeros(self.dim * int(squares[-1]) + 1, dtype=bool)
            occurs[total] = True
            number = np.cumsum(occurs) - 1
            values = np.asarray(self.model.covariance(np.sqrt(np.flatnonzero(occurs)) / self.cells))[number[total]]
        values[(0,) * self.dim] += self.model.nugget
        return values

    def _errors(self, eigenvalues: Array, covariance: Array) -> tuple[float, float]:
        """Largest errors on D of the covariance and of the variogram, each as the attribute has it."""
        on_domain = (slice(0, self.cells),) * self.dim
        wanted = covariance[on_domain].ravel()
        error = scipy.fft.idctn(eigenvalues, type=1)[on_domain].ravel() - wanted
        variogram = np.maximum(wanted[0] - wanted[1:], np.finfo(float).eps * wanted[0])  # not known any better
        of_variogram = (np.abs(error[0] - error[1:]) / variogram).max(initial=0.0)
        return float(np.abs(error).max() / self.model.sill), float(of_variogram)

    @property
    def account(self) -> str:
        """What clipping did to the covariance, in a sentence; empty if exact."""
        if self.covariance_error == 0:
            return ""
        return (
            f"The circulant embedding of GSTools' {self.model.name} model with correlation length "
            f"{self.model.len_scale:g} still has negative eigenvalues on {self.size} points per axis; they are set to "
            f"zero, which changes the covariance by up to {self.covariance_error:.1e} of the variance and the "
            f"variogram inside D, which is what homogenization sees, by up to {self.variogram_error:.1e} of itself."
        )

    def _half_spectrum(self, eigenvalues: Array) -> Array:
        """Standard deviations of the noise for :meth:`draw`, shape ``(size, …, size, size/2 + 1)``.

        Column k of the last axis stands for the frequencies k and −k too, each of which must have its
        eigenvalue as variance of the complex noise: half of it in real and in imaginary part. Columns 0 and
        size/2 stand for themselves, and of their imaginary part the real transform makes no use.
        """
        frequency = np.arange(self.size)
        folded = np.minimum(frequency, self.size - frequency)
        colour = np.sqrt(eigenvalues / self.size**self.dim)
        colour[..., 1:-1] *= math.sqrt(0.5)
        for axis in range(self.dim - 1):
            colour = np.take(colour, folded, axis=axis)
        return colour

    def draw(self, rng: np.random.Generator) -> Array:
        """Draw one field.

        Args:
            rng: Source of randomness.

        Returns:
            Shape ``(cells, …, cells)``.
        """
        noise = rng.standard_normal((*self._colour.shape, 2)).view(np.complex128)[..., 0]
        noise *= self._colour
        for axis in range(self.dim - 1):  # axis by axis, so that only what lies in D goes on
            noise = scipy.fft.fft(noise, axis=axis, overwrite_x=True)
            noise = noise[(slice(None),) * axis + (slice(0, self.cells),)]
        field: Array = scipy.fft.irfft(noise, self.size, axis=-1, norm="forward", overwrite_x=True)
        return field[..., : self.cells].copy()


def _even_fast_size(least: int) -> int:
    """An even FFT length of at least ``least``, a product of small primes."""
    return 2 * scipy.fft.next_fast_len(max(math.ceil(least / 2), 1), real=True)


def _negative_share(eigenvalues: Array) -> float:
    """Share of the negative ones in the absolute sum over the periodic grid, of which the argument is an orthant."""
    negative, total = np.maximum(-eigenvalues, 0.0), np.abs(eigenvalues)
    for _ in range(eigenvalues.ndim):  # all but the end points of an axis stand for two frequencies
        negative = 2 * negative.sum(axis=-1) - negative[..., 0] - negative[..., -1]
        total = 2 * total.sum(axis=-1) - total[..., 0] - total[..., -1]
    return float(negative / total)
