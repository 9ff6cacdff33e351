"""The list of random streams: every use of randomness has a number of its own.

All randomness of a run comes from ``numpy.random.SeedSequence(seed, spawn_key=(stream, …))``: realization k of a stream
has the same bits for every number of ranks and after every interruption, and two streams of one seed are independent.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np

from nnlod_fenics.errors import InputError

__all__ = ["Stream", "generator", "seed_sequence"]


class Stream(IntEnum):
    """What a stream is for; the numbers must never change, or datasets could not be resumed.

    Attributes:
        DATASET: Realizations of datasets.
        FRESH: Realizations of evaluations, in no dataset.
        ONLINE: Realizations made during training.
        SAMPLES: Samples of Monte Carlo.
        PILOT: Samples of its pilot run.
        LOW: Samples of its low-fidelity model alone.
        ORDER: Order of the samples of an epoch of training.
        SYMMETRY: Symmetries by which they are turned.
        DOMAIN: Domains of realizations of datasets.
    """

    DATASET = 0
    FRESH = 1
    ONLINE = 2
    SAMPLES = 3
    PILOT = 4
    LOW = 5
    ORDER = 6
    SYMMETRY = 7
    DOMAIN = 8


def seed_sequence(seed: Any, stream: Any, *index: Any) -> np.random.SeedSequence:
    """The seed of one draw.

    Args:
        seed: Seed of the run.
        stream: One of :class:`Stream`, or another non-negative integer.
        *index: Number of the realization, or of epoch and step.

    Returns:
        The seed sequence.

    Raises:
        InputError: If a number is not a non-negative integer.
    """
    for name, value in [("seed", seed), ("stage", stream), *(("index", value) for value in index)]:
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 0:
            raise InputError(f"{name} must be a non-negative integer, got {value!r}.")
    return np.random.SeedSequence(int(seed), spawn_key=tuple(map(int, (stream, *index))))


def generator(seed: Any, stream: Any, *index: Any) -> np.random.Generator:
    """A generator for the fields of one realization; see :func:`seed_sequence`."""
    return np.random.Generator(np.random.SFC64(seed_sequence(seed, stream, *index)))  # NumPy's fastest: half of a draw
