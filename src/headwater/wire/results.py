"""Results on their way: what describes one, and a result made again from what was received."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from headwater.clock import EPOCH, MIN_MICROS
from headwater.freshness import Freshness, FreshnessFunction
from headwater.online.reading.entities import EntityBatch
from headwater.online.reading.result import OnlineResult
from headwater.online.reading.view_read import (
    AnsweredView,
    MatrixColumns,
    ReadColumn,
    ReadRequest,
    ViewAnswered,
    columns_by_view,
)
from headwater.online.rows.values import python_values
from headwater.types import STATUSES, DType, Status, leaf_dtype
from headwater.wire.json_values import to_json

_NO_ROW = [STATUSES.index(status) for status in (Status.NOT_FOUND, Status.NOT_KNOWN)]
_LONGEST = 1 << 62
_KEPT = 256


class ViewSchema(msgspec.Struct, frozen=True):
    """A view of a result.

    Attributes:
        name: its own.
        label: its name in the request, or its alias.
        version: its version.
        keys: the join keys that find its rows.
        timed: whether its rows have event times.
        sla: the strictest freshness SLA among its features, microseconds; null for none.
    """

    name: str
    label: str
    version: str
    keys: tuple[str, ...]
    timed: bool
    sla: int | None


class ResultSchema(msgspec.Struct, frozen=True):
    """What describes a result.

    Attributes:
        keys: join key → dtype, in order.
        features: column, dtype, and the position of its view; in the order asked for.
        views: the views.
        freshness: the function by which freshness falls.
        half_life: of the exponential one, microseconds.
        service: name and version, where one was asked for.
        statuses: their names, by their codes.
    """

    keys: dict[str, str]
    features: tuple[tuple[str, str, int], ...]
    views: tuple[ViewSchema, ...]
    freshness: str
    half_life: int | None
    service: tuple[str, str] | None
    statuses: tuple[str, ...] = tuple(STATUSES)


_known: dict[ReadRequest, ResultSchema] = {}


def schema_of(result: OnlineResult) -> ResultSchema:
    """What describes a result; the same object for results of one reader."""
    asked = result.request
    schema = _known.get(asked)
    if schema is None:
        views = (ViewSchema(v.name, v.label, v.version, v.key_columns, v.timed, v.sla) for v in result.views)
        schema = ResultSchema(
            {name: str(dtype) for name, dtype in asked.keys.items()},
            tuple((column.name, str(column.dtype), column.view) for column in asked.columns),
            tuple(views),
            asked.freshness.function.value,
            asked.freshness.half_life,
            asked.service,
        )
        if len(_known) >= _KEPT:
            _known.clear()
        _known[asked] = schema
    return schema


def damage_documents(result: OnlineResult) -> list[dict[str, Any]]:
    """The damaged rows of a result as JSON."""
    keys = result.request.keys
    return [
        {
            "view": damage.view.label,
            "row": damage.row,
            "key": [
                to_json([value], keys[name])[0] for name, value in zip(damage.view.key_columns, damage.key, strict=True)
            ],
            "problem": damage.text,
        }
        | ({"columns": damage.columns} if damage.columns else {})
        for damage in result.damages()
    ]


def check_entities(same: bool) -> None:
    """Refuse an answer that is of other entities than were asked for.

    Raises:
        ValueError: it is.
    """
    if not same:
        raise ValueError("it is of other entities than were asked for")


class ReceivedRequest:
    """A description that was received, as results take it.

    Args:
        schema: the description.

    Attributes:
        schema: the description.
        asked: keys and columns.
        views: of each view what results know of it.
        dtypes: of each view the dtypes of its columns.
    """

    def __init__(self, schema: ResultSchema) -> None:
        self.schema = schema
        counts = [0] * len(schema.views)
        columns = []
        for name, dtype, view in schema.features:
            columns.append(ReadColumn(name, view, counts[view], DType.parse(dtype)))
            counts[view] += 1
        self.dtypes = [[column.dtype for column in columns if column.view == v] for v in range(len(schema.views))]
        starts = [sum(counts[:v]) for v in range(len(counts))]
        positions = [(column.name, starts[column.view] + column.feature) for column in columns]
        keys = {name: DType.parse(dtype) for name, dtype in schema.keys.items()}
        freshness = Freshness(FreshnessFunction(schema.freshness), schema.half_life)
        by_view = columns_by_view(columns, len(schema.views))
        matrix = MatrixColumns.of(columns)
        self.asked = ReadRequest(keys, columns, matrix, positions, by_view, freshness, schema.service)
        self.views = [
            ViewAnswered(
                view.name, view.label, view.version, view.keys, view.timed, (None,) * count, view.sla, (None,) * count
            )
            for view, count in zip(schema.views, counts, strict=True)
        ]
        places = {name: code for code, name in enumerate(STATUSES)}
        unknown = places[Status.UNAVAILABLE]
        self._codes = np.array([places.get(name, unknown) for name in schema.statuses], np.uint8)  # type: ignore[call-overload]

    def same_columns(self, other: ReceivedRequest) -> bool:
        """Whether another description has the same keys and columns, of whatever versions."""
        mine, theirs = self.schema, other.schema
        return mine.keys == theirs.keys and [f[:2] for f in mine.features] == [f[:2] for f in theirs.features]

    def result(
        self,
        batch: EntityBatch,
        features: Sequence[pa.Array],
        codes: NDArray[np.uint8],
        times: Sequence[ReceivedTimes],
        damages: Sequence[Mapping[str, Any]],
        max_age: int | None,
        through: Mapping[str, int],
    ) -> OnlineResult:
        """The result again.

        Args:
            batch: the entities that were asked for.
            features: the columns, in the order asked for.
            codes: the statuses: a matrix of codes, a row for each entity.
            times: of each view.
            damages: as `damage_documents` makes them.
            max_age: the read's own freshness SLA, microseconds.
            through: view label → up to when a window view is complete, microseconds.
        """
        codes = self._codes[codes]
        reads = []
        for v, (view, dtypes) in enumerate(zip(self.views, self.dtypes, strict=True)):
            arrays = [features[i] for i, column in enumerate(self.asked.columns) if column.view == v]
            said = f"{view.label} {view.version}: "
            own = [d for d in damages if d["view"] == view.label]
            damaged = {int(d["row"]): str(d["problem"]).removeprefix(said) for d in own if not d.get("columns")}
            read = AnsweredView(view, None)
            rows = read.rows = ReceivedRows(arrays, dtypes, times[v], damaged)
            names = [column.name for column in self.asked.columns if column.view == v]
            for d in own:
                for name in d.get("columns", ()):
                    problem = str(d["problem"]).removeprefix(said).removeprefix(", ".join(d["columns"]) + ": ")
                    rows.left_out.setdefault(names.index(name), {})[int(d["row"])] = problem
            if view.label in through:
                first = next(i for i, column in enumerate(self.asked.columns) if column.view == v)
                rows.is_of_windows(through[view.label], codes[:, first])
            reads.append(read)
        by_name = {column.name: codes[:, i] for i, column in enumerate(self.asked.columns)}
        return OnlineResult(self.asked, batch, reads, False, max_age, by_name)


@lru_cache(maxsize=256)
def received(document: bytes) -> ReceivedRequest:
    """What describes a result, of the JSON that came with it; made once."""
    return ReceivedRequest(msgspec.json.decode(document, type=ResultSchema))


@dataclass(eq=False, slots=True)
class ReceivedTimes:
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


class ReceivedRows:
    """The rows of one view as a server sent them: what defaults, deletes and drops made of them is in their values.

    See `AnsweredRows`.
    """

    said: ClassVar[str] = ""

    def __init__(
        self, arrays: Sequence[pa.Array], dtypes: Sequence[DType], times: ReceivedTimes, damaged: dict[int, str]
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
        values = python_values(numbers(array, dtype), dtype)
        for i in np.flatnonzero(null_mask(array)).tolist() if array.null_count else ():
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
