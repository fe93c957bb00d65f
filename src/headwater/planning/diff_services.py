"""Diff of services: which version a service's list is, and what is added, changed and removed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from headwater.definitions.service import FeatureService
from headwater.errors import NotFound, UsageError
from headwater.planning.differences import Difference, service_in_place_difference, service_version_difference
from headwater.planning.draft import Draft, where
from headwater.planning.numbering import choose
from headwater.planning.pins import pin
from headwater.planning.resolve import resolve
from headwater.planning.service_columns import as_long_as, columns, holds, is_star, same_service, text_of
from headwater.planning.service_reads import columns_by_version, same_columns, version_read
from headwater.planning.snapshot import PinnedSelection, RegistrySnapshot, ServiceRecord, ServiceVersion
from headwater.planning.stages import Action, Kind, Stage


def plan_service(draft: Draft, service: FeatureService) -> None:
    """Compare one service with the registry.

    Raises:
        NotFound, UsageError: what is wrong with its list.
        VersionConflict: a changed list under a version that is registered.
    """
    record = draft.before.services.get(service.name)
    base = _same_text(record, service)
    wanted = _stored(draft, service, record)
    left_out: tuple[str, ...] = ()
    if wanted is None:
        wanted, left_out = _listed(draft, service, base)
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


def _same_text(record: ServiceRecord | None, service: FeatureService) -> ServiceVersion | None:
    """The newest registered version whose list is written as this one is; of one with a number, that one alone."""
    if record is None:
        return None
    versions = record.active if service.version is None else [v for v in record.active if v.version == service.version]
    text = text_of(service.items)
    same = [v for v in versions if v.text in (None, text)]
    return max(same, key=lambda v: (v.text is not None, v.revision), default=None)


def _listed(
    draft: Draft, service: FeatureService, base: ServiceVersion | None
) -> tuple[ServiceVersion, tuple[str, ...]]:
    """The service with its list as of this apply, and what its stars leave out.

    A star in a list that was registered as it is written stands for the columns that it had then, as far as they are
    there.
    """
    selections: list[PinnedSelection] = []
    left_out = []
    stored = () if base is None else columns(draft.after, base.selections)
    for item in service.items:
        selection = pin(draft.after, item, prefer=draft.chosen)
        at = sum(len(s.names) for s in selections)
        if is_star(item) and base is not None:
            short = as_long_as(selection, _run(stored, selection, at))
            new = [name for name in selection.names if name not in short.names]
            if new:
                left_out.append(_left_out(selection, new))
            selection = short
        selections.append(selection)
    return _version(draft, service, tuple(_of_one_version(draft.after, selections))), tuple(left_out)


def _of_one_version(snapshot: RegistrySnapshot, selections: list[PinnedSelection]) -> Iterator[PinnedSelection]:
    """Selections of several versions of a view as those of one, where that has all of their columns."""
    for s in selections:
        record = snapshot.view(s.view)
        same = [other for other in selections if other.view == s.view]
        versions = sorted({other.version for other in same}, key=lambda v: -record.versions[v].revision)
        fit = [
            v
            for v in versions
            if all(same_columns(record.versions[o.version], record.versions[v], o.names) for o in same)
        ]
        yield replace(s, version=fit[0]) if len(versions) > 1 and fit else s


def _run(stored: tuple[Any, ...], selection: PinnedSelection, at: int) -> tuple[Any, ...]:
    """Stored columns from the place of a star on; where others were removed before it, from where its view begins."""
    if at < len(stored) and stored[at].view == selection.view:
        return stored[at:]
    first = next(
        (i for i, c in enumerate(stored) if (c.view, c.alias) == (selection.view, selection.alias)), len(stored)
    )
    return stored[first:]


def _left_out(selection: PinnedSelection, names: Iterable[str]) -> str:
    listed = ", ".join(names)
    return (
        f"all of {selection.view} is what it was when this list was first applied: {listed} came later and stays out "
        "until the list is written differently"
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
        now, _ = _listed(draft, service, found)
    except NotFound:
        return []
    changed = [
        f"{new.view} {old.version}"
        for old, new in zip(columns(draft.after, found.selections), columns(draft.after, now.selections), strict=False)
        if old != new and (old.view, old.name) == (new.view, new.name)
    ]
    if not changed:
        return []
    return [f"goes on reading {', '.join(dict.fromkeys(changed))}; another version= takes what its list means now"]


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
        version = snapshot.view(selection.view).version(selection.version)
        if version.retired_at is not None and not _read_elsewhere(snapshot, service, selection):
            raise UsageError(f"'{selection.view}@{selection.version}' is retired: it is no longer updated")


def _read_elsewhere(snapshot: RegistrySnapshot, service: ServiceVersion, selection: PinnedSelection) -> bool:
    """Whether an active version of the view has the columns of a retired one."""
    record = snapshot.view(selection.view)
    names = columns_by_version(service)[selection.view, selection.version]
    return record.versions[version_read(record, selection.version, names)].retired_at is None
