"""environment.yml, pyproject.toml and the lock files name the same packages, in compatible versions."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from lipnb.lab import paths

pytestmark = pytest.mark.lab

PROJECT = tomllib.loads((paths.ROOT / "pyproject.toml").read_text())
DECLARED = [
    *PROJECT["project"]["dependencies"],
    *PROJECT["project"]["optional-dependencies"]["lab"],
    *PROJECT["project"]["optional-dependencies"]["jax"],
    *PROJECT["dependency-groups"]["dev"],
]


def locked(text: str) -> list[Requirement]:
    lines = [line.split(" \\")[0] for line in text.splitlines() if re.match(r"[a-z0-9]", line)]
    return [Requirement(line) for line in lines]


def unmet(declared: list[str], lock: list[Requirement]) -> list[str]:
    """Declared requirements that no locked version satisfies."""
    versions: dict[str, list[str]] = {}
    for requirement in lock:
        (pin,) = requirement.specifier
        versions.setdefault(canonicalize_name(requirement.name), []).append(pin.version)
    wanted = map(Requirement, declared)
    return [
        str(r)
        for r in wanted
        if not any(map(r.specifier.contains, versions.get(canonicalize_name(r.name), [])))
    ]


def test_every_declared_package_is_locked_in_a_version_that_it_allows():
    assert unmet(DECLARED, locked(paths.LOCK.read_text())) == []


def test_the_check_can_fail():
    assert unmet(["keras>=99", "no-such-package"], locked("keras==3.15.1 \\\n")) == [
        "keras>=99",
        "no-such-package",
    ]


def test_every_locked_package_comes_with_its_hash():
    text = paths.LOCK.read_text()
    assert len(re.findall(r"^[a-z0-9].*\\\n    --hash=sha256:", text, re.M)) == len(locked(text))


def test_conda_takes_python_pip_and_the_lock_and_nothing_else():
    environment = yaml.safe_load((paths.ROOT / "environment.yml").read_text())
    python, pip, packages = environment["dependencies"]
    assert (pip, packages) == ("pip", {"pip": ["-r requirements.lock"]})
    version = python.removeprefix("python=")
    assert version + ".0" in SpecifierSet(PROJECT["project"]["requires-python"])


def test_the_lock_is_what_uv_exports_from_its_own():
    flags = re.search(r"^EXPORT = (.*) --output-file", (paths.ROOT / "Makefile").read_text(), re.M)[1].split()
    command = [sys.executable, "-m", "uv", "export", "--offline", *flags]
    exported = subprocess.run(command, cwd=paths.ROOT, capture_output=True, text=True, check=True).stdout
    assert locked(exported) == locked(paths.LOCK.read_text())
