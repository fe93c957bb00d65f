"""Lists whose states are pieces of bytes, of many keys: first and last events, distinct values, bins, text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from headwater.online.rows.windows.building import fields
from headwater.online.rows.windows.building.events import Chosen, Records, ends_of_windows
from headwater.online.rows.windows.building.numbers import apart, furthest, suffixes
from headwater.online.rows.windows.building.packed_lists import Pieces
from headwater.online.rows.windows.packing import put_value
from headwater.planning.windows.kinds import BINS, DISTINCT, EARLIEST, LATEST, LATEST_DISTINCT
from headwater.planning.windows.layout import SUFFIXES, TILES, ListLayout
from headwater.planning.windows.quantile_bins import bins_of
from headwater.planning.windows.states.bins import MOST_BINS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headwater.planning.windows.columns import Column

    Ints = NDArray[np.int64]
    Mask = NDArray[np.bool_]


class PieceStates(NamedTuple):
    """The states of such a list.

    Attributes:
        records: which there are; of a list that is kept whole one for each key with a state, without a boundary.
        living: the keys that have a lifetime.
        pieces: of each key those of its records, then its lifetime's.
        odd: the keys whose list is to be made event by event.
    """

    records: Records
    living: Ints
    pieces: Pieces
    odd: Ints


class _Places(NamedTuple):
    """Where the states of records and lifetimes are among all, those of each key together.

    Attributes:
        records, lifetimes: their places.
        size: how many there are.
    """

    records: Ints
    lifetimes: Ints
    size: int

    @staticmethod
    def of(records: Records, living: Ints) -> _Places:
        each = np.searchsorted(living, records.key)
        records_at = np.arange(len(records.key)) + each
        return _Places(records_at, records.firsts[living + 1] + np.arange(len(living)), len(records.key) + len(living))

    def both(self, records: NDArray[Any], lifetimes: NDArray[Any]) -> NDArray[Any]:
        """A fact of each state."""
        made = np.empty(self.size, records.dtype)
        made[self.records], made[self.lifetimes] = records, lifetimes
        return made


def piece_states(layout: ListLayout, chosen: Chosen, step: int, tolerance: int) -> PieceStates:
    """The states of a list.

    Args:
        layout: the list's.
        chosen: its events.
        step: what boundaries are multiples of.
        tolerance: by how much clocks may differ, microseconds.
    """
    if layout.kind == EARLIEST:
        return _earliest(layout, chosen, tolerance)
    if layout.kind == LATEST:
        return _latest(layout, chosen, tolerance)
    if layout.shape == TILES and layout.kind in (LATEST_DISTINCT, DISTINCT):
        return _one_by_one(chosen)
    if layout.kind == LATEST_DISTINCT:
        return _latest_distinct(layout, chosen, tolerance)
    if layout.kind == DISTINCT:
        return _distinct(layout, chosen, step, tolerance)
    if layout.kind == BINS:
        return _bins(layout, chosen, tolerance)
    return _text_extremes(layout, chosen, tolerance)


def _one_by_one(chosen: Chosen) -> PieceStates:
    """Of lists that are all made event by event."""
    return PieceStates(_whole(_none(), chosen), _none(), Pieces(b"", np.zeros(1, np.int64)), chosen.some)


def _none() -> Ints:
    return np.zeros(0, np.int64)


def _living(layout: ListLayout, chosen: Chosen) -> Ints:
    return chosen.some if layout.lifetime else _none()


# events in order


def _earliest(layout: ListLayout, chosen: Chosen, tolerance: int) -> PieceStates:
    records, living = chosen.records(layout, tolerance), _living(layout, chosen)
    places = _Places.of(records, living)
    starts = places.both(records.events.starts, chosen.starts[living])
    lasts = records.events.ends if layout.shape == TILES else chosen.starts[records.key + 1]
    ends = places.both(lasts, chosen.starts[living + 1])
    pieces = _entries(layout, chosen, _within(starts, np.minimum(ends - starts, layout.n)))
    return PieceStates(records, living, pieces, _none())


def _latest(layout: ListLayout, chosen: Chosen, tolerance: int) -> PieceStates:
    if layout.shape == TILES:
        records = chosen.records(layout, tolerance)
        sizes = np.minimum(records.events.sizes, layout.n)
        pieces = _entries(layout, chosen, _within(records.events.ends - 1, sizes, -1))
        return PieceStates(records, _none(), pieces, _none())
    ends = chosen.starts[1:]
    sizes = np.minimum(np.diff(chosen.starts), layout.n)
    if not layout.lifetime:
        late = _is_late(layout, chosen, chosen.take(chosen.events.of.event), tolerance)
        upto = np.concatenate(([0], np.cumsum(late)))
        sizes = np.minimum(sizes, upto[ends] - upto[chosen.starts[:-1]])
    some = np.flatnonzero(sizes)
    pieces = _entries(layout, chosen, _within(ends[some] - 1, sizes[some], -1))
    return PieceStates(_whole(some, chosen), _none(), pieces, _none())


def _latest_distinct(layout: ListLayout, chosen: Chosen, tolerance: int) -> PieceStates:
    assert chosen.column is not None
    key, codes = chosen.key, chosen.values.view(np.int64)
    order = np.lexsort((codes, key))
    # of equal ones the last: `lexsort` keeps their order
    last = np.ones(len(order), bool)
    last[:-1] = (key[order[1:]] != key[order[:-1]]) | (codes[order[1:]] != codes[order[:-1]])
    newest = np.sort(order[last])
    if not layout.lifetime:
        newest = newest[_is_late(layout, chosen, chosen.take(chosen.events.of.event), tolerance)[newest]]
    starts = np.searchsorted(newest, chosen.starts)
    sizes = np.minimum(np.diff(starts), layout.n)
    some = np.flatnonzero(sizes)
    within = _within(starts[some + 1] - 1, sizes[some], -1)
    pieces = _entries(layout, chosen, within._replace(events=newest[within.events]))
    return PieceStates(_whole(some, chosen), _none(), pieces, _none())


def _whole(some: Ints, chosen: Chosen) -> Records:
    """One state a key, of a list without boundaries."""
    key = some
    firsts = np.searchsorted(key, np.arange(chosen.events.keys + 1))
    return Records(key, _none(), chosen.lifetimes, firsts)


def _is_late(layout: ListLayout, chosen: Chosen, times: Ints, tolerance: int) -> Mask:
    """Which times some window can hold."""
    begins = ends_of_windows(layout, chosen.events.newest_known, tolerance)
    late: Mask = times >= np.minimum.reduce([start for _, start in begins])[chosen.key]
    return late


class _Within(NamedTuple):
    """Events of states.

    Attributes:
        events: those of each state together.
        sizes: how many each state has.
    """

    events: Ints
    sizes: Ints


def _within(starts: Ints, sizes: Ints, step: int = 1) -> _Within:
    """So many events from a place on, forwards or backwards."""
    inside = np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return _Within(np.repeat(starts, sizes) + step * inside, sizes)


def _entries(layout: ListLayout, chosen: Chosen, within: _Within) -> Pieces:
    """States of events, as `state_bytes` packs them."""
    of = chosen.events.of
    index = within.events if chosen.index is None else chosen.index[within.events]
    event, created = of.event[index], of.created[index]
    first, counts = _heads(within.sizes, len(index))
    made: list[fields.Fixed | fields.Varied] = [
        fields.numbers(counts, first),
        fields.signed(fields.differences(event, first)),
        fields.signed(created - event),
        fields.numbers(of.position[index] * 2 + of.from_log[index]),
    ]
    if chosen.column is not None:
        made.append(_values(chosen.column, chosen.column.values[index]))
    return _pieces(made, within.sizes)


def _heads(sizes: Ints, count: int) -> tuple[Mask, Ints]:
    """Which parts of states are the first, and how many the state of each has."""
    first = np.zeros(count, bool)
    first[np.cumsum(sizes) - sizes] = True
    return first, np.repeat(sizes, sizes)


def _pieces(made: list[fields.Fixed | fields.Varied], sizes: Ints) -> Pieces:
    data, ends = fields.joined(made)
    return Pieces(data, ends[np.concatenate(([0], np.cumsum(sizes)))])


def _values(column: Column, values: NDArray[Any]) -> fields.Fixed | fields.Varied:
    """Values as `packing.put_value` writes them."""
    form = column.dtype.numpy
    if form is not None:
        return fields.plain(values.astype(form))
    used, places = np.unique(values, return_inverse=True)
    each = []
    for value in column.stored(used):
        to = bytearray()
        put_value(to, column.dtype, value)
        each.append(bytes(to))
    return _varied(each, places)


def _varied(each: list[bytes], places: Ints) -> fields.Varied:
    sizes = np.fromiter(map(len, each), np.int64, len(each))
    starts = np.cumsum(sizes) - sizes
    return fields.Varied(np.frombuffer(b"".join(each), np.uint8), starts[places], sizes[places])


# distinct values


def _distinct(layout: ListLayout, chosen: Chosen, step: int, tolerance: int) -> PieceStates:
    assert chosen.column is not None
    key, boundary = chosen.key, chosen.boundary
    column = chosen.column if chosen.index is None else chosen.column.take(chosen.index)
    digests = column.digests()
    if not layout.lifetime:
        late = _is_late(layout, chosen, boundary, tolerance)
        key, boundary, digests = key[late], boundary[late], digests[late]
    order = np.lexsort((boundary, digests, key))
    last = np.ones(len(order), bool)
    last[:-1] = (key[order[1:]] != key[order[:-1]]) | (digests[order[1:]] != digests[order[:-1]])
    order = order[last]
    # the newest first, as `DistinctValues.trimmed` has them; `~`: not every time has a negative
    order = order[np.lexsort((digests[order], ~boundary[order], key[order]))]
    key, boundary, digests = key[order], boundary[order], digests[order]
    keys = chosen.events.keys
    starts = np.searchsorted(key, np.arange(keys + 1))
    some = np.flatnonzero(np.diff(starts))
    first = boundary[starts[some + 1] - 1]
    steps = (boundary - np.repeat(first, np.diff(starts)[some])) // step
    odd = np.union1d(np.flatnonzero(np.diff(starts) > layout.n), key[steps > 0xFFFFFFFF])
    values, distances = digests.tobytes(), steps.astype(np.uint32).tobytes()
    sizes = np.diff(starts)[some]
    heads, ends = fields.joined([fields.numbers(sizes), fields.signed(first)])
    data: list[bytes] = []
    facts = (starts[some], starts[some + 1], ends[:-1], ends[1:])
    for start, end, low, high in zip(*(fact.tolist() for fact in facts), strict=True):
        data += (heads[low:high], b"\0", values[8 * start : 8 * end], distances[4 * start : 4 * end], b"\0")
    bounds = np.concatenate(([0], np.cumsum(np.diff(ends) + 2 + 12 * sizes)))
    return PieceStates(_whole(some, chosen), _none(), Pieces(b"".join(data), bounds), odd)


# bins


def _bins(layout: ListLayout, chosen: Chosen, tolerance: int) -> PieceStates:
    records, living = chosen.records(layout, tolerance), _living(layout, chosen)
    places = _Places.of(records, living)
    codes = bins_of(chosen.values)
    inside, _ = records.events.taken(codes)
    owners = [np.repeat(places.records, records.events.sizes)]
    if len(living):
        inside = np.concatenate((inside, codes))
        owners.append(np.repeat(places.lifetimes, chosen.lifetimes.sizes))
    owner = np.concatenate(owners)
    order = np.lexsort((inside, owner))
    owner, inside = owner[order], inside[order]
    first = np.ones(len(order), bool)
    first[1:] = (owner[1:] != owner[:-1]) | (inside[1:] != inside[:-1])
    starts = np.flatnonzero(first)
    counts = np.diff(np.append(starts, len(order)))
    owner, code = owner[starts], inside[starts]
    sizes = np.bincount(owner, minlength=places.size)
    heads, numbers = _heads(sizes, len(code))
    made: list[fields.Fixed | fields.Varied] = [
        fields.numbers(numbers, heads),
        fields.signed(fields.differences(code, heads)),
        fields.numbers(counts),
    ]
    many = chosen.some[chosen.lifetimes.sizes > MOST_BINS].tolist()
    own = {key: codes[chosen.starts[key] : chosen.starts[key + 1]] for key in many}
    odd = [key for key, each in own.items() if len(np.unique(each)) > MOST_BINS]
    return PieceStates(records, living, _pieces(made, sizes), np.array(odd, np.int64))


# least and greatest text


def _text_extremes(layout: ListLayout, chosen: Chosen, tolerance: int) -> PieceStates:
    assert chosen.column is not None
    records, living = chosen.records(layout, tolerance), _living(layout, chosen)
    function = furthest(layout, chosen.values)
    each = records.events.reduced(function, chosen.values)
    if layout.shape == SUFFIXES:
        (each,) = suffixes(records, (each,), lambda own, behind: (function(own[0], behind[0]),))
        stays = apart(records, each)
        records, each = records.kept(stays), each[stays]
    life = chosen.lifetimes.reduced(function, chosen.values) if layout.lifetime else each[:0]
    used, places = np.unique(_Places.of(records, living).both(each, life), return_inverse=True)
    texts = [text.encode() if isinstance(text, str) else text for text in chosen.column.stored(used)]
    data, ends = fields.joined([_varied(texts, places)])
    return PieceStates(records, living, Pieces(data, ends), _none())
