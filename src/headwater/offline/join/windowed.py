"""Window views joined to a spine: events of the spine's keys are dealt into parts of whole keys, each aggregated."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
from sqlglot import exp

from headwater.definitions.feature import Feature
from headwater.errors import DataError
from headwater.offline.base import ViewInput
from headwater.offline.join.columns import ViewColumns, status_text
from headwater.offline.join.pit import Join
from headwater.offline.join.workspace import Workspace, created
from headwater.offline.trees import Tree, column, number, table_named
from headwater.offline.windows.dealt import Dealt, groups_of_parts, local_keys, part_of
from headwater.offline.windows.events import Deletes
from headwater.offline.windows.gathered import Gathered
from headwater.offline.windows.held import OVERFLOWN, HeldForm
from headwater.offline.windows.kernel import NO_EVENT, PartAnswer
from headwater.offline.windows.memory import give_back
from headwater.offline.windows.tables import TableKernel
from headwater.offline.words import Words
from headwater.planning.windows.event_ids import event_digests
from headwater.planning.windows.layout import WindowFeature
from headwater.types import STATUSES, Status

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

_ROWS = 262_144
_WORKING = 16
"""Of the budget, the share of the events of parts that are worked on together: they take some ten times as much."""
AT_ONCE = 2
"""How many parts are aggregated at once at most."""
_PART = 4 << 20
"""Bytes of the events and spine rows of parts that are worked on together at most, unless one part alone has more."""
SHOWN = 10
"""How many keys an error names."""
_SPINE = pa.schema([("n", pa.int32()), ("rn", pa.int64()), ("t", pa.int64())])
_TEXTS = pa.array([str(status) for status in STATUSES])
_NULL = STATUSES.index(Status.NULL)
_PRESENT = STATUSES.index(Status.PRESENT)


@dataclass(frozen=True)
class Bounds:
    """What a window join may take.

    Attributes:
        folder: for temporary files, gone with the run.
        budget: bytes of events, and of answers, that are held in memory.
        rows: how many rows of the answer are asked for at once.
        at_once: how many parts are aggregated at once, each on a thread.
        check: raises where the run was cancelled.
        tell: told how many bytes of events are aggregated, and how many there are.
    """

    folder: Path
    budget: int
    rows: int
    at_once: int
    check: Callable[[], None]
    tell: Callable[[int, int], None]


class _Part(NamedTuple):
    """Some parts that are worked on together.

    Attributes:
        numbers: which they are.
        spine, events: their rows.
        large: whether they take so much memory that nothing else is worked on meanwhile.
    """

    numbers: range
    spine: pa.Table
    events: pa.Table
    large: bool


class WindowJoin:
    """A window version joined to the spine.

    Args:
        space: the run's tables; `spine` is among them.
        label: part of the names of its tables.
        view: the version.
        join: the spine and the version's rows (those of `row_view`).
        features: the names of the features asked for, in order.
        size: how many rows the spine has.
        bounds: what it may take.
    """

    def __init__(
        self,
        space: Workspace,
        label: str,
        view: ViewInput,
        join: Join,
        features: Sequence[str],
        size: int,
        bounds: Bounds,
    ) -> None:
        layout = view.view.windows
        assert layout is not None
        self._space, self._label, self._view, self._join, self._size = space, label, view, join, size
        by_name = {feature.name: feature for feature in layout.features}
        self._features: list[WindowFeature] = [by_name[name] for name in features]
        self._bounds = bounds
        self._kernel = table_kernel(view, join, self._features)
        self._event_schema = pa.schema([("n", pa.int32()), *self._kernel.fields()])
        self._keys = created(space, f"keys_{label}", self._key_query())
        self._gathered = Gathered(size, HeldForm(layout, self._features), bounds.rows, bounds.folder, bounds.budget)
        self.counts = {"matched": 0, "no_row": 0, "expired": 0, "not_known": 0, "same_instant": 0}

    def run(self) -> None:
        """Read the events, and aggregate them."""
        budget = self._bounds.budget
        folder = self._bounds.folder
        events, rows = Dealt(self._event_schema, folder, budget * 3 // 4), Dealt(_SPINE, folder, budget // 4)
        try:
            for batch in self._space.stream(self._spine_query(), _SPINE, _ROWS):
                rows.add(batch.cast(_SPINE), part_of(np.asarray(batch.column("n"))))
            for batch in self._space.stream(self._event_query(), self._event_schema, _ROWS):
                events.add(self._event_batch(batch), part_of(np.asarray(batch.column("n"))))
                self._bounds.check()
            events.finish()
            rows.finish()
            deletes = self._deletes()
            most = min(_PART, budget // _WORKING)
            sizes = [e + r for e, r in zip(events.bytes, rows.bytes, strict=True)]
            parts = (
                _Part(numbers, rows.take(numbers), events.take(numbers), sum(sizes[i] for i in numbers) > most)
                for numbers in groups_of_parts(sizes, most)
            )
            for part, answer in _answered(parts, lambda part: self._answer(part, deletes), self._bounds.at_once):
                if answer is not None:
                    self._take(part.spine, answer)
                self._bounds.tell(sum(events.bytes[: part.numbers.stop]), sum(events.bytes))
                self._bounds.check()
        except BaseException:
            self._gathered.close()
            raise
        finally:
            events.close()
            rows.close()
        give_back()
        self.counts["no_row"] = self._size - self.counts["matched"]

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Of each feature f… and its status s…, and event, in the spine's order."""
        for columns in self._gathered.batches():
            yield pa.RecordBatch.from_pydict(columns)

    # what is read

    def _key_query(self) -> exp.Query:
        """Every key of the spine, numbered."""
        keys = self._join.rows.key_names
        each = exp.select(*[column(k) for k in keys]).distinct().from_(self._join.spine_rows().subquery("s"))
        row = exp.Sub(this=exp.Window(this=exp.RowNumber()), expression=number(1))
        return exp.select(row.as_("n"), *[column(k, "e") for k in keys]).from_(each.subquery("e"))

    def _with_keys(self, select: exp.Select, name: str) -> exp.Select:
        """Rows with the numbers of their keys, those of the spine's keys alone."""
        same = [column(k, "w").eq(column(k, name)) for k in self._join.rows.key_names]
        return select.join(table_named(self._keys).as_("w"), on=exp.and_(*same), copy=False)

    def _spine_query(self) -> exp.Query:
        select = exp.select(column("n", "w"), column("rn", "s"), column("t", "s"))
        return self._with_keys(select.from_(self._join.spine_rows().subquery("s")), "s")

    def _event_query(self) -> exp.Query:
        names = [name for name in self._event_schema.names if name not in ("n", "id", "has_id")]
        names += ["event_id"] if self._kernel.ids else []
        rows = self._join.rows.events(self._kernel.columns, None, self._join.upper).subquery("r", copy=False)
        select = exp.select(column("n", "w"), *[column(name, "r") for name in names]).from_(rows, copy=False)
        last: list[Tree] = [column("event", "r") <= number(self._join.last)]
        if self._join.as_known:
            last.append(column("created", "r") <= number(self._join.last))
        return self._with_keys(select, "r").where(*last)

    def _deletes(self) -> Deletes | None:
        given = self._join.rows.deletes
        if given is None:
            return None
        schema = pa.schema([(name, pa.int64()) for name in ("n", "through", "position")])
        select = exp.select(column("n", "w"), column("through", "d"), column("position", "d"))
        query = self._with_keys(select.from_(table_named(given).as_("d")), "d")
        found = pa.Table.from_batches([b.cast(schema) for b in self._space.stream(query, schema, _ROWS)], schema)
        return Deletes(*(found.column(name).to_numpy() for name in schema.names))

    # what is made of it

    def _event_batch(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """A batch of events as it is dealt."""
        schema = self._event_schema
        given = {name: batch.column(name) for name in batch.schema.names}
        if self._kernel.ids:
            digests, present = event_digests(given["event_id"], np.asarray(given["event"]))
            given["id"], given["has_id"] = pa.array(digests), pa.array(present)
        arrays = [given[f.name] if given[f.name].type == f.type else given[f.name].cast(f.type) for f in schema]
        return pa.RecordBatch.from_arrays(arrays, schema=schema)

    def _answer(self, part: _Part, deletes: Deletes | None) -> PartAnswer | None:
        """The answer of some parts; None: they have no row."""
        if not part.spine.num_rows:
            return None
        return self._kernel.answer(
            local_keys(part.spine.column("n").to_numpy(), part.numbers),
            part.spine.column("t").to_numpy(),
            local_keys(part.events.column("n").to_numpy(), part.numbers),
            part.events,
            None if deletes is None else _of_parts(deletes, part.numbers),
        )

    def _take(self, spine: pa.Table, answer: PartAnswer) -> None:
        """Keep the answer of some rows of the spine."""
        for feature, found in zip(self._features, answer.features, strict=True):
            if found.overflow is not None and feature.errors == "raise":
                self._refuse_overflow(feature, spine.column("n").to_numpy()[answer.rows][found.overflow])
        self._gathered.put(spine.column("rn").to_numpy(), answer)
        matched, at = answer.newest != NO_EVENT, spine.column("t").to_numpy()
        self.counts["matched"] += int(matched.sum())
        self.counts["same_instant"] += int((matched & (answer.newest == at[answer.rows])).sum())

    def _refuse_overflow(self, feature: WindowFeature, keys: Ints) -> None:
        """Refuse sums beyond 64 bits.

        Raises:
            DataError: always.
        """
        some = np.unique(keys)
        names = [f"k{i}" for i in range(len(self._view.view.keys))]
        found: list[tuple[Any, ...]] = []
        if names:
            first = [exp.convert(int(key)) for key in some[:SHOWN]]
            query = exp.select(*[column(k) for k in names]).from_(table_named(self._keys))
            found = self._space.rows(query.where(column("n").isin(*first)).order_by(*[column(k) for k in names]))
        raise overflow(self._view, feature, found, len(some))


def table_kernel(view: ViewInput, join: Join, features: Sequence[WindowFeature]) -> TableKernel:
    """What computes some features of a window version from the rows of a join."""
    resolved = view.view
    assert resolved.windows is not None
    return TableKernel(
        resolved.windows,
        tuple(features),
        dict(resolved.view.columns),
        resolved.view.source.event_id is not None,
        join.rows.lag,
        bool(join.rows.log),
        join.as_known,
    )


def overflow(view: ViewInput, feature: WindowFeature, keys: Sequence[tuple[Any, ...]], count: int) -> DataError:
    """The error of sums beyond 64 bits.

    Args:
        view: the version.
        feature: whose sums.
        keys: the join keys of the first of them, none where the view has none.
        count: of how many keys.
    """
    named = view.view.keys
    shown = ", ".join(", ".join(f"{k.name}={v!r}" for k, v in zip(named, row, strict=True)) for row in keys)
    more = f" and {count - SHOWN:,} more" if count > SHOWN else ""
    shown = f" for {shown}{more}" if named else ""
    return DataError(
        f"view {view.view.name!r} ({view.view.version}), feature {feature.name!r}: the sum of a window is beyond 64 "
        f'bits{shown}; errors="null" on the aggregation gives NULL there'
    )


def _answered(
    parts: Iterable[_Part], function: Callable[[_Part], PartAnswer | None], at_once: int
) -> Iterator[tuple[_Part, PartAnswer | None]]:
    """Parts with their answers, in order; so many are worked on at once, large ones alone."""
    if at_once < 2:
        yield from ((part, function(part)) for part in parts)
        return
    with ThreadPoolExecutor(at_once, "headwater-windows") as threads:
        waiting: deque[tuple[_Part, Future[PartAnswer | None]]] = deque()
        for part in parts:
            while len(waiting) > (0 if part.large else at_once - 1):
                first, answer = waiting.popleft()
                yield first, answer.result()
            if part.large:
                # on this thread: the heaps of others keep what is freed, a fifth more for one hot key
                yield part, function(part)
            else:
                waiting.append((part, threads.submit(function, part)))
        for first, answer in waiting:
            yield first, answer.result()


def _of_parts(deletes: Deletes, numbers: range) -> Deletes:
    """The tombstones of the keys of some parts, numbered among themselves."""
    part = part_of(deletes.key)
    there = (part >= numbers.start) & (part < numbers.stop)
    return Deletes(local_keys(deletes.key[there], numbers), deletes.through[there], deletes.position[there])


@dataclass(frozen=True)
class WindowColumns(ViewColumns):
    """What a window view adds to the answer: each feature has a status of its own."""

    def arrays(self, batch: pa.RecordBatch, numbers: NDArray[np.int64]) -> dict[str, pa.Array]:
        status = [np.asarray(batch.column(f"s{i}")) for i in range(len(self.features))]
        values = [
            _with_default(batch.column(f"f{i}"), status[i] if feature.default is not None else None, feature)
            for i, feature in enumerate(self.features)
        ]
        found = {name: values[i] for name, i in self.outputs.items()}
        if "status" in self.include:
            shown = [_TEXTS.take(pa.array(np.where(each == OVERFLOWN, _NULL, each))) for each in status]
            found |= {f"{name}__status": shown[i] for name, i in self.outputs.items()}
        if "event_time" in self.include:
            found[self.event_time] = batch.column("event").cast(pa.timestamp("us", tz="UTC"))
        return found

    def expressions(self, words: Words, rows: str, defaults: Sequence[Tree | None]) -> dict[str, Tree]:
        codes: list[Tree] = [column(f"s{i}", rows) for i in range(len(self.features))]
        absent = [
            exp.not_(exp.In(this=code.copy(), expressions=[number(_PRESENT), number(OVERFLOWN)])) for code in codes
        ]
        overflown = exp.Literal.string(str(Status.NULL))
        statuses = [status_text(code, overflown.copy()) for code in codes]
        return self._expressions(words, rows, defaults, absent, statuses)


def _with_default(values: pa.Array, status: NDArray[Any] | None, feature: Feature) -> pa.Array:
    """The values, and the feature's default where a window has none; an overflow stays NULL."""
    if status is None:
        return values
    default = pa.array([feature.default], feature.dtype.arrow)
    absent = (status != _PRESENT) & (status != OVERFLOWN)
    places = np.where(absent, len(values), np.arange(len(values)))
    return pa.concat_arrays([values, default]).take(pa.array(places))
