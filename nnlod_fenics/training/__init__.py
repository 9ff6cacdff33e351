"""Training of networks: data, settings, the loop, one process or many.

Modules: ``fit`` (from data to a model folder), ``run`` (steps and checkpoints), ``data`` and ``online`` (what is
trained on), ``blocks`` and ``augment`` (samples), ``processes`` (data-parallel training), ``refit`` (error estimates).
"""

from nnlod_fenics.config.training import PAPER, TrainingSettings
from nnlod_fenics.training.blocks import Blocks, Samples
from nnlod_fenics.training.data import TrainingData
from nnlod_fenics.training.fit import evaluate_loss, train
from nnlod_fenics.training.refit import refit_error_estimates

__all__ = [
    "PAPER",
    "Blocks",
    "Samples",
    "TrainingData",
    "TrainingSettings",
    "evaluate_loss",
    "refit_error_estimates",
    "train",
]
