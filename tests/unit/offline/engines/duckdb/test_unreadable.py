"""What nothing could read back in a source is an error that names file, column and row, alike for runs and history."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headwater as hw
from headwater.errors import HeadwaterError, SourceError
from headwater.offline.engines.duckdb.engine import DuckDBEngine
from headwater.offline.log.log import RowBatch

NOW = datetime(2026, 6, 1, tzinfo=UTC)
MICROS = pa.timestamp("us", "UTC")
SPINE = [{"thing": "a", "timestamp": NOW}, {"thing": "b", "timestamp": NOW}]
GOOD = {
    "thing": pa.array(["a", "b"]),
    "at": pa.array([NOW, NOW], MICROS),
    "name": pa.array(["x", "y"]),
    "until": pa.array([NOW, NOW], MICROS),
    "day": pa.array([NOW.date()] * 2),
    "tags": pa.array([["x"], ["y"]]),
    "seen": pa.array([[NOW], [NOW]], pa.list_(MICROS)),
}
FEATURES = [
    hw.Feature("name", hw.String),
    hw.Feature("until", hw.Timestamp),
    hw.Feature("day", hw.Date),
    hw.Feature("tags", hw.Array(hw.String)),
    hw.Feature("seen", hw.Array(hw.Timestamp)),
]
thing = hw.Entity("thing", join_keys={"thing": hw.String})


def text() -> pa.Array:
    return pa.array([b"ok", b"M\xfcller"]).view(pa.string())


def far(kind: pa.DataType, number: int = 2**60) -> pa.Array:
    width = pa.int32() if kind == pa.date32() else pa.int64()
    return pa.array([0, number], width).view(kind)


def listed(values: pa.Array) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array([0, 1, 2], pa.int32()), values)


BAD: list[tuple[str, pa.Array]] = [
    ("thing", text()),
    ("name", text()),
    ("name", text().dictionary_encode()),
    ("name", text().cast(pa.large_binary()).view(pa.large_string())),
    ("tags", listed(text())),
    ("at", far(MICROS)),
    ("at", far(pa.date32(), 2**30)),
    ("at", far(pa.timestamp("ms"))),
    ("until", far(MICROS, -(2**57))),
    ("until", far(pa.timestamp("ms", "UTC"))),
    ("until", far(pa.timestamp("us"), 253_402_300_800_000_000)),
    ("day", far(pa.date32(), 2**30)),
    ("seen", listed(far(MICROS))),
]


def both(source: hw.TableSource | hw.ParquetSource | hw.CSVSource | hw.SQLSource) -> list[str]:
    """What a run and history say of a source; applying it may say it already."""
    view = hw.FeatureView("things", entity=thing, source=source, features=FEATURES)
    said = []
    for job in _jobs():
        try:
            with hw.FeatureStore.in_memory([thing, view], clock=lambda: NOW) as store:
                job(store)
        except HeadwaterError as bad:
            said.append(str(bad))
    return said


def _jobs() -> list[Callable[[hw.FeatureStore], Any]]:
    return [
        lambda store: store.materialize(),
        lambda store: store.get_historical_features(SPINE, ["things:*"]).to_arrow(),
    ]


@pytest.mark.one_in(4, turn=0)
@pytest.mark.parametrize(("column", "values"), BAD)
@pytest.mark.parametrize("statistics", [True, False])
def test_a_parquet_file(column: str, values: pa.Array, statistics: bool, tmp_path: Path) -> None:
    for name in ("one", "two"):
        pq.write_table(pa.table(GOOD), tmp_path / f"{name}.parquet")
    file = tmp_path / "two.parquet"
    pq.write_table(pa.table({**GOOD, column: values}), file, version="2.6", write_statistics=statistics)
    said = both(hw.ParquetSource(str(tmp_path), event_time="at"))
    assert len(said) == 2
    for one in said:
        assert all(part in one for part in (str(file), repr(column), "row 1"))
        assert one.endswith(("not valid UTF-8 text", "outside the years 1 to 9999"))


@pytest.mark.parametrize(("column", "values"), BAD)
def test_a_table(column: str, values: pa.Array) -> None:
    said = both(hw.TableSource(pa.table({**GOOD, column: values}), event_time="at"))
    assert len(said) == 2
    assert all(repr(column) in one and "row 1" in one for one in said)


@pytest.mark.one_in(4, turn=2)
@pytest.mark.parametrize(("column", "values"), BAD)
@pytest.mark.parametrize("in_file", [True, False])
def test_a_query(column: str, values: pa.Array, in_file: bool, tmp_path: Path) -> None:
    table = pa.table({**GOOD, column: values})
    pq.write_table(table, tmp_path / "x.parquet", version="2.6")
    inner = hw.ParquetSource(str(tmp_path / "x.parquet")) if in_file else hw.TableSource(table)
    said = both(hw.SQLSource("SELECT * FROM x", tables={"x": inner}, event_time="at"))
    assert len(said) == 2
    if not (in_file and pa.types.is_timestamp(values.type) and values.type.unit == "ms"):
        assert all(repr(column) in one and "row 1" in one for one in said)


@pytest.mark.parametrize(("column", "value"), [("at", "infinity"), ("until", "-infinity"), ("day", "infinity")])
def test_instants_without_end_of_a_query(column: str, value: str) -> None:
    kind = "DATE" if column == "day" else "TIMESTAMP"
    changed = f"CASE WHEN thing = 'b' THEN {kind} '{value}' ELSE \"{column}\" END"
    query = f'SELECT * REPLACE ({changed} AS "{column}") FROM x'
    said = both(hw.SQLSource(query, tables={"x": hw.TableSource(pa.table(GOOD))}, event_time="at"))
    assert len(said) == 2
    assert all(f"column {column!r}: {value} in row 1 is outside the years" in one for one in said)


@pytest.mark.parametrize(
    ("column", "value"),
    [("at", "10000-01-01"), ("until", "infinity"), ("day", "0001-01-01 (BC)"), ("day", "12345-01-01")],
)
def test_a_csv_file(column: str, value: str, tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    rows = {"thing": "a", "at": "2026-01-01", "name": "x", "until": "2026-01-01", "day": "2026-01-01"}
    lines = [",".join(rows), ",".join(rows.values()), ",".join({**rows, "thing": "b", column: value}.values())]
    file.write_text("\n".join(lines[:2]) + "\n")
    view = hw.FeatureView(
        "things", entity=thing, source=hw.CSVSource(str(file), event_time="at"), features=FEATURES[:3]
    )
    with hw.FeatureStore.in_memory([thing, view], clock=lambda: NOW) as store:
        file.write_text("\n".join(lines) + "\n")
        for job in _jobs():
            with pytest.raises(SourceError, match=rf"x\.csv: line 3, column '{column}': .* is not a?"):
                job(store)


def test_text_of_a_csv_file_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    file.write_bytes(b"thing,at,name\na,2026-01-01,x\nb,2026-01-01,M\xfcller\n")
    view = hw.FeatureView(
        "things", entity=thing, source=hw.CSVSource(str(file), event_time="at"), features=FEATURES[:1]
    )
    with (
        pytest.raises(HeadwaterError, match="utf-8"),
        hw.FeatureStore.in_memory([thing, view], clock=lambda: NOW) as store,
    ):
        store.materialize()


def test_the_first_and_last_instant_are_read(tmp_path: Path) -> None:
    ends = pa.array([datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)], MICROS)
    table = pa.table({**GOOD, "until": ends, "day": pa.array([datetime.min.date(), datetime.max.date()])})
    pq.write_table(table, tmp_path / "x.parquet")
    for source in (
        hw.TableSource(table, event_time="at"),
        hw.ParquetSource(str(tmp_path / "x.parquet"), event_time="at"),
    ):
        view = hw.FeatureView("things", entity=thing, source=source, features=FEATURES)
        with hw.FeatureStore.in_memory([thing, view], clock=lambda: NOW) as store:
            store.materialize()
            online = store.get_online_features(["things:until"], ["a", "b"]).to_dict()["until"]
            history = store.get_historical_features(SPINE, ["things:until"]).to_arrow()["until"].to_pylist()
            assert online == history == ends.to_pylist()


def test_other_views_of_the_same_store_are_read(tmp_path: Path) -> None:
    bad = hw.FeatureView(
        "bad",
        entity=thing,
        source=hw.TableSource(pa.table({**GOOD, "name": text()}), event_time="at"),
        features=FEATURES,
    )
    good = hw.FeatureView(
        "good", entity=thing, source=hw.TableSource(pa.table(GOOD), event_time="at"), features=FEATURES
    )
    with hw.FeatureStore.in_memory([thing, bad, good], clock=lambda: NOW) as store:
        with pytest.raises(SourceError):
            store.get_historical_features(SPINE, ["bad:name"]).to_arrow()
        assert store.get_historical_features(SPINE, ["good:name"]).to_arrow()["name"].to_pylist() == ["x", "y"]


def test_an_engine_whose_database_ended_begins_another() -> None:
    """DuckDB refuses everything in a database after an internal error."""
    engine = DuckDBEngine()
    try:
        with engine.workspace() as space:
            space.show("t", pa.table({"c": text()}))
            with pytest.raises(HeadwaterError):
                space.fetch("SELECT upper(c) FROM t")
        with engine.workspace() as space:
            assert space.fetch("SELECT 1") == [(1,)]
    finally:
        engine.close()


@pytest.mark.parametrize(
    ("column", "values"), [b for b in BAD if b[0] != "thing" and b[1].type in (pa.string(), MICROS)]
)
@pytest.mark.parametrize("compacted", [False, True])
def test_rows_of_the_log_that_an_earlier_release_took_are_left_out_and_counted(
    column: str, values: pa.Array, compacted: bool, tmp_path: Path
) -> None:
    view = hw.FeatureView("things", entity=thing, source=hw.PushSource(event_time="at"), features=FEATURES)
    if compacted and values.type == pa.string():
        return
    with hw.FeatureStore(tmp_path, clock=lambda: NOW) as store:
        store.apply([thing, view])
        table = pa.table({**GOOD, column: values})
        store.context.claims.claim_log()
        store.context.log.append("things", [RowBatch(table, np.arange(2))])
        if compacted:
            store.context.log.roll()
        result = store.get_historical_features(SPINE, ["things:name"])
        assert result.to_arrow()["name"].to_pylist() == ["ok" if column == "name" else "x", None]
        assert result.metadata.views["things"].unreadable == 1
        assert any("1 rows of the offline log are left out" in warning for warning in result.metadata.warnings)
