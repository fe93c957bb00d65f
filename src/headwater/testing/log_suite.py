"""The conformance suite of the offline log: one order of positions and arrivals, whoever writes, rolls and reads."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from headwater.clock import MIN_MICROS
from headwater.errors import FormatError, StoreError
from headwater.offline import log as log_module
from headwater.offline.log import Appended, OfflineLog, RowGroup
from headwater.offline.log_marks import RowReading
from headwater.offline.log_tables import formats, metadata
from headwater.registry.engine import open_engine

Place = tuple[str, Path]

T0 = datetime(2024, 1, 1, tzinfo=UTC)
READING = RowReading(("k",), "at", None)


def _clock() -> datetime:
    """It stands still; a server's own clock is used instead of it."""
    return T0


def rows(
    keys: Sequence[str], values: Sequence[float | None], at: datetime = T0, **more: Sequence[object] | pa.Array
) -> pa.Table:
    """Rows as a user writes them."""
    columns: dict[str, object] = {
        "k": keys,
        "at": pa.array([at] * len(keys), pa.timestamp("us", "UTC")),
        "v": pa.array(values, pa.float64()),
    }
    return pa.table({**columns, **more})


def group(table: pa.Table, places: Sequence[int] | None = None) -> RowGroup:
    """Rows of one write."""
    return RowGroup(table, np.arange(table.num_rows) if places is None else np.array(places))


def content(log: OfflineLog, view: str = "w", until: int | None = None) -> list[tuple[int, str, object]]:
    """(position, key, v) of a slice, files and head alike."""
    found: list[tuple[int, str, object]] = []
    for part in log.slice(view, ["k"], until).parts:
        tables = [part.table] if part.table is not None else [pq.read_table(f) for f in part.files]
        for table in tables:
            found += [(r["__position"], r["k"], r.get("v")) for r in table.to_pylist()]
    return sorted(found)


def _arrivals(appended: Sequence[Appended]) -> list[int]:
    return [at for part in appended for at in part.table.column("__arrival").to_pylist()]


def _open(place: Place) -> OfflineLog:
    return OfflineLog(open_engine(*place), place[1] / "log", _clock)


class OfflineLogSuite:
    """A log by itself; subclass it and give the fixture `place`: an empty database, in memory or of its own."""

    @pytest.fixture
    def place(self) -> Place:
        """The URL of an empty database, and an empty folder that it is relative to."""
        raise NotImplementedError("give a fixture named `place`")

    @pytest.fixture
    def engine(self, place: Place) -> Iterator[sa.Engine]:
        """The database."""
        engine = open_engine(*place)
        yield engine
        engine.dispose()

    @pytest.fixture
    def log(self, engine: sa.Engine, place: Place) -> OfflineLog:
        """The log."""
        return OfflineLog(engine, place[1] / "log", _clock)

    def test_positions_follow_one_another_and_every_row_comes_back(self, log: OfflineLog) -> None:
        first = log.append("w", [group(rows(["a", "b"], [1.0, 2.0]))])
        second = log.append("w", [group(rows(["c"], [None]))])
        assert first[0].table.column("__position").to_pylist() == [1, 2]
        assert second[0].table.column("__position").to_pylist() == [3]
        assert content(log) == [(1, "a", 1.0), (2, "b", 2.0), (3, "c", None)]
        assert log.head_position() == 3
        assert content(log, until=2) == [(1, "a", 1.0), (2, "b", 2.0)]

    def test_groups_of_one_write_keep_the_order_of_its_rows(self, log: OfflineLog) -> None:
        wide = rows(["b", "d"], [2.0, 4.0], extra=[7, 8])
        log.append("w", [group(rows(["a", "c"], [1.0, 3.0]), [0, 2]), group(wide, [1, 3])])
        assert content(log) == [(1, "a", 1.0), (2, "b", 2.0), (3, "c", 3.0), (4, "d", 4.0)]
        assert {part.columns for part in log.slice("w", ["k"]).parts} == {
            frozenset(["k", "at", "v"]),
            frozenset(["k", "at", "v", "extra"]),
        }
        log.roll()
        assert content(log) == [(1, "a", 1.0), (2, "b", 2.0), (3, "c", 3.0), (4, "d", 4.0)]

    def test_views_are_apart(self, log: OfflineLog) -> None:
        log.append("w", [group(rows(["a"], [1.0]))])
        log.append("x", [group(rows(["b"], [2.0]))])
        log.roll(["w"])
        log.append("w", [group(rows(["c"], [3.0]))])
        assert content(log, "w") == [(1, "a", 1.0), (3, "c", 3.0)]
        assert content(log, "x") == [(2, "b", 2.0)]

    def test_arrivals_never_go_back(self, log: OfflineLog) -> None:
        before = log.now()
        arrivals = [_arrivals(log.append("w", [group(rows(["a"], [1.0]))]))[0] for _ in range(3)]
        assert [before, *arrivals] == sorted([before, *arrivals])
        assert arrivals[-1] <= log.now()

    def test_arrival_is_after_every_delete_and_a_delete_after_every_arrival(self, log: OfflineLog) -> None:
        ahead = log.now() + 60_000_000
        deleted = log.delete("w", pa.table({"k": ["a", "b"]}), [ahead, MIN_MICROS])
        assert deleted.through[0] == ahead and deleted.through[1] <= log.now()
        assert _arrivals(log.append("w", [group(rows(["a"], [1.0]))])) == [ahead + 1]
        assert log.delete("w", pa.table({"k": ["a"]}), [MIN_MICROS]).through == (ahead + 1,)
        assert _arrivals(log.append("x", [group(rows(["a"], [1.0]))]))[0] <= log.now()

    def test_every_delete_mark_comes_back(self, log: OfflineLog) -> None:
        first = log.delete("w", pa.table({"k": ["a", "b"]}), [MIN_MICROS] * 2)
        before = log.head_position()
        second = log.delete("w", pa.table({"k": ["a"]}), [log.now() + 60_000_000])
        marks = log.slice("w", ["k"]).deletes
        assert marks is not None
        told = sorted((row["k"], row["__through"]) for row in marks.to_pylist())
        assert told == [("a", first.through[0]), ("a", second.through[0]), ("b", first.through[1])]
        earlier = log.slice("w", ["k"], before).deletes
        assert earlier is not None and set(earlier.column("__through").to_pylist()) == set(first.through)
        assert log.slice("w", ["other"]).deletes is None
        later = log.deletes_after("w", ["k"], before, log.head_position())
        assert later is not None and later.column("k").to_pylist() == ["a"]

    def test_a_purge_drops_old_rows_on_append_and_erases_what_is_there(self, log: OfflineLog, place: Place) -> None:
        before = log.now()
        log.append("w", [group(rows(["secret-a", "b"], [1.0, 2.0]))], [READING])
        log.roll()
        log.append("w", [group(rows(["secret-a", "c"], [3.0, 4.0]))], [READING])
        plain = log.delete("w", pa.table({"k": ["secret-a"]}), [MIN_MICROS])
        mark = log.delete("w", pa.table({"k": ["secret-a"]}), [MIN_MICROS], purge=True)
        known = pa.array([T0], pa.timestamp("us", "UTC"))
        old = rows(["secret-a"], [5.0], created_time=known)
        new = rows(["secret-a"], [6.0])
        dropped = log.append("w", [group(old)], [READING])[0]
        assert dropped.table.num_rows == 0 and list(dropped.rows) == []
        log.append("w", [group(new)], [READING])
        found = log.slice("w", ["k"])
        assert found.deletes is None
        assert list(found.purges.values()) == [(plain.through[0], mark.through[0])]
        assert found.digests is not None and found.digests(pa.table({"k": ["secret-a"]}))[0] in found.purges
        assert log.purged("w", pa.table({"k": ["secret-a", "b"]})).tolist() == [mark.through[0], MIN_MICROS]

        later = mark.through[0] + 1
        due = log.purges_to_erase("w", later)
        assert log.purges_to_erase("w", before) == {}
        log.erase("w", due, [READING])
        assert [(key, value) for _, key, value in content(log)] == [("b", 2.0), ("c", 4.0), ("secret-a", 6.0)]
        assert log.purges_to_erase("w", later) == {}
        assert len(list((place[1] / "log").glob("*.parquet"))) == 1

    def test_the_head_is_rolled_when_it_is_long(
        self, log: OfflineLog, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(log_module, "HEAD_ROWS", 10)
        for i in range(4):
            log.append("w", [group(rows([f"{i}-{j}" for j in range(4)], [1.0] * 4))])
        assert len(list((place[1] / "log").glob("*.parquet"))) == 1
        assert len(content(log)) == 16

    def test_a_crash_before_the_roll_ends_leaves_only_a_file_that_the_next_roll_removes(
        self, log: OfflineLog, place: Place
    ) -> None:
        log.append("w", [group(rows(["a"], [1.0]))])
        log.roll()
        mine = next((place[1] / "log").glob("*.parquet"))
        orphan = mine.with_name(mine.name.replace("-w-", "-x-"))
        orphan.write_bytes(mine.read_bytes())
        (place[1] / "log" / "mine.parquet").write_bytes(b"a user's file")
        log.append("w", [group(rows(["b"], [2.0]))])
        log.roll()
        assert not orphan.exists() and (place[1] / "log" / "mine.parquet").exists()
        assert content(log) == [(1, "a", 1.0), (2, "b", 2.0)]

    def test_without_a_folder_everything_stays_in_the_head(self, engine: sa.Engine) -> None:
        log = OfflineLog(engine, None, _clock)
        log.append("w", [group(rows(["a"], [1.0]))])
        log.roll()
        assert content(log) == [(1, "a", 1.0)]

    def test_a_missing_file_is_named(self, log: OfflineLog, place: Place) -> None:
        log.append("w", [group(rows(["a"], [1.0]))])
        log.roll()
        file = next((place[1] / "log").glob("*.parquet"))
        file.unlink()
        with pytest.raises(StoreError, match=file.name):
            log.slice("w", ["k"])

    def test_the_migrations_make_the_tables(self, log: OfflineLog, engine: sa.Engine) -> None:
        found = sa.MetaData()
        with engine.connect() as connection:
            found.reflect(connection)
        for table in metadata.sorted_tables:
            made = found.tables[table.name]
            assert {c.name for c in made.columns} == {c.name for c in table.columns}
            for column in table.columns:
                told = made.c[column.name]
                assert str(told.type.as_generic()) == str(column.type.as_generic()), f"{table.name}.{column.name}"
                assert told.nullable == column.nullable, f"{table.name}.{column.name}"
            assert [c.name for c in made.primary_key] == [c.name for c in table.primary_key]
            assert {i.name for i in made.indexes} == {i.name for i in table.indexes}

    def test_a_newer_format_is_refused(self, log: OfflineLog, engine: sa.Engine) -> None:
        with engine.begin() as connection:
            connection.execute(formats.update().values(version=99))
        with pytest.raises(FormatError, match="upgrade"):
            OfflineLog(engine, None, _clock)

    def test_a_check_that_raises_undoes_the_write(self, log: OfflineLog) -> None:
        def refuse(connection: sa.Connection) -> None:
            raise StoreError("no")

        with pytest.raises(StoreError):
            log.append("w", [group(rows(["a"], [1.0]))], check=refuse)
        assert log.head_position() == 0 and content(log) == []

    def test_the_counter_can_be_raised(self, log: OfflineLog) -> None:
        log.claim(100)
        log.claim(5)
        assert log.append("w", [group(rows(["a"], [1.0]))])[0].table.column("__position").to_pylist() == [101]

    def test_threads_share_one_log(self, log: OfflineLog) -> None:
        def write(name: str) -> None:
            for i in range(25):
                log.append("w", [group(rows([f"{name}{i}"], [1.0]))])
                content(log)

        threads = [threading.Thread(target=write, args=(name,)) for name in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [position for position, _, _ in content(log)] == list(range(1, 51))

    def test_a_folder_that_takes_no_files_does_not_undo_a_write(
        self, log: OfflineLog, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(log_module, "HEAD_ROWS", 0)
        (place[1] / "log").write_text("a file where the folder should be")
        log.append("w", [group(rows(["a"], [1.0]))])
        assert content(log) == [(1, "a", 1.0)]
        with pytest.raises(StoreError, match="log"):
            log.roll()


class SharedOfflineLogSuite(OfflineLogSuite):
    """Several that write; subclass it and give the fixture `place`: a database that outlives its connections."""

    def test_a_log_opened_again_goes_on(self, log: OfflineLog, place: Place) -> None:
        log.append("w", [group(rows(["a"], [1.0]))])
        again = _open(place)
        assert again.log_id == log.log_id
        again.append("w", [group(rows(["b"], [2.0]))])
        assert content(log) == content(again) == [(1, "a", 1.0), (2, "b", 2.0)]

    def test_rows_of_equal_columns_are_one_part_in_every_process(self, log: OfflineLog, place: Place) -> None:
        for i in range(20):
            _open(place).append("w", [group(rows([str(i)], [1.0]))])
        assert len(log.slice("w", ["k"]).parts) == 1

    def test_several_processes_write_roll_and_read_without_loss(self, log: OfflineLog, place: Place) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["headwater.testing.log_suite"])
        workers = [context.Process(target=_write, args=(place, name, 30)) for name in "xyz"]
        for worker in workers:
            worker.start()
        seen: list[tuple[int, str, object]] = []
        while any(worker.is_alive() for worker in workers):
            found = content(log)
            # nothing that was visible goes, nothing comes in before it
            assert found[: len(seen)] == seen
            seen = found
        assert [worker.exitcode for worker in workers] == [0, 0, 0]
        found = content(log)
        assert len(found) == 90 and [position for position, _, _ in found] == list(range(1, 91))


def _write(place: Place, name: str, count: int) -> None:
    log = _open(place)
    for i in range(count):
        log.append("w", [group(rows([f"{name}{i}"], [1.0]))])
        if i % 10 == 9:
            log.roll()
