"""Packed rows: the header that every stored row begins with, and whole Arrow batches encoded at once.

    byte 0      codec version: 0xA0 | version
    byte 1      flags                                    12..20  event time      }
    2..6        fingerprint of the row's layout          20..28  created time    } the guard's order:
    6..12       write sequence: random, never zero       28..35  log position    } one comparison of bytes
    DELETED     35..43 the delete's time D (deleted_through), 43..50 its log position P
    then        null bitmap, fixed-width values, the ends of the variable-width ones (uint32), the variable-width ones
    KEYED rows  end with the whole key and its length (uint32): the key it is stored under is only a digest of it

Header numbers are big-endian, times with their sign bit flipped, so that bytes compare like the numbers; values are
little-endian. The log position of a row of the offline log has its top bit set (its origin), that of a source row is 0.

Rows of codec 1 had 47 bytes of header: version, flags, fingerprint, sequence (8 bytes), D (8), event, created, origin
(1), position (8); `current` turns one into a row of this codec, in which P is 0.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from headwater.clock import MIN_MICROS
from headwater.deferred import deferred
from headwater.online.rows.values import encode_variable, fixed_numbers, null_mask
from headwater.planning.layout import RowLayout, Slot
from headwater.values import Value

if TYPE_CHECKING:
    import pyarrow.compute as pc
    from numpy.typing import NDArray
else:
    pc = deferred("pyarrow.compute")

MAGIC = 0xA0
CODEC_VERSION = 2
VERSION_BYTE = MAGIC | CODEC_VERSION
EMPTIED, KEYED, DELETED = 1, 2, 4
HEADER_SIZE = 35
SEQUENCE = slice(6, 12)
EVENT, CREATED, POSITION, ORDER = slice(12, 20), slice(20, 28), slice(28, 35), slice(12, 35)
TOMBSTONE = slice(35, 50)
"""Of a row with the flag DELETED: D and P."""
CACHE_ONLY = b"\x80" + bytes(6)
"""The log position of a row that was never in the log: it is not a position of the log."""
SIGN = 1 << 63
MAX_POSITION = (1 << 55) - 1

OLD_VERSION_BYTE, OLD_HEADER_SIZE = MAGIC | 1, 47
"""Of codec 1."""

WINDOW_MAGIC, WINDOW_CODEC_VERSION = 0xB0, 1
WINDOW_VERSION_BYTE = WINDOW_MAGIC | WINDOW_CODEC_VERSION
WINDOW_HEADER_SIZE, WINDOW_KEYED = 64, 16
_WINDOW_DELETED = 2
"""Of rows of window versions (`rows.windows.codec`): their write sequence is at the same bytes, nothing else is."""

_FROM_LOG = 1 << 55
_HEADER = struct.Struct(">BB4s6sQQ7s")
_OLD_HEADER = struct.Struct(">BB4sQQQQBQ")
_U64 = struct.Struct(">Q")
_U32 = struct.Struct("<I")


class Header(Value, frozen=True):
    """What a row says about itself.

    Attributes:
        event: event time, microseconds UTC; the least int64 where the view has none, or the row is emptied.
        created: created time, microseconds UTC; the least int64 where the row is emptied.
        origin: 0 source, 1 log.
        position: the log position; 0 for source rows and cache-only writes.
        sequence: a number that no other write of the row has had; never 0.
        through: D, the time the key is deleted through; the least int64 where it never was.
        deleted_position: P, the delete's log position; 0 where there was none, or a delete of an earlier release.
        emptied: whether only the header is left.
        fingerprint: of the layout of the values.
    """

    event: int
    created: int
    origin: int
    position: int
    sequence: int
    through: int
    deleted_position: int
    emptied: bool
    fingerprint: bytes

    @property
    def known_at(self) -> int:
        """max(event time, created time)."""
        return max(self.event, self.created)


def header(row: bytes | None) -> Header | None:
    """The header of a stored row; None where there is no row, or no codec wrote the bytes."""
    if row is None or not is_row(row):
        return None
    row = current(row)
    _, flags, mark, sequence, event, created, tail = _HEADER.unpack_from(row)
    through, deleted = MIN_MICROS, 0
    if flags & DELETED:
        through, deleted = _U64.unpack_from(row, TOMBSTONE.start)[0] - SIGN, position_of(row[43:50])
    return Header(
        event - SIGN,
        created - SIGN,
        tail[0] >> 7,
        position_of(tail),
        int.from_bytes(sequence, "big"),
        through,
        deleted,
        bool(flags & EMPTIED),
        mark,
    )


def position_of(tail: bytes) -> int:
    """The log position in seven bytes of a header, without the bit of its origin."""
    return int.from_bytes(tail, "big") & MAX_POSITION


def from_log(row: bytes) -> bool:
    """Whether a row of this codec is the offline log's, or cache-only; else it is the source's."""
    return row[POSITION.start] >= 0x80


def is_row(row: bytes | None) -> bool:
    """Whether bytes begin with a header of a codec that is known; others do not count as a row for writes."""
    if row is None or len(row) < HEADER_SIZE:
        return False
    if row[0] == VERSION_BYTE:
        return len(row) >= (TOMBSTONE.stop if row[1] & DELETED else HEADER_SIZE)
    return row[0] == OLD_VERSION_BYTE and len(row) >= OLD_HEADER_SIZE


def is_window_row(row: bytes | None) -> bool:
    """Whether bytes begin with the header of a window version's row."""
    return row is not None and len(row) >= WINDOW_HEADER_SIZE and row[0] == WINDOW_VERSION_BYTE


def window_known_at(row: bytes) -> int:
    """From when a window version's row is known, microseconds: its newest event, or its delete."""
    known = int.from_bytes(row[52:60], "big")
    if row[1] & _WINDOW_DELETED:
        known = max(known, int.from_bytes(row[64:72], "big"))
    return known - SIGN


def is_newer(row: bytes) -> bool:
    """Whether a later codec wrote the row; it must not be overwritten by this one."""
    if not row:
        return False
    return VERSION_BYTE < row[0] <= MAGIC | 0x0F or WINDOW_VERSION_BYTE < row[0] <= WINDOW_MAGIC | 0x0F


def current(row: bytes) -> bytes:
    """A sound row of any codec as this one writes it: the same values, times, position, sequence and D."""
    if row[0] == VERSION_BYTE:
        return row
    _, flags, mark, sequence, through, event, created, origin, position = _OLD_HEADER.unpack_from(row)
    tail = (position & MAX_POSITION | (_FROM_LOG if origin else 0)).to_bytes(7, "big")
    deleted = _U64.pack(through) + CACHE_ONLY if through else b""
    flags = flags | (DELETED if through else 0)
    head = _HEADER.pack(VERSION_BYTE, flags, mark, sequence.to_bytes(8, "big")[2:], event, created, tail)
    return head + deleted + row[OLD_HEADER_SIZE:]


def without_tombstone(row: bytes) -> bytes:
    """A row of this codec without D and P."""
    if not row[1] & DELETED:
        return row
    return row[:1] + bytes((row[1] & ~DELETED,)) + row[2:HEADER_SIZE] + row[TOMBSTONE.stop :]


def carrying(row: bytes, tombstone: bytes) -> bytes:
    """A row of this codec with these 15 bytes of D and P in the place of its own; none: without any."""
    row = without_tombstone(row)
    if not tombstone:
        return row
    return row[:1] + bytes((row[1] | DELETED,)) + row[2:HEADER_SIZE] + tombstone + row[HEADER_SIZE:]


def tombstone_of(row: bytes) -> bytes:
    """D and P of a row of this codec, as they are stored; empty where it has none."""
    return row[TOMBSTONE] if row[1] & DELETED else b""


def tombstone(through: int, position: int) -> bytes:
    """D (microseconds) and P as they are stored."""
    return micros_bytes(through) + (position | _FROM_LOG).to_bytes(7, "big")


def sequence_of(row: bytes | None) -> int:
    """The write sequence of what is stored: 0 where there is no row of a known codec."""
    if row is None:
        return 0
    if is_window_row(row):
        return int.from_bytes(row[SEQUENCE], "big")
    if not is_row(row):
        return 0
    return int.from_bytes(row[SEQUENCE] if row[0] == VERSION_BYTE else row[8:14], "big")


def fresh_sequence() -> bytes:
    """A write sequence that no row has had: random, since a counter repeats after a failover."""
    return (int.from_bytes(os.urandom(6), "big") | 1).to_bytes(6, "big")


def micros_bytes(micros: int) -> bytes:
    """A time as a header holds it."""
    return _U64.pack(micros + SIGN)


def emptied(row: bytes | None, through: int, position: int = 0, *, keep_key: bool = True) -> bytes:
    """The row that a delete leaves: values gone, order at the minimum, D and P kept or raised, a new sequence.

    Args:
        row: what is stored; None where nothing is.
        through: D, microseconds; the least int64: no delete, and the row keeps what it has.
        position: P.
        keep_key: whether a long key stays in the row, so that it is still told from another of the same digest.
    """
    stored = header(row)
    through = max(through, MIN_MICROS if stored is None else stored.through)
    position = max(position, 0 if stored is None else stored.deleted_position)
    mark = bytes(4) if stored is None else stored.fingerprint
    bare = _HEADER.pack(VERSION_BYTE, EMPTIED, mark, fresh_sequence(), 0, 0, bytes(7))
    if through > MIN_MICROS:
        bare = carrying(bare, tombstone(through, position))
    key = long_key(row) if row is not None and stored is not None and keep_key else None
    return bare if key is None else with_key(bare, key)


def replaced(stored: bytes | None, row: bytes) -> bytes:
    """A new row that takes the place of what is stored whatever its times: D and P carried over, a new sequence.

    For `OnlineStore.compare_and_put`, which puts a row as it is.
    """
    kept = tombstone_of(current(stored)) if stored is not None and is_row(stored) else b""
    return carrying(row[:6] + fresh_sequence() + row[12:], kept)


def with_key(row: bytes, key: bytes) -> bytes:
    """A row that carries its whole key, since it is stored under a digest."""
    return row[:1] + bytes((row[1] | KEYED,)) + row[2:] + key + _U32.pack(len(key))


def long_key(row: bytes) -> bytes | None:
    """The whole key that a row of any kind carries; None where it carries none, or is cut short."""
    end = len(row) - 4
    size, flag = (WINDOW_HEADER_SIZE, WINDOW_KEYED) if is_window_row(row) else (HEADER_SIZE, KEYED)
    if (flag == KEYED and not is_row(row)) or not row[1] & flag or end < size:
        return None
    start = end - _U32.unpack_from(row, end)[0]
    return row[start:end] if start >= size else None


def without_key(row: bytes) -> bytes:
    """The row as it was before `with_key`."""
    key = long_key(row)
    if key is None:
        return row
    flag = WINDOW_KEYED if is_window_row(row) else KEYED
    return row[:1] + bytes((row[1] & ~flag,)) + row[2 : len(row) - 4 - len(key)]


def layout_mark(layout: RowLayout) -> bytes:
    """The six bytes that a row with values of this layout begins with."""
    return bytes((VERSION_BYTE, 0)) + layout.fingerprint.to_bytes(4, "big")


@lru_cache(maxsize=256)
def row_dtype(layout: RowLayout) -> np.dtype[Any]:
    """A row up to its variable part as a NumPy record.

    Fields: `mark`, `sequence`, `times` (event, created), `tail` (the log position in its seven lower bytes: to be set
    before the times, whose last byte it covers), `bits`, `ends`, and each fixed-width feature as `v` and its bit.
    """
    fields: dict[str, Any] = {
        "mark": (np.dtype("V6"), 0),
        "sequence": (np.dtype(("u1", (6,))), 6),
        "tail": (np.dtype(">u8"), 27),
        "times": (np.dtype((">u8", (2,))), 12),
        "bits": (np.dtype(("u1", (layout.bitmap_size,))), HEADER_SIZE),
    }
    start = HEADER_SIZE + layout.bitmap_size
    for slot in layout.slots:
        if slot.offset is not None:
            fields[f"v{slot.bit}"] = (slot_dtype(slot), start + slot.offset)
    fields["ends"] = (np.dtype(("<u4", (layout.variable_count,))), start + layout.fixed_size)
    return np.dtype(
        {
            "names": list(fields),
            "formats": [form for form, _ in fields.values()],
            "offsets": [offset for _, offset in fields.values()],
            "itemsize": fixed_end(layout),
        }
    )


def slot_dtype(slot: Slot) -> np.dtype[Any]:
    """The NumPy form of a fixed-width value."""
    if slot.dtype.name == "embedding":
        return np.dtype(("<f4", (slot.dtype.dim or 0,)))
    form = slot.dtype.numpy
    assert form is not None
    return form


def fixed_end(layout: RowLayout) -> int:
    """Bytes of a row before its variable-width values."""
    return HEADER_SIZE + layout.bitmap_size + layout.fixed_size + 4 * layout.variable_count


def encode_batch(layout: RowLayout, batch: pa.RecordBatch) -> list[bytes]:
    """One packed row for each row of a batch, with a write sequence of its own and no D.

    Args:
        layout: of the view version.
        batch: `__event` and `__created` (int64, microseconds), `__origin` (int8), `__position` (int64), and every
            feature of the layout by name, in its dtype.
    """
    table = np.zeros(batch.num_rows, row_dtype(layout))
    table["mark"] = np.frombuffer(layout_mark(layout), "V6")[0]
    table["sequence"] = np.frombuffer(os.urandom(6 * batch.num_rows), np.uint8).reshape(-1, 6)
    table["sequence"][:, 5] |= 1
    table["tail"] = _numbers(batch, "__position").astype(np.uint64) | (
        _numbers(batch, "__origin").astype(np.uint64) << np.uint64(55)
    )
    table["times"][:, 0] = flip_sign(_numbers(batch, "__event"))
    table["times"][:, 1] = flip_sign(_numbers(batch, "__created"))
    pieces: list[list[bytes]] = [[] for _ in range(layout.variable_count)]
    for slot in layout.slots:
        column = _column(batch, slot)
        if column.null_count:
            table["bits"][:, slot.bit // 8] |= null_mask(column).astype(np.uint8) << (slot.bit % 8)
        if slot.variable is None:
            table[f"v{slot.bit}"] = fixed_numbers(column, slot.dtype)
        else:
            pieces[slot.variable] = encode_variable(column, slot.dtype)
    return list(_assemble(table, pieces))


def _assemble(table: NDArray[Any], pieces: list[list[bytes]]) -> Iterable[bytes]:
    if not pieces:
        return records(table)
    ends = np.cumsum([[len(piece) for piece in column] for column in pieces], axis=0, dtype=np.int64)
    if ends.size and int(ends.max()) >= 1 << 32:
        raise ValueError("a row's variable-width values reach 4 GiB")
    table["ends"] = ends.T
    return map(b"".join, zip(records(table), *pieces, strict=True))


def records(table: NDArray[Any]) -> list[bytes]:
    """The bytes of each record of a contiguous array."""
    size = table.dtype.itemsize
    return table.view(f"V{size}").tolist() if len(table) else []


def flip_sign(micros: NDArray[Any]) -> NDArray[np.uint64]:
    """int64 times as they stand in a header, and back again."""
    return micros.astype(np.int64).view(np.uint64) ^ np.uint64(SIGN)


def _numbers(batch: pa.RecordBatch, name: str) -> NDArray[Any]:
    numbers: NDArray[Any] = batch.column(name).to_numpy(zero_copy_only=False)
    return numbers


def _column(batch: pa.RecordBatch, slot: Slot) -> pa.Array:
    column = batch.column(slot.name)
    wanted = slot.dtype.arrow
    return column if column.type == wanted else pc.cast(column, wanted)
