"""Options of the command line that change what is computed, end to end on a small grid: each has its effect."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from commands import Made
from waiting import PATIENCE

from nnlod_fenics import NNLOD, Grid, make_field, solve
from nnlod_fenics.functionals import Outflow, PointValue
from nnlod_fenics.norms import l2_norm
from nnlod_fenics.runtime.streams import Stream

GRID, QUICK = Made.GRID, Made.QUICK


def fails(done, message: str) -> None:
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 2 and message in lines[-1] and "Traceback" not in done.stderr, done
    assert len(lines) == 1 or "Usage:" in lines[0], done.stderr


def works(done) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


# -- nnlod montecarlo ----------------------------------------------------------------------------------

SECTION = """
[grid]
coarse = 4
fine = 16
coefficient = 8
ell = 1

[dataset]
seed = 7

[montecarlo]
method = "lod"
samples = 6
functionals = ["centre = point(0.5, 0.5)", "outflow(x=1)"]
"""


def test_montecarlo_by_the_settings_file(nnlod, made, tmp_path):
    """Against the mean over the same fields, made here; then more samples by an option, resumed."""
    (tmp_path / "m.toml").write_text(SECTION)
    table = works(nnlod("montecarlo", "m.toml", "-o", "new", cwd=tmp_path))
    assert "Monte Carlo by lod" in table and "centre, mean" in table and "outflow(x=1), mean" in table
    folder = tmp_path / "new"
    files = {"run.json", "montecarlo.json", "fields.npz", "fields.vtkhdf", "mean.png", "blocks"}
    assert {path.name for path in folder.iterdir()} == files
    model = NNLOD.load(made / "model")
    law = make_field(model.law, 2, 8)
    solutions = [solve(model.grid, law.sample(7, k, stage=Stream.SAMPLES).A, "lod") for k in range(9)]
    result = json.loads((folder / "montecarlo.json").read_text())
    assert result["samples"] == {"samples": 6} and result["stopped"] == "samples"
    for name, functional in (("centre", PointValue((0.5, 0.5))), ("outflow(x=1)", Outflow("x=1"))):
        values = np.array([functional(solution) for solution in solutions[:6]])
        assert result["functionals"][name]["mean"] == pytest.approx(values.mean())
        assert result["functionals"][name]["standard_error"] == pytest.approx(values.std(ddof=1) / 6**0.5)
    np.testing.assert_allclose(np.load(folder / "fields.npz")["mean"], np.mean([s.u for s in solutions[:6]], axis=0))
    fails(nnlod("montecarlo", "m.toml", "-o", "new", cwd=tmp_path), "already holds a run; resume with --resume")
    fails(nnlod("montecarlo", "m.toml", "-o", "new", "--resume", "--seed", "8", cwd=tmp_path), "seed is 7 there and 8")
    first = (folder / "blocks" / "samples-000000.npz").stat().st_mtime_ns
    works(nnlod("montecarlo", "m.toml", "-o", "new", "--resume", "--samples", "9", cwd=tmp_path))
    assert (folder / "blocks" / "samples-000000.npz").stat().st_mtime_ns == first
    np.testing.assert_allclose(np.load(folder / "fields.npz")["mean"], np.mean([s.u for s in solutions], axis=0))


def test_montecarlo_by_options(nnlod, made, tmp_path):
    """Multifidelity with a named functional; what the options say comes before what the file says."""
    (tmp_path / "m.toml").write_text(SECTION)
    options = ["--method", "multifidelity", "--model", made / "model", "--samples", "40", "--pilot", "8"]
    options += ["--cost-ratio", "20", "--functional", "right = outflow(x=1)", "--target", "right", "--level", "0.9"]
    works(nnlod("montecarlo", "m.toml", "-o", "new", *options, "-s", "montecarlo.seed=3", "-f", "2", cwd=tmp_path))
    result = json.loads((tmp_path / "new" / "montecarlo.json").read_text())
    assert list(result["functionals"]) == ["right"] and result["settings"]["level"] == 0.9
    settings = result["settings"]
    assert (settings["method"], settings["samples"], settings["seed"]) == ("multifidelity", 40, 3)
    assert result["samples"]["pilot"] == 8 and set(result["functionals"]["right"]) >= {"network_bias", "interval"}
    assert result["plan"]["models"][1]["cost"] == 1 / 20
    assert 0 < result["functionals"]["right"]["mean"] < 2  # a part of ∫f
    for wrong, message in (
        (["--functional", "outflow(z=1)"], "functional"),
        (["--functional", "flux(x=1)"], "functional"),
        (["--target", "left"], "target must be the name of one of the functionals ['right']"),
        (["--samples", "20"], "samples must be at least 32"),
        (["--level", "1.5"], "montecarlo.level must be below 1"),
        (["--tolerance", "0"], "montecarlo.tolerance must be greater than 0"),
        (["-s", "montecarlo.sample=3"], "montecarlo.sample is no setting"),
        (["--model", "nothing"], "does not exist"),
    ):
        fails(nnlod("montecarlo", "m.toml", "-o", "other", *options, *wrong, cwd=tmp_path), message)
    assert not (tmp_path / "other").exists()
    several = [*options, "--cost-ratio", "300", "--with", "nn", "--with", "averaged"]
    works(nnlod("montecarlo", "m.toml", "-o", "several", *several, cwd=tmp_path))
    result = json.loads((tmp_path / "several" / "montecarlo.json").read_text())
    assert [model["model"] for model in result["plan"]["models"]] == ["lod", "nn", "averaged"]
    works(nnlod("montecarlo", "m.toml", "-o", "new", "--overwrite", "--method", "fem", cwd=tmp_path))
    assert json.loads((tmp_path / "new" / "montecarlo.json").read_text())["settings"]["method"] == "fem"
    assert not list((tmp_path / "new" / "blocks").glob("pilot*"))


def test_montecarlo_needs_to_know_when_to_stop(nnlod, tmp_path):
    fails(nnlod("montecarlo", "--method", "lod", *GRID, cwd=tmp_path), "one of samples, tolerance and seconds")
    assert not list(tmp_path.iterdir())


# -- nnlod solve ---------------------------------------------------------------------------------------


def test_trust(nnlod, made, tmp_path):
    """Every matrix exact at tolerance 0, all predicted at a large one."""
    given = ["solve", "--coefficient", made / "A.npy"]
    network = [*given, "--method", "nn", "--model", made / "model"]
    works(nnlod(*given, *GRID, "-o", "lod", cwd=tmp_path))
    for name, options in {"plain": [], "exact": ["--trust", "1e-300"], "blind": ["--trust", "1e300"]}.items():
        works(nnlod(*network, *options, "-o", name, cwd=tmp_path))
    u = {name: np.load(tmp_path / name / "u_nn.npy") for name in ("plain", "exact")}
    u["lod"] = np.load(tmp_path / "lod" / "u_lod.npy")
    np.testing.assert_allclose(u["exact"], u["lod"], rtol=1e-10, atol=1e-14)
    assert np.abs(u["plain"] - u["lod"]).max() > 1e-3 * u["lod"].max()
    fails(nnlod(*given, *GRID, "--trust", "0.1", cwd=tmp_path), "trust does not apply to method 'lod'")
    fails(nnlod(*network, "--trust", "-1", cwd=tmp_path), "trust must")


def test_a_model_and_settings_that_contradict_it(nnlod, made, tmp_path):
    network = ["solve", "--method", "nn", "--model", made / "model", "--coefficient", made / "A.npy"]
    works(nnlod(*network, *GRID, "-o", "same", cwd=tmp_path))
    fails(nnlod(*network, *GRID, "-s", "grid.ell=2", cwd=tmp_path), "grid for this model must be of the window")
    fails(nnlod("solve", "--model", made / "model", *GRID, cwd=tmp_path), "model does not apply to method 'lod'")


def test_formats(nnlod, made, tmp_path):
    pytest.importorskip("dolfinx")
    given = ["solve", "--coefficient", made / "A.npy", *GRID]
    works(nnlod(*given, "--format", "vti", "--format", "xdmf", "-o", "new", cwd=tmp_path))
    suffixes = {path.suffix for path in (tmp_path / "new").iterdir()}
    assert {".vti", ".xdmf"} <= suffixes and ".vtkhdf" not in suffixes
    fails(nnlod(*given, "--format", "vtk", "-o", "other", cwd=tmp_path), "format must be one of")
    assert not (tmp_path / "other").exists()


def test_cells_without_data(nnlod, made, tmp_path):
    A = np.load(made / "A.npy")
    A[2, 3] = -9999
    np.save(tmp_path / "A.npy", A)
    given = ["solve", "--coefficient", "A.npy", *GRID]
    fails(nnlod(*given, "--no-data", "-9999", cwd=tmp_path), "1 ")
    fails(nnlod("solve", *GRID, "--no-data", "-9999", cwd=tmp_path), "no_data applies to a coefficient from a file")
    fails(nnlod("solve", *GRID, "--dataset", "A", cwd=tmp_path), "dataset applies to a coefficient from a file")
    fails(nnlod("solve", "--coefficient", made / "A.npy", *GRID, "--dataset", "A", cwd=tmp_path), "dataset")
    assert {path.name for path in tmp_path.iterdir()} == {"A.npy"}


# -- domains -------------------------------------------------------------------------------------------

DOMAIN = """
[grid]
coarse = [6, 4]
fine = [24, 16]
coefficient = [12, 8]
ell = 1
lengths = [600, 400]
dirichlet = ["xmin", "xmax"]

[[grid.inactive]]
low = [200, 100]
high = [300, 300]

[problem]
f = 0
g = { xmin = 10.0, xmax = 8.0 }
flux = { ymax = 1e-3 }
wells = [[450, 200, -0.2]]

[field]
variance = 0.5
correlation_length = [100, 50]

[montecarlo]
method = "lod"
samples = 5
functionals = ["head = point(450, 200)", "out = outflow(xmax)"]
"""


def domain() -> tuple[Grid, dict]:
    active = np.ones((4, 6), dtype=bool)
    active[1:3, 2] = False
    grid = Grid(2, (6, 4), (24, 16), 1, (12, 8), (600, 400), ("xmin", "xmax"), active)
    data = {"g": {"xmin": 10.0, "xmax": 8.0}, "flux": {"ymax": 1e-3}, "wells": [((450, 200), -0.2)]}
    return grid, {"f": 0.0} | data


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("fem", {"method": "fem"}),
        ("lod", {"reconstruct": True}),
        ("sources", {"source_correctors": True}),
        ("galerkin", {"form": "galerkin", "reconstruct": True}),
    ],
)
def test_solve_on_a_domain(nnlod, tmp_path, name, options):
    """As the package solves it; each output knows what it is of."""
    (tmp_path / "run.toml").write_text(DOMAIN)
    flags = {"method": ["--method", "fem"], "form": ["--form", "galerkin"], "reconstruct": ["--reconstruct"]}
    given = [flag for key in options for flag in flags.get(key, ["--source-correctors"])]
    told = works(nnlod("solve", "--config", "run.toml", "--seed", "3", *given, "-o", "new", cwd=tmp_path))
    grid, data = domain()
    law = make_field({"variance": 0.5, "correlation_length": [100, 50]}, 2, (12, 8), (600, 400))
    expected = solve(grid, law.sample(3, 0, stage=Stream.FRESH).A, **data, **options)
    method = expected.method
    np.testing.assert_allclose(np.load(tmp_path / "new" / f"u_{method}.npy"), expected.u, rtol=1e-12)
    if "reconstruct" in options:
        np.testing.assert_allclose(np.load(tmp_path / "new" / "u_fine_lod.npy"), expected.u_fine, rtol=1e-12)
    files = {path.name for path in (tmp_path / "new").iterdir()}
    assert ("fine_solution.vtkhdf" in files) == (name != "sources") and "solution.png" in files
    content = json.loads((tmp_path / "new" / "solution.json").read_text())
    assert Grid.from_dict(content["grid"]) == grid and content["method"] == method and content["seed"] == 3
    assert content["problem"] == data | {"wells": [[450.0, 200.0, -0.2]]}
    assert content["options"] == {key: value for key, value in options.items() if key != "method"}
    assert ("reliability: " in told) == ("reliability" in content) == (expected.S is not None)
    if expected.S is not None:
        assert told.splitlines()[-1] == f"reliability: {expected.reliability}"


@pytest.mark.parametrize("options", [[], ["--form", "galerkin"], ["--method", "fem"], ["--source-correctors"]])
def test_montecarlo_on_a_domain(nnlod, tmp_path, options):
    """Against the mean over the same fields, made here; resumed only with the same problem."""
    (tmp_path / "run.toml").write_text(DOMAIN)
    told = works(nnlod("montecarlo", "run.toml", "-o", "new", *options, cwd=tmp_path))
    grid, data = domain()
    law = make_field({"variance": 0.5, "correlation_length": [100, 50]}, 2, (12, 8), (600, 400))
    named = dict(
        zip(("--form", "--method", "--source-correctors"), ("form", "method", "source_correctors"), strict=True)
    )
    chosen = {named[options[0]]: options[1] if len(options) > 1 else True} if options else {}
    fields = [law.sample(0, k, stage=Stream.SAMPLES).A for k in range(5)]
    solutions = [solve(grid, A, **data, **chosen) for A in fields]
    found = np.load(tmp_path / "new" / "fields.npz")
    np.testing.assert_allclose(found["mean"], np.mean([s.coarse for s in solutions], axis=0), rtol=1e-12)
    assert np.isnan(found["mean"]).sum() == np.isnan(found["standard_error"]).sum() == (~grid.active_nodes).sum()
    content = json.loads((tmp_path / "new" / "montecarlo.json").read_text())
    for name, functional in (("head", PointValue((450.0, 200.0))), ("out", Outflow("xmax"))):
        values = [functional(solution) for solution in solutions]
        assert content["functionals"][name]["mean"] == pytest.approx(np.mean(values))
    assert content["mean field"]["norm"] == pytest.approx(l2_norm(found["mean"], grid))
    if solutions[0].S is None:
        assert "warned samples" not in content and "warned samples" not in told
    else:
        warned = sum(not solution.reliability.trusted for solution in solutions)
        assert content["warned samples"] == {"warned": warned, "of": 5} and f"{warned} of 5" in told
    more = ["montecarlo", "run.toml", "-o", "new", *options, "--samples", "6", "--resume"]
    for key, other in (("wells", "[[450, 200, -0.3]]"), ("g", "{ xmin = 10, xmax = 9 }"), ("flux", "0.0"), ("f", "1")):
        done = nnlod(*more, "-s", f"problem.{key}={other}", cwd=tmp_path)
        fails(done, f"cannot be resumed: {'source' if key == 'f' else key} is")
    works(nnlod(*more, cwd=tmp_path))
    assert json.loads((tmp_path / "new" / "montecarlo.json").read_text())["samples"] == {"samples": 6}


def test_a_domain_in_all_formats(nnlod, tmp_path):
    pytest.importorskip("dolfinx")
    (tmp_path / "run.toml").write_text(DOMAIN)
    options = ["--format", "vti", "--format", "xdmf", "--correctors", "1", "--reconstruct"]
    works(nnlod("solve", "--config", "run.toml", *options, "-o", "new", cwd=tmp_path))
    files = {path.name for path in (tmp_path / "new").iterdir()}
    assert files >= {"u_lod.xdmf", "u_fine_lod.xdmf", "fine_solution.vti", "corrector1.png", "corrector1.vtkhdf"}
    works(nnlod("sample", "run.toml", "-o", "fields", cwd=tmp_path))
    assert np.load(tmp_path / "fields" / "A0.npy").shape == (8, 12)
    np.save(tmp_path / "A.npy", np.ones((30, 55)))  # of which the grid follows, but for the size and the faces
    sides = ["-s", "grid.lengths=[1100, 600]", "-s", "grid.dirichlet=['xmin']"]
    holes = ["-s", "grid.inactive=[{low = [200, 100], high = [500, 400]}]"]
    works(nnlod("solve", "--coefficient", "A.npy", *sides, *holes, "-o", "raster", cwd=tmp_path))
    grid = Grid.from_dict(json.loads((tmp_path / "raster" / "solution.json").read_text())["grid"])
    assert (grid.coarse, grid.lengths, grid.dirichlet, grid.active.sum()) == ((11, 6), (1100, 600), ("xmin",), 57)


def test_mistakes_about_a_domain(nnlod, tmp_path):
    (tmp_path / "run.toml").write_text(DOMAIN)
    given = ["solve", "--config", "run.toml", "-o", "new"]
    for wrong, message in (
        (["-s", "grid.inactive=[{low=[0, 0], high=[150, 100]}]"], "grid.inactive must be boxes that end on boundaries"),
        (["-s", "problem.g={ymin=1}"], "problem.g must be given on faces with u given (dirichlet) only"),
        (["-s", "problem.flux={xmin=1}"], "problem.flux must be given on no-flow faces only"),
        (["-s", "problem.wells=[[250, 200, 1]]"], "problem.wells must lie in D, got one at (250.0, 200.0)"),
        (["--source", "inf"], "problem.f must be finite"),
        (["--form", "ritz"], "form must be one of"),
        (["--method", "fem", "--reconstruct"], "reconstruct does not apply to method 'fem'"),
        (["--method", "fem", "--source-correctors"], "source_correctors does not apply to method 'fem'"),
    ):
        fails(nnlod(*given, *wrong, cwd=tmp_path), message)
    for wrong, message in (
        (["--method", "fem", "--form", "galerkin"], "form applies to method lod, got it for fem"),
        (["--form", "ritz"], "montecarlo.form must be 'petrov-galerkin' or 'galerkin', got 'ritz'"),
        (["--functional", "point(250, 200)"], "this point is in an inactive element"),
    ):
        fails(nnlod("montecarlo", "run.toml", "-o", "new", *wrong, cwd=tmp_path), message)
    assert not (tmp_path / "new").exists()


# -- the rest ------------------------------------------------------------------------------------------


def test_export(nnlod, made, tmp_path):
    assert "wrote network.pt2" in works(nnlod("export", made / "model", "-o", "network.pt2", cwd=tmp_path))
    assert (tmp_path / "network.pt2").stat().st_size > 1000
    fails(nnlod("export", made / "model", "-o", "network.txt", cwd=tmp_path), ".pt2")
    fails(nnlod("export", "nothing", "-o", "n.pt2", cwd=tmp_path), "does not exist")
    assert [path.name for path in tmp_path.iterdir()] == ["network.pt2"]


@pytest.mark.parametrize("count", [0, -1, 10**12, "two"])
def test_numbers_of_samples(nnlod, tmp_path, count):
    fails(nnlod("sample", "--count", count, *GRID, cwd=tmp_path), "count")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("amp", ["bf16", "tf32"])
def test_lower_precision_of_training(nnlod, made, tmp_path, amp):
    """bfloat16 has three digits, so that losses are others, but close; TF32 concerns GPUs only."""
    works(nnlod("train", made / "data", "-o", "new", *QUICK, "-s", f"training.amp={amp}", cwd=tmp_path))
    plain, low = (json.loads((folder / "loss.json").read_text()) for folder in (made / "model", tmp_path / "new"))
    for a, b in zip(plain, low, strict=True):
        assert (a["train"] == b["train"]) == (amp == "tf32")
        assert b["train"] == pytest.approx(a["train"], rel=0.2)
    done = nnlod("train", made / "data", "-o", "x", *QUICK, "-s", "training.amp=half", cwd=tmp_path)
    fails(done, "training.amp must be")


@pytest.mark.parametrize(
    "environment", [{"RANK": "1"}, {"RANK": "1", "WORLD_SIZE": "1"}, {"PMI_RANK": "3"}, {"SLURM_PROCID": "2"}], ids=str
)
def test_variables_left_over_silence_nothing(nnlod, tmp_path, environment):
    assert "A0.npy: contrast" in works(nnlod("sample", "-o", "new", *GRID, cwd=tmp_path, **environment))
    fails(nnlod("sample", "--count", "0", **environment), "count")
    fails(nnlod("sample", "-s", "grid.coarse=5", **environment), "coarse must divide")


@pytest.mark.parametrize("environment", [{"PYTHONIOENCODING": "ascii"}, {"PYTHONUTF8": "0", "LC_ALL": "C"}], ids=str)
def test_a_terminal_without_unicode(made, tmp_path, environment):
    """In processes of their own, whose encoding is chosen when they start: output is there, and the exit code 0."""
    command = [sys.executable, "-m", "nnlod_fenics", "montecarlo", "--method", "lod", "--samples", "4", *GRID]
    done = subprocess.run(
        [*command, "-o", tmp_path / "new"], capture_output=True, env=os.environ | environment, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    assert b"mean field, standard error" in done.stdout
