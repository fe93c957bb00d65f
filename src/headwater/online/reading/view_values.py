"""The values of one view's rows in the forms that results have, one for each row of the answer.

A value that is absent is the feature's default. Damaged rows have none, nor have rows that are not known at the instant
of the read, nor values past their SLA where the read drops these.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from headwater.online.rows.values import array_of_numbers, fixed_numbers

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headwater.online.reading.read_sla import ReadSLA
    from headwater.online.reading.view_read import AnsweredView, ReadColumn


def python_values(read: AnsweredView, sla: ReadSLA) -> list[list[Any]]:
    """The view's columns as Python values."""
    rows = read.rows
    columns = rows.columns()
    if rows.missing:
        for column, default in zip(columns, read.view.defaults, strict=True):
            for i in rows.missing:
                column[i] = default if type(default) is not list else list(default)
    if rows.damaged or rows.not_known:
        for column in columns:
            for i in (*rows.damaged, *rows.not_known):
                column[i] = None
    if sla.drop:
        for f, column in enumerate(columns):
            for i in sla.stale_places(read, f).tolist():
                column[i] = None
    if read.inverse is None:
        return columns
    return [spread(column, read.inverse) for column in columns]


def numeric_matrix(
    read: AnsweredView, features: tuple[int, ...], dtype: Any, missing: float, sla: ReadSLA
) -> NDArray[Any]:
    """Numeric features as a matrix; `missing` where there is no value."""
    rows = read.rows
    out = rows.matrix(features, dtype)
    if rows.has_nulls or rows.missing or sla.drop:
        for place, feature in enumerate(features):
            _fill(out[:, place], read, feature, missing, sla)
    return _without_unreadable(out, read, missing)


def embedding_matrix(read: AnsweredView, feature: int, dtype: Any, missing: float, sla: ReadSLA) -> NDArray[Any]:
    """An embedding as a matrix; `missing` where there is no value."""
    out = read.rows.numbers(feature).astype(dtype)
    _fill(out, read, feature, missing, sla)
    return _without_unreadable(out, read, missing)


def _fill(out: NDArray[Any], read: AnsweredView, feature: int, missing: float, sla: ReadSLA) -> None:
    """Put the default, or `missing`, where a feature has no value of its own."""
    rows = read.rows
    nulls = rows.nulls(feature)
    if nulls is not None:
        out[nulls] = missing
    if rows.missing:
        default = read.view.defaults[feature]
        out[rows.missing] = missing if default is None else default
    if sla.drop:
        out[sla.stale_places(read, feature)] = missing


def _without_unreadable(out: NDArray[Any], read: AnsweredView, missing: float) -> NDArray[Any]:
    rows = read.rows
    if rows.damaged or rows.not_known:
        out[[*rows.damaged, *rows.not_known]] = missing
    return out if read.inverse is None else out[read.inverse]


def fixed_array(read: AnsweredView, column: ReadColumn, sla: ReadSLA) -> pa.Array:
    """A column of fixed width as an Arrow array, from its numbers."""
    dtype, rows, default = column.dtype, read.rows, read.view.defaults[column.feature]
    numbers, nulls = rows.numbers(column.feature), rows.nulls(column.feature)
    if nulls is None and not (rows.gone or sla.drop):
        return array_of_numbers(numbers if read.inverse is None else numbers[read.inverse], None, dtype)
    absent = np.zeros(rows.size, np.bool_)
    if nulls is not None:
        absent |= nulls
    if rows.missing:
        absent[rows.missing] = default is None
        if default is not None:
            numbers = numbers.copy()
            numbers[rows.missing] = fixed_numbers(pa.array([default], dtype.arrow), dtype)[0]
    if sla.drop:
        absent[sla.stale_places(read, column.feature)] = True
    if rows.damaged or rows.not_known:
        absent[[*rows.damaged, *rows.not_known]] = True
    if read.inverse is not None:
        numbers, absent = numbers[read.inverse], absent[read.inverse]
    return array_of_numbers(numbers, absent, dtype)


def spread(column: Sequence[Any], inverse: list[int]) -> list[Any]:
    """A column by distinct key as one value for each row."""
    if len(inverse) < 2:
        return [column[i] for i in inverse]
    return list(itemgetter(*inverse)(column))
