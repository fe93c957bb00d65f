"""The rows of a training set, written batch by batch; digests and statistics are gathered on the way."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from headwater.errors import StorageFull, StoreError, UsageError
from headwater.offline.training_sets.manifest import FILE, Manifest, SavedColumn, SavedRows, encode
from headwater.offline.training_sets.statistics import ColumnStatistics
from headwater.offline.training_sets.values_digest import ValuesDigest
from headwater.scratch import whole_file
from headwater.state_files import opener


class RowsWriter:
    """Writes the file of the rows; within `with`, which closes the file.

    Args:
        file: the file, which must not exist.
        schema: of the rows.
        spine: the columns of the spine, which come first.
    """

    def __init__(self, file: Path, schema: pa.Schema, spine: tuple[str, ...]) -> None:
        self._file, self._schema, self._spine = file, schema, spine
        self._statistics = [ColumnStatistics(field.type) for field in schema]
        self._digest = ValuesDigest(pa.schema([schema.field(name) for name in spine]))
        self.rows = 0

    def __enter__(self) -> RowsWriter:
        with explained(self._file):
            self._sink = _Hashing(self._file)
            try:
                self._writer = pq.ParquetWriter(self._sink, self._schema)
            except BaseException:
                self._sink.close()
                raise
        return self

    def write(self, batch: pa.RecordBatch) -> None:
        """Add rows."""
        with explained(self._file):
            self._writer.write_batch(batch)
        for statistics, column in zip(self._statistics, batch.columns, strict=True):
            statistics.add(column)
        self._digest.add(batch.select(list(self._spine)))
        self.rows += batch.num_rows

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            with explained(self._file):
                try:
                    self._writer.close()
                finally:
                    if kind is None:
                        self._sink.sync()
        except StoreError:
            if kind is None:  # else what was raised first says more
                raise
        finally:
            self._sink.close()

    @property
    def spine_digest(self) -> str:
        """Of the values of the spine's columns."""
        return self._digest.hexdigest()

    def saved(self, erased: int = 0) -> SavedRows:
        """What the manifest says of the file.

        Args:
            erased: how many rows were taken out.
        """
        return SavedRows(self._file.name, self.rows, self._sink.bytes, self._sink.hexdigest(), erased)

    def described(self, columns: tuple[SavedColumn, ...]) -> tuple[SavedColumn, ...]:
        """The manifest's columns with the statistics of what was written."""
        return tuple(
            msgspec.structs.replace(column, nulls=found.nulls, null_rate=found.null_rate, statistics=found.summary())
            for column, found in zip(columns, self._statistics, strict=True)
        )


class _Hashing:
    """A new file that digests what is written to it."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "xb", opener=opener)  # noqa: SIM115 - closed by `close`
        self._digest = hashlib.sha256()
        self.bytes = 0

    closed = False

    def write(self, data: Any) -> int:
        self._digest.update(data)
        self.bytes += len(data)
        return self._file.write(data)

    def tell(self) -> int:
        return self.bytes

    def flush(self) -> None:
        self._file.flush()

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def hexdigest(self) -> str:
        return self._digest.hexdigest()

    def sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close it; what `sync` could not write is not tried again."""
        with suppress(OSError):
            self._file.close()


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Errors of writing a file, in the words of a store.

    Raises:
        StorageFull: no room is left.
        StoreError: it cannot be written.
        UsageError: a column has a type that Parquet lacks.
    """
    try:
        yield
    except pa.ArrowNotImplementedError as bad:
        raise UsageError(f"cannot write {path}: {bad}; cast that column of the spine, or leave it out") from bad
    except OSError as bad:
        full = bad.errno == 28 or "No space left" in str(bad)
        raise (StorageFull if full else StoreError)(f"cannot write {path}: {bad}") from bad


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest of a folder; it appears whole or not at all.

    Raises:
        StorageFull, StoreError: it cannot be written.
    """
    with explained(folder / FILE), whole_file(folder / FILE) as partial, partial.open("wb") as file:
        file.write(encode(manifest))
        file.flush()
        os.fsync(file.fileno())
    make_durable(folder)


def make_durable(folder: Path) -> None:
    """Let the names in a folder outlast a power failure, where the system can."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows opens no folders
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
