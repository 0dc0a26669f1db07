"""Looks through a finished site, without a browser, for dead links and for files of other hosts."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

__all__ = ["problems"]

# What a page loads by itself; a link is only followed when a reader asks for it.
LOADED = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
    "embed": "src",
}
LOADING_RELATIONS = {
    "stylesheet",
    "icon",
    "preload",
    "prefetch",
    "modulepreload",
    "preconnect",
    "dns-prefetch",
}


@dataclass
class _Page(HTMLParser):
    """A page's ids, the addresses it links to and those it loads."""

    ids: set[str] = field(default_factory=set)
    linked: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if "id" in values:
            self.ids.add(values["id"])
        if tag == "a" and "href" in values:
            self.linked.append(values["href"])
        if tag in LOADED and LOADED[tag] in values:
            self.loaded.append(values[LOADED[tag]])
        if tag == "link" and LOADING_RELATIONS & set(values.get("rel", "").split()):
            self.loaded.append(values.get("href", ""))


def problems(site: Path) -> list[str]:
    """One line for every local link without its file or anchor, and for every file loaded from another host."""
    site = site.resolve()
    pages = {path: _parse(path) for path in sorted(site.rglob("*.html")) if "_static" not in path.parts}
    found = []
    for path, page in pages.items():
        foreign = [address for address in page.loaded if _is_foreign(address)]
        local = [address for address in page.loaded + page.linked if not _is_foreign(address)]
        found += [f"{path.relative_to(site)} loads {address}" for address in foreign]
        dead = dict.fromkeys(address for address in local if _is_dead(address, path, pages))
        found += [f"{path.relative_to(site)} links to {address}, which is not there" for address in dead]
    return found


def _parse(path: Path) -> _Page:
    page = _Page()
    page.feed(path.read_text())
    return page


def _is_foreign(address: str) -> bool:
    parts = urlsplit(address)
    return bool(parts.netloc) or parts.scheme not in ("", "data", "blob")


def _is_dead(address: str, page: Path, pages: dict[Path, _Page]) -> bool:
    if urlsplit(address).scheme:  # data and blob carry their own content
        return False
    place, anchor = urldefrag(address)
    target = (page.parent / unquote(urlsplit(place).path)).resolve() if place else page
    target = target / "index.html" if target.is_dir() else target
    if not target.exists():
        return True
    return bool(anchor) and target in pages and unquote(anchor) not in pages[target].ids


if __name__ == "__main__":  # python -m lipnb.lab.links SITE
    print("\n".join(problems(Path(sys.argv[1]))))
