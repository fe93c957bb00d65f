"""The conformance suite of the offline log: one order of positions and arrivals, whoever writes, rolls and reads."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
import sqlalchemy as sa

from headwater.errors import FormatError, StoreError
from headwater.offline.log import log as log_module
from headwater.offline.log.log import OfflineLog
from headwater.offline.log.state import MAX_POSITION
from headwater.offline.log.tables import formats, metadata
from headwater.testing.log_delete_suite import LogDeletesSuite
from headwater.testing.log_restore_suite import LogRestoreSuite
from headwater.testing.log_rows import (
    Place,
    arrivals_of,
    clock,
    content,
    group,
    open_log,
    rows,
)
from headwater.testing.processes import PROCESSES

__all__ = ["OfflineLogSuite", "SharedOfflineLogSuite", "content", "group", "rows"]


class OfflineLogSuite(LogDeletesSuite, LogRestoreSuite):
    """A log by itself; subclass it and give the fixture `place`: an empty database, in memory or of its own."""

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
        arrivals = [arrivals_of(log.append("w", [group(rows(["a"], [1.0]))]))[0] for _ in range(3)]
        assert [before, *arrivals] == sorted([before, *arrivals])
        assert arrivals[-1] <= log.now()

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
        log = OfflineLog(engine, None, clock)
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
            OfflineLog(engine, None, clock)

    def test_a_check_that_raises_undoes_the_write(self, log: OfflineLog) -> None:
        def refuse(connection: sa.Connection) -> None:
            raise StoreError("no")

        with pytest.raises(StoreError):
            log.append("w", [group(rows(["a"], [1.0]))], check=refuse)
        assert log.head_position() == 0 and content(log) == []

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
        again = open_log(place)
        assert again.log_id == log.log_id
        again.append("w", [group(rows(["b"], [2.0]))])
        assert content(log) == content(again) == [(1, "a", 1.0), (2, "b", 2.0)]

    def test_rows_of_equal_columns_are_one_part_in_every_process(self, log: OfflineLog, place: Place) -> None:
        for i in range(20):
            open_log(place).append("w", [group(rows([str(i)], [1.0]))])
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
    log = open_log(place)
    for i in range(count):
        log.append("w", [group(rows([f"{name}{i}"], [1.0]))])
        if i % 10 == 9:
            log.roll()
