"""Advance: the registry snapshot that stages lead to; the registry stores exactly this."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar

from headwater.definitions.entity import Entity
from headwater.definitions.sources import PushSource
from headwater.definitions.view import FeatureView
from headwater.planning.service_reads import has_caught_up, settled
from headwater.planning.snapshot import (
    AnyVersion,
    OnDemandRecord,
    OnDemandVersion,
    RegistrySnapshot,
    ServiceRecord,
    ServiceVersion,
    ViewRecord,
    ViewVersion,
    version_key,
)
from headwater.planning.stages import Action, Kind, Stage

R = TypeVar("R", ViewRecord, OnDemandRecord, ServiceRecord)


def advance(
    snapshot: RegistrySnapshot, stages: Iterable[Stage], *, now: datetime, log_head: int = 0
) -> RegistrySnapshot:
    """The snapshot after stages, one revision later; the same snapshot where there are none.

    Args:
        snapshot: the registry that the stages were planned on.
        stages: in order.
        now: what new and changed versions have as their time (UTC).
        log_head: the offline log's head, which new view versions remember.
    """
    stages = tuple(stages)
    if not stages:
        return snapshot
    revision = snapshot.revision + 1
    entities = dict(snapshot.entities)
    views, services, on_demand = dict(snapshot.views), dict(snapshot.services), dict(snapshot.on_demand)
    # what a new version is made from may be new itself
    after = replace(snapshot, revision=revision, entities=entities, views=views, services=services, on_demand=on_demand)
    for stage in stages:
        match stage.kind:
            case Kind.ENTITY if stage.action is Action.REMOVE:
                entities.pop(stage.name, None)
            case Kind.ENTITY:
                assert isinstance(stage.definition, Entity)
                entities[stage.name] = stage.definition
            case Kind.VIEW:
                record = views.get(stage.name) or ViewRecord(stage.name, {}, None)
                views[stage.name] = _advance_view(after, record, stage, now, log_head)
            case Kind.ON_DEMAND:
                computed = on_demand.get(stage.name) or OnDemandRecord(stage.name, {}, None)
                on_demand[stage.name] = _advance_on_demand(after, computed, stage, now)
            case Kind.SERVICE:
                service = services.get(stage.name) or ServiceRecord(stage.name, {}, None)
                services[stage.name] = _advance_service(service, stage, now, revision)
    views_changed = {stage.name for stage in stages if stage.kind in (Kind.VIEW, Kind.ON_DEMAND)}
    return settled(after, views_changed, {stage.name for stage in stages if stage.kind is not Kind.ENTITY})


def _advance_view(
    snapshot: RegistrySnapshot, record: ViewRecord, stage: Stage, now: datetime, log_head: int
) -> ViewRecord:
    view = stage.definition
    if stage.action is Action.WRITE:
        return replace(record, written=True)
    if view is None:
        return _move(record, stage, now)
    assert isinstance(view, FeatureView) and view.version is not None
    if stage.action in (Action.UPDATE, Action.MOVE):
        version = replace(record.versions[view.version], view=view, updated_at=now)
    else:
        # where versions that services read are left, they have rows, and a new one has none yet
        caught_up = stage.live and not record.active
        version = ViewVersion(
            view, stage.automatic, now, now, revision=snapshot.revision, log_head=log_head, caught_up=caught_up
        )
        version = replace(version, upstream=snapshot.linked(version.selections))
    written = record.written or isinstance(view.source, PushSource)
    return _pointed(replace(record, versions={**record.versions, view.version: version}, written=written), stage)


def _advance_on_demand(
    snapshot: RegistrySnapshot, record: OnDemandRecord, stage: Stage, now: datetime
) -> OnDemandRecord:
    version = stage.definition
    if version is None:
        return _move(record, stage, now)
    assert isinstance(version, OnDemandVersion)
    if stage.action is Action.UPDATE:
        version = replace(record.versions[version.version], view=version.view, updated_at=now)
    else:
        version = replace(version, created_at=now, updated_at=now, revision=snapshot.revision)
        version = replace(version, upstream=snapshot.linked(version.selections))
        version = replace(version, caught_up=stage.live or has_caught_up(snapshot, version))
    return _pointed(replace(record, versions={**record.versions, version.version: version}), stage)


def _advance_service(record: ServiceRecord, stage: Stage, now: datetime, revision: int) -> ServiceRecord:
    version = stage.definition
    if version is None:
        return _move(record, stage, now)
    assert isinstance(version, ServiceVersion)
    if stage.action is Action.UPDATE:
        kept = record.versions[version.version]
        version = replace(
            kept,
            text=version.text,
            owner=version.owner,
            description=version.description,
            tags=version.tags,
            updated_at=now,
        )
    else:
        version = replace(version, created_at=now, updated_at=now, revision=revision)
    return _pointed(replace(record, versions={**record.versions, version.version: version}), stage)


def _pointed(record: R, stage: Stage) -> R:
    """The pointers after a version was added: the first is live at once, an automatic one waits."""
    if stage.live:
        return replace(record, live=stage.version, previous=record.live, waiting=None)
    return replace(record, waiting=stage.version) if stage.waits else record


def _move(record: R, stage: Stage, now: datetime) -> R:
    version = stage.version
    assert version is not None
    match stage.action:
        case Action.AWAIT:
            return replace(record, waiting=None if version == record.live else version)
        case Action.RETIRE:
            record = _changed(record, version, retired_at=now)
            if record.live == version:
                # removed: what is still read stays active, and nothing of it goes live by itself
                return replace(record, live=None, previous=None, waiting=None)
            return replace(
                record,
                previous=None if record.previous == version else record.previous,
                waiting=None if record.waiting == version else record.waiting,
            )
        case Action.CATCH_UP | Action.LOSE_ROWS:
            return _changed(record, version, caught_up=stage.action is Action.CATCH_UP)
        case Action.GO_LIVE | Action.PROMOTE:
            kept_up = isinstance(record, OnDemandRecord) or (isinstance(record, ViewRecord) and record.live)
            more: dict[str, Any] = {"caught_up": True} if kept_up else {}
            record = _changed(record, version, held=False, **more)
            if stage.action is Action.PROMOTE:
                record = _without_newer(record, version)
            previous = record.previous if record.live == version else record.live
            return replace(record, live=version, previous=previous, waiting=None)
        case Action.ROLL_BACK:
            assert record.live is not None
            record = _changed(_changed(record, record.live, held=True), version, held=False)
            # what was applied again while it was the one before waits no longer
            waiting = None if record.waiting == version else record.waiting
            return replace(record, live=version, previous=None, waiting=waiting)
        case _:
            raise AssertionError(stage)


def _without_newer(record: R, version: str) -> R:
    """Hold every version that is newer than the one that is promoted: as if it had been rolled back to."""
    promoted = _age(record.versions[version])
    newer = [v.version for v in record.active if _age(v) > promoted and not v.held]
    for number in newer:
        record = _changed(record, number, held=True)
    return record


def _age(version: AnyVersion) -> tuple[int, tuple[int, ...]]:
    return version.revision, version_key(version.version)


def _changed(record: R, version: str, **changes: Any) -> R:
    versions: Mapping[str, Any] = record.versions
    return replace(record, versions={**versions, version: replace(versions[version], **changes)})
