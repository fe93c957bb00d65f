"""FeatureConsistencyManager: what was written lately, and how far it has come on its way to every reader."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol

from headwater.clock import parse_duration
from headwater.compute.context import StoreContext
from headwater.compute.recent import RecentWrite
from headwater.errors import ConsistencyLost, Unavailable, UsageError
from headwater.forks import OfOneProcess
from headwater.online.base import OnlineStore
from headwater.online.powers import UNREAD, LeveledReads, Replicated
from headwater.online.rows.codec import sequence_of
from headwater.types import ConsistencyLevel

_PAUSES = (0.002, 0.005, 0.01, 0.02, 0.05)
"""Seconds between two looks; the last one for all that follow."""
_READERS = "eventual reads"


class HasContext(Protocol):
    """A `FeatureStore`."""

    @property
    def context(self) -> StoreContext:
        """The store's parts."""
        ...


@dataclass(frozen=True)
class Propagation:
    """How far writes had come when the wait for them ended.

    Attributes:
        writes: what was waited for.
        replicas: replica → how far behind the writes it was: bytes of replication on Redis; on DynamoDB keys of the
            writes' samples whose last write eventual reads do not see yet. 0: it has them; -1: it does not answer.
            Empty where the store is one node.
        missing: join keys of the writes' samples of which the store has no row any more.
        problem: why that cannot be told, or can never be: empty, or a sentence.
        seconds: how long was waited.
    """

    writes: tuple[RecentWrite, ...]
    replicas: Mapping[str, int]
    missing: tuple[Mapping[str, Any], ...] = ()
    problem: str = ""
    seconds: float = 0.0

    @property
    def complete(self) -> bool:
        """Whether every reader of any level sees the writes."""
        return not self.problem and not self.missing and not any(self.replicas.values())


@dataclass
class _Wait:
    """The time a wait may take."""

    seconds: float
    began: float = field(default_factory=time.monotonic)
    looks: int = 0

    @property
    def passed(self) -> float:
        return time.monotonic() - self.began

    def again(self) -> bool:
        """Whether there is time for another look; pauses before it."""
        left = self.seconds - self.passed
        if left <= 0:
            return False
        time.sleep(min(left, _PAUSES[min(self.looks, len(_PAUSES) - 1)]))
        self.looks += 1
        return True


class FeatureConsistencyManager(OfOneProcess):
    """Tells what a store has written lately, and waits until every reader sees it.

    Args:
        store: a `FeatureStore`.
    """

    def __init__(self, store: HasContext) -> None:
        self._store = store

    def get_recent_writes(self, view: str | None = None, limit: int | None = 100) -> list[RecentWrite]:
        """The writes and deletes that the online store acknowledged to this store object, the newest first.

        Args:
            view: only writes of this view; None: of all views.
            limit: the maximum number of writes; None: all that are kept (the last 1,000).

        Returns:
            The writes, the newest first.

        Raises:
            UsageError: `limit` is negative.
            FeatureViewNotFound: the view is not registered.
        """
        if limit is not None and limit < 0:
            raise UsageError(f"limit={limit!r}: give a number of writes, or None for all")
        context = self._store.context
        if view is not None:
            context.registry.snapshot().view(view)
        return context.recent.last(view, limit)

    def ensure_write_propagation(
        self, write: RecentWrite | Iterable[RecentWrite] | None = None, timeout: timedelta | str | float = "5s"
    ) -> Propagation:
        """Wait until every replica has a write, and report how far each has come.

        On Redis a replica has it when its replication offset covers the write's marks; on DynamoDB when eventual reads
        see the rows as strong reads do at this call or since, for the keys of the writes' samples. On one
        node (LMDB, memory) it is there at once; the rows of the samples are looked for.

        Args:
            write: one or more of `get_recent_writes`; None: all that was written before this call.
            timeout: how long to wait at most; a number is in seconds. Zero: look once.

        Returns:
            How far each replica has come, and whether the timeout passed first.

        Raises:
            UsageError: `write` is not a write, or `timeout` is not a duration.
            Unavailable: the store cannot be reached.
        """
        wait = _Wait(_seconds(timeout))
        context = self._store.context
        writes = _writes(context, write)
        store = context.online
        if isinstance(store, Replicated):
            return _by_marks(store, writes, None if write is None else _greatest(writes), wait)
        return _by_rows(store, writes, wait)


def _seconds(timeout: timedelta | str | float) -> float:
    number = isinstance(timeout, (int, float)) and not isinstance(timeout, bool)
    seconds = float(timeout) if number else parse_duration(timeout).total_seconds()  # type: ignore[arg-type]
    if not seconds >= 0:
        raise UsageError(f"timeout={timeout!r}: give seconds, or a duration such as '500ms', that is not negative")
    return seconds


def _writes(context: StoreContext, write: RecentWrite | Iterable[RecentWrite] | None) -> tuple[RecentWrite, ...]:
    if write is None:
        return tuple(context.recent.last())
    writes = (write,) if isinstance(write, RecentWrite) else tuple(write)
    for item in writes:
        if not isinstance(item, RecentWrite):
            raise UsageError(f"write={item!r}: pass what get_recent_writes() gave, or nothing for all of it")
    return writes


def _by_marks(
    store: Replicated, writes: tuple[RecentWrite, ...], marks: Mapping[str, int] | None, wait: _Wait
) -> Propagation:
    """Replicas whose offsets can be compared with how far the store was at the writes; None: with how far it is now."""
    if marks is None:
        marks = dict(store.marks())
    while True:
        try:
            behind = dict(store.lag(marks))
        except ConsistencyLost as bad:
            return Propagation(writes, {}, problem=str(bad), seconds=wait.passed)
        if not any(behind.values()) or not wait.again():
            return Propagation(writes, behind, seconds=wait.passed)


def _greatest(writes: Iterable[RecentWrite]) -> dict[str, int] | None:
    """How far the store was at the last of some writes; None where that is not known of one."""
    greatest: dict[str, int] = {}
    for write in writes:
        if write.marks is None:
            return None
        for part, mark in write.marks.items():
            greatest[part] = max(mark, greatest.get(part, mark))
    return greatest


def _by_rows(store: OnlineStore, writes: tuple[RecentWrite, ...], wait: _Wait) -> Propagation:
    """Rows that eventual reads see as a strong read saw them since the call: their write sequences tell."""
    entities = {key: entity for write in writes for key, entity in write.sample}
    keys = list(entities)
    current = {key: {sequence_of(row)} for key, row in zip(keys, store.multi_get(keys), strict=True)} if keys else {}
    left = [key for key in keys if current[key] != {0}]
    missing = tuple(entities[key] for key in keys if current[key] == {0})
    if not isinstance(store, LeveledReads):
        return Propagation(writes, {}, missing, seconds=wait.passed)
    while left:
        left = _unseen(store, left, current)
        if not left or not wait.again():
            break
    return Propagation(writes, {_READERS: len(left)}, missing, seconds=wait.passed)


def _unseen(store: LeveledReads, keys: Sequence[bytes], current: Mapping[bytes, set[int]]) -> list[bytes]:
    """Keys that an eventual read does not see as a strong one; adds what strong reads see by now."""
    try:
        seen = dict(zip(keys, store.read(keys, ConsistencyLevel.EVENTUAL, None).rows, strict=True))
        behind = [key for key in keys if _behind(seen[key], current[key])]
        # what is not known may be newer than what was looked for: sequences have no order
        for key, row in zip(behind, store.read(behind, ConsistencyLevel.STRONG, None).rows, strict=True):
            current[key].add(sequence_of(row))
    except Unavailable:
        return list(keys)
    return [key for key in behind if _behind(seen[key], current[key])]


def _behind(row: bytes | None, sequences: set[int]) -> bool:
    return row == UNREAD or sequence_of(row) not in sequences
