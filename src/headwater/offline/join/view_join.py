"""One view joined to the spine: its rows are opened, its answer is computed in the engine or here, and counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
from sqlglot import exp

from headwater.clock import duration_micros
from headwater.observer import Observer, Progress
from headwater.offline.base import ViewInput
from headwater.offline.join.carried import carry
from headwater.offline.join.choose import answer, answer_schema, choose
from headwater.offline.join.columns import ViewColumns
from headwater.offline.join.events import as_rows
from headwater.offline.join.pit import Join
from headwater.offline.join.spine import Extent, ViewKeys
from headwater.offline.join.spine_bucket import SpineBucket
from headwater.offline.join.windowed import Bounds, WindowJoin
from headwater.offline.join.windowed_in_place import WindowsInPlace
from headwater.offline.join.workspace import ROWS, Workspace, of_view

_FAR = 2**62


@dataclass(frozen=True)
class LocalWindows:
    """How windows are computed in this process.

    Attributes:
        folder: for temporary files.
        budget: bytes of events that are held in memory.
        at_once: how many parts of a view are aggregated at once.
        check: raises where the run was cancelled.
        observer: told how far a view is.
    """

    folder: Path
    budget: int
    at_once: int
    check: Callable[[], None]
    observer: Observer


class ViewJoin:
    """One view within a run: made, then given the spine (`join`), then asked for its answer once.

    Args:
        space: the run's tables.
        label: part of the names of the view's tables.
        view: the version with its rows.
        columns: what it adds to the result.
        bucket: only rows that can be joined to these of the spine; None: all.

    Attributes:
        view, columns: as given.
        rows: its source and log.
        counts: the counts of `ViewCounts` by name, once it was asked for its answer.

    Raises:
        SourceError: its rows cannot be read.
    """

    def __init__(
        self, space: Workspace, label: str, view: ViewInput, columns: ViewColumns, bucket: SpineBucket | None
    ) -> None:
        self.view, self.columns = view, columns
        self.counts: dict[str, int] = {}
        self._space, self._label = space, label
        read = as_rows(view)
        names = [f.name for f in read.view.view.row_features]
        relations = space.view_relations if view.view.windows is None else space.event_relations
        with of_view(view.view):
            rows = relations(read, label, names)
        self.rows = rows if bucket is None else replace(rows, only=bucket.of_view(space, read.view))
        self._join: Join | None = None
        self._spine_rows = 0

    @property
    def name(self) -> str:
        """The view as counts and steps name it."""
        return self.view.view.label

    @property
    def keys(self) -> ViewKeys:
        """Its rows, with the spine's column of each of their keys."""
        return self.rows, tuple(key.column for key in self.view.view.keys)

    def join(self, keys: Mapping[str, object], extent: Extent, as_known: bool) -> None:
        """Give it the spine, whose table is there by now.

        Args:
            keys: the join keys of the spine, in the order of its table.
            extent: how many rows the spine has, and of which time.
            as_known: whether a row counts only once it is known.
        """
        resolved = self.view.view
        columns = {name: f"c{i}" for i, name in enumerate(keys)}
        ttl = min(_FAR, duration_micros(resolved.view.ttl_time))
        first, last = (extent.first, extent.last) if extent.rows else (0, 0)
        own = tuple(columns[key.column] for key in resolved.keys)
        self._join = Join(self._space.table("spine"), own, self.rows, ttl, as_known, first, last)
        self._spine_rows = extent.rows

    def query(self) -> exp.Query:
        """The answer in the engine: rn, event, f0… and why or s0… of each row of the spine."""
        with of_view(self.view.view):
            return self._windows_in_place(ROWS).answer() if self._is_windows else self._query()

    def batches(self, rows: int, local: LocalWindows, stack: ExitStack) -> Iterator[pa.RecordBatch]:
        """The same in the spine's order; every statement that reads files has run on return.

        Args:
            rows: of a batch, about.
            local: how windows are computed that the engine does not.
            stack: closed with the run.
        """
        with of_view(self.view.view):
            if not self._is_windows:
                return self._space.stream(self._query(), answer_schema(self.columns.features), rows)
            if self._space.powers.by_key:
                return self._windows_in_place(rows).batches()
            return self._windows_here(rows, local, stack).batches()

    @property
    def _is_windows(self) -> bool:
        return self.view.view.windows is not None

    @property
    def _joined(self) -> Join:
        assert self._join is not None
        return self._join

    @property
    def _asked(self) -> list[str]:
        """The names of the features asked for."""
        return [feature.name for feature in self.columns.features]

    def _query(self) -> exp.Query:
        join, features, every = self._joined, self.columns.features, self.view.view.view.row_features
        if self._space.powers.carries:
            carried = carry(self._space, self._label, join, self._spine_rows, every, features)
            self._count(carried.counts)
            return carried.query
        chosen = choose(self._space, self._label, join, self._spine_rows, every, len(features))
        self._count(chosen.counts)
        return answer(join, chosen, self._asked, every)

    def _windows_in_place(self, rows: int) -> WindowsInPlace:
        """Windows that the engine has computed."""
        windows = WindowsInPlace(self._space, self._label, self.view, self._joined, self._asked, self._spine_rows, rows)
        windows.run()
        self._count(windows.counts)
        return windows

    def _windows_here(self, rows: int, local: LocalWindows, stack: ExitStack) -> WindowJoin:
        """Windows computed in this process."""
        step = f"windows of {self.name}"

        def report(done: int, total: int) -> None:
            local.observer(Progress(step, 100 * done // max(1, total), 100, "%"))

        folder = Path(stack.enter_context(TemporaryDirectory(dir=local.folder)))
        bounds = Bounds(folder, local.budget, rows, local.at_once, local.check, report)
        windows = WindowJoin(self._space, self._label, self.view, self._joined, self._asked, self._spine_rows, bounds)
        windows.run()
        local.observer(Progress(step, 100, 100, "%", finished=True))
        self._count(windows.counts)
        return windows

    def _count(self, counts: Mapping[str, int]) -> None:
        rows = self.rows
        self.counts.update(counts, null_times=rows.null_times)
        if rows.repeated_times or rows.skipped_times:
            self.counts.update(repeated_times=rows.repeated_times, skipped_times=rows.skipped_times)
        if rows.unreadable:
            self.counts["unreadable"] = rows.unreadable
