"""The section ``[grid]`` of a settings file: the discretisation, and the domain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator, model_validator

from nnlod_fenics.config.base import Settings, shown
from nnlod_fenics.domain import runs_of
from nnlod_fenics.errors import InputError
from nnlod_fenics.grid import Grid

__all__ = ["GridSection"]

_Sizes = Annotated[int, Field(ge=1)] | list[Annotated[int, Field(ge=1)]]
_SIZES: dict[str, Any] = {"values": "integer ≥ 1 or list of them, one per axis"}
_ROUNDING = 1e-6  # of an element, by which the sides of a box may miss the boundary of one
_INACTIVE = "boxes {low = [x, y], high = [x, y]} or runs [start, stop] of element numbers"


class GridSection(Settings):
    """The discretisation and the domain; see :class:`nnlod_fenics.Grid`."""

    prefix: ClassVar[str] = "grid."

    dim: int = Field(default=2, ge=1, le=3, description="space dimension d; that of the lists, if there are any")
    coarse: _Sizes = Field(
        default=16,
        description="1/H, coarse elements per axis; a list, x first, where they differ",
        json_schema_extra=_SIZES,
    )
    fine: _Sizes = Field(
        default=128, description="1/h, fine cells per axis; a multiple of coefficient", json_schema_extra=_SIZES
    )
    ell: int = Field(default=2, ge=0, description="layers ℓ of coarse elements around an element in its patch")
    coefficient: _Sizes | None = Field(
        default=64, description="1/ε, coefficient cells per axis; a multiple of coarse", json_schema_extra=_SIZES
    )
    lengths: float | list[float] | None = Field(
        default=None,
        description="side lengths of the box, x first; 1 each by default",
        json_schema_extra={"values": "number > 0 or list of them"},
    )
    dirichlet: list[str] | None = Field(
        default=None,
        description="faces of the box with u given, such as ['xmin', 'xmax']; all by default, no flow through others",
    )
    inactive: list[Any] | None = Field(
        default=None,
        description="elements that do not belong to the domain: tables [[grid.inactive]] of boxes with low and high, "
        "corners in the units of lengths that fall on boundaries of elements; none by default",
        json_schema_extra={"values": "list of " + _INACTIVE},
    )
    active: str | None = Field(
        default=None,
        description="instead of inactive, a .npy file with a boolean array, one per coarse element, indexed [y, x]; "
        "relative to the settings file, read once: its content becomes the setting",
    )

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, given: Any) -> Any:
        """Take the mask out of its file, and the dimension from lists."""
        if not isinstance(given, dict):
            return given
        table = dict(given)
        if isinstance(path := table.get("active"), str):
            if table.get("inactive") is not None:
                raise InputError("grid.active and grid.inactive exclude each other; give one of them.")
            mask = _read_mask(path)
            table |= {"active": None, "inactive": [list(run) for run in runs_of(~mask)]}
            _agree(table.setdefault("coarse", list(mask.shape[::-1])), mask, path)
        lists = [table[name] for name in ("coarse", "fine", "coefficient", "lengths") if _is_list(table.get(name))]
        if lists and "dim" not in table:
            table["dim"] = len(lists[0])
        return table

    @field_validator("coarse", "fine", "coefficient", mode="before")
    @classmethod
    def _are_sizes(cls, value: Any, info: Any) -> Any:
        if value is None and info.field_name == "coefficient":
            return None
        for number in value if _is_list(value) else [value]:
            if isinstance(number, bool) or not isinstance(number, int):
                expected = "an integer or a list of them"
                raise InputError(f"grid.{info.field_name} must be {expected}, got {shown(value)}.")
            if number < 1:
                raise InputError(f"grid.{info.field_name} must be at least 1, got {shown(value)}.")
        return list(value) if _is_list(value) else value

    @field_validator("lengths", mode="before")
    @classmethod
    def _are_lengths(cls, value: Any) -> Any:
        if value is None or (all(_is_number(v) for v in value) if _is_list(value) else _is_number(value)):
            return list(value) if _is_list(value) else value
        raise InputError(f"grid.lengths must be a number or a list of numbers, one per axis, got {shown(value)}.")

    @field_validator("inactive", mode="before")
    @classmethod
    def _are_elements(cls, value: Any) -> Any:
        if value is None or (_is_list(value) and (all(map(_is_box, value)) or all(map(_is_run, value)))):
            return value
        raise InputError(f"grid.inactive must be a list of {_INACTIVE}, got {shown(value)}.")

    @property
    def stated(self) -> dict[str, Any]:
        """The keys that are stated, without those that are left to their defaults."""
        return self.model_dump(exclude_unset=True, exclude={"active"})

    def make(self, default: Grid | None = None) -> Grid:
        """The discretisation.

        Args:
            default: Where the keys that are not stated come from; the defaults of the settings if None.

        Returns:
            The grid.

        Raises:
            InputError: If the keys do not fit together.
        """
        own = {"active", "inactive"}
        if default is None:
            return self.cut(Grid(**self.model_dump(exclude=own)))
        table = default.as_dict()
        kept = {"inactive": table.pop("inactive", None)}  # they are those of its elements
        grid = Grid.from_dict(table | self.model_dump(exclude_unset=True, exclude=own))
        if self.inactive is None and kept["inactive"] and grid.coarse == default.coarse:
            return Grid.from_dict(grid.as_dict() | kept)
        return self.cut(grid)

    def cut(self, grid: Grid) -> Grid:
        """A grid without the elements that are inactive by the settings.

        Args:
            grid: The grid of the whole box.

        Returns:
            The grid.

        Raises:
            InputError: If they do not fit the grid.
        """
        if not self.inactive:
            return grid
        inactive = np.zeros(grid.element_shape, dtype=bool)
        for part in self.inactive:
            if isinstance(part, dict):
                inactive[_elements_in(grid, part["low"], part["high"])] = True
            elif part[1] > grid.num_elements:
                raise InputError(
                    f"grid.inactive must hold runs [start, stop] of element numbers up to {grid.num_elements}, for "
                    f"coarse={list(grid.coarse)}, got {list(part)}."
                )
            else:
                inactive.reshape(-1)[part[0] : part[1]] = True
        return Grid.from_dict(grid.as_dict() | {"inactive": runs_of(inactive)})


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_box(part: Any) -> bool:
    return (
        isinstance(part, dict)
        and set(part) == {"low", "high"}
        and all(_is_list(corner) and all(map(_is_number, corner)) for corner in part.values())
    )


def _is_run(part: Any) -> bool:
    whole = _is_list(part) and len(part) == 2 and all(isinstance(v, int) and not isinstance(v, bool) for v in part)
    return whole and 0 <= part[0] < part[1]


def _read_mask(path: str) -> npt.NDArray[np.bool_]:
    expected = "grid.active must be a .npy file of an array of bool with 1 to 3 axes"
    try:
        mask = np.load(path, allow_pickle=False)
    except OSError as error:
        raise InputError(f"{expected}, got {path!r}, which cannot be read: {error.strerror}.") from None
    except Exception:  # whatever a file of another kind makes of the reader
        raise InputError(f"{expected}, got {path!r}, which is no such file.") from None
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.ndim not in (1, 2, 3) or not mask.size:
        kind = f"{mask.dtype} of shape {mask.shape}" if isinstance(mask, np.ndarray) else "several arrays"
        raise InputError(f"{expected}, got {path!r}, which holds {kind}.")
    return mask


def _agree(coarse: Any, mask: npt.NDArray[np.bool_], path: str) -> None:
    """Check a mask against the number of elements, where that is stated, too."""
    counts = list(coarse) if _is_list(coarse) else [coarse] * mask.ndim
    if list(mask.shape[::-1]) != counts:
        raise InputError(
            f"grid.active must hold one value per coarse element, indexed [y, x], for grid.coarse = {coarse}, got "
            f"shape {mask.shape} in {path!r}."
        )


def _elements_in(grid: Grid, low: Sequence[float], high: Sequence[float]) -> tuple[slice, ...]:
    """The elements in a box, as an index [z, y, x]."""
    given = f"got low = {list(low)} and high = {list(high)}"
    if not len(low) == len(high) == grid.dim:
        raise InputError(f"grid.inactive must be boxes whose corners have {grid.dim} coordinates, {given}.")
    edges = np.array([low, high]) / grid.widths
    near = np.rint(edges)
    if not np.isfinite(edges).all() or (near < 0).any() or (near > grid.coarse).any() or (near[0] >= near[1]).any():
        raise InputError(
            f"grid.inactive must be boxes with low < high in the domain, whose sides are {grid.lengths} (x first), "
            f"{given}."
        )
    if np.abs(edges - near).max() > _ROUNDING:
        raise InputError(
            f"grid.inactive must be boxes that end on boundaries of coarse elements, whose sides are {grid.widths} (x "
            f"first), {given}."
        )
    return tuple(slice(int(a), int(b)) for a, b in near.T[::-1])
