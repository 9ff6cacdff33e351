"""The paper's network: the baseline."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from nnlod_fenics.errors import InputError
from nnlod_fenics.grid import Grid

__all__ = ["PaperNetwork"]


class PaperNetwork(nn.Module):
    """The paper's network: eight dense layers with ReLU, the values of Z in, the column-wise vec(S_T) out.

    Args:
        grid: The discretisation; sets the first and the last width.
        widths: Widths of the hidden layers.
    """

    takes_blocks = False
    homogeneous = False

    def __init__(self, grid: Grid, widths: tuple[int, ...] = (1000, 1000, 800, 800, 600, 400, 300)) -> None:
        super().__init__()
        if not widths or any(isinstance(w, bool) or not isinstance(w, int) or w < 1 for w in widths):
            raise InputError(f"network.options.widths must be a list of positive integers, got {widths!r}.")
        self.grid = grid
        rows, columns = grid.local_matrix_shape
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
        rows, columns = self.grid.local_matrix_shape
        return self.layers(Z.flatten(1)).reshape(-1, columns, rows).mT
