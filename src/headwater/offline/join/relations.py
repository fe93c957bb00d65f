"""The rows of a view as the point-in-time query sees them: keys, times in microseconds, and an ordinal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa
from sqlglot import exp

from headwater.clock import MIN_MICROS
from headwater.offline.index.folder import RowIndexes
from headwater.offline.trees import (
    BIGINT,
    TINYINT,
    EventRange,
    Tree,
    big,
    column,
    equal,
    is_not_null,
    number,
    union_all,
)
from headwater.types import DType


@dataclass(frozen=True)
class Relation:
    """Rows in one place: expressions over one item of FROM.

    Attributes:
        table: the item of FROM.
        ordinal: a number of its own for each row, from 0 to `size` - 1; of log rows the position in the log.
        size: the end of the ordinals.
        keys: the join keys, in order, in the form that the spine's have (integers as int64).
        event: event time in microseconds, rounded up; None where rows are valid always.
        created: created time in microseconds, rounded up; None: `delay` after the event time.
        features: feature → its value in its dtype.
        event_id: what tells events of the same times apart, where the source names it; of the log's rows None.
        arrival: of the log's rows, when they arrived (microseconds).
        stated_id: of the log's rows, the event id that they carry, where the source names one.
        event_range: a filter for the engine's scan.
        bounds: the least and greatest event and created time, where files tell; at least as wide as the rows'.
        seekable: whether a range of ordinals is read without reading the others.
        fixed: whether a later statement sees the same rows, whatever becomes of the files that they are from.
    """

    table: Tree
    ordinal: Tree
    size: int
    keys: tuple[Tree, ...]
    event: Tree | None
    created: Tree | None
    features: Mapping[str, Tree]
    event_range: EventRange | None = None
    bounds: tuple[int, int, int, int] | None = None
    seekable: bool = False
    fixed: bool = True
    event_id: Tree | None = None
    arrival: Tree | None = None
    stated_id: Tree | None = None


@dataclass(frozen=True)
class EngineTable:
    """Rows that the engine has itself.

    Attributes:
        table: an item of FROM.
        schema: its columns and their Arrow types.
    """

    table: Tree
    schema: pa.Schema


@dataclass(frozen=True)
class ViewRelations:
    """All rows of a view version: its source's and its log's.

    Attributes:
        source: the source's rows; None where only the log has any.
        log: the log's rows that have all columns of the version.
        key_count: how many join keys there are; a global view has one that is the same in every row.
        timed: whether rows have an event time.
        delay: microseconds after its event time at which a source row without a created time is known.
        null_times: how many rows are left out for a NULL event or created time.
        repeated_times, skipped_times: how many of the source's times are in an hour that a clock change repeats, or
            skips.
        deletes: a table of (k0…, through, position): D and P of each tombstone; None where there are none.
        hidden: a table of the rows (by their names, `row_names`) that a delete hides from reads at `until` and later,
            or None.
        lacking: a feature's column that some of the source's files lack → which.
        unreadable: how many rows of the log are left out since nothing could read their values back.
        file_rows: file of the source → how many rows it has, of those that are read whole, where that is known.
        numbered_by_key: whether ordinals are a row's own among the rows of its key alone.
        types: Arrow types of k0… and `event_id`, by which an engine that settles ties elsewhere gives its rows.
        indexes: those that are kept of the source's rows; None: of these none is.
        row_count: how many rows the source has, where that is known; else 0.
        only: the condition of the rows that are read, of their keys k0…; None: all are.
    """

    source: Relation | None
    log: tuple[Relation, ...]
    key_count: int
    timed: bool
    delay: int
    null_times: int = 0
    hidden: str | None = None
    deletes: str | None = None
    lacking: Mapping[str, str] = field(default_factory=dict)
    unreadable: int = 0
    file_rows: Mapping[str, int] = field(default_factory=dict)
    repeated_times: int = 0
    skipped_times: int = 0
    numbered_by_key: bool = False
    types: Mapping[str, pa.DataType] = field(default_factory=dict)
    indexes: RowIndexes | None = None
    row_count: int = 0
    only: Callable[[Sequence[Tree]], Tree] | None = None

    @property
    def lag(self) -> int | None:
        """How long after its event time every row is known, where that is the same for all; None where it differs."""
        if self.log or self.source is None or self.source.created is not None:
            return None
        return self.delay if self.timed else 0

    @property
    def bounds(self) -> tuple[int, int, int, int] | None:
        """The least and greatest event and created time, where they are known without reading."""
        return self.source.bounds if self.source is not None and not self.log else None

    @property
    def event_id(self) -> bool:
        """Whether the source's rows have an event id."""
        return self.source is not None and self.source.event_id is not None

    @property
    def source_size(self) -> int:
        """How many ordinals the source's rows take; those of log rows begin there."""
        return 0 if self.source is None else self.source.size

    @property
    def size(self) -> int:
        """The end of all ordinals."""
        return self.source_size + max((part.size for part in self.log), default=0)

    @property
    def key_names(self) -> list[str]:
        """The names of the key columns."""
        return [f"k{i}" for i in range(max(1, self.key_count))]

    @property
    def row_names(self) -> list[str]:
        """The columns that together name a row."""
        return [*(self.key_names if self.numbered_by_key else ()), "ordinal"]

    def same_row(self, left: str, right: str) -> Tree:
        """The condition that two items of FROM name the same row."""
        return exp.and_(*[equal(column(name, left), column(name, right)) for name in self.row_names])

    def hiding(self, hidden: str, deletes: str) -> ViewRelations:
        """The same rows with those in `hidden` (the names of a row, until) not seen by reads at `until` and later."""
        return replace(self, hidden=hidden, deletes=deletes)

    def _parts(self) -> list[tuple[Relation, Tree]]:
        """Each relation with the ordinal of its rows among all rows."""
        parts: list[tuple[Relation, Tree]] = [] if self.source is None else [(self.source, self.source.ordinal)]
        shift = self.source_size
        for part in self.log:
            parts.append((part, exp.Add(this=part.ordinal.copy(), expression=number(shift)) if shift else part.ordinal))
        return parts

    def narrow(
        self,
        lower: int | None = None,
        upper: int | None = None,
        *,
        nulls: bool = False,
        features: Sequence[str] = (),
        event_id: bool = False,
        more: Sequence[str] = (),
    ) -> exp.Query:
        """Columns k0…, event, created, ordinal: all that choosing needs; and f0… for features.

        Args:
            lower, upper: event times outside of these need not be read.
            nulls: whether rows with a NULL key or time are kept.
            features: the features to be among the columns.
            event_id: whether a column `event_id` is to be among them, NULL in rows of the log.
            more: other expressions that every relation has, by the names of their attributes.
        """
        queries = []
        for part, ordinal in self._parts():
            columns = [k.copy().as_(f"k{i}") for i, k in enumerate(part.keys)] or [big(0).as_("k0")]
            columns += [*self._times(part), ordinal.copy().as_("ordinal")]
            columns += [part.features[name].copy().as_(f"f{i}") for i, name in enumerate(features)]
            if event_id:
                columns.append((exp.Null() if part.event_id is None else part.event_id.copy()).as_("event_id"))
            columns += [getattr(part, name).copy().as_(name) for name in more]
            select = self._taken(exp.select(*columns, copy=False), part, lower, upper)
            if not nulls:
                needed = [*part.keys, part.event, part.created]
                select = select.where(*[is_not_null(e.copy()) for e in needed if e is not None], copy=False)
            queries.append(select)
        return union_all(queries)

    def events(self, names: Sequence[str], lower: int | None = None, upper: int | None = None) -> exp.Query:
        """All rows with keys and times, as events: k0…, event, created, origin, position, arrival, event_id, f0….

        Args:
            names: the columns, each a feature of the relations.
            lower, upper: event times outside of these need not be read.
        """
        queries = []
        for part, _ in self._parts():
            of_log = part is not self.source
            columns = [k.copy().as_(f"k{i}") for i, k in enumerate(part.keys)] or [big(0).as_("k0")]
            columns += [*self._times(part), exp.cast(number(int(of_log)), TINYINT).as_("origin")]
            columns.append((part.ordinal.copy() if of_log else big(0)).as_("position"))
            arrival, event_id = part.arrival, part.stated_id if of_log else part.event_id
            columns.append((exp.cast(exp.Null(), BIGINT) if arrival is None else arrival.copy()).as_("arrival"))
            columns.append((exp.Null() if event_id is None else event_id.copy()).as_("event_id"))
            columns += [part.features[name].copy().as_(f"f{i}") for i, name in enumerate(names)]
            needed = [*part.keys, part.event, part.created]
            select = self._taken(exp.select(*columns, copy=False), part, lower, upper)
            queries.append(select.where(*[is_not_null(e.copy()) for e in needed if e is not None], copy=False))
        return union_all(queries)

    def _taken(self, select: exp.Select, part: Relation, lower: int | None, upper: int | None) -> exp.Select:
        """Columns of the rows that are read of a part."""
        select = _within(select.from_(part.table.copy(), copy=False), part, lower, upper)
        if self.only is None or not part.keys:
            return select
        return select.where(self.only([key.copy() for key in part.keys]), copy=False)

    def _times(self, part: Relation) -> list[Tree]:
        event = part.event if part.event is not None else big(MIN_MICROS)
        return [event.copy().as_("event"), self._created(part).as_("created")]

    def _created(self, part: Relation) -> Tree:
        if part.created is not None:
            return part.created.copy()
        if part.event is None:
            return big(MIN_MICROS)
        return part.event.copy() if not self.delay else exp.Add(this=part.event.copy(), expression=number(self.delay))

    def visible(self, lower: int | None = None, upper: int | None = None) -> exp.Query:
        """`narrow`, with `until` where anything was deleted: from then on the row is hidden (NULL: never)."""
        rows = self.narrow(lower, upper)
        if self.hidden is None:
            return rows
        columns = [column(name, "n") for name in (*self.key_names, "event", "created", "ordinal")]
        return (
            exp.select(*columns, column("until", "h"))
            .from_(rows.subquery("n", copy=False), copy=False)
            .join(
                exp.to_table(self.hidden).as_("h"),
                on=self.same_row("n", "h"),
                join_type="left",
                copy=False,
            )
        )

    def wide(
        self,
        names: Sequence[str],
        *,
        keys: bool = False,
        times: bool = False,
        lower: int | None = None,
        upper: int | None = None,
    ) -> exp.Query:
        """The names of a row, f0… for the features named, and where wanted the keys k0…, event and created.

        Event times outside of `lower` and `upper` need not be read.
        """
        queries = []
        for part, ordinal in self._parts():
            values = [part.features[name].copy().as_(f"f{i}") for i, name in enumerate(names)]
            if keys or self.numbered_by_key:
                values += [k.copy().as_(f"k{i}") for i, k in enumerate(part.keys)] or [big(0).as_("k0")]
            if times:
                values += self._times(part)
            select = exp.select(ordinal.copy().as_("ordinal"), *values, copy=False).from_(part.table.copy(), copy=False)
            queries.append(_within(select, part, lower, upper))
        return union_all(queries)


def _within(select: exp.Select, part: Relation, lower: int | None, upper: int | None) -> exp.Select:
    """The rows that a range of event times reaches, where the engine can leave the others unread."""
    if part.event_range is None or (lower is None and upper is None):
        return select
    reach = part.event_range(lower, upper)
    return select if reach is None else select.where(reach, copy=False)


def key_form(dtype: DType) -> pa.DataType:
    """The Arrow type of a key in the query's form: integers and timestamps are of 64 bits."""
    return pa.int64() if dtype.name in ("int32", "timestamp") else dtype.arrow
