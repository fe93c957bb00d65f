"""The fill record of a window version: how far its rows are complete. It is kept in the online store, behind them."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple

from headwater.clock import MIN_MICROS
from headwater.errors import FormatError
from headwater.online.rows.values import Damaged

RECORD_VERSION = 1
_FORM = struct.Struct(">B3QqQq")
"""Version, fill, filling, low, known_through, the source's listing and known_at; big-endian."""
_BASE = struct.Struct(">QqQq")
"""Behind it, where there is one: the same last four of the fill under way."""


class SourceThrough(NamedTuple):
    """What was taken of the source.

    Attributes:
        listed: the number of its last listing; a later one is greater.
        known_at: of the rows listed those known up to this, microseconds.
    """

    listed: int = 0
    known_at: int = MIN_MICROS


class FillBase(NamedTuple):
    """What a fill under way read before it made its first row.

    Attributes:
        low: the log's end.
        known_through: its clock, microseconds.
        source: the source's listing.
    """

    low: int
    known_through: int
    source: SourceThrough


class FillRecord(NamedTuple):
    """How far the rows of a version are complete.

    Attributes:
        fill: the number of the last completed fill; 0: there is none.
        filling: that of one under way, or the same.
        low: every batch at a position up to this is in the rows.
        known_through: withheld events that became known up to this are in them, microseconds.
        source_through: what was taken of the source.
        base: of the fill under way, so that another process can go on with it; None: there is none, or it has made no
            row yet.
    """

    fill: int = 0
    filling: int = 0
    low: int = 0
    known_through: int = MIN_MICROS
    source_through: SourceThrough = SourceThrough()
    base: FillBase | None = None

    @property
    def newest(self) -> int:
        """The greatest fill that a row of the version may have."""
        return max(self.fill, self.filling)

    def fill_for(self, arrival: int) -> int:
        """The fill of a row that a batch begins: the greater of the two that began no later than it arrived."""
        return self.filling if self.filling <= arrival else self.fill

    def raised(self, low: int, known_through: int, source: SourceThrough | None) -> FillRecord:
        """With all parts that rise; `source` None: it was not looked at."""
        through = self.source_through
        if source is not None:
            through = SourceThrough(max(through.listed, source.listed), max(through.known_at, source.known_at))
        return self._replace(
            low=max(self.low, low), known_through=max(self.known_through, known_through), source_through=through
        )


def least(records: Iterable[FillRecord]) -> FillRecord:
    """What several records say together, each of rows of its own: the least of each, and a fill that all are under."""
    first, *rest = records
    for each in rest:
        same = first.filling == each.filling and first.base == each.base
        source = SourceThrough(*map(min, first.source_through, each.source_through))
        first = FillRecord(
            min(first.fill, each.fill),
            max(first.filling, each.filling),
            min(first.low, each.low),
            min(first.known_through, each.known_through),
            source,
            first.base if same else None,
        )
    return first


def encode_record(record: FillRecord) -> bytes:
    """A record as it is stored."""
    numbers = record.fill, record.filling, record.low, record.known_through
    data = _FORM.pack(RECORD_VERSION, *numbers, *record.source_through)
    if record.base is None:
        return data
    low, known, source = record.base
    return data + _BASE.pack(low, known, *source)


def decode_record(data: bytes) -> FillRecord:
    """The record that `encode_record` wrote.

    Raises:
        FormatError: a newer headwater wrote it.
        Damaged: it is not a whole record.
    """
    if data and data[0] > RECORD_VERSION:
        raise FormatError("the fill record was written by a newer headwater; upgrade this one")
    if len(data) not in (_FORM.size, _FORM.size + _BASE.size) or data[0] != RECORD_VERSION:
        raise Damaged(f"a fill record of {len(data)} bytes, not {_FORM.size}")
    _, fill, filling, low, known, listed, known_at = _FORM.unpack_from(data)
    base = None
    if len(data) > _FORM.size:
        base_low, base_known, *source = _BASE.unpack_from(data, _FORM.size)
        base = FillBase(base_low, base_known, SourceThrough(*source))
    return FillRecord(fill, filling, low, known, SourceThrough(listed, known_at), base)
