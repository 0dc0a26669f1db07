"""Pages made from data: the claims page, the section on times, README's table."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from lipnb.lab import pages, paths, readme
from lipnb.lab.claims import load_claims

pytestmark = pytest.mark.lab

RECORD = {
    "verdict": "not supported",
    "summary": "SN ended at 85_1 against 117.",
    "rule": "a < b in *all* seeds",
    "scale": "28×28",
    "profile": "cpu",
    "runs": ["headline/sn-s0"],
    "numbers": {"fid": {"sn": 85.12345, "all": [float(i) for i in range(20)]}, "seeds": [0, 1, 2]},
}


def test_claims_page_shows_every_claim_once():
    page = pages.claims_page(load_claims(), {})
    assert re.findall(r'<span id="claim-(\w+)"></span>', page) == [claim.id for claim in load_claims()]
    assert all(claim.statement in page for claim in load_claims())
    assert f"Of {len(load_claims())} claims: {len(load_claims())} open." in page
    assert "ran with the" not in page


def test_claims_page_shows_what_is_behind_a_verdict():
    page = pages.claims_page(load_claims(), {"H6": RECORD})
    assert "[not supported]{.verdict .verdict-not-supported} SN ended at 85\\_1 against 117." in page
    assert "`headline/sn-s0`" in page
    assert "fid, sn: 85.12" in page
    assert "fid, all: 20 values from 0 to 19" in page
    assert "seeds: 0, 1, 2" in page
    assert "ran with the `cpu` profile only" in page


def test_not_supported_is_not_more_than_it_says():
    (line,) = [
        line
        for line in pages.claims_page(load_claims(), {}).splitlines()
        if line.startswith("- [not supported]")
    ]
    assert "disagrees, or it cannot tell" in line


def test_claims_page_names_what_this_build_has_not_run():
    stood_in = RECORD | {"profile": "cpu (recorded)"}
    page = pages.claims_page(load_claims(), {"H6": RECORD, "G7": stood_in})
    assert "This build did not make the runs behind G7: recorded ones stand in." in page
    assert "did not make" not in pages.claims_page(load_claims(), {"H6": RECORD})


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ([{"profile": "cpu", "fresh": False}], None),
        ([{}, {"seed": 1}], None),
        ([{"profile": "cpu", "fresh": True}], "this machine’s <strong>cpu</strong> runs"),
        (
            [{"profile": "smoke", "fresh": True}, {"profile": "smoke", "fresh": True}],
            "this machine’s <strong>smoke</strong> runs",
        ),
        ([{"profile": "gpu", "fresh": False}], "the recorded <strong>gpu</strong> runs"),
    ],
)
def test_pages_say_what_they_were_built_from_where_captions_may_not_fit(parameters, named):
    notice = pages.built_from(parameters)
    assert bool(notice) is bool(named)
    assert not named or f"built from {named}:" in notice
    assert not named or "Captions describe the recorded <strong>cpu</strong> runs" in notice


def test_claims_page_answers_the_headline_once_both_of_its_claims_are_settled():
    faster = RECORD | {"verdict": "supported", "summary": "1.4 times", "scale": "one processor"}
    page = pages.claims_page(load_claims(), {"H6": RECORD, "H7": faster})
    (answer,) = [part for part in page.split("\n\n") if part.startswith("**The article's headline**")]
    assert "ends better is [not supported]" in answer
    assert "faster [supported]" in answer
    assert "1.4 times So far" in answer
    assert "conditions: 28×28." in answer
    assert "SN ended at 85\\_1 against 117." in answer
    beside = {"a, 1 critic step": [-9.0, -12.0, -6.0], "b": [1.0, -1.0, 3.0], "c": [2.0, 1.0, 3.0]}
    page = pages.claims_page(
        load_claims(), {"H6": RECORD | {"numbers": {"differences": beside}}, "H7": faster}
    )
    assert "| a, 1 critic step | -9.0 [-12.0, -6.0] | the penalty |" in page
    assert "| b | 1.0 [-1.0, 3.0] | cannot be told |" in page
    assert "| c | 2.0 [1.0, 3.0] | normalization |" in page
    assert "The article's headline" not in pages.claims_page(load_claims(), {"H6": RECORD})


@settings(deadline=None)  # the first example may wait for a busy machine
@given(st.text(st.characters(codec="utf-8", exclude_categories=["C"])))
def test_escaped_text_is_shown_unchanged(text):
    shown = MarkdownIt("commonmark").enable(["strikethrough", "table"]).renderInline(pages.escape(text))
    assert html.unescape(re.sub(r"<[^>]+>", "", shown)) == " ".join(text.split())


def test_text_without_escapes_is_not_shown_unchanged():
    assert MarkdownIt("commonmark").renderInline("a *b* c") != "a *b* c"


def test_times_come_from_data():
    assert pages.timings_section({}) == ""
    assert pages.bench_section({}) == ""
    entry = {"seconds": 171.2, "budget_minutes": 5}
    section = pages.timings_section({"machine": "2 cores", "commands": {"make smoke": entry}})
    assert "| `make smoke` | 2.9 min | 5 min |" in section
    assert "2 cores" in section
    everything = {"make reproduce FULL=1": {"seconds": 5400, "budget_minutes": 120}}
    both = pages.timings_section({"machine": "2 cores", "commands": {"make smoke": entry} | everything})
    assert both == section.rstrip("\n") + "\n| `make reproduce FULL=1` | 90.0 min | 120 min |\n"


def test_a_chapters_figure_is_found_by_name():
    shown = {"data": {"text/html": "<svg></svg>", "text/plain": "x"}}
    figure = {"mystnb": {"figure": {"name": "fig-a", "caption": "What it *shows*.\n"}}}
    notebook = {"cells": [{"metadata": {}}, {"metadata": figure, "outputs": [{"name": "stdout"}, shown]}]}
    assert pages.figure_of(notebook, "fig-a").split("\n")[1] == "<svg></svg>"
    assert "What it *shows*." in pages.figure_of(notebook, "fig-a")
    with pytest.raises(ValueError, match="figure fig-b"):
        pages.figure_of(notebook, "fig-b")


def test_readme_has_the_table_of_the_data():
    assert readme.main(["--check"]) == 0


def test_readme_check_fails_on_another_table_and_write_mends_it(tmp_path, capsys):
    altered = tmp_path / "README.md"
    altered.write_text((paths.ROOT / "README.md").read_text().replace("| A1 |", "| A9 |"))
    assert readme.main(["--check"], altered) == 1
    assert "python -m lipnb.lab.readme --write" in capsys.readouterr().err
    assert readme.main(["--write"], altered) == 0
    assert readme.main(["--check"], altered) == 0


@pytest.mark.parametrize("text", ["no block", "<!-- claims -->\n<!-- /claims -->\n" * 2])
def test_readme_without_exactly_one_block_is_refused(text):
    with pytest.raises(ValueError, match="must hold one"):
        readme.with_table(text, "")


def test_the_bench_is_a_row_for_each_critic_and_framework():
    ours = {
        "lipnb / plain": [1.03, 1.02, 1.04],
        "keras / plain": [1.02, 1.0, 1.03],
        "lipnb / keras": [1.01, 1.0, 1.02],
    }
    steps = [
        {"size": 28, "batch": 64, "where": "Keras on tensorflow", "plain_ms": 70.71, "ratios": ours},
        {
            "size": 28,
            "batch": 64,
            "where": "flax",
            "plain_ms": 107.0,
            "ratios": {"flax / plain": [0.9, 0.8, 1]},
        },
    ]
    told = {"device": "a_chip", "threads": 2, "width": 64, "rounds": 15, "processes": 3, "steps": steps}
    section = pages.bench_section(told)
    assert "on a\\_chip, 2 threads. Medians of 15 or more rounds, then over 3 processes" in section
    assert (
        "| 28×28, batch 64 | Keras on tensorflow | 70.7 ms | lipnb: 1.030 (1.020 to 1.040) |  | its own: 1.020 (1.000 to 1.030) |"
        in section
    )
    assert "| 28×28, batch 64 | flax | 107.0 ms |  |  | its own: 0.900 (0.800 to 1.000) |" in section
