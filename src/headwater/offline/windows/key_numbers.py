"""Keys of rows as numbers, and the parts that they are dealt into by a digest of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from headwater.offline.windows.dealt import PARTS
from headwater.planning.windows.digest import digests_of_bytes, digests_of_words

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MIX = np.uint64(0x9E3779B97F4A7C15)
_TOP = np.uint64(56)
assert 1 << 64 - int(_TOP) == PARTS


def parts_of_keys(batch: pa.RecordBatch, keys: Sequence[str], level: int = 0) -> NDArray[np.int64]:
    """The part of each row, by its key columns, none of which is NULL; each level takes other bits of a digest."""
    mixed = np.zeros(batch.num_rows, np.uint64)
    for name in keys:
        mixed = mixed * _MIX + _digests(batch.column(name))
    part: NDArray[np.int64] = (mixed << np.uint64(8 * level) >> _TOP).astype(np.int64)
    return part


def numbered(rows: pa.Table, keys: Sequence[str]) -> tuple[NDArray[np.int64], pa.Table]:
    """A number for the key of each row, and the keys by their numbers."""
    if not keys:
        return np.zeros(rows.num_rows, np.int64), pa.table({"": pa.nulls(1)})
    coded = [rows.column(name).combine_chunks().dictionary_encode() for name in keys]
    coded = [each.combine_chunks() if isinstance(each, pa.ChunkedArray) else each for each in coded]
    codes = np.asarray(coded[0].indices).astype(np.int64)
    if len(coded) == 1:
        return codes, pa.table({keys[0]: coded[0].dictionary})
    for each in coded[1:]:
        # no more numbers than there are rows, so that the next column's do not make them too great
        codes = np.unique(codes * len(each.dictionary) + np.asarray(each.indices), return_inverse=True)[1]
    _, first, numbers = np.unique(codes, return_index=True, return_inverse=True)
    return numbers, rows.select(list(keys)).take(pa.array(first))


def _digests(column: pa.Array) -> NDArray[np.uint64]:
    if pa.types.is_string(column.type) or pa.types.is_binary(column.type):
        texts = column.cast(pa.large_binary())
        _, offsets, data = texts.buffers()
        ends = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
        return digests_of_bytes(ends, np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8))
    narrow = {pa.bool_(): pa.int8(), pa.date32(): pa.int32()}.get(column.type)
    numbers: Any = column if narrow is None else column.cast(narrow)
    return digests_of_words(np.asarray(numbers.cast(pa.int64())))
