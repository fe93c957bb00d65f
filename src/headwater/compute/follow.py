"""Follow: what a prepared request becomes when live pointers move; its columns never change."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from headwater.errors import HeadwaterError
from headwater.planning.references import parse_reference
from headwater.planning.resolve import OutputColumn, ResolvedRequest, ResolvedView, resolve, whole_view
from headwater.planning.service_reads import same_columns
from headwater.planning.snapshot import RegistrySnapshot, ServiceVersion, ViewRecord, ViewVersion


@dataclass(frozen=True)
class Followed:
    """A request after the registry changed.

    Attributes:
        request: with the same columns and keys.
        warnings: why parts of it stay on versions that are not live any more.
    """

    request: ResolvedRequest
    warnings: tuple[str, ...] = ()


def following(features: Any) -> frozenset[str]:
    """The views that follow their live pointers: those asked for by a text reference without a version."""
    items: Iterable[Any] = features if isinstance(features, (list, tuple)) else (features,)
    names = set()
    for item in items:
        if isinstance(item, str):
            reference = parse_reference(item)
            if reference.version is None and reference.feature is not None:
                names.add(reference.name)
    return frozenset(names)


def follow(snapshot: RegistrySnapshot, features: Any, request: ResolvedRequest) -> Followed:
    """The request on a newer registry.

    A view follows its live pointer to a version that has every column asked for with the same fingerprint; else it
    stays on the version it has. A service asked for by name alone does the same as a whole; which versions of views one
    of its versions reads stands in the registry.

    Args:
        snapshot: the newer registry.
        features: what the request was resolved from.
        request: the request so far.
    """
    if request.service is not None:
        return _follow_service(snapshot, features, request)
    names = following(features)
    views, warnings = [], []
    for view in request.views:
        moved = _moved(snapshot, view) if view.name in names and view.label == view.name else _again(snapshot, view)
        if isinstance(moved, str):
            warnings.append(moved)
            moved = _again(snapshot, view)
        views.append(moved)
    return Followed(_with_views(request, views), tuple(warnings))


def _moved(snapshot: RegistrySnapshot, view: ResolvedView) -> ResolvedView | str:
    """The view on its live version, or why it stays."""
    record = snapshot.views.get(view.name)
    if record is None or record.live is None:
        return f"feature view {view.name!r} was removed: reads stay on {view.version}, which is no longer updated"
    if record.live == view.version:
        return _again(snapshot, view)
    live = record.versions[record.live]
    for feature in view.features:
        if not same_columns(view.definition, live, (feature.name,)):
            what = "has other values for" if feature.name in live.view.features_by_name else "lacks"
            return (
                f"feature view {view.name!r}: reads stay on {view.version}, since the live version {record.live} "
                f"{what} {feature.name!r}; prepare it again to read {record.live}"
            )
    return _on(record, live, view)


def _on(record: ViewRecord, version: ViewVersion, view: ResolvedView) -> ResolvedView:
    """A view on another version that has its columns with the same fingerprints, so with the same keys."""
    other = whole_view(record, version)
    keys = tuple(replace(new, column=old.column) for new, old in zip(other.keys, view.keys, strict=True))
    features = tuple(version.view.feature(feature.name) for feature in view.features)
    return replace(other, label=view.label, keys=keys, features=features)


def _again(snapshot: RegistrySnapshot, view: ResolvedView) -> ResolvedView:
    """The view on the version it has, what was changed in place up to date."""
    record = snapshot.views.get(view.name)
    if record is None or view.version not in record.versions:
        return view
    version = record.versions[view.version]
    features = tuple(version.view.feature(feature.name) for feature in view.features)
    return replace(view, definition=version, live=record.live == view.version, features=features)


def _read_now(snapshot: RegistrySnapshot, service: ServiceVersion, view: ResolvedView) -> ResolvedView:
    """A view of a service on the version that the registry says is read for it now."""
    record = snapshot.view(view.name)
    names = [feature.name for feature in view.features]
    for (name, made_from), read in service.reads.items():
        if name == view.name and same_columns(record.versions[made_from], view.definition, names):
            return _on(record, record.versions[read], view)
    return _again(snapshot, view)


def _with_views(request: ResolvedRequest, views: list[ResolvedView]) -> ResolvedRequest:
    columns = tuple(replace(c, feature=views[c.view].view.feature(c.feature.name)) for c in request.columns)
    return ResolvedRequest(tuple(views), columns, request.service)


def _follow_service(snapshot: RegistrySnapshot, features: Any, request: ResolvedRequest) -> Followed:
    assert request.service is not None
    name, version = request.service
    record = snapshot.services.get(name)
    if record is None or version not in record.versions:
        return Followed(_with_views(request, [_again(snapshot, view) for view in request.views]))
    stored = record.versions[version]
    stays = _with_views(request, [_read_now(snapshot, stored, view) for view in request.views])
    by_name = isinstance(features, str) and parse_reference(features).version is None
    if not by_name or record.live == version:
        return Followed(stays)
    try:
        newer = resolve(snapshot, features)
    except HeadwaterError as bad:
        return Followed(stays, (f"feature service {name!r}: reads stay on {version}: {bad}",))
    cut = _cut(newer, request)
    if cut is None:
        why = (
            f"feature service {name!r}: reads stay on {version}, since the live {record.live} lacks some of its "
            "columns, or has other values for them"
        )
        return Followed(stays, (f"{why}; prepare it again to read {record.live}",))
    return Followed(cut)


def _cut(newer: ResolvedRequest, request: ResolvedRequest) -> ResolvedRequest | None:
    """The columns of a request out of a wider one; None where it lacks some, or needs other keys."""
    have = {column.name: column for column in newer.columns}
    chosen = []
    for column in request.columns:
        found = have.get(column.name)
        if found is None or found.feature.name != column.feature.name:
            return None
        old, new = request.views[column.view].definition, newer.views[found.view].definition
        if not same_columns(old, new, (column.feature.name,)):
            return None
        chosen.append(found)
    used = sorted({column.view for column in chosen})
    views = []
    for place in used:
        names = dict.fromkeys(c.feature.name for c in chosen if c.view == place)
        view = newer.views[place]
        views.append(replace(view, features=tuple(view.view.feature(name) for name in names)))
    columns = tuple(OutputColumn(c.name, used.index(c.view), c.feature) for c in chosen)
    cut = ResolvedRequest(tuple(views), columns, newer.service)
    return cut if dict(cut.join_keys) == dict(request.join_keys) else None
