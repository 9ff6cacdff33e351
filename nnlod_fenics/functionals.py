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

from nnlod_fenics.errors import InputError

__all__ = [
    "BoxAverage",
    "Functional",
    "Outflow",
    "PointValue",
    "check_functional",
    "face_outflow",
    "face_weights",
    "parse_functionals",
]

Array = npt.NDArray[np.float64]

_AXES = "xyz"
_FORMS = "point(0.5, 0.5), average(0.25:0.75, 0:1) or outflow(x=1), with a name in front if wanted (centre=point(…))"


def _outer(factors: list[npt.NDArray[Any]]) -> Array:
    """Tensor product of weights along x, y, z as a nodal array ``[z, y, x]``, flattened."""
    return reduce(np.multiply.outer, reversed(factors)).astype(np.float64).ravel()


def _text(x: float) -> str:
    """A number with all its digits: what functionals are called tells them apart."""
    return f"{x:.15g}"


@dataclass(frozen=True)
class PointValue:
    """u(x), by Q1 interpolation between the nodes.

    Attributes:
        point: x, in the closure of D.
    """

    point: tuple[float, ...]

    def check(self, dim: int) -> None:
        """Raise an InputError unless it is a functional on (0,1)^dim."""
        if len(self.point) != dim or not all(0 <= x <= 1 for x in self.point):
            raise InputError(f"functional {self} must have {dim} coordinates between 0 and 1.")

    def weights(self, dim: int, cells: int) -> Array:
        """Weights of the nodal values on a mesh of ``cells`` cells per axis, shape ``((cells+1)^dim,)``."""
        nodes = np.arange(cells + 1)
        return _outer([np.clip(1 - np.abs(x * cells - nodes), 0, None) for x in self.point])

    def __call__(self, solution: Any) -> float:
        """Its value for a solution."""
        return float(solution.u.ravel() @ _weights(self, solution.grid.dim, len(solution.u) - 1))

    def __str__(self) -> str:
        return f"point({', '.join(map(_text, self.point))})"


@dataclass(frozen=True)
class BoxAverage:
    """1/|B| ∫_B u dx over a box B, exact for Q1 functions.

    Attributes:
        low: Lower corner of B.
        high: Upper corner of B.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]

    def check(self, dim: int) -> None:
        """Raise an InputError unless it is a functional on (0,1)^dim."""
        sides = list(zip(self.low, self.high, strict=False))
        if {len(self.low), len(self.high)} != {dim} or not all(0 <= a < b <= 1 for a, b in sides):
            raise InputError(f"functional {self} must have {dim} intervals of positive length in [0, 1].")

    def weights(self, dim: int, cells: int) -> Array:
        """Weights of the nodal values on a mesh of ``cells`` cells per axis, shape ``((cells+1)^dim,)``."""
        nodes = np.arange(cells + 1)

        def primitive(x: float) -> Array:
            t = np.clip(x * cells - nodes, -1, 1)
            return np.where(t < 0, (1 + t) ** 2 / 2, 1 - (1 - t) ** 2 / 2) / cells

        def inside(x: float) -> Array:  # the hats of the two end nodes have only one half
            whole = primitive(x)
            whole[0] -= 0.5 / cells
            return whole

        return _outer([(inside(b) - inside(a)) / (b - a) for a, b in zip(self.low, self.high, strict=True)])

    def __call__(self, solution: Any) -> float:
        """Its value for a solution."""
        return float(solution.u.ravel() @ _weights(self, solution.grid.dim, len(solution.u) - 1))

    def __str__(self) -> str:
        return f"average({', '.join(f'{_text(a)}:{_text(b)}' for a, b in zip(self.low, self.high, strict=False))})"


@dataclass(frozen=True)
class Outflow:
    """−∫_Γ A ∂u/∂n ds through a face Γ of the cube, as the consistent flux.

    Differences of nodal values at Γ would lose an order, and coarse nodal values do not know the fine-scale
    gradient at all. Green's formula does: for χ = Σ_{i on Γ} Λ_i / m_i, −∫ A ∂u/∂n χ ds = (f, χ) − a(u, χ),
    the residual of the system in the rows of the nodes on Γ, which the Dirichlet condition leaves unused.

    * FEM: residual of the fine system with fine hat functions;
    * PG-LOD and NN-LOD: residual b − S u of the coarse system, whose local matrices have the rows of boundary
      nodes too: (S u)_i = a(Σ_j u_j (Λ_j − φ_j), Λ_i).

    m_i is the number of faces that node i lies on. Nodes on edges of the cube are shared among the faces, so
    that the outflows through all faces sum to ∫ f exactly, for each realization (for NN-LOD if the columns of
    its local matrices sum to zero).

    Attributes:
        face: ``"x=0"``, ``"x=1"``, ``"y=0"``, …
    """

    face: str

    def check(self, dim: int) -> None:
        """Raise an InputError unless it is a functional on (0,1)^dim."""
        faces = [f"{axis}={side}" for axis in _AXES[:dim] for side in (0, 1)]
        if self.face not in faces:
            raise InputError(f"functional {self} must name a face, one of {faces}.")

    def __call__(self, solution: Any) -> float:
        """Its value for a solution."""
        return float(solution.outflow(self.face))

    def __str__(self) -> str:
        return f"outflow({self.face})"


Functional = PointValue | BoxAverage | Outflow | Callable[[Any], float]
"""One of this module's, or a function of a :class:`nnlod_fenics.solvers.Solution`."""


def check_functional(name: str, functional: Any, dim: int) -> None:
    """Check a functional.

    Args:
        name: What it is called.
        functional: The functional.
        dim: Space dimension.

    Raises:
        InputError: If it is none, or not one on (0,1)^dim.
    """
    if isinstance(functional, (PointValue, BoxAverage, Outflow)):
        functional.check(dim)
    elif not callable(functional):
        raise InputError(
            f"functional {name!r} must be a PointValue, BoxAverage or Outflow, or a function of a solution, got "
            f"{type(functional).__name__}."
        )


@lru_cache(maxsize=64)
def _weights(functional: PointValue | BoxAverage, dim: int, cells: int) -> Array:
    return functional.weights(dim, cells)


@lru_cache(maxsize=64)
def face_weights(face: str, dim: int, cells: int) -> Array:
    """Weights 1/m_i of the residual at the nodes on a face, zero elsewhere, shape ``((cells+1)^dim,)``."""
    at = np.indices((cells + 1,) * dim)
    on_face = [np.isin(axis, (0, cells)).astype(int) for axis in at]
    axis, side = _place(face, dim)
    return np.asarray((at[axis] == side * cells) / np.maximum(sum(on_face), 1)).ravel()


def _place(face: str, dim: int) -> tuple[int, int]:
    """Axis of nodal arrays across a face, and its side, 0 or 1."""
    return dim - 1 - _AXES.index(face[0]), int(face[2])


def face_outflow(face: str, u: Array, A: Array, load: Array) -> float:
    """Consistent flux (f, χ) − a(u, χ) of a Q1 solution on T_h; touches the cells at the face only.

    Args:
        face: ``"x=0"``, ``"x=1"``, ``"y=0"``, …
        u: Nodal values, shape ``(fine+1,)*d``.
        A: Scalar coefficient on the cells of T_h, shape ``(fine,)*d``.
        load: (f, Λ_i) of the fine hat functions, shape ``(fine+1,)*d``.

    Returns:
        The outflow.
    """
    dim, cells = u.ndim, len(u) - 1
    axis, side = _place(face, dim)
    chi = face_weights(face, dim, cells).reshape(u.shape)
    layer = (slice(None),) * axis + (slice(-2, None) if side else slice(0, 2),)
    strip = (slice(None),) * axis + (slice(-1, None) if side else slice(0, 1),)
    stiffness, mass = np.array([[1.0, -1.0], [-1.0, 1.0]]), np.array([[2.0, 1.0], [1.0, 2.0]]) / 6
    K = sum(reduce(np.kron, [stiffness if a == b else mass for b in range(dim)]) for a in range(dim))
    form = np.einsum("i...,ij,j...,...->", _corners(u[layer]), K, _corners(chi[layer]), A[strip], optimize=True)
    return float(np.vdot(load[layer], chi[layer]) - form * float(cells) ** (2 - dim))


def _corners(values: Array) -> Array:
    """Values at the corners of each cell, corners first, the last axis fastest."""
    return np.stack(
        [
            values[tuple(slice(c, n - 1 + c) for c, n in zip(corner, values.shape, strict=True))]
            for corner in product((0, 1), repeat=values.ndim)
        ]
    )


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
        texts: ``"point(0.5, 0.5)"``, ``"average(0.25:0.75, 0:1)"`` or ``"outflow(x=1)"``, each with a name in
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
