"""Offline engines: what each of them does. What they are asked and given is in `requests` and `log_slice`."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

import pyarrow as pa

from headwater.definitions.source import Source
from headwater.definitions.sources import PushSource
from headwater.errors import ConfigError, UsageError, nearest
from headwater.forks import OfOneProcess
from headwater.observer import Observer
from headwater.offline.estimates import SourceEstimate, listed, of_log
from headwater.offline.log_slice import (
    ARRIVAL,
    POSITION,
    THROUGH,
    KeyDigests,
    LeftOut,
    LogPart,
    LogSlice,
    Tombstone,
    lost_files,
    unreadable_rows,
)
from headwater.offline.requests import (
    ChangeCounts,
    ChangesRequest,
    EventsRequest,
    HistoryRequest,
    SourceScope,
    ViewInput,
)
from headwater.offline.sink import Executors, PutCounts, Sink
from headwater.planning.files import FileIdentity

__all__ = [
    "ARRIVAL",
    "BUDGET",
    "POSITION",
    "THROUGH",
    "ChangeCounts",
    "ChangesRequest",
    "Each",
    "EventsRequest",
    "HistoryRequest",
    "HistoryRun",
    "KeyDigests",
    "LeftOut",
    "LogPart",
    "LogSlice",
    "OfflineEngine",
    "SourceEstimate",
    "SourceScope",
    "Tombstone",
    "ViewInput",
    "lost_files",
    "refuse_unknown",
    "unreadable_rows",
]

Each = Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]
"""A function of the batches of some rows, which can be pickled."""

BUDGET = 512 << 20
"""Bytes of events of window views that are held in memory, unless a memory limit says otherwise."""


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

    def time_range(self) -> tuple[int, int] | None:
        """The least and greatest instant of the spine (microseconds), or somewhat more.

        Returns:
            None where only reading its rows tells, other than those in memory.
        """
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

    def estimate(self, request: HistoryRequest, within: tuple[int, int] | None = None) -> Sequence[SourceEstimate]:
        """What a join would read; no row is read for it, and no query runs.

        By default what `list_files` tells, and what the log has.

        Args:
            request: as of `history`.
            within: the least and greatest instant of its spine (microseconds); None: not known, so that nothing is left
                out by time.

        Returns:
            For each view a line for its source, and one for its rows in the offline log, where it has any.

        Raises:
            SourceError: files that cannot be listed, or whose footers cannot be read.
        """
        found: list[SourceEstimate | None] = []
        for view in request.views:
            source = view.source
            if source is not None and not isinstance(source, PushSource):
                found.append(listed(view.view, source, self.list_files(source)))
            found.append(of_log(view, view.view.view.source_columns))
        return [line for line in found if line is not None]

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
