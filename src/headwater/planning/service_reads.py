"""Which version of a view its readers read: any that has their columns with the same fingerprints will do.

Readers are versions of services, of on-demand views, and of views over views.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from headwater.planning.selections import PinnedSelection
from headwater.planning.snapshot import (
    AnyRecord,
    AnyVersion,
    AnyViewRecord,
    AnyViewVersion,
    OnDemandRecord,
    OnDemandVersion,
    RegistrySnapshot,
    ServiceRecord,
    ViewRecord,
)

R = TypeVar("R", ViewRecord, OnDemandRecord, ServiceRecord)


def same_columns(one: AnyViewVersion, other: AnyViewVersion, names: Iterable[str]) -> bool:
    """Whether both versions have these columns, and what makes their values is the same."""
    if one is other:
        return all(name in one.view.features_by_name for name in names)
    mine, theirs = one.column_fingerprints, other.column_fingerprints
    return all(name in mine and mine[name] == theirs.get(name) for name in names)


def takes_the_rows_of(one: AnyViewVersion, other: AnyViewVersion) -> bool:
    """Whether a version takes every written row that another one takes.

    A written row that lacks a column of a version is skipped by it: a producer may not know yet that a feature was
    added, and what it wrote before lacks it for ever.
    """
    return not columns_beyond(one, other)


def columns_beyond(one: AnyViewVersion, other: AnyViewVersion) -> tuple[str, ...]:
    """The columns of a written row that a version needs and another one does not; an on-demand view has no rows."""
    if isinstance(one, OnDemandVersion) or isinstance(other, OnDemandVersion):
        return ()
    given = frozenset(other.view.columns_read)
    return tuple(name for name in one.view.columns_read if name not in given)


def version_read(record: AnyViewRecord, made_from: str, names: Iterable[str], *, history: bool = False) -> str:
    """The version of a view to read for columns of one of its versions: an active one with the same fingerprints.

    Where rows were written, first one that takes all that the version meant takes. Of those the live one, else the
    newest that was live or has caught up; else, since reads of it are refused until it has, the newest.

    Args:
        record: the view.
        made_from: the version whose columns are meant.
        names: the columns.
        history: history needs nothing materialized: the newest will do, live or not, caught up or not.
    """
    names, wanted = tuple(names), record.versions[made_from]

    def rank(version: AnyViewVersion) -> tuple[bool, bool, bool, int]:
        takes = not record.written or takes_the_rows_of(version, wanted)
        filled = version.caught_up and not history
        return takes, filled and version.version == record.live, filled, version.revision

    fit = [version for version in record.active if same_columns(wanted, version, names)]
    return max(fit, key=rank).version if fit else made_from


def columns_by_version(reader: AnyVersion) -> dict[tuple[str, str], list[str]]:
    """(view, version that a reader was made from) → its columns of it."""
    found: dict[tuple[str, str], list[str]] = {}
    for s in reader.selections:
        found.setdefault((s.view, s.version), []).extend(s.names)
    return found


Reads = Mapping[tuple[str, str], str]
"""(view, version that a reader was made from) → the version to read for it."""


def reads_of(snapshot: RegistrySnapshot, reader: AnyVersion, *, history: bool = False) -> Reads:
    """What the registry as it is makes a reader read; `history`: also what has not caught up yet."""
    return {
        (view, made_from): version_read(snapshot.any_view(view), made_from, names, history=history)
        for (view, made_from), names in columns_by_version(reader).items()
    }


def has_caught_up(snapshot: RegistrySnapshot, reader: AnyVersion) -> bool:
    """Whether all that a reader reads was live, or has caught up: so it is itself where it has no rows of its own."""
    return all(
        snapshot.any_view(view).version(version).caught_up for (view, _), version in reads_of(snapshot, reader).items()
    )


def settled(snapshot: RegistrySnapshot, views: set[str], readers: set[str]) -> RegistrySnapshot:
    """The snapshot with what its readers read worked out: of those of some names, and of those that read some views."""

    def worked_out(records: Mapping[str, R]) -> Mapping[str, R]:
        found = {n: _settled(snapshot, record, None if n in readers else views) for n, record in records.items()}
        return found if any(found[n] is not record for n, record in records.items()) else records

    found = {
        "views": worked_out(snapshot.views),
        "on_demand": worked_out(snapshot.on_demand),
        "services": worked_out(snapshot.services),
    }
    unchanged = all(records is getattr(snapshot, kind) for kind, records in found.items())
    return snapshot if unchanged else replace(snapshot, **found)  # type: ignore[arg-type]


def _settled(snapshot: RegistrySnapshot, record: R, views: set[str] | None) -> R:
    changed: dict[str, Any] = {}
    active: Iterable[AnyVersion] = record.active
    for reader in active:
        if reader.selections and (views is None or not views.isdisjoint(s.view for s in reader.selections)):
            reads = reads_of(snapshot, reader)
            if reads != reader.reads:
                changed[reader.version] = replace(reader, reads=reads)
    versions: Mapping[str, Any] = record.versions
    return replace(record, versions={**versions, **changed}) if changed else record


def selections_read(reader: AnyVersion, reads: Reads | None = None) -> Iterator[PinnedSelection]:
    """The selections of a reader, each of the version that is read.

    Args:
        reader: a version of a service, an on-demand view or a view over views.
        reads: what to read in place of what the registry says.
    """
    for s in reader.selections:
        version = reader.version_read(s) if reads is None else reads.get((s.view, s.version), s.version)
        yield s if version == s.version else replace(s, version=version)


def readers(snapshot: RegistrySnapshot) -> dict[tuple[str, str], tuple[str, ...]]:
    """(view, version) → the versions, not retired, that read it, as `service@1.0.0`."""
    found: dict[tuple[str, str], list[str]] = {}
    records: list[AnyRecord] = [*snapshot.services.values(), *snapshot.on_demand.values(), *snapshot.views.values()]
    for record in records:
        for reader in record.active:
            for read in reader.views_read:
                found.setdefault(read, []).append(f"{record.name}@{reader.version}")
    return {read: tuple(names) for read, names in found.items()}


def models_that_take(snapshot: RegistrySnapshot) -> dict[tuple[str, str], tuple[str, ...]]:
    """(service, version) → the models that take it, as `model@1`: of each name the newest two that were logged."""
    found: dict[tuple[str, str], list[str]] = {}
    for name, versions in snapshot.models.items():
        for number in sorted(versions)[-2:]:
            model = versions[number]
            found.setdefault((model.service, model.service_version), []).append(f"{name}@{number}")
    return {taken: tuple(names) for taken, names in found.items()}
