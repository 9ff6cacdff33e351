"""Covariance models, always GSTools objects, in the convention of formula (2.3)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from nnlod_fenics.errors import InputError
from nnlod_fenics.fields.arguments import check_dim, check_positive

if TYPE_CHECKING:
    import gstools

__all__ = ["covariance_model", "matern"]

_SMOOTHEST = 20.0  # beyond it GSTools silently takes the Gaussian limit, 1 % away from (2.3)


def matern(
    dim: int, variance: float = 1.0, correlation_length: float = 0.05, smoothness: float = 0.5
) -> gstools.CovModel:
    """Whittle–Matérn covariance (2.3): σ² 2^(1−ν)/Γ(ν) (√(2ν) r/ρ)^ν K_ν(√(2ν) r/ρ).

    Args:
        dim: Space dimension.
        variance: σ².
        correlation_length: ρ, in units of the side of D.
        smoothness: ν, from 0.2 (GSTools' bound) to 20.

    Returns:
        GSTools' Matérn model with ``rescale=√2``: on its own it has √ν in place of √(2ν).

    Raises:
        InputError: If a parameter is out of its range.
    """
    return covariance_model("Matern", dim, variance, correlation_length, smoothness)


def covariance_model(
    name: str, dim: int, variance: float = 1.0, correlation_length: float = 0.05, smoothness: float | None = None
) -> gstools.CovModel:
    """Any covariance model of GSTools by name.

    Args:
        name: Class name in GSTools, for example ``"Matern"``, ``"Gaussian"``, ``"Exponential"``, ``"Spherical"``.
        dim: Space dimension.
        variance: σ².
        correlation_length: GSTools' ``len_scale``; for ``"Matern"`` ρ of (2.3).
        smoothness: ν, for models that have one (``"Matern"``; 0.5 if None).

    Returns:
        The model.

    Raises:
        InputError: If there is no such model or a parameter is out of its range.
    """
    import gstools  # which loads VTK where PyVista is installed

    check_dim(dim)
    check_positive("variance", variance)
    check_positive("correlation_length", correlation_length)
    if smoothness is not None:
        check_positive("smoothness", smoothness)
    kind = getattr(gstools, name, None) if isinstance(name, str) else None
    if not (isinstance(kind, type) and issubclass(kind, gstools.CovModel)) or kind is gstools.CovModel:
        near = next((model for model in _models() if isinstance(name, str) and model.lower() == name.lower()), "")
        meant = f"; did you mean {near!r}?" if near else "."
        raise InputError(
            f"covariance must be the name of a GSTools covariance model such as 'Matern', got {name!r}{meant}"
        )
    options: dict[str, Any] = {"dim": dim, "var": variance, "len_scale": correlation_length}
    if name == "Matern":
        if smoothness is not None and smoothness > _SMOOTHEST:
            raise InputError(f"smoothness must be at most {_SMOOTHEST:g}, got {smoothness!r}.")
        options |= {"nu": smoothness or 0.5, "rescale": math.sqrt(2)}
    elif smoothness is not None:
        raise InputError(f"smoothness belongs to the Matern model only, got it for covariance {name!r}.")
    try:
        return kind(**options)
    except ValueError as error:  # GSTools' own bounds, for example 0.2 ≤ ν ≤ 30
        raise InputError(f"GSTools' {name} model does not take these parameters: {error}.") from error


def _models() -> list[str]:
    """Names of the covariance models of GSTools."""
    import gstools

    return [name for name in gstools.covmodel.__all__ if name != "CovModel"]
