"""Rows dealt into parts by the hash of their key, so that a part has all rows of its keys; past a budget, in files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from numpy.typing import NDArray

PARTS = 256


class Dealt:
    """Rows by part.

    Args:
        schema: of the rows; the column `n` has the number of the key.
        folder: where files are made.
        budget: bytes that are held in memory.
    """

    def __init__(self, schema: pa.Schema, folder: Path, budget: int) -> None:
        self.schema = schema
        self._folder, self._budget, self._held = folder, budget, 0
        self._batches: list[list[pa.RecordBatch]] = [[] for _ in range(PARTS)]
        self._files: list[pa.ipc.RecordBatchStreamWriter | None] = [None] * PARTS
        self.sizes = [0] * PARTS
        self.bytes = [0] * PARTS

    def add(self, batch: pa.RecordBatch) -> None:
        """Deal a batch."""
        if not batch.num_rows:
            return
        part = part_of(np.asarray(batch.column("n")))
        order = np.argsort(part.astype(np.uint8), kind="stable")
        counts = np.bincount(part, minlength=PARTS)
        dealt, start = _taken(batch, order), 0
        each = dealt.nbytes / batch.num_rows
        for number in np.flatnonzero(counts):
            size = int(counts[number])
            self._batches[number].append(dealt.slice(start, size))
            self.sizes[number] += size
            self.bytes[number] += int(size * each)
            start += size
        self._held += dealt.nbytes
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
        self._batches = [[] for _ in range(PARTS)]

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
    """The rows of a batch in another order; Arrow's own `take` is slower on numbers without NULLs."""
    indices = pa.array(order)
    columns = []
    for column in batch.columns:
        plain = pa.types.is_primitive(column.type) and not pa.types.is_boolean(column.type) and not column.null_count
        if plain and not pa.types.is_temporal(column.type):
            columns.append(pa.array(column.to_numpy()[order]))
        else:
            columns.append(column.take(indices))
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


def part_of(keys: NDArray[Any]) -> NDArray[Any]:
    """The part of each key, by its number, which says nothing about the key."""
    return keys % PARTS


def local_keys(given: NDArray[Any], numbers: range) -> NDArray[np.int64]:
    """The keys of some parts numbered among themselves."""
    keys = given.astype(np.int64)
    return keys // PARTS * len(numbers) + (keys % PARTS - numbers.start)


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
