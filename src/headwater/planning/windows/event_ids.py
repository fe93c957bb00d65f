"""Event ids of whole columns as digests: of one event the same on every road, whatever type its id came in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headwater.planning.windows.digest import digests_of_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray


def event_digests(ids: pa.Array, events: NDArray[np.int64]) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    """`events.event_digest` of each row, and which rows have an id.

    Integers of any width, bools and whole floats are one and the same id, and so are text, plain, large or
    dictionary-encoded; times are microseconds, dates days; of any other type the text of the value.

    Args:
        ids: the event ids; NULL: none.
        events: event times, microseconds.
    """
    if isinstance(ids, pa.ChunkedArray):
        ids = ids.combine_chunks()
    if pa.types.is_dictionary(ids.type):
        ids = ids.dictionary_decode()
    present = np.asarray(ids.is_valid())
    times = np.ascontiguousarray(events, dtype="<i8").view(np.uint8).reshape(-1, 8)
    words = _words(ids)
    if words is None:
        offsets, data = _bytes(ids)
    else:
        offsets, data = np.arange(len(ids) + 1, dtype=np.int64) * 8, words.view(np.uint8)
    return np.where(present, digests_of_bytes(offsets, data, times), np.uint64(0)), present


def _words(ids: pa.Array) -> NDArray[np.uint64] | None:
    """The ids as 8 bytes each; None where they are bytes or text."""
    given = ids.type
    if pa.types.is_null(given):
        return np.zeros(len(ids), np.uint64)
    if pa.types.is_boolean(given):
        return np.asarray(ids.fill_null(False)).astype("<i8").view(np.uint64)
    if pa.types.is_uint64(given):
        return np.asarray(ids.fill_null(0)).astype("<u8")
    if pa.types.is_integer(given):
        return np.asarray(ids.fill_null(0)).astype("<i8").view(np.uint64)
    if pa.types.is_floating(given):
        values = np.asarray(ids.fill_null(0)).astype(np.float64)
        whole = (np.abs(values) < 2.0**63) & (np.floor(values) == values)
        values = np.where(np.isnan(values), np.nan, values + 0.0)
        integers = np.where(whole, values, 0).astype("<i8").view(np.uint64)
        return np.where(whole, integers, values.astype("<f8").view(np.uint64))
    if pa.types.is_timestamp(given):
        return np.asarray(ids.cast(pa.timestamp("us", given.tz), safe=False).cast(pa.int64()).fill_null(0)).view(
            np.uint64
        )
    if pa.types.is_date(given):
        days = ids.cast(pa.date32()).cast(pa.int32()).cast(pa.int64())
        return np.asarray(days.fill_null(0)).view(np.uint64)
    return None


def _bytes(ids: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Offsets and bytes of ids of text or bytes; of other types the text of each value."""
    given = ids.type
    text = pa.types.is_string(given) or pa.types.is_large_string(given)
    plain = pa.types.is_binary(given) or pa.types.is_large_binary(given)
    if not text and not plain:
        ids = pa.array([None if value is None else str(value) for value in ids.to_pylist()], pa.string())
        text = True
    ids = pc.fill_null(ids, "" if text else b"").cast(pa.large_binary())
    buffers = ids.buffers()
    offsets = np.frombuffer(buffers[1], np.int64)[ids.offset : ids.offset + len(ids) + 1]
    data = np.frombuffer(buffers[2], np.uint8) if buffers[2] is not None and buffers[2].size else np.zeros(0, np.uint8)
    return offsets, data
