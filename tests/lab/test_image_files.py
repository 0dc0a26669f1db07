"""Images from files of one's own: CIFAR-10's binary version and a folder of pictures, whole and harmed."""

from __future__ import annotations

import os

import numpy as np
import pytest
from PIL import Image

from lipnb.lab import data, paths

pytestmark = pytest.mark.lab


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.setenv("LIPNB_DATA", str(tmp_path))
    return tmp_path


def test_lipnb_data_goes_before_the_user_s_cache(own, monkeypatch):
    assert paths.cache() == own
    monkeypatch.setenv("LIPNB_DATA", "data of mine")
    assert paths.cache() == paths.ROOT / "data of mine"  # whatever folder a notebook runs in
    monkeypatch.delenv("LIPNB_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(own / "cache"))
    assert paths.cache() == own / "cache" / "lipnb"


def test_cifar_s_binary_records_are_read(own):
    folder = own / "cifar-10-batches-bin"
    folder.mkdir()
    record = np.zeros((10_000, 3073), np.uint8)
    record[:, 0] = np.arange(10_000) % 10
    record[:, 1] = 11  # red, first row, first column
    record[:, 1 + 1024 + 31] = 22  # green, first row, last column
    record[:, 1 + 2048 + 32] = 33  # blue, second row, first column
    record.tofile(folder / "test_batch.bin")
    for i in range(1, 6):
        os.link(folder / "test_batch.bin", folder / f"data_batch_{i}.bin")
    cifar = data.load("cifar10")
    assert [a.shape for a in cifar] == [(50_000, 32, 32, 3), (50_000,), (10_000, 32, 32, 3), (10_000,)]
    assert [a.dtype for a in cifar] == [np.uint8, np.int64] * 2
    image = cifar.x_train[12_345]
    assert (image[0, 0, 0], image[0, 31, 1], image[1, 0, 2], int(image.sum())) == (11, 22, 33, 66)
    np.testing.assert_array_equal(np.bincount(cifar.y_test), [1000] * 10)
    (folder / "data_batch_3.bin").unlink()
    (folder / "data_batch_3.bin").write_bytes(b"half a file")
    with pytest.raises(OSError, match=r"data_batch_3\.bin must hold 10,000 records.*Received: 11 bytes"):
        data.load("cifar10")
    np.full((10_000, 3073), 255, np.uint8).tofile(folder / "data_batch_3.bin")
    with pytest.raises(OSError, match=r"data_batch_3\.bin must hold labels 0 to 9.*Received: 255"):
        data.load("cifar10")


@pytest.fixture
def pictures(own):
    """Twelve pictures whose outer columns or rows, off the centred square, are white."""
    folder = own / "images"
    (folder / "deeper").mkdir(parents=True)
    for i in range(12):
        pixels = np.full((20, 40, 3), 255, np.uint8)
        pixels[:, 10:30] = 20 * i
        turned = pixels if i % 2 else pixels.transpose(1, 0, 2)
        Image.fromarray(turned).save(folder / ("deeper" if i > 5 else "") / f"{i:02d}.png")
    return folder


def test_the_centre_is_cut_out_and_resized_in_the_order_of_names(pictures):
    loaded = data.load("images", size=4)
    every = np.concatenate([loaded.x_train, loaded.x_test])
    expected = 20 * np.arange(12, dtype=np.uint8)
    np.testing.assert_array_equal(every, np.broadcast_to(expected[:, None, None, None], (12, 4, 4, 3)))
    assert loaded.x_train.shape[0] == 11
    assert not loaded.y_train.any()


@pytest.mark.parametrize(
    ("mode", "suffix"), [("L", ".png"), ("P", ".png"), ("RGBA", ".webp"), ("CMYK", ".jpg")]
)
def test_every_kind_of_picture_becomes_rgb(pictures, mode, suffix):
    Image.new("RGB", (30, 24), (204, 204, 204)).convert(mode).save(pictures / f"zz{suffix}")
    loaded = data.load("images", size=8)
    np.testing.assert_allclose(loaded.x_test[-1], 204, atol=3)  # lossy formats
    assert loaded.x_test.shape[1:] == (8, 8, 3)


def test_a_picture_of_sixteen_bits_is_named_and_not_cut_off(pictures):
    Image.fromarray(np.linspace(0, 65535, 1600).astype(np.uint16).reshape(40, 40)).save(pictures / "deep.png")
    with pytest.raises(OSError, match=r"Received: .*deep\.png \(16 bits a channel, in place of 8\)"):
        data.load("images")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp"])
def test_a_truncated_picture_is_named(pictures, suffix):
    broken = pictures / f"broken{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)).save(broken)
    whole = broken.read_bytes()
    for length in (0, 10, len(whole) // 2):
        broken.write_bytes(whole[:length])
        with pytest.raises(OSError, match=rf"remove or replace the file\. Received: .*broken\{suffix}"):
            data.load("images")


@pytest.mark.parametrize("share", [1, 3])  # of the pixels: beyond once PIL warns, beyond twice it refuses
def test_a_huge_picture_is_named(pictures, monkeypatch, share):
    Image.new("L", (60, 50)).save(pictures / "huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 60 * 50 // share - 1)
    with pytest.raises(
        OSError, match=r"at most \d+ pixels: shrink or remove the file\. Received: .*huge\.png"
    ):
        data.load("images")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 60 * 50)
    assert data.load("images").x_test[-1].max() == 0


@pytest.mark.parametrize("size", [0, -3])
def test_a_size_without_pixels_is_refused(pictures, size):
    with pytest.raises(ValueError, match=f"size must be at least 1 pixel. Received: {size}"):
        data.load("images", size=size)


def test_floats_and_bytes_are_each_other_s_inverse():
    grey = np.arange(256, dtype=np.uint8)
    floats = data.to_float(grey)
    assert (floats.dtype, floats[0], floats[-1]) == (np.float32, -1, 1)
    np.testing.assert_array_equal(data.to_uint8(floats), grey)
    np.testing.assert_array_equal(data.to_uint8(np.float32([-9, 9, np.nan])), [0, 255, 0])
