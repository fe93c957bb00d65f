"""Lists of columns of numbers of many rows, as they are stored: where an event goes in each, and which records go.

`StoredCounts` and `StoredExtremes` do the same for one row; a row that is unusual is left to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from headwater.online.rows.windows.list_bytes import LIST_HEAD, MOST_NARROW, MOST_RECORDS
from headwater.online.rows.windows.selectable import Hops

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headwater.online.rows.windows.edits_of_many import Edits

    Ints = NDArray[np.int64]
    Bools = NDArray[np.bool_]

_BEFORE = np.iinfo(np.int64).min


class ManyEnds(NamedTuple):
    """Where the windows of a list begin at the least, by row: a hop in steps, the beginning before, and now."""

    hops: Sequence[tuple[int, Ints, Ints]]


def ends_of_many(hops: Hops, before: Ints, after: Ints, tolerance: int, lists: int) -> ManyEnds:
    """As `selectable.ends_of`, of many rows, for so many lists of each."""
    times = np.stack((before, after)) - tolerance
    ends = [(steps, np.concatenate([(times - back) // hop * steps] * lists, axis=1)) for steps, hop, back in hops]
    return ManyEnds([(steps, old, now) for steps, (old, now) in ends])


def span(starts: Ints, lengths: Ints) -> Ints:
    """Ranges of numbers, one after another."""
    upto = lengths.cumsum()
    found: Ints = np.repeat(starts - (upto - lengths), lengths)
    found += np.arange(len(found))
    return found


class Records:
    """The records of lists of many rows.

    Args:
        edits: of the rows.
        begins: where the list of each row begins, usual ones.
        wide: of each, bytes of a state that stand before the boundaries.
        boundaries: of the event of each row, in steps.
        step: what boundaries are multiples of.

    Attributes:
        begins: see there.
        count: how many records each has.
        life: 1 where it has a lifetime, else 0.
        first: the first boundary, in steps; without records the event's.
        columns: where the columns begin.
        steps: where the distances of the boundaries begin.
        rest: where what is behind these begins.
    """

    def __init__(self, edits: Edits, begins: Ints, wide: Ints, boundaries: Ints, step: int) -> None:
        self.size = len(begins)
        self.begins, self._data = begins, edits.data
        self._words = np.frombuffer(edits.data, np.uint32)
        head = self._words[begins >> 2].astype(np.int64)
        self.flags, self.count = head & 0xFF, head >> 16
        self.life = (self.flags != 0).astype(np.int64)
        some = self.count > 0
        first = np.frombuffer(edits.data, np.int64).take((begins >> 3) + 1, mode="clip")
        self.first = np.where(some, first // step, boundaries)
        self.columns = begins + LIST_HEAD.size + 8 * some
        self.steps = self.columns + wide * (self.count + self.life)
        self.rest = self.steps + 4 * self.count

    def part(self, start: int, stop: int) -> Records:
        """Those of some of the lists."""
        made = copy(self)
        made.size = stop - start
        for name in ("begins", "flags", "count", "life", "first", "columns", "steps", "rest"):
            setattr(made, name, getattr(self, name)[start:stop])
        return made

    def step_at(self, rows: Ints, places: Ints) -> Ints:
        """Distances of boundaries; any number where there is none."""
        found: Ints = self._words.take((self.steps[rows] >> 2) + places, mode="clip").astype(np.int64)
        return found

    def numbers(self, begins: Ints, form: np.dtype[Any]) -> NDArray[Any]:
        """The numbers of a column of all records, one row after another, without lifetimes."""
        found: NDArray[Any] = self._all(form)[span(begins // form.itemsize, self.count)]
        return found

    def lifetimes(self, begins: Ints, form: np.dtype[Any]) -> NDArray[Any]:
        """What stands behind the records of each row in a column; any number where there is no lifetime."""
        found: NDArray[Any] = self._all(form).take(begins // form.itemsize + self.count, mode="clip")
        return found

    def following(self, begins: Ints, form: np.dtype[Any], places: Ints) -> NDArray[Any]:
        """The number in a column at a place of each row; 0 behind the last record."""
        numbers = self._all(form).take(begins // form.itemsize + places, mode="clip")
        found: NDArray[Any] = np.where(places < self.count, numbers, form.type(0))
        return found

    def _all(self, form: np.dtype[Any]) -> NDArray[Any]:
        return np.frombuffer(self._data, form)

    def find(self, rows: Ints, keys: Ints) -> Ints:
        """The first record of each row whose distance is not less than a key."""
        count, at = self.count[rows], (self.steps[rows] >> 2) - 1
        found = np.zeros(len(rows), np.int64)
        bit = 1 << int(count.max(initial=0)).bit_length() >> 1
        while bit:
            further = found + bit
            less = self._words.take(at + further, mode="clip") < keys
            less &= further <= count
            found += bit * less
            bit >>= 1
        return found


class Changes(NamedTuple):
    """What becomes of the records of each row.

    Attributes:
        place: where the event's record is, or is to be.
        upto: how many records the event is merged into.
        inserted: whether it has none yet.
        target: the event's distance.
        gone_rows, gone: the records that go, by row and place, ascending.
        odd: the rows that are to be changed by themselves; their other facts mean nothing.
    """

    place: Ints
    upto: Ints
    inserted: Bools
    target: Ints
    gone_rows: Ints
    gone: Ints
    odd: Bools

    def part(self, start: int, stop: int) -> Changes:
        """Those of some of the lists."""
        first, last = self.gone_rows.searchsorted([start, stop]).tolist()
        own = slice(start, stop)
        gone = self.gone_rows[first:last] - start, self.gone[first:last]
        return Changes(self.place[own], self.upto[own], self.inserted[own], self.target[own], *gone, self.odd[own])

    def without(self, rows: Bools) -> Changes:
        """Those of the other rows."""
        keep = ~rows[self.gone_rows]
        gone = self.gone_rows[keep], self.gone[keep]
        return Changes(self.place, self.upto, self.inserted & ~rows, self.target, *gone, self.odd)

    def left(self, records: Records) -> tuple[Ints, Ints]:
        """The records of each row as they are to be, one row after another.

        Returns:
            Where each comes from: its position among all that are stored, or behind all of these the row of an event;
            and how many each row has.
        """
        count = records.count
        begins = np.cumsum(count) - count
        stays = np.ones(int(count.sum()), np.bool_)
        stays[begins[self.gone_rows] + self.gone] = False
        source = np.flatnonzero(stays)
        new = np.flatnonzero(self.inserted)
        where = source.searchsorted(begins[new] + self.place[new])
        return np.insert(source, where, len(stays) + new), self.sizes(records)

    def sizes(self, records: Records) -> Ints:
        """How many records each row is to have."""
        made: Ints = records.count + self.inserted - np.bincount(self.gone_rows, minlength=records.size)
        return made

    def base(self, records: Records) -> Ints:
        """The distance of the record that is to be the first of each row from the one that was; of one at least."""
        # those that go from the first on
        rank = np.arange(len(self.gone)) - self.gone_rows.searchsorted(self.gone_rows)
        lead = np.bincount(self.gone_rows[self.gone == rank], minlength=records.size)
        first = records.step_at(np.arange(records.size), lead)
        first = np.where(self.inserted & (self.place <= lead), self.target, first)
        return np.where(lead > 0, first, 0)


def changes_of(records: Records, boundaries: Ints, has: Bools, ends: ManyEnds) -> Changes:
    """Find where events go, and what no window can select then.

    Args:
        records: of the list.
        boundaries: of the event of each row, in steps.
        has: the rows whose event is in the list.
        ends: of the list's windows.
    """
    everyone = np.arange(records.size)
    count, first = records.count, records.first
    target = boundaries - first
    rows, keys = [everyone], [target]
    for hop, old, start in ends.hops:
        moved = np.flatnonzero(old != start)
        rows += (moved, moved)
        keys += (old[moved] - first[moved], start[moved] - hop - first[moved])
    found = records.find(np.concatenate(rows), np.concatenate(keys))
    place = found[: records.size]
    there = (place < count) & (records.step_at(everyone, place) == target)
    inserted, upto = has & ~there, np.where(has, place + 1, 0)
    if not ends.hops:
        # of lifetimes alone
        inserted, upto = np.zeros(records.size, np.bool_), np.zeros(records.size, np.int64)
    odd = has & ((target < 0) | (target > MOST_NARROW) | (count >= MOST_RECORDS))
    looked_rows, looked = [], []
    at = records.size
    for moved in rows[1::2]:
        low, high = found[at : at + len(moved)], found[at + len(moved) : at + 2 * len(moved)]
        at += 2 * len(moved)
        lengths = np.maximum(np.minimum(high + 1, count[moved]) - low, 0)
        looked_rows.append(np.repeat(moved, lengths))
        looked.append(span(low, lengths))
    following = np.flatnonzero(inserted & (place < count))
    looked_rows.append(following)
    looked.append(place[following])
    rows_of, places = np.concatenate(looked_rows), np.concatenate(looked)
    if len(rows_of):
        # each once, ascending
        looks = rows_of * (MOST_RECORDS + 1) + places
        looks.sort()
        rows_of, places = np.divmod(looks[np.diff(looks, prepend=-1) != 0], MOST_RECORDS + 1)
    own = np.flatnonzero(inserted)
    # those that are looked at, then those of events
    rows_of, places = np.concatenate((rows_of, own)), np.concatenate((places, place[own]))
    known = len(rows_of) - len(own)
    base = first[rows_of]
    boundary, before = base + records.step_at(rows_of, places), base + records.step_at(rows_of, places - 1)
    boundary[known:] = boundaries[own]
    before[places == 0] = _BEFORE
    behind_event = inserted[rows_of[:known]] & (places[:known] == place[rows_of[:known]])
    before[:known][behind_event] = boundaries[rows_of[:known]][behind_event]
    able = np.zeros(len(rows_of), np.bool_)
    for hop, _, start in ends.hops:
        # whether a beginning of a window can be at a boundary, or between it and the one before
        edge = boundary - boundary % hop
        able |= (edge > before) & (edge >= start[rows_of])
    odd[own[~able[known:]]] = True
    goes = np.flatnonzero(~able[:known])
    return Changes(place, upto, inserted, target, rows_of[goes], places[goes], odd)


class Merge(NamedTuple):
    """Events to merge into lists that one rule changes.

    Attributes:
        which: of the lists of all rows each is, those of the first index before those of the second.
        values: of the event of each; None: the list does not have it.
        has: whether it has it.
        lifetime: whether it answers a lifetime.
        least: whether it has the least values.
        records: of the lists, usual ones.
        changes: what becomes of these.
    """

    which: Ints
    values: Sequence[Any]
    has: Bools
    lifetime: Bools
    least: Bools
    records: Records
    changes: Changes

    def given(self, form: np.dtype[Any]) -> NDArray[Any]:
        """The values as numbers; 0 where a list does not have the event."""
        return np.array([0 if value is None else value for value in self.values], form)

    @property
    def begun(self) -> Bools:
        """Those whose lifetime the event would be the first of."""
        begun: Bools = self.has & self.lifetime & (self.records.life == 0)
        return begun
