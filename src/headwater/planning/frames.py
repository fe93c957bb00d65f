"""Arrow tables as users look at them: pandas and polars frames, and the HTML table that notebooks show."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from headwater.errors import UsageError, needs_package

if TYPE_CHECKING:
    import pandas
    import polars


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
        raise UsageError(f"types={types!r}: it is 'nullable', 'numpy' or 'arrow'")
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
    frame: pandas.DataFrame = table.to_pandas(types_mapper=mapper)
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
    for i, named in enumerate(table.schema):
        # polars knows zones by name alone
        if pa.types.is_timestamp(named.type) and re.fullmatch(r"[+-]\d\d:\d\d", named.type.tz or ""):
            utc = table.column(i).cast(pa.timestamp(named.type.unit, "UTC"))
            table = table.set_column(i, named.name, utc)
    made = polars.from_arrow(table)
    frame = made if isinstance(made, polars.DataFrame) else made.to_frame()
    return frame if beside is None else beside.hstack(frame)


def to_html(head: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "") -> str:
    """An HTML table of plain text."""
    top = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    title = f"<caption>{html.escape(caption)}</caption>" if caption else ""
    return f"<table>{title}<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"
