"""NN-LOD: a trained network in the place of the corrector problems."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from nnlod_fenics.arrays import as_floats, as_numbers
from nnlod_fenics.coefficient import check_positive_field
from nnlod_fenics.errors import InputError, NumericalError
from nnlod_fenics.grid import Grid, told_apart
from nnlod_fenics.lod.coarse import coarse_operator, solve_coarse
from nnlod_fenics.lod.local import local_matrices
from nnlod_fenics.network.registry import build_network, forward_of_field
from nnlod_fenics.network.shipped import find_model
from nnlod_fenics.network.storage import ERRORS, WEIGHTS, has_estimator, load_weights, read_model, save_model
from nnlod_fenics.network.trust import ErrorEstimator, check_trust, load_estimator
from nnlod_fenics.network.windows import level_of, rows_in_domain
from nnlod_fenics.problem import Problem, Source
from nnlod_fenics.runtime.devices import find_device, sharing_cores

__all__ = ["NNLOD"]

Array = npt.NDArray[np.float64]

_ELEMENTS = 16384  # whose matrices are predicted at a time; some 10 kB each


class NNLOD:
    """A trained surrogate: a coefficient in, local matrices, coarse operator and solution out.

    Args:
        grid: The discretisation that the network was trained for.
        network: The network.
        description: What its model folder records.
        estimator: Estimates of its errors, if there are any.

    Note:
        A network sees which cells around an element belong to D, but not whether u is given where D ends. On a grid
        with faces that are not in ``grid.dirichlet``, or with inactive elements, it can be trained and used, but takes
        a patch that ends on ∂D for the same whichever it is; nothing is promised of its accuracy there.

    Example:
        >>> model = NNLOD.load("lognormal-0.5")
        >>> grid = model.grid
        >>> A = np.exp(np.random.default_rng(0).standard_normal(grid.coefficient_shape))
        >>> model.solve(grid, A).shape
        (17, 17)
    """

    def __init__(
        self, grid: Grid, network: nn.Module, description: dict[str, Any], estimator: ErrorEstimator | None = None
    ) -> None:
        self.grid, self.network, self.description = grid, network.eval(), description
        self.estimator = estimator
        self._rows: Tensor | None = None

    @classmethod
    def load(
        cls, folder: str | Path, grid: Grid | None = None, device: str = "cpu", network: nn.Module | None = None
    ) -> NNLOD:
        """Load a model folder. Executes no code from it.

        Args:
            folder: The folder that ``nnlod train`` wrote, or the name of a model that comes with the package,
                such as ``"lognormal-0.5"``; see :func:`nnlod_fenics.network.shipped_models`.
            grid: The grid it must have been trained for; any if None.
            device: Where to compute.
            network: The module that gets the weights, for a model of a network that is not registered.

        Returns:
            The surrogate.

        Raises:
            InputError: If there is no whole model, or one of another grid or a newer version.
        """
        path = find_model(folder)
        description = read_model(path)
        own = _grid(path, description["grid"])
        if grid is not None and grid != own:
            trained, asked = told_apart(own, grid)
            raise InputError(f"model {str(folder)!r} was trained for {trained}, not for {asked}.")
        if network is None:
            network = build_network(description["network"]["name"], own, **description["network"]["options"])
        checksums = description.get("checksums", {})
        load_weights(path, network, checksums.get(WEIGHTS))
        place, estimator = find_device(device, "device"), None
        if has_estimator(path, description):
            estimator = load_estimator(path, own, checksums.get(ERRORS))
        return cls(own, network.to(place), description, None if estimator is None else estimator.to(place))

    def save(self, folder: str | Path) -> Path:
        """Write a model folder.

        Args:
            folder: Where; a model that is there is replaced.

        Returns:
            The folder.
        """
        self.description = save_model(Path(folder), self.description, self.network, self.estimator)
        return Path(folder)

    def check_grid(self, grid: Grid) -> None:
        """Check that the model serves a discretisation.

        Raises:
            InputError: If it does not; names both.
        """
        if grid != self.grid:
            own, other = told_apart(self.grid, grid)
            raise InputError(f"model is of grid {own}, it cannot be used for {other}.")

    @property
    def law(self) -> dict[str, Any]:
        """The law of the fields that it was trained on, for :func:`nnlod_fenics.make_field`.

        Raises:
            InputError: If it was trained on data without one.
        """
        law = self.description.get("training_set", {}).get("field")
        if not law:
            raise InputError(
                "this model was trained on data of no known law, so that no field can be drawn for it; give a "
                "coefficient or a law."
            )
        return dict(law)

    @property
    def test_loss(self) -> float:
        """Loss (4.1) on the test set of its training data."""
        loss = self.description["losses"].get("test")
        return float("nan") if loss is None else float(loss)

    def out_of_range(self, grid: Grid, A: npt.ArrayLike) -> float:
        """How far log A lies outside the range of the training fields, in units of that range; 0 inside.

        For a network that is homogeneous the level of A is of no account.

        Args:
            grid: The discretisation.
            A: Coefficient on T_ε.

        Returns:
            The largest distance of a value.
        """
        Z = self._log(grid, A)[grid.active_cells]
        low, high = self.description["training_set"]["range_of_Z"]
        if _is_homogeneous(self.network):
            middle = (low + high) / 2
            known = (low - middle, high - middle)
            low, high = self.description["training_set"].get("range_of_deviations", known)
            Z = Z - Z.mean()
        return float(max(low - Z.min(), Z.max() - high, 0.0) / ((high - low) or 1.0))

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return next(self.network.parameters()).device

    def local_matrices(self, grid: Grid, A: npt.ArrayLike, trust: float | None = None) -> Array:
        """Predict the local matrices of all elements in one batch.

        Args:
            grid: The discretisation, that of the model.
            A: Scalar coefficient on T_ε, shape ``grid.coefficient_shape``.
            trust: Tolerance of the relative error ‖Ŝ_T − S_T‖ / ‖S_T‖: matrices whose estimated error exceeds it are
                computed exactly, by condensation. None: all are predicted.

        Returns:
            Shape ``(num_elements, (2ℓ+2)^d, 2^d)``, padded; rows of nodes outside D are zero, and so are the matrices
            of inactive elements.

        Raises:
            InputError: If A does not fit, or the model has no error estimates.
            NumericalError: If the prediction is not finite.
        """
        check_trust(trust)
        Z = self._log(grid, A)
        S = np.asarray(self._predict_logarithms(_as_tensor(Z))[0].cpu().numpy())
        if trust is not None:
            trusted = self._estimates(Z) <= trust  # whatever is not known to be small is computed
            doubtful = np.flatnonzero(~trusted)
            if len(doubtful):
                S[doubtful] = local_matrices(self.grid, A, elements=doubtful)
        if not np.isfinite(S).all():
            raise NumericalError(
                f"the network overflows on this field, {self.out_of_range(grid, A):.1f} training ranges outside of "
                "what it was trained on; use trust, or method lod."
            )
        return S

    def error_estimates(self, grid: Grid, A: npt.ArrayLike) -> Array:
        """Estimate the relative errors of the predicted local matrices.

        Args:
            grid: The discretisation, that of the model.
            A: Coefficient on T_ε.

        Returns:
            Shape ``(num_elements,)``; infinite where a patch lies outside the range of the training fields, zero for
            inactive elements. See :mod:`nnlod_fenics.network.trust`.

        Raises:
            InputError: If A does not fit, or the model has no error estimates.
        """
        return self._estimates(self._log(grid, A))

    def _estimates(self, Z: Array) -> Array:
        if self.estimator is None:
            raise InputError(
                "this model has no error estimates of this version of nnlod-fenics; nnlod train and "
                "nnlod_fenics.training.refit_error_estimates make them."
            )
        with torch.inference_mode():
            return np.asarray(self.estimator(_as_tensor(Z).to(self.device))[0].double().cpu().numpy())

    def _log(self, grid: Grid, A: npt.ArrayLike) -> Array:
        self.check_grid(grid)
        # contiguous: NumPy rounds the logarithms of other layouts differently
        return np.asarray(np.log(np.ascontiguousarray(check_positive_field(grid, A))))

    def predict(self, grid: Grid, A: npt.ArrayLike | Tensor) -> Tensor:
        """Predict the local matrices for many coefficients, on the device of the network.

        Args:
            grid: The discretisation, that of the model.
            A: Coefficients on T_ε, shape ``(n, 1/ε, …)``: an array, or a tensor of any real type on any device. Cells
                of inactive elements do not count.

        Returns:
            Float64, shape ``(n, num_elements, (2ℓ+2)^d, 2^d)``, on the device of the network.

        Raises:
            InputError: If A does not fit.

        Note:
            As many fields are treated at a time as bounds the memory beside the result.
        """
        self.check_grid(grid)
        tensor = A.detach() if isinstance(A, Tensor) else torch.from_numpy(self._floats(A).copy())
        return self._predict_logarithms(self._checked(tensor).double().log())

    def _floats(self, A: npt.ArrayLike) -> Array:
        """Coefficients as an array, with something positive in the cells of inactive elements."""
        if self.grid.inactive:
            array = as_numbers("A", A)
            if array.shape[1:] == self.grid.coefficient_shape:
                A = np.where(self.grid.active_cells, array, 1.0)
        return as_floats("A", A)

    def _predict_logarithms(self, Z: Tensor) -> Tensor:
        shape = (len(Z), self.grid.num_elements, *self.grid.local_matrix_shape)
        result = torch.empty(shape, dtype=torch.float64, device=self.device)
        at_a_time = max(_ELEMENTS // self.grid.num_elements, 1)
        with torch.inference_mode(), sharing_cores():
            for start in range(0, len(Z), at_a_time):
                result[start : start + at_a_time] = self._predict(Z[start : start + at_a_time].to(self.device))
        return result

    def _checked(self, A: Tensor) -> Tensor:
        """Coefficients that are positive, and one in the cells of inactive elements."""
        expected = self.grid.coefficient_shape
        if A.is_complex() or A.dtype is torch.bool or tuple(A.shape[1:]) != expected or A.ndim != 1 + len(expected):
            given = f"shape {tuple(A.shape)} of {A.dtype}"
            raise InputError(f"A must be real of shape (n, {', '.join(map(str, expected))}), got {given}.")
        if self.grid.inactive:
            A = A.masked_fill(~torch.from_numpy(self.grid.active_cells).to(A.device), 1)
        if not bool(torch.isfinite(A).all()):
            raise InputError("A must be finite, got NaN or infinite values.")
        if not bool((A > 0).all()):
            raise InputError(f"A must be positive, got values down to {float(A.min()):g}.")
        return A

    def _predict(self, Z: Tensor) -> Tensor:
        layers = (self.grid.ell * self.grid.cells_per_element,) * (2 * self.grid.dim)
        # a homogeneous network need not see how large the field is, which float32 would round
        level = level_of(self.grid, Z.double()) * float(_is_homogeneous(self.network))
        active = torch.from_numpy(self.grid.active_cells).to(Z.device)
        padded, inside = (pad(v.float(), layers) for v in ((Z - level) * active, active.expand(Z.shape)))
        predicted = forward_of_field(self.network, self.grid, padded, inside).double()
        rows = self._rows_in_domain()
        if hasattr(self.network, "project"):  # once more: zero sums to the rounding of float64, not of float32
            flat = self.network.project(predicted.flatten(0, 1), rows.repeat(len(Z), 1, 1))
            predicted = flat.reshape(predicted.shape)
        return predicted * level.exp().reshape(-1, 1, 1, 1) * rows

    def _rows_in_domain(self) -> Tensor:
        """Which rows are not zero, see :func:`rows_in_domain`, shape ``(num_elements, (2ℓ+2)^d, 1)``."""
        if self._rows is None:
            self._rows = torch.from_numpy(rows_in_domain(self.grid)).to(self.device)[..., None]
        return self._rows

    def coarse_matrix(self, grid: Grid, A: npt.ArrayLike, comm: Any = None, trust: float | None = None) -> Any:
        """Predict the coarse operator.

        Args:
            grid: The discretisation, that of the model.
            A: Coefficient on T_ε.
            comm: Communicator of the matrix; COMM_SELF if None.
            trust: See :meth:`local_matrices`.

        Returns:
            PETSc matrix, see :func:`nnlod_fenics.coarse_matrix`.
        """
        from nnlod_fenics.lod.distributed import coarse_matrix

        return coarse_matrix(grid, self.local_matrices(grid, A, trust), **({} if comm is None else {"comm": comm}))

    def solve(self, grid: Grid, A: npt.ArrayLike, f: Source | Problem = 1.0, trust: float | None = None) -> Array:
        """Predict the coarse solution.

        Args:
            grid: The discretisation, that of the model.
            A: Coefficient on T_ε.
            f: Source or problem, see :func:`nnlod_fenics.solve_coarse`.
            trust: See :meth:`local_matrices`.

        Returns:
            Coarse nodal values, shape ``grid.node_shape``, NaN at nodes of no active element.
        """
        S = self.local_matrices(grid, A, trust)
        return solve_coarse(grid, coarse_operator(grid, S, boundary=isinstance(f, Problem)), f)


def _is_homogeneous(network: nn.Module) -> bool:
    """Whether S(Z + c) = e^c S(Z) holds for a network."""
    return bool(getattr(network, "homogeneous", False))


def _as_tensor(values: npt.NDArray[np.float64]) -> Tensor:
    """One field as a batch; a copy, for PyTorch takes no arrays that are read-only or run backwards."""
    return torch.from_numpy(values[None].copy())


def _grid(folder: Path, given: dict[str, Any]) -> Grid:
    try:
        return Grid.from_dict(given)
    except (InputError, TypeError, ValueError) as error:
        raise InputError(f"model {str(folder)!r} is damaged: its grid is none ({str(error).rstrip('.')}).") from None
