"""The energy of an element's neighbourhood, and what it says of the error of a coarse solution.

Let K̂_E be approximations of the element energy matrices K_E of the Galerkin form, symmetric with zero sums, and K̂, K
the coarse matrices that they add up to.

Theorem. Let M_E be positive semidefinite with Σ_E M_E ≤ K, and δ < 1 with |xᵀ(K̂_E − K_E)x| ≤ δ xᵀM_E x for all
elements E and all x. Then (1 − δ)K ≤ K̂ ≤ (1 + δ)K, and the solutions of K u = b and K̂ û = b with the same data satisfy
‖û − u‖ ≤ δ/(1 − δ) ‖u‖ in the energy norm ‖x‖² = xᵀK x, if u = 0 on Γ_D.

Proof. Sum over E. Then (1 − δ)‖e‖² ≤ eᵀK̂e = eᵀ(K − K̂)u ≤ δ ‖e‖ ‖u‖ for e = û − u, as the eigenvalues of K̂ − K relative
to K have absolute values of at most δ.

M_E = K_E would do, but is useless: x may have next to no energy on E and much beside it. Here M_E is the energy of the
elements within m layers of E, least over the values at the nodes that x does not fix:

    M_E = the Schur complement, on the nodes of E's patch, of Σ_{E'} K_E' / n_E',

where n_E' is the number of active elements within m layers of E', (2m+1)^d away from the boundary. Each K_E' is shared
among n_E' neighbourhoods, and a Schur complement is at most the matrix itself: so Σ_E M_E ≤ K, whatever D.

All coarse nodes take part, those on Γ_D too: the constants are in the kernels of K_E and M_E, and the bounds hold for
all nodal values, those of boundary data u = g included; there e = û − u is zero on Γ_D and ‖e‖ ≤ δ/(1 − δ) ‖u‖ holds
with the energy of u, data included. Values at nodes of no active element have no energy and no part in this.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from nnlod_fenics.grid import lattice

__all__ = ["energy_deviations", "neighbourhood_energies", "whitening"]

_ROUNDING = 64  # roundings of an entry that eigenvalues of a matrix with unit diagonal may come from


class _Places(NamedTuple):
    """Numbers of nodes among those of the patches of all elements of a neighbourhood."""

    neighbours: list[tuple[tuple[int, ...], Tensor]]  # first element along each axis, and the nodes of its patch
    own: Tensor
    other: Tensor


@lru_cache(maxsize=8)
def _places(dim: int, ell: int, layers: int) -> _Places:
    width, patch = 2 * (ell + layers) + 2, lattice(*(2 * ell + 2,) * dim)
    strides = width ** np.arange(dim)
    neighbours = [
        (tuple(map(int, offset[::-1])), torch.from_numpy((patch + offset) @ strides))
        for offset in lattice(*(2 * layers + 1,) * dim)
    ]
    own = neighbours[len(neighbours) // 2][1]
    other = torch.from_numpy(np.setdiff1d(np.arange(width**dim), own.numpy()))
    return _Places(neighbours, own, other)


def neighbourhood_energies(K: Tensor, active: Tensor, ell: int, layers: int = 1) -> Tensor:
    """The matrices M_E of all elements of some fields.

    Args:
        K: Element energy matrices, shape ``(k, num_elements, n, n)`` with n = (2ℓ+2)^d, float64 or float32.
        active: Which elements lie in D, shape ``(k, 1/H, …)`` or ``(1, 1/H, …)``, indexed ``[y, x]``.
        ell: Layers ℓ of a patch.
        layers: Layers m of a neighbourhood, at least 1 for a useful bound.

    Returns:
        M_E, shape and type of K; zero for inactive elements.

    Example:
        >>> from nnlod_fenics import Grid, local_matrices
        >>> grid = Grid(dim=1, coarse=8, fine=32, ell=1)
        >>> K = torch.from_numpy(local_matrices(grid, np.ones(32), form="galerkin"))[None]
        >>> neighbourhood_energies(K, torch.from_numpy(grid.active)[None], ell=1).shape
        torch.Size([1, 8, 4, 4])
    """
    dim, n = active.ndim - 1, K.shape[-1]
    places, shape = _places(dim, ell, layers), active.shape[1:]
    shared = K.reshape(len(K), *shape, n, n) / _sharing(active, layers).to(K)[..., None, None]
    padded = functional.pad(shared, (0, 0, 0, 0) + (layers,) * (2 * dim))
    size = len(places.own) + len(places.other)
    total = K.new_zeros(len(K), *shape, size, size)
    for first, nodes in places.neighbours:
        window = (slice(None), *(slice(i, i + length) for i, length in zip(first, shape, strict=True)))
        total[..., nodes[:, None], nodes] += padded[window]
    reduced = _schur_complement(total.flatten(0, dim), places)
    inside = active.expand(len(K), *shape).reshape(-1, 1, 1).to(K)
    return (reduced * inside).reshape(K.shape)


def _sharing(active: Tensor, layers: int) -> Tensor:
    """n_E', how many active elements lie within some layers of each, at least 1; shape of ``active``."""
    dim, width = active.ndim - 1, 2 * layers + 1
    kernel = torch.ones((1, 1) + (width,) * dim, dtype=torch.float64, device=active.device)
    convolve = (functional.conv1d, functional.conv2d, functional.conv3d)[dim - 1]
    return convolve(active[:, None].double(), kernel, padding=layers)[:, 0].round().clamp(min=1)


def _scales(diagonal: Tensor) -> Tensor:
    """1/√ of a diagonal, 0 where it is 0: matrices scaled by it have entries of at most 1, whatever the contrast."""
    return torch.where(diagonal > 0, diagonal, torch.inf).rsqrt()


def _schur_complement(total: Tensor, places: _Places) -> Tensor:
    """The least energy over the values at the other nodes, as a matrix on the own ones."""
    scale = _scales(total.diagonal(dim1=-2, dim2=-1))
    scaled = total * scale[:, :, None] * scale[:, None, :]
    inner = scaled[:, places.other[:, None], places.other]
    # Nodes that do not exist have zero rows; parts of D apart from the patch have constants without energy.
    small = _ROUNDING * torch.finfo(total.dtype).eps
    missing = (scale[:, places.other] == 0).to(total)
    factor = torch.linalg.cholesky(inner + torch.diag_embed(missing + small))
    half = torch.linalg.solve_triangular(factor, scaled[:, places.other[:, None], places.own], upper=False)
    reduced = scaled[:, places.own[:, None], places.own] - half.mT @ half
    unscale = torch.where(scale > 0, 1 / scale, 0)[:, places.own]
    return (reduced + reduced.mT) / 2 * unscale[:, :, None] * unscale[:, None, :]


def whitening(M: Tensor, least: float = 0.0) -> Tensor:
    """W with W M Wᵀ = 1 on the complement of a vector that the constants are taken to.

    Args:
        M: The energies M_E of neighbourhoods, shape ``(…, n, n)``.
        least: What is added to the eigenvalues of M, scaled to a unit diagonal; at least the size of roundings.

    Returns:
        W, same shape, lower triangular; its columns are zero for nodes that do not exist. For a matrix D with zero sums
        over existing nodes, the eigenvalues of W D Wᵀ are those of D relative to M, and zeros.
    """
    scale = _scales(M.diagonal(dim1=-2, dim2=-1))
    scaled = M * scale[..., :, None] * scale[..., None, :]
    constants = torch.where(scale > 0, 1 / scale, 0)
    constants = (constants / constants.norm(dim=-1, keepdim=True).clamp(min=torch.finfo(M.dtype).tiny))[..., None]
    small = max(least, _ROUNDING * torch.finfo(M.dtype).eps)
    added = torch.diag_embed((scale == 0).to(M) + small)
    factor = torch.linalg.cholesky(scaled + constants @ constants.mT + added)
    eye = torch.eye(M.shape[-1], dtype=M.dtype, device=M.device)
    return torch.linalg.solve_triangular(factor, eye.expand(M.shape), upper=False) * scale[..., None, :]


def energy_deviations(predicted: Tensor, exact: Tensor, M: Tensor) -> npt.NDArray[np.float64]:
    """δ_E: the largest |xᵀ(K̂_E − K_E)x| / xᵀM_E x.

    Args:
        predicted: K̂_E, shape ``(…, n, n)``, with zero sums.
        exact: K_E, same shape.
        M: The energies M_E of neighbourhoods, same shape.

    Returns:
        Shape ``(…)``, zero for inactive elements; the largest one is the δ of the theorem.
    """
    W = whitening(M)
    return np.asarray(torch.linalg.eigvalsh(W @ (predicted - exact) @ W.mT).abs().amax(dim=-1).cpu().numpy())
