"""Which version of a view a service version reads: any that has its columns with the same fingerprints will do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from headwater.planning.snapshot import (
    PinnedSelection,
    RegistrySnapshot,
    ServiceRecord,
    ServiceVersion,
    ViewRecord,
    ViewVersion,
)


def same_columns(one: ViewVersion, other: ViewVersion, names: Iterable[str]) -> bool:
    """Whether both versions have these columns, and what makes their values is the same."""
    if one is other:
        return all(name in one.view.features_by_name for name in names)
    mine, theirs = one.column_fingerprints, other.column_fingerprints
    return all(name in mine and mine[name] == theirs.get(name) for name in names)


def takes_the_rows_of(one: ViewVersion, other: ViewVersion) -> bool:
    """Whether a version takes every written row that another one takes.

    A written row that lacks a column of a version is skipped by it: a producer may not know yet that a feature was
    added, and what it wrote before lacks it for ever.
    """
    return not columns_beyond(one, other)


def columns_beyond(one: ViewVersion, other: ViewVersion) -> tuple[str, ...]:
    """The columns of a written row that a version needs and another one does not."""
    given = frozenset(other.view.columns_read)
    return tuple(name for name in one.view.columns_read if name not in given)


def version_read(record: ViewRecord, made_from: str, names: Iterable[str], *, history: bool = False) -> str:
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

    def rank(version: ViewVersion) -> tuple[bool, bool, bool, int]:
        takes = not record.written or takes_the_rows_of(version, wanted)
        filled = version.caught_up and not history
        return takes, filled and version.version == record.live, filled, version.revision

    fit = [version for version in record.active if same_columns(wanted, version, names)]
    return max(fit, key=rank).version if fit else made_from


def columns_by_version(service: ServiceVersion) -> dict[tuple[str, str], list[str]]:
    """(view, version that a service version was made from) → its columns of it."""
    found: dict[tuple[str, str], list[str]] = {}
    for s in service.selections:
        found.setdefault((s.view, s.version), []).extend(s.names)
    return found


Reads = Mapping[tuple[str, str], str]
"""(view, version that a service version was made from) → the version to read for it."""


def reads_of(snapshot: RegistrySnapshot, service: ServiceVersion, *, history: bool = False) -> Reads:
    """What the registry as it is makes a service version read; `history`: also what has not caught up yet."""
    return {
        (view, made_from): version_read(snapshot.view(view), made_from, names, history=history)
        for (view, made_from), names in columns_by_version(service).items()
    }


def settled(snapshot: RegistrySnapshot, views: set[str], services: set[str]) -> RegistrySnapshot:
    """The snapshot with what service versions read worked out: of some services, and of those that read some views."""
    found = dict(snapshot.services)
    for name, record in snapshot.services.items():
        after = _settled(snapshot, record, None if name in services else views)
        if after is not record:
            found[name] = after
    return replace(snapshot, services=found) if found != snapshot.services else snapshot


def _settled(snapshot: RegistrySnapshot, record: ServiceRecord, views: set[str] | None) -> ServiceRecord:
    changed: dict[str, ServiceVersion] = {}
    for service in record.active:
        if views is None or not views.isdisjoint(s.view for s in service.selections):
            reads = reads_of(snapshot, service)
            if reads != service.reads:
                changed[service.version] = replace(service, reads=reads)
    return replace(record, versions={**record.versions, **changed}) if changed else record


def selections_read(service: ServiceVersion, reads: Reads | None = None) -> Iterator[PinnedSelection]:
    """The selections of a service version, each of the version that is read.

    Args:
        service: the service version.
        reads: what to read in place of what the registry says.
    """
    for s in service.selections:
        version = service.version_read(s) if reads is None else reads.get((s.view, s.version), s.version)
        yield s if version == s.version else replace(s, version=version)


def readers(snapshot: RegistrySnapshot) -> dict[tuple[str, str], tuple[str, ...]]:
    """(view, version) → the service versions, not retired, that read it, as `service@1.0.0`."""
    found: dict[tuple[str, str], list[str]] = {}
    for record in snapshot.services.values():
        for service in record.active:
            for read in service.views_read:
                found.setdefault(read, []).append(f"{record.name}@{service.version}")
    return {read: tuple(names) for read, names in found.items()}
