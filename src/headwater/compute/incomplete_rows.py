"""Written rows that a version of a view cannot take, since they were written before it asked for a further column."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from headwater.compute.reports import column_names
from headwater.errors import HeadwaterError
from headwater.planning.advance import advance
from headwater.planning.plan import Plan
from headwater.planning.resolve import whole_view
from headwater.planning.row_reading import RowVersion
from headwater.planning.service_reads import columns_beyond
from headwater.planning.snapshot import Kind, RegistrySnapshot, ViewRecord, ViewVersion
from headwater.values import Value

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    import pyarrow as pa

    from headwater.offline.log.log import OfflineLog


class IncompleteRows(Value, frozen=True):
    """How many written rows a version leaves out.

    Attributes:
        rows: how many; None: it cannot be said, there may be some.
        total: how many the log has of the view.
        columns: what they lack; empty where their values are of other types alone.
    """

    rows: int | None
    total: int
    columns: tuple[str, ...]

    def __bool__(self) -> bool:
        return self.rows != 0

    def __str__(self) -> str:
        count = "earlier writes may" if self.rows is None else f"{self.rows:,} of {self.total:,} earlier writes do"
        return f"{count} not have {column_names(self.columns)}"


def incomplete_rows(
    stored: Sequence[tuple[pa.Schema | None, int]], record: ViewRecord, version: ViewVersion, live: str | None = None
) -> IncompleteRows:
    """The rows of the log that a version leaves out.

    Args:
        stored: the log's rows of the view, by their columns.
        record: the view.
        version: the version.
        live: count only the rows that this version takes; None: all.
    """
    asks = RowVersion(whole_view(record, version))
    others = None if live is None else RowVersion(whole_view(record, record.versions[live]))
    rows = 0
    columns: dict[str, None] = {}
    for schema, count in stored:
        if schema is None or asks.takes(schema) or (others is not None and not others.takes(schema)):
            continue
        rows += count
        columns |= dict.fromkeys(asks.lacking(schema))
    return IncompleteRows(rows, sum(count for _, count in stored), tuple(columns))


def planned(snapshot: RegistrySnapshot, made: Plan, open_log: Callable[[], OfflineLog], now: datetime) -> Iterator[str]:
    """A line for each version of a plan that leaves out written rows which the live one has, or takes them for open.

    Args:
        snapshot: the registry.
        made: the plan.
        open_log: gives the offline log.
        now: what the plan takes for the time of the change (UTC).
    """
    if not any(s.kind is Kind.VIEW and _written(snapshot, s.name) for s in made.stages):
        return
    after = advance(snapshot, made.stages, now=now)
    for stage in made.stages:
        before = snapshot.views.get(stage.name)
        if stage.kind is not Kind.VIEW or stage.version is None or before is None or not before.written:
            continue
        record, live = after.view(stage.name), before.live
        version = record.versions[stage.version]
        if not (stage.live or stage.waits or stage.bump) or version.retired_at is not None or version.version == live:
            continue
        waits = stage.live or stage.waits
        if live is not None and version.view.source.valid_to not in (None, before.versions[live].view.source.valid_to):
            found = _open_rows(open_log, record, version, version.view.source.valid_to)
            if found:
                yield _planned_open(record.name, version, found, waits=waits)
        if live is not None and not columns_beyond(version, before.versions[live]):
            continue
        found = _found(open_log, record, version, live)
        if found:
            yield _planned(record.name, version, found, waits=waits)


def _written(snapshot: RegistrySnapshot, name: str) -> bool:
    return name in snapshot.views and snapshot.views[name].written


def _found(
    open_log: Callable[[], OfflineLog], record: ViewRecord, version: ViewVersion, live: str | None
) -> IncompleteRows:
    try:
        return incomplete_rows(open_log().rows_by_schema(record.name), record, version, live)
    except HeadwaterError:
        # planning needs no log, and must not fail for one
        columns = () if live is None else columns_beyond(version, record.versions[live])
        return IncompleteRows(None, 0, columns)


def _open_rows(
    open_log: Callable[[], OfflineLog], record: ViewRecord, version: ViewVersion, valid_to: str
) -> IncompleteRows:
    """The rows of the log that a version takes, and that do not say when they end."""
    asks = RowVersion(whole_view(record, version))
    try:
        stored = open_log().rows_by_schema(record.name)
    except HeadwaterError:
        return IncompleteRows(None, 0, (valid_to,))
    taken = ((schema, count) for schema, count in stored if schema is not None and asks.takes(schema))
    rows = sum(count for schema, count in taken if valid_to not in schema.names)
    return IncompleteRows(rows, sum(count for _, count in stored), (valid_to,))


def _planned_open(view: str, version: ViewVersion, found: IncompleteRows, *, waits: bool) -> str:
    again = f"write those rows again with {column_names(found.columns)}{_number_it(view, version, waits=waits)}"
    return f"{view} {version.version}: {found}: in this version they have not ended. To end them, {again}"


def _number_it(view: str, version: ViewVersion, *, waits: bool) -> str:
    """The way to have time for that: a version that waits."""
    number = version.version
    if not (waits and version.automatic):
        return ""
    return f", or set version={number!r} on the view, so that it waits for 'headwater promote {view} {number}'"


def _planned(view: str, version: ViewVersion, found: IncompleteRows, *, waits: bool) -> str:
    lost = "are not events of" if version.view.aggregations else "have no value in"
    return (
        f"{view} {version.version}: {found}: they {lost} this version. Once it is live, {_lost(version)}. "
        f"To keep them, {_again(version, found)}{_number_it(view, version, waits=waits)}"
    )


def _lost(version: ViewVersion) -> str:
    """What a read gives for the rows that are left out."""
    if version.view.aggregations:
        return "its windows do not count them"
    return "keys without another row are NOT_FOUND (the default)"


def _again(version: ViewVersion, found: IncompleteRows) -> str:
    """How the rows come into the version."""
    again = f"write those rows again with {column_names(found.columns)} (NULL is a value"
    if not version.view.aggregations:
        return f"{again})"
    if version.view.source.event_id is None:
        return f"{again}; without an event_id they count twice in the versions that have them)"
    return f"{again}; with the same event_id and created times)"


def gone_live(before: RegistrySnapshot, after: RegistrySnapshot, log: OfflineLog) -> Mapping[tuple[str, str], str]:
    """(view, version) that went live → the line that says which rows of the version before it does not have."""
    lines: dict[tuple[str, str], str] = {}
    for name, record in after.views.items():
        live = before.views[name].live if name in before.views else None
        if record.live in (None, live) or live is None or not record.written:
            continue
        version = record.version()
        found = _found(lambda: log, record, version, live)
        if found:
            lines[name, version.version] = (
                f"{name}@{version.version} is live, and {found}: {_lost(version)}. "
                f"To keep them, {_again(version, found)}, or go back: headwater rollback {name}"
            )
    return lines
