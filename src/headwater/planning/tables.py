"""What users hand in as rows, as Arrow tables; key columns matched to their dtypes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from headwater.errors import DataError, HeadwaterError, brief, printable
from headwater.planning.cast import fit, misfits
from headwater.planning.data_kinds import is_column, is_pandas, is_polars
from headwater.planning.python_arrays import Settle, array_of, array_of_values, in_utc, is_gap, refuse_mixed
from headwater.planning.value_checks import NOT_TEXT, WIDE_KEY, is_wide, without_nan
from headwater.types import DType, Int64, is_list, is_utf8, key_castable


def index_hint(data: Any, name: str | None) -> str:
    """What to do where a column that is missing is the index of a pandas frame; else nothing."""
    if is_pandas(data) and name is not None and name in getattr(data.index, "names", ()):
        return f"; {name!r} is the frame's index, which is left out: give frame.reset_index()"
    return ""


def as_table(data: Any, what: str, settle: Settle = in_utc) -> pa.Table:
    """An Arrow table of what the user gave; a pandas NaN becomes NULL, the pandas index is left out.

    Each time in a column is taken by its own kind, whatever the order; see `array_of_values`.

    Args:
        data: a pandas or polars frame, a pyarrow table, batch or reader, a list of dicts, or a dict of lists (scalars
            are repeated).
        what: what the data is, for errors ("spine", "rows", …).
        settle: what dates and naive times stand for in a column that also has aware times.

    Raises:
        DataError: data of another form, or columns that do not fit one type each.
    """
    if (is_pandas(data) or is_polars(data)) and not hasattr(data, "columns"):
        raise DataError(f"{what}: a single column (a {type(data).__name__}); give a frame: .to_frame()")
    try:
        if isinstance(data, pa.Table):
            return data
        if isinstance(data, pa.RecordBatch):
            return pa.Table.from_batches([data])
        if isinstance(data, pa.RecordBatchReader):
            return data.read_all()
        if is_pandas(data):
            return _table_of_pandas(data, settle)
        if is_polars(data):
            return data.to_arrow()
        if hasattr(data, "__arrow_c_stream__"):
            return pa.table(data)
        if isinstance(data, Mapping):
            return _table_of_columns(data, settle)
        if (
            isinstance(data, Sequence)
            and not isinstance(data, (str, bytes))
            and all(isinstance(row, Mapping) for row in data)
        ):
            return table_of_rows(data, settle=settle)
    except HeadwaterError:
        raise
    except Exception as bad:  # Arrow's and pandas' own errors, and what a method of somebody's object raises
        raise DataError(f"{what}: {_half_pair(data) or _mixed(data) or _said(bad)}") from bad
    raise DataError(
        f"{what}: cannot read a {type(data).__name__}; "
        "give a pandas, polars or pyarrow table, a list of dicts or a dict of lists"
    )


def loose_columns(data: Any) -> dict[str, pa.ChunkedArray | list[Any]] | None:
    """The columns of a pandas frame or a dict of lists that `as_table` refuses, those that Arrow cannot hold as lists.

    A pandas NaN becomes None. None where the data has another form, or columns of different lengths.
    """
    if is_pandas(data) and data.columns.is_unique:
        given = {str(name): data[name] for name in data.columns}
    elif isinstance(data, Mapping) and all(is_column(column) for column in data.values()):
        given = {str(name): column for name, column in data.items()}
    else:
        return None
    if len({len(column) for column in given.values()}) != 1:
        return None
    found: dict[str, pa.ChunkedArray | list[Any]] = {}
    for name, column in given.items():
        pandas = is_pandas(column)
        try:
            array = _column(column, refuse_mixed, name)
            found[name] = array if isinstance(array, pa.ChunkedArray) else pa.chunked_array([array])
        except Exception:
            values = column.tolist() if pandas else list(column)
            found[name] = [None if is_gap(value) else value for value in values] if pandas else values
    return found


def _half_pair(data: Any) -> str | None:
    """Where the first text stands that holds half of a surrogate pair, which Arrow names neither column nor row of."""
    try:
        if isinstance(data, Sequence):
            cells = ((name, i, value) for i, row in enumerate(data) for name, value in row.items())
        else:
            columns = ((name, data[name]) for name in (data.columns if is_pandas(data) else data))
            cells = ((name, i, value) for name, column in columns for i, value in enumerate(column))
        for name, i, value in cells:
            if isinstance(value, str) and not is_utf8(value):
                return f"column {brief(name)}, row {i}: {brief(value)} is {NOT_TEXT}"
    except Exception:
        return None
    return None


def _mixed(data: Any) -> str | None:
    """The first column whose values Arrow cannot hold as one type, what they are, and what to do about it."""
    try:
        if isinstance(data, Sequence):
            names = dict.fromkeys(name for row in data for name in row)
            columns = {name: [row.get(name) for row in data] for name in names}
        elif is_pandas(data) and not data.columns.is_unique:
            name = data.columns[data.columns.duplicated()][0]
            return f"two columns are named {brief(name)}; rename one"
        else:
            columns = {name: data[name] for name in (data.columns if is_pandas(data) else data)}
    except Exception:
        return None
    for name, column in columns.items():
        try:
            if is_pandas(data) or is_column(column):
                _column(column)
        except Exception as bad:
            values = column.tolist() if hasattr(column, "tolist") else list(column)
            return f"column {brief(name)} {_unlike(values) or f'cannot be read: {_said(bad)}'}"
    return None


def _unlike(values: Sequence[Any]) -> str | None:
    """Why values have no type in common; None where that is not so."""
    for row, value in enumerate(values):
        if is_wide(value):
            return (
                f"holds {brief(value)} in row {row}, an integer beyond 64 bits: make the column text "
                "(.astype('string'); a join key of such numbers is declared hw.String), or leave it out"
            )
    kinds: dict[str, int] = {}
    for row, value in enumerate(values):
        if not is_gap(value) and value is not None:
            kinds.setdefault(_KINDS.get(type(value).__name__, type(value).__name__), row)
    if len(kinds) < 2:
        return None
    (first, _), (second, row), *_ = kinds.items()
    return (
        f"holds {first} and {second} (row {row}): give it one type (.astype('string') makes text of all), "
        "or leave it out"
    )


_KINDS = {
    "bool": "booleans",
    "bool_": "booleans",
    "int": "numbers",
    "float": "numbers",
    "Decimal": "decimals",
    "str": "text",
    "bytes": "bytes",
    "dict": "dicts",
    "list": "lists",
    "tuple": "lists",
    "datetime": "times",
    "Timestamp": "times",
    "date": "dates",
    "timedelta": "durations",
}
"""Types of values as errors name them."""


def _said(bad: Exception) -> str:
    return printable(str(bad))[:400]


def table_of_rows(rows: Sequence[Mapping[str, Any]], names: Iterable[str] = (), settle: Settle = in_utc) -> pa.Table:
    """A table of dicts: every key of any row is a column (those in `names` first); a missing one is NULL."""
    columns = dict.fromkeys(names)
    for row in rows:
        columns.update(dict.fromkeys(row))
    return pa.table({name: array_of_values([row.get(name) for row in rows], settle, name) for name in columns})


def _table_of_pandas(frame: Any, settle: Settle) -> pa.Table:
    objects = [i for i, dtype in enumerate(frame.dtypes) if dtype == np.dtype(object)]
    try:
        found = pa.Table.from_pandas(frame, preserve_index=False)
        fixed = {i: _objects(frame, i, settle) for i in objects if _temporal(found.schema.field(i).type)}
    except Exception:
        found = None
        fixed = {i: _objects(frame, i, settle) for i in objects}
        if not any(_temporal(column.type) for column in fixed.values()):
            raise
    if found is None:
        others = [i for i in range(frame.shape[1]) if i not in fixed]
        rest = pa.Table.from_pandas(frame.iloc[:, others], preserve_index=False)
        columns = dict(zip(others, rest.columns, strict=True)) | fixed
        names = dict(zip(others, rest.column_names, strict=True)) | {i: str(frame.columns[i]) for i in fixed}
        found = pa.Table.from_arrays([columns[i] for i in sorted(columns)], [names[i] for i in sorted(names)])
    else:
        for i in fixed:
            found = found.set_column(i, found.schema.names[i], fixed[i])
    known = [without_nan(column) for column in found.columns]
    return pa.Table.from_arrays(known, schema=found.schema.remove_metadata())


def _objects(frame: Any, i: int, settle: Settle) -> pa.Array:
    """A column of Python objects."""
    return array_of_values(frame.iloc[:, i].tolist(), settle, str(frame.columns[i]), from_pandas=True)


def _temporal(kind: pa.DataType) -> bool:
    """Whether a type is of times, or of lists of them."""
    return bool(pa.types.is_temporal(kind) or (is_list(kind) and _temporal(kind.value_type)))


def _table_of_columns(data: Mapping[str, Any], settle: Settle) -> pa.Table:
    lengths = {len(column) for column in data.values() if is_column(column)}
    if len(lengths) > 1:
        raise ValueError(
            f"columns differ in length: {', '.join(f'{n} has {len(c)}' for n, c in data.items() if is_column(c))}"
        )
    size = lengths.pop() if lengths else 1
    return pa.table(
        {
            name: _column(column, settle, name) if is_column(column) else array_of_values([column] * size)
            for name, column in data.items()
        }
    )


def column_names(schema: pa.Schema, what: str, error: type[HeadwaterError]) -> list[str]:
    """The names of the columns.

    Raises:
        error: a name that is not valid UTF-8 (Arrow reads such unchecked).
    """
    try:
        return list(schema.names)
    except UnicodeDecodeError as bad:
        raise error(f"{what}: the name of a column, {brief(bad.object)}, is {NOT_TEXT}") from None


def _column(column: Any, settle: Settle = in_utc, name: str = "") -> pa.Array | pa.ChunkedArray:
    if isinstance(column, (pa.Array, pa.ChunkedArray)):
        return column
    if is_polars(column):
        return column.to_arrow()
    if isinstance(column, (list, tuple)) or getattr(column, "dtype", None) == np.dtype(object):
        return array_of_values(list(column), settle, name, from_pandas=is_pandas(column))
    if hasattr(column, "__arrow_c_stream__") and not is_pandas(column):
        return pa.chunked_array(column)
    return array_of(column, from_pandas=is_pandas(column))


def match_key(
    column: pa.Array | pa.ChunkedArray, dtype: DType, where: str, error: type[HeadwaterError], *, first: int = 0
) -> pa.ChunkedArray:
    """A key column as its join key's type, integers always as int64, each value by the rule of `value_rule.cast_value`.

    Args:
        column: the values.
        dtype: the join key's dtype.
        where: what the column is, for the error ("spine column 'airport'").
        error: what to raise.
        first: the number of the first row.

    Raises:
        error: a column of another type, or a value that does not fit, with its row.
    """
    chunked = pa.chunked_array([column]) if isinstance(column, pa.Array) else column
    wanted = Int64 if dtype.name == "int32" else dtype
    if chunked.type == wanted.arrow:
        return chunked
    if not key_castable(chunked.type, wanted):
        raise error(
            f"{where} is {chunked.type}; the join key is {dtype}: cast the column "
            "(headwater never casts a key silently)"
        )
    found = fit(chunked, wanted)
    if found.bad is not None:
        wide = pa.types.is_integer(chunked.type) and is_wide(chunked[int(np.flatnonzero(found.bad)[0])].as_py())
        why = WIDE_KEY if wide else f"the join key is {dtype}"
        raise error(f"{where} ({chunked.type}): {misfits(chunked, found.bad, dtype, first)}; {why}")
    return pa.chunked_array([found.values])
