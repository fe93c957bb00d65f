"""`POST /v1/features:read`: the features of entities, as `get_online_features` gives them."""

from __future__ import annotations

from datetime import timedelta
from functools import lru_cache
from typing import Any

import pyarrow as pa

from headwater.async_store import AsyncFeatureStore
from headwater.definitions.model import Model
from headwater.errors import Unavailable, brief
from headwater.online.reading.result import OnlineResult
from headwater.online.session import Session
from headwater.planning.snapshot import RegistrySnapshot
from headwater.serving.access import Access
from headwater.serving.answers import Answer, invalid, too_large
from headwater.serving.bodies import ReadBody, ReadStream
from headwater.serving.deadlines import Deadlines
from headwater.serving.forms import ARROW
from headwater.serving.metrics import Metrics
from headwater.serving.values import entities, entity_count, request_values, stream_entities, stream_entity_count
from headwater.wire.arrow_results import to_arrow_answer
from headwater.wire.arrow_streams import MOST_COLUMNS
from headwater.wire.json_results import EXTRAS, encoded_result
from headwater.wire.names import READ

INCLUDABLE = tuple(EXTRAS)
_DESCRIPTION = ("schema",)
"""What is included where no values are wanted: a client asks with no entities for what describes its reads."""
_NEEDS_OWN_DEADLINE = 0.9
"""The share of a request's deadline that the store is given: the rest is for the answer."""


async def read_features(
    store: AsyncFeatureStore,
    body: ReadBody | ReadStream,
    session: Session | None,
    *,
    table: pa.Table | None = None,
    arrow: bool = False,
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
        table: the join keys of an Arrow request.
        arrow: whether the answer is an Arrow IPC stream.
        deadlines: of the event loop.
        deadline: seconds a read may take that does not ask for less.
        most: entities of a read.
        metrics: counts what is served.

    Raises:
        HeadwaterError, Refused: as the store says, or a request that means nothing.
    """
    features, include = features_of(body), included(body.include)
    own = _duration("deadline_ms", body.deadline_ms)
    budget = _duration("refresh_budget_ms", body.refresh_budget_ms)
    asked: Any = body.entities
    count = entity_count(asked) if table is None else stream_entity_count(table, asked)
    part = "registry"
    try:
        with deadlines.within(deadline):
            reader = await store.kept_reader(features, body.full_names)
            if count > most:
                raise too_large(f"entities: {count:,} in one request, at most {most:,}: read them in parts")
            await reader.follow()
            part = "online store"
            keys = reader.join_keys
            result = await reader.read(
                entities(asked, keys) if table is None else stream_entities(table, asked, keys),
                request_values(body.request, reader.request_fields, count) if body.request else None,
                body.consistency,
                session,
                body.stale,
                body.max_age,
                body.now,
                None if own is None else min(own, timedelta(seconds=deadline * _NEEDS_OWN_DEADLINE)),
                budget,
            )
    except TimeoutError:
        raise too_late(part, deadline) from None
    count_read(metrics, result, include)
    if arrow:
        return Answer(to_arrow_answer(result, include), content_type=ARROW)
    return Answer(encoded_result(result, include))


def too_late(part: str, deadline: float) -> Unavailable:
    """The error of a read that some part did not answer in time."""
    return Unavailable(f"the {part} gave no answer within {deadline:g} s")


def count_read(metrics: Metrics, result: OnlineResult, include: tuple[str, ...]) -> None:
    """Count what a read serves."""
    size = len(result)
    if size or include != _DESCRIPTION:
        metrics.batch(READ, result.service or "", size)
    metrics.served(result)


def check_width(body: ReadBody | ReadStream) -> None:
    """Refuse a read of too many features.

    Raises:
        Refused: 413.
    """
    if body.features is not None and len(body.features) > MOST_COLUMNS:
        found = f"{len(body.features):,} in one request, at most {MOST_COLUMNS:,}"
        raise too_large(f"features: {found}: read them in parts")


def check_allowed(access: Access, snapshot: RegistrySnapshot, body: ReadBody | ReadStream) -> None:
    """Refuse a read of what a key's patterns do not cover.

    Raises:
        AccessDenied: they do not.
        NotFound: they do, and nobody registered it.
    """
    if body.features is not None:
        access.check_features(snapshot, body.features)
    if body.service is not None:
        access.check_service(snapshot, body.service)
    if body.model is not None:
        access.check_model(snapshot, Model.of(body.model))


def features_of(body: ReadBody | ReadStream) -> Any:
    """What a request reads: references, the name of a service, or a model.

    Raises:
        Refused: 400: none, or several.
    """
    given = [value for value in (body.features, body.service, body.model) if value is not None]
    if len(given) != 1:
        raise invalid(
            "give one of features (a list of references such as 'weather:temp'), service (a name) and model (a name)"
        )
    return given[0] if body.model is None else Model.of(body.model)


@lru_cache(maxsize=64)
def included(names: tuple[str, ...]) -> tuple[str, ...]:
    """What is included, each once."""
    unknown = next((name for name in names if name not in INCLUDABLE), None)
    if unknown is not None:
        raise invalid(f"include: {brief(unknown)} is not one of {', '.join(INCLUDABLE)}")
    return tuple(dict.fromkeys(names))


def _duration(name: str, milliseconds: float | None) -> timedelta | None:
    if milliseconds is None:
        return None
    if not 0 < milliseconds <= 3_600_000:
        raise invalid(f"{name}: {milliseconds:g} is not a number of milliseconds above 0 and up to an hour")
    return timedelta(milliseconds=milliseconds)
