"""The interactive figures compute what NumPy computes, by mouse and by keyboard, and ask nobody for anything."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from lipnb.convolutions import conv_norm
from lipnb.lab import interactive
from lipnb.lab.linear_algebra import iterates

MOST = 40


@pytest.fixture
def page(browser, tmp_path):
    """Power iteration alone on a page; ``page.seen`` collects requests and errors."""
    yield from _opened(browser, tmp_path, interactive.power_iteration_html("fig"))


@pytest.fixture
def conv_page(browser, tmp_path):
    """The norm of a convolution alone on a page."""
    yield from _opened(browser, tmp_path, interactive.conv_norm_html("fig"))


@pytest.fixture
def critic_page(browser, tmp_path):
    """A critic of two samples alone on a page."""
    yield from _opened(browser, tmp_path, interactive.critic_html("fig"))


def _opened(browser, tmp_path, html):
    file = tmp_path / "figure.html"
    file.write_text(f'<!doctype html><meta charset="utf-8"><body>{html}</body>', encoding="utf-8")
    opened = browser.new_page(viewport={"width": 390, "height": 900})
    opened.seen = []
    opened.on("request", lambda request: opened.seen.append(request.url))
    opened.on("pageerror", lambda error: opened.seen.append(str(error)))
    opened.goto(file.as_uri())
    yield opened
    opened.close()


def _expected(ratio, degrees, rounds):
    """Share of the norm and angle to the axis, in the basis of the singular vectors."""
    start = np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))])
    w = np.diag([1.0, ratio])
    u = iterates(w, start, rounds)[-1]
    return np.linalg.norm(w @ u), np.degrees(np.arctan2(abs(u[1]), abs(u[0])))


def _shown(page):
    root = page.locator("#fig")
    return float(root.get_attribute("data-estimate")), float(root.get_attribute("data-degrees"))


FIGURES = [interactive.power_iteration_html, interactive.conv_norm_html, interactive.critic_html]


@pytest.mark.parametrize("make", FIGURES)
def test_html_is_self_contained(make):
    html = make("fig")
    assert "://" not in html
    assert "__" not in html
    assert 'id="fig"' in html


@pytest.mark.parametrize("identifier", ["", "Fig", "a b", '"><script>', "1a"])
def test_identifier_must_be_plain(identifier):
    for make in FIGURES:
        with pytest.raises(ValueError, match="Received"):
            make(identifier)


@pytest.mark.parametrize(
    "setting", [(0.8, 80, 4), (0.5, 30, 10), (1.0, 70, 9), (0.0, 60, 1), (0.97, 120, 40)]
)
def test_sliders_give_what_numpy_gives(page, setting):
    for name, value in zip(("gap", "start", "rounds"), setting, strict=True):
        page.fill(f"#fig-{name}", str(value))
    np.testing.assert_allclose(_shown(page), _expected(*setting), rtol=1e-9, atol=1e-7)
    assert f"{_shown(page)[0]:.6f}" in page.inner_text("#fig .readout")


def test_keyboard_moves_the_sliders(page):
    page.focus("#fig-rounds")
    page.keyboard.press("ArrowRight")
    np.testing.assert_allclose(_shown(page), _expected(0.8, 80, 5), rtol=1e-9)
    page.focus("#fig-start")
    page.keyboard.press("Home")
    assert _shown(page)[1] == pytest.approx(0, abs=1e-6)


def test_play_goes_to_the_last_round_and_pauses(page):
    page.fill("#fig-rounds", str(MOST - 1))
    page.click("#fig [data-play]")
    assert page.inner_text("#fig [data-play]") == "Pause"
    page.wait_for_function("document.querySelector('#fig [data-play]').textContent === 'Play'")
    assert page.input_value("#fig-rounds") == str(MOST)


def test_right_angle_sits_on_the_second_singular_value(page):
    page.click("#fig [data-orthogonal]")
    assert _shown(page)[0] == pytest.approx(0.8, rel=1e-12)


def test_every_control_has_a_label_and_nothing_scrolls_sideways(page):
    labels = page.eval_on_selector_all("#fig input", "inputs => inputs.map(i => i.labels.length)")
    assert labels == [1, 1, 1]
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_no_request_but_the_page_and_no_error(page):
    page.fill("#fig-gap", "0.3")
    assert len(page.seen) == 1
    assert page.seen[0].startswith("file:")


# The norm of a convolution -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "setting", [(0, 3, 1), (1, 5, 1), (0.4, 7, 2), (0.8, 4, 3), (0.5, 1, 1), (0.3, 2, 7)]
)
def test_convolutions_norm_is_lipnbs(conv_page, setting):
    share, size, stride = setting
    for name, value in zip(("share", "size", "stride"), setting, strict=True):
        conv_page.fill(f"#fig-{name}", str(value))
    root = conv_page.locator("#fig")
    taps = np.array(json.loads(root.get_attribute("data-kernel")), float).reshape(size, size, 1, 1)
    shown, bound = (float(root.get_attribute(f"data-{name}")) for name in ("ratio", "bound"))
    assert np.linalg.norm(taps) == pytest.approx(1, rel=1e-12)
    assert shown == pytest.approx(conv_norm(taps, (16, 16, 1), stride), rel=1e-5)
    assert bound == math.ceil(size / stride)
    assert 1 - 1e-9 <= shown <= bound + 1e-9
    assert f"{shown:.4f}" in conv_page.inner_text("#fig .readout")
    assert np.allclose(taps, taps[0, 0]) is (share == 0 or size == 1)


def test_convolutions_button_and_keyboard_change_the_kernel(conv_page):
    root = conv_page.locator("#fig")
    before = root.get_attribute("data-kernel")
    conv_page.click("#fig [data-next]")
    random = root.get_attribute("data-kernel")
    conv_page.focus("#fig-size")
    conv_page.keyboard.press("ArrowRight")
    assert len({before, random, root.get_attribute("data-kernel")}) == 3
    assert conv_page.inner_text("#fig [data-for=size]") == "4×4"


def test_convolutions_controls_have_labels_fit_a_phone_and_ask_for_nothing(conv_page):
    labels = conv_page.eval_on_selector_all("#fig input", "inputs => inputs.map(i => i.labels.length)")
    assert labels == [1, 1, 1]
    assert conv_page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert len(conv_page.seen) == 1
    assert conv_page.seen[0].startswith("file:")


# The critic ------------------------------------------------------------------------------------------------


def _weights():
    """Points and weights of the real and of the generated sample, read from the figure."""
    html = interactive.critic_html("fig")
    return [
        np.array(json.loads(html.split(f"{name} = ")[1].split("]")[0] + "]")) for name in ("REAL", "FAKE")
    ]


def _critic(page):
    root = page.locator("#fig")
    return tuple(float(root.get_attribute(f"data-{name}")) for name in ("value", "constant", "distance"))


def test_the_critics_value_and_the_distance_are_scipys(critic_page):
    real, fake = _weights()
    points = np.arange(len(real))
    slopes = [-1.5, 0.4, 4.0, 0.0, -0.3]
    for k, slope in enumerate(slopes):
        critic_page.fill(f"#fig-slope{k}", str(slope))
    f = np.concatenate([[0], np.cumsum(slopes)])
    value, constant, distance = _critic(critic_page)
    np.testing.assert_allclose([value, constant], [(real - fake) @ f, 4.0], rtol=1e-12)
    assert distance == pytest.approx(wasserstein_distance(points, points, real, fake), rel=1e-12)
    assert value / constant < distance
    assert "Not yet the best." in critic_page.inner_text("#fig .readout")


def test_the_best_critic_attains_the_distance_and_doubling_doubles(critic_page):
    critic_page.click("#fig [data-best]")
    value, constant, distance = _critic(critic_page)
    assert (value, constant) == (pytest.approx(distance, rel=1e-12), 1)
    assert "A best critic." in critic_page.inner_text("#fig .readout")
    critic_page.click("#fig [data-double]")
    assert _critic(critic_page)[:2] == (pytest.approx(2 * distance, rel=1e-12), 2)
    assert "too steep by a factor of 2.0" in critic_page.inner_text("#fig .readout")
    critic_page.click("#fig [data-flat]")
    assert _critic(critic_page)[:2] == (0, 0)


def test_the_critics_controls_have_labels_and_nothing_scrolls_sideways_or_is_asked_for(critic_page):
    labels = critic_page.eval_on_selector_all("#fig input", "inputs => inputs.map(i => i.labels.length)")
    assert labels == [1] * 5
    assert critic_page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert len(critic_page.seen) == 1
