"""The conformance suite of the offline log: a database that was restored from an older copy."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pytest
import sqlalchemy as sa

from headwater.clock import MIN_MICROS
from headwater.errors import LogMismatch
from headwater.offline.log import core as log_core
from headwater.offline.log.log import OfflineLog
from headwater.offline.log.state import LogRestored
from headwater.offline.log.tables import counter
from headwater.testing.log_rows import (
    LogFixtures,
    Place,
    clock,
    content,
    copied,
    group,
    put_back,
    rows,
    unlisted,
)


class LogRestoreSuite(LogFixtures):
    """What a log says and does that ends earlier than before; part of `OfflineLogSuite`."""

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
        copy, generation = copied(engine), log.generation
        log.append("w", [group(rows(["b"], [2.0]))])
        log.delete("w", pa.table({"k": ["a"]}), [MIN_MICROS])
        put_back(engine, copy)
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
        copy = copied(engine)
        # kept in memory: rows, and the columns of another shape
        log.append("w", [group(rows(["b"], [2.0], wind=[5.0]))])
        assert len(content(log)) == 2
        put_back(engine, copy)
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
        other = OfflineLog(engine, place[1] / "log", clock)
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
        copy = copied(engine)
        log.append("w", [group(rows(["b"], [2.0]))])
        log.roll()
        (lost,) = folder.glob("*-w-2-2-*.parquet")
        put_back(engine, copy)
        again = OfflineLog(engine, folder, clock)
        if claimed == "raised":
            again.raise_position(50)
        if claimed == "unlisted":
            # the folder could not be listed then
            monkeypatch.setattr(log_core, "set_aside", unlisted)
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
