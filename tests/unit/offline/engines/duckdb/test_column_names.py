"""Names of columns: those that an engine or headwater uses itself are anybody's, and case alone tells none apart."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import headwater as hw
from headwater.testing import rounds

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
THING = hw.Entity("thing", join_keys={"id": hw.Int64})
NAMES = ["rowid", "file_row_number", "file_index", "filename", "ROWID", "ordinal", "event", "rn", "t", "c0", "k0"]
OWN = ["__row", "__file", "__whole", "__place", "__arrival", "__position", "__through", "f_a", "reach", "nothing"]
KINDS = ["parquet", "parquets", "partitioned", "csv", "json", "table", "sql", "sql of csv"]


def write_source(kind: str, table: pa.Table, folder: Path) -> hw.Source:
    """The rows of a table as a source of some kind."""
    folder.mkdir(parents=True)
    half = table.num_rows // 2
    match kind:
        case "parquet":
            pq.write_table(table, folder / "a.parquet")
            return hw.ParquetSource(str(folder), event_time="ts")
        case "parquets":
            for i, part in enumerate((table.slice(0, half), table.slice(half))):
                pq.write_table(part, folder / f"{i}.parquet")
            return hw.ParquetSource(str(folder), event_time="ts")
        case "partitioned":
            for i, part in enumerate((table.slice(0, half), table.slice(half))):
                (folder / f"half={i}").mkdir()
                pq.write_table(part, folder / f"half={i}/a.parquet")
            return hw.ParquetSource(str(folder), event_time="ts")
        case "csv":
            pyarrow.csv.write_csv(table, folder / "a.csv")
            return hw.CSVSource(str(folder), event_time="ts")
        case "json":
            rows = [{**row, "ts": row["ts"].isoformat()} for row in table.to_pylist()]
            (folder / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
            return hw.JSONSource(str(folder), event_time="ts")
        case "table":
            return hw.TableSource(table, event_time="ts")
        case "sql":
            inner = write_source("parquets", table, folder / "inner")
            return hw.SQLSource("SELECT * FROM w", tables={"w": inner}, event_time="ts")
    pyarrow.csv.write_csv(table, folder / "a.csv")
    types = {"id": hw.Int64, "ts": hw.Timestamp} | {n: hw.Int64 for n in table.column_names if n not in ("id", "ts")}
    inner = hw.CSVSource(str(folder), schema=types)
    return hw.SQLSource("SELECT * FROM w", tables={"w": inner}, event_time="ts")


def rows_of(names: list[str]) -> pa.Table:
    times = [NOON - timedelta(hours=4 - i) for i in range(4)]
    columns = {name: pa.array([100 * i + j for j in range(4)]) for i, name in enumerate(names, 1)}
    return pa.table({"id": [1, 2, 1, 2], "ts": pa.array(times, pa.timestamp("us", "UTC")), **columns})


def read_both_roads(source: hw.Source, names: list[str], more: dict[str, Any] | None = None) -> dict[str, list[Any]]:
    """The values of two keys, as history and online say, which are the same."""
    features = [hw.Feature(f"x{i}", hw.Int64, column=name) for i, name in enumerate(names)]
    view = hw.FeatureView("v", entity=THING, source=source, features=features)
    with hw.FeatureStore.in_memory([THING, view], clock=lambda: NOON) as store:
        store.materialize()
        spine = pa.table({"id": [1, 2], "timestamp": pa.array([NOON, NOON]), **(more or {})})
        past = store.get_historical_features(spine, ["v:*"]).to_arrow().to_pydict()
        online = store.get_online_features(["v:*"], [1, 2]).to_dict()
    found = {name: past[f"x{i}"] for i, name in enumerate(names)}
    assert found == {name: list(online[f"x{i}"]) for i, name in enumerate(names)}
    return found


@pytest.mark.one_in(2)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("asked", [True, False])
def test_names_that_an_engine_uses_are_ordinary_columns(kind: str, asked: bool, tmp_path: Path) -> None:
    names = ["x", *(name for name in NAMES + OWN if name != "ROWID")]
    table = rows_of(names)
    found = read_both_roads(write_source(kind, table, tmp_path / "s"), names if asked else ["x"])
    assert found == {name: table.column(name).to_pylist()[2:] for name in found}


@settings(max_examples=rounds(5), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(KINDS),
    names=st.lists(st.sampled_from(NAMES + OWN + ["x", "X", "y"]), min_size=1, max_size=5, unique=True),
    asked=st.integers(1, 5),
)
def test_no_name_ever_gives_a_wrong_value(
    kind: str, names: list[str], asked: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    table, used = rows_of(names), names[:asked]
    folded = [name.casefold() for name in names]
    clear = all(folded.count(name.casefold()) == 1 for name in used)
    source = write_source(kind, table, tmp_path_factory.mktemp("names") / "s")
    try:
        found = read_both_roads(source, used, {"rn": [1, 2], "__row": [3, 4], "ROWID": [5, 6], "rowid": [7, 8]})
    except hw.HeadwaterError as bad:
        assert "differ only in case" in str(bad)
        assert not clear or kind.startswith("sql")
    else:
        assert found == {name: table.column(name).to_pylist()[2:] for name in used}
        assert clear


@pytest.mark.parametrize("kind", KINDS)
def test_names_that_differ_only_in_case_are_refused_by_plan(kind: str, tmp_path: Path) -> None:
    table = rows_of(["temp", "TEMP", "other"])
    source = write_source(kind, table, tmp_path / "s")
    view = hw.FeatureView("v", entity=THING, source=source, features=[hw.Feature("temp", hw.Int64)])
    with hw.FeatureStore.in_memory([], clock=lambda: NOON) as store:
        with pytest.raises(hw.DefinitionError, match="'temp' and 'TEMP' differ only in case"):
            store.plan([THING, view])
        if not kind.startswith("sql"):
            view = hw.FeatureView("v", entity=THING, source=source, features=[hw.Feature("other", hw.Int64)])
            store.plan([THING, view])


def test_a_query_that_names_other_columns_is_read(tmp_path: Path) -> None:
    inner = write_source("parquets", rows_of(["temp", "TEMP", "x"]), tmp_path / "s")
    for query, clear in (
        ("SELECT id, ts, x FROM w", True),
        ("SELECT id, ts, count(*) AS x FROM w GROUP BY ALL", True),
        ("SELECT id, ts, temp AS x FROM w", False),
        ("SELECT w.* FROM w", False),
        ("FROM w", False),
    ):
        source = hw.SQLSource(query, tables={"w": inner}, event_time="ts")
        if clear:
            assert read_both_roads(source, ["x"])["x"] in ([302, 303], [1, 1])
        else:
            with pytest.raises(hw.DefinitionError, match="table 'w': columns 'temp' and 'TEMP' differ only in case"):
                read_both_roads(source, ["x"])
    clear_table = write_source("parquets", rows_of(["x"]), tmp_path / "t")
    for query in ("SELECT id, ts, x, x + 1 AS X FROM w", "WITH a AS (FROM w) SELECT id, ts, x, 1 AS X FROM a"):
        source = hw.SQLSource(query, tables={"w": clear_table}, event_time="ts")
        with pytest.raises(hw.DefinitionError, match=r"columns '[xX]' and '[xX]' differ only in case"):
            read_both_roads(source, ["x"])


def test_files_of_one_source_whose_names_differ_in_case(tmp_path: Path) -> None:
    for kind in ("parquet", "csv", "json"):
        write_source(kind, rows_of(["temp"]), tmp_path / kind / "a")
        write_source(kind, rows_of(["Temp"]), tmp_path / kind / "b")
        source = type(write_source(kind, rows_of(["x"]), tmp_path / f"{kind}-x"))(str(tmp_path / kind), event_time="ts")
        with pytest.raises(hw.DefinitionError, match="'temp' and 'Temp' differ only in case"):
            read_both_roads(source, ["temp"])


def test_written_rows_and_push_sources(tmp_path: Path) -> None:
    for names in (["temp", "TEMP"], ["id", "ID"], ["ts", "Ts"]):
        features = [hw.Feature("a", hw.Int64, column=names[1])]
        features += [hw.Feature("b", hw.Int64, column=names[0])] if names[0] == "temp" else []
        view = hw.FeatureView("v", entity=THING, source=hw.PushSource(event_time="ts"), features=features)
        with pytest.raises(hw.DefinitionError, match="differ only in case"):
            hw.FeatureStore.in_memory([THING, view])
    declared = {"id": hw.Int64, "ts": hw.Timestamp, "temp": hw.Int64, "TEMP": hw.Int64}
    push = hw.PushSource(event_time="ts", schema=declared)
    view = hw.FeatureView("v", entity=THING, source=push, features=[hw.Feature("temp", hw.Int64)])
    with pytest.raises(hw.DefinitionError, match="'temp' and 'TEMP' differ only in case"):
        hw.FeatureStore.in_memory([THING, view])
    own = hw.FeatureView("v", entity=THING, source=push, features=[hw.Feature("x", hw.Int64, column="__position")])
    with pytest.raises(hw.DefinitionError, match="'__position' is reserved by the offline log"):
        hw.FeatureStore.in_memory([THING, own])


def test_two_versions_that_use_names_of_different_case(tmp_path: Path) -> None:
    def view(column: str, version: str) -> hw.FeatureView:
        features = [hw.Feature("x", hw.Int64, column=column)]
        source = hw.PushSource(event_time="ts")
        return hw.FeatureView("v", entity=THING, source=source, features=features, version=version)

    with hw.FeatureStore.in_memory([THING, view("temp", "1.0.0")], clock=lambda: NOON) as store:
        store.apply([view("TEMP", "2.0.0")])
        row = {"id": 1, "ts": NOON, "temp": 1}
        store.write("v", [row])
        with pytest.raises(hw.DataError, match="rows of 'v': columns 'temp' and 'TEMP' differ only in case"):
            store.write("v", [{**row, "TEMP": 2}])
        store.write("v", [{"id": 2, "ts": NOON, "TEMP": 2}])
        spine = [{"id": i, "timestamp": NOON} for i in (1, 2)]
        assert store.get_historical_features(spine, ["v@1.0.0:x"]).to_arrow()["x"].to_pylist() == [1, None]
        assert store.get_historical_features(spine, ["v@2.0.0:x"]).to_arrow()["x"].to_pylist() == [None, 2]


def test_written_rows_with_names_that_are_used_inside(tmp_path: Path) -> None:
    names = ["x", *(name for name in NAMES + OWN if name not in ("ROWID", "__position", "__arrival", "__through"))]
    table = rows_of(names)
    features = [hw.Feature(f"x{i}", hw.Int64, column=name) for i, name in enumerate(names)]
    view = hw.FeatureView("v", entity=THING, source=hw.PushSource(event_time="ts"), features=features)
    with hw.FeatureStore.in_memory([THING, view], clock=lambda: NOON) as store:
        store.write("v", table, created="event")
        spine = [{"id": i, "timestamp": NOON, "rowid": 5, "rn": 6, "__position": 7} for i in (1, 2)]
        past = store.get_historical_features(spine, ["v:*"]).to_arrow().to_pydict()
        online = store.get_online_features(["v:*"], [1, 2]).to_dict()
        for i, name in enumerate(names):
            assert past[f"x{i}"] == list(online[f"x{i}"]) == table.column(name).to_pylist()[2:]
        spine_sql = "SELECT 1 AS id, TIMESTAMPTZ '2026-06-01 12:00Z' AS timestamp, 5 AS rowid, 6 AS file_index, 7 AS ID"
        found = store.get_historical_features(spine_sql, ["v:x0"]).to_arrow().to_pydict()
        assert (found["rowid"], found["file_index"], found["x0"], found["id"]) == ([5], [6], past["x0"][:1], [1])
