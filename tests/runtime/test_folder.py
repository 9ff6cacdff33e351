"""Output folders: what overwriting removes, what it leaves, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nnlod_fenics.errors import InputError
from nnlod_fenics.runtime.folder import Contents, output_folder

_PARTS = r"parts/\d+\.h5"
ALONE = Contents("a run", "run.json", ("run.json", "report.md", _PARTS), parts=_PARTS)
SHARED = replace(ALONE, exclusive=False)


def fill(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_overwriting_leaves_files_that_are_not_its_own(tmp_path):
    others = {"thesis.tex", "parts/notes.txt", "parts/1.h5.bak", "report.md.old", "a/run.json"}
    fill(tmp_path, "run.json", "report.md", "parts/1.h5", "parts/.2-a1b2c3.h5", ".report-abc_d.md", *others)
    with output_folder(tmp_path, SHARED, overwrite=True):
        assert files(tmp_path) == others | {".lock"}
    assert files(tmp_path) == others
    for name in others:
        (tmp_path / "alone").mkdir(exist_ok=True)
        fill(tmp_path / "alone", "run.json", name)
        with (
            pytest.raises(InputError, match="other files in it"),
            output_folder(tmp_path / "alone", ALONE, False, True),
        ):
            pass
        assert files(tmp_path / "alone") == {"run.json", name}
        (tmp_path / "alone" / name).unlink()


def test_finished_parts_without_the_mark_are_kept(tmp_path):
    fill(tmp_path, "parts/1.h5")
    for contents in (ALONE, SHARED, replace(ALONE, resumable=False)):
        for resume in (False, True):
            with pytest.raises(InputError, match=r"finished parts of a run .* no run\.json"):
                with output_folder(tmp_path, contents, resume):
                    pass
        assert files(tmp_path) == {"parts/1.h5"}
    with output_folder(tmp_path, ALONE, overwrite=True):
        assert files(tmp_path) == {".lock"}


def test_resuming_removes_what_a_killed_job_was_writing(tmp_path):
    fill(tmp_path, "run.json", "parts/1.h5", "parts/.2-a1b2c3.h5", ".run-xyz_1.json")
    with output_folder(tmp_path, ALONE, resume=True):
        assert files(tmp_path) == {".lock", "run.json", "parts/1.h5"}


@pytest.mark.parametrize("given", [("run.json",), ("parts/1.h5",)])
def test_what_cannot_be_resumed_is_not_said_to_be(tmp_path, given):
    fill(tmp_path, *given)
    with (
        pytest.raises(InputError, match="--overwrite") as caught,
        output_folder(tmp_path, replace(ALONE, resumable=False)),
    ):
        pass
    assert "resume" not in str(caught.value).removeprefix(f"output {str(tmp_path)!r}")


def test_a_second_job_is_refused(tmp_path):
    with output_folder(tmp_path / "new", ALONE):
        for options in ({}, {"resume": True}, {"overwrite": True}):
            with (
                pytest.raises(InputError, match="in use by another job"),
                output_folder(tmp_path / "new", ALONE, **options),
            ):
                pass


def test_names_that_are_too_long(tmp_path):
    with (
        pytest.raises(InputError, match="cannot be written: File name too long"),
        output_folder(tmp_path / ("x" * 256), ALONE),
    ):
        pass
