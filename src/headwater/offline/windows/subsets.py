"""The events that count for a condition and a column, in order, with the aggregates over them; each made once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from headwater.offline.windows import edges
from headwater.offline.windows.distinct import Records
from headwater.offline.windows.exact import IntegerSums
from headwater.offline.windows.keyed import Keyed, in_order_by
from headwater.offline.windows.lists import Lists
from headwater.offline.windows.merging import Extremes, Spreads, Sums
from headwater.offline.windows.ranges import Aggregates, Merging
from headwater.offline.windows.ranks import Ranks
from headwater.offline.windows.runs import Bounds, Hits, Reach, Runs
from headwater.planning.windows.columns import Column
from headwater.planning.windows.quantile_bins import bins_of
from headwater.planning.windows.rule import BEFORE_ALL, Window
from headwater.planning.windows.statements import Statements

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]
    Mask = NDArray[np.bool_]


class Rows:
    """Rows of a spine, with where the events of their windows are, found once.

    Args:
        group: of each row.
        at: its instant.
    """

    def __init__(self, group: Ints, at: Ints) -> None:
        self.group, self.at = group, at
        self._hits: dict[tuple[Runs, Window], Hits] = {}
        self._sums: dict[tuple[str | None, str | None, Hits], NDArray[Any]] = {}
        self._reaches: dict[Runs, Reach] = {}

    def __len__(self) -> int:
        return len(self.at)

    def hits(self, runs: Runs, window: Window) -> Hits:
        """The events of a window; the same object of windows that have the same events."""
        name = (runs, window)
        if name not in self._hits:
            starts, ends = edges.starts(window, self.at), edges.ends(window, self.at)
            found = runs.hits(self.group, starts, ends, self.reach(runs))
            if ends is None:
                # no window has more events than there are: one beyond the oldest has those of a longer one
                same = (each for (of, other), each in self._hits.items() if of is runs and not other.offset)
                found = next((each for each in same if each.like(found)), found)
            self._hits[name] = found
        return self._hits[name]

    def sums(self, subset: Subset, hits: Hits) -> NDArray[Any]:
        """The sums of doubles over the events of a window, which a mean is made of too."""
        name = (*subset.name, hits)
        if name not in self._sums:
            self._sums[name] = subset.sums.of(hits)[0]
        return self._sums[name]

    def reach(self, runs: Runs) -> Reach:
        """What the rows know; the same for all windows."""
        if runs not in self._reaches:
            self._reaches[runs] = runs.reach(self.group, self.at)
        return self._reaches[runs]

    def bounds(self, runs: Runs, window: Window) -> Bounds:
        """The ranges of a window."""
        return runs.bounds(self.group, edges.starts(window, self.at), edges.ends(window, self.at), self.reach(runs))


class Counted:
    """The events that count, in order of (group, boundary, known).

    Args:
        statements: what they are of.
        groups: how many groups there are.
        index: the statement of each event.
        group, boundary: of each event.
        known: when it counts.
    """

    def __init__(
        self, statements: Statements, groups: int, index: Ints, group: Ints, boundary: Ints, known: Ints
    ) -> None:
        self.statements, self.groups = statements, groups
        self.index, self.group, self.boundary, self.known = index, group, boundary, known

    @cached_property
    def runs(self) -> Runs:
        """All of them."""
        return Runs(self.groups, self.group, self.boundary, self.known)

    @cached_property
    def event(self) -> Ints:
        """The event time of each."""
        return self.statements.event.take(self.index)

    @cached_property
    def by_event(self) -> tuple[Keyed, Ints]:
        """(group, event time) of each as integers in that order, and what makes them."""
        keyed = Keyed(self.groups, self.event)
        return keyed, keyed.kept(self.group, self.event)

    @cached_property
    def _newest(self) -> tuple[Keyed, Ints, Ints, Ints]:
        """Of the chain and of the others, by known_at: which group, and the newest event time so far."""
        by_event, stamps = self.by_event
        rest = self.runs.rest
        rest = rest[np.lexsort((self.known[rest], self.group[rest]))]
        by_known = self.runs.known_stamps(self.group[rest], self.known[rest])
        return (
            by_event,
            np.maximum.accumulate(self.runs.on_chain(stamps)),
            np.maximum.accumulate(stamps[rest]),
            by_known,
        )

    def newest(self, rows: Rows) -> Ints:
        """The event time of the newest event of each row's group that is known; the least int64: there is none."""
        by_event, chain, rest, by_known = self._newest
        found = self._at(chain, rows.reach(self.runs).known, rows)
        if len(rest):
            until = np.searchsorted(by_known, self.runs.known_after(rows.group, rows.at))
            found = np.maximum(found, self._at(rest, until, rows))
        return np.where(found < 0, BEFORE_ALL, by_event.times(np.maximum(found, 0)))

    def _at(self, stamps: Ints, until: Ints, rows: Rows) -> Ints:
        """The stamp before a place, where it is of the row's own group, else -1."""
        if not len(stamps):
            return np.full(len(rows), -1)
        found = stamps[np.maximum(until - 1, 0)]
        own = (until > 0) & (found >= self._newest[0].of(rows.group, np.full(len(rows), BEFORE_ALL)))
        return np.where(own, found, -1)


class Subset:
    """The events for which a condition holds and whose column is not NULL.

    Args:
        counted: all events.
        where: the condition; None: none.
        column: the column; None: rows.
        made: the runs of other subsets, by which events are in them.

    Attributes:
        name: condition and column.
    """

    def __init__(self, counted: Counted, where: str | None, column: str | None, made: dict[bytes | None, Runs]) -> None:
        statements = counted.statements
        masks = [] if where is None else [statements.holds[where]]
        masks += [] if column is None else [statements.columns[column].valid]
        masks = [mask for mask in masks if not mask.all()]
        inside = np.ones(len(counted.index), bool)
        for mask in masks:
            inside &= mask[counted.index]
        self.groups = counted.groups
        self._counted: Counted | None = None
        if not masks or inside.all():
            self._index, self._group, self._boundary = counted.index, counted.group, counted.boundary
            self._known, self.runs, self._counted = counted.known, counted.runs, counted
        else:
            self._index, self._group, self._boundary, self._known = (
                each[inside] for each in (counted.index, counted.group, counted.boundary, counted.known)
            )
            name = np.packbits(inside).tobytes()
            if name not in made:
                made[name] = Runs(self.groups, self._group, self._boundary, self._known)
            self.runs = made[name]
        self._statements = statements
        self.column: Column | None = None if column is None else statements.columns[column].take(self._index)
        self.name = where, column
        self._aggregates: dict[str, Any] = {}

    def forget(self) -> None:
        """Let go of aggregates that are not asked for any more."""
        self._aggregates.clear()

    def _once(self, name: str, make: Callable[[], Any]) -> Any:
        if name not in self._aggregates:
            self._aggregates[name] = make()
        return self._aggregates[name]

    @property
    def values(self) -> NDArray[Any]:
        """The column's values, in order."""
        assert self.column is not None
        return self.column.values

    @property
    def integer_sums(self) -> IntegerSums:
        """Sums of integers."""
        return self._once("integer_sums", lambda: IntegerSums(self.runs, self.values))  # type: ignore[no-any-return]

    @property
    def sums(self) -> Aggregates:
        """Sums of doubles."""
        return self._aggregates_of("sums", lambda: Sums(self.values))

    @property
    def spreads(self) -> Aggregates:
        """Variances."""
        return self._aggregates_of("spreads", lambda: Spreads(self.values.astype(np.float64)))

    def extremes(self, *, greatest: bool) -> Aggregates:
        """The greatest or the least values."""
        return self._aggregates_of(f"extremes {greatest}", lambda: Extremes(self.values, greatest=greatest))

    @property
    def newest(self) -> Aggregates:
        """The newest event times."""
        return self._aggregates_of("newest", lambda: Extremes(self._statements.event[self._index], greatest=True))

    def _aggregates_of(self, name: str, merging: Callable[[], Merging]) -> Aggregates:
        return self._once(name, lambda: Aggregates(self.runs, merging()))  # type: ignore[no-any-return]

    @cached_property
    def full_order(self) -> Ints:
        """The events in order of event time, created time, the log over the source, position, then value."""
        statements, index = self._statements, self._index
        if self._counted is not None:
            stamps = self._counted.by_event[1]
        else:
            event = statements.event.take(index)
            stamps = Keyed(self.groups, event).kept(self._group, event)
        # in order of the hops already, so that little is left to do
        order = in_order_by(np.arange(len(stamps)), stamps, stable=True)
        stamps = stamps.take(order)
        tied = np.zeros(len(order) + 1, bool)
        tied[1:-1] = stamps[1:] == stamps[:-1]
        among = np.flatnonzero(tied[1:] | tied[:-1])
        if len(among):
            rows = order[among]
            values = [] if self.column is None else [self.column.values[rows]]
            of = index[rows]
            keys = (statements.position[of], statements.from_log[of], statements.created[of], stamps[among])
            order[among] = rows[np.lexsort((*values, *keys))]
        return order

    @cached_property
    def by_time(self) -> bool:
        """Whether the events are in their full order, and those of any window are one range of it."""
        order = self.full_order
        return self.runs.whole and bool((order[1:] > order[:-1]).all())

    @cached_property
    def ordered_values(self) -> NDArray[Any]:
        """The column's values in the full order."""
        return self.values.take(self.full_order)

    @cached_property
    def _place(self) -> NDArray[Any]:
        """The place of each event in the full order."""
        order = self.full_order
        place: NDArray[Any] = np.empty(len(order), np.int32 if len(order) < 2**31 else np.int64)
        place[order] = np.arange(len(order), dtype=place.dtype)
        return place

    @property
    def last_places(self) -> Aggregates:
        """The last place in the full order."""
        return self._aggregates_of("last", lambda: Extremes(self._place, greatest=True))

    @property
    def first_places(self) -> Aggregates:
        """The first place in the full order."""
        return self._aggregates_of("first", lambda: Extremes(self._place, greatest=False))

    @cached_property
    def ranks(self) -> Ranks:
        """Quantiles, by the bins of values."""
        return Ranks(self.runs, bins_of(self.values))

    @cached_property
    def digests(self) -> NDArray[np.uint64]:
        """The digest of each value."""
        assert self.column is not None
        return self.column.digests()

    @cached_property
    def records(self) -> Records:
        """Distinct counts."""
        return Records(self.groups, self._group, self._boundary, self._known, self.digests)

    @cached_property
    def ordered_runs(self) -> Runs:
        """The events in their full order."""
        order = self.full_order
        return Runs(self.groups, self._group[order], self._boundary[order], self._known[order])

    @cached_property
    def lists(self) -> Lists:
        """Lists of events in their full order."""
        order = self.full_order
        codes = None if self.column is None else self.column.codes[order]
        return Lists(self.ordered_runs, self._known[order], codes)
