"""The offline log as a whole: its transactions, its one clock, and what a restored database does to it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import sqlalchemy as sa

from headwater import forks
from headwater.clock import CLOCK_TOLERANCE, MIN_MICROS, Clock, duration_micros
from headwater.database.transactions import place
from headwater.database.watching import generation
from headwater.errors import ClockError, FormatError, LogMismatch, StoreError
from headwater.offline.log.files import hold_folder, set_aside
from headwater.offline.log.folder import LogFolder
from headwater.offline.log.state import (
    Known,
    LogRestored,
    LogState,
    LogTransaction,
    check_clock,
    check_same_log,
    checked_position,
    read_state,
)
from headwater.offline.log.tables import counter, gaps, migrate, reading, writing
from headwater.offline.log.tombstones import Digests


@dataclass(frozen=True)
class RunStart:
    """Where a run begins.

    Attributes:
        now: the log's clock, microseconds; no arrival or delete that comes later is earlier.
        position: the last position of the log.
    """

    now: int
    position: int


@dataclass(frozen=True)
class Gap:
    """Positions that the log may have given before its database was restored from an older copy.

    Attributes:
        lo, hi: the positions lo < p ≤ hi.
        noted_at: when that was noticed, by the log's clock, microseconds.
    """

    lo: int
    hi: int
    noted_at: int


class LogCore(forks.OfOneProcess):
    """The transactions and the clock of an offline log; see `OfflineLog`."""

    def __init__(
        self, engine: sa.Engine, folder: Path | None, clock: Clock, tolerance: timedelta = CLOCK_TOLERANCE
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._tolerance = duration_micros(tolerance)
        self._lock = forks.rlock()
        self._knowing = forks.lock()
        self._warned = False
        self._migrated = generation(engine)
        migrate(engine)
        with reading(engine) as connection:
            state = read_state(connection, clock)
            salt = connection.execute(sa.select(counter.c.salt)).scalar_one()
        self.log_id: str = state.log_id
        self.digests = Digests(bytes(salt))
        self._known = Known.of(state)
        self._acknowledged = 0
        self._folder = None if folder is None else LogFolder(folder, self.log_id)

    @contextmanager
    def _writing(self, *, claiming: bool = False) -> Iterator[LogTransaction]:
        """A write transaction; `claiming`: it acknowledges that the database was restored."""
        with self._lock:
            self._migrate()
            known = self._known
            with writing(self._engine) as connection:
                state = read_state(connection, self._clock, lock=True)
                check_same_log(state, self.log_id, self._engine)
                if not known.holds(state):
                    known = self._forget(state)
                if known.restored != self._acknowledged and not claiming:
                    raise LogRestored(
                        f"offline log in {place(self._engine)}: the database was restored from an older copy (its last "
                        f"position is {state.position}); nothing was changed, try again"
                    )
                transaction = LogTransaction.of(connection, state, known)
                yield transaction
                transaction.finish()
            self._note(known, transaction.position, transaction.generation)
            self._acknowledged = known.restored

    @contextmanager
    def _reading(self) -> Iterator[tuple[sa.Connection, LogState, Known]]:
        self._migrate()
        # what is known is looked up first: the transaction sees at least as much
        known = self._known
        with reading(self._engine) as connection:
            state = read_state(connection, self._clock)
            check_same_log(state, self.log_id, self._engine)
            if not known.holds(state):
                known = self._forget(state)
            yield connection, state, known
        self._note(known, state.position, state.generation)

    def _migrate(self) -> None:
        """A file that took the place of the database's may have been written by an earlier release."""
        here = generation(self._engine)
        if here != self._migrated:
            migrate(self._engine)
            self._migrated = here

    def _forget(self, state: LogState) -> Known:
        """Drop what this process holds in memory: the database is another one."""
        with self._knowing:
            self._known = Known.of(state, self._known.restored + 1)
            return self._known

    def _note(self, known: Known, position: int, generation: str) -> None:
        """Remember how far the log is, unless another thread has found it restored meanwhile."""
        with self._knowing:
            newest = self._known
            if newest.write_buffer is known.write_buffer and position >= newest.position:
                self._known = replace(newest, position=position, generation=generation)

    @property
    def generation(self) -> str:
        """Another text once the database was restored, as far as this process knows: a claim of before is void."""
        known = self._known
        return f"{known.generation}:{known.restored}"

    def head_position(self) -> int:
        """The position of the newest row or tombstone; 0 where nothing was written yet."""
        with self._reading() as (_, state, _):
            return state.position

    def claim(self, position: int) -> bool:
        """Before this process's first write: check that the folder is this log's, and give no position twice.

        Args:
            position: the greatest that the online store has seen.

        Returns:
            Whether the database was restored, as in `detect_restore`.

        Raises:
            LogMismatch: the folder belongs to another log, or is another one than this log's other hosts use.
            FormatError: its `log.json` is damaged, or a newer headwater wrote it.
        """
        with self._writing(claiming=True) as log:
            self._hold_folder(log)
            return self._detect_restore(log, position)

    def _check_folder(self, log: LogTransaction) -> None:
        """Before rows or tombstones are added: the folder is still the one that was claimed.

        Raises:
            LogMismatch, FormatError: as `claim`.
        """
        if self._folder is not None and self._folder.is_other():
            self._hold_folder(log)

    def _hold_folder(self, log: LogTransaction) -> None:
        if self._folder is None:
            return
        try:
            hold_folder(log.connection, self._folder)
        except (LogMismatch, FormatError):
            raise
        except StoreError:
            # it takes no files now: rows are safe in the write buffer, the next compaction reports it
            pass

    def detect_restore(self, greatest: int) -> bool:
        """Give no position twice where the database was restored from an older copy.

        That is so where its last position is below the greatest that an online store or the folder's files have seen.
        Positions then go on above that and above the clock's microseconds (what was in flight may hold greater ones
        than were seen), the gap is noted, and files that the database no longer names are set aside.

        Args:
            greatest: the greatest position that the online store has seen.

        Returns:
            Whether the database was restored and not yet seen to be.

        Raises:
            FormatError: it is not a position.
        """
        with self._writing(claiming=True) as log:
            return self._detect_restore(log, greatest)

    def _detect_restore(self, log: LogTransaction, greatest: int) -> bool:
        if self._folder is not None:
            # a folder that cannot be listed now says nothing; the online store has seen what was put
            with suppress(StoreError):
                greatest = max(greatest, set_aside(self._folder, log.position))
        return log.raise_above(greatest)

    def raise_position(self, position: int) -> None:
        """Let positions go on above one: an online store with greater ones becomes this log's.

        Raises:
            FormatError: it is not a position.
        """
        with self._writing(claiming=True) as log:
            # files of its own that a restored database does not name are found while its last position tells them
            self._detect_restore(log, 0)
            log.position = max(log.position, checked_position(position))

    def gaps(self) -> tuple[Gap, ...]:
        """Every gap that a restored database left, in order."""
        with self._reading() as (connection, _, _):
            found = connection.execute(sa.select(gaps.c.lo, gaps.c.hi, gaps.c.noted_at).order_by(gaps.c.id)).all()
        return tuple(Gap(row.lo, row.hi, row.noted_at) for row in found)

    def now(self) -> int:
        """The log's clock, microseconds."""
        with self._reading() as (_, state, _):
            return state.clock

    def clock_ahead(self) -> timedelta:
        """How far the log's clock is ahead of now."""
        with self._reading() as (_, state, _):
            return timedelta(microseconds=state.clock - state.now)

    def clock_warning(self) -> str | None:
        """What is wrong with the log's clock: that it is ahead of now, and by too much; None: nothing."""
        with self._reading() as (_, state, _):
            if state.clock - state.now <= self._tolerance:
                return None
            try:
                return check_clock(state.clock, state.now, self._engine)
            except ClockError as refused:
                return str(refused)

    def arrival(self, view: str) -> int:
        """The arrival that a row of a view would have now, microseconds: after every delete, not before another row.

        Raises:
            ClockError: the log's clock is more than an hour ahead of now.
        """
        with self._reading() as (_, state, _):
            return self._stamp(state)

    def _stamp(self, state: LogState, earliest: int = MIN_MICROS, calls: int = 1) -> int:
        """The log's clock for a change of the log; `calls`: how many calls below a public method of the log this is."""
        clock = max(state.clock, earliest)
        problem = check_clock(clock, state.now, self._engine)
        if clock - state.now <= self._tolerance:
            self._warned = False
        elif not self._warned:
            self._warned = True
            warnings.warn(problem, UserWarning, stacklevel=3 + calls)
        return clock

    def take_number(self) -> int:
        """A reading of the log's clock that nobody else is given: later than every arrival up to now, microseconds.

        Raises:
            ClockError: the log's clock is more than an hour ahead of now.
        """
        with self._writing() as log:
            log.clock = self._stamp(log.state) + 1
            return log.clock

    def restored_at(self) -> int:
        """The log's clock when it was noticed last that the database was restored; 0: it never was."""
        return max((gap.noted_at for gap in self.gaps()), default=0)

    def begin_run(self) -> RunStart:
        """Take a run's `now` from the log's clock, before the run reads anything: no later arrival is earlier.

        Raises:
            ClockError: the log's clock is more than an hour ahead of now.
        """
        with self._writing() as log:
            log.clock = self._stamp(log.state)
            return RunStart(log.clock, log.position)
