"""Random domains for realizations of a dataset, so that a model learns every kind of boundary."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from nnlod_fenics.domain import faces_of, on_face
from nnlod_fenics.errors import InputError
from nnlod_fenics.grid import Grid
from nnlod_fenics.runtime.streams import Stream, generator
from nnlod_fenics.window import GIVEN, INSIDE

__all__ = ["check_plain", "draw_domain", "grid_of_marks"]

_TRIES = 20  # masks that are no domains: floating parts, parts that touch in a corner
_MOST_BOXES = 4


def check_plain(grid: Grid) -> None:
    """Refuse a domain of its own where domains are to be drawn.

    Raises:
        InputError: If the grid is no whole box with u given on all faces.
    """
    if grid.inactive or len(grid.dirichlet) < 2 * grid.dim:
        raise InputError(
            "dataset.domains draws faces and masks and needs a grid without any: all elements active and u given on "
            f"all faces, got {grid!r}."
        )


def draw_domain(grid: Grid, share: float, seed: int, index: int) -> Grid:
    """The domain of a realization: the box itself, or one with random faces and inactive elements.

    Each face has u given with probability 1/2, at least one of them has. In every second such domain boxes of elements
    are inactive, one to four, with sides between one element and half of the grid; in a quarter single elements are.

    Args:
        grid: The discretisation of the box.
        share: Probability of another domain than the box with u given on all faces.
        seed: Seed of the run.
        index: Number of the realization.

    Returns:
        The discretisation of the domain.
    """
    random = generator(seed, Stream.DOMAIN, index)
    if random.random() >= share:
        return grid
    faces = faces_of(grid.dim)
    given = random.random(len(faces)) < 0.5
    given[random.integers(len(faces))] = True
    dirichlet = [face for face, fixed in zip(faces, given, strict=True) if fixed]
    for _ in range(_TRIES):
        try:
            return _with_domain(grid, dirichlet, _draw_active(grid, random))
        except InputError:
            continue
    return _with_domain(grid, dirichlet, np.ones(grid.element_shape, dtype=bool))


def _draw_active(grid: Grid, random: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Which elements are active."""
    active, shape = np.ones(grid.element_shape, dtype=bool), np.array(grid.element_shape)
    if random.random() < 0.5:
        for _ in range(random.integers(1, _MOST_BOXES + 1)):
            sides = np.exp(random.uniform(0, np.log(np.maximum(shape / 2, 1)))).astype(int)
            start = random.integers(0, shape - sides + 1)
            active[tuple(slice(a, a + n) for a, n in zip(start, sides, strict=True))] = False
    if random.random() < 0.25:
        count = random.integers(1, max(active.size // 16, 1) + 1)
        active.ravel()[random.integers(0, active.size, size=count)] = False
    return active


def _with_domain(grid: Grid, dirichlet: list[str], active: npt.NDArray[np.bool_]) -> Grid:
    """The same discretisation of a part of the box."""
    table: dict[str, Any] = {
        key: value for key, value in grid.as_dict().items() if key not in ("inactive", "dirichlet")
    }
    return Grid(**table, dirichlet=dirichlet, active=active)


def grid_of_marks(grid: Grid, marks: npt.NDArray[np.int8]) -> Grid:
    """The discretisation of the domain that marks describe.

    Args:
        grid: That of its box.
        marks: See :func:`nnlod_fenics.window.domain_marks`, with one layer around the box.

    Returns:
        The discretisation.
    """
    inner = (slice(1, -1),) * grid.dim
    dirichlet = []
    for face in faces_of(grid.dim):
        index = list(on_face(marks.shape, face))
        for axis, width in enumerate(marks.shape):
            if index[axis] == slice(None):
                index[axis] = slice(1, width - 1)
        if (marks[tuple(index)] == GIVEN).all():
            dirichlet.append(face)
    return _with_domain(grid, dirichlet, marks[inner] == INSIDE)
