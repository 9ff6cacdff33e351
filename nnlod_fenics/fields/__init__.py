"""Random diffusion coefficients: covariance models, exact sampling, laws."""

from nnlod_fenics.fields.covariance import covariance_model, matern
from nnlod_fenics.fields.embedding import CirculantEmbedding
from nnlod_fenics.fields.laws import (
    FieldLaw,
    FieldSample,
    HierarchicalField,
    LognormalField,
    UniformlyEllipticField,
    make_field,
)

__all__ = [
    "CirculantEmbedding",
    "FieldLaw",
    "FieldSample",
    "HierarchicalField",
    "LognormalField",
    "UniformlyEllipticField",
    "covariance_model",
    "make_field",
    "matern",
]
