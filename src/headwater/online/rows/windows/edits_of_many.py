"""The lists of many rows laid end to end, changed where they stand; bytes that come or go between them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, pairwise
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
        self.sizes = np.diff(ends, axis=0, prepend=0)
        self._first, self._last = first, first + ends[-1]
        self.bytes = np.frombuffer(bytearray(self.data), np.uint8)
        self.words, self.quads = self.bytes.view(np.uint32), self.bytes.view(np.int64)
        self._edits: list[list[tuple[Ints, Ints, Ints, Ints]]] = [[] for _ in ends]
        self._new: list[NDArray[Any]] = []
        self._behind = len(self.data)

    def numbers(self, form: np.dtype[Any]) -> NDArray[Any]:
        """The changed bytes as numbers."""
        return self.bytes.view(form)

    def insert(self, index: int, at: Ints, items: NDArray[Any]) -> None:
        """Put a number at each of some positions in lists of an index."""
        size = items.itemsize
        starts = self._behind + size * np.arange(len(items))
        self._take(items)
        self._edits[index].append((at, np.zeros(len(at), np.int64), starts, starts + size))

    def cut(self, index: int, at: Ints, size: int) -> None:
        """Leave some bytes out at each of some positions in lists of an index."""
        nothing = np.zeros(len(at), np.int64)
        self._edits[index].append((at, np.full(len(at), size), nothing, nothing))

    def replace(self, index: int, rows: Ints, data: NDArray[Any], sizes: Ints) -> None:
        """Have other bytes in place of a list of some rows.

        Args:
            index: of the list.
            rows: which, ascending.
            data: the bytes of each, one after another.
            sizes: how many each has.
        """
        stops = self._behind + np.cumsum(sizes)
        self._take(data)
        at, before = self.begins[index][rows], self.sizes[index][rows]
        self._edits[index].append((at, before, stops - sizes, stops))
        self.sizes[index][rows] = sizes

    def _take(self, data: NDArray[Any]) -> None:
        self._new.append(data)
        self._behind += data.nbytes

    def made(self) -> list[bytes]:
        """The lists of each row, one after another."""
        ends = self._last, *(np.zeros(len(self._last), np.int64) for _ in range(3))
        at, cut, starts, stops = map(np.concatenate, zip(*chain(*self._edits), ends, strict=True))
        # edits of one position come in the order of lists, and the end of a row behind them
        order = np.argsort(at, kind="stable")
        at, cut, starts, stops = at[order], cut[order], starts[order], stops[order]
        closing = np.flatnonzero(order >= len(order) - len(self._last))
        before = np.roll(at + cut, 1)
        before[np.concatenate(([0], closing[:-1] + 1))] = self._first
        begin, end = np.stack((before, starts), 1).ravel(), np.stack((at, stops), 1).ravel()
        some = begin < end
        upto = np.concatenate(([0], np.cumsum(some)[2 * closing + 1])).tolist()
        data = b"".join([each.data for each in (self.bytes, *self._new)])
        pieces = [data[i:j] for i, j in zip(begin[some].tolist(), end[some].tolist(), strict=True)]
        return [b"".join(pieces[i:j]) for i, j in pairwise(upto)]
