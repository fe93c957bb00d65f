"""Runs over a window version: a fold, with new source rows and keys that are asked for rebuilt, and a fill."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Any, NamedTuple

from headwater.compute.windows.keeping import Kept, Run, catch_up, keep
from headwater.compute.windows.requests import (
    DueBatches,
    End,
    FillElsewhere,
    HoldsLease,
    KeysFarBehind,
    LastRestore,
    Listed,
    ListSource,
    LogEnd,
    NamedKeys,
    NewSourceKeys,
    NextNumber,
    ReadRows,
    RebuiltRows,
    SliceEnds,
    TakeLease,
    Version,
    WriteRecord,
    Written,
)
from headwater.compute.windows.work import Work
from headwater.online.rows.windows.record import FillBase, FillRecord, SourceThrough

_BEGINS = 3
"""How often a run begins again where the store's epoch, or a later fill, came between."""


def run(version: Version, *, source: bool = True, force: Iterable[bytes] = (), whole: bool = False) -> Work[End | None]:
    """Bring the rows up to the log's end, or fill them where no completed fill is there.

    Args:
        version: the version.
        source: whether new source rows are taken.
        force: keys to rebuild from history.
        whole: whether all keys that source and log name are rebuilt too.

    Returns:
        Up to where; None: another run or fill goes on instead, or the store's epoch kept changing.
    """
    for _ in range(_BEGINS):
        number = yield from TakeLease()
        snapshot = yield from ReadRows()
        record = snapshot.record
        if record is None or not record.fill or (yield from _from_before_a_restore(record)):
            went_on = _under_way(record) is not None
            filled: End | None = yield from fill(version)
            if filled is None or not went_on:
                return filled
            # it has the source as it was when it began
            continue
        listed = yield from ListSource(record.source_through)
        if not (yield from HoldsLease(number)):
            return None
        redo, unnamed = set(force), set[bytes]()
        if redo or whole:
            named = yield from NamedKeys(listed.source, listed.end.position)
            unnamed = redo - named
            redo |= named if whole else set()
        if source:
            redo |= yield from NewSourceKeys(listed.source, record.source_through)
        if whole and version.elsewhere:
            asked = RebuiltRows((), listed.source, listed.end, record.newest, number)
            left = yield from FillElsewhere(asked, snapshot.epoch, goes_on=False)
            redo = redo if left is None else unnamed | left
        mine = Run(number, record.newest, snapshot.epoch, record, listed.source, listed.end, unnamed)
        kept: Kept | None = yield from _fold(version, mine, redo, record_slices=True)
        if kept is not None:
            taken = listed.source if source else None
            closes = _closing(record, kept.end, taken)
            if (yield from change_record(kept.epoch, closes)):
                return kept.end
    return None


def _fold(
    version: Version, run: Run, whole: AbstractSet[bytes] = frozenset(), *, record_slices: bool = False
) -> Work[Kept | None]:
    """Rebuild keys, and fold the others slice by slice.

    A slice ends where a transaction does. Withheld events are of the last one: the record says of all rows up to when
    they were taken.

    Args:
        version: the version.
        run: the run.
        whole: the keys to rebuild.
        record_slices: whether the record says after each slice how far the rows are complete.

    Returns:
        As `keep`.
    """
    record, end = run.record, run.end
    # before anything is said of the positions that they lack
    kept: Kept | None = yield from keep(version, run, {}, whole)
    if kept is None:
        return None
    run = replace(run, epoch=kept.epoch)
    behind = yield from KeysFarBehind(record.low, end.position, record.known_through, end.clock)
    caught_up: set[bytes] | None = yield from catch_up(version, run, behind - whole)
    if caught_up is None:
        return None
    done, low = whole | caught_up, record.low
    left = behind - done if behind else None
    ends: Sequence[int] = ()
    if left is None or left:
        ends = yield from SliceEnds(low, end.position)
    for position in ends:
        upto = end if position == end.position else End(position, record.known_through)
        due = yield from DueBatches(low, position, record.known_through, upto.clock, left)
        mine = {key: each for key, each in due.items() if key not in done}
        kept = yield from keep(version, replace(run, end=upto), mine)
        if kept is None:
            return None
        run, low = replace(run, epoch=kept.epoch), kept.end.position
        if record_slices and upto is not end and not (yield from change_record(run.epoch, _closing(record, kept.end))):
            return None
    return kept


def rebuild(version: Version, keys: Iterable[bytes]) -> Work[End | None]:
    """Rebuild keys from history, and leave the record as it is; all are made where no completed fill is there.

    Returns:
        As `run`.
    """
    number = yield from TakeLease()
    snapshot = yield from ReadRows()
    record = snapshot.record
    if record is None or not record.fill or (yield from _from_before_a_restore(record)):
        return (yield from run(version))
    listed = yield from ListSource(record.source_through)
    if not (yield from HoldsLease(number)):
        return None
    redo = set(keys)
    unnamed = redo - (yield from NamedKeys(listed.source, listed.end.position))
    mine = Run(number, record.newest, snapshot.epoch, record, listed.source, listed.end, unnamed)
    return None if (yield from keep(version, mine, {}, redo)) is None else listed.end


def _closing(
    record: FillRecord, end: End, source: SourceThrough | None = None
) -> Callable[[FillRecord | None], FillRecord | None]:
    def close(now: FillRecord | None) -> FillRecord | None:
        """The record where no other fill was completed meanwhile."""
        same = now is not None and now.fill == record.fill
        return now.raised(end.position, end.clock, source) if now is not None and same else None

    return close


def _from_before_a_restore(record: FillRecord) -> Work[bool]:
    """Whether the version was filled from a log that is not the registry's any more."""
    restored = yield from LastRestore()
    return record.fill <= restored


class _Fill(NamedTuple):
    """A fill that has begun, or that is gone on with.

    Attributes:
        run: the number of the run.
        own: its own.
        epoch: of the store.
        listed: the log's end and the source, whose keys it makes rows of.
        start: the record by which it takes what came after it had begun.
        goes_on: whether another run had begun it.
    """

    run: int
    own: int
    epoch: Any
    listed: Listed
    start: FillRecord
    goes_on: bool

    def part(self, epoch: Any, end: End, *, goes_on: bool = False) -> Run:
        """Its work on rows up to an end of the log."""
        return Run(self.run, self.own, epoch, self.start, self.listed.source, end, goes_on=goes_on)


def fill(version: Version) -> Work[End | None]:
    """Make the rows of all keys from history, then take what came meanwhile, then write the record.

    A fill that was begun and not completed is gone on with: the keys that it has rebuilt stay as they are.

    Returns:
        Up to where; None: another fill began, or the store's epoch is another.
    """
    for new in (False, True):
        begun: _Fill | None = yield from _begin_fill(new)
        if begun is None:
            return None
        made: Kept | None = yield from _make_rows(version, begun)
        if made is not None:
            epoch, end = made
            return end if (yield from change_record(epoch, _completing(begun, end))) else None
        snapshot = yield from ReadRows()
        if not begun.goes_on or not _is_under_way(snapshot.record, begun.own):
            return None
        # it met rows of a later fill, which no record tells of any more: shards fail over one by one
    return None


def _begin_fill(new: bool) -> Work[_Fill | None]:
    """Go on with the fill under way, or begin one; None: a later one has begun, or a later run."""
    number = yield from TakeLease()
    snapshot = yield from ReadRows()
    under_way = None if new else _under_way(snapshot.record)
    if under_way is None:
        own = yield from NextNumber()
        if not (yield from change_record(snapshot.epoch, _beginning(own))):
            return None
    else:
        own, base = under_way
    before = snapshot.record.source_through if snapshot.record is not None else SourceThrough()
    listed = yield from ListSource(before if under_way is None else base.source)
    if not (yield from HoldsLease(number)):
        return None
    if under_way is None:
        base = FillBase(listed.end.position, listed.end.clock, listed.source)
        if not (yield from change_record(snapshot.epoch, _based(own, base))):
            return None
    start = FillRecord(own, own, base.low, base.known_through, base.source)
    return _Fill(number, own, snapshot.epoch, listed, start, under_way is not None)


def _make_rows(version: Version, begun: _Fill) -> Work[Kept | None]:
    """The rows of all keys that log and source name, then of those with what came meanwhile."""
    listed = begun.listed
    whole = begun.part(begun.epoch, listed.end, goes_on=begun.goes_on)
    asked = RebuiltRows((), listed.source, listed.end, begun.own, begun.run)
    left: set[bytes] | None = None
    if version.elsewhere:
        left = yield from FillElsewhere(asked, begun.epoch, begun.goes_on)
    if left is not None:
        # some of them may be those that were made elsewhere meanwhile
        whole = replace(whole, goes_on=True)
    made: Kept | None = yield from keep(version, whole, {}, left)
    if made is None:
        return None
    end = yield from LogEnd()
    return (yield from _fold(version, begun.part(made.epoch, end)))


def _completing(begun: _Fill, end: End) -> Callable[[FillRecord | None], FillRecord | None]:
    own, source = begun.own, begun.start.source_through

    def complete(now: FillRecord | None) -> FillRecord | None:
        """The record of the completed fill, where it is still the one under way."""
        if now is None or now.filling != own:
            return None
        if now.fill == own:
            # completed by who was thought to have stopped
            return now.raised(end.position, end.clock, source)
        return FillRecord(own, own, end.position, end.clock, source)

    return complete


def _is_under_way(record: FillRecord | None, own: int) -> bool:
    return record is not None and record.filling == own and record.fill != own


def _under_way(record: FillRecord | None) -> tuple[int, FillBase] | None:
    """Number and base of a fill that can be gone on with."""
    if record is None or record.base is None or record.filling <= record.fill:
        return None
    return record.filling, record.base


def _beginning(own: int) -> Callable[[FillRecord | None], FillRecord | None]:
    def begin(now: FillRecord | None) -> FillRecord | None:
        """The record that says that a fill is under way, where no later one has begun."""
        now = now or FillRecord()
        return now._replace(filling=own, base=None) if now.filling <= own else None

    return begin


def _based(own: int, base: FillBase) -> Callable[[FillRecord | None], FillRecord | None]:
    def note(now: FillRecord | None) -> FillRecord | None:
        """The record with the base of the fill under way."""
        return now._replace(base=base) if now is not None and now.filling == own else None

    return note


def change_record(epoch: Any, change: Callable[[FillRecord | None], FillRecord | None]) -> Work[bool]:
    """Replace the record within an epoch; `change` makes it from the one that is there, or None."""
    while True:
        snapshot = yield from ReadRows()
        new = change(snapshot.record)
        if new is None:
            return False
        written = yield from WriteRecord(epoch, snapshot.record, new)
        if written is not Written.CHANGED:
            return written is Written.DONE
