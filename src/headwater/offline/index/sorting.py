"""Rows of a source in order of key and known_at: some keys after the others, the rows of all in a file meanwhile.

A key is a number here. Rows are parted by it as they come, and each part is sorted by one number of key and time.
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
_BITS = 63
_WIDTH = 4


@dataclass(frozen=True)
class Unsorted:
    """The rows of a source.

    Attributes:
        batches: key, event, created, ordinal, all of 64 bits and none NULL, in any order.
        keys: k0… of some keys.
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


def runs(rows: Unsorted, folder: Path) -> Iterator[Run]:
    """All rows, in runs that follow each other.

    Args:
        rows: the rows.
        folder: where a file without a name may take 32 bytes a row meanwhile.

    Raises:
        OSError: that file cannot be written or read.
    """
    parts = min(_PARTS, 1 << (rows.count // _PART).bit_length())
    with tempfile.TemporaryFile(dir=folder, buffering=0) if rows.count > _HELD else nullcontext() as file:
        pieces = _Pieces(file, parts)
        for batch in rows.batches():
            pieces.add(np.stack([np.asarray(batch.column(i), np.int64) for i in range(_WIDTH)], axis=1))
        for part in range(parts):
            if pieces.counts[part] > _SORTED:
                yield from _in_ranges(pieces, part, as_known=rows.as_known)
            elif pieces.counts[part]:
                found = pieces.take(part, pieces.counts[part])
                yield _run(np.concatenate(list(found)) if file is None else next(found), as_known=rows.as_known)


class _Pieces:
    """Rows by part, in memory or in a file.

    Attributes:
        counts: how many rows each part has.
    """

    def __init__(self, file: IO[bytes] | None, parts: int) -> None:
        self._file, self._parts, self._end = file, parts, 0
        self._pieces: list[list[Any]] = [[] for _ in range(parts)]
        self.counts = [0] * parts

    def add(self, rows: Ints) -> None:
        """Rows of any parts."""
        cuts = np.array([0, len(rows)])
        if self._parts > 1:
            part = (rows[:, 0] & (self._parts - 1)).astype(np.uint8)
            rows = np.take(rows, np.argsort(part, kind="stable"), axis=0)
            cuts = np.concatenate([[0], np.cumsum(np.bincount(part, minlength=self._parts))])
        for part_number, (begin, end) in enumerate(itertools.pairwise(cuts.tolist())):
            if begin < end:
                piece = (
                    rows[begin:end] if self._file is None else (self._end + begin * rows.itemsize * _WIDTH, end - begin)
                )
                self._pieces[part_number].append(piece)
                self.counts[part_number] += end - begin
        if self._file is not None:
            _all_of(self._file.write, rows)
            self._end += rows.nbytes

    def take(self, part: int, at_once: int) -> Iterator[Ints]:
        """The rows of a part; of a file so many at once, or as many more as were added together."""
        if self._file is None:
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
                self._file.seek(begin)
                _all_of(self._file.readinto, rows[at : at + count])  # type: ignore[attr-defined]
                at += count
            left -= size
            yield rows


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


def _in_ranges(pieces: _Pieces, part: int, *, as_known: bool) -> Iterator[Run]:
    """The runs of a part of too many rows for one: a few keys have most of them. Each run reads the part."""

    def both(rows: Ints) -> tuple[Ints, Ints]:
        return rows[:, 0], np.maximum(rows[:, 1], rows[:, 2]) if as_known else rows[:, 1]

    some = np.concatenate([rows[::_SAMPLED] for rows in pieces.take(part, _SORTED)])
    key, known = both(some)
    order = in_order(key, known)
    step = max(1, _SORTED // 2 // _SAMPLED)
    ends = [(int(key[i]), int(known[i])) for i in order[step::step]]
    # no row of a key and known_at stands apart from others of them
    ranges = list(itertools.pairwise([None, *dict.fromkeys(ends), None]))
    for number, (after, until) in enumerate(ranges):
        found = []
        for rows in pieces.take(part, _SORTED):
            key, known = both(rows)
            inside = np.ones(len(rows), np.bool_)
            if after is not None:
                inside &= (key > after[0]) | ((key == after[0]) & (known > after[1]))
            if until is not None:
                inside &= (key < until[0]) | ((key == until[0]) & (known <= until[1]))
            found.append(rows[inside])
        if any(len(rows) for rows in found):
            yield _run(np.concatenate(found), as_known=as_known, whole=number == len(ranges) - 1)


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
