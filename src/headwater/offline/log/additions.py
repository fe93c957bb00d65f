"""What one transaction adds to a view of the log, rows or tombstones, and the request that it is of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa

from headwater.offline.log.requests import Recorded, Request, record
from headwater.offline.log.state import LogTransaction

Check = Callable[[sa.Connection], None]
"""Looks at the registry within the log's own transaction; raises to undo it."""


@dataclass(frozen=True)
class Addition:
    """A transaction that adds to a view.

    Attributes:
        log: the transaction.
        view: the view.
        purges: how many purges the log has of it.
        now: the log's clock, which stamps what is added, microseconds.
        request: that it is of, which is done once.
    """

    log: LogTransaction
    view: str
    purges: int
    now: int
    request: Request | None = None

    def take(self, count: int, places: bytes = b"") -> int:
        """Take positions, and record them for the request.

        Args:
            count: how many.
            places: digest of which rows of the request they are.

        Returns:
            The last position taken before.
        """
        after = self.log.take(count)
        if self.request is not None:
            done = Recorded(after, count, self.now, places, 0, None)
            record(self.log.connection, self.request, self.view, done, self.log.state.now)
        return after
