"""Longer datasets from shorter ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from nnlod_fenics.dataset import Dataset
from nnlod_fenics.dataset.layout import INDEX, Block, block_path, create_index, identity_of, write_block

__all__ = ["extend"]


def extend(source: Dataset, folder: Path, realizations: int) -> None:
    """Begin a dataset with the realizations of a shorter one; ``nnlod generate --resume`` then goes on with it.

    Realization k depends on the seed and on k only, so that it is the same in both. Blocks that are there are kept.

    Args:
        source: The shorter dataset, of ``nnlod generate``.
        folder: Folder of the longer one.
        realizations: Its length.
    """
    config = source.config | {"dataset": source.config["dataset"] | {"realizations": realizations}}
    identity = identity_of({section: config[section] for section in ("grid", "field", "dataset")})
    header = replace(source.header, config=config, realizations=realizations, identity=identity)
    if not (folder / INDEX).exists():
        create_index(folder, header)
    for block in range(len(source) // header.block):  # whole ones
        if not block_path(folder, block).exists():
            members = header.members(block)
            parameters, origin = (source.column(name, members) for name in ("parameters", "origin"))
            Z, S, *marks = source.arrays(members)
            write_block(folder, header, block, Block(Z, S, parameters, origin, *marks))
