"""Pins: references and objects become versions of views and services, expanded and in order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from headwater.definitions.fingerprint import digest, fingerprint
from headwater.definitions.service import FeatureService
from headwater.definitions.view import FeatureSelection, FeatureView
from headwater.errors import FeatureNotFound, NotFound, UsageError, VersionNotFound, nearest
from headwater.planning.references import Reference, parse_reference
from headwater.planning.snapshot import PinnedSelection, RegistrySnapshot, ServiceVersion, ViewRecord, ViewVersion


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
    registered = getattr(item, "registered", None)  # what get_feature_view returns
    if isinstance(registered, ViewVersion):
        return PinnedSelection(registered.view.name, registered.version, registered.view.feature_names)
    if isinstance(item, ServiceVersion | FeatureService) or isinstance(registered, ServiceVersion):
        name = item.name
        raise UsageError(f"feature service {name!r} stands inside a list; pass the service alone, or list its features")
    if isinstance(item, str):
        return _pin_text(snapshot, parse_reference(item), prefer or {})
    if isinstance(item, FeatureView):
        item = FeatureSelection(item)
    if isinstance(item, FeatureSelection):
        version = _version_of(snapshot, item.view)
        return PinnedSelection(
            item.view.name, version.version, item.feature_names, item.alias, item.join_key_map, item.renames
        )
    raise UsageError(f"{item!r} is not a feature; give 'view:feature', a view, or view['feature']")


def _pin_text(snapshot: RegistrySnapshot, reference: Reference, prefer: Mapping[str, str]) -> PinnedSelection:
    if reference.feature is None:
        if reference.name in snapshot.services:
            raise UsageError(f"{reference.name!r} is a feature service; pass it alone, not inside a list")
        if reference.name in snapshot.views:
            raise UsageError(f"{reference.name!r} names a view; write '{reference}:*' for all of its features")
        hint = snapshot.holders(reference.name) or nearest(reference.name, [*snapshot.views, *snapshot.services])
        raise FeatureNotFound(f"{reference.name!r} names no view{hint}; a feature is written 'view:feature'")
    record = snapshot.view(reference.name)
    version = record.version(reference.version)
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


def _refuse_text(record: ViewRecord, live: ViewVersion, reference: Reference) -> None:
    """Say that the live version lacks the feature, and which version has it."""
    for other in reversed(record.fed):
        if reference.feature in other.view.features_by_name:
            raise FeatureNotFound(
                f"'{reference}': the live version {live.version} of view {record.name!r} has no {reference.feature!r}, "
                f"version {other.version} has: write '{record.name}@{other.version}:{reference.feature}', "
                f"or make it live: run materialize, then promote {record.name} {other.version} if it still is not"
            )
    live.view.feature(str(reference.feature))


def _version_of(snapshot: RegistrySnapshot, view: FeatureView) -> ViewVersion:
    """The registered version that has an object's definition, newest first."""
    record = snapshot.view(view.name)
    if view.version is not None and view.version in record.versions:
        found = record.versions[view.version]
        if found.view is view or found.fingerprint == fingerprint(view):
            return found
        raise VersionNotFound(
            f"feature view {view.name!r}: version {view.version} is registered with another definition; "
            "apply it under a new version, or try it with FeatureStore.in_memory([…])"
        )
    mark = fingerprint(view)
    found_all = [v for v in record.versions.values() if v.fingerprint == mark and view.version in (None, v.version)]
    if not found_all:
        raise VersionNotFound(
            f"no registered version of feature view {view.name!r} has this definition; "
            "apply it first, or try it with FeatureStore.in_memory([…])"
        )
    return max(found_all, key=lambda v: (v.retired_at is None, v.version == record.live, v.revision))


def service_version(snapshot: RegistrySnapshot, features: Any) -> ServiceVersion | None:
    """The service version that `features` names, or None where it is a list of features.

    An object means the version with its own list, in which a text reference stands for the version it was pinned to.

    Raises:
        NotFound: a bare name that is no service, or an object that no registered version equals.
    """
    registered = getattr(features, "registered", None)  # what get_feature_service returns
    if isinstance(registered, ServiceVersion):
        return snapshot.service(registered.name).version(registered.version)
    if isinstance(features, FeatureService):
        return _version_of_service(snapshot, features)
    if isinstance(features, str):
        reference = parse_reference(features)
        if reference.feature is None:
            if reference.name in snapshot.views and reference.name not in snapshot.services:
                raise UsageError(f"{features!r} names a view; write ['{features}:*'] for all of its features")
            return snapshot.service(reference.name).version(reference.version)
    return None


def _version_of_service(snapshot: RegistrySnapshot, service: FeatureService) -> ServiceVersion:
    record = snapshot.service(service.name)
    candidates = record.versions.values() if service.version is None else [record.version(service.version)]
    newest_first = sorted(
        candidates, key=lambda v: (v.retired_at is None, v.version == record.live, v.revision), reverse=True
    )
    for version in newest_first:
        if version.full_names == service.full_names and holds(snapshot, service.items, version):
            return version
    which = "no registered version" if service.version is None else f"version {service.version}"
    raise VersionNotFound(f"feature service {service.name!r}: {which} has this list of features; apply it first")


def holds(snapshot: RegistrySnapshot, items: Sequence[Any], version: ServiceVersion) -> bool:
    """Whether items are the columns of a stored service version, a text reference read as the version pinned there."""
    pinned, at = tuple(expand(version.selections)), 0
    for item in items:
        try:
            columns = tuple(expand([pin(snapshot, _as_pinned(item, pinned, at))]))
        except NotFound:
            return False
        if columns != pinned[at : at + len(columns)]:
            return False
        at += len(columns)
    return at == len(pinned)


def _as_pinned(item: Any, pinned: Sequence[tuple[Any, ...]], at: int) -> Any:
    """A text reference with the version that stands at its place in a stored list; anything else as it is."""
    if not isinstance(item, str) or at >= len(pinned):
        return item
    reference, (view, version, *_) = parse_reference(item), pinned[at]
    if reference.version is not None or reference.feature is None or reference.name != view:
        return item
    return str(Reference(view, version, reference.feature))


def expand(selections: Iterable[PinnedSelection]) -> Iterator[tuple[Any, ...]]:
    """Selections column by column: equal lists of columns compare equal however they were grouped."""
    for s in selections:
        for name in s.names:
            yield s.view, s.version, name, s.alias, tuple(sorted(s.join_key_map.items())), s.renames.get(name)


def service_fingerprint(selections: Iterable[PinnedSelection], full_names: bool) -> str:
    """The name of a service version's columns."""
    return digest([list(expand(selections)), full_names])


def pinned_by(snapshot: RegistrySnapshot) -> dict[tuple[str, str], tuple[str, ...]]:
    """(view, version) → the service versions, not retired, that pin it, as `service@1.0.0`."""
    pins: dict[tuple[str, str], dict[str, None]] = {}
    for record in snapshot.services.values():
        for version in record.fed:
            for selection in version.selections:
                pins.setdefault((selection.view, selection.version), {})[f"{record.name}@{version.version}"] = None
    return {key: tuple(names) for key, names in pins.items()}
