"""Uniformly elliptic coefficients: independent and uniform on each cell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nnlod_fenics.errors import InputError
from nnlod_fenics.fields.arguments import check_positive
from nnlod_fenics.fields.box import Box
from nnlod_fenics.fields.laws import FieldSample
from nnlod_fenics.runtime.streams import generator

__all__ = ["UniformlyEllipticField"]


class UniformlyEllipticField:
    """A independent and uniform in [α, β] on each cell: the coefficients of the base network.

    Args:
        dim: Space dimension.
        cells: Cells of T_ε per axis, x first; an integer where all axes have the same.
        alpha: Lower bound α of A.
        beta: Upper bound β of A.
        lengths: Side lengths of D, which do not matter: the cells are independent.

    Raises:
        InputError: If an argument does not fit.
    """

    def __init__(
        self,
        dim: int,
        cells: int | Sequence[int],
        alpha: float = 1.0,
        beta: float = 5.0,
        lengths: float | Sequence[float] | None = None,
    ) -> None:
        self.box = Box.of(dim, cells, lengths)
        check_positive("field.alpha", alpha)
        check_positive("field.beta", beta)
        if alpha >= beta:
            raise InputError(f"field.alpha must be less than field.beta, got {alpha!r} and {beta!r}.")
        self.dim, self.cells = self.box.dim, self.box.short_cells
        self.alpha, self.beta = float(alpha), float(beta)

    def sample(self, seed: int, index: int, stage: int = 0) -> FieldSample:
        """Draw a realization; see :class:`FieldLaw`."""
        values = generator(seed, stage, index).uniform(self.alpha, self.beta, self.box.shape)
        return FieldSample(np.log(values))

    def settings(self) -> dict[str, Any]:
        """The law as a configuration section."""
        return {"kind": "uniform", "alpha": self.alpha, "beta": self.beta}
