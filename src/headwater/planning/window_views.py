"""Window views as users define them, completed by what the source and the registry say of their columns."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from headwater.deferred import deferred
from headwater.definitions.feature import Feature
from headwater.definitions.service import FeatureService
from headwater.definitions.source import Source
from headwater.definitions.sources import TEXT_SOURCES, PushSource
from headwater.definitions.view import FeatureSelection, FeatureView
from headwater.errors import HeadwaterError
from headwater.planning.kept_stars import has_star, with_stars_of
from headwater.planning.snapshot import RegistrySnapshot, ViewVersion

if TYPE_CHECKING:
    from headwater.definitions import aggregation_checks, window_columns
    from headwater.definitions import fingerprint as fingerprints
    from headwater.definitions.source_checks import Schemas
else:
    fingerprints = deferred("headwater.definitions.fingerprint")
    aggregation_checks = deferred("headwater.definitions.aggregation_checks")
    window_columns = deferred("headwater.definitions.window_columns")


def versions_of(view: FeatureView, versions: Iterable[ViewVersion]) -> list[ViewVersion]:
    """The registered versions that have a view's definition.

    What a window view does not say of its columns is each version's own, and so is what a star over views stands for.

    Args:
        view: an object of a user's.
        versions: of the view of that name.
    """
    if not view.aggregations:
        if has_star(view):
            marks = ((v, fingerprints.fingerprint(with_stars_of(view, v.view))) for v in versions)
            return [version for version, mark in marks if version.fingerprint == mark]
        mark = fingerprints.fingerprint(view)
        return [version for version in versions if version.fingerprint == mark]
    return [version for version in versions if version.view.aggregations and _is_of(version, view)]


def _is_of(version: ViewVersion, view: FeatureView) -> bool:
    known = window_columns.with_columns(view, None, [version.view.columns])
    return version.fingerprint == fingerprints.fingerprint(known)


def with_known_columns(snapshot: RegistrySnapshot, definitions: Iterable[Any], schemas: Schemas | None) -> list[Any]:
    """Definitions, the window views among them with the dtypes of all columns that can be known.

    Args:
        snapshot: the registry.
        definitions: entities, views and services.
        schemas: the columns of a source; None: sources are not looked at.
    """
    made = list(definitions)
    known: dict[int, FeatureView] = {}
    for view in made:
        if isinstance(view, FeatureView) and is_sound(view):
            known[id(view)] = _completed(snapshot, view, schemas)
    if not known:
        return made
    return [
        _with_views(item, known) if isinstance(item, FeatureService) else known.get(id(item), item) for item in made
    ]


def is_sound(view: FeatureView) -> bool:
    """Whether a view is one of aggregations alone, with nothing wrong with any of them by itself."""
    aggregations = view.aggregations
    return (
        bool(aggregations)
        and not view.problems
        and isinstance(view.source, Source)
        and not any(isinstance(item, Feature) for item in view.features)
        and not any(aggregation_checks.aggregation_problems(made) for made in aggregations)
    )


def _completed(snapshot: RegistrySnapshot, view: FeatureView, schemas: Schemas | None) -> FeatureView:
    record = snapshot.views.get(view.name) if isinstance(view.name, str) else None
    versions = [] if record is None else sorted(record.versions.values(), key=lambda v: v.revision, reverse=True)
    before = [version.view.columns for version in versions]
    view = window_columns.with_columns(view, _schema(view.source, schemas), before)
    return window_columns.stored_form(view)


def _schema(source: Source, schemas: Schemas | None) -> pa.Schema | None:
    """The columns of a source, where it says itself what they are."""
    try:
        found = None if schemas is None else schemas(source)
    except HeadwaterError:
        return None  # the checks say why
    if found is None or isinstance(found, pa.Schema):
        return None if isinstance(source, (PushSource, *TEXT_SOURCES)) else found
    return None if isinstance(found.source, TEXT_SOURCES) else found.schema


def _with_views(service: FeatureService, known: dict[int, FeatureView]) -> FeatureService:
    """A service with the completed views in place of those that it was made of."""
    items = [_item(item, known) for item in service.items]
    changed = any(new is not old for new, old in zip(items, service.items, strict=True))
    return replace(service, features=items) if changed and not service.problems else service


def _item(item: Any, known: dict[int, FeatureView]) -> Any:
    if isinstance(item, FeatureSelection) and id(item.view) in known:
        return replace(item, view=known[id(item.view)])
    return known.get(id(item), item)
