"""Entities: the keys of a read or delete, in every form users hand them in, checked and laid out as columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pyarrow as pa

from headwater.clock import EPOCH, MICROSECOND, YEARS
from headwater.deferred import deferred
from headwater.errors import DataError, EntityKeyError, brief, listing, nearest
from headwater.planning.data_kinds import is_column, is_pandas, is_polars
from headwater.types import DType, Int64, is_utf8

if TYPE_CHECKING:
    from headwater.planning import python_arrays, tables, value_checks, value_rule
else:
    # not needed for keys in lists
    python_arrays = deferred("headwater.planning.python_arrays")
    tables = deferred("headwater.planning.tables")
    value_checks = deferred("headwater.planning.value_checks")
    value_rule = deferred("headwater.planning.value_rule")

_NONE = type(None)
_FINE = "finer than a microsecond"
_PLAIN = frozenset({str, int, bytes, _NONE})
_EXACT: dict[str, frozenset[type]] = {
    "int32": frozenset({int, _NONE}),
    "int64": frozenset({int, _NONE}),
    "string": frozenset({str, _NONE}),
    "bytes": frozenset({bytes, _NONE}),
    "bool": frozenset({bool, _NONE}),
    "timestamp": frozenset({_NONE}),
    "date": frozenset({date, _NONE}),
}


class EntityBatch(msgspec.Struct, eq=False):
    """Join keys as columns of Python values: int, str, bytes, bool, datetime (UTC), date, or None.

    Attributes:
        size: how many rows the answer has.
        columns: request column → its values; a repeated one holds a single value.
        repeated: the columns given as one value for all rows.
    """

    size: int
    columns: dict[str, list[Any]]
    repeated: frozenset[str] = frozenset()

    def values(self, name: str) -> list[Any]:
        """A column with one value for each row."""
        column = self.columns[name]
        return column * self.size if name in self.repeated else column


def entity_batch(entities: Any, keys: Mapping[str, DType]) -> EntityBatch:
    """The join keys of a request.

    Args:
        entities: a list of dicts; a dict of lists, in which a scalar is repeated; a pandas, polars or pyarrow table,
            whose other columns are left alone; for a single join key a list, array or series of values; None where no
            key is needed.
        keys: request column → dtype.

    Raises:
        EntityKeyError: a join key that is missing, unknown, or of another type, with the row and the nearest name.
    """
    if entities is None:
        entities = {}
    if type(entities) is list or isinstance(entities, tuple):
        if entities and type(entities[0]) not in _PLAIN and isinstance(entities[0], Mapping):
            return _from_rows(entities, keys)
        return _from_values(entities, keys)
    if type(entities) is dict or isinstance(entities, Mapping):
        if len(entities) == len(keys) == 1:
            # the usual read, on the shortest road
            ((name, values),) = entities.items()
            if type(values) is list and name in keys:
                return EntityBatch(len(values), {name: key_values(values, keys[name], name)})
        return _from_columns(entities, keys)
    if _is_table(entities):
        return _from_table(entities, keys)
    if isinstance(entities, (set, frozenset)):
        kind = type(entities).__name__
        raise EntityKeyError(f"entities: a {kind} has no order; give a list: {brief(list(entities))}")
    if isinstance(entities, (str, bytes)) or not (is_column(entities) or _is_series(entities)):
        raise EntityKeyError(f"entities: one {type(entities).__name__} alone; give a list: [{brief(entities)}]")
    return _from_values(entities, keys)


def _is_table(entities: Any) -> bool:
    if isinstance(entities, (pa.Table, pa.RecordBatch, pa.RecordBatchReader)):
        return True
    if is_pandas(entities):
        return bool(entities.ndim == 2)
    return hasattr(entities, "columns") and (is_polars(entities) or hasattr(entities, "__arrow_c_stream__"))


def _from_rows(rows: Sequence[Any], keys: Mapping[str, DType]) -> EntityBatch:
    try:
        columns = {name: [row[name] for row in rows] for name in keys}
        sizes = set(map(len, rows))
    except (KeyError, TypeError):
        sizes = set()
    if sizes != {len(keys)}:
        _refuse_rows(rows, keys)
    return EntityBatch(len(rows), {name: key_values(column, keys[name], name) for name, column in columns.items()})


def _refuse_rows(rows: Sequence[Any], keys: Mapping[str, DType]) -> None:
    for i, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise EntityKeyError(f"entities, row {i}: {brief(row)} is not a dict; {_needed(keys)}")
        _check_names(row, keys, f"entities, row {i}")


def _from_columns(entities: Mapping[str, Any], keys: Mapping[str, DType]) -> EntityBatch:
    _check_names(entities, keys, "entities")
    single = [name for name in keys if not is_column(entities[name]) and not _is_series(entities[name])]
    sizes = {name: len(entities[name]) for name in keys if name not in single}
    if len(set(sizes.values())) > 1:
        lengths = ", ".join(f"{name} has {size}" for name, size in sizes.items())
        raise EntityKeyError(f"entities differ in length: {lengths}")
    columns = {
        name: key_values([entities[name]] if name in single else entities[name], keys[name], name) for name in keys
    }
    if not sizes:
        return EntityBatch(1, columns)
    return EntityBatch(next(iter(sizes.values())), columns, frozenset(single))


def _from_values(values: Any, keys: Mapping[str, DType]) -> EntityBatch:
    if len(keys) != 1:
        if len(values) == 0:
            return EntityBatch(0, {name: [] for name in keys})
        raise EntityKeyError(f"entities: a plain list fits a single join key; {_needed(keys)}")
    ((name, dtype),) = keys.items()
    column = key_values(values, dtype, name)
    return EntityBatch(len(column), {name: column})


def _from_table(entities: Any, keys: Mapping[str, DType]) -> EntityBatch:
    try:
        table = tables.as_table(entities, "entities")
    except DataError as bad:
        raise EntityKeyError(str(bad)) from bad
    names = tables.column_names(table.schema, "entities", EntityKeyError)
    missing = [name for name in keys if name not in names]
    if missing:
        lacking, hint = ", ".join(map(repr, missing)), nearest(missing[0], names)
        index = tables.index_hint(entities, missing[0])
        raise EntityKeyError(f"entities: the table has no column {lacking}{hint}; it has {listing(names)}{index}")
    columns = {name: _arrow_values(table.column(name), dtype, name) for name, dtype in keys.items()}
    return EntityBatch(table.num_rows, columns)


def _check_names(given: Mapping[str, Any], keys: Mapping[str, DType], where: str) -> None:
    missing = [name for name in keys if name not in given]
    extra = [name for name in given if name not in keys]
    if extra:
        hint = nearest(extra[0], keys)
        raise EntityKeyError(f"{where}: {brief(extra[0])} is not a join key of this request{hint}; {_needed(keys)}")
    if missing:
        raise EntityKeyError(f"{where}: no {listing(map(repr, missing))}; {_needed(keys)}")


def _needed(keys: Mapping[str, DType]) -> str:
    names = ", ".join(f"{name} ({dtype})" for name, dtype in keys.items())
    return f"the join keys are {names}" if keys else "no join keys are needed"


def key_values(values: Any, dtype: DType, name: str) -> list[Any]:
    """A column of join keys as Python values of its dtype; None for a NULL.

    Raises:
        EntityKeyError: a value of another type, or one that does not fit, with its row: never a silent cast.
    """
    if type(values) is list:
        return values if _EXACT[dtype.name].issuperset(map(type, values)) else _normalised(values, dtype, name)
    if getattr(values, "ndim", 1) != 1:
        raise EntityKeyError(f"entities: join key {name!r} is a {type(values).__name__}; it must be one column")
    if _is_series(values):
        arrow = _arrow_column(values, is_pandas(values))
        return key_values(list(values), dtype, name) if arrow is None else _arrow_values(arrow, dtype, name)
    if isinstance(values, np.ndarray) and values.dtype.kind == "M":
        # those that Arrow does not take (units, instants too far away) are looked at one by one
        column = _arrow_column(values, False)
        return _normalised(list(values), dtype, name) if column is None else _arrow_values(column, dtype, name)
    return key_values(list(values.tolist() if isinstance(values, np.ndarray) else values), dtype, name)


_ARROW = (pa.Array, pa.ChunkedArray)


def _is_series(values: Any) -> bool:
    return isinstance(values, _ARROW) or is_pandas(values) or is_polars(values) or hasattr(values, "__arrow_c_stream__")


def _arrow_column(values: Any, pandas: bool) -> pa.Array | pa.ChunkedArray | None:
    """A column as Arrow has it; None where Arrow does not take its values."""
    if isinstance(values, _ARROW):
        return values
    if is_polars(values):
        return values.to_arrow()
    try:
        if pandas or isinstance(values, np.ndarray):
            return python_arrays.array_of(values, from_pandas=pandas)
        return pa.chunked_array(values)
    except Exception:  # Arrow's own errors, and what a method of somebody's object raises
        return None


def _arrow_values(column: Any, dtype: DType, name: str) -> list[Any]:
    where = f"entities: join key {name!r}"
    value_checks.refuse_unreadable([(name, column)], lambda _: where, EntityKeyError)
    matched = tables.match_key(column, dtype, where, EntityKeyError)
    values: list[Any] = matched.to_pylist()
    return (
        [value.astimezone(EPOCH.tzinfo) if value is not None else None for value in values]
        if dtype.name == "timestamp"
        else values
    )


def half_pair(name: str, values: Sequence[Any], where: str = "entities") -> EntityKeyError:
    """The error of text keys of which one holds half of a surrogate pair."""
    row = next((i for i, value in enumerate(values) if isinstance(value, str) and not is_utf8(value)), 0)
    return EntityKeyError(f"{where}, row {row}: join key {name!r} is {brief(values[row])}, {value_checks.NOT_TEXT}")


def refuse_wide(columns: Mapping[str, Sequence[Any]], where: str = "entities") -> None:
    """Refuse integers that no key can be.

    Raises:
        EntityKeyError: naming the row and the join key.
    """
    for name, values in columns.items():
        row = next((i for i, value in enumerate(values) if value_checks.is_wide(value)), None)
        if row is not None:
            raise EntityKeyError(
                f"{where}, row {row}: join key {name!r} is {brief(values[row])}, {value_checks.WIDE_KEY}"
            )


def key_array(values: list[Any], wanted: pa.DataType) -> pa.Array:
    """Join keys as an Arrow array; a number beyond an integer type's range, which no key can be, is NULL."""
    try:
        return pa.array(values, wanted)
    except (OverflowError, pa.ArrowInvalid):
        if not pa.types.is_integer(wanted):
            raise
        end = 1 << (wanted.bit_width - 1)
        return pa.array([v if v is not None and -end <= v < end else None for v in values], wanted)


def _normalised(values: list[Any], dtype: DType, name: str) -> list[Any]:
    normal = _NORMAL[dtype.name]
    out = []
    for i, value in enumerate(values):
        try:
            out.append(None if value is None else normal(value))
        except OverflowError:
            raise EntityKeyError(f"entities, row {i}: join key {name!r} is {brief(value)}, {YEARS}") from None
        except value_rule.Misfit as misfit:
            raise EntityKeyError(
                f"entities, row {i}: join key {name!r} is {brief(value)}, which does not fit {dtype}: {misfit}"
            ) from None
        except Exception:  # a TypeError of ours, and what a method of somebody's object raises
            raise EntityKeyError(
                f"entities, row {i}: join key {name!r} is {brief(value)} ({type(value).__name__}); the join key is "
                f"{dtype}: headwater never casts a key silently"
            ) from None
    return out


def _integer(value: Any) -> int:
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, (float, np.floating, Decimal)):
        return int(value_rule.cast_value(value, Int64))
    raise TypeError


def _text(value: Any) -> str:
    if isinstance(value, str):
        return str.__str__(value)
    raise TypeError


def _bytes(value: Any) -> bytes:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    raise TypeError


def _truth(value: Any) -> bool:
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    raise TypeError


def _instant(value: Any) -> datetime | None:
    if isinstance(value, np.datetime64):
        return _from_datetime64(value)
    if not isinstance(value, datetime):
        raise TypeError
    if value != value:  # pandas' NaT is a datetime
        return None
    if getattr(value, "nanosecond", 0):
        raise value_rule.Misfit(_FINE)
    aware = value if value.tzinfo is not None else value.replace(tzinfo=EPOCH.tzinfo)
    return EPOCH + (aware - EPOCH) // MICROSECOND * MICROSECOND


def _from_datetime64(value: np.datetime64) -> datetime | None:
    if np.isnat(value):
        return None
    found = value_checks.numpy_micros(value)
    if found is None:
        raise OverflowError
    micros, exact = found
    if not exact:
        raise value_rule.Misfit(_FINE)
    return EPOCH + micros * MICROSECOND


def _day(value: Any) -> date:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    if isinstance(value, np.datetime64) and value.dtype == np.dtype("datetime64[D]") and not np.isnat(value):
        return EPOCH.date() + (int(value.astype(np.int64)) * 86_400_000_000) * MICROSECOND
    raise TypeError


_NORMAL: dict[str, Callable[[Any], Any]] = {
    "int32": _integer,
    "int64": _integer,
    "string": _text,
    "bytes": _bytes,
    "bool": _truth,
    "timestamp": _instant,
    "date": _day,
}
