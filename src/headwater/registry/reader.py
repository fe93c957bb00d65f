"""RegistryReader: the registry as others read it, a snapshot at one revision, looked at again now and then."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from headwater import forks
from headwater.clock import from_micros
from headwater.database.database import Database, ReadsOf
from headwater.database.plain import Reads
from headwater.deferred import deferred
from headwater.definitions.view import FeatureSelection
from headwater.errors import StoreError, UsageError
from headwater.gate import Turns
from headwater.planning.references import parse_reference
from headwater.planning.snapshot import RegistrySnapshot
from headwater.planning.watermark import Watermark
from headwater.registry.rows import Newest, read_newest, read_revision, read_snapshot

if TYPE_CHECKING:
    import sqlalchemy as sa

    from headwater.registry import change_log, feature_definition
    from headwater.registry.change_log import Change
    from headwater.registry.feature_definition import FeatureDefinition
else:
    change_log = deferred("headwater.registry.change_log")
    feature_definition = deferred("headwater.registry.feature_definition")

REFRESH = timedelta(seconds=5)
_PATIENCE = 0.25
"""Seconds that a read waits for a server's answer at most; then it goes on with the registry as it was read last."""


class RegistryReader(forks.OfOneProcess):
    """Reads a registry; safe to use from several threads.

    Args:
        database: one that `migrate` has seen; the caller closes it.
        project: the project's name.
        refresh: how long a snapshot is used before the database is asked whether it is still the newest.
    """

    def __init__(self, database: Database, project: str, *, refresh: timedelta = REFRESH) -> None:
        self.database = database
        self.project = project
        self._refresh = refresh.total_seconds()
        self._lock = forks.rlock()
        self._looking = Turns()
        self._answered = forks.event()
        """Set while nobody asks a server in the background."""
        self._answered.set()
        self._snapshot: RegistrySnapshot | None = None
        self._newest = Newest()
        self._generation: int | None = None
        """Of the database's file that the snapshot was read from; None: of none, as there was none."""
        self._checked = float("-inf")
        self._asked = self._seen = time.monotonic()
        forks.after_fork(self, RegistryReader._in_child)

    @property
    def engine(self) -> sa.Engine:
        """SQLAlchemy's engine of the database."""
        return self.database.engine

    def snapshot(self, max_age: float | None = None) -> RegistrySnapshot:
        """The registry; as of at most `refresh` ago, or of its last answer where the database cannot be reached.

        Args:
            max_age: seconds that a snapshot may be old, where that is less than `refresh`.
        """
        lasts = self._refresh if max_age is None else min(max_age, self._refresh)
        known = self._snapshot
        if known is not None and self._is_fresh(lasts):
            return known
        if known is None:
            with self._lock:
                # another thread may have been first
                return self._look() if self._snapshot is None else self._snapshot
        if self.database.is_server:
            self._ask_server(lasts)
        # whoever holds the lock is looking already
        elif self._lock.acquire(timeout=_PATIENCE):
            try:
                if not self._is_fresh(lasts):
                    self._look_or_go_on()
            finally:
                self._lock.release()
        return self._snapshot or known

    def _is_fresh(self, lasts: float) -> bool:
        return time.monotonic() - self._checked < lasts

    def _ask_server(self, lasts: float) -> None:
        """Look in the background, and wait for that a moment: one that does not answer holds up no reader for long."""
        me, mine, began = threading.Lock(), False, False
        try:
            mine = self._looking.acquire(me, 0)
            if mine and not self._is_fresh(lasts):
                self._answered.clear()
                threading.Thread(target=self._answer, args=(me,), name="headwater-registry", daemon=True).start()
                began = True
        finally:
            if mine and not began:
                self._answered.set()
            if not began:
                self._looking.release(me)
        self._answered.wait(_PATIENCE)

    def _answer(self, me: threading.Lock) -> None:
        try:
            with self._lock:
                self._look_or_go_on()
        finally:
            self._answered.set()
            self._looking.release(me)

    def _look_or_go_on(self) -> None:
        self._asked = time.monotonic()
        try:
            self._look()
        except StoreError:
            # serving goes on through an outage of the registry
            self._checked = time.monotonic()

    def _in_child(self) -> None:
        # who was looking is a thread of the parent; the lock is free again by itself
        self._looking = Turns()
        self._answered.set()

    @property
    def latest(self) -> RegistrySnapshot | None:
        """The newest snapshot that was read; nothing is asked of the database."""
        return self._snapshot

    @property
    def due(self) -> bool:
        """Whether `snapshot` would ask the database."""
        return self._snapshot is None or not self._is_fresh(self._refresh)

    @property
    def age(self) -> float:
        """Seconds since the database was asked last."""
        return time.monotonic() - self._checked

    def refresh(self) -> RegistrySnapshot:
        """The registry as it is now.

        Raises:
            Unavailable: the database cannot be reached.
        """
        with self._lock:
            return self._look()

    def _look(self) -> RegistrySnapshot:
        asked = self._asked = time.monotonic()
        if self._is_there():
            with self.database.reads() as reads:
                known = self._snapshot if self._goes_on(reads) else None
                self._snapshot = read_snapshot(reads, self.project, known)
                self._newest, self._generation = read_newest(reads), reads.generation
        else:
            self._snapshot = self._snapshot or RegistrySnapshot(self.project)
        self._checked = self._seen = asked
        return self._snapshot

    @property
    def unseen(self) -> float:
        """Seconds since the database last answered, where it was asked and did not; else 0."""
        return time.monotonic() - self._seen if self._asked > self._seen else 0.0

    def _is_there(self) -> bool:
        """Whether there is a database to ask; a registry that was never made is empty."""
        return True

    def _goes_on(self, reads: Reads) -> bool:
        """Whether another transaction sees the database that the snapshot was read from, or what became of it."""
        if self._generation not in (None, reads.generation):
            return False
        newest = read_newest(reads)
        return newest.revision > self._newest.revision or newest == self._newest

    def revision_in(self, connection: sa.Connection) -> int:
        """The newest revision as another transaction of the same database sees it.

        -1 where the database was restored since this registry was read: no snapshot is of that revision.
        """
        reads = ReadsOf(connection)
        return read_revision(reads) if self._snapshot is None or self._goes_on(reads) else -1

    def snapshot_in(self, connection: sa.Connection) -> RegistrySnapshot:
        """The registry as another transaction of the same database sees it."""
        reads = ReadsOf(connection)
        return read_snapshot(reads, self.project, self._snapshot if self._goes_on(reads) else None)

    def get_feature_definition(
        self, reference: str | FeatureSelection, version: str | None = None
    ) -> FeatureDefinition:
        """What is registered of one feature, in the live version or any past one.

        Args:
            reference: `view:feature`, `view@1.0.0:feature`, or `view["feature"]`.
            version: of the view; the live one by default.

        Raises:
            NotFound: no such view, version or feature; with the nearest name.
            UsageError: not a reference to one feature, or two versions.
        """
        if isinstance(reference, FeatureSelection):
            if len(reference.feature_names) != 1:
                raise UsageError(f"give one feature, not {', '.join(reference.feature_names)}")
            reference = f"{reference.view.name}:{reference.feature_names[0]}"
        parsed = parse_reference(reference)
        if parsed.feature in (None, "*"):
            raise UsageError(f"{reference!r} is not a single feature; write '{parsed.name}:feature'")
        if version is not None and parsed.version not in (None, version):
            raise UsageError(f"{reference!r} names version {parsed.version}, version= names {version}")
        found = self.snapshot().any_view(parsed.name).version(parsed.version if version is None else version)
        return feature_definition.define(found, str(parsed.feature))

    def watermarks(self) -> Mapping[tuple[str, str], tuple[Watermark, datetime]]:
        """(view, version) → how far it was materialized by the registry's account, and when that was noted (UTC).

        The online store's own watermark counts; this mirror is for `status`.
        """
        if not self._is_there():
            return {}
        with self.database.reads() as reads:
            rows = reads.rows("SELECT view, version, known_until, position, at FROM registry_watermark")
        return {(r.view, r.version): (Watermark(r.known_until, r.position), from_micros(r.at)) for r in rows}

    def last_runs(self) -> Mapping[tuple[str, str], tuple[int, timedelta]]:
        """(view, version) → the rows that its last run with rows looked at, and how long that took."""
        if not self._is_there():
            return {}
        with self.database.reads() as reads:
            rows = reads.rows("SELECT view, version, run_rows, run_micros FROM registry_watermark WHERE run_rows > 0")
        return {(r.view, r.version): (r.run_rows, timedelta(microseconds=r.run_micros)) for r in rows}

    def setting(self, name: str) -> str | None:
        """A value stored by `FeatureRegistry.get_or_set`; None where there is none."""
        if not self._is_there():
            return None
        with self.database.reads() as reads:
            return next(
                (r.value for r in reads.rows("SELECT name, value FROM registry_setting") if r.name == name), None
            )

    def changes(self, name: str | None = None) -> list[Change]:
        """The change log, oldest first; of one entity, view or service, or of all."""
        if not self._is_there():
            return []
        return change_log.read_changes(self.database, name)
