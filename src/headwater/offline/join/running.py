"""The point-in-time query by running maxima, for engines without integers of 128 bits or as-of joins.

A row counts at t exactly when it is known at t (and within the ttl). So the rows of each key get their place in the
contract's order, rows and spine rows are laid in one order of time, and the greatest place so far is the answer: one
pass over each key's rows, however many there are, with integers of 64 bits alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

from headwater.offline.join.pit import Join, candidates, reach
from headwater.offline.trees import BIGINT, Tree, ascending, big, column, number, table_named, union_all

_ORDER = ("event", "created", "ordinal")


def ordered_rows(join: Join) -> exp.Select:
    """(keys, ordinal, event, known, place, tied): the rows that the join may read, by their place in the order.

    `known` is when a row counts, less the join's lag; `place` counts from 1 within each key; `tied` is the created time
    of a row before which an equal one stands, else NULL.
    """
    keys = [column(k, "r") for k in join.rows.key_names]
    event, created = column("event", "r"), column("created", "r")
    known = exp.Greatest(this=event.copy(), expressions=[created.copy()]) if join.lag is None else event.copy()
    before = [exp.EQ(this=_over(exp.Lag(this=time.copy()), keys), expression=time.copy()) for time in (event, created)]
    return (
        exp.select(
            *[key.copy() for key in keys],
            column("ordinal", "r"),
            event,
            known.as_("known"),
            _over(exp.RowNumber(), keys).as_("place"),
            exp.Case().when(exp.and_(*before), created).as_("tied"),
        )
        .from_(join.rows.narrow(join.lower, join.upper).subquery("r", copy=False), copy=False)
        .where(reach(join), copy=False)
    )


def _over(function: Tree, keys: list[exp.Column]) -> exp.Window:
    """A function over the rows r of a key, the least first."""
    order = ascending([column(name, "r") for name in _ORDER])
    return exp.Window(this=function, partition_by=[key.copy() for key in keys], order=order)


def pick_running(join: Join, ordered: str, only: Tree | None = None) -> exp.Select:
    """`picked` (rn, the names of a row, event, tied) by the greatest place of the rows known so far.

    Args:
        join: the view and the spine.
        ordered: a table of `ordered_rows`.
        only: a condition on the spine's rows.
    """
    keys = join.rows.key_names
    lag = join.lag or 0
    rows = exp.select(*[column(k, "o") for k in keys], column("known", "o").as_("at"), number(0).as_("side"))
    rows = rows.select(column("place", "o"), exp.cast(exp.Null(), BIGINT).as_("rn"))
    reached = column("t", "a") - number(lag) if lag else column("t", "a")
    spine = exp.select(*[column(k, "a") for k in keys], reached.as_("at"), number(1).as_("side"))
    spine = spine.select(exp.cast(exp.Null(), BIGINT).as_("place"), column("rn", "a"))
    both = union_all(
        [
            rows.from_(table_named(ordered).as_("o"), copy=False),
            spine.from_(join.spine_rows(only).subquery("a", copy=False), copy=False),
        ]
    ).subquery("u", copy=False)
    best = so_far(exp.Max(this=column("place", "u")), [column(k, "u") for k in keys])
    placed = exp.select(column("rn", "u"), column("at", "u"), *[column(k, "u") for k in keys], best.as_("best"))
    picked = (
        exp.select(column("rn", "w"), *[column(name, "o") for name in (*join.rows.row_names, "event", "tied")])
        .from_(placed.from_(both, copy=False).subquery("w", copy=False), copy=False)
        .join(
            table_named(ordered).as_("o"),
            on=exp.and_(join.same_key("w", "o"), column("best", "w").eq(column("place", "o"))),
            copy=False,
        )
        .where(exp.Not(this=exp.Is(this=column("rn", "w"), expression=exp.Null())), copy=False)
    )
    if not join.ttl or not join.rows.timed:
        return picked
    # the greatest event time of all known rows: where it is beyond the ttl, so is every other
    return picked.where(column("event", "o") >= column("at", "w") - big(join.ttl - lag))


def so_far(function: Tree, keys: list[exp.Column], place: Sequence[str] = ("at", "side")) -> exp.Window:
    """A function over all rows u of a key up to a row, by the columns of their place."""
    order = ascending([column(name, "u") for name in place])
    spec = exp.WindowSpec(kind="ROWS", start="UNBOUNDED", start_side="PRECEDING", end="CURRENT ROW")
    return exp.Window(this=function, partition_by=[key.copy() for key in keys], order=order, spec=spec)


def pick_deleted(join: Join, only: Tree | None = None) -> exp.Select:
    """The same by ranking all pairs: what counts of keys with a delete differs from one spine row to the next."""
    names, keys = join.rows.row_names, set(join.rows.key_names)
    columns = [*dict.fromkeys([*names, *_ORDER])]
    order = exp.Order(expressions=[exp.Ordered(this=column(name, "r"), desc=True) for name in _ORDER])

    def over(function: Tree) -> exp.Window:
        return exp.Window(this=function, partition_by=[column("rn", "s")], order=order.copy())

    ranked = (
        exp.select(
            column("rn", "s"),
            *[column(name, "s" if name in keys else "r") for name in columns],
            over(exp.RowNumber()).as_("place"),
            *[over(exp.Lead(this=column(name, "r"))).as_(f"next_{name}") for name in ("event", "created")],
        )
        .from_(join.spine_rows(only).subquery("s"))
        .join(candidates(join).subquery("r"), on=join.counting())
    )
    same = [column(f"next_{name}").eq(column(name)) for name in ("event", "created")]
    tied = exp.Case().when(exp.and_(*same), column("created"))
    return (
        exp.select(*[column(name) for name in ("rn", *names, "event")], tied.as_("tied"))
        .from_(ranked.subquery("x"))
        .where(column("place").eq(number(1)))
    )
