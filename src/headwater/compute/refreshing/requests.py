"""Hints from reads to the durable queue: noted on the read's path at once, looked at and flushed by a thread."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from headwater import forks
from headwater.errors import HeadwaterError
from headwater.online.hints import Hint, HintQueue
from headwater.online.reading.reader import KeyPlan
from headwater.online.reading.staleness import StaleRows, stale_rows
from headwater.planning.resolve import ResolvedView

if TYPE_CHECKING:
    from headwater.compute.refreshing.records import RefreshRecords

READS = 256
"""How many reads may wait to be looked at: those that come while it is full are not."""
HINTS = 10_000
"""How many distinct keys may wait to be flushed."""
_LOOK = 0.05
_FLUSH = 0.5
"""Seconds between looks at reads, and between flushes."""
_AT_CLOSE = 2.0


LAST_RETRY = timedelta(minutes=5)
"""How long after another failure a hint is tried again at most, give or take a quarter."""


@dataclass(frozen=True)
class RefreshSettings:
    """How stale rows are refreshed.

    Attributes:
        hints: whether reads that flag or drop stale values ask for a refresh.
        budget: how long a read with `stale="refresh"` waits at most.
        rest: how long a key is left alone at least once no newer row was found.
        limit: how many hints may wait in the queue.
        tries: how often a hint is tried before it is a dead letter.
        lease: how long a worker may have a hint before another takes it over.
    """

    hints: bool = False
    budget: timedelta = timedelta(milliseconds=500)
    rest: timedelta = timedelta(minutes=1)
    limit: int = 100_000
    tries: int = 5
    lease: timedelta = timedelta(minutes=2)


def as_hints(views: Sequence[ResolvedView], stale: Iterable[StaleRows], now: int) -> list[Hint]:
    """The hints that stale rows of a request make; rows of a retired version, which is no longer updated, make none."""
    found = []
    for part in stale:
        view = views[part.place]
        if view.definition.retired_at is None:
            rows = zip(part.keys, part.events, strict=True)
            found += [Hint(view.name, view.version, key, event, part.sla, now) for key, event in rows]
    return found


class Hints(forks.OfOneProcess):
    """A bounded buffer of hints, one a key, in front of the queue.

    A read is noted by one append; a thread, started by the first, finds what is stale in it. What finds no room is
    dropped and counted, as is what cannot be flushed: whoever reads the key again asks again.

    Args:
        queue: where hints go.
        records: where drops are counted.
        now: tells the time, microseconds.
        started: called once the first read or hint was noted.

    Attributes:
        dropped: hints dropped by this process.
        overlooked: reads that were not looked at.
    """

    def __init__(
        self,
        queue: Callable[[], HintQueue],
        records: Callable[[], RefreshRecords],
        now: Callable[[], int],
        started: Callable[[], None] = lambda: None,
    ) -> None:
        self._queue, self._records, self._now, self._started = queue, records, now, started
        self.forget()
        forks.after_fork(self, Hints.forget)

    def forget(self) -> None:
        """Begin anew, without a thread."""
        self._reads: deque[tuple[Sequence[ResolvedView], KeyPlan, int, int | None]] = deque()
        self._hints: dict[bytes, Hint] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._wake = forks.event()
        self._closed = forks.event()
        self.dropped = 0
        self.overlooked = 0
        self._told = (0, 0)

    def offer(self, views: Sequence[ResolvedView], plan: KeyPlan, now: int, max_age: int | None) -> None:
        """Note a decoded read; nothing is looked at here.

        Args:
            views: the request's.
            plan: the read's, decoded.
            now: its instant, microseconds.
            max_age: its own SLA, microseconds.
        """
        reads = self._reads
        if len(reads) >= READS:
            self.overlooked += 1
            return
        reads.append((views, plan, now, max_age))
        if not self._wake.is_set():
            self._awake()

    def add(self, hints: Iterable[Hint]) -> None:
        """Note hints."""
        with self._lock:
            for hint in hints:
                known = self._hints.get(hint.key)
                if known is not None:
                    self._hints[hint.key] = replace(
                        known,
                        asked=known.asked + hint.asked,
                        sla=min(known.sla, hint.sla),
                        event=max(known.event, hint.event),
                    )
                elif len(self._hints) < HINTS:
                    self._hints[hint.key] = hint
                else:
                    self.dropped += hint.asked
        self._awake()

    def _awake(self) -> None:
        started = False
        if self._thread is None and not self._closed.is_set():
            with self._lock:
                # looked at again: two reads may have come first
                if self._thread is None:
                    # a store that nobody closes must be able to go: its thread does not hold it
                    kept, wake = weakref.ref(self, partial(_wake_up, self._wake)), self._wake
                    self._thread = threading.Thread(
                        target=_work, args=(kept, wake, self._closed), name="headwater-hints", daemon=True
                    )
                    self._thread.start()
                    started = True
        self._wake.set()
        if started:
            self._started()

    def look(self) -> None:
        """Find what is stale in the reads noted so far."""
        for _ in range(len(self._reads)):
            views, plan, now, max_age = self._reads.popleft()
            stale = stale_rows(plan, max_age)
            if stale:
                self.add(as_hints(views, stale, now))

    def flush(self) -> None:
        """Bring what was noted to the queue."""
        self.look()
        with self._lock:
            hints, self._hints = list(self._hints.values()), {}
        if hints:
            try:
                self.dropped += self._queue().offer(hints, self._now())
            except HeadwaterError:
                # a hint is worth no error: the next read gives it again
                self.dropped += len(hints)
        dropped, overlooked = self.dropped, self.overlooked
        before = self._told
        if (dropped, overlooked) != before:
            with suppress(HeadwaterError):
                self._records().add({"dropped": dropped - before[0], "overlooked": overlooked - before[1]})
                self._told = (dropped, overlooked)

    def close(self) -> None:
        """Flush for the last time, and stop."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(_AT_CLOSE)
            self.flush()


def _wake_up(wake: threading.Event, _: object) -> None:
    wake.set()


def _work(kept: weakref.ref[Hints], wake: threading.Event, closed: threading.Event) -> None:
    """Look at what reads noted, and flush it, for as long as the hints are there and open."""
    while True:
        wake.wait()
        for _ in range(round(_FLUSH / _LOOK)):
            if closed.wait(_LOOK) or (hints := kept()) is None:
                return
            hints.look()
            del hints
        if (hints := kept()) is None:
            return
        wake.clear()
        hints.flush()
        del hints
