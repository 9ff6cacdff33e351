"""Networks in the place of corrector problems: registry, architectures, storage, inference, trust.

Needs neither datasets nor training. Modules: ``registry`` (networks by name, what one must be), ``structured``,
``paper``, ``equivariant`` (architectures and their layers), ``model`` (NN-LOD), ``storage`` and ``shipped`` (model
folders), ``trust`` and ``patch_features`` (error estimates), ``loss``, ``windows``.
"""

from nnlod_fenics.network.loss import matrix_errors, relative_loss
from nnlod_fenics.network.model import NNLOD
from nnlod_fenics.network.registry import build_network, count_parameters
from nnlod_fenics.network.shipped import shipped_models

__all__ = ["NNLOD", "build_network", "count_parameters", "matrix_errors", "relative_loss", "shipped_models"]
