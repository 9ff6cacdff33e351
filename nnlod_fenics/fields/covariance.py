"""Covariance models, always GSTools objects, in the convention of formula (2.3)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nnlod_fenics.errors import InputError
from nnlod_fenics.fields.arguments import as_list, check_dim, check_number, check_positive

if TYPE_CHECKING:
    import gstools

__all__ = ["check_angles", "covariance_model", "matern", "settings_of_angles"]

_SMOOTHEST = 20.0  # beyond it GSTools silently takes the Gaussian limit, 1 % away from (2.3)


def matern(
    dim: int,
    variance: float = 1.0,
    correlation_length: float | Sequence[float] = 0.05,
    smoothness: float = 0.5,
    angles: float | Sequence[float] | None = None,
) -> gstools.CovModel:
    """Whittle–Matérn covariance (2.3): σ² 2^(1−ν)/Γ(ν) (√(2ν) r/ρ)^ν K_ν(√(2ν) r/ρ).

    Args:
        dim: Space dimension.
        variance: σ².
        correlation_length: ρ, in the units of D; one, or one per axis, x first.
        smoothness: ν, from 0.2 (GSTools' bound) to 20.
        angles: See :func:`covariance_model`.

    Returns:
        GSTools' Matérn model with ``rescale=√2``: on its own it has √ν in place of √(2ν).

    Raises:
        InputError: If a parameter is out of its range.
    """
    return covariance_model("Matern", dim, variance, correlation_length, smoothness, angles)


def covariance_model(
    name: str,
    dim: int,
    variance: float = 1.0,
    correlation_length: float | Sequence[float] = 0.05,
    smoothness: float | None = None,
    angles: float | Sequence[float] | None = None,
) -> gstools.CovModel:
    """Any covariance model of GSTools by name.

    Args:
        name: Class name in GSTools, for example ``"Matern"``, ``"Gaussian"``, ``"Exponential"``, ``"Spherical"``.
        dim: Space dimension.
        variance: σ².
        correlation_length: GSTools' ``len_scale``; for ``"Matern"`` ρ of (2.3). One, or one per axis, x first.
        smoothness: ν, for models that have one (``"Matern"``; 0.5 if None).
        angles: By which the axes of the correlation lengths are turned against x, y, z, in radians, as GSTools has
            them: for d = 2 one, counterclockwise from x to y; for d = 3 yaw, pitch and roll. None: not turned.

    Returns:
        The model.

    Raises:
        InputError: If there is no such model or a parameter is out of its range.
    """
    import gstools  # which loads VTK where PyVista is installed

    check_dim(dim)
    check_positive("variance", variance)
    lengths = as_list(correlation_length)
    if lengths is None:
        check_positive("correlation_length", correlation_length)
    elif len(lengths) != dim:
        raise InputError(
            f"correlation_length must be a positive number or {dim} of them for d = {dim}, x first, "
            f"got {correlation_length!r}."
        )
    for number, length in enumerate(lengths or ()):
        check_positive(f"correlation_length[{number}]", length)
    if smoothness is not None:
        check_positive("smoothness", smoothness)
    kind = getattr(gstools, name, None) if isinstance(name, str) else None
    if not (isinstance(kind, type) and issubclass(kind, gstools.CovModel)) or kind is gstools.CovModel:
        near = next((model for model in _models() if isinstance(name, str) and model.lower() == name.lower()), "")
        meant = f"; did you mean {near!r}?" if near else "."
        raise InputError(
            f"covariance must be the name of a GSTools covariance model such as 'Matern', got {name!r}{meant}"
        )
    options: dict[str, Any] = {"dim": dim, "var": variance, "len_scale": lengths or correlation_length}
    options |= {"angles": list(turned)} if (turned := check_angles(dim, angles)) else {}
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


def check_angles(dim: int, angles: Any) -> tuple[float, ...]:
    """The angles of a covariance: one for d = 2, three for d = 3; none if they are None or all 0.

    Raises:
        InputError: If they are not as many finite numbers.
    """
    given = [angles] if (listed := as_list(angles)) is None else listed
    if angles is None:
        return ()
    wanted = {1: 0, 2: 1, 3: 3}[dim]
    if len(given) != wanted:
        expected = ("left out", "one number", "", "a list of three: yaw, pitch and roll")[wanted]
        raise InputError(f"angles must be {expected} for d = {dim}, got {angles!r}.")
    for angle in given:
        check_number("angles", angle)
    return tuple(map(float, given)) if any(given) else ()


def settings_of_angles(angles: tuple[float, ...]) -> float | list[float]:
    """Angles as they stand in a configuration file."""
    return angles[0] if len(angles) == 1 else list(angles)


def _models() -> list[str]:
    """Names of the covariance models of GSTools."""
    import gstools

    return [name for name in gstools.covmodel.__all__ if name != "CovModel"]
