"""What the Keras chapter rests on (claims I1, I2, I3, I4, I6)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lipnb
from lipnb.autodiff import value_and_grad
from lipnb.lab import keras_checks, keras_figures, keras_reports, paths
from lipnb.lab.keras_checks import DivideBySpectralNorm, finite_differences
from lipnb.lab.linear_algebra import agree, random_svd
from lipnb.lab.reparametrisation import METHODS, chain_rule, clip, close, descend, divide, normalise_batch

pytestmark = pytest.mark.lab
QUICK = settings(max_examples=30, deadline=None, derandomize=True)
UPSTREAM = Path(keras_reports.__file__).parent / "upstream"
EVERYWHERE = ["keras_two_kernels", "keras_frozen", "keras_depthwise", "keras_half_precision"]
RECORDED = {path.stem: json.loads(path.read_text()) for path in keras_reports.FOLDER.glob("*.json")}


def test_i1_constraint_divides_after_the_update_and_not_before():
    layer = keras.layers.Dense(3, use_bias=False, kernel_constraint=DivideBySpectralNorm())
    layer.build((None, 4))
    layer.kernel.assign(3 * keras_checks.W)
    optimizer = keras.optimizers.SGD(0.0)
    assert np.linalg.norm(layer.kernel, 2) == pytest.approx(3, rel=1e-6)
    optimizer.apply([np.zeros((4, 3), "float32")], [layer.kernel])
    assert np.linalg.norm(layer.kernel, 2) == pytest.approx(1, rel=1e-3)


@QUICK
@given(st.floats(0.1, 10), st.floats(0, 0.9), st.integers(0, 99))
def test_i2_gradient_is_that_of_the_reparametrisation(sigma, ratio, seed):
    w = random_svd([sigma, ratio * sigma, 0.5 * ratio * sigma], 5, 4, seed)[0]
    target = np.random.default_rng(seed).standard_normal((5, 4))
    g = divide(w) - target
    numeric = finite_differences(lambda x: np.sum((x / np.linalg.norm(x, 2) - target) ** 2) / 2, w)
    # Differences move σ by their step: the smaller σ and the gap, the less exact they are.
    assert np.linalg.norm(chain_rule(g, w) - numeric) <= 1e-7 * np.linalg.norm(g) / sigma / (1 - ratio)
    assert abs(np.sum(chain_rule(g, w) * w)) <= 1e-13 * np.linalg.norm(g)


def test_i2_closeness_can_fail():
    assert close(np.ones(3), np.ones(3) + 1e-9)
    assert not close(np.ones(3), np.ones(3) + 1e-7)


@QUICK
@given(st.integers(0, 99), st.floats(0.01, 0.5))
def test_i2_each_method_rests_where_the_theorem_says(seed, rate):
    v = random_svd([2.5, 0.9, 0.4], 4, 3, seed)[0]
    gradient = lambda w: w - v  # noqa: E731
    assert agree(METHODS["divide"](divide(v), gradient, rate), divide(v), 100)
    assert agree(METHODS["clip"](clip(v), gradient, rate), clip(v), 100)
    assert agree(METHODS["reparametrise"](clip(v), gradient, rate), clip(v), 100)
    for method in ("clip", "reparametrise"):  # a resting point of the division is none of theirs
        assert not agree(METHODS[method](divide(v), gradient, rate), divide(v), 10_000)


@QUICK
@given(st.integers(0, 999))
def test_i2_clip_is_the_nearest_point_of_the_ball(seed):
    rng = np.random.default_rng(seed)
    w, other = 2 * rng.standard_normal((4, 3)), rng.standard_normal((4, 3))
    other /= max(1, np.linalg.norm(other, 2))
    assert np.linalg.norm(clip(w), 2) <= 1 + 1e-14
    assert np.linalg.norm(w - clip(w)) <= np.linalg.norm(w - other)


def test_i2_paths_stay_at_norm_one_and_end_where_they_should():
    goal, start = np.diag([2.0, 0.9]), np.diag([0.2, -1.0])
    ends = {method: descend(method, lambda w: w - goal, start, 0.05, 400) for method in METHODS}
    assert all(np.max(np.linalg.norm(path, 2, axis=(1, 2))) <= 1 + 1e-12 for path in ends.values())
    np.testing.assert_allclose(ends["divide"][-1], goal / 2, atol=1e-12)
    np.testing.assert_allclose(ends["clip"][-1], np.diag([1.0, 0.9]), atol=1e-7)
    np.testing.assert_allclose(ends["reparametrise"][-1], np.diag([1.0, 0.9]), atol=1e-7)


def gradient_of_dense(hold):
    """Slope of ½‖f(X) − Y‖² in the kernel of a dense layer, 3W, where f = hold(layer)."""
    layer = keras.layers.Dense(3, use_bias=False, kernel_constraint=DivideBySpectralNorm())
    layer.build((None, 4))
    layer.kernel.assign(3 * keras_checks.W)
    x, y = (keras.ops.convert_to_tensor(a, "float32") for a in (keras_checks.X, keras_checks.Y))
    f = hold(layer)
    _, (slope,) = value_and_grad(lambda: keras.ops.sum((f(x) - y) ** 2) / 2, [layer.kernel])
    return np.asarray(slope)


def test_i3_a_kernel_divided_once_gets_no_gradient_and_one_divided_at_each_call_gets_the_true_one():
    def once(layer):  # what a patched add_weight returns: the value of that moment
        kernel = layer.kernel_constraint(layer.kernel)
        return lambda x: x @ kernel

    def at_each_call(layer):
        def call(x):
            kernel = layer.kernel_constraint(layer.kernel)
            with keras.StatelessScope(state_mapping=[(layer.kernel, kernel)]):
                return layer(x)

        return call

    exact = keras_checks.reparametrised_gradient(3 * keras_checks.W)
    assert np.all(gradient_of_dense(once) == 0)
    # The constraint's five rounds leave (σ₂/σ₁)^10 of σ's error.
    np.testing.assert_allclose(gradient_of_dense(at_each_call), exact, atol=0.5**10 * np.linalg.norm(exact))


def test_exercise_gradient_by_hand():
    w = np.diag([2.0, 1.0])
    np.testing.assert_allclose(
        chain_rule(divide(w) - np.diag([3.0, 0.0]), w), np.diag([-1 / 8, 1 / 4]), atol=1e-15
    )


def test_i4_keras_misses_sigma_on_tensorflow_and_lipnb_does_not():
    exact = keras_checks.reparametrised_gradient()
    np.testing.assert_allclose(
        keras_checks.dense_gradient("keras"), keras_checks.dense_gradient(None), atol=1e-5
    )
    assert np.linalg.norm(keras_checks.dense_gradient("keras") - exact) > 0.1 * np.linalg.norm(exact)
    assert np.linalg.norm(keras_checks.dense_gradient("lipnb") - exact) < 1e-5 * np.linalg.norm(exact)


@pytest.mark.parametrize("check", keras_checks.CHECKS, ids=lambda check: check.__name__)
def test_i4_lipnb_passes_every_check_and_most_can_fail(check):
    assert check("lipnb")[1]
    assert check("keras")[1] == (check.__name__ in ("from_zero", "saved"))


@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_i4_recorded_reports_hold_every_check(backend):
    report = RECORDED[backend]
    rows = {(row["check"], row["wrapper"]): row for row in report["checks"]}
    assert {check.__name__ for check in keras_checks.CHECKS} == {check for check, _ in rows}
    assert all(row["passed"] for (_, wrapper), row in rows.items() if wrapper == "lipnb")
    assert rows["gradient", "keras"]["passed"] == (backend == "jax")
    np.testing.assert_allclose(
        report["gradients"]["lipnb"], keras_checks.reparametrised_gradient().ravel(), atol=1e-5
    )


def test_i4_recorded_tensorflow_report_is_what_this_machine_finds():
    recorded = {(r["check"], r["wrapper"]): r for r in RECORDED["tensorflow"]["checks"]}
    for check in (keras_checks.gradient, keras_checks.frozen, keras_checks.training):
        assert check("keras")[0] == pytest.approx(recorded[check.__name__, "keras"]["number"], rel=1e-3)


def run_upstream(name: str, wrapper: str) -> None:
    source = (UPSTREAM / f"{name}.py").read_text().replace("keras.layers.SpectralNormalization", wrapper)
    exec(compile(source, name, "exec"), {"lipnb": lipnb})


@pytest.mark.parametrize("name", ["keras_gradient", *EVERYWHERE])
def test_i4_scripts_for_upstream_fail_with_keras_and_pass_with_lipnb(name):
    with pytest.raises(AssertionError):
        run_upstream(name, "keras.layers.SpectralNormalization")
    run_upstream(name, "lipnb.SpectralNormalization")


@pytest.mark.slow
def test_i4_scripts_for_upstream_on_jax():
    pytest.importorskip("jax")
    script = (
        "import sys; sys.path.insert(0, 'tests/chapters'); import test_keras_layers as t\n"
        "for name in ['keras_inference_jax', *t.EVERYWHERE]:\n"
        "    t.run_upstream(name, 'lipnb.SpectralNormalization')\n"
        "    try: t.run_upstream(name, 'keras.layers.SpectralNormalization')\n"
        "    except AssertionError: continue\n"
        "    sys.exit(name)\n"
    )
    settings = {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | settings,
        cwd=paths.ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_i4_every_script_is_short_and_says_what_it_shows():
    for name, text in keras_reports.Scripts().texts().items():
        assert text.startswith('"""'), name
        assert len(text.splitlines()) <= 25, name
    shown = keras_reports.Scripts()._repr_html_()
    assert shown.count("<details") == len(list(UPSTREAM.glob("*.py")))


def test_a_backend_that_is_not_installed_is_shown_as_recorded():
    pending = keras_reports.start("no_such_backend")
    assert pending.process is None
    with pytest.raises(OSError, match="no_such_backend"):
        pending.report()
    assert keras_reports.recorded("torch")["live"] is False


def test_a_failing_process_says_why():
    failing = subprocess.Popen(
        [sys.executable, "-c", "raise SystemExit('no luck')"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with pytest.raises(RuntimeError, match="no luck"):
        keras_reports.Pending("x", failing).report()


def test_the_table_tells_live_from_recorded_and_passes_from_failures():
    reports = {
        "tensorflow": RECORDED["tensorflow"] | {"live": True},
        "torch": keras_reports.recorded("torch"),
    }
    table = keras_reports.checks_table(reports, {"gradient": "Gradient", "one_kernel": "Two calls"})
    assert table.header == ["check", "keras, tensorflow", "keras, torch", "lipnb, tensorflow", "lipnb, torch"]
    assert "run here" in table.caption
    assert "recorded" in table.caption
    assert table.rows[1][2] == "✗ raises"
    assert table.rows[0][3].startswith("✓")


def test_i4_recorded_native_layers_do_not_recover_from_zero():
    assert RECORDED["torch_native"]["after_zero"] is None
    assert RECORDED["equinox_native"]["after_zero"] is None
    assert RECORDED["flax_native"]["after_zero"] == pytest.approx(3, rel=1e-5)
    rows = keras_reports.zero_table({"torch": RECORDED["torch"]}, [RECORDED["flax_native"]]).rows
    assert [row[1] for row in rows] == ["3.00", "1.00"]


@QUICK
@given(st.integers(3, 9), st.floats(0.1, 3), st.floats(1e-3, 0.1), st.integers(0, 99))
def test_i6_slope_of_batch_norm_in_training(n, gamma, epsilon, seed):
    x = np.random.default_rng(seed).standard_normal(n)
    y, jacobian = normalise_batch(x, gamma, epsilon)
    assert y.mean() == pytest.approx(0, abs=1e-14 * n)
    numeric = [
        finite_differences(lambda x, i=i: normalise_batch(x, gamma, epsilon)[0][i], x) for i in range(n)
    ]
    np.testing.assert_allclose(jacobian, numeric, atol=1e-6 * gamma / np.sqrt(epsilon))
    slope = gamma / np.sqrt(x.var() + epsilon)
    assert np.linalg.norm(jacobian, 2) == pytest.approx(slope, rel=1e-12)
    assert slope < gamma / np.sqrt(epsilon)


def test_i6_agrees_with_the_bound_of_the_library():
    layer = keras.layers.BatchNormalization()
    model = keras.Sequential([keras.Input((3,)), layer])
    gamma, variance = np.array([0.5, -2.0, 1.0]), np.array([0.04, 1.0, 9.0])
    layer.set_weights([gamma, np.zeros(3), np.zeros(3), variance])
    constant = np.max(np.abs(gamma) / np.sqrt(variance + layer.epsilon))
    assert float(lipnb.lipschitz_bound(model)) == pytest.approx(constant, rel=1e-5)


def test_figures_draw_what_the_reports_hold():
    reports = {b: RECORDED[b] for b in ("tensorflow", "torch", "jax")}
    figure = keras_figures.gradients(reports, keras_checks.reparametrised_gradient())
    drawn = {line.get_label(): line.get_ydata() for line in figure.axes[0].lines}
    np.testing.assert_array_equal(drawn["Keras's wrapper"], RECORDED["tensorflow"]["gradients"]["keras"])
    figure = keras_figures.two_behaviours(reports)
    assert [line.get_label() for line in figure.axes[0].lines] == ["TensorFlow", "PyTorch", "JAX"]
