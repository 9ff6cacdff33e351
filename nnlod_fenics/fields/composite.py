"""Laws made of other laws: mixtures, and sums of log A."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nnlod_fenics.errors import InputError
from nnlod_fenics.fields.arguments import check_positive
from nnlod_fenics.fields.laws import FieldLaw, FieldSample, names_of_parameters, settings_of_law
from nnlod_fenics.runtime.streams import generator

__all__ = ["MixtureField", "SumField"]

_SEEDS = 2**63


class MixtureField:
    """Each realization has one of several laws, drawn at random with given weights.

    Args:
        laws: The laws.
        weights: One for each, any positive numbers: law i is drawn with probability weights[i] / sum(weights).

    Raises:
        InputError: If an argument does not fit.

    Note:
        The parameters of a realization are those of its law, and ``law``, the law's number from 0.
    """

    def __init__(self, laws: Sequence[FieldLaw], weights: Sequence[float]) -> None:
        _check_laws("mixture", laws)
        for number, weight in enumerate(weights):
            check_positive(f"field.laws[{number}].weight", weight)
        self.laws, self.weights = tuple(laws), tuple(map(float, weights))
        self._ends = np.cumsum(self.weights) / sum(self.weights)
        for number, law in enumerate(self.laws):
            if "law" in names_of_parameters(law):
                raise InputError(
                    f"field.laws[{number}] must be no mixture and have no parameter called law: the number of the "
                    "law in the mixture has this name; put the laws of the inner mixture into the outer one."
                )

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Names of all parameters that a realization can have."""
        inner = {name: None for law in self.laws for name in names_of_parameters(law)}
        return ("law", *inner)

    def sample(self, seed: int, index: int, stage: int = 0) -> FieldSample:
        """Draw the law, then its parameters, then the field; see :class:`FieldLaw`."""
        rng = generator(seed, stage, index)
        number = min(int(np.searchsorted(self._ends, rng.random(), side="right")), len(self.laws) - 1)
        # A seed of its own: else the law would draw the number again that has decided that it is drawn.
        drawn = self.laws[number].sample(int(rng.integers(_SEEDS)), index, stage)
        return FieldSample(drawn.Z, {"law": float(number), **drawn.parameters})

    def settings(self) -> dict[str, Any]:
        """The law as a configuration section."""
        tables = [
            settings_of_law(law) | ({} if weight == 1 else {"weight": weight})
            for law, weight in zip(self.laws, self.weights, strict=True)
        ]
        return {"kind": "mixture", "laws": tables}


class SumField:
    """log A is the sum of those of several laws, independent of each other: scales, trends, phases with variation.

    Args:
        laws: The laws.

    Raises:
        InputError: If an argument does not fit.

    Note:
        The parameters of a realization are those of all laws, each with the law's number from 0: ``variance_0``.
    """

    def __init__(self, laws: Sequence[FieldLaw]) -> None:
        _check_laws("sum", laws)
        self.laws = tuple(laws)

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Names of the parameters of a realization."""
        return tuple(f"{name}_{i}" for i, law in enumerate(self.laws) for name in names_of_parameters(law))

    def sample(self, seed: int, index: int, stage: int = 0) -> FieldSample:
        """Draw each law; see :class:`FieldLaw`."""
        seeds = generator(seed, stage, index).integers(_SEEDS, size=len(self.laws))
        drawn = [law.sample(int(own), index, stage) for law, own in zip(self.laws, seeds, strict=True)]
        parameters = {f"{name}_{i}": value for i, part in enumerate(drawn) for name, value in part.parameters.items()}
        return FieldSample(sum((part.Z for part in drawn[1:]), drawn[0].Z), parameters)

    def settings(self) -> dict[str, Any]:
        """The law as a configuration section."""
        return {"kind": "sum", "laws": [settings_of_law(law) for law in self.laws]}


def _check_laws(kind: str, laws: Sequence[FieldLaw]) -> None:
    if not laws:
        raise InputError(f"field.laws must have at least one law of a {kind}, got none.")
