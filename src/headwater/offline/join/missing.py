"""Why a spine row has no value: NOT_KNOWN, EXPIRED or NOT_FOUND, worked out only for the rows that missed."""

from __future__ import annotations

from sqlglot import exp

from headwater.offline.join.packing import Packing
from headwater.offline.join.pit import Join, greatest, packed
from headwater.offline.join.running import so_far
from headwater.offline.trees import BIGINT, TINYINT, Tree, big, column, is_not_null, number, table_named, union_all
from headwater.types import STATUSES, Status

NOT_FOUND = STATUSES.index(Status.NOT_FOUND)
NOT_KNOWN = STATUSES.index(Status.NOT_KNOWN)
EXPIRED = STATUSES.index(Status.EXPIRED)


def missed(join: Join, picked: str) -> exp.Select:
    """(rn, t, keys): the spine rows that picked nothing; keys are NULL where the spine's are."""
    keys = [column(name, "s").as_(f"k{i}") for i, name in enumerate(join.keys)] or [big(0).as_("k0")]
    return (
        exp.select(column("rn", "s"), column("t", "s"), *keys)
        .from_(table_named(join.spine).as_("s"), copy=False)
        .join(table_named(picked).as_("p"), on=column("rn", "s").eq(column("rn", "p")), join_type="anti", copy=False)
    )


def _code(in_time: Tree, known: Tree, there: Tree) -> Tree:
    """A row within the ttl (not yet known, or it had matched), else a known one (expired), else any at all."""
    case = exp.Case().when(in_time, number(NOT_KNOWN)).when(known, number(EXPIRED)).when(there, number(NOT_KNOWN))
    return exp.cast(case.else_(number(NOT_FOUND)), TINYINT)


def reason(join: Join) -> Tree:
    """What a pair (s, r) tells of a spine row that nothing else matches: 3 within the ttl, 2 known, 1 there at all."""
    t, event = column("t", "s"), column("event", "r")
    in_time: Tree = event <= t
    if join.ttl and join.rows.timed:
        in_time = exp.and_(in_time, event >= t - number(join.ttl))
    return exp.Case().when(in_time, number(3)).when(_known_at(join) <= t, number(2)).else_(number(1))


def _seen(join: Join) -> Tree:
    """Same key, and no delete hides the row."""
    on, deleted = join.same_key(), join.not_deleted()
    return on if deleted is None else exp.and_(on, deleted)


def of_reason(reason: Tree) -> Tree:
    """Why a spine row has no value, by the strongest that its pairs tell; 0: there is none."""
    return _code(*[reason.eq(number(n)) for n in (3, 2, 1)])


def by_pairs(join: Join, table: str) -> exp.Select:
    """(rn, why) of the missed rows, from all rows of their keys that no delete hides."""
    there = exp.Is(this=column("event", "r"), expression=exp.Null())
    found = exp.Case().when(there, number(0)).else_(reason(join))
    strongest = (
        exp.select(column("rn", "s"), exp.Max(this=found).as_("reason"))
        .from_(table_named(table).as_("s"), copy=False)
        .join(join.rows.visible().subquery("r", copy=False), on=_seen(join), join_type="left", copy=False)
        .group_by(column("rn", "s"), copy=False)
        .subquery("g", copy=False)
    )
    return exp.select(column("rn"), of_reason(column("reason")).as_("why")).from_(strongest, copy=False)


def by_running(join: Join, table: str | exp.Select, *, few: bool = False) -> exp.Select:
    """(rn, why) of the missed rows, from the least known_at of their key and its last event at or before t.

    All rows within the ttl are unknown, else one would have matched; one beyond it is known exactly where the least
    known_at is reached. Deletes are not looked at. `few`: Spark is told to bring the missed rows to the view's, which
    are then not moved; it does not see that they are few.
    """
    keys = join.rows.key_names
    nothing = exp.cast(exp.Null(), BIGINT)
    rows = exp.select(*[column(k, "r") for k in keys], column("event", "r").as_("at"), number(0).as_("side"))
    rows = rows.select(column("event", "r"), _known_at(join).as_("known"), nothing.as_("rn"))
    lost = exp.select(*[column(k, "m") for k in keys], column("t", "m").as_("at"), number(1).as_("side"))
    lost = lost.select(nothing.as_("event"), nothing.copy().as_("known"), column("rn", "m"))
    both = union_all(
        [
            rows.from_(_rows_of(join, table, few=few).subquery("r", copy=False), copy=False),
            lost.from_(_missed(table), copy=False),
        ]
    ).subquery("u", copy=False)
    of_key = [column(k, "u") for k in keys]
    last = so_far(exp.Max(this=column("event", "u")), of_key)
    least = exp.Window(this=exp.Min(this=column("known", "u")), partition_by=[k.copy() for k in of_key])
    found = exp.select(column("rn", "u"), column("at", "u"), last.as_("last"), least.as_("least"))
    each = found.from_(both, copy=False).subquery("f", copy=False)
    t, event = column("at", "f"), column("last", "f")
    young: Tree = is_not_null(event)
    if join.ttl and join.rows.timed:
        young = event >= t - number(join.ttl)
    why = _code(young, column("least", "f") <= t, is_not_null(column("least", "f")))
    said = exp.select(column("rn", "f"), why.as_("why")).from_(each, copy=False)
    return said.where(is_not_null(column("rn", "f")), copy=False)


def looked_at(join: Join, packing: Packing) -> exp.Select:
    """`picked` and, in the same pass over all rows of the keys, the reason where nothing counts (`ordinal` is NULL)."""
    number_of = exp.Case().when(join.counts(), packed(packing))
    pairs = (
        exp.select(column("rn", "s"), number_of.as_("p"), reason(join).as_("reason"))
        .from_(join.spine_rows().subquery("s"))
        .join(join.rows.visible().subquery("r"), on=_seen(join))
    )
    return greatest(pairs, packing, strongest="reason")


def picked_in(looked: str) -> exp.Select:
    """`picked` from a table of `looked_at`."""
    names = ("rn", "ordinal", "event", "tied")
    return exp.select(*[column(n) for n in names]).from_(table_named(looked)).where(is_not_null(column("ordinal")))


def lost_in(join: Join, rest: str, looked: str) -> exp.Query:
    """(rn, why) of the spine rows that picked nothing.

    Args:
        join: the view and the whole spine.
        rest: the spine rows with all keys that were looked at.
        looked: a table of `looked_at` for them.
    """
    lost = (
        exp.select(column("rn", "s"), of_reason(column("reason", "l")).as_("why"))
        .from_(table_named(rest).as_("s"))
        .join(table_named(looked).as_("l"), on=column("rn", "s").eq(column("rn", "l")), join_type="left")
        .where(exp.Is(this=column("ordinal", "l"), expression=exp.Null()))
    )
    if not join.keys:
        return lost
    keyless = exp.or_(*[exp.Is(this=column(name), expression=exp.Null()) for name in join.keys])
    nothing = exp.cast(number(NOT_FOUND), TINYINT).as_("why")
    return union_all([lost, exp.select(column("rn"), nothing).from_(table_named(join.spine)).where(keyless)])


def _known_at(join: Join) -> Tree:
    event = column("event", "r")
    return exp.Greatest(this=event, expressions=[column("created", "r")]) if join.as_known else event


def by_key(join: Join, table: str) -> exp.Select:
    """(rn, why) of the missed rows, from each key's least known_at and its last event at or before t.

    All rows within the ttl are unknown, else one would have matched; one beyond it is known exactly where the least
    known_at is reached. Deletes are not looked at.
    """
    keys = [column(k, "r") for k in join.rows.key_names]
    least = exp.select(
        *keys, exp.Min(this=_known_at(join)).as_("known"), exp.Min(this=column("event", "r")).as_("event")
    )
    least = least.from_(_rows_of(join, table).subquery("r")).group_by(*[k.copy() for k in keys])
    t = column("t", "s")
    reached, there = column("known", "l") <= t, exp.Not(this=exp.Is(this=column("known", "l"), expression=exp.Null()))
    select = exp.select(column("rn", "s")).from_(table_named(table).as_("s"))
    select = select.join(least.subquery("l"), on=join.same_key("s", "l"), join_type="left")
    if join.lag == 0:
        return select.select(_code(exp.false(), reached, there).as_("why"))
    if not join.ttl or not join.rows.timed:
        return select.select(_code(column("event", "l") <= t, reached, there).as_("why"))
    young = column("event", "r") >= t - number(join.ttl)
    last = _rows_of(join, table).subquery("r")
    select = select.join(last, on=exp.and_(join.same_key(), t >= column("event", "r")), join_type="asof left")
    return select.select(_code(young, reached, there).as_("why"))


def _missed(table: str | exp.Select) -> Tree:
    """The missed rows m."""
    return table_named(table).as_("m") if isinstance(table, str) else table.subquery("m")


def _rows_of(join: Join, table: str | exp.Select, *, few: bool = False) -> exp.Select:
    """The rows of the keys that missed."""
    names = [*join.rows.key_names, "event", "created"]
    missed_keys = _missed(table)
    rows = exp.select(*[column(n, "a") for n in names]).from_(join.rows.narrow().subquery("a"))
    if few:
        rows.set("hint", exp.Hint(expressions=[exp.func("broadcast", exp.to_identifier("m"))]))
    return rows.join(missed_keys, on=join.same_key("a", "m"), join_type="semi")
