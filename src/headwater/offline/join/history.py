"""A point-in-time join from a request to batches: each view is joined to the spine, and their columns put together.

    request ─┬─ its spine (`request_spine`) ── a table of the engine ─┐
             └─ its views ── rows (`ViewJoin`) ─── joined to the spine ┴─ columns of the result (`OutputSchema`)

`PointInTimeRun._run` is that way in one function; `_write` the one of an engine that writes the result by itself.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import pyarrow as pa

from headwater import forks
from headwater.definitions.source import Source
from headwater.errors import Cancelled, StoreError, UsageError
from headwater.observer import Observer, silent
from headwater.offline.base import BUDGET, HistoryRequest
from headwater.offline.files.local import SourceFile, local_identities
from headwater.offline.join.batches import RowStream
from headwater.offline.join.consistent_reads import consistent
from headwater.offline.join.output_schema import OutputSchema
from headwater.offline.join.request_spine import request_spine
from headwater.offline.join.spine import Extent, LocalSpine
from headwater.offline.join.view_join import LocalWindows, ViewJoin
from headwater.offline.join.workspace import CANCELLED, ROWS, Workspace
from headwater.offline.join.written import ViewAnswer, whole_answer
from headwater.offline.result_folder import ResultFolder, result_folder
from headwater.planning.files import FileIdentity


class PointInTimeRun:
    """A point-in-time join over any engine's workspace (`HistoryRun`).

    Args:
        request: what is asked; its spine is checked here.
        workspace: opens a workspace; its argument names the step for the observer.
        folder: for temporary files.
        base: the project's folder.
        files: what identifies the files of a source that statements read where they are.
        writes_to: whether the engine writes the files of a result to a location by itself.
        budget: bytes of events of window views that are held in memory.
        at_once: how many parts of a window view are aggregated at once.
        observer: told how far window views are.
    """

    def __init__(
        self,
        request: HistoryRequest,
        workspace: Callable[[str], Workspace],
        *,
        folder: Path,
        base: Path,
        files: Callable[[Source], Sequence[FileIdentity]] = lambda _: (),
        writes_to: Callable[[str], bool] = lambda _: False,
        budget: int = BUDGET,
        at_once: int = 1,
        observer: Observer = silent,
    ) -> None:
        self._request, self._workspace = request, workspace
        self._source_files, self._writes_to = files, writes_to
        self._spine = request_spine(request, workspace, folder=folder, base=base)
        self._output = OutputSchema.of(request, self._spine.schema)
        self._local = LocalWindows(folder, budget, at_once, self._check_cancelled, observer)
        self._statements: tuple[str, ...] | None = None
        self._counts: dict[str, dict[str, int]] = {}
        self._lock, self._cancelled = forks.lock(), False
        self._spaces: weakref.WeakSet[Workspace] = weakref.WeakSet()

    # what is known before a run

    @property
    def schema(self) -> pa.Schema:
        """The spine's columns, then the features' as asked for."""
        return self._output.whole

    @property
    def spine_columns(self) -> Sequence[str]:
        """The names of the spine's columns."""
        return list(self._output.spine.names)

    @property
    def timestamp_column(self) -> str | None:
        return None if self._spine.at is not None else self._spine.timestamp_column

    @property
    def known_rows(self) -> int | None:
        return None if self._spine.bucket is not None else self._spine.size

    def time_range(self) -> tuple[int, int] | None:
        return self._spine.time_range()

    def row_numbers(self) -> pa.Array:
        if not isinstance(self._spine, LocalSpine):
            raise UsageError(
                "rows have numbers in a spine that is a table or a file alone: give the spine a column that tells its "
                "rows apart"
            )
        return pa.array(self._spine.row_numbers)

    # what the last run came to

    def counts(self) -> Mapping[str, Mapping[str, int]]:
        """Per view label: the counts of `ViewCounts`; complete once batches were consumed."""
        return self._counts

    def clock_changes(self) -> tuple[int, int]:
        return self._spine.repeated, self._spine.skipped

    def statements(self) -> Sequence[str]:
        """Every statement of a run; where none was consumed yet, the join is run for them."""
        if self._statements is None:
            for _ in self.batches(ROWS):
                break
        return self._statements or ()

    # runs

    def batches(self, rows: int) -> Iterator[pa.RecordBatch]:
        """Run the join; batches of `rows` rows and a last one of fewer, in the spine's order.

        Files that several statements read must be the same for all of them: where one is replaced meanwhile the join
        is run again, twice at most.

        Raises:
            SourceError: a file that is replaced again and again.
            Cancelled: `cancel` was called.
        """

        def begun(check: Callable[[], None]) -> tuple[Generator[pa.RecordBatch, None, None], list[pa.RecordBatch]]:
            run = self._run(rows)
            try:
                # every statement that reads files has done so before the first batch: each ends with a sort
                first = next(run, None)
                check()
            except BaseException:
                run.close()
                raise
            return run, [] if first is None else [first]

        run, first = consistent(self._files, begun)
        with closing(run):
            while first:
                yield first.pop()
            yield from run

    def write(self, location: str) -> int | None:
        ordered = isinstance(self._spine, LocalSpine) or self._output.has_case_twins
        if ordered or not self._writes_to(location):
            return None

        def written(check: Callable[[], None]) -> int:
            with result_folder(location) as folder:
                rows = self._write(folder)
                check()
            return rows

        return consistent(self._files, written)

    def cancel(self) -> None:
        with self._lock:
            self._cancelled = True
            for space in self._spaces:
                space.cancel()

    def _run(self, rows: int) -> Generator[pa.RecordBatch, None, None]:
        """The way from the request to batches."""
        with self._workspace("history") as space, ExitStack() as stack:
            views, extent = self._views(space)
            streams = [RowStream(view.batches(rows, self._local, stack)) for view in views]
            self._counts = {view.name: view.counts for view in views}
            self._statements = tuple(space.statements)
            for numbers, spine in self._spine.columns(space, rows, extent):
                added: dict[str, pa.Array] = {}
                for view, stream in zip(views, streams, strict=True):
                    added |= view.columns.arrays(stream.take(spine.num_rows), numbers)
                self._statements = tuple(space.statements)
                self._check_cancelled()
                yield self._output.batch(spine, added)

    def _write(self, folder: ResultFolder) -> int:
        """The same way to files that the engine writes; how many rows they have."""
        with self._workspace("history") as space:
            views, extent = self._views(space)
            answers = [ViewAnswer(view.columns, view.query()) for view in views]
            whole = whole_answer(space, self._spine.placed_columns(space.words), answers, self._output.added)
            space.write(whole, folder.url)
            self._counts = {view.name: view.counts for view in views}
            self._statements = tuple(space.statements)
            self._check_cancelled()
        rows = folder.finish(self.schema)
        if rows != extent.rows:
            raise StoreError(
                f"of {extent.rows:,} rows that the engine wrote {rows:,} can be read here: some of its processes "
                "may write to another folder of that name; name a folder or URL that all of them and this process reach"
            )
        return rows

    def _views(self, space: Workspace) -> tuple[list[ViewJoin], Extent]:
        """The spine as a table of the engine, and each view with its rows, to be joined to it."""
        with self._lock:
            self._spaces.add(space)
            self._check_cancelled()
        extent, spine = Extent(), self._spine
        spine.place(space, extent)
        views = [
            ViewJoin(space, str(i), view, columns, spine.bucket)
            for i, (view, columns) in enumerate(zip(self._request.views, self._output.views, strict=True))
        ]
        spine.list_entities(space, [view.keys for view in views], extent)
        for view in views:
            view.join(spine.keys, extent, self._request.as_known)
        return views, extent

    def _check_cancelled(self) -> None:
        if self._cancelled:
            raise Cancelled(CANCELLED)

    def _files(self) -> list[FileIdentity]:
        """What identifies the files that more than one statement reads: those of sources, and that of the spine."""
        read = [] if self._spine.file is None else [self._spine.file]
        spine = local_identities([SourceFile(str(file), str(file)) for file in read], "the spine")
        sources = [view.source for view in self._request.views if view.source is not None]
        return [*spine, *(file for source in sources for file in self._source_files(source))]
