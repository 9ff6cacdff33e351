"""A network with the exact structure of Z ↦ S_T built in, run once over a whole field."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from nnlod_fenics.errors import InputError
from nnlod_fenics.grid import Grid
from nnlod_fenics.network.equivariant import GroupConvolution, Lifting, MatrixHead, group_order
from nnlod_fenics.network.windows import windows

__all__ = ["StructuredNetwork"]

_UNIT_OF_SCALE = 0.1  # of the weights of the logarithm of a factor, for small steps
_LARGEST_SCALE = 4.0  # of that logarithm, so that no step of the training can make predictions overflow


class _Block(nn.Module):
    """x + W₂ σ(W₁ x) at every position."""

    def __init__(self, dim: int, channels: int) -> None:
        super().__init__()
        self.first = GroupConvolution(dim, channels, channels)
        self.second = GroupConvolution(dim, channels, channels, gain=0.2)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(functional.gelu(self.first(x)))


class _LogMeans(nn.Module):
    """Logarithms of weighted arithmetic and harmonic means of e^x over each element, with learned weights.

    The means of resistances and conductances in series and parallel, and for equal weights the bounds of Voigt
    and Reuss for the homogenised coefficient.
    """

    def __init__(self, dim: int, outputs: int, cells: int) -> None:
        super().__init__()
        self.arithmetic = Lifting(dim, 1, outputs // 2, cells, cells, bias=False)
        self.harmonic = Lifting(dim, 1, outputs // 2, cells, cells, bias=False)
        for part in (self.arithmetic, self.harmonic):
            nn.init.normal_(part.weight)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self._mean(self.arithmetic, x), -self._mean(self.harmonic, -x)], dim=1)

    def _mean(self, lifting: Lifting, x: Tensor) -> Tensor:
        kernel = lifting.kernel()
        return lifting.apply_kernel(x.exp(), kernel.flatten(1).softmax(dim=1).reshape(kernel.shape)).log()


class StructuredNetwork(nn.Module):
    """The default network: exact properties of Z ↦ S_T by construction, and work shared among elements.

    * Homogeneity, S(Z + c) = e^c S(Z): the mean of Z over an element is its *level*. The network sees Z minus the
      level of the cell's element, and differences between the levels of elements of the patch; its output is
      multiplied by exp(level of T).
    * Equivariance under the 2^d·d! symmetries of the cube: all layers are group convolutions.
    * Rows and columns sum to zero, rows of nodes outside D are zero, and so are the matrices of elements outside D: by
      an orthogonal projection.
    * Cells outside D are masked wherever they are seen, so that no value there matters.

    An element's cells are compressed into features by one layer with the element's width; ℓ layers of width 3 over
    elements then bring together what N^ℓ(T) holds, and a head per element gives S_T. As no layer looks across a
    patch's border (there is no padding), patches may be evaluated one by one or as blocks of neighbours that share
    their features: ``forward`` takes windows of any size, ``forward_field`` whole padded fields.

    Args:
        grid: The discretisation; any ℓ, H/ε and d, and any domain of coarse elements that are cubes.
        channels: Channels of the features, each with 2^d·d! orientations.
        means: Weighted arithmetic and harmonic means that an element's features start from, half of each.
        embed_depth: Residual blocks on the features of single elements.
        mix_depth: Residual blocks after each layer over elements.
        head_depth: Residual blocks of the head.
    """

    takes_blocks = True
    homogeneous = True

    def __init__(
        self,
        grid: Grid,
        channels: int = 32,
        means: int = 32,
        embed_depth: int = 1,
        mix_depth: int = 1,
        head_depth: int = 2,
    ) -> None:
        super().__init__()
        given = {"channels": channels, "means": means, "embed_depth": embed_depth, "mix_depth": mix_depth}
        for name, value in (given | {"head_depth": head_depth}).items():
            least = 0 if name.endswith("depth") else 2
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InputError(f"network.options.{name} must be an integer of at least {least}, got {value!r}.")
        if not grid.cubes:
            raise InputError(
                "network 'structured' has the symmetries of the cube and needs coarse elements that are cubes, "
                f"got sides {grid.widths} (x first); choose other grid.coarse, or another network."
            )
        d, ell = grid.dim, grid.ell
        self.dim, self.ell, self.cells, self.channels = d, ell, grid.cells_per_element, channels
        self.embed = Lifting(d, 1, channels, self.cells, self.cells)
        self.log_means = _LogMeans(d, means, self.cells)
        self.embed_means = GroupConvolution(d, 2 * (means // 2), channels)
        self.embed_blocks = self._blocks(embed_depth)
        self.mix = nn.ModuleList(GroupConvolution(d, channels, channels, 3) for _ in range(ell))
        self.mix_levels = nn.ModuleList(Lifting(d, 1, channels, 3, bias=False) for _ in range(ell))
        self.mix_blocks = nn.ModuleList(self._blocks(mix_depth) for _ in range(ell))
        self.patch = Lifting(d, 2, channels, grid.patch_width, bias=False)
        self.head_blocks = self._blocks(head_depth)
        self.matrix = MatrixHead(d, channels, 2 * ell + 2, 2, gain=0.1)
        self.scale = nn.Linear(channels, 1)
        nn.init.zeros_(self.scale.weight)
        nn.init.zeros_(self.scale.bias)

    def _blocks(self, depth: int) -> nn.Sequential:
        return nn.Sequential(*(_Block(self.dim, self.channels) for _ in range(depth)))

    def forward(self, Z: Tensor, inside: Tensor) -> Tensor:
        """Predict the local matrices of blocks of elements.

        Args:
            Z: log A on blocks of elements and ℓ layers of elements around them, shape ``(n, (b + 2ℓ) H/ε, …)`` for b
                elements along an axis (b = 1: padded patches).
            inside: Whether a cell lies in D, same shape.

        Returns:
            The elements of all blocks, block by block, x fastest, shape ``(…, (2ℓ+2)^d, 2^d)``.
        """
        return self.forward_field(Z, inside).flatten(0, 1)

    def forward_field(self, Z: Tensor, inside: Tensor) -> Tensor:
        """Predict the local matrices of all elements of padded fields.

        Args:
            Z: log A on the box and ℓ layers of elements around it, shape ``(n, (1/H + 2ℓ) H/ε, …)``.
            inside: Whether a cell lies in D, same shape.

        Returns:
            Shape ``(n, num_elements, (2ℓ+2)^d, 2^d)``.
        """
        Z, inside = Z[:, None], inside[:, None].to(Z.dtype)
        mask = inside[(..., *(slice(None, None, self.cells),) * self.dim)]
        level = _mean_pool(Z, self.cells)
        x = self._elements((Z - _spread(level, self.cells)) * inside) * mask
        for k in range(self.ell):
            here, there = _crop(mask, k, self.dim), _crop(mask, k + 1, self.dim)
            differences = self._differences(_crop(level, k, self.dim), here, 3)
            x = self.mix[k](x) + self.mix_levels[k].at_windows(differences)
            x = self.mix_blocks[k](functional.gelu(x)) * there
        size = 2 * self.ell + 1
        x = x + self.patch.at_windows(
            torch.cat([self._differences(level, mask, size), self._windows(mask, size)], dim=-1)
        )
        x = functional.gelu(self.head_blocks(x)).movedim(1, -1)
        n, features = x.shape[0], x.flatten(0, -2).float()
        scale = _crop(level, self.ell, self.dim).reshape(-1, 1) + self._scale(features)
        S = self.project(self.matrix(features), self._nodes(mask)) * scale.exp()[..., None]
        return S.unflatten(0, (n, -1))

    def start_from(self, Z: Tensor, inside: Tensor, S: Tensor) -> None:
        """Predict the mean matrix, in the sense of the loss (4.1), before any training.

        Args:
            Z: log A on some blocks.
            inside: Whether a cell lies in D.
            S: Local matrices of their elements.
        """
        level = _crop(_mean_pool(Z[:, None], self.cells), self.ell, self.dim).reshape(-1, 1, 1).exp()
        weight = 1 / S.square().sum(dim=(1, 2), keepdim=True)
        weight = weight.masked_fill(weight.isinf(), 0)  # of elements outside D
        mean = (level * S * weight).sum(dim=0) / (level.square() * weight).sum(dim=0)
        with torch.no_grad():
            self.matrix.set_bias(mean)

    def _elements(self, x: Tensor) -> Tensor:
        """Features of elements, from deviations from their levels."""
        x = self.embed(x) + self.embed_means(self.log_means(x))
        features: Tensor = self.embed_blocks(functional.gelu(x))
        return features

    def _scale(self, features: Tensor) -> Tensor:
        """Logarithm of a factor of each matrix, from what symmetries leave as it is."""
        invariant = features.unflatten(1, (self.channels, group_order(self.dim))).mean(dim=2)
        scale: Tensor = _UNIT_OF_SCALE * self.scale(invariant)
        return _LARGEST_SCALE * torch.tanh(scale / _LARGEST_SCALE)

    def _windows(self, x: Tensor, size: int) -> Tensor:
        """Values in the windows around each position, shape ``(n, t, …, t, size^d)``."""
        return windows(x[:, 0], self.dim, size).flatten(1 + self.dim)

    def _differences(self, level: Tensor, mask: Tensor, size: int) -> Tensor:
        """Levels in windows minus the level in their middle, zero outside D."""
        center = _crop(level, size // 2, self.dim)[:, 0, ..., None]
        return (self._windows(level, size) - center) * self._windows(mask, size)

    def _nodes(self, mask: Tensor) -> Tensor:
        """Whether nodes belong to an element of D in the patch, for elements of D; ``(elements, (2ℓ+2)^d, 1)``."""
        size = 2 * self.ell + 1
        patches = self._windows(mask, size).reshape(-1, 1, *(size,) * self.dim)
        touched = _max_pool(functional.pad(patches, (1, 1) * self.dim), 2).flatten(1)
        return (touched * _crop(mask, self.ell, self.dim).reshape(-1, 1))[..., None]

    @staticmethod
    def project(S: Tensor, nodes: Tensor) -> Tensor:
        """Orthogonal projection onto matrices with zero sums whose rows outside D are zero."""
        S = (S - S.mean(dim=2, keepdim=True)) * nodes
        return S - nodes * (S.sum(dim=1, keepdim=True) / nodes.sum(dim=1, keepdim=True).clamp(min=1))


def _mean_pool(x: Tensor, size: int) -> Tensor:
    pool = (functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d)[x.ndim - 3]
    result: Tensor = pool(x, size)
    return result


def _max_pool(x: Tensor, size: int) -> Tensor:
    pool = (functional.max_pool1d, functional.max_pool2d, functional.max_pool3d)[x.ndim - 3]
    result: Tensor = pool(x, size, 1)
    return result


def _spread(x: Tensor, size: int) -> Tensor:
    """Values of elements at their cells."""
    for axis in range(2, x.ndim):
        x = x.repeat_interleave(size, dim=axis)
    return x


def _crop(x: Tensor, layers: int, dim: int) -> Tensor:
    """Without some layers at the border."""
    return x[(..., *(slice(layers, -layers),) * dim)] if layers else x
