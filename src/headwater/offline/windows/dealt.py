"""Rows dealt into parts, such as those of whole keys, by the hash of each; past a budget, in files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from headwater.offline.windows.keyed import sorted_by

if TYPE_CHECKING:
    from numpy.typing import NDArray

PARTS = 256
"""A power of two."""
_STEPS = 8
_SMALL, _MESSAGE = 1_024, 65_536
"""Rows of batches that are written together, and of what is written and read at once at most."""


class Dealt:
    """Rows by part.

    Args:
        schema: of the rows.
        folder: where files are made.
        budget: bytes that are held in memory.
        parts: how many there are.

    Attributes:
        bytes: how many each part takes, about.
    """

    def __init__(self, schema: pa.Schema, folder: Path, budget: int, parts: int = PARTS) -> None:
        self.schema, self._parts = schema, parts
        self._folder, self._budget, self._held = folder, budget, 0
        self._files: list[pa.ipc.RecordBatchStreamWriter | None] = [None] * parts
        self.bytes = [0] * parts
        # neighbours have their arrays in common: few arrays, most of which are free before the last part is taken
        together = max(1, parts // _STEPS)
        steps = range(0, parts, together)
        self._steps = [_Step(range(first, min(first + together, parts))) for first in steps]

    def add(self, rows: pa.RecordBatch | pa.Table, part: NDArray[Any]) -> None:
        """Deal rows.

        Args:
            rows: the rows.
            part: of each its part.
        """
        if not rows.num_rows:
            return
        order = sorted_by(part, self._parts)
        ends = np.concatenate([[0], np.cumsum(np.bincount(part, minlength=self._parts))])
        steps = [step for step in self._steps if ends[step.parts.start] < ends[step.parts.stop]]
        orders = [order[ends[step.parts.start] : ends[step.parts.stop]] for step in steps]
        for step, some in zip(steps, _taken(rows, orders), strict=True):
            own = ends[step.parts.start : step.parts.stop + 1] - ends[step.parts.start]
            step.batches.append((some, own))
            self._held += some.nbytes
            for number, size in zip(step.parts, (np.diff(own) * (some.nbytes / some.num_rows)).tolist(), strict=True):
                self.bytes[number] += int(size)
        if self._held > self._budget:
            self._spill()

    def _spill(self) -> None:
        for step in self._steps:
            for number in step.parts:
                batches = step.of_parts(range(number, number + 1))
                if not batches:
                    continue
                writer = self._files[number]
                if writer is None:
                    writer = pa.ipc.new_stream(str(self._path(number)), self.schema)
                    self._files[number] = writer
                rows = pa.Table.from_batches(batches)
                if rows.num_rows < _SMALL * len(batches):
                    rows = rows.combine_chunks()
                for batch in rows.to_batches(max_chunksize=_MESSAGE):
                    writer.write_batch(batch)
            step.batches.clear()
        self._held = 0

    def _path(self, number: int) -> Path:
        return self._folder / f"{id(self)}-{number}.arrows"

    def finish(self) -> None:
        """No more rows come: the files are complete."""
        for writer in self._files:
            if writer is not None:
                writer.close()

    def close(self) -> None:
        """Let go of all rows."""
        self.finish()
        for step in self._steps:
            step.batches.clear()

    def batches(self, number: int) -> Iterator[pa.RecordBatch]:
        """The rows of a part, which stay here."""
        if self._files[number] is not None:
            with pa.OSFile(str(self._path(number))) as file:
                yield from pa.ipc.open_stream(file)
        for step in self._steps:
            yield from step.of_parts(range(number, number + 1))

    def drop(self, number: int) -> None:
        """Let go of the rows of a part, in place of `take`."""
        if self._files[number] is not None:
            self._path(number).unlink(missing_ok=True)
            self._files[number] = None
        for step in self._steps:
            if step.parts.stop <= number + 1:
                step.batches.clear()

    def take(self, numbers: range) -> pa.Table:
        """The rows of some parts, those of each in order; parts are taken in order, each once."""
        tables = []
        for number in numbers:
            if self._files[number] is not None:
                with pa.OSFile(str(self._path(number))) as file:
                    tables.append(pa.ipc.open_stream(file).read_all())
                self._path(number).unlink()
        for step in self._steps:
            batches = step.of_parts(numbers)
            if batches:
                tables.append(pa.Table.from_batches(batches))
            if step.parts.stop <= numbers.stop:
                step.batches.clear()
        return pa.concat_tables(tables) if tables else self.schema.empty_table()


class _Step:
    """Rows of neighbouring parts in memory.

    Args:
        parts: their numbers.

    Attributes:
        batches: rows by part, with where each part begins, and where the last one ends.
    """

    def __init__(self, parts: range) -> None:
        self.parts = parts
        self.batches: list[tuple[pa.RecordBatch, NDArray[np.int64]]] = []

    def of_parts(self, numbers: range) -> list[pa.RecordBatch]:
        """The rows of some parts."""
        first = max(numbers.start, self.parts.start) - self.parts.start
        last = min(numbers.stop, self.parts.stop) - self.parts.start
        if first >= last:
            return []
        return [
            rows.slice(int(ends[first]), int(ends[last] - ends[first]))
            for rows, ends in self.batches
            if ends[first] < ends[last]
        ]


def _taken(rows: pa.RecordBatch | pa.Table, orders: Sequence[NDArray[np.int64]]) -> list[pa.RecordBatch]:
    """Some of the rows, several times: one column after the other, which stays near the processor meanwhile.

    Arrow's own `take` is slower on numbers without NULLs.
    """
    found: list[list[pa.Array]] = [[] for _ in orders]
    for column in rows.columns:
        if isinstance(column, pa.ChunkedArray):
            column = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
        if _plain(column):
            values = column.to_numpy()
            for arrays, order in zip(found, orders, strict=True):
                arrays.append(pa.array(values.take(order)))
        else:
            for arrays, order in zip(found, orders, strict=True):
                arrays.append(column.take(pa.array(order)))
    return [pa.RecordBatch.from_arrays(arrays, schema=rows.schema) for arrays in found]


def _plain(column: pa.Array) -> bool:
    kind = column.type
    number = pa.types.is_primitive(kind) and not pa.types.is_boolean(kind) and not pa.types.is_temporal(kind)
    return bool(number and not column.null_count)


def part_of(keys: NDArray[Any]) -> NDArray[Any]:
    """The part of each key, by its number, which says nothing about the key."""
    return keys & (PARTS - 1)


def local_keys(given: NDArray[Any], numbers: range) -> NDArray[np.int64]:
    """The keys of some parts numbered among themselves."""
    keys = given // PARTS * len(numbers)
    keys += part_of(given) - numbers.start
    return keys.astype(np.int64)


def groups_of_parts(bytes_of: list[int], most: int) -> Iterator[range]:
    """Neighbouring parts that are worked on together: as many as take no more than so many bytes, at least one."""
    start = 0
    while start < PARTS:
        end, total = start + 1, bytes_of[start]
        while end < PARTS and total + bytes_of[end] <= most:
            total += bytes_of[end]
            end += 1
        yield range(start, end)
        start = end
