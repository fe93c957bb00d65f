"""Results as Arrow IPC streams: one batch, whose schema says what it is; and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.ipc as ipc
from numpy.typing import NDArray

from headwater.online.reading.array_rows import RowTimes, null_mask, numbers
from headwater.online.reading.entities import EntityBatch, key_array
from headwater.online.reading.result import OnlineResult
from headwater.online.reading.view_times import ViewTimes
from headwater.types import DType, Timestamp
from headwater.wire.arrow_streams import METADATA, to_stream
from headwater.wire.results import (
    ReceivedRequest,
    ResultSchema,
    check_entities,
    damage_documents,
    received,
    schema_of,
)

PROBLEMS = b"headwater.problems"
"""The key of the metadata under which damaged rows stand, where there are any."""
COMPLETE_THROUGH = b"headwater.complete_through"
"""The key of the metadata under which it stands up to when window views are complete, where there are any."""
_STATUSES = "__statuses"
_SUFFIXES = {"event_times": "__event_times", "created_times": "__created_times", "read_at": "__read_at"}
_FRESHNESS = "__freshness"


def to_arrow_answer(result: OnlineResult, include: Sequence[str]) -> bytes:
    """A result as a stream.

    The columns are keys, features, then what `include` names of statuses, event_times, created_times, read_at and
    freshness: each a list of fixed size, which has a value for each feature (statuses: their codes) or each view. The
    schema's metadata has the description, and where `include` names problems the damaged rows.

    Args:
        result: the result.
        include: what is wanted beside values.
    """
    arrays = result.arrays()
    wanted = tuple(dict.fromkeys(name for name in include if name in _EXTRAS))
    columns = list(arrays.values())
    if wanted:
        times = result.view_times()
        columns += [_EXTRAS[name](result, times) for name in wanted]
    schema = schema_of(result)
    problems = damage_documents(result) if "problems" in include else []
    fields, message = _schema_message(_ById(schema), tuple(arrays), wanted)
    through = result.complete_through() if "problems" in include else {}
    if problems or through:
        metadata = {**fields.metadata}
        if problems:
            metadata[PROBLEMS] = msgspec.json.encode(problems)
        if through:
            metadata[COMPLETE_THROUGH] = msgspec.json.encode(through)
        message = fields.with_metadata(metadata).serialize().to_pybytes()
    names = [*arrays, *wanted]
    return to_stream(message, pa.RecordBatch.from_arrays(columns, names=names))


class _ById:
    """A schema as the key of a cache: by which object it is."""

    __slots__ = ("schema",)

    def __init__(self, schema: ResultSchema) -> None:
        self.schema = schema

    def __hash__(self) -> int:
        return id(self.schema)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ById) and other.schema is self.schema


@lru_cache(maxsize=256)
def _schema_message(known: _ById, names: tuple[str, ...], wanted: tuple[str, ...]) -> tuple[pa.Schema, bytes]:
    """The schema of an answer, and as it is sent."""
    schema = known.schema
    dtypes = [*schema.keys.values(), *(dtype for _, dtype, _ in schema.features)]
    fields = [pa.field(name, DType.parse(dtype).arrow) for name, dtype in zip(names, dtypes, strict=True)]
    for name in wanted:
        if name == "statuses":
            fields.append(pa.field(_STATUSES, pa.list_(pa.uint8(), len(schema.features))))
        elif name == "freshness":
            fields.append(pa.field(_FRESHNESS, pa.list_(pa.float64(), len(schema.views))))
        else:
            fields.append(pa.field(_SUFFIXES[name], pa.list_(Timestamp.arrow, len(schema.views))))
    made = pa.schema(fields, {METADATA: msgspec.json.encode(schema)})
    return made, made.serialize().to_pybytes()


def _statuses(result: OnlineResult, times: Sequence[ViewTimes]) -> pa.Array:
    codes = result.shared_codes()
    first = codes[0]
    flat = np.repeat(first, len(codes)) if all(c is first for c in codes) else np.stack(codes, axis=1).reshape(-1)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), len(codes))


def _instants(values: Sequence[NDArray[np.int64]], absent: Sequence[NDArray[np.bool_]] | None) -> pa.Array:
    """Microseconds of each view as a column of lists of instants."""
    if len(values) == 1:
        micros, mask = values[0], None if absent is None else absent[0]
    else:
        micros = np.stack(values, axis=1).reshape(-1)
        mask = None if absent is None else np.stack(absent, axis=1).reshape(-1)
    flat = pa.array(micros, mask=mask if mask is not None and mask.any() else None).view(Timestamp.arrow)
    return pa.FixedSizeListArray.from_arrays(flat, len(values))


def _event_times(result: OnlineResult, times: Sequence[ViewTimes]) -> pa.Array:
    absent = [
        t.gone if view.timed else np.ones(len(t.gone), np.bool_) for t, view in zip(times, result.views, strict=True)
    ]
    return _instants([t.events for t in times], absent)


def _created_times(result: OnlineResult, times: Sequence[ViewTimes]) -> pa.Array:
    return _instants([t.created for t in times], [t.gone for t in times])


def _read_at(result: OnlineResult, times: Sequence[ViewTimes]) -> pa.Array:
    return _instants([t.at for t in times], None)


def _freshness(result: OnlineResult, times: Sequence[ViewTimes]) -> pa.Array:
    scores = list(result.freshness().values())
    flat = pa.array([score for row in zip(*scores, strict=True) for score in row], pa.float64())
    return pa.FixedSizeListArray.from_arrays(flat, len(scores))


_EXTRAS: dict[str, Callable[[OnlineResult, Sequence[ViewTimes]], pa.Array]] = {
    "statuses": _statuses,
    "event_times": _event_times,
    "created_times": _created_times,
    "read_at": _read_at,
    "freshness": _freshness,
}
NEEDED = ("statuses", "event_times", "created_times", "read_at", "problems")
"""What a result is made again from."""


def from_arrow_answer(data: bytes, batch: EntityBatch, max_age: int | None) -> tuple[OnlineResult, ReceivedRequest]:
    """The result, and its description, in a stream that was asked for with `NEEDED`.

    Args:
        data: the stream.
        batch: the entities that were asked for.
        max_age: the read's own freshness SLA, microseconds.
    """
    with ipc.open_stream(data) as reader:
        metadata = reader.schema.metadata
        rows = reader.read_next_batch()
    request = received(metadata[METADATA])
    through = msgspec.json.decode(metadata.get(COMPLETE_THROUGH, b"{}"))
    problems = msgspec.json.decode(metadata[PROBLEMS]) if PROBLEMS in metadata else []
    keys, features, views = len(request.asked.keys), len(request.asked.columns), len(request.views)
    columns = rows.columns
    for (name, dtype), column in zip(request.asked.keys.items(), columns, strict=False):
        check_entities(column.equals(key_array(batch.values(name), dtype.arrow)))
    check_entities(len(rows) == batch.size)
    statuses, events, created, at = columns[keys + features :]
    codes = np.frombuffer(statuses.values.buffers()[1] or b"", np.uint8).reshape(-1, features)[: len(rows)]
    moments, births, instants = (numbers(each.values, Timestamp).reshape(-1, views) for each in (events, created, at))
    gone = null_mask(created.values).reshape(-1, views)
    times = [RowTimes(moments[:, v], births[:, v], instants[:, v], gone[:, v]) for v in range(views)]
    result = request.result(batch, columns[keys : keys + features], codes, times, problems, max_age, through)
    return result, request
