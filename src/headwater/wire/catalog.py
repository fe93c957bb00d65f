"""What is registered, as JSON: documents of views, services, entities and models, and what they say on the other side.

A view's source is not sent but for its kind: its paths, queries and hosts are not for everyone who may read features.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from headwater.clock import MICROSECOND, format_duration, parse_duration
from headwater.definitions.aggregate_functions import MAX_DISTINCT
from headwater.definitions.aggregation import Aggregation
from headwater.definitions.entity import Entity
from headwater.definitions.feature import Feature
from headwater.planning.summaries import ModelSummary, ServiceSummary, Summary, ViewSummary
from headwater.types import DType, Timestamp
from headwater.wire.json_values import from_json, to_json

PLACE = "server"
"""Where a definition that came over HTTP says that it was written."""


def view_document(view: ViewSummary) -> dict[str, Any]:
    """A version of a view as JSON."""
    computed = {made.feature_name: made for made in view.aggregations}
    return {
        **_common(view),
        "entities": list(view.entities),
        "features": [feature_document(feature, computed.get(feature.name)) for feature in view.features],
        "source": view.source_kind,
        "ttl": _duration_text(view.ttl),
        "freshness_sla": _duration_text(view.freshness_sla),
    }


def view_in(document: Mapping[str, Any]) -> ViewSummary:
    """The version of a view that `view_document` wrote."""
    return ViewSummary(
        **_common_in(document),
        entities=tuple(document["entities"]),
        features=tuple(_feature_in(feature) for feature in document["features"]),
        source_kind=document["source"],
        ttl=_duration_in(document["ttl"]),
        freshness_sla=_duration_in(document["freshness_sla"]),
        aggregations=tuple(
            _aggregation_in(feature) for feature in document["features"] if feature.get("aggregation") is not None
        ),
    )


def service_document(service: ServiceSummary) -> dict[str, Any]:
    """A version of a service as JSON."""
    return {
        **_common(service),
        "features": [
            {"name": name, "dtype": str(dtype), "reference": reference} for name, dtype, reference in service.columns
        ],
    }


def service_in(document: Mapping[str, Any]) -> ServiceSummary:
    """The version of a service that `service_document` wrote."""
    features = document["features"]
    return ServiceSummary(
        **_common_in(document),
        selected=tuple((f["name"], DType.parse(f["dtype"]), f["reference"]) for f in features),
    )


def model_document(model: ModelSummary) -> dict[str, Any]:
    """A version of a logged model as JSON; where it is is not for everyone who may read features."""
    return {
        "name": model.name,
        "version": model.version,
        "service": model.service,
        "training_set": model.training_set,
        "logged_at": to_json([model.logged_at], Timestamp)[0],
    }


def model_in(document: Mapping[str, Any]) -> ModelSummary:
    """The version of a model that `model_document` wrote."""
    (logged_at,) = from_json([document["logged_at"]], Timestamp)
    named = {name: document[name] for name in ("name", "version", "service", "training_set")}
    return ModelSummary(**named, logged_at=logged_at)


def entity_document(entity: Entity) -> dict[str, Any]:
    """An entity as JSON."""
    return {
        "name": entity.name,
        "join_keys": types_document(entity.join_keys),
        "description": entity.description,
        "tags": dict(entity.tags),
    }


def entity_in(document: Mapping[str, Any]) -> Entity:
    """The entity that `entity_document` wrote."""
    return Entity(
        document["name"], types_in(document["join_keys"]), document["description"], document["tags"], place=PLACE
    )


def feature_document(feature: Feature, computed: Aggregation | None = None) -> dict[str, Any]:
    """A feature as JSON; its default in the form of its dtype.

    Args:
        feature: the feature.
        computed: the aggregation that it is, in a window view.
    """
    (default,) = to_json([feature.default], feature.dtype)
    aggregation = {} if computed is None else {"aggregation": aggregation_document(computed)}
    return {
        "name": feature.name,
        "dtype": str(feature.dtype),
        "kind": feature.kind,
        "description": feature.description,
        "column": feature.column,
        "default": default,
        "freshness_sla": _duration_text(feature.freshness_sla),
        "owner": feature.owner,
        "tags": dict(feature.tags),
        **aggregation,
    }


def aggregation_document(given: Aggregation) -> dict[str, Any]:
    """What an aggregation computes as JSON: the arguments of `hw.Aggregation`, those at their default left out."""
    options: dict[str, Any] = {
        "hop": _duration_text(given.hop_micros * MICROSECOND) if given.hop_micros else None,
        "offset": _duration_text(given.offset),
        **{name: getattr(given, name) for name in ("where", "n", "q")},
        "max_distinct": given.max_distinct if given.max_distinct != MAX_DISTINCT else None,
        "errors": given.errors if given.errors != "raise" else None,
    }
    window = _duration_text(given.window)
    set_ = {name: value for name, value in options.items() if value is not None}
    return {"column": given.column, "function": given.function, "window": window, **set_}


def _aggregation_in(document: Mapping[str, Any]) -> Aggregation:
    """The aggregation of a feature's document."""
    feature = _feature_in(document)
    return Aggregation(
        **document["aggregation"],
        name=feature.name,
        default=feature.default,
        description=feature.description,
        tags=feature.tags,
        place=PLACE,
    )


def _feature_in(document: Mapping[str, Any]) -> Feature:
    dtype = DType.parse(document["dtype"])
    (default,) = from_json([document["default"]], dtype)
    return Feature(
        document["name"],
        dtype,
        column=document["column"],
        description=document["description"],
        default=default,
        kind=document["kind"],
        freshness_sla=document["freshness_sla"],
        owner=document["owner"],
        tags=document["tags"],
        place=PLACE,
    )


def types_document(dtypes: Mapping[str, DType]) -> dict[str, str]:
    """Name → dtype as JSON."""
    return {name: str(dtype) for name, dtype in dtypes.items()}


def types_in(document: Mapping[str, str]) -> dict[str, DType]:
    """Name → dtype, as `types_document` wrote them."""
    return {name: DType.parse(dtype) for name, dtype in document.items()}


def _common(version: Summary) -> dict[str, Any]:
    return {
        "name": version.name,
        "version": version.version,
        "live": version.live,
        "versions": list(version.versions),
        "join_keys": types_document(version.join_keys),
        "request_fields": types_document(version.request_fields),
        "owner": version.owner,
        "description": version.description,
        "tags": dict(version.tags),
    }


def _common_in(document: Mapping[str, Any]) -> dict[str, Any]:
    same = {name: document[name] for name in ("name", "version", "live", "owner", "description", "tags")}
    # a server of an earlier release has no request fields
    fields = types_in(document.get("request_fields", {}))
    keys = types_in(document["join_keys"])
    return {**same, "versions": tuple(document["versions"]), "join_keys": keys, "request_fields": fields}


def _duration_text(duration: timedelta | str | None) -> str | None:
    return None if duration is None else format_duration(parse_duration(duration))


def _duration_in(text: str | None) -> timedelta | None:
    return None if text is None else parse_duration(text)
