"""Networks Ψ: log A on a padded patch ↦ local matrix."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from nnlod_fenics.errors import InputError
from nnlod_fenics.grid import Grid

__all__ = ["NETWORKS", "PaperNetwork", "build_network", "count_parameters"]


class PaperNetwork(nn.Module):
    """The paper's network: eight dense layers with ReLU, the values of Z in, the column-wise vec(S_T) out.

    Args:
        grid: The discretisation; sets the first and the last width.
        widths: Widths of the hidden layers.
    """

    def __init__(self, grid: Grid, widths: tuple[int, ...] = (1000, 1000, 800, 800, 600, 400, 300)) -> None:
        super().__init__()
        if not widths or any(isinstance(w, bool) or not isinstance(w, int) or w < 1 for w in widths):
            raise InputError(f"network.options.widths must be a list of positive integers, got {widths!r}.")
        self.shape = grid.local_matrix_shape
        rows, columns = self.shape
        sizes = [grid.num_patch_cells, *widths, rows * columns]
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes):
            layers += [nn.Linear(before, after), nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, Z: Tensor, inside: Tensor) -> Tensor:
        """Predict local matrices.

        Args:
            Z: log A on padded patches, zero outside D, shape ``(n, m, …, m)``.
            inside: Whether a cell lies in D, same shape; the paper's network does not use it.

        Returns:
            Shape ``(n, (2ℓ+2)^d, 2^d)``.
        """
        rows, columns = self.shape
        return self.layers(Z.flatten(1)).reshape(-1, columns, rows).mT


NETWORKS: dict[str, Callable[..., nn.Module]] = {"paper": PaperNetwork}


def build_network(name: str, grid: Grid, seed: int | None = None, **options: Any) -> nn.Module:
    """Make a network.

    Args:
        name: One of :data:`NETWORKS`.
        grid: The discretisation.
        seed: Seed of the initial weights; PyTorch's state if None.
        **options: Options of the network.

    Returns:
        A module that maps ``(Z, inside)``, both of shape ``(n, m, …, m)``, to ``(n, (2ℓ+2)^d, 2^d)``.

    Raises:
        InputError: If there is no such network or option.
    """
    if name not in NETWORKS:
        raise InputError(f"network.name must be one of {sorted(NETWORKS)}, got {name!r}.")
    known = [key for key in inspect.signature(NETWORKS[name]).parameters if key != "grid"]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise InputError(f"network.options.{unknown[0]} is no option of {name!r}; expected one of {known}.")
    with torch.random.fork_rng(enabled=seed is not None, devices=[]):
        if seed is not None:
            torch.manual_seed(seed)
        return NETWORKS[name](grid, **{key: tuple(v) if isinstance(v, list) else v for key, v in options.items()})


def count_parameters(network: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)
