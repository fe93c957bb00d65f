"""The answers of parts of the keys, gathered in the spine's order: dealt by blocks of the spine's rows."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from headwater.offline.windows.dealt import Dealt
from headwater.offline.windows.held import HeldForm, StatusOf
from headwater.offline.windows.kernel import NO_EVENT, PartAnswer
from headwater.types import STATUSES, Status

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

_PRESENT, _NOT_FOUND = (STATUSES.index(status) for status in (Status.PRESENT, Status.NOT_FOUND))
_LEAST, _MOST = 65_536, 200
"""Rows of a block at least, and how many blocks there are about at most."""
_WAITING, _WAITING_SHARE = 24 << 20, 8
"""Bytes of answers that wait for more at most, and their share of the budget: few rows are dealt as slowly as many."""


class Gathered:
    """What a window version says to every row of a spine.

    Args:
        size: how many rows the spine has.
        form: how answers are held.
        rows: how many rows are asked for at once.
        folder: where what exceeds the budget is kept.
        budget: bytes that are held in memory.
    """

    def __init__(self, size: int, form: HeldForm, rows: int, folder: Path, budget: int) -> None:
        self._size, self._form, self._rows = size, form, rows
        self._block = -(-max(_LEAST, size // _MOST) // rows) * rows
        self._dealt = Dealt(form.schema, folder, budget, -(-size // self._block))
        self._waiting: list[pa.RecordBatch] = []
        self._bytes = 0
        self._most = min(_WAITING, budget // _WAITING_SHARE)

    def put(self, rows: Ints, answer: PartAnswer) -> None:
        """Take the answer of a part.

        Args:
            rows: the numbers of its rows in the spine.
            answer: of these rows.
        """
        self._waiting.append(self._form.batch(rows, answer))
        self._bytes += self._waiting[-1].nbytes
        if self._bytes > self._most:
            self._deal()

    def _deal(self) -> None:
        """Deal the answers that wait."""
        rows = pa.Table.from_batches(self._waiting, self._form.schema)
        self._waiting, self._bytes = [], 0
        places = rows.column(0).to_numpy()
        block = places // self._block
        self._dealt.add(rows.set_column(0, "place", pa.array(places - block * self._block)), block)

    def batches(self) -> Iterator[dict[str, pa.Array]]:
        """event, and for each feature f… and its status s…, of so many rows after the other; once."""
        self._deal()
        self._dealt.finish()
        for number, first in enumerate(range(0, self._size, self._block)):
            size = min(self._block, self._size - first)
            columns = self._columns(self._dealt.take(range(number, number + 1)), size)
            for start in range(0, size, self._rows):
                yield {name: values.slice(start, self._rows) for name, values in columns.items()}

    def close(self) -> None:
        """Let go of all answers."""
        self._waiting = []
        self._dealt.close()

    def _columns(self, given: pa.Table, size: int) -> dict[str, pa.Array]:
        """The columns of a block of rows."""
        places = [np.asarray(chunk) for chunk in given.column("place").chunks]
        newest = _placed(given.column("event"), places, np.full(size, NO_EVENT))
        found = {"event": pa.array(newest, mask=newest == NO_EVENT)}
        there = np.full(size, _NOT_FOUND, np.int8)
        for where in places:
            there[where] = _PRESENT
        masks: dict[Hashable, StatusOf] = {None: StatusOf(there)}
        for presence, i in self._form.kept.items():
            masks[presence] = StatusOf(_placed(given.column(f"s{i}"), places, np.full(size, _NOT_FOUND, np.int8)))
        order: Ints | None = None
        for i, feature in enumerate(self._form.features):
            status, values, form = masks[self._form.presences[i]], given.column(f"f{i}"), feature.dtype.numpy
            if form is None:
                if order is None:
                    # a row of no part has the NULL behind them all
                    order = np.full(size, len(values), np.int64)
                    order[np.concatenate([*places, np.zeros(0, np.int64)])] = np.arange(len(values))
                kind = feature.dtype.arrow
                column = pa.concat_arrays([*values.chunks, pa.nulls(1, kind)]).take(pa.array(order))
            else:
                column = status.over(_placed(values, places, np.zeros(size, form)), feature.dtype)
            found[f"f{i}"], found[f"s{i}"] = column, status.array
        return found


def _placed(given: pa.ChunkedArray, places: Sequence[Ints], found: NDArray[Any]) -> NDArray[Any]:
    """Numbers where they belong."""
    for chunk, where in zip(given.chunks, places, strict=True):
        found[where] = np.asarray(chunk)
    return found
