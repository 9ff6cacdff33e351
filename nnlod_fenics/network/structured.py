"""A network with the exact structure of Z ↦ S_T built in, run once over a whole field."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from nnlod_fenics.errors import InputError
from nnlod_fenics.network.equivariant import GroupConvolution, Lifting, group_order, unit_of
from nnlod_fenics.network.heads import EnergyHead, LoadHead, SumFreeHead
from nnlod_fenics.network.windows import crop, levels_at_nodes, nodes_of_patches, windows
from nnlod_fenics.window import GALERKIN, INSIDE, NATURAL, Window

__all__ = ["StructuredNetwork"]

_UNIT_OF_SCALE = 0.1  # of the weights of the logarithm of a factor, for small steps
_LARGEST_SCALE = 4.0  # of that logarithm, so that no step of the training can make predictions overflow
_SEEN = 3  # of the elements around one: level, whether they lie in D, whether A ∂u/∂n is given there
_RENAMED = {f"matrix.{name}": f"matrix.head.{name}" for name in ("weight", "bias")}  # of version 0.1


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
    * Petrov–Galerkin: rows and columns sum to zero, rows of nodes outside D are zero, and so are the matrices of
      elements outside D: by an orthogonal projection. Galerkin: symmetric, positive semidefinite and coercive, see
      :class:`nnlod_fenics.network.heads.EnergyHead`.
    * Cells outside D are masked wherever they are seen, so that no value there matters. Beyond ∂D it is told whether u
      or A ∂u/∂n is given.

    An element's cells are compressed into features by one layer with the element's width; layers of width 3 over
    elements then bring together what the window holds, and a head per element gives the local matrix. As no layer looks
    across a window's border (there is no padding), windows may be evaluated one by one or as blocks of neighbours that
    share their features: ``forward`` takes windows of any size, ``forward_field`` whole padded fields.

    Args:
        window: What local matrices depend on: any ℓ, H/ε, d and form, for elements that are cubes.
        channels: Channels of the features, each with 2^d·d! orientations.
        means: Weighted arithmetic and harmonic means that an element's features start from, half of each.
        embed_depth: Residual blocks on the features of single elements.
        mix_depth: Residual blocks after each layer over elements.
        head_depth: Residual blocks of the head.
        loads: Whether what an element adds to the load is predicted too, as one more column.
    """

    takes_blocks = True
    homogeneous = True

    def __init__(
        self,
        window: Window,
        channels: int = 32,
        means: int = 32,
        embed_depth: int = 1,
        mix_depth: int = 1,
        head_depth: int = 2,
        loads: bool = False,
    ) -> None:
        super().__init__()
        given = {"channels": channels, "means": means, "embed_depth": embed_depth, "mix_depth": mix_depth}
        for name, value in (given | {"head_depth": head_depth}).items():
            least = 0 if name.endswith("depth") else 2
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InputError(f"network.options.{name} must be an integer of at least {least}, got {value!r}.")
        if not isinstance(loads, bool):
            raise InputError(f"network.options.loads must be true or false, got {loads!r}.")
        if not window.cubes:
            raise InputError(
                "network 'structured' has the symmetries of the cube built in and needs coarse elements that are "
                f"cubes, got sides in the ratio {window.sides} (x first); choose other grid.coarse, or another network."
            )
        d, layers = window.dim, window.layers
        self.window, self.dim, self.cells, self.channels, self.loads = window, d, window.cells, channels, loads
        self.embed = Lifting(d, 1, channels, self.cells, self.cells)
        self.log_means = _LogMeans(d, means, self.cells)
        self.embed_means = GroupConvolution(d, 2 * (means // 2), channels)
        self.embed_blocks = self._blocks(embed_depth)
        self.mix = nn.ModuleList(GroupConvolution(d, channels, channels, 3) for _ in range(layers))
        self.mix_levels = nn.ModuleList(Lifting(d, _SEEN, channels, 3, bias=False) for _ in range(layers))
        self.mix_blocks = nn.ModuleList(self._blocks(mix_depth) for _ in range(layers))
        self.patch = Lifting(d, _SEEN, channels, window.width, bias=False)
        self.head_blocks = self._blocks(head_depth)
        self.matrix: EnergyHead | SumFreeHead = (EnergyHead if window.form == GALERKIN else SumFreeHead)(
            window, channels
        )
        self.scale = nn.Linear(channels, 1)
        nn.init.zeros_(self.scale.weight)
        nn.init.zeros_(self.scale.bias)
        if loads:
            self.load = LoadHead(window, channels)

    def _blocks(self, depth: int) -> nn.Sequential:
        return nn.Sequential(*(_Block(self.dim, self.channels) for _ in range(depth)))

    def forward(self, Z: Tensor, domain: Tensor) -> Tensor:
        """Predict the local matrices of blocks of elements.

        Args:
            Z: log A on blocks of elements and the layers of elements around them, shape ``(n, (b + 2L) H/ε, …)`` for b
                elements along an axis and L layers (b = 1: windows).
            domain: Marks of the elements, shape ``(n, b + 2L, …)``.

        Returns:
            The elements of all blocks, block by block, x fastest, shape ``(…, rows, columns)``.
        """
        return self.forward_field(Z, domain).flatten(0, 1)

    def forward_field(self, Z: Tensor, domain: Tensor) -> Tensor:
        """Predict the local matrices of all elements of padded fields.

        Args:
            Z: log A on the box and L layers of elements around it, shape ``(n, (1/H + 2L) H/ε, …)``.
            domain: Marks of the elements, shape ``(n, 1/H + 2L, …)``.

        Returns:
            Shape ``(n, num_elements, rows, columns)``; in float64 unless in training: sums are then zero, and matrices
            of the Galerkin form positive, to its rounding.
        """
        Z, domain = Z[:, None], domain[:, None]
        mask, natural = ((domain == mark).to(Z.dtype) for mark in (INSIDE, NATURAL))
        level = _mean_pool(Z, self.cells)
        deviations = (Z - _spread(level, self.cells)) * _spread(mask, self.cells)
        x = self._elements(deviations) * mask
        for k in range(self.window.layers):
            seen = self._seen(*(crop(values, k, self.dim) for values in (level, mask, natural)), size=3)
            x = self.mix[k](x) + self.mix_levels[k].at_windows(seen)
            x = self.mix_blocks[k](functional.gelu(x)) * crop(mask, k + 1, self.dim)
        x = x + self.patch.at_windows(self._seen(level, mask, natural, size=self.window.width))
        x = functional.gelu(self.head_blocks(x)).movedim(1, -1)
        n, features = x.shape[0], x.flatten(0, -2).float()
        nodes = nodes_of_patches(mask[:, 0], self.window)[..., None]
        levels = levels_at_nodes(level[:, 0], mask[:, 0], self.window)[..., None]
        own = crop(level, self.window.layers, self.dim).reshape(-1, 1)
        least = crop(-_max_pool(-deviations, self.cells, self.cells), self.window.layers, self.dim).reshape(-1, 1)
        S = self.matrix(features, nodes, levels, own + self._scale(features), own + least)
        if self.loads:
            S = torch.cat([S, self.load(features, nodes).to(S.dtype)], dim=2)
        return S.unflatten(0, (n, -1))

    def start_from(self, Z: Tensor, domain: Tensor, S: Tensor) -> None:
        """Predict the mean matrix, in the sense of the loss (4.1), before any training.

        Args:
            Z: log A on some blocks.
            domain: Marks of their elements.
            S: Local matrices of their elements.
        """
        matrices = S[..., : self.window.matrix_shape[1]]
        level = crop(_mean_pool(Z[:, None], self.cells), self.window.layers, self.dim).reshape(-1, 1, 1).exp()
        weight = 1 / matrices.square().sum(dim=(1, 2), keepdim=True)
        weight = weight.masked_fill(weight.isinf(), 0)  # of elements outside D
        mean = (level * matrices * weight).sum(dim=0) / (level.square() * weight).sum(dim=0)
        with torch.no_grad():
            self.matrix.start_from(mean)

    @staticmethod
    def adapt(tensors: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights of version 0.1, which saw less of the boundary, for a network that sees more and ignores it.

        Args:
            tensors: Stored weights.
            expected: Those of the network.

        Returns:
            The weights, zero for what was not seen.
        """
        result = {_RENAMED.get(key, key): tensor for key, tensor in tensors.items()}
        for key, tensor in result.items():
            if key.startswith(("mix_levels.", "patch.")) and key in expected:
                missing = expected[key].shape[1] - tensor.shape[1]
                if missing > 0:
                    units = [unit_of(inputs * tensor.shape[2]) for inputs in (tensor.shape[1], expected[key].shape[1])]
                    padding = tensor.new_zeros(tensor.shape[0], missing, *tensor.shape[2:])
                    result[key] = torch.cat([tensor * (units[0] / units[1]), padding], dim=1)
        return result

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

    def _seen(self, level: Tensor, mask: Tensor, natural: Tensor, *, size: int) -> Tensor:
        """What layers see of the elements around each: levels minus its own, zero outside D, and what they are."""
        center = crop(level, size // 2, self.dim)[:, 0, ..., None]
        inside = self._windows(mask, size)
        differences = (self._windows(level, size) - center) * inside
        return torch.cat([differences, inside, self._windows(natural, size)], dim=-1)


def _mean_pool(x: Tensor, size: int) -> Tensor:
    pool = (functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d)[x.ndim - 3]
    result: Tensor = pool(x, size)
    return result


def _max_pool(x: Tensor, size: int, step: int) -> Tensor:
    pool = (functional.max_pool1d, functional.max_pool2d, functional.max_pool3d)[x.ndim - 3]
    result: Tensor = pool(x, size, step)
    return result


def _spread(x: Tensor, size: int) -> Tensor:
    """Values of elements at their cells."""
    for axis in range(2, x.ndim):
        x = x.repeat_interleave(size, dim=axis)
    return x
