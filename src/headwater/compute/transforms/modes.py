"""What functions are given and return in each mode; columns are Arrow arrays on both sides."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from headwater.definitions.feature import Feature
from headwater.errors import brief, listing
from headwater.online.reading.array_rows import null_mask, numbers, python_column
from headwater.planning.cast import fit, misfits
from headwater.planning.data_kinds import is_pandas
from headwater.planning.frames import to_pandas
from headwater.planning.tables import as_table
from headwater.types import DType

Columns = Mapping[str, pa.Array]
Dtypes = Mapping[str, DType]
_NUMBERS = {name: np.dtype(name) for name in ("int32", "int64", "float32", "float64", "bool")}
_TIMES = {"timestamp": "datetime64[us]", "date": "datetime64[D]"}


class WrongResult(Exception):
    """What a function returned has not the form that its mode wants, whatever the rows are."""


class WrongValues(Exception):
    """Some values that a function returned do not fit the dtype of their feature."""


def call_numpy(
    function: Callable[..., Any], columns: Columns, dtypes: Dtypes, features: Sequence[Feature], masked: bool
) -> list[pa.Array]:
    """Call a function with NumPy arrays, of which each call has its own."""
    size = len(next(iter(columns.values())))
    given = {name: numpy_column(column, dtypes[name], masked) for name, column in columns.items()}
    # no setting of the host changes a value, or makes an error of one
    with np.errstate(all="ignore"):
        found = function(**given)
    return _from_mapping(found, features, size)


def call_arrow(
    function: Callable[..., Any], columns: Columns, dtypes: Dtypes, features: Sequence[Feature], masked: bool
) -> list[pa.Array]:
    """Call a function with Arrow arrays, which cannot be changed."""
    size = len(next(iter(columns.values())))
    found = function(**columns)
    if isinstance(found, (pa.Table, pa.RecordBatch)):
        _check_names(found.schema.names, features)
        found = dict(zip(found.schema.names, found.columns, strict=True))
    return _from_mapping(found, features, size)


def call_pandas(
    function: Callable[..., Any], columns: Columns, dtypes: Dtypes, features: Sequence[Feature], masked: bool
) -> list[pa.Array]:
    """Call a function with a pandas frame of its own; further columns of the frame that it returns are left alone."""
    frame = to_pandas(pa.table(dict(columns)), "nullable")
    index = frame.index
    with np.errstate(all="ignore"):
        found = function(frame.copy())
    if not is_pandas(found) or found.ndim != 2:
        raise WrongResult(f"it returned {_kind(found)}, not a pandas frame")
    _check_names(found.columns, features, only=False)
    if len(found) != len(index):
        raise WrongResult(f"it returned a frame of {len(found)} rows for {len(index)}")
    if not found.index.equals(index):
        raise WrongResult("it returned a frame with another index: rows must stay in order")
    table = as_table(found[[feature.name for feature in features]], "the frame")
    return [_fitted(table.column(feature.name), feature) for feature in features]


def _from_mapping(found: Any, features: Sequence[Feature], size: int) -> list[pa.Array]:
    if not isinstance(found, Mapping):
        raise WrongResult(f"it returned {_kind(found)}, not a dict of columns")
    _check_names(found, features)
    return [_numbers(found[f.name], f, size) or _fitted(_column(found[f.name], f, size), f) for f in features]


def _numbers(values: Any, feature: Feature, size: int) -> pa.Array | None:
    """Numbers of just the feature's dtype, as nearly all functions return them; None where they are not."""
    if type(values) is not np.ndarray or values.ndim != 1 or len(values) != size or not size:
        return None
    if _NUMBERS.get(feature.dtype.name) != values.dtype:
        return None
    # the function may keep its array
    return pa.array(values.copy())


def check_row(found: Any, features: Sequence[Feature]) -> None:
    """Refuse what a function returned for one row where it is not a dict of its features.

    Raises:
        WrongResult: it is not.
    """
    if not isinstance(found, Mapping):
        raise WrongResult(f"it returned {_kind(found)}, not a dict")
    _check_names(found, features)


def _check_names(found: Any, features: Sequence[Feature], *, only: bool = True) -> None:
    names = list(found)
    lacking = [feature.name for feature in features if feature.name not in names]
    if lacking:
        raise WrongResult(f"it returned no {listing(map(repr, lacking))}; it returned {listing(names) or 'nothing'}")
    extra = [name for name in names if name not in {feature.name for feature in features}] if only else []
    if extra:
        raise WrongResult(f"it returned {listing(map(brief, extra))}, which are not features of the view")
    if len(set(names)) != len(names):
        raise WrongResult("it returned two columns of one name")


def _column(values: Any, feature: Feature, size: int) -> pa.ChunkedArray | list[Any]:
    """A column that a function returned as Arrow or Python values."""
    if isinstance(values, (str, bytes)) or not hasattr(values, "__len__") or np.ndim(values) == 0:
        raise WrongResult(f"{feature.name!r} is {_kind(values)}, not an array of {size} values")
    if len(values) != size:
        raise WrongResult(f"{feature.name!r} has {len(values)} values for {size} rows")
    if isinstance(values, pa.ChunkedArray):
        return values
    if isinstance(values, pa.Array):
        return pa.chunked_array([values])
    if isinstance(values, np.ndarray):
        return _of_numpy(values)
    if is_pandas(values):
        return as_table(values.to_frame("values").reset_index(drop=True), "the column").column("values")
    return [value.item() if isinstance(value, np.generic) else value for value in values]


def _of_numpy(values: NDArray[Any]) -> pa.ChunkedArray | list[Any]:
    mask = np.ma.getmaskarray(values) if isinstance(values, np.ma.MaskedArray) else None
    plain = np.ma.getdata(values) if mask is not None else values
    if plain.ndim > 1 or plain.dtype.kind == "O":
        listed = [v.tolist() if isinstance(v, (np.ndarray, np.generic)) else v for v in plain]
        if mask is None:
            return listed
        gone: list[bool] = [bool(np.any(row)) for row in mask]
        return [None if absent else value for value, absent in zip(listed, gone, strict=True)]
    if not plain.dtype.isnative:
        plain = plain.astype(plain.dtype.newbyteorder("="))
    try:
        return pa.chunked_array([pa.array(plain, mask=mask)])
    except pa.ArrowNotImplementedError:  # complex numbers, records: values that fit nothing are said one by one
        return np.ma.MaskedArray(plain, False if mask is None else mask).tolist()


def _fitted(column: pa.ChunkedArray | list[Any], feature: Feature) -> pa.Array:
    found = fit(column, feature.dtype)
    if found.bad is not None:
        if isinstance(column, list):
            value = column[int(np.flatnonzero(found.bad)[0])]
            raise WrongValues(f"{feature.name!r}: {brief(value)} does not fit {feature.dtype}")
        raise WrongValues(f"{feature.name!r}: {misfits(column, found.bad, feature.dtype, None)}")
    return found.values if found.values.type == feature.dtype.arrow else found.values.cast(feature.dtype.arrow)


def fitted_values(values: list[Any], feature: Feature) -> tuple[pa.Array, NDArray[np.bool_] | None]:
    """Python values of a feature, and which of them do not fit it."""
    plain = [v.item() if isinstance(v, np.generic) else v.tolist() if isinstance(v, np.ndarray) else v for v in values]
    found = fit(plain, feature.dtype)
    return found.values, found.bad


def numpy_column(column: pa.Array, dtype: DType, masked: bool) -> NDArray[Any]:
    """A column as a NumPy array that nothing else has; text, bytes and arrays as Python objects.

    Args:
        column: the values.
        dtype: their dtype.
        masked: whether it is a masked array, with NULLs masked; else there are none.
    """
    mask = null_mask(column) if column.null_count else np.zeros(len(column), np.bool_) if masked else None
    if dtype.width is None:
        found = np.empty(len(column), object)
        for i, value in enumerate(python_column(column, dtype)):
            found[i] = value
    else:
        found = np.array(numbers(column, dtype))
        if dtype.name == "bool":
            found = found.astype(np.bool_)
        elif dtype.name in _TIMES:
            found = found.astype(np.int64).view(_TIMES[dtype.name])
        if mask is not None and mask.any():
            # what stands below a NULL is nobody's
            found[mask] = np.zeros((), found.dtype)
    if not masked or mask is None:
        return found
    return np.ma.MaskedArray(found, np.broadcast_to(mask[:, None], found.shape) if found.ndim == 2 else mask)


def _kind(value: Any) -> str:
    if value is None:
        return "None"
    return f"{'an' if type(value).__name__[0] in 'aeiou' else 'a'} {type(value).__name__}"
