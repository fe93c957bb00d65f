"""The point-in-time query for engines that order structs: rows are laid out with their values, and one statement
picks, settles ties and answers.

Rows and spine rows of a key are in one order of time, and the greatest row so far is the answer (see `running`). A row
is a struct of all that the contract orders by: event, created, ordinal (0 of the source's rows, so that the log's come
after them by position), the event id, and the features by name. So its maximum is the row itself, with its values: no
row needs a name by which it is found again, and nothing is read twice. What is moved and sorted are plain columns, none
that another tells; structs are made of them afterwards, row by row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sqlglot import exp

from headwater.clock import MIN_MICROS
from headwater.definitions.feature import Feature
from headwater.definitions.names import VALID_TO
from headwater.offline.join import ends, missing
from headwater.offline.join.pit import Join, hides, reach
from headwater.offline.join.relations import ViewRelations
from headwater.offline.join.running import so_far
from headwater.offline.join.workspace import Workspace, created
from headwater.offline.trees import (
    BIGINT,
    TINYINT,
    Tree,
    ascending,
    big,
    column,
    is_not_null,
    number,
    table_named,
    union_all,
)

_TIMES = ("event", "created", "ordinal")
_PLACE = ("at", "rn")
_FEW = 100_000
"""So many missed rows are few: each process of the engine gets them all, rather than its share beside the view's."""


@dataclass(frozen=True)
class Answer:
    """What one view's join came to.

    Attributes:
        query: rn, event, why (NULL: matched) and the features f0… of every spine row, in the spine's order.
        counts: matched, no_row, expired, not_known, same_instant; ties, where only features decided any.
    """

    query: exp.Query
    counts: dict[str, int]


@dataclass(frozen=True)
class Row:
    """Rows of a view as structs.

    Attributes:
        rows: the view's rows.
        names: the features that they carry, by name: all of them, or those asked for.
        whole: whether these are all.
        lean: whether the structs leave out what is the same in all rows, or what the event time tells.
        ends: whether rows end, so that more is asked of those that are chosen.
    """

    rows: ViewRelations
    names: Sequence[str]
    whole: bool
    lean: bool = False
    ends: bool = False

    @property
    def fields(self) -> list[str]:
        """What the structs hold, in order."""
        return [*self.before, *[f"f{i}" for i in range(len(self.names))]]

    @property
    def before(self) -> list[str]:
        """What is compared before the features."""
        created = not self.lean or self.rows.lag is None
        ordinal = not self.lean or bool(self.rows.log)
        kept = {"event": True, "created": created, "ordinal": ordinal, "event_id": self.rows.event_id}
        return [name for name, there in kept.items() if there]

    def laid_out(self, lower: int | None, upper: int | None, *, nulls: bool = False) -> exp.Subquery:
        """The rows r: the structs' fields as columns, and `h`."""
        return self.told_apart(self._narrow(lower, upper, nulls=nulls))

    def plain(self, lower: int | None, upper: int | None) -> exp.Subquery:
        """The rows r without it."""
        return self._narrow(lower, upper).subquery("r", copy=False)

    def _narrow(self, lower: int | None, upper: int | None, *, nulls: bool = False) -> exp.Query:
        return self.rows.narrow(lower, upper, nulls=nulls, features=self.names, event_id=self.rows.event_id)

    def told_apart(self, rows: exp.Query) -> exp.Subquery:
        """Rows r with the structs' fields, and `h`, which differs where rows that tie do.

        Where all features are carried it is their digest, else each row's own number.
        """
        if self.whole:
            values: list[Tree] = [column(f"f{i}", "n") for i in range(len(self.names))]
            h: Tree = exp.func("xxhash64", *(values or [number(0)]))
        else:
            h = exp.func("monotonically_increasing_id")
        every = exp.select(exp.Column(this=exp.Star(), table=exp.to_identifier("n")), h.as_("h"))
        return every.from_(rows.subquery("n", copy=False), copy=False).subquery("r", copy=False)

    def structs(self, table: str) -> dict[str, Tree]:
        """Row `table` as structs: `best`, and two whose maxima tell whether another row ties with the greatest."""
        # the greatest complement is that of the least
        least: Tree = exp.BitwiseNot(this=column("h", table))
        return {
            "best": _struct({name: column(name, table) for name in self.fields}),
            "high": _struct({**{name: column(name, table) for name in self.before}, "h": column("h", table)}),
            "low": _struct({**{name: column(name, table) for name in self.before}, "h": least}),
        }


def _struct(fields: Mapping[str, Tree]) -> exp.Struct:
    return exp.Struct(
        expressions=[
            exp.PropertyEQ(this=exp.to_identifier(name, quoted=True), expression=value)
            for name, value in fields.items()
        ]
    )


def field(struct: Tree, name: str) -> exp.Dot:
    """A field of a struct."""
    return exp.Dot(this=struct.copy(), expression=exp.to_identifier(name, quoted=True))


def tie(table: str) -> Tree:
    """Whether the maxima of a row's structs tell of a tie."""
    return field(column("high", table), "h").neq(exp.BitwiseNot(this=field(column("low", table), "h")))


def unhidden(rows: ViewRelations, pairs: exp.Select, table: str, at: Tree | None, *columns: Tree) -> exp.Select:
    """Columns of the rows `table` of a query that no tombstone hides."""
    shown = exp.select(*columns, copy=False).from_(pairs.subquery(table, copy=False), copy=False)
    if rows.deletes is None:
        return shown
    marks = table_named(rows.deletes).as_("d")
    return shown.join(marks, on=hides(rows, table, at), join_type="anti", copy=False)


def carry(
    space: Workspace, label: str, join: Join, spine_rows: int, every: Sequence[Feature], asked: Sequence[Feature]
) -> Answer:
    """For each spine row the row that the contract gives it, with its values.

    Args:
        space: the run's tables.
        label: part of their names.
        join: the view and the spine; of its rows those of the source have the ordinal 0.
        spine_rows: how many rows the spine has.
        every: the view's `row_features`, for ties.
        asked: those that the answer has.
    """
    has_ends = any(feature.name == VALID_TO for feature in every)
    names = sorted([*(feature.name for feature in asked), *([VALID_TO] if has_ends else [])])
    row = Row(join.rows, names, len(names) == len(every), lean=True, ends=has_ends)
    table = created(space, f"carried_{label}", _carried(join, row))
    matched, same_instant, tied = space.rows(_matches(table))[0]
    if tied and not row.whole:
        # which of the rows that are equal so far is decided by features that were left out
        row = replace(row, names=sorted(feature.name for feature in every), whole=True)
        space.drop(table)
        table = created(space, f"settled_{label}", _carried(join, row))
        tied = space.rows(_matches(table))[0][2]
    counts = {"matched": int(matched), "no_row": 0, "expired": 0, "not_known": 0}
    counts["same_instant"] = int(same_instant or 0)
    if tied:
        counts["ties"] = int(tied)
    why = None
    if counts["matched"] < spine_rows:
        why = created(space, f"why_{label}", _why(join, table, spine_rows - counts["matched"] <= _FEW))
        of = {missing.NOT_FOUND: "no_row", missing.EXPIRED: "expired", missing.NOT_KNOWN: "not_known"}
        grouped = exp.select(column("why"), exp.Count(this=exp.Star())).from_(table_named(why)).group_by(column("why"))
        for code, count in space.rows(grouped):
            counts[of[int(code)]] = int(count)
    places = [row.names.index(feature.name) for feature in asked]
    if not has_ends:
        return Answer(_answer(table, why, places), counts)
    counts["overlapping"] = int(space.rows(ends.overlaps(join))[0][0] or 0)
    gone = ends.ended(space, label, join, _chosen(join, row, table))
    if ends.count_ended(space, gone, counts):
        lost: exp.Query = ends.expired(gone)
        if why is not None:
            lost = union_all([exp.select(column("rn"), column("why")).from_(table_named(why)), lost])
        why = created(space, f"lost_{label}", lost)
    return Answer(_answer(table, why, places, ended=True), counts)


def _chosen(join: Join, row: Row, table: str) -> exp.Select:
    """What `ends.ended` looks at, of a table of `_carried`."""
    valid_to = column(f"f{row.names.index(VALID_TO)}", "c").as_("valid_to")
    names = ("rn", "t", *join.rows.key_names, "event", "created", "ordinal")
    found = exp.select(*[column(name, "c") for name in names], valid_to).from_(table_named(table).as_("c"))
    return found.where(is_not_null(column("event", "c")))


def _answer(table: str, why: str | None, places: Sequence[int], *, ended: bool = False) -> exp.Query:
    """`ended`: rows that were chosen may have a reason all the same."""
    values: list[Tree] = [column("event", "c"), *[column(f"f{place}", "c") for place in places]]
    reason = exp.cast(exp.Null(), TINYINT) if why is None else column("why", "w")
    if ended and why is not None:
        there = exp.Is(this=reason.copy(), expression=exp.Null())
        values = [exp.Case().when(there.copy(), value) for value in values]
        values[0] = values[0].as_("event", quoted=True)
    named = [value.as_(f"f{i}", quoted=True) for i, value in enumerate(values[1:])]
    query = exp.select(column("rn", "c"), values[0], reason.as_("why"), *named)
    query = query.from_(table_named(table).as_("c"))
    if why is not None:
        on = column("rn", "c").eq(column("rn", "w"))
        query = query.join(table_named(why).as_("w"), on=on, join_type="left")
    whole = exp.select(exp.Star()).from_(query.subquery("a", copy=False), copy=False)
    return whole.order_by(column("rn"), copy=False)


def _matches(table: str) -> exp.Select:
    """How many rows matched, how many of them at the spine's own instant, and how many beside an equal source row."""
    same = exp.CountIf(this=column("event").eq(column("t")))
    return exp.select(exp.Count(this=column("event")), same, exp.CountIf(this=column("tied"))).from_(table_named(table))


def _carried(join: Join, row: Row) -> exp.Query:
    """(rn, t, event, tied, f0…, keys) of every spine row; event is NULL where none matched, and the keys only there.

    Of rows that end also created and ordinal, and the keys of all.
    """
    deletes = join.rows.deletes
    if deletes is None:
        parts = [_shown(join, row, _running(join, row, None))]
    else:
        deleted = join.deleted(join.keys)
        parts = [_shown(join, row, _running(join, row, exp.not_(deleted))), _shown(join, row, _pairs(join, row))]
    if join.keys:
        # without a key there is nothing to be found; these need not be brought together
        keyless = exp.or_(*[exp.Is(this=column(name, "s"), expression=exp.Null()) for name in join.keys])
        lost = exp.select(column("rn", "s"), column("t", "s"), exp.cast(exp.Null(), BIGINT).as_("event"))
        lost = lost.select(exp.false().as_("tied"), *[exp.Null().as_(f"f{i}") for i in range(len(row.names))])
        if row.ends:
            lost = lost.select(*[exp.cast(exp.Null(), BIGINT).as_(name) for name in ("created", "ordinal")])
        lost = lost.select(*[column(k, "s").as_(f"k{i}") for i, k in enumerate(join.keys)])
        parts.append(lost.from_(table_named(join.spine).as_("s")).where(keyless))
    return union_all(parts)


def _shown(join: Join, row: Row, picked: exp.Select) -> exp.Select:
    """The columns of `_carried` from rn, t, the keys, and the maxima of a row's structs."""
    best, event = column("best", "b"), field(column("best", "b"), "event")
    there = is_not_null(event)
    if join.ttl and join.rows.timed:
        # the greatest event time of all known rows: where it is beyond the ttl, so is every other
        there = event >= column("t", "b") - big(join.ttl)
    keys = join.rows.key_names
    chosen = exp.select(column("rn", "b"), column("t", "b"), exp.Case().when(there, best).as_("best"))
    chosen = chosen.select(*[column(name, "b") for name in (*keys, "high", "low")])
    chosen = chosen.from_(picked.subquery("b", copy=False), copy=False)
    event = field(column("best", "x"), "event")
    tied = tie("x") if row.rows.source is not None else exp.false()
    none = exp.Is(this=event.copy(), expression=exp.Null())
    return exp.select(
        column("rn", "x"),
        column("t", "x"),
        event.as_("event"),
        exp.and_(is_not_null(event), tied).as_("tied"),
        *[field(column("best", "x"), f"f{i}").as_(f"f{i}", quoted=True) for i in range(len(row.names))],
        *(_more(row) if row.ends else ()),
        *[
            column(k, "x") if row.ends else exp.Case().when(none.copy(), column(k, "x")).as_(k, quoted=True)
            for k in keys
        ],
    ).from_(chosen.subquery("x", copy=False), copy=False)


def _more(row: Row) -> list[Tree]:
    """Created time and ordinal of the chosen row x, which the struct has where they are not the same for all."""
    best, event = column("best", "x"), field(column("best", "x"), "event")
    lag = row.rows.lag or 0
    made = field(best, "created") if "created" in row.before else event.copy() + number(lag) if lag else event
    place = field(best, "ordinal") if "ordinal" in row.before else exp.Case().when(is_not_null(event.copy()), big(0))
    return [made.as_("created", quoted=True), place.as_("ordinal", quoted=True)]


def _running(join: Join, row: Row, only: Tree | None) -> exp.Select:
    """Rn, t, the keys, and the greatest structs so far, of spine rows with all keys."""
    keys, lag = join.rows.key_names, join.lag or 0
    placed = exp.select(*[column(name, "r") for name in (*keys, *_PLACE)])
    of_row = exp.Is(this=column("rn", "r"), expression=exp.Null())
    structs = {name: exp.Case().when(of_row.copy(), value) for name, value in row.structs("r").items()}
    placed = placed.select(*[value.as_(name, quoted=True) for name, value in structs.items()])
    placed = placed.from_(row.told_apart(_last_before_spine(_in_order(join, row, only), keys)), copy=False)
    of_key = [column(k, "u") for k in keys]
    greatest = [so_far(exp.Max(this=column(name, "u")), of_key, _PLACE).as_(name, quoted=True) for name in structs]
    t = column("at", "u") + number(lag) if lag else column("at", "u")
    every = exp.select(column("rn", "u"), t.as_("t"), *[k.copy() for k in of_key], *greatest)
    every = every.from_(placed.subquery("u", copy=False), copy=False)
    whole = exp.select(exp.Star()).from_(every.subquery("w", copy=False), copy=False)
    return whole.where(is_not_null(column("rn", "w")), copy=False)


def _in_order(join: Join, row: Row, only: Tree | None) -> exp.Select:
    """Rows and spine rows, of which only these have rn, in order of the keys, `at` and rn: rows are before the spine's
    of their time.
    """
    keys, lag = join.rows.key_names, join.lag or 0
    event, made = column("event", "r"), column("created", "r")
    known = exp.Greatest(this=event, expressions=[made]) if join.lag is None else event
    # the event time is `at` itself where that is what all rows count by
    moved = [name for name in row.fields if name != "event" or join.lag is None]
    rows = exp.select(*[column(k, "r") for k in keys], known.as_("at"), exp.cast(exp.Null(), BIGINT).as_("rn"))
    rows = rows.select(*[column(name, "r") for name in moved])
    rows = rows.from_(row.plain(join.lower, join.upper), copy=False).where(reach(join), copy=False)
    reached = column("t", "a") - number(lag) if lag else column("t", "a")
    spine = exp.select(*[column(k, "a") for k in keys], reached.as_("at"), column("rn", "a"))
    spine = spine.select(*[exp.Null().as_(name) for name in moved])
    spine = spine.from_(join.spine_rows(only).subquery("a", copy=False), copy=False)
    both = exp.select(exp.Star()).from_(union_all([rows, spine]).subquery("m", copy=False), copy=False)
    both.set("distribute", exp.Distribute(expressions=[column(k, "m") for k in keys]))
    both.set("sort", exp.Sort(expressions=ascending([column(name, "m") for name in (*keys, *_PLACE)]).expressions))
    if join.lag is None:
        return both
    at = column("at", "p").as_("event", quoted=True)
    return exp.select(exp.Column(this=exp.Star(), table=exp.to_identifier("p")), at).from_(both.subquery("p"))


def _last_before_spine(both: exp.Select, keys: Sequence[str]) -> exp.Select:
    """The same without the rows that the next one, of a later event, comes after before any spine row does.

    No spine row sees these as the last. What is left are some rows for each of the spine's, which alone need be made
    structs and compared.
    """
    of_spine = is_not_null(column("rn", "o"))
    event = exp.Case().when(of_spine, big(MIN_MICROS)).else_(column("event", "o"))
    order = ascending([column(name, "o") for name in _PLACE])
    next_event = exp.Window(this=exp.Lead(this=event), partition_by=[column(k, "o") for k in keys], order=order)
    each = exp.select(exp.Column(this=exp.Star(), table=exp.to_identifier("o")), next_event.as_("next_event"))
    each = each.from_(both.subquery("o", copy=False), copy=False)
    kept = exp.or_(is_not_null(column("rn", "l")), column("next_event", "l") <= column("event", "l"))
    return exp.select(exp.Star()).from_(each.subquery("l", copy=False), copy=False).where(kept, copy=False)


def _pairs(join: Join, row: Row) -> exp.Select:
    """The same of spine rows of deleted keys: what counts of these differs from one spine row to the next."""
    keys = join.rows.key_names
    spine = join.spine_rows(join.deleted(join.keys))
    columns = [column("rn", "s"), column("t", "s"), *[column(k, "s") for k in keys]]
    carried = [column(name, "r") for name in dict.fromkeys((*_TIMES, *row.fields, "h"))]
    pairs = exp.select(*columns, *carried).from_(spine.subquery("s", copy=False), copy=False)
    on = exp.and_(join.same_key(), join.counts())
    pairs = pairs.join(row.laid_out(join.lower, join.upper), on=on, copy=False)
    structs = row.structs("p")
    greatest = [exp.Max(this=value).as_(name, quoted=True) for name, value in structs.items()]
    found = unhidden(join.rows, pairs, "p", column("t", "p"), column("rn", "p"), *greatest)
    found = found.group_by(column("rn", "p"), copy=False)
    whole = exp.select(*[c.copy() for c in columns], *[column(name, "g") for name in structs])
    whole = whole.from_(spine.copy().subquery("s", copy=False), copy=False)
    on = column("rn", "s").eq(column("rn", "g"))
    return whole.join(found.subquery("g", copy=False), on=on, join_type="left", copy=False)


def _why(join: Join, table: str, few: bool) -> exp.Query:
    """(rn, why) of the spine rows that picked nothing."""
    names = ["rn", "t", *join.rows.key_names]
    missed = exp.select(*[column(name, "c") for name in names]).from_(table_named(table).as_("c"))
    missed = missed.where(exp.Is(this=column("event", "c"), expression=exp.Null()))
    if join.rows.deletes is None:
        return missing.by_running(join, missed, few=few)
    deleted = join.deleted(tuple(join.rows.key_names), "c")
    others = missed.where(exp.not_(deleted))
    return union_all([missing.by_running(join, others, few=few), _why_by_pairs(join, missed.where(deleted.copy()))])


def _why_by_pairs(join: Join, missed: exp.Select) -> exp.Select:
    """The same from all rows of their keys that no delete hides."""
    keys = join.rows.key_names
    names = [*keys, *_TIMES]
    pairs = exp.select(column("rn", "s"), column("t", "s"), missing.reason(join).as_("reason"))
    pairs = pairs.select(*[column(name, "r") for name in names]).from_(missed.subquery("s"), copy=False)
    pairs = pairs.join(join.rows.narrow().subquery("r", copy=False), on=join.same_key(), copy=False)
    strongest = exp.Max(this=column("reason", "p")).as_("reason")
    found = unhidden(join.rows, pairs, "p", column("t", "p"), column("rn", "p"), strongest)
    found = found.group_by(column("rn", "p"), copy=False)
    best = exp.Coalesce(this=column("reason", "g"), expressions=[number(0)])
    whole = exp.select(column("rn", "s"), missing.of_reason(best).as_("why")).from_(missed.subquery("s"), copy=False)
    on = column("rn", "s").eq(column("rn", "g"))
    return whole.join(found.subquery("g", copy=False), on=on, join_type="left", copy=False)
