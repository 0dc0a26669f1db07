"""The book as HTML: its pages, the executed chapters and the pages made from data, in one offline site.

``python -m lipnb.lab.site --chapters DIR --verdicts FILE --out DIR [--check]``

Warnings are errors. The site appears at ``--out`` only once it is complete; the one before it stays until then.
Where GITHUB_REPOSITORY (owner/name) is set, as GitHub's runners do, chapters get Colab and Binder buttons for
the executed notebooks that the site publishes on the branch ``gh-pages``.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from importlib import resources
from pathlib import Path
from typing import Any

import nbformat
import yaml

from lipnb.lab import links, pages, paths
from lipnb.lab.claims import load_chapters, load_claims

__all__ = ["build", "is_noise", "main"]

JUPYTER_BOOK = (
    "import sys; from jupyter_book.cli.main import main; sys.exit(main())"  # a venv's script breaks on spaces
)
FRONT = ("headline", "fig-headline-final")  # chapter and figure for the first page
MATHJAX = "static/mathjax/es5/tex-svg.js"
# What native code and tqdm write to stderr on some machines; anything else there is a warning that fails the build.
NOISE = re.compile(
    r"(WARNING: All log messages before absl|[IWE]\d{4} \d\d:|To enable the following instructions)"
    r"|.*TqdmWarning: IProgress not found|  from \.autonotebook import"
)
NOT_PAGES = shutil.ignore_patterns("results", "claims.yaml", "_build")
FETCH = """\
import importlib.util, sys

if importlib.util.find_spec("lipnb") is None:  # on Colab or Binder: fetch the project and what it needs
    !git clone --quiet --depth 1 https://github.com/{repository} companion
    %pip install --quiet "./companion[lab]"
    sys.path.insert(0, "companion")"""


def build(
    chapters: Path, verdicts: Path, out: Path, *, book: Path = paths.CLAIMS.parent, check: bool = False
) -> Path:
    """Build the site at ``out`` from the pages in ``book``, executed ``chapters`` (ipynb) and ``verdicts`` (JSON).

    Raises ValueError where ``chapters`` are not those of the table of contents, or where ``check`` finds a dead
    link or a file of another host; RuntimeError where Jupyter Book warns or fails (it has said why).
    """
    repository = os.environ.get("GITHUB_REPOSITORY", "")
    _check_chapters(chapters, book)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as scratch:
        source = Path(scratch).resolve() / "source"
        shutil.copytree(book, source, ignore=NOT_PAGES)
        parameters = _add_chapters(chapters, source, repository)
        _add_generated(verdicts, book, source)
        _add_vendored(source)
        _configure(source / "_config.yml", repository, pages.built_from(parameters))
        html = _jupyter_book(source)
        if check and (problems := links.problems(html)):
            raise ValueError(
                "the site must have no dead link and no foreign file. Received:\n" + "\n".join(problems)
            )
        if out.exists():
            os.replace(out, Path(scratch) / "before")
        os.replace(html, out)
    return out


def _check_chapters(chapters: Path, book: Path) -> None:
    expected = set(load_chapters(book))
    found = {
        path.stem
        for path in chapters.glob("*.ipynb")
        if not path.stem.endswith((".failed", ".partial", ".source"))
    }
    if expected != found:
        raise ValueError(
            f"{chapters} must hold the executed chapters of _toc.yml: {', '.join(sorted(expected))}. "
            f"Received: {', '.join(sorted(found))}"
        )


def _add_chapters(chapters: Path, source: Path, repository: str) -> list[dict[str, Any]]:
    """Put the chapters among the pages; returns the parameters that papermill executed each with."""
    (source / "notebooks").mkdir()
    parameters = []
    for path in sorted(chapters.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        parameters.append(notebook.metadata.get("papermill", {}).get("parameters", {}))
        nbformat.write(_cleaned(notebook, repository), source / "notebooks" / path.name)
    return parameters


def _cleaned(notebook: nbformat.NotebookNode, repository: str) -> nbformat.NotebookNode:
    """Without papermill's metadata (they hold this machine's paths), injected parameters out of sight."""
    notebook.metadata.pop("papermill", None)
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not is_noise(output)]
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.metadata.tags.append("remove-cell")
    if repository:
        fetch = nbformat.v4.new_code_cell(
            FETCH.format(repository=repository), metadata={"tags": ["remove-cell"]}
        )
        notebook.cells.insert(1, fetch)
    return notebook


def is_noise(output: nbformat.NotebookNode) -> bool:
    """Whether an output is nothing but native code's log lines and the like on stderr."""
    lines = output.get("text", "").splitlines() if output.get("name") == "stderr" else []
    return bool(lines) and all(NOISE.match(line) or not line for line in lines)


def _add_generated(verdicts: Path, book: Path, source: Path) -> None:
    records = json.loads(verdicts.read_text())
    shutil.copyfile(verdicts, source / "verdicts.json")
    (source / "claims.md").write_text(pages.claims_page(load_claims(book / paths.CLAIMS.name), records))
    generated = source / "_generated"
    generated.mkdir()
    for name, section in (("timings", pages.timings_section), ("bench", pages.bench_section)):
        recorded = book / "results" / f"{name}.json"
        told = json.loads(recorded.read_text()) if recorded.exists() else {}
        (generated / f"{name}.md").write_text(section(told))
    chapter, figure = FRONT
    if (path := source / "notebooks" / f"{chapter}.ipynb").exists():
        (generated / "front.md").write_text(pages.figure_of(nbformat.read(path, as_version=4), figure))


def _add_vendored(source: Path) -> None:
    vendor = source / "_extra" / "vendor"
    vendor.mkdir(parents=True)
    with resources.as_file(resources.files("mathjax") / MATHJAX) as script:
        shutil.copyfile(script, vendor / "tex-svg.js")
    (source / "_extra" / ".nojekyll").touch()


def _configure(path: Path, repository: str, notice: str) -> None:
    config: dict[str, Any] = yaml.safe_load(path.read_text())
    if notice:
        config["html"]["announcement"] = notice
    if repository:
        url = f"https://github.com/{repository}"
        config["repository"] = {"url": url, "path_to_book": "_sources", "branch": "gh-pages"}
        config["launch_buttons"] = {
            "notebook_interface": "jupyterlab",
            "colab_url": "https://colab.research.google.com",
            "binderhub_url": "https://mybinder.org",
        }
        config["html"]["use_repository_button"] = True
    path.write_text(yaml.safe_dump(config, allow_unicode=True))


def _jupyter_book(source: Path) -> Path:
    command = [sys.executable, "-c", JUPYTER_BOOK, "build", str(source), "--path-output", str(source.parent)]
    strict = ["-W", "--all", "--keep-going", "--quiet"]
    # lipnb is imported for its docstrings alone: no backend has to load.
    environment = {**os.environ, "KERAS_BACKEND": "numpy"}
    result = subprocess.run(
        [*command, *strict], cwd=source.parent, stdout=subprocess.DEVNULL, env=environment
    )
    if result.returncode:
        raise RuntimeError(
            f"Jupyter Book must end without a warning: see above. Received: status {result.returncode}"
        )
    return source.parent / "_build" / "html"


def main(arguments: list[str] | None = None) -> int:
    """Command line; exit status 1 where the site could not be built."""
    parser = argparse.ArgumentParser(description="Build the book's site from executed chapters and verdicts.")
    parser.add_argument("--chapters", type=Path, required=True, help="folder of executed chapters (.ipynb)")
    parser.add_argument("--verdicts", type=Path, required=True, help="verdicts.json")
    parser.add_argument("--out", type=Path, required=True, help="folder of the finished site")
    parser.add_argument(
        "--check", action="store_true", help="look for dead links and files of other hosts too"
    )
    options = parser.parse_args(arguments)
    try:
        print(build(options.chapters, options.verdicts, options.out, check=options.check) / "index.html")
    except (ValueError, RuntimeError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
