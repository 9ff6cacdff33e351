"""The data of −∇·(A∇u) = f beside the coefficient, as a user gives them: source, boundary values, fluxes, wells."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nnlod_fenics.arrays import as_numbers
from nnlod_fenics.domain import faces_of, on_face
from nnlod_fenics.errors import InputError
from nnlod_fenics.grid import Grid, lattice

__all__ = [
    "Boundary",
    "Problem",
    "Source",
    "Well",
    "boundary_values",
    "check_problem",
    "check_source",
    "evaluate_source",
    "fluxes",
    "place_wells",
]

Array = npt.NDArray[np.float64]
Function = Callable[[Array], npt.ArrayLike]
Source = float | npt.ArrayLike | Function
"""A number; cell values on T_h, shape ``grid.fine_shape``; or a function of points (d, n), x first, -> (n,)."""
Boundary = float | Function | Mapping[str, float | Function]
"""A number or a function of points, for all faces of its kind; or one of them a face: ``{"xmin": 1.0}``."""


@dataclass(frozen=True)
class Problem:
    """What is to be solved for many coefficients: −∇·(A∇u) = f in D, u = g on Γ_D, A ∂u/∂n = q on Γ_N.

    Attributes:
        f: The source, per volume.
        wells: Points, x first, and rates: positive where a well injects. A well acts at the nearest node of T_h.
        g: u on Γ_D. Where faces with different values meet, the one named last counts.
        flux: q on the faces of the box without given u, positive into D. Towards inactive elements nothing flows.

    Example:
        >>> problem = Problem(f=0.0, wells=[((600.0, 250.0), -1e-3)], g={"xmin": 10.0, "xmax": 8.0})
    """

    f: Source = 1.0
    wells: Sequence[tuple[Sequence[float], float]] = ()
    g: Boundary = 0.0
    flux: Boundary = 0.0


class Well(NamedTuple):
    """A well on a grid.

    Attributes:
        node: Its fine node, x first.
        rate: Its rate.
        element: The first active element that has the node: the one that the load belongs to.
    """

    node: tuple[int, ...]
    rate: float
    element: int


def check_problem(grid: Grid, problem: Problem) -> None:
    """Check the data of a problem.

    Args:
        grid: The discretisation.
        problem: The problem. Functions are checked where they are evaluated.

    Raises:
        InputError: If something does not fit.
    """
    check_source(grid, problem.f)
    place_wells(grid, problem.wells)
    boundary_values(grid, problem.g)
    fluxes(grid, problem.flux)


def check_source(grid: Grid, f: Source) -> Array | Callable[[Array], npt.ArrayLike]:
    """Check a right-hand side.

    Args:
        grid: The discretisation.
        f: Number, function or array of shape ``grid.fine_shape``.

    Returns:
        A function as given, anything else as a float64 array of shape () or ``grid.fine_shape``, zero outside D.

    Raises:
        InputError: If f is none of these, or has masked values, or infinite ones in D.
    """
    if callable(f):
        return f
    shape = grid.fine_shape
    expected = f"a number, a function or a real array of shape {shape} (one value per cell of T_h)"
    values = as_numbers("f", f, expected)
    if values.shape not in ((), shape):
        raise InputError(f"f must be {expected}, got {type(f).__name__} of shape {values.shape}.")
    if values.shape == shape and grid.inactive:
        values = np.where(grid.at_fine_scale.active, values, 0)
    return _finite("f", values)


def evaluate_source(f: Function, points: Array, name: str = "f") -> Array:
    """Values of data given as a function.

    Args:
        f: Function of points; may return one number where it is constant.
        points: Shape ``(d, n)``, x first, in the units of ``grid.lengths``.
        name: What to call it in an error.

    Returns:
        Shape ``(n,)``.

    Raises:
        InputError: If f takes other arguments, or returns another shape or a value that is not finite.
    """
    expected = f"one real value per point, shape {points.shape[1:]} for points of shape {points.shape}"
    values = as_numbers(f"{name}(points)", _call(f, points, name), expected)
    if values.shape not in ((), points.shape[1:]):
        raise InputError(f"{name} must return {expected}, got shape {values.shape}.")
    return np.broadcast_to(_finite(name, values), points.shape[1:])


def _call(f: Function, points: Array, name: str) -> Any:
    try:
        return f(points)
    except TypeError as error:
        # An error that the body of f raised has a frame of f in its traceback, and is the user's to see.
        if error.__traceback__ is None or error.__traceback__.tb_next is not None:
            raise
        raise InputError(
            f"{name} must be a function of one array of points of shape (d, n) = {points.shape}, x first, such as "
            f"lambda x: x[0] * x[1], got one that cannot be called like this: {error}."
        ) from error


def _finite(name: str, values: npt.NDArray[Any]) -> Array:
    if not np.isfinite(values).all():
        raise InputError(f"{name} must be finite, got NaN or infinite values.")
    return values.astype(np.float64, copy=False)


def _by_face(name: str, grid: Grid, given: Any, allowed: tuple[str, ...], kind: str) -> dict[str, float | Function]:
    """Data on faces: one for all, or face by face; each a finite number or a function."""
    table: dict[str, Any] = dict.fromkeys(allowed, given)
    if isinstance(given, Mapping):
        for face in given:
            if face not in faces_of(grid.dim):
                raise InputError(f"{name} must name faces out of {faces_of(grid.dim)}, got {face!r}.")
            if face not in allowed:
                raise InputError(f"{name} must be given on {kind} only, which are {allowed}, got face {face!r}.")
        table = dict(given)
    for face, value in table.items():
        if not callable(value) and (isinstance(value, bool) or not isinstance(value, (Real, np.number))):
            expected = "a number, a function of points or a table {face: one of them}"
            raise InputError(f"{name} must be {expected}, got {type(value).__name__} for face {face!r}.")
        if not callable(value) and not math.isfinite(float(value)):
            raise InputError(f"{name} must be finite, got {value!r} for face {face!r}.")
    return {face: value if callable(value) else float(value) for face, value in table.items()}


def boundary_values(grid: Grid, g: Boundary) -> Array:
    """G at the nodes on Γ_D.

    Args:
        grid: The discretisation; ``grid.at_fine_scale`` for the nodes of T_h.
        g: What u is there, see :class:`Problem`.

    Returns:
        Shape ``grid.node_shape``, zero at all other nodes.

    Raises:
        InputError: If g is something else, names a face without given u, or is not finite.
    """
    values = np.zeros(grid.node_shape)
    for face, value in _by_face("g", grid, g, grid.dirichlet, "faces with u given (dirichlet)").items():
        layer = on_face(values.shape, face)
        chosen = np.zeros(values.shape, dtype=bool)
        chosen[layer] = grid.fixed_nodes[layer]
        if callable(value):
            position = np.argwhere(chosen)[:, ::-1].T
            values[chosen] = evaluate_source(value, position * np.asarray(grid.widths)[:, None], "g")
        else:
            values[chosen] = value
    return values


def fluxes(grid: Grid, flux: Boundary) -> dict[str, float | Function]:
    """Q on the faces of the box on which u is not given.

    Args:
        grid: The discretisation.
        flux: What flows into D there, see :class:`Problem`.

    Returns:
        Face by face, without those where q is the number 0.

    Raises:
        InputError: If flux is something else, names a face with given u, or is not finite.
    """
    open_faces = tuple(face for face in faces_of(grid.dim) if face not in grid.dirichlet)
    if not open_faces and not isinstance(flux, Mapping) and (callable(flux) or flux != 0):
        raise InputError(f"flux must be 0 where u is given on all faces of D, got {flux!r}.")
    faces = open_faces or faces_of(grid.dim)  # of which none is left below, but a number is checked
    table = _by_face("flux", grid, flux, faces if not isinstance(flux, Mapping) else open_faces, "no-flow faces")
    return {face: value for face, value in table.items() if callable(value) or value != 0}


def place_wells(grid: Grid, wells: Sequence[tuple[Sequence[float], float]]) -> list[Well]:
    """Put wells on the nearest nodes of T_h.

    Args:
        grid: The discretisation.
        wells: Points and rates.

    Returns:
        The wells.

    Raises:
        InputError: If one is no pair of a point in D and a rate, or lies where u is given.
    """
    try:
        pairs = [(tuple(float(x) for x in point), float(rate)) for point, rate in wells]
    except (TypeError, ValueError):
        raise InputError(f"wells must be pairs of a point (x first) and a rate, got {wells!r}.") from None
    return [_place(grid, point, rate) for point, rate in pairs]


def _place(grid: Grid, point: tuple[float, ...], rate: float) -> Well:
    if len(point) != grid.dim or not all(math.isfinite(v) for v in (*point, rate)):
        raise InputError(
            f"wells must have points of {grid.dim} finite coordinates and finite rates, got {point} and {rate}."
        )
    if not all(0 <= x <= length for x, length in zip(point, grid.lengths, strict=True)):
        raise InputError(f"wells must lie in D, whose sides are {grid.lengths} (x first), got one at {point}.")
    at = np.asarray(point) / np.asarray(grid.widths)  # in elements
    if not len(_touching(grid, at)):
        raise InputError(f"wells must lie in D, got one at {point}, which is in an inactive element.")
    node = np.rint(at * grid.ratio).astype(np.int64)
    elements = _touching(grid, node / grid.ratio)
    on_given = any(
        node["xyz".index(face[0])] == (grid.fine["xyz".index(face[0])] if face.endswith("max") else 0)
        for face in grid.dirichlet
    )
    if on_given or not len(elements):
        raise InputError(f"wells must lie away from faces with u given, where they have no effect, got one at {point}.")
    return Well(tuple(int(v) for v in node), rate, int(elements[0]))


def _touching(grid: Grid, at: Array) -> npt.NDArray[np.int64]:
    """Numbers of the active elements whose closure has a point, given in elements; increasing."""
    near = np.floor(at).astype(np.int64) - lattice(*(2,) * grid.dim)[::-1]
    close = (near >= 0) & (near < np.asarray(grid.coarse)) & (at <= near + 1 + 1e-9) & (at >= near - 1e-9)
    numbers = np.sort(grid.element_numbers(near[close.all(axis=1)]))
    return numbers[grid.active.ravel()[numbers]]
