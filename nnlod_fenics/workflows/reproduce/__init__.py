"""The paper's experiments, from data to report."""

from nnlod_fenics.workflows.reproduce.experiments import EXPERIMENTS, SCALES, Scale
from nnlod_fenics.workflows.reproduce.run import reproduce

__all__ = ["EXPERIMENTS", "SCALES", "Scale", "reproduce"]
