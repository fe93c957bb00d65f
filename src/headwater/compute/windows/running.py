"""Runs over a window version: a fold, with new source rows and keys that are asked for rebuilt, and a fill."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from headwater.compute.windows.keeping import Run, keep
from headwater.compute.windows.requests import (
    Due,
    End,
    HoldsLease,
    LogEnd,
    Look,
    Named,
    Number,
    Read,
    Restored,
    Slice,
    Snapshot,
    SourceKeys,
    TakeLease,
    Version,
    View,
    Work,
    WriteRecord,
    Written,
)
from headwater.online.rows.windows.record import FillRecord

_BEGINS = 3
"""How often a run begins again where the store's epoch, or a later fill, came between."""


def run(version: Version, *, source: bool = True, force: Iterable[bytes] = ()) -> Work[End | None]:
    """Bring the rows up to the log's end, or fill them where no completed fill is there.

    Args:
        version: the version.
        source: whether new source rows are taken.
        force: keys to rebuild from history.

    Returns:
        Up to where; None: another run or fill goes on instead, or the store's epoch kept changing.
    """
    for _ in range(_BEGINS):
        number: int = yield TakeLease()
        snapshot: Snapshot = yield Read()
        record = snapshot.record
        if record is None or not record.fill or (yield from _from_before_a_restore(record)):
            return (yield from fill(version))
        view: View = yield Look()
        if not (yield HoldsLease(number)):
            return None
        due: Mapping[bytes, Due] = yield _slice(record, view.end)
        whole, unnamed = set(force), set[bytes]()
        if whole:
            unnamed = whole - (yield Named(view.source, view.end.position))
        if source:
            whole |= yield SourceKeys(view.source, record.source_through)
        mine = Run(number, record.newest, snapshot.epoch, record, view.source, view.end, unnamed)
        if (yield from keep(version, mine, due, whole)):
            taken = view.source if source else None
            closes = _closing(record, view.end, taken)
            if (yield from change_record(snapshot.epoch, closes)):
                return view.end
    return None


def _closing(record: FillRecord, end: End, source: Any) -> Callable[[FillRecord | None], FillRecord | None]:
    def close(now: FillRecord | None) -> FillRecord | None:
        """The record where no other fill was completed meanwhile."""
        same = now is not None and now.fill == record.fill
        return now.raised(end.position, end.clock, source) if now is not None and same else None

    return close


def _from_before_a_restore(record: FillRecord) -> Work[bool]:
    """Whether the version was filled from a log that is not the registry's any more."""
    restored: int = yield Restored()
    return record.fill <= restored


def _slice(record: FillRecord, end: End) -> Slice:
    return Slice(record.low, end.position, record.known_through, end.clock)


def fill(version: Version) -> Work[End | None]:
    """Make the rows of all keys from history, then take what came meanwhile, then write the record.

    Returns:
        Up to where; None: another fill began, or the store's epoch is another.
    """
    number: int = yield TakeLease()
    snapshot: Snapshot = yield Read()
    own: int = yield Number()

    def begin(now: FillRecord | None) -> FillRecord | None:
        """The record that says so, where no later fill has begun."""
        now = now or FillRecord()
        return now._replace(filling=own) if now.filling < own else None

    if not (yield from change_record(snapshot.epoch, begin)):
        return None
    view: View = yield Look()
    if not (yield HoldsLease(number)):
        return None
    keys: set[bytes] = yield Named(view.source, view.end.position)
    base = FillRecord(own, own, view.end.position, view.end.clock, view.source)
    whole = Run(number, own, snapshot.epoch, base, view.source, view.end)
    if not (yield from keep(version, whole, {}, keys)):
        return None
    end: End = yield LogEnd()
    due: Mapping[bytes, Due] = yield _slice(base, end)
    if not (yield from keep(version, Run(number, own, snapshot.epoch, base, view.source, end), due)):
        return None

    def close(now: FillRecord | None) -> FillRecord | None:
        """The record of the completed fill, where it is still the one under way."""
        if now is None or now.filling != own:
            return None
        return FillRecord(own, own, end.position, end.clock, view.source)

    return end if (yield from change_record(snapshot.epoch, close)) else None


def change_record(epoch: Any, change: Callable[[FillRecord | None], FillRecord | None]) -> Work[bool]:
    """Replace the record within an epoch; `change` makes it from the one that is there, or None."""
    while True:
        snapshot: Snapshot = yield Read()
        new = change(snapshot.record)
        if new is None:
            return False
        written: Written = yield WriteRecord(epoch, snapshot.record, new)
        if written is not Written.CHANGED:
            return written is Written.DONE
