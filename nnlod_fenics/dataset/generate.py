"""Generation of datasets: random fields and their local matrices, in parallel under MPI.

Small blocks of realizations are handed out one by one, so that no rank waits for a share of its own and none
holds more than one block. Realization k has the same bits for every number of ranks, every block size and
after any number of interruptions: it depends on the seed and on k only, and each rank computes with one
thread, whatever the number of ranks.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from nnlod_fenics.config import Config
from nnlod_fenics.dataset.domains import check_plain, draw_domain
from nnlod_fenics.dataset.folder import CONTENTS, prepare
from nnlod_fenics.dataset.layout import UNSTATED, Block, Header, identity_of, write_block
from nnlod_fenics.errors import InputError, NumericalError
from nnlod_fenics.fields import (
    PARAMETERS,
    FieldLaw,
    check_law,
    check_sample,
    make_field,
    names_of_parameters,
    settings_of_law,
)
from nnlod_fenics.grid import Grid
from nnlod_fenics.lod.local import matrices_with_loads
from nnlod_fenics.runtime.folder import output_folder
from nnlod_fenics.runtime.job import (
    EXIT_RESUMABLE,
    STOPPED,
    Interrupted,
    StopSignal,
    is_first,
    on_first,
    run_blocks,
    world,
)
from nnlod_fenics.runtime.progress import show_progress
from nnlod_fenics.runtime.schedule import Schedule
from nnlod_fenics.runtime.versions import software_versions
from nnlod_fenics.window import domain_marks

__all__ = ["EXIT_RESUMABLE", "Interrupted", "generate"]


def generate(
    config: Config,
    output: str | Path,
    comm: Any = None,
    resume: bool = False,
    overwrite: bool = False,
    law: FieldLaw | None = None,
    grid: Grid | None = None,
) -> Path:
    """Generate a dataset; collective.

    Args:
        config: Settings of the run.
        output: Folder of the dataset.
        comm: MPI communicator; COMM_WORLD (or none, without mpi4py) if None.
        resume: Resume an interrupted run of the same settings, if there is one.
        overwrite: Replace a dataset that is there.
        law: Law of the fields, in the place of that of the settings; any object with ``sample(seed, index, stage)``.
        grid: The discretisation, in the place of that of the settings.

    Returns:
        The folder.

    Raises:
        InputError: If the settings or the folder do not fit, or the folder cannot be written to any more; on
            every rank. Finished realizations are kept.
        Interrupted: If the run was stopped (SIGTERM, SIGINT, SIGUSR1) before it was complete; on every
            rank. Blocks that were being computed are dropped, finished ones kept.

    Note:
        Any other error on one rank ends the whole job at once, with that rank's traceback.

    Example:
        >>> from nnlod_fenics import load_config
        >>> small = ["grid.coarse=4", "grid.fine=16", "grid.coefficient=8", "grid.ell=1", "dataset.realizations=10"]
        >>> generate(load_config(overrides=small), "data").name
        'data'
        >>> generate(load_config(overrides=small), "data", resume=True).name  # all is there: nothing is computed
        'data'
    """
    comm = world() if comm is None else comm
    folder = Path(output)
    mesh = config.make_grid() if grid is None else grid
    given = (
        make_field(config.field, mesh.dim, mesh.coefficient, mesh.lengths, mesh.widths)
        if law is None
        else check_law(law)
    )
    header = _header(config, mesh, given, own=law is not None)
    with ExitStack() as stack:

        def begin() -> list[int]:
            stack.enter_context(output_folder(folder, CONTENTS, resume, overwrite))
            return prepare(folder, header, resume)

        reason = _run(header, given, folder, comm, on_first(comm, begin))
    if reason == STOPPED:
        raise Interrupted(f"stopped before the end; run again with --resume to finish {str(folder)!r}.")
    if reason is not None:
        raise InputError(reason)
    return folder


def _header(config: Config, grid: Grid, law: FieldLaw, own: bool) -> Header:
    """What the dataset records of itself; a custom law, given or registered, keeps all its parameters."""
    settings = config.resolved() | {"grid": grid.as_dict()}
    if config.dataset.domains:
        check_plain(grid)
    stated = settings["dataset"].items()
    settings["dataset"] = {key: value for key, value in stated if key not in UNSTATED or value != UNSTATED[key]}
    if own:
        settings["field"] = settings_of_law(law)
    found = {*check_sample(law.sample(config.dataset.seed, 0), grid.coefficient_shape).parameters}
    found |= set(names_of_parameters(law))
    names = PARAMETERS + tuple(sorted(found - set(PARAMETERS)))
    count, block = config.dataset.realizations, config.dataset.block
    identity = identity_of({section: settings[section] for section in ("grid", "field", "dataset")})
    return Header(grid, settings, count, block, software_versions(), parameters=names, identity=identity)


def _run(header: Header, law: FieldLaw, folder: Path, comm: Any, blocks: list[int]) -> str | None:
    """Compute the missing blocks together; why that was halted, if it was."""
    total = sum(len(header.members(block)) for block in blocks)

    def work(schedule: Schedule, stop: StopSignal) -> None:
        _take_blocks(header, law, folder, schedule, stop)

    with show_progress("generate", total, is_first(comm)) as report:
        return run_blocks(comm, blocks, work, report)


def _take_blocks(header: Header, law: FieldLaw, folder: Path, schedule: Schedule, stop: StopSignal) -> None:
    for block in schedule:
        try:
            content = _compute(header, law, block, stop)
        except Interrupted:
            return schedule.halt(STOPPED)
        try:
            write_block(folder, header, block, content)
        except InputError as error:
            reason = getattr(error.__cause__, "strerror", None) or str(error).rstrip(".")
            return schedule.halt(
                f"output {str(folder)!r} could not be written ({reason}); what is finished is kept and readable, make "
                "room and run again with --resume."
            )
        schedule.finished(len(header.members(block)))


def _compute(header: Header, law: FieldLaw, block: int, stop: StopSignal) -> Block:
    """Compute the realizations of a block one by one; a signal drops the block before the next of them."""
    grid, settings = header.grid, header.config["dataset"]
    Z, S, parameters, origin, marks = [], [], [], [], []
    for k in header.members(block):
        stop.check()
        sample = check_sample(law.sample(settings["seed"], k), grid.coefficient_shape)
        Z.append(sample.Z.astype(header.dtype))  # S belongs to the field as stored
        domain = draw_domain(grid, settings["domains"], settings["seed"], k) if header.domains else grid
        marks.append(domain_marks(domain))
        try:
            A = np.exp(Z[-1].astype(np.float64))
            S.append(matrices_with_loads(domain, A, header.form, header.loads, settings["method"]))
        except NumericalError as error:  # which counts from 0 in what it is given
            reason = str(error).replace("of realization 0 ", "")
            raise NumericalError(f"realization {k} (seed {settings['seed']}): {reason}") from error
        if not np.isfinite(S[-1]).all():
            raise NumericalError(f"local matrices of realization {k} (seed {settings['seed']}) are not finite.")
        if unknown := sorted(set(sample.parameters) - set(header.parameters)):
            raise InputError(
                f"law must give every realization the parameters of the first one, {list(header.parameters)}; "
                f"realization {k} has {unknown[0]!r} too; state all names in law.parameter_names."
            )
        parameters.append([sample.parameters.get(name, np.nan) for name in header.parameters])
        origin.append([settings["seed"], k])
    stop.check()
    own = np.stack(marks) if header.domains else None
    return Block(np.stack(Z), np.stack(S), np.array(parameters), np.array(origin, dtype=np.int64), own)
