"""What one transaction of the offline log knows of the whole log: its clock, its last position, its generation."""

from __future__ import annotations

import functools
import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from headwater.clock import Clock, format_duration, from_micros, to_micros
from headwater.database.transactions import now_expression, place
from headwater.database.watching import generation_of
from headwater.errors import ClockError, FormatError, LogMismatch, Unavailable
from headwater.offline.log.buffer_cache import HeadReader
from headwater.offline.log.deleted_keys import TombstoneReader
from headwater.offline.log.tables import counter, gaps
from headwater.offline.log.write_buffer import Shapes

CLOCK_LIMIT = timedelta(hours=1)
"""How far the log's clock may be ahead of now: beyond it nobody can tell which of the two is wrong."""

MAX_POSITION = 2**55 - 1
"""The greatest position: a row's header has 55 bits for one."""

_RAISED_TO = 2**54
"""No restore raises positions above it, whatever the clock says (in microseconds it is the year 2540)."""


class LogRestored(Unavailable):
    """The log's database was restored from an older copy since this process looked; nothing was changed.

    Whoever writes claims the log again (`OfflineLog.claim`, with the greatest position that the online store has), and
    then writes again.
    """


@dataclass(frozen=True)
class Known:
    """What a process knows of the log from its last transaction, and what it keeps in memory on the strength of that.

    Attributes:
        position: the last position.
        generation: the database's.
        restored: how often this process found the database restored.
        shapes, write_buffer, tombstones: what it has read, true as long as the database is the same.
        file: the generation of the database's file.
    """

    position: int
    generation: str
    restored: int
    shapes: Shapes
    write_buffer: HeadReader
    tombstones: TombstoneReader
    file: int = 0

    @classmethod
    def of(cls, state: LogState, restored: int = 0) -> Known:
        """Nothing but a state."""
        shapes = Shapes()
        tombstones = TombstoneReader(shapes)
        return cls(state.position, state.generation, restored, shapes, HeadReader(shapes), tombstones, state.file)

    def holds(self, state: LogState) -> bool:
        """Whether a later transaction still sees the database that this is about."""
        same = state.generation == self.generation and state.file == self.file
        return same and state.position >= self.position


@dataclass(frozen=True)
class LogState:
    """The log's counter row, and the time, as a transaction sees them.

    Attributes:
        log_id: of the log.
        position: the last position given.
        buffered: rows in the write buffer.
        earliest: the least instant (microseconds) that the log's clock may say: every arrival, deletion and run of
            before is earlier or equal.
        now: the time (microseconds) by the database's clock, or by this host's where that is SQLite.
        generation: random; another one where positions may be lost.
        file: how often this process found the database in another file than before.
    """

    log_id: str
    position: int
    buffered: int
    earliest: int
    now: int
    generation: str
    file: int = 0

    @property
    def clock(self) -> int:
        """The log's clock, microseconds: it never goes back."""
        return max(self.now, self.earliest)


def read_state(connection: sa.Connection, clock: Clock, *, lock: bool = False) -> LogState:
    """The state; `lock`: held until the transaction ends (SQLite's write transactions have the lock already)."""
    plain = connection.dialect.name == "sqlite"
    now = host_now(connection, clock)
    row: Any = connection.execute(_state_query(timed=not plain, lock=lock and not plain)).one()
    if now is None:
        now = row.now
    return LogState(row.log_id, row.position, row.head_rows, row.clock, now, row.generation, generation_of(connection))


def host_now(connection: sa.Connection, clock: Clock) -> int | None:
    """The time (microseconds) where this host tells it; None: the database does, in the same statement as the state."""
    return to_micros(clock()) if connection.dialect.name == "sqlite" else None


@functools.cache
def _state_query(*, timed: bool, lock: bool) -> sa.Select[Any]:
    """Made once: every transaction begins with it, and to make it takes longer than to run it."""
    columns = (counter.c.log_id, counter.c.position, counter.c.head_rows, counter.c.clock, counter.c.generation)
    query: sa.Select[Any] = sa.select(*columns)
    if timed:
        query = query.add_columns(now_expression().label("now"))
    return query.with_for_update() if lock else query


@dataclass
class LogTransaction:
    """A write transaction: what it takes of the log, and what it leaves behind in the counter row.

    Attributes:
        connection: holds the log's lock.
        state: the log before it.
        known: what the process keeps in memory.
        position: the last position given, also by this transaction.
        buffered: rows that it adds to the write buffer.
        clock: the least that the log's clock may say afterwards.
        generation: the database's.
    """

    connection: sa.Connection
    state: LogState
    known: Known
    position: int
    clock: int
    generation: str
    buffered: int = 0

    @classmethod
    def of(cls, connection: sa.Connection, state: LogState, known: Known) -> LogTransaction:
        """A transaction that has not done anything yet."""
        return cls(connection, state, known, state.position, state.earliest, state.generation)

    def take(self, count: int) -> int:
        """Take positions.

        Returns:
            The last one taken before.

        Raises:
            FormatError: there are none left.
        """
        after = self.position
        self.position = checked_position(after + count)
        return after

    def finish(self) -> None:
        """Write down what was taken."""
        changed: dict[Any, Any] = {}
        if self.position != self.state.position:
            changed[counter.c.position] = self.position
        if self.clock != self.state.earliest:
            changed[counter.c.clock] = self.clock
        if self.generation != self.state.generation:
            changed[counter.c.generation] = self.generation
        if self.buffered:
            changed[counter.c.head_rows] = counter.c.head_rows + self.buffered
        if changed:
            self.connection.execute(counter.update().values(changed))

    def raise_above(self, greatest: int) -> bool:
        """Give no position up to `greatest` again, where the log's last one is below it: it was restored.

        The positions up to the clock's microseconds are left out too: writes that were in flight hold positions above
        the greatest that was seen.
        """
        if checked_position(greatest) <= self.position:
            return False
        clock = max(self.clock, self.state.now)
        raised = max(greatest, min(clock, _RAISED_TO))
        self.connection.execute(gaps.insert().values(lo=self.position, hi=raised, noted_at=clock))
        self.position, self.generation, self.clock = raised, str(uuid.uuid4()), clock
        return True


def checked_position(position: int) -> int:
    """A position, where a row's header can hold it.

    Raises:
        FormatError: it is too great.
    """
    if not 0 <= position <= MAX_POSITION:
        raise FormatError(f"{position} is not a position of an offline log: the greatest is {MAX_POSITION}")
    return position


def check_same_log(state: LogState, log_id: str, engine: sa.Engine) -> None:
    """Refuse a database that holds another log by now.

    Raises:
        LogMismatch: it does.
    """
    if state.log_id != log_id:
        raise LogMismatch(
            f"offline log in {place(engine)}: it was log {log_id} when it was opened, and is log {state.log_id} now: "
            "the database was replaced; open the store again"
        )


def check_clock(clock: int, now: int, engine: sa.Engine, what: str = "its clock") -> str:
    """How far an instant of the log is ahead of now, in words.

    Args:
        clock: the instant, microseconds.
        now: microseconds.
        engine: of the log's database.
        what: what the instant is.

    Raises:
        ClockError: it is more than an hour.
    """
    ahead = timedelta(microseconds=clock - now)
    where = f"offline log in {place(engine)}: {what} says {_shown(clock)}, and now is {_shown(now)}"
    if ahead > CLOCK_LIMIT:
        raise ClockError(
            f"{where}: they are more than {format_duration(CLOCK_LIMIT)} apart, so one of them is wrong, and nothing "
            "was changed; set this clock right or, if now is right, run headwater repair-clock",
            _datetime(clock),
            _datetime(now),
        )
    apart = format_duration(timedelta(seconds=round(ahead.total_seconds())))
    return f"{where}, {apart} earlier; check the clocks of the hosts that write"


def _datetime(micros: int) -> Any:
    try:
        return from_micros(micros)
    except OverflowError:
        return None


def _shown(micros: int) -> str:
    when = _datetime(micros)
    return f"{micros} µs" if when is None else when.isoformat()
