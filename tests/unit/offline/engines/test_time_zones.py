"""Sources and spines with naive local times: the same instants on every road."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headwater as hw
from headwater.definitions.sources import Source
from headwater.errors import DefinitionError, UsageError

USER = hw.Entity("user", join_keys={"user": hw.Int64})
NOW = datetime(2026, 12, 1, tzinfo=UTC)
TIMES = [
    datetime(2026, 6, 1, 12),  # 10:00 UTC
    datetime(2026, 10, 25, 2, 30),  # 00:30 and 01:30 UTC
    datetime(2026, 3, 29, 2, 30),  # skipped: 01:00 UTC
    datetime(2026, 12, 1, 0, 30),  # 30 November
]
RIGHT = [
    datetime(2026, 6, 1, 10, tzinfo=UTC),
    datetime(2026, 10, 25, 1, 30, tzinfo=UTC),
    datetime(2026, 3, 29, 1, tzinfo=UTC),
    datetime(2026, 11, 30, 23, 30, tzinfo=UTC),
]
ROWS = {"user": [1, 2, 3, 4], "at": TIMES, "seen": TIMES, "x": [1.0, 2.0, 3.0, 4.0], "last": TIMES}
OPTIONS: dict[str, Any] = {"event_time": "at", "created_time": "seen", "timezone": "Europe/Berlin"}


def parquet(folder: Path) -> Source:
    pq.write_table(pa.table(ROWS), folder / "d.parquet")
    return hw.ParquetSource("d.parquet", **OPTIONS)


def parquet_folder(folder: Path) -> Source:
    (folder / "d").mkdir()
    for i in range(4):
        table = pa.table(ROWS).slice(i, 1)
        table = table.set_column(1, "at", table.column("at").cast(pa.timestamp("ns")))
        pq.write_table(table, folder / f"d/{i}.parquet")
    return hw.ParquetSource("d", **OPTIONS)


def csv(folder: Path) -> Source:
    lines = [
        f"{u},{t:%d.%m.%Y %H:%M},{t:%d.%m.%Y %H:%M},{x},{t:%d.%m.%Y %H:%M}"
        for u, t, _, x, _ in zip(*ROWS.values(), strict=True)
    ]
    (folder / "d.csv").write_text("\n".join(["user,at,seen,x,last", *lines]))
    return hw.CSVSource("d.csv", timestamp_format="%d.%m.%Y %H:%M", **OPTIONS)


def json(folder: Path) -> Source:
    lines = [
        f'{{"user": {u}, "at": "{t}", "seen": "{t}", "x": {x}, "last": "{t}"}}'
        for u, t, _, x, _ in zip(*ROWS.values(), strict=True)
    ]
    (folder / "d.jsonl").write_text("\n".join(lines))
    return hw.JSONSource("d.jsonl", **OPTIONS)


def query(folder: Path) -> Source:
    pq.write_table(pa.table(ROWS), folder / "d.parquet")
    return hw.SQLSource("SELECT * FROM d", tables={"d": hw.ParquetSource("d.parquet")}, **OPTIONS)


def table(_: Path) -> Source:
    return hw.TableSource(pa.table(ROWS), **OPTIONS)


def push(_: Path) -> Source:
    return hw.PushSource(**OPTIONS)


@pytest.mark.parametrize("kind", [parquet, parquet_folder, csv, json, query, table, push])
def test_naive_times_are_of_the_source_s_zone(tmp_path: Path, kind: Any) -> None:
    source = kind(tmp_path)
    features = [hw.Feature("x", hw.Float64), hw.Feature("last", hw.Timestamp)]
    view = hw.FeatureView("v", entity=USER, source=source, features=features)
    with hw.FeatureStore.in_memory([USER, view], path=tmp_path, clock=lambda: NOW) as store:
        if isinstance(source, hw.PushSource):
            for rows in (pa.table(ROWS).slice(0, 2), pa.table(ROWS).slice(2).to_pylist()):
                assert store.write("v", rows).applied == 2
        store.materialize()
        online = store.get_online_features(["v:*"], [1, 2, 3, 4])
        assert online.event_times["v"] == RIGHT
        assert online.to_dict()["last"] == RIGHT
        # known from the instant on, and not before
        spine = {"user": [1, 2, 3, 4] * 2, "timestamp": [*RIGHT, *(at.replace(microsecond=0) for at in RIGHT)]}
        spine["timestamp"][4:] = [datetime.fromtimestamp(at.timestamp() - 0.000001, UTC) for at in RIGHT]
        history = store.get_historical_features(pa.table(spine), ["v:*"])
        assert history.to_arrow()["x"].to_pylist() == [1.0, 2.0, 3.0, 4.0, None, None, None, None]
        if not isinstance(source, (hw.PushSource, hw.JSONSource)):
            counts = history.metadata.views["v"]
            assert (counts.repeated_times, counts.skipped_times) == (2, 2)
            assert any("a clock change repeats; the later instant counts" in said for said in history.metadata.warnings)


def test_a_naive_spine_is_of_the_zone_of_the_call() -> None:
    rows = [{"user": 1, "at": datetime(2026, 10, 25, 1, tzinfo=UTC), "x": 1.0}]
    view = hw.FeatureView(
        "v", entity=USER, source=hw.TableSource(rows, event_time="at"), features=[hw.Feature("x", hw.Float64)]
    )
    with hw.FeatureStore.in_memory([USER, view], clock=lambda: NOW) as store:
        spine = pa.table({"user": [1, 1], "timestamp": [datetime(2026, 10, 25, 2, 30), datetime(2026, 10, 25, 3)]})
        result = store.get_historical_features(spine, ["v:x"], timezone="Europe/Berlin")
        # the first is 00:30 and 01:30: nothing leaks into the earlier
        assert result.to_arrow()["x"].to_pylist() == [None, 1.0]
        assert result.to_arrow()["timestamp"].to_pylist() == spine["timestamp"].to_pylist()
        assert "spine: 1 naive times are in an hour that a clock change repeats" in result.metadata.warnings[0]
        assert store.get_historical_features(spine, ["v:x"]).to_arrow()["x"].to_pylist() == [1.0, 1.0]
        aware = spine.set_column(1, "timestamp", spine["timestamp"].cast(pa.timestamp("us", "UTC")))
        same = store.get_historical_features(aware, ["v:x"], timezone="Europe/Berlin")
        assert same.to_arrow()["x"].to_pylist() == [1.0, 1.0]
        with pytest.raises(UsageError, match="is not a time zone"):
            store.get_historical_features(spine, ["v:x"], timezone="Berlin").to_arrow()


def test_a_zone_belongs_to_the_version(tmp_path: Path) -> None:
    def view(zone: str | None) -> hw.FeatureView:
        source = hw.ParquetSource("d.parquet", event_time="at", timezone=zone)
        return hw.FeatureView("v", entity=USER, source=source, features=[hw.Feature("x", hw.Float64)])

    parquet(tmp_path)
    with hw.FeatureStore(tmp_path, clock=lambda: NOW) as store:
        store.apply([USER, view(None)])
        assert store.apply([USER, view("UTC")]).stages == ()
        store.apply([USER, view("Europe/Berlin")])
    with hw.FeatureStore(tmp_path, clock=lambda: NOW) as store:
        assert store.registry.snapshot().view("v").version("2.0.0").view.source.timezone == "Europe/Berlin"
    with pytest.raises(DefinitionError, match=r"source.timezone: 'Mars' is not a time zone"):
        hw.FeatureStore.in_memory([USER, view("Mars")], path=tmp_path)
