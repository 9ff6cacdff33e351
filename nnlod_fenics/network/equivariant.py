"""Layers that commute with the 2^d·d! symmetries of the cube.

A field x on a lattice is moved by a symmetry g as (g·x)(p) = x(g⁻¹p). The layers pass on *oriented* features
F(p, g): one value per position p, channel and symmetry, moved as (h·F)(p, g) = F(h⁻¹p, h⁻¹g). Linear maps that
commute with these actions are convolutions whose kernels for the |G| orientations are turned copies of one
(group convolution, Cohen & Welling 2016), so a layer has |G| times fewer weights than a plain one of the same
cost, and equivariance is exact for any weights.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import permutations, product
from math import factorial, prod

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = [
    "GroupConvolution",
    "Lifting",
    "MatrixHead",
    "convolve",
    "group_order",
    "group_table",
    "turned_lattice",
    "unit_of",
]


@lru_cache(maxsize=64)
def turned_lattice(dim: int, size: int) -> Tensor:
    """Where each symmetry takes the points of a cubic lattice from.

    Args:
        dim: Space dimension d.
        size: Points along an axis.

    Returns:
        Numbers g⁻¹p, shape ``(2^d·d!, size^d)``: row g turns values on the lattice (x fastest) by g.
    """
    numbers = np.arange(size**dim).reshape((size,) * dim)
    turned = []
    for axes in permutations(range(dim)):
        for flips in product((False, True), repeat=dim):
            flipped = tuple(axis for axis in range(dim) if flips[axis])
            turned.append(np.flip(numbers.transpose(axes), flipped).ravel())
    return torch.from_numpy(np.stack(turned))


def group_order(dim: int) -> int:
    """Number of symmetries, 2^d·d!."""
    return 2**dim * factorial(dim)


@lru_cache(maxsize=8)
def group_table(dim: int) -> Tensor:
    """Numbers of the products g⁻¹k of symmetries, shape ``(|G|, |G|)``."""
    turned = turned_lattice(dim, 3)  # 3^d points tell all symmetries apart
    number = {tuple(row.tolist()): g for g, row in enumerate(turned)}
    inverse = torch.argsort(turned, dim=1)
    return torch.tensor([[number[tuple(k[g].tolist())] for k in turned] for g in inverse])


def convolve(dim: int, x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int = 1) -> Tensor:
    """Correlation without padding in d dimensions."""
    apply = (functional.conv1d, functional.conv2d, functional.conv3d)[dim - 1]
    return apply(x, weight, bias, stride)


_WIDTH = 128  # inputs of a layer from which on its steps are made smaller


def unit_of(inputs: int) -> float:
    """The unit in which a layer with so many inputs keeps its weights."""
    return min(1.0, _WIDTH / inputs)


class _Turned(nn.Module):
    """A weight whose turned copies make up the kernel of a layer.

    Adam changes every weight by about the step size, whatever its layer: an output with n inputs may change by n step
    sizes at once, and weights that are meant to be small by more than they are. A weight is therefore kept in units
    in which neither happens (as in the maximal update parametrisation, Yang & Hu 2021): larger ones for many inputs
    and smaller ones where the initial weights are scaled down. Without it long trainings diverged; with it five times
    larger steps are stable.
    """

    index: Tensor

    def __init__(self, dim: int, index: Tensor, channels: tuple[int, int], fan_in: int, gain: float) -> None:
        super().__init__()
        self.dim = dim
        self.register_buffer("index", index.reshape(-1), persistent=False)
        self.unit = gain * unit_of(fan_in)
        self.weight = nn.Parameter(torch.randn(*channels, int(index.max()) + 1) * gain * fan_in**-0.5 / self.unit)

    def expanded(self) -> Tensor:
        """Turned copies of the weight, last axis as in the index."""
        return self.unit * self.weight.index_select(2, self.index)


class Lifting(_Turned):
    """Fields on a lattice to oriented features, by a convolution without padding.

    Args:
        dim: Space dimension d.
        inputs: Fields.
        outputs: Channels of the features; there are ``outputs * |G|`` numbers per position.
        size: Width of the kernel.
        stride: Step of the kernel.
        bias: Whether constants are added.
    """

    def __init__(self, dim: int, inputs: int, outputs: int, size: int, stride: int = 1, bias: bool = True) -> None:
        turned = turned_lattice(dim, size)
        super().__init__(dim, turned, (outputs, inputs), inputs * size**dim, 1.0)
        self.inputs, self.outputs, self.size, self.stride = inputs, outputs, size, stride
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    def kernel(self) -> Tensor:
        """The kernel of all orientations, shape ``(outputs·|G|, inputs, size, …, size)``."""
        order, lattice = group_order(self.dim), (self.size,) * self.dim
        kernel = self.expanded().reshape(self.outputs, self.inputs, order, -1).transpose(1, 2)
        return kernel.reshape(self.outputs * order, self.inputs, *lattice)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(n, inputs, s, …, s)`` to ``(n, outputs·|G|, t, …, t)``."""
        return self.apply_kernel(x, self.kernel())

    def apply_kernel(self, x: Tensor, kernel: Tensor) -> Tensor:
        """Map as with a given kernel in the place of the own one."""
        bias = None if self.bias is None else self.bias.repeat_interleave(group_order(self.dim))
        return convolve(self.dim, x, kernel, bias, self.stride)

    def at_windows(self, values: Tensor) -> Tensor:
        """Map windows that are not parts of a common field.

        Args:
            values: Fields in the window around each position, shape ``(n, t, …, t, inputs·size^d)``.

        Returns:
            Shape ``(n, outputs·|G|, t, …, t)``.
        """
        flat = functional.linear(values.flatten(0, -2), self.kernel().flatten(1))  # two axes: easier to export
        result: Tensor = flat.unflatten(0, values.shape[:-1]).movedim(-1, 1)
        return result


class GroupConvolution(_Turned):
    """Oriented features to oriented features, by a convolution without padding.

    Args:
        dim: Space dimension d.
        inputs: Channels of the given features.
        outputs: Channels of the result.
        size: Width of the kernel.
        gain: Scale of the initial weights.
    """

    def __init__(self, dim: int, inputs: int, outputs: int, size: int = 1, gain: float = 1.0) -> None:
        turned, table, points = turned_lattice(dim, size), group_table(dim), size**dim
        index = table[:, :, None] * points + turned[:, None, :]  # (g, k, p) -> g⁻¹k, g⁻¹p
        super().__init__(dim, index, (outputs, inputs), inputs * prod(table.shape[:1]) * points, gain)
        self.inputs, self.outputs, self.size = inputs, outputs, size
        self.bias = nn.Parameter(torch.zeros(outputs))

    def kernel(self) -> Tensor:
        """The kernel, shape ``(outputs·|G|, inputs·|G|, size, …, size)``."""
        order, lattice = group_order(self.dim), (self.size,) * self.dim
        kernel = self.expanded().reshape(self.outputs, self.inputs, order, order, -1).transpose(1, 2)
        return kernel.reshape(self.outputs * order, self.inputs * order, *lattice)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(n, inputs·|G|, s, …, s)`` to ``(n, outputs·|G|, t, …, t)``."""
        return convolve(self.dim, x, self.kernel(), self.bias.repeat_interleave(group_order(self.dim)))


class MatrixHead(_Turned):
    """Oriented features of a position to matrices whose rows and columns are nodes of cubic lattices.

    Args:
        dim: Space dimension d.
        inputs: Channels of the features.
        rows: Nodes along an axis that number the rows.
        columns: Nodes along an axis that number the columns.
        gain: Scale of the initial weights.
    """

    def __init__(self, dim: int, inputs: int, rows: int, columns: int, gain: float = 1.0) -> None:
        i, j = turned_lattice(dim, rows), turned_lattice(dim, columns)
        pairs = i[:, :, None] * columns**dim + j[:, None, :]
        super().__init__(dim, pairs, (1, inputs), inputs * len(i), gain)
        self.shape = (rows**dim, columns**dim)
        self.inputs = inputs
        same = pairs.flatten(1).min(dim=0).values  # the matrix entries that symmetries take into each other
        number = torch.unique(same, return_inverse=True)[1]
        self.orbit: Tensor
        self.register_buffer("orbit", number, persistent=False)
        self.bias = nn.Parameter(torch.zeros(int(number.max()) + 1))

    def set_bias(self, matrix: Tensor) -> None:
        """Make a matrix the constant part of the result, after averaging it over the symmetries."""
        sums = torch.zeros_like(self.bias).index_add_(0, self.orbit, matrix.flatten())
        self.bias.copy_(sums / torch.bincount(self.orbit))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(n, inputs·|G|)`` to ``(n, rows, columns)``."""
        order = group_order(self.dim)
        kernel = self.expanded().reshape(self.inputs * order, -1)
        return (x @ kernel + self.bias[self.orbit]).reshape(-1, *self.shape)
