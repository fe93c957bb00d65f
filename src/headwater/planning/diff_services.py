"""Diff of services: which version a service's list is, and what is added, changed and removed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from headwater.definitions.service import FeatureService
from headwater.errors import NotFound, UsageError
from headwater.planning.differences import Difference, service_in_place_difference, service_version_difference
from headwater.planning.draft import Draft, where
from headwater.planning.numbering import base_of, choose
from headwater.planning.pins import pin
from headwater.planning.references import parse_reference
from headwater.planning.resolve import resolve
from headwater.planning.selections import PinnedSelection
from headwater.planning.service_columns import (
    Column,
    as_long_as,
    columns,
    holds,
    is_star,
    runs_of,
    same_service,
    text_of,
)
from headwater.planning.service_reads import columns_by_version, same_columns, takes_the_rows_of, version_read
from headwater.planning.snapshot import AnyViewRecord, AnyViewVersion, RegistrySnapshot, ServiceRecord, ServiceVersion
from headwater.planning.stages import Action, Kind, Stage

Runs = Sequence[tuple[Column, ...]]
"""The registered columns that each item of a list stands for."""


def plan_service(draft: Draft, service: FeatureService) -> None:
    """Compare one service with the registry.

    Raises:
        NotFound, UsageError: what is wrong with its list.
        VersionConflict: a changed list under a version that is registered.
    """
    record = draft.before.services.get(service.name)
    runs = _same_text(draft, record, service)
    wanted = _stored(draft, service, record)
    left_out: tuple[str, ...] = ()
    if wanted is None:
        wanted, left_out = _listed(draft, service, runs, before=_before(record))
    resolve(draft.after, list(wanted.selections), full_names=wanted.full_names)
    _refuse_retired(draft.after, wanted)

    def differ(version: ServiceVersion) -> Difference:
        return service_version_difference(draft.after, version, wanted)

    def same(version: ServiceVersion) -> bool:
        return same_service(draft.after, version, wanted)

    choice = choose(record, service.version, same, differ, where(service))
    automatic = service.version is None
    if choice.found is None:
        definition = replace(wanted, version=choice.version, automatic=automatic)
        details = left_out
        if isinstance(choice.base, ServiceVersion):
            details = (*service_in_place_difference(choice.base, definition).lines, *left_out)
        draft.add_version(Kind.SERVICE, record, choice, definition, automatic=automatic, details=details)
        return
    assert record is not None and isinstance(choice.found, ServiceVersion)
    difference = service_in_place_difference(choice.found, wanted)
    stages = []
    if difference:
        definition = replace(wanted, version=choice.version)
        stages = [
            Stage(
                Action.UPDATE,
                Kind.SERVICE,
                service.name,
                choice.version,
                details=difference.lines,
                definition=definition,
            )
        ]
    note = "; ".join([*left_out, *_other_values(draft, service, choice.found)])
    draft.found(Kind.SERVICE, record, choice.found, stages, automatic=automatic, note=note)


def _same_text(draft: Draft, record: ServiceRecord | None, service: FeatureService) -> Runs | None:
    """What the items stand for in the newest registered version with this list; of one with a number, in that alone."""
    if record is None:
        return None
    versions = record.active if service.version is None else [v for v in record.active if v.version == service.version]
    for version in sorted(versions, key=lambda v: (v.text is None, -v.revision)):
        runs = runs_of(draft.after, service.items, version)
        if runs is not None:
            return runs
    return None


def _before(record: ServiceRecord | None) -> tuple[ServiceVersion, ...]:
    """The versions of a service that a new one follows: the live one, then the one that it is compared with."""
    if record is None:
        return ()
    numbers = [record.live, base_of(record).version]
    return tuple(record.versions[number] for number in dict.fromkeys(numbers) if number is not None)


def _listed(
    draft: Draft, service: FeatureService, runs: Runs | None, *, before: Sequence[ServiceVersion] = ()
) -> tuple[ServiceVersion, tuple[str, ...]]:
    """The service with its list as of this apply, and what its stars leave out.

    A star in a list that was registered as it is written stands for the columns that it had then (`runs`, an item
    each), as far as they are there. Columns that a version `before` has stay of the version of their view that they
    are of there, where a newer one would leave out written rows.
    """
    selections = [pin(draft.after, item, prefer=draft.chosen) for item in service.items]
    left_out, earlier = [], _Before(draft.after, before)
    for number, item in enumerate(service.items):
        if is_star(item) and runs is not None:
            selection = selections[number]
            selections[number] = as_long_as(selection, runs[number])
            new = [name for name in selection.names if name not in selections[number].names]
            if new:
                left_out.append(_left_out(selection, new))
        if not (isinstance(item, str) and parse_reference(item).version):
            selections[number] = earlier.kept(selections[number])
    return _version(draft, service, _of_one_version(draft.after, selections)), tuple(dict.fromkeys(left_out))


class _Before:
    """What the versions of a service that a new one follows were made from."""

    def __init__(self, snapshot: RegistrySnapshot, services: Iterable[ServiceVersion]) -> None:
        self._snapshot = snapshot
        self._made_from: dict[str, dict[str, None]] = {}
        for service in services:
            for view, number in columns_by_version(service):
                self._made_from.setdefault(view, {})[number] = None
        self._fewer: dict[tuple[str, str], list[AnyViewVersion]] = {}

    def kept(self, selection: PinnedSelection) -> PinnedSelection:
        """A selection, of the version of its view that an earlier version of the service was made from.

        Only where that has its columns, and the one that it is of asks of a written row for more: rows without that
        were given to `write`, or will be, and the service goes on serving them.
        """
        pair = (selection.view, selection.version)
        own = self._snapshot.any_view(selection.view).versions[selection.version]
        if pair not in self._fewer:
            versions = self._snapshot.any_view(selection.view).versions
            made_from = [versions[number] for number in self._made_from.get(selection.view, ())]
            self._fewer[pair] = [version for version in made_from if not takes_the_rows_of(own, version)]
        for version in self._fewer[pair]:
            if same_columns(version, own, selection.names):
                return replace(selection, version=version.version)
        return selection


def _of_one_version(snapshot: RegistrySnapshot, selections: list[PinnedSelection]) -> tuple[PinnedSelection, ...]:
    """Selections of several versions of a view as those of one, where that has all of their columns."""
    asked: dict[str, dict[str, dict[str, None]]] = {}
    for s in selections:
        asked.setdefault(s.view, {}).setdefault(s.version, {}).update(dict.fromkeys(s.names))
    chosen = {view: _one_version(snapshot.any_view(view), names) for view, names in asked.items() if len(names) > 1}
    return tuple(replace(s, version=chosen.get(s.view) or s.version) for s in selections)


def _one_version(record: AnyViewRecord, names: Mapping[str, Iterable[str]]) -> str | None:
    """The newest of some versions of a view that has the columns of all of them (version → names)."""
    for version in sorted(names, key=lambda v: -record.versions[v].revision):
        one = record.versions[version]
        if all(same_columns(record.versions[other], one, wanted) for other, wanted in names.items()):
            return version
    return None


def _left_out(selection: PinnedSelection, names: Iterable[str]) -> str:
    listed = ", ".join(names)
    return (
        f"'{selection.view}:*' means the features that it had when this list was first applied: {listed} was added "
        "later and is left out until the list is changed"
    )


def _stored(draft: Draft, service: FeatureService, record: ServiceRecord | None) -> ServiceVersion | None:
    """The service as a registered version has it, where the list as written is that version's.

    Under a version of its own a text reference keeps the version that it was made from; under automatic numbering it
    means the live one, unless that cannot satisfy it.
    """
    if record is None:
        return None
    if service.version is not None:
        candidates = [record.versions[service.version]] if service.version in record.versions else []
    else:
        try:
            _listed(draft, service, None)
        except NotFound:
            candidates = sorted(record.active, key=lambda v: -v.revision)
        else:
            return None
    for version in candidates:
        if holds(draft.after, service, version):
            return _version(draft, service, version.selections)
    return None


def _other_values(draft: Draft, service: FeatureService, found: ServiceVersion) -> list[str]:
    """Why a service with a number of its own keeps columns whose live versions mean something else by now."""
    if service.version is None:
        return []
    try:
        now, _ = _listed(draft, service, runs_of(draft.after, service.items, found))
    except NotFound:
        return []
    changed = [
        f"{new.view} {old.version}"
        for old, new in zip(columns(draft.after, found.selections), columns(draft.after, now.selections), strict=False)
        if old != new and (old.view, old.name) == (new.view, new.name)
    ]
    if not changed:
        return []
    return [
        f"keeps reading {', '.join(dict.fromkeys(changed))}; give it another version= to read what its list means now"
    ]


def _version(draft: Draft, service: FeatureService, selections: tuple[PinnedSelection, ...]) -> ServiceVersion:
    return ServiceVersion(
        service.name,
        service.version or "",
        selections,
        service.version is None,
        draft.now,
        draft.now,
        full_names=service.full_names,
        owner=service.owner,
        description=service.description,
        tags=service.tags,
        text=text_of(service.items),
    )


def _refuse_retired(snapshot: RegistrySnapshot, service: ServiceVersion) -> None:
    for selection in service.selections:
        version = snapshot.any_view(selection.view).version(selection.version)
        if version.retired_at is not None and not _read_elsewhere(snapshot, service, selection):
            raise UsageError(f"'{selection.view}@{selection.version}' is retired: it is no longer updated")


def _read_elsewhere(snapshot: RegistrySnapshot, service: ServiceVersion, selection: PinnedSelection) -> bool:
    """Whether an active version of the view has the columns of a retired one."""
    record = snapshot.any_view(selection.view)
    names = columns_by_version(service)[selection.view, selection.version]
    return record.versions[version_read(record, selection.version, names)].retired_at is None
