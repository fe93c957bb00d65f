"""`POST /v1/features:read`: the features of entities, as `get_online_features` gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from headwater.async_store import AsyncFeatureStore
from headwater.errors import Unavailable
from headwater.online.reading.result import OnlineResult
from headwater.online.session import Session
from headwater.serving.answers import Answer, invalid, json_answer, too_large
from headwater.serving.bodies import ReadBody
from headwater.serving.deadlines import Deadlines
from headwater.serving.metrics import Metrics
from headwater.serving.values import entities, entity_count
from headwater.types import Timestamp
from headwater.wire.json_values import to_json

ROUTE = "/v1/features:read"
INCLUDABLE = ("statuses", "event_times", "freshness", "versions", "read_at", "problems")
_NEEDS_OWN_DEADLINE = 0.9
"""The share of a request's deadline that the store is given: the rest is for the answer."""


async def read_features(
    store: AsyncFeatureStore,
    body: ReadBody,
    session: Session | None,
    *,
    deadlines: Deadlines,
    deadline: float,
    most: int,
    metrics: Metrics,
) -> Answer:
    """The answer to a read.

    Args:
        store: the store.
        body: the request.
        session: what the client has seen; advanced in place.
        deadlines: of the event loop.
        deadline: seconds a read may take that does not ask for less.
        most: entities of a read.
        metrics: counts what is served.

    Raises:
        HeadwaterError, Refused: as the store says, or a request that means nothing.
    """
    features = _features(body)
    unknown = [name for name in body.include if name not in INCLUDABLE]
    if unknown:
        raise invalid(f"include: {unknown[0]!r} is not one of {', '.join(INCLUDABLE)}")
    reader = await store.kept_reader(features, body.full_names)
    count = entity_count(body.entities)
    if count > most:
        raise too_large(f"entities: {count:,} in one request, at most {most:,}: read them in parts")
    given = entities(body.entities, reader.join_keys)
    own = None if body.deadline_ms is None else timedelta(milliseconds=_milliseconds(body.deadline_ms))
    try:
        with deadlines.within(deadline):
            result = await reader.read(
                given,
                body.request or None,
                body.consistency,
                session,
                body.stale,
                body.max_age,
                body.now,
                None if own is None else min(own, timedelta(seconds=deadline * _NEEDS_OWN_DEADLINE)),
            )
    except TimeoutError:
        raise Unavailable(f"the online store gave no answer within {deadline:g} s") from None
    metrics.batch(ROUTE, result.service or "", len(result))
    metrics.served(result)
    return json_answer(_document(result, body.include))


def _features(body: ReadBody) -> Any:
    if (body.features is None) == (body.service is None):
        raise invalid("give either features (a list of references such as 'weather:temp') or service (a name)")
    return body.service if body.features is None else body.features


def _milliseconds(value: float) -> float:
    if not 0 < value <= 3_600_000:
        raise invalid(f"deadline_ms: {value:g} is not a number of milliseconds above 0 and up to an hour")
    return value


def _document(result: OnlineResult, include: Sequence[str]) -> dict[str, Any]:
    dtypes = result.dtypes
    document: dict[str, Any] = {
        "columns": {name: to_json(values, dtypes[name]) for name, values in result.to_dict().items()}
    }
    for name in include:
        document[name] = _EXTRAS[name](result)
    return document


def _times(times: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    return {label: to_json(values, Timestamp) for label, values in times.items()}


def _problems(result: OnlineResult) -> list[dict[str, Any]]:
    return [
        {"key": list(key) if isinstance(key, tuple) else [key], "problem": problem}
        for key, problem in result.problems.items()
    ]


_EXTRAS = {
    "statuses": lambda result: result.statuses,
    "event_times": lambda result: _times(result.event_times),
    "freshness": lambda result: result.freshness(),
    "versions": lambda result: result.versions,
    "read_at": lambda result: _times(result.read_at),
    "problems": _problems,
}
