"""Networks Ψ: log A on a padded patch ↦ local matrix. What they must offer, the registry, and their use on fields."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from math import prod
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from nnlod_fenics.errors import InputError
from nnlod_fenics.network.check import check_network
from nnlod_fenics.network.paper import PaperNetwork
from nnlod_fenics.network.structured import StructuredNetwork
from nnlod_fenics.network.windows import windows
from nnlod_fenics.window import Window

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

    A window is the coefficient around an element: w^d coarse elements with their m^d cells, m = w H/ε, indexed
    ``[y, x]``, where w = 2L+1 for L layers, ``window.layers``: ℓ in the Petrov–Galerkin form, whose local matrix S_T is
    that of the element in the middle, 2ℓ in the Galerkin form. D may end anywhere in it, or begin again behind a hole;
    marks of the elements tell where. Optional are:

    ``homogeneous`` (bool, False if missing)
        Whether S(Z + c) = e^c S(Z) holds by construction. Then Z comes with the mean of its field subtracted, in
        training and in inference, and the result is scaled back; numbers of any size then fit in single precision.
        Otherwise Z is log A as it is.
    ``takes_blocks`` (bool, False if missing)
        Whether ``forward`` also takes blocks of neighbouring elements, b along an axis, which may differ from axis to
        axis, with L layers of elements around them, shape ``(n, (b + 2L) H/ε, …)``, and returns the matrices of all,
        block by block, x fastest. Training then draws blocks, for which a network can share work.
    ``forward_field(Z, domain)``
        The same for whole padded fields, ``(n, (1/H + 2L) H/ε, …)`` to ``(n, num_elements, rows, columns)``, x
        fastest. Inference uses it; without it, :func:`forward_of_field` cuts windows.
    ``start_from(Z, domain, S)``
        Called once before a training that starts from random weights, with some whole padded fields and the local
        matrices of their elements, shape ``(n·num_elements, rows, columns)``: to set constants such as the mean matrix.
    ``loads`` (bool, False if missing)
        Whether the matrices have one more column: what the element adds to the load for f = 1 and elements of size
        one: F_T(Λ_i) − a(R_T, Λ_i), or ∫_E (1 − C)Λ_i − ∫_E A ∇R·∇(1 − C)Λ_i in the Galerkin form.

    :func:`register_network` makes a network known by a name, :func:`check_network` tries whether it keeps all this.

    Example:
        >>> class Small(torch.nn.Module):
        ...     def __init__(self, window: Window, width: int = 64) -> None:
        ...         super().__init__()
        ...         self.shape = window.matrix_shape
        ...         self.layers = torch.nn.Sequential(
        ...             torch.nn.Linear(window.num_cells, width),
        ...             torch.nn.GELU(),
        ...             torch.nn.Linear(width, self.shape[0] * self.shape[1]),
        ...         )
        ...
        ...     def forward(self, Z: torch.Tensor, domain: torch.Tensor) -> torch.Tensor:
        ...         return self.layers(Z.flatten(1)).unflatten(1, self.shape)
        >>> register_network("small", Small)
        >>> window = Window(dim=2, ratio=4, cells=4, ell=1)
        >>> network = build_network("small", window, seed=0, width=32)
        >>> check_network(network, window)
    """

    def forward(self, Z: Tensor, domain: Tensor) -> Tensor:
        """Predict local matrices.

        Args:
            Z: log A on windows, zero outside D, float32, shape ``(n, m, …, m)``.
            domain: Marks of the elements, float32, shape ``(n, w, …, w)``: 1 in D; outside of it 0 beyond a face where
                A ∂u/∂n is given (no flow) and for inactive elements, and -1 beyond one where u is given.

        Returns:
            Local matrices of elements of size one, ``window.matrix_shape`` each, with rows of nodes outside D: these
            are set to zero later, and so are the matrices of elements outside D. Shape ``(n, rows, columns)``.
        """
        ...


NETWORKS: dict[str, Callable[..., nn.Module]] = {"paper": PaperNetwork, "structured": StructuredNetwork}
"""Networks by name."""


def build_network(name: str, window: Window, seed: int | None = None, **options: Any) -> nn.Module:
    """Make a network.

    Args:
        name: One of :data:`NETWORKS`.
        window: What local matrices depend on.
        seed: Seed of the initial weights; PyTorch's state if None.
        **options: Options of the network.

    Returns:
        The module, see :class:`Network`.

    Raises:
        InputError: If there is no such network or option.
    """
    if name not in NETWORKS:
        raise InputError(f"network.name must be one of {sorted(NETWORKS)}, got {name!r}.")
    _check_options(name, window, options)
    with torch.random.fork_rng(enabled=seed is not None, devices=[]):
        if seed is not None:
            torch.manual_seed(seed)
        return NETWORKS[name](window, **{key: tuple(v) if isinstance(v, list) else v for key, v in options.items()})


def _check_options(name: str, window: Window, options: dict[str, Any]) -> None:
    """Whether the factory of a network takes some options."""
    signature = inspect.signature(NETWORKS[name])
    _, *parameters = signature.parameters.values()  # the first one is the window
    known = [parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD]
    unknown = sorted(set(options) - set(known))
    if unknown and len(known) == len(parameters):
        raise InputError(f"network.options.{unknown[0]} is no option of {name!r}; expected one of {known}.")
    try:
        signature.bind(window, **options)
    except TypeError as error:
        raise InputError(f"network.options do not fit {name!r}: {error}.") from None


def register_network(name: str, factory: Callable[..., nn.Module]) -> None:
    """Make a network known by a name, as which settings and model folders refer to it.

    A model folder holds the name, the options and the weights, not the code: register the network in every process
    before it trains or loads a model.

    Args:
        name: A name that is not taken.
        factory: Makes the network, ``factory(window, **options) -> module``: a class, or a function. Options are what
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


def forward_of_field(network: nn.Module, window: Window, Z: Tensor, domain: Tensor) -> Tensor:
    """Predict the local matrices of all elements of padded fields.

    By the network's own ``forward_field``; where it has none, from windows, a bounded number at a time.

    Args:
        network: The network, see :class:`Network`.
        window: What local matrices depend on.
        Z: log A on the box and L layers of elements around it, zero outside D, shape ``(n, (1/H + 2L) H/ε, …)``.
        domain: Marks of the elements, shape ``(n, 1/H + 2L, …)``.

    Returns:
        Shape ``(n, num_elements, rows, columns)``, x fastest.
    """
    own: Callable[[Tensor, Tensor], Tensor] | None = getattr(network, "forward_field", None)
    if own is not None:
        return own(Z, domain)
    views = [
        windows(values, window.dim, window.width * step, step) for values, step in ((Z, window.cells), (domain, 1))
    ]
    positions = views[0].shape[: 1 + window.dim]
    count, at_a_time = prod(positions), max(_CELLS // window.num_cells, 1)
    rows, columns = window.matrix_shape
    parts = [Z.new_empty(0, rows, columns + bool(getattr(network, "loads", False)))]
    for start in range(0, count, at_a_time):
        index = torch.unravel_index(torch.arange(start, min(start + at_a_time, count), device=Z.device), positions)
        parts.append(network(*(view[index] for view in views)))
    found = torch.cat(parts)
    return found.reshape(len(Z), prod(positions[1:]), *found.shape[1:])


def count_parameters(network: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)
