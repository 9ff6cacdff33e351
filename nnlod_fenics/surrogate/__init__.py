"""The surrogate: networks, loss, training, and NN-LOD itself."""

from nnlod_fenics.surrogate.blocks import Blocks
from nnlod_fenics.surrogate.data import TrainingData
from nnlod_fenics.surrogate.loss import matrix_errors, relative_loss
from nnlod_fenics.surrogate.model import NNLOD
from nnlod_fenics.surrogate.networks import NETWORKS, build_network, count_parameters
from nnlod_fenics.surrogate.refit import refit_error_estimates
from nnlod_fenics.surrogate.settings import PAPER, TrainingSettings
from nnlod_fenics.surrogate.shipped import shipped_models
from nnlod_fenics.surrogate.training import evaluate_loss, train, train_from_config

__all__ = [
    "NETWORKS",
    "NNLOD",
    "PAPER",
    "Blocks",
    "TrainingData",
    "TrainingSettings",
    "build_network",
    "count_parameters",
    "evaluate_loss",
    "matrix_errors",
    "refit_error_estimates",
    "relative_loss",
    "shipped_models",
    "train",
    "train_from_config",
]
