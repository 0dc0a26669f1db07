"""The glossary: every term in both languages, once, with chapters and claims that exist."""

from __future__ import annotations

import re

import pytest
from tiny_book import chapter_names

from lipnb.lab import paths
from lipnb.lab.claims import load_claims

pytestmark = pytest.mark.lab

TEXT = (paths.CLAIMS.parent / "glossary.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in TEXT.splitlines()
    if line.startswith("| ") and not line.startswith("| English")
]


def test_every_row_has_three_cells_and_a_chinese_term():
    assert len(ROWS) > 40
    for row in ROWS:
        assert len(row) == 3, row
        assert re.search(r"[\u4e00-\u9fff]", row[1]), row
        assert not re.search(r"[\u4e00-\u9fff]", row[0] + row[2]), row


def test_no_term_stands_twice():
    for column in (0, 1):
        terms = [row[column] for row in ROWS]
        assert len(set(terms)) == len(terms)


def test_chapters_and_claims_exist():
    assert set(re.findall(r"\{doc\}`notebooks/(\w+)`", TEXT)) <= set(chapter_names())
    named = set(re.findall(r"\b[A-I]\d\b", TEXT))
    assert named <= {claim.id for claim in load_claims()}
    assert {"A1", "C1", "E2", "G3", "H4"} <= named


def test_formulas_are_closed():
    assert all(line.count("$") % 2 == 0 for line in TEXT.splitlines())
