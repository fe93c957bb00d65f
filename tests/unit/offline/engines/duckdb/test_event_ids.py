"""An event id settles ties of the source's rows, in history and in runs; what only the features decided is counted."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headwater as hw
from headwater.errors import DefinitionError

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
USER = hw.Entity("user", join_keys={"user": hw.Int64})
# by its features alone the first row of each user would win
ROWS = [(1, 9, 9, 1), (1, 2, 10, 1), (2, 9, 10, 1), (2, 3, 10, 1), (3, 5, None, 1), (3, 4, 12, 1)]


def write_rows(file: Path) -> None:
    user, x, event_id, day = zip(*ROWS, strict=True)
    columns: dict[str, Any] = {"user": user, "x": x, "seq": pa.array(event_id, pa.int64()), "t": [NOON] * len(day)}
    table = pa.table(columns)
    pq.write_table(table, file)
    lines = [dict(row, t=str(NOON)) for row in table.to_pylist()]
    file.with_suffix(".jsonl").write_text("\n".join(map(json.dumps, lines)))
    texts = [",".join("" if value is None else str(value) for value in line.values()) for line in lines]
    file.with_suffix(".csv").write_text("\n".join(["user,x,seq,t", *texts]))


@pytest.mark.parametrize("kind", ["parquet", "table", "sql", "csv", "json"])
def test_the_greater_event_id_wins_in_history_and_online(tmp_path: Path, kind: str) -> None:
    write_rows(tmp_path / "w.parquet")
    times = {"event_time": "t", "event_id": "seq"}
    sources = {
        "parquet": hw.ParquetSource("w.parquet", **times),
        "table": hw.TableSource(pq.read_table(tmp_path / "w.parquet"), **times),
        "sql": hw.SQLSource("SELECT * FROM w", tables={"w": hw.ParquetSource("w.parquet")}, **times),
        "csv": hw.CSVSource("w.csv", schema={"seq": hw.Int64}, **times),
        "json": hw.JSONSource("w.jsonl", schema={"seq": hw.Int64}, **times),
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


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_the_ids_of_text_are_declared(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"user": 1, "x": 9, "seq": "9", "t": str(NOON)}, {"user": 1, "x": 2, "seq": "10", "t": str(NOON)}]
    (tmp_path / "w.json").write_text(json.dumps(rows))
    texts = [",".join(map(str, row.values())) for row in rows]
    (tmp_path / "w.csv").write_text("\n".join(["user,x,seq,t", *texts]))

    def view(*features: hw.Feature, event_id: str = "seq", **options: Any) -> hw.FeatureView:
        options = {"event_time": "t", "event_id": event_id, **options}
        source = hw.CSVSource("w.csv", **options) if kind == "csv" else hw.JSONSource("w.json", lines=False, **options)
        return hw.FeatureView("v", entity=USER, source=source, features=[hw.Feature("x", hw.Int64), *features])

    with hw.FeatureStore(tmp_path, clock=lambda: NOON) as store:
        with pytest.raises(DefinitionError, match=r"event_id: nothing declares .*Source\(…, schema=\{'seq': hw.Int64"):
            store.apply([USER, view()])
        for good in (view(schema={"seq": hw.String}), view(hw.Feature("seq", hw.String)), view(event_id="x")):
            store.plan([USER, good])
        # one that an earlier release registered stays as it was; a new version of it is to say more
        with monkeypatch.context() as before:
            before.setattr("headwater.planning.diff.text_problems", lambda _: ())
            store.apply([USER, view()])
        assert not store.apply([USER, view()]).stages
        spine = [{"user": 1, "timestamp": NOON}]
        assert store.get_historical_features(spine, ["v:x"]).to_arrow()["x"].to_pylist() == [9]
        with pytest.raises(DefinitionError, match="event_id: nothing declares"):
            store.plan([USER, view(hw.Feature("y", hw.Int64, column="x"))])


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
