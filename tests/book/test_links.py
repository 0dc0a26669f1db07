"""The look through a site finds every kind of dead link and foreign file, and nothing else."""

from __future__ import annotations

import pytest

from lipnb.lab import links

pytestmark = pytest.mark.lab

GOOD = """<h1 id="top">Page</h1><a href="#top">up</a> <a href="sub/other.html#there">other</a> <a href="sub/">folder</a>
<a href="https://example.org">web</a> <a href="mailto:a@example.org">mail</a> <img src="data:image/png;base64,AA==">
<link rel="stylesheet" href="style.css?v=1"><link rel="canonical" href="https://example.org"><script>1</script>"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("other.html", "index.html"):
        (tmp_path / "sub" / name).write_text('<p id="there"><a href="../index.html#top">back</a></p>')
    (tmp_path / "style.css").touch()
    (tmp_path / "index.html").write_text(GOOD)
    return tmp_path


def test_good_site_has_no_problem(folder):
    assert links.problems(folder) == []


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ('<a href="gone.html">', "index.html links to gone.html, which is not there"),
        ('<a href="#gone">', "index.html links to #gone, which is not there"),
        ('<a href="sub/other.html#gone">', "index.html links to sub/other.html#gone, which is not there"),
        ('<img src="gone.png">', "index.html links to gone.png, which is not there"),
        ('<script src="https://cdn.example.org/x.js">', "index.html loads https://cdn.example.org/x.js"),
        (
            '<link rel="stylesheet" href="//cdn.example.org/x.css">',
            "index.html loads //cdn.example.org/x.css",
        ),
    ],
)
def test_each_problem_is_found(folder, bad, said):
    (folder / "index.html").write_text(GOOD + bad)
    assert links.problems(folder) == [said]
