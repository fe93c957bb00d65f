"""Connections to PostgreSQL that give a server up which stands still, though its host answers for it."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any

import psycopg

from headwater.database.sqlite import BUSY_SECONDS

ANSWER_SECONDS = 2 * BUSY_SECONDS
"""How long one statement, commit or rollback may take: longer than the server itself waits for a lock.

libpq's own limits see a host that is gone, not a process that is stopped or waits for its disk."""


class BoundedConnection(psycopg.Connection[Any]):
    """A connection that is closed where an answer does not come."""

    def wait(self, gen: Generator[Any, Any, Any], *args: Any, **options: Any) -> Any:
        """Wait for what was sent.

        Raises:
            psycopg.OperationalError: it took too long; the connection is closed.
        """
        return super().wait(self._bounded(gen), *args, **options)

    def _bounded(self, gen: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        until = time.monotonic() + ANSWER_SECONDS
        try:
            wanted = next(gen)
            while True:
                # resumed several times a second, also where nothing has come
                wanted = gen.send((yield wanted))
                if time.monotonic() > until:
                    self.pgconn.finish()
                    raise psycopg.OperationalError(f"no response within {ANSWER_SECONDS:.0f} s")
        except StopIteration as end:
            return end.value


def connect(_dialect: object, _record: object, args: tuple[Any, ...], options: dict[str, Any]) -> BoundedConnection:
    """For SQLAlchemy's event `do_connect`."""
    return BoundedConnection.connect(*args, **options)
