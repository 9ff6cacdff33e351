"""What a run refuses, what it survives, and what it leaves behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from fault_job import PLACES
from montecarlo_job import FUNCTIONALS, SETTINGS
from problem import GRID, LevelLaw, wrong_model
from waiting import PATIENCE

from nnlod_fenics import NNLOD, InputError, solvers
from nnlod_fenics.montecarlo import BoxAverage, MonteCarloSettings, PointValue, monte_carlo, sampling
from nnlod_fenics.montecarlo.candidates import load_networks, make_makers
from nnlod_fenics.montecarlo.sampling import Sampler
from nnlod_fenics.problem import Problem
from nnlod_fenics.runtime.job import on_first

SHORT = SETTINGS.changed(samples=40)


def run(output=None, settings=SHORT, law=None, model=None, functionals=FUNCTIONALS, **options):
    return monte_carlo(
        GRID, law or LevelLaw(), settings, model or wrong_model(), functionals=functionals, output=output, **options
    )


def assert_same(one, other):
    for name, field in one.fields.items():
        np.testing.assert_array_equal(field, other.fields[name])
    assert one.functionals == other.functionals and one.samples == other.samples


# -- resumed runs --------------------------------------------------------------------------------------


class OtherLaw(LevelLaw):
    def settings(self):
        return {"kind": "level", "variance": 2.0}


def other_weights():
    model = wrong_model()
    with torch.no_grad():
        model.network.S *= 1.0001
    return model


TWO = {"middle": PointValue((0.5,)), "all": BoxAverage((0.0,), (1.0,))}


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"law": OtherLaw()}, "field.variance is None there and 2.0 now"),
        ({"model": other_weights()}, "model "),
        ({"f": 2.0}, "source"),
        ({"f": lambda x: x[0] * (1 - 1e-9)}, "source"),
        ({"functionals": dict(reversed(TWO.items()))}, "functionals"),
        ({"functionals": {**TWO, "all": BoxAverage((0.0,), (1 - 1e-9,))}}, "functionals"),
        ({"settings": SHORT.changed(seed=6)}, "seed is 5 there and 6 now"),
        ({"settings": SHORT.changed(cost_ratio=3.0)}, "cost_ratio"),
    ],
)
def test_another_run_is_not_resumed(changes, key, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp() / "run"
    if not folder.exists():
        run(folder, functionals=TWO)
    before = (folder / "run.json").read_bytes()
    with pytest.raises(InputError, match=f"holds another run and cannot be resumed: {key}"):
        run(folder, resume=True, **{"functionals": TWO} | changes)
    assert (folder / "run.json").read_bytes() == before


def test_a_model_is_known_by_its_weights(tmp_path):
    run(tmp_path / "m")
    same = NNLOD(GRID, wrong_model().network, {"training_set": {"field": {}}, "losses": {}})
    run(tmp_path / "m", model=same, resume=True)
    assert len(json.loads((tmp_path / "m" / "montecarlo.json").read_text())["run"]["model"]) == 16


@pytest.mark.parametrize(("first", "then"), [(32, 200), (200, 32), (60, 120)])
def test_other_sample_numbers(first, then, tmp_path):
    # With 32 samples, 20 after the pilot run, a network of half the cost does not pay; with 200 it does.
    settings = SETTINGS.changed(cost_ratio=2.0 if 32 in (first, then) else 20.0)
    before = run(tmp_path / "m", settings.changed(samples=first))
    after = run(tmp_path / "m", settings.changed(samples=then), resume=True)
    assert [found.plan.multifidelity for found in (before, after)] == [first > 32, then > 32]
    assert_same(after, run(settings=settings.changed(samples=then)))


def test_damaged_blocks_are_computed_again(tmp_path, capsys):
    whole = run(tmp_path / "m")
    blocks = tmp_path / "m" / "blocks"
    (blocks / "pilot-000000.npz").write_bytes(b"PK nonsense")
    whole_block = (blocks / "low-000000.npz").read_bytes()
    (blocks / "low-000000.npz").write_bytes(whole_block[: len(whole_block) // 2])
    with np.load(blocks / "samples-000001.npz") as file:
        content = dict(file)
    np.savez(blocks / "samples-000001.npz", **content | {"mean": content["mean"][:, :3]})
    (blocks / ".samples-000002-abc.npz").write_bytes(b"left behind")
    assert_same(whole, run(tmp_path / "m", resume=True))
    assert capsys.readouterr().err.count("is damaged and will be computed again") == 3
    assert not list(blocks.glob(".*"))


def test_blocks_of_other_runs_and_places_are_computed_again(tmp_path, capsys):
    """Of another seed, another block of the same run, and one without a sign of where it is from."""
    settings = SHORT.changed(samples=80)
    whole = run(tmp_path / "m", settings)
    run(tmp_path / "other", settings.changed(seed=6))
    blocks, strange = tmp_path / "m" / "blocks", tmp_path / "other" / "blocks"
    (blocks / "samples-000000.npz").write_bytes((strange / "samples-000000.npz").read_bytes())
    (blocks / "samples-000001.npz").write_bytes((blocks / "samples-000002.npz").read_bytes())
    (blocks / "low-000000.npz").write_bytes((blocks / "low-000001.npz").read_bytes())
    with np.load(blocks / "pilot-000000.npz") as file:
        content = {name: file[name] for name in file if name != "run"}
    np.savez(blocks / "pilot-000000.npz", **content)
    assert_same(whole, run(tmp_path / "m", settings, resume=True))
    assert capsys.readouterr().err.count("belongs to another run or place and will be computed again") == 4


def test_warnings_are_kept_and_blocks_without_them_do_not_count(tmp_path, monkeypatch):
    """Of a run of an earlier version: its blocks are taken as they are."""
    settings = SHORT.changed(method="lod", samples=12)
    monkeypatch.setattr("nnlod_fenics.lod.reliability._MISMATCH_5", -1.0)  # so that no solution is trusted
    assert run(tmp_path / "m", settings).warned == (12, 12)
    monkeypatch.undo()
    assert run(tmp_path / "m", settings, resume=True).warned == (12, 12)  # not assessed again
    path = tmp_path / "m" / "blocks" / "samples-000001.npz"
    with np.load(path) as file:
        np.savez(path, **{name: file[name] for name in file if name != "warned"})
    found = run(tmp_path / "m", settings, resume=True)
    assert found.warned == (8, 8) and found.samples == {"samples": 12}
    assert json.loads((tmp_path / "m" / "montecarlo.json").read_text())["warned samples"] == {"warned": 8, "of": 8}
    assert run(settings=settings.changed(method="fem")).warned is None
    assert run(settings=settings.changed(form="galerkin")).warned is None
    assert run().warned[1] == run().samples["samples"]  # the reference method's of multifidelity


@pytest.mark.parametrize("content", ["{", "[1]"])
def test_damaged_description(content, tmp_path):
    run(tmp_path / "m")
    (tmp_path / "m" / "run.json").write_text(content)
    with pytest.raises(InputError, match=r"run\.json' is damaged"):
        run(tmp_path / "m", resume=True)


# -- folders -------------------------------------------------------------------------------------------


def test_folders_that_are_not_written_to(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="it is not a folder"):
        run(tmp_path / "file")
    with pytest.raises(InputError, match="cannot be written"):
        run(tmp_path / "file" / "below")
    for name in ("foreign", "blocks/foreign"):
        (tmp_path / "m" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "m" / name).write_text("x")
        with pytest.raises(InputError, match=rf"other files in it \({name}\)"):
            run(tmp_path / "m", overwrite=True)
        (tmp_path / "m" / name).unlink()
    assert not list((tmp_path / "m").rglob("*.json"))


def test_a_full_disk_is_one_sentence(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("numpy.savez", full)
    with pytest.raises(InputError, match=r"cannot be written \(No space left on device\).*--resume"):
        run(tmp_path / "m")
    monkeypatch.undo()
    assert_same(run(tmp_path / "m", resume=True), run())


def test_errors_of_rank_0_reach_all(tmp_path):
    command = ["mpirun", "-n", "2", "--bind-to", "none", sys.executable]
    command += [str(Path(__file__).with_name("fault_job.py")), str(tmp_path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, env=environment)
    assert done.returncode == 0, done.stderr
    for place in PLACES:
        first, second = ((tmp_path / f"{place}-{rank}.txt").read_text() for rank in range(2))
        if place.endswith("next"):
            assert first == "Strange: 1 and 2" and second == "RuntimeError: Strange: 1 and 2"
        else:
            assert first == second and "No space left on device" in first


def test_on_first_without_mpi():
    assert on_first(None, lambda: 3) == 3
    with pytest.raises(KeyError):
        on_first(None, lambda: {}["x"])


# -- time ----------------------------------------------------------------------------------------------


def test_time_bounds_the_pilot_run_and_the_first_round(tmp_path):
    settings = SETTINGS.changed(samples=None, pilot=64, seconds=1e-9)
    found = run(tmp_path / "m", settings)
    assert found.stopped == "time" and found.samples == {"pilot": 8, "samples": 4, "low": 32}
    assert 0 < sum(found.seconds["pilot"].values()) < found.cost
    assert np.isfinite(list(found.fields.values())).all()
    # resumed without a limit, all of the pilot run is done, and the plan follows from it
    settings = settings.changed(seconds=None, samples=200)
    assert_same(run(tmp_path / "m", settings, resume=True), run(settings=settings))


def test_what_is_done_once_is_not_timed(monkeypatch):
    clock, seen = [0.0], set()

    compute = solvers._Coarse.solve_many

    def computing(self, A):
        clock[0] += len(A) + (0 if self.method in seen else 1000)  # the first call takes long
        seen.add(self.method)
        return compute(self, A)

    monkeypatch.setattr(solvers._Coarse, "solve_many", computing)
    monkeypatch.setattr(sampling.time, "perf_counter", lambda: clock[0])
    settings, problem = MonteCarloSettings(), Problem()
    makers = make_makers(GRID, settings, load_networks(GRID, settings, wrong_model()), problem)
    sampler = Sampler(GRID, LevelLaw(), problem, {}, makers)
    block = sampler.block("pilot", ("lod", "nn"), 0, range(8), lambda: None)
    sampler.destroy()
    assert block.seconds.tolist() == [8, 8, 0]


# -- settings ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["samples", "tolerance", "seconds", "seed", "pilot", "cost_ratio", "level"])
@pytest.mark.parametrize("value", [True, "1", float("nan")])
def test_numbers_are_numbers(name, value):
    with pytest.raises(InputError, match=f"{name} must be"):
        SETTINGS.changed(**{name: value})


def test_things_that_are_no_functionals():
    with pytest.raises(InputError, match=r"functional 'u' must be a PointValue.*, got str"):
        run(functionals={"u": "point(0.5)"})
