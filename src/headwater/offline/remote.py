"""An engine from its backend: the query runs there; what it does not hold, the embedded engine opens and uploads.

Files, tables in memory, the log and its deletes are local and have one reader, the embedded engine: it puts them into
the query's form, checks their values and hands them over. So a backend needs words for its own tables alone.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, TypeVar

import pyarrow as pa

from headwater.definitions.source import Source
from headwater.definitions.sources import PushSource, view_tables
from headwater.offline.backend import Backend
from headwater.offline.base import (
    ChangeCounts,
    ChangesRequest,
    EventsRequest,
    HistoryRequest,
    HistoryRun,
    OfflineEngine,
    SourceEstimate,
    ViewInput,
)
from headwater.offline.estimates import Estimate, reach_of, source_name
from headwater.offline.join.changes import run_changes, run_puts
from headwater.offline.join.events import as_rows, run_each_key, run_events
from headwater.offline.join.history import PointInTimeRun
from headwater.offline.join.relations import EngineTable
from headwater.offline.join.source_check import value_problems
from headwater.offline.join.workspace import Each, Workspace, of_view
from headwater.offline.remote_tables import TableRows
from headwater.offline.remote_workspace import RemoteWorkspace
from headwater.offline.sink import PutCounts, Sink
from headwater.planning.files import FileIdentity
from headwater.planning.resolved import ResolvedView

T = TypeVar("T")


class EmbeddedEngine(Protocol):
    """What a remote engine asks of the embedded one, beside what every engine does."""

    folder: Path

    @property
    def temp_folder(self) -> Path:
        """The folder for temporary files."""
        ...

    def workspace(self, label: str = "") -> Workspace:
        """A run's tables."""
        ...

    def check_view(self, view: ViewInput) -> None:
        """Refuse a source that lacks a column of the view, or holds one in a type that does not fit."""
        ...

    def source_schema(self, source: Source) -> pa.Schema: ...
    def list_files(self, source: Source) -> tuple[FileIdentity, ...] | None: ...
    def check_values(self, view: ViewInput, rows: int) -> list[str]: ...
    def estimate(self, request: HistoryRequest, within: tuple[int, int] | None = None) -> Sequence[SourceEstimate]: ...
    def close(self) -> None: ...


class RemoteEngine(OfflineEngine):
    """An engine whose runs are in backends of its own; a subclass says how one is connected.

    Args:
        embedded: opens what the backend does not hold; closed with this engine.
    """

    def __init__(self, embedded: EmbeddedEngine) -> None:
        self.embedded = embedded

    @abstractmethod
    def connect(self) -> Backend:
        """A backend for one run."""

    def workspace(self, label: str = "") -> RemoteWorkspace:
        """A run's tables; the label names the step for the observer."""
        backend = self.connect()
        try:
            return RemoteWorkspace(backend, self.embedded.workspace(label))
        except BaseException:
            backend.close()
            raise

    def source_schema(self, source: Source) -> pa.Schema:
        held = self._held(source)
        return self.embedded.source_schema(source) if held is None else held.schema

    def list_files(self, source: Source) -> tuple[FileIdentity, ...] | None:
        return None if self._held(source) is not None else self.embedded.list_files(source)

    def check_values(self, view: ViewInput, rows: int) -> list[str]:
        if view.source is None or self._held(view.source) is None:
            return self.embedded.check_values(view, rows)
        return value_problems(as_rows(view), self.list_files(view.source), rows, self.workspace)

    def history(self, request: HistoryRequest) -> HistoryRun:
        for view in request.views:
            if view.view.windows is not None and not self.windows:
                raise self.no_windows(view)
            held = None if view.source is None else self._held(view.source)
            if held is None or view.source is None:
                self.embedded.check_view(view)
            else:
                read = as_rows(view).view
                with self.workspace() as space:
                    names = [feature.name for feature in read.view.row_features]
                    TableRows(space.backend, read, view.source, held, names).forms()
        return PointInTimeRun(
            request,
            self.workspace,
            folder=self.embedded.temp_folder,
            base=self.embedded.folder,
            files=self.files_in_place,
            writes_to=self.writes_to,
        )

    def estimate(self, request: HistoryRequest, within: tuple[int, int] | None = None) -> Sequence[SourceEstimate]:
        found: list[SourceEstimate] = []
        for view in request.views:
            # rows carry all features of the version, and by time those are left out that are read where they are
            every = replace(view, view=replace(view.view, features=view.view.view.row_features))
            held = None if view.source is None else self._read_in_place(request, every, view.source, within)
            in_place = view.source is not None and bool(self.files_in_place(view.source))
            local = every if held is None else replace(every, source=None)
            found += [] if held is None else [held]
            found += self.embedded.estimate(replace(request, views=(local,)), within if in_place else None)
        return found

    def _read_in_place(
        self, request: HistoryRequest, view: ViewInput, source: Source, within: tuple[int, int] | None
    ) -> SourceEstimate | None:
        """What the backend reads of a source that it holds; None: it does not hold it."""
        if isinstance(source, PushSource) or self._held(source) is None:
            return None
        told: Estimate | None = None
        if not any(view_tables(source)):  # a view's rows are put into a table first
            read = as_rows(view).view
            with self.workspace() as space:
                held = space.table_of(source, rows=False)
                if held is not None:
                    reach = reach_of(request, view.view, within if space.powers.carries else None)
                    rows = TableRows(space.backend, read, source, held, [f.name for f in read.view.row_features])
                    told = space.backend.estimate(rows.read_query(reach.lower, reach.upper))
        told = told or Estimate()
        return SourceEstimate(view.view.label, source_name(source), None, told.rows, told.bytes)

    def writes_to(self, location: str) -> bool:
        """Whether backends write the files of a result to a location by themselves (`Backend.write`).

        Args:
            location: a path or a URL.
        """
        return False

    def files_in_place(self, source: Source) -> Sequence[FileIdentity]:
        """What identifies the files of a source that statements read where they are."""
        return ()

    def changes(self, request: ChangesRequest, counts: ChangeCounts) -> Iterator[pa.RecordBatch]:
        return _naming(request.view.view, run_changes(request, counts, self.workspace))

    def events(self, request: EventsRequest) -> Iterator[pa.RecordBatch]:
        if not self.windows:
            raise self.no_windows(request.view)
        return _naming(request.view.view, run_events(request, self.workspace))

    def each_key(self, request: EventsRequest, function: Each, answer: pa.Schema) -> Iterator[pa.RecordBatch]:
        if not self.windows:
            raise self.no_windows(request.view)
        return _naming(request.view.view, run_each_key(request, self.workspace, function, answer))

    def put_changes(self, request: ChangesRequest, counts: ChangeCounts, sink: Sink) -> Iterator[PutCounts]:
        return _naming(request.view.view, run_puts(request, counts, self.workspace, sink))

    def close(self) -> None:
        self.embedded.close()

    def _held(self, source: Source) -> EngineTable | None:
        if isinstance(source, PushSource):
            return None
        with self.workspace() as space:
            return space.table_of(source, rows=False)


def _naming(view: ResolvedView, rows: Iterator[T]) -> Iterator[T]:
    """The same, and errors on the way name the view; what is refused is refused before the first."""
    with of_view(view):
        yield from rows
