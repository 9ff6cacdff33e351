"""Local matrices of both methods: against an independent code, against each other, and against theorems."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest

from nnlod_fenics import Grid, InputError, local_matrices
from nnlod_fenics.lod.condensation import Condensation

METHODS = ["condensed", "dolfinx"]

GRIDS = [
    pytest.param(Grid(1, 6, 24, 1), id="1d"),
    pytest.param(Grid(2, 4, 16, 1), id="2d"),
    pytest.param(Grid(2, 3, 18, 2, coefficient=9), id="2d-r6-eps"),
    pytest.param(Grid(3, 3, 6, 1), id="3d"),
]


def rough(grid: Grid, seed: int = 0, sigma: float = 1.0) -> np.ndarray:
    return np.exp(sigma * np.random.default_rng(seed).standard_normal(grid.coefficient_shape))


def relative(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max() / np.abs(b).max())


@pytest.mark.parametrize("method", METHODS)
def test_reference(reference, method):
    grid = reference.grid
    elements = sorted(reference.local)
    S = local_matrices(grid, reference.A, method=method, elements=elements)
    for element, matrix in zip(elements, S, strict=True):
        slots = grid.patch_node_slots(element)
        assert relative(matrix[slots], reference.local[element]) < 1e-10
        assert not np.delete(matrix, slots, axis=0).any()


@pytest.mark.parametrize(
    "grid",
    [
        *GRIDS,
        pytest.param(Grid(1, 5, 15, 0), id="1d-ell0"),
        pytest.param(Grid(2, 4, 4, 1), id="2d-r1"),
        pytest.param(Grid(2, 4, 8, 0), id="2d-r2-ell0"),
        pytest.param(Grid(2, 3, 6, 1), id="2d-r2"),
        pytest.param(Grid(2, 3, 9, 3), id="2d-r3-ell-covers-domain"),
        pytest.param(Grid(2, 2, 20, 1, coefficient=4), id="2d-r10-leaf5-eps5"),
        pytest.param(Grid(2, 2, 22, 1), id="2d-r11-prime"),
        pytest.param(Grid(2, 2, 24, 1, coefficient=8), id="2d-r12-eps3-across-leaves"),
        pytest.param(Grid(2, 1, 4, 0), id="2d-one-element"),
        pytest.param(Grid(3, 2, 8, 1, coefficient=4), id="3d-eps"),
    ],
)
def test_methods_agree(grid):
    A = rough(grid)
    assert relative(local_matrices(grid, A), local_matrices(grid, A, method="dolfinx")) < 1e-10


@pytest.mark.parametrize("contrast", [1e2, 1e6])
def test_methods_agree_at_high_contrast(contrast):
    grid = Grid(2, 4, 32, 1)
    exponent = np.random.default_rng(1).random(grid.coefficient_shape)
    A = contrast ** ((exponent - exponent.min()) / np.ptp(exponent))
    condensed, dolfinx = local_matrices(grid, A), local_matrices(grid, A, method="dolfinx")
    assert max(relative(c, d) for c, d in zip(condensed, dolfinx, strict=True)) < 1e-10


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("grid", GRIDS)
def test_rows_and_columns_sum_to_zero(grid, method):
    S = local_matrices(grid, rough(grid), method=method)
    scale = np.abs(S).max()
    assert np.abs(S.sum(axis=1)).max() < 1e-11 * scale
    assert np.abs(S.sum(axis=2)).max() < 1e-11 * scale


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("grid", GRIDS)
def test_homogeneous_of_degree_one(grid, method):
    A = rough(grid)
    scaled = local_matrices(grid, 3.7 * A, method=method)
    assert relative(scaled, 3.7 * local_matrices(grid, A, method=method)) < 1e-12


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("grid", GRIDS)
def test_equivariant_under_symmetries_of_the_cube(grid, method):
    """S_{gT}(A∘g⁻¹) = g S_T(A): axes permuted and flipped in elements, patch nodes and element nodes alike."""
    d = grid.dim
    A = rough(grid)

    def as_array(S: np.ndarray) -> np.ndarray:
        return S.reshape(grid.element_shape + (2 * grid.ell + 2,) * d + (2,) * d)

    S = as_array(local_matrices(grid, A, method=method))
    symmetries = list(product(permutations(range(d)), product((False, True), repeat=d)))
    if method == "dolfinx" or d == 3:  # slow: a few of them generate all
        symmetries = symmetries[1 :: max(len(symmetries) // 5, 1)]
    for axes, flips in symmetries:
        flipped = [axis for axis in range(d) if flips[axis]]
        turned = np.flip(A.transpose(axes), flipped)
        expected = S.transpose([axis + shift for shift in (0, d, 2 * d) for axis in axes])
        expected = np.flip(expected, [axis + shift for shift in (0, d, 2 * d) for axis in flipped])
        assert relative(as_array(local_matrices(grid, turned, method=method)), expected) < 1e-11


@pytest.mark.parametrize("grid", GRIDS)
def test_one_element_depends_on_its_patch_only(grid):
    A = rough(grid)
    element = 0
    start, size = grid.patch_box(element)
    outside = np.ones(grid.coefficient_shape, dtype=bool)
    cells = grid.cells_per_element
    outside[tuple(slice(s * cells, (s + n) * cells) for s, n in zip(start[::-1], size[::-1], strict=True))] = False
    other = np.where(outside, 17 * A, A)
    first = local_matrices(grid, A, elements=[element])
    assert np.array_equal(first, local_matrices(grid, other, elements=[element]))


def test_chunks_batches_and_subsets_give_the_same():
    grid = Grid(2, 5, 20, 1, coefficient=10)
    A = np.stack([rough(grid, seed) for seed in range(3)])
    S = local_matrices(grid, A)
    assert S.shape == (3, 25, *grid.local_matrix_shape)
    for k in range(3):
        np.testing.assert_allclose(S[k], local_matrices(grid, A[k]), rtol=0, atol=1e-12)
    np.testing.assert_allclose(local_matrices(grid, A, chunk=7), S, rtol=0, atol=1e-12)
    np.testing.assert_allclose(local_matrices(grid, A, elements=[24, 3]), S[:, [24, 3]], rtol=0, atol=1e-12)
    np.testing.assert_allclose(
        local_matrices(grid, A, method="dolfinx", elements=[24, 3]), S[:, [24, 3]], rtol=0, atol=1e-11
    )


@pytest.mark.parametrize("grid", [Grid(1, 9, 36, 1), Grid(2, 7, 28, 1), Grid(2, 8, 32, 2), Grid(3, 4, 8, 1)], ids=str)
def test_only_elements_in_the_patches_of_those_asked_for_are_eliminated(grid, monkeypatch):
    eliminated = []
    original = Condensation.element_blocks

    def noted(self, which):
        eliminated.extend(which.tolist())
        return original(self, which)

    A = np.stack([rough(grid, seed) for seed in range(2)])
    everything = local_matrices(grid, A)
    monkeypatch.setattr(Condensation, "element_blocks", noted)
    for elements in ([0], [grid.num_elements // 2], [grid.num_elements - 1, 2, 2, 0]):
        eliminated.clear()
        found = local_matrices(grid, A, elements=elements)
        boxes = [grid.patch_box(element) for element in elements]
        near = {
            number
            for number, at in enumerate(grid.elements.tolist())
            if any(all(s <= a < s + n for a, s, n in zip(at, start, size, strict=True)) for start, size in boxes)
        }
        assert sorted(eliminated) == sorted(near) + [number + grid.num_elements for number in sorted(near)]
        np.testing.assert_allclose(found, everything[:, elements], rtol=0, atol=1e-13 * np.abs(everything).max())
    eliminated.clear()
    local_matrices(grid, A, elements=[])
    assert not eliminated


def test_single_precision():
    grid = Grid(2, 4, 16, 1)
    S = local_matrices(grid, rough(grid))
    single = local_matrices(grid, rough(grid), dtype=np.float32)
    assert single.dtype == np.float32
    assert relative(single, S) < 1e-4


@pytest.mark.parametrize("grid", [Grid(1, 4, 16, 1), Grid(2, 3, 12, 1, coefficient=6), Grid(3, 2, 4, 1)])
def test_matrix_valued_coefficient(grid, rng):
    d = grid.dim
    root = rng.standard_normal((*grid.coefficient_shape, d, d))
    A = root @ np.swapaxes(root, -1, -2) + 0.5 * np.eye(d)
    assert relative(local_matrices(grid, A), local_matrices(grid, A, method="dolfinx")) < 1e-10
    isotropic = rough(grid)[..., None, None] * np.eye(d)
    assert relative(local_matrices(grid, isotropic), local_matrices(grid, rough(grid))) < 1e-12


BAD = Grid(2, 4, 16, 1)


@pytest.mark.parametrize(
    ("A", "message"),
    [
        (np.ones((16, 15)), "A must have shape"),
        (np.ones(256), "A must have shape"),
        (np.full((16, 16), np.nan), "A must be finite"),
        (np.full((16, 16), np.inf), "A must be finite"),
        (np.zeros((16, 16)), "A must be positive"),
        (-np.ones((16, 16)), "A must be positive"),
        ([["a"]], "A must be an array of real numbers"),
        (np.ones((16, 16, 2, 2)), "positive definite"),
        (np.ones((16, 16, 2, 2)) * np.array([[1, 2], [0, 1]]), "symmetric"),
    ],
)
@pytest.mark.parametrize("method", METHODS)
def test_bad_coefficient(A, message, method):
    with pytest.raises(InputError, match=message):
        local_matrices(BAD, A, method=method)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "magic"}, "method must be one of"),
        ({"device": "abacus"}, "device must be"),
        ({"dtype": np.int32}, "dtype must be"),
        ({"chunk": 0}, "chunk must be"),
        ({"elements": [16]}, "elements must lie between 0 and 15"),
        ({"elements": 0.5}, "elements must be a list"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(InputError, match=message):
        local_matrices(BAD, np.ones((16, 16)), **arguments)


@pytest.mark.parametrize("option", [{"device": "cuda"}, {"dtype": np.float32}, {"chunk": 3}], ids=str)
def test_options_of_the_other_method_are_refused(option):
    with pytest.raises(InputError, match=f"{next(iter(option))} applies to method 'condensed' only, got"):
        local_matrices(Grid(1, 4, 8, 1), np.ones(8), method="dolfinx", **option)
