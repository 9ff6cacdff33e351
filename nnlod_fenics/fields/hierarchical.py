"""Lognormal coefficients whose covariance is random itself (section 6 of the paper)."""

from __future__ import annotations

import math
import warnings
from collections import OrderedDict
from typing import Any

from nnlod_fenics.fields.arguments import check_cells
from nnlod_fenics.fields.covariance import covariance_model
from nnlod_fenics.fields.embedding import CirculantEmbedding
from nnlod_fenics.fields.laws import PARAMETERS, FieldSample
from nnlod_fenics.fields.parameters import Parameter
from nnlod_fenics.runtime.streams import generator

__all__ = ["HierarchicalField"]

_KEPT_BYTES = 2**28  # of embeddings that a hierarchical field keeps for its next draws


class HierarchicalField:
    """A = exp(Z) where the parameters of Z are drawn first, then Z given them (section 6 of the paper).

    The variance scales a field and costs nothing. Each (ρ, ν) needs its own circulant embedding: they are kept,
    up to 256 MiB, where both come from finite lists, and are built anew for each realization elsewhere.

    Args:
        dim: Space dimension.
        cells: Cells of T_ε per axis.
        variance: Law of σ².
        correlation_length: Law of ρ.
        smoothness: Law of ν.

    Attributes:
        covariance_error: Largest one of the realizations so far, see :class:`nnlod_fenics.fields.CirculantEmbedding`.

    Raises:
        InputError: If an argument does not fit.
    """

    def __init__(
        self, dim: int, cells: int, variance: Parameter, correlation_length: Parameter, smoothness: Parameter
    ) -> None:
        check_cells(cells)
        self.dim, self.cells = dim, cells
        self.parameters = dict(zip(PARAMETERS, (variance, correlation_length, smoothness), strict=True))
        for extreme in (min, max):  # now, not at the unlucky realization
            covariance_model("Matern", dim, *(extreme(law.values) for law in self.parameters.values()))
        self.covariance_error = 0.0
        self._embeddings: OrderedDict[tuple[float, float], CirculantEmbedding] = OrderedDict()

    def sample(self, seed: int, index: int, stage: int = 0) -> FieldSample:
        """Draw the parameters, then the field; see :class:`FieldLaw`."""
        rng = generator(seed, stage, index)
        drawn = {name: law.draw(rng, index) for name, law in self.parameters.items()}
        embedding = self._embedding(drawn["correlation_length"], drawn["smoothness"])
        return FieldSample(math.sqrt(drawn["variance"]) * embedding.draw(rng), drawn)

    def _embedding(self, correlation_length: float, smoothness: float) -> CirculantEmbedding:
        key = (correlation_length, smoothness)
        embedding = self._embeddings.pop(key, None)
        if embedding is None:
            model = covariance_model("Matern", self.dim, 1.0, correlation_length, smoothness)
            embedding = CirculantEmbedding(model, self.cells, warn=False)
            self._tell(embedding)
        if self.parameters["correlation_length"].finite and self.parameters["smoothness"].finite:
            self._embeddings[key] = embedding
            while len(self._embeddings) > 1 and sum(e.nbytes for e in self._embeddings.values()) > _KEPT_BYTES:
                self._embeddings.popitem(last=False)
        return embedding

    def _tell(self, embedding: CirculantEmbedding) -> None:
        if embedding.covariance_error > 0 and self.covariance_error == 0:
            others = "Other realizations may have such an error too; covariance_error keeps the largest."
            warnings.warn(f"{embedding.account} {others}", stacklevel=4)
        self.covariance_error = max(self.covariance_error, embedding.covariance_error)

    def settings(self) -> dict[str, Any]:
        """The law as a configuration section."""
        return {"kind": "hierarchical"} | {name: law.settings() for name, law in self.parameters.items()}
