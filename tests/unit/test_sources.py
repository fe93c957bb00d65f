"""Sources that change under their views: files that lack columns or are gone, cells that do not cast."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headwater as hw
from headwater.errors import ChangeRefused, DefinitionError, SourceError

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
USER = hw.Entity("user", join_keys={"user": hw.Int64})
X, Y = hw.Feature("x", hw.Float64), hw.Feature("y", hw.Float64, default=-1.0)


def view(source: hw.ParquetSource | hw.CSVSource, *features: hw.Feature, **other: Any) -> hw.FeatureView:
    return hw.FeatureView("v", entity=USER, source=source, features=features or (X, Y), **other)


def write(path: Path, **columns: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({name: [value] for name, value in columns.items()}), path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files of which the older one lacks y."""
    write(tmp_path / "data/1.parquet", user=1, at=NOON, x=1.0)
    write(tmp_path / "data/2.parquet", user=2, at=NOON, x=2.0, y=2.0)
    return tmp_path


def test_a_column_that_came_later_is_null_in_older_files_and_told(folder: Path) -> None:
    with hw.FeatureStore(folder, clock=lambda: NOON) as store:
        evolved = view(hw.ParquetSource("data", event_time="at"))
        plan = store.apply([evolved])
        said = f"column 'y' is missing in {folder}/data/1.parquet: NULL in their rows"
        assert len(plan.warnings) == 1 and plan.warnings[0].endswith(f"v.y: {said}")
        assert f"! {plan.warnings[0]}" in str(plan) and plan.to_dict()["warnings"] == list(plan.warnings)
        report = store.materialize()
        assert report.warnings == (f"v@1.0.0: {said}",) == report["v"].warnings
        spine = [{"user": user, "timestamp": NOON} for user in (1, 2, 3)]
        joined = store.get_historical_features(spine, ["v:y"]).to_arrow().column("y").to_pylist()
        served = store.get_online_features(["v:y"], [1, 2, 3]).to_dict()["y"]
        assert joined == served == [None, 2.0, -1.0]
        assert store.materialize(views=["v"]).warnings, "every run says so"


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_a_column_that_newer_files_name_otherwise_is_asked_for(tmp_path: Path, kind: str) -> None:
    def give(number: int, name: str) -> None:
        columns = {"user": number, "at": NOON, "x": 1.0, name: 2.0}
        path = tmp_path / f"data/{number}.{kind}"
        if kind == "parquet":
            return write(path, **columns)
        path.parent.mkdir(exist_ok=True)
        path.write_text(",".join(columns) + "\n" + ",".join(map(str, columns.values())) + "\n", encoding="utf-8")
        return None

    source = hw.ParquetSource("data", event_time="at") if kind == "parquet" else hw.CSVSource("data", event_time="at")
    evolved = view(source, X, hw.Feature("fat", hw.Float64, column="Fat %"))
    give(1, "Fat %")
    with hw.FeatureStore(tmp_path, clock=lambda: NOON) as store:
        assert store.apply([evolved]).warnings == store.materialize().warnings == ()
        give(2, "fat_pct")
        give(3, "fat_pct")
        hint = f"2.{kind} (which has 'fat_pct', unknown to files that have the column: was it renamed?) and 1 more"
        for found in (store.plan([evolved]).warnings, store.materialize().warnings):
            (line,) = found
            assert "column 'Fat %' is missing in" in line and hint in line
        (tmp_path / f"data/1.{kind}").unlink()
        with pytest.raises(DefinitionError, match=r"no column 'Fat %'.*did you mean 'fat_pct'\?"):
            store.plan([view(source, hw.Feature("fat", hw.Float64, column="Fat %"))])
        with pytest.raises(DefinitionError, match=r"was it renamed\? No feature uses 'fat_pct'"):
            store.plan([view(source, X, hw.Feature("fat", hw.Float64, column="Q"))])


def test_nothing_is_told_of_columns_that_nobody_reads(folder: Path) -> None:
    with hw.FeatureStore(folder, clock=lambda: NOON) as store:
        assert store.apply([view(hw.ParquetSource("data", event_time="at"), X)]).warnings == ()
        assert store.materialize().warnings == ()


@pytest.mark.parametrize(("lacking", "what"), [("at", "event_time"), ("user", "join key user")])
def test_every_file_has_the_keys_and_times(folder: Path, lacking: str, what: str) -> None:
    columns = {"user": 3, "at": NOON, "x": 3.0, "y": 3.0}
    del columns[lacking]
    evolved = view(hw.ParquetSource("data", event_time="at"))
    with hw.FeatureStore(folder, clock=lambda: NOON) as store:
        store.apply([evolved])
        write(folder / "data/3.parquet", **columns)
        with pytest.raises(DefinitionError, match=rf"v: {what}: column '{lacking}' is missing in .*3\.parquet; every"):
            store.plan([evolved])
        with pytest.raises(SourceError, match=rf"3\.parquet: no column '{lacking}'; every file"):
            store.materialize()


def test_a_source_out_of_reach_stops_only_what_is_new_or_changed(folder: Path) -> None:
    source = hw.ParquetSource("data/2.parquet", event_time="at")
    unchanged = view(source)
    with hw.FeatureStore(folder, clock=lambda: NOON) as store:
        store.apply([unchanged])
        (folder / "data/2.parquet").rename(folder / "away.parquet")
        plan = store.apply([unchanged])
        assert not plan and len(plan.warnings) == 1
        assert "feature view v is unchanged, but its source cannot be read: " in plan.warnings[0]
        assert "no file at" in plan.warnings[0] and repr(plan).endswith("no changes, 2 unchanged>")
        other = hw.FeatureView("w", entity=USER, source=hw.PushSource(event_time="at"), features=[X])
        assert [stage.name for stage in store.apply([unchanged, other]).stages] == ["w"]
        for changed in (view(source, X), view(source, description="new"), view(source, version="2.0.0")):
            with pytest.raises(DefinitionError, match="no file at"):
                store.plan([changed])
        again = hw.FeatureView("z", entity=USER, source=source, features=[X])
        with pytest.raises(DefinitionError, match=r"z: source: .*no file at"):
            store.plan([unchanged, again])


def test_every_bad_column_of_a_csv_is_named_with_its_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/1.csv").write_text("user,at,x,y\n1,2024-05-01,1.0,1\n2,2024-05-01,2.0,2\n")
    (tmp_path / "data/2.csv").write_text("user,at,x,y\n3,2024-05-01,3.0,3\n4,noon,4.0,4\nfive,2024-05-01,6,x\n")
    source = hw.CSVSource("data", event_time="at")
    with hw.FeatureStore.in_memory([view(source)], path=tmp_path, clock=lambda: NOON) as store:
        with pytest.raises(SourceError) as bad:
            store.materialize()
        second = tmp_path / "data/2.csv"
        for said in (
            f"{second}: line 3, column 'at': 'noon' is not a time",
            f"{second}: line 4, column 'user': 'five' is not int64",
            f"{second}: line 4, column 'y': 'x' is not float64",
        ):
            assert said in str(bad.value)
        assert str(bad.value).endswith("correct the values, or list them in nulls=(…)")


def test_a_service_that_reads_a_retired_version_says_what_to_read(folder: Path) -> None:
    def definitions(ttl: str) -> tuple[hw.FeatureView, hw.FeatureService]:
        made = dataclasses.replace(view(hw.ParquetSource("data", event_time="at"), X), ttl=ttl)
        return made, hw.FeatureService("model", [made])

    with hw.FeatureStore(folder, clock=lambda: NOON) as store:
        for ttl in ("1d", "2d", "3d", "4d"):
            store.apply(definitions(ttl), promote=True)
            store.materialize()
        assert store.prepare("model").versions == {"v": "4.0.0"}
        with pytest.raises(ChangeRefused) as refused:
            store.prepare("model@1.0.0")
        assert str(refused.value) == (
            "feature service 'model@1.0.0' reads 'v@1.0.0', which is retired and no longer updated: "
            "read 'model', live is 4.0.0"
        )
        spine = [{"user": 1, "timestamp": NOON}]
        assert store.get_historical_features(spine, "model@1.0.0").to_arrow().column("x").to_pylist() == [1.0]


def test_a_query_is_tested_over_replaced_tables():
    user = hw.Entity("user", join_keys={"user": hw.Int64})
    source = hw.SQLSource(
        "SELECT e.user, e.at, e.n * f.factor AS n FROM events e JOIN factors f USING (kind)",
        tables={"events": hw.ParquetSource("nowhere.parquet"), "factors": hw.CSVSource("nowhere.csv")},
        event_time="at",
    )
    view = hw.FeatureView("v", entity=user, source=source, features=[hw.Feature("n", hw.Int64)])
    events = [{"user": 1, "at": NOON, "n": 3, "kind": "a"}]
    tables = {"events": events, "factors": [{"kind": "a", "factor": 7}]}
    with hw.FeatureStore.in_memory([user, view], sources={"v": tables}, clock=lambda: NOON) as store:
        store.materialize()
        assert store.get_online_features([view], [1]).to_dict() == {"user": [1], "n": [21]}
        spine = [{"user": 1, "timestamp": NOON}]
        assert store.get_historical_features(spine, [view["n"]]).to_arrow()["n"].to_pylist() == [21]
    with hw.FeatureStore.in_memory([user, view], sources={"v": [{"user": 1, "at": NOON, "n": 5}]}) as store:
        assert store.get_historical_features(spine, [view]).to_arrow()["n"].to_pylist() == [5]
    with pytest.raises(hw.HeadwaterError, match="'event' is not a table of the query; did you mean 'events'"):
        hw.FeatureStore.in_memory([user, view], sources={"v": {"factors": [], "event": events}})
