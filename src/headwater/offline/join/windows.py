"""The point-in-time query within windows of time: few pairs even where keys have many rows.

A row that counts and is in the window before t beats every earlier one, for the greater event time decides first.
So a spine row that finds any row in its window has its answer; only the others look further back.
"""

from __future__ import annotations

from sqlglot import exp

from headwater.offline.join.packing import Packing
from headwater.offline.join.pit import Join, candidates, greatest, packed, reach
from headwater.offline.join.relations import ViewRelations
from headwater.offline.trees import DOUBLE, Tree, big, column, number, table_named, union_all

_BLOCKS = 16
"""In how many places rows are sampled."""


def pick_windowed(join: Join, packing: Packing, width: int) -> exp.Select:
    """`picked` of the spine rows that find a row in their own window of `width` microseconds or the one before."""
    rows = exp.select(exp.Star(), _window(column("event", "x"), packing, width).as_("w"))
    rows = rows.from_(candidates(join).subquery("x"))
    same = exp.and_(column("w", "s").eq(column("w", "r")), join.counting())
    pairs = exp.select(column("rn", "s"), packed(packing).as_("p")).from_(_doubled(join, packing, width).subquery("s"))
    return greatest(pairs.join(rows.subquery("r"), on=same), packing)


def _window(time: Tree, packing: Packing, width: int) -> Tree:
    return exp.IntDiv(this=exp.paren(time - big(packing.event_min)), expression=number(width))


def _doubled(join: Join, packing: Packing, width: int) -> exp.Query:
    """Each spine row twice: with its own window and with the one before."""
    spine = join.spine_rows().subquery("a")
    own = _window(column("t", "a"), packing, width)
    names = [column(n, "a") for n in ("rn", "t", *join.rows.key_names)]
    once = exp.select(*names, own.as_("w")).from_(spine)
    before = exp.select(*[n.copy() for n in names], (own.copy() - number(1)).as_("w")).from_(spine.copy())
    return union_all([once, before])


def sampled(join: Join, every: int) -> exp.Select:
    """Keys, event and created time of about one of `every` feature rows that the join may read."""
    names = [*join.rows.key_names, "event", "created"]
    rows = join.rows.narrow(join.lower, join.upper).subquery("r")
    some = (
        exp.select(*[column(n, "r") for n in names], copy=False).from_(rows, copy=False).where(reach(join), copy=False)
    )
    return some if every == 1 else some.where(_one_of(join.rows, every), copy=False)


def _one_of(rows: ViewRelations, every: int) -> Tree:
    """One of `every` rows r: blocks of rows where the engine then reads nothing else, else every so many."""
    ordinal = column("ordinal", "r")
    if rows.log or rows.source is None or not rows.source.seekable:
        return exp.Mod(this=ordinal, expression=number(every)).eq(number(0))
    step = max(1, rows.size // _BLOCKS)
    starts = range(0, rows.size, step)
    return exp.or_(*[exp.Between(this=ordinal.copy(), low=number(s), high=number(s + step // every)) for s in starts])


def pair_count(join: Join, rows: Tree, windows: tuple[Packing, int] | None = None) -> exp.Select:
    """How many (spine row, sampled row) pairs share a key, and a window where those are given: one row of one.

    Args:
        join: the view and the spine.
        rows: what FROM names for `sampled` rows.
        windows: the packing and the width of the windows.
    """
    names = list(join.rows.key_names)
    few = exp.select(*[column(n) for n in names]).from_(rows)
    spine: exp.Query = join.spine_rows()
    if windows is not None:
        few = few.select(_window(column("event"), *windows).as_("w"))
        spine = _doubled(join, *windows)
        names.append("w")
    counted = exp.select(*[column(n) for n in names], exp.Count(this=exp.Star()).as_("n")).from_(few.subquery("g"))
    counted = counted.group_by(*[column(n) for n in names])
    pairs = exp.Sum(this=exp.cast(column("n", "r"), DOUBLE))
    return (
        exp.select(exp.Coalesce(this=pairs, expressions=[number(0)]))
        .from_(spine.subquery("s"))
        .join(counted.subquery("r"), on=exp.and_(*[column(n, "s").eq(column(n, "r")) for n in names]))
    )


def delay(rows: Tree) -> exp.Select:
    """How long after its event time a sampled row is known, on average (microseconds): one row of one."""
    late = exp.cast(column("created"), DOUBLE) - exp.cast(column("event"), DOUBLE)
    return exp.select(exp.Avg(this=exp.Greatest(this=late, expressions=[number(0)]))).from_(rows)


def remaining(join: Join, picked: str) -> exp.Select:
    """The spine's rows, with all keys, that picked nothing."""
    names = ["rn", "t", *dict.fromkeys(join.keys)]
    here = [exp.Not(this=exp.Is(this=column(k, "s"), expression=exp.Null())) for k in join.keys]
    return (
        exp.select(*[column(n, "s") for n in names])
        .from_(table_named(join.spine).as_("s"))
        .join(table_named(picked).as_("p"), on=column("rn", "s").eq(column("rn", "p")), join_type="anti")
        .where(*here)
    )
