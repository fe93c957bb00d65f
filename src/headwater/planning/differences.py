"""Differences of definitions: what makes a new version and which bump it needs, and what is changed in place."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from difflib import unified_diff
from typing import Any

from headwater.clock import MICROSECOND, format_duration
from headwater.definitions.entity import Entity
from headwater.definitions.fingerprint import meaning
from headwater.definitions.query_parts import canonical_sql, laid_out
from headwater.definitions.serialize import entity_to_dict, source_to_dict, view_to_dict
from headwater.definitions.view import FeatureView
from headwater.planning.service_columns import columns
from headwater.planning.service_reads import columns_beyond, reads_of
from headwater.planning.snapshot import AnyViewRecord, RegistrySnapshot, ServiceVersion
from headwater.urls import shown_location

_IN_PLACE = ("owner", "description", "tags", "freshness_sla", "availability_sla")
_FEATURE_IN_PLACE = ("description", "kind", "freshness_sla", "owner", "tags")
_DURATIONS = ("ttl", "delay", "freshness_sla", "window", "hop", "offset")


class Bump(enum.StrEnum):
    """How a version number must rise."""

    PATCH = "patch"
    MINOR = "minor"
    MAJOR = "major"


@dataclass(frozen=True, slots=True)
class Difference:
    """What two definitions differ in.

    Attributes:
        lines: one line for each difference, for people.
        bump: the bump it needs; None where nothing that a version fixes differs.
    """

    lines: tuple[str, ...]
    bump: Bump | None

    def __bool__(self) -> bool:
        return bool(self.lines)


NO_DIFFERENCE = Difference((), None)


def version_difference(old: FeatureView, new: FeatureView) -> Difference:
    """What a version fixes and these two views differ in: major where something is removed or altered, else minor."""
    before, after = meaning(old), meaning(new)
    altered = [
        *_entity_lines(before["entity"], after["entity"]),
        *_value_lines(
            "", {k: before[k] for k in ("ttl", "join_key_map")}, {k: after[k] for k in ("ttl", "join_key_map")}
        ),
        *_value_lines("source.", before["source"], after["source"]),
    ]
    added = []
    features, kept = after["features"], before["features"]
    for name in [*kept, *(name for name in features if name not in kept)]:
        if name not in features:
            altered.append(f"feature {name} removed")
        elif name not in kept:
            added.append(f"feature {name} added ({features[name]['dtype']})")
        else:
            altered += _value_lines(f"feature {name}: ", kept[name], features[name])
    bump = Bump.MAJOR if altered else Bump.MINOR if added else None
    return Difference((*altered, *added), bump)


def in_place_difference(old: FeatureView, new: FeatureView) -> Difference:
    """What `apply` updates under the same version: texts, owners, tags, SLAs, kinds, locations of data."""
    before, after = view_to_dict(old), view_to_dict(new)
    lines = list(_value_lines("", _part(before, _IN_PLACE), _part(after, _IN_PLACE)))
    lines += _location_lines("source", source_to_dict(old.source), source_to_dict(new.source))
    kept = {f["name"]: f for f in before["features"]}
    for name, feature in {f["name"]: f for f in after["features"]}.items():
        if name in kept:
            old_part, new_part = _part(kept[name], _FEATURE_IN_PLACE), _part(feature, _FEATURE_IN_PLACE)
            lines += _value_lines(f"feature {name}: ", old_part, new_part)
    return Difference(tuple(lines), None)


def entity_difference(old: Entity, new: Entity) -> Difference:
    """What two entities of one name differ in; `bump` is major where views of it need a new version."""
    before, after = entity_to_dict(old), entity_to_dict(new)
    lines = list(_value_lines("", _part(before, ("description", "tags")), _part(after, ("description", "tags"))))
    if before["join_keys"] == after["join_keys"]:
        return Difference(tuple(lines), None)
    return Difference((f"join keys: {_keys(before['join_keys'])} → {_keys(after['join_keys'])}", *lines), Bump.MAJOR)


def service_version_difference(snapshot: RegistrySnapshot, old: ServiceVersion, new: ServiceVersion) -> Difference:
    """What two versions of a service differ in: minor where columns are only appended, else major."""
    before, after = columns(snapshot, old.selections), columns(snapshot, new.selections)
    if before == after and old.full_names == new.full_names:
        return NO_DIFFERENCE
    kept, others = {str(c): c for c in before}, {str(c): c for c in after}
    lines, reads = [], _other_versions(snapshot, old, new)
    for name, column in kept.items():
        other = others.get(name, column)
        if other != column:
            versions = reads.get(column.view) or f"{column.view} {other.version} (was {column.version})"
            lines.append(f"{name}: its values may change: the service now reads {versions}")
    lines += [f"{name} removed" for name in kept if name not in others]
    lines += [f"{name} added" for name in others if name not in kept]
    if [name for name in kept if name in others] != [name for name in others if name in kept]:
        lines.append("order of the columns")
    if old.full_names != new.full_names:
        lines.append(f"full_names: {old.full_names} → {new.full_names}")
    named = {column.view for name, column in kept.items() if others.get(name, column) != column}
    lines += [f"{view}: the service now reads {text}" for view, text in reads.items() if view not in named]
    appended = after[: len(before)] == before and old.full_names == new.full_names
    return Difference(tuple(lines), Bump.MINOR if appended else Bump.MAJOR)


def _other_versions(snapshot: RegistrySnapshot, old: ServiceVersion, new: ServiceVersion) -> dict[str, str]:
    """View → the version that the new version of a service reads in place of another: `v 2.0.0 (was 1.0.0)`."""
    before: dict[str, dict[str, None]] = {}
    after: dict[str, dict[str, None]] = {}
    for view, number in old.views_read:
        before.setdefault(view, {})[number] = None
    for (view, _), number in reads_of(snapshot, new).items():
        after.setdefault(view, {})[number] = None
    found = {}
    for view, numbers in after.items():
        if view in before and before[view].keys() != numbers.keys():
            lacking = _lacking(snapshot.any_view(view), before[view], numbers)
            found[view] = f"{view} {', '.join(numbers)} (was {', '.join(before[view])}){lacking}"
    return found


def _lacking(record: AnyViewRecord, before: Iterable[str], after: Iterable[str]) -> str:
    """What a service no longer reads where it goes over to other versions of a view that is written to."""
    if not record.written:
        return ""
    taken = [record.versions[number] for number in before]
    beyond = {c: None for n in after for c in columns_beyond(record.versions[n], taken[0])}
    return f"; rows written without {', '.join(map(repr, beyond))} have no value there" if beyond else ""


def service_in_place_difference(old: ServiceVersion, new: ServiceVersion) -> Difference:
    """What `apply` updates in a service under the same version."""
    names = ("owner", "description", "tags")
    before, after = ({name: _plain(getattr(v, name)) for name in names} for v in (old, new))
    lines = list(_value_lines("", before, after))
    if old.text is None:
        lines.append("the list is kept as it is written, too")
    elif old.text != new.text:
        lines.append("the list of features in the file was edited")
    return Difference(tuple(lines), None)


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value


def _part(data: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: data[name] for name in names if name in data}


def _entity_lines(before: list[Any], after: list[Any]) -> Iterator[str]:
    if before != after:
        old, new = ("; ".join(f"{name} ({_keys(keys)})" for name, keys in side) or "none" for side in (before, after))
        yield f"entity: {old} → {new}"


def _keys(keys: Sequence[Sequence[str]]) -> str:
    return ", ".join(f"{name} {dtype}" for name, dtype in keys) or "none"


def _value_lines(prefix: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    for name in [*before, *(name for name in after if name not in before)]:
        old, new = before.get(name), after.get(name)
        if old != new and name == "query":
            yield from _query_lines(prefix, old, new)
        elif old != new and name == "tables":
            yield from _table_lines(prefix, old or {}, new or {})
        elif old != new:
            yield f"{prefix}{name.replace('_', ' ')}: {_show(name, old)} → {_show(name, new)}"


def _table_lines(prefix: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    for name in [*before, *(name for name in after if name not in before)]:
        old, new = before.get(name), after.get(name)
        if old is None or new is None:
            yield f"{prefix}tables: {name} {'added' if old is None else 'removed'}"
        elif old["kind"] == new["kind"] == "view" and old["view"] == new["view"]:
            yield from _upstream_lines(old["view"], old["features"], new["features"])
        else:
            yield from _value_lines(f"{prefix}tables.{name}.", old, new)


def _upstream_lines(view: str, before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[str]:
    """What a query over a view reads otherwise: features by their fingerprints."""
    for name in [*before, *(name for name in after if name not in before)]:
        if name not in after or name not in before:
            yield f"the query {'reads' if name in after else 'no longer reads'} {view}:{name}"
        elif before[name] != after[name]:
            yield f"{view}:{name}, which the query reads, has changed: its values may change"


def _query_lines(prefix: str, old: str | None, new: str | None) -> Iterator[str]:
    """What a query changed in, line by line, both laid out in the same way."""
    yield f"{prefix}query {'added' if old is None else 'removed' if new is None else 'changed'}:"
    before, after = ([] if query is None else laid_out(query).splitlines() for query in (old, new))
    for number, line in enumerate(unified_diff(before, after, lineterm="", n=1)):
        if number >= 2 and not line.startswith("@@"):
            yield f"    {line}"


def _location_lines(prefix: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """Where the data is, and the wording of a query whose meaning is the same."""
    old, new = before.get("path"), after.get("path")
    if old is not None and new is not None and old != new:
        yield f"{prefix}.path: {shown_location(str(old))} → {shown_location(str(new))}"
    old, new = before.get("query"), after.get("query")
    if old is not None and new is not None and old != new and canonical_sql(old) == canonical_sql(new):
        yield f"{prefix}.query: written differently"
    tables = dict(after.get("tables", ()))
    for name, table in before.get("tables", ()):
        if name in tables:
            yield from _location_lines(f"{prefix}.tables.{name}", table, tables[name])


def _show(name: str, value: Any) -> str:
    if name == "window" and value is None:
        return "lifetime"
    if name in _DURATIONS and isinstance(value, int):
        value = value * MICROSECOND if value else None
    if isinstance(value, timedelta):
        return format_duration(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{k}={v}" for k, v in value.items()) or "none"
    if value is None or value == "":
        return "none"
    return str(value)
