"""Networks in the place of corrector problems: registry, architectures, storage, inference, trust.

Needs neither datasets nor training. Modules: ``registry`` and ``check`` (networks by name, what one must be),
``structured``, ``paper``, ``equivariant`` (architectures and their layers), ``model`` (NN-LOD), ``storage`` and
``shipped`` (model folders), ``trust`` and ``patch_features`` (error estimates), ``export`` (files that other programs
run), ``loss``, ``windows``.
"""

from nnlod_fenics.network.export import export_network
from nnlod_fenics.network.loss import matrix_errors, relative_loss
from nnlod_fenics.network.model import NNLOD
from nnlod_fenics.network.registry import Network, build_network, check_network, count_parameters, register_network
from nnlod_fenics.network.shipped import shipped_models

__all__ = [
    "NNLOD",
    "Network",
    "build_network",
    "check_network",
    "count_parameters",
    "export_network",
    "matrix_errors",
    "register_network",
    "relative_loss",
    "shipped_models",
]
