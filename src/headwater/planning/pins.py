"""Pins: references and objects become versions of views, expanded and in order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from headwater.clock import EPOCH
from headwater.deferred import deferred
from headwater.definitions.named_features import NamedFeatures
from headwater.definitions.service import FeatureService
from headwater.definitions.view import FeatureSelection, FeatureView
from headwater.errors import FeatureNotFound, UsageError, VersionNotFound, brief, nearest
from headwater.planning.references import Reference, parse_reference
from headwater.planning.selections import PinnedSelection
from headwater.planning.snapshot import (
    AnyViewRecord,
    AnyViewVersion,
    OnDemandVersion,
    RegistrySnapshot,
    ServiceVersion,
    ViewVersion,
)
from headwater.planning.window_views import versions_of

if TYPE_CHECKING:
    from headwater.definitions import on_demand
else:
    on_demand = deferred("headwater.definitions.on_demand")


def pin(snapshot: RegistrySnapshot, item: Any, *, prefer: Mapping[str, str] | None = None) -> PinnedSelection:
    """One item of a features list, pinned to a version and expanded.

    Args:
        snapshot: the registry.
        item: a reference, a view or a selection.
        prefer: view → the version that a text reference means where the live one lacks the feature (within one
            `apply`).

    Raises:
        NotFound: an unknown view, version or feature, with the nearest name.
        UsageError: an item of another form.
    """
    if isinstance(item, PinnedSelection):
        return item
    registered: Any = getattr(item, "registered", None)  # what get_feature_view returns
    if isinstance(registered, (ViewVersion, OnDemandVersion)):
        return PinnedSelection(registered.view.name, registered.version, registered.view.feature_names)
    if isinstance(item, ServiceVersion | FeatureService) or isinstance(registered, ServiceVersion):
        name = item.name
        raise UsageError(f"feature service {name!r} is inside a list; pass the service alone, or list its features")
    if isinstance(item, str):
        return _pin_text(snapshot, parse_reference(item), prefer or {})
    if isinstance(item, FeatureView) or is_on_demand(item):
        item = FeatureSelection(item)
    if isinstance(item, FeatureSelection):
        version = _version_of(snapshot, item.view)
        return PinnedSelection(
            item.view.name, version.version, item.feature_names, item.alias_name, item.join_key_map, item.renames
        )
    raise UsageError(f"{item!r} is not a feature; give 'view:feature', a view, or view['feature']")


def _pin_text(snapshot: RegistrySnapshot, reference: Reference, prefer: Mapping[str, str]) -> PinnedSelection:
    if reference.feature is None:
        if reference.name in snapshot.services:
            raise UsageError(f"{reference.name!r} is a feature service; pass it alone, not inside a list")
        if reference.name in snapshot.views or reference.name in snapshot.on_demand:
            raise UsageError(f"{reference.name!r} is a view; write '{reference}:*' for all of its features")
        hint = snapshot.holders(reference.name) or nearest(
            reference.name, [*snapshot.views, *snapshot.on_demand, *snapshot.services]
        )
        raise FeatureNotFound(f"{brief(reference.name)} is not a view{hint}; write features as 'view:feature'")
    record = snapshot.any_view(reference.name)
    version: AnyViewVersion = record.version(reference.version)
    if (
        reference.version is None
        and reference.feature != "*"
        and reference.feature not in version.view.features_by_name
    ):
        preferred = record.versions.get(prefer.get(reference.name, ""))
        if preferred is not None and reference.feature in preferred.view.features_by_name:
            version = preferred
        else:
            _refuse_text(record, version, reference)
    names = version.view.feature_names if reference.feature == "*" else (version.view.feature(reference.feature).name,)
    return PinnedSelection(reference.name, version.version, names)


def _refuse_text(record: AnyViewRecord, live: AnyViewVersion, reference: Reference) -> None:
    """Say that the live version lacks the feature, and which version has it."""
    others: Sequence[AnyViewVersion] = record.active
    for other in reversed(others):
        if reference.feature in other.view.features_by_name:
            raise FeatureNotFound(
                f"'{reference}': the live version {live.version} of view {record.name!r} has no {reference.feature!r}, "
                f"version {other.version} has it: write '{record.name}@{other.version}:{reference.feature}', "
                f"or make it live: run materialize, then promote {record.name} {other.version} if needed"
            )
    live.view.feature(str(reference.feature))


def is_on_demand(item: Any) -> bool:
    """Whether an object is an on-demand feature view; a process without any does not load their module."""
    return hasattr(item, "function") and isinstance(item, on_demand.OnDemandFeatureView)


def on_demand_version(
    snapshot: RegistrySnapshot, view: on_demand.OnDemandFeatureView, *, prefer: Mapping[str, str] | None = None
) -> OnDemandVersion:
    """An on-demand view as a version would be made of it now, its inputs pinned.

    Raises:
        NotFound: an input of which no version is registered.
    """
    inputs = tuple(
        item if isinstance(item, on_demand.RequestField) else pin(snapshot, item, prefer=prefer) for item in view.inputs
    )
    selections = [item for item in inputs if isinstance(item, PinnedSelection)]
    kept = replace(view, inputs=(), function=None, version=view.version)
    automatic, upstream = view.version is None, snapshot.linked(selections)
    return OnDemandVersion(kept, inputs, automatic, EPOCH, EPOCH, upstream=upstream)


def _versions_of(snapshot: RegistrySnapshot, view: NamedFeatures, versions: Iterable[Any]) -> list[Any]:
    """The registered versions that have an object's definition."""
    if isinstance(view, FeatureView):
        return versions_of(view, versions)
    assert isinstance(view, on_demand.OnDemandFeatureView)
    mark = on_demand_version(snapshot, view).fingerprint
    return [version for version in versions if version.fingerprint == mark]


def _version_of(snapshot: RegistrySnapshot, view: NamedFeatures) -> AnyViewVersion:
    """The registered version that has an object's definition, newest first."""
    record: Any = snapshot.view(view.name) if isinstance(view, FeatureView) else snapshot.any_view(view.name)
    if view.version is not None and view.version in record.versions:
        found: AnyViewVersion = record.versions[view.version]
        if found.view is view or _versions_of(snapshot, view, [found]):
            return found
        raise VersionNotFound(
            f"feature view {view.name!r}: version {view.version} is registered with another definition; "
            "apply it under a new version, or try it with FeatureStore.in_memory([…])"
        )
    candidates = [v for v in record.versions.values() if view.version in (None, v.version)]
    found_all: list[AnyViewVersion] = _versions_of(snapshot, view, candidates)
    if not found_all:
        raise VersionNotFound(
            f"no registered version of feature view {view.name!r} has this definition; "
            "apply it first, or try it with FeatureStore.in_memory([…])"
        )
    return max(found_all, key=lambda v: (v.retired_at is None, v.version == record.live, v.revision))
