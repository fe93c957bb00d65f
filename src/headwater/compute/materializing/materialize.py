"""Materialize: what history has and the online store lacks, for every active version, up to now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import date, datetime
from typing import Any

import pyarrow as pa

from headwater.clock import from_micros, instant_of
from headwater.compute.context import StoreContext
from headwater.compute.incomplete_rows import gone_live
from headwater.compute.materializing.mend import mend, on_one_registry
from headwater.compute.materializing.run import Bounds, Run
from headwater.compute.materializing.run_failures import RunFailures
from headwater.compute.materializing.window_run import WindowRun, run_of
from headwater.compute.reports import MaterializeReport, RunReport
from headwater.compute.writing.erase import erase_purged, remove_retired
from headwater.compute.writing.keys import keys_of_versions, shown_keys
from headwater.errors import EntityKeyError, UsageError
from headwater.planning.resolve import whole_view
from headwater.planning.resolved import ResolvedView
from headwater.planning.snapshot import RegistrySnapshot
from headwater.planning.watermark import Watermark

Instant = datetime | date | str


def materialize(
    context: StoreContext,
    views: str | Iterable[str] | None = None,
    *,
    start: Instant | None = None,
    end: Instant | None = None,
    entities: Any = None,
    force: bool = False,
) -> MaterializeReport:
    """Bring the online store up to now.

    Args:
        context: the store's parts and settings.
        views: names of views, or `view@version`; None: all.
        start, end: bounds of known_at, both included; an end in the future is now.
        entities: only these keys.
        force: each selected key becomes what history has now, newer values and all.

    A version that fails is noted, for `status` too, and the others go on and go live; what failed is raised in the end.

    Raises:
        UsageError: force with start or end, or an end before the start.
        LogMismatch: the online store belongs to another offline log.
        Unavailable: the online store, or the registry, cannot be reached; no other run was begun.
        HeadwaterError: what failed; `.report` says what was done all the same.
    """
    bounds = _bounds(context, start, end, entities, force)
    return on_one_registry(context, lambda: _materialize(context, views, bounds, entities))


def _materialize(
    context: StoreContext, views: str | Iterable[str] | None, bounds: Bounds, entities: Any
) -> MaterializeReport:
    snapshot = context.registry.refresh()
    targets = _targets(snapshot, views)
    mended = mend(context, snapshot)
    # keys are looked at for every view before the first run begins
    planned = [run_of(context, target, bounds, _keys(snapshot, target, entities)) for target in targets]
    names = sorted({target.name for target in targets})
    failures = RunFailures(context, bounds.force)
    _roll(context, names, failures)
    runs = _run(planned, failures)
    pending: list[str] = []
    for name in names if not failures.ended else ():
        with failures.beside(name):
            remove_retired(context, snapshot.view(name))
            erased = erase_purged(context, snapshot.view(name), pending)
            if erased:
                runs = [replace(run, erased=erased) if run.view == name else run for run in runs]
    report = MaterializeReport(tuple(runs), (), (*mended.warnings, *pending), failures.problems)
    if not failures.ended:
        report = _go_live(context, report)
    failures.check(report)
    return report


def _roll(context: StoreContext, names: list[str], failures: RunFailures) -> None:
    """Compact the write buffer; where that fails, of each view by itself."""
    with suppress(Exception):
        return context.log.roll(names)
    for name in names:
        with failures.beside(name):
            context.log.roll([name])


def _run(planned: list[Run | WindowRun], failures: RunFailures) -> list[RunReport]:
    """Run them in turn; all versions of a view as far as its first, so that none lags behind the live one."""
    reached: dict[str, Watermark] = {}
    reports = []
    for run in planned:
        if failures.ended:
            break
        reports.append(failures.run(run, reached.get(run.view.name)))
        if run.reached is not None:
            reached.setdefault(run.view.name, run.reached)
    failures.forget(planned, reports)
    return reports


def _bounds(context: StoreContext, start: Instant | None, end: Instant | None, entities: Any, force: bool) -> Bounds:
    if force and (start is not None or end is not None):
        raise UsageError("force cannot be combined with start or end")
    bounds = Bounds(
        None if start is None else instant_of(start, "start"),
        None if end is None else min(instant_of(end, "end"), context.now()),
        force,
    )
    if bounds.start is not None and bounds.start > (context.now() if bounds.end is None else bounds.end):
        last = "now" if bounds.end is None else from_micros(bounds.end).isoformat()
        raise UsageError(f"start {from_micros(bounds.start).isoformat()} is after the end, {last}")
    return bounds


def _targets(snapshot: RegistrySnapshot, views: str | Iterable[str] | None) -> list[ResolvedView]:
    """The versions to feed: of the views named, all that are not retired, or just the one named."""
    if views is not None and not isinstance(views, Iterable):
        raise UsageError(f"views: must be names such as ['weather'], not {views!r}")
    names = list(snapshot.views) if views is None else [views] if isinstance(views, str) else list(views)
    targets: dict[tuple[str, str], ResolvedView] = {}
    for item in names:
        name, at, wanted = str(getattr(item, "name", item)).partition("@")
        record = snapshot.view(name)
        chosen = [record.version(wanted)] if at else list(record.active)
        for version in chosen:
            if version.retired_at is not None:
                raise UsageError(f"{name}@{version.version} is retired and no longer updated; promote a version first")
            targets[name, version.version] = whole_view(record, version)
    return list(targets.values())


def _keys(snapshot: RegistrySnapshot, target: ResolvedView, entities: Any) -> pa.Table | None:
    if entities is None:
        return None
    where = f"materialize {target.name!r}"
    keys = keys_of_versions(snapshot.view(target.name), entities, where)
    for version, names in keys.same:
        if version.version == target.version:
            return keys.of(names)
    raise EntityKeyError(
        f"{where}: version {target.version} has other join keys, {shown_keys(target.definition)}; materialize the "
        f"versions one by one, each by its own keys: '{target.name}@{target.version}'"
    )


def _go_live(context: StoreContext, report: MaterializeReport) -> MaterializeReport:
    """Let versions that are materialized as far as the live ones go live by themselves."""
    before = context.registry.refresh()
    found = context.versions.go_live(context.watermarks(before), now=context.clock())
    after = context.registry.refresh()
    lines = gone_live(before, after, context.log)
    runs = tuple(_gone_live(run, before, after, lines) for run in report.runs)
    rest = [line for pair, line in lines.items() if pair not in {(run.view, run.version) for run in runs}]
    waiting = tuple(f"{kind} {name}: {why}" for (kind, name), why in found.reasons.items())
    return replace(report, runs=runs, waiting=waiting, notes=(*report.notes, *rest))


def _gone_live(
    run: RunReport, before: RegistrySnapshot, after: RegistrySnapshot, lines: Mapping[tuple[str, str], str]
) -> RunReport:
    if not _went_live(run, before, after):
        return run
    line = lines.get((run.view, run.version))
    return replace(run, live=True, warnings=run.warnings if line is None else (*run.warnings, line))


def _went_live(run: RunReport, before: RegistrySnapshot, after: RegistrySnapshot) -> bool:
    return before.view(run.view).live != after.view(run.view).live == run.version
