"""Results on their way: what describes one, and a result made again from what was received."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from headwater.freshness import Freshness, FreshnessFunction
from headwater.online.reading.array_rows import ArrayRows, RowTimes
from headwater.online.reading.entities import EntityBatch
from headwater.online.reading.result import OnlineResult
from headwater.online.reading.view_read import (
    AnsweredView,
    ReadColumn,
    ReadRequest,
    ViewAnswered,
)
from headwater.types import STATUSES, DType, Status
from headwater.wire.json_values import to_json

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
        request: request field → dtype, of on-demand features.
    """

    keys: dict[str, str]
    features: tuple[tuple[str, str, int], ...]
    views: tuple[ViewSchema, ...]
    freshness: str
    half_life: int | None
    service: tuple[str, str] | None
    statuses: tuple[str, ...] = tuple(STATUSES)
    request: dict[str, str] = {}


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
            request={name: str(dtype) for name, dtype in asked.fields.items()},
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
        keys = {name: DType.parse(dtype) for name, dtype in schema.keys.items()}
        freshness = Freshness(FreshnessFunction(schema.freshness), schema.half_life)
        fields = {name: DType.parse(dtype) for name, dtype in schema.request.items()}
        self.asked = ReadRequest.of(keys, columns, counts, freshness, schema.service, fields)
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
        times: Sequence[RowTimes],
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
            rows = read.rows = ArrayRows(arrays, dtypes, times[v], damaged)
            names = [column.name for column in self.asked.columns if column.view == v]
            for d in own:
                for name in d.get("columns", ()):
                    problem = str(d["problem"]).removeprefix(said).removeprefix(", ".join(d["columns"]) + ": ")
                    rows.left_out.setdefault(names.index(name), {})[int(d["row"])] = problem
            first = next((i for i, column in enumerate(self.asked.columns) if column.view == v), None)
            # of a view that functions alone read no status was sent
            if view.label in through and first is not None:
                rows.is_of_windows(through[view.label], codes[:, first])
            reads.append(read)
        by_name = {column.name: codes[:, i] for i, column in enumerate(self.asked.columns)}
        return OnlineResult(self.asked, batch, reads, False, max_age, by_name)


@lru_cache(maxsize=256)
def received(document: bytes) -> ReceivedRequest:
    """What describes a result, of the JSON that came with it; made once."""
    return ReceivedRequest(msgspec.json.decode(document, type=ResultSchema))
