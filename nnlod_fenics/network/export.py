"""Networks as files that other programs run: PyTorch's exported programs and ONNX."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nnlod_fenics.errors import InputError, MissingDependencyError
from nnlod_fenics.network.check import trial_windows
from nnlod_fenics.runtime.files import replacing
from nnlod_fenics.window import Window

__all__ = ["export_network"]

_SUFFIXES = (".pt2", ".onnx")
_MOST_WINDOWS = 2**31 - 1  # a bound that PyTorch 2.6 asks for
_LARGEST_ONNX = 2**31 - 2**20  # bytes of weights; a Protocol Buffers message ends at 2 GiB


def export_network(network: nn.Module, window: Window, path: str | os.PathLike[str]) -> Path:
    """Write the map from windows to local matrices as a file that runs without this package.

    What is exported is ``S = network.forward(Z, domain)`` on the CPU, for any number n of windows:

    * ``Z``, float32, shape ``(n, m, …, m)`` with m = w H/ε: log A on windows of w = 2L+1 elements along an axis, L
      layers around an element (ℓ in the Petrov–Galerkin form, 2ℓ in the Galerkin form), indexed ``[y, x]``, zero
      outside D;
    * ``domain``, float32, shape ``(n, w, …, w)``: marks of the elements: 1 in D; outside of it 0 beyond a face where
      A ∂u/∂n is given and for inactive elements, -1 beyond a face where u is given;
    * ``S``, shape ``(n, rows, columns)``: local matrices of elements of size one, nodes numbered x fastest; multiply
      them by H^(d-2). Rows of nodes that belong to no element of D in the patch are to be discarded, and whole matrices
      of elements outside D: only some networks, the structured one among them, return zeros there. Float64 for
      the structured network, float32 for the paper's.

    A homogeneous network (``network.homogeneous``) was trained on fields minus their mean over D. Subtract a level c,
    such as this mean, from the cells in D, and multiply S by e^c; else single precision rounds away what large
    levels leave of the field. For other networks, Z is log A as it is.

    Args:
        network: The network, such as ``NNLOD.load("lognormal-0.5").network``; it is left as it is.
        window: Its window, ``model.window``.
        path: The file. ``.pt2``: a program for ``torch.export.load``, in Python or, compiled by AOTInductor, in C++.
            ``.onnx``: for ONNX Runtime and others; needs the packages onnx and onnxscript.

    Returns:
        The file.

    Raises:
        InputError: If the suffix is another one, PyTorch cannot export the network, or the weights exceed the 2 GiB
            that an ONNX file can hold.
        MissingDependencyError: If onnx or onnxscript is missing.

    Note:
        Loading a model folder of this package never executes code. That does not hold for ``.pt2`` files, which hold a
        program and are read by PyTorch: load only those that come from where you trust.

    Example:
        >>> from nnlod_fenics import NNLOD
        >>> model = NNLOD.load("lognormal-0.5")
        >>> path = export_network(model.network, model.window, "lognormal.pt2")
        >>> field = np.random.default_rng(0).standard_normal(model.grid.coefficient_shape)  # log A
        >>> level = field.mean()
        >>> Z, domain = model.windows(model.grid, np.exp(field - level))

        Anywhere else, with PyTorch only:

        >>> program = torch.export.load(path).module()
        >>> S = program(torch.from_numpy(Z), torch.from_numpy(domain)).detach().numpy() * np.exp(level)
        >>> S.shape
        (256, 36, 4)

        Or, from ``lognormal.onnx``: ``onnxruntime.InferenceSession(path).run(["S"], {"Z": Z, "domain": domain})[0]``.
    """
    if not isinstance(network, nn.Module):
        raise InputError(f"network must be a torch.nn.Module, got {network!r}.")
    target = Path(path)
    if target.suffix not in _SUFFIXES:
        raise InputError(f"path must end in one of {list(_SUFFIXES)}, got {str(target)!r}.")
    if target.suffix == ".onnx":
        _need_onnx()
        _check_size(network)
    program = _program(network, window)
    with replacing(target) as temporary:
        if target.suffix == ".onnx":
            _write_onnx(program, temporary)
        else:
            torch.export.save(program, temporary)
    return target


class _Exported(nn.Module):
    """A network whose arguments have the names that the file gives them, whatever its own are."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, Z: Tensor, domain: Tensor) -> Tensor:
        S: Tensor = self.network(Z, domain)
        return S


def _program(network: nn.Module, window: Window) -> Any:
    """The network as a program of tensor operations, for any number of windows."""
    module = _Exported(copy.deepcopy(network).cpu()).eval().requires_grad_(False)
    count = torch.export.Dim("n", max=_MOST_WINDOWS)
    shapes = {"Z": {0: count}, "domain": {0: count}}
    try:  # strict mode, the default of PyTorch 2.6, takes fewer networks
        return torch.export.export(module, trial_windows(window), dynamic_shapes=shapes, strict=False)
    except Exception as error:  # of many kinds
        reason = next((line for line in map(str.strip, str(error).splitlines()) if line), "").rstrip(".")
        raise InputError(
            f"network {type(network).__name__} must consist of operations that torch.export takes, for any number of "
            f"windows (Z.shape[0], not len(Z)); got {type(error).__name__}: {reason}."
        ) from error


def _need_onnx() -> None:
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            f"export to ONNX needs onnx and onnxscript ({error}); pip install onnx onnxscript."
        ) from error


def _check_size(network: nn.Module) -> None:
    size = sum(tensor.nbytes for tensor in (*network.parameters(), *network.buffers()))
    if size > _LARGEST_ONNX:
        raise InputError(f"path must end in .pt2 for a network of {size / 2**30:.1f} GiB (ONNX: 2 GiB), got .onnx.")


def _write_onnx(program: Any, path: Path) -> None:
    """Write an exported program as ONNX, in one file."""
    # onnxscript gives conv3d without bias a bias of wrong shape (its issue 2931), convolution of any dimension none.
    conv3d = torch.ops.aten.conv3d.default
    elementary = program.run_decompositions({conv3d: torch.export.default_decompositions()[conv3d]})
    result = torch.onnx.export(elementary, dynamo=True, input_names=["Z", "domain"], output_names=["S"], verbose=False)
    for value in (*result.model.graph.inputs, *result.model.graph.outputs):
        value.shape[0] = "n"
    result.save(path, external_data=False)
