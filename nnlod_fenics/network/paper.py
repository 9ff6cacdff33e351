"""The paper's network: the baseline."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from nnlod_fenics.errors import InputError
from nnlod_fenics.window import PETROV_GALERKIN, Window

__all__ = ["PaperNetwork"]


class PaperNetwork(nn.Module):
    """The paper's network: eight dense layers with ReLU, the values of Z in, the column-wise vec(S_T) out.

    Args:
        window: What local matrices depend on, in the Petrov–Galerkin form; sets the first and the last width.
        widths: Widths of the hidden layers.
    """

    takes_blocks = False
    homogeneous = False

    def __init__(self, window: Window, widths: tuple[int, ...] = (1000, 1000, 800, 800, 600, 400, 300)) -> None:
        super().__init__()
        if not widths or any(isinstance(w, bool) or not isinstance(w, int) or w < 1 for w in widths):
            raise InputError(f"network.options.widths must be a list of positive integers, got {widths!r}.")
        if window.form != PETROV_GALERKIN:
            raise InputError(f"network 'paper' is of the form {PETROV_GALERKIN!r}, got {window.form!r}.")
        self.window = window
        rows, columns = window.matrix_shape
        sizes = [window.num_cells, *widths, rows * columns]
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes):
            layers += [nn.Linear(before, after), nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, Z: Tensor, domain: Tensor) -> Tensor:
        """Predict local matrices.

        Args:
            Z: log A on padded patches, zero outside D, shape ``(n, m, …, m)``.
            domain: Marks of the elements, shape ``(n, 2ℓ+1, …)``; the paper's network does not use them.

        Returns:
            Shape ``(n, (2ℓ+2)^d, 2^d)``.
        """
        rows, columns = self.window.matrix_shape
        return self.layers(Z.flatten(1)).reshape(-1, columns, rows).mT
