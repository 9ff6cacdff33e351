"""NN-LOD: a trained network in the place of the corrector problems."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from nnlod_fenics.coefficient import check_field
from nnlod_fenics.errors import InputError
from nnlod_fenics.grid import Grid
from nnlod_fenics.surrogate.networks import build_network
from nnlod_fenics.surrogate.storage import load_weights, read_model

__all__ = ["NNLOD"]


class NNLOD:
    """A trained surrogate: fields in, local matrices, coarse operator and solution out.

    Args:
        grid: The discretisation that the network was trained for.
        network: The network.
        description: What its model folder tells of it.
    """

    def __init__(self, grid: Grid, network: nn.Module, description: dict[str, Any]) -> None:
        self.grid, self.network, self.description = grid, network.eval(), description

    @classmethod
    def load(cls, folder: str | Path, grid: Grid | None = None, device: str = "cpu") -> NNLOD:
        """Load a model folder. Executes no code from it.

        Args:
            folder: The folder that ``nnlod train`` wrote.
            grid: The grid it must have been trained for; any if None.
            device: Where to compute.

        Returns:
            The surrogate.

        Raises:
            InputError: If there is no whole model, or one of another grid or a newer version.
        """
        description = read_model(Path(folder))
        own = Grid(**description["grid"])
        if grid is not None and grid != own:
            raise InputError(f"model {str(folder)!r} was trained for {own.as_dict()}, not for {grid.as_dict()}.")
        network = build_network(description["network"]["name"], own, **description["network"]["options"])
        load_weights(Path(folder), network)
        return cls(own, network.to(device), description)

    @property
    def test_loss(self) -> float:
        """Loss (4.1) on the test set of its training data."""
        return float(self.description["losses"].get("test", float("nan")))

    def out_of_range(self, Z: npt.ArrayLike) -> float:
        """How far a field lies outside the range of the training fields, in units of that range; 0 inside.

        Args:
            Z: log A on T_ε.

        Returns:
            The largest distance of a value.
        """
        low, high = self.description["training_set"]["range_of_Z"]
        values = check_field(self.grid, Z)
        return float(max(low - values.min(), values.max() - high, 0.0) / (high - low))

    def local_matrices(self, Z: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Predict the local matrices of all elements in one batch.

        Args:
            Z: log A on T_ε, shape ``grid.coefficient_shape``.

        Returns:
            Shape ``(num_elements, (2ℓ+2)^d, 2^d)``, padded; rows of nodes outside D are zero.

        Raises:
            InputError: If Z does not fit.
        """
        grid = self.grid
        device = next(self.network.parameters()).device
        patches = torch.as_tensor(grid.cut_patches(check_field(grid, Z)), dtype=torch.float32, device=device)
        inside = torch.as_tensor(grid.cut_patches(np.ones(grid.coefficient_shape)), dtype=torch.float32, device=device)
        with torch.inference_mode():
            predicted = self.network(patches, inside).double().cpu().numpy()
        predicted[grid.patch_nodes < 0] = 0
        return np.asarray(predicted)

    def coarse_matrix(self, Z: npt.ArrayLike, comm: Any = None) -> Any:
        """Predict the coarse operator.

        Args:
            Z: log A on T_ε.
            comm: Communicator of the matrix; COMM_SELF if None.

        Returns:
            PETSc matrix, see :func:`nnlod_fenics.coarse_matrix`.
        """
        from nnlod_fenics.lod.coarse import coarse_matrix

        return coarse_matrix(self.grid, self.local_matrices(Z), **({} if comm is None else {"comm": comm}))

    def solve(self, Z: npt.ArrayLike, f: Any = 1.0) -> npt.NDArray[np.float64]:
        """Predict the coarse solution.

        Args:
            Z: log A on T_ε.
            f: Source, see :func:`nnlod_fenics.solve_coarse`.

        Returns:
            Coarse nodal values, shape ``(1/H + 1,)*d``.
        """
        from nnlod_fenics.lod.coarse import solve_coarse

        matrix = self.coarse_matrix(Z)
        try:
            return solve_coarse(self.grid, matrix, f)
        finally:
            matrix.destroy()
