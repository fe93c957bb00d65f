"""Values that a request gives to on-demand features, as columns of their dtypes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from headwater.errors import HeadwaterError, UsageError, brief, listing, nearest
from headwater.planning.cast import fit
from headwater.planning.data_kinds import is_column, is_pandas, is_polars
from headwater.planning.python_arrays import array_of
from headwater.types import DType

_PLAIN: Mapping[str, type] = {"int64": int, "float64": float, "string": str, "bool": bool}
_NUMBERS = (-(2**63), 2**63)


def check_names(given: Mapping[str, Any] | None, fields: Mapping[str, DType]) -> None:
    """Refuse fields that no feature of a request takes.

    Raises:
        UsageError: naming them.
    """
    if given is not None and not isinstance(given, Mapping):
        raise UsageError(f"request: must be a mapping such as {{'hour': 9}}, not {brief(given)}")
    unknown = [name for name in given or () if name not in fields]
    if unknown:
        known = f"; they take {listing(fields)}" if fields else "; omit request="
        raise UsageError(
            f"request: none of the requested features takes {listing(map(brief, unknown))}"
            f"{nearest(unknown[0], fields)}{known}"
        )


def check_complete(given: Iterable[str], fields: Mapping[str, DType], users: Mapping[str, str], where: str) -> None:
    """Refuse a request, or a spine, that lacks a field.

    Args:
        given: the fields that are there.
        fields: those that are needed.
        users: field → the on-demand view that needs it.
        where: what lacks them.

    Raises:
        UsageError: naming what is missing.
    """
    there = set(given)
    lacking = [name for name in fields if name not in there]
    if lacking:
        needed = ", ".join(f"{name!r} ({fields[name]}), which {users[name]!r} needs" for name in lacking)
        raise UsageError(f"{where}: no {needed}")


def request_columns(given: Mapping[str, Any], fields: Mapping[str, DType], size: int) -> dict[str, pa.Array]:
    """The values of a request, one for each row; a scalar is repeated.

    Raises:
        UsageError: a value that does not fit its field, or another number of values.
    """
    return {name: _column(given[name], name, dtype, size) for name, dtype in fields.items()}


def _column(value: Any, name: str, dtype: DType, size: int) -> pa.Array:
    kind = type(value)
    if kind is _PLAIN.get(dtype.name) and (kind is not int or _NUMBERS[0] <= value < _NUMBERS[1]):
        return pa.array([value] * size, dtype.arrow)
    if not is_values(value, dtype, size):
        one = _fitted([value], name, dtype)
        return pa.concat_arrays([one] * size) if 0 < size < 2 else one.take(pa.array(np.zeros(size, np.int64)))
    if len(value) != size:
        entities = f"{size} entit{'y' if size == 1 else 'ies'}"
        raise UsageError(f"request: {name!r} has {len(value)} values for {entities}; give one, or one for each")
    return _fitted(value, name, dtype)


def is_values(value: Any, dtype: DType, size: int) -> bool:
    """Whether a value is one for each row, rather than one for all.

    Of an array or embedding a list is one for each row where it has as many items as there are rows, and each of them
    may be a value.

    Args:
        value: as it was given.
        dtype: of its field.
        size: how many rows there are.
    """
    if isinstance(value, (pa.Array, pa.ChunkedArray)) or is_pandas(value) or is_polars(value):
        return True
    if not is_column(value):
        return False
    if dtype.name not in ("array", "embedding"):
        return True
    return len(value) == size and all(_may_be(item, dtype) for item in value)


def _may_be(item: Any, dtype: DType) -> bool:
    """Whether something may be a value of an array or embedding, by its nesting."""
    if item is None:
        return True
    if not is_column(item):
        return False
    element = dtype.element
    if element is None or element.name not in ("array", "embedding"):
        return not any(is_column(inner) for inner in item)
    return all(_may_be(inner, element) for inner in item)


def _fitted(values: Any, name: str, dtype: DType) -> pa.Array:
    return column_of(values, dtype, f"request: {name!r}")


def column_of(values: Any, dtype: DType, what: str, first: int = 0) -> pa.Array:
    """Given values as a column of a dtype.

    Args:
        values: a list, an array or a series.
        dtype: what they shall be.
        what: what they are, for errors.
        first: the number of the first row.

    Raises:
        UsageError: one of them does not fit.
    """
    try:
        found = fit(_arrow_or_list(values), dtype)
    except HeadwaterError:
        raise
    except Exception as bad:  # Arrow's own errors, and what a method of somebody's object raises
        raise UsageError(f"{what} cannot be read as {dtype}: {bad}") from bad
    if found.bad is not None:
        row = int(np.flatnonzero(found.bad)[0])
        value = values[row] if isinstance(values, list) else _arrow_or_list(values)[row]
        shown = value.as_py() if isinstance(value, pa.Scalar) else value
        raise UsageError(f"{what}, row {first + row}: {brief(shown)} does not fit {dtype}")
    return found.values if found.values.type == dtype.arrow else found.values.cast(dtype.arrow)


def _arrow_or_list(values: Any) -> Any:
    if isinstance(values, pa.ChunkedArray):
        return values
    if isinstance(values, pa.Array):
        return pa.chunked_array([values])
    if is_polars(values):
        return pa.chunked_array([values.to_arrow()])
    if is_pandas(values) or (isinstance(values, np.ndarray) and values.dtype.kind != "O"):
        found = array_of(values, from_pandas=is_pandas(values))
        return found if isinstance(found, pa.ChunkedArray) else pa.chunked_array([found])
    return [v.item() if isinstance(v, np.generic) and v.dtype.kind != "M" else v for v in values]
