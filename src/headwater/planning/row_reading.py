"""Reading rows of the offline log: which of them a view version takes, and when each is known.

One rule for all: `write` holds rows against it before they are appended, runs and history take rows from the log by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from headwater.definitions.names import CREATED, OPEN
from headwater.definitions.sources import PushSource
from headwater.forks import lazy
from headwater.planning.resolved import ResolvedView
from headwater.types import Date, DType, Int64, Timestamp, fits

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class RowReading:
    """How a view version reads a row of the log: which of its columns hold the join keys and the times.

    Attributes:
        keys: the source's columns of the join keys, in the entity's order.
        event: the column of the event time; None: valid always.
        created: the column of the created time, before the reserved one; None: the reserved one, else the arrival.
        ends: the column of the time at which a row ends; None: rows do not. A row without it has not ended.
        names: the join keys, in the same order; none: they are named like the columns.
        key_names: what other versions call these join keys, each in the same order.
    """

    keys: tuple[str, ...]
    event: str | None
    created: str | None
    names: tuple[str, ...] = ()
    key_names: tuple[tuple[str, ...], ...] = ()
    ends: str | None = None

    def fits(self, schema: pa.Schema) -> bool:
        """Whether rows with these columns can be the version's: they have its keys, and its times are times.

        A column that is the created time for one version can be text for another, which alone takes such rows then; a
        row need not have one.
        """
        types = dict(zip(schema.names, schema.types, strict=True))
        if not set(self.keys) <= types.keys() or (self.event is not None and self.event not in types):
            return False
        return all(_is_time(types[name]) for name in (self.event, self.created, self.ends) if name in types)

    def key_table(self, table: pa.Table) -> pa.Table:
        """The join keys of rows, by name."""
        keys = table.select(self.keys)
        return keys.rename_columns(list(self.names)) if self.names else keys

    def created_at(self, table: pa.Table, arrivals: NDArray[np.int64]) -> NDArray[np.int64]:
        """The created time of each row, microseconds: its source's, else the reserved one, else its arrival."""
        created = arrivals
        for name in reversed(created_columns(self.created, table.schema)):
            created = _micros(table.column(name), created)
        return created

    def ends_at(self, table: pa.Table) -> pa.Array:
        """When each row ends, microseconds; `OPEN` where it has not."""
        never = np.full(table.num_rows, OPEN, np.int64)
        return pa.array(_micros(table.column(self.ends), never) if self.ends in table.schema.names else never)

    def known_at(self, table: pa.Table, arrivals: NDArray[np.int64]) -> NDArray[np.int64]:
        """max(event time, created time) of each row, microseconds."""
        created = self.created_at(table, arrivals)
        return created if self.event is None else known_at(_micros(table.column(self.event), created), created)


def known_at(event: NDArray[np.int64], created: NDArray[np.int64]) -> NDArray[np.int64]:
    """When rows became known, microseconds: the later of event time and created time."""
    known: NDArray[np.int64] = np.maximum(event, created)
    return known


def _is_time(given: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(given) or pa.types.is_null(given))


def created_names(created: str | None) -> tuple[str, ...]:
    """The columns that say when a row was created, of which the first that is not NULL counts; else its arrival does.

    Args:
        created: the source's column of the created time; else the reserved one is the only one.
    """
    return (CREATED,) if created in (None, CREATED) else (created, CREATED)


def created_columns(created: str | None, schema: pa.Schema) -> list[str]:
    """Those of `created_names` that rows of the log have.

    Args:
        created: the source's column of the created time.
        schema: of the rows. Columns in which there are no times do not count.
    """
    return [
        name
        for name in created_names(created)
        if name in schema.names and pa.types.is_timestamp(schema.field(name).type)
    ]


def _micros(column: pa.ChunkedArray, otherwise: NDArray[np.int64]) -> NDArray[np.int64]:
    """A column of microsecond timestamps as integers; where it is NULL, or no such column, the other value."""
    if not pa.types.is_timestamp(column.type):
        return otherwise
    present = column.is_valid().to_numpy()
    values = column.cast(pa.int64()).fill_null(0).to_numpy()
    return np.where(present, values, otherwise).astype(np.int64)


@dataclass(frozen=True)
class RowVersion:
    """What one view version asks of a row: which it takes, and by which columns."""

    view: ResolvedView

    @lazy
    def reading(self) -> RowReading:
        """Which columns hold its keys and times."""
        source = self.view.view.source
        keys = self.view.keys
        columns, names = tuple(k.source_column for k in keys), tuple(k.name for k in keys)
        return RowReading(columns, source.event_time, source.created_time, names, self.view.key_names, source.valid_to)

    @lazy
    def needs(self) -> dict[str, tuple[DType | None, ...]]:
        """Column → what it must fit (None: a time), for every column that a complete row has."""
        needs: dict[str, list[DType | None]] = {}
        if self.reading.event is not None:
            needs.setdefault(self.reading.event, []).append(None)
        for key in self.view.keys:
            needs.setdefault(key.source_column, []).append(Int64 if key.dtype.name == "int32" else key.dtype)
        for column, dtype in self.view.view.column_dtypes:
            needs.setdefault(column, []).append(dtype)
        return {name: tuple(dict.fromkeys(dtypes)) for name, dtypes in needs.items()}

    @lazy
    def dtypes(self) -> dict[str, DType]:
        """Column → what its values are, for every column whose values are of one dtype; of several its feature's."""
        source = self.view.view.source
        dtypes = {name: next(filter(None, wanted), Timestamp) for name, wanted in self.needs.items()}
        for name in source.times:
            dtypes.setdefault(name, Timestamp)
        return {**(getattr(source, "schema", None) or {}), **dtypes}

    @lazy
    def times(self) -> frozenset[str]:
        """The columns it reads as times."""
        named = (self.reading.event, *created_names(self.reading.created), self.reading.ends)
        return frozenset(name for name in named if name is not None)

    @lazy
    def reads(self) -> frozenset[str]:
        """The columns that its keys, times, event id and features read; no others are kept."""
        event_id = self.view.view.source.event_id
        return frozenset(self.needs) | self.times | ({event_id} if event_id is not None else set())

    @lazy
    def known(self) -> frozenset[str]:
        """Every column a row may have for it; the source's others are asked for where one turns up."""
        source = self.view.view.source
        more = [*source.times, source.event_id, CREATED]
        if isinstance(source, PushSource):
            more += list(source.schema or ())
        return frozenset(self.needs) | {name for name in more if name is not None}

    def takes(self, schema: pa.Schema) -> bool:
        """Whether rows of the log with these columns are complete for it, and of types it can hold."""
        if not self.reading.fits(schema):
            return False
        for name, wanted in self.needs.items():
            at = schema.get_field_index(name)
            if at < 0 or not all(self._reads(name, dtype, schema.field(at).type) for dtype in wanted):
                return False
        return True

    def lacking(self, schema: pa.Schema) -> tuple[str, ...]:
        """The columns of a complete row that rows of the log with these columns do not have, in order."""
        return tuple(name for name in self.needs if schema.get_field_index(name) < 0)

    def _reads(self, name: str, dtype: DType | None, given: pa.DataType) -> bool:
        return holds(given, dtype) or self.holds_day(name, dtype, given)

    def holds_day(self, name: str, dtype: DType | None, given: pa.DataType) -> bool:
        """Whether a column of the log is a feature's date that is a time too: the log keeps it as the instant."""
        return bool(dtype == Date and pa.types.is_timestamp(given) and name in self.times and name not in self._keys)

    @lazy
    def _keys(self) -> frozenset[str]:
        return frozenset(self.reading.keys)


def holds(given: pa.DataType, dtype: DType | None) -> bool:
    """Whether values of an Arrow type are values of a dtype (None: times)."""
    if dtype is None:
        return bool(pa.types.is_timestamp(given))
    both_floats = dtype.name == "float32" and pa.types.is_floating(given)
    return bool(both_floats or fits(given, dtype))
