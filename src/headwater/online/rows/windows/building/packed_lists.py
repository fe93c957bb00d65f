"""Lists of many keys as they are stored, written at once; `codec` says what their bytes are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from headwater.online.rows.windows.building.events import Records
from headwater.online.rows.windows.building.numbers import Numbers, States
from headwater.online.rows.windows.list_bytes import (
    LIFETIME,
    LIST_HEAD,
    MOST_NARROW,
    MOST_RECORDS,
    TIME,
    aligned,
    pack_list,
)
from headwater.online.rows.windows.lists import RowList

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headwater.planning.windows.layout import ListLayout

    Ints = NDArray[np.int64]
    Mask = NDArray[np.bool_]

EMPTY = LIST_HEAD.pack(0, 0)
"""A list of no events."""


def packed_numbers(layout: ListLayout, states: States, living: Ints, step: int) -> list[bytes]:
    """The list of each key.

    Args:
        layout: the list's.
        states: the states.
        living: the keys that have a lifetime.
        step: what boundaries are multiples of.
    """
    records = states.records
    keys, counts = len(records.firsts) - 1, records.counts
    life = np.zeros(keys, np.int64)
    life[living] = 1
    some, first, distances = steps_of(records, step)
    both = counts + life
    wide = np.full(keys, LIST_HEAD.size, np.int64) + 8 * some
    steps = wide + 8 * len(states.wide) * both
    narrow = steps + 4 * counts
    width = states.narrow[0].records.itemsize if states.narrow else 0
    sizes = narrow + width * both
    sizes += -sizes % 8
    base = np.cumsum(sizes) - sizes
    to = np.zeros(int(sizes.sum()), np.uint8)
    to.view(np.uint32)[base >> 2] = (life * LIFETIME | (counts & MOST_RECORDS) << 16).astype(np.uint32)
    to.view(np.int64)[(base[some] >> 3) + 1] = first[some]
    inside = np.arange(len(records.key)) - records.firsts[records.key]
    to.view(np.uint32)[((base + steps) >> 2)[records.key] + inside] = distances.astype(np.uint32)
    for i, numbers in enumerate(states.wide):
        begins = (base + wide) // 8 + i * both
        _put(to.view(numbers.records.dtype), begins, numbers, records, living, counts, inside)
    for numbers in states.narrow:
        _put(to.view(numbers.records.dtype), (base + narrow) // width, numbers, records, living, counts, inside)
    data, ends = to.tobytes(), (base + sizes).tolist()
    lists = [data[start:end] for start, end in zip(base.tolist(), ends, strict=True)]
    for key in odd_keys(records, counts, distances, states.odd):
        lists[key] = _by_itself(layout, states, living, int(key), step)
    return lists


def steps_of(records: Records, step: int) -> tuple[Mask, Ints, Ints]:
    """Which keys have records, the first boundary of each key, and of each record its distance from that, in steps."""
    some = records.counts > 0
    first = np.zeros(len(some), np.int64)
    first[some] = records.boundary[records.firsts[:-1][some]]
    return some, first, (records.boundary - first[records.key]) // step


def odd_keys(records: Records, counts: Ints, distances: Ints, odd: Ints) -> Ints:
    """The keys whose lists do not have the usual form."""
    return np.unique(np.concatenate((records.key[distances > MOST_NARROW], np.flatnonzero(counts > MOST_RECORDS), odd)))


def _put(
    to: NDArray[Any], begins: Ints, numbers: Numbers, records: Records, living: Ints, counts: Ints, inside: Ints
) -> None:
    to[begins[records.key] + inside] = numbers.records
    if len(living):
        to[begins[living] + counts[living]] = numbers.lifetimes


def _by_itself(layout: ListLayout, states: States, living: Ints, key: int, step: int) -> bytes:
    records = states.records
    own = range(int(records.firsts[key]), int(records.firsts[key + 1]))
    made = RowList(records.boundary[own.start : own.stop].tolist(), [states.state(i, False) for i in own])
    place = int(np.searchsorted(living, key))
    if place < len(living) and living[place] == key:
        made.lifetime = states.state(place, True)
    return pack_list(layout, made, step)


class Pieces(NamedTuple):
    """States of a list that are pieces of bytes: of each key those of its records, then its lifetime's.

    Attributes:
        data: the pieces, one after another.
        ends: where each begins, and where the last ends.
    """

    data: bytes
    ends: Ints


def packed_pieces(records: Records, living: Ints, pieces: Pieces, step: int) -> list[bytes]:
    """The list of each key.

    Args:
        records: which there are; of lists that are kept whole one without a boundary.
        living: the keys that have a lifetime.
        pieces: the states.
        step: what boundaries are multiples of.
    """
    keys, counts = len(records.firsts) - 1, records.counts
    life = np.zeros(keys, np.int64)
    life[living] = LIFETIME
    firsts = np.concatenate(([0], np.cumsum(counts + (life > 0))))
    each = pieces.ends[firsts]
    sizes = (pieces.ends[1:] - np.repeat(each[:-1], np.diff(firsts))).astype(np.uint32).tobytes()
    boundaries, distances = [b""] * keys, b""
    if len(records.boundary):
        some, first, steps = steps_of(records, step)
        distances = steps.astype(np.uint32).tobytes()
        boundaries = [
            TIME.pack(time) if there else b"" for time, there in zip(first.tolist(), some.tolist(), strict=True)
        ]
    lists, data = [], pieces.data
    facts = (life, counts, records.firsts[:-1], firsts[:-1], firsts[1:], each[:-1], each[1:])
    for key, (flags, count, record, low, high, start, end) in enumerate(
        zip(*(fact.tolist() for fact in facts), strict=True)
    ):
        if low == high:
            lists.append(EMPTY)
            continue
        made = b"".join(
            (
                LIST_HEAD.pack(flags, count),
                boundaries[key],
                distances[4 * record : 4 * (record + count)],
                sizes[4 * low : 4 * high],
                data[start:end],
            )
        )
        lists.append(made + aligned(len(made)))
    return lists
