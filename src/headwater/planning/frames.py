"""Arrow tables as users look at them: pandas and polars frames."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from headwater.deferred import deferred
from headwater.errors import UsageError, needs_package

zoneinfo = deferred("zoneinfo")

if TYPE_CHECKING:
    import pyarrow.compute as pc
else:
    pc = deferred("pyarrow.compute")

if TYPE_CHECKING:
    import pandas
    import polars


_FEW = 10_000


def to_pandas(table: pa.Table, types: str, beside: pandas.DataFrame | None = None) -> pandas.DataFrame:
    """An Arrow table as a pandas frame.

    Args:
        table: the columns.
        types: "nullable": Int64, boolean, string, floats as NumPy floats; "numpy": NumPy's own, NULL as NaN or None;
            "arrow": Arrow's.
        beside: a frame of as many rows whose columns and index come first, as they are.

    Raises:
        MissingExtra: pandas is not installed.
        UsageError: another `types`.
    """
    with needs_package("pandas"):
        import pandas as pd
    if types not in ("nullable", "numpy", "arrow"):
        raise UsageError(f"types={types!r}: must be 'nullable', 'numpy' or 'arrow'")
    nullable = {
        pa.int8(): pd.Int8Dtype(),
        pa.int16(): pd.Int16Dtype(),
        pa.int32(): pd.Int32Dtype(),
        pa.int64(): pd.Int64Dtype(),
        pa.uint8(): pd.UInt8Dtype(),
        pa.uint16(): pd.UInt16Dtype(),
        pa.uint32(): pd.UInt32Dtype(),
        pa.uint64(): pd.UInt64Dtype(),
        pa.bool_(): pd.BooleanDtype(),
        pa.string(): pd.StringDtype(),
        pa.large_string(): pd.StringDtype(),
    }
    mapper = {"nullable": nullable.get, "numpy": None, "arrow": pd.ArrowDtype}[types]
    table = with_zones(table)
    # threads cost more than they spare on few rows
    frame: pandas.DataFrame = table.to_pandas(types_mapper=mapper, use_threads=table.num_rows > _FEW)
    for i, column in enumerate(table.columns if types != "arrow" else ()):
        if _loses_elements(column):
            frame.isetitem(i, _arrays(column))
    if beside is None:
        return frame
    frame.index = beside.index
    return pd.concat([beside, frame], axis=1)


def to_polars(table: pa.Table, beside: polars.DataFrame | None = None) -> polars.DataFrame:
    """An Arrow table as a polars frame; `beside` as for pandas.

    Raises:
        MissingExtra: polars is not installed.
    """
    with needs_package("polars"):
        import polars
    made = polars.from_arrow(with_zones(table, offsets=False))
    frame = made if isinstance(made, polars.DataFrame) else made.to_frame()
    return frame if beside is None else beside.hstack(frame)


def with_zones(table: pa.Table, *, offsets: bool = True) -> pa.Table:
    """The table with times in UTC where their zone is one that Python does not know: the instants are the same.

    Args:
        table: as it was given.
        offsets: whether `+05:30` may stay a zone.
    """
    for i, named in enumerate(table.schema):
        if pa.types.is_timestamp(named.type) and named.type.tz and not _is_zone(named.type.tz, offsets):
            utc = table.column(i).cast(pa.timestamp(named.type.unit, "UTC"))
            table = table.set_column(i, named.name, utc)
    return table


def _is_zone(name: str, offsets: bool) -> bool:
    if re.fullmatch(r"[+-]\d\d:\d\d", name):
        return offsets
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def _loses_elements(column: pa.ChunkedArray) -> bool:
    """Whether pandas would make other values of a list's elements: numbers with NULLs floats, times naive."""
    if not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):
        return False
    element = column.type.value_type
    if pa.types.is_timestamp(element):
        return True
    return bool((pa.types.is_integer(element) or pa.types.is_boolean(element)) and pc.list_flatten(column).null_count)


def _arrays(column: pa.ChunkedArray) -> list[Any]:
    """A list column as NumPy arrays, of Python values where a NULL is among them, or times."""
    return [None if row.values is None else _array(row.values) for row in column]


def _array(values: pa.Array) -> Any:
    if not values.null_count and not pa.types.is_timestamp(values.type):
        return values.to_numpy(zero_copy_only=False)
    made = np.empty(len(values), object)
    made[:] = values.to_pylist()
    return made
