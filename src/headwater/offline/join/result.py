"""HistoryResult: a point-in-time join that runs when it is consumed, and again when it is consumed again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from headwater.clock import from_micros
from headwater.errors import LogDamaged, SourceError, StorageFull, StoreError, UsageError
from headwater.forks import OfOneProcess
from headwater.html_tables import html_table
from headwater.interrupts import leaves_nothing
from headwater.offline.base import HistoryRequest, HistoryRun, SourceEstimate, lost_files
from headwater.offline.result_folder import is_url, local_target
from headwater.planning.data_kinds import is_pandas, is_polars
from headwater.planning.frames import to_pandas, to_polars, with_zones
from headwater.planning.resolved import ResolvedRequest
from headwater.planning.shown import short_form
from headwater.planning.value_checks import left_out, python_values
from headwater.scratch import whole_file
from headwater.urls import shown_location

if TYPE_CHECKING:
    import pandas
    import polars

BATCH = 65_536
_WHOLE = 122_880
"""Rows of a batch where the caller has no say: so many DuckDB gives at once, and batches of these are not copied."""
_SHOWN = 20


class ViewCounts(dict[str, int]):
    """How one view's join went: counts by name and as attributes.

    Spine rows: `matched`, `no_row`, `expired` and `not_known` add up to the spine; `same_instant` counts within
    `matched`, `ties` those that were chosen, and `never_valid` counts within `expired`. Rows of the view: `null_times`,
    and pairs of neighbours: `overlapping`.
    """

    @property
    def matched(self) -> int:
        """Rows with a value (or a NULL that the source gave)."""
        return self["matched"]

    @property
    def no_row(self) -> int:
        """Rows whose key is NULL, unknown or deleted."""
        return self["no_row"]

    @property
    def expired(self) -> int:
        """Rows whose newest known row is older than the ttl, or has ended."""
        return self["expired"]

    @property
    def not_known(self) -> int:
        """Rows whose key has rows that were not known at the time."""
        return self["not_known"]

    @property
    def same_instant(self) -> int:
        """Matched rows whose event time is the spine's own instant."""
        return self["same_instant"]

    @property
    def ties(self) -> int:
        """Matched rows of which only the features decided between rows of the source with the same times.

        Another version of the view may decide otherwise; an `event_id` on the source settles them.
        """
        return self.get("ties", 0)

    @property
    def overlapping(self) -> int:
        """Pairs of neighbouring rows of the spine's keys, where the earlier had not ended when the later began.

        The later is used. Of rows with `valid_to` alone.
        """
        return self.get("overlapping", 0)

    @property
    def never_valid(self) -> int:
        """Expired rows whose newest known row ends before it begins, so that it is never used; with `valid_to`."""
        return self.get("never_valid", 0)

    @property
    def null_times(self) -> int:
        """Rows of the source and the log that are left out for a NULL event or created time."""
        return self["null_times"]

    @property
    def repeated_times(self) -> int:
        """Times of the source in an hour that a clock change repeats: the later of both instants counts."""
        return self.get("repeated_times", 0)

    @property
    def skipped_times(self) -> int:
        """Times of the source in an hour that a clock change skips: the instant of the change counts."""
        return self.get("skipped_times", 0)

    @property
    def unreadable(self) -> int:
        """Rows of the log that are left out since nothing could read their values back."""
        return self.get("unreadable", 0)

    @property
    def total(self) -> int:
        """Rows of the spine."""
        return self.matched + self.no_row + self.expired + self.not_known


@dataclass
class HistoryMetadata:
    """What a join was, and once it was consumed what it found.

    Attributes:
        as_known: whether only what was known at the row's time counted.
        at: the instant of every row (UTC), where one was given.
        versions: view label → version.
        views: view label → counts.
        warnings: what looks wrong, and what to check.
    """

    as_known: bool
    at: datetime | None
    versions: Mapping[str, str]
    views: Mapping[str, ViewCounts] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


class Joins(Protocol):
    """What runs a point-in-time join: an engine, or what computes further columns of what an engine joins."""

    def history(self, request: HistoryRequest) -> HistoryRun:
        """Fix a join; it runs when its batches are asked for."""
        ...

    def estimate(self, request: HistoryRequest, within: tuple[int, int] | None = None) -> Sequence[SourceEstimate]:
        """What the join would read."""
        ...


class HistoryResult(OfOneProcess):
    """A point-in-time join, fixed to the versions and the log position of the call; each use of it runs it.

    The columns are the spine's, unchanged, then the features in the order of the request; a status follows its
    feature, a view's event time behind the view's last feature. Rows are the spine's, in order.

    Whatever runs the join raises `SourceError` where a source cannot be read or has a value that does not fit its
    dtype, `SpineError` where a row of the spine has no usable timestamp or key, `LogDamaged` where a file of the
    offline log is missing or damaged, `StoreError` or its subclasses where the engine fails, `DataError` where the sum
    of a window is beyond 64 bits, and `Cancelled` where `cancel` was called.

    Attributes:
        metadata: what the join was, and once it was consumed what it found.
        resolved: what the features that were asked for mean: versions, columns, functions.
    """

    instead = "send its rows, to_arrow() or to_parquet(path), or ask for it again in the other process"

    def __init__(self, engine: Joins, request: HistoryRequest) -> None:
        self._request, self._engine = request, engine
        self.resolved: ResolvedRequest | None = None
        self._rows: int | None = None
        with self._explained():
            self._run: HistoryRun = engine.history(request)
        versions = {v.view.label: v.view.version for v in request.views}
        self.metadata = HistoryMetadata(
            request.as_known, None if request.at is None else from_micros(request.at), versions
        )

    @property
    def schema(self) -> pa.Schema:
        """Names and Arrow types of the columns, known without a run."""
        return self._run.schema

    # for those who keep it

    @property
    def request(self) -> HistoryRequest:
        """What was asked for: the spine, the views with their data, the columns."""
        return self._request

    @property
    def spine_columns(self) -> Sequence[str]:
        """The names of the spine's columns, which come first."""
        return self._run.spine_columns

    @property
    def timestamp_column(self) -> str | None:
        """The spine's column of instants; None: all rows have one instant."""
        return self._run.timestamp_column

    @property
    def known_rows(self) -> int | None:
        """How many rows there are; None where only a run can tell."""
        return self._run.known_rows

    def row_numbers(self) -> pa.Array:
        """Which rows of the spine these are: with `bucket=…` those of the bucket, else all of them.

        Returns:
            Their positions in the spine, int64, ascending, in the order of the result's rows; the first row is 0.

        Raises:
            UsageError: the spine is neither a table nor a file, or there is none.
        """
        return self._run.row_numbers()

    def to_batches(self, rows: int = BATCH) -> Iterator[pa.RecordBatch]:
        """The rows in bounded memory.

        Args:
            rows: of a batch; the last one has fewer.

        Returns:
            Arrow batches; timestamps in microseconds, UTC. The join runs when the first is taken.

        Raises:
            UsageError: fewer than one row; for what the join raises see the class.
        """
        if rows < 1:
            raise UsageError(f"rows={rows}: a batch has at least one row")
        return self._batches(rows)

    def _batches(self, rows: int) -> Iterator[pa.RecordBatch]:
        count = 0
        with self._explained(), closing(self._run.batches(rows)) as batches:  # type: ignore[type-var]
            for batch in batches:
                count += batch.num_rows
                yield batch
        self._rows = count
        self._note()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Where reading fails, look whether a file of the offline log is at fault.

        Raises:
            LogDamaged: it is.
        """
        try:
            yield
        except (SourceError, StoreError) as bad:
            for view in self._request.views:
                why = view.log.examine() if view.log is not None and view.log.examine is not None else None
                if why is not None:
                    raise LogDamaged(why) from bad
            raise

    def _note(self) -> None:
        self.metadata.views = {label: ViewCounts(found) for label, found in self._run.counts().items()}
        spine = _clock_changes(*self._run.clock_changes(), "spine", "earlier")
        self.metadata.warnings = (*spine, *_warnings(self._request, self.metadata.views))

    @leaves_nothing
    def __len__(self) -> int:
        """The number of rows: the spine's; without a spine the join is run once to count the entities."""
        if self._rows is None:
            known = self._run.known_rows
            self._rows = sum(batch.num_rows for batch in self.to_batches()) if known is None else known
        return self._rows

    def __bool__(self) -> bool:
        return True  # that it is there at all is asked without a run

    @leaves_nothing
    def head(self, rows: int = 5) -> pa.Table:
        """The first rows; the join is run for all of them.

        Args:
            rows: how many, 0 or more.

        Returns:
            An Arrow table, which has `to_pylist` and `to_pandas`.

        Raises:
            UsageError: not a number of rows; for what the join raises see the class.
        """
        if isinstance(rows, bool) or not isinstance(rows, int) or rows < 0:
            raise UsageError(f"head({rows!r}): give a number of rows, 0 or more")
        with self._explained(), closing(self._run.batches(max(rows, 1))) as batches:  # type: ignore[type-var]
            first = next(batches, None)
        return pa.Table.from_batches([] if first is None or not rows else [first], self._run.schema)

    @leaves_nothing
    def to_pylist(self) -> list[dict[str, Any]]:
        """The rows as Python values.

        Returns:
            A dict a row, by column; timestamps are aware, in UTC, NULL is None.

        Raises:
            SourceError, SpineError, LogDamaged, StoreError: see the class.
        """
        table = with_zones(self.to_arrow())
        columns = [python_values(column) for column in table.columns]
        return [dict(zip(table.column_names, row, strict=True)) for row in zip(*columns, strict=True)]

    @leaves_nothing
    def to_arrow(self) -> pa.Table:
        """The rows as an Arrow table.

        Returns:
            The whole answer, held in memory; timestamps in microseconds, UTC.

        Raises:
            SourceError, SpineError, LogDamaged, StoreError: see the class.
        """
        return pa.Table.from_batches(self.to_batches(_WHOLE), self._run.schema)

    def to_pandas(self, types: str = "nullable") -> pandas.DataFrame:
        """The rows as a pandas frame; the columns and the index of a pandas spine are its own.

        Args:
            types: "nullable": Int64, boolean, string, floats as NumPy floats; "numpy": NumPy's own, NULL as NaN or
                None; "arrow": Arrow's.

        Returns:
            A frame; of a pandas spine with its index.

        Raises:
            MissingExtra: pandas is not installed.
            UsageError: another `types`; for what the join raises see the class.
        """
        given = self._request.spine
        if not is_pandas(given):
            return to_pandas(self.to_arrow(), types)
        if self._request.bucket is not None:
            given = given.iloc[self.row_numbers().to_numpy()]
        return to_pandas(self.to_arrow().select(self._added), types, beside=given)

    def to_polars(self) -> polars.DataFrame:
        """The rows as a polars frame; the columns of a polars spine are its own.

        Returns:
            A frame; timestamps in microseconds, UTC.

        Raises:
            MissingExtra: polars is not installed; for what the join raises see the class.
        """
        given = self._request.spine
        if not (is_polars(given) and hasattr(given, "hstack")):
            return to_polars(self.to_arrow())
        if self._request.bucket is not None:
            given = given[self.row_numbers().to_numpy()]
        return to_polars(self.to_arrow().select(self._added), beside=given)

    def cancel(self) -> None:
        """End the join, from any thread: the thread that reads it raises `Cancelled`, and so does every later use.

        It does not wait for that thread. What other results of the store read goes on, and the same join can be asked
        for again.
        """
        self._run.cancel()

    @property
    def _added(self) -> list[str]:
        """The columns that are not the spine's."""
        return [name for name in self._run.schema.names if name not in set(self._run.spine_columns)]

    def to_parquet(self, path: str | Path) -> Path | str:
        """Write the rows to a Parquet file, which appears whole or not at all; in bounded memory.

        Where the rows have no order of their own (there is no spine, or it is a table of the engine) and the engine
        writes files itself, as Spark does, it writes them: a folder of part files, in which `_SUCCESS` comes last.

        Args:
            path: the file, or folder; an earlier result that is there is replaced. A URL (`s3://bucket/result`), which
                only an engine can write, is a folder that does not exist yet.

        Returns:
            The path; a URL as it was given.

        Raises:
            StorageFull: no room is left.
            StoreError: the place cannot be written.
            UsageError: a column of the spine has a type that Parquet lacks; the path is a folder of other files, or a
                URL that the engine does not write; for what the join raises see the class.
        """
        location = str(path)
        file = local_target(location) if location.startswith("file://") else Path(path)
        with self._explained():
            written = self._run.write(location)
        if written is not None:
            self._rows = written
            self._note()
            return location if is_url(location) else file
        if is_url(location):
            raise UsageError(
                f"cannot write {shown_location(location)}: this result passes this process (its rows have an order, or "
                "are computed here), which writes to paths alone; write a path, and copy the file"
            )
        if not file.parent.is_dir():
            raise StoreError(f"cannot write {file}: folder {file.parent} does not exist; create it first")
        try:
            with whole_file(file) as partial, pq.ParquetWriter(partial, self._run.schema) as writer:
                for batch in self.to_batches(_WHOLE):
                    writer.write_batch(batch)
        except pa.ArrowNotImplementedError as bad:
            raise UsageError(f"cannot write {file}: {bad}; cast that column of the spine, or leave it out") from bad
        except OSError as bad:
            full = bad.errno == 28 or "No space left" in str(bad)
            raise (StorageFull if full else StoreError)(f"cannot write {file}: {bad}") from bad
        return file

    def estimate(self) -> list[SourceEstimate]:
        """What the join would read; no row is read for it, and nothing runs.

        Row groups and partitions that the spine's times cannot reach are left out, where those times are known without
        reading: one instant, a table in memory, a Parquet file whose footer tells. Ties, and why rows are missing, are
        looked up besides, which is not counted.

        Returns:
            For each view, in the order asked, a line for its source and one for its rows in the offline log, where it
            has any; rows and bytes are None where they are not known.

        Raises:
            SourceError: files that cannot be listed, or whose footers cannot be read.
            SpineError: a spine in memory with a row that has no timestamp.
            LogDamaged: a file of the offline log is missing or damaged.
        """
        with self._explained():
            return list(self._engine.estimate(self._request, self._run.time_range()))

    def sql(self) -> str:
        """The statements of a run; where it was not consumed yet, it is run for them.

        Returns:
            Every statement in order, in the engine's SQL, separated by semicolons.

        Raises:
            SourceError, SpineError, LogDamaged, StoreError: see the class.
        """
        return ";\n".join(self._run.statements())

    def __repr__(self) -> str:
        views = ", ".join(f"{label} {version}" for label, version in self.metadata.versions.items())
        found = "; ".join(_summaries(self.metadata)) or f"of {views}, not read yet"
        return f"<HistoryResult {', '.join(self._run.schema.names)}: {found}>"

    def _repr_html_(self) -> str:
        with closing(self._run.batches(_SHOWN)) as batches:  # type: ignore[type-var]
            first = next(batches, None)
        self._note()
        names = self._run.schema.names
        rows = [] if first is None else list(zip(*map(_short_values, first.columns), strict=True))
        shown = (["" if value is None else str(value) for value in row] for row in rows)
        return html_table(names, shown, notes=[*_summaries(self.metadata), *self.metadata.warnings])


def _short_values(column: pa.Array) -> list[Any]:
    return [short_form(value, column.type) for value in python_values(column)]


def _summaries(metadata: HistoryMetadata) -> Iterator[str]:
    for label, found in metadata.views.items():
        parts = ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in found.items())
        yield f"{label} {metadata.versions[label]}: {parts}"


def _clock_changes(repeated: int, skipped: int, what: str, side: str) -> Iterator[str]:
    if repeated:
        yield f"{what}: {repeated:,} naive times are in an hour that a clock change repeats; the {side} instant is used"
    if skipped:
        yield (
            f"{what}: {skipped:,} naive times are in an hour that a clock change skips; the instant of the change "
            "is used"
        )


def _warnings(request: HistoryRequest, views: Mapping[str, ViewCounts]) -> Iterator[str]:
    """What counts say that users should look at."""
    timed = {v.view.label: v.view.view.source.event_time is not None for v in request.views}
    for view in request.views:
        if view.log is not None:
            yield from lost_files(view.log)
    for label, found in views.items():
        total = found.total
        yield from _clock_changes(found.repeated_times, found.skipped_times, f"view {label!r}", "later")
        if found.unreadable:
            yield f"view {label!r}: {left_out(found.unreadable)}"
        if timed[label] and found.same_instant * 2 > found.matched:
            yield (
                f"view {label!r}: {found.same_instant:,} of {found.matched:,} matched rows have the very instant of "
                "their spine row; where the spine is the event log itself, each row leaks into its own features: "
                "give the source a created_time or a delay"
            )
        if found.not_known * 2 > total:
            yield (
                f"view {label!r}: {found.not_known:,} of {total:,} rows had data that was not known yet; check whether "
                "created_time is the time of a load (then name a delay instead), and the zones of the time columns "
                "(naive is UTC)"
            )
        elif (total - found.matched) * 2 > total:
            times = (
                f"{found.null_times:,} rows of the source have no time: check its time columns, their format, "
                if found.null_times
                else "check "
            )
            yield (
                f"view {label!r}: {total - found.matched:,} of {total:,} rows found no value ({found.no_row:,} no row, "
                f"{found.expired:,} expired, {found.not_known:,} not known); {times}the join keys, the ttl, and the "
                "zones of the time columns (naive is UTC)"
            )
