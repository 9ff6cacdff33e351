"""The documentation: examples in docstrings run, every public name is described, the site is whole and opens."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest

import nnlod_fenics
from nnlod_fenics.network import registry

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "nnlod_fenics"
BUILD = ROOT / "demos" / "docs" / "build.py"
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
WITH_EXAMPLES = [name for name, path in MODULES.items() if ">>> " in path.read_text(encoding="utf-8")]
MAIN = (
    "Grid local_matrices coarse_matrix coarse_operator solve_coarse solve make_field NNLOD generate Dataset train "
    "evaluate monte_carlo load_config"
).split()
MISSING = [name for name in ("mkdocs", "mkdocstrings", "latex2mathml") if importlib.util.find_spec(name) is None]
BROWSER = next(filter(None, map(shutil.which, ("chromium-headless-shell", "chromium", "google-chrome"))), None)

needs_mkdocs = pytest.mark.skipif(bool(MISSING), reason=f"no {', '.join(MISSING)}: the extra docs of pyproject.toml")


# -- examples ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples(name, tmp_path, monkeypatch):
    """The examples of a module, in an empty folder, with NumPy as np."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "NETWORKS", dict(registry.NETWORKS))  # an example registers one
    module = importlib.import_module(name)
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    found = doctest.testmod(module, extraglobs={"np": np}, optionflags=options, verbose=False)
    assert found.attempted > 0 and found.failed == 0


@pytest.mark.parametrize("name", MAIN)
def test_main_names_have_an_example(name):
    assert name in nnlod_fenics.__all__
    assert ">>> " in getattr(nnlod_fenics, name).__doc__


# -- public names ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def build():
    """The script that builds the site, as a module."""
    specification = importlib.util.spec_from_file_location("nnlod_docs_build", BUILD)
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module
    specification.loader.exec_module(module)
    return module


@needs_mkdocs
def test_public_names_are_documented(build):
    assert build.undocumented(build.load(ROOT)) == []


@needs_mkdocs
def test_names_without_documentation_are_found(build, tmp_path):
    package = tmp_path / "nnlod_fenics"
    package.mkdir()
    (package / "__init__.py").write_text('"""A package."""\n')
    (package / "named.py").write_text(
        '"""A module."""\nfrom json import dumps\n__all__ = ["A", "B", "bare", "dumps", "told"]\n'
        'class A:\n    """Told."""\n    def bare(self): ...\n    def _own(self): ...\n    def __len__(self): ...\n'
        "B = 1\ndef bare(): ...\n"
        'def told():\n    """Told."""\ndef _own(): ...\n'
    )
    (package / "bare.py").write_text("__all__ = []\n")
    names = ["bare", "named.A.bare", "named.B", "named.bare"]
    assert build.undocumented(build.load(tmp_path)) == [f"nnlod_fenics.{name}" for name in names]
    (package / "named.py").write_text('"""A module."""\n__all__ = ["gone"]\n')
    with pytest.raises(build.DocumentationError, match=r"nnlod_fenics\.named has 'gone' in __all__"):
        build.undocumented(build.load(tmp_path))


# -- pages -------------------------------------------------------------------------------------------


@needs_mkdocs
def test_cells(build):
    code = "import a\n\n# of b\nimport b\n\n\ndef c():\n    # not text\n    return a\n"
    page = "".join(build.cells(f"# # Title\n#\n# Text.\n\n{code}\n# End.\n"))
    assert page == f"# Title\n\nText.\n\n```python\n{code}```\n\nEnd.\n\n"
    inner = "if first:\n    a = 1\n\n    # ## Part\n\n    b = 2\n"
    assert "".join(build.cells(inner)).endswith("    a = 1\n```\n\n## Part\n\n```python\nb = 2\n```\n\n")


@needs_mkdocs
def test_formulas(build):
    text = build.with_formulas("the area $H^2$ of `$HOME`")
    assert re.fullmatch(r"the area <span><math .*<msup><mi>H</mi><mn>2</mn></msup>.*</math></span> of `\$HOME`", text)


def test_pictures_are_copied(build, tmp_path):
    """Also from a folder within a demo's output folder."""
    work, pages = tmp_path / "work", tmp_path / "pages"
    (work / "out_demo" / "part").mkdir(parents=True)
    (work / "out_demo" / "part" / "a.png").write_bytes(b"picture")
    pages.mkdir()
    text = "![Part](out_demo/part/a.png)"
    assert build.with_pictures(text, work, pages) == f"{text}\n\n*Part.*"
    assert (pages / "out_demo" / "part" / "a.png").read_bytes() == b"picture"
    with pytest.raises(build.DocumentationError, match=r"a demo shows gone\.png, which it did not write"):
        build.with_pictures("![gone](gone.png)", work, pages)


def test_all_demos_that_illustrate_something_are_in_the_tutorial(build):
    demos = {path.stem for path in (ROOT / "demos").glob("*.py") if "This demo illustrates" in path.read_text("utf-8")}
    assert demos == set(build.TUTORIAL) and len(build.TUTORIAL) == len(demos)


def test_missing_packages_are_named_in_a_sentence(build, monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(build.PACKAGES, "no_such_package", "no-such-package")
    assert build.main(["--no-run", "-o", str(tmp_path / "site")]) == 1
    assert re.search(r"^docs: .*no_such_package not found; pip install .* no-such-package\.$", capsys.readouterr().err)


# -- the site ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(build, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("docs")
    assert build.main(["--no-run", "-o", str(folder / "site")]) == 0
    return folder / "site"


class Page(HTMLParser):
    """Links of a page, what it loads, and its anchors."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links, self.anchors = [], set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.anchors |= {values[key] for key in ("id", "name") if values.get(key)}
        self.links += [(tag, values[key]) for key in ("href", "src") if values.get(key)]


def broken_links(site: Path) -> list[str]:
    """Links to files or anchors that are not there, and files that are loaded from elsewhere."""
    pages = {path.resolve(): Page(path) for path in site.rglob("*.html") if path.name != "404.html"}
    broken = []
    for path, page in pages.items():
        for tag, link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                broken += [f"{path.name} loads {link}"] if tag != "a" else []
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchors = pages[target].anchors if target in pages else {""}
            if not target.is_file() or (parts.fragment and unquote(parts.fragment) not in anchors):
                broken.append(f"{path.name} links to {link}")
    return broken


@needs_mkdocs
def test_no_link_is_broken(site, tmp_path):
    assert broken_links(site) == []
    assert len(list((site / "tutorial").glob("*.html"))) == 10
    assert "compress_field" in (site / "index.html").read_text(encoding="utf-8")
    copy = tmp_path / "site"  # what the check would say of broken links
    shutil.copytree(site, copy)
    links = '<a href="nowhere.html">a</a><a href="#nowhere">b</a><script src="https://x.example/y.js"></script>'
    (copy / "index.html").write_text((copy / "index.html").read_text("utf-8") + links, encoding="utf-8")
    told = ["links to nowhere.html", "links to #nowhere", "loads https://x.example/y.js"]
    assert broken_links(copy) == [f"index.html {what}" for what in told]


@needs_mkdocs
def test_names_of_the_package_lead_to_their_description(site):
    page = Page(site / "reference" / "index.html")
    found = {urlsplit(link).fragment.rpartition(".")[2] for tag, link in page.links if tag == "a"}
    assert set(nnlod_fenics.__all__) - {"__version__"} <= found


@needs_mkdocs
def test_roles_are_links(site):
    text = (site / "reference" / "solvers.html").read_text(encoding="utf-8")
    assert ":class:" not in text and 'href="functionals.html#nnlod_fenics.functionals.Outflow"' in text


@needs_mkdocs
def test_broken_references_are_refused(build, tmp_path, capsys, monkeypatch):
    """A docstring that refers to a name that does not exist, and a README that links to a file that is not there."""
    root = tmp_path / "root"
    shutil.copytree(ROOT / "demos", root / "demos", ignore=shutil.ignore_patterns("out_*", "__pycache__"))
    (root / "nnlod_fenics").mkdir()
    (root / "nnlod_fenics" / "__init__.py").write_text('"""See :func:`nnlod_fenics.gone`."""\n__all__ = []\n')
    (root / "README.md").write_text("# Title\n")
    (tmp_path / "first").mkdir()
    with pytest.raises(build.DocumentationError, match=r"Could not find cross-reference target '?nnlod_fenics\.gone"):
        build.build(tmp_path / "first", tmp_path / "site", run=False, root=root)
    (root / "README.md").write_text("# Title\n\n![none](demos/pictures/gone.png)\n")
    (tmp_path / "second").mkdir()
    with pytest.raises(build.DocumentationError, match=r"README\.md links to demos/pictures/gone\.png"):
        build.build(tmp_path / "second", tmp_path / "site", run=False, root=root)


@needs_mkdocs
@pytest.mark.skipif(BROWSER is None, reason="no Chromium: chromium-headless-shell, chromium or google-chrome")
@pytest.mark.parametrize(
    ("page", "title", "shown"),
    [
        ("index.html", "nnlod-fenics", "Two commands"),
        ("reference/solvers.html", "solvers - nnlod-fenics", "register_method"),
    ],
)
def test_pages_open_in_a_browser(site, tmp_path, page, title, shown):
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    command += [f"--user-data-dir={tmp_path}", "--enable-logging=stderr", "--virtual-time-budget=5000", "--dump-dom"]
    done = subprocess.run([*command, (site / page).as_uri()], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert f"<title>{title}</title>" in done.stdout and shown in done.stdout
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
