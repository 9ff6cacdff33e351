"""Error estimates of a trained model, from data that it was not trained on."""

from __future__ import annotations

import numpy as np
import torch

from nnlod_fenics.dataset.reading import Dataset
from nnlod_fenics.errors import InputError
from nnlod_fenics.network.loss import matrix_errors
from nnlod_fenics.network.model import NNLOD
from nnlod_fenics.network.trust import fit_error_estimator
from nnlod_fenics.training.data import Arrays, TrainingData
from nnlod_fenics.window import element_size

__all__ = ["refit_error_estimates"]

_RANGE = 200  # training fields that tell the range of the estimates


def refit_error_estimates(
    model: NNLOD, data: Dataset | TrainingData, seed: int = 0, training: Arrays | None = None
) -> None:
    """Learn how large the errors of a model are, as its training does; the network stays as it is.

    Args:
        model: The model; gets the estimates. ``model.save(folder)`` keeps them.
        data: The dataset that it was trained on: its training fields give the range of the estimates, its validation
            set the errors.
        seed: Seed of the fit.
        training: Training fields with their local matrices; those of ``data`` if None.

    Raises:
        InputError: If the data are of another grid or law than the model.
    """
    data = data if isinstance(data, TrainingData) else TrainingData.of(data)
    model.window.check(data.window, "data for this model")
    law = model.description.get("training_set", {}).get("field")
    if law is not None and law != data.identity.get("field", law):
        raise InputError(f"data must be of the model's field {law}, got {data.identity['field']}.")
    trained = data.samples(data.epoch(0) if training is None else training)
    held_out, columns = data.samples(data.validation), model.window.matrix_shape[1]
    errors = []
    for k in range(len(held_out.Z)):
        own = held_out.marks[k : k + 1] if len(held_out.marks) > 1 else held_out.marks
        predicted = model.predict_marked(
            torch.as_tensor(held_out.Z[k : k + 1]).double(), torch.as_tensor(own), element_size(data.grid)
        )
        errors.append(
            matrix_errors(predicted[0, ..., :columns].cpu(), torch.as_tensor(held_out.S[k])[..., :columns].cpu())
        )
    some, fields = (
        (torch.as_tensor(part.Z[:most]).cpu(), torch.as_tensor(part.marks[:most]).cpu())
        for part, most in ((trained, _RANGE), (held_out, None))
    )
    model.estimator = fit_error_estimator(model.window, some, fields, np.stack(errors), seed).to(model.device)
