"""Fine-scale functions from coarse ones: u_h = (1 − C) u_H."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nnlod_fenics.arrays import as_floats
from nnlod_fenics.errors import InputError
from nnlod_fenics.grid import Grid
from nnlod_fenics.norms import prolong

__all__ = ["extend_correctors", "reconstruct"]

Array = npt.NDArray[np.float64]


def extend_correctors(grid: Grid, element: int, phi: npt.ArrayLike) -> Array:
    """The correctors of one element on all of T_h.

    Args:
        grid: The discretisation.
        element: Number of the element T.
        phi: φ_{T,j} on the padded patch, shape ``(2^d, (2ℓ+1) r + 1, …)``, from
            ``local_matrices(..., elements=[element], correctors=True)``.

    Returns:
        Shape ``(2^d, 1/h + 1, …)``; zero outside the patch.

    Raises:
        InputError: If the number or the shape does not fit.
    """
    d, r = grid.dim, grid.ratio
    width = grid.patch_width * r + 1
    values = as_floats("phi", phi)
    if not 0 <= element < grid.num_elements:
        raise InputError(f"element must lie between 0 and {grid.num_elements - 1}, got {element}.")
    if values.shape != (2**d, *(width,) * d):
        raise InputError(f"phi must have shape {(2**d, *(width,) * d)}, got {values.shape}.")
    margin = grid.ell * r
    padded = np.zeros((2**d, *(grid.fine + 2 * margin + 1,) * d))
    padded[(slice(None), *(slice(p * r, p * r + width) for p in grid.elements[element][::-1]))] = values
    return padded[(slice(None), *(slice(margin, margin + grid.fine + 1),) * d)]


def reconstruct(grid: Grid, u: npt.ArrayLike, correctors: npt.ArrayLike) -> Array:
    """The fine-scale function (1 − C) u_H with C u_H = Σ_T Σ_j u_H(z_j) φ_{T,j}, (3.2).

    Args:
        grid: The discretisation.
        u: Coarse nodal values, shape ``(1/H + 1,)*d``, for example the PG-LOD solution.
        correctors: φ_{T,j} of all elements, from ``local_matrices(..., correctors=True)``.

    Returns:
        Fine nodal values, shape ``(1/h + 1,)*d``.

    Raises:
        InputError: If a shape does not fit.
    """
    d, r = grid.dim, grid.ratio
    width = grid.patch_width * r + 1
    phi, coarse = as_floats("correctors", correctors), as_floats("u", u)
    expected = (grid.num_elements, 2**d, *(width,) * d)
    if phi.shape != expected:
        raise InputError(f"correctors must have shape {expected}, got {phi.shape}.")
    fine = prolong(grid, coarse)
    margin = grid.ell * r
    total = np.zeros((grid.fine + 2 * margin + 1,) * d)
    nodal = coarse.ravel()[grid.element_nodes]
    for element, position in enumerate(grid.elements):
        box = tuple(slice(p * r, p * r + width) for p in position[::-1])
        total[box] += np.tensordot(nodal[element], phi[element], axes=1)
    return fine - total[(slice(margin, margin + grid.fine + 1),) * d]
