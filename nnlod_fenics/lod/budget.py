"""Memory that the condensation takes, counted from its plan."""

from __future__ import annotations

import math
from itertools import chain

from nnlod_fenics.errors import InputError
from nnlod_fenics.grid import Grid
from nnlod_fenics.lod.elimination import Plan, make_plan

__all__ = ["check_memory", "element_numbers", "patch_numbers"]


def _block(eliminated: int, rest: int) -> int:
    """Numbers of an elimination: pivot block, coupling before and after, what remains and what is taken off it."""
    return eliminated**2 + 2 * eliminated * rest + 2 * rest**2


def element_numbers(plan: Plan) -> int:
    """Floating-point numbers that the elimination of one element takes."""
    leaves = sum((leaf.eliminated + len(leaf.labels)) ** 2 + 2 * len(leaf.labels) ** 2 for leaf in plan.leaves.boxes)
    merges = sum(_block(part.merge.eliminated, len(part.merge.labels)) for part in chain(*plan.inside))
    return leaves + merges + 2 * len(plan.element) ** 2


def patch_numbers(grid: Grid, plan: Plan) -> int:
    """Floating-point numbers that one patch takes when it shares nothing with others: its blocks, level by level."""
    width = grid.patch_width
    count = width**grid.dim
    total = count * len(plan.element) ** 2
    for merge in plan.windows:
        count //= width
        total += count * _block(merge.eliminated, len(merge.labels))
    carried = (2 * grid.ell + 2) ** grid.dim * 2 + 2**grid.dim
    return total + (_block(plan.face, plan.face + carried) if grid.ell else carried**2)


def _template_numbers(grid: Grid, plan: Plan, tensor: bool) -> int:
    spread = grid.cells_per_coefficient
    cell = spread**grid.dim if plan.leaves.cut_evenly(spread) else 1
    values = grid.dim**2 if tensor else 1
    boxes = plan.leaves.boxes
    return sum(math.prod(b.size) // cell * values * (b.eliminated + len(b.labels)) ** 2 for b in boxes)


def _least_numbers(grid: Grid, tensor: bool, correctors: bool) -> int:
    """Floating-point numbers without which not even one patch can be treated."""
    plan = make_plan(grid.dim, grid.ratio, grid.ell)
    templates = _template_numbers(grid, plan, tensor)
    if grid.trivial_fine_scale:
        return templates
    if correctors:  # the factors of all elements of the patch are needed at a time
        elements = math.prod(min(grid.patch_width, n) for n in grid.coarse)
        return templates + elements * element_numbers(plan) + patch_numbers(grid, plan)
    return templates + max(element_numbers(plan), patch_numbers(grid, plan))


def check_memory(grid: Grid, matrices: int, tensor: bool, correctors: bool, itemsize: int, free: int) -> None:
    """Refuse work that cannot fit, before it starts.

    Args:
        grid: The discretisation.
        matrices: Local matrices to compute.
        tensor: Whether the coefficient is matrix-valued.
        correctors: Whether correctors are returned too.
        itemsize: Bytes of a number.
        free: Bytes that are free.

    Raises:
        InputError: If one patch at a time and the result take more than is free.
    """
    rows, columns = grid.local_matrix_shape
    numbers = rows * columns + (columns * (grid.patch_width * grid.ratio + 1) ** grid.dim if correctors else 0)
    needed = itemsize * (matrices * numbers + _least_numbers(grid, tensor, correctors))
    if needed > free:
        what = "local matrices and their correctors" if correctors else "local matrices"
        raise InputError(
            f"grid must be such that the {what} fit into memory: {matrices} with fine/coarse={grid.ratio} and "
            f"ell={grid.ell} need at least {needed} bytes, and {free} are free."
        )
