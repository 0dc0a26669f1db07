"""A small extension of Sphinx for the page of public names: arguments as users write them, and links both ways."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from sphinx.util.inspect import signature, stringify_signature

import lipnb
from lipnb.lab import paths

__all__ = ["linked", "setup"]


def setup(app: Any) -> dict[str, bool]:
    """What Sphinx calls."""
    app.connect("autodoc-process-signature", _arguments)
    app.connect("autodoc-process-docstring", _sources)
    app.connect("missing-reference", _definition)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def linked(text: str) -> str:
    """reStructuredText of a docstring with links to what it cites: "chapter titles" and arXiv numbers."""
    text = re.sub(r'"([^"]+)"', lambda quoted: _chapter(" ".join(quoted[1].split())) or quoted[0], text)
    return re.sub(r"arXiv\s+(\d{4}\.\d{4,5})", r"`arXiv \1 <https://arxiv.org/abs/\1>`__", text)


def _chapter(title: str) -> str:
    return f":doc:`{title} </notebooks/{_titles()[title]}>`" if title in _titles() else ""


@cache
def _titles() -> dict[str, str]:
    """The chapters' names by their titles, which are without the claims' ids."""
    chapters = {path.stem: path.read_text() for path in (paths.ROOT / "notebooks").glob("*.md")}
    titles = {name: re.search(r"^# (.+?)(?: \([A-Z]\d.*\))?$", text, re.M) for name, text in chapters.items()}
    return {title[1]: name for name, title in titles.items() if title}


def _arguments(app: Any, what: str, name: str, cls: Any, *_: Any) -> tuple[str, None] | None:
    """A class's arguments are those of ``__init__``: Sphinx would show ``(*args, **kwargs)`` of Keras's ``__new__``."""
    if what != "class":
        return None
    return stringify_signature(signature(cls.__init__, bound_method=True), show_annotation=False), None


def _sources(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = linked("\n".join(lines)).split("\n")


def _definition(app: Any, env: Any, node: Any, contnode: Any) -> Any:
    """Chapters name ``lipnb.norms.spectral_norm``, where it is defined; the page has ``lipnb.spectral_norm``."""
    inside = re.fullmatch(r"lipnb\.\w+\.(\w+)", node.get("reftarget", ""))
    if node.get("refdomain") != "py" or inside is None or inside[1] not in lipnb.__all__:
        return None
    where = env, node["refdoc"], app.builder
    return env.get_domain("py").resolve_xref(*where, node["reftype"], f"lipnb.{inside[1]}", node, contnode)
