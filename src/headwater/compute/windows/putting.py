"""What a writer does: batches of the log into the rows of their keys. A retry or a replay changes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from headwater.compute.windows.merging import after_fold, after_puts, begun
from headwater.compute.windows.requests import (
    Batch,
    BatchesOf,
    DamagedRow,
    Due,
    End,
    LogEnd,
    ReadRows,
    Swap,
    SwapRows,
    Version,
)
from headwater.compute.windows.work import Work
from headwater.online.rows.values import Damaged
from headwater.online.rows.windows.codec import next_sequences
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
    # which most puts have no use for: of stores with replicas a round trip
    epoch = False
    for _ in range(version.tries):
        snapshot = yield from ReadRows(waiting, epoch)
        merges, again = list[_Merge](), list[bytes]()
        for key in waiting:
            row, (record, speaks) = snapshot.rows[key], snapshot.record_of(key)
            if record is None or not record.fill or isinstance(row, DamagedRow):
                report.left.add(key)
                continue
            if not speaks:
                # its part may have lost rows: a row that is there says itself what it has
                if row is None or row.fill < record.fill:
                    report.left.add(key)
                    continue
                record = record._replace(low=0)
            merge = _merge(version, batches[key], key, record, row, report)
            if merge is None:
                continue
            if merge.needs_epoch(version) and not epoch:
                again.append(key)
            else:
                merges.append(merge)
        swaps: list[Swap] = yield from _swaps(version, merges, snapshot.epoch, report)
        done: Sequence[bool] = (yield from SwapRows(swaps)) if swaps else []
        report.applied |= {swap.key for swap, each in zip(swaps, done, strict=True) if each}
        waiting = again + [swap.key for swap, each in zip(swaps, done, strict=True) if not each]
        if not waiting:
            break
        epoch = epoch or bool(again)
    report.left |= set(waiting)


class _Merge(msgspec.Struct, gc=False):
    """A batch that a row lacks: the row as it was read, and what it is merged into."""

    key: bytes
    batch: Batch
    row: WindowRow | None
    base: WindowRow
    missing: bool
    low: int
    """Up to where the row has all batches of the log, by the record."""

    def needs_epoch(self, version: Version) -> bool:
        """Whether its put holds only within the epoch in which the record was read: it begins a row, or folds one."""
        return self.missing or len(self.base.listed) >= version.most_listed


def _merge(
    version: Version, batch: Batch, key: bytes, record: FillRecord, row: WindowRow | None, report: PutReport
) -> _Merge | None:
    """What a batch is merged into; None: there is nothing to do."""
    missing = row is None or row.fill < record.fill
    base = begun(version, record, batch.arrival) if row is None or missing else row
    if base.covers(batch.position):
        report.applied.add(key)
        return None
    if batch.arrival < base.fill:
        # the fill of the row began later: it has the batch, or the log no longer has it
        report.left.add(key)
        return None
    return _Merge(key, batch, row, base, missing, record.low)


def _swaps(version: Version, merges: Sequence[_Merge], epoch: Any, report: PutReport) -> Work[list[Swap]]:
    deletes = [merge for merge in merges if merge.batch.delete is not None and merge.base.listed]
    later: Mapping[bytes, list[Batch]] = {}
    if deletes:
        after = min(merge.batch.position for merge in deletes)
        through = max(max(merge.base.listed) for merge in deletes)
        later = yield from BatchesOf([merge.key for merge in deletes], after, through)
    made = after_puts(version, [(m.base, m.batch, later.get(m.key, ())) for m in merges])
    rows = {merge.key: row for merge, row in zip(merges, made, strict=True)}
    most = version.most_listed
    many = {key: row for key, row in rows.items() if isinstance(row, WindowRow) and len(row.listed) > most}
    if many:
        rows |= yield from _folded(version, many, {merge.key: merge.low for merge in merges})
    swaps = []
    before = [0 if merge.row is None else merge.row.sequence for merge in merges]
    for merge, old, sequence in zip(merges, before, next_sequences(before), strict=True):
        new = rows[merge.key]
        if isinstance(new, Damaged):
            # as one that was damaged when it was read
            report.left.add(merge.key)
            continue
        assert new.covers(merge.batch.position)
        new.sequence = sequence
        # a row that is there goes back with the store; what was read of a record does not
        within = epoch if merge.missing or merge.key in many else None
        swaps.append(Swap(merge.key, old, new, within))
    return swaps


def _folded(
    version: Version, rows: Mapping[bytes, WindowRow], lows: Mapping[bytes, int]
) -> Work[dict[bytes, WindowRow | Damaged]]:
    """Rows with fewer positions listed: a fold of some keys, without a query of history."""
    end = yield from LogEnd()
    # what comes before is in the rows, and hidden by a delete that is not
    after = min(max(lows[key], row.applied_through) for key, row in rows.items())
    through = max(end.position, *(max(row.listed) for row in rows.values()))
    found = yield from BatchesOf(sorted(rows), after, through)
    folded: dict[bytes, WindowRow | Damaged] = {}
    for key, row in rows.items():
        batches = found.get(key, [])
        due = Due([batch for batch in batches if batch.position <= max(end.position, row.applied_through)])
        # `known_through` as it is
        upto = End(end.position, row.known_through)
        try:
            folded[key] = after_fold(version, row, due, row.known_through, upto, batches)
        except Damaged as bad:
            folded[key] = bad
    return folded
