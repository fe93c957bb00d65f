"""Answers of the kernel as Arrow: numbers in their stored form, a status of each feature that has one of its own."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from headwater.offline.windows.answers import presence_of
from headwater.offline.windows.kernel import PartAnswer
from headwater.planning.windows.columns import numbers_to_arrow
from headwater.planning.windows.layout import WindowFeature, WindowLayout
from headwater.types import STATUSES, DType, Status

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

_NULL, _PRESENT = (STATUSES.index(status) for status in (Status.NULL, Status.PRESENT))
OVERFLOWN = -1
"""In place of a status: NULL, by an overflow, which no default replaces."""


class HeldForm:
    """How answers are held.

    Args:
        layout: of the version.
        features: those that are asked for.

    Attributes:
        presences: of each feature `presence_of` it.
        kept: presence → the feature whose status is kept, of those that are equal; None has no status of its own.
        schema: of batches: place, event, f0…, and s… of the features that are kept.
    """

    def __init__(self, layout: WindowLayout, features: Sequence[WindowFeature]) -> None:
        self.features = tuple(features)
        self.presences: list[Hashable] = [presence_of(feature, layout.lists[feature.list]) for feature in features]
        # of those that are equal the first feature's status is kept
        self.kept = {presence: i for i, presence in reversed(list(enumerate(self.presences))) if presence is not None}
        values = [(f"f{i}", _held(feature.dtype)) for i, feature in enumerate(features)]
        status = [(f"s{i}", pa.int8()) for i in self.kept.values()]
        self.schema = pa.schema([("place", pa.int64()), ("event", pa.int64()), *values, *status])

    def batch(self, rows: Ints, answer: PartAnswer) -> pa.RecordBatch:
        """The answer of a part.

        Args:
            rows: the numbers of its rows in the spine.
            answer: of these rows.
        """
        values, statuses = [], {}
        for i, (found, feature) in enumerate(zip(answer.features, self.features, strict=True)):
            if self.kept.get(self.presences[i]) == i:
                status = np.where(found.present(), np.int8(_PRESENT), np.int8(_NULL))
                if found.overflow is not None:
                    status[found.overflow] = OVERFLOWN
                statuses[i] = status
            form = feature.dtype.numpy
            values.append(found.arrow() if form is None else found.values.astype(form, copy=False))
        columns = [rows[answer.rows], answer.newest, *values, *(statuses[i] for i in self.kept.values())]
        return pa.RecordBatch.from_arrays([pa.array(each) for each in columns], schema=self.schema)


class StatusOf:
    """The status of rows, with what Arrow keeps of it beside values."""

    def __init__(self, status: NDArray[np.int8]) -> None:
        self.array = pa.array(status)
        self._valid = status == _PRESENT
        self._bits = None if self._valid.all() else pa.py_buffer(np.packbits(self._valid, bitorder="little"))

    def over(self, values: NDArray[Any], dtype: DType) -> pa.Array:
        """Numbers as an Arrow array, without a copy where they are stored as Arrow has them."""
        if dtype.name == "bool":
            return numbers_to_arrow(values, ~self._valid, dtype)
        return pa.Array.from_buffers(dtype.arrow, len(values), [self._bits, pa.py_buffer(values)])


def _held(dtype: DType) -> pa.DataType:
    """As what values are held: numbers in their stored form."""
    return dtype.arrow if dtype.numpy is None else pa.from_numpy_dtype(dtype.numpy)
