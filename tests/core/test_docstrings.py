"""Every public name has an example that does what it shows, and the page of public names has every name."""

from __future__ import annotations

import doctest
import inspect
import re
from pathlib import Path

import keras
import numpy as np
import pytest

import lipnb
from lipnb.__main__ import main

PAGE = (Path(__file__).parents[2] / "book" / "api.md").read_text(encoding="utf-8")


def docstring(name):
    return inspect.cleandoc(getattr(lipnb, name).__doc__)


def failures(text, name):
    """What the examples in ``text`` print that is not as shown; they see keras, lipnb and np."""
    names = {"keras": keras, "lipnb": lipnb, "np": np}
    test = doctest.DocTestParser().get_doctest(text, names, name, None, None)
    assert test.examples, f"{name} has no example"
    said = []
    doctest.DocTestRunner(verbose=False).run(test, out=said.append)
    return "".join(said)


@pytest.mark.parametrize("name", lipnb.__all__)
def test_the_example_does_what_it_shows(name):
    text, example = docstring(name).split("\nExample\n-------\n")
    assert ">>>" not in text
    assert failures(example, name) == ""


@pytest.mark.once
def test_a_wrong_example_and_a_missing_one_are_found():
    assert "Got:\n    5.0" in failures(">>> lipnb.frobenius_norm([3.0, 4.0])\n7.0", "wrong")
    with pytest.raises(AssertionError, match="missing has no example"):
        failures("Text alone.", "missing")


@pytest.mark.once
def test_the_page_has_every_name_once_in_its_summary_and_once_in_full():
    described = re.findall(r"^\.\. auto(?:function|class):: lipnb\.(\w+)$", PAGE, re.MULTILINE)
    assert sorted(described) == sorted(lipnb.__all__)
    assert re.findall(r"^ +~lipnb\.(\w+)$", PAGE, re.MULTILINE) == described


@pytest.mark.once
@pytest.mark.parametrize("name", lipnb.__all__)
def test_the_docstring_suits_the_page(name):
    """What would be lost in it, or become part of an entry: references to other names, and words with a colon."""
    text = docstring(name)
    assert set(re.findall(r":\w+:`([^`]*)`", text)) <= {f"lipnb.{public}" for public in lipnb.__all__}
    assert not re.search(r"^(Source|Guarantee|State|Raises|Returns):", text, re.MULTILINE)


@pytest.mark.once
def test_the_page_shows_the_errors_and_options_of_the_library(monkeypatch, capsys):
    (error,) = re.findall(r"^```pycon\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    assert failures(error, "errors") == ""
    monkeypatch.setenv("COLUMNS", "78")
    with pytest.raises(SystemExit):
        main(["bound", "--help"])
    assert f"```text\n{capsys.readouterr().out}```\n" in PAGE
