"""Periodic covariances and their eigenvalues, in two symmetries.

A covariance depends on the lag r between two cells, with c(r) = c(−r). If the axes of its anisotropy are those of
the box, it is even in each coordinate: one orthant of lags and one of frequencies say all, and cosine transforms
lead from one to the other. A rotated covariance has the one symmetry only, and half of the lags say all: those with
r_x ≥ 0. Sizes are the numbers of points of the periodic grid, all even, in the order of the arrays' axes: x last.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import scipy.fft

from nnlod_fenics.fields.box import Box
from nnlod_fenics.fields.radial import matern_correlation

if TYPE_CHECKING:
    import gstools

__all__ = ["EvenSpectrum", "HalfSpectrum", "Spectrum", "even_fast_size", "isometry", "spectrum_of"]

Array = npt.NDArray[np.float64]

_SMOOTHEST = 20.0  # beyond it GSTools takes the Gaussian limit of the Matérn model
_BLOCK = 2**18  # lags at a time: what GSTools needs for them is several times as much


class Spectrum(Protocol):
    """What the circulant embedding needs of a covariance on the cells of a box."""

    least: tuple[int, ...]
    """The smallest periodic grid that holds all lags of the box."""

    def covariance(self, size: tuple[int, ...]) -> Array:
        """The periodic covariance, as far as its symmetry does not give the rest."""

    def eigenvalues(self, covariance: Array) -> Array:
        """Its eigenvalues, as far as the symmetry does not give the rest."""

    def back(self, eigenvalues: Array) -> Array:
        """The periodic covariance of given eigenvalues."""

    def inside(self, covariance: Array) -> Array:
        """Its values at the lags between cells of the box, the lag 0 first; shape ``(lags,)``."""

    def negative_share(self, eigenvalues: Array) -> float:
        """Share of the negative ones in the absolute sum over all eigenvalues."""

    def of_frequencies(self, eigenvalues: Array) -> Array:
        """Those of the frequencies −k_z, −k_y, k_x in row k_z, k_y and column k_x = 0, …, size/2."""


class EvenSpectrum:
    """Of a covariance that is even in each coordinate: ``size/2 + 1`` lags and frequencies per axis.

    Args:
        model: Covariance model whose axes of anisotropy are those of the box.
        box: The box.
    """

    def __init__(self, model: gstools.CovModel, box: Box) -> None:
        self.model, self.box = model, box
        self.least = tuple(even_fast_size(2 * cells - 2) for cells in box.shape)

    def covariance(self, size: tuple[int, ...]) -> Array:
        """See :class:`Spectrum`."""
        lags = [np.arange(points // 2 + 1) for points in size]
        equal = self.box.cubic and (self.model.anis == 1).all()
        longest = sum(int(axis[-1]) ** 2 for axis in lags)
        if self.box.dim == 1:
            values = np.asarray(self.model.covariance(_scaled(lags[0], self.box)), dtype=np.float64)
        elif equal and longest <= 4 * math.prod(map(len, lags)):
            # many lags are equally long, and Bessel functions cost more than all else here
            total = sum(np.meshgrid(*(axis**2 for axis in lags), indexing="ij", sparse=True))
            occurs = np.zeros(longest + 1, dtype=bool)
            occurs[total] = True
            number = np.cumsum(occurs) - 1
            values = np.asarray(self.model.covariance(_scaled(np.sqrt(np.flatnonzero(occurs)), self.box)))[
                number[total]
            ]
        else:
            values = _at_lags(self.model, self.box, lags)
        values[(0,) * self.box.dim] += self.model.nugget
        return values

    def eigenvalues(self, covariance: Array) -> Array:
        """See :class:`Spectrum`."""
        return np.asarray(scipy.fft.dctn(covariance, type=1))

    def back(self, eigenvalues: Array) -> Array:
        """See :class:`Spectrum`."""
        return np.asarray(scipy.fft.idctn(eigenvalues, type=1))

    def inside(self, covariance: Array) -> Array:
        """See :class:`Spectrum`."""
        return covariance[tuple(slice(0, cells) for cells in self.box.shape)].ravel()

    def negative_share(self, eigenvalues: Array) -> float:
        """See :class:`Spectrum`."""
        return _negative_share(eigenvalues, self.box.dim)

    def of_frequencies(self, eigenvalues: Array) -> Array:
        """See :class:`Spectrum`."""
        for axis in range(self.box.dim - 1):
            size = 2 * eigenvalues.shape[axis] - 2
            frequency = np.arange(size)
            eigenvalues = np.take(eigenvalues, np.minimum(frequency, size - frequency), axis=axis)
        return eigenvalues


class HalfSpectrum:
    """Of any stationary covariance: all lags and frequencies of the axes but x, ``size/2 + 1`` of x.

    Args:
        model: Covariance model.
        box: The box.
    """

    def __init__(self, model: gstools.CovModel, box: Box) -> None:
        self.model, self.box = model, box
        # Lags size/2 and −size/2 are one point of the periodic grid with two values: none may be in the box.
        self.least = tuple(even_fast_size(2 * cells) for cells in box.shape)

    def covariance(self, size: tuple[int, ...]) -> Array:
        """See :class:`Spectrum`."""
        lags = [(np.arange(points) + points // 2 - 1) % points - points // 2 + 1 for points in size[:-1]]
        lags.append(np.arange(size[-1] // 2 + 1))
        values = _at_lags(self.model, self.box, lags)
        for axis, points in enumerate(
            size[:-1]
        ):  # half-way around, the mean of both values; the transform does so in x
            middle = (slice(None),) * axis + (slice(points // 2, points // 2 + 1),)
            other = [*lags[:axis], np.array([-(points // 2)]), *lags[axis + 1 :]]
            values[middle] = (values[middle] + _at_lags(self.model, self.box, other)) / 2
        values[(0,) * self.box.dim] += self.model.nugget
        return values

    def eigenvalues(self, covariance: Array) -> Array:
        """See :class:`Spectrum`."""
        # Transformed along y and z, c(−r) = c(r) makes values at −r_x the conjugates of those at r_x.
        others = tuple(range(self.box.dim - 1))
        columns = covariance.shape[-1]
        return np.asarray(
            scipy.fft.hfft(scipy.fft.fftn(covariance, axes=others), 2 * columns - 2)[..., :columns].copy()
        )

    def back(self, eigenvalues: Array) -> Array:
        """See :class:`Spectrum`."""
        columns = eigenvalues.shape[-1]
        size = (*eigenvalues.shape[:-1], 2 * columns - 2)
        return np.asarray(scipy.fft.irfftn(eigenvalues, size)[..., :columns])

    def inside(self, covariance: Array) -> Array:
        """See :class:`Spectrum`."""
        lags = [np.r_[0:cells, 1 - cells : 0] for cells in self.box.shape[:-1]]
        return covariance[np.ix_(*lags, np.arange(self.box.shape[-1]))].ravel()

    def negative_share(self, eigenvalues: Array) -> float:
        """See :class:`Spectrum`."""
        return _negative_share(eigenvalues, 1)

    def of_frequencies(self, eigenvalues: Array) -> Array:
        """See :class:`Spectrum`."""
        for axis in range(self.box.dim - 1):
            eigenvalues = np.take(eigenvalues, -np.arange(eigenvalues.shape[axis]), axis=axis)
        return eigenvalues


def spectrum_of(model: gstools.CovModel, box: Box) -> Spectrum:
    """The cheapest that fits a covariance."""
    to_isotropic = isometry(model)
    metric = to_isotropic.T @ to_isotropic  # r is as long as √(rᵀ metric r)
    scale = np.sqrt(np.outer(np.diag(metric), np.diag(metric)))
    even = (np.abs(metric - np.diag(np.diag(metric))) <= 4 * np.finfo(float).eps * scale).all()
    return EvenSpectrum(model, box) if even else HalfSpectrum(model, box)


def isometry(model: gstools.CovModel) -> Array:
    """The matrix that turns and stretches a lag, x first, into one of an isotropic covariance."""
    return np.asarray(model.isometrize(np.eye(model.dim)), dtype=np.float64)


def even_fast_size(least: int) -> int:
    """An even FFT length of at least ``least``, a product of small primes."""
    return 2 * int(scipy.fft.next_fast_len(max(math.ceil(least / 2), 1), real=True))


def _scaled(lags: Any, box: Box) -> Array:
    """Lags in cells of a box with cubes as cells, in the units of its sides."""
    return np.asarray(lags * box.lengths[0] / box.cells[0], dtype=np.float64)


def _at_lags(model: gstools.CovModel, box: Box, lags: list[Any]) -> Array:
    """Covariance, without nugget, at all combinations of lags in cells per axis, x last."""
    steps = [box.lengths[axis] / box.cells[axis] for axis in reversed(range(box.dim))]
    first, *others = (axis * step for axis, step in zip(lags, steps, strict=True))
    values = np.empty([len(axis) for axis in lags])
    rows = max(_BLOCK // max(math.prod(values.shape[1:]), 1), 1)
    for start in range(0, len(first), rows):
        grid = np.meshgrid(first[start : start + rows], *others, indexing="ij")
        points = np.stack([axis.ravel() for axis in reversed(grid)])
        values[start : start + rows] = np.reshape(_covariance(model, points), grid[0].shape)
    return values


def _covariance(model: gstools.CovModel, points: Array) -> Array:
    """Covariance, without nugget, at lags ``(d, n)``."""
    if model.name != "Matern" or model.nu > _SMOOTHEST:
        return np.asarray(model.cov_spatial(points))
    scaled = (isometry(model) @ points) * (math.sqrt(model.nu) * model.rescale / model.len_scale)
    return float(model.var) * matern_correlation(np.einsum("in,in->n", scaled, scaled), float(model.nu))


def _negative_share(eigenvalues: Array, folded: int) -> float:
    """Share of the negative ones in the absolute sum over the periodic grid, with half of its last ``folded`` axes."""
    negative, total = np.maximum(-eigenvalues, 0.0), np.abs(eigenvalues)
    for _ in range(folded):  # all but the end points of an axis stand for two frequencies
        negative = 2 * negative.sum(axis=-1) - negative[..., 0] - negative[..., -1]
        total = 2 * total.sum(axis=-1) - total[..., 0] - total[..., -1]
    return float(negative.sum() / total.sum())
