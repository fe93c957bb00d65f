"""A suffix list of least or greatest values: few records, in Python's lists."""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any

from headwater.online.rows.windows.passed import doubtful
from headwater.planning.windows.kinds import MIN
from headwater.planning.windows.layout import ListLayout
from headwater.planning.windows.values import Entry

LIFETIME_FLAG = 8
_HEAD = struct.Struct("<BBHI")


class ExtremeColumns:
    """A list of least or greatest values: few records, in Python's lists, the lifetime last.

    Args:
        layout: the list's.
        step: what boundaries are multiples of.
        first: the first boundary.
        steps: each one's distance.
        values: of each state.
        lifetime: whether there is one.
    """

    __slots__ = ("first", "layout", "lifetime", "step", "steps", "values")

    def __init__(
        self, layout: ListLayout, step: int, first: int, steps: list[int], values: list[Any], lifetime: bool
    ) -> None:
        self.layout, self.step, self.first = layout, step, first
        self.steps, self.values, self.lifetime = steps, values, lifetime

    @classmethod
    def opened(cls, layout: ListLayout, step: int, data: bytes) -> ExtremeColumns:
        """A list that `stored_numbers` has looked at."""
        flags, _, count, _ = _HEAD.unpack_from(data)
        total = count + bool(flags)
        code, wide = _code(layout)
        found = _extremes_form(code, wide, count, total).unpack_from(data)
        at = 5 if count else 4
        if wide:
            values, steps = found[at : at + total], found[at + total :]
        else:
            steps, values = found[at : at + count], found[at + count :]
        return cls(layout, step, found[4] if count else 0, list(steps), list(values), bool(flags))

    def packed(self) -> bytes:
        """The list as it is stored."""
        steps, values, count = self.steps, self.values, len(self.steps)
        form = _extremes_form(*_code(self.layout), count, len(values))
        head = (LIFETIME_FLAG if self.lifetime else 0, 0, count, 0, *([self.first] if count else ()))
        wide = _code(self.layout)[1]
        data = form.pack(*head, *values, *steps) if wide else form.pack(*head, *steps, *values)
        return data + bytes(-len(data) % 8)

    def added(self, entry: Entry, boundary: int) -> ExtremeColumns | None:
        """The list with one event more; None where it is to be added to the decoded list."""
        layout, count, value = self.layout, len(self.steps), entry.value
        if layout.lifetime and not self.lifetime:
            return None
        further = _further_of(layout.kind)
        values, steps, first = self.values.copy(), self.steps, self.first
        if self.lifetime and further(value, values[-1]):
            values[-1] = value
        if not layout.bounded:
            return ExtremeColumns(layout, self.step, first, steps, values, self.lifetime)
        target = (boundary - first) // self.step if count else 0
        if target < 0:
            first, steps, target = boundary, [each - target for each in steps], 0
        if count >= 0xFFFF or max(target, steps[-1] if count else 0) > 0xFFFFFFFF:
            return None
        place = bisect_left(steps, target)
        there = place < count and steps[place] == target
        for i in range(place + there - 1, -1, -1):
            # those before hold what those behind hold too
            if not further(value, values[i]):
                break
            values[i] = value
        if not there:
            following = values[place] if place < count else value
            steps = steps.copy()
            steps.insert(place, target)
            values.insert(place, value if further(value, following) else following)
            first = first if count else boundary
        return ExtremeColumns(layout, self.step, first, steps, values, self.lifetime)

    def pruned(
        self, starts: Sequence[tuple[int, int]], edges: Iterable[int], inserted: Sequence[int]
    ) -> ExtremeColumns:
        """The list without the records that no window can select any more, and those that equal the next."""
        steps, values = self.steps, self.values
        if not steps:
            return self
        gone = doubtful(self.first, self.step, steps, starts, edges, inserted)
        if not gone and not _repeats(values, len(steps)):
            return self
        apart: list[int] = []
        for i in range(len(steps) - 1, -1, -1):
            if i in gone:
                continue
            value, following = values[i], values[apart[-1]] if apart else None
            if not apart or not (value == following or (value != value and following != following)):
                apart.append(i)
        apart.reverse()
        first = self.first + steps[apart[0]] * self.step if apart else self.first
        base = steps[apart[0]] if apart else 0
        rest = values[len(steps) :]
        return ExtremeColumns(
            self.layout,
            self.step,
            first,
            [steps[i] - base for i in apart],
            [values[i] for i in apart] + rest,
            self.lifetime,
        )


def _repeats(values: Sequence[Any], count: int) -> bool:
    """Whether a value equals the next."""
    before = None
    for value in values[:count]:
        if value == before or (value != value and before != before):
            return True
        before = value
    return False


# NaN is the greatest
def _less(value: Any, other: Any) -> bool:
    return bool(value < other) or (other != other and value == value)


def _greater(value: Any, other: Any) -> bool:
    return bool(value > other) or (value != value and other == other)


def _further_of(kind: str) -> Callable[[Any, Any], bool]:
    return _less if kind == MIN else _greater


_CODES = {"<i4": "i", "<i8": "q", "<f4": "f", "<f8": "d", "|u1": "B"}


@lru_cache(maxsize=256)
def _code(layout: ListLayout) -> tuple[str, bool]:
    """How a value is packed, and whether it has 8 bytes."""
    assert layout.dtype is not None and layout.dtype.numpy is not None
    form = layout.dtype.numpy
    return _CODES[form.str], form.itemsize == 8


@lru_cache(maxsize=4_096)
def _extremes_form(code: str, wide: bool, count: int, total: int) -> struct.Struct:
    values, steps = f"{total}{code}", f"{count}I"
    return struct.Struct(f"<BBHI{'q' if count else ''}{values + steps if wide else steps + values}")
