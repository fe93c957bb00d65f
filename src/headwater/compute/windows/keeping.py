"""What a run does to the rows of keys: folds them, or rebuilds them from history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from headwater.compute.windows.merging import after_fold, holds_nothing, rebuilt
from headwater.compute.windows.requests import (
    Batch,
    Batches,
    Due,
    End,
    LogEnd,
    Read,
    Snapshot,
    SourceEvents,
    Swap,
    SwapAll,
    Version,
    Work,
)
from headwater.online.rows.windows.codec import next_sequence
from headwater.online.rows.windows.record import FillRecord, SourceThrough
from headwater.online.rows.windows.row import WindowRow, blank_row


@dataclass(frozen=True)
class Run:
    """One run over a version, or the part of one.

    Attributes:
        number: its own.
        fill: of the rows that it writes.
        epoch: of the store, in which it read the record.
        record: as it read it.
        source: what it listed of the source.
        end: of the log, up to where it folds.
        named: the keys of those asked for that neither source nor log names.
    """

    number: int
    fill: int
    epoch: Any
    record: FillRecord
    source: SourceThrough
    end: End
    unnamed: AbstractSet[bytes] = frozenset()


def keep(version: Version, run: Run, due: Mapping[bytes, Due], whole: AbstractSet[bytes] = frozenset()) -> Work[bool]:
    """Bring the rows of keys up to the run's end.

    Args:
        version: the version.
        run: the run.
        due: the keys, with what a fold takes of each.
        whole: those of them to rebuild whatever they have.

    Returns:
        Whether all of them are; False: another run or fill has gone further, or the store's epoch is another.
    """
    waiting = sorted({*due, *whole})
    while waiting:
        snapshot: Snapshot = yield Read(waiting)
        swaps = []
        for key in waiting:
            row = snapshot.rows[key]
            if row is not None and _is_later(run, row):
                return False
            new = yield from _kept(version, run, key, row, due.get(key, Due()), redo=key in whole)
            if row is None and key in run.unnamed and holds_nothing(new):
                continue
            new.sequence = next_sequence(0 if row is None else row.sequence)
            swaps.append(Swap(key, 0 if row is None else row.sequence, new, run.epoch))
        done: Sequence[bool] = (yield SwapAll(swaps)) if swaps else []
        waiting = [swap.key for swap, each in zip(swaps, done, strict=True) if not each]
        if waiting and snapshot.epoch != run.epoch:
            return False
    return True


def _is_later(run: Run, row: WindowRow) -> bool:
    """Whether a later fill has begun, or a later run has rebuilt the row."""
    return row.fill > run.fill or (row.fill == run.fill and row.run > run.number)


def _kept(version: Version, run: Run, key: bytes, row: WindowRow | None, due: Due, *, redo: bool) -> Work[WindowRow]:
    redo = redo or (row is not None and (row.rebuild or row.fill < run.record.fill))
    if not redo:
        base = row
        if base is None:
            low, known = run.record.low, run.record.known_through
            base = blank_row(version.layout, fill=run.fill, applied_through=low, known_through=known)
        later: list[Batch] = []
        if base.listed and any(key in batch.deletes for batch in due.fresh):
            later = yield Batches(key, run.end.position, max(base.listed))
        new = after_fold(version, base, key, due, run.record.known_through, run.end, later)
        if not new.rebuild:
            return new
    # the end is read after the row, so that no put that the row has is beyond it
    end: End = yield LogEnd()
    log: list[Batch] = yield Batches(key, 0, end.position)
    source = yield SourceEvents(key, run.source)
    return rebuilt(version, key, fill=run.fill, run=run.number, end=end, log=log, source=source)
