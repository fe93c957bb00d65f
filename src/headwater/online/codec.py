"""Packed rows: the header that every stored row begins with, and whole Arrow batches encoded at once.

    byte 0      codec version: 0xA0 | version            14..22  deleted-through time D (all zero: never deleted)
    byte 1      flags                                    22..30  event time      }
    2..6        fingerprint of the row's layout          30..38  created time    } the guard's order:
    6..14       write sequence of the row                38      origin          } one comparison of bytes
                                                         39..47  log position    }
    then        null bitmap, fixed-width values, the ends of the variable-width ones (uint32), the variable-width ones
    KEYED rows  end with the whole key and its length (uint32): the key it is stored under is only a digest of it

Header numbers are big-endian, times with their sign bit flipped, so that bytes compare like the numbers; values are
little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from headwater.clock import MIN_MICROS
from headwater.online.values import encode_variable, fixed_numbers, null_mask
from headwater.planning.layout import RowLayout, Slot

MAGIC = 0xA0
CODEC_VERSION = 1
VERSION_BYTE = MAGIC | CODEC_VERSION
EMPTIED, KEYED = 1, 2
HEADER_SIZE = 47
SEQUENCE, THROUGH = slice(6, 14), slice(14, 22)
EVENT, CREATED, ORDER = slice(22, 30), slice(30, 38), slice(22, 47)
ZERO = bytes(8)
SIGN = 1 << 63

_HEADER = struct.Struct(">BB4sQQQQBQ")
_U64 = struct.Struct(">Q")
_U32 = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Header:
    """What a row says about itself.

    Attributes:
        event: event time, microseconds UTC; the least int64 where the view has none, or the row is emptied.
        created: created time, alike.
        origin: 0 source, 1 log.
        position: the log position; 0 for source rows and cache-only writes.
        sequence: how often the row was written, from 1.
        through: D, the time the key is deleted through; the least int64 where it never was.
        emptied: whether only the header is left.
        fingerprint: of the layout of the values.
    """

    event: int
    created: int
    origin: int
    position: int
    sequence: int
    through: int
    emptied: bool
    fingerprint: bytes

    @property
    def known_at(self) -> int:
        """max(event time, created time)."""
        return max(self.event, self.created)


def header(row: bytes | None) -> Header | None:
    """The header of a stored row; None where there is no row, or the bytes are none that this codec wrote."""
    if row is None or not is_row(row):
        return None
    _, flags, mark, sequence, through, event, created, origin, position = _HEADER.unpack_from(row)
    return Header(event - SIGN, created - SIGN, origin, position, sequence, through - SIGN, bool(flags & EMPTIED), mark)


def is_row(row: bytes | None) -> bool:
    """Whether bytes begin with a header of this codec version; what does not counts as no row for writes."""
    return row is not None and len(row) >= HEADER_SIZE and row[0] == VERSION_BYTE


def is_newer(row: bytes) -> bool:
    """Whether a later codec wrote the row; it must not be overwritten by this one."""
    return len(row) > 0 and VERSION_BYTE < row[0] <= MAGIC | 0x0F


def sequence_of(row: bytes | None) -> int:
    """The write sequence of what is stored: 0 where there is no row of this codec."""
    return int.from_bytes(row[SEQUENCE], "big") if row is not None and is_row(row) else 0


def micros_bytes(micros: int) -> bytes:
    """A time as it stands in a header."""
    return _U64.pack(micros + SIGN)


def emptied(row: bytes | None, through: int, *, keep_key: bool = True) -> bytes:
    """The row that a delete leaves: values gone, order at the minimum, D kept or raised, sequence one further.

    Args:
        row: what is stored; None where nothing is.
        through: D, microseconds.
        keep_key: whether a long key stays in the row, so that it is still told from another of the same digest.
    """
    stored = header(row)
    before = MIN_MICROS if stored is None else stored.through
    sequence = 1 if stored is None else stored.sequence + 1
    mark = bytes(4) if stored is None else stored.fingerprint
    bare = _HEADER.pack(VERSION_BYTE, EMPTIED, mark, sequence, max(through, before) + SIGN, 0, 0, 0, 0)
    key = long_key(row) if row is not None and stored is not None and keep_key else None
    return bare if key is None else with_key(bare, key)


def replaced(stored: bytes | None, row: bytes) -> bytes:
    """A new row that takes the place of what is stored whatever its times: D carried over, sequence one further.

    For `OnlineStore.compare_and_put`, which puts a row as it is.
    """
    known = stored if is_row(stored) else None
    through = ZERO if known is None else known[THROUGH]
    return row[:6] + _U64.pack(sequence_of(known) + 1) + through + row[22:]


def with_key(row: bytes, key: bytes) -> bytes:
    """A row that carries its whole key, since it is stored under a digest."""
    return row[:1] + bytes((row[1] | KEYED,)) + row[2:] + key + _U32.pack(len(key))


def long_key(row: bytes) -> bytes | None:
    """The whole key that a row carries; None where it carries none, or is cut short."""
    end = len(row) - 4
    if not is_row(row) or not row[1] & KEYED or end < HEADER_SIZE:
        return None
    start = end - _U32.unpack_from(row, end)[0]
    return row[start:end] if start >= HEADER_SIZE else None


def without_key(row: bytes) -> bytes:
    """The row as it was before `with_key`."""
    key = long_key(row)
    if key is None:
        return row
    return row[:1] + bytes((row[1] & ~KEYED,)) + row[2 : len(row) - 4 - len(key)]


def layout_mark(layout: RowLayout) -> bytes:
    """The six bytes that a row with values of this layout begins with."""
    return bytes((VERSION_BYTE, 0)) + layout.fingerprint.to_bytes(4, "big")


@lru_cache(maxsize=256)
def row_dtype(layout: RowLayout) -> np.dtype[Any]:
    """A row up to its variable part as a NumPy record.

    Fields: `mark`, `sequence`, `through`, `times` (event, created), `origin`, `position`, `bits`, `ends`, and each
    fixed-width feature as `v` and its bit.
    """
    fields: dict[str, Any] = {
        "mark": (np.dtype("V6"), 0),
        "sequence": (np.dtype(">u8"), 6),
        "through": (np.dtype(">u8"), 14),
        "times": (np.dtype((">u8", (2,))), 22),
        "origin": (np.dtype("u1"), 38),
        "position": (np.dtype(">u8"), 39),
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
    """One packed row for each row of a batch, with write sequence 1 and no D.

    Args:
        layout: of the view version.
        batch: `__event` and `__created` (int64, microseconds), `__origin` (int8), `__position` (int64), and every
            feature of the layout by name, in its dtype.
    """
    table = np.zeros(batch.num_rows, row_dtype(layout))
    table["mark"] = np.frombuffer(layout_mark(layout), "V6")[0]
    table["sequence"] = 1
    table["times"][:, 0] = flip_sign(_numbers(batch, "__event"))
    table["times"][:, 1] = flip_sign(_numbers(batch, "__created"))
    table["origin"] = _numbers(batch, "__origin")
    table["position"] = _numbers(batch, "__position")
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
