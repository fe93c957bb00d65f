"""The answers of parts, gathered in the spine's order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from headwater.offline.windows.columns import numbers_to_arrow
from headwater.offline.windows.kernel import NO_EVENT, PartAnswer
from headwater.planning.windows.layout import WindowFeature
from headwater.types import STATUSES, DType, Status

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

_NULL, _PRESENT, _NOT_FOUND = (STATUSES.index(status) for status in (Status.NULL, Status.PRESENT, Status.NOT_FOUND))


class Gathered:
    """What a window version says to every row of a spine.

    Args:
        size: how many rows the spine has.
        features: those that are asked for.
        folder: where what exceeds the budget is kept.
        budget: bytes that are held in memory.
    """

    def __init__(self, size: int, features: Sequence[WindowFeature], folder: Path, budget: int) -> None:
        self._size, self._features = size, features
        self._folder, self._in_memory = folder, size * sum(9 if _fixed(f) else 1 for f in features) <= budget
        self._made = 0
        self._newest = self._array(np.dtype(np.int64), NO_EVENT)
        self._status = [self._array(np.dtype(np.int8), _NOT_FOUND) for _ in features]
        self._values = [self._array(f.dtype.numpy, 0) if _fixed(f) else None for f in features]
        self._lists: list[list[pa.Array]] = [[] for _ in features]
        self._places: list[Ints] = []
        self._order: Ints | None = None
        self._joined: list[pa.ChunkedArray | None] = [None] * len(features)

    def _array(self, dtype: np.dtype[Any] | None, value: int) -> NDArray[Any]:
        assert dtype is not None
        if self._in_memory or not self._size:
            return np.full(self._size, value, dtype) if value else np.zeros(self._size, dtype)
        self._made += 1
        path = self._folder / f"{id(self)}-{self._made}.values"
        held = np.memmap(path, dtype, mode="w+", shape=self._size)
        if value:
            held[:] = value
        return held

    def put(self, rows: Ints, answer: PartAnswer) -> None:
        """Take the answer of a part.

        Args:
            rows: the numbers of its rows in the spine.
            answer: of these rows.
        """
        places = rows[answer.rows]
        # ascending places are written several times as fast as any
        order = np.argsort(places)
        places = places[order]
        self._newest[places] = answer.newest[order]
        self._places.append(places)
        for i, found in enumerate(answer.features):
            status = np.where(found.present(), np.int8(_PRESENT), np.int8(_NULL))
            if found.overflow is not None:
                status[found.overflow] = OVERFLOWN
            self._status[i][places] = status[order]
            values = self._values[i]
            if values is None:
                self._lists[i].append(found.arrow().take(pa.array(order)))
            else:
                values[places] = found.values[order]

    def columns(self, start: int, end: int) -> dict[str, pa.Array]:
        """event, and for each feature f… and its status s…, of the rows from `start` to `end`."""
        newest = np.array(self._newest[start:end])
        found = {"event": pa.array(newest, mask=newest == NO_EVENT)}
        for i, feature in enumerate(self._features):
            status = np.array(self._status[i][start:end])
            values = self._values[i]
            if values is None:
                column = self._joined_lists(i).take(pa.array(self._row_order()[start:end]))
                column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.nulls(0, feature.dtype.arrow)
            else:
                column = _shared(values[start:end], status == _PRESENT, feature.dtype)
            found[f"f{i}"], found[f"s{i}"] = column, pa.array(status)
        return found

    def _row_order(self) -> Ints:
        """For each row where its values are among those of all parts; rows of no part have NULL behind them."""
        if self._order is None:
            places = np.concatenate([*self._places, np.zeros(0, np.int64)])
            self._order = np.full(self._size, len(places), np.int64)
            self._order[places] = np.arange(len(places))
        return self._order

    def _joined_lists(self, i: int) -> pa.ChunkedArray:
        joined = self._joined[i]
        if joined is None:
            kind = self._features[i].dtype.arrow
            joined = self._joined[i] = pa.chunked_array([*self._lists[i], pa.nulls(1, kind)], kind)
            self._lists[i] = []
        return joined


OVERFLOWN = -1
"""In place of a status: NULL, by an overflow, which no default replaces."""


def _shared(values: NDArray[Any], valid: NDArray[np.bool_], dtype: DType) -> pa.Array:
    """Numbers as an Arrow array, without a copy where they are stored as Arrow has them."""
    if dtype.name == "bool":
        return numbers_to_arrow(values, ~valid, dtype)
    bits = None if valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little"))
    return pa.Array.from_buffers(dtype.arrow, len(values), [bits, pa.py_buffer(np.ascontiguousarray(values))])


def _fixed(feature: WindowFeature) -> bool:
    return feature.dtype.numpy is not None
