"""NN-LOD: a trained network in the place of the corrector problems."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from nnlod_fenics.coefficient import check_field
from nnlod_fenics.errors import InputError, NumericalError
from nnlod_fenics.grid import Grid
from nnlod_fenics.lod.local import local_matrices
from nnlod_fenics.surrogate.networks import build_network
from nnlod_fenics.surrogate.processes import find_device, sharing_cores
from nnlod_fenics.surrogate.shipped import find_model
from nnlod_fenics.surrogate.storage import load_weights, read_model, save_model
from nnlod_fenics.surrogate.trust import ErrorEstimator, load_estimator, remove_estimator, save_estimator

__all__ = ["NNLOD"]

_ELEMENTS = 16384  # whose matrices are predicted at a time; some 10 kB each


class NNLOD:
    """A trained surrogate: fields in, local matrices, coarse operator and solution out.

    Args:
        grid: The discretisation that the network was trained for.
        network: The network.
        description: What its model folder tells of it.
        estimator: Estimates of its errors, if there are any.
    """

    def __init__(
        self, grid: Grid, network: nn.Module, description: dict[str, Any], estimator: ErrorEstimator | None = None
    ) -> None:
        self.grid, self.network, self.description = grid, network.eval(), description
        self.estimator = estimator
        self._rows: Tensor | None = None

    @classmethod
    def load(cls, folder: str | Path, grid: Grid | None = None, device: str = "cpu") -> NNLOD:
        """Load a model folder. Executes no code from it.

        Args:
            folder: The folder that ``nnlod train`` wrote, or the name of a model that comes with the package,
                such as ``"lognormal-0.5"``; see :func:`nnlod_fenics.surrogate.shipped_models`.
            grid: The grid it must have been trained for; any if None.
            device: Where to compute.

        Returns:
            The surrogate.

        Raises:
            InputError: If there is no whole model, or one of another grid or a newer version.
        """
        path = find_model(folder)
        description = read_model(path)
        own = _grid(path, description["grid"])
        if grid is not None and grid != own:
            raise InputError(f"model {str(folder)!r} was trained for {own.as_dict()}, not for {grid.as_dict()}.")
        network = build_network(description["network"]["name"], own, **description["network"]["options"])
        load_weights(path, network)
        place, estimator = find_device(device, "device"), load_estimator(path, own)
        return cls(own, network.to(place), description, None if estimator is None else estimator.to(place))

    def save(self, folder: str | Path) -> Path:
        """Write a model folder.

        Args:
            folder: Where; a model that is there is replaced.

        Returns:
            The folder.
        """
        save_model(Path(folder), self.description, self.network)
        if self.estimator is not None:
            save_estimator(Path(folder), self.estimator)
        else:
            remove_estimator(Path(folder))
        return Path(folder)

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
        return float(max(low - values.min(), values.max() - high, 0.0) / ((high - low) or 1.0))

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return next(self.network.parameters()).device

    def local_matrices(self, Z: npt.ArrayLike, trust: float | None = None) -> npt.NDArray[np.float64]:
        """Predict the local matrices of all elements in one batch.

        Args:
            Z: log A on T_ε, shape ``grid.coefficient_shape``.
            trust: Tolerance of the relative error ‖Ŝ_T − S_T‖ / ‖S_T‖: matrices whose estimated error exceeds it are
                computed exactly, by condensation. None: all are predicted.

        Returns:
            Shape ``(num_elements, (2ℓ+2)^d, 2^d)``, padded; rows of nodes outside D are zero.

        Raises:
            InputError: If Z does not fit, or the model has no error estimates.
            NumericalError: If the prediction is not finite.
        """
        values = check_field(self.grid, Z)
        S = np.asarray(self.predict(_as_tensor(values))[0].cpu().numpy())
        if trust is not None:
            if isinstance(trust, bool) or not trust > 0:
                raise InputError(f"trust must be a positive tolerance, got {trust!r}.")
            doubtful = np.flatnonzero(self.error_estimates(values) > trust)
            if len(doubtful):
                S[doubtful] = local_matrices(self.grid, np.exp(values), elements=doubtful)
        if not np.isfinite(S).all():
            raise NumericalError(
                f"the network overflows on this field, {self.out_of_range(values):.1f} training ranges outside of what "
                "it was trained on; use trust, or method lod."
            )
        return S

    def error_estimates(self, Z: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Estimate the relative errors of the predicted local matrices.

        Args:
            Z: log A on T_ε.

        Returns:
            Shape ``(num_elements,)``; infinite where a patch lies outside the range of the training fields. See
            :mod:`nnlod_fenics.surrogate.trust`.

        Raises:
            InputError: If Z does not fit, or the model has no error estimates.
        """
        if self.estimator is None:
            raise InputError(
                "this model has no error estimates of this version of nnlod-fenics; nnlod train and "
                "nnlod_fenics.surrogate.refit_error_estimates make them."
            )
        field = _as_tensor(check_field(self.grid, Z)).to(self.device)
        with torch.inference_mode():
            return np.asarray(self.estimator(field)[0].double().cpu().numpy())

    def predict(self, Z: Tensor) -> Tensor:
        """Predict the local matrices of many fields, on the device of the network.

        Args:
            Z: log A on T_ε, shape ``(n, 1/ε, …)``, of any real type and on any device.

        Returns:
            Float64, shape ``(n, num_elements, (2ℓ+2)^d, 2^d)``, on the device of the network.

        Raises:
            InputError: If Z does not fit.

        Note:
            As many fields are treated at a time as bounds the memory beside the result.
        """
        self._check_fields(Z)
        shape = (len(Z), self.grid.num_elements, *self.grid.local_matrix_shape)
        result = torch.empty(shape, dtype=torch.float64, device=self.device)
        at_a_time = max(_ELEMENTS // self.grid.num_elements, 1)
        with torch.inference_mode(), sharing_cores():
            for start in range(0, len(Z), at_a_time):
                result[start : start + at_a_time] = self._predict(Z[start : start + at_a_time].to(self.device))
        return result

    def _check_fields(self, Z: Tensor) -> None:
        expected = self.grid.coefficient_shape
        if not isinstance(Z, Tensor) or Z.is_complex() or tuple(Z.shape[1:]) != expected or Z.ndim != 1 + len(expected):
            given = f"shape {tuple(Z.shape)} of {Z.dtype}" if isinstance(Z, Tensor) else type(Z).__name__
            raise InputError(f"Z must be a real tensor of shape (n, {', '.join(map(str, expected))}), got {given}.")
        if not bool(torch.isfinite(Z).all()):
            raise InputError("Z must be finite, got NaN or infinite values.")

    def _predict(self, Z: Tensor) -> Tensor:
        d, layers = self.grid.dim, (self.grid.ell * self.grid.cells_per_element,) * (2 * self.grid.dim)
        # a homogeneous network need not see how large the field is, which float32 would round
        level = Z.double().mean(dim=tuple(range(1, 1 + d)), keepdim=True) * float(self.network.homogeneous)
        padded, inside = (pad(v.float(), layers) for v in (Z - level, torch.ones_like(level).expand(Z.shape)))
        predicted: Tensor = self.network.forward_field(padded, inside).double()
        return predicted * level.exp().reshape(-1, 1, 1, 1) * self._rows_in_domain()

    def _rows_in_domain(self) -> Tensor:
        """1 for rows of nodes in the closure of D, 0 for the others, shape ``(num_elements, (2ℓ+2)^d, 1)``."""
        if self._rows is None:
            self._rows = torch.from_numpy(self.grid.patch_nodes >= 0).to(self.device)[..., None]
        return self._rows

    def coarse_matrix(self, Z: npt.ArrayLike, comm: Any = None, trust: float | None = None) -> Any:
        """Predict the coarse operator.

        Args:
            Z: log A on T_ε.
            trust: See :meth:`local_matrices`.
            comm: Communicator of the matrix; COMM_SELF if None.

        Returns:
            PETSc matrix, see :func:`nnlod_fenics.coarse_matrix`.
        """
        from nnlod_fenics.lod.coarse import coarse_matrix

        return coarse_matrix(self.grid, self.local_matrices(Z, trust), **({} if comm is None else {"comm": comm}))

    def solve(self, Z: npt.ArrayLike, f: Any = 1.0, trust: float | None = None) -> npt.NDArray[np.float64]:
        """Predict the coarse solution.

        Args:
            Z: log A on T_ε.
            f: Source, see :func:`nnlod_fenics.solve_coarse`.
            trust: See :meth:`local_matrices`.

        Returns:
            Coarse nodal values, shape ``(1/H + 1,)*d``.
        """
        from nnlod_fenics.lod.coarse import solve_coarse

        matrix = self.coarse_matrix(Z, trust=trust)
        try:
            return solve_coarse(self.grid, matrix, f)
        finally:
            matrix.destroy()


def _as_tensor(values: npt.NDArray[np.float64]) -> Tensor:
    """One field as a batch; a copy, for PyTorch takes no arrays that are read-only or run backwards."""
    return torch.from_numpy(values[None].copy())


def _grid(folder: Path, given: dict[str, Any]) -> Grid:
    try:
        return Grid(**given)
    except (TypeError, InputError) as error:
        raise InputError(f"model {str(folder)!r} is damaged: its grid is none ({str(error).rstrip('.')}).") from None
