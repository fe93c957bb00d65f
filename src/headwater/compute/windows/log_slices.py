"""What folds take of a version's log, and how much at once: bounded by the engine's memory, not by what has come."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from headwater.clock import MIN_MICROS
from headwater.compute.windows.requests import Batch, Due, DueBatches, KeysFarBehind, SliceEnds
from headwater.compute.windows.statements import ARRIVAL, CREATED, EVENT, POSITION, ByKey

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headwater.compute.windows.history import WindowHistory

_ROW = 2_048
"""Bytes of the engine's budget for each row of a slice: a statement takes some third of that."""
_LARGE = 4
"""So many slices in one transaction, or withheld events, are too much to be held at once."""
_MANY = 20_000
"""Fewer rows are folded in a second, whatever history has."""
_SOONER = 10
"""A row is folded in the time in which so many of history are read to rebuild rows, or more."""


class _Late(NamedTuple):
    """The withheld events that have become known, up to a position.

    Attributes:
        about: which: position, since, until.
        keys: whose they are.
        arrivals: of their transactions.
        rows: how many they are.
    """

    about: tuple[int, int, int]
    keys: set[bytes]
    arrivals: NDArray[np.int64]
    rows: int


class LogSlices:
    """The log of a window version as folds take it.

    Args:
        history: of the version.
        budget: bytes of events that are held in memory.
        tolerance: by how much clocks may differ, microseconds.
    """

    def __init__(self, history: WindowHistory, budget: int, tolerance: int) -> None:
        self._history = history
        self._tolerance = tolerance
        self._most = max(1, budget // _ROW)
        self._late: _Late | None = None
        self._end = 0

    def ends(self, asked: SliceEnds) -> list[int]:
        """As `SliceEnds` asks."""
        if self._rows_after(asked.after) <= self._most:
            return [asked.through]
        return ends_of(self._transactions(asked.after, asked.through), self._most, asked.through)

    def behind(self, asked: KeysFarBehind) -> set[bytes]:
        """As `KeysFarBehind` asks."""
        self._end = asked.through
        late = self._late_rows(asked.through, asked.since, asked.until)
        rows = self._rows_after(asked.after)
        if late.rows <= self._most * _LARGE and not self._is_rebuilt(asked, rows):
            return set()
        history = self._history
        given = history.events(
            asked.through, source=None, log=(asked.after, asked.through), counted=False, keys_alone=True
        )
        deleted = {key for key, _ in history.deletes(asked.after, asked.through)}
        return history.keys_in(given) | deleted | late.keys

    def _is_rebuilt(self, asked: KeysFarBehind, rows: int) -> bool:
        if not self._history.has_source and rows >= _MANY and self._history.log_rows() <= rows * _SOONER:
            return True
        most = self._most * _LARGE
        if rows <= most:
            return False
        return any(
            each.column("__rows").to_numpy().max() > most for each in self._transactions(asked.after, asked.through)
        )

    def _rows_after(self, position: int) -> int:
        return self._history.log_rows(position)

    def _transactions(self, after: int, through: int) -> Iterator[pa.RecordBatch]:
        given = self._history.events(through, source=None, log=(after, through), counted=False, transactions_alone=True)
        return (batch for batch in given if batch.num_rows)

    def due(self, asked: DueBatches) -> Mapping[bytes, Due]:
        """As `DueBatches` asks."""
        history, keys = self._history, asked.keys
        table = None if keys is None else history.key_table(sorted(keys))
        # files beyond a slice are not cut: it says itself up to where it is
        end = max(asked.through, self._end)
        given = history.events(end, keys=table, source=None, log=(asked.after, asked.through))
        due = {key: Due(batches) for key, batches in history.statements.log(given).items()}
        for key, delete in history.deletes(asked.after, asked.through, None if keys is None else set(keys)):
            due.setdefault(key, Due()).fresh.append(delete)
        for each in due.values():
            each.fresh.sort(key=lambda batch: batch.position)
        if asked.until > asked.since:
            for key, batches in self._withheld(asked).items():
                due.setdefault(key, Due()).withheld = batches
        return due

    def _withheld(self, asked: DueBatches) -> ByKey:
        """Whole batches with events that were known in the range, and were withheld before."""
        late = self._late_rows(asked.through, asked.since, asked.until)
        keys = late.keys if asked.keys is None else late.keys & asked.keys
        if not keys:
            return {}
        # a batch goes by its last row, which may have been known long since
        table = self._history.key_table(sorted(keys))
        given = self._history.events(asked.through, keys=table, source=None, log=(0, asked.through))
        whole = self._history.statements.log(_of_arrivals(batch, late.arrivals) for batch in given)

        def is_late(batch: Batch) -> bool:
            after = max(asked.since, batch.arrival + self._tolerance)
            return any(after < event.known_at <= asked.until for event in batch.events)

        return {key: mine for key, batches in whole.items() if (mine := [each for each in batches if is_late(each)])}

    def _late_rows(self, through: int, since: int, until: int) -> _Late:
        about = through, since, until
        if self._late is None or self._late.about != about:
            self._late = _Late(about, *self._found_late(through, since, until))
        return self._late

    def _found_late(self, through: int, since: int, until: int) -> tuple[set[bytes], NDArray[np.int64], int]:
        if until <= since:
            return set(), np.zeros(0, np.int64), 0
        after = None if since == MIN_MICROS else since
        known: dict[str, Any] = {"known_after": after, "known_until": until}
        given = self._history.events(through, source=None, log=(0, through), counted=False, **known)
        keys, arrivals, rows = set[bytes](), np.zeros(0, np.int64), 0
        for batch in given:
            event, created, arrival = (batch.column(name).to_numpy() for name in (EVENT, CREATED, ARRIVAL))
            mask = np.maximum(event, created) > np.maximum(arrival + self._tolerance, since)
            if mask.any():
                late = batch.filter(pa.array(mask))
                keys |= self._history.keys_in([late])
                arrivals = np.union1d(arrivals, arrival[mask])
                rows += late.num_rows
        return keys, arrivals, rows


def ends_of(transactions: Iterable[pa.RecordBatch], most: int, through: int) -> list[int]:
    """The ends of slices.

    Args:
        transactions: as of `EventsRequest.transactions_alone`.
        most: how many rows a slice has, where no transaction has more.
        through: the last end.
    """
    ends, rows, before = list[int](), 0, 0
    for batch in transactions:
        pairs = zip(batch.column(POSITION).to_pylist(), batch.column("__rows").to_pylist(), strict=True)
        for position, more in pairs:
            if rows and rows + more > most:
                ends.append(before)
                rows = 0
            rows, before = rows + more, position
    return [*(end for end in ends if end < through), through]


def _of_arrivals(batch: pa.RecordBatch, arrivals: NDArray[np.int64]) -> pa.RecordBatch:
    mask = np.isin(batch.column(ARRIVAL).to_numpy(), arrivals)
    return batch.filter(pa.array(mask))
