"""Units of lengths: those of D, or the width H of a coarse element."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from nnlod_fenics.errors import InputError
from nnlod_fenics.fields.arguments import as_list, check_positive

__all__ = ["unit_length"]


def unit_length(unit: Any, element: float | Sequence[float] | None) -> float:
    """The length that a law's lengths are multiples of.

    Args:
        unit: ``"D"``, the units of the sides of D, or ``"H"``, the width of an element of T_H.
        element: Widths of an element, x first, or one number; None if they are not known.

    Returns:
        The length, in the units of D.

    Raises:
        InputError: If there is no such unit, or the width is needed and not known.
    """
    if unit == "D":
        return 1.0
    if unit != "H":
        raise InputError(f"field.unit must be 'D' (the units of D) or 'H' (the width of an element), got {unit!r}.")
    if element is None:
        raise InputError(
            "field.unit = 'H' needs the width of a coarse element, got none: make_field(settings, grid.dim, "
            "grid.coefficient, grid.lengths, grid.widths)."
        )
    widths: list[Any] = [element] if (listed := as_list(element)) is None else listed
    for width in widths:
        check_positive("element", width)
    if not all(math.isclose(width, widths[0], rel_tol=1e-12) for width in widths):
        raise InputError(f"field.unit = 'H' needs elements that are as wide along all axes, got {tuple(widths)}.")
    return float(widths[0])
