"""Resolve: references and a registry snapshot become one resolved request, the same for every use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from headwater.deferred import deferred
from headwater.definitions.view import FeatureSelection, FeatureView
from headwater.errors import UsageError, brief, nearest
from headwater.planning.gathered import Gathered
from headwater.planning.key_forms import key_form, other_names
from headwater.planning.pins import is_on_demand, pin
from headwater.planning.references import parse_reference
from headwater.planning.resolved import FULL_NAMES, OutputColumn, ResolvedKey, ResolvedRequest, ResolvedView
from headwater.planning.selections import PinnedSelection
from headwater.planning.service_columns import service_version
from headwater.planning.snapshot import RegistrySnapshot, ViewRecord, ViewVersion
from headwater.types import DType

if TYPE_CHECKING:
    from headwater.planning import resolve_functions, service_reads
else:
    resolve_functions = deferred("headwater.planning.resolve_functions")
    service_reads = deferred("headwater.planning.service_reads")


def resolve(
    snapshot: RegistrySnapshot, features: Any, *, full_names: bool | None = None, history: bool = False
) -> ResolvedRequest:
    """Turn what the user asked for into views, versions, keys, layouts and output columns.

    Args:
        snapshot: the registry at one revision.
        features: a list of references, views and selections; one of them; a service or its name.
        full_names: name columns `view__feature`; None follows the service, else False.
        history: of a service, whether versions that have not caught up may be read, since history can; an object then
            means the newest version of its list.

    Raises:
        NotFound: an unknown name, with the nearest.
        UsageError: two columns of one name, two uses of one alias that differ, keys that differ in type.
    """
    service = service_version(snapshot, features, history=history)
    items: Iterable[Any]
    if service is not None:
        items = service.selections
    elif isinstance(features, (str, FeatureView, FeatureSelection)) or _is_one(features):
        items = (features,)
    elif isinstance(features, Iterable):
        items = tuple(features)
        _check_texts(items)
    else:
        raise UsageError(f"features: must be a list such as ['view:feature'] or a service, not {features!r}")
    draft = Gathered()
    full = service.full_names if full_names is None and service is not None else bool(full_names)
    # a service's labels are those of the versions that it was made from: they stay whichever is read
    pinned = _labelled([pin(snapshot, item) for item in items])
    if service is not None:
        read = service_reads.selections_read(
            service, service_reads.reads_of(snapshot, service, history=True) if history else None
        )
        pinned = [(label, selection) for (label, _), selection in zip(pinned, read, strict=True)]
    if not pinned:
        raise UsageError("no features were requested; give a list such as ['view:feature'] or a service")
    for item, (label, selection) in zip(items, pinned, strict=True):
        _gather(snapshot, draft, label, selection, full, by_name=_by_name(item))
    inner = resolve_functions.inner_parts(snapshot, draft, history=history) if draft.computed else None
    views = tuple(
        ResolvedView(
            label,
            version,
            live,
            _keys(version.view, key_map),
            tuple(draft.features[label].values()),
            _key_names(snapshot.view(version.view.name), version),
        )
        for label, (version, live, key_map) in draft.views.items()
    )
    _check_keys(views)
    places = {label: i for i, label in enumerate(draft.views)}
    asked = None if service is None else (service.name, service.version)
    if inner is not None:
        return inner.request(views, draft.columns, places, asked)
    columns = tuple(
        OutputColumn(name, places[label], feature, by_name) for name, label, feature, by_name in draft.columns
    )
    return ResolvedRequest(views, columns, asked)


def _is_one(features: Any) -> bool:
    """Whether an object is one view: registered, or on-demand."""
    return hasattr(features, "registered") or is_on_demand(features)


def _check_texts(items: tuple[Any, ...]) -> None:
    """Refuse a reference that comes twice, before any is looked up."""
    seen: set[str] = set()
    for item in items:
        if isinstance(item, str):
            if item in seen:
                raise UsageError(f"{brief(item)} is requested twice; remove one, or rename() it")
            seen.add(item)


def _by_name(item: Any) -> bool:
    """Whether an item means the live version of its view, whichever that is."""
    return isinstance(item, str) and parse_reference(item).version is None


def _labelled(selections: list[PinnedSelection]) -> list[tuple[str, PinnedSelection]]:
    """Give each selection its label; two versions of one view in a request carry their versions."""
    versions: dict[str, set[str]] = {}
    for s in selections:
        versions.setdefault(s.alias or s.view, set()).add(s.version)
    return [(s.alias or (f"{s.view}@{s.version}" if len(versions[s.view]) > 1 else s.view), s) for s in selections]


def _gather(
    snapshot: RegistrySnapshot, draft: Gathered, label: str, selection: PinnedSelection, full: bool, *, by_name: bool
) -> None:
    record = snapshot.any_view(selection.view)
    version = record.version(selection.version)
    key_map = dict(selection.join_key_map)
    for name in key_map:
        if name not in version.view.join_keys:
            keys = version.view.join_keys
            raise UsageError(
                f"alias {label!r}: {name!r} is not a join key of view {record.name!r}, "
                f"which has {', '.join(keys)}{nearest(name, keys)}"
            )
    live = version.version == record.live
    if not isinstance(version, ViewVersion):
        known: Any = (*draft.computed.setdefault(label, (version, live)), key_map)
    else:
        known = draft.views.setdefault(label, (version, live, key_map))
    if known[0] is not version or known[2] != key_map:
        raise UsageError(f"{label!r} is requested twice with different views or keys; use a different alias for each")
    for name in selection.names:
        feature = version.view.feature(name)
        if isinstance(version, ViewVersion):
            draft.features.setdefault(label, {})[name] = feature
        prefixed = selection.alias is not None or full
        output = selection.renames.get(name) or (f"{label.replace('@', '__')}__{name}" if prefixed else name)
        _check_name(draft, output, f"{label}:{name}")
        draft.columns.append((output, label, feature, by_name))


def _keys(view: FeatureView, key_map: Mapping[str, str]) -> tuple[ResolvedKey, ...]:
    return tuple(
        ResolvedKey(name, dtype, key_map.get(name, name), view.key_column(name))
        for name, dtype in view.join_keys.items()
    )


def _check_keys(views: tuple[ResolvedView, ...]) -> None:
    seen: dict[str, tuple[DType, str]] = {}
    for view in views:
        for key in view.keys:
            dtype, label = seen.setdefault(key.column, (key.dtype, view.label))
            both_integers = dtype.name.startswith("int") and key.dtype.name.startswith("int")
            if dtype != key.dtype and not both_integers:
                raise UsageError(
                    f"column {key.column!r} is {dtype} for view {label!r} and {key.dtype} for view {view.label!r}"
                )


def _check_name(draft: Gathered, name: str, reference: str) -> None:
    """Refuse a column whose name another one has."""
    before = draft.names.get(name)
    if before is None:
        draft.names[name] = reference
        return
    if before == reference:
        raise UsageError(f"'{reference}' is requested twice; remove one, or rename() it")
    raise UsageError(f"'{before}' and '{reference}' would both be named {name!r}; {FULL_NAMES} or rename() one of them")


def whole_view(record: ViewRecord, version: ViewVersion) -> ResolvedView:
    """A view version with all of its features under its own keys, as writes and runs use it."""
    view = version.view
    live = version.version == record.live
    return ResolvedView(view.name, version, live, _keys(view, {}), view.feature_list, _key_names(record, version))


def _key_names(record: ViewRecord, version: ViewVersion) -> tuple[tuple[str, ...], ...]:
    """What other versions of the view call the join keys of one."""
    return other_names(key_form(version.view), record.key_forms) if len(record.key_forms) > 1 else ()


def with_features(view: ResolvedView, names: Iterable[str]) -> ResolvedView:
    """The same resolved view with other features asked for."""
    return replace(view, features=tuple(view.view.feature(name) for name in names))
