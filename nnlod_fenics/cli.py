"""The ``nnlod`` command: each subcommand reads its settings and calls one public function."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

import typer
import typer.core

from nnlod_fenics.errors import InputError, MissingDependencyError, NumericalError

__all__ = ["main"]

Function = TypeVar("Function", bound=Callable[..., Any])

# Newer Typers come with a Click of their own; the base of a mistaken command line's errors, in either.
_ClickException: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


class _Command(typer.core.TyperCommand):
    def get_help(self, ctx: Any) -> str:
        # Typer 0.15 escapes the brackets of defaults for Rich, which does not print the help here
        return super().get_help(ctx).replace(r"\[", "[")


def _once(function: Function) -> Function:
    """A command for one process: of several ranks the first one runs it alone."""

    @wraps(function)
    def run(*arguments: Any, **options: Any) -> Any:
        from nnlod_fenics.runtime.launcher import is_first_rank

        return function(*arguments, **options) if is_first_rank() else None

    return cast(Function, run)


class _Typer(typer.Typer):
    def command(self, *arguments: Any, **options: Any) -> Callable[[Function], Function]:
        return super().command(*arguments, cls=_Command, **options)


app = _Typer(
    name="nnlod",
    help="NN-LOD on FEniCSx: compress diffusion problems with rough random coefficients into small coarse matrices.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
)

dataset_app = _Typer(help="Describe, check, join and divide datasets.", no_args_is_help=True)
app.add_typer(dataset_app, name="dataset")

ConfigFile = Annotated[Path | None, typer.Argument(help="TOML file with the settings; the demo's if omitted.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", metavar="KEY=VALUE", help="Override a setting, e.g. field.variance=1."),
]
Scale = Annotated[str | None, typer.Option(help="Use the file's table [scale.NAME], e.g. small.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")]
Resume = Annotated[bool, typer.Option("--resume", help="Resume an interrupted run.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
Data = Annotated[Path, typer.Argument(help="Dataset folder, as written by nnlod generate.")]
Model = Annotated[
    Path,
    typer.Argument(help="Model folder, as written by nnlod train, or the name of one that comes with the package."),
]


def _print_table(title: str, rows: list[tuple[str, str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, show_header=False, title_justify="left")
    for name, value in rows:
        table.add_row(name, value)
    width = None if sys.stdout.isatty() else 120
    Console(width=width).print(table)


def _settings(
    config: Path | None, overrides: list[str] | None, scale: str | None = None, whole_grid: bool = True
) -> Any:
    from nnlod_fenics.config import load_config

    return load_config(config, overrides or [], scale, whole_grid)


def _show_version(wanted: bool) -> None:
    if wanted:
        from nnlod_fenics.about import __version__

        typer.echo(f"nnlod-fenics {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options of the command itself."""


@app.command(short_help="Run the main job in small, from data to report.")
def demo(
    output: Output = Path("results/demo"),
    overrides: Overrides = None,
    overwrite: Overwrite = False,
) -> None:
    """Run the main job in small: generate, train, solve a fresh realization by FEM, PG-LOD and NN-LOD.

    Example: nnlod demo -o results/demo
    """
    from nnlod_fenics.workflows.demo import SETTINGS, run, summary

    result = run(output, _settings(None, [*SETTINGS, *(overrides or [])]), overwrite)
    _print_table(f"NN-LOD demo, report in {output / 'report.md'}", summary(result))


@app.command(short_help="Draw random coefficients.")
@_once
def sample(
    config: ConfigFile = None,
    output: Output = Path("fields"),
    count: Annotated[int, typer.Option(min=1, help="Number of realizations.")] = 1,
    overrides: Overrides = None,
) -> None:
    """Draw random coefficients: a .npy file of A, a picture and a ParaView file for each.

    Example: nnlod sample demos/config/demo.toml --count 3 -s field.variance=1.0 -o fields
    """
    from nnlod_fenics.workflows.sample import write_samples

    for path, drawn in write_samples(_settings(config, overrides), output, count):
        parameters = ", ".join(f"{name} {value:.4g}" for name, value in drawn.parameters.items())
        typer.echo(f"{path}: contrast {drawn.A.max() / drawn.A.min():.3g}" + (f", {parameters}" if parameters else ""))


@app.command(short_help="Make a dataset; in parallel under mpirun.")
def generate(
    config: ConfigFile = None,
    output: Output = Path("data"),
    overrides: Overrides = None,
    scale: Scale = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Generate a dataset of fields and local matrices; in parallel under mpirun.

    Example: mpirun -n 4 nnlod generate demos/config/demo.toml -o data
    """
    from nnlod_fenics.dataset.generate import generate as make

    with _resumable():
        make(_settings(config, overrides, scale), output, resume=resume, overwrite=overwrite)


@app.command(short_help="Train a network on a dataset.")
def train(
    data: Data,
    config: ConfigFile = None,
    output: Output = Path("model"),
    overrides: Overrides = None,
    scale: Scale = None,
    init_from: Annotated[
        str | None, typer.Option(help="Model to start from (transfer learning): a folder or a name.")
    ] = None,
    online: Annotated[
        int | None,
        typer.Option(min=1, help="Train on so many fresh realizations an epoch; the dataset validates and tests only."),
    ] = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Train a network on a dataset; keeps the weights of the smallest validation loss. In parallel under mpirun.

    Example: nnlod train data demos/config/demo.toml -o model -s training.epochs=40
    """
    from nnlod_fenics.dataset import Dataset
    from nnlod_fenics.network.storage import read_model
    from nnlod_fenics.output.figures import plot_loss
    from nnlod_fenics.runtime.files import read_json
    from nnlod_fenics.runtime.launcher import is_first_rank
    from nnlod_fenics.training import train as fit
    from nnlod_fenics.training.data import fresh_each_epoch
    from nnlod_fenics.training.processes import adopt_launcher

    adopt_launcher()
    settings = _settings(config, overrides, scale)
    training = settings.training if init_from is None else settings.training.changed(init_from=init_from)
    dataset = Dataset(data)
    content = dataset if online is None else fresh_each_epoch(dataset, online, training.seed, training.device)
    fit(content, output, settings.network.name, settings.network.options, training, resume, overwrite)
    if not is_first_rank():
        return
    history = read_json(output / "loss.json")
    drops = [epoch + 1 for epoch, _ in training.drops if epoch < len(history)]
    plot_loss(output / "loss.png", [h["train"] for h in history], [h["validation"] for h in history], drops)
    losses = read_model(output)["losses"]
    rows = [(f"loss (4.1), {name}", f"{losses[name]:.3e}") for name in ("train", "validation", "test")]
    rows.append(("epoch of the smallest validation loss", f"{losses['epoch'] or '0, the start'}"))
    if "start" in losses:
        rows.append(("validation loss of the start", f"{losses['start']:.3e}"))
    _print_table(f"trained {output}", rows)


@app.command(short_help="Measure a model as the paper does.")
@_once
def evaluate(
    model: Model,
    data: Annotated[Path | None, typer.Option("--data", help="Dataset folder, for the test loss.")] = None,
    output: Output = Path("evaluation"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of the fresh realization.")] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Evaluate a model as the paper does: test loss, and a fresh realization by FEM, PG-LOD and NN-LOD.

    Example: nnlod evaluate model --data data -o evaluation
    """
    from nnlod_fenics.dataset import Dataset
    from nnlod_fenics.network import NNLOD
    from nnlod_fenics.workflows.evaluate import evaluate as run

    dataset = None if data is None else Dataset(data)
    result = run(NNLOD.load(model), output, dataset, seed, overwrite)
    loss = "unknown" if result["test loss"] is None else f"{result['test loss']:.3e}"
    rows = [("test loss (4.1)", loss), ("contrast", f"{result['contrast']:.1f}")]
    rows += [(name, f"{value:.3e}") for name, value in result["errors"].items()]
    for tolerance, shares in result.get("error estimates", {}).get("tolerances", {}).items():
        before, after = (shares[f"beyond the tolerance, {how}"] for how in ("predicted", "recomputed"))
        text = f"{100 * shares['recomputed']:.1f} % recomputed, beyond it {100 * before:.2f} % -> {100 * after:.2f} %"
        rows.append((f"local matrices with trust = {tolerance}", text))
    _print_table(f"evaluation, figures in {output}", rows)


@app.command(short_help="Solve one problem by FEM, PG-LOD or NN-LOD.")
@_once
def solve(
    method: Annotated[str, typer.Option(help="fem, lod or nn.")] = "lod",
    config: Annotated[Path | None, typer.Option(help="TOML file with the settings; the demo's if omitted.")] = None,
    coefficient: Annotated[
        Path | None,
        typer.Option(
            help="Coefficient A: .npy, .npz, .h5, .mat, .csv, .nc or .tif file. The grid follows from its shape where "
            "the settings state none."
        ),
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Name of the coefficient in a file of several.")] = None,
    no_data: Annotated[float | None, typer.Option(help="Value of cells without data in the file.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Draw the coefficient with this seed instead.")] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Model folder or name, for method nn; by default one that comes with the package."),
    ] = None,
    trust: Annotated[
        float | None,
        typer.Option(help="Compute local matrices exactly whose estimated relative error exceeds this, for method nn."),
    ] = None,
    source: Annotated[float, typer.Option("--source", "-f", help="Right-hand side f, a constant.")] = 1.0,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format", help="Files for ParaView: vtkhdf (default) or vti; by DOLFINx xdmf or bp. Repeatable."
        ),
    ] = None,
    render: Annotated[bool, typer.Option("--render", help="Make a picture in three dimensions, with PyVista.")] = False,
    correctors: Annotated[
        list[int] | None,
        typer.Option(metavar="ELEMENT", help="Write the correctors of this element too, for method lod. Repeatable."),
    ] = None,
    output: Output = Path("solution"),
    overrides: Overrides = None,
) -> None:
    """Solve one problem, with a coefficient from a file or a seed; writes .npy, ParaView files and figures.

    Example: nnlod solve --method lod --coefficient A.npy -s grid.coarse=32 -o solution
    """
    from nnlod_fenics.workflows.solve import solve_problem

    settings = _settings(config, overrides, whole_grid=False)
    solution = solve_problem(
        settings,
        output,
        method,
        coefficient,
        dataset,
        seed,
        model,
        source,
        trust,
        no_data,
        formats or ("vtkhdf",),
        render,
        correctors or (),
    )
    rows = [(f"seconds: {name}", f"{value:.3f}") for name, value in solution.seconds.items()]
    _print_table(f"{method} solution in {output}", [("mean of u", f"{solution.u.mean():.6g}"), *rows])


@app.command(short_help="Write a model's network as .pt2 or ONNX.")
@_once
def export(
    model: Model,
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write: .pt2 (PyTorch) or .onnx.")] = Path(
        "network.onnx"
    ),
) -> None:
    """Write a model's network as a file that other programs run: windows of log A in, local matrices out.

    Example: nnlod export lognormal-1.0 -o network.onnx
    """
    from nnlod_fenics.network import NNLOD, export_network

    loaded = NNLOD.load(model)
    typer.echo(f"wrote {export_network(loaded.network, loaded.grid, output)}")


@app.command(short_help="Run the paper's experiments.")
def reproduce(
    experiments: Annotated[list[str], typer.Argument(help="1, 2, 3, 1-H, 2-H, 3-H, or all.")],
    scale: Annotated[str, typer.Option(help="small: minutes on a laptop; paper: the paper's sizes.")] = "small",
    output: Output = Path("results/reproduce"),
    device: Annotated[str, typer.Option(help="Where networks are trained: cpu or cuda.")] = "cpu",
) -> None:
    """Run experiments of the paper from data to report; what is finished is taken from the output folder.

    Example: nnlod reproduce all --scale small -o results/reproduce
    """
    from nnlod_fenics.workflows.reproduce import reproduce as run

    for name, result in run(experiments, scale, output, device).items():
        rows = [
            (finding["claim"], ", ".join(f"{v['network']}: {v['answer']}" for v in finding["verdicts"]))
            for finding in result["findings"]
        ]
        _print_table(f"experiment {name}, report in {output / scale / name / 'report.html'}", rows)


@app.command(short_help="Estimate expectations and their errors.")
def montecarlo(
    config: ConfigFile = None,
    method: Annotated[
        str | None, typer.Option(help="fem, lod, nn (keeps the network's bias) or multifidelity (does not).")
    ] = None,
    reference: Annotated[str | None, typer.Option(help="What multifidelity estimates: lod or fem.")] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Model folder or name, for nn and multifidelity; by default one that comes with the package. "
            "Its grid and field count where the settings state none."
        ),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(
            help="Stop at this number of samples; for multifidelity at their cost, in samples of --reference."
        ),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            help="Stop at this half-width of the mean of --target, or standard error of the mean field in L2."
        ),
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="Name of a functional, for --tolerance and the sample numbers.")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(help="Stop after this time; blocks of samples that are begun are finished.")
    ] = None,
    functionals: Annotated[
        list[str] | None,
        typer.Option("--functional", help="point(0.5, 0.5), average(0:1, 0:1), outflow(x=1); NAME=... to name it."),
    ] = None,
    source: Annotated[float, typer.Option("--source", "-f", help="Right-hand side f, a constant.")] = 1.0,
    seed: Annotated[int | None, typer.Option(help="Seed of the fields; dataset.seed if omitted.")] = None,
    pilot: Annotated[int | None, typer.Option(help="Samples of the pilot run of multifidelity.")] = None,
    cost_ratio: Annotated[
        float | None, typer.Option(help="Cost of a sample of --reference over one of the network; measured if omitted.")
    ] = None,
    level: Annotated[float | None, typer.Option(help="Probability of the confidence intervals.")] = None,
    output: Output = Path("montecarlo"),
    overrides: Overrides = None,
    scale: Scale = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Mean, variance and functionals of the solution with confidence intervals; in parallel under mpirun.

    Give at least one of --samples, --tolerance and --seconds; the first that is reached ends the run. Options that are
    omitted are taken from the section [montecarlo] of the settings.

    Example: mpirun -n 4 nnlod montecarlo --model model --samples 500 --functional "point(0.5, 0.5)" -o montecarlo
    """
    from nnlod_fenics.montecarlo.report import table
    from nnlod_fenics.montecarlo.run import run_from_config
    from nnlod_fenics.runtime.launcher import is_first_rank

    options = {
        "method": method,
        "reference": reference,
        "model": model,
        "samples": samples,
        "tolerance": tolerance,
        "target": target,
        "seconds": seconds,
        "functionals": functionals or None,
        "seed": seed,
        "pilot": pilot,
        "cost_ratio": cost_ratio,
        "level": level,
    }
    settings = _settings(config, overrides, scale, whole_grid=False)
    section = settings.montecarlo.changed(**{name: value for name, value in options.items() if value is not None})
    settings = settings.model_copy(update={"montecarlo": section})
    with _resumable():
        estimate = run_from_config(settings, source, output, resume, overwrite)
    if is_first_rank():
        _print_table(f"Monte Carlo by {section.method}, results in {output}", table(estimate))


@app.command(short_help="Tell what a dataset or model holds.")
@_once
def info(path: Annotated[Path, typer.Argument(help="Dataset folder, model folder or name, or settings file.")]) -> None:
    """Tell what a dataset, a model or a settings file holds.

    Example: nnlod info data
    """
    import json

    from nnlod_fenics.dataset import Dataset
    from nnlod_fenics.dataset.layout import INDEX
    from nnlod_fenics.network.shipped import find_model
    from nnlod_fenics.network.storage import DESCRIPTION, read_model

    if (path / INDEX).exists():
        data = Dataset(path, partial=True)
        content: dict[str, Any] = {"realizations": len(data), "finished": len(data.finished), "versions": data.versions}
        content |= data.config
    elif (find_model(path) / DESCRIPTION).exists():
        content = read_model(find_model(path))
    elif path.is_file():
        content = _settings(path, None).resolved()
    else:
        raise InputError(f"{str(path)!r} is neither a dataset, a model nor a settings file.")
    typer.echo(json.dumps(content, indent=1))


@app.command(short_help="List all settings.")
def settings(
    toml: Annotated[bool, typer.Option("--toml", help="Print a settings file with all defaults instead.")] = False,
) -> None:
    """List every key of a settings file with its default, its values and its meaning.

    Example: nnlod settings --toml > run.toml
    """
    from nnlod_fenics.config import describe_settings, settings_toml

    if toml:
        typer.echo(settings_toml(), nl=False)
    elif sys.stdout.isatty():
        _print_settings(describe_settings())
    else:
        for section, entries in describe_settings().items():
            typer.echo(f"[{section}]")
            for entry in entries:
                typer.echo(f"{entry.key} = {entry.default}".rstrip() + f": {entry.meaning}")


def _print_settings(sections: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False)  # [grid] is no markup
    for section, entries in sections.items():
        table = Table("key", "default", "values", "meaning", title=f"[{section}]", title_justify="left")
        for entry in entries:
            table.add_row(entry.key, entry.default, entry.values, entry.description)
        console.print(table)


@dataset_app.command("info", short_help="Tell how much there is, and of what.")
@_once
def dataset_info(path: Data) -> None:
    """Tell what a dataset holds, finished or not: how much, of which grid and law, made by what.

    Example: nnlod dataset info data
    """
    from nnlod_fenics.dataset.describe import describe

    _print_table(f"dataset {path}", describe(path))


@dataset_app.command("verify", short_help="Check all numbers, recompute some.")
@_once
def dataset_verify(
    path: Data,
    sample: Annotated[int, typer.Option(min=0, help="Local matrices to recompute with DOLFINx.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Which ones.")] = 0,
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
    _print_table(f"dataset {path}", rows)
    for problem in result.problems:
        print(f"nnlod: {problem}", file=sys.stderr)
    if result.problems:
        raise typer.Exit(1)


@dataset_app.command("merge", short_help="Join runs with different seeds.")
@_once
def dataset_merge(
    sources: Annotated[list[Path], typer.Argument(help="Dataset folders of one configuration, different seeds.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")],
    overwrite: Overwrite = False,
) -> None:
    """Join runs of one configuration with different seeds into one dataset.

    Example: nnlod dataset merge part-0 part-1 part-2 -o data
    """
    from nnlod_fenics.dataset.combine import merge_datasets

    merge_datasets(sources, output, overwrite)


@dataset_app.command("split", short_help="Write training, validation and test set.")
@_once
def dataset_split(
    path: Data,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for train, validation and test.")],
    overwrite: Overwrite = False,
) -> None:
    """Write training, validation and test set (80 : 10 : 10 by realization) as datasets of their own.

    Example: nnlod dataset split data -o parts
    """
    from nnlod_fenics.dataset.combine import split_dataset

    split_dataset(path, output, overwrite)


@contextmanager
def _resumable() -> Iterator[None]:
    """While a job runs that a signal may stop: told in one sentence, with the exit code of such jobs."""
    from nnlod_fenics.runtime.job import EXIT_RESUMABLE, Interrupted
    from nnlod_fenics.runtime.launcher import is_first_rank

    try:
        yield
    except Interrupted as stopped:
        if is_first_rank():
            typer.echo(f"nnlod: {stopped}", err=True)
        raise typer.Exit(EXIT_RESUMABLE) from None


def main() -> None:
    """Run the command; a user's mistake is one sentence and exit code 2."""
    from nnlod_fenics.runtime.launcher import is_first_rank

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show ² or ℓ must not end a run
    try:
        code = app(prog_name="nnlod", standalone_mode=False)
    except typer.Abort:  # Ctrl-C
        print("nnlod: interrupted", file=sys.stderr)
        sys.exit(130)
    except _ClickException as error:
        if is_first_rank():
            error.show()
        sys.exit(error.exit_code)
    except (InputError, MissingDependencyError) as error:
        if is_first_rank():
            print(f"nnlod: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:  # of the system: a name that is too long, a folder that may not be read
        if is_first_rank():
            place = "" if error.filename is None else f"{str(error.filename)!r}: "
            print(f"nnlod: {place}{error.strerror or error}.", file=sys.stderr)
        sys.exit(2)
    except NumericalError as error:
        if is_first_rank():
            print(f"nnlod: {error}", file=sys.stderr)
        sys.exit(1)
    except MemoryError as error:
        print(f"nnlod: there is not enough memory for this problem ({str(error) or 'out of memory'}).", file=sys.stderr)
        sys.exit(1)
    sys.exit(code)
