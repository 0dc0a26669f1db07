"""Data sets as documented, downloads that fail cleanly, and distances against closed forms."""

from __future__ import annotations

import gzip
import hashlib
import shutil

import numpy as np
import pytest
import scipy.linalg
from PIL import Image

from lipnb.lab import data, fetch, metrics

pytestmark = pytest.mark.lab


@pytest.fixture
def tiny_fashion(tmp_path, monkeypatch):
    """A stand-in for the four files, with hashes to match; no network."""
    folder = tmp_path / "source" / fetch.DEBIAN_FOLDER
    folder.mkdir(parents=True)
    hashes = {}
    for name in fetch.FASHION_MNIST:
        content = name.encode()
        (folder / name).write_bytes(gzip.compress(content))
        hashes[name] = hashlib.sha256(content).hexdigest()
    monkeypatch.setattr(fetch, "FASHION_MNIST", hashes)

    def offline(folder, missing):
        raise OSError("no network")

    offline.__name__ = "_from_mirrors"
    monkeypatch.setattr(fetch, "_from_mirrors", offline)
    return tmp_path / "source"


def test_the_shipped_images_are_balanced_and_of_the_documented_form():
    mini = data.load("fashion_mnist_mini")
    assert mini.x_train.shape == (2000, 28, 28, 1)
    assert mini.x_test.shape == (500, 28, 28, 1)
    assert mini.x_train.dtype == np.uint8
    np.testing.assert_array_equal(np.bincount(mini.y_train), [200] * 10)
    floats = data.to_float(mini.x_train)
    assert (floats.min(), floats.max(), floats.dtype) == (-1, 1, np.float32)
    np.testing.assert_array_equal(data.to_uint8(floats), mini.x_train)


def test_stacked_images_and_labels_are_those_of_their_channels():
    mini = data.load("fashion_mnist_mini")
    images, labels = data._stack(mini.x_test, mini.y_test, seed=1)
    again, _ = data._stack(mini.x_test, mini.y_test, seed=1)
    np.testing.assert_array_equal(images, again)
    digits = np.stack([labels // 100, labels // 10 % 10, labels % 10])
    choice = np.random.default_rng(1).integers(500, size=(3, 500))
    np.testing.assert_array_equal(digits, mini.y_test[choice])
    np.testing.assert_array_equal(images[..., 2], mini.x_test[choice[2], ..., 0])


def test_files_come_from_where_they_are(tiny_fashion, tmp_path, monkeypatch):
    monkeypatch.setattr(
        fetch, "_from_debian", lambda folder, missing: fetch._from_installed(folder, missing, tiny_fashion)
    )
    folder = fetch.fashion_mnist(tmp_path / "cache")
    assert sorted(p.name for p in folder.iterdir()) == sorted(fetch.FASHION_MNIST)


def test_an_altered_file_is_named_and_left_alone(tiny_fashion, tmp_path):
    cache = tmp_path / "cache"
    shutil.copytree(tiny_fashion / fetch.DEBIAN_FOLDER, cache)
    (cache / "train-labels-idx1-ubyte.gz").write_bytes(b"half a file")
    with pytest.raises(OSError, match="delete the files named here.*train-labels"):
        fetch.fashion_mnist(cache)
    assert (cache / "train-labels-idx1-ubyte.gz").read_bytes() == b"half a file"


def test_a_source_that_gives_wrong_content_leaves_no_file(tiny_fashion, tmp_path, monkeypatch):
    name = "t10k-images-idx3-ubyte.gz"
    (tiny_fashion / fetch.DEBIAN_FOLDER / name).write_bytes(gzip.compress(b"altered"))

    def debian(folder, missing):
        fetch._from_installed(folder, missing, tiny_fashion)

    debian.__name__ = "_from_debian"
    monkeypatch.setattr(fetch, "_from_debian", debian)
    with pytest.raises(OSError, match=r"Go online.*no network.*does not match"):
        fetch.fashion_mnist(tmp_path / "cache")
    assert not (tmp_path / "cache" / name).exists()
    assert not list(tmp_path.glob("cache/.*"))


def test_a_folder_of_images_is_cropped_and_resized(tmp_path, monkeypatch):
    monkeypatch.setenv("LIPNB_DATA", str(tmp_path))
    (tmp_path / "images").mkdir()
    for i in range(12):
        pixels = np.zeros((40 + i, 60, 3), np.uint8)
        pixels[:, 20:40] = 200
        Image.fromarray(pixels).save(tmp_path / "images" / f"{i:02d}.png")
    loaded = data.load("images", size=16)
    assert loaded.x_train.shape == (11, 16, 16, 3)
    assert loaded.x_test.shape == (1, 16, 16, 3)
    (tmp_path / "images" / "broken.png").write_bytes(b"no picture")
    with pytest.raises(OSError, match=r"broken\.png"):
        data.load("images")


def test_what_is_missing_is_said_with_its_cure(tmp_path, monkeypatch):
    monkeypatch.setenv("LIPNB_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="at least 10 image files"):
        data.load("images")
    (tmp_path / "cifar-10-batches-bin").mkdir()
    with pytest.raises(FileNotFoundError, match="data_batch_1"):
        data.load("cifar10")
    with pytest.raises(ValueError, match="Received: 'mnist'"):
        data.load("mnist")


def test_frechet_distance_of_gaussians():
    rng = np.random.default_rng(0)
    a = metrics.Moments(rng.normal(size=5), np.diag([1.0, 4, 9, 16, 25]))
    b = metrics.Moments(rng.normal(size=5), np.diag([4.0, 4, 1, 0, 36]))
    closed = np.sum((a.mean - b.mean) ** 2) + 1 + 0 + 4 + 16 + 1
    assert metrics.frechet_distance(a, b) == pytest.approx(closed, rel=1e-12)
    assert metrics.frechet_distance(a, a) == pytest.approx(0, abs=1e-10)
    roots = [rng.normal(size=(5, 5)) for _ in range(2)]
    c, d = (metrics.Moments(np.zeros(5), r @ r.T) for r in roots)
    by_root = np.trace(c.covariance + d.covariance - 2 * scipy.linalg.sqrtm(c.covariance @ d.covariance).real)
    assert metrics.frechet_distance(c, d) == pytest.approx(by_root, rel=1e-9)
    assert metrics.frechet_distance(c, d) == pytest.approx(metrics.frechet_distance(d, c), rel=1e-9)


def test_score_lies_between_one_and_the_number_of_classes():
    assert metrics.classifier_score(np.full((20, 10), 0.1)) == pytest.approx(1)
    assert metrics.classifier_score(np.eye(10)) == pytest.approx(10)


def test_the_ruler_knows_garments_and_refuses_other_weights(monkeypatch, tmp_path):
    mini = data.load("fashion_mnist_mini")
    features, probabilities = metrics.load_ruler()(data.to_float(mini.x_test))
    assert features.shape == (500, 64)
    assert np.mean(probabilities.argmax(axis=1) == mini.y_test) > 0.85
    other = tmp_path / "ruler.npz"
    other.write_bytes(b"other")
    monkeypatch.setattr(metrics, "RULER", other)
    with pytest.raises(OSError, match="must have SHA-256"):
        metrics.load_ruler()
