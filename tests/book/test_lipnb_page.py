"""The page for users of the library: its code runs, in order, and its output is the library's."""

import contextlib
import io
import re

import pytest

from lipnb.lab import paths

pytestmark = pytest.mark.lab
PAGE = (paths.ROOT / "book" / "lipnb.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def without_seconds(table):
    """The table's lines with every time as 0.00: it is the one column that depends on the machine."""
    return re.sub(r"\b\d+\.\d\d(?=  |$)", "0.00", table, flags=re.MULTILINE)


def run_blocks(page):
    """What each python block prints; later blocks see the names of earlier ones."""
    names, printed = {"__name__": "page"}, []
    for code in BLOCK.findall(page):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(code, "book/lipnb.md", "exec"), names)
        printed.append(out.getvalue())
    return printed


def test_the_code_runs_and_prints_the_table_that_the_page_shows():
    printed = run_blocks(PAGE)
    assert len(printed) == PAGE.count("```python") >= 5
    shown = PAGE.split("print(bound)\n```\n\n```text\n")[1].split("```")[0]
    assert without_seconds(shown) == without_seconds(printed[0])


def test_a_block_that_is_wrong_fails():
    with pytest.raises(AssertionError):
        run_blocks("```python\nx = 1\n```\n\n```python\nassert x == 2\n```\n")
