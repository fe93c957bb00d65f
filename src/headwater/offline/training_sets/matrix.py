"""Columns of rows as one matrix of numbers, by the rules of a read's `to_numpy`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from headwater.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_WHOLE = 2**53
"""float64 holds every integer up to this one."""


class MatrixPlan:
    """Which columns of a matrix come from which columns of rows.

    Args:
        fields: names and Arrow types, in order.

    Attributes:
        width: how many columns the matrix has; an embedding spans as many as it has numbers.
        dtype: the one that loses nothing, integers beyond 2**53 aside: float32 where every column is float32, Bool or
            an embedding, else float64.

    Raises:
        UsageError: a column that is not a number.
    """

    def __init__(self, fields: Sequence[pa.Field]) -> None:
        self._places: list[tuple[str, int, int]] = []
        self.width, narrow = 0, True
        for field in fields:
            kind, span = field.type, 1
            if pa.types.is_fixed_size_list(kind):
                kind, span = kind.value_type, kind.list_size
            number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
            if not number:
                raise UsageError(f"column {field.name!r} is {field.type}, not a number: leave it out with columns=[…]")
            narrow = narrow and (pa.types.is_boolean(kind) or kind in (pa.float32(), pa.float16()))
            self._places.append((field.name, self.width, span))
            self.width += span
        self.dtype = "float32" if narrow else "float64"

    def fill(self, rows: int, batches: Iterable[pa.RecordBatch], dtype: Any, missing: float) -> NDArray[Any]:
        """The matrix.

        Args:
            rows: how many there are.
            batches: all of them.
            dtype: of the matrix; None: `dtype` of the plan.
            missing: in place of a NULL.

        Raises:
            UsageError: a value, or `missing`, that the dtype cannot hold.
        """
        try:
            out: NDArray[Any] = np.empty((rows, self.width), self.dtype if dtype is None else dtype)
            start = 0
            for batch in batches:
                end = start + batch.num_rows
                for name, place, span in self._places:
                    column = batch.column(name)
                    if dtype is None:
                        _check_whole(column, name, start)
                    out[start:end, place : place + span] = _numbers(column, span, missing)
                start = end
            return out
        except (TypeError, ValueError, OverflowError) as bad:
            if isinstance(bad, UsageError):
                raise
            raise UsageError(
                f"to_numpy(dtype={dtype!r}, missing={missing!r}): {bad}; give a dtype that holds values and `missing`"
            ) from bad


def _numbers(column: pa.Array, span: int, missing: float) -> NDArray[Any]:
    absent = column.null_count
    gone = np.asarray(column.is_null()) if absent else None
    if pa.types.is_fixed_size_list(column.type):
        values = column.values.slice(column.offset * span, len(column) * span)
        found = values.to_numpy(zero_copy_only=False).reshape(-1, span)
    elif pa.types.is_boolean(column.type):
        found = column.fill_null(False).to_numpy(zero_copy_only=False).reshape(-1, 1)
    else:
        found = column.fill_null(0).to_numpy(zero_copy_only=False).reshape(-1, 1)
    if gone is not None:
        found = np.where(gone[:, None], missing, found)
    return np.asarray(found)


def _check_whole(column: pa.Array, name: str, start: int) -> None:
    """Refuse integers that float64 does not hold."""
    if not pa.types.is_integer(column.type) or column.type.bit_width < 64:
        return
    values = column.fill_null(0).to_numpy(zero_copy_only=False)
    bad = np.flatnonzero((values > _WHOLE) | (values < -_WHOLE if column.type == pa.int64() else False))
    if len(bad):
        raise UsageError(
            f"to_numpy(): column {name!r} is {values[bad[0]]} in row {start + bad[0]}, an integer beyond 2**53, which "
            "float64 cannot hold: leave it out with columns=[…], or give a dtype"
        )
