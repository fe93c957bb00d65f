"""Which stored rows a force run replaces by history's, whatever their times, and what is known of keys by numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from headwater.online.base import Change, PutOutcome, Row
from headwater.online.rows.codec import (
    ORDER,
    SEQUENCE,
    carrying,
    current,
    fresh_sequence,
    from_log,
    is_row,
    sequence_of,
    tombstone_of,
    without_tombstone,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass
class Replacements:
    """What is left to be compared and put, once rows were put under the guard.

    Attributes:
        put: how many rows the guard put in the place of others, or where there was none.
        changes: of the rest, what `compare_and_put` takes.
        lowered: of each whether the row becomes less than what was stored.
    """

    put: int = 0
    changes: list[Change] = field(default_factory=list)
    lowered: list[bool] = field(default_factory=list)


def replacing(
    pairs: Sequence[Row],
    before: Sequence[bytes | None],
    outcomes: Sequence[PutOutcome],
    sequence: Callable[[bytes], int],
    tombstone: Callable[[bytes], bytes],
) -> Replacements:
    """What is to be replaced where the guard did not put history's rows, or left another delete in the header.

    Args:
        pairs: history's rows.
        before: what was stored before they were put under the guard.
        outcomes: of that.
        sequence: of a stored key, the sequence of its row as it was read before history; 0: there was none.
        tombstone: of a stored key, P and D as the log has them, in stored form.
    """
    made = Replacements()
    for (key, new), row, outcome in zip(pairs, before, outcomes, strict=True):
        if outcome is PutOutcome.TOO_LARGE:
            continue
        deleted, old = tombstone(key), readable(row)
        applied = outcome is PutOutcome.APPLIED
        same = is_same(row, new)
        if applied:
            made.put += not same
            if deleted == (tombstone_of(old) if old is not None else b""):
                continue
        wanted = carrying(new[: SEQUENCE.start] + fresh_sequence() + new[SEQUENCE.stop :], deleted)
        # a source row that was there already was not put again
        put = applied and not (same and not from_log(new))
        made.changes.append((key, sequence_of(new) if put else sequence(key), wanted))
        made.lowered.append(old is not None and (new[ORDER] < old[ORDER] or deleted < tombstone_of(old)))
    return made


def readable(row: bytes | None) -> bytes | None:
    """A stored row in the current codec; None where there is none."""
    return current(row) if row is not None and is_row(row) else None


def is_same(row: bytes | None, new: bytes) -> bool:
    """Whether what is stored has the times and the values of another row."""
    old = readable(row)
    if old is None:
        return False
    old = without_tombstone(old)
    return old[: SEQUENCE.start] == new[: SEQUENCE.start] and old[ORDER.start :] == new[ORDER.start :]


@dataclass(frozen=True)
class Sequences:
    """The sequences of stored rows by numbers of their keys: 16 bytes a key.

    Attributes:
        numbers: of the stored keys, sorted.
        sequences: of their rows, at the same positions.
    """

    numbers: NDArray[np.int64]
    sequences: NDArray[np.int64]

    @staticmethod
    def of(numbers: Sequence[int], sequences: Sequence[int]) -> Sequences:
        """Of keys in any order."""
        given = np.array(numbers, np.int64)
        order = np.argsort(given, kind="stable")
        return Sequences(given[order], np.array(sequences, np.int64)[order])

    def of_number(self, number: int) -> int:
        """The sequence of a key's row; 0 where there was none."""
        i = int(np.searchsorted(self.numbers, number))
        return int(self.sequences[i]) if i < len(self.numbers) and self.numbers[i] == number else 0


class KeyNumbers:
    """Keys that history has, by numbers, at eight bytes each."""

    def __init__(self) -> None:
        self._parts: list[NDArray[np.int64]] = []
        self._sorted: NDArray[np.int64] | None = None

    def add(self, numbers: NDArray[np.int64]) -> None:
        """Take note of keys."""
        self._parts.append(numbers)
        self._sorted = None

    def missing(self, numbers: Sequence[int]) -> list[bool]:
        """Which of these keys history does not have."""
        if self._sorted is None:
            self._sorted = np.sort(np.concatenate(self._parts)) if self._parts else np.array([], np.int64)
        wanted = np.array(numbers, np.int64)
        places = np.searchsorted(self._sorted, wanted)
        there = places < len(self._sorted)
        there[there] = self._sorted[places[there]] == wanted[there]
        return [not one for one in there]
