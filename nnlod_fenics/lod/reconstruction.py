"""Fine-scale functions from coarse ones: u_h = (1 − C) u_H + Σ_T R_T."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nnlod_fenics.arrays import as_floats, as_numbers
from nnlod_fenics.errors import InputError
from nnlod_fenics.grid import Grid
from nnlod_fenics.lod.interpolation import element_hats

__all__ = [
    "box_of",
    "extend_correctors",
    "pad_patch",
    "padded_shape",
    "patch_of",
    "prolong_elements",
    "reconstruct",
]

Array = npt.NDArray[np.float64]


def pad_patch(grid: Grid, element: int, values: Array) -> Array:
    """Functions on the patch of an element cut to the box, on the padded patch.

    Args:
        grid: The discretisation.
        element: Number of the element.
        values: Values at the fine nodes of the cut patch, x fastest, shape ``(fine nodes,)`` or ``(fine nodes, n)``.

    Returns:
        Shape ``((2ℓ+1) r + 1, …)`` or ``(n, (2ℓ+1) r + 1, …)``, zero outside the box.
    """
    d, r = grid.dim, grid.ratio
    start, size = grid.patch_box(element)
    origin = np.asarray(start) - grid.elements[element] + grid.ell
    box = tuple(slice(o * r, (o + n) * r + 1) for o, n in zip(origin[::-1], size[::-1], strict=True))
    lead = values.shape[1:]
    padded = np.zeros(lead + (grid.patch_width * r + 1,) * d)
    padded[(slice(None),) * len(lead) + box] = values.T.reshape(lead + tuple(n * r + 1 for n in size[::-1]))
    return padded


def extend_correctors(grid: Grid, element: int, phi: npt.ArrayLike) -> Array:
    """The correctors of one element on all of T_h.

    Args:
        grid: The discretisation.
        element: Number of the element T.
        phi: φ_{T,j} on the padded patch, shape ``(2^d, (2ℓ+1) r + 1, …)``, from
            ``local_matrices(..., elements=[element], correctors=True)``.

    Returns:
        Shape ``(2^d, *grid.fine_node_shape)``; zero outside the patch, NaN at nodes of no active element.

    Raises:
        InputError: If the number or the shape does not fit.
    """
    d = grid.dim
    width = grid.patch_width * grid.ratio + 1
    values = as_floats("phi", phi)
    if not 0 <= element < grid.num_elements:
        raise InputError(f"element must lie between 0 and {grid.num_elements - 1}, got {element}.")
    if values.shape != (2**d, *(width,) * d):
        raise InputError(f"phi must have shape {(2**d, *(width,) * d)}, got {values.shape}.")
    padded = np.zeros((2**d, *padded_shape(grid)))
    padded[(slice(None), *patch_of(grid, element))] = values
    return np.where(grid.at_fine_scale.active_nodes, padded[(slice(None), *box_of(grid))], np.nan)


def reconstruct(grid: Grid, u: npt.ArrayLike, correctors: npt.ArrayLike, source: npt.ArrayLike | None = None) -> Array:
    """The fine-scale function (1 − C) u_H + Σ_T R_T with C u_H = Σ_T Σ_j u_H(z_j) φ_{T,j}, (3.2).

    Args:
        grid: The discretisation.
        u: Coarse nodal values, shape ``grid.node_shape``, for example the PG-LOD solution; those at nodes of no active
            element do not count.
        correctors: φ_{T,j} of all elements, from ``local_matrices(..., correctors=True)``.
        source: Source correctors R_T of all elements on their padded patches, shape
            ``(num_elements, (2ℓ+1) r + 1, …)``; zero if None.

    Returns:
        Fine nodal values, shape ``grid.fine_node_shape``, NaN at nodes of no active element.

    Raises:
        InputError: If a shape does not fit.
    """
    d, patch = grid.dim, (grid.patch_width * grid.ratio + 1,) * grid.dim
    phi = _check("correctors", correctors, (grid.num_elements, 2**d, *patch))
    given = as_numbers("u", u)
    if given.shape != grid.node_shape:
        raise InputError(f"u must have shape {grid.node_shape} (one value per node of T_H), got {given.shape}.")
    nodal = as_floats("u", np.where(grid.active_nodes, given, 0)).ravel()[grid.element_nodes]
    R = None if source is None else _check("source", source, (grid.num_elements, *patch))
    correction = np.zeros(padded_shape(grid))
    for element in grid.active_elements:
        box = correction[patch_of(grid, element)]  # a view
        box -= np.tensordot(nodal[element], phi[element], axes=1)
        if R is not None:
            box += R[element]
    return prolong_elements(grid, nodal) + correction[box_of(grid)]


def prolong_elements(grid: Grid, nodal: Array) -> Array:
    """Fine nodal values of a coarse function given at the nodes of each element, NaN outside D."""
    r, fine = grid.ratio, np.full(grid.fine_node_shape, np.nan)
    values = (nodal @ element_hats(grid.dim, r).T).reshape(-1, *(r + 1,) * grid.dim)
    for element in grid.active_elements:
        fine[tuple(slice(p * r, (p + 1) * r + 1) for p in grid.elements[element][::-1])] = values[element]
    return fine


def _check(name: str, values: npt.ArrayLike, shape: tuple[int, ...]) -> Array:
    array = as_floats(name, values)
    if array.shape != shape:
        raise InputError(f"{name} must have shape {shape}, got {array.shape}.")
    return array


def padded_shape(grid: Grid) -> tuple[int, ...]:
    """Shape of fine nodal values on the box and ℓ layers of elements around it."""
    return tuple(n + 2 * grid.ell * grid.ratio for n in grid.fine_node_shape)


def patch_of(grid: Grid, element: int) -> tuple[slice, ...]:
    """The padded patch of an element in an array of :func:`padded_shape`."""
    r = grid.ratio
    return tuple(slice(p * r, (p + grid.patch_width) * r + 1) for p in grid.elements[element][::-1])


def box_of(grid: Grid) -> tuple[slice, ...]:
    """The box in an array of :func:`padded_shape`."""
    margin = grid.ell * grid.ratio
    return tuple(slice(margin, margin + n) for n in grid.fine_node_shape)
