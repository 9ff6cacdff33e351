"""How far a prediction can be trusted: an error estimate for each patch, learned from exact local matrices.

Two parts. In the range of the training fields a small network maps the features of a patch to a quantile of the
relative error of its local matrix; a constant factor then makes the quantile right on fields that neither network has
seen (split conformal prediction, Romano, Patterson & Candès 2019). Outside the range nothing has been learned and the
estimate is infinite: where a feature is larger or smaller than in any training field, or all of them together lie
farther out, in the Mahalanobis distance, than those of the training fields.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from nnlod_fenics.errors import InputError
from nnlod_fenics.network.patch_features import count_features, patch_features
from nnlod_fenics.network.storage import ERRORS, load_tensors
from nnlod_fenics.network.windows import active_cells, crop, level_of
from nnlod_fenics.window import INSIDE, Window

__all__ = ["ErrorEstimator", "check_trust", "fit_error_estimator", "load_estimator"]


def check_trust(trust: Any) -> None:
    """Check a tolerance of the errors of predicted local matrices.

    Raises:
        InputError: If it is neither None nor a positive number.
    """
    if trust is not None and (isinstance(trust, bool) or not isinstance(trust, (int, float)) or not trust > 0):
        raise InputError(f"trust must be a positive tolerance, got {trust!r}.")


_VERSION = 2  # of the features and the estimator; files of another version count as none
QUANTILE = 0.95  # of the errors of patches with the same features lie below the estimate
IN_RANGE = 0.9995  # of the training patches are not farther out than what counts as the training range
_MARGIN = 0.05  # of the range of a feature, by which the few fields that it is known from may miss its ends
_FIELDS = 16  # whose features are computed at a time
_WIDTH, _STEPS, _BATCH = 64, 500, 1024


class ErrorEstimator(nn.Module):
    """Relative errors ‖Ŝ_T − S_T‖ / ‖S_T‖ that are exceeded with probability 1 − :data:`QUANTILE` only.

    Args:
        window: What local matrices depend on.
    """

    scale: Tensor
    mean: Tensor
    whitening: Tensor
    farthest: Tensor
    lowest: Tensor
    highest: Tensor
    factor: Tensor
    version: Tensor

    def __init__(self, window: Window) -> None:
        super().__init__()
        n = count_features()
        self.window = window
        self.layers = nn.Sequential(
            nn.Linear(n, _WIDTH), nn.SiLU(), nn.Linear(_WIDTH, _WIDTH), nn.SiLU(), nn.Linear(_WIDTH, 1)
        )
        for name in ("scale", "mean", "lowest", "highest"):
            self.register_buffer(name, torch.ones(n))
        for name, shape in (("whitening", (n, n)), ("farthest", ()), ("factor", ())):
            self.register_buffer(name, torch.ones(shape))
        self.register_buffer("version", torch.tensor(_VERSION))

    def forward(self, Z: Tensor, marks: Tensor) -> Tensor:
        """Estimate the errors of all patches of fields.

        Args:
            Z: log A on T_ε, shape ``(n, 1/ε, …)``.
            marks: What elements are, with one layer around the box, shape ``(n, 1/H + 2, …)`` or ``(1, …)``.

        Returns:
            Shape ``(n, num_elements)``; zero for inactive elements, whose matrices are known to be zero.
        """
        logarithms = self._logarithms(_features(self.window, Z, marks))
        white = self._white(logarithms)
        unlike = ((logarithms < self.lowest) | (logarithms > self.highest)).any(dim=1)
        unlike |= white.square().mean(dim=1) > self.farthest
        estimate = self.quantile(white).exp() * self.factor
        active = _active_elements(marks, self.window.dim, len(Z)).to(estimate.device)
        result = estimate.new_zeros(active.shape)
        result[active] = estimate.masked_fill(unlike, torch.inf)
        return result

    def white(self, features: Tensor) -> Tensor:
        """Features with mean zero and unit covariance on the training fields."""
        return self._white(self._logarithms(features))

    def _white(self, logarithms: Tensor) -> Tensor:
        return (logarithms - self.mean) @ self.whitening

    def quantile(self, white: Tensor) -> Tensor:
        """Quantile of the logarithm of the error."""
        result: Tensor = self.layers(white).squeeze(-1)
        return result

    def _logarithms(self, features: Tensor) -> Tensor:
        return (features.clamp(min=0) + self.scale).log()

    def set_range(self, features: Tensor) -> None:
        """Learn where the training fields lie."""
        self.scale.copy_(0.01 + 0.1 * features.mean(dim=0))
        logarithms = self._logarithms(features).double()
        centered = logarithms - logarithms.mean(dim=0)
        values, vectors = torch.linalg.eigh(centered.T @ centered / len(centered))
        self.mean.copy_(logarithms.mean(dim=0))
        self.whitening.copy_(vectors / (values + 1e-4 * values.max()).sqrt())
        low, high = logarithms.min(dim=0).values, logarithms.max(dim=0).values
        self.lowest.copy_(low - _MARGIN * (high - low))
        self.highest.copy_(high + _MARGIN * (high - low))
        distances = self.white(features).square().mean(dim=1)
        self.farthest.copy_(torch.tensor(np.quantile(distances.numpy(), IN_RANGE)))


def _active_elements(marks: Tensor, dim: int, count: int) -> Tensor:
    """Which elements lie in D, shape ``(count, num_elements)``, for fields with marks of their own or common ones."""
    return (crop(marks, 1, dim) == INSIDE).flatten(1).expand(count, -1)


def _features(window: Window, Z: Tensor, marks: Tensor) -> Tensor:
    """Features of the active elements of many fields, in float32 and a few fields at a time."""
    parts = []
    for start in range(0, len(Z), _FIELDS):  # nothing depends on the level, and float32 would round
        some = Z[start : start + _FIELDS]
        own = marks[start : start + _FIELDS] if len(marks) > 1 else marks
        level = level_of(some, active_cells(own, window).to(some.device))
        parts.append(patch_features(window, (some - level).float(), own))
    return torch.cat(parts)


def fit_error_estimator(
    window: Window,
    training_fields: tuple[Tensor, Tensor],
    fields: tuple[Tensor, Tensor],
    errors: npt.NDArray[np.float64] | Tensor,
    seed: int = 0,
) -> ErrorEstimator:
    """Learn error estimates.

    Args:
        window: What local matrices depend on.
        training_fields: Fields Z = log A that the surrogate was trained on, shape ``(k, 1/ε, …)``: its range; and the
            marks of their elements, see :func:`nnlod_fenics.window.domain_marks`, shape ``(k, 1/H + 2, …)`` or
            ``(1, …)``.
        fields: Other fields with their marks, likewise; the last fifth, at least one, sets the factor.
        errors: Relative errors of their local matrices, shape ``(n, num_elements)``; those of inactive elements do not
            count.
        seed: Seed of the initial weights and the order of the samples.

    Returns:
        The estimator.

    Raises:
        InputError: If there are no fields, or the shapes do not fit.
    """
    errors = torch.as_tensor(errors, dtype=torch.float32)
    active = _active_elements(fields[1], window.dim, len(fields[0])).cpu()
    if not len(active) or errors.shape != active.shape:
        raise InputError(f"errors must have shape {tuple(active.shape)}, of some fields, got {tuple(errors.shape)}.")
    fitted = max(len(active) - max(len(active) // 5, 1), 1)
    split = int(active[:fitted].sum())  # with a single field all of it is fitted, and all of it sets the factor
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        estimator = ErrorEstimator(window)
        estimator.set_range(_features(window, *training_fields))
        with torch.no_grad():
            white = estimator.white(_features(window, *fields))
        logarithms = errors[active].clamp(min=1e-12).log()
        _fit_quantile(estimator, white[:split], logarithms[:split])
        held_out = slice(split if split < len(white) else 0, None)
        with torch.no_grad():
            beyond = logarithms[held_out] - estimator.quantile(white[held_out])
            estimator.factor.copy_(torch.tensor(np.quantile(beyond.numpy(), QUANTILE)).exp())
    return estimator.eval()


def _fit_quantile(estimator: ErrorEstimator, white: Tensor, logarithms: Tensor) -> None:
    """Minimise the pinball loss, whose minimiser is the conditional quantile (Koenker & Bassett 1978)."""
    with torch.no_grad():
        last: Any = estimator.layers[-1]
        last.bias.fill_(float(np.quantile(logarithms.numpy(), QUANTILE)))
    optimizer = torch.optim.AdamW(estimator.layers.parameters(), lr=3e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _STEPS)
    for _ in range(_STEPS):
        drawn = torch.randint(len(white), (min(len(white), _BATCH),))
        beyond = logarithms[drawn] - estimator.quantile(white[drawn])
        loss = torch.maximum(QUANTILE * beyond, (QUANTILE - 1) * beyond).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()


def load_estimator(folder: Path, window: Window, checksum: str | None = None) -> ErrorEstimator | None:
    """The estimator of a model folder, if it is one of this version.

    Args:
        folder: The folder, with the file of an estimator.
        window: What local matrices depend on.
        checksum: What the file must have, if it is known.

    Raises:
        InputError: If the file is damaged.
    """
    estimator = ErrorEstimator(window)
    tensors: dict[str, Any] = load_tensors(folder / ERRORS, checksum)
    version = tensors.get("version")
    if version is None or version.numel() != 1 or int(version) != _VERSION:
        return None
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
        raise InputError(f"file {str(folder / ERRORS)!r} is damaged: it has NaN or infinite values.")
    try:
        estimator.load_state_dict(tensors)
    except RuntimeError:
        raise InputError(f"file {str(folder / ERRORS)!r} is damaged: not the tensors of an error estimator.") from None
    return estimator.eval()
