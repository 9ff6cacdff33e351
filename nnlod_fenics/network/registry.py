"""Networks Ψ: log A on a padded patch ↦ local matrix. What they must offer, the registry, and their use on fields."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from math import prod
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from nnlod_fenics.errors import InputError
from nnlod_fenics.grid import Grid
from nnlod_fenics.network.check import check_network
from nnlod_fenics.network.paper import PaperNetwork
from nnlod_fenics.network.structured import StructuredNetwork
from nnlod_fenics.network.windows import windows

__all__ = [
    "NETWORKS",
    "Network",
    "build_network",
    "check_network",
    "count_parameters",
    "forward_of_field",
    "register_network",
]

_CELLS = 2**22  # of the windows that a network sees at a time: 16 MB, and a multiple of it for each layer


class Network(Protocol):
    """What is asked of a network: a ``torch.nn.Module`` with the method ``forward``. Everything else is optional.

    A window is the padded patch of an element T: (2ℓ+1)^d coarse elements around T with their coefficient cells, m =
    (2ℓ+1) H/ε along an axis, indexed ``[y, x]``. D may end anywhere in it, or begin again behind a hole. Optional are:

    ``homogeneous`` (bool, False if missing)
        Whether S(Z + c) = e^c S(Z) holds by construction. Then Z comes with the mean of its field subtracted, in
        training and in inference, and the result is scaled back; numbers of any size then fit in single precision.
        Otherwise Z is log A as it is.
    ``takes_blocks`` (bool, False if missing)
        Whether ``forward`` also takes blocks of b^d neighbouring elements with ℓ layers of elements around them, shape
        ``(n, (b + 2ℓ) H/ε, …)``, and returns ``(n·b^d, (2ℓ+2)^d, 2^d)``, block by block, x fastest. Training then
        draws blocks, for which a network can share work. For a grid with unequal numbers of elements along the axes
        also whole fields, whose b differs from axis to axis.
    ``forward_field(Z, inside)``
        The same for whole padded fields, ``(n, (1/H + 2ℓ) H/ε, …)`` to ``(n, num_elements, (2ℓ+2)^d, 2^d)``, x
        fastest. Inference uses it; without it, :func:`forward_of_field` cuts windows.
    ``start_from(Z, inside, S)``
        Called once before a training that starts from random weights, with some whole padded fields and the local
        matrices of their elements, shape ``(n·num_elements, (2ℓ+2)^d, 2^d)``: to set constants such as the mean matrix.

    :func:`register_network` makes a network known by a name, :func:`check_network` tries whether it keeps all this.

    Example:
        >>> class Small(torch.nn.Module):
        ...     def __init__(self, grid: Grid, width: int = 64) -> None:
        ...         super().__init__()
        ...         self.shape = grid.local_matrix_shape
        ...         self.layers = torch.nn.Sequential(
        ...             torch.nn.Linear(grid.num_patch_cells, width),
        ...             torch.nn.GELU(),
        ...             torch.nn.Linear(width, self.shape[0] * self.shape[1]),
        ...         )
        ...
        ...     def forward(self, Z: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
        ...         return self.layers(Z.flatten(1)).unflatten(1, self.shape)
        >>> register_network("small", Small)
        >>> network = build_network("small", Grid(2, 4, 16, 1), seed=0, width=32)
        >>> check_network(network, Grid(2, 4, 16, 1))
    """

    def forward(self, Z: Tensor, inside: Tensor) -> Tensor:
        """Predict local matrices.

        Args:
            Z: log A on windows, zero outside D, float32, shape ``(n, m, …, m)``.
            inside: 1 for cells in D and 0 for the others, same type and shape.

        Returns:
            S_T, (3.6), rows of nodes outside D included (they are set to zero later, and so is S_T for T outside D),
            shape ``(n, (2ℓ+2)^d, 2^d)``.
        """
        ...


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
        The module, see :class:`Network`.

    Raises:
        InputError: If there is no such network or option.
    """
    if name not in NETWORKS:
        raise InputError(f"network.name must be one of {sorted(NETWORKS)}, got {name!r}.")
    _check_options(name, grid, options)
    with torch.random.fork_rng(enabled=seed is not None, devices=[]):
        if seed is not None:
            torch.manual_seed(seed)
        return NETWORKS[name](grid, **{key: tuple(v) if isinstance(v, list) else v for key, v in options.items()})


def _check_options(name: str, grid: Grid, options: dict[str, Any]) -> None:
    """Whether the factory of a network takes some options."""
    signature = inspect.signature(NETWORKS[name])
    _, *parameters = signature.parameters.values()  # the first one is the grid
    known = [parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD]
    unknown = sorted(set(options) - set(known))
    if unknown and len(known) == len(parameters):
        raise InputError(f"network.options.{unknown[0]} is no option of {name!r}; expected one of {known}.")
    try:
        signature.bind(grid, **options)
    except TypeError as error:
        raise InputError(f"network.options do not fit {name!r}: {error}.") from None


def register_network(name: str, factory: Callable[..., nn.Module]) -> None:
    """Make a network known by a name, as which settings and model folders refer to it.

    A model folder holds the name, the options and the weights, not the code: register the network in every process
    before it trains or loads a model.

    Args:
        name: A name that is not taken.
        factory: Makes the network, ``factory(grid, **options) -> module``: a class, or a function. Options are what
            TOML can hold; lists come as tuples.

    Raises:
        InputError: If the name is taken or empty, or the factory cannot be called.
    """
    if not isinstance(name, str) or not name:
        raise InputError(f"name must be a string that is not empty, got {name!r}.")
    if name in NETWORKS:
        raise InputError(f"name must be none of the networks {sorted(NETWORKS)}, got {name!r}.")
    if not callable(factory):
        raise InputError(f"factory must be a function or class that makes a network, got {factory!r}.")
    NETWORKS[name] = factory


def forward_of_field(network: nn.Module, grid: Grid, Z: Tensor, inside: Tensor) -> Tensor:
    """Predict the local matrices of all elements of padded fields.

    By the network's own ``forward_field``; where it has none, from windows, a bounded number at a time.

    Args:
        network: The network, see :class:`Network`.
        grid: The discretisation.
        Z: log A on the box and ℓ layers of elements around it, zero outside D, shape ``(n, (1/H + 2ℓ) H/ε, …)``.
        inside: 1 for cells in D and 0 for the others, same shape.

    Returns:
        Shape ``(n, num_elements, (2ℓ+2)^d, 2^d)``, x fastest.
    """
    own: Callable[[Tensor, Tensor], Tensor] | None = getattr(network, "forward_field", None)
    if own is not None:
        return own(Z, inside)
    step = grid.cells_per_element
    views = [windows(values, grid.dim, grid.patch_width * step, step) for values in (Z, inside)]
    positions = views[0].shape[: 1 + grid.dim]
    count, at_a_time = prod(positions), max(_CELLS // grid.num_patch_cells, 1)
    parts = [Z.new_empty(0, *grid.local_matrix_shape)]
    for start in range(0, count, at_a_time):
        index = torch.unravel_index(torch.arange(start, min(start + at_a_time, count), device=Z.device), positions)
        parts.append(network(*(view[index] for view in views)))
    return torch.cat(parts).reshape(len(Z), prod(positions[1:]), *grid.local_matrix_shape)


def count_parameters(network: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)
