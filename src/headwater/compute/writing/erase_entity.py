"""Erase an entity's keys: a purge in every view of it, and what headwater cannot reach by itself."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from headwater.clock import LAST_MICROS, duration_micros, from_micros
from headwater.compute.context import WRITE_TIME, StoreContext
from headwater.compute.reports import DeleteReport, EraseReport
from headwater.compute.writing.delete import delete
from headwater.compute.writing.erase import erase_purged
from headwater.compute.writing.keys import keys_of_versions
from headwater.errors import EntityKeyError, EntityNotFound, nearest
from headwater.planning.snapshot import ViewRecord


def erase_entity(context: StoreContext, entity: str, entities: Any) -> EraseReport:
    """Purge keys in every view that is about an entity alone, and erase what is due.

    Args:
        context: the store's parts and settings.
        entity: its name.
        entities: keys, as `get_online_features` takes them.

    Raises:
        EntityNotFound: no such entity.
        EntityKeyError: keys that lack a join key, are NULL or of another type.
    """
    snapshot = context.registry.refresh()
    if entity not in snapshot.entities:
        raise EntityNotFound(f"no entity {entity!r} is registered{nearest(entity, snapshot.entities)}")
    records = [record for record in snapshot.views.values() if _is_of(record, entity)]
    composite = [record.name for record in snapshot.views.values() if _is_part(record, entity)]
    purged: dict[str, DeleteReport] = {}
    others: list[str] = []
    for record in _taking(records, entities, others):
        purged[record.name] = delete(context, record.name, entities, purge=True)
        others += purged[record.name].left
    blocked: list[str] = []
    erased = sum(erase_purged(context, record, blocked) for record in records)
    pending = [report.pending_until for report in purged.values() if report.pending_until is not None]
    return EraseReport(
        views=purged,
        erased=erased,
        pending=sum(report.deleted for report in purged.values()),
        pending_until=max(pending, default=None),
        notes=(*others, *blocked, *out_of_reach(context), *_composite_note(entity, composite)),
    )


def _taking(records: list[ViewRecord], entities: Any, others: list[str]) -> list[ViewRecord]:
    """The views that take keys as they are given, before anything is purged; the rest is named in `others`."""
    taking: list[ViewRecord] = []
    refused: list[EntityKeyError] = []
    for record in records:
        try:
            keys_of_versions(record, entities, f"erase from {record.name!r}")
        except EntityKeyError as bad:
            refused.append(bad)
        else:
            taking.append(record)
    if refused and not taking:
        raise refused[0]
    others += map(str, refused)
    return taking


def _is_of(record: ViewRecord, entity: str) -> bool:
    return any([e.name for e in version.view.entities] == [entity] for version in record.versions.values())


def _is_part(record: ViewRecord, entity: str) -> bool:
    names = [[e.name for e in version.view.entities] for version in record.versions.values()]
    return any(entity in entities and len(entities) > 1 for entities in names)


def _composite_note(entity: str, views: list[str]) -> list[str]:
    if not views:
        return []
    listed = ", ".join(views)
    return [f"{entity!r} is one of several entities of {listed}: delete those keys with headwater delete VIEW --purge"]


def out_of_reach(context: StoreContext) -> list[str]:
    """What may still hold a purged key afterwards, and is the operator's to erase."""
    yours = "sources, backups, copies of the project's folder and training sets of other hosts are yours to erase"
    notes = [yours, *context.online.not_erased()]
    if context.registry.engine.dialect.name == "postgresql":
        notes.append("PostgreSQL keeps removed rows until VACUUM, and in its write-ahead log and backups")
    return notes


@dataclass(frozen=True)
class PendingPurges:
    """Purges that are not erased yet.

    Attributes:
        count: how many.
        until: from when a run erases the last of them (UTC); None: there are none.
        overdue: how many a run could have erased already.
        overdue_since: from when it could have erased the first of these (UTC); None: there are none.
    """

    count: int = 0
    until: datetime | None = None
    overdue: int = 0
    overdue_since: datetime | None = None


def pending_purges(context: StoreContext, now: int) -> PendingPurges:
    """The purges that are not erased yet at `now` (microseconds)."""
    due = [min(asked + duration_micros(WRITE_TIME), LAST_MICROS) for asked in context.log.pending_purges()]
    overdue = [at for at in due if at < now]
    return PendingPurges(
        len(due),
        from_micros(max(due)) if due else None,
        len(overdue),
        from_micros(min(overdue)) if overdue else None,
    )
