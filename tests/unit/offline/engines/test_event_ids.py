"""An event id settles ties of the source's rows, in history and in runs; what only the features decided is counted."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headwater as hw

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
USER = hw.Entity("user", join_keys={"user": hw.Int64})
# by its features alone the first row of each user would win
ROWS = [(1, 9, 9, 1), (1, 2, 10, 1), (2, 9, 10, 1), (2, 3, 10, 1), (3, 5, None, 1), (3, 4, 12, 1)]


def write_rows(file: Path) -> None:
    user, x, event_id, day = zip(*ROWS, strict=True)
    columns: dict[str, Any] = {"user": user, "x": x, "seq": pa.array(event_id, pa.int64()), "t": [NOON] * len(day)}
    pq.write_table(pa.table(columns), file)


@pytest.mark.parametrize("kind", ["parquet", "table", "sql"])
def test_the_greater_event_id_wins_in_history_and_online(tmp_path: Path, kind: str) -> None:
    write_rows(tmp_path / "w.parquet")
    times = {"event_time": "t", "event_id": "seq"}
    sources = {
        "parquet": hw.ParquetSource("w.parquet", **times),
        "table": hw.TableSource(pq.read_table(tmp_path / "w.parquet"), **times),
        "sql": hw.SQLSource("SELECT * FROM w", tables={"w": hw.ParquetSource("w.parquet")}, **times),
    }
    view = hw.FeatureView("v", entity=USER, source=sources[kind], features=[hw.Feature("x", hw.Int64)])
    with hw.FeatureStore(tmp_path, clock=lambda: NOON) as store:
        store.apply([USER, view])
        spine = [{"user": i, "timestamp": NOON} for i in (1, 2, 3, 1)]
        result = store.get_historical_features(spine, ["v:x"])
        assert result.to_arrow()["x"].to_pylist() == [2, 9, 4, 2]
        assert result.metadata.views["v"].ties == 1
        report = store.materialize()
        assert report.runs[0].ties == 1
        assert store.get_online_features(["v:x"], [1, 2, 3]).to_dict()["x"] == [2, 9, 4]


def test_without_an_event_id_the_features_decide_and_are_counted(tmp_path: Path) -> None:
    write_rows(tmp_path / "w.parquet")
    source = hw.ParquetSource("w.parquet", event_time="t")
    view = hw.FeatureView("v", entity=USER, source=source, features=[hw.Feature("x", hw.Int64)])
    with hw.FeatureStore(tmp_path, clock=lambda: NOON) as store:
        store.apply([USER, view])
        result = store.get_historical_features([{"user": i, "timestamp": NOON} for i in (1, 2, 3)], ["v:x"])
        assert result.to_arrow()["x"].to_pylist() == [9, 9, 5]
        assert (result.metadata.views["v"].ties, store.materialize().runs[0].ties) == (3, 3)


def test_a_later_run_settles_a_tie_with_a_stored_row_by_the_event_id(tmp_path: Path) -> None:
    def file(name: str, x: int, seq: int) -> None:
        (tmp_path / "w").mkdir(exist_ok=True)
        pq.write_table(pa.table({"user": [1], "x": [x], "seq": [seq], "t": [NOON]}), tmp_path / "w" / name)

    source = hw.ParquetSource("w", event_time="t", event_id="seq")
    view = hw.FeatureView("v", entity=USER, source=source, features=[hw.Feature("x", hw.Int64)])
    with hw.FeatureStore(tmp_path, clock=lambda: NOON) as store:
        file("a.parquet", 9, 1)
        store.apply([USER, view])
        store.materialize()
        file("b.parquet", 2, 2)
        store.materialize()
        assert store.get_online_features(["v:x"], [1]).to_dict()["x"] == [2]
        file("c.parquet", 7, 1)
        store.materialize()
        assert store.get_online_features(["v:x"], [1]).to_dict()["x"] == [2]
        spine = [{"user": 1, "timestamp": NOON}]
        assert store.get_historical_features(spine, ["v:x"]).to_arrow()["x"].to_pylist() == [2]
