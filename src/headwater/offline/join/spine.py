"""The spine: the training rows as they were given, and beside them their instants and keys in the query's form."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from headwater.errors import SpineError, listing, nearest
from headwater.offline.files.footers import time_range
from headwater.offline.join.batches import in_pieces, one_batch
from headwater.offline.join.relations import ViewRelations, key_form
from headwater.offline.join.spine_bucket import SpineBucket
from headwater.offline.join.workspace import Workspace
from headwater.offline.trees import Tree
from headwater.offline.words import Words
from headwater.planning.local_time import REPEATED, SKIPPED, aware, floor_micros, local_times
from headwater.planning.tables import column_names, index_hint, match_key
from headwater.planning.value_checks import PARSE_TIMES, holds_text, refuse_not_text, refuse_unreadable
from headwater.types import DType

TIMESTAMPS = ("timestamp", "event_timestamp")
ViewKeys = tuple[ViewRelations, tuple[str, ...]]
_SHOWN = 10
FORMS = (
    "a spine is a table, the path of a Parquet file, or SQL that begins with SELECT, WITH or FROM "
    "(a CSV: \"SELECT * FROM read_csv('spine.csv')\", or pandas.read_csv('spine.csv', parse_dates=['timestamp']))"
)
_BATCH = 131_072
_TWO_DAYS = 2 * 86_400_000_000


@dataclass
class Extent:
    """Which rows were put into the table of the spine: how many, and their least and greatest t."""

    rows: int = 0
    first: int = 2**63 - 1
    last: int = -(2**63)

    def add(self, rows: int, first: int, last: int) -> None:
        """Count a batch, with its least and greatest t."""
        self.rows, self.first, self.last = self.rows + rows, min(self.first, first), max(self.last, last)


class Spine(ABC):
    """Training rows.

    Attributes:
        keys: column → dtype of each join key.
        timestamp_column: the column of the instants; None where all have the same.
        at: that instant (microseconds).
        given: what the user gave.
        zone: the time zone of naive timestamps; None: UTC.
        repeated, skipped: how many timestamps are in an hour that a clock change repeats, or skips.
        bucket: which rows there are; None: all.
    """

    zone: str | None = None
    repeated = skipped = 0
    bucket: SpineBucket | None = None

    def __init__(self, keys: Mapping[str, DType], timestamp_column: str | None, at: int | None, given: Any) -> None:
        self.keys = dict(keys)
        self.timestamp_column = timestamp_column
        self.at = at
        self.given = given

    @property
    def file(self) -> Path | None:
        """The file that each reading reads again; None where the rows are held."""
        return None

    @property
    @abstractmethod
    def schema(self) -> pa.Schema:
        """The spine's own columns."""

    @property
    @abstractmethod
    def size(self) -> int | None:
        """How many rows there are; None where only a run can tell."""

    def time_range(self) -> tuple[int, int] | None:
        """The least and greatest instant, or somewhat more; None where only reading the rows tells."""
        return None if self.at is None else (self.at, self.at)

    @abstractmethod
    def place(self, space: Workspace, extent: Extent) -> None:
        """Make the table `spine`: rn, t (microseconds, rounded down) and the keys c0….

        Raises:
            SpineError: a timestamp that is NULL or outside of the years 1 to 9999; a key that does not fit.
        """

    def list_entities(self, space: Workspace, views: Sequence[ViewKeys], extent: Extent) -> None:
        """Make the same table of the entities that views have rows of, where no rows were given.

        Args:
            space: the run's tables.
            views: the rows of each view, with the spine's column of each of their keys.
            extent: the entities are added to it.
        """
        return

    @abstractmethod
    def columns(
        self, space: Workspace, rows: int, extent: Extent
    ) -> Iterator[tuple[NDArray[np.int64], pa.RecordBatch]]:
        """Rn and the spine's own columns in the order of rn, in batches of about `rows` rows, once it was placed."""

    def placed_columns(self, words: Words) -> list[tuple[str, Tree]]:
        """The names of its columns, and what they are of the table s, where all of them are in the engine.

        Args:
            words: the engine's.
        """
        raise NotImplementedError("its columns are here")

    def prepare(self) -> None:
        """Refuse a missing column or one of another type.

        Raises:
            SpineError: naming the column.
        """
        names = column_names(self.schema, "the spine", SpineError)
        for name, count in Counter(names).items():
            if count > 1:
                raise SpineError(f"the spine has {count} columns named {name!r}; rename one")
        if self.at is None:
            self.timestamp_column = _timestamp_of(names, self.timestamp_column, self.given)
            _check_time(self.schema.field(self.timestamp_column))
        for name, dtype in self.keys.items():
            if name not in names:
                raise SpineError(
                    f"the spine has no column {name!r} (a join key){nearest(name, names)}; it has {listing(names)}"
                    f"{index_hint(self.given, name)}"
                )
            match_key(
                pa.chunked_array([], self.schema.field(name).type),
                dtype,
                f"spine column {name!r}",
                SpineError,
            )


class LocalSpine(Spine):
    """Training rows here, read batch by batch, as often as wanted."""

    @abstractmethod
    def batches(self, rows: int, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
        """The rows in order, in batches of `rows` and a last one of fewer."""

    def place(self, space: Workspace, extent: Extent) -> None:
        space.load("spine", self.narrow_schema, self.narrow(extent.add))

    def columns(
        self, space: Workspace, rows: int, extent: Extent
    ) -> Iterator[tuple[NDArray[np.int64], pa.RecordBatch]]:
        done = 0
        for batch in self.whole(rows) if self.bucket is None else in_pieces(self.whole(rows), rows, self.schema):
            yield np.arange(done, done + batch.num_rows), batch
            done += batch.num_rows

    @property
    def narrow_schema(self) -> pa.Schema:
        """rn, t and the keys c0…."""
        keys = [(f"c{i}", key_form(dtype)) for i, dtype in enumerate(self.keys.values())]
        return pa.schema([("rn", pa.int64()), ("t", pa.int64()), *keys])

    def narrow(self, add: Callable[[int, int, int], None]) -> Iterator[pa.RecordBatch]:
        """rn, t (microseconds, rounded down) and the keys of each row.

        Args:
            add: called for each batch with its number of rows, and its least and greatest t.

        Raises:
            SpineError: a NULL timestamp, an instant outside the years 1 to 9999 or text that is not UTF-8, by its row;
                a key that does not fit, by its row.
        """
        wanted = [*self.keys, *([self.timestamp_column] if self.timestamp_column is not None else [])]
        first = number = 0
        for batch in self.batches(_BATCH, list(dict.fromkeys(wanted))):
            size = batch.num_rows
            refuse_unreadable(zip(batch.schema.names, batch.columns, strict=True), _place, SpineError, first)
            t = np.full(size, self.at, np.int64) if self.at is not None else self._instants(batch, first)
            keys = [self._key(batch.column(name), name, dtype, first) for name, dtype in self.keys.items()]
            if self.bucket is not None:
                chosen = self.bucket.rows(dict(zip(self.keys, keys, strict=True)), first, size)
                t, keys = t[chosen], [key.filter(pa.array(chosen)) for key in keys]
            if len(t):
                add(len(t), int(t.min()), int(t.max()))
            numbers = pa.array(np.arange(number, number + len(t), dtype=np.int64))
            yield pa.RecordBatch.from_arrays([numbers, pa.array(t), *keys], schema=self.narrow_schema)
            first, number = first + size, number + len(t)

    def whole(self, rows: int) -> Iterator[pa.RecordBatch]:
        """`batches` of all columns; those of a bucket have fewer rows.

        Raises:
            SpineError: text that is not UTF-8, by its row.
        """
        first = 0
        for batch in self.batches(rows):
            refuse_not_text(zip(batch.schema.names, batch.columns, strict=True), _place, SpineError, first)
            yield batch if self.bucket is None else batch.filter(pa.array(self._chosen(self.bucket, batch, first)))
            first += batch.num_rows

    def _chosen(self, bucket: SpineBucket, batch: pa.RecordBatch, first: int) -> NDArray[np.bool_]:
        """Which of some whole rows are in a bucket."""
        keys = {name: self._key(batch.column(name), name, dtype, first) for name, dtype in bucket.keys.items()}
        return bucket.rows(keys, first, batch.num_rows)

    @property
    def row_numbers(self) -> NDArray[np.int64]:
        """Which rows of the spine there are, in order, from 0."""
        found, first = [], 0
        for batch in self.batches(_BATCH, list(self.keys)):
            chosen = np.ones(batch.num_rows, np.bool_)
            if self.bucket is not None:
                chosen = self._chosen(self.bucket, batch, first)
            found.append(np.flatnonzero(chosen) + first)
            first += batch.num_rows
        return np.concatenate([np.zeros(0, np.int64), *found])

    def _instants(self, batch: pa.RecordBatch, first: int) -> NDArray[np.int64]:
        assert self.timestamp_column is not None
        column = batch.column(self.timestamp_column)
        if column.null_count:
            bad = np.flatnonzero(np.asarray(column.is_null())) + first
            rows = ", ".join(map(str, bad[:_SHOWN])) + (", …" if len(bad) > _SHOWN else "")
            raise SpineError(
                f"spine column {self.timestamp_column!r} has no timestamp (NULL or NaT) in row {rows} (the first is 0)"
            )
        micros = floor_micros(column)
        zone = None if self.zone is None else local_times(self.zone, later=False)
        if zone is None or (pa.types.is_timestamp(column.type) and column.type.tz is not None):
            return micros
        instants, kinds = zone.convert(micros)
        self.repeated = (self.repeated if first else 0) + int((kinds == REPEATED).sum())
        self.skipped = (self.skipped if first else 0) + int((kinds == SKIPPED).sum())
        return instants

    def _key(self, column: pa.Array, name: str, dtype: DType, first: int) -> pa.Array:
        zone = None if self.zone is None or dtype.name != "timestamp" else local_times(self.zone, later=True)
        if zone is not None:
            given = aware(pa.chunked_array([column]), zone, dates=False)
            assert isinstance(given, pa.ChunkedArray)
            column = given.combine_chunks()
        found = match_key(column, dtype, f"spine column {name!r}", SpineError, first=first).combine_chunks()
        found = found if isinstance(found, pa.Array) else pa.concat_arrays(found.chunks)
        return found.cast(pa.int64()) if dtype.name == "timestamp" else found


def _place(name: str) -> str:
    return f"spine column {name!r}"


def _timestamp_of(names: list[str], wanted: str | None, given: Any) -> str:
    if wanted is not None:
        if wanted not in names:
            raise SpineError(
                f"the spine has no column {wanted!r}{nearest(wanted, names)}; it has {listing(names)}"
                f"{index_hint(given, wanted)}"
            )
        return wanted
    for name in TIMESTAMPS:
        if name in names:
            return name
    raise SpineError(
        f"the spine has no column 'timestamp' or 'event_timestamp' (it has {listing(names)}); "
        "name yours with timestamp_column=…, or give one instant for all rows with at=…"
        f"{next(filter(None, (index_hint(given, name) for name in TIMESTAMPS)), '')}"
    )


def _check_time(field: pa.Field) -> None:
    kind = field.type
    if not (pa.types.is_timestamp(kind) or pa.types.is_date(kind) or pa.types.is_null(kind)):
        how = PARSE_TIMES if holds_text(kind) else "a bare number has no unit: convert it to a time first"
        raise SpineError(f"spine column {field.name!r} is {kind}, not a timestamp or date; {how}")


class TableSpine(LocalSpine):
    """A spine in memory, or mapped from a file."""

    def __init__(
        self, table: pa.Table, keys: Mapping[str, DType], timestamp_column: str | None, at: int | None, given: Any
    ) -> None:
        super().__init__(keys, timestamp_column, at, given)
        self.table = table

    @property
    def schema(self) -> pa.Schema:
        return self.table.schema.remove_metadata()

    @property
    def size(self) -> int:
        return int(self.table.num_rows)

    def time_range(self) -> tuple[int, int] | None:
        if self.timestamp_column is None:
            return super().time_range()
        extent, first = Extent(), 0
        for batch in self.batches(_BATCH, [self.timestamp_column]):
            t = self._instants(batch, first)
            extent.add(len(t), int(t.min()), int(t.max()))
            first += batch.num_rows
        return (extent.first, extent.last) if extent.rows else (0, 0)

    def batches(self, rows: int, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
        table = self.table if columns is None else self.table.select(columns)
        for start in range(0, self.table.num_rows, rows):
            yield one_batch(table.slice(start, rows), min(rows, self.table.num_rows - start))


class ParquetSpine(LocalSpine):
    """A spine in a Parquet file."""

    def __init__(self, path: Path, keys: Mapping[str, DType], timestamp_column: str | None, at: int | None) -> None:
        super().__init__(keys, timestamp_column, at, path)
        try:
            with pq.ParquetFile(path) as file:
                self._schema = file.schema_arrow.remove_metadata()
        except (pa.ArrowException, OSError) as bad:
            raise SpineError(f"cannot read the spine {path} as Parquet: {bad}; {FORMS}") from bad

    @property
    def file(self) -> Path | None:
        return Path(self.given)

    @property
    def schema(self) -> pa.Schema:
        return self._schema

    @property
    def size(self) -> int:
        with pq.ParquetFile(self.given) as file:
            return int(file.metadata.num_rows)

    def time_range(self) -> tuple[int, int] | None:
        if self.timestamp_column is None:
            return super().time_range()
        with pq.ParquetFile(self.given) as file:
            found = time_range([file.metadata], self.timestamp_column)
        # times of a zone are within two days of what is stored; finer ones were rounded up
        around = 1 if self.zone is None else _TWO_DAYS
        return None if found is None else (found[0] - around, found[1] + around)

    def batches(self, rows: int, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
        with pq.ParquetFile(self.given) as file:
            held: list[pa.RecordBatch] = []
            count = 0
            for batch in file.iter_batches(batch_size=min(rows, _BATCH), columns=columns):
                held.append(batch if columns is None else batch.select(columns))
                count += batch.num_rows
                while count >= rows:
                    table = pa.Table.from_batches(held)
                    yield one_batch(table.slice(0, rows), rows)
                    held, count = table.slice(rows).to_batches(), count - rows
            if count:
                yield one_batch(pa.Table.from_batches(held), count)
