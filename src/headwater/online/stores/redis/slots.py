"""The slots of a Redis Cluster: that of a key, sets of them, and the one in which a shard keeps what is beside rows.

What is kept beside rows is on every shard, in a hash in one of its slots: the lowest of a few fixed ones, so that it
is found again after slots have moved.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

from headwater.online.rows.keys import META_PREFIX

SLOTS = 16_384
ALL_SLOTS = (1 << SLOTS) - 1
"""Sets of slots are numbers whose bits are the slots."""
META_SLOTS = tuple(range(0, SLOTS, 256))
"""Where entries beside rows are kept, where a shard has one of these."""


def slot_of(key: bytes) -> int:
    """The slot of a key; what stands between the first braces, where there is anything, decides alone."""
    start = key.find(b"{")
    if start >= 0:
        end = key.find(b"}", start + 1)
        if end > start + 1:
            key = key[start + 1 : end]
    return binascii.crc_hqx(key, 0) % SLOTS


@lru_cache(maxsize=1024)
def tag_of(slot: int) -> bytes:
    """A text between braces that belongs to a slot."""
    number = 0
    while binascii.crc_hqx(b"%d" % number, 0) % SLOTS != slot:
        number += 1
    return b"{%d}" % number


def slot_set(ranges: Iterable[Sequence[int]]) -> int:
    """The set of some ranges, their ends included."""
    slots = 0
    for start, end in ranges:
        slots |= (1 << end + 1) - (1 << start)
    return slots


def slot_ranges(slots: int) -> Iterator[tuple[int, int]]:
    """The ranges of a set, their ends included."""
    at = 0
    while slots:
        skipped = (slots & -slots).bit_length() - 1
        slots >>= skipped
        count = (~slots & (slots + 1)).bit_length() - 1
        yield at + skipped, at + skipped + count - 1
        slots >>= count
        at += skipped + count


_META_SET = slot_set((slot, slot) for slot in META_SLOTS)


def meta_slot(slots: int) -> int:
    """The slot in which a shard with these slots keeps what it has beside rows."""
    fixed = slots & _META_SET or slots
    return (fixed & -fixed).bit_length() - 1


def meta_hash(slot: int) -> bytes:
    """The hash in which a shard keeps its entries beside rows: field by field under their keys."""
    return tag_of(slot) + META_PREFIX + b"entries"
