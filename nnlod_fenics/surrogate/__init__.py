"""The surrogate: networks, loss, training, and NN-LOD itself."""

from nnlod_fenics.surrogate.loss import relative_loss
from nnlod_fenics.surrogate.model import NNLOD
from nnlod_fenics.surrogate.networks import NETWORKS, build_network, count_parameters
from nnlod_fenics.surrogate.settings import TrainingSettings
from nnlod_fenics.surrogate.training import evaluate_loss, train

__all__ = [
    "NETWORKS",
    "NNLOD",
    "TrainingSettings",
    "build_network",
    "count_parameters",
    "evaluate_loss",
    "relative_loss",
    "train",
]
