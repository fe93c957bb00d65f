"""The lease of one run: purges wait for it, its puts must not apply after its end, and it lasts while the run lives."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from headwater.clock import duration_micros, to_micros
from headwater.compute.rooms import RUN, Rooms
from headwater.errors import Unavailable

RENEW_AFTER = 60.0
"""Seconds."""


class RunLease:
    """Use it with `with`.

    Args:
        rooms: the store's parts.
        about: what the run works on.

    Attributes:
        began: when the run began, microseconds by the online store's clock.
    """

    def __init__(self, rooms: Rooms, about: str) -> None:
        self._rooms = rooms
        self._about = about
        self.began = to_micros(rooms.online.clock())

    def __enter__(self) -> Self:
        self._extend()
        self._lease = self._rooms.leases.acquire(RUN, self._about, lasts=self._rooms.lease_time)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._rooms.leases.release(self._lease)

    def _extend(self) -> None:
        # before the registry is asked: the end by this host's clock is no later than the lease's own
        self._renewed = time.monotonic()
        self._until = to_micros(self._rooms.online.clock()) + duration_micros(self._rooms.lease_time)

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
        before = self._renewed, self._until
        self._extend()
        if not self._rooms.leases.renew(self._lease, lasts=self._rooms.lease_time):
            self._renewed, self._until = before
            raise Unavailable(
                f"materialize {self._about}: held up for longer than {self._rooms.lease_time}; run it again"
            )
