"""Local times as instants in SQL: the piece of the number line that an integer is in, and what is said of each piece.

A table of equal spans gives the piece that a span begins in; the few pieces that begin within a span are counted. So
the work for a row does not grow with the number of pieces, which is several hundred for a zone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Sequence

from headwater.planning.local_time import SKIPPED, LocalTimes

_BITS = 42
"""Spans of 2^42 microseconds, 51 days: a few thousand spans, with at most a few changes of a zone in each."""
NEVER = 4 * 10**18
"""More than any number, and of whole seconds where it is one of microseconds."""


class Pieces(ABC):
    """The rule of `planning.local_time`; a dialect says how one of several constants is taken, by its position."""

    @abstractmethod
    def item(self, numbers: Sequence[int], position: str) -> str:
        """One of several integers, by its position (an expression) from 1 on; NULL for NULL."""

    @abstractmethod
    def shifted(self, number: str, bits: int) -> str:
        """A number that is not negative without its last bits."""

    def piece(self, number: str, starts: Sequence[int]) -> str:
        """Which piece (from 1 on) a number is in; NULL for NULL.

        Args:
            number: an expression that costs little: it is evaluated several times.
            starts: the number with which each piece begins; the first piece also holds all that is less.
        """
        if len(starts) == 1:
            return f"CASE WHEN {number} IS NOT NULL THEN 1 END"
        low = starts[1] - (1 << _BITS)
        spans = ((starts[-1] - low) >> _BITS) + 2
        begins = [bisect_right(starts, low + (span << _BITS)) for span in range(spans)]
        begins[0] = 1
        most = max(bisect_right(starts, low + ((span + 1) << _BITS) - 1) - begins[span] for span in range(spans))
        bounded = f"least(greatest({number}, {low}), {low + ((spans - 1) << _BITS)})"
        first = self.item(begins, f"({self.shifted(f'({bounded}) - ({low})', _BITS)}) + 1")
        padded = (*starts, *[NEVER] * most)
        items = (self.item(padded, f"{first} + {after}") for after in range(1, most + 1))
        later = "".join(f" + CAST({number} >= {item} AS BIGINT)" for item in items)
        # least and greatest pass over NULL
        return f"CASE WHEN {number} IS NOT NULL THEN {first}{later} END"

    def instant(self, local: str, zone: LocalTimes) -> str:
        """The instant of a local time, both in microseconds since 1970.

        Args:
            local: an expression that costs little: it is evaluated several times.
            zone: of the local time.
        """
        # a local time that is skipped is after the change, by the offset that held before it. Pieces of one offset are
        # one, and only its last can be skipped: fewer pieces cost less to plan
        starts: list[int] = []
        offsets: list[int] = []
        greatest: list[int] = []
        for start, offset, change, kind in zip(zone.starts, zone.offsets, zone.instants, zone.kinds, strict=True):
            if kind != SKIPPED and (not offsets or offset != offsets[-1]):
                starts.append(start)
                offsets.append(offset)
                greatest.append(NEVER)
            elif kind == SKIPPED:
                greatest[-1] = change
        piece = self.piece(local, starts)
        moved = f"least({local} - {self.item(offsets, piece)}, {self.item(greatest, piece)})"
        # least passes over NULL
        return f"CASE WHEN {local} IS NOT NULL THEN {moved} END"

    def kind(self, local: str, zone: LocalTimes) -> str:
        """Whether a local time is repeated or skipped; `local` as of `instant`."""
        return self.item(zone.kinds, self.piece(local, zone.starts))
