"""Write: what is accepted, where it goes, what is told, through a change of version too."""

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import headwater as hw
from headwater.clock import to_micros
from headwater.compute.reading.historical import historical
from headwater.compute.writing.rows import check_rows
from headwater.errors import (
    ConsistencyNotSupported,
    DataError,
    FeatureViewNotFound,
    LogMismatch,
    RowsRejected,
    StorageFull,
    UsageError,
)
from headwater.online.base import PutOutcome
from headwater.online.stores.memory.store import MemoryOnlineStore
from headwater.planning.resolve import whole_view
from headwater.planning.row_reading import RowVersion
from tests.unit.compute.conftest import AIRPORT, T0, Bench, row, weather


def logged(bench: Bench, view: str = "weather") -> list[dict[str, Any]]:
    """Every row of the log, in order."""
    found = []
    for part in bench.context.log.slice(view, ["airport"]).parts:
        tables = [part.table] if part.table is not None else [pa.parquet.read_table(f) for f in part.files]
        found += [r for table in tables for r in table.to_pylist()]
    return sorted(found, key=lambda r: r["__position"])


def test_a_row_is_in_the_log_and_online(bench: Bench) -> None:
    bench.apply(AIRPORT, weather())
    report = bench.write("weather", [row("JFK", 39.0), row("EWR", None)])
    assert (report.applied, report.superseded, report.rejected, report.future, report.skipped) == (2, 0, 0, 0, 0)
    assert report.durable and report.problems == () and report.position == 2
    assert bench.values("weather:temp", ["EWR", "JFK", "LGA"]) == [None, 39.0, None]
    assert [(r["origin"], r["temp_f"], r["__arrival"]) for r in logged(bench)] == [
        ("JFK", 39.0, to_micros(T0)),
        ("EWR", None, to_micros(T0)),
    ]


@pytest.mark.parametrize(
    "rows",
    [
        pd.DataFrame(
            {"origin": ["A", "B"], "temp_f": [1.0, np.nan], "at": pd.to_datetime(["2024-01-01", "2024-01-01"])}
        ),
        pl.DataFrame({"origin": ["A", "B"], "temp_f": [1.0, None], "at": [datetime(2024, 1, 1), datetime(2024, 1, 1)]}),
        pa.table(
            {
                "origin": pa.array(["A", "B"]).dictionary_encode(),
                "temp_f": [1, None],
                "at": pa.array([T0, T0], pa.timestamp("s", "UTC")),
            }
        ),
        [{"origin": "A", "temp_f": 1, "at": T0}, {"origin": "B", "temp_f": None, "at": T0.date()}],
        {"origin": ["A", "B"], "temp_f": [1.0, None], "at": T0},
    ],
)
def test_tables_of_every_kind(bench: Bench, rows: Any) -> None:
    bench.apply(AIRPORT, weather())
    assert bench.write("weather", rows).applied == 2
    found = bench.reader(["weather:temp"]).read(["A", "B"])
    assert found.to_dict()["temp"] == [1.0, None]
    assert found.statuses["temp"] == [hw.Status.PRESENT, hw.Status.NULL]


def test_targets(bench: Bench) -> None:
    bench.apply(AIRPORT, weather())
    assert bench.write("weather", [row("A", 1.0)], to="offline").applied == 1
    assert bench.values("weather:temp", ["A"]) == [None] and len(logged(bench)) == 1
    assert bench.write("weather", [row("B", 2.0)], to=hw.WriteTarget.ONLINE).applied == 1
    assert bench.values("weather:temp", ["B"]) == [2.0] and len(logged(bench)) == 1
    with pytest.raises(UsageError, match="'both'"):
        bench.write("weather", [row("A", 1.0)], to="nowhere")
    with pytest.raises(UsageError, match="report"):
        bench.write("weather", [row("A", 1.0)], errors="ignore")
    with pytest.raises(FeatureViewNotFound, match="weather"):
        bench.write("wether", [row("A", 1.0)])


def test_every_bad_row_is_named_and_nothing_is_written(bench: Bench) -> None:
    bench.apply(AIRPORT, weather())
    rows = [
        row("A", 1.0),
        row("A", "warm"),  # type: ignore[arg-type]
        row(None, 1.0),
        {"origin": "A", "temp_f": 1.0},
        {"origin": "A", "at": T0},
        row("A", 1.0, wind=3),
        row("A", 1.0, at=None),  # type: ignore[arg-type]
        {"airport": "A", "temp_f": 1.0, "at": T0},
        row("A", 1.0, temp_g=1.0),
        row(7, 1.0),  # type: ignore[arg-type]
    ]
    with pytest.raises(RowsRejected, match="9 of 10") as caught:
        bench.write("weather", rows)
    told = caught.value.problems
    assert [p.split(":")[0] for p in told] == [f"row {i}" for i in range(1, 10)]
    for place, text in enumerate(
        [
            "'warm' is not a float64",
            "'origin' is NULL",
            "no column 'at' (time)",
            "no column 'temp_f' (feature)",
            "unknown column 'wind'",
            "time 'at' is NULL",
            "'origin'",
            "did you mean 'temp_f'?",
            "7 is not a string",
        ]
    ):
        assert text in told[place]
    assert logged(bench) == [] and bench.values("weather:temp", ["A"]) == [None]

    report = bench.write("weather", rows, errors="report")
    assert (report.applied, report.rejected, report.problems) == (1, 9, told)
    assert "row 1" in report._repr_html_()


def test_a_table_of_another_type_is_told_once(bench: Bench) -> None:
    bench.apply(AIRPORT, weather())
    table = pa.table({"origin": ["A"] * 5, "temp_f": ["x"] * 5, "at": [T0] * 5})
    with pytest.raises(RowsRejected) as caught:
        bench.write("weather", table)
    assert caught.value.problems == ("rows 0 to 4: column 'temp_f': 'x' is not a float64",)
    with pytest.raises(DataError, match="row 1"):
        bench.write("weather", [row("A", 1.0), 5])
    with pytest.raises(DataError):
        bench.write("weather", 5)


def test_no_rows_are_no_error(bench: Bench) -> None:
    bench.apply(AIRPORT, weather())
    assert bench.write("weather", []).applied == 0
    assert bench.write("weather", pa.table({"origin": [], "temp_f": [], "at": []})).applied == 0


def test_the_guard_decides_whatever_the_order(bench: Bench) -> None:
    bench.apply(AIRPORT, weather())
    late = T0 - timedelta(hours=1)
    report = bench.write("weather", [row("A", 2.0), row("A", 1.0, at=late), row("B", 1.0, at=late), row("B", 2.0)])
    assert (report.applied, report.superseded) == (3, 1)
    assert bench.values("weather:temp", ["A", "B"]) == [2.0, 2.0]
    assert bench.write("weather", [row("A", 9.0, at=late)]).superseded == 1
    # of equal times the later position stands, whatever the columns beside
    assert bench.write("weather", [row("A", 3.0), row("A", 4.0, created_time=T0), row("A", 5.0)]).applied == 3
    assert bench.values("weather:temp", ["A"]) == [5.0]


def test_created_time_is_the_rows_own_else_its_arrival(bench: Bench) -> None:
    bench.apply(AIRPORT, weather(source=hw.TableSource(event_time="at", created_time="seen")))
    bench.write("weather", [row("A", 1.0, at=T0 - timedelta(days=1), seen=T0 - timedelta(hours=2))])
    reader = bench.reader(["weather:temp"])

    def created(key: str) -> Any:
        return reader.read([key]).vectors()[0].computation_timestamp

    assert created("A") == T0 - timedelta(hours=2)
    bench.write("weather", [row("B", 1.0, created_time=T0 - timedelta(hours=3))])
    bench.write("weather", [row("C", 1.0, seen=None)])
    assert created("B") == T0 - timedelta(hours=3) and created("C") == T0


def test_a_row_from_the_future_waits(bench: Bench) -> None:
    bench.apply(AIRPORT, weather())
    bench.write("weather", [row("A", 1.0)])
    report = bench.write(
        "weather", [row("A", 2.0, at=T0 + timedelta(hours=1)), row("A", 3.0, at=T0 + timedelta(seconds=2))]
    )
    assert (report.applied, report.future) == (1, 1)
    assert bench.values("weather:temp", ["A"]) == [3.0]
    assert len(logged(bench)) == 3
    with pytest.raises(RowsRejected, match="row 0: known in the future"):
        bench.write("weather", [row("A", 2.0, at=T0 + timedelta(hours=1))], to="online")
    report = bench.write(
        "weather", [row("B", 2.0, at=T0 + timedelta(hours=1)), row("C", 2.0)], to="online", errors="report"
    )
    assert (report.applied, report.rejected) == (1, 1)


def test_global_views_and_composite_keys(bench: Bench) -> None:
    rate = hw.FeatureView(
        "rate", entity=(), source=hw.PushSource(event_time="at"), features=[hw.Feature("usd", hw.Float64)]
    )
    route = hw.Entity("route", join_keys={"origin": hw.String, "number": hw.Int32})
    delays = hw.FeatureView(
        "delays", entity=route, source=hw.PushSource(event_time="at"), features=[hw.Feature("late", hw.Int64)]
    )
    bench.apply(route, rate, delays)
    assert bench.write("rate", [{"at": T0, "usd": 1.1}]).applied == 1
    assert (
        bench.write(
            "delays",
            [{"at": T0, "late": 5, "origin": "A", "number": 1}, {"at": T0, "late": 6, "origin": "A", "number": None}],
            errors="report",
        ).rejected
        == 1
    )
    found = bench.read(["rate:usd", "delays:late"], [{"origin": "A", "number": 1}, {"origin": "B", "number": 1}])
    assert found["usd"] == [1.1, 1.1] and found["late"] == [5, None]


def test_a_dimension_takes_rows_too(bench: Bench) -> None:
    facts = hw.FeatureView(
        "facts", entity=AIRPORT, source=hw.PushSource(event_time=None), features=[hw.Feature("alt", hw.Int32)]
    )
    bench.apply(AIRPORT, facts)
    bench.write("facts", [{"airport": "A", "alt": 5}])
    bench.pass_time(days=400)
    assert bench.values("facts:alt", ["A"]) == [5]
    bench.write("facts", [{"airport": "A", "alt": 6}])
    assert bench.values("facts:alt", ["A"]) == [6]


def test_every_dtype_comes_back(bench: Bench) -> None:
    values: dict[str, tuple[Any, Any]] = {
        "i": (hw.Int32, 5),
        "l": (hw.Int64, 2**60),
        "f": (hw.Float32, 1.5),
        "d": (hw.Float64, float("nan")),
        "b": (hw.Bool, True),
        "s": (hw.String, "é"),
        "y": (hw.Bytes, b"\0"),
        "t": (hw.Timestamp, T0),
        "a": (hw.Array(hw.String), ["x", None]),
        "e": (hw.Embedding(2), [1.0, 2.0]),
        "dd": (hw.Date, T0.date()),
    }
    features = [hw.Feature(name, dtype) for name, (dtype, _) in values.items()]
    bench.apply(
        AIRPORT, hw.FeatureView("all", entity=AIRPORT, source=hw.PushSource(event_time="at"), features=features)
    )
    bench.write("all", [{"airport": "A", "at": T0, **{name: value for name, (_, value) in values.items()}}])
    found = bench.read(["all:*"], ["A"])
    for name, (_, value) in values.items():
        assert found[name] == [value] or (name == "d" and np.isnan(found[name][0]))


def added(**options: Any) -> hw.FeatureView:
    """`weather` with one feature more."""
    return weather(
        features=[hw.Feature("temp", hw.Float64, column="temp_f"), hw.Feature("wind", hw.Float64)], **options
    )


def test_producers_and_definitions_change_in_either_order(bench: Bench) -> None:
    bench.apply(AIRPORT, weather())
    bench.apply(added())
    old, new = row("A", 1.0), row("B", 2.0, wind=9.0)
    report = bench.write("weather", [old, new])
    # the old row lacks wind: the new version skips it; the new row is complete for both
    assert (report.applied, report.rejected, report.skipped) == (2, 0, 1)
    assert bench.values("weather@1.0.0:temp", ["A", "B"]) == [1.0, 2.0]
    bench.context.versions.promote("weather", "1.1.0", watermarks={}, now=T0, force=True)
    assert bench.values("weather:temp", ["A", "B"]) == [None, 2.0]
    assert bench.values("weather:wind", ["A", "B"]) == [None, 9.0]
    # the live version lacks the row's column no longer; a row for the old one alone is still taken
    assert bench.write("weather", [row("C", 3.0)]).skipped == 1
    with pytest.raises(RowsRejected, match="unknown column 'gust'"):
        bench.write("weather", [row("C", 3.0, gust=1.0)])


def test_a_row_may_lack_the_old_versions_columns(bench: Bench) -> None:
    bench.apply(AIRPORT, weather())
    bench.apply(weather(features=[hw.Feature("celsius", hw.Float64)]))
    report = bench.write("weather", [{"origin": "A", "at": T0, "celsius": 1.0}])
    assert (report.applied, report.skipped) == (1, 1)


def test_a_row_that_fits_only_one_versions_dtype_feeds_that_one(bench: Bench) -> None:
    def count(dtype: Any) -> hw.FeatureView:
        return hw.FeatureView(
            "c", entity=AIRPORT, source=hw.PushSource(event_time="at"), features=[hw.Feature("n", dtype)]
        )

    bench.apply(AIRPORT, count(hw.Int32))
    bench.apply(count(hw.Int64))
    rows = [{"airport": "A", "at": T0, "n": 5}, {"airport": "B", "at": T0, "n": 2**40}]
    report = bench.write("c", rows)
    assert (report.applied, report.skipped) == (2, 1)
    schemas = sorted(str(part.schema.field("n").type) for part in bench.context.log.slice("c", ["airport"]).parts)
    assert schemas == ["int32", "int64"]


def test_a_write_sees_versions_that_another_process_applied(bench: Bench) -> None:
    bench.apply(AIRPORT, weather())
    stale = Bench(bench.folder, bench.context.online)
    stale.registry.snapshot()
    bench.apply(added())
    # known there is the old version alone, and a row of the new one looks wrong until the registry is read again
    report = stale.write("weather", [row("A", 1.0, wind=2.0)])
    assert report.applied == 1 and report.skipped == 0
    found = bench.registry.refresh().view("weather")
    assert set(found.versions) == {"1.0.0", "1.1.0"}
    bench.apply(
        weather(features=[hw.Feature("temp", hw.Float64, column="temp_f"), hw.Feature("x", hw.Int64, column="wind")])
    )
    # nothing looks wrong here: the transaction of the log sees that the registry moved on
    stale.write("weather", [row("B", 1.0, wind=2.0)])
    assert stale.registry.latest is not None and stale.registry.latest.revision == bench.registry.refresh().revision


def test_columns_of_the_source_that_no_version_reads_are_left_out_and_counted(bench: Bench) -> None:
    bench.rows["weather"] = [row("A", 1.0, station="s1")]
    bench.apply(AIRPORT, weather())
    report = bench.write("weather", [row("B", 2.0, station="s2"), row("C", 2.0)])
    assert (report.applied, report.unread) == (2, {"station": 1})
    assert "station" not in logged(bench)[0]
    with pytest.raises(RowsRejected, match="did you mean 'station'"):
        bench.write("weather", [row("B", 2.0, staton="s2")])


def test_another_logs_online_store_is_refused(bench: Bench, tmp_path: Path) -> None:
    bench.apply(AIRPORT, weather())
    bench.write("weather", [row("A", 1.0)])
    (tmp_path / "other").mkdir()
    other = Bench(tmp_path / "other", bench.context.online)
    other.apply(AIRPORT, weather())
    for call in (
        lambda: other.write("weather", [row("A", 2.0)]),
        lambda: other.delete("weather", ["A"]),
        other.materialize,
    ):
        with pytest.raises(LogMismatch, match=bench.context.log.log_id):
            call()
    assert other.context.log.head_position() == 0
    other.context.engine.close()
    other.registry.close()


def test_durability_of_one_node(bench: Bench) -> None:
    bench.apply(AIRPORT, weather())
    with pytest.raises(ConsistencyNotSupported, match="no replicas"):
        bench.write("weather", [row("A", 1.0)], durability=1)
    with pytest.raises(UsageError):
        bench.write("weather", [row("A", 1.0)], durability=-1)


def test_a_session_is_advanced_and_of_one_store(bench: Bench) -> None:
    bench.apply(AIRPORT, weather())
    session = hw.Session()
    bench.write("weather", [row("A", 1.0)], session=session)
    assert session.store == bench.context.store_name
    with pytest.raises(UsageError):
        bench.write("weather", [row("A", 1.0)], session=hw.Session("another"))


def test_threads_write_at_once(lmdb_bench: Bench) -> None:
    bench = lmdb_bench
    bench.apply(AIRPORT, weather())

    def produce(name: str) -> None:
        for i in range(15):
            bench.write("weather", [row("A", float(i), at=T0 + timedelta(microseconds=i)), row(name, float(i))])

    threads = [threading.Thread(target=produce, args=(name,)) for name in ("x", "y")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(logged(bench)) == 60
    assert bench.values("weather:temp", ["A", "x", "y"]) == [14.0, 14.0, 14.0]


def test_zones(bench: Bench) -> None:
    bench.apply(AIRPORT, weather())
    naive = datetime(2023, 12, 31, 23, 0)
    bench.write("weather", [row("A", 1.0, at=naive)])
    assert bench.reader(["weather:temp"]).read(["A"]).event_times["weather"] == [naive.replace(tzinfo=UTC)]


def test_a_naive_time_that_two_versions_read_in_two_zones_is_refused(bench: Bench) -> None:
    def seen(zone: str | None) -> hw.FeatureView:
        return weather(source=hw.PushSource(event_time="at", timezone=zone))

    naive, aware = datetime(2023, 7, 1, 12), datetime(2023, 7, 1, 12, tzinfo=UTC)
    bench.apply(AIRPORT, seen("America/New_York"))
    bench.write("weather", [row("A", 1.0, at=naive)])
    bench.apply(AIRPORT, seen("Europe/Berlin"))
    for rows in ([row("A", 2.0, at=naive)], pa.Table.from_pylist([row("A", 2.0, at=naive)])):
        with pytest.raises(
            RowsRejected, match=r"'at': a time without an offset.*1.0.0 in America/New_York and 2.0.0 in"
        ):
            bench.write("weather", rows)
    report = bench.write("weather", [row("A", 3.0, at=naive), row("B", 4.0, at=aware)], errors="report")
    assert (report.applied, report.rejected) == (1, 1)
    # zones whose clocks say the same do not matter
    bench.apply(AIRPORT, weather(source=hw.PushSource(event_time="at", timezone="Europe/Paris")))
    bench.context.versions.promote("weather", "3.0.0", watermarks={}, now=bench.at, force=True)
    bench.context.versions.retire("weather", "1.0.0", now=bench.at)
    bench.registry.refresh()
    assert bench.write("weather", [row("A", 5.0, at=naive)]).applied == 1
    reader = bench.reader(["weather:temp"])
    assert reader.read(["A"]).event_times["weather"] == [naive.replace(tzinfo=UTC) - timedelta(hours=2)]


def test_a_view_may_have_more_versions_than_a_number_has_bits(bench: Bench) -> None:
    bench.apply(AIRPORT, weather(source=hw.PushSource(event_time="at")))
    record = bench.registry.refresh().view("weather")
    views = [RowVersion(whole_view(record, record.version("1.0.0"))) for _ in range(70)]
    wind = [hw.Feature("wind", hw.Float64)]
    bench.apply(AIRPORT, weather(source=hw.PushSource(event_time="at"), features=wind))
    record = bench.registry.refresh().view("weather")
    views[66] = RowVersion(whole_view(record, record.version("2.0.0")))
    rows = [row("A", 1.0), {"origin": "B", "at": T0, "wind": 5.0}, row("C", 2.0), row(None, 3.0)]
    table = pa.Table.from_pylist([{**one, "wind": one.get("wind")} for one in rows])
    for data in (rows, table):
        checked = check_rows("weather", data, views, list)
        taken = {tuple(g.rows.tolist()): g.versions for g in checked.groups}
        others = tuple(i for i in range(70) if i != 66)
        assert checked.rejected == 1
        if data is rows:
            assert taken == {(0, 2): others, (1,): (66,)}
        else:
            assert taken == {(0, 1, 2): tuple(range(70))}


def test_an_online_store_that_fails_after_the_log_says_that_the_rows_are_kept(bench: Bench) -> None:
    class Full(MemoryOnlineStore):
        def put(self, rows: Any, **options: Any) -> list[PutOutcome]:
            raise StorageFull("no room")

    bench.open(Full())
    bench.apply(AIRPORT, weather())
    with pytest.raises(StorageFull, match="position 1"):
        bench.write("weather", [row("A", 1.0)])
    bench.open(MemoryOnlineStore())
    bench.materialize()
    assert bench.values("weather:temp", ["A"]) == [1.0]


PUSHED = hw.FeatureView(
    "pushed", entity=AIRPORT, source=hw.PushSource(event_time="at"), features=[hw.Feature("temp", hw.Float64)]
)


def test_history_that_is_loaded_counts_as_known_at_its_event_time(bench: Bench) -> None:
    bench.apply(AIRPORT, PUSHED)
    bench.pass_time(days=10)
    rows = [{"airport": "JFK", "at": T0 + timedelta(days=day), "temp": float(day)} for day in range(5)]
    bench.write("pushed", [{**rows[0], "airport": "EWR"}])
    assert bench.write("pushed", rows, created="event").applied == 5
    spine = pa.table(
        {"airport": ["JFK", "EWR"] * 2, "timestamp": [T0 + timedelta(days=2, hours=1)] * 2 + [bench.at] * 2}
    )
    found = historical(bench.context, spine, ["pushed:temp"]).to_arrow()["temp"].to_pylist()
    assert found == [2.0, None, 4.0, 0.0]
    assert bench.values("pushed:temp", ["JFK", "EWR"]) == [4.0, 0.0]
    assert [r["created_time"] for r in logged(bench, "pushed") if r["airport"] == "JFK"] == [r["at"] for r in rows]
    bench.materialize(force=True)
    assert bench.values("pushed:temp", ["JFK"]) == [4.0]


def test_loading_history_twice_changes_nothing(bench: Bench) -> None:
    bench.apply(AIRPORT, PUSHED)
    old = [{"airport": "JFK", "at": T0 - timedelta(days=2), "temp": 1.0}]
    bench.write("pushed", old, created="event")
    bench.write("pushed", [{"airport": "JFK", "at": T0 - timedelta(days=2), "temp": 9.0}])
    bench.write("pushed", old, created="event")
    assert bench.values("pushed:temp", ["JFK"]) == [9.0]


def test_loaded_history_takes_the_delay_of_the_source_and_keeps_created_times(bench: Bench) -> None:
    source = hw.TableSource(event_time="at", created_time="seen", delay="1h")
    bench.apply(AIRPORT, weather(source=source))
    bench.pass_time(days=1)
    seen = T0 + timedelta(hours=5)
    rows = [row("A", 1.0, seen=None), row("B", 2.0, seen=seen), row("C", 3.0, seen=None, created_time=seen)]
    bench.write("weather", rows, created="event")
    assert [r["created_time"] for r in logged(bench)] == [T0 + timedelta(hours=1), None, seen]
    for key, known in (("A", T0 + timedelta(hours=1)), ("B", seen), ("C", seen)):
        spine = pa.table({"airport": [key] * 2, "timestamp": [known - timedelta(seconds=1), known]})
        assert historical(bench.context, spine, ["weather:temp"]).to_arrow()["temp"].is_valid().to_pylist() == [
            False,
            True,
        ]


def test_loaded_rows_at_the_end_of_time_stay_within_it(bench: Bench) -> None:
    source = hw.TableSource(event_time="at", delay="30d")
    bench.apply(AIRPORT, weather(source=source))
    last = datetime.max.replace(tzinfo=UTC)
    assert bench.write("weather", [row("A", 1.0, last)], created="event").future == 1
    assert logged(bench)[0]["created_time"] == last
    assert bench.materialize().runs[0].future == 1


def test_what_is_not_a_way_to_be_known_is_refused(bench: Bench) -> None:
    facts = hw.FeatureView("facts", entity=AIRPORT, source=hw.PushSource(), features=[hw.Feature("size", hw.Int64)])
    bench.apply(AIRPORT, PUSHED, facts)
    with pytest.raises(UsageError, match="created='now': write 'arrival' or 'event'"):
        bench.write("pushed", [], created="now")
    with pytest.raises(UsageError, match="no event time"):
        bench.write("facts", [{"airport": "A", "size": 1}], created="event")


@pytest.mark.parametrize("to", ["both", "offline", "online"])
def test_columns_that_no_version_reads_break_nothing_whatever_they_hold(bench: Bench, to: str) -> None:
    columns = {"airport": hw.String, "at": hw.Timestamp, "temp": hw.Float64, "note": hw.String}
    source = hw.PushSource(event_time="at", schema=columns)
    view = hw.FeatureView("pushed", entity=AIRPORT, source=source, features=[hw.Feature("temp", hw.Float64)])
    bench.apply(AIRPORT, view)
    good = {"airport": "JFK", "at": T0, "temp": 1.0}
    notes: list[Any] = ["text", "\ud800", object(), {"a": {"b": [1, "x"]}}, 10**400, datetime.max, float("nan")]
    report = bench.write("pushed", [{**good, "note": note} for note in notes], to=to)
    assert (report.rejected, report.unread) == (0, {"note": len(notes)})
    for note in (
        pa.array([b"\xff"]).view(pa.string()),
        pa.array([2**60]).view(pa.timestamp("us")),
        pa.array([{"a": 1}]),
        pa.nulls(1),
    ):
        table = pa.table(
            {"airport": ["JFK"], "at": pa.array([T0], pa.timestamp("us", "UTC")), "temp": [2.0], "note": note}
        )
        assert bench.write("pushed", table, to=to).unread == {"note": 1}
    bench.materialize()
    if to != "online":
        assert set(logged(bench, "pushed")[0]) == {"airport", "at", "temp", "__position", "__arrival"}


def test_an_event_id_is_kept_and_must_be_readable(bench: Bench) -> None:
    source = hw.PushSource(event_time="at", event_id="id")
    view = hw.FeatureView("pushed", entity=AIRPORT, source=source, features=[hw.Feature("temp", hw.Float64)])
    bench.apply(AIRPORT, view)
    good = {"airport": "JFK", "at": T0, "temp": 1.0}
    bench.write("pushed", [{**good, "id": "a"}])
    assert logged(bench, "pushed")[0]["id"] == "a"
    for odd in ("\ud800", object(), {"a": 1}):
        with pytest.raises(RowsRejected, match=r"row 0: column 'id' \(event id\)"):
            bench.write("pushed", [{**good, "id": odd}])
