"""The one point-in-time query: for each spine row, the last of its key's rows that count at its instant.

Trees without a dialect; an engine renders them. One meaning is lowered in four ways: `pick_pairs` here (join on the
key, keep the greatest packed number), the same within windows of time (`windows`), as-of joins (`asof`) for keys with
many rows, and running maxima (`running`), where nothing can be packed. The answer is `picked`: rn, the names of a row,
event, tied. Keys with deletes are ranked, pair by pair, where a row's place depends on more than its times.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlglot import exp

from headwater.offline.join.packing import Packing
from headwater.offline.join.relations import ViewRelations
from headwater.offline.trees import Tree, big, column, is_not_null, number, table_named, union_all


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
    rows: ViewRelations
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
        """Rn, t and the keys, of spine rows with all keys."""
        keys = [column(name).as_(f"k{i}") for i, name in enumerate(self.keys)] or [big(0).as_("k0")]
        select = exp.select(column("rn"), column("t"), *keys).from_(table_named(self.spine))
        select = select.where(*[is_not_null(column(name)) for name in self.keys])
        return select if extra is None else select.where(extra)

    def deleted(self, names: tuple[str, ...], table: str | None = None) -> Tree:
        """The condition that a key, in the columns named of an item of FROM, has a delete mark."""
        assert self.rows.deletes is not None
        same = [column(k, "d").eq(column(name, table)) for k, name in zip(self.rows.key_names, names, strict=False)]
        marks = exp.select(number(1)).from_(table_named(self.rows.deletes).as_("d"))
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
        """The row counts at t for all deletes: t is before `until`, where deletes hide rows."""
        if self.rows.hidden is None:
            return None
        return exp.or_(
            exp.Is(this=column("until", "r"), expression=exp.Null()), column("t", "s") < column("until", "r")
        )

    def counts(self) -> Tree:
        """Whether a row `r` of the same key that no delete hides counts at t."""
        return _all(self.event_reached(), self.known(), self.in_ttl())

    def counting(self) -> Tree:
        """Same key, and the row counts at t."""
        return _all(self.same_key(), self.counts(), self.not_deleted())


def _all(*conditions: Tree | None) -> Tree:
    return exp.and_(*[c for c in conditions if c is not None])


def ranges(join: Join) -> exp.Select:
    """The least and greatest event and created time of the rows that the join may read: one row of four."""
    rows = join.rows.narrow(join.lower, join.upper).subquery("r", copy=False)
    values = [f(this=column(c)) for c in ("event", "created") for f in (exp.Min, exp.Max)]
    return exp.select(*values).from_(rows, copy=False).where(reach(join), copy=False)


def reach(join: Join) -> Tree:
    """The rows of the spine's range of time, by conditions on r."""
    conditions: list[Tree] = [exp.true()]
    if join.upper is not None:
        conditions.append(column("event", "r") <= number(join.upper))
    if join.lower is not None:
        conditions.append(column("event", "r") >= number(join.lower))
    if join.lag is None:
        conditions.append(column("created", "r") <= number(join.last))
    return exp.and_(*conditions)


def candidates(join: Join) -> exp.Select:
    """The feature rows that a join may read."""
    rows = join.rows.visible(join.lower, join.upper)
    names = [*join.rows.key_names, "event", "created", "ordinal"]
    if join.rows.hidden is not None:
        names.append("until")
    select = exp.select(*[column(name, "r") for name in names]).from_(rows.subquery("r", copy=False), copy=False)
    return select.where(reach(join), copy=False)


def packed(packing: Packing) -> Tree:
    """The packed number of row r."""
    return packing.pack(column("event", "r"), column("created", "r"), column("ordinal", "r"))


def pick_pairs(join: Join, packing: Packing) -> exp.Select:
    """`picked` by hash join and the greatest packed number."""
    pairs = (
        exp.select(column("rn", "s"), packed(packing).as_("p"))
        .from_(join.spine_rows().subquery("s", copy=False), copy=False)
        .join(candidates(join).subquery("r", copy=False), on=join.counting(), copy=False)
    )
    return greatest(pairs, packing)


def greatest(pairs: exp.Select, packing: Packing, strongest: str | None = None) -> exp.Select:
    """`picked` from pairs of (rn, packed number); `tied` tells of equal rows, where the least ordinal is another.

    Args:
        pairs: rn, p and `strongest`.
        packing: the packed number.
        strongest: a column of which the greatest value is kept too.
    """
    found = exp.select(
        column("rn"),
        exp.Max(this=column("p")).as_("best"),
        exp.Max(this=packing.inverted(column("p"))).as_("low"),
    )
    found = found.from_(pairs.subquery("q", copy=False), copy=False).group_by(column("rn"), copy=False)
    best, low = column("best"), column("low")
    another = packing.ordinal(best).neq(packing.ordinal(packing.inverted(low)))
    tied = exp.Case().when(another, packing.created(best))
    columns = [packing.ordinal(best).as_("ordinal"), packing.event(best).as_("event"), tied.as_("tied")]
    if strongest is not None:
        found = found.select(exp.Max(this=column(strongest)).as_(strongest, quoted=True))
        columns.append(column(strongest))
    return exp.select(column("rn"), *columns).from_(found.subquery("b", copy=False), copy=False)


def pick_ranked(join: Join, only: Tree | None = None) -> exp.Select:
    """`picked` by ranking all pairs."""
    keys = [column(k, "s") for k in join.rows.key_names]
    order = [exp.Ordered(this=column(name, "r"), desc=True) for name in ("event", "created", "ordinal")]
    rank = exp.Window(this=exp.RowNumber(), partition_by=[column("rn", "s")], order=exp.Order(expressions=order))
    columns = [column("ordinal", "r"), column("event", "r"), column("created", "r")]
    ranked = (
        exp.select(column("rn", "s"), column("t", "s"), *columns, *keys, rank.as_("place"))
        .from_(join.spine_rows(only).subquery("s"))
        .join(candidates(join).subquery("r"), on=join.counting())
    )
    names = ["rn", "t", "ordinal", "event", "created", *join.rows.key_names]
    return exp.select(*[column(n) for n in names]).from_(ranked.subquery("x")).where(column("place").eq(number(1)))


def hides(rows: ViewRelations, table: str, at: Tree | None) -> Tree:
    """The condition that tombstone d hides row `table` of its key from reads at an instant; None: from any.

    It hides rows known by its D and, of the log's, those at positions before its P, whatever their times.
    """
    known = exp.Greatest(this=column("event", table), expressions=[column("created", table)])
    hidden: Tree = column("through", "d") >= known
    if rows.log:
        size, ordinal = number(rows.source_size), column("ordinal", table)
        before = ordinal - size if rows.source_size else ordinal
        of_log = [ordinal >= size.copy()] if rows.source is not None else []
        hidden = exp.or_(hidden, exp.and_(*of_log, before < column("position", "d")))
    same = [column(k, "d").eq(column(k, table)) for k in rows.key_names]
    return exp.and_(*same, hidden, *([] if at is None else [column("through", "d") <= at]))


def hidden_rows(rows: ViewRelations, deletes: str) -> exp.Select:
    """(the names of a row, until): each row that tombstones of its key hide from reads at the least of their Ds on.

    Args:
        rows: the view's rows.
        deletes: a table of keys (k0…), `through` (D) and `position` (P).
    """
    names = [column(name, "r") for name in rows.row_names]
    return (
        exp.select(*names, exp.Min(this=column("through", "d")).as_("until"))
        .from_(rows.narrow().subquery("r", copy=False), copy=False)
        .join(table_named(deletes).as_("d"), on=hides(rows, "r", None), copy=False)
        .group_by(*[name.copy() for name in names], copy=False)
    )


def entities(
    views: list[tuple[ViewRelations, tuple[str, ...]]], columns: tuple[str, ...], at: int, as_known: bool
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
        if rows.deletes is not None and rows.hidden is None:
            marks = exp.select(number(1)).from_(table_named(rows.deletes).as_("d")).where(hides(rows, "r", number(at)))
            select = select.where(exp.Not(this=exp.Exists(this=marks)))
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
