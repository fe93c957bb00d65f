"""The stored form of a window version's row.

    byte 0      codec version: 0xB0 | version            12..20  fill             36..44  known_through
    1           flags                                    20..28  run              44..52  newest event time
    2..6        fingerprint of the layout                28..36  applied_through  52..60  newest known_at
    6..12       write sequence: 16 bits counter, 32 random                        60..64  where the ends of lists are
    DELETED     8 bytes D, 8 bytes P
    LISTED      how many positions, then each beyond the one before, the first beyond `applied_through`
    IDS         8 bytes `ids_after`, how many ids, then each: 8 bytes digest, event time, known_at, origin and position
    then        at multiples of 8 bytes of the row where each list ends (uint32, from the first list's beginning), and
                the lists
    KEYED       the whole key and its length (uint32): the key it is stored under is only a digest of it

A list: a byte of flags, a zero, the number of records (uint16), 4 zeros; 8 bytes newest event time that was left out
where one was; of records the first boundary (8 bytes); the columns of 8 bytes of the states; each boundary's distance
from the first in steps of the layout (uint32, or uint64 where WIDE_BOUNDARIES); what else states have, the lifetime's
last. So numbers of 8 and 4 bytes stand at multiples of these, and NumPy reads them out of many rows laid end to end.
Header numbers are big-endian, times with their sign bit flipped; those of lists little-endian.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from headwater.online.rows.codec import (
    WINDOW_HEADER_SIZE,
    WINDOW_KEYED,
    WINDOW_MAGIC,
    WINDOW_VERSION_BYTE,
    is_window_row,
)
from headwater.online.rows.values import Damaged
from headwater.online.rows.windows.list_bytes import aligned, pack_list
from headwater.online.rows.windows.lists import RowList, give_way
from headwater.online.rows.windows.packing import Bytes, put_number, put_rising, put_signed
from headwater.online.rows.windows.row import NEVER, MergedId, WindowRow
from headwater.online.rows.windows.stored_lists import Plans, StoredLists
from headwater.planning.windows.layout import WindowLayout

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAGIC, VERSION_BYTE, KEYED = WINDOW_MAGIC, WINDOW_VERSION_BYTE, WINDOW_KEYED
REBUILD, DELETED, LISTED, IDS = 1, 2, 4, 8
FLAGS = REBUILD | DELETED | LISTED | IDS | KEYED
LARGEST_ROW = 256 * 1024
"""Bytes; what exceeds it is left out, the largest list first."""

_Number = TypeVar("_Number", int, "NDArray[np.int64]")
_SIGN = 1 << 63
_HEADER = struct.Struct(">BB4s6sQQQQQQI")
assert _HEADER.size == WINDOW_HEADER_SIZE
_PAIR = struct.Struct(">QQ")
_U64 = struct.Struct(">Q")
_U32 = struct.Struct("<I")


def next_sequence(before: int) -> int:
    """A write sequence that no other write of the row has had: one more in the upper bits, random in the lower 32."""
    return next_sequences([before])[0]


def next_sequences(before: Sequence[int]) -> list[int]:
    """A write sequence for each of some rows, as `next_sequence` has it."""
    drawn = struct.unpack(f">{len(before)}I", os.urandom(4 * len(before)))
    return [((each >> 32) + 1 & 0xFFFF) << 32 | new | 1 for each, new in zip(before, drawn, strict=True)]


def encode_row(layout: WindowLayout, row: WindowRow, *, key: bytes | None = None, limit: int = LARGEST_ROW) -> bytes:
    """A row as it is stored.

    What exceeds the limit is left out of the row, which is changed so: the largest list gives way first, of equal ones
    the first by name.

    Args:
        layout: the version's.
        row: with the sequence that it is to have.
        key: the whole key, where it is stored under a digest.
        limit: bytes.
    """
    head = _head(layout, row, KEYED if key is not None else 0)
    tail = b"" if key is None else key + _U32.pack(len(key))
    lists, ends = row.lists.joined() if isinstance(row.lists, StoredLists) else _joined(layout, row.lists)
    padding = aligned(len(head) + len(ends))
    if len(head) + len(ends) + len(padding) + len(lists) + len(tail) > limit:
        lists, ends = _within(layout, row, limit - (len(head) + len(ends) + len(padding) + len(tail)))
    return b"".join((head, ends, padding, lists, tail))


def _joined(layout: WindowLayout, lists: Sequence[RowList]) -> tuple[bytes, bytes]:
    """The lists, and where they end."""
    parts = [pack_list(each, state, layout.step) for each, state in zip(layout.lists, lists, strict=True)]
    return Plans.of(layout).joined(parts)


def _within(layout: WindowLayout, row: WindowRow, limit: int) -> tuple[bytes, bytes]:
    """The lists, and where they end, where the largest have given way to a limit of bytes."""
    lists = list(row.lists)
    parts = [pack_list(each, state, layout.step) for each, state in zip(layout.lists, lists, strict=True)]
    while sum(map(len, parts)) > limit:
        largest = max(range(len(parts)), key=lambda i: (len(parts[i]), -i))
        before = len(parts[largest])
        give_way(layout.lists[largest], lists[largest], row.newest_event)
        parts[largest] = pack_list(layout.lists[largest], lists[largest], layout.step)
        if len(parts[largest]) >= before:
            break
    return Plans.of(layout).joined(parts)


def lists_start(ends_at: _Number, count: int) -> _Number:
    """Where the first list begins, behind the ends of all; of one row, or of many."""
    return ends_at + 4 * count + 7 & ~7


def _head(layout: WindowLayout, row: WindowRow, flags: int) -> bytes:
    to = bytearray()
    if row.deleted_through != NEVER:
        flags |= DELETED
        to += _PAIR.pack(row.deleted_through + _SIGN, row.delete_position)
    if row.listed:
        flags |= LISTED
        put_rising(to, sorted(row.listed), row.applied_through)
    if row.packed_ids or row.ids or row.ids_after != NEVER:
        flags |= IDS
        to += row.packed_ids
        if not row.packed_ids:
            _put_ids(to, row)
    if to:
        to += aligned(len(to))
    head = _HEADER.pack(
        VERSION_BYTE,
        flags | (REBUILD if row.rebuild else 0),
        layout.fingerprint,
        row.sequence.to_bytes(6, "big"),
        row.fill,
        row.run,
        row.applied_through,
        row.known_through + _SIGN,
        row.newest_event + _SIGN,
        row.newest_known + _SIGN,
        _HEADER.size + len(to),
    )
    return head + to if to else head


def _put_ids(to: bytearray, row: WindowRow) -> None:
    to += _U64.pack(row.ids_after + _SIGN)
    put_number(to, len(row.ids))
    event = position = 0
    for name, held in sorted(row.ids.items(), key=lambda item: (item[1].event, item[0])):
        to += _U64.pack(name)
        put_signed(to, held.event - event)
        put_number(to, held.known_at - held.event)
        put_signed(to, held.position - position)
        to.append(held.from_log)
        event, position = held.event, held.position


def decode_row(layout: WindowLayout, data: bytes) -> WindowRow:
    """The row that `encode_row` wrote.

    Raises:
        Damaged: bytes that are not such a row, are of another layout, or were written by a newer headwater.
    """
    plans = Plans.of(layout)
    try:
        version, flags, mark, sequence, fill, run, applied, known, event, newest, ends_at = _HEADER.unpack_from(data)
    except struct.error:
        version = 0
    if version != VERSION_BYTE or mark != plans.fingerprint or flags & ~FLAGS:
        raise Damaged(row_problem(layout, data))
    row = WindowRow(
        [],
        int.from_bytes(sequence, "big"),
        fill,
        run,
        applied,
        known_through=known - _SIGN,
        rebuild=bool(flags & REBUILD),
        newest_event=event - _SIGN,
        newest_known=newest - _SIGN,
    )
    at = _HEADER.size
    if flags & (DELETED | LISTED | IDS):
        at = decode_rest(row, flags, data)
    start = lists_start(at, len(plans.lists))
    if at != ends_at:
        raise Damaged("a window row whose header is not as long as it says")
    if start > len(data):
        raise Damaged("a window row cut short")
    ends = plans.ends.unpack_from(data, at)
    if any(a > b for a, b in pairwise(ends)) or start + ends[-1] > len(data):
        raise Damaged("a window row cut short")
    row.lists = lists = StoredLists(plans, data, start, data[at : at + plans.ends.size])
    lists.check()
    return row


def decode_rest(row: WindowRow, flags: int, data: bytes) -> int:
    """What a header has beyond its fixed part; where it ends."""
    rest = Bytes(data, _HEADER.size)
    if flags & DELETED:
        through, row.delete_position = _PAIR.unpack(rest.take(_PAIR.size))
        row.deleted_through = through - _SIGN
    if flags & LISTED:
        row.listed = frozenset(rest.rising(row.applied_through))
    if flags & IDS:
        row.ids, row.ids_after = _take_ids(rest)
    return rest.at + -rest.at % 8


def unpack_ids(data: bytes) -> tuple[dict[int, MergedId], int]:
    """The ids of a row that was made to be stored, and the newest event time that was dropped of them."""
    return _take_ids(Bytes(data))


def _take_ids(rest: Bytes) -> tuple[dict[int, MergedId], int]:
    after = _U64.unpack(rest.take(8))[0] - _SIGN
    ids: dict[int, MergedId] = {}
    event = position = 0
    for _ in range(rest.number()):
        name = _U64.unpack(rest.take(8))[0]
        event += rest.signed()
        known = event + rest.number()
        position += rest.signed()
        ids[name] = MergedId(event, known, bool(rest.take(1)[0]), position)
    return ids, after


def row_problem(layout: WindowLayout, data: bytes) -> str:
    """Why bytes cannot be a row of a layout; empty where they begin like one."""
    if not data or data[0] & 0xF0 != MAGIC:
        return f"not a window row (begins with {data[:1].hex()})"
    if data[0] > VERSION_BYTE:
        return "written by a newer headwater"
    if len(data) < _HEADER.size or data[0] < VERSION_BYTE:
        return f"a window row cut short ({len(data)} bytes)"
    if data[1] & ~FLAGS:
        return "written by a newer headwater"
    return "" if data[2:6] == layout.fingerprint else f"of another layout ({data[2:6].hex()})"


class RowFacts(NamedTuple):
    """What the header of a stored row says; times in microseconds, `NEVER` for none.

    Attributes:
        fill: the number of the fill that it belongs to.
        known_through: withheld events that became known up to this are in it.
        newest_event, newest_known: the newest event time and known_at of its events.
        through, position: D and P of its deletes.
    """

    fill: int
    known_through: int
    newest_event: int
    newest_known: int
    through: int = NEVER
    position: int = 0


def row_facts(data: bytes | None) -> RowFacts | None:
    """The facts of a stored row, without a look at its lists; None where there is no row of a window version."""
    if data is None or not is_window_row(data):
        return None
    fields = _HEADER.unpack_from(data)
    known, event, newest = (int(time) - _SIGN for time in fields[7:10])
    if not fields[1] & DELETED or len(data) < _HEADER.size + _PAIR.size:
        return RowFacts(int(fields[4]), known, event, newest)
    through, position = _PAIR.unpack_from(data, _HEADER.size)
    return RowFacts(int(fields[4]), known, event, newest, int(through) - _SIGN, int(position))
