"""A chapter reads this machine's runs; recorded ones stand in where it has made none, and that is said."""

from __future__ import annotations

import pytest

from lipnb.lab import paths, records, sources, verdicts

pytestmark = pytest.mark.lab


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Recorded ``cpu`` runs of the experiments a and b."""
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(paths, "RECORDED", tmp_path / "book" / "results")
    for experiment in "ab":
        records.write(paths.runs("cpu") / experiment, "x", {})


def make(profile: str, *experiments: str) -> None:
    for experiment in experiments:
        records.write(paths.runs(profile, fresh=True) / experiment, "x", {})


def test_the_recorded_ones_are_read_where_they_are_asked_for(project, capsys):
    make("cpu", "a", "b")
    source = sources.choose("cpu", "a", "b", fresh=False)
    assert source == sources.Source(paths.runs("cpu"), "cpu")
    source.say()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("profile", ["smoke", "cpu", "gpu"])
def test_own_runs_are_read_once_every_experiment_has_some(project, profile):
    make(profile, "a")
    assert sources.choose(profile, "a", fresh=True).folder == paths.runs(profile, fresh=True)
    assert sources.choose(profile, "a", "b", fresh=True).folder == paths.runs("cpu")
    make(profile, "b")
    source = sources.choose(profile, "a", "b", fresh=True)
    assert source == sources.Source(paths.runs(profile, fresh=True), profile)


def test_what_stands_in_is_said_in_the_chapter_and_in_the_verdict(project, capsys):
    source = sources.choose("smoke", "a", "b", fresh=True)
    assert source.profile == "cpu (recorded)"
    source.say()
    assert "HTML" in capsys.readouterr().out
    assert "recorded ones of the cpu profile" in source.note
    verdict = verdicts.experiment(
        "G7", True, rule="r", summary="s", scale="small", profile=source.profile, runs=["x"]
    )
    assert sources.stands_in(vars(verdict))
    assert "small; profile cpu (recorded)" in verdict._repr_html_()


def test_the_same_profile_s_recorded_runs_come_first(project):
    records.write(paths.runs("gpu") / "a", "x", {})
    assert sources.choose("gpu", "a", fresh=True).profile == "gpu (recorded)"
    assert sources.choose("gpu", "a", "b", fresh=True).profile == "cpu (recorded)"


@pytest.mark.parametrize(
    ("profile", "experiment"), [("cpu", "nowhere"), ("smoke", "nowhere"), ("cpu-images", "a")]
)
def test_nothing_stands_in_where_nothing_is_recorded_or_on_other_images(project, profile, experiment):
    source = sources.choose(profile, experiment, fresh=True)
    assert source == sources.Source(paths.runs(profile, fresh=True), profile)


def test_other_verdicts_stand_on_their_own():
    assert not sources.stands_in({"profile": "cpu"})
    assert not sources.stands_in({"verdict": "open"})
