"""The point-in-time query within windows of time: few pairs even where keys have many rows.

A row that counts and lies in the window before t beats every earlier one, for the greater event time decides first.
So a spine row that finds any row in its window has its answer; only the others look further back.
"""

from __future__ import annotations

from sqlglot import exp

from headwater.offline.packing import Packing
from headwater.offline.pit import Join, candidates, greatest, packed, reach
from headwater.offline.relations import Tree, big, column, number, union_all


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


def sampled(join: Join, sample: int) -> exp.Select:
    """Keys, event and created time of each `sample`-th feature row that the join may read."""
    names = [*join.rows.key_names, "event", "created"]
    rows = join.rows.narrow(join.lower, join.upper).subquery("r")
    every = exp.Mod(this=column("ordinal", "r"), expression=number(sample)).eq(number(0))
    return exp.select(*[column(n, "r") for n in names]).from_(rows).where(reach(join), every)


def sampled_pairs(join: Join, sample: int) -> exp.Select:
    """How many pairs share a key, by the keys alone of each `sample`-th feature row: one row of one."""
    names = join.rows.key_names
    rows = join.rows.narrow(join.lower, join.upper, nulls=True).subquery("r")
    every = exp.Mod(this=column("ordinal", "r"), expression=number(sample)).eq(number(0))
    few = exp.select(*[column(n, "r") for n in names]).from_(rows).where(every)
    return _counted(join.spine_rows(), few, names)


def pair_count(join: Join, rows: str, windows: tuple[Packing, int] | None = None) -> exp.Select:
    """How many (spine row, sampled row) pairs share a key, and a window where those are given: one row of one.

    Args:
        join: the view and the spine.
        rows: a table of `sampled` rows.
        windows: the packing and the width of the windows.
    """
    names = list(join.rows.key_names)
    few = exp.select(*[column(n) for n in names]).from_(exp.to_table(rows))
    spine: exp.Query = join.spine_rows()
    if windows is not None:
        few = few.select(_window(column("event"), *windows).as_("w"))
        spine = _doubled(join, *windows)
        names.append("w")
    return _counted(spine, few, names)


def _counted(spine: exp.Query, rows: exp.Select, names: list[str]) -> exp.Select:
    """How many pairs of both are equal in the columns named."""
    counted = exp.select(*[column(n) for n in names], exp.Count(this=exp.Star()).as_("n")).from_(rows.subquery("g"))
    counted = counted.group_by(*[column(n) for n in names])
    pairs = exp.Sum(this=exp.cast(column("n", "r"), "double"))
    return (
        exp.select(exp.Coalesce(this=pairs, expressions=[number(0)]))
        .from_(spine.subquery("s"))
        .join(counted.subquery("r"), on=exp.and_(*[column(n, "s").eq(column(n, "r")) for n in names]))
    )


def delay(rows: str) -> exp.Select:
    """How long after its event time a sampled row is known, on average (microseconds): one row of one."""
    late = exp.cast(column("created"), "double") - exp.cast(column("event"), "double")
    return exp.select(exp.Avg(this=exp.Greatest(this=late, expressions=[number(0)]))).from_(exp.to_table(rows))


def remaining(join: Join, picked: str) -> exp.Select:
    """The spine's rows, with all keys, that picked nothing."""
    names = ["rn", "t", *dict.fromkeys(join.keys)]
    here = [exp.Not(this=exp.Is(this=column(k, "s"), expression=exp.Null())) for k in join.keys]
    return (
        exp.select(*[column(n, "s") for n in names])
        .from_(exp.to_table(join.spine).as_("s"))
        .join(exp.to_table(picked).as_("p"), on=column("rn", "s").eq(column("rn", "p")), join_type="anti")
        .where(*here)
    )
