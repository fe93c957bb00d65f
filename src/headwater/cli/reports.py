"""Reports of writes and runs as tables and lines."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from headwater.cli.sheet import Drawable, Line, Sheet
from headwater.clock import format_duration

if TYPE_CHECKING:
    from datetime import datetime

    from headwater.compute.reports import ClockRepairReport, EraseReport, MaterializeReport, WriteReport

_MOST_PROBLEMS = 20
_NOTES = {
    "future": "not known yet: put online when their time comes",
    "null_keys": "left out: a NULL key",
    "null_times": "left out: a NULL time",
    "too_large": "not online: larger than the online store accepts",
    "removed": "removed: not in history",
    "erased": "erased: purged",
}


def materialized(report: MaterializeReport) -> Sequence[Drawable]:
    """A row for each view version, then what was left out and why."""
    if not report.runs:
        return [Line("nothing to materialize: no views are registered ('headwater apply')", "dim")]
    columns = ["view", "version", "rows", "keys", "applied", "superseded", "seconds", "materialized to"]
    rows = [
        (
            run.view,
            run.version,
            run.rows,
            run.keys,
            run.applied,
            run.superseded or None,
            round(run.seconds, 2),
            "failed" if run.error else None if run.watermark is None else run.watermark.replace(microsecond=0),
        )
        for run in report.runs
    ]
    notes = [
        f"{run.view}@{run.version}: {_rows(getattr(run, name))} {words}"
        for run in report.runs
        for name, words in _NOTES.items()
        if getattr(run, name)
    ]
    notes += [f"{run.view}@{run.version}: {run.skipped_rows}" for run in report.runs if run.skipped]
    live = [Line(f"{run.view}: {run.version} is live", "green") for run in report.runs if run.live]
    waiting = [Line(reason, "yellow") for reason in report.waiting]
    return [Sheet.of("", columns, rows), *(Line(n, "dim") for n in notes), *live, *waiting]


def _rows(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"


def written(view: str, report: WriteReport) -> Sequence[Drawable]:
    """One line of counts, then the rows that were not taken."""
    counts = [
        f"{getattr(report, name):,} {name.replace('_', ' ')}"
        for name in ("applied", "superseded", "future", "skipped", "rejected", "too_large")
        if name == "applied" or getattr(report, name)
    ]
    lines: list[Drawable] = [Line(f"{view}: {', '.join(counts)}", "yellow" if report.rejected else "green")]
    if report.future:
        lines.append(Line("future rows are in the log, and go online when their time comes", "dim"))
    for column, rows in report.unread.items():
        lines.append(Line(f"column {column!r} of {_rows(rows)} is not stored: no version reads it", "dim"))
    if not report.durable:
        lines.append(Line("applied, but not as durable as requested", "yellow"))
    lines += [Line(f"  {problem}", "yellow") for problem in report.problems[:_MOST_PROBLEMS]]
    if len(report.problems) > _MOST_PROBLEMS:
        lines.append(Line(f"  … and {len(report.problems) - _MOST_PROBLEMS} more (--json shows all)", "dim"))
    return lines


def when(instant: datetime | None) -> str:
    """An instant as people read it: `2026-06-01 12:10:00 UTC`."""
    return "-" if instant is None else f"{instant:%Y-%m-%d %H:%M:%S} UTC"


def repaired(report: ClockRepairReport) -> Sequence[Drawable]:
    """One line of what was ahead of now."""
    if not (report.ahead or report.rows or report.deletes or report.keys or report.ended):
        return [Line(f"nothing was ahead of {when(report.now)}", "green")]
    counts = f"{report.rows:,} rows and {report.deletes:,} deletes in the log, {report.keys:,} keys online"
    ahead = format_duration(timedelta(seconds=round(report.ahead.total_seconds())))
    lines = [
        Line(f"the offline log's clock was {ahead} ahead of {when(report.now)}; set back: {counts}", "green"),
    ]
    if report.ended:
        lines.append(
            Line(f"{report.ended:,} leases, retries and cool-downs ended too far in the future; they end now", "green")
        )
    return [*lines, *(Line(f"  {name} cannot be read, and was left as it is", "yellow") for name in report.unread)]


def hidden_until(pending_until: datetime | None) -> str:
    """What a purge has done, and what the next run does."""
    return (
        "hidden now: online, and in history from this instant on. Training sets at earlier instants show it until a "
        f"materialize after {when(pending_until)} erases it"
    )


def erased(entity: str, report: EraseReport) -> Sequence[Drawable]:
    """A row for each view, then what is pending and what headwater does not reach."""
    rows = [(view, done.deleted, done.found) for view, done in report.views.items()]
    lines: list[Drawable] = [Sheet.of("", ["view", "keys", "with a row"], rows)] if rows else []
    if not rows:
        lines.append(Line(f"no view is of entity {entity} alone", "yellow"))
    if report.pending:
        lines.append(Line(hidden_until(report.pending_until), "green"))
    if report.erased:
        lines.append(Line(f"{report.erased:,} earlier purges were erased", "green"))
    return [*lines, *(Line(note, "dim") for note in report.notes)]
