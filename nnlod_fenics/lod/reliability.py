"""Signs that a PG-LOD solution is wrong, from local matrices and the coarse operator alone.

The localised Petrov–Galerkin form has no stability at high contrast: where conductive channels cross whole patches, its
solution can be off by hundreds of per cent. Three signs cost nothing and hold for predicted matrices as well:

* the *ring*: correctors decay away from T unless the patch is too small, and then S_T is large in its outermost nodes;
* the *asymmetry*: K is symmetric when patches are large enough;
* *coercivity*: a negative eigenvalue of (K + Kᵀ)/2 means that the discrete problem has lost its stability.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse
import scipy.sparse.linalg

from nnlod_fenics.grid import Grid, lattice

__all__ = ["Reliability", "assess"]

Array = npt.NDArray[np.float64]

_QUANTILE = 0.95
_RING, _ASYMMETRY = 0.15, 0.03


@dataclass(frozen=True)
class Reliability:
    """How far a coarse solution by local matrices can be trusted.

    Attributes:
        ring: Share of ‖S_T‖ (Frobenius) in the outermost nodes of the patch, the 95 % quantile over T.
        asymmetry: ‖K − Kᵀ‖ / ‖K‖ (Frobenius).
        coercive: Whether (K + Kᵀ)/2 is positive definite.
        negative: Whether u < 0 somewhere although no data are negative, against the maximum principle.
    """

    ring: float
    asymmetry: float
    coercive: bool
    negative: bool

    @property
    def trusted(self) -> bool:
        """Whether there is no sign that the solution is wrong by 5 % or more."""
        return self.coercive and not self.negative and self.ring <= _RING and self.asymmetry <= _ASYMMETRY

    def __str__(self) -> str:
        signs = [
            f"ring {self.ring:.2g}",
            f"asymmetry {self.asymmetry:.2g}",
            "coercive" if self.coercive else "NOT coercive",
        ]
        if self.negative:
            signs.append("negative values")
        verdict = "no sign of a wrong solution" if self.trusted else "do not trust this solution: take more layers"
        return f"{verdict} ({', '.join(signs)})"


def assess(grid: Grid, S: Array, K: scipy.sparse.csr_array, negative: bool = False) -> Reliability:
    """Assess a coarse solution.

    Args:
        grid: The discretisation.
        S: Local matrices, exact or predicted.
        K: Their coarse operator on the free nodes.
        negative: Whether u has negative values that the data do not explain.

    Returns:
        The signs.
    """
    return Reliability(_ring(grid, S), _asymmetry(K), _coercive(K), negative)


def _ring(grid: Grid, S: Array) -> float:
    width = 2 * grid.ell + 2
    node = lattice(*(width,) * grid.dim)
    outer = ((node == 0) | (node == width - 1)).any(axis=1)
    squares = np.square(S[grid.active_elements]).sum(axis=2)
    if grid.ell == 0:  # all nodes are T's own
        return 0.0
    return float(np.quantile(np.sqrt(squares[:, outer].sum(axis=1) / squares.sum(axis=1)), _QUANTILE))


def _asymmetry(K: scipy.sparse.csr_array) -> float:
    return float(scipy.sparse.linalg.norm(K - K.T) / scipy.sparse.linalg.norm(K))


def _coercive(K: scipy.sparse.csr_array) -> bool:
    """Whether (K + Kᵀ)/2 is positive definite: by the signs of the pivots, of a factorisation without row exchanges."""
    symmetric = (0.5 * (K + K.T) / abs(K.data).max()).tocsc()
    if symmetric.diagonal().min() <= 0:
        return False
    try:
        factors = scipy.sparse.linalg.splu(
            symmetric, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
        )
    except RuntimeError:  # exactly singular
        return False
    if np.array_equal(factors.perm_r, factors.perm_c):
        return bool((factors.U.diagonal() > 0).all())
    least = scipy.sparse.linalg.eigsh(symmetric, k=1, which="SA", return_eigenvectors=False, tol=1e-6)
    return bool(least[0] > 0)
