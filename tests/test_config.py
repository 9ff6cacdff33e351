"""Settings: defaults, files, overrides, and errors that name key, file and expectation."""

from __future__ import annotations

import inspect
import re
import tomllib
import warnings
from pathlib import Path

import numpy as np
import pytest

from nnlod_fenics import Grid, InputError
from nnlod_fenics.config import Config, describe_settings, load_config, settings_toml, write_config
from nnlod_fenics.fields import make_field
from nnlod_fenics.network import build_network
from nnlod_fenics.problem import Problem
from nnlod_fenics.training import PAPER, TrainingSettings
from nnlod_fenics.window import Window

PRESETS = sorted((Path(__file__).parents[1] / "demos" / "config").glob("*.toml"))


def test_defaults_are_the_demo():
    config = load_config()
    assert config.make_grid() == Grid(2, 16, 128, 2, coefficient=64)
    assert config.make_field().settings()["variance"] == 0.5


def test_file_scale_and_overrides(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("[dataset]\nrealizations = 7\nseed = 3\n[scale.small.dataset]\nrealizations = 5\n")
    assert load_config(path).dataset.realizations == 7
    assert load_config(path, scale="small").dataset.realizations == 5
    config = load_config(path, ["dataset.realizations=9", "field.kind=uniform", "training.drops=[[5, 1e-4]]"])
    assert (config.dataset.realizations, config.dataset.seed) == (9, 3)
    assert config.resolved()["field"]["kind"] == "lognormal" or config.resolved()["field"]["kind"] == "uniform"
    assert config.training.drops == ((5, 1e-4),)


def test_an_override_keeps_the_other_defaults_of_the_field():
    field = load_config(None, ["field.correlation_length=0.2"]).make_field().settings()
    assert (field["variance"], field["correlation_length"]) == (0.5, 0.2)
    assert load_config(None, ["field.kind=uniform"]).make_field().settings()["kind"] == "uniform"


def test_what_is_stated():
    assert load_config().stated_grid == {} and not load_config().states_field
    config = load_config(None, ["grid.coarse=16", "field.variance=0.5"])  # the defaults, but stated
    assert config.stated_grid == {"coarse": 16} and config.states_field
    assert config.make_grid(Grid(2, 8, 32, 1)) == Grid(2, 16, 32, 1)
    with pytest.raises(InputError, match="coarse must divide coefficient"):
        config.make_grid(Grid(2, 9, 36, 1))
    changed = config.changed(grid=config.grid.changed(ell=1))
    assert (
        changed.stated_grid == {"coarse": 16, "ell": 1} and not load_config().changed(dataset={"seed": 1}).states_field
    )
    with pytest.raises(InputError, match="coarse must divide coefficient"):
        load_config(None, ["grid.coarse=5"])
    assert load_config(None, ["grid.coarse=5"], whole_grid=False).stated_grid == {"coarse": 5}


def test_the_papers_network_is_trained_in_the_papers_way_unless_told_otherwise(tmp_path):
    paper = load_config(None, ["network.name=paper"]).training
    assert paper == TrainingSettings(**PAPER)
    assert load_config(None, ["network.name=paper", "training.epochs=7"]).training == paper.changed(epochs=7)
    cosine = load_config(None, ["network.name=paper", "training.schedule=cosine"])
    assert cosine.training == paper.changed(schedule="cosine", drops=())
    assert load_config(write_config(tmp_path, cosine)).resolved() == cosine.resolved()
    own = ["training.drops=[[3, 1e-5]]", "training.schedule=steps"]
    assert load_config(None, ["network.name=paper", *own]).training == paper.changed(drops=((3, 1e-5),))
    assert load_config().training == TrainingSettings()


@pytest.mark.parametrize("path", PRESETS, ids=[p.stem for p in PRESETS])
def test_presets_are_valid(path):
    full, small = load_config(path), load_config(path, scale="small")
    assert small.dataset.realizations < full.dataset.realizations or path.stem == "demo"
    assert full.resolved()["grid"]["dim"] == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[grid]\ncoarse = 'x'", r"grid\.coarse must be an integer or a list of them, got 'x' \(in .*run\.toml'\)"),
        ("[grid]\ncoarse = 3", r"coarse must divide coefficient.* \(in .*run\.toml'\)"),
        ("[grid]\nroarse = 4", r"grid\.roarse is no setting; expected one of \['active', .* \(in .*run\.toml'\)"),
        ("[gird]\ncoarse = 4", r"gird is no setting.*run\.toml'"),
        ("[field]\nvariance = -1", r"variance must be"),
        ("[field]\nnu = 1", r"field\.nu is no setting"),
        ("[dataset]\nrealizations = 0", r"dataset\.realizations must be at least 1, got 0"),
        ("[dataset]\nmethod = 'magic'", r"dataset\.method must be 'condensed' or 'dolfinx', got 'magic'"),
        ("[training]\nepochs = 0", r"training\.epochs must be at least 1, got 0"),
        ("[training]\nlearning_rate = 1e300", r"training\.learning_rate must be at most 100\.0, got 1e\+300"),
        ("[training]\nepoch = 3", r"training\.epoch is no setting"),
        ("[training]\ndrops = [[3]]", r"training\.drops must be a list of"),
        ("[montecarlo]\nsamples = 1", r"montecarlo\.samples must be at least 3, got 1"),
        ("network.name = 'paper'\ntraining = 4", r"training must be a table, got 4 \(in .*run\.toml'\)"),
        ("grid = 4", r"grid must be a table"),
        ("[[grid]]\ncoarse = 4", r"grid must be a table, got \["),
        ("[scale.small]\ngrid = 3", r"scale in .*run\.toml' must hold tables"),
        ("[grid\n", "is not valid TOML"),
        ("[grid]\ncoarse = [16, 0]", r"grid\.coarse must be at least 1, got \[16, 0\]"),
        ("[grid]\ncoarse = [16, 2.5]", r"grid\.coarse must be an integer or a list"),
        ("[grid]\ncoarse = [16, 8, 4, 2]", r"grid\.dim must be at most 3, got 4"),
        ("[grid]\ndim = 2\ncoarse = [16, 8, 8]", r"coarse must be an integer or 2 integers"),
        ("[grid]\nlengths = 'long'", r"grid\.lengths must be a number or a list of numbers, one per axis, got 'long'"),
        ("[grid]\nlengths = [2, -1]", r"lengths must be .* got \[2\.0, -1\.0\]"),
        ("[grid]\ndirichlet = 'xmin'", r"grid\.dirichlet must be a list, got 'xmin'"),
        ("[grid]\ndirichlet = ['left']", r"dirichlet must name faces out of .* got 'left'"),
        ("[grid]\ninactive = [3]", r"grid\.inactive must be a list of boxes .* got \[3\]"),
        ("[[grid.inactive]]\nlow = [0, 0]", r"grid\.inactive must be a list of boxes"),
        ("[[grid.inactive]]\nlow = [0]\nhigh = [1]", r"grid\.inactive must be boxes whose corners have 2 coordinates"),
        ("[[grid.inactive]]\nlow = [0, 0]\nhigh = [2, 0.5]", r"grid\.inactive must be boxes with low < high in the d"),
        ("[[grid.inactive]]\nlow = [0, 0]\nhigh = [0.1, 0.5]", r"grid\.inactive must be boxes that end on boundaries"),
        ("[grid]\ninactive = [[200, 300]]", r"grid\.inactive must hold runs \[start, stop\] of .* up to 256"),
        ("[grid]\nactive = 'none.npy'", r"grid\.active must be a \.npy file .*none\.npy', which cannot be read"),
        ("[grid]\nactive = 'x'\ninactive = [[0, 3]]", r"grid\.active and grid\.inactive exclude each other"),
        ("[problem]\nf = 'x'", r"problem\.f must be a number, got 'x'"),
        ("[problem]\nq = 1", r"problem\.q is no setting; expected one of \['f', 'flux', 'g', 'wells'\]"),
        ("[problem]\ng = 'warm'", r"problem\.g must be a finite number or a table of faces .* got 'warm'"),
        ("[problem]\ng = { left = 1.0 }", r"problem\.g must name faces out of .* got 'left'"),
        ("[problem]\nflux = 1.0", r"problem\.flux must be 0 where u is given on all faces of D, got 1\.0"),
        ("[problem]\nwells = [[0.5, 0.5]]", r"problem\.wells must have points of 2 finite coordinates"),
        ("[problem]\nwells = 3", r"problem\.wells must be a list of rows \[x, y, rate\], got 3"),
        ("[problem]\nwells = [[0.5, 2.0, 1]]", r"problem\.wells must lie in D"),
    ],
)
def test_bad_files(tmp_path, text, message):
    path = tmp_path / "run.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        load_config(path)
    assert "\n" not in str(caught.value)


def test_bad_overrides(tmp_path):
    with pytest.raises(InputError, match=r"section\.key=value, got 'grid'"):
        load_config(None, ["grid"])
    with pytest.raises(InputError, match="cannot be read"):
        load_config(tmp_path / "none.toml")
    with pytest.raises(InputError, match="scale must be one of"):
        load_config(None, [], scale="huge")


# -- domains -----------------------------------------------------------------------------------------

DOMAIN = """
[grid]
coarse = [11, 6]
fine = [44, 24]
coefficient = [22, 12]
lengths = [2200, 1200.0]
dirichlet = ["xmin", "xmax"]

[[grid.inactive]]
low = [400, 200]
high = [800, 600]

[[grid.inactive]]
low = [1600, 800]
high = [2200, 1200]

[problem]
f = 0
g = { xmin = 10.0, xmax = 8 }
flux = { ymax = 1e-3 }
wells = [[1000, 700, -0.5], [1400, 300, 0.25]]
"""


def domain() -> Grid:
    active = np.ones((6, 11), dtype=bool)
    active[1:3, 2:4] = active[4:, 8:] = False
    return Grid(2, (11, 6), (44, 24), 2, (22, 12), (2200, 1200), ("xmin", "xmax"), active)


def test_a_domain_and_its_problem(tmp_path):
    (tmp_path / "run.toml").write_text(DOMAIN)
    config = load_config(tmp_path / "run.toml")
    grid = config.make_grid()
    assert grid == domain()
    wells = [((1000, 700), -0.5), ((1400, 300), 0.25)]
    assert config.problem.make(grid) == Problem(0, wells, {"xmin": 10.0, "xmax": 8.0}, {"ymax": 1e-3})
    assert config.problem.make(grid, 3.0).f == 3.0
    law = load_config(tmp_path / "run.toml", ["field.correlation_length=[400, 100]"]).make_field()
    assert law.sample(0, 0).A.shape == (12, 22)
    # what is stored is enough to make it again, and is not what a dataset is told apart by
    again = load_config(write_config(tmp_path / "new", config))
    assert again.make_grid() == grid and again.problem == config.problem
    assert again.everything() == config.everything() and "problem" not in config.resolved()


def test_overrides_of_a_domain():
    stated = ["grid.coarse=[8, 4]", "grid.fine=[32, 16]", "grid.coefficient=[16, 8]", "grid.lengths=[2, 1]"]
    config = load_config(None, [*stated, "grid.inactive=[{low = [0, 0], high = [0.5, 0.25]}]", "problem.g.xmin=2"])
    grid = config.make_grid()
    assert grid.lengths == (2.0, 1.0) and grid.element_shape == (4, 8)
    assert np.flatnonzero(~grid.active).tolist() == [0, 1] and config.problem.g == {"xmin": 2}
    in_three = load_config(None, ["grid.coarse=[4, 2, 2]", "grid.fine=[16, 8, 8]", "grid.coefficient=[8, 4, 4]"])
    assert in_three.make_grid().dim == 3
    # of another grid, whose holes are those of its elements
    assert load_config(None, ["grid.ell=1"]).make_grid(domain()) == Grid.from_dict(domain().as_dict() | {"ell": 1})
    finer = ["grid.coarse=[22, 12]", "grid.fine=[88, 48]", "grid.coefficient=[22, 12]"]
    assert load_config(None, finer, whole_grid=False).make_grid(domain()).active.all()


def test_a_mask_from_a_file(tmp_path, monkeypatch):
    """Found beside the settings file, read once; it tells the number of elements where nothing else does."""
    grid = domain()
    (tmp_path / "deep").mkdir()
    np.save(tmp_path / "deep" / "mask.npy", grid.active)
    text = DOMAIN.replace("[[grid.inactive]]", "[[old]]").partition("[[old]]")[0]
    (tmp_path / "run.toml").write_text(f"{text}\nactive = 'deep/mask.npy'\n")
    assert load_config(tmp_path / "run.toml").make_grid() == grid
    monkeypatch.chdir(tmp_path)
    config = load_config("run.toml")
    (tmp_path / "run.toml").write_text(text.replace("coarse = [11, 6]", "active = 'deep/mask.npy'"))
    assert load_config("run.toml").make_grid() == grid
    (tmp_path / "run.toml").write_text(text)
    assert load_config("run.toml", ["grid.active=deep/mask.npy"]).make_grid() == grid
    (tmp_path / "run.toml").write_text(f"{text}\n[scale.small.grid]\nactive = 'deep/mask.npy'\n")
    assert load_config(tmp_path / "run.toml", scale="small").make_grid() == grid
    for wrong, message in (
        (grid.active[1:], r"grid\.active must hold one value per coarse element.* grid\.coarse = \[11, 6\], got shape"),
        (grid.active.astype(int), "which holds int64 of shape"),
    ):
        np.save(tmp_path / "mask.npy", wrong)
        with pytest.raises(InputError, match=message):
            load_config("run.toml", ["grid.active=mask.npy"])
    with pytest.raises(InputError, match="which is no such file"):
        load_config("run.toml", ["grid.active=run.toml"])
    (tmp_path / "deep" / "mask.npy").unlink()
    assert config.make_grid() == grid and load_config(write_config(tmp_path, config)).make_grid() == grid


# -- the reference -----------------------------------------------------------------------------------


def everything(config: Config) -> dict:
    return config.everything() | {"montecarlo": config.montecarlo.as_dict()}


def test_the_printed_file_is_the_defaults(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text(settings_toml(), encoding="utf-8")
    assert everything(load_config(path)) == everything(Config())
    # with a commented-out default put in force nothing changes either, and epochs still set the warm-up
    path.write_text(settings_toml().replace("#warmup", "warmup"), encoding="utf-8")
    assert everything(load_config(path)) == everything(Config())
    path.write_text(settings_toml().replace("epochs = 30", "epochs = 60"), encoding="utf-8")
    assert load_config(path).training.warmup == 5


def test_the_printed_file_has_every_key_once():
    text = settings_toml()
    stated = tomllib.loads(text)
    for section, model in Config.model_fields.items():
        if section != "field":
            keys = set(model.get_default(call_default_factory=True).as_dict())
            commented = set(re.findall(r"^#(\w+) =", text.partition(f"[{section}]")[2].partition("\n\n")[0], re.M))
            assert set(stated[section]) | commented == keys
            assert not set(stated[section]) & commented


ONLY_IF_GIVEN = {
    "lognormal": {"mean", "angles", "conditions", "unit"},
    "hierarchical": {"mean", "angles", "conditions", "unit", "anisotropy", "covariance"},
    "uniform": set(),
    "two-phase": {"mean", "angles", "unit", "anisotropy", "covariance"},
    "layered": {"mean", "angles", "unit"},
    "trend": {"angles", "unit"},
}


@pytest.mark.parametrize("kind", ONLY_IF_GIVEN)
def test_the_keys_of_a_field_are_those_of_its_law(kind):
    entries = describe_settings()[f'field, kind = "{kind}"']
    assert {entry.key for entry in entries} == set(make_field({"kind": kind}, 2, 4).settings()) | ONLY_IF_GIVEN[kind]
    given = tomllib.loads("\n".join(f"{entry.key} = {entry.default}" for entry in entries if entry.default))
    expected = make_field(load_config(None, [f"field.kind={kind}"]).field, 2, 4).settings()
    assert make_field(given, 2, 4).settings() == expected


def test_a_field_is_checked_in_the_dimension_of_the_grid():
    lengths = "field.correlation_length=[0.2, 0.05, 0.1]"
    config = load_config(None, ["grid.dim=3", lengths, "field.angles=[0.1, 0, 0]", "field.mean=1"])
    stated = {"correlation_length": [0.2, 0.05, 0.1], "angles": [0.1, 0.0, 0.0], "mean": 1.0}
    assert config.resolved()["field"].items() >= stated.items()
    assert load_config(None, [lengths], whole_grid=False).field["correlation_length"][2] == 0.1  # of a model's grid
    with pytest.raises(InputError, match=r"field\.correlation_length must be one entry or a list of 2 for d = 2"):
        load_config(None, ["grid.dim=2", lengths])
    with pytest.raises(InputError, match=r"field\.correlation_length must be one entry or a list of 2 for d = 2"):
        load_config(None, ["field.correlation_length=[1, 2, 3, 4]"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of an embedding that nobody samples
        load_config(None, ["field.correlation_length=50.0", "field.smoothness=1.5"]).resolved()


def test_every_setting_is_described():
    sections = describe_settings()
    for section, entries in sections.items():
        for entry in entries:
            assert len(entry.description) > 5, (section, entry.key)
            assert "``" not in entry.description and "\n" not in entry.meaning
    found = {entry.key: entry for entry in sections["training"] + sections["montecarlo"]}
    assert found["epochs"].values == "integer ≥ 1"
    assert found["learning_rate"].values == "number > 0 and ≤ 100"
    assert found["schedule"].values == "steps, cosine"
    assert found["drops"].values == "list of [integer, number]"
    assert found["samples"].values.startswith("integer ≥ 3") and not found["samples"].stated


def test_options_of_networks_are_described():
    (options,) = (entry for entry in describe_settings()["network"] if entry.key == "options")
    for name in ("structured", "paper"):
        network = type(build_network(name, Window(2, 2, 2, 1)))
        assert all(key in options.description for key in list(inspect.signature(network).parameters)[1:])
