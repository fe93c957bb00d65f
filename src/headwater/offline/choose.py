"""Runs the point-in-time query for one view: which lowering, ties, why rows are missing; leaves the chosen rows in a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlglot import exp

from headwater.definitions.feature import Feature
from headwater.offline import missing, pit, ties
from headwater.offline.packing import Packing
from headwater.offline.pit import Join
from headwater.offline.relations import column, union_all
from headwater.offline.workspace import Workspace

_LATE = 0.3
"""The share of late rows from which on finding the known ones for all keys is cheaper than repairing."""


@dataclass(frozen=True)
class Chosen:
    """What one view's join came to.

    Attributes:
        matched: a table of (rn, ordinal, event).
        missed: a table of (rn, why); None where every row matched.
        counts: matched, no_row, expired, not_known, same_instant.
    """

    matched: str
    missed: str | None
    counts: dict[str, int]


def choose(space: Workspace, label: str, join: Join, spine_rows: int, features: Sequence[Feature]) -> Chosen:
    """For each spine row the row that the contract gives it, by its ordinal.

    Args:
        space: the run's tables.
        label: part of their names.
        join: the view and the spine.
        spine_rows: how many rows the spine has.
        features: every feature of the view, for ties.
    """
    picked, by_pairs = _pick(space, label, join, spine_rows)
    settled = _settle(space, label, join, picked, by_pairs, features)
    matched, same_instant = space.rows(_matches(join, picked))[0]
    counts = {
        "matched": int(matched),
        "no_row": 0,
        "expired": 0,
        "not_known": 0,
        "same_instant": int(same_instant or 0),
    }
    if counts["matched"] == spine_rows:
        return Chosen(settled, None, counts)
    why = _explain(space, label, join, picked, by_pairs)
    of = {missing.NOT_FOUND: "no_row", missing.EXPIRED: "expired", missing.NOT_KNOWN: "not_known"}
    grouped = exp.select(column("why"), exp.Count(this=exp.Star())).from_(exp.to_table(why)).group_by(column("why"))
    for code, count in space.rows(grouped):
        counts[of[int(code)]] = int(count)
    return Chosen(settled, why, counts)


def _matches(join: Join, picked: str) -> exp.Select:
    """How many rows matched, and how many of them at the spine's own instant."""
    same = exp.Case().when(column("event", "p").eq(column("t", "s")), exp.convert(1)).else_(exp.convert(0))
    return (
        exp.select(exp.Count(this=exp.Star()), exp.Sum(this=same))
        .from_(exp.to_table(picked).as_("p"))
        .join(exp.to_table(join.spine).as_("s"), on=column("rn", "p").eq(column("rn", "s")))
    )


def _pick(space: Workspace, label: str, join: Join, spine_rows: int) -> tuple[str, bool]:
    """The table of picked rows, and whether it came from pairs, so that its `tie` says where an equal row stands."""
    name = f"picked_{label}"
    packing = _packing(space, join)
    if packing is None or not packing.fits or not space.powers.wide_integers:
        return _created(space, name, pit.pick_ranked(join)), False
    if not space.powers.asof_join:
        return _created(space, name, pit.pick_pairs(join, packing)), True
    pairs, keys = _pairs(space, join, spine_rows)
    if pairs <= space.powers.pairs_limit:
        return _created(space, name, pit.pick_pairs(join, packing)), True
    return _created(space, name, _pick_asof(space, label, join, packing, keys)), False


def _pick_asof(space: Workspace, label: str, join: Join, packing: Packing, keys: int) -> exp.Query:
    """The query of `picked` by as-of joins; spine rows of deleted keys are ranked."""
    only = exp.Not(this=join.deleted(join.keys)) if join.rows.deletes is not None else None
    query: exp.Query
    if join.lag is None and _mostly_late(space, join, packing, keys):
        steps = _created(space, f"steps_{label}", pit.known_steps(join, packing, None))
        query = pit.pick_stepped(join, packing, steps, only)
    else:
        last = _created(space, f"last_{label}", pit.pick_asof(join, packing, only))
        late = join.lag is None and space.rows(pit.late_count(packing, last))[0][0]
        steps_of = _created(space, f"steps_{label}", pit.known_steps(join, packing, last)) if late else None
        query = pit.pick_repaired(join, packing, last, steps_of)
    if join.rows.deletes is not None:
        query = union_all([query, pit.pick_ranked(join, join.deleted(join.keys))])
    return query


def _mostly_late(space: Workspace, join: Join, packing: Packing, keys: int) -> bool:
    """Whether the last row at t is often not yet known: rows come in faster than they become known."""
    if not join.rows.timed:
        return True
    rows, delay = space.rows(pit.delays(join))[0]
    between = (packing.event_max - packing.event_min) * max(1, keys) / max(1, rows)
    return bool(float(delay or 0) > _LATE * between)


def _packing(space: Workspace, join: Join) -> Packing | None:
    """None where no row is in reach."""
    first, last, created_first, created_last = space.rows(pit.ranges(join))[0]
    if first is None:
        return None
    lag = join.rows.lag
    return Packing.of((int(first), int(last)), (int(created_first), int(created_last)), join.rows.size, lag)


def _pairs(space: Workspace, join: Join, spine_rows: int) -> tuple[float, int]:
    """How many pairs share a key, and how many keys do; where there cannot be too many pairs nobody counts."""
    most = float(spine_rows) * join.rows.size
    if most <= space.powers.pairs_limit:
        return most, 0
    pairs, keys = space.rows(pit.pair_count(join))[0]
    return float(pairs), int(keys)


def _created(space: Workspace, name: str, query: exp.Query) -> str:
    space.create(name, query)
    return space.table(name)


def _settle(space: Workspace, label: str, join: Join, picked: str, flagged: bool, features: Sequence[Feature]) -> str:
    """The table of picked rows with exact ties decided by rule 5."""
    if join.rows.source is None:
        return picked
    query = ties.flagged(picked, join.rows) if flagged else ties.found(picked, join.rows)
    heads = _created(space, f"tied_{label}", query)
    if not space.rows(exp.select(exp.Count(this=exp.Star())).from_(exp.to_table(heads)))[0][0]:
        return picked
    members = _created(space, f"members_{label}", ties.members(join.rows, heads))
    winners = _created(space, f"winners_{label}", ties.winners(join.rows, members, features))
    query = ties.settled(picked, winners, ["rn", "event"])
    return _created(space, f"settled_{label}", query)


def _explain(space: Workspace, label: str, join: Join, picked: str, by_pairs: bool) -> str:
    """The table of (rn, why) of the rows that picked nothing."""
    missed = _created(space, f"missed_{label}", missing.missed(join, picked))
    if by_pairs:
        return _created(space, f"why_{label}", missing.by_pairs(join, missed))
    if join.rows.deletes is None:
        return _created(space, f"why_{label}", missing.by_key(join, missed))
    names = tuple(join.rows.key_names)
    deleted = join.deleted(names)
    rows = exp.select(exp.Star()).from_(exp.to_table(missed))
    marked = _created(space, f"missed_deleted_{label}", rows.where(deleted))
    others = _created(space, f"missed_others_{label}", rows.where(exp.Not(this=deleted.copy())))
    return _created(space, f"why_{label}", union_all([missing.by_pairs(join, marked), missing.by_key(join, others)]))


def answer(join: Join, chosen: Chosen, features: Sequence[str]) -> exp.Query:
    """rn, event, why (NULL: matched) and the features f0… of every spine row, in the spine's order.

    Args:
        join: the view and the spine.
        chosen: its chosen rows.
        features: the features asked for.
    """
    values = [column(f"f{i}", "w") for i in range(len(features))]
    query: exp.Query = (
        exp.select(column("rn", "c"), column("event", "c"), exp.cast(exp.Null(), "tinyint").as_("why"), *values)
        .from_(exp.to_table(chosen.matched).as_("c"))
        .join(join.rows.wide(features).subquery("w"), on=column("ordinal", "c").eq(column("ordinal", "w")))
    )
    if chosen.missed is not None:
        nothing = [exp.Null().as_(f"f{i}") for i in range(len(features))]
        lost = exp.select(column("rn"), exp.cast(exp.Null(), "bigint").as_("event"), column("why"), *nothing)
        query = exp.union(query, lost.from_(exp.to_table(chosen.missed)), distinct=False)
    return exp.select(exp.Star()).from_(query.subquery("a")).order_by(column("rn"))
