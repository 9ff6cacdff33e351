"""Functionals of a solution: the value at a point, the average over a box, the outflow through a face.

Any function of a :class:`nnlod_fenics.solvers.Solution` that returns a number is one, too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache, reduce
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from nnlod_fenics.domain import face_axis, faces_of, on_face
from nnlod_fenics.errors import InputError
from nnlod_fenics.grid import Grid
from nnlod_fenics.loads import element_loads
from nnlod_fenics.norms import energy_product, nodal_values
from nnlod_fenics.problem import Problem, fluxes

__all__ = [
    "BoxAverage",
    "Functional",
    "Outflow",
    "PointValue",
    "check_functional",
    "face_outflow",
    "face_weights",
    "given_outflow",
    "parse_face",
    "parse_functionals",
]

Array = npt.NDArray[np.float64]

_FORMS = "point(0.5, 0.5), average(0.25:0.75, 0:1) or outflow(xmax), with a name in front if wanted (centre=point(…))"


def _text(x: float) -> str:
    """A number with all its digits: what functionals are called tells them apart."""
    return f"{x:.15g}"


@dataclass(frozen=True)
class PointValue:
    """u(x), by Q1 interpolation between the nodes.

    Attributes:
        point: x, in the closure of D, in the units of ``grid.lengths``.
    """

    point: tuple[float, ...]

    def check(self, grid: Grid) -> None:
        """Raise an InputError unless it is a functional on D."""
        expected = f"must have {grid.dim} coordinates in D, whose sides are {grid.lengths} (x first)"
        if len(self.point) != grid.dim or not all(
            0 <= x <= length for x, length in zip(self.point, grid.lengths, strict=True)
        ):
            raise InputError(f"functional {self} {expected}.")
        at = np.asarray(self.point) / grid.widths
        first, last = np.ceil(at - 1 - 1e-9).astype(int), np.floor(at + 1e-9).astype(int)
        near = tuple(slice(max(a, 0), b + 1) for a, b in zip(first[::-1], last[::-1], strict=True))
        if not grid.active[near].any():
            raise InputError(f"functional {self} {expected}; this point is in an inactive element.")

    def weights(self, level: Grid) -> Array:
        """Weights of the nodal values on a mesh.

        Args:
            level: A grid whose elements are the cells of the mesh, such as ``grid.at_fine_scale``.

        Returns:
            Shape ``(level.num_nodes,)``.
        """
        at = np.asarray(self.point) / level.widths
        hats = [np.clip(1 - np.abs(x - np.arange(n + 1)), 0, None) for x, n in zip(at, level.coarse, strict=True)]
        return np.where(level.active_nodes, reduce(np.multiply.outer, reversed(hats)), 0.0).ravel()

    def __call__(self, solution: Any) -> float:
        """Its value for a solution."""
        return _apply(self, solution)

    def __str__(self) -> str:
        return f"point({', '.join(map(_text, self.point))})"


@dataclass(frozen=True)
class BoxAverage:
    """1/|B ∩ D| ∫_(B ∩ D) u dx over a box B, exact for Q1 functions: the mean over the active part of B.

    Attributes:
        low: Lower corner of B, in the units of ``grid.lengths``.
        high: Upper corner of B.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]

    def check(self, grid: Grid) -> None:
        """Raise an InputError unless it is a functional on D."""
        sides = list(zip(self.low, self.high, grid.lengths, strict=False))
        if {len(self.low), len(self.high)} != {grid.dim} or not all(0 <= a < b <= length for a, b, length in sides):
            raise InputError(
                f"functional {self} must have {grid.dim} intervals of positive length in D, whose sides are "
                f"{grid.lengths} (x first)."
            )
        if not self._integrals(grid).any():
            raise InputError(f"functional {self} must be over a box in D, got one in inactive elements.")

    def weights(self, level: Grid) -> Array:
        """Weights of the nodal values on a mesh, see :meth:`PointValue.weights`."""
        integrals = self._integrals(level)
        return (integrals / integrals.sum()).ravel()  # the hats sum to one: this is |B ∩ D|

    def _integrals(self, level: Grid) -> Array:
        """∫_(B ∩ D) Λ_i dx / |cell|, shape ``level.node_shape``."""
        axes = [_hat_integrals(*side) for side in zip(self.low, self.high, level.widths, level.coarse, strict=True)]
        result = np.zeros(level.node_shape)
        for corner in product((0, 1), repeat=level.dim):
            box = tuple(slice(c, c + n) for c, n in zip(corner[::-1], level.element_shape, strict=True))
            parts = [hats[c] for hats, c in zip(axes, corner, strict=True)]
            result[box] += reduce(np.multiply.outer, reversed(parts)) * level.active
        return result

    def __call__(self, solution: Any) -> float:
        """Its value for a solution."""
        return _apply(self, solution)

    def __str__(self) -> str:
        return f"average({', '.join(f'{_text(a)}:{_text(b)}' for a, b in zip(self.low, self.high, strict=False))})"


def _hat_integrals(low: float, high: float, width: float, cells: int) -> tuple[Array, Array]:
    """Integrals over [low, high] of the left and the right hat of each cell of an axis, divided by the cell's width."""
    start, stop = (np.clip(x / width - np.arange(cells), 0, 1) for x in (low, high))
    right = (stop - start) * (stop + start) / 2
    return stop - start - right, right


@dataclass(frozen=True)
class Outflow:
    """−∫_Γ A ∂u/∂n ds through a face Γ of the box: given on a face without given u, else the consistent flux.

    Differences of nodal values at Γ would lose an order, and coarse nodal values do not know the fine-scale
    gradient at all. Green's formula does: for χ = Σ_{i on Γ} Λ_i / m_i, −∫ A ∂u/∂n χ ds = F(χ) − a(u, χ),
    the residual of the system in the rows of the nodes on Γ, which the Dirichlet condition leaves unused.

    * FEM: residual of the fine system with fine hat functions;
    * PG-LOD and NN-LOD: residual b − S u of the coarse system, whose local matrices have the rows of boundary
      nodes too: (S u)_i = a(Σ_j u_j (Λ_j − φ_j), Λ_i).

    m_i is the number of faces with given u that node i lies on. Nodes on edges of the box are shared among these faces,
    so that the outflows through all faces of the box sum to ∫ f + Σ rates exactly, for each realization (for NN-LOD if
    the columns of its local matrices sum to zero).

    Attributes:
        face: ``"xmin"``, ``"xmax"``, ``"ymin"``, …; or ``"x=0"`` for ``"xmin"`` and ``"x=1"`` for ``"xmax"``, whatever
            the lengths are.
    """

    face: str

    def check(self, grid: Grid) -> None:
        """Raise an InputError unless it is a functional on D."""
        parse_face(grid, self.face)

    def __call__(self, solution: Any) -> float:
        """Its value for a solution."""
        return float(solution.outflow(self.face))

    def __str__(self) -> str:
        return f"outflow({self.face})"


Functional = PointValue | BoxAverage | Outflow | Callable[[Any], float]
"""One of this module's, or a function of a :class:`nnlod_fenics.solvers.Solution`."""


def check_functional(name: str, functional: Any, grid: Grid) -> None:
    """Check a functional.

    Args:
        name: What it is called.
        functional: The functional.
        grid: The discretisation.

    Raises:
        InputError: If it is none, or not one on D.
    """
    if isinstance(functional, (PointValue, BoxAverage, Outflow)):
        functional.check(grid)
    elif not callable(functional):
        raise InputError(
            f"functional {name!r} must be a PointValue, BoxAverage or Outflow, or a function of a solution, got "
            f"{type(functional).__name__}."
        )


def _apply(functional: PointValue | BoxAverage, solution: Any) -> float:
    level, values = nodal_values("u", solution.u, solution.grid)
    return float(values.ravel() @ _weights(functional, level))


@lru_cache(maxsize=64)
def _weights(functional: PointValue | BoxAverage, level: Grid) -> Array:
    return functional.weights(level)


def parse_face(grid: Grid, face: str) -> str:
    """The name of a face of the box.

    Args:
        grid: The discretisation.
        face: ``"xmin"``, … or ``"x=0"``, ….

    Returns:
        ``"xmin"``, …

    Raises:
        InputError: If the box has no such face.
    """
    name = str(face).replace("=0", "min").replace("=1", "max")
    if name not in faces_of(grid.dim):
        raise InputError(f"functional outflow({face}) must name a face of D, one of {faces_of(grid.dim)}.")
    return name


def given_outflow(grid: Grid, problem: Problem, face: str) -> float:
    """−∫ q ds over the part of a face that belongs to D, which has no given u.

    Args:
        grid: The discretisation.
        problem: The problem.
        face: ``"xmin"``, …

    Returns:
        The outflow, by the quadrature of the load.

    Raises:
        InputError: If the flux does not fit.
    """
    q = fluxes(grid, problem.flux).get(face)
    if q is None:
        return 0.0
    axis, upper = face_axis(face)
    elements = np.flatnonzero(grid.elements[:, axis] == (grid.coarse[axis] - 1 if upper else 0))
    return -float(element_loads(grid, Problem(f=0.0, flux={face: q}), elements).sum())


@lru_cache(maxsize=64)
def face_weights(face: str, level: Grid) -> Array:
    """Weights 1/m_i of the residual at the nodes on a face with given u.

    Args:
        face: ``"xmin"``, …
        level: A grid whose elements are the cells of the mesh, such as ``grid.at_fine_scale``.

    Returns:
        Shape ``(level.num_nodes,)``, zero at nodes elsewhere and at those of no active element.
    """
    count = np.zeros(level.node_shape)
    for other in level.dirichlet:
        count[on_face(count.shape, other)] += 1
    weights = np.zeros(level.node_shape)
    layer = on_face(weights.shape, face)
    np.divide(1.0, count[layer], out=weights[layer], where=level.fixed_nodes[layer])
    return weights.ravel()


def face_outflow(face: str, grid: Grid, u: Array, A: Array, load: Array) -> float:
    """Consistent flux F(χ) − a(u, χ) of a Q1 solution on T_h; touches the cells at the face only.

    Args:
        face: A face with given u: ``"xmin"``, …
        grid: The discretisation.
        u: Nodal values, shape ``grid.fine_node_shape``.
        A: Checked coefficient on T_ε, shape ``coefficient_shape`` or ``coefficient_shape + (d, d)``.
        load: F(Λ_i) of the fine hat functions, shape ``grid.fine_node_shape``.

    Returns:
        The outflow.
    """
    level, values = nodal_values("u", u, grid)
    chi = face_weights(face, level).reshape(values.shape)
    axis, upper = face_axis(face)
    layer, strip = (
        (slice(None),) * (grid.dim - 1 - axis) + (slice(-n, None) if upper else slice(0, n),) for n in (2, 1)
    )
    cells = grid.refine(A[strip])  # those of T_ε at the face
    active = level.active[strip]
    coefficient = cells[strip] * (active if A.ndim == grid.dim else active[..., None, None])
    form = energy_product(values[layer], chi[layer], coefficient, level.widths)
    return float(np.vdot(load[layer], chi[layer]) - form)


def _parse(text: str) -> PointValue | BoxAverage | Outflow:
    match = re.fullmatch(r"\s*(point|average|outflow)\s*\(([^()]*)\)\s*", text)
    try:
        if match is None:
            raise ValueError
        kind, arguments = match[1], [part.strip() for part in match[2].split(",")]
        if kind == "point":
            return PointValue(tuple(map(float, arguments)))
        if kind == "average":
            low, high = zip(*(map(float, part.split(":", 1)) for part in arguments), strict=True)
            return BoxAverage(low, high)
        (face,) = arguments
        return Outflow(face.replace(" ", ""))
    except ValueError:
        raise InputError(f"functional must look like {_FORMS}, got {text!r}.") from None


def parse_functionals(texts: Iterable[str]) -> dict[str, PointValue | BoxAverage | Outflow]:
    """Read functionals from text, as the command line gives them.

    Args:
        texts: ``"point(0.5, 0.5)"``, ``"average(0.25:0.75, 0:1)"`` or ``"outflow(xmax)"``, each with a name in
            front if wanted: ``"centre=point(0.5, 0.5)"``.

    Returns:
        The functionals by name.

    Raises:
        InputError: If one cannot be read or two have the same name.
    """
    functionals: dict[str, PointValue | BoxAverage | Outflow] = {}
    for text in texts:
        named = re.fullmatch(r"\s*([\w .-]+?)\s*=(\s*\w+\s*\(.*)", text)
        functional = _parse(named[2] if named else text)
        name = named[1] if named else str(functional)
        if name in functionals:
            raise InputError(f"functional names must differ, got {name!r} twice.")
        functionals[name] = functional
    return functionals
