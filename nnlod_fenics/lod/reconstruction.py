"""Fine-scale functions from coarse ones: u_h = (1 − C) u_H."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nnlod_fenics.arrays import as_floats
from nnlod_fenics.errors import InputError
from nnlod_fenics.grid import Grid
from nnlod_fenics.norms import prolong

__all__ = ["reconstruct"]

Array = npt.NDArray[np.float64]


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
