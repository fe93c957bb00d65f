"""`GET /v1/{views,features,entities,services,models}[/name]`: what is registered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from headwater.compute.status import StoreStatus
from headwater.definitions.model import Model
from headwater.planning.catalog import live_views
from headwater.planning.snapshot import RegistrySnapshot
from headwater.planning.summaries import ViewSummary
from headwater.registry.api_keys import ADMIN
from headwater.serving.access import Access, forbidden
from headwater.store import FeatureStore
from headwater.wire.catalog import (
    entity_document,
    feature_document,
    model_document,
    service_document,
    types_document,
    view_document,
)


def listed(store: FeatureStore, kind: str, access: Access) -> list[dict[str, Any]]:
    """All of a kind that a key may read: one of `names.KINDS`; live versions, of models all."""
    snapshot = store.registry.snapshot()
    if kind == "models":
        return [model_document(info) for info in store.list_models() if access.sees_service(snapshot, info.service)]
    if kind == "services":
        services = store.list_feature_services()
        return [service_document(info) for info in services if access.sees_service(snapshot, info.name)]
    views = [info for info in store.list_feature_views() if access.sees_features(snapshot, info.name)]
    if kind == "views":
        return [view_document(info) for info in views]
    if kind == "features":
        return [_feature(info, feature.name) for info in views for feature in info.features]
    used = {name for info in views for name in info.entities}
    return [entity_document(entity) for entity in store.list_entities() if access.key is None or entity.name in used]


def covered(store: FeatureStore, status: StoreStatus, access: Access) -> StoreStatus:
    """How a store stands, as far as a key may know of it: of one with patterns, the views and services that they cover.

    What is said of the store as a whole may name any view.
    """
    if not access.limited or (access.key is not None and access.key.has(ADMIN)):
        return status
    snapshot = store.registry.snapshot()
    return replace(
        status,
        versions=tuple(version for version in status.versions if access.sees_view(version.view)),
        on_demand=tuple(v for v in status.on_demand if access.sees_features(snapshot, v.view, v.version)),
        services={name: live for name, live in status.services.items() if access.sees_service(snapshot, name)},
        warnings=(),
        failures=(),
        registry={},
        log={},
        online={},
    )


def check_shown(snapshot: RegistrySnapshot, kind: str, name: str, version: str | None, access: Access) -> None:
    """Refuse what a key may not read, before it is looked up.

    Raises:
        AccessDenied: whether it exists or not.
    """
    if not access.limited:
        return
    if kind == "services":
        access.check_service(snapshot, name)
    elif kind == "models":
        access.check_model(snapshot, _model(name, version))
    elif kind == "entities":
        views = (info for info in live_views(snapshot) if access.sees_features(snapshot, info.name))
        if name not in {entity for info in views for entity in info.entities}:
            raise forbidden()
    else:
        access.check_features(snapshot, [name])


def shown(store: FeatureStore, kind: str, name: str, version: str | None) -> dict[str, Any]:
    """One of a kind, in full.

    Raises:
        NotFound: no such name or version.
    """
    return _SHOWN[kind](store, name, version)


def _feature(info: ViewSummary, name: str) -> dict[str, Any]:
    (feature,) = (f for f in info.features if f.name == name)
    computed = next((made for made in info.aggregations if made.feature_name == name), None)
    return {
        **feature_document(feature, computed),
        "name": f"{info.name}:{name}",
        "version": info.version,
        "join_keys": types_document(info.join_keys),
        **({"request_fields": types_document(info.request_fields)} if info.request_fields else {}),
    }


def _show_feature(store: FeatureStore, name: str, version: str | None) -> dict[str, Any]:
    found = store.registry.get_feature_definition(name, version=version)
    view, _, feature = name.partition(":")
    return _feature(store.get_feature_view(view.partition("@")[0], found.version), feature)


def _show_model(store: FeatureStore, name: str, version: str | None) -> dict[str, Any]:
    wanted = _model(name, version)
    return model_document(store.get_model(wanted.name, wanted.version))


def _model(name: str, version: str | None) -> Model:
    return Model.of(name if version is None else f"{name}@{version}")


_SHOWN: dict[str, Callable[[FeatureStore, str, str | None], dict[str, Any]]] = {
    "views": lambda store, name, version: view_document(store.get_feature_view(name, version)),
    "services": lambda store, name, version: service_document(store.get_feature_service(name, version)),
    "entities": lambda store, name, version: entity_document(store.get_entity(name)),
    "features": _show_feature,
    "models": _show_model,
}
