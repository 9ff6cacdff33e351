"""Settings: defaults, files, overrides, and errors that name key, file and expectation."""

from __future__ import annotations

import inspect
import re
import tomllib
import warnings
from pathlib import Path

import pytest

from nnlod_fenics import Grid, InputError
from nnlod_fenics.config import Config, describe_settings, load_config, settings_toml, write_config
from nnlod_fenics.fields import make_field
from nnlod_fenics.network import build_network
from nnlod_fenics.training import PAPER, TrainingSettings

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
        ("[grid]\ncoarse = 'x'", r"grid\.coarse must be an integer, got 'x' \(in .*run\.toml'\)"),
        ("[grid]\ncoarse = 3", r"coarse must divide coefficient.* \(in .*run\.toml'\)"),
        ("[grid]\nroarse = 4", r"grid\.roarse is no setting; expected one of \['coarse'.* \(in .*run\.toml'\)"),
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


# -- the reference -----------------------------------------------------------------------------------


def everything(config: Config) -> dict:
    return config.resolved() | {"montecarlo": config.montecarlo.as_dict()}


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


@pytest.mark.parametrize("kind", ["lognormal", "hierarchical", "uniform"])
def test_the_keys_of_a_field_are_those_of_its_law(kind):
    entries = describe_settings()[f'field, kind = "{kind}"']
    only_if_given = set() if kind == "uniform" else {"mean", "angles", "conditions"}
    assert {entry.key for entry in entries} == set(make_field({"kind": kind}, 2, 4).settings()) | only_if_given
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
        network = type(build_network(name, Grid(2, 4, 8, 1, 8)))
        assert all(key in options.description for key in list(inspect.signature(network).parameters)[1:])
