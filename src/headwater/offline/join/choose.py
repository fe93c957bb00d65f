"""Runs the point-in-time query for one view: picks rows, settles ties, says why rows are missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
from sqlglot import exp

from headwater.definitions.feature import Feature
from headwater.definitions.names import VALID_TO
from headwater.offline.join import ends, missing, ties
from headwater.offline.join.pick import Picked, pick
from headwater.offline.join.pit import Join
from headwater.offline.join.workspace import Workspace, created
from headwater.offline.trees import BIGINT, TINYINT, column, table_named, union_all


@dataclass(frozen=True)
class Chosen:
    """What one view's join came to.

    Attributes:
        matched: a table of (rn, the names of a row, event).
        missed: a table of (rn, why); None where every row matched.
        read: a table of (ordinal, f0…) with every feature of the matched rows, in order of name; None: none was read.
        counts: matched, no_row, expired, not_known, same_instant; ties, where only features decided any; overlapping
            and never_valid, where rows end.
    """

    matched: str
    missed: str | None
    counts: dict[str, int]
    read: str | None = None


def choose(
    space: Workspace, label: str, join: Join, spine_rows: int, features: Sequence[Feature], asked: int = 0
) -> Chosen:
    """For each spine row the row that the contract gives it, by its ordinal.

    Args:
        space: the run's tables.
        label: part of their names.
        join: the view and the spine.
        spine_rows: how many rows the spine has.
        features: the view's `row_features`, for ties.
        asked: how many of them the answer has.
    """
    picked = pick(space, label, join, spine_rows)
    found = picked.found
    if found is None:
        matched, same_instant, tied = space.rows(_matches(join, picked.table))[0]
    else:
        matched, same_instant, tied = found.matched, found.same_instant, found.tied
    settled, undecided, read = picked.table, 0, None
    if tied:
        once = asked * 2 >= len(features)
        settled, undecided, read = _settle(space, label, join, picked, features, once=once)
    counts = {
        "matched": int(matched),
        "no_row": 0,
        "expired": 0,
        "not_known": 0,
        "same_instant": int(same_instant or 0),
    }
    if undecided:
        counts["ties"] = undecided
    why = picked.why
    if counts["matched"] == spine_rows:
        why = None
    elif why is None:
        why = _explain(space, label, join, picked.table, picked.density * (spine_rows - counts["matched"]))
    if settled != picked.table:
        space.drop(picked.table)
    if why is None:
        return _not_ended(space, label, join, Chosen(settled, None, counts, read), features)
    of = {missing.NOT_FOUND: "no_row", missing.EXPIRED: "expired", missing.NOT_KNOWN: "not_known"}
    for code, count in _reasons(space, why) if found is None else found.missed.items():
        counts[of[int(code)]] = int(count)
    return _not_ended(space, label, join, Chosen(settled, why, counts, read), features)


def _not_ended(space: Workspace, label: str, join: Join, chosen: Chosen, features: Sequence[Feature]) -> Chosen:
    """The same where rows that had ended are missed: they are too old."""
    if all(feature.name != VALID_TO for feature in features):
        return chosen
    counts = chosen.counts
    counts["overlapping"] = int(space.rows(ends.overlaps(join))[0][0] or 0)
    table = ends.ended(space, label, join, ends.chosen_rows(join, chosen.matched))
    if not ends.count_ended(space, table, counts):
        return chosen
    left = exp.select(exp.Column(this=exp.Star(), table=exp.to_identifier("m")))
    left = left.from_(table_named(chosen.matched).as_("m"))
    on = column("rn", "m").eq(column("rn", "e"))
    matched = created(space, f"valid_{label}", left.join(table_named(table).as_("e"), on=on, join_type="anti"))
    missed: exp.Query = ends.expired(table)
    if chosen.missed is not None:
        others = exp.select(column("rn"), column("why")).from_(table_named(chosen.missed))
        missed = union_all([others, missed])
    return replace(chosen, matched=matched, missed=created(space, f"lost_{label}", missed))


def _reasons(space: Workspace, why: str) -> list[tuple[Any, ...]]:
    """How many rows have each reason."""
    grouped = exp.select(column("why"), exp.Count(this=exp.Star())).from_(table_named(why)).group_by(column("why"))
    return space.rows(grouped)


def _matches(join: Join, picked: str) -> exp.Select:
    """How many rows matched, how many of them at the spine's own instant, and how many beside an equal source row."""
    same = exp.Case().when(column("event", "p").eq(column("t", "s")), exp.convert(1)).else_(exp.convert(0))
    tied = exp.CountIf(this=ties.is_tied(join.rows))
    return (
        exp.select(exp.Count(this=exp.Star()), exp.Sum(this=same), tied)
        .from_(table_named(picked).as_("p"))
        .join(table_named(join.spine).as_("s"), on=column("rn", "p").eq(column("rn", "s")))
    )


def _settle(
    space: Workspace, label: str, join: Join, chosen: Picked, features: Sequence[Feature], *, once: bool
) -> tuple[str, int, str | None]:
    """The table of picked rows with exact ties decided by rule 5, and how many of them only the features decided.

    With `once`, and where ordinals alone name rows here, the features of picked rows and of those that tie are read
    together: the third is their table.
    """
    rows, lower, upper, picked = join.rows, join.lower, join.upper, chosen.table
    heads = created(space, f"heads_{label}", ties.heads(picked, join.spine_rows(), rows))
    read, query = None, None
    if once and not rows.numbered_by_key and not rows.event_id and space.settler is space:
        names = sorted(feature.name for feature in features)
        found = ties.mates(rows, heads, lower, upper) if chosen.equal is None else ties.mates_in(chosen.equal, heads)
        mates = created(space, f"mates_{label}", found)
        read = created(space, f"read_{label}", ties.read_once(rows, picked, mates, names))
        query = ties.read_members(mates, read, len(names))
    winners = ties.decide(space, label, rows, heads, features, lower, upper, query)
    undecided = int(space.rows(ties.by_features(picked, winners, rows))[0][0])
    settled = created(space, f"settled_{label}", ties.settled(picked, winners, rows, ["rn", "event"]))
    return settled, undecided, read


def _explain(space: Workspace, label: str, join: Join, picked: str, pairs: float) -> str:
    """The table of (rn, why) of the rows that picked nothing."""
    missed = created(space, f"missed_{label}", missing.missed(join, picked))
    limits = space.powers.packed
    if limits is not None and pairs <= limits.pairs:
        return created(space, f"why_{label}", missing.by_pairs(join, missed))
    by_key = missing.by_running if limits is None else missing.by_key
    if join.rows.deletes is None:
        return created(space, f"why_{label}", by_key(join, missed))
    deleted = join.deleted(tuple(join.rows.key_names), "m")
    rows = exp.select(exp.Star()).from_(table_named(missed).as_("m"))
    marked = created(space, f"missed_deleted_{label}", rows.where(deleted))
    others = created(space, f"missed_others_{label}", rows.where(exp.Not(this=deleted.copy())))
    return created(space, f"why_{label}", union_all([missing.by_pairs(join, marked), by_key(join, others)]))


def answer_schema(features: Sequence[Feature]) -> pa.Schema:
    """The columns of `answer`."""
    values = [(f"f{i}", feature.dtype.arrow) for i, feature in enumerate(features)]
    return pa.schema([("rn", pa.int64()), ("event", pa.int64()), ("why", pa.int8()), *values])


def answer(join: Join, chosen: Chosen, features: Sequence[str], every: Sequence[Feature] = ()) -> exp.Query:
    """rn, event, why (NULL: matched) and the features f0… of every spine row, in the spine's order.

    Args:
        join: the view and the spine.
        chosen: its chosen rows.
        features: the features asked for.
        every: the view's `row_features`.
    """
    places: Sequence[int] = range(len(features))
    if chosen.read is not None:
        names = sorted(feature.name for feature in every)
        places = [names.index(name) for name in features]
    values = [column(f"f{place}", "w").as_(f"f{i}", quoted=True) for i, place in enumerate(places)]
    wide = (
        join.rows.wide(features).subquery("w", copy=False) if chosen.read is None else table_named(chosen.read).as_("w")
    )
    query: exp.Query = (
        exp.select(
            column("rn", "c"), column("event", "c"), exp.cast(exp.Null(), TINYINT).as_("why"), *values, copy=False
        )
        .from_(table_named(chosen.matched).as_("c"), copy=False)
        .join(wide, on=join.rows.same_row("c", "w"), copy=False)
    )
    if chosen.missed is not None:
        nothing = [exp.Null().as_(f"f{i}") for i in range(len(features))]
        lost = exp.select(column("rn"), exp.cast(exp.Null(), BIGINT).as_("event"), column("why"), *nothing, copy=False)
        lost = lost.from_(table_named(chosen.missed), copy=False)
        query = exp.union(query, lost, distinct=False, copy=False)
    whole = exp.select(exp.Star()).from_(query.subquery("a", copy=False), copy=False)
    return whole.order_by(column("rn"), copy=False)
