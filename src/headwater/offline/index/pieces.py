"""Rows of a source by part, in 16 bytes each where they fit: in memory up to a bound, the others in a file."""

from __future__ import annotations

import itertools
import mmap
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
_Words = NDArray[np.uint64]

WIDTH = 4
"""Columns of a row: key, event, created, ordinal."""
HELD = 256_000_000
"""Bytes of rows that are held in memory at most; those that come later are in a file until they are sorted."""
_DEALT = 390_000
"""So many rows are dealt to their parts at once, about: their arrays stay below 4 MB, from which on NumPy asks for huge
pages, and these cost several times as much to come by."""
_WORD = 64


@dataclass(frozen=True)
class _Form:
    """How rows are two words: key, event time, delay and ordinal one behind the other, each as a distance from a base.

    The delay is from event to created time. What of the event time does not fit the first word is in the second.

    Attributes:
        bits: of each of the four.
    """

    bits: tuple[int, ...]

    @property
    def _shifts(self) -> tuple[int, int, int]:
        """Where in the second word the event time's upper part ends, and the delay; and where the first part begins."""
        key, event, delay, _ = self.bits
        upper = max(0, event - (_WORD - key))
        return upper, upper + delay, _WORD - key

    def pack(self, columns: Sequence[Ints], bases: Sequence[int], words: Sequence[_Words]) -> None:
        """Write rows, by column, as words."""
        key, event, created, ordinal = columns
        upper, delayed, begin = self._shifts
        time = _distance(event, bases[1])
        first, second = words
        np.left_shift(time, _amount(self.bits[0]), out=first)
        first |= _distance(key, bases[0])
        np.left_shift(_distance(ordinal, bases[3]), _amount(delayed), out=second)
        second |= _distance(created - event, bases[2]) << _amount(upper)
        if upper:
            second |= time >> _amount(begin)

    def unpack(self, words: Sequence[_Words], bases: Sequence[Ints | int], columns: Ints) -> None:
        """Write words as rows, by column."""
        upper, delayed, begin = self._shifts
        key, event, created, ordinal = columns.view(np.uint64)
        first, second = words
        np.bitwise_and(first, _mask(self.bits[0]), out=key)
        np.right_shift(first, _amount(self.bits[0]), out=event)
        if upper:
            event |= second << _amount(begin)
            event &= _mask(self.bits[1])
        np.right_shift(second, _amount(upper), out=created)
        created &= _mask(self.bits[2])
        np.right_shift(second, _amount(delayed), out=ordinal)
        for column, base in zip(columns, bases, strict=True):
            column += base
        columns[2] += columns[1]


def _form_of(columns: Sequence[Sequence[Ints]], last: _Form | None) -> tuple[_Form | None, tuple[int, ...]]:
    """The form of some rows, of which each column comes in pieces, and its bases; None where they do not fit two words.

    It has as many bits as the last one where that fits too: rows of one form are unpacked together.
    """
    delays = [created - event for event, created in zip(columns[1], columns[2], strict=True)]
    ranges = [_range(column) for column in columns]
    if max(abs(end) for times in ranges[1:3] for end in times) >= 1 << 62:
        return None, ()  # the delay may not be a number of 64 bits
    ranges[2] = _range(delays)
    bits = tuple((most - least).bit_length() for least, most in ranges)
    if max(bits) >= _WORD - 1 or sum(bits) > 2 * _WORD:
        return None, ()
    if last is not None:
        more = tuple(map(max, bits, last.bits))
        bits = more if sum(more) <= 2 * _WORD else bits
    return _Form(bits), tuple(least for least, _ in ranges)


def _range(column: Sequence[Ints]) -> tuple[int, int]:
    return min(int(some.min()) for some in column), max(int(some.max()) for some in column)


def _distance(values: Ints, base: int) -> _Words:
    return (values - base).view(np.uint64)


def _amount(bits: int) -> np.uint64:
    return np.uint64(bits)


def _mask(bits: int) -> np.uint64:
    return np.uint64((1 << bits) - 1)


@dataclass(frozen=True)
class _Piece:
    """Rows of one part that were dealt together.

    Attributes:
        form, bases: of their words; None: four columns of whole numbers.
        count: how many rows.
        words: in memory; None: in the file.
        places: where in the file each word or column begins.
    """

    form: _Form | None
    bases: tuple[int, ...]
    count: int
    words: Sequence[NDArray[Any]] | None
    places: Sequence[int]


class Pieces:
    """Rows by part.

    Args:
        parts: how many parts there are.
        folder: of the file without a name for what is not held.
        held: how many bytes are held in memory at most.

    Attributes:
        counts: how many rows each part has, of those that were dealt.
        held: how many bytes of rows are in memory.
    """

    def __init__(self, parts: int, folder: Path, held: int) -> None:
        self.counts = np.zeros(parts, np.int64)
        self.held = 0
        self._folder, self._most = folder, held
        self._file: IO[bytes] | None = None
        self._end = 0
        self._pieces: list[list[_Piece]] = [[] for _ in range(parts)]
        self._number_type = np.min_scalar_type(max(0, parts - 1))
        self._waiting: list[Sequence[Ints]] = []
        self._part: list[NDArray[Any]] = []
        self._words = np.zeros((2, 0), np.uint64)
        self._form: _Form | None = None

    def __enter__(self) -> Pieces:
        return self

    def __exit__(self, *exc: object) -> None:
        self._pieces.clear()
        if self._file is not None:
            self._file.close()

    def add(self, columns: Sequence[Ints], part: NDArray[Any]) -> None:
        """Some rows of any parts, by column, and the part of each."""
        self._waiting.append(columns)
        self._part.append(part.astype(self._number_type))
        if sum(map(len, self._part)) >= _DEALT:
            self.deal()

    def deal(self) -> None:
        """Give the rows that were added to their parts."""
        if not self._part:
            return
        part = np.concatenate(self._part)
        columns = list(zip(*self._waiting, strict=True))
        self._waiting, self._part = [], []
        form, bases = _form_of(columns, self._form)
        words: Sequence[NDArray[Any]]
        if form is None:
            words = [np.concatenate(column) for column in columns]
        else:
            self._form = form
            words = self._packed(form, bases, columns, len(part))
        order = np.argsort(part, kind="stable")
        size = sum(word.nbytes for word in words)
        sorted_words = _memory(len(words), len(part), words[0].dtype)
        for word, into in zip(words, sorted_words, strict=True):
            np.take(word, order, out=into, mode="clip")  # "raise" would make a copy
        words = list(sorted_words)
        counts = np.bincount(part, minlength=len(self.counts))
        self.counts += counts
        held = self.held + size <= self._most
        for number, (begin, end) in enumerate(itertools.pairwise([0, *np.cumsum(counts).tolist()])):
            if begin < end:
                places = [self._end + (i * len(part) + begin) * 8 for i in range(len(words))]
                some = [word[begin:end] for word in words] if held else None
                self._pieces[number].append(_Piece(form, bases, end - begin, some, places))
        if held:
            self.held += size
        else:
            self._write(words)

    def _packed(
        self, form: _Form, bases: Sequence[int], columns: Sequence[Sequence[Ints]], count: int
    ) -> Sequence[_Words]:
        if self._words.shape[1] < count:
            self._words = np.empty((2, count), np.uint64)
        at = 0
        first, second = self._words[:, :count]
        for some in zip(*columns, strict=True):
            end = at + len(some[0])
            form.pack(some, bases, (first[at:end], second[at:end]))
            at = end
        return first, second

    def _write(self, words: Sequence[NDArray[Any]]) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115 - closed on exit
        self._file.seek(self._end)
        for word in words:
            _all_of(self._file.write, word)
            self._end += word.nbytes

    def take(self, part: int, at_once: int) -> Iterator[Ints]:
        """The rows of a part by column, so many at once, or as many more as were dealt together."""
        waiting = iter(self._pieces[part])
        left = int(self.counts[part])
        while left:
            some, size = [], 0
            while size < min(left, at_once):
                some.append(next(waiting))
                size += some[-1].count
            columns, at = np.empty((WIDTH, size), np.int64), 0
            for form, alike in itertools.groupby(some, lambda piece: piece.form):
                together = list(alike)
                end = at + sum(piece.count for piece in together)
                self._fill(form, together, columns[:, at:end])
                at = end
            left -= size
            yield columns

    def _fill(self, form: _Form | None, pieces: Sequence[_Piece], columns: Ints) -> None:
        """Write the rows of pieces of one form as columns."""
        words = [np.concatenate(parts) for parts in zip(*map(self._read, pieces), strict=True)]
        if form is None:
            columns[:] = words
            return
        counts = [piece.count for piece in pieces]
        form.unpack(words, [np.repeat(base, counts) for base in zip(*(p.bases for p in pieces), strict=True)], columns)

    def all_of(self, part: int) -> Ints:
        """The rows of a part that has some, by column."""
        return next(self.take(part, int(self.counts[part])))

    def _read(self, piece: _Piece) -> Sequence[NDArray[Any]]:
        if piece.words is not None:
            return piece.words
        assert self._file is not None
        kind = np.int64 if piece.form is None else np.uint64
        words: list[NDArray[Any]] = []
        for begin in piece.places:
            words.append(np.empty(piece.count, kind))
            self._file.seek(begin)
            _all_of(self._file.readinto, words[-1])  # type: ignore[attr-defined]
        return words


def _memory(rows: int, columns: int, kind: np.dtype[Any]) -> NDArray[Any]:
    """An array that the system has back once it is gone: pieces of 4 MB would stay with the process."""
    return np.frombuffer(mmap.mmap(-1, rows * columns * kind.itemsize), kind).reshape(rows, columns)


def _all_of(move: Callable[[memoryview], int | None], rows: NDArray[Any]) -> None:
    """Read or write all bytes of some rows; a file without a buffer may take or give fewer at once."""
    left = rows.data.cast("B")
    while len(left):
        done = move(left)
        if not done:
            raise OSError(f"a temporary file ends {len(left)} bytes early")
        left = left[done:]
