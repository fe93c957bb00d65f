"""Force by processes of an engine: rows of history are put where they are; the run itself sees keys and stored rows.

A process first puts under the guard alone, and names the keys of which something else is stored. Of those the run reads
the rows, then history is read again, and processes replace what still has the sequence that the run read. What a
process had begun may be done when the run has ended: then the note of the run stays a little longer (`Forcing`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

import numpy as np
import pyarrow as pa

from headwater.compute.context import StoreContext
from headwater.compute.materializing.force import (
    ROUNDS,
    Forced,
    Swap,
    key_table,
    log_tombstones,
    read_stored,
    stored_tombstone,
    whole_history,
    without_history,
)
from headwater.compute.materializing.force_sink import ForceSink, key_number
from headwater.compute.materializing.lease import RunLease
from headwater.compute.materializing.replacing import KeyNumbers
from headwater.compute.materializing.sink import OnlineSink, Stopped, extended
from headwater.errors import StoreError
from headwater.observer import Progress
from headwater.offline.base import ChangeCounts, LogSlice
from headwater.online.rows.encoder import RowEncoder
from headwater.online.rows.keys import digested
from headwater.planning.resolved import ResolvedView

AT_ONCE = 1_000_000
"""Keys whose rows are replaced by one statement at most: processes are sent 16 bytes for each."""

Keys = dict[bytes, bytes | None]
"""Whole keys, or stored ones with a row that carries a long key."""


def make_equal_elsewhere(
    context: StoreContext,
    view: ResolvedView,
    sink: OnlineSink,
    lease: RunLease,
    forced: Forced,
    *,
    keys: pa.Table | None = None,
    counts: ChangeCounts | None = None,
) -> None:
    """Make each selected key's row equal to history now, by processes of the engine; as `force.make_equal`.

    Args:
        context: the store's parts and settings.
        view: the version.
        sink: of the run.
        lease: of the run, which its processes see.
        forced: counts what was done.
        keys: only these (columns named like the join keys); None: all.
        counts: filled by the first reading of history.

    Raises:
        Stopped: the processes put no more.
        StoreError: keys were written during each of many attempts.
    """
    rows = RowEncoder(context.project, view)
    note = context.forcing.begin(view.name, view.version, lease.until())
    lease.forces(note)
    run = _Run(context, rows, sink, lease, forced)
    left = run.put(keys, counts or ChangeCounts())
    replaced = bool(left)
    for _ in range(ROUNDS):
        if not left:
            break
        left = run.replace(left)
    else:
        raise StoreError(
            f"{view.name}@{view.version}: keys were written during each of {ROUNDS} attempts to replace them; try again"
        )
    if not replaced:
        # nothing was replaced but by the run itself: what processes put late goes by the guard
        context.forcing.end(note)


@dataclass
class _Run:
    """What a run does round by round.

    Attributes:
        context: the store's parts and settings.
        rows: how the version's rows are packed.
        sink: of the run.
        lease: of the run.
        forced: counts what was done.
    """

    context: StoreContext
    rows: RowEncoder
    sink: OnlineSink
    lease: RunLease
    forced: Forced

    def put(self, keys: pa.Table | None, counts: ChangeCounts) -> Keys:
        """Let history's rows be put under the guard, and remove what it does not have; the keys that are left."""
        context, rows = self.context, self.rows
        now = context.log.now()
        stored = read_stored(context, rows, keys, now, key_number)
        log = context.log.slice(rows.view.name, rows.view.log_keys)
        deleted = log_tombstones(context, rows, log, keys)
        tombstones = {key: stored_tombstone(each) for key, each in deleted.items()}
        if keys is not None:
            wanted = {key for key in rows.stored_keys(keys) if key is not None}
            tombstones = {key: each for key, each in tombstones.items() if key in wanted}
        sink = _sink(self.sink, log, numbers=stored.count > 0)
        seen, again = self._each(sink, log, now, keys, counts, first=True)
        if sink.numbers:
            swap = Swap(context, rows.view, stored.sequences, deleted, self.lease, self.forced, key_number)
            for gone in without_history(context, rows, keys, seen, key_number):
                swap.remove([pair for pair in gone if pair[0] not in stored.ahead])
            again |= swap.again | stored.ahead
        other = {k for k in tombstones.keys() | stored.tombstones if tombstones.get(k) != stored.tombstones.get(k)}
        return again | _carrying(context, other - {digested(key) for key in again})

    def replace(self, left: Keys) -> Keys:
        """Let rows be replaced that are still as they are read now; the keys that are to be looked at again."""
        again: Keys = {}
        given = iter(left.items())
        while some := dict(islice(given, AT_ONCE)):
            again |= self._replace(some)
        return again

    def _replace(self, some: Keys) -> Keys:
        context, rows = self.context, self.rows
        now, keys = context.log.now(), key_table(rows, some)
        stored = read_stored(context, rows, keys, now, key_number)
        log = context.log.slice(rows.view.name, rows.view.log_keys)
        deleted = log_tombstones(context, rows, log, keys)
        swap = Swap(context, rows.view, stored.sequences, deleted, self.lease, self.forced, key_number)
        tombstones = {key: stored_tombstone(deleted[key]) for key in map(digested, some) if key in deleted}
        sink = _sink(self.sink, log, stored=stored.sequences, tombstones=tombstones)
        ahead = stored.ahead.keys()
        apart = {key: row for key, row in some.items() if digested(key) in ahead}
        again: Keys = {}
        for end, part in ((now, {k: v for k, v in some.items() if k not in apart}), (stored.latest, apart)):
            if part:
                table = key_table(rows, part)
                seen, more = self._each(sink, log, end, table, ChangeCounts())
                again |= more
                for gone in without_history(context, rows, table, seen, key_number):
                    swap.remove(gone)
        return again | swap.again

    def _each(
        self,
        sink: ForceSink,
        log: LogSlice,
        end: int,
        keys: pa.Table | None,
        counts: ChangeCounts,
        *,
        first: bool = False,
    ) -> tuple[KeyNumbers, Keys]:
        """Run a sink over history; the keys that history has, and those to be looked at again."""
        context, forced = self.context, self.forced
        request = whole_history(context, self.rows, log, end, keys)
        step, seen, again = f"materialize {self.rows.title}", KeyNumbers(), Keys()
        for part in context.engine.put_changes(request, counts, sink):
            if part.stopped:
                raise Stopped(f"{step}: {part.stopped}; not all rows are equal to history: run it again")
            forced.keys += part.keys if first else 0
            forced.put += part.applied
            forced.too_large.note(part.too_large)
            seen.add(np.frombuffer(part.numbers, np.int64))
            again |= dict.fromkeys(part.again)
            context.observer(Progress(step, forced.keys, unit="keys"))
        context.observer(Progress(step, forced.keys, finished=True))
        return seen, again


def _sink(sink: OnlineSink, log: LogSlice, **more: object) -> ForceSink:
    """A run's sink as one that makes rows equal to history."""
    return extended(sink, ForceSink, position=log.position, **more)


def _carrying(context: StoreContext, keys: Iterable[bytes]) -> Keys:
    """Stored keys with their rows, which may carry long keys."""
    some = list(keys)
    return dict(zip(some, context.online.multi_get(some), strict=True)) if some else {}
