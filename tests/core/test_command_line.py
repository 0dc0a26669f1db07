"""``python -m lipnb bound``: the table, JSON, and one line with status 2 for whatever cannot be bounded."""

import json
import os
import runpy
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers

import lipnb.__main__
from lipnb.__main__ import main
from lipnb.bounds import lipschitz_bound
from lipnb.reparam import SpectralNormalization

# h5py, Keras's reader, leaves a refused file to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:You are saving a model that has not yet been built:UserWarning"),
]


class Own(layers.Layer):
    def call(self, inputs):
        return inputs


class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(2)

    def call(self, inputs):
        return self.dense(inputs)


def saved(path, *stack):
    model = keras.Sequential([keras.Input((4,)), *stack], name="small")
    model.save(path)
    return model


def test_table_and_bound_of_a_saved_model(tmp_path, capsys):
    model = saved(
        tmp_path / "m.keras", SpectralNormalization(layers.Dense(3)), layers.Dense(2, activation="silu")
    )
    assert main(["bound", str(tmp_path / "m.keras")]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines()[-1].endswith(f"at most {float(lipschitz_bound(model)):.6g}")


@pytest.mark.parametrize("exact", ["auto", "always", "never"])
def test_json_is_the_same_bound(tmp_path, capsys, exact):
    model = saved(tmp_path / "m.keras", layers.Reshape((2, 2)), layers.Conv1D(2, 2, padding="same"))
    assert main(["bound", "--json", "--exact", exact, str(tmp_path / "m.keras")]) == 0
    data = json.loads(capsys.readouterr().out)
    choice = {"auto": "auto", "always": True, "never": False}[exact]
    assert data["bound"] == pytest.approx(float(lipschitz_bound(model, exact=choice)), rel=1e-12)
    assert [row["type"] for row in data["layers"]] == ["Reshape", "Conv1D"]


def test_an_infinite_bound_is_an_answer(tmp_path, capsys):
    saved(tmp_path / "m.keras", layers.Dense(3, activation="exponential"))
    assert main(["bound", "--json", str(tmp_path / "m.keras")]) == 0
    assert json.loads(capsys.readouterr().out)["bound"] == "Infinity"


def missing(path):
    return "no such file"


def text(path):
    path.write_text("not a model")
    return "not a loadable Keras model: a .keras file must be a zip archive"


def folder(path):
    path.mkdir()
    return "no such file"


def weights_that_are_nan(path):
    saved(
        path,
        layers.Dense(3, bias_initializer="zeros", kernel_initializer=keras.initializers.Constant(np.nan)),
    )
    return "must be finite"


def unbuilt(path):
    keras.Sequential([layers.Dense(3)]).save(path)
    return "must be built"


def own_layer(path):
    saved(path, Own())
    return "not a loadable Keras model"


def function_inside(path):
    saved(path, layers.Lambda(lambda x: 2 * x, output_shape=(4,)))
    return "not a loadable Keras model"


def subclassed(path):
    model = Subclassed()
    model(np.zeros((1, 4), "float32"))
    model.save(path)
    return "not a loadable Keras model"


BAD = [missing, text, folder, weights_that_are_nan, unbuilt, own_layer, function_inside, subclassed]


@pytest.mark.once
@pytest.mark.parametrize("make", BAD)
def test_one_line_and_status_two(make, tmp_path, capsys):
    path = tmp_path / "m.keras"
    reason = make(path)
    assert main(["bound", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert err.startswith(f"lipnb: error: {path}: ")
    assert reason in err
    assert len(err) < len(str(path)) + 420


@pytest.mark.parametrize(
    "arguments", [[], ["bound"], ["measure", "m.keras"], ["bound", "m.keras", "--exact", "yes"]]
)
def test_wrong_arguments_show_the_usage(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "usage: lipnb" in capsys.readouterr().err


def test_the_module_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["lipnb", "bound", str(tmp_path / "none.keras")])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(lipnb.__main__.__file__, run_name="__main__")
    assert stop.value.code == 2
    assert "no such file" in capsys.readouterr().err


def test_a_reader_that_stops_reading_sees_no_traceback(tmp_path):
    saved(tmp_path / "m.keras", layers.Dense(2))
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "lipnb", "bound", str(tmp_path / "m.keras")]
    result = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert result.returncode == 0
    assert "Traceback" not in result.stderr
    assert "BrokenPipe" not in result.stderr
