"""Keys: what an entity's row is stored under, as bytes that no other entity, view, version or project can have.

    8 bytes     namespace: a digest of (project, view, version)
    then        for each join key a tag (key version and type) and its value: integers, times and bools at fixed width,
                text and bytes with their length before them, but for the last join key, whose length is the rest
    keys beyond 511 bytes become the namespace, a tag and a digest; their row carries the whole (codec.with_key)

A (view, version) fixes the number and types of its join keys, so that equal bytes mean equal keys.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pyarrow as pa

from headwater.clock import EPOCH, MICROSECOND, from_micros
from headwater.digests import blake2b
from headwater.errors import DataError, FormatError
from headwater.online.rows.codec import long_key
from headwater.online.rows.values import Damaged, day, encode_variable, fixed_numbers, null_mask
from headwater.types import DType

NAMESPACE_SIZE = 8
META_PREFIX = b"\0hwmeta\0"
LONGEST = 511
"""The longest key LMDB takes; the same for all stores, so that a row means the same in each."""

_VERSION = 0x10
_TAGS = {"int32": 1, "int64": 1, "string": 2, "bytes": 3, "bool": 4, "timestamp": 5, "date": 6}
_DIGEST = bytes((_VERSION | 0x0F,))
_EPOCH_DAY = date(1970, 1, 1)
_NARROW = {"bool": ">B", "date": ">i"}


def namespace(project: str, view: str, version: str) -> bytes:
    """The eight bytes that all keys of a view version begin with; never those of `META_PREFIX`."""
    text = "\0".join((project, view, version))
    digest = blake2b(text.encode(), digest_size=NAMESPACE_SIZE, person=b"headwater key 1").digest()
    return digest if digest[0] else b"\1" + digest[1:]


def digested(key: bytes) -> bytes:
    """What a key is stored under: itself, or its digest where it is too long."""
    if len(key) <= LONGEST:
        return key
    return key[:NAMESPACE_SIZE] + _DIGEST + blake2b(key, digest_size=32).digest()


class KeySpace:
    """The keys of one view version.

    Attributes:
        prefix: the namespace; `OnlineStore.scan` takes it.
        dtypes: of the join keys, in order; none for a global view, all of whose rows share one key.
        tags: what tells each join key's type in a key; of spaces of equal tags, keys differ by their prefix alone.
        may_be_long: whether a key may exceed `LONGEST`.
    """

    def __init__(self, prefix: bytes, dtypes: Sequence[DType]) -> None:
        self.prefix = prefix
        self.dtypes = tuple(dtypes)
        self.tags = tuple(bytes((_VERSION | _TAGS[dtype.name],)) for dtype in self.dtypes)
        self._heads = [prefix + tag if i == 0 else tag for i, tag in enumerate(self.tags)]
        last = len(self.dtypes) - 1
        self._encoders = [
            _encoder(dtype, head, last=i == last)
            for i, (dtype, head) in enumerate(zip(dtypes, self._heads, strict=True))
        ]
        self._only = prefix + bytes((_VERSION,))
        self.may_be_long = any(dtype.name in ("string", "bytes") for dtype in self.dtypes) or len(self.dtypes) > 40

    def __reduce__(self) -> tuple[Any, ...]:
        return KeySpace, (self.prefix, self.dtypes)

    def encode(self, columns: Sequence[Sequence[Any]], rows: int) -> list[bytes | None]:
        """The whole key of each row of Python values; None where a join key is NULL.

        Args:
            columns: the values of each join key: int, str, bytes, bool, aware or naive (UTC) datetime, date, or None.
            rows: how many there are.

        Raises:
            UnicodeEncodeError: text with half of a surrogate pair, which no row can have.
            OverflowError: an integer beyond 64 bits, likewise.
        """
        if len(columns) == 1:
            return self._encoders[0](columns[0])
        if not columns:
            return [self._only] * rows
        return _joined([encode(column) for encode, column in zip(self._encoders, columns, strict=True)])

    def encode_arrow(self, columns: Sequence[pa.Array]) -> list[bytes | None]:
        """The whole key of each row of Arrow columns typed as the join keys (any width of integer); None for a NULL."""
        parts = [
            _column(column, dtype, head, last=i == len(columns) - 1)
            for i, (column, dtype, head) in enumerate(zip(columns, self.dtypes, self._heads, strict=True))
        ]
        return parts[0] if len(parts) == 1 else _joined(parts)

    def global_key(self) -> bytes:
        """The one key of a view without an entity."""
        return self._only

    def decode(self, key: bytes, row: bytes | None = None) -> tuple[Any, ...]:
        """The join keys of a stored key: int, str, bytes, bool, datetime (UTC), date.

        Args:
            key: as `scan` gives it.
            row: what is stored under it, where the key may be the digest of a long one.

        Raises:
            FormatError: bytes that are not a key of this view version, or of a newer headwater.
        """
        if key[NAMESPACE_SIZE : NAMESPACE_SIZE + 1] == _DIGEST:
            carried = long_key(row) if row is not None else None
            if carried is None:
                raise FormatError(f"key {key.hex()}: the row does not carry the long key it is stored under")
            key = carried
        if not self.dtypes:
            return ()
        values, at = [], NAMESPACE_SIZE
        try:
            for i, dtype in enumerate(self.dtypes):
                value, at = _parse(key, at, dtype, last=i == len(self.dtypes) - 1)
                values.append(value)
        except (struct.error, IndexError, UnicodeDecodeError, OverflowError, Damaged, ValueError) as bad:
            raise FormatError(
                f"key {key.hex()} is not one of these join keys: {', '.join(map(str, self.dtypes))}"
            ) from bad
        return tuple(values)


def _joined(parts: Sequence[Sequence[bytes | None]]) -> list[bytes | None]:
    rows = zip(*parts, strict=True)
    if any(None in part for part in parts):
        return [None if None in row else b"".join(row) for row in rows]
    return list(map(b"".join, rows))


_Encoder = Callable[[Sequence[Any]], list[bytes | None]]


def _encoder(dtype: DType, head: bytes, *, last: bool) -> _Encoder:
    """What makes one join key's part of each key, from Python values."""
    if dtype.name == "string":
        return partial(_texts, head, last)
    if dtype.name == "bytes":
        return partial(_pieces, head, last)
    pack = struct.Struct(f">{len(head)}s{_NARROW.get(dtype.name, '>q')[1]}").pack
    if dtype.name in ("int32", "int64", "bool"):
        return partial(_integers, head, pack)
    return lambda values: _integers(head, pack, [_number(value) for value in values])


def _integers(head: bytes, pack: Callable[..., bytes], numbers: Sequence[Any]) -> list[bytes | None]:
    try:
        return [pack(head, number) for number in numbers]
    except struct.error:
        if any(number is not None and not -(1 << 63) <= number < 1 << 63 for number in numbers):
            raise OverflowError from None
        return [None if number is None else pack(head, number) for number in numbers]


def _texts(head: bytes, last: bool, values: Sequence[Any]) -> list[bytes | None]:
    if last:
        try:
            return [head + value.encode() for value in values]
        except AttributeError:
            pass  # a NULL is among them
    return _pieces(head, last, [None if value is None else value.encode() for value in values])


def _pieces(head: bytes, last: bool, pieces: Iterable[bytes | None]) -> list[bytes | None]:
    if last:
        return [None if piece is None else head + piece for piece in pieces]
    return [None if piece is None else head + _length(len(piece)) + piece for piece in pieces]


_WIDE = {">B": "u1", ">i": "i4", ">q": "i8"}


def _records(numbers: np.ndarray[Any, Any], head: bytes) -> list[bytes]:
    record, whole = _record_dtypes(len(head), numbers.dtype)
    table = np.empty(len(numbers), record)
    table["head"], table["number"] = head, numbers
    return table.view(whole).tolist() if len(table) else []


@lru_cache(maxsize=64)
def _record_dtypes(head: int, number: np.dtype[Any]) -> tuple[np.dtype[Any], np.dtype[Any]]:
    record = np.dtype([("head", f"S{head}"), ("number", number)])
    return record, np.dtype(f"V{record.itemsize}")


def _column(column: pa.Array, dtype: DType, head: bytes, *, last: bool) -> list[bytes | None]:
    """One join key's part of each key, from an Arrow column."""
    if dtype.name in ("string", "bytes"):
        parts = _pieces(head, last, encode_variable(column, dtype))
    else:
        form = _WIDE[_NARROW.get(dtype.name, ">q")]
        parts = list[bytes | None](_records(fixed_numbers(column, dtype).astype(f">{form}"), head))
    if column.null_count:
        for i in np.flatnonzero(null_mask(column)).tolist():
            parts[i] = None
    return parts


def key_table(columns: Sequence[pa.Array | pa.ChunkedArray]) -> list[pa.Array]:
    """Columns as plain arrays, one chunk each."""
    return [column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column for column in columns]


def _number(value: Any) -> int | None:
    if isinstance(value, datetime):
        aware = value if value.tzinfo is not None else value.replace(tzinfo=EPOCH.tzinfo)
        return (aware - EPOCH) // MICROSECOND
    return None if value is None else (value - _EPOCH_DAY).days


def _length(size: int) -> bytes:
    out = bytearray()
    while size > 0x7F:
        out.append(size & 0x7F | 0x80)
        size >>= 7
    out.append(size)
    return bytes(out)


def _moment(micros: int) -> datetime:
    try:
        return from_micros(micros)
    except DataError as bad:
        raise ValueError(str(bad)) from None


def _parse(key: bytes, at: int, dtype: DType, *, last: bool) -> tuple[Any, int]:
    if key[at] != _VERSION | _TAGS[dtype.name]:
        raise ValueError("another type")
    at += 1
    if dtype.name in ("string", "bytes"):
        size = len(key) - at
        if not last:
            size, at = _parse_length(key, at)
        piece = key[at : at + size]
        if len(piece) != size:
            raise ValueError("cut short")
        return (piece.decode() if dtype.name == "string" else piece), at + size
    form = _NARROW.get(dtype.name, ">q")
    (number,) = struct.unpack_from(form, key, at)
    end = at + struct.calcsize(form)
    if last and end != len(key):
        raise ValueError("too long")
    match dtype.name:
        case "bool":
            return bool(number), end
        case "timestamp":
            return _moment(number), end
        case "date":
            return day(number), end
    return number, end


def _parse_length(key: bytes, at: int) -> tuple[int, int]:
    size = shift = 0
    while True:
        byte = key[at]
        at += 1
        size |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return size, at
