"""Fashion-MNIST from each of its sources, none of which is asked here: small stand-ins with hashes to match."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from lipnb.lab import fetch

pytestmark = pytest.mark.lab


@pytest.fixture
def files(tmp_path, monkeypatch) -> Path:
    """A folder with four files that fetch takes for the published ones; no source works until a test opens it."""
    folder = tmp_path / "files"
    folder.mkdir()
    for name in fetch.FASHION_MNIST:
        (folder / name).write_bytes(gzip.compress(name.encode() * 1000))
    hashes = {name: hashlib.sha256(name.encode() * 1000).hexdigest() for name in fetch.FASHION_MNIST}
    monkeypatch.setattr(fetch, "FASHION_MNIST", hashes)
    monkeypatch.setattr(fetch, "MIRRORS", ("https://first.invalid/", "https://second.invalid/"))
    monkeypatch.setattr(fetch, "DEBIAN_FOLDER", Path("of/no/package"))
    monkeypatch.setattr(fetch.pooch, "retrieve", unreachable)
    monkeypatch.setattr(fetch.shutil, "which", lambda program: None)
    return folder


def unreachable(url, *arguments, **options):
    raise OSError("no network")


def mirrors(files: Path, contents: dict[str, bytes], asked: list[str]):
    """``pooch.retrieve`` of mirrors that give ``contents`` where named, else the files; like it, it keeps what it has."""

    def retrieve(url, known_hash, *, fname, path, downloader):
        asked.append(url)
        mirror = url.removesuffix(fname)
        if not (path / fname).exists():
            (path / fname).write_bytes(contents.get(mirror, (files / fname).read_bytes()))
        return str(path / fname)

    return retrieve


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_intact_files_are_taken_as_they_are(files):
    before = {path: path.stat().st_mtime_ns for path in files.iterdir()}
    assert fetch.fashion_mnist(files) == files
    assert {path: path.stat().st_mtime_ns for path in files.iterdir()} == before


@pytest.mark.parametrize("harm", ["truncated", "other", "empty", "folder"])
def test_an_altered_file_is_named_and_nothing_is_touched(files, harm, monkeypatch):
    monkeypatch.setattr(fetch.pooch, "retrieve", lambda *a, **k: pytest.fail("asked a mirror"))
    path = files / "train-images-idx3-ubyte.gz"
    content = {
        "truncated": path.read_bytes()[:-9],
        "other": gzip.compress(b"x"),
        "empty": b"",
        "folder": None,
    }[harm]
    path.unlink()
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(OSError, match="delete the files named here.*Received: altered train-images"):
        fetch.fashion_mnist(files)
    assert len(names(files)) == 4
    assert path.is_dir() if content is None else path.read_bytes() == content


def test_a_mirror_that_gives_something_else_is_followed_by_the_next(files, tmp_path, monkeypatch):
    asked: list[str] = []
    page = {"https://first.invalid/": b"<html>please log in</html>"}
    monkeypatch.setattr(fetch.pooch, "retrieve", mirrors(files, page, asked))
    fetch.fashion_mnist(tmp_path / "cache")
    assert names(tmp_path / "cache") == sorted(fetch.FASHION_MNIST)
    assert len(asked) == 8


def test_a_mirror_that_fails_is_followed_by_the_next(files, tmp_path, monkeypatch):
    good = mirrors(files, {}, [])

    def retrieve(url, *arguments, **options):
        return unreachable(url) if "first" in url else good(url, *arguments, **options)

    monkeypatch.setattr(fetch.pooch, "retrieve", retrieve)
    fetch.fashion_mnist(tmp_path / "cache")
    assert names(tmp_path / "cache") == sorted(fetch.FASHION_MNIST)


def test_only_missing_files_are_fetched(files, tmp_path, monkeypatch):
    asked: list[str] = []
    monkeypatch.setattr(fetch.pooch, "retrieve", mirrors(files, {}, asked))
    kept, *rest = fetch.FASHION_MNIST
    (tmp_path / "cache").mkdir()
    shutil.copy(files / kept, tmp_path / "cache")
    fetch.fashion_mnist(tmp_path / "cache")
    assert asked == [f"https://first.invalid/{name}" for name in rest]


def test_an_interrupted_copy_leaves_no_file_under_a_final_name(files, tmp_path, monkeypatch):
    def interrupted(source, target):
        Path(target).write_bytes(Path(source).read_bytes()[:10])
        raise KeyboardInterrupt

    monkeypatch.setattr(fetch.pooch, "retrieve", mirrors(files, {}, []))
    monkeypatch.setattr(fetch.shutil, "copyfile", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch.fashion_mnist(tmp_path / "cache")
    assert names(tmp_path / "cache") == []


def test_an_installed_package_needs_no_network(files, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "DEBIAN_FOLDER", files)  # absolute: the root in front of it drops out
    assert names(fetch.fashion_mnist(tmp_path / "cache")) == sorted(fetch.FASHION_MNIST)


def test_debian_s_package_is_downloaded_and_unpacked_without_root(files, tmp_path, monkeypatch):
    commands = []

    def run(command, cwd=None, **options):
        commands.append(command)
        if command[0] == "apt-get":
            (cwd / f"{fetch.DEBIAN_PACKAGE}_1_all.deb").touch()
        else:
            shutil.copytree(files, Path(command[-1]) / fetch.DEBIAN_FOLDER)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(fetch.shutil, "which", lambda program: program)
    monkeypatch.setattr(fetch.subprocess, "run", run)
    assert names(fetch.fashion_mnist(tmp_path / "cache")) == sorted(fetch.FASHION_MNIST)
    assert [command[0] for command in commands] == ["apt-get", "dpkg-deb"]


def test_stale_package_lists_are_replaced_by_own_ones(files, tmp_path, monkeypatch):
    commands = []

    def run(command, **options):
        commands.append(command)
        return subprocess.CompletedProcess(command, 100, "", "E: first\nE: unable to locate package\n")

    monkeypatch.setattr(fetch.shutil, "which", lambda program: program)
    monkeypatch.setattr(fetch.subprocess, "run", run)
    with pytest.raises(OSError, match="debian: apt-get failed: .*unable to locate package"):
        fetch.fashion_mnist(tmp_path / "cache")
    assert [("update" in c, "-o" in c) for c in commands] == [(False, False), (True, True)]


def test_where_nothing_works_every_reason_and_the_cure_are_said(files, tmp_path):
    with pytest.raises(OSError, match="Go online, or install dataset-fashion-mnist .* into") as raised:
        fetch.fashion_mnist(tmp_path / "cache")
    reasons = str(raised.value).split("Received: ")[1].split("; ")
    assert [reason.split(":")[0] for reason in reasons] == ["installed", "mirrors", "debian"]
    assert names(tmp_path / "cache") == []


def test_files_can_be_read_by_whoever_the_umask_lets(files, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch.pooch, "retrieve", mirrors(files, {}, []))
    old = os.umask(0o022)
    try:
        folder = fetch.fashion_mnist(tmp_path / "cache")
    finally:
        os.umask(old)
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o644}
