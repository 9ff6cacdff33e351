"""Commands that solve: one problem, or many for the sake of their expectations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from nnlod_fenics.cli.common import (
    AllowImport,
    ConfigFile,
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

Source = Annotated[
    float | None, typer.Option("--source", "-f", help="Source f, a constant; problem.f of the settings if omitted.")
]
SourceCorrectors = Annotated[
    bool, typer.Option("--source-correctors", help="Correct the right-hand side for its fine scales, for method lod.")
]
Form = Annotated[
    str | None,
    typer.Option(
        help="Coarse problem of method lod: petrov-galerkin (default), or galerkin, which is symmetric and stable at "
        "any contrast, slower, and has source correctors."
    ),
]


def _number_or_name(text: str | None) -> str | float | None:
    """An exponent, or the name of a mean."""
    try:
        return text if text is None else float(text)
    except ValueError:
        return text


@app.command(short_help="Solve one problem by FEM, PG-LOD or NN-LOD.")
@once
def solve(
    method: Annotated[str, typer.Option(help="fem, averaged, lod or nn.")] = "lod",
    config: Annotated[Path | None, typer.Option(help="TOML file with the settings; the demo's if omitted.")] = None,
    coefficient: Annotated[
        Path | None,
        typer.Option(
            help="Coefficient A: .npy, .npz, .h5, .mat, .csv, .nc or .tif file. The grid follows from its shape where "
            "the settings state none."
        ),
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Name of the coefficient in a file of several arrays.")] = None,
    no_data: Annotated[float | None, typer.Option(help="Value of cells without data in the file.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Draw the coefficient with this seed instead.")] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Model folder or name, for method nn; by default one that comes with the package."),
    ] = None,
    trust: Annotated[
        float | None,
        typer.Option(
            help="Compute a local matrix exactly if its estimated relative error exceeds this, for method nn."
        ),
    ] = None,
    source: Source = None,
    source_correctors: SourceCorrectors = False,
    reconstruct: Annotated[
        bool,
        typer.Option(
            "--reconstruct", help="Write the fine-scale solution on T_h too (u_fine), for methods lod and nn."
        ),
    ] = False,
    form: Form = None,
    refine: Annotated[
        int | None, typer.Option(help="Elements for each coarse element along an axis, for method averaged.")
    ] = None,
    mean: Annotated[
        str | None,
        typer.Option(
            help="How the coefficient is averaged, for method averaged: geometric (default), harmonic, arithmetic, the "
            "exponent of a power mean, or effective: tensors from periodic cell problems."
        ),
    ] = None,
    ell: Annotated[
        str | None,
        typer.Option(
            help="auto: try ℓ = 1, 2, … layers, then the Galerkin form, then FEM, until there is no sign of an "
            "error, for method lod. For a fixed number use -s grid.ell=2."
        ),
    ] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", help="ParaView format: vtkhdf (default) or vti; with DOLFINx xdmf or bp. Repeatable."),
    ] = None,
    render: Annotated[bool, typer.Option("--render", help="Render a three-dimensional picture with PyVista.")] = False,
    correctors: Annotated[
        list[int] | None,
        typer.Option(metavar="ELEMENT", help="Write the correctors of this element too, for method lod. Repeatable."),
    ] = None,
    output: Output = Path("solution"),
    overrides: Overrides = None,
    allow_import: AllowImport = False,
) -> None:
    """Solve one problem, with a coefficient from a file or a seed; writes .npy, ParaView files and figures.

    The domain (side lengths, inactive elements, faces with given u) is that of the section [grid] of the settings, the
    data (source, wells, boundary values, fluxes) those of [problem]. The last line says whether there are signs that a
    solution from local matrices is inaccurate, as can happen at high contrast; if so, use more layers (grid.ell),
    --form galerkin or --ell auto.

    Example: nnlod solve --method lod --coefficient A.npy -s grid.coarse=32 -o solution
    """
    import numpy as np

    from nnlod_fenics.workflows.solve import solve_problem

    settings = read_settings(config, overrides, whole_grid=False, allow_import=allow_import)
    options: dict[str, Any] = {"trust": trust, "source_correctors": source_correctors, "reconstruct": reconstruct}
    options |= {"form": form, "ell": ell, "refine": refine, "mean": _number_or_name(mean)}
    solution = solve_problem(
        settings,
        output,
        method,
        coefficient,
        dataset,
        seed,
        model,
        source,
        no_data,
        formats or ("vtkhdf",),
        render,
        correctors or (),
        **options,
    )
    rows = [(f"seconds: {name}", f"{value:.3f}") for name, value in solution.seconds.items()]
    mean = solution.u[np.isfinite(solution.u)].mean()  # NaN outside of D
    print_table(f"{method} solution in {output}", [("mean of u", f"{mean:.6g}"), *rows])
    for step in solution.steps:
        typer.echo(f"tried: {step}")
    if solution.S is not None:
        typer.echo(f"reliability: {solution.reliability}")


@app.command(short_help="Estimate expectations and their errors.")
def montecarlo(
    config: ConfigFile = None,
    method: Annotated[
        str | None, typer.Option(help="fem, lod, nn (keeps the network's bias) or multifidelity (does not).")
    ] = None,
    reference: Annotated[str | None, typer.Option(help="What multifidelity estimates: lod or fem.")] = None,
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--with",
            metavar="MODEL",
            help="A model that multifidelity may use: averaged, averaged:2:harmonic, lod:1, fem, nn, nn:NAME. "
            "Repeatable; those that pay are chosen by a pilot run; nn if omitted.",
        ),
    ] = None,
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
        float | None, typer.Option(help="Stop after this time; blocks of samples already begun are completed.")
    ] = None,
    functionals: Annotated[
        list[str] | None,
        typer.Option("--functional", help="point(0.5, 0.5), average(0:1, 0:1), outflow(xmax); NAME=... to name it."),
    ] = None,
    source: Source = None,
    source_correctors: SourceCorrectors = False,
    form: Form = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the fields; dataset.seed if omitted.")] = None,
    pilot: Annotated[int | None, typer.Option(help="Samples of the pilot run of multifidelity.")] = None,
    cost_ratio: Annotated[
        list[float] | None,
        typer.Option(help="Cost of a sample of --reference over one of each model, in order; measured if omitted."),
    ] = None,
    level: Annotated[float | None, typer.Option(help="Probability of the confidence intervals.")] = None,
    output: Output = Path("montecarlo"),
    overrides: Overrides = None,
    scale: Scale = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    allow_import: AllowImport = False,
) -> None:
    """Estimate mean, variance and functionals of the solution with confidence intervals; in parallel under mpirun.

    Give at least one of --samples, --tolerance and --seconds; the first that is reached ends the run. Options that are
    omitted are taken from the section [montecarlo] of the settings, the domain from [grid], the data from [problem].

    Example: mpirun -n 4 nnlod montecarlo --model model --samples 500 --functional "point(0.5, 0.5)" -o montecarlo
    """
    from nnlod_fenics.montecarlo.report import table
    from nnlod_fenics.montecarlo.run import run_from_config
    from nnlod_fenics.runtime.launcher import is_first_rank

    options = {
        "method": method,
        "reference": reference,
        "models": models or None,
        "model": model,
        "samples": samples,
        "tolerance": tolerance,
        "target": target,
        "seconds": seconds,
        "functionals": functionals or None,
        "source_correctors": source_correctors or None,
        "form": form,
        "seed": seed,
        "pilot": pilot,
        "cost_ratio": None if not cost_ratio else cost_ratio[0] if len(cost_ratio) == 1 else cost_ratio,
        "level": level,
    }
    settings = read_settings(config, overrides, scale, False, allow_import)
    section = settings.montecarlo.changed(**{name: value for name, value in options.items() if value is not None})
    settings = settings.model_copy(update={"montecarlo": section})
    with resumable():
        estimate = run_from_config(settings, source, output, resume, overwrite)
    if is_first_rank():
        print_table(f"Monte Carlo by {section.method}, results in {output}", table(estimate))
