"""Statistics of a column, gathered batch by batch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


class ColumnStatistics:
    """NULLs, extremes, mean and deviation of a column.

    Args:
        kind: its Arrow type.
    """

    def __init__(self, kind: pa.DataType) -> None:
        self._kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        self.rows = self.nulls = self._nan = self._count = 0
        self._mean = self._m2 = 0.0
        self._least: Any = None
        self._most: Any = None
        self._number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
        ordered = pa.types.is_temporal(self._kind) and not pa.types.is_duration(self._kind)
        self._ordered = self._number or ordered or _is_text(self._kind)

    def add(self, column: pa.Array) -> None:
        """Count a batch in."""
        self.rows += len(column)
        self.nulls += column.null_count
        if column.null_count == len(column) or not self._ordered:
            return
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        if self._number:
            self._add_numbers(column)
            return
        found = pc.min_max(column)
        self._extend(found["min"].as_py(), found["max"].as_py())

    def _add_numbers(self, column: pa.Array) -> None:
        values = column.drop_null()
        if pa.types.is_floating(values.type):
            numbers = values.to_numpy(zero_copy_only=False).astype(np.float64, copy=False)
            nan = np.isnan(numbers)
            if nan.any():
                self._nan += int(nan.sum())
                numbers = numbers[~nan]
            if not len(numbers):
                return
            self._extend(float(numbers.min()), float(numbers.max()))
        else:
            found = pc.min_max(values)
            self._extend(found["min"].as_py(), found["max"].as_py())
            numbers = (
                values.cast(pa.float64(), safe=False) if not pa.types.is_boolean(values.type) else values.cast("i1")
            )
            numbers = numbers.to_numpy(zero_copy_only=False).astype(np.float64, copy=False)
        with np.errstate(all="ignore"):
            mean = float(numbers.mean())
            m2 = float(np.square(numbers - mean).sum())
        # Chan, Golub and LeVeque: how two parts make a whole
        count, delta = self._count + len(numbers), mean - self._mean
        self._mean += delta * (len(numbers) / count)
        self._m2 += m2 + delta * delta * (self._count * len(numbers) / count)
        self._count = count

    def _extend(self, least: Any, most: Any) -> None:
        self._least = least if self._least is None else min(self._least, least)
        self._most = most if self._most is None else max(self._most, most)

    @property
    def null_rate(self) -> float:
        """The share of values that are NULL, 0 to 1."""
        return self.nulls / self.rows if self.rows else 0.0

    def summary(self) -> dict[str, Any]:
        """What there is to say of the values, as JSON has it; numbers that are not finite are left out."""
        found = {"min": _plain(self._least), "max": _plain(self._most)}
        if self._count:
            found |= {"mean": _plain(self._mean), "stddev": _plain(math.sqrt(max(self._m2, 0.0) / self._count))}
        if self._nan:
            found["nan"] = self._nan
        return {name: value for name, value in found.items() if value is not None}


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, str):
        return value if len(value) <= _LONGEST else None
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


_LONGEST = 200
"""Characters of a text that is worth a place in the manifest."""
