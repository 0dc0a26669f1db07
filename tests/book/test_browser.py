"""The finished site in Chromium, over http and from files, on a desktop and on a phone, light and dark."""

from __future__ import annotations

import pytest
from page_checks import html_pages, problems, served

from lipnb.lab import links

pytestmark = pytest.mark.lab

HEAD = '<!doctype html><html lang="en"><link rel="icon" href="data:,"><style>body { background: #fff; color: #222; }</style>'
MATHJAX = '<script defer src="vendor/tex-svg.js"></script>'


def test_site_over_http(browser, book_site):
    with served(book_site) as base:
        found = problems(browser, base, html_pages(book_site))
    assert not found, "\n".join(found)


def test_site_from_files(browser, book_site):
    # What a file may not load depends on its folder alone: the other pages were looked at over http.
    names = {"index.html", "claims.html", *{name.count("/"): name for name in html_pages(book_site)}.values()}
    assert any("/" in name for name in names)
    found = problems(browser, f"{book_site.as_uri()}/", sorted(names))
    assert not found, "\n".join(found)


def test_no_internal_link_dangles(book_site):
    assert links.problems(book_site) == []


@pytest.fixture
def page(tmp_path, book_site):
    """Write a page beside the vendored MathJax and say what the browser finds wrong with it."""
    (tmp_path / "vendor").symlink_to(book_site.resolve() / "vendor")
    return tmp_path / "index.html"


def test_good_page_has_no_problem(browser, page):
    page.write_text(
        f'{HEAD}{MATHJAX}<article><h1>Good</h1><p class="math">\\(x^2\\)</p><code>$x$</code></article>'
    )
    assert problems(browser, f"{page.parent.as_uri()}/", ["index.html"]) == []


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ('<script src="http://203.0.113.1/x.js"></script>', "request: http://203.0.113.1/x.js"),
        ('<img alt="" src="gone.png">', "broken image: "),
        ("<script>console.error('oh no')</script>", "console: oh no"),
        ("<script>throw new Error('thrown')</script>", "script: thrown"),
        (
            f"{MATHJAX}<article><p class='math'>\\(\\frac{{1}}\\)</p></article>",
            "formula error: Missing argument",
        ),
        (f"{MATHJAX}<article><p class='math'>\\(\\unknown\\)</p></article>", "formula error: "),
        ("<article><p class='math'>\\(x\\)</p></article>", "not typeset: \\(x\\)"),
        ("<article><p>cost $x^2$ here</p></article>", "source in the text: cost $x^2$ here"),
        ("<article><p>See {ref}`there`</p></article>", "source in the text: See {ref}`there`"),
        (
            "<article><p>Proof. 1. A list that ran into the word.</p></article>",
            "source in the text: Proof. 1.",
        ),
        ("<article><p style='width: 600px'>wide</p></article>", "light, 390 px: page is"),
        (
            "<body style='overflow-x: hidden'><article><p style='width: 600px'>x</p></article>",
            "light, 390 px: sticks out at",
        ),
        (
            "<article><p style='color: #999'>grey on white</p></article>",
            "light, 1280 px: contrast 2.8: grey on white",
        ),
        (
            "<style>@media (prefers-color-scheme: dark) { body { background: #111; } }</style><article><p>ink</p></article>",
            "dark, 390 px: contrast 1.2: ink",
        ),
    ],
)
def test_each_problem_is_found(browser, page, bad, said):
    page.write_text(HEAD + bad)
    found = problems(browser, f"{page.parent.as_uri()}/", ["index.html"])
    assert any(problem.startswith(f"index.html: {said}") for problem in found), found
