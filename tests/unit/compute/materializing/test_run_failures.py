"""A version that fails is noted with its error, the others go on and go live, and the call says so in the end."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import headwater as hw
from headwater.compute.materializing.run import Run
from headwater.errors import ClockError, HeadwaterError, SourceError, StoreError, Unavailable

T0 = datetime(2026, 6, 1, tzinfo=UTC)
USER = hw.Entity("user", join_keys={"user": hw.Int64})
NAMES = ("bills", "clicks", "visits")


def view(name: str, *more: hw.Feature) -> hw.FeatureView:
    features = [hw.Feature("x", hw.Int64), *more]
    return hw.FeatureView(name, entity=USER, source=hw.PushSource(event_time="at"), features=features)


class Project:
    """Three views with a row of user 1 in the log each; runs of some versions fail."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.now = T0
        self.bad: dict[str, BaseException] = {}
        self.store = hw.FeatureStore(folder, clock=lambda: self.now)
        self.store.apply([USER, *map(view, NAMES)])
        for name in NAMES:
            self.store.write(name, [{"user": 1, "at": T0, "x": 7}], to="offline")
        before = Run._put_changes

        def put(run: Run, *arguments: Any) -> None:
            for name in (run.view.name, f"{run.view.name}@{run.view.version}"):
                if name in self.bad:
                    raise self.bad[name]
            before(run, *arguments)

        patch.setattr(Run, "_put_changes", put)

    def online(self) -> dict[str, object]:
        return {n: self.store.get_online_features([f"{n}:x"], [1]).to_dict()["x"][0] for n in NAMES}

    def materialize(self) -> HeadwaterError:
        self.now += timedelta(minutes=1)
        with pytest.raises(HeadwaterError) as caught:
            self.store.materialize()
        return caught.value


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    found = Project(tmp_path, monkeypatch)
    yield found
    found.store.close()


@pytest.mark.parametrize(
    ("bad", "raised"),
    [
        (SourceError("clicks: the file is gone"), SourceError),
        (StoreError("the row is odd"), StoreError),
        (Unavailable("materialize clicks@1.0.0: blocked for longer than its lease; run it again"), Unavailable),
        (ValueError("a fault\nof two lines"), StoreError),
        (MemoryError(), StoreError),
    ],
)
def test_one_that_fails_keeps_no_other(project: Project, bad: Exception, raised: type[HeadwaterError]) -> None:
    project.bad = {"clicks": bad}
    error = project.materialize()
    assert type(error) is raised and project.online() == {"bills": 7, "clicks": None, "visits": 7}
    assert error is bad or error.__cause__ is bad
    report = error.report
    assert [bool(run.error) for run in report.runs] == [False, True, False]
    assert [run.view for run in report.failed] == ["clicks"] and report["visits"].applied == 1
    assert error.__notes__[-2].endswith("once that is fixed, run:")
    assert error.__notes__[-1] == "  headwater materialize clicks"
    found = project.store.status()
    (version,) = [v for v in found.versions if v.view == "clicks"]
    assert version.failed_at == project.now and version.error == report["clicks"].error and "\n" not in version.error
    assert [w for w in found.warnings if version.error in w and "headwater materialize clicks" in w]
    assert "failed" in str(report)


def test_a_run_that_ends_well_takes_the_note_away(project: Project) -> None:
    project.bad = {"clicks": ValueError("x" * 5_000), "visits": SourceError("gone")}
    error = project.materialize()
    assert type(error) is StoreError and "clicks@1.0.0" in str(error) and "visits@1.0.0" in str(error)
    assert [v.view for v in project.store.status().versions if v.error] == ["clicks", "visits"]
    project.bad = {}
    project.store.materialize("clicks", end=project.now)
    assert [v.view for v in project.store.status().versions if v.error] == ["clicks", "visits"]
    assert not project.store.materialize("clicks").failed
    assert [v.view for v in project.store.status().versions if v.error] == ["visits"]
    project.store.materialize()
    found = project.store.status()
    assert not [v for v in found.versions if v.error] and project.online() == dict.fromkeys(NAMES, 7)


def test_the_other_versions_go_live(project: Project) -> None:
    project.store.materialize()
    more = hw.Feature("y", hw.Int64, default=0)
    project.store.apply([view("bills", more), view("clicks", more), view("visits", more)])
    project.bad = {"clicks@1.1.0": ValueError("odd")}
    error = project.materialize()
    assert {r.view: r.version for r in error.report.runs if r.live} == {"bills": "1.1.0", "visits": "1.1.0"}
    views = project.store.registry.refresh().views
    assert {name: views[name].live for name in NAMES} == {"bills": "1.1.0", "clicks": "1.0.0", "visits": "1.1.0"}


def test_a_live_version_that_fails_leaves_the_one_beside_it_its_run(project: Project) -> None:
    project.store.materialize()
    project.store.apply([view("clicks", hw.Feature("y", hw.Int64))])
    project.bad = {"clicks@1.0.0": ValueError("odd")}
    error = project.materialize()
    assert [r.version for r in error.report.runs if r.view == "clicks" and r.error] == ["1.0.0"]


def test_a_store_that_cannot_be_reached_ends_the_run(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.bad = {"bills": Unavailable("no answer")}
    store = project.store.context.online

    def silent(keys: object, **more: object) -> None:
        raise Unavailable("no answer")

    before = Run._put_changes

    def put(run: Run, *arguments: Any) -> None:
        monkeypatch.setattr(store, "multi_get", silent)
        before(run, *arguments)

    monkeypatch.setattr(Run, "_put_changes", put)
    error = project.materialize()
    assert str(error) == "no answer" and [run.view for run in error.report.runs] == ["bills"]


def test_what_fails_for_all_ends_the_run(project: Project) -> None:
    project.bad = {"bills": ClockError("far ahead")}
    error = project.materialize()
    assert type(error) is ClockError and [run.view for run in error.report.runs] == ["bills"]
    assert not [v for v in project.store.status().versions if v.error]


@pytest.mark.parametrize("bad", [KeyboardInterrupt(), SystemExit(3)])
def test_an_interruption_ends_it_at_once(project: Project, bad: BaseException) -> None:
    project.bad = {"bills": bad}
    with pytest.raises(type(bad)):
        project.store.materialize()
    assert project.online() == dict.fromkeys(NAMES)


@pytest.mark.parametrize("step", ["roll", "erase"])
def test_what_fails_beside_the_runs_keeps_nothing_up(
    project: Project, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    log = project.store.context.log
    before = getattr(log, "roll" if step == "roll" else "purges_to_erase")

    def fails(names: object, *more: object) -> Any:
        if "clicks" in (names if isinstance(names, list) else [names]):
            raise ValueError("odd")
        return before(names, *more)

    monkeypatch.setattr(log, "roll" if step == "roll" else "purges_to_erase", fails)
    error = project.materialize()
    assert list(error.report.problems) == ["clicks"] and not error.report.failed
    assert project.online() == dict.fromkeys(NAMES, 7) and "materialize clicks" in error.__notes__[-1]


def test_the_note_of_an_error_goes_with_what_was_purged(project: Project) -> None:
    project.bad = {"clicks": ValueError("user 1: odd")}
    project.materialize()
    project.store.delete("clicks", [1], purge=True)
    project.now += timedelta(hours=1)
    project.bad = {}
    project.store.context.failures.note("clicks", "0.9.0", project.now, "user 1: odd")
    project.store.materialize()
    assert project.store.context.failures.all() == []
