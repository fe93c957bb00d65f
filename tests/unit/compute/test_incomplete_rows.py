"""Written rows that a new version cannot take: what plan, runs and status say of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import headwater as hw
from headwater.offline.log.log import OfflineLog
from tests.unit.compute.conftest import T0

LOT = hw.Entity("lot", {"lot": hw.Int64})
COUNT, NOTE = hw.Feature("count", hw.Int64, default=0), hw.Feature("note", hw.String)


def turns(*features: hw.Feature, version: str | None = None, source: Any = None) -> hw.FeatureView:
    source = source or hw.PushSource(event_time="at")
    return hw.FeatureView("turns", entity=LOT, source=source, features=[COUNT, *features], version=version)


def row(lot: int, **more: Any) -> dict[str, Any]:
    return {"lot": lot, "at": T0 - timedelta(hours=1), "count": lot, **more}


@pytest.fixture
def store(tmp_path: Path) -> Any:
    (tmp_path / "headwater.toml").write_text('project = "lots"\n')
    with hw.FeatureStore(tmp_path, clock=lambda: T0) as store:
        store.apply([LOT, turns()])
        yield store


@pytest.mark.parametrize("compacted", [False, True])
def test_plan_apply_the_run_and_status_say_which_rows_a_version_leaves_out(store: Any, compacted: bool) -> None:
    store.write("turns", [row(1), row(2)])
    if compacted:
        store.materialize()
    plan = store.plan([LOT, turns(NOTE)])
    (line,) = plan.warnings
    assert line.startswith("turns 1.1.0: 2 of 2 earlier writes do not have the column 'note'")
    assert "NOT_FOUND" in line and "NULL is a value" in line and "version='1.1.0'" in line
    assert line in str(plan) and plan.to_dict()["warnings"] == [line]
    assert store.apply([LOT, turns(NOTE)]).warnings == (line,)
    store.write("turns", [row(3, note="late")])
    found = {version.version: version.skipped for version in store.status().versions}
    assert found == {"1.0.0": 0, "1.1.0": 2}
    run = store.materialize()["turns@1.1.0"]
    assert (run.live, run.skipped, run.skipped_columns) == (True, 2, ("note",))
    assert run.skipped_rows == "2 written rows do not have the column 'note', and have no value in this version"
    (line,) = run.warnings
    assert line.startswith("turns@1.1.0 is live, and 2 of 3 earlier writes do not have the column 'note'")
    assert store.get_online_features(["turns:count"], [1, 2, 3]).to_dict()["count"] == [0, 0, 3]
    store.rollback("turns")
    assert store.get_online_features(["turns:count"], [1, 2, 3]).to_dict()["count"] == [1, 2, 3]


def test_a_version_with_a_number_of_its_own_waits_and_needs_none(store: Any) -> None:
    store.write("turns", [row(1)])
    (line,) = store.plan([LOT, turns(NOTE, version="1.1.0")]).warnings
    assert "1 of 1 earlier writes" in line and "version=" not in line


def test_nothing_is_said_where_nothing_is_lost(store: Any) -> None:
    assert store.plan([LOT, turns(NOTE)]).warnings == (), "nothing was written"
    store.write("turns", [row(1)])
    assert store.plan([LOT, turns()]).warnings == ()
    more = hw.Feature("again", hw.Int64, column="count")
    assert store.plan([LOT, turns(more)]).warnings == (), "of a column that rows have"


def test_rows_that_the_live_version_leaves_out_already_are_not_said_again(store: Any) -> None:
    store.write("turns", [row(1)])
    store.apply([LOT, turns(NOTE)])
    store.materialize()
    store.write("turns", [row(2, note="a")])
    place = hw.Feature("place", hw.String)
    (line,) = store.plan([LOT, turns(NOTE, place)]).warnings
    assert "1 of 2 earlier writes do not have the column 'place'" in line


@pytest.mark.parametrize("compacted", [False, True])
def test_rows_written_before_a_view_had_ends_are_open_and_plan_says_so(store: Any, compacted: bool) -> None:
    ends = hw.PushSource(valid_from="at", valid_to="until")
    assert store.plan([LOT, turns(source=ends)]).warnings == (), "nothing was written"
    store.write("turns", [row(1), row(2)])
    if compacted:
        store.materialize()
    (line,) = store.plan([LOT, turns(source=ends)]).warnings
    assert line.startswith(
        "turns 2.0.0: 2 of 2 earlier writes do not have the column 'until': in this version they have"
    )
    assert "write those rows again with the column 'until'" in line and "version='2.0.0'" in line
    (line,) = store.plan([LOT, turns(source=ends, version="2.0.0")]).warnings
    assert "version=" not in line
    store.apply([LOT, turns(source=ends)])
    store.write("turns", [row(2, until=T0 - timedelta(minutes=30))])
    store.materialize()
    assert store.get_online_features(["turns:count"], [1, 2]).to_dict()["count"] == [1, 0]
    assert store.plan([LOT, turns(source=ends)]).warnings == (), "it is said of a change"
    (line,) = store.plan([LOT, turns(NOTE, source=ends)]).warnings
    assert "the column 'note'" in line and "until" not in line


def test_rows_given_to_a_view_with_files_count_too(tmp_path: Path) -> None:
    source = hw.TableSource([row(1, note="a"), row(2, note="b")], event_time="at")
    store = hw.FeatureStore.in_memory([LOT, turns(source=source)], clock=lambda: T0)
    store.materialize()
    store.write("turns", [row(2)])
    (line,) = store.plan([LOT, turns(NOTE, source=source)]).warnings
    assert "1 of 1 earlier writes do not have the column 'note'" in line


def test_where_the_log_cannot_tell_it_is_said_that_there_may_be_some(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(self: OfflineLog, view: str) -> Any:
        raise hw.StoreError("gone")

    store.write("turns", [row(1)])
    monkeypatch.setattr(OfflineLog, "rows_by_schema", unreadable)
    (line,) = store.plan([LOT, turns(NOTE)]).warnings
    assert line.startswith("turns 1.1.0: earlier writes may not have the column 'note'")


def test_what_somebody_writes_meanwhile_makes_no_other_plan(store: Any) -> None:
    store.write("turns", [row(1)])
    plan = store.plan([LOT, turns(NOTE)])
    store.write("turns", [row(2)])
    assert replace(store.plan([LOT, turns(NOTE)]), warnings=()) == replace(plan, warnings=())
    assert store.apply(plan).stages == plan.stages


@pytest.mark.parametrize(("event_id", "again"), [(None, "count twice"), ("id", "the same event_id")])
def test_of_windows_it_says_that_events_are_not_counted(store: Any, event_id: str | None, again: str) -> None:
    source = hw.PushSource(event_time="at", event_id=event_id, schema={"x": hw.Int64, "y": hw.Int64, "id": hw.String})

    def sums(*columns: str) -> hw.FeatureView:
        return hw.FeatureView(
            "sums", entity=LOT, source=source, features=[hw.Aggregation(c, "sum", None) for c in columns]
        )

    store.apply([sums("x")])
    store.write("sums", [{"lot": 1, "at": T0 - timedelta(hours=1), "x": 1, "y": 2, "id": "a"}])
    (line,) = store.plan([sums("x", "y")]).warnings
    assert "its windows do not count them" in line and again in line and "NOT_FOUND" not in line
