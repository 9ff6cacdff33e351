"""Boxes, inactive elements, boundary conditions and source correctors: both methods, through the table of methods."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from domain_cases import GRIDS, coefficient_on, problem_on
from domains import NAMES, load_domain

from nnlod_fenics import Grid, InputError, local_matrices, make_field, solve
from nnlod_fenics.domain import faces_of
from nnlod_fenics.loads import load_vector
from nnlod_fenics.lod.coarse import sum_local
from nnlod_fenics.lod.interpolation import quasi_interpolation
from nnlod_fenics.lod.reconstruction import reconstruct
from nnlod_fenics.norms import energy_norm, prolong
from nnlod_fenics.problem import Problem, boundary_values
from nnlod_fenics.solvers import make_solver

METHODS = ["condensed", "dolfinx"]
FORMS = [{}, {"source_correctors": True}, {"form": "galerkin"}]


def solved(grid, A, problem, **options):
    return make_solver("lod", grid, problem, **options).solve_many([A])[0]


def largest(values):
    return float(np.nanmax(np.abs(values)))


def with_ideal_patches(grid: Grid) -> Grid:
    return Grid.from_dict(grid.as_dict() | {"ell": max(max(grid.coarse) - 1, 1)})


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", NAMES)
def test_known_answers(name, method):
    grid, A, problem, data = load_domain(name)
    S, load = local_matrices(grid, A, method=method, source=problem)
    assert largest(S - data["S"]) < 1e-12 * largest(data["S"])
    assert largest((sum_local(grid, load) - data["b_corrected"])[grid.free_nodes]) < 1e-12
    for key, options in (("u", {}), ("u_corrected", {"source_correctors": True})):
        found = solve(grid, A, f=problem.f, wells=problem.wells, g=problem.g, local=method, **options)
        np.testing.assert_allclose(found.u, data[key], atol=1e-9 * largest(data[key]))
    K = solved(grid, np.where(grid.active_cells, A, 1.0), problem, local=method, form="galerkin").operator
    assert largest(K.toarray() - data["K_galerkin"]) < 1e-12 * largest(data["K_galerkin"])


@pytest.mark.parametrize("tensor", [False, True], ids=["scalar", "matrices"])
@pytest.mark.parametrize("name", GRIDS)
def test_methods_agree_in_all_they_compute(name, tensor):
    grid = GRIDS[name]
    A, problem = coefficient_on(grid, tensor), problem_on(grid)
    parts = [local_matrices(grid, A, method=method, source=problem, correctors=True) for method in METHODS]
    for ours, theirs in zip(*parts, strict=True):
        assert largest(ours - theirs) < 1e-10 * largest(theirs)


def connected(rng: np.random.Generator, coarse: tuple[int, ...]) -> np.ndarray:
    """A random mask whose largest part, connected through faces, is kept."""
    import scipy.ndimage

    while True:
        parts, count = scipy.ndimage.label(rng.random(coarse[::-1]) < 0.75)
        if count:
            return parts == 1 + np.argmax([(parts == k + 1).sum() for k in range(count)])


@pytest.mark.parametrize("seed", range(24))
def test_methods_agree_on_random_domains(seed):
    rng = np.random.default_rng(seed)
    dim = 2 if seed % 4 else 3
    coarse = tuple(int(n) for n in rng.integers(2, 6 if dim == 2 else 4, dim))
    ratio, ell = int(rng.integers(2, 7 if dim == 2 else 4)), int(rng.integers(0, 3 if dim == 2 else 2))
    ratio = max(ratio, 3) if ell == 0 else ratio
    while True:
        faces = [face for face in faces_of(dim) if rng.random() < 0.4]
        try:
            fine = [n * ratio for n in coarse]
            lengths = rng.uniform(0.5, 2, dim).tolist()
            grid = Grid(dim, coarse, fine, min(ell, max(coarse)), None, lengths, faces, connected(rng, coarse))
            break
        except InputError:  # no face with given u, or none at the part that is left
            continue
    A = np.exp(1.5 * rng.standard_normal(grid.coefficient_shape))
    parts = [local_matrices(grid, A, method=method, source=Problem(), correctors=True) for method in METHODS]
    for ours, theirs in zip(*parts, strict=True):
        assert largest(ours - theirs) < 1e-9 * max(largest(theirs), 1e-12)


@pytest.mark.parametrize("name", GRIDS)
def test_ideal_patches_give_the_fine_solution(name):
    """u_H = I_H u_h and (1 − C) u_H + Σ R_T = u_h, in both forms."""
    grid = with_ideal_patches(GRIDS[name])
    A, problem = coefficient_on(grid), problem_on(grid)
    given = Problem(problem.f, problem.wells, lambda x: 1 + x[0] - 0.5 * x[-1], problem.flux)  # a coarse function
    fine = make_solver("fem", grid, given).solve_many([A])[0].u
    wanted = quasi_interpolation(grid, fine, boundary_values(grid, given.g))
    for options in FORMS[1:]:
        found = solved(grid, A, given, reconstruct=True, **options)
        assert largest(found.u - wanted) < 1e-9 * largest(wanted), options
        assert largest(found.u_fine - fine) < 1e-9 * largest(fine), options


def test_errors_decay_with_the_layers():
    grids = [Grid(2, (8, 5), (32, 20), ell, dirichlet=["xmin", "ymax"]) for ell in (1, 2, 3)]
    A, errors = coefficient_on(grids[0]), []
    problem = Problem(wells=[((0.4, 0.3), -0.5)], flux={"xmax": 1.0}, g=lambda x: x[0] - x[1])
    fine = make_solver("fem", grids[0], problem).solve_many([A])[0].u
    for grid in grids:
        found = solved(grid, A, problem, source_correctors=True, reconstruct=True)
        errors.append(largest(found.u_fine - fine))
    assert errors[1] < 0.4 * errors[0] and errors[2] < 0.4 * errors[1]


def test_energy_of_the_reconstruction():
    """At σ² = 1 and ℓ = 3 the reconstructed solution is within 0.2 % of the fine one in energy."""
    grid = Grid(2, 12, 96, 3)
    law = make_field({"kind": "lognormal", "variance": 1.0, "correlation_length": 0.05}, 2, 96)
    A = law.sample(seed=1, index=0).A
    fine = solve(grid, A, "fem").u
    for options in FORMS[1:]:
        found = solve(grid, A, reconstruct=True, **options)
        assert energy_norm(grid, found.u_fine - fine, A) < 2e-3 * energy_norm(grid, fine, A)


def test_reconstruction_is_that_of_the_stored_correctors():
    grid = GRIDS["one face, holes"]
    A, problem = coefficient_on(grid), problem_on(grid)
    _, _, phi, R = local_matrices(grid, A, source=problem, correctors=True)
    for method in METHODS:
        found = solved(grid, A, problem, local=method, reconstruct=True)
        np.testing.assert_allclose(found.u_fine, reconstruct(grid, found.u, phi, R), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dim", [1, 2])
def test_what_flows_in_flows_out(dim):
    """The outflows through all faces sum to the sources, for every combination of faces, with holes and wells."""
    rng = np.random.default_rng(1)
    coarse, holes = ((5,), [None]) if dim == 1 else ((5, 4), [None, np.ones((4, 5), dtype=bool)])
    if dim == 2:
        holes[1][1:3, 2] = holes[1][0, 0] = False
    for count in range(1, 2 * dim + 1):
        for faces in combinations(faces_of(dim), count):
            for active in holes:
                grid = Grid(dim, coarse, [4 * n for n in coarse], 1, None, (2.0, 1.3)[:dim], faces, active)
                A = np.exp(rng.standard_normal(grid.coefficient_shape))
                others = [face for face in faces_of(dim) if face not in faces]
                data = {"f": lambda x: 1 + x[0], "wells": [((1.55, 0.55)[:dim], 0.3)]}
                flux = {face: 0.2 + k for k, face in enumerate(others)}
                sources = load_vector(grid, Problem(**data)).sum()
                for options in FORMS:
                    found = solve(grid, A, **data, g=lambda x: x[0] ** 2, flux=flux, **options)
                    outflow = sum(found.outflow(face) for face in faces_of(dim))
                    assert outflow == pytest.approx(sources, abs=1e-10), (faces, options)


@pytest.mark.parametrize("options", FORMS[1:], ids=str)
def test_a_no_flow_face_is_half_of_the_reflected_problem(options):
    half = Grid(2, (3, 4), (12, 16), 3, lengths=(0.6, 1.0), dirichlet=["xmin", "ymax"])
    whole = Grid(2, (6, 4), (24, 16), 5, lengths=(1.2, 1.0), dirichlet=["xmin", "xmax", "ymax"])
    A = coefficient_on(half)
    mirrored = np.concatenate([A, A[:, ::-1]], axis=1)
    wells = [((0.3, 0.5), 0.4)]
    both = [*wells, ((0.9, 0.5), 0.4)]
    part = solve(half, A, f=2.0, g=lambda x: x[1], wells=wells, **options)
    full = solve(whole, mirrored, f=2.0, g=lambda x: x[1], wells=both, **options)
    np.testing.assert_allclose(part.u, full.u[:, :4], rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(full.u, full.u[:, ::-1], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("options", FORMS[1:], ids=str)
def test_linear_solutions_are_exact_with_ideal_patches(options):
    active = np.ones((4, 5), dtype=bool)
    active[3, 3:] = False
    grid = Grid(2, (5, 4), (20, 16), 4, None, (2.5, 1.0), ["xmin", "ymin", "ymax", "xmax"], active)
    u = 1 + np.linspace(0, 2.5, 6)[None, :] * 2 + np.zeros((5, 1))
    found = solve(grid, np.full(grid.coefficient_shape, 3.0), f=0.0, g=lambda x: 1 + 2 * x[0], **options)
    rectangle = Grid(2, (5, 4), (20, 16), 4, None, (2.5, 1.0), ["xmin", "xmax"])
    with_flux = Grid(2, (5, 4), (20, 16), 4, None, (2.5, 1.0), ["xmin"])
    A = np.full(grid.coefficient_shape, 3.0)
    by_g = solve(rectangle, A, f=0.0, g={"xmin": 1.0, "xmax": 6.0}, reconstruct=True, **options)
    by_flux = solve(with_flux, A, f=0.0, g=1.0, flux={"xmax": 6.0}, reconstruct=True, **options)
    for solution in (by_g, by_flux):
        np.testing.assert_allclose(solution.u, u, rtol=1e-10)
        np.testing.assert_allclose(solution.u_fine, prolong(rectangle, u), rtol=1e-10)
    assert by_g.outflow("xmax") == pytest.approx(-6.0) and by_g.outflow("xmin") == pytest.approx(6.0)
    assert np.isnan(found.u[4, 4:]).all() and np.isfinite(found.u).sum() == 28


def test_pull_back_to_the_unit_cube():
    """x → x/L: A diag(∏L / L_i²), load · ∏L; S itself is the same matrix."""
    lengths = (3.0, 0.5)
    flat, unit = (Grid(2, 4, 16, 1, lengths=side) for side in (lengths, None))
    A = coefficient_on(flat)
    pulled = A[..., None, None] * np.diag(np.prod(lengths) / np.square(lengths))
    np.testing.assert_allclose(local_matrices(flat, A), local_matrices(unit, pulled), rtol=1e-11, atol=1e-13)
    scaled = np.prod(lengths)
    np.testing.assert_allclose(solve(flat, A, f=1.0).u, solve(unit, pulled, f=scaled).u, rtol=1e-11)


@pytest.mark.parametrize("scale", [1e-200, 1e-14, 1e250])
def test_solutions_scale(scale):
    grid = GRIDS["flow"]
    A, problem = coefficient_on(grid), problem_on(grid)
    plain = solved(grid, A, problem, source_correctors=True, reconstruct=True)
    few = Problem(lambda x: scale * problem.f(x), [(p, scale * q) for p, q in problem.wells], problem.g,
                  {face: lambda x: scale * (1 + x[0] ** 2) for face in problem.flux})  # fmt: skip
    found = solved(grid, scale * A, few, source_correctors=True, reconstruct=True)
    np.testing.assert_allclose(found.u, plain.u, rtol=1e-9)
    np.testing.assert_allclose(found.u_fine, plain.u_fine, rtol=1e-9)


@pytest.mark.parametrize("tensor", [False, True], ids=["scalar", "matrices"])
@pytest.mark.parametrize("name", GRIDS)
def test_galerkin_matrices(name, tensor):
    """Both methods agree; symmetric, positive semidefinite, zero sums; they add up to the system."""
    grid = GRIDS[name]
    A, problem = coefficient_on(grid, tensor), problem_on(grid)
    K, load = local_matrices(grid, A, source=problem, form="galerkin")
    other, other_load = local_matrices(grid, A, source=problem, form="galerkin", method="dolfinx")
    scale = largest(K)
    assert largest(K - other) < 1e-10 * scale and largest(load - other_load) < 1e-9 * largest(load)
    assert largest(K - np.swapaxes(K, 1, 2)) == 0 and largest(K.sum(axis=2)) < 1e-10 * scale
    assert np.linalg.eigvalsh(K).min() > -1e-10 * scale
    np.testing.assert_allclose(local_matrices(grid, 4 * A, form="galerkin"), 4 * K, rtol=0, atol=1e-12 * scale)
    whole = np.zeros((grid.num_nodes + 1,) * 2)  # patch nodes outside the box have number -1
    for nodes, matrix in zip(grid.patch_nodes, K, strict=True):
        np.add.at(whole, (nodes[:, None], nodes[None]), matrix)
    found = solved(grid, A, problem, form="galerkin")
    assert largest(found.operator.toarray() - whole[:-1, :-1]) < 1e-12 * scale
    np.testing.assert_allclose(found.load, sum_local(grid, load), atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", GRIDS)
def test_galerkin_matrices_of_some_elements(name, method):
    """Rows of the whole result, in any order, inactive ones and repetitions included."""
    grid = GRIDS[name]
    A, problem = coefficient_on(grid), problem_on(grid)
    inactive = np.flatnonzero(~grid.active.ravel())[:1]
    chosen = np.concatenate([[grid.num_elements - 1, 1, 2, 1], inactive])
    K, load = local_matrices(grid, A, method, source=problem, form="galerkin")
    some, some_load = local_matrices(grid, np.stack([A, A]), method, elements=chosen, source=problem, form="galerkin")
    for part in range(2):
        assert largest(some[part] - K[chosen]) < 1e-14 * largest(K)
        assert largest(some_load[part] - load[chosen]) < 1e-14 * largest(load)
    assert local_matrices(grid, A, method, elements=[], form="galerkin").shape == (0, *K.shape[1:])


@pytest.mark.parametrize("method", METHODS)
def test_galerkin_matrices_of_some_elements_take_the_correctors_around_them_only(method, monkeypatch):
    from nnlod_fenics.lod import correctors, traces

    grid, seen = Grid(2, (9, 8), (36, 32), 1, active=np.arange(72).reshape(8, 9) != 41), []
    solve_patches, solve_traces = correctors.solve_patches, traces.solve_traces

    def watched_patches(grid, A, elements, *rest):
        seen.extend(map(int, elements))
        return solve_patches(grid, A, elements, *rest)

    def watched_traces(condensation, positions):
        seen.extend(map(int, grid.element_numbers(positions[:, 1:])))
        return solve_traces(condensation, positions)

    monkeypatch.setattr(correctors, "solve_patches", watched_patches)
    monkeypatch.setattr(traces, "solve_traces", watched_traces)
    local_matrices(grid, np.ones(grid.coefficient_shape), method, elements=[40], form="galerkin")
    assert seen == [30, 31, 32, 39, 40, 48, 49, 50]
    seen.clear()
    local_matrices(grid, np.ones(grid.coefficient_shape), method, elements=[41, 71], form="galerkin")
    assert seen == [61, 62, 70, 71]  # nothing for an inactive element
