"""On-demand features of a point-in-time join: computed batch by batch of what an engine joins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from headwater.compute.transforms.functions import OnDemandFunction
from headwater.compute.transforms.online import field_users, view_places
from headwater.errors import SpineError, UsageError
from headwater.offline.base import HistoryRequest, HistoryRun, SourceEstimate
from headwater.offline.join.result import Joins
from headwater.online.reading.array_rows import null_mask
from headwater.planning.request_values import check_complete, column_of
from headwater.planning.resolved import FULL_NAMES, ComputedColumn, ResolvedRequest
from headwater.types import STATUSES, Status

_UTC = pa.timestamp("us", tz="UTC")
_TEXTS = pa.array([str(status) for status in STATUSES])
_CODE = {status: code for code, status in enumerate(STATUSES)}


class HistoryFunctions:
    """The on-demand features of one request for history.

    Args:
        request: what was asked for.

    Raises:
        MissingExtra, OnDemandError: a function that cannot be run here.
    """

    def __init__(self, request: ResolvedRequest) -> None:
        self.request = request
        self.functions = [OnDemandFunction(function) for function in request.functions]
        self.users = field_users(request.functions)
        labels = [view.label for view in request.views]
        self.sources = [[_event_time(labels[place]) for place in places] for places in view_places(request)]


def _event_time(label: str) -> str:
    return f"{label.replace('@', '__')}__event_time"


@dataclass(frozen=True)
class ComputingEngine:
    """An engine, and what is computed of what it joins (`Joins`)."""

    engine: Joins
    functions: HistoryFunctions

    def history(self, request: HistoryRequest) -> HistoryRun:
        """Fix a join; it runs when its batches are asked for."""
        return ComputedRun(self.engine.history(request), self.functions, request)

    def estimate(self, request: HistoryRequest, within: tuple[int, int] | None = None) -> Sequence[SourceEstimate]:
        """What the engine would read: functions read nothing else."""
        return self.engine.estimate(request, within)


class ComputedRun:
    """A run whose batches have computed columns too (`HistoryRun`).

    Args:
        run: the engine's.
        functions: what computes.
        request: what the engine was asked for.

    Raises:
        UsageError: the spine lacks a request field, or has a column of the name of a feature.
    """

    def __init__(self, run: HistoryRun, functions: HistoryFunctions, request: HistoryRequest) -> None:
        self._run, self._functions, self._include = run, functions, request.include
        asked = functions.request
        if request.spine is None and asked.request_fields:
            names = ", ".join(asked.request_fields)
            raise UsageError(f"{names}: request fields are columns of the spine; give a spine")
        check_complete(run.spine_columns, asked.request_fields, functions.users, "spine")
        self._schema = pa.schema([*(run.schema.field(name) for name in run.spine_columns), *self._added()])

    def _added(self) -> list[pa.Field]:
        """The output columns in order: each value, its status beside it, an event time behind the last of its view."""
        asked = self._functions.request
        owners = [asked.owner(column).label for column in asked.outputs]
        last = {label: place for place, label in enumerate(owners)}
        taken, fields = set(self._run.spine_columns), []
        for place, (output, label) in enumerate(zip(asked.outputs, owners, strict=True)):
            if output.name in taken:
                raise UsageError(
                    f"{output.name!r} would appear twice in the result: the spine has a column of that name; "
                    f"{FULL_NAMES} or rename() the feature"
                )
            fields.append(pa.field(output.name, output.feature.dtype.arrow))
            if "status" in self._include:
                fields.append(pa.field(f"{output.name}__status", pa.string()))
            if "event_time" in self._include and last[label] == place:
                fields.append(pa.field(_event_time(label), _UTC))
        return fields

    @property
    def schema(self) -> pa.Schema:
        """The spine's columns, then the features'."""
        return self._schema

    @property
    def spine_columns(self) -> Sequence[str]:
        """The names of the spine's columns."""
        return self._run.spine_columns

    @property
    def known_rows(self) -> int | None:
        """How many rows there are; None where only a run can tell."""
        return self._run.known_rows

    @property
    def timestamp_column(self) -> str | None:
        """The spine's column of instants; None: all rows have one instant."""
        return self._run.timestamp_column

    def batches(self, rows: int) -> Iterator[pa.RecordBatch]:
        """Run the join, and compute of each batch what is computed."""
        first = 0
        with closing(self._run.batches(rows)) as batches:  # type: ignore[type-var]
            for batch in batches:
                yield self._computed(batch, first)
                first += batch.num_rows

    def write(self, location: str) -> int | None:
        """Nothing: what is computed is computed in this process."""
        return None

    def _computed(self, batch: pa.RecordBatch, first: int) -> pa.RecordBatch:
        asked, size = self._functions.request, batch.num_rows
        fields = {name: self._field(batch, name, first) for name in asked.request_fields}
        found: list[list[pa.Array]] = []
        failed: list[NDArray[np.bool_] | None] = []
        for function in self._functions.functions:
            columns: dict[str, pa.Array] = {}
            blocked: NDArray[np.bool_] | None = None
            for argument in function.resolved.arguments:
                if argument.field is not None:
                    columns[argument.name] = fields[argument.field]
                elif argument.column is not None:
                    columns[argument.name] = batch.column(argument.column)
                elif argument.computed is not None:
                    other, feature = argument.computed
                    columns[argument.name] = found[other][self._functions.functions[other].positions[feature]]
                    errors = failed[other]
                    blocked = blocked if errors is None else _either(blocked, errors)
            computed = function.run(columns, blocked, size, first)
            found.append(computed.columns)
            failed.append(computed.errors if blocked is None else _either(computed.errors, blocked))
        return self._shown(batch, found, failed)

    def _field(self, batch: pa.RecordBatch, name: str, first: int) -> pa.Array:
        dtype = self._functions.request.request_fields[name]
        try:
            return column_of(batch.column(name), dtype, f"spine: column {name!r}", first)
        except UsageError as bad:
            raise SpineError(str(bad)) from bad

    def _shown(
        self, batch: pa.RecordBatch, found: list[list[pa.Array]], failed: list[NDArray[np.bool_] | None]
    ) -> pa.RecordBatch:
        asked = self._functions.request
        made: dict[str, pa.Array] = {}
        for output in asked.outputs:
            if not isinstance(output, ComputedColumn):
                continue
            function = self._functions.functions[output.function]
            column = found[output.function][function.positions[output.feature.name]]
            made[output.name] = column
            if "status" in self._include:
                made[f"{output.name}__status"] = _statuses(column, failed[output.function])
            if "event_time" in self._include:
                label = _event_time(function.resolved.label)
                if label not in made:
                    made[label] = _oldest(batch, self._functions.sources[output.function])
        arrays = [made[field.name] if field.name in made else batch.column(field.name) for field in self._schema]
        return pa.RecordBatch.from_arrays(arrays, schema=self._schema)

    def cancel(self) -> None:
        """End what is under way; see `HistoryResult.cancel`."""
        self._run.cancel()

    def time_range(self) -> tuple[int, int] | None:
        """The least and greatest instant of the spine, where they are known."""
        return self._run.time_range()

    def row_numbers(self) -> pa.Array:
        """Which rows of the spine these are."""
        return self._run.row_numbers()

    def statements(self) -> Sequence[str]:
        """Every statement of a run, in order."""
        return self._run.statements()

    def counts(self) -> Mapping[str, Mapping[str, int]]:
        """View label → counts, of the last run."""
        return self._run.counts()

    def clock_changes(self) -> tuple[int, int]:
        """Times of the spine in hours that a clock change repeats or skips."""
        return self._run.clock_changes()


def _either(one: NDArray[np.bool_] | None, other: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return other if one is None else one | other


def _statuses(column: pa.Array, failed: NDArray[np.bool_] | None) -> pa.Array:
    codes = np.full(len(column), _CODE[Status.PRESENT], np.int64)
    if column.null_count:
        codes[null_mask(column)] = _CODE[Status.NULL]
    if failed is not None:
        codes[failed] = _CODE[Status.ERROR]
    return _TEXTS.take(pa.array(codes))


def _oldest(batch: pa.RecordBatch, names: Sequence[str]) -> pa.Array:
    """The oldest of event times; NULL where there is none."""
    if not names:
        return pa.nulls(batch.num_rows, _UTC)
    events = [batch.column(name).cast(pa.int64()) for name in names]
    return pc.min_element_wise(*events, skip_nulls=True).cast(_UTC)
