"""What laws with random parameters share: the parameters are drawn first, then the field given them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt

from nnlod_fenics.fields.box import Box
from nnlod_fenics.fields.laws import FieldSample
from nnlod_fenics.fields.parameters import Parameter
from nnlod_fenics.runtime.streams import generator

__all__ = ["ParametricField"]


class ParametricField(ABC):
    """A law whose parameters are numbers or random.

    Attributes:
        box: D and its cells.
        parameters: Laws of the parameters by name, in the order in which they are drawn.
    """

    box: Box
    parameters: dict[str, Parameter]

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Names of the parameters of a realization."""
        return tuple(self.parameters)

    def sample(self, seed: int, index: int, stage: int = 0) -> FieldSample:
        """Draw the parameters, then the field; see :class:`FieldLaw`."""
        rng = generator(seed, stage, index)
        drawn = {name: law.draw(rng, index) for name, law in self.parameters.items()}
        return FieldSample(self.draw(rng, drawn), drawn)

    @abstractmethod
    def draw(self, rng: np.random.Generator, drawn: dict[str, float]) -> npt.NDArray[np.float64]:
        """Draw a field of given parameters.

        Args:
            rng: Source of randomness.
            drawn: The parameters by name.

        Returns:
            log A, shape ``cells[::-1]``.
        """

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """The law as a configuration section."""
