"""The domain D: a box, of which some coarse elements may be inactive, with u given on some of its faces.

Everything here speaks of lattices: which elements are active, which nodes they have, which faces of the box are which.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt

from nnlod_fenics.errors import InputError

__all__ = [
    "active_from_runs",
    "check_domain",
    "face_axis",
    "faces_of",
    "nodes_of",
    "on_face",
    "parse_active",
    "parse_dirichlet",
    "parse_lengths",
    "runs_of",
]

BoolArray = npt.NDArray[np.bool_]
Runs = tuple[tuple[int, int], ...]


def faces_of(dim: int) -> tuple[str, ...]:
    """Names of the faces of a box, ``"xmin"``, ``"xmax"``, ``"ymin"``, and so on."""
    return tuple(f"{axis}{side}" for axis in "xyz"[:dim] for side in ("min", "max"))


def face_axis(face: str) -> tuple[int, bool]:
    """Axis across a face (0 is x), and whether it is the upper one."""
    return "xyz".index(face[0]), face.endswith("max")


def on_face(shape: tuple[int, ...], face: str) -> tuple[slice, ...]:
    """Index of the layer at a face in a lattice array ``[z, y, x]`` of some shape; keeps all axes."""
    axis, upper = face_axis(face)
    index = [slice(None)] * len(shape)
    index[len(shape) - 1 - axis] = slice(-1, None) if upper else slice(0, 1)
    return tuple(index)


def nodes_of(cells: BoolArray) -> BoolArray:
    """Which nodes belong to at least one of some cells.

    Args:
        cells: Which cells, any lattice shape.

    Returns:
        One more entry along each axis.
    """
    padded = np.pad(cells, 1)
    result = np.zeros(tuple(n + 1 for n in cells.shape), dtype=bool)
    for corner in product((0, 1), repeat=cells.ndim):
        result |= padded[tuple(slice(c, c + n + 1) for c, n in zip(corner, cells.shape, strict=True))]
    return result


def parse_lengths(dim: int, lengths: Any) -> tuple[float, ...]:
    """Side lengths of the box, from a number, d numbers, or None for 1 each."""
    expected = f"lengths must be {dim} positive numbers (x first), or one for all axes"
    given = [1.0] if lengths is None else [lengths] if isinstance(lengths, Real) else lengths
    try:
        values = [float(v) for v in given]
        numbers = not any(isinstance(v, (bool, str)) for v in given)
    except (TypeError, ValueError):
        raise InputError(f"{expected}, got {lengths!r}.") from None
    if len(values) == 1 and (dim == 1 or not isinstance(lengths, (list, tuple, np.ndarray))):
        values = values * dim
    if len(values) != dim or not numbers or not all(math.isfinite(v) and v > 0 for v in values):
        raise InputError(f"{expected}, got {lengths!r}.")
    return tuple(values)


def parse_dirichlet(dim: int, dirichlet: Any) -> tuple[str, ...]:
    """Faces with u given, in the order of :func:`faces_of`; all for None."""
    faces = faces_of(dim)
    if dirichlet is None:
        return faces
    if isinstance(dirichlet, str) or not isinstance(dirichlet, Sequence):
        raise InputError(f"dirichlet must be a list of faces out of {faces}, got {dirichlet!r}.")
    for face in dirichlet:
        if face not in faces:
            raise InputError(f"dirichlet must name faces out of {faces} for d = {dim}, got {face!r}.")
    if len(set(dirichlet)) == 0:
        raise InputError(
            "dirichlet must name at least one face: where u is given nowhere, it is determined up to a constant only "
            "and the problem is singular."
        )
    return tuple(face for face in faces if face in dirichlet)


def parse_active(shape: tuple[int, ...], active: Any) -> Runs:
    """Inactive elements, as runs, from a mask of the active ones; none for None."""
    if active is None:
        return ()
    mask = np.asarray(active)
    if np.ma.isMaskedArray(active) or mask.shape != shape or mask.dtype != np.bool_:
        raise InputError(
            f"active must be an array of bool of shape {shape} (one per coarse element, indexed [y, x]), got "
            f"{'a masked array' if np.ma.isMaskedArray(active) else mask.dtype} of shape {mask.shape}."
        )
    return runs_of(~mask)


def runs_of(mask: BoolArray) -> Runs:
    """Where a mask is true, as runs ``(start, stop)`` of numbers, x fastest: short, and can be hashed."""
    edges = np.flatnonzero(np.diff(np.pad(mask.ravel().astype(np.int8), 1)))
    return tuple((int(start), int(stop)) for start, stop in edges.reshape(-1, 2))


def active_from_runs(shape: tuple[int, ...], inactive: Runs) -> BoolArray:
    """The mask of active elements."""
    mask = np.ones(math.prod(shape), dtype=bool)
    for start, stop in inactive:
        mask[start:stop] = False
    return mask.reshape(shape)


def check_domain(active: BoolArray, dirichlet: tuple[str, ...]) -> None:
    """Refuse domains on which the problem is none.

    Args:
        active: Which coarse elements are active, ``[z, y, x]``.
        dirichlet: Faces with u given.

    Raises:
        InputError: If no element is active, parts touch in a corner (or edge) only, or a part has no face with u given.
    """
    if not active.any():
        raise InputError("active must hold at least one element, got a mask without any.")
    import scipy.ndimage  # here: most grids need none of it

    parts, count = scipy.ndimage.label(active)
    if count > 1:
        _refuse_corners(parts)
    fixed: set[int] = set()
    for face in dirichlet:
        fixed |= set(np.unique(parts[on_face(parts.shape, face)]).tolist())
    loose = sorted(set(range(1, count + 1)) - fixed)
    if loose:
        where = _position(parts == loose[0])
        raise InputError(
            f"every connected part of the active elements must have a face with u given, one of dirichlet={dirichlet}; "
            f"the part around element {where} (x first) has none, and u is determined up to a constant only there."
        )


def _refuse_corners(parts: npt.NDArray[np.integer]) -> None:
    """Refuse parts that share nodes without sharing a face."""
    padded = np.pad(parts, 1)
    shape = tuple(n + 1 for n in parts.shape)
    around = np.stack(
        [
            padded[tuple(slice(c, c + n) for c, n in zip(corner, shape, strict=True))]
            for corner in product((0, 1), repeat=parts.ndim)
        ]
    )
    largest = around.max(axis=0)
    bad = (around != 0) & (around != largest)
    if bad.any():
        raise InputError(
            f"active must not have parts that touch in a corner or an edge only, got two that meet at coarse node "
            f"{_position(bad.any(axis=0))} (x first)."
        )


def _position(mask: BoolArray) -> tuple[int, ...]:
    """The first true entry, x first."""
    return tuple(int(v) for v in np.argwhere(mask)[0][::-1])
