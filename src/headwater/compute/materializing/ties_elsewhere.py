"""Ties of a run settled by processes of an engine: the run itself sees keys, times and stored rows.

The run reads the sequences of the rows, then history is asked for the source's rows of these keys and times, and
processes replace what still has the sequence that the run read. Of each key that was sent the sequence has moved
before the run goes on: what a second copy of a process does later finds another one. Until then a note makes other runs
fill the version whole (`Forcing`), since a run that is killed leaves processes behind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from headwater.compute.context import StoreContext
from headwater.compute.materializing.force_elsewhere import AT_ONCE
from headwater.compute.materializing.force_sink import key_number
from headwater.compute.materializing.lease import RunLease
from headwater.compute.materializing.replacing import KeyNumbers, Sequences
from headwater.compute.materializing.sink import OnlineSink, Stopped, extended
from headwater.compute.materializing.source_ties import Ties, is_source_row_of
from headwater.compute.materializing.tie_sink import TieSink
from headwater.compute.writing.swap import CHUNK, swap_all
from headwater.offline.base import ChangeCounts
from headwater.online.base import Change
from headwater.online.meta import greatest_key
from headwater.online.rows.codec import current, replaced, sequence_of
from headwater.online.rows.encoder import RowEncoder
from headwater.online.rows.keys import digested


def settle_elsewhere(context: StoreContext, rows: RowEncoder, ties: Ties, sink: OnlineSink, lease: RunLease) -> int:
    """Let history's choice be put among the source's rows of each key and time; how many rows were changed.

    As `Ties.settle`, by processes of the engine.

    Args:
        context: the store's parts and settings.
        rows: how the version's rows are packed.
        ties: of the run; `undecided` is set.
        sink: of the run.
        lease: of the run, which its processes see.

    Raises:
        Stopped: the processes put no more.
    """
    left = ties.table
    if not left.num_rows:
        return 0
    note = context.forcing.begin(rows.view.name, rows.view.version, lease.until())
    lease.forces(note)
    run = _Run(context, rows, ties, sink, lease)
    while left.num_rows:
        ties.undecided = 0
        left = pa.concat_tables([run.settle(left.slice(start, AT_ONCE)) for start in range(0, left.num_rows, AT_ONCE)])
    context.forcing.end(note)
    return run.changed


@dataclass
class _Run:
    """What a run does round by round.

    Attributes:
        context: the store's parts and settings.
        rows: how the version's rows are packed.
        ties: of the run.
        sink: of the run.
        lease: of the run.
        changed: how many rows were changed.
    """

    context: StoreContext
    rows: RowEncoder
    ties: Ties
    sink: OnlineSink
    lease: RunLease
    changed: int = 0

    def settle(self, some: pa.Table) -> pa.Table:
        """Let rows be replaced that are still as they are read now; those for which the source is to be asked again."""
        places, sequences = self._read(some)
        if not places:
            return some.slice(0, 0)
        numbers = [key_number(key) for key in places]
        sink = extended(self.sink, TieSink, stored=Sequences.of(numbers, sequences))
        counts, moved, again = ChangeCounts(), KeyNumbers(), set[bytes]()
        request = self.ties.request(some.take(pa.array(list(places.values()), pa.int64())))
        for part in self.context.engine.put_changes(request, counts, sink):
            if part.stopped:
                raise Stopped(
                    f"materialize {self.rows.title}: {part.stopped}; the watermark was not moved: run it again"
                )
            self.changed += part.applied
            moved.add(np.frombuffer(part.numbers, np.int64))
            again |= set(map(digested, part.again))
        self.ties.undecided += counts.ties
        missing = zip(places, sequences, moved.missing(numbers), strict=True)
        self._move({key: sequence for key, sequence, lacks in missing if lacks})
        return some.take(pa.array([i for key, i in places.items() if key in again], pa.int64()))

    def _read(self, some: pa.Table) -> tuple[dict[bytes, int], Sequence[int]]:
        """The stored keys (→ their positions) whose rows still have the times of the tie, and these rows' sequences."""
        positions = {key: i for i, key in enumerate(self.rows.stored_keys(some)) if key is not None}
        times = list(zip(*[some.column(name).to_pylist() for name in ("__event", "__created")], strict=True))
        places: dict[bytes, int] = {}
        sequences: list[int] = []
        keys = list(positions)
        for start in range(0, len(keys), CHUNK):
            chunk = keys[start : start + CHUNK]
            for key, row in zip(chunk, self.context.online.multi_get(chunk), strict=True):
                if is_source_row_of(row, *times[positions[key]]):
                    places[key] = positions[key]
                    sequences.append(sequence_of(row))
        return places, sequences

    def _move(self, left: dict[bytes, int]) -> None:
        """Give rows that no process has put, since the source has none of their times, another sequence."""
        keys, high_water = list(left), (greatest_key(self.context.project), 0)
        for start in range(0, len(keys), CHUNK):
            chunk = keys[start : start + CHUNK]
            changes: list[Change] = []
            for key, row in zip(chunk, self.context.online.multi_get(chunk), strict=True):
                if row is not None and sequence_of(row) == left[key]:
                    changes.append((key, left[key], replaced(row, current(row))))
            swap_all(self.context.online, changes, self.lease.until, high_water)
