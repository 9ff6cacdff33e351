"""Error estimates of a trained model, from data that it was not trained on."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nnlod_fenics.dataset.reading import Dataset
from nnlod_fenics.errors import InputError
from nnlod_fenics.grid import told_apart
from nnlod_fenics.network.loss import matrix_errors
from nnlod_fenics.network.model import NNLOD
from nnlod_fenics.network.trust import fit_error_estimator
from nnlod_fenics.training.data import TrainingData

__all__ = ["refit_error_estimates"]

Array = npt.NDArray[Any]
_RANGE = 200  # training fields that tell the range of the estimates


def refit_error_estimates(
    model: NNLOD, data: Dataset | TrainingData, seed: int = 0, training_fields: Array | Tensor | None = None
) -> None:
    """Learn how large the errors of a model are, as its training does; the network stays as it is.

    Args:
        model: The model; gets the estimates. ``model.save(folder)`` keeps them.
        data: The dataset that it was trained on: its training fields give the range of the estimates, its validation
            set the errors.
        seed: Seed of the fit.
        training_fields: Training fields, shape ``(k, 1/ε, …)``; those of ``data`` if None.

    Raises:
        InputError: If the data are of another grid or law than the model.
    """
    data = data if isinstance(data, TrainingData) else TrainingData.of(data)
    if data.grid != model.grid:
        own, given = told_apart(model.grid, data.grid)
        raise InputError(f"data must be of the model's grid {own}, got {given}.")
    law = model.description.get("training_set", {}).get("field")
    if law is not None and law != data.identity.get("field", law):
        raise InputError(f"data must be of the model's field {law}, got {data.identity['field']}.")
    some = torch.as_tensor((data.epoch(0)[0] if training_fields is None else training_fields)[:_RANGE]).cpu()
    Z, S = (torch.as_tensor(values) for values in data.validation)
    predicted = np.concatenate([model.predict(model.grid, part.double().exp()).cpu().numpy() for part in Z.split(16)])
    errors = matrix_errors(predicted, S.cpu())
    model.estimator = fit_error_estimator(model.grid, some, Z.cpu(), errors, seed).to(model.device)
