"""Signs that a PG-LOD solution is wrong, from local matrices and the coarse problem alone.

The localised Petrov–Galerkin form has no stability at high contrast: where conductive channels cross whole patches, its
solution can be off by hundreds of per cent. Five signs cost next to nothing and hold for predicted matrices as well:

* the *mismatch*: K is symmetric for ideal patches, so that K and Kᵀ give the same solution. What these differ by is the
  error up to a factor of a few, and costs one more coarse solve;
* the *sensitivity*: what a symmetric change of K as large as its asymmetry does to the solution. Where barriers make a
  part of D float, one mode dominates u, and no asymmetry changes the energy of a single mode: K and Kᵀ then agree on a
  wrong amplitude. One more coarse solve;
* *coercivity*: a negative eigenvalue of (K + Kᵀ)/2 means that the discrete problem has lost its stability;
* the *asymmetry* of K itself, and the *ring*: correctors decay away from T unless the patch is too small, and then S_T
  is large in its outermost nodes. Both indicate where an error comes from, but not how large it is.

Negative values where no data are negative are reported too, but do not decide: I_H u_h does not share the bounds of
u_h, and beside poor inclusions and barriers it can be negative itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse
import scipy.sparse.linalg

from nnlod_fenics.errors import NumericalError
from nnlod_fenics.grid import Grid, lattice
from nnlod_fenics.lod.coarse import coarse_mass_matrix, coarse_operator, solve_sparse
from nnlod_fenics.lod.symmetric import solve_symmetric

__all__ = ["Reliability", "assess", "assess_galerkin"]

Array = npt.NDArray[np.float64]

_QUANTILE = 0.95

# Thresholds for errors of 5 and 2 %: of the mismatch, of the sensitivity, and of the mismatch of the Galerkin form.
# Calibrated with tests/benchmarks/calibrate_reliability.py on 19 kinds of field of contrasts up to 10⁶, ℓ = 1, 2, 3,
# 20 seeds each; see there for the rates, which hold on other seeds, kinds, grids and problems.
_MISMATCH_5, _MISMATCH_2 = 0.01, 0.0025
_SENSITIVITY_5, _SENSITIVITY_2 = 0.2, 0.1
_DEFECT_5, _DEFECT_2 = 0.04, 0.02
_NEGATIVE = 1e-6  # of max |u|


@dataclass(frozen=True)
class Reliability:
    """How far a coarse solution by local matrices can be trusted.

    Attributes:
        ring: Share of ‖S_T‖ (Frobenius) in the outermost nodes of the patch, the 95 % quantile over T.
        asymmetry: ‖K − Kᵀ‖ / ‖K‖ (Frobenius).
        coercive: Whether (K + Kᵀ)/2 is positive definite.
        negative: Whether u < 0 somewhere although no data are negative.
        mismatch: ‖u − u'‖ / ‖u‖ in L²(D), where u' is the solution with Kᵀ in the place of K; for the Galerkin form
            what the Petrov–Galerkin equations would change about u, see :func:`assess_galerkin`.
        sensitivity: ‖u − u''‖ / ‖u‖ with (K + Kᵀ)/2 + L in the place of K, L the graph Laplacian with the weights
            |K − Kᵀ|; zero for the Galerkin form.
        galerkin: Whether u is a solution in the Galerkin form.
    """

    ring: float
    asymmetry: float
    coercive: bool
    negative: bool
    mismatch: float
    sensitivity: float = 0.0
    galerkin: bool = False

    @property
    def trusted(self) -> bool:
        """Whether there is no sign that u is wrong by 5 % or more in L²(D)."""
        return self._below(_DEFECT_5 if self.galerkin else _MISMATCH_5, _SENSITIVITY_5)

    @property
    def accurate(self) -> bool:
        """Whether there is no sign that u is wrong by 2 % or more in L²(D)."""
        return self._below(_DEFECT_2 if self.galerkin else _MISMATCH_2, _SENSITIVITY_2)

    def _below(self, mismatch: float, sensitivity: float) -> bool:
        return self.coercive and self.mismatch <= mismatch and self.sensitivity <= sensitivity

    def __str__(self) -> str:
        signs = [
            f"mismatch {self.mismatch:.2g}",
            f"sensitivity {self.sensitivity:.2g}",
            f"ring {self.ring:.2g}",
            f"asymmetry {self.asymmetry:.2g}",
            "coercive" if self.coercive else "NOT coercive",
        ]
        if self.negative:
            signs.append("negative values")
        if self.accurate:
            verdict = "no sign of an error of 2 % or more"
        elif self.trusted:
            verdict = "no sign of an error of 5 % or more"
        else:
            verdict = "do not trust this solution: take more layers, or FEM"
        return f"{verdict} ({', '.join(signs)})"


def assess(grid: Grid, S: Array, u: Array, load: Array, nonnegative: bool = False) -> Reliability:
    """Assess a coarse solution in the Petrov–Galerkin form.

    Args:
        grid: The discretisation.
        S: Local matrices, exact or predicted.
        u: Their solution, shape ``grid.node_shape``, with boundary values.
        load: The load that it was computed with, same shape.
        nonnegative: Whether no data are negative, so that the exact solution is not either.

    Returns:
        The signs.
    """
    whole, free = coarse_operator(grid, S, boundary=True), np.flatnonzero(grid.free_nodes)
    K, values = whole[free][:, free], np.where(grid.active_nodes, u, 0.0)
    return Reliability(
        _ring(grid, S),
        float(scipy.sparse.linalg.norm(K - K.T) / scipy.sparse.linalg.norm(K)),
        _coercive(K),
        nonnegative and _negative(values),
        _change(grid, whole.T.tocsr(), values, load),
        _change(grid, _perturbed(whole), values, load),
    )


def assess_galerkin(
    grid: Grid, S: Array, u: Array, load: Array, galerkin: scipy.sparse.csr_array, nonnegative: bool = False
) -> Reliability:
    """Assess a coarse solution in the Galerkin form, given what the Petrov–Galerkin form with the same ℓ needs.

    u_h satisfies both, the equations tested with (1 − C)Λ_i and those tested with Λ_i, of which only the first have a
    stable matrix. So K_Galerkin⁻¹ (b − K_PG u) is the residual of the second in the units of u. It is about the error
    of u or more, for small errors much more.

    Args:
        grid: The discretisation.
        S: Local matrices.
        u: Galerkin solution, shape ``grid.node_shape``.
        load: The load with source correctors that goes with S, same shape.
        galerkin: Matrix of the Galerkin form on all nodes.
        nonnegative: Whether no data are negative.

    Returns:
        The signs.
    """
    values, free = np.where(grid.active_nodes, u, 0.0), np.flatnonzero(grid.free_nodes)
    residual = load.ravel() - coarse_operator(grid, S, boundary=True) @ values.ravel()
    change = np.zeros(grid.num_nodes)
    change[free], _ = solve_symmetric(grid, galerkin[free][:, free], residual[free])
    mismatch = _relative(grid, change.reshape(grid.node_shape), values)
    return Reliability(_ring(grid, S), 0.0, True, nonnegative and _negative(values), mismatch, galerkin=True)


def _negative(u: Array) -> bool:
    return bool(u.min() < -_NEGATIVE * abs(u).max())


def _perturbed(K: scipy.sparse.csr_array) -> scipy.sparse.csr_array:
    """(K + Kᵀ)/2 and the graph Laplacian with the weights |K − Kᵀ|: constants keep having no energy."""
    weights = abs(K - K.T)
    laplacian = scipy.sparse.diags_array(weights.sum(axis=1)) - weights
    return scipy.sparse.csr_array(0.5 * (K + K.T) + laplacian)


def _change(grid: Grid, other: scipy.sparse.csr_array, u: Array, load: Array) -> float:
    """What another matrix on all nodes would change about a solution, relative to it in L²(D)."""
    free, v = grid.free_nodes.ravel(), np.where(grid.fixed_nodes, u, 0.0).ravel()
    right = (load.ravel() - other @ v)[free]
    try:
        v[free] = solve_sparse(other[free][:, free], right)
    except NumericalError:
        return float("inf")
    return _relative(grid, v.reshape(grid.node_shape) - u, u)


def _relative(grid: Grid, change: Array, u: Array) -> float:
    """‖change‖ / ‖u − m‖, m the middle of the values on Γ_D: it does not matter from which level u is measured."""
    given = u[grid.fixed_nodes]
    level = np.where(grid.active_nodes, 0.5 * (given.min() + given.max()), 0.0)
    mass = coarse_mass_matrix(grid, boundary=True)
    size, level_size, distance = (np.sqrt(v.ravel() @ (mass @ v.ravel())) for v in (u - level, level, change))
    smallest = max(1e-9 * level_size, np.finfo(float).tiny)  # u is constant but for rounding
    return float(distance / max(size, smallest))


def _ring(grid: Grid, S: Array) -> float:
    width = 2 * grid.ell + 2
    node = lattice(*(width,) * grid.dim)
    outer = ((node == 0) | (node == width - 1)).any(axis=1)
    squares = np.square(S[grid.active_elements]).sum(axis=2)
    if grid.ell == 0:  # all nodes are T's own
        return 0.0
    return float(np.quantile(np.sqrt(squares[:, outer].sum(axis=1) / squares.sum(axis=1)), _QUANTILE))


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
