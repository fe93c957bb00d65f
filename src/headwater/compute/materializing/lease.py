"""The lease of one run: purges wait for it, its puts must not apply after its end, and it lasts while the run lives."""

from __future__ import annotations

import threading
import time
import weakref
from contextlib import suppress
from datetime import timedelta
from types import TracebackType
from typing import Self

from headwater import forks
from headwater.clock import duration_micros, to_micros
from headwater.compute.context import RUN, StoreContext
from headwater.compute.materializing.shared_lease import PUT_TIME, SharedLease
from headwater.errors import StoreError, Unavailable

RENEW_AFTER = 60.0
"""Seconds."""
_AT_END = 5.0
"""Seconds that the end of a run waits at most for a renewal that has begun."""


class RunLease:
    """Use it with `with`: until its end a thread renews the lease, however long the run waits for a query or a store.

    Args:
        context: the store's parts and settings.
        about: what the run works on.
        shared: told of each end, for processes that put for the run; None: there are none.

    Attributes:
        began: when the run began, microseconds by the online store's clock.
    """

    def __init__(self, context: StoreContext, about: str, shared: SharedLease | None = None) -> None:
        self.shared = shared
        self._context = context
        self._about = about
        self._forcing: list[str] = []
        self._ended = threading.Event()
        self._lock = forks.lock()
        self.began = to_micros(context.online.clock())

    def __enter__(self) -> Self:
        end = None if self.shared is None else self.shared.next_end()
        self._renewed, self._until = self._next()
        self._lease = self._context.leases.acquire(RUN, self._about, lasts=self._context.settings.lease_time)
        try:
            if self.shared is not None and end is not None:
                self.shared.write(end)
        except BaseException:
            self._context.leases.release(self._lease)
            raise
        every = min(RENEW_AFTER, self._context.settings.lease_time.total_seconds()) / 3
        given = (weakref.ref(self), self._ended, every)
        self._renewer = threading.Thread(target=_keep, args=given, name="headwater-lease", daemon=True)
        # where no thread can be begun the run renews its lease between two batches
        with suppress(RuntimeError):
            self._renewer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        try:
            if self._renewer.is_alive():
                self._renewer.join(_AT_END)
        finally:
            if self.shared is None:
                self._context.leases.release(self._lease)
            else:
                self._end_shared(self.shared, well=kind is None)

    def _end_shared(self, shared: SharedLease, *, well: bool) -> None:
        """Let processes that put for the run put no more; the lease lasts until nothing that they began can apply.

        So do notes of force runs; of a run that failed they stay as they are.
        """
        # a renewal that hangs may write once more: then the end that it writes counts, and the lease is as long
        if not self._lock.acquire(timeout=_AT_END):
            return
        try:
            shared.remove()
        except StoreError:
            return  # it ends by itself, and so does what was put under it
        finally:
            self._lock.release()
        tail = min(timedelta(microseconds=PUT_TIME), self._context.settings.lease_time)
        end = to_micros(self._context.online.clock()) + duration_micros(tail)
        for note in self._forcing if well else ():
            self._context.forcing.extend(note, end)
        self._context.leases.renew(self._lease, lasts=tail)

    def _next(self) -> tuple[float, int]:
        """When a renewal begins (monotonic), and what it makes the end.

        It is looked at before the registry is asked: the end by this host's clock is no later than the lease's own.
        """
        return time.monotonic(), to_micros(self._context.online.clock()) + duration_micros(
            self._context.settings.lease_time
        )

    def renew(self) -> bool:
        """Renew the lease; False where it has ended, for good."""
        with self._lock:
            end = None if self.shared is None else self.shared.next_end()
            renewed, until = self._next()
            if not self._context.leases.renew(self._lease, lasts=self._context.settings.lease_time):
                return False
            for note in self._forcing:
                self._context.forcing.extend(note, until)
            self._renewed, self._until = renewed, until
            if self.shared is not None and end is not None and not self._ended.is_set():
                # a store that does not take it now is told at the next renewal
                with suppress(StoreError):
                    self.shared.write(end)
        return True

    def forces(self, note: str) -> None:
        """Let the note of a force run (`Forcing.begin`) last as long as the lease."""
        self._forcing.append(note)

    def until(self) -> int:
        """The instant (microseconds by the online store's clock) after which the run's puts must not apply.

        The lease is renewed now and then.

        Raises:
            Unavailable: the run was held up for longer than its lease.
        """
        if time.monotonic() - self._renewed > RENEW_AFTER:
            self.check()
        return self._until

    def check(self) -> None:
        """Renew the lease.

        Raises:
            Unavailable: the run was held up for longer than its lease.
        """
        if not self.renew():
            raise Unavailable(
                f"materialize {self._about}: blocked for longer than {self._context.settings.lease_time}; run it again"
            )


def _keep(kept: weakref.ref[RunLease], ended: threading.Event, every: float) -> None:
    """Renew a lease every few seconds until its run ends, or it has ended; what the run does next finds it so.

    A run that was interrupted before it began leaves nothing that holds the lease.
    """
    while not ended.wait(every):
        lease = kept()
        if lease is None:
            return
        # a registry that does not answer now is asked again
        with suppress(Exception):
            if not lease.renew():
                return
        del lease
