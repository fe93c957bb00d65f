"""Which lowering of the point-in-time query a view takes: by how many pairs its keys make, and the engine's powers."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sqlglot import exp

from headwater.offline.join import asof, missing, pit, running, ties, windows
from headwater.offline.join.indexed import Found, pick_indexed
from headwater.offline.join.packing import Packing
from headwater.offline.join.pit import Join
from headwater.offline.join.workspace import PackedLimits, Workspace, created
from headwater.offline.trees import Tree, table_named, union_all

_SAMPLED = 100_000
"""Of more rows than this only a part is counted."""
_ROWS = 2
"""How many of a key's rows a window holds at first."""
_WIDER = 4
_ROUNDS = 4
_LATE = 0.3
"""The share of late rows from which on finding the known ones for all keys is cheaper than repairing."""


@dataclass(frozen=True)
class Picked:
    """What picking came to.

    Attributes:
        table: rn, the names of a row, event, tied.
        density: how many rows a spine row's key has, about.
        why: a table of (rn, why) of the rows that picked nothing, where picking told it.
        equal: a table of (head, ordinal): rows that tie with a picked one, where picking told them.
        found: how many of each, where picking told that; all that picked nothing are then in `why`.
    """

    table: str
    density: float
    why: str | None = None
    equal: str | None = None
    found: Found | None = None


def pick(space: Workspace, label: str, join: Join, spine_rows: int) -> Picked:
    """For each spine row the greatest row that counts, ties undecided.

    Args:
        space: the run's tables.
        label: part of their names.
        join: the view and the spine.
        spine_rows: how many rows the spine has.
    """
    found = pick_indexed(space, label, join, spine_rows)
    if found is not None:
        return Picked(found.table, 0.0, found.why, found.equal, found.found)
    name, limits = f"picked_{label}", space.powers.packed
    packing = None if limits is None else _packing(space, join)
    if limits is None or packing is None or not packing.fits:
        return Picked(_by_running(space, label, name, join), join.rows.size)
    limit = limits.pairs
    if float(spine_rows) * join.rows.size <= limit:
        return Picked(created(space, name, pit.pick_pairs(join, packing)), join.rows.size)
    # odd, so that it does not keep step with how a file repeats its keys
    every = max(1, join.rows.size // _SAMPLED) | 1
    sample = _Sample(
        space, None if every == 1 else created(space, f"sample_{label}", windows.sampled(join, every)), join, every
    )
    pairs = sample.pairs(join)
    density = pairs / max(1, spine_rows)
    if pairs <= limit:
        return Picked(created(space, name, pit.pick_pairs(join, packing)), density)
    tables, why = _pick_many(space, label, join, packing, sample, density, limits)
    if len(tables) == 1:
        return Picked(tables[0], density, why)
    parts = [exp.select(exp.Star()).from_(table_named(table)) for table in tables]
    table = created(space, name, union_all(parts))
    space.drop(*tables, *([] if sample.table is None else [sample.table]))
    return Picked(table, density, why)


def _packing(space: Workspace, join: Join) -> Packing | None:
    """None where no row is in reach."""
    first, last, created_first, created_last = join.rows.bounds or space.rows(pit.ranges(join))[0]
    if first is None:
        return None
    lag = join.rows.lag
    return Packing.of((int(first), int(last)), (int(created_first), int(created_last)), join.rows.size, lag)


@dataclass(frozen=True)
class _Sample:
    """Some of a view's rows, by which pairs are estimated: one for each `every` rows; without a table all of them."""

    space: Workspace
    table: str | None
    of: Join
    every: int

    @property
    def _rows(self) -> Tree:
        return windows.sampled(self.of, 1).subquery("g") if self.table is None else table_named(self.table)

    def pairs(self, join: Join, window: tuple[Packing, int] | None = None) -> float:
        """About how many pairs share a key (and a window)."""
        return self.every * float(self.space.rows(windows.pair_count(join, self._rows, window))[0][0])

    def delay(self) -> float:
        """How long after its event time a row is known, on average (microseconds)."""
        return float(self.space.rows(windows.delay(self._rows))[0][0] or 0)


def _pick_many(
    space: Workspace,
    label: str,
    join: Join,
    packing: Packing,
    sample: _Sample,
    density: float,
    limits: PackedLimits,
) -> tuple[list[str], str | None]:
    """Tables of picked rows, for keys with many rows: by windows while they make few pairs, the rest by as-of joins.

    Where the rest is few rows, all rows of their keys are looked at, which tells too why nothing was picked.
    """
    whole = join
    late = sample.delay() if join.rows.timed and join.lag is None else 0.0
    span, limit = packing.event_max - packing.event_min, limits.pairs
    width = max(1, int(max(_ROWS * span / max(1.0, density), late, join.lag or 0)))
    tables: list[str] = []
    for turn in range(_ROUNDS if join.rows.timed else 0):
        if sample.pairs(join, (packing, width)) > limit:
            break
        tables.append(created(space, f"window_{turn}_{label}", windows.pick_windowed(join, packing, width)))
        rest = created(space, f"rest_{turn}_{label}", windows.remaining(join, tables[-1]))
        join = replace(join, spine=rest)
        if not space.rows(exp.select(exp.Count(this=exp.Star())).from_(table_named(rest)))[0][0]:
            return tables, None
        if sample.pairs(join) <= limits.looks:
            looked = created(space, f"looked_{label}", missing.looked_at(join, packing))
            tables.append(created(space, f"last_{label}", missing.picked_in(looked)))
            return tables, created(space, f"why_{label}", missing.lost_in(whole, rest, looked))
        if join.ttl and width >= join.ttl:
            return tables, None
        width *= _WIDER
    often_late = late * density > _LATE * span
    return [*tables, _looked_up(space, f"asof_{label}", join, _by_asof(space, label, join, packing, often_late))], None


def _by_asof(space: Workspace, label: str, join: Join, packing: Packing, often_late: bool) -> exp.Query:
    """The query of picked rows by as-of joins; spine rows of deleted keys are ranked."""
    only = exp.Not(this=join.deleted(join.keys)) if join.rows.deletes is not None else None
    query: exp.Query
    if join.lag is None and (often_late or not join.rows.timed):
        steps = created(space, f"steps_{label}", asof.known_steps(join, packing, None))
        query = asof.pick_stepped(join, packing, steps, only)
    else:
        last = created(space, f"reached_{label}", asof.pick_asof(join, packing, only))
        late = join.lag is None and space.rows(asof.late_count(packing, last))[0][0]
        steps_of = created(space, f"steps_{label}", asof.known_steps(join, packing, last)) if late else None
        query = asof.pick_repaired(join, packing, last, steps_of)
    if join.rows.deletes is not None:
        query = union_all([query, pit.pick_ranked(join, join.deleted(join.keys))])
    return query


def _by_running(space: Workspace, label: str, name: str, join: Join) -> str:
    """The table of picked rows by running maxima; spine rows of deleted keys are ranked."""
    ordered = created(space, f"ordered_{label}", running.ordered_rows(join))
    query: exp.Query
    if join.rows.deletes is None:
        query = running.pick_running(join, ordered)
    else:
        others = exp.Not(this=join.deleted(join.keys))
        parts = [running.pick_running(join, ordered, others)]
        query = union_all([*parts, running.pick_deleted(join, join.deleted(join.keys))])
    picked = created(space, name, query)
    space.drop(ordered)
    return picked


def _looked_up(space: Workspace, name: str, join: Join, query: exp.Query) -> str:
    """The table of picked rows of a query that cannot tell ties by itself."""
    picked = created(space, f"unmarked_{name}", query)
    equal = created(space, f"equal_{name}", ties.equal_rows(picked, join.rows))
    return created(space, name, ties.marked(picked, equal))
