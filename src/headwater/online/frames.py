"""A result as a pandas frame and as the HTML table that notebooks show."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from headwater.errors import MissingExtra, UsageError
from headwater.types import Status

if TYPE_CHECKING:
    import pandas

SHOWN = 20


def to_pandas(table: pa.Table, types: str) -> pandas.DataFrame:
    """An Arrow table as a pandas frame.

    Args:
        table: the result.
        types: "nullable": Int64, boolean, string, floats as NumPy floats; "numpy": NumPy's own, NULL as NaN or None;
            "arrow": Arrow's.

    Raises:
        MissingExtra: pandas is not installed.
        UsageError: another `types`.
    """
    try:
        import pandas as pd
    except ModuleNotFoundError as missing:
        raise MissingExtra("pandas is not installed: pip install 'headwater[pandas]'") from missing
    if types == "numpy":
        return table.to_pandas()
    if types == "arrow":
        return table.to_pandas(types_mapper=pd.ArrowDtype)
    if types != "nullable":
        raise UsageError(f"types={types!r}: it is 'nullable', 'numpy' or 'arrow'")
    nullable: dict[Any, Any] = {
        pa.int32(): pd.Int32Dtype(),
        pa.int64(): pd.Int64Dtype(),
        pa.bool_(): pd.BooleanDtype(),
        pa.string(): pd.StringDtype(),
    }
    return table.to_pandas(types_mapper=nullable.get)


def to_html(columns: Mapping[str, Sequence[Any]], statuses: Mapping[str, Sequence[Status]]) -> str:
    """A table of the first rows; values that are not plainly there carry their status."""
    names = list(columns)
    rows = len(columns[names[0]]) if names else 0
    head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
    body = "".join(
        "<tr>"
        + "".join(_cell(columns[name][i], statuses[name][i] if name in statuses else None) for name in names)
        + "</tr>"
        for i in range(min(rows, SHOWN))
    )
    more = f"<p>{rows - SHOWN} more rows</p>" if rows > SHOWN else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def _cell(value: Any, status: Status | None) -> str:
    text = "" if value is None else html.escape(str(value))
    mark = "" if status in (None, Status.PRESENT, Status.NULL) else f" <small>{status}</small>"
    return f"<td>{text}{mark}</td>"
