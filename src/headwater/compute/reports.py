"""What writes, deletes and runs say about themselves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from typing import Any

from headwater.html_tables import html_table


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]], notes: Iterable[str] = ()) -> str:
    return html_table(head, ([_shown(value) for value in row] for row in rows), notes=notes)


def _counts(report: Any, names: Iterable[str]) -> str:
    """The counts that are not 0: `2 applied, 1 skipped`."""
    found = ((name, getattr(report, name)) for name in names)
    return ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in found if count)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, datetime):
        return value.isoformat(sep=" ")
    return "-" if value is None else str(value)


@dataclass(frozen=True, repr=False)
class WriteReport:
    """What became of the rows of one write.

    Attributes:
        applied: rows put online in at least one version; with `to="offline"`, rows in the log.
        superseded: rows that a newer value, or a delete, kept out online, in every version that takes them.
        rejected: rows that no version can take (`errors="report"`).
        future: rows not known yet: in the log, put online when their time comes. Of a window version that is not filled
            every row: the next run brings it in.
        skipped: times that a version left out a row, since the row lacks its columns.
        too_large: rows that the online store cannot take in a version: they are in the log, and not online.
        unread: column → how many good rows had it, of columns that no version reads: they are not kept.
        durable: whether the online store keeps what it acknowledged as asked for.
        problems: why rows were rejected, or are too large.
        position: the log position of the last row; 0 where none went to the log.
    """

    applied: int = 0
    superseded: int = 0
    rejected: int = 0
    future: int = 0
    skipped: int = 0
    durable: bool = True
    problems: tuple[str, ...] = ()
    position: int = 0
    too_large: int = 0
    unread: Mapping[str, int] = field(default_factory=dict, hash=False)

    def __repr__(self) -> str:
        counts = _counts(self, ("applied", "superseded", "rejected", "future", "skipped", "too_large"))
        first = f"; {self.problems[0]}" if self.problems else ""
        return f"<WriteReport {counts or 'nothing'}{'' if self.durable else ', not durable'}{first}>"

    def _repr_html_(self) -> str:
        more = ("too_large",) if self.too_large else ()
        names = ("applied", "superseded", "rejected", "future", "skipped", *more, "durable")
        return _table(names, [[getattr(self, name) for name in names]], self.problems[:20])


@dataclass(frozen=True)
class DeleteReport:
    """What a delete did.

    Attributes:
        deleted: how many keys were marked.
        found: for how many of them a row was online.
        through: D, the latest: rows known up to then are hidden.
        position: the log position of the last mark.
        purge: whether the keys are also erased, by a later materialize or worker.
        pending_until: of a purge: a materialize or worker after this instant (UTC) erases what still holds the keys.
        left: versions that are still updated and have other join keys, each with what to type to delete there too.
    """

    deleted: int
    found: int
    through: datetime | None
    position: int
    purge: bool = False
    pending_until: datetime | None = None
    left: tuple[str, ...] = ()

    def _repr_html_(self) -> str:
        names = [field.name for field in fields(self)]
        return _table(names, [[getattr(self, name) for name in names]])


@dataclass(frozen=True)
class EraseReport:
    """What `erase` did: a purge in every view of an entity.

    Attributes:
        views: view → what its delete did; the keys are hidden at once.
        erased: purges, also earlier ones, whose keys were erased by this call.
        pending: keys of all views that a later materialize or worker erases.
        pending_until: from this instant on (UTC); None: nothing is pending.
        notes: what headwater does not reach: backups, replicas' persistence, sources, views with more keys.
    """

    views: Mapping[str, DeleteReport]
    erased: int = 0
    pending: int = 0
    pending_until: datetime | None = None
    notes: tuple[str, ...] = ()

    def _repr_html_(self) -> str:
        names = ("deleted", "found", "through", "pending_until")
        return _table(("view", *names), [[v, *(getattr(r, n) for n in names)] for v, r in self.views.items()])


@dataclass(frozen=True)
class ClockRepairReport:
    """What a repair of the clock changed.

    Attributes:
        now: the instant taken for right (UTC); what was ahead of it follows it, a microsecond apart.
        ahead: how far the offline log's clock was ahead of it.
        rows: rows of the log with another arrival.
        deletes: deletes and purges of the log with another time.
        keys: keys of which the online store had a row, or a delete, that was ahead; over all versions.
        views: the views of which the log had anything ahead.
        ended: leases of runs, and retries and cool-downs of refreshes, that were to last longer than they may.
        unread: files of the log that could not be read, and were left as they are.
    """

    now: datetime
    ahead: timedelta
    rows: int = 0
    deletes: int = 0
    keys: int = 0
    views: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    ended: int = 0

    def _repr_html_(self) -> str:
        names = [field.name for field in fields(self)]
        return _table(names, [[getattr(self, name) for name in names]])


def column_names(columns: Sequence[str]) -> str:
    """As messages name what written rows lack: `the column 'note'`."""
    if not columns:
        return "values of its types"
    return f"the column{'s' if len(columns) > 1 else ''} {', '.join(map(repr, columns))}"


@dataclass(frozen=True, repr=False)
class RunReport:
    """What one run did for one view version.

    Attributes:
        view, version: what was materialized.
        rows: rows that were looked at.
        keys: keys that a row was put for.
        applied: rows put.
        superseded: rows kept out by a newer value or a delete.
        removed: rows taken away, since history has none (`force`).
        future: rows that are not known yet.
        null_keys: rows left out for a NULL key, of those the run was about.
        null_times: rows of the source left out for a NULL event or created time.
        ties: keys of which only the features decided between rows of the source with the same times: another version of
            the view may decide otherwise, an `event_id` on the source settles them.
        skipped: rows of the log that lack the version's columns.
        skipped_columns: which of them they lack.
        too_large: rows that the online store cannot take: named in the warnings, and not online.
        deleted: rows into which a delete was put again.
        erased: rows of purged keys that were erased.
        missing_files: recorded files of the source that are gone, as the source's path names them.
        rewritten_files: recorded files that have fewer rows than they had.
        seconds: how long it took.
        watermark: the end up to which the version is materialized now; None where it has none.
        live: whether the version went live by this run.
        error: why the run failed; empty: it did not. What was put stays, and the next run goes on from there.
        warnings: what looks odd in the data: files that lack a column, that are gone, or that changed while they were
            read.
    """

    view: str
    version: str
    rows: int = 0
    keys: int = 0
    applied: int = 0
    superseded: int = 0
    removed: int = 0
    future: int = 0
    null_keys: int = 0
    null_times: int = 0
    ties: int = 0
    skipped: int = 0
    too_large: int = 0
    deleted: int = 0
    erased: int = 0
    missing_files: tuple[str, ...] = ()
    rewritten_files: tuple[str, ...] = ()
    seconds: float = 0.0
    watermark: datetime | None = None
    live: bool = False
    warnings: tuple[str, ...] = ()
    error: str = ""
    skipped_columns: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<RunReport {self}>"

    def __str__(self) -> str:
        if self.error:
            return f"{self.view}@{self.version}: failed: {self.error}"
        counts = ", ".join(filter(None, (_counts(self, _RUN_COUNTS), *self._files()))) or "nothing new"
        until = "" if self.watermark is None else f", up to {_shown(self.watermark)}"
        return f"{self.view}@{self.version}: {counts}{until}{', now live' if self.live else ''} ({self.seconds:.1f} s)"

    def _files(self) -> list[str]:
        found = ((self.missing_files, "missing"), (self.rewritten_files, "rewritten"))
        return [f"{len(files):,} file{'' if len(files) == 1 else 's'} {what}" for files, what in found if files]

    @property
    def skipped_rows(self) -> str:
        """What is said of the rows of the log that lack the version's columns: how many, and which columns."""
        one = self.skipped == 1
        written = (
            f"{self.skipped:,} written row{' does' if one else 's do'} not have {column_names(self.skipped_columns)}"
        )
        return f"{written}, and {'has' if one else 'have'} no value in this version"

    @property
    def rows_per_second(self) -> float:
        """Rows looked at in a second."""
        return self.rows / self.seconds if self.seconds else 0.0


_RUN_COUNTS = (
    *("rows", "keys", "applied", "superseded", "removed", "future"),
    *("null_keys", "null_times", "skipped", "too_large", "deleted", "erased"),
)
_COLUMNS = ("view", "version", "rows", "keys", "applied", "superseded", "removed", "future", "seconds", "watermark")


@dataclass(frozen=True, repr=False)
class MaterializeReport:
    """What `materialize` did, one `RunReport` a view version.

    Attributes:
        runs: in the order they ran.
        waiting: why a version did not go live by itself, where something stands in its way.
        notes: what was done beside the runs, such as after a restore of the registry.
        problems: what failed beside the runs, such as an erasure: view → why.
    """

    runs: tuple[RunReport, ...] = ()
    waiting: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    problems: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def failed(self) -> tuple[RunReport, ...]:
        """The runs that failed."""
        return tuple(run for run in self.runs if run.error)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Of all runs, and of what was done beside them."""
        return (*self.notes, *(warning for run in self.runs for warning in run.warnings))

    @property
    def rows(self) -> int:
        """Rows looked at, in all."""
        return sum(run.rows for run in self.runs)

    @property
    def applied(self) -> int:
        """Rows put, in all."""
        return sum(run.applied for run in self.runs)

    @property
    def seconds(self) -> float:
        """How long it took, in all."""
        return sum(run.seconds for run in self.runs)

    def __repr__(self) -> str:
        return f"<MaterializeReport {'; '.join([*map(str, self.runs), *self.waiting]) or 'of no view'}>"

    def __getitem__(self, view: str) -> RunReport:
        """The run of a view (`weather`, its newest version that ran) or a version (`weather@1.0.0`)."""
        for run in reversed(self.runs):
            if view in (run.view, f"{run.view}@{run.version}"):
                return run
        raise KeyError(view)

    def _repr_html_(self) -> str:
        return _table(_COLUMNS, [[getattr(run, name) for name in _COLUMNS] for run in self.runs])
