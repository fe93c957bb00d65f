"""Columns of events as the kernel takes them: numbers, or the ranks of values that are not numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headwater.planning.windows.digest import digests_of_bytes, digests_of_words
from headwater.planning.windows.values import rank, stored_form, stored_values
from headwater.types import DType

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]
    Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Column:
    """The values of one column, in their stored form.

    Attributes:
        dtype: of the column.
        values: int64 or float64 in the order of the values: numbers, microseconds, days, or indexes of `dictionary`.
        valid: which are not NULL.
        dictionary: the distinct values, ascending, of a dtype that is not a number; else None.
    """

    dtype: DType
    values: NDArray[Any]
    valid: Mask
    dictionary: pa.Array | None = None

    @classmethod
    def of(cls, given: pa.Array | pa.ChunkedArray, dtype: DType) -> Column:
        """A column of the dtype's Arrow type."""
        if isinstance(given, pa.ChunkedArray):
            given = given.combine_chunks()
        valid = np.asarray(given.is_valid())
        match dtype.name:
            case "float32" | "float64":
                # −0.0 is 0.0, and there is one NaN
                doubles = np.asarray(given.cast(pa.float64()).fill_null(0.0)) + 0.0
                doubles[np.isnan(doubles)] = np.nan
                return cls(dtype, doubles, valid)
            case "bool":
                return cls(dtype, np.asarray(given.fill_null(False)).astype(np.int64), valid)
            case "date":
                return cls(dtype, np.asarray(given.cast(pa.int32()).fill_null(0)).astype(np.int64), valid)
            case "int32" | "int64" | "timestamp":
                return cls(dtype, np.asarray(given.cast(pa.int64()).fill_null(0)), valid)
            case "string" | "bytes":
                codes, dictionary = _ranked(given.cast(pa.large_binary()))
                return cls(dtype, codes, valid, dictionary.cast(dtype.arrow))
        values = [stored_form(dtype, value) for value in given.to_pylist()]
        each = sorted({value for value in values if value is not None}, key=rank)
        numbers = {rank(value): i for i, value in enumerate(each)}
        found = [0 if value is None else numbers[rank(value)] for value in values]
        return cls(dtype, np.array(found, np.int64), valid, _stored_array(each, dtype))

    def take(self, index: Ints) -> Column:
        """The values at these indexes."""
        return replace(self, values=self.values.take(index), valid=self.valid.take(index))

    @property
    def codes(self) -> Ints:
        """Integers that are equal for equal values."""
        return self.values.view(np.int64)

    def digests(self) -> NDArray[np.uint64]:
        """The digest of each value; of NULL any."""
        if self.dictionary is None:
            return digests_of_words(self.values)
        texts = self.dictionary.cast(pa.large_binary())
        if not len(texts):
            return np.zeros(len(self.values), np.uint64)
        offsets, data = texts.buffers()[1:]
        numbers = digests_of_bytes(
            np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1],
            np.frombuffer(data, np.uint8) if data is not None and data.size else np.zeros(0, np.uint8),
        )
        found: NDArray[np.uint64] = numbers[self.values]
        return found

    def stored(self, values: NDArray[Any]) -> list[Any]:
        """Values, in this column's form, as aggregates hold them (`values.stored_form`)."""
        if self.dictionary is None:
            numbers: list[Any] = values.tolist()
            return numbers
        each = self._stored
        return [each[value] for value in values.tolist()]

    @cached_property
    def _stored(self) -> list[Any]:
        assert self.dictionary is not None
        return stored_values(self.dtype, self.dictionary)

    def arrow(self, values: NDArray[Any], valid: Mask | None = None) -> pa.Array:
        """Values, in this column's form, as an Arrow array of its dtype; where they are not valid NULL."""
        missing = None if valid is None else ~valid
        if self.dictionary is None:
            return numbers_to_arrow(values, missing, self.dtype)
        if not len(self.dictionary):
            return pa.nulls(len(values), self.dtype.arrow)
        return self.dictionary.take(pa.array(values, mask=missing))


def _ranked(texts: pa.Array) -> tuple[Ints, pa.Array]:
    """The rank of each text among the distinct ones, by its bytes, and these, ascending."""
    coded = texts.dictionary_encode()
    order = np.asarray(pc.sort_indices(coded.dictionary)).astype(np.int64)
    ranks = np.zeros(max(1, len(order)), np.int64)
    ranks[order] = np.arange(len(order))
    return ranks[np.asarray(coded.indices.fill_null(0))], coded.dictionary.take(pa.array(order))


def _stored_array(values: Sequence[Any], dtype: DType) -> pa.Array:
    """Values in their stored form as an Arrow array of their dtype."""
    if dtype.name == "embedding":
        return pa.array(values, dtype.arrow)
    assert dtype.element is not None
    lengths = [len(value) for value in values]
    flat = [element for value in values for element in value]
    offsets = pa.array(np.cumsum([0, *lengths]), pa.int32())
    return pa.ListArray.from_arrays(offsets, _flat(flat, dtype.element))


def _flat(values: list[Any], dtype: DType) -> pa.Array:
    match dtype.name:
        case "bool":
            return pa.array([None if value is None else bool(value) for value in values], pa.bool_())
        case "timestamp":
            return pa.array(values, pa.int64()).cast(dtype.arrow)
        case "date":
            return pa.array(values, pa.int32()).cast(dtype.arrow)
        case "array":
            present = [value for value in values if value is not None]
            places = iter(range(len(present)))
            index = [None if value is None else next(places) for value in values]
            return _stored_array(present, dtype).take(pa.array(index, pa.int64()))
    return pa.array(values, dtype.arrow)


def numbers_to_arrow(values: NDArray[Any], missing: Mask | None, dtype: DType) -> pa.Array:
    """Numbers in their stored form as an Arrow array of a dtype."""
    if dtype.name == "bool":
        return pa.array(values != 0, mask=missing)
    if dtype.name == "date":
        return pa.array(values.astype(np.int32), mask=missing).cast(dtype.arrow)
    if dtype.name in ("int32", "float32"):
        if missing is not None:
            values = np.where(missing, 0, values)
        return pa.array(values.astype(dtype.name), dtype.arrow, mask=missing)
    return pa.array(values, dtype.arrow if dtype.name != "timestamp" else pa.int64(), mask=missing).cast(dtype.arrow)
