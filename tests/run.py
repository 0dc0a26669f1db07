"""What `make test` runs: the whole path in small, then every test; beside them, the library on the other backends.

The other backends, of low priority, fill the moments in which the rest leaves a core idle; what they print comes last.
REQUIRE_BACKENDS="jax torch" makes a backend that is not installed a failure, as in continuous integration.
SLOW=1 adds the library's tests that take minutes. COVERAGE=1 ends with the branches of the library that no test took on
TensorFlow, and fails below 95 % of them.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

OTHERS = ("jax", "torch")
PYTEST = (sys.executable, "-m", "pytest", "-q")
# One more than two cores, for tests wait for browsers and other processes; neighbours stay together and share fixtures.
SPREAD = ("-n", "3", "--dist", "worksteal")
# JAX compiles every operation for every shape; with the older emitters and few optimizations in a third of the time.
QUICK_JAX = {
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    "XLA_FLAGS": "--xla_cpu_use_fusion_emitters=false",
}


def run(*command: str, **variables: str) -> None:
    """Run a command, shown first; CalledProcessError where it fails."""
    print("==", *(f"{key}={value}" for key, value in variables.items()), *command, flush=True)
    subprocess.run(command, env=os.environ | variables, check=True)


def installed(backend: str) -> bool:
    """Whether the package can be imported."""
    return importlib.util.find_spec(backend) is not None


def here() -> None:
    """The smoke book, then all tests on TensorFlow; that book is the site which the browser tests open."""
    run(sys.executable, "-m", "lipnb.lab.pipeline", "run", PROFILE="smoke")
    counted = ("--cov=lipnb", "--cov-report=") if os.environ.get("COVERAGE") else ()
    run(*PYTEST, *SPREAD, *counted, "tests", LIPNB_SITE="build/smoke/html", KERAS_BACKEND="tensorflow")
    if counted:
        run(sys.executable, "-m", "coverage", "report", "--include=lipnb/*.py", "-m", "--fail-under=95")
    if os.environ.get("SLOW"):
        run(*PYTEST, *SPREAD, "-m", "slow", "tests/core", KERAS_BACKEND="tensorflow")


def elsewhere() -> None:
    """The library's tests on every other backend that is installed.

    JAX compiles every shape anew: layers of many shapes are left to the others.
    """
    for backend in OTHERS:
        chosen = "not lab and not slow and not once" + (" and not shapes" if backend == "jax" else "")
        if installed(backend):
            run(*PYTEST, "-m", chosen, "tests/core", KERAS_BACKEND=backend, **QUICK_JAX)
        else:
            print(f"== NOT TESTED on {backend}: not installed (see book/contributing.md)", flush=True)


def step_back() -> None:
    """Give this process and its children a low priority; on Linux its session too, for sessions share the cores alike."""
    os.nice(10)
    with suppress(OSError):  # where there are no such groups
        Path("/proc/self/autogroup").write_text("10")


@contextmanager
def beside() -> Iterator[None]:
    """:func:`elsewhere` in a process of its own, awaited and shown at the end; ended with this one if that fails first."""
    with tempfile.TemporaryFile() as out:
        other = subprocess.Popen(
            (sys.executable, __file__, "elsewhere"), stdout=out, stderr=out, start_new_session=True
        )
        try:
            yield
            code = other.wait()
        finally:
            if other.poll() is None:
                os.killpg(other.pid, signal.SIGTERM)
                other.wait()
            out.seek(0)
            sys.stdout.write(out.read().decode(errors="replace"))
    if code:
        sys.exit(f"== the tests on another backend failed with status {code}")


def main() -> None:
    """Everything, or only what the other backends need (``elsewhere``)."""
    os.environ["OMP_NUM_THREADS"] = (
        "1"  # processes side by side: more threads than cores would only wait for each other
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        if sys.argv[1:] == ["elsewhere"]:
            step_back()
            return elsewhere()
        missing = [b for b in os.environ.get("REQUIRE_BACKENDS", "").split() if not installed(b)]
        if missing:
            sys.exit(
                f"== lipnb must be tested on these backends, which are not installed: {', '.join(missing)}"
            )
        with beside():
            here()
    except subprocess.CalledProcessError as failed:
        sys.exit(failed.returncode)


if __name__ == "__main__":
    main()
