"""The one point-in-time query: for each spine row the last row of its key, in the contract's order, that counts at its instant.

Trees without a dialect; an engine renders them. There are three lowerings of one meaning: `pairs` (join on the key, keep the greatest packed
number), `asof` (as-of join on the packed number, for keys with many rows) and `ranked` (rank the pairs, where nothing can be packed).
Each gives a table `picked`: rn, t, ordinal, event, created and, but for `pairs`, the keys.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlglot import exp

from headwater.offline.packing import Packing
from headwater.offline.relations import Tree, ViewRows, big, column, is_not_null, number, union_all


@dataclass(frozen=True)
class Join:
    """One view joined to the spine.

    Attributes:
        spine: a table with rn, t (microseconds) and key columns.
        keys: the spine's columns for the view's keys; empty for a global view.
        rows: the view's rows.
        ttl: microseconds; 0 is none.
        as_known: whether only rows known at t count.
        first, last: the spine's earliest and latest t.
    """

    spine: str
    keys: tuple[str, ...]
    rows: ViewRows
    ttl: int
    as_known: bool
    first: int
    last: int

    @property
    def lower(self) -> int | None:
        """No row with an earlier event time can match."""
        return self.first - self.ttl if self.ttl and self.rows.timed else None

    @property
    def upper(self) -> int | None:
        """No row with a later event time can match."""
        return self.last if self.rows.timed else None

    @property
    def lag(self) -> int | None:
        """How long after its event time every row counts; None where created time decides row by row."""
        if not self.as_known:
            return 0
        lag = self.rows.lag
        return None if lag is None else max(0, lag)

    def spine_rows(self, extra: Tree | None = None) -> exp.Select:
        """rn, t and the keys, of spine rows with all keys."""
        keys = [column(name).as_(f"k{i}") for i, name in enumerate(self.keys)] or [big(0).as_("k0")]
        select = exp.select(column("rn"), column("t"), *keys).from_(exp.to_table(self.spine))
        select = select.where(*[is_not_null(column(name)) for name in self.keys])
        return select if extra is None else select.where(extra)

    def deleted(self, names: tuple[str, ...]) -> Tree:
        """The condition that a key, in the columns named, has a delete mark."""
        assert self.rows.deletes is not None
        same = [column(k, "d").eq(column(name)) for k, name in zip(self.rows.key_names, names, strict=False)]
        marks = exp.select(number(1)).from_(exp.to_table(self.rows.deletes).as_("d"))
        return exp.Exists(this=marks.where(*same) if same else marks)

    def same_key(self, left: str = "s", right: str = "r") -> Tree:
        """The condition that both sides have the same key."""
        return exp.and_(*[column(k, left).eq(column(k, right)) for k in self.rows.key_names])

    def event_reached(self) -> Tree:
        """Event ≤ t (and the lag passed), of spine row s and feature row r."""
        t = column("t", "s")
        return column("event", "r") <= (t - number(self.lag) if self.lag else t)

    def known(self) -> Tree | None:
        """Created ≤ t, where rows differ in that."""
        return column("created", "r") <= column("t", "s") if self.lag is None else None

    def in_ttl(self) -> Tree | None:
        """Event ≥ t − ttl, the edge included."""
        if not self.ttl or not self.rows.timed:
            return None
        return column("event", "r") >= column("t", "s") - number(self.ttl)

    def not_deleted(self) -> Tree | None:
        """T < until, where deletes hide rows."""
        if self.rows.hidden is None:
            return None
        return exp.or_(
            exp.Is(this=column("until", "r"), expression=exp.Null()), column("t", "s") < column("until", "r")
        )

    def counting(self) -> Tree:
        """Same key, and the row counts at t."""
        return _all(self.same_key(), self.event_reached(), self.known(), self.in_ttl(), self.not_deleted())


def _all(*conditions: Tree | None) -> Tree:
    return exp.and_(*[c for c in conditions if c is not None])


def pair_count(join: Join) -> exp.Select:
    """How many (spine row, feature row) pairs share a key, and how many keys do: one row of two."""
    keys = join.rows.key_names
    of_key = [column(k) for k in keys]
    spine = (
        exp.select(*of_key, exp.Count(this=exp.Star()).as_("n"))
        .from_(join.spine_rows().subquery("a"))
        .group_by(*of_key)
    )
    rows = join.rows.narrow(join.lower, join.upper)
    rows = exp.select(*of_key, exp.Count(this=exp.Star()).as_("n")).from_(rows.subquery("b")).group_by(*of_key)
    pairs = exp.Sum(this=exp.cast(column("n", "s"), "double") * column("n", "r"))
    return (
        exp.select(exp.Coalesce(this=pairs, expressions=[number(0)]), exp.Count(this=exp.Star()))
        .from_(spine.subquery("s"))
        .join(rows.subquery("r"), on=join.same_key())
    )


def ranges(join: Join) -> exp.Select:
    """The least and greatest event and created time of the rows that the join may read: one row of four."""
    rows = join.rows.narrow(join.lower, join.upper).subquery("r")
    values = [f(this=column(c)) for c in ("event", "created") for f in (exp.Min, exp.Max)]
    return exp.select(*values).from_(rows).where(_reach(join))


def delays(join: Join) -> exp.Select:
    """How many rows the join may read, and how long after its event time one is known on average: one row of two."""
    late = exp.cast(column("created", "r"), "double") - exp.cast(column("event", "r"), "double")
    rows = join.rows.narrow(join.lower, join.upper).subquery("r")
    return (
        exp.select(exp.Count(this=exp.Star()), exp.Avg(this=exp.Greatest(this=late, expressions=[number(0)])))
        .from_(rows)
        .where(_reach(join))
    )


def _reach(join: Join) -> Tree:
    """The rows of the spine's range of time, by conditions on r."""
    conditions: list[Tree] = [exp.true()]
    if join.upper is not None:
        conditions.append(column("event", "r") <= number(join.upper))
    if join.lower is not None:
        conditions.append(column("event", "r") >= number(join.lower))
    if join.lag is None:
        conditions.append(column("created", "r") <= number(join.last))
    return exp.and_(*conditions)


def _candidates(join: Join) -> exp.Select:
    """The feature rows that a join may read."""
    rows = join.rows.visible(join.lower, join.upper)
    names = [*join.rows.key_names, "event", "created", "ordinal"]
    if join.rows.hidden is not None:
        names.append("until")
    return exp.select(*[column(name, "r") for name in names]).from_(rows.subquery("r")).where(_reach(join))


def _packed(packing: Packing) -> Tree:
    return packing.pack(column("event", "r"), column("created", "r"), column("ordinal", "r"))


def pick_pairs(join: Join, packing: Packing, only: Tree | None = None) -> exp.Select:
    """`picked` by hash join and the greatest packed number; `tie` says that an equal row stands beside."""
    pairs = (
        exp.select(column("rn", "s"), _packed(packing).as_("p"))
        .from_(join.spine_rows(only).subquery("s"))
        .join(_candidates(join).subquery("r"), on=join.counting())
    )
    greatest = exp.select(
        column("rn"),
        exp.Max(this=column("p")).as_("best"),
        exp.Max(this=packing.inverted(column("p"))).as_("low"),
    )
    greatest = greatest.from_(pairs.subquery("q")).group_by(column("rn"))
    best, low = column("best"), column("low")
    tie = packing.ordinal(best).neq(packing.ordinal(packing.inverted(low)))
    return exp.select(
        column("rn"), packing.ordinal(best).as_("ordinal"), packing.event(best).as_("event"), tie.as_("tie")
    ).from_(greatest.subquery("b"))


def pick_ranked(join: Join, only: Tree | None = None) -> exp.Select:
    """`picked` by ranking all pairs."""
    keys = [column(k, "s") for k in join.rows.key_names]
    order = [exp.Ordered(this=column(name, "r"), desc=True) for name in ("event", "created", "ordinal")]
    rank = exp.Window(this=exp.RowNumber(), partition_by=[column("rn", "s")], order=exp.Order(expressions=order))
    columns = [column("ordinal", "r"), column("event", "r"), column("created", "r")]
    ranked = (
        exp.select(column("rn", "s"), column("t", "s"), *columns, *keys, rank.as_("place"))
        .from_(join.spine_rows(only).subquery("s"))
        .join(_candidates(join).subquery("r"), on=join.counting())
    )
    names = ["rn", "t", "ordinal", "event", "created", *join.rows.key_names]
    return exp.select(*[column(n) for n in names]).from_(ranked.subquery("x")).where(column("place").eq(number(1)))


def pick_asof(join: Join, packing: Packing, only: Tree | None = None) -> exp.Select:
    """The last row with event ≤ t, known or not: rn, t, keys, `best` (packed) and its created time."""
    reached = column("t") - number(join.lag) if join.lag else column("t")
    enough = reached.copy() >= number(packing.event_min)
    spine = exp.select(exp.Star(), packing.bound(reached).as_("bound"))
    spine = spine.from_(join.spine_rows(only).subquery("a")).where(enough)
    names = [column("rn", "s"), column("t", "s"), *[column(k, "s") for k in join.rows.key_names]]
    rows = exp.select(*[column(k, "r") for k in join.rows.key_names], _packed(packing).as_("p"))
    rows = rows.from_(join.rows.narrow(join.lower, join.upper).subquery("r")).where(_reach(join))
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
    rows = exp.select(*[column(k, "r") for k in keys], known.as_("known"), _packed(packing).as_("p"))
    rows = rows.from_(join.rows.narrow(join.lower, join.upper).subquery("r")).where(_reach(join))
    if picked is not None:
        late = exp.select(*[column(k) for k in keys]).distinct().from_(exp.to_table(picked)).where(_late(packing))
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
        join, packing, found.join(exp.to_table(steps).as_("r"), on=on, join_type="asof").subquery("f"), None
    )


def _late(packing: Packing) -> Tree:
    """A picked row whose created time is after t."""
    return packing.created(column("best")) > column("t")


def late_count(packing: Packing, picked: str) -> exp.Select:
    """How many picked rows were not yet known."""
    return exp.select(exp.Count(this=exp.Star())).from_(exp.to_table(picked)).where(_late(packing))


def pick_repaired(join: Join, packing: Packing, picked: str, steps: str | None) -> exp.Query:
    """`picked` of the as-of path: rows not yet known replaced by the last step, those beyond the ttl left out."""
    names = ["rn", "t", *join.rows.key_names]
    queries = [
        _unpacked(
            join, packing, exp.to_table(picked), None if steps is None else exp.Not(this=exp.paren(_late(packing)))
        )
    ]
    if steps is not None:
        late = exp.select(*[column(n) for n in names]).from_(exp.to_table(picked)).where(_late(packing))
        on = exp.and_(join.same_key("s", "r"), column("t", "s") >= column("known", "r"))
        fixed = exp.select(*[column(n, "s") for n in names], column("p", "r").as_("best")).from_(late.subquery("s"))
        fixed = fixed.join(exp.to_table(steps).as_("r"), on=on, join_type="asof")
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


def hidden_rows(rows: ViewRows, deletes: str) -> exp.Select:
    """(ordinal, until): each row at or below a D of its key, with the least such D: from then on reads do not see it.

    Args:
        rows: the view's rows.
        deletes: a table of keys (k0…) and `through` (D).
    """
    known = exp.Greatest(this=column("event", "r"), expressions=[column("created", "r")])
    same = [column(k, "d").eq(column(k, "r")) for k in rows.key_names]
    return (
        exp.select(column("ordinal", "r").as_("ordinal"), exp.Min(this=column("through", "d")).as_("until"))
        .from_(rows.narrow().subquery("r"))
        .join(exp.to_table(deletes).as_("d"), on=exp.and_(*same, column("through", "d") >= known))
        .group_by(column("ordinal", "r"))
    )


def entities(
    views: list[tuple[ViewRows, tuple[str, ...]]], columns: tuple[str, ...], at: int, as_known: bool
) -> exp.Query:
    """Every key with any row that is known at an instant, an expired one too.

    Args:
        views: rows, and for each of their keys the name of the output column.
        columns: the output columns, in order.
        at: microseconds.
        as_known: whether created time counts.
    """
    queries = []
    for rows, names in views:
        by_name = dict(zip(names, rows.key_names, strict=False))
        picked = [column(by_name[name], "r").as_(name, quoted=True) for name in columns] or [big(0).as_("k0")]
        select = exp.select(*picked).from_(rows.visible(None, at if rows.timed else None).subquery("r"))
        select = select.where(column("event", "r") <= number(at))
        if as_known:
            select = select.where(column("created", "r") <= number(at))
        if rows.hidden is not None:
            select = select.where(
                exp.or_(exp.Is(this=column("until", "r"), expression=exp.Null()), column("until", "r") > number(at))
            )
        queries.append(select)
    found = union_all(queries)
    return exp.select(exp.Star()).distinct().from_(found.subquery("e"))
