"""Follow: what a prepared request becomes when live pointers move; its columns never change."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from headwater.definitions.model import Model
from headwater.errors import HeadwaterError
from headwater.planning.references import parse_reference
from headwater.planning.resolve import resolve, whole_view, with_features
from headwater.planning.resolved import ComputedColumn, OutputColumn, ResolvedFunction, ResolvedRequest, ResolvedView
from headwater.planning.service_reads import same_columns
from headwater.planning.snapshot import RegistrySnapshot, ViewRecord, ViewVersion
from headwater.values import Value


class Followed(Value, frozen=True):
    """A request after the registry changed.

    Attributes:
        request: with the same columns and keys.
        warnings: why parts of it stay on versions that are not live any more.
    """

    request: ResolvedRequest
    warnings: tuple[str, ...] = ()


def follow(
    snapshot: RegistrySnapshot, features: Any, request: ResolvedRequest, full_names: bool | None = None
) -> Followed:
    """The request on a newer registry.

    What was asked for by a text reference without a version follows its view's live pointer, to a version that has all
    of these columns with the same fingerprints; else it stays on the version it has. A service asked for by name alone
    does the same as a whole; which versions of views one of its versions reads stands in the registry.

    Args:
        snapshot: the newer registry.
        features: what the request was resolved from.
        request: the request so far.
        full_names: as it was resolved.
    """
    if request.service is not None:
        return _follow_service(snapshot, features, request, full_names)
    if request.functions:
        return _follow_computed(snapshot, features, request, full_names)
    views: list[ResolvedView] = []
    index: dict[tuple[int, bool], int] = {}
    warnings = []
    for old in range(len(request.views)):
        found, warning = _follow_view(snapshot, request, old)
        warnings += [warning] if warning else []
        for by_name, view in found.items():
            if view not in views:
                views.append(view)
            index[old, by_name] = views.index(view)
    columns = tuple(
        replace(c, view=place, feature=views[place].view.feature(c.feature.name))
        for c in request.columns
        for place in [index[c.view, c.by_name]]
    )
    return Followed(ResolvedRequest(tuple(views), columns), tuple(warnings))


def _follow_view(
    snapshot: RegistrySnapshot, request: ResolvedRequest, index: int
) -> tuple[dict[bool, ResolvedView], str]:
    """What a view's columns asked for by name alone (True), and its others (False), are read from; and a warning."""
    view = request.views[index]
    stays = _again(snapshot, view)
    names = {by_name: _names(request, index, by_name) for by_name in (True, False)}
    if not names[True]:
        return {False: stays}, ""
    moved = _moved(snapshot, with_features(view, names[True]))
    if isinstance(moved, str):
        return {True: stays, False: stays}, moved
    if moved.version == stays.version:
        return {True: stays, False: stays}, ""
    if not names[False]:
        return {True: moved}, ""
    return {True: moved, False: replace(with_features(stays, names[False]), label=f"{view.name}@{view.version}")}, ""


def _names(request: ResolvedRequest, index: int, by_name: bool) -> tuple[str, ...]:
    """The features of a view that were asked for by name alone, or the others."""
    found = (c.feature.name for c in request.columns if (c.view, c.by_name) == (index, by_name))
    return tuple(dict.fromkeys(found))


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
            what = "has different values for" if feature.name in live.view.features_by_name else "lacks"
            return (
                f"feature view {view.name!r}: reads stay on {view.version}, since the live version {record.live} "
                f"{what} {feature.name!r}; prepare it again to read {record.live}"
            )
    return replace(_on(record, live, view), label=view.name)


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


def _with_views(request: ResolvedRequest, views: list[ResolvedView]) -> ResolvedRequest:
    columns = tuple(replace(c, feature=views[c.view].view.feature(c.feature.name)) for c in request.columns)
    return replace(request, views=tuple(views), columns=columns)


def _stays(snapshot: RegistrySnapshot, request: ResolvedRequest) -> ResolvedRequest:
    """The request on the versions it has, what was changed in place up to date."""
    stays = _with_views(request, [_again(snapshot, view) for view in request.views])
    functions = tuple(_function_again(snapshot, function) for function in request.functions)
    return stays if functions == request.functions else replace(stays, functions=functions)


def _function_again(snapshot: RegistrySnapshot, function: ResolvedFunction) -> ResolvedFunction:
    record = snapshot.on_demand.get(function.name)
    if record is None or function.version not in record.versions:
        return function
    return replace(function, definition=record.versions[function.version], live=record.live == function.version)


def _follow_computed(
    snapshot: RegistrySnapshot, features: Any, request: ResolvedRequest, full_names: bool | None
) -> Followed:
    """A list of features with on-demand ones moves as a whole, to the versions that it means now."""
    stays = _stays(snapshot, request)
    try:
        newer = resolve(snapshot, features, full_names=full_names)
    except HeadwaterError as bad:
        return Followed(stays, (f"reads stay on the versions that they have: {bad}",))
    if newer.versions == stays.versions or _same_answers(newer, request):
        return Followed(newer)
    changed = ", ".join(f"{label} {v}" for label, v in newer.versions.items() if stays.versions.get(label) != v)
    why = f"reads stay on the versions that they have, since {changed} have different values, keys or request fields"
    return Followed(stays, (f"{why}; prepare it again to read those",))


def _same_answers(one: ResolvedRequest, other: ResolvedRequest) -> bool:
    """Whether two requests have the same columns with the same values, of the same keys and request fields."""
    if dict(one.join_keys) != dict(other.join_keys) or one.request_fields != other.request_fields:
        return False
    return [_meaning(one, c) for c in one.outputs] == [_meaning(other, c) for c in other.outputs]


def _meaning(request: ResolvedRequest, column: OutputColumn | ComputedColumn) -> tuple[Any, ...]:
    owner, name = request.owner(column), column.feature.name
    keys = () if isinstance(owner, ResolvedFunction) else tuple((key.name, key.column) for key in owner.keys)
    return column.name, owner.name, name, keys, owner.definition.column_fingerprints[name]


def _follow_service(
    snapshot: RegistrySnapshot, features: Any, request: ResolvedRequest, full_names: bool | None
) -> Followed:
    assert request.service is not None
    name, version = request.service
    record = snapshot.services.get(name)
    stays = None
    if record is not None and version in record.versions:
        stays = _cut(resolve(snapshot, f"{name}@{version}", full_names=full_names), request)
    if record is None or stays is None:
        return Followed(_stays(snapshot, request))
    model = isinstance(features, Model)
    by_name = features.version is None if model else isinstance(features, str) and not parse_reference(features).version
    if not by_name or (record.live == version and not model):
        return Followed(stays)
    try:
        newer = resolve(snapshot, features, full_names=full_names)
    except HeadwaterError as bad:
        return Followed(stays, (f"feature service {name!r}: reads stay on {version}: {bad}",))
    cut = _cut(newer, request)
    if cut is None:
        why = (
            f"feature service {name!r}: reads stay on {version}, since the live {record.live} lacks some of its "
            "columns, or has different values for them"
        )
        return Followed(stays, (f"{why}; prepare it again to read {record.live}",))
    return Followed(cut)


def _cut(newer: ResolvedRequest, request: ResolvedRequest) -> ResolvedRequest | None:
    """The columns of a request out of a wider one; None where it lacks some, or needs other keys."""
    if request.functions or newer.functions:
        return newer if _same_answers(newer, request) else None
    have = {column.name: column for column in newer.columns}
    chosen = []
    for column in request.columns:
        found = have.get(column.name)
        if found is None or found.feature.name != column.feature.name:
            return None
        if not _same_values(newer.views[found.view], request.views[column.view], column.feature.name):
            return None
        chosen.append(found)
    used = sorted({column.view for column in chosen})
    views = [
        with_features(newer.views[place], dict.fromkeys(c.feature.name for c in chosen if c.view == place))
        for place in used
    ]
    columns = tuple(replace(c, view=used.index(c.view)) for c in chosen)
    cut = ResolvedRequest(tuple(views), columns, newer.service)
    return cut if dict(cut.join_keys) == dict(request.join_keys) else None


def _same_values(one: ResolvedView, other: ResolvedView, feature: str) -> bool:
    """Whether a feature has the same values in both, for every row of a request: of one view, by the same keys."""
    keys, others = ([(key.name, key.column) for key in view.keys] for view in (one, other))
    same_view = one.name == other.name and keys == others
    return same_view and same_columns(one.definition, other.definition, (feature,))
