"""What the figures show: the data handed to Matplotlib, their places, scales and labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from nnlod_fenics import Grid, InputError
from nnlod_fenics.output import curves, figures
from nnlod_fenics.output.figures import (
    plot_coefficient,
    plot_corrector,
    plot_cross_sections,
    plot_differences,
    plot_elements,
    plot_local_matrix,
    plot_loss,
    plot_solutions,
)

RNG = np.random.default_rng(0)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures, caught before they are written."""
    caught: list[Figure] = []
    for module in (figures, curves):
        monkeypatch.setattr(module, "save", lambda fig, path: caught.append(fig))
    return caught


def polynomial(dim: int, n: int) -> np.ndarray:
    """u = Σ k x_k at the nodes, indexed [y, x]."""
    x = np.meshgrid(*(np.linspace(0, 1, n + 1),) * dim, indexing="ij")[::-1]
    return sum((k + 1.0) * x[k] for k in range(dim))


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_files(tmp_path: Path, suffix: str) -> None:
    path = plot_coefficient(tmp_path / "new" / f"A.{suffix}", np.exp(RNG.standard_normal((8, 8))), title="contrast")
    assert path.stat().st_size > 3000
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    if suffix == "png":
        picture = imread(path)
        assert min(picture.shape[:2]) > 400
        assert picture.std() > 0.1


def test_coefficient_is_logarithmic_and_upright(shown: list[Figure]) -> None:
    A = np.exp(RNG.standard_normal((6, 6)))
    plot_coefficient("A.png", A)
    image = shown[0].axes[0].images[0]
    np.testing.assert_array_equal(image.get_array(), A)
    assert image.origin == "lower"
    assert tuple(image.get_extent()) == (0, 1, 0, 1)
    assert type(image.norm).__name__ == "LogNorm"
    assert (image.norm.vmin, image.norm.vmax) == (A.min(), A.max())


def test_pictures_for_narrow_pages(shown: list[Figure]) -> None:
    solutions = {name: polynomial(2, n) for name, n in (("FEM", 8), ("PG-LOD", 4), ("NN-LOD", 4))}
    plot_solutions("u.png", solutions, columns=2)
    plot_cross_sections("c.png", solutions, columns=1)
    (first, second, third), lines = shown[0].axes[:3], shown[1].axes
    assert [ax.get_title() for ax in (first, second, third)] == list(solutions)
    assert first.get_subplotspec().rowspan == second.get_subplotspec().rowspan != third.get_subplotspec().rowspan
    assert len(shown[0].axes) == 4  # the fourth place is empty, the last axes are the colour bar's
    assert [ax.get_subplotspec().rowspan.start for ax in lines] == [0, 1]
    assert [ax.get_ylabel() for ax in lines] == ["$u$", "$u$"]


@pytest.mark.parametrize("dim", [2, 3])
def test_differences_from_the_first(shown: list[Figure], dim: int) -> None:
    fine, coarse = polynomial(dim, 8), polynomial(dim, 4)
    bump = np.zeros((5,) * dim)
    bump[(2,) * dim] = 0.25  # in the middle, on two nodes of the fine grid to each side
    bump[(2,) * (dim - 2) + (1, 3)] = -0.5  # y = 1/4, x = 3/4
    plot_differences("d.png", {"FEM": fine, "PG-LOD": coarse, "NN-LOD": coarse + bump})
    fig = shown[0]
    shaded = {ax.get_title(): ax.collections[0] for ax in fig.axes if ax.get_title()}
    assert list(shaded) == ["FEM", "PG-LOD", "NN-LOD", "PG-LOD \N{MINUS SIGN} FEM", "NN-LOD \N{MINUS SIGN} FEM"]
    same, differ = (np.asarray(shaded[f"{name} \N{MINUS SIGN} FEM"].get_array()) for name in ("PG-LOD", "NN-LOD"))
    np.testing.assert_allclose(same, 0, atol=1e-14)  # a linear function is interpolated exactly
    assert differ.shape == (9, 9)
    assert differ[4, 4] == pytest.approx(0.25) and differ[2, 6] == pytest.approx(-0.5)
    assert differ[4, 3] == pytest.approx(0.125) and differ[6, 2] == pytest.approx(0)
    norm = shaded["NN-LOD \N{MINUS SIGN} FEM"].norm
    assert (norm.vmin, norm.vmax) == pytest.approx((-0.5, 0.5))
    assert shaded["PG-LOD \N{MINUS SIGN} FEM"].norm.vmax < 1e-13 or shaded["PG-LOD \N{MINUS SIGN} FEM"].norm.vmax == 1


def test_differences_that_cannot_be_drawn() -> None:
    with pytest.raises(InputError, match="at least two"):
        plot_differences("d.png", {"FEM": polynomial(2, 8)})
    with pytest.raises(InputError, match=r"solution 'b' and the first one .*got 3 and 8"):
        plot_differences("d.png", {"a": polynomial(2, 8), "b": polynomial(2, 3)})


def test_coefficient_in_three_dimensions(shown: list[Figure]) -> None:
    A = np.exp(RNG.standard_normal((4, 4, 4)))
    plot_coefficient("A.png", A)
    for ax, name, plane in zip(shown[0].axes, "123", (A[:, :, 2], A[:, 2, :], A[2]), strict=False):
        assert f"x_{name}$ = 0.5" in ax.get_title() or f"x_{name} = 0.5" in ax.get_title()
        np.testing.assert_array_equal(ax.images[0].get_array(), plane)


def test_coefficient_in_one_dimension_and_constant(shown: list[Figure]) -> None:
    A = np.exp(RNG.standard_normal(5))
    plot_coefficient("A.png", A)
    assert shown[0].axes[0].get_yscale() == "log"
    np.testing.assert_array_equal(shown[0].axes[0].patches[0].get_data().values, A)
    plot_coefficient("A.png", np.ones((3, 3)))


def test_solutions_share_one_colour_scale(shown: list[Figure]) -> None:
    fine, coarse = RNG.standard_normal((9, 9)), 3 * RNG.standard_normal((3, 3))
    plot_solutions("u.png", {"FEM": fine, "PG-LOD": coarse})
    meshes = [ax.collections[0] for ax in shown[0].axes[:2]]
    low, high = min(fine.min(), coarse.min()), max(fine.max(), coarse.max())
    assert {mesh.get_clim() for mesh in meshes} == {(low, high)}
    assert [ax.get_title() for ax in shown[0].axes[:2]] == ["FEM", "PG-LOD"]
    np.testing.assert_array_equal(np.ravel(meshes[1].get_array()), coarse.ravel())


@pytest.mark.parametrize("n", [4, 5])  # with and without nodes at 0.5
def test_cross_sections(shown: list[Figure], n: int) -> None:
    plot_cross_sections("u.png", {"FEM": polynomial(2, 2 * n), "PG-LOD": polynomial(2, n)})
    left, right = shown[0].axes
    assert (left.get_title(), left.get_xlabel()) == ("$x_1 = 0.5$", "$x_2$")
    assert (right.get_title(), right.get_xlabel()) == ("$x_2 = 0.5$", "$x_1$")
    for ax, value in ((left, lambda t: 0.5 + 2 * t), (right, lambda t: t + 1)):
        for line, size in zip(ax.lines, (2 * n, n), strict=False):
            np.testing.assert_allclose(line.get_xdata(), np.linspace(0, 1, size + 1))
            np.testing.assert_allclose(line.get_ydata(), value(line.get_xdata()))


@pytest.mark.parametrize(("dim", "values"), [(1, [lambda t: t]), (3, [lambda t: 2 + 2 * t, lambda t: t + 2.5])])
def test_cross_sections_in_other_dimensions(shown: list[Figure], dim: int, values) -> None:
    plot_cross_sections("u.png", {"FEM": polynomial(dim, 4)})
    assert len(shown[0].axes) == len(values)
    for ax, value in zip(shown[0].axes, values, strict=True):
        np.testing.assert_allclose(ax.lines[0].get_ydata(), value(np.linspace(0, 1, 5)))


def test_loss_marks_the_best_epoch(shown: list[Figure]) -> None:
    plot_loss("loss.png", [1.0, 0.5, 0.25, 0.2], [1.1, 0.6, 0.4, 0.45], step_drops=[3])
    ax = shown[0].axes[0]
    curves = {line.get_label(): line for line in ax.lines}
    np.testing.assert_array_equal(curves["training"].get_xdata(), [1, 2, 3, 4])
    np.testing.assert_array_equal(curves["validation"].get_ydata(), [1.1, 0.6, 0.4, 0.45])
    best = next(line for name, line in curves.items() if name.startswith("best"))
    assert (best.get_xdata().tolist(), best.get_ydata().tolist()) == ([3], [0.4])
    assert ax.get_yscale() == "log"
    plot_loss("loss.png", [1.0, np.nan], [np.nan, np.nan])


def test_local_matrices(shown: list[Figure]) -> None:
    grid = Grid(2, 4, 8, 1)
    S = RNG.standard_normal(grid.local_matrix_shape)
    plot_local_matrix("S.png", grid, {"computed": S, "predicted": 2 * S})
    for j in range(4):
        np.testing.assert_array_equal(shown[0].axes[4 + j].images[0].get_array(), 2 * S[:, j].reshape(4, 4))
    norm = shown[0].axes[0].images[0].norm
    assert (norm.vmin, norm.vmax) == (-2 * abs(S).max(), 2 * abs(S).max())
    line = Grid(1, 4, 8, 1)
    plot_local_matrix("S.png", line, {"computed": np.zeros(line.local_matrix_shape)})
    assert shown[0].axes[-1].get_ylabel() == "$S_T[i, j]$"


def test_local_matrices_of_the_galerkin_form(shown: list[Figure]) -> None:
    """The columns of the nodes of E: those in the middle of the 4 x 4 nodes around it."""
    K = RNG.standard_normal((16, 16))
    plot_local_matrix("K.png", Grid(2, 4, 8, 1), {"computed": K})
    for j, column in enumerate((5, 6, 9, 10)):
        np.testing.assert_array_equal(shown[0].axes[j].images[0].get_array(), K[:, column].reshape(4, 4))
    assert shown[0].axes[-1].get_ylabel() == "$K_E[i, j]$"
    plot_local_matrix("K.png", Grid(1, 4, 8, 1), {"computed": RNG.standard_normal((4, 4))})
    assert "node $j$ of $E$" in shown[1].axes[0].get_xlabel()


def test_elements(shown: list[Figure]) -> None:
    errors = RNG.uniform(0.1, 1, (4, 4))
    plot_elements("e.png", errors, "error", log=True)
    image = shown[0].axes[0].images[0]
    np.testing.assert_array_equal(image.get_array(), errors)
    assert type(image.norm).__name__ == "LogNorm"
    assert shown[0].axes[-1].get_ylabel() == "error"


@pytest.mark.parametrize(
    "call",
    [
        lambda path: plot_coefficient(path, np.zeros((3, 3))),
        lambda path: plot_coefficient(path, np.full((3, 3), np.nan)),
        lambda path: plot_coefficient(path, np.ones((3, 4))),
        lambda path: plot_solutions(path, {}),
        lambda path: plot_solutions(path, {"u": np.ones(3)}),
        lambda path: plot_cross_sections(path, {"u": np.ones(3), "v": np.ones((3, 3))}),
        lambda path: plot_loss(path, [1.0], [1.0, 2.0]),
        lambda path: plot_loss(path, [], []),
        lambda path: plot_local_matrix(path, Grid(2, 4, 8, 1), {"S": np.ones((3, 3))}),
        lambda path: plot_local_matrix(path, Grid(2, 4, 8, 1), {"K": np.ones((16, 16)), "S": np.ones((16, 4))}),
        lambda path: plot_local_matrix(path, Grid(2, 4, 8, 1), {}),
        lambda path: plot_elements(path, np.zeros((3, 3)), "error", log=True),
        lambda path: plot_elements(path, np.ones(3), "error"),
    ],
)
def test_bad_input_writes_nothing(tmp_path: Path, call) -> None:
    with pytest.raises(InputError):
        call(tmp_path / "figure.png")
    assert not list(tmp_path.iterdir())


def test_correctors_lie_where_their_patch_does(shown: list[Figure]) -> None:
    grid = Grid(2, 4, 8, 1)
    phi = RNG.standard_normal((4, 7, 7))
    plot_corrector("c.png", grid, 3 + 4 * 1, phi)  # the last of the second row: x in [3/4, 1], y in [1/4, 1/2]
    first = shown[0].axes[0]
    mesh = first.collections[0]
    np.testing.assert_array_equal(np.asarray(mesh.get_array()).ravel(), phi[0].ravel())
    corners = mesh.get_coordinates()
    np.testing.assert_allclose(corners[0, 0], [0.5, 0.0])
    np.testing.assert_allclose(corners[-1, -1], [1.25, 0.75])
    assert first.get_xlim() == (0.5, 1.0) and first.get_ylim() == (0.0, 0.75)  # cut to D
    assert first.patches[0].get_xy() == (0.75, 0.25) and first.patches[0].get_width() == 0.25
    plot_corrector("c.png", Grid(1, 4, 8, 1), 1, RNG.standard_normal((2, 7)))
    line = shown[1].axes[0].lines[1]
    np.testing.assert_allclose(line.get_xdata()[[0, -1]], [0, 0.75])


def test_correctors_that_cannot_be_drawn() -> None:
    grid = Grid(2, 4, 8, 1)
    with pytest.raises(InputError, match="d = 1 or 2"):
        plot_corrector("c.png", Grid(3, 2, 4, 1), 0, np.zeros((8, 7, 7, 7)))
    with pytest.raises(InputError, match="element must lie between 0 and 15, got 16"):
        plot_corrector("c.png", grid, 16, np.zeros((4, 7, 7)))
    with pytest.raises(InputError, match=r"phi must have shape \(4, 7, 7\)"):
        plot_corrector("c.png", grid, 0, np.zeros((1, 4, 7, 7)))


# -- domains -----------------------------------------------------------------------------------------


def domain() -> Grid:
    """A box of 4 × 2 elements of size 2 × 1; the second of the lower row does not belong to D."""
    active = np.ones((2, 4), dtype=bool)
    active[0, 1] = False
    return Grid(2, (4, 2), (8, 4), 1, (8, 4), (8.0, 2.0), ("xmin",), active)


def linear(grid: Grid, shape: tuple[int, ...]) -> np.ndarray:
    """u = x + 10 y at the nodes of D."""
    y, x = (np.linspace(0, side, n) for side, n in zip(grid.lengths[::-1], shape, strict=True))
    u = x + 10 * y[:, None]
    active = grid.active_nodes if shape == grid.node_shape else grid.at_fine_scale.active_nodes
    return np.where(active, u, np.nan)


def test_cells_of_a_domain(shown: list[Figure]) -> None:
    grid = domain()
    A = np.where(grid.active_cells, np.exp(RNG.standard_normal((4, 8))), np.nan)
    plot_coefficient("A.png", A, grid=grid)
    plot_elements("e.png", np.where(grid.active, 2.0, np.nan), "error", grid=grid)
    for fig, expected in zip(shown, (A, np.where(grid.active, 2.0, np.nan)), strict=True):
        ax, (image,) = fig.axes[0], fig.axes[0].images
        assert tuple(image.get_extent()) == (0, 8, 0, 2) and ax.get_aspect() == 1
        assert ax.get_xlim() == (0, 8) and ax.get_ylim() == (0, 2)
        np.testing.assert_array_equal(np.ma.filled(image.get_array(), np.nan), expected)
    norm = shown[0].axes[0].images[0].norm
    assert (norm.vmin, norm.vmax) == (np.nanmin(A), np.nanmax(A))


def test_solutions_on_a_domain(shown: list[Figure]) -> None:
    grid = domain()
    fine, coarse = linear(grid, grid.fine_node_shape), linear(grid, grid.node_shape)
    plot_solutions("u.png", {"FEM": fine, "PG-LOD": coarse}, grid=grid)
    plot_differences("d.png", {"FEM": fine, "PG-LOD": coarse + 1}, grid=grid)
    for ax in shown[0].axes[:2]:
        mesh, (cover,) = ax.collections[0], ax.images
        assert mesh.get_clim() == (0, 28)
        np.testing.assert_allclose(mesh.get_coordinates()[-1, -1], [8, 2])
        blank = np.asarray(cover.get_array())[..., 3]
        assert tuple(cover.get_extent()) == (0, 8, 0, 2) and blank.mean() == 1 / 8  # an eighth of the box is covered
        assert blank[0, blank.shape[1] // 4] == 1
    difference = next(ax for ax in shown[1].axes if ax.get_title() == "PG-LOD \N{MINUS SIGN} FEM").collections[0]
    active = grid.at_fine_scale.active_nodes
    np.testing.assert_allclose(np.reshape(difference.get_array(), active.shape)[active], 1)
    assert difference.norm.vmax == pytest.approx(1)


def test_lines_have_gaps_where_the_domain_has(shown: list[Figure]) -> None:
    """Three elements in the direction of x₂, so that the line along x₁ goes through the middle one of them."""
    active = np.ones((3, 4), dtype=bool)
    active[1, 1:3] = False
    grid = Grid(2, (4, 3), (8, 6), 1, lengths=(8.0, 3.0), dirichlet=("xmin",), active=active)
    plot_cross_sections("c.png", {"FEM": linear(grid, (7, 9)), "PG-LOD": linear(grid, (4, 5))}, grid=grid)
    left, right = shown[0].axes
    assert (left.get_title(), right.get_title()) == ("$x_1 = 4$", "$x_2 = 1.5$")
    for ax, ends, value in ((right, (2, 6), lambda t: t + 15), (left, (1, 2), lambda t: 4 + 10 * t)):
        for line in ax.lines[:2]:
            x, y = line.get_data()
            known = np.isfinite(y)
            np.testing.assert_allclose(y[known], value(x[known]))
            assert set(ends) <= set(x[known]) and not ((x[known] > ends[0]) & (x[known] < ends[1])).any()
            assert not known[np.flatnonzero(x == ends[0])[0] + 1]  # no stroke from one side of the hole to the other


def test_correctors_on_a_box(shown: list[Figure]) -> None:
    grid = domain()
    plot_corrector("c.png", grid, 2, RNG.standard_normal((4, 7, 7)))  # x in [4, 6], y in [0, 1]
    first = shown[0].axes[0]
    np.testing.assert_allclose(first.collections[0].get_coordinates()[0, 0], [2, -1])
    assert first.get_xlim() == (2, 8) and first.get_ylim() == (0, 2)
    assert first.patches[0].get_xy() == (4, 0) and first.patches[0].get_width() == 2
    assert first.images[0].get_array()[0, 1, 3] == 1


def test_arrays_that_do_not_fit_a_domain() -> None:
    grid = domain()
    with pytest.raises(InputError, match=r"A must have shape \(4, 8\)"):
        plot_coefficient("A.png", np.ones((8, 4)), grid=grid)
    with pytest.raises(InputError, match=r"solution 'u' must have shape \(3, 5\) or \(5, 9\)"):
        plot_solutions("u.png", {"u": np.ones((3, 3))}, grid=grid)
    with pytest.raises(InputError, match="solution 'u' must be finite"):
        plot_cross_sections("u.png", {"u": np.full((3, 5), np.nan)}, grid=grid)
