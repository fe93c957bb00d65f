"""The embedded engine: DuckDB in this process, its statements run where Ctrl-C can stop them."""

from __future__ import annotations

import itertools
import os
import sys
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa

from headwater import forks
from headwater.definitions.source import Source
from headwater.definitions.sources import ParquetSource
from headwater.errors import ConfigError, Unavailable
from headwater.observer import Observer, silent
from headwater.offline.base import (
    BUDGET,
    ChangeCounts,
    ChangesRequest,
    EventsRequest,
    HistoryRequest,
    HistoryRun,
    OfflineEngine,
    SourceEstimate,
    ViewInput,
    refuse_unknown,
)
from headwater.offline.engines.duckdb.estimates import estimated
from headwater.offline.engines.duckdb.sources import list_files, source_schema
from headwater.offline.engines.duckdb.views import check_view
from headwater.offline.engines.duckdb.workspace import CLOSED, Connection, DuckDBWorkspace, open_database
from headwater.offline.files.locations import is_remote
from headwater.offline.index.folder import IndexRules, remove_all, size_of
from headwater.offline.join.changes import run_changes
from headwater.offline.join.events import as_rows, run_events
from headwater.offline.join.history import PointInTimeRun
from headwater.offline.join.source_check import value_problems
from headwater.offline.join.windowed import AT_ONCE
from headwater.offline.join.workspace import PackedLimits, Powers
from headwater.planning.files import FileIdentity
from headwater.scratch import TempFolder
from headwater.state_files import STATE

POWERS = Powers(packed=PackedLimits(pairs=60_000_000, looks=3_000_000), settles_ties=True)
INDEX_SIZE = "2GB"
"""The most that kept indexes take, unless `[offline.duckdb] index_size` says otherwise."""
_LEAST_BUDGET = 16 << 20
_NICE = 5
"""By how much the engine's threads are nicer than the process."""


class DuckDBEngine(OfflineEngine):
    """Sources, log and spine in DuckDB; what does not fit the memory limit goes to a temporary folder.

    Args:
        folder: the project's folder, to which paths of sources are relative; None: the working directory.
        memory_limit: e.g. `"2GB"`; None: DuckDB's own (four fifths of the machine's).
        threads: None: every core.
        temp_folder: where what exceeds the limit goes; None: a folder of its own, removed on `close`.
        observer: told how far long statements are.
        powers: what the query may use; to be changed in tests alone.
        indexes: of which sources indexes are kept, and where; None: of none.
    """

    windows = True

    def __init__(
        self,
        folder: Path | str | None = None,
        memory_limit: str | None = None,
        threads: int | None = None,
        temp_folder: Path | str | None = None,
        *,
        observer: Observer = silent,
        powers: Powers = POWERS,
        indexes: IndexRules | None = None,
    ) -> None:
        self.folder = Path(folder) if folder is not None else Path.cwd()
        self.observer = observer
        self.powers, self.indexes = powers, indexes
        self._settings = {"memory_limit": memory_limit, "threads": threads}
        self._temp_given = None if temp_folder is None else Path(temp_folder)
        self._temp: TempFolder | None = None
        self._database: Connection | None = None
        self._lock = forks.lock()
        self._pool: ThreadPoolExecutor | None = None
        self._spaces: weakref.WeakSet[DuckDBWorkspace] = weakref.WeakSet()
        self._names = itertools.count()
        self._closed = False
        forks.after_fork(self, DuckDBEngine._in_child)

    @classmethod
    def open(cls, folder: Path, settings: Mapping[str, Any], observer: Observer) -> DuckDBEngine:
        refuse_unknown(settings, ("memory_limit", "threads", "index_size"), "duckdb")
        given = dict(settings)
        size = size_of(str(given.pop("index_size", INDEX_SIZE)))
        rules = IndexRules(_indexes(folder), size) if size else None
        return cls(folder, **given, observer=observer, indexes=rules)

    def _in_child(self) -> None:
        # DuckDB's own threads are the parent's: nothing that it made can be used here, nor let go
        forks.abandon(self._pool, self._database, *self._spaces)
        self._pool, self._database, self._temp = None, None, None
        self._spaces = weakref.WeakSet()

    def source_schema(self, source: Source) -> pa.Schema:
        with self.workspace() as space:
            return source_schema(space, source, self.folder, _place(source), every_file=True)

    def list_files(self, source: Source) -> tuple[FileIdentity, ...] | None:
        return list_files(source, self.folder, _place(source))

    def check_values(self, view: ViewInput, rows: int) -> list[str]:
        view = as_rows(view)
        return value_problems(view, None if view.source is None else self.list_files(view.source), rows, self.workspace)

    def history(self, request: HistoryRequest) -> HistoryRun:
        for view in request.views:
            self.check_view(view)
        return PointInTimeRun(
            request,
            self.workspace,
            folder=self.temp_folder,
            base=self.folder,
            files=self._files_in_place,
            budget=self.budget,
            at_once=min(AT_ONCE, int(self._settings["threads"] or os.cpu_count() or 1)),
            observer=self.observer,
        )

    def estimate(self, request: HistoryRequest, within: tuple[int, int] | None = None) -> Sequence[SourceEstimate]:
        return [line for view in request.views for line in estimated(request, view, self.folder, within)]

    @property
    def budget(self) -> int:
        """Bytes of events of window views that are held in memory: a share of the limit."""
        given = self._settings["memory_limit"]
        try:
            return BUDGET if given is None else max(_LEAST_BUDGET, min(BUDGET, size_of(str(given)) // 5))
        except ConfigError:  # an amount that only DuckDB knows, such as 80%
            return BUDGET

    def check_view(self, view: ViewInput) -> None:
        """Refuse a source that lacks a column of the view, or holds one in a type that does not fit.

        Raises:
            SourceError: naming view, column and both types.
        """
        with self.workspace() as space:
            check_view(space, as_rows(view), self.folder)

    def _files_in_place(self, source: Source) -> Sequence[FileIdentity]:
        """The files that every statement about a source reads again, where it is a view over them."""
        if not isinstance(source, ParquetSource) or is_remote(source.location):
            return ()
        return self.list_files(source) or ()

    def changes(self, request: ChangesRequest, counts: ChangeCounts) -> Iterator[pa.RecordBatch]:
        return run_changes(request, counts, self.workspace)

    def events(self, request: EventsRequest) -> Iterator[pa.RecordBatch]:
        return run_events(request, self.workspace)

    def forget(self) -> None:
        # also those of before the settings said that none are kept
        remove_all(_indexes(self.folder) if self.indexes is None else self.indexes.folder)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            pool, database, temp = self._pool, self._database, self._temp
            self._pool = self._database = self._temp = None
        # what is under way ends with an error
        for space in list(self._spaces):
            space.stop()
        if pool is not None:
            pool.shutdown(wait=True)
        if database is not None:
            database.close()
        if temp is not None:
            temp.close()

    @property
    def temp_folder(self) -> Path:
        """The folder for temporary files, made when first asked for."""
        with self._lock:
            return self._temporary().path

    def _temporary(self) -> TempFolder:
        if self._closed:
            raise Unavailable(CLOSED)
        if self._temp is None:
            self._temp = TempFolder(self._temp_given)
        return self._temp

    def workspace(self, label: str = "") -> DuckDBWorkspace:
        """A run's tables; the label names the step for the observer."""
        with self._lock:
            if self._closed:
                raise Unavailable(CLOSED)
            if self._pool is None:
                self._pool = ThreadPoolExecutor(thread_name_prefix="headwater-duckdb", initializer=_give_way)
            if self._database is None:
                # on one of the pool's threads: those that DuckDB starts take after it
                self._database = self._pool.submit(self._open).result()
            space = DuckDBWorkspace(self, self._database.cursor(), self._pool, f"hw{next(self._names)}", label)
            self._spaces.add(space)
            return space

    def renew(self) -> None:
        """Begin the next run with a database of its own: an internal error leaves one that refuses everything."""
        with self._lock:
            self._database = None

    def _open(self) -> Connection:
        config: dict[str, Any] = {name: value for name, value in self._settings.items() if value is not None}
        return open_database(config | {"temp_directory": str(self._temporary().path)})


def _indexes(folder: Path) -> Path:
    """Where a project's indexes are kept."""
    return folder / STATE / "indexes"


def _give_way() -> None:
    """Let this thread, and those it starts, stand back for threads that serve reads where cores are few."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.nice(0) + _NICE)


def _place(source: Source) -> str:
    return f"{source.kind} source {source.shown_location!r}" if source.location else f"{source.kind} source"
