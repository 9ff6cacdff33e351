"""Local PG-LOD matrices (3.6): one function in front of two independent ways to compute them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from nnlod_fenics.coefficient import check_coefficient
from nnlod_fenics.errors import InputError
from nnlod_fenics.grid import Grid
from nnlod_fenics.loads import element_loads
from nnlod_fenics.lod.reconstruction import pad_patch
from nnlod_fenics.problem import Problem
from nnlod_fenics.scaling import exponent_of, scale_back, scale_batch
from nnlod_fenics.window import FORMS

__all__ = ["local_matrices", "matrices_with_loads"]

METHODS = ("condensed", "dolfinx")


def local_matrices(
    grid: Grid,
    A: npt.ArrayLike,
    method: str = "condensed",
    *,
    device: str = "cpu",
    dtype: npt.DTypeLike = np.float64,
    chunk: int | None = None,
    elements: npt.ArrayLike | None = None,
    correctors: bool = False,
    source: Problem | None = None,
    form: str = "petrov-galerkin",
) -> Any:
    """Compute the local matrices S_T of (3.6) for the elements of T_H, or those of the Galerkin form.

    Args:
        grid: The discretisation.
        A: Diffusion coefficient on T_ε: positive numbers of shape ``grid.coefficient_shape``, indexed ``A[y, x]``,
            or symmetric positive definite matrices, shape ``grid.coefficient_shape + (d, d)``. A leading axis of
            realizations is allowed. Cells of inactive elements do not count.
        method: ``"condensed"``: static condensation with batched dense linear algebra, shared between
            patches (fast). ``"dolfinx"``: one finite element problem a patch, assembled by DOLFINx, solved
            by PETSc (the reference).
        device: ``"cpu"`` or ``"cuda"``, where ``"condensed"`` computes.
        dtype: Floating-point type in which ``"condensed"`` computes.
        chunk: Patches that ``"condensed"`` treats at a time; bounds its memory. By default from the
            free memory.
        elements: Numbers of the elements to compute (x fastest); all if None.
        correctors: Whether to return the element correctors of (3.1) too; they need ((2ℓ+1) r + 1)^d 2^d
            numbers an element.
        source: A problem whose loads get source correctors R_T: a(R_T, w) = F_T(w) for all w in W(N^ℓ(T)), where
            F_T holds sources, fluxes and wells of T.
        form: ``"petrov-galerkin"``; or ``"galerkin"`` for the matrices K_E[i, j] = ∫_E A ∇(1 − C)Λ_i·∇(1 − C)Λ_j, on
            the CPU, from patches of ℓ layers around the elements within ℓ layers of E.

    Returns:
        S, shape ``(number of elements, (2ℓ+2)^d, 2^d)``, after the axis of realizations if A has one; padded:
        rows of nodes outside D are zero, and so are the matrices of inactive elements. Rows are the nodes of N^ℓ(T),
        columns those of T, both x fastest.

        With ``source`` or ``correctors`` a tuple of S and, in this order: with ``source`` F_T(Λ_i) − a(R_T, Λ_i), what
        T adds to the load, shape ``(number of elements, (2ℓ+2)^d)``; with ``correctors`` φ_{T,j} at the fine nodes of
        the padded patches, shape ``(number of elements, 2^d, (2ℓ+1) r + 1, …)``, zero outside D, see
        :func:`nnlod_fenics.lod.reconstruction.reconstruct`; with both R_T likewise, without the second axis.

        In the Galerkin form K_E, shape ``(number of elements, (2ℓ+2)^d, (2ℓ+2)^d)``, symmetric, and with ``source``
        what E adds to the load, F_E((1 − C)Λ_i) − ∫_E A ∇ΣR_T·∇(1 − C)Λ_i.

    Raises:
        InputError: If an argument does not fit, A is so large or small that S_T leaves the range of its type, or
            not even one patch at a time fits into memory.
        NumericalError: If a patch cannot be solved; the message names it.

    Example:
        >>> grid = Grid(dim=2, coarse=4, fine=16, ell=1)
        >>> A = np.ones((16, 16))
        >>> A[8:] = 10.0  # the upper half conducts ten times as well
        >>> S = local_matrices(grid, A)
        >>> S.shape
        (16, 16, 4)
        >>> bool(np.allclose(S.sum(axis=1), 0)), bool(np.allclose(local_matrices(grid, 3 * A), 3 * S))
        (True, True)
    """
    if method not in METHODS:
        raise InputError(f"method must be one of {METHODS}, got {method!r}.")
    if form not in FORMS:
        raise InputError(f"form must be one of {FORMS}, got {form!r}.")
    if source is not None and not isinstance(source, Problem):
        raise InputError(f"source must be a Problem, got {type(source).__name__}.")
    special: dict[str, tuple[Any, Any]] = {
        "device": (device, "cpu"),
        "dtype": (np.dtype(dtype), np.dtype(np.float64)),
        "chunk": (chunk, None),
    }
    if form == "galerkin":
        special["correctors"] = (correctors, False)
        _refuse_options("form 'petrov-galerkin'", "form 'galerkin'", special)
    coefficient = check_coefficient(grid, A, batched=True)
    chosen = _check_elements(grid, elements)
    if form == "galerkin":
        return _galerkin(grid, coefficient, chosen, method, source)
    batched = (coefficient.ndim - grid.dim) % 2 == 1
    tensor = coefficient.ndim > grid.dim + 1
    batch, exponents = scale_batch(coefficient if batched else coefficient[None], tensor)
    loads, load_exponent = (None, 0) if source is None else _scaled_loads(grid, source)
    if method == "dolfinx":
        _refuse_options("method 'condensed'", "method 'dolfinx'", special)
        found = [_with_dolfinx(grid, a, chosen, correctors, loads) for a in batch]
        matrices = np.stack([S for S, _ in found])
        phi = np.stack([values for _, values in found if values is not None]) if correctors else None
    else:
        matrices, phi = _condensed(grid, batch, chosen, _Options(device, dtype, chunk, correctors), loads)
    results = [np.ascontiguousarray(matrices[..., : 2**grid.dim])]
    scale_back(results[0], exponents, grid.active.ravel()[chosen])
    if source is not None:
        results.append(np.ldexp(matrices[..., -1], load_exponent))
    if phi is not None:
        results.append(phi[:, :, : 2**grid.dim])
        if source is not None:
            shift = load_exponent - np.asarray(exponents).reshape(-1, *(1,) * (phi.ndim - 2))
            results.append(np.ldexp(phi[:, :, -1], shift))
    if not batched:
        results = [result[0] for result in results]
    return tuple(results) if len(results) > 1 else results[0]


def matrices_with_loads(
    grid: Grid,
    A: npt.NDArray[np.float64],
    form: str,
    loads: bool,
    method: str = "condensed",
    elements: npt.ArrayLike | None = None,
) -> npt.NDArray[np.float64]:
    """What datasets hold and networks learn: local matrices, with what elements add to the load for f = 1.

    Args:
        grid: The discretisation.
        A: Coefficients on T_ε, shape ``(n, 1/ε, …)``.
        form: Form of the local matrices.
        loads: Whether loads are the last column.
        method: How local matrices are computed.
        elements: Numbers of the elements; all if None.

    Returns:
        Shape ``(n, number of elements, rows, columns)``, or with one more column.
    """
    if not loads:
        return np.asarray(local_matrices(grid, A, method, elements=elements, form=form))
    S, b = local_matrices(grid, A, method, elements=elements, form=form, source=Problem())
    return np.concatenate([S, b[..., None]], axis=-1)


def _scaled_loads(grid: Grid, problem: Problem) -> tuple[npt.NDArray[np.float64], int]:
    """F_T of all elements, divided by a power of two near the largest entry; and its exponent."""
    loads = element_loads(grid, problem)
    exponent = exponent_of(float(abs(loads).max()))
    return np.ldexp(loads, -exponent), exponent


def _refuse_options(needed: str, found: str, options: dict[str, tuple[Any, Any]]) -> None:
    """Refuse options that differ from their defaults where they do not apply."""
    for name, (given, default) in options.items():
        if given is not default and given != default:
            raise InputError(f"{name} applies to {needed} only, got {str(given)!r} with {found}.")


def _galerkin(
    grid: Grid,
    A: npt.NDArray[np.float64],
    elements: npt.NDArray[np.int64],
    method: str,
    source: Problem | None,
) -> Any:
    from nnlod_fenics.lod.galerkin import galerkin_matrices

    batched = (A.ndim - grid.dim) % 2 == 1
    loads = element_loads(grid, Problem(f=0.0) if source is None else source)
    found = [galerkin_matrices(grid, a, loads, method, elements) for a in (A if batched else A[None])]
    matrices, load = (np.stack(parts) if batched else parts[0] for parts in zip(*found, strict=True))
    return matrices if source is None else (matrices, load)


class _Options:
    """How ``"condensed"`` computes."""

    def __init__(self, device: str, dtype: npt.DTypeLike, chunk: int | None, correctors: bool) -> None:
        import torch

        types = {np.dtype(np.float64): torch.float64, np.dtype(np.float32): torch.float32}
        if np.dtype(dtype) not in types:
            raise InputError(f"dtype must be float64 or float32, got {dtype}.")
        if device != "cpu" and not (device.startswith("cuda") and torch.cuda.is_available()):
            raise InputError(f"device must be 'cpu', or 'cuda' where PyTorch finds one, got {device!r}.")
        if chunk is not None and (isinstance(chunk, bool) or not isinstance(chunk, (int, np.integer)) or chunk < 1):
            raise InputError(f"chunk must be a positive number of patches, got {chunk!r}.")
        self.device, self.chunk, self.correctors = device, chunk, correctors
        self.torch_device = torch.device(device)
        self.numpy, self.torch = np.dtype(dtype), types[np.dtype(dtype)]


def _condensed(
    grid: Grid,
    A: npt.NDArray[np.float64],
    elements: npt.NDArray[np.int64],
    options: _Options,
    loads: npt.NDArray[np.float64] | None,
) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | None]:
    """Matrices with the load as a last column if there are loads, and with the correctors if these are wanted."""
    from nnlod_fenics.lod.backsubstitution import solve_correctors
    from nnlod_fenics.lod.budget import check_memory
    from nnlod_fenics.lod.condensation import Condensation, default_chunk, free_memory
    from nnlod_fenics.lod.threads import spread_over_threads

    live = np.flatnonzero(grid.active.ravel()[elements])
    elements, total = elements[live], len(elements)
    count = len(A) * len(elements)
    if options.device == "cpu":
        free = free_memory(options.torch_device)
        check_memory(grid, count, A.ndim > grid.dim + 1, options.correctors, options.numpy.itemsize, free)
    # Correctors need the factors too, which are not kept: blocks are computed where they are used.
    kept = elements[:0] if options.correctors else elements
    condensation = Condensation(grid, A, options.device, options.torch, kept, loads)
    columns = condensation.sources
    shapes: list[tuple[int, ...]] = [(grid.num_patch_nodes, columns)]
    if options.correctors:
        shapes.append((columns, *(grid.patch_width * grid.ratio + 1,) * grid.dim))
    make = np.empty if len(live) == total else np.zeros
    results = [make((len(A), total, *shape), dtype=options.numpy) for shape in shapes]
    realization = np.repeat(np.arange(len(A)), len(elements))
    places = np.tile(live, len(A))
    positions = np.concatenate([realization[:, None], np.tile(grid.elements[elements], (len(A), 1))], axis=1)
    size = options.chunk or default_chunk(grid, options.device, options.numpy.itemsize)
    parts = [slice(start, start + size) for start in range(0, count, size)]

    def compute(part: slice) -> None:
        results[0][realization[part], places[part]] = condensation.patches(positions[part]).cpu().numpy()

    if options.correctors:
        for part in parts:
            for result, values in zip(results, solve_correctors(condensation, positions[part]), strict=True):
                result[realization[part], places[part]] = values.cpu().numpy()
    else:
        spread_over_threads(compute, parts, condensation.device)
    return results[0], results[1] if options.correctors else None


def _check_elements(grid: Grid, elements: Any) -> npt.NDArray[np.int64]:
    if elements is None:
        return np.arange(grid.num_elements)
    chosen = np.asarray(elements)
    if chosen.ndim != 1 or (chosen.size and chosen.dtype.kind not in "iu"):
        raise InputError(f"elements must be a list of element numbers, got shape {chosen.shape} of {chosen.dtype}.")
    if chosen.size and (chosen.min() < 0 or chosen.max() >= grid.num_elements):
        raise InputError(
            f"elements must lie between 0 and {grid.num_elements - 1}, got {chosen.min()} to {chosen.max()}."
        )
    return chosen.astype(np.int64)


def _with_dolfinx(
    grid: Grid,
    A: npt.NDArray[np.float64],
    elements: npt.NDArray[np.int64],
    correctors: bool,
    loads: npt.NDArray[np.float64] | None,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64] | None]:
    """As :func:`_condensed`, for one realization."""
    from nnlod_fenics.lod.correctors import solve_patches

    d, width = grid.dim, grid.patch_width * grid.ratio + 1
    columns = 2**d + (loads is not None)
    matrices = np.zeros((len(elements), grid.num_patch_nodes, columns))
    phi = np.zeros((len(elements), columns, *(width,) * d)) if correctors else None
    for k, found in enumerate(solve_patches(grid, A, elements, None if loads is None else loads[elements])):
        matrices[k, grid.patch_node_slots(found.element)] = found.columns
        if phi is not None:
            phi[k] = pad_patch(grid, found.element, found.functions)
    return matrices, phi
