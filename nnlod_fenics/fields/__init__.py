"""Random diffusion coefficients: covariance models, exact sampling, laws and their registry."""

from nnlod_fenics.fields.composite import MixtureField, SumField
from nnlod_fenics.fields.covariance import covariance_model, matern
from nnlod_fenics.fields.directed import LayeredField, TrendField
from nnlod_fenics.fields.embedding import CirculantEmbedding
from nnlod_fenics.fields.hierarchical import HierarchicalField
from nnlod_fenics.fields.laws import (
    PARAMETERS,
    FieldLaw,
    FieldSample,
    check_law,
    check_sample,
    names_of_parameters,
    settings_of_law,
)
from nnlod_fenics.fields.lognormal import LognormalField
from nnlod_fenics.fields.registry import FieldKey, check_field, describe_fields, import_laws, make_field, register_field
from nnlod_fenics.fields.twophase import TwoPhaseField
from nnlod_fenics.fields.uniform import UniformlyEllipticField

__all__ = [
    "PARAMETERS",
    "CirculantEmbedding",
    "FieldKey",
    "FieldLaw",
    "FieldSample",
    "HierarchicalField",
    "LayeredField",
    "LognormalField",
    "MixtureField",
    "SumField",
    "TrendField",
    "TwoPhaseField",
    "UniformlyEllipticField",
    "check_field",
    "check_law",
    "check_sample",
    "covariance_model",
    "describe_fields",
    "import_laws",
    "make_field",
    "matern",
    "names_of_parameters",
    "register_field",
    "settings_of_law",
]
