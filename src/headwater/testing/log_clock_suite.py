"""The conformance suite of the offline log's clock: whatever the clock of its database says, it never goes back."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from headwater.clock import MIN_MICROS, duration_micros, to_micros
from headwater.errors import ClockError
from headwater.offline.log import state as log_state
from headwater.offline.log.log import OfflineLog, RowBatch
from headwater.offline.log.state import CLOCK_LIMIT
from headwater.offline.log.tables import metadata
from headwater.planning.row_reading import RowReading
from headwater.testing import SCALE
from headwater.testing.log_rows import T0, LogDatabase, Place
from headwater.testing.log_rows import clock as host_clock

READING = RowReading(("k",), None, None)
LIMIT = duration_micros(CLOCK_LIMIT)
KEYS = ("a", "b")
VIEWS = ("v", "w")
JUMPS = [
    timedelta(0),
    timedelta(microseconds=1),
    timedelta(seconds=4),
    CLOCK_LIMIT,
    CLOCK_LIMIT + timedelta(microseconds=1),
    timedelta(days=365),
]


class MovedClock:
    """What the database's clock says, on every dialect, as long as it stands in for it.

    Attributes:
        at: microseconds.
    """

    def __init__(self) -> None:
        self.at = to_micros(T0)

    def __call__(self, connection: sa.Connection, clock: object) -> int:
        return self.at


class OfflineLogClockSuite(LogDatabase):
    """Subclass it and give the fixture `place`: an empty database, of its own or in memory."""

    @pytest.fixture
    def clock(self, monkeypatch: pytest.MonkeyPatch) -> MovedClock:
        """The database's clock."""
        moved = MovedClock()
        monkeypatch.setattr(log_state, "host_now", moved)
        return moved

    @pytest.fixture
    def log(self, engine: sa.Engine, place: Place, clock: MovedClock) -> OfflineLog:
        """The log."""
        return OfflineLog(engine, place[1] / "log", host_clock)

    @pytest.mark.filterwarnings("ignore:offline log in:UserWarning")
    def test_it_never_goes_back_whatever_clocks_do(self, engine: sa.Engine, clock: MovedClock) -> None:
        machine: type[_Clocks] = type("Clocks", (_Clocks,), {"engine": engine, "clock": clock})
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=4 * SCALE,
                stateful_step_count=30,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )

    def test_ahead_by_up_to_an_hour_it_goes_on_with_one_warning(self, log: OfflineLog, clock: MovedClock) -> None:
        right = clock.at
        clock.at += LIMIT
        assert log.begin_run().now == clock.at
        clock.at = right
        with pytest.warns(UserWarning, match="1h earlier") as told:
            arrivals = [_write(log, "v", "a") for _ in range(3)]
        assert arrivals == [right + LIMIT] * 3 and len(told) == 1
        assert log.clock_ahead() == CLOCK_LIMIT and "1h earlier" in (log.clock_warning() or "")
        clock.at = right + LIMIT - duration_micros(timedelta(seconds=5))
        _write(log, "v", "a")
        assert log.clock_warning() is None

    def test_further_ahead_everything_is_refused_and_nothing_lost(self, log: OfflineLog, clock: MovedClock) -> None:
        right = clock.at
        clock.at += LIMIT + 1
        _write(log, "v", "a")
        clock.at = right
        before = log.head_position()
        calls: list[Callable[[], Any]] = [
            lambda: _write(log, "w", "b"),
            lambda: _delete(log, "v", "a"),
            lambda: _delete(log, "w", "a", purge=True),
            lambda: log.append_again("v", pa.table({"k": ["a"]}), [(1, right)]),
            lambda: log.arrival("v"),
            log.begin_run,
        ]
        for call in calls:
            with pytest.raises(ClockError, match="repair-clock") as refused:
                call()
            assert (refused.value.now, refused.value.log_clock) == (
                T0,
                T0 + CLOCK_LIMIT + timedelta(microseconds=1),
            )
        assert log.head_position() == before and "repair-clock" in (log.clock_warning() or "")
        # reads go on
        assert log.now() == right + LIMIT + 1 and log.slice("v", ["k"]).position == before

    def test_a_delete_of_what_is_far_ahead_is_refused(self, log: OfflineLog, clock: MovedClock) -> None:
        with pytest.raises(ClockError, match="what is to be deleted"):
            _delete(log, "v", "a", known=clock.at + LIMIT + 1)
        with pytest.raises(ClockError, match="a delete"):
            log.append_again("v", pa.table({"k": ["a"]}), [(1, clock.at + LIMIT + 1)])
        assert _delete(log, "v", "a", known=clock.at + LIMIT) == clock.at + LIMIT

    @pytest.mark.parametrize("compacted", [False, True])
    def test_repair_says_which_keys_were_ahead(self, log: OfflineLog, clock: MovedClock, compacted: bool) -> None:
        right = clock.at
        _write(log, "v", "early")
        early = _delete(log, "v", "early")
        clock.at = ahead = right + LIMIT * 48
        _write(log, "v", "a")
        if compacted:
            log.roll()
        _write(log, "v", "a", "b")
        deleted = _delete(log, "v", "c")
        purged = _delete(log, "w", "d", purge=True)
        _write(log, "w", "e")
        clock.at = right + 5
        repaired = log.repair_clock({"v": [READING]})
        instants = [ahead, deleted, purged, purged + 1]
        assert repaired.clock == purged + 1 and repaired.moved.before.tolist() == sorted(set(instants))
        assert [repaired.moved.one(at) for at in (early, *instants)] == [early, *(clock.at + i for i in (1, 1, 2, 3))]
        assert (repaired.moved.one(ahead - 1), repaired.moved.since(ahead + 9, ahead + 10)) == (clock.at, ahead + 9)

        mine, other = repaired.views["v"], repaired.views["w"]
        assert (mine.rows, mine.tombstones, other.rows, other.tombstones) == (3, 1, 1, 1)
        found = pa.concat_tables(mine.keys[READING])
        assert sorted(set(found.column("k").to_pylist())) == ["a", "b"] and other.keys == {}
        assert [table.to_pylist() for table in mine.deleted] == [[{"k": "c"}]]
        assert other.purged == set(log.digests(pa.table({"k": ["d"]})))

        assert [at for _, at in _arrivals(log, "v")] == [right, *[clock.at + 1] * 3]
        assert _tombstones(log, "v") == [(2, early), (6, clock.at + 1)]
        assert log.purges_after("w", 0) == {log.digests(pa.table({"k": ["d"]}))[0]: (7, clock.at + 2)}
        assert log.now() == clock.at + 4 and _write(log, "v", "a") == clock.at + 4
        # nothing is ahead any more
        clock.at += 10
        again = log.repair_clock({"v": [READING]})
        assert not again.views and not len(again.moved.before) and log.now() == clock.at + 1

    def test_what_is_written_after_a_repair_comes_after_a_delete_of_the_same_instant(
        self, log: OfflineLog, clock: MovedClock
    ) -> None:
        deleted = _delete(log, "v", "a", purge=True)
        log.repair_clock()
        assert _write(log, "v", "a") == deleted + 1 and len(_arrivals(log, "v")) == 1

    def test_a_file_that_cannot_be_read_does_not_stop_a_repair(
        self, log: OfflineLog, clock: MovedClock, place: Place
    ) -> None:
        right = clock.at
        clock.at += LIMIT * 2
        _write(log, "v", "a")
        log.roll()
        (file,) = (place[1] / "log").glob("*.parquet")
        file.write_bytes(b"no Parquet")
        _write(log, "v", "b")
        clock.at = right
        repaired = log.repair_clock()
        assert repaired.unread == (file.name,) and repaired.views["v"].rows == 1
        assert _write(log, "v", "c") <= right + 2

    def test_a_purge_asked_for_ahead_becomes_due(self, log: OfflineLog, clock: MovedClock) -> None:
        right = clock.at
        clock.at += LIMIT * 2
        _delete(log, "v", "a", purge=True)
        clock.at = right
        log.repair_clock()
        assert len(log.purges_to_erase("v", right + 1)) == 1


def _write(log: OfflineLog, view: str, *keys: str) -> int:
    """Write a row of some keys; its arrival."""
    table = pa.table({"k": list(keys), "x": pa.array([1.0] * len(keys))})
    (appended,) = log.append(view, [RowBatch(table, np.arange(len(keys)))], [READING])
    return int(appended.table.column("__arrival")[0].as_py()) if appended.table.num_rows else log.now()


def _delete(log: OfflineLog, view: str, key: str, *, known: int = MIN_MICROS, purge: bool = False) -> int:
    """Delete a key; D."""
    return log.delete(view, pa.table({"k": [key]}), [known], purge=purge).through[0]


def _arrivals(log: OfflineLog, view: str) -> list[tuple[int, int]]:
    """(position, arrival) of each row."""
    found: list[tuple[int, int]] = []
    for part in log.slice(view, ["k"]).parts:
        tables = [part.table] if part.table is not None else [pq.read_table(file) for file in part.files]
        for table in tables:
            found += zip(table.column("__position").to_pylist(), table.column("__arrival").to_pylist(), strict=True)
    return sorted(found)


def _tombstones(log: OfflineLog, view: str) -> list[tuple[int, int]]:
    """(P, D) of each delete and purge."""
    found = log.slice(view, ["k"])
    pairs = [pair for pairs in found.purges.values() for pair in pairs]
    if found.deletes is not None:
        columns = (found.deletes.column(name).to_pylist() for name in ("__position", "__through"))
        pairs += zip(*columns, strict=True)
    return sorted(pairs)


class _Clocks(RuleBasedStateMachine):
    """Writes, deletes, runs and repairs under a clock that jumps, beside a model of three lines.

    Attributes:
        engine: of the log's database.
        clock: of the log's database.
        earliest: what the log's clock must say at least.
        rows, deletes: what the log holds: view → position → arrival, or P → D.
    """

    engine: sa.Engine
    clock: MovedClock

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.earliest = MIN_MICROS
        self.position = 0
        self.rows: dict[str, dict[int, int]] = {view: {} for view in VIEWS}
        self.deletes: dict[str, dict[int, int]] = {view: {} for view in VIEWS}

    @initialize()
    def begin(self) -> None:
        metadata.drop_all(self.engine)
        self.clock.at = to_micros(T0)
        self.log = self._opened()

    def _opened(self) -> OfflineLog:
        return OfflineLog(self.engine, Path(self.folder.name), host_clock)

    def teardown(self) -> None:
        self.folder.cleanup()

    def _stamped(self, change: Callable[[], int]) -> int | None:
        """What a change was stamped with, as the model has it; None where it must be, and is, refused."""
        expected = max(self.clock.at, self.earliest)
        if expected - self.clock.at > LIMIT:
            with pytest.raises(ClockError):
                change()
            return None
        assert change() == expected
        self.earliest = expected
        return expected

    @rule(by=st.sampled_from(JUMPS), back=st.booleans())
    def the_clock_jumps(self, by: timedelta, back: bool) -> None:
        self.clock.at += duration_micros(-by if back else by)

    @rule(view=st.sampled_from(VIEWS), key=st.sampled_from(KEYS))
    def write(self, view: str, key: str) -> None:
        arrival = self._stamped(lambda: _write(self.log, view, key))
        if arrival is not None:
            self.position += 1
            self.rows[view][self.position] = arrival

    @rule(
        view=st.sampled_from(VIEWS),
        key=st.sampled_from(KEYS),
        purge=st.booleans(),
        ahead=st.sampled_from([None, 0, 1, 5_000_000]),
    )
    def delete(self, view: str, key: str, purge: bool, ahead: int | None) -> None:
        now = max(self.clock.at, self.earliest)
        known = MIN_MICROS if ahead is None else now + ahead
        reached = max(now, known)
        if now - self.clock.at <= LIMIT < reached - self.clock.at:
            with pytest.raises(ClockError):
                _delete(self.log, view, key, known=known, purge=purge)
            return
        done: list[int] = []

        def change() -> int:
            done.append(_delete(self.log, view, key, known=known, purge=purge))
            return now

        if self._stamped(change) is not None:
            assert done == [reached]
            self.position += 1
            self.deletes[view][self.position] = reached
            self.earliest = reached + 1

    @rule()
    def run(self) -> None:
        self._stamped(lambda: self.log.begin_run().now)

    @rule()
    def compact(self) -> None:
        self.log.roll()

    @rule()
    def it_is_opened_again(self) -> None:
        self.log = self._opened()

    @rule()
    def repair(self) -> None:
        self.log.repair_clock({view: [READING] for view in VIEWS})
        held: list[Mapping[int, int]] = [*self.rows.values(), *self.deletes.values()]
        ahead = sorted({at for some in held for at in some.values() if at > self.clock.at})
        moved = {at: self.clock.at + 1 + i for i, at in enumerate(ahead)}
        for some in (self.rows, self.deletes):
            for view, instants in some.items():
                some[view] = {position: moved.get(at, at) for position, at in instants.items()}
        self.earliest = self.clock.at + len(ahead) + 1

    @invariant()
    def it_holds_what_the_model_has(self) -> None:
        if not hasattr(self, "log"):
            return
        assert self.log.now() == max(self.clock.at, self.earliest)
        assert self.log.head_position() == self.position
        for view in VIEWS:
            assert _arrivals(self.log, view) == sorted(self.rows[view].items())
            assert _tombstones(self.log, view) == sorted(self.deletes[view].items())
