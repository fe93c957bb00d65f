"""Rows of a source in order of key and known_at: some keys after the others, the rows of all in a file meanwhile.

A key is a number here. Rows are parted by it as they come, and each part is sorted by one number of key and time. A
part that is too large for this, as few keys have most of its rows, is dealt once more: by key and time, into ranges.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Ints = NDArray[np.int64]

_PART = 40_000
"""Rows of a part, about: few enough that the processor's caches hold them."""
_PARTS = 256
_HELD = 2_000_000
"""Of more rows the parts are in a file until they are sorted."""
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
_WIDTH = 4


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
    """Rows in order of key and known_at.

    Attributes:
        key, known, event, created, ordinal: of each.
        whole: whether the last key has no more rows in the next run.
    """

    key: Ints
    known: Ints
    event: Ints
    created: Ints
    ordinal: Ints
    whole: bool


class Unsuitable(Exception):
    """No index can be made of these rows."""


def runs(rows: Unsorted, folder: Path) -> Iterator[Run]:
    """All rows, in runs that follow each other.

    Args:
        rows: the rows.
        folder: where a file without a name may take 32 bytes a row meanwhile; another, those of a part that few keys
            have most rows of.

    Raises:
        OSError: such a file cannot be written or read.
        Unsuitable: too many rows of a key become known at one time.
    """
    parts = min(_PARTS, 1 << (rows.count // _PART).bit_length())
    with _file(folder) if rows.count > _HELD else nullcontext() as file:
        pieces = _Pieces(file, parts)
        for batch in rows.batches():
            added = np.stack([np.asarray(batch.column(i), np.int64) for i in range(_WIDTH)], axis=1)
            pieces.add(added, (added[:, 0] & (parts - 1)).astype(np.uint8))
        for part in range(parts):
            if pieces.counts[part] > _SORTED:
                yield from _in_ranges(pieces, part, folder, as_known=rows.as_known)
            elif pieces.counts[part]:
                yield _run(pieces.all_of(part), as_known=rows.as_known)


def _file(folder: Path) -> IO[bytes]:
    return tempfile.TemporaryFile(dir=folder, buffering=0)


class _Pieces:
    """Rows by part, in memory or in a file.

    Attributes:
        file: where they are; None: in memory.
        counts: how many rows each part has.
    """

    def __init__(self, file: IO[bytes] | None, parts: int) -> None:
        self.file, self._parts, self._end = file, parts, 0
        self._pieces: list[list[Any]] = [[] for _ in range(parts)]
        self.counts = [0] * parts

    def add(self, rows: Ints, part: NDArray[Any]) -> None:
        """Rows of any parts, and the part of each."""
        cuts = np.array([0, len(rows)])
        if self._parts > 1:
            rows = np.take(rows, np.argsort(part, kind="stable"), axis=0)
            cuts = np.concatenate([[0], np.cumsum(np.bincount(part, minlength=self._parts))])
        for part_number, (begin, end) in enumerate(itertools.pairwise(cuts.tolist())):
            if begin < end:
                piece = (
                    rows[begin:end] if self.file is None else (self._end + begin * rows.itemsize * _WIDTH, end - begin)
                )
                self._pieces[part_number].append(piece)
                self.counts[part_number] += end - begin
        if self.file is not None:
            _all_of(self.file.write, rows)
            self._end += rows.nbytes

    def take(self, part: int, at_once: int) -> Iterator[Ints]:
        """The rows of a part; of a file so many at once, or as many more as were added together."""
        if self.file is None:
            yield from self._pieces[part]
            return
        waiting = iter(self._pieces[part])
        left = self.counts[part]
        while left:
            some, size = [], 0
            while size < min(left, at_once):
                some.append(next(waiting))
                size += some[-1][1]
            rows, at = np.empty((size, _WIDTH), np.int64), 0
            for begin, count in some:
                self.file.seek(begin)
                _all_of(self.file.readinto, rows[at : at + count])  # type: ignore[attr-defined]
                at += count
            left -= size
            yield rows

    def all_of(self, part: int) -> Ints:
        """The rows of a part that has some."""
        found = self.take(part, self.counts[part])
        return np.concatenate(list(found)) if self.file is None else next(found)


def _all_of(move: Callable[[memoryview], int | None], rows: Ints) -> None:
    """Read or write all bytes of some rows; a file without a buffer may take or give fewer at once."""
    left = rows.data.cast("B")
    while len(left):
        done = move(left)
        if not done:
            raise OSError(f"a temporary file ends {len(left)} bytes early")
        left = left[done:]


def _run(rows: Ints, *, as_known: bool, whole: bool = True) -> Run:
    key, event, created, ordinal = (np.ascontiguousarray(rows[:, i]) for i in range(_WIDTH))
    known = np.maximum(event, created) if as_known else event
    order = in_order(key, known)
    return Run(key[order], known[order], event[order], created[order], ordinal[order], whole)


def _both(rows: Ints, as_known: bool) -> tuple[Ints, Ints]:
    """Key and known_at of rows."""
    return rows[:, 0].copy(), np.maximum(rows[:, 1], rows[:, 2]) if as_known else rows[:, 1].copy()


def _in_ranges(pieces: _Pieces, part: int, folder: Path, *, as_known: bool) -> Iterator[Run]:
    """The runs of a part of too many rows for one: it is read twice, whatever it has, and written once."""
    ends = _ends(pieces, part, as_known)
    number_type = np.min_scalar_type(len(ends[0]))
    with _file(folder) if pieces.file is not None else nullcontext() as file:
        ranges = _Pieces(file, len(ends[0]) + 1)
        for rows in pieces.take(part, _DEALT):
            ranges.add(rows, _before(ends, _both(rows, as_known)).astype(number_type))
        if max(ranges.counts) > _TOGETHER:
            raise Unsuitable("too many rows of a key become known at one time")
        there = [number for number, count in enumerate(ranges.counts) if count]
        for number in there:
            yield _run(ranges.all_of(number), as_known=as_known, whole=number == there[-1])


def _ends(pieces: _Pieces, part: int, as_known: bool) -> tuple[Ints, Ints]:
    """The last key and known_at of each range but the last one, of a part cut into ranges of half a run, about."""
    one_of = max(_SAMPLED, pieces.counts[part] // _SAMPLE)
    # not each so-manieth: rows may repeat in the same way
    chance = np.random.default_rng(0)
    some = [rows[chance.integers(0, len(rows), -(-len(rows) // one_of))] for rows in pieces.take(part, _DEALT)]
    key, known = _both(np.concatenate(some), as_known)
    step = max(1, _SORTED // 2 // one_of)
    at = in_order(key, known)[step::step]
    key, known = key[at], known[at]
    # no row of a key and known_at stands apart from others of them
    new = np.ones(len(at), np.bool_)
    new[1:] = (key[1:] != key[:-1]) | (known[1:] != known[:-1])
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
    if not len(major):
        return np.zeros(0, np.int64)
    first, least = int(major.min()), int(minor.min())
    bits = (int(minor.max()) - least).bit_length()
    if (int(major.max()) - first).bit_length() + bits > _BITS:
        major, first = np.unique(major, return_inverse=True)[1].astype(np.int64), 0
    if (int(major.max()) - first).bit_length() + bits > _BITS:
        return np.lexsort((minor, major))
    return np.argsort(((major - first) << bits) | (minor - least))
