"""Rows that end (`valid_to=`): until when each counts, and which spine rows chose one that had ended by then.

Rows are chosen by their order, as always; then it is asked whether the chosen one has ended. As known, a row of a
source without created times ends `delay` after its valid_to, as it is known `delay` after its valid_from; and no row
ends before the next row of its key was known, where that row says when it was created: a table that is kept in place
got the end of the one when it got the other.
"""

from __future__ import annotations

from sqlglot import exp

from headwater.definitions.names import OPEN, VALID_TO
from headwater.offline.join import missing
from headwater.offline.join.pit import Join
from headwater.offline.join.relations import ViewRelations
from headwater.offline.join.workspace import Workspace, created
from headwater.offline.trees import TINYINT, Tree, ascending, big, column, number, table_named

_ROW = ("event", "created", "ordinal")


def says_created(rows: ViewRelations) -> bool:
    """Whether any row of a view says when it was created."""
    return bool(rows.log) or (rows.source is not None and rows.source.created is not None)


def known_end(rows: ViewRelations, table: str, following: Tree | None = None) -> Tree:
    """Until when row `table` counts as known: of its `valid_to`, event, ordinal, and the created time of the next row.

    A row that ends before it begins never counts.

    Args:
        rows: the view's rows.
        table: an item of FROM.
        following: the created time of the next row; NULL: there is none, or it does not say it.
    """
    said = column("valid_to", table)
    known: Tree = said
    if rows.source is not None and rows.source.created is None and rows.delay:
        late: Tree = said.copy() < big(OPEN)
        if rows.log:
            late = exp.and_(column("ordinal", table) < number(rows.source_size), late)
        known = exp.Case().when(late, said.copy() + number(rows.delay)).else_(said.copy())
    if following is not None:
        later = exp.Coalesce(this=following, expressions=[known.copy()])
        known = exp.Greatest(this=known, expressions=[later])
    if known is said:
        return said
    return exp.Case().when(said.copy() < column("event", table), said.copy()).else_(known)


def following_rows(rows: ViewRelations, of: exp.Query | None) -> exp.Select:
    """(k0…, event, created, following): of all times of some keys the created time of the row that comes after.

    Args:
        rows: the view's rows.
        of: a query of the keys (k0…); None: all.
    """
    keys = rows.key_names
    stated: Tree = column("created", "r")
    if rows.source is not None and rows.source.created is None:
        stated = exp.Case().when(column("ordinal", "r") >= number(rows.source_size), stated)
    one_of = [column(name, "r") for name in (*keys, "event", "created")]
    times = exp.select(*one_of, exp.Max(this=stated).as_("stated"))
    times = _of_keys(times, rows, of).group_by(*[each.copy() for each in one_of], copy=False)
    after = exp.Window(
        this=exp.Lead(this=column("stated", "x")),
        partition_by=[column(k, "x") for k in keys],
        order=ascending([column("event", "x"), column("created", "x")]),
    )
    names = [column(name, "x") for name in (*keys, "event", "created")]
    return exp.select(*names, after.as_("following")).from_(times.subquery("x", copy=False), copy=False)


def same_times(rows: ViewRelations, left: str, right: str) -> Tree:
    """The condition that two items of FROM have one key and the same times."""
    return exp.and_(*[column(n, left).eq(column(n, right)) for n in (*rows.key_names, "event", "created")])


def overlaps(join: Join) -> exp.Select:
    """How many neighbouring rows of the spine's keys overlap: the earlier had not ended when the later began.

    Of rows that begin at one instant the last known is looked at.
    """
    rows, keys = join.rows, join.rows.key_names
    # the numbers of the source's rows say nothing of their order
    place: Tree = column("ordinal", "r")
    if rows.source is not None:
        place = exp.Greatest(this=place, expressions=[number(rows.source_size - 1)])
    named = [*[column(name, "r") for name in (*keys, "event", "created")], place.as_("ordinal", quoted=True)]
    read = exp.select(*named, column("f0", "r").as_("valid_to"))
    read = _of_keys(read, rows, join.spine_rows(), valid_to=True)
    order = ascending([column(name, "x") for name in (*_ROW, "valid_to")])
    after = exp.Window(
        this=exp.Lead(this=column("event", "x")), partition_by=[column(k, "x") for k in keys], order=order
    )
    each = exp.select(column("event", "x"), column("valid_to", "x"), after.as_("begins"))
    each = each.from_(read.subquery("x", copy=False), copy=False)
    begins = column("begins", "n")
    both = exp.and_(begins > column("event", "n"), begins.copy() < column("valid_to", "n"))
    return exp.select(exp.CountIf(this=both)).from_(each.subquery("n", copy=False), copy=False)


def ended(space: Workspace, label: str, join: Join, chosen: exp.Query) -> str:
    """The table of (rn, t, event, valid_to) of the spine rows whose chosen row has ended at t.

    Args:
        space: the run's tables.
        label: part of their names.
        join: the view and the spine.
        chosen: rn, t, k0…, event, created, ordinal and valid_to of the chosen rows.
    """
    rows, names = join.rows, ("rn", "t", "event", "valid_to")
    past = exp.select(exp.Star()).from_(chosen.subquery("c", copy=False), copy=False)
    past = past.where(column("valid_to", "c") <= column("t", "c"), copy=False)
    if not join.as_known:
        shown = exp.select(*[column(name, "p") for name in names]).from_(past.subquery("p", copy=False), copy=False)
        return created(space, f"ended_{label}", shown)
    found = exp.select(*[column(name, "p") for name in names])
    if not says_created(rows):
        found = found.from_(past.subquery("p", copy=False), copy=False)
        return created(space, f"ended_{label}", found.where(known_end(rows, "p") <= column("t", "p"), copy=False))
    table = created(space, f"past_{label}", past)
    of = exp.select(*[column(k) for k in rows.key_names]).from_(table_named(table))
    after = following_rows(rows, of).subquery("a", copy=False)
    found = found.from_(table_named(table).as_("p"), copy=False)
    found = found.join(after, on=same_times(rows, "p", "a"), join_type="left", copy=False)
    ends = known_end(rows, "p", column("following", "a"))
    return created(space, f"ended_{label}", found.where(ends <= column("t", "p"), copy=False))


def chosen_rows(join: Join, picked: str) -> exp.Select:
    """What `ended` looks at, of a table of (rn, the names of a row)."""
    keys = join.rows.key_names
    wide = join.rows.wide([VALID_TO], keys=True, times=True).subquery("w", copy=False)
    columns = [column("rn", "c"), column("t", "s"), *[column(name, "w") for name in (*keys, *_ROW)]]
    found = exp.select(*columns, column("f0", "w").as_("valid_to")).from_(table_named(picked).as_("c"), copy=False)
    found = found.join(wide, on=join.rows.same_row("c", "w"), copy=False)
    return found.join(table_named(join.spine).as_("s"), on=column("rn", "s").eq(column("rn", "c")), copy=False)


def expired(table: str) -> exp.Select:
    """(rn, why) of a table of `ended`."""
    return exp.select(column("rn"), exp.cast(number(missing.EXPIRED), TINYINT).as_("why")).from_(table_named(table))


def count_ended(space: Workspace, table: str, counts: dict[str, int]) -> int:
    """Move the rows of a table of `ended` from `matched` to `expired`; how many there are."""
    same = exp.CountIf(this=column("event").eq(column("t")))
    never = exp.CountIf(this=column("valid_to") < column("event"))
    found = space.rows(exp.select(exp.Count(this=exp.Star()), same, never).from_(table_named(table)))[0]
    gone, at_once, never_valid = (int(n or 0) for n in found)
    counts["matched"] -= gone
    counts["same_instant"] -= at_once
    counts["expired"] += gone
    counts["never_valid"] = never_valid
    return gone


def _of_keys(select: exp.Select, rows: ViewRelations, of: exp.Query | None, *, valid_to: bool = False) -> exp.Select:
    """Columns of the rows r of some keys (k0… of a query), or of all."""
    read = rows.narrow(features=[VALID_TO] if valid_to else [])
    select = select.from_(read.subquery("r", copy=False), copy=False)
    if of is None:
        return select
    same = exp.and_(*[column(k, "o").eq(column(k, "r")) for k in rows.key_names])
    return select.join(of.subquery("o", copy=False), on=same, join_type="semi", copy=False)
