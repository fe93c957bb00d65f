"""Leases: which writes and runs are in flight, so that a purge knows when none that began before it can be any more."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from headwater.clock import Clock, duration_micros, from_micros
from headwater.database.transactions import now_micros, reading, writing
from headwater.forks import OfOneProcess
from headwater.registry.tables import leases


@dataclass(frozen=True, slots=True)
class Lease:
    """Something in flight.

    Attributes:
        id: random.
        kind: `write` or `run`.
        about: what it works on.
        holder: who, for people.
        started_at: when it began (UTC).
        expires_at: when it counts as gone unless renewed (UTC): its holder has died, or must stop by then.
    """

    id: str
    kind: str
    about: str
    holder: str
    started_at: datetime
    expires_at: datetime


class Leases(OfOneProcess):
    """The leases of a registry.

    Args:
        engine: of the registry's database.
        clock: says when a lease begins and ends, where the database has no clock of its own that all share.
    """

    def __init__(self, engine: sa.Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock

    def acquire(self, kind: str, about: str = "", *, holder: str = "", lasts: timedelta) -> Lease:
        """Begin something; expired leases are removed on the way."""
        with writing(self._engine) as connection:
            now = now_micros(connection, self._clock)
            ends = now + duration_micros(lasts)
            lease = Lease(uuid.uuid4().hex, kind, about, holder, from_micros(now), from_micros(ends))
            connection.execute(leases.delete().where(leases.c.expires_at <= now))
            row = {"kind": kind, "about": about, "holder": holder, "started_at": now, "expires_at": ends}
            connection.execute(leases.insert().values(id=lease.id, **row))
        return lease

    def renew(self, lease: Lease, *, lasts: timedelta) -> bool:
        """Make a lease last from now on; False where it has expired, and its holder must stop."""
        with writing(self._engine) as connection:
            now = now_micros(connection, self._clock)
            alive = (leases.c.id == lease.id) & (leases.c.expires_at > now)
            changed = connection.execute(leases.update().where(alive).values(expires_at=now + duration_micros(lasts)))
        return changed.rowcount == 1

    def release(self, lease: Lease) -> None:
        """End something; a lease that is gone is a no-op."""
        with writing(self._engine) as connection:
            connection.execute(leases.delete().where(leases.c.id == lease.id))

    def repair_clock(self, *, lasts: timedelta) -> int:
        """Take now for right: a lease that a fast clock gave ends no later than one that begins now.

        Nobody knows when such a lease began, so that a purge waits for it to end, whenever it was asked for.

        Args:
            lasts: how long a lease may last from now on.

        Returns:
            How many there were.
        """
        with writing(self._engine) as connection:
            now = now_micros(connection, self._clock)
            latest = now + duration_micros(lasts)
            wrong = (leases.c.started_at > now) | (leases.c.expires_at > latest)
            ends = sa.case((leases.c.expires_at > latest, latest), else_=leases.c.expires_at)
            changed = connection.execute(leases.update().where(wrong).values(started_at=0, expires_at=ends))
        return changed.rowcount

    @contextmanager
    def held(self, kind: str, about: str = "", *, holder: str = "", lasts: timedelta) -> Iterator[Lease]:
        """A lease for the length of a block."""
        lease = self.acquire(kind, about, holder=holder, lasts=lasts)
        try:
            yield lease
        finally:
            self.release(lease)

    def running(self, kind: str | None = None) -> list[Lease]:
        """The leases that have not expired, oldest first."""
        query = sa.select(leases).order_by(leases.c.started_at)
        if kind is not None:
            query = query.where(leases.c.kind == kind)
        with reading(self._engine) as connection:
            now = now_micros(connection, self._clock)
            rows = connection.execute(query.where(leases.c.expires_at > now)).all()
        return [
            Lease(r.id, r.kind, r.about, r.holder, from_micros(r.started_at), from_micros(r.expires_at)) for r in rows
        ]
