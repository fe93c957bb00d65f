"""Buckets: keys divided into n parts by one stated hash, which NumPy and every engine's SQL compute alike.

The hash uses remainders of 64-bit integers alone, so that no engine overflows. Key by key, in order of name:
h = ((h + m) mod P) · F mod P, from h = 0, with P = 2^31 − 1 and F = 1,103,515,245. m is, of an integer, its remainder
by P (never negative); of a timestamp that of its microseconds, of a date that of its days, both since 1970; of a bool 0
or 1; of text and bytes the first seven hexadecimal digits of their MD5; of NULL 0. The bucket is h mod n.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from headwater.deferred import deferred
from headwater.errors import UsageError
from headwater.values import Value

hashlib = deferred("hashlib")

PRIME = 2**31 - 1
FACTOR = 1_103_515_245
DIGITS = 7
"""How many hexadecimal digits of an MD5 count."""
MOST = 1_000_000
"""Buckets there are at most."""


class Bucket(Value, frozen=True):
    """One of some parts of all keys.

    Attributes:
        index: which one, from 0.
        count: how many there are.
    """

    index: int
    count: int

    @staticmethod
    def of(given: Any) -> Bucket:
        """The bucket that a user names by (i, n).

        Raises:
            UsageError: anything else.
        """
        if isinstance(given, Bucket):
            return given
        pair = tuple(given) if isinstance(given, (tuple, list)) else ()
        whole = all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) for n in pair)
        if len(pair) != 2 or not whole or not 0 < pair[1] <= MOST or not 0 <= pair[0] < pair[1]:
            raise UsageError(
                f"bucket={given!r}: must be (i, n), part i of n, with 0 <= i < n and n at most {MOST:,}; "
                "the first is (0, n)"
            )
        return Bucket(int(pair[0]), int(pair[1]))


def members(columns: Sequence[pa.Array | pa.ChunkedArray], bucket: Bucket) -> NDArray[np.bool_]:
    """Which rows are in a bucket.

    Args:
        columns: at least one key column, in order of name.
        bucket: the bucket.
    """
    found: NDArray[np.bool_] = hashes(columns) % bucket.count == bucket.index
    return found


def hashes(columns: Sequence[pa.Array | pa.ChunkedArray]) -> NDArray[np.int64]:
    """The hash of each row's keys."""
    h = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        h = (h + _numbers(column)) % PRIME * FACTOR % PRIME
    return h


def _numbers(column: pa.Array | pa.ChunkedArray) -> NDArray[np.int64]:
    """M of each value."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
        kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_timestamp(kind) or pa.types.is_boolean(kind) or pa.types.is_date(kind):
        if pa.types.is_timestamp(kind):
            column = column.cast(pa.timestamp("us", kind.tz))
        elif pa.types.is_date64(kind):
            column = column.cast(pa.date32())
        if pa.types.is_date(kind):
            column = column.cast(pa.int32())
        remainders: NDArray[np.int64] = np.mod(np.asarray(pc.fill_null(column.cast(pa.int64()), 0)), PRIME)
        return remainders
    codes = column.dictionary_encode()
    if isinstance(codes, pa.ChunkedArray):
        codes = codes.unify_dictionaries().combine_chunks()
        codes = codes if isinstance(codes, pa.Array) else codes.chunk(0)
    of_values = [text_number(value) for value in codes.dictionary.to_pylist()]
    found: NDArray[np.int64] = np.array([*of_values, 0], np.int64)[
        np.asarray(pc.fill_null(codes.indices.cast(pa.int64()), len(of_values)))
    ]
    return found


def text_number(value: str | bytes) -> int:
    """M of a text, by its UTF-8, or of bytes."""
    data = value if isinstance(value, bytes) else value.encode()
    return int(hashlib.md5(data, usedforsecurity=False).hexdigest()[:DIGITS], 16)
