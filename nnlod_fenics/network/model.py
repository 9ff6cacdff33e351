"""NN-LOD: a trained network in the place of the corrector problems."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from nnlod_fenics.arrays import as_floats, as_numbers
from nnlod_fenics.coefficient import check_positive_field
from nnlod_fenics.errors import InputError, NumericalError
from nnlod_fenics.grid import Grid
from nnlod_fenics.loads import element_means, load_vector
from nnlod_fenics.lod.coarse import CoarseSolver, apply_local, coarse_operator, is_galerkin, sum_local
from nnlod_fenics.lod.local import local_matrices
from nnlod_fenics.network.registry import build_network, forward_of_field
from nnlod_fenics.network.shipped import find_model
from nnlod_fenics.network.storage import (
    ERRORS,
    WEIGHTS,
    has_estimator,
    load_weights,
    read_model,
    save_model,
    window_of,
)
from nnlod_fenics.network.trust import ErrorEstimator, check_trust, load_estimator
from nnlod_fenics.network.windows import active_cells, level_of, nodes_of_patches, pad_cells, pad_marks, windows
from nnlod_fenics.problem import Problem, Source
from nnlod_fenics.runtime.devices import find_device, sharing_cores
from nnlod_fenics.window import INSIDE, PETROV_GALERKIN, Window, domain_marks, element_size

__all__ = ["NNLOD"]

Array = npt.NDArray[np.float64]

_ELEMENTS = 16384  # whose matrices are predicted at a time; some 10 kB each


class NNLOD:
    """A trained surrogate: a coefficient in, local matrices, coarse operator and solution out.

    A model belongs to a window, not to a grid: it serves every box, mask and boundary condition with the same d, H/h,
    H/ε, ℓ and form, of any size.

    Args:
        grid: The discretisation that the network was trained on.
        network: The network.
        description: What its model folder says of it.
        estimator: Estimates of its errors, if there are any.
        form: Form of its local matrices.

    Attributes:
        window: What its local matrices depend on.

    Example:
        >>> model = NNLOD.load("lognormal-0.5")
        >>> model.window.as_dict()
        {'dim': 2, 'ratio': 8, 'cells': 4, 'ell': 2, 'form': 'petrov-galerkin'}
        >>> grid = Grid(dim=2, coarse=(24, 12), fine=(192, 96), ell=2, coefficient=(96, 48), lengths=(2, 1))
        >>> A = np.exp(np.random.default_rng(0).standard_normal(grid.coefficient_shape))
        >>> model.solve(grid, A).shape
        (13, 25)
    """

    def __init__(
        self,
        grid: Grid,
        network: nn.Module,
        description: dict[str, Any],
        estimator: ErrorEstimator | None = None,
        form: str = PETROV_GALERKIN,
    ) -> None:
        self.grid, self.network, self.description = grid, network.eval(), description
        self.window = Window.of(grid, form)
        self.estimator = estimator
        # models of version 0.1 predict the matrices of elements of their own size, later ones those of size one
        self._size = 1.0 if "window" in description else element_size(grid)

    @classmethod
    def load(
        cls, folder: str | Path, grid: Grid | None = None, device: str = "cpu", network: nn.Module | None = None
    ) -> NNLOD:
        """Load a model folder. Executes no code from it.

        Args:
            folder: The folder that ``nnlod train`` wrote, or the name of a model that comes with the package,
                such as ``"lognormal-0.5"``; see :func:`nnlod_fenics.network.shipped_models`.
            grid: A grid that it must serve; any if None.
            device: Where to compute.
            network: The module that gets the weights, for a model of a network that is not registered.

        Returns:
            The surrogate.

        Raises:
            InputError: If there is no whole model, or one of another grid or a newer version.
        """
        path = find_model(folder)
        description = read_model(path)
        own, window = window_of(path, description)
        if grid is not None:
            window.check(Window.of(grid, window.form), f"grid for model {str(folder)!r}")
        if network is None:
            network = build_network(description["network"]["name"], window, **description["network"]["options"])
        checksums = description.get("checksums", {})
        load_weights(path, network, checksums.get(WEIGHTS))
        place, estimator = find_device(device, "device"), None
        if has_estimator(path, description):
            estimator = load_estimator(path, window, checksums.get(ERRORS))
        return cls(own, network.to(place), description, None if estimator is None else estimator.to(place), window.form)

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
            InputError: If it does not; tells both windows.
        """
        self.window.check(Window.of(grid, self.window.form), "grid for this model")

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
        """Predict the local matrices of all elements.

        Args:
            grid: The discretisation, with the window of the model.
            A: Scalar coefficient on T_ε, shape ``grid.coefficient_shape``.
            trust: Tolerance of the relative error ‖Ŝ_T − S_T‖ / ‖S_T‖: matrices whose estimated error exceeds it are
                computed exactly, by condensation. None: all are predicted.

        Returns:
            Shape ``(num_elements, *window.matrix_shape)``, padded; rows of nodes outside D are zero, and so are the
            matrices of inactive elements.

        Raises:
            InputError: If A does not fit, or the model has no error estimates.
            NumericalError: If the prediction is not finite.
        """
        return self.local_system(grid, A, trust)[0]

    def local_system(self, grid: Grid, A: npt.ArrayLike, trust: float | None = None) -> tuple[Array, Array | None]:
        """Predict the local matrices, see :meth:`local_matrices`, and what elements add to the load for f = 1.

        Returns:
            The matrices, and the loads, shape ``(num_elements, (2ℓ+2)^d)``; None if the network does not predict them.
        """
        check_trust(trust)
        Z = self._log(grid, A)
        found = np.asarray(self._predict_logarithms(grid, _as_tensor(Z))[0].cpu().numpy())
        if trust is not None:
            trusted = self._estimates(grid, Z) <= trust  # whatever is not known to be small is computed
            doubtful = np.flatnonzero(~trusted)
            if len(doubtful):
                self._recompute(grid, A, doubtful, found)
        if not np.isfinite(found).all():
            raise NumericalError(
                f"the network overflows on this field, {self.out_of_range(grid, A):.1f} training ranges outside of "
                "what it was trained on; use trust, or method lod."
            )
        columns = self.window.matrix_shape[1]
        return found[..., :columns], found[..., columns] if self.predicts_loads else None

    @property
    def predicts_loads(self) -> bool:
        """Whether the network predicts what elements add to the load."""
        return bool(getattr(self.network, "loads", False))

    def _recompute(self, grid: Grid, A: npt.ArrayLike, elements: npt.NDArray[np.int64], found: Array) -> None:
        """Put exact matrices, and loads, in the place of predicted ones."""
        form, columns = self.window.form, self.window.matrix_shape[1]
        if not self.predicts_loads:
            found[elements] = local_matrices(grid, A, elements=elements, form=form)
            return
        exact, loads = local_matrices(grid, A, elements=elements, form=form, source=Problem())
        found[elements, :, :columns], found[elements, :, columns] = exact, loads

    def error_estimates(self, grid: Grid, A: npt.ArrayLike) -> Array:
        """Estimate the relative errors of the predicted local matrices.

        Args:
            grid: The discretisation, with the window of the model.
            A: Coefficient on T_ε.

        Returns:
            Shape ``(num_elements,)``; infinite where a patch lies outside the range of the training fields, zero for
            inactive elements. See :mod:`nnlod_fenics.network.trust`.

        Raises:
            InputError: If A does not fit, or the model has no error estimates.
        """
        return self._estimates(grid, self._log(grid, A))

    def _estimates(self, grid: Grid, Z: Array) -> Array:
        if self.estimator is None:
            raise InputError(
                "this model has no error estimates of this version of nnlod-fenics; nnlod train and "
                "nnlod_fenics.training.refit_error_estimates make them."
            )
        marks = torch.from_numpy(domain_marks(grid)[None]).to(self.device)
        with torch.inference_mode():
            return np.asarray(self.estimator(_as_tensor(Z).to(self.device), marks)[0].double().cpu().numpy())

    def _log(self, grid: Grid, A: npt.ArrayLike) -> Array:
        self.check_grid(grid)
        # contiguous: NumPy rounds the logarithms of other layouts differently
        return np.asarray(np.log(np.ascontiguousarray(check_positive_field(grid, A))))

    def predict(self, grid: Grid, A: npt.ArrayLike | Tensor) -> Tensor:
        """Predict the local matrices for many coefficients, on the device of the network.

        Args:
            grid: The discretisation, with the window of the model.
            A: Coefficients on T_ε, shape ``(n, 1/ε, …)``: an array, or a tensor of any real type on any device. Cells
                of inactive elements do not count.

        Returns:
            Float64, shape ``(n, num_elements, rows, columns)``, on the device of the network; with one more column,
            what elements add to the load for f = 1, where the network predicts it.

        Raises:
            InputError: If A does not fit.

        Note:
            As many elements are treated at a time as bounds the memory beside the result.
        """
        self.check_grid(grid)
        tensor = A.detach() if isinstance(A, Tensor) else torch.from_numpy(_floats(grid, A).copy())
        return self._predict_logarithms(grid, _checked(grid, tensor).double().log())

    def _predict_logarithms(self, grid: Grid, Z: Tensor) -> Tensor:
        return self.predict_marked(Z, torch.from_numpy(domain_marks(grid)[None]), element_size(grid))

    def predict_marked(self, Z: Tensor, marks: Tensor, size: float) -> Tensor:
        """Predict the local matrices of fields on one domain.

        Args:
            Z: log A on T_ε, shape ``(n, 1/ε, …)``.
            marks: What elements are, with one layer around the box, shape ``(1, 1/H + 2, …)``.
            size: H.

        Returns:
            As :meth:`predict`.
        """
        rows, columns = self.window.matrix_shape
        elements, marks = prod(n - 2 for n in marks.shape[1:]), marks.to(self.device)
        shape = (len(Z), elements, rows, columns + self.predicts_loads)
        result = torch.empty(shape, dtype=torch.float64, device=self.device)
        at_a_time = max(_ELEMENTS // elements, 1)
        with torch.inference_mode(), sharing_cores():
            for start in range(0, len(Z), at_a_time):
                self._predict(Z[start : start + at_a_time].to(self.device), marks, result[start:][:at_a_time])
        result[..., :columns] *= (size / self._size) ** (self.window.dim - 2)
        result[..., columns:] *= (size / self._size) ** self.window.dim
        return result

    def _predict(self, Z: Tensor, marks: Tensor, result: Tensor) -> None:
        """Predict the matrices of some fields, slab by slab of elements."""
        window, active = self.window, active_cells(marks, self.window)
        # a homogeneous network need not see how large the field is, which float32 would round
        level = level_of(Z, active) * float(_is_homogeneous(self.network))
        cells = pad_cells(((Z - level) * active).float(), window)
        domain = pad_marks(marks, window)
        unit, layered = level.exp().reshape(-1, 1, 1, 1), marks.shape[1] - 2
        across, above = result.shape[1] // layered, 2 * window.layers
        slab = max(_ELEMENTS // (across * len(Z)), 1)
        for first in range(0, layered, slab):
            last = min(first + slab, layered)
            part = cells[:, first * window.cells : (last + above) * window.cells]
            place = domain[:, first : last + above]
            found = self._predict_slab(part, place.expand(len(Z), *place.shape[1:]), unit)
            result[:, first * across : last * across] = found

    def _predict_slab(self, cells: Tensor, domain: Tensor, unit: Tensor) -> Tensor:
        columns = self.window.matrix_shape[1]
        predicted = forward_of_field(self.network, self.window, cells, domain).double()
        nodes = nodes_of_patches((domain == INSIDE).double(), self.window).reshape(*predicted.shape[:3], 1)
        predicted[..., :columns] *= unit
        return predicted * nodes

    def windows(self, grid: Grid, A: npt.ArrayLike) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """What the network sees of a coefficient: log A on the windows of all elements, and their marks.

        Args:
            grid: The discretisation, with the window of the model.
            A: Coefficient on T_ε.

        Returns:
            Float32, shapes ``(num_elements, m, …)`` and ``(num_elements, w, …)``, see
            :class:`nnlod_fenics.network.Network`. For exported networks, which take single windows.
        """
        window = self.window
        marks = torch.from_numpy(domain_marks(grid)[None])
        Z = _as_tensor(self._log(grid, A)) * active_cells(marks, window)
        found = []
        for values, step in ((pad_cells(Z.float(), window), window.cells), (pad_marks(marks, window), 1)):
            parts = windows(values, window.dim, window.width * step, step)
            found.append(np.asarray(parts.reshape(grid.num_elements, *parts.shape[1 + window.dim :]).numpy()))
        return found[0], found[1]

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

    def solve(
        self,
        grid: Grid,
        A: npt.ArrayLike,
        f: Source | Problem = 1.0,
        trust: float | None = None,
        source_correctors: bool = False,
    ) -> Array:
        """Predict the coarse solution.

        Args:
            grid: The discretisation, with the window of the model.
            A: Coefficient on T_ε.
            f: Source or problem, see :func:`nnlod_fenics.solve_coarse`.
            trust: See :meth:`local_matrices`.
            source_correctors: Whether the load is corrected, see :func:`corrected_load`; for networks that predict it.

        Returns:
            Coarse nodal values, shape ``grid.node_shape``, NaN at nodes of no active element.
        """
        S, loads = self.local_system(grid, A, trust)
        solver = CoarseSolver(grid, f if isinstance(f, Problem) else Problem(f))
        load = self.corrected_load(grid, solver.problem, loads) if source_correctors else solver.load
        lift = apply_local(grid, S, solver.boundary) if solver.lifted else None
        K = coarse_operator(grid, S)
        if is_galerkin(grid, S):
            return solver.solve_symmetric(K, load, lift)[0]
        return solver.solve(K, load, lift)

    def corrected_load(self, grid: Grid, problem: Problem, loads: Array | None) -> Array:
        """The load of a problem with the fine scales of its source.

        Args:
            grid: The discretisation.
            problem: The problem. On each element the mean of f is corrected; what f varies there, wells and fluxes get
                the plain load. In the Galerkin form an element's load also holds what the source correctors of its
                neighbours add, as if f were the same there: exact for constant f, else up to the error of truncation.
            loads: From :meth:`local_system`.

        Returns:
            At all nodes, shape ``grid.node_shape``.

        Raises:
            InputError: If the network does not predict loads.
        """
        if loads is None:
            raise InputError(
                "source_correctors needs a model that predicts loads, got one that does not; train on a dataset with "
                "dataset.loads=true."
            )
        means = element_means(grid, problem)
        corrected = load_vector(grid, problem) + sum_local(grid, loads * means[:, None])
        plain = np.where(grid.active.ravel(), means, 0.0) * (element_size(grid) / 2) ** grid.dim
        own = np.broadcast_to(plain[:, None], grid.element_nodes.shape)
        shares = np.bincount(grid.element_nodes.ravel(), own.ravel(), minlength=grid.num_nodes)
        return np.asarray(corrected - shares.reshape(grid.node_shape))


def _floats(grid: Grid, A: npt.ArrayLike) -> Array:
    """Coefficients as an array, with something positive in the cells of inactive elements."""
    if grid.inactive:
        array = as_numbers("A", A)
        if array.shape[1:] == grid.coefficient_shape:
            A = np.where(grid.active_cells, array, 1.0)
    return as_floats("A", A)


def _checked(grid: Grid, A: Tensor) -> Tensor:
    """Coefficients that are positive, and one in the cells of inactive elements."""
    expected = grid.coefficient_shape
    if A.is_complex() or A.dtype is torch.bool or tuple(A.shape[1:]) != expected or A.ndim != 1 + len(expected):
        given = f"shape {tuple(A.shape)} of {A.dtype}"
        raise InputError(f"A must be real of shape (n, {', '.join(map(str, expected))}), got {given}.")
    if grid.inactive:
        A = A.masked_fill(~torch.from_numpy(grid.active_cells).to(A.device), 1)
    if not bool(torch.isfinite(A).all()):
        raise InputError("A must be finite, got NaN or infinite values.")
    if not bool((A > 0).all()):
        raise InputError(f"A must be positive, got values down to {float(A.min()):g}.")
    return A


def _is_homogeneous(network: nn.Module) -> bool:
    """Whether S(Z + c) = e^c S(Z) holds for a network."""
    return bool(getattr(network, "homogeneous", False))


def _as_tensor(values: npt.NDArray[np.float64]) -> Tensor:
    """One field as a batch; a copy, for PyTorch takes no arrays that are read-only or run backwards."""
    return torch.from_numpy(values[None].copy())
