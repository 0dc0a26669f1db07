"""What a browser can find wrong with a page: requests, errors, formulas, pictures, width, contrast."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page

DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
SLOW_MACHINE_MS = 120_000  # a page with many formulas takes a second; on a busy machine much more
RENDERED = "() => window.MathJax?.startup?.promise.then(() => true)"

# Formulas that MathJax did not typeset, or typeset as an error or an unknown macro; source left in the text.
FORMULAS = r"""() => {
  const found = [];
  for (const formula of document.querySelectorAll('.math'))
    if (!formula.querySelector('mjx-container')) found.push('not typeset: ' + formula.textContent.trim());
  for (const bad of document.querySelectorAll('[data-mjx-error], [data-mml-node="merror"], mjx-container [fill="red"]'))
    found.push('formula error: ' + (bad.getAttribute('data-mjx-error') ?? bad.closest('mjx-container').textContent));
  const skipped = 'pre, code, script, style, svg, mjx-container, .math';
  const texts = document.createTreeWalker(document.querySelector('article') ?? document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const text = texts.currentNode;
    if (/\$[^$\n]+\$|\\\(|\\\[|\\begin\{|\{[\w:]+\}`|^Proof\. 1\./.test(text.data) && !text.parentElement.closest(skipped))
      found.push('source in the text: ' + text.data.trim().slice(0, 80));
  }
  return found;
}"""

IMAGES = """() => [...document.images].filter(i => !i.complete || !i.naturalWidth).map(i => 'broken image: ' + i.src)"""

# A page must not scroll sideways, nor anything stick out of it other than inside a box that scrolls by itself.
WIDTH = """() => {
  const wide = document.documentElement.scrollWidth - window.innerWidth;
  const found = wide > 0 ? [`page is ${wide} px too wide`] : [];
  const scrolls = node => {
    for (let box = node.parentElement; box && box !== document.body; box = box.parentElement)
      if (getComputedStyle(box).overflowX !== 'visible') return true;
    return false;
  };
  for (const node of document.querySelectorAll('article *')) {
    const right = node.getBoundingClientRect().right;
    if (right > window.innerWidth + 1 && !scrolls(node) && found.length < 5)
      found.push(`sticks out at ${Math.round(right)} px: ` + node.outerHTML.slice(0, 80));
  }
  return found;
}"""

# WCAG's contrast of text with what is behind it: 4.5, or 3 for large text. Nearly transparent text is not read.
CONTRAST = """() => {
  const parse = text => { const c = text.match(/[\\d.]+/g)?.map(Number) ?? [0, 0, 0, 0]; return c.length < 4 ? [...c, 1] : c; };
  const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
  const ground = node => node ? over(parse(getComputedStyle(node).backgroundColor), ground(node.parentElement)) : [255, 255, 255, 1];
  const light = color => { const [r, g, b] = color.slice(0, 3).map(v => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
                           return .2126 * r + .7152 * g + .0722 * b; };
  const found = new Set();
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const node = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || !node.checkVisibility({opacityProperty: true, visibilityProperty: true})
        || node.closest('svg, mjx-container, script, style')) continue;
    const style = getComputedStyle(node), behind = ground(node), front = over(parse(style.color), behind);
    const [low, high] = [light(front), light(behind)].sort((a, b) => a - b);
    const ratio = (high + .05) / (low + .05), size = parseFloat(style.fontSize);
    if (ratio < (size >= 24 || (size >= 18.5 && style.fontWeight >= 700) ? 3 : 4.5))
      found.add(`contrast ${ratio.toFixed(1)}: ${texts.currentNode.data.trim().slice(0, 40)}`);
  }
  return [...found].slice(0, 8);
}"""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Address of ``folder`` on a free port of 127.0.0.1."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


def html_pages(site: Path) -> list[str]:
    """The site's pages, relative to it."""
    return sorted(p.relative_to(site).as_posix() for p in site.rglob("*.html") if "_static" not in p.parts)


def problems(browser: Browser, base: str, names: list[str]) -> list[str]:
    """What is wrong with the pages ``names`` below the address ``base``, one line each, the page named."""
    context = browser.new_context(viewport=DESKTOP, color_scheme="light")
    context.set_default_timeout(SLOW_MACHINE_MS)
    found: list[str] = []
    for name in names:
        page = context.new_page()
        found += [f"{name}: {problem}" for problem in _page_problems(page, base, name)]
        page.close()
    context.close()
    return found


def _page_problems(page: Page, base: str, name: str) -> list[str]:
    found: list[str] = []
    host = urlsplit(base).netloc
    foreign = {"http", "https", "ws", "wss"}
    page.on(
        "request",
        lambda r: _note(
            found, "request", r.url, (p := urlsplit(r.url)).scheme in foreign and p.netloc != host
        ),
    )
    page.on("console", lambda m: _note(found, "console", m.text, m.type in {"error", "warning"}))
    page.on("pageerror", lambda error: _note(found, "script", str(error)))
    page.goto(base + name, wait_until="load")
    page.evaluate(RENDERED)
    found += page.evaluate(FORMULAS) + page.evaluate(IMAGES)
    for viewport, scheme in ((DESKTOP, "light"), (PHONE, "light"), (PHONE, "dark")):
        page.set_viewport_size(viewport)
        page.emulate_media(color_scheme=scheme)
        looks = page.evaluate(WIDTH) + page.evaluate(CONTRAST)
        found += [f"{scheme}, {viewport['width']} px: {problem}" for problem in looks]
    return found


def _note(found: list[str], kind: str, text: str, wrong: bool = True) -> None:
    if wrong:
        found.append(f"{kind}: {text}")
