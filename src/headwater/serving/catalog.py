"""`GET /v1/{views,features,entities,services}[/name]`: what is registered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headwater.clock import format_duration
from headwater.definitions.entity import Entity
from headwater.errors import EntityNotFound, nearest
from headwater.planning.catalog import ServiceInfo, ViewInfo
from headwater.planning.references import parse_reference
from headwater.serving.access import Access, forbidden
from headwater.store import FeatureStore
from headwater.types import DType


def listed(store: FeatureStore, kind: str, access: Access) -> list[dict[str, Any]]:
    """All of a kind that a key may read: `views`, `features`, `entities` or `services`; live versions."""
    snapshot = store.registry.snapshot()
    if kind == "services":
        services = store.list_feature_services()
        return [_service(info) for info in services if access.sees_service(snapshot, info.name)]
    views = [info for info in store.list_feature_views() if access.sees_view(info.name)]
    if kind == "views":
        return [_view(info) for info in views]
    if kind == "features":
        return [_feature(info, feature.name) for info in views for feature in info.features]
    used = {entity.name for info in views for entity in info.definition.entities}
    return [_entity(entity) for entity in store.list_entities() if access.key is None or entity.name in used]


def check_shown(store: FeatureStore, kind: str, name: str, access: Access) -> None:
    """Refuse what a key may not read, before it is looked up.

    Raises:
        AccessDenied: whether it exists or not.
    """
    if access.key is None or access.key.unlimited:
        return
    if kind == "services":
        access.check_service(store.registry.snapshot(), name)
    elif kind == "entities":
        if name not in {entity["name"] for entity in listed(store, "entities", access)}:
            raise forbidden()
    else:
        access.check_view(parse_reference(name).name)


def shown(store: FeatureStore, kind: str, name: str, version: str | None) -> dict[str, Any]:
    """One of a kind, in full.

    Raises:
        NotFound: no such name or version.
    """
    return _SHOWN[kind](store, name, version)


def _types(dtypes: dict[str, DType]) -> dict[str, str]:
    return {name: str(dtype) for name, dtype in dtypes.items()}


def _view(info: ViewInfo) -> dict[str, Any]:
    view = info.definition
    return {
        "name": info.name,
        "version": info.version,
        "live": info.live,
        "versions": list(info.versions),
        "entities": [entity.name for entity in view.entities],
        "join_keys": _types(info.join_keys),
        "features": [
            {"name": f.name, "dtype": str(f.dtype), "kind": f.kind, "description": f.description} for f in info.features
        ],
        "source": view.source.kind,
        "ttl": None if view.ttl_time is None else format_duration(view.ttl_time),
        "freshness_sla": None if view.sla_time is None else format_duration(view.sla_time),
        "owner": view.owner,
        "description": view.description,
        "tags": dict(view.tags),
    }


def _service(info: ServiceInfo) -> dict[str, Any]:
    service = info.registered
    return {
        "name": info.name,
        "version": info.version,
        "live": info.live,
        "versions": list(info.versions),
        "join_keys": _types(info.join_keys),
        "features": [
            {"name": name, "dtype": str(dtype), "reference": reference} for name, dtype, reference in info.columns
        ],
        "owner": service.owner,
        "description": service.description,
        "tags": dict(service.tags),
    }


def _entity(entity: Entity) -> dict[str, Any]:
    return {"name": entity.name, "join_keys": _types(dict(entity.join_keys)), "description": entity.description}


def _feature(info: ViewInfo, name: str) -> dict[str, Any]:
    (feature,) = (f for f in info.features if f.name == name)
    return {
        "name": f"{info.name}:{name}",
        "version": info.version,
        "dtype": str(feature.dtype),
        "kind": feature.kind,
        "description": feature.description,
        "join_keys": _types(info.join_keys),
    }


def _show_feature(store: FeatureStore, name: str, version: str | None) -> dict[str, Any]:
    found = store.registry.get_feature_definition(name, version=version)
    view, _, feature = name.partition(":")
    return _feature(store.get_feature_view(view.partition("@")[0], found.version), feature)


def _show_entity(store: FeatureStore, name: str, version: str | None) -> dict[str, Any]:
    entities = {entity.name: entity for entity in store.list_entities()}
    if name not in entities:
        raise EntityNotFound(f"no entity {name!r}{nearest(name, entities)}")
    return _entity(entities[name])


_SHOWN: dict[str, Callable[[FeatureStore, str, str | None], dict[str, Any]]] = {
    "views": lambda store, name, version: _view(store.get_feature_view(name, version)),
    "services": lambda store, name, version: _service(store.get_feature_service(name, version)),
    "entities": _show_entity,
    "features": _show_feature,
}
