"""Data sets by name: ``load(name)`` gives images and labels of documented shape, dtype and range.

| name | images | source |
|---|---|---|
| ``fashion_mnist`` | 60,000 + 10,000 of 28×28×1, 10 classes | Xiao, Rasul & Vollgraf 2017 (MIT licence) |
| ``fashion_mnist_mini`` | 2,000 + 500 of them, shipped with lipnb | the same |
| ``stacked_fashion_mnist`` | 60,000 + 10,000 of 28×28×3, 1,000 classes | three images as red, green, blue |
| ``cifar10`` | 50,000 + 10,000 of 32×32×3, 10 classes | Krizhevsky 2009 |
| ``images`` | a folder of your own (CelebA, say), centre-cropped and resized | ``LIPNB_DATA``/images |

``LIPNB_DATA`` names a folder of your own where the files are looked for first and kept. CIFAR-10 is looked for there too,
but Keras downloads it into its own cache (``KERAS_HOME``, else ``~/.keras``).
"""

from __future__ import annotations

import gzip
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lipnb.lab import fetch, paths

__all__ = ["NAMES", "Dataset", "cropped", "load", "padded", "stacked", "to_float", "to_uint8"]

NAMES = ("fashion_mnist", "fashion_mnist_mini", "stacked_fashion_mnist", "cifar10", "images")
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}


class Dataset(NamedTuple):
    """Images uint8 of shape (n, h, w, c) in 0 … 255 and labels int64 of shape (n,)."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


def load(name: str, *, size: int = 32) -> Dataset:
    """Data set ``name``; ``size`` (pixels) is the side to which ``images`` are resized.

    Raises ValueError for an unknown name or a size below 1, FileNotFoundError or OSError where a source is missing or
    damaged; the message names the cure.
    """
    loaders = {
        "fashion_mnist": _fashion_mnist,
        "fashion_mnist_mini": _fashion_mnist_mini,
        "stacked_fashion_mnist": _stacked_fashion_mnist,
        "cifar10": _cifar10,
        "images": lambda: _images(paths.cache() / "images", size),
    }
    if name not in loaders:
        raise ValueError(f"name must be one of {', '.join(NAMES)}. Received: {name!r}")
    if size < 1:
        raise ValueError(f"size must be at least 1 pixel. Received: {size!r}")
    return loaders[name]()


def stacked(single: Dataset) -> Dataset:
    """As many images of three channels, each a random image of ``single``; labels are its ten classes as digits."""
    train, test = (single.x_train, single.y_train), (single.x_test, single.y_test)
    return Dataset(*_stack(*train, seed=0), *_stack(*test, seed=1))


def to_float(images: np.ndarray) -> np.ndarray:
    """uint8 0 … 255 → float32 −1 … 1."""
    return images.astype(np.float32) / np.float32(127.5) - np.float32(1)


def to_uint8(images: np.ndarray) -> np.ndarray:
    """Float −1 … 1 → uint8 0 … 255, rounded and clipped; NaN (of a diverged generator) → 0."""
    return np.clip(np.rint((np.nan_to_num(images, nan=-1.0) + 1) * 127.5), 0, 255).astype(np.uint8)


def padded(images: np.ndarray, margin: int) -> np.ndarray:
    """Float images (n, h, w, c) in −1 … 1 with ``margin`` black pixels around them."""
    sides = (margin, margin)
    return np.pad(images, ((0, 0), sides, sides, (0, 0)), constant_values=-1)


def cropped(images: np.ndarray, margin: int) -> np.ndarray:
    """Images (n, h, w, c) without their outermost ``margin`` pixels: the inverse of :func:`padded`."""
    height, breadth = images.shape[1:3]
    return images[:, margin : height - margin, margin : breadth - margin]


def _fashion_mnist() -> Dataset:
    folder = fetch.fashion_mnist(paths.cache() / "fashion-mnist")
    x_train, x_test = (_read_idx(folder / f"{part}-images-idx3-ubyte.gz") for part in ("train", "t10k"))
    y_train, y_test = (_read_idx(folder / f"{part}-labels-idx1-ubyte.gz") for part in ("train", "t10k"))
    return Dataset(x_train[..., None], y_train.astype(np.int64), x_test[..., None], y_test.astype(np.int64))


def _read_idx(path: Path) -> np.ndarray:
    with gzip.open(path) as file:
        content = file.read()
    rank = content[3]
    shape = np.frombuffer(content, ">u4", rank, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape)


def _fashion_mnist_mini() -> Dataset:
    with np.load(paths.ASSETS / "fashion_mnist_mini.npz") as arrays:
        return Dataset(*(arrays[field] for field in Dataset._fields))


def _stacked_fashion_mnist() -> Dataset:
    return stacked(_fashion_mnist())


def _stack(images: np.ndarray, labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """As many stacked images as there are single ones: channel k of image i is image ``choice[k, i]``."""
    choice = np.random.default_rng(seed).integers(len(images), size=(3, len(images)))
    stacked = np.concatenate([images[row] for row in choice], axis=-1)
    return stacked, labels[choice[0]] * 100 + labels[choice[1]] * 10 + labels[choice[2]]


def _cifar10() -> Dataset:
    folder = paths.cache() / "cifar-10-batches-bin"
    if folder.is_dir():
        parts = [_read_cifar(folder / f"data_batch_{i}.bin") for i in range(1, 6)]
        x_train, y_train = (np.concatenate(part) for part in zip(*parts, strict=True))
        return Dataset(x_train, y_train, *_read_cifar(folder / "test_batch.bin"))
    import keras

    try:
        (x_train, y_train), (x_test, y_test) = keras.datasets.cifar10.load_data()
    except Exception as error:
        raise OSError(
            "CIFAR-10 could not be downloaded. Unpack its binary version so that "
            f"{folder / 'data_batch_1.bin'} exists, or go online. Received: {error}"
        ) from error
    return Dataset(x_train, y_train.ravel().astype(np.int64), x_test, y_test.ravel().astype(np.int64))


def _read_cifar(path: Path) -> tuple[np.ndarray, np.ndarray]:
    if not path.is_file():
        raise FileNotFoundError(
            f"CIFAR-10's binary version must hold {path.name}: unpack it again. Received: {path}"
        )
    content = np.fromfile(path, np.uint8)
    if content.size != 10_000 * 3073:
        raise OSError(
            f"{path} must hold 10,000 records of 3,073 bytes: unpack it again. Received: {content.size} bytes"
        )
    records = content.reshape(-1, 3073)
    if records[:, 0].max() > 9:
        raise OSError(f"{path} must hold labels 0 to 9: unpack it again. Received: {records[:, 0].max()}")
    images = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), records[:, 0].astype(np.int64)


def _images(folder: Path, size: int) -> Dataset:
    """All images below ``folder``; the last tenth of them, in name order, is the test part; labels are 0."""
    from PIL import Image

    files = (
        sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES) if folder.is_dir() else []
    )
    if len(files) < 10:
        raise FileNotFoundError(
            f"images needs at least 10 image files ({', '.join(sorted(IMAGE_SUFFIXES))}) below {folder}; "
            f"set LIPNB_DATA to the folder that holds images/. Received: {len(files)} files"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)  # as the error: the file is named
        pixels = np.stack([_crop_and_resize(path, size) for path in files])
    split = len(files) - max(1, len(files) // 10)
    labels = np.zeros(len(files), np.int64)
    return Dataset(pixels[:split], labels[:split], pixels[split:], labels[split:])


def _crop_and_resize(path: Path, size: int) -> np.ndarray:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            if image.mode.startswith("I"):  # Pillow would cut its values off at 255
                raise OSError("16 bits a channel, in place of 8")
            side = min(image.size)
            left, top = ((extent - side) // 2 for extent in image.size)
            square = image.convert("RGB").crop((left, top, left + side, top + side))
            return np.asarray(square.resize((size, size), Image.Resampling.BOX))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise OSError(
            f"every image must have at most {Image.MAX_IMAGE_PIXELS} pixels: shrink or remove the file. "
            f"Received: {path} ({error})"
        ) from error
    except (UnidentifiedImageError, OSError) as error:
        raise OSError(
            f"every image must be readable: remove or replace the file. Received: {path} ({error})"
        ) from error
