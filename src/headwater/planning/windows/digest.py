"""The digest of `count_distinct`: XXH64 with seed 0 (https://xxhash.com), the same on every road.

Over integers, bools, dates (days) and timestamps (microseconds) as 8 bytes, little-endian; over floats as the 8 bytes
of their double (−0.0 as 0.0, one NaN); over text as UTF-8; over bytes as they are.

`digests_of_words` does the 8-byte values of whole columns; text of whole columns goes by its distinct values.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

MASK = (1 << 64) - 1
BITS = 64
_P1, _P2, _P3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
_P4, _P5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5
_STRIPE = struct.Struct("<4Q")
_WORD = struct.Struct("<Q")
_SIGNED = struct.Struct("<q")
_DOUBLE = struct.Struct("<d")
_HALF = struct.Struct("<I")
_NAN = bytes.fromhex("000000000000f87f")


def digest(value: Any) -> int:
    """The 64-bit digest of a scalar in its stored form (`values.stored_form`)."""
    return xxh64(digested_bytes(value))


def digested_bytes(value: Any) -> bytes:
    """The bytes that the digest of a scalar is over."""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, float):
        return _NAN if value != value else _DOUBLE.pack(value + 0.0)
    return value if isinstance(value, bytes) else _SIGNED.pack(value)


def leading_zeros(number: int) -> int:
    """With how many zero bits a digest begins."""
    return BITS - number.bit_length()


def xxh64(data: bytes) -> int:
    """XXH64 of bytes, seed 0."""
    length, start = len(data), 0
    if length >= 32:
        lanes = [(_P1 + _P2) & MASK, _P2, 0, -_P1 & MASK]
        for start in range(0, length - 31, 32):
            lanes = [_round(lane, word) for lane, word in zip(lanes, _STRIPE.unpack_from(data, start), strict=True)]
        start += 32
        acc = sum(_rotate(lane, bits) for lane, bits in zip(lanes, (1, 7, 12, 18), strict=True)) & MASK
        for lane in lanes:
            acc = ((acc ^ _round(0, lane)) * _P1 + _P4) & MASK
    else:
        acc = _P5
    acc = (acc + length) & MASK
    while start + 8 <= length:
        acc = (_rotate(acc ^ _round(0, _WORD.unpack_from(data, start)[0]), 27) * _P1 + _P4) & MASK
        start += 8
    if start + 4 <= length:
        acc = (_rotate(acc ^ (_HALF.unpack_from(data, start)[0] * _P1 & MASK), 23) * _P2 + _P3) & MASK
        start += 4
    for byte in data[start:]:
        acc = _rotate(acc ^ (byte * _P5 & MASK), 11) * _P1 & MASK
    acc = (acc ^ acc >> 33) * _P2 & MASK
    acc = (acc ^ acc >> 29) * _P3 & MASK
    return acc ^ acc >> 32


def _round(acc: int, word: int) -> int:
    return _rotate((acc + word * _P2) & MASK, 31) * _P1 & MASK


def _rotate(number: int, bits: int) -> int:
    return (number << bits | number >> BITS - bits) & MASK


def digests_of_words(words: NDArray[Any]) -> NDArray[np.uint64]:
    """`digest` of each 8-byte value of a column: int64 or float64 in its stored form."""
    if words.dtype.kind == "f":
        # one NaN, no negative zero
        words = np.where(np.isnan(words), np.frombuffer(_NAN, "<f8"), words + 0.0)
    given = np.ascontiguousarray(words, dtype=words.dtype.newbyteorder("<")).view(np.uint64)
    p1, p2 = np.uint64(_P1), np.uint64(_P2)
    rounded = _turned(given * p2, 31) * p1
    acc = _turned(np.uint64((_P5 + 8) & MASK) ^ rounded, 27) * p1 + np.uint64(_P4)
    acc = (acc ^ acc >> np.uint64(33)) * p2
    acc = (acc ^ acc >> np.uint64(29)) * np.uint64(_P3)
    result: NDArray[np.uint64] = acc ^ acc >> np.uint64(32)
    return result


def _turned(numbers: NDArray[np.uint64], bits: int) -> NDArray[np.uint64]:
    return numbers << np.uint64(bits) | numbers >> np.uint64(BITS - bits)


def digests_of_rows(rows: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """XXH64 of each row of a matrix of bytes, seed 0."""
    count, length = rows.shape
    padded = np.zeros((count, -(-length // 8) * 8), np.uint8)
    padded[:, :length] = rows
    words = padded.view("<u8").astype(np.uint64)
    acc, word = np.full(count, _P5, np.uint64), 0
    if length >= 32:
        lanes = [np.full(count, seed & MASK, np.uint64) for seed in (_P1 + _P2, _P2, 0, -_P1)]
        for word in range(0, length // 32 * 4, 4):
            lanes = [_rounds(lane, words[:, word + i]) for i, lane in enumerate(lanes)]
        word += 4
        acc = np.zeros(count, np.uint64)
        for lane, bits in zip(lanes, (1, 7, 12, 18), strict=True):
            acc = acc + _turned(lane, bits)
        for lane in lanes:
            acc = (acc ^ _rounds(np.zeros(count, np.uint64), lane)) * np.uint64(_P1) + np.uint64(_P4)
    acc = acc + np.uint64(length)
    for left in range(word, length // 8):
        acc = _turned(acc ^ _rounds(np.zeros(count, np.uint64), words[:, left]), 27) * np.uint64(_P1) + np.uint64(_P4)
    start = length // 8 * 8
    if start + 4 <= length:
        half = padded[:, start : start + 4].copy().view("<u4").astype(np.uint64)[:, 0]
        acc = _turned(acc ^ half * np.uint64(_P1), 23) * np.uint64(_P2) + np.uint64(_P3)
        start += 4
    for byte in range(start, length):
        acc = _turned(acc ^ padded[:, byte].astype(np.uint64) * np.uint64(_P5), 11) * np.uint64(_P1)
    acc = (acc ^ acc >> np.uint64(33)) * np.uint64(_P2)
    acc = (acc ^ acc >> np.uint64(29)) * np.uint64(_P3)
    result: NDArray[np.uint64] = acc ^ acc >> np.uint64(32)
    return result


def _rounds(acc: NDArray[np.uint64], words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    return _turned(acc + words * np.uint64(_P2), 31) * np.uint64(_P1)


def digests_of_bytes(
    offsets: NDArray[np.int64], data: NDArray[np.uint8], before: NDArray[np.uint8] | None = None
) -> NDArray[np.uint64]:
    """XXH64 of each of many byte strings, those of one length at once.

    Args:
        offsets: where each begins in `data`, and where the last ends.
        data: the bytes.
        before: a row of bytes to stand before each; None: nothing.
    """
    lengths = np.diff(offsets)
    found = np.zeros(len(lengths), np.uint64)
    for length in np.unique(lengths):
        for chunk in _pieces(np.flatnonzero(lengths == length)):
            rows = data[offsets[chunk][:, None] + np.arange(length)]
            found[chunk] = digests_of_rows(rows if before is None else np.concatenate([before[chunk], rows], axis=1))
    return found


def _pieces(indexes: NDArray[np.int64], size: int = 65_536) -> list[NDArray[np.int64]]:
    return [indexes[start : start + size] for start in range(0, len(indexes), size)]
