"""A point-in-time join from spine to batches: the query of each view is run, and their columns set side by side."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sqlglot import exp

from headwater import forks
from headwater.clock import duration_micros
from headwater.definitions.source import Source
from headwater.errors import Cancelled, SourceError, SpineError, StoreError, UsageError
from headwater.observer import Observer, Progress, silent
from headwater.offline.base import BUDGET, HistoryRequest, ViewInput
from headwater.offline.files.local import SourceFile, local_identities
from headwater.offline.files.queried import in_project
from headwater.offline.join import pit
from headwater.offline.join.batches import one_batch
from headwater.offline.join.carried import carry
from headwater.offline.join.choose import answer, answer_schema, choose
from headwater.offline.join.columns import ViewColumns, view_columns
from headwater.offline.join.events import as_rows
from headwater.offline.join.pit import Join
from headwater.offline.join.placed_spine import PlacedSpine
from headwater.offline.join.relations import ViewRelations, key_form
from headwater.offline.join.spine import LocalSpine, Seen, Spine, open_spine
from headwater.offline.join.spine_bucket import SpineBucket
from headwater.offline.join.windowed import Bounds, WindowColumns, WindowJoin
from headwater.offline.join.windowed_in_place import WindowsInPlace
from headwater.offline.join.workspace import CANCELLED, ROWS, Workspace, of_view, row_ids
from headwater.offline.join.written import ViewAnswer, whole_answer
from headwater.offline.result_folder import ResultFolder, result_folder
from headwater.offline.trees import BIGINT, Tree, column, number, table_named
from headwater.planning.files import FileIdentity, moved_files
from headwater.planning.resolved import FULL_NAMES
from headwater.types import DType

_FAR = 2**62
READS = 3
"""How often a join is run whose files are replaced meanwhile."""


class _Moved(Exception):
    """Files were replaced while they were read."""


@dataclass
class _Part:
    """One view within a run."""

    input: ViewInput
    label: str
    rows: ViewRelations
    columns: ViewColumns
    join: Join | None = None
    counts: dict[str, int] = field(default_factory=dict)


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
        self._request = request
        self._folder, self._observer = folder, observer
        self._budget, self._at_once = budget, at_once
        self._files, self._writes_to = files, writes_to
        self._workspace = workspace
        self._keys: dict[str, DType] = {}
        for view in request.views:
            for key in view.view.keys:
                self._keys.setdefault(key.column, key.dtype)
        self._bucket = SpineBucket.of(request.bucket, request.views, self._keys)
        self._statements: tuple[str, ...] | None = None
        self._counts: dict[str, dict[str, int]] = {}
        self._lock, self._cancelled = forks.lock(), False
        self._spaces: weakref.WeakSet[Workspace] = weakref.WeakSet()
        self._columns = [
            view_columns(ViewColumns if view.view.windows is None else WindowColumns, view.view, i, request)
            for i, view in enumerate(request.views)
        ]
        self.spine: Spine | None = None
        if request.spine is None:
            self._check_entities()
            self._spine_schema = pa.schema([(name, dtype.arrow) for name, dtype in self._keys.items()])
        else:
            self.spine = self._opened(folder, base)
            self._spine_schema = self.spine.schema
        added = [f for columns in self._columns for f in columns.fields]
        self._order = _order(request, self._columns)
        taken = set(self._spine_schema.names)
        for f in added:
            if f.name in taken:
                raise UsageError(
                    f"{f.name!r} would appear twice in the result: the spine has a column of that name; "
                    f"{FULL_NAMES} or rename() the feature"
                )
        by_name = {f.name: f for f in added}
        self._schema = pa.schema([*self._spine_schema, *(by_name[name] for name in self._order)])

    def _opened(self, folder: Path, base: Path) -> Spine:
        request = self._request
        space = self._workspace("spine")

        def query(sql: str) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
            try:
                sql = in_project(sql, base, "the spine's query")
                space.check_sql(sql, "the spine's query")
            except SourceError as bad:
                raise SpineError(str(bad)) from bad
            try:
                schema, batches = space.schema_of(sql), _named_spine(space.stream_sql(sql, 100_000))
            except SourceError as bad:
                raise SpineError(f"the spine's query does not run: {bad}") from bad
            # within another query DuckDB renames columns that differ only in case
            first = next(batches, None)
            return (schema, batches) if first is None else (first.schema, itertools.chain([first], batches))

        def placed(sql: str) -> Spine | None:
            try:
                held = space.query_table(sql)
            except SourceError as bad:
                raise SpineError(str(bad)) from bad
            if held is None:
                return None
            return PlacedSpine(held, space.words, self._keys, request.timestamp_column, request.at, sql)

        with space:
            return open_spine(
                request.spine,
                self._keys,
                request.timestamp_column,
                request.at,
                query=query,
                place=placed,
                folder=folder,
                base=base,
                timezone=request.timezone,
                bucket=self._bucket,
            )

    def _check_entities(self) -> None:
        """Without a spine every view must be found by the same keys."""
        if self._request.at is None:
            raise UsageError("without a spine give at=…: the instant at which every known entity is read")
        keyed = [v.view for v in self._request.views if v.view.keys]
        timed = [v for v in keyed if v.view.source.event_time is not None] or keyed
        names = {k.column for k in timed[0].keys} if timed else set()
        for view in timed:
            if {k.column for k in view.keys} != names:
                raise UsageError(
                    f"views {timed[0].label!r} and {view.label!r} have different join keys, "
                    "so there is no list of entities for both; give a spine"
                )
        for view in keyed:
            missing = [k.column for k in view.keys if k.column not in names]
            if missing:
                raise UsageError(
                    f"view {view.label!r} is joined by {', '.join(missing)}, which no list of entities has; "
                    "give a spine"
                )
        self._keys = {k.column: k.dtype for k in timed[0].keys} if timed else {}

    @property
    def schema(self) -> pa.Schema:
        """The spine's columns, then the features' as asked for."""
        return self._schema

    @property
    def spine_columns(self) -> Sequence[str]:
        """The names of the spine's columns."""
        return list(self._spine_schema.names)

    @property
    def timestamp_column(self) -> str | None:
        return None if self.spine is None or self.spine.at is not None else self.spine.timestamp_column

    def time_range(self) -> tuple[int, int] | None:
        if self.spine is not None:
            return self.spine.time_range()
        at = self._request.at
        return None if at is None else (at, at)

    def row_numbers(self) -> pa.Array:
        if not isinstance(self.spine, LocalSpine):
            raise UsageError(
                "rows have numbers in a spine that is a table or a file alone: give the spine a column that tells its "
                "rows apart"
            )
        return pa.array(self.spine.row_numbers)

    def counts(self) -> Mapping[str, Mapping[str, int]]:
        """Per view label: the counts of `ViewCounts`; complete once batches were consumed."""
        return self._counts

    def clock_changes(self) -> tuple[int, int]:
        return (0, 0) if self.spine is None else (self.spine.repeated, self.spine.skipped)

    def statements(self) -> Sequence[str]:
        """Every statement of a run; where none was consumed yet, the join is run for them."""
        if self._statements is None:
            for _ in self.batches(ROWS):
                break
        return self._statements or ()

    def cancel(self) -> None:
        with self._lock:
            self._cancelled = True
            for space in self._spaces:
                space.cancel()

    def _check_cancelled(self) -> None:
        if self._cancelled:
            raise Cancelled(CANCELLED)

    @property
    def known_rows(self) -> int | None:
        return None if self.spine is None or self._bucket is not None else self.spine.size

    def batches(self, rows: int) -> Iterator[pa.RecordBatch]:
        """Run the join; batches of `rows` rows and a last one of fewer, in the spine's order.

        Files that several statements read must be the same for all of them: where one is replaced meanwhile the join
        is run again, twice at most.

        Raises:
            SourceError: a file that is replaced again and again.
            Cancelled: `cancel` was called.
        """
        moved: frozenset[str] = frozenset()
        for _ in range(READS):
            before = self._listed()
            with closing(self._run(rows)) as run:
                try:
                    first = next(run, None)
                except (SourceError, SpineError):
                    moved = self._moved(before)
                    if not moved:
                        raise
                    continue
                # every statement that reads files has done so before the first batch: each ends with a sort
                moved = self._moved(before)
                if moved:
                    continue
                if first is not None:
                    yield first
                    del first
                    yield from run
                return
        raise self._inconsistent(moved)

    def _inconsistent(self, moved: frozenset[str]) -> SourceError:
        return SourceError(
            f"{_names(moved)} changed while it was read, {READS} times in a row: the result would not be consistent; "
            "write new files instead of changing old ones, or read the source while nobody writes it"
        )

    def write(self, location: str) -> int | None:
        names = {name.casefold() for name in self._schema.names}
        ordered = isinstance(self.spine, LocalSpine) or len(names) < len(self._schema)
        if ordered or not self._writes_to(location):
            return None
        moved: frozenset[str] = frozenset()
        for _ in range(READS):
            before = self._listed()
            with suppress(_Moved), result_folder(location) as folder:
                try:
                    rows = self._write(folder)
                except (SourceError, SpineError):
                    moved = self._moved(before)
                    if not moved:
                        raise
                    raise _Moved from None
                moved = self._moved(before)
                if moved:
                    raise _Moved
                return rows
        raise self._inconsistent(moved)

    def _write(self, folder: ResultFolder) -> int:
        with self._workspace("history") as space:
            self._begin(space)
            seen = Seen()
            parts = self._prepared(space, seen)
            answers = []
            for i, part in enumerate(parts):
                with of_view(part.input.view):
                    answers.append(ViewAnswer(part.columns, self._answer(space, part, str(i), seen)))
            spine = self._entity_columns(space) if self.spine is None else self.spine.placed_columns()
            space.write(whole_answer(space, spine, answers, self._order), folder.url)
            self._counts = {part.label: part.counts for part in parts}
            self._statements = tuple(space.statements)
            self._check_cancelled()
        rows = folder.finish(self._schema)
        if rows != seen.rows:
            raise StoreError(f"the offline engine wrote {rows:,} of {seen.rows:,} rows; please report this")
        return rows

    def _listed(self) -> list[FileIdentity]:
        """What identifies the files that more than one statement reads: those of sources, and that of the spine."""
        found = [] if self.spine is None or self.spine.file is None else [self.spine.file]
        spine = local_identities([SourceFile(str(file), str(file)) for file in found], "the spine")
        return [*spine, *(f for v in self._request.views if v.source is not None for f in self._files(v.source))]

    def _moved(self, before: Sequence[FileIdentity]) -> frozenset[str]:
        """Which of these files are others by now, or gone."""
        if not before:
            return frozenset()
        try:
            changed, gone = moved_files(before, self._listed())
        except SourceError:  # none is there
            return frozenset(file.path for file in before)
        return changed | gone

    def _run(self, rows: int) -> Generator[pa.RecordBatch, None, None]:
        with self._workspace("history") as space, ExitStack() as stack:
            self._begin(space)
            seen = Seen()
            parts = self._prepared(space, seen)
            streams = []
            for i, part in enumerate(parts):
                with of_view(part.input.view):
                    joined = self._joined(space, part, str(i), seen, rows, stack)
                streams.append(_Aligned(joined, len(part.columns.features)))
            self._counts = {part.label: part.counts for part in parts}
            self._statements = tuple(space.statements)
            for numbers, base in self._spine_batches(space, rows, seen):
                columns: dict[str, pa.Array] = dict(zip(base.schema.names, base.columns, strict=True))
                for part, stream in zip(parts, streams, strict=True):
                    columns.update(part.columns.arrays(stream.take(base.num_rows), numbers))
                self._statements = tuple(space.statements)
                self._check_cancelled()
                yield pa.RecordBatch.from_arrays(
                    [*base.columns, *(columns[name] for name in self._order)], schema=self._schema
                )

    def _begin(self, space: Workspace) -> None:
        """Have `cancel` end what runs in a workspace."""
        with self._lock:
            self._spaces.add(space)
            self._check_cancelled()

    def _prepared(self, space: Workspace, seen: Seen) -> list[_Part]:
        """The spine's table and each view's rows."""
        if self.spine is not None:
            self.spine.place(space, seen)
        parts = []
        for i, (view, columns) in enumerate(zip(self._request.views, self._columns, strict=True)):
            read = as_rows(view)
            names = [f.name for f in read.view.view.feature_list]
            relations = space.view_relations if view.view.windows is None else space.event_relations
            with of_view(view.view):
                rows = relations(read, str(i), names)
            if self._bucket is not None:
                rows = replace(rows, only=self._bucket.of_view(space, read.view))
            parts.append(_Part(view, view.view.label, rows, columns))
        if self.spine is None:
            self._list_entities(space, parts, seen)
        for part in parts:
            resolved = part.input.view
            place = {name: f"c{i}" for i, name in enumerate(self._keys)}
            ttl = min(_FAR, duration_micros(resolved.view.ttl_time))
            keys = tuple(place[k.column] for k in resolved.keys)
            first, last = (seen.first, seen.last) if seen.rows else (0, 0)
            part.join = Join(space.table("spine"), keys, part.rows, ttl, self._request.as_known, first, last)
        return parts

    def _list_entities(self, space: Workspace, parts: list[_Part], seen: Seen) -> None:
        at = self._request.at
        assert at is not None
        lists = _listing(parts)
        found = pit.entities(
            [(p.rows, tuple(k.column for k in p.input.view.keys)) for p in lists],
            tuple(self._keys),
            at,
            self._request.as_known,
        )
        if self._bucket is not None:
            here = self._bucket.condition(space.words, {name: column(name, "b") for name in self._keys})
            found = exp.select(exp.Star()).from_(found.subquery("b")).where(here)
        keys = [column(name).as_(f"c{i}") for i, name in enumerate(self._keys)]
        row = row_ids(space.powers).as_("rn")
        t = exp.cast(number(at), BIGINT).as_("t")
        space.create("spine", exp.select(row, t, *keys).from_(found.subquery("e")))
        count = space.rows(exp.select(exp.Count(this=exp.Star())).from_(table_named(space.table("spine"))))[0][0]
        seen.add(int(count), at, at)

    def _spine_batches(
        self, space: Workspace, rows: int, seen: Seen
    ) -> Iterator[tuple[NDArray[np.int64], pa.RecordBatch]]:
        if self.spine is not None:
            yield from self.spine.columns(space, rows, seen)
            return
        names = [f"c{i}" for i in range(len(self._keys))]
        query = (
            exp.select(column("rn"), *[column(n) for n in names])
            .from_(table_named(space.table("spine")))
            .order_by(column("rn"))
        )
        keys = [(n, key_form(dtype)) for n, dtype in zip(names, self._keys.values(), strict=True)]
        stream = _Aligned(space.stream(query, pa.schema([("rn", pa.int64()), *keys]), rows), 0)
        for start in range(0, seen.rows, rows):
            batch = stream.take(min(rows, seen.rows - start))
            arrays = [batch.column(n).cast(field.type) for n, field in zip(names, self._spine_schema, strict=True)]
            if arrays:
                base = pa.RecordBatch.from_arrays(arrays, schema=self._spine_schema)
            else:
                base = one_batch(pa.Table.from_batches([batch]).select([]), batch.num_rows)
            yield np.asarray(batch.column("rn")), base

    def _entity_columns(self, space: Workspace) -> list[tuple[str, Tree]]:
        """The entities' columns, of the table s, each in its dtype."""
        found: list[tuple[str, Tree]] = []
        for i, (name, dtype) in enumerate(self._keys.items()):
            key: Tree = column(f"c{i}", "s")
            if dtype.name == "timestamp":
                key = space.words.instant(key)
            elif key_form(dtype) != dtype.arrow:
                kind = exp.DataType.build(space.words.type_name(dtype), dialect=space.words.dialect)
                key = exp.Cast(this=key, to=kind)
            found.append((name, key))
        return found

    def _answer(self, space: Workspace, part: _Part, label: str, seen: Seen) -> exp.Query:
        """What a view gives each row of the spine, as a query in the engine."""
        assert part.join is not None
        features, every = part.columns.features, part.input.view.view.feature_list
        if part.input.view.windows is not None:
            names = [f.name for f in features]
            there = WindowsInPlace(space, label, part.input, part.join, names, seen.rows, ROWS)
            there.run()
            self._count(part, there.counts)
            return there.answer()
        if space.powers.carries:
            carried = carry(space, label, part.join, seen.rows, every, features)
            self._count(part, carried.counts)
            return carried.query
        chosen = choose(space, label, part.join, seen.rows, every, len(features))
        self._count(part, chosen.counts)
        return answer(part.join, chosen, [f.name for f in features], every)

    def _joined(
        self, space: Workspace, part: _Part, label: str, seen: Seen, rows: int, stack: ExitStack
    ) -> Iterator[pa.RecordBatch]:
        assert part.join is not None
        features = part.columns.features
        if part.input.view.windows is not None and space.powers.by_key:
            names = [f.name for f in features]
            there = WindowsInPlace(space, label, part.input, part.join, names, seen.rows, rows)
            there.run()
            self._count(part, there.counts)
            return there.batches()
        if part.input.view.windows is not None:
            folder = Path(stack.enter_context(TemporaryDirectory(dir=self._folder)))
            step = f"windows of {part.label}"

            def tell(done: int, total: int) -> None:
                self._observer(Progress(step, 100 * done // max(1, total), 100, "%"))

            bounds = Bounds(folder, self._budget, rows, self._at_once, self._check_cancelled, tell)
            windows = WindowJoin(space, label, part.input, part.join, [f.name for f in features], seen.rows, bounds)
            windows.run()
            self._observer(Progress(step, 100, 100, "%", finished=True))
            self._count(part, windows.counts)
            return windows.batches()
        return space.stream(self._answer(space, part, label, seen), answer_schema(features), rows)

    def _count(self, part: _Part, counts: Mapping[str, int]) -> None:
        part.counts.update(counts, null_times=part.rows.null_times)
        if part.rows.repeated_times or part.rows.skipped_times:
            part.counts.update(repeated_times=part.rows.repeated_times, skipped_times=part.rows.skipped_times)
        if part.rows.unreadable:
            part.counts["unreadable"] = part.rows.unreadable


def _names(paths: Iterable[str]) -> str:
    first, *more = sorted(paths)
    return first if not more else f"{first} (and {len(more)} more files)"


def _named_spine(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The answer to the spine's query, its errors named so: a value that does not cast shows only when it is read."""
    try:
        yield from batches
    except SourceError as bad:
        raise SpineError(f"the spine's query fails: {bad}") from bad


def _listing(parts: list[_Part]) -> list[_Part]:
    """The views whose keys are the entities: those with event times, where there are any."""
    keyed = [p for p in parts if p.input.view.keys]
    return [p for p in keyed if p.rows.timed] or keyed or parts


def _order(request: HistoryRequest, views: list[ViewColumns]) -> list[str]:
    """The added columns: each value, its status beside it, a view's event time behind the last of its columns."""
    last = {c.view: c.name for c in request.columns}
    order = []
    for output in request.columns:
        order.append(output.name)
        if "status" in request.include:
            order.append(f"{output.name}__status")
        if "event_time" in request.include and last[output.view] == output.name:
            order.append(views[output.view].event_time)
    return order


class _Aligned:
    """A stream of batches, taken in pieces of the size asked for."""

    def __init__(self, stream: Iterator[pa.RecordBatch], width: int) -> None:
        self._stream = stream
        self._held: list[pa.RecordBatch] = []
        self._rows = 0

    def take(self, rows: int) -> pa.RecordBatch:
        while self._rows < rows:
            batch = next(self._stream, None)
            if batch is None:
                raise SourceError(
                    f"a view's answer ends {rows - self._rows:,} rows early: its files changed while they were read; "
                    "run it again"
                )
            self._held.append(batch)
            self._rows += batch.num_rows
        if len(self._held) == 1 and self._rows == rows:
            batch, self._held, self._rows = self._held[0], [], 0
            return batch
        table = pa.Table.from_batches(self._held)
        rest = table.slice(rows)
        self._held, self._rows = (rest.to_batches() if rest.num_rows else []), rest.num_rows
        return one_batch(table.slice(0, rows), rows)
