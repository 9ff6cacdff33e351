"""Networks as files that other programs run: PyTorch's exported programs and ONNX."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nnlod_fenics.errors import InputError, MissingDependencyError
from nnlod_fenics.grid import Grid
from nnlod_fenics.network.check import trial_windows
from nnlod_fenics.runtime.files import replacing

__all__ = ["export_network"]

_SUFFIXES = (".pt2", ".onnx")
_MOST_WINDOWS = 2**31 - 1  # a bound that PyTorch 2.6 asks for
_LARGEST_ONNX = 2**31 - 2**20  # bytes of weights; a Protocol Buffers message ends at 2 GiB


def export_network(network: nn.Module, grid: Grid, path: str | os.PathLike[str]) -> Path:
    """Write the map from windows to local matrices as a file that runs without this package.

    What is exported is ``S = network.forward(Z, inside)`` on the CPU in float32, for any number n of windows:

    * ``Z``, shape ``(n, m, …, m)`` with m = (2ℓ+1) H/ε: log A on padded patches, indexed ``[y, x]``, zero outside D;
    * ``inside``, same shape: 1 for cells in D and 0 for the others;
    * ``S``, shape ``(n, (2ℓ+2)^d, 2^d)``: local matrices (3.6), nodes numbered x fastest. Rows of nodes that belong to
      no element of D in the patch are to be discarded, and whole matrices of elements outside D: only some networks,
      the structured one among them, return zeros there.

    A homogeneous network (``network.homogeneous``) was trained on fields minus their mean over D. Subtract a level c,
    such as this mean, from the cells in D, and multiply S by e^c; else single precision rounds away what large
    levels leave of the field. For other networks, Z is log A as it is.

    Args:
        network: The network, such as ``NNLOD.load("lognormal-0.5").network``; it is left as it is.
        grid: Its discretisation.
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
        >>> path = export_network(model.network, model.grid, "lognormal.pt2")
        >>> field = np.random.default_rng(0).standard_normal(model.grid.coefficient_shape)  # log A
        >>> level = field.mean()
        >>> Z, inside = (model.grid.cut_patches(v).astype("float32") for v in (field - level, np.ones_like(field)))

        Anywhere else, with PyTorch only:

        >>> program = torch.export.load(path).module()
        >>> S = program(torch.from_numpy(Z), torch.from_numpy(inside)).detach().numpy() * np.exp(level)
        >>> S.shape
        (256, 36, 4)

        Or, from ``lognormal.onnx``: ``onnxruntime.InferenceSession(path).run(["S"], {"Z": Z, "inside": inside})[0]``.
    """
    if not isinstance(network, nn.Module):
        raise InputError(f"network must be a torch.nn.Module, got {network!r}.")
    target = Path(path)
    if target.suffix not in _SUFFIXES:
        raise InputError(f"path must end in one of {list(_SUFFIXES)}, got {str(target)!r}.")
    if target.suffix == ".onnx":
        _need_onnx()
        _check_size(network)
    program = _program(network, grid)
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

    def forward(self, Z: Tensor, inside: Tensor) -> Tensor:
        S: Tensor = self.network(Z, inside)
        return S


def _program(network: nn.Module, grid: Grid) -> Any:
    """The network as a program of tensor operations, for any number of windows."""
    module = _Exported(copy.deepcopy(network).cpu()).eval().requires_grad_(False)
    count = torch.export.Dim("n", max=_MOST_WINDOWS)
    shapes = {"Z": {0: count}, "inside": {0: count}}
    try:  # strict mode, the default of PyTorch 2.6, takes fewer networks
        return torch.export.export(module, trial_windows(grid), dynamic_shapes=shapes, strict=False)
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
    result = torch.onnx.export(elementary, dynamo=True, input_names=["Z", "inside"], output_names=["S"], verbose=False)
    for value in (*result.model.graph.inputs, *result.model.graph.outputs):
        value.shape[0] = "n"
    result.save(path, external_data=False)
