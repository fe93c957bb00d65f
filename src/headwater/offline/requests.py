"""What engines are asked: a view with its data, joins to a spine, changes, events; and which rows of a source count."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from headwater.clock import MIN_MICROS
from headwater.definitions.source import Source
from headwater.offline.log_slice import LogSlice
from headwater.planning.buckets import Bucket
from headwater.planning.resolved import OutputColumn, ResolvedView
from headwater.planning.watermark import Watermark


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
