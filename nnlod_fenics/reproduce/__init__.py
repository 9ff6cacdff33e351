"""The paper's experiments, from data to report."""

from nnlod_fenics.reproduce.experiments import EXPERIMENTS, SCALES, Scale
from nnlod_fenics.reproduce.run import reproduce

__all__ = ["EXPERIMENTS", "SCALES", "Scale", "reproduce"]
