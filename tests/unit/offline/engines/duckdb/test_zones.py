"""Sources and spines with naive local times: the same instants on every road."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import product
from json import dumps
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headwater as hw
from headwater.clock import FIRST_MICROS, LAST_MICROS, from_micros, to_micros
from headwater.definitions.source import Source
from headwater.errors import DefinitionError, HeadwaterError, UsageError
from headwater.planning.local_time import source_times
from tests.matrices import share

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
        if not isinstance(source, hw.PushSource):
            counts = history.metadata.views["v"]
            assert (counts.repeated_times, counts.skipped_times) == (2, 2)
            assert any("repeats; the later instant is used" in said for said in history.metadata.warnings)


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


NOON = datetime(2026, 7, 1, 12)
BERLIN, NEW_YORK = "Europe/Berlin", "America/New_York"
AT_NOON = {
    None: datetime(2026, 7, 1, 12, tzinfo=UTC),
    "UTC": datetime(2026, 7, 1, 12, tzinfo=UTC),
    BERLIN: datetime(2026, 7, 1, 10, tzinfo=UTC),
    NEW_YORK: datetime(2026, 7, 1, 16, tzinfo=UTC),
}
SCHEMA = {"user": hw.Int64, "at": hw.Timestamp, "x": hw.Float64}
TEXT = "2026-07-01T12:00:00"


def table_of(kind: str, folder: Path, zone: str | None, text: str = TEXT) -> Source:
    """A table of a query with one row at noon, in a zone of its own or in none."""
    rows = pa.table({"user": [1], "at": [NOON], "x": [1.0]})
    if kind == "csv":
        (folder / "t.csv").write_text(f"user,at,x\n1,{text},1\n")
        return hw.CSVSource("t.csv", timezone=zone, schema=SCHEMA)
    if kind == "json":
        (folder / "t.json").write_text(f'{{"user": 1, "at": "{text}", "x": 1.0}}')
        return hw.JSONSource("t.json", timezone=zone, schema=SCHEMA)
    if kind == "memory":
        return hw.TableSource(rows, timezone=zone)
    if kind == "nanoseconds":
        rows = rows.set_column(1, "at", rows["at"].cast(pa.timestamp("ns")))
    pq.write_table(rows, folder / "t.parquet")
    source = hw.ParquetSource("t.parquet", timezone=None if kind == "query" else zone)
    return source if kind != "query" else hw.SQLSource("SELECT * FROM f", tables={"f": source}, timezone=zone)


def time_of_row(folder: Path, source: Source, **sources: Any) -> datetime:
    features = [hw.Feature("x", hw.Float64), hw.Feature("at", hw.Timestamp)]
    view = hw.FeatureView("v", entity=USER, source=source, features=features)
    with hw.FeatureStore.in_memory([USER, view], path=folder, clock=lambda: NOW, **sources) as store:
        store.materialize()
        spine = [{"user": 1, "timestamp": NOW}]
        (row,) = store.get_historical_features(spine, ["v:*"], include=("event_time",)).to_pylist()
        online = store.get_online_features(["v:*"], [1])
        assert row["at"] == row["v__event_time"] == online.to_dict()["at"][0] == online.event_times["v"][0]
        return row["at"]


@pytest.mark.parametrize(
    ("kind", "inner", "outer"),
    share(
        product(["parquet", "nanoseconds", "csv", "json", "memory", "query"], [None, "UTC", NEW_YORK], [None, BERLIN]),
        4,
    ),
)
def test_the_tables_of_a_query_have_a_zone_of_their_own(
    tmp_path: Path, kind: str, inner: str | None, outer: str | None
) -> None:
    tables = {"t": table_of(kind, tmp_path, inner)}
    source = hw.SQLSource("SELECT * FROM t", tables=tables, event_time="at", timezone=outer)
    assert time_of_row(tmp_path, source) == AT_NOON[inner or outer]


@pytest.mark.parametrize("kind", ["csv", "json", "memory"])
def test_rows_instead_of_a_query_s_table_are_of_its_zone(tmp_path: Path, kind: str) -> None:
    tables = {"t": table_of(kind, tmp_path, NEW_YORK)}
    source = hw.SQLSource("SELECT * FROM t", tables=tables, event_time="at", timezone=BERLIN)
    instead = {"v": {"t": [{"user": 1, "at": NOON, "x": 1.0}]}}
    assert time_of_row(tmp_path, source, sources=instead) == AT_NOON[NEW_YORK]


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_a_time_with_an_offset_is_no_naive_time_of_a_query(tmp_path: Path, kind: str) -> None:
    def source(inner: str | None, outer: str | None) -> Source:
        tables = {"t": table_of(kind, tmp_path, inner, f"{TEXT}+02:00")}
        return hw.SQLSource("SELECT * FROM t", tables=tables, event_time="at", timezone=outer)

    assert time_of_row(tmp_path, source(None, None)) == AT_NOON[BERLIN]
    assert time_of_row(tmp_path, source(NEW_YORK, None)) == AT_NOON[BERLIN]
    assert time_of_row(tmp_path, source(NEW_YORK, NEW_YORK)) == AT_NOON[BERLIN]
    with pytest.raises(HeadwaterError, match=r"line [12], column 'at': .* is written with its offset.*state timezone="):
        time_of_row(tmp_path, source(None, NEW_YORK))


ZONES = [None, BERLIN, "America/Sao_Paulo", "America/Havana", "+05:30"]
DAYS = [date(2018, 11, 4), date(2018, 3, 11), date(2026, 7, 1), date(2018, 11, 4), date(2019, 11, 3)]
"""In Sao Paulo the first has no midnight, in Havana the last has two."""


@pytest.mark.parametrize(("kind", "zone"), share(product(["parquet", "query", "memory", "push"], ZONES), 4))
def test_a_day_that_is_a_time_too_is_the_day_that_was_given(tmp_path: Path, kind: str, zone: str | None) -> None:
    given = pa.table({"user": range(5), "day": DAYS, "x": [1.0] * 5})
    pq.write_table(given, tmp_path / "d.parquet")
    options: dict[str, Any] = {"event_time": "day", "timezone": zone}
    source = {
        "parquet": hw.ParquetSource("d.parquet", **options),
        "query": hw.SQLSource("SELECT * FROM d", tables={"d": hw.ParquetSource("d.parquet")}, **options),
        "memory": hw.TableSource(given, **options),
        "push": hw.PushSource(**options),
    }[kind]
    features = [hw.Feature("day", hw.Date), hw.Feature("x", hw.Float64)]
    view = hw.FeatureView("v", entity=USER, source=source, features=features)
    spine = pa.table({"user": range(10), "timestamp": [NOW] * 10})

    def history(store: hw.FeatureStore) -> list[Any]:
        result = store.get_historical_features(spine, ["v:*"], include=("event_time",)).to_arrow()
        return [result[name].to_pylist() for name in ("day", "x", "v__event_time")]

    def online(store: hw.FeatureStore) -> list[Any]:
        result = store.get_online_features(["v:*"], list(range(10)))
        return [result.to_dict()["day"], result.to_dict()["x"], result.event_times["v"]]

    with hw.FeatureStore.in_memory([USER, view], path=tmp_path, clock=lambda: NOW) as store:
        assert history(store)[:2] == [[None] * 10] * 2 if kind == "push" else [[*DAYS, *[None] * 5], [1.0] * 5]
        if kind == "push":
            store.write("v", given)
        store.materialize()
        # later rows of keys that the source has, and of others, as tables and as dicts
        later = [{"user": user, "day": DAYS[user % 5] + timedelta(user % 2), "x": 2.0} for user in range(1, 10)]
        assert store.write("v", later[:4]).applied == 4
        assert store.write("v", pa.Table.from_pylist(later[4:])).applied == 5
        refused = store.write("v", [{"user": 1, "day": datetime(2026, 1, 1, 5), "x": 3.0}], errors="report")
        assert refused.rejected == 1 and "is not a date" in refused.problems[0]
        right = [DAYS[0], *(row["day"] for row in later)]
        for again in (False, True):
            store.materialize(force=again)
            assert history(store)[:2] == [right, [1.0, *[2.0] * 9]]
            assert online(store) == history(store)


def test_rows_whose_time_is_no_midnight_are_not_those_of_a_version_with_days(tmp_path: Path) -> None:
    def view(*features: hw.Feature) -> hw.FeatureView:
        return hw.FeatureView("v", entity=USER, source=hw.PushSource(event_time="day"), features=features)

    x, day = hw.Feature("x", hw.Float64), hw.Feature("day", hw.Date)
    with hw.FeatureStore(tmp_path, clock=lambda: NOW) as store:
        store.apply([USER, view(x)])
        store.write("v", [{"user": 1, "day": datetime(2026, 1, 1, 5), "x": 1.0}])
        store.write("v", [{"user": 2, "day": date(2026, 1, 2), "x": 2.0}])
        store.apply([USER, view(x, day)])
        store.materialize()
        spine = pa.table({"user": [1, 2], "timestamp": [NOW] * 2})
        assert store.get_historical_features(spine, ["v:*"]).to_arrow()["day"].to_pylist() == [None, date(2026, 1, 2)]
        assert store.get_online_features(["v:*"], [1, 2]).to_dict()["day"] == [None, date(2026, 1, 2)]


@pytest.mark.parametrize("kind", ["parquet", "query", "table of a query", "memory"])
def test_an_instant_beyond_the_years_is_named(tmp_path: Path, kind: str) -> None:
    ends = [datetime(2027, 1, 1), datetime(9999, 12, 31, 23, 59, 59)]
    given = pa.table({"user": [1, 2], "at": [NOON] * 2, "ends": ends})
    pq.write_table(given, tmp_path / "d.parquet")
    options: dict[str, Any] = {"event_time": "at", "timezone": NEW_YORK}
    inner = hw.ParquetSource("d.parquet", timezone=NEW_YORK if kind == "table of a query" else None)
    source = {
        "parquet": hw.ParquetSource("d.parquet", **options),
        "query": hw.SQLSource("SELECT * FROM d", tables={"d": inner}, **options),
        "table of a query": hw.SQLSource("SELECT * FROM d", tables={"d": inner}, **options),
        "memory": hw.TableSource(given, **options),
    }[kind]
    view = hw.FeatureView("v", entity=USER, source=source, features=[hw.Feature("ends", hw.Timestamp)])
    with hw.FeatureStore.in_memory([USER, view], path=tmp_path, clock=lambda: NOW) as store:
        spine = pa.table({"user": [1, 2], "timestamp": [NOW] * 2})
        row = "" if kind == "table of a query" else r".*row 1"
        match = rf"'ends' .*: 9999-12-31 23:59:59{row} is outside the years 1 to 9999 as an instant"
        with pytest.raises(HeadwaterError, match=match):
            store.get_historical_features(spine, ["v:ends"]).to_arrow()
        with pytest.raises(HeadwaterError, match=match):
            store.materialize()


@pytest.mark.parametrize("zone", [BERLIN, NEW_YORK, "Asia/Kolkata", "Australia/Lord_Howe", "-09:30"])
def test_the_first_and_the_last_days_are_what_python_takes_them_for(tmp_path: Path, zone: str) -> None:
    days = [datetime(1, 1, 1), datetime(9999, 12, 29, 12)]
    given = [day + timedelta(hours=6 * step, microseconds=step) for day in days for step in range(1, 9)]
    local = source_times(zone)
    assert local is not None
    micros = {time: local.instant(to_micros(time.replace(tzinfo=UTC)))[0] for time in given}
    times = [time for time in given if FIRST_MICROS <= micros[time] <= LAST_MICROS]
    assert len(times) > 10
    instants = [from_micros(micros[time]) for time in times]
    rows = pa.table({"user": range(len(times)), "at": [NOON] * len(times), "x": times})
    pq.write_table(rows, tmp_path / "d.parquet")
    source = hw.ParquetSource("d.parquet", event_time="at", timezone=zone)
    view = hw.FeatureView("v", entity=USER, source=source, features=[hw.Feature("x", hw.Timestamp)])
    with hw.FeatureStore.in_memory([USER, view], path=tmp_path, clock=lambda: NOW) as store:
        spine = pa.table({"user": rows["user"], "timestamp": [NOW] * len(times)})
        assert store.get_historical_features(spine, ["v:x"]).to_arrow()["x"].to_pylist() == instants


FAR = datetime(9999, 12, 31, 23, 59, 59)


@pytest.mark.parametrize(
    ("at", "ends"),
    [
        ([NOON, NOON], [FAR, NOON]),
        ([FAR, NOON], [NOON, NOON]),
        (pa.array([10**14, 0], pa.timestamp("s")), [NOON, NOON]),
        (pa.array([-(2**62), 0], pa.timestamp("ms")), [NOON, NOON]),
        (pa.array([2**63 - 1, 0], pa.timestamp("us")), [NOON, NOON]),
        ([NOON, NOON], pa.array([2**40, 0], pa.timestamp("s"))),
    ],
)
@pytest.mark.parametrize("zone", [None, NEW_YORK, "Asia/Kolkata"])
def test_a_written_instant_beyond_the_years_is_named(zone: str | None, at: Any, ends: Any) -> None:
    source = hw.PushSource(event_time="at", timezone=zone)
    view = hw.FeatureView("v", entity=USER, source=source, features=[hw.Feature("ends", hw.Timestamp)])
    table = pa.table({"user": [1, 2], "at": at, "ends": ends})
    beyond = isinstance(at, pa.Array) or isinstance(ends, pa.Array) or zone == NEW_YORK
    with hw.FeatureStore.in_memory([USER, view], clock=lambda: datetime(9999, 1, 1, tzinfo=UTC)) as store:
        for rows in [table] if isinstance(at, pa.Array) or isinstance(ends, pa.Array) else [table, table.to_pylist()]:
            report = store.write("v", rows, errors="report")
            assert report.rejected == beyond
            if beyond:
                assert "row 0: column" in report.problems[0] and "outside the years" in report.problems[0]


@pytest.mark.parametrize("far", [FAR, datetime(1, 1, 1)])
@pytest.mark.parametrize("zone", [NEW_YORK, "Asia/Kolkata"])
def test_a_spine_beyond_the_years_is_read_or_named(zone: str, far: datetime) -> None:
    rows = [{"user": 1, "at": NOON, "x": 1.0}]
    source = hw.TableSource(rows, event_time="at")
    view = hw.FeatureView("v", entity=USER, source=source, features=[hw.Feature("x", hw.Float64)])
    with hw.FeatureStore.in_memory([USER, view], clock=lambda: NOW) as store:
        right = 1.0 if far == FAR else None
        for spine in (pa.table({"user": [1], "timestamp": [far]}), [{"user": 1, "timestamp": far}]):
            result = store.get_historical_features(spine, ["v:x"], timezone=zone)
            assert result.to_arrow()["x"].to_pylist() == [right]


@pytest.mark.parametrize(
    ("kind", "nested"),
    share(product([parquet, parquet_folder, csv, json, query, table, push], [False, True]), 2),
)
def test_naive_elements_of_arrays_are_of_the_source_s_zone(tmp_path: Path, kind: Any, nested: bool) -> None:
    right: list[Any] = [[RIGHT[0], None], None, [], [RIGHT[1], RIGHT[2]]]
    lists: list[Any] = [[TIMES[0], None], None, [], [TIMES[1], TIMES[2]]]
    dtype = hw.Array(hw.Timestamp)
    if nested:
        lists, right, dtype = [[item] for item in lists], [[item] for item in right], hw.Array(dtype)
    rows = pa.table({"user": [1, 2, 3, 4], "at": TIMES, "lists": lists})
    options: dict[str, Any] = {"event_time": "at", "timezone": "Europe/Berlin"}
    texts = [dumps(item, default=str) for item in lists]
    if kind is csv:
        quoted = ["" if text == "null" else '"' + text.replace('"', '""') + '"' for text in texts]
        lines = [f"{i + 1},{at},{text}" for i, (at, text) in enumerate(zip(TIMES, quoted, strict=True))]
        (tmp_path / "d.csv").write_text("\n".join(["user,at,lists", *lines]))
    elif kind is json:
        lines = [
            f'{{"user": {i + 1}, "at": "{at}", "lists": {t}}}'
            for i, (at, t) in enumerate(zip(TIMES, texts, strict=True))
        ]
        (tmp_path / "d.jsonl").write_text("\n".join(lines))
    elif kind is parquet_folder:
        (tmp_path / "d").mkdir()
        pq.write_table(rows.slice(0, 2), tmp_path / "d/0.parquet")
        pq.write_table(rows.slice(2), tmp_path / "d/1.parquet")
    else:
        pq.write_table(rows, tmp_path / "d.parquet")
    source = {
        parquet: hw.ParquetSource("d.parquet", **options),
        parquet_folder: hw.ParquetSource("d", **options),
        csv: hw.CSVSource("d.csv", **options),
        json: hw.JSONSource("d.jsonl", **options),
        query: hw.SQLSource("SELECT * FROM 'd.parquet'", **options),
        table: hw.TableSource(rows, **options),
        push: hw.PushSource(**options),
    }[kind]
    view = hw.FeatureView("v", entity=USER, source=source, features=[hw.Feature("lists", dtype)])
    with hw.FeatureStore.in_memory([USER, view], path=tmp_path, clock=lambda: NOW) as store:
        if kind is push:
            for part in (rows.slice(0, 1), rows.slice(1, 2).to_pylist(), rows.slice(2)):
                store.write("v", part)
        store.materialize()
        assert store.get_online_features(["v:lists"], [1, 2, 3, 4]).to_dict()["lists"] == right
        spine = pa.table({"user": [1, 2, 3, 4], "timestamp": [NOW] * 4})
        assert store.get_historical_features(spine, ["v:lists"]).to_arrow()["lists"].to_pylist() == right


@pytest.mark.parametrize(
    ("kind", "zone"),
    share(
        product(
            ["parquet", "query", "memory", "push", "csv", "json"],
            [None, "UTC", "Europe/Berlin", "America/New_York"],
        ),
        4,
    ),
)
def test_a_day_that_is_key_and_time_is_itself_or_refused_with_a_cure(
    tmp_path: Path, kind: str, zone: str | None
) -> None:
    days = pa.table({"day": [date(2026, 7, 1)], "x": [1.0]})
    pq.write_table(days, tmp_path / "d.parquet")
    (tmp_path / "d.csv").write_text("day,x\n2026-07-01,1\n")
    (tmp_path / "d.json").write_text('{"day": "2026-07-01", "x": 1.0}')
    options: dict[str, Any] = {"event_time": "day", "timezone": zone}
    source = {
        "parquet": hw.ParquetSource("d.parquet", **options),
        "query": hw.SQLSource("SELECT * FROM 'd.parquet'", **options),
        "memory": hw.TableSource(days, **options),
        "push": hw.PushSource(**options),
        "csv": hw.CSVSource("d.csv", **options),
        "json": hw.JSONSource("d.json", **options),
    }[kind]
    entity = hw.Entity("day", join_keys={"day": hw.Date})
    view = hw.FeatureView("v", entity=entity, source=source, features=[hw.Feature("x", hw.Float64)])
    cure = r"join key 'day' is a date, .*SELECT \*, CAST\(day AS TIMESTAMP\) AS day_time"
    if kind in ("push", "csv", "json") or zone not in (None, "UTC"):
        with pytest.raises(DefinitionError, match=cure):
            hw.FeatureStore.in_memory([entity, view], path=tmp_path)
        query = "SELECT *, CAST(day AS TIMESTAMP) AS day_time FROM 'd.parquet'"
        source = hw.SQLSource(query, event_time="day_time", timezone=zone)
        view = hw.FeatureView("v", entity=entity, source=source, features=[hw.Feature("x", hw.Float64)])
    with hw.FeatureStore.in_memory([entity, view], path=tmp_path, clock=lambda: NOW) as store:
        store.materialize()
        assert store.get_online_features(["v:x"], [date(2026, 7, 1)]).to_dict()["x"] == [1.0]
        spine = pa.table({"day": [date(2026, 7, 1)], "timestamp": [NOW]})
        assert store.get_historical_features(spine, ["v:x"]).to_arrow()["x"].to_pylist() == [1.0]
        if source.event_time == "day":
            with pytest.raises(HeadwaterError, match=cure):
                store.write("v", days)
