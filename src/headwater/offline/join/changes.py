"""The newest known row of each key, for materialization: the order and the ties of history, without a spine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc
from sqlglot import exp

from headwater.clock import MIN_MICROS
from headwater.definitions.feature import Feature
from headwater.definitions.names import VALID_TO
from headwater.offline.base import ChangeCounts, ChangesRequest, ViewInput
from headwater.offline.join import ends, ties
from headwater.offline.join.buckets import in_bucket
from headwater.offline.join.carried import Row, field, tie, unhidden
from headwater.offline.join.events import as_rows
from headwater.offline.join.keys import key_columns
from headwater.offline.join.packing import Packing
from headwater.offline.join.relations import ViewRelations, key_form
from headwater.offline.join.workspace import Each, Workspace, created
from headwater.offline.sink import COUNTS, PutCounts, Puts, Shape, Sink, counts_of
from headwater.offline.trees import Tree, column, is_not_null, number, table_named
from headwater.planning.buckets import Bucket
from headwater.planning.resolved import ResolvedView

_ROWS = 65_536


def run_changes(
    request: ChangesRequest, counts: ChangeCounts, workspace: Callable[[str], Workspace]
) -> Iterator[pa.RecordBatch]:
    """The rows that a run puts; see `OfflineEngine.changes`."""
    shape = Shape.of(request.view.view)
    with workspace(_step(request)) as space:
        query = _query(request, counts, space)
        if query is not None:
            for batch in space.stream(query, _schema(shape), _ROWS):
                yield shape.shaped(batch)


def run_puts(
    request: ChangesRequest, counts: ChangeCounts, workspace: Callable[[str], EachWorkspace], sink: Sink
) -> Iterator[PutCounts]:
    """Put the same rows by a sink, where they are; see `OfflineEngine.put_changes`."""
    shape = Shape.of(request.view.view)
    with workspace(_step(request)) as space:
        query = _query(request, counts, space)
        if query is not None:
            for batch in space.each(query, _schema(shape), Puts(shape, sink), COUNTS):
                yield from counts_of(batch)


class EachWorkspace(Workspace, Protocol):
    """A workspace that runs functions over rows where they are."""

    def each(self, query: exp.Query, schema: pa.Schema, function: Each, answer: pa.Schema) -> Iterator[pa.RecordBatch]:
        """Run a function over the rows of a query; see `Backend.each`."""
        ...

    def __enter__(self) -> EachWorkspace: ...


def _step(request: ChangesRequest) -> str:
    return f"read {request.view.view.name}@{request.view.view.version}"


def _query(request: ChangesRequest, counts: ChangeCounts, space: Workspace) -> exp.Select | None:
    """The rows that a run puts; None where there are none, or they are only counted."""
    view = request.view.view
    first = request.bucket is None or request.bucket.index == 0
    if not first and not view.keys:
        return None  # a global view's one row is in the first
    features = [] if request.counted else sorted(view.view.row_features, key=lambda f: f.name)
    has_ends = bool(features) and features[-1].name == VALID_TO
    rows = space.view_relations(_input(request), "0", [f.name for f in features], request.scope)
    if request.bucket is not None and view.keys:
        rows = replace(rows, only=_in_bucket(space, view, request.bucket))
    if not first:
        rows = replace(rows, null_times=0, unreadable=0)
    every = rows
    if request.at is not None:
        if rows.source is None:
            return None
        rows = replace(rows, log=())  # ties of the source are settled without rows of the log
    if request.only_files is None:
        counts.lacking.update(rows.lacking)
        counts.unreadable += rows.unreadable
    counts.file_rows.update(rows.file_rows)
    window = _Window(rows, request, *_wanted(space, request))
    packing = _counted(space, window, counts)
    if request.at is None and not request.counted and first:
        counts.skipped += space.skipped_rows(request.view, request.since.position, request.log_until)
    if packing is None or request.counted:
        return None
    if space.powers.carries:
        newest = created(space, "newest", _carried(window, features))
        tied = exp.select(exp.CountIf(this=column("tied"))).from_(table_named(newest))
        counts.ties += int(space.rows(tied)[0][0] or 0)
        chosen = _carried_answer(window, newest, features)
        return _with_ends(every, window.wanted, chosen, len(features)) if has_ends else chosen
    newest = _newest(space, window, packing)
    newest, undecided = _settled(space, window, newest, features)
    counts.ties += undecided
    chosen = _answer(window, newest, features)
    return _with_ends(every, window.wanted, chosen, len(features)) if has_ends else chosen


def _with_ends(rows: ViewRelations, wanted: str | None, chosen: exp.Select, features: int) -> exp.Select:
    """The rows that a run puts, by key, whose last feature is when they end: until when each counts as known.

    Args:
        rows: the view's rows, those of the log too.
        wanted: a table of the keys wanted; None: all.
        chosen: what the run puts.
        features: how many columns f0… that has.
    """
    last = f"f{features - 1}"
    chosen.set("order", None)
    position = column("position", "c")
    of_log = exp.Case().when(is_not_null(position), position.copy() + number(rows.source_size)).else_(number(0))
    columns = [column(name, "d") for name in ("event", "created", "position", *rows.key_names)]
    columns += [column(f"f{i}", "d") for i in range(features - 1)]
    named = exp.select(exp.Column(this=exp.Star(), table=exp.to_identifier("c")), of_log.as_("ordinal"))
    named = named.select(column(last, "c").as_("valid_to")).from_(chosen.subquery("c", copy=False), copy=False)
    found = exp.select(*columns).from_(named.subquery("d", copy=False), copy=False)
    following = None
    if ends.says_created(rows):
        of = None if wanted is None else exp.select(*map(column, rows.key_names)).from_(table_named(wanted))
        after = ends.following_rows(rows, of).subquery("a", copy=False)
        found = found.join(after, on=ends.same_times(rows, "d", "a"), join_type="left", copy=False)
        following = column("following", "a")
    found = found.select(ends.known_end(rows, "d", following).as_(last, quoted=True))
    return found.order_by(*[column(k, "d") for k in rows.key_names], copy=False)


def _in_bucket(space: Workspace, view: ResolvedView, bucket: Bucket) -> Callable[[Sequence[Tree]], Tree]:
    """The condition of the rows whose keys, in order of name, are in a bucket."""
    places = sorted(range(len(view.keys)), key=lambda i: view.keys[i].name)
    dtypes = [view.keys[i].dtype for i in places]
    return lambda keys: in_bucket(space.words, [keys[i] for i in places], dtypes, bucket)


def _input(request: ChangesRequest) -> ViewInput:
    """The view with its data; where ties of the source are settled, rows of the log tell at most when others end."""
    view, log = as_rows(request.view), request.view.log
    alone = request.at is not None and log is not None and view.view.view.source.valid_to is None
    return replace(view, log=replace(log, parts=())) if alone and log is not None else view


@dataclass(frozen=True)
class _Window:
    """The rows that a run takes; of the source those that the request's scope has left.

    Attributes:
        rows: the view's rows.
        request: the run.
        wanted: a table of the keys wanted (k0…), with their times (event, created) where ties are settled; None: all.
        lower, upper: the least and greatest event time wanted, where they are known.
    """

    rows: ViewRelations
    request: ChangesRequest
    wanted: str | None
    lower: int | None = None
    upper: int | None = None

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

    @property
    def one_of(self) -> list[str]:
        """The columns of which each combination has one answer: the keys; the times too where ties are settled."""
        return [*self.rows.key_names, *(("event", "created") if self.request.at is not None else ())]

    def taken(self) -> Tree:
        """Row r is in the run's window, apart from `end`."""
        request = self.request
        log = exp.and_(self.from_log, self.position <= number(request.log_until))
        if request.since.end != MIN_MICROS:
            fresh = exp.or_(self.position > number(request.since.position), self.known > number(request.since.end))
            log = exp.and_(log, fresh)
        return exp.or_(exp.Not(this=self.from_log), log)

    def ended(self) -> Tree:
        """Row r is known at the end."""
        return exp.true() if self.request.at is not None else self.known <= number(self.request.end)

    def select(self, *columns: Tree, nulls: bool = False) -> exp.Select:
        """Columns of the rows r, of the wanted keys alone."""
        rows = self.rows.narrow(self.lower, self.upper, nulls=nulls)
        return self.wanting(exp.select(*columns, copy=False).from_(rows.subquery("r", copy=False), copy=False))

    def wanting(self, rows: exp.Select) -> exp.Select:
        """Of rows r those of the wanted keys."""
        if self.wanted is None:
            return rows
        same = [column(k, "w").eq(column(k, "r")) for k in self.one_of]
        return rows.join(table_named(self.wanted).as_("w"), on=exp.and_(*same), join_type="semi", copy=False)


def _wanted(space: Workspace, request: ChangesRequest) -> tuple[str | None, int | None, int | None]:
    """The table of the keys asked for, in the query's form, and the event times that it reaches."""
    given = request.keys if request.at is None else request.at
    if given is None:
        return None, None, None
    columns = key_columns(given, request.view.view.keys)
    lower = upper = None
    if request.at is not None:
        columns |= {"event": given.column("__event"), "created": given.column("__created")}
        reach = pc.min_max(given.column("__event"))
        lower, upper = reach["min"].as_py(), reach["max"].as_py()
    table = pa.table(columns)
    space.load("wanted", table.schema, iter(table.to_batches()))
    return space.table("wanted"), lower, upper


def _counted(space: Workspace, window: _Window, counts: ChangeCounts) -> Packing | None:
    """Fill the counts of what is read and left out; the packing of what is taken, None where nothing is."""
    keys = exp.and_(*[is_not_null(column(k, "r")) for k in window.rows.key_names])
    timed = exp.and_(is_not_null(column("event", "r")), is_not_null(column("created", "r")))
    inside, ended = exp.and_(timed, window.taken()), window.ended()
    taken = exp.and_(keys, inside, ended)

    def count(condition: Tree) -> Tree:
        return exp.CountIf(this=condition)

    def over(function: type[exp.AggFunc], name: str) -> Tree:
        return function(this=exp.Case().when(taken, column(name, "r"), copy=False))

    query = window.select(
        count(taken),
        count(exp.and_(exp.not_(keys), inside, ended)),
        count(exp.and_(keys, inside, exp.not_(ended))),
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
    """A table of (the names of a row, event, created, tie): the greatest row of each key."""
    keys = [column(k, "r") for k in window.one_of]
    conditions = [window.taken(), window.ended()]
    if window.rows.hidden is not None:
        gone = exp.select(number(1)).from_(table_named(window.rows.hidden).as_("h"))
        conditions.append(exp.Not(this=exp.Exists(this=gone.where(window.rows.same_row("h", "r")))))
    if packing.fits and space.powers.packed is not None:
        packed = packing.pack(column("event", "r"), column("created", "r"), column("ordinal", "r"))
        greatest, low = exp.Max(this=column("p")), exp.Max(this=packing.inverted(column("p")))
        rows = window.select(*keys, packed.as_("p")).where(*conditions, copy=False).subquery("q", copy=False)
        found = exp.select(greatest.as_("best"), low.as_("low")).from_(rows, copy=False)
        found = found.group_by(*[column(k) for k in window.one_of], copy=False)
        tie = packing.ordinal(column("best")).neq(packing.ordinal(packing.inverted(column("low"))))
        best = column("best")
        query = exp.select(
            packing.ordinal(best).as_("ordinal"),
            packing.event(best).as_("event"),
            packing.created(best).as_("created"),
            tie.as_("tie"),
        ).from_(found.subquery("b", copy=False), copy=False)
    else:
        query = _ranked(window, keys, conditions)
    space.create("newest", query)
    return space.table("newest")


def _carried(window: _Window, features: list[Feature]) -> exp.Select:
    """(k0…, event, created, ordinal, tied, f0…): the greatest row of each key, with its values."""
    row = Row(window.rows, [feature.name for feature in features], True)
    rows = exp.select(exp.Column(this=exp.Star(), table=exp.to_identifier("r")))
    rows = rows.from_(row.laid_out(window.lower, window.upper), copy=False)
    taken = window.wanting(rows).where(window.taken(), window.ended(), copy=False)
    keys = [column(k, "p") for k in window.one_of]
    greatest = [exp.Max(this=value).as_(name, quoted=True) for name, value in row.structs("p").items()]
    found = unhidden(window.rows, taken, "p", None, *[k.copy() for k in keys], *greatest)
    found = found.group_by(*[k.copy() for k in keys], copy=False)
    names = ["event", "created", "ordinal", *[f"f{i}" for i in range(len(features))]]
    best = column("best", "b")
    return exp.select(
        *[column(k, "b") for k in window.rows.key_names],
        *[field(best, name).as_(name, quoted=True) for name in names],
        (tie("b") if window.rows.source is not None else exp.false()).as_("tied"),
    ).from_(found.subquery("b", copy=False), copy=False)


def _carried_answer(window: _Window, newest: str, features: list[Feature]) -> exp.Select:
    """`_answer` from a table of `_carried`."""
    position = exp.Case().when(exp.not_(window.from_log), exp.Null()).else_(window.position)
    keys = window.rows.key_names
    names = [*keys, *[f"f{i}" for i in range(len(features))]]
    found = exp.select(column("event", "r"), column("created", "r"), position.as_("position"))
    found = found.select(*[column(name, "r") for name in names]).from_(table_named(newest).as_("r"))
    return found.order_by(*[column(k) for k in keys])


def _ranked(window: _Window, keys: list[exp.Column], conditions: list[Tree]) -> exp.Select:
    """The same by ranking each key's rows."""
    names = [*window.rows.row_names, "event", "created"]
    order = [exp.Ordered(this=column(n, "r"), desc=True) for n in ("event", "created", "ordinal")]

    def over(function: Tree) -> exp.Window:
        ordered = exp.Order(expressions=[o.copy() for o in order])
        return exp.Window(this=function, partition_by=[k.copy() for k in keys], order=ordered)

    after = [over(exp.Lead(this=column(n, "r"))).as_(f"next_{n}") for n in ("event", "created")]
    rows = window.select(*[column(n, "r") for n in names], over(exp.RowNumber()).as_("place"), *after)
    tie = exp.and_(*[column(f"next_{n}").eq(column(n)) for n in ("event", "created")])
    found = exp.select(*[column(n) for n in names], tie.as_("tie")).from_(rows.where(*conditions).subquery("q"))
    return found.where(column("place").eq(number(1)))


def _settled(space: Workspace, window: _Window, newest: str, features: list[Feature]) -> tuple[str, int]:
    """The same table with exact ties decided by rule 5; how many keys' only the features decided."""
    if window.rows.source is None:
        return newest, 0
    space.create("heads", ties.newest_heads(newest, window.rows, window.lower, window.upper))
    heads = space.table("heads")
    if not space.rows(exp.select(exp.Count(this=exp.Star())).from_(table_named(heads)))[0][0]:
        return newest, 0
    winners = ties.decide(space, "0", window.rows, heads, features, window.lower, window.upper)
    undecided = int(space.rows(ties.by_features(newest, winners, window.rows))[0][0])
    return created(space, "settled", ties.settled(newest, winners, window.rows, ["event", "created"])), undecided


def _answer(window: _Window, newest: str, features: list[Feature]) -> exp.Select:
    """event, created, position (NULL: the source's), the keys k0… and the features f0… of the chosen rows, by key."""
    position = exp.Case().when(exp.Not(this=window.from_log), exp.Null()).else_(window.position)
    names, rows = [f.name for f in features], window.rows
    # a file may have been replaced since the row was chosen: then another stands in its place, with other times
    again = rows.source is not None and not rows.source.fixed
    wide = rows.wide(names, keys=True, times=again, lower=window.lower, upper=window.upper).subquery("w")
    same = [column(n, "r").eq(column(n, "w")) for n in (*rows.row_names, *(("event", "created") if again else ()))]
    return (
        exp.select(
            column("event", "r"),
            column("created", "r"),
            position.as_("position"),
            *[column(k, "w") for k in window.rows.key_names],
            *[column(f"f{i}", "w") for i in range(len(names))],
        )
        .from_(table_named(newest).as_("r"))
        .join(wide, on=exp.and_(*same))
        # a store that keeps its keys in order then fills each page once
        .order_by(*[column(k, "w") for k in window.rows.key_names])
    )


def _schema(shape: Shape) -> pa.Schema:
    """The columns of `_answer`."""
    times = [(name, pa.int64()) for name in ("event", "created", "position")]
    keys = [(f"k{i}", key_form(dtype)) for i, (_, dtype) in enumerate(shape.keys)] or [("k0", pa.int64())]
    return pa.schema([*times, *keys, *[(f"f{i}", dtype.arrow) for i, (_, dtype) in enumerate(shape.features)]])
