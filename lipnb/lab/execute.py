"""Execute a text notebook with papermill: ``python -m lipnb.lab.execute NOTEBOOK OUTPUT -p NAME VALUE …``.

``--backend jax`` lets Keras run on JAX there.

The executed notebook appears at OUTPUT only if every cell ran. A failing cell's own error is printed, and
the notebook up to it is kept as OUTPUT with the suffix ``.failed.ipynb``.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import papermill
import yaml
from jupyter_client.manager import AsyncKernelManager
from papermill.exceptions import PapermillExecutionError

__all__ = ["execute", "literal"]


class _SocketKernelManager(AsyncKernelManager):
    """Kernels over Unix sockets: side by side, over TCP ports, some die in a race for a free port."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        if sys.platform != "win32":
            self.transport = "ipc"
            # A folder of its own: by default, all kernels of one folder would share their sockets' names.
            self.ip = str(Path(tempfile.mkdtemp(prefix="lipnb-")) / "kernel")

    async def _async_cleanup_resources(self, restart: bool = False) -> None:
        await super()._async_cleanup_resources(restart)
        if self.transport == "ipc" and not restart:
            shutil.rmtree(Path(self.ip).parent, ignore_errors=True)

    cleanup_resources = _async_cleanup_resources


def execute(notebook: Path, output: Path, parameters: dict[str, Any], kernel: str = "python3") -> Path:
    """Run ``notebook`` (MyST Markdown) with ``parameters`` and write it, outputs included, to ``output`` (ipynb).

    Raises ``papermill.exceptions.PapermillExecutionError`` where a cell fails.
    """
    source = output.with_suffix(".source.ipynb")
    beside, failed = output.with_suffix(".partial.ipynb"), output.with_suffix(".failed.ipynb")
    output.parent.mkdir(parents=True, exist_ok=True)
    failed.unlink(missing_ok=True)
    nbformat.write(jupytext.read(notebook), source)
    try:
        papermill.execute_notebook(
            source,
            beside,
            parameters=parameters,
            kernel_name=kernel,
            cwd=notebook.parent,
            start_timeout=600,  # seconds; a busy machine may take minutes to import a backend
            progress_bar=False,
            log_output=False,
            kernel_manager_class=_SocketKernelManager,
        )
        os.replace(beside, output)
    finally:
        source.unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.replace(beside, failed)
    return output


def literal(text: str) -> Any:
    """The value that ``text`` is in Python, else in YAML: YAML alone would read Python's 1e-05 as a word."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return yaml.safe_load(text)


def main(arguments: list[str] | None = None) -> int:
    """Command line; exit status 1 where a cell fails."""
    parser = argparse.ArgumentParser(description="Execute a text notebook with papermill.")
    parser.add_argument("notebook", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument(
        "-p", dest="parameters", nargs=2, action="append", default=[], metavar=("NAME", "VALUE")
    )
    parser.add_argument(
        "--backend", choices=("tensorflow", "jax", "torch"), help="Keras's, for this notebook"
    )
    options = parser.parse_args(arguments)
    if options.backend:
        os.environ["KERAS_BACKEND"] = options.backend  # the kernel inherits it
    parameters = {name: literal(value) for name, value in options.parameters}
    try:
        execute(options.notebook, options.output, parameters)
    except PapermillExecutionError as error:
        print(f"{options.notebook} failed in cell {error.exec_count}:\n{error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
