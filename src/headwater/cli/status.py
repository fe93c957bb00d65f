"""`headwater status`: how every version stands, and what the stores say."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headwater.cli import later, parse
from headwater.cli.plain import age
from headwater.cli.run import Run, command
from headwater.cli.sheet import Drawable, Fields, Line, Sheet
from headwater.clock import format_duration

if TYPE_CHECKING:
    from headwater.compute.status import RefreshStatus, StoreStatus, VersionStatus


def register(app: typer.Typer) -> None:
    """Add this file's command."""
    command(app)(status)


def status(
    run: Run,
    now: Annotated[
        Any, typer.Option(parser=parse.instant, metavar="TIME", help="Status as of this time.", show_default="now")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Also exit with 1 if a freshness SLA is missed.")] = False,
) -> None:
    """Show how far versions are materialized, and any warnings.

    Exits with 1 if a store cannot be reached or the last run of a version failed.
    """
    with run.store() as store:
        found = store.status(now)
    run.answer(later.status.status_document(found), *_drawn(found))
    run.warn([*found.warnings, *(found.breached if check else ())])
    if found.failures or (check and found.breached):
        raise typer.Exit(1)


def _drawn(found: StoreStatus) -> list[Drawable]:
    title = f"{found.project}: registry revision {found.revision}"
    if not (found.versions or found.on_demand):
        return [Line(title, "bold"), Line("nothing is registered: run 'headwater apply'", "dim"), *_parts(found)]
    rows: list[list[Any]] = [
        [
            version.view,
            version.version,
            version.state,
            "never" if version.watermark is None else version.watermark.replace(microsecond=0),
            None if version.behind is None else age(version.behind),
            version.log_behind or None,
            version.skipped or None,
            None if version.ttl is None else format_duration(version.ttl),
            None if version.freshness_sla is None else _sla(version, found.now),
        ]
        for version in found.versions
    ]
    empty = (None,) * 5
    rows += [[each.view, each.version, each.state, "on demand", *empty] for each in found.on_demand]
    columns = [
        "view",
        "version",
        "state",
        "materialized to",
        "behind",
        "log lag (rows)",
        "without its columns (rows)",
        "ttl",
        "sla",
    ]
    services = [[name, version] for name, version in found.services.items()]
    return [
        Sheet.of(title, columns, rows),
        *([Sheet(["service", "live"], services)] if services else []),
        *_parts(found),
    ]


def _sla(version: VersionStatus, now: datetime) -> str:
    """The SLA, whether the newest row meets it now, and how old that row is."""
    assert version.freshness_sla is not None
    sla = format_duration(version.freshness_sla)
    if version.state == "retired":
        return sla
    verdict = {True: "met", False: "missed", None: "unknown"}[version.fresh]
    if version.newest is None:
        return f"{sla} {verdict}"
    seen = " seen" if version.fresh is None else ""
    return f"{sla} {verdict} (newest{seen} {age(max(timedelta(0), now - version.newest))})"


_IN_TIME = ("clock_ahead", 0.0)


def _parts(found: StoreStatus) -> list[Drawable]:
    """What the registry, the log and the online store say of themselves, a line each."""
    parts = (("registry", found.registry), ("offline log", found.log), ("online", found.online))
    fields = [
        (name, ", ".join(f"{k} {v}" for k, v in said.items() if v != "" and (k, v) != _IN_TIME)) for name, said in parts
    ]
    return [Fields([*fields, *_refresh(found.refresh), *_pending(found)])]


def _pending(found: StoreStatus) -> list[tuple[str, str]]:
    """Purged keys that are not erased yet."""
    if not found.pending_purges or found.pending_until is None:
        return []
    when = f"{found.pending_until:%Y-%m-%d %H:%M:%S} UTC"
    overdue = f"; {found.overdue_purges:,} overdue: run headwater materialize" if found.overdue_purges else ""
    return [("pending purges", f"{found.pending_purges:,}, erased by a materialize or worker after {when}{overdue}")]


def _refresh(found: RefreshStatus) -> list[tuple[str, str]]:
    """The queue of refreshes and how long they take, where there were any."""
    counts = [
        ("pending", found.waiting),
        ("claimed", found.claimed),
        ("cooling down", found.resting),
        ("dead", found.dead),
    ]
    counts += list(found.totals.items())
    parts = [f"{count:,} {name}" for name, count in counts if count]
    if not parts:
        return []
    if found.oldest is not None:
        parts.append(f"oldest {age(found.oldest)}")
    lines = [("refresh queue", f"{found.queue}: {', '.join(parts)}")]
    took = found.time_to_fresh
    if took.p50 is not None and took.p95 is not None:
        lines.append(("time to fresh", f"p50 {age(took.p50)}, p95 {age(took.p95)} of the last {took.count:,}"))
    return lines
