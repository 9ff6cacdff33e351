"""Whether a network keeps the contract of :class:`~nnlod_fenics.network.registry.Network`, tried on two windows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import exp, prod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nnlod_fenics.errors import InputError
from nnlod_fenics.grid import Grid
from nnlod_fenics.network.windows import windows

__all__ = ["check_network", "trial_windows"]

_TOLERANCE = 1e-3  # of relative differences; networks compute in single precision
_SHIFT = 1.0  # c in S(Z + c) = e^c S(Z)


def check_network(network: Any, grid: Grid) -> None:
    """Try a network on two windows with random values, one at a corner of D, before hours are spent on its training.

    The network is left as it is: its mode, its gradients and PyTorch's random numbers too.

    Args:
        network: The network, see :class:`~nnlod_fenics.network.registry.Network`.
        grid: The discretisation.

    Raises:
        InputError: If it is no module with parameters to train; if ``forward`` fails, or returns anything but a finite
            tensor of the right shape, or mixes the entries of a batch; if no gradient arrives at the parameters; if
            ``homogeneous`` is set and S(Z + c) = e^c S(Z) does not hold, or ``takes_blocks``, or there is a
            ``forward_field``, and their matrices are not those of the single windows.
    """
    name = f"network {type(network).__name__}"
    if not isinstance(network, nn.Module):
        raise InputError(f"network must be a torch.nn.Module, got {network!r}.")
    trainable = [p for p in network.parameters() if p.requires_grad]
    if not trainable:
        raise InputError(f"{name} must have at least one parameter to train, got none.")
    for attribute in ("homogeneous", "takes_blocks"):
        value = getattr(network, attribute, False)
        if not isinstance(value, bool):
            raise InputError(f"{name} must have True or False as its {attribute}, got {value!r}.")
    Z, inside = (values.to(trainable[0].device) for values in trial_windows(grid))
    with _undisturbed(network):
        S = _matrices(name, "forward", network, grid, Z, inside)
        _check_gradient(name, S, trainable)
        S = S.detach()
        with torch.no_grad():
            _check_entries(name, network, grid, Z, inside, S)
            if getattr(network, "homogeneous", False):
                _check_homogeneity(name, network, grid, Z, inside, S)
            if getattr(network, "takes_blocks", False):
                _check_shared(name, "forward", network, grid, (2,) * grid.dim)
                if len(set(grid.coarse)) > 1:  # whole fields are no cubes
                    _check_shared(name, "forward", network, grid, grid.coarse)
            if hasattr(network, "forward_field"):
                _check_shared(name, "forward_field", network, grid, grid.coarse)


def trial_windows(grid: Grid) -> tuple[Tensor, Tensor]:
    """Two windows with random values to try a network on: of the first element of D, and of one in the middle.

    Args:
        grid: The discretisation.

    Returns:
        log A, zero outside D, and 1 inside and 0 outside D; both in float32, of shape ``(2, m, …, m)``, m = (2ℓ+1) H/ε.
    """
    positions = grid.elements[grid.active_elements]
    distance = np.abs(positions - np.asarray(grid.coarse) // 2).sum(axis=1)
    active, parts = np.pad(grid.active, grid.ell).astype(np.float32), []
    for position in (positions[0], positions[distance.argmin()]):
        patch = active[tuple(slice(p, p + grid.patch_width) for p in position[::-1])]
        parts.append(torch.from_numpy(np.kron(patch, np.ones((grid.cells_per_element,) * grid.dim, np.float32))))
    inside = torch.stack(parts)
    return torch.randn(inside.shape, generator=torch.Generator().manual_seed(0)) * inside, inside


@contextmanager
def _undisturbed(network: nn.Module) -> Iterator[None]:
    """Evaluation mode, and afterwards everything as before."""
    modes = [(module, module.training) for module in network.modules()]
    with torch.random.fork_rng():
        network.eval()
        try:
            yield
        finally:
            for module, training in modes:
                module.training = training


def _matrices(
    name: str, method: str, network: nn.Module, grid: Grid, Z: Tensor, inside: Tensor, count: int | None = None
) -> Tensor:
    """What the network returns, if that is a finite tensor of the right type and shape."""
    count = len(Z) if count is None else count
    call: Callable[..., Any] = network if method == "forward" else getattr(network, method)
    rows, columns = grid.local_matrix_shape
    shape = (count, rows, columns) if method == "forward" else (len(Z), count, rows, columns)
    try:
        S = call(Z.clone(), inside.clone())  # as a network may work in place
    except Exception as error:  # whatever a user's network may raise
        reason = (str(error).splitlines() or [""])[0].rstrip(".")
        raise InputError(
            f"{name} must take Z and inside of shape {tuple(Z.shape)} in {method}, which fails: "
            f"{type(error).__name__}: {reason}."
        ) from error
    if not isinstance(S, Tensor):
        raise InputError(f"{name} must return a tensor of shape {shape} from {method}, got {type(S).__name__}.")
    if tuple(S.shape) != shape or not S.is_floating_point():
        given = f"shape {tuple(S.shape)} of {S.dtype}"
        raise InputError(f"{name} must return a floating tensor of shape {shape} from {method}, got {given}.")
    if not bool(torch.isfinite(S).all()):
        raise InputError(f"{name} must return finite values from {method}, got NaN or infinite ones for Z of size 1.")
    return S


def _check_gradient(name: str, S: Tensor, trainable: list[nn.Parameter]) -> None:
    """Whether a linear functional of the matrices has a gradient: zero matrices have none in their norm."""
    if not S.requires_grad:
        raise InputError(f"{name} must return a tensor that depends on its parameters, got one without a gradient.")
    weight = torch.randn(S.shape, generator=torch.Generator().manual_seed(1)).to(S)
    gradients = [g for g in torch.autograd.grad((weight * S).sum(), trainable, allow_unused=True) if g is not None]
    if not all(bool(torch.isfinite(g).all()) for g in gradients):
        raise InputError(f"{name} must have finite gradients, got NaN or infinite ones from backward.")
    if not any(bool(g.any()) for g in gradients):
        raise InputError(f"{name} must pass a gradient to at least one parameter, got zero for all from backward.")


def _check_entries(name: str, network: nn.Module, grid: Grid, Z: Tensor, inside: Tensor, S: Tensor) -> None:
    """Whether an entry of a batch keeps its matrix when the other one changes."""
    for k in range(2):
        changed = Z.clone()
        changed[1 - k] += inside[1 - k]
        other = _matrices(name, "forward", network, grid, changed, inside)[k]
        if (difference := _difference(other, S[k])) > _TOLERANCE:
            raise InputError(
                f"{name} must return for an entry of a batch what depends on that entry only, got a relative change by "
                f"{difference:.1e} in entry {k} when entry {1 - k} changed."
            )


def _check_homogeneity(name: str, network: nn.Module, grid: Grid, Z: Tensor, inside: Tensor, S: Tensor) -> None:
    shifted = _matrices(name, "forward", network, grid, Z + _SHIFT * inside, inside)
    if (difference := _difference(shifted, exp(_SHIFT) * S)) > _TOLERANCE:
        raise InputError(
            f"{name} is said to be homogeneous and must fulfil S(Z + c) = e^c S(Z), got a relative difference of "
            f"{difference:.1e} for c = {_SHIFT:g}."
        )


def _check_shared(name: str, method: str, network: nn.Module, grid: Grid, block: tuple[int, ...]) -> None:
    """Whether a box of elements at once, so many along each axis, gets the matrices of their windows, x fastest."""
    d, step, count, shape = grid.dim, grid.cells_per_element, prod(block), block[::-1]
    layers, device = (grid.ell * step,) * (2 * d), next(network.parameters()).device
    field = torch.randn((1, *(n * step for n in shape)), generator=torch.Generator().manual_seed(2))
    padded = [nn.functional.pad(values, layers).to(device) for values in (field, torch.ones_like(field))]
    together = _matrices(name, method, network, grid, padded[0], padded[1], count).reshape(count, -1)
    for number in sorted({0, min(1, count - 1), count - 1}):
        position = (0, *np.unravel_index(number, shape))
        Z, inside = (windows(values, d, grid.patch_width * step, step)[position][None] for values in padded)
        alone = _matrices(name, "forward", network, grid, Z, inside).flatten()
        if (difference := _difference(together[number], alone)) > _TOLERANCE:
            raise InputError(
                f"{name} must return from {method} for {' x '.join(map(str, block))} elements at once, x fastest, what "
                f"it returns for the window of each, got a relative difference of {difference:.1e} in number {number}."
            )


def _difference(given: Tensor, expected: Tensor) -> float:
    return float((given - expected).norm() / expected.norm().clamp(min=torch.finfo(expected.dtype).tiny))
