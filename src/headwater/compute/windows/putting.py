"""What a writer does: batches of the log into the rows of their keys. A retry or a replay changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from headwater.compute.windows.merging import after_fold, after_put, begun
from headwater.compute.windows.requests import (
    Batch,
    Batches,
    DamagedRow,
    Due,
    End,
    LogEnd,
    Read,
    Snapshot,
    Swap,
    SwapAll,
    Version,
    Work,
)
from headwater.online.rows.windows.codec import next_sequence
from headwater.online.rows.windows.record import FillRecord
from headwater.online.rows.windows.row import WindowRow

AT_ONCE = 2_000
"""How many rows are read, merged and replaced together."""


@dataclass
class PutReport:
    """What became of batches.

    Attributes:
        applied: the keys in whose rows they are.
        left: those that the next fold or fill takes them into.
    """

    applied: set[bytes] = field(default_factory=set)
    left: set[bytes] = field(default_factory=set)


def put(version: Version, batches: Mapping[bytes, Batch]) -> Work[PutReport]:
    """Merge what one transaction appended, key by key, into the rows of the keys."""
    report = PutReport()
    keys = sorted(batches)
    for start in range(0, len(keys), AT_ONCE):
        yield from _put(version, {key: batches[key] for key in keys[start : start + AT_ONCE]}, report)
    return report


def _put(version: Version, batches: Mapping[bytes, Batch], report: PutReport) -> Work[None]:
    waiting = list(batches)
    for _ in range(version.tries):
        snapshot: Snapshot = yield Read(waiting)
        if snapshot.record is None or not snapshot.record.fill:
            break
        swaps = []
        for key in waiting:
            row = snapshot.rows[key]
            if isinstance(row, DamagedRow):
                report.left.add(key)
                continue
            swap = yield from _swap(version, batches[key], key, snapshot.epoch, snapshot.record, row, report)
            if swap is not None:
                swaps.append(swap)
        done: list[bool] = (yield SwapAll(swaps)) if swaps else []
        report.applied |= {swap.key for swap, each in zip(swaps, done, strict=True) if each}
        waiting = [swap.key for swap, each in zip(swaps, done, strict=True) if not each]
        if not waiting:
            break
    report.left |= set(waiting)


def _swap(
    version: Version,
    batch: Batch,
    key: bytes,
    epoch: Any,
    record: FillRecord,
    row: WindowRow | None,
    report: PutReport,
) -> Work[Swap | None]:
    """The swap that puts a batch into one row; None: there is nothing to do."""
    missing = row is None or row.fill < record.fill
    base = begun(version, record, batch.arrival) if row is None or missing else row
    if base.covers(batch.position):
        report.applied.add(key)
        return None
    if batch.arrival < base.fill:
        # the fill of the row began later: it has the batch, or the log no longer has it
        report.left.add(key)
        return None
    later: list[Batch] = []
    if batch.delete is not None and base.listed:
        found: Mapping[bytes, list[Batch]] = yield Batches((key,), batch.position, max(base.listed))
        later = found.get(key, [])
    new = after_put(version, base, batch, later)
    folds = len(new.listed) > version.most_listed
    if folds:
        new = yield from _folded(version, new, key, record)
    new.sequence = next_sequence(0 if row is None else row.sequence)
    # a row that is there goes back with the store; what was read of a record does not
    within = epoch if missing or folds else None
    return Swap(key, 0 if row is None else row.sequence, new, within)


def _folded(version: Version, row: WindowRow, key: bytes, record: FillRecord) -> Work[WindowRow]:
    """The row with fewer positions listed: a fold of one key, without a query of history."""
    end: End = yield LogEnd()
    # what comes before is in the row, and hidden by a delete that is not
    after = max(record.low, row.applied_through)
    found: Mapping[bytes, list[Batch]] = yield Batches((key,), after, max(end.position, *row.listed))
    batches = found.get(key, [])
    due = Due([batch for batch in batches if batch.position <= max(end.position, row.applied_through)])
    # `known_through` as it is
    upto = End(end.position, row.known_through)
    return after_fold(version, row, due, row.known_through, upto, batches)
