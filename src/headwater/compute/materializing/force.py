"""Force: stored rows made equal to history now, whatever their times; what history does not have is removed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from headwater.clock import MAX_MICROS, MIN_MICROS
from headwater.compute.context import StoreContext
from headwater.compute.inputs import with_log
from headwater.compute.materializing.lease import RunLease
from headwater.compute.materializing.replacing import KeyNumbers, Sequences, readable, replacing
from headwater.compute.writing.delete import stored_rows
from headwater.compute.writing.erase import purged_rows
from headwater.compute.writing.put import put_rows
from headwater.compute.writing.swap import CHUNK, swap_all
from headwater.compute.writing.too_large import TooLarge
from headwater.errors import FormatError, StoreError
from headwater.observer import Progress
from headwater.offline.base import POSITION, THROUGH, ChangeCounts, ChangesRequest, LogSlice, Tombstone
from headwater.online.base import Change, Row
from headwater.online.meta import greatest_key
from headwater.online.rows.codec import EMPTIED, carrying, current, emptied, header, tombstone, tombstone_of
from headwater.online.rows.encoder import RowEncoder
from headwater.planning.resolved import ResolvedView
from headwater.planning.watermark import Watermark

ROUNDS = 100

Tombstones = Mapping[bytes, Tombstone]
"""Stored key → P and D (microseconds), as the log has them."""


@dataclass
class Forced:
    """What came of it.

    Attributes:
        keys: keys that history has a row of.
        put: rows that were put in the place of others, or where there was none.
        removed: rows that were emptied or removed, since history has none.
        too_large: rows of history that the online store does not take.
    """

    keys: int = 0
    put: int = 0
    removed: int = 0
    too_large: TooLarge = field(default_factory=TooLarge)


@dataclass
class StoredRows:
    """What is stored under the keys of a round, read before history: 16 bytes a key.

    Attributes:
        sequences: of the rows.
        ahead: stored key → row, of rows that are known later than the log's clock says: few, within its tolerance.
        latest: the latest known_at of these, microseconds.
        tombstones: stored key → P and D as they are stored, of rows that have any.
        count: how many rows there are, those that cannot be read included.
    """

    sequences: Sequences
    ahead: dict[bytes, bytes]
    latest: int
    tombstones: dict[bytes, bytes]
    count: int


def make_equal(
    context: StoreContext,
    view: ResolvedView,
    log: LogSlice,
    lease: RunLease,
    forced: Forced,
    *,
    keys: pa.Table | None = None,
    counts: ChangeCounts | None = None,
    within: int | None = None,
) -> None:
    """Make each selected key's row equal to history now, P and D as history has them.

    For each key the stored sequence is read first, then history, then the row is compared and swapped; a key whose row
    was written meanwhile is decided again. Where a row was lowered or removed history is read once more: what was put
    in between was superseded by the row that is gone now.

    Args:
        context: the store's parts and settings.
        view: the version.
        log: the log as it was when the run began.
        lease: of the run.
        forced: counts what was done.
        keys: only these (columns named like the join keys); None: all.
        counts: filled by the first reading of history.
        within: microseconds after now; history then decides, and no row that is known later stays. None: history
            decides at the later of now and the known_at of what is stored.
    """
    rows = RowEncoder(context.project, view)
    note = context.forcing.begin(view.name, view.version, lease.until())
    lease.forces(note)
    left, first = keys, True
    for _ in range(ROUNDS):
        again = _pass(context, rows, lease, forced, left, (counts if first else None) or ChangeCounts(), first, within)
        first = False
        if not again:
            context.forcing.end(note)
            return
        left = key_table(rows, again)
    raise StoreError(
        f"{view.name}@{view.version}: keys were written during each of {ROUNDS} attempts to replace them; try again"
    )


def _pass(
    context: StoreContext,
    rows: RowEncoder,
    lease: RunLease,
    forced: Forced,
    keys: pa.Table | None,
    counts: ChangeCounts,
    first: bool,
    within: int | None,
) -> dict[bytes, bytes | None]:
    """One round; the stored keys (→ a row that carries a long key) that are to be looked at again."""
    now = context.log.now() + (within or 0)
    stored = read_stored(context, rows, keys, now if within is None else MAX_MICROS)
    log = context.log.slice(rows.view.name, rows.view.log_keys)
    swap = Swap(context, rows.view, stored.sequences, log_tombstones(context, rows, log, keys), lease, forced)
    seen = KeyNumbers()
    for batch in _history(context, rows, log, now, keys, counts):
        pairs = rows.encode(batch)
        seen.add(np.fromiter((hash(key) for key, _ in pairs), np.int64, len(pairs)))
        if first:
            forced.keys += len(pairs)
        step = f"materialize {rows.view.name}@{rows.view.version}"
        context.observer(Progress(step, forced.keys, unit="keys"))
        for start in range(0, len(pairs), CHUNK):
            swap.replace([pair for pair in pairs[start : start + CHUNK] if pair[0] not in stored.ahead], log.position)
    context.observer(Progress(f"materialize {rows.view.name}@{rows.view.version}", forced.keys, finished=True))
    for gone in without_history(context, rows, keys, seen, hash):
        swap.remove([pair for pair in gone if pair[0] not in stored.ahead])
    if stored.ahead:
        # what is stored is known later than now: history at that instant decides
        table = key_table(rows, stored.ahead)
        chosen: dict[bytes, bytes] = {}
        for batch in _history(context, rows, log, stored.latest, table, ChangeCounts()):
            chosen |= dict(rows.encode(batch))
        swap.replace(list(chosen.items()), log.position)
        swap.remove([(key, row) for key, row in stored.ahead.items() if key not in chosen])
    return swap.again


def _history(
    context: StoreContext, rows: RowEncoder, log: LogSlice, end: int, keys: pa.Table | None, counts: ChangeCounts
) -> Iterator[pa.RecordBatch]:
    return context.engine.changes(whole_history(context, rows, log, end, keys), counts)


def whole_history(
    context: StoreContext, rows: RowEncoder, log: LogSlice, end: int, keys: pa.Table | None
) -> ChangesRequest:
    """History at an instant, of all keys or of some."""
    view = with_log(context, rows.view, log, keys)
    return ChangesRequest(view, end, MIN_MICROS, Watermark(), log.position, keys)


def without_history(
    context: StoreContext, rows: RowEncoder, keys: pa.Table | None, seen: KeyNumbers, number: Callable[[bytes], int]
) -> Iterator[list[Row]]:
    """What is stored now, of all keys or of some, that history does not have, some at a time."""
    for some in _chunks(stored_rows(context, rows, keys)):
        missing = seen.missing([number(key) for key, _ in some])
        yield [pair for pair, lacks in zip(some, missing, strict=True) if lacks]


def read_stored(
    context: StoreContext,
    rows: RowEncoder,
    keys: pa.Table | None,
    now: int,
    number: Callable[[bytes], int] = hash,
) -> StoredRows:
    """What is stored, of all of the version's keys or of some; what is known later than now apart.

    Args:
        context: the store's parts and settings.
        rows: how the version's rows are packed.
        keys: of these alone; None: of all.
        now: microseconds.
        number: of stored keys, by which their sequences are found.
    """
    hashes: list[int] = []
    sequences: list[int] = []
    ahead: dict[bytes, bytes] = {}
    tombstones: dict[bytes, bytes] = {}
    latest, count = now, 0
    for key, row in stored_rows(context, rows, keys):
        count += 1
        stored = header(row)
        if stored is None:
            continue
        hashes.append(number(key))
        sequences.append(stored.sequence)
        if stored.through > MIN_MICROS:
            tombstones[key] = tombstone_of(current(row))
        if not stored.emptied and stored.known_at > now:
            ahead[key] = row
            latest = max(latest, stored.known_at)
    return StoredRows(Sequences.of(hashes, sequences), ahead, latest, tombstones, count)


@dataclass
class Swap:
    """What one round puts and removes.

    Attributes:
        context: the store's parts and settings.
        view: the version.
        stored: the sequences of what was there before history was read.
        tombstones: P and D of the keys that the log has a delete of.
        lease: of the run.
        forced: counts what was done.
        number: of a stored key, by which `stored` has its sequence.
        again: stored keys that are to be looked at again: their row was written meanwhile, or was lowered, so that what
            was put in between was superseded by the row that is gone now; → a row that carries a long key.
    """

    context: StoreContext
    view: ResolvedView
    stored: Sequences
    tombstones: Tombstones
    lease: RunLease
    forced: Forced
    number: Callable[[bytes], int] = hash
    again: dict[bytes, bytes | None] = field(default_factory=dict)

    def replace(self, pairs: list[tuple[bytes, bytes]], position: int) -> None:
        """Put history's rows where something else is stored.

        The guard puts what is greater than the stored row; the rest is compared with what was read before history.
        """
        before = self.context.online.multi_get([key for key, _ in pairs])
        outcomes = put_rows(self.context, self.view, pairs, until=self.lease.until(), position=position)
        self.forced.too_large.add(self.context.online, RowEncoder(self.context.project, self.view), pairs, outcomes)
        made = replacing(pairs, before, outcomes, self._sequence, self._tombstone)
        self.forced.put += made.put + sum(self._swap(made.changes, made.lowered))

    def remove(self, pairs: list[tuple[bytes, bytes]]) -> None:
        """Remove rows that history does not have; where the log has a delete of the key the header stays."""
        changes: list[Change] = []
        emptied_: list[bool] = []
        for key, row in pairs:
            deleted, old = self._tombstone(key), readable(row)
            empty = old is not None and bool(old[1] & EMPTIED)
            if old is not None and empty and deleted and tombstone_of(old) == deleted:
                continue
            wanted = None
            if deleted:
                position, through = self.tombstones[key]
                wanted = emptied(None if old is None else carrying(old, b""), through, position)
            changes.append((key, self._sequence(key), wanted))
            emptied_.append(empty)
            self.again[key] = row
        done = self._swap(changes, [not empty for empty in emptied_])
        # of a row that was empty already only the delete is another one
        self.forced.removed += sum(swapped and not empty for swapped, empty in zip(done, emptied_, strict=True))

    def _swap(self, changes: list[Change], lowered: list[bool]) -> list[bool]:
        """Compare and put; of each whether it was."""
        high_water = (greatest_key(self.context.project), 0)
        done = swap_all(self.context.online, changes, self.lease.until, high_water)
        for (key, _, row), swapped, lower in zip(changes, done, lowered, strict=True):
            kept = self.again.pop(key, row)
            if not swapped or lower:
                self.again[key] = row or kept
        return done

    def _sequence(self, key: bytes) -> int:
        return self.stored.of_number(self.number(key))

    def _tombstone(self, key: bytes) -> bytes:
        deleted = self.tombstones.get(key)
        return b"" if deleted is None else stored_tombstone(deleted)


def stored_tombstone(deleted: Tombstone) -> bytes:
    """P and D as they are stored."""
    position, through = deleted
    return tombstone(through, position)


def _chunks(pairs: Iterable[tuple[bytes, bytes]]) -> Iterator[list[tuple[bytes, bytes]]]:
    some: list[tuple[bytes, bytes]] = []
    for pair in pairs:
        some.append(pair)
        if len(some) == CHUNK:
            yield some
            some = []
    yield some


def key_table(rows: RowEncoder, pairs: Mapping[bytes, bytes | None]) -> pa.Table:
    """The join keys of stored keys; a damaged row under a digest names none and is left out."""
    values: list[tuple[object, ...]] = []
    for key, row in pairs.items():
        try:
            values.append(rows.decode_key(key, row))
        except FormatError:
            continue
    types = [pa.int64() if dtype.name == "int32" else dtype.arrow for dtype in rows.keys.dtypes]
    if not rows.names:
        return pa.table({"": pa.array([0] * len(values))}).select([])
    columns = [pa.array([value[i] for value in values], kind) for i, kind in enumerate(types)]
    return pa.table(dict(zip(rows.names, columns, strict=True)))


def log_tombstones(
    context: StoreContext, rows: RowEncoder, log: LogSlice, keys: pa.Table | None
) -> dict[bytes, Tombstone]:
    """P and D of every key that the log has a delete of; those of purges by the rows that are stored."""
    tombstones: dict[bytes, Tombstone] = {}
    deletes = context.log.deletes_after(rows.view.name, rows.view.log_keys, 0, log.position)
    if deletes is not None:
        pairs = zip(deletes.column(POSITION).to_pylist(), deletes.column(THROUGH).to_pylist(), strict=True)
        for key, deleted in zip(rows.stored_keys(deletes.select(list(rows.names))), pairs, strict=True):
            if key is not None:
                tombstones[key] = deleted
    purges = context.log.purges_after(rows.view.name, 0, log.position)
    if purges:
        for key, purged in purged_rows(context, rows.view, purges, keys):
            position, through = tombstones.get(key, (0, MIN_MICROS))
            tombstones[key] = max(position, purged[0]), max(through, purged[1])
    return tombstones
