"""Diff: definitions against a registry snapshot become a plan, the list of stages that `apply` runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar

import pyarrow as pa

from headwater.definitions.aggregation import Aggregation
from headwater.definitions.entity import Entity
from headwater.definitions.fingerprint import fingerprint
from headwater.definitions.on_demand import OnDemandFeatureView
from headwater.definitions.query_checks import query_problems
from headwater.definitions.reading import names_read
from headwater.definitions.service import FeatureService
from headwater.definitions.source import Source
from headwater.definitions.source_checks import Read, Schemas
from headwater.definitions.sources import at_new_location
from headwater.definitions.text_source_checks import text_problems
from headwater.definitions.validation import Findings, check
from headwater.definitions.view import FeatureSelection, FeatureView
from headwater.errors import DefinitionError, SourceError, VersionConflict
from headwater.planning.dependencies import Circle, in_order
from headwater.planning.diff_on_demand import plan_on_demand
from headwater.planning.diff_services import plan_service
from headwater.planning.differences import (
    Difference,
    entity_difference,
    in_place_difference,
    version_difference,
)
from headwater.planning.draft import Draft, where
from headwater.planning.kept_stars import with_kept_stars
from headwater.planning.kept_types import kept_types
from headwater.planning.numbering import choose
from headwater.planning.plan import Plan, Unchanged
from headwater.planning.pointers import computed_in_order, superseded
from headwater.planning.query_pins import columns_of, read_lines, with_pinned_views, with_views_of
from headwater.planning.service_reads import readers
from headwater.planning.snapshot import AnyRecord, AnyViewRecord, RegistrySnapshot, ViewRecord, ViewVersion
from headwater.planning.stages import Action, Kind, Stage
from headwater.planning.window_views import with_known_columns
from headwater.planning.windows.layout import window_layout
from headwater.planning.windows.sizes import EVENTS_A_DAY, row_sizes, shown_bytes, too_large


def plan(
    snapshot: RegistrySnapshot,
    definitions: Iterable[Any],
    schemas: Schemas | None = None,
    *,
    whole_project: bool,
    now: datetime,
) -> Plan:
    """What `apply` would do to bring the registry to these definitions.

    Args:
        snapshot: the registry.
        definitions: entities, views and services.
        schemas: the columns of a source, None where they cannot be known; left out, sources are not looked at.
        whole_project: whether these are all the definitions there are, so that anything else is removed.
        now: UTC; what pure planning takes for the time of the change.

    Raises:
        DefinitionError: everything that is wrong, together.
        VersionConflict: changed definitions under versions that are registered, together.
    """
    kept: dict[str, tuple[str, ...]] = {}
    definitions = with_known_columns(snapshot, definitions, schemas)
    definitions = [with_kept_stars(snapshot, d) if isinstance(d, FeatureView) else d for d in definitions]
    definitions = [_with_kept_types(snapshot, definition, schemas, kept) for definition in definitions]
    out_of_reach: list[str] = []
    if schemas is not None:
        schemas = _forgiving(schemas, _unchanged_sources(snapshot, definitions), out_of_reach)
    findings = check(definitions, schemas, _registered(snapshot, None if not whole_project else definitions))
    for view in findings.views:
        if (Kind.VIEW, view.name) not in findings.bad and _same_meaning(snapshot, view) is None:
            findings.report("view", view, [*text_problems(view), *query_problems(view.source, columns_of(schemas))])
    draft = Draft(snapshot, snapshot, now, problems=list(findings.problems), kept=kept)
    _check_names(draft, findings)
    for entity in findings.entities:
        _plan_entity(draft, entity)
    for view in _readable_order(draft, findings.views, draft.before.views):
        if (Kind.VIEW, view.name) not in findings.bad and not _uses_bad(findings, view):
            draft.attempt(_plan_view, view)
    for computed in _readable_order(draft, findings.on_demand, draft.before.on_demand):
        if (Kind.ON_DEMAND, computed.name) not in findings.bad and not _uses_bad(findings, computed):
            draft.attempt(plan_on_demand, computed)
    for service in findings.services:
        if (Kind.SERVICE, service.name) not in findings.bad and not _uses_bad(findings, service):
            draft.attempt(plan_service, service)
    if draft.problems:
        count = len(draft.problems)
        raise DefinitionError(f"{count} problem{'s' if count > 1 else ''} in the definitions:", draft.problems)
    if draft.conflicts:
        raise VersionConflict("\n".join(draft.conflicts))
    if whole_project:
        _plan_removal(draft, findings)
    draft.add(*superseded(draft.after))
    removals = _removals(snapshot, draft.after)
    warnings = (*out_of_reach, *findings.notes, *_too_large(draft.stages))
    return Plan(snapshot.project, snapshot.revision, tuple(draft.stages), tuple(draft.unchanged), warnings, removals)


V = TypeVar("V", FeatureView, OnDemandFeatureView)


def _readable_order(draft: Draft, views: list[V], records: Mapping[str, AnyViewRecord]) -> list[V]:
    """Views, each after those that it reads; one in a circle of names is a problem."""
    reads: dict[str, Iterable[str]] = {name: _names_registered(record) for name, record in records.items()}
    reads |= {view.name: names_read(view) for view in views if isinstance(view.name, str)}
    by_name: dict[str, list[V]] = {}
    for view in views:
        by_name.setdefault(view.name, []).append(view)
    try:
        return [view for name in in_order(by_name, reads) for view in by_name[name]]
    except Circle as circle:
        bad = next(view for view in views if view.name in circle.path)
        draft.problems.append(f"{where(bad)}: feature views read one another in a circle: {circle}")
        return [view for view in views if view.name not in circle.path and not set(names_read(view)) & set(circle.path)]


def _names_registered(record: AnyViewRecord) -> list[str]:
    """The views that the live version of a registered view reads."""
    version = None if record.live is None else record.versions[record.live]
    return [] if version is None else [s.view for s in version.selections]


def _with_kept_types(
    snapshot: RegistrySnapshot, definition: Any, schemas: Schemas | None, kept: dict[str, tuple[str, ...]]
) -> Any:
    """A view that is registered with the same meaning, with the types that its version reads."""
    registered = None if not isinstance(definition, FeatureView) else _same_meaning(snapshot, definition)
    if registered is None:
        return definition
    view, lines = kept_types(definition, registered[-1].view, schemas)
    if lines:
        kept[view.name] = lines
    return view


def _same_meaning(snapshot: RegistrySnapshot, view: FeatureView) -> list[ViewVersion] | None:
    """The registered versions of a view's meaning; None where there is none."""
    record = snapshot.views.get(view.name) if isinstance(view.name, str) else None
    if record is None:
        return None
    try:
        mark = fingerprint(view)
    except Exception:  # a definition of a form that the checks will tell
        return None
    return [v for v in record.versions.values() if v.fingerprint == mark and view.version in (None, v.version)] or None


def _unchanged_sources(snapshot: RegistrySnapshot, definitions: list[Any]) -> dict[int, str]:
    """The sources, by identity, that only views have that are registered as they are; each with the view's name."""
    views = [d for d in definitions if isinstance(d, FeatureView)]
    changed = {id(view.source) for view in views if not _is_registered(snapshot, view)}
    return {id(view.source): view.name for view in views if id(view.source) not in changed}


def _is_registered(snapshot: RegistrySnapshot, view: FeatureView) -> bool:
    """Whether a version is registered that differs in nothing from a view."""
    versions = _same_meaning(snapshot, view) or []
    return any(not in_place_difference(version.view, view) for version in versions)


def _forgiving(schemas: Schemas, unchanged: Mapping[int, str], warnings: list[str]) -> Schemas:
    """The same columns, but a source of `unchanged` that cannot be read now is a warning."""

    def columns(source: Source) -> pa.Schema | Read | None:
        try:
            return schemas(source)
        except SourceError as bad:
            if id(source) not in unchanged:
                raise
            warnings.append(f"feature view {unchanged[id(source)]} is unchanged, but its source cannot be read: {bad}")
            return None

    return columns


def _registered(snapshot: RegistrySnapshot, definitions: list[Any] | None) -> Mapping[str, list[Any]]:
    """The registered versions that text references may mean; of a whole project, only those of its own views."""
    kinds = (FeatureView, OnDemandFeatureView)
    names = None if definitions is None else {d.name for d in definitions if isinstance(d, kinds)}
    records: list[AnyViewRecord] = [*snapshot.views.values(), *snapshot.on_demand.values()]
    return {
        record.name: [version.view for version in record.versions.values()]
        for record in records
        if names is None or record.name in names
    }


def _check_names(draft: Draft, findings: Findings) -> None:
    """A view and a service share one space of names, with what is registered too."""
    before = draft.before
    records: dict[Kind, Mapping[str, AnyRecord]] = {
        Kind.VIEW: before.views,
        Kind.ON_DEMAND: before.on_demand,
        Kind.SERVICE: before.services,
    }
    given = {Kind.VIEW: findings.views, Kind.ON_DEMAND: findings.on_demand, Kind.SERVICE: findings.services}
    for own, definitions in given.items():
        for definition in definitions:  # type: ignore[attr-defined]
            for kind, others in records.items():
                if kind is not own and isinstance(definition.name, str) and definition.name in others:
                    draft.problems.append(f"{where(definition)}: {_a(kind)} of this name is registered")


def _a(kind: Kind) -> str:
    return f"an {kind.words}" if kind is Kind.ON_DEMAND else f"a {kind.words}"


def _uses_bad(findings: Findings, reader: FeatureService | OnDemandFeatureView | FeatureView) -> bool:
    """Whether a service or a view needs a view that is wrong itself, which would be told twice."""
    if isinstance(reader, FeatureService):
        names: Iterable[Any] = [
            item.partition(":")[0].partition("@")[0] if isinstance(item, str) else _view_name(item)
            for item in reader.items
        ]
    else:
        names = names_read(reader)
    return any((kind, name) in findings.bad for name in names for kind in (Kind.VIEW, Kind.ON_DEMAND))


def _view_name(item: Any) -> Any:
    return item.view.name if isinstance(item, FeatureSelection) else getattr(item, "name", None)


def _plan_entity(draft: Draft, entity: Entity) -> None:
    known = draft.before.entities.get(entity.name)
    if known is None:
        draft.add(Stage(Action.ADD, Kind.ENTITY, entity.name, definition=entity))
        return
    difference = entity_difference(known, entity)
    if difference:
        action = Action.CHANGE if difference.bump else Action.UPDATE
        draft.add(Stage(action, Kind.ENTITY, entity.name, details=difference.lines, definition=entity))
    else:
        draft.unchanged.append(Unchanged(Kind.ENTITY, entity.name))


def _plan_view(draft: Draft, view: FeatureView) -> None:
    record = draft.before.views.get(view.name)
    view = with_pinned_views(draft.after, view)
    mark = fingerprint(view)

    def differ(version: ViewVersion) -> Difference:
        return version_difference(version.view, view)

    def same(version: ViewVersion) -> bool:
        return version.fingerprint == mark

    automatic = view.version is None
    choice = choose(record, view.version, same, differ, where(view))
    draft.chosen[view.name] = choice.version
    if choice.found is None:
        definition, base = replace(view, version=choice.version), choice.base
        in_place = in_place_difference(base.view, view).lines if isinstance(base, ViewVersion) else ()
        details = (*in_place, *_size_line(view), *read_lines(view))
        draft.add_version(Kind.VIEW, record, choice, definition, automatic=automatic, details=details)
        return
    assert record is not None and isinstance(choice.found, ViewVersion)
    details = (*in_place_difference(choice.found.view, view).lines, *draft.kept.get(view.name, ()))
    stages = []
    if details:
        definition = _in_order(replace(view, version=choice.version), choice.found.view)
        definition = with_views_of(definition, choice.found.view)
        stages = [Stage(Action.UPDATE, Kind.VIEW, view.name, choice.version, details=details, definition=definition)]
        stages += _moved_with(record, choice.found, definition)
    draft.found(Kind.VIEW, record, choice.found, stages, automatic=automatic)


def _too_large(stages: Iterable[Stage]) -> Iterator[str]:
    """What cannot fit in a row, of the new versions of window views."""
    for stage in stages:
        view = stage.definition
        if stage.action in (Action.ADD, Action.CHANGE) and isinstance(view, FeatureView) and view.aggregations:
            for name, why in too_large(window_layout(view.aggregations, view.columns)).items():
                yield f"feature view {view.name}: {name} {why}; lower its max_distinct= or n="


def _size_line(view: FeatureView) -> Iterator[str]:
    """How much a new version of a window view keeps of an entity."""
    if view.aggregations:
        layout = window_layout(view.aggregations, view.columns)
        sizes = row_sizes(layout, event_ids=view.source.event_id is not None)
        typical, largest = shown_bytes(sizes.typical), shown_bytes(sizes.largest)
        yield f"bytes per entity: about {typical} at {EVENTS_A_DAY} events a day, at most {largest}"


def _moved_with(record: ViewRecord, found: ViewVersion, moved: FeatureView) -> Iterator[Stage]:
    """The other active versions that read the data where it was, now where it is: services read them, or may again."""
    for version in record.active:
        source = at_new_location(version.view.source, found.view.source, moved.source)
        if version is found or source == version.view.source:
            continue
        view = replace(version.view, source=source)
        details = in_place_difference(version.view, view).lines
        yield Stage(Action.MOVE, Kind.VIEW, record.name, version.version, details=details, definition=view)


def _in_order(view: FeatureView, stored: FeatureView) -> FeatureView:
    """The view with its features in the stored order, which `apply` does not change."""
    if view.aggregations:
        return replace(view, features=[_as_stored(view, made) for made in stored.aggregations])
    return replace(view, features=[view.feature(name) for name in stored.feature_names])


def _as_stored(view: FeatureView, stored: Aggregation) -> Aggregation:
    """An aggregation with the stored text of its condition: rows are laid out by it, however it is written."""
    return replace(view.aggregations_by_name[stored.feature_name], where=stored.where)


def _plan_removal(draft: Draft, findings: Findings) -> None:
    """Retire what the project's files have no longer: services first, then the views that nothing pins any more."""
    for name, service in draft.before.services.items():
        if name not in {s.name for s in findings.services}:
            draft.add(*(_removed(Kind.SERVICE, name, v.version) for v in service.active))
    computed = reversed(computed_in_order(draft.before))
    views: list[tuple[Kind, AnyViewRecord]] = [(Kind.ON_DEMAND, draft.before.on_demand[name]) for name in computed]
    views += [(Kind.VIEW, record) for record in _readers_first(draft.before)]
    there = {v.name for v in findings.views} | {v.name for v in findings.on_demand}
    for kind, view in views:
        if view.name in there:
            continue
        pins = readers(draft.after)
        for version in view.active:
            users = pins.get((view.name, version.version), ())
            if users:
                note = f"no longer in the files, but read by {', '.join(users)}"
                draft.unchanged.append(Unchanged(kind, view.name, version.version, note))
            else:
                draft.add(_removed(kind, view.name, version.version))
    used = {entity.name for view in draft.after.views.values() for v in view.active for entity in v.view.entities}
    for name in draft.before.entities:
        if name not in used and name not in {e.name for e in findings.entities}:
            draft.add(Stage(Action.REMOVE, Kind.ENTITY, name))


def _readers_first(snapshot: RegistrySnapshot) -> list[ViewRecord]:
    """The views, those over other views before these."""
    reads = {name: [s.view for v in record.active for s in v.selections] for name, record in snapshot.views.items()}
    return [snapshot.views[name] for name in reversed(in_order(snapshot.views, reads))]


def _removals(before: RegistrySnapshot, after: RegistrySnapshot) -> tuple[str, ...]:
    """The views and services that had a live version and have none any more."""
    pairs: list[tuple[Mapping[str, AnyRecord], Mapping[str, AnyRecord]]] = [
        (before.views, after.views),
        (before.on_demand, after.on_demand),
        (before.services, after.services),
    ]
    return tuple(
        name for old, new in pairs for name, record in old.items() if record.live is not None and new[name].live is None
    )


def _removed(kind: Kind, name: str, version: str) -> Stage:
    return Stage(Action.RETIRE, kind, name, version, details=("no longer in the project's files",))
