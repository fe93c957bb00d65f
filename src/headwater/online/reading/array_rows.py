"""Rows of a view that are arrays already: received from a server, or computed on demand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from headwater.clock import EPOCH, LAST_MICROS, MIN_MICROS
from headwater.forks import lazy
from headwater.online.rows.values import python_values
from headwater.types import STATUSES, DType, Status, leaf_dtype

_NO_ROW = [STATUSES.index(status) for status in (Status.NOT_FOUND, Status.NOT_KNOWN)]
_LONGEST = 1 << 62


@dataclass(eq=False, slots=True)
class RowTimes:
    """The times of a view's rows, microseconds.

    Attributes:
        events: event times; anything where there is none.
        created: created times; anything where `gone`.
        at: the instants that the answers hold for.
        gone: where there is no row to show.
    """

    events: NDArray[np.int64]
    created: NDArray[np.int64]
    at: NDArray[np.int64]
    gone: NDArray[np.bool_]


class ArrayRows:
    """The rows of one view as arrays: what defaults, deletes and drops made of them is in their values.

    A server sends rows so, and functions compute them so. See `AnsweredRows`.
    """

    said: ClassVar[str] = ""

    def __init__(
        self, arrays: Sequence[pa.Array], dtypes: Sequence[DType], times: RowTimes, damaged: dict[int, str]
    ) -> None:
        self._arrays, self._dtypes, self._times = arrays, dtypes, times
        self.size = len(times.at)
        self.at: int | NDArray[np.int64] = times.at
        self.absent: list[int] = []
        self.expired: list[int] = []
        self.missing: list[int] = []
        self.not_known: list[int] = []
        self.damaged = damaged
        self.left_out: dict[int, dict[int, str]] = {}
        self.since: int | None = None
        self._gone = times.gone
        self.has_nulls = any(array.null_count for array in arrays)

    def is_of_windows(self, since: int, codes: NDArray[np.uint8]) -> None:
        """The rows are those of a window view, of which some have no event time and are there all the same.

        Args:
            since: up to when the view is complete, microseconds.
            codes: the statuses of one of its columns.
        """
        self.since = since
        self._times.events = np.where(self._times.gone, MIN_MICROS, self._times.events)
        self._times.created = np.where(self._times.gone, MIN_MICROS, self._times.created)
        self._gone = np.isin(codes, _NO_ROW)
        self._gone[list(self.damaged)] = True

    @property
    def gone(self) -> set[int]:
        """Positions that have no row to show."""
        return set(np.flatnonzero(self._gone).tolist())

    @property
    def timeless(self) -> set[int]:
        """Positions without an event time to show."""
        return set(np.flatnonzero(self._times.gone).tolist())

    def events(self) -> NDArray[np.int64]:
        """Event times, microseconds."""
        return self._times.events

    def created(self) -> NDArray[np.int64]:
        """Created times, microseconds."""
        return self._times.created

    def older_places(self, age: int) -> NDArray[np.intp]:
        """The places of rows that are there and more than `age` microseconds old."""
        since = self.events() if self.since is None else np.maximum(self.events(), self.since)
        old = since < self._times.at - min(age, _LONGEST)
        old[list(self.gone)] = False
        return np.flatnonzero(old)

    def columns(self) -> list[list[Any]]:
        """Python values of each column."""
        return [python_column(array, dtype) for array, dtype in zip(self._arrays, self._dtypes, strict=True)]

    def matrix(self, columns: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """A new (rows, columns) matrix of numeric columns."""
        out = np.empty((self.size, len(columns)), dtype)
        for position, column in enumerate(columns):
            out[:, position] = self.numbers(column)
        return out

    def numbers(self, column: int) -> NDArray[Any]:
        """A fixed-width column as numbers; anything where it is NULL."""
        return numbers(self._arrays[column], self._dtypes[column])

    def nulls(self, column: int) -> NDArray[np.bool_] | None:
        """Where a column is NULL; None where it never is."""
        array = self._arrays[column]
        return null_mask(array) if array.null_count else None

    def null_statuses(self, column: int) -> NDArray[np.bool_] | None:
        """As `nulls`: the statuses themselves were received."""
        return self.nulls(column)


def null_mask(array: pa.Array) -> NDArray[np.bool_]:
    """Where an array is NULL."""
    bits = array.buffers()[0]
    if bits is None:
        return np.zeros(len(array), np.bool_)
    mask: NDArray[np.bool_] = _bits(bits, array.offset, len(array)) == 0
    return mask


def _bits(buffer: pa.Buffer, offset: int, count: int) -> NDArray[np.uint8]:
    return np.unpackbits(np.frombuffer(buffer, np.uint8), bitorder="little")[offset : offset + count]


def numbers(array: pa.Array, dtype: DType) -> NDArray[Any]:
    """The numbers of a fixed-width array as its buffer has them, a matrix of an embedding; not to be changed."""
    if dtype.name == "embedding":
        assert dtype.dim is not None
        flat = array.values
        floats = np.frombuffer(flat.buffers()[1] or b"", "<f4")[flat.offset :]
        return floats[array.offset * dtype.dim : (array.offset + len(array)) * dtype.dim].reshape(-1, dtype.dim)
    data = array.buffers()[1]
    if data is None:
        return np.zeros(len(array), dtype.numpy)
    if dtype.name == "bool":
        return _bits(data, array.offset, len(array))
    return np.frombuffer(data, dtype.numpy)[array.offset : array.offset + len(array)]


def python_column(array: pa.Array, dtype: DType) -> list[Any]:
    """Python values of a column, as results give them: times as datetimes in UTC, arrays and embeddings as lists."""
    if dtype.name == "timestamp":
        if not array.null_count:
            return python_values(numbers(array, dtype), dtype)
        # what stands below a NULL may be no instant
        nulls = null_mask(array)
        values = python_values(np.where(nulls, 0, numbers(array, dtype)), dtype)
        for i in np.flatnonzero(nulls).tolist():
            values[i] = None
        return values
    listed: list[Any] = array.to_pylist()
    if dtype.name == "array" and leaf_dtype(dtype).name == "timestamp":
        return [_in_utc(value) for value in listed]
    return listed


def _in_utc(value: Any) -> Any:
    if isinstance(value, list):
        return [_in_utc(item) for item in value]
    return None if value is None else value.astimezone(EPOCH.tzinfo)


class ComputedTimes:
    """The times of computed rows, worked out where somebody asks: the oldest event of each row's inputs.

    Args:
        size: how many rows there are.
        inputs: gives the times of the views that the rows were computed from.
        at: microseconds; the instant of the read, for rows that were computed from no view.
    """

    def __init__(self, size: int, inputs: Callable[[], Sequence[RowTimes]], at: int) -> None:
        self._size, self._inputs, self._at = size, inputs, at

    @lazy
    def times(self) -> RowTimes:
        """The times; no event time where no input has one."""
        found = self._inputs()
        events, created = np.full(self._size, LAST_MICROS), np.full(self._size, MIN_MICROS)
        at, gone = np.full(self._size, self._at if not found else LAST_MICROS), np.ones(self._size, np.bool_)
        for times in found:
            there = ~times.gone
            gone &= times.gone
            events[there] = np.minimum(events[there], times.events[there])
            created[there] = np.maximum(created[there], times.created[there])
            at = np.minimum(at, times.at)
        return RowTimes(events, created, at, gone)


class ComputedRows(ArrayRows):
    """Rows that functions computed; their statuses are given apart."""

    def __init__(self, arrays: Sequence[pa.Array], dtypes: Sequence[DType], size: int, times: ComputedTimes) -> None:
        self._arrays, self._dtypes, self._computed = arrays, dtypes, times
        self.size = size
        self.absent, self.expired, self.missing, self.not_known = [], [], [], []
        self.damaged, self.left_out, self.since = {}, {}, None
        # their statuses are never worked out from them
        self.has_nulls = True

    @property
    def _times(self) -> RowTimes:  # type: ignore[override]
        return self._computed.times

    @property
    def _gone(self) -> NDArray[np.bool_]:  # type: ignore[override]
        return self._times.gone

    @property
    def at(self) -> NDArray[np.int64]:  # type: ignore[override]
        """The instants that the answers hold for."""
        return self._times.at

    def older_places(self, age: int) -> NDArray[np.intp]:
        """None: whether a computed value is stale is said by its inputs."""
        return np.empty(0, np.intp)
