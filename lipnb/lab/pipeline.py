"""What `make` calls: run a profile with Snakemake and show how far it is; record what it made.

``python -m lipnb.lab.pipeline run`` plans and runs ``notebooks/Snakefile``; PROFILE, FULL, SEEDS, DATASET
and RECORDED come from the environment, JOBS too. It can be stopped at any time: the same command goes on.
``python -m lipnb.lab.pipeline record`` copies a profile's fresh results over the recorded ones, unless some would be lost.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from lipnb.lab import data, grid, paths, records, sources

__all__ = ["record", "run", "set_aside"]

STEPS_DONE = re.compile(r"^(\d+) of (\d+) steps \(", re.M)
PLANNED = re.compile(r"^total\s+(\d+)$", re.M)
FAILED_LOG = re.compile(r"^\s*log: (.+?) \(check log file", re.M)
DEVICES = "import keras; print(keras.backend.backend(), *keras.distribution.list_devices())"


def run(profile: str, *, recorded: bool, jobs: int, console: Console, dataset: str | None = None) -> int:
    """Run the Snakefile for ``profile``, or for its image experiments on ``dataset``.

    Exit status 0, 1 where a notebook failed, 2 where another run is going on or the data set is not there, 130 where
    stopped.
    """
    if dataset and (missing := _missing(dataset)):
        console.print(missing, highlight=False, markup=False)
        return 2
    out = paths.build("book" if recorded else grid.workspace(profile, dataset))
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            console.print(f"{out.relative_to(paths.ROOT)} is in use by another make: wait for it or stop it.")
            return 2
        if not recorded:
            if profile == "gpu" and (slow := _no_accelerator()):
                console.print(slow, style="bold", highlight=False, markup=False)
            for path in set_aside(profile, grid.seeds_from(os.environ), dataset):
                console.print(f"set aside (damaged, or not in the grid): {path.name}")
        return _snakemake(out, jobs, console)


def _missing(dataset: str) -> str:
    """Why ``dataset`` cannot be read, empty where it can: said once, since every run would fail with it."""
    try:
        data.load(dataset)
    except OSError as error:
        return str(error)
    return ""


def _no_accelerator() -> str:
    """A warning where Keras's backend finds nothing but processors, empty otherwise.

    Asked in a process of its own, which lets go of an accelerator's memory as it ends.
    """
    done = subprocess.run([sys.executable, "-c", DEVICES], cwd=paths.ROOT, capture_output=True, text=True)
    backend, *devices = done.stdout.split() or ["Keras"]
    if any(not device.startswith("cpu") for device in devices):
        return ""
    return (
        f"WARNING: PROFILE=gpu, but {backend} finds no accelerator here: every run will be on the processor, and take very "
        'long. "On a GPU" in book/reproducing.md says what to install.'
    )


def set_aside(profile: str, seeds: list[int] | None, dataset: str | None = None) -> list[Path]:
    """Move records that are damaged, or of no run of the profile's grid, to ``set-aside`` beside them."""
    work = grid.workspace(profile, dataset)
    folder, away = paths.runs(work, fresh=True), paths.build(work) / "set-aside"
    wanted = (grid.runs(profile, seeds=s, dataset=dataset) for s in (None, seeds))
    known = {(run.experiment, run.name) for runs in wanted for run in runs}
    stray = {path for path in folder.rglob("*.json") if (path.parent.name, path.stem) not in known}
    moved = sorted(stray | set(records.damaged(folder)))
    for path in moved:
        target = away / path.parent.name
        target.mkdir(parents=True, exist_ok=True)
        for part in (path, path.with_suffix(".npz")):
            if part.exists():
                os.replace(part, target / part.name)
    return moved


def record(profile: str, console: Console) -> int:
    """Put the fresh runs and verdicts of ``profile`` in the place of the recorded ones, experiment by experiment.

    Refused, with nothing changed, where that would lose a recorded run that is in the grid, or a settled verdict.
    """
    fresh, recorded = paths.runs(profile, fresh=True), paths.runs(profile)
    made = [paths.build(profile) / name for name in ("verdicts.json", "headline.png")]
    set_aside(profile, grid.seeds_from(os.environ))
    if not any(fresh.rglob("*.json")) or not all(path.exists() for path in made) or _lacking(profile, fresh):
        console.print(f"nothing whole to record: run `make reproduce PROFILE={profile}` first.")
        return 1
    if lost := _lost(profile, fresh, recorded):
        console.print(
            f"nothing is recorded, for {len(lost)} recorded result{'s' * (len(lost) > 1)} would be lost: {', '.join(lost[:3])}"
            f"{', …' * (len(lost) > 3)}. Make them here first: make reproduce PROFILE={profile} FULL=2",
            highlight=False,
            markup=False,
        )
        return 1
    beside = recorded.with_name(f".{profile}.partial")
    shutil.rmtree(beside, ignore_errors=True)
    if recorded.exists():
        shutil.copytree(recorded, beside)
    for experiment in fresh.iterdir():
        shutil.rmtree(beside / experiment.name, ignore_errors=True)
        shutil.copytree(experiment, beside / experiment.name, ignore=shutil.ignore_patterns(".*"))
    shutil.rmtree(recorded, ignore_errors=True)
    os.replace(beside, recorded)
    if profile == "cpu":  # the book's verdicts are those of the profile that anyone can run again
        _record_verdicts()
        shutil.copyfile(made[1], paths.RECORDED / made[1].name)
    console.print(
        f"recorded {sum(1 for _ in recorded.rglob('*.json'))} runs in {recorded.relative_to(paths.ROOT)}"
    )
    return 0


def _lacking(profile: str, fresh: Path) -> list[grid.Run]:
    """Runs of the core grid without a record, in experiments that have some."""
    wanted = [
        run
        for run in grid.runs(profile, tier=0, seeds=grid.seeds_from(os.environ))
        if (fresh / run.experiment).is_dir()
    ]
    return [run for run in wanted if not (fresh / run.experiment / f"{run.name}.json").exists()]


def _lost(profile: str, fresh: Path, recorded: Path) -> list[str]:
    """What recording would lose: runs of the grid that are recorded and were not made here, verdicts that are open here."""
    lost = [
        f"{run.experiment}/{run.name}"
        for run in grid.runs(profile)
        if (recorded / run.experiment / f"{run.name}.json").exists()
        and (fresh / run.experiment).is_dir()  # experiments that are not there stay as they are
        and not (fresh / run.experiment / f"{run.name}.json").exists()
    ]
    if profile == "cpu":
        old, new = (_verdicts(folder) for folder in (paths.RECORDED, paths.build(profile)))
        open_here = [claim for claim in old if new.get(claim, {}).get("verdict", "open") == "open"]
        lost += [f"the verdict on {claim}" for claim in open_here if old[claim]["verdict"] != "open"]
    return lost


def _record_verdicts() -> None:
    """Record the fresh verdicts; one that rests on recorded runs says nothing new, and the recorded one stays."""
    old, new = _verdicts(paths.RECORDED), _verdicts(paths.build("cpu"))
    kept = {claim: old[claim] for claim, record in new.items() if sources.stands_in(record) and claim in old}
    beside = paths.RECORDED / ".verdicts.json.partial"
    beside.write_text(json.dumps(new | kept, indent=1) + "\n")
    os.replace(beside, paths.RECORDED / "verdicts.json")


def _verdicts(folder: Path) -> dict[str, dict]:
    path = folder / "verdicts.json"
    return json.loads(path.read_text()) if path.exists() else {}


def _snakemake(out: Path, jobs: int, console: Console) -> int:
    # Our own lock is held, and unlike Snakemake's it goes with the process: hence --nolock.
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--snakefile",
        "notebooks/Snakefile",
        "--directory",
        ".",
        "--nolock",
    ]
    command += ["--rerun-incomplete", "--keep-going", "--cores", str(jobs), *sys.argv[2:]]
    log_path = out / "snakemake.log"
    shutil.rmtree(out / "progress", ignore_errors=True)
    with log_path.open("w") as log:
        process = subprocess.Popen(
            command, cwd=paths.ROOT, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill stops like Ctrl-C
        try:
            _follow(process, out, log_path, console)
        except KeyboardInterrupt:
            os.killpg(process.pid, signal.SIGTERM)  # kernels end with the process that started them
            process.wait()
            console.print("stopped. The same command goes on from here.")
            return 130
    if process.returncode != 0:
        _explain(log_path, console)
        return 1
    shown = next((path for path in (out / "html" / "index.html", out / "chapters") if path.exists()), out)
    console.print(f"done: open {shown.relative_to(paths.ROOT)}")
    if shown.name == "chapters":
        console.print(
            "Their captions describe the recorded runs, which were on Fashion-MNIST.", highlight=False
        )
    return 0


def _follow(process: subprocess.Popen, out: Path, log_path: Path, console: Console) -> None:
    """Show steps done, what runs now and the time left, until ``process`` ends."""
    columns = (TextColumn("{task.description}"), BarColumn(30), TextColumn("{task.fields[steps]}"))
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task("planning", total=None, steps="")
        last_line = time.monotonic()
        while process.poll() is None:
            done, total, live = _state(out, log_path)
            fraction = sum(item["done"] / item["total"] for item in live)
            names = ", ".join(f"{item['run']} {item['done']}/{item['total']}" for item in live) or "working"
            bar.update(
                task,
                description=names,
                completed=done + fraction,
                total=total,
                steps=f"{done}/{total or '?'} steps",
            )
            if not console.is_terminal and time.monotonic() - last_line > 30:
                last_line = time.monotonic()
                console.print(f"{done}/{total or '?'} steps done; {names}")
            time.sleep(0.5)
        done, total, _ = _state(out, log_path)
        bar.update(
            task,
            description="done" if process.returncode == 0 else "failed",
            completed=done,
            steps=f"{done} steps",
        )


def _state(out: Path, log_path: Path) -> tuple[int, int | None, list[dict]]:
    text = log_path.read_text(errors="replace")
    counts = STEPS_DONE.findall(text)
    planned = PLANNED.search(text)
    done, total = map(int, counts[-1]) if counts else (0, int(planned[1]) if planned else None)
    live = []
    for path in sorted((out / "progress").glob("*.json")):
        item = json.loads(path.read_text())
        experiment, name = item["run"].split("/")
        if not (out / "runs" / experiment / f"{name}.json").exists():
            live.append(item)
    return done, total, live


def _explain(log_path: Path, console: Console) -> None:
    text = log_path.read_text(errors="replace")
    logs = [paths.ROOT / name for name in dict.fromkeys(FAILED_LOG.findall(text))]
    for path in logs:
        content = path.read_text(errors="replace") if path.exists() else ""
        console.print(f"--- {path.relative_to(paths.ROOT)}", highlight=False)
        console.print("\n".join(content.splitlines()[-60:]), highlight=False, markup=False)
    if not logs:
        console.print(text[-3000:], highlight=False, markup=False)


def main() -> int:
    """Command line: ``run`` or ``record``."""
    console = Console(width=None if sys.stdout.isatty() else 140)
    profile = os.environ.get("PROFILE", "cpu")
    if profile not in grid.profiles():
        console.print(f"PROFILE must be one of {', '.join(grid.profiles())}. Received: {profile!r}")
        return 2
    try:
        dataset = grid.dataset_from(os.environ)
        grid.seeds_from(os.environ)
        grid.tier_from(os.environ)
    except ValueError as error:
        console.print(str(error), highlight=False, markup=False)
        return 2
    recording, recorded = sys.argv[1:2] == ["record"], os.environ.get("RECORDED", "0") == "1"
    if dataset and (recording or recorded):
        console.print(f"there are no recorded results on {dataset}: they stay below build/.")
        return 2
    if recorded and not any(paths.runs(profile).rglob("*.json")):
        console.print(
            f"there are no recorded results of the {profile} profile: make reproduce PROFILE={profile}"
        )
        return 2
    if recording:
        return record(profile, console)
    one_gpu = profile == "gpu"  # which several processes would share
    jobs = int(os.environ.get("JOBS", 1 if one_gpu else os.cpu_count() or 1))
    return run(profile, recorded=recorded, jobs=jobs, console=console, dataset=dataset)


if __name__ == "__main__":
    sys.exit(main())
