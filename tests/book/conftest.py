"""A site built from tiny chapters, and one browser for all tests that look at pages."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from playwright.sync_api import Browser, sync_playwright
from tiny_book import BOOK, chapter_names, write_chapter

from lipnb.lab import paths, site, verdicts

# As Debian's Chromium wants to be started so that it makes no request of its own.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    """Folder, its name with a space, that holds tiny chapters and verdicts for all of them."""
    folder = tmp_path_factory.mktemp("tiny book")
    for name in chapter_names():
        write_chapter(folder / "chapters", name)
    proved = verdicts.derivation("C3", {"equality *only* for rank_1": True}, summary="‖W‖_2 ≤ ‖W‖_F holds.")
    proved.write(folder / "verdicts")
    numbers = {"fid": {"a": 85.12345, "b": [1.0] * 20}}
    verdicts.experiment(
        "H6", False, rule="a < b", summary="no", scale="28×28", profile="cpu", runs=["a/b"], numbers=numbers
    ).write(folder / "verdicts")
    verdicts.merge(folder / "verdicts", folder / "verdicts.json")
    return folder


@pytest.fixture(scope="session")
def tiny_site(tiny) -> Path:
    """The book's own pages with tiny chapters, as GitHub's runners build them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GITHUB_REPOSITORY", "owner/name")
        return site.build(tiny / "chapters", tiny / "verdicts.json", tiny / "html", check=True)


@pytest.fixture(scope="session")
def book_site(request) -> Path:
    """The site named by LIPNB_SITE, else the tiny one."""
    if named := os.environ.get("LIPNB_SITE"):
        return paths.ROOT / named
    return request.getfixturevalue("tiny_site")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium, from $CHROMIUM or where it is usually installed."""
    names = ("chromium", "chromium-browser", "google-chrome")
    executable = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if executable is None:
        pytest.skip(
            "no Chromium is installed (looked for $CHROMIUM, chromium, chromium-browser, google-chrome)"
        )
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def minimal(tmp_path) -> Path:
    """The smallest book that builds: one page and one chapter, ``x``, with the book's own configuration."""
    book = tmp_path / "book"
    book.mkdir()
    for name in ("_config.yml", "references.bib"):
        shutil.copyfile(BOOK / name, book / name)
    shutil.copytree(BOOK / "_static", book / "_static")
    (book / "index.md").write_text("# Title\n\n```{bibliography}\n```\n")
    toc = {
        "format": "jb-book",
        "root": "index",
        "parts": [{"chapters": [{"file": "claims"}, {"file": "notebooks/x"}]}],
    }
    (book / "_toc.yml").write_text(yaml.safe_dump(toc))
    claim = {"title": "A claim", "statement": "$1 = 1$.", "kind": "theorem", "notebook": "x"}
    (book / "claims.yaml").write_text(yaml.safe_dump({"A1": claim}))
    (tmp_path / "verdicts.json").write_text(json.dumps({}))
    write_chapter(tmp_path / "chapters", "x")
    return tmp_path
