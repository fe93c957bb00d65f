"""Rows: registry snapshots read from the tables, and what changed between two of them written back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa

from headwater.clock import from_micros, to_micros
from headwater.definitions.entity import Entity
from headwater.definitions.serialize import FORMAT, entity_from_dict, entity_to_dict, view_from_dict, view_to_dict
from headwater.errors import FormatError, HeadwaterError, brief, printable
from headwater.planning.numbering import AnyRecord, AnyVersion
from headwater.planning.snapshot import (
    PinnedSelection,
    RegistrySnapshot,
    ServiceRecord,
    ServiceVersion,
    ViewRecord,
    ViewVersion,
    version_key,
)
from headwater.planning.stages import Kind, Stage
from headwater.registry.tables import changes, entities, pointers, revisions, versions

_DAMAGE = (
    *(HeadwaterError, ArithmeticError, AssertionError, AttributeError),
    *(LookupError, TypeError, ValueError, RecursionError),
)
"""What comes of reading a row that is not as it was written."""


def read_revision(connection: sa.Connection) -> int:
    """The newest revision; 0 where nothing was applied yet."""
    return connection.execute(sa.select(sa.func.max(revisions.c.revision))).scalar() or 0


@dataclass(frozen=True)
class Newest:
    """The newest revision: its number, and when it was taken (microseconds), which no other one has.

    A database that was restored and changed again may have the number of another revision.
    """

    revision: int = 0
    at: int = 0


def read_newest(connection: sa.Connection) -> Newest:
    """The newest revision; number 0 where nothing was applied yet."""
    query = sa.select(revisions.c.revision, revisions.c.at).order_by(revisions.c.revision.desc()).limit(1)
    row = connection.execute(query).one_or_none()
    return Newest() if row is None else Newest(row.revision, row.at)


def read_snapshot(connection: sa.Connection, project: str, known: RegistrySnapshot | None = None) -> RegistrySnapshot:
    """Everything that is registered, as one transaction sees it.

    Args:
        connection: in a transaction.
        project: the project's name.
        known: a snapshot of the same database read before, the answer where its revision is still the newest.
    """
    revision = read_revision(connection)
    if known is not None and known.revision == revision:
        return known
    found: dict[str, Entity] = {}
    for row in connection.execute(sa.select(entities).order_by(entities.c.name)):
        with sound(f"entity {brief(row.name)}"):
            found[row.name] = entity_from_dict(json_of(row.definition))
    views: dict[str, dict[str, ViewVersion]] = {}
    services: dict[str, dict[str, ServiceVersion]] = {}
    for row in connection.execute(sa.select(versions)):
        with sound(f"{brief(row.kind)} {brief(row.name)}, version {brief(row.version)}"):
            if Kind(row.kind) is Kind.VIEW:
                views.setdefault(row.name, {})[row.version] = _view_version(row)
            else:
                services.setdefault(row.name, {})[row.version] = _service_version(row)
    view_records: dict[str, ViewRecord] = {}
    service_records: dict[str, ServiceRecord] = {}
    for row in connection.execute(sa.select(pointers).order_by(pointers.c.name)):
        where = (row.live, row.previous, row.waiting)
        with sound(f"the pointer of {brief(row.kind)} {brief(row.name)}"):
            if Kind(row.kind) is Kind.VIEW:
                view_records[row.name] = ViewRecord(row.name, _ordered(views[row.name]), *where)
            else:
                service_records[row.name] = ServiceRecord(row.name, _ordered(services[row.name]), *where)
    return RegistrySnapshot(project, revision, found, view_records, service_records)


@contextmanager
def sound(what: str) -> Iterator[None]:
    """Reading one stored row.

    Raises:
        FormatError: it is damaged, or a newer headwater wrote it.
    """
    try:
        yield
    except FormatError:
        raise
    except _DAMAGE as bad:
        reason = printable(f"{type(bad).__name__}: {bad}"[:200])
        raise FormatError(f"registry: {what} is damaged ({reason}); restore the registry from its backup") from bad


def json_of(text: Any) -> Any:
    """What a stored text says.

    Raises:
        ValueError: it is not JSON.
    """
    try:
        return msgspec.json.decode(text)
    except msgspec.MsgspecError as bad:
        raise ValueError(str(bad)) from bad


def _ordered(found: dict[str, Any]) -> dict[str, Any]:
    return {version: found[version] for version in sorted(found, key=version_key)}


def _view_version(row: sa.Row[Any]) -> ViewVersion:
    view = view_from_dict(json_of(row.definition))
    return ViewVersion(view, log_head=row.log_head, caught_up=bool(row.caught_up), **_common(row))


def _service_version(row: sa.Row[Any]) -> ServiceVersion:
    data = json_of(row.definition)
    if data["format"] > FORMAT:
        raise FormatError(f"feature service {row.name!r} has format {data['format']}; this headwater reads {FORMAT}")
    selections = tuple(
        PinnedSelection(s["view"], s["version"], tuple(s["names"]), s["alias"], s["join_key_map"], s["renames"])
        for s in data["selections"]
    )
    return ServiceVersion(
        row.name,
        row.version,
        selections,
        full_names=data["full_names"],
        owner=data["owner"],
        description=data["description"],
        tags=data["tags"],
        text=None if data.get("text") is None else tuple(data["text"]),
        reads={(view, made_from): read for view, made_from, read in json_of(row.reads or "[]")},
        **_common(row),
    )


def _common(row: sa.Row[Any]) -> dict[str, Any]:
    return {
        "automatic": bool(row.automatic),
        "held": bool(row.held),
        "revision": row.revision,
        "created_at": from_micros(row.created_at),
        "updated_at": from_micros(row.updated_at),
        "retired_at": None if row.retired_at is None else from_micros(row.retired_at),
    }


def write_changes(connection: sa.Connection, before: RegistrySnapshot, after: RegistrySnapshot) -> None:
    """Write what differs between two snapshots, the first of which is what the tables hold."""
    for name in before.entities:
        if name not in after.entities:
            connection.execute(entities.delete().where(entities.c.name == name))
    for name, entity in after.entities.items():
        _write_entity(connection, before.entities.get(name), entity)
    records: tuple[tuple[Kind, Mapping[str, AnyRecord], Mapping[str, AnyRecord]], ...] = (
        (Kind.VIEW, before.views, after.views),
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
    row = {"kind": str(kind), "name": new.name, "live": new.live, "previous": new.previous, "waiting": new.waiting}
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
    data = view_to_dict(version.view) if isinstance(version, ViewVersion) else _service_dict(version)
    return {
        "kind": str(kind),
        "name": name,
        "version": version.version,
        "definition": _json(data),
        "automatic": int(version.automatic),
        "held": int(version.held),
        "log_head": version.log_head if isinstance(version, ViewVersion) else 0,
        "revision": version.revision,
        "created_at": to_micros(version.created_at),
        "updated_at": to_micros(version.updated_at),
        "retired_at": None if version.retired_at is None else to_micros(version.retired_at),
        "caught_up": int(version.caught_up) if isinstance(version, ViewVersion) else None,
        "reads": None if isinstance(version, ViewVersion) else _json([[*made, v] for made, v in version.reads.items()]),
    }


def _service_dict(service: ServiceVersion) -> dict[str, Any]:
    return {
        "format": 1,
        "name": service.name,
        "version": service.version,
        "selections": [
            {
                "view": s.view,
                "version": s.version,
                "names": list(s.names),
                "alias": s.alias,
                "join_key_map": dict(s.join_key_map),
                "renames": dict(s.renames),
            }
            for s in service.selections
        ],
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
