"""What refreshes have come to: how long until rows were fresh, and totals, kept in the registry's database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import numpy as np
import sqlalchemy as sa

from headwater.compute.queue.tables import migrate, reading, stored_format, times, totals, writing
from headwater.database.transactions import upsert
from headwater.forks import OfOneProcess

KEPT = 1_000
"""Of so many refreshes the times are kept."""


_LONGEST = 10**17
"""Microseconds (three thousand years)."""


@dataclass(frozen=True)
class TimeToFresh:
    """From a hint to a newer row that can be read, over the last refreshes.

    Attributes:
        count: of how many; at most the last 1,000.
        p50, p95: None where there was none.
    """

    count: int = 0
    p50: timedelta | None = None
    p95: timedelta | None = None


@dataclass(frozen=True)
class Records:
    """Totals since the queue was made.

    Attributes:
        totals: `newer`: rows refreshed by workers; `unchanged`: keys without a newer row; `failed`: tries that failed;
            `unreadable`: rows of the queue that nobody could read; `dropped`: hints that found no room; `overlooked`:
            reads that were not looked at, since too many came.
        time_to_fresh: see there.
    """

    totals: Mapping[str, int] = field(default_factory=dict)
    time_to_fresh: TimeToFresh = field(default_factory=TimeToFresh)


class RefreshRecords(OfOneProcess):
    """The figures of one registry's refreshes; their tables are made by the first of them.

    Args:
        engine: of the registry's database; the caller disposes of it.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def add(self, added: Mapping[str, int], took: Sequence[tuple[str, int]] = (), now: int = 0) -> None:
        """Add to totals, and note refreshes.

        Args:
            added: total → by how much.
            took: view and microseconds of each refresh.
            now: microseconds.
        """
        added = {name: count for name, count in added.items() if count}
        if not added and not took:
            return
        migrate(self._engine)
        insert = upsert(self._engine.dialect, totals)
        more = insert.on_conflict_do_update(
            index_elements=[totals.c.name], set_={"value": totals.c.value + insert.excluded.value}
        )
        with writing(self._engine) as connection:
            if added:
                connection.execute(more, [{"name": name, "value": count} for name, count in sorted(added.items())])
            if took:
                rows = [{"view": view, "at": now, "micros": micros} for view, micros in took]
                connection.execute(times.insert(), rows)
                last = connection.execute(sa.select(sa.func.max(times.c.id))).scalar_one()
                connection.execute(times.delete().where(times.c.id <= last - KEPT))

    def read(self) -> Records:
        """The figures now."""
        if not stored_format(self._engine):
            return Records()
        with reading(self._engine) as connection:
            # figures alone: one that cannot be read is left out
            rows = connection.execute(sa.select(totals.c.name, totals.c.value))
            found = {name: value for name, value in rows if type(value) is int}
            took = [m for (m,) in connection.execute(sa.select(times.c.micros)) if type(m) is int and m < _LONGEST]
        if not took:
            return Records(found)
        p50, p95 = (timedelta(microseconds=float(p)) for p in np.percentile(took, [50, 95]))
        return Records(found, TimeToFresh(len(took), p50, p95))
