"""Join keys that a request names, as a table in the form of the query."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from headwater.errors import EntityKeyError
from headwater.planning.resolved import ResolvedKey
from headwater.planning.tables import match_key


def key_columns(given: pa.Table, keys: Sequence[ResolvedKey]) -> dict[str, pa.ChunkedArray]:
    """The keys as columns k0…: integers and timestamps as int64; of a global view a column of zeros.

    Args:
        given: columns named like the join keys.
        keys: of the view version.

    Raises:
        EntityKeyError: a column of another type.
    """
    columns = {}
    for i, key in enumerate(keys):
        values = match_key(given.column(key.name), key.dtype, f"key {key.name!r}", EntityKeyError)
        columns[f"k{i}"] = values.cast(pa.int64()) if key.dtype.name == "timestamp" else values
    return columns or {"k0": pa.array(np.zeros(given.num_rows, np.int64))}


def key_table(given: pa.Table, keys: Sequence[ResolvedKey]) -> pa.Table:
    """`key_columns` as a table."""
    return pa.table(key_columns(given, keys))
