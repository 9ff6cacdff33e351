"""Datasets of random fields and their local matrices: layout, generation under MPI, reading."""

from nnlod_fenics.dataset.reading import Dataset, Split

__all__ = ["Dataset", "Split"]
