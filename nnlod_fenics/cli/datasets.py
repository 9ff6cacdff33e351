"""Commands of datasets: info, verify, merge, split."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from nnlod_fenics.cli.common import (
    CommandGroup,
    Data,
    Overwrite,
    app,
    once,
    print_table,
)

dataset_app = CommandGroup(help="Describe, check, join and divide datasets.", no_args_is_help=True)
app.add_typer(dataset_app, name="dataset")


@dataset_app.command("info", short_help="Show size and contents.")
@once
def dataset_info(path: Data) -> None:
    """Show what a dataset contains, finished or not: its size, grid, law and the versions that made it.

    Example: nnlod dataset info data
    """
    from nnlod_fenics.dataset.describe import describe

    print_table(f"dataset {path}", describe(path))


@dataset_app.command("verify", short_help="Check all values, recompute some.")
@once
def dataset_verify(
    path: Data,
    sample: Annotated[int, typer.Option(min=0, help="Number of local matrices to recompute with DOLFINx.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Seed of their random choice.")] = 0,
) -> None:
    """Check checksums, NaNs and zero row and column sums; recompute some local matrices by the other method.

    Example: nnlod dataset verify data --sample 20
    """
    from nnlod_fenics.dataset import Dataset
    from nnlod_fenics.dataset.verify import verify_dataset

    result = verify_dataset(Dataset(path), sample, seed)
    rows = [
        ("realizations", str(result.realizations)),
        ("largest row or column sum, relative", f"{result.largest_sum:.1e}"),
        ("local matrices recomputed", str(result.recomputed)),
        ("largest relative difference to them", f"{result.largest_difference:.1e}"),
        ("problems", str(len(result.problems))),
    ]
    print_table(f"dataset {path}", rows)
    for problem in result.problems:
        print(f"nnlod: {problem}", file=sys.stderr)
    if result.problems:
        raise typer.Exit(1)


@dataset_app.command("merge", short_help="Join datasets with different seeds.")
@once
def dataset_merge(
    sources: Annotated[list[Path], typer.Argument(help="Dataset folders with the same settings and different seeds.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Output folder.")],
    overwrite: Overwrite = False,
) -> None:
    """Join datasets with the same settings and different seeds into one.

    Example: nnlod dataset merge part-0 part-1 part-2 -o data
    """
    from nnlod_fenics.dataset.combine import merge_datasets

    merge_datasets(sources, output, overwrite)


@dataset_app.command("split", short_help="Write training, validation and test set.")
@once
def dataset_split(
    path: Data,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for train, validation and test.")],
    overwrite: Overwrite = False,
) -> None:
    """Write training, validation and test set (80 : 10 : 10 by realization) as separate datasets.

    Example: nnlod dataset split data -o parts
    """
    from nnlod_fenics.dataset.combine import split_dataset

    split_dataset(path, output, overwrite)
