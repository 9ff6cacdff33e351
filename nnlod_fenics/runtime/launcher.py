"""What the launcher (mpirun, srun, torchrun) says of this process, and the cores that it may use; works without MPI."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

from nnlod_fenics.errors import InputError

__all__ = ["Launched", "available_cores", "check_alone", "is_first_rank", "launched", "local_ranks"]


class Launched(NamedTuple):
    """This process among those that a launcher started.

    Attributes:
        rank: Its number.
        size: Number of processes.
        local_rank: Its number on its node.
    """

    rank: int
    size: int
    local_rank: int


# Number of the process, number of processes, its number on its node. Only srun sets SLURM_STEP_NUM_TASKS; a batch
# script, which is one process, has the other variables of Slurm too.
_LAUNCHERS = (
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),  # Open MPI
    ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"),  # MPICH
    ("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_LOCAL_RANK"),  # MVAPICH
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"),
    ("RANK", "WORLD_SIZE", "LOCAL_RANK"),  # torchrun
)
_LOCAL_SIZES = (  # processes on this node
    "LOCAL_WORLD_SIZE",
    "OMPI_COMM_WORLD_LOCAL_SIZE",
    "MPI_LOCALNRANKS",
    "MV2_COMM_WORLD_LOCAL_SIZE",
)


def launched() -> Launched:
    """This process as its launcher counts it; a single one where no launcher was used.

    A variable left over in the environment (a lone RANK, say) does not count: number and size must both be there.
    """
    for rank, size, local in _LAUNCHERS:
        numbers = [_number(os.environ.get(name)) for name in (rank, size)]
        if None not in numbers and (numbers[1] or 1) > 1:
            return Launched(numbers[0] or 0, numbers[1] or 1, _number(os.environ.get(local)) or 0)
    return Launched(0, 1, 0)


def is_first_rank() -> bool:
    """Whether this process is to speak for all of its job."""
    return launched().rank == 0


def check_alone(what: str) -> None:
    """Check that this process is the only one of its job.

    Args:
        what: What must run alone, as the subject of a sentence.

    Raises:
        InputError: If it is one of several.
    """
    size = launched().size
    if size > 1:
        raise InputError(
            f"{what} must be run as a single process, got {size} ranks: it starts mpirun itself where that pays."
        )


def local_ranks(environment: Mapping[str, str] | None = None) -> int:
    """Processes of this job on this node, as reported by Open MPI, MPICH, torchrun or Slurm; one where none does."""
    environment = os.environ if environment is None else environment
    for name in _LOCAL_SIZES:
        if count := _number(environment.get(name)):
            return count
    # Slurm has a list of nodes, "4(x2),3": the most crowded one counts.
    nodes = environment.get("SLURM_STEP_TASKS_PER_NODE", "").split(",")
    return max([count for node in nodes if (count := _number(node.partition("(")[0]))], default=1)


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.strip().isdecimal() else None
