"""What a law of random coefficients is, and what one realization of it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from nnlod_fenics.errors import InputError

__all__ = [
    "PARAMETERS",
    "FieldLaw",
    "FieldSample",
    "axis_names",
    "check_law",
    "check_sample",
    "names_of_parameters",
    "settings_of_law",
]

PARAMETERS = ("variance", "correlation_length", "smoothness")  # of the laws of this package
"""Names of the parameters of the laws of this package."""

Array = npt.NDArray[np.float64]


def axis_names(name: str, dim: int | None) -> list[str]:
    """Names of a parameter that has a value per axis, ``name_x``, …; of one value for all axes (None), ``name``."""
    return [name] if dim is None else [f"{name}_{axis}" for axis in "xyz"[:dim]]


@dataclass(frozen=True)
class FieldSample:
    """One realization.

    Attributes:
        Z: log A on T_ε, shape ``cells[::-1]``, indexed ``[y, x]``.
        parameters: Values of the field's parameters in this realization.
    """

    Z: Array
    parameters: Mapping[str, float] = field(default_factory=dict)

    @property
    def A(self) -> Array:
        """The coefficient, e^Z."""
        return np.exp(self.Z)


class FieldLaw(Protocol):
    """A law of random coefficients on the cells of T_ε.

    Any object with a method ``sample`` is one; ``settings`` is needed where a law is to be found again from a file: a
    dataset, a model. See :func:`nnlod_fenics.register_field`. A law whose realizations differ in the names of their
    parameters has an attribute ``parameter_names`` with all of them.

    Example:
        >>> class Layers:
        ...     "A = 1 or 10 in horizontal layers."
        ...     def __init__(self, dim, cells, share=0.5):
        ...         self.dim, self.cells, self.share = dim, cells, share
        ...     def sample(self, seed, index, stage=0):
        ...         rng = np.random.default_rng([seed, stage, index])
        ...         layers = np.where(rng.random(self.cells) < self.share, 0.0, np.log(10.0))
        ...         Z = np.broadcast_to(layers[:, None], (self.cells,) * self.dim)
        ...         return FieldSample(Z, {"share": self.share})
        ...     def settings(self):
        ...         return {"kind": "layers", "share": self.share}
    """

    def sample(self, seed: int, index: int, stage: int = 0) -> FieldSample:
        """Draw a realization.

        Args:
            seed: Seed of the run.
            index: Number of the realization.
            stage: Separates streams of one seed, see :class:`nnlod_fenics.runtime.streams.Stream`.

        Returns:
            The realization: the same bits for the same arguments.
        """

    def settings(self) -> dict[str, Any]:
        """The law as a configuration section; :func:`make_field` gives the law back."""


def settings_of_law(law: FieldLaw) -> dict[str, Any]:
    """The law as a configuration section; of one that has none, its class alone, which no file gives back."""
    settings = getattr(law, "settings", None)
    return dict(settings()) if callable(settings) else {"kind": f"{type(law).__module__}.{type(law).__qualname__}"}


def names_of_parameters(law: FieldLaw) -> tuple[str, ...]:
    """Names of all parameters that a realization can have: those that the law states, or those of one realization."""
    stated = getattr(law, "parameter_names", None)
    return tuple(law.sample(0, 0).parameters if stated is None else stated)


def check_law(law: Any) -> FieldLaw:
    """Check that an object can be asked for realizations.

    Raises:
        InputError: If it has no method ``sample``.
    """
    if not callable(getattr(law, "sample", None)):
        raise InputError(f"law must have a method sample(seed, index, stage), got {type(law).__name__}.")
    checked: FieldLaw = law
    return checked


def check_sample(sample: Any, shape: tuple[int, ...]) -> FieldSample:
    """Check what a law has drawn.

    Args:
        sample: The realization.
        shape: Shape of a field on T_ε.

    Returns:
        The realization.

    Raises:
        InputError: If it is none, of another shape, or not finite.
    """
    Z = np.asarray(getattr(sample, "Z", None))
    if Z.dtype.kind != "f" or Z.shape != shape:
        given = f"Z of shape {Z.shape}, {Z.dtype}" if hasattr(sample, "Z") else type(sample).__name__
        raise InputError(f"law.sample must return a FieldSample with real Z of shape {shape}, got {given}.")
    if not np.isfinite(Z).all():
        bad = np.count_nonzero(~np.isfinite(Z))
        raise InputError(f"law.sample must return finite fields Z, got {bad} NaN or infinite values.")
    if not isinstance(sample.parameters, Mapping):
        raise InputError(f"law.sample must return parameters by name, got {type(sample.parameters).__name__}.")
    result: FieldSample = sample
    return result
