"""The registry of networks Ψ: log A on a padded patch ↦ local matrix."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from nnlod_fenics.errors import InputError
from nnlod_fenics.grid import Grid
from nnlod_fenics.network.paper import PaperNetwork
from nnlod_fenics.network.structured import StructuredNetwork

__all__ = ["NETWORKS", "build_network", "count_parameters"]

NETWORKS: dict[str, Callable[..., nn.Module]] = {"paper": PaperNetwork, "structured": StructuredNetwork}
"""Networks by name."""


def build_network(name: str, grid: Grid, seed: int | None = None, **options: Any) -> nn.Module:
    """Make a network.

    Args:
        name: One of :data:`NETWORKS`.
        grid: The discretisation.
        seed: Seed of the initial weights; PyTorch's state if None.
        **options: Options of the network.

    Returns:
        A module that maps ``(Z, inside)``, both of shape ``(n, m, …, m)``, to ``(n, (2ℓ+2)^d, 2^d)``, with a
        method ``forward_field`` that maps whole padded fields to ``(n, num_elements, (2ℓ+2)^d, 2^d)``.

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
