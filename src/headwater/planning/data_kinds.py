"""What kind of data a user gave, without importing pandas or polars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa


def is_pandas(data: Any) -> bool:
    """Whether this is a pandas frame, without importing pandas."""
    return type(data).__module__.partition(".")[0] == "pandas" and hasattr(data, "iloc")


def is_polars(data: Any) -> bool:
    """Whether this is a polars frame or series, without importing polars.

    Its `to_arrow` serves: old ones have no Arrow stream, new ones stream categories in views that Arrow cannot decode.
    """
    return type(data).__module__.partition(".")[0] == "polars" and hasattr(data, "to_arrow")


def is_column(value: Any) -> bool:
    """Whether a value is a column of values rather than one value."""
    if isinstance(value, (str, bytes, bytearray, Mapping)) or value is None:
        return False
    return (
        isinstance(value, (Sequence, np.ndarray, pa.Array, pa.ChunkedArray))
        or is_polars(value)
        or (hasattr(value, "__array__") and getattr(value, "ndim", 0) == 1)
    )
