"""The write buffer as this process read it last, without what nothing can read."""

from __future__ import annotations

from dataclasses import dataclass, field

import pyarrow as pa
import sqlalchemy as sa

from headwater import forks
from headwater.offline.base import LeftOut
from headwater.offline.log.left_out import Unreadable, read_batches
from headwater.offline.log.tables import head
from headwater.offline.log.write_buffer import Shapes, between, buffered_rows

_NEWEST = sa.select(sa.func.max(head.c.last)).where(
    head.c.view == sa.bindparam("of_view"), head.c.first > sa.bindparam("after")
)
"""Made once: to make a statement takes longer than to run it."""


@dataclass
class _Cached:
    """A view's write buffer as this process read it last: rows after `rolled`, up to `upto`."""

    epoch: int
    rolled: int
    upto: int = 0
    tables: dict[int, pa.Table] = field(default_factory=dict)
    unreadable: list[Unreadable] = field(default_factory=list)


class HeadReader:
    """Reads a view's write buffer, decoding only the batches that came since it looked last."""

    def __init__(self, known: Shapes) -> None:
        self._shapes = known
        self._views: dict[str, _Cached] = {}
        self._lock = forks.lock()
        # a thread that is not there any more may have been in the midst of a view
        forks.after_fork(self, HeadReader._drop)

    def read(self, connection: sa.Connection, view: str, rolled: int, epoch: int) -> dict[int, pa.Table]:
        """The buffer's rows by shape, stamped, in order of position; without those that nothing can read.

        Args:
            connection: a transaction that sees one state.
            view: the view.
            rolled: its rows up to this position are in files.
            epoch: counts the times its buffer was rewritten.
        """
        newest = connection.execute(_NEWEST, {"of_view": view, "after": rolled}).scalar_one()
        if newest is None:
            return {}
        with self._lock:
            cached = self._views.get(view)
            # a transaction begun before a roll must find what the roll took away, so it reads again
            if cached is None or cached.epoch != epoch or cached.rolled > rolled:
                cached = self._views[view] = _Cached(epoch, rolled)
            if newest > cached.upto or rolled > cached.rolled:
                self._refresh(connection, view, cached, rolled)
            tables = dict(cached.tables)
        # another transaction may have seen more than this one
        cut = {shape: between(table, rolled, newest) for shape, table in tables.items()}
        return {shape: table for shape, table in cut.items() if table.num_rows}

    def left_out(self, view: str, rolled: int, until: int | None) -> tuple[LeftOut, ...]:
        """Those that nothing can read, of the rows that `read` read last: rolled < first position ≤ until."""
        with self._lock:
            cached = self._views.get(view)
            found = [] if cached is None else cached.unreadable
            return tuple(
                bad.left_out(view) for bad in found if bad.first > rolled and (until is None or bad.first <= until)
            )

    def _refresh(self, connection: sa.Connection, view: str, cached: _Cached, rolled: int) -> None:
        fresh = buffered_rows(connection, view, head.c.first > max(rolled, cached.upto))
        added, unreadable = read_batches(connection, self._shapes, fresh)
        for shape in {*cached.tables, *added}:
            old = cached.tables.get(shape)
            tables = ([] if old is None else [between(old, rolled, None)]) + ([added[shape]] if shape in added else [])
            cached.tables[shape] = pa.concat_tables(tables).combine_chunks()
        cached.unreadable = [bad for bad in cached.unreadable if bad.first > rolled] + unreadable
        cached.rolled = rolled
        if fresh:
            cached.upto = max(cached.upto, max(row.last for row in fresh))

    def forget(self) -> None:
        """Drop what was read."""
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        self._views = {}
