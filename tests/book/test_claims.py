"""The claims' ids agree everywhere: data, chapters' titles, table of contents, recorded verdicts."""

from __future__ import annotations

import json
import re

import pytest
from tiny_book import chapter_names

from lipnb.lab import paths
from lipnb.lab.claims import load_claims
from lipnb.lab.verdicts import VERDICTS

pytestmark = pytest.mark.lab

SIZES = {"A": 2, "B": 3, "C": 3, "D": 2, "E": 5, "F": 2, "G": 8, "H": 7, "I": 6}
IDS = [f"{letter}{i + 1}" for letter, size in SIZES.items() for i in range(size)]
NOTEBOOKS = paths.ROOT / "notebooks"


def ids_in(title: str) -> set[str]:
    """Claim ids named in a title; ``E1–E5`` names five."""
    found = set(re.findall(r"\b[A-I]\d\b", title))
    for letter, first, last in re.findall(r"\b([A-I])(\d)–\1(\d)\b", title):
        found |= {f"{letter}{i}" for i in range(int(first), int(last) + 1)}
    return found


def title(notebook: str) -> str:
    return re.search(r"^# (.+)$", (NOTEBOOKS / f"{notebook}.md").read_text(), re.M)[1]


def test_ids_are_complete_ordered_and_unique():
    # Read as text: YAML would silently keep the last of two entries with one key.
    assert re.findall(r"^(\w+):", paths.CLAIMS.read_text(), re.M) == IDS
    assert [claim.id for claim in load_claims()] == IDS


@pytest.mark.parametrize("claim", load_claims(), ids=lambda claim: claim.id)
def test_claim_is_stated(claim):
    assert claim.kind in {"definition", "theorem", "experiment", "question", "implementation"}
    assert 3 <= len(claim.title.split()) <= 7
    assert claim.statement.endswith((".", "?"))
    assert claim.statement.count("$") % 2 == 0


def test_titles_of_ids_are_read():
    assert ids_in("Power iteration (C1, E1–E3)") == {"C1", "E1", "E2", "E3"}
    assert ids_in("GAN with I 4 and BN2") == set()


@pytest.mark.parametrize("notebook", chapter_names())
def test_chapter_names_its_claims(notebook):
    assert ids_in(title(notebook)) == {claim.id for claim in load_claims() if claim.notebook == notebook}


def test_chapters_of_claims_contents_and_folder_agree():
    assert {claim.notebook for claim in load_claims()} - {None} <= set(chapter_names())
    assert {path.stem for path in NOTEBOOKS.glob("*.md")} >= set(chapter_names())  # more of them: drafts


def test_recorded_verdicts_are_of_these_claims():
    recorded = paths.RECORDED / "verdicts.json"
    verdicts = json.loads(recorded.read_text()) if recorded.exists() else {}
    assert list(verdicts) in ([], IDS)
    assert {record["verdict"] for record in verdicts.values()} <= set(VERDICTS)
