"""What changed between two registry snapshots, written into the tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import sqlalchemy as sa

from headwater.clock import to_micros
from headwater.definitions.entity import Entity
from headwater.definitions.serialize import entity_to_dict, view_to_dict
from headwater.planning.snapshot import (
    AnyRecord,
    AnyVersion,
    OnDemandVersion,
    RegistrySnapshot,
    ServiceVersion,
    ViewRecord,
    ViewVersion,
)
from headwater.planning.stages import Kind, Stage
from headwater.registry.on_demand_rows import on_demand_to_dict
from headwater.registry.selections import selection_to_dict
from headwater.registry.tables import changes, entities, pointers, revisions, versions


def write_changes(connection: sa.Connection, before: RegistrySnapshot, after: RegistrySnapshot) -> None:
    """Write what differs between two snapshots, the first of which is what the tables hold."""
    for name in before.entities:
        if name not in after.entities:
            connection.execute(entities.delete().where(entities.c.name == name))
    for name, entity in after.entities.items():
        _write_entity(connection, before.entities.get(name), entity)
    records: tuple[tuple[Kind, Mapping[str, AnyRecord], Mapping[str, AnyRecord]], ...] = (
        (Kind.VIEW, before.views, after.views),
        (Kind.ON_DEMAND, before.on_demand, after.on_demand),
        (Kind.SERVICE, before.services, after.services),
    )
    for kind, old, new in records:
        for name, record in new.items():
            if old.get(name) is not record:
                _write_record(connection, kind, old.get(name), record)


def _write_entity(connection: sa.Connection, old: Entity | None, new: Entity) -> None:
    if old is new:
        return
    row = {"name": new.name, "definition": _json(entity_to_dict(new))}
    statement = entities.insert() if old is None else entities.update().where(entities.c.name == new.name)
    connection.execute(statement.values(row))


def _write_record(connection: sa.Connection, kind: Kind, old: AnyRecord | None, new: AnyRecord) -> None:
    row = {
        "kind": str(kind),
        "name": new.name,
        "live": new.live,
        "previous": new.previous,
        "waiting": new.waiting,
        "written": int(new.written) if isinstance(new, ViewRecord) else None,
    }
    here = (pointers.c.kind == str(kind)) & (pointers.c.name == new.name)
    connection.execute((pointers.insert() if old is None else pointers.update().where(here)).values(row))
    known: Mapping[str, AnyVersion] = {} if old is None else old.versions
    for version in new.versions.values():
        found = known.get(version.version)
        if found is version:
            continue
        row = _version_row(kind, new.name, version)
        if found is None:
            connection.execute(versions.insert().values(row))
        else:
            same = (versions.c.kind == str(kind)) & (versions.c.name == new.name)
            connection.execute(versions.update().where(same & (versions.c.version == version.version)).values(row))


def _version_row(kind: Kind, name: str, version: AnyVersion) -> dict[str, Any]:
    reads = [[*made, read] for made, read in version.reads.items()]
    return {
        "kind": str(kind),
        "name": name,
        "version": version.version,
        "definition": _json(_definition(version)),
        "automatic": int(version.automatic),
        "held": int(version.held),
        "log_head": version.log_head if isinstance(version, ViewVersion) else 0,
        "revision": version.revision,
        "created_at": to_micros(version.created_at),
        "updated_at": to_micros(version.updated_at),
        "retired_at": None if version.retired_at is None else to_micros(version.retired_at),
        "caught_up": None if isinstance(version, ServiceVersion) else int(version.caught_up),
        "reads": _json(reads) if reads or isinstance(version, ServiceVersion) else None,
    }


def _definition(version: AnyVersion) -> dict[str, Any]:
    if isinstance(version, ViewVersion):
        return view_to_dict(version.view)
    return on_demand_to_dict(version) if isinstance(version, OnDemandVersion) else _service_dict(version)


def _service_dict(service: ServiceVersion) -> dict[str, Any]:
    return {
        "format": 1,
        "name": service.name,
        "version": service.version,
        "selections": [selection_to_dict(selection) for selection in service.selections],
        "full_names": service.full_names,
        "owner": service.owner,
        "description": service.description,
        "tags": dict(service.tags),
        "text": service.text,
    }


def write_revision(
    connection: sa.Connection, revision: int, stages: Iterable[Stage], *, at: int, who: str, what: str
) -> None:
    """Take a revision and note what it changes; only one transaction can take each."""
    connection.execute(revisions.insert().values(revision=revision, at=at, who=who, what=what))
    rows = [
        {
            "revision": revision,
            "place": number,
            "kind": str(stage.kind),
            "name": stage.name,
            "version": stage.version,
            "action": str(stage.action),
            "stage": _json(stage.to_dict()),
        }
        for number, stage in enumerate(stages)
    ]
    connection.execute(changes.insert(), rows)


def _json(data: Any) -> str:
    return msgspec.json.encode(data).decode()
