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
from nnlod_fenics.network.windows import pad_cells, windows
from nnlod_fenics.window import GALERKIN, GIVEN, INSIDE, NATURAL, Window

__all__ = ["check_network", "trial_windows"]

_TOLERANCE = 1e-3  # of relative differences; networks compute in single precision
_SHIFT = 1.0  # c in S(Z + c) = e^c S(Z)


def check_network(network: Any, window: Window) -> None:
    """Try a network on two windows with random values, one at a corner of D, before hours are spent on its training.

    The network is left as it is: its mode, its gradients and PyTorch's random numbers too.

    Args:
        network: The network, see :class:`~nnlod_fenics.network.registry.Network`.
        window: What local matrices depend on.

    Raises:
        InputError: If it is no module with parameters to train; if ``forward`` fails, or returns anything but a finite
            tensor of the right shape, or mixes the entries of a batch; if no gradient arrives at the parameters; if the
            matrices are to be of the Galerkin form and are not symmetric; if ``homogeneous`` is set and
            S(Z + c) = e^c S(Z) does not hold, or ``takes_blocks``, or there is a ``forward_field``, and their matrices
            are not those of the single windows.
    """
    name = f"network {type(network).__name__}"
    if not isinstance(network, nn.Module):
        raise InputError(f"network must be a torch.nn.Module, got {network!r}.")
    trainable = [p for p in network.parameters() if p.requires_grad]
    if not trainable:
        raise InputError(f"{name} must have at least one parameter to train, got none.")
    for attribute in ("homogeneous", "takes_blocks", "loads"):
        value = getattr(network, attribute, False)
        if not isinstance(value, bool):
            raise InputError(f"{name} must have True or False as its {attribute}, got {value!r}.")
    Z, domain = (values.to(trainable[0].device) for values in trial_windows(window))
    with _undisturbed(network):
        S = _matrices(name, "forward", network, window, Z, domain)
        _check_gradient(name, S, trainable)
        S = S.detach()
        with torch.no_grad():
            _check_entries(name, network, window, Z, domain, S)
            if window.form == GALERKIN:
                _check_symmetry(name, S[..., : window.matrix_shape[1]])
            if getattr(network, "homogeneous", False):
                _check_homogeneity(name, network, window, Z, domain, S)
            box = (3, *(2,) * (window.dim - 1))
            if getattr(network, "takes_blocks", False):
                _check_shared(name, "forward", network, window, box)
            if hasattr(network, "forward_field"):
                _check_shared(name, "forward_field", network, window, box)


def trial_windows(window: Window) -> tuple[Tensor, Tensor]:
    """Two windows with random values to try a network on: one near ∂D, with all kinds of boundary, and one inside D.

    Args:
        window: What local matrices depend on.

    Returns:
        log A, zero outside D, shape ``(2, m, …, m)``, m = w H/ε, and the marks of the elements, ``(2, w, …, w)``; both
        in float32.
    """
    d = window.dim
    domain = torch.full((2, *(window.width,) * d), float(INSIDE))
    if window.layers:
        domain[0].select(d - 1, 0).fill_(NATURAL)
        domain[0].select(0, window.width - 1).fill_(GIVEN)
        domain[0][(window.layers - 1,) * d] = NATURAL  # an inactive element
    inside = domain == INSIDE
    for axis in range(1, 1 + d):
        inside = inside.repeat_interleave(window.cells, dim=axis)
    return torch.randn(inside.shape, generator=torch.Generator().manual_seed(0)) * inside, domain


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
    name: str, method: str, network: nn.Module, window: Window, Z: Tensor, domain: Tensor, count: int | None = None
) -> Tensor:
    """What the network returns, if that is a finite tensor of the right type and shape."""
    count = len(Z) if count is None else count
    call: Callable[..., Any] = network if method == "forward" else getattr(network, method)
    rows, columns = window.matrix_shape
    columns += bool(getattr(network, "loads", False))
    shape = (count, rows, columns) if method == "forward" else (len(Z), count, rows, columns)
    try:
        S = call(Z.clone(), domain.clone())  # as a network may work in place
    except Exception as error:  # whatever a user's network may raise
        reason = (str(error).splitlines() or [""])[0].rstrip(".")
        raise InputError(
            f"{name} must take Z of shape {tuple(Z.shape)} and domain of shape {tuple(domain.shape)} in {method}, "
            f"which fails: "
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


def _check_entries(name: str, network: nn.Module, window: Window, Z: Tensor, domain: Tensor, S: Tensor) -> None:
    """Whether an entry of a batch keeps its matrix when the other one changes."""
    for k in range(2):
        changed = Z.clone()
        changed[1 - k] += changed[1 - k] != 0
        other = _matrices(name, "forward", network, window, changed, domain)[k]
        if (difference := _difference(other, S[k])) > _TOLERANCE:
            raise InputError(
                f"{name} must return for an entry of a batch what depends on that entry only, got a relative change by "
                f"{difference:.1e} in entry {k} when entry {1 - k} changed."
            )


def _check_symmetry(name: str, K: Tensor) -> None:
    """Whether element energy matrices are symmetric: the coarse solve reads one half of what they add up to."""
    if (difference := _difference(K.mT, K)) > _TOLERANCE:
        raise InputError(
            f"{name} must return symmetric matrices in the Galerkin form, got a relative difference of "
            f"{difference:.1e} to their transposes."
        )


def _check_homogeneity(name: str, network: nn.Module, window: Window, Z: Tensor, domain: Tensor, S: Tensor) -> None:
    shifted = _matrices(name, "forward", network, window, Z + _SHIFT * (Z != 0), domain)
    scaled = S.clone()
    scaled[..., : window.matrix_shape[1]] *= exp(_SHIFT)  # loads do not change
    if (difference := _difference(shifted, scaled)) > _TOLERANCE:
        raise InputError(
            f"{name} is said to be homogeneous and must fulfil S(Z + c) = e^c S(Z), got a relative difference of "
            f"{difference:.1e} for c = {_SHIFT:g}."
        )


def _check_shared(name: str, method: str, network: nn.Module, window: Window, block: tuple[int, ...]) -> None:
    """Whether a box of elements at once, so many along each axis, gets the matrices of their windows, x fastest."""
    d, step, count, shape = window.dim, window.cells, prod(block), block[::-1]
    device = next(network.parameters()).device
    field = torch.randn((1, *(n * step for n in shape)), generator=torch.Generator().manual_seed(2))
    marks = nn.functional.pad(torch.full((1, *shape), float(INSIDE)), (window.layers,) * (2 * d), value=GIVEN)
    padded = pad_cells(field, window).to(device), marks.to(device)
    together = _matrices(name, method, network, window, *padded, count).reshape(count, -1)
    for number in sorted({0, min(1, count - 1), count - 1}):
        position = (0, *np.unravel_index(number, shape))
        Z, domain = (
            windows(values, d, window.width * each, each)[position][None]
            for values, each in zip(padded, (step, 1), strict=True)
        )
        alone = _matrices(name, "forward", network, window, Z, domain).flatten()
        if (difference := _difference(together[number], alone)) > _TOLERANCE:
            raise InputError(
                f"{name} must return from {method} for {' x '.join(map(str, block))} elements at once, x fastest, what "
                f"it returns for the window of each, got a relative difference of {difference:.1e} in number {number}."
            )


def _difference(given: Tensor, expected: Tensor) -> float:
    return float((given - expected).norm() / expected.norm().clamp(min=torch.finfo(expected.dtype).tiny))
