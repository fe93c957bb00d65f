"""Rows dealt into parts, such as those of whole keys, by the hash of each; past a budget, in files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from numpy.typing import NDArray

PARTS = 256
"""A power of two."""
_STEPS = 8


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
        self._batches: list[list[pa.RecordBatch]] = [[] for _ in range(parts)]
        self._files: list[pa.ipc.RecordBatchStreamWriter | None] = [None] * parts
        self.bytes = [0] * parts
        # neighbours have their arrays in common: few arrays, most of which are free before the last part is taken
        self._together = max(1, parts // _STEPS)

    def add(self, batch: pa.RecordBatch, part: NDArray[Any]) -> None:
        """Deal a batch.

        Args:
            batch: the rows.
            part: of each its part.
        """
        if not batch.num_rows:
            return
        order = _by_part(part, self._parts)
        ends = np.cumsum(np.bincount(part, minlength=self._parts))
        for first in range(0, self._parts, self._together):
            numbers = range(first, min(first + self._together, self._parts))
            start, end = ends[first - 1] if first else 0, ends[numbers[-1]]
            if start == end:
                continue
            rows = _taken(batch, order[start:end])
            each, self._held = rows.nbytes / rows.num_rows, self._held + rows.nbytes
            for number in numbers:
                size = int(ends[number] - (ends[number - 1] if number else 0))
                if size:
                    self._batches[number].append(rows.slice(int(ends[number]) - size - int(start), size))
                    self.bytes[number] += int(size * each)
        if self._held > self._budget:
            self._spill()

    def _spill(self) -> None:
        for number, batches in enumerate(self._batches):
            if not batches:
                continue
            writer = self._files[number]
            if writer is None:
                writer = pa.ipc.new_stream(str(self._path(number)), self.schema)
                self._files[number] = writer
            for batch in pa.Table.from_batches(batches).combine_chunks().to_batches():
                writer.write_batch(batch)
            self._batches[number] = []
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
        self._batches = [[] for _ in range(self._parts)]

    def take(self, numbers: range) -> pa.Table:
        """The rows of some parts, which are gone here then."""
        tables = []
        for number in numbers:
            batches, self._batches[number] = self._batches[number], []
            if self._files[number] is not None:
                with pa.OSFile(str(self._path(number))) as file:
                    tables.append(pa.ipc.open_stream(file).read_all())
                self._path(number).unlink()
            if batches:
                tables.append(pa.Table.from_batches(batches))
        return pa.concat_tables(tables) if tables else self.schema.empty_table()


def _taken(batch: pa.RecordBatch, order: NDArray[np.int64]) -> pa.RecordBatch:
    """Some rows of a batch; Arrow's own `take` is slower on numbers without NULLs."""
    indices = pa.array(order)
    columns = []
    for column in batch.columns:
        if _plain(column):
            columns.append(pa.array(column.to_numpy().take(order)))
        else:
            columns.append(column.take(indices))
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


def _by_part(part: NDArray[Any], parts: int) -> NDArray[np.int64]:
    """The rows by part, in order: parts and rows sorted as single numbers, which is faster than a stable sort."""
    bits = len(part).bit_length()
    form: Any = np.uint32 if parts << bits < 2**32 else np.uint64
    stamps = (part.astype(form) << form(bits)) | np.arange(len(part), dtype=form)
    stamps.sort()
    order: NDArray[np.int64] = (stamps & form((1 << bits) - 1)).astype(np.int64)
    return order


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
