"""Lists of columns of numbers of many rows, as they are stored: where an event goes in each, and which records go.

`StoredCounts` and `StoredExtremes` do the same for one row; a row that is unusual is left to them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from headwater.online.rows.windows.list_bytes import LIST_HEAD, MOST_NARROW, MOST_RECORDS, aligned
from headwater.online.rows.windows.selectable import Hops

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]
    Bools = NDArray[np.bool_]

_U32, _I64 = np.dtype("=u4"), np.dtype("=i8")
_BEFORE = np.iinfo(np.int64).min


class ManyEnds(NamedTuple):
    """Where the windows of a list begin at the least, by row: a hop in steps, the beginning before, and now."""

    hops: Sequence[tuple[int, Ints, Ints]]


def ends_of_many(hops: Hops, before: Ints, after: Ints, tolerance: int) -> ManyEnds:
    """As `selectable.ends_of`, of many rows."""
    return ManyEnds(
        [
            (steps, (before - (back + tolerance)) // hop * steps, (after - (back + tolerance)) // hop * steps)
            for steps, hop, back in hops
        ]
    )


class Records:
    """The records of lists of many rows.

    Args:
        parts: the list of each row as it is stored, usual ones.
        wide: of each, bytes of a state that stand before the boundaries.
        boundaries: of the event of each row, in steps.
        step: what boundaries are multiples of.

    Attributes:
        data: the parts, one after another.
        words: the same, in numbers of 4 bytes.
        count: how many records each has.
        life: 1 where it has a lifetime, else 0.
        first: the first boundary, in steps; without records the event's.
        columns: where the columns begin.
        steps: where the distances of the boundaries begin.
        rest: where what is behind these begins.
    """

    def __init__(self, parts: Sequence[bytes], wide: Ints, boundaries: Ints, step: int) -> None:
        self.size = len(parts)
        sizes = np.fromiter(map(len, parts), np.int64, self.size)
        base = np.cumsum(sizes) - sizes
        self.data = b"".join(parts)
        self.words = np.frombuffer(self.data, _U32)
        head = self.words[base >> 2].astype(np.int64)
        self.flags, self.count = head & 0xFF, head >> 16
        self.life = (self.flags != 0).astype(np.int64)
        some = self.count > 0
        first = np.frombuffer(self.data, _I64).take((base >> 3) + 1, mode="clip")
        self.first = np.where(some, first // step, boundaries)
        self.columns = base + LIST_HEAD.size + 8 * some
        self.steps = self.columns + wide * (self.count + self.life)
        self.rest = self.steps + 4 * self.count

    def part(self, start: int, stop: int) -> Records:
        """Those of some of the lists."""
        made = copy(self)
        made.size = stop - start
        for name in ("flags", "count", "life", "first", "columns", "steps", "rest"):
            setattr(made, name, getattr(self, name)[start:stop])
        return made

    def step_at(self, rows: Ints, places: Ints) -> Ints:
        """Distances of boundaries; any number where there is none."""
        found: Ints = self.words.take((self.steps[rows] >> 2) + places, mode="clip").astype(np.int64)
        return found

    def numbers(self, begins: Ints, form: np.dtype[Any]) -> NDArray[Any]:
        """The numbers of a column of all records, one row after another, without lifetimes."""
        ends = begins + form.itemsize * self.count
        pieces = [self.data[begin:end] for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)]
        return np.frombuffer(b"".join(pieces), form)

    def lifetimes(self, begins: Ints, form: np.dtype[Any]) -> NDArray[Any]:
        """What stands behind the records of each row in a column; any number where there is no lifetime."""
        size = form.itemsize
        numbers = np.frombuffer(self.data, form, len(self.data) // size)
        found: NDArray[Any] = numbers.take(begins // size + self.count, mode="clip")
        return found

    def following(self, begins: Ints, form: np.dtype[Any], places: Ints) -> NDArray[Any]:
        """The number in a column at a place of each row; 0 behind the last record."""
        size = form.itemsize
        numbers = np.frombuffer(self.data, form, len(self.data) // size).take(begins // size + places, mode="clip")
        found: NDArray[Any] = np.where(places < self.count, numbers, form.type(0))
        return found

    def find(self, rows: Ints, keys: Ints) -> Ints:
        """The first record of each row whose distance is not less than a key."""
        low, high, at = np.zeros(len(rows), np.int64), self.count[rows], self.steps[rows] >> 2
        for _ in range(int(high.max(initial=0)).bit_length()):
            middle = (low + high) >> 1
            less = (self.words.take(at + middle, mode="clip") < keys) & (low < high)
            low, high = np.where(less, middle + 1, low), np.where(less, high, middle)
        return low


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
        looked.append(np.arange(len(looked_rows[-1])) + np.repeat(low - np.cumsum(lengths) + lengths, lengths))
    following = np.flatnonzero(inserted & (place < count))
    looked_rows.append(following)
    looked.append(place[following])
    rows_of, places = np.concatenate(looked_rows), np.concatenate(looked)
    if len(rows_of):
        # each once, ascending
        rows_of, places = np.divmod(np.unique(rows_of * (MOST_RECORDS + 1) + places), MOST_RECORDS + 1)
    boundary = first[rows_of] + records.step_at(rows_of, places)
    before = np.where(places > 0, first[rows_of] + records.step_at(rows_of, places - 1), _BEFORE)
    behind_event = inserted[rows_of] & (places == place[rows_of])
    before = np.where(behind_event, boundaries[rows_of], before)
    goes = ~_selectable(boundary, before, rows_of, ends)
    own = np.flatnonzero(inserted)
    before = np.where(place[own] > 0, first[own] + records.step_at(own, place[own] - 1), _BEFORE)
    odd[own[~_selectable(boundaries[own], before, own, ends)]] = True
    rows_of, places = rows_of[goes], places[goes]
    return Changes(place, upto, inserted, target, rows_of, places, odd)


def _selectable(boundary: Ints, before: Ints, rows: Ints, ends: ManyEnds) -> Bools:
    """Whether a beginning of a window can be at a boundary, or between it and the one before."""
    able = np.zeros(len(rows), np.bool_)
    for hop, _, start in ends.hops:
        edge = boundary - boundary % hop
        able |= (edge > before) & (edge >= start[rows])
    return able


class Edited(NamedTuple):
    """The records of each row as they are to be, one row after another.

    Attributes:
        source: where each comes from: the position among the stored ones, or behind all of these the row of an event.
        sizes: how many each row has.
    """

    source: Ints
    sizes: Ints


def edited(records: Records, changes: Changes) -> Edited:
    """Leave out the records that go, and put those of events that have none yet in their place."""
    count = records.count
    begins = np.cumsum(count) - count
    stays = np.ones(int(count.sum()), np.bool_)
    stays[begins[changes.gone_rows] + changes.gone] = False
    source = np.flatnonzero(stays)
    new = np.flatnonzero(changes.inserted)
    where = source.searchsorted(begins[new] + changes.place[new])
    source = np.insert(source, where, len(stays) + new)
    return Edited(source, count + changes.inserted - np.bincount(changes.gone_rows, minlength=records.size))


class Column(NamedTuple):
    """A column of stored lists: bytes of a number, the records' of all rows, and the lifetimes', one a row, if any."""

    width: int
    records: bytes
    lifetimes: bytes = b""


def packed(
    parts: Sequence[bytes], records: Records, step: int, sizes: Ints, steps: Ints, written: Bools
) -> Callable[[Sequence[Column], Sequence[Column]], list[bytes]]:
    """What makes the lists of rows of their columns: those before the boundaries, and those behind.

    Args:
        parts: the lists as they were.
        records: the same.
        step: what boundaries are multiples of.
        sizes: how many records each has.
        steps: their distances from what was the first boundary.
        written: the lists that have changed.
    """
    ends = np.cumsum(sizes)
    starts = ends - sizes
    base = np.where(sizes > 0, steps.take(starts, mode="clip"), 0) if len(steps) else np.zeros_like(sizes)
    if base.any():
        steps = steps - np.repeat(base, sizes)
    heads = np.empty((records.size, 2), _I64)
    heads[:, 0] = records.flags | sizes << 16
    heads[:, 1] = (records.first + base) * step
    boundaries = Column(4, steps.astype(_U32).tobytes())
    head = heads.tobytes()
    facts = (written, records.life, starts, ends)

    def pack(before: Sequence[Column], behind: Sequence[Column]) -> list[bytes]:
        columns, made = (*before, boundaries, *behind), list(parts)
        for row, (is_written, alive, start, end) in enumerate(zip(*(each.tolist() for each in facts), strict=True)):
            if not is_written:
                continue
            pieces = [head[16 * row : 16 * row + (16 if end > start else 8)]]
            for width, numbers, lifetimes in columns:
                pieces.append(numbers[width * start : width * end])
                if alive and lifetimes:
                    pieces.append(lifetimes[width * row : width * row + width])
            data = b"".join(pieces)
            made[row] = data + aligned(len(data)) if len(data) & 7 else data
        return made

    return pack
