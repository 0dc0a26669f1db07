"""The site builds from executed chapters, warnings are errors, and what it publishes is fit to publish."""

from __future__ import annotations

import json
import re

import nbformat
import pytest
from tiny_book import BOOK, chapter_names, write_chapter

from lipnb.lab import links, site
from lipnb.lab.claims import load_claims

pytestmark = pytest.mark.lab

CHAPTER = chapter_names()[0]


def test_every_page_is_there_and_no_link_is_dead(tiny_site):
    built = {path.relative_to(tiny_site).with_suffix("").as_posix() for path in tiny_site.rglob("*.html")}
    assert {
        "index",
        "claims",
        *(path.stem for path in BOOK.glob("*.md") if path.stem != "migration"),
    } <= built
    assert {f"notebooks/{name}" for name in chapter_names()} <= built
    assert links.problems(tiny_site) == []


def test_claims_page_has_every_anchor_and_the_verdicts(tiny_site):
    page = (tiny_site / "claims.html").read_text()
    assert all(f'id="claim-{claim.id}"' in page for claim in load_claims())
    assert "verdict-not-supported" in page
    assert "equality *only* for rank_1" in page


def test_figures_are_inline_with_number_and_caption(tiny_site):
    page = (tiny_site / "notebooks" / f"{CHAPTER}.html").read_text()
    assert re.search(
        r'<figure [^>]*id="fig-[^"]+">\s*<div class="output text_html"><div class="lipnb-figure"><svg', page
    )
    assert re.search(
        r'<span class="caption-number">Fig\. 1 </span><span class="caption-text">A caption', page
    )
    assert 'aria-label="a rising line"' in page
    assert "data:image/png" not in page


def test_published_notebook_says_nothing_of_this_machine(tiny_site):
    text = (tiny_site / "_sources" / "notebooks" / f"{CHAPTER}.ipynb").read_text()
    assert "papermill" not in text
    assert "/somewhere/on/this/machine" not in text
    nbformat.validate(nbformat.reads(text, as_version=4))
    assert "injected = " not in (tiny_site / "notebooks" / f"{CHAPTER}.html").read_text()


def test_notebook_can_be_downloaded_and_launched(tiny_site):
    page = (tiny_site / "notebooks" / f"{CHAPTER}.html").read_text()
    published = f"_sources/notebooks/{CHAPTER}.ipynb"
    assert f'href="../{published}"' in page
    assert f"https://colab.research.google.com/github/owner/name/blob/gh-pages/{published}" in page
    assert f"https://mybinder.org/v2/gh/owner/name/gh-pages?urlpath=lab/tree/{published}" in page
    cells = nbformat.read(tiny_site / published, as_version=4).cells
    assert "git clone --quiet --depth 1 https://github.com/owner/name" in cells[1].source
    assert "git clone" not in page


def test_without_a_repository_there_is_nothing_to_launch(minimal, monkeypatch):
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)
    out = site.build(minimal / "chapters", minimal / "verdicts.json", minimal / "html", book=minimal / "book")
    page = (out / "notebooks" / "x.html").read_text()
    assert "was built from" not in page
    assert "colab" not in page
    assert "mybinder" not in page
    assert 'href="../_sources/notebooks/x.ipynb"' in page


def test_a_build_from_other_runs_says_so_on_every_page(minimal):
    path = minimal / "chapters" / "x.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata.papermill["parameters"] = {"profile": "smoke", "fresh": True}
    nbformat.write(notebook, path)
    out = site.build(minimal / "chapters", minimal / "verdicts.json", minimal / "html", book=minimal / "book")
    for page in ("index.html", "claims.html", "notebooks/x.html"):
        (banner,) = re.findall(
            r'<aside class="bd-header-announcement".*?</aside>', (out / page).read_text(), re.S
        )
        assert "built from this machine’s <strong>smoke</strong> runs" in banner


def test_warnings_fail_the_build_and_leave_the_site_before_it(minimal, capfd):
    bad = {"{ref}`nowhere`": "nowhere", "[text](gone.md)": "gone.md", "{cite:p}`nobody`": "nobody"}
    write_chapter(minimal / "chapters", "x", extra="\n\n".join(bad), stderr="/tmp/x.py:1: UserWarning")
    (minimal / "html").mkdir()
    (minimal / "html" / "index.html").write_text("before")
    with pytest.raises(RuntimeError, match="without a warning"):
        site.build(minimal / "chapters", minimal / "verdicts.json", minimal / "html", book=minimal / "book")
    warnings = [line for line in capfd.readouterr().err.splitlines() if "WARNING" in line]
    assert len(warnings) == len(bad) + 1
    assert all(any(name in line for line in warnings) for name in [*bad.values(), "stderr"])
    assert (minimal / "html" / "index.html").read_text() == "before"
    assert {path.name for path in minimal.iterdir()} == {"book", "chapters", "html", "verdicts.json"}


NATIVE = "WARNING: All log messages before absl::InitializeLog()\nI0000 00:00:17.5 4668 port.cc:153] oneDNN is on.\n"


@pytest.mark.parametrize(
    ("text", "noise"),
    [
        (NATIVE, True),
        (
            "/p/tqdm/auto.py:21: TqdmWarning: IProgress not found.\n  from .autonotebook import tqdm as t\n",
            True,
        ),
        ("/p/x.py:1: UserWarning: look here\n", False),
        (NATIVE + "/p/x.py:1: UserWarning: look here\n", False),
        ("", False),
    ],
)
def test_only_native_noise_is_dropped(text, noise):
    assert site.is_noise(nbformat.v4.new_output("stream", name="stderr", text=text)) is noise
    assert not site.is_noise(nbformat.v4.new_output("stream", name="stdout", text=text))


@pytest.mark.parametrize("change", ["missing", "unlisted"])
def test_chapters_must_be_those_of_the_contents(minimal, change):
    if change == "missing":
        (minimal / "chapters" / "x.ipynb").unlink()
    else:
        write_chapter(minimal / "chapters", "y")
    with pytest.raises(ValueError, match=r"_toc\.yml: x\. Received: "):
        site.build(minimal / "chapters", minimal / "verdicts.json", minimal / "html", book=minimal / "book")


def test_command_line_says_what_is_wrong(tmp_path, capsys):
    (tmp_path / "verdicts.json").write_text(json.dumps({}))
    options = ["--chapters", tmp_path, "--verdicts", tmp_path / "verdicts.json", "--out", tmp_path / "html"]
    assert site.main([str(option) for option in options]) == 1
    assert "must hold the executed chapters" in capsys.readouterr().err
