"""Tiny executed chapters to build a site from, without running a notebook."""

from __future__ import annotations

import base64
from pathlib import Path

import nbformat
import pytest

from lipnb.lab import figures, paths, verdicts
from lipnb.lab.claims import load_chapters, load_claims

BOOK = paths.CLAIMS.parent
TEXT = r"""# {title} ({ids})

Text with $\|W\|_F$ {{cite:p}}`su2018`, {{numref}}`fig-{label}-final`, {{eq}}`eq-{label}` and {{prf:ref}}`thm-{label}`; the claim is
{{ref}}`here <claim-{first}>`, and the code {{py:func}}`lipnb.norms.spectral_norm`.

```{{math}}
:label: eq-{label}
\|W\|_F = \sqrt{{\sum_{{i,j}} w_{{ij}}^2}} = \sqrt{{\operatorname{{tr}}(W^\top W)}} = \sqrt{{\sigma_1^2 + \sigma_2^2 + \dots + \sigma_k^2}}
```

```{{prf:theorem}} A theorem
:label: thm-{label}
$\|W\|_2 \le \|W\|_F$.
```
"""


def chapter_names(book: Path = BOOK) -> list[str]:
    """The chapters in the table of contents."""
    return load_chapters(book)


def write_chapter(folder: Path, name: str, extra: str = "", stderr: str = "") -> Path:
    """An executed chapter as papermill leaves it: formulas, a captioned figure, injected parameters, a verdict."""
    ids = [claim.id for claim in load_claims() if claim.notebook == name] or ["A1"]
    label = name.replace("_", "-")
    text = TEXT.format(title=name.replace("_", " "), ids=", ".join(ids), label=label, first=ids[0].lower())
    cell = nbformat.v4.new_code_cell
    caption = {"caption": r"A caption with $\sigma_1$.", "name": f"fig-{label}-final"}
    cells = [
        nbformat.v4.new_markdown_cell(text + extra),
        cell(
            "injected = '/somewhere'",
            metadata={"tags": ["injected-parameters"], "papermill": {"status": "done"}},
        ),
        cell("figures.show(figure)", metadata={"mystnb": {"figure": caption}}, outputs=[_figure()]),
        cell("verdict", outputs=[_verdict(ids[0])]),
    ]
    if stderr:
        cells.append(cell("warn", outputs=[nbformat.v4.new_output("stream", name="stderr", text=stderr)]))
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    metadata = {"kernelspec": kernel, "papermill": {"output_path": "/somewhere/on/this/machine.ipynb"}}
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), folder / f"{name}.ipynb")
    return folder / f"{name}.ipynb"


def _figure() -> nbformat.NotebookNode:
    figures.use_style()
    figure, axis = figures.new()
    axis.plot([0, 1], [0, 1])
    shown: dict[str, str | bytes] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "display", lambda data, raw: shown.update(data))
        figures.show(figure, "a rising line")
    data = {kind: base64.b64encode(v).decode() if isinstance(v, bytes) else v for kind, v in shown.items()}
    return nbformat.v4.new_output("display_data", data)


def _verdict(claim: str) -> nbformat.NotebookNode:
    verdict = verdicts.derivation(claim, {"a check": True}, summary="It holds.")
    return nbformat.v4.new_output(
        "display_data", {"text/html": verdict._repr_html_(), "text/plain": repr(verdict)}
    )
