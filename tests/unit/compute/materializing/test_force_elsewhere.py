"""Force by processes of an engine, beside force by one process: rows, tombstones, counts, and what the run is given."""

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headwater as hw
from headwater.compute.materializing import force_elsewhere, sink
from headwater.online.rows.codec import HEADER_SIZE, SEQUENCE, header
from headwater.online.rows.encoder import RowEncoder
from headwater.planning.resolve import whole_view
from tests.executors import ExecutorEngine, Luck

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
USER = hw.Entity("user", join_keys={"user": hw.String})
TAGS = pa.list_(pa.string())
SCHEMA = pa.schema({"user": pa.string(), "at": pa.timestamp("us", "UTC"), "x": pa.int64(), "tags": TAGS})
LONG = "long " * 200


def key(n: int) -> str:
    return f"{LONG}{n}" if n % 10 == 7 else f"user {n}"


def view() -> hw.FeatureView:
    return hw.FeatureView(
        "activity",
        entity=USER,
        source=hw.ParquetSource("source", event_time="at"),
        features=[hw.Feature("x", hw.Int64), hw.Feature("tags", hw.Array(hw.String))],
    )


class World:
    """One project with an online store, whose history changes in ways that only force takes."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.chance, self.now = folder, random.Random(seed), NOW
        (folder / "source").mkdir(parents=True)
        self.rows = [self.row(n, -100 * SECOND) for n in range(40)]
        self.save()

    def row(self, n: int, age: timedelta) -> dict[str, Any]:
        return {"user": key(n), "at": self.now + age, "x": self.chance.randrange(10**9), "tags": [str(n), None]}

    def save(self) -> None:
        pq.write_table(pa.Table.from_pylist(self.rows, SCHEMA), self.folder / "source" / "rows.parquet")

    def open(self, online: str, engine: Any = None) -> hw.FeatureStore:
        return hw.FeatureStore(self.folder, online=online, offline=engine, clock=lambda: self.now)

    def change(self, store: hw.FeatureStore) -> None:
        """Rows that left the source, are older, corrected, and new; cache-only ones; deletes, and what came after."""
        few = self.chance.sample
        store.materialize()
        for n in few(range(40), 6):
            store.write("activity", [{**self.row(n, -5 * SECOND)}])
        store.write("activity", [self.row(n, -SECOND) for n in (*few(range(40), 6), 50)], to="online")
        store.delete("activity", [key(n) for n in (*few(range(40), 5), 60)])
        store.delete("activity", [key(n) for n in few(range(40), 2)], purge=True)
        self.now += SECOND
        store.write("activity", [self.row(n, timedelta(0)) for n in few(range(40), 4)])
        gone, older, corrected = (set(few(range(40), 8)) for _ in range(3))
        left = [row for n, row in enumerate(self.rows) if n not in gone]
        for n, row in enumerate(left):
            if n in older:
                row["at"] -= 500 * SECOND
            if n in corrected:
                row["x"] += 1
        self.rows = [*left, self.row(45, -70 * SECOND), self.row(46, -70 * SECOND)]
        self.save()


def state(store: hw.FeatureStore) -> dict[Any, Any]:
    """Every row of the version as its times, position, tombstone and values."""
    record = store.context.registry.refresh().view("activity")
    rows = RowEncoder(store.context.project, whole_view(record, record.version()))
    found = {}
    for stored, row in store.context.online.scan(rows.prefix):
        told = header(row)
        assert told is not None
        found[rows.decode_key(stored, row)] = (replace(told, sequence=1), row[: SEQUENCE.start], row[HEADER_SIZE:])
    return found


def shown(report: Any) -> dict[str, Any]:
    (run,) = report.runs
    names = ("rows", "keys", "applied", "removed", "null_keys", "ties", "too_large", "deleted", "warnings")
    return {name: getattr(run, name) for name in names}


@pytest.fixture(params=["lmdb", "redis", "dynamodb"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "lmdb":
        yield f"lmdb:{tmp_path}/online"
    elif request.param == "redis":
        server = request.getfixturevalue("redis_server")
        server.client.flushall()
        yield server.url
    else:
        yield request.getfixturevalue("dynamodb_server").url(timeout=30)


@pytest.fixture
def no_rows_here(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    def refuse(*given: Any) -> Any:
        raise AssertionError("rows of the source came to the run")

    monkeypatch.setattr(ExecutorEngine, "changes", refuse)
    return monkeypatch


def forced_here(folder: Path, seed: int) -> tuple[dict[Any, Any], list[dict[str, Any]]]:
    """What one process leaves in memory, and reports; twice."""
    world = World(folder, seed)
    with world.open("memory:") as store:
        store.apply([USER, view()])
        world.change(store)
        reports = [shown(store.materialize(force=True)) for _ in range(2)]
        return state(store), reports


@pytest.mark.parametrize("twice", [0.0, 0.5])
def test_processes_leave_what_one_process_leaves(
    tmp_path: Path, place: str, no_rows_here: pytest.MonkeyPatch, twice: float
) -> None:
    wanted, reports = forced_here(tmp_path / "here" / "project", 3)
    assert reports[0]["removed"] and reports[0]["applied"]
    world = World(tmp_path / "there" / "project", 3)
    with world.open(place) as store:
        store.apply([USER, view()])
        world.change(store)
    engine = ExecutorEngine(world.folder, 3, luck=Luck(1, twice=twice))
    with world.open(place, engine) as store:
        found = [shown(store.materialize(force=True)) for _ in range(2)]
        assert state(store) == wanted
        assert found[1] == reports[1]
        if not twice:
            # of a row that the other one of two has put nothing is counted
            assert found[0] == reports[0]
    engine.close()


def test_some_keys_alone_are_made_equal(tmp_path: Path, no_rows_here: pytest.MonkeyPatch) -> None:
    wanted, _ = forced_here(tmp_path / "here" / "project", 4)
    world = World(tmp_path / "there" / "project", 4)
    url = f"lmdb:{tmp_path}/online"
    with world.open(url) as store:
        store.apply([USER, view()])
        world.change(store)
        before = state(store)
    some = [key(n) for n in (*range(0, 40, 3), 45, 60, 70)]
    engine = ExecutorEngine(world.folder, 3)
    with world.open(url, engine) as store:
        store.materialize(force=True, entities=some)
        after = state(store)
        assert {k: row for k, row in after.items() if k[0] in some} == {
            k: row for k, row in wanted.items() if k[0] in some
        }
        others = {k: row for k, row in before.items() if k[0] not in some}
        assert {k: row for k, row in after.items() if k[0] not in some} == others
        report = shown(store.materialize(force=True, entities=["nobody"]))
        assert (report["keys"], report["removed"]) == (0, 0)
    engine.close()


def test_rows_that_cannot_be_read_are_removed_where_there_are_no_others(tmp_path: Path) -> None:
    world = World(tmp_path / "project", 4)
    engine = ExecutorEngine(world.folder, 3)
    with world.open(f"lmdb:{tmp_path}/online", engine) as store:
        store.apply([USER, view()])
        record = store.context.registry.refresh().view("activity")
        rows = RowEncoder(store.context.project, whole_view(record, record.version()))
        damaged = [key for key in rows.stored_keys(pa.table({"user": ["nobody", key(1)]})) if key is not None]
        store.context.online.compare_and_put_all([(each, 0, b"\x07 cut short") for each in damaged])
        report = shown(store.materialize(force=True))
        assert (report["keys"], report["removed"]) == (40, 1)
        assert len(state(store)) == 40
    engine.close()


def test_a_source_without_times_is_put_by_processes_too(tmp_path: Path, no_rows_here: pytest.MonkeyPatch) -> None:
    world = World(tmp_path / "project", 5)
    engine = ExecutorEngine(world.folder, 2)
    timeless = hw.FeatureView(
        "activity", entity=USER, source=hw.ParquetSource("source"), features=[hw.Feature("x", hw.Int64)]
    )
    with world.open(f"lmdb:{tmp_path}/online", engine) as store:
        store.apply([USER, timeless])
        first = shown(store.materialize())
        assert (first["keys"], first["applied"], first["removed"]) == (40, 40, 0)
        world.rows = [{**row, "x": 1} for row in world.rows[5:]]
        world.save()
        second = shown(store.materialize())
        assert (second["keys"], second["applied"], second["removed"]) == (35, 35, 5)
        assert set(store.get_online_features(["activity:x"], [key(n) for n in range(5, 40)]).to_dict()["x"]) == {1}
        assert len(state(store)) == 35
        (record,) = [store.context.registry.refresh().view("activity")]
        pending = store.context.forcing.pending("activity", record.version().version)
        assert pending, "what a process has begun may be done a little later"
    engine.close()


def test_rows_that_are_replaced_a_few_at_a_time(tmp_path: Path, no_rows_here: pytest.MonkeyPatch) -> None:
    no_rows_here.setattr(force_elsewhere, "AT_ONCE", 3)
    no_rows_here.setattr(sink, "ROWS", 4)
    wanted, reports = forced_here(tmp_path / "here" / "project", 6)
    world = World(tmp_path / "there" / "project", 6)
    url = f"lmdb:{tmp_path}/online"
    with world.open(url) as store:
        store.apply([USER, view()])
        world.change(store)
    engine = ExecutorEngine(world.folder, 2)
    with world.open(url, engine) as store:
        assert shown(store.materialize(force=True)) == reports[0]
        assert state(store) == wanted
    engine.close()
