"""Diff: definitions against a registry snapshot become a plan, the list of stages that `apply` runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import pyarrow as pa

from headwater.definitions.entity import Entity
from headwater.definitions.fingerprint import fingerprint
from headwater.definitions.service import FeatureService
from headwater.definitions.source_checks import Read, Schemas
from headwater.definitions.sources import Source
from headwater.definitions.validation import Findings, check
from headwater.definitions.view import FeatureSelection, FeatureView
from headwater.errors import DefinitionError, HeadwaterError, NotFound, SourceError, UsageError, VersionConflict
from headwater.planning.advance import advance
from headwater.planning.differences import (
    Difference,
    entity_difference,
    in_place_difference,
    service_in_place_difference,
    service_version_difference,
    version_difference,
)
from headwater.planning.kept_types import kept_types
from headwater.planning.numbering import AnyRecord, AnyVersion, Choice, choose
from headwater.planning.pins import holds, pin, pinned_by, service_fingerprint
from headwater.planning.plan import Plan, Unchanged
from headwater.planning.pointers import superseded
from headwater.planning.resolve import resolve
from headwater.planning.snapshot import RegistrySnapshot, ServiceRecord, ServiceVersion, ViewVersion
from headwater.planning.stages import Action, Kind, Stage


@dataclass
class _Draft:
    """What a plan gathers; `after` is the snapshot that the stages so far lead to."""

    before: RegistrySnapshot
    after: RegistrySnapshot
    now: datetime
    stages: list[Stage] = field(default_factory=list)
    unchanged: list[Unchanged] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)
    chosen: dict[str, str] = field(default_factory=dict)
    kept: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def add(self, *stages: Stage) -> None:
        self.stages += stages
        self.after = replace(advance(self.after, stages, now=self.now), revision=self.before.revision)


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
    definitions = [_with_kept_types(snapshot, definition, schemas, kept) for definition in definitions]
    out_of_reach: list[str] = []
    if schemas is not None:
        schemas = _forgiving(schemas, _unchanged_sources(snapshot, definitions), out_of_reach)
    findings = check(definitions, schemas, _registered(snapshot, None if not whole_project else definitions))
    draft = _Draft(snapshot, snapshot, now, problems=list(findings.problems), kept=kept)
    _check_names(draft, findings)
    for entity in findings.entities:
        _plan_entity(draft, entity)
    for view in findings.views:
        if (Kind.VIEW, view.name) not in findings.bad:
            _attempt(draft, _plan_view, view)
    for service in findings.services:
        if (Kind.SERVICE, service.name) not in findings.bad and not _uses_bad(findings, service):
            _attempt(draft, _plan_service, service)
    if draft.problems:
        count = len(draft.problems)
        raise DefinitionError(f"{count} problem{'s' if count > 1 else ''} in the definitions:", draft.problems)
    if draft.conflicts:
        raise VersionConflict("\n".join(draft.conflicts))
    if whole_project:
        _plan_removal(draft, findings)
    draft.add(*superseded(draft.after))
    warnings = (*out_of_reach, *findings.notes)
    return Plan(snapshot.project, snapshot.revision, tuple(draft.stages), tuple(draft.unchanged), warnings)


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


def _attempt(draft: _Draft, step: Any, definition: Any) -> None:
    """Plan one definition; what is wrong with it is told with everything else."""
    try:
        step(draft, definition)
    except VersionConflict as conflict:
        draft.conflicts.append(str(conflict))
    except HeadwaterError as bad:
        draft.problems.append(f"{_where(definition)}: {bad}")


def _where(definition: Any) -> str:
    place = f"{definition.place} " if definition.place else ""
    return f"{place}{definition.name}"


def _registered(snapshot: RegistrySnapshot, definitions: list[Any] | None) -> Mapping[str, list[FeatureView]]:
    """The registered versions that text references may mean; of a whole project, only those of its own views."""
    names = None if definitions is None else {d.name for d in definitions if isinstance(d, FeatureView)}
    return {
        name: [version.view for version in record.versions.values()]
        for name, record in snapshot.views.items()
        if names is None or name in names
    }


def _check_names(draft: _Draft, findings: Findings) -> None:
    """A view and a service share one space of names, with what is registered too."""
    for kind, definitions, others in (
        ("service", findings.views, draft.before.services),
        ("view", findings.services, draft.before.views),
    ):
        for definition in definitions:
            record = others.get(definition.name) if isinstance(definition.name, str) else None
            if record is not None:
                draft.problems.append(f"{_where(definition)}: a feature {kind} of this name is registered")


def _uses_bad(findings: Findings, service: FeatureService) -> bool:
    """Whether a service needs a view that is wrong itself, which would be told twice."""
    names = [
        item.partition(":")[0].partition("@")[0] if isinstance(item, str) else _view_name(item)
        for item in service.items
    ]
    return any((Kind.VIEW, name) in findings.bad for name in names)


def _view_name(item: Any) -> Any:
    return item.view.name if isinstance(item, FeatureSelection) else getattr(item, "name", None)


def _plan_entity(draft: _Draft, entity: Entity) -> None:
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


def _plan_view(draft: _Draft, view: FeatureView) -> None:
    record = draft.before.views.get(view.name)

    def differ(version: ViewVersion) -> Difference:
        return version_difference(version.view, view)

    choice = choose(record, view.version, fingerprint(view), differ, f"{_where(view)}")
    draft.chosen[view.name] = choice.version
    if choice.found is None:
        definition = replace(view, version=choice.version)
        base = choice.base
        in_place = in_place_difference(base.view, view).lines if isinstance(base, ViewVersion) else ()
        draft.add(_new_version(Kind.VIEW, view.name, record, choice, definition, view.version is None, in_place))
        return
    assert record is not None and isinstance(choice.found, ViewVersion)
    stages = _waiting(Kind.VIEW, record, choice.found, view.version is None)
    details = (*in_place_difference(choice.found.view, view).lines, *draft.kept.get(view.name, ()))
    if details:
        definition = _in_order(replace(view, version=choice.version), choice.found.view)
        stages.append(
            Stage(Action.UPDATE, Kind.VIEW, view.name, choice.version, details=details, definition=definition)
        )
    _found(draft, Kind.VIEW, record, choice.found, stages)


def _in_order(view: FeatureView, stored: FeatureView) -> FeatureView:
    """The view with its features in the stored order, which `apply` does not change."""
    return replace(view, features=[view.feature(name) for name in stored.feature_names])


def _new_version(
    kind: Kind,
    name: str,
    record: AnyRecord | None,
    choice: Choice,
    definition: FeatureView | ServiceVersion,
    automatic: bool,
    in_place: tuple[str, ...] = (),
    ready: bool = False,
) -> Stage:
    """The stage that adds a version; `ready`: an automatic one needs nothing materialized."""
    first = record is None or record.live is None
    live = first or (automatic and ready)
    return Stage(
        Action.ADD if record is None else Action.CHANGE,
        kind,
        name,
        choice.version,
        details=(*choice.difference.lines, *in_place),
        definition=definition,
        base=None if first or choice.base is None else choice.base.version,
        bump=None if first else choice.difference.bump,
        automatic=automatic,
        live=live,
        waits=automatic and not live,
    )


def _waiting(kind: Kind, record: AnyRecord, found: AnyVersion, automatic: bool) -> list[Stage]:
    """Only what the definitions say now goes live by itself, and no version that was rolled back from."""
    if found.version == record.live:
        wanted = None
    elif not automatic:
        return []
    else:
        wanted = found.version if found.automatic and not found.held else None
    if wanted == record.waiting:
        return []
    version = wanted or record.live
    base = record.live if wanted else record.waiting
    return [Stage(Action.AWAIT, kind, record.name, version, base=base, waits=wanted is not None)]


def _found(draft: _Draft, kind: Kind, record: AnyRecord, found: AnyVersion, stages: list[Stage]) -> None:
    """Take the stages of a registered version, or say that it is unchanged and why it is not live."""
    if stages:
        draft.add(*stages)
        return
    note = ""
    if found.version == record.waiting:
        note = f"goes live once materialized as far as {record.live}"
    elif found.version != record.live:
        note = f"{record.live} is live; run promote to make this one live"
    draft.unchanged.append(Unchanged(kind, record.name, found.version, note))


def _plan_service(draft: _Draft, service: FeatureService) -> None:
    record = draft.before.services.get(service.name)
    stored = _as_stored(draft, service, record)
    wanted = stored or _pinned(draft, service)
    resolve(draft.after, list(wanted.selections), full_names=wanted.full_names)
    _refuse_retired(draft.after, wanted)

    def differ(version: ServiceVersion) -> Difference:
        return service_version_difference(version, wanted)

    choice = choose(record, service.version, wanted.fingerprint, differ, _where(service))
    automatic = service.version is None
    if choice.found is None:
        definition = replace(wanted, version=choice.version, automatic=automatic)
        base = choice.base
        in_place = service_in_place_difference(base, definition).lines if isinstance(base, ServiceVersion) else ()
        ready = all(draft.after.views[s.view].live == s.version for s in wanted.selections)
        draft.add(_new_version(Kind.SERVICE, service.name, record, choice, definition, automatic, in_place, ready))
        return
    assert record is not None and isinstance(choice.found, ServiceVersion)
    stages = _waiting(Kind.SERVICE, record, choice.found, automatic)
    difference = service_in_place_difference(choice.found, wanted)
    if difference:
        definition = replace(wanted, version=choice.version)
        stages.append(
            Stage(
                Action.UPDATE,
                Kind.SERVICE,
                service.name,
                choice.version,
                details=difference.lines,
                definition=definition,
            )
        )
    _found(draft, Kind.SERVICE, record, choice.found, stages)


def _refuse_retired(snapshot: RegistrySnapshot, service: ServiceVersion) -> None:
    for selection in service.selections:
        if snapshot.view(selection.view).version(selection.version).retired_at is not None:
            raise UsageError(f"'{selection.view}@{selection.version}' is retired: it is fed no longer")


def _pinned(draft: _Draft, service: FeatureService) -> ServiceVersion:
    """The service with its list pinned as of this apply."""
    return _service_version(
        draft, service, tuple(pin(draft.after, item, prefer=draft.chosen) for item in service.items)
    )


def _as_stored(draft: _Draft, service: FeatureService, record: ServiceRecord | None) -> ServiceVersion | None:
    """The service as a registered version has it, where the list as written is that version's.

    Under a version of its own a text reference keeps the version that it was pinned to; under automatic numbering it is
    pinned anew, unless the live version cannot satisfy it.
    """
    if record is None:
        return None
    if service.version is not None:
        candidates = [record.versions[service.version]] if service.version in record.versions else []
    else:
        try:
            _pinned(draft, service)
        except NotFound:
            candidates = sorted(record.fed, key=lambda v: -v.revision)
        else:
            return None
    for version in candidates:
        if holds(draft.after, service.items, version):
            return _service_version(draft, service, version.selections)
    return None


def _service_version(draft: _Draft, service: FeatureService, selections: tuple[Any, ...]) -> ServiceVersion:
    return ServiceVersion(
        service.name,
        service.version or "",
        selections,
        service_fingerprint(selections, service.full_names),
        service.version is None,
        draft.now,
        draft.now,
        service.full_names,
        service.owner,
        service.description,
        service.tags,
    )


def _plan_removal(draft: _Draft, findings: Findings) -> None:
    """Retire what the project's files have no longer: services first, then the views that nothing pins any more."""
    for name, service in draft.before.services.items():
        if name not in {s.name for s in findings.services}:
            draft.add(*(_removed(Kind.SERVICE, name, v.version) for v in service.fed))
    pins = pinned_by(draft.after)
    for name, view in draft.before.views.items():
        if name in {v.name for v in findings.views}:
            continue
        for version in view.fed:
            users = pins.get((name, version.version), ())
            if users:
                note = f"no longer in the files, but pinned by {', '.join(users)}"
                draft.unchanged.append(Unchanged(Kind.VIEW, name, version.version, note))
            else:
                draft.add(_removed(Kind.VIEW, name, version.version))
    used = {entity.name for view in draft.after.views.values() for v in view.fed for entity in v.view.entities}
    for name in draft.before.entities:
        if name not in used and name not in {e.name for e in findings.entities}:
            draft.add(Stage(Action.REMOVE, Kind.ENTITY, name))


def _removed(kind: Kind, name: str, version: str) -> Stage:
    return Stage(Action.RETIRE, kind, name, version, details=("no longer in the project's files",))
