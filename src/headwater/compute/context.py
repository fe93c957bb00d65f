"""StoreContext: the parts and settings of one store object, which everything in compute takes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec

from headwater import forks
from headwater.clock import Clock, duration_micros, ticker, to_micros
from headwater.compute.claims import Claims
from headwater.compute.online_location import OnlineLocation
from headwater.compute.recent import RecentWrites
from headwater.compute.settings import ComputeSettings
from headwater.compute.sources import BoundSources
from headwater.deferred import deferred
from headwater.errors import UsageError
from headwater.forks import lazy
from headwater.observer import Observer, silent
from headwater.online.base import OnlineStore
from headwater.online.meta import read_watermarks
from headwater.online.session import Session
from headwater.online.session_tokens import sign_with
from headwater.planning.snapshot import RegistrySnapshot
from headwater.planning.watermark import Watermark
from headwater.registry.registry import FeatureRegistry
from headwater.values import Value

if TYPE_CHECKING:
    from headwater.compute.queue import records, sql_queue
    from headwater.offline.base import OfflineEngine
    from headwater.offline.log.log import OfflineLog
    from headwater.offline.training_sets import folder as training_sets
    from headwater.online import hints
    from headwater.registry import failures, files, forcing, leases, session_secrets, versions
else:
    # what a process that only serves never needs
    records = deferred("headwater.compute.queue.records")
    sql_queue = deferred("headwater.compute.queue.sql_queue")
    training_sets = deferred("headwater.offline.training_sets.folder")
    hints = deferred("headwater.online.hints")
    failures = deferred("headwater.registry.failures")
    files = deferred("headwater.registry.files")
    forcing = deferred("headwater.registry.forcing")
    leases = deferred("headwater.registry.leases")
    session_secrets = deferred("headwater.registry.session_secrets")
    versions = deferred("headwater.registry.versions")

T = TypeVar("T")

WRITE_TIME = timedelta(minutes=10)
"""How long after its start a write may still be applied: purges asked for within it are not erased yet."""
RUN = "run"
"""The kind of lease that a materialization holds."""


class Once(Generic[T]):
    """Opens a part when it is first called, and gives that one ever after.

    Args:
        open_part: opens it.
    """

    def __init__(self, open_part: Callable[[], T]) -> None:
        self._open_part = open_part
        # one a part: what takes long to open keeps no other waiting
        self._lock = forks.rlock()
        self._opened: list[T] = []

    def __call__(self) -> T:
        if not self._opened:
            with self._lock:
                if not self._opened:
                    self._opened.append(self._open_part())
        return self._opened[0]


class StoreContext(forks.OfOneProcess, Value, frozen=True, eq=False, dict=True):
    """One store object's parts and settings; no threads, no caches (`services.Services` has them).

    Attributes:
        project: the project's name; part of every online key.
        registry: definitions and versions.
        online: the online store.
        open_engine: gives the engine of the point-in-time query: a process that only serves never needs it.
        open_log: gives the offline log.
        clock: the one clock.
        claims: whose the log and the online store are, as it was looked at last.
        sources: what the registry cannot hold of sources: tables that live in the store object.
        settings: how it writes, runs, reads and refreshes.
        observer: receives progress.
        recent: the writes that the online store acknowledged last.
        online_location: where other processes open the online store; None where it was given as an object.
    """

    project: str
    registry: FeatureRegistry
    online: OnlineStore
    open_engine: Once[OfflineEngine]
    open_log: Once[OfflineLog]
    clock: Clock
    claims: Claims
    sources: BoundSources
    settings: ComputeSettings = msgspec.field(default_factory=ComputeSettings)
    observer: Observer = silent
    recent: RecentWrites = msgspec.field(default_factory=RecentWrites)
    online_location: OnlineLocation | None = None

    @property
    def engine(self) -> OfflineEngine:
        """Runs the point-in-time query."""
        return self.open_engine()

    @property
    def log(self) -> OfflineLog:
        """The offline log."""
        return self.open_log()

    @lazy
    def now(self) -> Callable[[], int]:
        """Tells the time now, microseconds."""
        return ticker(self.clock)

    @lazy
    def versions(self) -> versions.FeatureVersionManager:
        """Moves live pointers."""
        return versions.FeatureVersionManager(self.registry)

    @lazy
    def files(self) -> files.FileEntries:
        """The files of sources that runs have read."""
        return files.FileEntries(self.registry.engine)

    @lazy
    def training_sets(self) -> training_sets.TrainingSets:
        """The folder of saved training sets."""
        return training_sets.TrainingSets(self.settings.training_sets)

    @lazy
    def forcing(self) -> forcing.Forcing:
        """Force runs that have not ended."""
        return forcing.Forcing(self.registry.engine)

    @lazy
    def failures(self) -> failures.Failures:
        """Versions whose last run failed."""
        return failures.Failures(self.registry.engine)

    @lazy
    def leases(self) -> leases.Leases:
        """Says which runs are in flight."""
        return leases.Leases(self.registry.engine, self.clock)

    @lazy
    def refresh_queue(self) -> hints.HintQueue:
        """Where refresh requests wait for workers: the online store's own queue, else a table beside the registry."""
        limit = self.settings.refreshing.limit
        if isinstance(self.online, hints.Queued):
            return self.online.hint_queue(self.store_name, limit)
        return sql_queue.SQLHintQueue(self.registry.engine, limit)

    @lazy
    def refresh_records(self) -> records.RefreshRecords:
        """What refreshes have come to."""
        return records.RefreshRecords(self.registry.engine)

    @property
    def log_id(self) -> str:
        """The id of the offline log, which the online store belongs to; the log is opened where there is none yet."""
        return self.claims.log_id

    @lazy
    def store_name(self) -> str:
        """The name of the online store that sessions carry."""
        return f"{self.project}:{self.log_id}"

    @lazy
    def session_secrets(self) -> session_secrets.SessionSecrets:
        """What session tokens are signed with."""
        return session_secrets.SessionSecrets(self.registry)

    def session(self) -> Session:
        """A session that has seen nothing yet."""
        session = Session(self.store_name)
        self.check_session(session)
        return session

    def check_session(self, session: Session | None) -> None:
        """Refuse what is not a session, or is one of another store; None is none.

        Raises:
            UsageError: saying what to pass.
        """
        if session is None:
            return
        if not isinstance(session, Session):
            raise UsageError(f"session={session!r}: pass store.session(), or hw.Session.from_token(token)")
        session.check(self.store_name)
        secret = self.session_secrets.newest()
        if secret is not None:
            sign_with(self.store_name, secret)

    def watermarks(self, snapshot: RegistrySnapshot) -> dict[tuple[str, str], Watermark]:
        """(view, version) → how far it is materialized, as the online store has it; one that is missing never was."""
        pairs = [(view.name, version) for view in snapshot.views.values() for version in view.versions]
        marks = read_watermarks(self.online, self.project, pairs)
        return {pair: mark for pair, mark in marks.items() if mark is not None}

    def write_until(self) -> int:
        """The instant (microseconds) after which a write that begins now must not be applied any more."""
        return to_micros(self.online.clock()) + duration_micros(WRITE_TIME)
