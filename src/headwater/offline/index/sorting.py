"""Rows of a source in order of key and known_at: some keys after the others, all of them held in pieces meanwhile.

A key is a number here. Rows are parted by it as they come, and each part is sorted by one number of key and time. A
part that is too large for this, as few keys have most of its rows, is dealt once more: by key and time, into ranges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from headwater.offline.index.pieces import HELD, WIDTH, Flags, Ints, Pieces

_PART = 40_000
"""Rows of a part, about: few enough that the processor's caches hold them."""
_PARTS = 256
_SORTED = 2_000_000
"""So many rows are sorted at once."""
_SAMPLED = 16
_SAMPLE = 1_000_000
"""Where a part is cut follows from one of so many of its rows, and from so many in all at most."""
_DEALT = 500_000
"""So many rows are dealt at once."""
_TOGETHER = 4_000_000
"""Rows of a key that become known at one time are sorted together; of sources with more of them no index is made."""
_BITS = 63


@dataclass(frozen=True)
class Unsorted:
    """The rows of a source.

    Attributes:
        batches: key, event, created, ordinal, all of 64 bits and none NULL, in any order.
        keys: k0… of some keys; asked once all batches were read, for some keys after the others.
        count: how many rows there are, about.
        as_known: whether a row counts from its created time on, where that is later than its event time.
    """

    batches: Callable[[], Iterable[pa.RecordBatch]]
    keys: Callable[[Ints], pa.Table]
    count: int
    as_known: bool


@dataclass(frozen=True)
class Run:
    """Rows, and their order by key and known_at.

    Attributes:
        key, known, event, created, ordinal: of each row, in no order.
        order: the rows in order.
        new_key: whether the key of a row is another than that of the row before it in order; the first one's is.
        new_time: whether its key or known_at is.
        whole: whether the last key has no more rows in the next run.
    """

    key: Ints
    known: Ints
    event: Ints
    created: Ints
    ordinal: Ints
    order: Ints
    new_key: Flags
    new_time: Flags
    whole: bool


class Unsuitable(Exception):
    """No index can be made of these rows."""


def runs(rows: Unsorted, folder: Path) -> Iterator[Run]:
    """All rows, in runs that follow each other.

    Args:
        rows: the rows.
        folder: where a file without a name may take 32 bytes a row meanwhile, of rows beyond those that `HELD` bytes
            hold; another, those of a part that few keys have most rows of.

    Raises:
        OSError: such a file cannot be written or read.
        Unsuitable: too many rows of a key become known at one time.
    """
    parts = min(_PARTS, 1 << (rows.count // _PART).bit_length())
    with Pieces(parts, folder, HELD) as pieces:
        for batch in rows.batches():
            if batch.num_rows:
                columns = [np.asarray(batch.column(i), np.int64) for i in range(WIDTH)]
                pieces.add(columns, columns[0] & (parts - 1))
        pieces.deal()
        for part in range(parts):
            if pieces.counts[part] > _SORTED:
                yield from _in_ranges(pieces, part, folder, as_known=rows.as_known)
            elif pieces.counts[part]:
                yield _run(pieces.all_of(part), as_known=rows.as_known)


def _run(rows: Ints, *, as_known: bool, whole: bool = True) -> Run:
    key, event, created, ordinal = rows
    known = np.maximum(event, created) if as_known else event
    return Run(key, known, event, created, ordinal, *_in_order(key, known), whole)


def _both(rows: Ints, as_known: bool) -> tuple[Ints, Ints]:
    """Key and known_at of rows."""
    return rows[0], np.maximum(rows[1], rows[2]) if as_known else rows[1]


def _in_ranges(pieces: Pieces, part: int, folder: Path, *, as_known: bool) -> Iterator[Run]:
    """The runs of a part of too many rows for one: it is read twice, whatever it has, and written once."""
    ends = _ends(pieces, part, as_known)
    with Pieces(len(ends[0]) + 1, folder, HELD - pieces.held) as ranges:
        for rows in pieces.take(part, _DEALT):
            ranges.add(list(rows), _before(ends, _both(rows, as_known)))
        ranges.deal()
        if max(ranges.counts) > _TOGETHER:
            raise Unsuitable("too many rows of a key become known at one time")
        there = [number for number, count in enumerate(ranges.counts) if count]
        for number in there:
            yield _run(ranges.all_of(number), as_known=as_known, whole=number == there[-1])


def _ends(pieces: Pieces, part: int, as_known: bool) -> tuple[Ints, Ints]:
    """The last key and known_at of each range but the last one, of a part cut into ranges of half a run, about."""
    one_of = max(_SAMPLED, int(pieces.counts[part]) // _SAMPLE)
    # not each so-manieth: rows may repeat in the same way
    chance = np.random.default_rng(0)
    some = [
        rows[:, chance.integers(0, rows.shape[1], -(-rows.shape[1] // one_of))] for rows in pieces.take(part, _DEALT)
    ]
    key, known = _both(np.concatenate(some, axis=1), as_known)
    step = max(1, _SORTED // 2 // one_of)
    at = in_order(key, known)[step::step]
    key, known = key[at], known[at]
    # no row of a key and known_at stands apart from others of them
    new = _differs(key) | _differs(known)
    return key[new], known[new]


def _before(ends: tuple[Ints, Ints], pairs: tuple[Ints, Ints]) -> Ints:
    """How many of some pairs in order are less than each of others: `searchsorted` of pairs."""
    (end_major, end_minor), (major, minor) = ends, pairs
    count = np.zeros(len(major), np.int64)
    for bit in reversed(range(len(end_major).bit_length())):
        more = count + (1 << bit)
        last = np.minimum(more, len(end_major)) - 1
        less = (end_major[last] < major) | ((end_major[last] == major) & (end_minor[last] < minor))
        count = np.where(less & (more <= len(end_major)), more, count)
    return count


def in_order(major: Ints, minor: Ints) -> Ints:
    """The positions of pairs in order of the first, then the second number."""
    both, _ = _one_number(major, minor)
    return np.lexsort((minor, major)) if both is None else np.argsort(both)


def _in_order(major: Ints, minor: Ints) -> tuple[Ints, Flags, Flags]:
    """The positions of pairs in order, and whether the first number, and whether any, differs from the last pair's."""
    both, bits = _one_number(major, minor)
    if both is None:
        order = np.lexsort((minor, major))
        new_major = _differs(major[order])
        return order, new_major, new_major | _differs(minor[order])
    order = np.argsort(both)
    both = both[order]
    return order, _differs(both >> bits), _differs(both)


def _one_number(major: Ints, minor: Ints) -> tuple[Ints | None, int]:
    """Pairs as single numbers of the same order, and how many bits the second one takes; None: they do not fit."""
    if not len(major):
        return major, 0
    first, least = int(major.min()), int(minor.min())
    bits = (int(minor.max()) - least).bit_length()
    if (int(major.max()) - first).bit_length() + bits > _BITS:
        major, first = np.unique(major, return_inverse=True)[1].astype(np.int64), 0
    if (int(major.max()) - first).bit_length() + bits > _BITS:
        return None, bits
    both = major - first
    both <<= bits
    both |= minor - least
    return both, bits


def _differs(values: Ints) -> Flags:
    """Whether each value is another than the one before it; the first is."""
    new = np.ones(len(values), np.bool_)
    np.not_equal(values[1:], values[:-1], out=new[1:])
    return new
