"""Solution of symmetric positive definite coarse systems, those of the Galerkin form.

Cholesky's factorisation by LAPACK in a band, the longest axis of the box slowest: it reads one triangle, keeps
n (b + 1) numbers for n unknowns and a bandwidth b, takes n b² operations and tells where a matrix is not positive
definite. Above :data:`LARGEST_WORK` operations conjugate gradients: preconditioned by the diagonal and, added to it,
the inverse on the Q1 functions of a mesh that is coarser still, by the same Cholesky. What does not converge is
factorised after all.

CPU time in ms and iterations for fields with σ² = 1 / two-phase fields of contrast 10⁴, ℓ = 1, one thread of a busy
two-core machine, by ``tests/benchmarks/bench_coarse_solve.py``; the last two rows on fields of a longer period. The
last column is the matrix of PG-LOD with ℓ = 2, of as many entries:

======  ===========  ================================  =============  ===========  ===============
d, 1/H  Cholesky     CG, two levels                    CG, PyAMG      SuperLU      PG-LOD, SuperLU
======  ===========  ================================  =============  ===========  ===============
2, 32   3.1 / 3.8    5.9 / 20 (30 / 180 iterations)    27 / 69        7 / 7        7 / 7
2, 64   26 / 26      33 / 72 (31 / 191)                83 / 394       60 / 52      51 / 74
2, 128  148 / 156    115 / 832 (43 / 331)              505 / 2,461    503 / 716    847 / 585
3, 8    5.0 / 3.7    8.6 / 17 (27 / 89)                -              10 / 9       9 / 7
3, 16   116 / 125    111 / 181 (29 / 103)              368 / 492      828 / 569    752 / -
2, 256  2,060/2,760  770 / 4,530 (45 / 406)            -              -            6,310 / -
3, 32   -            1,780 / 3,380 (33 / 144)          4,600 / 7,317  -            -
======  ===========  ================================  =============  ===========  ===============

PETSc's CHOLMOD takes 139 / 107 for d = 2, 1/H = 128 and 232 / 241 for d = 3, 1/H = 16: no faster by enough to need it.
GMRES and BiCGStab converge for PG-LOD at σ² = 1, not on the two-phase fields in two dimensions.
"""

from __future__ import annotations

import itertools
import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.linalg
import scipy.sparse
import scipy.sparse.linalg

from nnlod_fenics.errors import NumericalError
from nnlod_fenics.grid import Grid
from nnlod_fenics.runtime.memory import free_bytes
from nnlod_fenics.scaling import exponent_of

__all__ = ["LARGEST_WORK", "LinearSolve", "solve_symmetric"]

Array = npt.NDArray[np.float64]

LARGEST_WORK = 1e10
"""Operations n b² up to which a system is factorised: half a second to a second of one core."""

_TOLERANCE = 1e-12  # of the residual of conjugate gradients, relative to the right-hand side
_MOST_ITERATIONS = 1000  # then a factorisation costs no more
_BACKWARD_ERROR = 1e-11
_NOISE = 32 * np.finfo(float).eps  # times the width of the band: a smaller pivot, relative to the diagonal, is rounding


class LinearSolve(NamedTuple):
    """How a linear system was solved.

    Attributes:
        method: ``"cholesky"`` or ``"cg"``.
        iterations: Of conjugate gradients; 0 where they were not tried.
        residual: ‖b − K x‖ / ‖b‖, Euclidean norms; 0 for b = 0.
    """

    method: str
    iterations: int
    residual: float


def solve_symmetric(grid: Grid, K: scipy.sparse.csr_array, b: Array) -> tuple[Array, LinearSolve]:
    """Solve a symmetric positive definite system on the free nodes.

    Args:
        grid: The discretisation.
        K: The matrix, ``num_free_nodes`` rows. It must be symmetric: a factorisation reads what is below the diagonal.
        b: The right-hand side, shape ``(num_free_nodes,)``.

    Returns:
        The solution, same shape, and how it was found.

    Raises:
        NumericalError: If K is not positive definite, to working accuracy.
    """
    largest = float(abs(K.data).max(initial=0.0))
    if not 0 < largest < math.inf:
        raise NumericalError("the coarse matrix is zero or not finite.")
    exponents = exponent_of(largest), exponent_of(float(abs(b).max()))  # permeabilities may be 1e-150
    K = scipy.sparse.csr_array((np.ldexp(K.data, -exponents[0]), K.indices, K.indptr), shape=K.shape)
    b = np.ldexp(b, -exponents[1])
    place, iterations, x = _places(grid), 0, None
    width = _bandwidth(K, place)
    if K.shape[0] * float(width) ** 2 > LARGEST_WORK:
        x, iterations = _conjugate_gradients(grid, K, b)
        if x is None:
            _check_memory(8 * K.shape[0] * (width + 1), iterations)
    method = "cg" if x is not None else "cholesky"
    if x is None:
        x = _solve_banded(_factorise(K, place), place, b)
    residual = b - K @ x
    bound = abs(K).sum(axis=1).max() * abs(x).max() + abs(b).max()
    if not abs(residual).max() <= _BACKWARD_ERROR * bound:
        raise NumericalError("the coarse matrix is singular to working accuracy: its solution leaves a residual.")
    norm = float(np.linalg.norm(b))
    solve = LinearSolve(method, iterations, float(np.linalg.norm(residual)) / norm if norm else 0.0)
    return np.ldexp(x, exponents[1] - exponents[0]), solve


@lru_cache(maxsize=16)
def _places(grid: Grid) -> npt.NDArray[np.int64]:
    """The place of each free node where the shortest axis goes fastest: the narrowest band."""
    axes = np.argsort([-n for n in grid.node_shape], kind="stable")
    numbers = grid.free_numbers.reshape(grid.node_shape).transpose(axes)
    in_order = numbers[numbers >= 0]
    place = np.empty_like(in_order)
    place[in_order] = np.arange(len(in_order))
    return place


def _bandwidth(K: scipy.sparse.csr_array, place: npt.NDArray[np.int64]) -> int:
    entries = K.tocoo()
    return int(abs(place[entries.row] - place[entries.col]).max())


def _check_memory(need: int, iterations: int) -> None:
    if need > free_bytes():
        raise NumericalError(
            f"conjugate gradients did not converge in {iterations} iterations, and Cholesky's factor of the coarse "
            f"matrix takes {need / 1e9:.1f} GB, more than there is."
        )


def _factorise(K: scipy.sparse.csr_array, place: npt.NDArray[np.int64]) -> Array:
    """Cholesky's factor in LAPACK's lower band storage, from what is on and below the diagonal of K."""
    entries = K.tocoo()
    lower = entries.row >= entries.col
    rows, columns = place[entries.row[lower]], place[entries.col[lower]]
    below = abs(rows - columns)
    band = np.zeros((int(below.max()) + 1, K.shape[0]), order="F")
    band[below, np.minimum(rows, columns)] = entries.data[lower]
    diagonal = band[0].copy()
    try:
        band = scipy.linalg.cholesky_banded(band, overwrite_ab=True, lower=True, check_finite=False)
    except np.linalg.LinAlgError:
        raise _indefinite() from None
    if not (np.square(band[0]) > _NOISE * len(band) * diagonal).all():
        raise _indefinite()
    return np.asarray(band)


def _indefinite() -> NumericalError:
    return NumericalError(
        "the coarse matrix is singular to working accuracy or not positive definite; that of the Galerkin form is, "
        "unless the contrast of A exceeds what double precision resolves."
    )


def _solve_banded(factor: Array, place: npt.NDArray[np.int64], b: Array) -> Array:
    right = np.empty_like(b)
    right[place] = b
    return np.asarray(scipy.linalg.cho_solve_banded((factor, True), right, check_finite=False)[place])


def _conjugate_gradients(grid: Grid, K: scipy.sparse.csr_array, b: Array) -> tuple[Array | None, int]:
    """The solution, None if they do not converge, and the number of iterations."""
    count = itertools.count()

    def product(p: Array) -> Array:
        image = K @ p
        if not p @ image > 0:
            raise _indefinite()
        return np.asarray(image)

    x, failed = scipy.sparse.linalg.cg(
        scipy.sparse.linalg.LinearOperator(K.shape, product, dtype=float),
        b,
        rtol=_TOLERANCE,
        atol=0.0,
        maxiter=_MOST_ITERATIONS,
        M=_two_levels(grid, K),
        callback=lambda _: next(count),
    )
    return None if failed else x, next(count)


def _two_levels(grid: Grid, K: scipy.sparse.csr_array) -> scipy.sparse.linalg.LinearOperator:
    """The inverse of the diagonal and P (Pᵀ K P)⁻¹ Pᵀ, P the interpolation of Q1 functions of a coarser mesh."""
    diagonal = K.diagonal()
    if not diagonal.min() > 0:
        raise _indefinite()
    P = _interpolation(grid, _coarsening(grid, K.nnz))
    transposed = P.T.tocsr()
    inner = scipy.sparse.csr_array(transposed @ (K @ P))
    place = np.arange(inner.shape[0])
    factor = _factorise(inner, place) if len(place) else None

    def apply(r: Array) -> Array:
        z = r / diagonal
        return z if factor is None else z + P @ _solve_banded(factor, place, transposed @ r)

    return scipy.sparse.linalg.LinearOperator(K.shape, apply, dtype=float)


def _coarsening(grid: Grid, nonzeros: int) -> int:
    """The least number of elements, as sides of the coarser ones, with which the factor is not larger than K."""
    for step in range(2, max(grid.coarse)):
        sizes = sorted(n // step + 1 for n in grid.coarse)
        neighbours = 1 + math.ceil((2 * grid.ell + 1) / step)  # how far apart two coarser nodes can meet
        if math.prod(sizes) * neighbours * math.prod(sizes[:-1]) <= nonzeros:
            return step
    return max(*grid.coarse, 2)


@lru_cache(maxsize=4)
def _interpolation(grid: Grid, step: int) -> scipy.sparse.csr_array:
    """Values at the free nodes from those at the free ones among every ``step``-th node and the last, along each axis.

    Each of the latter is a free node itself, where its own function only is not zero: the columns are independent.
    """
    whole, kept = scipy.sparse.csr_array(np.ones((1, 1))), []
    for n in grid.node_shape:  # the slowest axis first
        coarser = np.append(np.arange(0, n - 1, step), n - 1)
        hats = [np.interp(np.arange(n), coarser, unit) for unit in np.eye(len(coarser))]
        whole = scipy.sparse.kron(whole, scipy.sparse.csr_array(np.stack(hats, axis=1)), format="csr")
        kept.append(coarser)
    columns = np.flatnonzero(grid.free_nodes[np.ix_(*kept)])
    return scipy.sparse.csr_array(whole[np.flatnonzero(grid.free_nodes)][:, columns])
