"""A saved model with lipnb's classes loads in a new process, whichever of Keras and lipnb is imported first."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest
from keras import layers

from lipnb.constraints import SpectralClip
from lipnb.regularizers import SpectralNormPenalty
from lipnb.reparam import SpectralNormalization

# Keras 3.15 on TensorFlow with NumPy 2 warns whenever it saves a variable.
pytestmark = [
    pytest.mark.once,
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
    ),
]
LOAD = "print(len(keras.models.load_model(path, compile=False).layers))"
SCRIPTS = {
    "keras first": f"import keras; import lipnb; {LOAD}",
    "lipnb first, and used": f"import lipnb; import keras; lipnb.spectral_norm; {LOAD}",
    "the command": "from lipnb.__main__ import main; main(['bound', path])",
}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    clipped = layers.Dense(
        3, kernel_constraint=SpectralClip(1.0), kernel_regularizer=SpectralNormPenalty(0.1)
    )
    keras.Sequential([keras.Input((4,)), SpectralNormalization(layers.Dense(3)), clipped]).save(path)
    return path


def run(code, path=None):
    """In a new process, on the backend that starts in the least time."""
    return subprocess.run(
        [sys.executable, "-c", f"path = {str(path)!r}; {code}"],
        env={**os.environ, "KERAS_BACKEND": "numpy"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("order", SCRIPTS)
def test_a_saved_model_loads(order, path):
    done = run(SCRIPTS[order], path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "2" or "at most" in done.stdout


def test_keras_is_not_loaded_for_nothing():
    """Importing lipnb takes no time that the tools of the lab would notice."""
    assert (
        run("import sys, lipnb; assert 'keras' not in sys.modules; print(lipnb.__version__)").returncode == 0
    )
