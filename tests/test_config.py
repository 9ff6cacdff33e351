"""Settings: defaults, files, overrides, and errors that name key, file and expectation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nnlod_fenics import Grid, InputError
from nnlod_fenics.config import load_config
from nnlod_fenics.launch import write_config
from nnlod_fenics.surrogate import PAPER, TrainingSettings

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
    assert config.training.make().drops == ((5, 1e-4),)


def test_an_override_keeps_the_other_defaults_of_the_field():
    field = load_config(None, ["field.correlation_length=0.2"]).make_field().settings()
    assert (field["variance"], field["correlation_length"]) == (0.5, 0.2)
    assert load_config(None, ["field.kind=uniform"]).make_field().settings()["kind"] == "uniform"


def test_the_papers_network_is_trained_in_the_papers_way_unless_told_otherwise(tmp_path):
    paper = load_config(None, ["network.name=paper"]).training.make()
    assert paper == TrainingSettings(**PAPER)
    assert load_config(None, ["network.name=paper", "training.epochs=7"]).training.make() == replace(paper, epochs=7)
    cosine = load_config(None, ["network.name=paper", "training.schedule=cosine"])
    assert cosine.training.make() == replace(paper, schedule="cosine", drops=())
    assert load_config(write_config(tmp_path, cosine)).resolved() == cosine.resolved()
    own = ["training.drops=[[3, 1e-5]]", "training.schedule=steps"]
    assert load_config(None, ["network.name=paper", *own]).training.make() == replace(paper, drops=((3, 1e-5),))
    assert load_config().training.make() == TrainingSettings()


@pytest.mark.parametrize("path", PRESETS, ids=[p.stem for p in PRESETS])
def test_presets_are_valid(path):
    full, small = load_config(path), load_config(path, scale="small")
    assert small.dataset.realizations < full.dataset.realizations or path.stem == "demo"
    assert full.resolved()["grid"]["dim"] == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[grid]\ncoarse = 'x'", r"grid\.coarse in .*run\.toml': input should be a valid integer, got 'x'"),
        ("[grid]\ncoarse = 3", r"grid in .*run\.toml': coarse must divide coefficient"),
        ("[grid]\nroarse = 4", r"grid\.roarse in .*run\.toml' is no setting; expected one of \['coarse'"),
        ("[gird]\ncoarse = 4", r"gird in .*run\.toml' is no setting"),
        ("[field]\nvariance = -1", r"field in .*run\.toml': field\.variance must be"),
        ("[field]\nnu = 1", r"field\.nu is no setting"),
        ("[dataset]\nrealizations = 0", r"dataset\.realizations in .*greater than or equal to 1, got 0"),
        ("[dataset]\nmethod = 'magic'", r"dataset\.method in .*'condensed' or 'dolfinx', got 'magic'"),
        ("[training]\nepochs = 0", r"training\.epochs must be an integer of at least 1"),
        ("[training]\nepoch = 3", r"training\.epoch is no setting"),
        ("[training]\ndrops = [[3]]", r"training\.drops must be a list of"),
        ("network.name = 'paper'\ntraining = 4", r"training in .*run\.toml' must be a table"),
        ("grid = 4", r"grid in .*run\.toml'"),
        ("[[grid]]\ncoarse = 4", r"grid in .*run\.toml' must be a table, got \["),
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
