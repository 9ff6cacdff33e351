"""Commands from random coefficients to networks: demo, sample, generate, train, evaluate, export, reproduce."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nnlod_fenics.cli.common import (
    AllowImport,
    ConfigFile,
    Data,
    Model,
    Output,
    Overrides,
    Overwrite,
    Resume,
    Scale,
    app,
    once,
    print_table,
    read_settings,
    resumable,
)


@app.command(short_help="Run the whole pipeline on a small example.")
def demo(
    output: Output = Path("results/demo"),
    overrides: Overrides = None,
    overwrite: Overwrite = False,
) -> None:
    """Run the whole pipeline on a small example: generate data, train, solve by FEM, LOD and NN-LOD, report.

    Example: nnlod demo -o results/demo
    """
    from nnlod_fenics.workflows.demo import SETTINGS, run, summary

    result = run(output, read_settings(None, [*SETTINGS, *(overrides or [])]), overwrite)
    print_table(f"NN-LOD demo, report in {output / 'report.md'}", summary(result))


@app.command(short_help="Draw random coefficients.")
@once
def sample(
    config: ConfigFile = None,
    output: Output = Path("fields"),
    count: Annotated[int, typer.Option(min=1, help="Number of realizations.")] = 1,
    overrides: Overrides = None,
    allow_import: AllowImport = False,
) -> None:
    """Draw random coefficients: a .npy file of A, a picture and a ParaView file for each.

    Example: nnlod sample demos/config/demo.toml --count 3 -s field.variance=1.0 -o fields
    """
    from nnlod_fenics.workflows.sample import write_samples

    settings = read_settings(config, overrides, allow_import=allow_import)
    for path, drawn in write_samples(settings, output, count):
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
    allow_import: AllowImport = False,
) -> None:
    """Generate a dataset of fields and local matrices; in parallel under mpirun.

    Example: mpirun -n 4 nnlod generate demos/config/demo.toml -o data
    """
    from nnlod_fenics.dataset.generate import generate as make

    settings = read_settings(config, overrides, scale, allow_import=allow_import)
    with resumable():
        make(settings, output, resume=resume, overwrite=overwrite)


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
        typer.Option(
            min=1, help="Fresh realizations to train on per epoch; the dataset is for validation and testing only."
        ),
    ] = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    allow_import: AllowImport = False,
) -> None:
    """Train a network on a dataset; keeps the weights with the smallest validation loss. In parallel under mpirun.

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
    settings = read_settings(config, overrides, scale, allow_import=allow_import)
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
    print_table(f"trained {output}", rows)


@app.command(short_help="Evaluate a model as in the paper.")
@once
def evaluate(
    model: Model,
    data: Annotated[Path | None, typer.Option("--data", help="Dataset folder, for the test loss.")] = None,
    output: Output = Path("evaluation"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of the fresh realization.")] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Evaluate a model as in the paper: test loss, and a fresh realization by FEM, LOD and NN-LOD.

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
    print_table(f"evaluation, figures in {output}", rows)


@app.command(short_help="Write a model's network as .pt2 or ONNX.")
@once
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
    typer.echo(f"wrote {export_network(loaded.network, loaded.window, output)}")


@app.command(short_help="Run the paper's experiments.")
def reproduce(
    experiments: Annotated[list[str], typer.Argument(help="1, 2, 3, 1-H, 2-H, 3-H, or all.")],
    scale: Annotated[str, typer.Option(help="small: minutes on a laptop; paper: the paper's sizes.")] = "small",
    output: Output = Path("results/reproduce"),
    device: Annotated[str, typer.Option(help="Where networks are trained: cpu or cuda.")] = "cpu",
    small_only: Annotated[
        bool, typer.Option("--small-only", help="Small datasets and transfer learning only; the large ones can follow.")
    ] = False,
) -> None:
    """Run experiments of the paper, from data to report; finished stages are reused from the output folder.

    Example: nnlod reproduce all --scale small -o results/reproduce
    """
    from nnlod_fenics.workflows.reproduce import reproduce as run

    for name, result in run(experiments, scale, output, device, small_only).items():
        rows = [
            (finding["claim"], ", ".join(f"{v['network']}: {v['answer']}" for v in finding["verdicts"]))
            for finding in result["findings"]
        ]
        print_table(f"experiment {name}, report in {output / scale / name / 'report.html'}", rows)
