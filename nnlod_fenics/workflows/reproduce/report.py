"""The report of an experiment: one HTML file that holds its pictures, to be read on a phone as well."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from nnlod_fenics.workflows.reproduce.criteria import ANSWERS, NOT_DECIDED, NOT_EXAMINED, NOT_SHOWN, SHOWN
from nnlod_fenics.workflows.reproduce.experiments import NETWORKS, SIZES, STARTS
from nnlod_fenics.workflows.reproduce.findings import CLAIMS, Claim, Finding
from nnlod_fenics.workflows.reproduce.pictures import Picture
from nnlod_fenics.workflows.reproduce.statements import NOT_EXAMINED_HERE

__all__ = ["render", "render_index"]

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; margin: 0 auto; padding: 1rem;
  max-width: 58rem; }
h1 { font-size: 1.5rem; line-height: 1.25; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
img { width: 40rem; max-width: 100%; height: auto; display: block; margin: auto; }
figure { margin: 1.2rem 0; } figcaption, .note { color: #555; font-size: .9rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid #ddd; vertical-align: top; }
th { font-weight: 600; } td.n, th.n { text-align: right; } td.n { white-space: nowrap; }
th, td { padding-right: .9rem; }
.finding { border-left: 4px solid #999; padding: .1rem 0 .1rem .8rem; margin: 1.2rem 0; }
.finding p { margin: .3rem 0; } .verdict { font-weight: 600; }
.yes { color: #00623f; } .no { color: #a03c00; } .open { color: #555; }
.failed { color: #a03c00; }
"""

_MARKS = {
    "scale": "Smaller than in the paper, so that the run takes minutes [scale]",
    "chosen": "Set by this package [chosen]",
    "reconstructed": "Follows from the text or the papers it builds on [reconstructed]",
}

_CLASSES = {SHOWN: "yes", NOT_SHOWN: "no", NOT_DECIDED: "open", NOT_EXAMINED: "open"}


def render(numbers: dict[str, Any], pictures: dict[str, list[Picture]], found: Sequence[Finding]) -> str:
    """Write the report of an experiment.

    Args:
        numbers: The numbers, as ``result.json`` has them.
        pictures: PNG files and captions by section, see :func:`nnlod_fenics.workflows.reproduce.pictures.draw`.
        found: The findings.

    Returns:
        The HTML text, which refers to nothing outside itself.
    """
    name, grid = numbers["experiment"], numbers["grid"]
    title = f"Experiment {name}: {numbers['contrast']}-contrast realizations"
    kind = "hierarchical" if name.endswith("H") else "lognormal"
    counts = " and ".join(f"{count} ({size})" for size, count in numbers["realizations"].items())
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p>Kröpfl, Peterseim, Ullmann, arXiv 2509.12896, section {'6' if kind == 'hierarchical' else '5'}, at the "
        f"scale “{escape(numbers['scale'])}”: {kind} fields, d = {grid['dim']}, H = 1/{grid['coarse']}, "
        f"ε = 1/{grid['coefficient']}, h = 1/{grid['fine']}, ℓ = {grid['ell']}, {counts} realizations. "
        f"“paper” is the network of the paper, “structured” the default one of nnlod-fenics. "
        "What the paper does not state is <a href='#chosen'>listed</a>; its <a href='#findings'>findings</a> come "
        f"last.{_left_out(numbers)}</p>",
        "<h2>Training</h2>",
        _figures(pictures["losses"]),
        _losses(numbers),
        "<h2>A fresh realization</h2>",
        _fresh(numbers),
        _figures(pictures["fresh"]),
        f"<h2>Monte Carlo means over {numbers['monte carlo']['fields']} fresh fields</h2>",
        _means(numbers),
        _figures(pictures["mean"]),
        "<h2>The mean without the network's bias</h2>",
        _multifidelity(numbers),
        _figures(pictures["multifidelity"]),
        "<h2 id='chosen'>What the paper does not state</h2>",
        _chosen(numbers),
        "<p class='note'>The same numbers are in <code>result.json</code>, the fields in <code>paraview/</code>, both "
        "beside this file.</p>",
        "<h2 id='findings'>The paper's findings in this run</h2>",
        "<p>Shown or not shown: the 95 % confidence intervals (in brackets) lie on one side of what the criterion "
        "asks; not decided: they contain both answers. What belongs to the same fields is compared field by field; "
        "losses and errors by the ratio of their geometric means. Each network was trained once: the seed of its "
        "training is in no interval.</p>",
        *(_finding(item) for item in found),
    ]
    return _page(title, parts)


def _page(title: str, parts: Iterable[str]) -> str:
    return (
        "<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<link rel='icon' href='data:,'><title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _chosen(numbers: dict[str, Any]) -> str:
    parts = []
    for mark, heading in _MARKS.items():
        rows = [(row["what"], row["value"]) for row in numbers["chosen"] if row["mark"] == mark]
        if rows:
            parts.append(f"<h3>{escape(heading)}</h3>" + _table(("what", "value"), rows, 0))
    return "\n".join(parts)


def _figures(pictures: Iterable[Picture]) -> str:
    return "\n".join(
        f"<figure><img alt='{escape(caption, quote=True)}' src='data:image/png;base64,"
        f"{base64.b64encode(path.read_bytes()).decode()}'><figcaption>{escape(caption)}</figcaption></figure>"
        for path, caption in pictures
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers_from: int) -> str:
    """A table; columns from ``numbers_from`` on are right-aligned, if that is not zero."""

    def cells(tag: str, values: Sequence[str]) -> str:
        return "".join(
            f"<{tag}{' class=n' if 0 < numbers_from <= k else ''}>{escape(value)}</{tag}>"
            for k, value in enumerate(values)
        )

    body = "".join(f"<tr>{cells('td', row)}</tr>\n" for row in rows)
    return f"<div class='wide'><table><thead><tr>{cells('th', head)}</tr></thead>\n<tbody>{body}</tbody></table></div>"


def _runs(numbers: dict[str, Any]) -> Iterable[tuple[list[str], dict[str, Any]]]:
    for network in NETWORKS:
        for size, starts in numbers["runs"][network].items():
            for start, run in starts.items():
                yield [network, size, start], run


def _largest(numbers: dict[str, Any]) -> str:
    return [*numbers["realizations"]][-1]


def _left_out(numbers: dict[str, Any]) -> str:
    """A sentence on the datasets and trainings that this run does not have."""
    runs = numbers["runs"][NETWORKS[0]]
    missing = [f"the {size} dataset" for size in SIZES if size not in runs]
    if any(start not in starts for start in STARTS for starts in runs.values()):
        missing.append("networks trained from scratch")
    return f" Not run: {' and '.join(missing)}." if missing else ""


def _losses(numbers: dict[str, Any]) -> str:
    head = ("network", "dataset", "start", "training", "validation", "test", "common test set", "epochs", "seconds")
    rows = []
    for names, run in _runs(numbers):
        losses = [f"{run['losses'][key]:.2e}" for key in ("train", "validation", "test", "test, common set")]
        rows.append((*names, *losses, str(len(run["history"])), f"{run['seconds of training']:.0f}"))
    note = (
        "Loss (4.1) of the weights of the smallest validation loss. Each dataset has its own test set, its last tenth; "
        "that of the largest is the common one, on which the networks of all datasets are compared."
    )
    own, shared = (sum(numbers["seconds"][part].values()) for part in ("own", "shared"))
    seconds = (
        f"All stages of this experiment took {own:.0f} s, interrupted runs included; those of the networks that it "
        f"starts from, once for all experiments, {shared:.0f} s."
    )
    return _table(head, rows, 3) + f"<p class='note'>{escape(note)} {seconds}</p>"


def _fresh(numbers: dict[str, Any]) -> str:
    fresh = numbers["fresh"]
    rho = fresh["parameters"].get("correlation_length")
    about = f"Contrast {fresh['contrast']:.3g}" + ("" if rho is None else f", correlation length {rho:.3f}") + "."
    keys = {
        "‖u_NN − u_LOD‖": "L2 error, NN-LOD against PG-LOD",
        "relative": "relative L2 error, NN-LOD against PG-LOD",
        "relative, against FEM": "relative L2 error, NN-LOD against FEM",
        "‖S − Ŝ‖₂": "spectral error |S - S_NN|",
        "relative to ‖S‖₂": "relative spectral error |S - S_NN| / |S|",
        "local matrix, mean": "mean relative error of a local matrix",
        "amplitude": "amplitude error, mean of u_NN - u_LOD over mean of u_LOD",
    }
    rows = []
    for names, run in _runs(numbers):
        rows.append((*names, *(f"{run['fresh'][key]:.2e}" for key in keys.values())))
    table = _table(("network", "dataset", "start", *keys), rows, 3)
    lod = fresh["relative L2 error, PG-LOD against FEM"]
    return f"<p>{about} Relative L² error of PG-LOD against FEM: {lod:.2e}.</p>{table}"


def _means(numbers: dict[str, Any]) -> str:
    parts = [([method, "", "", ""], numbers["monte carlo"][method]) for method in ("FEM", "PG-LOD")]
    parts += [(["NN-LOD", *names], run) for names, run in _runs(numbers)]
    head = (
        "method",
        "network",
        "dataset",
        "start",
        "mean of ∫u",
        "± standard error",
        "L² of means : FEM",
        "∫u : I_H FEM − 1",
        "∫u : PG-LOD − 1",
        "L² of single u : PG-LOD",
    )
    rows = []
    for names, part in parts:
        integral, fem, lod = part["integral"], part.get("against FEM"), part.get("against PG-LOD")
        rows.append(
            (
                *names,
                f"{integral['mean']:.5f}",
                f"{integral['standard error']:.5f}",
                "" if fem is None else f"{fem['distance of the means']['mean']:.2e}",
                "" if fem is None else _percent(fem["amplitude"]),
                "" if lod is None else _percent(lod["amplitude"]),
                "" if lod is None else f"{lod['relative L2 error']['mean']:.2e}",
            )
        )
    note = "Differences are of the same fields, ± standard error; f = 1."
    return _table(head, rows, 4) + f"<p class='note'>{escape(note)}</p>"


def _multifidelity(numbers: dict[str, Any]) -> str:
    head = (
        f"network ({_largest(numbers)} dataset)",
        "mean of ∫u",
        "standard error",
        "PG-LOD, at equal cost",
        "bias of plain NN-LOD",
        "difference to PG-LOD",
        "pairs",
        "network alone",
        "pilot",
        "cost, measured",
    )
    rows = []
    for network in NETWORKS:
        part = numbers["multifidelity"][network]
        samples = [str(part["samples"].get(kind, 0)) for kind in ("samples", "low", "pilot")]
        rows.append(
            (
                network,
                f"{part['integral']['mean']:.5f}",
                f"{100 * part['standard error']:.2f} %",
                f"{100 * part['PG-LOD at equal cost']['integral']:.2f} %",
                _percent(part["bias of NN-LOD"]),
                _percent(part["difference to PG-LOD"]),
                *samples,
                f"{part['cost']['measured, in PG-LOD solutions']:.0f}",
            )
        )
    cost = numbers["multifidelity"][NETWORKS[0]]["cost"]
    note = (
        "Multifidelity Monte Carlo takes the network as control variate for few solutions by PG-LOD; it is unbiased "
        f"for PG-LOD whatever the network does. Cost: {cost['nominal']} solutions by PG-LOD, pilot run included, if "
        f"one costs {cost['ratio']:g} times a solution by the network, which fixes the sample numbers; the measured "
        "cost is of this run. In per cent of the mean of ∫u by PG-LOD; differences ± standard error, of the bias over "
        "the same fields, to PG-LOD over independent ones."
    )
    return _table(head, rows, 1) + f"<p class='note'>{escape(note)}</p>"


def _percent(part: dict[str, float]) -> str:
    return f"{100 * part['mean']:+.2f} ± {100 * part['standard error']:.2f} %"


def _finding(item: Finding) -> str:
    lines = [f"<p><b>{escape(item.claim)}</b> <span class='note'>({escape(item.source)})</span></p>"]
    for verdict in item.verdicts:
        css = _CLASSES[verdict.answer]
        lines.append(
            f"<p>{escape(verdict.network)}: <span class='verdict {css}'>{verdict.answer}</span> — "
            f"{escape(verdict.evidence)}</p>"
        )
    lines.append(f"<p class='note'>Criterion: {escape(item.criterion)}.</p>")
    return f"<div class='finding'>{''.join(lines)}</div>"


# -- all experiments ---------------------------------------------------------------------------------


def render_index(scale: str, results: Mapping[str, dict[str, Any]], failed: Mapping[str, str]) -> str:
    """Write the page that leads to the reports of all experiments.

    Args:
        scale: Name of the scale.
        results: What their ``result.json`` hold, by experiment.
        failed: What went wrong, by experiment.

    Returns:
        The HTML text; it refers to the reports beside it.
    """
    title = f"The experiments of the paper, at the scale “{scale}”"
    stages: dict[str, float] = {}
    for numbers in results.values():
        stages |= numbers["seconds"]["own"] | numbers["seconds"]["shared"]
    parts = [
        f"<h1>{escape(title)}</h1>",
        "<p>Kröpfl, Peterseim, Ullmann, arXiv 2509.12896, sections 5 and 6. Networks of the largest dataset, with "
        "transfer learning; “paper” is the network of the paper, “structured” the default one of nnlod-fenics.</p>",
        *(f"<p class='failed'>Experiment {escape(n)} failed: {escape(message)}</p>" for n, message in failed.items()),
        *(_link(name, numbers) for name, numbers in results.items()),
        "<h2>Numbers</h2>",
        _key_numbers(results),
        f"<p class='note'>All stages took {sum(stages.values()):.0f} s, each counted once.</p>",
        "<h2>The statements of sections 5 and 6</h2>",
        "<p>Criteria with the numbers that decide them are at the end of each report.</p>",
        _statements(results),
    ]
    return _page(title, parts)


def _link(name: str, numbers: dict[str, Any]) -> str:
    link = f"<a href='{name}/report.html'>Experiment {name}: {numbers['contrast']} contrast</a>"
    return f"<p>{link}.{_left_out(numbers)}</p>"


def _key_numbers(results: Mapping[str, dict[str, Any]]) -> str:
    head = (
        "experiment",
        "network",
        "test loss",
        "contrast of the fresh field",
        "its L² error : PG-LOD",
        "its spectral error",
        "L² of means : FEM",
        "bias of ∫u",
        "standard error, multifidelity",
    )
    rows = []
    for name, numbers in results.items():
        for network in NETWORKS:
            run, part = numbers["runs"][network][_largest(numbers)]["transfer"], numbers["multifidelity"][network]
            rows.append(
                (
                    name,
                    network,
                    f"{run['losses']['test']:.2e}",
                    f"{numbers['fresh']['contrast']:.3g}",
                    f"{run['fresh']['relative L2 error, NN-LOD against PG-LOD']:.2e}",
                    f"{run['fresh']['spectral error |S - S_NN|']:.2e}",
                    f"{run['against FEM']['distance of the means']['mean']:.2e}",
                    _percent(part["bias of NN-LOD"]),
                    f"{100 * part['standard error']:.2f} %",
                )
            )
    return _table(head, rows, 2)


def _statements(results: Mapping[str, dict[str, Any]]) -> str:
    """What sections 5 and 6 say: with its criterion and the answers of the run, or why it is not examined."""
    rows = [(item.source, item.claim, item.criterion, _answers(item, results)) for item in CLAIMS]
    rows += [(item.source, item.claim, f"Not examined: {item.reason}", "") for item in NOT_EXAMINED_HERE]
    head = ("source", "statement", "criterion, or why there is none", "in this run")
    cells = ["".join(f"<td>{value if k == 3 else escape(value)}</td>" for k, value in enumerate(row)) for row in rows]
    body = "\n".join(f"<tr>{row}</tr>" for row in cells)
    titles = "".join(f"<th>{escape(name)}</th>" for name in head)
    return f"<div class='wide'><table><thead><tr>{titles}</tr></thead>\n<tbody>{body}</tbody></table></div>"


def _answers(item: Claim, results: Mapping[str, dict[str, Any]]) -> str:
    """For each answer the networks and their experiments, and why some are not examined."""
    answers: dict[str, dict[str, list[str]]] = {}
    reasons: dict[str, None] = {}
    for name in item.experiments:
        for finding in results[name]["findings"] if name in results else ():
            for verdict in finding["verdicts"] if finding["claim"] == item.claim else ():
                networks = answers.setdefault(verdict["answer"], {})
                networks.setdefault(verdict["network"], []).append(_unbroken(name))
                if verdict["answer"] == NOT_EXAMINED:
                    reasons[_unbroken(verdict["evidence"])] = None
    lines = []
    for answer in filter(answers.get, ANSWERS):
        where = "; ".join(f"{network} {', '.join(names)}" for network, names in answers[answer].items())
        why = f" ({'; '.join(reasons)})" if answer == NOT_EXAMINED else ""
        lines.append(f"<span class='verdict {_CLASSES[answer]}'>{answer}</span>: {escape(where + why)}")
    missing = [_unbroken(name) for name in item.experiments if name not in results]
    if missing:
        lines.append(f"not run: {', '.join(missing)}")
    return "<br>".join(lines)


def _unbroken(text: str) -> str:
    return text.replace("-", "\N{NON-BREAKING HYPHEN}")
