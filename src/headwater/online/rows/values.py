"""Values inside packed rows: Arrow columns into bytes and numbers, and back into Python values.

A variable-width value: text and bytes as they are; an array as its count (uint32), a flag (1: a null bitmap follows),
the bitmap, then its elements in one block where their width is fixed, else their ends (uint32) and their bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime, timedelta
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from headwater.clock import EPOCH
from headwater.deferred import deferred
from headwater.types import DType

if TYPE_CHECKING:
    import pyarrow.compute as pc
    from numpy.typing import NDArray
else:
    pc = deferred("pyarrow.compute")

_ARRAY = struct.Struct("<IB")
_EPOCH_DAY = date(1970, 1, 1)


class Damaged(Exception):
    """Bytes that cannot be the value they stand for."""


def null_mask(column: pa.Array) -> NDArray[np.bool_]:
    """Where a column is NULL."""
    mask: NDArray[np.bool_] = pc.is_null(column).to_numpy(zero_copy_only=False)
    return mask


def fixed_numbers(column: pa.Array, dtype: DType) -> NDArray[Any]:
    """A fixed-width column as numbers, 0 where it is NULL; an embedding as a matrix."""
    if dtype.name == "embedding":
        return _embedding_numbers(column, dtype)
    if dtype.name == "bool":
        column = column.cast(pa.uint8())
    elif dtype.name == "timestamp":
        column = column.cast(pa.int64())
    elif dtype.name == "date":
        column = column.cast(pa.int32())
    if column.null_count:
        column = pc.fill_null(column, pa.scalar(0, column.type))
    numbers: NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return numbers


def _embedding_numbers(column: pa.Array, dtype: DType) -> NDArray[Any]:
    assert dtype.dim is not None
    matrix = np.zeros((len(column), dtype.dim), np.float32)
    matrix[~null_mask(column)] = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, dtype.dim)
    return matrix


def array_of_numbers(numbers: NDArray[Any], absent: NDArray[np.bool_] | None, dtype: DType) -> pa.Array:
    """A fixed-width column from its numbers (of an embedding a matrix), NULL where `absent`: undoes `fixed_numbers`."""
    mask = absent if absent is not None and absent.any() else None
    if dtype.name == "embedding":
        flat = pa.array(np.ascontiguousarray(numbers).reshape(-1), pa.float32())
        return pa.FixedSizeListArray.from_arrays(flat, type=dtype.arrow, mask=None if mask is None else pa.array(mask))
    numbers = numbers != 0 if dtype.name == "bool" else np.ascontiguousarray(numbers)
    array = pa.array(numbers, mask=mask)
    return array if array.type == dtype.arrow else array.view(dtype.arrow)


def encode_variable(column: pa.Array, dtype: DType) -> list[bytes]:
    """Each value of a variable-width column as bytes; a NULL as none."""
    if dtype.name == "array":
        return _encode_arrays(column, dtype)
    if not len(column):
        return []
    offsets = np.frombuffer(column.buffers()[1], np.int32)[column.offset : column.offset + len(column) + 1]
    first, data = int(offsets[0]), column.buffers()[2]
    whole = b"" if data is None else data.slice(first, int(offsets[-1]) - first).to_pybytes()
    return _without_nulls(column, [whole[start:end] for start, end in _spans(offsets - first)])


def _spans(offsets: NDArray[Any]) -> Iterator[tuple[int, int]]:
    return pairwise(offsets.tolist())


def _without_nulls(column: pa.Array, pieces: list[bytes]) -> list[bytes]:
    if column.null_count:
        for i in np.flatnonzero(null_mask(column)).tolist():
            pieces[i] = b""
    return pieces


def _encode_arrays(column: pa.Array, dtype: DType) -> list[bytes]:
    element = dtype.element
    assert element is not None
    offsets = column.offsets.to_numpy(zero_copy_only=False)
    first = int(offsets[0])
    values = column.values.slice(first, int(offsets[-1]) - first)
    nulls = null_mask(values) if values.null_count else None
    spans = _spans(offsets - first)
    if element.width is not None:
        width = element.width
        block = np.ascontiguousarray(fixed_numbers(values, element)).tobytes()
        pieces = [_array_head(start, end, nulls) + block[start * width : end * width] for start, end in spans]
    else:
        inner = encode_variable(values, element)
        pieces = [_array_head(start, end, nulls) + _with_ends(inner[start:end]) for start, end in spans]
    return _without_nulls(column, pieces)


def _array_head(start: int, end: int, nulls: NDArray[np.bool_] | None) -> bytes:
    if nulls is None or not nulls[start:end].any():
        return _ARRAY.pack(end - start, 0)
    return _ARRAY.pack(end - start, 1) + np.packbits(nulls[start:end], bitorder="little").tobytes()


def _with_ends(pieces: Sequence[bytes]) -> bytes:
    return struct.pack(f"<{len(pieces)}I", *accumulate(map(len, pieces))) + b"".join(pieces)


@lru_cache(maxsize=256)
def variable_decoder(dtype: DType) -> Callable[[bytes], Any]:
    """A function from the bytes of a variable-width value to the Python value; it raises `Damaged`."""
    if dtype.name == "bytes":
        return bytes
    if dtype.name == "string":
        return _decode_text
    element = dtype.element
    assert element is not None
    return lambda data: _decode_array(data, element)


def _decode_text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as bad:
        raise Damaged("text that is not UTF-8") from bad


def _decode_array(data: bytes, element: DType) -> list[Any]:
    if len(data) < _ARRAY.size:
        raise Damaged("an array cut short")
    count, flag = _ARRAY.unpack_from(data)
    start = _ARRAY.size
    nulls: list[int] = []
    if flag:
        size = (count + 7) // 8
        bits = np.frombuffer(data[start : start + size], np.uint8)
        if len(bits) != size:
            raise Damaged("an array cut short")
        nulls = np.flatnonzero(np.unpackbits(bits, count=count, bitorder="little")).tolist()
        start += size
    body = data[start:]
    values = (
        _fixed_elements(body, count, element) if element.width is not None else _variable_elements(body, count, element)
    )
    for i in nulls:
        values[i] = None
    return values


def _fixed_elements(body: bytes, count: int, element: DType) -> list[Any]:
    if len(body) != count * (element.width or 0):
        raise Damaged("an array of another length than it says")
    if element.name == "embedding":
        return python_values(np.frombuffer(body, "<f4").reshape(count, element.dim or 0), element)
    return python_values(np.frombuffer(body, element.numpy), element)


def _variable_elements(body: bytes, count: int, element: DType) -> list[Any]:
    if len(body) < 4 * count:
        raise Damaged("an array cut short")
    ends = struct.unpack_from(f"<{count}I", body)
    data, decode, start = body[4 * count :], variable_decoder(element), 0
    if (ends[-1] if ends else 0) != len(data) or any(a > b for a, b in pairwise(ends)):
        raise Damaged("an array whose elements do not add up")
    values = []
    for end in ends:
        # a NULL element has no bytes, which is no array; its place is overwritten
        values.append(None if start == end and element.name == "array" else decode(data[start:end]))
        start = end
    return values


def python_values(numbers: NDArray[Any], dtype: DType) -> list[Any]:
    """Stored numbers as Python values: bool, int, float, datetime (UTC), date, or lists of float for embeddings.

    A float32 becomes the float that is the same number.

    Raises:
        Damaged: a time that Python cannot hold.
    """
    if dtype.name not in ("timestamp", "date"):
        values: list[Any] = (numbers != 0 if dtype.name == "bool" else numbers).tolist()
        return values
    convert = instant if dtype.name == "timestamp" else day
    return [convert(number) for number in numbers.tolist()]


def instant(micros: int) -> datetime:
    """The UTC datetime of stored microseconds.

    Raises:
        Damaged: an instant outside the years 1 to 9999.
    """
    try:
        return EPOCH + timedelta(microseconds=micros)
    except OverflowError as bad:
        raise Damaged("a timestamp outside the years 1 to 9999") from bad


def day(days: int) -> date:
    """The date of stored days since 1970.

    Raises:
        Damaged: a date outside the years 1 to 9999.
    """
    try:
        return _EPOCH_DAY + timedelta(days=days)
    except OverflowError as bad:
        raise Damaged("a date outside the years 1 to 9999") from bad


def python_default(value: Any, dtype: DType) -> Any:
    """A default as results give values of its dtype."""
    if value is None:
        return None
    match dtype.name:
        case "float64":
            return float(value)
        case "float32":
            return python_values(np.array([value], np.float32), dtype)[0]
        case "int32" | "int64":
            return int(value)
        case "bool":
            return bool(value)
        case "timestamp":
            aware = value if value.tzinfo is not None else value.replace(tzinfo=EPOCH.tzinfo)
            return aware.astimezone(EPOCH.tzinfo)
        case "date":
            return value.date() if isinstance(value, datetime) else value
        case "embedding":
            return python_values(np.array([value], np.float32), dtype)[0]
        case "array":
            assert dtype.element is not None
            return [python_default(item, dtype.element) for item in value]
        case "bytes":
            return bytes(value)
    return value
