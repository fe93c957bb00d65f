"""The point-in-time query by as-of joins, for keys with so many rows that pairs cannot be joined.

Each query here gives rn, t, ordinal, event, created and the keys; which of them tie is looked up afterwards.
"""

from __future__ import annotations

from sqlglot import exp

from headwater.offline.join.packing import Packing
from headwater.offline.join.pit import Join, packed, reach
from headwater.offline.trees import Tree, column, number, table_named, union_all


def pick_asof(join: Join, packing: Packing, only: Tree | None = None) -> exp.Select:
    """The last row with event ≤ t, known or not: rn, t, keys, `best` (packed) and its created time."""
    reached = column("t") - number(join.lag) if join.lag else column("t")
    enough = reached.copy() >= number(packing.event_min)
    spine = exp.select(exp.Star(), packing.bound(reached).as_("bound"))
    spine = spine.from_(join.spine_rows(only).subquery("a")).where(enough)
    names = [column("rn", "s"), column("t", "s"), *[column(k, "s") for k in join.rows.key_names]]
    rows = exp.select(*[column(k, "r") for k in join.rows.key_names], packed(packing).as_("p"))
    rows = rows.from_(join.rows.narrow(join.lower, join.upper).subquery("r")).where(reach(join))
    return (
        exp.select(*names, column("p", "r").as_("best"))
        .from_(spine.subquery("s"))
        .join(
            rows.subquery("r"), on=exp.and_(join.same_key(), column("bound", "s") >= column("p", "r")), join_type="asof"
        )
    )


def known_steps(join: Join, packing: Packing, picked: str | None) -> exp.Select:
    """(keys, known, p): the rows that raise their key's greatest packed number, in order of known_at.

    A row counts at t exactly when known_at ≤ t, so the last step at or before t is the answer.

    Args:
        join: the view and the spine.
        packing: the packed number.
        picked: only keys with a row here that was not yet known; None: all keys.
    """
    keys = join.rows.key_names
    known = exp.Greatest(this=column("event", "r"), expressions=[column("created", "r")])
    rows = exp.select(*[column(k, "r") for k in keys], known.as_("known"), packed(packing).as_("p"))
    rows = rows.from_(join.rows.narrow(join.lower, join.upper).subquery("r")).where(reach(join))
    if picked is not None:
        late = exp.select(*[column(k) for k in keys]).distinct().from_(table_named(picked)).where(_late(packing))
        rows = rows.join(late.subquery("l"), on=join.same_key("l", "r"), join_type="semi")
    # rows of one known_at are peers: of these only the greatest equals the maximum
    ordered = exp.Order(expressions=[exp.Ordered(this=column("known"))])
    top = exp.Window(this=exp.Max(this=column("p")), partition_by=[column(k) for k in keys], order=ordered)
    columns = [column(n) for n in (*keys, "known", "p")]
    stepped = exp.select(*columns, top.as_("top")).from_(rows.subquery("g"))
    return exp.select(*[c.copy() for c in columns]).from_(stepped.subquery("w")).where(column("p").eq(column("top")))


def pick_stepped(join: Join, packing: Packing, steps: str, only: Tree | None = None) -> exp.Select:
    """`picked` from the steps of all keys: the last one known at t."""
    names = ["rn", "t", *join.rows.key_names]
    on = exp.and_(join.same_key("s", "r"), column("t", "s") >= column("known", "r"))
    found = exp.select(*[column(n, "s") for n in names], column("p", "r").as_("best"))
    found = found.from_(join.spine_rows(only).subquery("s"))
    return _unpacked(
        join, packing, found.join(table_named(steps).as_("r"), on=on, join_type="asof").subquery("f"), None
    )


def _late(packing: Packing) -> Tree:
    """A picked row whose created time is after t."""
    return packing.created(column("best")) > column("t")


def late_count(packing: Packing, picked: str) -> exp.Select:
    """How many picked rows were not yet known."""
    return exp.select(exp.Count(this=exp.Star())).from_(table_named(picked)).where(_late(packing))


def pick_repaired(join: Join, packing: Packing, picked: str, steps: str | None) -> exp.Query:
    """`picked` of the as-of path: rows not yet known replaced by the last step, those beyond the ttl left out."""
    names = ["rn", "t", *join.rows.key_names]
    queries = [
        _unpacked(
            join, packing, table_named(picked), None if steps is None else exp.Not(this=exp.paren(_late(packing)))
        )
    ]
    if steps is not None:
        late = exp.select(*[column(n) for n in names]).from_(table_named(picked)).where(_late(packing))
        on = exp.and_(join.same_key("s", "r"), column("t", "s") >= column("known", "r"))
        fixed = exp.select(*[column(n, "s") for n in names], column("p", "r").as_("best")).from_(late.subquery("s"))
        fixed = fixed.join(table_named(steps).as_("r"), on=on, join_type="asof")
        queries.append(_unpacked(join, packing, fixed.subquery("f"), None))
    return union_all(queries)


def _unpacked(join: Join, packing: Packing, table: Tree, where: Tree | None) -> exp.Select:
    best = column("best")
    select = exp.select(
        column("rn"),
        column("t"),
        packing.ordinal(best).as_("ordinal"),
        packing.event(best).as_("event"),
        packing.created(best).as_("created"),
        *[column(k) for k in join.rows.key_names],
    ).from_(table)
    if where is not None:
        select = select.where(where)
    if join.ttl and join.rows.timed:
        select = select.where(packing.event(best) >= column("t") - number(join.ttl))
    return select
