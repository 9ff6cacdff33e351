"""The section ``[problem]`` of a settings file: source, wells and boundary values."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from pydantic import Field, field_validator

from nnlod_fenics.config.base import Settings, shown
from nnlod_fenics.errors import InputError
from nnlod_fenics.grid import Grid
from nnlod_fenics.problem import Problem, check_problem

__all__ = ["ProblemSection"]

_FACES: dict[str, Any] = {"values": "number or table of faces, { xmin = 1.0 }"}


class ProblemSection(Settings):
    """What is solved; see :class:`nnlod_fenics.problem.Problem`."""

    prefix: ClassVar[str] = "problem."

    f: float = Field(default=1.0, allow_inf_nan=False, description="source per volume")
    g: float | dict[str, float] = Field(
        default=0.0,
        description="u on the faces of grid.dirichlet; zero on those that a table leaves out",
        json_schema_extra=_FACES,
    )
    flux: float | dict[str, float] = Field(
        default=0.0,
        description="flow into the domain per area through the other faces of the box",
        json_schema_extra=_FACES,
    )
    wells: list[list[float]] = Field(
        default_factory=list,
        description="wells as rows [x, y, rate], in the units of grid.lengths; a positive rate injects",
        json_schema_extra={"values": "list of lists of numbers"},
    )

    @field_validator("g", "flux", mode="before")
    @classmethod
    def _is_on_faces(cls, value: Any, info: Any) -> Any:
        values = list(value.values()) if isinstance(value, dict) else [value]
        if not all(_is_finite(v) for v in values):
            expected = "a finite number or a table of faces with one each, such as { xmin = 1.0 }"
            raise InputError(f"problem.{info.field_name} must be {expected}, got {shown(value)}.")
        return value

    @field_validator("wells", mode="before")
    @classmethod
    def _are_wells(cls, value: Any) -> Any:
        rows: list[Any] = list(value) if isinstance(value, (list, tuple)) else [None]
        for row in rows:
            if not isinstance(row, (list, tuple)) or len(row) < 2 or not all(_is_finite(v) for v in row):
                raise InputError(f"problem.wells must be a list of rows [x, y, rate], got {shown(value)}.")
        return [list(row) for row in rows]

    def make(self, grid: Grid, source: float | None = None) -> Problem:
        """The problem on a grid.

        Args:
            grid: The discretisation.
            source: In the place of f, if not None.

        Returns:
            The problem.

        Raises:
            InputError: If it does not fit the grid.
        """
        wells = [(tuple(row[:-1]), row[-1]) for row in self.wells]
        problem = Problem(self.f if source is None else source, wells, self.g, self.flux)
        try:
            check_problem(grid, problem)
        except InputError as error:  # whose message begins with the key
            raise InputError(f"problem.{error}") from None
        return problem


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
