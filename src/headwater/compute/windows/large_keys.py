"""The events of one key of which there are too many to be held at once, in pieces of event time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from headwater.compute.windows.statements import EVENT
from headwater.offline.windows.dealt import Dealt

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

_SAMPLE = 512
"""Of so many rows of a batch one is looked at."""
_MOST_PIECES = 1_024


class LargeKey:
    """The rows of one key by event time, so that all statements of an event are in one piece.

    Args:
        rows: gives all of them, each time that it is called.
        size: how many bytes they are, about.
        piece: of how many a piece has, about, where not more are of one event time.
        folder: where files are made.
        budget: bytes that are held in memory.

    Attributes:
        first: one of the rows, for its key.
    """

    def __init__(
        self, rows: Callable[[], Iterable[pa.RecordBatch]], size: int, piece: int, folder: Path, budget: int
    ) -> None:
        count = min(_MOST_PIECES, max(1, size // max(1, piece)))
        # the last event time of each piece but the newest
        self._ends = np.unique(_quantiles(rows(), count))
        self.first: pa.Table = pa.Table.from_batches([next(iter(rows())).slice(0, 1)])
        self._dealt = Dealt(self.first.schema, folder, budget, len(self._ends) + 1)
        for batch in rows():
            self._dealt.add(batch, self._piece_of(batch.column(EVENT)))
        self._dealt.finish()

    def _piece_of(self, times: pa.Array | pa.ChunkedArray) -> Ints:
        number: Ints = np.searchsorted(self._ends, times.to_numpy()).astype(np.int64)
        return number

    def pieces(self, more: pa.Table | None = None) -> Iterator[pa.Table]:
        """The rows piece by piece, the newest first.

        Args:
            more: rows of the key that came later, of any event times.
        """
        where = None if more is None else self._piece_of(more.column(EVENT))
        for number in reversed(range(len(self._ends) + 1)):
            tables = [pa.Table.from_batches(self._dealt.batches(number), self._dealt.schema)]
            if more is not None and where is not None:
                tables.append(more.filter(pa.array(where == number)))
            rows = pa.concat_tables(tables, promote_options="default")
            if rows.num_rows:
                yield rows

    def close(self) -> None:
        """Let go of the rows."""
        for number in range(len(self._ends) + 1):
            self._dealt.drop(number)


def _quantiles(batches: Iterable[pa.RecordBatch], count: int) -> Ints:
    """Event times that divide rows into so many pieces, about."""
    sample = [np.sort(batch.column(EVENT).to_numpy())[::_SAMPLE] for batch in batches if batch.num_rows]
    times = np.sort(np.concatenate(sample))
    ends: Ints = times[np.arange(1, count) * len(times) // count]
    return ends
