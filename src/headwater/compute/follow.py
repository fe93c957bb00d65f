"""Follow: what a prepared request becomes when live pointers move; its columns never change."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from headwater.errors import HeadwaterError
from headwater.planning.references import parse_reference
from headwater.planning.resolve import OutputColumn, ResolvedRequest, ResolvedView, resolve, whole_view
from headwater.planning.snapshot import RegistrySnapshot


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

    A view follows its live pointer to a version that has every column asked for, in its dtype, under the same join
    keys; else it stays on the version it has. A service asked for by name alone follows alike, as a whole.

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
        return f"feature view {view.name!r} was removed: reads stay on {view.version}, which is fed no more"
    if record.live == view.version:
        return _again(snapshot, view)
    live = whole_view(record, record.versions[record.live])
    have = {feature.name: feature for feature in live.view.feature_list}
    for feature in view.features:
        found = have.get(feature.name)
        if found is None or found.dtype != feature.dtype:
            what = "lacks" if found is None else f"has as {found.dtype}"
            return (
                f"feature view {view.name!r}: reads stay on {view.version}, since the live version {record.live} "
                f"{what} {feature.name!r}; prepare anew"
            )
    if [(k.name, k.dtype) for k in live.keys] != [(k.name, k.dtype) for k in view.keys]:
        return f"feature view {view.name!r}: reads stay on {view.version}, since {record.live} has other join keys"
    keys = tuple(replace(new, column=old.column) for new, old in zip(live.keys, view.keys, strict=True))
    return replace(live, label=view.label, keys=keys, features=tuple(have[f.name] for f in view.features))


def _again(snapshot: RegistrySnapshot, view: ResolvedView) -> ResolvedView:
    """The view on the version it has, what was changed in place up to date."""
    record = snapshot.views.get(view.name)
    if record is None or view.version not in record.versions:
        return view
    version = record.versions[view.version]
    features = tuple(version.view.feature(feature.name) for feature in view.features)
    return replace(view, definition=version, live=record.live == view.version, features=features)


def _with_views(request: ResolvedRequest, views: list[ResolvedView]) -> ResolvedRequest:
    columns = tuple(replace(c, feature=views[c.view].view.feature(c.feature.name)) for c in request.columns)
    return ResolvedRequest(tuple(views), columns, request.service)


def _follow_service(snapshot: RegistrySnapshot, features: Any, request: ResolvedRequest) -> Followed:
    stays = _with_views(request, [_again(snapshot, view) for view in request.views])
    assert request.service is not None
    if not isinstance(features, str) or parse_reference(features).version is not None:
        return Followed(stays)
    name, version = request.service
    try:
        newer = resolve(snapshot, features)
    except HeadwaterError as bad:
        return Followed(stays, (f"feature service {name!r}: reads stay on {version}: {bad}",))
    if newer.service == request.service:
        return Followed(stays)
    cut = _cut(newer, request)
    if cut is None:
        live = newer.service[1] if newer.service else ""
        why = f"feature service {name!r}: reads stay on {version}, since the live {live} lacks some of its columns"
        return Followed(stays, (f"{why}; prepare anew",))
    return Followed(cut)


def _cut(newer: ResolvedRequest, request: ResolvedRequest) -> ResolvedRequest | None:
    """The columns of a request out of a wider one; None where it lacks some, or needs other keys."""
    have = {column.name: column for column in newer.columns}
    chosen = []
    for column in request.columns:
        found = have.get(column.name)
        if found is None or found.feature.dtype != column.feature.dtype:
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
