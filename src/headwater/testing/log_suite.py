"""The conformance suite of the offline log: one order of positions and arrivals, whoever writes, rolls and reads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from headwater.clock import MIN_MICROS
from headwater.database.engine import open_engine
from headwater.errors import FormatError, LogMismatch, StoreError
from headwater.offline.log import core as log_core
from headwater.offline.log import log as log_module
from headwater.offline.log.log import OfflineLog, RowBatch
from headwater.offline.log.state import MAX_POSITION, LogRestored
from headwater.offline.log.tables import counter, deletes, formats, metadata
from headwater.planning.resolved import LogKeys
from headwater.planning.row_reading import RowReading
from headwater.testing.processes import PROCESSES

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


def group(table: pa.Table, places: Sequence[int] | None = None) -> RowBatch:
    """Rows of one write."""
    return RowBatch(table, np.arange(table.num_rows) if places is None else np.array(places))


def content(log: OfflineLog, view: str = "w", until: int | None = None) -> list[tuple[int, str, object]]:
    """(position, key, v) of a slice, of files and write buffer."""
    found: list[tuple[int, str, object]] = []
    for part in log.slice(view, ["k"], until).parts:
        tables = [part.table] if part.table is not None else [pq.read_table(f) for f in part.files]
        for table in tables:
            found += [(r["__position"], r["k"], r.get("v")) for r in table.to_pylist()]
    return sorted(found)


def _copied(engine: sa.Engine) -> dict[sa.Table, list[dict[str, object]]]:
    """All rows of the log's tables: a copy of the database."""
    with engine.connect() as connection:
        return {
            table: [dict(row._mapping) for row in connection.execute(sa.select(table))]
            for table in metadata.sorted_tables
        }


def _unlisted(*_: object) -> int:
    raise StoreError("the folder cannot be listed")


def _put_back(engine: sa.Engine, copy: dict[sa.Table, list[dict[str, object]]]) -> None:
    """Restore a copy, under the processes that have the database open."""
    with engine.begin() as connection:
        for table, found in copy.items():
            connection.execute(table.delete())
            if found:
                connection.execute(table.insert(), found)


def _arrivals(appended: Sequence[RowBatch]) -> list[int]:
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
        assert log.clock_ahead() == timedelta(0)
        arrivals = [_arrivals(log.append("w", [group(rows(["a"], [1.0]))]))[0] for _ in range(3)]
        assert [before, *arrivals] == sorted([before, *arrivals])
        assert arrivals[-1] <= log.now()

    def test_arrival_is_after_every_delete_and_a_delete_after_every_arrival(self, log: OfflineLog) -> None:
        before = log.now()
        ahead = before + 60_000_000
        deleted = log.delete("w", pa.table({"k": ["a", "b"]}), [ahead, MIN_MICROS])
        assert deleted.through[0] == ahead and before <= deleted.through[1] < ahead
        with pytest.warns(UserWarning, match="its clock says"):
            assert _arrivals(log.append("w", [group(rows(["a"], [1.0]))])) == [ahead + 1]
        assert log.delete("w", pa.table({"k": ["a"]}), [MIN_MICROS]).through == (ahead + 1,)
        # one clock for all views
        assert _arrivals(log.append("x", [group(rows(["a"], [1.0]))])) == [ahead + 2]

    def test_every_tombstone_comes_back(self, log: OfflineLog) -> None:
        log.append("w", [group(rows(["a"], [1.0]))])
        first = log.delete("w", pa.table({"k": ["a", "b"]}), [MIN_MICROS] * 2)
        before = log.head_position()
        second = log.delete("w", pa.table({"k": ["a"]}), [log.now() + 2_000_000])
        assert (first.positions, second.positions, before) == ((2, 3), (4,), 3)
        found = log.slice("w", ["k"]).deletes
        assert found is not None and found.column_names == ["k", "__through", "__position"]
        pairs = sorted(tuple(row.values()) for row in found.to_pylist())
        mine = [("a", first.through[0], 2), ("a", second.through[0], 4), ("b", first.through[1], 3)]
        assert pairs == mine
        earlier = log.slice("w", ["k"], before).deletes
        assert earlier is not None and sorted(earlier.column("__position").to_pylist()) == [2, 3]
        assert log.slice("w", ["other"]).deletes is None
        later = log.deletes_after("w", ["k"], before, log.head_position())
        assert later is not None and [tuple(row.values()) for row in later.to_pylist()] == [mine[1]]
        once = log.deletes_after("w", ["k"], 0, log.head_position())
        assert once is not None and sorted(tuple(row.values()) for row in once.to_pylist()) == mine[1:]

    def test_tombstones_are_read_as_they_were_at_any_position(self, log: OfflineLog, engine: sa.Engine) -> None:
        expected: list[list[tuple[str, int]]] = [[]]
        for i, key in enumerate("abcab"):
            (position,) = log.delete("w", pa.table({"k": [key]}), [MIN_MICROS]).positions
            expected.append([*expected[-1], (key, position)])
            log.delete("x", pa.table({"k": ["other"]}), [MIN_MICROS])
            if i % 2:
                log.slice("w", ["k"])

        def shown(until: int | None) -> list[tuple[str, int]]:
            found = log.slice("w", ["k"], until).deletes
            return [] if found is None else [(row["k"], row["__position"]) for row in found.to_pylist()]

        for i, tombstones in enumerate(expected):
            assert shown(2 * i) == tombstones
        assert shown(None) == expected[-1]
        # the deletes of a purged key are digests from then on
        log.delete("w", pa.table({"k": ["a"]}), [MIN_MICROS], purge=True)
        assert shown(None) == [pair for pair in expected[-1] if pair[0] != "a"]

    def test_deletes_of_keys_of_another_type_are_anothers(self, log: OfflineLog) -> None:
        log.delete("w", pa.table({"k": pa.array([1, 2], pa.int64())}), [MIN_MICROS] * 2)
        log.delete("w", pa.table({"k": ["a"]}), [MIN_MICROS])
        for kind, keys in ((pa.int64(), [1, 2]), (pa.string(), ["a"]), (pa.bool_(), [])):
            wanted = LogKeys({"k": kind})
            tables = log.slice("w", wanted).deletes, log.deletes_after("w", wanted, 0, 3)
            for table in tables:
                assert ([] if table is None else table.column("k").to_pylist()) == keys

    def test_a_delete_whose_key_cannot_be_decoded_hides_by_its_digest(self, log: OfflineLog, engine: sa.Engine) -> None:
        log.append("w", [group(rows(["a", "b"], [1.0, 2.0]))])
        done = log.delete("w", pa.table({"k": ["a", "b"]}), [MIN_MICROS] * 2)
        with engine.begin() as connection:
            connection.execute(deletes.update().where(deletes.c.position == 3).values(key=b"damaged"))
        found = OfflineLog(engine, None, _clock).slice("w", ["k"])
        assert found.deletes is not None and found.deletes.column("k").to_pylist() == ["b"]
        assert found.purges == {log.digests(pa.table({"k": ["a"]}))[0]: ((3, done.through[0]),)}
        later = OfflineLog(engine, None, _clock).deletes_after("w", ["k"], 0, 4)
        assert later is not None and later.column("k").to_pylist() == ["b"]

    def test_a_purge_drops_old_rows_on_append_and_erases_what_is_there(self, log: OfflineLog, place: Place) -> None:
        before = log.now()
        log.append("w", [group(rows(["secret-a", "b"], [1.0, 2.0]))], [READING])
        log.roll()
        log.append("w", [group(rows(["secret-a", "c"], [3.0, 4.0]))], [READING])
        plain = log.delete("w", pa.table({"k": ["secret-a"]}), [MIN_MICROS])
        purge = log.delete("w", pa.table({"k": ["secret-a"]}), [MIN_MICROS], purge=True)
        known = pa.array([T0], pa.timestamp("us", "UTC"))
        old = rows(["secret-a"], [5.0], created_time=known)
        new = rows(["secret-a"], [6.0])
        dropped = log.append("w", [group(old)], [READING])[0]
        assert dropped.table.num_rows == 0 and list(dropped.rows) == []
        log.append("w", [group(new)], [READING])
        found = log.slice("w", ["k"])
        assert found.deletes is None
        tombstones = [(done.positions[0], done.through[0]) for done in (plain, purge)]
        assert list(found.purges.values()) == [tuple(tombstones)]
        assert found.digests is not None and found.digests(pa.table({"k": ["secret-a"]}))[0][0] in found.purges
        assert log.purged("w", pa.table({"k": ["secret-a", "b"]})).tolist() == [purge.through[0], MIN_MICROS]

        later = purge.through[0] + 1
        due = log.purges_to_erase("w", later)
        assert log.open_purges("w") == log.purges_after("w", 0) == due
        assert list(due.values()) == [tombstones[-1]]
        assert log.purges_to_erase("w", before) == log.purges_after("w", purge.positions[0]) == {}
        log.erase("w", due, [READING])
        assert [(key, value) for _, key, value in content(log)] == [("b", 2.0), ("c", 4.0), ("secret-a", 6.0)]
        assert log.purges_to_erase("w", later) == log.open_purges("w") == {}
        assert len(list((place[1] / "log").glob("*.parquet"))) == 1

    @pytest.mark.parametrize("compacted", [False, True])
    def test_erasing_takes_rows_that_are_dated_ahead_and_leaves_later_ones(
        self, log: OfflineLog, compacted: bool
    ) -> None:
        ahead = T0 + timedelta(days=200 * 365)
        log.append("w", [group(rows(["a", "b"], [1.0, 2.0], ahead))], [READING])
        if compacted:
            log.roll()
        purge = log.delete("w", pa.table({"k": ["a"]}), [MIN_MICROS], purge=True)
        log.append("w", [group(rows(["a"], [3.0], ahead))], [READING])
        again = log.delete("w", pa.table({"k": ["a"]}), [MIN_MICROS], purge=True)
        log.append("w", [group(rows(["a"], [4.0], ahead))], [READING])
        (digest,) = log.open_purges("w")
        log.erase("w", {digest: (purge.positions[0], purge.through[0])}, [READING])
        assert [value for _, _, value in content(log)] == [2.0, 3.0, 4.0]
        # the later purge of the key is still to be worked off
        assert log.open_purges("w") == {digest: (again.positions[0], again.through[0])}
        log.erase("w", log.open_purges("w"), [READING])
        assert [value for _, _, value in content(log)] == [2.0, 4.0] and log.open_purges("w") == {}

    @pytest.mark.parametrize("purge", [False, True])
    def test_a_thousand_keys_are_deleted_by_a_few_statements(
        self, log: OfflineLog, engine: sa.Engine, purge: bool
    ) -> None:
        keys = pa.table({"k": [f"key {i}" for i in range(1_000)]})
        log.delete("w", keys, [MIN_MICROS] * 1_000)
        statements = []
        sa.event.listen(engine, "after_cursor_execute", lambda *told: statements.append(told[2]))
        done = log.delete("w", keys, [MIN_MICROS] * 1_000, purge=purge)
        assert len(statements) < 20
        assert done.positions == tuple(range(1_001, 2_001)) and len(set(done.through)) == 1
        found = log.slice("w", ["k"])
        if purge:
            assert found.deletes is None and {len(pairs) for pairs in found.purges.values()} == {2}
        else:
            assert found.deletes is not None and found.deletes.num_rows == 2_000

    def test_tombstones_are_appended_again_with_their_own_position_and_time(self, log: OfflineLog) -> None:
        log.append("w", [group(rows(["a", "b"], [1.0, 2.0]))])
        done = log.delete("w", pa.table({"k": ["a"]}), [MIN_MICROS])
        now, end = log.now(), log.head_position()
        keys = pa.table({"k": ["a", "b", "c"]})
        lost = [(done.positions[0], done.through[0]), (2, now - 5), (1, now + 3)]
        assert log.append_again("w", keys, lost) == 2
        # the first is there already; a second time all are
        assert log.append_again("w", keys, lost) == 0
        found = log.deletes_after("w", ["k"], end, log.head_position())
        assert found is not None and log.head_position() == end + 2
        assert [tuple(row.values()) for row in found.to_pylist()] == [("b", now - 5, 2), ("c", now + 3, 1)]
        assert _arrivals(log.append("w", [group(rows(["c"], [1.0]))]))[0] > now + 3

        digests = log.digests(keys)
        assert log.append_again("w", None, lost, digests) == 3
        assert log.append_again("w", None, lost, digests) == log.append_again("w", keys, lost) == 0
        assert log.open_purges("w") == dict(zip(digests, lost, strict=True))
        # what was in clear is under digests now, with the position and time that it had
        assert log.slice("w", ["k"]).deletes is None
        assert set(log.slice("w", ["k"]).purges) == set(digests)
        assert log.purges_to_erase("w", now) == {}

    def test_a_file_of_batches_that_interleave_says_its_least_and_greatest_position(
        self, log: OfflineLog, place: Place
    ) -> None:
        log.append("w", [group(rows(["a", "d"], [1.0, 4.0]), [0, 3]), group(rows(["b", "c"], [2.0, 3.0]), [1, 2])])
        before = content(log)
        log.roll()
        (file,) = (place[1] / "log").glob("*.parquet")
        assert "-w-1-4-" in file.name and content(log) == before
        assert [value for _, _, value in before] == [1.0, 2.0, 3.0, 4.0]
        assert log.check().damaged == []

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

    def test_a_log_that_ends_below_what_a_store_has_seen_was_restored(self, log: OfflineLog) -> None:
        log.append("w", [group(rows(["a"], [1.0]))])
        before, generation = log.now(), log.generation
        assert not log.detect_restore(1) and not log.claim(0)
        assert (log.gaps(), log.generation, log.head_position()) == ((), generation, 1)
        assert log.detect_restore(100)
        (gap,) = log.gaps()
        assert gap.lo == 1 and before <= gap.hi == gap.noted_at <= log.now()
        assert log.head_position() == gap.hi and log.generation != generation
        assert log.append("w", [group(rows(["a"], [1.0]))])[0].table.column("__position").to_pylist() == [gap.hi + 1]
        assert not log.claim(100) and log.claim(gap.hi + 5)
        assert [(gap.lo, gap.hi) for gap in log.gaps()][1][0] == gap.hi + 1

    def test_a_restored_database_is_noticed_before_anything_is_written(
        self, log: OfflineLog, engine: sa.Engine
    ) -> None:
        log.append("w", [group(rows(["a"], [1.0]))])
        copy, generation = _copied(engine), log.generation
        log.append("w", [group(rows(["b"], [2.0]))])
        log.delete("w", pa.table({"k": ["a"]}), [MIN_MICROS])
        _put_back(engine, copy)
        calls: list[Callable[[], object]] = [
            lambda: log.append("w", [group(rows(["c"], [3.0]))]),
            lambda: log.delete("w", pa.table({"k": ["a"]}), [MIN_MICROS]),
            lambda: log.append_again("w", pa.table({"k": ["a"]}), [(3, 5)]),
            log.begin_run,
            log.roll,
            log.repair_clock,
        ]
        for call in calls:
            with pytest.raises(LogRestored, match="nothing was changed"):
                call()
        assert log.generation != generation and log.head_position() == 1
        assert log.claim(3)
        (appended,) = log.append("w", [group(rows(["c"], [3.0]))])
        assert appended.table.column("__position").to_pylist()[0] > 3
        assert [value for _, _, value in content(log)] == [1.0, 3.0]

    def test_a_restored_database_is_noticed_by_reads_and_writes_wait_for_a_claim(
        self, log: OfflineLog, engine: sa.Engine
    ) -> None:
        log.append("w", [group(rows(["a"], [1.0]))])
        copy = _copied(engine)
        # kept in memory: rows, and the columns of another shape
        log.append("w", [group(rows(["b"], [2.0], wind=[5.0]))])
        assert len(content(log)) == 2
        _put_back(engine, copy)
        assert content(log) == [(1, "a", 1.0)]
        with pytest.raises(LogRestored):
            log.append("w", [group(rows(["c"], [3.0]))])
        log.claim(0)
        log.append("w", [group(rows(["c"], [3.0], rain=[True]))])
        (part,) = [part for part in log.slice("w", ["k"]).parts if "rain" in part.columns]
        assert part.table is not None and part.table.column("rain").to_pylist() == [True]
        assert "wind" not in part.columns

    def test_what_another_process_found_restored_is_claimed_again(
        self, log: OfflineLog, engine: sa.Engine, place: Place
    ) -> None:
        log.append("w", [group(rows(["a"], [1.0]))])
        other = OfflineLog(engine, place[1] / "log", _clock)
        assert other.detect_restore(100)
        with pytest.raises(LogRestored):
            log.append("w", [group(rows(["b"], [2.0]))])
        assert not log.claim(100)
        log.append("w", [group(rows(["b"], [2.0]))])
        assert [value for _, _, value in content(other)] == [1.0, 2.0]

    @pytest.mark.parametrize("claimed", ["not", "unlisted", "raised"])
    def test_files_with_rows_that_a_restored_database_lost_are_never_removed(
        self, log: OfflineLog, engine: sa.Engine, place: Place, monkeypatch: pytest.MonkeyPatch, claimed: str
    ) -> None:
        folder = place[1] / "log"
        log.append("w", [group(rows(["a"], [1.0]))])
        log.roll()
        copy = _copied(engine)
        log.append("w", [group(rows(["b"], [2.0]))])
        log.roll()
        (lost,) = folder.glob("*-w-2-2-*.parquet")
        _put_back(engine, copy)
        again = OfflineLog(engine, folder, _clock)
        if claimed == "raised":
            again.raise_position(50)
        if claimed == "unlisted":
            # the folder could not be listed then
            monkeypatch.setattr(log_core, "set_aside", _unlisted)
            assert again.claim(2)
            monkeypatch.undo()
            again.append("w", [group(rows(["c"], [3.0]))])
        again.roll()
        assert not lost.exists() and (folder / f"restored-{lost.name}").exists()
        assert [value for _, _, value in content(again)] == ([1.0, 3.0] if claimed == "unlisted" else [1.0])
        orphan = next(folder.glob("log-*-w-1-1-*.parquet"))
        leftover = orphan.with_name(orphan.name.replace("-w-", "-x-"))
        leftover.write_bytes(orphan.read_bytes())
        again.roll()
        assert not leftover.exists()

    def test_another_log_in_the_same_database_is_refused(self, log: OfflineLog, engine: sa.Engine) -> None:
        with engine.begin() as connection:
            connection.execute(counter.update().values(log_id="another"))
        for call in (log.head_position, lambda: log.append("w", [group(rows(["b"], [2.0]))]), lambda: log.claim(0)):
            with pytest.raises(LogMismatch, match="another"):
                call()

    def test_positions_fit_the_header_of_a_row(self, log: OfflineLog) -> None:
        with pytest.raises(FormatError, match="position"):
            log.detect_restore(MAX_POSITION + 1)
        log.detect_restore(MAX_POSITION - 1)
        log.append("w", [group(rows(["a"], [1.0]))])
        with pytest.raises(FormatError, match="position"):
            log.append("w", [group(rows(["a"], [1.0]))])
        assert content(log) == [(MAX_POSITION, "a", 1.0)]

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
        workers = [PROCESSES.Process(target=_write, args=(place, name, 30)) for name in "xyz"]
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
