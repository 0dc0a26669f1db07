"""Command line: ``python -m lipnb bound model.keras [--json]`` prints the table of ``lipschitz_bound``."""

from __future__ import annotations

import argparse
import os
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import keras

import lipnb
from lipnb.bounds import lipschitz_bound

__all__ = ["main"]

EXACT: dict[str, bool | Literal["auto"]] = {"auto": "auto", "always": True, "never": False}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return the exit code: 0, or 2 with one line on stderr for a wrong argument or file.

    Parameters
    ----------
    argv
        Arguments without the program's name; those of the process where not given.
    """
    arguments = _parser().parse_args(argv)
    try:
        bound = lipschitz_bound(_load(arguments.model), exact=EXACT[arguments.exact])
    except (TypeError, ValueError) as error:
        print(f"lipnb: error: {arguments.model}: {_one_line(error)}", file=sys.stderr)
        return 2
    try:
        print(bound.to_json() if arguments.json else bound, flush=True)
    except BrokenPipeError:  # the reader, such as `head`, has seen enough: Python must not print what is left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lipnb", description="Lipschitz bounds of Keras models.")
    commands = parser.add_subparsers(required=True)
    bound = commands.add_parser(
        "bound", help="proven upper bound of a model's Lipschitz constant, with a table"
    )
    bound.add_argument("model", help="a model saved as .keras or .h5")
    bound.add_argument("--json", action="store_true", help='strict JSON; an infinite number is "Infinity"')
    bound.add_argument(
        "--exact",
        choices=EXACT,
        default="auto",
        help="convolutions: exact norms where cheap, always, or never (default: auto)",
    )
    return parser


def _load(path: str) -> Any:
    if not Path(path).is_file():
        raise ValueError("no such file")
    if path.endswith(".keras") and not zipfile.is_zipfile(path):
        raise ValueError("not a loadable Keras model: a .keras file must be a zip archive")
    lipnb._register()
    try:
        return keras.saving.load_model(path, compile=False)
    except Exception as error:  # Keras and h5py raise many types for a file that is not a model
        raise ValueError(f"not a loadable Keras model: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    """The message in one short line; Keras's own hold whole configurations around the cause."""
    cause = " ".join(str(error).split()).split("Exception encountered: ")[-1].split(" Full object config")[0]
    return cause if len(cause) <= 300 else f"{cause[:297]}..."


if __name__ == "__main__":
    sys.exit(main())
