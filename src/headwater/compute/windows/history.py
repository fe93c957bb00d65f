"""What the log and the source of a window version have, as work on its rows asks for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from headwater.compute.context import StoreContext
from headwater.compute.inputs import with_log
from headwater.compute.windows.putting import AT_ONCE
from headwater.compute.windows.requests import Batch, RebuiltRows, Version
from headwater.compute.windows.statements import ByKey, Statements
from headwater.deferred import deferred
from headwater.errors import FormatError
from headwater.forks import lazy
from headwater.observer import Progress
from headwater.offline.base import POSITION, THROUGH, EventsRequest, SourceScope
from headwater.offline.log.parts import between_positions
from headwater.online.rows.windows.record import FillRecord, SourceThrough
from headwater.online.rows.windows.row import WindowRow
from headwater.planning.resolved import ResolvedView
from headwater.scratch import TempFolder

if TYPE_CHECKING:
    from headwater.compute.windows import rebuilding
    from headwater.compute.windows.large_keys import LargeKey
    from headwater.compute.windows.listing import SourceListing
else:
    # what a process that only writes never needs
    rebuilding = deferred("headwater.compute.windows.rebuilding")


class _Part(NamedTuple):
    """What log and source have of the keys that are rebuilt now.

    Attributes:
        keys: the keys.
        through: the log position up to which it is.
        rows: all of them.
    """

    keys: frozenset[bytes]
    through: int
    rows: rebuilding.Keyed | LargeKey


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
        self._part: _Part | None = None
        self._deleted: tuple[tuple[int, int], Mapping[bytes, tuple[int, int]]] | None = None
        self.rows = 0
        """How many rows of log and source were taken for rows online."""

    # the log

    def batches(self, keys: Sequence[bytes], after: int, through: int) -> ByKey:
        """The batches of keys at positions in (after, through], ascending."""
        table = self.key_table(keys)
        found = self.statements.log(self.events(through, keys=table, source=None, log=(after, through)))
        wanted = set(keys)
        for key, delete in self.deletes(after, through, wanted):
            found.setdefault(key, []).append(delete)
        return {key: sorted(mine, key=_position) for key, mine in found.items()}

    def log_rows(self, after: int = 0) -> int:
        """How many rows the view's log has after a position, about."""
        return self._context.log.rows_after(self.view.name, after)

    def deletes(self, after: int, through: int, wanted: set[bytes] | None = None) -> Iterator[tuple[bytes, Batch]]:
        """(key, delete) of the tombstones in a range: of several of a key their greatest P and D are one."""
        for key, (position, d) in self._tombstones(after, through).items():
            if wanted is None or key in wanted:
                yield key, Batch(position, d, delete=d)
        digests = self.purges(after, through)
        if digests:
            yield from self._purged(digests, wanted)

    def purges(self, after: int, through: int) -> Mapping[bytes, tuple[int, int]]:
        """P and D of the tombstones in a range whose keys are known by their digests alone."""
        log, name = self._context.log, self.view.name
        return {**log.purges_after(name, after, through), **log.unreadable_deletes(name, after, through)}

    def _tombstones(self, after: int, through: int) -> Mapping[bytes, tuple[int, int]]:
        """The greatest P and D of each key; the parts of a run, most of which ask for the same range, share them."""
        if self._deleted is not None and self._deleted[0] == (after, through):
            return self._deleted[1]
        statements, marks = self.statements, dict[bytes, tuple[int, int]]()
        found = self._context.log.deletes_after(self.view.name, self.view.log_keys, after, through)
        if found is not None:
            keys = statements.stored_keys(found.select(list(statements.rows.names)))
            columns = (found.column(name).to_pylist() for name in (POSITION, THROUGH))
            marks = {key: (p, d) for key, p, d in zip(keys, *columns, strict=True) if key is not None}
        if self._part is not None:
            self._deleted = (after, through), marks
        return marks

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
        return self.keys_in(self.events(0, source=scope, log=None, known_until=until, counted=False, keys_alone=True))

    def named(self, source: SourceThrough, through: int) -> set[bytes]:
        """The keys that a listing, or the log up to a position, names, by an event or a delete.

        A row of the source that was not known when it was listed names none: nothing makes a row of it.
        """
        keys = {key for key, _ in self.deletes(0, through)}
        if self.has_source:
            known = source.known_at
            given = self.events(0, source=SourceScope(), log=None, known_until=known, counted=False, keys_alone=True)
            keys |= self.keys_in(given)
        given = self.events(through, source=None, log=(0, through), counted=False, keys_alone=True)
        return keys | self.keys_in(given)

    # both

    def parts(self, keys: AbstractSet[bytes] | None, source: SourceThrough, through: int) -> Iterator[list[bytes]]:
        """As `PartsOf` asks: history is read once, and what a part has of it is held while that is worked on."""
        left = {key for key, _ in self.deletes(0, through)} if keys is None else set(keys)
        table = None if keys is None else self.key_table(sorted(keys))
        log = bool(self._context.log.slice(self.view.name, self.view.log_keys, through).parts)
        folder, budget = TempFolder(), self._context.engine.budget
        given = self._rows_of(table, source, through)
        try:
            for rows, done, total in self._rebuilder.rows.parts(given, folder.path, budget, log=log):
                for stored, own in self._rebuilder.divided(rows):
                    left.difference_update(stored)
                    self._part = _Part(frozenset(stored), through, own)
                    yield stored
                self._tell(done, total)
        finally:
            self._part = self._deleted = None
            folder.close()
        rest = sorted(left)
        for start in range(0, len(rest), AT_ONCE):
            yield rest[start : start + AT_ONCE]

    def _tell(self, done: int, total: int) -> None:
        step = f"materialize {self.view.name}@{self.view.version}"
        self._context.observer(Progress(step, done, total, unit="bytes"))

    def rebuilt(self, version: Version, request: RebuiltRows) -> dict[bytes, WindowRow]:
        """As `RebuiltRows` asks."""
        part, through = self._part, request.end.position
        deletes = self.greatest_deletes(through, request.keys)
        if part is None or not part.keys.issuperset(request.keys):
            given = self._rows_of(self.key_table(request.keys), request.source, through)
            rows = self._rebuilder.keyed(self._rebuilder.rows.table(given))
            return self._rebuilder.rebuilt(version, request, rows, deletes)
        more = None
        if through > part.through:
            events = self.events(through, keys=self.key_table(request.keys), source=None, log=(part.through, through))
            more = self._rebuilder.rows.table(events)
        if not isinstance(part.rows, rebuilding.Keyed):
            return self._rebuilder.rebuilt_in_pieces(version, request, part.rows, more, deletes)
        rows = part.rows
        if more is not None:
            rows = self._rebuilder.keyed(pa.concat_tables([rows.rows, more], promote_options="default"))
        return self._rebuilder.rebuilt(version, request, rows, deletes)

    def all_events(self, through: int) -> EventsRequest:
        """A request for all rows of the source, and of the log up to a position."""
        log = self._context.log.slice(self.view.name, self.view.log_keys, through)
        given = with_log(self._context, self.view, log)
        if not self.has_source:
            given = replace(given, source=None)
        return EventsRequest(given, None, None if given.source is None else SourceScope(), (0, through))

    def greatest_deletes(self, through: int, keys: Sequence[bytes] | None = None) -> dict[bytes, tuple[int, int]]:
        """The greatest P and D of the keys that have any; None: of all keys."""
        deletes: dict[bytes, tuple[int, int]] = {}
        for key, delete in self.deletes(0, through, None if keys is None else set(keys)):
            assert delete.delete is not None
            position, d = deletes.get(key, (0, delete.delete))
            deletes[key] = max(position, delete.position), max(d, delete.delete)
        return deletes

    def _rows_of(self, keys: pa.Table | None, source: SourceThrough, through: int) -> Iterator[pa.RecordBatch]:
        """The rows of keys in the listing, and in the log up to a position; `keys` None: of all."""
        if self.has_source:
            yield from self.events(0, keys=keys, source=SourceScope(), log=None, known_until=source.known_at)
        yield from self.events(through, keys=keys, source=None, log=(0, through))

    @lazy
    def _rebuilder(self) -> rebuilding.Rebuilder:
        return rebuilding.Rebuilder(self.statements)

    def events(
        self,
        through: int,
        *,
        keys: pa.Table | None = None,
        source: SourceScope | None,
        log: tuple[int, int] | None,
        known_after: int | None = None,
        known_until: int | None = None,
        counted: bool = True,
        keys_alone: bool = False,
        transactions_alone: bool = False,
    ) -> Iterator[pa.RecordBatch]:
        """Rows that are events; not counted where they only say which keys are to be looked at."""
        if log is not None and log[0] >= log[1] and source is None:
            return
        part = self._context.log.slice(self.view.name, self.view.log_keys, through if log is not None else 0)
        if log is not None:
            # what folds take is in few of many files
            near = [between_positions(each, *log) for each in part.parts]
            part = replace(part, parts=tuple(each for each in near if each is not None))
        given = with_log(self._context, self.view, part)
        if source is None:
            given = replace(given, source=None)
        elif given.source is None:
            source = None
        if source is None and (log is None or given.log is None or not given.log.parts):
            return
        request = EventsRequest(given, keys, source, log, known_until, known_after, keys_alone, transactions_alone)
        for batch in self._context.engine.events(request):
            self.rows += batch.num_rows if counted else 0
            yield batch

    @property
    def has_source(self) -> bool:
        """Whether there is a source beside the log."""
        return self._listing is not None and self._listing.has_source

    def keys_in(self, batches: Iterable[pa.RecordBatch]) -> set[bytes]:
        """The stored keys of rows."""
        return {key for batch in batches for key in self.statements.stored_keys(batch) if key is not None}

    def key_table(self, keys: Sequence[bytes]) -> pa.Table | None:
        """Stored keys as join keys by name; None of a global view, which has one key."""
        if not self.view.keys:
            return None
        rows, long = self.statements.rows, self.statements.long
        values = [rows.decode_key(long.get(key, key)) for key in keys]
        columns = [pa.array([value[i] for value in values], key.dtype.arrow) for i, key in enumerate(self.view.keys)]
        return pa.Table.from_arrays(columns, names=list(rows.names))


def _position(batch: Batch) -> int:
    return batch.position
