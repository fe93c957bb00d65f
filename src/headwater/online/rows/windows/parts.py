"""Window rows of a store of several parts, each with a fill record of its own, as one record and rows beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from headwater.errors import FormatError
from headwater.online.powers import UNREAD, Parted
from headwater.online.rows.values import Damaged
from headwater.online.rows.windows.codec import row_facts
from headwater.online.rows.windows.reading import NOT_FILLED
from headwater.online.rows.windows.record import FillRecord, decode_record, encode_record, least

UNFILLED = f"{NOT_FILLED}: run headwater materialize"
"""Why the values of a row are UNAVAILABLE that no completed fill says anything of."""


class PartRecord(NamedTuple):
    """The fill record of the part that has a key.

    Attributes:
        record: what it has; None: nothing that can be read.
        speaks: whether a missing row has no events, by that record; False: nobody knows.
    """

    record: FillRecord | None
    speaks: bool

    @property
    def fill(self) -> int:
        """The fill below which a row counts as missing; 0: there is no completed fill."""
        return 0 if self.record is None else self.record.fill


def part_record(entry: bytes | Parted | None, key: bytes) -> PartRecord:
    """The fill record of a key, of what was read with its row.

    Raises:
        FormatError: a newer headwater wrote it.
    """
    speaks = True
    if isinstance(entry, Parted):
        part = entry.parts.get(key)
        entry, speaks = (None, False) if part is None else (part.entry, part.speaks_for(key))
    try:
        record = None if entry is None else decode_record(entry)
    except Damaged:
        record = None
    return PartRecord(record, speaks and record is not None)


class Settled(NamedTuple):
    """Rows as one record tells of them.

    Attributes:
        record: the fill record of all of them.
        rows: those that count as missing are None.
        unfilled: the indices of those that no completed fill, or no record at all, says anything of.
    """

    record: bytes | None
    rows: list[bytes | None]
    unfilled: list[int]


def settled(entry: Parted, keys: Sequence[bytes], rows: Sequence[bytes | None]) -> Settled:
    """What was read of several parts, under one record: what the least of theirs says.

    Args:
        entry: what was read under the record's key.
        keys: of the rows.
        rows: those that were read with it.
    """
    out, unfilled = list(rows), list[int]()
    records: dict[bytes | None, FillRecord | None] = {}
    for i, (key, row) in enumerate(zip(keys, rows, strict=True)):
        if row == UNREAD:
            continue
        part = entry.parts.get(key)
        stored = None if part is None else part.entry
        if stored not in records:
            try:
                records[stored] = part_record(stored, key).record
            except FormatError:
                # who decodes it says so
                return Settled(stored, out, [])
        record = records[stored]
        if record is None or not record.fill:
            out[i] = None
            unfilled.append(i)
            continue
        facts = row_facts(row)
        if facts is not None and facts.fill < record.fill:
            out[i] = row = None
        if row is None and part is not None and not part.speaks_for(key):
            unfilled.append(i)
    filled = [record for record in records.values() if record is not None and record.fill]
    if filled:
        return Settled(encode_record(least(filled)), out, unfilled)
    return Settled(UNREAD if UNREAD in rows and not unfilled else None, out, unfilled)
