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
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from headwater.online.rows.codec import (
    WINDOW_HEADER_SIZE,
    WINDOW_KEYED,
    WINDOW_MAGIC,
    WINDOW_VERSION_BYTE,
    is_window_row,
)
from headwater.online.rows.values import Damaged
from headwater.online.rows.windows.lists import RowList, give_way
from headwater.online.rows.windows.packing import Bytes, put_number, put_signed
from headwater.online.rows.windows.row import NEVER, MergedId, WindowRow
from headwater.online.rows.windows.state_bytes import pack_states, unpack_states, wide_size
from headwater.online.rows.windows.stored_numbers import stored_numbers
from headwater.planning.windows.layout import WHOLE, ListLayout, WindowLayout

MAGIC, VERSION_BYTE, KEYED = WINDOW_MAGIC, WINDOW_VERSION_BYTE, WINDOW_KEYED
REBUILD, DELETED, LISTED, IDS = 1, 2, 4, 8
FLAGS = REBUILD | DELETED | LISTED | IDS | KEYED
LARGEST_ROW = 256 * 1024
"""Bytes; what exceeds it is left out, the largest list first."""

WIDE_BOUNDARIES, LIFETIME, LEFT_OUT, LIFETIME_LEFT_OUT = 4, 8, 16, 32
"""Flags of a list, beside those of `state_bytes`."""
_SIGN = 1 << 63
_HEADER = struct.Struct(">BB4s6sQQQQQQI")
assert _HEADER.size == WINDOW_HEADER_SIZE
_PAIR = struct.Struct(">QQ")
_U64 = struct.Struct(">Q")
_U32 = struct.Struct("<I")
_LIST = struct.Struct("<BBHI")
_TIME = struct.Struct("<q")


def next_sequence(before: int) -> int:
    """A write sequence that no other write of the row has had: one more in the upper bits, random in the lower 32."""
    return ((before >> 32) + 1 & 0xFFFF) << 32 | int.from_bytes(os.urandom(4), "big") | 1


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
    lists = [
        state.stored() or pack_list(each, state, layout.step)
        for each, state in zip(layout.lists, row.lists, strict=True)
    ]
    fixed = lists_start(len(head), len(lists)) + len(tail)
    while fixed + sum(map(len, lists)) > limit:
        largest = max(range(len(lists)), key=lambda i: (len(lists[i]), -i))
        before = len(lists[largest])
        give_way(layout.lists[largest], row.lists[largest], row.newest_event)
        lists[largest] = pack_list(layout.lists[largest], row.lists[largest], layout.step)
        if len(lists[largest]) >= before:
            break
    ends = np.cumsum([len(each) for each in lists], dtype="<u4").tobytes()
    return b"".join((head, ends, aligned(len(head) + len(ends)), *lists, tail))


def aligned(size: int) -> bytes:
    """The zeros that bring bytes to a multiple of 8."""
    return bytes(-size % 8)


def lists_start(ends_at: int, count: int) -> int:
    """Where the first list begins, behind the ends of all."""
    return ends_at + 4 * count + 7 & ~7


def _head(layout: WindowLayout, row: WindowRow, flags: int) -> bytes:
    to = bytearray()
    if row.deleted_through != NEVER:
        flags |= DELETED
        to += _PAIR.pack(row.deleted_through + _SIGN, row.delete_position)
    if row.listed:
        flags |= LISTED
        put_number(to, len(row.listed))
        before = row.applied_through
        for position in sorted(row.listed):
            put_number(to, position - before)
            before = position
    if row.ids or row.ids_after != NEVER:
        flags |= IDS
        _put_ids(to, row)
    to += aligned(len(to))
    times = (row.known_through, row.newest_event, row.newest_known)
    return (
        _HEADER.pack(
            VERSION_BYTE,
            flags | (REBUILD if row.rebuild else 0),
            layout.fingerprint,
            row.sequence.to_bytes(6, "big"),
            row.fill,
            row.run,
            row.applied_through,
            *(time + _SIGN for time in times),
            _HEADER.size + len(to),
        )
        + to
    )


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
    row, ends, data_start = _decode_head(layout, data)
    start = 0
    for each, end in zip(layout.lists, ends, strict=True):
        part = data[data_start + start : data_start + end]
        kept = stored_numbers(each, layout.step, part, _unpacked) if each.columns else None
        row.lists.append(unpack_list(each, Bytes(part), layout.step) if kept is None else kept)
        start = end
    return row


def _decode_head(layout: WindowLayout, data: bytes) -> tuple[WindowRow, list[int], int]:
    """The row without its lists, where each list ends, and where the first begins."""
    problem = row_problem(layout, data)
    if problem:
        raise Damaged(problem)
    _, flags, _, sequence, fill, run, applied, *times, ends_at = _HEADER.unpack_from(data)
    known, newest_event, newest_known = (time - _SIGN for time in times)
    row = WindowRow([], int.from_bytes(sequence, "big"), fill, run, applied, known_through=known)
    row.rebuild, row.newest_event, row.newest_known = bool(flags & REBUILD), newest_event, newest_known
    rest = Bytes(data, _HEADER.size)
    if flags & DELETED:
        through, row.delete_position = _PAIR.unpack(rest.take(_PAIR.size))
        row.deleted_through = through - _SIGN
    if flags & LISTED:
        positions, position = [], applied
        for _ in range(rest.number()):
            position += rest.number()
            positions.append(position)
        row.listed = frozenset(positions)
    if flags & IDS:
        _take_ids(rest, row)
    if rest.at + -rest.at % 8 != ends_at:
        raise Damaged("a window row whose header is not as long as it says")
    rest.at = ends_at
    ends = np.frombuffer(rest.take(4 * len(layout.lists)), "<u4").tolist()
    start = lists_start(ends_at, len(ends))
    if any(a > b for a, b in pairwise(ends)) or start + (ends[-1] if ends else 0) > len(data):
        raise Damaged("a window row cut short")
    return row, ends, start


def _take_ids(rest: Bytes, row: WindowRow) -> None:
    row.ids_after = _U64.unpack(rest.take(8))[0] - _SIGN
    event = position = 0
    for _ in range(rest.number()):
        name = _U64.unpack(rest.take(8))[0]
        event += rest.signed()
        known = event + rest.number()
        position += rest.signed()
        row.ids[name] = MergedId(event, known, bool(rest.take(1)[0]), position)


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


def pack_list(layout: ListLayout, given: RowList, step: int) -> bytes:
    """One list as it is stored."""
    lifetime = given.lifetime is not None
    states = [*given.states, given.lifetime] if lifetime else given.states
    flags, columns, rest = pack_states(layout, states, step) if states else (0, b"", b"")
    flags |= LIFETIME if lifetime else 0
    flags |= LIFETIME_LEFT_OUT if given.lifetime_left_out else 0
    left_out = first = steps = b""
    if given.left_out is not None:
        flags |= LEFT_OUT
        left_out = _TIME.pack(given.left_out)
    if given.boundaries:
        first = _TIME.pack(given.boundaries[0])
        distances = [(boundary - given.boundaries[0]) // step for boundary in given.boundaries]
        wide = distances[-1] > 0xFFFFFFFF
        flags |= WIDE_BOUNDARIES if wide else 0
        steps = np.array(distances, "<u8" if wide else "<u4").tobytes()
    data = b"".join((_LIST.pack(flags, 0, len(given.states), 0), left_out, first, columns, steps, rest))
    return data + aligned(len(data))


def _unpacked(layout: ListLayout, step: int, data: bytes) -> RowList:
    return unpack_list(layout, Bytes(data), step)


def unpack_list(layout: ListLayout, data: Bytes, step: int) -> RowList:
    """The list that `pack_list` wrote.

    Raises:
        Damaged: bytes that are not such a list.
    """
    flags, _, count, _ = _LIST.unpack(data.take(_LIST.size))
    made = RowList(lifetime_left_out=bool(flags & LIFETIME_LEFT_OUT))
    if flags & LEFT_OUT:
        (made.left_out,) = _TIME.unpack(data.take(8))
    lifetime = bool(flags & LIFETIME)
    bounded = count if layout.shape != WHOLE else 0
    first = _TIME.unpack(data.take(8))[0] if bounded else 0
    columns = Bytes(data.take(wide_size(layout, flags) * (count + lifetime)))
    width, form = (8, "<u8") if flags & WIDE_BOUNDARIES else (4, "<u4")
    made.boundaries = [first + number * step for number in np.frombuffer(data.take(width * bounded), form).tolist()]
    if count + lifetime:
        made.states = unpack_states(layout, flags, count + lifetime, columns, data, step)
        made.lifetime = made.states.pop() if lifetime else None
    return made
