"""Build the documentation: README, demos as a tutorial, and the docstrings, as a site by MkDocs.

``python demos/docs/build.py`` writes results/docs, in some minutes, for it runs the demos; with ``--no-run`` it takes
seconds and leaves out their output and pictures.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PACKAGE = "nnlod_fenics"

# What is imported, and what pip calls it; the extra docs of pyproject.toml.
PACKAGES = {"mkdocs": "mkdocs", "mkdocstrings": "'mkdocstrings[python]'", "latex2mathml": "latex2mathml"}

# The order of the tutorial. Scripts that illustrate nothing, such as that of the shipped models, are not in it.
TUTORIAL = (
    "compress_field",
    "own_coefficient",
    "aquifer",
    "reservoir",
    "dataset",
    "train_surrogate",
    "own_law",
    "own_network",
    "trust",
    "monte_carlo",
)


# Letters of formulas are the slanted ones of the text: few systems have a font for those of MathML.
STYLE = """
.wy-nav-content { max-width: 64rem; }
.rst-content div.highlight { border: 0; padding: 0; }
.rst-content .highlight pre { overflow-x: auto; }
img { max-width: 100%; }
.rst-content table td, .rst-content table th { white-space: normal !important; }
mi[mathvariant] { margin-right: 0.1em; }
mi:not([mathvariant]) { text-transform: none; font-style: italic; }
"""


class DocumentationError(Exception):
    """What is wrong with the documentation, in one sentence."""


def main(arguments: list[str] | None = None) -> int:
    """Build the site as the command line says; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "results" / "docs", help="folder of the site")
    parser.add_argument("--no-run", action="store_true", help="do not run the demos: code and text only")
    given = parser.parse_args(arguments)
    sys.path[:0] = [str(ROOT)]
    try:
        check_packages()
        with TemporaryDirectory(prefix="nnlod-docs-") as folder:
            build(Path(folder), given.output.resolve(), run=not given.no_run)
    except DocumentationError as error:
        print(f"docs: {error}", file=sys.stderr)
        return 1
    print(f"wrote {given.output / 'index.html'}")
    return 0


def check_packages() -> None:
    """Check that the packages of the extra ``docs`` are there."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise DocumentationError(f"{', '.join(missing)} not found; pip install {' '.join(PACKAGES.values())}.")


def build(folder: Path, site: Path, run: bool, root: Path = ROOT) -> None:
    """Write the sources of the site into a folder, and make the site of them.

    Args:
        folder: An empty folder for the sources.
        site: Folder of the site; what is there is replaced.
        run: Whether to run the demos for their output and pictures.
        root: The repository.
    """
    import yaml

    package = load(root)
    if missing := undocumented(package):
        raise DocumentationError(f"public names without documentation: {', '.join(missing)}.")
    pages = folder / "docs"
    pages.mkdir()
    write_index(root, pages)
    tutorial = write_tutorial(root / "demos", pages / "tutorial", folder / "run" if run else None)
    reference = write_reference(package, pages / "reference")
    (pages / "code.css").write_text(style(), encoding="utf-8")
    nav = [{"Overview": "index.md"}, {"Tutorial": tutorial}, {"Reference": reference}]
    config = folder / "mkdocs.yml"
    config.write_text(yaml.safe_dump(configuration(root, site, nav), allow_unicode=True), encoding="utf-8")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--clean", "-f", str(config)]
    # in a folder without the package, which would be taken from there
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    if done.returncode:
        told = [line for line in done.stderr.splitlines() if line and not line.startswith("INFO")]
        raise DocumentationError("\n".join(["mkdocs found faults.", *told]))


def configuration(root: Path, site: Path, nav: list[Any]) -> dict[str, Any]:
    """The configuration of MkDocs; nothing in the site is loaded from elsewhere."""
    shown = {
        "docstring_style": "google",
        "docstring_options": {"warn_unknown_params": False},
        "extensions": [str(HERE / "roles.py")],
        "filters": "public",
        "heading_level": 2,
        "members_order": "source",
        "merge_init_into_class": True,
        "separate_signature": True,
        "show_root_heading": True,
        "show_root_full_path": True,
        "show_source": False,
        "show_submodules": False,
    }
    return {
        "site_name": "nnlod-fenics",
        "site_dir": str(site),
        "nav": nav,
        "use_directory_urls": False,
        "theme": {"name": "readthedocs", "highlightjs": False, "navigation_depth": 3},
        "extra_css": ["code.css"],
        "markdown_extensions": [
            "admonition",
            "attr_list",
            "tables",
            {"toc": {"permalink": "#"}},
            {"pymdownx.highlight": {"use_pygments": True}},
            "pymdownx.superfences",
        ],
        "plugins": [  # not search: browsers let no page that is opened from the disk read its index
            "autorefs",
            {"mkdocstrings": {"handlers": {"python": {"paths": [str(root)], "options": shown}}}},
        ],
        "validation": {
            "nav": {"omitted_files": "warn", "not_found": "warn", "absolute_links": "warn"},
            "links": {
                "not_found": "warn",
                "anchors": "warn",
                "absolute_links": "warn",
                "unrecognized_links": "warn",
            },
        },
    }


def style() -> str:
    """Colours of code; pictures no wider than the page."""
    from pygments.formatters import HtmlFormatter

    return HtmlFormatter(style="default").get_style_defs(".highlight") + STYLE


# -- overview ------------------------------------------------------------------------------------------


def write_index(root: Path, pages: Path) -> None:
    """README as the first page; files that it links to come along, demos as their pages."""

    def moved(match: re.Match[str]) -> str:
        target = Path(match[2])
        if target.suffix == ".py" and target.stem in TUTORIAL:
            return f"{match[1]}(tutorial/{target.stem}.md)"
        if not (root / target).is_file():
            raise DocumentationError(f"README.md links to {match[2]}, which does not exist.")
        (pages / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / target, pages / target)
        return match[0]

    text = (root / "README.md").read_text(encoding="utf-8")
    text = re.sub(r"(\[[^\]]*\])\((?![a-z]+:|#)([^)#\s]+)\)", moved, text)
    (pages / "index.md").write_text(text, encoding="utf-8")


# -- tutorial ------------------------------------------------------------------------------------------


def write_tutorial(demos: Path, pages: Path, work: Path | None) -> list[dict[str, str]]:
    """A page for each demo; with its output and pictures if there is a folder to run them in. The entries of nav."""
    pages.mkdir()
    entries = []
    for number, name in enumerate(TUTORIAL, start=1):
        source = (demos / f"{name}.py").read_text(encoding="utf-8")
        output = None if work is None else run_demo(demos / f"{name}.py", work)
        text = "".join(cells(source))
        if output is not None:
            text += f"\n## Output\n\n```text\n{output.rstrip()}\n```\n"
        text = with_pictures(text, work, pages)
        whole = f"{text}\nThe whole script is `demos/{name}.py`.\n"
        (pages / f"{name}.md").write_text(whole, encoding="utf-8")
        title = source.partition("\n")[0].removeprefix("# # ")
        entries.append({f"{number}. {title}": f"tutorial/{name}.md"})
    return entries


def run_demo(script: Path, work: Path) -> str:
    """What a demo prints; its pictures are in ``work`` then."""
    work.mkdir(exist_ok=True)
    print(f"docs: running {script.name}", flush=True)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, cwd=work, env=environment)
    if done.returncode:
        raise DocumentationError(f"{script.name} failed:\n{done.stderr}")
    return done.stdout


def cells(source: str) -> Iterator[str]:
    """A script in the light format as Markdown: a comment between empty lines is text, anything else is code."""
    paragraphs = re.findall(r"(?:.+\n)+\n*", f"{source}\n")
    for is_text, group in groupby(paragraphs, lambda p: all(re.match(" *#", line) for line in p.strip().splitlines())):
        whole = "".join(group).strip("\n")
        if is_text:
            yield with_formulas(re.sub("^ *# ?", "", whole, flags=re.MULTILINE)) + "\n\n"
        else:
            yield f"```python\n{textwrap.dedent(whole)}\n```\n\n"


def with_formulas(text: str) -> str:
    """TeX between dollars as MathML, which browsers show without a library; code between backticks stays."""
    from latex2mathml.converter import convert

    def formula(match: re.Match[str]) -> str:
        functions = re.sub(r"<mi>(?=[a-z]{2})", '<mi mathvariant="normal">', convert(match[1]))
        return f"<span>{functions}</span>"  # a line that starts with a formula itself would be a paragraph apart

    parts = re.split(r"(`[^`]*`)", text)
    return "".join(p if p[:1] == "`" else re.sub(r"\$([^$]+)\$", formula, p) for p in parts)


def with_pictures(text: str, work: Path | None, pages: Path) -> str:
    """Copy the pictures that a page shows; where demos are not run, their captions alone are left."""

    def copied(match: re.Match[str]) -> str:
        if work is None:
            return f"*{match[1]}: run the demo for this picture.*"
        if not (work / match[2]).is_file():
            raise DocumentationError(f"a demo shows {match[2]}, which it did not write.")
        (pages / match[2]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(work / match[2], pages / match[2])
        return f"{match[0]}\n\n*{match[1]}.*"

    return re.sub(r"!\[([^\]]*)\]\(([^)]+)\)", copied, text)


# -- reference -----------------------------------------------------------------------------------------


def load(root: Path) -> Any:
    """The package as griffe reads it from its sources."""
    import griffe

    extensions = griffe.load_extensions(str(HERE / "roles.py"))
    return griffe.load(
        PACKAGE, search_paths=[str(root)], try_relative_path=False, resolve_aliases=True, extensions=extensions
    )


def modules(package: Any) -> Iterator[Any]:
    """The package and its modules that have public names."""
    if package.exports is not None:
        yield package
    for _, module in sorted(package.members.items()):
        if not module.is_alias and module.is_module:
            yield from modules(module)


def undocumented(package: Any) -> list[str]:
    """Public names without a docstring: those in ``__all__``, and public methods of the classes among them."""
    found = set()
    for module in modules(package):
        if not module.has_docstring:
            found.add(module.path)
        for name in module.exports:
            if str(name) not in module.members:
                raise DocumentationError(f"{module.path} has {name!r} in __all__, which does not exist.")
            found |= set(_without_docstring(module.members[str(name)]))
    return sorted(found)


def _without_docstring(item: Any) -> Iterator[str]:
    import griffe

    try:
        item = item.final_target if item.is_alias else item
    except griffe.AliasResolutionError:  # a name of another library
        return
    if not item.has_docstring and not item.name.startswith("__"):
        yield item.path
    if item.is_class:
        for member in item.members.values():
            if (member.is_function or member.is_class) and not member.name.startswith("_"):
                yield from _without_docstring(member)


def write_reference(package: Any, pages: Path) -> list[dict[str, str]]:
    """A page with all public names, and one for each room of the package. The entries of nav."""
    pages.mkdir()
    rooms: dict[str, list[str]] = {}
    for module in modules(package):
        if module is not package:
            rooms.setdefault(module.path.split(".")[1], []).append(module.path)
    summary = [f"# The package\n\n{directive(package, PACKAGE)}\n## Public names\n\n| name | what it is |\n|---|---|"]
    for name in sorted(map(str, package.exports), key=str.lower):
        item = package.members[name]
        first = item.docstring.value.partition("\n")[0].replace("|", "\\|") if item.has_docstring else ""
        summary.append(f"| [`{name}`][{item.canonical_path}] | {first} |" if first else f"| `{name}` | its version |")
    (pages / "index.md").write_text("\n".join(summary) + "\n", encoding="utf-8")
    entries = [{PACKAGE: "reference/index.md"}]
    for room, paths in rooms.items():
        page = pages / f"{room}.md"
        page.write_text("\n".join([f"# {room}\n", *(directive(package, path) for path in paths)]), encoding="utf-8")
        entries.append({room: f"reference/{page.name}"})
    return entries


def directive(package: Any, path: str) -> str:
    """What makes mkdocstrings show a module: the names that it defines, not those that it only passes on."""
    module = package if path == PACKAGE else package[path.removeprefix(f"{PACKAGE}.")]
    own = [str(name) for name in module.exports if not module.members[str(name)].is_alias]
    members = f"[{', '.join(own)}]" if own else "false"
    return f"::: {path}\n    options:\n      members: {members}\n"


if __name__ == "__main__":
    sys.exit(main())
