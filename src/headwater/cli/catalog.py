"""The registry's contents as rows and fields, for `list` and `show`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from headwater.cli import later
from headwater.cli.later import windows
from headwater.cli.sheet import Drawable, Fields, Line, Sheet
from headwater.clock import format_duration
from headwater.errors import NotFound, listing, nearest

if TYPE_CHECKING:
    from datetime import datetime

    from headwater.planning.snapshot import (
        AnyRecord,
        AnyVersion,
        AnyViewRecord,
        OnDemandRecord,
        OnDemandVersion,
        RegistrySnapshot,
        ServiceRecord,
        ViewRecord,
        ViewVersion,
    )
    from headwater.registry.feature_definition import FeatureDefinition

Row = dict[str, Any]


def went_live(before: RegistrySnapshot, after: RegistrySnapshot) -> list[dict[str, str]]:
    """Name and version of what is live in one snapshot and was another version before; views first."""
    pairs: list[tuple[Mapping[str, AnyRecord], Mapping[str, AnyRecord]]] = [
        (before.views, after.views),
        (before.on_demand, after.on_demand),
        (before.services, after.services),
    ]
    return [
        {"name": name, "version": record.live}
        for old, new in pairs
        for name, record in new.items()
        if record.live is not None and name in old and old[name].live not in (None, record.live)
    ]


def views(snapshot: RegistrySnapshot) -> list[Row]:
    """A row for each version of each view, oldest first; on-demand views last."""
    own = [_view_row(record, version) for record in snapshot.views.values() for version in record.versions.values()]
    return own + [
        _computed_row(record, version) for record in snapshot.on_demand.values() for version in record.versions.values()
    ]


def _view_row(record: ViewRecord, version: ViewVersion) -> Row:
    view = version.view
    return {
        "name": view.name,
        "version": version.version,
        "state": record.state(version.version),
        "entity": [entity.name for entity in view.entities],
        "features": len(view.feature_list),
        "source": view.source.kind,
        "ttl": view.ttl_time,
        "freshness_sla": view.sla_time,
        "owner": view.owner,
        "description": view.description,
    }


def _computed_row(record: OnDemandRecord, version: OnDemandVersion) -> Row:
    view = version.view
    return {
        "name": view.name,
        "version": version.version,
        "state": record.state(version.version),
        "entity": list(_entities(version)),
        "features": len(view.feature_list),
        "source": "on_demand",
        "ttl": None,
        "freshness_sla": None,
        "owner": view.owner,
        "description": view.description,
    }


def _entities(version: OnDemandVersion) -> dict[str, None]:
    """The names of the entities of what an on-demand view reads."""
    found: dict[str, None] = {}
    for other in version.upstream.values():
        more = _entities(other) if hasattr(other, "inputs") else dict.fromkeys(e.name for e in other.view.entities)
        found |= more
    return found


def features(snapshot: RegistrySnapshot) -> list[Row]:
    """A row for each feature of each live version."""
    records: list[AnyViewRecord] = [*snapshot.views.values(), *snapshot.on_demand.values()]
    return [
        {
            "name": f"{record.name}:{feature.name}",
            "version": record.live,
            "dtype": str(feature.dtype),
            "kind": feature.kind,
            "default": feature.default,
            "owner": feature.owner or version.view.owner,
            "description": feature.description,
        }
        for record in records
        for version in record.versions.values()
        if version.version == record.live
        for feature in version.view.feature_list
    ]


def entities(snapshot: RegistrySnapshot) -> list[Row]:
    """A row for each entity."""
    return [
        {
            "name": entity.name,
            "join_keys": {key: str(dtype) for key, dtype in entity.join_keys.items()},
            "description": entity.description,
        }
        for entity in snapshot.entities.values()
    ]


def services(snapshot: RegistrySnapshot) -> list[Row]:
    """A row for each version of each service."""
    return [
        {
            "name": record.name,
            "version": version.version,
            "state": record.state(version.version),
            "features": sum(len(selection.names) for selection in version.selections),
            "views": [f"{view}@{read}" for view, read in version.views_read],
            "owner": version.owner,
            "description": version.description,
        }
        for record in snapshot.services.values()
        for version in record.versions.values()
    ]


LISTS: dict[str, Callable[[RegistrySnapshot], list[Row]]] = {
    "views": views,
    "features": features,
    "entities": entities,
    "services": services,
}


def sheet(title: str, rows: list[Row]) -> Sheet:
    """Rows of one kind as a table, without the columns that are empty in all of them."""
    columns = list(rows[0])
    return Sheet.of(
        title, [c.replace("_", " ") for c in columns], [[_cell(c, row[c]) for c in columns] for row in rows]
    )


def _cell(column: str, value: Any) -> Any:
    if column in ("ttl", "freshness_sla", "delay"):
        return None if value is None else format_duration(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {inner}" for key, inner in value.items())
    if isinstance(value, list) and all(isinstance(inner, str) for inner in value):
        return ", ".join(value)
    return value


def described_feature(definition: FeatureDefinition) -> tuple[Row, list[Drawable]]:
    """All of one feature, as data and as drawn."""
    row = {field.name: getattr(definition, field.name) for field in dataclasses.fields(definition)}
    row |= {"data_type": str(definition.data_type), "dependencies": list(definition.dependencies)}
    return row, [_fields(row, f"feature {definition.feature_name}")]


def described(snapshot: RegistrySnapshot, name: str, now: datetime) -> tuple[Row, list[Drawable]]:
    """All of one view, service or entity, as data and as drawn.

    Args:
        snapshot: the registry.
        name: its name; `name@1.0.0` for a version, else the live one (the newest where none is live).
        now: the instant at which windows are explained (UTC).

    Raises:
        NotFound: no such name, with the nearest.
    """
    bare, _, version = name.partition("@")
    if bare in snapshot.views:
        return _described_view(snapshot.views[bare], version, now)
    if bare in snapshot.on_demand:
        return _described_computed(snapshot.on_demand[bare], version)
    if bare in snapshot.services:
        return _described_service(snapshot.services[bare], version)
    if bare in snapshot.entities:
        row = next(row for row in entities(snapshot) if row["name"] == bare)
        row["views"] = [
            record.name
            for record in snapshot.views.values()
            if any(e.name == bare for v in record.versions.values() for e in v.view.entities)
        ]
        return row, [_fields(row, f"entity {bare}")]
    known = [*snapshot.views, *snapshot.on_demand, *snapshot.services, *snapshot.entities]
    rest = f"; registered: {listing(known)}" if known else "; nothing is registered: run 'headwater apply'"
    raise NotFound(f"no view, service or entity {bare!r}{nearest(bare, known)}{rest}")


def _described_view(record: ViewRecord, version: str, now: datetime) -> tuple[Row, list[Drawable]]:
    found = record.version(version or record.live or list(record.versions)[-1])
    view, source = found.view, found.view.source
    row = _view_row(record, found) | {
        "join_keys": {key: str(dtype) for key, dtype in view.join_keys.items()},
        "location": source.shown_location,
        "event_time": source.event_time,
        "created_time": source.created_time,
        **({} if source.valid_to is None else {"valid_from": source.valid_from, "valid_to": source.valid_to}),
        "delay": source.delay_time or None,
        "event_id": source.event_id,
        "timezone": getattr(source, "timezone", None),
        "availability_sla": view.availability_sla,
        "tags": dict(view.tags),
        "created_at": found.created_at,
        "updated_at": found.updated_at,
        "retired_at": found.retired_at,
    }
    listed = [
        {
            "name": feature.name,
            "dtype": str(feature.dtype),
            "column": feature.source_column,
            "default": feature.default,
            "freshness_sla": feature.freshness_sla,
            "description": feature.description,
        }
        for feature in view.feature_list
    ]
    shown = listed
    if view.aggregations:
        row |= windows.fields(view)
        listed, shown = windows.features(view, now)
    drawn = _fields(row, f"feature view {view.name}")
    row["features"], row["versions"] = listed, _versions(record)
    return row, [drawn, sheet("features", shown), sheet("versions", row["versions"])]


def _described_computed(record: OnDemandRecord, version: str) -> tuple[Row, list[Drawable]]:
    found = record.version(version or record.live or list(record.versions)[-1])
    view = found.view
    row = _computed_row(record, found) | {
        "mode": view.mode,
        "nulls": view.nulls,
        "errors": view.errors,
        "tags": dict(view.tags),
        "created_at": found.created_at,
        "updated_at": found.updated_at,
        "retired_at": found.retired_at,
    }
    listed = [{"name": f.name, "dtype": str(f.dtype), "description": f.description} for f in view.feature_list]
    references = later.planning_catalog.input_references(found)
    inputs = [
        {"argument": name, "dtype": str(dtype), "input": reference}
        for (name, dtype), reference in zip(found.arguments.items(), references, strict=True)
    ]
    drawn = _fields(row, f"on-demand feature view {view.name}")
    text = "\n".join([*view.imports, *([""] if view.imports else []), view.source.rstrip()])
    row["features"], row["inputs"], row["function"] = listed, inputs, text
    row["versions"] = _versions(record)
    lines = [Line(line, "") for line in text.splitlines()]
    return row, [drawn, sheet("inputs", inputs), sheet("features", listed), *lines, sheet("versions", row["versions"])]


def _described_service(record: ServiceRecord, version: str) -> tuple[Row, list[Drawable]]:
    found = record.version(version or record.live or list(record.versions)[-1])
    row: Row = {
        "name": found.name,
        "version": found.version,
        "state": record.state(found.version),
        "full_names": found.full_names or None,
        "owner": found.owner,
        "description": found.description,
        "tags": dict(found.tags),
        "created_at": found.created_at,
        "updated_at": found.updated_at,
    }
    listed = [
        {
            "feature": f"{s.view}@{found.version_read(s)}:{name}",
            "alias": s.alias,
            "keys": dict(s.join_key_map),
            "renamed": s.renames.get(name),
        }
        for s in found.selections
        for name in s.names
    ]
    drawn = _fields(row, f"feature service {found.name}")
    row["features"], row["versions"] = listed, _versions(record)
    return row, [drawn, sheet("features", listed), sheet("versions", row["versions"])]


def _versions(record: AnyRecord) -> list[Row]:
    versions: list[AnyVersion] = list(record.versions.values())
    return [
        {
            "version": version.version,
            "state": record.state(version.version),
            "numbered": "by apply" if version.automatic else "by its author",
            "created_at": version.created_at,
            "retired_at": version.retired_at,
        }
        for version in versions
    ]


def _fields(row: Row, title: str) -> Fields:
    return Fields([(name.replace("_", " "), _cell(name, value)) for name, value in row.items()], title)
