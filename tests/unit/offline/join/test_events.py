"""The events of a window version: rows of its source and log one by one, with keys, times, ids and columns."""

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from headwater_sqlite.engine import SQLiteEngine

import headwater as hw
from headwater.definitions.sources import TableSource
from headwater.errors import UsageError
from headwater.offline.base import EventsRequest, LogPart, LogSlice, SourceScope, ViewInput
from headwater.offline.engines.duckdb.engine import DuckDBEngine
from headwater.planning.resolve import whole_view
from tests.unit.offline.asking import registered

NOON = datetime(2024, 3, 10, 12, tzinfo=UTC)
MICROS = 1_710_072_000_000_000


def at(seconds):
    return NOON + timedelta(seconds=seconds)


def sales(source, **options):
    return hw.FeatureView(
        "sales",
        entity=hw.Entity("shop", join_keys={"shop": hw.Int32}),
        version="1.0.0",
        source=source,
        join_key_map={"shop": "place"},
        features=[
            hw.Aggregation("amount", "sum", "1h"),
            hw.Aggregation(None, "count", "1d", name="large", where="amount > 1 AND kind = 'food'"),
        ],
        columns={"amount": hw.Float64, "kind": hw.String},
        **options,
    )


SOLD = pa.table(
    {
        "place": pa.array([1, 2, None, 1], pa.int64()),
        "sold_at": pa.array([at(0), at(10), at(20), None], pa.timestamp("us", "UTC")),
        "amount": pa.array([1, 2, 3, 4], pa.int32()),
        "kind": ["food", None, "food", "fuel"],
        "id": pa.array([7, 8, 9, 10], pa.int32()),
    }
)


def written(rows, **columns):
    """A part of the log with rows of (place, seconds, amount, kind, position, arrival)."""
    place, seconds, amount, kind, position, arrival = zip(*rows, strict=True)
    table = pa.table(
        {
            "place": pa.array(place, pa.int64()),
            "sold_at": pa.array([at(s) for s in seconds], pa.timestamp("us", "UTC")),
            "amount": pa.array(amount, pa.float64()),
            "kind": pa.array(kind),
            **columns,
            "__position": pa.array(position, pa.int64()),
            "__arrival": pa.array([MICROS + a for a in arrival], pa.int64()),
        }
    )
    names = frozenset(n for n in table.column_names if not n.startswith("__"))
    return LogPart(names, table=table, schema=table.schema)


LOG = LogSlice(parts=(written([(1, 5, 9.5, "food", 4, 7_000_000), (2, 6, None, "fuel", 6, 8_000_000)]),), position=6)


def asked(given, log=None, /, **options):
    version = registered([sales(given)]).views["sales"]
    view = whole_view(version, version.versions["1.0.0"])
    return EventsRequest(ViewInput(view, view.view.source, log), **options)


def events(engine, *args, **options):
    batches = list(engine.events(asked(*args, **options)))
    table = pa.Table.from_batches(batches) if batches else pa.table({"__event": []})
    return sorted(table.to_pylist(), key=lambda row: (row["__origin"], row["__event"]))


@pytest.fixture
def engine(tmp_path):
    engine = DuckDBEngine(tmp_path)
    yield engine
    engine.close()


def source(**options):
    return TableSource(SOLD, event_time="sold_at", event_id="id", **options)


def test_rows_of_source_and_log(engine):
    found = events(engine, source(delay="1s"), LOG)
    assert found[0] == {
        "shop": 1,
        "__event": MICROS,
        "__created": MICROS + 1_000_000,
        "__origin": 0,
        "__position": 0,
        "__arrival": None,
        "__event_id": 7,
        "amount": 1.0,
        "kind": "food",
    }
    assert found[2] == {
        "shop": 1,
        "__event": MICROS + 5_000_000,
        "__created": MICROS + 7_000_000,
        "__origin": 1,
        "__position": 4,
        "__arrival": MICROS + 7_000_000,
        "__event_id": None,
        "amount": 9.5,
        "kind": "food",
    }
    # without a key or an event time a row is no event
    assert [(row["shop"], row["__position"]) for row in found] == [(1, 0), (2, 0), (1, 4), (2, 6)]
    batch = next(engine.events(asked(source(), LOG)))
    types = {
        name: str(batch.schema.field(name).type) for name in ("shop", "__event", "__origin", "__arrival", "amount")
    }
    assert types == {"shop": "int32", "__event": "int64", "__origin": "int8", "__arrival": "int64", "amount": "double"}


def test_parts_of_it(engine):
    positions = [row["__position"] for row in events(engine, source(), LOG, source=None)]
    assert positions == [4, 6]
    assert [row["__position"] for row in events(engine, source(), LOG, source=None, log=(4, 6))] == [6]
    assert [row["__position"] for row in events(engine, source(), LOG, log=None)] == [0, 0]
    some = events(engine, source(), LOG, keys=pa.table({"shop": pa.array([2, 2, 5], pa.int64())}))
    assert [(row["shop"], row["__position"]) for row in some] == [(2, 0), (2, 6)]
    until = events(engine, source(), LOG, known_until=MICROS + 7_000_000, known_after=MICROS)
    assert [row["__position"] for row in until] == [4]
    assert events(engine, source(), LOG, source=SourceScope(known_after=MICROS + 10_000_000), log=None) == []


def test_transactions_alone(engine):
    rows = [
        (1, second, 1.0, "food", position, 10 * arrival)
        for position, second, arrival in [
            (4, 5, 1),
            (5, 1, 1),
            (7, 2, 2),
            (9, 3, 3),
            (10, 9, 3),
            (11, 4, 3),
        ]
    ]
    part = written(rows[:3] + rows[4:])
    other = written(rows[3:4])
    log = LogSlice(parts=(part, other), position=11)

    def found(after, through):
        given = asked(source(), log, source=None, log=(after, through), transactions_alone=True)
        return [(row["__position"], row["__rows"]) for batch in engine.events(given) for row in batch.to_pylist()]

    assert found(0, 11) == [(5, 2), (7, 1), (11, 3)]
    assert found(5, 7) == [(7, 1)]
    assert found(11, 11) == []


def test_keys_alone(engine):
    rows = [(number % 5, number, 1.0, "food", number + 1, number) for number in range(200)]
    log = LogSlice(parts=(written(rows),), position=200)
    given = asked(source(), log, keys_alone=True)
    keys = [row for batch in engine.events(given) for row in batch.to_pylist()]
    assert sorted(row["shop"] for row in keys) == sorted({row["shop"] for row in events(engine, source(), log)})
    assert all(row.keys() == {"shop"} for row in keys)
    until = asked(source(), log, keys_alone=True, source=None, log=(0, 3))
    assert sorted(row["shop"] for batch in engine.events(until) for row in batch.to_pylist()) == [0, 1, 2]


@pytest.mark.parametrize("kind", [pa.int64(), pa.float64(), pa.uint8()])
def test_event_ids_of_source_and_log_are_the_same_in_any_type_of_number(engine, kind):
    log = LogSlice(parts=(written([(1, 5, 1.0, "food", 4, 0)], id=pa.array([7], kind)),), position=4)
    assert [row["__event_id"] for row in events(engine, source(), log)] == [7, 8, 7]


def test_a_push_source_has_the_rows_of_the_log_alone(engine):
    parts = (
        written([(1, 5, 1.0, "food", 4, 0)], id=pa.array([7], pa.int32())),
        written([(1, 6, 1.0, "food", 5, 0)]),
    )
    push = hw.PushSource(event_time="sold_at", event_id="id", schema={"id": hw.Int64})
    found = events(engine, push, LogSlice(parts=parts, position=5))
    assert [(row["__position"], row["__event_id"]) for row in found] == [(4, 7), (5, None)]
    assert events(engine, push) == []


def test_files_are_read_by_scope(engine, tmp_path):
    (tmp_path / "sold").mkdir()
    for i in range(2):
        pq.write_table(SOLD.slice(i, 1), tmp_path / "sold" / f"{i}.parquet")
    files = hw.ParquetSource("sold", event_time="sold_at", event_id="id")
    assert len(events(engine, files)) == 2
    listed = engine.list_files(files)
    some = events(engine, files, source=SourceScope(only=frozenset([listed[1].path])))
    assert [row["shop"] for row in some] == [2]


def test_an_engine_without_windows_says_so(tmp_path):
    engine = SQLiteEngine(tmp_path)
    assert not engine.windows
    with pytest.raises(UsageError, match="view 'sales' has window aggregations, which engine SQLiteEngine cannot"):
        engine.events(asked(source()))
    engine.close()
