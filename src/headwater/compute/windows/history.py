"""What the log and the source of a window version have, as work on its rows asks for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa

from headwater.clock import MIN_MICROS
from headwater.compute.context import StoreContext
from headwater.compute.inputs import with_log
from headwater.compute.windows.requests import Batch, Due, Slice
from headwater.compute.windows.statements import ByKey, Statements
from headwater.errors import FormatError
from headwater.offline.base import POSITION, THROUGH, EventsRequest, SourceScope
from headwater.online.rows.windows.record import FillRecord, SourceThrough
from headwater.planning.resolve import ResolvedView
from headwater.planning.windows.events import WindowEvent

if TYPE_CHECKING:
    from headwater.compute.windows.listing import SourceListing

_LAST = 2**62


class WindowHistory:
    """Reads a version's log, and its source as a run has listed it.

    Args:
        context: the store's parts and settings.
        view: the version, whole.
        listing: the source's files; None: a writer, which reads the log alone.
    """

    def __init__(self, context: StoreContext, view: ResolvedView, listing: SourceListing | None = None) -> None:
        self._context = context
        self.view = view
        self.statements = Statements(context.project, view)
        self._listing = listing
        self.rows = 0
        """How many rows of log and source were taken for rows online."""

    # the log

    def batches(self, keys: Sequence[bytes], after: int, through: int) -> ByKey:
        """The batches of keys at positions in (after, through], ascending."""
        table = self._key_table(keys)
        found = self.statements.log(self._events(through, keys=table, source=None, log=(after, through)))
        wanted = set(keys)
        for key, delete in self._deletes(after, through, wanted):
            found.setdefault(key, []).append(delete)
        return {key: sorted(mine, key=_position) for key, mine in found.items()}

    def due(self, asked: Slice, tolerance: int) -> Mapping[bytes, Due]:
        """What a fold takes, by key."""
        fresh = self.statements.log(self._events(asked.through, source=None, log=(asked.after, asked.through)))
        due = {key: Due(batches) for key, batches in fresh.items()}
        for key, delete in self._deletes(asked.after, asked.through):
            due.setdefault(key, Due()).fresh.append(delete)
        for each in due.values():
            each.fresh.sort(key=_position)
        if asked.until > asked.since:
            for key, batches in self._withheld(asked, tolerance).items():
                due.setdefault(key, Due()).withheld = batches
        return due

    def _withheld(self, asked: Slice, tolerance: int) -> ByKey:
        """Whole batches with events that were known in the range, and were withheld before."""
        known = {"known_after": None if asked.since == MIN_MICROS else asked.since, "known_until": asked.until}
        rows = self._events(asked.through, source=None, log=(0, asked.through), counted=False, **known)

        def is_late(batch: Batch) -> bool:
            after = max(asked.since, batch.arrival + tolerance)
            return any(after < event.known_at <= asked.until for event in batch.events)

        late = {key for key, mine in self.statements.log(rows).items() if any(map(is_late, mine))}
        if not late:
            return {}
        # a batch goes by its last row, which may have been known long since
        whole = self.batches(sorted(late), 0, asked.through)
        return {key: [batch for batch in mine if is_late(batch)] for key, mine in whole.items()}

    def _deletes(self, after: int, through: int, wanted: set[bytes] | None = None) -> Iterator[tuple[bytes, Batch]]:
        """(key, delete) of the tombstones in a range: of several of a key their greatest P and D are one."""
        log, statements = self._context.log, self.statements
        found = log.deletes_after(self.view.name, self.view.log_keys, after, through)
        if found is not None:
            marks = zip(found.column(POSITION).to_pylist(), found.column(THROUGH).to_pylist(), strict=True)
            keys = statements.stored_keys(found.select(list(statements.rows.names)))
            for key, (position, d) in zip(keys, marks, strict=True):
                if key is not None and (wanted is None or key in wanted):
                    yield key, Batch(position, d, delete=d)
        digests = dict(log.purges_after(self.view.name, after, through))
        digests |= log.unreadable_deletes(self.view.name, after, through)
        if digests:
            yield from self._purged(digests, wanted)

    def _purged(
        self, digests: Mapping[bytes, tuple[int, int]], wanted: set[bytes] | None
    ) -> Iterator[tuple[bytes, Batch]]:
        """(key, delete) of tombstones that are digests, of the keys asked for, else of those that have a row."""
        rows, log = self.statements.rows, self._context.log
        online = self._context.online
        stored = (
            zip(wanted, online.multi_get(list(wanted)), strict=True) if wanted is not None else online.scan(rows.prefix)
        )
        for key, row in stored:
            try:
                whole = self.statements.long.get(key, key)
                values = rows.decode_key(whole, row)
            except FormatError:
                continue
            mine = [digests[d] for d in log.digests.all_of(rows.names, values, self.view.key_names) if d in digests]
            if mine:
                through = max(d for _, d in mine)
                yield key, Batch(max(p for p, _ in mine), through, delete=through)

    # the source

    def look(self, clock: int, since: SourceThrough) -> SourceThrough:
        """Lists the source; rows of it count that are known up to an instant of the log's clock."""
        assert self._listing is not None
        return self._listing.look(clock, since)

    def closed(self, record: FillRecord) -> FillRecord:
        """A record that is to be written: files that changed while they were read do not count as listed."""
        return record if self._listing is None else self._listing.closed(record)

    def new_keys(self, since: SourceThrough) -> set[bytes]:
        """The keys with a source row of the listing that an earlier one does not have."""
        assert self._listing is not None
        scope = self._listing.scope(since)
        if scope is None:
            return set()
        until = self._listing.through.known_at
        return self._keys_in(self._events(0, source=scope, log=None, known_until=until, counted=False))

    def source_events(self, keys: Sequence[bytes], source: SourceThrough) -> Mapping[bytes, list[WindowEvent]]:
        """The statements of keys in the listing."""
        if self._listing is None or not self._listing.has_source:
            return {}
        table = self._key_table(keys)
        rows = self._events(0, keys=table, source=SourceScope(), log=None, known_until=source.known_at)
        return self.statements.source(rows)

    def named(self, through: int) -> set[bytes]:
        """The keys that the source, or the log up to a position, names, by an event or a delete."""
        scope = SourceScope() if self._listing is not None and self._listing.has_source else None
        keys = self._keys_in(self._events(through, source=scope, log=(0, through), counted=False))
        return keys | {key for key, _ in self._deletes(0, through)}

    # both

    def _events(
        self,
        through: int,
        *,
        keys: pa.Table | None = None,
        source: SourceScope | None,
        log: tuple[int, int] | None,
        known_after: int | None = None,
        known_until: int | None = None,
        counted: bool = True,
    ) -> Iterator[pa.RecordBatch]:
        """Rows that are events; not counted where they only say which keys are to be looked at."""
        if log is not None and log[0] >= log[1] and source is None:
            return
        part = self._context.log.slice(self.view.name, self.view.log_keys, through if log is not None else 0)
        given = with_log(self._context, self.view, part)
        if source is None:
            given = replace(given, source=None)
        elif given.source is None:
            source = None
        if source is None and (log is None or given.log is None or not given.log.parts):
            return
        request = EventsRequest(given, keys, source, log, known_until, known_after)
        for batch in self._context.engine.events(request):
            self.rows += batch.num_rows if counted else 0
            yield batch

    def _keys_in(self, batches: Iterator[pa.RecordBatch]) -> set[bytes]:
        return {key for batch in batches for key in self.statements.stored_keys(batch) if key is not None}

    def _key_table(self, keys: Sequence[bytes]) -> pa.Table | None:
        """Stored keys as join keys by name; None of a global view, which has one key."""
        if not self.view.keys:
            return None
        rows, long = self.statements.rows, self.statements.long
        values = [rows.decode_key(long.get(key, key)) for key in keys]
        columns = [pa.array([value[i] for value in values], key.dtype.arrow) for i, key in enumerate(self.view.keys)]
        return pa.Table.from_arrays(columns, names=list(rows.names))


def _position(batch: Batch) -> int:
    return batch.position
