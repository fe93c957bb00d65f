"""Bytes of many small records of a few numbers each, written at once as `packing` writes them one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]
    Octets = NDArray[np.uint8]

_SEVEN, _LOW, _MORE = np.uint64(7), np.uint64(0x7F), np.uint8(0x80)


class Fixed(NamedTuple):
    """A field of few bytes a record.

    Attributes:
        octets: a row a record.
        sizes: how many of them count.
    """

    octets: Octets
    sizes: Ints


class Varied(NamedTuple):
    """A field whose bytes are elsewhere.

    Attributes:
        data: all of them.
        starts: where each record's begin.
        sizes: how many there are.
    """

    data: Octets
    starts: Ints
    sizes: Ints


def numbers(given: NDArray[Any], there: NDArray[np.bool_] | None = None) -> Fixed:
    """As `packing.put_number` writes them.

    Args:
        given: whole numbers that are not negative.
        there: the records that have the field; None: all.
    """
    left = given.astype(np.uint64)
    sizes = np.ones(len(left), np.int64)
    octets = []
    while True:
        octets.append((left & _LOW).astype(np.uint8))
        left >>= _SEVEN
        more = left != 0
        if not more.any():
            break
        octets[-1] |= np.where(more, _MORE, np.uint8(0))
        sizes += more
    if there is not None:
        sizes = np.where(there, sizes, 0)
    return Fixed(np.stack(octets, 1), sizes)


def signed(given: Ints) -> Fixed:
    """As `packing.put_signed` writes them."""
    return numbers(((given << np.int64(1)) ^ (given >> np.int64(63))).view(np.uint64))


def plain(given: NDArray[Any], there: NDArray[np.bool_] | None = None) -> Fixed:
    """Numbers as they are.

    Args:
        given: in the form in which they are stored.
        there: the records that have the field; None: all.
    """
    width = given.itemsize
    sizes = np.full(len(given), width, np.int64) if there is None else width * there.astype(np.int64)
    return Fixed(np.ascontiguousarray(given).view(np.uint8).reshape(-1, width), sizes)


def differences(given: Ints, first: NDArray[np.bool_]) -> Ints:
    """Each number less the one before it; those that are the first of their kind as they are."""
    before = np.zeros_like(given)
    before[1:] = given[:-1]
    return given - np.where(first, 0, before)


def joined(fields: Sequence[Fixed | Varied]) -> tuple[bytes, Ints]:
    """The records with their fields one after another.

    Returns:
        The bytes of all, and where each record begins, with where the last ends.
    """
    sizes = np.sum([field.sizes for field in fields], axis=0)
    ends = np.concatenate(([0], np.cumsum(sizes))).astype(np.int64)
    to = np.empty(int(ends[-1]), np.uint8)
    at = ends[:-1].copy()
    for field in fields:
        if isinstance(field, Fixed):
            for i in range(field.octets.shape[1]):
                there = field.sizes > i
                if there.all():
                    to[at + i] = field.octets[:, i]
                else:
                    to[at[there] + i] = field.octets[there, i]
        else:
            _copy(field, at, to)
        at += field.sizes
    return to.tobytes(), ends


def _copy(field: Varied, at: Ints, to: Octets) -> None:
    inside = np.arange(int(field.sizes.sum())) - np.repeat(np.cumsum(field.sizes) - field.sizes, field.sizes)
    to[np.repeat(at, field.sizes) + inside] = field.data[np.repeat(field.starts, field.sizes) + inside]
