"""On-demand features of a read: computed from what was read of views, and set beside it in the result."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from headwater.compute.transforms.functions import OnDemandFunction
from headwater.online.reading.array_rows import ComputedRows, ComputedTimes, RowTimes, null_mask
from headwater.online.reading.reader import OnlineReader
from headwater.online.reading.result import OnlineResult
from headwater.online.reading.view_read import (
    AnsweredView,
    ReadColumn,
    ReadRequest,
    ViewAnswered,
)
from headwater.planning.request_values import check_complete, check_names, request_columns
from headwater.planning.resolved import ComputedColumn, ResolvedFunction, ResolvedRequest
from headwater.types import STATUSES, DType, Status

_CODE = {status: code for code, status in enumerate(STATUSES)}
_PRESENT, _NULL, _STALE = _CODE[Status.PRESENT], _CODE[Status.NULL], _CODE[Status.STALE]
_ERROR = _CODE[Status.ERROR]
_FIRST = (_CODE[Status.UNAVAILABLE], _CODE[Status.NOT_KNOWN], _ERROR)
"""Statuses of inputs of which a row is not computed, the first that holds being its own."""


class OnlineFunctions:
    """The on-demand features of one prepared read.

    Args:
        reader: reads the request's views.

    Raises:
        MissingExtra, OnDemandError: a function that cannot be run here.
    """

    def __init__(self, reader: OnlineReader) -> None:
        request = reader.request
        self._functions = [OnDemandFunction(function) for function in request.functions]
        self.fields: Mapping[str, DType] = request.request_fields
        self._users = field_users(request.functions)
        asked_of = {column.view for column in request.outputs if not isinstance(column, ComputedColumn)}
        self._shown = sorted(asked_of)
        """The views of which something was asked; a result is not of those that functions alone read."""
        self._asked = _asked(request, reader, self._shown)
        self._views = [_answered(function, request, reader, self._functions) for function in request.functions]
        places = {column.name: place for place, column in enumerate(request.columns)}
        self._places = {
            argument.column: places[argument.column]
            for function in request.functions
            for argument in function.arguments
            if argument.column is not None
        }
        self._sources = view_places(request)
        self._labels = [{request.views[i].label for i in places} for places in self._sources]

    def check(self, given: Mapping[str, Any] | None) -> None:
        """Refuse values of a request that no feature takes.

        Raises:
            UsageError: naming them.
        """
        check_names(given, self.fields)

    def complete(
        self, read: OnlineResult, given: Mapping[str, Any] | None, drop: bool, max_age: int | None, now: int
    ) -> OnlineResult:
        """The result with what the functions compute.

        Args:
            read: what was read of views.
            given: the values of the request.
            drop: whether the read drops stale values.
            max_age: the read's own freshness SLA, microseconds.
            now: the read's instant, microseconds.

        Raises:
            UsageError: values of the request that are missing or do not fit.
            OnDemandError: a function failed.
        """
        size = len(read)
        if size or given:
            check_complete(given or (), self.fields, self._users, "request")
            values = request_columns(given or {}, self.fields, size)
        else:
            values = {name: pa.nulls(0, dtype.arrow) for name, dtype in self.fields.items()}
        arrays = read.columns_as_arrays(self._places)
        codes = read.shared_codes()
        reads = [read.answered[place] for place in self._shown]
        problems = self._problems(read)
        out: dict[str, NDArray[np.uint8]] = {}
        found: list[list[pa.Array]] = []
        statuses: list[list[NDArray[np.uint8]]] = []
        for place, function in enumerate(self._functions):
            columns, own = {}, []
            for argument in function.resolved.arguments:
                if argument.field is not None:
                    columns[argument.name] = values[argument.field]
                elif argument.column is not None:
                    columns[argument.name] = arrays[argument.column]
                    own.append(codes[self._places[argument.column]])
                elif argument.computed is not None:
                    other, feature = argument.computed
                    position = self._functions[other].positions[feature]
                    columns[argument.name] = found[other][position]
                    own.append(statuses[other][position])
            blocked, stale = _of_inputs(own, drop)
            computed = function.run(columns, None if blocked is None else blocked != _PRESENT, size)
            found.append(computed.columns)
            statuses.append([_status(c, blocked, stale, computed.errors) for c in computed.columns])
            view = AnsweredView(self._views[place], None)
            times = ComputedTimes(size, partial(_times_of, read, self._sources[place]), now)
            dtypes = [feature.dtype for feature in function.features]
            rows = ComputedRows(computed.columns, dtypes, size, times)
            if problems and blocked is not None:
                rows.left_out = self._left_out(place, problems, blocked)
            view.rows = rows  # type: ignore[assignment]
            reads.append(view)
        result = OnlineResult(self._asked, read.entities, reads, drop, max_age)
        first = len(self._shown)
        for column in self._asked.columns:
            if column.view >= first:
                out[column.name] = statuses[column.view - first][column.feature]
        result.take_codes(out)
        return result

    def _problems(self, read: OnlineResult) -> dict[str, dict[int, str]]:
        """Label → row → what is wrong, of views that the result is not of."""
        found: dict[str, dict[int, str]] = {}
        if not any(part.rows.damaged or part.rows.left_out for part in read.answered):
            return found
        shown = {read.answered[place].view.label for place in self._shown}
        for damage in read.damages():
            if damage.view.label not in shown:
                found.setdefault(damage.view.label, {}).setdefault(damage.row, f"{damage.view.label} {damage.what}")
        return found

    def _left_out(
        self, place: int, problems: Mapping[str, Mapping[int, str]], blocked: NDArray[np.uint8]
    ) -> dict[int, dict[int, str]]:
        """Feature → row → why its value is UNAVAILABLE, where an input that was not asked for is."""
        rows: dict[int, str] = {}
        for row in np.flatnonzero(blocked == _FIRST[0]).tolist():
            texts = [found[row] for label, found in problems.items() if row in found and label in self._labels[place]]
            if texts:
                rows[row] = "; ".join(texts)
        return dict.fromkeys(range(len(self._functions[place].features)), rows) if rows else {}


def field_users(functions: Iterable[ResolvedFunction]) -> dict[str, str]:
    """Request field → the first on-demand view that needs it."""
    found: dict[str, str] = {}
    for function in functions:
        for argument in function.arguments:
            if argument.field is not None:
                found.setdefault(argument.field, function.name)
    return found


def _of_inputs(
    inputs: Sequence[NDArray[np.uint8]], drop: bool
) -> tuple[NDArray[np.uint8] | None, NDArray[np.bool_] | None]:
    """The status of rows that are not computed (elsewhere PRESENT), and which rows have a stale input; None: none."""
    blocked: NDArray[np.uint8] | None = None
    stale: NDArray[np.bool_] | None = None
    seen: set[int] = set()
    usual = [codes for codes in inputs if id(codes) not in seen and not seen.add(id(codes)) and codes.any()]  # type: ignore[func-returns-value]
    for status in (*_FIRST, *((_STALE,) if drop else ())):
        for codes in usual:
            here = codes == status
            if here.any():
                blocked = np.zeros(len(codes), np.uint8) if blocked is None else blocked
                blocked[here & (blocked == _PRESENT)] = status
    if not drop:
        for codes in usual:
            here = codes == _STALE
            if here.any():
                stale = here if stale is None else stale | here
    return blocked, stale


def _status(
    column: pa.Array,
    blocked: NDArray[np.uint8] | None,
    stale: NDArray[np.bool_] | None,
    errors: NDArray[np.bool_] | None,
) -> NDArray[np.uint8]:
    codes = np.zeros(len(column), np.uint8)
    if stale is not None:
        codes[stale] = _STALE
    if column.null_count:
        codes[null_mask(column)] = _NULL
    if errors is not None:
        codes[errors] = _ERROR
    if blocked is not None:
        here = blocked != _PRESENT
        codes[here] = blocked[here]
    return codes


def _times_of(read: OnlineResult, places: Sequence[int]) -> list[RowTimes]:
    """The times of some views of a result, those without event times aside."""
    times, views = read.view_times(), read.views
    return [RowTimes(*times[place]) for place in places if views[place].timed]


def view_places(request: ResolvedRequest) -> list[tuple[int, ...]]:
    """Of each function the views that it is computed from, by way of others too."""
    by_name = {column.name: column.view for column in request.columns}
    found: list[tuple[int, ...]] = []
    for function in request.functions:
        places: dict[int, None] = {}
        for argument in function.arguments:
            if argument.column is not None:
                places[by_name[argument.column]] = None
            elif argument.computed is not None:
                places |= dict.fromkeys(found[argument.computed[0]])
        found.append(tuple(places))
    return found


def _answered(
    function: ResolvedFunction, request: ResolvedRequest, reader: OnlineReader, functions: Sequence[OnDemandFunction]
) -> ViewAnswered:
    place = request.functions.index(function)
    views = [reader.views[i] for i in view_places(request)[place]]
    slas = [view.sla for view in views if view.sla is not None]
    nothing = (None,) * len(functions[place].features)
    timed, keys = any(view.timed for view in views), dict.fromkeys(key for view in views for key in view.key_columns)
    sla = min(slas, default=None)
    return ViewAnswered(function.name, function.label, function.version, tuple(keys), timed, nothing, sla, nothing)


def _asked(request: ResolvedRequest, reader: OnlineReader, shown: Sequence[int]) -> ReadRequest:
    """What the answers have, computed columns among the others; of the views only those that are shown."""
    first, read = len(shown), {column.name: column for column in reader.asked.columns}
    position = {place: i for i, place in enumerate(shown)}
    columns = []
    for output in request.outputs:
        if isinstance(output, ComputedColumn):
            names = request.functions[output.function].definition.view.feature_names
            place = names.index(output.feature.name)
            columns.append(ReadColumn(output.name, first + output.function, place, output.feature.dtype))
        else:
            own = read[output.name]
            columns.append(ReadColumn(own.name, position[own.view], own.feature, own.dtype))
    counts = [len(request.views[place].features) for place in shown]
    counts += [len(function.definition.view.feature_names) for function in request.functions]
    asked = reader.asked
    return ReadRequest.of(asked.keys, columns, counts, asked.freshness, request.service, request.request_fields)
