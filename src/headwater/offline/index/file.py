"""The file of an index: for each key, the rows of a source that count at some time, in the order they become known.

A row counts at t exactly when it is known at t, so the row that history chooses among those known is the last one that
raised its key's greatest (event, created), in order of known_at. Only those rows are kept, whatever the spine may ask.
Of the others the event times are, by which it shows why nothing was chosen.

The file is blocks of bytes, each with its checksum, then what says where they are. A block of rows has its arrays one
behind the other: known and event, of those beside which an equal row stands the position and created time, and the
ordinals. A block of late rows has their event times, in order within each key.
Equal rows are in blocks of their own: the ordinal of the one that is kept, and the ordinal of each, itself among them.
"""

from __future__ import annotations

import itertools
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from headwater.offline.index.pieces import Flags, Ints

FORMAT = 3
"""Of the file; one of another is made again."""
MAGIC = b"headwater index\n"
GROUP = 1 << 18
SPAN = 1 << 12
"""Rows of a block, and of the part of it that a search ends in: of each part the first time is held."""
TAIL = 64
_HELD = 8
"""Blocks held, of those read last: what a batch of keys needs is looked at twice."""
COUNTS = ("first", "steps", "rows", "late", "lates")
"""Of each key: the position of its first row in order of known_at, how many such rows it has, how many rows at all, and
the same of its late rows."""
NEVER = -(2**63)

EQUAL = pa.schema([("head", pa.int64()), ("ordinal", pa.int64())])


class IndexDamaged(Exception):
    """An index is missing, damaged, or of something else; it is made again."""


@dataclass(frozen=True)
class _Group:
    """A block of a series of rows, and where it begins."""

    base: int
    known: Ints
    event: Ints
    ordinal: Ints
    tied_at: Ints
    tied: Ints


@dataclass(frozen=True)
class Known:
    """The last row known, of some keys at some instants.

    Attributes:
        there: whether there is one; the others are of those that there are.
        event, ordinal: of the row.
        tied: the created time of one beside which an equal row stands.
        has_tie: whether `tied` says anything.
        newest: whether no row of the key is known later.
    """

    there: Flags
    event: Ints
    ordinal: Ints
    tied: Ints
    has_tie: Flags
    newest: Flags


class IndexReader:
    """An index, opened: what it has does not change, whatever becomes of its name.

    Args:
        path: the file.
        about: what it must be of.

    Raises:
        IndexDamaged: it is not there, not whole, or of something else.
    """

    def __init__(self, path: Path, about: str) -> None:
        self._held: dict[tuple[str, int], _Group] = {}
        try:
            self._file = path.open("rb")
        except OSError as bad:
            raise IndexDamaged(str(bad)) from bad
        try:
            self._contents = self._read_contents(about)
            marks = self._contents["marks"]
            self._marks = {name: np.frombuffer(self._block(*block), "<i8") for name, block in marks.items()}
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
            tail = self._bytes(end - TAIL, TAIL) if end >= TAIL + len(MAGIC) else b""
            length, check = json.loads(tail)
            text = self._bytes(end - TAIL - length, length)
            if zlib.crc32(text) != check or self._bytes(0, len(MAGIC)) != MAGIC:
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
        """K0… and `COUNTS`."""
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

    def last_known(self, first: Ints, steps: Ints, t: Ints) -> Known:
        """Of each key, the last row known at an instant.

        Args:
            first, steps: of the key, in order of `first`.
            t: the instant, microseconds.

        Raises:
            IndexDamaged: the file cannot be read.
        """
        there, newest = np.zeros(len(t), np.bool_), np.zeros(len(t), np.bool_)
        event, ordinal, tied = (np.zeros(len(t), np.int64) for _ in range(3))
        has_tie = np.zeros(len(t), np.bool_)
        for mine, group, at in self._last("steps", "known", first, steps, t):
            known = at + group.base >= first[mine]
            mine, at = mine[known], at[known]
            there[mine] = True
            event[mine], ordinal[mine] = group.event[at], group.ordinal[at]
            newest[mine] = at + group.base == first[mine] + steps[mine] - 1
            if len(group.tied_at):
                place = np.minimum(np.searchsorted(group.tied_at, at), len(group.tied_at) - 1)
                has_tie[mine] = group.tied_at[place] == at
                tied[mine] = group.tied[place]
        return Known(there, event[there], ordinal[there], tied[there], has_tie[there], newest[there])

    def last_event(self, positions: Mapping[str, Ints], t: Ints) -> Ints:
        """Of each key, the last event time of any of its rows at or before an instant; `NEVER` where none is.

        Args:
            positions: `COUNTS` of the key, in order of `first`.
            t: the instant, microseconds.

        Raises:
            IndexDamaged: the file cannot be read.
        """
        found = np.full(len(t), NEVER, np.int64)
        for series, begin, count in (("steps", "first", "steps"), ("late", "late", "lates")):
            some = np.flatnonzero(positions[count])
            first, size, until = positions[begin][some], positions[count][some], t[some]
            name = "event" if series == "steps" else "late"
            for mine, group, at in self._last(series, name, first, size, until):
                there = at + group.base >= first[mine]
                mine, at = some[mine[there]], at[there]
                found[mine] = np.maximum(found[mine], group.event[at])
        return found

    def _last(self, series: str, name: str, first: Ints, count: Ints, t: Ints) -> Iterator[tuple[Ints, _Group, Ints]]:
        """For each key the place of its last value at or before t within a block, one below its first for none.

        Args:
            series: of which blocks.
            name: of the values, which rise within a key.
            first, count: where the key's values are; it has some.
            t: of each key.

        Yields:
            The numbers of keys, a block, and the places.
        """
        low, high = first, first + count
        # the last part of its values that begins with one at or before t
        part = _after(self._marks[name], low // SPAN + 1, (high - 1) // SPAN + 1, t) - 1
        low, high = np.maximum(low, part * SPAN), np.minimum(high, (part + 1) * SPAN)
        groups = low // GROUP
        order = np.argsort(groups, kind="stable")
        cuts = np.flatnonzero(np.diff(groups[order], prepend=-1))
        for begin, end in itertools.pairwise([*cuts, len(order)]):
            mine = order[begin:end]
            group = self._read(series, int(groups[mine[0]]))
            values = group.known if name == "known" else group.event
            yield mine, group, _after(values, low[mine] - group.base, high[mine] - group.base, t[mine]) - 1

    def _read(self, series: str, number: int) -> _Group:
        group = self._held.pop((series, number), None)
        if group is None:
            group = self._late_rows(number) if series == "late" else self._rows(number)
        self._held[series, number] = group
        if len(self._held) > _HELD:
            del self._held[next(iter(self._held))]
        return group

    def _late_rows(self, number: int) -> _Group:
        *block, _ = self._contents["late"][number]
        event = np.frombuffer(self._block(*block), "<i8")
        none = event[:0]
        return _Group(number * GROUP, none, event, none, none, none)

    def _rows(self, number: int) -> _Group:
        *block, count, width = self._contents["steps"][number]
        content = self._block(*block)
        ordinal = np.frombuffer(content, f"<{'u' if width == 4 else 'i'}{width}", offset=len(content) - count * width)
        values = np.frombuffer(content, "<i8", count=(len(content) - count * width) // 8)
        tied_at, tied = np.split(values[2 * count :], 2)
        return _Group(number * GROUP, values[:count], values[count : 2 * count], ordinal, tied_at, tied)


def _after(values: Ints, low: Ints, high: Ints, t: Ints) -> Ints:
    """The first position in [low, high) whose value is after t, else high; values rise within it."""
    found = low.copy()
    for bit in reversed(range(int((high - low).max(initial=0)).bit_length())):
        further = found + (1 << bit)
        reached = values[np.minimum(further, len(values)) - 1] <= t
        reached &= further <= high
        np.copyto(found, further, where=reached)
    return found
