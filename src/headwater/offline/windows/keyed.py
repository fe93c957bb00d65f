"""(group, time) pairs as single integers in the same order, so that a plain binary search finds them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]
    Mask = NDArray[np.bool_]

_MOST, _FEW = 2**62, 4


class Keyed:
    """What makes pairs of a group and a time ascending integers.

    Args:
        groups: how many groups there are.
        times: every time that is kept; others may be asked for.
    """

    def __init__(self, groups: int, times: Ints) -> None:
        least = int(times.min()) if len(times) else 0
        greatest = int(times.max()) if len(times) else 0
        self._least, self._greatest = least, greatest
        self._ranks: Ints | None = None
        self._span = greatest - least + 2
        if groups * self._span >= _MOST:
            self._ranks = np.unique(times)
            self._span = len(self._ranks) + 1

    def kept(self, groups: Ints, times: Ints) -> Ints:
        """`of` pairs whose times are kept."""
        if self._ranks is not None:
            return self.of(groups, times)
        return self._stamps(groups, times - self._least)

    def of(self, groups: Ints, times: Ints) -> Ints:
        """The integer before which exactly the kept pairs with a lesser group, or a lesser time, have theirs."""
        if self._ranks is not None:
            return groups * self._span + np.searchsorted(self._ranks, times)
        return self._stamps(groups, np.clip(times, self._least, self._greatest + 1) - self._least)

    def after(self, groups: Ints, times: Ints) -> Ints:
        """The integer before which exactly the kept pairs up to this one have theirs."""
        if self._ranks is not None:
            return groups * self._span + np.searchsorted(self._ranks, times, side="right")
        return self._stamps(groups, np.clip(times, self._least - 1, self._greatest) + 1 - self._least)

    def _stamps(self, groups: Ints, places: Ints) -> Ints:
        stamps = groups * self._span
        stamps += places
        return stamps

    def times(self, stamps: Ints) -> Ints:
        """The times of integers that `of` gave for kept pairs."""
        places = stamps % self._span
        return places + self._least if self._ranks is None else self._ranks[places]


def ranges_of(sizes: Ints) -> tuple[Ints, Ints]:
    """The indexes of many ranges, one after the other: which range each belongs to, and where in it each is."""
    owners = np.repeat(np.arange(len(sizes)), sizes)
    starts = np.cumsum(sizes) - sizes
    return owners, np.arange(len(owners)) - starts[owners]


def sorted_by(numbers: NDArray[Any], count: int) -> Ints:
    """The order of numbers from 0 to below `count`, equal ones as they come.

    Numbers and indexes are sorted as single integers, which is faster than a stable sort.
    """
    bits = len(numbers).bit_length()
    form: Any = np.uint32 if count << bits < 2**32 else np.uint64
    stamps = numbers.astype(form)
    stamps <<= form(bits)
    stamps |= np.arange(len(numbers), dtype=form)
    stamps.sort()
    stamps &= form((1 << bits) - 1)
    order: Ints = stamps.astype(np.int64)
    return order


def in_order_by(order: Ints, stamps: Ints, *, stable: bool = False) -> Ints:
    """An order, changed so far that stamps ascend along it.

    Args:
        order: of events.
        stamps: of each event.
        stable: whether equal ones stay as they are.
    """
    along = stamps.take(order)
    falls = int(np.count_nonzero(along[1:] < along[:-1]))
    if not falls:
        return order
    # a merge sort is faster where most is in order
    merge = stable or falls * _FEW < len(along)
    return order.take(np.argsort(along, kind="stable" if merge else None))
