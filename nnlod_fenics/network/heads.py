"""Heads of the structured network: features of an element to its local matrix, exact properties built in."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from nnlod_fenics.grid import lattice
from nnlod_fenics.lod.leaves import cell_forms
from nnlod_fenics.network.equivariant import MatrixHead
from nnlod_fenics.window import Window

__all__ = ["COERCIVITY", "EnergyHead", "LoadHead", "SumFreeHead"]

COERCIVITY = 1e-3
"""Predicted K_E minus this multiple of min_E A times the Q1 stiffness matrix of E is positive semidefinite."""


_LARGEST_FACTOR = 3.0  # of the logarithm of what is learned of a node's scale, so that no step makes matrices overflow


def _exactly(x: Tensor, module: nn.Module) -> Tensor:
    """Float64 unless in training: sums are then zero, and matrices positive, to its rounding."""
    return x if module.training else x.double()


def sum_free(M: Tensor, nodes: Tensor) -> Tensor:
    """Orthogonal projection onto columns that are zero outside some nodes and whose sum is zero.

    Args:
        M: Shape ``(n, nodes, columns)``.
        nodes: Which nodes exist, as 0 and 1, shape ``(n, nodes, 1)``.
    """
    M = M * nodes
    return M - nodes * (M.sum(dim=1, keepdim=True) / nodes.sum(dim=1, keepdim=True).clamp(min=1))


class SumFreeHead(nn.Module):
    """Local matrices of the Petrov–Galerkin form: zero sums, zero rows of nodes outside D.

    Args:
        window: What local matrices depend on.
        channels: Channels of the features.
    """

    def __init__(self, window: Window, channels: int) -> None:
        super().__init__()
        self.head = MatrixHead(window.dim, channels, 2 * window.ell + 2, 2, gain=0.1)

    def start_from(self, mean: Tensor) -> None:
        """Make a matrix the constant part."""
        self.head.set_bias(mean)

    def forward(self, features: Tensor, nodes: Tensor, levels: Tensor, scale: Tensor, least: Tensor) -> Tensor:
        """Predict local matrices.

        Args:
            features: Oriented features, shape ``(n, channels·|G|)``.
            nodes: Which nodes of the patch exist, as 0 and 1, shape ``(n, (2ℓ+2)^d, 1)``; none for elements outside D.
            levels: Means of log A around these nodes, relative to that of the element, same shape; of no account here.
            scale: Logarithm of the unit of the matrix, shape ``(n, 1)``.
            least: Logarithm of the least coefficient on the element, same shape; of no account here.

        Returns:
            Shape ``(n, (2ℓ+2)^d, 2^d)``.
        """
        S, nodes, scale = (_exactly(x, self) for x in (self.head(features), nodes, scale))
        S = sum_free(S - S.mean(dim=2, keepdim=True), nodes)
        return torch.as_tensor(S * scale.exp()[..., None])


class EnergyHead(nn.Module):
    """Element energy matrices of the Galerkin form: K = FFᵀ + γ min_E A K_Q1, F = D P M with zero sums over nodes.

    D is a scale for each node: the root of the geometric mean of A around it, times a learned factor. P projects
    orthogonally to D 1, so that sums are zero and what is large at conductive nodes does not spill over to poor ones. M
    is of the features. Without D one M has to have entries of many sizes where conductive and poor elements meet, and u
    depends on the small ones.

    Whatever the weights, K is symmetric, positive semidefinite, zero for constants and outside D; and the coarse matrix
    is at least γ times that of Q1 elements with the least value of A on each, so that it is coercive with a known
    constant. γ is :data:`COERCIVITY`.

    Args:
        window: What local matrices depend on.
        channels: Channels of the features.
    """

    stiffness: Tensor

    def __init__(self, window: Window, channels: int) -> None:
        super().__init__()
        size = 2 * window.ell + 2
        self.head = MatrixHead(window.dim, channels, size, size, gain=0.1)
        self.scales = MatrixHead(window.dim, channels, size, 1, gain=0.1)
        self.register_buffer("stiffness", torch.from_numpy(COERCIVITY * _q1_stiffness(window)), persistent=False)

    def start_from(self, mean: Tensor) -> None:
        """Make a positive semidefinite matrix the constant part, by its square root."""
        values, vectors = torch.linalg.eigh(mean.double())
        root = vectors @ torch.diag(values.clamp(min=0).sqrt()) @ vectors.T
        self.head.set_bias(root.to(mean.dtype))

    def forward(self, features: Tensor, nodes: Tensor, levels: Tensor, scale: Tensor, least: Tensor) -> Tensor:
        """Predict element energy matrices, see :meth:`SumFreeHead.forward`.

        Returns:
            Shape ``(n, (2ℓ+2)^d, (2ℓ+2)^d)``; in float64 unless in training: in single precision rounding would leave
            nothing of the least eigenvalues.
        """
        learned = _LARGEST_FACTOR * torch.tanh(self.scales(features) / _LARGEST_FACTOR)
        given = (self.head(features), learned, nodes, levels, scale, least)
        M, learned, nodes, levels, scale, least = (_exactly(x, self) for x in given)
        D = nodes * (0.5 * levels + learned).exp()
        F = D * M
        share = D.square() / D.square().sum(dim=1, keepdim=True).clamp(min=torch.finfo(D.dtype).tiny)
        F = (F - share * F.sum(dim=1, keepdim=True)) * (0.5 * scale).exp()[..., None]
        floor = self.stiffness.to(M.dtype) * least.exp()[..., None] * nodes.amax(dim=1, keepdim=True)
        return torch.as_tensor(F @ F.mT + floor)


class LoadHead(nn.Module):
    """What an element adds to the load for f = 1 on it, in units of its volume: the sum over existing nodes is 1.

    Args:
        window: What local matrices depend on.
        channels: Channels of the features.
    """

    plain: Tensor

    def __init__(self, window: Window, channels: int) -> None:
        super().__init__()
        size = 2 * window.ell + 2
        self.head = MatrixHead(window.dim, channels, size, 1, gain=0.1)
        plain = torch.zeros(size**window.dim, 1)
        plain[_own_nodes(window)] = 0.5**window.dim
        self.register_buffer("plain", plain, persistent=False)

    def forward(self, features: Tensor, nodes: Tensor) -> Tensor:
        """Predict loads, shape ``(n, (2ℓ+2)^d, 1)``; see :meth:`SumFreeHead.forward`."""
        load, nodes = _exactly(self.head(features), self), _exactly(nodes, self)
        return self.plain * nodes + sum_free(load, nodes)


def _own_nodes(window: Window) -> Tensor:
    """Numbers of the nodes of an element among those of its patch, x fastest."""
    corners = lattice(*(2,) * window.dim) + window.ell
    strides = np.array([(2 * window.ell + 2) ** axis for axis in range(window.dim)])
    return torch.from_numpy(corners @ strides)


def _q1_stiffness(window: Window) -> npt.NDArray[np.float64]:
    """∫_E ∇Λ_i · ∇Λ_j for an element of size one, on the nodes of its patch."""
    size, nodes = (2 * window.ell + 2) ** window.dim, _own_nodes(window).numpy()
    result = np.zeros((size, size))
    result[np.ix_(nodes, nodes)] = np.einsum("aapq->pq", cell_forms(window.dim, 1)[0])
    return result
