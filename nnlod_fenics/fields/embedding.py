"""Exact sampling of stationary Gaussian fields by circulant embedding (Dietrich & Newsam 1997).

The covariance on the grid of D is embedded into a periodic one on a larger grid, whose eigenvalues are its
Fourier transform. White noise in Fourier space, coloured with their square roots and transformed back, has
exactly the wanted covariance on D, provided that no eigenvalue is negative. If some are, the periodic grid is
enlarged; if that is not enough, they are set to zero and the covariance error that this causes is computed
and reported.

The classical form transforms complex noise and takes real and imaginary part as two independent fields. Here
each field comes from its own real transform, which needs half the noise and half the arithmetic: a pair costs
the same, and a single field, all that is wanted where the next one has other parameters, half of it.
"""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import scipy.fft

from nnlod_fenics.errors import InputError
from nnlod_fenics.fields.box import Box
from nnlod_fenics.fields.spectrum import even_fast_size, isometry, spectrum_of

if TYPE_CHECKING:
    import gstools

__all__ = ["CirculantEmbedding"]

Array = npt.NDArray[np.float64]

_GROWTH = 1.5
_ROUNDING = 1e-13  # a clipped mass below it is rounding (measured: up to 1e-14)
_MOST_POINTS = 2**26  # of a periodic grid to try: half a gigabyte


class CirculantEmbedding:
    """Sampler of a Gaussian field at the cell midpoints of a box D.

    The smallest periodic grid, twice D, is tried first, then larger ones: those axes grow by half whose period is the
    shortest, measured in correlation lengths.

    Args:
        model: GSTools covariance model, anisotropic and rotated as it likes; its dimension is d.
        cells: Cells per axis, x first; an integer where all axes have the same.
        max_factor: Largest periodic grid to try, in multiples of D's longest side, measured in correlation lengths.
        warn: Whether a covariance error is warned of; the attributes hold it in any case.
        lengths: Side lengths of D, x first, or one number; 1 if None.

    Attributes:
        box: D and its cells.
        size: Points of the periodic grid per axis, x first.
        tried: Sizes that were tried.
        clipped_mass: Share of the eigenvalues' absolute sum that was negative and set to zero; 0 if exact.
        covariance_error: Largest error of the covariance on D caused by that, relative to the variance; 0 if exact.
        variogram_error: Largest relative error of the variogram c(0) − c(r) over the lags in D, 0 if exact: what
            homogenization sees, since a constant added to Z only scales the solution. Correlation lengths far beyond D
            make it much larger than ``covariance_error``.

    Raises:
        InputError: If an argument does not fit.
    """

    def __init__(
        self, model: gstools.CovModel, cells: Any, max_factor: float = 16.0, warn: bool = True, lengths: Any = None
    ) -> None:
        self.model, self.box = model, Box.of(int(model.dim), cells, lengths)
        if not isinstance(max_factor, (int, float)) or not max_factor >= 2:
            raise InputError(f"max_factor must be a number of at least 2, got {max_factor!r}.")
        spectrum = spectrum_of(model, self.box)
        self.tried: list[tuple[int, ...]] = []
        size = spectrum.least
        while True:
            self.tried.append(size[::-1])
            covariance = spectrum.covariance(size)
            eigenvalues = spectrum.eigenvalues(covariance)
            mass = spectrum.negative_share(eigenvalues)
            larger = self._larger(size, max_factor)
            if mass <= _ROUNDING or larger is None:
                break
            size = larger
        self.size = size[::-1]
        np.maximum(eigenvalues, 0.0, out=eigenvalues)
        self.clipped_mass, self.covariance_error, self.variogram_error = 0.0, 0.0, 0.0
        if mass > _ROUNDING:
            self.clipped_mass = mass
            errors = _errors(spectrum.inside(covariance), spectrum.inside(spectrum.back(eigenvalues)))
            self.covariance_error, self.variogram_error = errors[0] / float(model.sill), errors[1]
            if warn:
                warnings.warn(self.account, stacklevel=2)
        self._colour = self._deviations(spectrum.of_frequencies(eigenvalues))

    @property
    def nbytes(self) -> int:
        """Memory that the sampler keeps."""
        return int(self._colour.nbytes)

    def _larger(self, size: tuple[int, ...], max_factor: float) -> tuple[int, ...] | None:
        """The next periodic grid to try, if any."""
        reach = np.linalg.norm(np.linalg.inv(isometry(self.model)), axis=1)  # of the covariance along each axis
        sides = (np.array(self.box.lengths) / reach)[::-1]  # in correlation lengths, but for a common factor
        periods = np.array(size) * sides / self.box.shape
        grows = periods < _GROWTH * periods.min()
        larger = tuple(
            even_fast_size(math.ceil(_GROWTH * points)) if grow else points
            for points, grow in zip(size, grows, strict=True)
        )
        longest = np.array(larger) * sides / self.box.shape
        too_long = (longest[grows] > max_factor * sides.max() * (1 + 1e-9)).any()
        return None if too_long or math.prod(larger) > _MOST_POINTS else larger

    @property
    def account(self) -> str:
        """What clipping did to the covariance, in a sentence; empty if exact."""
        if self.covariance_error == 0:
            return ""
        return (
            f"The circulant embedding of GSTools' {self.model.name} model with correlation {_told(self.model)} still "
            f"has negative eigenvalues on {' × '.join(map(str, self.size))} points; they are set to zero, which "
            f"changes the covariance by up to {self.covariance_error:.1e} of the variance and the variogram inside D, "
            f"which is what homogenization sees, by up to {self.variogram_error:.1e} of itself."
        )

    def _deviations(self, eigenvalues: Array) -> Array:
        """Standard deviations of the noise for :meth:`draw`, shape ``(size_z, size_y, size_x/2 + 1)``.

        Rows stand for the frequencies −k_z, −k_y: :meth:`_on_domain` transforms forward along their axes, e^(−ikx), and
        along x e^(ikx). That matters for turned covariances only.
        Column k of the last axis stands for the frequencies k and −k too, each of which must have its
        eigenvalue as variance of the complex noise: half of it in real and in imaginary part. Columns 0 and
        size/2 stand for themselves, and of their imaginary part the real transform makes no use.
        """
        colour = np.sqrt(eigenvalues / math.prod(self.size))
        colour[..., 1:-1] *= math.sqrt(0.5)
        return colour

    def draw(self, rng: np.random.Generator) -> Array:
        """Draw one field.

        Args:
            rng: Source of randomness.

        Returns:
            Shape ``cells[::-1]``.
        """
        noise = rng.standard_normal((*self._colour.shape, 2)).view(np.complex128)[..., 0]
        noise *= self._colour
        return self._on_domain(noise)

    def covariances(self, cells: npt.NDArray[np.intp]) -> Array:
        """Covariance matrix of the field's values in some cells.

        Args:
            cells: Their numbers along each axis, in the order of arrays; shape ``(d, n)``.

        Returns:
            Shape ``(n, n)``.
        """
        size = self.size[::-1]
        periodic = scipy.fft.irfftn(self._eigenvalues(), size)
        matrix = np.empty((cells.shape[1],) * 2)
        for row, cell in zip(matrix, cells.T, strict=True):
            lag = cells - cell[:, None]
            lag[:-1] *= -1  # as frequencies are
            row[:] = periodic[tuple(along % points for along, points in zip(lag, size, strict=True))]
        return matrix

    def convolved(self, values: Array) -> Array:
        """The covariance matrix of the field on all of D, times values on D.

        Args:
            values: Shape ``cells[::-1]``.

        Returns:
            The same shape.
        """
        result = scipy.fft.rfft(values, self.size[0], axis=-1)
        for axis, points in enumerate(self.size[:0:-1]):
            result = scipy.fft.ifft(result, points, axis=axis, norm="forward", overwrite_x=True)
        result *= self._eigenvalues() / math.prod(self.size)
        return self._on_domain(result)

    def _eigenvalues(self) -> Array:
        """The eigenvalues in the order of :meth:`_deviations`."""
        eigenvalues = self._colour**2 * math.prod(self.size)
        eigenvalues[..., 1:-1] *= 2
        return eigenvalues

    def _on_domain(self, values: npt.NDArray[np.complex128]) -> Array:
        """Transform values by frequency into a field on D; forward along all axes but x, along which it is real."""
        *others, cells = self.box.shape
        for axis, count in enumerate(others):  # axis by axis, so that only what lies in D goes on
            values = scipy.fft.fft(values, axis=axis, overwrite_x=True)
            values = values[(slice(None),) * axis + (slice(0, count),)]
        field: Array = scipy.fft.irfft(values, self.size[0], axis=-1, norm="forward", overwrite_x=True)
        return field[..., :cells].copy()


def _errors(wanted: Array, own: Array) -> tuple[float, float]:
    """Largest error of a covariance, and largest relative one of its variogram; the first value is that of lag 0."""
    error = own - wanted
    variogram = np.maximum(wanted[0] - wanted[1:], np.finfo(float).eps * wanted[0])  # not known any better
    of_variogram = (np.abs(error[0] - error[1:]) / variogram).max(initial=0.0)
    return float(np.abs(error).max()), float(of_variogram)


def _told(model: gstools.CovModel) -> str:
    if model.is_isotropic:
        return f"length {model.len_scale:g}"
    return f"lengths {', '.join(f'{length:g}' for length in model.len_scale_vec)}"
