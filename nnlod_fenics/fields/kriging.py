"""Gaussian fields that take measured values: Z + C(·, o) C(o, o)⁻¹ (z − Z(o)), o the observed cells.

Of a Gaussian field Z with covariance C this is a field with the law of Z given that Z(o) = z: simple kriging of the
misfit is added. C is the covariance that the circulant embedding samples, so this is exact even where it had to clip
eigenvalues. The sum over the observed cells is a convolution with the covariance, and costs as much as a draw.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.linalg

from nnlod_fenics.errors import InputError
from nnlod_fenics.fields.conditions import Observed
from nnlod_fenics.fields.embedding import CirculantEmbedding

__all__ = ["Kriging"]

Array = npt.NDArray[np.float64]

_WORST_CONDITION = 1e12  # of the covariance matrix of the observed cells: beyond it, weights are rounding errors


class Kriging:
    """Correction of fields of a circulant embedding.

    Args:
        embedding: What the fields are drawn from. A constant factor and a constant added to them make no difference.
        observed: Measured values.

    Raises:
        InputError: If the covariance matrix of the observed cells is singular to working precision.
    """

    def __init__(self, embedding: CirculantEmbedding, observed: Observed) -> None:
        self._embedding, self._observed = embedding, observed
        covariance = embedding.covariances(observed.cells)
        norm = np.abs(covariance).sum(axis=0).max()
        self._factor, info = scipy.linalg.lapack.dpotrf(covariance, lower=True, clean=False, overwrite_a=True)
        reciprocal = 0.0 if info else scipy.linalg.lapack.dpocon(self._factor, norm, uplo="L")[0]
        if not reciprocal * _WORST_CONDITION >= 1:
            raise InputError(
                "field.conditions must be less correlated: the covariance matrix of the observed cells, "
                f"{len(observed.values)} in number, has condition number {1 / max(reciprocal, 1e-17):.0e}, more than "
                f"{_WORST_CONDITION:.0e}; leave out points that are close together, or take a smaller smoothness or "
                "correlation length."
            )

    @property
    def nbytes(self) -> int:
        """Memory that it keeps beside the embedding."""
        return int(self._factor.nbytes)

    def corrected(self, field: Array) -> Array:
        """A field, drawn from the embedding, corrected so that it takes the measured values.

        Args:
            field: Shape ``cells[::-1]``, with its mean.

        Returns:
            The same shape.
        """
        cells, values = tuple(self._observed.cells), self._observed.values
        sources = np.zeros_like(field)
        sources[cells] = scipy.linalg.cho_solve((self._factor, True), values - field[cells])
        result = field + self._embedding.convolved(sources)
        result[cells] = values  # up to rounding they are there
        return result
