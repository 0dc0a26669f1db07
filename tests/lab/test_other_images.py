"""DATASET: the image experiments on images of one's own, planned, kept apart, and one of them run to its end."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import jupytext
import keras
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from lipnb.lab import grid, metrics, paths, pipeline, published, records

pytestmark = pytest.mark.lab


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """Eighty small pictures as the data set ``images``, the last eight of them to test with."""
    monkeypatch.setenv("LIPNB_DATA", str(tmp_path))
    (tmp_path / "images").mkdir()
    pixels = np.random.default_rng(0).integers(256, size=(80, 12, 12, 3), dtype=np.uint8)
    for i, picture in enumerate(pixels):
        Image.fromarray(picture).save(tmp_path / "images" / f"{i:02d}.png")
    return tmp_path


@pytest.fixture
def small_inception(monkeypatch):
    """Two layers with random weights in the place of Inception, under its layers' names."""
    shape = keras.Input((16, 16, 3))
    maps = keras.layers.Conv2D(4, 3, strides=4, kernel_initializer=keras.initializers.HeNormal(seed=0))(shape)
    pooled = keras.layers.GlobalAveragePooling2D(name="avg_pool")(maps)
    start = keras.initializers.HeNormal(seed=1)
    model = keras.Model(shape, keras.layers.Dense(7, "softmax", kernel_initializer=start)(pooled))
    monkeypatch.setattr(keras.applications, "InceptionV3", lambda weights: model)
    return model


@pytest.mark.parametrize("profile", ["smoke", "cpu", "gpu"])
def test_every_image_experiment_is_planned_on_the_data_set_and_nothing_else(profile):
    usual, other = (grid.runs(profile, dataset=name) for name in (None, "images"))
    expected = [run for run in usual if run.experiment in grid.IMAGE_EXPERIMENTS]
    assert [(run.experiment, run.name) for run in other] == [(run.experiment, run.name) for run in expected]
    assert {run.experiment for run in other} == set(grid.IMAGE_EXPERIMENTS)
    for run, plain in zip(other, expected, strict=True):
        assert run.parameters == plain.parameters | {"dataset": "images"}
    assert [run.name for run in grid.runs(profile, dataset="images", seeds=[7])]


def test_results_on_another_data_set_have_a_folder_of_their_own():
    assert grid.workspace("cpu", grid.dataset_from({})) == "cpu"
    assert grid.workspace("cpu", grid.dataset_from({"DATASET": ""})) == "cpu"
    assert grid.workspace("cpu", grid.dataset_from({"DATASET": "cifar10"})) == "cpu-cifar10"


def test_snakemake_plans_them_there(pictures):
    command = [sys.executable, "-m", "snakemake", "--snakefile", "notebooks/Snakefile", "--directory", "."]
    command += ["--nolock", "--cores", "1", "--dry-run", "--quiet", "rules", "--summary"]
    environment = {
        "PROFILE": "smoke",
        "DATASET": "images",
        "FULL": "2",
        "PATH": "/usr/bin:/bin",
        "HOME": str(pictures),
    }
    done = subprocess.run(command, cwd=paths.ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    _, *rows = (line for line in done.stdout.splitlines() if "\t" in line)  # under a header
    planned = {row.split("\t")[0] for row in rows}
    for run in grid.runs("smoke", dataset="images"):
        assert f"build/smoke-images/runs/{run.experiment}/{run.name}.json" in planned
    assert "build/smoke-images/chapters/headline.ipynb" in planned
    assert all(path.startswith("build/smoke-images/") for path in planned)


@pytest.mark.parametrize(
    ("environment", "words", "said"),
    [
        ({"DATASET": "imagenet"}, ["run"], "DATASET must be one of cifar10, images. Received: 'imagenet'"),
        ({"DATASET": "images"}, ["run"], "images needs at least 10 image files"),
        ({"DATASET": "images"}, ["record"], "there are no recorded results on images"),
        ({"DATASET": "images", "RECORDED": "1"}, ["run"], "there are no recorded results on images"),
        ({"RECORDED": "1"}, ["run"], "there are no recorded results of the smoke profile"),
        ({"SEEDS": "0 one"}, ["run"], "SEEDS must be whole numbers, such as \"0 1 2\". Received: '0 one'"),
        ({"FULL": "3"}, ["run"], "FULL must be 0, 1 or 2. Received: '3'"),
    ],
)
def test_what_cannot_be_is_said_before_anything_runs(tmp_path, monkeypatch, environment, words, said):
    for name, value in {"PROFILE": "smoke", "LIPNB_DATA": str(tmp_path), **environment}.items():
        monkeypatch.setenv(name, value)
    console = Console(file=io.StringIO(), width=200)
    monkeypatch.setattr(pipeline, "Console", lambda **options: console)
    monkeypatch.setattr(pipeline, "_snakemake", lambda *arguments: pytest.fail("it must not start"))
    monkeypatch.setattr(sys, "argv", ["pipeline", *words])
    assert pipeline.main() == 2
    assert said in console.file.getvalue()


@pytest.mark.parametrize("notebook", ["gan.md", "confounders.md"])
def test_a_run_on_coloured_images_ends_in_a_record(pictures, small_inception, notebook):
    folder = pictures / "runs"
    given = {
        "dataset": "images",
        "folder": str(folder),
        "steps": 4,
        "width": 2,
        "samples": 30,
        "neighbours": 20,
    }
    given |= {"loss": "wasserstein", "evaluations": 2, "experiment": "e"}
    space: dict = {}
    for cell in jupytext.read(paths.ROOT / "notebooks" / "runs" / notebook).cells:
        if cell.cell_type == "code":
            source = cell.source.replace(
                "machine.make_deterministic()", ""
            )  # it would last for the whole process
            exec(compile(source, notebook, "exec"), space)
            space |= given
    (record,) = records.read(folder, "e")
    assert record["diverged_at"] is None
    assert record["parameters"]["dataset"] == record["provenance"]["inputs"]["dataset"] == "images"
    assert [h["update"] for h in record["history"]] == [1, 2]
    assert record["history"][-1]["fid_test"] > 0
    assert "modes" not in record["history"][-1]
    assert records.read_arrays(folder, "e", "try")["samples"].shape[1:] == (32, 32, 3)
    json.dumps(record, allow_nan=False)


def test_inception_sees_three_channels_in_its_own_size(small_inception):
    images = np.random.default_rng(0).uniform(-1, 1, size=(5, 8, 8, 1)).astype(np.float32)
    read = metrics.ruler_for((8, 8, 1))
    features, probabilities = read(images)
    assert features.shape == (5, 4)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    coloured = keras.ops.image.resize(np.repeat(images, 3, axis=-1), (16, 16))
    np.testing.assert_allclose(probabilities, small_inception(coloured), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(metrics.inception(batch=2)(images)[0], features, rtol=1e-4, atol=1e-6)


def test_without_inception_s_weights_the_cure_is_named(monkeypatch):
    def fail(weights):
        raise TimeoutError("no route")

    monkeypatch.setattr(keras.applications, "InceptionV3", fail)
    with pytest.raises(OSError, match="go online. Received: no route"):
        metrics.ruler_for((32, 32, 3))


def test_published_numbers_stand_beside_cifar_only():
    assert [row[2] for row in published.beside("cifar10").rows[:2]] == ["7.8", "42.6"]
    assert published.beside("fashion_mnist") is None
