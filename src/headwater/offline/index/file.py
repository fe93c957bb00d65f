"""The file of an index: for each key, the rows of a source that count at some time, in the order they become known.

A row counts at t exactly when it is known at t, so the row that history chooses among those known is the last one that
raised its key's greatest (event, created), in order of known_at. Only those rows are kept, whatever the spine may ask.

The file is blocks of bytes, each with its checksum, then what says where they are. A block of rows has its arrays one
behind the other: known, event, ordinal; then of those beside which an equal row stands the position and created time.
Equal rows are in blocks of their own: the ordinal of the one that is kept, and the ordinal of each, itself among them.
"""

from __future__ import annotations

import itertools
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from headwater.state_files import opener

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

FORMAT = 2
"""Of the file; one of another is made again."""
_MAGIC = b"headwater index\n"
_GROUP = 1 << 18
_SPAN = 1 << 12
"""Rows of a block, and of the part of it that a search ends in: of each part the first `known` is held."""
_BITS = 62
_EQUAL = 4_000_000
"""How many equal rows are held in memory at most; of sources with more no index is made."""
_NAMES = ("known", "event", "ordinal")


EQUAL = pa.schema([("head", pa.int64()), ("ordinal", pa.int64())])


class IndexDamaged(Exception):
    """An index is missing, damaged, or of something else; it is made again."""


class Unsuitable(Exception):
    """No index can be made of these rows."""


@dataclass
class _Steps:
    """The rows of some keys that raise the greatest (event, created) of their key, in order of key and known_at.

    Attributes:
        known, event, ordinal, tied: of each; `tied` is the created time of one beside which an equal row stands.
        has_tie: whether `tied` says anything.
    """

    known: Ints
    event: Ints
    ordinal: Ints
    tied: Ints
    has_tie: Flags

    def part(self, chosen: Any) -> _Steps:
        """Some of them, by a slice or by flags."""
        return _Steps(*(values[chosen] for values in self._arrays))

    @property
    def _arrays(self) -> tuple[Any, ...]:
        return (self.known, self.event, self.ordinal, self.tied, self.has_tie)

    @staticmethod
    def of(parts: list[_Steps]) -> _Steps:
        """One after the other."""
        return _Steps(*(np.concatenate(arrays) for arrays in zip(*(part._arrays for part in parts), strict=True)))

    def block(self) -> bytes:
        """As the file has them."""
        at = np.flatnonzero(self.has_tie)
        arrays = (self.known, self.event, self.ordinal, at, self.tied[at])
        return b"".join(np.ascontiguousarray(array, "<i8").tobytes() for array in arrays)


class _Blocks:
    """A file that is being written, block by block."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._end = file.write(_MAGIC)

    def add(self, block: bytes) -> list[int]:
        """Where a block begins, how long it is, and its checksum."""
        self._file.write(block)
        self._end += len(block)
        return [self._end - len(block), len(block), zlib.crc32(block)]

    def finish(self, contents: Mapping[str, Any]) -> None:
        """Say at the end what the file has."""
        text = json.dumps(contents).encode()
        self._file.write(text + json.dumps([len(text), zlib.crc32(text)]).encode().rjust(_TAIL))


_TAIL = 64


class IndexWriter:
    """Writes an index of rows in order of key and known_at.

    Args:
        path: the file.
        about: what the index is of; a reader asks for the same.
        key_count: how many key columns there are.
    """

    def __init__(self, path: Path, about: str, key_count: int) -> None:
        self._path, self._about, self._key_count = path, about, key_count
        self._groups: list[list[int]] = []
        self._key_blocks: list[list[int]] = []
        self._waiting: list[_Steps] = []
        self._waiting_rows = self._written = 0
        self._marks: list[Ints] = []
        self._held: pa.Table | None = None
        self._held_rows = 0
        self._keys: list[pa.Table] = []
        self._steps: list[Ints] = []
        self._rows: list[Ints] = []
        self._equal: list[Ints] = []
        self._equal_rows = 0
        self._last: tuple[Any, ...] | None = None
        self._top = 0

    def write(self, batches: Iterable[pa.RecordBatch]) -> None:
        """Write everything and close the file.

        Args:
            batches: k0…, known, event, created, ordinal in order of the keys and `known`; none is NULL.

        Raises:
            OSError: the file cannot be written.
            Unsuitable: no rows, too many equal ones, or times too far apart.
        """
        with open(self._path, "wb", opener=opener) as file:
            self._blocks = _Blocks(file)
            for batch in batches:
                if batch.num_rows:
                    self._add(pa.Table.from_batches([batch]), final=False)
            if self._held is None:
                raise Unsuitable("no rows")
            self._add(self._held.slice(0, 0), final=True)
            self._flush(all_of_it=True)
            self._write_keys()
            marks = self._blocks.add(np.concatenate(self._marks).astype("<i8").tobytes())
            equal = np.concatenate([np.zeros((0, 2), np.int64), *self._equal])
            parts = range(0, len(equal), _GROUP)
            contents = {
                "about": self._about,
                "steps": self._groups,
                "keys": self._key_blocks,
                "marks": marks,
                "equal": [self._blocks.add(equal[at : at + _GROUP].astype("<i8").tobytes()) for at in parts],
            }
            self._blocks.finish(contents)

    def _add(self, rows: pa.Table, *, final: bool) -> None:
        """Take the groups of rows of one key and known_at that are complete; the last may go on in the next rows."""
        held_rows = self._held_rows
        if self._held is not None:
            rows = pa.concat_tables([self._held, rows])
        rows = rows.combine_chunks()
        keys = [rows.column(i) for i in range(self._key_count)]
        known, event, created, ordinal = (_ints(rows.column(self._key_count + i)) for i in range(4))
        new_key = np.ones(len(known), np.bool_)
        new_key[1:] = False
        for column in keys:
            values = column.combine_chunks()
            new_key[1:] |= np.asarray(pc.not_equal(values[1:], values[:-1]))
        first = tuple(column[0].as_py() for column in keys)
        new_key[0] = self._last is None or first != self._last
        begins = new_key.copy()
        begins[0] = True
        begins[1:] |= known[1:] != known[:-1]
        starts = np.flatnonzero(begins)
        sizes = np.diff(starts, append=len(known))
        best, tied, equal = _best(starts, sizes, event, created, ordinal)
        counted = sizes.copy()
        # what is held stands for more rows than it has
        counted[0] += max(0, held_rows - (0 if self._held is None else self._held.num_rows))
        if not final:
            last = starts[-1]
            self._held_rows = int(counted[-1])
            top = np.lexsort((ordinal[last:], created[last:], event[last:]))[-2:] + last
            held = (event[last:] == event[top[-1]]) & (created[last:] == created[top[-1]])
            held[top - last] = True
            self._held = rows.take(pa.array(np.flatnonzero(held) + last))
            if self._held.num_rows > _EQUAL:
                raise Unsuitable("too many equal rows")
            equal = equal[equal[:, 0] < len(starts) - 1]
            starts, best, tied, counted = starts[:-1], best[:-1], tied[:-1], counted[:-1]
        if len(equal):
            self._equal.append(np.stack([ordinal[best[equal[:, 0]]], ordinal[equal[:, 1]]], axis=1))
            self._equal_rows += len(equal)
            if self._equal_rows > _EQUAL:
                raise Unsuitable("too many equal rows")
        if len(starts):
            self._last = tuple(column[int(starts[-1])].as_py() for column in keys)
            chosen = _Steps(known[best], event[best], ordinal[best], created[best], tied)
            self._emit(rows.select(range(self._key_count)), starts, new_key[starts], chosen, counted)

    def _emit(self, keys: pa.Table, starts: Ints, new_key: Flags, rows: _Steps, counted: Ints) -> None:
        """Keep of rows that differ in key or known_at those that raise their key's greatest event time."""
        firsts = np.flatnonzero(new_key)
        rising = _rising(rows.event, new_key)
        going_on = int(firsts[0]) if len(firsts) else len(starts)
        rising[:going_on] &= rows.event[:going_on] >= self._top
        tail = int(firsts[-1]) if len(firsts) else 0
        top = int(rows.event[tail:].max())
        self._top = top if len(firsts) else max(top, self._top)
        if going_on:
            self._steps[-1][-1] += int(rising[:going_on].sum())
            self._rows[-1][-1] += int(counted[:going_on].sum())
        if len(firsts):
            self._keys.append(keys.take(pa.array(starts[firsts])))
            self._steps.append(np.add.reduceat(rising.astype(np.int64), firsts))
            self._rows.append(np.add.reduceat(counted, firsts))
        kept = rows if rising.all() else rows.part(rising)
        self._waiting.append(kept)
        self._waiting_rows += len(kept.known)
        if self._waiting_rows >= _GROUP:
            self._flush(all_of_it=False)

    def _flush(self, *, all_of_it: bool) -> None:
        """Write whole blocks, so that a row's block follows from its position."""
        rows = _Steps.of(self._waiting)
        count = len(rows.known)
        ready = count if all_of_it else count // _GROUP * _GROUP
        for begin in range(0, ready, _GROUP):
            part = rows.part(slice(begin, min(begin + _GROUP, ready)))
            self._groups.append([*self._blocks.add(part.block()), len(part.known)])
            self._marks.append(part.known[::_SPAN].copy())
        self._waiting = [rows.part(slice(ready, None))]
        self._waiting_rows = count - ready

    def _write_keys(self) -> None:
        keys = pa.concat_tables(self._keys)
        steps, rows = np.concatenate(self._steps), np.concatenate(self._rows)
        for name, values in (("first", np.cumsum(steps) - steps), ("steps", steps), ("rows", rows)):
            keys = keys.append_column(name, pa.array(values))
        for begin in range(0, keys.num_rows, _GROUP):
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, keys.schema) as writer:
                writer.write_table(keys.slice(begin, _GROUP))
            self._key_blocks.append(self._blocks.add(sink.getvalue().to_pybytes()))


def _ints(column: pa.ChunkedArray) -> Ints:
    return np.asarray(column.combine_chunks(), np.int64)


def _best(starts: Ints, sizes: Ints, event: Ints, created: Ints, ordinal: Ints) -> tuple[Ints, Flags, Ints]:
    """Of each group of rows of one key and known_at the greatest, whether others have its times, and which.

    The last is pairs of a group's number and a row's.
    """
    best, tied = starts.copy(), np.zeros(len(starts), np.bool_)
    several = np.flatnonzero(sizes > 1)
    if not len(several):
        return best, tied, np.zeros((0, 2), np.int64)
    group = np.repeat(np.arange(len(several)), sizes[several])
    within = np.arange(len(group)) - np.repeat(np.cumsum(sizes[several]) - sizes[several], sizes[several])
    rows = starts[several][group] + within
    rows = rows[np.lexsort((ordinal[rows], created[rows], event[rows], group))]
    ends = np.cumsum(sizes[several]) - 1
    one, other = rows[ends], rows[ends - 1]
    best[several] = one
    tied[several] = (event[one] == event[other]) & (created[one] == created[other])
    equal = tied[several][group] & (event[rows] == event[one[group]]) & (created[rows] == created[one[group]])
    return best, tied, np.stack([several[group][equal], rows[equal]], axis=1)


def _rising(event: Ints, new_key: Flags) -> Flags:
    """Whether each event time is at least every earlier one of its key.

    Raises:
        Unsuitable: times too far apart for one number of key and time.
    """
    if not np.any((event[1:] < event[:-1]) & ~new_key[1:]):
        return np.ones(len(event), np.bool_)
    least, most = int(event.min()), int(event.max())
    bits = (most - least).bit_length()
    if bits > _BITS:
        raise Unsuitable("event times too far apart")
    # keys are numbered within stretches that leave the number of key and time within 64 bits
    key = np.cumsum(new_key)
    stretch = 1 << (_BITS - bits)
    rising = np.empty(len(event), np.bool_)
    begins = np.searchsorted(key, np.arange(int(key[0]), int(key[-1]) + 1, stretch))
    for low, high in itertools.pairwise([*begins, len(event)]):
        both = ((key[low:high] - key[low]) << bits) | (event[low:high] - least)
        rising[low:high] = both == np.maximum.accumulate(both)
    return rising


class IndexReader:
    """An index, opened: what it has does not change, whatever becomes of its name.

    Args:
        path: the file.
        about: what it must be of.

    Raises:
        IndexDamaged: it is not there, not whole, or of something else.
    """

    def __init__(self, path: Path, about: str) -> None:
        self._group = -1
        self._columns: Mapping[str, pa.Array] = {}
        try:
            self._file = path.open("rb")
        except OSError as bad:
            raise IndexDamaged(str(bad)) from bad
        try:
            self._contents = self._read_contents(about)
            self._marks = np.frombuffer(self._block(*self._contents["marks"]), "<i8").astype(np.int64)
            self._first_keys = self._key_table(self._contents["keys"][0])
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> IndexReader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _read_contents(self, about: str) -> dict[str, Any]:
        try:
            end = self._file.seek(0, 2)
            tail = self._bytes(end - _TAIL, _TAIL) if end >= _TAIL + len(_MAGIC) else b""
            length, check = json.loads(tail)
            text = self._bytes(end - _TAIL - length, length)
            if zlib.crc32(text) != check or self._bytes(0, len(_MAGIC)) != _MAGIC:
                raise IndexDamaged(f"{self._file.name}: damaged")
            contents: dict[str, Any] = json.loads(text)
        except (OSError, ValueError, TypeError) as bad:
            raise IndexDamaged(f"{self._file.name}: {bad}") from bad
        if contents.get("about") != about:
            raise IndexDamaged(f"{self._file.name}: of something else")
        return contents

    def _bytes(self, begin: int, length: int) -> bytes:
        self._file.seek(begin)
        return self._file.read(length)

    def _block(self, begin: int, length: int, check: int) -> bytes:
        """A block of the file.

        Raises:
            IndexDamaged: it is not as it was written.
        """
        try:
            block = self._bytes(begin, length)
        except OSError as bad:
            raise IndexDamaged(f"{self._file.name}: {bad}") from bad
        if len(block) != length or zlib.crc32(block) != check:
            raise IndexDamaged(f"{self._file.name}: damaged")
        return block

    def _key_table(self, block: tuple[int, int, int]) -> pa.Table:
        return pa.ipc.open_stream(pa.py_buffer(self._block(*block))).read_all()

    @property
    def key_schema(self) -> pa.Schema:
        """K0…, `first` (the position of a key's first step), `steps` and `rows` (how many it has)."""
        return self._first_keys.schema

    def keys(self) -> Iterator[pa.RecordBatch]:
        """Every key, once.

        Raises:
            IndexDamaged: the file cannot be read, or is damaged.
        """
        for block in self._contents["keys"]:
            yield from self._key_table(block).to_batches()

    def equal_rows(self) -> Iterator[pa.RecordBatch]:
        """(head, ordinal): each row that is `tied`, and every row that has its key and times, itself among them.

        Raises:
            IndexDamaged: the file cannot be read, or is damaged.
        """
        for block in self._contents["equal"]:
            head, ordinal = np.frombuffer(self._block(*block), "<i8").astype(np.int64).reshape(-1, 2).T
            yield pa.RecordBatch.from_arrays([pa.array(head.copy()), pa.array(ordinal.copy())], schema=EQUAL)

    def last_known(self, first: Ints, steps: Ints, t: Ints) -> tuple[Flags, Mapping[str, Any]]:
        """Of each key, the last row known at an instant.

        Args:
            first, steps: of the key, in order of `first`.
            t: the instant, microseconds.

        Returns:
            Whether there is one; and `event`, `ordinal` and `tied` (an array with NULLs) of each that there is.

        Raises:
            IndexDamaged: the file cannot be read.
        """
        low, high = first, first + steps
        # the last part of its steps that begins with one known at t
        part = _after(self._marks, low // _SPAN + 1, (high - 1) // _SPAN + 1, t) - 1
        low, high = np.maximum(low, part * _SPAN), np.minimum(high, (part + 1) * _SPAN)
        groups = low // _GROUP
        there = np.zeros(len(t), np.bool_)
        found: dict[str, list[pa.Array]] = {name: [] for name in ("event", "ordinal", "tied")}
        order = np.argsort(groups, kind="stable")
        cuts = np.flatnonzero(np.diff(groups[order], prepend=-1))
        parts: list[Ints] = []
        for begin, end in itertools.pairwise([*cuts, len(order)]):
            mine = order[begin:end]
            group = int(groups[mine[0]])
            base = group * _GROUP
            columns = self._read(group)
            at = _after(np.asarray(columns["known"]), low[mine] - base, high[mine] - base, t[mine]) - 1
            known = at + base >= first[mine]
            there[mine[known]] = True
            parts.append(mine[known])
            chosen = pa.array(at[known])
            for name, arrays in found.items():
                arrays.append(columns[name].take(chosen))
        # in the order that they were asked in
        places = np.concatenate(parts) if parts else np.zeros(0, np.int64)
        back = pa.array(np.argsort(places, kind="stable"))
        return there, {
            name: pa.concat_arrays(arrays).take(back) if arrays else pa.nulls(0, pa.int64())
            for name, arrays in found.items()
        }

    def _read(self, group: int) -> Mapping[str, pa.Array]:
        if group != self._group:
            *block, count = self._contents["steps"][group]
            values = np.frombuffer(self._block(*block), "<i8").astype(np.int64, copy=False)
            ends = range(0, 3 * count, count)
            columns = {name: values[end : end + count] for name, end in zip(_NAMES, ends, strict=True)}
            at, made = np.split(values[3 * count :], 2)
            tied, none = np.zeros(count, np.int64), np.ones(count, np.bool_)
            tied[at], none[at] = made, False
            self._group = group
            self._columns = {name: pa.array(column) for name, column in columns.items()}
            self._columns = {**self._columns, "tied": pa.array(tied, mask=none)}
        return self._columns


def _after(values: Ints, low: Ints, high: Ints, t: Ints) -> Ints:
    """The first position in [low, high) whose value is after t, else high; values rise within it."""
    low, high = low.copy(), high.copy()
    last = max(0, len(values) - 1)
    for _ in range(int((high - low).max(initial=0)).bit_length()):
        middle = (low + high) >> 1
        open_ = low < high
        reached = values[np.minimum(middle, last)] <= t if len(values) else np.zeros(len(low), np.bool_)
        low = np.where(open_ & reached, middle + 1, low)
        high = np.where(open_ & ~reached, middle, high)
    return low
