"""Datasets of random fields and their local matrices: layout, generation under MPI, reading, checks.

Modules: ``layout`` (the files), ``folder`` (who may write), ``schedule`` (who computes what), ``generate``,
``reading``, ``verify``, ``combine`` (merge and split), ``patches`` and ``online`` (what networks train on).
"""

from nnlod_fenics.dataset.reading import Dataset, Split

__all__ = ["Dataset", "Split"]
