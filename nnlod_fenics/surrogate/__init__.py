"""The surrogate: networks, loss, training, and NN-LOD itself."""

from nnlod_fenics.surrogate.blocks import Blocks
from nnlod_fenics.surrogate.data import TrainingData
from nnlod_fenics.surrogate.export import export_network
from nnlod_fenics.surrogate.loss import matrix_errors, relative_loss
from nnlod_fenics.surrogate.model import NNLOD
from nnlod_fenics.surrogate.networks import (
    NETWORKS,
    Network,
    build_network,
    check_network,
    count_parameters,
    forward_of_field,
    register_network,
)
from nnlod_fenics.surrogate.refit import refit_error_estimates
from nnlod_fenics.surrogate.settings import PAPER, TrainingSettings
from nnlod_fenics.surrogate.shipped import shipped_models
from nnlod_fenics.surrogate.training import evaluate_loss, train, train_from_config

__all__ = [
    "NETWORKS",
    "NNLOD",
    "PAPER",
    "Blocks",
    "Network",
    "TrainingData",
    "TrainingSettings",
    "build_network",
    "check_network",
    "count_parameters",
    "evaluate_loss",
    "export_network",
    "forward_of_field",
    "matrix_errors",
    "refit_error_estimates",
    "register_network",
    "relative_loss",
    "shipped_models",
    "train",
    "train_from_config",
]
