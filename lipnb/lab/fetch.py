"""Fetches Fashion-MNIST: from its mirrors, or from Debian's package, always checked by SHA-256.

The hashes are those of the unpacked content: Debian's files are compressed anew, so the gzip files differ
from the mirrors' while the images are the same. Every file arrives under another name and is renamed once its hash is right, so a stopped or altered
download leaves nothing behind that could be taken for the data.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import subprocess
import tempfile
import zlib
from pathlib import Path

import pooch

__all__ = ["FASHION_MNIST", "fashion_mnist"]

FASHION_MNIST = {
    "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
}
MIRRORS = (
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
)
DEBIAN_PACKAGE = "dataset-fashion-mnist"
DEBIAN_FOLDER = Path("usr/share/datasets/fashion-mnist")


def fashion_mnist(folder: Path) -> Path:
    """Folder that holds the four verified files, fetched into ``folder`` where it lacks them.

    Tried in turn: ``folder`` itself, Debian's installed package, the mirrors, Debian's package downloaded
    without root. Raises OSError with every reason and the cure where none of them works.
    """
    wrong = [name for name in FASHION_MNIST if (folder / name).exists() and not _intact(folder / name)]
    if wrong:
        raise OSError(
            f"Fashion-MNIST in {folder} must match its published SHA-256: delete the files named here and "
            f"try again. Received: altered {', '.join(wrong)}"
        )
    missing = [name for name in FASHION_MNIST if not (folder / name).exists()]
    reasons = []
    for source in (_from_installed, _from_mirrors, _from_debian) if missing else ():
        try:
            source(folder, missing)
            return folder
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            reasons.append(f"{source.__name__[6:]}: {error}")
    if missing:
        raise OSError(
            f"Fashion-MNIST could not be fetched. Go online, or install {DEBIAN_PACKAGE} (Debian, Ubuntu), or "
            f"put {', '.join(missing)} into {folder}. Received: {'; '.join(reasons)}"
        )
    return folder


def _intact(path: Path) -> bool:
    try:
        with gzip.open(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == FASHION_MNIST[path.name]
    except (OSError, EOFError, zlib.error):
        return False


def _adopt(source: Path, folder: Path) -> None:
    """Copy ``source`` into ``folder`` under its own name, all of it or nothing."""
    if not _intact(source):
        raise OSError(f"{source.name} does not match its SHA-256")
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{source.name}.{os.getpid()}"
    try:
        shutil.copyfile(source, partial)
        os.replace(partial, folder / source.name)
    finally:
        partial.unlink(missing_ok=True)


def _from_installed(folder: Path, missing: list[str], root: Path = Path("/")) -> None:
    for name in missing:
        if not (root / DEBIAN_FOLDER / name).is_file():
            raise OSError(f"{DEBIAN_PACKAGE} is not installed")
        _adopt(root / DEBIAN_FOLDER / name, folder)


def _from_mirrors(folder: Path, missing: list[str]) -> None:
    downloader = pooch.HTTPDownloader(timeout=20)
    with tempfile.TemporaryDirectory() as scratch:
        for name in missing:
            _from_any_mirror(name, Path(scratch), downloader)
            _adopt(Path(scratch) / name, folder)


def _from_any_mirror(name: str, scratch: Path, downloader: pooch.HTTPDownloader) -> None:
    reasons = []
    for mirror in MIRRORS:
        try:
            pooch.retrieve(mirror + name, None, fname=name, path=scratch, downloader=downloader)
            if _intact(scratch / name):
                return
            (scratch / name).unlink()  # a page of a proxy, say: pooch would take it for the next mirror's
            reasons.append("other content")
        except (OSError, ValueError) as error:
            reasons.append(type(error).__name__)
    raise OSError(f"no mirror gave {name} ({', '.join(reasons)})")


def _from_debian(folder: Path, missing: list[str]) -> None:
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise OSError("apt-get and dpkg-deb are not here")
    with tempfile.TemporaryDirectory() as scratch:
        _download_package(Path(scratch))
        (package,) = Path(scratch).glob(f"{DEBIAN_PACKAGE}_*.deb")
        subprocess.run(["dpkg-deb", "-x", str(package), scratch], check=True, capture_output=True)
        _from_installed(folder, missing, root=Path(scratch))


def _download_package(scratch: Path) -> None:
    """``apt-get download``, with package lists of its own where the system's are missing or stale."""
    download = ["apt-get", "download", "-q", DEBIAN_PACKAGE]
    if subprocess.run(download, cwd=scratch, capture_output=True).returncode == 0:
        return
    lists = scratch / "lists"
    (lists / "partial").mkdir(parents=True)
    own = ["-o", f"Dir::State::Lists={lists}", "-o", f"Dir::Cache={scratch}"]
    for command in (["apt-get", *own, "-q", "update"], [download[0], *own, *download[1:]]):
        result = subprocess.run(command, cwd=scratch, capture_output=True, text=True)
        if result.returncode != 0:
            raise OSError(f"apt-get failed: {result.stderr.strip().splitlines()[-1:]}")
