"""Which versions reads may use: live ones, those as far as the live one, and retired ones until their rows go."""

from __future__ import annotations

from headwater.clock import MIN_MICROS, to_micros
from headwater.compute.context import StoreContext
from headwater.errors import (
    ChangeRefused,
)
from headwater.planning.catching_up import RETIRED_ROWS, unreadable, view_behind
from headwater.planning.resolved import ResolvedFunction, ResolvedRequest, ResolvedView
from headwater.planning.snapshot import RegistrySnapshot


def rows_until(request: ResolvedRequest) -> int | None:
    """When the rows of a version that is read may go (microseconds): the first of them that was retired.

    Those of a retired version that the online store has lost have gone already: no run fills it again.
    """
    if any(view.definition.retired_at is not None and not view.definition.caught_up for view in request.views):
        return MIN_MICROS
    parts: tuple[ResolvedView | ResolvedFunction, ...] = (*request.views, *request.functions)
    retired = [part.definition.retired_at for part in parts if part.definition.retired_at is not None]
    return to_micros(min(retired) + RETIRED_ROWS) if retired else None


def lost_rows(
    before: frozenset[tuple[str, str]], old: ResolvedRequest, new: ResolvedRequest
) -> frozenset[tuple[str, str]]:
    """(view, version) of what a service reads and had caught up once, until its rows were lost."""
    had = before | {(view.name, view.version) for view in old.views if view.live or view.definition.caught_up}
    lacks = {(v.name, v.version) for v in new.views if new.service and not (v.live or v.definition.caught_up)}
    return frozenset(had & lacks)


def rows_lost(lost: frozenset[tuple[str, str]]) -> str:
    """What a read is refused with whose rows the online store has lost."""
    names = ", ".join(f"{view} {version}" for view, version in sorted(lost))
    return f"the online store has lost the rows of {names}, which this service reads: run 'headwater materialize'"


def check_active(context: StoreContext, snapshot: RegistrySnapshot, request: ResolvedRequest) -> None:
    """Refuse a version that is retired, or neither live nor materialized as far as the live one.

    For a service a version will do that was as far once.

    Raises:
        ChangeRefused: naming both versions, with what to read instead.
    """
    for function in request.functions:
        if function.definition.retired_at is not None:
            raise ChangeRefused(_retired(snapshot, request, function))
    inactive = [view for view in request.views if not view.live]
    if not inactive:
        return
    for view in inactive:
        if view.definition.retired_at is not None:
            raise ChangeRefused(_retired(snapshot, request, view))
    marks = context.watermarks(snapshot)
    for view in inactive:
        record = snapshot.view(view.name)
        if request.service or request.functions:
            why = unreadable(snapshot, record, view.definition, marks)
        else:
            why = view_behind(record, view.definition, marks)
        if why is not None:
            instead = "'headwater status' says more" if request.service else f"or read '{view.name}:…'"
            raise ChangeRefused(f"feature view {view.name!r}: {why}; run 'headwater materialize', {instead}")


def _retired(snapshot: RegistrySnapshot, request: ResolvedRequest, view: ResolvedView | ResolvedFunction) -> str:
    """Why a retired version cannot be read, and what to read instead."""
    live = snapshot.any_view(view.name).live
    instead = f"read '{view.name}:…', live is {live}" if live else "apply the view again, or read another"
    what = f"feature view {view.name!r}: {view.version}"
    if request.service is not None:
        name, version = request.service
        record = snapshot.service(name)
        what = f"feature service '{name}@{version}' reads '{view.name}@{view.version}', which"
        if record.live not in (None, version):
            instead = f"read {name!r}, live is {record.live}"
        else:
            instead = f"apply {name!r} again"
    return f"{what} is retired and no longer updated: {instead}"
