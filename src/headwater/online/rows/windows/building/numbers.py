"""Lists whose states are numbers, of many keys: counts, sums, means and squares, least and greatest values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from headwater.online.rows.windows.building.events import Chosen, Ranges, Records
from headwater.planning.windows.kinds import COUNT, MIN, SPREAD, TOTAL
from headwater.planning.windows.layout import SUFFIXES, ListLayout

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]
    Mask = NDArray[np.bool_]

_HALF = np.int64(32)
_LOW = np.int64(0xFFFFFFFF)


class Numbers(NamedTuple):
    """One column of states.

    Attributes:
        records: of each record.
        lifetimes: of each key that has events, where a lifetime is asked for; else nothing.
    """

    records: NDArray[Any]
    lifetimes: NDArray[Any]


class WideSums(NamedTuple):
    """Sums of integers in 128 bits.

    Attributes:
        upper: above the lower 32 bits.
        lower: the lower 32 bits.
    """

    upper: Ints
    lower: Ints

    @property
    def beyond(self) -> Mask:
        """Which are beyond 64 bits."""
        return (self.upper < -(2**31)) | (self.upper >= 2**31)

    @property
    def narrow(self) -> Ints:
        """Those within 64 bits."""
        return (self.upper << _HALF) | self.lower

    def whole(self, index: int) -> int:
        """One of them."""
        return (int(self.upper[index]) << 32) + int(self.lower[index])


class States(NamedTuple):
    """The states of a list of many keys: its records, and its columns as they are stored.

    Attributes:
        records: which there are.
        wide: columns of 8 bytes, before the boundaries.
        narrow: those behind.
        odd: the keys whose list is to be packed by itself.
        state: the state of a record, or of a lifetime by its place among keys with events.
    """

    records: Records
    wide: Sequence[Numbers]
    narrow: Sequence[Numbers]
    odd: Ints
    state: Callable[[int, bool], Any]


def states_of(layout: ListLayout, chosen: Chosen, records: Records) -> States:
    """The states of a list of numbers.

    Args:
        layout: the list's.
        chosen: its events.
        records: its records.
    """
    if layout.kind in (COUNT, TOTAL, SPREAD):
        counts = _counts(layout, chosen, records)
        if layout.kind == COUNT:
            return States(records, (), (counts,), _none(), _single(counts))
        if layout.kind == SPREAD:
            return _spreads(layout, chosen, records, counts)
        return _totals(layout, chosen, records, counts)
    return _extremes(layout, chosen, records)


def _none() -> Ints:
    return np.zeros(0, np.int64)


def _of(numbers: Numbers, index: int, lifetime: bool) -> Any:
    return (numbers.lifetimes if lifetime else numbers.records)[index].item()


def _single(numbers: Numbers) -> Callable[[int, bool], Any]:
    return lambda index, lifetime: _of(numbers, index, lifetime)


def _upto(layout: ListLayout, chosen: Chosen, records: Records) -> Ints:
    """Where the events end that a record is of."""
    return chosen.starts[records.key + 1] if layout.shape == SUFFIXES else records.events.ends


def _counts(layout: ListLayout, chosen: Chosen, records: Records) -> Numbers:
    ends = _upto(layout, chosen, records)
    lifetimes = chosen.lifetimes.sizes if layout.lifetime else _none()
    return Numbers((ends - records.events.starts).astype(np.uint32), lifetimes.astype(np.uint32))


def _totals(layout: ListLayout, chosen: Chosen, records: Records, counts: Numbers) -> States:
    values = chosen.values
    if values.dtype.kind == "f":
        sums = _added(layout, chosen, records, values)
        return States(records, (sums,), (counts,), _none(), lambda i, life: (_of(counts, i, life), _of(sums, i, life)))
    upper, lower = (np.concatenate(([0], np.cumsum(part))) for part in (values >> _HALF, values & _LOW))

    def between(starts: Ints, ends: Ints) -> WideSums:
        low = lower[ends] - lower[starts]
        return WideSums(upper[ends] - upper[starts] + (low >> _HALF), low & _LOW)

    each = between(records.events.starts, _upto(layout, chosen, records))
    life = between(*chosen.lifetimes) if layout.lifetime else WideSums(_none(), _none())
    beyond = np.concatenate((records.key[each.beyond], chosen.some[np.flatnonzero(life.beyond)]))

    def state(index: int, lifetime: bool) -> Any:
        return _of(counts, index, lifetime), (life if lifetime else each).whole(index)

    sums = Numbers(each.narrow, life.narrow)
    return States(records, (sums,), (counts,), np.unique(beyond), state)


def _added(layout: ListLayout, chosen: Chosen, records: Records, values: NDArray[np.float64]) -> Numbers:
    each = records.events.reduced(np.add, values)
    if layout.shape == SUFFIXES:
        (each,) = suffixes(records, (each,), lambda own, behind: (own[0] + behind[0],))
    return Numbers(each, chosen.lifetimes.reduced(np.add, values) if layout.lifetime else values[:0])


def _spreads(layout: ListLayout, chosen: Chosen, records: Records, counts: Numbers) -> States:
    values = chosen.values.astype(np.float64)
    own: tuple[NDArray[Any], ...] = (records.events.sizes.astype(np.float64), *_spread(records.events, values))
    if layout.shape == SUFFIXES:
        own = suffixes(records, own, _chan)
    life = _spread(chosen.lifetimes, values) if layout.lifetime else (values[:0], values[:0])
    means, squares = (Numbers(one, other) for one, other in zip(own[1:], life, strict=True))

    def state(index: int, lifetime: bool) -> Any:
        return tuple(_of(each, index, lifetime) for each in (counts, means, squares))

    return States(records, (means, squares), (counts,), _none(), state)


def _spread(ranges: Ranges, values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and M2 of each range: by distances from its first value, so that those of equal values are 0 exactly."""
    inside, begins = ranges.taken(values)
    if not len(begins):
        return inside[:0], inside[:0]
    sizes = ranges.sizes
    first = inside[begins]
    mean = first + np.add.reduceat(inside - np.repeat(first, sizes), begins) / sizes
    distance = inside - np.repeat(mean, sizes)
    squares = np.add.reduceat(distance * distance, begins)
    return mean, squares


def _chan(own: Sequence[NDArray[Any]], behind: Sequence[NDArray[Any]]) -> tuple[NDArray[Any], ...]:
    """(number, mean, M2) of both, as `states.spread` merges them."""
    count, distance = own[0] + behind[0], behind[1] - own[1]
    mean = own[1] + distance * (behind[0] / count)
    return count, mean, own[2] + behind[2] + distance * distance * (own[0] * behind[0] / count)


def _extremes(layout: ListLayout, chosen: Chosen, records: Records) -> States:
    values = chosen.values
    function = furthest(layout, values)
    each = records.events.reduced(function, values)
    if layout.shape == SUFFIXES:
        (each,) = suffixes(records, (each,), lambda own, behind: (function(own[0], behind[0]),))
        stays = apart(records, each)
        records, each = records.kept(stays), each[stays]
    life = chosen.lifetimes.reduced(function, values) if layout.lifetime else values[:0]
    form = layout.dtype.numpy if layout.dtype is not None else None
    if form is not None:
        each, life = each.astype(form), life.astype(form)
    numbers = Numbers(each, life)
    wide = form is not None and form.itemsize == 8
    return States(records, (numbers,) if wide else (), () if wide else (numbers,), _none(), _single(numbers))


def furthest(layout: ListLayout, values: NDArray[Any]) -> np.ufunc:
    """The function that gives the lesser of two values of a list, or the greater; NaN is the greatest."""
    if layout.kind == MIN:
        return np.fmin if values.dtype.kind == "f" else np.minimum
    return np.maximum


def apart(records: Records, values: NDArray[Any]) -> Mask:
    """The records whose value is another than that of the next."""
    stays = np.ones(len(values), bool)
    same = values[1:] == values[:-1]
    if values.dtype.kind == "f":
        same |= np.isnan(values[1:]) & np.isnan(values[:-1])
    stays[:-1] = ~(same & (records.key[1:] == records.key[:-1]))
    return stays


def suffixes(
    records: Records,
    columns: Sequence[NDArray[Any]],
    merged: Callable[[Sequence[NDArray[Any]], Sequence[NDArray[Any]]], Sequence[NDArray[Any]]],
) -> tuple[NDArray[Any], ...]:
    """The state of each record merged with those of all behind it, for all keys at once from their last records on.

    Args:
        records: which there are.
        columns: the state of each alone; changed.
        merged: two states as one.
    """
    counts = records.counts
    order = np.argsort(-counts, kind="stable")
    last = records.firsts[order + 1] - 1
    # how many keys have more records than so many
    more = len(counts) - np.cumsum(np.bincount(counts))
    for behind in range(1, len(more)):
        index = last[: more[behind]] - behind
        for column, each in zip(
            columns, merged([c[index] for c in columns], [c[index + 1] for c in columns]), strict=True
        ):
            column[index] = each
    return tuple(columns)
