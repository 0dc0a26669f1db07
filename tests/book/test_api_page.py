"""The page of public names, as built: every name with its arguments and its example, and the way to it."""

from __future__ import annotations

import inspect
import re

import pytest
from tiny_book import chapter_names

import lipnb
from lipnb.lab.docstrings import linked

pytestmark = pytest.mark.lab

DESCRIPTION = r'<dl class="py (?:class|function)">\n<dt class="sig[^"]*" id="lipnb\.(\w+)">(.*?)</dt>(.*?)(?=<dl class="py (?:class|function)">|</section>)'


@pytest.fixture(scope="module")
def descriptions(tiny_site):
    """Name: the first line with the arguments, and the text below, both as HTML."""
    page = (tiny_site / "api.html").read_text()
    return {name: (line, text) for name, line, text in re.findall(DESCRIPTION, page, re.DOTALL)}


@pytest.mark.parametrize("name", lipnb.__all__)
def test_every_name_has_its_arguments_and_an_example(descriptions, name):
    line, text = descriptions[name]
    shown = re.findall(r'<em class="sig-param">.*?<span class="n"><span class="pre">(\w+)</span>', line)
    assert shown == list(inspect.signature(getattr(lipnb, name)).parameters)
    assert re.search(r'<p class="rubric">Example</p>\n<div class="doctest highlight', text)


@pytest.mark.parametrize("name", lipnb.__all__)
def test_what_a_docstring_cites_becomes_a_link(name):
    assert not re.search(r'chapters?\s+"|(?<!`)arXiv\s', linked(inspect.getdoc(getattr(lipnb, name))))


def test_only_titles_and_numbers_become_links():
    text = (
        'See chapter "Clipping and penalising the\n    weights" and arXiv 1802.05957; kind="two_sided" stays.'
    )
    clipping = ":doc:`Clipping and penalising the weights </notebooks/clipping>`"
    arxiv = "`arXiv 1802.05957 <https://arxiv.org/abs/1802.05957>`__"
    assert linked(text) == f'See chapter {clipping} and {arxiv}; kind="two_sided" stays.'


def test_no_section_of_a_docstring_is_left_as_text(descriptions):
    left = {n: re.findall(r"<p>(Source|Guarantee|State|-+)\b", text) for n, (_, text) in descriptions.items()}
    assert not any(left.values()), left


def test_chapters_link_to_it(tiny_site):
    page = (tiny_site / "notebooks" / f"{chapter_names()[0]}.html").read_text()
    assert re.search(
        r'href="\.\./api\.html#lipnb\.spectral_norm"[^>]*><code[^>]*>.*?lipnb\.norms\.spectral_norm', page
    )
