"""Arrays as users give them, wherever they enter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nnlod_fenics import Grid, InputError
from nnlod_fenics.arrays import as_floats, as_numbers
from nnlod_fenics.coefficient import check_coefficient, check_field
from nnlod_fenics.norms import energy_norm, l2_norm, prolong, relative_l2
from nnlod_fenics.output import figures, surfaces
from nnlod_fenics.output.paraview import write_arrays, write_coefficient, write_results
from nnlod_fenics.problem import check_source, evaluate_source

GRID = Grid(2, 2, 4, 1)


def masked(shape: tuple[int, ...]) -> np.ma.MaskedArray:
    """Ones with three masked cells."""
    mask = np.zeros(shape, dtype=bool)
    mask.flat[[0, 3, 5]] = True
    return np.ma.array(np.ones(shape), mask=mask)


class Lazy:
    """An array that another library computes when NumPy asks for it."""

    def __init__(self, values: object) -> None:
        self.values = values

    def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
        if isinstance(self.values, Exception):
            raise self.values
        return self.values


@pytest.mark.parametrize(
    "enter",
    [
        lambda path: check_coefficient(GRID, masked((4, 4))),
        lambda path: check_coefficient(GRID, list(masked((4, 4)))),
        lambda path: check_coefficient(GRID, Lazy(masked((4, 4)))),
        lambda path: check_field(GRID, masked((4, 4))),
        lambda path: check_source(GRID, masked((4, 4))),
        lambda path: evaluate_source(lambda x: masked((8,)), np.zeros((2, 8))),
        lambda path: l2_norm(masked((3, 3))),
        lambda path: relative_l2(np.ones((3, 3)), masked((3, 3))),
        lambda path: energy_norm(GRID, masked((5, 5)), np.ones((4, 4))),
        lambda path: prolong(GRID, masked((3, 3))),
        lambda path: figures.plot_coefficient(path / "A.png", masked((4, 4))),
        lambda path: figures.plot_solutions(path / "u.png", {"u": masked((5, 5))}),
        lambda path: figures.plot_cross_sections(path / "u.png", {"u": masked((5, 5))}),
        lambda path: figures.plot_loss(path / "loss.png", masked((8,)), np.ones(8)),
        lambda path: figures.plot_local_matrix(path / "S.png", GRID, {"S": masked(GRID.local_matrix_shape)}),
        lambda path: figures.plot_elements(path / "e.png", masked((4, 4)), "e"),
        lambda path: figures.plot_calibration(path / "c.png", np.ones(8), masked((8,))),
        lambda path: surfaces.render_solution(path / "u.png", masked((5, 5))),
        lambda path: surfaces.render_coefficient(path / "A.png", masked((4, 4, 4))),
        lambda path: write_arrays(path / "u.vti", 2, {"u": masked((5, 5))}),
        lambda path: write_coefficient(path / "A.vti", GRID, masked((4, 4))),
        lambda path: write_results(path, GRID, solutions={"u": masked((5, 5))}),
    ],
)
def test_masked_cells_are_refused_with_their_number(tmp_path: Path, enter) -> None:
    with pytest.raises(InputError, match="must have a value in every cell, got 3 masked cells; fill them first"):
        enter(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("error")
def test_masked_numbers_in_a_list() -> None:
    with pytest.raises(InputError, match="A must have a value in every cell, got 2 masked cells"):
        as_numbers("A", [[1.0, np.ma.masked], [np.ma.masked, 2.0]])


def test_a_mask_that_hides_nothing() -> None:
    values = np.random.default_rng(0).uniform(1, 2, (4, 4))
    result = check_coefficient(GRID, np.ma.array(values, mask=np.zeros((4, 4), dtype=bool)))
    assert type(result) is np.ndarray
    np.testing.assert_array_equal(result, values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.ones((2, 2)) + 1j, r"A must be an array of real numbers, got complex numbers \(ndarray\)"),
        ([["a", "b"]], r"A must be an array of real numbers, got strings \(list\)"),
        (np.ones(2, dtype=bool), r"got booleans \(ndarray\)"),
        (np.array(["2026-01-01"], dtype="M8[D]"), r"got dates \(ndarray\)"),
        (None, r"got objects \(NoneType\)"),
        (lambda x: x, r"got objects \(function\)"),
        ([10**30], r"got objects \(list\)"),
        (np.zeros(2, dtype=[("x", "f8")]), r"got records \(ndarray\)"),
        ([[1.0, 2.0], [3.0]], "got list with rows of different lengths"),
        ([], r"A must be an array of real numbers, got an empty array of shape \(0,\)"),
        (np.ones((0, 4)), r"got an empty array of shape \(0, 4\)"),
        (Lazy(RuntimeError("the server\nis down")), "got Lazy, which NumPy cannot take for an array: the server"),
        (Lazy(KeyError("A")), "got Lazy, which NumPy cannot take for an array: 'A'"),
        ([1.0, np.nan, -np.inf], "A must be finite, got 2 NaN or infinite values of 3"),
    ],
)
def test_what_is_no_array_of_real_numbers(values: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        as_floats("A", values)


@pytest.mark.filterwarnings("error")
def test_numbers_beyond_float64_are_infinite() -> None:
    if np.finfo(np.longdouble).max == np.finfo(np.float64).max:
        pytest.skip("long double is double on this machine")
    with pytest.raises(InputError, match="A must be finite, got 1 NaN or infinite values of 1"):
        as_floats("A", np.array([np.finfo(np.longdouble).max]))


def test_tensors() -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.ones(4, 4, dtype=torch.float32)
    np.testing.assert_array_equal(check_coefficient(GRID, tensor), np.ones((4, 4)))
    with pytest.raises(InputError, match=r"A must be an array of real numbers, got Tensor, .*requires grad.*detach"):
        check_coefficient(GRID, tensor.requires_grad_())
    with pytest.raises(InputError, match=r"got Tensor.*BFloat16"):
        check_coefficient(GRID, torch.ones(4, 4, dtype=torch.bfloat16))


def test_ragged_solutions_for_paraview(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"solution 'u' must be .* with rows of different lengths"):
        write_results(tmp_path, GRID, solutions={"u": [[1.0], [1.0, 2.0]]})


# -- sources given as functions ------------------------------------------------------------------------

POINTS = np.random.default_rng(1).uniform(size=(2, 8))


@pytest.mark.parametrize("f", [lambda x, y: x * y, lambda: 1.0, lambda x, y, z: x, np.hypot.outer])
def test_a_source_that_takes_other_arguments(f) -> None:
    with pytest.raises(InputError, match=r"f must be a function of one array of points .* = \(2, 8\), x first"):
        evaluate_source(f, POINTS)


def test_a_source_of_the_points() -> None:
    np.testing.assert_array_equal(evaluate_source(lambda x: x[0] - 2 * x[1], POINTS), POINTS[0] - 2 * POINTS[1])


@pytest.mark.parametrize("error", [TypeError, KeyError, ZeroDivisionError])
def test_errors_inside_a_source_are_the_users(error: type[Exception]) -> None:
    def f(x: np.ndarray) -> np.ndarray:
        raise error("mine")

    with pytest.raises(error, match="mine") as caught:
        evaluate_source(f, POINTS)
    assert not isinstance(caught.value, InputError)


def test_a_wrong_call_inside_a_source_is_the_users() -> None:
    def density(x: float, y: float) -> float:
        return x * y

    with pytest.raises(TypeError, match="density"):
        evaluate_source(lambda x: density(x), POINTS)


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (lambda x: x[0] + 1j, r"f\(points\) must be one real value per point.*got complex numbers"),
        (lambda x: None, r"f\(points\) must be one real value per point.*got objects \(NoneType\)"),
        (lambda x: x, r"f must return one real value per point, shape \(8,\) .*got shape \(2, 8\)"),
        (lambda x: np.where(x[0] > 2, 1, np.nan), "f must be finite"),
    ],
)
def test_values_of_a_source_that_do_not_fit(f, message: str) -> None:
    with pytest.raises(InputError, match=message):
        evaluate_source(f, POINTS)
