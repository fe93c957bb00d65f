"""Offline engines: the requests that they answer, the data that they get, and what they give."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

import pyarrow as pa

from headwater.clock import MIN_MICROS
from headwater.definitions.sources import Source
from headwater.errors import ConfigError, UsageError, nearest
from headwater.forks import OfOneProcess
from headwater.observer import Observer
from headwater.offline.sink import Executors, PutCounts, Sink
from headwater.planning.buckets import Bucket
from headwater.planning.files import FileIdentity
from headwater.planning.resolve import OutputColumn, ResolvedView
from headwater.planning.watermark import Watermark

POSITION = "__position"
ARRIVAL = "__arrival"
THROUGH = "__through"
"""Reserved columns of the offline log: a position in it, an arrival (microseconds), a D."""

Each = Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]
"""A function of the batches of some rows, which can be pickled."""

Tombstone = tuple[int, int]
"""(P, D): for reads at D (microseconds) and later, hides log rows at positions before P and every row known by D."""


@dataclass(frozen=True)
class LogPart:
    """Rows of the offline log that share one set of columns, as the user wrote them, with `__position` and `__arrival`.

    Attributes:
        columns: the user's columns in these rows (the reserved `created_time` among them where the rows carry it).
        table: the rows, where they are in the log's write buffer.
        files: the Parquet files that hold them, where they were compacted.
        schema: names and types of the user's columns in these rows.
        spans: of each file its least and greatest position, and how many rows it has.
    """

    columns: frozenset[str]
    table: pa.Table | None = None
    files: tuple[Path, ...] = ()
    schema: pa.Schema | None = None
    spans: tuple[tuple[int, int, int], ...] = ()


@dataclass(frozen=True)
class LeftOut:
    """Rows of the offline log that histories and runs go on without.

    Attributes:
        view: whose rows.
        kind: `rows`: of values that nothing can read; `batch`: that cannot be decoded; `file`: of a damaged or missing
            file that somebody gave up.
        name: of the file; empty for others.
        first, last: the positions of the first and last of them.
        rows: how many.
        arrived_from, arrived_to: their least and greatest arrival, microseconds; None: not known.
        reason: what is wrong with them.
        noted_at: since when the log goes on without them, microseconds; 0: they are still in the write buffer.
    """

    view: str
    kind: str
    name: str
    first: int
    last: int
    rows: int
    arrived_from: int | None
    arrived_to: int | None
    reason: str
    noted_at: int = 0

    def __str__(self) -> str:
        span = f"position {self.first}" if self.first == self.last else f"positions {self.first} to {self.last}"
        what = f"{self.rows:,} row{'' if self.rows == 1 else 's'} of the offline log of {self.view!r} ({span})"
        return f"{what} left out: {f'file {self.name} ' if self.name else ''}{self.reason}"


@dataclass(frozen=True)
class LogSlice:
    """One view's part of the offline log up to a position, fixed at the call.

    Attributes:
        parts: its rows; a view version takes the parts that have all of its columns and skips the others.
        deletes: the view's deletes: join keys in clear, `__through` (D, microseconds) and `__position` (P); one row a
            tombstone, of which a key may have several.
        purges: digest of a purged key → its tombstones, by D ascending; matched through `digests`.
        position: the log's position at the call.
        left_out: rows of the view that it goes on without.
        unreadable: what is wrong with files whose rows it lacks, where it was asked for without them.
        examine: looks closely at the files, once reading them has failed, and says what is wrong; None: nothing.
    """

    parts: tuple[LogPart, ...] = ()
    deletes: pa.Table | None = None
    purges: Mapping[bytes, tuple[Tombstone, ...]] = field(default_factory=dict)
    position: int = 0
    digests: KeyDigests | None = None
    left_out: tuple[LeftOut, ...] = ()
    unreadable: tuple[str, ...] = ()
    examine: Callable[[], str | None] | None = field(default=None, compare=False, repr=False)


def unreadable_rows(log: LogSlice) -> int:
    """How many rows a slice goes on without since nothing can read them."""
    return sum(left.rows for left in log.left_out if left.kind != "file")


def lost_files(log: LogSlice) -> Iterator[str]:
    """What a history or run says of files that the log goes on without."""
    return (str(left) for left in log.left_out if left.kind == "file")


class KeyDigests(Protocol):
    """How purged keys are recognised: by salted digests of each key."""

    def __call__(self, keys: pa.Table, names: Sequence[tuple[str, ...]] = ()) -> list[tuple[bytes, ...]]:
        """Every digest of each row of join keys (columns named like them, in the entity's order).

        Args:
            keys: the join keys.
            names: their other names, each in the same order.
        """
        ...


@dataclass(frozen=True)
class ViewInput:
    """A resolved view with the data of its history.

    Attributes:
        view: the version, its keys in the request, the requested features.
        source: its source; None: only the log is read.
        log: its slice of the offline log; None where there is none.
    """

    view: ResolvedView
    source: Source | None
    log: LogSlice | None = None


@dataclass(frozen=True)
class HistoryRequest:
    """One point-in-time join.

    Attributes:
        spine: a pandas, polars or pyarrow table, a Parquet path, or SQL; None: every known entity at `at`.
        timestamp_column: the spine's timestamp; None: `timestamp` or `event_timestamp`, where `at` is not given.
        at: microseconds: the same instant for every row.
        views: the views to join.
        columns: the output columns, in order.
        as_known: whether only rows known at the spine's time count.
        include: any of `status`, `event_time`.
        timezone: of naive timestamps of the spine; None: UTC.
        log_position: rows and deletes of the offline log up to this position are read.
        bucket: of the spine's rows, or the entities, those in this bucket of the join keys that all views share.
    """

    spine: Any
    views: tuple[ViewInput, ...]
    columns: tuple[OutputColumn, ...]
    timestamp_column: str | None = None
    at: int | None = None
    as_known: bool = True
    include: tuple[str, ...] = ()
    timezone: str | None = None
    log_position: int = 0
    bucket: Bucket | None = None


@dataclass(frozen=True)
class ChangesRequest:
    """The newest known row of each key, for materialization.

    A source row counts where `source_after` < known_at ≤ `end` (the least int64 is no bound); with `whole_files`, of a
    source of files, every row of those with known_at ≤ `end`, and of the others where `since.end` < known_at ≤ `end`. A
    log row counts where (position > `since.position` and known_at ≤ `end`) or `since.end` < known_at ≤ `end`; either
    only where no tombstone of its key hides it.

    Attributes:
        view: the view version, whole, with its source and log.
        end: microseconds.
        source_after: microseconds; the start of the lookback.
        since: the watermark before the run.
        log_until: log rows after this position are left out.
        keys: only these keys (columns named like the join keys), or None for all.
        whole_files: files, by the paths of `list_files`, that are new or changed since the last run; None: every row is
            judged by `source_after`. A query is read whole where it reads any of them.
        only_files: no other file is opened; a feature's column that these lack is NULL in their rows. None: all are.
            A query reads all its files all the same.
        at: to settle ties: join keys, `__event` and `__created` (int64 microseconds, as `changes` gives them). Of each
            of its rows history's choice among the rows of the source with just this key and these times; nothing else
            of the request but the view counts then.
        counted: whether rows are only counted, and none is given; of a window version its events. Log rows that lack a
            column of the version are not counted then.
        bucket: only keys in this bucket; None: all. What concerns no key is counted in the first.
    """

    view: ViewInput
    end: int
    source_after: int
    since: Watermark
    log_until: int
    keys: pa.Table | None = None
    whole_files: frozenset[str] | None = None
    only_files: frozenset[str] | None = None
    at: pa.Table | None = None
    counted: bool = False
    bucket: Bucket | None = None

    @property
    def scope(self) -> SourceScope:
        """The rows of the source that are read."""
        if self.at is not None:
            return SourceScope()
        after = self.source_after if self.whole_files is None else self.since.end
        return SourceScope(None if after == MIN_MICROS else after, self.whole_files or frozenset(), self.only_files)


BUDGET = 512 << 20
"""Bytes of events of window views that are held in memory, unless a memory limit says otherwise."""


@dataclass(frozen=True)
class EventsRequest:
    """The events of a window version, one by one: the rows of its source and its log that have keys and times.

    What deletes hide is among them, and so is each statement of an event id.

    Attributes:
        view: the view version, with its source and log.
        keys: only these keys (columns named like the join keys); None: all.
        source: which rows of the source; None: none of them.
        log: of the log the rows with first < position ≤ second; None: none of them.
        known_until: rows known later than this instant (microseconds) are left out; None: none are.
        known_after: rows known at this instant (microseconds) or before are left out; None: none are.
        keys_alone: whether the keys of these rows are given instead, each once.
        transactions_alone: whether their transactions are given instead, of rows of the log alone: `__position`, the
            last of each, ascending, and `__rows`, how many of the rows it has.
    """

    view: ViewInput
    keys: pa.Table | None = None
    source: SourceScope | None = field(default_factory=lambda: SourceScope())
    log: tuple[int, int] | None = (0, 2**63 - 1)
    known_until: int | None = None
    known_after: int | None = None
    keys_alone: bool = False
    transactions_alone: bool = False


@dataclass(frozen=True)
class SourceScope:
    """Which rows of a source a run reads.

    Attributes:
        known_after: rows known at this instant (microseconds) or before are left out; None: none are.
        whole: files of which every row is read all the same.
        only: the files that are opened at all; None: all.
        rows: no more than so many rows need be read of text and of a query's answer, the first ones; None: all.
    """

    known_after: int | None = None
    whole: frozenset[str] = frozenset()
    only: frozenset[str] | None = None
    rows: int | None = None

    def opens(self, path: str) -> bool:
        """Whether a file is opened at all."""
        return self.only is None or path in self.only

    def takes_whole(self, path: str) -> bool:
        """Whether every row of a file is read."""
        return self.known_after is None or path in self.whole


@dataclass
class ChangeCounts:
    """What a run read and left out, filled while its batches are consumed.

    Attributes:
        rows: rows in the run's window; `keys`: how many keys have one.
        null_keys: rows of the window that are left out for a NULL key.
        null_times: rows of the source and the log that are never known, for a NULL event or created time.
        future: rows that are known after the end.
        ties: keys of which only the features decided between rows of the source with the same times.
        skipped: log rows that lack a column of the version.
        lacking: a feature's column that some files of the source lack, so that their rows have NULL there → which.
        unreadable: rows of the log that are left out since nothing could read their values back.
        file_rows: file → how many rows it has, of those that were read whole, where that is known.
    """

    rows: int = 0
    keys: int = 0
    null_keys: int = 0
    null_times: int = 0
    future: int = 0
    ties: int = 0
    skipped: int = 0
    lacking: dict[str, str] = field(default_factory=dict)
    unreadable: int = 0
    file_rows: dict[str, int] = field(default_factory=dict)


class HistoryRun(Protocol):
    """A point-in-time join, fixed to its versions and log position; each call of `batches` runs it."""

    @property
    def schema(self) -> pa.Schema:
        """The spine's columns, then the features'."""
        ...

    @property
    def spine_columns(self) -> Sequence[str]:
        """The names of the spine's columns."""
        ...

    @property
    def timestamp_column(self) -> str | None:
        """The spine's column of instants; None: all rows have one instant."""
        ...

    @property
    def known_rows(self) -> int | None:
        """How many rows there are; None where only a run can tell."""
        ...

    def row_numbers(self) -> pa.Array:
        """Which rows of the spine these are, in order, the first being 0; without a bucket all of them.

        Raises:
            UsageError: the spine is neither a table nor a file, or there is none.
        """
        ...

    def batches(self, rows: int) -> Iterator[pa.RecordBatch]:
        """Run the join.

        Args:
            rows: of a batch; the last one has fewer.

        Returns:
            The rows in the spine's order, as `schema` says.

        Raises:
            SourceError: a source that cannot be read, or a value that does not fit its dtype.
            SpineError: a row of the spine without a usable timestamp or key.
            StoreError: the engine fails.
            Cancelled: the run was cancelled.
        """
        ...

    def write(self, location: str) -> int | None:
        """Have the engine write the rows as Parquet files by itself, so that none passes this process.

        Args:
            location: a path or a URL of a folder, which appears whole or not at all.

        Returns:
            How many rows were written, in any order; None: the engine does not write there, or the rows have an order,
            and nothing was done: `batches` gives them.

        Raises:
            UsageError: something else is at the location.
            StoreError: it cannot be written; for what a run raises see `batches`.
        """
        ...

    def cancel(self) -> None:
        """End what is under way, from any thread, and run nothing more; see `HistoryResult.cancel`.

        It does not wait: the thread that reads ends with `Cancelled`.
        """
        ...

    def clock_changes(self) -> tuple[int, int]:
        """How many of the spine's timestamps are in an hour that a clock change repeats, or skips."""
        ...

    def statements(self) -> Sequence[str]:
        """Every statement of the last run, in the engine's SQL; where there was none, the join is run for them."""
        ...

    def counts(self) -> Mapping[str, Mapping[str, int]]:
        """View label → the counts of `ViewCounts` by name; complete once the batches were consumed."""
        ...


def refuse_unknown(settings: Mapping[str, Any], known: Sequence[str], engine: str) -> None:
    """Refuse settings that an engine does not have.

    Raises:
        ConfigError: naming the first, and those that there are.
    """
    for name in settings:
        if name not in known:
            raise ConfigError(
                f"offline engine {engine} has no setting {name!r}{nearest(name, known)}; it has {', '.join(known)}"
            )


class OfflineEngine(OfOneProcess, ABC):
    """Runs the point-in-time query over sources and the log; holds no registry and resolves nothing.

    Attributes:
        windows: whether it computes window views: `events`, and `history` over them.
    """

    windows: ClassVar[bool] = False

    @property
    def executors(self) -> Executors:
        """Where `put_changes` runs a sink; where there are no such processes, it is not asked to."""
        return Executors.NONE

    @property
    def budget(self) -> int:
        """Bytes of events of window views that are held in memory; what is beyond goes to temporary files."""
        return BUDGET

    @classmethod
    def open(cls, folder: Path, settings: Mapping[str, Any], observer: Observer) -> OfflineEngine:
        """The engine of a project; by default its class is called with the settings by name.

        Args:
            folder: the project's folder, to which paths of sources are relative.
            settings: what `[offline.ENGINE]` says, and `memory_limit` and `threads` of `[offline]` where given. A
                value from the environment is text.
            observer: told how far long statements are.

        Returns:
            The engine.

        Raises:
            ConfigError: a setting that the engine does not have.
        """
        wanted = inspect.signature(cls).parameters
        refuse_unknown(settings, [name for name in wanted if name not in ("folder", "observer")], cls.__name__)
        return cls(folder, **settings, observer=observer)  # type: ignore[call-arg]

    @abstractmethod
    def source_schema(self, source: Source) -> pa.Schema:
        """The columns of a source.

        Args:
            source: any kind of source; of a push source the columns are those of its schema.

        Returns:
            Their names and Arrow types; a column that some of its files lack says which in its metadata (`LACKING`).

        Raises:
            SourceError: the source is missing or unreadable.
        """

    def list_files(self, source: Source) -> tuple[FileIdentity, ...] | None:
        """The files of a source as they are now; none of them is opened.

        Args:
            source: any kind of source.

        Returns:
            Each file with what identifies its content; of a query the files of all its tables, where all are of files.
            None where the source is not one of files.

        Raises:
            SourceError: there is none, or they cannot be listed.
        """
        return None

    @abstractmethod
    def check_values(self, view: ViewInput, rows: int) -> list[str]:
        """Read the first rows of a view's source as `changes` reads them, and say what does not fit.

        Args:
            view: the view version, whole, with its source; its log is left alone.
            rows: how many rows of each file, or of a query's answer.

        Returns:
            For each file with bad values the first of them, by file, row and column; empty where none was found.

        Raises:
            StoreError: the engine fails.
        """

    @abstractmethod
    def history(self, request: HistoryRequest) -> HistoryRun:
        """Prepare a point-in-time join; bad input is refused here, before anything runs.

        Args:
            request: the spine, the views with their data, and what is wanted of them.

        Returns:
            A run that reads nothing yet.

        Raises:
            SourceError: a source that is missing, lacks a column, or has one of a type that does not fit.
            SpineError: a spine that cannot be read, or lacks a key or timestamp of a usable type.
            UsageError: a request that contradicts itself, e.g. two columns of one name.
        """

    @abstractmethod
    def changes(self, request: ChangesRequest, counts: ChangeCounts) -> Iterator[pa.RecordBatch]:
        """The newest known row of each key, in the order and by the ties of history.

        Args:
            request: the view version, and which of its rows count.
            counts: filled while the batches are consumed.

        Returns:
            Batches of the join keys by name; `__event` and `__created` (int64, microseconds; the least int64 where the
            view has no event time); `__origin` (int8: 0 source, 1 log); `__position` (int64, 0 of source rows); every
            feature of the version by name, in its dtype.

        Raises:
            SourceError: a source that cannot be read, or a value that does not fit its dtype.
            StoreError: the engine fails.
        """

    def put_changes(self, request: ChangesRequest, counts: ChangeCounts, sink: Sink) -> Iterator[PutCounts]:
        """Put the rows of `changes` online by a sink, which may run in other processes, where the rows are.

        Args:
            request: as of `changes`.
            counts: as of `changes`.
            sink: puts rows; it is pickled where it goes to another process.

        Returns:
            What became of each part of the rows, once it is certain: a part that was tried again, or twice, is there
            once.

        Raises:
            SourceError, StoreError: as of `changes`; a store that some rows could not be put into. Some were put.
        """
        for batch in self.changes(request, counts):
            yield sink.put([batch])

    def events(self, request: EventsRequest) -> Iterator[pa.RecordBatch]:
        """The events of a window version, unaggregated; an engine whose `windows` is true gives them.

        Args:
            request: the view version, and which of its rows.

        Returns:
            Batches of the join keys by name; `__event` and `__created` (int64, microseconds); `__origin` (int8: 0
            source, 1 log); `__position` and `__arrival` (int64; of source rows 0 and NULL); `__event_id` in its own
            type (NULL where a row has none); every column of the version's `columns` in its dtype, called as
            `event_columns` of `planning.windows.events` says: by name, unless a join key has it. With `keys_alone` the
            join keys by name, each key once.

        Raises:
            UsageError: the engine has no windows.
            SourceError: a source that cannot be read, or a value that does not fit its dtype.
            StoreError: the engine fails.
        """
        raise self.no_windows(request.view)

    def each_key(self, request: EventsRequest, function: Each, answer: pa.Schema) -> Iterator[pa.RecordBatch]:
        """Run a function over the events of whole keys, where they are.

        Args:
            request: as of `events`.
            function: is given the batches that `events` gives, of some keys all, and gives those of the answer. It is
                pickled where it goes to another process, and may run twice over the same keys.
            answer: the columns of its answer.

        Returns:
            The answers, in any order, of each key one.

        Raises:
            UsageError, SourceError, StoreError: as of `events`.
        """
        yield from function(self.events(request))

    def no_windows(self, view: ViewInput) -> UsageError:
        """The error of an engine that cannot compute a window view.

        Args:
            view: the view.

        Returns:
            The error, which names view and engine.
        """
        return UsageError(
            f"view {view.view.name!r} has window aggregations, which engine {type(self).__name__} cannot compute; "
            'use engine = "duckdb"'
        )

    def forget(self) -> None:
        """Remove what is kept of sources from one call to the next: rows of theirs were erased."""

    @abstractmethod
    def close(self) -> None:
        """Release the engine's connection and temporary files; what is under way ends with `Unavailable`."""
