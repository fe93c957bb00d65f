"""Refresh requests from reads to the durable queue: noted on the read's path, looked at and flushed by a thread."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial

from headwater import forks
from headwater.compute.context import StoreContext
from headwater.errors import HeadwaterError
from headwater.online.hints import Hint
from headwater.online.reading.reader import KeyPlan
from headwater.online.reading.staleness import StaleRows, stale_rows
from headwater.planning.resolved import ResolvedView

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


def as_hints(views: Sequence[ResolvedView], stale: Iterable[StaleRows], now: int) -> list[Hint]:
    """The hints that stale rows of a request make; rows of a retired version, which is no longer updated, make none."""
    found = []
    for part in stale:
        view = views[part.place]
        if view.definition.retired_at is None:
            rows = zip(part.keys, part.events, strict=True)
            found += [Hint(view.name, view.version, key, event, part.sla, now) for key, event in rows]
    return found


class RefreshRequests(forks.OfOneProcess):
    """A bounded buffer of refresh requests, one a key, in front of the queue.

    A read is noted by one append; what is stale in it is found later (`look`), and brought to the queue (`flush`). What
    finds no room is dropped and counted, as is what cannot be flushed: whoever reads the key again asks again.

    Args:
        context: the store's parts and settings.

    Attributes:
        dropped: requests dropped by this process.
        overlooked: reads that were not looked at.
        wake: set once something was noted.
    """

    def __init__(self, context: StoreContext) -> None:
        self._context = context
        self.forget()
        forks.after_fork(self, RefreshRequests.forget)

    def forget(self) -> None:
        """Begin with nothing noted."""
        self._reads: deque[tuple[Sequence[ResolvedView], KeyPlan, int, int | None]] = deque()
        self._hints: dict[bytes, Hint] = {}
        self._lock = threading.Lock()
        self.wake = forks.event()
        self.dropped = 0
        self.overlooked = 0
        self._recorded = (0, 0)

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
        if not self.wake.is_set():
            self.wake.set()

    def add(self, hints: Iterable[Hint]) -> None:
        """Note requests."""
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
        self.wake.set()

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
        context = self._context
        with self._lock:
            hints, self._hints = list(self._hints.values()), {}
        if hints:
            try:
                self.dropped += context.refresh_queue.offer(hints, context.now())
            except HeadwaterError:
                # a request is worth no error: the next read gives it again
                self.dropped += len(hints)
        dropped, overlooked = self.dropped, self.overlooked
        before = self._recorded
        if (dropped, overlooked) != before:
            with suppress(HeadwaterError):
                context.refresh_records.add({"dropped": dropped - before[0], "overlooked": overlooked - before[1]})
                self._recorded = (dropped, overlooked)


class Flusher:
    """A thread that looks at what reads noted, and flushes it; it does not hold the buffer, which may go.

    Args:
        requests: the buffer.
    """

    def __init__(self, requests: RefreshRequests) -> None:
        wake = requests.wake
        self._requests = weakref.ref(requests, partial(_wake_up, wake))
        self._wake, self._closed = wake, threading.Event()
        given = (self._requests, wake, self._closed)
        self._thread = threading.Thread(target=_work, args=given, name="headwater-hints", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Flush for the last time, and stop."""
        self._closed.set()
        self._wake.set()
        self._thread.join(_AT_CLOSE)
        if (requests := self._requests()) is not None:
            requests.flush()


def _wake_up(wake: threading.Event, _: object) -> None:
    wake.set()


def _work(kept: weakref.ref[RefreshRequests], wake: threading.Event, closed: threading.Event) -> None:
    """Look at what reads noted, and flush it, for as long as the buffer is there and the flusher open."""
    while True:
        wake.wait()
        for _ in range(round(_FLUSH / _LOOK)):
            if closed.wait(_LOOK) or (requests := kept()) is None:
                return
            requests.look()
            del requests
        if (requests := kept()) is None:
            return
        wake.clear()
        requests.flush()
        del requests
