"""Uniformly elliptic coefficients: independent and uniform on each cell."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnlod_fenics.errors import InputError
from nnlod_fenics.fields.arguments import check_cells, check_dim, check_positive
from nnlod_fenics.fields.laws import FieldSample
from nnlod_fenics.runtime.streams import generator

__all__ = ["UniformlyEllipticField"]


class UniformlyEllipticField:
    """A independent and uniform in [α, β] on each cell: the coefficients of the base network.

    Args:
        dim: Space dimension.
        cells: Cells of T_ε per axis.
        alpha: Lower bound α of A.
        beta: Upper bound β of A.

    Raises:
        InputError: If an argument does not fit.
    """

    def __init__(self, dim: int, cells: int, alpha: float = 1.0, beta: float = 5.0) -> None:
        check_dim(dim)
        check_cells(cells)
        check_positive("field.alpha", alpha)
        check_positive("field.beta", beta)
        if alpha >= beta:
            raise InputError(f"field.alpha must be less than field.beta, got {alpha!r} and {beta!r}.")
        self.dim, self.cells, self.alpha, self.beta = dim, cells, float(alpha), float(beta)

    def sample(self, seed: int, index: int, stage: int = 0) -> FieldSample:
        """Draw a realization; see :class:`FieldLaw`."""
        values = generator(seed, stage, index).uniform(self.alpha, self.beta, (self.cells,) * self.dim)
        return FieldSample(np.log(values))

    def settings(self) -> dict[str, Any]:
        """The law as a configuration section."""
        return {"kind": "uniform", "alpha": self.alpha, "beta": self.beta}
