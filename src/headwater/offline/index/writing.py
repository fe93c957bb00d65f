"""Writes the file of an index (`file` says what it has)."""

from __future__ import annotations

import itertools
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from headwater.offline.index import file as form
from headwater.offline.index.pieces import Flags, Ints
from headwater.offline.index.sorting import Run, Unsorted, Unsuitable, in_order, runs
from headwater.state_files import opener

_BITS = 62
_EQUAL = 4_000_000
"""How many equal rows are held in memory at most; of sources with more no index is made."""
_LATE = 16_000_000
"""The same of the late rows of one key."""
_NARROW = 2**32


class _Blocks:
    """A file that is being written, block by block.

    Args:
        file: the file.
        most: how many bytes it may have; None: any.
    """

    def __init__(self, file: BinaryIO, most: int | None) -> None:
        self._file, self._most = file, most
        self._end = 0
        self._put(form.MAGIC)

    def _put(self, block: bytes | memoryview) -> None:
        if self._most is not None and self._end + len(block) > self._most:
            raise Unsuitable(f"larger than {self._most} bytes")
        self._end += self._file.write(block)

    def add(self, *arrays: NDArray[Any]) -> list[int]:
        """Where a block of arrays begins, how long it is, and its checksum."""
        begin, check = self._end, 0
        for array in arrays:
            block = np.ascontiguousarray(array).data.cast("B") if array.size else b""
            self._put(block)
            check = zlib.crc32(block, check)
        return [begin, self._end - begin, check]

    def finish(self, contents: Mapping[str, Any]) -> None:
        """Say at the end what the file has."""
        text = json.dumps(contents).encode()
        self._put(text + json.dumps([len(text), zlib.crc32(text)]).encode().rjust(form.TAIL))


class _Series:
    """Arrays of one length that grow, written in blocks of so many rows that a row's block follows from its position.

    Args:
        blocks: the file.
        write: writes some rows as a block; what the table of contents says of it.
        marked: of so many arrays, the first ones, the first value of each part is kept.
    """

    def __init__(self, blocks: _Blocks, write: Callable[[Sequence[Any]], list[int]], marked: int) -> None:
        self._blocks, self._write = blocks, write
        self._waiting: list[Sequence[Any]] = []
        self._rows = 0
        self._marks: list[list[Ints]] = [[] for _ in range(marked)]
        self.groups: list[list[int]] = []

    def add(self, *arrays: Any) -> None:
        """More rows."""
        self._waiting.append(arrays)
        self._rows += len(arrays[0])
        if self._rows >= form.GROUP:
            self._flush(self._rows // form.GROUP * form.GROUP)

    def _flush(self, ready: int) -> None:
        rows = [np.concatenate(arrays) for arrays in zip(*self._waiting, strict=True)]
        for begin in range(0, ready, form.GROUP):
            part = [values[begin : min(begin + form.GROUP, ready)] for values in rows]
            self.groups.append(self._write(part))
            for marks, values in zip(self._marks, part, strict=False):
                marks.append(values[:: form.SPAN].copy())
        self._waiting = [[values[ready:] for values in rows]]
        self._rows -= ready

    def finish(self) -> list[list[int]]:
        """Write what is left; where the marks of each marked array are."""
        if self._rows:
            self._flush(self._rows)
        return [self._blocks.add(np.concatenate([np.zeros(0, np.int64), *marks])) for marks in self._marks]


class IndexWriter:
    """Writes an index.

    Args:
        path: the file.
        about: what the index is of; a reader asks for the same.
        most: how many bytes the file may have; None: any.
    """

    def __init__(self, path: Path, about: str, most: int | None = None) -> None:
        self._path, self._about, self._most = path, about, most
        self._keys: list[Ints] = []
        self._counts: dict[str, list[Ints]] = {"steps": [], "rows": [], "lates": []}
        self._equal: list[Ints] = []
        self._equal_rows = 0
        self._last: int | None = None
        self._top = 0
        self._open_late: list[Ints] = []
        self._open_lates = 0
        self._key_blocks: list[list[int]] = []
        self._written = {"steps": 0, "lates": 0}

    def write(self, rows: Unsorted) -> None:
        """Write everything and close the file.

        Raises:
            OSError: the file cannot be written.
            Unsuitable: no rows, too many equal ones, times too far apart, or a file that is too large.
        """
        with open(self._path, "wb", opener=opener) as file:
            self._blocks = _Blocks(file, self._most)
            self._steps = _Series(self._blocks, self._write_steps, 2)
            self._late = _Series(self._blocks, lambda rows: [*self._blocks.add(*rows), len(rows[0])], 1)
            for run in runs(rows, self._path.parent):
                self._take(run)
                self._write_keys(rows.keys, closed=False)
            if self._last is None:
                raise Unsuitable("no rows")
            if self._open_late:
                left = _each_once(self._open_late)
                self._late.add(left)
                self._counts["lates"][-1][-1] += len(left)
            self._write_keys(rows.keys, closed=True)
            known, event = self._steps.finish()
            (late,) = self._late.finish()
            equal = np.concatenate([np.zeros((0, 2), np.int64), *self._equal])
            contents = {
                "about": self._about,
                "steps": self._steps.groups,
                "late": self._late.groups,
                "marks": {"known": known, "event": event, "late": late},
                "keys": self._key_blocks,
                "equal": [self._blocks.add(equal[at : at + form.GROUP]) for at in range(0, len(equal), form.GROUP)],
            }
            self._blocks.finish(contents)

    def _write_steps(self, rows: Sequence[Any]) -> list[int]:
        known, event, ordinal, tied, has_tie = rows
        at = np.flatnonzero(has_tie)
        narrow = int(ordinal.min()) >= 0 and int(ordinal.max()) < _NARROW
        numbers = ordinal.astype(np.uint32) if narrow else ordinal
        return [*self._blocks.add(known, event, at, tied[at], numbers), len(known), 4 if narrow else 8]

    def _take(self, run: Run) -> None:
        """Keep of rows the greatest of each key and known_at, and of these those that raise their key's event time."""
        goes_on = self._last == int(run.key[run.order[0]])
        run.new_key[0] = not goes_on
        starts = np.flatnonzero(run.new_time)
        best, tied = self._best(run, starts)
        rows, of_key = run.order[best], run.new_key[starts]
        event = run.event[rows]
        firsts = np.flatnonzero(of_key)
        rising = _rising(event, of_key)
        going_on = int(firsts[0]) if len(firsts) else len(starts)
        rising[:going_on] &= event[:going_on] >= self._top
        kept = np.flatnonzero(rising)
        late, of = self._late_events(run, starts, firsts, best, event, rising)
        self._count(run, starts, firsts, going_on, kept, of)
        tail = int(event[int(firsts[-1]) if len(firsts) else 0 :].max())
        self._top = tail if len(firsts) else max(tail, self._top)
        self._last = int(run.key[run.order[-1]])
        self._late.add(late)
        rows = rows[kept]
        self._steps.add(run.known[rows], event[kept], run.ordinal[rows], run.created[rows], tied[kept])

    def _best(self, run: Run, starts: Ints) -> tuple[Ints, Flags]:
        """Of each group of rows of one key and known_at the position in order of the greatest, and whether others have
        its times.
        """
        sizes = np.diff(starts, append=len(run.key))
        best, tied = starts.copy(), np.zeros(len(starts), np.bool_)
        several = np.flatnonzero(sizes > 1)
        if not len(several):
            return best, tied
        sizes = sizes[several]
        group = np.repeat(np.arange(len(several)), sizes)
        ends = np.cumsum(sizes)
        at = np.arange(len(group)) + np.repeat(starts[several] - (ends - sizes), sizes)
        rows = run.order[at]
        event, created, ordinal = run.event[rows], run.created[rows], run.ordinal[rows]
        within = np.lexsort((ordinal, created, event, group))
        event, created, ordinal = event[within], created[within], ordinal[within]
        one, other = ends - 1, ends - 2
        best[several] = at[within[one]]
        same = (event[one] == event[other]) & (created[one] == created[other])
        tied[several] = same
        equal = same[group] & (event == event[one][group]) & (created == created[one][group])
        self._equal.append(np.stack([ordinal[one][group[equal]], ordinal[equal]], axis=1))
        self._equal_rows += len(self._equal[-1])
        if self._equal_rows > _EQUAL:
            raise Unsuitable("too many equal rows")
        return best, tied

    def _late_events(
        self, run: Run, starts: Ints, firsts: Ints, best: Ints, event: Ints, rising: Flags
    ) -> tuple[Ints, Ints]:
        """The event times that no kept row has, each once a key and in order; and how many of each key.

        The first count is of a key that goes on from the run before; a key that goes on in the next one has none yet.
        """
        left = np.ones(len(run.key), np.bool_)
        left[best[rising]] = False
        at = np.flatnonzero(left)
        late = run.event[run.order[at]]
        if len(best) < len(left):
            group = np.searchsorted(starts, at, side="right") - 1
            unlike = ~(rising[group] & (late == event[group]))
            at, late = at[unlike], late[unlike]
        of = np.searchsorted(starts[firsts], at, side="right")
        if len(late):
            order = in_order(of, late)
            of, late = of[order], late[order]
            new = np.ones(len(late), np.bool_)
            new[1:] = (of[1:] != of[:-1]) | (late[1:] != late[:-1])
            of, late = of[new], late[new]
        last = len(firsts)
        if self._open_late and (last > 0 or run.whole):
            going_on = int(np.searchsorted(of, 1))
            first = _each_once([*self._open_late, late[:going_on]])
            of = np.concatenate([np.zeros(len(first), np.int64), of[going_on:]])
            late = np.concatenate([first, late[going_on:]])
            self._open_late, self._open_lates = [], 0
        if not run.whole:
            # they are put in order once the key ends
            closed = int(np.searchsorted(of, last))
            self._open_late.append(late[closed:].copy())
            self._open_lates += len(late) - closed
            if self._open_lates > _LATE:
                raise Unsuitable("too many late rows of a key")
            of, late = of[:closed], late[:closed]
        return late, np.bincount(of, minlength=last + 1)

    def _count(self, run: Run, starts: Ints, firsts: Ints, going_on: int, kept: Ints, lates: Ints) -> None:
        """Note the keys that begin, and how much there is of each key."""
        row_firsts = starts[firsts]
        if len(self._keys):
            self._counts["steps"][-1][-1] += int(np.searchsorted(kept, going_on))
            self._counts["rows"][-1][-1] += int(row_firsts[0]) if len(firsts) else len(run.key)
            self._counts["lates"][-1][-1] += int(lates[0])
        if len(firsts):
            self._keys.append(run.key[run.order[row_firsts]])
            self._counts["steps"].append(np.diff(np.searchsorted(kept, [*firsts, len(starts)])))
            self._counts["rows"].append(np.diff(row_firsts, append=len(run.key)))
            self._counts["lates"].append(lates[1:].astype(np.int64))

    def _write_keys(self, keys: Callable[[Ints], pa.Table], *, closed: bool) -> None:
        """Write the keys that make whole blocks, but never the last one, which may go on; once all is closed, all."""
        waiting = sum(map(len, self._keys))
        ready = waiting if closed else (waiting - 1) // form.GROUP * form.GROUP
        if ready <= 0:
            return
        numbers = np.concatenate(self._keys)
        counts = {name: np.concatenate(parts) for name, parts in self._counts.items()}
        self._keys = [numbers[ready:].copy()]
        self._counts = {name: [values[ready:].copy()] for name, values in counts.items()}
        for begin in range(0, ready, form.GROUP):
            part = slice(begin, min(begin + form.GROUP, ready))
            columns = {name: values[part] for name, values in counts.items()}
            for name, first in (("steps", "first"), ("lates", "late")):
                columns[first] = np.cumsum(columns[name]) - columns[name] + self._written[name]
                self._written[name] += int(columns[name].sum())
            table = keys(numbers[part])
            for name in form.COUNTS:
                table = table.append_column(name, pa.array(columns[name]))
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, table.schema) as writer:
                writer.write_table(table)
            self._key_blocks.append(self._blocks.add(np.frombuffer(sink.getvalue(), np.uint8)))


def _each_once(times: Sequence[Ints]) -> Ints:
    """The times of several arrays in order, in order and each once."""
    # this sort takes what is in order already as it is
    every = np.sort(np.concatenate(times), kind="stable")
    new = np.ones(len(every), np.bool_)
    np.not_equal(every[1:], every[:-1], out=new[1:])
    return every[new]


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
