"""Reads over HTTP, without a network: which features, of which entities, in which form; and the result in a reply."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa

from headwater.client.calls import Call, Reply, json_body, reading
from headwater.client.sessions import session_headers
from headwater.clock import duration_argument, from_micros, instant_of
from headwater.definitions.model import Model
from headwater.errors import UsageError
from headwater.online.reading.array_rows import python_column
from headwater.online.reading.entities import EntityBatch, half_pair, key_array, refuse_wide
from headwater.online.reading.result import OnlineResult
from headwater.online.session import Session
from headwater.planning.request_values import check_names, is_values, request_columns
from headwater.types import ConsistencyLevel, DType, StalePolicy, is_utf8
from headwater.wire import arrow_results, json_results
from headwater.wire.arrow_streams import CONTENT_TYPE, METADATA, to_stream
from headwater.wire.json_values import to_json
from headwater.wire.names import READ
from headwater.wire.results import ReceivedRequest

JSON = "application/json"
_LONGEST = 3_600_000
"""Milliseconds that a server takes as a deadline at most."""
_GRACE = 0.25
"""Seconds that an answer may take beside the deadline of its read."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a read asks for.

    Attributes:
        features: references; None where a service is asked for.
        service: its name.
        model: in place of a service a model's name; what is read is the service that it was logged with.
        full_names: whether columns are named `view__feature`; None: as the service says, else not.
    """

    features: tuple[str, ...] | None
    service: str | None
    full_names: bool | None
    model: str | None = None

    @classmethod
    def of(cls, features: Any, full_names: bool | None) -> Wanted:
        """What a call asks for.

        Raises:
            UsageError: objects: over HTTP there are names alone.
        """
        if isinstance(features, Model):
            return cls(None, None, full_names, str(features))
        if isinstance(features, str):
            return cls((features,), None, full_names) if ":" in features else cls(None, features, full_names)
        listed = features if isinstance(features, Iterable) and not isinstance(features, Mapping) else None
        items = tuple(listed) if listed is not None and not hasattr(features, "registered") else None
        if items is None or not all(isinstance(item, str) for item in items):
            raise UsageError(
                "features: over HTTP give references such as ['weather:temp'] or the name of a service, or a "
                "hw.Model; other objects mean versions of a registry that a client does not have"
            )
        return cls(items, None, full_names)

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of a request."""
        named = {"features": self.features, "service": self.service, "model": self.model}
        fields: dict[str, Any] = {name: value for name, value in named.items() if value is not None}
        if self.full_names is not None:
            fields["full_names"] = self.full_names
        return fields


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """The arguments of a read beside features and entities, as they were given; see `get_online_features`."""

    request: Mapping[str, Any] | None = None
    consistency: ConsistencyLevel | str | None = None
    session: Session | None = None
    stale: StalePolicy | str = StalePolicy.FLAG
    max_age: timedelta | str | None = None
    now: datetime | str | None = None
    deadline: timedelta | str | None = None
    refresh_budget: timedelta | str | None = None

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of a request.

        Raises:
            UsageError: an instant or a duration that is not one.
        """
        fields: dict[str, Any] = {}
        if self.consistency is not None:
            fields["consistency"] = str(self.consistency)
        if self.stale is not StalePolicy.FLAG:
            fields["stale"] = str(self.stale)
        if self.max_age is not None:
            fields["max_age"] = f"{self.max_age_micros}us"
        if self.now is not None:
            fields["now"] = from_micros(instant_of(self.now, "now")).isoformat()
        for name in ("deadline", "refresh_budget"):
            given = getattr(self, name)
            if given is not None:
                fields[f"{name}_ms"] = min(max(duration_argument(given, name), 1) / 1e3, _LONGEST)
        return fields

    @property
    def max_age_micros(self) -> int | None:
        """The read's own freshness SLA in microseconds."""
        return None if self.max_age is None else duration_argument(self.max_age)

    @property
    def timeout(self) -> float | None:
        """Seconds that an answer is waited for where the read has a deadline."""
        return None if self.deadline is None else duration_argument(self.deadline, "deadline") / 1e6 + _GRACE


PLAIN = ReadOptions()


def describing_call(wanted: Wanted, consistency: ConsistencyLevel | str | None = None) -> Call:
    """The request for what describes a read: a read of no entities.

    Args:
        wanted: what it asks for.
        consistency: the level of its reads, which the store must be able to give.
    """
    fields = {**wanted.fields, "entities": [], "include": ["schema"]}
    if consistency is not None:
        fields["consistency"] = str(consistency)
    # a level that needs a session is asked for with a new one
    headers = {"content-type": JSON} | session_headers(None if consistency is None else Session())
    return Call("POST", READ, json_body(fields), headers)


def described(reply: Reply) -> ReceivedRequest:
    """What describes a read."""
    with reading(reply):
        return json_results.received_json_schema(reply.body)


def read_call(wanted: Wanted, batch: EntityBatch, known: ReceivedRequest, options: ReadOptions, arrow: bool) -> Call:
    """The request for a read.

    Args:
        wanted: what it asks for.
        batch: the entities.
        known: what describes its answers: join keys and request fields.
        options: what else it is given.
        arrow: whether request and answer are Arrow IPC streams.

    Raises:
        EntityKeyError: keys that no store could be asked for.
        UsageError: values for on-demand features that none takes, or that do not fit.
    """
    keys = known.asked.keys
    fields = {**wanted.fields, **options.fields}
    if options.request:
        fields["request"] = request_document(options.request, known.asked.fields, batch.size)
    headers = session_headers(options.session)
    fields["include"] = arrow_results.NEEDED if arrow else json_results.NEEDED
    body, kind = entities_body(fields, batch, keys, arrow)
    headers |= {"content-type": kind}
    if arrow:
        headers["accept"] = CONTENT_TYPE
    return Call("POST", READ, body, headers, within=options.timeout)


def request_document(given: Mapping[str, Any], fields: Mapping[str, DType], size: int) -> dict[str, Any]:
    """Values for on-demand features as JSON: one for all rows, or one for each.

    Args:
        given: as the caller gave them.
        fields: request field → dtype.
        size: how many rows there are.

    Raises:
        UsageError: a field that no feature takes, or values that do not fit.
    """
    check_names(given, fields)
    found: dict[str, Any] = {}
    for name, dtype in fields.items():
        if name in given:
            # one array for all is sent as one for each, which a server cannot take for anything else
            every = dtype.name in ("array", "embedding") or is_values(given[name], dtype, size)
            column = request_columns({name: given[name]}, {name: dtype}, size if every else 1)[name]
            values = to_json(python_column(column, dtype), dtype)
            found[name] = values if every else values[0]
    return found


def entities_body(
    fields: Mapping[str, Any], batch: EntityBatch, keys: Mapping[str, DType], arrow: bool
) -> tuple[bytes, str]:
    """The body of a request with entities, and its content type.

    Args:
        fields: beside the entities.
        batch: the entities.
        keys: join key → dtype.
        arrow: whether it is an Arrow IPC stream, where that can hold them.

    Raises:
        EntityKeyError: keys that no store could be asked for.
    """
    for name, values in batch.columns.items():
        if keys[name].name == "string" and not all(is_utf8(value) for value in values if type(value) is str):
            raise half_pair(name, values)
    refuse_wide({name: v for name, v in batch.columns.items() if keys[name].name in ("int32", "int64") and _wide(v)})
    if not keys:
        # rows without columns
        return json_body({**fields, "entities": [{}] * batch.size}), JSON
    repeated = {name: to_json(batch.columns[name], keys[name])[0] for name in batch.repeated}
    if arrow:
        arrays = {n: key_array(batch.columns[n], keys[n].arrow) for n in keys if n not in batch.repeated}
        document = json_body({**fields, "entities": repeated})
        rows = pa.RecordBatch.from_arrays(list(arrays.values()), names=list(arrays))
        schema = rows.schema.with_metadata({METADATA: document}).serialize().to_pybytes()
        return to_stream(schema, rows), CONTENT_TYPE
    columns = {n: repeated[n] if n in repeated else to_json(batch.columns[n], keys[n]) for n in keys}
    return json_body({**fields, "entities": columns}), JSON


def _wide(values: list[int | None]) -> bool:
    """Whether some integers may be beyond 64 bits."""
    known = values if None not in values else [value for value in values if value is not None]
    return bool(known) and not -(2**63) <= min(known) <= max(known) < 2**63  # type: ignore[type-var,operator]


def result_of(reply: Reply, batch: EntityBatch, options: ReadOptions) -> tuple[OnlineResult, ReceivedRequest]:
    """The result in a reply, and what describes it."""
    with reading(reply):
        if reply.headers.get("content-type") == CONTENT_TYPE:
            return arrow_results.from_arrow_answer(reply.body, batch, options.max_age_micros)
        return json_results.from_json_document(reply.body, batch, options.max_age_micros)
