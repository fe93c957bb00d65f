"""Rows put online by Spark's own processes, on Sail (Spark Connect) and on Spark itself.

It runs in an environment of its own: `make test-sail`, `make test-spark`.
"""

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headwater as hw
from headwater.offline.engines.spark.engine import SparkEngine
from headwater.offline.sink import Executors
from headwater.online.meta import read_watermarks
from headwater.online.rows.codec import HEADER_SIZE, SEQUENCE
from headwater.testing import SCALE
from tests.servers.spark import SAIL

NOW = datetime(2024, 3, 10, 12, tzinfo=UTC)
USER = hw.Entity("user", join_keys={"user": hw.String})


@pytest.fixture
def own_table(tmp_path, spark):
    """A table of Spark's with rows of 200 users, some without a key or a time, some known later, and some that tie."""
    rows = [
        {
            "user": None if n % 97 == 0 else f"user {n % 200}",
            "at": None if n % 89 == 0 else NOW + timedelta(seconds=n // 200 * 3_600 - 10_000),
            "x": float(n),
            "tags": [f"t{n}", None],
            "near": [float(n), 0.5],
        }
        for n in range(800)
    ]
    rows += [{**row, "x": -row["x"]} for row in rows[200:400:5]]
    schema = {"user": pa.string(), "at": pa.timestamp("us", "UTC"), "x": pa.float64(), "tags": pa.list_(pa.string())}
    folder = tmp_path / "events"
    folder.mkdir()
    table = pa.Table.from_pylist(rows, pa.schema({**schema, "near": pa.list_(pa.float32())}))
    for i in range(3):
        pq.write_table(table.slice(i * 300, 300), folder / f"{i}.parquet")
    return folder


def view(folder, engine, name):
    if SAIL or engine is None:  # its tables are a session's own, and have no names that a definition could hold
        source = hw.ParquetSource(str(folder), event_time="at")
    else:
        engine.session().spark.sql(f"CREATE TABLE default.{name} USING parquet LOCATION 'file://{folder}'")
        source = hw.SQLSource(f"SELECT * FROM default.{name}", event_time="at")
    return hw.FeatureView(
        "activity",
        entity=USER,
        source=source,
        features=[
            hw.Feature("x", hw.Float64),
            hw.Feature("tags", hw.Array(hw.String)),
            hw.Feature("near", hw.Embedding(2)),
        ],
    )


def state(store):
    context = store.context
    rows = {key: row[: SEQUENCE.start] + row[HEADER_SIZE:] for key, row in context.online.scan(b"") if key[0]}
    mark = read_watermarks(context.online, context.project, [("activity", "1.0.0")])["activity", "1.0.0"]
    return rows, (mark.end, mark.position)


def no_rows(*given):
    raise AssertionError("rows came to the driver")


def shown(report):
    (run,) = report.runs
    names = ("rows", "keys", "null_keys", "null_times", "future", "ties", "skipped", "too_large", "watermark")
    return {name: getattr(run, name) for name in names}


@pytest.mark.parametrize(
    "kind", ["lmdb", "redis", "dynamodb"] if SCALE > 1 else ["redis", "dynamodb"] if SAIL else ["lmdb"]
)
def test_executors_put_what_one_process_puts(tmp_path, spark, own_table, kind, request, monkeypatch):
    if kind == "redis":
        server = request.getfixturevalue("redis_server")
        server.client.flushall()
        url = server.url
    elif kind == "dynamodb":
        url = request.getfixturevalue("dynamodb_server").url(timeout=30)
    else:
        url = f"lmdb:{tmp_path}/online"
    found, engines = [], []
    for online, where in (("memory:", None), (url, Executors.LOCAL)):
        folder = tmp_path / online[:5] / "project"
        folder.mkdir(parents=True)
        engine = SparkEngine(folder, session=spark)
        with hw.FeatureStore(folder, online=online, offline=engine, clock=lambda: NOW) as store:
            store.apply([USER, view(own_table, engine, f"events_{kind}_{len(engines)}")])
            written = [{"user": f"user {n}", "at": NOW, "x": 0.5, "tags": [], "near": [0.0, 1.0]} for n in range(20)]
            store.write("activity", written, to="offline")
            store.delete("activity", ["user 3", "user 199"])
            if where is not None:
                assert engine.executors is where

                monkeypatch.setattr(SparkEngine, "changes", no_rows)
            report = shown(store.materialize())
            found.append((state(store), report))
            if where is not None:
                monkeypatch.undo()
            again = store.materialize().runs[0]
            assert (again.applied, again.superseded) == (0, 0) or again.applied + again.superseded == again.keys
            # newer than history, gone from it, of other values, and deleted
            newer = [{"user": f"user {n}", "at": NOW, "x": 9.0, "tags": [], "near": [0.0, 1.0]} for n in (5, 30, 400)]
            store.write("activity", newer, to="online")
            store.delete("activity", ["user 30", "user 7"])
            if where is not None:
                monkeypatch.setattr(SparkEngine, "changes", no_rows)
            forced = store.materialize(force=True)
            monkeypatch.undo()
            found.append((state(store), shown(forced), forced.runs[0].applied, forced.runs[0].removed))
        engines.append(engine)
    assert found[0] == found[2]
    assert found[1] == found[3]
    assert found[1][2] and found[1][3]
    for engine in engines:
        engine.close()


def test_executors_settle_ties(tmp_path, spark, own_table, request, monkeypatch):
    if SAIL:
        server = request.getfixturevalue("redis_server")
        server.client.flushall()
    url = server.url if SAIL else f"lmdb:{tmp_path}/online"
    first = pq.read_table(own_table / "0.parquet")
    at = first.schema.get_field_index("x")
    corrected = first.set_column(at, "x", pa.array([float(n % 3 + n) for n in range(first.num_rows)]))
    found = []
    for online, session in (("memory:", None), (url, spark)):
        folder = tmp_path / online[:5] / "project"
        folder.mkdir(parents=True)
        pq.write_table(first, own_table / "0.parquet")
        engine = SparkEngine(folder, session=session) if session is not None else None
        with hw.FeatureStore(folder, online=online, offline=engine, clock=lambda: NOW) as store:
            store.apply([USER, view(own_table, None, "")])
            if engine is not None:
                monkeypatch.setattr(SparkEngine, "changes", no_rows)
            # up to then the newest rows of half of the users are in the first file
            store.materialize(end=NOW - timedelta(seconds=6_000))
            pq.write_table(corrected, own_table / "0.parquet")
            report = store.materialize(start=NOW - timedelta(days=1), end=NOW - timedelta(seconds=6_000))
            (run,) = report.runs
            found.append((state(store), shown(report), run.applied, run.superseded))
        if engine is not None:
            engine.close()
    assert found[0] == found[1]
    assert found[0][2] > 50 and found[0][1]["ties"] > 0
