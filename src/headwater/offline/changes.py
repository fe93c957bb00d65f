"""The newest known row of each key, for materialization: the order and the ties of history, without a spine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from sqlglot import exp

from headwater.clock import MIN_MICROS
from headwater.definitions.feature import Feature
from headwater.errors import EntityKeyError
from headwater.offline import ties
from headwater.offline.base import ChangeCounts, ChangesRequest
from headwater.offline.packing import Packing
from headwater.offline.relations import Tree, ViewRows, column, is_not_null, number
from headwater.offline.workspace import Workspace
from headwater.planning.resolve import ResolvedView
from headwater.planning.tables import match_key

_ROWS = 65_536


def run_changes(
    request: ChangesRequest, counts: ChangeCounts, workspace: Callable[[str], Workspace]
) -> Iterator[pa.RecordBatch]:
    """The rows that a run puts; see `OfflineEngine.changes`."""
    view = request.view.view
    features = sorted(view.view.feature_list, key=lambda f: f.name)
    with workspace(f"read {view.name}@{view.version}") as space:
        after = None if request.source_after == MIN_MICROS else request.source_after
        rows = space.view_rows(request.view, "0", [f.name for f in features], after)
        counts.lacking.update(rows.lacking)
        counts.unreadable += rows.unreadable
        window = _Window(rows, request, _wanted_keys(space, request))
        packing = _counted(space, window, counts)
        counts.skipped += space.skipped_rows(request.view, request.since.position, request.log_until)
        if packing is None:
            return
        newest = _newest(space, window, packing)
        newest = _settled(space, window, newest, features)
        for batch in space.stream(_answer(window, newest, features), _ROWS):
            yield _shaped(batch, view, features)


@dataclass(frozen=True)
class _Window:
    """The rows that a run takes.

    Attributes:
        rows: the view's rows.
        request: the run.
        keys: a table of the keys wanted (k0…); None for all.
    """

    rows: ViewRows
    request: ChangesRequest
    keys: str | None

    @property
    def known(self) -> Tree:
        """known_at of row r."""
        return exp.Greatest(this=column("event", "r"), expressions=[column("created", "r")])

    @property
    def position(self) -> Tree:
        """The position of a log row r."""
        return column("ordinal", "r") - number(self.rows.source_size)

    @property
    def from_log(self) -> Tree:
        """Whether row r is the log's."""
        return column("ordinal", "r") >= number(self.rows.source_size)

    def taken(self) -> Tree:
        """Row r is in the run's window, apart from `end`."""
        request = self.request
        source: Tree = exp.Not(this=self.from_log)
        if request.source_after != MIN_MICROS:
            source = exp.and_(source, self.known > number(request.source_after))
        log = exp.and_(self.from_log, self.position <= number(request.log_until))
        if request.since.end != MIN_MICROS:
            fresh = exp.or_(self.position > number(request.since.position), self.known > number(request.since.end))
            log = exp.and_(log, fresh)
        return exp.or_(source, log)

    def select(self, *columns: Tree, nulls: bool = False) -> exp.Select:
        """Columns of the rows r, of the wanted keys alone."""
        select = exp.select(*columns).from_(self.rows.narrow(nulls=nulls).subquery("r"))
        if self.keys is not None:
            same = [column(k, "w").eq(column(k, "r")) for k in self.rows.key_names]
            select = select.join(exp.to_table(self.keys).as_("w"), on=exp.and_(*same), join_type="semi")
        return select


def _wanted_keys(space: Workspace, request: ChangesRequest) -> str | None:
    """The table of the keys asked for, in the query's form."""
    if request.keys is None:
        return None
    columns = {}
    for i, key in enumerate(request.view.view.keys):
        values = match_key(request.keys.column(key.name), key.dtype, f"key {key.name!r}", EntityKeyError)
        columns[f"k{i}"] = values.cast(pa.int64()) if key.dtype.name == "timestamp" else values
    table = pa.table(columns or {"k0": pa.array(np.zeros(request.keys.num_rows, np.int64))})
    space.load("wanted", table.schema, iter(table.to_batches()))
    return space.table("wanted")


def _counted(space: Workspace, window: _Window, counts: ChangeCounts) -> Packing | None:
    """Fill the counts of what is read and left out; the packing of what is taken, None where nothing is."""
    keys = exp.and_(*[is_not_null(column(k, "r")) for k in window.rows.key_names])
    timed = exp.and_(is_not_null(column("event", "r")), is_not_null(column("created", "r")))
    inside, end = exp.and_(timed, window.taken()), number(window.request.end)
    taken = exp.and_(keys, inside, window.known <= end)

    def count(condition: Tree) -> Tree:
        return exp.CountIf(this=condition)

    def over(function: type[exp.AggFunc], name: str) -> Tree:
        return function(this=exp.Case().when(taken, column(name, "r")))

    query = window.select(
        count(taken),
        count(exp.and_(exp.not_(keys), inside, window.known <= end)),
        count(exp.and_(keys, inside, window.known > end)),
        *[over(f, name) for name in ("event", "created") for f in (exp.Min, exp.Max)],
        nulls=True,
    )
    found = space.rows(query)[0]
    counts.rows += int(found[0] or 0)
    counts.null_keys += int(found[1] or 0)
    counts.null_times += window.rows.null_times
    counts.future += int(found[2] or 0)
    if not found[0]:
        return None
    return Packing.of((int(found[3]), int(found[4])), (int(found[5]), int(found[6])), window.rows.size, window.rows.lag)


def _newest(space: Workspace, window: _Window, packing: Packing) -> str:
    """A table of (ordinal, event, created, tie): the greatest row of each key."""
    keys = [column(k, "r") for k in window.rows.key_names]
    conditions = [window.taken(), window.known <= number(window.request.end)]
    if window.rows.hidden is not None:
        gone = exp.select(column("ordinal")).from_(exp.to_table(window.rows.hidden))
        conditions.append(exp.Not(this=exp.In(this=column("ordinal", "r"), query=gone.subquery())))
    if packing.fits and space.powers.wide_integers:
        packed = packing.pack(column("event", "r"), column("created", "r"), column("ordinal", "r"))
        greatest, low = exp.Max(this=column("p")), exp.Max(this=packing.inverted(column("p")))
        rows = window.select(*keys, packed.as_("p")).where(*conditions).subquery("q")
        found = exp.select(greatest.as_("best"), low.as_("low")).from_(rows)
        found = found.group_by(*[column(k) for k in window.rows.key_names])
        tie = packing.ordinal(column("best")).neq(packing.ordinal(packing.inverted(column("low"))))
        best = column("best")
        query = exp.select(
            packing.ordinal(best).as_("ordinal"),
            packing.event(best).as_("event"),
            packing.created(best).as_("created"),
            tie.as_("tie"),
        ).from_(found.subquery("b"))
    else:
        query = _ranked(window, keys, conditions)
    space.create("newest", query)
    return space.table("newest")


def _ranked(window: _Window, keys: list[exp.Column], conditions: list[Tree]) -> exp.Select:
    """The same by ranking; every row may have a tie."""
    names = ["ordinal", "event", "created"]
    order = [exp.Ordered(this=column(n, "r"), desc=True) for n in ("event", "created", "ordinal")]
    place = exp.Window(this=exp.RowNumber(), partition_by=[k.copy() for k in keys], order=exp.Order(expressions=order))
    rows = window.select(*[column(n, "r") for n in names], place.as_("place")).where(*conditions).subquery("q")
    return (
        exp.select(*[column(n) for n in names], exp.true().as_("tie")).from_(rows).where(column("place").eq(number(1)))
    )


def _settled(space: Workspace, window: _Window, newest: str, features: list[Feature]) -> str:
    """The same table with exact ties decided by rule 5."""
    if window.rows.source is None:
        return newest
    space.create("heads", ties.newest_heads(newest, window.rows))
    heads = space.table("heads")
    if not space.rows(exp.select(exp.Count(this=exp.Star())).from_(exp.to_table(heads)))[0][0]:
        return newest
    space.create("members", ties.members(window.rows, heads, features))
    space.create("winners", ties.winners(space.table("members"), features))
    space.create("settled", ties.settled(newest, space.table("winners"), ["event", "created"]))
    return space.table("settled")


def _answer(window: _Window, newest: str, features: list[Feature]) -> exp.Select:
    """event, created, position (NULL: the source's), the keys k0… and the features f0… of the chosen rows, by key."""
    position = exp.Case().when(exp.Not(this=window.from_log), exp.Null()).else_(window.position)
    names = [f.name for f in features]
    wide = window.rows.wide(names, keys=True).subquery("w")
    return (
        exp.select(
            column("event", "r"),
            column("created", "r"),
            position.as_("position"),
            *[column(k, "w") for k in window.rows.key_names],
            *[column(f"f{i}", "w") for i in range(len(names))],
        )
        .from_(exp.to_table(newest).as_("r"))
        .join(wide, on=column("ordinal", "r").eq(column("ordinal", "w")))
        # a store that keeps its keys in order then fills each page once
        .order_by(*[column(k, "w") for k in window.rows.key_names])
    )


def _shaped(batch: pa.RecordBatch, view: ResolvedView, features: list[Feature]) -> pa.RecordBatch:
    """A batch as `OfflineEngine.changes` promises it."""
    position = batch.column("position")
    columns = {key.name: batch.column(f"k{i}").cast(key.dtype.arrow) for i, key in enumerate(view.keys)}
    columns["__event"], columns["__created"] = batch.column("event"), batch.column("created")
    columns["__origin"] = position.is_valid().cast(pa.int8())
    columns["__position"] = position.fill_null(0).cast(pa.int64())
    values = {f.name: batch.column(f"f{i}").cast(f.dtype.arrow) for i, f in enumerate(features)}
    columns |= {f.name: values[f.name] for f in view.view.feature_list}
    return pa.RecordBatch.from_pydict(columns)
