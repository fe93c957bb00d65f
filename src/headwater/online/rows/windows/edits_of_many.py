"""The lists of many rows laid end to end, changed where they stand; bytes that come or go between them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

_PADDING = bytes(8)


class Edits:
    """What becomes of rows.

    Args:
        rows: the bytes that have the lists of each row.
        starts: where the first list of each begins in them; all at multiples of 8.
        ends: (lists, rows): where each list ends, from there on.

    Attributes:
        data: the rows as they were, one after another; padding behind each.
        begins: (lists, rows): where each list begins in it.
        sizes: (lists, rows): bytes of each list, as edits make them.
        bytes, words, quads, doubles: a copy of `data` that is changed, as numbers of one, 4 and 8 bytes.
    """

    def __init__(self, rows: Sequence[bytes], starts: Ints, ends: Ints) -> None:
        whole = np.fromiter(map(len, rows), np.int64, len(rows))
        # the key of a row with a long one is no multiple of 8: each begins at one
        padding = -whole & 7
        if padding.any():
            rows = [row + _PADDING[:more] for row, more in zip(rows, padding.tolist(), strict=True)]
            whole += padding
        # something between any two, so that the end of one is not the beginning of the next
        self.data = _PADDING.join((*rows, b""))
        whole += len(_PADDING)
        first = np.cumsum(whole) - whole + starts
        self.begins = first + np.concatenate((np.zeros((1, len(rows)), np.int64), ends[:-1]))
        self.sizes = np.ascontiguousarray(np.diff(ends, axis=0, prepend=0))
        self._first, self._last = first, first + ends[-1]
        self.bytes = np.frombuffer(bytearray(self.data), np.uint8)
        self.words, self.quads = self.bytes.view(np.uint32), self.bytes.view(np.int64)
        self._edits: list[tuple[Ints, Ints, Ints, Ints]] = []
        self._replaced: list[tuple[Ints, Ints, Ints, Ints]] = []
        self._new: list[NDArray[Any]] = []
        self._behind = len(self.data)

    def insert(self, at: Ints, items: NDArray[Any]) -> None:
        """Put a number of 4 or 8 bytes at each of some positions."""
        starts = self._taken(items) + items.itemsize * np.arange(len(items))
        self._edits.append((at, 0 * at, starts, starts + items.itemsize))

    def cut(self, at: Ints, size: int) -> None:
        """Leave 4 or 8 bytes out at each of some positions."""
        self._edits.append((at, 0 * at + size, 0 * at, 0 * at))

    def replace(self, which: Ints, data: NDArray[np.uint8], sizes: Ints) -> None:
        """Have other bytes in place of some lists.

        Args:
            which: of the lists of the first index of all rows, those of the second behind them, and so on.
            data: the bytes of each, one after another.
            sizes: how many each has, a multiple of 8.
        """
        stops = self._taken(data) + sizes.cumsum()
        self._replaced.append((self.begins.ravel()[which], self.sizes.ravel()[which], stops - sizes, stops))
        self.sizes.ravel()[which] = sizes

    def _taken(self, data: NDArray[Any]) -> int:
        """Where new bytes begin behind the rows."""
        start = self._behind
        self._new.append(data.view(np.uint32))
        self._behind += data.nbytes
        return start

    def made(self) -> list[bytes]:
        """The lists of each row, one after another."""
        rows = len(self._last)
        ends = self._last, *(np.zeros(rows, np.int64) for _ in range(3))
        edits = zip(*self._edits, *self._replaced, ends, strict=True)
        at, cut, starts, stops = (np.concatenate(each) for each in edits)
        # of one position the end of a list comes first, then the next in place of which there is another, then the
        # end of the row
        order = at.argsort(kind="stable")
        at, cut, starts, stops = at[order], cut[order], starts[order], stops[order]
        closing = np.flatnonzero(order >= len(order) - rows)
        before = np.roll(at + cut, 1)
        before[np.concatenate(([0], closing[:-1] + 1))] = self._first
        # what stays up to each edit, and what it puts
        pieces = np.empty((len(at), 2), np.int64)
        pieces[:, 0], pieces[:, 1] = before, starts
        sizes = np.empty((len(at), 2), np.int64)
        sizes[:, 0], sizes[:, 1] = at - before, stops - starts
        sizes >>= 2
        upto = sizes.cumsum()
        source = np.repeat((pieces.ravel() >> 2) - (upto - sizes.ravel()), sizes.ravel())
        source += np.arange(len(source))
        data = np.concatenate((self.words, *self._new))[source].tobytes()
        limits = [0, *(upto[2 * closing + 1] << 2).tolist()]
        return [data[i:j] for i, j in pairwise(limits)]
